"""Region growing against a plain queue, connected components and SimpleITK."""

import collections
import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

import napari_lightbox as lb
from napari_lightbox import Volume
from napari_lightbox.errors import InputError
from napari_lightbox.ops import _grow, _grow_limits, _grow_mean, _ready, segmentation

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


@pytest.fixture
def compiled(monkeypatch):
    """Return what lets the compiled loop take over after so many voxels, and says how often it did."""
    if not _ready.available():
        pytest.skip("there are no compiled kernels here")
    took = []

    def after(voxels):
        monkeypatch.setattr(_grow_mean, "_CHUNK", voxels)
        monkeypatch.setattr(_grow_mean, "_COMPILED_CHUNK", 60)
        monkeypatch.setattr(_grow_mean, "_RING", 32)
        kernels = _grow_mean.KERNELS
        # Waits for the compiler, so that it is the compiled loop which goes on.
        ready = SimpleNamespace(get=lambda key: kernels.wait(key) if asked else None, ask=lambda *a: asked.append(a))
        asked = [] if voxels else [0]
        monkeypatch.setattr(_grow_mean, "KERNELS", ready)
        go = _grow_mean._Compiled.grow
        monkeypatch.setattr(_grow_mean._Compiled, "grow", lambda *a: took.append(1) or go(*a))
        return took

    return after


@pytest.mark.parametrize("after", [0, 1, 17])
@pytest.mark.parametrize(
    ("dtype", "connectivity", "masked"),
    [
        ("h", 4, False),
        ("h", 8, True),
        ("h", 6, True),
        ("h", 18, False),
        ("h", 26, False),
        ("e", 6, False),
        ("f", 26, True),
    ],
)
def test_the_compiled_loop_takes_over_with_the_same_outcome(rng, compiled, dtype, connectivity, masked, after):
    ndim = STEPS[connectivity][0]
    image = scene(rng, ndim, "d").clip(0, 255).round(1).astype(dtype)
    mask = (rng.random(image.shape) < 0.9).astype(np.int32) if masked else None
    seeds = [tuple(n // 2 for n in image.shape), tuple(n // 3 for n in image.shape)]
    for seed in seeds if masked else ():
        mask[seed] = 5
    took = compiled(after)
    for threshold in (30, 80):
        plain = plain_mean(image, seeds, threshold, connectivity, mask)
        found = segmentation.region_grow(
            image, seeds, criterion="mean", threshold=threshold, connectivity=connectivity, mask=mask
        )
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, plain)
    assert took


def test_the_compiled_loop_takes_views_and_stops_at_a_size(rng, compiled):
    image = scene(rng, 3)
    took = compiled(0)
    for view in (image.T, image[::-1, :, ::2], np.asfortranarray(image), image.astype(">i2")):
        seed = tuple(n // 2 for n in view.shape)
        plain = plain_mean(view, [seed], 80, 6)
        np.testing.assert_array_equal(segmentation.region_grow(view, [seed], criterion="mean", threshold=80), plain)
        for limit in (1, 2, 30, int(plain.sum()) - 1, int(plain.sum())):
            found = segmentation.region_grow(view, [seed], criterion="mean", threshold=80, max_size=limit)
            assert found.sum() == limit
            assert not (found & ~plain).any()
    assert took


@pytest.mark.parametrize("shape", [(1, 12, 9), (9, 1, 12), (9, 12, 1), (1, 1, 30), (1, 1, 1)])
def test_a_volume_that_is_thin_along_an_axis_has_no_steps_across(rng, compiled, shape):
    image = rng.integers(0, 100, shape, np.int16)
    took = compiled(0)
    for connectivity in (6, 18, 26):
        found = segmentation.region_grow(image, [(0, 0, 0)], criterion="mean", threshold=30, connectivity=connectivity)
        np.testing.assert_array_equal(found, plain_mean(image, [(0, 0, 0)], 30, connectivity))
    assert took


def test_the_compiled_loop_keeps_its_state_in_the_result(rng, compiled, monkeypatch):
    """No second picture of the region, with a mask of any type; and its voxels are told from those of no value."""
    image = scene(rng, 3)
    mask = (rng.random(image.shape) < 0.9) * np.int32(7)
    mask[4, 5, 4] = 1
    took, made = compiled(0), []
    by_mean = _grow_mean.by_mean
    monkeypatch.setattr(_grow_mean, "by_mean", lambda *a: made.append(by_mean(*a)) or made[0])
    found = segmentation.region_grow(image, [(4, 5, 4)], criterion="mean", threshold=200, mask=mask)
    assert np.shares_memory(found, made[0].inside)
    np.testing.assert_array_equal(found, plain_mean(image, [(4, 5, 4)], 200, 6, mask))
    assert took


def test_a_compiler_that_fails_leaves_the_plain_loop(rng, monkeypatch):
    monkeypatch.setattr(_grow_mean, "_CHUNK", 5)
    monkeypatch.setattr(_grow_mean, "KERNELS", SimpleNamespace(get=lambda key: None, ask=lambda *a: None))
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


def plain_confidence(image, seeds, multiplier, iterations, radius, connectivity, mask=None):
    """Grow by the confidence interval as the docstring says it, with labels of the whole image."""
    inside = np.ones(image.shape, bool) if mask is None else mask != 0
    values = []
    for seed in seeds:
        box = tuple(slice(max(0, c - radius), c + radius + 1) for c in seed)
        values.extend(image[box][inside[box]].astype(float).tolist())
    own = [float(image[seed]) for seed in seeds]
    for _ in range(iterations + 1):
        mean, sd = np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0
        allowed = (image >= min(mean - multiplier * sd, *own)) & (image <= max(mean + multiplier * sd, *own)) & inside
        labelled, _ = ndimage.label(allowed, ndimage.generate_binary_structure(*STEPS[connectivity]))
        region = np.isin(labelled, [labelled[seed] for seed in seeds])
        values = image[region].astype(float)
        if values.std() == 0:
            break
    return region


@pytest.mark.parametrize("dtype", ["B", "h", "i", "q", "f", "d"])
@pytest.mark.parametrize("connectivity", STEPS)
def test_confidence_equals_its_definition(rng, connectivity, dtype):
    ndim = STEPS[connectivity][0]
    sizes = []
    for multiplier, iterations, radius in ((1.0, 0, 1), (2.0, 3, 1), (1.5, 5, 2), (2.5, 1, 0)):
        image = scene(rng, ndim, "d").clip(0, 255 if dtype == "B" else None).astype(dtype)
        mask = (rng.random(image.shape) > 0.05).astype(np.uint8)
        seeds = [tuple(int(rng.integers(0, n)) for n in image.shape) for _ in range(2)]
        for seed in seeds:
            mask[seed] = 1
        given = {"multiplier": multiplier, "iterations": iterations, "radius": radius, "connectivity": connectivity}
        for inside in (None, mask):
            found = segmentation.region_grow(image, seeds, criterion="confidence", mask=inside, **given)
            truth = plain_confidence(image, seeds, *given.values(), inside)
            np.testing.assert_array_equal(found, truth)
            sizes.append(found.sum())
    assert max(sizes) > 50


@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_confidence_equals_simpleitk(rng, ndim, dtype):
    """On floats, with seeds whose surroundings lie inside the image."""
    sizes = set()
    for multiplier, iterations, radius in ((2.5, 4, 1), (1.5, 2, 2), (1.0, 6, 1), (2.0, 0, 1)):
        image = scene(rng, ndim, dtype)
        seeds = [tuple(int(rng.integers(radius, n - radius)) for n in image.shape) for _ in range(2)]
        truth = sitk.ConfidenceConnected(
            sitk.GetImageFromArray(image), [s[::-1] for s in seeds], iterations, multiplier, radius, 1
        )
        found = segmentation.region_grow(
            image, seeds, criterion="confidence", multiplier=multiplier, iterations=iterations, radius=radius
        )
        np.testing.assert_array_equal(found, sitk.GetArrayFromImage(truth))
        sizes.add(int(found.sum()))
    assert len(sizes) > 2


def test_confidence_of_a_constant_image_and_of_one_voxel():
    assert segmentation.region_grow(np.full((4, 5), 7), [(1, 1)], criterion="confidence").all()
    spike = np.zeros((9, 9))
    spike[4, 4] = 5
    alone = segmentation.region_grow(spike, [(4, 4)], criterion="confidence", radius=0)
    assert alone.sum() == 1


def test_confidence_leaves_out_nan_and_infinite_values():
    image = np.random.default_rng(0).normal(50, 1, (12, 12))
    image[5, 6], image[6, 5], image[4, 4] = np.nan, np.inf, -np.inf
    found = segmentation.region_grow(image, [(5, 5)], criterion="confidence", multiplier=4)
    assert found.sum() == 141
    huge = np.full((5, 5), 1e308)
    huge[0] = -1e308
    assert segmentation.region_grow(huge, [(4, 4), (0, 0)], criterion="confidence").all()


def steps_from(region, seeds, connectivity):
    """How many steps within the region every voxel is away from the seeds, by dilating."""
    away, step = np.full(region.shape, -1), 0
    reached = np.zeros(region.shape, bool)
    reached[tuple(np.array(seeds).T)] = True
    while (new := reached & (away < 0)).any():
        away[new] = step
        step += 1
        reached = ndimage.binary_dilation(reached, ndimage.generate_binary_structure(*STEPS[connectivity])) & region
    return away


@pytest.mark.parametrize("reach", [32, 2])
@pytest.mark.parametrize("connectivity", STEPS)
@pytest.mark.parametrize("criterion", ["seed", "confidence"])
def test_max_size_keeps_what_is_nearest(rng, monkeypatch, criterion, connectivity, reach):
    monkeypatch.setattr(_grow, "_FIRST_REACH", reach)
    ndim, _ = STEPS[connectivity]
    # Walls of another value with gaps: the way is longer than the distance.
    image = np.where(rng.random((30, 31) if ndim == 2 else (11, 12, 13)) < 0.3, 50, rng.integers(0, 5, 1)[0])
    seeds = [tuple(n // 2 for n in image.shape), tuple(n // 2 - 3 for n in image.shape)]
    for seed in seeds:
        image[seed] = image.min()
    given = {"criterion": criterion, "connectivity": connectivity}
    given |= {"threshold": 10} if criterion == "seed" else {"radius": 0}
    whole = segmentation.region_grow(image, seeds, **given)
    away = steps_from(whole > 0, seeds, connectivity)
    counts = np.cumsum(np.bincount(away[away >= 0]))
    assert len(counts) > 4
    for limit in (1, 2, 7, int(counts[2]), int(counts[2]) + 1, int(counts[-1]) - 1, int(counts[-1]), 10**6):
        found = segmentation.region_grow(image, seeds, max_size=limit, **given)
        steps = max(int(np.searchsorted(counts, limit, side="right")) - 1, 0)
        np.testing.assert_array_equal(found > 0, (away >= 0) & (away <= steps))


@pytest.mark.parametrize("after", [0, 3])
def test_max_size_stops_the_queue_of_the_mean_where_it_is(rng, compiled, after):
    image = scene(rng, 2)
    whole = segmentation.region_grow(image, [(10, 9)], criterion="mean", threshold=100)
    assert whole.sum() > 90
    order = []
    compiled(after)
    for limit in (1, 2, 3, 30, 31, int(whole.sum()) - 1):
        found = segmentation.region_grow(image, [(10, 9)], criterion="mean", threshold=100, max_size=limit)
        assert found.sum() == limit
        assert not order or not (order[-1] & ~(found > 0)).any()
        order.append(found > 0)
    for limit in (int(whole.sum()), 1e9):
        found = segmentation.region_grow(image, [(10, 9)], criterion="mean", threshold=100, max_size=limit)
        np.testing.assert_array_equal(found, whole)


def test_sizes_are_in_millimetres():
    image = np.zeros((9, 9, 9))
    for spacing, voxels in (((1, 1, 1), 25), ((2, 1, 1), 7), ((0.5, 0.5, 1), 63)):
        # Diamonds of 1, 7, 25, 63 voxels.
        found = segmentation.region_grow(image, [(4, 4, 4)], threshold=1, max_size=25, spacing=spacing)
        assert found.sum() == voxels


def test_notes_say_limits_mean_deviation_and_size(rng):
    data = np.full((6, 8, 9), -1000, np.int16)
    data[1:5, 2:6, 2:7] = rng.integers(30, 50, (4, 4, 5))
    volume = Volume.from_array(data, spacing=(2.0, 1.0, 0.5), name="ct")
    inside = data[1:5, 2:6, 2:7]
    grown = lb.apply("region_grow", volume, seeds=[volume.grid.to_world((2, 3, 3))], threshold=100)
    (note,) = grown.meta["notes"]
    assert note.startswith(f"region of 80 voxels (0.08 ml): mean {inside.mean():.4g}, sd {inside.std(ddof=1):.4g};")
    assert f"threshold 100 around {data[2, 3, 3]}" in note
    for values, says in (
        ({}, "chosen automatically"),
        ({"criterion": "confidence", "multiplier": 6}, r"grown from \S+ to \S+ \(round \d of 4\)"),
        ({"max_size": 30, "threshold": 100}, "stopped at max_size 30: "),
    ):
        grown = lb.apply("region_grow", volume, seeds=[volume.grid.to_world((2, 3, 3))], **values)
        assert re.search(says, " ".join(grown.meta["notes"]))
    plane = lb.apply("region_grow", volume, plane="axial", seeds=[volume.grid.to_world((2, 3, 3))], threshold=100)
    assert plane.meta["notes"][0].startswith("region of 20 pixels (10 mm²): mean")
    assert plane.data.sum() == 20


@pytest.mark.parametrize("dtype", ["?", "b", "B", "h", "q", "Q", "e", "f", "d"])
def test_limits_in_the_type_of_the_image_equal_those_in_float64(rng, dtype):
    info = np.iinfo(dtype) if dtype in "bBhqQ" else None
    values = np.array([0, 1, 1, 0] if dtype == "?" else [0, 1, 2, 3, 5, 7, 100, 101], dtype)
    if info is not None:
        values = np.append(values, np.array([info.min, info.max], dtype))
    limits = [*rng.uniform(-3, 110, 20), 0, 1, 2, 3, 100, 1e-9, 1 + 1e-9, 3 - 1e-9, -1e300, 1e300, np.inf, -np.inf]
    for low, high in itertools.product(limits, limits):
        for inclusive in (True, False):
            first, last = _grow_limits.between(np.dtype(dtype), low, high, inclusive)
            plain = [float(v) for v in values]
            truth = [low <= v <= high if inclusive else low < v < high for v in plain]
            found = values.view(np.uint8) if dtype == "?" else values
            found = [False] * len(values) if first is None else ((found >= first) & (found <= last)).tolist()
            assert found == truth, (low, high, inclusive)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_many_seeds_in_parts_of_their_own(rng, count):
    image = np.zeros((40, 41), np.int16)
    seeds = [(3 * i + 1, 3 * (i % 9) + 2) for i in range(count)]
    image[::3] = 90
    found = segmentation.region_grow(image, seeds, threshold=10)
    allowed = image == 0
    labelled, _ = ndimage.label(allowed)
    np.testing.assert_array_equal(found > 0, np.isin(labelled, [labelled[s] for s in seeds]) & allowed)


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
        ({"seeds": [(0, 0)], "criterion": "doubt"}, "criterion"),
        ({"seeds": [(0, 0)], "criterion": "confidence"}, "threshold is not used"),
        ({"seeds": [(0, 0)], "criterion": "confidence", "threshold": None, "multiplier": 0}, "multiplier"),
        ({"seeds": [(0, 0)], "criterion": "confidence", "threshold": None, "iterations": -1}, "iterations"),
        ({"seeds": [(0, 0)], "criterion": "confidence", "threshold": None, "iterations": 1.5}, "iterations"),
        ({"seeds": [(0, 0)], "criterion": "confidence", "threshold": None, "radius": -1}, "radius"),
        ({"seeds": [(0, 0)], "max_size": 0}, "max_size"),
        ({"seeds": [(0, 0)], "max_size": np.nan}, "max_size"),
        ({"seeds": [(0, 0)], "max_size": 5, "spacing": (0, 1)}, "spacing"),
    ],
)
def test_refused_in_a_sentence(arguments, says):
    image = np.ones((6, 6))
    image[3, 3] = np.nan
    with pytest.raises(InputError, match=says):
        segmentation.region_grow(image, **{"threshold": 1, **arguments})
