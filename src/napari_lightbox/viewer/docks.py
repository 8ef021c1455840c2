"""The dock class of every operation of the catalogue, by its name: what the commands of `napari.yaml` point to.

``napari_lightbox.viewer.docks.median(viewer)`` makes the dock of the median.
"""

from ..catalogue import OPERATIONS
from .dock import operation_dock


def __getattr__(name: str):
    if name not in OPERATIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return operation_dock(name)


def __dir__() -> list[str]:
    return list(OPERATIONS)
