"""Multiplying the spectrum of a real image by a transfer function, within the array of the result.

The spectrum of a real image holds as many numbers as the image: of two frequencies that mirror each other one says all.
So it fits into the result, and no other array of that size is made:

1. Along the first axis (n samples) every line is replaced by its transform, in the order r0, r1, i1, r2, i2, ... (and
   the real r of n / 2 where n is even). This goes on in columns that fit a core's cache.
2. The planes r and i of one frequency of the first axis make a complex plane. It is transformed along its own axes,
   multiplied by the transfer function, which is made for this plane alone, and transformed back: while it stays in the
   cache, and other threads work on other planes. At 0 and n / 2 a plane is real.
3. The lines are transformed back.

Extra memory: a few complex planes (of the axes after the first) for each thread, whatever the length of the first axis.
A transfer function costs some 4 ns a frequency in numpy and the transforms some 20, so that there is nothing to gain
from a compiled loop.

The order of the transform of real lines is that of P. N. Swarztrauber's FFTPACK (Vectorizing the FFTs, in Parallel
Computations, 1982).
"""

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import scipy.fft
import scipy.fftpack

from ..progress import track
from . import _check, _tiles

# From the number of each frequency along every axis, shaped to broadcast, and a float type: what passes.
Transfer = Callable[[Sequence[np.ndarray], np.dtype], np.ndarray]
# Numbers of a part: they fit a core's cache.
_PART = 1 << 17
# Numbers of an image that one thread works on.
_ALONE = 1 << 19
# Numbers between two lines of a buffer, so that one place of all lines does not fall to the same few cache lines.
_APART = 16
# Largest transfer function that is kept for the next image: slices of a volume share one.
_KEPT_SIZE = 1 << 22
_kept: dict[Hashable, np.ndarray] = {}


def log_magnitude(image: np.ndarray) -> np.ndarray:
    """Return log(1 + |F|) of a real, finite image of two axes or more, float32, the zero frequency in the centre.

    Each frequency needs all voxels, so the transform along the first axis is kept: in the memory of the result, or, in
    double precision, in twice as much, half of which is given back.
    """
    real, length = _check.float_type(image.dtype), len(image)
    memory = np.empty(image.size * (real.itemsize // 4), np.float32)
    kept = memory.view(real).reshape(image.shape)
    # What a plane shows begins where the plane began.
    shown = memory.reshape(length, -1)[:, : kept[0].size].reshape(image.shape)
    _transform_first(image, kept)
    _show_rest(kept, shown)
    if real.itemsize > 4:
        flat = memory.reshape(length, 2, -1)
        for number in track(range(1, length), "planes"):
            memory[number * kept[0].size : (number + 1) * kept[0].size] = flat[number, 0]
        # No view of it is used from here on.
        memory.resize(image.size, refcheck=False)
    return memory.reshape(image.shape)


def _transform_first(image: np.ndarray, kept: np.ndarray) -> None:
    """Transform along the first axis: real parts go where the positive frequencies belong, imaginary ones opposite."""
    length, middle = len(image), len(image) // 2

    def forward(columns: slice) -> None:
        found = _along_lines(scipy.fftpack.rfft, image[:, columns], kept.dtype)
        kept[middle, columns] = found[0]
        pairs = (length - 1) // 2
        kept[middle + 1 :, columns] = found[1 : 2 * pairs : 2]
        kept[middle - pairs : middle, columns] = found[2 : 2 * pairs + 1 : 2][::-1]
        if length % 2 == 0:
            kept[0, columns] = found[-1]

    _tiles.run(forward, _tiles.slabs((image.shape[1], length, *image.shape[2:]), _PART), "columns")


def _show_rest(kept: np.ndarray, shown: np.ndarray) -> None:
    """Transform along the other axes, and write log(1 + |F|) to `shown`, which lies in the same memory."""
    shape, middle = kept.shape, len(kept) // 2
    centred = [scipy.fft.fftshift(np.arange(n)) for n in shape[1:]]
    mirrored = [-index % n for index, n in zip(centred, shape[1:], strict=True)]

    def show(numbers: slice) -> None:
        first, stop = numbers.start, numbers.stop
        planes = np.zeros((stop - first, *shape[1:]), np.result_type(kept, np.complex64))
        up = slice(middle + first, middle + stop)
        down = slice(middle - first, middle - stop if stop <= middle else None, -1)
        paired = 0 < 2 * first < len(kept)
        planes.real = kept[up] if paired or not first else kept[:1]
        if paired:
            planes.imag = kept[down]
        planes = np.log1p(np.abs(scipy.fft.fftn(planes, axes=range(1, len(shape)), overwrite_x=True)))
        number = np.arange(stop - first)
        shown[up if paired or not first else slice(0, 1)] = planes[np.ix_(number, *centred)]
        if paired:
            shown[down] = planes[np.ix_(number, *mirrored)]

    _tiles.run(show, _numbers(shape, _PART), "planes")


def multiplied(image: np.ndarray, transfer: Transfer, key: Hashable) -> np.ndarray:
    """Return `image`, of two axes or more, filtered by a transfer function that is the same for mirrored frequencies.

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
    shape, length = image.shape, image.shape[0]
    passed = _passed(transfer, shape, real, key)
    result = np.empty(shape, real)

    def forward(columns: slice) -> None:
        result[:, columns] = _along_lines(scipy.fftpack.rfft, image[:, columns], real)

    def between(numbers: slice) -> None:
        first, stop = numbers.start, numbers.stop
        if first == 0 or 2 * first == length:
            plane = result[:1] if first == 0 else result[-1:]
            plane[...] = _multiplied_real(plane, passed(numbers))
        else:
            _multiply_complex(
                result[2 * first - 1 : 2 * stop - 2 : 2], result[2 * first : 2 * stop : 2], passed(numbers)
            )

    def backward(columns: slice) -> None:
        result[:, columns] = _along_lines(scipy.fftpack.irfft, result[:, columns], real)

    # A slice is not worth several threads: others may work on other slices.
    part = image.size if image.size <= _ALONE else _PART
    columns = _tiles.slabs((shape[1], length, *shape[2:]), part)
    _tiles.run(forward, columns, "columns forth")
    _tiles.run(between, _numbers(shape, part), "planes")
    _tiles.run(backward, columns, "columns back")
    return result


def _numbers(shape: tuple[int, ...], part: int) -> list[slice]:
    """Cut the frequencies of the first axis into those of complex planes, some at a time, and the two of real ones."""
    length = shape[0]
    inner = _tiles.slabs(((length - 1) // 2, *shape[1:]), part)
    ends = [0] if length % 2 else [0, length // 2]
    return [slice(s.start + 1, s.stop + 1) for s in inner] + [slice(n, n + 1) for n in ends]


def _along_lines(transform: Callable, part: np.ndarray, real: np.dtype) -> np.ndarray:
    """Transform real numbers along the first axis."""
    width = part[0].size
    buffer = np.empty((len(part), width + _APART), real)[:, :width]
    # Taking an axis apart needs no copy.
    buffer.reshape(part.shape)[...] = part
    return transform(buffer, axis=0, overwrite_x=True).reshape(part.shape)


def _multiply_complex(first: np.ndarray, second: np.ndarray, passed: np.ndarray) -> None:
    """Filter planes whose real and imaginary parts are given; works in place."""
    axes = tuple(range(1, first.ndim))
    planes = np.empty(first.shape, np.result_type(first, np.complex64))
    planes.real, planes.imag = first, second
    planes = scipy.fft.fftn(planes, axes=axes, overwrite_x=True)
    planes *= passed
    planes = scipy.fft.ifftn(planes, axes=axes, overwrite_x=True)
    first[...], second[...] = planes.real, planes.imag


def _multiplied_real(plane: np.ndarray, passed: np.ndarray) -> np.ndarray:
    """Filter a real plane."""
    axes = tuple(range(1, plane.ndim))
    half = scipy.fft.rfftn(plane, axes=axes)
    half *= passed[..., : half.shape[-1]]
    return scipy.fft.irfftn(half, plane.shape[1:], axes=axes, overwrite_x=True)


def _passed(transfer: Transfer, shape: tuple[int, ...], real: np.dtype, key: Hashable) -> Callable:
    """Return what gives the factors for some frequencies of the first axis."""
    key = (key, shape, real)
    # One at a time: a thread that makes another meanwhile only costs time.
    whole = _kept.get(key)
    if whole is None and (shape[0] // 2 + 1) * np.prod(shape[1:], dtype=float) <= _KEPT_SIZE:
        whole = transfer(_frequencies(shape, slice(0, shape[0] // 2 + 1)), real)
        _kept.clear()
        _kept[key] = whole
    if whole is not None:
        return lambda numbers: whole[numbers]
    return lambda numbers: transfer(_frequencies(shape, numbers), real)


def _frequencies(shape: tuple[int, ...], numbers: slice) -> list[np.ndarray]:
    """Return the frequencies along every axis; of the first axis, which needs no negative ones, some."""
    along = [np.arange(numbers.start, numbers.stop, dtype=float), *(np.fft.fftfreq(n, 1 / n) for n in shape[1:])]
    return [f.reshape([-1 if a == axis else 1 for a in range(len(shape))]) for axis, f in enumerate(along)]


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
        reach = radius * _reach(kind, order, real)
        for center in pairs:
            # A spectrum is periodic: a notch may reach over its edge.
            offsets = [(f - c + n / 2) % n - n / 2 for f, c, n in zip(frequencies, center, shape, strict=True)]
            near = [np.flatnonzero(np.abs(o) <= reach) for o in offsets]
            within = [o.take(n, axis) for axis, (o, n) in enumerate(zip(offsets, near, strict=True))]
            whole = all(w.shape == o.shape for w, o in zip(within, offsets, strict=True))
            box = ... if whole else np.ix_(*near)
            passed[box] *= 1 - _stopped(within, radius, kind, order, real)
        return np.subtract(1, passed, out=passed) if mode == "pass" else passed

    return transfer, (centers.tobytes(), radius, kind, order, mode)


def _reach(kind: str, order: int, real: np.dtype) -> float:
    """Return the distance, in radii, beyond which a notch takes less of 1 than its last digit."""
    least = np.finfo(real).eps / 4
    return {"ideal": 1.0, "gaussian": np.sqrt(-2 * np.log(least)), "butterworth": least ** (-0.5 / order)}[kind]


def _stopped(offsets: Sequence[np.ndarray], radius: float, kind: str, order: int, real: np.dtype) -> np.ndarray:
    """Return the share that a notch takes away at some offsets from its centre."""
    if kind == "ideal":
        # In float64, where a place just on the circle is told apart.
        return (_total([o**2 for o in offsets]) <= radius**2).astype(real)
    squares = [(o / radius) ** 2 for o in offsets]
    if kind == "butterworth":
        return _butterworth(_total([s.astype(real) for s in squares]), order)
    stopped = np.exp(-0.5 * squares[0]).astype(real)
    for square in squares[1:]:
        stopped = stopped * np.exp(-0.5 * square).astype(real)
    return stopped


def band(
    steps: Sequence[float], center: float, width: float, kind: str, order: int, mode: str
) -> tuple[Transfer, Hashable]:
    """Return a ring (in 3D a shell) around the zero frequency, and its key.

    `steps` are the distances of neighbouring frequencies along every axis, in the unit of `center` and `width`.
    """

    def transfer(frequencies: Sequence[np.ndarray], real: np.dtype) -> np.ndarray:
        if kind == "ideal":
            square = _total([(f * s) ** 2 for f, s in zip(frequencies, steps, strict=True)])
            distance = np.sqrt(square, out=square)
            stopped = ((distance >= center - width / 2) & (distance <= center + width / 2)).astype(real)
        else:
            # In units of the centre: no square is too large or too small for single precision.
            *rows, line = [(f * (s / center)) ** 2 for f, s in zip(frequencies, steps, strict=True)]
            rows = _total(rows)
            square = rows.astype(real) + line.astype(real)
            # Near the ring the difference is small: it is taken in float64.
            away = np.add(rows - 1, line, out=np.empty_like(square), casting="same_kind")
            with np.errstate(divide="ignore", over="ignore", under="ignore"):
                # ((D ** 2 - C0 ** 2) / (D W)) ** 2: 0 on the ring, infinite at the zero frequency.
                square *= (width / center) ** 2
                away *= away
                away /= square
                stopped = (
                    np.exp(np.negative(away, out=away), out=away) if kind == "gaussian" else _butterworth(away, order)
                )
        return np.subtract(1, stopped, out=stopped) if mode == "reject" else stopped

    return transfer, ("band", tuple(steps), center, width, kind, order, mode)


def _total(parts: Sequence[np.ndarray]) -> np.ndarray:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _butterworth(square: np.ndarray, order: int) -> np.ndarray:
    """Return 1 / (1 + square ** order); `square` is overwritten."""
    with np.errstate(over="ignore", under="ignore"):
        power = square if order % 2 else None
        # By squaring: the power of a float array by any other number but 2 takes ten times as long.
        for bit in range(1, order.bit_length()):
            square = square * square
            if order >> bit & 1:
                power = square if power is None else power * square
        power = np.add(power, 1, out=power)
        return np.divide(1, power, out=power)
