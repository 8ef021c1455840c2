"""Rows of the filters of frequencies."""

from collections.abc import Callable
from functools import partial

import numpy as np

from ..ops import frequency
from .task import Peer, Row, Task, scan, shape_of, size_text, within

_SHAPE = (256, 256, 256)
# Single precision, over many sums.
_SAME = within(1e-4, relative=True)
_RADIUS, _ORDER = 5.0, 2


def _band(distance: np.ndarray, center: float, width: float) -> np.ndarray:
    """Return what Butterworth's band lets through, as the textbook writes it."""
    with np.errstate(divide="ignore"):
        return 1 / (1 + (distance * width / (distance**2 - center**2)) ** (2 * _ORDER))


def _offsets(shape: tuple[int, ...], center: tuple[float, ...], half: bool) -> np.ndarray:
    """Return the distance of every frequency from one; the spectrum is periodic."""
    square: np.ndarray | float = 0.0
    for axis, (n, c) in enumerate(zip(shape, center, strict=True)):
        f = np.fft.fftfreq(n, 1 / n) if not (half and axis == len(shape) - 1) else np.arange(n // 2 + 1, dtype=float)
        f = ((f - c + n / 2) % n - n / 2) if c else f
        square = square + (f**2).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return np.sqrt(square)


def _notches(shape: tuple[int, ...], center: tuple[float, ...], half: bool) -> np.ndarray:
    """Return what a notch and its mirror image let through."""
    passed = 1.0
    for c in (center, tuple(-v for v in center)):
        with np.errstate(divide="ignore"):
            passed = passed * (1 / (1 + (_RADIUS / _offsets(shape, c, half)) ** (2 * _ORDER)))
    return passed


def _tutorial(image: np.ndarray, mask: Callable[[bool], np.ndarray]) -> Callable[[], np.ndarray]:
    return lambda: np.fft.ifftn(np.fft.fftn(image) * mask(False)).real


def _half_spectrum(image: np.ndarray, mask: Callable[[bool], np.ndarray]) -> Callable[[], np.ndarray]:
    import scipy.fft

    from ..ops import _tiles

    threads = _tiles.workers()

    def call() -> np.ndarray:
        spectrum = scipy.fft.rfftn(image, workers=threads)
        spectrum *= mask(True)
        return scipy.fft.irfftn(spectrum, image.shape, workers=threads)

    return call


def _task(ours: Callable, image: np.ndarray, mask: Callable[[bool], np.ndarray]) -> Task:
    peers = [
        Peer("numpy", partial(_tutorial, image, mask), _SAME, note="whole spectrum, as tutorials have it"),
        Peer("scipy", partial(_half_spectrum, image, mask), _SAME, note="half spectrum, all cores, mask made anew"),
    ]
    return Task(ours, peers, size_text(image), 2 * image.nbytes)


def _band_reject(scale: float) -> Task:
    image = scan(shape_of(_SHAPE, scale, least=16), "float32")
    center, width = max(image.shape) / 6, max(image.shape) / 20
    origin = (0.0,) * image.ndim
    mask = lambda half: _band(_offsets(image.shape, origin, half), center, width)  # noqa: E731
    return _task(lambda: frequency.band_reject(image, center, width), image, mask)


def _notch(scale: float) -> Task:
    image = scan(shape_of(_SHAPE, scale, least=16), "float32")
    center = tuple(float(n // 5) for n in image.shape)
    mask = lambda half: _notches(image.shape, center, half)  # noqa: E731
    return _task(lambda: frequency.notch(image, [center], radius=_RADIUS, order=_ORDER), image, mask)


ROWS = [
    Row("band_reject", "band reject, Butterworth", _band_reject),
    Row("notch", "notch, Butterworth, one pair", _notch),
]
