"""Resampling where every output axis runs along one input axis: another spacing, flips, swapped axes.

Each axis can then be worked on by itself, which takes a fraction of the time: twelve voxels count for a cubic spline in
place of sixty-four, and the nearest voxels are whole planes that are skipped or repeated.
"""

import numpy as np

from . import _check, _tiles
from ._bricks import MARGIN, Brick, bricks, one_by_one
from ._interpolation import UPWARD, coefficients, store
from ._ready import Variants
from ._resample_compiled import LARGEST, largest
from ._splines import Spline, taps_at

# Output voxels that are worked out at a time.
_PART = 1 << 18
# Voxels of a stretch of lines of a plane: a core's cache holds two in double precision.
_STRETCH = 1 << 13
LINES = Variants("along", after=1 << 22)
LINEAR = {np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")}


def along_axes(matrix: np.ndarray) -> bool:
    """Whether each output axis runs along one input axis, the same or another."""
    return bool((np.count_nonzero(matrix[:3, :3], axis=0) == 1).all())


def nearest(data: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], fill: float) -> np.ndarray:
    """Fetch the nearest voxels; arguments as for `_resample.pull`."""
    turned, places = _turned(data, matrix, shape, UPWARD)
    beyond = _beyond(places, turned.shape)
    index = [np.clip(np.floor(p + 0.5), 0, n - 1).astype(np.intp) for p, n in zip(places, turned.shape, strict=True)]
    result = np.empty(shape, data.dtype)

    def work(slab: slice) -> None:
        planes = turned[index[0][slab]][:, index[1]]
        np.take(planes, index[2], axis=2, out=result[slab], mode="clip")
        _fill(result[slab], (beyond[0][slab], *beyond[1:]), fill)

    _tiles.run(work, _tiles.slabs(shape, _PART), "slabs")
    return result


def linear(
    data: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], slabs: list[slice], fill: float
) -> np.ndarray | None:
    """Interpolate linearly, as SimpleITK does slab by slab; None where the kernel is not ready, or of no use.

    Arguments as for `_resample.pull`; places are worked out from the first plane of each slab.
    """
    key = (data.dtype.str[1:],)
    if data.dtype not in LINEAR:
        return None
    LINES.ask(key, int(np.prod(shape)))
    kernel = LINES.get(key)
    if kernel is None or (data.dtype.kind == "f" and not largest(data) <= LARGEST):
        return None
    # In the order of the input axes, which decides in which order they are interpolated along.
    outward = [int(np.argmax(row != 0)) for row in matrix[:3, :3]]
    places = [_places(matrix[a], i, shape[i], slabs) for a, i in enumerate(outward)]
    taps = []
    for place, length in zip(places, data.shape, strict=True):
        place = np.minimum(np.maximum(place, 0.0), length - 1.0)
        taps += [np.floor(place).astype(np.intp), place - np.floor(place)]
    made = np.empty([shape[i] for i in outward], data.dtype)
    source = np.ascontiguousarray(data)
    source = source if source.flags.writeable else source.copy()

    def work(part: tuple[slice, slice]) -> None:
        planes, lines = part
        kernel(source, *taps, made, planes.start, planes.stop, lines.start, lines.stop)

    depth, height, width = made.shape
    lines = _tiles.slabs((height, width), _STRETCH)
    planes = _tiles.slabs((depth, lines[0].stop, width), _PART << 3)
    _tiles.run(work, [(p, s) for p in planes for s in lines], "slabs")
    _fill(made, _beyond(places, data.shape), fill)
    return np.ascontiguousarray(made.transpose(np.argsort(outward)))


def _places(row: np.ndarray, axis: int, count: int, slabs: list[slice]) -> np.ndarray:
    """Return the places on an input axis that runs along an output axis, by the arithmetic of SimpleITK."""
    step, shift = row[axis], row[3]
    if axis == 0:
        return np.concatenate([step * np.arange(s.stop - s.start) + (step * s.start + shift) for s in slabs])
    if axis == 1:
        return step * np.arange(count) + shift
    # The two ends of a line are mapped, and the voxels between them lie at fractions of the way.
    return shift + (np.arange(count) / float(count)) * ((step * count + shift) - shift)


def cubic(data: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], fill: float) -> np.ndarray:
    """Interpolate by the cubic B-spline through the voxels; arguments as for `_resample.pull`."""
    spline = Spline("along", data.dtype)
    spline.ask(int(np.prod(shape)))
    axes = _axes(matrix)
    turned, places = _turned(data, matrix, shape, 0.0)
    result = np.empty(shape, data.dtype)
    # In the order of the input's own axes: coefficients are rounded between them.
    order = np.argsort(axes)

    def work(brick: Brick) -> None:
        out = tuple(map(_held, places, brick.low, brick.high))
        if any(s.start == s.stop for s in out):
            return
        source = turned[brick.box]
        cuts = [(p[held], n, box) for p, n, held, box in zip(places, turned.shape, out, brick.box, strict=True)]
        if spline.ready:
            spline.along_axes(spline.coefficients(source, order), [_taps_in(*cut) for cut in cuts], result, out)
        else:
            factors = coefficients(source.astype(_check.float_type(data.dtype)), order)
            _plainly(factors, [_mirrored(*cut) for cut in cuts], result[out])

    found = bricks(matrix[[*axes, 3]], shape, turned.shape, _check.float_type(data.dtype))
    one_by_one(work, found, "bricks")
    _fill(result, _beyond(places, turned.shape), fill)
    return result


def _plainly(factors: np.ndarray, taps: list[tuple[np.ndarray, np.ndarray]], out: np.ndarray) -> None:
    """Write the values of a spline into `out`, as long as the kernels are not ready."""

    def work(slab: slice) -> None:
        index, weights = taps[0]
        values = _combined(factors, index[:, slab], weights[:, slab], 0)
        for axis in (1, 2):
            values = _combined(values, *taps[axis], axis)
        store(values, out[slab], within=False)

    _tiles.run(work, _tiles.slabs(out.shape, _PART), "slabs")


def _held(places: np.ndarray, low: float, high: float) -> slice:
    """Return where on an output axis the places lie from `low` on, below `high`."""
    index = np.flatnonzero((places >= low) & (places < high))
    return slice(int(index[0]), int(index[-1]) + 1) if len(index) else slice(0, 0)


def _axes(matrix: np.ndarray) -> list[int]:
    """Return which input axis each output axis runs along."""
    return [int(np.argmax(column != 0)) for column in matrix[:3, :3].T]


def _turned(data: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], shift: float):
    """Return the input with its axes in the order of the output, and the input index of each plane of the output."""
    axes = _axes(matrix)
    places = [matrix[a, i] * np.arange(shape[i]) + matrix[a, 3] + shift for i, a in enumerate(axes)]
    return data.transpose(axes), places


def _beyond(places: list[np.ndarray], shape: tuple[int, ...]) -> list[np.ndarray]:
    """Return which places on each axis lie more than half a voxel from the outer voxels."""
    return [(p < -0.5) | (p >= n - 0.5) for p, n in zip(places, shape, strict=True)]


def _taps_in(places: np.ndarray, length: int, box: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return the taps of `taps_at`, with the coefficients counted from the first one of a box."""
    first, weights = taps_at(places, length)
    return first - box.start, weights


def _mirrored(places: np.ndarray, length: int, box: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return the four voxels of a box that count at each place, (4, n), and the cubic B-spline's weight of each."""
    first, weights = taps_at(places, length)
    mirrored = _tiles.border_index(-MARGIN, length + MARGIN, length, "mirror")
    return np.stack([mirrored[first + k] for k in range(4)]) - box.start, weights


def _combined(values: np.ndarray, index: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Return the weighted sums of planes along one axis."""
    shape = [1, 1, 1]
    shape[axis] = -1
    total = np.take(values, index[0], axis) * weights[0].reshape(shape)
    for places, weight in zip(index[1:], weights[1:], strict=True):
        part = np.take(values, places, axis).astype(np.float64, copy=False)
        part *= weight.reshape(shape)
        total += part
    return total


def _fill(out: np.ndarray, beyond: tuple[np.ndarray, ...], fill: float) -> None:
    """Write `fill` into the planes that lie outside, along each axis."""
    for axis, outside in enumerate(beyond):
        if outside.any():
            np.moveaxis(out, axis, 0)[outside] = fill


LINES.usual_for("resample", lambda dtype, ndim: [(dtype.str[1:],)] if dtype in LINEAR else [])
