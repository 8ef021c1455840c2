"""The compiled way of cubic B-splines: made ready in the background while scipy and SimpleITK serve.

Memory beside the result: the coefficients, in single precision for voxels of up to 16 bits and float32, in double
precision for the others.
"""

import numpy as np

from . import _check, _tiles
from ._interpolation import store
from ._ready import Variants

# Output voxels after which compiling is worth its while: some tenths of a second without.
KERNELS = Variants("cubic", after=1 << 20)
# Voxels that a kernel rounds by itself; others pass through floats.
_ROUNDED = {np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")}
# The pole of the filter whose inverse the cubic B-spline is: the square root of 3, less 2.
POLE = -0.267949192431122706472553658494127633
# Coefficients more on either side of an axis.
MARGIN = 2
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

    def coefficients(self, data: np.ndarray) -> np.ndarray:
        """Return the coefficients of the spline through finite voxels, `MARGIN` more on either side of every axis."""
        padded = np.empty([n + 2 * MARGIN for n in data.shape], self.real)
        inside = padded[(slice(MARGIN, -MARGIN),) * 3]

        def copy(slab: slice) -> None:
            inside[slab] = data[slab]

        _tiles.run(copy, _tiles.slabs(data.shape, _PART), "slabs")
        for axis, count in enumerate(data.shape):
            if count > 1:
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
        source, kernel = self.coefficients(data), KERNELS.get(self.keys[1])
        linear, fractions = np.ascontiguousarray(matrix[:3, :3]), np.arange(shape[2]) / float(shape[2])
        made = np.empty(shape, self.made)
        # Where floats are rounded later, a number that no spline through finite voxels gives stands for the outside.
        outside = self.made.type(fill if self.made == self.dtype else np.nan)

        def work(part: tuple[slice, slice, slice]) -> None:
            slab, planes, lines = part
            offset = linear[:, 0] * slab.start + matrix[:3, 3]
            block = planes.start, planes.stop, lines.start, lines.stop
            kernel(source, data.shape, linear, offset, fractions, made[slab], *block, outside)

        lines = _tiles.slabs((shape[1], DEEP * shape[2]), _PART)
        parts = [(s, p, y) for s in slabs for p in _tiles.slabs((s.stop - s.start,), DEEP) for y in lines]
        _tiles.run(work, parts, "slabs")
        return made if self.made == self.dtype else self._rounded(made, fill)

    def along_axes(self, turned: np.ndarray, places: list[np.ndarray]) -> np.ndarray:
        """Fetch the voxels at all combinations of some places on each axis.

        Parameters
        ----------
        turned : ndarray
            From `coefficients`, with its axes in the order of the output.
        places : list of ndarray
            On each axis, voxels from its first one. What lies outside gets any value.
        """
        kernel = KERNELS.get(self.keys[1])
        taps = [part for p, n in zip(places, turned.shape, strict=True) for part in taps_at(p, n - 2 * MARGIN)]
        shape = tuple(len(p) for p in places)
        source, made = np.ascontiguousarray(turned), np.empty(shape, self.made)

        def work(planes: slice) -> None:
            kernel(source, *taps, made, planes.start, planes.stop)

        _tiles.run(work, _tiles.slabs(shape, _PART), "slabs")
        return made if self.made == self.dtype else self._rounded(made, 0)

    def _rounded(self, made: np.ndarray, fill: float) -> np.ndarray:
        """Round floats to voxels; NaN becomes `fill`."""
        result = np.empty(made.shape, self.dtype)

        def work(slab: slice) -> None:
            outside = np.isnan(made[slab])
            made[slab][outside] = 0
            store(made[slab], result[slab], within=False)
            result[slab][outside] = fill

        _tiles.run(work, _tiles.slabs(made.shape, _PART), "slabs")
        return result


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
