"""The dock of errors without a reference, with rules, and with two predictions, driven as a hand would."""

import csv
import json

import numpy as np
import pytest
from difficult_grids import difficult_grid
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog
from test_errors_panel import NAMES, SHAPE, add, column, dice, open_pair, press, scene

from napari_lightbox.errors import FileError, InputError
from napari_lightbox.geometry import Frames
from napari_lightbox.ops._rules import Rule
from napari_lightbox.report.rules_file import read_rules, write_rules
from napari_lightbox.viewer.layers import layer_to_volume
from napari_lightbox.viewer.panels._error_kinds import COLOURS, MEANINGS, palette
from napari_lightbox.viewer.panels._error_rows import KEYS
from napari_lightbox.viewer.panels._error_work import REVIEW, voxels_of
from napari_lightbox.viewer.panels.errors import ErrorsPanel
from napari_lightbox.volume import Volume


def dock(viewer, qtbot, mode: str) -> ErrorsPanel:
    panel = ErrorsPanel(viewer)
    qtbot.addWidget(panel)
    panel.ask.mode_box.setCurrentIndex(panel.ask.mode_box.findData(mode))
    return panel


def search(qtbot, panel) -> None:
    press(qtbot, panel.find_button)
    qtbot.waitUntil(lambda: not panel.bar.running, timeout=30_000)


def tick(panel, *names: str) -> None:
    rows = panel.ask.others_list
    for item in (rows.item(i) for i in range(rows.count())):
        item.setCheckState(Qt.CheckState.Checked if item.text() in names else Qt.CheckState.Unchecked)


def test_uncertain_places_on_a_difficult_grid(qtbot, tmp_path):
    viewer = ViewerModel()
    guess, _ = scene()
    doubt = np.zeros(SHAPE, np.float32)
    doubt[6, 8, 9:12] = 0.75  # spleen
    doubt[8, 11, 0] = 0.9  # background
    predicted = add(viewer, Volume(guess, difficult_grid(), "labels", "model", NAMES))
    add(viewer, Volume(doubt, difficult_grid(), "image", "entropy"))
    panel = dock(viewer, qtbot, "uncertain")
    assert panel.uncertainty_box.layer.name == "entropy"
    assert panel.find_button.text() == "Find doubts"
    search(qtbot, panel)
    assert [(r["kind"], r["predicted"], r["reference"], r["voxels"]) for r in panel.model.rows] == [
        ("uncertain", 2, 2, 3),
        ("uncertain", 0, 0, 1),
    ]
    assert [r["uncertainty"] for r in panel.model.rows] == pytest.approx([0.75, 0.9])
    assert (layer_to_volume(panel.layer).data > 0).sum() == 4
    np.testing.assert_array_equal(layer_to_volume(panel.layer).data > 0, doubt > 0.5)
    assert column(panel, "depth") == ["\u2013"] * 2
    assert "deep" not in panel.model.whole(panel.model.rows[0])
    panel.show()
    assert not panel.score.isVisible()
    panel.show_row(0)
    # Nothing is proposed: there is nothing to paint, and to accept paints nothing.
    assert not panel.fix_button.isEnabled()
    press(qtbot, panel.accept_button)
    np.testing.assert_array_equal(layer_to_volume(predicted).data, guess)
    panel.export(tmp_path / "doubts.csv")
    with open(tmp_path / "doubts.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["depth_mm"], row["state"]) for row in rows] == [
        ("uncertain", "", "accepted"),
        ("uncertain", "", "open"),
    ]
    panel.export(tmp_path / "doubts.json")
    whole = json.loads((tmp_path / "doubts.json").read_text(encoding="utf-8"))
    assert whole["compared_with"] == "uncertainty above 0.5"
    assert whole["errors"][0]["depth"] is None
    assert "dice" not in whole


def test_others_propose_what_most_of_them_say(qtbot):
    viewer = ViewerModel()
    guess, truth = scene()
    grid = difficult_grid()
    predicted = add(viewer, Volume(guess, grid, "labels", "model", NAMES))
    for name in ("fold 1", "fold 2"):
        add(viewer, Volume(truth, grid, "labels", name, NAMES))
    add(viewer, Volume(np.zeros_like(truth), grid, "labels", "unticked"))
    panel = dock(viewer, qtbot, "others")
    panel.predicted_box.choose(predicted)
    assert panel.ask.others_list.count() == 3
    search(qtbot, panel)
    assert "tick those" in panel.bar.message
    # The list follows the names of layers, and which ones there are; what is ticked stays so.
    tick(panel, "fold 2")
    viewer.layers["fold 2"].name = "another rater"
    viewer.layers.remove("unticked")
    names = [panel.ask.others_list.item(row).text() for row in range(panel.ask.others_list.count())]
    assert names == ["another rater", "fold 1"]
    assert panel.ask.ticked() == [str(viewer.layers["another rater"].unique_id)]
    viewer.layers["another rater"].name = "fold 2"
    tick(panel, "fold 1", "fold 2")
    search(qtbot, panel)
    assert {row["kind"] for row in panel.model.rows} == {"disagreement"}
    assert sum(row["voxels"] for row in panel.model.rows) == (guess != truth).sum()
    assert panel.model.rows[0]["uncertainty"] == pytest.approx(2 / 3)
    assert "liver, rather spleen" in column(panel, "what")
    for place in range(len(panel.model.rows)):
        panel.show_row(place)
        press(qtbot, panel.fix_button)
    np.testing.assert_array_equal(layer_to_volume(predicted).data, truth)
    predicted.undo()
    assert panel.model.rows[-1]["state"] == "open"
    predicted.redo()
    press(qtbot, panel.reopen_button)
    assert (layer_to_volume(predicted).data != truth).sum() == panel.model.rows[-1]["voxels"]
    # Another dock takes the doubts up, and can paint.
    again = ErrorsPanel(viewer)
    qtbot.addWidget(again)
    again.show_row(len(again.model.rows) - 1)
    press(qtbot, again.fix_button)
    np.testing.assert_array_equal(layer_to_volume(predicted).data, truth)


def test_rules_know_the_patients_left(qtbot, tmp_path, monkeypatch):
    viewer = ViewerModel()
    grid = difficult_grid()
    toward = np.indices(SHAPE).reshape(3, -1).T @ grid.affine[2, :3]
    left = (toward > np.median(toward)).reshape(SHAPE)
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:7, 2:10, 2:13] = np.where(left, 2, 1)[2:7, 2:10, 2:13]  # liver right, spleen left
    wrong = np.argwhere(left & (np.indices(SHAPE)[0] == 8))[0]
    labels[tuple(wrong)] = 1  # a piece of liver far on the left
    add(viewer, Volume(labels, grid, "labels", "model", NAMES))
    panel = dock(viewer, qtbot, "rules")
    box = panel.ask.rules_box
    assert [rule.kind for rule in box.rules] == ["hole", "island", "leak"]
    for _ in range(3):
        press(qtbot, box.remove_button)
    press(qtbot, panel.find_button)
    assert "no rules" in panel.bar.message
    press(qtbot, box.add_button)
    box.kind_box.setCurrentIndex(box.kind_box.findData("swapped side"))
    box.kind_box.activated.emit(box.kind_box.currentIndex())
    box.label_box.setEditText("spleen")
    box.label_box.lineEdit().editingFinished.emit()
    box.partner_box.setEditText("liver")
    box.partner_box.lineEdit().editingFinished.emit()
    assert box.rules == [Rule("swapped side", 2, partner=1)]
    search(qtbot, panel)
    assert [(r["kind"], r["predicted"], r["reference"], r["voxels"]) for r in panel.model.rows] == [
        ("swapped side", 1, 2, 1)
    ]
    assert tuple(np.argwhere(layer_to_volume(panel.layer).data)[0]) == tuple(wrong)
    # Saved with names, and loaded where numbers differ.
    path = tmp_path / "rules.json"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    press(qtbot, box.save_button)
    assert json.loads(path.read_text())["rules"] == [{"kind": "swapped side", "label": "spleen", "partner": "liver"}]
    assert read_rules(path, {7: "Liver", 8: "spleen"}) == [Rule("swapped side", 8, partner=7)]
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    path.write_text('[{"kind": "volume", "label": "liver", "low": 1, "high": 2}]')
    press(qtbot, box.load_button)
    assert box.table.item(0, 2).text() == "1 to 2 ml"
    box.fields["low"].setText("3")
    box.fields["low"].editingFinished.emit()
    assert "low 3 above high 2" in box.note.text()
    assert box.rules == [Rule("volume", 1, low=1, high=2)]


def test_rules_that_are_none_are_one_sentence(tmp_path):
    path = tmp_path / "r.json"
    for text, said in (
        ("nonsense", "cannot be read"),
        ("[]", "holds no rules"),
        ('[{"kind": "hole", "label": "lung"}]', "no label 'lung'"),
        ('[{"kind": "hole", "limit": "2 ml"}]', "is no number"),
        ('[{"kind": "hole", "most": 2}]', "'most'"),
        ('[{"kind": "volume"}]', "low, high or both"),
    ):
        path.write_text(text)
        with pytest.raises((InputError, FileError), match=said):
            read_rules(path, {1: "liver"})
    rules = [Rule("intensity", 1, low=-50.0), Rule("leak", limit=3.5)]
    write_rules(path, rules)
    assert read_rules(path) == rules


def test_a_label_against_its_probability(qtbot):
    viewer = ViewerModel()
    guess, truth = scene()
    probability = np.where(truth == 2, 0.8, 0.1).astype(np.float32)
    predicted = add(viewer, Volume(guess, difficult_grid(), "labels", "model", NAMES))
    add(viewer, Volume(probability, difficult_grid(), "probability", "p"))
    panel = dock(viewer, qtbot, "probability")
    panel.ask.value_box.setValue(2)
    search(qtbot, panel)
    expected = ((guess == 2) != (truth == 2)) & ~((guess != 2) & (guess != 0))
    assert sum(row["voxels"] for row in panel.model.rows) == expected.sum()
    assert [(row["kind"], row["voxels"]) for row in panel.model.rows] == [("missed", 2), ("too large", 2)]
    assert panel.model.rows[0]["probability"] == pytest.approx(0.8)
    panel.show_row(0)
    press(qtbot, panel.fix_button)
    assert (layer_to_volume(predicted).data[0, 10, 1:3] == 2).all()
    panel.ask.value_box.setValue(9)
    search(qtbot, panel)
    assert "no label 9" in panel.bar.message


def panel_points(panel, outcome: str) -> list:
    """Return the world coordinates of all voxels of the first change of a kind."""
    review = panel.layer.metadata[REVIEW]
    number = next(row["number"] for row in review["rows"] if row["outcome"] == outcome)
    return [panel.layer.data_to_world(voxel) for voxel in np.transpose(voxels_of(review, number))]


def test_two_predictions_side_by_side(qtbot, tmp_path):
    viewer = ViewerModel()
    guess, truth = scene()
    second = truth.copy()
    second[1:5, 1:6, 5] = 0
    second[4, 1:6, 5] = 1  # 15 of 20 voxels are still missing: better
    second[5, 7:11, 8:10] = 1  # as before: kept
    second[8, 11, 5:9] = 2  # new
    first, reference = open_pair(viewer, None, guess, truth)
    add(viewer, Volume(second, difficult_grid(), "labels", "newer", NAMES))
    panel = dock(viewer, qtbot, "reference")
    panel.predicted_box.choose(first)
    panel.second_box.choose(first)
    search(qtbot, panel)
    assert "chosen twice" in panel.bar.message
    panel.second_box.choose(viewer.layers["newer"])
    search(qtbot, panel)
    found = {(row["outcome"], row["changed_voxels"]) for row in panel.model.rows}
    assert found == {("better", 5), ("new", 4), ("mended", 3), ("mended", 2), ("mended", 1), ("kept", 0)}
    gained, lost = np.sum((guess != truth) & (second == truth)), np.sum((guess == truth) & (second != truth))
    review = panel.layer.metadata[REVIEW]
    assert (review["gained"], review["lost"]) == (gained, lost)
    assert review["dice_first"] == pytest.approx(dice(guess, truth))
    assert review["dice"] == pytest.approx(dice(second, truth))
    ml = 3.1 * 0.8 * 1.7 / 1000
    assert f"Gained {gained * ml:.3g}" in panel.score.text()
    assert {*palette(review)[1]} == {"mended", "better", "kept", "worse", "new"}
    assert column(panel, "changed")[0] == f"{5 * ml * 1000:.0f}"
    panel.outcome_box.setCurrentIndex(panel.outcome_box.findData("new"))
    assert column(panel, "outcome") == ["new"]
    panel.show_row(0)
    assert viewer.dims.point[-3:] == pytest.approx(panel.layer.data_to_world(panel.model.rows[1]["voxel"])[-3:])
    assert not panel.fix_button.isEnabled()
    assert not panel.accept_button.isEnabled()
    for button in (panel.accept_button, panel.fix_button):
        assert "nothing is painted" in button.toolTip()
    assert "nothing is painted" in panel.about.text()
    panel.resize(350, 800)
    panel.show()
    assert panel.table.columnWidth(KEYS.index("what")) >= 96
    assert not panel.table.isColumnHidden(KEYS.index("outcome"))
    for state in ("accepted", "fixed"):
        panel.decide(state)
        assert "nothing is painted" in panel.bar.message
    np.testing.assert_array_equal(layer_to_volume(reference).data, truth)
    press(qtbot, panel.dismiss_button)
    panel.export(tmp_path / "changes.json")
    whole = json.loads((tmp_path / "changes.json").read_text(encoding="utf-8"))
    assert (whole["gained"], whole["lost"], whole["first"]) == (gained, lost, "model")
    assert whole["errors"][1]["outcome"] == "new"
    panel.export(tmp_path / "changes.csv")
    assert (tmp_path / "changes.csv").read_text().startswith("number,outcome,changed_voxels,changed_mm3,kind,")
    # What is painted by hand meanwhile, in any of the three, is taken into the score within a second.
    newer = viewer.layers["newer"]
    at = [tuple(np.array(newer.world_to_data(p)).round().astype(int)) for p in panel_points(panel, "new")]
    newer.data_setitem(tuple(np.transpose(at)), 0)
    reference.data_setitem(tuple(np.transpose(at)), 1)
    now, right = (layer_to_volume(one).data for one in (newer, reference))
    gained, lost = np.sum((guess != right) & (now == right)), np.sum((guess == right) & (now != right))
    score = panel.pair.score
    qtbot.waitUntil(lambda: (score.gained, score.lost) == (gained, lost), timeout=1000)
    assert score.dice() == pytest.approx(dice(now, right))
    assert score.dice_first() == pytest.approx(dice(guess, right))
    assert f"Gained {gained * ml:.3g}" in panel.score.text()
    assert "when found" in panel.score.text()
    # Of one prediction the same buttons paint again.
    panel.second_box.setCurrentIndex(0)
    search(qtbot, panel)
    assert "paint it into the prediction" in panel.fix_button.toolTip()
    assert not panel.table.isColumnHidden(KEYS.index("kind"))
    # Outlined while compared, and as before afterwards.
    assert reference.contour == 1
    viewer.layers.remove(first)
    assert reference.contour == 0


def test_frames_are_searched_one_by_one(qtbot):
    viewer = ViewerModel()
    guess, truth = scene()
    grid = difficult_grid().with_frames(Frames("time", (0.0, 0.5), "s"))
    newer = truth.copy()
    newer[8, 11, 5:9] = 2
    for name, maps in (("model", (truth, guess)), ("reference", (truth, truth)), ("newer", (newer, truth))):
        add(viewer, Volume(np.stack(maps), grid, "labels", name, NAMES))
    panel = dock(viewer, qtbot, "reference")
    for box, name in ((panel.predicted_box, "model"), (panel.reference_box, "reference"), (panel.second_box, "newer")):
        box.choose(viewer.layers[name])
    search(qtbot, panel)
    found = [(row["outcome"], row["voxels"], row["frame"]) for row in panel.model.rows]
    assert found[:2] == [("mended", 20, 1), ("mended", 8, 1)]
    assert ("new", 4, 0) in found
    np.testing.assert_array_equal(layer_to_volume(panel.layer).data[0] > 0, newer != truth)
    np.testing.assert_array_equal(layer_to_volume(panel.layer).data[1] > 0, guess != truth)
    panel.ask.choose("others")
    tick(panel, "newer")
    search(qtbot, panel)
    assert sum(row["voxels"] for row in panel.model.rows if row["frame"] == 0) == 4
    panel.show_row([row["frame"] for row in panel.model.rows].index(0))
    assert viewer.dims.current_step[0] == 0


def test_every_kind_has_a_colour_and_a_meaning():
    from napari_lightbox.ops._doubts import DOUBTS
    from napari_lightbox.ops._errors import KINDS

    assert set(COLOURS) == set(MEANINGS) == {*KINDS, *DOUBTS}
    for kinds in (KINDS, DOUBTS):
        assert len({COLOURS[kind] for kind in kinds}) == len(kinds)
