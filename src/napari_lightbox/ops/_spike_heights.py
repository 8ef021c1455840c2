"""How high every frequency of an image stands: its spectrum under a window, and what is typical of its distance from 0.

A real image needs half a spectrum; the other half is its mirror image. All is worked on in slabs, side by side: a
volume takes its half spectrum and one array of its own size, in single precision.
"""

from collections.abc import Sequence

import numpy as np
import scipy.fft

from . import _lines, _tiles

# A window with these terms (Blackman and Harris) holds a wave within 4 frequencies of its own, and lets 1/10000 out.
_TERMS = (0.35875, -0.48829, 0.14128, -0.01168)
_LEFT_BY_WINDOW = 2e-5
# Axes of fewer samples are left as they are: a window would leave nothing of them.
SHORT = 24
_MOST_RINGS = 100
SLAB = 1 << 19


def log_spectrum(image: np.ndarray) -> np.ndarray:
    """Return the logarithm of the magnitude of the half spectrum of an image under a window; it is not constant."""
    single = image.ndim > 2
    real, shape = np.dtype(np.float32 if single else np.float64), image.shape
    mean = image.mean(dtype=np.float64)
    scale = max(image.max() - mean, mean - image.min()) or 1
    windows = [_window(n, axis, image.ndim) for axis, n in enumerate(shape) if n >= SHORT]
    half = np.empty((*shape[:-1], shape[-1] // 2 + 1), np.result_type(real, np.complex64))
    across = half.reshape(shape[0], -1)

    def along(rows: slice) -> None:
        values = image[rows].astype(np.float64)
        values -= mean
        values /= scale
        for window in windows:
            values *= window[rows] if len(window) > 1 else window
        found = scipy.fft.rfft(values.astype(real, copy=False))
        half[rows] = scipy.fft.fftn(found, axes=range(1, image.ndim - 1), overwrite_x=True) if single else found

    highest: list[float] = []

    def first_axis(columns: slice) -> None:
        across[:, columns] = found = scipy.fft.fft(across[:, columns], axis=0)
        highest.append(np.abs(found).max())

    _tiles.run(along, _tiles.slabs(shape, SLAB), "rows")
    _tiles.run(first_axis, _tiles.slabs(across.T.shape, SLAB), "columns")
    shown, least = np.empty(half.shape, np.float32), _LEFT_BY_WINDOW * max(highest)

    def logarithm(rows: slice) -> None:
        # What the window itself leaves of the strongest frequency is no background to stand out from.
        shown[rows] = np.log(np.maximum(np.abs(half[rows]), least))

    _tiles.run(logarithm, _tiles.slabs(half.shape, SLAB), "slabs")
    return shown


def _window(length: int, axis: int, ndim: int) -> np.ndarray:
    angle = 2 * np.pi * (np.arange(length) + 0.5) / length
    window = sum(term * np.cos(k * angle) for k, term in enumerate(_TERMS))
    return window.reshape([-1 if a == axis else 1 for a in range(ndim)])


def heights_at(half: np.ndarray, shape: Sequence[int], places: np.ndarray) -> np.ndarray:
    """Return what a half spectrum says of frequencies, given as offsets from zero: one row each."""
    return half.ravel()[_index_of(places, shape)]


def _index_of(places: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return where the half spectrum, as one row, holds frequencies."""
    width = shape[-1] // 2 + 1
    mirrored = places[:, -1:] % shape[-1] >= width
    return np.ravel_multi_index(tuple((np.where(mirrored, -places, places) % shape).T), (*shape[:-1], width))


class Rings:
    """The distance of every frequency of a shape from zero, in cycles per sample, cut into rings.

    The same for all slices of a shape, so it is made once for them.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._count = min(_MOST_RINGS, max(8, max(shape) // 4))
        self._squares = [
            (((np.arange(n) - n // 2) / n) ** 2)
            .astype(np.float32)
            .reshape([-1 if a == axis else 1 for a in range(len(shape))])
            for axis, n in enumerate(shape)
        ]
        size = int(np.prod(shape))
        # Some ten thousands tell; an odd step, as an even one would meet the same columns in every row.
        index = np.unravel_index(np.arange(0, size, max(1, size >> 16) | 1), shape)
        number = self._scaled([s.ravel()[i] for s, i in zip(self._squares, index, strict=True)]).astype(int)
        order = np.argsort(number, kind="stable")
        self._sample = _index_of(np.stack([i[order] - n // 2 for i, n in zip(index, shape, strict=True)], 1), shape)
        count = np.bincount(number, minlength=self._count)
        self._used = np.flatnonzero(count)
        self._ends = np.cumsum(count[self._used])

    def _scaled(self, squares: Sequence[np.ndarray]) -> np.ndarray:
        total = np.zeros(np.broadcast_shapes(*(s.shape for s in squares)), np.float32)
        for square in squares:
            total += square
        # The corners, beyond the highest frequency along an axis, are too small to be told apart.
        ring = np.minimum(np.sqrt(total, out=total), 0.499, out=total)
        ring *= self._count
        return ring

    def above(self, half: np.ndarray) -> np.ndarray:
        """Return by how much every frequency exceeds the median of its ring, the zero frequency in the centre."""
        shape, middles = self.shape, self._middles(half.ravel()[self._sample])
        above = np.empty(shape, np.float32)

        def work(rows: slice) -> None:
            ring = self._scaled([self._squares[0][rows], *self._squares[1:]])
            typical = np.interp(ring, self._used + 0.5, middles).astype(np.float32)
            np.subtract(_unfolded(half, shape, rows), typical, out=above[rows])

        _tiles.run(work, _tiles.slabs(shape, SLAB), "slabs")
        return above

    def _middles(self, heights: np.ndarray) -> list[float]:
        parts = np.split(heights, self._ends[:-1])
        return [np.partition(part, len(part) // 2)[len(part) // 2] for part in parts]


def _unfolded(half: np.ndarray, shape: tuple[int, ...], rows: slice) -> np.ndarray:
    """Return some rows of the whole of a half spectrum, the zero frequency in the centre."""
    first, width = np.arange(rows.start, rows.stop) - shape[0] // 2, half.shape[-1]
    shown = np.empty((len(first), *shape[1:]), np.float32)
    shown[..., :width] = half[first % shape[0]]
    mirror = [-np.arange(n) % n for n in shape[1:-1]]
    last = shape[-1] - np.arange(width, shape[-1])
    shown[..., width:] = half[np.ix_(-first % shape[0], *mirror, last)]
    return scipy.fft.fftshift(shown, axes=range(1, len(shape)))


def peaks(above: np.ndarray, cores: Sequence[int]) -> np.ndarray:
    """Return the places that are the highest of their core's surroundings, in the order of the array."""
    # As wide as an axis has the same neighbours as a little wider.
    sizes = [2 * (min(2 * core - 1, n) // 2) + 1 for core, n in zip(cores, above.shape, strict=True)]
    halo = [sizes[0] // 2] + [0] * (above.ndim - 1)
    # Thick ones: every slab is looked at together with its border.
    slabs = _tiles.slabs(above.shape, 8 * SLAB)
    found: dict[int, np.ndarray] = {}

    def work(rows: slice) -> None:
        block = (rows, *(slice(0, n) for n in above.shape[1:]))
        highest = _highest(_tiles.with_halo(above, block, halo, "wrap"), sizes)
        here = above[rows]
        places = np.argwhere((here == highest[halo[0] : halo[0] + len(here)]) & (here > -np.inf))
        places[:, 0] += rows.start
        found[rows.start] = places

    _tiles.run(work, slabs, "slabs")
    return np.concatenate([found[slab.start] for slab in slabs])


def _highest(values: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    kind = values.dtype
    return _lines.passes(
        values, sizes, "wrap", lambda a: _lines.extremes(np.maximum, sizes[a]), dtype=kind, between=kind, inner=kind
    )
