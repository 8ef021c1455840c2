"""Growing one region by the distance to its mean: voxel by voxel, in the order of a queue.

The plain loop begins. Once it has gone far enough for that the compiled one is made ready in the background, takes
over where the plain one is, and begins at once the next time.
"""

from collections import deque
from itertools import product

import numpy as np

from ..progress import report, track
from . import _flood, _grow, _moments, _ready, _tiles

# Voxels that the plain loop takes before the compiled one is worth its compilation.
KERNELS = _ready.Variants("grow", after=200_000)
KERNELS.usual_for("region_grow", _flood.usual_keys)
# Voxels after which the listener is asked again: some hundredths of a second.
_CHUNK = 1 << 15
_COMPILED_CHUNK = 1 << 18
# Places in the queue of the compiled loop, at first; a power of two.
_RING = 1 << 16
_SLAB = 1 << 22
# Mark of a voxel where no region may go; those that have joined are marked 1.
_OUTSIDE = 2
# Bits of a coordinate in the queue of the compiled loop.
_BITS = 21


def by_mean(
    image: np.ndarray,
    mask: np.ndarray | None,
    seeds: np.ndarray,
    threshold: float,
    rank: int,
    most: int | None = None,
) -> _grow.Grown:
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
        Neighbourhood, as in `_grow.structure`.
    most : int, optional
        Number of voxels at which to stop.
    """
    # No region has more voxels than there are.
    most = max(len(seeds), image.size if most is None else most)
    kind = np.dtype(np.float32) if image.dtype == np.float16 else image.dtype
    key = _flood.key_of(kind)
    if max(image.shape) >= 1 << _BITS:
        key = None
    kernel = None if key is None else KERNELS.get(key)
    everywhere = tuple(slice(0, n) for n in image.shape)
    plain = None
    if kernel is None:
        plain = _Plain(image, mask, seeds, threshold, rank, most)
        while plain.queue and kernel is None:
            taken = plain.grow(_CHUNK)
            if key is not None and plain.queue:
                KERNELS.ask(key, taken)
                kernel = KERNELS.get(key)
        if not plain.queue:
            return _grow.Grown(plain.result().view(bool), everywhere, plain.stopped)
    compiled = _Compiled(kernel, image.astype(kind, copy=False), mask, rank)
    if plain is None:
        compiled.begin(seeds)
    else:
        compiled.take_over(plain)
    stopped = compiled.grow(threshold, most)
    return _grow.Grown(compiled.result().view(bool), everywhere, stopped)


def _readable(dtype: np.dtype) -> np.dtype:
    """Return a type for grey values that a memoryview gives as exact floats or small whole numbers."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype == np.float16:
        return np.dtype(np.float32)
    if dtype.kind in "iu" and dtype.itemsize == 8:
        return np.dtype(np.float64)
    return dtype


class _Plain:
    """The region as it grows in Python: its queue, its sum and its number of voxels."""

    def __init__(
        self,
        image: np.ndarray,
        mask: np.ndarray | None,
        seeds: np.ndarray,
        threshold: float,
        rank: int,
        most: int,
    ) -> None:
        # A margin of closed voxels spares the loop every question about borders.
        self.shape = tuple(n + 2 for n in image.shape)
        self.steps, self.threshold = _grow.flat_steps(self.shape, rank), threshold
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
        self.most, self.stopped = most, False
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
        return found.view(np.uint8)

    def grow(self, limit: int) -> int:
        """Grow until the queue is empty, or `limit` voxels have been taken from it; return how many have."""
        values, closed, queue, steps = memoryview(self.values), self.closed, self.queue, self.steps
        threshold, most = self.threshold, self.most
        total, count, taken = self.total, self.count, 0
        report("voxels", count)
        while queue and taken < limit:
            here = queue.popleft()
            for step in steps:
                there = here + step
                if not closed[there]:
                    value = values[there]
                    if abs(total / count - value) < threshold:
                        if count == most:
                            self.stopped = True
                            queue.clear()
                            break
                        closed[there] = 1
                        queue.append(there)
                        total += value
                        count += 1
            taken += 1
        self.total, self.count = total, count
        report("voxels", count)
        return taken


class _Compiled:
    """The region as it grows in the compiled loop."""

    def __init__(self, kernel, image: np.ndarray, mask: np.ndarray | None, rank: int) -> None:
        self.kernel, self.shape, self.mask = kernel, (1,) * (3 - image.ndim) + image.shape, mask
        self.values = _moments.read_only(_flood.solid(image.view(np.uint8) if image.dtype.kind == "b" else image))
        # Whole numbers of two bytes are added up as such: their sum is the same in a float.
        self.add_as = int if self.values.dtype.kind in "iu" and self.values.dtype.itemsize <= 2 else float
        _, tall, wide = self.shape
        # There are no steps out of a single slice: the kernel looks for no border along z there.
        ways = [(-1, 0, 1) if n > 1 else (0,) for n in self.shape]
        steps = [(dz, dy, dx, (dz * tall + dy) * wide + dx) for dz, dy, dx in product(*ways)]
        near = [step for step in steps if 0 < np.count_nonzero(step[:3]) <= rank]
        self.steps = np.array(near, np.int64).reshape(-1, 4)
        # What the region becomes is also where the kernel remembers what it need not try.
        self.region = np.zeros(image.shape, np.uint8)
        self.queue = np.zeros(_RING, np.int64)
        self.now = (0, 0, self.add_as(0), 0)

    def begin(self, seeds: np.ndarray) -> None:
        """Begin with the seeds."""
        self._close()
        self.region[tuple(seeds.T)] = 1
        total = 0.0
        for value in self.values[np.ravel_multi_index(tuple(seeds.T), self.region.shape)].tolist():
            total += value
        self._wait(seeds, total, len(seeds))

    def take_over(self, plain: _Plain) -> None:
        """Go on from where the plain loop is."""
        np.copyto(self.region, plain.result())
        self._close()
        waiting = np.stack(np.unravel_index(np.array(plain.queue), plain.shape), axis=1) - 1
        self._wait(waiting, plain.total, plain.count)

    def _close(self) -> None:
        """Mark where no region may go."""
        if self.mask is not None:
            for slab in track(_tiles.slabs(self.region.shape, _SLAB), "slabs"):
                np.copyto(self.region[slab], _OUTSIDE, where=self.mask[slab] == 0)

    def result(self) -> np.ndarray:
        """Return the region, 0 and 1."""
        if self.mask is not None:
            for slab in track(_tiles.slabs(self.region.shape, _SLAB), "slabs"):
                self.region[slab] &= 1
        return self.region

    def _wait(self, places: np.ndarray, total: float, count: int) -> None:
        places = np.pad(places, ((0, 0), (3 - places.shape[1], 0))).astype(np.int64)
        self._widen(2 * len(places))
        self.queue[: len(places)] = places[:, 0] << 2 * _BITS | places[:, 1] << _BITS | places[:, 2]
        self.now = (0, len(places), self.add_as(total), int(count))

    def _widen(self, room: int) -> None:
        """Make the ring larger than `room`, and let it begin at its first place."""
        head, tail, *sums = self.now
        size = len(self.queue)
        while size <= room:
            size *= 2
        queue = np.zeros(size, np.int64)
        queue[: tail - head] = self.queue[np.arange(head, tail) % len(self.queue)]
        self.queue, self.now = queue, (0, tail - head, *sums)

    def grow(self, threshold: float, most: int) -> bool:
        """Grow to the end, and return whether that was before the region came to its own."""
        flat, stopped = self.region.reshape(-1), False
        while self.now[0] < self.now[1] and not stopped:
            report("voxels", self.now[3])
            if self.now[1] - self.now[0] + len(self.steps) > len(self.queue):
                self._widen(2 * len(self.queue))
            *now, stopped = self.kernel(
                *(self.values, flat, self.shape, self.steps, self.queue, self.now, self.add_as(0)),
                *(float(threshold), _COMPILED_CHUNK, most),
            )
            self.now = tuple(now)
        report("voxels", self.now[3])
        return stopped
