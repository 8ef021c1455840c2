"""Finding the spikes that a periodic pattern makes in the spectrum of an image.

A spike is a frequency that stands far above its surroundings on every side. Edges of the body, ribs, tables and the
border of the image make ridges instead: along a ridge the surroundings are as high as the place itself.

A pattern that runs through a stack of slices may be too weak to be found in each of them. `find_in_slices` looks at the
median of their spectra, too, in which noise nearly vanishes, and treats all slices alike.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..progress import track
from . import _spike_heights, _tiles

# A wave lies within so many frequencies of its own: see the window of `_spike_heights`.
CORE = 4
# The surroundings of a frequency reach from beyond its core to here.
_OUTER = 9
_CANDIDATES = 400
# Least natural logarithm of the ratio between a spike and the highest of its surroundings: a factor of 2.
_ISOLATION = float(np.log(2))
# Least spread of the surroundings, as a logarithm, where they are smoother than noise.
_LEAST_SPREAD = 0.25
# Candidates whose surroundings are looked at together hold so many numbers.
_TOGETHER = 1 << 18
# Slices whose spectra are looked at together: more would hardly lower the noise further, and each takes memory.
_MOST_SLICES = 63


def find(image: np.ndarray, threshold: float, limit: int, guard: int) -> np.ndarray:
    """Return the spikes, strongest first, one of each pair; see `frequency.find_spikes`."""
    if image.min() == image.max():
        return np.zeros((0, image.ndim), int)
    rings = _spike_heights.Rings(image.shape)
    return _find_in(_spike_heights.log_spectrum(image), rings, threshold, limit, guard)


def find_in_slices(planes: np.ndarray, threshold: float, limit: int, guard: int) -> list[np.ndarray]:
    """Return the spikes of every slice of a stack: those that all have in common, and then its own.

    Common to all are the spikes of the median of the spectra (each relative to its own median; of at most 63 slices,
    evenly spread, and the lower median of an even number), and those that are found, within a sample, in a third of
    the slices, and in two at least. What is found in fewer belongs to these alone.

    Parameters
    ----------
    planes : ndarray
        (slice, y, x), real and finite.
    threshold, limit, guard
        As for `find`.

    Returns
    -------
    list of ndarray of int
        (n, 2) for each slice.
    """
    shape, own = planes.shape[1:], [np.zeros((0, 2), int)] * len(planes)
    rings = _spike_heights.Rings(shape)
    chosen = _chosen(planes)
    spectra = np.zeros((max(1, len(chosen)), shape[0], shape[1] // 2 + 1), np.float32)

    def search(index: int) -> None:
        if planes[index].min() != planes[index].max():
            half = _spike_heights.log_spectrum(planes[index])
            own[index] = _find_in(half, rings, threshold, limit, guard)
            if index in chosen:
                spectra[chosen[index]] = half - np.median(half)

    _tiles.run(search, range(len(planes)), "slices")
    common = _find_in(_median(spectra), rings, threshold, limit, guard)
    common = np.concatenate([common, _frequent(own, common, shape)])[:limit]
    own = [points[~_near(points, common, shape, CORE)] for points in own]
    return [np.concatenate([common, points])[:limit] for points in own]


def _chosen(planes: np.ndarray) -> dict[int, int]:
    """Return the slices whose spectra are looked at together, and a number for each."""
    evenly = np.unique(np.linspace(0, len(planes) - 1, min(len(planes), _MOST_SLICES)).round().astype(int))
    # Slices without any content, such as air, have no say.
    content = [int(index) for index in evenly if planes[index].min() != planes[index].max()]
    return {index: number for number, index in enumerate(content)}


def _median(spectra: np.ndarray) -> np.ndarray:
    """Return the lower median over the first axis; the array is overwritten."""
    middle = (len(spectra) - 1) // 2

    def work(rows: slice) -> None:
        spectra[0, rows] = np.partition(spectra[:, rows], middle, axis=0)[middle]

    _tiles.run(work, _tiles.slabs((spectra.shape[1], spectra[:, 0].size), _TOGETHER), "slabs")
    return spectra[0]


def _frequent(own: Sequence[np.ndarray], common: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the places that are found in a third of the slices, those in most slices first."""
    places = Counter(tuple(p) for points in own for p in points[~_near(points, common, shape, CORE)].tolist())
    # The most frequent place stands for its neighbours.
    candidates = sorted(places, key=lambda p: (-places[p], p))
    least, taken = max(2, -(-len(own) // 3)), np.zeros((0, 2), int)
    points = np.concatenate([np.zeros((0, 2), int), *own])
    slices = np.repeat(np.arange(len(own)), [len(p) for p in own])
    for candidate in track(candidates, "places"):
        place = np.array(candidate, dtype=int)[None]
        if _near(place, taken, shape, CORE).any():
            continue
        if len(np.unique(slices[_near(points, place, shape, 1)])) >= least:
            taken = np.concatenate([taken, place])
    return taken


def _near(points: np.ndarray, others: np.ndarray, shape: tuple[int, ...], reach: int) -> np.ndarray:
    """Whether each point, or its mirror image, is at most `reach` samples from any of the others along every axis."""
    sizes, near = np.array(shape), np.zeros(len(points), bool)
    for sign in (1, -1):
        apart = (sign * points[:, None] - others + sizes // 2) % sizes - sizes // 2
        near |= (np.abs(apart) <= reach).all(axis=2).any(axis=1)
    return near


def _find_in(half: np.ndarray, rings: _spike_heights.Rings, threshold: float, limit: int, guard: int) -> np.ndarray:
    """Return the spikes of a half spectrum, as a logarithm."""
    shape, middle = rings.shape, [n // 2 for n in rings.shape]
    cores = [CORE if n >= _spike_heights.SHORT else n for n in shape]
    around, core = _surroundings(shape, cores)
    if not len(around):
        return np.zeros((0, len(shape)), int)
    # Anatomy fades with the frequency, steeply near zero: what is typical of a distance is taken off first.
    above = rings.above(half)
    centre = tuple(slice(m - guard if guard < m else 0, m + guard + 1) for m in middle)
    above[centre] = -np.inf
    places = _spike_heights.peaks(above, cores) - middle
    places = places[_first_of_pair(places, shape)]
    order = np.argsort(-above[tuple((places + middle).T)], kind="stable")
    found = _Found(above, around, core)
    found.judge_all(places[order[:_CANDIDATES]], threshold)
    places = [_top(half, shape, place) for place in found.spikes]
    places = [p for p in places if (np.abs(p) > guard).any()]
    spikes = np.array(places, dtype=int).reshape(-1, len(shape))
    spikes = spikes[np.argsort(-_spike_heights.heights_at(half, shape, spikes), kind="stable")][:limit]
    return np.where(_first_of_pair(spikes, shape)[:, None], spikes, -spikes)


class _Found:
    """The spikes found so far; `above` is the height of every frequency above what is typical of its distance."""

    def __init__(self, above: np.ndarray, around: np.ndarray, core: np.ndarray) -> None:
        self.above, self.around, self.core = above, around, core
        self.middle = np.array([n // 2 for n in above.shape])
        self.reach = core.max(axis=0)
        # What a stronger spike makes of its own surroundings does not hide a weaker one beside it.
        self.taken = above == -np.inf
        self.spikes: list[np.ndarray] = []

    def judge_all(self, places: np.ndarray, threshold: float) -> None:
        """Take in those of the places, the highest first, that are spikes."""
        open_ = ~self._hopeless(places)
        for index, place in enumerate(track(places, "peaks")):
            if open_[index] and self.judge(place, threshold):
                # What hid its neighbours may be the core of this spike.
                open_ |= _near(places, place[None], self.above.shape, _OUTER + int(self.reach.max()))

    def _hopeless(self, places: np.ndarray) -> np.ndarray:
        """Whether places are too low beside their surroundings, whatever is typical of these.

        Most are. One that lies near its mirror image is left open, as part of its surroundings may not count.
        """
        shape = np.array(self.above.shape)
        apart = (2 * places + shape // 2) % shape - shape // 2
        open_ = (np.abs(apart) <= _OUTER + self.reach).all(axis=1)
        highest = np.full(len(places), -np.inf, np.float32)
        step = max(1, _TOGETHER // len(self.around))
        for start in range(0, len(places), step):
            highest[start : start + step] = self._highest_around(places[start : start + step])
        heights = self.above[tuple((places + self.middle).T)]
        return (heights.astype(float) - highest < _ISOLATION) & ~open_

    def _highest_around(self, places: np.ndarray) -> np.ndarray:
        """Return the largest height in the surroundings of places."""
        ndim, outer = self.above.ndim, self.around.max(axis=0)
        index = np.zeros((len(places), *[1] * ndim), np.intp)
        for axis, n in enumerate(self.above.shape):
            along = (places[:, axis, None] + self.middle[axis] + np.arange(-outer[axis], outer[axis] + 1)) % n
            index = index * n + along.reshape(len(places), *[-1 if a == axis else 1 for a in range(ndim)])
        near = self.above.ravel()[index]
        near[(slice(None), *((outer + self.core).T))] = -np.inf
        return near.reshape(len(places), -1).max(axis=1)

    def judge(self, place: np.ndarray, threshold: float) -> bool:
        """Take `place` in if it is a spike, and say so."""
        shape, around = np.array(self.above.shape), self.around
        apart = (2 * place + shape // 2) % shape - shape // 2
        if (np.abs(apart) >= 2 * self.reach).any():
            # Close to the highest frequency the mirror image lies just across the edge of the spectrum. Closer still
            # the two cannot be told apart from a ridge along that edge.
            mirror = (around + 2 * place + shape // 2) % shape - shape // 2
            around = around[(np.abs(mirror) > self.reach).any(axis=1)]
        near = tuple(((place + self.middle + around) % shape).T)
        height = float(self.above[tuple(place + self.middle)])
        values = self.above[near][~self.taken[near]]
        if len(values) < len(self.around) / 4 or height - values.max() < _ISOLATION:
            return False
        typical = np.median(values)
        spread = max(1.4826 * float(np.median(np.abs(values - typical))), _LEAST_SPREAD)
        if height - typical < threshold * spread:
            return False
        self.spikes.append(place)
        for side in (place, -place):
            self.taken[tuple(((side + self.middle + self.core) % self.above.shape).T)] = True
        return True


def _top(half: np.ndarray, shape: tuple[int, ...], place: np.ndarray) -> np.ndarray:
    """Return the highest of a place and its neighbours: what is typical of a distance may move a peak by one."""
    steps = np.stack(np.meshgrid(*[(-1, 0, 1)] * len(shape), indexing="ij"), -1).reshape(-1, len(shape))
    sizes = np.array(shape)
    # As offsets in the order in which the spectrum is shown.
    near = (place + steps + sizes // 2) % sizes - sizes // 2
    return near[_spike_heights.heights_at(half, shape, near).argmax()]


def _first_of_pair(places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Whether each place comes before its mirror image: the first offset that has a mirror image is positive."""
    first, open_ = np.zeros(len(places), bool), np.ones(len(places), bool)
    for axis, n in enumerate(shape):
        # The highest frequency of an even axis, and zero, are their own mirror images.
        own = (places[:, axis] == 0) | (places[:, axis] == -n / 2)
        first |= open_ & ~own & (places[:, axis] > 0)
        open_ &= own
    return first | open_


def _surroundings(shape: tuple[int, ...], cores: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the offsets of the surroundings of a frequency, and those of its core."""
    reach = [min(_OUTER, (n - 1) // 2) for n in shape]
    offsets = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), -1).reshape(-1, len(shape))
    inner = (np.abs(offsets) <= cores).all(axis=1)
    return offsets[~inner], offsets[inner]
