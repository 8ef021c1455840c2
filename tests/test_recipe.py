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


def constant(value, spacing, name="volume"):
    shape = tuple(int(8 / s) for s in spacing)
    return Volume(np.full(shape, value, np.int16), Grid.from_spacing(spacing, shape), name=name)


def test_two_volumes_of_one_name_stay_two(volume, tmp_path):
    fine, coarse = constant(1, (0.5, 0.5, 0.5)), constant(2, (2, 2, 2))
    result = lb.apply("resample", lb.apply("resample", volume, like=fine), like=coarse)
    recipe = Recipe.load(Recipe.of(result).save(tmp_path / "r.json"))
    assert list(recipe.inputs) == ["volume", "volume (2)"]
    with pytest.raises(InputError, match=r"needs 2 further volumes \('volume', 'volume \(2\)'\), 1 are given"):
        recipe.run(volume, fine)
    again = recipe.run(volume, fine, coarse)
    assert again.grid == result.grid
    assert np.array_equal(again.data, result.data)
    # Another case brings volumes on grids of its own.
    assert recipe.run(volume, coarse, fine).grid == fine.grid


def test_one_name_for_volumes_that_differ_is_refused(volume):
    steps = lb.apply("resample", volume, like=constant(1, (1, 1, 1))).history
    steps += lb.apply("resample", volume, like=constant(1, (2, 2, 2))).history
    with pytest.raises(InputError, match="two different volumes 'volume'"):
        Recipe.of(volume.replace(history=steps)).run(volume, volume)


def test_inputs_say_what_they_are_and_how_they_were_made(volume):
    mask = lb.apply("otsu", lb.apply("median", volume, size=3)).replace(name="mask")
    result = lb.apply("region_grow", volume, mask, seeds=[volume.grid.to_world(np.argwhere(mask.data)[0])])
    assert Recipe.of(result).inputs == {"mask": "labels"}
    assert [s["operation"] for s in result.history[-1]["parameters"]["mask"]["made_by"]] == ["median", "otsu"]


def test_what_was_done_by_hand_is_told_before_anything_runs(volume, monkeypatch):
    result = lb.apply("otsu", volume)
    result = result.replace(history=(*result.history, {"operation": "manual edit", "parameters": {}}))
    monkeypatch.setattr("napari_lightbox.recipe.apply", None)
    with pytest.raises(InputError, match="step 2 of the recipe was done by hand"):
        Recipe.of(result).run(volume)


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
    with pytest.raises(FileError, match="disk is full"):
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
