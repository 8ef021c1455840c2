"""napari-lightbox: medical volumes with exact geometry, replayable steps, and models shown where they fail.

Everything public is reachable from here and loaded when it is first used::

    import napari_lightbox as lb

    volume = lb.read("ct.nii.gz")
    smooth = lb.apply("median", volume, size=3)
    lb.write(smooth, "smooth.nii.gz")
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Public name -> where it lives. Rooms (modules) stand for themselves.
_NAMES = {
    # volumes and files
    "Volume": "volume",
    "Label": "volume",
    "Grid": "geometry",
    "Frames": "geometry",
    "read": "io.files",
    "read_all": "io.files",
    "read_masks": "io.masks",
    "write": "io.files",
    "list_series": "io.series",
    "SeriesInfo": "io.series",
    # one operation, many steps, a comparison
    "apply": "apply",
    "evaluate": "report.evaluation",
    "OPERATIONS": "catalogue",
    "Recipe": "recipe",
    "Step": "recipe",
    # long work and errors
    "track": "progress",
    "listening": "progress",
    "Cancelled": "progress",
    "LightboxError": "errors",
    "InputError": "errors",
    "GridError": "errors",
    "FileError": "errors",
    "MissingPart": "errors",
}
_ROOMS = {
    "filters": "ops.filters",
    "frequency": "ops.frequency",
    "spatial": "ops.spatial",
    "warps": "ops.warps",
    "morphology": "ops.morphology",
    "segmentation": "ops.segmentation",
    "components": "ops.components",
    "distance": "ops.distance",
    "measure": "ops.measure",
    "metrics": "ops.metrics",
    "perturb": "ops.perturb",
    "models": "models",
    "phantoms": "phantoms",
}

__all__ = ["__version__", *_NAMES, *_ROOMS]


def __getattr__(name: str):
    if name in _NAMES:
        value = getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
    elif name in _ROOMS:
        value = importlib.import_module(f".{_ROOMS[name]}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """The package; it keeps `apply` the function when the import system binds the submodule of the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "apply" and isinstance(value, ModuleType):
            value = value.apply
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

if TYPE_CHECKING:
    from . import models, phantoms
    from .apply import apply
    from .catalogue import OPERATIONS
    from .errors import FileError, GridError, InputError, LightboxError, MissingPart
    from .geometry import Frames, Grid
    from .io.files import read, read_all, write
    from .io.masks import read_masks
    from .io.series import SeriesInfo, list_series
    from .ops import (
        components,
        distance,
        filters,
        frequency,
        measure,
        metrics,
        morphology,
        perturb,
        segmentation,
        spatial,
        warps,
    )
    from .progress import Cancelled, listening, track
    from .recipe import Recipe, Step
    from .volume import Label, Volume
