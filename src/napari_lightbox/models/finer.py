"""Networks that make an image of more voxels: the result lies on a finer grid over the same box."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..apply import input_names, record_input
from ..errors import InputError
from ..geometry import Grid
from ..volume import Volume
from . import windows
from .card import Card
from .heads import image_meta
from .loaders import SHIPPED
from .plan import Options, Plan, make_plan
from .prediction import Prediction
from .taking import as_tensor
from .whole import Session, asked, session


def factors(card: Card) -> tuple[int, int, int]:
    """Return how many voxels the network makes of one, along (z, y, x); a 2D network leaves the slices."""
    return (1, *card.output.factor) if card.input.dims == 2 else tuple(card.output.factor)


def plan_of(channels: list[Volume], card: Card, window: Any, overlap: float | None, blending: str | None) -> Plan:
    """Return how images are prepared and cut; the result is not resampled to the image."""
    share = card.window.overlap if overlap is None else overlap
    windows.check_overlap(share)
    weights = card.window.blending if blending is None else blending
    windows.profile(1, weights)
    return make_plan(channels, card, Options("image", "none", share, weights), window)


def fine_grid(grid: Grid, plan: Plan, by: Sequence[int]) -> Grid:
    """Return the grid of the result, in the stored order of axes, over the box of what the network saw.

    Every voxel of the working grid is cut into ``by`` voxels along each axis (of the network); so the centre of the
    first lies ``(1 - 1 / by) / 2`` of its length nearer to the border.
    """
    turned = grid.reordered(plan.order, plan.flips)
    step = np.divide(plan.steps, by)
    shape = tuple(n * f for n, f in zip(plan.working, by, strict=True))
    # Both cover the same stretch about the same middle.
    first = (np.array(plan.shape) - 1) / 2 - (np.array(shape) - 1) / 2 * step
    affine = np.eye(4)
    affine[:3, :3] = turned.affine[:3, :3] * step
    affine[:3, 3] = turned.to_world(first)
    back = [plan.order.index(axis) for axis in range(3)]
    fine = Grid(affine, (*turned.shape[:-3], *shape), turned.frames)
    return fine.reordered(back, [plan.flips[axis] for axis in back])


def predict(
    channels: list[Volume],
    model: Any,
    *,
    device: str = "auto",
    window: Any = None,
    overlap: float | None = None,
    blending: str | None = None,
    recorded: Any = None,
) -> Prediction:
    """Run a network whose image has `factor` times as many voxels along each axis as what it sees.

    Windows are blended by the weights of the voxels they were made of. What the network sees is turned and resampled
    as its card says; the result keeps the spacing that this gives, divided by the factor.

    Parameters
    ----------
    channels : list of Volume
        The images, on one grid, already checked against the card.
    model : Model
        Its card has ``output.factor``.
    device, window, overlap, blending
        As for `predict.predict`.
    recorded : mapping, optional
        Further parameters for the history.
    """
    card, by = model.card, factors(model.card)
    plan = plan_of(channels, card, window, overlap, blending)
    grid = fine_grid(channels[0].grid, plan, by)
    results: list[np.ndarray] = []
    with session(channels, model, card, plan, device, plan.frames * plan.windows_per_frame) as (run, taking):
        for frame in range(plan.frames):
            made = _frame(run, run.image(frame), by)
            results = results or [np.zeros(grid.shape, np.float32) for _ in made]
            for result, part in zip(results, made, strict=True):
                view = result if grid.frames is None else result[frame]
                plan.turned(view)[...] = part
    mm = " x ".join(f"{s:.3g}" for s in reversed(grid.spacing))
    notes = [*(note.replace(", and back", "") for note in plan.notes), f"the result has voxels of {mm} mm (x, y, z)"]
    volumes = {}
    for channel, data in enumerate(results):
        step = _step(run, model, window, channel, recorded or {})
        name = f"{channels[0].name} · {card.name}" + (f" {channel}" if len(results) > 1 else "")
        meta = image_meta(card.output, channels[0].meta)
        volumes[channel] = Volume(data, grid, "image", name, meta=meta, history=(*channels[0].history, step))
    return Prediction(card, volumes, tuple(range(len(results))), (*notes, *taking.notes))


def _frame(run: Session, image: torch.Tensor, by: Sequence[int]) -> np.ndarray:
    """Return the channels of a frame on the fine grid, (channels, z, y, x), in the network's order of axes."""
    plan, options = run.plan, run.plan.options
    laid_out = windows.layout(plan.padded, plan.window, plan.overlaps, options.blending)
    total = None
    for start in range(0, len(laid_out), plan.batch):
        batch = laid_out[start : start + plan.batch]
        inputs = torch.stack([image[(slice(None), *w.slices)] for w in batch])
        answers = _answer(inputs.squeeze(2) if plan.dims == 2 else inputs, run, by)
        if total is None:
            total = torch.zeros((answers.shape[1], *(n * f for n, f in zip(plan.padded, by, strict=True))))
        for window, answer in zip(batch, answers, strict=True):
            where = [slice(s * f, (s + n) * f) for s, n, f in zip(window.start, window.size, by, strict=True)]
            for axis, vector in enumerate(window.weights):
                place = [1, 1, 1, 1]
                place[axis + 1] = -1
                answer = answer * torch.from_numpy(np.repeat(vector, by[axis])).reshape(place)
            total[(slice(None), *where)] += answer
        run.counter.add(len(batch))
    ends = zip(plan.pad, plan.working, by, strict=True)
    inside = tuple(slice(before * f, (before + n) * f) for (before, _), n, f in ends)
    return total[(slice(None), *inside)].numpy()


def _answer(inputs: torch.Tensor, run: Session, by: Sequence[int]) -> torch.Tensor:
    """Return the network's answer to a batch, (n, channels, z, y, x)."""
    answer, shape = as_tensor(asked(run, inputs)), tuple(inputs.shape)
    wanted = tuple(n * f for n, f in zip(shape[2:], by[3 - run.card.input.dims :], strict=True))
    fits = isinstance(answer, torch.Tensor) and answer.ndim == len(shape) and answer.shape[0] == shape[0]
    if not fits or tuple(answer.shape[2:]) != wanted or answer.shape[1] == 0:
        found = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise InputError(
            f"model {run.card.name!r} gave {found} for a window of shape {shape}, where ({shape[0]}, channels, "
            f"{', '.join(map(str, wanted))}) is needed: check output.factor in its card"
        )
    if not torch.isfinite(answer).all():
        raise InputError(
            f"model {run.card.name!r} gave NaN or infinite values for a window of shape {shape}: its weights may be "
            "damaged, or the intensity rule of its card does not fit this image"
        )
    answer = answer.to("cpu", torch.float32)
    return answer.unsqueeze(2) if run.card.input.dims == 2 else answer


def _step(run: Session, model: Any, window: Any, channel: int, recorded: Any) -> dict[str, Any]:
    """Return the step of the history, which `predict.replay` repeats."""
    from .. import __version__

    folder, options, size = run.card.folder, run.plan.options, run.plan.window[3 - run.plan.dims :]
    whole = window is None and run.card.window.size is None
    parameters = {
        "model": folder and (folder.name if folder.parent == SHIPPED else str(folder.resolve())),
        "window": None if whole else list(size),
        "overlap": options.overlap,
        "blending": options.blending,
        "mirror": False,
        "device": run.device,
        "result": channel,
        **recorded,
    }
    taken = input_names(run.channels[0].history)
    for number, other in enumerate(run.channels[1:], start=2):
        parameters[f"channel_{number}"] = record_input(other, taken)
    return {
        "operation": "predict",
        "parameters": parameters,
        "plane": None,
        "model": {"name": run.card.name, "version": run.card.version, "sha256": getattr(model, "sha256", "")},
        "device": run.device,
        "inputs": [volume.name for volume in run.channels],
        "grid": run.channels[0].grid.as_dict(),
        "version": __version__,
    }
