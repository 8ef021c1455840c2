"""Opening and saving volumes: the format is told by content and suffix."""

import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import FileError, InputError, LightboxError
from ..geometry import Grid
from ..volume import KINDS, Volume

# Suffix -> room that knows the format. Longer suffixes come before the shorter ones they end in.
_ROOMS = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".seg.nrrd": "nrrd",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
    ".mha": "metaimage",
    ".mhd": "metaimage",
    ".png": "picture",
    ".tif": "picture",
    ".tiff": "picture",
    ".jpg": "picture",
    ".jpeg": "picture",
    ".dcm": "dicom",
}
_ONLY_READ = (".dcm",)
_PREAMBLE = 128


def suffixes(write: bool = False) -> tuple[str, ...]:
    """Return the suffixes of the files that can be read, or that can be written.

    Examples
    --------
    >>> ".nii.gz" in suffixes(write=True), ".dcm" in suffixes(write=True)
    (True, False)
    """
    return tuple(s for s in _ROOMS if not (write and s in _ONLY_READ))


def read(
    path: str | Path,
    spacing: float | Sequence[float] | None = None,
    *,
    kind: str | None = None,
    series: str | int | None = None,
    even: bool = False,
) -> Volume:
    """Read one volume from a file or from a folder with a DICOM series.

    Parameters
    ----------
    path : str or Path
        NIfTI, NRRD, MetaImage, PNG, TIFF, JPEG or DICOM file; or a folder with DICOM files, searched with all below it.
    spacing : float or sequence of float, optional
        Distance of voxels in mm, ``(z, y, x)`` or for a single slice ``(y, x)``, for files that do not know theirs; one
        number for all axes, or for the only one that is not known.
    kind : {"image", "labels", "probability"}, optional
        What the values are; told by the file where it can. Label values stored as floats become integers.
    series : str or int, optional
        Which series of a folder with several: its number, UID, or a part of its description.
    even : bool
        Resample (linear) a DICOM series with gaps, uneven slices or a tilted gantry to an even, right-angled stack.
        Slices that were missing are interpolated and listed in ``meta["gaps"]``, those of single frames as [frame,
        slice] in ``meta["frame_gaps"]``. Without it a tilted series keeps its sheared axes, and one with gaps or uneven
        slices is refused. Nothing else is changed by it.

    Returns
    -------
    Volume
        Voxels in stored order with their geometry in LPS mm.

    Raises
    ------
    FileError
        If the file is missing, damaged or irregular, holds several volumes, or needs more memory than is free.
    InputError
        If `spacing` contradicts the file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     saved = write(Volume.from_array(np.zeros((4, 5, 6), np.int16), (2, 1, 1)), Path(folder) / "a.nii.gz")
    ...     read(saved).grid.spacing
    (2.0, 1.0, 1.0)
    """
    path = Path(path)
    room = _room(path)
    if room == "dicom" and not path.is_dir() and (masks := _module("masks")).kind_of(path):
        return _as_asked(masks.only(masks.read_masks(path), path), path, spacing, kind)
    volume = _module(room).read(path, **({"series": series, "even": even} if room == "dicom" else {}))
    return _as_asked(volume, path, spacing, kind)


def read_all(
    path: str | Path,
    spacing: float | Sequence[float] | None = None,
    *,
    kind: str | None = None,
    even: bool = False,
    refused: list[str] | None = None,
) -> list[Volume]:
    """Read every volume of a file or folder: one for each DICOM series found.

    A series that cannot be loaded is left out with a warning that says why, unless it is the only one.

    Parameters
    ----------
    path, spacing, kind, even
        As for `read`.
    refused : list, optional
        Gets the sentences that say what was left out, in place of the warnings.

    Returns
    -------
    list of Volume
        In order of series number.

    Raises
    ------
    FileError
        If nothing can be read.
    """
    path = Path(path)
    if _room(path) != "dicom":
        return [read(path, spacing, kind=kind)]
    if not path.is_dir() and (masks := _module("masks")).kind_of(path):
        return [_as_asked(volume, path, spacing, kind) for volume in masks.read_masks(path)]
    volumes, errors = _module("dicom").read_all(path, even)
    if refused is not None:
        refused.extend(str(error) for error in errors)
    else:
        for error in errors:
            warnings.warn(str(error), UserWarning, stacklevel=2)
    return [_as_asked(volume, path, spacing, kind) for volume in volumes]


def write(volume: Volume, path: str | Path) -> Path:
    """Write a volume to a file whose format its suffix tells.

    The file appears whole or not at all: on any error an older file stays as it was.

    Parameters
    ----------
    volume : Volume
        What to write; lazy voxels are computed piece by piece.
    path : str or Path
        Ends in one of `suffixes(write=True)`.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    FileError
        If the suffix is unknown, the format cannot hold the volume (the sentence names one that can), or the file
        cannot be written.
    """
    path = Path(path)
    if not isinstance(volume, Volume):
        raise InputError(f"only a Volume can be written, not {type(volume).__name__}: wrap it by Volume.from_array")
    suffix = _suffix(path)
    if suffix is None or suffix in _ONLY_READ:
        known = ", ".join(suffixes(write=True))
        raise FileError(f"{path} was not written, the format {path.suffix or 'without a suffix'!r}: end it in {known}")
    _module(_ROOMS[suffix]).write(volume, path)
    return path


def info(path: str | Path) -> list[dict[str, Any]]:
    """Describe every volume of a file or folder in plain values; sizes, spacing and axes are in x, y, z order."""
    found = []
    for volume in read_all(path):
        grid = volume.grid
        values = np.asarray(volume.data)
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        frames = grid.frames
        found.append(
            {
                "name": volume.name,
                "kind": volume.kind,
                "size": tuple(reversed(grid.spatial_shape)),
                "spacing": tuple(reversed(grid.spacing)),
                "spacing_known": bool(volume.meta.get("spacing_known", True)),
                "origin": tuple(reversed(grid.origin)),
                "orientation": grid.code if volume.meta.get("orientation_known", True) else "unknown",
                "obliquity": grid.obliquity,
                "shear": grid.shear,
                "left_handed": grid.left_handed,
                "frames": frames and {"kind": frames.kind, "values": frames.values, "unit": frames.unit},
                "type": str(values.dtype),
                "range": (finite.min().item(), finite.max().item()) if finite.size else None,
                "unit": volume.meta.get("unit", ""),
                "modality": volume.meta.get("modality", ""),
                "labels": {value: label.name for value, label in volume.labels.items()},
                "notes": list(volume.meta.get("notes", ())),
                "gaps": _gaps(volume),
                "frame_gaps": _gaps(volume, "frame_gaps"),
            }
        )
    return found


def _gaps(volume: Volume, name: str = "gaps") -> list:
    """Return the slices that fill a gap, or as [frame, slice] those of single frames.

    Those of a volume that was put onto another grid since are not known.
    """
    grids = [Grid.from_dict(step["grid"]) for step in volume.history if step.get("grid")]
    return list(volume.meta.get(name) or ()) if all(g.same_space(volume.grid) for g in grids) else []


def _suffix(path: Path) -> str | None:
    name = path.name.lower()
    return next((s for s in _ROOMS if name.endswith(s) and name != s), None)


def _room(path: Path) -> str:
    """Say which room reads `path`."""
    if path.is_dir():
        return "dicom"
    if not path.exists():
        raise FileError(f"{path} does not exist: check the name")
    suffix = _suffix(path)
    if suffix is not None:
        return _ROOMS[suffix]
    try:
        with open(path, "rb") as file:
            start = file.read(_PREAMBLE + 4)
    except OSError as error:
        raise FileError(f"{path} may not be read: change its permissions") from error
    # DICOM files often have no suffix, or a number.
    if start[_PREAMBLE:] == b"DICM":
        return "dicom"
    if start[:7] == b"NRRD000":
        return "nrrd"
    raise FileError(f"{path} is in a format that is not known here: open one of {', '.join(suffixes())}, or a folder")


def _module(room: str) -> ModuleType:
    return import_module(f"{__package__}.{room}")


def _as_asked(volume: Volume, path: Path, spacing: float | Sequence[float] | None, kind: str | None) -> Volume:
    if spacing is not None:
        volume = _with_spacing(volume, path, spacing)
    if kind is None or kind == volume.kind:
        return volume
    if kind not in KINDS:
        raise InputError(f"kind {kind!r} is unknown: use one of {', '.join(KINDS)}")
    data = np.asarray(volume.data)
    if kind == "labels" and data.dtype.kind == "f":
        whole = np.round(data)
        if not np.array_equal(whole, data) or np.abs(whole).max(initial=0) > np.iinfo(np.int32).max:
            raise FileError(f"{path} cannot be opened as labels, its values are not whole numbers: open it as an image")
        data = whole.astype(np.int32)
    return volume.replace(data=data, kind=kind)


def _with_spacing(volume: Volume, path: Path, spacing: float | Sequence[float]) -> Volume:
    given = np.atleast_1d(np.asarray(spacing, dtype=float))
    old = np.asarray(volume.grid.spacing)
    partly = bool(volume.meta.get("pixel_size_known"))
    if partly and given.shape == (1,):
        # The pixels are known: the one number is what is missing.
        given = np.array([given[0], *old[1:]])
    elif given.shape == (1,):
        # One number for a picture is the size of its pixels; a picture's thickness stays as it was.
        given = np.where(np.asarray(volume.grid.spatial_shape) == 1, old, given[0]) if volume.is_2d else given.repeat(3)
    elif given.shape == (2,) and volume.is_2d:
        given = np.array([old[0], *given])
    elif given.shape == (2,) and not volume.meta.get("spacing_known", True):
        raise InputError(f"spacing {spacing} leaves out how far apart the slices of {path} are: give (z, y, x)")
    if partly and given.shape == (3,) and not np.allclose(given[1:], old[1:], rtol=1e-3):
        raise InputError(
            f"spacing {spacing} contradicts {path}, whose pixels are {old[1]:g} x {old[2]:g} mm (y, x): give the "
            "distance of its slices alone"
        )
    if volume.meta.get("spacing_known", True):
        if given.shape == (3,) and np.allclose(given, old, rtol=1e-3):
            return volume
        text = " x ".join(f"{v:g}" for v in old)
        raise InputError(f"spacing {spacing} contradicts {path}, which has its own ({text} mm, z, y, x): leave it out")
    try:
        grid = Grid.from_spacing(given, volume.grid.shape, frames=volume.grid.frames)
    except LightboxError as error:
        raise InputError(f"spacing {spacing} cannot be used: {error}") from error
    meta = {k: v for k, v in volume.meta.items() if k != "pixel_size_known"}
    return volume.replace(grid=grid, meta={**meta, "spacing_known": True})
