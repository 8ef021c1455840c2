"""Morphology slab by slab: the same result as all at once, in memory that does not grow with the volume."""

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from napari_lightbox.ops import _ball, _lines, _nearest, _regions, _tiles, morphology
from napari_lightbox.progress import Cancelled, listening

_PADS = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap"}
NAMES = ("erosion", "dilation", "opening", "closing")
CASES = [  # shape, spacing, radius
    ((41, 12, 13), (1.5, 0.8, 0.8), 2.0),
    ((41, 12, 13), (0.7, 1.0, 2.2), 3.0),
    ((30, 9, 10), (1.0, 1.0, 1.0), 31.0),
    ((9, 12, 13), (5.0, 1.0, 1.0), 2.0),
    ((60, 17), (0.9, 1.3), 4.0),
    ((60, 1), (1.0, 1.0), 3.0),
]


@pytest.fixture
def thin(monkeypatch):
    """Slabs of few planes, of which each has several tiles."""
    monkeypatch.setattr(_ball, "LIMIT", 1)
    monkeypatch.setattr(_ball, "_DEPTH", 3)
    monkeypatch.setattr(_ball, "_PLANE", 40)
    monkeypatch.setattr(_ball._tiles, "workers", lambda: 1)
    monkeypatch.setattr(_nearest, "_THICK", 300)
    monkeypatch.setattr(_nearest, "_PIECE", 200)
    monkeypatch.setattr(_nearest, "_CHUNK", 300)
    monkeypatch.setattr(_regions, "_SLAB", 100)
    monkeypatch.setattr(_regions, "_LARGE", 300)
    monkeypatch.setattr(_regions, "_RANKED", 100)


def patches(rng, shape, values):
    smooth = ndimage.gaussian_filter(rng.normal(size=(len(values), *shape)), (0, *[1.5] * len(shape)))
    return np.array(values)[smooth.argmax(axis=0)]


@pytest.mark.parametrize("name", ["opening", "closing"])
@pytest.mark.parametrize("element", ["ball", "box"])
@pytest.mark.parametrize(("shape", "spacing", "radius"), CASES)
@pytest.mark.parametrize("dtype", ["?", "B", "e", "d"])
def test_grey_values_in_slabs_equal_all_at_once(rng, name, element, shape, spacing, radius, dtype, request):
    image = (rng.normal(size=shape) * 40 + 60).clip(0, 200).astype(dtype)
    if image.dtype.kind == "f":
        image[tuple(n // 2 for n in shape)] = np.nan
        image[0, 0] = np.inf
    call = getattr(morphology, name)
    truth = call(image, spacing, radius, element=element)
    request.getfixturevalue("thin")
    given = image.copy()
    found = call(image, spacing, radius, element=element)
    np.testing.assert_array_equal(found, truth, strict=True)
    np.testing.assert_array_equal(image, given)


@pytest.mark.parametrize("name", ["opening", "closing"])
def test_two_steps_in_slabs_equal_scipy(rng, name, thin):
    image = rng.integers(-99, 99, (50, 14, 15)).astype("h")
    assert len(_ball.slabs(image.shape, 2, (2, 3, 3))) > 3
    z, y, x = np.mgrid[-2:3, -3:4, -3:4]
    footprint = (1.5 * z) ** 2 + y**2 + x**2 <= 9.001
    found = getattr(morphology, name)(image, (1.5, 1, 1), 3.0)
    np.testing.assert_array_equal(found, getattr(ndimage, f"grey_{name}")(image, footprint=footprint))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("element", ["ball", "box"])
@pytest.mark.parametrize(("shape", "spacing", "radius"), CASES)
@pytest.mark.parametrize(("dtype", "far"), [("?", False), ("b", True), ("i", False), ("Q", True)])
def test_labels_in_slabs_equal_all_at_once(
    rng, name, element, shape, spacing, radius, dtype, far, request, monkeypatch
):
    if far:
        monkeypatch.setattr(_regions, "_MANY_ROWS", 0)
    values = {"?": (0, 1), "b": (0, -3, 1, 2), "i": (0, 1, 2, 70000), "Q": (0, 1, 2**63)}[dtype]
    labels = patches(rng, shape, np.array(values, "O")).astype(dtype)
    call = getattr(morphology, name)
    truth = call(labels, spacing, radius, element=element, labelled=True)
    request.getfixturevalue("thin")
    given = labels.copy()
    found = call(labels, spacing, radius, element=element, labelled=True)
    np.testing.assert_array_equal(found, truth, strict=True)
    np.testing.assert_array_equal(labels, given)


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
def test_a_block_is_copied_without_what_is_far_from_it(rng, mode):
    image = rng.integers(1, 99, (400, 6, 9))
    padded = np.pad(image, ((3, 3), (7, 7), (1, 1)), {**_PADS, "constant": "constant"}[mode])
    for block in ((0, 4), (1, 9), (200, 203), (395, 400)):
        tracemalloc.start()
        found = _tiles.with_halo(image, (slice(*block), slice(2, 5), slice(3, 6)), (3, 7, 1), mode)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        np.testing.assert_array_equal(found, padded[block[0] : block[1] + 6, 2:19, 3:8])
        assert mode == "wrap" or peak < image.nbytes / 2


def test_nearest_labels_of_some_planes_are_those_of_all(rng, thin):
    labels = patches(rng, (23, 8, 9), (0, 0, 3, 5)) * (rng.random((23, 8, 9)) < 0.3)
    given = np.array([3, 5]), 4.0, (1.1, 1.0, 0.7), "ball"
    whole = _nearest.nearest(labels, *given)
    assert {0, 3, 5} == set(np.unique(whole))
    for planes in (slice(0, 4), slice(7, 16), slice(22, 23)):
        np.testing.assert_array_equal(_nearest.nearest(labels, *given, planes), whole[planes])


SCRATCH = {
    "erosion": lambda a: morphology.erosion(a, (1.5, 1, 1), 3.0),
    "opening": lambda a: morphology.opening(a, (1.5, 1, 1), 3.0),
    "closing, box": lambda a: morphology.closing(a, (1.5, 1, 1), 3.0, element="box"),
    **{
        f"{name} of labels": lambda a, n=name: getattr(morphology, n)(a, (1.5, 1, 1), 3.0, labelled=True)
        for name in NAMES
    },
}


@pytest.mark.parametrize("name", SCRATCH)
@pytest.mark.parametrize(("dtype", "far"), [("B", False), ("i", True)])
def test_scratch_does_not_grow_with_the_volume(monkeypatch, name, dtype, far):
    """Slabs and tiles beside the result: as much for a volume that is three times as deep, but for some lines."""
    if far:
        monkeypatch.setattr(_regions, "_MANY_ROWS", 0)
    monkeypatch.setattr(_ball, "LIMIT", 1 << 16)
    monkeypatch.setattr(_ball, "_PLANE", 1 << 10)
    monkeypatch.setattr(_ball._tiles, "workers", lambda: 1)
    monkeypatch.setattr(_lines, "_CHUNK", 1 << 14)
    monkeypatch.setattr(_nearest, "_THICK", 1 << 15)
    monkeypatch.setattr(_nearest, "_PIECE", 1 << 13)
    monkeypatch.setattr(_nearest, "_CHUNK", 1 << 15)
    monkeypatch.setattr(_regions, "_SLAB", 1 << 15)
    monkeypatch.setattr(_regions, "_LARGE", 1 << 15)
    monkeypatch.setattr(_regions, "_RANKED", 1 << 15)
    scratch, output = [], []
    for depth in (80, 260):
        z, y, x = np.ogrid[:depth, :32, :36]
        image = (1 + ((z + y) // 19 + x // 17) % 3 * ((z - y + x) % 23 < 18)).astype(dtype)
        tracemalloc.start()
        try:
            result = SCRATCH[name](image)
            output.append(result.nbytes)
            scratch.append(tracemalloc.get_traced_memory()[1] - result.nbytes)
        finally:
            tracemalloc.stop()
    assert scratch[1] - scratch[0] < 0.3 * (output[1] - output[0])


@pytest.mark.parametrize(
    ("name", "labelled"), [("opening", False), ("erosion", True), ("dilation", True), ("closing", True)]
)
def test_slabs_are_counted_and_work_ends_between_them(rng, thin, name, labelled):
    image = patches(rng, (40, 12, 13), (0, 1, 2)).astype("B")
    reports = []

    def call():
        return getattr(morphology, name)(image, (1, 1, 1), 2.0, labelled=labelled)

    with listening(lambda *report: reports.append(report)):
        call()
    slabs = [(done, total) for what, done, total in reports if what == "slabs" and total > 3]
    assert any(done == total for done, total in slabs)
    assert sorted({done for done, total in slabs if total == slabs[-1][1]}) == list(range(slabs[-1][1] + 1))

    def stop(what, done, total):
        if what == "slabs" and done == 2:
            raise Cancelled

    with listening(stop), pytest.raises(Cancelled):
        call()
