"""One slice of what an operation would give, computed from no more of the volume than decides it.

`slice_of` equals the same slice of what `apply` gives. How little it takes is read off the operation's row: the slice
itself where slices are worked on one by one, a slab of the width of the halo for local operations, the slice and what
is known of the whole volume where the row says how the two go together (`Operation.preview`), and the whole volume
otherwise. What is known of the whole volume is kept, so that the next slice needs no second look at it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from . import remarks
from .apply import (
    WHOLE,
    choose_plane,
    chosen_in,
    cut_to_slice,
    layer_arguments,
    name_classes,
    on_volumes,
    require_kind,
    result_name,
    run_on_frame,
    settled_slices,
    with_others,
    wrap,
)
from .catalogue import Operation, operation
from .errors import InputError
from .geometry import Grid
from .ops import _tiles
from .volume import Volume

Reach = Literal["slice", "slab", "statistics", "volume"]


@dataclass(frozen=True)
class Where:
    """A slice of a volume: stored axis (0, 1, 2 for z, y, x), index along it, and frame."""

    axis: int
    index: int
    frame: int = 0


@dataclass
class Known:
    """What was found out about a whole volume for a preview; ask `fits` before it is used for other parameters."""

    key: tuple = ()
    frames: dict[int, Any] = field(default_factory=dict)
    # By frame, what was chosen for each of its slices.
    slices: dict[int, Any] = field(default_factory=dict)
    # By frame, the sentences that were said meanwhile: they hold for every slice.
    notes: dict[int, list[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything was found out."""
        return bool(self.frames or self.slices)

    def of(self, frame: int, find: Callable[[], Any], *, large: bool) -> Any:
        """Return what is known of a frame, found out by `find` the first time; of what is large, one frame is kept."""
        if frame not in self.frames:
            with remarks.collecting() as said:
                found = find()
            self.frames = {frame: found} if large else {**self.frames, frame: found}
            self.notes[frame] = said.notes
        for sentence in self.notes.get(frame, ()):
            remarks.note(sentence)
        return self.frames[frame]


def reach(
    name: str,
    volume: Volume | None = None,
    axis: int | None = None,
    plane: str | int | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Reach:
    """Say how much of a volume decides one slice of an operation's result.

    Parameters
    ----------
    name : str
        Name of the operation.
    volume : Volume, optional
        Together with `axis`: the answer for this volume, seen across this stored axis. Without: the best case.
    axis : int, optional
        Stored axis that the slice is a cut through.
    plane : str or int, optional
        As for `apply`.
    parameters : mapping, optional
        The answer for these; otherwise for parameters of which none is left to the operation to choose.

    Returns
    -------
    {"slice", "slab", "statistics", "volume"}
        The slice alone; the slice and its neighbours; the slice and numbers of the whole volume; all voxels.

    Examples
    --------
    >>> reach("median"), reach("notch"), reach("region_grow")
    ('slab', 'slice', 'volume')
    """
    row = operation(name)
    if row.on_volumes:
        return "volume"
    across = _plane_axis(row, volume, plane) if volume is not None else (0 if row.planes else None)
    if across is not None and (axis is None or across == axis):
        open_ = row.settle is not None and parameters is not None and row.settle[0](**parameters)
        return "statistics" if open_ and (volume is None or volume.grid.spatial_shape[across] > 1) else "slice"
    if row.halo is not None:
        return "slab"
    return "statistics" if row.preview is not None and across is None else "volume"


def slice_of(
    name: str,
    volume: Volume,
    where: Where,
    *,
    plane: str | int | None = None,
    known: Known | None = None,
    **parameters: Any,
) -> Volume:
    """Compute one slice of an operation's result.

    Parameters
    ----------
    name : str
        Name of the operation.
    volume : Volume
        What it works on.
    where : Where
        Which slice; for an operation on the geometry a slice of the result, the nearest one where it has fewer.
    plane : str or int, optional
        As for `apply`.
    known : Known, optional
        Takes up what is found out about the whole volume, and gives it back in the next call: for the same volume and
        parameters only.
    **parameters
        As for `apply`; further volumes and seeds by name.

    Returns
    -------
    Volume
        One slice thick, at its place in the patient; a spectrum lies on its image. Equals the slice of what `apply`
        gives in every voxel (to the row's tolerance in the last digits where that has one).

    Raises
    ------
    InputError
        As `apply`, or if there is no such slice.

    Examples
    --------
    >>> volume = Volume.from_array(np.arange(27).reshape(3, 3, 3) % 5, spacing=(1, 1, 1))
    >>> slice_of("median", volume, Where(0, 1), size=3).data.tolist()
    [[[3, 2, 1], [2, 2, 2], [1, 2, 2]]]
    """
    row = operation(name)
    require_kind(row, volume)
    values = row.complete(with_others(row, (), parameters))
    plane = choose_plane(row, volume, plane)
    known = Known() if known is None else known
    if row.on_volumes:
        made = _moved(row, volume, where, values, known)
    else:
        made = _filtered(row, volume, where, values, plane, known)
    if row.result == "labels":
        made = made.replace(labels=name_classes(row, made.data))
    return made.replace(name=result_name(row, volume, values))


def _plane_axis(row: Operation, volume: Volume, plane: str | int | None) -> int | None:
    """Return the stored axis across which slices are worked on one by one, or None."""
    plane = choose_plane(row, volume, plane)
    if plane not in (None, WHOLE):
        return volume.grid.plane_axis(plane)
    # As `apply`: a frame of a single slice is worked on as a plane.
    return volume.grid.spatial_shape.index(1) if volume.is_2d else None


# Operations on arrays -------------------------------------------------------------------------------------------


def _filtered(row: Operation, volume: Volume, where: Where, values: dict, plane, known: Known) -> Volume:
    find, _, _ = layer_arguments(row, volume, values)
    frame = volume.frame(where.frame)
    shape, axis = frame.grid.spatial_shape, where.axis
    if not 0 <= where.index < shape[axis]:
        raise InputError(f"slice {where.index} does not exist: there are {shape[axis]} along axis {'zyx'[axis]}")
    values = {**values, **{name: get(where.frame) for name, get in find.items()}}
    grid = _one_slice(frame.grid, axis, where.index)
    seeds = [p.name for p in row.parameters if p.role == "seeds" and values.get(p.name) is not None]
    if any(len(values[name]) == 0 for name in seeds):
        data: np.ndarray = np.zeros(grid.shape, np.uint8)
    else:
        across = _plane_axis(row, volume, plane)
        data = _slice(row, np.asarray(frame.data), where, values, across, frame.grid.spacing, known)
    part = frame.replace(data=np.zeros(grid.shape, frame.data.dtype), grid=grid)
    made = wrap(row, part, data)
    if row.result != "spectrum":
        return made
    # A spectrum lies over its image, slice over slice.
    known_place = {key: part.meta[key] for key in ("spacing_known", "orientation_known") if key in part.meta}
    return part.replace(data=data, kind="image", labels={}, meta={"unit": made.meta["unit"], **known_place})


def _slice(row: Operation, data: np.ndarray, where: Where, values: dict, across, spacing, known: Known) -> np.ndarray:
    """Compute a slice of one frame's result; it keeps its axis, of length 1."""
    axis, index = where.axis, where.index
    roles = row.roles
    injected = {"spacing": spacing} if row.wants_spacing else {}
    if across == axis:
        cut = {name: cut_to_slice(value, roles[name], axis, index) for name, value in values.items()}
        if any(roles[name] == "seeds" and cut[name] is not None and len(cut[name]) == 0 for name in cut):
            return np.expand_dims(np.zeros(np.delete(data.shape, axis), np.uint8), axis)
        if injected:
            injected = {"spacing": tuple(np.delete(spacing, axis))}
        if where.frame not in known.slices:
            known.slices[where.frame] = settled_slices(row, data, values, axis)
        chosen = chosen_in(known.slices[where.frame], index)
        return np.expand_dims(row.function(np.take(data, index, axis), **(cut | injected | chosen)), axis)
    if row.halo is not None and not any(roles[name] == "seeds" and values[name] is not None for name in values):
        halo = row.halo({**values, "spacing": spacing})
        width = int(halo[axis] if isinstance(halo, tuple | list) else halo)
        places, middle = _slab(index, data.shape[axis], width, values.get("mode") == "wrap")
        slab = _within(data, axis, places)
        cut = {n: _within(v, axis, places) if roles[n] in ("image", "labels") else v for n, v in values.items()}
        with _tiles.only(axis, middle, slab.shape):
            if across is None:
                made = row.function(slab, **cut, **injected)
            else:
                made = _on_frame(row, slab, cut, spacing, across)
        return np.take(made, [middle], axis)
    if row.preview is not None and across is None:
        whole, part = row.preview
        found = known.of(where.frame, lambda: whole(data, **values, **injected), large=False)
        cut = {n: _within(v, axis, [index]) if roles[n] in ("image", "labels") else v for n, v in values.items()}
        return part(_within(data, axis, [index]), found, **cut, **injected)
    found = known.of(where.frame, lambda: _on_frame(row, data, values, spacing, across), large=True)
    return np.take(found, [index], axis)


def _on_frame(row: Operation, data: np.ndarray, values: dict, spacing, across: int | None) -> np.ndarray:
    """Run an operation on a frame, or a slab of it, and pass on what it says."""
    heard: list[remarks.Part] = []
    made = run_on_frame(row, data, values, spacing, across, heard)
    for sentence in remarks.sentences(heard):
        remarks.note(sentence)
    return made


def _slab(index: int, size: int, halo: int, wrap: bool) -> tuple[slice | np.ndarray, int]:
    """Return the places along an axis that decide slice `index`, and which of them it is.

    A slab that reaches the end of the volume ends there, so that the function meets the true border.
    """
    if 2 * halo + 1 >= size:
        return slice(0, size), index
    low, high = index - halo, index + halo + 1
    if wrap and (low < 0 or high > size):
        return np.arange(low, high) % size, halo
    return slice(max(0, low), min(size, high)), index - max(0, low)


def _within(value: Any, axis: int, places: slice | np.ndarray | list) -> Any:
    return None if value is None else value[(slice(None),) * axis + (places,)]


def _one_slice(grid: Grid, axis: int, index: int) -> Grid:
    """Return the grid of one slice."""
    corner = np.zeros(3)
    corner[axis] = index
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_world(corner)
    return Grid(affine, tuple(1 if a == axis else n for a, n in enumerate(grid.spatial_shape)))


# Operations on the geometry -------------------------------------------------------------------------------------


def _moved(row: Operation, volume: Volume, where: Where, values: Mapping[str, Any], known: Known) -> Volume:
    """Compute the whole result of one frame, and return the slice of it that lies nearest to a slice of the input."""
    made = known.of(where.frame, lambda: on_volumes(row, volume.frame(where.frame), dict(values)), large=True)
    corner = (np.array(volume.grid.spatial_shape) - 1) / 2
    corner[where.axis] = where.index
    point = volume.grid.to_world(corner)
    axis = _like_axis(volume.grid, where.axis, made.grid)
    index = int(np.floor(made.grid.to_index(point)[axis] + 0.5))
    if not 0 <= index < made.grid.spatial_shape[axis]:
        raise InputError("the result has no voxels in this slice: scroll to where it lies")
    data = np.take(np.asarray(made.data), [index], axis)
    return made.replace(data=data, grid=_one_slice(made.grid, axis, index))


def _like_axis(grid: Grid, axis: int, other: Grid) -> int:
    """Return the stored axis of `other` that is shown where `axis` of `grid` is."""
    return other.order_for("LPS")[0][grid.order_for("LPS")[0].index(axis)]
