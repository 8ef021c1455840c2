"""A MONAI bundle whose transforms are not understood here: MONAI prepares the image, and our engine goes on from there.

MONAI says by the affine of its image where the voxels lie after its transforms. As long as their axes are those of the
image, in any order and direction, what the network says comes back as it does for bundles that are understood.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..geometry import Grid
from ..io.convention import to_xyz
from ..volume import Volume
from .bundle import Frame, Rules, asked_window
from .card import Card

if TYPE_CHECKING:
    import torch

    from .loaders._foreign import Parsed
    from .plan import Options, Plan, Quote

# How far a voxel may lie off the axes of the image, in its voxels, over the whole length of an axis.
_ASTRAY = 0.01
# The values of all classes, what MONAI makes of them, and their copy on the way.
_COPIES = 3
# Shares of a voxel that are rounding errors.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class ForeignRules(Rules):
    """What is understood of a bundle, for its plan, and the parts that MONAI runs.

    Parameters
    ----------
    missed : tuple of str
        What is not understood, each in a few words.
    whole : bool
        Whether that concerns how the network is asked, or what becomes of its answer.
    parsed : Parsed or None
        MONAI's parts, once the bundle was loaded with trust.
    """

    missed: tuple[str, ...] = ()
    whole: bool = False
    parsed: "Parsed | None" = field(default=None, compare=False, repr=False)

    def make_plan(
        self, volumes: Sequence[Volume], card: Card, options: "Options", window: Sequence[int] | None
    ) -> "Plan":
        """Return the plan as far as it is understood; what MONAI makes of the image shows when it runs."""
        plan = super().make_plan(volumes, card, options, window)
        return replace(plan, notes=(*plan.notes, f"MONAI runs what is not understood here: {'; '.join(self.missed)}"))

    def prepare(
        self, channels: Sequence[Volume], card: Card, plan: "Plan", counter: Any
    ) -> "tuple[torch.Tensor, Plan]":
        """Return one frame as the network wants it, prepared by MONAI, and the plan that brings answers back.

        Raises
        ------
        InputError
            If MONAI fails, or turns the image out of its axes.
        """
        held, key = self.transformed(channels, counter)
        image = image_of(held, key, card)
        places = places_of(stored_affine(plan.grid), affine_of(held[key]), plan.grid, image)
        if places is None:
            raise InputError(
                f"the bundle {card.folder} turns images out of their axes, so that classes cannot come back to the "
                "voxels: take that transform out, or add an Invertd that MONAI runs"
            )
        order, flips, first, step = (tuple(values[axis] for axis in self.axes) for values in places)
        image = image.permute(0, *(1 + axis for axis in self.axes)).contiguous()
        frame = Frame(
            [], replace(plan, window=asked_window(plan, card), crop=None, order=order, flips=flips), self.axes
        )
        frame.first, frame.step, frame.count = list(first), list(step), list(image.shape[1:])
        frame.around = [_outside(*one) for one in zip(first, step, frame.count, frame.shape, strict=True)]
        frame.cropped = True
        frame.cropped = any(frame.covered(axis) != slice(0, frame.shape[axis]) for axis in range(3))
        plan = replace(frame.plan(self), notes=plan.notes, batch=plan.batch)
        return self._padded(image, plan, frame.around), plan

    def transformed(self, channels: Sequence[Volume], counter: Any) -> tuple[dict[str, Any], str]:
        """Return MONAI's table after its preprocessing, and what the network's image is called in it."""
        if self.parsed is None:
            raise InputError("a MONAI bundle that is not understood runs only as load() gives it: load it with trust")
        keys = self.parsed.keys
        if len(keys) not in (1, len(channels)):
            raise InputError(f"{self.parsed.where}: it loads {len(keys)} images ({', '.join(keys)}), not one or as "
                             f"many as the network takes, {len(channels)}: correct the keys of LoadImaged")  # fmt: skip
        arrays = [read(volume, counter) for volume in channels]
        groups = [arrays] if len(keys) == 1 else [[array] for array in arrays]
        held = {key: meta_tensor(group, channels[0]) for key, group in zip(keys, groups, strict=True)}
        del arrays, groups
        for one in _one_by_one(self.parsed.before):
            held = self.parsed.call("before", held) if one is None else self.parsed.step(one, held)
            counter.add()
        key = "image" if "image" in held and len(keys) > 1 else keys[0]
        return held, key


def _one_by_one(before: Any) -> Sequence[Any]:
    """Return the transforms of a list one by one, so that work can be cancelled between them; else None for all."""
    if before is None:
        return ()
    if getattr(before, "lazy", None) or not hasattr(before, "transforms"):
        return (None,)
    return before.transforms


def read(volume: Volume, counter: Any) -> np.ndarray:
    """Return a frame as MONAI has it, (x, y, z) float32 in C order."""
    counter.add()
    array = np.array(np.asarray(volume.data).T, dtype=np.float32, order="C")
    if not np.isfinite(array).all():
        raise InputError(
            f"{volume.name!r} holds voxels that are NaN or infinite: replace them by a number before a model runs over "
            "the image"
        )
    return array


def meta_tensor(arrays: Sequence[np.ndarray], volume: Volume) -> Any:
    """Return MONAI's image of some channels (x, y, z), with the affine as a file would say it: index to RAS mm."""
    import torch
    from monai.data import MetaTensor

    affine = torch.from_numpy(stored_affine(volume.grid))
    meta = {
        "original_affine": affine.clone(), "spatial_shape": np.array(arrays[0].shape), "space": "RAS",
        "original_channel_dim": "no_channel" if len(arrays) == 1 else 0, "filename_or_obj": volume.name or "image",
    }  # fmt: skip
    return MetaTensor(torch.from_numpy(np.stack(arrays)), affine=affine, meta=meta)


def stored_affine(grid: Grid) -> np.ndarray:
    """Return the affine of an image as MONAI reads it from a file: index (x, y, z) to RAS mm, of single precision.

    The digits matter: by them MONAI decides how ``Spacingd`` places the voxels of oblique images.
    """
    return to_xyz(grid.without_frames().affine, "RAS").astype(np.float32).astype(np.float64)


def image_of(held: Mapping[str, Any], key: str, card: Card) -> "torch.Tensor":
    """Return the network's image, (channels, x, y, z) float32; refuse what is none."""
    import torch

    found = held.get(key) if isinstance(held, Mapping) else None
    wanted = card.input.network_channels
    if not isinstance(found, torch.Tensor) or found.ndim != 4 or found.shape[0] != wanted:
        what = f"of shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise InputError(
            f"the bundle {card.folder} makes of an image {key!r} something {what}, where ({wanted}, x, y, z) is "
            "needed: correct its preprocessing"
        )
    plain = found.as_tensor() if hasattr(found, "as_tensor") else found
    return plain.detach().to("cpu", torch.float32)


def affine_of(image: Any) -> np.ndarray:
    """Return the affine that MONAI keeps with an image."""
    return np.asarray(image.affine if hasattr(image, "affine") else np.eye(4), dtype=np.float64)


def places_of(
    stored: np.ndarray, now: np.ndarray, grid: Grid, image: "torch.Tensor"
) -> tuple[tuple[int, ...], tuple[bool, ...], tuple[float, ...], tuple[float, ...]] | None:
    """Return where the voxels of an image of MONAI lie on the image it was made of.

    Parameters
    ----------
    stored, now : (4, 4) array
        Affines before and after, index (x, y, z) to one world.
    grid : Grid
        Of the image as stored.
    image : (channels, x, y, z) tensor
        The image now.

    Returns
    -------
    order, flips, first, step : tuple or None
        For each axis of the image now: the stored axis (z, y, x), whether it runs the other way, the place of the first
        voxel along it and the distance of voxels, in stored voxels. None if axes are no longer those of the image.
    """
    if now.shape != (4, 4):
        return None
    between = np.linalg.inv(stored) @ now
    turn = between[:3, :3]
    axes = np.abs(turn).argmax(axis=0)
    if sorted(axes) != [0, 1, 2]:
        return None
    shape = grid.without_frames().spatial_shape
    order, flips, first, step = [], [], [], []
    for axis, there in enumerate(axes):
        along = turn[there, axis]
        across = np.abs(np.delete(turn[:, axis], there)).max()
        if across * image.shape[1 + axis] > _ASTRAY:
            return None
        place = between[there, 3] if along > 0 else shape[2 - there] - 1 - between[there, 3]
        order.append(2 - int(there))
        flips.append(bool(along < 0))
        first.append(_tidy(place))
        step.append(_tidy(abs(along)))
    return tuple(order), tuple(flips), tuple(first), tuple(step)


def _outside(first: float, step: float, count: int, length: int) -> tuple[int, int]:
    """Return how many voxels before and after an axis of the image were put around it: they are no part of it.

    The outermost voxels of a resampled image may lie up to half a step beyond.
    """
    reach = 0.5 * step + _ROUNDING
    places = first + step * np.arange(count)
    before, after = int((places < -reach).sum()), int((places > length - 1 + reach).sum())
    return (before, after) if before + after < count else (0, 0)


def _tidy(value: float) -> float:
    nearest = float(np.round(value))
    return nearest if abs(value - nearest) < _ROUNDING else float(value)


# Answers that MONAI finishes ------------------------------------------------------------------------------------


def plan_whole(channels: Sequence[Volume], card: Card, given: Mapping[str, Any]) -> "Plan":
    """Return the plan of a prediction whose answer MONAI finishes, as far as it is understood."""
    from .plan import make_plan, options_for

    chosen = {name: given.get(name) for name in ("overlap", "blending", "mirror")}
    return make_plan(list(channels), card, options_for(card, **chosen), given.get("window"))


def quote_whole(
    channels: Sequence[Volume], model: Any, card: Card, given: Mapping[str, Any], notes: Sequence[str]
) -> "Quote":
    """Say what such a prediction of a model or card will cost; what MONAI's own transforms take is not known."""
    from . import cost, footprint
    from .plan import Quote

    plan = footprint.learnt(plan_whole(channels, card, given), [model])
    needed = 4 * math.prod(plan.padded) * (_COPIES * (card.output.channels or 2) + 2 * card.input.network_channels)
    needed += int(cost.network_bytes(card, plan))
    missing, told = footprint.unlearnt(plan, card), (*plan.notes, *footprint.noted(plan, card), *notes)
    return Quote(plan.frames * plan.windows_per_frame, needed, told, unlearnt=missing)


def require_memory(channels: Sequence[Volume], model: Any, given: Mapping[str, Any]) -> None:
    """Refuse such a prediction where memory does not suffice."""
    from .cost import require

    require(quote_whole(channels, model, model.card, given, ()), given["memory"], "image")
