"""Networks that answer for a whole image: into which class it belongs, or a value. The image goes in as a whole."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from ..volume import Volume
from .answers import Answers, tidy
from .card import Card
from .plan import Options, Plan, make_plan
from .session import Session, session
from .tables import as_whole
from .taking import as_tensor


def plan_of(channels: list[Volume], card: Card, mirror: Any = None) -> Plan:
    """Return how images are prepared for an answer; nothing is brought back."""
    axes = tuple(range(card.input.dims))
    chosen = card.window.mirror if mirror is None else mirror
    if isinstance(chosen, bool):
        chosen = axes if chosen else ()
    chosen = tuple(chosen) if isinstance(chosen, list | tuple) else (chosen,)
    if any(axis not in axes for axis in chosen) or len(set(chosen)) != len(chosen):
        raise InputError(f"mirror {mirror!r} must be True, False, or axes of the image among {axes}")
    options = Options("image", "none", 0.0, "constant", chosen)
    plan = make_plan(channels, as_whole(card), options)
    return replace(plan, notes=tuple(note.replace(", and back", "") for note in plan.notes))


def predict(
    channels: list[Volume], model: Any, *, device: str = "auto", mirror: Any = None, recorded: Any = None
) -> Answers:
    """Ask a network of kind ``"class"`` or ``"value"`` about every frame.

    Parameters
    ----------
    channels : list of Volume
        The images, on one grid, already checked against the card.
    model : Model
        Its card says what the numbers are.
    device, mirror
        As for `predict.predict`; answers to mirrored images are averaged before they are activated.
    recorded : mapping, optional
        Further parameters for the step.
    """
    card = model.card
    plan = plan_of(channels, card, mirror)
    steps = -(-plan.padded[0] // plan.batch) if card.input.dims == 2 else 1
    rows: list[Mapping[str, Any]] = []
    with session(channels, model, card, plan, device, plan.frames * steps) as (run, taking):
        for frame in range(plan.frames):
            rows += _rows(_frame(run, run.image(frame)), run, frame)
        notes = [*plan.notes, *run.notes, *taking.notes]
    if card.input.dims == 2 and card.output.slices != "each" and plan.padded[0] > 1:
        how = {"mean": "mean", "max": "largest"}[card.output.slices]
        notes.append(f"the answer is the {how} over {plan.padded[0]} slices")
    step = table_step(run, model, {"mirror": list(plan.options.mirror) or False, **(recorded or {})})
    return Answers(card, {}, (), tuple(notes), rows=tuple(rows), step=step, image=channels[0].name)


def _frame(run: Session, image: torch.Tensor) -> np.ndarray:
    """Return the answers for a frame, (slices, numbers) after activation; a 3D network has one slice."""
    plan, output = run.plan, run.card.output
    found = []
    if run.card.input.dims == 3:
        found.append(_mirrored(run, image[None]))
        run.counter.add(1)
    else:
        for start in range(0, image.shape[1], plan.batch):
            found.append(_mirrored(run, image[:, start : start + plan.batch].transpose(0, 1).contiguous()))
            run.counter.add(1)
    numbers = torch.cat(found).to(torch.float64)
    activate = {"softmax": lambda t: torch.softmax(t, 1), "sigmoid": torch.sigmoid}.get(output.activation, lambda t: t)
    numbers = activate(numbers)
    if output.kind == "value":
        numbers = numbers * torch.tensor([q.scale for q in output.quantities], dtype=torch.float64)
        numbers = numbers + torch.tensor([q.offset for q in output.quantities], dtype=torch.float64)
    elif float(numbers.min()) < -1e-3 or float(numbers.max()) > 1 + 1e-3:
        raise InputError(
            f"model {run.card.name!r} gives values from {float(numbers.min()):.3g} to {float(numbers.max()):.3g}, "
            "which are no probabilities: set output.activation of its card to softmax or sigmoid"
        )
    if run.card.input.dims == 2 and output.slices != "each":
        numbers = numbers.mean(0, keepdim=True) if output.slices == "mean" else numbers.amax(0, keepdim=True)
    return numbers.numpy()


def _mirrored(run: Session, inputs: torch.Tensor) -> torch.Tensor:
    """Return the mean answer over all mirrored ways of asking, (n, numbers)."""
    axes = run.plan.options.mirror
    ways = [c for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)]
    total: Any = 0
    for way in ways:
        run.counter.add()
        parts = run.answers(inputs.flip([a + 2 for a in way]))
        total = total + torch.cat([_checked(answer, part, run) for part, answer in parts])
    return total / len(ways)


def _checked(answer: Any, inputs: torch.Tensor, run: Session) -> torch.Tensor:
    answer, card = as_tensor(answer), run.card
    count, shape = card.output.channels, tuple(inputs.shape)
    found = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
    fits = isinstance(answer, torch.Tensor) and answer.ndim > 0 and answer.numel() == shape[0] * count
    # (n, k), (n, k, 1, 1, 1), and for one number (n,)
    if not fits or answer.shape[0] != shape[0] or (count > 1 and answer.shape[1] != count):
        raise InputError(
            f"model {card.name!r} gave {found} for an image of shape {shape}, where ({shape[0]}, {count}) is needed: "
            f"check the {'classes' if card.output.kind == 'class' else 'values'} in its card"
        )
    answer = answer.reshape(shape[0], count).to("cpu", torch.float32)
    if not torch.isfinite(answer).all():
        raise InputError(
            f"model {card.name!r} gave NaN or infinite values for an image of shape {shape}: its weights may be "
            "damaged, or the intensity rule of its card does not fit this image"
        )
    return answer


def _rows(numbers: np.ndarray, run: Session, frame: int) -> list[dict[str, Any]]:
    output, plan = run.card.output, run.plan
    each = run.card.input.dims == 2 and output.slices == "each"
    rows = []
    # Slices are told in the stored order, however they were turned for the network.
    for place in range(len(numbers)):
        number = len(numbers) - 1 - place if each and plan.flips[0] else place
        where = {"frame": frame, "slice": place} if each else {"frame": frame}
        for index, value in enumerate(numbers[number]):
            if output.kind == "class":
                rows.append({**where, "name": output.classes[index], "probability": tidy(value)})
            else:
                quantity = output.quantities[index]
                rows.append({**where, "name": quantity.name, "value": tidy(value), "unit": quantity.unit})
    return rows


def table_step(run: Session, model: Any, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a table was made, as the step of a history says it of a volume."""
    from .. import __version__

    return {
        "operation": "predict",
        "parameters": dict(parameters),
        "model": {"name": run.card.name, "version": run.card.version, "sha256": getattr(model, "sha256", "")},
        "device": run.device,
        "inputs": [volume.name for volume in run.channels],
        "before": [dict(step) for step in run.channels[0].history],
        "grid": run.channels[0].grid.as_dict(),
        "version": __version__,
    }
