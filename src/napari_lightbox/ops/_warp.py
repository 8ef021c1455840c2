"""Interpolation at any places: for mappings that are not affine.

Memory beside the result does not grow with the volume. What is copied to be interpolated (the coefficients of a cubic
spline, 16-bit floats as those of 32 bits) is copied some planes at a time where these have nothing to do with each
other. A volume, or a single plane, is copied all in one up to `_bricks.LIMIT` bytes, and beyond it brick by brick: each
is met by those blocks of the output that have places in it, and in them by just these voxels. So a mapping
may lead from anywhere to anywhere; a smooth one asks for the places of a block some two or three times. The result is
the same: bricks reach so far that coefficients agree to their last digit, up to rounding in double precision.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ..errors import InputError
from . import _bricks, _check, _tiles
from ._interpolation import UPWARD, coefficients, store

# Output voxels of a part: some hundredths of a second.
_PART = 1 << 17
# Planes of a stack that one thread fetches from the same places.
_TOGETHER = 8
# Parts whose places are kept for all planes of a stack: some 16 bytes a voxel, 150 MB, of planes of up to 2900 x 2900.
_KEPT = 64
# Bytes of planes that are copied at a time: enough of them for many threads.
_STACK = 64 << 20
# Voxels of a plane that a thread may copy to have them in a row.
_ROW = 1 << 20
Find = Callable[[tuple[slice, ...]], np.ndarray]


def pull(data: np.ndarray, shape: tuple[int, ...], find: Find, order: str, fill: float) -> np.ndarray:
    """Fetch every voxel of an output from where `find` says it lies in a volume.

    Parameters
    ----------
    data : ndarray
        (z, y, x), real numbers.
    shape : tuple of int
        (z, y, x) of the output.
    find : callable
        From a block of the output, the input indices of its voxels, (3, *block); NaN where there is no such place.
        It is asked again for a block where the input is divided, and must say the same again.
    order : {"nearest", "linear", "cubic"}
        Interpolation, with the border of `_resample.pull`.
    fill : float
        Value outside the box of the input.

    Returns
    -------
    ndarray
        Of `shape` and the type of `data`.

    Raises
    ------
    InputError
        If nothing of the input is left.
    """
    result = np.empty(shape, data.dtype)
    _Warp(data[None], find, order, fill, result[None]).run()
    return result


def pull_planes(data: np.ndarray, across: int, find: Find, order: str, fill: float) -> np.ndarray:
    """Fetch every voxel from elsewhere in its own plane, in all planes alike.

    Parameters
    ----------
    data : ndarray
        (z, y, x), real numbers.
    across : int
        Axis that the planes are stacked along.
    find : callable
        From a block of a plane, the indices in the plane that its voxels come from, (2, *block).
    order, fill
        As for `pull`.
    """
    result = np.empty(data.shape, data.dtype)
    _Warp(np.moveaxis(data, across, 0), find, order, fill, np.moveaxis(result, across, 0)).run()
    return result


@dataclass(frozen=True)
class _Places:
    """Where the voxels of a block come from.

    Parameters
    ----------
    block : tuple of slice
        Of a plane of the output.
    held : (*block) ndarray of bool or None
        The voxels that come from the brick at hand; None where all do.
    index : (n, ...) ndarray
        Where voxels lie in the brick: (n, count), of those that are held, where the input is divided; else (n, *block),
        anywhere for those that are not held. Whole numbers for the nearest voxel.
    """

    block: tuple[slice, ...]
    held: np.ndarray | None
    index: np.ndarray


class _Warp:
    """One call: a stack of planes, or of one volume, that are all fetched from the same places.

    Parameters
    ----------
    stack : ndarray
        (planes, ...).
    find, order, fill
        As for `pull`.
    out : ndarray
        (planes, ...), where the result belongs.
    """

    def __init__(self, stack: np.ndarray, find: Find, order: str, fill: float, out: np.ndarray) -> None:
        self.stack, self.find, self.order, self.fill, self.out = stack, find, order, fill, out
        self.blocks = _tiles.blocks(out.shape[1:], _PART)
        self.whole = _bricks.whole(stack.shape)
        self.kept: tuple[tuple, list[_Places]] | None = None
        self.seen = False
        self.divided = False

    def run(self) -> None:
        """Write the whole result."""
        copied = _copied(self.stack.dtype, self.order)
        size = 0 if copied is None else copied.itemsize
        if self.stack[0].size * size > _bricks.LIMIT:
            self._divide(copied)
            return
        # More planes where their places are not kept, but found again for each stack.
        most = min(_STACK, _bricks.LIMIT) if len(self.blocks) <= _KEPT else _bricks.LIMIT
        most = most // size if size else self.stack.size
        stacks = [replace(self.whole, box=(s, *self.whole.box[1:])) for s in _tiles.slabs(self.stack.shape, most)]
        _bricks.one_by_one(lambda brick: self._fetch(brick, self.blocks), stacks, "planes")
        _require(self.seen)

    def _divide(self, copied: np.dtype) -> None:
        """Write the whole result, from bricks of single planes or of the volume."""
        self.divided = True
        spans = self._spans()
        _require(self.seen)
        reach = _bricks.FORGOTTEN[copied.itemsize] if self.order == "cubic" else 0
        low, high = np.nanmin(spans[:, 0], axis=0), np.nanmax(spans[:, 1], axis=0)
        ends = [0, *low], [len(self.stack) - 1, *high]
        reaches = None, *(reach,) * len(low)
        division = _bricks.between(*map(np.array, ends), self.stack.shape, reaches, _bricks.LIMIT // copied.itemsize)

        def work(brick: _bricks.Brick) -> None:
            # Comparisons with NaN, of blocks that come from nowhere, are false.
            near = ((spans[:, 1] >= brick.low[1:]) & (spans[:, 0] < brick.high[1:])).all(axis=1)
            self._fetch(brick, [block for block, there in zip(self.blocks, near, strict=True) if there])

        _bricks.one_by_one(work, division, "bricks")

    def _spans(self) -> np.ndarray:
        """Return the lowest and the highest places of all blocks, (blocks, 2, n), and fill what comes from nowhere."""
        spans = np.full((len(self.blocks), 2, self.stack.ndim - 1), np.nan)

        def work(number: int) -> None:
            block = self.blocks[number]
            places = self.find(block)
            inside = self._inside(places, self.whole)
            if not inside.all():
                self.out[(slice(None), *block)] = self.fill
            if inside.any():
                self.seen = True
                spans[number] = [[side(p[inside]) for p in places] for side in (np.min, np.max)]

        _tiles.run(work, range(len(self.blocks)), "tiles")
        return spans

    def _fetch(self, brick: _bricks.Brick, blocks: list[tuple[slice, ...]]) -> None:
        """Write what comes from a brick into some blocks of its planes."""
        if not blocks:
            return
        source, where = _prepared(self.stack[brick.box], self.order), brick.box[0]
        if len(self.stack) == 1:
            _tiles.run(lambda block: self._write(source, self.out[where], self._places(block, brick)), blocks, "tiles")
            return
        stacks = _tiles.slabs((len(source), 1), _TOGETHER if self.order == "linear" else 1)

        def work(some: list[tuple[slice, ...]]) -> None:
            if self.kept is None or self.kept[0] != (brick.low[1:], some):
                found: list[_Places] = []
                self.kept = None
                _tiles.run(lambda block: found.append(self._places(block, brick)), some, "tiles")
                self.kept = (brick.low[1:], some), found
            parts = [(planes, places) for planes in stacks for places in self.kept[1]]
            _tiles.run(lambda part: self._write(source[part[0]], self.out[where][part[0]], part[1]), parts, "tiles")

        _bricks.one_by_one(work, [blocks[n : n + _KEPT] for n in range(0, len(blocks), _KEPT)], "parts")

    def _inside(self, places: np.ndarray, brick: _bricks.Brick) -> np.ndarray:
        """Return which places belong to a brick, and lie within half a voxel of the outer voxels of the whole."""
        inside = np.ones(places.shape[1:], bool)
        for place, length, low, high in zip(places, self.stack.shape[1:], brick.low[1:], brick.high[1:], strict=True):
            inside &= (place >= max(-0.5, low)) & (place < min(length - 0.5, high))
        return inside

    def _places(self, block: tuple[slice, ...], brick: _bricks.Brick) -> _Places:
        places = self.find(block)
        held = self._inside(places, brick)
        if held.any():
            self.seen = True
        if self.divided:
            # Exact: a whole number, and none larger than the place.
            index = np.stack([p[held] - s.start for p, s in zip(places, brick.box[1:], strict=True)])
            return _Places(block, held, index)
        everywhere = bool(held.all())
        index = places if everywhere else np.where(held, places, 0.0)
        if self.order == "nearest":
            last = np.array(self.stack.shape[1:]).reshape(-1, *(1,) * held.ndim) - 1
            index = np.clip(np.floor(index + (0.5 + UPWARD)).astype(np.intp), 0, last)
        return _Places(block, None if everywhere else held, index)

    def _write(self, source: np.ndarray, out: np.ndarray, places: _Places) -> None:
        """Write a block of some planes."""
        out = out[(slice(None), *places.block)]
        held = places.held
        if held is not None and not held.any():
            if not self.divided:
                out[...] = self.fill
            return
        fetch = _fetching(places.index, source, self.order)
        outside = None if held is None else ~held
        for plane, target in zip(source, out, strict=True):
            if self.divided:
                made = np.empty(places.index.shape[1], out.dtype)
                fetch(plane, made)
                target[held] = made
                continue
            fetch(plane, target)
            if outside is not None:
                target[outside] = self.fill


def _copied(dtype: np.dtype, order: str) -> np.dtype | None:
    """Return the type of the copy that is interpolated, or None where voxels are taken as they are."""
    if order == "cubic":
        return _check.float_type(dtype)
    return np.dtype(np.float32) if dtype == np.float16 and order == "linear" else None


def _prepared(stack: np.ndarray, order: str) -> np.ndarray:
    """Return what is interpolated: for a spline, its coefficients along all axes but that of the stack."""
    copied = _copied(stack.dtype, order)
    if order == "cubic":
        return coefficients(stack.astype(copied), range(1, stack.ndim))
    if stack.dtype.kind == "b":
        return stack.view(np.uint8)
    return stack if copied is None else stack.astype(copied)


def _fetching(index: np.ndarray, source: np.ndarray, order: str) -> Callable[[np.ndarray, np.ndarray], None]:
    """Return what writes the values of a plane at some places into an array."""
    if order == "nearest":
        where = tuple(index)

        def nearest(plane: np.ndarray, out: np.ndarray) -> None:
            out[...] = plane[where]

        return nearest
    if order == "linear" and len(source) > 1 and (source[0].flags.c_contiguous or source[0].size <= _ROW):
        return _Linear(index, source.shape[1:]).write
    spline, mode = (3, "mirror") if order == "cubic" else (1, "nearest")

    def by_scipy(plane: np.ndarray, out: np.ndarray) -> None:
        kind = _check.float_type(out.dtype)
        found = ndimage.map_coordinates(plane, index, kind, order=spline, mode=mode, prefilter=False)
        store(found, out, within=order != "cubic")

    return by_scipy


class _Linear:
    """Linear interpolation at the same places of many planes: neighbours and weights are worked out once.

    The sums are those of `scipy.ndimage.map_coordinates`, in its order.
    """

    def __init__(self, places: np.ndarray, shape: tuple[int, int]) -> None:
        self.corners: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        pairs = []
        for place, length in zip(places, shape, strict=True):
            low = np.floor(place)
            # As weights that add up to 1 when rounded.
            first = 1 - (place - low)
            low = low.astype(np.intp)
            near = (np.clip(low + step, 0, length - 1) for step in (0, 1))
            pairs.append(tuple(zip(near, (first, 1 - first), strict=True)))
        for row, down in pairs[0]:
            for column, over in pairs[1]:
                self.corners.append((row * shape[1] + column, down, over))

    def write(self, plane: np.ndarray, out: np.ndarray) -> None:
        """Interpolate a plane into `out`."""
        flat, total = plane.ravel(), np.zeros(out.shape)
        for index, down, over in self.corners:
            part = flat.take(index).astype(np.float64, copy=False)
            with np.errstate(over="ignore", invalid="ignore"):
                part *= down
                part *= over
                total += part
        kind = _check.float_type(out.dtype)
        with np.errstate(over="ignore"):
            store(total.astype(kind, copy=False), out, within=True)


def _require(something: bool) -> None:
    if not something:
        raise InputError("the result would hold nothing of the volume: check the points, the matrix or the parameters")
