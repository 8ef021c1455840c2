"""The fit of N4: a log field of B-splines that makes the histogram of an image sharp, level by level.

Each round takes the histogram of the logarithms, deconvolves it by the bell that a field smears it with, asks of every
grey value what it was before, and lets a smooth spline follow the differences. The points lie on a grid, so the sums of
the spline's fit run axis by axis: a product of small matrices in place of 64 terms a voxel.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..progress import report
from . import _tiles

Found = TypeVar("Found")
_ORDER = 3
# Voxels that a thread takes at a time.
_SLAB = 1 << 19
_PATIENCE = 0.2


@dataclass(frozen=True)
class Settings:
    """What steers the fit; the names are those of the paper and of ITK.

    Parameters
    ----------
    spans : tuple of int
        Stretches of the spline along each axis at the first level; every further level has twice as many.
    levels, iterations : int
        Levels, and the largest number of iterations at each.
    convergence : float
        A level ends when the field changes by less: coefficient of variation of the ratio of two fields.
    fwhm, noise : float
        Width of the bell that is deconvolved, in logarithms, and the constant of the Wiener filter.
    bins : int
        Of the histogram.
    """

    spans: tuple[int, ...]
    levels: int
    iterations: int
    convergence: float
    fwhm: float = 0.15
    noise: float = 0.01
    bins: int = 200


def fit(image: np.ndarray, inside: np.ndarray, settings: Settings) -> np.ndarray:
    """Return the control points of the log field.

    Parameters
    ----------
    image : ndarray of float64
        Values above 0 wherever `inside` is True.
    inside : ndarray of bool
        The voxels that are fitted: at least one.
    settings : Settings
        How.

    Returns
    -------
    ndarray of float64
        ``spans * 2 ** (levels - 1) + 3`` control points along each axis, which `weights` knows how to use.

    Raises
    ------
    Cancelled
        By the listener of `progress`, within one slab of the work.
    """
    job = _Job(image, inside, settings)
    lattice = np.zeros([n + _ORDER for n in settings.spans])
    spans = settings.spans
    for level in range(settings.levels):
        if level:
            lattice, spans = refined(lattice), tuple(2 * n for n in spans)
        job.begin(spans)
        for number in range(settings.iterations):
            job.told = level * settings.iterations + number
            step = job.step()
            if step is None:
                return np.zeros([n * 2 ** (settings.levels - 1) + _ORDER for n in settings.spans])
            lattice += step
            if job.move(lattice) <= settings.convergence:
                break
    return lattice


class _Job:
    """One fit: the voxels in slabs, and what every iteration needs of them."""

    def __init__(self, image: np.ndarray, inside: np.ndarray, settings: Settings) -> None:
        self.settings, self.told, self.shape = settings, 0, image.shape
        self.slabs = _tiles.slabs(image.shape, _SLAB)
        self.inside = [inside[slab] for slab in self.slabs]
        self.logs = self._each(lambda i: np.log(image[self.slabs[i]][self.inside[i]]))
        self.field = [np.zeros(len(part)) for part in self.logs]
        self.count = sum(len(part) for part in self.logs)

    def begin(self, spans: tuple[int, ...]) -> None:
        """Prepare a level: the weights of the control points at all voxels, and their sums."""
        self.weights = [weights(np.linspace(0, 1, n), m) for n, m in zip(self.shape, spans, strict=True)]
        self.cubes = [w**3 / (w**2).sum(axis=1, keepdims=True) for w in self.weights]
        squares = [w**2 for w in self.weights]
        self.shares = self._summed(lambda i: self.inside[i].astype(float), squares)

    def step(self) -> np.ndarray | None:
        """Return the control points that an iteration adds; None where all voxels have one value."""
        settings = self.settings
        ends = self._each(lambda i: _ends(self.logs[i] - self.field[i]))
        low, high = min(e[0] for e in ends), max(e[1] for e in ends)
        slope = (high - low) / (settings.bins - 1)
        if not slope > 1e-12:
            return None
        places = self._each(lambda i: _placed(self.logs[i] - self.field[i], low, slope, settings.bins))
        counts = sum(self._each(lambda i: _histogram(*places[i], settings.bins)))
        mapping = sharpened(counts, low, slope, settings.fwhm, settings.noise)
        rises = np.diff(mapping)

        def residual(i: int) -> np.ndarray:
            index, share = places[i]
            dense = np.zeros(self.inside[i].shape)
            dense[self.inside[i]] = self.logs[i] - self.field[i] - (mapping[index] + rises[index] * share)
            return dense

        found = self._summed(residual, self.cubes)
        return np.divide(found, self.shares, out=np.zeros_like(found), where=self.shares > 0)

    def move(self, lattice: np.ndarray) -> float:
        """Take over the field of some control points and return by how much it has changed."""
        later = along_later_axes(lattice, self.weights[1:])

        def work(i: int) -> tuple[float, float]:
            new = np.tensordot(self.weights[0][self.slabs[i]], later, (1, 0))[self.inside[i]]
            ratio = np.exp(self.field[i] - new)
            self.field[i] = new
            return ratio.sum(), np.square(ratio - 1).sum()

        sums = self._each(work)
        mean = sum(s[0] for s in sums) / self.count
        # About 1, where the ratios are: nothing is lost to cancellation.
        variance = max(0.0, sum(s[1] for s in sums) - self.count * (mean - 1) ** 2) / max(1, self.count - 1)
        return float(np.sqrt(variance) / mean)

    def _summed(self, values: Callable[[int], np.ndarray], factors: Sequence[np.ndarray]) -> np.ndarray:
        """Return, for every control point, the sum over all voxels of values times its factor along each axis."""
        return sum(self._each(lambda i: _along([factors[0][self.slabs[i]], *factors[1:]], values(i))))

    def _each(self, work: Callable[[int], Found]) -> list[Found]:
        """Return what `work` finds for each slab, in order; the listener may cancel between them."""
        total = self.settings.levels * self.settings.iterations
        report("iterations", self.told, total)
        if len(self.slabs) == 1:
            return [work(0)]
        with ThreadPoolExecutor(min(_tiles.workers(), len(self.slabs))) as pool:
            try:
                futures = [pool.submit(work, i) for i in range(len(self.slabs))]
                waiting = set(futures)
                while waiting:
                    _, waiting = wait(waiting, _PATIENCE, FIRST_COMPLETED)
                    report("iterations", self.told, total)
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def weights(places: np.ndarray, spans: int) -> np.ndarray:
    """Return what each control point of a uniform cubic B-spline adds at some places.

    Parameters
    ----------
    places : (n,) ndarray
        From 0 to 1, the ends of the spline.
    spans : int
        Stretches between the two.

    Returns
    -------
    (n, spans + 3) ndarray of float64
        Rows with sum 1, of which at most four neighbours are not 0.

    Examples
    --------
    >>> (6 * weights(np.array([0.0, 0.5, 1.0]), 2)).round(9).tolist()
    [[1.0, 4.0, 1.0, 0.0, 0.0], [0.0, 1.0, 4.0, 1.0, 0.0], [0.0, 0.0, 1.0, 4.0, 1.0]]
    """
    at = np.asarray(places, float) * spans
    first = np.clip(np.floor(at).astype(int), 0, spans - 1)
    t = at - first
    pieces = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    found = np.zeros((len(at), spans + _ORDER))
    for offset, piece in enumerate(pieces):
        found[np.arange(len(at)), first + offset] = piece / 6
    return found


def refined(lattice: np.ndarray) -> np.ndarray:
    """Return control points of the same spline with twice as many spans along each axis.

    Examples
    --------
    >>> refined(np.array([0.0, 8.0, 16.0, 24.0])).tolist()
    [4.0, 8.0, 12.0, 16.0, 20.0]
    """
    for axis in range(lattice.ndim):
        rows = np.moveaxis(lattice, axis, 0)
        finer = np.empty((2 * len(rows) - _ORDER, *rows.shape[1:]))
        finer[::2] = (rows[:-1] + rows[1:]) / 2
        finer[1::2] = (rows[:-2] + 6 * rows[1:-1] + rows[2:]) / 8
        lattice = np.moveaxis(finer, 0, axis)
    return lattice


def along_later_axes(lattice: np.ndarray, factors: Sequence[np.ndarray]) -> np.ndarray:
    """Return a lattice evaluated along all axes but the first: what a slab needs is then one product of matrices."""
    return _along([np.eye(len(lattice)), *(w.T for w in factors)], lattice)


def _along(factors: Sequence[np.ndarray], array: np.ndarray) -> np.ndarray:
    """Multiply each axis of an array by a matrix, (old length, new length)."""
    for factor in reversed(factors):
        # The last axis each time, which goes to the front: after all of them their order is the old one.
        array = np.moveaxis(np.tensordot(array, factor, (array.ndim - 1, 0)), -1, 0)
    return array


def _ends(values: np.ndarray) -> tuple[float, float]:
    return (values.min(), values.max()) if len(values) else (np.inf, -np.inf)


def _placed(values: np.ndarray, low: float, slope: float, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the bin whose centre lies below each value, and how far it is from there to the next, 0 to 1."""
    place = (values - low) / slope
    index = np.clip(place.astype(np.int32), 0, bins - 2)
    return index, place - index


def _histogram(index: np.ndarray, share: np.ndarray, bins: int) -> np.ndarray:
    """Count values, each shared by the two bins whose centres it lies between."""
    upper = np.bincount(index + 1, share, bins)
    return np.bincount(index, 1 - share, bins) + upper


def sharpened(counts: np.ndarray, low: float, slope: float, fwhm: float, noise: float) -> np.ndarray:
    """Return the value that each bin of a histogram stood for before a bell smeared it.

    Parameters
    ----------
    counts : (bins,) ndarray
        Histogram.
    low, slope : float
        Value of the first bin, and from one bin to the next.
    fwhm : float
        Full width at half maximum of the bell, in values.
    noise : float
        Constant of the Wiener filter.

    Returns
    -------
    (bins,) ndarray
        Expected value of the unsmeared distribution, given the smeared one; 0 where there is none.

    Examples
    --------
    >>> bell = np.exp(-np.linspace(-4, 4, 81) ** 2)
    >>> sharpened(bell, 0.0, 0.1, 1.0, 0.01)[[20, 40, 60]].round(1).tolist()
    [2.7, 4.0, 5.3]
    """
    bins = len(counts)
    size = 2 ** (int(np.ceil(np.log2(bins))) + 1)
    start = (size - bins) // 2
    padded = np.zeros(size)
    padded[start : start + bins] = counts
    width = fwhm / slope
    reach = np.minimum(np.arange(size), size - np.arange(size))
    bell = 2 * np.sqrt(np.log(2) / np.pi) / width * np.exp(-4 * np.log(2) * (reach / width) ** 2)
    bell = np.fft.rfft(bell)
    wiener = np.conj(bell) / (np.abs(bell) ** 2 + noise)
    before = np.maximum(np.fft.irfft(np.fft.rfft(padded) * wiener.real, size), 0)
    values = low + (np.arange(size) - start) * slope
    above = np.fft.irfft(np.fft.rfft(values * before) * bell, size)
    below = np.fft.irfft(np.fft.rfft(before) * bell, size)
    return np.divide(above, below, out=np.zeros(size), where=below != 0)[start : start + bins]
