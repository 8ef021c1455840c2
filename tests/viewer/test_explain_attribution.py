"""The tab "Attribution", driven as a hand would, on a model whose maps are known."""

import numpy as np
import pytest
from difficult_grids import difficult_grid
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

from napari_lightbox import Frames, Label, Volume
from napari_lightbox.report.explained import UNITS
from napari_lightbox.viewer.layers import layer_to_volume, volume_to_layer
from napari_lightbox.viewer.panels import _explain_attribution
from napari_lightbox.viewer.panels._error_work import REVIEW
from napari_lightbox.viewer.panels.explain import ExplainPanel

torch = pytest.importorskip("torch")

SHAPE = (3, 12, 14)


def half(x):
    """Give a logit that is half of the image for the class, less what lies to the left."""
    return torch.cat([torch.zeros_like(x), 0.5 * x - 0.25 * torch.roll(x, 1, -1)], 1)


def add(viewer, volume: Volume):
    data, arguments, kind = volume_to_layer(volume)
    return getattr(viewer, f"add_{kind}")(data, **arguments)


@pytest.fixture
def opened(qtbot, monkeypatch):
    monkeypatch.setattr(_explain_attribution, "load", lambda source: half)
    viewer = ViewerModel()
    grid = difficult_grid(SHAPE)
    data = np.random.default_rng(0).uniform(1, 9, (2, *SHAPE)).astype(np.float32)
    image = Volume(data, grid.with_frames(Frames("time", (0, 1), "s")), name="scan", meta={"modality": "US"})
    numbers = np.zeros(SHAPE, np.uint8)
    numbers[1, 4:6, 5:9], numbers[0, 2, 2] = 2, 1
    labels = Volume(numbers, grid, "labels", "errors", {1: Label("one"), 2: Label("two")})
    add(viewer, image)
    layer = add(viewer, labels)
    panel = ExplainPanel(PublicOnlyProxy(viewer))
    qtbot.addWidget(panel)
    panel.case.choose_model("fetal-head")
    panel.resize(340, 900)
    panel.tabs.setCurrentWidget(panel.attribution)
    panel.show()
    return viewer, panel, image, numbers, layer


def explain(qtbot, panel, viewer, count: int):
    qtbot.mouseClick(panel.attribution.run_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not panel.bar.running, timeout=60_000)
    qtbot.waitUntil(lambda: len(viewer.layers) == count, timeout=20_000)
    return viewer.layers[-1]


def expected(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    counts = 0.5 * region - 0.25 * np.roll(region, -1, -1)
    return image * counts


def test_the_selected_error_is_explained_in_the_frame_shown(qtbot, opened):
    viewer, panel, image, numbers, layer = opened
    tab = panel.attribution
    tab.region_box.choose(layer)
    tab.part_box.setCurrentIndex(0)
    layer.selected_label = 2
    viewer.dims.set_current_step(0, 1)
    tab.method_box.setCurrentIndex(tab.method_box.findData("gradient"))
    assert not tab.steps_box.isVisibleTo(tab)
    made = explain(qtbot, panel, viewer, 3)
    found = layer_to_volume(made, viewer.layers)
    np.testing.assert_allclose(found.data, expected(image.data[1], numbers == 2), rtol=1e-5)
    assert made.name == "scan · gradient x input of class 1"
    low, high = made.contrast_limits
    assert low == -high < 0
    assert made.colormap.name == "against and for"
    # One name for one method, and the unit of its numbers.
    assert tab.method_box.currentText() == "Gradient x input"
    assert "Gradient x input" in tab.method_box.toolTip()
    assert UNITS["gradient"] in tab.method_box.toolTip()
    assert UNITS["gradient"] in tab.about.text()
    assert "errors, two" in tab.about.text()
    assert found.history[-1]["operation"] == "attribute"


def test_all_of_a_region_in_all_frames_and_what_is_missing_is_told(qtbot, opened):
    viewer, panel, image, numbers, layer = opened
    tab = panel.attribution
    tab.frame_box.setChecked(False)
    tab.method_box.setCurrentIndex(tab.method_box.findData("occlusion"))
    tab.baseline_box.setCurrentText("grey")
    tab.run_button.click()
    assert "must be a number as the network sees it" in _wait_for_error(qtbot, panel)
    tab.baseline_box.setCurrentText("0")
    tab.patch_box.setValue(0.1)
    tab.region_box.choose(layer)
    tab.part_box.setCurrentIndex(1)
    made = explain(qtbot, panel, viewer, 3)
    found = layer_to_volume(made, viewer.layers)
    np.testing.assert_allclose(
        found.data, expected(image.data, np.broadcast_to(numbers > 0, image.data.shape)), atol=1e-4
    )


def _wait_for_error(qtbot, panel) -> str:
    qtbot.waitUntil(lambda: not panel.bar.running, timeout=30_000)
    qtbot.wait(50)
    return " ".join(label.text() for label in panel.bar.findChildren(QLabel))


def test_an_error_of_the_dock_brings_its_class(opened):
    _, panel, _, _, layer = opened
    panel.case.choose_model("ct-regions")
    layer.metadata[REVIEW] = {"rows": [{"number": 1, "predicted": 0, "reference": 4},
                                       {"number": 2, "predicted": 3, "reference": 0}]}  # fmt: skip
    tab = panel.attribution
    assert [tab._class_of(layer, number) for number in (1, 2)] == [4, 3]
    with pytest.raises(ValueError, match="no class is chosen"):
        tab._class_of(None, None)
