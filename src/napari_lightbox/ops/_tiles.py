"""Filters in tiles: blocks with their surroundings, worked on side by side, with progress and cancel between them."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice

import numpy as np

from ..errors import InputError
from ..progress import report, track

Block = tuple[slice, ...]
# Seconds after which the listener is asked again, even if no part is done.
_PATIENCE = 0.2
# Threads that work on a part already: what they run, they run alone.
_within = threading.local()
_only: ContextVar[tuple[int, int, tuple[int, ...]] | None] = ContextVar("lightbox_only", default=None)


def workers() -> int:
    """Return how many threads may work at once: ``LIGHTBOX_THREADS``, or all cores that this process may use."""
    asked = os.environ.get("LIGHTBOX_THREADS")
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise InputError(f"LIGHTBOX_THREADS {asked!r} must be a whole number of threads, 1 or more")
        return int(asked)
    try:
        return min(16, len(os.sched_getaffinity(0)))
    except AttributeError:
        return min(16, os.cpu_count() or 1)


def border_index(start: int, stop: int, size: int, mode: str) -> np.ndarray:
    """Say which voxel of an axis of `size` voxels stands at each position from `start` to `stop`.

    Parameters
    ----------
    start, stop : int
        Positions, which may lie outside the axis by any distance.
    size : int
        Length of the axis.
    mode : str
        As in scipy.ndimage: ``"reflect"`` (d c b a | a b c d), ``"mirror"`` (d c b | a b c d), ``"nearest"``,
        ``"wrap"``, ``"constant"``.

    Returns
    -------
    ndarray of int
        Indices; -1 for the outside in mode ``"constant"``.
    """
    index = np.arange(start, stop)
    if mode == "nearest" or (size == 1 and mode != "constant"):
        # Several times as fast as np.clip for short axes.
        return np.minimum(np.maximum(index, 0), size - 1)
    if mode == "wrap":
        return index % size
    if mode == "reflect":
        index %= 2 * size
        return np.minimum(index, 2 * size - 1 - index)
    if mode == "mirror":
        index %= 2 * size - 2
        return np.minimum(index, 2 * size - 2 - index)
    index[(index < 0) | (index >= size)] = -1
    return index


def with_halo(image: np.ndarray, block: Block, halo: Sequence[int], mode: str) -> np.ndarray:
    """Copy a block of `image` with `halo` more voxels on both sides of every axis; ``"constant"`` borders are 0."""
    index = [border_index(s.start - h, s.stop + h, n, mode) for s, h, n in zip(block, halo, image.shape, strict=True)]
    inside = [bool(i[0] >= 0 and (np.diff(i) == 1).all()) for i in index]
    # Cut out before anything is taken: of what is not in one piece, that makes a copy.
    low = [int(i.min(initial=n - 1, where=i >= 0)) for i, n in zip(index, image.shape, strict=True)]
    result = image[tuple(slice(a, max(a, int(i.max())) + 1) for a, i in zip(low, index, strict=True))]
    for axis in range(image.ndim):
        result = result if inside[axis] else result.take(np.maximum(index[axis] - low[axis], 0), axis)
    result = result.copy() if all(inside) else result
    if mode == "constant":
        for axis, places in enumerate(index):
            if (places < 0).any():
                np.moveaxis(result, axis, 0)[places < 0] = 0
    return result


def blocks(shape: Sequence[int], voxels: int, row: int = 0) -> list[Block]:
    """Cut `shape` into blocks of at most `voxels` voxels, as near to cubes as they get; see `only`.

    Rows, along the last axis, are left whole where they have up to `row` voxels and the other axes can be cut instead.
    """
    wanted = _only.get()
    if wanted is not None and wanted[2] == tuple(shape):
        axis, index, _ = wanted
        thin = tuple(1 if a == axis else n for a, n in enumerate(shape))
        return [(*b[:axis], slice(index, index + 1), *b[axis + 1 :]) for b in _blocks(thin, voxels, row)]
    return _blocks(shape, voxels, row)


def _blocks(shape: Sequence[int], voxels: int, row: int) -> list[Block]:
    size = list(shape)
    while np.prod(size, dtype=float) > max(1, voxels):
        rest = size[:-1] if size[-1] <= row and max(size[:-1], default=1) > 1 else size
        longest = int(np.argmax(rest))
        size[longest] = -(-size[longest] // 2)
    steps = [range(0, n, s) for n, s in zip(shape, size, strict=True)]
    found: list[Block] = [()]
    for starts, s, n in zip(steps, size, shape, strict=True):
        found = [(*block, slice(i, min(i + s, n))) for block in found for i in starts]
    return found


@contextmanager
def only(axis: int, index: int, shape: Sequence[int]) -> Iterator[None]:
    """Let `blocks` cut just one slice out of arrays of `shape`: the rest of a result is not looked at.

    For functions whose result in a slice needs no more than the input around it; the rest of their result is left
    undefined.
    """
    token = _only.set((axis, index, tuple(shape)))
    try:
        yield
    finally:
        _only.reset(token)


def slabs(shape: Sequence[int], voxels: int) -> list[slice]:
    """Cut the first axis into slabs of about `voxels` voxels each."""
    step = max(1, int(voxels // max(1, np.prod(shape[1:], dtype=float))))
    return [slice(i, min(i + step, shape[0])) for i in range(0, shape[0], step)]


def run(work: Callable[[Block], None], parts: Sequence, description: str) -> None:
    """Call `work` on every part, in several threads where there are several parts.

    The parts may be worked on in any order; a part that is cut again is worked on by its own thread. When one fails or
    the listener cancels, those that have not begun are dropped, and the error is raised when those that run have ended.
    """
    count = 1 if getattr(_within, "part", False) else min(workers(), len(parts))
    if count <= 1:
        for part in track(parts, description):
            work(part)
        return
    todo, waiting, finished = iter(parts), set(), 0
    report(description, 0, len(parts))
    with ThreadPoolExecutor(count, initializer=setattr, initargs=(_within, "part", True)) as pool:
        try:
            while finished < len(parts):
                # A short queue: nothing long to set up, and little to drop on cancel.
                waiting |= {pool.submit(work, part) for part in islice(todo, 3 * count - len(waiting))}
                done, waiting = wait(waiting, _PATIENCE, FIRST_COMPLETED)
                for future in done:
                    future.result()
                finished += len(done)
                report(description, finished, len(parts))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
