"""The compiled way of cubic B-splines: made ready in the background while scipy and SimpleITK serve.

Memory beside the result: the coefficients, in single precision for voxels of up to 16 bits and float32, in double
precision for the others. They are made brick by brick where those of the whole input take more than `_bricks.LIMIT`, so
that memory does not grow with the volume.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress, groupby

import numpy as np

from . import _check, _tiles
from ._bricks import MARGIN, Box, Brick, bricks, one_by_one
from ._interpolation import store
from ._ready import Variants

# Output voxels after which compiling is worth its while: some tenths of a second without.
KERNELS = Variants("cubic", after=1 << 20)
# Voxels that a kernel rounds by itself; others pass through floats.
_ROUNDED = {np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")}
# The pole of the filter whose inverse the cubic B-spline is: the square root of 3, less 2.
POLE = -0.267949192431122706472553658494127633
# Voxels of a part: some milliseconds; its planes on an oblique grid.
_PART = 1 << 18
DEEP = 16


class Spline:
    """The compiled way for one type of voxel.

    Parameters
    ----------
    kind : {"oblique", "along"}
        Whether output axes run along input axes.
    dtype : dtype
        Type of the voxels.
    """

    def __init__(self, kind: str, dtype: np.dtype) -> None:
        self.dtype, self.real = np.dtype(dtype), _check.float_type(dtype)
        # Sums along axes are rounded once, from double precision.
        floats = self.real if kind == "oblique" else np.dtype(float)
        self.made = self.dtype if self.dtype in _ROUNDED else floats
        self.keys = ("filter", self.real.str[1:]), (kind, self.real.str[1:], self.made.str[1:])

    @property
    def ready(self) -> bool:
        """Whether the kernels can be used now."""
        return all(KERNELS.get(key) is not None for key in self.keys)

    def ask(self, voxels: int) -> None:
        """Say that so many voxels are to be made; begin to compile in the background when that is worth it."""
        for key in self.keys:
            KERNELS.ask(key, voxels)

    def wait(self) -> bool:
        """Compile, wait until that has ended, and say whether it went well."""
        for key in self.keys:
            KERNELS.wait(key)
        return self.ready

    def coefficients(self, data: np.ndarray, axes: Sequence[int] = (0, 1, 2)) -> np.ndarray:
        """Return the coefficients of the spline through finite voxels, `MARGIN` more on either side of every axis.

        Axes are filtered in the order of `axes`, as numbers may be rounded between them.
        """
        padded = np.empty([n + 2 * MARGIN for n in data.shape], self.real)
        inside = padded[(slice(MARGIN, -MARGIN),) * 3]

        def copy(slab: slice) -> None:
            inside[slab] = data[slab]

        _tiles.run(copy, _tiles.slabs(data.shape, _PART), "slabs")
        for axis in axes:
            if data.shape[axis] > 1:
                self._filter(padded, inside, axis)
        for axis, count in enumerate(data.shape):
            lines = np.moveaxis(padded, axis, 0)
            mirrored = _tiles.border_index(-MARGIN, count + MARGIN, count, "mirror")
            for place in (*range(MARGIN), *range(count + MARGIN, count + 2 * MARGIN)):
                lines[place] = lines[mirrored[place] + MARGIN]
        return padded

    def _filter(self, padded: np.ndarray, inside: np.ndarray, axis: int) -> None:
        kernel, flat = KERNELS.get(self.keys[0]), padded.reshape(-1)
        beside, third = (1, 0) if axis == 2 else (2, 1 - axis)
        steps = [stride // padded.itemsize for stride in padded.strides]
        origin, shape = MARGIN * sum(steps), inside.shape
        power = POLE ** (shape[axis] - 1)
        numbers = origin, shape[axis], steps[axis], shape[beside], steps[beside]

        def work(part: slice) -> None:
            kernel(flat, *numbers, part.start, part.stop, steps[third], power)

        _tiles.run(work, _tiles.slabs((shape[third], shape[axis], shape[beside]), _PART), "slabs")

    def oblique(
        self, data: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], slabs: list[slice], fill: float
    ) -> np.ndarray:
        """Fetch every voxel of an output grid.

        Parameters
        ----------
        data : ndarray
            (z, y, x).
        matrix : (4, 4) ndarray
            Output index to input index.
        shape : tuple of int
            (z, y, x) of the output.
        slabs : list of slice
            Of the output; places are worked out from the first plane of each.
        fill : float
            Value outside.
        """
        result = np.empty(shape, self.dtype)
        found = bricks(matrix, shape, data.shape, self.real)
        parts = _parts(shape, slabs)
        ends = _ends(parts, shape[2])
        rounded = self.made != self.dtype
        # Floats that are rounded later are made a slab at a time.
        floats = np.empty((max(s.stop - s.start for s in slabs), *shape[1:]), self.made) if rounded else None
        if rounded or len(found) > 1:
            _tiles.run(lambda slab: result[slab].fill(fill), slabs, "slabs")

        def work(brick: Brick) -> None:
            here = parts if len(found) == 1 else list(compress(parts, brick.holds(matrix, *ends)))
            if not here:
                return
            fetch = self._fetching(data, brick, matrix, shape[2])
            if not rounded:
                _tiles.run(lambda part: fetch(part, result[part.slab], fill), here, "slabs")
                return

            def fetch_and_round(part: _Part) -> None:
                made = floats[part.planes, part.lines]
                # A number that no spline through finite voxels gives stands for places elsewhere.
                made.fill(np.nan)
                fetch(part, floats, np.nan)
                self._round(made, result[part.slab][part.planes, part.lines])

            together = [list(some) for _, some in groupby(here, lambda part: part.slab.start)]
            one_by_one(lambda some: _tiles.run(fetch_and_round, some, "slabs"), together, "slabs")

        one_by_one(work, found, "bricks")
        return result

    def _fetching(
        self, data: np.ndarray, brick: Brick, matrix: np.ndarray, width: int
    ) -> Callable[["_Part", np.ndarray, float], None]:
        """Return what fills the places of a brick in a part of a slab, of lines of `width` voxels."""
        source, kernel = self.coefficients(data[brick.box]), KERNELS.get(self.keys[1])
        linear, fractions = np.ascontiguousarray(matrix[:3, :3]), np.arange(width) / float(width)
        # How far the box's first coefficient lies from where the input's first one would be.
        before = int(np.dot([s.start for s in brick.box], source.strides)) // source.itemsize

        def fetch(part: "_Part", slab: np.ndarray, fill: float) -> None:
            offset = linear[:, 0] * part.slab.start + matrix[:3, 3]
            block = part.planes.start, part.planes.stop, part.lines.start, part.lines.stop
            where = source, before, data.shape, brick.low, brick.high
            kernel(*where, linear, offset, fractions, slab, *block, self.made.type(fill))

        return fetch

    def along_axes(
        self, source: np.ndarray, taps: Sequence[tuple[np.ndarray, np.ndarray]], result: np.ndarray, out: Box
    ) -> None:
        """Fetch the voxels at all combinations of some places on each axis.

        Parameters
        ----------
        source : ndarray
            From `coefficients`, with its axes in the order of the output.
        taps : sequence of (ndarray, ndarray)
            Of each axis, as `taps_at` has them.
        result : ndarray
            All of the output.
        out : tuple of slice
            Where the voxels belong. Those that lie outside of the input get any value.
        """
        kernel, (deep, high, wide) = KERNELS.get(self.keys[1]), out
        (first, weights), *others = taps
        others = [part for tap in others for part in tap]

        def work(planes: slice) -> None:
            here = slice(deep.start + planes.start, deep.start + planes.stop)
            near = first[planes], np.ascontiguousarray(weights[:, planes]), *others
            if self.made == self.dtype:
                kernel(source, *near, result[here], high.start, wide.start)
                return
            made = np.empty([len(near[0]), len(near[2]), len(near[4])], self.made)
            kernel(source, *near, made, 0, 0)
            store(made, result[here, high, wide], within=False)

        _tiles.run(work, _tiles.slabs([s.stop - s.start for s in out], _PART), "slabs")

    def _round(self, made: np.ndarray, out: np.ndarray) -> None:
        """Write floats into voxels, rounded, where they are not NaN."""
        elsewhere = np.isnan(made)
        made[elsewhere] = 0
        voxels = np.empty(made.shape, self.dtype)
        store(made, voxels, within=False)
        np.copyto(out, voxels, where=~elsewhere)


@dataclass(frozen=True)
class _Part:
    """What a thread makes at a time: of a slab of the output, some planes and lines."""

    slab: slice
    planes: slice
    lines: slice


def _parts(shape: tuple[int, ...], slabs: list[slice]) -> list[_Part]:
    """Divide an output into parts of slabs."""
    lines = _tiles.slabs((shape[1], DEEP * shape[2]), _PART)
    return [_Part(s, p, y) for s in slabs for p in _tiles.slabs((s.stop - s.start,), DEEP) for y in lines]


def _ends(parts: list[_Part], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first voxels of parts of an output, of lines of `width` voxels, and those behind the last, (n, 3)."""
    starts = [(p.slab.start + p.planes.start, p.lines.start, 0) for p in parts]
    stops = [(p.slab.start + p.planes.stop, p.lines.stop, width) for p in parts]
    return np.array(starts), np.array(stops)


def taps_at(places: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first of the four coefficients that count at each place, and the weights (4, n) of these.

    Coefficients are counted from the margin's first. Places outside must be filled later.
    """
    # Those outside only must not become too large for an index.
    places = np.clip(places, -1, length)
    first = np.floor(places)
    t = places - first
    weights = np.stack(((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (1 - t) ** 3 - 6 * (1 - t) ** 2 + 4, t**3)) / 6
    return np.minimum(first, length - 1).astype(np.intp) + MARGIN - 1, weights
