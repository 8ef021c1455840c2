"""Two layers in turn with one key, and side by side; everything is as it was afterwards."""

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QPoint, Qt

from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.viewer import compare as module
from napari_lightbox.viewer.compare import comparison
from napari_lightbox.viewer.layers import volume_to_layer
from napari_lightbox.viewer.panels.compare import TITLE, ComparePanel
from napari_lightbox.viewer.panels.view import attach
from napari_lightbox.volume import Volume

GRID = Grid.from_spacing((3.0, 1.0, 1.5), (12, 20, 24), (5.0, 6.0, 7.0))


def add(viewer, name: str, kind="image", grid=GRID, **kwargs):
    data = np.arange(np.prod(grid.shape)).reshape(grid.shape) % 7
    volume = Volume(data.astype(np.uint8 if kind == "labels" else np.int16), grid, kind, name, meta={"modality": "MR"})
    array, arguments, made = volume_to_layer(volume, **kwargs)
    return getattr(viewer, f"add_{made}")(array, **arguments)


def seen(viewer) -> set:
    return {layer.name for layer in viewer.layers if layer.visible}


# In turn ----------------------------------------------------------------------------------------------------------


def test_two_images_take_turns_each_in_its_own_window():
    viewer = ViewerModel()
    attach(viewer)
    first, second = add(viewer, "first", contrast_limits=(0, 3)), add(viewer, "second", contrast_limits=(2, 5))
    labels = add(viewer, "labels", "labels")
    labels.visible = False
    one = comparison(viewer)
    assert one.pair == (second, first)
    viewer.layers.selection.active = second
    assert one.flick()
    assert seen(viewer) == {"first"}
    window, series = (viewer.canvas.overlays[f"lightbox_{key}"] for key in ("window", "series"))
    assert series.text.startswith("first")
    assert window.text.startswith("W 3  L 1.5")
    one.flick()
    assert seen(viewer) == {"second"}
    assert series.text.startswith("second")
    assert window.text.startswith("W 3  L 3.5")
    one.stop()
    assert seen(viewer) == {"first", "second"}
    assert (tuple(first.contrast_limits), tuple(second.contrast_limits)) == ((0, 3), (2, 5))


def test_labels_are_switched_over_their_image():
    viewer = ViewerModel()
    image, labels = add(viewer, "image"), add(viewer, "labels", "labels")
    one = comparison(viewer)
    assert one.pair == (labels, image)
    one.flick()
    assert seen(viewer) == {"image"}
    one.flick()
    assert seen(viewer) == {"image", "labels"}
    add(viewer, "others", "labels")
    one.stop()
    one.choose(labels, viewer.layers["others"])
    one.flick()
    assert seen(viewer) == {"image", "others"}
    one.flick()
    assert seen(viewer) == {"image", "labels"}
    one.stop()
    assert seen(viewer) == {"image", "labels", "others"}


def test_nothing_to_compare_and_layers_that_go():
    viewer = ViewerModel()
    one = comparison(viewer)
    assert one.pair == ()
    assert not one.flick()
    first, second, third = (add(viewer, name) for name in ("first", "second", "third"))
    one.choose(first, second)
    one.flick()
    viewer.layers.remove(first)
    assert one.pair == (third, second)
    one.stop()
    assert second.visible
    one.choose(third, third)
    assert one.pair == (third, second)
    viewer.layers.clear()
    assert not one.flick()


def test_a_layer_that_joins_later_is_shown_again():
    viewer = ViewerModel()
    one = comparison(viewer)
    first, second, third = (add(viewer, name) for name in ("first", "second", "third"))
    one.choose(first, second)
    one.flick()
    viewer.layers.remove(first)
    while third.visible:
        assert one.flick()
    one.stop()
    assert seen(viewer) == {"second", "third"}


def test_the_key_switches_and_held_it_goes_back(make_napari_viewer, qtbot, monkeypatch):
    viewer = make_napari_viewer(show=True)
    attach(viewer)
    native = viewer.window._qt_viewer.canvas.native
    qtbot.keyClick(native, Qt.Key.Key_Q)
    assert "two images" in viewer.status
    add(viewer, "first")
    add(viewer, "second")
    qtbot.keyClick(native, Qt.Key.Key_Q)
    assert seen(viewer) == {"first"}
    qtbot.keyClick(native, Qt.Key.Key_Q)
    assert seen(viewer) == {"second"}
    monkeypatch.setattr(module, "HELD", 0.0)
    qtbot.keyPress(native, Qt.Key.Key_Q)
    assert seen(viewer) == {"first"}
    qtbot.wait(20)
    qtbot.keyRelease(native, Qt.Key.Key_Q)
    assert seen(viewer) == {"second"}


# Side by side -----------------------------------------------------------------------------------------------------


def test_side_by_side_shows_the_same_slice_in_mm_and_goes_back(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1300, 700)
    attach(viewer)
    panel = ComparePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Compare", area="right")
    assert not panel.side_button.isEnabled()
    frames = Frames("time", (0.0, 1.0), "s")
    first = add(viewer, "first")
    # Half as thick slices: another index, the same mm.
    add(viewer, "second", grid=Grid.from_spacing((1.5, 1.0, 1.5), (2, 24, 20, 24), (5.0, 6.0, 7.0), frames=frames))
    labels = add(viewer, "labels", "labels")
    qtbot.wait(50)
    panel.first.choose(viewer.layers["first"])
    panel.second.choose(viewer.layers["second"])
    panel.second.activated.emit(panel.second.currentIndex())
    camera = viewer.scene.camera
    camera.zoom *= 1.3
    before = (camera.zoom, camera.center)
    panel.side_button.click()
    qtbot.wait(100)
    side = panel.side.model
    qtbot.waitUntil(lambda: abs(viewer.canvas.size[1] - side.canvas.size[1]) < 60, timeout=10_000)
    assert seen(viewer) == {"first", "labels"}
    assert {layer.name for layer in side.layers if layer.visible} == {"second", "labels"}
    assert not panel.side_button.isEnabled()
    viewer.dims.set_point(range(4), (1.0, 26.0, 10.0, 12.0))
    assert side.dims.point == viewer.dims.point
    assert side.layers["second"].world_to_data(side.dims.point)[:2] == pytest.approx((1, 14))
    assert first.world_to_data(viewer.dims.point)[0] == pytest.approx(7)
    side.dims.set_point(1, 20.0)
    assert viewer.dims.point[1] == pytest.approx(20)
    side.scene.camera.zoom *= 2
    side.scene.camera.center = (0.0, 9.0, 8.0)
    assert camera.zoom == pytest.approx(side.scene.camera.zoom)
    assert camera.center == pytest.approx((0.0, 9.0, 8.0))
    viewer.dims.order = (0, 2, 1, 3)
    assert side.dims.order == (0, 2, 1, 3)
    viewer.layers.selection.active = first
    assert viewer.canvas.overlays["lightbox_series"].text.startswith("first")
    assert side.canvas.overlays["lightbox_series"].text.startswith("second")
    assert [side.canvas.overlays[f"lightbox_{edge}"].text for edge in ("left", "right")] == ["R", "L"]
    # Painted on the right, seen on the left.
    side.layers["labels"].data_setitem((np.array([1]), np.array([2]), np.array([3])), 6)
    assert labels.data[1, 2, 3] == 6
    panel.back_button.click()
    qtbot.wait(50)
    assert seen(viewer) == {"first", "second", "labels"}
    assert panel.side is None
    assert TITLE not in viewer.window._wrapped_dock_widgets
    assert (camera.zoom, camera.center) == (pytest.approx(before[0]), pytest.approx(before[1]))
    assert panel.side_button.isEnabled()
    viewer.dims.set_point(1, 8.0)


def test_the_right_canvas_has_its_own_window_and_ends_with_its_layer(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    attach(viewer)
    first, second = add(viewer, "first"), add(viewer, "second")
    panel = ComparePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Compare", area="right")
    panel.side_button.click()
    qtbot.wait(100)
    # The topmost is on the left.
    assert seen(viewer) == {"second"}
    limits = tuple(second.contrast_limits), tuple(first.contrast_limits)
    native = panel.side.qt_viewer.canvas.native
    qtbot.mousePress(native, Qt.MouseButton.RightButton, pos=QPoint(50, 50))
    for step in range(1, 4):
        qtbot.mouseMove(native, QPoint(50 + 20 * step, 50))
        qtbot.wait(25)
    qtbot.mouseRelease(native, Qt.MouseButton.RightButton, pos=QPoint(110, 50))
    assert tuple(second.contrast_limits) == limits[0]
    assert tuple(first.contrast_limits) != limits[1]
    viewer.layers.remove(first)
    qtbot.waitUntil(lambda: panel.side is None, timeout=10_000)
    assert seen(viewer) == {"second"}


def test_closing_the_second_canvas_or_the_viewer(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    add(viewer, "first")
    add(viewer, "labels", "labels")
    panel = ComparePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Compare", area="right")
    panel.side_button.click()
    qtbot.wait(100)
    assert seen(viewer) == {"first"}
    viewer.window._wrapped_dock_widgets[TITLE].destroyOnClose()
    qtbot.waitUntil(lambda: panel.side is None, timeout=10_000)
    assert seen(viewer) == {"first", "labels"}
    panel._fill()
    panel.side_button.click()
    qtbot.wait(50)
    viewer.close()
    qtbot.wait(100)


def test_the_second_canvas_does_not_float(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    add(viewer, "first")
    add(viewer, "second")
    panel = ComparePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Compare", area="right")
    panel.side_button.click()
    side = panel.side
    qtbot.waitUntil(side.qt_viewer.canvas.native.isValid, timeout=10_000)
    viewer.window._wrapped_dock_widgets[TITLE].setFloating(True)
    qtbot.waitUntil(lambda: panel.side not in (None, side), timeout=10_000)
    qtbot.waitUntil(panel.side.qt_viewer.canvas.native.isValid, timeout=10_000)
    assert not viewer.window._wrapped_dock_widgets[TITLE].isFloating()
    assert seen(viewer) == {"second"}
