"""Python's garbage collector, kept from stopping every thread when many objects have been made that will stay.

After an import of torch, or after numba has compiled something, the collector would look at each of the hundreds of
thousands of new objects, in two collections that follow each other: a tenth of a second and more for either, in which
no window is redrawn, to find next to nothing.
"""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_depth = 0
_was_on = False


@contextmanager
def many_lasting_objects() -> Iterator[None]:
    """Collect nothing meanwhile, and count what was made as old afterwards: only full collections look at it.

    It may be nested, and entered by several threads at once. Where something was frozen by `gc.freeze`, what was made
    is left to the next collections, since nothing can be counted as old without thawing that.

    Examples
    --------
    >>> with many_lasting_objects():
    ...     gc.isenabled()
    False
    """
    global _depth, _was_on
    with _lock:
        if _depth == 0:
            _was_on = gc.isenabled()
            gc.disable()
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0 and _was_on:
                if not gc.get_freeze_count():
                    # Both only hang lists together: nothing is looked at, nothing stays frozen.
                    gc.freeze()
                    gc.unfreeze()
                gc.enable()
