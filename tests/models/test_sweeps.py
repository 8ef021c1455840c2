"""Sweeps and what mends them, with models whose answer to every image is known."""

import csv
import json

import numpy as np
import pytest

from napari_lightbox import Cancelled, Frames, Grid, InputError, Label, Recipe, Step, Volume, apply, listening
from napari_lightbox.models import PERTURBATIONS, mend, perturbed, predict, sweep
from napari_lightbox.models.sweeps import Sweep
from napari_lightbox.ops.metrics import dice

torch = pytest.importorskip("torch")


def above(level: float):
    """Return a model that finds all that is brighter than a level."""

    def bright(x):
        return 5 * (x - level)

    return bright


def case(frames: int = 0) -> tuple[Volume, Volume]:
    """Return a ramp from 0 to 190 along x on an oblique, left-handed grid, and what is above 95 in it."""
    shape = (frames, 4, 10, 20) if frames else (4, 10, 20)
    turn, _ = np.linalg.qr(np.array([[1.0, 0.1, -0.05], [-0.08, 1.0, 0.2], [0.06, -0.15, 1.0]]))
    times = Frames("time", tuple(range(frames)), "s") if frames else None
    grid = Grid.from_spacing((3.0, 0.8, 1.1), shape, (-20, 10, 35), turn @ np.diag([1, 1, -1]), times)
    ramp = np.broadcast_to(10.0 * np.arange(20), shape).copy()
    truth = Volume((ramp > 95).astype(np.uint8), grid, "labels", "truth", {1: Label("bright")})
    return Volume(ramp, grid, name="ramp"), truth


def test_curve_and_breaking_point_are_those_worked_out_by_hand():
    image, truth = case()
    found = sweep(image, above(95), "intensity_shift", [40, 20, 60, 0], reference=truth)
    # Of 20 columns 10 are true; a shift by 20 adds 2: Dice = 2 * 10 / (12 + 10).
    expected = [1, 20 / 22, 20 / 24, 20 / 26]
    assert [p.mean for p in found.curve()] == pytest.approx(expected)
    assert found.strengths == (0, 20, 40, 60)
    between = (expected[1] - 0.9) / (expected[1] - expected[2])
    assert found.breaking_point() == pytest.approx(20 + 20 * between)
    assert found.first_broken == 40
    assert [row["predicted_ml"] for row in found.rows] == pytest.approx(
        [columns * 40 * 3 * 0.8 * 1.1 / 1000 for columns in (10, 12, 14, 16)]
    )
    # The volume leaves 10 ml +- 10 % half way to the first step.
    assert found.breaking_point("volume") == pytest.approx(10)
    assert sweep(image, above(95), "intensity_shift", [5], reference=truth).breaking_point() is None


def test_without_a_reference_the_first_answer_stands_for_it():
    image, _ = case()
    found = sweep(image, above(75), "intensity_shift", [20])
    assert found.reference is None
    assert [p.mean for p in found.curve()] == pytest.approx([1, 2 * 12 / (12 + 14)])
    assert "steadiness" in found.meaning
    assert "stands for the truth" in found.notes[0]


@pytest.mark.parametrize(("name", "strength"), [("rotation", 25.0), ("scaling", 1.4)])
def test_the_reference_moves_with_the_image(name, strength):
    shape = (16, 24, 20)
    grid = Grid.from_spacing((2.0, 1.0, 1.5), shape, (5, 6, 7), np.diag([1.0, -1.0, 1.0]))
    z, y, x = np.indices(shape)
    block = ((z > 4) & (y > 7) & (y < 12) & (x > 8)).astype(np.uint8)
    image, truth = Volume(100.0 * block, grid, name="i"), Volume(block, grid, "labels", "t")
    found = sweep(image, above(50), name, [strength], reference=truth)
    assert found.curve()[-1].mean > 0.95
    still = predict(perturbed(image, name, strength), above(50)).labels.data
    assert dice(still, block) < 0.8  # as it would be with a reference that stays
    # A true answer to a larger thing is no error.
    assert found.breaking_point("volume") is None
    moved = perturbed(truth, name, strength)
    assert moved.grid == truth.grid
    # A voxel of the result holds what lay where the movement brings it from.
    centre = grid.to_world((np.array(shape) - 1) / 2)
    angle = np.radians(strength) if name == "rotation" else 0.0
    back = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    factor = 1.0 if name == "rotation" else strength
    points = (grid.to_world(np.argwhere(np.ones(shape))) - centre) @ back.T / factor + centre
    index = grid.to_index(points)
    sure = (np.abs(index - np.floor(index) - 0.5) > 1e-3).all(1) & (index > -0.5).all(1)
    sure &= (index < np.array(shape) - 0.5).all(1)
    expected = block[tuple(np.rint(index[sure]).astype(int).T)]
    np.testing.assert_array_equal(moved.data.ravel()[sure], expected)


def test_repeats_have_seeds_of_their_own_and_a_spread():
    image, truth = case()
    found = sweep(image, above(95), "gaussian_noise", [40], reference=truth, repeats=3, seed=7)
    rows = [row for row in found.rows if row["strength"] == 40]
    assert [row["seed"] for row in rows] == [7, 8, 9]
    expected = [dice(perturbed(image, "gaussian_noise", 40, seed=s).data > 95, truth.data) for s in (7, 8, 9)]
    assert [row["dice"] for row in rows] == pytest.approx(expected)
    point = found.curve()[-1]
    assert point[1:] == pytest.approx((np.mean(expected), min(expected), max(expected)))
    assert len([row for row in found.rows if row["strength"] == 0]) == 1


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_every_perturbation_runs_as_it_suggests_on_volumes_of_all_kinds(name):
    for frames in (0, 2):
        image, truth = case(frames)
        # The slices differ, so that thicker ones do.
        image = image.replace(data=image.data + (np.arange(4) == 2)[:, None, None])
        seen = []
        strengths = PERTURBATIONS[name].strengths(image)
        assert len(strengths) >= 3
        found = sweep(
            image, above(95), name, strengths[-2:], reference=truth, watch=lambda *a, seen=seen: seen.append(a)
        )
        assert found.strengths == (PERTURBATIONS[name].nothing, *strengths[-2:])
        assert found.curve()[0].mean == 1
        np.testing.assert_array_equal(seen[0][2].data, image.data)
        assert all((shown.data != image.data).any() for _, _, shown, _, _ in seen[1:])
        assert all(shown.grid == image.grid for _, _, shown, _, _ in seen)


def test_steps_are_a_recipe_that_gives_the_same_image_again():
    image, truth = case()
    found = sweep(image, above(95), "salt_and_pepper", [0.1], reference=truth, seed=3)
    first, second = found.steps[0.1]
    assert (first["operation"], second["operation"]) == ("salt_and_pepper", "predict")
    again = Recipe.of(image.replace(history=(first,))).run(image)
    np.testing.assert_array_equal(again.data, perturbed(image, "salt_and_pepper", 0.1, seed=3).data)
    labels = predict(again, above(95)).labels
    assert dice(labels.data, truth.data) == pytest.approx(found.rows[-1]["dice"])


def test_files_hold_all_rows(tmp_path):
    image, truth = case()
    found = sweep(image, above(500), "blur", [1, 2], reference=truth)
    assert found.breaking_point() is None  # a model that finds nothing cannot break
    with found.save(tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["strength"]) for row in rows] == [0, 1, 2]
    assert {row["label"] for row in rows} == {"1"}
    told = json.loads(found.save(tmp_path / "a.json").read_text())
    assert [p["mean"] for p in told["curve"]] == [0, 0, 0]
    assert told["breaking_point"] == {"all": None, "1": None}
    with pytest.raises(InputError, match=r"must end in \.csv or \.json"):
        found.save(tmp_path / "a.txt")


def test_what_does_not_fit_is_refused_in_a_sentence():
    image, truth = case()
    model = above(95)
    refused = [
        ({"perturbation": "rain"}, "perturbation 'rain' is unknown: use one of gaussian_noise"),
        ({"strengths": [-1, 1]}, "both sides of 0"),
        ({"strengths": [0]}, "nothing but 0"),
        ({"strengths": ["x"]}, "must be numbers"),
        ({"reference": image}, "give labels"),
        ({"reference": truth.replace(data=truth.data * 9)}, "holds none of the classes"),
        ({"label": "lung"}, "label 'lung' is unknown"),
        ({"share": 1.0}, "share must be below 1"),
        ({"options": {"colour": 3}}, "no parameter 'colour'"),
    ]
    for changes, sentence in refused:
        given = {"perturbation": "gaussian_noise", "strengths": [1], "reference": truth, **changes}
        with pytest.raises(InputError, match=sentence):
            sweep(image, model, given.pop("perturbation"), given.pop("strengths"), **given)
    other = truth.replace(grid=Grid.from_spacing((1, 1, 1), truth.grid.shape))
    with pytest.raises(InputError, match="ramp"):
        sweep(image, model, "blur", reference=other)


def test_a_sweep_can_be_cancelled_between_windows():
    image, truth = case()
    asked = []

    def stop(what, done, total):
        asked.append(what)
        if what == "windows" and asked.count("runs") >= 2:
            raise Cancelled

    with listening(stop), pytest.raises(Cancelled):
        sweep(image, above(95), "blur", [1, 2, 3], reference=truth)
    assert asked.count("runs") == 2


def test_the_right_filter_mends_and_is_ranked_first():
    shape = (1, 48, 64)
    truth = np.zeros(shape, np.uint8)
    truth[0, 12:36, 16:48] = 1
    grid = Grid.from_spacing((1.0, 1.0, 1.0), shape)
    image = Volume(20 + 100.0 * truth, grid, name="block")
    truth = Volume(truth, grid, "labels", "truth", {1: Label("block")})
    # Close to the block's value: a blur that mixes in the surroundings falls below.
    model = above(112)
    spoilt = perturbed(image, "salt_and_pepper", 0.2, seed=1)
    ranked = mend(spoilt, model, truth)
    assert ranked[0].name in ("median_3", "median_5", "adaptive_median")
    changes = [one.change for one in ranked]
    assert changes == sorted(changes, reverse=True)
    best = ranked[0]
    before, after = dice(spoilt.data > 112, truth.data), dice(best.recipe.run(spoilt).data > 112, truth.data)
    assert (best.before, best.score) == pytest.approx((before, after))
    striped = perturbed(image, "periodic_noise", 70, options={"frequency": 13 / 64, "angle": 0.0})
    ranked = mend(striped, above(70), truth, ["median_3", "gaussian_1", "notch"])
    assert ranked[0].name == "notch"
    assert (ranked[0].score, ranked[0].change) == (1, pytest.approx(0.367, abs=1e-3))


def test_bias_correction_mends_an_uneven_image():
    radius = np.sqrt(sum(a * a for a in np.meshgrid(*[np.linspace(-1, 1, n) for n in (16, 48, 56)], indexing="ij")))
    truth = (radius < 0.6).astype(np.uint8)
    clean = 80.0 * (radius < 0.95) + 80.0 * truth + np.random.default_rng(0).normal(0, 2, truth.shape)
    grid = Grid.from_spacing((3.0, 1.0, 1.0), truth.shape)
    image = Volume(np.where(radius < 0.95, clean, 0), grid, name="shells")
    truth = Volume(truth, grid, "labels", "truth", {1: Label("core")})
    uneven = perturbed(image, "bias_field", 0.7, seed=3)
    ranked = mend(uneven, above(120), truth)
    assert ranked[0].name == "bias_correction"
    assert ranked[0].before < 0.9
    assert ranked[0].score > 0.98
    # No other filter mends as much as a third of it.
    assert ranked[1].change < ranked[0].change / 3
    assert ranked[0].recipe.steps[0].operation == "bias_correction"


def test_filters_of_ones_own_failures_and_confidence():
    image, truth = case()
    own = Recipe.of(apply("median", image, size=5))
    ranked = mend(image, above(95), truth, [own, "resample"])
    assert {one.title for one in ranked} == {"median", "Resampling, twice as coarse"}
    coarse = next(one for one in ranked if one.name == "resample")
    assert "nearest voxels" in coarse.notes[-1]
    even = Recipe((Step("median", {"size": 4}),))
    refused = mend(image, above(95), truth, [even, "median_3"])[-1]
    assert np.isnan(refused.change)
    assert "size must be odd" in refused.notes[0]
    sure = mend(image, above(95), filters=["median_3"])[0]
    entropy = predict(image, above(95), uncertainty=True).uncertainty.data
    assert (sure.measure, sure.before) == ("confidence", pytest.approx(1 - entropy.mean()))
    with pytest.raises(InputError, match="filter 'soap' is unknown"):
        mend(image, above(95), truth, ["soap"])
    json.dumps([one.as_dict() for one in ranked])


def test_all_channels_are_perturbed_each_with_noise_of_its_own():
    image, truth = case()
    seen = []

    def model(x):
        seen.append(x[0].numpy().copy())
        return 5 * (x[:, :1] - 95)

    found = sweep([image, image.replace(name="second")], model, "gaussian_noise", [30], reference=truth)
    assert isinstance(found, Sweep)
    assert np.array_equal(seen[0][0], seen[0][1])
    assert not np.array_equal(seen[-1][0], seen[-1][1])
