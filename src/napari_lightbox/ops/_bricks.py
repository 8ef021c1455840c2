"""Dividing an input into bricks, so that its spline coefficients are made in a fixed amount of memory.

The filter that makes coefficients is recursive: each depends on all voxels of its line, but on a voxel k further away
only by the pole to the power of k. So a brick is filtered with some voxels around it: where these end inside the input
the filter starts wrong, and has forgotten it where the brick begins. At the input's own borders it starts as ever.
"""

from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..progress import listening, report

Box = tuple[slice, slice, slice]

# Bytes of coefficients at a time.
LIMIT = 256 << 20
# Coefficients more on either side of an axis.
MARGIN = 2
# Voxels after which a wrong start is forgotten, by the bytes of a coefficient. To the power of 28 the pole is below the
# last digit of the doubles that are summed up, and far below what is left of them in single precision; some more, and
# rounding makes the doubles equal too.
_FORGOTTEN = {4: 28, 8: 40}
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
        (z, y, x) of the places that belong to it: from `low` on, below `high`. Every place does to one brick.
    box : tuple of slice
        (z, y, x) of the voxels that its coefficients are made from.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    box: Box

    def holds(self, matrix: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """Say which parts of an output, (n, 3) each, may have places in the brick."""
        low, high = _span(matrix, starts, stops)
        return ((high >= np.array(self.low) - _SURE) & (low < np.array(self.high) + _SURE)).all(axis=1)


def bricks(
    matrix: np.ndarray, shape: Sequence[int], source: Sequence[int], real: np.dtype, copies: int = 1
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
        Type of the coefficients: float32 or float64.
    copies : int
        How many arrays of coefficients there are at a time.
    """
    most, reach = LIMIT // (real.itemsize * copies), _FORGOTTEN[real.itemsize]
    ends = [np.array([0, n]) for n in source]
    if np.prod(np.array(source, float) + 2 * MARGIN) > most:
        low, high = _span(matrix, np.zeros((1, 3)), np.array([shape]))
        first = np.clip(np.floor(low[0] - _SURE), 0, np.array(source) - 1).astype(int)
        last = np.clip(np.floor(high[0] + _SURE), first, np.array(source) - 1).astype(int)
        ends = _division(first, last + 1, source, reach, most)
    parts = [list(_along(e, n, reach)) for e, n in zip(ends, source, strict=True)]
    return [Brick(*zip(z, y, x, strict=True)) for z in parts[0] for y in parts[1] for x in parts[2]]


def _span(matrix: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest places of parts of an output, (n, 3) each."""
    products = matrix[:3, :3] * np.stack((starts, stops - 1))[:, :, None, :]
    return tuple(side(products, axis=0).sum(axis=-1) + matrix[:3, 3] for side in (np.min, np.max))


def _along(ends: np.ndarray, length: int, reach: int):
    """Yield of an axis that is cut at `ends` which places belong to each part, and which voxels it is made from."""
    # Beyond the outer parts there are only places between the border and its outer voxel.
    limits = [-1.0, *map(float, ends[1:-1]), length + 1.0]
    for low, high, start, stop in zip(limits[:-1], limits[1:], ends[:-1], ends[1:], strict=True):
        # From one coefficient before the place to two after it.
        yield low, high, slice(max(0, int(start) - 1 - reach), min(length, int(stop) + 2 + reach))


def _division(first: np.ndarray, stop: np.ndarray, source: Sequence[int], reach: int, most: int) -> list[np.ndarray]:
    """Return where to cut each axis between `first` and `stop`, so that up to `most` coefficients are made for one."""
    axes = []
    for a, b, n in zip(first, stop, source, strict=True):
        cuts = [a + (b - a) * np.arange(parts + 1) // parts for parts in _PARTS if parts <= b - a]
        made = [np.array([s.stop - s.start + 2 * MARGIN for _, _, s in _along(c, n, reach)]) for c in cuts]
        axes.append((cuts, np.array([m.sum() for m in made], float), np.array([m.max() for m in made], float)))
    # Of equals the first is taken: the one with the fewest parts along x, whose lines are long, then along y.
    total, largest = (np.einsum("z,y,x->xyz", *(axis[k] for axis in axes)) for k in (1, 2))
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
