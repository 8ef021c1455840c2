"""Perturbations that know how the volume lies: thicker slices, lost slices, and a patient who breathes."""

from typing import Annotated, Literal

import numpy as np

from .. import remarks
from ..errors import InputError
from ..progress import track
from ..volume import Volume
from . import _check, _tiles
from ._perturb_random import into, seed_of, span, uniform, within

Across = Literal["z", "y", "x", "axial", "coronal", "sagittal"]
_ACROSS = ("z", "y", "x", "axial", "coronal", "sagittal")
_LINES = 1 << 18


def thick_slices(
    volume: Volume,
    thickness: Annotated[float, {"min": 0.0, "max": 100.0, "step": 1.0, "unit": "mm"}] = 5.0,
    *,
    across: Across = "z",
) -> Volume:
    """Make the slices thicker, as a faster scan has them, and interpolate back onto the same grid.

    Slices of the given thickness lie side by side, centred on the volume; each is the mean of what it covers. The
    slices of the grid are then read between their centres (linear), and beyond the outer ones as these.

    Parameters
    ----------
    volume : Volume
        An image or a probability.
    thickness : float
        Thickness and distance of the new slices, mm. Up to the distance that the slices have, nothing changes.
    across : {"z", "y", "x", "axial", "coronal", "sagittal"}
        Which slices: those along a stored axis, or of this plane of the body.

    Returns
    -------
    Volume
        On the same grid, of the same type: whole numbers are rounded. NaN and infinite voxels spread over the slices
        that they are in.

    Raises
    ------
    InputError
        If the volume holds labels, or the thickness is negative or larger than 1000 mm.

    Examples
    --------
    >>> volume = Volume.from_array(np.array([0, 0, 8, 8, 8, 8]).reshape(6, 1, 1), spacing=(1, 1, 1))
    >>> thick_slices(volume, 3.0).data.ravel().tolist()
    [3, 3, 4, 6, 8, 8]
    """
    data, axis = _taken(volume, across, "thick_slices")
    thickness = within(thickness, "thickness", 0, 1000)
    count, step = data.shape[axis], thickness / volume.grid.spacing[axis]
    if step <= 1 or count == 1:
        if count == 1:
            remarks.note("a single slice cannot become thicker: nothing was changed")
        return volume.replace(data=data.copy())
    number = int(np.ceil(count / step - 1e-9))
    first = (count - number * step) / 2
    stack = np.moveaxis(data, axis, 0)
    thick: dict[int, np.ndarray] = {}
    result = np.empty(data.shape, data.dtype)
    out = np.moveaxis(result, axis, 0)
    places = np.clip((np.arange(count) + 0.5 - first) / step - 0.5, 0, number - 1)
    for index, place in enumerate(track(places, "slices")):
        below = int(place)
        share = place - below
        needed = (below,) if share == 0 else (below, below + 1)
        # No more than these are kept.
        ends = {n: (first + n * step, first + (n + 1) * step) for n in needed}
        thick = {n: thick[n] if n in thick else _mean(stack, *ends[n]) for n in needed}
        values = thick[below] if share == 0 else thick[below] * (1 - share) + thick[below + 1] * share
        out[index] = _fitted(values, data.dtype)
    return volume.replace(data=result)


def _mean(stack: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the mean of a stack between two positions along its first axis, slice i reaching from i to i + 1."""
    low, high = max(low, 0.0), min(high, float(len(stack)))
    total, weight = np.zeros(stack.shape[1:]), 0.0
    for index in range(int(low), min(int(np.ceil(high - 1e-9)), len(stack))):
        share = min(high, index + 1) - max(low, index)
        if share > 1e-9:
            total += share * stack[index]
            weight += share
    return total / weight


def _fitted(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "f":
        return values.astype(dtype)
    return into(values, np.empty(0, dtype))


def missing_slices(
    volume: Volume,
    count: Annotated[int, {"min": 0, "max": 10000, "unit": "slices"}] = 1,
    *,
    fill: Literal["empty", "repeated", "interpolated"] = "empty",
    across: Across = "z",
    seed: Annotated[int, {"min": 0, "max": 2**31 - 1}] = 0,
) -> Volume:
    """Lose some slices, chosen at random, and fill their places.

    Parameters
    ----------
    volume : Volume
        An image or a probability.
    count : int
        Slices that are lost; 0 changes nothing. At least one always stays.
    fill : {"empty", "repeated", "interpolated"}
        What stands in their place: the smallest value of the volume, the nearest slice that is left (the one before,
        of two), or a mixture of the two around it by their distance.
    across : {"z", "y", "x", "axial", "coronal", "sagittal"}
        Which slices: those along a stored axis, or of this plane of the body.
    seed : int
        Of one seed, a larger count loses the slices of a smaller one, and others. All frames lose the same.

    Returns
    -------
    Volume
        On the same grid, of the same type: whole numbers are rounded.

    Raises
    ------
    InputError
        If the volume holds labels, or `count` is no whole number from 0 on or leaves no slice.

    Examples
    --------
    >>> volume = Volume.from_array(np.arange(6).reshape(6, 1, 1) + 5, spacing=(1, 1, 1))
    >>> missing_slices(volume, 2, seed=1).data.ravel().tolist()
    [5, 6, 5, 8, 5, 10]
    """
    data, axis = _taken(volume, across, "missing_slices")
    count, seed = _check.whole(count, "count", 0), seed_of(seed)
    fill = _check.choice(fill, ("empty", "repeated", "interpolated"), "fill")
    slices = data.shape[axis]
    if slices == 1 and count:
        remarks.note("the only slice cannot be missing: nothing was changed")
        count = 0
    if count >= slices > 1:
        raise InputError(f"count {count} leaves none of {slices} slices: use at most {slices - 1}")
    result = data.copy()
    if count == 0:
        return volume.replace(data=result)
    lost = np.argsort(uniform(seed, 0, 0, slices), kind="stable")[:count]
    left = np.setdiff1d(np.arange(slices), lost)
    stack, out = np.moveaxis(data, axis, 0), np.moveaxis(result, axis, 0)
    lowest = span(data)[0] if data.dtype.kind == "f" else data.min()
    for index in lost:
        out[index] = lowest if fill == "empty" else _between(stack, left, int(index), fill == "repeated")
    return volume.replace(data=result)


def _between(stack: np.ndarray, left: np.ndarray, index: int, nearest: bool) -> np.ndarray:
    """Return what stands for a lost slice: one of its neighbours that are left, or both."""
    after = int(np.searchsorted(left, index))
    below, above = left[max(after - 1, 0)], left[min(after, len(left) - 1)]
    if after in (0, len(left)):
        return stack[above if after == 0 else below]
    if nearest:
        return stack[below if index - below <= above - index else above]
    share = (index - below) / (above - below)
    with np.errstate(invalid="ignore"):
        return _fitted((1 - share) * stack[below].astype(float) + share * stack[above].astype(float), stack.dtype)


def motion_ghost(
    volume: Volume,
    amplitude: Annotated[float, {"min": 0.0, "max": 100.0, "step": 0.5, "unit": "mm"}] = 2.0,
    *,
    cycles: Annotated[int, {"min": 1, "max": 1000, "unit": "cycles"}] = 8,
    along: Across = "y",
) -> Volume:
    """Move to and fro while the lines of k-space are measured, as breathing does in MR: ghosts along one axis.

    Line k of n is measured while everything lies sin(2 pi cycles k / n) times the amplitude away, and gets the phase of
    that shift. The result is the magnitude of the values above the floor: 0, or the smallest where that is negative.

    Parameters
    ----------
    volume : Volume
        An image or a probability.
    amplitude : float
        Largest distance from the middle, mm; 0 changes nothing.
    cycles : int
        Movements to and fro while all lines are measured: ghosts lie as many voxels apart.
    along : {"z", "y", "x", "axial", "coronal", "sagittal"}
        Phase-encoding axis: a stored axis, or the one across slices of this plane of the body. The movement is along
        it, too.

    Returns
    -------
    Volume
        On the same grid, of the same type: whole numbers are rounded and clipped to the range of their type.

    Raises
    ------
    InputError
        If the volume holds labels, NaN or infinite values, or a parameter is out of range.

    References
    ----------
    M. L. Wood and R. M. Henkelman, MR image artifacts from periodic motion, Medical Physics 12(2), 1985.

    Examples
    --------
    >>> line = np.zeros((1, 16, 1), np.int16)
    >>> line[0, 8] = 100
    >>> motion_ghost(Volume.from_array(line, spacing=(1, 1, 1)), 0.5, cycles=4).data.ravel().tolist()
    [19, 12, 10, 22, 0, 22, 10, 12, 82, 12, 10, 22, 0, 22, 10, 13]
    """
    data, axis = _taken(volume, along, "motion_ghost", "along")
    amplitude = within(amplitude, "amplitude", 0, 1000)
    cycles = int(within(_check.whole(cycles, "cycles"), "cycles", 1, 100_000))
    _check.finite(data, "the volume", "a Fourier transform would spread them over whole lines, so replace them first")
    count = data.shape[axis]
    if amplitude == 0 or count == 1:
        if count == 1:
            remarks.note("a single voxel along the axis has no ghosts: nothing was changed")
        return volume.replace(data=data.copy())
    line = np.fft.fftfreq(count)
    # In voxels; the line that is measured first is the lowest frequency.
    away = amplitude / volume.grid.spacing[axis] * np.sin(2 * np.pi * cycles * (line + 0.5))
    phase = np.exp(-2j * np.pi * line * away)
    low, high = span(data)
    floor, size = min(0.0, low), max(abs(low), abs(high)) or 1.0
    lines = np.moveaxis(data, axis, -1)
    result = np.empty(data.shape, data.dtype)
    out = np.moveaxis(result, axis, -1)

    def work(slab: slice) -> None:
        # Scaled down, as sums of the largest numbers overflow.
        spectrum = np.fft.fft(lines[slab] / size - floor / size, axis=-1)
        with np.errstate(over="ignore"):
            out[slab] = into(np.abs(np.fft.ifft(spectrum * phase, axis=-1)) * size + floor, lines[slab])

    _tiles.run(work, _tiles.slabs(lines.shape, _LINES), "slabs")
    return volume.replace(data=result)


def _taken(volume: Volume, across: str, who: str, name: str = "across") -> tuple[np.ndarray, int]:
    """Return the voxels and the stored axis that is meant."""
    if not isinstance(volume, Volume):
        raise InputError(f"{who} needs a Volume, not {type(volume).__name__}: wrap arrays with Volume.from_array")
    if volume.kind == "labels":
        raise InputError(f"{who} works on grey values, and {volume.name!r} holds labels: choose an image")
    axis = volume.grid.plane_axis(_check.choice(across, _ACROSS, name))
    return _check.image(volume.data, "the volume"), axis
