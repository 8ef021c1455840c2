"""Volumes on oblique grids of any axis order, with one bright block whose place in the patient is known."""

import numpy as np

from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.volume import Volume

# Upright, turned, flipped; an oblique turn lies on top of each.
CODES = ("LPS", "RAS", "SLP", "AIR")
_TURN, _ = np.linalg.qr(np.array([[1.0, 0.12, -0.08], [-0.1, 1.0, 0.15], [0.09, -0.13, 1.0]]))
TURN = _TURN * np.sign(np.diag(_TURN))


def oblique(code, shape, spacing=(3.0, 2.0, 1.5), frames=None):
    """Return a grid of `shape` stored in the orientation `code`, turned against the patient."""
    plain = Grid.from_spacing((1, 1, 1), (1, 1, 1))
    order, flips = plain.order_for(code)
    direction = np.eye(3)[:, list(order)] * np.where(flips, -1.0, 1.0)
    times = None if frames is None else Frames("time", tuple(range(frames)), "s")
    full = tuple(shape) if frames is None else (frames, *shape)
    return Grid.from_spacing(spacing, full, (-20.0, 11.0, 7.0), TURN @ direction, times)


def block(code, low, high, shape=(10, 14, 18), *, frames=None, **fields):
    """Return a volume that is 1 from `low` to `high` (both included, stored voxels) and 0 elsewhere."""
    grid = oblique(code, shape, frames=frames)
    data = np.zeros(grid.shape, np.float32)
    data[(..., *(slice(a, b + 1) for a, b in zip(low, high, strict=True)))] = 1
    return Volume(data, grid, name="scan", **fields)
