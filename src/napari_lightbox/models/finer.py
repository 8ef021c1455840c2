"""Networks that make an image of more voxels: the result lies on a finer grid over the same box."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from ..apply import input_names, record_input
from ..errors import InputError
from ..geometry import Grid
from ..volume import Volume
from . import stores, windows
from .card import Card
from .heads import image_meta
from .loaders import SHIPPED
from .plan import Options, Plan, make_plan
from .prediction import Prediction
from .session import Session, session
from .taking import as_tensor


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
    on_disk: bool = False,
) -> Prediction:
    """Run a network whose image has `factor` times as many voxels along each axis as what it sees.

    Windows are blended by the weights of the voxels they were made of. What the network sees is turned and resampled
    as its card says; the result keeps the spacing that this gives, divided by the factor. What lies behind the windows
    is written while they move on.

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
    on_disk : bool
        Whether the result is in a temporary file, as it does not fit into memory.
    """
    card, by = model.card, factors(model.card)
    plan = plan_of(channels, card, window, overlap, blending)
    grid = fine_grid(channels[0].grid, plan, by)
    results: list[Any] = []
    with session(channels, model, card, plan, device, plan.frames * plan.windows_per_frame) as (run, taking):
        for frame in range(plan.frames):
            for first, made in _slabs(run, run.image(frame), by):
                along = plan.order[0] - 3
                results = results or [stores.make(grid.shape, np.float32, on_disk=on_disk, along=along) for _ in made]
                for result, part in zip(results, made, strict=True):
                    view = plan.turned(result if grid.frames is None else stores.view(result, frame))
                    view[first : first + len(part)] = part
                    stores.release(result)
                    run.counter.add()
        for result in results:
            stores.settle(result)
    mm = " x ".join(f"{s:.3g}" for s in reversed(grid.spacing))
    disk = ["the result is kept on disk, in a temporary file that is gone with it"] if on_disk else []
    notes = [*(note.replace(", and back", "") for note in plan.notes), f"the result has voxels of {mm} mm (x, y, z)"]
    volumes = {}
    for channel, data in enumerate(results):
        step = _step(run, model, window, channel, recorded or {})
        name = f"{channels[0].name} · {card.name}" + (f" {channel}" if len(results) > 1 else "")
        meta = image_meta(card.output, channels[0].meta)
        volumes[channel] = Volume(data, grid, "image", name, meta=meta, history=(*channels[0].history, step))
    return Prediction(card, volumes, tuple(range(len(results))), (*notes, *disk, *run.notes, *taking.notes))


def _slabs(run: Session, image: torch.Tensor, by: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Give a frame on the fine grid slab by slab, in the network's order of axes, as windows move along the first axis.

    Yields
    ------
    int
        The first slice of the slab.
    (channels, slices, rows, columns) float32 array
        Complete; it is written over afterwards.
    """
    plan, options = run.plan, run.plan.options
    laid_out = windows.layout(plan.padded, plan.window, plan.overlaps, options.blending)
    batches = [laid_out[start : start + plan.batch] for start in range(0, len(laid_out), plan.batch)]
    height = max(batch[-1].start[0] - batch[0].start[0] for batch in batches) + plan.window[0]
    total, base = None, 0
    for number, batch in enumerate(batches):
        inputs = torch.stack([image[(slice(None), *w.slices)] for w in batch])
        answers = _answers(inputs.squeeze(2) if plan.dims == 2 else inputs, run, by)
        if total is None:
            size = (height, *plan.padded[1:])
            total = torch.zeros((answers.shape[1], *(n * f for n, f in zip(size, by, strict=True))))
        for window, answer in zip(batch, answers, strict=True):
            start = (window.start[0] - base, *window.start[1:])
            where = [slice(s * f, (s + n) * f) for s, n, f in zip(start, window.size, by, strict=True)]
            for axis, vector in enumerate(window.weights):
                place = [1, 1, 1, 1]
                place[axis + 1] = -1
                answer = answer * torch.from_numpy(np.repeat(vector, by[axis])).reshape(place)
            total[(slice(None), *where)] += answer
        run.counter.add(len(batch))
        # Nothing more comes to what lies before the next window.
        ready = batches[number + 1][0].start[0] if number + 1 < len(batches) else plan.padded[0]
        if ready > base:
            yield from _inside(total[:, : (ready - base) * by[0]], base, plan, by)
            kept = total[:, (ready - base) * by[0] :].clone()
            total[:, : kept.shape[1]] = kept
            total[:, kept.shape[1] :] = 0
            base = ready


def _inside(slab: torch.Tensor, base: int, plan: Plan, by: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Give a slab of the padded frame without its padding, where anything is left."""
    rows, columns = (
        slice(before * f, (before + n) * f)
        for (before, _), n, f in zip(plan.pad[1:], plan.working[1:], by[1:], strict=True)
    )
    before, last = plan.pad[0][0], plan.pad[0][0] + plan.working[0]
    low, high = max(base, before), min(base + slab.shape[1] // by[0], last)
    if high > low:
        part = slab[:, (low - base) * by[0] : (high - base) * by[0], rows, columns]
        yield (low - before) * by[0], part.numpy()


def _answers(inputs: torch.Tensor, run: Session, by: Sequence[int]) -> torch.Tensor:
    """Return the network's answers to a batch, (n, channels, z, y, x)."""
    found = [_answer(answer, tuple(part.shape), run, by) for part, answer in run.answers(inputs)]
    return torch.cat(found) if len(found) > 1 else found[0]


def _answer(answer: Any, shape: tuple[int, ...], run: Session, by: Sequence[int]) -> torch.Tensor:
    """Check an answer and return it as (n, channels, z, y, x)."""
    answer = as_tensor(answer)
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
