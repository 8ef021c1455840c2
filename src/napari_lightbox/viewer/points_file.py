"""Points, such as seeds, become a table of positions in the patient, and come back onto their image."""

import csv
from io import StringIO
from pathlib import Path

import numpy as np
from napari.layers import Layer, Points

from ..errors import FileError, InputError
from ..io._atomic import replacing
from .layers import LayerTuple, display_matrix, is_preview, layer_kind, plain, shown_grid
from .seeds import new_points, points_to_seeds

# Not .csv alone, which belongs to napari's own tables of points.
TABLE = ".points.csv"
HEADER = ("point", "x_lps_mm", "y_lps_mm", "z_lps_mm", "frame")


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
    table.writerow(HEADER)
    for number, (x, y, z, frame) in enumerate(rows, start=1):
        table.writerow((number, f"{x:.6f}", f"{y:.6f}", f"{z:.6f}", frame))
    with replacing(Path(path)) as file:
        file.write(text.getvalue().encode())


# Reading ----------------------------------------------------------------------------------------------------------


def is_table(path: str | Path) -> bool:
    """Whether a file is a table that `write_points` wrote: it ends in .csv and begins with the same header."""
    path = Path(path)
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.readline(200).decode("utf-8-sig", "replace").strip() == ",".join(HEADER)


def read_points(path: Path, viewer) -> LayerTuple:
    """Read a table of `write_points` as a Points layer over the volume of a viewer that the points lie in.

    Parameters
    ----------
    path : Path
        The file.
    viewer : napari.Viewer
        Of its volumes the active one is taken if it holds all points, else the topmost that does.

    Returns
    -------
    (data, dict, "points")
        As napari takes it from a reader.

    Raises
    ------
    FileError
        If the table is damaged, or no open volume holds its points.
    """
    points, frames = _parsed(Path(path))
    image = _holding(points, frames, viewer)
    if image is None:
        raise FileError(f"{path}: no open volume holds these points: open the image first that they were drawn on")
    index = shown_grid(image).to_index(points)
    if image.ndim == 4 and frames is not None:
        index = np.column_stack([frames, index])
    made = new_points(image, Path(path).name.removesuffix(".csv").removesuffix(".points") or "Seeds")
    # Points without a frame are in all of them.
    axes = min(index.shape[1], image.ndim)
    names = ("scale", "translate", "units", "axis_labels")
    names += ("rotate", "shear", "affine") if axes == image.ndim else ()
    place = {name: getattr(made, name) for name in names}
    place |= {name: place[name][-axes:] for name in names[:4]}
    looks = {"face_color": made.current_face_color, "border_color": made.current_border_color}
    return index[:, -axes:], {"name": made.name, "size": float(made.current_size), **place, **looks}, "points"


def _parsed(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the points (n, 3), z, y, x in LPS mm, and their frames or None."""
    try:
        rows = [row for row in csv.reader(StringIO(path.read_text("utf-8-sig"))) if row][1:]
        points = np.array([[float(value) for value in row[3:0:-1]] for row in rows])
        named = [row[4].strip() for row in rows]
        frames = np.array([int(value) for value in named]) if all(named) else None
    except (OSError, ValueError, IndexError) as error:
        raise FileError(f"{path}: damaged table of points ({error}): save it again, or correct the row") from None
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise FileError(f"{path}: the table holds no points: each row needs {', '.join(HEADER[1:4])}")
    return points, frames


def _holding(points: np.ndarray, frames: np.ndarray | None, viewer) -> Layer | None:
    viewer = plain(viewer)
    layers = list(reversed(viewer.layers)) if viewer is not None else []
    active = viewer.layers.selection.active if layers else None
    layers.sort(key=lambda layer: (layer is not active, not layer.visible))
    for layer in layers:
        grid = shown_grid(layer) if layer_kind(layer) in ("image", "labels") and not is_preview(layer) else None
        if grid is None or (frames is not None and (layer.ndim < 4 or not (frames < grid.shape[0]).all())):
            continue
        index = grid.to_index(points)
        if ((index > -1) & (index < np.array(grid.spatial_shape))).all():
            return layer
    return None
