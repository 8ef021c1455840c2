"""Run one operation on one volume: frames, planes, spacing, grid and history, in this one place."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import remarks
from .catalogue import Operation, operation
from .errors import InputError
from .geometry import Grid
from .ops import _check, _regions, _tiles
from .progress import track
from .volume import Label, Volume, map_frames

# The plane that is none: for operations that otherwise work plane by plane.
WHOLE = "volume"


def apply(
    name: str,
    volume: Volume,
    *others: Volume,
    plane: str | int | None = None,
    device: str = "cpu",
    **parameters: Any,
) -> Volume:
    """Run an operation of the catalogue.

    Parameters
    ----------
    name : str
        Name of the operation: ``"median"``. ``lightbox apply --help`` lists them.
    volume : Volume
        What it works on: 2D, 3D or 4D, on any grid. It is not changed.
    *others : Volume
        Further volumes, for the arguments that take one (a mask, a volume to resample onto), in their order; they may
        also be given by name.
    plane : {"axial", "coronal", "sagittal", "z", "y", "x", "volume"} or int, optional
        Run slice by slice in this plane of the body (or stored axis), or on the whole ``"volume"``: on each 3D frame as
        one array. That is also the default, except for operations made for planes: those use ``"axial"``.
    device : str
        ``"cpu"``, or a graphics card for the operations that know how: ``"cuda"``, ``"cuda:1"``. It is not recorded:
        the step can be replayed anywhere.
    **parameters
        Parameters of the operation. Seeds are world points (z, y, x) in LPS mm, or (frame, z, y, x).

    Returns
    -------
    Volume
        The result on its grid, with the step added to its history, and what the operation has to say added to
        ``meta["notes"]``.

    Raises
    ------
    InputError
        If a name, a parameter or a volume does not fit.

    Examples
    --------
    >>> volume = Volume.from_array(np.eye(8, dtype=np.int16)[None], spacing=(1, 1, 1))
    >>> int(apply("median", volume, size=3).data.max())
    1
    """
    row = operation(name)
    if not isinstance(volume, Volume):
        raise InputError(f"{name} needs a Volume, not {type(volume).__name__}: wrap arrays with Volume.from_array")
    require_kind(row, volume)
    values = row.complete(with_others(row, others, parameters))
    plane = choose_plane(row, volume, plane)
    arrays, recorded, inputs = layer_arguments(row, volume, values)
    values |= _where(row, device)
    heard: list[remarks.Part] = []
    if row.on_volumes:
        with remarks.collecting() as said:
            result = on_volumes(row, volume, values)
        said.notes = list(dict.fromkeys(said.notes))  # every frame says the same
        heard.append(remarks.Part(said))
    else:
        result = _on_arrays(row, volume, values, arrays, plane, heard)
    if row.result == "labels":
        named = row.names(volume, result, {**values, "plane": plane}) if row.names else name_classes(row, result.data)
        result = result.replace(labels=named)
    elif result.kind == "probability" and not (result.data.min() >= 0 and result.data.max() <= 1):
        result = result.replace(kind="image")
    step = {
        "operation": name,
        "parameters": recorded,
        "plane": plane,
        "inputs": [volume.name, *inputs],
        "kind": volume.kind,
        "grid": volume.grid.as_dict(),
        "version": _version(),
    }
    if chosen := _chosen(row, heard):
        # What was found is written down, so that the step does the same again; and that it was not given.
        step |= {"parameters": {**recorded, **chosen}, "asked": {name: recorded[name] for name in chosen}}
    if notes := remarks.sentences(heard):
        step |= {"notes": notes}
        result = result.replace(meta={**result.meta, "notes": [*result.meta.get("notes", ()), *notes]})
    return result.replace(name=result_name(row, volume, values), history=(*volume.history, step))


def _where(row: Operation, device: str) -> dict[str, str]:
    """Return the argument that says where to compute, for an operation that takes it."""
    if device == "cpu":
        return {}
    if not row.takes_device:
        raise InputError(f"{row.name} computes on the processor only, not on {device!r}: leave device out")
    return {"device": device}


def require_kind(row: Operation, volume: Volume) -> None:
    """Refuse labels where grey values are worked on, and grey values where labels are (bool may be either)."""
    if row.input.role == "image" and volume.kind == "labels":
        raise InputError(
            f"{row.name} works on grey values, and {volume.name!r} holds labels: choose an image, or open the file "
            "with kind='image' if its numbers are grey values"
        )
    if row.input.role == "labels" and volume.kind != "labels" and np.dtype(volume.data.dtype).kind != "b":
        raise InputError(
            f"{row.name} works on labels, and {volume.name!r} holds grey values: segment it first (otsu), or open the "
            "file with kind='labels' if its numbers are labels"
        )


def result_name(row: Operation, volume: Volume, values: Mapping[str, Any]) -> str:
    """Name a result after its input, the operation, and the first number (or word of its own) that was chosen."""
    for p in row.parameters:
        value = values[p.name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        word = isinstance(value, str) and p.annotation is str and 0 < len(value) <= 12
        applies = all(values[other] in chosen for other, chosen in p.hints.get("only", {}).items())
        if p.role == "value" and applies and (number or word):
            shown = f"{value:g}" if number else value
            return f"{volume.name} · {row.title.lower()} {shown}"
    return f"{volume.name} · {row.title.lower()}"


def _version() -> str:
    from . import __version__

    return __version__


def with_others(row: Operation, others: tuple, parameters: dict) -> dict:
    """Give the volumes that came without a name the names of the arguments that take one."""
    free = [p.name for p in row.parameters if p.role in ("image", "labels", "volume") and p.name not in parameters]
    if len(others) > len(free):
        raise InputError(f"{row.name} takes {len(free)} further volumes, not {len(others)}")
    return {**parameters, **dict(zip(free, others, strict=False))}


def choose_plane(row: Operation, volume: Volume, plane: str | int | None) -> str | int | None:
    """Return the plane that is worked in: the one that was asked for, or the operation's own."""
    if plane is None:
        return "axial" if row.planes and not volume.is_2d else None
    if row.on_volumes:
        raise InputError(f"{row.name} moves whole volumes: leave plane={plane!r} out")
    if plane == WHOLE:
        if row.planes and not row.whole:
            raise InputError(f"{row.name} works on planes only: choose axial, coronal or sagittal as plane")
        return WHOLE if row.planes and not volume.is_2d else None
    volume.grid.plane_axis(plane)  # an unknown name is refused before any work
    return plane


def layer_arguments(row: Operation, volume: Volume, values: dict) -> tuple[dict, dict, list[str]]:
    """Check and convert the arguments that are volumes or points.

    Returns
    -------
    arrays : dict
        Name to a function of the frame index that gives the array for it.
    recorded : dict
        All parameters as plain values, for the history.
    inputs : list of str
        Names of the other volumes.
    """
    arrays: dict = {}
    recorded = {k: plain(v) for k, v in values.items()}
    inputs: list[str] = []
    taken = input_names(volume.history)
    arrays |= {name: lambda frame, value=value: value for name, value in row.told(volume).items()}
    for p in row.parameters:
        value = values[p.name]
        if p.role == "frequencies":
            arrays[p.name] = _frequency_finder(value, p.name, volume.frame_count)
        if value is None or not p.is_layer:
            continue
        if p.role == "seeds":
            points = _points(value, p.name, volume)
            recorded[p.name] = points.tolist()
            arrays[p.name] = _seed_finder(points, volume.grid, p.name)
            continue
        if not isinstance(value, Volume):
            raise InputError(f"{p.name} must be a Volume, not {type(value).__name__}")
        if p.role == "labels" and value.kind != "labels" and np.dtype(value.data.dtype).kind == "f":
            raise InputError(
                f"{p.name} must be labels, and {value.name!r} is stored as fractions: open the file with kind='labels' "
                "if its numbers are labels"
            )
        inputs.append(value.name)
        recorded[p.name] = record_input(value, taken)
        if p.role != "volume":
            volume.grid.require_same_space(value.grid, f"{volume.name!r} and its {p.name} {value.name!r}")
            arrays[p.name] = _frame_finder(value, volume, p.name)
    return arrays, recorded, inputs


def _frequency_finder(value: Any, name: str, frames: int):
    """Return a function of the frame index that gives that frame's points of the spectrum.

    Rows of four begin with the frame; those of three with the slice, where slices are worked on one by one.
    """
    try:
        typed = _check.parse_points(value, name) if isinstance(value, str) else np.atleast_2d(np.asarray(value, float))
    except (TypeError, ValueError):
        return lambda frame: value  # a word, or nonsense: for the operation to judge
    if typed.ndim != 2 or typed.shape[1] != 4:
        return lambda frame: typed if typed.size else value
    if (bad := ~np.isin(typed[:, 0], range(frames))).any():
        raise InputError(f"{name} name frame {typed[bad][0, 0]:g}: the volume has frames 0 to {frames - 1}")
    return lambda frame: typed[typed[:, 0] == frame][:, 1:]


def input_names(history: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the names by which the steps of a history know their further volumes."""
    steps = (step.get("parameters") for step in history)
    values = [v for step in steps if isinstance(step, Mapping) for v in step.values()]
    return {str(v["volume"]) for v in values if isinstance(v, Mapping) and "volume" in v}


def record_input(volume: Volume, taken: set[str]) -> dict:
    """Return what a history keeps of a further volume: a name of its own, kind, grid, and the steps that made it.

    A name in `taken` gets a number, so that two volumes of one name stay two when the steps run again; the name chosen
    is added to `taken`. The steps leave out how their own further volumes were made.
    """
    name, number = volume.name, 2
    while name in taken:
        name, number = f"{volume.name} ({number})", number + 1
    taken.add(name)
    made_by = [_without_origins(step) for step in volume.history]
    found = {"volume": name, "kind": volume.kind, "grid": volume.grid.as_dict()}
    return {**found, "made_by": made_by} if made_by else found


def _without_origins(step: Mapping[str, Any]) -> dict:
    parameters = {
        key: {k: v for k, v in value.items() if k != "made_by"} if isinstance(value, Mapping) else value
        for key, value in dict(step.get("parameters") or {}).items()
    }
    return plain({"operation": step.get("operation"), "parameters": parameters, "plane": step.get("plane")})


def _frame_finder(other: Volume, volume: Volume, name: str):
    if other.frame_count not in (1, volume.frame_count):
        raise InputError(
            f"{name} has {other.frame_count} frames, the volume {volume.frame_count}: give one, or as many"
        )
    return lambda index: np.asarray(other.frame(index if other.frame_count > 1 else 0).data).reshape(
        other.grid.spatial_shape
    )


def _points(value: Any, name: str, volume: Volume) -> np.ndarray:
    try:
        points = np.atleast_2d(np.asarray(value, dtype=float))
    except (TypeError, ValueError):
        raise InputError(f"{name} {value!r} are not points: give (z, y, x) in LPS mm, one row a point") from None
    if points.size == 0:
        raise InputError(f"{name} is empty: give at least one point")
    if points.ndim != 2 or points.shape[1] not in (3, 4) or not np.isfinite(points).all():
        raise InputError(f"{name} must be rows of (z, y, x) in LPS mm, or (frame, z, y, x): got {value!r}")
    if points.shape[1] == 4:
        bad = [f for f in points[:, 0] if f != int(f) or not 0 <= f < volume.frame_count]
        if bad:
            raise InputError(f"{name} name frame {bad[0]:g}: the volume has frames 0 to {volume.frame_count - 1}")
    return points


def _seed_finder(points: np.ndarray, grid: Grid, name: str):
    """Return a function of the frame index that gives that frame's seeds as voxel indices."""
    # Halves go up, as in the array functions that round seeds themselves.
    index = np.floor(grid.to_index(points[:, -3:]) + 0.5).astype(int)
    outside = ((index < 0) | (index >= grid.spatial_shape)).any(axis=1)
    if outside.any():
        z, y, x = points[outside.argmax(), -3:]
        raise InputError(
            f"{name} at x {x:.1f}, y {y:.1f}, z {z:.1f} mm (LPS) lies outside the volume: place it inside the image"
        )

    def find(frame: int) -> np.ndarray:
        return index if points.shape[1] == 3 else index[points[:, 0].astype(int) == frame]

    return find


def on_volumes(row: Operation, volume: Volume, values: dict) -> Volume:
    """Run an operation on the geometry, frame by frame."""
    return map_frames(lambda frame: row.function(frame, **values), volume)


def _on_arrays(row: Operation, volume: Volume, values: dict, arrays: dict, plane, heard: list) -> Volume:
    axis = None if plane in (None, WHOLE) else volume.grid.plane_axis(plane)
    counter = iter(range(volume.frame_count))

    def one_frame(frame: Volume) -> Volume:
        index = next(counter)
        layers = {name: find(index) for name, find in arrays.items()}
        if any(p.role == "seeds" and p.name in layers and len(layers[p.name]) == 0 for p in row.parameters):
            # Seeds name other frames: nothing grows in this one.
            data = np.zeros(frame.grid.spatial_shape, np.uint8)
        else:
            said: list[remarks.Part] = []
            data = run_on_frame(row, np.asarray(frame.data), {**values, **layers}, frame.grid.spacing, axis, said)
            frames = volume.grid.frames is not None
            heard.extend(remarks.Part(part.remarks, index if frames else None, part.slice) for part in said)
        return wrap(row, frame, data)

    return map_frames(one_frame, volume)


def run_on_frame(
    row: Operation,
    data: np.ndarray,
    values: dict,
    spacing: tuple,
    axis: int | None,
    heard: list[remarks.Part] | None = None,
) -> np.ndarray:
    """Run the function on one frame: as it is, slice by slice, or as a plane where the frame is one slice.

    What it says is added to `heard`.
    """
    roles = row.roles
    heard = [] if heard is None else heard
    if axis is None:
        if 1 not in data.shape or max(data.shape) == 1:
            with remarks.collecting() as said:
                result = row.function(data, **values, **({"spacing": spacing} if row.wants_spacing else {}))
            heard.append(remarks.Part(said))
            return result
        axis = data.shape.index(1)
    for name in (k for k, role in roles.items() if role == "frequencies"):
        _check_slices(values[name], data.shape[axis], name)
    injected = {"spacing": tuple(np.delete(spacing, axis))} if row.wants_spacing else {}
    settled = settled_slices(row, data, values, axis)
    said: list[remarks.Remarks | None] = [None] * data.shape[axis]
    out = None

    def work(i: int) -> None:
        nonlocal out
        cut = {k: cut_to_slice(v, roles[k], axis, i) for k, v in values.items()}
        if any(roles[k] == "seeds" and cut[k] is not None and len(cut[k]) == 0 for k in cut):
            return  # no seed in this slice: nothing grows in it
        with remarks.collecting() as said[i]:
            plane = row.function(np.take(data, i, axis), **(cut | injected | chosen_in(settled, i)))
        if out is None:
            out = np.zeros(data.shape, plane.dtype)
        elif (dtype := np.result_type(out, plane)) != out.dtype:
            out = out.astype(dtype)  # numbers of components, say, that the type of the slices before cannot hold
        out[(slice(None),) * axis + (i,)] = plane

    alone = 1 if row.side_by_side else data.shape[axis]
    for i in track(range(min(alone, data.shape[axis])), "slices"):
        work(i)
    if alone < data.shape[axis]:
        # All have the type of the first one.
        _tiles.run(work, range(alone, data.shape[axis]), "slices")
    single = data.shape[axis] == 1
    heard.extend(remarks.Part(part, slice=None if single else i) for i, part in enumerate(said) if part is not None)
    return out


def settled_slices(row: Operation, data: np.ndarray, values: Mapping, axis: int) -> list[remarks.Remarks] | None:
    """Return what the operation chooses for each slice of a frame if that is left to it and there are several."""
    if row.settle is None or data.shape[axis] == 1 or not row.settle[0](**values):
        return None
    return row.settle[1](np.moveaxis(data, axis, 0), **values)


def chosen_in(settled: list[remarks.Remarks] | None, index: int) -> dict:
    """Return the parameters that were chosen for a slice, and say so."""
    if settled is None:
        return {}
    for name, value in settled[index].chosen.items():
        remarks.choose(name, value)
    for sentence in settled[index].notes:
        remarks.note(sentence)
    return dict(settled[index].chosen)


def cut_to_slice(value: Any, role: str, axis: int, index: int) -> Any:
    """Return what one slice sees of an argument."""
    if value is None or role in ("value", "labelled", "volume", "device"):
        return value
    if role == "frequencies":
        # Rows of three begin with their slice.
        by_slice = isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] == 3
        return value[value[:, 0] == index][:, 1:] if by_slice else value
    if role == "seeds":
        return np.delete(value[value[:, axis] == index], axis, axis=1)
    return np.take(value, index, axis)


def _check_slices(value: Any, count: int, name: str) -> None:
    if isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] == 3:
        bad = ~np.isin(value[:, 0], range(count))
        if bad.any():
            raise InputError(
                f"{name} name slice {value[bad][0, 0]:g}: there are slices 0 to {count - 1}, so give (slice, v, u), or "
                "(v, u) for all of them"
            )


def _chosen(row: Operation, heard: list[remarks.Part]) -> dict:
    """Return the points of the spectrum that the operation chose, each after its frame and slice if there are more.

    These are the rows that `_frequency_finder` and `cut_to_slice` take apart again. Where all slices have the same
    points, these alone are rows.
    """
    found: dict[str, list] = {}
    names = [p.name for p in row.parameters if p.role == "frequencies"]
    if len(heard) > 1 and all(part.frame is None and part.slice is not None for part in heard):
        for name in names:
            rows = [part.remarks.chosen.get(name) for part in heard]
            if rows[0] is not None and all(points == rows[0] for points in rows):
                return {name: [list(point) for point in rows[0]]}
    for part in heard:
        frame = [] if part.frame is None else [part.frame]
        for name in (n for n in names if n in part.remarks.chosen):
            for point in part.remarks.chosen[name]:
                by_slice = len(point) == 2 and (frame or part.slice is not None)
                found.setdefault(name, []).append([*frame, *([part.slice or 0] if by_slice else []), *point])
            found.setdefault(name, [])
    return found


def wrap(row: Operation, source: Volume, data: np.ndarray) -> Volume:
    """Make a volume of one frame's result, with the meaning that the row gives it."""
    data = np.asarray(data)
    if data.shape != source.grid.spatial_shape:
        raise InputError(f"{row.name} returned shape {data.shape} for a volume of shape {source.grid.spatial_shape}")
    if row.result == "labels":
        return source.replace(data=data, kind="labels", meta=_without_values(source.meta))
    if row.result == "spectrum":
        # Positions are frequencies: steps from the zero frequency, which lies at index n // 2 of each axis.
        grid = Grid.from_spacing((1, 1, 1), data.shape, origin=[-(n // 2) for n in data.shape])
        meta = {"spacing_known": False, "orientation_known": False, "unit": "log magnitude"}
        return Volume(data, grid, "image", source.name, meta=meta)
    if row.result == "distances":
        meta = {k: v for k, v in _without_values(source.meta).items() if k != "modality"}
        return source.replace(data=data, kind="image", labels={}, meta={**meta, "unit": "mm"})
    kind = "probability" if row.result == "probability" else source.kind
    return source.replace(data=data, kind=kind)


def name_classes(row: Operation, data: np.ndarray) -> dict[int, Label]:
    """Name the values that occur, in all frames."""
    values = _regions.values_of(data).tolist()
    if values == [1]:
        return {1: Label(row.title)}
    return {v: Label(f"{row.title} {v}") for v in values}


def _without_values(meta: Mapping[str, Any]) -> dict:
    """Drop what speaks of grey values: it does not hold for labels."""
    return {k: v for k, v in meta.items() if k not in ("unit", "windows")}


def plain(value: Any) -> Any:
    """Turn arrays and numpy numbers into what JSON can hold."""
    if isinstance(value, Volume):
        return {"volume": value.name, "grid": value.grid.as_dict()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    return value
