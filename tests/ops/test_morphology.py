"""Morphology in mm against scipy (grey values) and against its definition, voxel by voxel (labels)."""

import numpy as np
import pytest
from scipy import ndimage

import napari_lightbox as lb
from napari_lightbox import remarks
from napari_lightbox.errors import InputError
from napari_lightbox.ops import _ball, _nearest, _regions, morphology

CASES = [  # shape, spacing, radii
    ((20, 21, 22), (1.0, 1.0, 1.0), (1, 1.5, 3, 5)),
    ((9, 30, 31), (3.0, 0.7, 1.1), (0.7, 2.1, 3.0, 6.6)),
    ((5, 6, 7), (0.5, 0.5, 2.0), (1, 30)),
    ((40, 33), (1.0, 0.7), (0.8, 2.1, 7)),
    ((1, 14, 9), (5.0, 1.0, 1.0), (2, 6)),
]
GREY = {
    "erosion": ndimage.grey_erosion,
    "dilation": ndimage.grey_dilation,
    "opening": ndimage.grey_opening,
    "closing": ndimage.grey_closing,
}


def footprint(radius, spacing, element="ball"):
    """All offsets no farther than the radius, but for rounding."""
    halves = [int(radius / s + 1e-6) for s in spacing]
    steps = np.meshgrid(*[np.arange(-h, h + 1) * s for h, s in zip(halves, spacing, strict=True)], indexing="ij")
    far = sum(s**2 for s in steps) > radius**2 * (1 + 1e-8)
    return np.ones_like(far) if element == "box" else ~far


@pytest.mark.parametrize("name", GREY)
@pytest.mark.parametrize(("shape", "spacing", "radii"), CASES)
@pytest.mark.parametrize("dtype", ["h", "f"])
def test_grey_values_equal_scipy(rng, name, shape, spacing, radii, dtype):
    image = rng.integers(-99, 99, shape).astype(dtype)
    for radius in radii:
        for element in ("ball", "box"):
            element_of = footprint(radius, spacing, element)
            if element_of.size > 4000:
                continue
            found = getattr(morphology, name)(image, spacing, radius, element=element)
            assert found.dtype == image.dtype
            np.testing.assert_array_equal(found, GREY[name](image, footprint=element_of))


@pytest.mark.parametrize("dtype", ["?", "B", "b", "H", "i", "q", "Q", "e", "d", ">i2"])
def test_grey_values_of_every_type(rng, dtype):
    image = (rng.integers(0, 100, (12, 13, 11)) > 50) if dtype == "?" else rng.integers(0, 100, (12, 13, 11))
    image = image.astype(dtype)
    for name, theirs in GREY.items():
        found = getattr(morphology, name)(image, (2, 1, 1), 2.0)
        assert found.dtype == image.dtype.newbyteorder("=")
        truth = theirs(image.astype(np.float64), footprint=footprint(2.0, (2, 1, 1)))
        np.testing.assert_array_equal(found.astype(np.float64), truth)


def test_many_tiles_equal_one(rng, monkeypatch):
    monkeypatch.setattr(_ball, "_PLANE", 200)
    monkeypatch.setattr(_ball, "_DEPTH", 3)
    image = rng.integers(-99, 99, (19, 31, 29)).astype(np.int16)
    found = morphology.erosion(image, (1, 1, 1), 3.0)
    np.testing.assert_array_equal(found, ndimage.grey_erosion(image, footprint=footprint(3, (1, 1, 1))))


def test_nan_spreads_over_the_element(rng):
    image = rng.normal(size=(9, 10, 11)).astype(np.float32)
    image[4, 5, 6] = np.nan
    reached = ndimage.binary_dilation(np.isnan(image), footprint(2, (1, 1, 1)))
    for name in ("erosion", "dilation"):
        np.testing.assert_array_equal(np.isnan(getattr(morphology, name)(image, (1, 1, 1), 2.0)), reached)


# Labels ---------------------------------------------------------------------------------------------------------


def blobs(rng, shape, values=(0, 1, 2, 7)):
    """Labels in patches of some voxels, with some single ones."""
    smooth = ndimage.gaussian_filter(rng.normal(size=(len(values), *shape)), (0, *[1.2] * len(shape)))
    labels = np.array(values)[smooth.argmax(axis=0)]
    labels[rng.random(shape) < 0.02] = values[-1]
    return labels


def windows(array, element, outside):
    """All values under the element around each voxel, `outside` where it reaches beyond the array."""
    reach = [n // 2 for n in element.shape]
    padded = np.pad(array, [(r, r) for r in reach], constant_values=outside)
    return np.lib.stride_tricks.sliding_window_view(padded, element.shape)[..., element]


def by_definition(name, labels, spacing, radius, element):
    """Each label on its own, straight from the words of the docstring."""
    window = footprint(radius, spacing, element)
    values = [v for v in np.unique(labels) if v]

    def eroded(mask):
        return windows(mask, window, True).all(axis=-1)

    def dilated(mask):
        return windows(mask, window, False).any(axis=-1)

    if name in ("erosion", "opening"):
        result = np.zeros_like(labels)
        for value in values:
            mask = eroded(labels == value)
            result[dilated(mask) if name == "opening" else mask] = value
        return result
    result = labels.copy()
    if name == "closing":
        for value in reversed(values):
            result[eroded(dilated(labels == value)) & (labels == 0)] = value
        return result
    steps = [(np.arange(n) - n // 2) * s for n, s in zip(window.shape, spacing, strict=True)]
    far = sum(np.square(g) for g in np.meshgrid(*steps, indexing="ij"))[window]
    near = windows(labels, window, 0)
    distance = np.where(near == 0, np.inf, far.round(6))
    best = distance.min(axis=-1)
    lowest = np.where((distance == best[..., None]) & (near != 0), near, 10**6).min(axis=-1)
    return np.where((labels == 0) & np.isfinite(best), lowest, result)


@pytest.mark.parametrize("name", GREY)
@pytest.mark.parametrize(("shape", "spacing", "radii"), CASES)
@pytest.mark.parametrize("far", [False, True])
def test_labels_equal_the_definition(rng, name, shape, spacing, radii, far, monkeypatch):
    if far:
        monkeypatch.setattr(_regions, "_MANY_ROWS", 0)
    labels = blobs(rng, shape)
    for radius in radii[:3]:
        for element in ("ball", "box"):
            if footprint(radius, spacing, element).size > 4000:
                continue
            found = getattr(morphology, name)(labels.astype(np.uint8), spacing, radius, element=element, labelled=True)
            assert found.dtype == np.uint8
            truth = by_definition(name, labels, spacing, radius, element)
            np.testing.assert_array_equal(found, truth, err_msg=f"{radius} {element}")


@pytest.mark.parametrize("dtype", ["?", "b", "H", "i", "q", "Q", ">i4"])
def test_labels_of_every_type(rng, dtype):
    values = {"?": (0, 1), "b": (0, -5, 3), "i": (0, -70000, 80000), "q": (0, 5, 2**62), "Q": (0, 5, 2**63 + 1)}
    labels = blobs(rng, (11, 12, 10)).astype(np.int64) % 3
    choice = np.array(values.get(dtype, (0, 3, 9)) + ((values[dtype][1],) if dtype == "?" else ()), object)
    given = choice[labels].astype(dtype)
    for name in GREY:
        found = getattr(morphology, name)(given, (2, 1, 1), 2.0, labelled=True)
        ranks = np.searchsorted(np.unique(choice.astype(found.dtype)), found)
        order = np.searchsorted(np.unique(choice.astype(found.dtype)), given.astype(found.dtype))
        zero = int(np.searchsorted(np.unique(choice.astype(found.dtype)), 0))
        # The same on labels numbered 1, 2 ... in the same order, with background 0.
        plain = np.where(order == zero, 0, order + 1)
        truth = getattr(morphology, name)(plain, (2, 1, 1), 2.0, labelled=True)
        np.testing.assert_array_equal(np.where(ranks == zero, 0, ranks + 1), truth)


def test_ties_go_to_the_lower_label_for_any_spacing():
    for spacing in ((1, 1, 1), (0.7, 0.7, 0.7), (3, 1.5, 0.75), (2.1, 0.7, 1.4)):
        labels = np.zeros((9, 9, 9), np.int32)
        for place, value in (((4, 4, 2), 9), ((4, 4, 6), 3), ((4, 2, 4), 5), ((2, 4, 4), 8), ((4, 6, 4), 4)):
            labels[place] = value
        found = morphology.dilation(labels, spacing, 20.0, labelled=True)
        nearest = min(
            (((np.subtract(p, (4, 4, 4)) * spacing) ** 2).sum().round(9), labels[tuple(p)]) for p in np.argwhere(labels)
        )
        assert found[4, 4, 4] == nearest[1]


def test_a_label_at_the_border_is_not_worn_away_by_it():
    labels = np.ones((5, 6, 7), np.uint8)
    np.testing.assert_array_equal(morphology.erosion(labels, (1, 1, 1), 2.0, labelled=True), labels)


def test_touching_labels_keep_apart():
    labels = np.repeat([[1, 1, 1, 2, 2, 2]], 6, axis=0)
    eroded = morphology.erosion(labels, (1, 1), 1.0, labelled=True)
    assert eroded[3].tolist() == [1, 1, 0, 0, 2, 2]
    np.testing.assert_array_equal(morphology.opening(labels, (1, 1), 1.0, labelled=True), labels)
    gap = np.repeat([[1, 0, 2, 2, 0, 2]], 6, axis=0)
    assert morphology.closing(gap, (1, 1), 1.0, labelled=True)[3].tolist() == [1, 0, 2, 2, 2, 2]


def test_distance_of_large_radii_equals_scipy(rng):
    mask = rng.random((40, 50, 45)) < 0.001
    spacing = (1.7, 0.9, 1.0)
    distance = ndimage.distance_transform_edt(~mask, sampling=spacing)
    for radius in (5.0, 13.0, 40.0):
        found = morphology.dilation(mask.astype(np.uint8), spacing, radius, labelled=True)
        np.testing.assert_array_equal(found.astype(bool), distance <= radius + 1e-7)
    inverse = morphology.erosion((~mask).astype(np.uint8), spacing, 13.0, labelled=True)
    np.testing.assert_array_equal(inverse.astype(bool), distance > 13.0 + 1e-7)


def test_through_apply_labels_stay_labels_and_keep_their_names(rng):
    labels = blobs(rng, (8, 12, 10)).astype(np.uint8)
    names = {1: lb.Label("liver", "#ff0000"), 2: lb.Label("spleen"), 7: lb.Label("kidney")}
    volume = lb.Volume.from_array(labels, spacing=(3, 1, 1), kind="labels", labels=names, name="organs")
    grey = lb.Volume.from_array(labels, spacing=(3, 1, 1), name="grey")
    for name in GREY:
        found = lb.apply(name, volume, radius=3)
        assert found.kind == "labels"
        assert dict(found.labels) == names
        assert "labelled" not in found.history[-1]["parameters"]
        np.testing.assert_array_equal(
            found.data, getattr(morphology, name)(labels, (3, 1, 1), 3.0, labelled=True), strict=True
        )
        found = lb.apply(name, grey, radius=3)
        assert found.kind == "image"
        np.testing.assert_array_equal(found.data, getattr(morphology, name)(labels, (3, 1, 1), 3.0))
        plane = lb.apply(name, volume, radius=2, plane="axial")
        truth = getattr(morphology, name)(labels[3], (1, 1), 2.0, labelled=True)
        np.testing.assert_array_equal(plane.data[3], truth)


def test_a_radius_that_reaches_nothing_says_so():
    volume = lb.Volume.from_array(np.eye(5, dtype=np.int16)[None].repeat(4, 0), spacing=(3, 3, 3))
    found = lb.apply("erosion", volume, radius=2.5)
    np.testing.assert_array_equal(found.data, volume.data)
    assert found.data is not volume.data
    assert "2.5 mm reaches no other voxel" in found.meta["notes"][0]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda a: morphology.erosion(a, (1, 1), -1), "radius must be at least 0"),
        (lambda a: morphology.erosion(a, (1, 1), "wide"), "radius must be a number"),
        (lambda a: morphology.dilation(a, (1, 1), element="cross"), "element 'cross' is unknown"),
        (lambda a: morphology.opening(a, (1, 1, 1)), "spacing must be 2 numbers"),
        (lambda a: morphology.closing(a[0], (1,)), "axes"),
        (lambda a: morphology.closing(a + 0.5, (1, 1), labelled=True), "whole numbers"),
    ],
)
def test_refused_in_a_sentence(call, says):
    with pytest.raises(InputError, match=says) as caught:
        call(np.zeros((5, 6), np.int16))
    assert "\n" not in str(caught.value)


def test_the_halo_is_exact(rng):
    assert morphology.reach((3, 1, 1), 3.0) == (1, 3, 3)
    assert morphology.reach((0.7, 0.7, 0.7), 2.1, 2) == (6, 6, 6)
    assert _nearest.nearest(np.array([[0, 4]]), np.array([4]), 0.5, (1, 1), "ball").tolist() == [[0, 4]]


def test_the_largest_label_of_64_bits_stays_itself():
    """Whole numbers beyond 2**53 have no place in a double."""
    largest = np.iinfo(np.uint64).max
    labels = np.zeros((1, 5, 5), np.uint64)
    labels[0, 2, 2], labels[0, 0, 0] = largest, 2**53 + 1
    grown = morphology.dilation(labels, (1, 1, 1), 1.0, labelled=True)
    assert set(np.unique(grown).tolist()) == {0, 2**53 + 1, largest}


def test_it_says_that_nothing_is_left_of_labels():
    labels = np.zeros((7, 7), np.uint8)
    labels[2:5, 2:5] = 3
    with remarks.collecting() as heard:
        assert morphology.erosion(labels, (1.0, 1.0), 1.0, labelled=True).any()
        assert not morphology.erosion(labels, (1.0, 1.0), 2.0, labelled=True).any()
        assert not morphology.opening(labels, (1.0, 1.0), 3.0, element="box", labelled=True).any()
    assert heard.notes == [
        "nothing is left: no label has room for a ball with a radius of 2 mm",
        "nothing is left: no label has room for a box with a radius of 3 mm",
    ]
