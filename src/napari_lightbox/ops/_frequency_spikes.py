"""Finding the spikes that a periodic pattern makes in the spectrum of an image.

A spike is a frequency that stands far above its surroundings on every side. Edges of the body, ribs, tables and the
border of the image make ridges instead: along a ridge the surroundings are as high as the place itself.

A pattern that runs through a stack of slices may be too weak to be found in each of them. `find_in_slices` looks at the
median of their spectra, too, in which noise nearly vanishes, and treats all slices alike.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import scipy.fft
from scipy import ndimage

from ..progress import track
from . import _tiles

# A window with these terms (Blackman and Harris) holds a wave within 4 frequencies of its own, and lets 1/10000 out.
_TERMS = (0.35875, -0.48829, 0.14128, -0.01168)
CORE = 4
_LEFT_BY_WINDOW = 2e-5
# The surroundings of a frequency reach from beyond its core to here.
_OUTER = 9
# Axes of fewer samples are left as they are: a window would leave nothing of them.
_SHORT = 24
_CANDIDATES = 400
# Least natural logarithm of the ratio between a spike and the highest of its surroundings: a factor of 2.
_ISOLATION = float(np.log(2))
# Least spread of the surroundings, as a logarithm, where they are smoother than noise.
_LEAST_SPREAD = 0.25
_MOST_RINGS = 100
_SLAB = 1 << 21
# Slices whose spectra are looked at together: more would hardly lower the noise further, and each takes memory.
_MOST_SLICES = 63


def find(image: np.ndarray, threshold: float, limit: int, guard: int) -> np.ndarray:
    """Return the spikes, strongest first, one of each pair; see `frequency.find_spikes`."""
    if image.min() == image.max():
        return np.zeros((0, image.ndim), int)
    shown = _unfolded(_log_spectrum(image, _tiles.workers()), image.shape)
    return _find_in(shown, threshold, limit, guard)


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

    def search(index: int) -> None:
        own[index] = find(planes[index], threshold, limit, guard)

    _tiles.run(search, range(len(planes)), "slices")
    common = _find_in(_unfolded(_median_spectrum(planes), shape), threshold, limit, guard)
    common = np.concatenate([common, _frequent(own, common, shape)])[:limit]
    own = [points[~_near(points, common, shape, CORE)] for points in own]
    return [np.concatenate([common, points])[:limit] for points in own]


def _median_spectrum(planes: np.ndarray) -> np.ndarray:
    """Return the median over slices of the half spectrum's logarithm; 0 where no slice shows anything."""
    chosen = np.unique(np.linspace(0, len(planes) - 1, min(len(planes), _MOST_SLICES)).round().astype(int))
    # Slices without any content, such as air, have no say.
    chosen = [index for index in chosen if planes[index].min() != planes[index].max()]
    height, width = planes.shape[1:]
    found = np.zeros((max(1, len(chosen)), height, width // 2 + 1), np.float32)

    def transform(number: int) -> None:
        shown = _log_spectrum(planes[chosen[number]], 1)
        found[number] = shown - np.median(shown)

    _tiles.run(transform, range(len(chosen)), "spectra")
    middle = (len(found) - 1) // 2
    for rows in track(_tiles.slabs((height, found[:, 0].size), _SLAB), "slabs"):
        found[0, rows] = np.partition(found[:, rows], middle, axis=0)[middle]
    return found[0]


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


def _find_in(shown: np.ndarray, threshold: float, limit: int, guard: int) -> np.ndarray:
    """Return the spikes of a spectrum, as a logarithm with the zero frequency in the centre."""
    shape, middle = shown.shape, [n // 2 for n in shown.shape]
    cores = [CORE if n >= _SHORT else n for n in shape]
    around, core = _surroundings(shape, cores)
    if not len(around):
        return np.zeros((0, shown.ndim), int)
    # Anatomy fades with the frequency, steeply near zero: what is typical of a distance is taken off first.
    above = shown - _typical(shown)
    centre = tuple(slice(m - guard if guard < m else 0, m + guard + 1) for m in middle)
    above[centre] = -np.inf
    places = _peaks(above, cores) - middle
    places = places[_first_of_pair(places, shape)]
    order = np.argsort(-above[tuple((places + middle).T)], kind="stable")
    places = places[order[:_CANDIDATES]]
    found = _Found(above, around, core)
    for place in track(places, "peaks"):
        found.judge(place, threshold)
    places = [_top(shown, place + middle) for place in found.spikes]
    places = [p for p in places if any(abs(i - m) > guard for i, m in zip(p, middle, strict=True))]
    places.sort(key=lambda place: -shown[place])
    spikes = np.array(places[:limit], dtype=int).reshape(-1, shown.ndim) - middle
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

    def judge(self, place: np.ndarray, threshold: float) -> None:
        """Take `place` in if it is a spike."""
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
            return
        typical = np.median(values)
        spread = max(1.4826 * float(np.median(np.abs(values - typical))), _LEAST_SPREAD)
        if height - typical >= threshold * spread:
            self.spikes.append(place)
            for side in (place, -place):
                self.taken[tuple(((side + self.middle + self.core) % self.above.shape).T)] = True


def _log_spectrum(image: np.ndarray, workers: int) -> np.ndarray:
    """Return the logarithm of the magnitude of the half spectrum of an image under a window; it is not constant."""
    values = image.astype(np.float64)
    values -= values.mean()
    values /= np.abs(values).max() or 1
    for axis, n in enumerate(image.shape):
        if n >= _SHORT:
            angle = 2 * np.pi * (np.arange(n) + 0.5) / n
            window = sum(term * np.cos(k * angle) for k, term in enumerate(_TERMS))
            values *= window.reshape([-1 if a == axis else 1 for a in range(image.ndim)])
    half = scipy.fft.rfft(values, workers=workers)
    for axis in track(range(image.ndim - 1), "axes"):
        # Axis by axis: the listener is asked in between.
        half = scipy.fft.fft(half, axis=axis, overwrite_x=True, workers=workers)
    height = np.abs(half)
    # What the window itself leaves of the strongest frequency is no background to stand out from.
    return np.log(np.maximum(height, _LEFT_BY_WINDOW * height.max())).astype(np.float32)


def _unfolded(half: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the whole of a half spectrum with the zero frequency in the centre."""
    shown = np.empty(shape, np.float32)
    shown[..., : half.shape[-1]] = half
    # The other half is its mirror image.
    mirror = [-np.arange(n) % n for n in shape[:-1]]
    last = shape[-1] - np.arange(half.shape[-1], shape[-1])
    shown[..., half.shape[-1] :] = half[np.ix_(*mirror, last)]
    return scipy.fft.fftshift(shown)


def _peaks(above: np.ndarray, cores: Sequence[int]) -> np.ndarray:
    """Return the places that are the highest of their core's surroundings."""
    highest = above
    for axis in track(range(above.ndim), "axes"):
        size = min(2 * cores[axis] - 1, above.shape[axis])
        highest = ndimage.maximum_filter1d(highest, size, axis=axis, mode="wrap")
    return np.argwhere((above == highest) & (above > -np.inf))


def _top(shown: np.ndarray, place: np.ndarray) -> tuple[int, ...]:
    """Return the highest of a place and its neighbours: what is typical of a distance may move a peak by one."""
    steps = np.stack(np.meshgrid(*[(-1, 0, 1)] * shown.ndim, indexing="ij"), -1).reshape(-1, shown.ndim)
    near = (place + steps) % shown.shape
    return tuple(near[shown[tuple(near.T)].argmax()].tolist())


def _first_of_pair(places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Whether each place comes before its mirror image: the first offset that has a mirror image is positive."""
    first, open_ = np.zeros(len(places), bool), np.ones(len(places), bool)
    for axis, n in enumerate(shape):
        # The highest frequency of an even axis, and zero, are their own mirror images.
        own = (places[:, axis] == 0) | (places[:, axis] == -n / 2)
        first |= open_ & ~own & (places[:, axis] > 0)
        open_ &= own
    return first | open_


def _typical(shown: np.ndarray) -> np.ndarray:
    """Return the median height at every frequency's distance from zero, in cycles per sample."""
    square = np.zeros(shown.shape, np.float32)
    for axis, n in enumerate(shown.shape):
        offsets = ((np.arange(n) - n // 2) / n) ** 2
        square += offsets.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(shown.ndim)])
    ring = np.sqrt(square, out=square)
    rings = min(_MOST_RINGS, max(8, max(shown.shape) // 4))
    # The corners, beyond the highest frequency along an axis, are too small to be told apart.
    ring = np.minimum(ring, 0.499, out=ring)
    ring *= rings
    # Some ten thousands tell; an odd step, as an even one would meet the same columns in every row.
    sample = slice(None, None, max(1, shown.size >> 16) | 1)
    number, heights = ring.ravel()[sample].astype(int), shown.ravel()[sample]
    order = np.lexsort((heights, number))
    count = np.bincount(number, minlength=rings)
    used = np.flatnonzero(count)
    middles = (np.cumsum(count) - count + count // 2)[used]
    return np.interp(ring, used + 0.5, heights[order][middles]).astype(np.float32)


def _surroundings(shape: tuple[int, ...], cores: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the offsets of the surroundings of a frequency, and those of its core."""
    reach = [min(_OUTER, (n - 1) // 2) for n in shape]
    offsets = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), -1).reshape(-1, len(shape))
    inner = (np.abs(offsets) <= cores).all(axis=1)
    return offsets[~inner], offsets[inner]
