"""The compiled flood against connected components, a plain queue and the way without it."""

import collections
import itertools
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from scipy import ndimage

from napari_lightbox.ops import _flood, _grow_limits, _moments, _ready, segmentation
from napari_lightbox.progress import Cancelled, listening

if not _ready.available():
    pytest.skip("there are no compiled kernels here", allow_module_level=True)

STEPS = {4: (2, 1), 8: (2, 2), 6: (3, 1), 18: (3, 2), 26: (3, 3)}
SHAPES = {
    2: [(1, 1), (1, 64), (3, 1), (40, 63), (9, 65), (5, 190), (300, 7), (33, 128)],
    3: [(1, 1, 1), (2, 3, 200), (7, 8, 64), (1, 20, 65), (20, 1, 130), (30, 9, 5), (6, 7, 127), (9, 10, 11)],
}


@pytest.fixture(scope="module", autouse=True)
def ready():
    """Have the variants ready that these tests use."""
    for key in ("i2", "f4"):
        assert _flood.KERNELS.wait((key,)) is not None
        assert _moments.KERNELS.wait((key,)) is not None


@pytest.fixture
def used(monkeypatch):
    """Count how often the compiled flood is used."""
    used = []
    grow = _flood.Flood.grow
    monkeypatch.setattr(_flood.Flood, "grow", lambda *a, **k: used.append(1) or grow(*a, **k))
    return used


def flood_plainly(allowed, seeds, rank):
    """Return the voxels that are connected to the seeds, and each one's steps from them: a queue of places."""
    offsets = [o for o in itertools.product((-1, 0, 1), repeat=allowed.ndim) if 0 < sum(map(abs, o)) <= rank]
    away = np.full(allowed.shape, -1)
    queue = collections.deque(dict.fromkeys(map(tuple, seeds)))
    for place in queue:
        away[place] = 0
    while queue:
        place = queue.popleft()
        for offset in offsets:
            near = tuple(p + o for p, o in zip(place, offset, strict=True))
            inside = all(0 <= n < s for n, s in zip(near, allowed.shape, strict=True))
            if inside and away[near] < 0 and allowed[near]:
                away[near] = away[place] + 1
                queue.append(near)
    return away


def case(rng, ndim, number):
    """Make noise of some coarseness near the share at which it falls apart, in various memory layouts."""
    shape = SHAPES[ndim][number % len(SHAPES[ndim])]
    blocks = np.ones(shape) if number % 3 else np.ones([-(-n // 4) for n in shape])
    image = rng.random(blocks.shape)
    for axis, n in enumerate(shape):
        image = image.repeat(1 if number % 3 else 4, axis).take(range(n), axis)
    image = (image * 100 + (rng.random(shape) < 0.1) * 60).astype([">i2", "i2", "f4"][number % 3])
    if number % 5 == 1:
        image = np.asfortranarray(image)
    if number % 5 == 2:
        image = np.repeat(image, 2, axis=-1)[..., ::2]
    image.flags.writeable = False
    mask = None
    if number % 4 == 1:
        mask = (rng.random(shape) < 0.9).astype([np.int8, np.int32, bool][number % 3])
    seeds = [tuple(int(rng.integers(0, n)) for n in shape) for _ in range(1 + number % 3)]
    for seed in seeds if mask is not None else ():
        mask[seed] = 1
    return image, mask, seeds


@pytest.mark.parametrize("connectivity", STEPS)
def test_equals_connected_components(rng, used, connectivity):
    ndim, rank = STEPS[connectivity]
    sizes = []
    for number in range(40):
        image, mask, seeds = case(rng, ndim, number)
        centre = np.mean([float(image[s]) for s in seeds])
        threshold = float(rng.uniform(15, 60))
        allowed = (np.abs(image.astype(float) - centre) < threshold) & (True if mask is None else mask != 0)
        for seed in seeds:
            allowed[seed] = True
        labelled, _ = ndimage.label(allowed, ndimage.generate_binary_structure(ndim, rank))
        truth = np.isin(labelled, [labelled[s] for s in seeds])
        found = segmentation.region_grow(image, seeds, threshold=threshold, connectivity=connectivity, mask=mask)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, truth, err_msg=str(number))
        if number % 8 == 0:
            np.testing.assert_array_equal(found > 0, flood_plainly(allowed, seeds, rank) >= 0)
        sizes.append(int(found.sum()))
    assert len(used) == 40
    assert sum(size > 50 for size in sizes) > 10


@pytest.mark.parametrize("wide", [1, 23, 24, 25, 43, 44, 63, 64, 65, 67, 68, 129])
def test_rows_of_any_width(rng, used, wide):
    """The state lies in rows of the result that have room for it, beside it where they have none."""
    for number, (connectivity, (ndim, rank)) in enumerate(STEPS.items()):
        shape = (40, wide) if ndim == 2 else (5, 12, wide)
        for masked in (False, True):
            seed = tuple(n // 2 for n in shape)
            image = (rng.random(shape) * 100).astype(np.int16)
            kind = f"{'iu'[wide % 2]}{1 << number % 4}"
            # Neither the lowest nor the highest byte alone says that a number is 0.
            mask = np.where(rng.random(shape) < 0.8, np.array(1 << 8 * np.dtype(kind).itemsize - 2, kind), 0)
            mask = mask if masked else np.ones(shape, kind)
            image[seed], mask[seed] = 50, 1
            share = 48 if ndim == 2 and rank == 1 else 20 if rank == 1 else 14
            labelled, _ = ndimage.label(
                (np.abs(image - 50) < share) & (mask != 0), ndimage.generate_binary_structure(ndim, rank)
            )
            given = {"threshold": share, "connectivity": connectivity, "mask": mask if masked else None}
            found = segmentation.region_grow(image, [seed], **given)
            np.testing.assert_array_equal(found, labelled == labelled[seed])
            assert found.flags.c_contiguous
    assert len(used) == 2 * len(STEPS)


@pytest.mark.parametrize("wide", [30, 70, 200])
def test_growing_again_leaves_nothing_of_the_time_before(rng, wide):
    image = rng.integers(0, 100, (6, 20, wide)).astype(np.int16)
    seeds = np.array([(3, 10, wide // 2)])
    image[3, 10, wide // 2] = 50
    grower, given = _grow_limits.Grower(image, None, seeds, 1), []
    for wide_limits, limits in (((0, 99), (40, 60)), ((5, 95), (50, 50)), ((0, 99), (20, 90))):
        assert grower.between(*wide_limits, True).count > image.size / 2
        given.append((*limits, grower.between(*limits, True).whole(image.shape)))
    for low, high, found in given:
        labelled, _ = ndimage.label((image >= low) & (image <= high))
        np.testing.assert_array_equal(found, labelled == labelled[tuple(seeds[0])])
    assert given[2][2].sum() > 2 * given[0][2].sum()


@pytest.mark.parametrize("criterion", ["seed", "confidence"])
def test_memory_beside_the_result_does_not_grow_with_the_volume(criterion):
    """All of a volume joins; of its rows a byte each is kept."""
    beside = []
    for shape in ((8, 64, 256), (32, 64, 256)):
        image = np.tile(np.arange(256, dtype=np.int16) % 2, (*shape[:2], 1))
        options = {"threshold": 9} if criterion == "seed" else {"multiplier": 5, "radius": 9}
        options["mask"] = np.ones(shape, np.uint16)
        segmentation.region_grow(image, [(4, 4, 4)], criterion=criterion, **options)
        tracemalloc.start()
        found = segmentation.region_grow(image, [(4, 4, 4)], criterion=criterion, **options)
        beside.append(tracemalloc.get_traced_memory()[1] - found.nbytes)
        tracemalloc.stop()
        assert found.all()
    # Three more volumes of the first's size, of 512 rows each.
    assert beside[1] - beside[0] < 4 * 3 * 512
    assert beside[0] < 8 * 64 * 256 / 8


@pytest.mark.parametrize("connectivity", [4, 6, 26])
def test_winding_ways_are_followed_to_their_end(used, connectivity):
    """Walls with one gap each, at alternate ends: the flood has to go to and fro across all words."""
    ndim, rank = STEPS[connectivity]
    shape = (41, 200) if ndim == 2 else (5, 21, 200)
    image = np.zeros(shape, np.int16)
    image[..., 1::2, :] = 900
    image[..., 1::4, -1] = image[..., 3::4, 0] = 0
    if ndim == 3:
        image[1::2] = 900
        image[1::4, -1, -1] = image[3::4, 0, 0] = 0
    steps = segmentation.region_grow(image, [(0,) * ndim], threshold=5, connectivity=connectivity)
    np.testing.assert_array_equal(steps > 0, flood_plainly(image == 0, [(0,) * ndim], rank) >= 0)
    assert steps.sum() > 4000
    across = np.moveaxis(image, -1, 0)
    found = segmentation.region_grow(across, [(0,) * ndim], threshold=5, connectivity=connectivity)
    np.testing.assert_array_equal(found > 0, flood_plainly(across == 0, [(0,) * ndim], rank) >= 0)
    assert len(used) == 2


@pytest.mark.parametrize("connectivity", STEPS)
def test_confidence_and_sizes_equal_the_plain_way(rng, used, monkeypatch, connectivity):
    ndim, _ = STEPS[connectivity]
    for number in range(12):
        image, mask, seeds = case(rng, ndim, number)
        given = {"criterion": "confidence", "multiplier": 1.5, "connectivity": connectivity, "mask": mask}
        given["max_size"] = [None, 3, 40, 200][number % 4]
        found = segmentation.region_grow(image, seeds, **given)
        count = len(used)
        assert count
        monkeypatch.setenv("LIGHTBOX_COMPILED", "0")
        np.testing.assert_array_equal(found, segmentation.region_grow(image, seeds, **given), err_msg=str(number))
        monkeypatch.delenv("LIGHTBOX_COMPILED")
        assert len(used) == count


def test_nothing_between_the_limits_leaves_the_seeds(used):
    image = np.array([[0, 100, 0, 100, 30]], np.int16)
    found = segmentation.region_grow(image, [(0, 0), (0, 3)], threshold=3)
    assert found.tolist() == [[1, 0, 0, 1, 0]]
    line = np.array([[0, 1, 1, 0]], np.int16)
    grower = _grow_limits.Grower(line, None, np.array([(0, 1)]), 1)
    assert grower.between(0.2, 0.8, True).whole(line.shape).tolist() == [[0, 1, 0, 0]]
    assert grower.between(-np.inf, np.inf, True).whole(line.shape).all()
    assert len(used) == 3


def test_nan_and_infinite_voxels_never_join(used):
    image = np.ones((5, 70), np.float32)
    image[2] = np.resize([np.nan, np.inf, -np.inf], 70)
    found = segmentation.region_grow(image, [(0, 0)], threshold=1e38)
    assert found[:2].all()
    assert not found[2:].any()
    assert used


def test_moments_of_whole_numbers_lose_nothing(rng):
    for dtype in ("i2", "u1", "i4", "u4"):
        info = np.iinfo(dtype)
        values = rng.integers(info.max - 9, info.max, 1000, dtype, endpoint=True)
        mean = Fraction(sum(values.tolist()), 1000)
        variance = sum((v - mean) ** 2 for v in values.tolist()) / 999
        for found in (
            _moments.moments([values[:300], values[300:]]),
            _moments.inside(values.reshape(10, 100), np.ones((10, 100), bool)),
        ):
            assert (found.count, found.mean) == (1000, float(mean))
            assert found.sd == pytest.approx(float(variance) ** 0.5, rel=1e-15)


def exact_moments(values):
    """Work out mean and variance in fractions."""
    found = [Fraction(v) for v in values.tolist() if np.isfinite(v)]
    mean = sum(found) / len(found)
    return len(found), float(mean), sum((v - mean) ** 2 for v in found) / (len(found) - 1)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "u4", "q", "Q"])
def test_moments_are_rounded_once(rng, monkeypatch, dtype):
    """Values from the smallest to the largest of their type, against fractions; compiled and by numpy."""
    kind = np.dtype(dtype)
    if kind.itemsize < 8 or kind.kind == "f":
        assert _moments.KERNELS.wait((dtype,)) is not None
    for number in range(6):
        if kind.kind == "f":
            reach = np.log10(float(np.finfo(kind).max)) - 1
            values = rng.normal(size=150) * 10.0 ** rng.uniform(-reach, reach, 150 if number % 2 else 1)
            values[::11] = [
                0,
                np.nan,
                np.inf,
                -np.inf,
                np.finfo(kind).smallest_subnormal,
                1,
                -1,
                0.1,
                3e9,
                7,
                2,
                5,
                1,
                0,
            ]
        else:
            info = np.iinfo(kind)
            values = rng.integers(info.min, info.max, 150, kind, endpoint=True)
        values, chosen = values.astype(kind), rng.random(150) < 0.8
        count, mean, variance = exact_moments(values[chosen])
        compiled = _moments.inside(values, chosen)
        monkeypatch.setenv("LIGHTBOX_COMPILED", "0")
        plain = _moments.inside(values, chosen)
        monkeypatch.delenv("LIGHTBOX_COMPILED")
        assert compiled == plain == _moments.moments([values[chosen][:40], values[chosen][40:]])
        assert (compiled.count, compiled.mean) == (count, mean)
        # A root of what was rounded once, rounded once.
        assert abs(Fraction(compiled.sd) ** 2 - variance) <= variance / 2**51


def test_deviation_of_the_largest_floats():
    largest = np.finfo(np.float64).max
    assert _moments.moments([np.array([largest, largest])]) == _moments.Moments(2, largest, 0.0)
    assert _moments.moments([np.array([largest, -largest])]) == _moments.Moments(2, 0.0, np.inf)


@pytest.mark.parametrize("shape", [(70, 9, 130), (40, 20, 3), (3, 50)])
def test_moments_of_a_region_are_those_of_its_voxels(rng, monkeypatch, shape):
    monkeypatch.setattr(_flood, "_PART", 200)
    image = rng.integers(-(2**15), 2**15, shape).astype(np.int16)
    seeds = np.array([[0] * len(shape)])
    for low, high in ((-20000, 20000), (-(2**15), 2**15)):
        grown = _grow_limits.Grower(image, None, seeds, len(shape)).between(low, high, True)
        found = grown.moments(image)
        inside = grown.whole(shape) > 0
        assert found == _moments.moments([image[inside]])
        assert inside.sum() > 15
        with monkeypatch.context() as without:
            without.setattr(_moments.Compiled, "of", lambda *_: None)
            other = _grow_limits.Grower(image, None, seeds, len(shape)).between(low, high, True)
            assert other.moments(image) == grown.moments(image)
            np.testing.assert_array_equal(other.whole(shape), inside)
        real = _grow_limits.Grower(image.astype("f4"), None, seeds, len(shape)).between(low, high, True)
        assert real.moments(image.astype("f4")) == _moments.moments([image[inside].astype("f4")])


def test_cancel_between_chunks(monkeypatch):
    monkeypatch.setattr(_flood, "_CHUNK", 16)
    asked = []

    def listener(what, done, total):
        asked.append(done)
        if len(asked) > 5:
            raise Cancelled

    with listening(listener), pytest.raises(Cancelled):
        segmentation.region_grow(np.zeros((600, 60), np.int16), [(5, 5)], threshold=1)
    assert max(asked) < 36000


def test_half_written_region_is_not_taken_for_state(monkeypatch):
    """A grower is used again after somebody cancelled while its region was written."""
    monkeypatch.setattr(_flood, "_PART", 1000)
    image = np.zeros((90, 100), np.int16)
    image[:5] = 50
    grower = _grow_limits.Grower(image, None, np.array([[2, 2]]), 1)

    def listener(what, done, total):
        if what == "rows" and done >= 5:
            raise Cancelled

    with listening(listener), pytest.raises(Cancelled):
        grower.between(0, 60, inclusive=True).whole(image.shape)
    again = grower.between(40, 60, inclusive=True)
    assert again.count == 500
    np.testing.assert_array_equal(again.whole(image.shape), image == 50)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["?", "b", "B", "h", "H", "i", "I", "q", "Q", "f", "d"])
def test_every_type_of_voxel(rng, used, dtype):
    image = np.zeros(1, dtype)
    assert _flood.KERNELS.wait(_flood.key_of(image.dtype)) is not None
    for number in range(200):
        ndim = 2 + number % 2
        image, mask, seeds = case(rng, ndim, number)
        image = (image - 50).astype(np.int64)
        image = (np.maximum(image, 0) if np.dtype(dtype).kind == "u" else image).astype(dtype)
        rank = 1 + number % ndim
        connectivity = next(c for c, steps in STEPS.items() if steps == (ndim, rank))
        centre = np.mean([float(image[s]) for s in seeds])
        allowed = (np.abs(image.astype(float) - centre) < 30) & (True if mask is None else mask != 0)
        for seed in seeds:
            allowed[seed] = True
        labelled, _ = ndimage.label(allowed, ndimage.generate_binary_structure(ndim, rank))
        found = segmentation.region_grow(image, seeds, threshold=30, connectivity=connectivity, mask=mask)
        np.testing.assert_array_equal(found, np.isin(labelled, [labelled[s] for s in seeds]))
    assert len(used) == 200
