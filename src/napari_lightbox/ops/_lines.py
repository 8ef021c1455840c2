"""Separable filters: one pass along each axis, over whole lines, in chunks that stay in a core's cache.

A chunk is gathered into one flat buffer with its border, in which a step along the axis is a shift by a fixed number
of elements. So every kernel here is a few vector instructions on long contiguous arrays, whatever the axis.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from . import _tiles

# Bytes of the buffer of a chunk; a kernel uses up to three of them.
_CHUNK = 1 << 20
# Voxels of a slab, where there are slabs.
_THICK = 1 << 23
# Chunks that one thread is handed at a time: some milliseconds of work.
_TOGETHER = 4

# From a flat buffer of lines and the distance of neighbours along the line, the flat array of results: the one at i
# belongs to the window that begins at i. It may overwrite the buffer and use the spare buffers, of the same size.
Kernel = Callable[[np.ndarray, int, Sequence[np.ndarray]], np.ndarray]
Finish = Callable[[np.ndarray], np.ndarray]


def passes(
    image: np.ndarray,
    sizes: Sequence[int],
    mode: str,
    kernel: Callable[[int], Kernel],
    *,
    dtype: np.dtype,
    between: np.dtype,
    inner: np.dtype,
    finish: Finish | None = None,
) -> np.ndarray:
    """Run a kernel along every axis whose window is wider than one voxel.

    Parameters
    ----------
    image : ndarray
        Any shape.
    sizes : sequence of int
        Odd width of the window along each axis.
    mode : str
        What lies beyond the border, as in `_tiles.border_index`.
    kernel : callable
        From an axis, its kernel.
    dtype, between, inner : dtype
        Types of the result, of what is kept between two passes, and in which the kernels compute.
    finish : callable, optional
        Turns the results of the last pass into those of the filter.

    Returns
    -------
    ndarray
        New, of type `dtype`; the image itself, converted, where no window is wider than one voxel.
    """
    image = np.ascontiguousarray(image)
    axes = [axis for axis, size in enumerate(sizes) if size > 1]
    result = np.empty(image.shape, dtype)
    if not axes:
        result[...] = image
        return result
    apart = between != dtype and len(axes) > 1
    # A slab at a time where numbers between two passes need an array of their own; "wrap" looks at the other end.
    thick = len(image) if not apart or mode == "wrap" else max(_THICK // max(1, image[:1].size), sizes[0], 1)
    for first in range(0, len(image), thick):
        stop, reach = min(first + thick, len(image)), sizes[0] // 2
        source = image[max(0, first - reach) : stop + reach]
        kept = np.empty(source.shape, between) if apart else result
        for axis in axes:
            last = axis == axes[-1]
            target = result[first:stop] if last else kept
            _along(source, target, axis, sizes[axis] // 2, mode, kernel(axis), inner, finish if last else None)
            source = target
            if axis == 0 and apart:
                # Beyond its border a slab is only looked at along this axis.
                source = kept = kept[first - max(0, first - reach) :][: stop - first]
    return result


def _along(
    source: np.ndarray,
    target: np.ndarray,
    axis: int,
    reach: int,
    mode: str,
    kernel: Kernel,
    inner: np.dtype,
    finish: Finish | None,
) -> None:
    """Run a kernel on every line of `source` along `axis`; `target` may be `source`."""
    shape = source.shape
    lead, length, tail = int(np.prod(shape[:axis])), shape[axis], int(np.prod(shape[axis + 1 :]))
    lines, results = source.reshape(lead, length, tail), target.reshape(lead, length, tail)
    low = _tiles.border_index(-reach, 0, length, mode)
    high = _tiles.border_index(length, length + reach, length, mode)
    full = length + 2 * reach

    def work(parts: Sequence[tuple[slice, slice]]) -> None:
        room: list[np.ndarray] = []
        for part in parts:
            here = lines[part[0], :, part[1]]
            count, width = here.shape[0], here.shape[2]
            size = count * full * width
            if not room or room[0].size < size:
                room = [np.empty(size, inner) for _ in range(3)]
            buffer = room[0][:size].reshape(count, full, width)
            buffer[:, reach : reach + length] = here
            for place, index in ((slice(0, reach), low), (slice(reach + length, None), high)):
                buffer[:, place] = 0 if mode == "constant" else here[:, index]
            # Infinite values may meet; whoever reads the result sees NaN.
            with np.errstate(all="ignore"):
                found = kernel(room[0][:size], width, (room[1][:size], room[2][:size]))
                found = found if finish is None else finish(found)
            # The windows that run over the end of a line are left out.
            steps = (full * width * found.itemsize, width * found.itemsize, found.itemsize)
            results[part[0], :, part[1]] = as_strided(found, (count, length, width), steps)

    parts = [*_parts(lead, full, tail, _CHUNK // inner.itemsize)]
    _tiles.run(work, [parts[i : i + _TOGETHER] for i in range(0, len(parts), _TOGETHER)], "lines")


def _parts(lead: int, length: int, tail: int, voxels: int) -> Iterator[tuple[slice, slice]]:
    """Cut the lines into chunks: of whole leading indices where those are small, else of neighbouring lines."""
    if length * tail <= voxels:
        step = voxels // (length * tail)
        yield from ((slice(i, i + step), slice(None)) for i in range(0, lead, step))
        return
    # At least 64 neighbouring lines: shorter pieces of memory are slow to gather.
    step = max(64, voxels // length)
    yield from ((slice(i, i + 1), slice(j, j + step)) for i in range(lead) for j in range(0, tail, step))


def extremes(pick: np.ufunc, width: int) -> Kernel:
    """Return the kernel of a running minimum or maximum: of 2, 4, 8 ... voxels, and of two such that cover `width`."""

    def kernel(flat: np.ndarray, step: int, spare: Sequence[np.ndarray]) -> np.ndarray:
        have, turn, room = 1, 0, (*spare, flat)
        while have < width:
            shift = min(have, width - have)
            length = len(flat) - shift * step
            flat = pick(flat[:length], flat[shift * step :], out=room[turn % 3][:length])
            have, turn = have + shift, turn + 1
        return flat

    return kernel


def sums(width: int) -> Kernel:
    """Return the kernel of a running sum: from sums of 2, 4, 8 ... voxels, those that make up `width`.

    Unlike a sum that is carried along the line, it keeps NaN and infinite values, and rounding, inside their windows.
    """

    def kernel(flat: np.ndarray, step: int, spare: Sequence[np.ndarray]) -> np.ndarray:
        length = len(flat) - (width - 1) * step
        total, other = spare[0][:length], spare[1]
        total[...] = flat[:length]
        # The width is odd, so that the first voxel of the window is a piece of its own.
        place, have = 1, 1
        while 2 * have <= width:
            shorter = len(flat) - have * step
            flat, other = np.add(flat[:shorter], flat[have * step :], out=other[:shorter]), flat
            have *= 2
            if width & have:
                np.add(total, flat[place * step : place * step + length], out=total)
                place += have
        return total

    return kernel


def weighted(weights: np.ndarray) -> Kernel:
    """Return the kernel of a weighted sum; `weights` is the right half of a symmetric profile, its centre first."""
    reach = len(weights) - 1
    # Weights are Python numbers, so that arrays of float32 stay such. Half of each voxel: sums of two cannot overflow.
    doubled = [2 * w for w in weights.tolist()]

    def kernel(flat: np.ndarray, step: int, spare: Sequence[np.ndarray]) -> np.ndarray:
        length = len(flat) - 2 * reach * step
        total, pair = spare[0][:length], spare[1][:length]
        np.multiply(flat, 0.5, out=flat)
        np.multiply(flat[reach * step : reach * step + length], doubled[0], out=total)
        for k in range(1, reach + 1):
            near, far = (reach - k) * step, (reach + k) * step
            np.add(flat[near : near + length], flat[far : far + length], out=pair)
            np.multiply(pair, doubled[k], out=pair)
            np.add(total, pair, out=total)
        return total

    return kernel
