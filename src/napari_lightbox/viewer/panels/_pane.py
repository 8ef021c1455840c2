"""A second canvas beside the main one: a viewer model of its own whose layers mirror those of the main viewer."""

import logging
import weakref
from collections.abc import Callable
from functools import partial

import numpy as np
from napari.components import ViewerModel
from napari.qt import QtViewer
from napari.utils.key_bindings import KeymapHandler
from qtpy.QtCore import QEvent, QObject, QTimer, Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget
from vispy.scene.visuals import Line
from vispy.visuals.transforms import STTransform

from ..layers import plain
from ..mirror import mirror
from ..runner import main_window
from ._annotations import Annotations

log = logging.getLogger(__name__)
_CROSS = (0.2, 0.9, 1.0, 0.75)
# Pixels around the point that the crosshair leaves free, and mm that it goes beyond anything on screen.
_GAP = 8
_FAR = 1e5


class Pane(QWidget):
    """A canvas that shows the layers of a viewer, with letters, and hands keys and hover texts on to it.

    Parameters
    ----------
    viewer : napari.Viewer
        The main viewer.
    brief : bool
        As for `Annotations`.
    shown, taken : callable, optional
        As for `mirror.Mirror`.
    """

    # The canvas has come into another window, where nothing can be drawn on it any more: make another pane.
    uprooted = Signal()

    def __init__(
        self, viewer, *, brief: bool = False, shown: Callable | None = None, taken: Callable | None = None
    ) -> None:
        super().__init__()
        self._viewer = viewer = plain(viewer)
        self.model = ViewerModel()
        self.model.theme = viewer.theme
        self.annotations = Annotations(self.model, brief=brief)
        self.qt_viewer = QtViewer(self.model)
        # The sliders of the main window are those of all canvases.
        self.qt_viewer.dims.hide()
        self.qt_viewer.canvas.native.installEventFilter(self)
        self.setMinimumSize(120, 120)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.qt_viewer)
        self.mirror = mirror(viewer, self.model, shown, taken)
        self._links: list[tuple] = []
        self._keys = KeymapHandler()
        canvas_events = self.qt_viewer.canvas.events
        canvas_events.key_press.disconnect()
        canvas_events.key_release.disconnect()
        canvas_events.key_press.connect(self._keys.on_key_press)
        canvas_events.key_release.connect(self._keys.on_key_release)
        self.link(viewer.layers.selection.events.active, self._on_active)
        self.link(viewer.events.theme, self._on_theme)
        self.link(self.model.events.status, self._on_status)
        self._on_active()

    def link(self, event, callback: Callable) -> None:
        """Connect to an event until the pane is closed."""
        event.connect(callback)
        self._links.append((event, callback))

    def eventFilter(self, watched, event) -> bool:  # noqa: N802 - Qt's name
        """Hide a canvas that leaves its window: Qt takes away its OpenGL context, and with it all that vispy made."""
        if event.type() == QEvent.Type.WindowChangeInternal and watched.isValid():
            watched.hide()
            self.uprooted.emit()
        return False

    def shut(self, gone: bool = False) -> None:
        """End all connections and close the canvas, unless Qt has deleted it already."""
        links, self._links = self._links, []
        for event, callback in links:
            event.disconnect(callback)
        self.mirror.close()
        self._keys.keymap_providers = []
        if not gone:
            self.qt_viewer.close()

    # What the main viewer does for it -----------------------------------------------------------------------------

    def _on_active(self, event=None) -> None:
        # Keys pressed over this canvas are meant for the layer itself, not for its twin.
        active = self._viewer.layers.selection.active
        self._keys.keymap_providers = [self._viewer] if active is None else [active, self._viewer]

    def _on_theme(self, event=None) -> None:
        self.model.theme = self._viewer.theme

    def _on_status(self, event=None) -> None:
        if self.model.mouse_over_canvas and isinstance(self.model.status, str):
            self._viewer.status = self.model.status


class Crosshair:
    """Two lines through a point on a canvas of napari.

    Parameters
    ----------
    qt_viewer : QtViewer
        Whose canvas it is drawn on.
    """

    def __init__(self, qt_viewer) -> None:
        self._model, self._canvas = qt_viewer.viewer, qt_viewer.canvas
        self._point: np.ndarray | None = None
        self._line = Line(
            pos=np.zeros((8, 2), np.float32), color=_CROSS, width=1, connect="segments", method="gl",
            parent=self._canvas.view.scene,
        )  # fmt: skip
        # The lines are made once for a zoom, and moved: new data would have the shader compiled anew every time.
        self._line.transform = STTransform()
        self._gap = 0.0
        self._line.order = 10**5
        self._line.set_gl_state("translucent", depth_test=False)
        self._line.visible = False
        self._links = [self._model.scene.camera.events.zoom, self._model.dims.events.order]
        self._links.append(self._model.dims.events.ndisplay)
        for event in self._links:
            event.connect(self.draw)

    def move(self, point) -> None:
        """Go to a point of the world, all axes; None hides the lines."""
        self._point = None if point is None else np.asarray(point, dtype=float)
        self.draw()

    def draw(self, event=None) -> None:
        """Draw the lines where they belong now."""
        dims = self._model.dims
        if self._point is None or dims.ndisplay != 2 or len(self._point) != dims.ndim:
            if self._line.visible:
                self._line.visible = False
            return
        y, x = (self._point[axis] for axis in dims.displayed)
        gap = _GAP / max(self._model.scene.camera.zoom, 1e-9)
        if gap != self._gap:
            self._gap = gap
            ends = [(-_FAR, 0), (-gap, 0), (gap, 0), (_FAR, 0), (0, -_FAR), (0, -gap), (0, gap), (0, _FAR)]
            self._line.set_data(pos=np.array(ends, np.float32))
        if tuple(self._line.transform.translate[:2]) != (x, y):
            self._line.transform.translate = (x, y)
        if not self._line.visible:
            self._line.visible = True

    def close(self, gone: bool = False) -> None:
        """Take the lines off the canvas, unless Qt has deleted it already."""
        for event in self._links:
            event.disconnect(self.draw)
        self._links = []
        if not gone:
            self._line.parent = None


def main_canvas(viewer) -> QtViewer | None:
    """Return the Qt widget of the main canvas, or None where there is no window."""
    viewer, window = plain(viewer), main_window(viewer)
    found = window.findChildren(QtViewer) if window is not None else []
    return next((one for one in found if one.viewer is viewer), None)


class Closing(QObject):
    """Calls a function once, when a dock's widget is taken out of its window or the window closes.

    Parameters
    ----------
    widget : QWidget
        The widget in the dock.
    viewer : napari.Viewer
        Whose window it is in.
    shut : callable
        Called with whether Qt has deleted the widget already; must not hold it.
    """

    def __init__(self, widget: QWidget, viewer, shut: Callable[[bool], None]) -> None:
        super().__init__(widget)
        self._widget, self._shut, self._docked = weakref.ref(widget), shut, widget.parent() is not None
        widget.installEventFilter(self)
        widget.destroyed.connect(lambda *_: shut(True))
        window = main_window(viewer)
        # Held weakly: a window lives as long as Python holds it.
        self._window = None if window is None else weakref.ref(window)
        if window is not None:
            window.installEventFilter(self)

    def eventFilter(self, watched, event) -> bool:  # noqa: N802 - Qt's name
        if event.type() == QEvent.Type.ParentChange:
            QTimer.singleShot(0, partial(_look_for_dock, weakref.ref(self)))
        elif event.type() == QEvent.Type.Close and self._window is not None and watched is self._window():
            # The window may still refuse (a question to the user).
            QTimer.singleShot(0, partial(_look_for_window, weakref.ref(self)))
        return False

    def look_for_dock(self) -> None:
        """Shut if the widget has left its dock, and delete it: napari leaves it behind."""
        widget = self._widget()
        if widget is not None and widget.parent() is not None:
            self._docked = True
        elif self._docked:
            self._shut(False)
            if widget is not None:
                widget.deleteLater()

    def look_for_window(self) -> None:
        """Shut if the window has closed."""
        window = None if self._window is None else self._window()
        if window is None or not window.isVisible():
            self._shut(False)


def _look_for_dock(reference: weakref.ref) -> None:
    one = reference()
    try:
        if one is not None:
            one.look_for_dock()
    except RuntimeError:
        log.debug("the dock is gone already")


def _look_for_window(reference: weakref.ref) -> None:
    one = reference()
    try:
        if one is not None:
            one.look_for_window()
    except RuntimeError:
        log.debug("the window is gone already")
