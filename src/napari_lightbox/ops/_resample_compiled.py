"""The compiled way of resampling: made ready in the background while SimpleITK serves, with the same result.

A kernel is compiled for one interpolation and one type of voxel, once there was enough to do for it.
"""

from collections.abc import Sequence

import numpy as np

from ..progress import track
from . import _tiles
from ._ready import Variants

# Output voxels of an interpolation and a type after which compiling is worth its while: some hundredths of a second.
KERNELS = Variants("resample", after=1 << 22)
# Output voxels of a part: some milliseconds.
_PART = 1 << 19
_SLAB = 1 << 23
_LINEAR = {np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")}


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

    def source(self, data: np.ndarray) -> np.ndarray | None:
        """Return the voxels (z, y, x) as the kernel takes them; None where it cannot work on them."""
        if self.order == "nearest":
            flat = np.ascontiguousarray(data).view(f"u{data.dtype.itemsize}").reshape(-1)
            # numba would compile anew for arrays that may be written and those that may not.
            flat.flags.writeable = False
            return flat
        margin = data.shape[1] * data.shape[2] + data.shape[2] + 1
        flat = np.zeros(data.size + margin, data.dtype)
        inside = flat[: data.size].reshape(data.shape)
        for slab in track(_tiles.slabs(data.shape, _SLAB), "slabs"):
            inside[slab] = data[slab]
            if data.dtype.kind == "f" and not np.isfinite(inside[slab]).all():
                return None
        return flat

    def fetch(
        self,
        source: np.ndarray,
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
        source : ndarray
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
        filling = np.array(fill).astype(out.dtype).view(source.dtype)[()]
        bits = out.view(source.dtype)

        def work(part: tuple[slice, slice]) -> None:
            slab, planes = part
            offset = linear[:, 0] * slab.start + matrix[:3, 3] + shift
            kernel(source, shape, linear, offset, fractions, bits[slab], planes.start, planes.stop, filling)

        parts = [(s, p) for s in slabs for p in _tiles.slabs((s.stop - s.start, *out.shape[1:]), _PART)]
        _tiles.run(work, parts, "slabs")


for _operation in ("affine", "resample"):
    KERNELS.usual_for(_operation, lambda dtype, ndim: [key] if (key := Compiled("linear", dtype).key) else [])
