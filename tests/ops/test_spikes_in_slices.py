"""A pattern that runs through a stack of slices is found in all of them, however weak, and is treated alike."""

import numpy as np
import pytest

import napari_lightbox as lb
from napari_lightbox import Frames, Grid, Recipe, Volume, phantoms, preview
from napari_lightbox.ops import _frequency_spikes, frequency
from napari_lightbox.preview import Known, Where, reach, slice_of
from napari_lightbox.progress import Cancelled, listening

SHAPE = (18, 80, 96)
PLACE = (11, 17)


def wave(shape, center):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.cos(2 * np.pi * (center[0] * y / shape[0] + center[1] * x / shape[1]) + 0.4)


def volume_of(data, spacing=(2, 1, 1)):
    return Volume(data, Grid.from_spacing(spacing, data.shape), name="v")


@pytest.fixture(scope="module")
def weak():
    """Noise whose strength differs from slice to slice, and a wave in every slice that hardly shows."""
    rng = np.random.default_rng(3)
    strength = np.linspace(1, 5, SHAPE[0])[:, None, None]
    return strength * (rng.normal(size=SHAPE) + 0.35 * wave(SHAPE[1:], PLACE))


def left_of_wave(data, whole):
    """How much of the wave is left in each slice, relative to what was there."""
    pattern = wave(data.shape[1:], PLACE)
    return np.abs((data * pattern).sum(axis=(1, 2)) / (whole * pattern).sum(axis=(1, 2)))


def test_a_weak_wave_is_taken_out_of_every_slice(weak):
    alone = [[list(PLACE)] == frequency.find_spikes(plane).tolist() for plane in weak]
    # Slice by slice it would be found in some only, and stripes would be left.
    assert 2 <= sum(alone) <= SHAPE[0] - 2
    result = lb.apply("notch", volume_of(weak), radius=2)
    step = result.history[-1]
    assert step["parameters"]["centers"] == [list(PLACE)]
    assert step["asked"] == {"centers": "auto"}
    assert result.meta["notes"] == ["1 spike found in the spectrum at (v, u) = (11, 17)"]
    for plane, cleaned in zip(weak, result.data, strict=True):
        np.testing.assert_array_equal(cleaned, frequency.notch(plane, [PLACE], radius=2))
    assert left_of_wave(result.data, weak).max() < 0.05
    np.testing.assert_array_equal(Recipe.of(result).run(volume_of(weak)).data, result.data)
    np.testing.assert_array_equal(lb.apply("notch", volume_of(weak), radius=2).data, result.data)


def test_the_preview_shows_what_comes_out(weak, monkeypatch):
    data = weak.copy()
    data[4] += 3 * wave(SHAPE[1:], (-20, 6))
    volume, known, searches = volume_of(data), Known(), []
    whole = lb.apply("notch", volume, radius=2)
    find = _frequency_spikes.find_in_slices
    monkeypatch.setattr(_frequency_spikes, "find_in_slices", lambda *rest: searches.append(1) or find(*rest))
    for index in (0, 4, 5, 17):
        part = slice_of("notch", volume, Where(0, index), radius=2, known=known)
        np.testing.assert_array_equal(part.data[0], whole.data[index])
    assert len(searches) == 1
    assert reach("notch", volume, 0, None, {"radius": 2}) == "statistics"
    assert reach("notch", volume, 0, None, {"centers": "auto"}) == "statistics"
    assert reach("notch", volume, 0, None, {"centers": "3, 4"}) == "slice"
    assert reach("notch", Volume.from_array(data[0]), 0, None, {"centers": "auto"}) == "slice"
    # Seen across another axis the whole result is needed, and what was known does not get in its way.
    part = slice_of("notch", volume, Where(1, 7), radius=2, known=known)
    np.testing.assert_array_equal(part.data[:, 0], whole.data[:, 7])
    part = slice_of("notch", volume, Where(0, 4), radius=2, known=known)
    np.testing.assert_array_equal(part.data[0], whole.data[4])
    assert preview.slice_of("notch", volume, Where(0, 4), centers="11, 17", radius=2).data.shape == (1, 80, 96)


def test_a_wave_of_one_slice_is_taken_out_of_that_one(weak):
    data = weak.copy()
    data[4] += 20 * wave(SHAPE[1:], (-20, 6))
    result = lb.apply("notch", volume_of(data), radius=2)
    rows = result.history[-1]["parameters"]["centers"]
    assert rows == [row for i in range(18) for row in [[i, 11, 17], *([[4, 20, -6]] if i == 4 else [])]]
    assert len(result.meta["notes"]) == 2
    np.testing.assert_array_equal(Recipe.of(result).run(volume_of(data)).data, result.data)
    np.testing.assert_array_equal(result.data[5], frequency.notch(data[5], [PLACE], radius=2))


@pytest.mark.parametrize(("slices", "common"), [((2, 3), False), ((2, 3, 9), True)])
def test_what_a_third_of_the_slices_has_counts_for_all(slices, common):
    data = np.random.default_rng(1).normal(size=(9, 64, 64))
    for n, index in enumerate(slices):
        # Found a sample away it is the same wave.
        data[index - 1] += wave((64, 64), (15, 20 + (n == 1)))
    found = [points.tolist() for points in _frequency_spikes.find_in_slices(data, 4.0, 20, 5)]
    if common:
        assert found == [[[15, 20]]] * 9
    else:
        assert [i for i, points in enumerate(found, 1) if points] == [2, 3]


def test_noise_and_anatomy_have_none():
    for seed in range(2):
        noise = np.random.default_rng(seed).normal(size=(7, 64, 72))
        assert not any(len(points) for points in _frequency_spikes.find_in_slices(noise, 4.0, 20, 5))
    chest = lb.read(phantoms.sample_path("thorax")).data
    assert not any(len(points) for points in _frequency_spikes.find_in_slices(chest, 4.0, 20, 5))


def test_slices_without_content_have_no_say(rng):
    data = np.zeros((6, 64, 64))
    assert not any(len(points) for points in _frequency_spikes.find_in_slices(data, 4.0, 20, 5))
    data[2:4] = rng.normal(size=(2, 64, 64)) + wave((64, 64), (15, 20))
    assert [points.tolist() for points in _frequency_spikes.find_in_slices(data, 4.0, 20, 5)] == [[[15, 20]]] * 6
    tiny = rng.normal(size=(3, 8, 9))
    assert not any(len(points) for points in _frequency_spikes.find_in_slices(tiny, 4.0, 20, 5))


def test_frames_have_their_own(weak):
    data = np.stack([weak[:6] * 0 + np.random.default_rng(0).normal(size=(6, *SHAPE[1:])), weak[:6]])
    grid = Grid.from_spacing((2, 1, 1), data.shape, frames=Frames("time", (0, 1), "s"))
    result = lb.apply("notch", Volume(data, grid), radius=2)
    assert result.history[-1]["parameters"]["centers"] == [[1, i, 11, 17] for i in range(6)]
    np.testing.assert_array_equal(Recipe.of(result).run(Volume(data, grid)).data, result.data)
    np.testing.assert_array_equal(result.data[0], data[0])


def test_other_planes_have_their_own_stack(weak):
    turned = np.ascontiguousarray(weak.transpose(1, 0, 2))
    result = lb.apply("notch", volume_of(turned, (1, 2, 1)), plane="coronal", radius=2)
    assert result.history[-1]["parameters"]["centers"] == [list(PLACE)]
    truth = lb.apply("notch", volume_of(weak), radius=2).data
    np.testing.assert_allclose(result.data.transpose(1, 0, 2), truth, atol=1e-9)


def test_the_search_can_be_cancelled(weak):
    reports = []

    def listener(*report):
        reports.append(report)
        if len(reports) == 5:
            raise Cancelled

    with listening(listener), pytest.raises(Cancelled):
        lb.apply("notch", volume_of(weak), radius=2)
    assert len(reports) == 5
