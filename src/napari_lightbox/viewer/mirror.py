"""A second viewer model that shows the layers of the first: same voxels, same looks, painted in either.

The layers of the second model are twins: they share the array with their original and, for labels, the list of what
can be undone. What is changed by hand in a twin (window, brush, voxels, points) goes to the original, whose events
tell every other mirror; all else goes one way. A mirror knows nothing of canvases.
"""

import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import numpy as np
from napari.layers import Image, Labels, Layer, Points
from qtpy.QtCore import QTimer

from .layers import plain

# Milliseconds between two redraws of twins while somebody paints.
_REDRAW = 40
_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units")
_ALL = ("name", "opacity", "blending", "projection_mode", *_PLACE)
_IMAGE = ("contrast_limits_range", "contrast_limits", "gamma", "colormap", "interpolation2d")
_LABELS = (
    "colormap", "contour", "show_selected_label", "selected_label", "n_edit_dimensions", "contiguous",
    "preserve_labels", "brush_size", "editable", "mode", "features",
)  # fmt: skip
_POINTS = (
    "size", "symbol", "face_color", "border_color", "current_size", "current_face_color", "current_border_color",
    "mode",
)  # fmt: skip
# Attributes whose values can be compared.
_PLAIN = ("mode", "contrast_limits", "contrast_limits_range", "gamma", "selected_label", "brush_size", "editable")
# What a hand on the second canvas changes.
_BACK = {Image: ("contrast_limits",), Labels: ("selected_label", "brush_size"), Points: ()}


class Mirror:
    """Keeps the layers of a viewer model the same as those of a viewer.

    Parameters
    ----------
    source : napari.Viewer or ViewerModel
        Its layers are the originals; not a proxy.
    target : ViewerModel
        Its layers are replaced.
    shown : callable, optional
        Whether the twin of an original is visible; where the original is, if not given. `refresh_shown` asks again.
    taken : callable, optional
        Whether an original has a twin at all; every one, if not given.
    """

    def __init__(
        self,
        source,
        target,
        shown: Callable[[Layer], bool] | None = None,
        taken: Callable[[Layer], bool] | None = None,
    ) -> None:
        self._source, self._target = weakref.ref(source), target
        self._shown = shown or (lambda layer: layer.visible)
        self._taken = taken or (lambda layer: True)
        self._pairs: dict[Layer, Layer] = {}
        self._links: list[tuple] = []
        self._layer_links: dict[Layer, list[tuple]] = {}
        # Originals that are being brought up to date: what their twins emit meanwhile is no news.
        self._busy: set[tuple] = set()
        self._undo: dict[Layer, tuple[int, int]] = {}
        self._stale: set[Layer] = set()
        self._timer = QTimer(singleShot=True, interval=_REDRAW)
        self._timer.timeout.connect(partial(_redraw, weakref.ref(self)))
        events = source.layers.events
        self._link(self._links, events.inserted, self._on_inserted)
        self._link(self._links, events.removed, self._on_removed)
        self._link(self._links, events.reordered, self._on_reordered)
        self._link(self._links, source.layers.selection.events.active, self._on_active)
        for layer in source.layers:
            self._add(layer)
        self._on_active()

    # Layers -----------------------------------------------------------------------------------------------------

    @property
    def target(self):
        """The model that mirrors."""
        return self._target

    def twin(self, layer) -> Layer | None:
        """Return the twin of an original, or None."""
        return self._pairs.get(plain(layer))

    def original(self, twin) -> Layer | None:
        """Return the original of a twin, or None."""
        return next((layer for layer, one in self._pairs.items() if one is twin), None)

    def close(self) -> None:
        """End all connections and give up all layers."""
        # At the end of the application Qt may have deleted it before.
        with suppress(RuntimeError):
            self._timer.stop()
        for link in [*self._links, *(link for links in self._layer_links.values() for link in links)]:
            link[0].disconnect(link[1])
        self._links.clear()
        self._layer_links.clear()
        self._pairs.clear()
        self._stale.clear()

    def _link(self, links: list, event, callback: Callable) -> None:
        # After napari's own: what they do to the layer is done by then.
        event.connect(callback, position="last")
        links.append((event, callback))

    def _on_inserted(self, event) -> None:
        source = self._source()
        if source is not None:
            self._add(event.value)
            self._on_active()

    def _on_removed(self, event) -> None:
        for emitter, callback in self._layer_links.pop(event.value, ()):
            emitter.disconnect(callback)
        twin = self._pairs.pop(event.value, None)
        self._stale.discard(event.value)
        self._undo.pop(event.value, None)
        if twin is not None and twin in self._target.layers:
            self._target.layers.remove(twin)
        self._on_active()

    def _on_reordered(self, event=None) -> None:
        source, layers = self._source(), self._target.layers
        if source is None:
            return
        twins = [self._pairs[layer] for layer in source.layers if layer in self._pairs]
        for place, twin in enumerate(twins):
            if layers.index(twin) != place:
                layers.move(layers.index(twin), place)

    def _on_active(self, event=None) -> None:
        source = self._source()
        if source is None:
            return
        twin = self._pairs.get(source.layers.selection.active)
        if self._target.layers.selection.active is not twin:
            self._target.layers.selection.active = twin

    def _add(self, layer: Layer) -> None:
        source = self._source()
        if source is None or not self._taken(layer):
            return
        twin = make_twin(layer)
        twin.visible = self._shown(layer)
        links = self._layer_links[layer] = []
        self._pairs[layer] = twin
        for name in (*_ALL, *_own(layer)):
            self._link(links, getattr(layer.events, name), partial(self._on_attribute, name, layer))
        self._link(links, layer.events.visible, self.refresh_shown)
        self._link(links, layer.events.data, partial(self._on_data, layer))
        for kind, names in _BACK.items():
            for name in names if isinstance(layer, kind) else ():
                self._link(links, getattr(twin.events, name), partial(self._on_twin_attribute, name, layer))
        if isinstance(layer, Labels):
            self._undo[layer] = _undo_state(layer)
            for event in (layer.events.labels_update, layer.events.paint):
                self._link(links, event, partial(self._on_painted, layer))
            self._link(links, layer.events.set_data, partial(self._on_set_data, layer))
            self._link(links, twin.events.labels_update, partial(self._on_twin_update, layer))
            self._link(links, twin.events.paint, partial(self._on_twin_painted, layer))
        elif isinstance(layer, Points):
            self._link(links, twin.events.data, partial(self._on_twin_points, layer))
        below = source.layers[: source.layers.index(layer)]
        self._target.layers.insert(sum(one in self._pairs for one in below), twin)

    # Looks ------------------------------------------------------------------------------------------------------

    def refresh_shown(self, event=None) -> None:
        """Ask again which twins are visible."""
        for layer, twin in self._pairs.items():
            visible = self._shown(layer)
            if twin.visible != visible:
                twin.visible = visible

    def _on_attribute(self, name: str, layer: Layer, event=None) -> None:
        twin = self._pairs.get(layer)
        if twin is None or (name, layer) in self._busy:
            return
        self._busy.add((name, layer))
        try:
            copy_attribute(layer, twin, name)
            if name == "editable":
                # napari begins a new list of what can be undone where a layer is locked.
                share_history(layer, twin)
        finally:
            self._busy.discard((name, layer))

    def _on_twin_attribute(self, name: str, layer: Layer, event=None) -> None:
        twin = self._pairs.get(layer)
        if twin is None or (name, layer) in self._busy:
            return
        self._busy.add((name, layer))
        try:
            copy_attribute(twin, layer, name)
        finally:
            self._busy.discard((name, layer))

    # Data -------------------------------------------------------------------------------------------------------

    def _on_data(self, layer: Layer, event=None) -> None:
        twin = self._pairs.get(layer)
        if twin is None or ("data", layer) in self._busy:
            return
        if isinstance(layer, (Image, Labels)) and twin.ndim == layer.ndim:
            if twin.data is not layer.data:
                twin.data = layer.data
            share_history(layer, twin)
            return
        if isinstance(layer, Points) and twin.ndim == layer.ndim:
            self._copy_points(layer, twin, layer)
            return
        self._replace(layer)

    def _replace(self, layer: Layer) -> None:
        """Make a new twin: other types of layers have too much that depends on their data."""
        source = self._source()
        if source is None:
            return
        self._on_removed(_Removed(layer))
        self._add(layer)
        self._on_active()

    def _copy_points(self, giver: Layer, taker: Layer, layer: Layer) -> None:
        if np.array_equal(giver.data, taker.data):
            return
        self._busy.add(("data", layer))
        try:
            taker.data = np.array(giver.data)
            for name in ("size", "symbol", "face_color", "border_color"):
                setattr(taker, name, getattr(giver, name))
        finally:
            self._busy.discard(("data", layer))

    def _on_twin_points(self, layer: Layer, event=None) -> None:
        twin = self._pairs.get(layer)
        # napari says what it is about to do before it does it.
        if twin is None or ("data", layer) in self._busy or str(getattr(event, "action", "")).endswith("ing"):
            return
        self._copy_points(twin, layer, layer)
        self._tell_other_mirrors(layer)

    def _tell_other_mirrors(self, layer: Layer) -> None:
        layer.events.data(value=layer.data)

    # Painting ---------------------------------------------------------------------------------------------------

    def _on_painted(self, layer: Layer, event=None) -> None:
        """The original was painted: draw the twin again, soon."""
        self._undo[layer] = _undo_state(layer)
        if ("paint", layer) not in self._busy:
            self._draw_later(layer)

    def _on_set_data(self, layer: Layer, event=None) -> None:
        # Undo and redo say no more than this, and every move to another slice says the same.
        if _undo_state(layer) != self._undo.get(layer):
            self._undo[layer] = _undo_state(layer)
            self._draw_later(layer)

    def _draw_later(self, layer: Layer) -> None:
        self._stale.add(layer)
        if not self._timer.isActive():
            self._timer.start()

    def redraw(self) -> None:
        """Draw the twins whose voxels have changed."""
        stale, self._stale = self._stale, set()
        for layer in stale:
            twin = self._pairs.get(layer)
            if twin is not None:
                twin.refresh(thumbnail=False, highlight=False, extent=False)

    def _on_twin_update(self, layer: Layer, event=None) -> None:
        """The twin is being painted: the original and all other twins are drawn again, soon."""
        source = self._source()
        if source is not None and self._pairs.get(layer) is not None:
            drawing(source).changed(layer, self)

    def _on_twin_painted(self, layer: Layer, event) -> None:
        """A stroke in the twin has ended: what it changed can be undone in the original."""
        twin = self._pairs.get(layer)
        if twin is None:
            return
        if twin._undo_history is not layer._undo_history:
            # The original has begun a new list meanwhile.
            layer._redo_history.clear()
            layer._undo_history.append(event.value)
            share_history(layer, twin)
        self._busy.add(("paint", layer))
        try:
            layer.events.paint(value=event.value)
        finally:
            self._busy.discard(("paint", layer))
        self._on_twin_update(layer)


class _Removed:
    """What `Mirror._on_removed` needs of an event."""

    def __init__(self, value) -> None:
        self.value = value


class Drawing:
    """Draws again, in all mirrors of a viewer and in itself, labels that are painted in one of the mirrors."""

    def __init__(self, source) -> None:
        self._source = weakref.ref(source)
        self._mirrors: weakref.WeakSet[Mirror] = weakref.WeakSet()
        self._stale: set[Layer] = set()
        self._timer = QTimer(singleShot=True, interval=_REDRAW)
        self._timer.timeout.connect(partial(_redraw, weakref.ref(self)))

    def add(self, mirror: Mirror) -> None:
        """Take part in what is painted elsewhere."""
        self._mirrors.add(mirror)

    def changed(self, layer: Layer, by: Mirror) -> None:
        """Note that voxels were painted through a mirror, which has drawn them itself."""
        for mirror in self._mirrors:
            if mirror is not by and mirror.twin(layer) is not None:
                mirror._draw_later(layer)
        self._stale.add(layer)
        if not self._timer.isActive():
            self._timer.start()

    def redraw(self) -> None:
        """Draw the originals whose voxels have changed."""
        stale, self._stale = self._stale, set()
        source = self._source()
        for layer in stale:
            if source is not None and layer in source.layers:
                layer.refresh(thumbnail=False, highlight=False, extent=False)


def _redraw(reference: weakref.ref) -> None:
    one = reference()
    if one is not None:
        one.redraw()


_drawings: "weakref.WeakKeyDictionary" = weakref.WeakKeyDictionary()


def drawing(source) -> Drawing:
    """Return what keeps all mirrors of a viewer together."""
    if source not in _drawings:
        _drawings[source] = Drawing(source)
    return _drawings[source]


def mirror(source, target, shown: Callable | None = None, taken: Callable | None = None) -> Mirror:
    """Show the layers of a viewer in a second model; see `Mirror`."""
    source = plain(source)
    made = Mirror(source, target, shown, taken)
    drawing(source).add(made)
    return made


# One pair -------------------------------------------------------------------------------------------------------


def make_twin(layer: Layer) -> Layer:
    """Make a layer that looks like another and shares its voxels and, for labels, what can be undone."""
    data, arguments, kind = layer.as_layer_data_tuple()
    if isinstance(layer, Points) and not len(layer.data):
        # The colours of no points are no colours: napari would take white for the next one.
        arguments = {name: value for name, value in arguments.items() if name not in ("face_color", "border_color")}
    twin = Layer.create(data, arguments, kind)
    for name in _own(layer):
        copy_attribute(layer, twin, name)
    share_history(layer, twin)
    return twin


def share_history(layer: Layer, twin: Layer) -> None:
    """Let strokes in either of two Labels layers over one array be undone, and redone, in their order."""
    if isinstance(layer, Labels):
        twin._undo_history, twin._redo_history = layer._undo_history, layer._redo_history


def copy_attribute(giver: Layer, taker: Layer, name: str) -> None:
    """Give a layer the same value of an attribute; one that is equal already emits nothing."""
    value, mine = getattr(giver, name), getattr(taker, name)
    if name in ("face_color", "border_color") and not len(value):
        return
    if name == "mode":
        value, mine = str(value), str(mine)
    elif name in ("contrast_limits", "contrast_limits_range"):
        value, mine = tuple(value), tuple(mine)
    if name in _PLAIN and value == mine:
        return
    # napari takes no 0-d array for the size of the next point, though it gives one.
    setattr(taker, name, float(value) if name == "current_size" else value)


def _own(layer: Layer) -> tuple[str, ...]:
    for kind, names in ((Labels, _LABELS), (Image, _IMAGE), (Points, _POINTS)):
        if isinstance(layer, kind):
            return names
    return ()


def _undo_state(layer: Layer) -> tuple[int, int]:
    """Return how many steps could be undone and redone."""
    return len(layer._undo_history), len(layer._redo_history)
