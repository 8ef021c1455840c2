"""Sliding windows: where they lie, how they are padded, and how they are blended. Numpy only.

Windows are laid out axis by axis, so that the weights of all windows that cover a voxel add up to one along every
axis, and so in the volume: results can be summed up as they come, and no sum of weights has to be kept.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ..errors import InputError

_SIGMA = 1 / 8
# Slices that go through a 2D network at once: as many as have this many pixels together, but at most 16.
_BATCH_PIXELS = 512 * 512
_MOST_SLICES = 16


def positions(length: int, size: int, overlap: float, *, even: bool = True) -> list[int]:
    """Return the first index of every window along one axis.

    Parameters
    ----------
    length : int
        Voxels along the axis, at least `size`.
    size : int
        Voxels of the window.
    overlap : float
        Share of the window that neighbours have in common, from 0 to less than 1.
    even : bool
        Whether all are as far apart; if not, each is a whole step from the one before, and only the last is nearer,
        as MONAI has it.

    Returns
    -------
    list of int
        The first window starts at 0 and the last ends with the axis; those between are spread evenly, at most
        ``size * (1 - overlap)`` apart. With ``overlap=0`` only the last window overlaps its neighbour, where `size`
        does not divide `length`.

    Raises
    ------
    InputError
        If the overlap is out of range or the axis is shorter than the window.

    Examples
    --------
    >>> positions(10, 4, 0.5)
    [0, 2, 4, 6]
    >>> positions(10, 4, 0.0)
    [0, 4, 6]
    """
    check_overlap(overlap)
    if size < 1 or length < size:
        raise InputError(f"window size {size} does not fit an axis of {length} voxels: pad it first")
    last = length - size
    if overlap == 0:
        return [*range(0, last, size), last]
    step = max(1.0, size * (1 - overlap))
    if not even:
        return [*range(0, last, max(1, int(size * (1 - overlap)))), last]
    # Rounding errors must not add a window: 1e-9 voxels are none.
    count = math.ceil(last / step - 1e-9) + 1
    apart = last / max(1, count - 1)
    return [round(i * apart) for i in range(count)]


def check_overlap(overlap: float) -> None:
    """Raise `InputError` unless `overlap` is a share from 0 to less than 1."""
    number = isinstance(overlap, int | float | np.number) and not isinstance(overlap, bool)
    if not number or not 0 <= overlap < 1:
        raise InputError(f"overlap {overlap!r} must be a share of the window from 0 to less than 1, such as 0.5")


def profile(size: int, blending: str, *, rounded: bool = False) -> np.ndarray:
    """Return the weights of one window along one axis, 1 at its middle.

    Parameters
    ----------
    size : int
        Voxels of the window.
    blending : {"gaussian", "constant"}
        ``"gaussian"`` has a standard deviation of an eighth of the size, so that the outermost voxel
        still weighs 3e-4.
    rounded : bool
        Whether the Gaussian's middle is voxel ``size // 2``, as nnU-Net has it, and not the middle of the window.

    Returns
    -------
    (size,) float64 array
    """
    if blending == "constant":
        return np.ones(size)
    if blending != "gaussian":
        raise InputError(f"blending {blending!r} is unknown: use 'gaussian' or 'constant'")
    distance = np.arange(size) - (size // 2 if rounded else (size - 1) / 2)
    return np.exp(-0.5 * (distance / (_SIGMA * size)) ** 2)


def halved(weights: np.ndarray) -> np.ndarray:
    """Return weights as float32 that half precision can hold; what it cannot tell from 0 takes the smallest of them."""
    found = weights.astype(np.float16)
    found[found == 0] = found[found > 0].min()
    return found.astype(np.float32)


def axis_weights(
    length: int, size: int, overlap: float, blending: str, *, rounded: bool = False, even: bool = True
) -> list[tuple[int, np.ndarray]]:
    """Return start and weights of every window along one axis; at every voxel they add up to one.

    With ``overlap=0`` nothing is blended: a voxel that two windows cover takes the value of the first, exactly.

    Returns
    -------
    list of (int, (size,) float32 array)
    """
    starts = positions(length, size, overlap, even=even)
    if overlap == 0:
        owner = np.full(length, -1)
        for number, start in enumerate(starts):
            part = owner[start : start + size]
            part[part < 0] = number
        return [(s, (owner[s : s + size] == i).astype(np.float32)) for i, s in enumerate(starts)]
    single = profile(size, blending, rounded=rounded)
    total = np.zeros(length)
    for start in starts:
        total[start : start + size] += single
    return [(start, (single / total[start : start + size]).astype(np.float32)) for start in starts]


def padding(shape: Sequence[int], size: Sequence[int | None], divisible_by: int = 1) -> list[tuple[int, int]]:
    """Return how many voxels each axis needs before and after it.

    An axis shorter than the window is padded to its size; an axis whose size is None (one window for all of it) to
    the next multiple of `divisible_by`. The padding is shared between both ends.

    Examples
    --------
    >>> padding((10, 20, 30), (16, 16, 16))
    [(3, 3), (0, 0), (0, 0)]
    """
    result = []
    for length, wanted in zip(shape, size, strict=True):
        target = -(-length // divisible_by) * divisible_by if wanted is None else max(length, wanted)
        before = (target - length) // 2
        result.append((before, target - length - before))
    return result


@dataclass(frozen=True)
class Window:
    """One position of the window.

    Parameters
    ----------
    start : tuple of int
        Index of its first voxel.
    size : tuple of int
        Its voxels along each axis.
    weights : tuple of float32 arrays
        One vector an axis; their outer product weighs the window's result.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]
    weights: tuple[np.ndarray, ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """The voxels it covers."""
        return tuple(slice(s, s + n) for s, n in zip(self.start, self.size, strict=True))

    def owned(self) -> tuple[slice, ...]:
        """The voxels inside the window (indices from its start) that have weight, where nothing is blended."""
        found = []
        for vector in self.weights:
            inside = np.flatnonzero(vector)
            found.append(slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0))
        return tuple(found)


def layout(
    shape: Sequence[int], size: Sequence[int], overlap: float, blending: str, *, rounded: bool = False
) -> list[Window]:
    """Return all windows over an array, in the order of its axes.

    Parameters
    ----------
    shape, size : sequence of int
        Of the (padded) array and of the window, axis by axis.
    overlap : float or sequence of float
        Share that neighbours have in common, for all axes or for each.
    blending : {"gaussian", "constant"}
        How the results of overlapping windows are weighed.
    rounded : bool
        As for `profile`.

    Returns
    -------
    list of Window

    Examples
    --------
    >>> [w.start for w in layout((4, 6), (4, 4), 0.5, "constant")]
    [(0, 0), (0, 2)]
    """
    axes = along_axes(shape, size, overlap, blending, rounded=rounded)
    return [
        Window(tuple(start for start, _ in combination), tuple(size), tuple(vector for _, vector in combination))
        for combination in product(*axes)
    ]


def along_axes(
    shape: Sequence[int],
    size: Sequence[int],
    overlap: float | Sequence[float],
    blending: str,
    *,
    rounded: bool = False,
    even: bool = True,
) -> list[list[tuple[int, np.ndarray]]]:
    """Return `axis_weights` of every axis: the windows of `layout` are all their combinations."""
    shares = [overlap] * len(shape) if np.isscalar(overlap) else list(overlap)
    each = zip(shape, size, shares, strict=True)
    return [axis_weights(n, s, o, blending, rounded=rounded, even=even) for n, s, o in each]


def count(shape: Sequence[int], size: Sequence[int], overlap: float | Sequence[float], *, even: bool = True) -> int:
    """Return how many windows there are, spread as `positions` says."""
    shares = [overlap] * len(shape) if np.isscalar(overlap) else list(overlap)
    return math.prod(len(positions(n, s, o, even=even)) for n, s, o in zip(shape, size, shares, strict=True))


def batch(size: Sequence[int]) -> int:
    """Return how many windows of a 2D network go through it at once."""
    return max(1, min(_MOST_SLICES, _BATCH_PIXELS // math.prod(size)))
