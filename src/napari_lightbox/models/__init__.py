"""Models: their cards, loading, and running them over volumes.

Nothing here needs torch until a model is loaded or run.
"""

import importlib

from .card import Card
from .loaders import Model, available, load, read_card
from .outputs import Outputs, read_outputs

# Imported here, not on demand: importing the module `predict` later would put the module in the function's place.
from .predict import Prediction, predict, quote, replay

__all__ = [
    "Card",
    "Model",
    "Outputs",
    "Prediction",
    "available",
    "load",
    "predict",
    "quote",
    "read_card",
    "read_outputs",
    "replay",
]

_ROOMS = ("networks", "train", "windows")


def __getattr__(name: str):
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
