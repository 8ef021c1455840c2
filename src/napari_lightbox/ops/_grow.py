"""Growing one region from seeds: by distance to a fixed value, and by distance to the mean of the region so far."""

import importlib.util
import logging
from collections import deque
from collections.abc import Callable
from itertools import product
from threading import Thread

import numpy as np
from scipy import ndimage, sparse

from ..progress import report, track
from . import _tiles

# Voxels that the plain loop takes before the compiled one, if there is one, is worth its compilation.
COMPILE_AFTER = 200_000
_CHUNK = 1 << 15
_COMPILED_CHUNK = 1 << 21
_SLAB = 1 << 22
# Mark of a voxel where no region may go; those that have joined are marked 1.
_OUTSIDE = 2
# Voxels around the seeds in which a region is first looked for.
_FIRST_REACH = 32


def structure(ndim: int, rank: int) -> np.ndarray:
    """Return the neighbourhood: voxels that differ by one step along at most `rank` axes."""
    return ndimage.generate_binary_structure(ndim, rank)


def near_seeds(
    allow: Callable[[tuple[slice, ...]], np.ndarray], shape: tuple[int, ...], seeds: np.ndarray, rank: int
) -> np.ndarray:
    """Return the voxels connected to the seeds, looking no farther than the region reaches.

    Parameters
    ----------
    allow : callable
        From a box of the image, where the region may go in it (a new array of bool).
    shape : tuple of int
        Shape of the image.
    seeds : ndarray of int
        (n, ndim); they are allowed whatever `allow` says.
    rank : int
        Neighbourhood, as in `structure`.
    """
    reach = _FIRST_REACH
    while True:
        low = np.maximum(seeds.min(axis=0) - reach, 0)
        high = np.minimum(seeds.max(axis=0) + reach + 1, shape)
        box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        allowed = allow(box)
        allowed[tuple((seeds - low).T)] = True
        region = connected(allowed, seeds - low, rank)
        if not _meets_open_face(region, box, shape):
            result = np.zeros(shape, bool)
            result[box] = region
            return result
        reach *= 2


def _meets_open_face(region: np.ndarray, box: tuple[slice, ...], shape: tuple[int, ...]) -> bool:
    """Whether the region reaches a face of its box beyond which the image goes on."""
    for axis, (side, size) in enumerate(zip(box, shape, strict=True)):
        faces = np.moveaxis(region, axis, 0)
        if (side.start > 0 and faces[0].any()) or (side.stop < size and faces[-1].any()):
            return True
    return False


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


def by_mean(image: np.ndarray, mask: np.ndarray | None, seeds: np.ndarray, threshold: float, rank: int) -> np.ndarray:
    """Grow with the mean updated at every voxel that joins; first in, first out.

    Parameters
    ----------
    image : ndarray
        Grey values.
    mask : ndarray or None
        Not 0 where the region may go; the seeds must be inside.
    seeds : ndarray of int
        (n, ndim), distinct, in the order in which they start the queue.
    threshold : float
        Largest distance from the mean, exclusive.
    rank : int
        Neighbourhood, as in `structure`.
    """
    grown = _Region(image, mask, seeds, threshold, rank)
    if _has_numba():
        grown.grow_plainly(COMPILE_AFTER)
        kernel = _Kernel(grown.values.dtype) if grown.queue else None
        while grown.queue and not kernel.ready:
            grown.grow_plainly(_CHUNK)
        if grown.queue and kernel.grow is not None:
            grown.grow_compiled(kernel.grow)
    grown.grow_plainly(None)
    return grown.result()


def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


def _readable(dtype: np.dtype) -> np.dtype:
    """Return a type for grey values that a memoryview gives as exact floats or small whole numbers."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype == np.float16:
        return np.dtype(np.float32)
    if dtype.kind in "iu" and dtype.itemsize == 8:
        return np.dtype(np.float64)
    return dtype


def _flat_steps(shape: tuple[int, ...], rank: int) -> list[int]:
    """Return the distance to each neighbour in a flat array, in the order in which the neighbours are visited."""
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    offsets = [o for o in product((-1, 0, 1), repeat=len(shape)) if 0 < np.count_nonzero(o) <= rank]
    return [sum(o * s for o, s in zip(offset, strides, strict=True)) for offset in offsets]


class _Region:
    """A region that grows: its queue, its sum and its number of voxels."""

    def __init__(
        self, image: np.ndarray, mask: np.ndarray | None, seeds: np.ndarray, threshold: float, rank: int
    ) -> None:
        # A margin of closed voxels spares the loop every question about borders.
        self.shape = tuple(n + 2 for n in image.shape)
        self.steps, self.threshold = _flat_steps(self.shape, rank), threshold
        self.inside = (slice(1, -1),) * image.ndim
        self.closed = bytearray(int(np.prod(self.shape)))
        values = np.zeros(self.shape, _readable(image.dtype))
        closed = np.frombuffer(self.closed, np.uint8).reshape(self.shape)
        for axis in range(image.ndim):
            np.moveaxis(closed, axis, 0)[[0, -1]] = _OUTSIDE
        for slab in track(_tiles.slabs(image.shape, _SLAB), "slabs"):
            values[self.inside][slab] = image[slab]
            if mask is not None:
                closed[self.inside][slab][mask[slab] == 0] = _OUTSIDE
        self.values = values.ravel()
        self.queue = deque(np.ravel_multi_index(tuple(seeds.T + 1), self.shape).tolist())
        self.total, self.count = 0.0, 0
        for start in self.queue:
            self.closed[start] = 1
            self.total += float(self.values[start])
            self.count += 1

    def result(self) -> np.ndarray:
        """Return the region, without the margin."""
        closed = np.frombuffer(self.closed, np.uint8).reshape(self.shape)[self.inside]
        found = np.empty(closed.shape, bool)
        for slab in track(_tiles.slabs(found.shape, _SLAB), "slabs"):
            np.equal(closed[slab], 1, out=found[slab])
        return found

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

    def grow_compiled(self, grow: Callable) -> None:
        """Go on from where the plain loop stopped, to the end."""
        closed = np.frombuffer(self.closed, np.uint8)
        steps = np.array(self.steps, np.int64)
        waiting = np.array(self.queue, np.int64)
        chunk = _COMPILED_CHUNK // len(steps)
        while len(waiting):
            report("voxels", self.count)
            # New room for each chunk: the queue holds the front of the region only, not all of it.
            queue = np.empty(len(waiting) + chunk * len(steps), np.int64)
            queue[: len(waiting)] = waiting
            head, tail, self.total, self.count = grow(
                self.values, closed, queue, 0, len(waiting), self.total, self.count, steps, self.threshold, chunk
            )
            waiting = queue[head:tail].copy()
        self.queue.clear()
        report("voxels", self.count)


class _Kernel:
    """The compiled loop, made ready in a thread of its own: that takes a second or more, and cannot be cancelled."""

    def __init__(self, dtype: np.dtype) -> None:
        self.grow: Callable | None = None
        self._thread = Thread(target=self._compile, args=(dtype,), name="lightbox-compile", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether compiling has ended; `grow` is None where it failed."""
        return not self._thread.is_alive()

    def _compile(self, dtype: np.dtype) -> None:
        try:
            from ._kernels.region_grow import grow

            nothing = np.empty(0, np.int64)
            grow(np.empty(0, dtype), np.empty(0, np.uint8), nothing, 0, 0, 0.0, 0, nothing, 1.0, 1)
        except Exception:
            # The plain loop does the same, only slower.
            logging.getLogger(__name__).warning("compiling the region growing loop failed", exc_info=True)
        else:
            self.grow = grow
