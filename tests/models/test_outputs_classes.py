"""Which class is which in outputs made elsewhere: by file, by value, by name; what contradicts itself is refused."""

import json

import numpy as np
import pytest
from output_files import NAMES, SHAPE, nifti, npz, refused
from scipy.special import expit, softmax

import napari_lightbox as lb
from napari_lightbox.errors import FileError, InputError
from napari_lightbox.models.classes import read_classes
from napari_lightbox.models.outputs import read_outputs
from napari_lightbox.volume import Volume


def test_names_beside_the_file(tmp_path, image, logits):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "lung": 1, "bone": 2, "ignore": 3}}))
    found = read_outputs(npz(tmp_path / "a.npz", logits=logits), image)
    assert [label.name for label in found.labels.labels.values()] == ["lung", "bone"]
    assert any("dataset.json" in note for note in found.notes)


def test_a_mapping_of_files(tmp_path, image, logits):
    p = softmax(logits, axis=0)
    paths = {n: nifti(tmp_path / f"{n}.nii.gz", p[n], image.grid) for n in (2, 0, 1)}
    found = read_outputs(paths, image, NAMES)
    assert np.array_equal(found.labels.data, p.argmax(axis=0))


def test_a_mapping_of_files_is_kept_in_its_order(tmp_path, image, logits):
    """Files that name their own class are not sorted behind the back of the values."""
    p = softmax(logits, axis=0)
    paths = {}
    for value, name in ((2, "heart"), (0, "background"), (1, "lung")):
        volume = Volume(p[value], image.grid, "probability", labels={value: lb.Label(name)})
        paths[value] = lb.write(volume, tmp_path / f"{name}.nii.gz")
    found = read_outputs(paths, image)
    assert np.array_equal(found.labels.data, p.argmax(axis=0))
    assert {v: label.name for v, label in found.labels.labels.items()} == {1: "lung", 2: "heart"}
    for value in paths:
        assert np.allclose(found.probability(value).data, p[value], atol=1e-6)
    swapped = {0: paths[0], 1: paths[2], 2: paths[1]}
    refused(InputError, swapped, image, words=["heart", "names class 2, but is given for class 1"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("inside", [1, 3, 255])
def test_a_mask_that_is_given_by_value_is_that_class(tmp_path, image, rng, dtype, inside):
    mask = rng.random(SHAPE) < 0.4
    path = nifti(tmp_path / "a.nii.gz", mask * inside, image.grid, dtype)
    for names in (None, {"1": "lung", "3": "tumour"}, {"1": "lung"}):
        found = read_outputs({3: path}, image, names)
        assert np.array_equal(found.labels.data, 3 * mask)
        assert [*found.labels.labels][-1] == 3
    other = nifti(tmp_path / "b.nii.gz", ~mask, image.grid, dtype)
    both = read_outputs({3: path, 2: other}, image, kind="regions")
    assert np.array_equal(both.labels.data, np.where(mask, 3, 2))


def test_a_mask_with_a_name_keeps_it(tmp_path, image, rng):
    mask = Volume((rng.random(SHAPE) < 0.4).astype(np.uint8), image.grid, "labels", labels={1: lb.Label("tumour")})
    path = lb.write(mask, tmp_path / "a.nii.gz")
    found = read_outputs({3: path}, image)
    assert np.array_equal(found.labels.data, 3 * mask.data)
    assert {v: label.name for v, label in found.labels.labels.items()} == {3: "tumour"}


def test_a_file_of_several_classes_is_not_given_by_value(tmp_path, image, logits):
    truth = logits.argmax(axis=0)
    labels = nifti(tmp_path / "a.nii.gz", truth, image.grid, np.uint8)
    refused(InputError, {3: labels}, image, words=["holds the values 1, 2", "class 3 alone"])
    only_two = nifti(tmp_path / "b.nii.gz", 2 * (truth == 2), image.grid, np.uint8)
    refused(InputError, {3: only_two}, image, words=["holds the values 2", "class 3 alone"])
    stacked = npz(tmp_path / "c.npz", logits=logits)
    refused(InputError, {3: stacked}, image, words=["several classes", "without a value"])


def test_a_probability_that_is_given_by_value_is_that_class(tmp_path, image, logits):
    p = expit(logits[0])
    path = nifti(tmp_path / "a.nii.gz", p, image.grid)
    found = read_outputs({3: path}, image, {"1": "lung"})
    assert np.array_equal(found.labels.data, 3 * (p > 0.5))
    assert "values without a name: 3" in found.notes


def test_logits_without_the_background_are_refused(tmp_path, image, logits):
    """Whatever is least unlikely would be everywhere, where all say that they are nowhere."""
    nowhere = [np.full(SHAPE, value, np.float32) for value in (-8, -9)]
    paths = {n: nifti(tmp_path / f"{n}.nii.gz", values, image.grid) for n, values in enumerate(nowhere, 1)}
    words = ["logits of the classes 1, 2", "none of the background"]
    for names in (None, {"1": "lung", "2": "bone"}):
        refused(InputError, paths, image, names, words=words)
        refused(InputError, paths, image, names, words=words, activation="softmax")
        assert not read_outputs(paths, image, names, activation="sigmoid").labels.data.any()
    paths[0] = nifti(tmp_path / "0.nii.gz", np.full(SHAPE, 7.5), image.grid)
    assert not read_outputs(paths, image).labels.data.any()
    refused(InputError, {1: paths[1]}, image, words=["labels from"])
    alone = nifti(tmp_path / "one.nii.gz", logits[0], image.grid)
    refused(InputError, {1: alone}, image, activation="softmax", words=["one class", "choose 'sigmoid'"])


def test_infinite_values_are_no_labels(tmp_path, image):
    refused(InputError, nifti(tmp_path / "a.nii.gz", np.full(SHAPE, np.inf), image.grid), image, words=["infinite"])


@pytest.mark.parametrize(
    "source",
    [
        {"0": "background", "1": "lung", "2": "bone"},
        {"background": 0, "lung": 1, "bone": 2},
        {"labels": {"0": "background", "1": "lung", "2": "bone"}},
        {"labels": {"background": 0, "lung": 1, "bone": 2}},
        {"output": {"kind": "labels", "labels": {"0": "background", "1": "lung", "2": "bone"}}},
        {1: "lung", 2: "bone"},
    ],
)
def test_every_way_of_naming(tmp_path, source):
    assert {v: label.name for v, label in read_classes(source).labels.items() if v} == {1: "lung", 2: "bone"}
    if "1" in source or "labels" in source:
        (tmp_path / "a.json").write_text(json.dumps(source))
        assert read_classes(tmp_path / "a.json").labels[1].name == "lung"


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ({}, "names no classes"),
        ([1], "names no classes"),
        ({"lung": -1}, "a value from 0"),
        ({"lung": True}, "a value from 0"),
        ({"1": ""}, "a value from 0"),
        ({"a": 1, "b": 1}, "twice"),
        ({"1": "a", "2": "a"}, "a name for two"),
        ({"labels": {"a": [1], "b": [2]}, "regions_class_order": [1]}, "regions_class_order"),
        ({"output": {"kind": "image"}}, "gives image"),
    ],
)
def test_names_that_cannot_be(source, word):
    with pytest.raises(InputError, match=word):
        read_classes(source)


def test_files_of_names_that_cannot_be(tmp_path):
    with pytest.raises(FileError, match="does not exist"):
        read_classes(tmp_path / "gone.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(FileError, match="cannot be read as JSON"):
        read_classes(tmp_path / "a.json")
