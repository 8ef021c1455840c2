"""Warps brick by brick: the same as from a copy of the whole input, for any mapping, in a fixed amount of memory."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from traced import peak

from napari_lightbox.errors import InputError
from napari_lightbox.ops import _bricks, _interpolation, _tiles, _warp, warps
from napari_lightbox.progress import Cancelled, listening
from napari_lightbox.volume import Volume

ORDERS = {"nearest": 0, "linear": 1, "cubic": 3}
SHAPE, TARGET = (9, 150, 140), (10, 50, 50)
FILL = 7


def voxels(rng, shape, dtype):
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        return rng.integers(max(low, -(1 << 40)), min(high, 1 << 40), shape, dtype, endpoint=True)
    return rng.random(shape) < 0.5 if dtype.kind == "b" else (rng.normal(size=shape) * 100).astype(dtype)


def smooth(shape, target, waves=3.0):
    """Return places that spread over an input and a little beyond, and bend gently."""
    index = np.indices(target).astype(float)
    steps = [(n + 4) / max(m - 1, 1) for n, m in zip(shape, target, strict=True)]
    straight = np.stack([step * i - 2.3171 for step, i in zip(steps, index, strict=True)])
    return straight + waves * np.sin(index[::-1] / 7)


def wild(rng, shape, target):
    """Return places anywhere in an input and around it, some of them nowhere."""
    limits = np.array(shape).reshape(-1, *(1,) * len(target))
    places = rng.random((len(target), *target)) * (limits + 4) - 2
    places[:, rng.random(target) < 0.1] = np.nan
    places[0, rng.random(target) < 0.02] = np.inf
    # On voxels, and so on the borders of bricks.
    whole = rng.random(target) < 0.2
    places[:, whole] = np.round(places[:, whole])
    return places


def horizon(shape, target):
    """Return places of which some blocks come from nowhere, and the others lead far."""
    index = np.indices(target).astype(float)
    weight = 1.0 - index[-1] / (0.7 * target[-1])
    return np.where(weight > 0.05, smooth(shape, target, 0) / np.where(weight > 0.05, weight, 1), np.nan)


MAPPINGS = {"smooth": lambda r, s, t: smooth(s, t), "wild": wild, "horizon": lambda r, s, t: horizon(s, t)}


def finder(places):
    return lambda block: places[(slice(None), *block)]


def truth(data, places, order):
    """Return what scipy makes of all places at once, and which of them are inside."""
    limits = np.array(data.shape).reshape(-1, *(1,) * (places.ndim - 1))
    inside = ((places >= -0.5) & (places < limits - 0.5)).all(axis=0)
    where = np.where(inside, places, 0)
    if order == "nearest":
        index = np.clip(np.floor(where + 0.5).astype(int), 0, limits - 1)
        return data[tuple(index)], inside
    mode = "mirror" if order == "cubic" else "nearest"
    made = ndimage.map_coordinates(data.astype(float), where, order=ORDERS[order], mode=mode)
    if data.dtype.kind == "b":
        return made >= 0.5, inside
    if data.dtype.kind in "iu":
        made = np.clip(np.rint(made), np.iinfo(data.dtype).min, np.iinfo(data.dtype).max)
    return made, inside


def assert_true(found, data, places, order):
    expected, inside = truth(data, places, order)
    assert 0.1 < inside.mean() < 1
    assert (found[~inside] == np.array(FILL).astype(found.dtype)).all()
    apart = np.abs(found[inside].astype(float) - expected[inside].astype(float))
    if data.dtype.kind == "f":
        assert apart.max() <= {2: 0.3, 4: 2e-4, 8: 1e-9}[data.dtype.itemsize]
    else:
        # Single precision may round to the other side of a half.
        assert apart.max() <= 1
        assert (apart > 0).mean() < 5e-3


def noted(monkeypatch, module, name):
    """Return the list that what a function gives is noted in."""
    given, function = [], getattr(module, name)

    def call(*arguments):
        given.append(function(*arguments))
        return given[-1]

    monkeypatch.setattr(module, name, call)
    return given


def limited(monkeypatch, limit, part=2000):
    """Lower the limit and the size of parts, and return the list that all divisions are noted in."""
    monkeypatch.setattr(_bricks, "LIMIT", limit)
    monkeypatch.setattr(_warp, "_PART", part)
    return noted(monkeypatch, _bricks, "between")


def limit_for(dtype, order):
    """Return bytes that hold some part of the input only, with what the filter needs around it."""
    if order == "linear":
        return 100_000
    return 1_100_000 if np.dtype(dtype).itemsize == 8 or dtype == "i4" else 350_000


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "i4", "i8", "f2", "f4", "f8"])
def test_bricks_give_what_scipy_gives_and_what_the_whole_gives(rng, monkeypatch, mapping, dtype):
    data, places = voxels(rng, SHAPE, dtype), MAPPINGS[mapping](rng, SHAPE, TARGET)
    for order in ORDERS:
        arguments = data, TARGET, finder(places), order, FILL
        whole, kept = _warp.pull(*arguments), data.copy()
        assert_true(whole, data, places, order)
        with monkeypatch.context() as patch:
            divisions = limited(patch, limit_for(dtype, order))
            found = _warp.pull(*arguments)
        copied = order == "cubic" or (order == "linear" and dtype == "f2")
        assert [len(division) > 2 for division in divisions] == [True] * copied
        assert found.dtype == data.dtype
        np.testing.assert_array_equal(found, whole)
        np.testing.assert_array_equal(data, kept)


@pytest.mark.parametrize("across", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["?", "i2", "f2", "f4"])
def test_planes_in_bricks(rng, monkeypatch, across, dtype):
    shape = [150, 140]
    shape.insert(across, 5)
    data, places = voxels(rng, shape, dtype), smooth((150, 140), (150, 140))
    for order in ORDERS:
        arguments = data, across, finder(places), order, FILL
        whole = _warp.pull_planes(*arguments)
        for plane, made in zip(np.moveaxis(data, across, 0), np.moveaxis(whole, across, 0), strict=True):
            assert_true(made, plane, places, order)
        # Some planes at a time, and parts of one plane.
        for limit, divided in ((270_000, False), (40_000, True)):
            with monkeypatch.context() as patch:
                divisions, made = limited(patch, limit), noted(patch, _warp, "_prepared")
                patch.setattr(_warp, "_KEPT", 3)
                found = _warp.pull_planes(*arguments)
            copied = order == "cubic" or (order == "linear" and dtype == "f2")
            assert bool(divisions) == (divided and copied)
            assert len(made) >= (2 if copied else 1)
            assert all(source.size * source.itemsize <= limit for source in made if copied)
            np.testing.assert_array_equal(found, whole)


def test_places_are_found_once_for_all_stacks_of_planes(rng, monkeypatch):
    data, places, asked = voxels(rng, (12, 90, 80), "i2"), smooth((90, 80), (90, 80)), []

    def find(block):
        asked.append(block)
        return places[(slice(None), *block)]

    limited(monkeypatch, 1 << 30)
    monkeypatch.setattr(_warp, "_STACK", 5 * 4 * 90 * 80)
    made = noted(monkeypatch, _warp, "_prepared")
    _warp.pull_planes(data, 0, find, "cubic", FILL)
    assert [len(source) for source in made] == [5, 5, 2]
    assert len(asked) == len(_tiles.blocks((90, 80), 2000))


def test_one_plane_that_is_larger_than_the_limit(rng, monkeypatch):
    data, places = voxels(rng, (1, 260, 250), "i2"), smooth((260, 250), (260, 250))
    whole = _warp.pull_planes(data, 0, finder(places), "cubic", FILL)
    divisions = limited(monkeypatch, 100_000)
    np.testing.assert_array_equal(_warp.pull_planes(data, 0, finder(places), "cubic", FILL), whole)
    assert len(divisions[0]) > 3
    assert all(np.prod([s.stop - s.start for s in brick.box]) * 4 <= 100_000 for brick in divisions[0])


def test_only_what_is_needed_is_made(rng, monkeypatch):
    """Of places that all lie in a corner, the rest of the input is left alone."""
    data, places = voxels(rng, (40, 130, 120), "f4"), smooth((20, 40, 30), (16, 16, 16))
    data[:, 80:] = np.nan
    divisions = limited(monkeypatch, 1_000_000)
    found = _warp.pull(data, (16, 16, 16), finder(places), "cubic", FILL)
    (division,) = divisions
    assert max(brick.box[2].stop for brick in division) <= 80
    assert np.isfinite(found).all()


def test_a_smooth_mapping_is_asked_for_a_block_a_few_times(rng, monkeypatch):
    data, target, asked = voxels(rng, (4, 800, 100), "i2"), (4, 200, 40), []
    places = smooth(data.shape, target)

    def find(block):
        asked.append(block)
        return places[(slice(None), *block)]

    divisions = limited(monkeypatch, 540_000, 1000)
    _warp.pull(data, target, find, "cubic", FILL)
    assert len(divisions[0]) > 5
    blocks = len(_tiles.blocks(target, 1000))
    assert blocks < len(asked) < 3 * blocks


def test_bricks_without_any_place_are_not_made(rng, monkeypatch):
    """Places in two far corners only: what lies between is passed over."""
    data, target = voxels(rng, (3, 600, 40), "i2"), (20, 20, 20)
    places = np.stack([np.full(target, 1.2), np.full(target, 3.3), np.full(target, 20.7)])
    places[1, 10:] = 590.2
    divisions, made = limited(monkeypatch, 90_000, 500), noted(monkeypatch, _warp, "_prepared")
    found = _warp.pull(data, target, finder(places), "cubic", FILL)
    assert len(made) == 2 < len(divisions[0])
    np.testing.assert_allclose(found, truth(data, places, "cubic")[0], atol=1)


def test_nothing_left_is_refused_in_bricks_too(rng, monkeypatch):
    limited(monkeypatch, 100_000)
    places = np.full((3, *TARGET), 900.0)
    with pytest.raises(InputError, match="nothing of the volume"):
        _warp.pull(voxels(rng, SHAPE, "i2"), TARGET, finder(places), "cubic", FILL)


def test_cancel_is_heard_within_a_brick(rng, monkeypatch):
    limited(monkeypatch, 350_000)
    volume = Volume.from_array(voxels(rng, SHAPE, "i2"), spacing=(1, 1, 1))
    matrix = np.eye(4)
    matrix[3, 0] = 1e-3
    reports = []
    with listening(lambda *report: reports.append(report)):
        warps.projective(volume, matrix=matrix, order="cubic")
    counted = [(done, total) for what, done, total in reports if what == "bricks"]
    assert counted[-1][0] == counted[-1][1] > 1
    assert all(a <= b for a, b in pairwise(counted))

    def listener(what, done, total):
        if what == "bricks" and done == 1:
            raise Cancelled

    with listening(listener), pytest.raises(Cancelled):
        warps.projective(volume, matrix=matrix, order="cubic")


@pytest.mark.parametrize("mapping", ["smooth", "wild"])
@pytest.mark.parametrize(
    ("dtype", "order"), [("i2", "cubic"), ("f2", "linear"), ("f4", "linear"), ("?", "linear"), ("?", "nearest")]
)
def test_memory_does_not_grow_with_the_volume(rng, monkeypatch, dtype, order, mapping):
    limited(monkeypatch, 2 << 20)
    monkeypatch.setattr(_interpolation, "_LINES", 1 << 16)
    monkeypatch.setenv("LIGHTBOX_THREADS", "1")
    peaks = []
    for depth in (60, 400):
        shape, target = (depth, 60, 60), (depth, 6, 6)
        data, places = np.zeros(shape, dtype), MAPPINGS[mapping](rng, shape, target)
        peaks.append(peak(lambda d=data, p=places, t=target: _warp.pull(d, t, finder(p), order, FILL)))
    # Whole, the coefficients of the larger take 5.8 MB, and the voxels as much as floats of 32 bits.
    assert max(peaks) < (4 << 20 if order == "cubic" or dtype == "f2" else 1 << 20)


@pytest.mark.parametrize("across", [0, 2])
@pytest.mark.parametrize("order", ORDERS)
def test_memory_does_not_grow_with_planes_nor_with_their_size(monkeypatch, order, across):
    limited(monkeypatch, 1 << 20, 1 << 12)
    monkeypatch.setattr(_interpolation, "_LINES", 1 << 16)
    monkeypatch.setattr(_warp, "_KEPT", 4)
    monkeypatch.setattr(_warp, "_ROW", 1 << 14)
    monkeypatch.setenv("LIGHTBOX_THREADS", "1")
    peaks = []
    for shape in ((4, 240, 200), (20, 240, 200), (2, 700, 600)):
        data = np.zeros(np.roll(shape, -1) if across else shape, np.int32 if order == "linear" else np.int16)
        zero = np.zeros((2, 1, 1))

        def find(block, zero=zero):
            return np.stack(np.mgrid[block]).astype(float) * 0.99 + zero

        peaks.append(peak(lambda d=data, f=find: _warp.pull_planes(d, across, f, order, FILL)))
    # Places of one plane of the last take 6.7 MB, the coefficients of the second 3.8 MB.
    assert max(peaks) < (3 << 20 if order == "cubic" else 3 << 19)
