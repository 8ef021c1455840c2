"""Three linked planes: the point, painting, mirrored layers. One dock serves all: opening it is what takes time."""

import gc

import napari
import numpy as np
import pytest
from difficult_grids import difficult_grid
from napari.components import ViewerModel
from napari.settings import get_settings
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication
from three_planes_tools import (
    LETTERS,
    add,
    click,
    flipped_grid,
    image_on,
    labels_on,
    letters,
    native,
    open_dock,
    pixel_of,
    settle,
    wheel,
)  # fmt: skip

from napari_lightbox.geometry import PLANES, Frames
from napari_lightbox.viewer.layers import layer_to_volume
from napari_lightbox.viewer.mirror import mirror
from napari_lightbox.volume import Volume

pytestmark = pytest.mark.xdist_group("three planes")


@pytest.fixture(scope="module")
def window(qapp):
    """Return a list for a viewer and its dock, which the first test opens and the last one closes."""
    get_settings().reset()
    opened = []
    yield opened
    for viewer, _ in opened:
        viewer.close()
    opened.clear()
    gc.unfreeze()
    QApplication.processEvents()


@pytest.fixture
def planes(window, qtbot):
    """Return a function that opens volumes in place of what is open: (viewer, panel)."""

    def open_planes(*volumes):
        if not window:
            viewer = napari.Viewer(show=True)
            window.append((viewer, open_dock(viewer, qtbot)))
        viewer, panel = window[0]
        viewer.layers.clear()
        panel.crosshair_box.setChecked(True)
        for volume in volumes:
            add(viewer, volume)
        settle(qtbot, panel)
        return viewer, panel

    return open_planes


# The point --------------------------------------------------------------------------------------------------------


def test_the_point_moves_in_all_canvases(planes, qtbot):
    viewer, panel = planes(image_on(flipped_grid()))
    checks = (check_click, check_drag, check_main_slider, check_window_drag, check_wheel, check_main_mouse)
    for check in (*checks, check_no_work_twice):
        check(viewer, panel, qtbot)
        panel.centre()
        settle(qtbot, panel)


def check_click(viewer, panel, qtbot) -> None:
    layer = viewer.layers[0]
    assert {plane: letters(pane) for plane, pane in panel.panes.items()} == LETTERS
    assert tuple(panel.panes) == tuple(PLANES)
    # z, y, x of the array shown.
    wanted = np.array(layer.data_to_world((7, 25, 4)))
    click(qtbot, panel.panes["sagittal"], wanted)
    settle(qtbot, panel)
    # A pixel of the canvas is less than a voxel here.
    axial, coronal = panel.panes["axial"].model, panel.panes["coronal"].model
    assert axial.dims.point[0] == pytest.approx(wanted[0], abs=0.7)
    assert coronal.dims.point[1] == pytest.approx(wanted[1], abs=0.7)
    assert axial.layers[0].world_to_data(axial.dims.point)[0] == pytest.approx(7, abs=0.5)
    assert viewer.dims.point[0] == pytest.approx(wanted[0], abs=0.7)
    assert viewer.dims.point[1] == pytest.approx(wanted[1], abs=0.7)
    # What the click cannot know stays.
    assert panel.point[2] == pytest.approx(layer.data_to_world((0, 0, 9))[2])
    number = round(float(layer.world_to_data(viewer.dims.point)[0])) + 1
    assert axial.canvas.overlays["lightbox_series"].text.startswith(f"axial {number}/30")
    assert panel.panes["axial"].stands_at(panel.point)


def check_drag(viewer, panel, qtbot) -> None:
    layer, pane = viewer.layers[0], panel.panes["coronal"]
    start, end = (np.array(layer.data_to_world(index)) for index in ((5, 20, 4), (22, 20, 15)))
    centre, zoom = pane.model.scene.camera.center, pane.model.scene.camera.zoom
    qtbot.mousePress(native(pane), Qt.MouseButton.LeftButton, pos=pixel_of(pane, start))
    for share in (0.25, 0.5, 0.75, 1):
        qtbot.mouseMove(native(pane), pixel_of(pane, start + share * (end - start)))
        qtbot.wait(30)
    qtbot.mouseRelease(native(pane), Qt.MouseButton.LeftButton, pos=pixel_of(pane, end))
    settle(qtbot, panel)
    assert panel.panes["axial"].model.dims.point[0] == pytest.approx(end[0], abs=0.7)
    assert panel.panes["sagittal"].model.dims.point[2] == pytest.approx(end[2], abs=0.7)
    assert viewer.dims.point[2] == pytest.approx(end[2], abs=0.7)
    assert pane.model.scene.camera.center == centre
    assert pane.model.scene.camera.zoom == zoom


def check_main_slider(viewer, panel, qtbot) -> None:
    layer = viewer.layers[0]
    there = layer.data_to_world((21, 12, 17))
    viewer.dims.set_point(range(3), there)
    settle(qtbot, panel)
    for plane, axis in PLANES.items():
        assert panel.panes[plane].model.dims.point[axis] == pytest.approx(there[axis])
    assert panel.point == pytest.approx(there)


def check_wheel(viewer, panel, qtbot) -> None:
    layer, pane = viewer.layers[0], panel.panes["sagittal"]
    middle = np.array(layer.data_to_world((14, 20, 10)))
    before, zoom = panel.point, pane.model.scene.camera.zoom
    wheel(pane, middle, -1)
    wheel(pane, middle, -1)
    settle(qtbot, panel)
    assert panel.point - before == pytest.approx((0, 0, 6.0))
    assert pane.model.scene.camera.zoom == zoom
    wheel(pane, middle, 1)
    settle(qtbot, panel)
    assert panel.point[2] - before[2] == pytest.approx(3.0)
    # napari's own sliders stand on whole slices.
    assert viewer.dims.point[2] - before[2] == pytest.approx(3.0, abs=1.6)
    wheel(pane, middle, 1, Qt.KeyboardModifier.ControlModifier)
    settle(qtbot, panel)
    assert pane.model.scene.camera.zoom > zoom
    assert panel.point - before == pytest.approx((0, 0, 3.0))
    panel.fit_button.click()
    assert pane.model.scene.camera.zoom == pytest.approx(zoom)
    panel.centre_button.click()
    settle(qtbot, panel)
    low, high = layer.extent.world
    assert panel.point == pytest.approx((low + high) / 2, abs=1e-3)
    assert np.array(viewer.dims.point) == pytest.approx((low + high) / 2, abs=1.6)


def check_window_drag(viewer, panel, qtbot) -> None:
    layer, pane = viewer.layers[0], panel.panes["axial"]
    before = tuple(layer.contrast_limits)
    qtbot.mousePress(native(pane), Qt.MouseButton.RightButton, pos=QPoint(60, 60))
    for step in range(1, 4):
        qtbot.mouseMove(native(pane), QPoint(60 + 20 * step, 60 + 5 * step))
        qtbot.wait(25)
    qtbot.mouseRelease(native(pane), Qt.MouseButton.RightButton, pos=QPoint(120, 75))
    assert tuple(layer.contrast_limits) != before
    for one in panel.panes.values():
        assert tuple(one.model.layers[0].contrast_limits) == pytest.approx(tuple(layer.contrast_limits))


def check_main_mouse(viewer, panel, qtbot) -> None:
    panel.panes["coronal"].double_clicked.emit("coronal")
    assert viewer.dims.order[0] == 1
    canvas = viewer.window._qt_viewer.canvas
    shown = canvas.view.transform * canvas.view.scene.transform
    there = viewer.layers[0].data_to_world((4, 20, 3))
    x, y = shown.map((there[2], there[0]))[:2]
    at, shift = QPoint(round(float(x)), round(float(y))), Qt.KeyboardModifier.ShiftModifier
    qtbot.mousePress(canvas.native, Qt.MouseButton.LeftButton, shift, at)
    qtbot.mouseRelease(canvas.native, Qt.MouseButton.LeftButton, shift, at)
    settle(qtbot, panel)
    assert panel.panes["axial"].model.dims.point[0] == pytest.approx(there[0], abs=0.7)
    assert panel.panes["sagittal"].model.dims.point[2] == pytest.approx(there[2], abs=0.7)


def check_no_work_twice(viewer, panel, qtbot) -> None:
    """A move slices what has to be sliced, once, and leaves no text to be placed by another draw."""
    panel.panes["axial"].double_clicked.emit("axial")
    panel.centre()
    settle(qtbot, panel)
    sliced = []
    canvases = {name: pane.model for name, pane in panel.panes.items()} | {"main": viewer}
    links = [(model.layers[0].events.set_data, lambda event, name=name: sliced.append(name))
             for name, model in canvases.items()]  # fmt: skip
    for event, callback in links:
        event.connect(callback)
    # Three moves before anything could be drawn: the canvases follow the last alone.
    there = viewer.layers[0].data_to_world((14, 8, 5))
    for share in (0.3, 0.6, 1.0):
        panel.panes["axial"].moved.emit(np.array((np.nan, *(share * np.array(there[1:])))))
    for name in canvases:
        assert name in panel._dirty
    panel._flush()
    assert sliced == ["coronal", "sagittal"]
    drawers = [*(pane.qt_viewer for pane in panel.panes.values()), viewer.window._qt_viewer]
    assert not any(one.canvas._needs_overlay_position_update for one in drawers)
    settle(qtbot, panel)
    # The sliders of the axes on screen follow, and have nothing to slice.
    assert sliced == ["coronal", "sagittal"]
    assert viewer.dims.point == pytest.approx((viewer.dims.point[0], *there[1:]), abs=1.6)
    viewer.dims.set_point(0, there[0] + 5)
    assert not viewer.window._qt_viewer.canvas._needs_overlay_position_update
    for event, callback in links:
        event.disconnect(callback)


def test_frames_follow_and_a_point_outside_comes_inside(planes, qtbot):
    frames = Frames("time", (0.0, 0.5, 1.0), "s")
    viewer, panel = planes(image_on(flipped_grid((8, 9, 10), frames)))
    layer = viewer.layers[0]
    viewer.dims.set_point(0, 1.0)
    settle(qtbot, panel)
    for pane in panel.panes.values():
        assert pane.model.dims.point[0] == 1.0
        assert letters(pane) == LETTERS[pane.plane]
        shown = np.asarray(pane.model.layers[0]._slice.image.raw)
        index = np.round(layer.world_to_data(pane.model.dims.point)).astype(int)
        keep = [slice(None) if axis in pane.model.dims.displayed else index[axis] for axis in range(4)]
        plain = np.asarray(layer.data)[tuple(keep)]
        assert index[0] == 2
        assert np.array_equal(shown, plain) or np.array_equal(shown, plain.T)
    panel.move_to((1.0, 1e6, -1e6, 1e6))
    settle(qtbot, panel)
    low, high = layer.extent.world
    assert viewer.dims.point[1:] == pytest.approx((high[1], low[2], high[3]))
    assert viewer.dims.point[0] == 1.0


# Painting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [flipped_grid(), difficult_grid((20, 22, 24))], ids=["flipped", "oblique"])
def test_painting_in_a_plane_writes_the_voxel_under_the_cursor(planes, qtbot, grid):
    viewer, panel = planes(image_on(grid), labels_on(grid))
    layer = viewer.layers["organs"]
    index = tuple(n // 3 for n in layer.data.shape)
    viewer.dims.set_point(range(3), layer.data_to_world(index))
    layer.mode, layer.brush_size, layer.selected_label = "paint", 1, 7
    settle(qtbot, panel)
    for plane, pane in panel.panes.items():
        # In the plane, another voxel than the one of the point.
        there = tuple(n if axis == PLANES[plane] else n + 4 for axis, n in enumerate(index))
        click(qtbot, pane, layer.data_to_world(there))
        qtbot.wait(60)
        assert [tuple(int(n) for n in at) for at in np.argwhere(np.asarray(layer.data))] == [there]
        # And it is the right voxel of the file: that whose image value is under the cursor.
        stored = layer_to_volume(layer, viewer.layers)
        (at,) = np.argwhere(stored.data == 7)
        assert layer_to_volume(viewer.layers["ct"]).data[tuple(at)] == np.asarray(viewer.layers["ct"].data)[there]
        # Painting leaves the point where it is.
        assert panel.point == pytest.approx(layer.data_to_world(index))
        layer.undo()
        assert not np.asarray(layer.data).any()


def test_strokes_in_all_canvases_are_undone_in_their_order_and_seen_everywhere(planes, qtbot):
    grid = flipped_grid()
    viewer, panel = planes(image_on(grid), labels_on(grid))
    layer = viewer.layers["organs"]
    index = (14, 20, 10)
    viewer.dims.set_point(range(3), layer.data_to_world(index))
    layer.mode, layer.brush_size = "paint", 1
    settle(qtbot, panel)
    seen = []
    layer.events.paint.connect(lambda event: seen.append(event.value))
    states = [np.array(layer.data)]
    strokes = ((index, 1, "axial"), ((20, 20, 10), 2, "coronal"), ((14, 25, 10), 3, "sagittal"))
    for there, label, plane in strokes:
        layer.selected_label = label
        assert panel.panes[plane].model.layers[1].selected_label == label
        click(qtbot, panel.panes[plane], layer.data_to_world(there))
        states.append(np.array(layer.data))
        assert layer.data[there] == label
    layer.paint((14, 20, 12), 4)
    states.append(np.array(layer.data))
    assert len(seen) == 4
    assert len(layer._undo_history) == 4
    settle(qtbot, panel)

    def shown(plane: str) -> set:
        return set(np.unique(panel.panes[plane].model.layers[1]._slice.image.raw).tolist()) - {0}

    # The stroke at the point itself is seen in all planes, the others where they lie.
    assert (shown("axial"), shown("coronal"), shown("sagittal")) == ({1, 3, 4}, {1, 2, 4}, {1, 2, 3})
    # Undone over a plane with the key, which acts on the layer itself.
    qtbot.keyClick(native(panel.panes["sagittal"]), Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert np.array_equal(layer.data, states[3])
    settle(qtbot, panel)
    assert shown("axial") == {1, 3}
    for state in (states[2], states[1], states[0]):
        layer.undo()
        assert np.array_equal(layer.data, state)
    for state in states[1:]:
        layer.redo()
        assert np.array_equal(layer.data, state)
    # A new stroke in a plane ends what could be redone.
    layer.undo()
    layer.selected_label = 9
    click(qtbot, panel.panes["axial"], layer.data_to_world((14, 24, 14)))
    assert not layer._redo_history
    layer.undo()
    assert np.array_equal(layer.data, states[3])

    check_tools(viewer, panel, qtbot)


def check_tools(viewer, panel, qtbot) -> None:
    layer, pane = viewer.layers["organs"], panel.panes["coronal"]
    index = (14, 20, 10)
    layer.data[:] = 5
    layer.refresh()
    layer.mode = "pick"
    click(qtbot, pane, layer.data_to_world(index))
    assert layer.selected_label == 5
    layer.mode = "erase"
    click(qtbot, pane, layer.data_to_world((17, 20, 12)))
    assert np.argwhere(np.asarray(layer.data) == 0).tolist() == [[17, 20, 12]]
    there = layer.data_to_world((5, 20, 4))
    click(qtbot, pane, there, modifier=Qt.KeyboardModifier.ShiftModifier)
    settle(qtbot, panel)
    assert panel.panes["axial"].model.dims.point[0] == pytest.approx(there[0], abs=0.7)
    assert np.count_nonzero(np.asarray(layer.data) == 0) == 1
    assert str(pane.model.layers[1].mode) == str(layer.mode) == "erase"
    check_space(viewer, panel, qtbot)


def check_space(viewer, panel, qtbot) -> None:
    """The tool is put down while Space is held over a plane, and taken up again."""
    layer, pane = viewer.layers["organs"], panel.panes["coronal"]
    before, here = np.array(layer.data), layer.data_to_world((9, 20, 7))
    qtbot.keyPress(native(pane), Qt.Key.Key_Space)
    assert {str(one.model.layers[1].mode) for one in panel.panes.values()} == {str(layer.mode)} == {"pan_zoom"}
    click(qtbot, pane, here)
    settle(qtbot, panel)
    assert panel.panes["axial"].model.dims.point[0] == pytest.approx(here[0], abs=0.7)
    assert np.array_equal(layer.data, before)
    qtbot.keyRelease(native(pane), Qt.Key.Key_Space)
    assert {str(one.model.layers[1].mode) for one in panel.panes.values()} == {str(layer.mode)} == {"erase"}


# Layers -----------------------------------------------------------------------------------------------------------


def test_layers_are_mirrored():
    viewer = ViewerModel()
    grid = flipped_grid()
    first = add(viewer, image_on(grid))
    copies = [ViewerModel(), ViewerModel()]
    mirrors = [mirror(viewer, copy) for copy in copies]
    labels = add(viewer, labels_on(grid))
    points = viewer.add_points(np.zeros((1, 3)))
    shapes = viewer.add_shapes(np.array([[0, 0, 0], [0, 2, 2]]), shape_type="line")

    def names(one):
        return [layer.name for layer in one.layers]

    assert names(copies[0]) == names(copies[1]) == names(viewer) == ["ct", "organs", "Points", "Shapes"]
    for copy, made in zip(copies, mirrors, strict=True):
        assert np.shares_memory(copy.layers[0].data, first.data)
        assert np.shares_memory(copy.layers[1].data, labels.data)
        assert made.twin(labels) is copy.layers[1]
        assert made.original(copy.layers[1]) is labels
        assert copy.layers.selection.active.name == "Shapes"
    first.name, first.visible, first.opacity, first.colormap = "renamed", False, 0.3, "viridis"
    labels.colormap = {0: "transparent", 1: "#00ff00", None: "gray"}
    for copy in copies:
        twin = copy.layers[0]
        assert (twin.name, twin.visible, twin.opacity, twin.colormap.name) == ("renamed", False, 0.3, "viridis")
        assert copy.layers[1].get_color(1)[:3].tolist() == [0, 1, 0]
    copies[0].layers[2].add(np.array([[1, 2, 3]]))
    assert np.array_equal(points.data, [[0, 0, 0], [1, 2, 3]])
    assert np.array_equal(copies[1].layers[2].data, points.data)
    points.data = points.data[1:]
    assert len(copies[0].layers[2].data) == len(copies[1].layers[2].data) == 1
    shapes.add_lines(np.array([[0, 0, 0], [0, 2, 4]]))
    assert len(copies[0].layers[3].data) == 2
    viewer.layers.move(0, 3)
    viewer.layers.move_multiple([0, 2], 1)
    assert names(copies[0]) == names(copies[1]) == names(viewer)
    seeds = viewer.add_points(ndim=3, face_color="#ff5252", name="seeds")
    copies[1].layers["seeds"].add(np.array([[1, 2, 3]]))
    assert np.allclose(seeds.face_color, [[1, 0x52 / 255, 0x52 / 255, 1]])
    viewer.layers.remove(seeds)
    labels.data = np.ones_like(labels.data)
    labels.editable = False
    labels.editable = True
    copies[1].layers["organs"].data_setitem((np.array([1]), np.array([2]), np.array([3])), 8)
    assert labels.data[1, 2, 3] == 8
    labels.undo()
    assert labels.data[1, 2, 3] == 1
    viewer.layers.remove(points)
    viewer.layers.selection.active = labels
    assert names(copies[0]) == names(viewer)
    assert copies[0].layers.selection.active.name == "organs"
    viewer.layers.clear()
    assert not copies[0].layers
    for made in mirrors:
        made.close()
    add(viewer, image_on(grid))
    assert not copies[1].layers


def test_pixels_are_square_in_mm_and_the_right_way_up(planes, qtbot):
    """A bright block towards left, posterior and superior is drawn on that side of every plane."""
    grid = flipped_grid()
    data = np.zeros(grid.shape, np.uint8)
    centre = grid.to_world((np.array(grid.spatial_shape) - 1) / 2)
    towards = centre + np.array([8.0, 8.0, 15.0])  # S, P, L
    at = np.round(grid.to_index(towards)).astype(int)
    # 9.6 mm along every axis.
    data[tuple(slice(n - h, n + h + 1) for n, h in zip(at, (1, 4, 6), strict=True))] = 255
    viewer, panel = planes(Volume(data, grid, name="block"))
    viewer.layers[0].contrast_limits = (0, 255)
    panel.crosshair_box.setChecked(False)
    shown = grid.to_world(at)
    for pane in panel.panes.values():
        pane.annotations.letters = pane.annotations.texts = False
    world = viewer.layers[0].data_to_world(np.argwhere(np.asarray(viewer.layers[0].data)).mean(axis=0))
    panel.move_to(world)
    settle(qtbot, panel)
    sides = {"axial": ("bottom", "right"), "coronal": ("top", "right"), "sagittal": ("top", "right")}
    assert shown == pytest.approx(towards, abs=2)
    for plane, pane in panel.panes.items():
        picture = pane.qt_viewer.screenshot(flash=False)[..., :3]
        rows, columns = np.nonzero(picture.min(axis=-1) > 200)
        assert rows.size
        vertical = "bottom" if rows.mean() > picture.shape[0] / 2 else "top"
        horizontal = "right" if columns.mean() > picture.shape[1] / 2 else "left"
        assert (vertical, horizontal) == sides[plane]
        high, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
        spacing = {"S": 1.25, "P": 0.8, "L": 3.0}
        size = {"S": 9 * 1.25, "P": 13 * 0.8, "L": 9.0}
        down, across = {"axial": "PL", "coronal": "SL", "sagittal": "SP"}[plane]
        assert high / wide == pytest.approx(size[down] / size[across], rel=0.12), (plane, spacing)
