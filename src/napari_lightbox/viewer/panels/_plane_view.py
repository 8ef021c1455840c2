"""One plane of the three: a canvas whose left button moves the point, and whose wheel turns the pages."""

from collections.abc import Iterator

import numpy as np
from qtpy.QtCore import Signal

from ..layers import is_preview
from ..orientation import plane_view, speaker, world_directions
from ..windowing import drag_window, has_tool
from ._pane import Crosshair, Pane
from ._planes import fit, show_plane

# Zoom of one notch of the wheel.
_NOTCH = 1.15


class PlaneView(Pane):
    """The axial, coronal or sagittal plane through a point.

    Left click or drag moves the point, the wheel the slice; Ctrl and the wheel zoom, the middle button moves the
    picture, the right one changes the window. Where the active layer has a brush in hand, the left button paints, and
    Shift with it (or Space held) moves the point.

    Parameters
    ----------
    viewer : napari.Viewer
        The main viewer.
    plane : {"axial", "coronal", "sagittal"}
    """

    # A new point, world coordinates of all axes.
    moved = Signal(object)
    double_clicked = Signal(str)

    def __init__(self, viewer, plane: str) -> None:
        # A preview is a single slice of one plane: in the others it would be a line across the picture.
        super().__init__(viewer, brief=True, taken=lambda layer: not is_preview(layer))
        self.plane = plane
        self._progress = 0.0
        self._point: np.ndarray | None = None
        self._asked: dict[int, float] = {}
        self._fitted = False
        model = self.model
        self.crosshair = Crosshair(self.qt_viewer)
        model.mouse_wheel_callbacks[:] = [self._on_wheel]
        model.mouse_drag_callbacks[:] = [self._on_drag, drag_window]
        model.mouse_double_click_callbacks[:] = [self._on_double_click]
        camera = model.scene.camera.events
        for event in (camera.mouse_pan, camera.mouse_zoom, model.dims.events.ndisplay):
            self.link(event, self._keep)
        self.link(model.layers.events.removed, self._on_removed)
        self._keep()
        self.setToolTip(
            f"{plane.capitalize()}: left button moves the point, wheel turns the slices, Ctrl+wheel zooms, middle "
            "button moves the picture, right button changes the window; double-click shows this plane in the middle. "
            "Labels are painted and points placed here too; shapes are drawn on the large canvas, and shown here"
        )

    def shut(self, gone: bool = False) -> None:
        """End all connections and close the canvas, unless Qt has deleted it already."""
        self.crosshair.close(gone)
        for callbacks in (
            self.model.mouse_wheel_callbacks,
            self.model.mouse_drag_callbacks,
            self.model.mouse_double_click_callbacks,
        ):
            callbacks.clear()
        super().shut(gone)

    # What it shows ------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Show the plane the right way up, and fit it, where the layers ask for another view than it has."""
        dims, camera, layer = self.model.dims, self.model.scene.camera, speaker(self.model)
        if dims.ndim < 3 or not len(self.model.layers):
            self._fitted = False
            return
        order, orientation = plane_view(world_directions(layer) if layer is not None else None, self.plane)
        lead = dims.ndim - 3
        turned = tuple(dims.order) == (*range(lead), *(lead + axis for axis in order))
        if not (self._fitted and turned and tuple(str(side) for side in camera.orientation2d) == orientation):
            self._fitted = True
            show_plane(self.model, self.plane)

    def _on_removed(self, event=None) -> None:
        # What comes into an empty view may have another size.
        self._fitted = self._fitted and len(self.model.layers) > 0

    def fit(self) -> None:
        """Fit all layers to the canvas."""
        fit(self.model)

    def point_at(self, point: np.ndarray, crosshair: bool, now: bool = True) -> None:
        """Take note of where the point is, and draw the crosshair now or later; the slice follows with `go_to`."""
        self._point = point
        if now:
            self.crosshair.move(point if crosshair else None)

    def stands_at(self, point: np.ndarray) -> bool:
        """Whether the slice (and frame) on screen is the one through a point."""
        dims = self.model.dims
        # napari's slider brings what it is asked for to the nearest slice.
        return len(point) == dims.ndim and all(
            np.isclose(self._asked.get(axis, np.nan), point[axis])
            and abs(dims.point[axis] - point[axis]) <= dims.range[axis].step
            for axis in dims.not_displayed
        )

    def go_to(self, point: np.ndarray) -> None:
        """Show the slice (and frame) through a point."""
        # The axes on screen keep their values: a change would only make napari slice again.
        dims = self.model.dims
        self._asked = {axis: float(point[axis]) for axis in dims.not_displayed}
        # napari slices for either event, and would slice twice; nothing of ours listens to the second.
        with dims.events.current_step.blocker():
            dims.set_point(list(self._asked), list(self._asked.values()))

    # The mouse ----------------------------------------------------------------------------------------------------

    def _keep(self, event=None) -> None:
        """Keep the left button and the wheel for ourselves, and the picture flat."""
        camera = self.model.scene.camera
        if camera.mouse_pan:
            camera.mouse_pan = False
        if camera.mouse_zoom:
            camera.mouse_zoom = False
        if self.model.dims.ndisplay != 2:
            self.model.dims.ndisplay = 2

    def _on_drag(self, model, event) -> Iterator[None]:
        if event.button == 3:
            yield from self._pan(event)
            return
        twin = model.layers.selection.active
        tool = has_tool(twin)
        if event.button != 1 or set(event.modifiers) - {"Shift"} or (tool and not event.modifiers):
            return
        mode = str(twin.mode) if tool else ""
        if tool:
            # Put down meanwhile: the layer would paint where the point goes.
            twin.mode = "pan_zoom"
        try:
            self._point_to(event)
            yield
            while event.type == "mouse_move":
                self._point_to(event)
                yield
        finally:
            if tool and twin in model.layers:
                twin.mode = mode

    def _point_to(self, event) -> None:
        self.moved.emit(np.asarray(event.position, dtype=float))

    def _pan(self, event) -> Iterator[None]:
        camera = self.model.scene.camera
        start, centre = np.array(event.pos), np.array(camera.center[-2:])
        signs = [1 if str(side) in ("down", "right") else -1 for side in camera.orientation2d]
        yield
        while event.type == "mouse_move":
            across, down = (np.array(event.pos) - start) / camera.zoom
            camera.center = (0.0, *(centre - np.array([down, across]) * signs))
            yield

    def _on_double_click(self, model, event) -> None:
        if event.button == 1 and not has_tool(model.layers.selection.active):
            self.double_clicked.emit(self.plane)

    def _on_wheel(self, model, event) -> None:
        notches = float(np.clip(event.delta[1], -1, 1))
        if "Control" in event.modifiers:
            self._zoom(_NOTCH**notches, np.array([event.position[axis] for axis in model.dims.displayed]))
            return
        if event.modifiers or model.dims.ndim < 3:
            return
        inverted = getattr(event.native, "inverted", None)
        # As napari does it on its own canvas with Ctrl: down is towards the end of the slider.
        self._progress += notches if inverted is not None and inverted() else -notches
        steps = int(self._progress)
        if steps and self._point is not None and len(self._point) == model.dims.ndim:
            self._progress -= steps
            axis = model.dims.not_displayed[-1]
            # From the point, which the slice on screen may not have reached yet; the other axes stay where they are.
            there = np.full(model.dims.ndim, np.nan)
            there[axis] = self._point[axis] + steps * self._step(axis)
            self.moved.emit(there)

    def _step(self, axis: int) -> float:
        layer = speaker(self.model)
        own = axis - self.model.dims.ndim + (layer.ndim if layer is not None else 0)
        return abs(float(layer.scale[own])) if layer is not None and own >= 0 else self.model.dims.range[axis].step

    def _zoom(self, factor: float, at: np.ndarray) -> None:
        camera = self.model.scene.camera
        centre = np.array(camera.center[-2:])
        camera.zoom *= factor
        camera.center = (0.0, *(at + (centre - at) / factor))
