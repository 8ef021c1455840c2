"""What is seen of a network, as volumes that a recipe makes again: its first kernels, and how far it sees from a place.

`looking` gives the numbers; here they become layers of a viewer and pictures of a report.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from ..geometry import Grid
from ..volume import Label, Volume
from ._explained_steps import opened, step_of
from .channels import as_channels
from .loaders import Model
from .loaders import load as load_model
from .looking import ReceptiveField, features, frequency_response, kernels, receptive_field
from .plan import Plan, make_plan, options_for
from .predict import ModelLike

_ACROSS, _RESPONSE = 8, 32
SEEN = {1: Label("at most", "#f0e442"), 2: Label("in effect", "#e69f00")}


def tiles(kernels: np.ndarray) -> np.ndarray:
    """Return kernels side by side, eight in a row, one voxel of 0 between them.

    Parameters
    ----------
    kernels : (out, in, y, x) or (out, in, z, y, x) array
        As `kernels` gives them. Of several input channels the first, of kernels with three axes the middle slice.

    Returns
    -------
    (rows, columns) float32 array

    Examples
    --------
    >>> tiles(np.ones((9, 1, 3, 3))).shape
    (7, 31)
    """
    flat = np.asarray(kernels, np.float32)[:, 0]
    flat = flat[:, flat.shape[1] // 2] if flat.ndim == 4 else flat
    count, height, width = flat.shape
    rows, columns = -(-count // _ACROSS), min(count, _ACROSS)
    found = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1), np.float32)
    for number, one in enumerate(flat):
        row, column = divmod(number, _ACROSS)
        top, left = row * (height + 1), column * (width + 1)
        found[top : top + height, left : left + width] = one
    return found


def kernel_picture(model: ModelLike, *, response: bool = False) -> Volume:
    """Return the kernels of the first convolution as an image, side by side.

    Parameters
    ----------
    model : Model, str, path or torch.nn.Module
        As for `layers`.
    response : bool
        Their frequency response, 32 frequencies a side with 0 in the middle, in place of their weights.

    Returns
    -------
    Volume
        One slice, float32, that lies on no patient grid; its history is one step, which a recipe runs again.

    Raises
    ------
    InputError
        As for `kernels`.

    Examples
    --------
    >>> from napari_lightbox.models.networks import build
    >>> kernel_picture(build("unet", dims=2, channels=(4, 8))).data.shape
    (1, 3, 15)
    """
    model = load_model(model) if not isinstance(model, Model) and not callable(model) else model
    found = kernels(model)
    if response:
        found = frequency_response(found, max(_RESPONSE, *found.shape[2:]))
    data = tiles(found)[None]
    name = getattr(model, "name", type(model).__name__)
    step = step_of("kernels", model, _card(model), {"response": response})
    meta = {"spacing_known": False, "orientation_known": False}
    what = "frequency response of the first kernels" if response else "first kernels"
    grid = Grid.from_spacing((1, 1, 1), data.shape)
    return Volume(data, grid, name=f"{name} · {what}", meta=meta, history=(step,))


def seen_from(
    volume: Volume | Sequence[Volume],
    model: ModelLike,
    point: Sequence[float],
    layer: str | None = None,
    *,
    seed: int = 0,
) -> Volume:
    """Mark what a network sees from a place: as far as it can, and as far as it does in effect.

    Parameters
    ----------
    volume, model
        As for `predict`; one model with a card.
    point : (3,) sequence of float
        World point (z, y, x) in LPS mm, inside of the image.
    layer : str, optional
        A name that `layers` lists; the answer where not given.
    seed : int
        As for `receptive_field`.

    Returns
    -------
    Volume
        uint8 labels on the grid of the image, without frames: 2 in effect, 1 at most, by the network's structure.
        ``meta["receptive_field"]`` holds `ReceptiveField.as_dict`.

    Raises
    ------
    InputError
        If the point lies outside, or as for `receptive_field`.

    Examples
    --------
    >>> import torch
    >>> from napari_lightbox.models.card import Card
    >>> net = torch.nn.Sequential(torch.nn.Conv3d(1, 1, 3, padding=1), torch.nn.Conv3d(1, 1, 3, padding=1))
    >>> image = Volume.from_array(np.zeros((16, 16, 16), np.float32), spacing=(1, 1, 1))
    >>> int((seen_from(image, Model(Card("demo"), net), (8, 8, 8)).data > 0).sum())
    125
    """
    given = as_channels(volume)
    model = load_model(model) if not isinstance(model, Model) else model
    field, plan = field_of(given, model, layer, seed=seed)
    grid = given[0].grid.without_frames()
    voxel = np.rint(grid.to_index(np.asarray(point, float))).astype(int)
    if voxel.shape != (3,) or (voxel < 0).any() or (voxel >= grid.spatial_shape).any():
        raise InputError(f"point {tuple(point)!r} lies outside of {given[0].name!r}: give (z, y, x) in mm inside of it")
    data = np.zeros(grid.spatial_shape, np.uint8)
    for value, which in ((1, "bound"), (2, "effective")):
        around = reach(field, which, plan)
        low, high = np.ceil(voxel - around[:, 0]).astype(int), np.floor(voxel + around[:, 1]).astype(int)
        data[tuple(slice(max(0, a), b + 1) for a, b in zip(low, high, strict=True))] = value
    step = step_of("receptive_field", model, model.card, {"point": [float(v) for v in point], "layer": layer,
                                                          "seed": seed}, given)  # fmt: skip
    meta = {k: v for k, v in given[0].meta.items() if k not in ("unit", "windows", "modality")}
    meta["receptive_field"] = field.as_dict()
    name = f"{given[0].name} · what {model.name} {layer or 'answer'} sees"
    return Volume(data, grid, "labels", name, SEEN, meta, (*given[0].history, step))


def field_of(
    volumes: Sequence[Volume], model: Model, layer: str | None, *, seed: int = 0
) -> tuple[ReceptiveField, Plan]:
    """Return how far a layer sees in the voxels a model sees of images, and the plan that says which these are."""
    plan = make_plan(list(volumes), model.card, options_for(model.card))
    grid = plan.grid.without_frames().reordered(plan.order, plan.flips)
    spacing = np.multiply(grid.spacing, plan.steps)[3 - plan.dims :]
    window = plan.window[3 - plan.dims :] if model.card.window.size is None else None
    return receptive_field(model, layer, spacing=tuple(spacing), window=window, seed=seed), plan


def reach(field: ReceptiveField, which: str, plan: Plan) -> np.ndarray:
    """Return how far a receptive field goes before and after a voxel's centre, in voxels as stored: (3, 2).

    `which` is ``"bound"``, ``"measured"`` or ``"effective"``.
    """
    found = np.zeros((3, 2))
    first = 3 - plan.dims
    for axis, (stored, flip) in enumerate(zip(plan.order, plan.flips, strict=True)):
        voxels = (0, 0) if axis < first else getattr(field, which)[axis - first]
        if voxels is None:
            size = field.window[axis - first]
            voxels = (size // 2, size - 1 - size // 2)
        found[stored] = (np.array(voxels[::-1] if flip else voxels) + 0.5) * plan.steps[axis]
    return found


def replay(step: Mapping[str, Any], volume: Volume, parameters: Mapping[str, Any]) -> Volume:
    """Repeat a step ``"features"``, ``"kernels"`` or ``"receptive_field"`` of a history.

    Raises
    ------
    InputError
        If the model was a Python function, or its weights are no longer the same.
    """
    values = dict(parameters)
    model, further = opened(step, values)
    if step["operation"] == "kernels":
        return kernel_picture(model, **values)
    if step["operation"] == "receptive_field":
        return seen_from([volume, *further], model, values.pop("point"), values.pop("layer"), **values)
    (found,) = features([volume, *further], model, values.pop("layer"), channels=[values.pop("channel")], **values)
    return found


def _card(model: Any) -> Any:
    from .card import Card

    return getattr(model, "card", None) or Card(type(model).__name__)


__all__ = ["SEEN", "field_of", "kernel_picture", "reach", "seen_from", "tiles"]
