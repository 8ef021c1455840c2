"""How our kernels are compiled."""

import logging
from collections.abc import Callable

import numba


def jit(function: Callable) -> Callable:
    """Compile a kernel that lets other threads run; keep the code on disk where there is a place for it."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        # No folder may be written: not beside the package, nor in the user's own.
        logging.getLogger(__name__).info("compiled %s cannot be kept on disk", function.__name__)
        return numba.njit(nogil=True)(function)
