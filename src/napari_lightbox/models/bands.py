"""How the sums of a prediction are kept small: which windows are run when, and what is finished after them.

Windows run in order along the first axis. Whatever lies behind the next window gets nothing more: it is finished, and
its sums are dropped. So no more slices are held than a window is thick, and those that interpolation still needs. Where
that is too much, the plane is divided into blocks that are done one after another; a window that reaches over the
border of two blocks is run for both. Every voxel gets the same sums in the same order, however the plane is divided.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np

from . import sampling, windows

if TYPE_CHECKING:
    from .plan import Plan


@dataclass(frozen=True)
class Step:
    """Some windows, and what can be finished once they have been run.

    Parameters
    ----------
    windows : slice
        Of the windows of the block; they go through the network together.
    base, top : int
        Slices ``base`` to ``top - 1`` of the working grid hold sums meanwhile.
    out : slice
        Slices of the image that are complete afterwards.
    """

    windows: slice
    base: int
    top: int
    out: slice


@dataclass(frozen=True)
class Block:
    """A part of the plane, with all slices.

    Parameters
    ----------
    out : (slice, slice)
        Rows and columns of the image that it finishes.
    part : (slice, slice)
        Rows and columns of the working grid, without its padding, that are needed for them.
    windows : tuple of Window
        Those that reach into it, in order; their places count from the padded corner.
    steps : tuple of Step
        In order.
    """

    out: tuple[slice, slice]
    part: tuple[slice, slice]
    windows: tuple[windows.Window, ...]
    steps: tuple[Step, ...]

    @property
    def held(self) -> tuple[int, int, int]:
        """Most slices, rows and columns of the working grid that hold sums at once."""
        rows, columns = (part.stop - part.start for part in self.part)
        return max(1, *(step.top - step.base for step in self.steps)), rows, columns


def ways_back(plan: "Plan") -> tuple[sampling.Way, ...]:
    """Return for each axis how the image's voxels are made of the working grid's."""
    # The step is that of the grids; a working grid is a whole number of voxels and may be a little larger or smaller.
    back = (1.0 if step == 1 else 1 / step for step in plan.steps)
    return tuple(
        sampling.way_back(length, count, step, to_nearest=plan.nearest == axis, first=plan.firsts and plan.firsts[axis])
        for axis, (length, count, step) in enumerate(zip(plan.working, plan.shape, back, strict=True))
    )


def _axes(plan: "Plan") -> list[list[tuple[int, np.ndarray]]]:
    """Return where windows lie along each axis, and their weights."""
    blending = plan.options.blending
    return windows.along_axes(plan.padded, plan.window, plan.overlaps, blending, rounded=plan.rounded, even=plan.even)


def cover(plan: "Plan", rows: int = 1, columns: int = 1) -> tuple[Block, ...]:
    """Divide the plane into blocks.

    Parameters
    ----------
    plan : Plan
        Of the frame.
    rows, columns : int
        Number of blocks along the second and the third axis; fewer where there are fewer windows.

    Returns
    -------
    tuple of Block
        Together they finish every voxel of the image once.
    """
    axes = _axes(plan)
    ways = ways_back(plan)
    cuts = [_cuts(axes[a], plan.pad[a][0], ways[a], n) for a, n in ((1, rows), (2, columns))]
    blocks = []
    for out in product(*(_between(one) for one in cuts)):
        part = tuple(
            slice(int(way.first[o.start]), int(way.last[o.stop - 1]) + 1) for way, o in zip(ways[1:], out, strict=True)
        )
        chosen = [axes[0], *(_reaching(axes[a], plan.pad[a][0], part[a - 1]) for a in (1, 2))]
        found = tuple(
            windows.Window(tuple(start for start, _ in one), tuple(plan.window), tuple(vector for _, vector in one))
            for one in product(*chosen)
        )
        blocks.append(Block(out, part, found, _steps(found, plan, ways[0])))
    return tuple(blocks)


def _cuts(axis: Sequence, before: int, way: sampling.Way, parts: int) -> list[int]:
    """Return voxels of the image at which an axis is cut: where a window begins, so that few reach over."""
    starts = [start - before for start, _ in axis]
    parts = min(parts, len(starts))
    inner = (int(np.searchsorted(way.first, starts[round(i * len(starts) / parts)])) for i in range(1, parts))
    return sorted({0, way.count, *(cut for cut in inner if 0 < cut < way.count)})


def _between(cuts: list[int]) -> list[slice]:
    return [slice(a, b) for a, b in pairwise(cuts)]


def _reaching(axis: Sequence, before: int, part: slice) -> list:
    """Return the windows of one axis that have weight in a part of the working grid."""
    found = []
    for start, vector in axis:
        low, high = max(0, part.start + before - start), max(0, part.stop + before - start)
        if vector[low:high].any():
            found.append((start, vector))
    return found


def _steps(found: Sequence[windows.Window], plan: "Plan", way: sampling.Way) -> tuple[Step, ...]:
    before, length, size = plan.pad[0][0], plan.working[0], plan.window[0]
    steps, done, base = [], 0, int(way.first[0])
    for start in range(0, len(found), plan.batch):
        stop = min(start + plan.batch, len(found))
        top = max(base, min(length, found[stop - 1].start[0] - before + size))
        ready = way.count
        if stop < len(found):
            ready = int(np.searchsorted(way.last, found[stop].start[0] - before))
        steps.append(Step(slice(start, stop), base, top, slice(done, ready)))
        if ready > done:
            done = ready
            base = int(way.first[done]) if done < way.count else length
    return tuple(steps)


def choose(plan: "Plan", channels: int, most: float) -> tuple[Block, ...]:
    """Return the fewest blocks whose sums fit into `most` bytes, or the smallest ones there are.

    Parameters
    ----------
    plan : Plan
        Of the frame.
    channels : int
        Sums of each voxel: classes, times the answers that are kept apart.
    most : float
        Bytes for the sums.
    """
    whole, numbers = cover(plan), plan.numbers(channels)
    if sums_bytes(whole, numbers) <= most:
        return whole
    axes = _axes(plan)
    rows, columns = len(axes[1]), len(axes[2])
    ways = ways_back(plan)
    thick = whole[0].held[0]
    tries = [(n, 1) for n in range(2, rows + 1)] + [(rows, n) for n in range(2, columns + 1)]
    for parts in tries:
        if 4 * numbers * thick * _largest(axes, plan, ways, parts) <= most:
            return cover(plan, *parts)
    return cover(plan, rows, columns)


def _largest(axes: Sequence, plan: "Plan", ways: Sequence[sampling.Way], parts: tuple[int, int]) -> int:
    """Return how many rows times columns of the working grid the largest block needs."""
    pixels = 1
    for axis, number in zip((1, 2), parts, strict=True):
        way = ways[axis]
        between = _between(_cuts(axes[axis], plan.pad[axis][0], way, number))
        pixels *= max(int(way.last[o.stop - 1]) + 1 - int(way.first[o.start]) for o in between)
    return pixels


def sums_bytes(blocks: Sequence[Block], numbers: float) -> int:
    """Return the bytes of the largest block's sums, of so many numbers in single precision a voxel."""
    return max(int(4 * numbers * int(np.prod(block.held))) for block in blocks)


def count(blocks: Sequence[Block]) -> int:
    """Return how many windows are run."""
    return sum(len(block.windows) for block in blocks)
