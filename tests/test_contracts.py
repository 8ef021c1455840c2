"""What every row of the catalogue promises, whatever it computes."""

import numpy as np
import pytest

import napari_lightbox as lb
from napari_lightbox import Frames, Grid, InputError, Recipe, Volume
from napari_lightbox.catalogue import OPERATIONS, choices

# Arguments without a default, and values that make a small example do something.
GIVEN = {
    "notch": {"centers": [(2, 1)], "radius": 1.5},
    "band_reject": {"center": 2.0, "width": 1.0},
    "affine": {"rotate": (10.0, 0.0, 0.0)},
    "resample": {"spacing": (2.0, 1.0, 1.0)},
    "crop": {"size": (6.0, 6.0, 4.0)},
    "projective": {"homography": "1, 0.1, 0; 0, 1, 0.5; 0.001, 0, 1"},
    "polynomial": {"pairs": "0, 0 > 0.5, 0; 9, 0 > 9, 0; 0, 9 > 0, 9", "degree": 1},
    "lens_distortion": {"k1": 0.1, "p1": 0.01},
    "region_grow": {"threshold": 200.0},
}
ROWS = list(OPERATIONS)
DTYPES = ["uint8", "int16", "uint16", "int32", "float32", "float64", ">i2", "bool"]


def arguments(name: str, volume: Volume) -> dict:
    values = dict(GIVEN.get(name, {}))
    if any(p.role == "seeds" for p in OPERATIONS[name].parameters):
        centre = [n // 2 for n in volume.grid.spatial_shape]
        values["seeds"] = [volume.grid.to_world(centre)]
    return values


def suited(name: str, volume: Volume) -> Volume:
    """Return the same as labels where the operation works on those."""
    on_labels = OPERATIONS[name].input.role == "labels" and volume.data.dtype.kind != "f"
    return volume.replace(kind="labels") if on_labels else volume


def run(name: str, volume: Volume) -> Volume:
    return lb.apply(name, volume, **arguments(name, volume))


def attempt(name: str, volume: Volume) -> tuple[Volume | None, str]:
    """Return the result, or the sentence that refused the volume."""
    try:
        return run(name, volume), ""
    except InputError as error:
        return None, str(error)


def make(shape, dtype="int16", seed=3) -> Volume:
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 2 if dtype == "bool" else 200, shape).astype(dtype)
    frames = Frames("time", tuple(range(shape[0])), "s") if len(shape) == 4 else None
    c, s = np.cos(0.3), np.sin(0.3)
    direction = np.array([[c, -s, 0], [s, c, 0], [0, 0, -1]])
    return Volume(data, Grid.from_spacing((3, 1.5, 1), shape, (1, 2, 3), direction, frames), name="v")


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_gives_a_result_and_keeps_the_input(name, dtype):
    volume = suited(name, make((5, 9, 8), dtype))
    before = volume.data.copy()
    volume.data.flags.writeable = False
    if OPERATIONS[name].input.role == "labels" and volume.kind != "labels":
        with pytest.raises(InputError, match="works on labels"):
            run(name, volume)
        return
    result = run(name, volume)
    assert np.array_equal(volume.data, before)
    assert result.data is not volume.data
    assert np.isfinite(np.asarray(result.data, dtype=float)).all()
    row = OPERATIONS[name]
    if row.result == "labels":
        assert result.data.dtype.kind in "ui"
        assert result.kind == "labels"


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 8), (5, 1, 8), (5, 9, 8), (1, 1, 8), (2, 1, 9, 8), (3, 4, 6, 5)])
def test_every_shape_gives_a_result_or_a_sentence(name, shape):
    volume = suited(name, make(shape))
    result, sentence = attempt(name, volume)
    if result is None:
        assert min(shape[-2:]) == 1, f"{shape} refused: {sentence}"
        assert len(sentence) > 20
        return
    assert result.data.ndim == volume.data.ndim
    if not OPERATIONS[name].on_volumes:
        assert result.data.shape == volume.data.shape


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
def test_odd_values_give_a_result_or_a_sentence(name, value):
    volume = suited(name, make((5, 9, 8), "float32"))
    volume.data[2, 4, 3] = value
    before = volume.data.copy()
    result, sentence = attempt(name, volume)
    assert result is not None or len(sentence) > 20
    assert np.array_equal(volume.data, before, equal_nan=True)


@pytest.mark.parametrize("name", ROWS)
def test_constant_volume_gives_a_result_or_a_sentence(name):
    volume = suited(name, make((5, 9, 8)).replace(data=np.full((5, 9, 8), 7, np.int16)))
    result, sentence = attempt(name, volume)
    assert result is not None or len(sentence) > 20


@pytest.mark.parametrize("name", ROWS)
def test_layout_in_memory_does_not_matter(name):
    volume = suited(name, make((5, 9, 8)))
    strided = volume.replace(data=np.repeat(volume.data, 2, axis=2)[:, :, ::2])
    fortran = volume.replace(data=np.asfortranarray(volume.data))
    expected = run(name, volume)
    assert np.array_equal(run(name, strided).data, expected.data)
    assert np.array_equal(run(name, fortran).data, expected.data)


@pytest.mark.parametrize("name", ROWS)
def test_replay_equals_the_call(name):
    volume = suited(name, make((5, 9, 8)))
    result = run(name, volume)
    again = Recipe.of(result).run(volume)
    assert np.array_equal(again.data, result.data)
    assert again.grid == result.grid


@pytest.mark.parametrize("name", ROWS)
def test_frames_are_computed_one_by_one(name):
    volume = suited(name, make((3, 4, 6, 5)))
    result = run(name, volume)
    assert result.grid.frames == volume.grid.frames or OPERATIONS[name].result == "spectrum"
    for i in range(3):
        frame = volume.frame(i)
        assert np.array_equal(result.data[i], lb.apply(name, frame, **arguments(name, frame)).data)


@pytest.mark.parametrize("name", ROWS)
def test_landmarks_stay(name):
    """Every voxel of a result that keeps its grid is where it was, whatever the storage."""
    volume = suited(name, make((5, 9, 8)))
    result = run(name, volume)
    row = OPERATIONS[name]
    if not row.on_volumes and row.result != "spectrum":
        assert result.grid == volume.grid


@pytest.mark.parametrize("name", ROWS)
def test_documentation_is_complete(name):
    row = OPERATIONS[name]
    text = row.function.__doc__
    for section in ("Parameters", "Returns", "Raises", "Examples"):
        assert f"{section}\n" in text, f"{name} has no section {section}"
    assert row.summary.endswith(".")
    for parameter in row.parameters:
        assert parameter.help, f"{name}: {parameter.name} is not explained"


@pytest.mark.parametrize("name", ROWS)
def test_choices_are_checked(name):
    volume = suited(name, make((5, 9, 8)))
    for parameter in OPERATIONS[name].parameters:
        if choices(parameter):
            with pytest.raises(InputError, match=parameter.name):
                lb.apply(name, volume, **{**arguments(name, volume), parameter.name: "no such choice"})


@pytest.mark.parametrize("name", ROWS)
def test_complex_data_is_refused(name):
    row = OPERATIONS[name]
    data = np.ones((6, 5) if row.planes else (4, 6, 5), complex)
    if row.on_volumes:
        with pytest.raises(InputError, match="complex"):
            make((4, 6, 5)).replace(data=data)
        return
    values = {**GIVEN.get(name, {}), **({"seeds": [(1, 1, 1)]} if name == "region_grow" else {})}
    if row.wants_spacing:
        values["spacing"] = (1,) * data.ndim
    with pytest.raises(InputError, match="complex"):
        row.function(data, **values)
