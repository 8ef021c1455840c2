"""The Inference dock's preview of the slab on screen, its options, and runs that follow each other."""

import numpy as np
import pytest
from test_inference import make_panel, make_volume, run, write_model

from napari_lightbox.errors import InputError
from napari_lightbox.geometry import Grid
from napari_lightbox.models import load, predict, read_card
from napari_lightbox.preview import Where
from napari_lightbox.viewer.layers import is_preview, layer_to_volume, volume_to_layer
from napari_lightbox.viewer.panels._inference_preview import slab_of
from napari_lightbox.viewer.panels._made import common_prefix
from napari_lightbox.viewer.preview import visible_slice
from napari_lightbox.volume import Volume

pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")


ARCHITECTURE = {"name": "unet", "args": {"out_channels": 3, "channels": [4, 8], "norm": "batch"}}
# Thinner than the volumes here.
WINDOW = {"size": [4, 8, 8], "overlap": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of a small 3D model."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny", architecture=ARCHITECTURE, window=WINDOW)


def preview(panel, qtbot):
    panel.preview_button.click()
    assert panel.bar.running, panel.bar.message
    qtbot.waitUntil(lambda: not panel.bar.running and panel.bar.message.partition("Loading")[0] != "", timeout=60_000)
    return [layer for layer in panel.viewer.layers if is_preview(layer)]


# The slab ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("index", "start"), [(0, 0), (5, 3), (8, 5)])
def test_the_slab_is_as_thick_as_a_window_and_stays_where_it_is(folder, index, start):
    volume = Volume(np.arange(9 * 10 * 14.0).reshape(9, 10, 14), Grid.from_spacing((2, 1, 1), (9, 10, 14)))
    slab = slab_of([volume], read_card(folder), Where(0, index))
    assert (slab.start, slab.stop) == (start, start + 4)
    assert np.array_equal(slab.volumes[0].data, volume.data[start : start + 4])
    for corner in ((0, 0, 0), (3, 9, 13)):
        inside = slab.volumes[0].grid.to_world(np.array(corner))
        np.testing.assert_allclose(inside, volume.grid.to_world(np.add(corner, (start, 0, 0))))


def test_a_spacing_of_the_card_counts_in_millimetres(folder, tmp_path):
    wanted = {"channels": [{"name": "CT"}], "orientation": "LPS", "spacing": [4.0, 1.0, 1.0], "divisible_by": 2}
    card = read_card(write_model(tmp_path / "coarse", input=wanted, window={"size": [4, 8, 8], "overlap": 0.5}))
    volume = Volume(np.zeros((30, 10, 14)), Grid.from_spacing((2, 1, 1), (30, 10, 14)))
    slab = slab_of([volume], card, Where(0, 15))
    assert slab.stop - slab.start == 8  # 4 windows' voxels of 4 mm, in slices of 2 mm


def test_what_looks_at_all_of_an_image_takes_all_of_it_or_says_so(folder, tmp_path):
    channel = {"name": "CT", "intensity": {"rule": "zscore"}}
    scaled = read_card(write_model(tmp_path / "scaled", input={"channels": [channel], "divisible_by": 2}))
    volume = Volume(np.zeros((30, 10, 14)), Grid.from_spacing((2, 1, 1), (30, 10, 14)))
    assert "may differ" in slab_of([volume], scaled, Where(0, 3)).notes[0]
    resized = {"channels": [{"name": "CT"}], "resize": [8, 8, 8]}
    card = read_card(write_model(tmp_path / "resized", input=resized, window={"size": None}))
    slab = slab_of([volume], card, Where(0, 3))
    assert (slab.start, slab.stop, slab.notes) == (0, 30, ())


def test_a_model_of_slices_takes_the_one_on_screen_of_its_own_plane():
    card = read_card("fetal-head")
    volume = Volume(np.zeros((5, 20, 30), np.uint8), Grid.from_spacing((2, 1, 1), (5, 20, 30)))
    slab = slab_of([volume], card, Where(0, 3))
    assert (slab.start, slab.stop, slab.told) == (3, 4, "1 slice around this one")
    with pytest.raises(InputError, match="works on axial slices: show the axial plane"):
        slab_of([volume], card, Where(1, 3))


# The dock ---------------------------------------------------------------------------------------------------------


def test_a_preview_is_the_slab_as_the_model_sees_it(make_napari_viewer, qtbot, folder):
    volume = make_volume()
    panel = make_panel(make_napari_viewer(), qtbot, folder, volume)
    before = len(panel.viewer.layers)
    (layer,) = preview(panel, qtbot)
    assert layer.name == "preview scan \u00b7 tiny"
    slab = slab_of([volume], panel.card, visible_slice(panel.viewer, panel.viewer.layers["scan"], volume))
    expected = predict(slab.volumes[0], load(folder)).labels
    data, arguments, _ = volume_to_layer(expected)
    assert np.array_equal(layer.data, data)
    np.testing.assert_allclose((layer.scale, layer.translate), (arguments["scale"], arguments["translate"]))
    # The slice on screen is in it.
    index = layer.world_to_data(panel.viewer.dims.point)[panel.viewer.dims.not_displayed[0]]
    assert 0 <= round(index) < layer.data.shape[panel.viewer.dims.not_displayed[0]]
    assert f"{slab.stop - slab.start} slices" in panel.bar.message
    (second,) = preview(panel, qtbot)
    assert second is not layer
    assert len(panel.viewer.layers) == before + 1
    run(panel, qtbot)
    assert not any(is_preview(one) for one in panel.viewer.layers)


def test_a_preview_belongs_to_its_frame_and_goes_with_the_dock(make_napari_viewer, qtbot, folder):
    volume = make_volume((3, 9, 10, 14))
    panel = make_panel(make_napari_viewer(), qtbot, folder, volume)
    panel.viewer.dims.set_current_step(0, 2)
    (layer,) = preview(panel, qtbot)
    assert layer.data.shape[0] == 1
    np.testing.assert_allclose(layer.data_to_world((0, 0, 0, 0))[0], 2.0)
    panel.viewer.window.remove_dock_widget(panel)
    qtbot.waitUntil(lambda: layer not in panel.viewer.layers, timeout=5000)


def test_a_cancelled_preview_leaves_nothing(make_napari_viewer, qtbot, folder):
    panel = make_panel(make_napari_viewer(), qtbot, folder, make_volume())
    panel.preview_button.click()
    panel.bar.cancel_button.click()
    qtbot.waitUntil(lambda: not panel.bar.running, timeout=60_000)
    assert "cancelled" in panel.bar.message
    assert len(panel.viewer.layers) == 1
    panel.viewer.dims.ndisplay = 3
    panel.preview_button.click()
    assert "2D view" in panel.bar.message


def test_runs_are_numbered_and_the_earlier_one_is_hidden(make_napari_viewer, qtbot, folder):
    panel = make_panel(make_napari_viewer(), qtbot, folder, make_volume())
    panel.options.samples.setValue(0)
    first = run(panel, qtbot)
    second = run(panel, qtbot)
    assert [layer.name for layer in first] == ["scan \u00b7 tiny uncertainty", "scan \u00b7 tiny"]
    assert [layer.name for layer in second] == ["scan \u00b7 tiny #2 uncertainty", "scan \u00b7 tiny #2"]
    assert (first[-1].visible, second[-1].visible) == (False, True)
    assert "is hidden now" in panel.bar.message
    assert common_prefix(["a", "ab"]) == ""


def test_options_reach_the_model(make_napari_viewer, qtbot, folder, tmp_path):
    volume = make_volume()
    panel = make_panel(make_napari_viewer(), qtbot, folder, volume)
    other = write_model(tmp_path / "other", name="other", architecture=ARCHITECTURE, window=WINDOW, sha256=None)
    weights = safetensors_torch.load_file(other / "weights.safetensors")
    turned = {name: -value if name.endswith("weight") else value for name, value in weights.items()}
    safetensors_torch.save_file(turned, other / "weights.safetensors")
    panel.choose_model(other)
    panel.choose_model(folder)
    options = panel.options
    options.measure.setCurrentIndex(options.measure.findData("mutual_information"))
    panel.run_button.click()
    qtbot.waitUntil(lambda: "compares several passes" in panel.bar.message, timeout=60_000)
    options.together.menu().aboutToShow.emit()
    action = next(a for a in options.together.menu().actions() if a.text().startswith("other"))
    action.trigger()
    assert options.together.text() == "1 other model"
    options.memory.setValue(1.5)
    uncertainty, _ = run(panel, qtbot)
    found = layer_to_volume(uncertainty)
    expected = predict(volume, [load(folder), load(other)], uncertainty="mutual_information")
    assert expected.uncertainty.data.any()
    assert np.array_equal(found.data, expected.uncertainty.data)
    assert found.history[-1]["parameters"]["memory"] == 1.5e9
    panel.choose_model(other)
    assert options.others == ()
