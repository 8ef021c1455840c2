"""Which models the Inference dock lists, also in later sessions, and which layers it takes for which channels."""

import shutil

import numpy as np
import pytest
from napari.layers import Image

pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")

from test_inference import write_model

from napari_lightbox.models import available
from napari_lightbox.viewer.panels import _model_list
from napari_lightbox.viewer.panels.inference import InferencePanel


def make_panel(viewer):
    panel = InferencePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Inference")
    return panel


def entries(panel):
    box = panel.model_box
    return [box.itemText(i) for i in range(box.count()) if box.itemData(i)]


def test_models_chosen_before_are_listed_in_the_next_session(make_napari_viewer, tmp_path):
    viewer = make_napari_viewer()
    panel = make_panel(viewer)
    shipped = list(available())
    assert entries(panel) == shipped
    for name in ("one", "two", "gone"):
        panel.choose_model(write_model(tmp_path / name, name=name))
    panel.choose_model(tmp_path / "one")
    shutil.rmtree(tmp_path / "gone")
    again = make_panel(viewer)
    assert entries(again) == [*shipped, "two (two)", "one (one)"]
    again.choose_model(tmp_path / "one")
    assert again.card.name == "one"
    # A damaged list is no reason to stop.
    (_model_list.config_folder() / "models.json").write_text("[1")
    assert entries(make_panel(viewer)) == shipped


def test_a_folder_of_models_is_listed_from_then_on(make_napari_viewer, tmp_path, monkeypatch):
    viewer = make_napari_viewer()
    panel = make_panel(viewer)
    for name in ("b", "a"):
        (tmp_path / "models").mkdir(exist_ok=True)
        write_model(tmp_path / "models" / name, name=f"model {name}")
    (tmp_path / "models" / "notes").mkdir()
    shipped = list(available())
    panel.choose_model(tmp_path / "models")
    assert panel.card.name == "model a"
    assert entries(panel) == [*shipped, "a", "b"]
    assert entries(make_panel(viewer)) == [*shipped, "a", "b"]
    # What the environment names comes before what was chosen.
    (tmp_path / "other").mkdir()
    write_model(tmp_path / "other" / "c")
    monkeypatch.setenv("LIGHTBOX_MODELS", str(tmp_path / "other"))
    assert entries(make_panel(viewer)) == [*shipped, "c"]


def test_a_folder_without_any_model_is_refused_in_red(make_napari_viewer, tmp_path):
    panel = make_panel(make_napari_viewer())
    before = entries(panel)
    panel.choose_model(tmp_path)
    assert "card.json" in panel.bar.message
    assert entries(panel) == before


@pytest.mark.parametrize(
    ("channels", "layers", "wanted"),
    [
        (["T1", "T1c", "T2", "FLAIR"], ["x T2-FLAIR", "x t1ce", "x T2w", "x_T1"], [3, 1, 2, 0]),
        (["T1", "T2"], ["case_2 T2", "case_1 T2", "case_1 T1", "case_2 T1"], [2, 1]),
        (["one", "two"], ["brain_0001", "brain_0000"], [1, 0]),
        (["CT", "PET"], ["image", "pt series"], [None, 1]),
        (["T1", "T1"], ["T1"], [0, None]),
    ],
)
def test_channels_are_found_by_name(channels, layers, wanted):
    assert _model_list.matched(channels, layers) == wanted


def test_channels_take_the_layers_of_their_names(make_napari_viewer, tmp_path):
    viewer = make_napari_viewer()
    for name in ("case_0001 T2", "case_0001 T1", "other"):
        viewer.add_layer(Image(np.zeros((4, 6, 8)), name=name))
    panel = make_panel(viewer)
    two = {"channels": [{"name": "T1"}, {"name": "T2"}, {"name": "FLAIR"}]}
    network = {"name": "unet", "args": {"in_channels": 3, "out_channels": 3, "channels": [4, 8], "norm": "batch"}}
    panel.choose_model(write_model(tmp_path / "m", input=two, architecture=network))
    assert [c.layer.name for c in panel.channels[:2]] == ["case_0001 T1", "case_0001 T2"]
    # What is opened later counts, too; what was chosen by hand stays.
    second = panel.channels[1]
    second.setCurrentIndex(second.findText("other"))
    second.activated.emit(second.currentIndex())
    viewer.add_layer(Image(np.zeros((4, 6, 8)), name="case_0001 flair"))
    assert [c.layer.name for c in panel.channels] == ["case_0001 T1", "other", "case_0001 flair"]
