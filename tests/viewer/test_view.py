"""Letters, planes and positions on the canvas are those of the patient, whatever the order of the stored voxels."""

from itertools import permutations, product

import napari
import numpy as np
import pytest
from difficult_grids import difficult_grid, turned
from napari.components import ViewerModel
from napari.qt import QtViewer
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QLabel

from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.viewer import orientation
from napari_lightbox.viewer.layers import volume_to_layer
from napari_lightbox.viewer.panels._annotations import status_text
from napari_lightbox.viewer.panels._planes import letters_now, show_plane
from napari_lightbox.viewer.panels.view import ViewPanel, about, attach
from napari_lightbox.viewer.scrolled import Scrolled
from napari_lightbox.volume import Label, Volume

# World (z, y, x) in LPS mm: a step of this direction goes towards the letter.
TOWARDS = {"S": (1, 0, 0), "I": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "L": (0, 0, 1), "R": (0, 0, -1)}
TOWARDS_AXIS = ("SI", "PA", "LR")
SIGNED = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
# What a radiologist expects at the top, bottom, left and right of each plane.
EXPECTED = {"axial": "APRL", "coronal": "SIRL", "sagittal": "SIAP"}


def signed_grid(order, signs, shape=(11, 13, 15), spacing=(2.0, 1.5, 1.0), turn=None) -> Grid:
    direction = np.zeros((3, 3))
    for column, (world, sign) in enumerate(zip(order, signs, strict=True)):
        direction[world, column] = sign
    direction = direction if turn is None else turn @ direction
    return Grid.from_spacing(spacing, shape, (40.0, -30.0, 20.0), direction)


def with_marker(grid: Grid, letters: str, millimetres=4.5) -> Volume:
    """Return a black volume with one bright voxel off its centre towards one or more sides of the patient."""
    data = np.zeros(grid.shape, np.uint8)
    centre = grid.to_world((np.array(grid.spatial_shape) - 1) / 2)
    step = sum(millimetres * np.array(TOWARDS[letter]) for letter in letters)
    index = np.round(grid.to_index(centre + step)).astype(int)
    data[(slice(None),) * (data.ndim - 3) + tuple(index)] = 255
    return Volume(data, grid, name=f"marker {letters}")


def add(viewer, volume: Volume, **kwargs):
    data, arguments, kind = volume_to_layer(volume, **kwargs)
    return getattr(viewer, f"add_{kind}")(data, **arguments)


def side_of_marker(viewer, layer) -> set:
    """Say on which sides of the canvas the bright voxel is drawn, by napari's own transform and camera."""
    at = np.argwhere(np.asarray(layer.data) == 255)[0]
    middle = (np.array(layer.data.shape) - 1) / 2
    step = np.subtract(layer.data_to_world(at), layer.data_to_world(middle))
    row, column = (step[axis - viewer.dims.ndim] for axis in viewer.dims.displayed)
    vertical, horizontal = (str(o) for o in viewer.scene.camera.orientation2d)
    sides = set()
    if abs(row) > 1:
        sides.add("bottom" if (row > 0) == (vertical == "down") else "top")
    if abs(column) > 1:
        sides.add("right" if (column > 0) == (horizontal == "right") else "left")
    return sides


def overlay_letters(viewer) -> str:
    overlays = viewer.canvas.overlays
    return " ".join(overlays[f"lightbox_{edge}"].text for edge in ("top", "bottom", "left", "right"))


# Letters ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plane", EXPECTED)
def test_letters_of_all_48_storage_orders(plane):
    viewer = ViewerModel()
    attach(viewer)
    for order, signs in SIGNED:
        viewer.layers.clear()
        layer = add(viewer, with_marker(signed_grid(order, signs), "LPS"))
        show_plane(viewer, plane)
        assert overlay_letters(viewer) == " ".join(EXPECTED[plane])
        edges = letters_now(viewer)
        letters = {getattr(edges, side) for side in side_of_marker(viewer, layer)}
        assert letters == set("LPS") & set(EXPECTED[plane]), (order, signs)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("camera", list(product(("up", "down"), ("left", "right"))))
def test_letters_follow_dims_order_and_camera(order, camera):
    viewer = ViewerModel()
    attach(viewer)
    for corner in ("LPS", "RAI"):
        viewer.layers.clear()
        layer = add(viewer, with_marker(signed_grid((2, 0, 1), (1, -1, 1)), corner))
        viewer.dims.order = order
        viewer.scene.camera.orientation2d = camera
        letters = {viewer.canvas.overlays[f"lightbox_{side}"].text for side in side_of_marker(viewer, layer)}
        # The sliced axis has its letter on no edge.
        assert letters == set(corner) - set(TOWARDS_AXIS[order[0]])


def test_letters_follow_a_layer_flipped_and_rotated_by_hand():
    viewer = ViewerModel()
    attach(viewer)
    layer = add(viewer, with_marker(signed_grid((0, 1, 2), (1, 1, 1)), "L"))
    layer.scale = (2.0, 1.5, -1.0)
    assert overlay_letters(viewer) == "A P L R"
    layer.scale = (2.0, 1.5, 1.0)
    layer.rotate = 90
    (side,) = side_of_marker(viewer, layer)
    assert viewer.canvas.overlays[f"lightbox_{side}"].text == "L"


def test_oblique_axes_are_marked_and_straight_ones_are_not():
    viewer = ViewerModel()
    attach(viewer)
    layer = add(viewer, Volume(np.zeros((9, 12, 15), np.int16), difficult_grid()))
    for plane, letters in EXPECTED.items():
        show_plane(viewer, plane)
        assert overlay_letters(viewer) == " ".join(f"{letter}~" for letter in letters)
    assert "oblique by" in viewer.canvas.overlays["lightbox_series"].text
    assert "oblique by" in about(layer)
    viewer.layers.clear()
    # Turned about the axis from right to left: those two letters stay exact.
    add(viewer, with_marker(signed_grid((0, 1, 2), (1, 1, 1), turn=turned((0, 0, 12))), "L"))
    show_plane(viewer, "axial")
    assert overlay_letters(viewer) == "A~ P~ R L"
    viewer.layers.clear()
    add(viewer, with_marker(signed_grid((0, 1, 2), (1, 1, 1), turn=turned((0.5, 0, 0))), "L"))
    show_plane(viewer, "axial")
    assert overlay_letters(viewer) == "A P R L"


def test_unknown_orientation_is_a_question_mark():
    viewer = ViewerModel()
    attach(viewer)
    layer = add(viewer, Volume.from_array(np.zeros((4, 5, 6), np.int16)))
    assert overlay_letters(viewer) == "? ? ? ?"
    assert "orientation unknown" in about(layer)
    foreign = viewer.add_image(np.zeros((4, 5, 6)))
    assert overlay_letters(viewer) == "? ? ? ?"
    assert "not known" in about(foreign)
    assert about(None)


def test_letters_go_in_3d_and_come_back_and_can_be_switched_off(make_napari_viewer):
    viewer = make_napari_viewer()
    panel = ViewPanel(viewer)
    assert not viewer.canvas.overlays["lightbox_top"].visible
    add(viewer, with_marker(signed_grid((0, 1, 2), (1, 1, 1)), "L"))
    assert viewer.canvas.overlays["lightbox_top"].visible
    viewer.dims.ndisplay = 3
    assert not viewer.canvas.overlays["lightbox_top"].visible
    viewer.dims.ndisplay = 2
    assert overlay_letters(viewer) == "A P R L"
    panel.letters_box.setChecked(False)
    panel.texts_box.setChecked(False)
    assert not any(viewer.canvas.overlays[f"lightbox_{k}"].visible for k in ("top", "left", "series", "window"))


def test_points_and_new_labels_lie_in_the_world_of_the_volume():
    viewer = ViewerModel()
    attach(viewer)
    add(viewer, with_marker(signed_grid((1, 0, 2), (1, -1, -1)), "L"))
    viewer.add_points(np.zeros((1, 3)))
    assert overlay_letters(viewer) == "A P R L"
    viewer.add_labels(np.zeros((3, 4, 5), np.uint8))
    assert overlay_letters(viewer) == "A P R L"
    viewer.layers.selection.clear()
    assert overlay_letters(viewer) == "A P R L"


def test_attach_twice_changes_nothing_and_takes_a_proxy():
    viewer = ViewerModel()
    first = attach(viewer)
    callbacks = list(viewer.mouse_drag_callbacks)
    count = len(viewer.canvas.overlays)
    assert attach(PublicOnlyProxy(viewer)) is first
    assert viewer.mouse_drag_callbacks == callbacks
    assert len(viewer.canvas.overlays) == count
    layer = add(viewer, with_marker(signed_grid((0, 1, 2), (1, 1, 1)), "L"))
    before = len(layer.events.contrast_limits.callbacks)
    add(viewer, with_marker(signed_grid((0, 1, 2), (1, 1, 1)), "R"))
    assert len(layer.events.contrast_limits.callbacks) == before


# Planes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [None, Frames("time", (0.0, 0.5, 1.0), "s")])
def test_plane_buttons_keep_frames_as_slider_and_come_back_fitted(make_napari_viewer, frames):
    viewer = make_napari_viewer()
    panel = ViewPanel(viewer)
    grid = signed_grid((1, 2, 0), (1, -1, 1)).with_frames(frames)
    add(viewer, with_marker(grid, "S"))
    lead = viewer.dims.ndim - 3
    panel.plane_buttons["coronal"].click()
    assert viewer.dims.order == (*range(lead), lead + 1, lead, lead + 2)
    zoom = viewer.scene.camera.zoom
    viewer.scene.camera.zoom *= 7
    viewer.scene.camera.center = (0, 500.0, 500.0)
    panel.plane_buttons["coronal"].click()
    assert viewer.scene.camera.zoom == pytest.approx(zoom)
    panel.plane_buttons["sagittal"].click()
    assert viewer.dims.order == (*range(lead), lead + 2, lead, lead + 1)
    viewer.dims.ndisplay = 3
    panel.plane_buttons["axial"].click()
    assert viewer.dims.ndisplay == 2
    assert viewer.dims.order == tuple(range(viewer.dims.ndim))
    if frames is not None:
        assert "frame 2/3  (time 0.5 s)" in viewer.canvas.overlays["lightbox_series"].text


def test_no_row_is_cut_in_a_low_dock(make_napari_viewer):
    panel = ViewPanel(make_napari_viewer())
    assert panel.minimumSizeHint().height() < 200
    for height in (200, 900):
        panel.resize(300, height)
        for widget in (panel, panel.findChild(Scrolled).widget()):
            widget.layout().activate()
        hint = next(label for label in panel.findChildren(QLabel) if label.text().startswith("Drag"))
        hint.parentWidget().layout().activate()
        assert hint.height() >= hint.heightForWidth(hint.width()) >= 2 * hint.fontMetrics().height()


def test_a_fitted_plane_stays_fitted_when_the_window_changes(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    attach(viewer)
    layer = add(viewer, with_marker(signed_grid((0, 1, 2), (1, 1, 1)), "S"))
    viewer.window.resize(900, 700)
    qtbot.wait(100)

    def share() -> float:
        # The extent goes from centre to centre of the outermost voxels.
        low, high = layer.extent.world
        return max((high - low + layer.scale)[1:] * viewer.scene.camera.zoom / np.array(viewer.canvas.size))

    assert share() == pytest.approx(0.9, abs=0.02)
    viewer.window.resize(1300, 1000)
    qtbot.wait(100)
    assert share() == pytest.approx(0.9, abs=0.02)
    viewer.scene.camera.zoom *= 2
    zoom = viewer.scene.camera.zoom
    viewer.window.resize(900, 700)
    qtbot.wait(100)
    assert viewer.scene.camera.zoom == pytest.approx(zoom)


def test_a_slice_outside_of_the_volume_comes_back_inside(make_napari_viewer):
    viewer = make_napari_viewer()
    attach(viewer)
    layer = add(viewer, with_marker(signed_grid((0, 1, 2), (1, 1, 1)), "S"))
    viewer.add_points(np.array([[900.0, 900.0, 900.0]]))
    viewer.layers.selection.active = layer
    viewer.dims.set_point(1, 900.0)
    show_plane(viewer, "coronal")
    low, high = layer.extent.world[:, 1]
    assert low < viewer.dims.point[1] < high


def test_first_volume_opens_in_the_plane_it_was_acquired_in():
    for shape, spacing, plane in (
        ((1, 13, 15), (1.0, 1.0, 1.0), "sagittal"),
        ((9, 13, 15), (5.0, 1.0, 1.0), "sagittal"),
        ((9, 13, 15), (1.2, 1.0, 1.0), "axial"),
    ):
        viewer = ViewerModel()
        attach(viewer)
        # Stored as slices along left, as a sagittal MR is.
        add(viewer, with_marker(signed_grid((2, 1, 0), (1, 1, -1), shape, spacing), "A"))
        assert overlay_letters(viewer) == " ".join(EXPECTED[plane])
    assert orientation.natural_plane(Grid.from_spacing((1, 1, 1), (1, 1, 5))) == "axial"


def test_3d_is_no_mirror_image():
    viewer = ViewerModel()
    attach(viewer)
    add(viewer, with_marker(signed_grid((1, 0, 2), (1, -1, -1)), "L"))
    for plane in EXPECTED:
        show_plane(viewer, plane)
        viewer.dims.ndisplay = 3
        depth, vertical, horizontal = (str(o) for o in viewer.scene.camera.orientation)
        # Right, up and towards the eye, in the patient's (x, y, z), must be right-handed.
        axes = [np.eye(3)[2 - axis] for axis in viewer.dims.displayed]
        axes[0] = axes[0] * (1 if depth == "towards" else -1)
        axes[1] = axes[1] * (1 if vertical == "up" else -1)
        axes[2] = axes[2] * (1 if horizontal == "right" else -1)
        assert np.linalg.det([axes[2], axes[1], axes[0]]) == pytest.approx(1)
        viewer.dims.ndisplay = 2


def bright_pixel(viewer, qtbot) -> tuple[str, str]:
    """Say where on a screenshot the bright voxel is: (top or bottom, left or right)."""
    for _ in range(3):
        qtbot.wait(20)
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3]
    # Letters are yellow and the corner texts are switched off: only the voxel is white.
    rows, columns = np.nonzero(picture.min(axis=-1) > 240)
    assert rows.size, "the marker is not on the picture"
    assert picture.shape[0] > rows.max() > rows.min() > 0
    return (
        "bottom" if rows.mean() > picture.shape[0] / 2 else "top",
        "right" if columns.mean() > picture.shape[1] / 2 else "left",
    )


@pytest.mark.parametrize("stored", [0, 22, 47])
def test_marker_is_drawn_on_the_side_of_its_letter(make_napari_viewer, qtbot, stored):
    viewer = make_napari_viewer(show=True)
    attach(viewer).texts = False
    grid = signed_grid(*SIGNED[stored], shape=(21, 25, 27))
    for plane, letters in {"axial": "PL", "coronal": "SR", "sagittal": "IA"}.items():
        viewer.layers.clear()
        add(viewer, with_marker(grid, letters, 6.0), contrast_limits=(0, 255))
        show_plane(viewer, plane)
        edges = letters_now(viewer)
        vertical, horizontal = bright_pixel(viewer, qtbot)
        assert (getattr(edges, vertical), getattr(edges, horizontal)) == tuple(letters)


# Status bar -------------------------------------------------------------------------------------------------------


def hover(viewer, layer, index) -> str:
    viewer.mouse_over_canvas = True
    viewer.cursor.position = tuple(layer.data_to_world(index))
    return viewer.status


def test_status_gives_true_position_of_an_oblique_volume(make_napari_viewer, difficult):
    viewer = make_napari_viewer()
    attach(viewer)
    layer = add(viewer, difficult)
    show_plane(viewer, "coronal")
    stored = (6, 3, 10)
    z, y, x = difficult.grid.to_world(stored)
    at = np.argwhere(np.asarray(layer.data) == difficult.data[stored])[0]
    viewer.dims.set_point(range(3), layer.data_to_world(at))
    text = hover(viewer, layer, at)
    sides = ["LR"[int(x < 0)], "PA"[int(y < 0)], "SI"[int(z < 0)]]
    numbers = [f"{abs(v):.1f}" for v in (x, y, z)]
    assert text.startswith("  ".join(f"{s} {n}" for s, n in zip(sides, numbers, strict=True)) + " mm")
    assert f"difficult: {difficult.data[stored]}" in text


def test_status_names_units_and_labels_and_replaces_what_napari_writes(make_napari_viewer):
    viewer = make_napari_viewer()
    attach(viewer)
    grid = Grid.from_spacing((2.0, 1.0, 1.0), (4, 5, 6), (101.2, 45.0, -12.3))
    ct = Volume(np.full((4, 5, 6), -57, np.int16), grid, name="ct", meta={"modality": "CT", "unit": "HU"})
    organs = np.zeros((4, 5, 6), np.uint8)
    organs[2, 2, 2] = 5
    organs[2, 2, 3] = 9
    labels = Volume(organs, grid, "labels", "organs", {5: Label("liver")})
    image = add(viewer, ct)
    add(viewer, labels)
    viewer.layers.selection.active = image
    viewer.dims.set_point(0, 105.2)
    wanted = "R 10.3  P 47.0  S 105.2 mm    ct: -57 HU    organs: liver (5)"
    assert hover(viewer, image, (2, 2, 2)) == wanted
    assert hover(viewer, image, (2, 2, 3)).endswith("ct: -57 HU    organs: label 9")
    assert hover(viewer, image, (2, 2, 4)).endswith("ct: -57 HU")
    viewer.layers.selection.active = viewer.layers["organs"]
    assert hover(viewer, image, (2, 2, 4)).endswith("organs: background    ct: -57 HU")
    hover(viewer, image, (2, 2, 2))
    viewer.update_status_from_cursor()
    assert viewer.status == "R 10.3  P 47.0  S 105.2 mm    organs: liver (5)    ct: -57 HU"
    viewer.layers.selection = set(viewer.layers)
    viewer.update_status_from_cursor()
    assert viewer.status.startswith("R 10.3  P 47.0")
    viewer.status = "Saved to disk"
    assert viewer.status == "Saved to disk"
    if viewer.window is not None:
        assert viewer.window._status_bar._status.text() == "Saved to disk"


def test_status_without_known_geometry_claims_nothing(make_napari_viewer):
    viewer = make_napari_viewer()
    attach(viewer)
    layer = add(viewer, Volume.from_array(np.full((4, 5, 6), 0.123456), name="picture"))
    assert hover(viewer, layer, (2, 2, 3)) == "x 3.0  y 2.0  z 2.0 px    picture: 0.1235"
    viewer.dims.ndisplay = 3
    assert status_text(viewer) is None
    viewer.dims.ndisplay = 2
    viewer.layers.clear()
    foreign = viewer.add_image(np.zeros((4, 5, 6)))
    assert status_text(viewer) is None
    assert isinstance(foreign, napari.layers.Image)


def test_position_text_rounds_without_a_negative_zero():
    assert orientation.position_text(np.array([-0.04, 0.0, 7.25])) == "L 7.2  P 0.0  S 0.0 mm"


# Keys -------------------------------------------------------------------------------------------------------------


def test_keys_show_planes(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    attach(viewer)
    add(viewer, with_marker(signed_grid((0, 1, 2), (1, 1, 1)), "L"))
    native = viewer.window._qt_viewer.canvas.native
    for key, plane in ((Qt.Key.Key_2, "coronal"), (Qt.Key.Key_3, "sagittal"), (Qt.Key.Key_1, "axial")):
        qtbot.keyClick(native, key, Qt.KeyboardModifier.AltModifier)
        assert overlay_letters(viewer) == " ".join(EXPECTED[plane])


def test_right_drag_without_an_image_still_zooms(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    attach(viewer)
    viewer.add_points(np.zeros((1, 3)))
    native = viewer.window._qt_viewer.canvas.native
    zoom = viewer.scene.camera.zoom
    qtbot.mousePress(native, Qt.MouseButton.RightButton, pos=QPoint(100, 100))
    for step in range(1, 6):
        qtbot.mouseMove(native, QPoint(100 + 10 * step, 100 + 10 * step))
        qtbot.wait(20)
    qtbot.mouseRelease(native, Qt.MouseButton.RightButton, pos=QPoint(150, 150))
    qtbot.waitUntil(lambda: viewer.scene.camera.zoom != zoom, timeout=2000)


# Layers that are not on screen ------------------------------------------------------------------------------------


def test_letters_and_texts_are_those_of_what_is_on_screen():
    viewer = ViewerModel()
    attach(viewer)
    straight = add(viewer, with_marker(signed_grid((0, 1, 2), (1, 1, 1)), "L"))
    unknown = Volume.from_array(np.zeros((24, 13, 15), np.int16), spacing=(2.0, 1.5, 1.0), name="unknown")
    small = add(viewer, unknown)
    series = viewer.canvas.overlays["lightbox_series"]
    viewer.dims.set_point(0, 42.0)
    assert overlay_letters(viewer) == "? ? ? ?"
    assert series.text.startswith("unknown")
    # Above the second one: its letters would be those of nothing on screen.
    viewer.dims.set_point(0, 50.0)
    assert viewer.layers.selection.active is small
    assert overlay_letters(viewer) == "A P R L"
    assert series.text.startswith("marker L")
    viewer.dims.set_point(0, 42.0)
    small.visible = False
    assert overlay_letters(viewer) == "A P R L"
    assert series.text.startswith("marker L")
    straight.visible = False
    # Nothing is seen: the active one speaks.
    assert overlay_letters(viewer) == "? ? ? ?"


# Narrow canvases --------------------------------------------------------------------------------------------------

NAME = "T1W_trans_5_15_30_SENSE_FSL_10_1_a_series_with_a_long_name"


def test_corner_texts_lie_beside_the_letters_and_are_not_cut(make_napari_viewer, qtbot):
    # Not in a main window, whose menus and lists keep it wide.
    viewer = ViewerModel()
    attach(viewer)
    qt_viewer = QtViewer(viewer)
    frames = Frames("time", (0.0, 0.5, 1.0), "s")
    grid = difficult_grid().with_frames(frames)
    add(viewer, Volume(np.zeros(grid.shape, np.int16), grid, name=NAME), contrast_limits=(-1234.5, 3456.5))
    qt_viewer.resize(1600, 480)
    qt_viewer.show()
    for width in (290, 420, 700, 1089, 1600):
        qt_viewer.resize(width, 480)
        qtbot.waitUntil(lambda: viewer.canvas.size[1] == qt_viewer.canvas.native.width() > 0, timeout=10_000)
        assert abs(viewer.canvas.size[1] - width) < 20
        check_corners(viewer, qt_viewer.canvas)
    qt_viewer.close()


def check_corners(viewer, canvas) -> None:
    visuals = {
        key: canvas._viewer_overlay_to_visual[viewer.canvas.overlays[f"lightbox_{key}"]][0]
        for key in ("top", "bottom", "left", "right", "series", "window")
    }
    canvas.on_draw()
    boxes = {}
    for key, visual in visuals.items():
        corner = np.array(visual.node.transform.translate[:2])
        boxes[key] = corner, np.add(corner, (visual.x_size, visual.y_size))
    size = np.array(canvas.size[::-1])
    for key, (low, high) in boxes.items():
        assert (low >= 0).all(), key
        assert (high <= size).all(), (key, high, size)
        for other, (start, end) in boxes.items():
            assert key == other or (high <= start).any() or (low >= end).any(), (key, other, size)
    text = viewer.canvas.overlays["lightbox_series"].text
    assert text.startswith(NAME[:8])
    for part in ("coronal 4/9", "frame 2/3", "(time 0.5 s)", "oblique by"):
        assert part in text.replace("\n", " ")
    assert viewer.canvas.overlays["lightbox_window"].text.split() == ["W", "4691", "L", "1111"]
