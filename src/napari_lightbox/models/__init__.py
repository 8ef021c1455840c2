"""Models: their cards, loading, and running them over volumes.

Nothing here needs torch until a model is loaded or run.
"""

import importlib

from .answers import Answers, Boxes
from .card import Card
from .explain import attribute
from .loaders import Model, available, load, read_card
from .looked import kernel_picture, seen_from
from .looking import ReceptiveField, features, frequency_response, kernels, layers, receptive_field
from .mending import FILTERS, Mended, mend
from .outputs import Outputs, read_outputs
from .perturbations import PERTURBATIONS, perturbed
from .post import postprocess

# Imported here, not on demand: importing the module `predict` later would put the module in the function's place.
from .predict import Prediction, predict, quote, replay
from .sweeps import Sweep, sweep

__all__ = [
    "FILTERS",
    "PERTURBATIONS",
    "Answers",
    "Boxes",
    "Card",
    "Mended",
    "Model",
    "Outputs",
    "Prediction",
    "ReceptiveField",
    "Sweep",
    "attribute",
    "available",
    "features",
    "frequency_response",
    "kernel_picture",
    "kernels",
    "layers",
    "load",
    "mend",
    "perturbed",
    "postprocess",
    "predict",
    "quote",
    "read_card",
    "read_outputs",
    "receptive_field",
    "replay",
    "seen_from",
    "sweep",
]

_ROOMS = ("networks", "train", "windows")


def __getattr__(name: str):
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
