"""Volumes become layers and layers become volumes: the only place where voxels are permuted, flipped or placed.

napari slices and paints a layer rightly in 2D only if its axes run along the world's. So a layer shows its volume in
the array order closest to LPS (axis 0 towards Superior, 1 Posterior, 2 Left; a view of the same memory) with scale and
translation only. Where the volume truly lies stays in ``layer.metadata["lightbox"]``; export and measuring use that.

An oblique volume is shown as if it had been turned about the world's origin until its axes run along the patient's,
so volumes that are oblique in the same way still lie over each other.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer, Points

from ..collector import many_lasting_objects
from ..errors import InputError
from ..geometry import Frames, Grid
from ..volume import Volume
from . import appearance
from ._shown import reordered

KEY = "lightbox"
# Mark of the layer that a preview is shown in: never an input, never saved.
PREVIEW = "lightbox_preview"
# The step that painting leaves in a history: it says that replaying the other steps does not give these labels.
MANUAL_EDIT = {"operation": "manual edit", "parameters": {}}
# Obliquity below this, degrees, is rounding of the direction cosines.
STRAIGHT = 0.05
# Share of a voxel by which a layer may lie off before it counts as moved.
_MOVED = 1e-3

LayerTuple = tuple[Any, dict, str]


class NoGrid(InputError):  # noqa: N818 - named for what it says
    """A layer does not say where its voxels lie, and no open volume says it for it."""


class MovedByHand(InputError):  # noqa: N818
    """The scale, position or rotation of a layer was edited after the volume had been shown."""


# Volume -> layer ------------------------------------------------------------------------------------------------


def volume_to_layer(volume: Volume, name: str | None = None, **kwargs) -> LayerTuple:
    """Make the layer data tuple that shows a volume.

    Parameters
    ----------
    volume : Volume
        Image, labels or probability; numpy or dask.
    name : str, optional
        Name of the layer; the volume's where not given.
    **kwargs
        Further arguments of the layer (``colormap``, ``opacity``, ``visible`` ...), stronger than ours.

    Returns
    -------
    (data, dict, str)
        Array in the order closest to LPS (a view where memory allows), arguments of the layer, and ``"image"`` or
        ``"labels"``.

    Examples
    --------
    >>> data, kwargs, kind = volume_to_layer(Volume.from_array(np.zeros((2, 3, 4), np.int16), spacing=(5, 1, 1)))
    >>> data.shape, tuple(float(s) for s in kwargs["scale"]), kind
    ((2, 3, 4), (5.0, 1.0, 1.0), 'image')
    """
    order, flips = volume.grid.order_for("LPS")
    data = _showable(_permuted(volume.data, order, flips), volume.kind)
    scale, translate = _placement(volume.grid.reordered(order, flips))
    frame_scale, frame_translate, frame_unit = _frame_axis(volume.grid.frames)
    unit = "mm" if volume.meta.get("spacing_known", True) else "pixel"
    made: dict[str, Any] = {
        "name": name or volume.name,
        "scale": (*frame_scale, *scale),
        "translate": (*frame_translate, *translate),
        "units": (*frame_unit, unit, unit, unit),
        "axis_labels": volume.grid.axes,
        "metadata": {KEY: _record(volume, order, flips, scale, translate)},
    }
    made.update(appearance.first_look(volume))
    metadata = {**kwargs.pop("metadata", {}), **made["metadata"]}
    return data, {**made, **kwargs, "metadata": metadata}, "labels" if volume.kind == "labels" else "image"


def make_layer(volume: Volume, name: str | None = None, **kwargs) -> Layer:
    """Make the layer that shows a volume, not yet in any viewer; safe, and best, in the background.

    napari prepares colours and a thumbnail when a layer is made (the first label colours of a session are compiled,
    which takes seconds): work that the GUI thread should not wait for. Adding the layer to a viewer belongs there.
    """
    made = volume_to_layer(volume, name, **kwargs)
    # Compiling the label colours makes so many objects that the collector would stop all threads for 0.2 s.
    with many_lasting_objects():
        layer = Layer.create(*made)
        if made[2] == "labels":
            appearance.draw_dashes()
    widen_contrast(layer)
    return layer


def spectrum_layer(volume: Volume, source: dict | None, **kwargs) -> Layer:
    """Make the layer of a spectrum, laid over the layer of the image that it was made from.

    Parameters
    ----------
    volume : Volume
        The spectrum, in the stored order of its source; its grid holds frequencies.
    source : dict or None
        `layer_record` of the source, which gives order, flips and the place on screen: slice lies over slice. Where it
        is None, the spectrum lies about the origin.
    **kwargs
        Further arguments of the layer.
    """
    if source is None or source["grid"].shape != volume.grid.shape:
        return make_layer(volume, **kwargs)
    _, made, _ = volume_to_layer(volume, **kwargs)
    lead = len(volume.grid.shape) - 3
    order, flips, scale, translate = (source[key] for key in ("order", "flips", "scale", "translate"))
    made["scale"] = (*made["scale"][:lead], *scale)
    made["translate"] = (*made["translate"][:lead], *translate)
    unit = "mm" if source["meta"].get("spacing_known", True) else "pixel"
    made["units"] = (*made["units"][:lead], unit, unit, unit)
    made["metadata"] = {**made["metadata"], KEY: _record(volume, order, flips, scale, translate)}
    layer = Layer.create(_showable(_permuted(volume.data, order, flips), volume.kind), made, "image")
    widen_contrast(layer)
    return layer


def widen_contrast(layer) -> None:
    """Let the contrast slider reach all values: napari gives it no more than the first window."""
    stored = isinstance(layer.data, np.ndarray) or getattr(layer.data, "is_stored", False)
    if not isinstance(layer, Image) or layer.rgb or not stored:
        return
    if (layer_record(layer) or {}).get("kind") == "probability":
        # Its window is all that it can hold.
        return
    low, high = layer.contrast_limits
    if tuple(layer.contrast_limits_range) == (low, high):
        values = appearance.sample(layer.data)
        if values.size:
            layer.contrast_limits_range = (min(low, float(values.min())), max(high, float(values.max())))


def _record(volume: Volume, order, flips, scale, translate) -> dict:
    # Plain dicts throughout: layers are duplicated with deepcopy, which a mapping proxy does not survive.
    return {
        "grid": volume.grid,
        "kind": volume.kind,
        "labels": dict(volume.labels),
        "meta": dict(volume.meta),
        "history": tuple(dict(step) for step in volume.history),
        "order": tuple(order),
        "flips": tuple(flips),
        "scale": tuple(scale),
        "translate": tuple(translate),
    }


def _permuted(data, order, flips):
    """Return a view with the spatial axes permuted, then flipped."""
    lead = data.ndim - 3
    view = data.transpose(*range(lead), *(lead + axis for axis in order))
    return view[(slice(None),) * lead + tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)]


def _restored(data, order, flips):
    """Undo `_permuted`."""
    lead = data.ndim - 3
    view = data[(slice(None),) * lead + tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)]
    return view.transpose(*range(lead), *(lead + order.index(axis) for axis in range(3)))


def _showable(data, kind: str):
    """Copy only what napari cannot draw or paint: foreign byte order, read-only labels, odd float sizes."""
    dtype = data.dtype.newbyteorder("=")
    if kind == "probability" and data.dtype == np.float16:
        # napari draws it as it is; a copy would bring what lies on disk into memory.
        return data
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        dtype = np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
    if kind == "labels" and dtype.kind == "b":
        dtype = np.dtype(np.uint8)
    if dtype != data.dtype:
        return data.astype(dtype)
    if kind == "labels" and isinstance(data, np.ndarray) and not data.flags.writeable:
        return data.copy()
    return data


def _turn(shown: Grid) -> np.ndarray:
    """Return the rotation that display coordinates undo; the identity unless the volume is oblique."""
    u, _, vt = np.linalg.svd(shown.direction)
    turn = u @ vt
    return np.eye(3) if np.allclose(turn, np.eye(3), atol=1e-9) else turn


def _placement(shown: Grid) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return shown.spacing, tuple(float(v) for v in _turn(shown).T @ shown.origin)


def _frame_axis(frames: Frames | None) -> tuple[tuple, tuple, tuple]:
    """Return scale, translation and unit of the frame axis, each as a tuple of none or one."""
    if frames is None:
        return (), (), ()
    step = frames.step
    if not step or step < 0:
        return (1.0,), (0.0,), ("pixel",)
    return (step,), (frames.values[0],), (frames.unit if frames.unit in ("s", "ms") else "pixel",)


def notices(volume: Volume) -> list[str]:
    """Say what a user must know about a volume before trusting what the screen shows."""
    found = []
    if volume.grid.obliquity > STRAIGHT:
        found.append(
            f"{volume.name} is oblique by {volume.grid.obliquity:.1f} degrees: it is shown along its own axes, while "
            "export and measuring use its true position; to see it turned, use Resample onto a volume that is straight"
        )
    if not volume.meta.get("spacing_known", True):
        found.append(f"{volume.name} has no known voxel spacing: lengths are in pixels until you give one")
    found.extend(f"{volume.name}: {note}" for note in volume.meta.get("notes") or ())
    return found


# Layer -> volume ------------------------------------------------------------------------------------------------


def layer_to_volume(
    layer,
    layers: Iterable = (),
    *,
    accept_transform: bool = False,
    assume: bool = False,
    copy: bool = True,
    say: Callable[[str], None] | None = None,
) -> Volume:
    """Make the volume that a layer shows, in the order in which it was stored.

    Parameters
    ----------
    layer : Image or Labels layer
        Of ours, or made in napari. Images are shared.
    layers : iterable of layers
        The open layers: one without our metadata takes the grid of the volume that it lies on exactly.
    accept_transform : bool
        Take a transform that was edited by hand as the truth.
    assume : bool
        Take napari's own scale and translation as the position where nothing better is known.
    copy : bool
        Copy the voxels of labels, as they may be painted meanwhile; without it they are shared too.
    say : callable, optional
        Called with a sentence when the position was adopted or assumed.

    Returns
    -------
    Volume

    Raises
    ------
    NoGrid
        If nothing says where the layer lies.
    MovedByHand
        If its transform was edited and `accept_transform` is not given.
    InputError
        If the layer is neither Image nor Labels, is a colour picture, or has more than four axes.
    """
    layer, kind = plain(layer), layer_kind(layer)
    if kind not in ("image", "labels"):
        raise InputError(f"layer {layer.name!r} is a {kind} layer: choose an Image or Labels layer")
    if is_preview(layer):
        raise InputError(f"layer {layer.name!r} is a preview of one slice: press Apply in its dock to have all of it")
    data = _layer_data(layer)
    record = layer_record(layer) or _adopted(layer, data, layers, say)
    assumed = record is None
    if assumed:
        record = _own_record(layer, data, assume, say)
    grid = record["grid"]
    if not assumed and _moved(layer, record):
        if not accept_transform:
            raise MovedByHand(
                f"the position, scale or rotation of layer {layer.name!r} was edited by hand: confirm that the edit is "
                "meant, or set it back, before the layer is used"
            )
        grid = _edited_grid(layer, record)
    stored = _restored(data, record["order"], record["flips"])
    if kind == "labels":
        stored = np.array(stored) if copy and isinstance(stored, np.ndarray) else stored
    else:
        kind = "probability" if record["kind"] == "probability" else "image"
    history = (*record["history"], MANUAL_EDIT) if record.get("edited") else record["history"]
    return Volume(stored, grid, kind, layer.name, record["labels"], record["meta"], history)


def plain(thing):
    """Return a layer or viewer from behind the proxy that napari hands to plug-ins."""
    return getattr(thing, "__wrapped__", thing)


def layer_kind(layer) -> str:
    """Return ``"image"``, ``"labels"``, ``"points"``, ...: the type of a layer."""
    layer = plain(layer)
    for base in (Image, Labels, Points):
        if isinstance(layer, base):
            return base.__name__.lower()
    return type(layer).__name__.lower()


def is_preview(layer) -> bool:
    """Whether a layer is the temporary one of a preview."""
    return PREVIEW in plain(layer).metadata


def layer_record(layer) -> dict | None:
    """Return what we noted with a layer, or None if it is not ours or no longer holds the array we showed."""
    layer = plain(layer)
    record = layer.metadata.get(KEY)
    if not isinstance(record, dict) or not isinstance(record.get("grid"), Grid):
        return None
    grid, order = record["grid"], record["order"]
    shape = (*grid.shape[:-3], *(grid.spatial_shape[axis] for axis in order))
    return record if shape == _padded(tuple(_level(layer).shape)) else None


def _level(layer):
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


def _padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * (3 - len(shape)) + shape


def _layer_data(layer):
    data = _level(layer)
    if getattr(layer, "rgb", False):
        raise InputError(f"layer {layer.name!r} is a colour (RGB) picture: split it into its channels or make it grey")
    if not 2 <= data.ndim <= 4:
        raise InputError(f"layer {layer.name!r} has {data.ndim} axes: volumes have (z, y, x), with frames first if any")
    if not hasattr(data, "transpose"):
        data = np.asarray(data)
    return data[None] if data.ndim == 2 else data


def display_matrix(layer) -> np.ndarray:
    """Return the (4, 4) matrix from the last three array axes of a layer, as it stands, to napari's world."""
    ndim = layer.ndim
    origin = np.asarray(layer.data_to_world(np.zeros(ndim)), dtype=float)
    matrix = np.eye(4)
    for axis in range(max(0, ndim - 3), ndim):
        step = np.asarray(layer.data_to_world(np.eye(ndim)[axis]), dtype=float) - origin
        matrix[max(0, 3 - ndim) : 3, 3 - ndim + axis] = step[-3:]
    matrix[max(0, 3 - ndim) : 3, 3] = origin[-3:]
    return matrix


def _plain_matrix(record: dict) -> np.ndarray:
    matrix = np.diag([*record["scale"], 1.0])
    matrix[:3, 3] = record["translate"]
    return matrix


def _same_place(a: np.ndarray, b: np.ndarray, shape) -> bool:
    """Whether two matrices put all corners of `shape` at the same place, to a small share of a voxel."""
    corners = np.array(np.meshgrid(*((0, max(n - 1, 1)) for n in shape[-3:]))).reshape(3, -1)
    offsets = (a - b)[:3, :3] @ corners + (a - b)[:3, 3:]
    smallest = np.linalg.norm(b[:3, :3], axis=0).min()
    return bool(np.abs(offsets).max() <= _MOVED * smallest)


def _moved(layer, record: dict) -> bool:
    return not _same_place(display_matrix(layer), _plain_matrix(record), _padded(tuple(_level(layer).shape)))


def was_moved(layer) -> bool:
    """Whether the transform of a layer of ours was edited by hand since it was shown."""
    record = layer_record(layer)
    return record is not None and _moved(layer, record)


def _edited_grid(layer, record: dict) -> Grid:
    """Return the stored grid after the edit that the user made to the displayed one."""
    order, flips = record["order"], record["flips"]
    shown = record["grid"].reordered(order, flips)
    turn = np.eye(4)
    turn[:3, :3] = _turn(shown)
    edit = turn @ display_matrix(layer) @ np.linalg.inv(_plain_matrix(record)) @ turn.T
    edited = Grid(edit @ shown.affine, shown.shape, shown.frames)
    return _stored_grid(edited, order, flips)


def _stored_grid(shown: Grid, order, flips) -> Grid:
    """Undo `Grid.reordered`."""
    back = tuple(order.index(axis) for axis in range(3))
    return shown.reordered(back, tuple(flips[axis] for axis in back))


def _adopted(layer, data, layers: Iterable, say) -> dict | None:
    """Return the record of the one volume that a layer made in napari lies on, and note it with the layer."""
    matrix, found = display_matrix(layer), []
    for other in map(plain, layers):
        if layer_kind(other) not in ("image", "labels") or other is layer:
            continue
        record = layer_record(other)
        if record is None or _padded(tuple(_level(other).shape)) != tuple(data.shape):
            continue
        if not _moved(other, record) and _same_place(matrix, _plain_matrix(record), data.shape):
            found.append((other, record))
    if not found:
        return None
    if not all(record["grid"].same_space(found[0][1]["grid"]) for _, record in found):
        names = ", ".join(repr(other.name) for other, _ in found)
        raise NoGrid(
            f"layer {layer.name!r} lies on several volumes of different geometry ({names}): hide or remove all but the "
            "one it belongs to"
        )
    other, source = found[0]
    kept = ("spacing_known", "orientation_known", "series", "patient", "source")
    meta = {key: source["meta"][key] for key in kept if key in source["meta"]}
    record = {**source, "kind": layer_kind(layer), "labels": {}, "meta": meta, "history": ()}
    layer.metadata[KEY] = record
    if say is not None:
        say(f"{layer.name} was made without a position: it takes that of {other.name}, which it lies on exactly")
    return record


def _own_record(layer, data, assume: bool, say) -> dict:
    """Return a record made of napari's own transform, where the caller accepts that."""
    if not assume:
        raise NoGrid(
            f"layer {layer.name!r} does not say where in the patient its voxels lie, and matches no open volume in "
            "size and position: open it from its file with napari-lightbox, or make it from a volume with New labels"
        )
    frames = Frames("frame", tuple(range(data.shape[0]))) if data.ndim == 4 else None
    lengths = [_millimetres(unit) for unit in layer.units[-3:]]
    known = None not in lengths
    shown = display_matrix(layer)
    grid = Grid(np.diag([*lengths, 1.0]) @ shown if known else shown, tuple(data.shape), frames)
    if say is not None:
        how = "is taken" if known else "are taken as millimetres"
        say(f"{layer.name} has no position of ours: napari's own scale and translation {how}")
    order, flips = (0, 1, 2), (False,) * 3
    scale, translate = np.linalg.norm(shown[:3, :3], axis=0), shown[:3, 3]
    meta = {"spacing_known": known, "orientation_known": False}
    volume = Volume(data, grid, layer_kind(layer), meta=meta)
    return _record(volume, order, flips, scale, translate)


def _millimetres(unit) -> float | None:
    """Return how many mm a unit of napari is, or None where it is no length."""
    try:
        return float((1 * unit).to("mm").magnitude)
    except TypeError:  # pint's error for pixels and the like
        return None


# Positions ------------------------------------------------------------------------------------------------------


def shown_grid(layer) -> Grid | None:
    """Return the true grid of a layer's array as displayed, or None if the layer is not ours."""
    record = layer_record(layer)
    return None if record is None else reordered(record["grid"], tuple(record["order"]), tuple(record["flips"]))


def true_position(layer, position: np.ndarray) -> np.ndarray | None:
    """Take a point of napari's world over a layer to the patient: (z, y, x) in LPS mm; None if the layer is not ours.

    The two differ for oblique volumes, which napari shows turned.
    """
    grid = shown_grid(layer)
    if grid is None:
        return None
    index = np.asarray(layer.world_to_data(np.asarray(position, dtype=float)), dtype=float)[-3:]
    return grid.to_world(np.concatenate([np.zeros(3 - index.size), index]))


def grids_match(layer_a, layer_b) -> bool:
    """Whether two layers cover the same voxels of the patient; by napari's transforms where one is not ours."""
    a, b = shown_grid(layer_a), shown_grid(layer_b)
    if a is not None and b is not None:
        return a.same_space(b)
    shape = _padded(tuple(_level(layer_a).shape))[-3:]
    if shape != _padded(tuple(_level(layer_b).shape))[-3:]:
        return False
    return _same_place(display_matrix(layer_a), display_matrix(layer_b), shape)


def difference(layer_a, layer_b) -> str:
    """Say in words how the grid of the second layer differs from that of the first; empty where they match."""
    if grids_match(layer_a, layer_b):
        return ""
    a, b = shown_grid(layer_a), shown_grid(layer_b)
    return a.difference(b) if a is not None and b is not None else "other size or position"
