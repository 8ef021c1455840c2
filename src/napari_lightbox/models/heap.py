"""Memory that was freed and that the process still holds."""

import ctypes
import sys
from functools import cache


def give_back() -> None:
    """Give the system what was freed, where memory is short.

    GNU's C library keeps arrays of up to 32 MB for the next ones, and several answers of a network leave gaps that
    together come to more than one of them. Elsewhere nothing happens.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> "ctypes._FuncPointer | None":
    if not sys.platform.startswith("linux"):
        return None
    # The C library is visible to the whole process; others than GNU's have no such function.
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
