"""What kind of image it is, and where a region can be grown in it: rules that can be said in a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..errors import InputError
from ..geometry import Grid
from ..ops._hounsfield import looks_like_ct
from ..volume import Volume

# Voxels along the longest axis that the search for a seed looks at: a second at most, whatever the image.
_COARSE = 72
_LUNG_ML = 30.0


@dataclass(frozen=True)
class Tissue:
    """What the steps of the demo need to know of an image.

    Parameters
    ----------
    kind : str
        ``"CT"`` where the values are Hounsfield units, otherwise the modality that the file states, or empty.
    window : int
        Width of the median filter's window in voxels.
    classes : int
        Number of Otsu's classes.
    notes : tuple of str
        What was assumed, in sentences.
    """

    kind: str
    window: int
    classes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seed:
    """Where a region starts, and how far it may differ.

    Parameters
    ----------
    point : (float, float, float)
        World point (z, y, x), LPS mm.
    threshold : float
        For `segmentation.region_grow`.
    name : str
        What is being grown.
    rule : str
        How the point was found.
    limits : (float, float) or None
        Grey levels that suit the region.
    """

    point: tuple[float, float, float]
    threshold: float
    name: str
    rule: str
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class _Range:
    """Grey values of a tissue in CT."""

    name: str
    low: float
    high: float
    threshold: float
    least_ml: float
    limits: tuple[float, float] | None = None


# Tried in this order: the lung is the region that grows without leaking, bone the next best.
_CT_RANGES = (
    _Range("lung", -950.0, -650.0, 220.0, _LUNG_ML, (-1350.0, 150.0)),
    _Range("bone", 250.0, 1500.0, 250.0, 2.0, (-500.0, 1300.0)),
    _Range("soft tissue", 0.0, 90.0, 40.0, 1.0),
)


def recognise(volume: Volume) -> tuple[Volume, Tissue]:
    """Tell what kind of image a volume is, by what its file says and by its values.

    Returns
    -------
    volume : Volume
        The same, with modality and unit filled in where the values leave no doubt.
    tissue : Tissue
    """
    stated = str(volume.meta.get("modality") or "").upper()
    hounsfield = looks_like_ct(coarse(volume)[0].ravel().astype(float))
    notes: list[str] = []
    kind = stated
    if hounsfield and not stated:
        kind = "CT"
        volume = volume.replace(meta={**volume.meta, "modality": "CT", "unit": volume.meta.get("unit") or "HU"})
        notes.append("The file states no modality; its values are Hounsfield units, so it is taken as CT.")
    if stated == "CT" and not hounsfield:
        kind = ""
        notes.append(
            "The file says CT, but its values do not look like Hounsfield units (no air near -1000 among soft tissue): "
            "what a model for CT says of it means little."
        )
    speckled = kind == "US" or (volume.is_2d and not kind)
    # In CT four classes tell air, lung, fat and the rest apart; two suffice for an echo.
    classes = 4 if kind == "CT" else 2 if speckled else 3
    return volume, Tissue(kind, 5 if speckled else 3, classes, tuple(notes))


def coarse(volume: Volume) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the first frame with voxels left out, at most `_COARSE` along each axis, and the steps taken."""
    data = np.asarray(volume.frame(0).data)
    limit = _COARSE * 8 if volume.is_2d else _COARSE
    steps = tuple(max(1, -(-n // limit)) for n in data.shape)
    return data[tuple(slice(None, None, s) for s in steps)], steps


def find(volume: Volume, tissue: Tissue, thresholds: Sequence[float]) -> Seed:
    """Find a seed in the first frame.

    In CT: the point farthest from the edge of the largest lung inside the body, else of the largest bone, else of
    soft tissue, told by their Hounsfield units. In other images: of the largest part of the brightest Otsu class.

    Raises
    ------
    InputError
        If the image is constant or holds no finite values.
    """
    data, steps = coarse(volume)
    grid = volume.grid.without_frames()
    if tissue.kind == "CT":
        inside = _inside(data, grid)
        for tissues in _CT_RANGES:
            fits = (data >= tissues.low) & (data <= tissues.high) & inside
            place = _deepest(fits, grid, steps, tissues.least_ml)
            if place is not None:
                rule = (
                    f"the point farthest from the edge of the largest {tissues.name} inside the body, voxels from "
                    f"{tissues.low:g} to {tissues.high:g} HU"
                )
                return Seed(place, tissues.threshold, tissues.name, rule, tissues.limits)
    finite = data[np.isfinite(data)] if data.dtype.kind == "f" else data.ravel()
    level = thresholds[-1] if thresholds else float(finite.mean()) if finite.size else 0.0
    place = _deepest(data > level, grid, steps, 0.0)
    if place is None:
        raise InputError(f"no seed was found in {volume.name!r}, it has no bright part: a region was not grown")
    low, high = np.percentile(finite, (1, 99))
    # Two digits are as many as anyone would type.
    threshold = float(f"{max(0.2 * (high - low), 1e-6):.2g}")
    rule = f"the point farthest from the edge of the largest part brighter than {level:.4g}"
    return Seed(place, threshold, "brightest class", rule)


def _inside(data: np.ndarray, grid: Grid) -> np.ndarray:
    """Leave out the air around the patient, table and all: what is dark and reaches a side of the picture.

    Head and feet ends are no sides: a lung may be cut there.
    """
    parts, _ = ndimage.label(data < -300)
    along = grid.closest_axes()[0][0]
    sides = [np.unique(np.take(parts, (0, -1), axis)) for axis in range(3) if axis != along and data.shape[axis] > 1]
    outside = np.unique(np.concatenate(sides)) if sides else np.zeros(0, int)
    return ~np.isin(parts, outside[outside > 0])


def deepest(mask: np.ndarray, grid: Grid) -> tuple[float, float, float] | None:
    """Return the world point (z, y, x) farthest from the edge of the largest part of a mask, None where it is empty.

    Parameters
    ----------
    mask : (z, y, x) bool array
        One frame.
    grid : Grid
        Its geometry; frames are left aside.
    """
    limit = _COARSE * 8 if 1 in mask.shape else _COARSE
    steps = tuple(max(1, -(-n // limit)) for n in mask.shape)
    return _deepest(mask[tuple(slice(None, None, s) for s in steps)], grid.without_frames(), steps, 0.0)


def _deepest(mask: np.ndarray, grid: Grid, steps: Sequence[int], least_ml: float) -> tuple[float, float, float] | None:
    parts, count = ndimage.label(mask)
    if not count:
        return None
    sizes = np.bincount(parts.ravel())[1:]
    if sizes.max() * grid.voxel_volume * np.prod(steps) / 1000 < least_ml:
        return None
    largest = parts == sizes.argmax() + 1
    # A single slice is all edge across itself: its thickness must not count.
    spacing = np.multiply(grid.spacing, steps)
    # Voxels around the array are outside, so that a region cut by the border is not deepest at the border.
    pad = [(0, 0) if n == 1 else (1, 1) for n in largest.shape]
    depth = ndimage.distance_transform_edt(np.pad(largest, pad), sampling=spacing)
    place = np.array(np.unravel_index(depth.argmax(), depth.shape)) - [p[0] for p in pad]
    return tuple(float(v) for v in grid.to_world(place * steps))
