"""A slice computed for a preview is the slice of the whole result: every row, border, axis, frame and plane."""

from itertools import product

import numpy as np
import pytest
from test_contracts import GIVEN

import napari_lightbox as lb
from napari_lightbox import Frames, Grid, InputError, Volume, remarks
from napari_lightbox.catalogue import OPERATIONS, choices
from napari_lightbox.preview import Known, Where, reach, slice_of

# Oblique, left-handed, anisotropic, and stored in an order of its own.
_C, _S = np.cos(0.3), np.sin(0.3)
DIRECTION = np.array([[0, _C, -_S], [0, _S, _C], [-1, 0, 0]])
SHAPE = (7, 9, 11)
ON_ARRAYS = [name for name, row in OPERATIONS.items() if not row.on_volumes]
ON_VOLUMES = [name for name, row in OPERATIONS.items() if row.on_volumes]


def make(shape=SHAPE, dtype="int16", kind="image") -> Volume:
    rng = np.random.default_rng(5)
    data = rng.integers(0, 5 if kind == "labels" else 200, shape).astype(dtype)
    frames = Frames("time", tuple(range(shape[0])), "s") if len(shape) == 4 else None
    return Volume(data, Grid.from_spacing((3, 1.5, 1), shape, (1, 2, 3), DIRECTION, frames), kind, name="v")


def example(name: str) -> Volume:
    kind = "labels" if OPERATIONS[name].input.role == "labels" else "image"
    return make(dtype="uint8" if kind == "labels" else "int16", kind=kind)


def arguments(name: str, volume: Volume) -> dict:
    values = dict(GIVEN.get(name, {}))
    if any(p.required and not p.is_layer and p.name not in values for p in OPERATIONS[name].parameters):
        pytest.skip("the tests of contracts give no example")
    if any(p.role == "seeds" and p.required for p in OPERATIONS[name].parameters):
        values["seeds"] = [volume.grid.to_world([n // 2 for n in volume.grid.spatial_shape])]
    return values


def assert_same(name: str, found, wanted) -> None:
    tolerance = OPERATIONS[name].tolerance
    assert found.dtype == wanted.dtype
    if tolerance and wanted.dtype.kind == "f":
        scale = np.nanmax(np.abs(wanted), initial=1.0)
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * scale)
    else:
        np.testing.assert_array_equal(found, wanted)


def check(name: str, volume: Volume, plane=None, frame=0, places=None, **values) -> None:
    """Compare slices along every axis, the borders among them, with those of the whole result."""
    whole = lb.apply(name, volume, plane=plane, **values)
    data = whole.data[frame] if volume.grid.frames else whole.data
    known = Known()
    for axis in range(3):
        size = volume.grid.spatial_shape[axis]
        for index in places or sorted({0, 1, size // 2, size - 1}):
            made = slice_of(name, volume, Where(axis, index, frame), plane=plane, known=known, **values)
            assert_same(name, made.data, np.take(data, [index], axis))
            assert made.kind == whole.kind
            assert made.name == whole.name
            corner = [index if a == axis else 0 for a in range(3)]
            np.testing.assert_allclose(made.grid.origin, volume.grid.to_world(corner), atol=1e-9)


@pytest.mark.parametrize("name", ON_ARRAYS)
@pytest.mark.parametrize("plane", [None, "axial", "coronal", "sagittal", "volume"])
def test_every_row_every_axis_every_plane(name, plane):
    volume = example(name)
    if plane == "volume" and not OPERATIONS[name].whole:
        pytest.skip("this is the default, or there is no such way")
    values = arguments(name, volume)
    if plane == "volume":
        values.pop("centers", None)  # those of the example are points of a plane
    check(name, volume, plane, **values)


def variants(name: str):
    """Yield the choices, and for sizes the values next to the default, of every parameter."""
    for parameter in OPERATIONS[name].parameters:
        for choice in choices(parameter) or ():
            yield parameter.name, choice
        default = parameter.default
        if isinstance(default, bool):
            yield parameter.name, not default
        elif isinstance(default, int):
            step = parameter.hints.get("step", 1)
            yield from ((parameter.name, default + k * step) for k in (1, 3))
        elif isinstance(default, float):
            yield parameter.name, default + 1.0


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [(n, p, v) for n in ON_ARRAYS if OPERATIONS[n].halo for p, v in variants(n)],
)
def test_every_choice_of_local_rows(name, parameter, value):
    volume = example(name)
    values = {**arguments(name, volume), parameter: value}
    try:
        lb.apply(name, volume, **values)
    except InputError:
        pytest.skip("refused as a whole too")
    check(name, volume, **values)


@pytest.mark.parametrize("name", [name for name in ON_ARRAYS if OPERATIONS[name].halo])
@pytest.mark.parametrize("dtype", ["float32", "bool", ">i2"])
def test_every_type_and_nan_in_local_rows(name, dtype):
    volume = example(name)
    if volume.kind == "labels":
        pytest.skip("labels are whole numbers")
    data = (volume.data > 100) if dtype == "bool" else volume.data.astype(dtype)
    if dtype == "float32":
        data = data / np.float32(7)
    check(name, volume.replace(data=data), **arguments(name, volume))


@pytest.mark.parametrize("name", ON_ARRAYS)
def test_frames(name):
    volume = example(name)
    frames = Frames("time", (0, 1), "s")
    both = np.stack([volume.data, volume.data[::-1]])
    volume = volume.replace(data=both, grid=volume.grid.with_frames(frames))
    for frame in (0, 1):
        check(name, volume, frame=frame, places=[3], **arguments(name, volume))


@pytest.mark.parametrize("name", ON_ARRAYS)
@pytest.mark.parametrize("shape", [(1, 9, 11), (2, 9, 11)])
def test_pictures_and_thin_volumes(name, shape):
    volume = make(shape, "uint8", example(name).kind)
    values = arguments(name, volume)
    try:
        wanted = lb.apply(name, volume, **values)
    except InputError as error:
        with pytest.raises(InputError, match=str(error)[:20].replace("(", ".").replace(")", ".")):
            slice_of(name, volume, Where(0, 0), **values)
        return
    assert_same(name, slice_of(name, volume, Where(0, 0), **values).data, wanted.data[:1])


@pytest.mark.parametrize("mode", ["wrap", "mirror", "constant", "nearest", "reflect"])
def test_wide_windows_at_every_slice(mode):
    check("median", make((6, 7, 5)), size=5, mode=mode, places=range(5))


def test_a_mask_is_cut_too():
    volume = make()
    mask = volume.replace(data=(volume.data % 3 > 0).astype(np.uint8), kind="labels", name="m")
    seed = np.argwhere(mask.data)[40]
    check("region_grow", volume, seeds=[volume.grid.to_world(seed)], mask=mask, threshold=90.0)


def test_the_whole_volume_is_looked_at_once(monkeypatch):
    import dataclasses

    from napari_lightbox import preview

    calls = []
    row = OPERATIONS["otsu"]
    whole, part = row.preview
    counted = dataclasses.replace(row, preview=(lambda *a, **k: calls.append(1) or whole(*a, **k), part))
    monkeypatch.setattr(preview, "operation", lambda name: counted)
    volume, known = make(), Known()
    for index in (0, 3, 5):
        slice_of("otsu", volume, Where(0, index), known=known)
    assert len(calls) == 1


def test_reach():
    volume = make()
    axial = volume.grid.plane_axis("axial")
    assert reach("median", volume, axial) == "slab"
    assert reach("median", volume, axial, "axial") == "slice"
    assert reach("median", volume, axial, "coronal") == "slab"
    assert reach("notch", volume, axial) == "slice"
    assert reach("notch", volume, (axial + 1) % 3) == "volume"
    assert reach("otsu", volume, axial) == "statistics"
    assert reach("otsu", volume, axial, "axial") == "slice"
    assert reach("otsu", volume, axial, "coronal") == "volume"
    assert reach("affine") == "volume"


@pytest.mark.parametrize("name", ON_VOLUMES)
def test_geometry_shows_the_slice_at_the_same_place(name):
    volume = make()
    values = arguments(name, volume)
    whole = lb.apply(name, volume, **values)
    known = Known()
    for axis, index in product(range(3), (2, 3)):
        try:
            made = slice_of(name, volume, Where(axis, index), known=known, **values)
        except InputError as error:
            if "no voxels in this slice" not in str(error):
                raise
            continue  # the result is smaller: there is nothing to see here
        cut = [a for a in range(3) if made.grid.spatial_shape[a] == 1]
        assert cut
        place = whole.grid.to_index(made.grid.to_world((0, 0, 0)))
        at = int(np.round(place[cut[0]]))
        np.testing.assert_array_equal(made.data, np.take(whole.data, [at], cut[0]))
        if whole.grid.same_space(volume.grid):
            assert (cut[0], at) == (axis, index)


def test_what_is_refused_is_refused_alike():
    with pytest.raises(InputError, match="size"):
        slice_of("median", make(), Where(0, 0), size=4)
    with pytest.raises(InputError, match="slice 7 does not exist"):
        slice_of("median", make(), Where(0, 7))
    with pytest.raises(InputError, match="holds labels"):
        slice_of("median", make(dtype="uint8", kind="labels"), Where(0, 0))


@pytest.mark.parametrize("plane", [None, "axial"])
def test_what_is_said_of_the_whole_volume_is_said_with_every_slice(plane):
    labels = Volume.from_array(np.pad(np.ones((2, 2, 2), np.uint8), 1), spacing=(1, 1, 1), kind="labels")
    known = Known()
    for index in (1, 2):
        with remarks.collecting() as heard:
            slice_of("distance_transform", labels, Where(2, index), plane=plane, known=known, label=9)
        assert heard.notes == ["no voxel has the label 9, so that distances are NaN"]
    thin, known = Volume.from_array(np.ones((3, 4, 1)), spacing=(1, 1, 1)), Known()
    for index in (1, 2):
        with remarks.collecting() as heard:
            slice_of("flip", thin, Where(0, index), known=known)
        assert heard.notes == ["flipping left-right changes nothing: the volume is one voxel thick there"]
