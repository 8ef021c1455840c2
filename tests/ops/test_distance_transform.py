"""Distance maps against every pair of voxels, and against scipy; with the kernel and without."""

import time

import numpy as np
import pytest
from kernel_cases import without_kernels
from scipy import ndimage

import napari_lightbox as lb
from napari_lightbox import Cancelled, remarks
from napari_lightbox.errors import InputError
from napari_lightbox.ops import _ready, distance

SIDES = ("outside", "inside", "both")
# One step of single precision, which scipy's double precision is rounded to, and one of ours.
CLOSE = {"rtol": 2.5e-7, "atol": 0}


@pytest.fixture(scope="module")
def kernel():
    if not _ready.available():
        pytest.skip("numba is not installed, or switched off")
    assert distance.KERNELS.wait(("any",)) is not None


def by_scipy(labels, spacing, side):
    out = ndimage.distance_transform_edt(labels == 0, spacing) if side != "inside" else 0
    inside = ndimage.distance_transform_edt(labels != 0, spacing) if side != "outside" else 0
    return inside if side == "inside" else out - inside


def some_labels(rng, shape):
    """Return noise, few voxels, or smooth blobs, with both kinds of voxels."""
    kind = rng.integers(4)
    if kind == 0:
        found = rng.random(shape) < rng.choice([0.5, 0.1, 0.01])
    elif kind == 1:
        found = np.zeros(shape, bool)
        found[tuple(rng.integers(n) for n in shape)] = True
    else:
        found = ndimage.gaussian_filter(rng.normal(size=shape), 3) > 0
    found = ~found if rng.random() < 0.3 else found
    # Both kinds, whatever came out.
    found.flat[0], found.flat[-1] = True, False
    labels = found * rng.integers(1, 9, shape)
    return np.asfortranarray(labels) if rng.random() < 0.3 else labels


@pytest.mark.parametrize("side", SIDES)
def test_every_pair_of_voxels(rng, kernel, monkeypatch, side):
    labels = rng.integers(0, 3, (4, 5, 6)) // 2
    spacing = np.array([2.5, 0.5, 1.0])
    places = np.argwhere(np.ones_like(labels)) * spacing
    apart = np.linalg.norm(places[:, None] - places, axis=-1)
    one = labels.reshape(-1) != 0
    out, inside = apart[:, one].min(1), apart[:, ~one].min(1)
    expected = {"outside": out, "inside": inside, "both": out - inside}[side].reshape(labels.shape)
    found = distance.distance_transform(labels, spacing, side)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, **CLOSE)
    plain = without_kernels(monkeypatch, distance.distance_transform, labels, spacing, side)
    np.testing.assert_allclose(plain, expected, **CLOSE)


@pytest.mark.parametrize("number", range(200))
def test_two_hundred_cases_equal_scipy(kernel, number):
    rng = np.random.default_rng(number)
    axes = 2 + number % 2
    shape = tuple(int(n) for n in rng.integers(1, (20, 40, 150)[3 - axes :]))
    if np.prod(shape) < 2:
        shape = (*shape[:-1], 2)
    labels, spacing = some_labels(rng, shape), rng.choice([0.3, 0.7, 1.0, 2.5, 7.0], axes)
    for side in SIDES:
        found = distance.distance_transform(labels, spacing, side)
        np.testing.assert_allclose(found, by_scipy(labels, spacing, side), err_msg=f"{shape} {spacing}", **CLOSE)


@pytest.mark.parametrize("shape", [(3, 400, 70), (400, 2, 65), (1, 1, 300), (300, 1, 1), (300, 1)])
def test_far_things_along_every_axis(kernel, shape):
    labels = np.zeros(shape, np.uint8)
    labels[(0,) * len(shape)] = labels[(-1,) * len(shape)] = 1
    spacing = (2.0, 1.0, 0.5)[3 - len(shape) :]
    for side in SIDES:
        found = distance.distance_transform(labels, spacing, side)
        np.testing.assert_allclose(found, by_scipy(labels, spacing, side), **CLOSE)


def test_a_single_thread_and_many_parts_give_the_same(rng, kernel, monkeypatch):
    labels = some_labels(rng, (30, 50, 130))
    whole = distance.distance_transform(labels, (2, 1, 1), "both")
    monkeypatch.setattr(distance, "_PART", 1000)
    monkeypatch.setenv("LIGHTBOX_THREADS", "3")
    np.testing.assert_array_equal(distance.distance_transform(labels, (2, 1, 1), "both"), whole)


@pytest.mark.parametrize("side", SIDES)
def test_where_there_is_nothing_to_be_far_from_nothing_is_made_up(kernel, side):
    for labels, wanting in ((np.zeros((3, 4), int), "inside"), (np.ones((3, 4), int), "outside")):
        with remarks.collecting() as said:
            found = distance.distance_transform(labels, (1, 1), side)
        if side == wanting:
            np.testing.assert_array_equal(found, 0)
            assert not said.notes
        else:
            assert np.isnan(found).all()
            assert "distances are NaN" in said.notes[0]


@pytest.mark.parametrize("compiled", [True, False])
def test_one_label_alone(rng, kernel, monkeypatch, compiled):
    if not compiled:
        monkeypatch.setenv("LIGHTBOX_COMPILED", "0")
    labels = rng.integers(0, 40, (6, 20, 30))
    found = distance.distance_transform(labels, (3, 1, 1), "both", label=7)
    np.testing.assert_allclose(found, by_scipy(labels == 7, (3, 1, 1), "both"), **CLOSE)
    with remarks.collecting() as said:
        assert np.isnan(distance.distance_transform(labels, (3, 1, 1), label=77)).all()
    assert "label 77" in said.notes[0]


def test_clear_errors():
    with pytest.raises(InputError, match="side 'left'"):
        distance.distance_transform(np.eye(3, dtype=int), (1, 1), "left")
    with pytest.raises(InputError, match="label must be a whole number of at least 1"):
        distance.distance_transform(np.eye(3, dtype=int), (1, 1), label=0)
    with pytest.raises(InputError, match="whole numbers"):
        distance.distance_transform(np.eye(3) / 2, (1, 1))


def test_every_frame_of_a_series_in_mm_of_its_grid():
    data = np.zeros((2, 5, 6, 7), np.uint8)
    data[0, 2, 3, 3] = data[1, 0, 0, 0] = 4
    grid = lb.Grid.from_spacing((3.0, 1.0, 2.0), data.shape, frames=lb.Frames("time", (0.0, 1.0)))
    volume = lb.Volume(data, grid, "labels", labels={4: lb.Label("node")})
    found = lb.apply("distance_transform", volume)
    assert (found.kind, found.meta["unit"], found.labels) == ("image", "mm", {})
    assert found.grid == volume.grid
    for frame in range(2):
        expected = ndimage.distance_transform_edt(data[frame] == 0, (3.0, 1.0, 2.0))
        np.testing.assert_allclose(found.data[frame], expected, **CLOSE)


def test_scipy_can_be_left_while_it_works(monkeypatch):
    monkeypatch.setenv("LIGHTBOX_COMPILED", "0")
    monkeypatch.setattr(ndimage, "distance_transform_edt", lambda *_: time.sleep(20))

    def cancel(*_what):
        raise Cancelled

    began = time.perf_counter()
    with pytest.raises(Cancelled), lb.listening(cancel):
        distance.distance_transform(np.eye(3, dtype=int), (1, 1))
    assert time.perf_counter() - began < 10
