"""Cubic splines, compiled: against scipy, SimpleITK and the way that serves until they are ready."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

from napari_lightbox.geometry import Grid
from napari_lightbox.ops import _resample, _resample_axes, _splines, spatial
from napari_lightbox.ops._interpolation import coefficients
from napari_lightbox.ops._splines import MARGIN, Spline
from napari_lightbox.progress import Cancelled, listening
from napari_lightbox.volume import Volume

pytest.importorskip("numba")

C, S = np.cos(0.4), np.sin(0.4)
TURN = np.array([[C, -S, 0], [S, C, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, C, S], [0, -S, C]])
SHAPES = [(9, 20, 17), (1, 24, 18), (1, 1, 1), (2, 1, 3), (3, 4, 301), (70, 5, 33), (4, 2, 16)]
CASES = [("oblique", "h"), ("oblique", "d"), ("along", "h")]
SLOW = [(kind, code) for kind in ("oblique", "along") for code in "?bBhHiIqQefd" if (kind, code) not in CASES]


def ready(kind, dtype):
    assert Spline(kind, np.dtype(dtype)).wait()
    return Spline(kind, np.dtype(dtype))


@pytest.fixture
def plainly(monkeypatch):
    """Return a way to resample without these kernels."""

    def pull(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(Spline, "ready", False)
            return _resample.pull(*arguments)

    return pull


def voxels(rng, shape, dtype):
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        # Extremes side by side make the spline swing beyond the type.
        low, high = (info.min, info.max) if dtype.itemsize < 8 else (0, 1 << 50)
        return rng.integers(low, high, shape, dtype, endpoint=True)
    return rng.random(shape) < 0.5 if dtype.kind == "b" else (rng.normal(size=shape) * 100).astype(dtype)


def placed(linear, shape, target):
    """Return a map that takes the middle of an output to the middle of an input."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = (np.array(shape) - 1) / 2 - linear @ ((np.array(target) - 1) / 2) + [0.21, -0.32, 0.13]
    return matrix


@pytest.mark.parametrize("shape", [*SHAPES, (41, 42, 43), (17, 90, 61)])
@pytest.mark.parametrize("dtype", ["f", "d"])
def test_coefficients_equal_those_of_scipy_to_the_last_digit(rng, shape, dtype, monkeypatch):
    monkeypatch.setattr(_splines, "_PART", 500)
    data = voxels(rng, shape, dtype)
    found = ready("oblique", {"f": "h", "d": "d"}[dtype]).coefficients(data)
    assert found.dtype == data.dtype
    truth = coefficients(data.copy())
    np.testing.assert_array_equal(found[(slice(MARGIN, -MARGIN),) * 3], truth)
    whole = ndimage.spline_filter(data.astype("d"), 3, mode="mirror")
    np.testing.assert_allclose(truth, whole, atol=(1e-11 if dtype == "d" else 1e-3))
    for axis, length in enumerate(shape):
        mirrored = np.take(found, [*range(MARGIN), *range(length + MARGIN, length + 2 * MARGIN)], axis)
        period = max(1, 2 * length - 2)
        index = [min(i % period, -i % period) + MARGIN for i in (-2, -1, length, length + 1)]
        np.testing.assert_array_equal(mirrored, np.take(found, index, axis))


@pytest.mark.parametrize(("kind", "dtype"), [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)])
def test_both_ways_agree(rng, plainly, kind, dtype, monkeypatch):
    """Along axes to the last digit, else to some 1e-15 of the largest value."""
    monkeypatch.setattr(_splines, "_PART", 700)
    ready(kind, dtype)
    flipped = np.diag([0.7, -1.3, 0.45])
    linears = [TURN * 0.8, TURN.T] if kind == "oblique" else [flipped, flipped[[2, 0, 1]], np.diag([2.5, 0.3, 1.0])]
    for shape in SHAPES:
        for linear in linears:
            target = (12, 19, 23)
            data = voxels(rng, shape, dtype)
            arguments = data, placed(linear, shape, target), target, "cubic", data.flat[0].item()
            kept = data.copy()
            found, truth = _resample.pull(*arguments), plainly(*arguments)
            assert found.dtype == truth.dtype == np.dtype(dtype)
            if kind == "oblique" and dtype in "fdqQ":
                # Of 64-bit integers, too, a double holds no more digits.
                digits = np.finfo("f" if dtype == "f" else "d").eps
                difference = found.astype(float) - truth.astype(float)
                assert np.abs(difference).max() <= 16 * digits * np.abs(data.astype(float)).max()
            else:
                np.testing.assert_array_equal(found, truth)
            np.testing.assert_array_equal(data, kept)


def test_oblique_values_equal_scipy_and_simpleitk(rng):
    ready("oblique", "d")
    data, target = ndimage.gaussian_filter(rng.normal(size=(14, 22, 19)), 1) * 500, (15, 18, 21)
    matrix = placed(TURN * 0.9, data.shape, target)
    found = _resample.pull(data, matrix, target, "cubic", -7.0)
    place = np.indices(target).reshape(3, -1).T @ matrix[:3, :3].T + matrix[:3, 3]
    inside = ((place >= -0.5) & (place < np.array(data.shape) - 0.5)).all(axis=1).reshape(target)
    assert 0.2 < inside.mean() < 0.95
    assert (found[~inside] == -7).all()
    mirrored = ndimage.affine_transform(data, matrix[:3, :3], matrix[:3, 3], target, order=3, mode="mirror")
    np.testing.assert_allclose(found[inside], mirrored[inside], atol=1e-10)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3][::-1, ::-1].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3][::-1].tolist())
    image, like = sitk.GetImageFromArray(data), sitk.Image(target[::-1], sitk.sitkUInt8)
    itk = sitk.GetArrayFromImage(sitk.Resample(image, like, transform, sitk.sitkBSpline, -7.0))
    np.testing.assert_allclose(found, itk, atol=1e-9)


def test_both_ways_agree_on_what_lies_outside_of_a_single_slice(rng, plainly):
    ready("oblique", "h")
    data = rng.integers(-100, 0, (1, 6, 39), np.int16)
    for _ in range(20):
        turn = np.round(np.linalg.qr(rng.normal(size=(3, 3)))[0] * 2) / 2 + np.eye(3) / 4
        matrix = placed(turn, data.shape, (9, 16, 123))
        # So many places lie half a voxel from the slice, exactly.
        matrix[:3, 3] = np.round(matrix[:3, 3] * 2) / 2
        arguments = data, matrix, (9, 16, 123), "cubic", 100
        truth, found = plainly(*arguments), _resample.pull(*arguments)
        np.testing.assert_allclose(found.astype(int), truth.astype(int), rtol=0, atol=1)


def test_the_kernels_sums_equal_the_formula(rng):
    """64 products written out in numpy, at places that a line of the output passes."""
    spline = ready("oblique", "h")
    data, target = voxels(rng, (7, 8, 9), "h") // 8, (3, 4, 150)
    linear = np.array([[0.5, 0.1, 0.01], [0.2, 1.1, 0.02], [0.0, 0.3, 0.04]])
    matrix = placed(linear, data.shape, target)
    found = spline.oblique(data, matrix, target, [slice(0, 3)], -9)
    factors = spline.coefficients(data).astype(float)
    for index in np.argwhere(found != -9)[::7]:
        place = linear @ index + matrix[:3, 3]
        first = np.floor(place).astype(int)
        weights = []
        for t in place - first:
            distance = np.abs(t + 1 - np.arange(4))
            weights.append(np.where(distance < 1, 2 / 3 - distance**2 + distance**3 / 2, (2 - distance) ** 3 / 6))
        around = factors[tuple(slice(f + MARGIN - 1, f + MARGIN + 3) for f in first)]
        value = np.einsum("zyx,z,y,x", around, *weights)
        assert found[tuple(index)] == np.clip(np.rint(value), -32768, 32767)


def test_it_is_used_when_ready_and_asked_for_before(rng, monkeypatch):
    asked = []
    monkeypatch.setattr(_splines.KERNELS, "ask", lambda key, work: asked.append((key, work)))
    monkeypatch.setattr(_splines.KERNELS, "get", lambda key: None)
    volume = Volume(voxels(rng, (5, 6, 7), "h"), Grid.from_spacing((1, 1, 1), (5, 6, 7)))
    spatial.affine(volume, rotate=(5, 6, 7), order="cubic")
    spatial.resample(volume, (1, 1, 0.5), order="cubic")
    assert [key for key, _ in asked] == [
        ("filter", "f4"),
        ("oblique", "f4", "i2"),
        ("filter", "f4"),
        ("along", "f4", "i2"),
    ]
    assert [work for _, work in asked] == [210, 210, 420, 420]


def test_any_layout_and_arrays_that_may_not_be_written(rng):
    ready("oblique", "h")
    ready("along", "h")
    data = voxels(rng, (9, 20, 17), "h")
    for linear in (TURN, np.diag([0.5, 1.2, 0.7])):
        arguments = placed(linear, data.shape, (8, 9, 10)), (8, 9, 10), "cubic", 0
        truth = _resample.pull(data, *arguments)
        for other in (np.asfortranarray(data), np.repeat(data, 2, axis=2)[..., ::2], data[::-1].copy()[::-1]):
            other.flags.writeable = False
            np.testing.assert_array_equal(_resample.pull(other, *arguments), truth)


def test_cancel_is_heard(rng):
    ready("oblique", "h")
    volume = Volume(np.zeros((40, 128, 128), np.int16), Grid.from_spacing((1, 1, 1), (40, 128, 128)))
    reports = []

    def listener(*report):
        reports.append(report)
        if len(reports) == 9:
            raise Cancelled

    with listening(listener), pytest.raises(Cancelled):
        spatial.affine(volume, rotate=(3, 4, 5), order="cubic")
    assert len(reports) == 9


# Linear interpolation along the axes --------------------------------------------------------------------------------


def by_simpleitk(data, matrix, shape, slabs, fill):
    result = np.empty(shape, data.dtype)
    _resample._by_simpleitk(data, matrix, "linear", fill, result, slabs)
    return result


@pytest.mark.parametrize("dtype", ["h", *[pytest.param(c, marks=pytest.mark.slow) for c in "bBHiIfd"]])
def test_linear_along_axes_equals_simpleitk_to_the_last_digit(rng, dtype, monkeypatch):
    assert _resample_axes.LINES.wait((np.dtype(dtype).str[1:],)) is not None
    monkeypatch.setattr(_resample_axes, "_STRETCH", 60)
    monkeypatch.setattr(_resample_axes, "_PART", 300)
    for _ in range(60):
        shape, target = rng.integers(1, 25, 3), tuple(int(n) for n in rng.integers(1, 30, 3))
        steps = rng.normal(size=3).round(int(rng.integers(1, 4))) + 0.00317
        matrix = np.eye(4)
        matrix[:3, :3] = np.diag(steps)[:, rng.permutation(3)]
        matrix[:3, 3] = (rng.random(3) * shape).round(int(rng.integers(0, 3)))
        data, slabs = voxels(rng, shape, dtype), _resample_axes._tiles.slabs(target, 500)
        found = _resample_axes.linear(data, matrix, target, slabs, 3)
        assert found.dtype == data.dtype
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, by_simpleitk(data, matrix, target, slabs, 3))


def test_linear_along_axes_through_resample_and_what_it_leaves_to_others(rng, monkeypatch):
    assert _resample_axes.LINES.wait(("i2",)) is not None
    data = voxels(rng, (9, 20, 17), "h")
    volume = Volume(data, Grid.from_spacing((2, 1, 1), data.shape))
    found = spatial.resample(volume, (1.3, 0.7, 0.9)).data
    monkeypatch.setattr(_resample_axes, "linear", lambda *_: None)
    np.testing.assert_array_equal(spatial.resample(volume, (1.3, 0.7, 0.9)).data, found)
    monkeypatch.undo()
    read_only = np.asfortranarray(data)
    read_only.flags.writeable = False
    np.testing.assert_array_equal(spatial.resample(volume.replace(data=read_only), (1.3, 0.7, 0.9)).data, found)
    # A voxel that is no number spoils no more than where it counts: the kernel leaves such volumes alone.
    monkeypatch.setattr(_resample_axes.LINES, "get", lambda key: pytest.fail)
    holed = np.ones((4, 5, 6), np.float32)
    holed[2, 2, 2] = np.nan
    matrix = placed(np.diag([0.5, 0.5, 0.5]), holed.shape, (6, 7, 8))
    assert _resample_axes.linear(holed, matrix, (6, 7, 8), [slice(0, 6)], 0) is None
    assert _resample_axes.linear(holed > 0, matrix, (6, 7, 8), [slice(0, 6)], 0) is None
