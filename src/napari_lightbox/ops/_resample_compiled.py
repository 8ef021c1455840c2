"""The compiled way of resampling: made ready in the background while SimpleITK serves, with the same result.

A kernel is compiled for one interpolation and one type of voxel, once there was enough to do for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import _tiles
from ._ready import Variants
from ._splines import DEEP

# Output voxels of an interpolation and a type after which compiling is worth its while: some hundredths of a second.
KERNELS = Variants("resample", after=1 << 22)
# Output voxels of a part: some milliseconds; and the voxels that are looked through at a time.
_PART = 1 << 19
_LOOK = 1 << 18
# Differences of larger voxels might overflow.
LARGEST = float(np.finfo(float).max) / 2
_LINEAR = {np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")}


@dataclass(frozen=True)
class _Source:
    """Voxels as a kernel takes them.

    Parameters
    ----------
    flat : ndarray
        The voxels.
    strides : tuple of int
        Voxels from plane to plane and from line to line; 0 where there is only one.
    sure : float
        How far from a whole number single precision is sure of it.
    """

    flat: np.ndarray
    strides: tuple[int, int]
    sure: float = 0.0

    @classmethod
    def of(cls, data: np.ndarray, sure: float = 0.0) -> "_Source":
        """Lay out voxels (z, y, x)."""
        flat = np.ascontiguousarray(data).reshape(-1)
        # numba would compile anew for arrays that may be written and those that may not.
        flat.flags.writeable = False
        deep, high, wide = data.shape
        return cls(flat, (high * wide if deep > 1 else 0, wide if high > 1 else 0), sure)


def largest(data: np.ndarray) -> float:
    """Return the largest magnitude of the voxels: infinite where there is a NaN or an infinite voxel."""
    found = []

    def look(slab: slice) -> None:
        low, high = float(data[slab].min()), float(data[slab].max())
        found.append(max(-low, high) if np.isfinite(low + high) else np.inf)

    _tiles.run(look, _tiles.slabs(data.shape, _LOOK), "slabs")
    return max(found)


def sure_of(largest: float) -> float:
    """Return how far from a whole number single precision is sure of it, see `_kernels.blend`.

    Three steps of linear interpolation are off by less than 20 units in the last place of the largest voxel.
    """
    return 0.5 - 20.0 * largest * 2.0**-24


class Compiled:
    """The compiled way for one interpolation and one type of voxel.

    Parameters
    ----------
    order : {"nearest", "linear", "cubic"}
        Interpolation; there is no kernel for cubic.
    dtype : dtype
        Type of the voxels.
    """

    def __init__(self, order: str, dtype: np.dtype) -> None:
        self.order = order
        self.key: tuple[str, str] | None = None
        if order == "nearest":
            # Voxels are moved as they are: only their width counts.
            self.key = (order, f"u{dtype.itemsize}")
        elif order == "linear" and dtype in _LINEAR:
            self.key = (order, dtype.str[1:])

    @property
    def ready(self) -> bool:
        """Whether the kernel can be used now."""
        return self.key is not None and KERNELS.get(self.key) is not None

    def ask(self, voxels: int) -> None:
        """Say that so many voxels are to be resampled; begin to compile in the background when that is worth it."""
        if self.key is not None:
            KERNELS.ask(self.key, voxels)

    def wait(self) -> bool:
        """Compile, wait until that has ended, and say whether it went well."""
        return self.key is not None and KERNELS.wait(self.key) is not None

    def source(self, data: np.ndarray) -> "_Source | None":
        """Return the voxels (z, y, x) as the kernel takes them; None where it cannot work on them."""
        if self.order == "nearest":
            return _Source.of(np.ascontiguousarray(data).view(f"u{data.dtype.itemsize}"))
        if data.shape[2] == 1:
            # The kernel reads two voxels at once.
            data = np.repeat(data, 2, axis=2)
        if data.dtype.kind in "iu" and data.dtype.itemsize > 2:
            return _Source.of(data)
        most = largest(data)
        return _Source.of(data, sure_of(most)) if most <= LARGEST else None

    def fetch(
        self,
        source: "_Source",
        shape: tuple[int, ...],
        matrix: np.ndarray,
        out: np.ndarray,
        slabs: Sequence[slice],
        shift: float,
        fill: float,
    ) -> None:
        """Resample into some slabs of `out`, in several threads.

        Parameters
        ----------
        source : _Source
            From `source`.
        shape : tuple of int
            (z, y, x) of the input.
        matrix : (4, 4) ndarray
            Output index to input index.
        out : ndarray
            All of the output, of the type of the input.
        slabs : sequence of slice
            Those that are missing; each is worked out from its first plane, so that it does not matter who does.
        shift : float
            Added to all input indices.
        fill : float
            Value outside.
        """
        kernel, width = KERNELS.get(self.key), out.shape[2]
        linear = np.ascontiguousarray(matrix[:3, :3])
        fractions = np.arange(width) / float(width)
        filling = np.array(fill).astype(out.dtype).view(source.flat.dtype)[()]
        bits = out.view(source.flat.dtype)

        def work(part: tuple[slice, slice, slice]) -> None:
            slab, planes, lines = part
            offset = linear[:, 0] * slab.start + matrix[:3, 3] + shift
            block = planes.start, planes.stop, lines.start, lines.stop
            kernel(
                source.flat, shape, source.strides, linear, offset, fractions, source.sure, bits[slab], *block, filling
            )

        lines = _tiles.slabs((out.shape[1], DEEP * width), _PART)
        parts = [(s, p, y) for s in slabs for p in _tiles.slabs((s.stop - s.start,), DEEP) for y in lines]
        _tiles.run(work, parts, "slabs")


for _operation in ("affine", "resample"):
    KERNELS.usual_for(_operation, lambda dtype, ndim: [key] if (key := Compiled("linear", dtype).key) else [])
