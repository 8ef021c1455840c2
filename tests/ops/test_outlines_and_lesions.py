"""Rims, centrelines, free-response curves, lesions by size and slices: against numbers by hand and by brute force."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import skeletonize

from napari_lightbox import metrics
from napari_lightbox.errors import InputError


def blobs(seed, shape=(9, 14, 12)):
    rng = np.random.default_rng(seed)
    return [ndimage.gaussian_filter(rng.standard_normal(shape), 1.5) > 0.03 for _ in range(2)]


def brute_rim(mask, spacing, width):
    """Return the voxels that are near an outside one, beyond the border too, by comparing all with all."""
    padded = np.pad(mask, 1)
    inside, outside = (np.argwhere(m) * spacing for m in (padded, ~padded))
    near = np.sqrt(((inside[:, None] - outside) ** 2).sum(axis=-1)).min(axis=1) <= width + 1e-9
    return {tuple(p) for p in np.argwhere(padded)[near].tolist()}


@pytest.mark.parametrize("width", [1.0, 2.0, 2.5, 40.0])
def test_rims_by_brute_force(width):
    spacing = (2.0, 0.8, 1.0)
    a, b = blobs(1)
    rims = [brute_rim(m, spacing, width) for m in (a, b)]
    found = metrics.boundary_iou(a, b, spacing, width)
    assert found == pytest.approx(len(rims[0] & rims[1]) / len(rims[0] | rims[1]))
    assert found == metrics.boundary_iou(b, a, spacing, width)
    if width == 40.0:
        assert found == np.count_nonzero(a & b) / np.count_nonzero(a | b)


def test_a_shift_counts_more_along_the_outline_than_inside():
    a, b = np.zeros((2, 60, 60), np.uint8)
    a[5:55, 5:55] = 7
    b[5:55, 6:56] = 7
    assert metrics.boundary_iou(a, b, (1, 1), 2, label=7) < 0.8 < metrics.boundary_iou(a, b, (1, 1), 100, label=7)


def test_a_tube_in_pieces():
    tube = np.zeros((9, 9, 31), np.uint8)
    tube[3:6, 3:6, 1:30] = 1
    thick = np.zeros_like(tube)
    thick[2:7, 2:7, :] = 1
    assert metrics.centreline_dice(thick, tube) == 1.0
    cut = tube.copy()
    cut[:, :, 10:20] = 0
    # All of the line of the pieces lies in the tube, but a good third of the tube's line is lost.
    line = np.count_nonzero(skeletonize(tube))
    kept = metrics.centreline_dice(cut, tube)
    sensitivity = (line - 10) / line
    assert kept == pytest.approx(2 * sensitivity / (1 + sensitivity), abs=0.03)
    assert metrics.centreline_dice(tube, cut) == kept


def test_a_blob_without_a_line_is_its_own():
    blob = np.array([[[1, 0]], [[1, 1]]])
    assert not skeletonize(np.pad(blob, 1)).any()
    assert metrics.centreline_dice(blob, blob) == 1.0
    assert metrics.centreline_dice(blob, np.roll(blob, 1, 2)) == pytest.approx(2 / 3)


def test_nothing_to_compare_and_something_missed():
    empty, one = np.zeros((4, 4), bool), np.eye(4, dtype=bool)
    for found in (lambda a, b: metrics.boundary_iou(a, b, (1, 1), 1), metrics.centreline_dice):
        assert np.isnan(found(empty, empty))
        assert found(one, empty) == found(empty, one) == 0.0


def test_a_rim_needs_a_voxel():
    with pytest.raises(InputError, match=r"distance 0.5 mm is less than one voxel \(0.8 mm\)"):
        metrics.boundary_iou(*blobs(0), (2, 0.8, 1), 0.5)


def brute_froc(scores, objects, count, images, rate):
    """Return the largest share of objects found by any threshold that costs at most so many false positives."""
    best = 0.0
    for least in [np.inf, *scores]:
        kept = [o for s, o in zip(scores, objects, strict=True) if s >= least]
        if sum(o is None for o in kept) / images <= rate:
            best = max(best, len(set(kept) - {None}) / count)
    return best


@pytest.mark.parametrize("seed", range(5))
def test_free_response_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 12, 60) / 12
    objects = [None if n > 9 else int(n) for n in rng.integers(0, 20, 60)]
    curve = metrics.froc(scores, objects, count=12, images=7)
    for rate in (0, 0.125, 0.3, 1, 2.5, 100):
        assert curve.at(rate) == brute_froc(scores, objects, 12, 7, rate)
    order = rng.permutation(60)
    again = metrics.froc(scores[order], [objects[n] for n in order], 12, 7)
    np.testing.assert_array_equal(again.sensitivity, curve.sensitivity)
    assert again.score == curve.score == np.mean([brute_froc(scores, objects, 12, 7, 2.0**n) for n in range(-3, 4)])


def test_free_response_at_its_ends():
    for objects in ([None, "a", "b"], ["b", "a", None]):
        sure = metrics.froc([np.inf] * 3, objects, count=2, images=1)
        assert sure.sensitivity.tolist() == [0, 1]
        assert sure.false_positives.tolist() == [0, 1]
    nothing = metrics.froc([], [], count=3, images=2)
    assert (nothing.score, nothing.sensitivity.tolist()) == (0.0, [0.0])
    assert np.isnan(metrics.froc([0.5], [None], count=0, images=1).score)
    with pytest.raises(InputError, match="count 1 is less than the 2 objects"):
        metrics.froc([0.5, 0.4], ["a", "b"], count=1, images=1)
    with pytest.raises(InputError, match="objects has 1 entries"):
        metrics.froc([0.5, 0.4], ["a"], count=1, images=1)


def test_detections_of_a_probability_map():
    truth = np.zeros((20, 30), np.uint8)
    truth[2:6, 2:6] = truth[2:6, 10:14] = 1
    truth[15:18, 25:28] = 4
    chance = np.zeros(truth.shape)
    chance[3:6, 2:12] = 0.6  # covers 12 pixels of the first and 6 of the second
    chance[4, 4] = 0.95
    chance[10, 20] = 0.3
    scores, objects, count = metrics.detections(chance, truth, threshold=0.2)
    assert (scores, objects, count) == ([0.95, 0.3], [1, None], 3)


def test_lesions_of_each_size():
    truth, guess = np.zeros((2, 40, 40), np.uint8)
    truth[1:3, 1:3] = 1  # 4 pixels = 8 mm2, missed
    truth[5:9, 5:9] = guess[5:7, 5:9] = 1  # 32 mm2, half covered
    truth[20:30, 20:30] = guess[20:30, 20:30] = 1  # 200 mm2
    guess[35:38, 1:4] = 1  # 18 mm2, invented
    rows = metrics.lesions_by_size(guess, truth, (2, 1), edges=(10, 32, 100))
    counted = [[row[k] for k in ("lesions", "found", "missed", "invented")] for row in rows]
    assert counted == [[1, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0], [1, 1, 0, 0], [3, 2, 1, 1]]
    assert rows[-1]["f1"] == pytest.approx(4 / 6)
    assert np.isnan(rows[1]["sensitivity"])
    assert rows[1]["precision"] == 0
    with pytest.raises(InputError, match="increase"):
        metrics.lesions_by_size(guess, truth, (2, 1), edges=(10, 10))


def test_slices_add_up_to_the_whole(rng):
    a, b = rng.integers(0, 4, (2, 5, 6, 7))
    for axis in range(3):
        rows = metrics.per_slice(a, b, axis)
        for whole in metrics.confusion(a, b):
            for count in ("tp", "fp", "fn"):
                assert sum(r[count] for r in rows if r["label"] == whole["label"]) == whole[count]
    row = next(r for r in metrics.per_slice(a, b) if (r["slice"], r["label"]) == (2, 3))
    assert row["dice"] == metrics.dice(a[2], b[2], 3)
    missing = metrics.per_slice(np.array([[1], [0]]), np.array([[0], [0]]), labels=(1,))
    assert missing[0]["dice"] == 0
    assert np.isnan(missing[1]["dice"])
