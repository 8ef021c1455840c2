"""How our kernels are compiled, and kept on disk.

numba keeps compiled code beside the package, or in the user's own folder where that may not be written
(``NUMBA_CACHE_DIR`` names another). It notices when the file of a kernel changes, not when what the kernel is made
from does: therefore what is kept holds for all files of this folder as they are, and for no others.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from pathlib import Path

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.sigutils import normalize_signature

log = logging.getLogger(__name__)
_only_kept: ContextVar[bool] = ContextVar("lightbox_only_kept", default=False)


class NotKeptError(Exception):
    """A kernel would have to be compiled: it is not on disk."""


@cache
def _sources() -> str:
    """Return a digest of all files that kernels are made from."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Cache(FunctionCache):
    """numba's place on disk, where damaged files and a full disk are no errors."""

    def __init__(self, function: Callable) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp(), _sources()
        self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, stamp)

    def load_overload(self, sig, target_context):
        found = None
        try:
            found = super().load_overload(sig, target_context)
        except Exception as error:
            log.info("compiled %s on disk cannot be read: %s", self._name, error)
        # Two processes that write at once may leave the code of one type of voxel under the name of another.
        if found is not None and tuple(found.signature.args) != tuple(normalize_signature(sig)[0]):
            found = None
        if found is None and _only_kept.get():
            raise NotKeptError(self._name)
        return found

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:
            log.info("compiled %s cannot be kept on disk: %s", self._name, error)


def jit(function: Callable | None = None, **options) -> Callable:
    """Compile a kernel that lets other threads run; keep the code on disk where there is a place for it.

    Parameters
    ----------
    function : callable
        The kernel, a function of a module.
    **options
        More options of `numba.njit`.
    """
    if function is None:
        return partial(jit, **options)
    compiled = numba.njit(nogil=True, **options)(function)
    try:
        compiled._cache = _Cache(function)
    except (RuntimeError, OSError) as error:
        # No folder may be written: not beside the package, nor in the user's own.
        log.info("compiled %s cannot be kept on disk: %s", function.__name__, error)
    return compiled


@contextmanager
def only_kept() -> Iterator[None]:
    """Let kernels be loaded from disk only: where one that is kept there must be compiled, raise `NotKeptError`."""
    token = _only_kept.set(True)
    try:
        yield
    finally:
        _only_kept.reset(token)
