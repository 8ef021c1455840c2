"""Growing one region from seeds: by distance to a fixed value, and by distance to the mean of the region so far."""

import importlib.util
from collections import deque
from itertools import product

import numpy as np
from scipy import ndimage, sparse

from ..progress import report, track
from . import _tiles

# Voxels that the plain loop takes before the compiled one, if there is one, is worth its compilation.
COMPILE_AFTER = 200_000
_CHUNK = 1 << 15
_COMPILED_CHUNK = 1 << 21
_SLAB = 1 << 23


def structure(ndim: int, rank: int) -> np.ndarray:
    """Return the neighbourhood: voxels that differ by one step along at most `rank` axes."""
    return ndimage.generate_binary_structure(ndim, rank)


def connected(allowed: np.ndarray, seeds: np.ndarray, rank: int) -> np.ndarray:
    """Return the voxels of `allowed` (bool) that are connected to any of the seeds, labelled slab by slab."""
    shape = structure(allowed.ndim, rank)
    slabs = _tiles.slabs(allowed.shape, _SLAB)
    labelled, offsets, links = [], [0], []
    for slab in track(slabs, "slabs"):
        part, count = ndimage.label(allowed[slab], shape)
        if labelled:
            links += _links(labelled[-1][-1], part[0], shape, offsets[-2], offsets[-1])
        labelled.append(part)
        offsets.append(offsets[-1] + count)
    group = _groups(links, offsets[-1])
    wanted = np.zeros(offsets[-1] + 1, bool)
    for seed in seeds:
        place = next(i for i, slab in enumerate(slabs) if slab.start <= seed[0] < slab.stop)
        wanted[group[labelled[place][seed[0] - slabs[place].start, *seed[1:]] + offsets[place]]] = True
    result = np.empty(allowed.shape, bool)
    for part, offset, slab in zip(labelled, offsets, track(slabs, "slabs"), strict=False):
        # Label 0, the outside, is looked up at place 0 in every slab.
        chosen = wanted[group[offset : offset + int(part.max()) + 1]]
        chosen[0] = False
        result[slab] = chosen[part]
    return result


def _links(above: np.ndarray, below: np.ndarray, shape: np.ndarray, first: int, second: int) -> list[np.ndarray]:
    """Return pairs of labels that touch across the cut between two slabs."""
    found = []
    padded = np.pad(below, 1)
    for step in np.argwhere(shape[-1]):
        shifted = padded[tuple(slice(s, s + n) for s, n in zip(step, below.shape, strict=True))]
        both = (above > 0) & (shifted > 0)
        if both.any():
            found.append(np.unique(np.stack([above[both] + first, shifted[both] + second], axis=1), axis=0))
    return found


def _groups(links: list[np.ndarray], count: int) -> np.ndarray:
    """Return for every label, 0 among them, the number of the group of linked labels it belongs to."""
    if not links:
        return np.arange(count + 1)
    a, b = np.concatenate(links).T
    graph = sparse.coo_array((np.ones(len(a), np.int8), (a, b)), shape=(count + 1, count + 1))
    return sparse.csgraph.connected_components(graph, directed=False)[1]


def by_mean(image: np.ndarray, allowed: np.ndarray, seeds: np.ndarray, threshold: float, rank: int) -> np.ndarray:
    """Grow with the mean updated at every voxel that joins; first in, first out.

    Parameters
    ----------
    image : ndarray
        Grey values.
    allowed : ndarray of bool
        Where the region may go; the seeds must be inside.
    seeds : ndarray of int
        (n, ndim), distinct, in the order in which they start the queue.
    threshold : float
        Largest distance from the mean, exclusive.
    rank : int
        Neighbourhood, as in `structure`.
    """
    # A margin of closed voxels spares the loop every question about borders.
    values = np.pad(_readable(image), 1, mode="edge").ravel()
    closed_array = np.pad(~allowed, 1, constant_values=True).astype(np.uint8)
    padded_shape = closed_array.shape
    closed = bytearray(closed_array.tobytes())
    starts = np.ravel_multi_index(tuple(seeds.T + 1), padded_shape)
    steps = _flat_steps(padded_shape, rank)
    grown = _Region(values, closed, starts, steps, threshold)
    grown.grow_plainly(COMPILE_AFTER if _has_numba() else None)
    if grown.queue:
        grown.grow_compiled()
    region = np.frombuffer(closed, np.uint8).reshape(padded_shape)
    inside = (slice(1, -1),) * image.ndim
    return (region[inside] == 1) & allowed


def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


def _readable(image: np.ndarray) -> np.ndarray:
    """Return `image` in a type whose values a memoryview gives as exact floats or small whole numbers."""
    if image.dtype == bool:
        return image.view(np.uint8)
    if image.dtype == np.float16:
        return image.astype(np.float32)
    return image.astype(np.float64) if image.dtype in (np.int64, np.uint64) else image


def _flat_steps(shape: tuple[int, ...], rank: int) -> list[int]:
    """Return the distance to each neighbour in a flat array, in the order in which the neighbours are visited."""
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    offsets = [o for o in product((-1, 0, 1), repeat=len(shape)) if 0 < np.count_nonzero(o) <= rank]
    return [sum(o * s for o, s in zip(offset, strides, strict=True)) for offset in offsets]


class _Region:
    """A region that grows: its queue, its sum and its number of voxels."""

    def __init__(self, values: np.ndarray, closed: bytearray, starts: np.ndarray, steps: list[int], threshold: float):
        self.values, self.closed, self.steps, self.threshold = values, closed, steps, threshold
        self.queue = deque(starts.tolist())
        self.total, self.count = 0.0, 0
        for start in self.queue:
            closed[start] = 1
            self.total += float(values[start])
            self.count += 1

    def grow_plainly(self, limit: int | None) -> None:
        """Grow in Python until the queue is empty, or about `limit` voxels have been taken from it."""
        values, closed, queue, steps, threshold = (
            memoryview(self.values),
            self.closed,
            self.queue,
            self.steps,
            self.threshold,
        )
        total, count, taken = self.total, self.count, 0
        while queue and (limit is None or taken < limit):
            report("voxels", count)
            for _ in range(_CHUNK):
                if not queue:
                    break
                here = queue.popleft()
                for step in steps:
                    there = here + step
                    if not closed[there]:
                        value = values[there]
                        if abs(total / count - value) < threshold:
                            closed[there] = 1
                            queue.append(there)
                            total += value
                            count += 1
                taken += 1
        self.total, self.count = total, count
        report("voxels", count)

    def grow_compiled(self) -> None:
        """Go on from where the plain loop stopped."""
        from ._kernels import region_grow

        closed = np.frombuffer(self.closed, np.uint8)
        steps = np.array(self.steps, np.int64)
        waiting = np.array(self.queue, np.int64)
        chunk = _COMPILED_CHUNK // len(steps)
        while len(waiting):
            report("voxels", self.count)
            # New room for each chunk: the queue holds the front of the region only, not all of it.
            queue = np.empty(len(waiting) + chunk * len(steps), np.int64)
            queue[: len(waiting)] = waiting
            head, tail, self.total, self.count = region_grow.grow(
                self.values, closed, queue, 0, len(waiting), self.total, self.count, steps, self.threshold, chunk
            )
            waiting = queue[head:tail].copy()
        report("voxels", self.count)
