"""Docks made from the catalogue, driven as a user drives them."""

import threading
import time

import numpy as np
import pytest
from difficult_grids import difficult_grid
from docking import add, open_dock, press
from napari.components import ViewerModel
from napari.layers import Labels
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QScrollArea

from napari_lightbox import catalogue
from napari_lightbox.apply import apply
from napari_lightbox.catalogue import OPERATIONS
from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.progress import track
from napari_lightbox.viewer import asking, docks
from napari_lightbox.viewer import dock as dock_module
from napari_lightbox.viewer.layers import layer_to_volume, make_layer
from napari_lightbox.volume import Volume


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def slow(monkeypatch):
    """Make `apply` in docks take until it is cancelled, and report the thread it runs in."""
    seen = {}

    def endless(name, volume, **values):
        seen["thread"] = threading.get_ident()
        for _ in track(range(100_000), "tiles"):
            time.sleep(0.005)

    monkeypatch.setattr(dock_module, "apply", endless)
    return seen


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_row_has_a_dock_with_a_field_for_every_parameter(viewer, qtbot, name):
    add(viewer, Volume.from_array(np.zeros((3, 4, 5), np.int16), (1, 1, 1)))
    dock = open_dock(viewer, qtbot, name)
    row = OPERATIONS[name]
    assert {*dock.layers, *dock.fields} == {row.input.name, *(p.name for p in row.parameters)}
    for parameter in row.parameters:
        if parameter.is_layer:
            continue
        field = dock.fields[parameter.name]
        assert field.toolTip(), parameter.name
        if not parameter.required:
            assert field.value() == parameter.default
            assert type(field.value()) is type(parameter.default)


def test_apply_gives_the_function_s_result_under_a_good_name(viewer, qtbot, difficult):
    layer = add(viewer, difficult, contrast_limits=(10, 20), colormap="bone", gamma=0.7)
    dock = open_dock(viewer, qtbot, "median")
    dock.fields["size"].set_value(5)
    press(qtbot, dock)
    made = viewer.layers[-1]
    assert made.name == "difficult · median 5"
    assert tuple(made.contrast_limits) == (10, 20)
    assert made.colormap.name == "bone"
    assert made.gamma == 0.7
    assert made.visible
    assert dock.layers["image"].layer is layer  # the input stays chosen
    result = layer_to_volume(made)
    np.testing.assert_array_equal(result.data, apply("median", difficult, size=5).data)
    assert result.grid == difficult.grid
    assert result.history[-1]["parameters"]["size"] == 5
    press(qtbot, dock)
    assert len({made.name for made in viewer.layers}) == 3


def test_the_job_leaves_the_gui_thread(viewer, qtbot, difficult, slow):
    add(viewer, difficult)
    dock = open_dock(viewer, qtbot, "median")
    qtbot.mouseClick(dock.apply_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "thread" in slow)
    assert slow["thread"] != threading.get_ident()
    assert not dock.apply_button.isEnabled()
    qtbot.waitUntil(lambda: "%" in dock.bar.number.text(), timeout=2000)
    asked = time.monotonic()
    qtbot.mouseClick(dock.bar.cancel_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not dock.bar.running, timeout=1000)
    assert time.monotonic() - asked < 1
    assert len(viewer.layers) == 1
    assert "cancelled" in dock.bar.message
    assert dock.apply_button.isEnabled()
    assert not dock.bar.cancel_button.isEnabled()


def test_closing_the_viewer_mid_run_is_quiet(viewer, qtbot, difficult, slow):
    add(viewer, difficult)
    dock = open_dock(viewer, qtbot, "median")
    dock.apply()
    job = dock.bar.runner.job
    qtbot.wait(50)
    viewer.close()
    qtbot.waitUntil(lambda: job.wait(0), timeout=3000)


def test_removing_the_dock_mid_run_is_quiet(viewer, qtbot, difficult, slow):
    add(viewer, difficult)
    dock = open_dock(viewer, qtbot, "median")
    dock.apply()
    job = dock.bar.runner.job
    qtbot.wait(50)
    viewer.window.remove_dock_widget(dock)
    dock.deleteLater()
    del dock
    qtbot.waitUntil(lambda: job.wait(0), timeout=3000)
    qtbot.wait(50)
    assert len(viewer.layers) == 1


def test_a_layer_deleted_mid_run_does_not_matter(viewer, qtbot, difficult, monkeypatch):
    go = threading.Event()

    def later(name, volume, **values):
        go.wait(5)
        return apply(name, volume, **values)

    monkeypatch.setattr(dock_module, "apply", later)
    add(viewer, difficult)
    add(viewer, Volume.from_array(np.zeros((3, 3, 3)), (1, 1, 1), name="other"))
    dock = open_dock(viewer, qtbot, "median")
    dock.layers["image"].choose(viewer.layers["difficult"])
    dock.apply()
    viewer.layers.remove("difficult")
    go.set()
    qtbot.waitUntil(lambda: not dock.bar.running, timeout=5000)
    # The result lies where the volume lay that the job was started with, not where the now chosen layer lies.
    assert viewer.layers[-1].name == "difficult · median 3"
    assert layer_to_volume(viewer.layers[-1]).grid == difficult.grid


def test_parameters_are_those_at_the_click(viewer, qtbot, difficult, monkeypatch):
    go, seen = threading.Event(), {}

    def later(name, volume, **values):
        go.wait(5)
        seen.update(values)
        return volume

    monkeypatch.setattr(dock_module, "apply", later)
    add(viewer, difficult)
    dock = open_dock(viewer, qtbot, "median")
    dock.fields["size"].set_value(7)
    dock.apply()
    dock.fields["size"].set_value(3)
    go.set()
    qtbot.waitUntil(lambda: not dock.bar.running, timeout=5000)
    assert seen["size"] == 7


def test_errors_are_one_red_sentence_and_leave_no_layer(viewer, qtbot, difficult):
    add(viewer, difficult)
    dock = open_dock(viewer, qtbot, "median")
    dock.fields["size"].spin.setValue(4)  # typed: the arrows go by odd numbers
    press(qtbot, dock)
    assert "odd" in dock.bar.message
    assert "color:#" in dock.bar.status.text()
    assert len(viewer.layers) == 1
    assert dock.apply_button.isEnabled()
    qtbot.mouseClick(dock.reset_button, Qt.MouseButton.LeftButton)
    assert dock.fields["size"].value() == 3
    assert dock.bar.message == ""


def test_no_layer_no_job(viewer, qtbot):
    dock = open_dock(viewer, qtbot, "median")
    press(qtbot, dock)
    assert "needs a layer" in dock.bar.message
    viewer.add_image(np.zeros((5, 6, 3), np.uint8), rgb=True)
    assert dock.layers["image"].layer is None


def test_layers_come_and_go_and_change_names(viewer, qtbot, difficult):
    dock = open_dock(viewer, qtbot, "median")
    chooser = dock.layers["image"]
    first = add(viewer, difficult)
    assert chooser.layer is first
    second = add(viewer, difficult.replace(name="second"))
    assert chooser.layer is first
    assert chooser.count() == 2
    first.name = "renamed"
    assert chooser.currentText() == "renamed"
    viewer.layers.remove(first)
    assert chooser.layer is second
    viewer.add_labels(np.zeros((3, 3, 3), np.uint8))
    viewer.add_points(np.zeros((1, 3)))
    assert chooser.count() == 1
    viewer.layers.clear()
    assert chooser.layer is None


def test_the_active_layer_is_chosen_first(viewer, qtbot, difficult):
    first = add(viewer, difficult)
    add(viewer, difficult.replace(name="second"))
    viewer.layers.selection.active = first
    assert open_dock(viewer, qtbot, "median").layers["image"].layer is first


def test_planes(viewer, qtbot, difficult):
    add(viewer, difficult)
    dock = open_dock(viewer, qtbot, "median")
    dock.plane.setCurrentText("coronal")
    press(qtbot, dock)
    wanted = apply("median", difficult, plane="coronal", size=3)
    np.testing.assert_array_equal(layer_to_volume(viewer.layers[-1]).data, wanted.data)
    assert open_dock(viewer, qtbot, "notch").plane.itemText(0) == "axial"
    assert open_dock(viewer, qtbot, "reorient").plane is None


def test_otsu_makes_named_labels(viewer, qtbot, difficult):
    add(viewer, difficult)
    dock = open_dock(viewer, qtbot, "otsu")
    dock.fields["classes"].set_value(3)
    press(qtbot, dock)
    made = viewer.layers[-1]
    assert isinstance(made, Labels)
    assert set(np.unique(made.data)) == {0, 1, 2}
    assert list(made.features["name"]) == ["background", "Otsu thresholds 1", "Otsu thresholds 2"]


def test_region_growing_from_clicked_seeds(viewer, qtbot):
    grid = difficult_grid()
    data = np.zeros(grid.shape, np.int16)
    data[2:6, 3:9, 4:10] = 100
    volume = Volume(data, grid, name="block")
    layer = add(viewer, volume)
    dock = open_dock(viewer, qtbot, "region_grow")
    press(qtbot, dock)
    assert "press New" in dock.bar.message
    qtbot.mouseClick(dock.new_seeds_button, Qt.MouseButton.LeftButton)
    points = dock.layers["seeds"].layer
    assert points is viewer.layers[-1]
    assert points.mode == "add"
    press(qtbot, dock)
    assert "holds no points" in dock.bar.message
    inside = np.argwhere(layer.data == 100)[7]
    points.add([inside])
    dock.fields["threshold"].set_value(10.0)
    press(qtbot, dock)
    assert "is done" in dock.bar.message
    assert viewer.layers[-1] is points  # the seeds stay on top
    made = viewer.layers[-2]
    np.testing.assert_array_equal(np.asarray(made.data) > 0, layer.data == 100)


def test_seeds_outside_are_told(viewer, qtbot, difficult):
    add(viewer, difficult)
    dock = open_dock(viewer, qtbot, "region_grow")
    viewer.add_points([[500.0, 500.0, 500.0]])
    press(qtbot, dock)
    assert "outside the volume" in dock.bar.message


def test_a_mask_on_another_grid_is_told(viewer, qtbot, difficult):
    image = add(viewer, difficult)
    other = Volume(np.ones((3, 4, 5), np.uint8), Grid.from_spacing((1, 1, 1), (3, 4, 5)), "labels", name="other")
    add(viewer, other)
    points = viewer.add_points([image.data_to_world((1, 1, 1))])
    dock = open_dock(viewer, qtbot, "region_grow")
    dock.layers["image"].choose(image)
    dock.layers["seeds"].choose(points)
    dock.layers["mask"].choose(viewer.layers["other"])
    press(qtbot, dock)
    assert "different grids" in dock.bar.message


def test_notch_takes_its_centres_as_text(viewer, qtbot, rng):
    volume = Volume.from_array(rng.normal(size=(1, 32, 32)).astype(np.float32), (1, 1, 1), name="picture")
    add(viewer, volume)
    dock = open_dock(viewer, qtbot, "notch")
    assert "12, 30" in dock.fields["centers"].edit.placeholderText()
    dock.fields["centers"].edit.setText("not numbers")
    press(qtbot, dock)
    assert "centers" in dock.bar.message
    assert len(viewer.layers) == 1
    dock.fields["centers"].edit.setText("9, 7; -10, 8")
    press(qtbot, dock)
    wanted = apply("notch", volume, centers="9, 7; -10, 8")
    np.testing.assert_allclose(layer_to_volume(viewer.layers[-1]).data, wanted.data)


def test_what_a_choice_leaves_without_meaning_is_hidden(viewer, qtbot):
    dock = open_dock(viewer, qtbot, "region_grow")

    def shown():
        return {n for n, field in dock.fields.items() if dock.form.isRowVisible(field)}

    always = {"criterion", "connectivity", "max_size"}
    assert shown() == always | {"threshold"}
    dock.fields["threshold"].set_value(50.0)
    dock.fields["criterion"].set_value("confidence")
    assert shown() == always | {"multiplier", "iterations", "radius"}
    volume = Volume.from_array(np.random.default_rng(0).normal(100, 5, (4, 9, 9)), (1, 1, 1), name="block")
    image = add(viewer, volume)
    points = viewer.add_points([(2, 4, 4)], name="seeds")
    dock.layers["image"].choose(image)
    dock.layers["seeds"].choose(points)
    press(qtbot, dock)
    assert "region of" in dock.bar.message
    assert layer_to_volume(viewer.layers["block · region growing 2.5"]).history[-1]["parameters"]["threshold"] is None


def test_notch_finds_the_spikes_where_no_centres_are_typed(viewer, qtbot, rng):
    y, x = np.mgrid[:64, :64]
    picture = rng.normal(size=(64, 64)) + np.sin(2 * np.pi * (12 * y - 20 * x) / 64)
    add(viewer, Volume.from_array(picture, (1, 1), name="picture"))
    dock = open_dock(viewer, qtbot, "notch")
    dock.fields["centers"].edit.setText("")
    press(qtbot, dock)
    assert "1 spike found in the spectrum at (v, u) = (12, -20)" in dock.bar.message
    made = layer_to_volume(viewer.layers[-1])
    assert made.history[-1]["parameters"]["centers"] == [[12, -20]]


def test_planes_may_be_left_for_the_whole_volume(viewer, qtbot, rng):
    volume = Volume.from_array(rng.normal(size=(12, 16, 20)).astype(np.float32), (2, 1, 1), name="block")
    add(viewer, volume)
    dock = open_dock(viewer, qtbot, "notch")
    dock.fields["centers"].edit.setText("3, 4, -5")
    dock.fields["radius"].set_value(2.0)
    dock.plane.setCurrentText("whole volume")
    press(qtbot, dock)
    wanted = apply("notch", volume, plane="volume", centers=[[3, 4, -5]], radius=2)
    np.testing.assert_allclose(layer_to_volume(viewer.layers[-1]).data, wanted.data)


def test_frames_are_all_filtered(viewer, qtbot, rng):
    grid = difficult_grid((3, 6, 7, 8)[1:], Frames("time", (0, 0.5, 1), "s"))
    volume = Volume(rng.normal(size=grid.shape).astype(np.float32), grid, name="beat")
    add(viewer, volume)
    dock = open_dock(viewer, qtbot, "median")
    press(qtbot, dock)
    result = layer_to_volume(viewer.layers[-1])
    assert result.grid == grid
    np.testing.assert_array_equal(result.data, apply("median", volume, size=3).data)


def test_a_plain_2d_image_of_napari_works_too(viewer, qtbot, rng):
    data = rng.normal(size=(20, 30)).astype(np.float32)
    viewer.add_image(data, scale=(2, 3), name="plain")
    dock = open_dock(viewer, qtbot, "median")
    press(qtbot, dock)
    made = viewer.layers[-1]
    assert made.data.shape == (1, 20, 30)
    np.testing.assert_allclose(made.scale[-2:], (2, 3))
    np.testing.assert_array_equal(made.data[0], catalogue.OPERATIONS["median"].function(data))


def test_a_layer_moved_by_hand_asks_first(viewer, qtbot, difficult, monkeypatch):
    layer = add(viewer, difficult)
    layer.translate = np.add(layer.translate, 1)
    dock = open_dock(viewer, qtbot, "median")
    press(qtbot, dock)
    assert "edited by hand" in dock.bar.message
    assert len(viewer.layers) == 1
    monkeypatch.setattr(asking, "confirm_moved", lambda *_: True)
    press(qtbot, dock)
    shift = layer_to_volume(viewer.layers[-1]).grid.origin - np.array(difficult.grid.origin)
    np.testing.assert_allclose(np.linalg.norm(shift), np.sqrt(3))


def test_the_contrast_slider_reaches_all_values(viewer, qtbot, difficult):
    open_dock(viewer, qtbot, "median")
    layer = add(viewer, difficult, contrast_limits=(100, 200))
    assert tuple(layer.contrast_limits) == (100, 200)
    low, high = layer.contrast_limits_range
    assert low <= difficult.data.min() + 1
    assert high >= difficult.data.max() - 1


def test_numbers_can_be_read(viewer, qtbot):
    dock = open_dock(viewer, qtbot, "affine")
    viewer.window._qt_window.show()
    field = dock.fields["rotate"]
    field.set_value((12.5, 0.0, -90.0))
    assert [entry.text() for entry in field.entries] == ["12.5", "0", "-90"]
    for entry in field.entries:
        assert entry.width() >= entry.fontMetrics().horizontalAdvance("-123.4") + 8


@pytest.mark.parametrize("text", ["", "two", "nan", "inf"])
def test_what_is_no_number_is_told(viewer, qtbot, difficult, text):
    add(viewer, difficult)
    dock = open_dock(viewer, qtbot, "affine")
    dock.fields["translate"].entries[0].setText(text)
    press(qtbot, dock)
    assert "translate" in dock.bar.message
    assert len(viewer.layers) == 1


def test_painting_is_noted(viewer, qtbot, difficult):
    volume = difficult.replace(data=np.zeros(difficult.grid.shape, np.uint8), kind="labels",
                               meta={"series": "1"}, history=({"operation": "otsu"},))  # fmt: skip
    open_dock(viewer, qtbot, "median")
    layer = add(viewer, volume)
    assert len(layer_to_volume(layer).history) == 1
    layer.paint((2, 3, 4), 1)
    taken = layer_to_volume(layer)
    assert taken.history[-1]["operation"] == "manual edit"
    assert dict(taken.meta) == {"series": "1"}


def test_what_a_dock_starts_from_is_seen_and_no_probability(make_napari_viewer):
    viewer = make_napari_viewer()
    data = np.random.default_rng(0).uniform(0, 1, (4, 8, 8)).astype(np.float32)
    image = viewer.add_layer(make_layer(Volume.from_array(data, (1, 1, 1), name="image")))
    viewer.add_layer(make_layer(Volume.from_array(data, (1, 1, 1), kind="probability", name="p")))
    hidden = viewer.add_layer(make_layer(Volume.from_array(data, (1, 1, 1), name="hidden")))
    hidden.visible = False
    viewer.layers.selection.clear()
    assert dock_module.OperationDock(viewer, "median").layers["image"].layer is image


def test_closing_a_dock_stops_its_job(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    data = np.random.default_rng(0).integers(0, 999, (60, 120, 120)).astype(np.int16)
    viewer.add_layer(make_layer(Volume.from_array(data, (1, 1, 1), name="image")))
    dock = dock_module.OperationDock(viewer, "median")
    outer = viewer.window.add_dock_widget(dock, name="Median")
    dock.fields["size"].set_value(13)
    dock.apply()
    job = dock.bar.runner.job
    outer.destroyOnClose()
    assert job.wait(5)
    qtbot.wait(50)
    assert [layer.name for layer in viewer.layers] == ["image"]


def test_a_plain_layer_in_micrometres_keeps_its_size(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    layer = viewer.add_image(np.random.default_rng(0).integers(0, 9, (4, 8, 8)), scale=(4, 1, 1), units=("um",) * 3)
    dock = dock_module.OperationDock(viewer, "median")
    with qtbot.waitCallback(timeout=20000) as done:
        viewer.layers.events.inserted.connect(lambda event: done())
        dock.apply()
    result = next(other for other in viewer.layers if other is not layer)
    assert np.allclose(result.scale, (0.004, 0.001, 0.001))
    assert str(result.units[0]) == "millimeter"


def test_a_low_dock_scrolls_rather_than_squeezes(qtbot, difficult):
    viewer = ViewerModel()
    add(viewer, difficult)
    dock = docks.resample(PublicOnlyProxy(viewer))
    qtbot.addWidget(dock)
    scroll = dock.findChild(QScrollArea)
    with qtbot.waitExposed(dock):
        dock.show()
    dock.resize(350, 800)
    qtbot.waitUntil(lambda: scroll.verticalScrollBar().maximum() == 0, timeout=1000)
    # The buttons stay beside the form, and a low dock keeps its rows as high as they were.
    assert dock.apply_button.geometry().top() - scroll.geometry().bottom() < 20
    dock.resize(350, dock.minimumSizeHint().height())
    qtbot.waitUntil(lambda: scroll.verticalScrollBar().maximum() > 0, timeout=1000)
    for field in dock.fields.values():
        assert field.height() >= field.sizeHint().height()
    assert dock.rect().contains(dock.apply_button.geometry())
