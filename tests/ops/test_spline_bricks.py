"""Cubic splines brick by brick: the same as from the coefficients of the whole input, in a fixed amount of memory."""

import numpy as np
import pytest
from traced import peak

from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.ops import _bricks, _resample, spatial
from napari_lightbox.ops._splines import Spline
from napari_lightbox.progress import Cancelled, listening
from napari_lightbox.volume import Volume

pytest.importorskip("numba")

C, S = np.cos(0.4), np.sin(0.4)
TURN = np.array([[C, -S, 0], [S, C, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, C, S], [0, -S, C]])
IN_PLANE = np.array([[1, 0, 0], [0, C, -S], [0, S, C]])
SHEAR = np.array([[1, 0.4, -0.3], [0, 1, 0.5], [0, 0, 1.0]])
LINEARS = {
    "rotation": TURN,
    "rotation in the plane": IN_PLANE,
    "flipped and permuted, oblique": (TURN * [1, -0.9, 0.8])[[2, 0, 1]],
    "shear": SHEAR,
    "coarser, oblique": TURN @ np.diag([4.0, 3.0, 5.0]),
    "along axes": np.diag([0.7, 1.3, 0.9]),
    "flipped and permuted, along": np.diag([-0.7, 1.1, -1.6])[[2, 0, 1]],
    "coarser, along": np.diag([7.0, 3.0, 2.5]),
}
# Small, so that both are divided: single and double precision need boxes of some 65 and 90 voxels.
LIMITS = {"f": 2_000_000, "d": 9_000_000}


def placed(linear, shape, target):
    """Return a map that takes the middle of an output to near the middle of an input."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = (np.array(shape) - 1) / 2 - linear @ ((np.array(target) - 1) / 2) + [0.21, -0.32, 0.13]
    return matrix


def voxels(rng, shape, dtype):
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low, high = (info.min, info.max) if dtype.itemsize < 8 else (0, 1 << 50)
        return rng.integers(low, high, shape, dtype, endpoint=True)
    return rng.random(shape) < 0.5 if dtype.kind == "b" else (rng.normal(size=shape) * 100).astype(dtype)


def limited(monkeypatch, limit):
    """Lower the limit, and return the list that all divisions are noted in."""
    divisions, divide = [], _bricks.bricks

    def noted(*arguments, **options):
        divisions.append(divide(*arguments, **options))
        return divisions[-1]

    monkeypatch.setattr(_bricks, "LIMIT", limit)
    for room in ("_resample", "_resample_axes", "_splines"):
        monkeypatch.setattr(f"napari_lightbox.ops.{room}.bricks", noted)
    return divisions


def largest(division):
    """Return how many coefficients are made at a time."""
    return max(np.prod([s.stop - s.start + 2 * _bricks.MARGIN for s in brick.box]) for brick in division)


def compare(rng, monkeypatch, linear, dtype, shape, target=(80, 85, 90), limit=None):
    """Return what comes of the whole input and of bricks, and how these were divided."""
    along = (np.count_nonzero(linear, axis=0) == 1).all()
    spline = Spline("along" if along else "oblique", np.dtype(dtype))
    assert spline.wait()
    data, limit = voxels(rng, shape, dtype), limit or LIMITS[spline.real.char]
    arguments = data, placed(linear, shape, target), target, "cubic", data.flat[0].item()
    whole, kept = _resample.pull(*arguments), data.copy()
    with monkeypatch.context() as patch:
        divisions = limited(patch, limit)
        found = _resample.pull(*arguments)
    np.testing.assert_array_equal(data, kept)
    assert len(divisions) == 1
    assert largest(divisions[0]) * spline.real.itemsize <= limit
    return whole, found, divisions[0]


@pytest.mark.parametrize("name", LINEARS)
def test_bricks_give_the_same_to_the_last_digit(rng, monkeypatch, name):
    sizes = ("h", (90, 100, 80)), ("f", (30, 160, 130)), ("h", (9, 400, 350)), ("d", (125, 110, 100))
    for dtype, shape in sizes:
        limit = 600_000 if shape[0] == 9 else None
        whole, found, division = compare(rng, monkeypatch, LINEARS[name], dtype, shape, limit=limit)
        assert len(division) > 1
        assert len(np.unique(whole)) > 1000
        np.testing.assert_array_equal(found, whole)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", "?bBHiIqQe")
def test_bricks_give_the_same_for_all_voxels(rng, monkeypatch, dtype):
    for linear in LINEARS.values():
        shape = (125, 110, 100) if dtype in "iIqQ" else (90, 100, 80)
        whole, found, division = compare(rng, monkeypatch, linear, dtype, shape)
        assert len(division) > 1
        np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("dtype", "?e")
@pytest.mark.parametrize("name", ["rotation", "along axes"])
def test_voxels_that_are_rounded_from_floats(rng, monkeypatch, name, dtype):
    whole, found, division = compare(rng, monkeypatch, LINEARS[name], dtype, (90, 100, 80), (110, 90, 95))
    assert len(division) > 1
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("name", ["rotation", "flipped and permuted, along"])
def test_the_way_that_serves_until_the_kernels_are_ready(rng, monkeypatch, name):
    monkeypatch.setattr(Spline, "ready", False)
    for dtype, shape, limit in (("h", (90, 84, 3), 300_000), ("f", (90, 80, 70), 2_900_000)):
        # SimpleITK takes its time.
        data, target = voxels(rng, shape, dtype), (90, 70, 6) if name == "rotation" else (70, 60, 50)
        arguments = data, placed(LINEARS[name], shape, target), target, "cubic", -3
        whole = _resample.pull(*arguments)
        with monkeypatch.context() as patch:
            divisions = limited(patch, limit if name == "rotation" else limit // 2)
            found = _resample.pull(*arguments)
        assert len(divisions[0]) > 1
        tolerance = {"rtol": 0, "atol": 0 if dtype == "h" or name != "rotation" else 1e-4}
        np.testing.assert_allclose(found, whole, **tolerance)


def test_a_region_without_contrast_keeps_no_trace_of_where_bricks_end(rng, monkeypatch):
    """There a spline's tails are not zero, but far below the last digit of the voxels beside."""
    assert Spline("oblique", np.dtype("f")).wait()
    data = np.zeros((90, 100, 80), "f")
    data[40:50, 40:60, 30:50] = rng.normal(size=(10, 20, 20)) * 1000
    arguments = data, placed(TURN, data.shape, data.shape), data.shape, "cubic", 0
    whole = _resample.pull(*arguments)
    assert len(limited(monkeypatch, LIMITS["f"])) == 0
    np.testing.assert_allclose(_resample.pull(*arguments), whole, rtol=1e-6, atol=1e-12)


def test_frames_one_by_one(rng, monkeypatch):
    assert Spline("oblique", np.dtype("h")).wait()
    grid = Grid.from_spacing((1, 1, 1), (2, 90, 100, 80), frames=Frames("time", (0.0, 1.0)))
    volume = Volume(voxels(rng, grid.shape, "h"), grid)
    whole = spatial.affine(volume, rotate=(20, 5, 9), order="cubic").data
    divisions = limited(monkeypatch, LIMITS["f"])
    np.testing.assert_array_equal(spatial.affine(volume, rotate=(20, 5, 9), order="cubic").data, whole)
    assert [len(division) > 1 for division in divisions] == [True, True]


@pytest.mark.parametrize("real", ["f", "d"])
def test_every_place_belongs_to_one_brick_that_reaches_far_enough(rng, monkeypatch, real):
    monkeypatch.setattr(_bricks, "LIMIT", 3_000_000 if real == "f" else 12_000_000)
    real, reach = np.dtype(real), {"f": 28, "d": 40}[real]
    for _ in range(30):
        source, shape = rng.integers(60, 500, 3), rng.integers(1, 90, 3)
        linear = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.3, 4, 3)
        matrix = placed(linear, source, shape)
        division = _bricks.bricks(matrix, shape, source, real)
        assert largest(division) * real.itemsize <= _bricks.LIMIT
        index = np.array([rng.integers(0, n, 300) for n in shape])
        places = (linear @ index + matrix[:3, 3:]).T
        places = places[((places >= -0.5) & (places < source - 0.5)).all(axis=1)]
        belongs = np.array([((places >= b.low) & (places < b.high)).all(axis=1) for b in division])
        assert (belongs.sum(axis=0) == 1).all()
        here = [brick for brick, some in zip(division, belongs, strict=True) if some.any()]
        assert all(brick.holds(matrix, np.zeros((1, 3)), shape[None])[0] for brick in here)
        start, stop = (np.array([[getattr(s, end) for s in b.box] for b in division]) for end in ("start", "stop"))
        brick = belongs.argmax(axis=0)
        assert (start[brick] <= np.maximum(np.floor(places) - 1 - reach, 0)).all()
        assert (stop[brick] >= np.minimum(np.floor(places) + 3 + reach, source)).all()


def test_how_an_input_is_divided(monkeypatch):
    single, eye = np.dtype("f"), np.eye(4)
    whole = [slice(0, 200), slice(0, 512), slice(0, 512)]
    (brick,) = _bricks.bricks(eye, (9, 9, 9), (200, 512, 512), single)
    assert list(brick.box) == whole
    monkeypatch.setattr(_bricks, "LIMIT", 100 << 20)
    # Two thick slabs overlap the least; of an output that lies in a corner, only what is there is needed.
    boxes = [brick.box for brick in _bricks.bricks(eye, (200, 512, 512), (200, 512, 512), single)]
    made = sum(np.prod([s.stop - s.start for s in box]) for box in boxes)
    assert made < 1.35 * 200 * 512 * 512
    (brick,) = _bricks.bricks(eye, (60, 70, 80), (200, 512, 512), single)
    assert list(brick.box) == [slice(0, 60 + 30), slice(0, 70 + 30), slice(0, 80 + 30)]
    # Twice the arrays, twice the bricks or more.
    more = _bricks.bricks(eye, (200, 512, 512), (200, 512, 512), single, copies=2)
    assert len(more) >= 2 * len(boxes)
    # Not even the voxels that the filter needs around one fit: all in one.
    monkeypatch.setattr(_bricks, "LIMIT", 1000)
    (brick,) = _bricks.bricks(eye, (200, 512, 512), (200, 512, 512), single)
    assert list(brick.box) == whole


@pytest.mark.parametrize(
    ("name", "dtype"), [("rotation", "h"), ("flipped and permuted, along", "h"), ("rotation", "?")]
)
def test_memory_does_not_grow_with_the_volume(rng, monkeypatch, name, dtype):
    along = "along" in name
    assert Spline("along" if along else "oblique", np.dtype(dtype)).wait()
    monkeypatch.setattr(_bricks, "LIMIT", 4 << 20)
    monkeypatch.setenv("LIGHTBOX_THREADS", "1")
    peaks = []
    for depth in (80, 240):
        shape = (depth, 120, 120)
        data = voxels(rng, shape, dtype)
        matrix = placed(LINEARS[name], shape, shape)
        peaks.append(peak(lambda d=data, m=matrix, n=shape: _resample.pull(d, m, n, "cubic", 0)))
    # Whole, the coefficients of the larger take 15 MB.
    # Floats that are rounded later take 8 MB a slab.
    assert max(peaks) < (6 << 20) + (9 << 20 if dtype == "?" else 0)


def test_progress_counts_bricks_and_cancel_is_heard_within_one(monkeypatch):
    assert Spline("oblique", np.dtype("h")).wait()
    limited(monkeypatch, LIMITS["f"])
    volume = Volume(np.zeros((90, 100, 80), np.int16), Grid.from_spacing((1, 1, 1), (90, 100, 80)))
    reports = []
    with listening(lambda *report: reports.append(report)):
        spatial.affine(volume, rotate=(3, 4, 5), order="cubic")
    counted = [(done, total) for what, done, total in reports if what == "bricks"]
    assert counted == sorted(counted)
    assert counted[-1][0] == counted[-1][1] > 1
    within = counted.index((1, counted[-1][1])) + 3
    assert counted[within] == counted[within - 1]
    heard = []

    def listener(what, done, total):
        heard.append((done, total))
        if what == "bricks" and heard.count((done, total)) == 3 and done == 1:
            raise Cancelled

    with listening(listener), pytest.raises(Cancelled):
        spatial.affine(volume, rotate=(3, 4, 5), order="cubic")
    assert heard[-1] == (1, counted[-1][1])
