"""A MONAI bundle whose answer MONAI finishes: its own post-transforms, and where it has one, its own inferer.

The windows still go through our engine where the inferer is understood: in bounded memory, with progress, and left at
any time. Then the values of all classes exist together, as MONAI needs them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from .. import progress
from ..errors import InputError
from ..geometry import Grid
from ..io.convention import from_xyz
from ..volume import Volume
from . import engine
from .bundle import Rules
from .bundle_foreign import affine_of, image_of, plan_whole, require_memory
from .card import Card, Channel, InputSpec, OutputSpec
from .finishing import Results
from .loaders import Model
from .plan import Plan
from .prediction import Prediction, gather

# Choices of `predict` that belong to our way of finishing.
_OURS = ("skip_below", "samples", "kind", "activation", "output", "post")


def predict(channels: Sequence[Volume], model: Model, given: Mapping[str, Any], notes: Sequence[str]) -> Prediction:
    """Run a bundle over every frame.

    Parameters
    ----------
    channels : sequence of Volume
        On one grid, already checked against the card.
    model : Model
        Loaded with trust.
    given : mapping
        The choices of `predict.predict`.
    notes : sequence of str
        What the user should know already.

    Raises
    ------
    InputError
        If MONAI fails, a choice means nothing here, or memory does not suffice.
    """
    card = model.card
    for name in _OURS:
        # A dialog gives what the card says as it is.
        if given.get(name) not in (None, False, 0, (), [], {}, getattr(card.output, name, None)):
            raise InputError(
                f"{name} {given[name]!r} means nothing to model {card.name!r}, whose answer MONAI finishes: leave it "
                "out"
            )
    lost = [name for name in ("probabilities", "uncertainty") if given.get(name)]
    if lost:
        notes = (*notes, f"no {' and no '.join(lost)}: MONAI finishes the answer, and leaves labels only")
    if given["check"]:
        require_memory(channels, model, given)
    plan = plan_whole(channels, card, given)
    device = engine.choose_device(given["device"])
    frames = [_frame([v.frame(n) for v in channels], model, given, device) for n in range(plan.frames)]
    results, more = _results(frames, card, plan)
    asked = {name: given[name] for name in ("window", "device", "check", "precision", "memory")}
    return gather(channels, [model], card, plan, results, asked, device, (*notes, *plan.notes, *more))


class _Asked(torch.nn.Module):
    """The network as a foreign inferer asks it: with progress, and left where the work was cancelled."""

    def __init__(self, network: Callable, device: str) -> None:
        super().__init__()
        self.network, self.device, self.count = network, device, 0

    def forward(self, x: torch.Tensor, *given: Any, **more: Any) -> Any:
        self.count += 1
        progress.report("windows", self.count, self.count + 1)
        plain = x.as_tensor() if hasattr(x, "as_tensor") else x
        found = self.network(plain.to(self.device), *given, **more)
        return found.to(x.device) if isinstance(found, torch.Tensor) else found


def _frame(channels: list[Volume], model: Model, given: Mapping[str, Any], device: str) -> np.ndarray:
    """Return what MONAI makes of one frame: (channels, z, y, x) on the grid of the image."""
    from monai.data import MetaTensor

    card, rules = model.card, model.card.rules
    counter = engine.Counter(1)
    held, key = rules.transformed(channels, counter)
    image = image_of(held, key, card)
    with torch.inference_mode():
        if rules.parsed.inferer is not None:
            answer = rules.parsed.call("inferer", image[None], _Asked(model.on(device), device))
            answer = answer[0].to("cpu", torch.float32) if isinstance(answer, torch.Tensor) else None
        else:
            answer = _windows(image, model, given)
    if answer is None or answer.ndim != 4:
        raise InputError(f"the inferer of the bundle {card.folder} gives no image of classes: correct it")
    known = held[key]
    applied = getattr(known, "applied_operations", [])
    held["pred"] = MetaTensor(answer, affine=torch.from_numpy(affine_of(known)), meta=dict(getattr(known, "meta", {})))
    held["pred"].applied_operations = list(applied)
    del answer, image, known
    held = rules.parsed.call("after", held)
    found = held.get("pred") if isinstance(held, Mapping) else None
    if not isinstance(found, torch.Tensor) or found.ndim != 4:
        raise InputError(f"the postprocessing of the bundle {card.folder} leaves no image 'pred': correct it")
    return _on_grid(found, channels[0])


def _windows(image: torch.Tensor, model: Model, given: Mapping[str, Any]) -> torch.Tensor:
    """Return the network's values of an image (channels, x, y, z), stitched by our engine."""
    from .predict import predict as through

    card, rules = model.card, model.card.rules
    grid = Grid.from_spacing((1, 1, 1), tuple(image.shape[:0:-1]))
    volumes = [Volume(one.numpy().T, grid, name="image") for one in image]
    plain = replace(
        card,
        rules=Rules((), rules.axes, rules.padding, rules.value),
        input=InputSpec(card.input.dims, tuple(Channel(f"image {n}") for n in range(len(volumes)))),
        output=OutputSpec("image", "none"),
        post={},
    )
    names = ("window", "overlap", "blending", "mirror", "device", "precision", "memory")
    network = replace(model, card=plain)
    made = through(volumes, network, check=False, **{name: given.get(name) for name in names})
    return torch.from_numpy(np.stack([np.asarray(made.output(n).data, np.float32).T for n in made.kept]))


def _on_grid(found: torch.Tensor, image: Volume) -> np.ndarray:
    """Return MONAI's answer on the grid of the image: as it is, or by the nearest voxel where it was not inverted."""
    from ..ops.spatial import resample

    plain = found.as_tensor() if hasattr(found, "as_tensor") else found
    array = np.ascontiguousarray(plain.to("cpu").numpy().transpose(0, 3, 2, 1))
    grid, affine = image.grid.without_frames(), from_xyz(affine_of(found), "RAS")
    same = array.shape[1:] == grid.spatial_shape
    if same and np.allclose(affine, grid.affine, atol=1e-3 * min(grid.spacing)):
        return array
    there = Grid(affine, array.shape[1:])
    each = [resample(Volume(one, there), like=image, order="nearest", fill=0).data for one in array]
    return np.stack([np.asarray(one) for one in each])


def _results(frames: Sequence[np.ndarray], card: Card, plan: Plan) -> tuple[Results, list[str]]:
    """Return MONAI's answers as results: labels, or images."""
    stacked = np.stack(frames, axis=1)
    stacked = stacked if plan.grid.frames is not None else stacked[:, 0]
    whole = all(np.array_equal(one, np.rint(one)) for one in stacked)
    if card.output.kind == "image" or not whole or stacked.min() < 0 or stacked.max() > 65535:
        if card.output.kind != "image":
            raise InputError(
                f"the bundle {card.folder} says that it gives a segmentation, but its postprocessing leaves values "
                f"from {stacked.min():.3g} to {stacked.max():.3g}: add AsDiscreted, or correct the format in "
                "metadata.json"
            )
        return Results(tuple(range(len(stacked))), None, dict(enumerate(stacked.astype(np.float32)))), []
    labels, notes = stacked[0], []
    if len(stacked) > 1:
        # Classes that exclude each other come one for each channel, background first; others may overlap.
        if np.array_equal(stacked.sum(0), np.ones(stacked.shape[1:])):
            labels = stacked.argmax(0)
        else:
            labels = np.zeros(stacked.shape[1:], np.uint16)
            for number, one in enumerate(stacked):
                labels[one > 0] = number + 1
            notes.append("where classes overlap, the one that comes later is kept")
    most = int(labels.max(initial=0))
    values = tuple(sorted({*card.output.values, *np.unique(labels).tolist()}))
    return Results(tuple(map(int, values)), labels.astype(np.uint8 if most <= 255 else np.uint16)), notes
