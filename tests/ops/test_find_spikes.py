"""Spikes in the spectrum: found where the waves are, and nowhere else."""

import numpy as np
import pytest

import napari_lightbox as lb
from napari_lightbox import Frames, Grid, InputError, Recipe, Volume, phantoms
from napari_lightbox.ops import frequency
from napari_lightbox.progress import Cancelled, listening


def wave(shape, center, phase=0.3):
    """A cosine of as many cycles over every axis as `center` says."""
    index = np.ogrid[tuple(slice(n) for n in shape)]
    return np.cos(2 * np.pi * sum(c * i / n for c, i, n in zip(center, index, shape, strict=True)) + phase)


def pairs(points):
    """The same whichever of two mirror images is named."""
    return {max(tuple(p), tuple(-c for c in p)) for p in np.asarray(points).tolist()}


def decibels(image, truth):
    return 10 * np.log10(np.ptp(truth.astype(float)) ** 2 / np.mean((image.astype(float) - truth) ** 2))


@pytest.fixture(scope="module")
def chest():
    return lb.read(phantoms.sample_path("thorax")).data


@pytest.mark.parametrize("shape", [(128, 128), (97, 130), (64, 200)])
def test_waves_are_found_at_their_frequencies_strongest_first(rng, shape):
    waves = {(20, 31): 3.0, (-25, 12): 2.0, (0, 22): 1.0, (17, 0): 0.7, (-31, -28): 0.5}
    image = rng.normal(size=shape) + sum(a * wave(shape, c) for c, a in waves.items())
    found = frequency.find_spikes(image)
    assert found.dtype.kind == "i"
    assert [pairs([p]) for p in found] == [pairs([c]) for c in waves], found
    # One of each pair: the one whose first offset other than 0 is positive.
    assert all(next(c for c in p if c) > 0 for p in found.tolist())
    assert len(frequency.find_spikes(image, limit=2)) == 2
    assert pairs(frequency.find_spikes(image, guard=25)) == pairs([(20, 31), (-31, -28)])


def test_waves_in_a_volume(rng):
    shape = (40, 48, 56)
    waves = [(9, -14, 20), (-12, 0, 8), (0, 0, 24)]
    image = rng.normal(size=shape) + sum(0.5 * wave(shape, c) for c in waves)
    assert pairs(frequency.find_spikes(image)) == pairs(waves)


def test_the_highest_frequency_is_its_own_mirror_image(rng):
    image = rng.normal(size=(64, 64))
    image[::2] += 1
    assert frequency.find_spikes(image).tolist() == [[-32, 0]]


def test_few_slices_cannot_part_frequencies_across_them(rng):
    """An axis too short for a window still leaves the others their spikes."""
    shape = (6, 64, 64)
    found = frequency.find_spikes(rng.normal(size=shape) + wave(shape, (0, 15, -20)))
    assert found.tolist() == [[0, 15, -20]]


@pytest.mark.parametrize("shape", [(256, 256), (100, 133), (32, 40, 48)])
def test_noise_has_no_spikes(shape):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        assert not len(frequency.find_spikes(rng.normal(size=shape)))
        assert not len(frequency.find_spikes(rng.poisson(3, shape)))


@pytest.mark.parametrize(
    "image",
    [
        np.full((64, 64), 7),
        np.eye(64),
        np.pad([[1.0]], ((30, 33), (20, 43))),
        np.indices((64, 70)).sum(0),
        np.zeros((1, 1)),
        np.zeros((64, 1)),
        np.ones((3, 4, 5)),
    ],
)
def test_what_has_no_pattern_has_no_spikes(image):
    assert frequency.find_spikes(image).shape == (0, image.ndim)


def test_edges_and_borders_are_no_spikes(chest):
    """Edges make ridges through the spectrum, and borders a cross: neither stands alone."""
    box = np.zeros((128, 128))
    box[40:90, 30:75] = 100
    assert not len(frequency.find_spikes(box + np.random.default_rng(0).normal(size=box.shape)))
    assert not any(len(frequency.find_spikes(plane)) for plane in chest[::4])
    assert not len(frequency.find_spikes(chest))


@pytest.mark.parametrize(
    "name",
    [
        "ct_abdomen_organs/example_ct.nii.gz",
        "brain_mni152/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
        "four_d/example4d.nii.gz",
        "xray/00000001_000.png",
        "ultrasound/femur_input.png",
        "oblique_slices/T1W_trans_0_0_0_SENSE_4_1.nii.gz",
    ],
)
def test_real_images_have_none_until_a_wave_is_added(data, name):
    path = data(name)
    volume = lb.read(path, spacing=(1, 1)) if path.suffix == ".png" else lb.read(path)
    frame = np.asarray(volume.frame(0).data)
    for plane in frame[:: max(1, len(frame) // 6)]:
        assert not len(frequency.find_spikes(plane))
    plane = frame[len(frame) // 2].astype(float)
    center = (plane.shape[0] // 4, plane.shape[1] // 5)
    spoilt = plane + 0.5 * plane.std() * wave(plane.shape, center)
    assert frequency.find_spikes(spoilt).tolist() == [list(center)]
    cleaned = frequency.notch(spoilt, radius=3)
    # The filter takes the wave and what the image itself has there.
    assert decibels(cleaned, plane) > decibels(spoilt, plane) + 10


def test_the_phantoms_waves_are_taken_out(chest):
    """Two waves of 120 HU, at 0.125 by 0.0625 and at 0.25 cycles per voxel."""
    spoilt = phantoms.periodic_noise(Volume.from_array(chest)).data
    height, width = spoilt.shape[1:]
    found = frequency.find_spikes(spoilt)
    assert pairs(found) == pairs([(0, height // 8, width // 16), (0, 0, width // 4)])
    # In air the waves were cut off at -1024 HU, which no filter brings back.
    body = chest > -700
    cleaned = frequency.notch(spoilt, radius=3)
    before, after = (np.sqrt(np.mean((a[body] - chest[body]) ** 2.0)) for a in (spoilt, cleaned))
    assert before > 110
    assert after < 30


def test_notch_finds_its_centres_and_the_history_keeps_them(rng):
    """Per slice: each its own; replayed from the numbers, and known again as what was asked for."""
    shape = (3, 64, 72)
    data = rng.normal(size=shape)
    data[0] += wave(shape[1:], (12, 20))
    data[2] += wave(shape[1:], (-15, 9)) + 0.5 * wave(shape[1:], (8, 25))
    volume = Volume(data, Grid.from_spacing((2, 1, 1), shape), name="v")
    result = lb.apply("notch", volume, radius=3)
    step = result.history[-1]
    assert step["parameters"]["centers"] == [[0, 12, 20], [2, 15, -9], [2, 8, 25]]
    assert step["asked"] == {"centers": "auto"}
    assert result.meta["notes"] == [
        "slice 0: 1 spike found in the spectrum at (v, u) = (12, 20)",
        "slice 1: no spikes found in the spectrum: nothing is removed",
        "slice 2: 2 spikes found in the spectrum at (v, u) = (15, -9), (8, 25)",
    ]
    np.testing.assert_array_equal(result.data[1], data[1])
    again = Recipe.of(result).run(volume)
    np.testing.assert_array_equal(again.data, result.data)
    assert "asked" not in again.history[-1]
    for recipe in (Recipe.of(result), Recipe((lb.Step("notch", {"radius": 3}),))):
        assert recipe.made(result.history)
    assert not Recipe((lb.Step("notch", {"radius": 3, "centers": "12, 20"}),)).made(result.history)


def test_without_spikes_the_note_says_what_comes_out(rng):
    image = Volume.from_array(rng.normal(size=(64, 72)), spacing=(1, 1))
    for mode, times, says in (
        ("reject", 1, "nothing is removed"),
        ("pass", 0, "no pattern to show, and the result is 0"),
    ):
        result = lb.apply("notch", image, mode=mode)
        np.testing.assert_array_equal(result.data, times * image.data)
        assert [note.endswith(says) for note in result.meta["notes"]] == [True]


@pytest.mark.parametrize("plane", ["axial", "volume"])
def test_centres_of_frames_are_kept_apart(rng, plane):
    shape = (2, 32, 32, 40)
    data = rng.normal(size=shape)
    data[1] += wave(shape[1:], (0, 9, 12))
    volume = Volume(data, Grid.from_spacing((2, 1, 1), shape, frames=Frames("time", (0, 1), "s")), name="v")
    result = lb.apply("notch", volume, plane=plane, radius=3)
    rows = result.history[-1]["parameters"]["centers"]
    if plane == "volume":
        assert rows == [[1, 0, 9, 12]]
        assert result.history[-1]["plane"] == "volume"
    else:
        assert {tuple(row) for row in rows} <= {(1, i, 9, 12) for i in range(32)}
        assert len(rows) > 24
    np.testing.assert_array_equal(Recipe.of(result).run(volume).data, result.data)


def test_centres_found_in_a_picture_replay(rng):
    picture = Volume.from_array(rng.normal(size=(64, 64)) + wave((64, 64), (12, 20)), spacing=(1, 1))
    result = lb.apply("notch", picture, radius=3)
    assert result.history[-1]["parameters"]["centers"] == [[12, 20]]
    clean = lb.apply("notch", result, radius=3)
    assert clean.history[-1]["parameters"]["centers"] == []
    np.testing.assert_array_equal(Recipe.of(clean).run(picture).data, clean.data)


def test_rows_may_name_their_slice_and_frame(rng):
    shape = (2, 3, 16, 16)
    volume = Volume(rng.normal(size=shape), Grid.from_spacing((2, 1, 1), shape, frames=Frames("time", (0, 1), "s")))
    result = lb.apply("notch", volume, centers="1, 2, 4, 5", radius=2)
    truth = volume.data.copy()
    truth[1, 2] = frequency.notch(volume.data[1, 2], "4, 5", radius=2)
    np.testing.assert_array_equal(result.data, truth)
    result = lb.apply("notch", volume, centers=[[1, 4, 5]], radius=2)
    truth = volume.data.copy()
    for frame in range(2):
        truth[frame, 1] = frequency.notch(volume.data[frame, 1], "4, 5", radius=2)
    np.testing.assert_array_equal(result.data, truth)
    for centers, says in (("2, 0, 4, 5", "frame 2"), ("3, 4, 5", "slice 3"), ("0.5, 4, 5", "slice 0.5")):
        with pytest.raises(InputError, match=says):
            lb.apply("notch", volume, centers=centers, radius=2)


def test_planes_only_operations_take_no_volume(rng):
    volume = Volume.from_array(rng.normal(size=(12, 14, 16)), spacing=(2, 1, 1))
    whole = lb.apply("band_reject", volume, plane="volume", center=0.2, width=0.05, unit="cycles/mm")
    np.testing.assert_allclose(
        whole.data,
        frequency.band_reject(volume.data, 0.2, 0.05, unit="cycles/mm", spacing=(2, 1, 1)),
    )
    np.testing.assert_array_equal(lb.apply("median", volume, plane="volume").data, lb.apply("median", volume).data)
    np.testing.assert_allclose(
        lb.apply("spectrum", volume, plane="volume").data, frequency.spectrum(volume.data), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"threshold": 0}, "threshold"),
        ({"threshold": np.nan}, "threshold"),
        ({"limit": 0}, "limit"),
        ({"guard": -1}, "guard"),
        ({"guard": 2.5}, "guard"),
    ],
)
def test_refused_in_a_sentence(rng, arguments, says):
    with pytest.raises(InputError, match=says):
        frequency.find_spikes(rng.normal(size=(32, 32)), **arguments)


def test_the_search_can_be_cancelled(rng):
    def listener(what, done, total):
        if what == "peaks":
            raise Cancelled

    with listening(listener), pytest.raises(Cancelled):
        frequency.find_spikes(rng.normal(size=(64, 64)))
