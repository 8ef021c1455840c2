"""Pictures of volumes as a radiologist reads them: three planes, right aspect, the patient's right on the left."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..geometry import Grid
from ..volume import Label, Volume
from . import colours

# Letters of the ends of the axes (z, y, x) in LPS: (towards -, towards +).
_ENDS = (("I", "S"), ("A", "P"), ("R", "L"))
# For each plane: the axes (z, y, x) cut, down and across; and whether the axis that runs down is turned upside down,
# so that anterior or the head is at the top. Across, the patient's right (or anterior) is on the left.
_LAYOUT = {"axial": (0, 1, 2, False), "coronal": (1, 0, 2, True), "sagittal": (2, 0, 1, True)}
# An axis off the patient's by more than this, degrees, is marked as oblique.
_OBLIQUE = 1.0
_FILL, _LINE = 0.28, 0.9


@dataclass(frozen=True)
class View:
    """What all pictures of one volume have in common.

    Parameters
    ----------
    point : (3,) sequence of float
        World point (z, y, x) in LPS mm that the planes go through.
    frame : int
        Frame of a 4D volume.
    size : int
        Longest side of the longest plane, in pixels.
    """

    point: tuple[float, float, float]
    frame: int = 0
    size: int = 420


@dataclass(frozen=True)
class Picture:
    """One plane, ready to be shown.

    Parameters
    ----------
    plane : str
        ``"axial"``, ``"coronal"`` or ``"sagittal"``.
    image : PIL.Image.Image
    position : str
        Where the plane lies, in words.
    """

    plane: str
    image: Image.Image
    position: str

    def data_url(self) -> str:
        """Return the picture as PNG in a ``data:`` address."""
        return png_url(self.image)


def png_url(image: Image.Image) -> str:
    """Return a picture as PNG in a ``data:`` address, for a page that needs no other files."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def thumbnail_url(image: Image.Image) -> str:
    """Return a picture made small, 112 pixels at most, in a ``data:`` address."""
    small = image.copy()
    small.thumbnail((112, 112))
    return png_url(small)


def planes_of(grid: Grid) -> list[str]:
    """Return the planes that show more than a line: all three, or the one that a single slice lies in."""
    shape = grid.reordered(*grid.order_for("LPS")).spatial_shape
    found = [p for p, (_, row, column, _) in _LAYOUT.items() if shape[row] > 1 and shape[column] > 1]
    return found or ["axial"]


def draw(
    image: Volume,
    view: View,
    *,
    over: Volume | None = None,
    limits: tuple[float, float] | None = None,
    points: Sequence[Sequence[float]] = (),
) -> list[Picture]:
    """Draw a volume in all planes that make sense for it.

    Parameters
    ----------
    image : Volume
        Drawn in grey.
    view : View
        Where the planes lie.
    over : Volume, optional
        Labels (filled and outlined in their colours) or a probability (heat map) on the same grid.
    limits : (float, float), optional
        Grey levels; chosen by `colours.window` where not given.
    points : sequence of (z, y, x)
        World points to mark where they lie in a plane.

    Returns
    -------
    list of Picture
    """
    if over is not None:
        image.grid.require_same_space(over.grid, f"{image.name!r} and {over.name!r}")
    limits = limits or colours.window(image)
    order, flips = image.grid.order_for("LPS")
    shown = image.grid.without_frames().reordered(order, flips)
    scale = _scale(shown, view.size)
    index = np.clip(np.rint(shown.to_index(view.point)).astype(int), 0, np.array(shown.spatial_shape) - 1)
    found = []
    for plane in planes_of(image.grid):
        size = _pixels(shown, plane, scale)
        grey = colours.grey(_cut(image, plane, index, view.frame, order, flips), limits)
        picture = Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).convert("RGB")
        if over is not None:
            values = _cut(over, plane, index, view.frame, order, flips)
            picture = _labels(picture, values, over.labels) if over.kind == "labels" else _heat(picture, values)
        _mark(picture, plane, shown, points, index, scale)
        _annotate(picture, plane, image, shown, scale)
        found.append(Picture(plane, picture, _position(plane, shown, index, image)))
    return found


def _scale(shown: Grid, size: int) -> float:
    """Pixels of the picture a millimetre: the same in all planes, so that sizes can be compared."""
    extent = max(n * s for n, s in zip(shown.spatial_shape, shown.spacing, strict=True))
    return size / extent


def _pixels(shown: Grid, plane: str, scale: float) -> tuple[int, int]:
    _, row, column, _ = _LAYOUT[plane]
    extent = np.multiply(shown.spatial_shape, shown.spacing) * scale
    return max(1, round(extent[column])), max(1, round(extent[row]))


def _cut(volume: Volume, plane: str, index: np.ndarray, frame: int, order, flips) -> np.ndarray:
    """Return one plane of a volume as it is drawn, (rows, columns)."""
    data = volume.data
    if data.ndim == 4:
        data = data[min(frame, data.shape[0] - 1)]
    data = data.transpose(order)[tuple(slice(None, None, -1 if flip else None) for flip in flips)]
    cut, row, column, upside_down = _LAYOUT[plane]
    where: list = [slice(None)] * 3
    where[cut] = int(index[cut])
    values = np.asarray(data[tuple(where)])
    values = values if row < column else values.T
    return np.ascontiguousarray(values[::-1] if upside_down else values)


def _labels(picture: Image.Image, values: np.ndarray, labels: Mapping[int, Label]) -> Image.Image:
    """Lay labels over a picture: a light fill and a strong line at every border."""
    # Nearest neighbour on the picture's pixels, each seen from its centre.
    width, height = picture.size
    rows = ((np.arange(height) + 0.5) * values.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * values.shape[1] / width).astype(int)
    values = values[rows][:, columns].astype(np.int64)
    present, which = np.unique(values, return_inverse=True)
    table = np.array([colours.rgb(colours.label_colour(v, labels.get(int(v)))) for v in present], float)
    line = np.zeros(values.shape, bool)
    for axis in (0, 1):
        differs = np.diff(values, axis=axis) != 0
        line[(slice(None),) * axis + (slice(None, -1),)] |= differs
        line[(slice(None),) * axis + (slice(1, None),)] |= differs
    strength = np.where(line, _LINE, _FILL) * (values != 0)
    base = np.asarray(picture, float)
    colour = table[which.reshape(values.shape)]
    return Image.fromarray((base + (colour - base) * strength[..., None]).round().astype(np.uint8))


def _heat(picture: Image.Image, values: np.ndarray) -> Image.Image:
    """Lay a heat map over a picture; where it is low the picture shines through."""
    values = np.nan_to_num(np.asarray(values, np.float32))
    values = np.asarray(Image.fromarray(values).resize(picture.size, Image.Resampling.BILINEAR))
    strength = 0.6 * np.sqrt(np.clip(values, 0, 1))[..., None]
    base = np.asarray(picture, float)
    return Image.fromarray((base + (colours.heat(values) - base) * strength).round().astype(np.uint8))


# Marks and words ------------------------------------------------------------------------------------------------


def _font(size: int):
    return ImageFont.load_default(size)


def _mark(picture: Image.Image, plane: str, shown: Grid, points, index: np.ndarray, scale: float) -> None:
    cut, row, column, upside_down = _LAYOUT[plane]
    pen = ImageDraw.Draw(picture)
    for point in points:
        place = shown.to_index(np.asarray(point, float)[-3:])
        if round(place[cut]) != index[cut]:
            continue
        x = (place[column] + 0.5) * shown.spacing[column] * scale
        y = (place[row] + 0.5) * shown.spacing[row] * scale
        y = picture.height - y if upside_down else y
        for colour, width in (("black", 3), ("#ffeb3b", 1)):
            pen.line((x - 7, y, x + 7, y), fill=colour, width=width)
            pen.line((x, y - 7, x, y + 7), fill=colour, width=width)


def letters(grid: Grid, plane: str, known: bool = True) -> tuple[str, str, str, str]:
    """Return the letters at the top, bottom, left and right of a picture of `plane`.

    ``"~"`` follows where the volume's axis is off the patient's by more than a degree; ``"?"`` where nothing is known.

    Examples
    --------
    >>> letters(Grid.from_spacing((1, 1, 1), (4, 4, 4)), "coronal")
    ('S', 'I', 'R', 'L')
    """
    if not known:
        return "?", "?", "?", "?"
    shown = grid.without_frames().reordered(*grid.order_for("LPS"))
    _, row, column, upside_down = _LAYOUT[plane]
    ends = []
    for axis in (row, column):
        angle = np.degrees(np.arccos(min(1.0, abs(shown.direction[axis, axis]))))
        ends.append([end + ("~" if angle > _OBLIQUE else "") for end in _ENDS[axis]])
    (top, bottom), (left, right) = ends
    return (bottom, top, left, right) if upside_down else (top, bottom, left, right)


def _annotate(picture: Image.Image, plane: str, image: Volume, shown: Grid, scale: float) -> None:
    """Write the letters at the edges, and draw a scale bar."""
    width, height = picture.size
    pen = ImageDraw.Draw(picture)
    top, bottom, left, right = letters(image.grid, plane, image.meta.get("orientation_known", True))
    style = {"font": _font(15), "fill": "#ffeb3b", "stroke_width": 1, "stroke_fill": "black"}
    if height >= 44:
        pen.text((width / 2, 3), top, anchor="mt", **style)
        pen.text((width / 2, height - 4), bottom, anchor="mb", **style)
    pen.text((5, height / 2), left, anchor="lm", **style)
    pen.text((width - 5, height / 2), right, anchor="rm", **style)
    if image.meta.get("spacing_known", True) and height >= 44:
        _scale_bar(pen, width, height, scale)


def _scale_bar(pen: ImageDraw.ImageDraw, width: int, height: int, scale: float) -> None:
    lengths = [n for n in (1, 2, 5, 10, 20, 50, 100, 200) if n * scale <= width / 4]
    if not lengths:
        return
    length = lengths[-1]
    y, end = height - 8, width - 8
    start = end - length * scale
    for colour, thick in (("black", 4), ("#ffeb3b", 2)):
        pen.line((start, y, end, y), fill=colour, width=thick)
    text = f"{length // 10} cm" if length >= 10 else f"{length} mm"
    style = {"font": _font(11), "fill": "#ffeb3b", "stroke_width": 1, "stroke_fill": "black"}
    pen.text(((start + end) / 2, y - 4), text, anchor="mb", **style)


def _position(plane: str, shown: Grid, index: np.ndarray, image: Volume) -> str:
    """Say where a plane lies: along the patient's axis, and which slice it is."""
    cut = _LAYOUT[plane][0]
    count = f"slice {index[cut] + 1} of {shown.spatial_shape[cut]}"
    if shown.spatial_shape[cut] == 1 or not image.meta.get("orientation_known", True):
        return count
    value = round(float(shown.to_world(index)[cut]), 1)
    return f"{_ENDS[cut][int(value >= 0)]} {abs(value):.1f} mm, {count}"
