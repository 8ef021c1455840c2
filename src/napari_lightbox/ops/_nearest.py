"""The nearest label around every voxel, by exact distances in mm, no farther than a radius.

A voxel's state is one whole number: the square of the distance to a label in its upper bits, the rank of the label in
its lower ones. So the smaller number is the nearer label and, at equal distance, the lower one, and one pass along
each axis of ``min(state of a neighbour + square of its distance)`` finds the least (T. Saito and J. Toriwaki, New
algorithms for Euclidean distance transformation of an n-dimensional digitized picture, Pattern Recognition 27, 1994).
"""

import math
from collections.abc import Sequence

import numpy as np

from . import _ball, _lines, _tiles
from ._bricks import one_by_one

_FAR = 1 << 62
# Voxels of a slab, whose states are kept at a time, of the pieces that one thread makes states of, and of those in
# which it looks along the first axis.
_THICK, _PIECE, _CHUNK = 1 << 22, 1 << 18, 1 << 17
# Parts of the square of the smallest spacing in which squares of distances are counted: 2 ** this, if there is room.
_FINEST = 30


def nearest(
    labels: np.ndarray,
    values: np.ndarray,
    radius: float,
    spacing: Sequence[float],
    element: str,
    planes: slice | None = None,
    out: np.ndarray | None = None,
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
    planes : slice, optional
        Indices of the first axis, from a start to a stop, whose voxels are wanted; all where not given.
    out : ndarray, optional
        Where the result is written; it shares no memory with `labels`.
    """
    planes = planes or slice(0, len(labels))
    result = np.empty((planes.stop - planes.start, *labels.shape[1:]), labels.dtype) if out is None else out
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
        result[...] = labels[planes]
        return result
    kernels = [_lowest([k * k * unit << rank_bits for k in range(r + 1)]) for r, unit in zip(reach, units, strict=True)]
    _sweep(labels, values, reach, kernels, finish, planes, result)
    return result


def _sweep(
    labels: np.ndarray,
    values: np.ndarray,
    reach: Sequence[int],
    kernels: Sequence[_lines.Kernel],
    finish: _lines.Finish,
    planes: slice,
    result: np.ndarray,
) -> None:
    """Find the least states of some planes: of a slab and of what lies within reach of it at a time.

    They take eight bytes a voxel. The first axis comes last: the planes that two slabs look at are made once.
    """
    ahead, total = reach[0], len(labels)
    thick = max(1, min(_THICK // max(1, labels[:1].size), planes.stop - planes.start))
    state = np.empty((thick + 2 * ahead, *labels.shape[1:]), np.int64)

    def one(first: int) -> None:
        stop, known = min(first + thick, planes.stop), 0
        if first > planes.start:
            state[: 2 * ahead], known = state[thick:].copy(), 2 * ahead
        low, high = first - ahead, stop + ahead
        inside = slice(max(0, low + known), min(total, high))
        if inside.start < inside.stop:
            _begin(labels[inside], values, reach, kernels, state[inside.start - low : inside.stop - low])
        state[known : max(known, -low)] = state[max(known, total - low) : high - low] = _FAR
        _end(state[: high - low], ahead, kernels[0], finish, result[first - planes.start : stop - planes.start])

    one_by_one(one, range(planes.start, planes.stop, thick), "slabs")


def _begin(labels: np.ndarray, values: np.ndarray, reach: Sequence[int], kernels: Sequence, state: np.ndarray) -> None:
    """Find the least states within reach along all axes but the first."""
    sizes = [1, *(2 * r + 1 for r in reach[1:])]

    def work(piece: slice) -> None:
        kinds = dict.fromkeys(("dtype", "between", "inner"), state.dtype)
        states = _states(labels[piece], values)
        state[piece] = _lines.passes(states, sizes, "nearest", lambda axis: kernels[axis], **kinds)

    _tiles.run(work, _tiles.slabs(labels.shape, _PIECE), "slabs")


def _end(state: np.ndarray, ahead: int, kernel: _lines.Kernel, finish: _lines.Finish, result: np.ndarray) -> None:
    """Find the least states along the first axis, on both sides of which there are `ahead` more, and finish them."""

    def work(columns: slice) -> None:
        part = state[:, columns]
        flat = part.reshape(-1)
        found = kernel(flat, flat.size // len(part), (np.empty_like(flat), np.empty_like(flat)))
        target = result[:, columns]
        target[...] = finish(found).reshape(target.shape)

    # Turned round: what is cut is the second axis.
    turned = (state.shape[1], len(state), *state.shape[2:])
    _tiles.run(work, _tiles.slabs(turned, _CHUNK), "lines")


def _states(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    state = np.full(labels.shape, _FAR)
    inside = labels != 0
    state[inside] = np.searchsorted(values, labels[inside]) + 1
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
