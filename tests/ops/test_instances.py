"""Objects against objects: hand-made scenes, and the published figures of a real pair."""

import json
import tracemalloc

import numpy as np
import pytest

import napari_lightbox as lb
from napari_lightbox.errors import InputError
from napari_lightbox.ops._instances import per_instance


def test_the_published_figures_of_a_spine(data):
    predicted = lb.read(data("spine_prediction_pair/matched_instance_pred.nii.gz")).data
    reference = lb.read(data("spine_prediction_pair/matched_instance_ref.nii.gz")).data
    published = json.loads(data("spine_prediction_pair/expected_matched_instance.json").read_text())
    found = per_instance(predicted, reference)
    assert (found.tp, found.fp, found.fn) == (19, 3, 3)  # those with an IoU of at least 0.5
    assert found.segmentation_quality == pytest.approx(published["sq_iou"], rel=1e-9)
    assert np.mean([pair["dice"] for pair in found.pairs]) == pytest.approx(published["sq_dsc"], rel=1e-9)
    assert np.std([pair["dice"] for pair in found.pairs]) == pytest.approx(published["sq_dsc_std"], rel=1e-9)
    every = per_instance(predicted, reference, threshold=0.0)
    assert (every.tp, every.recognition_quality) == (published["tp"], published["rq"])


def scene():
    """Three objects: one found well, one split in two, one missed; and one invented."""
    reference, predicted = np.zeros((4, 20), int), np.zeros((4, 20), int)
    reference[:, 0:4], predicted[:, 1:4] = 1, 9  # IoU 12 / 16
    reference[:, 6:12], predicted[:, 6:9], predicted[:, 9:12] = 2, 4, 5  # twice 12 / 24
    reference[0, 14] = 3
    predicted[3, 17:19] = 7
    return predicted, reference


def test_a_scene_counted_by_hand():
    found = per_instance(*scene(), spacing=(2.0, 0.5))
    assert (found.pairs[0]["predicted"], found.pairs[0]["reference"]) == (9, 1)
    assert found.pairs[0]["iou"] == 0.75
    assert found.pairs[0]["dice"] == pytest.approx(24 / 28)
    assert found.pairs[0]["volume"] == 16.0
    assert (found.tp, found.fp, found.fn) == (2, 2, 1)  # one half of the split is an exact match of 0.5
    assert found.missed == [{"label": 3, "volume": 1.0}]
    assert {row["label"] for row in found.invented} < {4, 5, 7}
    assert found.recognition_quality == pytest.approx(4 / 7)
    assert found.panoptic_quality == pytest.approx(4 / 7 * (0.75 + 0.5) / 2)
    strict = per_instance(*scene(), threshold=0.51)
    assert (strict.tp, strict.fp, strict.fn) == (1, 3, 2)


def test_pieces_need_no_labels_of_their_own():
    predicted, reference = scene()
    found = per_instance(predicted > 0, reference > 0, objects="pieces", criterion="overlap", threshold=0.1)
    assert (found.tp, found.fp, found.fn) == (2, 1, 1)
    assert [pair["iou"] for pair in found.pairs] == [0.75, 1.0]


def test_each_object_matches_once_and_the_best_sum_wins():
    reference = np.array([1, 1, 1, 1, 2, 2, 2, 2])
    predicted = np.array([5, 5, 5, 6, 6, 6, 0, 0])
    found = per_instance(predicted, reference, threshold=0.0)
    assert [(p["predicted"], p["reference"]) for p in found.pairs] == [(5, 1), (6, 2)]


def test_empty_maps_are_three_different_answers():
    empty, full = np.zeros((3, 3), int), np.eye(3, dtype=int)
    neither = per_instance(empty, empty)
    assert np.isnan(neither.recognition_quality)
    missed = per_instance(empty, full)
    assert (missed.fn, missed.recognition_quality, missed.panoptic_quality) == (1, 0, 0)
    assert np.isnan(missed.segmentation_quality)
    assert per_instance(full, empty).fp == 1


def test_tens_of_thousands_of_objects_take_little_memory():
    labels = np.arange(1, 40_001).reshape(200, 200)
    tracemalloc.start()
    try:
        found = per_instance(labels, labels)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.tp == 40_000
    assert peak < 2e8


def test_hundreds_of_objects_with_large_labels(rng):
    reference = (np.arange(120 * 40).reshape(120, 40) // 8 + 60_000).astype(np.int64)
    predicted = np.where(rng.random(reference.shape) < 0.05, 0, reference)
    found = per_instance(predicted, reference)
    assert found.tp == 600
    assert found.segmentation_quality == pytest.approx(np.mean([p["iou"] for p in found.pairs]))


@pytest.mark.parametrize(
    ("change", "said"),
    [({"threshold": 1.5}, "at most 1"), ({"objects": "blobs"}, "objects"), ({"criterion": "dice"}, "criterion")],
)
def test_bad_arguments_are_one_sentence(change, said):
    with pytest.raises(InputError, match=said):
        per_instance(*scene(), **change)
