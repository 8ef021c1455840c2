"""The tab "Network": layers, kernels, feature maps and the receptive field at the cursor."""

from types import SimpleNamespace

import numpy as np
import pytest
from difficult_grids import difficult_grid
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_lightbox import Volume
from napari_lightbox.models import features
from napari_lightbox.viewer.layers import layer_to_volume, volume_to_layer
from napari_lightbox.viewer.panels import _explain_network
from napari_lightbox.viewer.panels.explain import ExplainPanel

torch = pytest.importorskip("torch")


@pytest.fixture
def opened(qtbot, monkeypatch):
    from napari_lightbox.models import Model, read_card
    from napari_lightbox.models.networks import build

    torch.manual_seed(0)
    net = build("unet", dims=2, out_channels=2, channels=(3, 4, 5, 5, 5, 5), norm="batch")
    model = Model(read_card("fetal-head"), net)
    monkeypatch.setattr(_explain_network, "load", lambda source: model)
    viewer = ViewerModel()
    grid = difficult_grid((1, 64, 96))
    image = Volume(
        np.random.default_rng(0).uniform(0, 9, (1, 64, 96)).astype(np.float32), grid, meta={"modality": "US"}
    )
    data, arguments, _ = volume_to_layer(image)
    viewer.add_image(data, **arguments)
    panel = ExplainPanel(PublicOnlyProxy(viewer))
    qtbot.addWidget(panel)
    panel.case.choose_model("fetal-head")
    panel.resize(340, 900)
    panel.tabs.setCurrentWidget(panel.network)
    panel.show()
    return viewer, panel, image, model


def press(qtbot, panel, button) -> None:
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not panel.bar.running, timeout=60_000)
    qtbot.wait(100)


def test_layers_kernels_and_feature_maps(qtbot, opened):
    viewer, panel, image, model = opened
    tab = panel.network
    assert not tab.features_button.isEnabled()
    press(qtbot, panel, tab.look_button)
    names = [tab.table.item(row, 0).text() for row in range(tab.table.rowCount())]
    assert names[-1] == "head"
    tab.table.selectRow(names.index("down.0"))
    tab.most_box.setValue(2)
    # Three kernels of 3 x 3, each of whose voxels is 11 pixels wide.
    picture = tab.pictures[0].pixmap().toImage()
    kernel = model.module.down[0].conv1.weight.detach().numpy()[:, 0]
    grey = 127.5 + 127.5 * kernel / np.abs(kernel).max()
    for number, row, column in ((0, 0, 2), (1, 1, 1), (2, 2, 0)):
        seen = picture.pixelColor(35 * number + 11 * column + 5, 11 * row + 5).red()
        assert seen == pytest.approx(grey[number, row, column], abs=1)
    press(qtbot, panel, tab.features_button)
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=20_000)
    found = features(image, model, "down.0", most=2)
    assert [layer.name for layer in viewer.layers][:0:-1] == [one.name for one in found]
    np.testing.assert_allclose(layer_to_volume(viewer.layers[-1], viewer.layers).data, found[0].data)
    assert [layer.visible for layer in viewer.layers] == [True, False, True]
    panel.case.choose_model("ct-regions")
    assert tab.table.rowCount() == 0


def test_the_receptive_field_follows_the_cursor(qtbot, opened):
    viewer, panel, image, _ = opened
    tab = panel.network
    press(qtbot, panel, tab.look_button)
    names = [tab.table.item(row, 0).text() for row in range(tab.table.rowCount())]
    tab.table.selectRow(names.index("down.0.conv1"))
    before = viewer.dims.range, viewer.dims.nsteps, viewer.dims.ndisplay, viewer.scene.camera.zoom
    press(qtbot, panel, tab.field_button)
    qtbot.waitUntil(lambda: tab.shapes is not None, timeout=20_000)
    tab.follow(np.asarray(viewer.layers[0].data_to_world((-5, -5, -5))))
    assert (viewer.dims.range, viewer.dims.nsteps, viewer.dims.ndisplay, viewer.scene.camera.zoom) == before
    assert viewer.layers[-1].name == "receptive field"
    point = np.asarray(viewer.layers[0].data_to_world(np.array(viewer.layers[0].data.shape) // 3))
    tab.follow(point)
    # 3 x 3 voxels of the network's 128 x 192, in mm of the image: within its slice, wherever that is shown.
    order = image.grid.order_for("LPS")[0]
    # One slice has one plane.
    assert len(tab.shapes.data) == 2
    box = np.asarray(tab.shapes.data[0])
    expected = 3 * np.array(image.grid.spacing) * (0, 64 / 128, 96 / 192)
    box = np.array([tab.shapes.data_to_world(corner) for corner in box])
    np.testing.assert_allclose(np.ptp(box, axis=0), expected[list(order)], rtol=1e-4)
    np.testing.assert_allclose(box.mean(axis=0), point, atol=1e-4)
    assert "at most 3 x 3 voxels" in tab.about.text()
    viewer.dims.point = point
    press(qtbot, panel, tab.keep_button)
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=20_000)
    kept = layer_to_volume(viewer.layers[-1], viewer.layers)
    assert kept.history[-1]["operation"] == "receptive_field"
    there = np.argwhere(np.asarray(kept.data) > 0)
    middle = image.grid.to_index(np.asarray(kept.history[-1]["parameters"]["point"]))
    np.testing.assert_allclose(there.mean(0), np.rint(middle), atol=0.51)
    # The place in the file, whose axes are shown in another order and turned.
    order, flips = image.grid.order_for("LPS")
    for axis, flip, size in zip(order, flips, viewer.layers[0].data.shape, strict=True):
        place = size // 3
        assert round(middle[axis]) == (size - 1 - place if flip else place)
    viewer.layers.pop()
    press(qtbot, panel, tab.field_button)
    assert [layer.name for layer in viewer.layers] == [viewer.layers[0].name]
    assert not viewer.mouse_move_callbacks


def test_what_was_found_is_a_page_and_the_kernels_are_layers(qtbot, opened, tmp_path, monkeypatch):
    viewer, panel, _, model = opened
    tab, button = panel.network, panel.findings.button
    assert not button.isEnabled()
    press(qtbot, panel, tab.look_button)
    tab.table.selectRow(0)
    press(qtbot, panel, tab.features_button)
    qtbot.waitUntil(lambda: len(viewer.layers) > 1, timeout=20_000)
    assert button.text() == "Report… (2 findings)"
    press(qtbot, panel, tab.kernels_button)
    qtbot.waitUntil(lambda: any("first kernels" in layer.name for layer in viewer.layers), timeout=20_000)
    layer = next(one for one in viewer.layers if one.name.endswith("· first kernels"))
    weights = model.module.down[0].conv1.weight.detach().numpy()
    np.testing.assert_allclose(np.asarray(layer.data)[0, :3, 4:7], weights[1, 0])
    page = tmp_path / "why.html"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "why"), ""))
    press(qtbot, panel, button)
    qtbot.waitUntil(page.exists, timeout=20_000)
    text = page.read_text(encoding="utf-8")
    # Kernels, their response, and the one slice of each of three feature maps.
    assert text.count("data:image/png") == 5
    assert "Feature maps of" in text
    assert "<td>features</td>" in text
    # The same channels of another image are another finding, and so is every sweep, also when those before are gone.
    volumes = [layer_to_volume(one, viewer.layers) for one in viewer.layers if "channel" in one.name]
    for name in ("scan", "other"):
        steps = [({**one.history[-1], "inputs": [name]},) for one in volumes]
        panel.findings.keep_network("x", tuple(v.replace(history=h) for v, h in zip(volumes, steps, strict=True)))
    for _ in range(3):
        sweep = SimpleNamespace(perturbation=SimpleNamespace(title="Noise"), model="m", image="scan")
        panel.findings.keep_sweep(SimpleNamespace(sweep=sweep, pictures=[]), (), None)
        del sweep
    assert button.text() == "Report… (7 findings)"
    for key in list(panel.findings.kept)[-3:]:
        del panel.findings.kept[key]
    # Without a model, what was found can still be written.
    panel.case.model_box.setCurrentIndex(-1)
    panel.findings.write(tmp_path / "more.html")
    qtbot.waitUntil((tmp_path / "more.html").exists, timeout=20_000)
    qtbot.waitUntil(lambda: not panel.bar.running, timeout=20_000)
    qtbot.mouseClick(panel.findings.clear_button, Qt.MouseButton.LeftButton)
    assert not button.isEnabled()


def test_the_box_of_a_receptive_field_ends_with_the_image():
    around = np.array([[0.5, 0.5], [90, 90], [3, 3]])
    (plane,) = _explain_network.rectangles(np.array([0.0, 10, 20]), around, (1, 64, 96))
    assert (plane.min(0).tolist(), plane.max(0).tolist()) == ([0, 0, 17], [0, 63, 23])
    solid = _explain_network.rectangles(np.array([1.0, 4, 10, 20]), around, (2, 8, 64, 96))
    assert len(solid) == 3
    assert (np.min(solid, (0, 1)).tolist(), np.max(solid, (0, 1)).tolist()) == ([1, 3.5, 0, 17], [1, 4.5, 63, 23])
