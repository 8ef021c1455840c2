"""Progress and cancelling for long work, without knowing who listens.

A loop says ``for window in track(windows, "windows")``. Whoever started the work may listen, in the same thread,
through a context variable; without a listener nothing is said and nothing is paid.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")
Listener = Callable[[str, int, int | None], None]

# Seconds, and the share of the work, after which the time left is told.
_SURE_AFTER = (2.0, 0.03)

_listener: ContextVar[Listener | None] = ContextVar("lightbox_progress", default=None)


class Cancelled(Exception):  # noqa: N818 - not an error: the user asked for it
    """The work was cancelled; nothing of it is kept."""


def track(items: Iterable[Item], description: str = "", total: int | None = None) -> Iterator[Item]:
    """Iterate over `items` and tell the listener how far the work is.

    Parameters
    ----------
    items : iterable
        What the loop goes through.
    description : str
        What is counted, in the plural: ``"windows"``, ``"slices"``.
    total : int, optional
        How many items there will be; asked from ``len(items)`` where not given.

    Yields
    ------
    object
        The items, in order.

    Raises
    ------
    Cancelled
        By the listener, before the next item is handed out.

    Examples
    --------
    >>> with listening(lambda what, done, total: print(what, done, total)):
    ...     for _ in track("ab", "letters"):
    ...         pass
    letters 0 2
    letters 1 2
    letters 2 2
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    report(description, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        report(description, done, total)


def report(description: str, done: int, total: int | None = None) -> None:
    """Tell the listener, if there is one, that `done` of `total` are done; it may raise `Cancelled`."""
    listener = _listener.get()
    if listener is not None:
        listener(description, done, total)


def is_heard() -> bool:
    """Whether somebody listens, and so may cancel the work."""
    return _listener.get() is not None


@contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Send the reports of all work inside the ``with`` block to ``listener(description, done, total)``.

    The listener cancels the work by raising `Cancelled`. Threads started inside do not inherit it.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def time_left(seconds: float, fraction: float) -> str:
    """Say how long work will still take, from how far it came in some seconds; nothing while that is anybody's guess.

    Examples
    --------
    >>> time_left(30, 0.25), time_left(300, 0.25), time_left(1, 0.5)
    ('about 90 s', 'about 15 min', '')
    """
    if seconds < _SURE_AFTER[0] or not _SURE_AFTER[1] <= fraction < 1:
        return ""
    left = seconds / fraction - seconds
    return f"about {left:.0f} s" if left < 100 else f"about {left / 60:.0f} min"
