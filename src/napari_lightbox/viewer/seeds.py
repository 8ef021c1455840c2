"""Points layers become seeds: world points of the patient, whatever the transform of the layer they were drawn in."""

import numpy as np
from napari.layers import Points

from ..errors import InputError
from .layers import display_matrix, plain, shown_grid


def points_to_seeds(points, image) -> np.ndarray:
    """Take the points of a layer to the patient's world.

    Points are drawn over a displayed layer, and an oblique volume is displayed turned: a point is first taken to the
    voxel of `image` that it was drawn on, then to where that voxel truly lies.

    Parameters
    ----------
    points : Points layer
        With two to four axes and any scale and translation of its own. Of two axes only over a single slice.
    image : Image or Labels layer
        The layer that the points were drawn on.

    Returns
    -------
    (n, 3) or (n, 4) float array
        (z, y, x) in LPS mm; with the frame index first where points and image both have frames.

    Raises
    ------
    InputError
        If the layer holds no points, or points that name no slice.
    """
    points, image = plain(points), plain(image)
    if not isinstance(points, Points):
        raise InputError(f"layer {points.name!r} is no Points layer: seeds are points")
    if len(points.data) == 0:
        raise InputError(f"layer {points.name!r} holds no points: select it, press 2 and click into the image")
    world = np.array([points.data_to_world(p) for p in np.asarray(points.data, dtype=float)])[:, -4:]
    index = _to_shown_index(world, image)
    grid = shown_grid(image)
    if grid is None:
        # An image that was not opened by us: napari's own world is all there is.
        matrix = display_matrix(image)
        seeds = index[:, -3:] @ matrix[:3, :3].T + matrix[:3, 3]
    else:
        seeds = grid.to_world(index[:, -3:])
    return np.column_stack([index[:, 0], seeds]) if index.shape[1] == 4 else seeds


def _to_shown_index(world: np.ndarray, image) -> np.ndarray:
    """Take napari's world points (n, 2 to 4) to indices (n, 3) or (n, 4) of the image's array as displayed."""
    spatial = min(3, image.ndim)
    inverse = np.linalg.inv(display_matrix(image))
    if world.shape[1] == 2:
        slices = image.data.shape[0 if image.ndim == 3 else -3] if image.ndim > 2 else 1
        if slices != 1:
            raise InputError(
                "the points have no slice (two axes over a volume): make the layer with the button New seed points"
            )
        centre = display_matrix(image)[0, 3]
        world = np.column_stack([np.full(len(world), centre), world])
    if spatial == 2:
        world[:, -3] = 0.0
    index = world[:, -3:] @ inverse[:3, :3].T + inverse[:3, 3]
    if world.shape[1] == 4 and image.ndim == 4:
        frame = (world[:, 0] - image.translate[0]) / image.scale[0]
        return np.column_stack([np.rint(frame), index])
    return index


def new_points(image, name: str = "Seeds") -> Points:
    """Make an empty Points layer over a layer, with its axes, scale and units, so that clicks land on its voxels."""
    image = plain(image)
    size = max(1.0, 0.015 * max(image.data.shape[-2:]))
    return Points(
        np.zeros((0, image.ndim)),
        ndim=image.ndim,
        name=name,
        scale=image.scale,
        translate=image.translate,
        rotate=image.rotate,
        shear=image.shear,
        affine=image.affine,
        units=image.units,
        axis_labels=image.axis_labels,
        size=size,
        face_color="#ff5252",
        border_color="white",
    )
