"""Recipes: what was done is written down and runs again, without a viewer, to the same arrays."""

import json

import numpy as np
import pytest

import napari_lightbox as lb
from napari_lightbox import FileError, Grid, InputError, Recipe, Volume


@pytest.fixture
def volume(rng):
    grid = Grid.from_spacing((2.0, 1.0, 1.5), (8, 20, 18), (3.0, 2.0, 1.0))
    return Volume(rng.integers(0, 400, grid.shape).astype(np.int16), grid, name="case")


def test_replay_gives_the_same_arrays(volume, tmp_path):
    result = lb.apply("resample", volume, spacing=(1.0, 2.0, 1.0), order="cubic")
    result = lb.apply("median", result, size=3, plane="axial")
    result = lb.apply("otsu", result, classes=3)
    path = Recipe.of(result).save(tmp_path / "recipe.json")
    again = Recipe.load(path).run(volume)
    assert np.array_equal(again.data, result.data)
    assert again.grid == result.grid
    assert [s["operation"] for s in again.history] == ["resample", "median", "otsu"]
    assert again.labels == result.labels


def test_replay_of_another_case_keeps_its_grid(volume, rng):
    recipe = Recipe.of(lb.apply("median", volume, size=3))
    other = Volume(rng.integers(0, 9, (4, 5, 6)).astype(np.uint8), Grid.from_spacing((5, 5, 5), (4, 5, 6)))
    assert recipe.run(other).grid == other.grid


def test_further_volumes_are_asked_for_by_name(volume):
    mask = volume.replace(data=(volume.data > 100).astype(np.uint8), kind="labels", name="mask")
    seed = volume.grid.to_world(np.argwhere(mask.data)[0])
    result = lb.apply("region_grow", volume, mask, seeds=[seed], threshold=300)
    recipe = Recipe.of(result)
    with pytest.raises(InputError, match="'mask'"):
        recipe.run(volume)
    assert np.array_equal(recipe.run(volume, mask).data, result.data)
    assert np.array_equal(recipe.run(volume, inputs={"mask": mask}).data, result.data)


def test_file_is_plain_json(volume, tmp_path):
    path = Recipe.of(lb.apply("median", volume, size=3)).save(tmp_path / "r.json")
    content = json.loads(path.read_text())
    assert content["steps"][0]["parameters"] == {"size": 3, "mode": "reflect"}


def test_a_failed_save_keeps_the_old_file(volume, tmp_path, monkeypatch):
    path = Recipe.of(lb.apply("median", volume, size=3)).save(tmp_path / "r.json")
    before = path.read_text()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(FileError, match="No space left"):
        Recipe.of(lb.apply("median", volume, size=5)).save(path)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a recipe"),
        ('{"lightbox_recipe": 99, "steps": []}', "format 99"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, message):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(FileError, match=message):
        Recipe.load(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileError, match="cannot be read"):
        Recipe.load(tmp_path / "none.json")


def test_unknown_operation(volume, tmp_path):
    path = tmp_path / "r.json"
    path.write_text('{"lightbox_recipe": 1, "steps": [{"operation": "sharpen"}]}')
    with pytest.raises(InputError, match="sharpen"):
        Recipe.load(path).run(volume)
