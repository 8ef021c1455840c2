"""Sliding windows against brute force: every voxel covered, weights that add up to one, exact where nothing blends."""

import itertools
import math

import numpy as np
import pytest

from napari_lightbox.errors import InputError
from napari_lightbox.models import windows


@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_every_voxel_is_covered_and_the_last_window_ends_with_the_axis(size, overlap):
    for length in range(size, 40):
        starts = windows.positions(length, size, overlap)
        covered = {i for s in starts for i in range(s, s + size)}
        assert covered == set(range(length))
        assert starts[0] == 0
        assert starts[-1] == length - size
        assert starts == sorted(set(starts))
        step = max(1, size * (1 - overlap))
        assert all(b - a <= math.ceil(step) for a, b in itertools.pairwise(starts))


def test_overlap_zero_takes_the_fewest_windows():
    assert windows.positions(12, 4, 0) == [0, 4, 8]
    assert windows.positions(13, 4, 0) == [0, 4, 8, 9]
    assert windows.positions(4, 4, 0) == [0]


def test_half_overlap_is_the_count_nnunet_states():
    # ceil((length - size) / (size / 2)) + 1 windows.
    assert len(windows.positions(100, 32, 0.5)) == math.ceil(68 / 16) + 1
    assert windows.positions(110, 64, 0.5) == [0, 23, 46]


@pytest.mark.parametrize("overlap", [-0.1, 1, 1.5, float("nan"), None, "half", True])
def test_an_overlap_out_of_range_is_refused(overlap):
    with pytest.raises(InputError, match="overlap"):
        windows.positions(10, 4, overlap)


def test_a_window_larger_than_the_axis_is_refused():
    with pytest.raises(InputError, match="pad it"):
        windows.positions(3, 4, 0)


def test_gaussian_has_an_eighth_of_the_size_as_standard_deviation():
    weights = windows.profile(16, "gaussian")
    np.testing.assert_allclose(weights, [math.exp(-((i - 7.5) ** 2) / (2 * 2**2)) for i in range(16)], rtol=1e-12)
    assert (windows.profile(5, "constant") == 1).all()
    with pytest.raises(InputError, match="blending"):
        windows.profile(5, "hann")


@pytest.mark.parametrize("blending", ["gaussian", "constant"])
@pytest.mark.parametrize("overlap", [0, 0.3, 0.5, 0.8])
def test_weights_of_all_windows_add_up_to_one_everywhere(blending, overlap):
    shape, size = (11, 8, 20), (4, 8, 7)
    total = np.zeros(shape)
    for window in windows.layout(shape, size, overlap, blending):
        a, b, c = window.weights
        total[window.slices] += a[:, None, None] * b[:, None] * c
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_without_overlap_every_voxel_belongs_to_one_window():
    shape, size = (7, 5), (3, 5)
    count = np.zeros(shape, int)
    for window in windows.layout(shape, size, 0, "gaussian"):
        owned = window.owned()
        target = tuple(slice(s + o.start, s + o.stop) for s, o in zip(window.start, owned, strict=True))
        count[target] += 1
    assert (count == 1).all()


def test_count_is_the_length_of_the_layout():
    for shape, size, overlap in [((9, 9, 9), (4, 9, 2), 0.5), ((5, 6, 7), (1, 3, 3), (0.0, 0.5, 0.5))]:
        assert windows.count(shape, size, overlap) == len(windows.layout(shape, size, overlap, "gaussian"))


def test_padding_reaches_the_window_or_the_next_multiple():
    assert windows.padding((10, 20, 30), (16, 16, 30)) == [(3, 3), (0, 0), (0, 0)]
    assert windows.padding((10, 16, 17), (None, None, None), 16) == [(3, 3), (0, 0), (7, 8)]


@pytest.mark.parametrize("length", [16, 17, 24, 26, 40, 47])
@pytest.mark.parametrize("overlap", [0.25, 0.5, 0.625])
def test_windows_a_whole_step_apart_are_those_of_monai(length, overlap):
    slices = pytest.importorskip("monai.data.utils").dense_patch_slices
    step = 16 if length == 16 else int(16 * (1 - overlap))
    wanted = [one[0].start for one in slices((length,), (16,), (step,))]
    assert windows.positions(length, 16, overlap, even=False) == wanted
