"""Which way the patient lies on the canvas: letters at its edges, planes, and positions in words.

Pure maths on what `layers` notes of a layer. Directions are (3, 3) arrays whose column k is the direction in the
patient, (z, y, x) in LPS, of the viewer's world axis k (the last three of its axes).
"""

from dataclasses import dataclass

import numpy as np

from ..geometry import PLANES, Grid
from .layers import display_matrix, layer_kind, layer_record, shown_grid

# An axis that is off the patient's by more than this, degrees, is marked as oblique. Below it an edge 250 mm away is
# off by less than 4.4 mm.
OBLIQUE = 1.0
# Slices this many times as far apart as the voxels within them were acquired as slices.
THICK = 1.5
# Letters of the two ends of the patient's axes z, y, x: (towards +, towards -).
LETTERS = (("S", "I"), ("P", "A"), ("L", "R"))
UNKNOWN = "?"
# For each plane: the patient's axes (z = 0, y = 1, x = 2) that run down and across the canvas, and the letters that
# belong at the bottom and at the right: radiological, seen from the feet, from the front and from the patient's left.
_LAYOUT = {
    "axial": ((1, "P"), (2, "L")),
    "coronal": ((0, "I"), (2, "L")),
    "sagittal": ((0, "I"), (1, "P")),
}


@dataclass(frozen=True)
class Edges:
    """The letters at the four edges of the canvas."""

    top: str = ""
    bottom: str = ""
    left: str = ""
    right: str = ""


def world_directions(layer) -> np.ndarray | None:
    """Return the directions in the patient of the viewer's last three world axes, by a layer of ours.

    Parameters
    ----------
    layer : Image or Labels layer
        Edits of its transform by hand (rotation, flips) are taken into account.

    Returns
    -------
    (3, 3) ndarray or None
        Column k: unit direction (z, y, x) in LPS of world axis k. None if the layer is not ours, or if its file did
        not say how the patient lies.
    """
    grid = shown_grid(layer)
    if grid is None or not layer_record(layer)["meta"].get("orientation_known", True):
        return None
    linear = grid.affine[:3, :3] @ np.linalg.inv(display_matrix(layer)[:3, :3])
    return linear / np.linalg.norm(linear, axis=0)


def on_screen(layer, viewer) -> bool:
    """Whether a layer is visible and has a slice where the viewer's sliders stand."""
    if not layer.visible:
        return False
    if layer_kind(layer) not in ("image", "labels"):
        return True
    index = np.asarray(layer.world_to_data(np.asarray(viewer.dims.point, dtype=float)), dtype=float)
    shape = (layer.data[0] if layer.multiscale else layer.data).shape
    own = [axis - viewer.dims.ndim + layer.ndim for axis in viewer.dims.not_displayed]
    return all(0 <= round(float(index[axis])) < shape[axis] for axis in own if axis >= 0)


def topmost(layers, viewer):
    """Return the layer that is seen first: on screen before off it, pictures before probabilities and labels.

    None where `layers` is empty.
    """

    def rank(pair) -> tuple:
        height, layer = pair
        record = layer_record(layer)
        picture = layer_kind(layer) == "image" and (record is None or record["kind"] == "image")
        return on_screen(layer, viewer), layer.visible, picture, height

    return max(enumerate(layers), key=rank)[1] if layers else None


def speaker(viewer):
    """Return the layer that says how the patient lies on the canvas: the active one, else the topmost of ours.

    The active one only where it is on screen, if any other is. A Points, Shapes or new Labels layer lies in the world
    of the volumes below it. An Image layer that is not ours speaks for itself, and has nothing to say. None if no layer
    of ours is open.
    """
    active = viewer.layers.selection.active
    ours = [layer for layer in viewer.layers if layer_kind(layer) in ("image", "labels") and layer_record(layer)]
    if active is not None and (active in ours or layer_kind(active) == "image"):
        seen = on_screen(active, viewer) or not any(on_screen(layer, viewer) for layer in ours)
        if seen:
            return active if active in ours else None
    return topmost(ours, viewer)


def _axes(directions: np.ndarray) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    affine = np.eye(4)
    affine[:3, :3] = directions
    return Grid(affine, (1, 1, 1)).closest_axes()


def axis_letters(directions: np.ndarray | None, axis: int) -> tuple[str, str]:
    """Return the letters of the (lower, upper) end of world axis 0, 1 or 2 (negative: frames, which have none).

    ``"~"`` follows where the axis is off the patient's by more than `OBLIQUE` degrees; ``"?"`` where nothing is known.

    Examples
    --------
    >>> axis_letters(np.eye(3), 2)
    ('R', 'L')
    """
    if axis < 0:
        # The frame axis: no side of the patient lies at its ends.
        return "", ""
    if directions is None:
        return UNKNOWN, UNKNOWN
    axis_of_world, flips = _axes(directions)
    world = axis_of_world.index(axis)
    plus, minus = LETTERS[world]
    cosine = min(1.0, abs(directions[world, axis]))
    mark = "~" if np.degrees(np.arccos(cosine)) > OBLIQUE else ""
    return (plus + mark, minus + mark) if flips[world] else (minus + mark, plus + mark)


def edge_letters(directions: np.ndarray | None, rows: int, columns: int, orientation: tuple[str, str]) -> Edges:
    """Return what belongs at the edges of the canvas.

    Parameters
    ----------
    directions : (3, 3) ndarray or None
        As `world_directions` gives them.
    rows, columns : int
        World axis (0, 1, 2 of the last three) that runs along the vertical and the horizontal of the canvas.
    orientation : (str, str)
        Where they run: ``"down"`` or ``"up"``, and ``"right"`` or ``"left"``; napari's ``camera.orientation2d``.

    Examples
    --------
    >>> edge_letters(np.eye(3), 1, 2, ("down", "right"))
    Edges(top='A', bottom='P', left='R', right='L')
    """
    top, bottom = axis_letters(directions, rows)
    left, right = axis_letters(directions, columns)
    if str(orientation[0]) == "up":
        top, bottom = bottom, top
    if str(orientation[1]) == "left":
        left, right = right, left
    return Edges(top, bottom, left, right)


def plane_view(directions: np.ndarray | None, plane: str) -> tuple[tuple[int, int, int], tuple[str, str]]:
    """Say how to look at a plane: anterior or head at the top, patient's right (or anterior) on the left.

    Parameters
    ----------
    directions : (3, 3) ndarray or None
        As `world_directions` gives them; where None, axes (z, y, x) are taken as they come.
    plane : {"axial", "coronal", "sagittal"}

    Returns
    -------
    order : tuple of int
        World axes (0, 1, 2): the sliced one, the one along the vertical, the one along the horizontal.
    orientation : (str, str)
        For ``camera.orientation2d``.
    """
    axis_of_world, flips = ((0, 1, 2), (False,) * 3) if directions is None else _axes(directions)
    (row, bottom), (column, right) = _LAYOUT[plane]
    sliced = PLANES[plane]

    def runs_towards(world: int, letter: str) -> bool:
        return LETTERS[world][int(flips[world])] == letter

    vertical = "down" if runs_towards(row, bottom) else "up"
    horizontal = "right" if runs_towards(column, right) else "left"
    return (axis_of_world[sliced], axis_of_world[row], axis_of_world[column]), (vertical, horizontal)


def depth_orientation(directions: np.ndarray, displayed: tuple[int, int, int], orientation: tuple[str, str]) -> str:
    """Return where the depth axis must run, ``"away"`` or ``"towards"``, for a 3D picture that is no mirror image.

    Parameters
    ----------
    directions : (3, 3) ndarray
        As `world_directions` gives them.
    displayed : tuple of int
        World axes (0, 1, 2) along depth, vertical and horizontal.
    orientation : (str, str)
        napari's ``camera.orientation2d``.

    Examples
    --------
    >>> depth_orientation(np.eye(3), (0, 1, 2), ("down", "right"))
    'away'
    """
    depth, vertical, horizontal = (directions[::-1, axis] for axis in displayed)
    up = -vertical if str(orientation[0]) == "down" else vertical
    right = -horizontal if str(orientation[1]) == "left" else horizontal
    # Right, up and towards the eye are a right-handed system, and so are the patient's x, y, z.
    return "towards" if np.linalg.det([right, up, depth]) > 0 else "away"


def plane_shown(directions: np.ndarray | None, sliced: int) -> str:
    """Return the name of the plane that slices along world axis `sliced` (0, 1, 2) show; empty where unknown."""
    if directions is None:
        return ""
    return list(PLANES)[_axes(directions)[0].index(sliced)]


def natural_plane(grid: Grid) -> str:
    """Return the plane that a volume is best looked at first: that of its single slice or of its thick slices.

    ``"axial"`` unless it is one slice, or its slices lie more than 1.5 times as far apart as the voxels within them.
    """
    axis_of_world, _ = grid.closest_axes()
    shape, spacing = grid.spatial_shape, np.asarray(grid.spacing)
    singles = [axis for axis in range(3) if shape[axis] == 1]
    thickest = int(np.argmax(spacing))
    if len(singles) == 1:
        axis = singles[0]
    elif spacing[thickest] > THICK * np.delete(spacing, thickest).max():
        axis = thickest
    else:
        return "axial"
    return list(PLANES)[axis_of_world.index(axis)]


def position_text(point: np.ndarray, *, orientation_known: bool = True, spacing_known: bool = True) -> str:
    """Write a point (z, y, x) in LPS mm as people read it: x, y, z with the side of the patient.

    Examples
    --------
    >>> position_text(np.array([101.2, 45.0, -12.3]))
    'R 12.3  P 45.0  S 101.2 mm'
    """
    values = [round(float(v), 1) + 0.0 for v in reversed(np.asarray(point))]
    unit = "mm" if spacing_known else "px"
    if orientation_known:
        names = [LETTERS[world][int(value < 0)] for world, value in zip((2, 1, 0), values, strict=True)]
        return "  ".join(f"{name} {abs(value):.1f}" for name, value in zip(names, values, strict=True)) + f" {unit}"
    return "  ".join(f"{name} {value:.1f}" for name, value in zip("xyz", values, strict=True)) + f" {unit}"
