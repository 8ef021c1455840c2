"""The nearest label around every voxel, by exact distances in mm, no farther than a radius.

A voxel's state is one whole number: the square of the distance to a label in its upper bits, the rank of the label in
its lower ones. So the smaller number is the nearer label and, at equal distance, the lower one, and one pass along
each axis of ``min(state of a neighbour + square of its distance)`` finds the least (T. Saito and J. Toriwaki, New
algorithms for Euclidean distance transformation of an n-dimensional digitized picture, Pattern Recognition 27, 1994).
"""

import math
from collections.abc import Sequence

import numpy as np

from ..progress import track
from . import _ball, _lines, _tiles

_FAR = 1 << 62
_SLAB = 1 << 19
_THICK = 1 << 23
# Parts of the square of the smallest spacing in which squares of distances are counted: 2 ** this, if there is room.
_FINEST = 30


def nearest(
    labels: np.ndarray, values: np.ndarray, radius: float, spacing: Sequence[float], element: str
) -> np.ndarray:
    """Return for every voxel the nearest of the labels within `radius`, itself where it has one; 0 where there is none.

    Parameters
    ----------
    labels : ndarray of int
        0 is background.
    values : ndarray
        The labels that occur, increasing, without 0.
    radius : float
        In mm.
    spacing : sequence of float
        In mm, in array order.
    element : {"ball", "box"}
        Whether distances or differences along each axis are limited.
    """
    reach = [min(r, n - 1) for r, n in zip(_ball.reaches(radius, spacing), labels.shape, strict=True)]
    table = np.concatenate([np.zeros(1, labels.dtype), np.asarray(values, labels.dtype)])
    rank_bits = len(values).bit_length()
    least = min(spacing)
    # Squares as whole numbers add up to the same sum in any order, so that ties are ties.
    ratios = [(s / least) ** 2 for s in spacing]
    span = sum(ratio * r**2 for ratio, r in zip(ratios, reach, strict=True))
    fine = min(_FINEST, 61 - rank_bits - math.ceil(math.log2(span + 2)))
    units = [round(ratio * 2.0**fine) for ratio in ratios]
    limit = _FAR >> rank_bits
    if element == "ball":
        limit = min(limit, int((radius * _ball.ROUNDING / least) ** 2 * 2.0**fine + 0.5))

    def finish(state: np.ndarray) -> np.ndarray:
        rank = (state & ((1 << rank_bits) - 1)).astype(np.intp)
        rank[(state >> rank_bits) > limit] = 0
        return table[rank]

    if not any(reach):
        return labels.copy()
    result = np.empty(labels.shape, labels.dtype)
    # A slab and what lies within reach of it at a time: states take eight bytes a voxel.
    thick = max(_THICK // max(1, labels[:1].size), 2 * reach[0], 1)
    for first in track(range(0, len(labels), thick), "slabs"):
        low, high = max(0, first - reach[0]), min(len(labels), first + thick + reach[0])
        state = _states(labels[low:high], values)
        found = _lines.passes(
            state,
            [2 * r + 1 for r in reach],
            "nearest",
            lambda axis: _lowest([k * k * units[axis] << rank_bits for k in range(reach[axis] + 1)]),
            dtype=labels.dtype,
            between=state.dtype,
            inner=state.dtype,
            finish=finish,
        )
        result[first : first + thick] = found[first - low : first - low + thick]
    return result


def _states(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    state = np.full(labels.shape, _FAR)

    def rank(slab: slice) -> None:
        inside = labels[slab] != 0
        state[slab][inside] = np.searchsorted(values, labels[slab][inside]) + 1

    _tiles.run(rank, _tiles.slabs(labels.shape, _SLAB), "slabs")
    return state


def _lowest(costs: list[int]) -> _lines.Kernel:
    """Return the kernel of the smallest of neighbours, each plus the cost of its distance."""
    reach = len(costs) - 1

    def kernel(flat: np.ndarray, step: int, spare: Sequence[np.ndarray]) -> np.ndarray:
        length = len(flat) - 2 * reach * step
        total, other = spare[0][:length], spare[1][:length]
        total[...] = flat[reach * step : reach * step + length]
        for k in range(1, reach + 1):
            near, far = (reach - k) * step, (reach + k) * step
            np.minimum(flat[near : near + length], flat[far : far + length], out=other)
            np.add(other, costs[k], out=other)
            np.minimum(total, other, out=total)
        # What is far stays as far as it was, or sums would overflow.
        return np.minimum(total, _FAR, out=total)

    return kernel
