"""Filters and resampling through torch: on torch's own CPU device the same as on ours."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import napari_lightbox as lb  # noqa: E402
from napari_lightbox.errors import InputError  # noqa: E402
from napari_lightbox.ops import _device, _frequency_filter, _resample, _tiles, filters  # noqa: E402
from napari_lightbox.ops._torch import filters as torch_filters  # noqa: E402
from napari_lightbox.ops._torch import geometry as torch_geometry  # noqa: E402
from napari_lightbox.ops._torch import spectrum as torch_spectrum  # noqa: E402
from napari_lightbox.ops._torch.tensors import on_torch  # noqa: E402

CPU = torch.device("cpu")
TYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "i8", "f2", "f4", "f8", ">i2"]


def made(rng, shape, dtype, spoilt=0.0):
    values = rng.random(shape) * 200 - (0 if np.dtype(dtype).kind in "ub" else 90)
    image = (values > 100) if dtype == "?" else values.astype(dtype)
    image[rng.random(shape) < spoilt] = 0
    return image


def padded(image, halo, mode):
    return _tiles.with_halo(image, tuple(slice(0, n) for n in image.shape), halo, mode)


@pytest.mark.parametrize("dtype", TYPES)
def test_medians_are_the_same(rng, dtype):
    for shape, sizes in (((7, 9), (3, 5)), ((4, 6, 8), (3, 3, 3)), ((9,), (5,)), ((1, 2, 2), (3, 3, 3))):
        image = made(rng, shape, dtype)
        found = torch_filters.median(padded(image, [s // 2 for s in sizes], "reflect"), sizes, CPU)
        assert found.dtype == image.dtype
        assert np.array_equal(found, filters.median(image, sizes))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("spoilt", [0.3, 0.9])
def test_adaptive_medians_are_the_same(rng, dtype, spoilt):
    for shape in ((11, 12), (5, 6, 7), (13,)):
        image = made(rng, shape, dtype, spoilt)
        for size in (3, 5, 7):
            found = torch_filters.adaptive_median(padded(image, [size // 2] * image.ndim, "mirror"), size, CPU)
            assert np.array_equal(found, filters.adaptive_median(image, size, mode="mirror"))


def test_nan_and_infinity(rng):
    image = rng.random((12, 12)).astype(np.float32)
    image[3, 4], image[8, 8], image[0, 0] = np.nan, np.inf, -np.inf
    found = torch_filters.median(padded(image, [1, 1], "reflect"), (3, 3), CPU)
    assert np.array_equal(found, filters.median(image, 3), equal_nan=True)
    found = torch_filters.adaptive_median(padded(image, [2, 2], "reflect"), 5, CPU)
    assert np.array_equal(found, filters.adaptive_median(image, 5), equal_nan=True)


def test_many_windows_are_gathered_in_chunks(rng, monkeypatch):
    image = made(rng, (9, 10, 11), "i2", 0.5)
    whole = filters.median(image, 3), filters.adaptive_median(image, 5)
    monkeypatch.setitem(torch_filters._GATHERED, "cpu", 100)
    assert np.array_equal(torch_filters.median(padded(image, [1] * 3, "reflect"), (3,) * 3, CPU), whole[0])
    assert np.array_equal(torch_filters.adaptive_median(padded(image, [2] * 3, "reflect"), 5, CPU), whole[1])


OBLIQUE = np.eye(4)
OBLIQUE[:3] = [[0.77, -0.31, 0.02, 1.3], [0.24, 1.05, 0.1, -2.2], [0.05, 0.03, 0.93, 0.7]]


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("order", ["nearest", "linear", "cubic"])
def test_resampling_is_the_same(rng, order, dtype):
    image = made(rng, (12, 14, 16), dtype)
    for matrix in (OBLIQUE, np.diag([0.7, 0.5, 1.3, 1.0])):
        ours = _resample.pull(image, matrix, (13, 11, 15), order, 0)
        found = torch_geometry.pull(image, matrix, (13, 11, 15), order, 0, CPU)
        assert found.dtype == image.dtype
        if image.dtype.kind == "f" and order == "cubic":
            assert np.allclose(found, ours, rtol=1e-6, atol=1e-4)
        else:
            assert np.array_equal(found, ours)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(9, 10), (8, 7), (5, 6, 9), (6, 4, 8)])
def test_spectra_are_filtered_the_same(rng, shape, dtype):
    image = made(rng, shape, dtype)
    for transfer, key in (
        _frequency_filter.notches(np.array([[1.0] * len(shape)]), shape, 1.5, "gaussian", 2, "reject"),
        _frequency_filter.band([1.0] * len(shape), 2.0, 1.0, "butterworth", 2, "pass"),
    ):
        ours = _frequency_filter.multiplied(image, transfer, key)
        found = torch_spectrum.multiplied(image, transfer, CPU)
        assert found.dtype == ours.dtype
        assert np.allclose(found, ours, rtol=1e-4 if ours.dtype == np.float32 else 1e-9, atol=1e-3)


def test_a_spoilt_voxel_spoils_the_same_voxels(rng):
    image = rng.random((5, 6, 7)).astype(np.float32)
    image[2, 3, 3] = np.nan
    matrix = np.diag([0.5, 0.5, 0.5, 1.0])
    ours = _resample.pull(image, matrix, (10, 12, 14), "linear", 0)
    found = torch_geometry.pull(image, matrix, (10, 12, 14), "linear", 0, CPU)
    assert np.array_equal(np.isfinite(found), np.isfinite(ours))


def test_devices_that_are_not_there_are_one_sentence(monkeypatch):
    assert _device.torch_device("cpu") is None
    with pytest.raises(InputError, match="device 'gpu' is unknown"):
        _device.torch_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"device 'cuda' is not there .*use 'cpu'"):
        _device.torch_device("cuda")
    with pytest.raises(InputError, match="64-bit"):
        on_torch(np.zeros(3, np.uint64), CPU)


# Through the operations -------------------------------------------------------------------------------------------

CASES = {
    "median": {"size": 3},
    "adaptive_median": {"max_size": 5},
    "notch": {"centers": [[2, 3, 1]], "radius": 1.0},
    "band_reject": {"center": 3.0, "width": 1.0, "plane": "volume"},
    "affine": {"rotate": (5.0, 10.0, 0.0)},
    "resample": {"spacing": (2.0, 1.3, 1.1), "order": "cubic"},
}


@pytest.mark.parametrize("name", CASES)
def test_operations_take_a_device_and_do_not_record_it(rng, name, monkeypatch):
    """A card that is not there stands for itself: its torch device is the processor."""
    asked = []

    def stand_in(device):
        asked.append(device)
        return CPU if device == "cuda" else None

    for module in ("filters", "frequency", "spatial"):
        monkeypatch.setattr(f"napari_lightbox.ops.{module}.torch_device", stand_in)
    volume = lb.Volume.from_array(rng.random((6, 9, 10)).astype(np.float32), spacing=(2.5, 1.0, 1.0))
    parameters = dict(CASES[name])
    if name == "notch":
        parameters["plane"] = "volume"
    ours = lb.apply(name, volume, **parameters)
    found = lb.apply(name, volume, device="cuda", **parameters)
    assert "cuda" in asked
    assert found.grid == ours.grid
    assert np.allclose(found.data, ours.data, rtol=1e-5, atol=1e-5)
    assert found.history == ours.history
    assert lb.Recipe.of(found).run(volume).data.shape == ours.data.shape


def test_operations_that_know_no_card_say_so(rng):
    volume = lb.Volume.from_array(rng.random((6, 9, 10)), spacing=(2.5, 1.0, 1.0))
    with pytest.raises(InputError, match="otsu computes on the processor only"):
        lb.apply("otsu", volume, device="cuda")
