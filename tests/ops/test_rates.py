"""Rates of a two by two table, against numbers worked out by hand."""

import math

import pytest

from napari_lightbox.errors import InputError
from napari_lightbox.ops._rates import rates


def test_all_rates_of_a_table_worked_out_by_hand():
    found = rates(tp=20, fp=180, fn=10, tn=1820)
    expected = {
        "accuracy": 1840 / 2030,
        "sensitivity": 2 / 3,
        "specificity": 0.91,
        "precision": 0.1,
        "npv": 1820 / 1830,
        "fpr": 0.09,
        "fnr": 1 / 3,
        "fdr": 0.9,
        "for": 10 / 1830,
        "f1": 40 / 230,
        "jaccard": 20 / 210,
        "informedness": 2 / 3 + 0.91 - 1,
        "markedness": 0.1 + 1820 / 1830 - 1,
        "mcc": (20 * 1820 - 180 * 10) / math.sqrt(200 * 30 * 2000 * 1830),
        "fowlkes_mallows": math.sqrt(0.1 * 2 / 3),
        "lr_positive": (2 / 3) / 0.09,
        "lr_negative": (1 / 3) / 0.91,
        "odds_ratio": 20 * 1820 / (180 * 10),
        "prevalence": 30 / 2030,
        "balanced_accuracy": (2 / 3 + 0.91) / 2,
        "volumetric_similarity": 1 - 170 / 230,
    }
    assert found == pytest.approx(expected)
    # Relations that hold whatever the counts are.
    assert found["mcc"] ** 2 == pytest.approx(found["informedness"] * found["markedness"])
    assert found["fowlkes_mallows"] ** 2 == pytest.approx(found["precision"] * found["sensitivity"])


def test_what_does_not_apply_is_nan_and_never_a_good_score():
    nothing = rates(0, 0, 0, 50)
    assert all(math.isnan(nothing[name]) for name in ("f1", "sensitivity", "precision", "mcc", "jaccard"))
    assert nothing["specificity"] == nothing["accuracy"] == 1
    missed = rates(0, 0, 7, 43)
    assert missed["f1"] == missed["sensitivity"] == missed["volumetric_similarity"] == 0
    perfect = rates(5, 0, 0, 5)
    assert perfect["lr_positive"] == perfect["odds_ratio"] == math.inf
    assert perfect["lr_negative"] == 0


def test_counts_of_large_volumes_do_not_overflow():
    assert rates(10**10, 10**10, 10**10, 10**10)["mcc"] == 0
    assert rates(10**10, 0, 0, 10**10)["mcc"] == pytest.approx(1)


@pytest.mark.parametrize("bad", [-1, 0.5, float("nan"), float("inf")])
def test_counts_are_whole_numbers(bad):
    with pytest.raises(InputError, match="fn must be a whole number"):
        rates(1, 1, bad, 1)
