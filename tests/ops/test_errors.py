"""The list of errors: scenes made by hand, distances by brute force, and what holds for any two label maps."""

import numpy as np
import pytest
from plain_errors import plain_errors
from scipy import ndimage

from napari_lightbox.errors import InputError
from napari_lightbox.ops._errors import KINDS, find_errors


def scene():
    """One error of each kind, and nothing else, in a plane of 40 x 60 pixels."""
    truth = np.zeros((40, 60), np.uint8)
    truth[2:12, 2:12] = 1  # found too small
    truth[2:12, 20:30] = 2  # found too large
    truth[20:24, 2:20] = 3  # found in two pieces
    truth[20:24, 30:36] = truth[20:24, 39:45] = 4  # found as one
    truth[30:36, 2:8] = 5  # missed
    truth[30:36, 20:26] = 6  # found as a 7
    truth[30:36, 28:34] = 7
    guess = truth.copy()
    guess[2:12, 9:12] = 0
    guess[2:12, 30:32] = 2
    guess[20:24, 10:12] = 0
    guess[20:24, 36:39] = 4
    guess[30:36, 2:8] = 0
    guess[30:36, 20:26] = 7
    guess[30:33, 50:54] = 8  # invented
    return guess, truth


def test_one_error_of_each_kind():
    found = find_errors(*scene(), spacing=(0.5, 2.0))
    rows = {error.kind: error for error in found.table}
    assert set(rows) == set(KINDS)
    assert len(found.table) == len(KINDS)
    labels = {kind: (error.predicted, error.reference, error.voxels) for kind, error in rows.items()}
    assert labels == {
        "too small": (0, 1, 30), "too large": (2, 0, 20), "split": (0, 3, 8), "merged": (4, 0, 12),
        "missed": (0, 5, 36), "confused": (7, 6, 36), "invented": (8, 0, 12),
    }  # fmt: skip
    assert rows["too small"].volume == 30.0
    # Two pixels of 2 mm beyond the border.
    assert rows["too large"].depth == 4.0
    assert rows["invented"].depth == np.inf
    assert rows["missed"].centre == (32.5, 4.5)
    assert [error.number for error in found.table] == list(range(1, 8))
    assert [error.voxels for error in found.table] == sorted((e.voxels for e in found.table), reverse=True)
    for error in found.table:
        assert found.map[error.voxel] == error.number
        assert (found.map == error.number).sum() == error.voxels


def plant(kind, number, guess, truth):
    """Put an object with one error of a kind into a cell of 12 x 20 x 20 voxels; return its voxels and its depth."""
    by = 1 + number % 3
    whole = (slice(2, 10), slice(4, 16), slice(4, 10))
    if kind != "invented":
        truth[whole] = guess[whole] = number
    if kind == "missed":
        guess[whole] = 0
        return 8 * 12 * 6, 3.0
    if kind == "invented":
        guess[2 : 2 + by, 4:6, 4:6] = number
        return 4 * by, np.inf
    if kind == "too small":
        guess[2 : 2 + by, 4:16, 4:10] = 0
        return by * 72, 3.0 if by == 3 else float(by)
    if kind == "too large":
        guess[2:10, 16 : 16 + by, 4:10] = number
        return 8 * by * 6, float(by)
    if kind == "confused":
        guess[2:10, 4 : 4 + by, 4:10] = number + 100
        return 8 * by * 6, float(by)
    if kind == "split":
        guess[2:10, 9 : 9 + by, 4:10] = 0
        return 8 * by * 6, 3.0
    truth[2:10, 9 : 9 + by, 4:10] = 0  # merged: two objects of the reference, and a bridge
    return 8 * by * 6, float((by + 1) // 2)


def test_thirty_planted_errors_are_listed_and_nothing_else():
    truth, guess = np.zeros((2, 36, 40, 100), np.uint8)
    expected = {}
    for number in range(1, 31):
        z, y, x = np.unravel_index(number - 1, (3, 2, 5))
        cell = (slice(12 * z, 12 * z + 12), slice(20 * y, 20 * y + 20), slice(20 * x, 20 * x + 20))
        kind = KINDS[number % len(KINDS)]
        voxels, depth = plant(kind, number, guess[cell], truth[cell])
        expected[number] = (kind, voxels, depth)
    found = find_errors(guess, truth, (1, 1, 1))
    assert len(found.table) == 30
    rows = {error.reference or error.predicted: (error.kind, error.voxels, error.depth) for error in found.table}
    assert rows == expected
    assert {error.kind for error in found.table} == set(KINDS)


def brute_depth(error, numbers, truth, spacing):
    places = np.argwhere(numbers == error.number) * spacing
    label = error.reference or error.predicted
    there = np.argwhere((truth != label) if error.reference else (truth == label)) * spacing
    if not len(there):
        return np.inf
    return np.sqrt(((places[:, None] - there) ** 2).sum(axis=-1)).min(axis=1).max()


@pytest.mark.parametrize("seed", range(6))
def test_what_holds_for_any_two_maps(seed):
    rng = np.random.default_rng(seed)
    shape, spacing = ((7, 9, 8), (2.5, 0.7, 1.0)) if seed % 2 else ((24, 21), (1.0, 0.3))
    smooth = [ndimage.gaussian_filter(rng.standard_normal(shape), 1.2) for _ in range(2)]
    truth, guess = (np.digitize(field, [0.05, 0.25]) * 300 for field in smooth)
    chance = rng.random(shape)
    found = find_errors(guess, truth, spacing, probability=chance, uncertainty=1 - chance)
    assert np.array_equal(found.map > 0, guess != truth)
    for error in found.table:
        mask = found.map == error.number
        assert ndimage.label(mask, np.ones((3,) * mask.ndim))[1] == 1
        assert set(guess[mask]) == {error.predicted}
        assert set(truth[mask]) == {error.reference}
        assert error.centre == pytest.approx(ndimage.center_of_mass(mask))
        assert error.volume == pytest.approx(mask.sum() * np.prod(spacing))
        assert error.probability == pytest.approx(chance[mask].mean())
        assert error.uncertainty == pytest.approx(1 - chance[mask].mean())
        assert error.depth == pytest.approx(brute_depth(error, found.map, truth, spacing))


@pytest.mark.parametrize("seed", range(40))
def test_all_errors_are_those_of_the_plain_way(seed):
    """Blobs of few labels that touch, part and come together, in one to three axes."""
    rng = np.random.default_rng(seed)
    ndim = 3 if seed % 2 else 1 + seed // 2 % 2
    shape = tuple(rng.integers(1, (60, 30, 14)[ndim - 1], ndim))
    steps = tuple(rng.choice([0.5, 1.0, 1.3, 3.0], ndim))
    dtype = (np.uint8, np.int16, np.int64, np.uint32)[seed % 4]
    labels = rng.choice(100, 4).astype(dtype)
    labels[0] = 0
    maps = [labels[rng.integers(0, 4, shape)]]
    for _ in range(1 + seed % 3):
        # Every voxel takes the label of a neighbour here and there: blobs of some voxels.
        maps[0] = np.where(rng.random(shape) < 0.7, np.roll(maps[0], 1, axis=int(rng.integers(ndim))), maps[0])
    other = np.where(rng.random(shape) < 0.1, labels[rng.integers(0, 4, shape)], maps[0])
    maps.append(np.roll(other, 1, axis=0) if seed % 5 else other)
    found = find_errors(*maps, steps)
    assert [e.voxels for e in found.table] == sorted((e.voxels for e in found.table), reverse=True)
    # Of errors of one size, the order is that of their deepest voxels, of which several may be equally deep.
    rows = sorted(found.table, key=lambda e: (e.centre, e.predicted, e.reference))
    expected = sorted(plain_errors(*maps, steps), key=lambda row: (row[5], row[1], row[2]))
    assert [(e.kind, e.predicted, e.reference, e.voxels) for e in rows] == [row[:4] for row in expected]
    np.testing.assert_allclose([e.depth for e in rows], [row[4] for row in expected], rtol=1e-12)
    np.testing.assert_allclose([e.centre for e in rows], [row[5] for row in expected], rtol=1e-12)
    assert [found.map[e.voxel] for e in rows] == [e.number for e in rows]


def test_a_speck_beside_a_large_gap_does_not_make_it_a_split():
    truth, guess = np.zeros((6, 30), int), np.zeros((6, 30), int)
    truth[1:5, 2:28] = 1
    guess[1:5, 2:10] = 1
    guess[2, 14] = 1
    assert [error.kind for error in find_errors(guess, truth).table] == ["too small"]
    guess[1:5, 14:28] = 1
    assert [error.kind for error in find_errors(guess, truth).table] == ["split"]


def test_pieces_of_one_kind_are_never_joined_across_a_gap():
    truth, guess = np.zeros((9, 9), int), np.zeros((9, 9), int)
    guess[1, 1] = guess[2, 2] = guess[5, 5] = 4
    assert [error.voxels for error in find_errors(guess, truth).table] == [2, 1]


def test_no_errors_and_nothing_at_all():
    same = find_errors(np.ones((3, 3), bool), np.ones((3, 3), bool))
    assert same.table == []
    assert not same.map.any()
    everything = find_errors(np.ones((3, 3), bool), np.zeros((3, 3), bool))
    assert [(error.kind, error.voxels) for error in everything.table] == [("invented", 9)]
    # An object that fills the array has no outside to be measured from.
    missed = find_errors(np.zeros((3, 3), bool), np.ones((3, 3), bool))
    assert [(error.kind, error.depth) for error in missed.table] == [("missed", np.inf)]


def test_hundreds_of_labels_and_negative_or_huge_ones():
    truth = np.repeat(np.arange(400).reshape(20, 20), 3, axis=0).repeat(3, axis=1)
    guess = truth.copy()
    guess[::3, ::3] = 0
    found = find_errors(guess, truth)
    assert len(found.table) == 399
    far = find_errors(np.array([0, -5, 10**9]), np.array([0, 10**9, 10**9]))
    assert [(e.predicted, e.reference) for e in far.table] == [(-5, 10**9)]


def test_bad_input_is_one_sentence():
    with pytest.raises(InputError, match="shape"):
        find_errors(np.zeros((3, 3), int), np.zeros((3, 4), int))
    with pytest.raises(InputError, match="whole numbers"):
        find_errors(np.full((3, 3), 0.5), np.zeros((3, 3), int))
    with pytest.raises(InputError, match="probability"):
        find_errors(*scene(), probability=np.zeros(3))
    with pytest.raises(InputError, match="one frame at a time"):
        find_errors(np.zeros((2, 1, 1, 2), int), np.zeros((2, 1, 1, 2), int))
