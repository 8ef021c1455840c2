"""Boxes that a model found, as a Shapes layer: rectangles on the slices that they cover."""

import numpy as np
from napari.layers import Layer

from ..models.answers import Boxes
from ..volume import Volume
from .appearance import label_colour
from .layers import volume_to_layer

# Rectangles that are drawn at most: more would hold napari up.
MOST = 4000
_EPSILON = 1e-6


def boxes_layer(found: Boxes, image: Volume, name: str | None = None) -> tuple[Layer | None, str | None]:
    """Make the layer that shows boxes over the image they were found in; safe, and best, in the background.

    Parameters
    ----------
    found : Boxes
        What a model found.
    image : Volume
        Where: the layer gets its scale and place.
    name : str, optional
        Of the layer.

    Returns
    -------
    layer : Layer or None
        Shapes with ``name``, ``score`` and ``box`` (number of the row) as features; None where there is nothing.
    note : str or None
        What was left out, as there were too many.
    """
    corners, rows, note = _rectangles(found, image)
    if not corners:
        return None, None
    _, made, _ = volume_to_layer(image.replace(kind="image"))
    kept = ("scale", "translate", "units", "axis_labels")
    chosen = [found.rows[row] for row in rows]
    colours = [label_colour(r["label"], found.card.output.labels.get(r["label"])) for r in chosen]
    arguments = {
        **{key: made[key] for key in kept},
        "name": name or f"{image.name} · {found.card.name}",
        "shape_type": "rectangle",
        "edge_color": colours,
        "face_color": "transparent",
        "edge_width": max(0.5, min(image.grid.spatial_shape[1:]) / 256),
        "features": {
            "name": [r["name"] for r in chosen],
            "score": [r["score"] for r in chosen],
            "box": rows,
        },
        "text": {"string": "{name} {score:.2f}", "size": 9, "anchor": "upper_left", "color": "yellow"},
    }
    return Layer.create(np.asarray(corners), arguments, "shapes"), note


def shown_box(row, image: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Return low and high side of a box as indices of the layer that shows its image, (z, y, x)."""
    order, flips = image.grid.order_for("LPS")
    low, high = (np.array([row[f"{axis}{n}"] for axis in "zyx"], float) for n in "12")
    low, high = low[list(order)], high[list(order)]
    last = np.array(image.grid.spatial_shape)[list(order)] - 1
    return np.where(flips, last - high, low), np.where(flips, last - low, high)


def _rectangles(found: Boxes, image: Volume) -> tuple[list[list[tuple[float, ...]]], list[int], str | None]:
    """Return four corners of every rectangle, and the row each belongs to; the best boxes first."""
    corners: list[list[tuple[float, ...]]] = []
    rows: list[int] = []
    for number, row in enumerate(found.rows):
        low, high = shown_box(row, image)
        # Slice k reaches from k - 0.5 to k + 0.5.
        first, last = int(np.floor(low[0] + 0.5 + _EPSILON)), int(np.ceil(high[0] - 0.5 - _EPSILON))
        last = max(first, last)
        if len(corners) + last - first + 1 > MOST and corners:
            left = len(found.rows) - number
            return corners, rows, f"{left} of {len(found.rows)} boxes are in the table and not drawn: there are many"
        frame = () if image.grid.frames is None else (float(row["frame"]),)
        for plane in range(first, last + 1):
            here = (*frame, float(plane))
            sides = [(low[1], low[2]), (low[1], high[2]), (high[1], high[2]), (high[1], low[2])]
            corners.append([(*here, float(y), float(x)) for y, x in sides])
            rows.append(number)
    return corners, rows, None
