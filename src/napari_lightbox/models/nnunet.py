"""How nnU-Net v2 prepares an image, and brings its answer back: with these rules a network sees what it learned from.

Isensee et al., "nnU-Net" (Nature Methods, 2021). A frame is transposed as the plans say, cropped to what is not zero,
scaled by the intensity rule of each channel, resampled to the plans' spacing (cubic B-splines; thick slices each for
itself, and the nearest slice across them), and padded with zeros to the window. The logits come back linearly (across
thick slices the nearest again), and outside the crop there is background.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from ..volume import Volume
from . import sampling, windows
from .card import Card

if TYPE_CHECKING:
    import torch

    from .plan import Options, Plan

# Spacings of which one is more than this many times another are resampled slice by slice.
_THICK = 3
# What scipy.ndimage adds to each end of an axis before it works out B-splines that stay constant beyond the border.
_BEYOND = 12
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Resampling:
    """How something is resampled; `order` and `order_z` (across thick slices) are 0, 1 or 3, None not at all.

    `separate` says whether slices are resampled each for itself; None where the spacings decide.
    """

    order: int | None = 3
    order_z: int = 0
    separate: bool | None = None


@dataclass(frozen=True)
class Rules:
    """What the plans say of preparing an image.

    Parameters
    ----------
    transpose : tuple of int
        Axes of the image (z, y, x) in the order the network sees.
    spacing : tuple of float
        mm, in that order; a 2D network's has two, and slices stay as many as they are.
    image, logits : Resampling
        On the way in, and on the way back.
    in_pixels : bool
        Whether the image's own spacing does not count, as for photographs: each pixel is 1 by 1.
    folds : int
        Networks that answer together.
    """

    transpose: tuple[int, ...]
    spacing: tuple[float, ...]
    image: Resampling = Resampling()
    logits: Resampling = Resampling(order=1)
    in_pixels: bool = False
    folds: int = 1

    def make_plan(
        self, volumes: Sequence[Volume], card: Card, options: "Options", window: Sequence[int] | None
    ) -> "Plan":
        """Return the plan of a frame that is not cropped."""
        return make_plan(volumes, card, options, window)

    def prepare(
        self, channels: Sequence[Volume], card: Card, plan: "Plan", counter: Any
    ) -> "tuple[torch.Tensor, Plan]":
        """Return one frame as the network wants it, and the plan of what was cropped."""
        return prepare(channels, card, plan, counter)


# The plan, without torch ----------------------------------------------------------------------------------------


def make_plan(volumes: Sequence[Volume], card: Card, options: "Options", window: Sequence[int] | None) -> "Plan":
    """Return the plan of a frame that is not cropped; `prepare` makes it one of the frame it gets."""
    from .plan import Plan, describe_resampling, turn, window_size

    grid = volumes[0].grid
    order, flips = turn(volumes[0], card)
    order, flips = tuple(order[a] for a in card.rules.transpose), tuple(flips[a] for a in card.rules.transpose)
    oriented = grid.without_frames().reordered(order, flips)
    shape = oriented.spatial_shape
    bare = Plan(
        grid=grid, order=order, flips=flips, shape=shape, working=shape, padded=shape, steps=(1.0,) * 3,
        pad=[(0, 0)] * 3, window=window_size(card, window), batch=1, dims=card.input.dims, options=options,
        rounded=True, halved=True,
    )  # fmt: skip
    plan = _for_crop(bare, card, tuple(slice(0, n) for n in shape))
    notes = [describe_resampling(shape, plan.working, oriented.spacing, plan.steps)] if plan.working != shape else []
    if plan.padded != plan.working:
        notes.append("padded to the window with zeros")
    return replace(plan, notes=tuple(notes), batch=windows.batch(plan.window) if plan.dims == 2 else 1)


def _for_crop(plan: "Plan", card: Card, crop: tuple[slice, ...]) -> "Plan":
    """Return a plan for a part of the frame."""
    spacing, wanted = _spacings(plan, card)
    shape = tuple(part.stop - part.start for part in crop)
    working = shape
    if card.rules.image.order is not None:
        working = tuple(max(1, round(a / b * n)) for a, b, n in zip(spacing, wanted, shape, strict=True))
    size = tuple(n if n is not None else m for n, m in zip(plan.window, working, strict=True))
    pad = windows.padding(working, size)
    back = thick_axis(wanted, spacing, card.rules.logits.separate)
    return replace(
        plan,
        shape=shape,
        working=working,
        padded=tuple(n + before + after for n, (before, after) in zip(working, pad, strict=True)),
        steps=tuple(n / m for n, m in zip(shape, working, strict=True)),
        pad=pad,
        window=size,
        crop=crop,
        nearest=back if card.rules.logits.order_z == 0 else None,
    )


def _spacings(plan: "Plan", card: Card) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the frame's spacing and the network's, in the network's order of axes."""
    spacing = plan.grid.without_frames().reordered(plan.order, plan.flips).spacing
    spacing = (999.0, 1.0, 1.0) if card.rules.in_pixels else tuple(float(n) for n in spacing)
    wanted = card.rules.spacing
    return spacing, (spacing[0], *wanted) if len(wanted) == 2 else wanted


def thick_axis(before: Sequence[float], after: Sequence[float], separate: bool | None = None) -> int | None:
    """Return the axis across which slices are thick, of a resampling between two spacings; None if there is none.

    The spacing before decides, and that after where the one before is even. Two thick axes are none.

    Examples
    --------
    >>> thick_axis((5, 1, 1), (3, 1, 1)), thick_axis((1, 1, 1), (1, 4, 1)), thick_axis((2, 1, 1), (1, 1, 1))
    (0, 1, None)
    """
    if separate is False:
        return None
    for spacing in (before, after):
        if separate or max(spacing) / min(spacing) > _THICK:
            axes = [a for a, n in enumerate(spacing) if n == max(spacing)]
            return axes[0] if len(axes) == 1 else None
    return None


# A frame on its way in ------------------------------------------------------------------------------------------


def prepare(channels: Sequence[Volume], card: Card, plan: "Plan", counter: Any) -> "tuple[torch.Tensor, Plan]":
    """Return one frame as the network wants it, (channels, z, y, x) float32, and the plan of what was cropped."""
    import torch

    from . import engine

    arrays = [engine.read_frame(volume, plan, counter) for volume in channels]
    inside = arrays[0] != 0
    for array in arrays[1:]:
        inside |= array != 0
    crop = _bounds(inside)
    plan = _for_crop(plan, card, crop)
    counter.add()
    rules = [channel.intensity for channel in card.input.channels]
    mask = torch.from_numpy(_filled(inside)[crop]) if any(rule.masked for rule in rules) else None
    del inside
    spacing, wanted = _spacings(plan, card)
    way = card.rules.image
    thick = thick_axis(spacing, wanted, way.separate)
    tensor = torch.zeros((len(arrays), *plan.padded), dtype=torch.float32)
    within = tuple(slice(before, before + n) for (before, _), n in zip(plan.pad, plan.working, strict=True))
    for number, rule in enumerate(rules):
        counter.add()
        part = torch.from_numpy(np.ascontiguousarray(arrays[number][crop]))
        arrays[number] = None
        found = engine.scaled(part, rule, mask if rule.masked else None).numpy()
        counter.add()
        if plan.working != plan.shape:
            found = resample(found, plan.working, way, thick, counter)
        tensor[(number, *within)] = torch.from_numpy(found)
    return tensor, plan


def _bounds(inside: np.ndarray) -> tuple[slice, ...]:
    """Return the box around what is true; of nothing, all."""
    found = []
    for axis in range(inside.ndim):
        used = np.flatnonzero(inside.any(axis=tuple(a for a in range(inside.ndim) if a != axis)))
        found.append(slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, inside.shape[axis]))
    return tuple(found)


def _filled(inside: np.ndarray) -> np.ndarray:
    """Fill the holes: what is false and not connected, across faces, with a false voxel at the border."""
    labels, count = ndimage.label(~inside)
    outside = np.zeros(count + 1, bool)
    for axis in range(labels.ndim):
        for end in (0, -1):
            outside[np.unique(labels.take(end, axis))] = True
    outside[0] = False
    return ~outside[labels]


def resample(
    image: np.ndarray, shape: Sequence[int], way: Resampling, thick: int | None = None, counter: Any = None
) -> np.ndarray:
    """Resample a 3D image to a shape, as scikit-image's ``resize(mode="edge", anti_aliasing=False)`` does.

    Parameters
    ----------
    image : (z, y, x) float32 array
        Any values.
    shape : sequence of int
        Voxels of the result; both cover the same box.
    way : Resampling
        The orders.
    thick : int, optional
        Axis across which `order_z` counts; the slices are then each clipped to its own range.
    counter : Counter, optional
        Asked whether to stop, every few million voxels.

    Returns
    -------
    float32 array
        Cubic splines do not exceed the range of `image`: the result is clipped to it.

    Examples
    --------
    >>> resample(np.arange(4, dtype=np.float32).reshape(1, 1, 4), (1, 1, 2), Resampling(order=1)).ravel()
    array([0.5, 2.5], dtype=float32)
    """
    across = tuple(a for a in range(3) if a != thick)
    low, high = image.min(axis=across, keepdims=True), image.max(axis=across, keepdims=True)
    if thick is None:
        low, high = image.min(), image.max()
    for axis in sorted(across, key=lambda a: shape[a] / image.shape[a]):
        image = _along(image, axis, shape[axis], way.order, counter)
    if way.order and way.order > 1:
        image = np.clip(image, low, high)
    if thick is not None:
        image = _along(image, thick, shape[thick], way.order_z, counter)
    return image


def _along(image: np.ndarray, axis: int, count: int, order: int, counter: Any) -> np.ndarray:
    """Resample one axis."""
    length = image.shape[axis]
    if length == count:
        return image
    if order == 0:
        return image.take(sampling.nearest(length, count)[0][0], axis)
    image = np.moveaxis(image, axis, 0)
    out = np.empty((count, *image.shape[1:]), np.float32)
    rows = max(1, _CHUNK // max(1, max(length, count) * image.shape[2]))
    for start in range(0, image.shape[1], rows):
        part = slice(start, start + rows)
        out[:, part] = _weighted(np.asarray(image[:, part], np.float64), count, order)
        if counter is not None:
            counter.add()
    return np.moveaxis(out, 0, axis)


def _weighted(image: np.ndarray, count: int, order: int) -> np.ndarray:
    """Resample the first axis, linearly or by cubic B-splines."""
    length = len(image)
    middle = length / count * (np.arange(count) + 0.5) - 0.5
    if order == 1:
        first = np.floor(middle)
        share = middle - first
        taps = {0: 1 - share, 1: share}
    else:
        image = np.pad(image, [(_BEYOND, _BEYOND), *[(0, 0)] * (image.ndim - 1)], mode="edge")
        image = ndimage.spline_filter1d(image, 3, axis=0, output=np.float64, mode="nearest")
        middle = middle + _BEYOND
        first = np.floor(middle)
        t = middle - first
        # The four pieces of the cubic B-spline that reach a point.
        taps = {-1: (1 - t) ** 3, 0: 3 * t**3 - 6 * t**2 + 4, 1: -3 * t**3 + 3 * t**2 + 3 * t + 1, 2: t**3}
        taps = {offset: share / 6 for offset, share in taps.items()}
    place = (-1, *[1] * (image.ndim - 1))
    out = 0
    for offset, share in taps.items():
        index = np.clip(first + offset, 0, len(image) - 1).astype(np.int64)
        out = out + image[index] * share.reshape(place)
    return out
