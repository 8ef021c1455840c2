"""Smallest and largest values in a ball or box around every voxel, its size given in mm.

The ball is cut into rows along the last axis. Running extremes of each length of row are made once for all rows of
that length, the discs of one layer once for all layers of that disc (E. R. Urbach and M. H. F. Wilkinson, Efficient
2-D grayscale morphological transformations with arbitrary flat structuring elements, IEEE Trans. Image Proc. 17(1),
2008). What lies outside of the array takes no part: it stands for its nearest voxel, which is never farther away.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from . import _lines, _tiles
from ._bricks import one_by_one

# Voxels of a plane that is worked on at a time, and planes of a tile.
_PLANE = 1 << 16
_DEPTH = 32
# Bytes of a slab that is copied, so that its surroundings stay as they are while its result is written.
LIMIT = 16 << 20
# An offset is inside the ball if it is no farther than the radius but for rounding.
ROUNDING = 1 + 1e-9


class Disc(NamedTuple):
    """A layer of a ball: in which distances from the centre layer it lies, and its rows (offset, half length)."""

    layers: tuple[int, ...]
    rows: tuple[tuple[int, int], ...]


def reaches(radius: float, spacing: Sequence[float]) -> tuple[int, ...]:
    """Return how many voxels along each axis lie within `radius`."""
    return tuple(_steps(radius * ROUNDING, s) for s in spacing)


def _steps(length: float, spacing: float) -> int:
    found = int(length / spacing) + 1
    while found and found * spacing > length:
        found -= 1
    return found


def ball(radius: float, spacing: Sequence[float], shape: Sequence[int]) -> tuple[Disc, ...]:
    """Cut a ball into discs; offsets that no two voxels of `shape` have are left out.

    Parameters
    ----------
    radius : float
        In mm.
    spacing : sequence of float
        (z, y, x) in mm.
    shape : sequence of int
        (z, y, x).
    """
    square = (radius * ROUNDING) ** 2
    deep, high, wide = (min(r, n - 1) for r, n in zip(reaches(radius, spacing), shape, strict=True))
    discs: dict[tuple, list[int]] = {}
    for layer in range(deep + 1):
        rows = []
        for offset in range(-high, high + 1):
            rest = square - (layer * spacing[0]) ** 2 - (offset * spacing[1]) ** 2
            if rest >= 0:
                rows.append((offset, min(_steps(math.sqrt(rest), spacing[2]), wide)))
        if rows:
            discs.setdefault(tuple(rows), []).append(layer)
    return tuple(Disc(tuple(layers), rows) for rows, layers in discs.items())


def extreme(
    image: np.ndarray,
    pick: np.ufunc,
    radius: float,
    spacing: Sequence[float],
    element: str,
    planes: slice | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Return the smallest or largest value within `radius` of every voxel.

    Parameters
    ----------
    image : ndarray
        (y, x) or (z, y, x), in native byte order.
    pick : ufunc
        `numpy.minimum` or `numpy.maximum`; NaN spreads.
    radius : float
        In mm.
    spacing : sequence of float
        In mm, in array order.
    element : {"ball", "box"}
        Whether distances or differences along each axis count.
    planes : slice, optional
        Indices of the first axis, from a start to a stop, whose voxels are wanted; all where not given.
    out : ndarray, optional
        Where the result is written; it shares no memory with `image`.

    Returns
    -------
    ndarray
        Of the type of `image` and, but for the planes that are left out, of its shape.
    """
    planes = planes or slice(0, len(image))
    shape = (planes.stop - planes.start, *image.shape[1:])
    if element == "box":
        found = _box(image, pick, reaches(radius, spacing), planes)
        if out is None:
            return found
        out[...] = found
        return out
    lead = 3 - image.ndim
    flat = image.reshape((1,) * lead + image.shape)
    discs = ball(radius, (1.0,) * lead + tuple(spacing), flat.shape)
    result = np.empty(shape, image.dtype) if out is None else out
    target = result.reshape((1,) * lead + shape)
    halo = [
        max(d.layers[-1] for d in discs),
        max(row for d in discs for row, _ in d.rows),
        max(half for d in discs for _, half in d.rows),
    ]

    def work(block: _tiles.Block) -> None:
        first = slice(block[lead].start + planes.start, block[lead].stop + planes.start)
        padded = _tiles.with_halo(flat, (*block[:lead], first, *block[lead + 1 :]), halo, "nearest")
        target[block] = _tile(padded, discs, halo, pick)

    _tiles.run(work, _blocks(target.shape, halo), "tiles")
    return result


def again(image: np.ndarray, pick: np.ufunc, radius: float, spacing: Sequence[float], element: str) -> None:
    """Replace every voxel by the smallest or largest within `radius`: `extreme` in the memory of the image."""

    def work(source: np.ndarray, planes: slice, slab: slice) -> None:
        extreme(source, pick, radius, spacing, element, planes, image[slab])

    in_place(work, image, reaches(radius, spacing))


def in_place(work: Callable[[np.ndarray, slice, slice], None], image: np.ndarray, reach: Sequence[int]) -> None:
    """Call ``work(source, planes, slab)`` on all slabs of an image, which may write ``image[slab]``.

    `source` is a copy of the slab and of what lies within `reach` of it along the first axis, as it was before, and the
    slab are its `planes`.
    """
    before = image[:0].copy()

    def one(slab: slice) -> None:
        nonlocal before
        source = np.concatenate([before, image[slab.start : slab.stop + reach[0]]])
        first, stop = len(before), len(before) + slab.stop - slab.start
        work(source, slice(first, stop), slab)
        before = source[max(0, stop - reach[0]) : stop].copy()

    one_by_one(one, slabs(image.shape, image.itemsize, reach), "slabs")


def slabs(shape: Sequence[int], itemsize: int, reach: Sequence[int]) -> list[slice]:
    """Cut the first axis into slabs of about `LIMIT` bytes, but of whole tiles, and of some for each thread."""
    lead = 3 - len(shape)
    halo = (0,) * lead + tuple(min(r, n - 1) for r, n in zip(reach, shape, strict=True))
    deep = _tile_sizes((1,) * lead + tuple(shape), halo)
    beside = math.prod(-(-n // s) for n, s in zip(shape[1:], deep[lead + 1 :], strict=True))
    thick = max(LIMIT // (math.prod(shape[1:]) * itemsize), deep[lead] * -(-2 * _tiles.workers() // beside))
    return _parts(shape[0], max(thick, deep[lead]))


def _box(image: np.ndarray, pick: np.ufunc, reach: Sequence[int], planes: slice) -> np.ndarray:
    """Return the extremes in a box for some planes of the first axis."""
    sizes = [2 * min(r, n) + 1 for r, n in zip(reach, image.shape, strict=True)]
    inner = np.dtype(np.float32) if image.dtype == np.float16 else image.dtype

    def along(part: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
        kinds = {"dtype": image.dtype, "between": image.dtype, "inner": inner}
        return _lines.passes(part, sizes, "nearest", lambda axis: _lines.extremes(pick, sizes[axis]), **kinds)

    if planes == slice(0, len(image)):
        return along(image, sizes)
    low = max(0, planes.start - reach[0])
    found = along(image[low : planes.stop + reach[0]], [sizes[0], *(1 for _ in sizes[1:])])
    return along(found[planes.start - low : planes.stop - low], [1, *sizes[1:]])


def _tile_sizes(shape: Sequence[int], halo: Sequence[int]) -> tuple[int, int, int]:
    wide = min(shape[2], max(1024, 4 * halo[2]))
    return max(_DEPTH, 2 * halo[0]), max(_PLANE // wide, 2 * halo[1], 1), wide


def _blocks(shape: Sequence[int], halo: Sequence[int]) -> list[_tiles.Block]:
    deep, high, wide = _tile_sizes(shape, halo)
    axes = (_parts(shape[0], deep), _parts(shape[1], high), _tiles.slabs(shape[2:], wide))
    return [(z, y, x) for z in axes[0] for y in axes[1] for x in axes[2]]


def _parts(length: int, size: int) -> list[slice]:
    """Cut an axis into parts of about a size, all alike: of a thin one, the surroundings would be most."""
    step = -(-length // max(1, round(length / size)))
    return [slice(i, min(i + step, length)) for i in range(0, length, step)]


def _tile(padded: np.ndarray, discs: tuple[Disc, ...], halo: Sequence[int], pick: np.ufunc) -> np.ndarray:
    """Work through the inside of a block that has a halo, layer by layer.

    A layer is one flat array, in which a step to the next row is a shift by `across` voxels.
    """
    dtype = padded.dtype
    if dtype.kind == "b":
        padded = padded.view(np.uint8)
    elif dtype == np.float16:
        padded = padded.astype(np.float32)
    deep, high, wide = (n - 2 * h for n, h in zip(padded.shape, halo, strict=True))
    across = padded.shape[2]
    length = (high - 1) * across + wide
    found = np.empty((deep, length), padded.dtype)
    begun = [False] * deep
    halves = sorted({half for disc in discs for _, half in disc.rows})
    layer = np.empty(length, padded.dtype)
    for place, plane in enumerate(padded.reshape(len(padded), -1)):
        runs = _runs(plane, halves, pick)
        for disc in discs:
            targets = [place - halo[0] + d for d in {s * n for n in disc.layers for s in (-1, 1)}]
            targets = [t for t in targets if 0 <= t < deep]
            if not targets:
                continue
            pieces = [
                runs[half][start : start + length]
                for start, half in (((halo[1] + row) * across + halo[2] - half, half) for row, half in disc.rows)
            ]
            joined = pieces[0]
            for piece in pieces[1:]:
                joined = pick(joined, piece, out=layer)
            for target in targets:
                if begun[target]:
                    pick(found[target], joined, out=found[target])
                else:
                    found[target], begun[target] = joined, True
    size = found.itemsize
    return as_strided(found, (deep, high, wide), (length * size, across * size, size)).astype(dtype, copy=False)


def _runs(plane: np.ndarray, halves: Sequence[int], pick: np.ufunc) -> dict[int, np.ndarray]:
    """Return the extremes of ``2 * half + 1`` neighbours, from their first one, for each half length (increasing)."""
    found, power, have = {}, plane, 1
    for half in halves:
        width = 2 * half + 1
        while 2 * have <= width:
            power = pick(power[: len(power) - have], power[have:])
            have *= 2
        rest = width - have
        found[half] = pick(power[: len(power) - rest], power[rest:]) if rest else power
    return found
