"""File > Open Sample: the committed phantoms, each with its truth as a hidden Labels layer.

One function per sample, under its name with underscores: ``samples.thorax_oblique()``.
"""

from collections.abc import Callable

import napari

from ..io.files import read
from ..phantoms import SAMPLES, sample_path
from . import asking
from .adding import place
from .layers import LayerTuple, volume_to_layer
from .readers import prepare

# Samples that hold the truth of another one come with it.
NAMES = tuple(name for name in SAMPLES if name not in {sample.truth for sample in SAMPLES.values()})


def open_sample(name: str) -> list[LayerTuple]:
    """Return the layers of a sample: the image, and its truth hidden.

    Parameters
    ----------
    name : str
        A key of `napari_lightbox.phantoms.SAMPLES`.
    """
    sample = SAMPLES[name]
    layers = [volume_to_layer(read(sample_path(name)), name=sample.title)]
    if sample.truth is not None:
        truth = read(sample_path(sample.truth), kind="labels")
        layers.append(volume_to_layer(truth, name=SAMPLES[sample.truth].title, visible=False))
    viewer = napari.current_viewer()
    for notice in place(viewer, layers):
        asking.warn(notice)
    prepare(viewer)
    return layers


def function_name(name: str) -> str:
    """Return the name of the function that opens a sample."""
    return name.replace("-", "_")


def _opener(name: str) -> Callable[[], list[LayerTuple]]:
    def opener() -> list[LayerTuple]:
        return open_sample(name)

    opener.__name__ = function_name(name)
    opener.__doc__ = f"Open the sample {SAMPLES[name].title!r}: {SAMPLES[name].description}."
    return opener


_OPENERS = {function_name(name): _opener(name) for name in NAMES}


def __getattr__(name: str):
    if name not in _OPENERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _OPENERS[name]


def __dir__() -> list[str]:
    return list(_OPENERS)
