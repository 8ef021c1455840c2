"""Filters in the frequency domain, and the picture of the spectrum they are set up on."""

from collections.abc import Callable, Hashable
from typing import Annotated, Literal

import numpy as np
import scipy.fft

from .. import remarks
from ..errors import InputError
from ..types import Device, ImageArray, Role
from . import _check, _frequency_filter, _frequency_spikes, _tiles
from ._device import torch_device

# Points of the shown spectrum as a person types them: "12, 30; -5, 8".
SpectrumPoints = Annotated[
    str, Role("frequencies"), {"unit": "samples", "placeholder": "auto, or such as 12, 30; -5, 8"}
]
Spacing = Annotated[tuple[float, ...] | None, Role("spacing")]
Profile = Literal["ideal", "butterworth", "gaussian"]
_SPREADS = "a Fourier transform would spread them over the whole image, so replace them first"
_LOOK = 1 << 19
_THRESHOLD, _LIMIT = 4.0, 20


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

    Notes
    -----
    Every frequency needs every voxel, so a whole transform must be kept. That of a real image holds as many numbers as
    the image: it is kept in the memory of the result. Images of float64, or of integers of 32 bits or more, are
    transformed in double precision, which takes twice the memory of the result for as long as it lasts.

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
    if image.ndim == 1:
        return scipy.fft.fftshift(np.log1p(np.abs(scipy.fft.fft(_as_float(image)))).astype(np.float32))
    return _frequency_filter.log_magnitude(image)


def notch(
    image: ImageArray,
    centers: SpectrumPoints = "auto",
    *,
    radius: Annotated[float, {"min": 0.5, "max": 1000.0, "step": 0.5, "unit": "samples"}] = 5.0,
    kind: Profile = "butterworth",
    order: Annotated[int, {"min": 1, "max": 20}] = 2,
    mode: Literal["reject", "pass"] = "reject",
    device: Device = "cpu",
) -> ImageArray:
    """Remove a periodic pattern from an image, or keep only that pattern: a notch filter.

    With D the distance of a frequency from the centre of a notch and D0 the radius, a notch lets through

    - ideal: 0 where D <= D0, else 1
    - Butterworth of order n: 1 / (1 + (D0 / D) ** (2 n))
    - Gaussian: 1 - exp(-D ** 2 / (2 D0 ** 2))

    The filter H is the product of all notches and of their mirror images through the zero frequency, which are added
    by themselves, as the spectrum of a real image has every spike twice; a place that is named twice counts once.
    ``mode="pass"`` filters with 1 - H. A spectrum is periodic, so distances are measured around its edge, where a notch
    may reach over. Butterworth and Gaussian notches have tails: close to the zero frequency they lower the mean of the
    image a little. An image counts as periodic, too: what is filtered at one border shows at the opposite one.

    Parameters
    ----------
    image : ndarray
        (y, x) or (z, y, x), real numbers; a volume is transformed along all three axes.
    centers : str or (n, ndim) array_like
        Centres of the notches as offsets (v, u) from the centre of the picture that `spectrum` shows, down and to the
        right, in samples, or ``"auto"`` for the spikes that `find_spikes` finds: a spike shown at row r and column c
        of an image of M rows and N columns has the offset (r - M // 2, c - N // 2). v is the number of cycles over the
        height, u that over the width; a volume takes (w, v, u), with w the cycles over its depth. Fractions are
        allowed; one of each pair of spikes is enough. As text: ``"12, 30; -5, 8"``. Through `apply` a row may begin
        with the slice it is for, as stored, and before it the frame. Where `apply` works slice by slice, ``"auto"``
        treats all slices alike: spikes of the median of their spectra, and those found in a third of them, count for
        all; others for the slices they are found in.
    radius : float
        D0 in samples.
    kind : {"ideal", "butterworth", "gaussian"}
        Profile of the notches. The ideal one rings.
    order : int
        Order n of the Butterworth profile: the higher, the sharper.
    mode : {"reject", "pass"}
        Remove the pattern, or show the pattern alone.
    device : str
        ``"cpu"``, or a graphics card through torch: ``"cuda"``, ``"cuda:1"``. Equal within rounding. A card must have
        room for the whole spectrum and its transforms, some four times the image as floats: memory there grows with it.

    Returns
    -------
    ndarray
        Same shape; float32, or float64 where the image has float64 or integers of 32 bits or more. Nothing is rounded,
        wrapped or clipped. Without centres, or spikes, the image comes back as it is; in mode ``"pass"`` it is 0.

    Raises
    ------
    InputError
        If the image is not 2D or 3D or holds NaN or infinite values, a centre lies outside the spectrum, or a notch to
        be rejected reaches the zero frequency, which is the mean of the image.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 4.10 and 5.4, Notch filters.

    Examples
    --------
    >>> y, x = np.mgrid[:32, :32]
    >>> wave = np.sin(2 * np.pi * (4 * y + 8 * x) / 32)
    >>> cleaned = notch(100 + wave, "4, 8", radius=2, kind="ideal")
    >>> bool(np.abs(cleaned - 100).max() < 1e-9)
    True
    """
    image = _finite_image(image, dims=(2, 3))
    radius = _check.number(radius, "radius", above=0)
    kind, mode, order = _profile(kind, mode, order)
    if are_centers_left_open(centers):
        points = find_spikes(image, guard=_guard(radius, image.shape))
        remarks.choose("centers", points.tolist())
        remarks.note(_sentence(points, mode))
        points = points.astype(float)
    elif isinstance(centers, list | tuple | np.ndarray) and not len(centers):
        points = np.zeros((0, image.ndim))
    else:
        points = _check.points(centers, image.ndim, "centers")
    _check_centers(points, image.shape, radius, mode)
    transfer, key = _frequency_filter.notches(points, image.shape, radius, kind, order, mode)
    if not len(points) and mode == "reject":
        return image.astype(_check.float_type(image.dtype))
    return _multiplied(image, transfer, key, device)


def are_centers_left_open(centers: object = "auto", **_: object) -> bool:
    """Say whether `notch`, among whose parameters `centers` is, is to find the centres itself."""
    return isinstance(centers, str) and centers.strip().lower() in ("", "auto")


def choose_centers(planes: np.ndarray, radius: float = 5.0, mode: str = "reject", **_: object) -> list[remarks.Remarks]:
    """Find the centres for `notch` in a stack of slices, so that slices with the same pattern are treated alike.

    Parameters
    ----------
    planes : ndarray
        (slice, y, x), real numbers.
    radius, mode
        As for `notch`; further parameters of it do not matter.

    Returns
    -------
    list of Remarks
        For each slice, the centres that are chosen, as `notch` takes them, and a sentence that says so.

    Raises
    ------
    InputError
        If an image holds NaN or infinite values, or the radius is not above zero.
    """
    planes = _finite_image(planes, dims=(3,))
    guard = _guard(_check.number(radius, "radius", above=0), planes.shape[1:])
    found = _frequency_spikes.find_in_slices(planes, _THRESHOLD, _LIMIT, guard)
    return [remarks.Remarks([_sentence(points, mode)], {"centers": points.tolist()}) for points in found]


def _guard(radius: float, shape: tuple[int, ...]) -> int:
    # A spike so close to the mean could not be rejected.
    return int(np.clip(np.ceil(radius), _frequency_spikes.CORE + 1, max(shape) + 5))


def _sentence(points: np.ndarray, mode: str) -> str:
    """Say which spikes were found."""
    if len(points):
        names = "v, u" if points.shape[1] == 2 else "w, v, u"
        places = ", ".join(f"({', '.join(str(n) for n in point)})" for point in points.tolist())
        count = "1 spike" if len(points) == 1 else f"{len(points)} spikes"
        return f"{count} found in the spectrum at ({names}) = {places}"
    outcome = "nothing is removed" if mode == "reject" else "there is no pattern to show, and the result is 0"
    return f"no spikes found in the spectrum: {outcome}"


def find_spikes(
    image: ImageArray,
    *,
    threshold: Annotated[float, {"min": 1.0, "max": 100.0}] = _THRESHOLD,
    limit: Annotated[int, {"min": 1, "max": 400}] = _LIMIT,
    guard: Annotated[int, {"min": 0, "max": 10000, "unit": "samples"}] = _frequency_spikes.CORE + 1,
) -> np.ndarray:
    """Find the spikes that periodic patterns make in the spectrum of an image.

    The logarithm of the magnitude is taken of the image under a Blackman-Harris window, so that the borders of the
    image, where it does not continue periodically, leave no cross in the spectrum; what is typical of a frequency's
    distance from zero is taken off. A frequency is a spike where the rest

    - is the highest within 4 samples along every axis,
    - lies at least `threshold` times the spread above the median of its surroundings, from there to 9 samples away;
      the spread is 1.4826 times the median absolute deviation from that median,
    - is at least twice the magnitude of everything in these surroundings, except for stronger spikes. Edges make
      ridges, which are as high a little further on, and are left alone by this.

    Parameters
    ----------
    image : ndarray
        (y, x) or (z, y, x), real numbers.
    threshold : float
        Least height above the surroundings, in spreads of these. Noise stays below 3.
    limit : int
        Largest number of spikes.
    guard : int
        Frequencies of at most so many samples along every axis are left out: the anatomy, not a pattern.

    Returns
    -------
    ndarray of int
        (n, ndim) offsets from the zero frequency, (v, u) or (w, v, u), as `notch` takes them; the strongest first, one
        of each pair of mirror images. An axis of fewer than 24 samples is too short to part frequencies along it.

    Notes
    -----
    What stands out can only be told from all frequencies at once: a volume takes its half spectrum and one height for
    each voxel, in single precision, which is about 10 bytes a voxel. Where `apply` works slice by slice, the half
    spectra of up to 63 slices are kept.

    Raises
    ------
    InputError
        If the image is not 2D or 3D or holds NaN or infinite values, or a parameter is out of range.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 5.4, Periodic noise reduction;
    F. J. Harris, On the use of windows for harmonic analysis with the discrete Fourier transform, Proc. IEEE 66, 1978.

    Examples
    --------
    >>> y, x = np.mgrid[:64, :64]
    >>> blob = np.exp(-((y - 30) ** 2 + (x - 34) ** 2) / 200)
    >>> find_spikes(blob + 0.1 * np.sin(2 * np.pi * (12 * y - 20 * x) / 64)).tolist()
    [[12, -20]]
    """
    image = _finite_image(image, dims=(2, 3))
    threshold = _check.number(threshold, "threshold", above=0)
    limit = _check.whole(limit, "limit")
    guard = _check.whole(guard, "guard", 0)
    return _frequency_spikes.find(image, threshold, limit, guard)


def band_reject(
    image: ImageArray,
    center: Annotated[float, {"min": 0.0, "max": 100000.0, "step": 1.0}],
    width: Annotated[float, {"min": 0.0, "max": 100000.0, "step": 1.0}],
    *,
    unit: Literal["samples", "cycles/mm"] = "samples",
    kind: Profile = "butterworth",
    order: Annotated[int, {"min": 1, "max": 20}] = 2,
    mode: Literal["reject", "pass"] = "reject",
    spacing: Spacing = None,
    device: Device = "cpu",
) -> ImageArray:
    """Remove a band of frequencies, whatever their direction, or keep only that band.

    With D the distance of a frequency from zero, C0 the centre of the band and W its width, the filter lets through

    - ideal: 0 where C0 - W / 2 <= D <= C0 + W / 2, else 1
    - Butterworth of order n: 1 / (1 + (D W / (D ** 2 - C0 ** 2)) ** (2 n))
    - Gaussian: 1 - exp(-((D ** 2 - C0 ** 2) / (D W)) ** 2)

    ``mode="pass"`` lets through one minus that: a band-pass filter. An image counts as periodic: what is filtered at
    one border shows at the opposite one.

    Parameters
    ----------
    image : ndarray
        (y, x) or (z, y, x), real numbers; in a volume the band is a shell.
    center : float
        Frequency in the middle of the band, above 0.
    width : float
        Width of the band, above 0.
    unit : {"samples", "cycles/mm"}
        Unit of both. Samples are those of the picture that `spectrum` shows, cycles over the length of each axis: a
        circle there, yet as long as the axes differ in length not one frequency. Cycles per mm are one physical
        frequency in every direction: a pattern that repeats every 4 mm has 0.25.
    kind : {"ideal", "butterworth", "gaussian"}
        Profile of the band. The ideal one rings.
    order : int
        Order n of the Butterworth profile: the higher, the sharper.
    mode : {"reject", "pass"}
        Remove the band, or keep it alone.
    spacing : tuple of float, optional
        Size of a voxel in mm, in array order; needed for cycles/mm.
    device : str
        ``"cpu"``, or a graphics card through torch: ``"cuda"``, ``"cuda:1"``. Equal within rounding. A card must have
        room for the whole spectrum and its transforms, some four times the image as floats: memory there grows with it.

    Returns
    -------
    ndarray
        Same shape; float32, or float64 where the image has float64 or integers of 32 bits or more. Nothing is rounded,
        wrapped or clipped.

    Raises
    ------
    InputError
        If the image is not 2D or 3D or holds NaN or infinite values, the band lies outside the spectrum, or a band to
        be rejected reaches the zero frequency, which is the mean of the image.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 4.10, Bandreject and bandpass filters.

    Examples
    --------
    >>> y, x = np.mgrid[:32, :32]
    >>> wave = np.sin(2 * np.pi * 8 * x / 32)
    >>> cleaned = band_reject(100 + wave, 8, 2, kind="ideal")
    >>> bool(np.abs(cleaned - 100).max() < 1e-9)
    True
    """
    image = _finite_image(image, dims=(2, 3))
    center = _check.number(center, "center", above=0)
    width = _check.number(width, "width", above=0)
    unit = _check.choice(unit, ("samples", "cycles/mm"), "unit")
    kind, mode, order = _profile(kind, mode, order)
    steps = np.ones(image.ndim)
    if unit == "cycles/mm":
        if spacing is None:
            raise InputError("unit 'cycles/mm' needs spacing: give the size of a voxel in mm along every axis")
        steps = 1 / (_check.steps(spacing, image.ndim) * image.shape)
    _check_band(center, width, unit, mode, float(np.hypot.reduce(steps * (np.array(image.shape) // 2))))
    transfer, key = _frequency_filter.band(steps.tolist(), center, width, kind, order, mode)
    return _multiplied(image, transfer, key, device)


def _multiplied(image: np.ndarray, transfer: Callable, key: Hashable, device: str) -> np.ndarray:
    """Filter the spectrum here, or on a graphics card."""
    card = torch_device(device)
    if card is None:
        return _frequency_filter.multiplied(image, transfer, key)
    from ._torch import spectrum

    return spectrum.multiplied(image, transfer, card)


def _profile(kind: str, mode: str, order: int) -> tuple[str, str, int]:
    kind = _check.choice(kind, ("ideal", "butterworth", "gaussian"), "kind")
    return kind, _check.choice(mode, ("reject", "pass"), "mode"), _check.whole(order, "order")


def _check_band(center: float, width: float, unit: str, mode: str, highest: float) -> None:
    if center - width / 2 > highest:
        raise InputError(
            f"the band from {center - width / 2:g} {unit} lies outside the spectrum, which ends at {highest:g}: choose "
            "a lower center"
        )
    for name, value in (("center", center), ("width", width)):
        if not 1e-6 * highest <= value <= 1e6 * max(center, highest):
            raise InputError(f"{name} {value:g} {unit} is out of range: the spectrum ends at {highest:g}")
    if mode == "reject" and center - width / 2 <= 0:
        raise InputError(
            f"the band of width {width:g} around {center:g} {unit} reaches 0, the mean of the image: use a smaller "
            "width or a higher center"
        )


def _check_centers(points: np.ndarray, shape: tuple[int, ...], radius: float, mode: str) -> None:
    limits = np.array(shape) / 2
    for point in points:
        place = ", ".join(f"{p:g}" for p in point)
        if (np.abs(point) > limits).any():
            reach = " and ".join(f"from {-n:g} to {n:g}" for n in limits)
            names = "(v, u)" if len(shape) == 2 else "(w, v, u)"
            raise InputError(
                f"centre ({place}) lies outside the spectrum: offsets {names} from its centre reach {reach}"
            )
        if mode == "reject" and np.sqrt((point**2).sum()) <= radius:
            raise InputError(
                f"the notch at ({place}) with radius {radius:g} reaches zero, the mean of the image: move it away from "
                "there or use a smaller radius"
            )


def _finite_image(image, dims=None) -> np.ndarray:
    image = _check.image(image, dims=dims)
    if image.dtype.kind == "f":
        largest = _largest(image)
        if not np.isfinite(largest):
            _check.finite(image, "image", _SPREADS)
        if largest > np.finfo(_check.float_type(image.dtype)).max / image.size:
            raise InputError(f"image has values up to {largest:g}, whose sum is too large to transform: scale it down")
    return image


def _largest(image: np.ndarray) -> float:
    """Return the largest magnitude; NaN where there is one."""
    found = []

    def work(slab: slice) -> None:
        # Of some voxels at a time: the second look meets them in the cache.
        found.append((image[slab].max(), image[slab].min()))

    _tiles.run(work, _tiles.slabs(image.shape, _LOOK), "slabs")
    return float(np.abs(found).max())


def _as_float(image: np.ndarray) -> np.ndarray:
    return image.astype(_check.float_type(image.dtype), copy=False)
