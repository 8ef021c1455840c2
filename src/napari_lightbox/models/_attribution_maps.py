"""Maps of attribution of one frame: gradient x input, integrated gradients, Grad-CAM and occlusion."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from ..errors import InputError
from ._attribution import Batch, Frame, Question, require_gradient
from ._layers import Alignment, hooked

# Standard deviation of the blurred baseline, as a share of the frame: light and dark halves stay, and no more.
_BLUR = 1 / 5


@dataclass
class Found:
    """Maps of a frame on the working grid, (channels, z, y, x), and figures that say how far they are to be trusted."""

    maps: torch.Tensor
    target: float = 0.0
    baseline: float | None = None
    steps: int | None = None


def baselines(frame: Frame, baseline: float | str) -> torch.Tensor:
    """Return what stands for nothing, at every voxel of the padded frame."""
    found = _nothing(frame, baseline)
    if frame.card.rules is None:
        return found
    # Around the image the network has zeros of its own, which are no part of it and stay as they are.
    kept = frame.image.clone()
    kept[(slice(None), *frame.inside)] = found[(slice(None), *frame.inside)]
    return kept


def _nothing(frame: Frame, baseline: float | str) -> torch.Tensor:
    if baseline == "blurred":
        found = frame.image
        # Along the axes that the network sees at once. So wide a filter is done fastest as a matrix.
        for axis in range(3 - frame.plan.dims, 3):
            one = np.eye(found.shape[axis + 1])
            one = ndimage.gaussian_filter1d(one, _BLUR * frame.plan.working[axis], axis=0, mode="nearest")
            found = torch.tensordot(found, torch.from_numpy(one.astype(np.float32)), ([axis + 1], [1]))
            found = found.movedim(-1, axis + 1)
        return found
    flat = frame.image[(slice(None), *frame.inside)].flatten(1)
    if baseline == "mean":
        values = flat.double().mean(1).float()
    elif baseline == "minimum":
        values = flat.amin(1)
    else:
        values = torch.full((len(flat),), float(baseline))
    return values[:, None, None, None].expand_as(frame.image)


def gradient_input(frame: Frame, question: Question) -> Found:
    """Return the gradient of the target times the input."""
    maps, target = torch.zeros_like(frame.image), 0.0
    for some in frame.batches():
        where = [frame.slab(w) for w in some.windows]
        slabs = [frame.image[place] for place in where]
        share, grads = question.gradients(slabs, some)
        target += share
        for place, slab, grad in zip(where, slabs, grads, strict=True):
            maps[place] += slab * grad
    return Found(frame.folded(maps), target)


def integrated(frame: Frame, question: Question, baseline: float | str, steps: int) -> Found:
    """Return gradients integrated on the straight way from the baseline, times the way (Gauss-Legendre)."""
    maps, target, at_rest = torch.zeros_like(frame.image), 0.0, 0.0
    rest = baselines(frame, baseline)
    places, shares = np.polynomial.legendre.leggauss(steps)
    for some in frame.batches():
        where = [frame.slab(w) for w in some.windows]
        slabs = [frame.image[place] for place in where]
        rests = [rest[place] for place in where]
        sums: list[Any] = [0] * len(slabs)
        for place, share in zip((places + 1) / 2, shares / 2, strict=True):
            between = [r + float(place) * (s - r) for s, r in zip(slabs, rests, strict=True)]
            _, grads = question.gradients(between, some)
            sums = [total + float(share) * grad for total, grad in zip(sums, grads, strict=True)]
        target += question.value(slabs, some)
        at_rest += question.value(rests, some)
        for place, slab, low, total in zip(where, slabs, rests, sums, strict=True):
            maps[place] += (slab - low) * total
    return Found(frame.folded(maps), target, at_rest, steps)


# Occlusion ------------------------------------------------------------------------------------------------------


def patches(length: int, size: int, stride: int) -> list[tuple[int, int]]:
    """Return start and stop of the patches along an axis; the last one ends with the axis.

    Examples
    --------
    >>> patches(7, 3, 2)
    [(0, 3), (2, 5), (4, 7)]
    >>> patches(7, 3, 3)
    [(0, 3), (3, 6), (6, 7)]
    """
    starts = [*range(0, length, stride)]
    while len(starts) > 1 and starts[-2] + size >= length:
        starts.pop()
    return [(start, min(length, start + size)) for start in starts]


def occluded(
    frame: Frame, question: Question, baseline: float | str, size: Sequence[int], stride: Sequence[int]
) -> Found:
    """Return by how much the target falls when a patch is covered, averaged over the patches that cover a voxel."""
    rest, batches = baselines(frame, baseline), frame.batches()
    plain = [[frame.image[frame.slab(w)] for w in some.windows] for some in batches]
    alone = [_apart(some) for some in batches]
    windows = [
        (one, slab) for some, slabs in zip(alone, plain, strict=True) for one, slab in zip(some, slabs, strict=True)
    ]
    axes = [patches(n, s, t) for n, s, t in zip(frame.plan.working, size, stride, strict=True)]
    boxes = [_with_padding(frame, box) for box in itertools.product(*axes)]
    touched = [[i for i, (one, _) in enumerate(windows) if _meets(frame, one, box)] for _, box in boxes]
    channels = len(frame.image)
    question.counter.total += channels * sum(map(len, touched))
    values = [question.value([slab], one) for one, slab in windows]
    sums = torch.zeros((channels, *frame.plan.working), dtype=torch.float64)
    counts = torch.zeros(frame.plan.working, dtype=torch.float64)
    for (inside, box), which in zip(boxes, touched, strict=True):
        counts[inside] += 1
        for channel in range(channels):
            falls = (values[i] - question.value([_covered(frame, *windows[i], box, channel, rest)], windows[i][0])
                     for i in which)  # fmt: skip
            sums[(channel, *inside)] += sum(falls, 0.0)
    return Found((sums / counts).float(), sum(values))


def _apart(some: Batch) -> list[Batch]:
    return [Batch((w,), some.weights[i : i + 1], some.depth) for i, w in enumerate(some.windows)]


def _with_padding(frame: Frame, box: Sequence[tuple[int, int]]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return a box of the working grid, and the same on the padded one: the padding repeats what is covered."""
    wide = []
    for (start, stop), (before, after), length in zip(box, frame.plan.pad, frame.plan.working, strict=True):
        low, high = before + start, before + stop
        if frame.card.rules is None:
            low, high = (low if start else 0), (high if stop < length else length + before + after)
        wide.append(slice(low, high))
    return tuple(slice(*one) for one in box), tuple(wide)


def _meets(frame: Frame, one: Batch, box: tuple[slice, ...]) -> bool:
    held = frame.slab(one.windows[0])[1:]
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(held, box, strict=True))


def _covered(frame: Frame, one: Batch, slab: torch.Tensor, box, channel: int, rest: torch.Tensor) -> torch.Tensor:
    place = frame.slab(one.windows[0])
    held = place[1:]
    where = tuple(slice(max(0, b.start - a.start), b.stop - a.start) for a, b in zip(held, box, strict=True))
    found = slab.clone()
    found[(channel, *where)] = rest[place][(channel, *where)]
    return found


# Grad-CAM -------------------------------------------------------------------------------------------------------


def grad_cam(frame: Frame, question: Question, layer: torch.nn.Module, alignment: Alignment) -> Found:
    """Return Seg-Grad-CAM: a layer's channels, weighed by the mean gradient of the target, as far as they support it.

    The mean is over all windows, so that the channels count alike in every window and neighbours meet without a seam.
    """
    sums, positions, target = 0.0, 0, 0.0
    size = frame.plan.window[-frame.plan.dims :]
    for some in frame.batches():
        share, total, count = _weights(frame, question, layer, some)
        sums, positions, target = sums + total, positions + count, target + share
    blended = torch.zeros(frame.plan.padded)
    every = frame.batches(all_of_them=True)
    for some in every:
        slabs = [frame.image[frame.slab(w)] for w in some.windows]
        found = question.guarded(lambda s=slabs, b=some: _cam(question, layer, s, b, sums / positions, alignment, size))
        question.counter.add(1)
        for window, one in zip(some.windows, found, strict=True):
            z, y, x = (torch.from_numpy(np.asarray(w, np.float32)) for w in window.weights)
            blended[window.slices] += one * z[:, None, None] * y[:, None] * x
    return Found(blended[frame.inside][None], target)


def _weights(frame: Frame, question: Question, layer, some: Batch) -> tuple[float, torch.Tensor, int]:
    """Return the target's share, the sum of its gradient by each channel of a layer, and over how many places."""
    slabs = [frame.image[frame.slab(w)] for w in some.windows]

    def work() -> tuple[float, torch.Tensor, int]:
        with torch.inference_mode(False), torch.enable_grad():
            # Something must ask for gradients, as the weights do not.
            leaves = [slab.detach().clone().to(question.device).requires_grad_() for slab in slabs]
            with hooked(layer) as kept:
                found = question.answers(question.inputs(leaves, some))
            require_gradient(found, question.card)
            require_kept(kept, question)
            target = (found.double() * some.weights.to(found.device)).sum()
            grads = torch.autograd.grad(target, kept, allow_unused=True)
        grads = [g if g is not None else torch.zeros_like(k) for g, k in zip(grads, kept, strict=True)]
        each = [g.double().sum([a for a in range(g.ndim) if a != 1]).to("cpu") for g in grads]
        return float(target), sum(each), sum(g.numel() // g.shape[1] for g in grads)

    found = question.guarded(work, "use method='occlusion', which needs no gradients")
    question.counter.add(1)
    return found


def _cam(question: Question, layer, slabs, some: Batch, weights: torch.Tensor, alignment: Alignment, size) -> Any:
    with hooked(layer) as kept:
        question.answers(question.inputs([slab.to(question.device) for slab in slabs], some))
    require_kept(kept, question)
    total: Any = 0
    for axes, one in zip(question.ways, kept, strict=True):
        place = [1, -1] + [1] * (one.ndim - 2)
        cam = (one.to("cpu", torch.float32) * weights.float().reshape(place)).sum(1).relu()
        total = total + alignment.widened(cam, size).flip([a - 1 for a in axes])
    total = total / len(kept)
    return total.unsqueeze(1) if question.plan.dims == 2 else total


def require_kept(kept: list[torch.Tensor], question: Question) -> None:
    """Refuse a layer whose output was not seen once in every pass."""
    if len(kept) != len(question.ways):
        raise InputError(
            f"layer gave {len(kept)} answers in a pass of model {question.card.name!r}, where one is needed: choose "
            "a layer that `layers` lists, of a network that is not TorchScript"
        )


def features(frame: Frame, question: Question, layer, alignment: Alignment, channels: Sequence[int]) -> torch.Tensor:
    """Return chosen channels of a layer on the working grid, blended as predictions are: (channels, z, y, x)."""
    size = frame.plan.window[-frame.plan.dims :]
    blended = torch.zeros((len(channels), *frame.plan.padded))
    for some in frame.batches(all_of_them=True):
        kept = activations(frame, question, layer, some)[:, list(channels)]
        wide = alignment.widened(kept.flatten(0, 1), size).unflatten(0, kept.shape[:2])
        wide = wide.unsqueeze(2) if frame.plan.dims == 2 else wide
        for window, one in zip(some.windows, wide, strict=True):
            z, y, x = (torch.from_numpy(np.asarray(w, np.float32)) for w in window.weights)
            blended[(slice(None), *window.slices)] += one * z[:, None, None] * y[:, None] * x
    return blended[(slice(None), *frame.inside)]


def activations(frame: Frame, question: Question, layer, some: Batch) -> torch.Tensor:
    """Return what a layer gives for some windows, (n, channels, *size), on the CPU."""
    slabs = [frame.image[frame.slab(w)] for w in some.windows]

    def work() -> torch.Tensor:
        with hooked(layer) as kept:
            question.network(question.inputs([slab.to(question.device) for slab in slabs], some))
        require_kept(kept[:1], question)
        return kept[0].to("cpu", torch.float32)

    found = question.guarded(work)
    question.counter.add(1)
    return found
