"""`evaluate` with a second prediction, with more scores, and without a reference."""

import csv
import json
import math

import numpy as np
import pytest
from scipy import stats
from test_evaluate import LABELS, labelled, pair

import napari_lightbox as lb
from napari_lightbox import cli
from napari_lightbox.geometry import Grid
from napari_lightbox.report.evaluation import evaluate
from napari_lightbox.report.evaluation_versus import change_of, compare, paired
from napari_lightbox.volume import Volume


def read(path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def shaken(data, n):
    """Return labels with some voxels taken away, by number of the case."""
    found = data.copy()
    inside = np.argwhere(found)
    found[tuple(inside[:: 7 - n].T)] = 0
    return found


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Return folders of first and second predictions and references: four cases."""
    root = tmp_path_factory.mktemp("cohort")
    for n in range(4):
        a, b = pair(n)
        for folder, data in (("a", a), ("b", shaken(b, n)), ("t", b)):
            (root / folder).mkdir(exist_ok=True)
            lb.write(labelled(data), root / folder / f"case_{n}.nii.gz")
    folders = [str(root / name) for name in ("a", "t", "b")]
    more = ["--slices", "--boundary", "3.5", "--centreline", "--instances"]
    command = ["evaluate", "--cohort", *folders[:2], "--versus", folders[2], *more, "--out", str(root / "o")]
    assert cli.main(command) == 0
    return root


def test_what_two_models_change_is_counted_and_tested(cohort):
    found = json.loads((cohort / "o" / "evaluation.json").read_text())["versus"]
    maps = [(a, shaken(b, n), b) for n, (a, b) in enumerate(map(pair, range(4)))]
    ml = 3.0 * 0.8 * 1.1 / 1000
    for row, (a, b, truth) in zip(found["cases"], maps, strict=True):
        assert row["gained_ml"] == pytest.approx(ml * np.sum((a != truth) & (b == truth)))
        assert row["lost_ml"] == pytest.approx(ml * np.sum((a == truth) & (b != truth)))
    # The test of SciPy on Dice coefficients worked out here.
    row = next(row for row in found["labels"] if (row["label"], row["score"]) == (1, "dice"))
    scores = [[2 * np.sum((m == 1) & (t == 1)) / (np.sum(m == 1) + np.sum(t == 1)) for m in (a, b)] for a, b, t in maps]
    difference = np.diff(scores, axis=1).ravel()
    assert row["difference"] == pytest.approx(difference.mean())
    assert row["p"] == pytest.approx(stats.wilcoxon(difference).pvalue)
    assert (row["better"], row["worse"]) == ((difference > 0).sum(), (difference < 0).sum())
    changes = read(cohort / "o" / "changes.csv")
    lost = sum(float(row["changed_mm3"]) for row in changes if row["outcome"] in ("new", "worse"))
    assert lost == pytest.approx(1000 * sum(row["lost_ml"] for row in found["cases"]))
    seconds = read(cohort / "o" / "scores_second.csv")
    assert [float(row["dice"]) for row in seconds if row["label"] == "1"] == pytest.approx([s[1] for s in scores])
    page = (cohort / "o" / "report.html").read_text()
    assert "What got better, and what got worse" in page
    assert "Second against first: gained" in page


def test_smaller_distances_are_better_and_few_cases_are_not_tested():
    a, b = pair(0)
    case = compare(evaluate(labelled(a), labelled(b)), labelled(b))
    rows = {(row["label"], row["score"]): row for row in paired([case])}
    assert rows[1, "hd95"]["difference"] < 0
    assert (rows[1, "hd95"]["better"], rows[1, "hd95"]["worse"]) == (1, 0)
    assert math.isnan(rows[1, "dice"]["p"])
    assert {change.outcome for _, change in case.changes} == {"mended"}
    assert change_of(case)["lost_ml"] == 0
    assert {1} == {
        label
        for _, change in compare(case, labelled(b), labels=[1]).changes
        for label in (change.error.predicted, change.error.reference)
        if label
    } & {1}


def test_slices_sizes_rims_and_centrelines(cohort):
    a, b = pair(2)
    rows = [row for row in read(cohort / "o" / "slices.csv") if row["case"] == "case_2" and row["label"] == "2"]
    for row in rows:
        first, second = ((m[int(row["slice"])] == 2) for m in (a, b))
        assert float(row["dice"]) == pytest.approx(2 * np.sum(first & second) / (first.sum() + second.sum()))
        assert row["name"] == "spleen"
    assert {int(row["slice"]) for row in rows} == set(np.unique(np.nonzero((a == 2) | (b == 2))[0]).tolist())
    scores = [row for row in read(cohort / "o" / "scores.csv") if row["case"] == "case_2"]
    spacing = (3.0, 0.8, 1.1)
    for row in scores:
        label = int(row["label"])
        assert float(row["boundary_iou"]) == pytest.approx(lb.metrics.boundary_iou(a, b, spacing, 3.5, label))
        assert float(row["centreline_dice"]) == pytest.approx(lb.metrics.centreline_dice(a, b, label))
    sizes = [row for row in read(cohort / "o" / "sizes.csv") if row["case"] == "case_2" and row["label"] == "1"]
    # The range that holds the one object, and the row of all sizes.
    inside, whole = (row for row in sizes if row["lesions"] == "1")
    assert (float(whole["from"]), float(whole["to"])) == (0, math.inf)
    assert float(inside["from"]) <= (b == 1).sum() * np.prod(spacing) < float(inside["to"])


def test_doubts_without_a_reference(tmp_path, capsys):
    data = np.zeros((8, 20, 22), np.uint8)
    data[1:7, 2:12, 2:12] = 1
    data[3, 6, 6:8] = 0  # a hole of two voxels
    data[4, 16, 16:19] = 1  # an island of three
    data[2:5, 2:6, 15:20] = 2
    doubt = np.zeros(data.shape, np.float32)
    doubt[3, 3, 16:18] = 0.8
    lb.write(labelled(data), tmp_path / "a.nrrd")
    lb.write(Volume(doubt, labelled(data).grid, name="u"), tmp_path / "u.nrrd")
    (tmp_path / "rules.json").write_text('[{"kind": "hole", "label": "liver"}, {"kind": "island", "limit": 1}]')
    command = ["evaluate", str(tmp_path / "a.nrrd"), "--rules", str(tmp_path / "rules.json")]
    command += ["--uncertainty", str(tmp_path / "u.nrrd"), "--out", str(tmp_path / "o")]
    assert cli.main(command) == 0
    assert "island: 1, 0.00792 ml" in capsys.readouterr().out
    rows = read(tmp_path / "o" / "doubts.csv")
    assert [(r["kind"], r["predicted_name"], r["proposed_name"], r["voxels"]) for r in rows] == [
        ("island", "liver", "background", "3"),
        ("uncertain", "spleen", "spleen", "2"),
        ("hole", "background", "liver", "2"),
    ]
    # Index (4, 16, 17) of a grid that begins at (z, y, x) = (10, -20, 30), with y reversed.
    assert [float(rows[0][f"{axis}_mm"]) for axis in "xyz"] == [48.7, -32.8, 22.0]
    whole = json.loads((tmp_path / "o" / "doubts.json").read_text())
    assert whole["looked_for"]["rules"][0] == {"kind": "hole", "label": "liver"}
    assert whole["doubts"][0]["uncertainty"] == 0
    page = (tmp_path / "o" / "doubts.html").read_text()
    assert page.count("<img") == 9
    assert "nan" not in page
    assert cli.main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    # The usual rules are hole, island and leak, at their own thresholds.
    command = ["evaluate", str(tmp_path / "a.nrrd"), "--rules", "usual", "--out", str(tmp_path / "usual")]
    assert cli.main(command) == 0
    assert [row["kind"] for row in read(tmp_path / "usual" / "doubts.csv")] == ["island", "hole"]


def test_sides_are_those_of_the_patient(tmp_path):
    data = np.zeros((4, 6, 12), np.uint8)
    data[1:3, 2:4, 1:4], data[1:3, 2:4, 8:11] = 1, 2
    for sign, count in ((1.0, 2), (-1.0, 0)):
        grid = Grid.from_spacing((3.0, 1.0, 1.0), data.shape, (0, 0, 0), np.diag([1.0, 1.0, sign]))
        lb.write(Volume(data, grid, "labels", "a", LABELS), tmp_path / "a.nrrd")
        # With x growing to the left, label 1 lies right of label 2.
        (tmp_path / "r.json").write_text('[{"kind": "swapped side", "label": "liver", "partner": "spleen"}]')
        arguments = ["evaluate", str(tmp_path / "a.nrrd"), "--rules", str(tmp_path / "r.json"), "--overwrite"]
        assert cli.main([*arguments, "--out", str(tmp_path / "o")]) == 0
        assert len(read(tmp_path / "o" / "doubts.csv")) == count


def test_what_cannot_be_done_is_one_sentence(cohort, capsys, tmp_path):
    a, t = (str(cohort / name / "case_0.nii.gz") for name in "at")
    (tmp_path / "none.json").write_text("[]")
    for arguments, said in (
        ([a], "give REFERENCE"),
        ([a, t, "--uncertainty", t], "leave one of them out"),
        ([a, "--others", t, "--versus", t], "needs references"),
        ([a, "--rules", str(tmp_path / "none.json")], "holds no rules"),
        ([a, t, "--boundary", "0.1"], "less than one voxel"),
        ([str(cohort / "a"), str(cohort / "t"), "--cohort", "--versus", a], "is no folder"),
    ):
        assert cli.main(["evaluate", *arguments, "--out", str(tmp_path / "o")]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_the_file_that_is_no_second_prediction_is_named_with_the_reason(cohort, capsys, tmp_path):
    seconds, truth = tmp_path / "seconds", lb.read(cohort / "t" / "case_0.nii.gz")
    seconds.mkdir()
    grey = Volume(truth.data * np.float32(1.5), truth.grid, name="grey")
    lb.write(grey, seconds / "case_0.nii.gz")
    moved = Grid.from_spacing(truth.grid.spacing, truth.grid.shape, (40, 0, 0))
    lb.write(truth.replace(grid=moved), seconds / "case_1.nii.gz")
    whole = (cohort / "b" / "case_2.nii.gz").read_bytes()
    (seconds / "case_2.nii.gz").write_bytes(whole[: len(whole) // 2])
    (seconds / "case_3.nii.gz.part").write_bytes(whole)
    command = ["evaluate", "--cohort", str(cohort / "a"), str(cohort / "t"), "--versus", str(seconds)]
    assert cli.main([*command, "--out", str(tmp_path / "o")]) == 2
    said = capsys.readouterr().err.splitlines()
    for n, why in enumerate(("not whole numbers", "different grids", "cut short", "there is no second prediction")):
        line = next(line for line in said if f"case_{n}:" in line)
        assert why in line
        assert str(seconds / f"case_{n}.nii.gz") in line
