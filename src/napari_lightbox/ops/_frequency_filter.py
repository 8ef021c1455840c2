"""Multiplying the spectrum of a real image by a transfer function, block by block and on several threads.

The axes after the first are transformed slab by slab; then, in columns of the first axis that fit a core's cache, that
axis is transformed, multiplied by the transfer function (made for those columns alone) and transformed back.
"""

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import scipy.fft

from . import _check, _tiles

# From the number of each frequency along every axis, shaped to broadcast, and a float type: what passes.
Transfer = Callable[[Sequence[np.ndarray], np.dtype], np.ndarray]
_SLAB = 1 << 19
# Largest transfer function that is kept for the next image: slices of a volume share one.
_KEPT_SIZE = 1 << 22
_kept: dict[Hashable, np.ndarray] = {}


def multiplied(image: np.ndarray, transfer: Transfer, key: Hashable) -> np.ndarray:
    """Return `image`, of two axes or more, filtered by a transfer function that is even in every frequency.

    Parameters
    ----------
    image : ndarray
        Real and finite.
    transfer : callable
        From the frequencies along every axis (cycles over its length, negative ones after the positive) as arrays that
        broadcast against each other, and a float type: the real factors.
    key : hashable
        Says which transfer function it is, together with the shape and the type.

    Returns
    -------
    ndarray
        float32 or float64, as `_check.float_type` says.
    """
    real = _check.float_type(image.dtype)
    shape, rest = image.shape, tuple(range(1, image.ndim))
    half = np.empty((*shape[:-1], shape[-1] // 2 + 1), np.result_type(real, np.complex64))
    columns = np.moveaxis(half, 1, 0)
    result = np.empty(shape, real)
    key = (key, shape, real)
    # One at a time: a thread that makes another meanwhile only costs time.
    whole = _kept.get(key)
    if whole is None and half.size <= _KEPT_SIZE:
        whole = transfer(_frequencies(shape, slice(None)), real)
        _kept.clear()
        _kept[key] = whole

    def forward(slab: slice) -> None:
        half[slab] = scipy.fft.rfftn(image[slab].astype(real, copy=False), axes=rest)

    def across(slab: slice) -> None:
        # Axis 0 of the image is axis 1 of the columns.
        block = scipy.fft.fft(np.moveaxis(columns[slab], 1, 0), axis=0)
        block *= whole[:, slab] if whole is not None else transfer(_frequencies(shape, slab), real)
        half[:, slab] = scipy.fft.ifft(block, axis=0, overwrite_x=True)

    def backward(slab: slice) -> None:
        result[slab] = scipy.fft.irfftn(half[slab], shape[1:], axes=rest)

    for work, size, description in (
        (forward, shape, "slabs forth"),
        (across, columns.shape, "columns"),
        (backward, shape, "slabs back"),
    ):
        _tiles.run(work, _tiles.slabs(size, _SLAB), description)
    return result


def _frequencies(shape: tuple[int, ...], columns: slice) -> list[np.ndarray]:
    """Return the frequencies of the half spectrum along every axis; of axis 1, those of `columns`."""
    found = []
    for axis, n in enumerate(shape):
        number = np.arange(n // 2 + 1) if axis == len(shape) - 1 else np.fft.fftfreq(n, 1 / n)
        number = number[columns] if axis == 1 else number
        found.append(number.astype(float).reshape([-1 if a == axis else 1 for a in range(len(shape))]))
    return found


def notches(
    centers: np.ndarray, shape: tuple[int, ...], radius: float, kind: str, order: int, mode: str
) -> tuple[Transfer, Hashable]:
    """Return the product of notches at `centers` and at their mirror images, each place once, and its key."""
    # A place that is its own mirror image, or a pair that was given in full, would be lowered twice: also where one
    # of the two is written on the other side of the spectrum, which is periodic.
    pairs = np.concatenate([centers, -centers])
    places = np.round(np.round(pairs, 9) % shape, 9) % shape
    pairs = pairs[np.sort(np.unique(places, axis=0, return_index=True)[1])]

    def transfer(frequencies: Sequence[np.ndarray], real: np.dtype) -> np.ndarray:
        passed = np.ones(np.broadcast_shapes(*(f.shape for f in frequencies)), real)
        for center in pairs:
            # A spectrum is periodic: a notch may reach over its edge.
            offsets = [(f - c + n / 2) % n - n / 2 for f, c, n in zip(frequencies, center, shape, strict=True)]
            if kind == "ideal":
                # In float64, where a place just on the circle is told apart.
                passed[_total([o**2 for o in offsets]) <= radius**2] = 0
                continue
            square = _total([((o / radius) ** 2).astype(real) for o in offsets])
            if kind == "gaussian":
                square *= -0.5
                passed *= -np.expm1(square, out=square)
            else:
                passed *= _butterworth(square, order)
        return 1 - passed if mode == "pass" else passed

    return transfer, (centers.tobytes(), radius, kind, order, mode)


def band(
    steps: Sequence[float], center: float, width: float, kind: str, order: int, mode: str
) -> tuple[Transfer, Hashable]:
    """Return a ring (in 3D a shell) around the zero frequency, and its key.

    `steps` are the distances of neighbouring frequencies along every axis, in the unit of `center` and `width`.
    """

    def transfer(frequencies: Sequence[np.ndarray], real: np.dtype) -> np.ndarray:
        square = _total([(f * s) ** 2 for f, s in zip(frequencies, steps, strict=True)])
        if kind == "ideal":
            distance = np.sqrt(square, out=square)
            passed = ((distance < center - width / 2) | (distance > center + width / 2)).astype(real)
        else:
            with np.errstate(divide="ignore", over="ignore"):
                # ((D ** 2 - C0 ** 2) / (D W)) ** 2: 0 on the ring, infinite at the zero frequency.
                ratio = ((square - center**2) ** 2 / (square * width**2)).astype(real)
            passed = -np.expm1(-ratio) if kind == "gaussian" else _butterworth(ratio, order)
        return 1 - passed if mode == "pass" else passed

    return transfer, ("band", tuple(steps), center, width, kind, order, mode)


def _total(parts: Sequence[np.ndarray]) -> np.ndarray:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _butterworth(square: np.ndarray, order: int) -> np.ndarray:
    """Return 1 / (1 + square ** -order); `square` is overwritten."""
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        ratio = np.divide(1, square, out=square)
        power = ratio if order % 2 else np.ones_like(ratio)
        # By squaring: the power of a float array by any other number but 2 takes ten times as long.
        for bit in range(1, order.bit_length()):
            ratio = ratio * ratio
            if order >> bit & 1:
                power = power * ratio
        power += 1
        return np.divide(1, power, out=power)
