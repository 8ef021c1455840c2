"""The table of labels against numbers computed by hand with numpy."""

import csv
import threading

import numpy as np
import pytest
from difficult_grids import difficult_grid
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_lightbox.errors import FileError, InputError
from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.viewer.layers import layer_to_volume, volume_to_layer
from napari_lightbox.viewer.panels import labels_table as panel_module
from napari_lightbox.viewer.panels._label_rows import KEYS, fullest_point, number
from napari_lightbox.viewer.panels.labels_table import ALL, LabelsTable
from napari_lightbox.volume import Label, Volume

NAMES = {1: Label("liver", "#ff0000"), 2: Label("spleen")}


def add(viewer, volume: Volume):
    data, arguments, kind = volume_to_layer(volume)
    return getattr(viewer, f"add_{kind}")(data, **arguments)


@pytest.fixture
def pair(rng):
    """Return an image in HU and labels 1, 2 and 7 on the same difficult grid."""
    grid = difficult_grid()
    image = rng.normal(40, 20, grid.shape).astype(np.float32)
    labels = rng.choice([0, 0, 0, 1, 2, 7], grid.shape).astype(np.uint8)
    return (
        Volume(image, grid, name="ct", meta={"modality": "CT", "unit": "HU"}),
        Volume(labels, grid, "labels", "organs", NAMES),
    )


def ready(qtbot, panel) -> list[dict]:
    qtbot.waitUntil(lambda: not panel.busy, timeout=10_000)
    return panel.model.rows


def text(panel, row: int, key: str) -> str:
    return panel.model.data(panel.model.index(row, KEYS.index(key)))


def check(rows, labels: np.ndarray, image: np.ndarray | None, voxel_volume: float) -> None:
    assert [row["label"] for row in rows] == [v for v in np.unique(labels) if v]
    for row in rows:
        mask = labels == row["label"]
        assert row["voxels"] == mask.sum()
        assert row["volume_ml"] == pytest.approx(mask.sum() * voxel_volume / 1000)
        if image is not None:
            assert row["mean"] == pytest.approx(image[mask].mean(dtype=float), rel=1e-6)
            assert row["sd"] == pytest.approx(image[mask].std(dtype=float), rel=1e-6)


def test_rows_equal_numpy_on_a_difficult_grid(make_napari_viewer, qtbot, pair):
    viewer = make_napari_viewer()
    panel = LabelsTable(PublicOnlyProxy(viewer))
    qtbot.addWidget(panel)
    assert ready(qtbot, panel) == []
    assert "Labels layer" in panel.note.text()
    image, labels = pair
    add(viewer, image)
    layer = add(viewer, labels)
    rows = ready(qtbot, panel)
    assert panel.labels is layer
    assert panel.image.name == "ct"
    check(rows, labels.data, image.data, 3.1 * 0.8 * 1.7)
    assert [row["name"] for row in rows] == ["liver", "spleen", ""]
    assert rows[0]["colour"] == "#ff0000"
    header = [panel.model.headerData(i, Qt.Orientation.Horizontal) for i in range(len(KEYS))]
    assert header[4:] == ["Volume (ml)", "Mean (HU)", "SD (HU)", "Voxels"]
    assert panel.table.isColumnHidden(KEYS.index("frame"))


def test_work_is_done_off_the_gui_thread(make_napari_viewer, qtbot, pair, monkeypatch):
    seen = []
    original = panel_module.Work.__call__
    monkeypatch.setattr(
        panel_module.Work, "__call__", lambda work: (seen.append(threading.get_ident()), original(work))[1]
    )
    viewer = make_napari_viewer()
    add(viewer, pair[1])
    panel = LabelsTable(viewer)
    qtbot.addWidget(panel)
    ready(qtbot, panel)
    assert seen
    assert threading.get_ident() not in seen


def test_painting_undo_and_redo_update_the_rows(make_napari_viewer, qtbot, pair):
    viewer = make_napari_viewer()
    image, labels = pair
    add(viewer, image)
    layer = add(viewer, labels)
    panel = LabelsTable(viewer)
    qtbot.addWidget(panel)
    before = list(ready(qtbot, panel))
    layer.data_setitem((np.array([0, 0]), np.array([0, 1]), np.array([0, 0])), 9)
    assert panel.model.stale
    assert not panel.export_button.isEnabled()
    with pytest.raises(InputError, match="current"):
        panel.export("never.csv")
    check(ready(qtbot, panel), layer_to_volume(layer).data, image.data, 3.1 * 0.8 * 1.7)
    assert panel.model.rows[-1]["voxels"] == 2
    layer.undo()
    assert ready(qtbot, panel) == before
    layer.redo()
    assert ready(qtbot, panel)[-1]["label"] == 9
    # A stroke of the brush.
    layer.brush_size, layer.selected_label = 1, 11
    layer.paint((1, 2, 3), 11)
    assert ready(qtbot, panel)[-1] == panel.model.rows[-1]
    assert panel.model.rows[-1]["label"] == 11


def test_slices_do_not_make_it_measure_again(make_napari_viewer, qtbot, pair):
    viewer = make_napari_viewer()
    add(viewer, pair[1])
    panel = LabelsTable(viewer)
    qtbot.addWidget(panel)
    ready(qtbot, panel)
    viewer.dims.set_current_step(0, 1)
    viewer.dims.order = (1, 0, 2)
    assert not panel.busy
    assert not panel.model.stale


def four_d(rng, count=3):
    frames = Frames("time", tuple(0.5 * i for i in range(count)), "s")
    grid = Grid.from_spacing((2.0, 1.0, 1.0), (count, 4, 5, 6), frames=frames)
    labels = rng.choice([0, 1, 2], grid.shape).astype(np.uint8)
    labels[1][labels[1] == 2] = 0
    return Volume(rng.normal(size=grid.shape), grid, name="beats"), Volume(labels, grid, "labels", "heart", NAMES)


def test_four_d_measures_the_frame_shown_or_all(make_napari_viewer, qtbot, rng):
    viewer = make_napari_viewer()
    image, labels = four_d(rng)
    add(viewer, image)
    add(viewer, labels)
    viewer.dims.set_current_step(0, 0)
    panel = LabelsTable(viewer)
    qtbot.addWidget(panel)
    check(ready(qtbot, panel), labels.data[0], image.data[0], 2.0)
    assert panel.note.text().startswith("frame 1")
    viewer.dims.set_current_step(0, 1)
    assert panel.model.stale
    check(ready(qtbot, panel), labels.data[1], image.data[1], 2.0)
    assert panel.note.text().startswith("frame 2")
    panel.frames_box.setCurrentText(ALL)
    rows = ready(qtbot, panel)
    assert "all 3 frames" in panel.note.text()
    assert not panel.table.isColumnHidden(KEYS.index("frame"))
    for frame in range(3):
        check([row for row in rows if row["frame"] == frame], labels.data[frame], image.data[frame], 2.0)
    viewer.dims.set_current_step(0, 2)
    assert not panel.busy
    panel.table.clicked.emit(panel.table.model().index(0, 0))
    qtbot.waitUntil(lambda: viewer.dims.current_step[0] == panel.model.rows[0]["frame"], timeout=5000)


def test_labels_without_frames_under_a_4d_image(make_napari_viewer, qtbot, rng):
    viewer = make_napari_viewer()
    image, labels = four_d(rng)
    still = Volume(labels.data[0], labels.grid.without_frames(), "labels", "heart")
    add(viewer, image)
    add(viewer, still)
    viewer.dims.set_current_step(0, 2)
    panel = LabelsTable(viewer)
    qtbot.addWidget(panel)
    check(ready(qtbot, panel), still.data, image.data[2], 2.0)
    panel.frames_box.setCurrentText(ALL)
    rows = ready(qtbot, panel)
    check([row for row in rows if row["frame"] == 1], still.data, image.data[1], 2.0)


def test_a_click_selects_the_label_and_shows_where_most_of_it_is(make_napari_viewer, qtbot, pair):
    viewer = make_napari_viewer()
    grid = pair[0].grid
    data = np.zeros(grid.shape, np.uint8)
    data[2, 3:6, 4:8] = 5
    data[7, 9, 12] = 5
    data[1, 1, 1] = 6
    layer = add(viewer, Volume(data, grid, "labels", "organs"))
    panel = LabelsTable(viewer)
    qtbot.addWidget(panel)
    ready(qtbot, panel)
    viewer.scene.camera.zoom = 500
    panel.table.clicked.emit(panel.table.model().index(0, 0))
    shown = np.asarray(layer.data) == 5
    wanted = tuple(int(np.argmax(shown.sum(axis=tuple(a for a in range(3) if a != axis)))) for axis in range(3))
    qtbot.waitUntil(lambda: tuple(viewer.dims.current_step) == wanted, timeout=5000)
    assert layer.selected_label == 5
    centre = np.array([viewer.dims.point[axis] for axis in viewer.dims.displayed])
    assert viewer.scene.camera.center[-2:] == pytest.approx(tuple(centre), abs=1e-3)
    layer.selected_label = 6
    assert panel.table.selectionModel().selectedRows()[0].row() == 1
    layer.selected_label = 3
    assert not panel.table.selectionModel().selectedRows()


def test_fullest_point():
    labels = np.zeros((4, 5, 6), int)
    labels[3, 1:4, 2] = 8
    labels[3, 2, 3:5] = 8
    assert fullest_point(labels, 8) == (3, 2, 2)
    assert fullest_point(labels, 9) is None


def test_names_can_be_typed_and_are_kept_with_the_layer(make_napari_viewer, qtbot, pair):
    viewer = make_napari_viewer()
    layer = add(viewer, pair[1])
    panel = LabelsTable(viewer)
    qtbot.addWidget(panel)
    ready(qtbot, panel)
    index = panel.model.index(2, KEYS.index("name"))
    assert panel.model.flags(index) & Qt.ItemFlag.ItemIsEditable
    assert not panel.model.flags(panel.model.index(2, 0)) & Qt.ItemFlag.ItemIsEditable
    assert panel.model.setData(index, " left kidney ")
    assert not panel.model.setData(index, "  ")
    assert panel.model.setData(panel.model.index(0, KEYS.index("name")), "hepar")
    assert [row["name"] for row in panel.model.rows] == ["hepar", "spleen", "left kidney"]
    volume = layer_to_volume(layer)
    assert volume.labels[7].name == "left kidney"
    assert volume.labels[1] == Label("hepar", "#ff0000")
    assert dict(zip(layer.features["index"], layer.features["name"], strict=True))[7] == "left kidney"


def test_new_labels_made_in_napari_take_the_grid_they_lie_on(make_napari_viewer, qtbot, pair):
    viewer = make_napari_viewer()
    image, _ = pair
    viewer.layers.selection.active = add(viewer, image)
    panel = LabelsTable(viewer)
    qtbot.addWidget(panel)
    viewer._new_labels()
    layer = viewer.layers[-1]
    layer.data_setitem((np.array([1]), np.array([1]), np.array([1])), 4)
    (row,) = ready(qtbot, panel)
    assert panel.labels is layer
    assert row["volume_ml"] == pytest.approx(3.1 * 0.8 * 1.7 / 1000)
    assert row["mean"] == pytest.approx(float(np.asarray(viewer.layers["ct"].data)[1, 1, 1]))


def test_what_is_not_known_is_not_claimed(make_napari_viewer, qtbot, pair):
    viewer = make_napari_viewer()
    panel = LabelsTable(viewer)
    qtbot.addWidget(panel)
    image, labels = pair
    other = add(viewer, image.replace(grid=Grid.from_spacing((1, 1, 1), image.grid.shape), name="elsewhere"))
    viewer.add_labels(np.ones((3, 4, 5), np.uint8), name="foreign")
    (row,) = ready(qtbot, panel)
    assert (row["volume_ml"], row["mean"], row["voxels"]) == (None, None, 60)
    assert "no volumes" in panel.note.text()
    assert text(panel, 0, "volume_ml") == "\u2013"
    assert not panel.model.flags(panel.model.index(0, KEYS.index("name"))) & Qt.ItemFlag.ItemIsEditable
    add(viewer, Volume.from_array(np.ones((3, 4, 5), np.uint8), kind="labels", name="unknown"))
    assert ready(qtbot, panel)[0]["volume_ml"] is None
    assert "spacing is not known" in panel.note.text()
    add(viewer, labels)
    panel.image_box.choose(other)
    rows = ready(qtbot, panel)
    assert rows[0]["mean"] is None
    assert rows[0]["volume_ml"] > 0
    assert "another grid" in panel.note.text()


def test_a_single_slice_has_areas(make_napari_viewer, qtbot, tmp_path):
    viewer = make_napari_viewer()
    labels = Volume.from_array(np.ones((10, 10), np.uint8), (0.5, 0.4), kind="labels", name="flat")
    add(viewer, labels)
    panel = LabelsTable(viewer)
    qtbot.addWidget(panel)
    (row,) = ready(qtbot, panel)
    assert (row["volume_ml"], row["area_cm2"]) == (None, pytest.approx(0.2))
    header = panel.model.headerData(KEYS.index("volume_ml"), Qt.Orientation.Horizontal)
    assert header == "Area (cm\u00b2)"
    assert text(panel, 0, "volume_ml") == "0.20"
    panel.export(tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        (written,) = csv.DictReader(file)
    assert float(written["area_cm2"]) == pytest.approx(0.2)


def test_a_failure_leaves_no_old_rows(make_napari_viewer, qtbot, pair, rng):
    viewer = make_napari_viewer()
    _, labels = four_d(rng, 3)
    image, _ = four_d(rng, 2)
    add(viewer, labels)
    panel = LabelsTable(viewer)
    qtbot.addWidget(panel)
    assert ready(qtbot, panel)
    panel.image_box.choose(add(viewer, image))
    panel.frames_box.setCurrentText(ALL)
    assert ready(qtbot, panel) == []
    assert "different numbers of frames" in panel.note.text()


def test_export(make_napari_viewer, qtbot, pair, tmp_path, monkeypatch):
    viewer = make_napari_viewer()
    image, labels = pair
    add(viewer, image)
    add(viewer, labels)
    panel = LabelsTable(viewer)
    qtbot.addWidget(panel)
    ready(qtbot, panel)
    panel.table.sortByColumn(KEYS.index("label"), Qt.SortOrder.DescendingOrder)
    path = tmp_path / "table.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    panel.export_button.click()
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["label"]) for row in rows] == [7, 2, 1]
    assert [row["name"] for row in rows] == ["", "spleen", "liver"]
    mask = labels.data == 2
    assert float(rows[1]["volume_ml"]) == pytest.approx(mask.sum() * 3.1 * 0.8 * 1.7 / 1000, rel=1e-12)
    assert float(rows[1]["mean"]) == pytest.approx(image.data[mask].mean(dtype=float), rel=1e-9)
    assert (rows[1]["unit"], rows[1]["labels"], rows[1]["image"]) == ("HU", "organs", "ct")
    with pytest.raises(FileError, match="does not exist"):
        panel.export(tmp_path / "nowhere" / "table.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_layers_removed_and_dock_closed(make_napari_viewer, qtbot, pair):
    viewer = make_napari_viewer()
    image, labels = pair
    panel = LabelsTable(viewer)
    dock = viewer.window.add_dock_widget(panel, name="Label volumes")
    add(viewer, image)
    layer = add(viewer, labels)
    viewer.layers.remove(layer)
    assert ready(qtbot, panel) == []
    assert panel.labels is None
    layer = add(viewer, labels)
    ready(qtbot, panel)
    viewer.window.remove_dock_widget(dock)
    qtbot.wait(50)
    layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 9)
    viewer.layers.clear()
    add(viewer, labels)
    qtbot.wait(50)


def test_numbers_in_words():
    assert number(None) == number(float("nan")) == "\u2013"
    assert number(1062.4501, 2) == "1062.45"
    assert number(0.00123, 2) == "0.00123"
    assert number(0.0, 2) == "0.00"


@pytest.mark.parametrize("width", [300, 420, 900])
def test_name_and_volume_are_read_without_scrolling(make_napari_viewer, qtbot, pair, width):
    viewer = make_napari_viewer()
    image, labels = pair
    add(viewer, image)
    add(viewer, labels.replace(labels={1: Label("vertebrae_L5", "#ff0000"), 2: Label("iliopsoas_right")}))
    panel = LabelsTable(viewer)
    qtbot.addWidget(panel)
    panel.resize(width, 500)
    panel.show()
    ready(qtbot, panel)
    qtbot.wait(20)
    table = panel.table
    assert not table.horizontalScrollBar().maximum()
    column = KEYS.index("name")
    assert table.columnWidth(column) >= table.fontMetrics().horizontalAdvance("vertebrae_L5")
    for key in ("label", "volume_ml"):
        assert not table.isColumnHidden(KEYS.index(key))
        assert table.columnWidth(KEYS.index(key)) >= table.sizeHintForColumn(KEYS.index(key))
    assert table.isColumnHidden(KEYS.index("voxels")) == (width < 600)
    assert table.isColumnHidden(KEYS.index("mean")) == (width < 400)
    tip = panel.model.data(panel.model.index(0, 0), Qt.ItemDataRole.ToolTipRole)
    assert tip.startswith("vertebrae_L5 (1)")
    for part in ("Volume (ml): ", "Mean (HU): ", "SD (HU): ", "Voxels: "):
        assert part in tip


def test_real_organs_equal_the_published_volumes(make_napari_viewer, qtbot, data):
    import json

    import SimpleITK

    folder = data("ct_abdomen_organs/example_seg_fast_statistics.json").parent

    def volume(name, kind):
        image = SimpleITK.ReadImage(str(folder / name))
        direction = np.array(image.GetDirection()).reshape(3, 3)[::-1, ::-1]
        array = SimpleITK.GetArrayFromImage(image)
        grid = Grid.from_spacing(image.GetSpacing()[::-1], array.shape, image.GetOrigin()[::-1], direction)
        return Volume(array.astype(np.uint8) if kind == "labels" else array, grid, kind, name)

    viewer = make_napari_viewer()
    add(viewer, volume("example_ct_sm.nii.gz", "image"))
    add(viewer, volume("example_seg_fast.nii.gz", "labels"))
    panel = LabelsTable(viewer)
    qtbot.addWidget(panel)
    rows = {row["label"]: row for row in ready(qtbot, panel)}
    published = json.loads((folder / "example_seg_fast_statistics.json").read_text())
    # TotalSegmentator's numbers for spleen and liver.
    for value, name in ((1, "spleen"), (5, "liver")):
        assert rows[value]["volume_ml"] * 1000 == pytest.approx(published[name]["volume"], rel=1e-4)
        assert rows[value]["mean"] == pytest.approx(published[name]["intensity"], abs=0.02)
