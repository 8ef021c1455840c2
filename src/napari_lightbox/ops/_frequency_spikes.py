"""Finding the spikes that a periodic pattern makes in the spectrum of an image.

A spike is a frequency that stands far above its surroundings on every side. Edges of the body, ribs, tables and the
border of the image make ridges instead: along a ridge the surroundings are as high as the place itself.
"""

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


def find(image: np.ndarray, threshold: float, limit: int, guard: int) -> np.ndarray:
    """Return the spikes, strongest first, one of each pair; see `frequency.find_spikes`."""
    shape, middle = image.shape, [n // 2 for n in image.shape]
    cores = [CORE if n >= _SHORT else n for n in shape]
    around, core = _surroundings(shape, cores)
    if not len(around) or image.min() == image.max():
        return np.zeros((0, image.ndim), int)
    shown = _log_spectrum(image)
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
    spikes = np.array(places[:limit], dtype=int).reshape(-1, image.ndim) - middle
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


def _log_spectrum(image: np.ndarray) -> np.ndarray:
    """Return the logarithm of the magnitude with the zero frequency in the centre, of the image under a window."""
    values = image.astype(np.float64)
    values -= values.mean()
    largest = np.abs(values).max()
    values /= largest or 1
    for axis, n in enumerate(image.shape):
        if n >= _SHORT:
            angle = 2 * np.pi * (np.arange(n) + 0.5) / n
            window = sum(term * np.cos(k * angle) for k, term in enumerate(_TERMS))
            values *= window.reshape([-1 if a == axis else 1 for a in range(image.ndim)])
    half = scipy.fft.rfft(values, workers=_tiles.workers())
    for axis in track(range(image.ndim - 1), "axes"):
        # Axis by axis: the listener is asked in between.
        half = scipy.fft.fft(half, axis=axis, overwrite_x=True, workers=_tiles.workers())
    height = np.abs(half)
    # What the window itself leaves of the strongest frequency is no background to stand out from.
    height = np.log(np.maximum(height, _LEFT_BY_WINDOW * height.max())).astype(np.float32)
    shown = np.empty(image.shape, np.float32)
    shown[..., : height.shape[-1]] = height
    # The other half is its mirror image.
    mirror = [-np.arange(n) % n for n in image.shape[:-1]]
    last = image.shape[-1] - np.arange(height.shape[-1], image.shape[-1])
    shown[..., height.shape[-1] :] = height[np.ix_(*mirror, last)]
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
