"""Agreement of raters and measurements, against published tables and numbers worked out by hand."""

import numpy as np
import pytest

from napari_lightbox.errors import InputError
from napari_lightbox.ops._agreement import bland_altman, bootstrap, cohen_kappa, compare_paired, icc

# Table 2 of Shrout and Fleiss (1979), and its coefficients as printed there.
SIX_SUBJECTS_FOUR_JUDGES = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
PRINTED = {(1, "single"): 0.17, (2, "single"): 0.29, (3, "single"): 0.71,
           (1, "average"): 0.44, (2, "average"): 0.62, (3, "average"): 0.91}  # fmt: skip


@pytest.mark.parametrize(("which", "printed"), PRINTED.items())
def test_icc_as_printed_by_shrout_and_fleiss(which, printed):
    assert round(icc(SIX_SUBJECTS_FOUR_JUDGES, *which), 2) == printed


def test_icc_of_a_rater_who_is_always_higher():
    ratings = np.array([[1.0, 3], [2, 4], [5, 7], [9, 11]])
    assert icc(ratings, 3) == pytest.approx(1)
    assert icc(ratings, 2) < 0.9
    for value, shape in ((1.0, (3, 2)), (0.1, (3, 3)), (0.7, (7, 3)), (1.1, (6, 3))):
        assert np.isnan(icc(np.full(shape, value)))


def test_kappa_by_hand_and_its_limits():
    # 20 cases: both yes, first only, second only, both no.
    first, second = np.repeat([1, 1, 0, 0], [8, 3, 2, 7]), np.repeat([1, 0, 1, 0], [8, 3, 2, 7])
    chance = 0.55 * 0.5 + 0.45 * 0.5
    assert cohen_kappa(first, second) == pytest.approx((0.75 - chance) / (1 - chance))
    assert cohen_kappa(first, first) == 1
    assert np.isnan(cohen_kappa(np.ones(4, int), np.ones(4, int)))
    grades, other = np.array([1, 2, 3, 4, 4, 2]), np.array([1, 2, 4, 4, 3, 2])
    assert cohen_kappa(grades, other) < cohen_kappa(grades, other, "linear") < cohen_kappa(grades, other, "quadratic")


def test_quadratic_kappa_is_the_icc_of_two_raters_when_there_are_many_cases(rng):
    """Fleiss and Cohen (1973): for many cases the two are the same."""
    first = rng.integers(0, 5, 4000)
    second = np.clip(first + rng.integers(-1, 2, 4000), 0, 4)
    assert cohen_kappa(first, second, "quadratic") == pytest.approx(icc(np.stack([first, second], axis=1)), abs=1e-3)


def test_bland_altman_by_hand():
    first, second = np.array([10.0, 20, 30, 40]), np.array([12.0, 18, 31, 43])
    found = bland_altman(first, second)
    sd = np.std([-2, 2, -1, -3], ddof=1)
    assert found.bias == -1
    assert found.sd == pytest.approx(sd)
    assert (found.low, found.high) == pytest.approx((-1 - 1.96 * sd, -1 + 1.96 * sd))
    # Student's t of 3 degrees of freedom: 3.1824.
    assert found.bias_interval == pytest.approx((-1 - 3.18245 * sd / 2, -1 + 3.18245 * sd / 2), rel=1e-4)
    assert found.low_interval[0] < found.low < found.low_interval[1] < found.high


def test_the_interval_covers_the_mean_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        values = np.random.default_rng(seed).normal(3, 1, 40)
        _, low, high = bootstrap(values, repeats=400, seed=seed)
        covered += low <= 3 <= high
    assert 0.89 < covered / 200 < 0.98


def test_the_interval_repeats_itself_and_leaves_out_what_does_not_apply():
    values = [0.9, 0.8, np.nan, 0.95, 0.7]
    assert bootstrap(values, seed=4) == bootstrap([v for v in values if v == v], seed=4)
    assert bootstrap(values, seed=4) != bootstrap(values, seed=5)
    assert bootstrap(values, np.median).value == pytest.approx(0.85)


def test_two_models_over_a_cohort(rng):
    first = rng.uniform(0.6, 0.9, 30)
    found = compare_paired(first, first + rng.normal(0.05, 0.02, 30))
    assert found["low"] > 0.03
    assert found["high"] < 0.07
    assert found["p"] < 1e-4
    assert found["better"] + found["worse"] == found["cases"] == 30
    same = compare_paired(first, first)
    assert (same["difference"], same["p"], same["better"]) == (0, 1, 0)
    lost = compare_paired([1, 2, 3, 4, np.inf], [2, 3, 4, 4.5, np.inf])
    assert (lost["cases"], lost["better"], lost["worse"]) == (5, 4, 0)
    assert 0 < lost["p"] < 1
    worse = compare_paired([1, 2, 3, 4, 5], [1, 2, 3, 3.5, np.inf])
    assert np.isnan(worse["difference"])
    assert (worse["better"], worse["worse"]) == (1, 1)
    first[3] = np.nan
    assert compare_paired(first, first + 0.01)["cases"] == 29


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: bland_altman([1, 2, 3, 4], [1, 2, 3]), "a number of both"),
        (lambda: bland_altman([1, 2], [1, 2]), "three cases or more"),
        (lambda: icc([[1, 2]]), "two cases and two raters"),
        (lambda: icc([[1, 2], [3, np.inf]]), "finite"),
        (lambda: icc([[1, 2], [3, 4]], model=4), "model"),
        (lambda: icc([[1, 2], [3]]), "one length"),
        (lambda: bootstrap([1, 2]), "three cases"),
        (lambda: bootstrap([1, 2, 3, np.inf]), "not finite"),
        (lambda: bootstrap(["a", 1, 2]), "numbers"),
        (lambda: bootstrap([1, 2, 3], confidence=95), "below 1"),
        (lambda: cohen_kappa(np.array([1, 2]), np.array([1])), "shape"),
        (lambda: compare_paired([1, 2, 3], [1, 2]), "both for each case"),
    ],
)
def test_bad_input_is_one_sentence(call, said):
    with pytest.raises(InputError, match=said):
        call()
