"""Prediction the plain way: the sums of all classes of the whole image at once. What bounded memory is measured by."""

import itertools

import numpy as np
import torch

from napari_lightbox.models import engine, sampling, windows
from napari_lightbox.models.plan import make_plan, options_for


def full_memory(volume, model, window=None, **given):
    """Return labels, probabilities of all classes (class, z, y, x) and entropy (or None) of one 3D frame."""
    card, options = model.card, options_for(model.card, uncertainty=True, **given)
    plan = make_plan([volume], card, options, window)
    with torch.inference_mode():
        image = engine.prepare([volume], card, plan, engine.Counter(0))
        logits = back(sums(model.module, image, plan), plan)
        probability = torch.softmax(logits, 0) if options.activation == "softmax" else torch.sigmoid(logits)
    values = card.output.values
    if options.activation == "softmax":
        labels = np.array(values)[logits.argmax(0).numpy()]
        p = probability.numpy().astype(np.float64)
        entropy = -np.sum(p * np.log(np.maximum(p, 1e-300)), 0) / np.log(len(p))
    else:
        labels, entropy = np.zeros(plan.shape, int), None
        for value, one in zip(values, probability.numpy(), strict=True):
            labels[one > 0.5] = value
    stored = np.zeros((2 + len(values), *volume.grid.shape), np.float32)
    for target, found in zip(stored, [labels, entropy, *probability.numpy()], strict=True):
        if found is not None:
            plan.turned(target)[...] = found
    return stored[0].astype(int), stored[2:], stored[1]


def sums(network, image, plan):
    """Return the weighed sums of all windows, without the padding."""
    laid_out = windows.layout(plan.padded, plan.window, plan.overlaps, plan.options.blending, rounded=plan.rounded)
    ways = [c for n in range(len(plan.options.mirror) + 1) for c in itertools.combinations(plan.options.mirror, n)]
    total = None
    for start in range(0, len(laid_out), plan.batch):
        batch = laid_out[start : start + plan.batch]
        inputs = torch.stack([image[(slice(None), *w.slices)] for w in batch])
        inputs = inputs.squeeze(2) if plan.dims == 2 else inputs
        answers = 0
        for way in ways:
            axes = [a + 2 for a in way]
            answers = answers + network(inputs.flip(axes)).flip(axes)
        answers = answers / len(ways) if len(ways) > 1 else answers
        answers = answers.unsqueeze(2) if plan.dims == 2 else answers
        total = torch.zeros((answers.shape[1], *plan.padded)) if total is None else total
        for window, answer in zip(batch, answers, strict=True):
            if plan.options.overlap == 0:
                owned = window.owned()
                target = tuple(slice(s + o.start, s + o.stop) for s, o in zip(window.start, owned, strict=True))
                total[(slice(None), *target)] = answer[(slice(None), *owned)]
                continue
            for axis, vector in enumerate(window.weights):
                answer = answer * torch.from_numpy(vector).reshape([-1 if a == axis + 1 else 1 for a in range(4)])
            total[(slice(None), *window.slices)] += answer
    return total[(slice(None), *(slice(a, n - b) for n, (a, b) in zip(plan.padded, plan.pad, strict=True)))]


def back(logits, plan):
    """Return the sums on the grid of the image: across the slices first, then within them."""
    steps = tuple(1.0 if s == 1 else 1 / s for s in plan.steps)
    depth, *plane = plan.shape
    if steps[0] != 1 or logits.shape[1] != depth:
        logits = sampling.gather(logits, 1, *sampling.taps(logits.shape[1], depth, steps[0], smooth=False))
    return sampling.resample(logits, plane, steps[1:], smooth=False)
