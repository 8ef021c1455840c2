"""Window and level: the drag with the right button, presets, what the file proposes."""

from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QPoint, Qt

from napari_lightbox.geometry import Frames
from napari_lightbox.viewer.layers import volume_to_layer
from napari_lightbox.viewer.panels import view
from napari_lightbox.viewer.panels.view import ViewPanel, attach, choices, set_window
from napari_lightbox.viewer.windowing import (
    CT_PRESETS,
    Window,
    apply_window,
    automatic,
    can_window,
    drag_window,
    full_range,
    is_ct,
    unit_of,
    windowed_layer,
)
from napari_lightbox.volume import Volume


def add(viewer, data, meta=(), kind="image", **kwargs):
    volume = Volume.from_array(data, spacing=(2, 1, 1), kind=kind, name="volume", meta=dict(meta))
    array, arguments, made = volume_to_layer(volume, **kwargs)
    return getattr(viewer, f"add_{made}")(array, **arguments)


CT = {"modality": "CT", "unit": "HU"}


@pytest.fixture
def hounsfield(rng):
    """Return something like an abdomen: air around soft tissue, a little bone."""
    data = np.full((8, 32, 32), -1000, np.int16)
    data[:, 6:26, 6:26] = rng.normal(40, 15, (8, 20, 20)).astype(np.int16)
    data[:, 14:17, 20:23] = 700
    return data


# The drag ---------------------------------------------------------------------------------------------------------


def test_drag_arithmetic():
    start = Window(40, 400)
    assert start.dragged(0, 0) == start
    assert start.dragged(200, 0).width == 800
    assert start.dragged(-200, 0).width == 200
    assert start.dragged(0, 100).level == 140
    assert start.dragged(-1e9, 0, smallest=1.0).width == 1.0
    low, high = start.dragged(-1e9, 1e9).limits
    assert low < high


@pytest.mark.parametrize(
    ("dtype", "limits"), [(np.int16, (-160.0, 240.0)), (np.float32, (0.0, 1.0)), (np.float64, (1e-9, 3e-9))]
)
def test_right_drag_changes_width_and_level_and_does_not_zoom(make_napari_viewer, qtbot, dtype, limits):
    viewer = make_napari_viewer(show=True)
    attach(viewer)
    layer = add(viewer, np.arange(8 * 9 * 10).reshape(8, 9, 10).astype(dtype), contrast_limits=limits)
    native = viewer.window._qt_viewer.canvas.native
    # Zoomed by the user, so that the canvas settling into its final size does not fit it again.
    viewer.scene.camera.zoom *= 1.5
    qtbot.wait(50)
    zoom, centre, start = viewer.scene.camera.zoom, viewer.scene.camera.center, Window.of(layer)
    qtbot.mousePress(native, Qt.MouseButton.RightButton, pos=QPoint(150, 150))
    for step in range(1, 6):
        qtbot.mouseMove(native, QPoint(150 + 20 * step, 150 - 8 * step))
        qtbot.wait(25)
    assert not viewer.scene.camera.mouse_pan
    qtbot.mouseRelease(native, Qt.MouseButton.RightButton, pos=QPoint(250, 110))
    wanted = start.dragged(100, -40)
    found = Window.of(layer)
    assert found.width == pytest.approx(wanted.width, rel=1e-6)
    assert found.level == pytest.approx(wanted.level, rel=1e-6)
    assert found.width > start.width
    assert found.level < start.level
    assert viewer.scene.camera.mouse_pan
    assert viewer.scene.camera.zoom == zoom
    assert viewer.scene.camera.center == centre
    qtbot.mouseMove(native, QPoint(300, 300))
    qtbot.wait(25)
    assert Window.of(layer) == found


def event(**values):
    return SimpleNamespace(**{"type": "mouse_press", "button": 2, "modifiers": (), "pos": (10, 10), **values})


def started(viewer, **values) -> bool:
    generator = drag_window(viewer, event(**values))
    try:
        next(generator)
    except StopIteration:
        return False
    generator.close()
    return True


def test_drag_leaves_other_buttons_keys_and_tools_alone(hounsfield):
    viewer = ViewerModel()
    assert not started(viewer)
    viewer.add_image(np.zeros((8, 32, 32, 3), np.uint8), rgb=True)
    assert not started(viewer)
    layer = add(viewer, hounsfield)
    assert started(viewer)
    assert viewer.scene.camera.mouse_pan
    assert not started(viewer, button=1)
    assert not started(viewer, modifiers=("Alt",))
    labels = add(viewer, np.zeros((8, 32, 32), np.uint8), kind="labels")
    assert started(viewer)
    for mode in ("paint", "erase", "fill", "polygon", "pick"):
        labels.mode = mode
        assert not started(viewer)
    labels.mode = "pan_zoom"
    layer.visible = False
    assert not started(viewer)
    assert can_window(layer)


@pytest.mark.parametrize("active", ["labels", "points", "shapes"])
def test_right_drag_over_other_layers_changes_the_picture_below(make_napari_viewer, qtbot, hounsfield, active):
    viewer = make_napari_viewer(show=True)
    attach(viewer)
    lower, upper = add(viewer, hounsfield, CT), add(viewer, hounsfield, CT)
    if active == "labels":
        add(viewer, np.zeros((8, 32, 32), np.uint8), kind="labels")
    else:
        getattr(viewer, f"add_{active}")(ndim=3)
    native = viewer.window._qt_viewer.canvas.native
    viewer.scene.camera.zoom *= 1.5
    qtbot.wait(50)
    zoom, start = viewer.scene.camera.zoom, Window.of(upper)
    qtbot.mousePress(native, Qt.MouseButton.RightButton, pos=QPoint(150, 150))
    for step in range(1, 4):
        qtbot.mouseMove(native, QPoint(150 + 20 * step, 150))
        qtbot.wait(25)
    qtbot.mouseRelease(native, Qt.MouseButton.RightButton, pos=QPoint(210, 150))
    assert Window.of(upper).width == pytest.approx(start.dragged(60, 0).width)
    assert Window.of(lower) == start
    assert viewer.scene.camera.zoom == zoom


def test_the_window_is_that_of_the_picture_on_screen(hounsfield):
    viewer = ViewerModel()
    attach(viewer)
    first = add(viewer, hounsfield, CT, contrast_limits=(0, 100))
    second = add(viewer, hounsfield[:3], CT, contrast_limits=(0, 200))
    probability = add(viewer, np.zeros((8, 32, 32), np.float32), kind="probability")
    text = viewer.canvas.overlays["lightbox_window"]
    viewer.layers.selection.active = second
    viewer.dims.set_point(0, 2.0)
    assert windowed_layer(viewer) is second
    assert text.text.startswith("W 200")
    # Outside of the active one.
    viewer.dims.set_point(0, 12.0)
    assert windowed_layer(viewer) is first
    assert text.text.startswith("W 100")
    viewer.dims.set_point(0, 2.0)
    second.visible = False
    assert windowed_layer(viewer) is first
    viewer.layers.selection.active = probability
    assert windowed_layer(viewer) is probability
    first.visible = False
    viewer.layers.selection.clear()
    assert windowed_layer(viewer) is probability
    probability.visible = False
    assert windowed_layer(viewer) is None


def test_layer_removed_during_the_drag(hounsfield):
    viewer = ViewerModel()
    add(viewer, hounsfield)
    moving = event()
    drag = drag_window(viewer, moving)
    next(drag)
    viewer.layers.clear()
    moving.type, moving.pos = "mouse_move", (50, 60)
    next(drag)
    moving.type = "mouse_release"
    with pytest.raises(StopIteration):
        next(drag)
    assert viewer.scene.camera.mouse_pan


# Presets ----------------------------------------------------------------------------------------------------------


def test_ct_is_known_by_its_file_or_by_its_values(hounsfield):
    viewer = ViewerModel()
    assert is_ct(add(viewer, hounsfield, CT))
    assert is_ct(add(viewer, hounsfield, {"unit": "HU"}))
    guessed = add(viewer, hounsfield)
    assert is_ct(guessed)
    assert unit_of(guessed) == "HU"
    magnetic = add(viewer, hounsfield, {"modality": "MR"})
    assert not is_ct(magnetic)
    assert unit_of(magnetic) == ""
    assert not is_ct(add(viewer, np.abs(hounsfield)))
    assert unit_of(add(viewer, np.abs(hounsfield), {"modality": "PT", "unit": "Bq/ml"})) == "Bq/ml"
    assert not is_ct(add(viewer, np.zeros((2, 3, 4), np.uint8), kind="labels"))
    assert not is_ct(viewer.add_image(hounsfield))


def test_choices_by_kind_of_layer(hounsfield):
    viewer = ViewerModel()
    windows = [{"name": "LUNG", "centre": -500, "width": 1500}, {"name": "", "centre": 40, "width": 300}]
    names = [name for name, _ in choices(add(viewer, hounsfield, {**CT, "windows": windows}))]
    assert names[:2] == ["From the file: LUNG", "From the file: window 2"]
    assert {"Brain", "Lung", "Liver", "Bone"} <= set(names)
    names = [name for name, _ in choices(add(viewer, np.abs(hounsfield), {"modality": "MR"}))]
    assert names == [view.AUTO, view.FULL]
    assert choices(add(viewer, np.zeros((2, 3, 4), np.uint8), kind="labels")) == []
    assert choices(None) == []


def test_presets_hold_what_radiology_uses():
    presets = {name: (level, width) for name, level, width in CT_PRESETS}
    assert presets["Brain"] == (40, 80)
    assert presets["Lung"] == (-600, 1500)
    assert presets["Mediastinum"] == (50, 350)
    assert presets["Bone"] == (400, 1800)
    assert set(view.WINDOW_KEYS) - {view.AUTO, view.FULL, view.FILE} <= set(presets)


def test_panel_sets_presets_and_follows_the_layer(make_napari_viewer, qtbot, hounsfield):
    viewer = make_napari_viewer()
    panel = ViewPanel(viewer)
    assert not panel.presets.isEnabled()
    layer = add(viewer, hounsfield, {**CT, "windows": [{"name": "ABDOMEN", "centre": 50, "width": 450}]})
    assert panel.level.suffix() == " HU"
    assert tuple(layer.contrast_limits) == (-175, 275)
    assert panel.presets.currentData() == "From the file: ABDOMEN"

    def choose(name):
        index = panel.presets.findData(name)
        panel.presets.setCurrentIndex(index)
        panel.presets.activated.emit(index)

    choose("Lung")
    assert tuple(layer.contrast_limits) == (-1350, 150)
    assert (panel.level.value(), panel.width_box.value()) == (-600, 1500)
    assert viewer.canvas.overlays["lightbox_window"].text == "W 1500  L -600 HU"
    choose(view.FULL)
    qtbot.waitUntil(lambda: tuple(layer.contrast_limits) == (-1000, 700), timeout=5000)
    panel.level.setValue(40)
    panel.width_box.setValue(80)
    assert tuple(layer.contrast_limits) == (0, 80)
    assert panel.presets.currentData() == "Brain"
    panel.width_box.setValue(0)
    low, high = layer.contrast_limits
    assert high - low == 1
    layer.contrast_limits = (-200, 300)
    assert (panel.level.value(), panel.width_box.value()) == (50, 500)
    assert panel.presets.currentIndex() == 0
    # Under labels that are being painted, the picture can still be windowed.
    add(viewer, np.zeros((8, 32, 32), np.uint8), kind="labels")
    choose("Liver")
    assert tuple(layer.contrast_limits) == (-45, 105)
    layer.visible = False
    assert not panel.presets.isEnabled()
    layer.visible = True
    assert panel.presets.isEnabled()
    viewer.layers.clear()
    assert not panel.presets.isEnabled()


def test_panel_shows_small_floats_with_digits(make_napari_viewer):
    viewer = make_napari_viewer()
    panel = ViewPanel(viewer)
    layer = add(viewer, np.linspace(0, 0.01, 120).reshape(4, 5, 6), contrast_limits=(0.001, 0.003))
    assert panel.level.value() == pytest.approx(0.002)
    assert panel.width_box.value() == pytest.approx(0.002)
    assert "0.002" in viewer.canvas.overlays["lightbox_window"].text
    assert tuple(layer.contrast_limits) == (0.001, 0.003)


def test_a_later_choice_makes_the_search_for_the_full_range_void(make_napari_viewer, qtbot, hounsfield):
    viewer = make_napari_viewer()
    attach(viewer)
    layer = add(viewer, hounsfield, CT)
    set_window(viewer, layer, view.FULL)
    set_window(viewer, layer, "Brain")
    qtbot.wait(200)
    assert tuple(layer.contrast_limits) == (0, 80)
    set_window(viewer, layer, "no such window")
    assert tuple(layer.contrast_limits) == (0, 80)


def test_keys_set_windows(make_napari_viewer, qtbot, hounsfield):
    viewer = make_napari_viewer(show=True)
    attach(viewer)
    layer = add(viewer, hounsfield, {**CT, "windows": [{"name": "A", "centre": 7, "width": 10}]})
    native = viewer.window._qt_viewer.canvas.native
    qtbot.keyClick(native, Qt.Key.Key_F6)
    assert tuple(layer.contrast_limits) == (-1350, 150)
    qtbot.keyClick(native, Qt.Key.Key_F4)
    assert tuple(layer.contrast_limits) == (2, 12)
    qtbot.keyClick(native, Qt.Key.Key_F2)
    assert Window.of(layer) == automatic(layer)
    viewer.layers.selection.clear()
    qtbot.keyClick(native, Qt.Key.Key_F6)
    assert tuple(layer.contrast_limits) == (-1350, 150)
    layer.visible = False
    qtbot.keyClick(native, Qt.Key.Key_F2)
    assert tuple(layer.contrast_limits) == (-1350, 150)


# Computed windows -------------------------------------------------------------------------------------------------


def test_full_range_and_percentiles_leave_out_what_is_not_finite(rng):
    data = rng.normal(size=(4, 30, 30))
    data[0, 0, 0], data[1, 1, 1], data[2, 2, 2] = np.nan, np.inf, -np.inf
    finite = data[np.isfinite(data)]
    assert full_range(data).limits == pytest.approx((finite.min(), finite.max()))
    viewer = ViewerModel()
    low, high = automatic(add(viewer, data, contrast_limits=(0, 1))).limits
    assert (low, high) == pytest.approx(tuple(np.percentile(finite, (1, 99))), abs=0.05)


def test_nothing_to_window():
    viewer = ViewerModel()
    layer = add(viewer, np.full((3, 4, 5), 7, np.int16), contrast_limits=(0, 10))
    assert automatic(layer) is None
    assert full_range(np.full((3, 4, 5), np.nan)) is None
    set_window(viewer, layer, view.AUTO)
    apply_window(layer, Window(np.nan, 4))
    apply_window(layer, Window(3, 0))
    assert tuple(layer.contrast_limits) == (0, 10)


def test_full_range_of_a_sparse_4d_volume_and_of_a_lazy_one():
    data = np.zeros((3, 4, 50, 60), np.uint16)
    data[2, 3, 49, 59] = 4000
    assert full_range(data).limits == (0, 4000)
    dask = pytest.importorskip("dask.array")
    assert full_range(dask.from_array(data, chunks=(1, 2, 50, 60))).limits == (0, 4000)
    assert full_range(data[0, 0] + np.arange(60, dtype=np.uint16)).limits == (0, 59)


def test_window_of_a_4d_layer(hounsfield):
    viewer = ViewerModel()
    volume = Volume.from_array(
        np.stack([hounsfield] * 2), spacing=(1, 1, 1), frames=Frames("time", (0, 1), "s"), meta=dict(CT)
    )
    data, arguments, _ = volume_to_layer(volume)
    layer = viewer.add_image(data, **arguments)
    set_window(viewer, layer, "Bone")
    assert tuple(layer.contrast_limits) == (-500, 1300)


def test_long_names_do_not_widen_the_dock(make_napari_viewer, qtbot, hounsfield):
    viewer = make_napari_viewer()
    panel = ViewPanel(viewer)
    qtbot.addWidget(panel)
    add(viewer, hounsfield, CT)
    narrow = panel.minimumSizeHint().width()
    windows = [{"name": "a very long name of a window " * 4, "centre": 7, "width": 10}]
    layer = add(viewer, hounsfield, {**CT, "windows": windows})
    layer.name = "a_very_long_name_of_a_series_without_any_blank_" * 4
    assert panel.minimumSizeHint().width() == narrow
    assert panel.windowed_name.whole == panel.windowed_name.toolTip() == layer.name
    panel.resize(280, 600)
    panel.show()
    qtbot.wait(20)
    shown = panel.windowed_name.text()
    assert "\u2026" in shown
    assert shown[:8] == layer.name[:8]
    assert panel.windowed_name.fontMetrics().horizontalAdvance(shown) <= panel.windowed_name.width()
