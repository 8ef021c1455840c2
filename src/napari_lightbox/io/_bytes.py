"""Reading voxels so that a damaged file is noticed, a long read shows progress, and memory is asked for first."""

import gzip
import io
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import FileError
from ..memory import free_memory
from ..progress import report

BLOCK = 8 << 20
# No deflate stream shrinks its input more than this; a header that asks for more than it could hold is wrong.
_MOST_DEFLATE = 1040


def size_text(count: float) -> str:
    """Write a number of bytes as people read it."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def require_memory(path: Path, needed: int) -> None:
    """Raise `FileError` if `needed` bytes are more than the memory that is free."""
    free = free_memory()
    if free is not None and needed > free:
        raise FileError(
            f"{path} needs {size_text(needed)} of memory, {size_text(free)} is free: close other programs, "
            "or open it on a machine with more memory"
        )


def require_bytes(path: Path, needed: int, there: int) -> None:
    """Raise `FileError` unless `there` bytes on disk can hold the `needed` bytes that the header promises."""
    if there < needed:
        raise FileError(
            f"{path} is cut short: its header promises {needed} bytes of voxels and {max(there, 0)} are there; "
            "copy the file again from its source"
        )


def require_compressed(path: Path, needed: int, there: int) -> None:
    """Raise `FileError` if no compression could have put `needed` bytes into the `there` bytes on disk."""
    if needed > there * _MOST_DEFLATE:
        raise FileError(
            f"{path} is cut short or its header is wrong: {there} compressed bytes cannot hold the {needed} bytes of "
            "voxels that the header promises; copy the file again from its source"
        )


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Turn what the decompressors raise into a sentence about the file."""
    try:
        yield
    except FileError:
        raise
    except EOFError as error:
        raise FileError(
            f"{path} is cut short: its compressed data end too early; copy the file again from its source"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise FileError(
            f"{path} is damaged: its compressed data fail their check ({error}); copy the file again from its source"
        ) from error
    except FileNotFoundError as error:
        raise FileError(f"{error.filename or path} does not exist: check the name") from error
    except PermissionError as error:
        raise FileError(f"{path} may not be read: change its permissions") from error
    except OSError as error:
        # bz2 reports damage as a plain OSError; so does a disk that fails.
        raise FileError(f"{path} cannot be read ({error.strerror or error}): copy the file again") from error


def read_array(stream: BinaryIO, path: Path, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Read an array, C order, from `stream`; it comes back in the byte order of this machine.

    Raises
    ------
    FileError
        If the stream ends before the array is full.
    Cancelled
        By the listener of `progress`, between two blocks.
    """
    dtype = np.dtype(dtype)
    array = np.empty(tuple(shape), dtype)
    raw = array.reshape(-1).view(np.uint8)
    total = max(1, math.ceil(raw.size / BLOCK))
    done = 0
    view = memoryview(raw)
    report("blocks read", 0, total)
    while done < raw.size:
        got = stream.readinto(view[done : done + BLOCK])
        if not got:
            require_bytes(path, raw.size, done)
        done += got
        report("blocks read", -(-done // BLOCK), total)
    if not dtype.isnative:
        array = array.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return array


def drain(stream: BinaryIO) -> int:
    """Read to the end, so that checksums at the end are compared; return how many bytes were left."""
    count = 0
    while chunk := stream.read(BLOCK):
        count += len(chunk)
    return count


class Inflate(io.RawIOBase):
    """A zlib or gzip stream inside another file; its end and checksum are verified."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file, self._left = file, length
        self._machine = zlib.decompressobj(wbits=47)  # 32 + 15: header of zlib or of gzip

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer) -> int:
        """Fill the buffer as far as one step of decompression goes; 0 at the end."""
        while not self._machine.eof:
            chunk = self._machine.unconsumed_tail
            if not chunk:
                chunk = self._file.read(min(1 << 16, self._left))
                self._left -= len(chunk)
            if not chunk:
                raise EOFError
            data = self._machine.decompress(chunk, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
        return 0
