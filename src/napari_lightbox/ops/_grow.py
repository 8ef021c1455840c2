"""Growing one region from seeds where it is allowed to go, the plain way."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from threading import Thread

import numpy as np
from scipy import ndimage, sparse

from ..progress import report, track
from . import _moments, _tiles

_SLAB = 1 << 22
# Voxels around the seeds in which a region is first looked for.
_FIRST_REACH = 32
# Parts that are flooded one by one; from more seeds in parts of their own all parts are labelled at once.
_FLOODS = 4
# Seconds after which the listener is asked again.
_PATIENCE = 0.1


@dataclass(frozen=True)
class Grown:
    """A region, where it was looked for, and whether it would have gone on.

    Parameters
    ----------
    inside : ndarray of bool
        The region in its box.
    box : tuple of slice
        The part of the image that `inside` covers.
    stopped : bool
        Whether it was stopped for its size.
    """

    inside: np.ndarray
    box: tuple[slice, ...]
    stopped: bool = False

    def whole(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the region in an image of that shape, 0 and 1: where it is that already, not a copy."""
        if self.inside.shape == shape:
            return self.inside.view(np.uint8)
        result = np.zeros(shape, np.uint8)
        result[self.box] = self.inside
        return result

    def moments(self, image: np.ndarray) -> _moments.Moments:
        """Return the number, mean and deviation of the image's values in the region."""
        return _moments.inside(image[self.box], self.inside)


def structure(ndim: int, rank: int) -> np.ndarray:
    """Return the neighbourhood: voxels that differ by one step along at most `rank` axes."""
    return ndimage.generate_binary_structure(ndim, rank)


def near_seeds(
    allow: Callable[[tuple[slice, ...]], np.ndarray],
    shape: tuple[int, ...],
    seeds: np.ndarray,
    rank: int,
    most: int | None = None,
) -> Grown:
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
    most : int, optional
        Number of voxels at which to stop: the region then holds all voxels that are at most so many steps from the
        seeds, within the region, as it has room for.
    """
    # Each side on its own, as far as the region goes there.
    reach = np.full((2, len(shape)), _FIRST_REACH)
    while True:
        low = np.maximum(seeds.min(axis=0) - reach[0], 0)
        high = np.minimum(seeds.max(axis=0) + reach[1] + 1, shape)
        box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        allowed = allow(box)
        allowed[tuple((seeds - low).T)] = True
        region = connected(allowed, seeds - low, rank)
        meets = _open_faces(region, box, shape)
        if most is not None and np.count_nonzero(region) > most:
            part, steps = _first_steps(region, seeds - low, rank, most)
            # More steps than the box reaches might find a shorter way outside of it.
            if steps <= reach[meets].min(initial=steps):
                return Grown(part, box, stopped=True)
        if not meets.any():
            return Grown(region, box)
        reach[meets] += reach[meets] // 2 + 1


def _first_steps(region: np.ndarray, seeds: np.ndarray, rank: int, most: int) -> tuple[np.ndarray, int]:
    """Return the voxels of a region that are nearest to the seeds by steps within it, and the number of steps.

    Whole steps are taken, as long as no more than `most` voxels are reached; the seeds are, in any case.
    """
    shape = tuple(n + 2 for n in region.shape)
    inside = (slice(1, -1),) * region.ndim
    free = np.zeros(shape, bool)
    free[inside] = region
    offsets = np.array(flat_steps(shape, rank))
    flat, front = free.reshape(-1), np.unique(np.ravel_multi_index(tuple(seeds.T + 1), shape))
    flat[front] = False
    reached, steps = [front], 0
    count = len(front)
    while len(front):
        report("voxels", count)
        near = (front[:, None] + offsets).ravel()
        front = np.unique(near[flat[near]])
        count += len(front)
        if count > most:
            break
        flat[front] = False
        reached.append(front)
        steps += 1
    result = np.zeros(shape, bool)
    result.reshape(-1)[np.concatenate(reached)] = True
    return result[inside], steps


def _open_faces(region: np.ndarray, box: tuple[slice, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Return which faces of its box (first, last; axis) the region reaches, where the image goes on beyond."""
    meets = np.zeros((2, len(shape)), bool)
    for axis, (side, size) in enumerate(zip(box, shape, strict=True)):
        faces = np.moveaxis(region, axis, 0)
        meets[:, axis] = side.start > 0 and faces[0].any(), side.stop < size and faces[-1].any()
    return meets


def connected(allowed: np.ndarray, seeds: np.ndarray, rank: int) -> np.ndarray:
    """Return the voxels of `allowed` (bool) that are connected to any of the seeds."""
    result = None
    for _ in range(_FLOODS):
        left = seeds if result is None else seeds[~result[tuple(seeds.T)]]
        if not len(left):
            return result
        part = _flooded(allowed, tuple(left[0].tolist()), rank)
        result = part if result is None else np.logical_or(result, part, out=result)
    left = seeds[~result[tuple(seeds.T)]]
    return result | _labelled(allowed, left, rank) if len(left) else result


def _flooded(allowed: np.ndarray, seed: tuple[int, ...], rank: int) -> np.ndarray:
    """Return the part of `allowed` that holds the seed.

    The flood runs in a thread of its own, without the interpreter's lock. When the listener cancels it is left to
    itself: it ends within seconds, and nobody waits for it.
    """
    from skimage.segmentation import flood

    outcome: list = []

    def work() -> None:
        try:
            outcome.append(flood(allowed.view(np.uint8), seed, footprint=structure(allowed.ndim, rank)))
        except BaseException as error:
            outcome.append(error)

    thread = Thread(target=work, name="lightbox-flood", daemon=True)
    report("floods", 0)
    thread.start()
    while thread.is_alive():
        thread.join(_PATIENCE)
        report("floods", 0)
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _labelled(allowed: np.ndarray, seeds: np.ndarray, rank: int) -> np.ndarray:
    """Return the voxels of `allowed` that are connected to any of the seeds, labelled slab by slab."""
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


def flat_steps(shape: tuple[int, ...], rank: int) -> list[int]:
    """Return the distance to each neighbour in a flat array, in the order in which the neighbours are visited."""
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    offsets = [o for o in product((-1, 0, 1), repeat=len(shape)) if 0 < np.count_nonzero(o) <= rank]
    return [sum(o * s for o, s in zip(offset, strides, strict=True)) for offset in offsets]
