"""Dividing an input into bricks, so that its spline coefficients are made in a fixed amount of memory.

The filter that makes coefficients is recursive: each depends on all voxels of its line, but on a voxel k further away
only by the pole to the power of k. So a brick is filtered with some voxels around it: where these end inside the input
the filter starts wrong, and has forgotten it where the brick begins. At the input's own borders it starts as ever.

What is interpolated in a copy of another kind, such as voxels on a graphics card, is divided in the same way, with no
more around a brick than the voxels that count for its places.
"""

from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from ..progress import listening, report

Box = tuple[slice, ...]

# Bytes of coefficients at a time.
LIMIT = 256 << 20
# Coefficients more on either side of an axis.
MARGIN = 2
# Voxels after which a wrong start is forgotten, by the bytes of a coefficient. To the power of 28 the pole is below the
# last digit of the doubles that are summed up, and far below what is left of them in single precision; some more, and
# rounding makes the doubles equal too.
FORGOTTEN = {4: 28, 8: 40}
# Places closer than this to a border (in voxels) may be rounded to its other side.
_SURE = 1e-6
# Parts that an axis is tried in: all small numbers, then each a quarter larger.
_PARTS = np.unique(np.concatenate([np.arange(1, 9), (8 * 1.25 ** np.arange(1, 40)).astype(int)]))


@dataclass(frozen=True)
class Brick:
    """A part of the input, with which the places in it can be interpolated.

    Parameters
    ----------
    low, high : tuple of float
        Along each axis, the places that belong to it: from `low` on, below `high`. Every place does to one brick.
    box : tuple of slice
        Along each axis, the voxels that its coefficients are made from.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    box: Box

    def holds(self, matrix: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """Say which parts of an output, (n, 3) each, may have places in the brick."""
        low, high = _span(matrix, starts, stops)
        return ((high >= np.array(self.low) - _SURE) & (low < np.array(self.high) + _SURE)).all(axis=1)


def bricks(
    matrix: np.ndarray,
    shape: Sequence[int],
    source: Sequence[int],
    real: np.dtype,
    copies: int = 1,
    *,
    reach: int | None = None,
    limit: int | None = None,
) -> list[Brick]:
    """Divide an input: all in one where its coefficients take up to `LIMIT` bytes.

    Else what the output lies on, in the way in which the fewest coefficients are made twice.

    Parameters
    ----------
    matrix : (4, 4) ndarray
        Output index (z, y, x, 1) to input index.
    shape, source : sequence of int
        (z, y, x) of the output and of the input.
    real : dtype
        Type of the coefficients: float32 or float64; or of voxels, where `reach` says that these are copied.
    copies : int
        How many arrays of coefficients there are at a time.
    reach : int, optional
        Voxels around those that count for a place; as many as the filter needs where not given.
    limit : int, optional
        Bytes, in place of `LIMIT`.
    """
    most = (limit or LIMIT) // (real.itemsize * copies)
    reach = FORGOTTEN[real.itemsize] if reach is None else reach
    if np.prod(np.array(source, float) + 2 * MARGIN) <= most:
        return [whole(source)]
    low, high = _span(matrix, np.zeros((1, 3)), np.array([shape]))
    return between(low[0], high[0], source, (reach,) * 3, most)


def whole(source: Sequence[int]) -> Brick:
    """Return the brick that is all of an input."""
    return _brick([next(_along(np.array([0, n]), n, 0)) for n in source])


def between(
    low: np.ndarray, high: np.ndarray, source: Sequence[int], reach: Sequence[int | None], most: int
) -> list[Brick]:
    """Divide what lies between the lowest and the highest places in an input.

    Parameters
    ----------
    low, high : (n,) ndarray
        Of all places that are needed, or more.
    source : sequence of int
        Shape of the input, n axes.
    reach : sequence of int or None
        Along each axis, the voxels that the filter needs around those that count for a place; None where nothing is
        interpolated along the axis.
    most : int
        Coefficients of a brick.
    """
    last = np.array(source) - 1
    first = np.clip(np.floor(low - _SURE), 0, last).astype(int)
    stop = np.clip(np.floor(high + _SURE), first, last).astype(int) + 1
    ends = _division(first, stop, source, reach, most)
    parts = [list(_along(e, n, r)) for e, n, r in zip(ends, source, reach, strict=True)]
    found: list[list] = [[]]
    for along in parts:
        found = [[*some, part] for some in found for part in along]
    return [_brick(some) for some in found]


def _brick(along: Sequence[tuple[float, float, slice]]) -> Brick:
    return Brick(*zip(*along, strict=True))


def _span(matrix: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest places of parts of an output, (n, 3) each."""
    products = matrix[:3, :3] * np.stack((starts, stops - 1))[:, :, None, :]
    return tuple(side(products, axis=0).sum(axis=-1) + matrix[:3, 3] for side in (np.min, np.max))


def _along(ends: np.ndarray, length: int, reach: int | None):
    """Yield of an axis that is cut at `ends` which places belong to each part, and which voxels it is made from."""
    # Beyond the outer parts there are only places between the border and its outer voxel.
    limits = [-1.0, *map(float, ends[1:-1]), length + 1.0]
    for low, high, start, stop in zip(limits[:-1], limits[1:], ends[:-1], ends[1:], strict=True):
        if reach is None:
            yield low, high, slice(int(start), int(stop))
        else:
            # From one coefficient before the place to two after it.
            yield low, high, slice(max(0, int(start) - 1 - reach), min(length, int(stop) + 2 + reach))


def _division(
    first: np.ndarray, stop: np.ndarray, source: Sequence[int], reach: Sequence[int | None], most: int
) -> list[np.ndarray]:
    """Return where to cut each axis between `first` and `stop`, so that up to `most` coefficients are made for one."""
    axes = []
    for a, b, n, r in zip(first, stop, source, reach, strict=True):
        # Planes that have nothing to do with each other can be taken one by one, however many there are.
        tried = _PARTS if r is not None else [*_PARTS, b - a]
        cuts = [a + (b - a) * np.arange(parts + 1) // parts for parts in tried if parts <= b - a]
        more = 0 if r is None else 2 * MARGIN
        made = [np.array([s.stop - s.start + more for _, _, s in _along(c, n, r)]) for c in cuts]
        axes.append((cuts, np.array([m.sum() for m in made], float), np.array([m.max() for m in made], float)))
    # Of equals the first is taken: the one with the fewest parts along x, whose lines are long, then along y.
    total, largest = (reduce(np.multiply.outer, [axis[k] for axis in axes[::-1]]) for k in (1, 2))
    total[largest > most] = np.inf
    # Where none fits, which takes a limit of a few megabytes, this is all in one.
    best = np.unravel_index(np.argmin(total), total.shape)[::-1]
    return [axis[0][k] for axis, k in zip(axes, best, strict=True)]


def one_by_one(work: Callable[[Any], None], parts: Sequence, description: str) -> None:
    """Call `work` on every part; what it tells the listener is handed on as how many parts are done."""
    if len(parts) == 1:
        work(parts[0])
        return
    outside = copy_context()
    for done, part in enumerate(parts):
        with listening(lambda *_, done=done: outside.run(report, description, done, len(parts))):
            report(description, done)
            work(part)
    report(description, len(parts), len(parts))
