"""Surfaces box by box: the distances of whole surfaces, and of maps of distances, in a fixed amount of memory."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from napari_lightbox.ops import _distribution, _ready, _surface, _surface_boxes, metrics
from napari_lightbox.progress import Cancelled, listening


@pytest.fixture(params=["plain", "compiled"])
def way(request, monkeypatch):
    """Go the plain way, and the compiled one."""
    if request.param == "plain":
        monkeypatch.setenv("LIGHTBOX_COMPILED", "0")
    elif not _ready.available():
        pytest.skip("there are no compiled kernels here")
    else:
        assert _surface.KERNELS.wait(_surface._KEY) is not None
    return request.param


@pytest.fixture
def boxes(monkeypatch):
    """Lower the limit, and note in how many boxes points are looked for."""
    noted, start = [], _surface_boxes.Boxes.__init__

    def begin(self, *arguments):
        start(self, *arguments)
        noted.append(len(self._parts))

    monkeypatch.setattr(_surface_boxes.Boxes, "__init__", begin)

    def lower(limit):
        monkeypatch.setattr(_surface_boxes, "LIMIT", limit)
        return noted

    return lower


def surface(mask):
    """Return the voxels of a mask that its erosion takes off."""
    return mask & ~ndimage.binary_erosion(mask, ndimage.generate_binary_structure(mask.ndim, 1))


def by_maps(first, second, spacing):
    """Return the distances of each surface to the other, from maps of distances."""
    a, b = surface(first), surface(second)
    return [ndimage.distance_transform_edt(~other, sampling=spacing)[one] for one, other in ((a, b), (b, a))]


def cases(rng, shape):
    """Make masks of all sorts."""
    noise = [rng.random(shape) < share for share in (0.3, 0.02)]
    blobs = [ndimage.gaussian_filter(rng.random(shape), 2) > level for level in (0.5, 0.51)]
    apart, single = np.zeros((2, 2, *shape), bool)
    for side in (0, 1):
        apart[side][tuple(slice(side * (n - 1 - n // 4), None if side else 1 + n // 4) for n in shape)] = True
        single[side].flat[rng.integers(0, apart[side].size)] = True
        blobs[side] |= single[side]
    full = np.ones(shape, bool)
    return noise, blobs, apart, single, (full, blobs[1]), (noise[0], single[0]), (full, full)


@pytest.mark.parametrize("shape", [(40, 60), (1, 300), (300, 1), (7, 12, 70), (3, 10, 70), (10, 6, 65)])
def test_box_by_box_equals_maps_and_whole_surfaces(rng, way, boxes, monkeypatch, shape):
    for number, (first, second) in enumerate(cases(rng, shape)):
        monkeypatch.setattr(_surface, "_EDGE", (6, 1, 2.5)[number % 3])
        spacing = tuple(rng.uniform(0.3, 5, len(shape)).round(2))
        percentile, tolerance = (100, 95, 50, 1.5)[number % 4], (0.0, 0.777, 2.123)[number % 3]
        asked = first, second, spacing, None, "voxels", (percentile,), tolerance
        noted = boxes(64 << 20)
        whole, before = metrics._apart(*asked), len(noted)
        boxes(first.size * (50 if way == "plain" else 12))
        found = metrics._apart(*asked)
        assert before == 0 or len(noted) - before <= 1
        for side, other, truth in zip(found.sides, whole.sides, by_maps(first, second, spacing), strict=True):
            # To the last digit.
            assert side.percentiles == other.percentiles
            assert (side.within, side.whole) == (other.within, other.whole)
            assert side.total == pytest.approx(other.total, rel=1e-14)
            assert side.whole == len(truth)
            assert side.total == pytest.approx(truth.sum(), rel=1e-12)
            assert side.percentiles[0] == pytest.approx(np.percentile(truth, percentile), rel=1e-12)
            assert side.within == np.count_nonzero(truth <= tolerance)
    assert noted
    # A plane has rows that are not cut.
    assert max(noted) >= 6 or shape[:-1] == (1,)


@pytest.mark.parametrize("shape", [(30, 40), (6, 9, 40)])
def test_pieces_with_an_area_box_by_box(rng, way, boxes, shape):
    for first, second in cases(rng, shape)[:6]:
        asked = first, second, tuple(rng.uniform(0.3, 5, len(shape)).round(2)), None, "deepmind", (100, 95, 47.3), 1.234
        noted = boxes(64 << 20)
        whole, before = metrics._apart(*asked), len(noted)
        boxes(first.size * (50 if way == "plain" else 12))
        for side, other in zip(metrics._apart(*asked).sides, whole.sides, strict=True):
            assert side.percentiles == other.percentiles
            np.testing.assert_allclose(side[1:], other[1:], rtol=1e-13)
        assert before == 0 or len(noted) - before <= 1
    assert noted
    assert max(noted) >= 4


@pytest.mark.parametrize("dtype", ["?", "h", ">i4"])
def test_labels_by_number_in_any_layout(rng, way, boxes, dtype):
    labels = [np.where(ndimage.gaussian_filter(rng.random((9, 11, 34)), 1) > 0.5, 3, 0).astype(dtype) for _ in "ab"]
    value = int(labels[0].max())
    labels[1] = np.asfortranarray(labels[1])
    asked = *labels, (1.0, 2.0, 0.5)
    noted = boxes(64 << 20)
    whole = metrics.hausdorff(*asked, label=value), metrics.surface_dice(*asked, 1.5, value), metrics.assd(*asked)
    boxes(50_000)
    assert metrics.hausdorff(*asked, label=value) == whole[0]
    assert metrics.surface_dice(*asked, 1.5, value) == whole[1]
    assert metrics.assd(*asked) == pytest.approx(whole[2], rel=1e-14)
    assert len(noted) == 3
    assert min(noted) > 1
    assert np.isnan(metrics.hausdorff(*asked, label=value + 1))


def test_nothing_in_either_is_told_box_by_box(way, boxes):
    nothing, something = np.zeros((9, 20, 70), int), np.zeros((9, 20, 70), int)
    something[4, 5, 6] = 1
    noted = boxes(100)
    assert np.isnan(metrics.hausdorff(nothing, nothing, (1, 1, 1)))
    assert metrics.hausdorff(nothing, something, (1, 1, 1)) == np.inf
    assert metrics.surface_dice(something, nothing, (1, 1, 1), 1) == 0
    assert metrics.hausdorff(something, something, (1, 1, 1)) == 0
    assert len(noted) == 4


def blobs(shape, shift):
    """Return smooth regions without much memory or time."""
    z, y, x = np.ogrid[tuple(slice(0, n) for n in shape)]
    return np.sin((z + shift) / 3.0) + np.sin((y + 2 * shift) / 5.0) + np.sin(x / 4.0) > 0.8


@pytest.mark.parametrize("measure", ["percentile", "mean", "deepmind"])
def test_memory_does_not_grow_with_the_image(way, boxes, monkeypatch, measure):
    monkeypatch.setattr(_surface._tiles, "workers", lambda: 2)
    limit, deep = (1_500_000, 8) if way == "plain" else (1 << 20, 10)
    sizes = [(deep, 4 * deep, 64), (2 * deep, 8 * deep, 128)]
    noted, peaks = boxes(limit), []
    for shape in sizes:
        masks = blobs(shape, 0), blobs(shape, 1)
        tracemalloc.start()
        try:
            if measure == "mean":
                metrics.assd(*masks, (1.5, 0.8, 0.7))
            elif measure == "deepmind":
                metrics.hausdorff(*masks, (1.5, 0.8, 0.7), convention="deepmind")
            else:
                metrics.hausdorff(*masks, (1.5, 0.8, 0.7))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert max(peaks) < limit
    assert noted[-1] > 4


@pytest.mark.parametrize("convention", ["voxels", "deepmind"])
def test_memory_of_rows_that_fill_little_of_a_word(way, boxes, monkeypatch, convention):
    monkeypatch.setattr(_surface._tiles, "workers", lambda: 1)
    limit = 3 << 19
    noted, masks = boxes(limit), np.zeros((2, 300, 400, 1), bool)
    masks[:, 0, 0] = masks[:, -1, -1] = masks[0, 7, 9] = True
    tracemalloc.start()
    try:
        found = metrics.hausdorff(*masks, (1, 1, 1), percentile=100, convention=convention)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == pytest.approx(np.hypot(7, 9), abs=1)
    assert peak < limit
    assert noted


def test_cancelled_between_boxes(rng, way, boxes):
    masks = [rng.random((9, 20, 70)) < 0.2 for _ in range(2)]
    noted, told = boxes(100_000 if way == "compiled" else 20_000), []

    def listen(what, done, total):
        told.append((what, done, total))
        if what == "boxes" and done == 2:
            raise Cancelled

    with listening(listen), pytest.raises(Cancelled):
        metrics.hausdorff(*masks, (1, 1, 1))
    assert told[-1][0] == "boxes"
    # Those of both surfaces.
    assert 4 < told[-1][2] == 2 * noted[0]


def test_progress_goes_forward_from_one_surface_to_the_other(rng, boxes):
    masks, told = [rng.random((9, 20, 70)) < 0.2 for _ in range(2)], []
    boxes(50_000)
    with listening(lambda *report: told.append(report)):
        metrics.hausdorff(*masks, (1, 1, 1))
    counted = [done for what, done, total in told if what == "boxes" and total]
    assert counted == sorted(counted)
    assert counted[-1] == told[-1][2] > 4


@pytest.mark.parametrize("weighted", [False, True])
def test_parts_of_distances_give_percentiles_of_all(rng, weighted):
    """With fewer values than room, and with so many that bins are looked into again."""
    rounds = []
    for number in range(30):
        found = np.sqrt(rng.integers(0, (5, 1 << 40)[number % 2], 900) * 0.7)
        weights = rng.random(len(found)) if weighted else None
        cuts = [0, *np.sort(rng.integers(1, 900, 3)), 900]

        def parts(found=found, weights=weights, cuts=cuts):
            rounds[-1] += 1
            for a, b in pairwise(cuts):
                yield found[a:b].copy(), None if weights is None else weights[a:b]

        percentiles, most = (100, 95, 1.5, 50, rng.uniform(0, 100)), (1 << 20, 20_000)[number % 3 == 0]
        rounds.append(0)
        got = _distribution.reduced_in_parts(parts, percentiles, 2.5, most)
        truth = _distribution.reduced(found.copy(), weights, percentiles, 2.5)
        assert got.percentiles == truth.percentiles
        np.testing.assert_allclose(got[1:], truth[1:], rtol=1e-13)
    assert rounds[:3] == [1, 1, 1]
    assert rounds[3] > 1


def test_percentiles_of_weights_do_not_depend_on_the_order_of_sums(rng):
    """Half of the weight lies up to the nearer of two equal halves, however sums of it are rounded."""
    for _ in range(30):
        half, near, far = rng.random(50), rng.integers(1, 9, 50) * 0.5, rng.integers(10, 19, 50) * 0.5
        order = rng.permutation(100)
        found, weights = np.concatenate([near, far])[order], np.concatenate([half, half])[order]
        whole = _distribution.reduced(found.copy(), weights, (50, 100), 1)
        for cuts in ((0, 30, 100), (0, 99, 100)):
            some = [(found[a:b].copy(), weights[a:b]) for a, b in pairwise(cuts)]
            got = _distribution.reduced_in_parts(lambda some=some: some, (50, 100), 1, 1 << 20)
            assert got.percentiles == whole.percentiles == (near.max(), far.max())
