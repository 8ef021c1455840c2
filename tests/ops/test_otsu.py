"""Otsu's thresholds against all partitions tried one by one, and against scikit-image."""

import itertools

import numpy as np
import pytest
from skimage.filters import threshold_multiotsu, threshold_otsu

from napari_lightbox.errors import InputError
from napari_lightbox.ops import _otsu, _ready, segmentation


def between_variance(values, thresholds):
    """Between-class variance, by its definition."""
    edges = [-np.inf, *thresholds, np.inf]
    total, mean = len(values), values.mean()
    found = 0.0
    for low, high in itertools.pairwise(edges):
        members = values[(values > low) & (values <= high)]
        if len(members):
            found += len(members) / total * (members.mean() - mean) ** 2
    return found


def best_by_trying(values, classes):
    """Largest between-class variance of all choices of thresholds among the values that occur."""
    levels = np.unique(values)[:-1]
    return max(between_variance(values, cut) for cut in itertools.combinations(levels, classes - 1))


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_no_partition_is_better(rng, classes):
    for _ in range(12):
        values = rng.choice(rng.integers(-300, 300, 14), 60).astype(np.int16)
        if len(np.unique(values)) < classes:
            continue
        thresholds = segmentation.otsu_thresholds(values, classes)
        assert thresholds.shape == (classes - 1,)
        assert (np.diff(thresholds) > 0).all()
        assert np.isin(thresholds, values).all()
        truth = best_by_trying(values.astype(float), classes)
        assert between_variance(values.astype(float), thresholds) == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("levels", [5, 40, 256])
def test_equals_scikit_image_on_the_same_histogram(rng, classes, levels):
    if classes == 4 and levels == 256:
        pytest.skip("scikit-image tries all partitions: too slow here")
    parts = [rng.normal(m, levels / 20, 500) for m in np.linspace(0.1, 0.9, classes) * levels]
    image = np.clip(np.concatenate(parts).round(), 0, levels - 1).astype(np.uint8)
    counts = np.bincount(image, minlength=levels)
    truth = threshold_multiotsu(hist=counts, classes=classes)
    found = segmentation.otsu_thresholds(image, classes)
    # Empty levels between two classes part them equally well.
    cuts = [np.searchsorted(np.unique(image), t, side="right") for t in (found, truth)]
    np.testing.assert_array_equal(cuts[0], cuts[1])
    if classes == 2:
        np.testing.assert_array_equal(image > found[0], image > threshold_otsu(hist=counts))


def test_many_levels_and_classes_are_still_the_best(rng):
    """The quick search over 16 bits against a plain one over all pairs."""
    values = np.concatenate([rng.normal(m, 60, 300) for m in (-800, 0, 300, 900)]).astype(np.int16)
    levels, counts = np.unique(values, return_counts=True)
    weight = np.concatenate([[0], np.cumsum(counts)])
    moment = np.concatenate([[0], np.cumsum(counts * levels.astype(float))])
    first, last = np.meshgrid(np.arange(len(levels)), np.arange(len(levels)), indexing="ij")
    share = np.where(last >= first, weight[last + 1] - weight[first], 1)
    gain = np.where(last >= first, (moment[last + 1] - moment[first]) ** 2 / share, -np.inf)
    best = gain[0]
    for classes in range(2, 8):
        best = np.max(best[:-1, None] + gain[1:], axis=0)
        cut = np.searchsorted(levels, segmentation.otsu_thresholds(values, classes))
        edges = [0, *(cut + 1), len(levels)]
        total = sum(gain[a, b - 1] for a, b in itertools.pairwise(edges))
        assert total == pytest.approx(best[-1], rel=1e-12)


def test_classes_are_above_one_threshold_and_up_to_the_next(rng):
    image = rng.integers(0, 1000, (8, 9, 10)).astype(np.uint16)
    low, high = segmentation.otsu_thresholds(image, 3)
    labels = segmentation.otsu(image, 3)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, np.where(image > high, 2, np.where(image > low, 1, 0)))


def test_by_hand():
    assert segmentation.otsu_thresholds(np.array([[0, 0, 10, 10]])).tolist() == [0]
    assert segmentation.otsu_thresholds(np.array([1, 2, 3]), 3).tolist() == [1, 2]
    # Cutting after 0 or after 1 is equally good: the lower one.
    assert segmentation.otsu_thresholds(np.array([0, 1, 2])).tolist() == [0]
    assert segmentation.otsu(np.array([False, True, True])).tolist() == [0, 1, 1]


@pytest.mark.parametrize("dtype", ["b", "B", "h", "H", "i", "I", "q", "Q"])
def test_extremes_of_every_integer_type(dtype):
    info = np.iinfo(dtype)
    image = np.array([info.min, info.min, info.max, info.max, info.max - 1, info.min + 1], dtype)
    thresholds = segmentation.otsu_thresholds(image)
    assert thresholds.tolist() == [info.min + 1]
    assert segmentation.otsu(image).tolist() == [0, 0, 1, 1, 1, 0]


def test_a_few_large_neighbours_are_counted_exactly():
    base = 2**63 + 5
    image = np.array([base, base, base + 3, base + 3], np.uint64)
    assert segmentation.otsu_thresholds(image).tolist() == [base]


def test_wide_integers_are_told_apart_one_by_one(rng):
    image = np.concatenate([rng.integers(0, 50, 40), rng.integers(10**9, 10**9 + 50, 40)]).astype(np.int32)
    assert segmentation.otsu_thresholds(image)[0] == image[image < 1000].max()
    values = rng.integers(-(2**31), 2**31, 12).astype(np.int32)
    found = segmentation.otsu_thresholds(values, 4).astype(float)
    truth = best_by_trying(values.astype(float), 4)
    assert between_variance(values.astype(float), found) == pytest.approx(truth, rel=1e-12)


def test_whole_numbers_in_floats_equal_the_integers(rng):
    image = rng.choice([-1000, -50, 40, 60, 700], 500) + rng.integers(-9, 9, 500)
    truth = segmentation.otsu_thresholds(image.astype(np.int16), 4)
    for dtype in ("f", "d"):
        found = segmentation.otsu_thresholds(image.astype(dtype), 4)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, truth)


@pytest.mark.parametrize("dtype", ["e", "f", "d"])
def test_fractions_are_parted_at_the_edges_of_4096_bins(rng, dtype):
    image = np.concatenate([rng.normal(0.2, 0.05, 400), rng.normal(0.7, 0.1, 300)]).astype(dtype)
    edges = np.linspace(float(image.min()), float(image.max()), 4097)
    # The same bins, made the slow way: (lower, upper], the smallest value in the first.
    bins = np.maximum(np.searchsorted(edges, image.astype(float), side="left") - 1, 0)
    truth = edges[segmentation.otsu_thresholds(bins, 3) + 1]
    found = segmentation.otsu_thresholds(image, 3)
    np.testing.assert_array_equal(found, truth)
    labels = segmentation.otsu(image, 3)
    np.testing.assert_array_equal(labels, (image.astype(float)[..., None] > truth).sum(axis=-1))
    assert abs(segmentation.otsu_thresholds(image)[0] - threshold_otsu(image.astype(float), nbins=4096)) < 0.01


def test_nan_and_infinite_values_do_not_count(rng):
    clean = rng.normal(size=200) + rng.choice([0, 9], 200)
    spoilt = np.concatenate([clean, [np.nan, np.inf, -np.inf]])
    np.testing.assert_array_equal(segmentation.otsu_thresholds(spoilt, 3), segmentation.otsu_thresholds(clean, 3))
    assert segmentation.otsu(spoilt, 3)[-3:].tolist() == [0, 2, 0]


def test_slabs_add_up(rng, monkeypatch):
    image = rng.integers(-2000, 3000, (13, 7, 5)).astype(np.int16)
    wide = rng.integers(-(2**31), 2**31, (13, 7, 5)).astype(np.int32)
    fractions = rng.normal(size=(13, 7, 5))
    whole = [segmentation.otsu_thresholds(i, 4) for i in (image, wide, fractions)]
    monkeypatch.setattr(_otsu, "_SLAB", 40)
    for found, truth in zip((segmentation.otsu_thresholds(i, 4) for i in (image, wide, fractions)), whole, strict=True):
        np.testing.assert_array_equal(found, truth)


@pytest.mark.parametrize(
    ("image", "classes", "says"),
    [
        (np.full((3, 3), 7), 2, r"constant \(7\)"),
        (np.full((3, 3), 0.5), 2, r"constant \(0.5\)"),
        (np.full((3, 3), 1e300), 2, "constant"),
        (np.array([[5]]), 2, "constant"),
        (np.array([1, 2, 2, 3]), 4, "only 3 different values"),
        (np.array([np.nan, np.inf]), 2, "no finite value"),
        (np.array([1e308, -1e308, 0.5]), 2, "too far"),
        (np.array([1, 2, 3]), 1, "classes"),
        (np.array([1, 2, 3]), 2.5, "classes"),
        (np.array([1, 2, 3]), 256, "classes"),
    ],
)
def test_refused_in_a_sentence(image, classes, says):
    with pytest.raises(InputError, match=says):
        segmentation.otsu(image, classes)


def test_a_range_below_the_smallest_normal_number_is_parted():
    assert segmentation.otsu(np.array([0, 0, 1e-310, 1.1e-310])).tolist() == [0, 0, 1, 1]


def images(rng, dtype):
    """Make images whose counting is not straightforward: whole numbers, fractions, gaps, views, no number at all."""
    noise = rng.normal(size=(9, 40, 31)) * 40 + rng.choice([0, 90, 200], (9, 40, 31))
    if np.dtype(dtype).kind != "f":
        info = np.iinfo(dtype)
        whole = noise.clip(max(info.min, -1000), min(info.max, 1000)).astype(dtype)
        ends = np.array([info.min, info.max, info.min, info.max, 0, 1], dtype)
        return [whole, whole[:, ::2, ::3], whole.T, whole.astype(np.dtype(dtype).newbyteorder(">")), ends, whole[:1, 0]]
    fractions = noise.astype(dtype)
    whole = fractions.round()
    spoilt = fractions.copy()
    spoilt[3, 4:9], spoilt[0, 0], spoilt[8, 39] = np.nan, np.inf, -np.inf
    few = rng.choice(np.array([0.1, 0.5, 0.7, 1e9], dtype), 500)
    return [fractions, whole, spoilt, spoilt.round(), whole + 1e7, few, fractions[::2, 1::3, 5:], spoilt.T]


def compiled_equals_plain(rng, dtype, monkeypatch):
    if not _ready.available():
        pytest.skip("there are no compiled kernels here")
    kernel = _otsu.KERNELS.wait((np.dtype(dtype).str[1:],))
    assert kernel is not None
    for image in images(rng, dtype):
        for slab in (_otsu._COMPILED_SLAB, 999):
            monkeypatch.setattr(_otsu, "_COMPILED_SLAB", slab)
            found = _otsu.histogram(image.astype(image.dtype.newbyteorder("=")))
            labels = segmentation.otsu(image, 2)
            monkeypatch.setenv("LIGHTBOX_COMPILED", "0")
            truth = _otsu.histogram(image.astype(image.dtype.newbyteorder("=")))
            for name in ("position", "count", "upper"):
                np.testing.assert_array_equal(getattr(found, name), getattr(truth, name))
                assert getattr(found, name).dtype == getattr(truth, name).dtype
            np.testing.assert_array_equal(labels, segmentation.otsu(image, 2))
            monkeypatch.delenv("LIGHTBOX_COMPILED")


@pytest.mark.parametrize("dtype", ["h", "f"])
def test_compiled_counting_equals_the_plain_one(rng, monkeypatch, dtype):
    compiled_equals_plain(rng, dtype, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["b", "B", "H", "i", "I", "d"])
def test_compiled_counting_equals_the_plain_one_in_every_type(rng, monkeypatch, dtype):
    compiled_equals_plain(rng, dtype, monkeypatch)


def test_thresholds_of_another_type_are_compared_as_they_are():
    image = np.arange(6, dtype=np.int16)
    for thresholds in (np.array([1.5, 3.0]), np.array([-(10**9), 3])):
        truth = (image[:, None] > thresholds).sum(axis=1)
        np.testing.assert_array_equal(segmentation.parted(image, thresholds), truth)
