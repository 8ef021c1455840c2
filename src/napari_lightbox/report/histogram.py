"""The histogram of a volume as a picture, with thresholds drawn into it."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..volume import Volume

_SIZE = (860, 260)
_LEFT, _RIGHT, _TOP, _BOTTOM = 14, 14, 26, 44
_BINS = 200
_INK, _PAPER, _BARS, _LINE = "#30343a", "#ffffff", "#7d8ea3", "#c62828"


def histogram(volume: Volume, thresholds: Sequence[float] = ()) -> Image.Image:
    """Draw how often each grey value occurs, over all frames.

    The height of a bar grows with the logarithm of its count: in most images the background outnumbers all else.

    Parameters
    ----------
    volume : Volume
        Real numbers; NaN and infinite values are left out.
    thresholds : sequence of float
        Values to mark.

    Returns
    -------
    PIL.Image.Image
    """
    values = np.asarray(volume.data).ravel()
    values = values.astype(np.uint8) if values.dtype.kind == "b" else values
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    picture = Image.new("RGB", _SIZE, _PAPER)
    pen = ImageDraw.Draw(picture)
    if values.size == 0:
        pen.text(
            (_SIZE[0] / 2, _SIZE[1] / 2), "no finite values", font=ImageFont.load_default(14), fill=_INK, anchor="mm"
        )
        return picture
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, _ = np.histogram(values, _bins(values.dtype, low, high), (low, high))
    _draw_bars(pen, counts)
    place = _Axis(low, high)
    _draw_ticks(pen, place, volume.meta.get("unit", ""))
    for threshold in thresholds:
        x = place(threshold)
        pen.line((x, _TOP - 4, x, _SIZE[1] - _BOTTOM), fill=_LINE, width=2)
        pen.text((x, _TOP - 6), f"{threshold:.4g}", font=ImageFont.load_default(13), fill=_LINE, anchor="mb")
    return picture


def _bins(dtype: np.dtype, low: float, high: float) -> int:
    """Return a number of bins that gives whole numbers bins of equal width, so that no comb appears."""
    if dtype.kind == "b":
        return 2
    if dtype.kind == "f" or high - low < 1:
        return _BINS
    width = max(1, int(np.ceil((high - low + 1) / _BINS)))
    return max(1, round((high - low) / width))


class _Axis:
    """Places values along the horizontal."""

    def __init__(self, low: float, high: float):
        self.low, self.high = low, high

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return _LEFT + min(max(share, 0.0), 1.0) * (_SIZE[0] - _LEFT - _RIGHT)


def _draw_bars(pen: ImageDraw.ImageDraw, counts: np.ndarray) -> None:
    floor = _SIZE[1] - _BOTTOM
    heights = np.log1p(counts) / np.log1p(counts.max()) * (floor - _TOP)
    edges = np.linspace(_LEFT, _SIZE[0] - _RIGHT, len(counts) + 1)
    for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
        if height >= 1:
            pen.rectangle((round(left), floor - round(float(height)), max(round(left), round(right) - 1), floor), _BARS)


def _draw_ticks(pen: ImageDraw.ImageDraw, place: _Axis, unit: str) -> None:
    floor, font = _SIZE[1] - _BOTTOM, ImageFont.load_default(13)
    pen.line((_LEFT, floor, _SIZE[0] - _RIGHT, floor), fill=_INK)
    span = place.high - place.low
    step = 10.0 ** np.floor(np.log10(span))
    step = next(step * f for f in (0.1, 0.2, 0.5, 1.0) if span / (step * f) <= 10)
    for value in np.arange(np.ceil(place.low / step), np.floor(place.high / step) + 1) * step:
        x = place(value)
        pen.line((x, floor, x, floor + 5), fill=_INK)
        pen.text((x, floor + 8), f"{value:.6g}", font=font, fill=_INK, anchor="mt")
    text = f"value ({unit})" if unit else "value"
    pen.text((_SIZE[0] / 2, _SIZE[1] - 4), f"{text}; height: logarithm of the count", font=font, fill=_INK, anchor="mb")
