"""Post-processing of labels: against scipy, in a stated order, per frame, written down and replayed."""

import numpy as np
import pytest
from scipy import ndimage

from napari_lightbox.errors import InputError
from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.models import postprocess
from napari_lightbox.recipe import Recipe
from napari_lightbox.volume import Label, Volume

NAMES = {1: Label("lung", "#112233"), 2: Label("bone"), 3: Label("vessel")}
TURN, _ = np.linalg.qr(np.array([[1.0, 0.2, -0.1], [-0.1, 1.0, 0.3], [0.2, -0.2, 1.0]]))


def labelled(data, spacing=(5.0, 10.0, 20.0), **meta):
    data = np.asarray(data)
    frames = Frames("time", tuple(range(len(data))), "s") if data.ndim == 4 else None
    grid = Grid.from_spacing(spacing, data.shape, (7, -3, 2), TURN, frames)
    return Volume(data, grid, "labels", "organs", NAMES, meta)


def blobs(seed, shape=(9, 14, 13)):
    """Return random blobs of three labels, with holes and specks."""
    rng = np.random.default_rng(seed)
    smooth = [ndimage.gaussian_filter(rng.normal(size=shape), 1.1) for _ in range(4)]
    data = np.argmax(np.stack(smooth), 0).astype(np.uint8)
    # A lung with a hole, and bone in another hole.
    data[2:7, 3:9, 3:9] = 1
    data[4, 5, 5], data[4, 7, 7] = 0, 2
    return data


def expected(frame, rules, voxel_ml):
    """The same with scipy, label by label."""
    result = frame.copy()
    structure = np.ones((3,) * frame.ndim)
    for value, rule in rules.items():
        parts, count = ndimage.label(frame == value, structure)
        size = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        gone = {n + 1 for n in range(count) if size[n] * voxel_ml < rule.get("remove_below_ml", 0)}
        if rule.get("keep_largest"):
            ranked = sorted(range(1, count + 1), key=lambda n: (-size[n - 1], np.argmax(parts == n)))
            gone |= set(ranked[int(rule["keep_largest"]) :])
        result[np.isin(parts, list(gone))] = 0
    for value, rule in rules.items():
        if rule.get("fill_holes"):
            full = ndimage.binary_fill_holes(result == value)
            result[full & (result == 0)] = value
    return result


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_scipy_makes_label_by_label(seed):
    data = blobs(seed)
    rules = {1: {"keep_largest": True, "fill_holes": True}, 2: {"remove_below_ml": 5.0}, 3: {"keep_largest": 2}}
    volume = labelled(data)
    found = postprocess(volume, {"lung": rules[1], 2: rules[2], "*": rules[3]})
    wanted = expected(data, rules, 1.0)
    assert (data[4, 5, 5], data[4, 7, 7]) == (0, 2)
    assert (wanted[4, 5, 5], wanted[4, 7, 7]) == (1, 1)
    np.testing.assert_array_equal(found.data, wanted)
    assert found.data.dtype == data.dtype
    assert found.labels == volume.labels
    assert found.grid is volume.grid


def test_a_speck_in_a_hole_goes_before_the_hole_is_filled():
    data = np.ones((5, 5, 5), np.uint8)
    data[2, 1:4, 2], data[2, 2, 2] = 0, 2
    found = postprocess(labelled(data), {"lung": {"fill_holes": True}, "bone": {"remove_below_ml": 1.5}})
    assert (found.data == 1).all()
    # A size that is met exactly stays.
    kept = postprocess(labelled(data), {"lung": {"fill_holes": True}, "bone": {"remove_below_ml": 1.0}})
    assert kept.data[2, 2, 2] == 2
    assert (kept.data == 1).sum() == 124


def test_of_equal_components_the_first_stays_and_each_frame_is_for_itself():
    one = np.zeros((3, 4, 9), np.int16)
    one[1, 1:3, 1:3], one[0, 1, 5:9] = 1, 1
    assert expected(one, {1: {"keep_largest": 1}}, 1)[0, 1, 5] == 1
    both = np.stack([one, one[::-1]])
    found = postprocess(labelled(both), {"lung": {"keep_largest": True}})
    # The four in the row come first in the first frame, the square in the second.
    assert (found.data[0] == 1).sum() == (found.data[1] == 1).sum() == 4
    assert found.data[0, 0, 1, 5] == 1
    assert found.data[1, 1, 1, 1] == 1
    assert found.meta["notes"] == ("post-processing of lung: 2 of 4 components removed (8 ml)",)
    assert found.grid.frames.values == (0.0, 1.0)


def test_a_single_slice_is_worked_on_in_its_plane():
    data = np.zeros((6, 1, 7), bool)
    data[1:5, 0, 1:5], data[2:4, 0, 2:4] = True, False
    found = postprocess(labelled(data), {"lung": {"fill_holes": True}})
    assert found.data.dtype == bool
    assert found.data.sum() == 16
    corner = np.zeros((1, 4, 4), np.uint8)
    corner[0, 0, 0] = corner[0, 1, 1] = corner[0, 3, 3] = 1
    assert postprocess(labelled(corner), {1: {"keep_largest": 1}}).data.sum() == 2


def test_a_class_that_is_not_filled_is_no_wall():
    data = np.zeros((7, 7), np.uint8)
    data[:, [0, 6]] = data[[0, 6]] = 1
    data[2:5, 2:5], data[3, 3] = 2, 0
    data = data[None]
    found = postprocess(labelled(data), {"lung": {"fill_holes": True}})
    assert found.data[0, 3, 3] == 1
    assert (found.data == 2).sum() == 8
    found = postprocess(labelled(data), {"*": {"fill_holes": True}})
    assert found.data[0, 3, 3] == 2
    assert found.data[0, 1, 1] == 1


def test_the_step_is_recorded_saved_and_replayed(tmp_path):
    volume = labelled(blobs(1))
    found = postprocess(volume, {"lung": {"keep_largest": True}, "*": {"remove_below_ml": 3, "fill_holes": True}})
    step = found.history[-1]
    assert step["operation"] == "postprocess"
    assert step["parameters"]["rules"]["*"] == {"keep_largest": 0, "remove_below_ml": 3.0, "fill_holes": True}
    path = Recipe.of(found).save(tmp_path / "recipe.json")
    recipe = Recipe.load(path)
    again = recipe.run(volume)
    np.testing.assert_array_equal(again.data, found.data)
    assert recipe.made(again.history)
    assert recipe.kind == "labels"
    other = postprocess(volume, {"lung": {"keep_largest": True}})
    assert not recipe.made(other.history)
    assert not np.array_equal(other.data, found.data)


def test_what_does_not_fit_is_refused_in_a_sentence():
    volume = labelled(blobs(0))
    for rules, match in (
        ([], "must be an object of classes"),
        ({"liver": {}}, "class 'liver' is unknown: use lung, bone, vessel, or '\\*'"),
        ({0: {}}, "class 0 is unknown"),
        ({9: {}}, "class 9 is unknown"),
        ({"lung": {}, 1: {}}, "1 and 'lung' are the same class"),
        ({"lung": True}, "class 'lung': True must be an object"),
        ({"lung": {"keep": True}}, "field 'keep' is unknown: the fields are keep_largest"),
        ({"lung": {"keep_largest": 1.5}}, "keep_largest 1.5 must be true, or how many"),
        ({"lung": {"keep_largest": "yes"}}, "keep_largest 'yes'"),
        ({"lung": {"remove_below_ml": -1}}, "remove_below_ml -1 must be a volume in ml"),
        ({"lung": {"fill_holes": 1}}, "fill_holes 1 must be true or false"),
    ):
        with pytest.raises(InputError, match=match) as caught:
            postprocess(volume, rules)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="spacing of 'organs' is unknown"):
        postprocess(labelled(blobs(0), spacing_known=False), {"lung": {"remove_below_ml": 1}})
    with pytest.raises(InputError, match="must be a Volume of labels, not a volume of kind 'image'"):
        postprocess(Volume.from_array(np.zeros((2, 2, 2)), (1, 1, 1)), {})
    unnamed = Volume.from_array(np.ones((1, 3, 3), np.uint8), (1, 1, 1), kind="labels")
    assert postprocess(unnamed, {"7": {"keep_largest": True}}).data.all()
