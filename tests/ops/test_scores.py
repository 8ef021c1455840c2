"""ROC, precision and recall, Brier score and calibration, against their definitions taken literally."""

import numpy as np
import pytest

from napari_lightbox.errors import InputError
from napari_lightbox.ops._scores import brier, calibration, precision_recall, roc


def literal_auc(scores, truth):
    true, false = scores[truth], scores[~truth]
    above = (true[:, None] > false).sum() + 0.5 * (true[:, None] == false).sum()
    return above / (len(true) * len(false))


def literal_average_precision(scores, truth):
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        found = scores >= threshold
        recall = (found & truth).sum() / truth.sum()
        total += (recall - before) * (found & truth).sum() / found.sum()
        before = recall
    return total


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16, np.uint8])
@pytest.mark.parametrize("share", [0.1, 0.7])
def test_areas_are_exact_with_many_ties(rng, dtype, share):
    truth = rng.random((13, 17)) < share
    scores = (rng.integers(0, 12, truth.shape) + 3 * truth).astype(dtype)
    assert roc(scores, truth).area == pytest.approx(literal_auc(scores.ravel(), truth.ravel()), rel=1e-12)
    found = precision_recall(scores, truth.astype(int))
    assert found.area == pytest.approx(literal_average_precision(scores.ravel(), truth.ravel()), rel=1e-12)


def test_the_points_of_the_curves(rng):
    truth = rng.random(400) < 0.4
    scores = rng.random(400) * 0.6 + 0.4 * truth
    curve = roc(scores, truth)
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    assert curve.threshold[0] == np.inf
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(curve.area)
    for at in (5, 100, 300):
        found = scores >= curve.threshold[at]
        assert curve.y[at] == (found & truth).sum() / truth.sum()
        assert curve.x[at] == (found & ~truth).sum() / (~truth).sum()
    pr = precision_recall(scores, truth)
    found = scores >= pr.threshold[77]
    assert (pr.x[77], pr.y[77]) == ((found & truth).sum() / truth.sum(), (found & truth).sum() / found.sum())
    assert pr.x[-1] == 1


def test_a_curve_of_many_values_stays_small_and_its_area_exact(rng):
    truth = rng.random(20_000) < 0.5
    scores = rng.random(20_000) + 0.5 * truth
    curve = roc(scores, truth)
    assert len(curve.x) < 2100
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(curve.area, abs=1e-3)
    assert roc(-scores, truth).area == pytest.approx(1 - curve.area)


def test_what_does_not_apply_is_nan():
    scores = np.array([0.2, 0.7])
    assert np.isnan(roc(scores, np.array([1, 1])).area)
    assert np.isnan(precision_recall(scores, np.array([0, 0])).area)
    assert precision_recall(scores, np.array([1, 1])).area == 1


def test_infinite_scores_and_a_truth_that_is_none():
    scores = np.array([np.inf, 0.3, -np.inf, np.inf])
    curve = roc(scores, np.array([1, 1, 0, 0]))
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    assert curve.area == literal_auc(scores, np.array([True, True, False, False]))
    with pytest.raises(InputError, match="truth holds NaN"):
        roc(np.array([0.1, 0.2]), np.array([1, np.nan]))


def test_a_probability_on_an_edge_belongs_to_the_bin_above():
    found = calibration(np.linspace(0, 1, 101), np.ones(101), bins=100)
    assert found.count.tolist() == [1] * 99 + [2]


def test_brier_and_calibration_by_hand():
    said, true = np.array([0.0, 0.05, 0.5, 0.55, 0.95, 1.0]), np.array([0, 1, 0, 1, 1, 1])
    assert brier(said, true) == pytest.approx((0.95**2 + 0.25 + 0.45**2 + 0.05**2) / 6)
    found = calibration(said, true, bins=2)
    assert found.count.tolist() == [2, 4]
    assert found.said.tolist() == pytest.approx([0.025, 0.75])
    assert found.true.tolist() == [0.5, 0.75]
    assert found.ece == pytest.approx(0.475 * 2 / 6)
    assert found.mce == pytest.approx(0.475)
    empty = calibration(said, true, bins=4)
    assert np.isnan(empty.true[1])
    assert empty.count.sum() == 6


def test_honest_probabilities_are_found_to_be_calibrated(rng):
    said = rng.random((40, 50, 60)).astype(np.float32)
    true = rng.random(said.shape) < said
    assert calibration(said, true).ece < 0.01
    assert calibration(said**2, true).ece > 0.1


@pytest.mark.parametrize(
    ("function", "values", "truth", "said"),
    [
        (roc, [0.1, np.nan], [0, 1], "NaN"),
        (roc, [0.1, 0.2, 0.3], [0, 1], "shape"),
        (brier, [0.1, 1.2], [0, 1], "activate logits first"),
        (calibration, [-3.0, 2.0], [0, 1], "within 0 to 1"),
        (brier, [0.1, np.nan], [0, 1], "within 0 to 1"),
    ],
)
def test_bad_input_is_one_sentence(function, values, truth, said):
    with pytest.raises(InputError, match=said):
        function(np.array(values), np.array(truth))
