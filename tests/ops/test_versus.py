"""What became of errors: by hand, and voxel by voxel."""

import numpy as np
import pytest

from napari_lightbox.errors import InputError
from napari_lightbox.ops.metrics import compare_errors


def test_every_outcome_once():
    truth = np.zeros((4, 30), np.uint8)
    truth[:, 0:4], truth[:, 6:10], truth[:, 12:16] = 1, 2, 3
    first, second = truth.copy(), truth.copy()
    first[:, 0:4] = 0  # missed, then found
    first[:, 8:10] = 0  # too small, then only half as much
    second[:, 9:10] = 0
    first[:, 12:16] = second[:, 12:16] = 5  # confused in both
    second[:, 20:23] = 4  # invented
    first[:, 26] = second[:, 26:28] = 6  # invented, then larger
    found = compare_errors(first, second, truth, spacing=(2, 1))
    rows = [(c.outcome, c.error.kind, c.voxels, c.volume) for c in found.changes]
    assert rows == [
        ("mended", "missed", 16, 32.0), ("new", "invented", 12, 24.0), ("better", "too small", 4, 8.0),
        ("worse", "invented", 4, 8.0), ("kept", "confused", 0, 0.0), ("kept", "invented", 0, 0.0),
    ]  # fmt: skip
    assert (found.gained, found.lost) == (20, 16)
    back = compare_errors(second, first, truth, spacing=(2, 1))
    assert (back.gained, back.lost) == (16, 20)


@pytest.mark.parametrize("seed", range(4))
def test_changes_add_up(seed):
    rng = np.random.default_rng(seed)
    truth, first, second = rng.integers(0, 3, (3, 7, 8, 9))
    found = compare_errors(first, second, truth)
    better = sum(c.voxels for c in found.changes if c.outcome in ("mended", "better"))
    worse = sum(c.voxels for c in found.changes if c.outcome in ("new", "worse"))
    assert better == found.gained == ((first != truth) & (second == truth)).sum()
    assert worse == found.lost == ((first == truth) & (second != truth)).sum()
    for change in found.changes:
        wrong, right = (first, second) if change.outcome in ("mended", "better", "kept") else (second, first)
        errors = found.first if wrong is first else found.second
        mask = errors.map == change.error.number
        assert change.voxels == (right[mask] == truth[mask]).sum()


def test_shapes_must_fit():
    with pytest.raises(InputError, match="second"):
        compare_errors(np.zeros((2, 2), int), np.zeros((2, 3), int), np.zeros((2, 2), int))
