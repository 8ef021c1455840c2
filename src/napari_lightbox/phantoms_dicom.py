"""DICOM series of the phantoms: in order, or spoilt in one of the ways in which series come out of hospitals.

What is written is known voxel for voxel (`series_phantom`), so that any reader can be held against it. Every file says
that it shows a phantom and is not for clinical use. The same seed gives the same bytes.
"""

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__, phantoms
from .errors import FileError, InputError, need
from .geometry import Grid
from .io import convention
from .progress import track
from .volume import Volume

VARIANTS = {
    "plain": "even slices, right-angled",
    "missing": "one slice in the middle is not there",
    "tilt": "gantry tilted by 15 degrees: every slice is shifted against the one before it",
    "duplicate": "one slice is there twice, with the same pixels",
    "duplicate-different": "one slice is there twice, with other pixels",
    "jitter": "positions are rounded and off by up to 2 micrometres",
    "uneven": "slices lie 7.5, 10 or 12.5 mm apart",
    "time": "a beating heart: several moments at every position, in one series",
    "time-missing": "the same, but one image of one moment is not there",
}
_IN_TIME = ("time", "time-missing")
_NOTICE = "Simulated phantom, not for clinical use"
_TILT = 15.0  # degrees
# Slices that are missing or doubled, as a share of the stack.
_SPOILT = 0.4
# Of the name-based UUIDs that UIDs are made from: any fixed one will do.
_SPACE = uuid.UUID("7c2f6a34-0e4b-5d0c-9a55-1f7f2f3d8a10")


@dataclass(frozen=True)
class _File:
    """One file to write: a slice of a frame, perhaps with other pixels, a little off its place."""

    index: int
    frame: int = 0
    copy: int = 0
    pixels: np.ndarray | None = None
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)


def series_phantom(variant: str = "plain", seed: int = 0, grid: Grid | None = None) -> tuple[Volume, Volume]:
    """Return the phantom that the slices of a series are taken from.

    Parameters
    ----------
    variant, seed, grid
        As for `write_series`.

    Returns
    -------
    image, labels : Volume
        HU, int16, and what every voxel is. Of ``"missing"`` it has all slices, of ``"tilt"`` a sheared grid, of
        ``"time"`` frames, for ``"time-missing"`` all of them; of ``"uneven"`` it is four times as fine along z, and the
        slices are some of its own.

    Raises
    ------
    InputError
        If the variant is unknown, the seed negative, or the grid has frames.
    """
    if variant not in VARIANTS:
        raise InputError(f"variant {variant!r} is unknown: use one of {', '.join(VARIANTS)}")
    if seed < 0:
        raise InputError(f"seed {seed} must not be negative")
    if variant in _IN_TIME:
        grid = grid or Grid.from_spacing((16.0, 10.0, 11.0), (10, 24, 32), (-90.0, -110.0, -170.5))
        return phantoms.beating_heart(4, grid, seed=seed)
    grid = grid or Grid.from_spacing((10.0, 6.0, 6.5), (20, 56, 58), (-105.0, -160.0, -185.0))
    if variant == "tilt":
        grid = _tilted(grid)
    elif variant == "uneven":
        affine = grid.affine.copy()
        affine[:3, 0] /= 4
        grid = Grid(affine, (4 * grid.shape[0], *grid.shape[1:]), grid.frames)
    return phantoms.thorax(grid, seed=seed)


def write_series(
    folder: str | os.PathLike, variant: str = "plain", seed: int = 0, grid: Grid | None = None
) -> list[Path]:
    """Write a CT series of the thorax phantom, slice by slice.

    Parameters
    ----------
    folder : str or path
        Made where it is missing. Files are named after the variant, and numbered from head to feet.
    variant : str
        One of `VARIANTS`: what is wrong with the series, if anything.
    seed : int
        Of the person, and of all UIDs. Series of one seed show one patient, in one study and frame of reference.
    grid : Grid, optional
        Where the voxels lie; by default 58 x 56 x 20 of 6.5 x 6 x 10 mm (x, y, z), for ``"time"`` 32 x 24 x 10 of
        11 x 10 x 16 mm at 4 moments; so for ``"time-missing"``.

    Returns
    -------
    list of Path
        The files, in order of their instance numbers.

    Raises
    ------
    InputError
        If the variant is unknown, the seed negative, or the grid does not suit the variant.
    FileError
        If such files are there already, or the folder cannot be written.
    MissingPart
        If pydicom is not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = write_series(folder, grid=Grid.from_spacing((40, 20, 20), (4, 16, 18), (-60, -150, -170)))
    ...     files[0].name, len(files)
    ('thorax-plain-001.dcm', 4)
    """
    need("pydicom", "Writing DICOM")
    folder = Path(folder)
    if variant in VARIANTS and grid is not None:
        _require_suited(grid, variant)
    image, _ = series_phantom(variant, seed, grid)
    files = _PLANS.get(variant, _all_slices)(image, np.random.default_rng([seed, 3]))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"thorax-{variant}-{number:03d}.dcm" for number in range(1, len(files) + 1)]
        there = next((path for path in paths if path.exists()), None)
        if there is not None:
            raise FileError(f"{there} exists: choose an empty folder")
        for number, (path, file) in enumerate(zip(paths, track(files, "slices written"), strict=True), start=1):
            _dataset(image, file, number, variant, seed).save_as(path, enforce_file_format=True)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{folder} cannot be written ({error.strerror or error}): choose another folder") from error
    return paths


def _require_suited(grid: Grid, variant: str) -> None:
    """Refuse a grid that DICOM slices cannot lie on, or that is too small to spoil."""
    if grid.left_handed or grid.shear > 1e-6:
        raise InputError("grid is left-handed or sheared, which a series of slices is not: give a right-angled one")
    least = 1 if variant in ("plain", "jitter", "time", "tilt") else 4
    if grid.spatial_shape[0] < least:
        raise InputError(f"grid has {grid.spatial_shape[0]} slices, too few for the variant {variant!r}: give {least}")


def _tilted(grid: Grid) -> Grid:
    """Lean the slices about their rows and keep the way the table moves."""
    angle = np.radians(_TILT)
    affine = grid.affine.copy()
    table, column = grid.direction[:, 0], grid.direction[:, 1]
    affine[:3, 1] = (np.cos(angle) * column + np.sin(angle) * table) * grid.spacing[1]
    # The middle stays where it was.
    affine[:3, 3] += (grid.affine[:3, 1] - affine[:3, 1]) * (grid.shape[1] - 1) / 2
    return Grid(affine, grid.shape, grid.frames)


# What is written, of which slices ---------------------------------------------------------------------------------


def _all_slices(image: Volume, rng: np.random.Generator) -> list[_File]:
    """All slices from head to feet, as most scanners number them: files sorted by name run against the position."""
    return [_File(index) for index in reversed(range(image.grid.spatial_shape[0]))]


def _missing(image: Volume, rng: np.random.Generator) -> list[_File]:
    gone = spoilt_slice(image.grid.spatial_shape[0])
    return [file for file in _all_slices(image, rng) if file.index != gone]


def _duplicate(image: Volume, rng: np.random.Generator) -> list[_File]:
    return [*_all_slices(image, rng), _File(spoilt_slice(image.grid.spatial_shape[0]), copy=1)]


def _duplicate_different(image: Volume, rng: np.random.Generator) -> list[_File]:
    index = spoilt_slice(image.grid.spatial_shape[0])
    pixels = np.asarray(image.data[index])
    noisy = np.clip(pixels + np.rint(rng.normal(0, 30, pixels.shape)), -1024, 3071).astype(np.int16)
    return [*_all_slices(image, rng), _File(index, copy=1, pixels=noisy)]


def _jitter(image: Volume, rng: np.random.Generator) -> list[_File]:
    return [_File(f.index, shift=tuple(rng.uniform(-2e-3, 2e-3, 3))) for f in _all_slices(image, rng)]


def _uneven(image: Volume, rng: np.random.Generator) -> list[_File]:
    """Choose every third to fifth slice of the fine phantom."""
    steps = rng.choice([3, 4, 4, 5], image.grid.spatial_shape[0] // 4 - 1)
    # Whatever the seed: neither all alike nor, with a step in between, like a stack with a slice missing.
    steps[:3] = (4, 5, 3)
    indices = np.concatenate([[0], np.cumsum(steps)])
    return [_File(int(index)) for index in indices[indices < image.grid.spatial_shape[0]][::-1]]


def _moments(image: Volume, rng: np.random.Generator) -> list[_File]:
    """One moment after the other, each from head to feet."""
    return [_File(f.index, frame) for frame in range(image.frame_count) for f in _all_slices(image, rng)]


def _moments_missing(image: Volume, rng: np.random.Generator) -> list[_File]:
    gone = (1, spoilt_slice(image.grid.spatial_shape[0]))
    return [f for f in _moments(image, rng) if (f.frame, f.index) != gone]


_PLANS: dict[str, Callable[[Volume, np.random.Generator], list[_File]]] = {
    "missing": _missing,
    "duplicate": _duplicate,
    "duplicate-different": _duplicate_different,
    "jitter": _jitter,
    "uneven": _uneven,
    "time": _moments,
    "time-missing": _moments_missing,
}


def spoilt_slice(count: int) -> int:
    """Return the index of the slice that is missing or doubled in a stack of `count`.

    Examples
    --------
    >>> spoilt_slice(20)
    8
    """
    return int(_SPOILT * count)


# One file -----------------------------------------------------------------------------------------------------------


def _uid(*words: Any) -> str:
    """Return a UID that is the same for the same words."""
    return f"2.25.{uuid.uuid5(_SPACE, '/'.join(str(w) for w in words)).int}"


def _dataset(image: Volume, file: _File, number: int, variant: str, seed: int) -> Any:
    import pydicom

    ds = pydicom.Dataset()
    meta = ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.SOPClassUID = meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = _uid(seed, variant, file.frame, file.index, file.copy)
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.ImplementationClassUID = _uid("implementation")
    meta.ImplementationVersionName = "LIGHTBOX"
    _describe(ds, number, variant, seed)
    _place(ds, image, file, variant)
    if image.grid.frames is not None:
        _date(ds, image, file)
    pixels = np.asarray(image.data)[file.frame] if image.grid.frames is not None else np.asarray(image.data)
    pixels = pixels[file.index] if file.pixels is None else file.pixels
    _fill(ds, pixels, image.meta["windows"])
    return ds


def _describe(ds: Any, number: int, variant: str, seed: int) -> None:
    """Fill in patient, study, series and scanner."""
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Phantom^Thorax", f"PHANTOM-{seed}", "", "O"
    ds.PatientComments = ds.ImageComments = _NOTICE
    ds.QualityControlImage = "YES"
    ds.StudyInstanceUID, ds.StudyID, ds.AccessionNumber = _uid(seed, "study"), "1", ""
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240101"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "120000"
    ds.StudyDescription, ds.ReferringPhysicianName = "Phantom", ""
    ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "CT", "napari-lightbox", "thorax phantom"
    ds.SoftwareVersions = __version__
    ds.SeriesInstanceUID, ds.SeriesNumber = _uid(seed, variant, "series"), [*VARIANTS].index(variant) + 1
    ds.SeriesDescription, ds.BodyPartExamined, ds.PatientPosition = f"Thorax {variant}", "CHEST", "HFS"
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = _uid(seed, "frame of reference"), ""
    ds.ImageType, ds.AcquisitionNumber, ds.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], 1, number
    ds.KVP = None


def _place(ds: Any, image: Volume, file: _File, variant: str) -> None:
    """Fill in where the slice lies."""
    grid = image.grid
    vectors, origin = convention.to_vectors(grid.affine)
    lengths = np.linalg.norm(vectors, axis=1)
    position = origin + file.index * vectors[2] + file.shift
    cosines = (vectors[:2] / lengths[:2, None]).ravel()
    ds.ImageOrientationPatient = [_decimal(v) for v in cosines]
    ds.ImagePositionPatient = [_decimal(v) for v in position]
    ds.PixelSpacing = [_decimal(lengths[1]), _decimal(lengths[0])]
    ds.SliceThickness = _decimal(lengths[2] * (4 if variant == "uneven" else 1))
    ds.SliceLocation = _decimal(position[2])
    ds.GantryDetectorTilt = _decimal(_TILT if variant == "tilt" else 0)


def _decimal(value: float) -> str:
    """Write a number into the 16 characters that DICOM has for one."""
    text = f"{value:.10f}".rstrip("0").rstrip(".")
    text = "0" if text == "-0" else text
    return text if len(text) <= 16 else f"{value:.9g}"


def _date(ds: Any, image: Volume, file: _File) -> None:
    """Fill in which moment of the beat the slice belongs to."""
    times = image.grid.frames.values
    ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions = file.frame + 1, len(times)
    ds.TriggerTime = _decimal(1000 * times[file.frame])  # ms
    ds.NominalPercentageOfCardiacPhase = 100 * file.frame / len(times)
    ds.AcquisitionNumber = file.frame + 1
    ds.AcquisitionTime = ds.ContentTime = f"1200{times[file.frame]:09.6f}"


def _fill(ds: Any, pixels: np.ndarray, windows: list[dict[str, Any]]) -> None:
    """Fill in the pixels: 12 bits from -1024 HU on, as scanners store them."""
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "1", "-1024", "HU"
    ds.WindowCenter, ds.WindowWidth = [w["centre"] for w in windows], [w["width"] for w in windows]
    ds.WindowCenterWidthExplanation = [w["name"] for w in windows]
    ds.LossyImageCompression = "00"
    ds.PixelData = (pixels.astype(np.int32) + 1024).astype("<u2").tobytes()
