"""Memory that was freed and that the process still holds."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

# Numbers of GNU's options for what comes from the system by itself, and from which size on the heap is cut.
_BY_ITSELF, _CUT = -3, -1
# Bytes: while it is tight, and as the library itself has it once larger arrays were freed.
_TIGHT, _USUAL = 4 << 20, 32 << 20
_lock, _tight = Lock(), [0]


def give_back() -> None:
    """Give the system what was freed, where memory is short.

    GNU's C library keeps arrays of up to 32 MB for the next ones, and several answers of a network leave gaps that
    together come to more than one of them. Elsewhere nothing happens.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@contextmanager
def tight() -> Iterator[None]:
    """Leave no gaps in the heap: arrays of more than 4 MB go back to the system at once when they are freed.

    A network of a hundred layers that is asked once would leave several times what lives at once. Getting such arrays
    from the system takes longer, some hundredths of the time of a layer; so windows are asked about without this.
    """
    with _lock:
        _tight[0] += 1
        _set(_TIGHT)
    try:
        yield
    finally:
        with _lock:
            _tight[0] -= 1
            if not _tight[0]:
                _set(_USUAL)


def _set(size: int) -> None:
    change = _of_libc("mallopt")
    if change is not None:
        change(_BY_ITSELF, size)
        change(_CUT, 2 * size)


def _trim() -> "ctypes._FuncPointer | None":
    return _of_libc("malloc_trim")


@cache
def _of_libc(name: str) -> "ctypes._FuncPointer | None":
    if not sys.platform.startswith("linux"):
        return None
    # The C library is visible to the whole process; others than GNU's have no such function.
    return getattr(ctypes.CDLL(None), name, None)
