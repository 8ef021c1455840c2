"""What the dock of errors is made of: thousands of rows, a score that follows changes, and room for other docks."""

import time

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from test_errors_panel import click, dice, found_in, press, scene

from napari_lightbox.viewer.panels._error_rows import KEYS, ErrorRows
from napari_lightbox.viewer.panels._error_score import PREDICTED, REFERENCE, Score, changed


def test_ten_thousand_rows_are_sorted_at_once(qtbot):
    row = {"kind": "missed", "predicted": 0, "reference": 1, "probability": float("nan"), "depth": float("inf"),
           "uncertainty": float("nan"), "frame": None, "state": "open", "comment": ""}  # fmt: skip
    rng = np.random.default_rng(3)
    rows = [
        {**row, "number": i + 1, "size": float(v), "voxels": int(v), "x": v, "y": v, "z": v}
        for i, v in enumerate(rng.integers(1, 500, 10_000))
    ]
    model = ErrorRows()
    model.show({"rows": rows, "names": {}, "unit": "mm", "averages": [], "frames": 0})
    begun = time.perf_counter()
    model.sort(KEYS.index("size"), Qt.SortOrder.DescendingOrder)
    assert time.perf_counter() - begun < 0.5
    sizes = [rows[i]["size"] for i in model.shown]
    assert sizes == sorted(sizes, reverse=True)
    assert model.data(model.index(0, KEYS.index("depth"))) == "\u221e"


def test_score_follows_changes(rng):
    maps = [rng.choice([0, 1, 2, 70_000], (6, 7, 8)) for _ in range(2)]
    score = Score(*(one.copy() for one in maps))
    assert score.dice() == pytest.approx(dice(*maps))
    for which in (PREDICTED, REFERENCE):
        flat = rng.choice(maps[0].size, 100, replace=False)
        maps[which].ravel()[flat] = rng.choice([0, 1, 5], 100)
        found = changed(maps[which], score.maps[which])
        assert set(found) <= set(flat)
        at = np.unravel_index(found, maps[0].shape)
        score.update(which, at, maps[which][at])
        assert score.dice() == pytest.approx(dice(*maps))
    assert np.isnan(Score(np.zeros((2, 2), int), np.zeros((2, 2), int)).mean())


@pytest.mark.parametrize(("button", "which"), [("fix_button", 0), ("accept_button", 1)])
def test_an_undo_in_a_hidden_layer_is_followed(qtbot, button, which):
    _, panel, *layers = found_in(ViewerModel(), qtbot)
    for layer in layers:
        layer.visible = False
    guess, truth = scene()
    row = panel.model.rows[0]
    click(qtbot, panel, 0)
    press(qtbot, getattr(panel, button))
    decided = row["state"]
    assert decided != "open"
    after = panel.pair.score.dice()
    layers[which].undo()
    qtbot.waitUntil(lambda: row["state"] == "open", timeout=2000)
    assert panel.pair.score.dice() == pytest.approx(dice(guess, truth))
    assert (panel.layer.data == 1).sum() == 20
    layers[which].redo()
    qtbot.waitUntil(lambda: row["state"] == decided, timeout=2000)
    assert panel.pair.score.dice() == pytest.approx(after)
    # What is decided next does not come before what was undone.
    layers[which].undo()
    click(qtbot, panel, 1)
    press(qtbot, panel.fix_button)
    assert [one["state"] for one in panel.model.rows[:2]] == ["open", "fixed"]


def test_the_dock_leaves_room_for_another(qtbot):
    panel = found_in(ViewerModel(), qtbot)[1]
    assert panel.minimumSizeHint().height() < 420
    panel.resize(350, panel.minimumSizeHint().height())
    panel.show()
    for button in (panel.fix_button, panel.export_button):
        assert panel.rect().contains(button.mapTo(panel, button.rect().bottomRight()))
    assert panel.table.height() >= 150
    # In a high dock the table has the room.
    panel.resize(350, 1000)
    qtbot.waitUntil(lambda: panel.table.height() > 300, timeout=1000)
