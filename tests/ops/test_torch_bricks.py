"""Resampling through torch in bricks, on torch's own CPU device: the same as with the whole input on the card."""

import numpy as np
import pytest
from traced import peak

torch = pytest.importorskip("torch")

from napari_lightbox.errors import InputError  # noqa: E402
from napari_lightbox.ops import _bricks, _frequency_filter, _interpolation, _resample  # noqa: E402
from napari_lightbox.ops._torch import geometry, spectrum, tensors  # noqa: E402
from napari_lightbox.progress import Cancelled, listening  # noqa: E402

CPU = torch.device("cpu")
ORDERS = ("nearest", "linear", "cubic")
SHAPE, TARGET = (9, 150, 140), (7, 30, 40)
OBLIQUE = np.eye(4)
OBLIQUE[:3] = [[0.9, -0.05, 0.04, 2.3], [0.9, 3.4, 0.4, -9.2], [-0.3, 0.7, 2.9, -7.7]]
MATRICES = {"oblique": OBLIQUE, "along": np.diag([1.3, 3.9, 3.1, 1.0]), "voxels": np.diag([1.0, 3.0, -3.0, 1.0])}
MATRICES["voxels"][2, 3] = 139


def voxels(rng, shape, dtype):
    values = rng.random(shape) * 200 - (0 if np.dtype(dtype).kind in "ub" else 90)
    return values > 100 if dtype == "?" else values.astype(dtype)


def limited(monkeypatch, limit):
    """Lower the limits, and return the lists that bricks and the bytes brought of each are noted in."""
    divisions, brought, divide, bring = [], [], geometry._division, geometry._brought

    def noted(*given):
        source = bring(*given)
        brought.append(source.numel() * source.element_size())
        return source

    monkeypatch.setattr(_bricks, "LIMIT", limit)
    monkeypatch.setattr(geometry, "_ON_CARD", limit)
    monkeypatch.setattr(geometry, "_division", lambda *given: divisions.append(divide(*given)) or divisions[-1])
    monkeypatch.setattr(geometry, "_brought", noted)
    return divisions, brought


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "u2", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("name", MATRICES)
def test_bricks_give_the_same(rng, monkeypatch, name, dtype):
    data, matrix = voxels(rng, SHAPE, dtype), MATRICES[name]
    for order in ORDERS:
        spline = order == "cubic" and name != "voxels"
        limit = (350_000 if np.dtype(dtype).itemsize < 8 and dtype != "i4" else 1_100_000) if spline else 100_000
        # Places depend on where slabs begin, in their last digits.
        monkeypatch.setitem(geometry._SLAB, order, 2 * TARGET[1] * TARGET[2])
        monkeypatch.setitem(geometry._SLAB, "nearest", 2 * TARGET[1] * TARGET[2])
        arguments = data, matrix, TARGET, order, 1, CPU
        whole = geometry.pull(*arguments)
        with monkeypatch.context() as patch:
            divisions, brought = limited(patch, limit)
            found = geometry.pull(*arguments)
        assert len(divisions[0]) > 1
        assert 1 < len(brought) <= len(divisions[0])
        assert max(brought) <= limit
        assert found.dtype == data.dtype
        assert len(np.unique(found)) > (1 if dtype == "?" else 50)
        np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("order", ORDERS)
def test_bricks_give_what_the_processor_gives(rng, monkeypatch, order):
    data = voxels(rng, SHAPE, "i2")
    ours = _resample.pull(data, OBLIQUE, TARGET, order, -3)
    divisions, _ = limited(monkeypatch, 350_000 if order == "cubic" else 100_000)
    found = geometry.pull(data, OBLIQUE, TARGET, order, -3, CPU)
    assert len(divisions[0]) > 1
    assert 0.2 < (found != -3).mean() < 1
    np.testing.assert_array_equal(found, ours)


@pytest.mark.parametrize("order", ORDERS)
def test_of_an_output_in_a_corner_only_that_is_brought(rng, monkeypatch, order):
    data, matrix = voxels(rng, (9, 400, 300), "f4"), np.diag([0.9, 1.1, 1.2, 1.0])
    matrix[:3, 3] = 0.3, 320.2, 200.4
    arguments = data, matrix, (8, 20, 30), order, 1, CPU
    whole = geometry.pull(*arguments)
    divisions, brought = limited(monkeypatch, 700_000)
    found = geometry.pull(*arguments)
    assert len(divisions[0]) == len(brought) == 1
    assert len(np.unique(found)) > 1000
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("dtype", ["?", "u1", "u2", "f2", "f4", ">i2"])
def test_an_array_brought_in_slabs_is_that_at_once(rng, monkeypatch, dtype):
    array = voxels(rng, (7, 5, 6), dtype).transpose(1, 2, 0)
    whole = tensors.in_slabs(array, CPU)
    assert torch.equal(whole, tensors.on_torch(array, CPU))
    monkeypatch.setattr(tensors, "_SLAB", 50)
    found = tensors.in_slabs(array, CPU)
    assert found.dtype == whole.dtype
    assert torch.equal(found, whole)
    # A slab is one plane of it.
    turned = np.ascontiguousarray(array)[::-1]
    assert torch.equal(tensors.in_slabs(turned, CPU), whole.flip(0))
    with pytest.raises(InputError, match="64-bit"):
        tensors.in_slabs(np.zeros((9, 9, 9), np.uint64), CPU)


@pytest.mark.parametrize(("dtype", "order"), [("i2", "cubic"), ("u2", "linear"), ("f4", "linear"), ("?", "nearest")])
def test_memory_does_not_grow_with_the_volume(monkeypatch, dtype, order):
    limited(monkeypatch, 3 << 19)
    monkeypatch.setattr(_interpolation, "_LINES", 1 << 14)
    monkeypatch.setattr(tensors, "_SLAB", 1 << 14)
    monkeypatch.setenv("LIGHTBOX_THREADS", "1")
    for key in ORDERS:
        monkeypatch.setitem(geometry._SLAB, key, 1 << 10)
    matrix = np.diag([1.1, 7.3, 7.9, 1.0])
    # What the first call of a process loads does not count.
    geometry.pull(np.zeros((3, 4, 4), dtype), np.diag([0.5, 0.5, 0.5, 1.0]), (3, 4, 4), order, 1, CPU)
    peaks = []
    for depth in (60, 400):
        data = np.zeros((depth, 60, 60), dtype).transpose(0, 2, 1)
        peaks.append(peak(lambda d=data: geometry.pull(d, matrix, (len(d), 6, 6), order, 1, CPU)))
    # Whole, the coefficients of the larger take 5.8 MB, 16-bit integers as those of 32 the same.
    assert max(peaks) < (3 << 20 if order == "cubic" else 1 << 20)


def test_a_spectrum_leaves_no_other_copy_on_this_machine(rng, monkeypatch):
    image = voxels(rng, (60, 60, 60), "i2")
    transfer, key = _frequency_filter.band([1.0] * 3, 2.0, 1.0, "butterworth", 2, "pass")
    ours = _frequency_filter.multiplied(image, transfer, key)
    monkeypatch.setattr(tensors, "_SLAB", 1 << 13)
    monkeypatch.setattr(spectrum, "_SLAB", 1 << 10)
    found = []

    def call():
        found.append(spectrum.multiplied(image, transfer, CPU))
        return np.empty(0)

    # The image in single precision takes 860 kB.
    assert peak(call) < 300_000
    np.testing.assert_allclose(found[0], ours, rtol=1e-4, atol=1e-3)


def test_progress_counts_bricks_and_cancel_is_heard(rng, monkeypatch):
    limited(monkeypatch, 350_000)
    arguments = voxels(rng, SHAPE, "i2"), OBLIQUE, TARGET, "cubic", 0, CPU
    heard = []

    def listener(*report):
        heard.append(report)
        if report[:2] == ("bricks", 1):
            raise Cancelled

    with listening(listener), pytest.raises(Cancelled):
        geometry.pull(*arguments)
    assert heard[-1][2] > 1
