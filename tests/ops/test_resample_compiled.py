"""The compiled way of resampling against the way through SimpleITK: the same to the last digit."""

import numpy as np
import pytest
from scipy import ndimage

from napari_lightbox.geometry import Grid
from napari_lightbox.ops import _resample, _resample_axes, _resample_compiled, spatial
from napari_lightbox.ops._resample_compiled import Compiled
from napari_lightbox.progress import Cancelled, listening
from napari_lightbox.volume import Volume

pytest.importorskip("numba")

TYPES = {
    "nearest": ["?", "b", "H", "h", "e", "f", "I", "q", "Q", "d"],
    "linear": ["B", "h", "i", "f", "d"],
}
BOTH = [(order, dtype) for order, types in TYPES.items() for dtype in types]
C, S = np.cos(0.4), np.sin(0.4)
TURN = np.array([[C, -S, 0], [S, C, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, C, S], [0, -S, C]])
# Shape of the input, matrix and shift from output to input index, shape of the output.
MAPS = {
    "oblique": ((9, 20, 17), TURN, (1.0, -3.0, 2.5), (12, 19, 23)),
    "flips": ((9, 20, 17), np.diag((-0.9, 0.7, -1.3)), (8.2, -0.3, 16.4), (12, 30, 15)),
    "shear": ((9, 20, 17), np.array([[0.8, 0.3, 0], [0.1, 1, -0.2], [0, 0.4, 1.1]]), (-1, 0.5, 2), (9, 20, 17)),
    "half voxels": ((9, 20, 17), np.diag((0.5, 0.5, 0.5)), (-0.5, -0.25, 0.25), (20, 41, 34)),
    "onto the ends": ((4, 5, 6), np.diag((0.25, 0.5, 1.0)), (-0.5, -0.5, -0.5), (18, 13, 8)),
    "whole steps": ((9, 20, 17), np.diag((1.0, -2.0, 1.0))[[1, 0, 2]], (-1.0, 9.0, 3.0), (11, 9, 20)),
    "swapped": ((9, 20, 17), np.eye(3)[[2, 0, 1]] * 1.01, (0.1, 0.2, 0.3), (20, 17, 9)),
    "one slice": ((1, 24, 18), TURN @ np.diag((1.0, 0.6, 0.6)), (-2, 4, 1), (1, 30, 31)),
    "one voxel": ((1, 1, 1), np.diag((0.4, 0.3, 0.2)), (-0.6, -0.5, -0.6), (5, 6, 9)),
    "two voxels": ((2, 1, 2), TURN * 0.3, (0.0, -0.2, 0.1), (5, 3, 7)),
    "long lines": ((3, 4, 301), np.diag((1, 1, 0.7)), (0.2, 0.1, -3.0), (3, 4, 700)),
    "several bricks": ((20, 12, 90), TURN, (4.0, -3.0, 2.5), (37, 11, 290)),
    "to one voxel": ((9, 20, 17), TURN, (4.0, 9.0, 8.0), (1, 1, 1)),
}


def voxels(rng, shape, dtype):
    dtype = np.dtype(dtype)
    if dtype.kind in "iu" and dtype.itemsize < 8:
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    if dtype.kind in "iu":
        # Digits that a double cannot hold.
        return rng.integers(np.iinfo(dtype).max - 99, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    return (rng.normal(size=shape) * 100).astype(dtype) if dtype.kind == "f" else rng.random(shape) < 0.5


def matrix_of(name):
    _, linear, shift, _ = MAPS[name]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, shift
    return matrix


@pytest.fixture
def by_simpleitk(monkeypatch):
    """Return a way to resample that never uses the kernels."""

    def pull(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(_resample_axes, "along_axes", lambda matrix: False)
            patch.setattr(Compiled, "ready", False)
            patch.setattr(Compiled, "ask", lambda self, voxels: None)
            return _resample.pull(*arguments)

    return pull


@pytest.mark.parametrize(("order", "dtype"), BOTH)
def test_both_ways_agree_to_the_last_digit(rng, by_simpleitk, order, dtype):
    assert Compiled(order, np.dtype(dtype)).wait()
    for name, (shape, _, _, target) in MAPS.items():
        data = voxels(rng, shape, dtype)
        arguments = data, matrix_of(name), target, order, data.flat[0].item()
        kept = data.copy()
        truth, found = by_simpleitk(*arguments), _resample.pull(*arguments)
        assert found.dtype == truth.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(found, truth, err_msg=name)
        np.testing.assert_array_equal(data, kept)


def test_single_precision_is_sure_of_what_it_rounds(rng, by_simpleitk):
    """Values as near to a half as they get: wherever single precision might err, double precision is asked."""
    assert Compiled("linear", np.dtype("H")).wait()
    data = voxels(rng, (9, 40, 60), "H")
    sure = _resample_compiled.sure_of(_resample_compiled.largest(data))
    assert 0.4 < sure < 0.43
    for step in (1 / 3, 0.3, 0.123, 127 / 128):
        for turned in (0.0, 1e-3):
            matrix = np.diag([step, step, step, 1.0])
            matrix[0, 1] = turned
            arguments = data, matrix, (20, 100, 150), "linear", 0
            np.testing.assert_array_equal(_resample.pull(*arguments), by_simpleitk(*arguments))


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2"])
def test_whole_numbers_are_rounded_and_scipy_agrees_within_one(rng, dtype):
    assert Compiled("linear", np.dtype(dtype)).wait()
    data, matrix = voxels(rng, (12, 30, 40), dtype), matrix_of("oblique")
    matrix[:3, 3] = 3.0, 8.0, 12.0
    found = _resample.pull(data, matrix, (5, 12, 20), "linear", 0)
    exact = ndimage.affine_transform(
        data.astype(float), matrix[:3, :3], matrix[:3, 3], (5, 12, 20), order=1, cval=np.nan
    )
    inside = np.isfinite(exact)
    assert inside.mean() > 0.5
    # Half a voxel's unit, and the noise of single precision, in which a value is rounded.
    assert np.abs(found - exact)[inside].max() <= 0.5 + 0.01


@pytest.mark.parametrize("order", ["nearest", "linear"])
def test_random_maps_agree(rng, by_simpleitk, order):
    assert Compiled(order, np.dtype("h")).wait()
    for _ in range(60):
        shape, target = rng.integers(1, 25, 3), tuple(int(n) for n in rng.integers(1, 30, 3))
        matrix = np.eye(4)
        matrix[:3, :3] = rng.normal(size=(3, 3)).round(int(rng.integers(0, 4)))
        matrix[:3, 3] = (rng.random(3) * shape).round(int(rng.integers(0, 3)))
        data = voxels(rng, shape, "h")
        arguments = data, matrix, target, order, -5
        np.testing.assert_array_equal(_resample.pull(*arguments), by_simpleitk(*arguments))


def test_random_maps_along_the_axes_agree(rng, by_simpleitk, monkeypatch):
    """Planes that are skipped, repeated, swapped or flipped need no kernel."""
    monkeypatch.setattr(_resample_axes, "_PART", 200)
    monkeypatch.setattr(Compiled, "fetch", None)
    for dtype in ("h", "?", "Q", "e", "d"):
        for _ in range(30):
            shape, target = rng.integers(1, 25, 3), tuple(int(n) for n in rng.integers(1, 30, 3))
            matrix = np.eye(4)
            steps = rng.normal(size=3).round(int(rng.integers(1, 4))) + 0.01
            matrix[:3, :3] = np.diag(steps)[:, rng.permutation(3)]
            matrix[:3, 3] = (rng.random(3) * shape).round(int(rng.integers(0, 3)))
            data = voxels(rng, shape, dtype)
            arguments = data, matrix, target, "nearest", data.flat[0].item()
            np.testing.assert_array_equal(_resample.pull(*arguments), by_simpleitk(*arguments))


@pytest.mark.parametrize("dtype", ["?", "B", "h", "i", "f", "d", "Q"])
def test_splines_along_the_axes_agree(rng, by_simpleitk, monkeypatch, dtype):
    monkeypatch.setattr(_resample_axes, "_PART", 500)
    for _ in range(12):
        shape, target = rng.integers(1, 20, 3), tuple(int(n) for n in rng.integers(1, 25, 3))
        matrix = np.eye(4)
        matrix[:3, :3] = np.diag(rng.normal(size=3).round(2) + 0.003)[:, rng.permutation(3)]
        matrix[:3, 3] = rng.random(3) * shape
        data = (rng.random(shape) < 0.5) if dtype == "?" else (rng.random(shape) * 200).astype(dtype)
        arguments = data, matrix, target, "cubic", 0
        found, truth = _resample.pull(*arguments), by_simpleitk(*arguments)
        assert found.dtype == data.dtype
        if dtype in "fd":
            np.testing.assert_allclose(found, truth, atol=1e-3)
        else:
            # A value half way between two whole numbers may fall to either.
            assert np.abs(found.astype(float) - truth.astype(float)).max(initial=0) <= 1
            assert (found == truth).mean() > 0.99


@pytest.mark.parametrize("order", ["nearest", "linear"])
def test_several_slabs_and_a_change_of_ways_on_the_run(rng, by_simpleitk, order, monkeypatch):
    data = voxels(rng, (9, 20, 17), "h")
    monkeypatch.setattr(_resample, "_SLABS", {"nearest": 1000, "linear": 1000})
    monkeypatch.setattr(_resample_compiled, "_PART", 500)
    arguments = data, matrix_of("oblique"), (12, 19, 23), order, 0
    assert Compiled(order, data.dtype).wait()
    truth = by_simpleitk(*arguments)
    np.testing.assert_array_equal(_resample.pull(*arguments), truth)
    answers = iter([False, False, False, False, True])
    used = []
    fetch = Compiled.fetch
    monkeypatch.setattr(Compiled, "ready", property(lambda self: next(answers, True)))
    monkeypatch.setattr(Compiled, "fetch", lambda self, *rest: used.append(len(rest[4])) or fetch(self, *rest))
    np.testing.assert_array_equal(_resample.pull(*arguments), truth)
    assert used
    assert 0 < used[0] < 6


@pytest.mark.parametrize("dtype", ["f", "d"])
def test_nan_and_infinite_voxels_spoil_no_more_than_before(rng, by_simpleitk, dtype):
    for order in ("nearest", "linear"):
        assert Compiled(order, np.dtype(dtype)).wait()
        data = voxels(rng, (9, 20, 17), dtype)
        data[3, 4, 5], data[5, 10, 9], data[8, 19, 16] = np.nan, np.inf, -np.inf
        for name in ("oblique", "half voxels", "swapped"):
            arguments = data, matrix_of(name), (12, 19, 23), order, np.nan
            np.testing.assert_array_equal(_resample.pull(*arguments), by_simpleitk(*arguments))


def test_the_largest_doubles_do_not_overflow(rng, by_simpleitk):
    most = np.finfo(float).max
    data = rng.choice([most, -most, 0.0], (9, 20, 17))
    assert Compiled("linear", data.dtype).wait()
    for name in ("oblique", "half voxels", "several bricks"):
        arguments = data, matrix_of(name), (12, 19, 23), "linear", 0.0
        np.testing.assert_array_equal(_resample.pull(*arguments), by_simpleitk(*arguments))


def test_any_memory_layout_and_arrays_that_may_not_be_written(rng, by_simpleitk):
    data = voxels(rng, (9, 20, 17), "h")
    for order in ("nearest", "linear"):
        assert Compiled(order, data.dtype).wait()
        truth = by_simpleitk(data, matrix_of("oblique"), (12, 19, 23), order, 0)
        for other in (np.asfortranarray(data), np.repeat(data, 2, axis=2)[..., ::2], data[::-1].copy()[::-1]):
            other.flags.writeable = False
            np.testing.assert_array_equal(_resample.pull(other, matrix_of("oblique"), (12, 19, 23), order, 0), truth)
            assert not other.flags.writeable
        data.flags.writeable = True


def test_the_kernel_is_asked_for_when_there_is_enough_to_do(monkeypatch):
    asked = []
    monkeypatch.setattr(_resample_compiled.KERNELS, "ask", lambda key, voxels: asked.append((key, voxels)))
    data = np.zeros((4, 5, 6), np.int16)
    for order in ("linear", "nearest"):
        _resample.pull(data, matrix_of("oblique"), (7, 8, 9), order, 0)
    assert asked == [(("linear", "i2"), 7 * 8 * 9), (("nearest", "u2"), 7 * 8 * 9)]
    for order, dtype in (("cubic", "h"), ("linear", "Q"), ("linear", "?")):
        assert not Compiled(order, np.dtype(dtype)).wait()


def test_switched_off_simpleitk_serves(rng, monkeypatch):
    assert Compiled("linear", np.dtype("h")).wait()
    monkeypatch.setenv("LIGHTBOX_COMPILED", "0")
    monkeypatch.setattr(Compiled, "fetch", None)
    assert not Compiled("linear", np.dtype("h")).ready
    volume = Volume(voxels(rng, (5, 6, 7), "h"), Grid.from_spacing((1, 1, 1), (5, 6, 7)))
    assert spatial.affine(volume, rotate=(5, 6, 7)).data.shape == (5, 6, 7)


@pytest.mark.parametrize("order", ["nearest", "linear"])
def test_cancel_is_heard_by_the_compiled_way(order):
    assert Compiled(order, np.dtype("h")).wait()
    volume = Volume(np.zeros((64, 256, 256), np.int16), Grid.from_spacing((1, 1, 1), (64, 256, 256)))
    reports = []

    def listener(*report):
        reports.append(report)
        if len(reports) == 3:
            raise Cancelled

    with listening(listener), pytest.raises(Cancelled):
        spatial.affine(volume, rotate=(3, 4, 5), order=order, scale=(1, 2, 2), grid="fit")
    assert len(reports) == 3
