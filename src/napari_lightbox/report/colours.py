"""Grey levels and colours of the pictures: windows, label colours, a heat map."""

import numpy as np

from ..volume import Label, Volume

# Distinct on black and from each other, neighbours first; used where a label brings no colour.
PALETTE = (
    "#4fc3f7", "#ffb74d", "#81c784", "#e57373", "#ba68c8", "#fff176", "#4db6ac", "#f06292", "#a1887f", "#7986cb",
    "#dce775", "#ff8a65", "#90a4ae", "#aed581", "#9575cd", "#ffd54f",
)  # fmt: skip
SOFT_TISSUE = (-160.0, 240.0)
# Black, violet, red, orange, pale yellow: lightness grows all the way, so it reads in grey as well.
_HEAT = np.array([(0, 0, 8), (74, 12, 107), (165, 44, 96), (237, 105, 37), (247, 209, 61), (252, 255, 200)], float)
_SAMPLE = 64


def rgb(colour: str) -> tuple[int, int, int]:
    """Turn ``"#rrggbb"`` into three numbers from 0 to 255; grey where it is not written so.

    Examples
    --------
    >>> rgb("#ff8000")
    (255, 128, 0)
    """
    text = str(colour).lstrip("#")
    try:
        return tuple(int(text[i : i + 2], 16) for i in (0, 2, 4)) if len(text) == 6 else (160, 160, 160)
    except ValueError:
        return 160, 160, 160


def label_colour(value: int, label: Label | None = None) -> str:
    """Return ``"#rrggbb"`` of a label value: its own colour, or one of the palette."""
    return label.colour if label is not None and label.colour else PALETTE[(int(value) - 1) % len(PALETTE)]


def heat(values: np.ndarray) -> np.ndarray:
    """Map values from 0 to 1 to colours: (...) float to (..., 3) uint8."""
    place = np.clip(np.nan_to_num(values), 0, 1) * (len(_HEAT) - 1)
    steps = np.arange(len(_HEAT))
    return np.stack([np.interp(place, steps, _HEAT[:, c]) for c in range(3)], axis=-1).round().astype(np.uint8)


def heat_css() -> str:
    """Return the heat map as a CSS gradient, for a colour bar."""
    return "linear-gradient(to right, " + ", ".join("rgb({:.0f} {:.0f} {:.0f})".format(*c) for c in _HEAT) + ")"


def sample(volume: Volume) -> np.ndarray:
    """Return finite voxel values from all over a volume, some hundred thousand at most, as float64."""
    data = volume.data
    if not isinstance(data, np.ndarray):
        # Strides over lazy voxels would compute them all; one frame has to do.
        data = np.asarray(data[0] if data.ndim == 4 else data)
    steps = tuple(slice(None, None, max(1, n // _SAMPLE)) for n in data.shape)
    values = np.asarray(data[steps], dtype=np.float64).ravel()
    return values[np.isfinite(values)]


def window(volume: Volume) -> tuple[float, float]:
    """Choose the grey levels, low and high, that a volume is drawn with.

    The first window that its file proposes; soft tissue for CT; 0 to 1 for probabilities; else the percentiles 0.5
    and 99.5.
    """
    if volume.kind == "probability":
        return 0.0, 1.0
    for found in volume.meta.get("windows") or ():
        centre, width = float(found["centre"]), float(found["width"])
        if np.isfinite((centre, width)).all() and width > 0:
            return centre - width / 2, centre + width / 2
    if volume.meta.get("modality") == "CT" or volume.meta.get("unit") == "HU":
        return SOFT_TISSUE
    values = sample(volume)
    if values.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    if not low < high:
        low, high = float(values.min()), float(values.max())
    return (low, high) if low < high else (low, low + 1.0)


def grey(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Map values to uint8 grey levels, `limits` to 0 and 255; NaN becomes black."""
    low, high = limits
    scaled = (np.asarray(values, dtype=np.float64) - low) / (high - low)
    return (np.clip(np.nan_to_num(scaled, nan=0.0), 0, 1) * 255).round().astype(np.uint8)
