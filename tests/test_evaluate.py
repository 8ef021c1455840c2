"""`evaluate`: scores against hand-made truths and other programs, cohorts, and what the command says and writes."""

import csv
import json
import math

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - as its own manual has it

import napari_lightbox as lb
from napari_lightbox import cli
from napari_lightbox.errors import GridError, InputError
from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.report.evaluation import evaluate, summary, worst_first
from napari_lightbox.volume import Label, Volume

LABELS = {1: Label("liver", "#aa0000"), 2: Label("spleen", "#00aa00")}


def labelled(data, spacing=(3.0, 0.8, 1.1), name="case", **grid) -> Volume:
    """Labels on a left-handed, flipped grid."""
    direction = np.diag([1.0, -1.0, 1.0])
    grid = Grid.from_spacing(spacing, data.shape, (10, -20, 30), direction, **grid)
    return Volume(data, grid, "labels", name, LABELS)


def pair(seed=0, shape=(9, 24, 26)):
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    masks = []
    for shift in (0, rng.integers(1, 3)):
        liver = ((z - 4) / 3) ** 2 + ((y - 8 - shift) / 6) ** 2 + ((x - 8) / 6) ** 2 < 1
        spleen = np.abs(z - 4) + np.abs(y - 18) + np.abs(x - 19 + shift) < 4
        masks.append((liver + 2 * spleen).astype(np.uint8))
    return masks


def test_scores_are_those_of_simpleitk():
    a, b = pair()
    case = evaluate(labelled(a), labelled(b))
    for row in case.rows:
        first, second = (sitk.GetImageFromArray((m == row["label"]).astype(np.uint8)) for m in (a, b))
        for image in (first, second):
            image.SetSpacing((1.1, 0.8, 3.0))
        overlap, surface = sitk.LabelOverlapMeasuresImageFilter(), sitk.HausdorffDistanceImageFilter()
        overlap.Execute(first, second)
        assert row["dice"] == pytest.approx(overlap.GetDiceCoefficient())
        assert row["jaccard"] == pytest.approx(overlap.GetJaccardCoefficient())
        # ITK measures from every voxel of one to the other mask: for such shapes the same.
        surface.Execute(first, second)
        assert row["hd"] == pytest.approx(surface.GetHausdorffDistance(), rel=1e-5)
        assert row["name"] == LABELS[row["label"]].name
        assert row["state"] == "both"
        assert row["predicted_ml"] == pytest.approx((a == row["label"]).sum() * 3.0 * 0.8 * 1.1 / 1000)
        assert row["hd95"] <= row["hd"]
        assert 0 < row["surface_dice"] <= 1
    assert sum(error.voxels for _, error in case.errors) == (a != b).sum()


def test_missed_invented_and_absent_are_three_different_answers():
    a, b = pair()
    a[a == 2] = 0
    a[8, :3, :3] = 7
    case = evaluate(labelled(a), labelled(b), labels=[1, 2, 7, 9])
    rows = {row["label"]: row for row in case.rows}
    assert [rows[n]["state"] for n in (1, 2, 7, 9)] == ["both", "missed", "invented", "neither"]
    assert (rows[2]["dice"], rows[2]["hd95"], rows[2]["surface_dice"], rows[2]["difference_percent"]) == (
        0,
        math.inf,
        0,
        -100,
    )
    assert (rows[7]["dice"], rows[7]["hd"], rows[7]["difference_percent"]) == (0, math.inf, math.inf)
    assert all(math.isnan(rows[9][score]) for score in ("dice", "hd", "surface_dice", "difference_percent"))
    assert case.mean("dice") == pytest.approx(rows[1]["dice"] / 3)
    assert case.mean("hd95") == math.inf


def test_missing_a_structure_never_improves_a_mean():
    cases = [evaluate(labelled(a, name=f"c{n}"), labelled(b)) for n, (a, b) in enumerate(map(pair, range(4)))]
    before = {row["name"]: row for row in summary(cases)}
    a, b = pair(0)
    a[a == 2] = 0
    after = {row["name"]: row for row in summary([evaluate(labelled(a, name="c0"), labelled(b)), *cases[1:]])}
    assert after["spleen"]["missed"] == 1
    assert after["spleen"]["dice"] < before["spleen"]["dice"]
    assert after["spleen"]["hd95"] == math.inf
    assert after["liver"] == before["liver"]
    assert before["liver"]["dice_low"] <= before["liver"]["dice"] <= before["liver"]["dice_high"]
    assert worst_first([*cases[1:], evaluate(labelled(a, name="c0"), labelled(b))])[0].name == "c0"


def test_every_frame_is_scored_by_itself():
    (a, b), (c, d) = pair(0), pair(1)
    frames = Frames("time", (0.0, 0.5), "s")
    case = evaluate(labelled(np.stack([a, c]), frames=frames), labelled(np.stack([b, d]), frames=frames))
    assert [(row["frame"], row["label"]) for row in case.rows] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    alone = evaluate(labelled(c), labelled(d)).rows[1]
    assert {**case.rows[3], "frame": None} == alone


def test_objects_are_counted_on_request():
    truth, found = np.zeros((3, 12, 12), np.uint8), np.zeros((3, 12, 12), np.uint8)
    truth[1, 1:4, 1:4] = truth[1, 8:10, 8:10] = 1
    found[1, 1:4, 2:5] = found[0, 1, 10] = 1
    row = evaluate(labelled(found), labelled(truth), instances=True).rows[0]
    assert (row["objects_found"], row["objects_missed"], row["objects_invented"]) == (1, 1, 1)
    assert row["object_f1"] == 0.5


def test_a_bridge_to_a_tiny_object_does_not_hide_a_large_one():
    truth = np.zeros((3, 12, 16), np.uint8)
    truth[1, 2:10, 2:10] = truth[1, 5, 12] = 1
    found = truth.copy()
    found[1, 5, 10:12] = 1
    found[1, 2, 2:10] = 0
    case = evaluate(labelled(found), labelled(truth), instances=True)
    assert (case.rows[0]["objects_found"], case.rows[0]["objects_missed"]) == (1, 1)
    by_size = {(row["from"], row["to"]): (row["found"], row["missed"]) for row in case.sizes}
    assert by_size[0.0, 100.0] == (0, 1)  # one voxel of 2.64 mm3
    assert by_size[100.0, 1000.0] == (1, 0)


def test_what_cannot_be_compared_is_one_sentence():
    a, b = pair()
    with pytest.raises(GridError, match="case"):
        evaluate(labelled(a), labelled(b, spacing=(3.0, 0.8, 1.2)))
    with pytest.raises(InputError, match="give labels"):
        evaluate(labelled(a).replace(kind="image", labels={}), labelled(b))
    with pytest.raises(InputError, match="tolerance"):
        evaluate(labelled(a), labelled(b), tolerance=-1)


def evaluated(count):
    return [evaluate(labelled(a, name=f"case_{n}"), labelled(b)) for n, (a, b) in enumerate(map(pair, range(count)))]


# The command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def cohort(tmp_path):
    """Return folders of predictions and references: five cases, one without a prediction and one on another grid."""
    for n, seed in enumerate((0, 1, 2, 3)):
        a, b = pair(seed)
        (tmp_path / "p").mkdir(exist_ok=True)
        (tmp_path / "t").mkdir(exist_ok=True)
        spacing = (3.0, 0.8, 1.1) if n < 3 else (3.0, 0.9, 1.1)
        lb.write(labelled(a, spacing), tmp_path / "p" / f"case_{n}_model.nii.gz")
        lb.write(labelled(b), tmp_path / "t" / f"case_{n}.nii.gz")
    lb.write(labelled(b), tmp_path / "t" / "case_10.nii.gz")
    return tmp_path


def test_a_cohort_names_the_bad_cases_and_scores_the_rest(cohort, capsys):
    out = cohort / "out"
    code = cli.main(["evaluate", "--cohort", str(cohort / "p"), str(cohort / "t"), "--out", str(out)])
    said = capsys.readouterr()
    assert code == 1
    assert "case_10: there is no prediction" in said.err
    assert "case_3: " in said.err
    assert "liver: Dice" in said.out
    assert "(3 cases)" in said.out
    with open(out / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["case_0", "case_0", "case_1", "case_1", "case_2", "case_2"]
    expected = evaluate(*(labelled(m) for m in pair(1))).rows
    assert [float(row["hd95"]) for row in rows[2:4]] == [row["hd95"] for row in expected]
    found = json.loads((out / "evaluation.json").read_text())
    assert set(found["failed"]) == {"case_3", "case_10"}
    assert found["summary"][0]["cases"] == 3
    page = (out / "report.html").read_text()
    drawn = 3 * sum(min(3, len(evaluate(*(labelled(m) for m in pair(n))).errors)) for n in range(3))
    assert page.count("<img") == drawn + 3
    # One row a case, worst first, with its picture and a link to its section.
    assert [row["name"] for row in found["cases"]] == [c.name for c in worst_first(evaluated(3))]
    assert all(row["thumbnail"].startswith("data:image/png") for row in found["cases"])
    assert all((out / row["files"]["prediction"]).is_file() for row in found["cases"])
    for number in range(3):
        assert page.count(f'href="#case-{number}"') == 2
        assert page.count(f'id="case-{number}"') == 1
    assert "case_10 was not evaluated" in page
    # Nothing is replaced unasked.
    assert cli.main(["evaluate", "--cohort", str(cohort / "p"), str(cohort / "t"), "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_what_does_not_belong_together_is_named(cohort, capsys):
    (cohort / "p" / "case_1_other.nii.gz").write_bytes((cohort / "p" / "case_1_model.nii.gz").read_bytes())
    command = ["evaluate", "--cohort", str(cohort / "p"), str(cohort / "t"), "--out", str(cohort / "out")]
    assert cli.main(command) == 2
    assert "both fit the case 'case_1'" in capsys.readouterr().err
    (cohort / "p" / "case_1_other.nii.gz").rename(cohort / "p" / "stranger.nii.gz")
    assert cli.main(command) == 1
    assert "stranger: there is no reference" in capsys.readouterr().err
    assert "stranger was not evaluated" in (cohort / "out" / "report.html").read_text()
    (cohort / "file").write_text("")
    assert cli.main([*command[:-1], str(cohort / "file" / "sub")]) == 2
    assert "cannot be made" in capsys.readouterr().err


def test_only_the_worst_cases_keep_their_voxels(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_lightbox.report.evaluation_page.DRAWN", 1)
    kept = []
    monkeypatch.setattr(
        "napari_lightbox.report.evaluation_page.draw", lambda image, *_, over: kept.append(over.data.any()) or []
    )
    for n in range(3):
        a, b = pair(n)
        for folder, data in (("p", a), ("t", b)):
            (tmp_path / folder).mkdir(exist_ok=True)
            lb.write(labelled(data), tmp_path / folder / f"c{n}.nii.gz")
    out = tmp_path / "o"
    assert cli.main(["evaluate", "--cohort", str(tmp_path / "p"), str(tmp_path / "t"), "--out", str(out)]) == 0
    assert kept
    assert all(kept)
    with open(out / "errors.csv", newline="") as file:
        assert {row["case"] for row in csv.DictReader(file)} == {"c0", "c1", "c2"}


def test_only_the_labels_asked_for_have_errors():
    a, b = pair()
    case = evaluate(labelled(a), labelled(b), labels=[1])
    assert {row["label"] for row in case.rows} == {1}
    assert all(1 in (error.predicted, error.reference) for _, error in case.errors)


def test_errors_are_told_in_the_patient(tmp_path, capsys):
    a, b = pair()
    a[0, 0, :4] = 2
    lb.write(labelled(a), tmp_path / "a.nrrd")
    lb.write(labelled(b), tmp_path / "b.nrrd")
    assert cli.main(["evaluate", str(tmp_path / "a.nrrd"), str(tmp_path / "b.nrrd"), "--out", str(tmp_path / "o")]) == 0
    with open(tmp_path / "o" / "errors.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "invented"]
    assert [(row["predicted_name"], row["voxels"]) for row in rows] == [("spleen", "4")]
    # Index (0, 0, 1.5) of a grid that begins at (z, y, x) = (10, -20, 30), x steps of 1.1 mm.
    assert [float(rows[0][key]) for key in ("x_mm", "y_mm", "z_mm")] == [31.65, -20.0, 10.0]


def test_wrong_arguments_are_one_sentence(cohort, capsys):
    p, out = str(cohort / "p"), str(cohort / "o")
    one = str(cohort / "t" / "case_0.nii.gz")
    for arguments, said in (
        (["--cohort", p, one], "is no folder"),
        ([one, one, "--labels", "liver"], "--labels 'liver'"),
        ([one, str(cohort / "p" / "case_3_model.nii.gz")], "different grids"),
        ([one, one, "--tolerance", "-1"], "tolerance"),
    ):
        assert cli.main(["evaluate", *arguments, "--out", out]) == 2
        assert said in capsys.readouterr().err
    assert not (cohort / "o").exists()
