"""Analytic shapes in patient millimetres, and how a list of them is rendered onto a grid.

A shape is a signed distance: negative inside, about the distance in mm to its surface near it. Because it is evaluated
at the world position of every voxel, any grid shows the same body, oblique ones too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .geometry import Grid

Coordinates = tuple[np.ndarray, np.ndarray, np.ndarray]  # z, y, x in LPS mm, of one shape
_EVERYWHERE = 1e6


@dataclass(frozen=True)
class Shape:
    """A signed distance over the world and the box (z, y, x in mm) outside which it is positive."""

    distance: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Part:
    """A shape filled with a value: later parts cover earlier ones.

    `label` None leaves the truth as it is (a vessel inside the lung). `texture` is the size, in HU, of slow random
    changes inside; `fine` chooses the field with the shorter waves.
    """

    shape: Shape
    hu: float
    label: int | None = None
    texture: float = 0.0
    fine: bool = False


def ellipsoid(centre: Sequence[float], radii: Sequence[float], axes: np.ndarray | None = None) -> Shape:
    """Return an ellipsoid: centre and radii (z, y, x) in mm; the rows of `axes` are the directions of the radii."""
    centre, radii = np.asarray(centre, float), np.asarray(radii, float)
    turn = np.eye(3) if axes is None else np.asarray(axes, float)
    reach = np.sqrt(((turn * radii[:, None]) ** 2).sum(axis=0))
    turned = axes is not None

    def distance(z, y, x):
        z, y, x = z - centre[0], y - centre[1], x - centre[2]
        if turned:
            z, y, x = (row[0] * z + row[1] * y + row[2] * x for row in turn)
        inside = np.sqrt((z / radii[0]) ** 2 + (y / radii[1]) ** 2 + (x / radii[2]) ** 2)
        slope = np.sqrt((z / radii[0] ** 2) ** 2 + (y / radii[1] ** 2) ** 2 + (x / radii[2] ** 2) ** 2)
        return inside * (inside - 1) / np.maximum(slope, 1e-9)

    return Shape(distance, centre - reach, centre + reach)


def frame_of(forward: Sequence[float]) -> np.ndarray:
    """Return three orthogonal unit rows, the first along `forward` (z, y, x), for the `axes` of an ellipsoid."""
    first = np.asarray(forward, float) / np.linalg.norm(forward)
    helper = np.eye(3)[np.argmin(np.abs(first))]
    second = np.cross(first, helper)
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)])


def tube(path: Sequence[Sequence[float]], radius: float) -> Shape:
    """Return a round tube of one radius along a polyline of points (z, y, x), with round ends."""
    path = np.asarray(path, float)
    starts, along = path[:-1], np.diff(path, axis=0)
    squares = np.maximum((along**2).sum(axis=1), 1e-12)

    def distance(z, y, x):
        nearest = None
        for start, step, square in zip(starts, along, squares, strict=True):
            dz, dy, dx = z - start[0], y - start[1], x - start[2]
            t = np.clip((dz * step[0] + dy * step[1] + dx * step[2]) * (1 / square), 0, 1)
            here = (dz - t * step[0]) ** 2 + (dy - t * step[1]) ** 2 + (dx - t * step[2]) ** 2
            nearest = here if nearest is None else np.minimum(nearest, here)
        return np.sqrt(nearest) - radius

    return Shape(distance, path.min(axis=0) - radius, path.max(axis=0) + radius)


def column(profile: Sequence[Sequence[float]], power: float = 2.0) -> Shape:
    """Return an upright body whose outline changes with height.

    `profile` holds rows (z, y of the centre, half depth, half width) with rising z; `power` 2 gives ellipses, more
    gives boxier outlines. It ends flat at the first and the last z.
    """
    rows = np.asarray(profile, float)
    heights, centres, depths, widths = rows.T

    def distance(z, y, x):
        y = y - np.interp(z, heights, centres)
        b, a = np.interp(z, heights, depths), np.interp(z, heights, widths)
        inside = (np.abs(y / b) ** power + np.abs(x / a) ** power) ** (1 / power)
        sides = (inside - 1) * np.minimum(a, b)
        return np.maximum(sides, np.maximum(heights[0] - z, z - heights[-1])).astype(z.dtype)

    deep = np.max(depths)
    low = np.array([heights[0], centres.min() - deep, -widths.max()])
    return Shape(distance, low, np.array([heights[-1], centres.max() + deep, widths.max()]))


def half_space(axis: int, limit: float, below: bool = True) -> Shape:
    """Return all that lies below (or above) `limit` along a world axis (0 = z)."""
    sign = 1.0 if below else -1.0
    everywhere = np.full(3, _EVERYWHERE)
    return Shape(lambda *zyx: sign * (zyx[axis] - limit), -everywhere, everywhere)


def grown(shape: Shape, margin: float) -> Shape:
    """Return the shape with its surface moved outwards by `margin` mm (inwards where it is negative)."""
    return Shape(lambda z, y, x: shape.distance(z, y, x) - margin, shape.low - margin, shape.high + margin)


def common(first: Shape, *others: Shape) -> Shape:
    """Return what lies inside all shapes."""

    def distance(z, y, x):
        result = first.distance(z, y, x)
        for other in others:
            result = np.maximum(result, other.distance(z, y, x))
        return result

    low = np.max([first.low, *(o.low for o in others)], axis=0)
    return Shape(distance, low, np.min([first.high, *(o.high for o in others)], axis=0))


def either(first: Shape, *others: Shape) -> Shape:
    """Return what lies inside at least one of the shapes."""

    def distance(z, y, x):
        result = first.distance(z, y, x)
        for other in others:
            result = np.minimum(result, other.distance(z, y, x))
        return result

    low = np.min([first.low, *(o.low for o in others)], axis=0)
    return Shape(distance, low, np.max([first.high, *(o.high for o in others)], axis=0))


def without(first: Shape, *others: Shape) -> Shape:
    """Return what lies inside the first shape and in none of the others."""

    def distance(z, y, x):
        result = first.distance(z, y, x)
        for other in others:
            result = np.maximum(result, -other.distance(z, y, x))
        return result

    return Shape(distance, first.low, first.high)


def waves(z: np.ndarray, y: np.ndarray, x: np.ndarray, rng: np.random.Generator, shortest: float, count: int = 16):
    """Return a smooth random field of mean 0 and deviation about 1: plane waves of `shortest` mm and longer."""
    field = np.zeros(np.broadcast_shapes(z.shape, y.shape, x.shape), z.dtype)
    for _ in range(count):
        direction = rng.standard_normal(3)
        direction *= 2 * np.pi / (np.linalg.norm(direction) * shortest * rng.uniform(1.0, 3.0))
        field += np.cos(direction[0] * z + direction[1] * y + direction[2] * x + rng.uniform(0, 2 * np.pi))
    return field * np.sqrt(2 / count)


def coordinates(grid: Grid, dtype=np.float64) -> Coordinates:
    """Return the world coordinates z, y, x (mm) of every voxel of a grid without frames."""
    index = np.ogrid[tuple(slice(n) for n in grid.spatial_shape)]
    rows = [sum(grid.affine[w, a] * index[a] for a in range(3)) + grid.affine[w, 3] for w in range(3)]
    return tuple(np.broadcast_to(row, grid.spatial_shape).astype(dtype) for row in rows)


def render(
    parts: Sequence[Part],
    grid: Grid,
    rng: np.random.Generator,
    *,
    air: float = -1000.0,
    edge: float | None = None,
    bend: float = 0.0,
    dtype=np.float64,
) -> tuple[np.ndarray, np.ndarray]:
    """Render parts onto a grid.

    Parameters
    ----------
    parts : sequence of Part
        In painting order.
    grid : Grid
        Without frames.
    rng : numpy.random.Generator
        For the textures and the bends.
    air : float
        Value where no part is.
    edge : float, optional
        Width in mm over which neighbouring values mix, the partial volume; by default the mean spacing.
    bend : float
        Size in mm of a smooth random displacement of all shapes. The truth bends with them.
    dtype : dtype
        Of the computation; float64 gives the same voxels on every machine.

    Returns
    -------
    image, labels : (z, y, x) arrays
        Values in `dtype`, and the exact label (uint8) of the centre of every voxel.
    """
    z, y, x = coordinates(grid, dtype)
    edge = float(np.mean(grid.spacing)) if edge is None else edge
    fields = {fine: waves(z, y, x, rng, 14.0 if fine else 45.0) for fine in (False, True)}
    if bend:
        z, y, x = (c + dtype(bend) * waves(z, y, x, rng, 90.0, 6) for c in (z, y, x))
    image = np.full(grid.spatial_shape, air, dtype)
    labels = np.zeros(grid.spatial_shape, np.uint8)
    margin = edge + 3.5 * bend
    for part in parts:
        box = _box(part.shape, grid, margin)
        if box is None:
            continue
        distance = part.shape.distance(z[box], y[box], x[box])
        share = np.clip(0.5 - distance / edge, 0, 1)
        value = part.hu if not part.texture else part.hu + part.texture * fields[part.fine][box]
        image[box] += share * (value - image[box])
        if part.label is not None:
            labels[box][distance < 0] = part.label
    return image, labels


def _box(shape: Shape, grid: Grid, margin: float) -> tuple[slice, ...] | None:
    """Return the slices of the grid that the shape can reach, or None."""
    low, high = np.maximum(shape.low - margin, -_EVERYWHERE), np.minimum(shape.high + margin, _EVERYWHERE)
    if (low >= high).any():
        return None
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), axis=-1).reshape(-1, 3)
    index = grid.to_index(corners)
    first = np.maximum(np.floor(index.min(axis=0)), 0).astype(int)
    last = np.minimum(np.ceil(index.max(axis=0)) + 1, grid.spatial_shape).astype(int)
    return None if (first >= last).any() else tuple(slice(a, b) for a, b in zip(first, last, strict=True))
