"""Compiled connected components against the plain way and scipy: the same numbers."""

import numpy as np
import pytest
from scipy import ndimage

from napari_lightbox.ops import _labelling, _runs, components

pytest.importorskip("numba")


@pytest.fixture(scope="module")
def made():
    for key in _labelling.keys_of(np.dtype("u1")):
        assert _labelling.KERNELS.wait(key)


def random_labels(rng):
    """Return noise, stripes or blobs of few labels, a mask or not, of any shape and layout."""
    axes = int(rng.integers(2, 4))
    shape = tuple(int(n) for n in rng.integers(1, (8, 9, 200)[3 - axes :]))
    labels = rng.choice([0, 1, 2, 25], shape, p=rng.dirichlet([1, 1, 1, 1]))
    labels = np.repeat(labels, int(rng.integers(1, 9)), axis=-1)
    labels = labels > 0 if rng.random() < 0.3 else labels.astype(rng.choice(["u1", "i1"]))
    return labels[..., ::-1] if rng.random() < 0.3 else labels


@pytest.mark.parametrize("slab", [300, 1 << 20])
def test_random_labels_have_the_components_of_the_plain_way(rng, made, slab, monkeypatch):
    monkeypatch.setattr(_labelling, "_SLAB", slab)
    for _ in range(80):
        labels = random_labels(rng)
        for rank in range(1, labels.ndim + 1):
            found, truth = _labelling.find(labels, rank), _runs.regions(labels, rank)
            np.testing.assert_array_equal(found.size, truth.size)
            table = np.append(np.arange(1, len(truth.size) + 1), 0).astype(np.uint32)
            np.testing.assert_array_equal(found.painted(table), truth.painted(table))


def test_checkerboards_and_combs_are_those_of_scipy(made):
    """Every run ends where one of the next line begins; and a component that is joined at its very end."""
    board = (np.indices((6, 20, 130)).sum(axis=0) % 2).astype(bool)
    comb = np.zeros((1, 40, 131), np.uint8)
    comb[0, :-1, ::2], comb[0, -1] = 1, 1
    for mask in (board, comb, np.ones((3, 4, 200), bool), np.zeros((3, 4, 200), bool)):
        for connectivity, rank in ((6, 1), (18, 2), (26, 3)):
            truth, count = ndimage.label(mask, ndimage.generate_binary_structure(3, rank))
            found = _labelling.find(mask, rank)
            table = np.append(np.arange(1, count + 1), 0).astype(np.uint32)
            np.testing.assert_array_equal(found.painted(table), truth)
            sizes = np.bincount(components.components(mask, (1, 1, 1), connectivity=connectivity).ravel())[1:]
            np.testing.assert_array_equal(sizes, np.sort(np.bincount(truth.ravel())[1:])[::-1])


def test_two_labels_that_end_together_are_joined_at_the_corner(made):
    labels = np.array([[1, 1, 1, 2, 2], [2, 2, 2, 1, 1]], np.uint8)
    assert len(_labelling.find(labels, 1).size) == 4
    assert _labelling.find(labels, 2).size.tolist() == [5, 5]


def test_without_the_kernels_the_plain_way_serves(rng, made, monkeypatch):
    labels = rng.integers(0, 3, (5, 6, 70)).astype(np.uint8)
    found = components.components(labels, (1, 1, 1))
    monkeypatch.setenv("LIGHTBOX_COMPILED", "0")
    assert _labelling.find(labels, 3) is None
    np.testing.assert_array_equal(components.components(labels, (1, 1, 1)), found)
