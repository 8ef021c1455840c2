"""Dice and confusion against scikit-learn's definitions, written out."""

import numpy as np
import pytest

from napari_lightbox.errors import InputError
from napari_lightbox.ops import metrics


def test_confusion_and_dice_equal_their_definitions(rng, monkeypatch):
    monkeypatch.setattr(metrics, "_SLAB", 50)
    predicted, reference = (rng.choice([0, 1, 2, 9], (7, 8, 5)) for _ in range(2))
    rows = metrics.confusion(predicted, reference)
    assert [row["label"] for row in rows] == [1, 2, 9]
    for row in rows:
        a, b = predicted == row["label"], reference == row["label"]
        assert row["tp"] == (a & b).sum()
        assert row["fp"] == (a & ~b).sum()
        assert row["fn"] == (~a & b).sum()
        assert row["tn"] == (~a & ~b).sum()
        assert row["dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
        assert row["jaccard"] == pytest.approx((a & b).sum() / (a | b).sum())
        assert metrics.dice(predicted, reference, row["label"]) == row["dice"]
    a, b = predicted != 0, reference != 0
    assert metrics.dice(predicted, reference) == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert metrics.dice(a, b) == metrics.dice(predicted, reference)


def test_missing_and_empty_regions():
    nothing, something = np.zeros((2, 2), int), np.array([[0, 1], [0, 0]])
    assert np.isnan(metrics.dice(nothing, nothing))
    assert metrics.dice(nothing, something) == 0
    assert metrics.dice(something, something) == 1
    assert metrics.confusion(nothing, nothing) == []
    row = metrics.confusion(nothing, something)[0]
    assert (row["dice"], row["jaccard"], row["fn"], row["tn"]) == (0, 0, 1, 3)
    absent = metrics.confusion(something, something, [5])[0]
    assert absent["tn"] == 4
    assert np.isnan(absent["dice"])
    assert np.isnan(absent["jaccard"])


def test_refused_in_a_sentence():
    with pytest.raises(InputError, match="do not match"):
        metrics.dice(np.zeros((2, 2), int), np.zeros((2, 3), int))
    with pytest.raises(InputError, match="whole numbers"):
        metrics.confusion(np.zeros((2, 2)), np.zeros((2, 2), int))
