"""Ask a network in a thread of its own, so that cancelling need not wait for its answer.

A window can be the whole volume, and a network may think about it for minutes. The work that asked looks every fifth
of a second whether it was cancelled; if so it leaves at once, and the network stops at its next torch function.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ..progress import Cancelled, listening

_LOOK_EVERY = 0.2  # seconds


class _StopAsked(TorchFunctionMode):
    """Lets no further torch function start once nobody waits for the answer."""

    def __init__(self, stopped: threading.Event) -> None:
        super().__init__()
        self._stopped = stopped

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if self._stopped.is_set():
            raise Cancelled
        return function(*args, **(kwargs or {}))


@contextmanager
def leavable(network: Callable[[Any], Any], look: Callable[[], None]) -> Iterator[Callable[[Any], Any]]:
    """Give a function that asks `network`, calls `look` while it waits, and can be left by an exception of `look`.

    Parameters
    ----------
    network : callable
        What is asked; all calls come from one other thread, in inference mode.
    look : callable
        Called about five times a second; raises `Cancelled` to leave.

    Yields
    ------
    callable
        Takes what the network takes and returns what it returns, or raises what it raises.

    Examples
    --------
    >>> with leavable(lambda x: x + 1, lambda: None) as ask:
    ...     ask(torch.zeros(2)).tolist()
    [1.0, 1.0]
    """
    questions: queue.SimpleQueue = queue.SimpleQueue()
    answers: queue.SimpleQueue = queue.SimpleQueue()
    stopped = threading.Event()
    context = copy_context()

    def answer_all() -> None:
        # Progress is told by the one who asked, not by two threads at once.
        with listening(None), torch.inference_mode(), _StopAsked(stopped):
            while (question := questions.get()) is not None:
                try:
                    answers.put((network(question[0]), None))
                except BaseException as error:
                    answers.put((None, error))
                del question

    # A daemon: a process that ends does not wait for an answer that nobody wants.
    threading.Thread(target=context.run, args=(answer_all,), name="lightbox-network", daemon=True).start()

    def ask(inputs: Any) -> Any:
        questions.put((inputs,))
        del inputs
        while True:
            try:
                answer, error = answers.get(timeout=_LOOK_EVERY)
            except queue.Empty:
                look()
                continue
            if error is not None:
                raise error
            return answer

    try:
        yield ask
    finally:
        stopped.set()
        questions.put(None)
