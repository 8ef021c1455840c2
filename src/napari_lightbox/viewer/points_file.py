"""Points, such as seeds, become a table of positions in the patient."""

import csv
from io import StringIO
from pathlib import Path

import numpy as np
from napari.layers import Layer, Points

from ..errors import InputError
from ..io._atomic import replacing
from .layers import display_matrix, is_preview, layer_kind, plain, shown_grid
from .seeds import points_to_seeds

TABLE = ".csv"


def points_table(points, viewer) -> list[tuple]:
    """Return the points of a layer as rows of x, y, z in LPS mm, with the frame last if there are frames.

    Points know nothing of the patient: they lie where the volume says that they were drawn over.
    """
    points = plain(points)
    if len(points.data) == 0:
        raise InputError(f"layer {points.name!r} holds no points: there is nothing to save")
    image = _under(points, viewer)
    if image is None:
        raise InputError(f"layer {points.name!r} lies over no open volume, so its place in the patient is not known")
    seeds = points_to_seeds(points, image)
    frames = [int(row[0]) if len(row) == 4 else "" for row in seeds]
    return [(*(float(v) for v in row[:-4:-1]), frame) for row, frame in zip(seeds, frames, strict=True)]


def _under(points: Points, viewer) -> Layer | None:
    """Return the topmost volume, a visible one if there is one, whose box holds the points."""
    world = np.array([points.data_to_world(p) for p in points.data])[:, -3:]
    found = []
    for layer in reversed(plain(viewer).layers):
        if layer_kind(layer) not in ("image", "labels") or shown_grid(layer) is None or is_preview(layer):
            continue
        index = (np.linalg.inv(display_matrix(layer)) @ np.column_stack([_three(world), np.ones(len(world))]).T)[:3]
        if world.shape[1] < 3:
            index[0] = 0
        size = np.array(shown_grid(layer).spatial_shape)[:, None]
        if ((index > -1) & (index < size)).all():
            found.append(layer)
    return min(found, key=lambda layer: not layer.visible, default=None)


def _three(world: np.ndarray) -> np.ndarray:
    return world if world.shape[1] == 3 else np.column_stack([np.zeros(len(world)), world])


def write_points(rows: list[tuple], path: Path) -> None:
    """Write rows of `points_table` as CSV: number, x, y, z in LPS mm, frame (empty where there are no frames)."""
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("point", "x_lps_mm", "y_lps_mm", "z_lps_mm", "frame"))
    for number, (x, y, z, frame) in enumerate(rows, start=1):
        table.writerow((number, f"{x:.6f}", f"{y:.6f}", f"{z:.6f}", frame))
    with replacing(Path(path)) as file:
        file.write(text.getvalue().encode())
