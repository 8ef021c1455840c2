"""Layers that were made in the background come on screen: one after the other, and where they belong."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
from napari.layers import Layer
from qtpy.QtCore import QTimer

from ..geometry import Grid
from .layers import KEY, LayerTuple, layer_kind, layer_record, plain, shown_grid
from .runner import is_open, main_window

# Milliseconds between two layers: time for what was clicked and typed meanwhile.
_PAUSE = 10


def add_in_turn(viewer, layers: Sequence[Layer], on_done: Callable[[list[Layer]], None]) -> None:
    """Add layers to a viewer, one at a time: drawing all of them at once would hold the window up.

    Parameters
    ----------
    viewer : napari.Viewer
        If it is closed meanwhile, nothing more is added and `on_done` is not called.
    layers : sequence of Layer
        Made already, in the background if that takes long; the first comes lowest.
    on_done : callable
        Gets the layers when all are in the viewer; at once if there are none.
    """
    _add_next(plain(viewer), list(layers), [], on_done)


def _add_next(viewer, waiting: list[Layer], added: list[Layer], on_done: Callable[[list[Layer]], None]) -> None:
    if not is_open(viewer):
        return
    if not waiting:
        _select(viewer, added)
        on_done(added)
        return
    added.append(insert(viewer, waiting.pop(0)))
    QTimer.singleShot(_PAUSE, partial(_add_next, viewer, waiting, added, on_done))


def insert(viewer, layer: Layer, index: int | None = None) -> Layer:
    """Add a layer and leave the selection as it is.

    Selecting, which exchanges the controls of the layer list, and drawing take a quarter each of the time that adding
    takes: the window should see to what was clicked meanwhile in between.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the layer goes.
    layer : Layer
        Not yet in any viewer.
    index : int, optional
        Its place in the layer list, 0 for the lowest; on top where not given.
    """
    layers = plain(viewer).layers
    # napari has no public switch for this; where it is gone, the layer is selected at once.
    activates = getattr(layers, "_activate_on_insert", None)
    layers._activate_on_insert = False
    _draw_later(viewer)
    try:
        layers.insert(len(layers) if index is None else index, layer)
    finally:
        layers._activate_on_insert = True if activates is None else activates
    return layer


def add_then_select(viewer, layer: Layer) -> Layer:
    """Add a layer on top at once, and select it a moment later."""
    insert(viewer, layer)
    QTimer.singleShot(_PAUSE, partial(_select, plain(viewer), [layer]))
    return layer


def _draw_later(viewer) -> None:
    """Let the canvas wait for the next round of events; Qt draws it as soon as it may."""
    window = main_window(viewer)
    canvas = None if window is None else window.centralWidget()
    if canvas is not None and canvas.updatesEnabled():
        canvas.setUpdatesEnabled(False)
        QTimer.singleShot(_PAUSE, partial(_draw_now, canvas))


def _draw_now(canvas) -> None:
    # Qt has deleted it where the window was closed meanwhile.
    with suppress(RuntimeError):
        canvas.setUpdatesEnabled(True)


def _select(viewer, layers: list[Layer]) -> None:
    if layers and is_open(viewer) and layers[-1] in viewer.layers:
        viewer.layers.selection.active = layers[-1]


# Other grids ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shown:
    """A volume on screen: its true grid in the order displayed, and its box in napari's world."""

    name: str
    kind: str
    grid: Grid
    low: np.ndarray
    high: np.ndarray

    def overlaps(self, other: "_Shown") -> bool:
        return bool((self.low <= other.high).all() and (other.low <= self.high).all())


def place(viewer, made: Iterable[Layer | LayerTuple]) -> list[str]:
    """Hide what would lie over a volume of another grid, and say how it differs from what is shown.

    A layer on the grid of a volume that is visible stays as it is; so does one that is hidden anyway. One on another
    grid is hidden if it would overlap anything visible, since voxels that do not fit are easily misread.

    Parameters
    ----------
    viewer : napari.Viewer or None
        Where the layers will be added.
    made : iterable of Layer or (data, dict, str)
        New layers, bottom first; ``visible`` may be changed.

    Returns
    -------
    list of str
        One sentence for each layer on another grid, with what to do.
    """
    told: list[str] = []
    present = _visible(viewer)
    for one in made:
        new = _shown_of(one)
        if new is None or not (one.visible if isinstance(one, Layer) else one[1].get("visible", True)):
            continue
        if present and not any(new.grid.same_space(other.grid) for other in present):
            against = next((other for other in present if other.overlaps(new)), None)
            told.append(_sentence(new, against or present[0], hidden=against is not None))
            if against is not None:
                _hide(one)
                continue
        present.append(new)
    return told


def show_alone(viewer, layer: Layer) -> str | None:
    """Hide every volume that a new layer would lie over on another grid: the layer is what was asked for.

    Parameters
    ----------
    viewer : napari.Viewer
        Holds the layer already.
    layer : Layer
        The result of an operation.

    Returns
    -------
    str or None
        One sentence that says what is hidden and how to see both; None where nothing had to be hidden.
    """
    new = _shown_of(layer)
    if new is None:
        return None
    hidden = []
    for other in plain(viewer).layers:
        if other is layer or not other.visible or layer_kind(other) not in ("image", "labels"):
            continue
        shown = _shown_of(other)
        if shown is not None and not shown.grid.same_space(new.grid) and shown.overlaps(new):
            other.visible = False
            hidden.append(shown)
    if not hidden:
        return None
    names = ", ".join(other.name for other in hidden)
    return (
        f"{new.name} lies on another grid than {hidden[-1].name} ({hidden[-1].grid.difference(new.grid)}) and is shown "
        f"alone: to see {names} with it, click the eye in the layer list"
    )


def _visible(viewer) -> list[_Shown]:
    """Return what is visible and ours: the active layer first, then images before labels, the topmost first."""
    viewer = plain(viewer)
    if viewer is None:
        return []
    layers = [layer for layer in reversed(viewer.layers) if layer.visible and layer_kind(layer) in ("image", "labels")]
    active = viewer.layers.selection.active
    layers.sort(key=lambda layer: (layer is not active, layer_kind(layer) != "image"))
    return [shown for shown in map(_shown_of, layers) if shown is not None]


def _shown_of(one: Layer | LayerTuple) -> _Shown | None:
    if isinstance(one, Layer):
        record = layer_record(one)
        if record is None:
            return None
        low, high = np.asarray(one.extent.world)[:, -3:]
        return _Shown(one.name, layer_kind(one), shown_grid(one), low, high)
    _, kwargs, kind = one
    record = kwargs["metadata"][KEY]
    grid = record["grid"].reordered(record["order"], record["flips"])
    low = np.asarray(record["translate"])
    high = low + (np.array(grid.spatial_shape) - 1) * record["scale"]
    return _Shown(kwargs["name"], kind, grid, low, high)


def _hide(one: Layer | LayerTuple) -> None:
    if isinstance(one, Layer):
        one.visible = False
    else:
        one[1]["visible"] = False


def _sentence(new: _Shown, other: _Shown, hidden: bool) -> str:
    text = f"{new.name} lies on another grid than {other.name} ({new.grid.difference(other.grid)})"
    if not hidden:
        return f"{text} and beside it: neither covers the other"
    return f"{text} and is hidden: click its eye in the layer list to see it, or bring it onto that grid with Resample"
