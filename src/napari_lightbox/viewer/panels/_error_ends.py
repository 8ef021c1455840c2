"""How the Errors dock comes and goes: its keys, its jobs and what it has changed about layers."""

import weakref

from ..runner import Job

NEXT_KEY, PREVIOUS_KEY = "N", "Shift-N"
# Share of their opacity that outlines keep.
_FAINT = 0.6


def stop(jobs: dict[str, Job]) -> None:
    """Drop all jobs."""
    while jobs:
        jobs.popitem()[1].discard()


def outline(layers, outlined: list[tuple]) -> None:
    """Draw layers as faint lines, so that their colours are not taken for errors; note how they were."""
    for layer in layers:
        if layer.contour == 0:
            outlined.append((weakref.ref(layer), layer.opacity))
            layer.contour, layer.opacity = 1, _FAINT * layer.opacity


def fill(outlined: list[tuple]) -> None:
    """Draw layers as areas again that were drawn as outlines here; what the user has changed since stays."""
    while outlined:
        reference, opacity = outlined.pop()
        layer = reference()
        if layer is None:
            continue
        if layer.contour == 1:
            layer.contour = 0
        if abs(layer.opacity - _FAINT * opacity) < 1e-6:
            layer.opacity = opacity


def bind_keys(viewer, panel: weakref.ref) -> dict:
    """Bind the keys of the next and the previous error; return what they did before."""

    def following(viewer) -> None:
        """Fly to the next error."""
        if panel() is not None:
            panel().step(1)

    def preceding(viewer) -> None:
        """Fly to the previous error."""
        if panel() is not None:
            panel().step(-1)

    bound = {}
    for key, function in ((NEXT_KEY, following), (PREVIOUS_KEY, preceding)):
        bound[key] = (function, viewer.bind_key(key, function, overwrite=True))
    return bound


def shut(viewer: weakref.ref, room: dict, gone: bool) -> None:
    """Release everything that the dock holds; a second call changes nothing."""
    room["runner"].discard()
    stop(room["jobs"])
    for links in room["links"]:
        links.clear()
    if not gone:
        fill(room["outlined"])
    keys, room["keys"] = room["keys"], {}
    main = viewer()
    for key, (function, before) in keys.items():
        # Bound anew by another dock meanwhile: leave that.
        if main is not None and function in main.keymap.values():
            main.bind_key(key, before, overwrite=True)
