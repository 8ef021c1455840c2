"""How a volume looks when it is first shown: window, colours of labels, names at the cursor."""

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache

import numpy as np

from ..ops._hounsfield import looks_like_ct
from ..volume import Label, Volume

# Soft tissue: what a CT is first looked at with when its file proposes nothing.
CT_WINDOW = (-160.0, 240.0)
# Distinct on black and from each other, neighbours first; used where a label volume brings no colours.
PALETTE = (
    "#4fc3f7", "#ffb74d", "#81c784", "#e57373", "#ba68c8", "#fff176", "#4db6ac", "#f06292", "#a1887f", "#7986cb",
    "#dce775", "#ff8a65", "#90a4ae", "#aed581", "#9575cd", "#ffd54f",
)  # fmt: skip
_SAMPLE = 48
# Slices of what lies on disk in chunks that a sample is of.
_SLICES = 9


def label_colour(value: int, label: Label | None = None) -> str:
    """Return ``"#rrggbb"`` for a label value: its own colour, or one of the palette."""
    if label is not None and label.colour:
        return label.colour
    return PALETTE[(int(value) - 1) % len(PALETTE)]


def label_colormap(labels: Mapping[int, Label]) -> dict:
    """Return napari's colour table of a label volume.

    Values without an entry are drawn grey: napari leaves them out of the picture unless there is a None key.
    """
    table: dict = {0: "transparent", None: "gray"}
    table.update({value: label_colour(value, label) for value, label in labels.items() if value != 0})
    return table


def label_features(labels: Mapping[int, Label]) -> dict:
    """Return the table that napari reads the name at the cursor from."""
    entries = {0: "background"} | {value: label.name for value, label in labels.items()}
    return {"index": list(entries), "name": list(entries.values())}


def first_look(volume: Volume) -> dict:
    """Return the arguments of a layer that say how a volume is first shown."""
    if volume.kind != "labels":
        limits = {"contrast_limits": contrast_limits(volume)}
        if volume.kind == "probability":
            return {**limits, "colormap": "inferno", "blending": "additive"}
        # DICOM's MONOCHROME1, as old radiographs have it: low values are meant to be bright.
        inverted = any(str(note).startswith("MONOCHROME1") for note in volume.meta.get("notes") or ())
        return {**limits, "colormap": "gray_r"} if inverted else limits
    if not volume.labels:
        return {}
    return {
        "colormap": label_colormap(volume.labels),
        "features": label_features(volume.labels),
    }


@cache
def draw_dashes() -> None:
    """Draw the dashed lines that napari needs for the polygon tool of the first Labels layer; they are kept."""
    with suppress(ImportError):
        from vispy.visuals.line.dash_atlas import DashAtlas

        DashAtlas()


def sample(data) -> np.ndarray:
    """Return a few ten thousand finite voxels from all over an array, as float64.

    Of a lazy array only the middle slice of the first frame is computed, and of one in chunks on disk a few slices are
    read: strides over all of it would read it whole.
    """
    if getattr(data, "is_stored", False):
        return np.concatenate([sample(one[None]) for one in _some_slices(data)])
    if not isinstance(data, np.ndarray):
        while data.ndim > 3:
            data = data[0]
        data = np.asarray(data[data.shape[0] // 2])
    steps = tuple(slice(n % max(1, n // _SAMPLE) // 2, None, max(1, n // _SAMPLE)) for n in data.shape)
    values = np.asarray(data[steps], dtype=np.float64).ravel()
    return values[np.isfinite(values)]


def _some_slices(data) -> Iterator[np.ndarray]:
    """Read slices from all over an array, each of another frame where there are frames."""
    *frames, depth, _, _ = data.shape
    for number in range(min(_SLICES, math.prod((*frames, depth)))):
        # Not early slices in early frames only.
        mixed = 4 * number % _SLICES
        yield np.asarray(data[(*(n * number // _SLICES for n in frames), depth * (2 * mixed + 1) // (2 * _SLICES))])


def contrast_limits(volume: Volume) -> tuple[float, float]:
    """Choose the grey levels, low and high, that a volume is first shown with.

    The first window that the file proposes; soft tissue for CT (also for values that look like Hounsfield units in a
    file that names no modality); 0 to 1 for probabilities; otherwise the percentiles 0.5 to 99.5 of a sample.
    """
    if volume.kind == "probability":
        return 0.0, 1.0
    for window in volume.meta.get("windows") or ():
        centre, width = float(window["centre"]), float(window["width"])
        if np.isfinite((centre, width)).all() and width > 0:
            return centre - width / 2, centre + width / 2
    values = sample(volume.data)
    modality = volume.meta.get("modality")
    if modality == "CT" or (not modality and looks_like_ct(values)):
        return CT_WINDOW
    if values.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    if not low < high:
        low, high = float(values.min()), float(values.max())
    # A constant picture has no contrast; any increasing pair that napari's float32 still tells apart will do.
    return (low, high) if np.float32(low) < np.float32(high) else (low, low + max(1.0, abs(low) * 1e-3))
