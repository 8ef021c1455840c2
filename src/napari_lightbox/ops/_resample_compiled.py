"""The compiled way of resampling: made ready in the background while SimpleITK serves, with the same result.

A kernel is compiled for one interpolation and one type of voxel, once there was enough to do for it.
"""

import importlib.util
import logging
from collections.abc import Callable, Sequence
from threading import Lock, Thread

import numpy as np

from ..progress import track
from . import _tiles

# Output voxels of an interpolation and a type after which compiling is worth its while: some hundredths of a second.
COMPILE_AFTER = 1 << 22
# Output voxels of a part: some milliseconds.
_PART = 1 << 19
_SLAB = 1 << 23
_LINEAR = {np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")}

_lock = Lock()
_seen: dict[tuple[str, np.dtype], int] = {}
_threads: dict[tuple[str, np.dtype], Thread] = {}
_kernels: dict[tuple[str, np.dtype], Callable] = {}


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
        self.key: tuple[str, np.dtype] | None = None
        if order == "nearest":
            # Voxels are moved as they are: only their width counts.
            self.key = (order, np.dtype(f"u{dtype.itemsize}"))
        elif order == "linear" and dtype in _LINEAR:
            self.key = (order, dtype)

    @property
    def ready(self) -> bool:
        """Whether the kernel can be used now."""
        return self.key in _kernels

    def ask(self, voxels: int) -> None:
        """Say that so many voxels are to be resampled; begin to compile in the background when that is worth it."""
        if self.key is None or self.ready:
            return
        with _lock:
            _seen[self.key] = _seen.get(self.key, 0) + voxels
            if _seen[self.key] >= COMPILE_AFTER and self.key not in _threads and _has_numba():
                _threads[self.key] = Thread(target=_compile, args=self.key, name="lightbox-compile", daemon=True)
                _threads[self.key].start()

    def wait(self) -> bool:
        """Compile, wait until that has ended, and say whether it went well."""
        self.ask(COMPILE_AFTER)
        if self.key in _threads:
            _threads[self.key].join()
        return self.ready

    def source(self, data: np.ndarray) -> np.ndarray | None:
        """Return the voxels (z, y, x) as the kernel takes them; None where it cannot work on them."""
        if self.key[0] == "nearest":
            flat = np.ascontiguousarray(data).view(self.key[1]).reshape(-1)
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
        kernel, width = _kernels[self.key], out.shape[2]
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


def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


def _compile(order: str, dtype: np.dtype) -> None:
    try:
        from ._kernels import resample

        kernel = resample.nearest_1 if order == "nearest" else resample.linear_1
        source = np.zeros(4, dtype)
        source.flags.writeable = order == "linear"
        out, one = np.zeros((1, 1, 1), dtype), np.zeros(1)
        kernel(source, (1, 1, 1), np.eye(3), np.zeros(3), one, out, 0, 1, dtype.type(0))
    except Exception:
        # SimpleITK does the same, only slower.
        logging.getLogger(__name__).warning("compiling the %s resampling failed", order, exc_info=True)
    else:
        _kernels[order, dtype] = kernel
