"""Networks that find objects: boxes from every window, joined, and brought back to the image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from ..volume import Volume
from . import windows
from .answers import Boxes, box_rows
from .card import Card
from .plan import Options, Plan, make_plan
from .session import Session, session
from .taking import as_tensor
from .whole import table_step


@dataclass
class _Found:
    """Boxes of a frame as indices of the padded frame, (n, 6) low and high sides; `cut` are those a window cuts."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    cut: np.ndarray

    def __getitem__(self, chosen: Any) -> "_Found":
        return _Found(self.boxes[chosen], self.scores[chosen], self.labels[chosen], self.cut[chosen])

    @classmethod
    def joined(cls, parts: Sequence["_Found"]) -> "_Found":
        """Return all boxes of several windows."""
        names = ("boxes", "scores", "labels", "cut")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def plan_of(channels: list[Volume], card: Card, window: Any = None, overlap: float | None = None) -> Plan:
    """Return how images are prepared and cut; boxes are brought back, voxels are not."""
    share = card.window.overlap if overlap is None else overlap
    windows.check_overlap(share)
    plan = make_plan(channels, card, Options("image", "none", share, "constant"), window)
    return replace(plan, notes=tuple(note.replace(", and back", "") for note in plan.notes))


def predict(
    channels: list[Volume],
    model: Any,
    *,
    device: str = "auto",
    window: Any = None,
    overlap: float | None = None,
    recorded: Any = None,
) -> Boxes:
    """Ask a network of kind ``"boxes"`` window by window about every frame.

    Boxes that score too little are left out. Those that end at a border of their window, inside the image, are parts
    of objects that a neighbouring window may see whole: they come after all others. Then the best box stays and those
    of its class that overlap it by more than the card allows go, and so on. A box of a network that sees slices
    competes with those of its slice.

    Parameters
    ----------
    channels : list of Volume
        The images, on one grid, already checked against the card.
    model : Model
        Its card says how boxes are written.
    device, window, overlap
        As for `predict.predict`.
    recorded : mapping, optional
        Further parameters for the step.
    """
    card = model.card
    plan = plan_of(channels, card, window, overlap)
    grid, rows = channels[0].grid, []
    names = {value: label.name for value, label in card.output.labels.items()}
    with session(channels, model, card, plan, device, plan.frames * plan.windows_per_frame) as (run, _):
        for frame in range(plan.frames):
            found = _frame(run, run.image(frame))
            rows += box_rows(on_image(found.boxes, plan), found.scores, found.labels, frame, grid, names)
    size = plan.window if plan.dims == 3 else plan.window[1:]
    step = table_step(run, model, {"window": list(size), "overlap": plan.options.overlap, **(recorded or {})})
    notes = (*plan.notes, *run.notes)
    return Boxes(card, {}, (), notes, rows=tuple(rows), step=step, image=channels[0].name, grid=grid)


def _frame(run: Session, image: torch.Tensor) -> _Found:
    """Return the boxes of a frame that stay, best first."""
    plan, spec = run.plan, run.card.output.boxes
    laid_out = windows.layout(plan.padded, plan.window, plan.overlaps, "constant")
    parts = [_Found(np.zeros((0, 6)), np.zeros(0), np.zeros(0, int), np.zeros(0, bool))]
    for start in range(0, len(laid_out), plan.batch):
        batch = laid_out[start : start + plan.batch]
        inputs = torch.stack([image[(slice(None), *w.slices)] for w in batch])
        asked = run.answers(inputs.squeeze(2) if plan.dims == 2 else inputs)
        answers = [one for part, answer in asked for one in _answers(answer, len(part), run)]
        parts += [_placed(answer, window, run) for answer, window in zip(answers, batch, strict=True)]
        run.counter.add(len(batch))
    found = _clipped(_Found.joined(parts), plan)
    return found[suppressed(found, spec.overlap, plan.dims)[: spec.most]]


# What the network says ------------------------------------------------------------------------------------------


def _answers(answer: Any, count: int, run: Session) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return boxes, scores and labels of every window of a batch."""
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], list):
        answer = answer[1]  # what torchvision's detectors give as TorchScript: losses, detections
    answer = _split(answer, count)
    if not isinstance(answer, list | tuple) or len(answer) != count:
        raise _wrong(run, f"gave {type(answer).__name__} for {count} windows, where a list of {count} is needed")
    return [_one(item, run) for item in answer]


def _split(answer: Any, count: int) -> Any:
    """Return an answer window by window, where it is one for a batch or for a single window."""
    parts = list(answer.values() if isinstance(answer, Mapping) else answer) if _is_triple(answer) else []
    if parts and all(len(part) == count for part in parts) and max(part.ndim for part in parts) == 3:
        keys = list(answer) if isinstance(answer, Mapping) else None
        rows = list(zip(*parts, strict=True))
        return rows if keys is None else [dict(zip(keys, row, strict=True)) for row in rows]
    return [answer] if count == 1 and (parts or isinstance(answer, Mapping)) else answer


def _is_triple(item: Any) -> bool:
    """Whether something is boxes, scores and labels in any order, or by any names."""
    if not isinstance(item, Mapping | list | tuple) or len(item) != 3:
        return False
    return all(
        isinstance(as_tensor(one), torch.Tensor) for one in (item.values() if isinstance(item, Mapping) else item)
    )


def _named(item: Any) -> Any:
    """Return what has no names of ours with them: boxes have an axis more, labels are whole numbers."""
    names = ("boxes", "scores", "labels")
    if not _is_triple(item) or (isinstance(item, Mapping) and set(names) <= set(item)):
        return item
    tensors = [as_tensor(one) for one in (item.values() if isinstance(item, Mapping) else item)]
    whole = [one for one in tensors if not one.dtype.is_floating_point]
    real = sorted((one for one in tensors if one.dtype.is_floating_point), key=lambda one: one.ndim)
    if len(whole) != 1 or real[0].ndim + 1 != real[1].ndim or whole[0].ndim != real[0].ndim:
        return item
    found = (real[1], real[0], whole[0])
    # A batch of one window.
    return dict(zip(names, (one[0] if real[0].ndim == 2 and len(one) == 1 else one for one in found), strict=True))


def _one(item: Any, run: Session) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    item, sides = _named(item), 2 * run.card.input.dims
    if not isinstance(item, Mapping) or not {"boxes", "scores", "labels"} <= set(item):
        keys = f"with {', '.join(map(str, item))}" if isinstance(item, Mapping) else ""
        raise _wrong(run, f"gave {type(item).__name__} {keys}, where boxes, scores and labels by name are needed")
    tensors = [as_tensor(item[name]) for name in ("boxes", "scores", "labels")]
    if not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        raise _wrong(run, "gave boxes, scores or labels that are no tensors")
    boxes, scores, labels = (tensor.detach().to("cpu").numpy() for tensor in tensors)
    count = len(boxes)
    if boxes.shape != (count, sides) or scores.shape != (count,) or labels.shape != (count,):
        raise _wrong(
            run,
            f"gave boxes {boxes.shape}, scores {scores.shape} and labels {labels.shape}, where (n, {sides}), (n,) and "
            "(n,) are needed",
        )
    if not np.isfinite(boxes).all() or not np.isfinite(scores).all():
        raise _wrong(run, "gave NaN or infinite boxes")
    unknown = sorted(set(labels.astype(int).tolist()) - set(run.card.output.labels) - {0})
    if unknown:
        raise _wrong(run, f"found class {unknown[0]}, which its card does not name")
    return boxes.astype(float), scores.astype(float), labels.astype(int)


def _wrong(run: Session, what: str) -> InputError:
    return InputError(f"model {run.card.name!r} {what}: check output.kind and its fields in the card")


def _placed(answer: tuple, window: windows.Window, run: Session) -> _Found:
    """Return the boxes of one window in the padded frame; background and what scores too little is left out."""
    boxes, scores, labels = answer
    spec, dims = run.card.output.boxes, run.card.input.dims
    kept = (scores >= spec.score) & (labels != 0)
    boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    column = {name: boxes[:, number] for number, name in enumerate(spec.order)}
    shift = 0.5 if spec.origin == "edge" else 0.0
    axes = "zyx"[3 - dims :]
    low = np.stack([column[f"{a}1"] for a in axes], 1) - shift
    high = np.stack([column[f"{a}2"] for a in axes], 1) - shift
    if dims == 2:
        low = np.insert(low, 0, -0.5, axis=1)
        high = np.insert(high, 0, 0.5, axis=1)
    low, high = np.minimum(low, high), np.maximum(low, high)
    size, start, total = np.array(window.size), np.array(window.start), np.array(run.plan.padded)
    # A network may draw beyond its window; what lies there it has not seen.
    cut = np.zeros(len(low), bool)
    for axis in range(3 - dims, 3):
        cut |= (low[:, axis] <= 0) & (start[axis] > 0)
        cut |= (high[:, axis] >= size[axis] - 1) & (start[axis] + size[axis] < total[axis])
    boxes = np.concatenate([low + start, high + start], 1)
    return _Found(boxes, scores, labels, cut)


# Joining and bringing back --------------------------------------------------------------------------------------


def _clipped(found: _Found, plan: Plan) -> _Found:
    """Cut boxes off at the border of the image, without its padding; those outside of it go."""
    first = np.array([before for before, _ in plan.pad], float) - 0.5
    last = first + np.array(plan.working)
    low, high = np.clip(found.boxes[:, :3], first, last), np.clip(found.boxes[:, 3:], first, last)
    return replace(found, boxes=np.concatenate([low, high], 1))[((high - low) > 1e-6).all(1)]


def suppressed(found: Any, overlap: float, dims: int = 3) -> np.ndarray:
    """Return which boxes stay, best first: greedy suppression of those that overlap a better one of their class.

    Parameters
    ----------
    found : object
        With ``boxes`` (n, 6), low and high sides in the order z, y, x; ``scores``, ``labels``; and ``cut``, the boxes
        that their window cuts off, which come after all others and go where more than `overlap` of their own volume
        lies in a box that stays.
    overlap : float
        Intersection over union beyond which the box that comes later goes. Of equal scores the first comes first.
    dims : {2, 3}
        With 2, boxes are as thick as slices and do not touch those of other slices.

    Returns
    -------
    (m,) int array
        Numbers of the boxes.
    """
    boxes, order = found.boxes, np.lexsort((-found.scores, found.cut))
    size = np.prod(boxes[:, 3:] - boxes[:, :3], axis=1)
    kept: list[int] = []
    left = order
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        low = np.maximum(boxes[left, :3], boxes[best, :3])
        high = np.minimum(boxes[left, 3:], boxes[best, 3:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        whole = size[left] + size[best] - shared
        share = np.where(found.cut[left], shared / size[left], shared / whole)
        left = left[(share <= overlap) | (found.labels[left] != found.labels[best])]
    return np.array(sorted(kept, key=lambda n: -found.scores[n]), int)


def on_image(boxes: np.ndarray, plan: Plan) -> np.ndarray:
    """Bring boxes from indices of the padded frame to indices of the image as stored, (n, 6) low before high."""
    found = np.empty_like(boxes)
    for axis in range(3):
        length, count = plan.shape[axis], plan.working[axis]
        stored = plan.order[axis]
        sides = []
        for side in (boxes[:, axis], boxes[:, 3 + axis]):
            # The working grid covers the same stretch about the same middle.
            index = (side - plan.pad[axis][0] - (count - 1) / 2) * plan.steps[axis] + (length - 1) / 2
            index = np.clip(index, -0.5, length - 0.5)
            sides.append(length - 1 - index if plan.flips[axis] else index)
        found[:, stored], found[:, 3 + stored] = np.minimum(*sides), np.maximum(*sides)
    return found
