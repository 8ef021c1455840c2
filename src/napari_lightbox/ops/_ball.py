"""Smallest and largest values in a ball or box around every voxel, its size given in mm.

The ball is cut into rows along the last axis. Running extremes of each length of row are made once for all rows of
that length, the discs of one layer once for all layers of that disc (E. R. Urbach and M. H. F. Wilkinson, Efficient
2-D grayscale morphological transformations with arbitrary flat structuring elements, IEEE Trans. Image Proc. 17(1),
2008). What lies outside of the array takes no part: it stands for its nearest voxel, which is never farther away.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from . import _lines, _tiles

# Voxels of a plane that is worked on at a time, and planes of a tile.
_PLANE = 1 << 16
_DEPTH = 32
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


def extreme(image: np.ndarray, pick: np.ufunc, radius: float, spacing: Sequence[float], element: str) -> np.ndarray:
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

    Returns
    -------
    ndarray
        New, of the shape and type of `image`.
    """
    shape = image.shape
    if element == "box":
        sizes = [2 * min(r, n) + 1 for r, n in zip(reaches(radius, spacing), shape, strict=True)]
        inner = np.dtype(np.float32) if image.dtype == np.float16 else image.dtype
        return _lines.passes(
            image,
            sizes,
            "nearest",
            lambda axis: _lines.extremes(pick, sizes[axis]),
            dtype=image.dtype,
            between=image.dtype,
            inner=inner,
        )
    flat = image.reshape((1,) * (3 - image.ndim) + shape)
    spacing = (1.0,) * (3 - image.ndim) + tuple(spacing)
    discs = ball(radius, spacing, flat.shape)
    result = np.empty(flat.shape, image.dtype)
    halo = [
        max(d.layers[-1] for d in discs),
        max(row for d in discs for row, _ in d.rows),
        max(half for d in discs for _, half in d.rows),
    ]

    def work(block: _tiles.Block) -> None:
        padded = _tiles.with_halo(flat, block, halo, "nearest")
        result[block] = _tile(padded, discs, halo, pick)

    _tiles.run(work, _blocks(flat.shape, halo), "tiles")
    return result.reshape(shape)


def _blocks(shape: Sequence[int], halo: Sequence[int]) -> list[_tiles.Block]:
    wide = min(shape[2], max(1024, 4 * halo[2]))
    high = min(shape[1], max(_PLANE // wide, 2 * halo[1], 1))
    deep = min(shape[0], max(_DEPTH, 2 * halo[0]))
    steps = [range(0, n, s) for n, s in zip(shape, (deep, high, wide), strict=True)]
    sizes = (deep, high, wide)
    return [
        tuple(slice(i, min(i + s, n)) for i, s, n in zip(corner, sizes, shape, strict=True))
        for corner in ((z, y, x) for z in steps[0] for y in steps[1] for x in steps[2])
    ]


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
    return as_strided(found, (deep, high, wide), (length * size, across * size, size)).astype(dtype)


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
