"""The distances of a surface, reduced to what is asked for: all at once, or one part after the other.

What comes in parts is never held. On a grid distances take few values, so they are counted value by value; where these
are too many, in bins of neighbouring values, and only the values in the bin of a percentile are counted in another
round. Percentiles are those of all distances, to the last digit.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

# Some distances in mm, and what each of them weighs; None where that is the same for all.
Some = tuple[np.ndarray, np.ndarray | None]
# Bytes that a counted value takes at most, while some are counted.
_VALUE = 160
# Binary digits by which bins become wider at a time.
_WIDER = 4
# A share of all weights is reached if no more than this is missing: the order of a sum must not decide between equals.
_ROUNDING = 1e-12


class Side(NamedTuple):
    """The distances of one surface from the other, of which no more is kept than was asked for.

    Parameters
    ----------
    percentiles : tuple of float
        In mm.
    total : float
        Sum of the distances, in mm, or of each times what its point weighs.
    within : float
        Number of those within a tolerance, or their weight.
    whole : float
        Number of all, or their weight.
    """

    percentiles: tuple[float, ...]
    total: float
    within: float
    whole: float


def reduced(found: np.ndarray, weights: np.ndarray | None, percentiles: Sequence[float], tolerance: float) -> Side:
    """Reduce the distances of a surface, which are put into another order, to what is asked for."""
    total, within, whole = _sums(found, weights, tolerance)
    # After the sum, whose last digits depend on the order.
    if weights is None:
        parts = np.percentile(found, list(percentiles), overwrite_input=True).tolist() if percentiles else []
    else:
        parts = [_percentile(found, weights, percentile) for percentile in percentiles]
    return Side(tuple(parts), total, within, whole)


def reduced_in_parts(
    parts: Callable[[], Iterable[Some]], percentiles: Sequence[float], tolerance: float, most: int
) -> Side:
    """Reduce the distances of a surface that come in parts, in up to `most` bytes.

    Parameters
    ----------
    parts : callable
        Goes through all parts, as often as it is called: more than once only where there are more different distances
        than fit.
    percentiles : sequence of float
    tolerance : float
        In mm.
    most : int
        Bytes.
    """
    sums, counted = [], _Counted(most // _VALUE)
    for found, weights in parts():
        sums.append(_sums(found, weights, tolerance))
        if percentiles:
            counted.add(found, weights)
    total, within, whole = (math.fsum(column) for column in zip(*sums, strict=True))
    if weights is None:
        places = [(whole - 1) * (percentile / 100) for percentile in percentiles]
        # The number of the distance before, and of that behind; from 1 on.
        targets = [min(math.floor(place) + more, whole) for place in places for more in (1, 2)]
        values = iter(_reached(parts, counted, targets, 1.0))
        found = [_between(a, b, place % 1) for place, a, b in zip(places, values, values, strict=False)]
    else:
        found = _reached(parts, counted, [_share(percentile) for percentile in percentiles], whole)
    return Side(tuple(found), total, within, whole)


def _sums(found: np.ndarray, weights: np.ndarray | None, tolerance: float) -> tuple[float, float, float]:
    if weights is None:
        return float(found.sum()), float(np.count_nonzero(found <= tolerance)), float(len(found))
    return float((found * weights).sum()), float(weights[found <= tolerance].sum()), float(weights.sum())


def _percentile(found: np.ndarray, weights: np.ndarray, percentile: float) -> float:
    order = np.argsort(found)
    share = np.cumsum(weights[order])
    place = np.searchsorted(share / share[-1], _share(percentile))
    return float(found[order[min(place, len(found) - 1)]])


def _share(percentile: float) -> float:
    return percentile / 100 - _ROUNDING


def _between(low: float, high: float, share: float) -> float:
    """Interpolate as numpy's percentiles do: from the nearer side."""
    gap = high - low
    return high - gap * (1 - share) if share >= 0.5 else low + gap * share


class _Counted:
    """How often distances between two limits occur, or what they weigh: by value, or in bins if these are too many.

    Parameters
    ----------
    most : int
        Values, or bins.
    low, high : int
        Limits, the latter not included. Distances stand as the whole numbers that their bits are, which have the same
        order.
    """

    def __init__(self, most: int, low: int = 0, high: int = 1 << 63) -> None:
        self.most, self._low, self._high, self._dropped = max(64, most), low, high, 0
        self._keys, self._amounts = [np.empty(0, np.int64)], [np.empty(0)]
        self._size = 0

    def add(self, found: np.ndarray, weights: np.ndarray | None) -> None:
        """Count some more distances."""
        keys = found.view(np.int64)
        if self._low or self._high < 1 << 63:
            inside = (keys >= self._low) & (keys < self._high)
            keys, weights = keys[inside], None if weights is None else weights[inside]
        # A few at a time: what is made of them takes several times the memory.
        for start in range(0, len(keys), self.most):
            part = slice(start, start + self.most)
            some, amounts = _summed(keys[part] >> self._dropped, None if weights is None else weights[part])
            self._keys.append(some)
            self._amounts.append(amounts)
            self._size += len(some)
            if self._size > self.most:
                self._merge()

    def _merge(self) -> None:
        if len(self._keys) == 1:
            return
        keys, amounts = np.concatenate(self._keys), np.concatenate(self._amounts)
        while True:
            keys, amounts = _summed(keys, amounts)
            # Half, so that not every part has to be merged at once.
            if len(keys) <= self.most // 2:
                break
            keys >>= _WIDER
            self._dropped += _WIDER
        self._keys, self._amounts, self._size = [keys], [amounts], len(keys)

    def reached(self, before: float, target: float, scale: float) -> tuple[int, int, float]:
        """Return the first bin with which some share of all is reached, and what lies before it.

        Parameters
        ----------
        before : float
            What lies before the lower limit.
        target : float
            Share of `scale`.
        scale : float
        """
        self._merge()
        (keys,), (amounts,) = self._keys, self._amounts
        upto = before + np.cumsum(amounts)
        place = min(int(np.searchsorted(upto / scale, target)), len(keys) - 1)
        key = int(keys[place])
        return key << self._dropped, (key + 1) << self._dropped, float(upto[place - 1]) if place else before


def _reached(
    parts: Callable[[], Iterable[Some]], counted: _Counted, targets: Sequence[float], scale: float
) -> list[float]:
    """Return for some shares of `scale` the distances up to which so much lies; `counted` are all of them."""
    found: dict[float, float] = {}
    todo = [(counted, 0.0, list(targets))]
    while todo:
        narrower: dict[tuple[int, int, float], list[float]] = {}
        for each, before, wanted in todo:
            for target in wanted:
                low, high, less = each.reached(before, target, scale)
                if high - low == 1:
                    found[target] = float(np.int64(low).view(np.float64))
                else:
                    narrower.setdefault((low, high, less), []).append(target)
        room = counted.most // max(1, len(narrower))
        todo = [(_Counted(room, low, high), less, wanted) for (low, high, less), wanted in narrower.items()]
        for some in parts() if todo else ():
            for each, _, _ in todo:
                each.add(*some)
    return [found[target] for target in targets]


def _summed(keys: np.ndarray, amounts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return every key once, in order, and the sum of its amounts; of ones where there are none."""
    if amounts is None:
        keys, counts = np.unique(keys, return_counts=True)
        return keys, counts.astype(float)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
    return keys[starts], np.add.reduceat(amounts[order], starts) if len(starts) else amounts
