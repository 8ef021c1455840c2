"""Taking times: contestants in turns, and how fast the machine copies."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ops import _tiles

# Copied at once by a thread; far more than any cache holds, all together.
_COPIED = 1 << 28
_PART = 1 << 24


@dataclass(frozen=True)
class Timed:
    """The median time of a call, and how often it was measured."""

    seconds: float
    calls: int


def copy_bandwidth(size: int = _COPIED) -> float:
    """Return how many bytes a second all threads together read and write when they copy memory."""
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    parts = [slice(i, i + _PART) for i in range(0, size, _PART)]
    best = 0.0
    for _ in range(5):
        began = time.perf_counter()
        _tiles.run(lambda part: np.copyto(target[part], source[part]), parts, "copying")
        best = max(best, 2 * size / (time.perf_counter() - began))
    return best


def race(
    calls: dict[str, Callable[[], Any]], seconds: float, rounds: int
) -> tuple[dict[str, Timed], dict[str, Any], dict[str, str]]:
    """Call all contestants in turns, so that a busy machine slows all of them.

    Parameters
    ----------
    calls : dict of callable
        The contestants.
    seconds : float
        Time for all of them together after their first calls. Who would take more than its share of it is called only
        once, and that call counts.
    rounds : int
        Most calls of each.

    Returns
    -------
    times : dict of Timed
        Medians; the first call, which warms up, is left out where there are others.
    results : dict
        What the first calls returned.
    failures : dict of str
        What those who failed said; they have no time and no result.
    """
    results: dict[str, Any] = {}
    failures: dict[str, str] = {}
    first: dict[str, float] = {}
    for name, call in calls.items():
        began = time.perf_counter()
        try:
            results[name] = call()
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        else:
            first[name] = time.perf_counter() - began
    share = seconds / len(calls)
    taken: dict[str, list[float]] = {name: [] for name in first}
    for _ in range(rounds):
        for name in first:
            if sum(taken[name]) + first[name] > share:
                continue
            began = time.perf_counter()
            calls[name]()
            taken[name].append(time.perf_counter() - began)
    times = {name: found or [first[name]] for name, found in taken.items()}
    return {name: Timed(statistics.median(found), len(found)) for name, found in times.items()}, results, failures
