"""The dock of a cohort: what the command has written, as rows, and a double click that opens a case."""

import json
import shutil

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QFileDialog

import napari_lightbox as lb
from napari_lightbox import cli
from napari_lightbox.geometry import Grid
from napari_lightbox.viewer.panels.cohort import CohortPanel
from napari_lightbox.viewer.panels.errors import ErrorsPanel
from napari_lightbox.volume import Label, Volume

NAMES = {1: Label("liver", "#ff0000"), 2: Label("spleen", "#00ff00")}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Return the file of a cohort of three cases, of which the third is the worst."""
    root = tmp_path_factory.mktemp("cohort")
    grid = Grid.from_spacing((3.0, 1.0, 1.0), (6, 20, 24), (5, -8, 9))
    for n in range(3):
        truth = np.zeros(grid.shape, np.uint8)
        truth[1:5, 3:12, 3:12], truth[2:4, 13:18, 15:20] = 1, 2
        guess = truth.copy()
        guess[1:5, 3 : 4 + n, 3:12] = 0
        image = np.arange(truth.size, dtype=np.int16).reshape(truth.shape)
        for folder, volume in (
            ("p", Volume(guess, grid, "labels", "a", NAMES)),
            ("t", Volume(truth, grid, "labels", "a", NAMES)),
            ("i", Volume(image, grid)),
        ):
            (root / folder).mkdir(exist_ok=True)
            lb.write(volume, root / folder / f"case_{n}.nii.gz")
    command = ["evaluate", "--cohort", str(root / "p"), str(root / "t"), "--image", str(root / "i")]
    assert cli.main([*command, "--out", str(root / "o")]) == 0
    return root / "o" / "evaluation.json"


def loaded(panel, qtbot, path) -> None:
    panel.load(path)
    qtbot.waitUntil(lambda: not panel.bar.running, timeout=5000)


def column(panel, place: int) -> list[str]:
    return [panel.model.data(panel.model.index(row, place)) for row in range(panel.model.rowCount())]


def test_worst_first_and_a_double_click_opens_the_errors(evaluated, make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    # Every pixel is drawn without a graphics card.
    viewer.window.resize(500, 400)
    panel = CohortPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Cohort")
    loaded(panel, qtbot, evaluated)
    assert column(panel, 1) == ["case_2", "case_1", "case_0"]
    assert [case.dice for case in panel.model.cases] == pytest.approx(
        [(1 + 2 * rows / (9 + rows)) / 2 for rows in (6, 7, 8)]
    )
    assert column(panel, 3)[0] == "liver 0.800"
    picture = panel.model.data(panel.model.index(0, 0), Qt.ItemDataRole.DecorationRole)
    assert max(picture.width(), picture.height()) == 56
    panel.table.sortByColumn(1, Qt.SortOrder.AscendingOrder)
    assert column(panel, 1) == ["case_0", "case_1", "case_2"]

    def click(row: int) -> ErrorsPanel:
        place = panel.table.visualRect(panel.model.index(row, 1)).center()
        qtbot.mouseClick(panel.table.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(place))
        qtbot.mouseDClick(panel.table.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(place))
        name = column(panel, 1)[row]
        qtbot.waitUntil(
            lambda: any(one.name == f"errors of {name} prediction" for one in viewer.layers), timeout=20_000
        )
        return viewer.window._qt_window.findChildren(ErrorsPanel)

    (errors,) = click(2)
    assert [row["voxels"] for row in errors.model.rows] == [4 * 3 * 9]
    assert [layer.name for layer in viewer.layers[:3]] == ["case_2 image", "case_2 prediction", "case_2 reference"]
    assert errors.reference_box.layer.name == "case_2 reference"
    # What was only looked at goes, and what was painted is not thrown away.
    assert click(0) == [errors]
    roles = ("image", "prediction", "reference")
    assert {one.name for one in viewer.layers} == {"errors of case_0 prediction", *(f"case_0 {role}" for role in roles)}
    errors.show_row(0)
    qtbot.mouseClick(errors.fix_button, Qt.MouseButton.LeftButton)
    assert errors.pair.score.dice() == {1: 1.0, 2: 1.0}
    assert panel._put_away(panel._opened) == "case_0 prediction, errors of case_0 prediction"
    assert len(viewer.layers) == 4
    assert not viewer.layers["case_0 prediction"].visible


def test_files_that_are_no_cohort_are_one_sentence(evaluated, qtbot, tmp_path):
    viewer = ViewerModel()
    panel = CohortPanel(viewer)
    qtbot.addWidget(panel)
    assert "lightbox evaluate --cohort" in panel.about.text()
    assert not panel.case_button.isEnabled()
    whole = json.loads(evaluated.read_text())
    path = tmp_path / "evaluation.json"
    for text, said in (
        ("no json", "cannot be read"),
        ("{}", "holds no cases"),
        ('{"cases": [{"name": "a"}]}', "is damaged"),
    ):
        path.write_text(text)
        loaded(panel, qtbot, path)
        assert said in panel.bar.message
    # Moved away from its files.
    path.write_text(json.dumps(whole))
    loaded(panel, qtbot, path)
    panel.open_row(0)
    qtbot.waitUntil(lambda: not panel.bar.running, timeout=5000)
    assert "is not at" in panel.bar.message
    assert len(viewer.layers) == 0


def test_two_folders_are_evaluated_here(evaluated, qtbot, monkeypatch, tmp_path):
    root = evaluated.parents[1]
    shutil.copytree(root / "p", tmp_path / "p")
    (tmp_path / "p" / "case_1.nii.gz").unlink()
    panel = CohortPanel(ViewerModel())
    qtbot.addWidget(panel)
    answers = iter([str(tmp_path / "p"), str(root / "t"), ""])
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: next(answers))
    qtbot.mouseClick(panel.folders_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not panel.bar.running, timeout=10_000)
    assert column(panel, 1) == ["case_2", "case_0"]
    assert "case_1 has no prediction" in panel.bar.message
    whole = {case["name"]: case["dice"] for case in json.loads(evaluated.read_text())["cases"]}
    assert [case.dice for case in panel.model.cases] == [whole["case_2"], whole["case_0"]]
    assert panel.model.cases[0].picture.startswith(b"\x89PNG")
