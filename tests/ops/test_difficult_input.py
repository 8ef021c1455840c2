"""Arrays that no one tidied up: the right result, or one sentence; and never a change to the input."""

import numpy as np
import pytest

from napari_lightbox.errors import InputError
from napari_lightbox.ops import filters, frequency, measure, metrics, morphology, segmentation

CALLS = {
    "median": lambda a: filters.median(a, 3),
    "adaptive_median": lambda a: filters.adaptive_median(a, 5),
    "spectrum": frequency.spectrum,
    "notch": lambda a: frequency.notch(a, "1, 2, 3" if np.ndim(a) == 3 else "2, 3", radius=1),
    "band_reject": lambda a: frequency.band_reject(a, 2.5, 1),
    "otsu": lambda a: segmentation.otsu(a, 2),
    "otsu of 3": lambda a: segmentation.otsu(a, 3),
    "grow by seed": lambda a: segmentation.region_grow(a, [(0,) * np.ndim(a)], threshold=20),
    "grow by mean": lambda a: segmentation.region_grow(a, [(0,) * np.ndim(a)], criterion="mean", threshold=20),
    "minimum": lambda a: filters.minimum(a, 3),
    "maximum": lambda a: filters.maximum(a, (3,) * np.ndim(a)),
    "percentile": lambda a: filters.percentile(a, 25, 3),
    "mean": lambda a: filters.mean(a, 3),
    "gaussian": lambda a: filters.gaussian(a, (1.0,) * np.ndim(a), 0.7),
    "erosion": lambda a: morphology.erosion(a, (1.0,) * np.ndim(a), 1.0),
    "closing": lambda a: morphology.closing(a, (1.0,) * np.ndim(a), 1.5),
    "table": lambda a: measure.label_table(np.ones(np.shape(a), np.uint8), (1.0,) * np.ndim(a), a),
}
NOT_LINES = ("notch", "band_reject", "grow by seed", "grow by mean", "table", "erosion", "closing")
# Their results are values of the image; or they are rounded to its type.
SELECT = ("median", "adaptive_median", "minimum", "maximum", "percentile", "erosion", "closing")
ROUNDED = ("mean", "gaussian")
FINITE_ONLY = ("spectrum", "notch", "band_reject")


def same(first, second):
    if isinstance(first, list):
        assert first == second
    elif first.dtype.kind == "f":
        # A transform sums in an order that depends on the memory layout, and in float64 for a list of numbers.
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-4)
    else:
        np.testing.assert_array_equal(first, second)


@pytest.fixture
def image(rng):
    return rng.integers(0, 100, (8, 9)).astype(np.int16)


@pytest.mark.parametrize("name", CALLS)
def test_memory_layouts_and_owners(image, name):
    da = pytest.importorskip("dask.array")
    call = CALLS[name]
    truth = call(image)
    read_only = image.copy()
    read_only.flags.writeable = False
    wide = np.zeros((8, 18), np.int16)
    wide[:, ::2] = image
    for other in (
        read_only,
        np.asfortranarray(image),
        wide[:, ::2],
        image[::-1, ::-1].copy()[::-1, ::-1],
        image.astype(">i2"),
        image.view(np.dtype("i2").newbyteorder("<")),
        da.from_array(image, chunks=4),
        image.tolist(),
    ):
        kept = np.array(other)
        same(call(other), truth)
        np.testing.assert_array_equal(np.array(other), kept)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", ["?", "b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d", ">f8", ">u2"])
def test_every_real_type_is_taken(image, name, dtype):
    given = (image > 50 if dtype == "?" else image).astype(dtype)
    kept = given.copy()
    if dtype == "?" and name == "otsu of 3":
        with pytest.raises(InputError, match="only 2 different values"):
            CALLS[name](given)
        return
    truth = CALLS[name](given.astype(np.float64))
    found = CALLS[name](given)
    if name == "table":
        assert found == truth
    elif name in FINITE_ONLY:
        np.testing.assert_allclose(found, truth, rtol=1e-3, atol=1e-2)
    elif name in ROUNDED:
        np.testing.assert_allclose(found, truth, atol=0.5001 if found.dtype.kind in "iu" else 0.03)
    else:
        np.testing.assert_array_equal(found, truth)
    if name in SELECT:
        assert found.dtype == given.dtype.newbyteorder("=")
    np.testing.assert_array_equal(given, kept)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((0, 5)), "empty"),
        (np.zeros((4, 0), np.int16), "empty"),
        (np.zeros((4, 4), complex), "complex"),
        (np.zeros((4, 4), [("r", "u1"), ("g", "u1"), ("b", "u1")]), "one channel"),
        (np.array([["a", "b"]]), "no real numbers"),
        (np.array([[None, 1]]), "no real numbers"),
        (np.array([["2020-01-01"]], "M8[D]"), "no real numbers"),
        (np.zeros((4, 4), np.longdouble), "float64"),
        (np.float64(3), "single number"),
    ],
)
def test_what_is_no_image_is_refused(name, array, says):
    if array.dtype == np.float64 and array.ndim and says == "float64":
        pytest.skip("long double is float64 here")
    with pytest.raises(InputError, match=says) as caught:
        CALLS[name](array)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (1, 1, 1), (1, 6, 5), (6, 1, 5), (2, 2, 2), (5,), (1,)])
def test_small_and_thin_shapes(rng, name, shape):
    if len(shape) == 1 and name in NOT_LINES:
        with pytest.raises(InputError, match="axes"):
            CALLS[name](np.zeros(shape))
        return
    image = rng.permutation(int(np.prod(shape))).reshape(shape).astype(np.int16)
    refusal = None
    highest = np.hypot.reduce([n // 2 for n in shape])
    if (name == "notch" and min(shape) < 6) or (name == "band_reject" and highest < 2):
        refusal = "outside the spectrum"
    elif name.startswith("otsu"):
        refusal = {1: "constant", 2: "only 2" if name == "otsu of 3" else None}.get(image.size)
    if refusal:
        with pytest.raises(InputError, match=refusal):
            CALLS[name](image)
        return
    found = CALLS[name](image)
    if name != "table":
        assert found.shape == shape


@pytest.mark.parametrize("name", CALLS)
def test_a_constant_image(name):
    image = np.full((6, 7), 40, np.int16)
    if name.startswith("otsu"):
        with pytest.raises(InputError, match="constant"):
            CALLS[name](image)
        return
    found = CALLS[name](image)
    if name in SELECT:
        np.testing.assert_array_equal(found, image)
    if name == "notch":
        # The tail of the Butterworth profile reaches the zero frequency.
        transfer = (1 / (1 + (1 / np.hypot(2, 3)) ** 4)) ** 2
        np.testing.assert_allclose(found, 40 * transfer, rtol=1e-6)
    if name.startswith("grow"):
        assert found.all()


@pytest.mark.parametrize("name", CALLS)
def test_nan_infinite_and_huge_values(image, name):
    spoilt = image.astype(np.float64)
    spoilt[3, 4], spoilt[5, 5], spoilt[6, 1] = np.nan, np.inf, -np.inf
    huge = image * 1e305
    if name in FINITE_ONLY:
        with pytest.raises(InputError, match="NaN or infinite"):
            CALLS[name](spoilt)
        with pytest.raises(InputError, match="too large"):
            CALLS[name](huge * 10)
        return
    with np.errstate(all="raise"):
        CALLS[name](spoilt)
        CALLS[name](huge)
    if name in SELECT:
        np.testing.assert_array_equal(CALLS[name](huge), CALLS[name](image) * 1e305)


@pytest.mark.parametrize("size", [0, -3, 2, 4, 2.5, "3", None, True, np.nan, (3, 3, 3), (3, 4)])
def test_window_sizes_that_cannot_be(image, size):
    with pytest.raises(InputError, match="size"):
        filters.median(image, size)
    if not isinstance(size, tuple):
        with pytest.raises(InputError, match="max_size"):
            filters.adaptive_median(image, size)


def test_further_choices_that_cannot_be(image):
    with pytest.raises(InputError, match="max_size"):
        filters.adaptive_median(image, 1)
    for function in (filters.median, filters.adaptive_median):
        with pytest.raises(InputError, match="mode 'around' is unknown"):
            function(image, mode="around")


def test_a_window_far_larger_than_the_image(image):
    found = filters.median(image, 31)
    assert found.shape == image.shape
    assert filters.adaptive_median(image[:2, :3], 31).shape == (2, 3)


def test_whole_numbers_may_come_as_floats_or_numpy_numbers(image):
    truth = filters.median(image, 3)
    for size in (3.0, np.int64(3), np.float32(3), [3, 3], np.array([3, 3])):
        np.testing.assert_array_equal(filters.median(image, size), truth)


def test_labels_in_metrics_keep_every_digit():
    big = np.array([[2**63 + 1, 2**63 + 2]], np.uint64)
    assert [row["label"] for row in metrics.confusion(big, big)] == [2**63 + 1, 2**63 + 2]
    assert [row["label"] for row in measure.label_table(big, (1, 1))] == [2**63 + 1, 2**63 + 2]
