"""Takes every canvas of a viewer to a point, close enough to see an error and far enough to see where it is."""

import numpy as np

from ..layers import plain
from ..runner import main_window
from ._pane import main_canvas
from ._quiet import aim, quieten, slicing_once

# Share of the canvas that an error takes at most; voxels around its deepest one that are always seen.
_SHARE = 0.7
_AROUND = 32
# Share of a step by which grids that count as the same may be apart.
_OFF = 0.01


def fly(viewer, layer, voxel, low, high) -> np.ndarray:
    """Show a voxel of a layer on all canvases, with its surroundings.

    Parameters
    ----------
    viewer : napari.Viewer
        The main viewer; the canvases of the three planes, where open, follow.
    layer : Layer
        In the viewer, on whose grid the indices are.
    voxel, low, high : sequence of int
        Index of the voxel, and first and last index of what is to be seen, along all axes of the layer.

    Returns
    -------
    ndarray
        The point in the world: the viewer's point has these as its last coordinates.
    """
    viewer = plain(viewer)
    point = np.asarray(layer.data_to_world(voxel), dtype=float)
    ends = np.abs([np.asarray(layer.data_to_world(end), dtype=float) - point for end in (low, high)]).max(axis=0)
    step = np.asarray(layer.extent.step, dtype=float)
    reach = np.maximum(ends / _SHARE, _AROUND * step[-3:].min())
    docks = _three_planes(viewer)
    canvases = [pane.qt_viewer for dock in docks for pane in dock.panes.values()]
    for model, canvas in ((viewer, main_canvas(viewer)), *((one.viewer, one) for one in canvases)):
        if canvas is not None:
            quieten(canvas)
        _look(model, canvas, layer, point, reach)
    dims = viewer.dims
    axes = list(range(dims.ndim - layer.ndim, dims.ndim))
    wanted = [_on_slider(dims.range[axis], at) for axis, at in zip(axes, point, strict=True)]
    with slicing_once(viewer):
        dims.set_point(axes, wanted)
        if not np.allclose([dims.point[axis] for axis in axes], wanted):
            # By rounding, a slider may end one slice early and draw the point back; it does so once.
            dims.set_point(axes, wanted)
    for dock in docks:
        dock.catch_up()
    return point


def _on_slider(span, at: float) -> float:
    """Return a coordinate as the slider will say it: one that is off by a little has napari slice once more."""
    step = round((at - span.start) / span.step) if span.step else 0
    near = span.start + step * span.step
    return near if abs(near - at) <= _OFF * span.step else at


def _three_planes(viewer) -> list:
    """Return the dock of three planes, if it is open."""
    from .three_planes import ThreePlanes

    window = main_window(viewer)
    return window.findChildren(ThreePlanes) if window is not None else []


def _look(model, canvas, layer, point: np.ndarray, reach: np.ndarray) -> None:
    """Put a point into the middle of a canvas, with `reach` seen on either side of it.

    `canvas`: the widget of the model, or None where there is no window.
    """
    dims, camera = model.dims, model.scene.camera
    shown = [axis - (dims.ndim - layer.ndim) for axis in dims.displayed]
    if min(shown) < 0:
        return
    # No farther away than where the whole volume is seen.
    low, high = np.asarray(layer.extent.world, dtype=float)
    reach = np.minimum(reach, high - low + np.asarray(layer.extent.step, dtype=float))[shown]
    size = np.asarray(model.canvas.size, dtype=float) / 2
    size = size if len(shown) == 2 else np.full(3, size.min())
    zoom = float((size / reach).min()) if (reach > 0).all() and (size > 0).all() else camera.zoom
    if canvas is not None and len(shown) == 2:
        aim(canvas, tuple(float(at) for at in point[shown]), zoom)
        return
    camera.center = tuple(np.concatenate([np.zeros(3 - len(shown)), point[shown]]))
    camera.zoom = zoom
