"""What a dock takes from layers and hands back: matrices, copies of labels, edits, looks, units."""

import numpy as np
import pytest
from difficult_grids import difficult_grid
from napari.layers import Layer
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import Qt

from napari_lightbox.catalogue import OPERATIONS
from napari_lightbox.errors import InputError
from napari_lightbox.geometry import Frames
from napari_lightbox.progress import listening
from napari_lightbox.viewer import capture, docks
from napari_lightbox.viewer import dock as dock_module
from napari_lightbox.viewer.layers import layer_to_volume, volume_to_layer
from napari_lightbox.volume import Volume


def add(viewer, volume, **kwargs):
    return viewer.add_layer(Layer.create(*volume_to_layer(volume, **kwargs)))


def open_dock(viewer, qtbot, name):
    dock = getattr(docks, name)(PublicOnlyProxy(viewer))
    viewer.window.add_dock_widget(dock, name=name)
    return dock


def press(qtbot, dock):
    """Press Apply and wait until the dock is at rest."""
    qtbot.mouseClick(dock.apply_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not dock.bar.running, timeout=20_000)


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


def test_an_image_of_other_voxels_is_noted(viewer, qtbot, difficult):
    layer = add(viewer, difficult.replace(history=({"operation": "median"},)))
    open_dock(viewer, qtbot, "median")
    assert len(layer_to_volume(layer).history) == 1
    layer.data = layer.data + 1
    assert layer_to_volume(layer).history[-1]["operation"] == "manual edit"


def test_a_matrix_is_typed_in_the_order_of_the_command_line(viewer, qtbot):
    from napari_lightbox.cli.arguments import converter

    row = next(p for p in OPERATIONS["affine"].parameters if p.name == "matrix")
    field = open_dock(viewer, qtbot, "affine").fields["matrix"]
    text = "1,2,0,5; 0,1,3,0; 0,0,1,-7; 0,0,0,1"
    field.edit.setText(text)
    assert field.value() == converter(row)(text)
    assert [line[3] for line in field.value()] == [-7, 0, 5, 1]
    assert "x, y, z" in field.edit.placeholderText()
    field.set_value(field.value())
    assert field.value() == converter(row)(text)
    field.edit.setText("1,2")
    with pytest.raises(InputError, match="4x4"):
        field.value()
    field.reset()
    assert field.value() is None


def test_labels_are_copied_in_the_job_as_they_were_at_one_moment(viewer, qtbot, difficult, monkeypatch):
    seen = {}
    monkeypatch.setattr(capture, "_SLAB", 300)

    def keep(name, volume, **values):
        seen["given"] = volume
        return volume

    monkeypatch.setattr(dock_module, "apply", keep)
    layer = add(viewer, difficult.replace(data=np.zeros(difficult.grid.shape, np.uint8), kind="labels"))
    dock = open_dock(viewer, qtbot, "resample")
    dock.layers["volume"].choose(layer)
    assert np.shares_memory(dock._capture().volume.data, layer.data)
    press(qtbot, dock)
    assert not np.shares_memory(seen["given"].data, layer.data)


def test_a_copy_holds_no_half_stroke(difficult, monkeypatch):
    monkeypatch.setattr(capture, "_SLAB", 300)
    volume = difficult.replace(data=np.zeros(difficult.grid.shape, np.uint8), kind="labels")
    done = []

    def paint(what, at, total):
        if what == "slabs copied" and at == total - 1:
            volume.data[:] = 1  # a stroke through slabs copied and not yet copied
        if what == "slabs checked" and at == total - 1 and not done:
            done.append(at)
            volume.data[:] = 2

    with listening(paint):
        copied = capture.steady(volume)
    assert done
    assert (copied.data == 2).all()


def test_what_notch_passes_is_not_black(viewer, qtbot):
    x = np.arange(32.0)
    add(viewer, Volume.from_array(1000 + 50 * np.sin(np.pi * x / 2) * np.ones((1, 32, 1)), (1, 1, 1), name="waves"))
    dock = open_dock(viewer, qtbot, "notch")
    dock.fields["centers"].edit.setText("0, 8")
    dock.fields["mode"].set_value("pass")
    press(qtbot, dock)
    made = viewer.layers[-1]
    low, high = made.contrast_limits
    assert made.data.min() <= low < high <= made.data.max() < viewer.layers[0].contrast_limits[0]


def test_layers_of_ours_agree_on_units(viewer, qtbot, difficult):
    frames = difficult_grid((3, 6, 7, 8)[1:], Frames("time", (0, 0.5, 1), "s"))
    for volume in (difficult, Volume(np.zeros(frames.shape, np.float32), frames, name="beat")):
        layer = add(viewer, volume)
        dock = open_dock(viewer, qtbot, "region_grow")
        dock.layers["image"].choose(layer)
        dock.new_seeds_button.click()
        assert viewer.layers[-1].units == layer.units
        assert not viewer.layers[-1].metadata
        assert viewer.layers.extent.units is not None


def test_the_label_table_adopts_a_grid_without_copying(viewer, difficult, monkeypatch):
    from napari_lightbox.viewer.panels import labels_table

    image, shared = add(viewer, difficult), []
    viewer.add_labels(np.zeros(image.data.shape, np.uint8), scale=image.scale, translate=image.translate, name="new")

    def taken(layer, *given, **options):
        volume = layer_to_volume(layer, *given, **options)
        shared.append(np.shares_memory(volume.data, layer.data))
        return volume

    monkeypatch.setattr(labels_table, "layer_to_volume", taken)
    table = labels_table.LabelsTable(viewer)
    viewer.window.add_dock_widget(table, name="table")
    assert table._voxel_volume(viewer.layers["new"], []) == pytest.approx(difficult.grid.voxel_volume)
    assert shared
    assert all(shared)
