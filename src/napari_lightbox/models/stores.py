"""Where large results are kept: in memory, or in a file on disk that is gone with its last volume.

With the extra ``scale`` the file holds compressed chunks of zarr; without it, it is mapped into memory. Either way
whoever looks at a slice reads little more than that: a viewer, the values at the cursor, or a program that goes through
it slice by slice. What was written does not stay in memory.
"""

import errno
import math
import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError
from . import chunks


def make(
    shape: Sequence[int], dtype: np.dtype | type, *, on_disk: bool, along: int = -3, chunked: bool | None = None
) -> "np.ndarray | chunks.Chunked":
    """Return an array of zeros, in memory or on disk.

    Parameters
    ----------
    shape, dtype
        As for `numpy.zeros`.
    on_disk : bool
        Whether it is in a file in the folder for temporary files (``TMPDIR`` names another).
    along : int
        One of the last three axes: that along which it will be written.
    chunked : bool, optional
        Of one on disk, whether it is compressed in chunks or a `numpy.memmap`; where not given, the first where zarr is
        installed and there are three axes or more.

    Raises
    ------
    FileError
        If there is not enough space on disk.

    Examples
    --------
    >>> array = make((2, 3), np.float16, on_disk=True)
    >>> array[1] = 1
    >>> float(array.sum()), isinstance(array, np.memmap)
    (3.0, True)
    """
    if not on_disk:
        return np.zeros(shape, dtype)
    if chunked is None:
        chunked = len(shape) > 2 and chunks.available()
    size = math.prod(shape) * np.dtype(dtype).itemsize
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    if size > free:
        raise FileError(
            f"the probabilities need {size / 1e9:.1f} GB on disk and {folder} has {free / 1e9:.1f} GB: keep fewer of "
            "them, or set TMPDIR to a folder with more space"
        )
    if chunked:
        axis = along % len(shape)
        return chunks.Chunked(chunks.Kept(shape, dtype, axis, lambda part, kind: _mapped(part, kind, folder)))
    return _mapped(shape, dtype, folder)


def _mapped(shape: Sequence[int], dtype: np.dtype | type, folder: Path) -> np.memmap:
    """Return a file mapped into memory."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    handle, name = tempfile.mkstemp(prefix="lightbox-", suffix=".raw")
    array = None
    try:
        os.truncate(handle, max(1, size))
        _reserve(handle, max(1, size))
        with os.fdopen(handle, "r+b", closefd=False) as file:
            array = np.memmap(file, dtype, "r+", shape=tuple(shape))
    except OSError as error:
        raise FileError(f"the probabilities cannot be kept in {folder}: {error}") from error
    finally:
        os.close(handle)
        _forget(name, array)
    return array


def _reserve(handle: int, size: int) -> None:
    """Take the space on disk now: what is only promised others could take, and writing to it would end the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        # Some file systems cannot reserve.
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise


def _forget(name: str, array: np.memmap | None) -> None:
    """Delete the file: at once where a file that is in use can lose its name, else when nobody uses it any more."""
    try:
        os.unlink(name)
    except OSError:
        # Windows keeps a file that is mapped; views of the array share the mapping.
        if array is not None:
            weakref.finalize(array._mmap, _unlink, name)


def _unlink(name: str) -> None:
    # At the end of the process a file may still be in use: then it is left to whoever clears temporary files.
    with suppress(OSError):
        os.unlink(name)


def view(array: "np.ndarray | chunks.Chunked", index: Any) -> "np.ndarray | chunks.Chunked":
    """Return a part of an array that can be written into; nothing is read."""
    return array.part(index) if isinstance(array, chunks.Chunked) else array[index]


def settle(array: "np.ndarray | chunks.Chunked") -> None:
    """Compress what is still open of an array in chunks: nothing more will be written."""
    if isinstance(array, chunks.Chunked):
        array.settle()


def release(array: "np.ndarray | chunks.Chunked") -> None:
    """Let the system write what an array on disk holds, and take its pages out of this process's memory."""
    if isinstance(array, chunks.Chunked):
        array.release()
        return
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
