"""Ask a network so that cancelling need not wait long for its answer.

A window can be the whole volume, and a network may think about it for minutes. So it is asked in a thread of its own,
and the work that asked looks every fifth of a second whether it was cancelled; if so it leaves at once, and the network
stops at its next torch function.

A network that answers within a second is asked in the thread of the work, and so is any where nobody listens who could
cancel: that thread's memory and its OpenMP threads are warm already, which saves small networks a tenth of their time.
"""

import atexit
import ctypes
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from ..progress import Cancelled, is_heard, listening

Item = TypeVar("Item")

_LOOK_EVERY = 0.2  # seconds
# An answer that took no longer is waited for.
_SHORT = 1.0  # seconds
# What a process that ends waits for at most.
_LAST = 20.0  # seconds
_END = object()
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
# Of OpenMP's omp_pause_resource: threads end, what was set stays.
_SOFTLY = 1


class _StopAsked(TorchFunctionMode):
    """Lets no further torch function start once nobody waits for the answer."""

    def __init__(self, stopped: threading.Event) -> None:
        super().__init__()
        self._stopped = stopped

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if self._stopped.is_set():
            raise Cancelled
        return function(*args, **(kwargs or {}))


class Away:
    """What `leavable` gives: has work done, in another thread where somebody may cancel and the last was not short.

    Parameters
    ----------
    network : callable
        What is asked.
    look : callable
        Called about five times a second while the other thread is waited for; raises `Cancelled` to leave.
    """

    def __init__(self, network: Callable[[Any], Any], look: Callable[[], None]) -> None:
        self._network, self._look = network, look
        self._context = copy_context()
        self._questions: queue.SimpleQueue | None = None
        self._stopped = threading.Event()
        self._took = float("inf")

    def __call__(self, inputs: Any) -> Any:
        """Return what the network answers to `inputs`, or raise what it raises."""
        return self.timed(lambda: self._done(self._network, inputs))

    def each(self, items: Iterable[Item]) -> Iterator[Item]:
        """Give what an iterable holds, as it makes them; `look` is not called between two of them.

        Where a network is asked for them, that is to be done by `timed`.
        """
        items = iter(items)
        while (item := self._done(_next, items)) is not _END:
            yield item

    def timed(self, network: Callable[[], Item]) -> Item:
        """Ask a network, and note how long its answer took: the next will take as long."""
        start = time.perf_counter()
        try:
            return network()
        finally:
            self._took = time.perf_counter() - start

    def leave(self) -> None:
        """Stop waiting; the other thread ends as soon as it can."""
        self._stopped.set()
        self._end()

    def _done(self, function: Callable[[Any], Any], given: Any) -> Any:
        if self._took > _SHORT and is_heard():
            return self._elsewhere(function, given)
        # The threads that OpenMP keeps for the other thread end with it.
        self._end()
        with _as_asked():
            return function(given)

    def _elsewhere(self, function: Callable[[Any], Any], given: Any) -> Any:
        _let_threads_go()
        if self._questions is None:
            self._questions = queue.SimpleQueue()
            work = (_answer_all, self._questions, self._stopped)
            # A daemon: a process that ends waits for an answer that nobody wants a while only, see `_wait_for_all`.
            # A copy: that of a thread which is still about to end cannot be entered by another.
            run = self._context.copy().run
            thread = threading.Thread(target=run, args=work, name="lightbox-network", daemon=True)
            _threads.add(thread)
            thread.start()
        answers: queue.SimpleQueue = queue.SimpleQueue()
        self._questions.put((function, given, answers))
        del given
        while True:
            try:
                answer, error = answers.get(timeout=_LOOK_EVERY)
            except queue.Empty:
                self._look()
                continue
            if error is None:
                return answer
            try:
                raise error
            finally:
                # It holds on to this frame, and to all that the network had in use.
                del error

    def _end(self) -> None:
        if self._questions is not None:
            self._questions.put(None)
            self._questions = None


@contextmanager
def leavable(network: Callable[[Any], Any], look: Callable[[], None]) -> Iterator[Away]:
    """Give a function that asks `network`, calls `look` while it waits, and can be left by an exception of `look`.

    Parameters
    ----------
    network : callable
        What is asked, in inference mode, by one thread at a time.
    look : callable
        Called about five times a second during an answer that may take long; raises `Cancelled` to leave.

    Yields
    ------
    Away
        Takes what the network takes and returns what it returns, or raises what it raises.

    Examples
    --------
    >>> with leavable(lambda x: x + 1, lambda: None) as ask:
    ...     ask(torch.zeros(2)).tolist()
    [1.0, 1.0]
    """
    away = Away(network, look)
    try:
        yield away
    finally:
        away.leave()


@atexit.register
def _wait_for_all() -> None:
    """Let answers that were left come to their end: Python aborts where a thread comes back to it too late."""
    until = time.monotonic() + _LAST
    for thread in list(_threads):
        thread.join(max(0.0, until - time.monotonic()))


def _next(items: Iterator[Item]) -> Item | object:
    return next(items, _END)


@contextmanager
def _as_asked() -> Iterator[None]:
    # Progress is told by the one who asked, not by two at once.
    with listening(None), torch.inference_mode():
        yield


def _answer_all(questions: queue.SimpleQueue, stopped: threading.Event) -> None:
    with _as_asked(), _StopAsked(stopped):
        while (question := questions.get()) is not None:
            function, given, answers = question
            del question
            try:
                answers.put((function(given), None))
            except BaseException as error:
                answers.put((None, error))
            del function, given, answers


def _let_threads_go() -> None:
    """End the threads that OpenMP keeps for the calling thread; they come back when it next needs them.

    GNU's OpenMP counts all that it keeps. Where they are more than processors, each waits asleep between two layers
    of a network instead of awake.
    """
    library = _openmp()
    if library is not None:
        library.omp_pause_resource(_SOFTLY, library.omp_get_initial_device())


@cache
def _openmp() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    # torch's libraries are visible to the whole process.
    found = ctypes.CDLL(None)
    return found if hasattr(found, "omp_pause_resource") else None
