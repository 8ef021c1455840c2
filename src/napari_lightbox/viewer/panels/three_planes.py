"""Three linked planes beside the main canvas: axial, coronal and sagittal through one point, painted in any of them."""

import math
import time
import weakref
from collections.abc import Iterator
from functools import partial

import napari
import numpy as np
from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QPushButton, QSplitter, QVBoxLayout, QWidget

from ...geometry import PLANES
from ..layers import plain
from ..runner import main_window
from ..windowing import has_tool
from ._links import Links
from ._pane import Closing, Crosshair, main_canvas
from ._plane_view import PlaneView
from ._planes import show_plane
from ._quiet import quieten
from .view import attach

# Milliseconds without a move before the sliders that no canvas needs for its slice follow.
_SETTLE = 150
# Seconds of slicing after which the mouse is heard again.
_PATIENCE = 0.05
_HINT = (
    "Click or drag moves the point (with a brush: hold Shift or Space); on the large canvas Shift+click. Wheel: "
    "slices, Ctrl+wheel: zoom, right button: window."
)
_NO_VOLUME = "Open a volume: a single picture has no three planes."


class ThreePlanes(QWidget):
    """Dock with the axial, coronal and sagittal plane through one point.

    The point is that of the main viewer's sliders: moving either moves the other. Layers, windows, colours, brushes
    and frames are those of the main viewer; labels are painted in place, and undone with the same key.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer that the dock belongs to.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = plain(viewer)
        attach(self._viewer)
        # What must be shut with the dock; a dict of its own, as it outlives the widget.
        self._room: dict = {"panes": {}, "crosshair": None, "links": None, "mouse": _MainMouse(self)}
        self._point = np.array(self._viewer.dims.point, dtype=float)
        self._seen = self._point.copy()
        self._own = False
        self._dirty: list[str] = []
        self._build()
        self._builder = self._timer(0, self._build_next, single=False)
        self._replanter = self._timer(0, self._replant)
        self._flusher = self._timer(0, self._flush)
        self._settler = self._timer(_SETTLE, self._settle)
        self._arranger = self._timer(0, self._arrange)
        self._links = self._room["links"] = Links(self)
        dims, layers = self._viewer.dims.events, self._viewer.layers
        for event in (dims.point, dims.current_step):
            self._links.add(event, self._on_main_point)
        for event in (dims.order, dims.ndisplay, dims.ndim):
            self._links.add(event, self._on_main_view)
        for event in (layers.events.inserted, layers.events.removed, layers.selection.events.active):
            self._links.add(event, self._on_layers)
        self._viewer.mouse_drag_callbacks.append(self._room["mouse"].drag)
        Closing(self, self._viewer, partial(_shut, weakref.ref(self._viewer), self._room))
        self._builder.start()

    def _timer(self, interval: int, function, single: bool = True) -> QTimer:
        timer = QTimer(self, singleShot=single, interval=interval)
        timer.timeout.connect(function)
        return timer

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 2, 2, 2)
        self._splitter = QSplitter(Qt.Orientation.Vertical)
        self._splitter.setChildrenCollapsible(False)
        layout.addWidget(self._splitter, 1)
        self.note = QLabel()
        self.note.setWordWrap(True)
        layout.addWidget(self.note)
        row = QHBoxLayout()
        self.crosshair_box = QCheckBox("Crosshair")
        self.crosshair_box.setChecked(True)
        self.crosshair_box.setToolTip("Show the point on all canvases")
        self.crosshair_box.toggled.connect(lambda _: self._draw_crosshairs((*self.panes, "main")))
        self.fit_button = QPushButton("Fit")
        self.fit_button.setToolTip("Fit the volume to the three canvases")
        self.fit_button.clicked.connect(self.fit)
        self.centre_button = QPushButton("Centre")
        self.centre_button.setToolTip("Move the point to the middle of the volume")
        self.centre_button.clicked.connect(self.centre)
        for widget in (self.crosshair_box, self.fit_button, self.centre_button):
            row.addWidget(widget)
        layout.addLayout(row)

    def _build_next(self) -> None:
        """Make one canvas: three at once would hold the window up."""
        panes = self._room["panes"]
        missing = [plane for plane in PLANES if plane not in panes]
        if missing:
            pane = panes[missing[0]] = PlaneView(self._viewer, missing[0])
            pane.moved.connect(self.move_to)
            pane.uprooted.connect(self._replanter.start)
            pane.double_clicked.connect(self._show_in_main)
            self._splitter.addWidget(pane)
        if len(missing) > 1:
            return
        self._builder.stop()
        canvas = main_canvas(self._viewer)
        if canvas is not None and self._room["crosshair"] is None:
            self._room["crosshair"] = Crosshair(canvas)
        self._arrange()

    def _replant(self) -> None:
        """Make the canvases anew, as the dock has come into another window."""
        panes = self._room["panes"]
        while panes:
            pane = panes.popitem()[1]
            pane.shut()
            pane.hide()
            pane.deleteLater()
        self._builder.start()

    # What it is ---------------------------------------------------------------------------------------------------

    @property
    def panes(self) -> dict[str, PlaneView]:
        """The canvases by the name of their plane; all three once `ready`."""
        return self._room["panes"]

    @property
    def ready(self) -> bool:
        """Whether everything is made and shows the point."""
        timers = (self._builder, self._replanter, self._flusher, self._arranger)
        return not any(timer.isActive() for timer in timers)

    @property
    def point(self) -> np.ndarray:
        """The point, world coordinates of all axes of the viewer."""
        return self._point.copy()

    @property
    def _main_shown(self) -> bool:
        """Whether the window of the viewer is on screen: a dock that floats has a window of its own."""
        window = main_window(self._viewer)
        return window is not None and window.isVisible()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Room for three canvases above each other."""
        return QSize(360, 900)

    def resizeEvent(self, event) -> None:  # noqa: N802
        """Put the canvases beside each other where the dock is wide."""
        super().resizeEvent(event)
        wide = self.width() > 1.3 * self.height()
        self._splitter.setOrientation(Qt.Orientation.Horizontal if wide else Qt.Orientation.Vertical)

    def showEvent(self, event) -> None:  # noqa: N802
        """Bring up to date what was hidden."""
        # First of all: canvases are drawn while they are being shown, and may fail in a window that is new to them.
        self._dirty += ["main"] * ("main" not in self._dirty)
        self._flusher.start()
        super().showEvent(event)

    def hideEvent(self, event) -> None:  # noqa: N802
        """Take the crosshair off the main canvas, as what switches it off is hidden too."""
        super().hideEvent(event)
        crosshair = self._room["crosshair"]
        if crosshair is not None and self._main_shown and not event.spontaneous():
            crosshair.move(None)

    # The point ----------------------------------------------------------------------------------------------------

    def move_to(self, point) -> None:
        """Move the point; all canvases follow a moment later.

        Parameters
        ----------
        point : (ndim,) array_like
            World coordinates; NaN leaves an axis where it is. Frames and what lies outside are brought inside.
        """
        dims, point = self._viewer.dims, np.array(point, dtype=float)
        if len(point) != dims.ndim or len(self._point) != dims.ndim:
            return
        point = np.where(np.isnan(point), self._point, point)
        low, high = (np.array([getattr(one, end) for one in dims.range]) for end in ("start", "stop"))
        self._point = np.clip(point, low, high)
        self._refresh()
        self._settler.start()

    def _refresh(self) -> None:
        """Have all canvases follow, as soon as the mouse has said all it has to say."""
        self._draw_crosshairs(())
        self._dirty += [name for name in (*self.panes, "main") if name not in self._dirty]
        self._flusher.start()

    def catch_up(self) -> None:
        """Have all canvases follow now: with cameras that have moved too, each is drawn once rather than twice."""
        self._flusher.stop()
        self._flush(math.inf)

    def _flush(self, patience: float = _PATIENCE) -> None:
        """Bring the canvases up to date: together, as the window is put together anew for each that is drawn alone.

        Where slicing takes long, one after the other, so that mouse and keys are heard in between.
        """
        if self._main_shown and not self.isVisible():
            return
        begun = time.monotonic()
        while self._dirty and time.monotonic() - begun < patience:
            name = self._dirty.pop(0)
            pane = self.panes.get(name)
            self._draw_crosshairs([name])
            if name == "main":
                self._set_main(self._viewer.dims.not_displayed)
            elif pane is not None and len(self._point) == pane.model.dims.ndim and not pane.stands_at(self._point):
                pane.go_to(self._point)
        if self._dirty:
            self._flusher.start()

    def _settle(self) -> None:
        dims = self._viewer.dims
        if dims.ndisplay != 2:
            self._set_main(range(dims.ndim))
            return
        self._set_main(dims.not_displayed)
        # napari would slice again though these axes decide no slice.
        slicing = self._viewer._update_layers
        with dims.events.point.blocker(slicing), dims.events.current_step.blocker(slicing):
            self._set_main(dims.displayed)

    def _set_main(self, axes) -> None:
        dims = self._viewer.dims
        axes = [
            axis for axis in axes if axis < len(self._point) and not np.isclose(dims.point[axis], self._point[axis])
        ]
        if not axes:
            return
        self._own = True
        try:
            dims.set_point(axes, [float(self._point[axis]) for axis in axes])
        finally:
            self._own = False
        self._seen = np.array(dims.point, dtype=float)

    def _on_main_point(self, event=None) -> None:
        if self._own:
            return
        now = np.array(self._viewer.dims.point, dtype=float)
        if len(now) != len(self._point):
            self._arranger.start()
            return
        # Axes that the main viewer has not moved may be ahead of it here.
        self._point = np.where(np.isclose(now, self._seen), self._point, now)
        self._seen = now
        self._refresh()

    def centre(self) -> None:
        """Move the point to the middle of the volume; the frame stays."""
        middle = np.array([(one.start + one.stop) / 2 for one in self._viewer.dims.range])
        middle[:-3] = np.nan
        self.move_to(middle)

    # Canvases -----------------------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Fit the volume to the three canvases."""
        for pane in self.panes.values():
            pane.fit()

    def _draw_crosshairs(self, names) -> None:
        usable = len(self._viewer.layers) > 0 and len(self._point) >= 3
        drawn = self.crosshair_box.isChecked() and usable
        for name, pane in self.panes.items():
            pane.point_at(self._point, drawn, now=name in names)
        if self._room["crosshair"] is not None and "main" in names:
            self._room["crosshair"].move(self._point if drawn else None)

    def _show_in_main(self, plane: str) -> None:
        self._set_main(range(self._viewer.dims.ndim))
        show_plane(self._viewer, plane)

    def _on_main_view(self, event=None) -> None:
        self._settle()
        self._arranger.start()

    def _on_layers(self, event=None) -> None:
        # Later: the mirrors hear of it too.
        self._arranger.start()

    def _arrange(self) -> None:
        volume = self._viewer.dims.ndim >= 3 and len(self._viewer.layers) > 0
        self.note.setText(_HINT if volume else _NO_VOLUME)
        self._splitter.setVisible(volume)
        self._seen = np.array(self._viewer.dims.point, dtype=float)
        if len(self._point) != len(self._seen) or not self._settler.isActive():
            self._point = self._seen.copy()
        for pane in self.panes.values():
            pane.turn()
        for canvas in (main_canvas(self._viewer), *(pane.qt_viewer for pane in self.panes.values())):
            if canvas is not None:
                quieten(canvas)
        self._refresh()


class _MainMouse:
    """Moves the point with Shift and the left button on the main canvas."""

    def __init__(self, panel: ThreePlanes) -> None:
        self._panel = weakref.ref(panel)

    def drag(self, viewer, event) -> Iterator[None]:
        """Follow the mouse; a napari mouse callback."""
        panel = self._panel()
        if event.button != 1 or set(event.modifiers) != {"Shift"} or viewer.dims.ndisplay != 2 or panel is None:
            return
        if has_tool(viewer.layers.selection.active):
            return
        camera = viewer.scene.camera
        pan, camera.mouse_pan = camera.mouse_pan, False
        try:
            panel.move_to(event.position)
            yield
            while event.type == "mouse_move":
                panel.move_to(event.position)
                yield
        finally:
            camera.mouse_pan = pan


def _shut(viewer: weakref.ref, room: dict, gone: bool) -> None:
    """Release everything that the dock holds; a second call changes nothing."""
    main = viewer()
    if room["links"] is not None:
        room["links"].clear()
    mouse, room["mouse"] = room["mouse"], None
    if main is not None and mouse is not None and mouse.drag in main.mouse_drag_callbacks:
        main.mouse_drag_callbacks.remove(mouse.drag)
    crosshair, room["crosshair"] = room["crosshair"], None
    if crosshair is not None:
        crosshair.close(gone)
    while room["panes"]:
        room["panes"].popitem()[1].shut(gone)
