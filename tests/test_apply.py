"""`apply`: frames, planes, spacing, grids, other volumes, seeds, names and history."""

import numpy as np
import pytest
from scipy import ndimage

import napari_lightbox as lb
from napari_lightbox import Frames, Grid, GridError, InputError, Volume


def oblique(shape, frames=None):
    """Return a left-handed, anisotropic grid tilted by 20 degrees."""
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    direction = np.array([[c, -s, 0], [s, c, 0], [0, 0, -1.0]])
    return Grid.from_spacing((3.0, 0.7, 1.1), shape, (11.0, -7.0, 5.0), direction, frames)


@pytest.fixture
def volume(rng):
    return Volume(rng.integers(-1000, 1000, (6, 9, 8)).astype(np.int16), oblique((6, 9, 8)), name="ct")


@pytest.fixture
def movie(rng):
    frames = Frames("time", (0, 0.5, 1.7), "s")
    return Volume(rng.integers(0, 50, (3, 5, 7, 6)).astype(np.uint8), oblique((3, 5, 7, 6), frames), name="movie")


def test_whole_volume_equals_the_array_function(volume):
    result = lb.apply("median", volume, size=3)
    assert np.array_equal(result.data, ndimage.median_filter(volume.data, 3))
    assert result.grid == volume.grid
    assert result.name == "ct · median 3"


def test_frames_never_mix(movie):
    result = lb.apply("median", movie, size=3)
    for i in range(3):
        assert np.array_equal(result.data[i], ndimage.median_filter(movie.data[i], 3))
    assert result.grid.frames == movie.grid.frames


@pytest.mark.parametrize(("plane", "axis"), [("z", 0), ("y", 1), ("x", 2), (1, 1), ("axial", 0), ("sagittal", 2)])
def test_planes_are_cut_along_the_stored_axis(volume, plane, axis):
    result = lb.apply("median", volume, plane=plane, size=3)
    size = [3, 3, 3]
    size[axis] = 1
    assert np.array_equal(result.data, ndimage.median_filter(volume.data, size))


def test_body_planes_follow_the_patient_not_the_storage(volume):
    stored = lb.spatial.reorient(volume, "SAR")
    first = lb.apply("median", volume, plane="coronal", size=5)
    second = lb.spatial.reorient(lb.apply("median", stored, plane="coronal", size=5), volume.grid.code)
    assert np.array_equal(first.data, second.data)


def test_a_picture_is_one_plane(rng):
    picture = Volume.from_array(rng.integers(0, 255, (20, 30)).astype(np.uint8), spacing=(0.3, 0.2))
    result = lb.apply("median", picture, size=5)
    assert np.array_equal(result.data[0], ndimage.median_filter(picture.data[0], 5))
    notch = lb.apply("notch", picture, centers=[(3, 4)], radius=2)
    assert notch.data.shape == picture.data.shape


def test_history_says_everything(volume):
    result = lb.apply("median", lb.apply("adaptive_median", volume, max_size=5), size=3)
    first, second = result.history
    assert first["operation"] == "adaptive_median"
    assert first["parameters"]["max_size"] == 5
    assert second["parameters"] == {"size": 3, "mode": "reflect"}
    assert second["inputs"] == ["ct · adaptive median 5"]
    assert Grid.from_dict(second["grid"]) == volume.grid


def test_input_is_not_touched(volume):
    before = volume.data.copy()
    volume.data.flags.writeable = False
    for name, values in {"median": {}, "adaptive_median": {}, "otsu": {"classes": 3}}.items():
        lb.apply(name, volume, **values)
    assert np.array_equal(volume.data, before)
    assert volume.history == ()


def test_seeds_are_world_points(volume):
    data = np.zeros((6, 9, 8), np.int16)
    data[2:4, 3:6, 2:5] = 100
    box = volume.replace(data=data)
    seed = volume.grid.to_world((3, 4, 3))
    grown = lb.apply("region_grow", box, seeds=[seed], threshold=10)
    assert np.array_equal(grown.data > 0, data > 0)
    assert grown.kind == "labels"
    assert grown.labels[1].name == "Region growing"
    assert np.allclose(grown.history[-1]["parameters"]["seeds"], [seed])


def test_seeds_of_one_frame_grow_in_it_alone(movie):
    data = np.zeros((3, 5, 7, 6), np.int16)
    data[:, 1:3, 2:5, 2:4] = 9
    film = movie.replace(data=data)
    z, y, x = movie.grid.to_world((2, 3, 3))
    grown = lb.apply("region_grow", film, seeds=[(1, z, y, x)], threshold=1)
    assert not grown.data[0].any()
    assert np.array_equal(grown.data[1] > 0, data[1] > 0)
    everywhere = lb.apply("region_grow", film, seeds=[(z, y, x)], threshold=1)
    assert np.array_equal(everywhere.data > 0, data > 0)


def test_seed_outside_is_refused_with_its_place(volume):
    with pytest.raises(InputError, match=r"x 999\.0, y 0\.0, z 0\.0 mm.*outside"):
        lb.apply("region_grow", volume, seeds=[(0, 0, 999)], threshold=10)


@pytest.mark.parametrize("seeds", [[], [[1, 2]], "here", [[np.nan, 0, 0]], [[7, 0, 0, 0]]])
def test_bad_seeds_are_refused(volume, seeds):
    with pytest.raises(InputError):
        lb.apply("region_grow", volume, seeds=seeds, threshold=10)


def test_other_volumes_must_lie_on_the_same_grid(volume):
    data = np.zeros(volume.data.shape, np.uint8)
    data[:, :4] = 1
    mask = Volume(data, volume.grid, "labels", "mask")
    seed = volume.grid.to_world((3, 2, 3))
    grown = lb.apply("region_grow", volume, mask, seeds=[seed], threshold=5000)
    assert np.array_equal(grown.data > 0, data > 0)
    moved = Volume(data, Grid.from_spacing((3, 1, 1), data.shape), "labels", "elsewhere")
    with pytest.raises(GridError, match="different grids"):
        lb.apply("region_grow", volume, moved, seeds=[seed], threshold=5000)


def test_resample_onto_another_grid(volume):
    finer = volume.grid.with_spacing((1.5, 1.4, 1.1))
    other = Volume(np.zeros(finer.shape, np.int16), finer, name="fine")
    result = lb.apply("resample", volume, other)
    assert result.grid == finer
    assert result.history[-1]["inputs"] == ["ct", "fine"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: lb.apply("medain", v), "medain.*unknown.*median"),
        (lambda v: lb.apply("median", v, sise=3), "no parameter 'sise'.*size"),
        (lambda v: lb.apply("median", v, plane="oblique"), "plane 'oblique' is unknown"),
        (lambda v: lb.apply("reorient", v, plane="axial"), "leave plane"),
        (lambda v: lb.apply("median", v.data), "needs a Volume"),
        (lambda v: lb.apply("median", v, v), "takes 0 further volumes"),
        (lambda v: lb.apply("region_grow", v, threshold=3), "needs seeds"),
        (lambda v: lb.apply("median", v, size=4), "size"),
    ],
)
def test_errors_name_argument_value_and_remedy(volume, call, message):
    with pytest.raises(InputError, match=message) as caught:
        call(volume)
    assert "\n" not in str(caught.value)


def test_cancel_leaves_nothing(volume):
    def listener(what, done, total):
        raise lb.Cancelled

    with lb.listening(listener), pytest.raises(lb.Cancelled):
        lb.apply("median", volume, plane="axial", size=3)


def test_progress_counts_frames(movie):
    seen = []
    with lb.listening(lambda what, done, total: seen.append((what, done, total))):
        lb.apply("median", movie, size=3)
    assert ("frames", 3, 3) in seen


def test_dask_volumes_are_computed_frame_by_frame(movie):
    da = pytest.importorskip("dask.array")
    lazy = movie.replace(data=da.from_array(movie.data, chunks=(1, 5, 7, 6)))
    assert np.array_equal(lb.apply("median", lazy, size=3).data, lb.apply("median", movie, size=3).data)


def test_spectrum_positions_are_frequencies(rng):
    picture = Volume.from_array(np.sin(2 * np.pi * 5 * np.arange(64) / 64)[None, :].repeat(48, 0), spacing=(1, 1))
    spectrum = lb.apply("spectrum", picture)
    peak = np.unravel_index(spectrum.data.argmax(), spectrum.data.shape)
    assert np.allclose(np.abs(spectrum.grid.to_world(peak)[1:]), (0, 5))


def test_labels_are_no_grey_values(volume):
    labels = volume.replace(data=(volume.data > 0).astype(np.uint8), kind="labels", name="organs")
    with pytest.raises(InputError, match="'organs' holds labels"):
        lb.apply("median", labels)
    assert lb.apply("reorient", labels, code="RAS").kind == "labels"


@pytest.mark.parametrize("counts", [(1, 300), (300, 1), (1, 1)])
def test_slices_may_need_more_than_the_type_of_the_first(counts):
    """300 components do not fit the uint8 that one component comes in."""
    data = np.zeros((2, 24, 104), np.uint8)
    for slice_, count in zip(data, counts, strict=True):
        places = np.argwhere(np.ones((12, 26), bool))[:count]
        slice_[places[:, 0] * 2, places[:, 1] * 4] = 1
    found = lb.apply("components", Volume.from_array(data, spacing=(1, 1, 1), kind="labels"), plane="axial")
    assert found.data.dtype == (np.uint16 if max(counts) > 255 else np.uint8)
    for made, mask, count in zip(found.data, data, counts, strict=True):
        assert sorted(made[mask > 0].tolist()) == [*range(1, count + 1)]


def test_what_leaves_the_range_of_probabilities_is_an_image():
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * 4 * np.arange(32) / 32)
    chance = Volume.from_array(np.broadcast_to(wave, (1, 32, 32)).copy(), spacing=(1, 1, 1), kind="probability")
    assert lb.apply("median", chance).kind == "probability"
    assert lb.apply("notch", chance, centers=[(0, 4)], radius=2, mode="pass").kind == "image"


def test_a_seed_between_two_voxels_belongs_to_the_upper_one():
    image = np.zeros((5, 6, 7), np.int16)
    image[3, 2, 2] = 100
    volume = Volume.from_array(image, spacing=(1, 1, 1))
    grown = lb.apply("region_grow", volume, seeds=[(2.5, 2, 2)], threshold=10)
    assert np.array_equal(grown.data, lb.segmentation.region_grow(image, [(2.5, 2, 2)], threshold=10))
    assert grown.data.sum() == 1


@pytest.mark.parametrize(
    ("values", "shown"), [({}, ""), ({"threshold": 10}, " 10"), ({"criterion": "confidence"}, " 2.5")]
)
def test_a_name_shows_no_number_that_the_criterion_leaves_without_meaning(volume, values, shown):
    seeds = [volume.grid.to_world((1, 1, 1))]
    assert lb.apply("region_grow", volume, seeds=seeds, **values).name == f"ct · region growing{shown}"
