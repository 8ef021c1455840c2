"""What is worked on slab by slab, or slice by slice side by side, is as it is at once."""

import threading

import numpy as np
import pytest
from scipy import ndimage

import napari_lightbox as lb
from napari_lightbox.catalogue import OPERATIONS
from napari_lightbox.ops import _lines, _nearest, _regions, _tiles, _warp, filters


def blobs(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    return (np.digitize(smooth / smooth.std(), (0.8, 1.3, 1.8)) * 40).astype(dtype)


@pytest.mark.parametrize("element", ["ball", "box"])
@pytest.mark.parametrize("radius", [1.0, 3.2, 9.0])
def test_nearest_labels_in_slabs(radius, element, monkeypatch):
    labels = blobs((23, 20, 26), np.uint8)
    labels[6:15] = 0
    values = _regions.values_of(labels)
    whole = _nearest.nearest(labels, values, radius, (2.0, 0.7, 0.9), element)
    monkeypatch.setattr(_nearest, "_THICK", 1)
    np.testing.assert_array_equal(_nearest.nearest(labels, values, radius, (2.0, 0.7, 0.9), element), whole)
    assert (whole != labels).any()


@pytest.mark.parametrize("mode", ["reflect", "nearest", "mirror", "constant", "wrap"])
@pytest.mark.parametrize("shape", [(23, 9, 12), (23, 14), (2, 30, 8)])
def test_separable_filters_in_slabs(shape, mode, monkeypatch):
    image = np.random.default_rng(8).integers(-900, 900, shape).astype(np.int16)
    widths = (7, 3, 5)[: len(shape)]
    calls = [
        lambda: filters.mean(image, widths, mode=mode),
        lambda: filters.gaussian(image, (1.5, 0.8, 0.9)[: len(shape)], 2.0, mode=mode),
        lambda: filters.gaussian(image, (1.0,) * len(shape), [0.0, 1.5, 1.0][: len(shape)], mode=mode),
        lambda: filters.gaussian(image, (1.0,) * len(shape), [1.5, 0.0, 0.0][: len(shape)], mode=mode),
    ]
    whole = [call() for call in calls]
    monkeypatch.setattr(_lines, "_THICK", 1)
    for call, truth in zip(calls, whole, strict=True):
        np.testing.assert_array_equal(call(), truth)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, bool])
def test_values_and_boxes_in_slabs(dtype, monkeypatch):
    labels = blobs((19, 14, 17), dtype, seed=2)
    labels[:2], labels[17:], labels[:, 0] = 0, 0, 0
    monkeypatch.setattr(_regions, "_SLAB", 500)
    values = _regions.values_of(labels)
    assert values.tolist() == np.unique(labels[labels != 0]).tolist()
    found = _regions.boxes(labels, values)
    assert found == [ndimage.find_objects((labels == value).view(np.uint8))[0] for value in values]
    assert _regions._extent(labels) == ndimage.find_objects((labels != 0).view(np.uint8))[0]


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64, np.int64])
def test_planes_from_the_same_places_equal_scipy(dtype):
    data = (np.random.default_rng(6).normal(size=(5, 31, 23)) * 90 + 100).astype(dtype)
    y, x = np.mgrid[:31, :23].astype(float)
    places = np.stack([1.02 * y + 0.03 * x - 0.4, 0.97 * x - 0.02 * y + 0.3])
    found = _warp.pull_planes(
        data, 0, lambda block: places[(slice(None), *block)], "linear", -1 if dtype != np.uint8 else 9
    )
    inside = ((places >= -0.5) & (places < np.array([31, 23]).reshape(2, 1, 1) - 0.5)).all(axis=0)
    for plane, made in zip(data, found, strict=True):
        kind = np.float32 if data.dtype.itemsize < 3 or dtype == np.float32 else np.float64
        truth = ndimage.map_coordinates(plane, places, kind, order=1, mode="nearest")
        truth = truth if data.dtype.kind == "f" else np.rint(truth).astype(dtype)
        np.testing.assert_array_equal(made[inside], truth[inside])
        assert (made[~inside] == (-1 if dtype != np.uint8 else 9)).all()


def test_a_part_that_is_cut_again_stays_in_its_thread(monkeypatch):
    monkeypatch.setenv("LIGHTBOX_THREADS", "3")
    threads, together = [], threading.Barrier(2, timeout=5)

    def outer(part):
        if part < 2:
            together.wait()
        _tiles.run(lambda _: threads.append((part, threading.get_ident())), range(4), "inner")

    _tiles.run(outer, range(6), "outer")
    assert len(threads) == 24
    assert all(len({thread for part, thread in threads if part == one}) == 1 for one in range(6))
    assert len({thread for _, thread in threads}) > 1
    # Afterwards, and outside, threads work side by side again.
    again = threading.Barrier(2, timeout=5)
    _tiles.run(lambda _: again.wait(), range(2), "outer")


@pytest.mark.parametrize("name", ["gaussian", "erosion", "bias_field", "spectrum", "rician_noise"])
def test_slices_side_by_side_are_those_one_by_one(name, monkeypatch):
    data = (np.random.default_rng(7).normal(size=(6, 20, 21)) * 50).astype(np.int16)
    volume = lb.Volume.from_array(data, spacing=(2, 1, 1))
    assert OPERATIONS[name].side_by_side
    monkeypatch.setenv("LIGHTBOX_THREADS", "3")
    many = lb.apply(name, volume, plane="axial").data
    for index in range(6):
        one = lb.apply(name, lb.Volume.from_array(data[index : index + 1], spacing=(2, 1, 1))).data
        np.testing.assert_array_equal(many[index : index + 1], one)
