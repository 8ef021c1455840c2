"""Every class's probability at the cursor, for the Labels layers that a model made."""

import weakref
from dataclasses import dataclass

import numpy as np

from ..layers import layer_kind, plain
from ._annotations import status_text


@dataclass(frozen=True)
class Kept:
    """The probabilities behind a Labels layer: names, and arrays in the order in which the layer shows its voxels."""

    names: tuple[str, ...]
    arrays: tuple[np.ndarray, ...]


_kept: "weakref.WeakKeyDictionary" = weakref.WeakKeyDictionary()
_watched: "weakref.WeakSet" = weakref.WeakSet()


def keep(layer, kept: Kept) -> None:
    """Note the probabilities behind a Labels layer; they live as long as it does."""
    _kept[plain(layer)] = kept


def probabilities_at(layer, position) -> list[tuple[str, float]]:
    """Return (name, probability) of every class at a point of napari's world, the likeliest first; empty outside."""
    kept = _kept.get(plain(layer))
    if kept is None:
        return []
    index = np.rint(np.asarray(plain(layer).world_to_data(np.asarray(position, dtype=float)))).astype(int)
    shape = kept.arrays[0].shape
    index = index[-len(shape) :]
    if len(index) < len(shape) or (index < 0).any() or (index >= shape).any():
        return []
    found = [(name, float(array[tuple(index)])) for name, array in zip(kept.names, kept.arrays, strict=True)]
    return sorted(found, key=lambda pair: -pair[1])


def text_at(viewer) -> str:
    """Return the probabilities under the cursor of the topmost visible prediction, or an empty text."""
    viewer = plain(viewer)
    position = viewer.cursor.position
    if viewer.dims.ndisplay != 2 or len(position) != viewer.dims.ndim:
        return ""
    layers = [one for one in reversed(viewer.layers) if layer_kind(one) == "labels" and one.visible and one in _kept]
    active = viewer.layers.selection.active
    for layer in sorted(layers, key=lambda one: one is not active):
        found = probabilities_at(layer, position)
        if found:
            told = [f"{name} {p:.2f}" for name, p in found]
            return "p: " + ", ".join(told)
    return ""


def watch(viewer) -> None:
    """Add the probabilities to the status bar of a viewer; a second call changes nothing."""
    viewer = plain(viewer)
    if viewer in _watched:
        return
    _watched.add(viewer)
    reference = weakref.ref(viewer)

    def on_status(event) -> None:
        one = reference()
        if one is None or not one.mouse_over_canvas:
            return
        text = text_at(one)
        value = event.value
        if not text:
            return
        if isinstance(value, dict):
            # napari's own status: layer, coordinates and source apart.
            if text not in value.get("coordinates", ""):
                one.status = {**value, "coordinates": f"{value.get('coordinates', '')}    {text}"}
        elif value == status_text(one):
            one.status = f"{value}    {text}"

    viewer.events.status.connect(on_status, position="last")
