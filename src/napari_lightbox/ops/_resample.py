"""Interpolation on index grids, slab by slab of the output: through SimpleITK, or compiled where that is ready.

SimpleITK's own geometry stays out of it: an image cannot hold sheared axes there. Images are given without spacing
and direction, and an affine transform takes output indices to input indices.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ..progress import report
from . import _check, _resample_axes, _tiles
from ._bricks import Brick, bricks, one_by_one
from ._interpolation import UPWARD, coefficients, store
from ._resample_compiled import Compiled
from ._splines import Spline

# Output voxels a slab: some tenths of a second at most.
_SLABS = {"nearest": 1 << 23, "linear": 1 << 23, "cubic": 1 << 20}
# Bytes that SimpleITK makes at a time: so much a process keeps when it is freed, and need not clear it once more.
_AT_ONCE = 1 << 24
# Voxels that a thread rounds at a time.
_ROUND = 1 << 19
# Positions closer than this to a voxel (in voxels) are on it.
_ON_VOXEL = 1e-6
_LEAST_SPLINE_LENGTH = 4
_CHUNK = 1 << 16
_WAYS = {"nearest": _resample_axes.nearest, "cubic": _resample_axes.cubic}


def pull(data: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], order: str, fill: float) -> np.ndarray:
    """Fetch every voxel of an output grid from `data`.

    Parameters
    ----------
    data : ndarray
        (z, y, x), real numbers.
    matrix : (4, 4) ndarray
        Output index (z, y, x, 1) to input index.
    shape : tuple of int
        (z, y, x) of the output.
    order : {"nearest", "linear", "cubic"}
        Interpolation. The box of the input ends half a voxel beyond its outer voxels; up to there linear
        interpolation repeats the outer voxel, the spline is mirrored at it.
    fill : float
        Value outside that box.

    Returns
    -------
    ndarray
        Of `shape` and the type of `data`; rounded and clipped to it where that is an integer type.

    Notes
    -----
    Compiled or not, the result is the same to the last digit, but for a cubic spline on an oblique grid: there sums are
    taken in another order, in double precision, and differ by some 1e-15 of the largest value. A whole number is
    rounded to the other side where a value lies that close to a half.
    """
    if on_voxels(matrix):
        # No interpolation is needed, and none can disturb the last digit.
        order, matrix = "nearest", np.round(matrix)
    along = _resample_axes.along_axes(matrix)
    if order != "linear" and along:
        return _WAYS[order](data, matrix, shape, fill)
    slabs = _tiles.slabs(shape, _SLABS[order])
    if order == "cubic":
        spline = Spline("oblique", data.dtype)
        spline.ask(int(np.prod(shape)))
        if spline.ready:
            return spline.oblique(data, matrix, shape, slabs, fill)
    if order == "linear" and along:
        result = _resample_axes.linear(data, matrix, shape, slabs, fill)
        if result is not None:
            return result
    compiled = Compiled(order, data.dtype)
    if not along:
        compiled.ask(int(np.prod(shape)))
    if not compiled.ready and order == "nearest" and _beyond_doubles(data):
        # Numbers stand for the values.
        values, numbers = np.unique(np.append(data.ravel(), data.dtype.type(fill)), return_inverse=True)
        places = pull(numbers[:-1].reshape(data.shape).astype(np.int32), matrix, shape, order, int(numbers[-1]))
        return values[places]
    result = np.empty(shape, data.dtype)
    done = 0
    if order == "cubic":
        _in_bricks(data, matrix, fill, result, slabs)
        return result
    if not compiled.ready:
        done = _by_simpleitk(data, matrix, order, fill, result, slabs, lambda: compiled.ready)
    if slabs[done:]:
        source = compiled.source(data)
        if source is None:
            _by_simpleitk(data, matrix, order, fill, result, slabs[done:])
        else:
            shift = UPWARD if order == "nearest" else 0.0
            compiled.fetch(source, data.shape, matrix, result, slabs[done:], shift, fill)
    return result


def _in_bricks(data: np.ndarray, matrix: np.ndarray, fill: float, result: np.ndarray, slabs: list[slice]) -> None:
    """Fill `result` with the values of a spline, as long as the kernels are not ready."""
    # SimpleITK has an image of its own, copied from the coefficients.
    found = bricks(matrix, result.shape, data.shape, _check.float_type(data.dtype), copies=2)
    if len(found) > 1:
        _tiles.run(lambda slab: result[slab].fill(fill), slabs, "slabs")

    def work(brick: Brick) -> None:
        fetch = _Fetch(data, matrix, "cubic", fill, brick.box)
        linear = matrix[:3, :3]

        def one(slab: slice, out: np.ndarray, pool: ThreadPoolExecutor) -> None:
            if len(found) == 1:
                fetch.slab(slab, out, pool)
            elif brick.holds(matrix, np.array([[slab.start, 0, 0]]), np.array([[slab.stop, *out.shape[1:]]]))[0]:
                made = np.empty_like(out)
                fetch.slab(slab, made, pool)
                offset = linear[:, 0] * slab.start + matrix[:3, 3]
                held = np.ones(out.shape, bool)
                for of_axis in zip(linear, offset, brick.low, brick.high, strict=True):
                    held &= ~_outside(out.shape, *of_axis)
                np.copyto(out, made, where=held)

        _each(one, result, slabs)

    one_by_one(work, found, "bricks")


def _by_simpleitk(data, matrix, order, fill, result, slabs, until: Callable[[], bool] = lambda: False) -> int:
    """Resample slabs of `result` one after the other, and stop where `until` says so; return how many are done."""
    return _each(_Fetch(data, matrix, order, fill).slab, result, slabs, until)


def _each(work, result: np.ndarray, slabs: list[slice], until: Callable[[], bool] = lambda: False) -> int:
    """Call ``work(slab, result[slab], pool)`` on slabs; return how many are done when `until` says to stop."""
    report("slabs", 0, len(slabs))
    with ThreadPoolExecutor(_tiles.workers()) as pool:
        for done, slab in enumerate(slabs, start=1):
            work(slab, result[slab], pool)
            report("slabs", done, len(slabs))
            if until():
                return done
    return len(slabs)


def _beyond_doubles(data: np.ndarray) -> bool:
    """Whether SimpleITK, which passes doubles on and takes infinity for the largest number, cannot hand on a value."""
    if data.dtype.kind == "f":
        return not all(np.isfinite(data[slab]).all() for slab in _tiles.slabs(data.shape, _CHUNK))
    if data.dtype.kind == "b" or data.dtype.itemsize < 8:
        return False
    return int(data.max()) > 1 << 53 or int(data.min()) < -(1 << 53)


def overlaps(matrix: np.ndarray, shape: tuple[int, ...], source: tuple[int, ...]) -> bool:
    """Whether the box of an output grid may reach into that of the input; False only where it surely does not."""
    corners = np.array(np.meshgrid(*((-0.5, n - 0.5) for n in shape), indexing="ij")).reshape(3, -1)
    found = matrix[:3, :3] @ corners + matrix[:3, 3:]
    return not ((found.max(axis=1) < -0.5).any() or (found.min(axis=1) > np.array(source) - 0.5).any())


def on_voxels(matrix: np.ndarray) -> bool:
    """Whether every output voxel lies on an input voxel or outside: whole steps and a whole shift."""
    return bool(np.abs(matrix - np.round(matrix)).max() < _ON_VOXEL * 1e-3)


class _Fetch:
    """An input, or what lies in a box of it, ready to be interpolated."""

    def __init__(
        self, data: np.ndarray, matrix: np.ndarray, order: str, fill: float, box: tuple[slice, ...] | None = None
    ) -> None:
        import SimpleITK as sitk  # noqa: N813 - as its own manual has it

        self.sitk, self.matrix, self.fill, self.dtype, self.order = sitk, matrix, fill, data.dtype, order
        self.shape = data.shape
        data = data if box is None else data[box]
        boxed = data.shape
        if data.dtype.kind == "b":
            data = data.view(np.uint8)
        elif data.dtype == np.float16:
            data = data.astype(np.float32)
        self.pixel = _check.float_type(data.dtype)
        if order == "nearest":
            self.pixel = data.dtype
            self.method = sitk.sitkNearestNeighbor
        elif order == "linear":
            self.method = sitk.sitkLinear
        else:
            self.method = sitk.sitkBSplineResamplerOrder3
            data = coefficients(_lengthen(data).astype(self.pixel))
        self.longer = [axis for axis in range(3) if data.shape[axis] != boxed[axis]]
        self.image = sitk.GetImageFromArray(np.ascontiguousarray(data))
        if box is not None:
            self.image.SetOrigin([float(s.start) for s in box[::-1]])
        self.pixel_id = sitk.GetImageFromArray(np.zeros((1, 1, 1), self.pixel)).GetPixelID()

    def slab(self, slab: slice, out: np.ndarray, pool: ThreadPoolExecutor) -> None:
        """Write one slab of the output; the threads of `pool` help to round it."""
        size = out.shape
        linear = self.matrix[:3, :3]
        offset = linear[:, 0] * slab.start + self.matrix[:3, 3]
        if self._misses(linear, offset, size):
            out[...] = self.fill
            return
        writing: list[Future] = []
        for part in _tiles.slabs(size, _AT_ONCE // self.pixel.itemsize):
            image = self._interpolate(linear, offset, part, size)
            values, target = self.sitk.GetArrayViewFromImage(image), out[part]

            # The view is good for as long as the image is there.
            def write(planes: slice, values=values, target=target, image=image) -> None:
                store(values[planes], target[planes], within=self.order != "cubic")

            before, writing = writing, [pool.submit(write, planes) for planes in _tiles.slabs(target.shape, _ROUND)]
            for one in before:
                one.result()
        for one in writing:
            one.result()
        for axis in self.longer:
            out[_outside(size, linear[axis], offset[axis], -0.5, self.shape[axis] - 0.5)] = self.fill

    def _misses(self, linear: np.ndarray, offset: np.ndarray, size: tuple[int, ...]) -> bool:
        """Whether the whole slab lies beyond one face of the input."""
        spans = linear * (np.array(size) - 1)
        low = offset + np.minimum(spans, 0).sum(axis=1)
        high = offset + np.maximum(spans, 0).sum(axis=1)
        return bool((high < -0.5 - _ON_VOXEL).any() or (low > np.array(self.shape) - 0.5 + _ON_VOXEL).any())

    def _interpolate(self, linear: np.ndarray, offset: np.ndarray, part: slice, size: tuple[int, ...]):
        """Return some planes of a slab; each place comes of its number in the slab, wherever the slab is cut."""
        sitk = self.sitk
        if self.order == "nearest":
            offset = offset + UPWARD
        transform = sitk.AffineTransform(3)
        transform.SetMatrix(linear[::-1, ::-1].ravel().tolist())
        transform.SetTranslation(offset[::-1].tolist())
        resample = sitk.ResampleImageFilter()
        resample.SetSize([int(size[2]), int(size[1]), part.stop - part.start])
        resample.SetOutputOrigin([0.0, 0.0, float(part.start)])
        resample.SetTransform(transform)
        resample.SetInterpolator(self.method)
        resample.SetDefaultPixelValue(float(self.fill))
        resample.SetOutputPixelType(self.pixel_id)
        return resample.Execute(self.image)


def _lengthen(data: np.ndarray) -> np.ndarray:
    """Continue axes too short for a spline by their mirror image, which is how the spline goes on anyway."""
    for axis, length in enumerate(data.shape):
        if length < _LEAST_SPLINE_LENGTH:
            # It ends on a voxel about which the continuation is symmetric, so that the spline does not notice.
            longer = 5 if length == 3 else _LEAST_SPLINE_LENGTH
            data = np.take(data, _tiles.border_index(0, longer, length, "mirror"), axis=axis)
    return data


def _outside(size: tuple[int, ...], row: np.ndarray, offset: float, low: float, high: float) -> np.ndarray:
    """Return which voxels of a slab lie below `low`, or from `high` on, on an input axis."""
    z, y = (step * np.arange(n) for step, n in zip(row[:2], size[:2], strict=True))
    # In the order of ITK: both ends of a line are mapped, and its voxels lie at fractions of the way.
    start = (y + z[:, None]) + offset
    way = (((row[2] * size[2] + y) + z[:, None]) + offset) - start
    place = start[..., None] + np.arange(size[2]) / float(size[2]) * way[..., None]
    return (place < low) | (place >= high)
