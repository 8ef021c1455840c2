"""Geometry, parameters and numbers as people read them."""

import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import numpy as np

from ..geometry import Grid
from ..volume import Volume

_LIBRARIES = ("numpy", "scipy", "scikit-image", "SimpleITK", "nibabel", "pydicom", "pillow", "torch", "napari")


def xyz(values: Any, digits: int = 6) -> str:
    """Write (z, y, x) values as x, y, z.

    Examples
    --------
    >>> xyz((5.0, 0.5, 0.25))
    '0.25 x 0.5 x 5'
    """
    return " x ".join(f"{v:.{digits}g}" for v in reversed(tuple(values)))


def facts(volume: Volume) -> dict[str, str]:
    """Say in words what a volume is and where it lies; sizes are in x, y, z order."""
    grid, meta = volume.grid, volume.meta
    found = {
        "Name": volume.name,
        "Modality": str(meta.get("modality") or "not stated"),
        "Size": f"{xyz(grid.spatial_shape)} voxels (x, y, z)",
        "Spacing": f"{xyz(grid.spacing, 4)} mm (x, y, z)" if meta.get("spacing_known", True) else "unknown",
        "Orientation": orientation(grid) if meta.get("orientation_known", True) else "unknown",
    }
    if grid.frames is not None:
        found["Frames"] = frames(grid)
    values = np.asarray(volume.data)
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if finite.size:
        unit = meta.get("unit", "")
        found["Values"] = f"{finite.min():z.6g} to {finite.max():z.6g} {unit}".strip() + f", {values.dtype}"
    if finite.size < values.size:
        found["Not finite"] = f"{values.size - finite.size} voxels are NaN or infinite"
    return found


def orientation(grid: Grid) -> str:
    """Write the orientation code, with what a reader must know besides.

    Examples
    --------
    >>> orientation(Grid.from_spacing((1, 1, 1), (2, 2, 2)))
    'LPS'
    """
    text = grid.code
    if grid.obliquity > 0.05:
        text += f", oblique by {grid.obliquity:.1f} degrees"
    if grid.shear > 0.05:
        text += f", sheared by {grid.shear:.1f} degrees"
    if grid.left_handed:
        text += ", left-handed axes"
    return text


def study(date: str, description: str, between: str = " ") -> str:
    """Write date and description of a study, as far as there are.

    Examples
    --------
    >>> study("2006-01-01", "None"), study("2006-01-01", "CT thorax", ", ")
    ('2006-01-01', '2006-01-01, CT thorax')
    """
    # Programs in Python write their word for nothing into files.
    return between.join(part for part in (date, description) if part and part != "None")


def frames(grid: Grid) -> str:
    """Say how many frames there are, and what changes between them."""
    found = grid.frames
    first, last = found.values[0], found.values[-1]
    unit = f" {found.unit}" if found.unit else ""
    return f"{len(found.values)} ({found.kind} {first:g} to {last:g}{unit})"


def parameters(step: Mapping[str, Any]) -> str:
    """Write the parameters of a step of a history; points are given as x, y, z.

    Examples
    --------
    >>> parameters({"operation": "median", "parameters": {"size": 3, "mode": "reflect"}, "plane": "axial"})
    'size 3, mode reflect, plane axial'
    """
    found = [f"{name} {_value(value)}" for name, value in step.get("parameters", {}).items() if value not in (None, ())]
    if step.get("plane") is not None:
        found.append(f"plane {step['plane']}")
    return ", ".join(found)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"“{value['volume']}”" if "volume" in value else ", ".join(f"{k} {_value(v)}" for k, v in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:z.4g}"
    if isinstance(value, list | tuple):
        if value and all(isinstance(row, list | tuple) and len(row) == 3 for row in value):
            return "; ".join("x {2:z.1f} y {1:z.1f} z {0:z.1f} mm".format(*row) for row in value[:4]) + (
                f" and {len(value) - 4} more" if len(value) > 4 else ""
            )
        return "(" + ", ".join(_value(v) for v in value) + ")"
    return str(value)


def versions() -> dict[str, str]:
    """Return the versions of everything that has a part in the numbers."""
    from .. import __version__

    found = {"napari-lightbox": __version__, "Python": platform.python_version(), "System": platform.platform()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
