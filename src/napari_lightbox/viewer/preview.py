"""Live preview: the visible slice as the operation of a dock would make it, computed anew with every change.

The slice is computed in the background, from as little of the volume as decides it, and shown in a temporary layer
(see `overlay`). Changes that come fast are taken together; what has been overtaken is cancelled and never shown.
"""

import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QCheckBox, QDockWidget, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from .. import remarks
from ..catalogue import Operation
from ..errors import InputError, LightboxError
from ..preview import Known, Where, reach, slice_of
from ..volume import Volume
from .layers import layer_record, plain, volume_to_layer
from .offers import settings
from .overlay import Overlay, marked
from .panels._links import Links
from .runner import Runner, main_window

# Milliseconds between two starts, and those a slice may take before a change cancels it.
PERIOD, _PATIENCE = 60, 150
# Voxels up to which all of a volume is computed, unasked, for the sake of a slice of another plane.
_LITTLE = 1 << 25
_NEEDS = {
    "statistics": "Looks through the whole volume once; then every slice is previewed from what was found.",
    "volume": "Needs the whole volume: all of it is computed first, then any slice is shown at once.",
}
_TEXTS = {"statistics": "Preview (looks through the volume once)", "volume": "Preview (needs the whole volume)"}
# A programmed session (tests, a script that takes pictures) switches previews off.
enabled = True
_active: "weakref.WeakKeyDictionary" = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Captured:
    """What a dock works on at one moment.

    The layer and its volume, all parameters, the plane, the look that the result takes over, and all layers that are
    worked on, the first of them the source.
    """

    source: Layer
    volume: Volume
    values: Mapping[str, Any]
    plane: str | int | None
    looks: Mapping[str, Any]
    layers: tuple[Layer, ...]


class Preview(QWidget):
    """The preview's row in a dock: a check box, and one line for what it needs or what went wrong.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the preview is shown.
    row : Operation
        The operation of the dock.
    capture : callable
        Gives a `Captured`, or raises a `LightboxError` with the sentence to show; asks the user nothing.
    dock : QWidget
        The dock: where it is hidden or closed, there is no preview.
    chosen : callable
        Gives the layers that are chosen in the dock, whether or not they will do.
    """

    def __init__(
        self,
        viewer,
        row: Operation,
        capture: Callable[[], Captured],
        dock: QWidget,
        chosen: Callable[[], tuple[Layer, ...]],
    ) -> None:
        super().__init__(dock)
        self._viewer, self._row, self._capture, self._chosen = plain(viewer), row, capture, chosen
        self._reach = reach(row.name)
        self._build()
        self.overlay = Overlay(viewer)
        self._runner = Runner(self._viewer)
        self._known = Known()
        self._edits: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self._undo: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self._inputs: tuple[Layer, ...] = ()
        self._docked = False
        self.message = ""
        self._started = 0.0
        self._wanted = False
        # What is being looked through, with the frame, where it is not a slice alone.
        self._whole: tuple[Captured, int] | None = None
        # Why nothing is computed: the dock is hidden, or what was asked for has been applied.
        self._hidden = self._rests = False
        self._timer, self._patience, self._deleted = QTimer(self), QTimer(self), QTimer(self)
        actions = (self._start, self._give_up, self._on_deleted)
        for timer, action in zip((self._timer, self._patience, self._deleted), actions, strict=True):
            timer.setSingleShot(True)
            timer.timeout.connect(action)
        self._links, self._layer_links = Links(self), Links(self)
        dims, layers = self._viewer.dims.events, self._viewer.layers.events
        for event in (dims.point, dims.order, dims.ndisplay):
            self._links.add(event, self._on_slice)
        self._links.add(layers.removed, self._on_removed)
        dock.installEventFilter(self)
        overlay, runner = self.overlay, self._runner
        dock.destroyed.connect(lambda *_: (runner.discard(), overlay.remove()))
        self.request()

    def _build(self) -> None:
        self.box = QCheckBox(_TEXTS.get(self._reach, "Preview"), self)
        needs = _NEEDS.get(self._reach, "Computed from the slice and its neighbours.")
        self.box.setToolTip(
            f"<qt>Show what Apply would make of the slice on screen, in a temporary layer. {needs}</qt>"
        )
        stored = settings().value(f"preview/{self._row.name}", None)
        self.box.setChecked(self._reach != "volume" if stored is None else str(stored) == "true")
        self.box.clicked.connect(self._on_clicked)
        self.box.toggled.connect(lambda _: self._on_toggled())
        self.label = QLabel("", self)
        self.label.setWordWrap(True)
        self.label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        line = QHBoxLayout()
        line.addWidget(self.box)
        line.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(line)
        column.addWidget(self.label)
        self.label.hide()

    # What happens around -----------------------------------------------------------------------------------------

    @property
    def wanted(self) -> bool:
        """Whether a preview is to be seen: the box is ticked and the dock is open."""
        if not enabled or not self.box.isChecked() or self._hidden:
            return False
        window = main_window(self._viewer)
        # A dock behind another one was never shown, and so never hidden; or it was moved out of the window.
        return (self.isVisible() and not self._covered()) or window is None or not window.isVisible()

    def _covered(self) -> bool:
        """Whether the dock lies behind another one: Qt then keeps it where nothing is seen."""
        widget = self.parent()
        while widget is not None and not isinstance(widget, QDockWidget):
            widget = widget.parent()
        return widget is not None and widget.visibleRegion().isEmpty()

    def request(self, *_) -> None:
        """Compute the preview anew: a parameter, a layer or a voxel has changed."""
        self._rests = False
        self._later()

    def rest(self) -> None:
        """Take the preview off the screen until something changes: its result is being made."""
        self._rests = True
        self._stop()

    def _on_slice(self, event=None) -> None:
        if not self._rests:
            self._later(patient=self._serves())

    def _serves(self) -> bool:
        """Whether what is being found out about a whole frame serves the slice on screen too."""
        if self._whole is None:
            return False
        captured, frame = self._whole
        try:
            return visible_slice(self._viewer, captured.source, captured.volume).frame == frame
        except LightboxError:
            return False

    def _on_clicked(self, checked: bool) -> None:
        settings().setValue(f"preview/{self._row.name}", "true" if checked else "false")

    def _on_toggled(self) -> None:
        if self.box.isChecked():
            self.request()
        else:
            self._stop()

    def _on_removed(self, event) -> None:
        if event.value is self.overlay.layer:
            self._stop()
            # All layers may be on their way out: look again when they are gone.
            self._deleted.start(0)
        elif event.value in self._inputs:
            self._stop()
            self._known = Known()
            self.request()

    def _on_deleted(self) -> None:
        """Untick the box where the preview alone was deleted: the user is done with it."""
        if any(layer in self._viewer.layers for layer in self._inputs):
            self.box.setChecked(False)

    def eventFilter(self, watched, event) -> bool:  # noqa: N802 - Qt's name
        kind = event.type()
        if kind == QEvent.Type.Hide and not event.spontaneous():
            self._hidden = True
            self._stop()
        elif kind == QEvent.Type.Show and not event.spontaneous():
            self._hidden = False
            # A moment later, when what is in the dock is on screen too.
            self._timer.start(0)
        elif kind == QEvent.Type.ParentChange and watched.parent() is not None:
            self._docked = True
        elif kind == QEvent.Type.ParentChange and self._docked:
            # The dock was closed: napari keeps the widget.
            self._hidden = True
            self._stop()
        return False

    def _stop(self) -> None:
        self._timer.stop()
        self._wanted = False
        self._runner.cancel()
        self.overlay.remove()
        self._say("")

    # Computing --------------------------------------------------------------------------------------------------

    def _later(self, patient: bool = False) -> None:
        if not self.wanted or self._rests:
            return
        if self._runner.running:
            self._wanted = True
            if not patient and not self._patience.isActive():
                self._patience.start(_PATIENCE)
        elif not self._timer.isActive():
            self._timer.start(max(0, round(PERIOD - 1000 * (time.monotonic() - self._started))))

    def _give_up(self) -> None:
        if self._wanted:
            self._runner.cancel()

    def _start(self) -> None:
        if not self.wanted or self._rests or self._runner.running:
            return
        self._wanted, self._started = False, time.monotonic()
        try:
            captured = self._capture()
            where = visible_slice(self._viewer, captured.source, captured.volume)
            needs = self._check(captured, where)
        except LightboxError as error:
            # What is missing may come: the first seed, for one.
            self._follow(self._chosen())
            self._failed(str(error))
            return
        if (other := _other(self._viewer, self)) is not None:
            other.rest()
        _active[self._viewer] = weakref.ref(self)
        self._follow(captured.layers)
        key = self._key(captured)
        if needs in ("slice", "slab") or self._known.key != key:
            self._known = Known(key)
        known, row, create = self._known, self._row, self.overlay.layer is None
        whole = needs in ("statistics", "volume") and where.frame not in known.frames
        self._whole = (captured, where.frame) if whole else None

        def work():
            with remarks.collecting() as heard:
                part = slice_of(row.name, captured.volume, where, plane=captured.plane, known=known, **captured.values)
            made = marked(volume_to_layer(part, **captured.looks), row.title)
            return (Layer.create(*made) if create else made), heard.notes

        self._runner.run(
            work,
            title=f"Preview of {row.title}",
            on_done=lambda result: self._show(captured, where, *result),
            on_error=self._failed,
            on_progress=lambda text, fraction: self._progress(needs, fraction),
            on_end=self._ended,
        )

    def _check(self, captured: Captured, where: Where) -> str:
        """Return how much of the volume the slice needs; refuse what was not asked for and would take long."""
        needs = reach(self._row.name, captured.volume, where.axis, captured.plane, captured.values)
        if needs == "volume" and self._reach != "volume" and np.prod(captured.volume.grid.spatial_shape) > _LITTLE:
            plane = captured.plane if isinstance(captured.plane, str) else "axial"
            raise InputError(
                f"No preview of this slice: {self._row.title} works on {plane} slices, so show the {plane} plane, or "
                "press Apply"
            )
        return needs

    def _follow(self, layers: tuple[Layer, ...]) -> None:
        """Listen to the layers that are worked on: painting, clicking seeds, and other voxels change the preview."""
        if layers == self._inputs:
            return
        self._inputs = layers
        self._layer_links.clear()
        for layer in layers:
            for name in ("data", "paint", "labels_update"):
                if hasattr(layer.events, name):
                    self._layer_links.add(getattr(layer.events, name), self._on_edited)
            if isinstance(layer, Labels):
                self._undo[layer] = _steps(layer)
                self._layer_links.add(layer.events.set_data, self._on_redrawn)

    def _on_edited(self, event) -> None:
        layer = event.source
        self._edits[layer] = self._edits.get(layer, 0) + 1
        self.request()

    def _on_redrawn(self, event) -> None:
        """Notice what was undone: napari only draws anew then, as it does for many other reasons."""
        if self._undo.get(event.source) != _steps(event.source):
            self._undo[event.source] = _steps(event.source)
            self._on_edited(event)

    def _key(self, captured: Captured) -> tuple:
        """Return what tells two runs over the whole volume apart."""
        edits = tuple((str(layer.unique_id), self._edits.get(layer, 0)) for layer in self._inputs)
        values = tuple((name, _identity(value)) for name, value in captured.values.items())
        return edits, id(captured.source.data), values, captured.plane

    def _show(self, captured: Captured, where: Where, made: Any, notes: list[str]) -> None:
        source = captured.source
        if not self.wanted or self._rests or source not in self._viewer.layers:
            return
        try:
            if visible_slice(self._viewer, source, captured.volume) != where:
                return
        except LightboxError:
            return
        self.overlay.show(made, source, shared="contrast_limits" in captured.looks)
        self._say(" ".join(notes))

    def _ended(self) -> None:
        self._patience.stop()
        self._whole = None
        if self._wanted:
            self._timer.start(0)

    def _failed(self, text: str) -> None:
        self.overlay.hide()
        self._say(text)

    def _progress(self, needs: str, fraction: float | None) -> None:
        if needs in ("statistics", "volume") and not self._known and not self._wanted:
            share = "" if fraction is None else f" {100 * fraction:.0f} %"
            self._say(f"Looking through the whole volume ...{share}")

    def _say(self, text: str) -> None:
        """Show a sentence in small grey letters: nothing here needs to be acted on."""
        self.label.setText(f'<span style="color:#909090; font-size:small">{escape(text)}</span>' if text else "")
        self.label.setVisible(bool(text))
        self.message = text


def visible_slice(viewer, layer: Layer, volume: Volume) -> Where:
    """Return the slice of a layer that is on screen, as a slice of its volume in stored order.

    Raises
    ------
    InputError
        If the view is 3D, another axis than one of space is cut, or the layer has no such slice.
    """
    viewer, layer = plain(viewer), plain(layer)
    dims = viewer.dims
    if dims.ndisplay != 2:
        raise InputError("No preview in 3D: switch to the 2D view")
    first, offset = layer.ndim - min(3, layer.ndim), dims.ndim - layer.ndim
    hidden = [axis - offset for axis in dims.not_displayed if axis >= offset]
    index = np.round(layer.world_to_data(np.asarray(dims.point[offset:], float))).astype(int)
    frame = int(index[0]) if layer.ndim == 4 else 0
    if layer.ndim == 2:
        return Where(0, 0)
    cut = [axis - first for axis in hidden if axis >= first]
    if len(cut) != 1 or (layer.ndim == 4 and 0 not in hidden):
        raise InputError("No preview of this view: show an axial, coronal or sagittal plane")
    record = layer_record(layer)
    order, flips = (record["order"], record["flips"]) if record else ((0, 1, 2), (False,) * 3)
    axis, place = order[cut[0]], int(index[first + cut[0]])
    size = volume.grid.spatial_shape[axis]
    if not (0 <= place < size and 0 <= frame < volume.frame_count):
        raise InputError(f"{volume.name} has no voxels in this slice: scroll to where it lies")
    return Where(axis, size - 1 - place if flips[cut[0]] else place, frame)


def _other(viewer, preview: Preview) -> Preview | None:
    """Return the preview of another dock that is on screen: there is one at a time."""
    found = _active.get(viewer, lambda: None)()
    return None if found is preview else found


def _identity(value: Any) -> Any:
    """Return what tells a parameter's value from another: layers by their voxels, points by their places."""
    if isinstance(value, Volume):
        data = value.data
        place = data.__array_interface__["data"][0] if isinstance(data, np.ndarray) else id(data)
        return value.name, place, value.grid.affine.tobytes()
    return value.tobytes() if isinstance(value, np.ndarray) else repr(value)


def _steps(labels: Labels) -> tuple[int, int]:
    """Return how many steps can be undone and redone."""
    return len(getattr(labels, "_undo_history", ())), len(getattr(labels, "_redo_history", ()))
