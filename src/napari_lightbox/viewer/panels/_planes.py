"""Planes of the body on the canvas: which way up they are shown, and what lies at the edges. No Qt."""

import weakref

import numpy as np

from ..layers import shown_grid
from ..orientation import depth_orientation, edge_letters, natural_plane, plane_view, speaker, world_directions

# Share of the canvas left free around a plane, so that the letters at its edges do not lie on the patient.
_MARGIN = 0.1
# Shares of the canvas that a picture takes which was fitted (napari leaves 5 % free), and up to which one is taken for
# fitted that has been cut since.
_WHOLE, _CUT = (0.85, 1.001), 1.7
# Order of the axes and camera as the last fit left them.
_fitted: "weakref.WeakKeyDictionary" = weakref.WeakKeyDictionary()


def spatial_axis(viewer, axis: int) -> int:
    """Return the place of a viewer axis among the last three (z, y, x); negative for frames."""
    return axis - (viewer.dims.ndim - 3)


def letters_now(viewer):
    """Return the `Edges` of the canvas as it stands; None in 3D and without a layer."""
    if viewer.dims.ndisplay != 2 or not len(viewer.layers):
        return None
    layer = speaker(viewer)
    directions = world_directions(layer) if layer is not None else None
    rows, columns = (spatial_axis(viewer, axis) for axis in viewer.dims.displayed)
    return edge_letters(directions, rows, columns, tuple(str(o) for o in viewer.scene.camera.orientation2d))


def show_plane(viewer, plane: str) -> None:
    """Show the axial, coronal or sagittal plane in 2D, the right way up, and fit it to the canvas.

    Leading axes (frames) stay sliders. A slice position outside of the volume goes to its middle.
    """
    if viewer.dims.ndim < 3 and plane != "axial":
        return
    layer = speaker(viewer)
    directions = world_directions(layer) if layer is not None else None
    order, orientation = plane_view(directions, plane)
    lead = viewer.dims.ndim - 3
    if viewer.dims.ndisplay != 2:
        viewer.dims.ndisplay = 2
    viewer.scene.camera.orientation2d = orientation
    if lead >= 0:
        viewer.dims.order = (*range(lead), *(lead + axis for axis in order))
        _come_inside(viewer, layer)
    fit(viewer)


def fit(viewer) -> None:
    """Fit all layers to the canvas, with room for the letters."""
    viewer.fit_to_view(margin=_MARGIN)
    _fitted[viewer] = _camera(viewer)


def is_fitted(viewer) -> bool:
    """Whether the picture is as the last fit left it: nobody has zoomed or moved it since."""
    return viewer.dims.ndisplay == 2 and viewer in _fitted and _unmoved(viewer)


def refit(viewer, before: tuple[float, float] | None = None) -> None:
    """Fit again after the canvas has changed its size, unless the user has zoomed or moved meanwhile.

    `before`: height and width of the canvas until then, which tell whether napari itself had fitted the picture.
    """
    if is_fitted(viewer) or (before is not None and _WHOLE[0] <= _share(viewer, before) <= _WHOLE[1]):
        fit(viewer)


def refit_cut(viewer) -> None:
    """Fit a picture that nobody has moved, and that is cut since something took a part of the canvas."""
    if _WHOLE[1] < _share(viewer, viewer.canvas.size) <= _CUT:
        fit(viewer)


def _share(viewer, size: tuple[float, float]) -> float:
    """Return how much of a canvas the picture takes, by height or width, where it lies in the middle; else NaN."""
    if viewer.dims.ndisplay != 2 or not len(viewer.layers) or min(size) <= 0:
        return np.nan
    extent, shown = viewer.layers.extent, list(viewer.dims.displayed)
    low, high = (np.asarray(end, dtype=float)[shown] for end in extent.world)
    whole = high - low + np.asarray(extent.step, dtype=float)[shown]
    camera = viewer.scene.camera
    if not np.allclose(camera.center[-2:], (low + high) / 2, atol=1e-3 * whole.max()):
        return np.nan
    return float(np.max(whole * camera.zoom / np.asarray(size, dtype=float)))


def _unmoved(viewer) -> bool:
    before, now = _fitted[viewer], _camera(viewer)
    return len(before) == len(now) and np.allclose(before, now)


def _camera(viewer) -> tuple[float, ...]:
    camera = viewer.scene.camera
    return (*viewer.dims.order, camera.zoom, *camera.center[-2:])


def _come_inside(viewer, layer) -> None:
    """Put the slider of the sliced axis to the middle of the volume if it stands outside."""
    if layer is None:
        return
    axis = viewer.dims.not_displayed[-1]
    own = axis - viewer.dims.ndim + layer.ndim
    if own < 0:
        return
    low, high = (float(v) for v in layer.extent.world[:, own])
    if not low <= viewer.dims.point[axis] <= high:
        viewer.dims.set_point(axis, (low + high) / 2)


def show_natural_plane(viewer) -> None:
    """Show the plane in which the speaking volume was acquired; nothing happens in 3D or where none of ours is open."""
    layer = speaker(viewer)
    grid = shown_grid(layer) if layer is not None else None
    if grid is not None and viewer.dims.ndisplay == 2 and viewer.dims.ndim >= 3:
        show_plane(viewer, natural_plane(grid))


def unmirror(viewer) -> None:
    """Turn the depth axis of the camera so that 3D shows the patient, not a mirror image."""
    layer = speaker(viewer)
    directions = world_directions(layer) if layer is not None else None
    displayed = tuple(spatial_axis(viewer, axis) for axis in viewer.dims.displayed)
    if directions is None or len(displayed) != 3 or min(displayed) < 0:
        return
    camera = viewer.scene.camera
    plane = tuple(str(o) for o in camera.orientation2d)
    depth = depth_orientation(directions, displayed, plane)
    if str(camera.orientation[0]) != depth:
        camera.orientation = (depth, *plane)
