"""Connected components and holes against scipy, published results, and their definition."""

import numpy as np
import pytest
from scipy import ndimage

import napari_lightbox as lb
from napari_lightbox import remarks
from napari_lightbox.errors import InputError
from napari_lightbox.ops import _runs, components
from napari_lightbox.ops.components import fill_holes

CONNECTIVITY = {2: {4: 1, 8: 2}, 3: {6: 1, 18: 2, 26: 3}}


def by_size(labelled):
    """Number the components of scipy by size; of equal ones the first in the array comes first."""
    counts = np.bincount(labelled.ravel())
    counts[0] = 0
    order = np.argsort(-counts[1:], kind="stable") + 1
    table = np.zeros(len(counts), int)
    table[order] = np.arange(1, len(order) + 1)
    return table[labelled]


def by_value(labels, structure):
    """Components of every label on its own, in the order of their first voxels."""
    result, count = np.zeros(labels.shape, int), 0
    for value in np.unique(labels[labels != 0]):
        found, n = ndimage.label(labels == value, structure)
        result[found > 0] = found[found > 0] + count
        count += n
    first = {v: i for i, v in reversed([*enumerate(result.ravel().tolist())]) if v}
    table = np.zeros(count + 1, int)
    table[sorted(first, key=first.get)] = np.arange(1, count + 1)
    return table[result]


@pytest.mark.parametrize("shape", [(30, 40), (1, 9), (9, 1), (12, 13, 14), (1, 5, 6), (7, 1, 5), (5, 6, 1)])
@pytest.mark.parametrize("slab", [30, 1 << 20])
@pytest.mark.parametrize("short", [1, 10**9])
def test_components_equal_scipy(rng, shape, slab, short, monkeypatch):
    monkeypatch.setattr(_runs, "_SLAB", slab)
    monkeypatch.setattr(_runs, "_SHORT", short)
    for connectivity, rank in CONNECTIVITY[len(shape)].items():
        structure = ndimage.generate_binary_structure(len(shape), rank)
        for share in (0.05, 0.3, 0.6, 0.9):
            mask = rng.random(shape) < share
            found = components.components(mask, (1,) * len(shape), connectivity=connectivity)
            np.testing.assert_array_equal(found, by_size(ndimage.label(mask, structure)[0]))
            labels = rng.choice([0, 1, 2, 250], shape, p=[0.1, 0.6, 0.2, 0.1]).astype(np.uint8)
            found = components.components(labels, (1,) * len(shape), connectivity=connectivity)
            np.testing.assert_array_equal(found, by_size(by_value(labels, structure)))
            found = components.components(labels, (1,) * len(shape), connectivity=connectivity, separate_labels=False)
            np.testing.assert_array_equal(found, by_size(ndimage.label(labels, structure)[0]))


def test_components_equal_the_results_published_with_scipy(data):
    folder = data("components_scipy/label_inputs.txt").parent
    inputs = np.loadtxt(folder / "label_inputs.txt").reshape(-1, 7, 7)
    structures = np.loadtxt(folder / "label_strels.txt").reshape(-1, 3, 3)
    results = np.loadtxt(folder / "label_results.txt").reshape(-1, 7, 7).astype(int)
    checked, number = 0, 0
    for image in inputs:
        for structure in structures:
            truth, number = results[number], number + 1
            for connectivity, rank in CONNECTIVITY[2].items():
                if np.array_equal(structure, ndimage.generate_binary_structure(2, rank)):
                    found = components.components(image.astype(int), (1, 1), connectivity=connectivity)
                    np.testing.assert_array_equal(found, by_size(truth))
                    checked += 1
    assert number == len(results)
    assert checked == 2 * len(inputs)


@pytest.mark.parametrize("dtype", ["?", "b", "B", "H", "i", "q", "Q", ">i2"])
def test_components_of_every_type(rng, dtype):
    values = np.array([0, 1], bool) if dtype == "?" else np.array([0, 3, 100]).astype(dtype)
    labels = values[rng.integers(0, len(values), (9, 8, 7))]
    found = components.components(labels, (1, 1, 1), connectivity=6)
    truth = by_size(by_value(labels.astype(int), ndimage.generate_binary_structure(3, 1)))
    np.testing.assert_array_equal(found, truth)
    assert found.dtype == np.min_scalar_type(truth.max())


def test_sizes_are_in_mm3_and_the_largest_are_kept():
    labels = np.zeros((4, 9, 9), np.uint8)
    labels[0, 0, 0], labels[0, 3:5, 3:5], labels[2, :, 0] = 1, 1, 1
    spacing = (0.5, 2.0, 3.0)  # 3 mm3 a voxel: 3, 12 and 27 mm3
    for least, count in ((None, 3), (0, 3), (3, 3), (3.1, 2), (12, 2), (27, 1), (27.1, 0)):
        assert components.components(labels, spacing, min_size=least).max() == count
    found = components.components(labels, spacing, largest=2)
    assert found[2, 0, 0] == 1
    assert found[0, 3, 3] == 2
    assert found[0, 0, 0] == 0
    assert components.components(labels, spacing, largest=9, min_size=12).max() == 2


def test_components_have_names_with_their_volumes():
    labels = np.zeros((1, 1, 1)).astype(np.uint8)
    labels = np.zeros((10, 20, 20), np.uint8)
    labels[:, :10, :10], labels[0, 15, 15], labels[5:, 10:, :3], labels[9, 9, 9] = 1, 1, 2, 0
    names = {1: lb.Label("liver"), 2: lb.Label("spleen")}
    volume = lb.Volume.from_array(labels, spacing=(3, 2, 2), kind="labels", labels=names, name="organs")
    found = lb.apply("components", volume)
    assert found.name == "organs · connected components"
    assert {v: label.name for v, label in found.labels.items()} == {
        1: "liver 1 (12.0 ml)",
        2: "spleen 1 (1.8 ml)",
        3: "liver 2 (0.012 ml)",
    }
    together = lb.apply("components", volume, separate_labels=False, largest=1)
    assert {v: label.name for v, label in together.labels.items()} == {1: "component 1 (13.8 ml)"}
    unnamed = lb.apply("components", volume.replace(labels={}))
    assert unnamed.labels[2].name == "component 2 (1.8 ml)"
    flat = lb.Volume.from_array(labels[0], spacing=(2, 2), kind="labels")
    assert lb.apply("components", flat).labels[1].name == "component 1 (400 mm2)"
    film = lb.Volume.from_array(np.stack([labels, labels]), spacing=(3, 2, 2), kind="labels")
    assert lb.apply("components", film).labels[1].name == "component 1"
    unknown = lb.Volume.from_array(labels, kind="labels")
    assert lb.apply("components", unknown).labels[3].name == "component 3 (1 voxels)"


def test_components_of_slices_and_frames_are_named_by_their_numbers():
    """Where every slice counts anew, 1 is the liver here and the spleen there, and no size is that of all."""
    labels = np.zeros((2, 9, 9), np.uint8)
    labels[0, :4, :4], labels[0, 6:8, 6:8] = 1, 2
    labels[1, :3, :3], labels[1, 5:9, 5:9] = 1, 2
    names = {1: lb.Label("liver"), 2: lb.Label("spleen")}
    volume = lb.Volume.from_array(labels, spacing=(3, 2, 2), kind="labels", labels=names)
    plain = {1: "component 1", 2: "component 2"}
    planes = lb.apply("components", volume, plane="axial")
    assert planes.data[0, 0, 0] == planes.data[1, 8, 8] == 1
    assert {v: label.name for v, label in planes.labels.items()} == plain
    one = volume.replace(data=labels[:1], grid=lb.Grid(volume.grid.affine, (1, 9, 9)))
    for plane in (None, "axial"):
        assert lb.apply("components", one, plane=plane).labels[2].name == "spleen 1 (16 mm2)"
    film = np.stack([labels[:1], labels[1:]])
    film = lb.Volume.from_array(film, spacing=(3, 2, 2), kind="labels", labels=names)
    assert {v: label.name for v, label in lb.apply("components", film).labels.items()} == plain


def test_grey_values_are_refused_and_masks_are_taken(rng):
    grey = lb.Volume.from_array(rng.integers(0, 9, (3, 4, 5)).astype(np.int16), name="ct")
    for name in ("components", "fill_holes"):
        with pytest.raises(InputError, match="works on labels, and 'ct' holds grey values"):
            lb.apply(name, grey)
        assert lb.apply(name, grey.replace(data=grey.data > 4)) is not None
    mask = lb.apply("components", grey.replace(data=grey.data > 4))
    assert mask.kind == "labels"


# Holes ----------------------------------------------------------------------------------------------------------


def holes_by_definition(labels, largest=np.inf):
    """Fill every label on its own; what several fill goes to the label whose enclosed part is the smallest."""
    claims = {}
    background = ndimage.label(labels == 0)[0]
    sizes = np.bincount(background.ravel())
    for value in np.unique(labels[labels != 0]):
        filled = ndimage.binary_fill_holes(labels == value)
        parts, _ = ndimage.label(filled & (labels != value))
        volumes = np.bincount(parts.ravel())
        for place in zip(*np.nonzero(filled & (labels == 0)), strict=True):
            if sizes[background[place]] <= largest:
                claims.setdefault(place, []).append((volumes[parts[place]], value))
    result = labels.copy()
    for place, claim in claims.items():
        result[place] = min(claim)[1]
    return result


@pytest.mark.parametrize("shape", [(20, 21), (9, 10, 11), (1, 9, 9), (5, 1, 5)])
def test_holes_equal_the_definition(rng, shape, monkeypatch):
    for slab in (40, 1 << 20):
        monkeypatch.setattr(_runs, "_SLAB", slab)
        for weights in ([0.4, 0.6, 0, 0], [0.3, 0.4, 0.3, 0], [0.1, 0.7, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]):
            labels = rng.choice(np.array([0, 2, 3, 200], np.uint8), shape, p=weights)
            for size in (None, 2.0):
                found = fill_holes(labels, (1,) * len(shape), max_size=size)
                assert found.dtype == labels.dtype
                truth = holes_by_definition(labels, np.inf if size is None else size)
                np.testing.assert_array_equal(found, truth)


def test_nested_labels_fill_the_innermost():
    labels = np.zeros((11, 11), np.int16)
    labels[0:11, 0:11], labels[1:10, 1:10] = 5, 0
    labels[3:8, 3:8], labels[4:7, 4:7] = -2, 0
    found = fill_holes(labels, (1, 1))
    assert (found[4:7, 4:7] == -2).all()
    assert (found[1, 1:10] == 5).all()


def test_a_gap_between_two_vessels_belongs_to_the_organ_around_them():
    labels = np.ones((9, 9), np.uint8)
    labels[4, 2:7] = [2, 2, 0, 3, 3]
    labels[3, 4], labels[5, 4] = 2, 3
    # The gap touches vessels only.
    found = fill_holes(labels, (1, 1))
    assert found[4, 4] == 1
    np.testing.assert_array_equal(np.where(labels == 0, 0, found), labels)


def test_holes_in_planes_and_in_mm(rng):
    tube = np.zeros((6, 7, 7), np.uint8)
    tube[:, 1:6, 1:6], tube[:, 2:5, 2:4] = 4, 0
    volume = lb.Volume.from_array(tube, spacing=(5, 2, 1), kind="labels", labels={4: lb.Label("aorta")})
    np.testing.assert_array_equal(lb.apply("fill_holes", volume).data, tube)
    filled = lb.apply("fill_holes", volume, plane="axial")
    assert (filled.data[:, 2:5, 2:4] == 4).all()
    assert filled.kind == "labels"
    assert filled.labels[4].name == "aorta"
    # Each hole has 6 pixels of 2 mm2.
    assert (lb.apply("fill_holes", volume, plane="axial", max_size=12).data == filled.data).all()
    assert (lb.apply("fill_holes", volume, plane="axial", max_size=11.9).data == tube).all()
    closed = tube.copy()
    closed[0, 1:6, 1:6] = closed[5, 1:6, 1:6] = 4
    shut = np.pad(closed, 1)
    assert (fill_holes(shut, (5, 2, 1), max_size=239) == shut).all()
    assert (fill_holes(shut, (5, 2, 1), max_size=240)[1:-1] == 4).sum() == 6 * 25


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda a: components.components(a, (1, 1), connectivity=6), "connectivity 6 does not fit"),
        (lambda a: components.components(a, (1, 1), largest=0), "largest must be a whole number of at least 1"),
        (lambda a: components.components(a, (1, 1), min_size=-1), "min_size must be at least 0"),
        (lambda a: components.components(a + 0.5, (1, 1)), "whole numbers"),
        (lambda a: components.components(a[0], (1,)), "axes"),
        (lambda a: fill_holes(a, (1, 1), max_size=-1), "max_size must be at least 0"),
        (lambda a: fill_holes(a, (1, -1)), "spacing must be greater than zero"),
        (lambda a: fill_holes(a.astype(float), (1, 1)), "whole numbers"),
    ],
)
def test_refused_in_a_sentence(call, says):
    with pytest.raises(InputError, match=says) as caught:
        call(np.zeros((5, 6), np.int16))
    assert "\n" not in str(caught.value)


def test_nothing_gives_nothing():
    empty = np.zeros((3, 4, 5), np.uint16)
    assert not components.components(empty, (1, 1, 1)).any()
    assert not fill_holes(empty, (1, 1, 1)).any()
    assert lb.apply("components", lb.Volume.from_array(empty, kind="labels")).labels == {}


def test_it_says_why_nothing_is_left():
    with remarks.collecting() as heard:
        components.components(np.zeros((3, 3), np.uint8), (1.0, 1.0))
        components.components(np.eye(3, dtype=np.uint8), (1.0, 2.0), min_size=50.0)
        components.components(np.eye(3, dtype=np.uint8), (1.0, 2.0), min_size=2.0)
    assert heard.notes == [
        "nothing is found: all is background",
        "nothing is left: the largest component has 6 mm2, and min_size is 50 mm2",
    ]
