"""Grids that a viewer may get wrong: oblique, anisotropic, left-handed, with permuted and flipped axes."""

import numpy as np

from napari_lightbox.geometry import Grid


def turned(degrees=(17.0, -9.0, 5.0)) -> np.ndarray:
    """Return a (3, 3) rotation about the world axes z, y, x."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        a, b = [i for i in range(3) if i != axis]
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        matrix = step @ matrix
    return matrix


def difficult_grid(shape=(9, 12, 15), frames=None) -> Grid:
    """Return a grid that is oblique, anisotropic, left-handed, permuted and flipped."""
    direction = turned()[:, [1, 2, 0]] * (1.0, -1.0, 1.0)
    if np.linalg.det(direction) > 0:
        direction[:, 0] *= -1
    grid = Grid.from_spacing((3.1, 0.8, 1.7), shape[-3:], (-31.5, 47.25, 12.125), direction)
    return grid if frames is None else grid.with_frames(frames)
