"""Filters in the frequency domain, and the picture of the spectrum they are set up on."""

from typing import Annotated, Literal

import numpy as np
import scipy.fft

from ..errors import InputError
from ..progress import track
from ..types import ImageArray
from . import _check, _tiles

# Points of the shown spectrum as a person types them: "12, 30; -5, 8".
SpectrumPoints = Annotated[str, {"unit": "samples"}]
_SPREADS = "a Fourier transform would spread them over the whole image, so replace them first"
_SLAB = 1 << 22


def spectrum(image: ImageArray) -> ImageArray:
    """Show how strong every frequency of an image is: log(1 + |F|), zero frequency in the centre.

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape; all axes are transformed.

    Returns
    -------
    ndarray of float32
        Same shape as `image`. The zero frequency (the sum of the image) lies at index ``n // 2`` of every axis of n
        samples; one sample further along an axis is one more cycle over the length of that axis.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, or holds NaN or infinite values.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 4.6, Fourier spectrum and phase angle.

    Examples
    --------
    >>> spectrum(np.ones((2, 3))).round(3).tolist()
    [[0.0, 0.0, 0.0], [0.0, 1.9459999799728394, 0.0]]
    """
    image = _finite_image(image)
    result = np.empty(image.shape, np.float32)
    if image.ndim == 1:
        result[...] = _log_magnitude(scipy.fft.fft(_as_float(image)))
        return scipy.fft.fftshift(result)
    # Axis by axis and slab by slab, so that a large volume can be cancelled.
    half = np.empty(image.shape, np.result_type(_check.float_type(image.dtype), np.complex64))
    rest = tuple(range(1, image.ndim))
    for slab in track(_tiles.slabs(image.shape, _SLAB), "slabs"):
        half[slab] = scipy.fft.fftn(_as_float(image[slab]), axes=rest, workers=_tiles.workers())
    turned, shown = np.moveaxis(half, 1, 0), np.moveaxis(result, 1, 0)
    for slab in track(_tiles.slabs(turned.shape, _SLAB), "slabs"):
        # Axis 0 of the image is axis 1 here.
        shown[slab] = _log_magnitude(scipy.fft.fft(turned[slab], axis=1, workers=_tiles.workers()))
    return scipy.fft.fftshift(result)


def notch(
    image: ImageArray,
    centers: SpectrumPoints,
    *,
    radius: Annotated[float, {"min": 0.5, "max": 1000.0, "step": 0.5, "unit": "samples"}] = 5.0,
    kind: Literal["ideal", "butterworth", "gaussian"] = "butterworth",
    order: Annotated[int, {"min": 1, "max": 20}] = 2,
    mode: Literal["reject", "pass"] = "reject",
) -> ImageArray:
    """Remove a periodic pattern from a 2D image, or keep only that pattern: a notch filter.

    With D the distance of a frequency from the centre of a notch and D0 the radius, a notch lets through

    - ideal: 0 where D <= D0, else 1
    - Butterworth of order n: 1 / (1 + (D0 / D) ** (2 n))
    - Gaussian: 1 - exp(-D ** 2 / (2 D0 ** 2))

    The filter H is the product of all notches and of their mirror images through the zero frequency, which are added
    by themselves, as the spectrum of a real image has every spike twice. ``mode="pass"`` filters with 1 - H. A
    spectrum is periodic, so distances are measured around its edge, where a notch may reach over. Butterworth and
    Gaussian notches have tails: close to the zero frequency they lower the mean of the image a little.

    Parameters
    ----------
    image : ndarray
        (y, x), real numbers.
    centers : str or (n, 2) array_like
        Centres of the notches as offsets (v, u) from the centre of the picture that `spectrum` shows, down and to the
        right, in samples: a spike shown at row r and column c of an image of M rows and N columns has the offset
        (r - M // 2, c - N // 2). v is the number of cycles over the height, u that over the width. Fractions are
        allowed; one of each pair of spikes is enough. As text: ``"12, 30; -5, 8"``.
    radius : float
        D0 in samples.
    kind : {"ideal", "butterworth", "gaussian"}
        Profile of the notches. The ideal one rings.
    order : int
        Order n of the Butterworth profile: the higher, the sharper.
    mode : {"reject", "pass"}
        Remove the pattern, or show the pattern alone.

    Returns
    -------
    ndarray
        Same shape; float32, or float64 where the image has float64 or integers of 32 bits or more. Nothing is rounded,
        wrapped or clipped.

    Raises
    ------
    InputError
        If the image is not 2D or holds NaN or infinite values, a centre lies outside the spectrum, or a notch to be
        rejected reaches the zero frequency, which is the mean of the image.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 4.10, Notch filters.

    Examples
    --------
    >>> y, x = np.mgrid[:32, :32]
    >>> wave = np.sin(2 * np.pi * (4 * y + 8 * x) / 32)
    >>> cleaned = notch(100 + wave, "4, 8", radius=2, kind="ideal")
    >>> bool(np.abs(cleaned - 100).max() < 1e-9)
    True
    """
    image = _finite_image(image, dims=(2,))
    points = _check.points(centers, 2, "centers")
    radius = _check.number(radius, "radius", above=0)
    kind = _check.choice(kind, ("ideal", "butterworth", "gaussian"), "kind")
    mode = _check.choice(mode, ("reject", "pass"), "mode")
    order = _check.whole(order, "order")
    _check_centers(points, image.shape, radius, mode)
    transfer = np.ones((image.shape[0], image.shape[1] // 2 + 1))
    for v, u in track(points, "notches"):
        transfer *= _profile(_distance(image.shape, v, u), radius, kind, order)
        transfer *= _profile(_distance(image.shape, -v, -u), radius, kind, order)
    if mode == "pass":
        transfer = 1 - transfer
    workers = _tiles.workers()
    filtered = scipy.fft.rfft2(image.astype(np.float64), workers=workers) * transfer
    return scipy.fft.irfft2(filtered, image.shape, workers=workers).astype(_check.float_type(image.dtype))


def _check_centers(points: np.ndarray, shape: tuple[int, int], radius: float, mode: str) -> None:
    limits = np.array(shape) / 2
    for v, u in points:
        if abs(v) > limits[0] or abs(u) > limits[1]:
            raise InputError(
                f"centre ({v:g}, {u:g}) lies outside the spectrum: offsets (v, u) from its centre reach from "
                f"{-limits[0]:g} to {limits[0]:g} and from {-limits[1]:g} to {limits[1]:g}"
            )
        if mode == "reject" and np.hypot(v, u) <= radius:
            raise InputError(
                f"the notch at ({v:g}, {u:g}) with radius {radius:g} reaches (0, 0), the mean of the image: "
                "move it away from there or use a smaller radius"
            )


def _distance(shape: tuple[int, int], v: float, u: float) -> np.ndarray:
    """Return the distance of every frequency of the half spectrum from (v, u), around the edge where that is nearer."""
    rows = np.arange(shape[0], dtype=float) - v
    columns = np.arange(shape[1] // 2 + 1, dtype=float) - u
    rows, columns = (np.abs((d + n / 2) % n - n / 2) for d, n in zip((rows, columns), shape, strict=True))
    return np.hypot(rows[:, None], columns)


def _profile(distance: np.ndarray, radius: float, kind: str, order: int) -> np.ndarray:
    """Return what one notch lets through."""
    if kind == "ideal":
        return (distance > radius).astype(float)
    if kind == "gaussian":
        return -np.expm1(-0.5 * (distance / radius) ** 2)
    with np.errstate(divide="ignore", over="ignore"):
        return 1 / (1 + (radius / distance) ** (2 * order))


def _finite_image(image, dims=None) -> np.ndarray:
    image = _check.image(image, dims=dims)
    _check.finite(image, "image", _SPREADS)
    if image.dtype.kind == "f":
        largest = float(np.abs(image).max())
        if largest > np.finfo(_check.float_type(image.dtype)).max / image.size:
            raise InputError(f"image has values up to {largest:g}, whose sum is too large to transform: scale it down")
    return image


def _as_float(image: np.ndarray) -> np.ndarray:
    return image.astype(_check.float_type(image.dtype), copy=False)


def _log_magnitude(transform: np.ndarray) -> np.ndarray:
    return np.log1p(np.abs(transform))
