"""Networks, cards and volumes that are made up for tests of models."""

import numpy as np
import pytest

from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.models.card import Card
from napari_lightbox.volume import Volume

torch = pytest.importorskip("torch")


def identity(x):
    return x


def make(shape=(6, 7, 8), *, spacing=(2.0, 1.5, 1.0), dtype=np.float32, seed=0, **fields):
    data = np.random.default_rng(seed).normal(0, 1, shape).astype(dtype)
    frames = Frames("time", tuple(range(shape[0])), "s") if len(shape) == 4 else None
    grid = Grid.from_spacing(spacing, shape, frames=frames)
    return Volume(data, grid, name="scan", **fields)


def make_card(**changes):
    card = {
        "name": "made-up",
        "version": "2",
        "loader": "safetensors",
        "weights": "w",
        "architecture": {"name": "unet", "args": {}},
        "input": {"dims": 3, "channels": [{"name": "CT", "modality": "CT"}]},
        "window": {"size": None, "overlap": 0.5},
        "output": {"kind": "image"},
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        here = card
        for name in parents:
            here = here.setdefault(name, {})
        here[last] = value
    return Card.from_dict(card)


class Net(torch.nn.Module):
    """A module around a function, which remembers what it was shown."""

    def __init__(self, function=identity):
        super().__init__()
        self.function, self.seen = function, []

    def forward(self, x):
        self.seen.append(x.clone().numpy())
        return self.function(x)


def constant_logits(*logits):
    """Return a network that gives the same logits everywhere."""

    def run(x):
        one = torch.tensor(logits, dtype=torch.float32).reshape(1, -1, *[1] * (x.ndim - 2))
        return one.expand(x.shape[0], -1, *x.shape[2:])

    return run


def ct_card(**changes):
    return make_card(output={"kind": "labels", "labels": {"1": "lung", "2": "bone"}}, **changes)
