"""How a MONAI bundle prepares an image: the transforms that it names, done here in its order.

MONAI's arrays have the axes x, y, z as the file stores them, or as ``Orientationd`` turns them. ``Spacingd`` keeps the
first voxel where it is, and interpolates linearly without smoothing; what the network says comes back the same way.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..volume import Volume
from . import sampling, windows
from .card import Card

if TYPE_CHECKING:
    import torch

    from .plan import Options, Plan

# Spacings that differ by less, in mm, are the same to MONAI.
_SAME = 1e-3
# What MONAI's Gaussian weights do not fall below.
_FLOOR = 1e-3
# Share of an axis that may lie across the patient's axes.
_ASTRAY = 1e-7


@dataclass(frozen=True)
class Step:
    """One transform: what it is, and its numbers.

    `kind` is orientation, spacing, resize, crop, pad, divisible, range, scale, normalize, percentiles or threshold.
    """

    kind: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Rules:
    """What a bundle says of preparing an image.

    Parameters
    ----------
    steps : tuple of Step
        In order.
    axes : tuple of int
        MONAI's axes in the order the network sees: (0, 1, 2), or the axis across the slices first.
    padding : {"constant", "replicate", "reflect"}
        What lies around an image that is smaller than the window.
    value : float
        With ``"constant"``.
    """

    steps: tuple[Step, ...] = ()
    axes: tuple[int, ...] = (0, 1, 2)
    padding: str = "constant"
    value: float = 0.0

    def make_plan(
        self, volumes: Sequence[Volume], card: Card, options: "Options", window: Sequence[int] | None
    ) -> "Plan":
        """Return the plan of a frame of which nothing is cropped."""
        from .plan import Plan, describe_resampling, window_size

        grid = volumes[0].grid
        order, flips = self._turn(volumes[0], card)
        oriented = grid.without_frames().reordered(order, flips)
        shape = oriented.spatial_shape
        plan = Plan(
            grid=grid, order=order, flips=flips, shape=shape, working=shape, padded=shape, steps=(1.0,) * 3,
            pad=[(0, 0)] * 3, window=window_size(card, window), batch=1, dims=card.input.dims, options=options,
            even=False, floor=_FLOOR,
        )  # fmt: skip
        frame = Frame([], plan, self.axes)
        for step in self.steps:
            frame.do(step)
        plan = frame.plan(self)
        notes = []
        if plan.working != shape:
            notes.append(describe_resampling(shape, plan.working, oriented.spacing, plan.steps))
        if plan.padded != plan.working:
            notes.append(f"padded to the window ({self.padding})")
        if any(step.kind == "crop" for step in self.steps):
            notes.append("cropped to what is greater than 0; outside of it there is background")
        return replace(plan, notes=tuple(notes), batch=windows.batch(plan.window) if plan.dims == 2 else 1)

    def prepare(
        self, channels: Sequence[Volume], card: Card, plan: "Plan", counter: Any
    ) -> "tuple[torch.Tensor, Plan]":
        """Return one frame as the network wants it, (channels, z, y, x) float32, and the plan of what was cropped."""
        import torch

        from . import engine

        arrays = [torch.from_numpy(np.array(engine.read_frame(volume, plan, counter))) for volume in channels]
        whole = replace(plan, window=asked_window(plan, card), crop=None)
        frame = Frame(arrays, whole, self.axes, counter)
        del arrays
        for step in self.steps:
            frame.do(step)
        plan = replace(frame.plan(self), notes=plan.notes, batch=plan.batch)
        return self._padded(frame.stacked(), plan, frame.around), plan

    def _turn(self, volume: Volume, card: Card) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Return the arguments of `Grid.reordered` that give MONAI's axes, in the order the network sees."""
        grid = volume.grid.without_frames()
        order, flips = (2, 1, 0), (False, False, False)
        if card.input.orientation is not None:
            order, flips = grid.order_for(card.input.orientation)
        axes = self.axes
        if card.input.dims == 2 and volume.is_2d and card.input.orientation is None:
            across = order.index(grid.spatial_shape.index(1))
            axes = (across, *(a for a in range(3) if a != across))
        return tuple(order[a] for a in axes), tuple(flips[a] for a in axes)

    def _padded(self, image: "torch.Tensor", plan: "Plan", around: Sequence[tuple[int, int]]) -> "torch.Tensor":
        """Return the image as large as the window, where its own transforms did not make it so."""
        import torch

        more = [(a - b, c - d) for (a, c), (b, d) in zip(plan.pad, around, strict=True)]
        if not any(n for pair in more for n in pair):
            return image
        sides = [n for pair in reversed(more) for n in pair]
        fill = {"value": self.value} if self.padding == "constant" else {}
        return torch.nn.functional.pad(image[None], sides, mode=self.padding, **fill)[0]


def asked_window(plan: "Plan", card: Card) -> tuple[int | None, ...]:
    """Return the window as it was before a frame gave its own size to axes that are taken whole."""
    if card.window.size is None and plan.window == plan.padded:
        return (None, None, None)
    if card.window.size is None and plan.dims == 2 and plan.window[1:] == plan.padded[1:]:
        return (1, None, None)
    return plan.window


class Frame:
    """A frame on its way through the transforms: its channels, and where their voxels lie on the image's axes.

    Without channels only the places are followed.
    """

    def __init__(self, channels: list, plan: "Plan", axes: tuple[int, ...], counter: Any = None) -> None:
        self.channels, self.start, self.axes, self.counter = channels, plan, axes, counter
        self.oriented = plan.grid.without_frames().reordered(plan.order, plan.flips)
        # Voxel k of the frame, as it is now, is voxel first + k * step of the image.
        self.first, self.step = [0.0] * 3, [1.0] * 3
        self.shape = self.oriented.spatial_shape
        self.count = list(self.shape)
        # Voxels that were put around it since it was sampled: no part of the image.
        self.around = [(0, 0)] * 3
        self.turned = self.cropped = False

    def do(self, step: Step) -> None:
        """Do one transform."""
        if self.counter is not None:
            self.counter.add()
        getattr(self, f"_{step.kind}")(**step.values)

    def plan(self, rules: Rules) -> "Plan":
        """Return the plan with the frame's places in it."""
        plan = self.start
        crop = tuple(self.covered(axis) for axis in range(3))
        size = tuple(n if n is not None else m for n, m in zip(plan.window, self.count, strict=True))
        pad = windows.padding(self.count, size)
        if plan.dims == 2:
            pad[0] = (0, 0)
        pad = [(a + b, c + d) for (a, c), (b, d) in zip(self.around, pad, strict=True)]
        inner = [n - before - after for n, (before, after) in zip(self.count, self.around, strict=True)]
        first = [f + s * before for f, s, (before, _) in zip(self.first, self.step, self.around, strict=True)]
        return replace(
            plan,
            shape=tuple(part.stop - part.start for part in crop),
            working=tuple(inner),
            padded=tuple(n + before + after for n, (before, after) in zip(inner, pad, strict=True)),
            steps=tuple(self.step),
            pad=pad,
            window=size,
            crop=crop if self.cropped else None,
            firsts=tuple((part.start - f) / s for part, f, s in zip(crop, first, self.step, strict=True)),
        )

    def covered(self, axis: int) -> slice:
        """Return the voxels of the image that the frame covers: all, unless it was cropped."""
        length = self.shape[axis]
        if not self.cropped:
            return slice(0, length)
        low = int(np.ceil(self.first[axis] - 0.5 * self.step[axis] - 1e-9))
        high = int(np.floor(self.first[axis] + (self.count[axis] - 0.5) * self.step[axis] + 1e-9)) + 1
        low = min(max(0, low), length - 1)
        return slice(low, max(low + 1, min(length, high)))

    def stacked(self) -> "torch.Tensor":
        """Return the channels as one tensor."""
        import torch

        return torch.stack(self.channels)

    def _of(self, values: Any, axis: int) -> Any:
        """Return the entry of an axis in a list of two (in the plane) or three (x, y, z)."""
        if not isinstance(values, tuple):
            return values
        if len(values) == 2:
            return values[axis - 1] if axis else None
        # Before the axes are turned, they are those of the file.
        return values[self.axes[axis] if self.turned else 2 - self.start.order[axis]]

    # Places -----------------------------------------------------------------------------------------------------

    def _orientation(self) -> None:
        # The frame was read in this orientation.
        self.turned = True

    def _spacing(self, pixdim: Any) -> None:
        ways, straight = [], self._straight()
        for axis in range(3):
            wanted = self._of(pixdim, axis)
            here = float(self.oriented.spacing[axis]) * self.step[axis]
            if wanted is None or wanted <= 0:
                wanted = here
            count = int(np.round((self.count[axis] - 1) * here / wanted + 1))
            ratio, length = wanted / here, self.count[axis]
            first = 0.0 if straight else (length - count * ratio) / 2
            if self.start.flips[axis] and not self.turned:
                # The axis still runs the other way.
                first = length - 1 - (count - 1) * ratio - first
            ways.append((count, ratio, first, abs(wanted - here) < _SAME and count == length))
        if not all(same for *_, same in ways):
            for axis, (count, ratio, first, _) in enumerate(ways):
                self._sample(axis, count, ratio, first)

    def _straight(self) -> bool:
        """Whether MONAI finds a corner of the frame from which all axes go on, and so keeps the first voxel's place.

        Of an oblique image, whose axes files keep in single precision, rounding errors let it find none, and it lays
        the middles of both grids on each other.
        """
        columns = np.abs(self.oriented.affine[:3, :3])
        return bool(np.all(np.sort(columns, axis=0)[:2] <= _ASTRAY * columns.max(axis=0)))

    def _resize(self, size: Any) -> None:
        for axis in range(3):
            count = self._of(size, axis)
            if count is not None and count > 0:
                ratio = self.count[axis] / count
                self._sample(axis, count, ratio, (ratio - 1) / 2)

    def _sample(self, axis: int, count: int, ratio: float, first: float) -> None:
        """Take `count` voxels along an axis from place `first` on, `ratio` apart, linearly."""
        length = self.count[axis]
        if (count, ratio, first) == (length, 1.0, 0.0):
            return
        indices, shares = sampling.taps(length, count, ratio, smooth=False, first=first)
        for number, channel in enumerate(self.channels):
            self.channels[number] = sampling.gather(channel, axis, indices, shares)
            self.counter.add()
        self.first[axis] += self.step[axis] * first
        self.step[axis] *= ratio
        self.count[axis] = count
        self.around[axis] = (0, 0)

    def _crop(self, margin: int) -> None:
        self.cropped = True
        if not self.channels:
            return
        inside = self.channels[0] > 0
        for channel in self.channels[1:]:
            inside |= channel > 0
        for axis in range(1 if self.start.dims == 2 else 0, 3):
            used = inside.any(dim=tuple(a for a in range(3) if a != axis) if axis else (1, 2)).numpy().nonzero()[0]
            if used.size:
                low, high = int(used[0]) - margin, int(used[-1]) + 1 + margin
                self._cut(axis, max(0, low), min(self.count[axis], high))

    def _cut(self, axis: int, low: int, high: int) -> None:
        for number, channel in enumerate(self.channels):
            self.channels[number] = channel.narrow(axis, low, high - low)
        self.first[axis] += self.step[axis] * low
        self.count[axis] = high - low
        self.around[axis] = (0, 0)

    def _pad(self, size: Any) -> None:
        for axis in range(3):
            wanted = self._of(size, axis)
            self._widen(axis, (wanted or 0) - self.count[axis])

    def _divisible(self, by: Any) -> None:
        for axis in range(3):
            wanted = self._of(by, axis)
            self._widen(axis, -self.count[axis] % wanted if wanted else 0)

    def _widen(self, axis: int, more: int) -> None:
        """Put zeros around an axis, as many at both ends."""
        import torch

        if more <= 0 or (axis == 0 and self.start.dims == 2):
            return
        before = more // 2
        sides = [0] * 6
        sides[2 * (2 - axis) : 2 * (2 - axis) + 2] = before, more - before
        self.channels = [torch.nn.functional.pad(channel, sides) for channel in self.channels]
        self.around[axis] = (self.around[axis][0] + before, self.around[axis][1] + more - before)
        self.first[axis] -= self.step[axis] * before
        self.count[axis] += more

    # Values -----------------------------------------------------------------------------------------------------

    def _each(self, change: Callable, together: bool) -> None:
        """Change every channel for itself, or all as one."""
        import torch

        if not self.channels:
            return
        if together and len(self.channels) > 1:
            self.channels = list(change(torch.stack(self.channels)))
        else:
            self.channels = [change(channel) for channel in self.channels]

    def _range(self, source: tuple, target: tuple | None, clip: bool) -> None:
        self._each(lambda x: _to_range(x, source, target, clip), together=False)

    def _scale(self, target: tuple, channel_wise: bool) -> None:
        def change(x: Any) -> Any:
            low, high = x.min(), x.max()
            return (x - low) / (high - low) * (target[1] - target[0]) + target[0] if high > low else x * target[0]

        self._each(change, together=not channel_wise)

    def _normalize(self, mean: Any, std: Any, nonzero: bool, channel_wise: bool) -> None:
        numbers = iter(range(len(self.channels)))

        def one(given: Any, number: int) -> Any:
            return given[number] if isinstance(given, tuple) else given

        def change(x: Any) -> Any:
            number = next(numbers)
            chosen = x != 0 if nonzero else None
            values = (x if chosen is None else x[chosen]).numpy()
            if not values.size:
                return x
            low, by = one(mean, number), one(std, number)
            low = float(values.mean(dtype=np.float64)) if low is None else low
            by = float(values.std(dtype=np.float64)) if by is None else by
            found = (x - low) / (by or 1.0)
            return found if chosen is None else found.where(chosen, x)

        self._each(change, together=not channel_wise)

    def _percentiles(self, lower: float, upper: float, target: tuple | None, clip: bool, channel_wise: bool) -> None:
        def change(x: Any) -> Any:
            return _to_range(x, tuple(float(v) for v in np.percentile(x.numpy(), (lower, upper))), target, clip)

        self._each(change, together=not channel_wise)

    def _threshold(self, threshold: float, above: bool, value: float) -> None:
        self._each(lambda x: x.where(x > threshold if above else x < threshold, x.new_tensor(value)), together=False)


def _to_range(x: Any, source: tuple, target: tuple | None, clip: bool) -> Any:
    """Scale values linearly; of one that has no range, only its value is taken away."""
    low, high = source
    if high == low:
        return x - low + (target[0] if target else 0)
    x = (x - low) / (high - low)
    if target is not None:
        x = x * (target[1] - target[0]) + target[0]
        if clip:
            x = x.clamp(*target)
    return x
