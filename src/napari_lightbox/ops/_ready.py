"""Compiled kernels, made ready in the background: nobody waits for a compiler.

A kernel comes in variants: one for a type of voxel and a size of window, say. A variant is compiled once there was
enough to do for it, one variant after the other for all kernels of the process, so that compiling never takes more
than one core. Until it is ready the operation goes its plain way, which has the same result.

Compiled code is kept on disk, and loaded from there in some tenths of a second. What is not there yet is compiled by
a process of its own (`_compiling`): numba would hold the interpreter, and with it the window, for tenths of a second
at a time. Only where nothing can be kept, or no process be started, a thread compiles.

``LIGHTBOX_COMPILED=0`` in the environment switches all kernels off.
"""

import atexit
import importlib
import importlib.util
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Event, Thread

import numpy as np

from ._compiling import CompilingProcess

Key = tuple[str | int, ...]

log = logging.getLogger(__name__)
# Seconds after which the process that compiles is closed, if there is nothing to do for it.
_IDLE = 5.0
# Seconds that the end of the program waits for a variant that a thread loads: it must not end in the midst of it.
_PATIENCE = 2.0
_todo: deque["_Building"] = deque()
_wake = Condition()
_builder: Thread | None = None
_current: "_Building | None" = None
_ending = Event()
_waited_for: dict[tuple[str, Key], "Made"] | None = None
_process = CompilingProcess()
# Operation -> its kernels, and which of their variants it usually needs.
_usual: dict[str, list[tuple["Variants", Callable[[np.dtype, int], Iterable[Key]]]]] = {}


def switched_off() -> bool:
    """Whether the user wants no kernels."""
    return os.environ.get("LIGHTBOX_COMPILED") == "0"


def available() -> bool:
    """Whether kernels can be compiled: numba is installed, and nobody has switched them off."""
    return not switched_off() and importlib.util.find_spec("numba") is not None


class Variants:
    """Compiled variants of one kernel, made ready in the background.

    Parameters
    ----------
    module : str
        Name of a module in `_kernels`. Its ``build(key)`` compiles a variant (by `_kernels._jit.jit`, so that it is
        kept on disk) and returns the function, which lets other threads run.
    after : int
        Work (voxels) for a variant after which compiling it is worth its while.

    Notes
    -----
    A key is a flat tuple of texts and whole numbers: what tells one variant from another. All methods may be called
    from several threads at once.
    """

    def __init__(self, module: str, *, after: int) -> None:
        self.module, self.after = module, after
        self._ready: dict[Key, Callable] = {}
        self._seen: dict[Key, int] = {}
        self._building: dict[Key, _Building] = {}

    def get(self, key: Key) -> Callable | None:
        """Return the kernel if it is ready now; never blocks (but see `waiting`)."""
        if _waited_for is not None:
            self._wait_and_note(key)
        return None if switched_off() else self._ready.get(key)

    def ask(self, key: Key, work: int) -> None:
        """Say that so much work is to be done; begin to build in the background once there was enough."""
        if key in self._building:
            return
        with _wake:
            self._seen[key] = self._seen.get(key, 0) + int(work)
            enough = self._seen[key] >= self.after
        if enough and available():
            self._start(key)

    def expected(self, key: Key) -> bool:
        """Have a variant built now, whatever there is to do; False once that has ended, or where it cannot be."""
        return available() and not self._start(key).over.is_set()

    def wait(self, key: Key) -> Callable | None:
        """Build before all others, and wait until that has ended; None if it cannot be built."""
        if available():
            self._start(key, waited_for=True).over.wait()
        return None if switched_off() else self._ready.get(key)

    def usual_for(self, operation: str, keys: Callable[[np.dtype, int], Iterable[Key]]) -> None:
        """Say which variants an operation needs with its defaults, so that `warm` can ask for them.

        Parameters
        ----------
        operation : str
            Name in the catalogue.
        keys : callable
            From the type of the voxels and the number of axes, the variants.
        """
        _usual.setdefault(operation, []).append((self, keys))

    def _wait_and_note(self, key: Key) -> None:
        waited_for = _waited_for
        if self.wait(key) is not None and waited_for is not None:
            waited_for[self.module, key] = self._building[key].made

    def _start(self, key: Key, waited_for: bool = False) -> "_Building":
        """Put a variant into the queue, unless it is or was there."""
        global _builder
        with _wake:
            building = self._building.get(key)
            if building is None:
                building = self._building[key] = _Building(self, key)
                _todo.append(building)
            if waited_for and building in _todo:
                _todo.remove(building)
                _todo.appendleft(building)
                building.waited_for = True
            if _builder is None or not _builder.is_alive():
                _builder = Thread(target=_build_all, name="lightbox-compile", daemon=True)
                _builder.start()
            _wake.notify_all()
        return building


@dataclass(frozen=True)
class Made:
    """How a variant was made ready.

    Parameters
    ----------
    seconds : float
        Time it took in this process.
    compiled : bool
        Whether it was compiled here, not loaded from disk.
    """

    seconds: float
    compiled: bool


@contextmanager
def waiting() -> Iterator[dict[tuple[str, Key], Made]]:
    """Let operations wait for their kernels, for the whole process: for measurements.

    Gives a dictionary that is filled with all variants they used: module and key, and how that was made ready.
    """
    global _waited_for
    before, _waited_for = _waited_for, {}
    try:
        yield _waited_for
    finally:
        _waited_for = before


def warm(operation: str, dtype: np.dtype, ndim: int, voxels: int) -> None:
    """Say that an operation is likely to be used on a volume: its usual variants are asked for."""
    for variants, keys in _usual.get(operation, ()):
        for key in keys(np.dtype(dtype), ndim):
            variants.ask(key, voxels)


class _Building:
    """A variant in the queue, being built, or done."""

    def __init__(self, variants: Variants, key: Key) -> None:
        self.variants, self.key = variants, key
        self.waited_for = False
        self.over = Event()
        self.made: Made | None = None

    def run(self) -> None:
        """Build the variant; where that fails, the plain way serves for good."""
        variants, began = self.variants, time.perf_counter()
        try:
            kernel, compiled = self._build(variants.module)
            self.made = Made(time.perf_counter() - began, compiled)
            variants._ready[self.key] = kernel
        except Exception:
            if not _ending.is_set():
                log.warning("compiling %s for %s failed; the plain way serves", variants.module, self.key, exc_info=1)
        finally:
            self.over.set()

    def _build(self, module: str) -> tuple[Callable, bool]:
        """Return the kernel, and whether it was compiled here."""
        from ._kernels import _jit

        room = importlib.import_module(f"{__package__}._kernels.{module}")
        try:
            with _jit.only_kept():
                return room.build(self.key), False
        except _jit.NotKeptError:
            if self.waited_for:
                return room.build(self.key), True
        try:
            failure = _process.build(module, self.key)
        except OSError as error:
            if _ending.is_set():
                raise
            log.info("kernels are compiled in a thread: %s", error)
        else:
            if failure is not None:
                raise RuntimeError(failure)
        return room.build(self.key), True


def _build_all() -> None:
    """Build what is in the queue, for ever."""
    global _current
    while True:
        with _wake:
            if not _todo:
                _wake.wait(_IDLE)
            idle = not _todo
        if idle:
            _process.close()
        with _wake:
            while not _todo:
                _wake.wait()
            _current = _todo.popleft()
        _current.run()


@atexit.register
def _end() -> None:
    """Leave no process behind, and no thread in the midst of machine code."""
    _ending.set()
    _process.kill()
    _todo.clear()
    if _current is not None:
        _current.over.wait(_PATIENCE)
