"""What comes out of docks on grids of its own: spectra, resampled volumes, and how they are shown."""

import numpy as np
import pytest
from docking import add, open_dock, press
from napari.layers import Labels

from napari_lightbox.apply import apply
from napari_lightbox.geometry import Grid
from napari_lightbox.viewer.layers import layer_to_volume, true_position
from napari_lightbox.volume import Volume


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


def test_spectrum_lies_over_its_image_slice_by_slice(viewer, qtbot, difficult):
    layer = add(viewer, difficult)
    dock = open_dock(viewer, qtbot, "spectrum")
    dock.plane.setCurrentText("coronal")
    press(qtbot, dock)
    made = viewer.layers[-1]
    np.testing.assert_allclose([made.scale, made.translate], [layer.scale, layer.translate])
    assert made.units == layer.units
    # The slice on screen is the spectrum of the slice of the image that it lies on, up to mirroring.
    wanted = np.log1p(np.abs(np.fft.fft2(layer.data[:, 3].astype(float))))
    np.testing.assert_allclose(np.sort(made.data[:, 3].ravel()), np.sort(wanted.ravel()), atol=1e-4)
    np.testing.assert_array_equal(layer_to_volume(made).data, apply("spectrum", difficult, plane="coronal").data)
    assert "frequencies" in dock.bar.message


def test_the_zero_frequency_is_found_under_the_cursor(viewer, qtbot, difficult):
    add(viewer, difficult.replace(data=difficult.data + 1000))
    dock = open_dock(viewer, qtbot, "spectrum")
    press(qtbot, dock)
    made = viewer.layers[-1]
    peak = np.unravel_index(np.argmax(made.data), made.data.shape)
    axis = difficult.grid.plane_axis("axial")
    offset = np.delete(true_position(made, made.data_to_world(peak)), axis)
    np.testing.assert_allclose(offset, 0, atol=1e-9)


def test_resample_like_another_layer(viewer, qtbot, difficult):
    add(viewer, difficult)
    target = Grid.from_spacing((2, 2, 2), (12, 10, 8), difficult.grid.origin)
    add(viewer, Volume(np.zeros(target.shape, np.int16), target, name="target"))
    dock = open_dock(viewer, qtbot, "resample")
    dock.layers["volume"].choose(viewer.layers["difficult"])
    dock.layers["like"].choose(viewer.layers["target"])
    press(qtbot, dock)
    assert layer_to_volume(viewer.layers[-1]).grid.same_space(target)
    assert "another grid" in dock.bar.message


def test_a_result_on_another_grid_is_shown_alone(viewer, qtbot, difficult):
    source = add(viewer, difficult)
    labels = add(viewer, difficult.replace(data=(difficult.data > 0).astype(np.uint8), kind="labels", name="labels"))
    off = Grid.from_spacing((1, 1, 1), (4, 4, 4), np.add(difficult.grid.origin, 500))
    beside = add(viewer, Volume(np.zeros((4, 4, 4), np.int16), off, name="beside"))
    points = viewer.add_points([source.data_to_world((1, 1, 1))])
    viewer.layers.selection.active = source
    dock = open_dock(viewer, qtbot, "resample")
    dock.fields["spacing"].set_value((2.0, 2.0, 2.0))
    press(qtbot, dock)
    made = viewer.layers[-1]
    assert [layer.visible for layer in (made, source, labels, beside, points)] == [True, False, False, True, True]
    assert "shown alone" in dock.bar.message
    assert "eye" in dock.bar.message
    assert "labels" in dock.bar.message
    qtbot.waitUntil(lambda: viewer.layers.selection.active is made)


def test_a_result_on_the_same_grid_leaves_the_others_visible(viewer, qtbot, difficult):
    source = add(viewer, difficult)
    dock = open_dock(viewer, qtbot, "affine")
    dock.fields["rotate"].set_value((5.0, 0.0, 0.0))
    press(qtbot, dock)
    assert source.visible
    assert "is done" in dock.bar.message


def test_resample_to_a_spacing_given_x_first(viewer, qtbot, difficult):
    add(viewer, difficult)
    dock = open_dock(viewer, qtbot, "resample")
    field = dock.fields["spacing"]
    assert field.value() is None
    field.given.setChecked(True)
    assert field.layout().itemAt(1).widget().text() == "x"
    field.layout().itemAt(2).widget().setText("1.5")  # x is shown first
    field.layout().itemAt(6).widget().setText("2,5")
    assert field.value() == (2.5, 1.0, 1.5)
    press(qtbot, dock)
    np.testing.assert_allclose(layer_to_volume(viewer.layers[-1]).grid.spacing, (2.5, 1.0, 1.5))


def test_labels_are_resampled_too(viewer, qtbot, difficult):
    labels = difficult.replace(data=(difficult.data % 3).astype(np.uint8), kind="labels", labels={1: "a", 2: "b"})
    add(viewer, labels)
    dock = open_dock(viewer, qtbot, "reorient")
    dock.fields["code"].edit.setText("RAS")
    press(qtbot, dock)
    made = viewer.layers[-1]
    assert isinstance(made, Labels)
    volume = layer_to_volume(made)
    assert volume.grid.code == "RAS"
    assert volume.labels == labels.labels
    np.testing.assert_array_equal(made.data, viewer.layers[0].data)  # the picture on screen is the same
