"""The dock of errors, driven as a hand would, against positions and scores worked out with numpy."""

import csv
import gc
import json
import time
import weakref

import numpy as np
import pytest
from difficult_grids import difficult_grid
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QFileDialog
from three_planes_tools import open_dock, settle

from napari_lightbox.errors import FileError, InputError
from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.viewer import asking
from napari_lightbox.viewer.layers import layer_to_volume, volume_to_layer
from napari_lightbox.viewer.panels import _error_work
from napari_lightbox.viewer.panels._error_rows import KEYS
from napari_lightbox.viewer.panels._error_work import REVIEW, as_found
from napari_lightbox.viewer.panels.errors import ErrorsPanel
from napari_lightbox.volume import Label, Volume

NAMES = {1: Label("liver", "#ff0000"), 2: Label("spleen", "#00ff00")}
SHAPE = (9, 12, 15)


def add(viewer, volume: Volume):
    data, arguments, kind = volume_to_layer(volume)
    return getattr(viewer, f"add_{kind}")(data, **arguments)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Return a prediction and a reference, as stored, that differ in six known pieces."""
    truth = np.zeros(SHAPE, np.uint8)
    truth[1:5, 1:6, 1:6] = 1
    truth[5:8, 7:11, 8:13] = 2
    truth[0, 10, 1:3] = 2
    guess = truth.copy()
    guess[1:5, 1:6, 5] = 0  # 20 voxels: too small
    guess[5, 7:11, 8:10] = 1  # 8 voxels: spleen taken for liver
    guess[0, 10, 1:3] = 0  # 2 voxels: missed
    guess[8, 0, 12:15] = 1  # 3 voxels: invented
    guess[4, 7:9, 11] = 2  # 2 voxels: too large
    guess[1, 1, 0] = 1  # 1 voxel: too large
    return guess, truth


def dice(a: np.ndarray, b: np.ndarray) -> dict[int, float]:
    labels = sorted(set(np.unique(a)) | set(np.unique(b)) - {0})
    return {int(v): 2 * np.sum((a == v) & (b == v)) / (np.sum(a == v) + np.sum(b == v)) for v in labels if v}


def open_pair(viewer, grid=None, guess=None, truth=None):
    if guess is None:
        guess, truth = scene()
    grid = difficult_grid(guess.shape) if grid is None else grid
    predicted = add(viewer, Volume(guess, grid, "labels", "model", NAMES))
    return predicted, add(viewer, Volume(truth, grid, "labels", "reference", NAMES))


def search(qtbot, panel) -> None:
    qtbot.mouseClick(panel.find_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not panel.bar.running, timeout=30_000)


@pytest.fixture
def opened(qtbot):
    """Return a viewer without a window, as that takes a second, a pair on a difficult grid, and the dock."""
    return found_in(ViewerModel(), qtbot)


def found_in(viewer, qtbot):
    predicted, reference = open_pair(viewer)
    panel = ErrorsPanel(PublicOnlyProxy(viewer))
    qtbot.addWidget(panel)
    search(qtbot, panel)
    return viewer, panel, predicted, reference


def column(panel, key: str) -> list[str]:
    model = panel.model
    return [model.data(model.index(i, KEYS.index(key))) for i in range(model.rowCount())]


def click(qtbot, panel, place: int) -> None:
    panel.table.clicked.emit(panel.model.index(place, 0))


def press(qtbot, button) -> None:
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def test_list_and_layer_on_an_oblique_flipped_volume(opened):
    _, panel, predicted, reference = opened
    guess, truth = scene()
    assert (panel.predicted_box.layer, panel.reference_box.layer) == (predicted, reference)
    assert column(panel, "kind") == ["too small", "confused", "invented", "missed", "too large", "too large"]
    assert column(panel, "what")[:2] == ["liver", "spleen as liver"]
    assert [row["voxels"] for row in panel.model.rows] == [20, 8, 3, 2, 2, 1]
    grid = difficult_grid()
    for row, (p, r, count) in zip(panel.model.rows, [(0, 1, 20), (1, 2, 8), (1, 0, 3)], strict=False):
        assert (row["predicted"], row["reference"], row["voxels"]) == (p, r, count)
        assert row["size"] == pytest.approx(count * 3.1 * 0.8 * 1.7)
    z, y, x = grid.to_world(np.array([2.5, 3.0, 5.0]))
    assert [panel.model.rows[0][axis] for axis in "xyz"] == pytest.approx([x, y, z])
    layer = panel.layer
    assert layer.name == "errors of model"
    volume = layer_to_volume(layer)
    assert volume.grid.same_space(grid)
    assert volume.grid.shape == grid.shape
    np.testing.assert_array_equal(volume.data > 0, guess != truth)
    assert volume.data[2, 2, 5] == 1
    assert layer.get_color(1)[:3] == pytest.approx([0xE6 / 255, 0x9F / 255, 0], abs=0.01)
    assert layer.get_color(0) is None
    assert not layer.editable


def test_a_click_enter_and_keys_fly_there(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    _, panel, *_ = found_in(viewer, qtbot)
    panel.show()
    begun = time.perf_counter()
    click(qtbot, panel, 1)
    assert time.perf_counter() - begun < 2  # a canvas without a card, and a machine that does other work

    def stands_at(number: int) -> None:
        row = panel.model.rows[number - 1]
        world = np.array(panel.layer.data_to_world(row["voxel"]))
        assert viewer.dims.point == pytest.approx(tuple(world), abs=1e-6)
        assert panel.layer.data[tuple(row["voxel"])] == number
        shown = world[list(viewer.dims.displayed)]
        assert viewer.scene.camera.center[-2:] == pytest.approx(tuple(shown), abs=1e-3)
        ends = np.array([panel.layer.data_to_world(row[key]) for key in ("low", "high")])
        half = np.array(viewer.canvas.size) / viewer.scene.camera.zoom / 2
        assert (np.abs(ends[:, list(viewer.dims.displayed)] - shown) <= half + 1e-6).all()

    stands_at(2)
    assert "spleen taken for liver" in panel.about.text()
    for key, number in (("N", 3), ("N", 4), ("Shift-N", 3)):
        next(function for name, function in viewer.keymap.items() if str(name) == key.replace("-", "+"))(viewer)
        stands_at(number)
    qtbot.keyClick(panel.table, Qt.Key.Key_Down)
    qtbot.keyClick(panel.table, Qt.Key.Key_Return)
    stands_at(4)
    press(qtbot, panel.previous_button)
    press(qtbot, panel.previous_button)
    stands_at(2)
    assert panel.table.selectionModel().selectedRows()[0].row() == 1
    # In 3D too, and at the ends nothing happens.
    viewer.dims.ndisplay = 3
    panel.show_row(5)
    panel.step(1)
    assert panel.current == 6
    assert viewer.dims.point == pytest.approx(panel.layer.data_to_world(panel.model.rows[5]["voxel"]), abs=1e-6)


def test_the_three_planes_fly_along(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    _, panel, *_ = found_in(viewer, qtbot)
    planes = open_dock(viewer, qtbot)
    click(qtbot, panel, 2)
    world = np.array(panel.layer.data_to_world(panel.model.rows[2]["voxel"]))
    settle(qtbot, planes)
    assert planes.point == pytest.approx(world)
    for pane in planes.panes.values():
        dims = pane.model.dims
        assert [dims.point[axis] for axis in dims.not_displayed] == pytest.approx(world[list(dims.not_displayed)])
        shown = world[list(dims.displayed)]
        assert pane.model.scene.camera.center[-2:] == pytest.approx(tuple(shown), abs=1e-3)


def test_sort_and_filter(opened, qtbot):
    _, panel, *_ = opened
    panel.resize(1100, 900)
    panel.show()
    qtbot.wait(20)
    header = panel.table.horizontalHeader()
    for key, wanted in (("size", ["1", "2", "2", "3", "8", "20"]), ("kind", None)):
        at = KEYS.index(key)
        where = QPoint(header.sectionViewportPosition(at) + 8, header.height() // 2)
        qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=where)
        if wanted:
            assert [str(panel.model.rows[i]["voxels"]) for i in panel.model.shown] == wanted
        else:
            assert column(panel, "kind")[0] == "missed"
    panel.table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
    panel.kind_box.setCurrentIndex(panel.kind_box.findData("too large"))
    assert column(panel, "number") == ["5", "6"]
    panel.kind_box.setCurrentIndex(0)
    panel.label_box.setCurrentText("spleen")
    assert column(panel, "number") == ["2", "4", "5"]
    panel.least_box.setValue(3 * 3.1 * 0.8 * 1.7)
    assert column(panel, "number") == ["2"]
    panel.least_box.setValue(0)
    panel.show_row(1)
    press(qtbot, panel.dismiss_button)
    panel.state_box.setCurrentIndex(panel.state_box.findData("open"))
    assert column(panel, "number") == ["2", "5"]
    # The next one takes the row of the one that has gone.
    panel.step(1)
    assert panel.current == 5
    panel.label_box.setCurrentIndex(0)
    assert panel.table.isColumnHidden(KEYS.index("frame"))
    assert panel.table.isColumnHidden(KEYS.index("probability"))


def test_a_mended_error_can_still_be_explained(opened, qtbot):
    _, panel, *_ = opened
    before = layer_to_volume(panel.layer).data.copy()
    panel.show_row(0)
    press(qtbot, panel.fix_button)
    after = layer_to_volume(panel.layer)
    assert not (after.data == 1).any()
    found = after.replace(data=as_found(panel.layer, 1))
    np.testing.assert_array_equal(found.data, np.where(before == 1, 1, 0))
    assert found.data.dtype == before.dtype
    assert not as_found(panel.layer, 99).any()


def test_fix_undo_redo_and_the_score(opened, qtbot):
    _, panel, predicted, _ = opened
    guess, truth = scene()
    assert panel.pair.score.dice() == pytest.approx(dice(guess, truth))
    click(qtbot, panel, 0)
    begun = time.perf_counter()
    press(qtbot, panel.fix_button)
    assert time.perf_counter() - begun < 1
    mended = guess.copy()
    mended[1:5, 1:6, 5] = 1
    np.testing.assert_array_equal(layer_to_volume(predicted).data, mended)
    assert panel.pair.score.dice() == pytest.approx(dice(mended, truth))
    assert f"{np.mean(list(dice(mended, truth).values())):.4f}" in panel.score.text()
    assert predicted.metadata["lightbox"]["edited"]
    row = panel.layer.metadata[REVIEW]["rows"][0]
    assert row["state"] == "fixed"
    assert not (panel.layer.data == 1).any()
    assert not panel.fix_button.isEnabled()
    # napari's own keys undo in the layer that is selected.
    layer = panel._viewer.layers.selection.active
    assert layer is predicted
    layer.undo()
    np.testing.assert_array_equal(layer_to_volume(predicted).data, guess)
    assert row["state"] == "open"
    assert (panel.layer.data == 1).sum() == 20
    assert panel.pair.score.dice() == pytest.approx(dice(guess, truth))
    assert panel.fix_button.isEnabled()
    layer.redo()
    assert row["state"] == "fixed"
    assert panel.pair.score.dice() == pytest.approx(dice(mended, truth))
    press(qtbot, panel.reopen_button)
    np.testing.assert_array_equal(layer_to_volume(predicted).data, guess)
    assert row["state"] == "open"


def test_accept_dismiss_and_painting_by_hand(opened, qtbot):
    _, panel, predicted, reference = opened
    guess, truth = scene()
    click(qtbot, panel, 2)
    press(qtbot, panel.accept_button)
    truth[8, 0, 12:15] = 1
    np.testing.assert_array_equal(layer_to_volume(reference).data, truth)
    np.testing.assert_array_equal(layer_to_volume(predicted).data, guess)
    click(qtbot, panel, 3)
    press(qtbot, panel.dismiss_button)
    assert panel.pair.score.dice() == pytest.approx(dice(guess, truth))
    assert [row["state"] for row in panel.model.rows] == ["open", "open", "accepted", "dismissed", "open", "open"]
    # A stroke and a whole new array are compared in the background.
    predicted.data_setitem((np.array([4, 4]), np.array([2, 3]), np.array([6, 6])), 2)
    now = layer_to_volume(predicted).data
    qtbot.waitUntil(lambda: panel.pair.score.dice() == pytest.approx(dice(now, truth)), timeout=5000)
    reference.data = np.zeros_like(reference.data)
    qtbot.waitUntil(lambda: set(panel.pair.score.dice().values()) == {0.0}, timeout=5000)
    assert panel.model.rows[2]["state"] == "open"


def test_hidden_and_unfit_layers(qtbot):
    viewer = ViewerModel()
    guess, truth = scene()
    predicted, reference = open_pair(viewer, None, guess.astype(np.int32) * 300, truth)
    predicted.visible = False
    viewer.dims.set_current_step(0, 7)
    panel = ErrorsPanel(viewer)
    qtbot.addWidget(panel)
    search(qtbot, panel)
    number = next(row["number"] for row in panel.model.rows if row["predicted"] == 300)
    click(qtbot, panel, number - 1)
    press(qtbot, panel.accept_button)
    assert "up to 255, not 300" in panel.bar.message
    assert panel.model.rows[number - 1]["state"] == "open"
    before = predicted.data.copy()
    press(qtbot, panel.fix_button)
    assert panel.model.rows[number - 1]["state"] == "fixed"
    assert (predicted.data != before).sum() == panel.model.rows[number - 1]["voxels"]
    predicted.visible = True
    reference.editable = False
    click(qtbot, panel, 0 if number > 1 else 1)
    press(qtbot, panel.accept_button)
    assert "locked" in panel.bar.message


def test_four_d_flies_to_the_frame(qtbot):
    viewer = ViewerModel()
    guess, truth = scene()
    frames = Frames("time", (0.0, 0.5, 1.0), "s")
    grid = difficult_grid(SHAPE).with_frames(frames)
    many = np.stack([truth, truth, guess])
    many[1, 3, 3, 3] = 2
    image = np.arange(np.prod(grid.shape), dtype=np.float32).reshape(grid.shape)
    add(viewer, Volume(image, grid, "image", "sure"))
    predicted, _ = open_pair(viewer, grid, many, np.stack([truth] * 3))
    panel = ErrorsPanel(viewer)
    qtbot.addWidget(panel)
    panel.probability_box.choose(viewer.layers["sure"])
    search(qtbot, panel)
    assert [row["frame"] for row in panel.model.rows] == [2] * 5 + [1, 2]
    assert column(panel, "frame")[5] == "2"
    row = panel.model.rows[5]
    assert row["probability"] == image[1, 3, 3, 3]
    assert not panel.table.isColumnHidden(KEYS.index("frame")) or panel.table.viewport().width() < 500
    viewer.dims.set_current_step(0, 0)
    click(qtbot, panel, 5)
    assert viewer.dims.current_step[0] == 1
    assert viewer.dims.point == pytest.approx(panel.layer.data_to_world(row["voxel"]), abs=1e-6)
    assert panel.layer.data[tuple(row["voxel"])] == 6
    assert [row[axis] for axis in "zyx"] == pytest.approx(grid.to_world(np.array([3, 3, 3])))
    press(qtbot, panel.fix_button)
    np.testing.assert_array_equal(layer_to_volume(predicted).data[1], truth)
    assert layer_to_volume(panel.layer).grid.frames == frames


def test_the_review_is_exported_and_kept_with_the_layer(opened, qtbot, tmp_path, monkeypatch):
    viewer, panel, *_ = opened
    click(qtbot, panel, 1)
    panel.show()
    panel.comment.setFocus()
    qtbot.keyClicks(panel.comment, "No, \u00b5 new")
    assert panel.current == 2
    press(qtbot, panel.fix_button)
    path = tmp_path / "review.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), "Table (*.csv)"))
    press(qtbot, panel.export_button)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert (rows[1]["state"], rows[1]["comment"]) == ("fixed", "No, \u00b5 new")
    assert (rows[1]["predicted_name"], rows[1]["reference_name"]) == ("liver", "spleen")
    z, y, x = difficult_grid().to_world(np.array([5.0, 8.5, 8.5]))
    assert [float(rows[1][f"{axis}_mm"]) for axis in "xyz"] == pytest.approx([x, y, z])
    assert float(rows[1]["size_mm3"]) == pytest.approx(8 * 3.1 * 0.8 * 1.7)
    panel.export(tmp_path / "review.json")
    whole = json.loads((tmp_path / "review.json").read_text(encoding="utf-8"))
    assert whole["errors"][1]["centre_lps_mm"] == pytest.approx([x, y, z])
    assert whole["errors"][1]["state"] == "fixed"
    assert whole["dice"]["2"] > whole["dice_when_found"]["2"]
    assert whole["errors"][0]["probability"] is None
    # A name that the dialog has not asked about: the file is kept.
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "review"), "JSON (*.json)"))
    monkeypatch.setattr(asking, "confirm", lambda *_: False)
    before = (tmp_path / "review.json").read_bytes()
    press(qtbot, panel.dismiss_button)
    press(qtbot, panel.export_button)
    assert "already holds" in panel.bar.message
    assert (tmp_path / "review.json").read_bytes() == before
    with pytest.raises(FileError, match="does not exist"):
        panel.export(tmp_path / "nowhere" / "review.csv")
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix in (".csv", ".json")) == ["review.csv", "review.json"]
    # Another dock takes the review up, and goes on with it.
    again = ErrorsPanel(viewer)
    qtbot.addWidget(again)
    assert again.layer is panel.layer
    assert again.model.rows[1]["comment"] == "No, \u00b5 new"
    qtbot.waitUntil(lambda: again.pair is not None, timeout=10_000)
    assert again.pair.score.dice() == pytest.approx(panel.pair.score.dice())


def test_what_cannot_be_compared_is_said(qtbot):
    viewer = ViewerModel()
    panel = ErrorsPanel(viewer)
    qtbot.addWidget(panel)
    press(qtbot, panel.find_button)
    assert "two Labels layers are needed" in panel.bar.message
    guess, truth = scene()
    layer = add(viewer, Volume(guess, difficult_grid(), "labels", "model"))
    # Nothing is compared with itself.
    assert (panel.predicted_box.layer, panel.reference_box.layer) == (layer, None)
    press(qtbot, panel.find_button)
    assert "two Labels layers are needed" in panel.bar.message
    panel.reference_box.choose(layer)
    press(qtbot, panel.find_button)
    assert "chosen twice" in panel.bar.message
    grid = difficult_grid()
    moved = Grid(grid.affine @ np.diag([1, 1, 1.5, 1]), grid.shape)
    add(viewer, Volume(truth, moved, "labels", "truth"))
    qtbot.waitUntil(lambda: panel.reference_box.layer.name == "truth", timeout=2000)
    assert panel.predicted_box.layer is layer
    press(qtbot, panel.find_button)
    assert "another grid" in panel.bar.message
    assert "spacing" in panel.bar.message
    assert "Resample" in panel.bar.message
    frames = grid.with_frames(Frames("time", (0.0, 1.0), "s"))
    panel.reference_box.choose(add(viewer, Volume(np.stack([truth] * 2), frames, "labels", "beats")))
    press(qtbot, panel.find_button)
    assert "beats has 2 frames and model no frames" in panel.bar.message
    with pytest.raises(InputError, match="no review"):
        panel.export("never.csv")
    assert len(viewer.layers) == 3


def test_cancel_leaves_nothing(make_napari_viewer, qtbot, monkeypatch):
    from napari_lightbox.progress import track

    def slow(*_, **__):
        for _ in track(range(10_000), "pieces"):
            time.sleep(0.005)

    monkeypatch.setattr(_error_work, "find_errors", slow)
    viewer = make_napari_viewer()
    open_pair(viewer)
    panel = ErrorsPanel(viewer)
    qtbot.addWidget(panel)
    press(qtbot, panel.find_button)
    qtbot.waitUntil(lambda: "pieces" in panel.bar.number.text(), timeout=5000)
    assert not panel.find_button.isEnabled()
    press(qtbot, panel.bar.cancel_button)
    qtbot.waitUntil(lambda: not panel.bar.running, timeout=2000)
    assert "cancelled" in panel.bar.message
    assert panel.find_button.isEnabled()
    # A dock that is closed in the middle, and then a viewer.
    dock = viewer.window.add_dock_widget(panel, name="Errors")
    qtbot.wait(20)
    press(qtbot, panel.find_button)
    job = panel.bar.runner.job
    viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: not job.running, timeout=2000)
    assert len(viewer.layers) == 2
    other = ErrorsPanel(viewer)
    viewer.window.add_dock_widget(other, name="Errors")
    qtbot.wait(20)
    press(qtbot, other.find_button)
    job = other.bar.runner.job
    viewer.close()
    qtbot.waitUntil(lambda: not job.running, timeout=4000)


def test_layers_removed_renamed_and_the_dock_closed(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    earlier = viewer.bind_key("N", lambda viewer: None)
    predicted, reference = open_pair(viewer)
    panel = ErrorsPanel(viewer)
    dock = viewer.window.add_dock_widget(panel, name="Errors")
    keys = {str(key): function for key, function in viewer.keymap.items()}
    assert {"N", "Shift+N"} <= set(keys)
    assert keys["N"] is not earlier
    reference.opacity = 0.5
    search(qtbot, panel)
    assert (predicted.contour, reference.contour) == (1, 1)
    predicted.name = "other"
    panel.show_row(0)
    press(qtbot, panel.fix_button)
    viewer.layers.remove(predicted)
    assert "removed" in panel.bar.message
    assert (reference.contour, reference.opacity) == (0, 0.5)
    assert panel.pair is None
    assert not panel.accept_button.isEnabled()
    panel.show_row(1)
    press(qtbot, panel.dismiss_button)
    assert panel.model.rows[1]["state"] == "dismissed"
    press(qtbot, panel.previous_button)
    press(qtbot, panel.reopen_button)
    assert "not both open" in panel.bar.message  # the prediction is gone
    viewer.layers.remove(panel.layer)
    assert panel.model.rowCount() == 0
    assert panel.layer is None
    gone = weakref.ref(panel)
    viewer.window.remove_dock_widget(dock)
    del panel, dock

    def is_gone() -> bool:
        gc.collect()
        return gone() is None

    qtbot.waitUntil(is_gone, timeout=5000)
    left = {str(key) for key in viewer.keymap}
    assert "Shift+N" not in left
    assert "N" in left
    reference.data_setitem((np.array([0]), np.array([0]), np.array([0])), 2)
    reference.name = "again"
    viewer.layers.clear()


def test_a_picture_and_equal_labels(qtbot):
    viewer = ViewerModel()
    truth = np.zeros((20, 30), np.uint8)
    truth[5:15, 5:15] = 1
    guess = np.roll(truth, 1, axis=1)
    predicted, reference = viewer.add_labels(guess, name="a"), viewer.add_labels(truth, name="gt")
    panel = ErrorsPanel(viewer)
    qtbot.addWidget(panel)
    search(qtbot, panel)
    assert panel.reference_box.layer is reference
    assert [row["voxels"] for row in panel.model.rows] == [10, 10]
    assert panel.model.headerData(KEYS.index("size"), Qt.Orientation.Horizontal) == "Size voxels"
    for place in (0, 1):
        panel.show_row(place)
        press(qtbot, panel.fix_button)
    np.testing.assert_array_equal(predicted.data, truth)
    assert panel.pair.score.dice() == {1: 1.0}
    search(qtbot, panel)
    assert panel.model.rowCount() == 0
    assert panel.bar.message == "no errors"
    assert panel.about.text() == "No errors."
    assert panel.review_box.count() == 2
