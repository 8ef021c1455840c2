"""Region growing against a plain queue, connected components and SimpleITK."""

import collections
import itertools
import sys

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

from napari_lightbox.errors import InputError
from napari_lightbox.ops import _grow, segmentation

STEPS = {4: (2, 1), 8: (2, 2), 6: (3, 1), 18: (3, 2), 26: (3, 3)}


def neighbours(connectivity):
    ndim, rank = STEPS[connectivity]
    return [o for o in itertools.product((-1, 0, 1), repeat=ndim) if 0 < sum(map(abs, o)) <= rank]


def plain_mean(image, seeds, threshold, connectivity, mask=None):
    """Grow by the running mean as the docstring says it, with a dictionary and a queue."""
    queue = collections.deque(dict.fromkeys(map(tuple, seeds)))
    region = dict.fromkeys(queue)
    values = [float(image[p]) for p in queue]
    while queue:
        place = queue.popleft()
        for offset in neighbours(connectivity):
            near = tuple(p + o for p, o in zip(place, offset, strict=True))
            if near in region or any(not 0 <= n < s for n, s in zip(near, image.shape, strict=True)):
                continue
            if mask is not None and not mask[near]:
                continue
            if abs(sum(values) / len(values) - float(image[near])) < threshold:
                region[near] = None
                values.append(float(image[near]))
                queue.append(near)
    result = np.zeros(image.shape, np.uint8)
    result[tuple(np.array(list(region)).T)] = 1
    return result


def scene(rng, ndim, dtype="h"):
    """Blobs with soft edges and noise, whose running mean drifts."""
    shape = (24, 21) if ndim == 2 else (8, 11, 9)
    image = ndimage.gaussian_filter(rng.normal(size=shape), 2) * 1500 + rng.normal(0, 15, shape) + 300
    return image.astype(dtype)


@pytest.mark.parametrize("dtype", ["B", "h", "i", "q", "e", "f", "d"])
@pytest.mark.parametrize("connectivity", STEPS)
def test_mean_equals_the_plain_queue(rng, connectivity, dtype):
    ndim = STEPS[connectivity][0]
    sizes = []
    for threshold in (10, 40, 90.5):
        image = scene(rng, ndim, "d").clip(0, 255 if dtype == "B" else None).round(0).astype(dtype)
        seeds = [tuple(int(rng.integers(0, n)) for n in image.shape) for _ in range(3)]
        found = segmentation.region_grow(image, seeds, criterion="mean", threshold=threshold, connectivity=connectivity)
        truth = plain_mean(image, seeds, threshold, connectivity)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, truth)
        sizes.append(found.sum())
    assert max(sizes) > 20


def test_mean_with_a_mask_stays_inside(rng):
    image = scene(rng, 2)
    mask = np.zeros(image.shape, np.int32)
    mask[4:20, 3:15] = 7
    found = segmentation.region_grow(image, [(10, 9)], criterion="mean", threshold=200, mask=mask)
    np.testing.assert_array_equal(found, plain_mean(image, [(10, 9)], 200, 4, mask))
    assert not found[mask == 0].any()


def test_the_mean_moves_while_the_region_grows():
    """Steps of 10 each: the mean of the first n of them is 5 (n - 1), so 31 is passed when the next is 40 away."""
    line = np.arange(0, 200, 10)[None]
    found = segmentation.region_grow(line, [(0, 0)], criterion="mean", threshold=31)
    # After 0, 10, 20, 30, 40, 50 the mean is 25 and 60 lies 35 away.
    assert found[0].tolist() == [1] * 6 + [0] * 14
    fixed = segmentation.region_grow(line, [(0, 0)], criterion="seed", threshold=31)
    assert fixed[0].tolist() == [1] * 4 + [0] * 16


def test_a_refused_voxel_is_tried_again_from_another_side():
    image = np.array([[10, 20, 20, 20], [26, 20, 20, 20]])
    # From (0, 0) alone 26 is 16 away; when it is met again from (1, 1) the mean has risen to 18 and more.
    found = segmentation.region_grow(image, [(0, 0)], criterion="mean", threshold=12)
    assert found.all()


def test_the_compiled_loop_takes_over_with_the_same_outcome(rng, monkeypatch):
    pytest.importorskip("numba")
    for dtype, ndim, connectivity in (("h", 2, 8), ("f", 3, 6), ("B", 3, 26), ("q", 3, 18)):
        image = scene(rng, ndim, "d").clip(0, 255).round(1).astype(dtype)
        seeds = [tuple(n // 2 for n in image.shape)]
        for threshold in (30, 80):
            plain = plain_mean(image, seeds, threshold, connectivity)
            for after in (0, 1, 17):
                monkeypatch.setattr(_grow, "COMPILE_AFTER", after)
                monkeypatch.setattr(_grow, "_COMPILED_CHUNK", 60)
                monkeypatch.setattr(_grow, "_CHUNK", 7)
                # Waits for the compiler, so that it is the compiled loop which goes on.
                monkeypatch.setattr(_grow._Kernel, "ready", property(lambda kernel: not kernel._thread.join(60)))
                taken = []
                go = _grow._Region.grow_compiled
                monkeypatch.setattr(
                    _grow._Region, "grow_compiled", lambda *a, taken=taken, go=go: taken.append(1) or go(*a)
                )
                found = segmentation.region_grow(
                    image, seeds, criterion="mean", threshold=threshold, connectivity=connectivity
                )
                np.testing.assert_array_equal(found, plain)
                assert taken or plain.sum() <= after
                monkeypatch.undo()


def test_a_compiler_that_fails_leaves_the_plain_loop(rng, monkeypatch):
    monkeypatch.setattr(_grow, "COMPILE_AFTER", 5)
    monkeypatch.setattr(_grow, "_CHUNK", 5)
    monkeypatch.setattr(_grow, "_has_numba", lambda: True)
    monkeypatch.setitem(sys.modules, "napari_lightbox.ops._kernels.region_grow", None)
    monkeypatch.setattr(_grow._Kernel, "ready", property(lambda kernel: not kernel._thread.join(60)))
    image = scene(rng, 2)
    found = segmentation.region_grow(image, [(10, 9)], criterion="mean", threshold=150)
    np.testing.assert_array_equal(found, plain_mean(image, [(10, 9)], 150, 4))


def test_without_numba_the_plain_loop_goes_to_the_end(rng, monkeypatch):
    monkeypatch.setattr(_grow, "COMPILE_AFTER", 5)
    monkeypatch.setattr(_grow, "_has_numba", lambda: False)
    image = scene(rng, 2)
    found = segmentation.region_grow(image, [(10, 9)], criterion="mean", threshold=150)
    np.testing.assert_array_equal(found, plain_mean(image, [(10, 9)], 150, 4))


@pytest.mark.parametrize("connectivity", STEPS)
@pytest.mark.parametrize(("slab", "reach"), [(None, 32), (30, 32), (30, 1), (None, 3)])
def test_seed_equals_connected_components(rng, monkeypatch, connectivity, slab, reach):
    if slab:
        monkeypatch.setattr(_grow, "_SLAB", slab)
    monkeypatch.setattr(_grow, "_FIRST_REACH", reach)
    ndim, rank = STEPS[connectivity]
    for dtype in ("h", "B", "f"):
        # Noise just beside the percolation threshold makes regions that wind through many slabs.
        image = rng.integers(0, 100, (30, 31) if ndim == 2 else (14, 9, 8)).astype(dtype)
        seeds = [tuple(int(rng.integers(0, n)) for n in image.shape) for _ in range(3)]
        centre = np.mean([float(image[s]) for s in seeds])
        allowed = np.abs(image.astype(float) - centre) < 28.5
        for seed in seeds:
            allowed[seed] = True
        labelled, _ = ndimage.label(allowed, ndimage.generate_binary_structure(ndim, rank))
        truth = np.isin(labelled, [labelled[s] for s in seeds])
        found = segmentation.region_grow(image, seeds, threshold=28.5, connectivity=connectivity)
        np.testing.assert_array_equal(found, truth)


def test_seed_equals_simpleitk(rng):
    image = scene(rng, 3)
    seed = (4, 5, 4)
    value, threshold = int(image[seed]), 60
    truth = sitk.ConnectedThreshold(
        sitk.GetImageFromArray(image), [seed[::-1]], value - threshold + 1, value + threshold - 1, 1
    )
    found = segmentation.region_grow(image, [seed], threshold=threshold)
    np.testing.assert_array_equal(found, sitk.GetArrayFromImage(truth))
    assert 10 < found.sum() < found.size


def test_the_difference_is_exclusive_in_both_criteria():
    line = np.array([[10, 13, 10]])
    for criterion in ("seed", "mean"):
        assert segmentation.region_grow(line, [(0, 0)], criterion=criterion, threshold=3).tolist() == [[1, 0, 0]]
        assert segmentation.region_grow(line, [(0, 0)], criterion=criterion, threshold=3.01).tolist() == [[1, 1, 1]]


def test_seeds_are_one_region_and_belong_to_it_whatever_their_value():
    line = np.array([[0, 0, 50, 100, 100]])
    found = segmentation.region_grow(line, [(0, 0), (0, 4)], threshold=10)
    assert found.tolist() == [[1, 0, 0, 0, 1]]
    assert segmentation.region_grow(line, [(0, 0), (0, 4)], threshold=51).all()


def test_seeds_may_be_one_point_typed_rounded_or_doubled(rng):
    image = scene(rng, 2)
    truth = segmentation.region_grow(image, [(10, 9)], criterion="mean", threshold=80)
    for seeds in ((10, 9), np.array([[10.4, 8.6]]), "10, 9", [(10, 9), (10, 9)]):
        found = segmentation.region_grow(image, seeds, criterion="mean", threshold=80)
        np.testing.assert_array_equal(found, truth)


def test_the_threshold_that_is_taken_where_none_is_given(rng):
    image = scene(rng, 3)
    low, high = np.percentile(image, (1, 99))
    truth = segmentation.region_grow(image, [(4, 5, 4)], threshold=(high - low) / 10)
    np.testing.assert_array_equal(segmentation.region_grow(image, [(4, 5, 4)]), truth)
    assert segmentation.region_grow(np.full((3, 3), 5), [(1, 1)]).all()


@pytest.mark.parametrize("criterion", ["seed", "mean"])
def test_nan_and_infinite_voxels_never_join(criterion):
    image = np.ones((5, 5))
    image[2] = [np.nan, np.inf, np.nan, -np.inf, np.nan]
    found = segmentation.region_grow(image, [(0, 0)], criterion=criterion, threshold=1e300)
    np.testing.assert_array_equal(found, np.repeat([1, 0], (10, 15)).reshape(5, 5))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"seeds": [(9, 0)]}, "outside the image"),
        ({"seeds": [(-1, 0)]}, "outside the image"),
        ({"seeds": [(0, 0, 0)]}, "2 numbers"),
        ({"seeds": []}, "empty"),
        ({"seeds": [(0, np.nan)]}, "NaN"),
        ({"seeds": [(3, 3)]}, "NaN or infinite voxel"),
        ({"seeds": [(0, 0)], "mask": np.eye(6, k=1, dtype=int)}, "outside the mask"),
        ({"seeds": [(0, 0)], "mask": np.ones((5, 6), int)}, "do not match"),
        ({"seeds": [(0, 0)], "threshold": 0}, "threshold"),
        ({"seeds": [(0, 0)], "threshold": -3}, "threshold"),
        ({"seeds": [(0, 0)], "threshold": np.nan}, "threshold"),
        ({"seeds": [(0, 0)], "connectivity": 6}, "connectivity"),
        ({"seeds": [(0, 0)], "criterion": "confidence"}, "criterion"),
    ],
)
def test_refused_in_a_sentence(arguments, says):
    image = np.ones((6, 6))
    image[3, 3] = np.nan
    with pytest.raises(InputError, match=says):
        segmentation.region_grow(image, **{"threshold": 1, **arguments})
