"""The Inference dock: what it shows, what it refuses, what it leaves in the viewer, and where."""

import hashlib
import html
import json
import re

import napari
import numpy as np
import pytest
from napari.layers import Layer
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox

from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.models import load, predict
from napari_lightbox.viewer.layers import layer_to_volume, volume_to_layer
from napari_lightbox.viewer.panels import _hover
from napari_lightbox.viewer.panels._inference_options import DEVICES
from napari_lightbox.viewer.panels.inference import InferencePanel
from napari_lightbox.volume import Volume

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

from napari_lightbox.models.networks import build  # noqa: E402


@pytest.fixture
def model(tmp_path):
    """Return the folder of a tiny model with random weights."""
    return write_model(tmp_path / "tiny")


def write_model(folder, **changes):
    folder.mkdir()
    torch.manual_seed(4)
    network = build("unet", dims=3, out_channels=3, channels=(4, 8), norm="batch")
    safetensors_torch.save_file(network.state_dict(), folder / "weights.safetensors")
    card = {
        "name": "tiny",
        "version": "0.1",
        "licence": "BSD-3-Clause",
        "description": "Finds <things>.",
        "intended_use": "Tests only.",
        "training_data": "Nothing at all.",
        "figures": {"phantoms": {"how": "on three of them", "dice": {"lung": 0.9}}},
        "loader": "safetensors",
        "weights": "weights.safetensors",
        "sha256": hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest(),
        "architecture": {"name": "unet", "args": {"out_channels": 3, "channels": [4, 8], "norm": "batch"}},
        "input": {
            "channels": [{"name": "CT", "modality": "CT", "intensity": {"rule": "window", "low": -1, "high": 1}}],
            "orientation": "LPS",
            "divisible_by": 2,
        },
        "window": {"size": [8, 8, 8], "overlap": 0.5},
        "output": {"kind": "labels", "labels": {"1": "lung", "2": "bone"}, "colours": {"2": "#ff0000"}},
    }
    (folder / "card.json").write_text(json.dumps({**card, **changes}))
    return folder


def make_volume(shape=(9, 10, 14), modality="CT", seed=0):
    data = np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)
    frames = Frames("time", tuple(range(shape[0])), "s") if len(shape) == 4 else None
    angle = 0.2
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    direction = turn @ np.diag([1, -1, 1]) @ np.eye(3)[:, [2, 0, 1]]
    grid = Grid.from_spacing((2.0, 1.5, 0.7), shape, (-30, 12, 5), direction, frames)
    return Volume(data, grid, name="scan", meta={"modality": modality})


@pytest.fixture
def panel(make_napari_viewer, qtbot, model):
    """Return a dock with the tiny model chosen, over one oblique, left-handed volume."""
    return make_panel(make_napari_viewer(), qtbot, model, make_volume())


def make_panel(viewer, qtbot, model, *volumes):
    for volume in volumes:
        viewer.add_layer(Layer.create(*volume_to_layer(volume)))
    panel = InferencePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Inference")
    panel.choose_model(model)
    return panel


def run(panel, qtbot):
    before = len(panel.viewer.layers)
    panel.run_button.click()
    assert panel.bar.running, panel.bar.message
    qtbot.waitUntil(lambda: not panel.bar.running and panel.bar.message.partition("Loading")[0] != "", timeout=60_000)
    return list(panel.viewer.layers)[before:]


# What it shows ----------------------------------------------------------------------------------------------------


def test_it_shows_what_the_card_says(panel):
    said = panel.about.text() + panel.more.text()
    for text in ("tiny", "Finds &lt;things&gt;.", "volumes", "lung", "bone", "#ff0000", "Tests only.", "BSD-3-Clause"):
        assert text in said
    assert "Nothing at all." in said
    assert "dice lung 0.9" in panel.about.text()
    assert "on three of them" in panel.more.text()
    assert [box.text() for box in panel.classes.values()] == ["background", "lung", "bone"]
    assert panel.options.overlap.value() == 0.5
    assert len(panel.channels) == 1


def test_shipped_models_are_in_the_list(panel):
    from napari_lightbox.models import available

    listed = [panel.model_box.itemText(i) for i in range(panel.model_box.count())]
    assert listed[: len(available())] == list(available())
    assert "tiny" in listed[-1]


def test_another_model_replaces_classes_and_channels(panel, tmp_path):
    output = {"kind": "regions", "labels": {"1": "whole"}}
    architecture = {"name": "unet", "args": {"in_channels": 2, "out_channels": 1}}
    channels = {"channels": [{"name": "T1"}, {"name": "T2"}]}
    panel.choose_model(write_model(tmp_path / "other", output=output, architecture=architecture, input=channels))
    shown = [box.text() for box in panel.findChildren(QCheckBox) if box.isVisibleTo(panel)]
    assert "whole" in shown
    assert not {"background", "lung", "bone"} & set(shown)
    assert len(panel.channels) == panel.form.rowCount() == 2


def test_a_folder_without_a_card_is_refused_and_the_choice_stays(panel, tmp_path):
    before = panel.card
    (tmp_path / "empty").mkdir()
    panel.choose_model(tmp_path / "empty")
    assert "holds no card.json" in panel.bar.message
    assert "color" in panel.bar.status.text()
    assert panel.card is before


def test_the_quote_follows_every_choice(panel, qtbot):
    assert "12 windows" in panel.cost.text()
    panel.options.overlap.setValue(0.0)
    qtbot.waitUntil(lambda: "8 windows" in panel.cost.text(), timeout=2000)
    panel.viewer.add_layer(Layer.create(*volume_to_layer(make_volume((4, 9, 10, 14)).replace(name="four"))))
    panel.channels[0].choose(panel.viewer.layers["four"])
    qtbot.waitUntil(lambda: "32 windows" in panel.cost.text(), timeout=2000)


def test_too_little_memory_is_said_before_the_run(panel, qtbot):
    spin = panel.options.memory
    assert (spin.text(), spin.singleStep()) == ("half of what is free", 0.1)
    spin.setValue(0.01)
    assert (spin.text(), panel.options.values["memory"]) == ("0.01 GB", pytest.approx(1e7))
    qtbot.waitUntil(lambda: "10 MB are allowed: allow more as memory" in panel.verdict.text(), timeout=2000)
    assert "windows" in panel.cost.text()
    assert "to stay within" not in panel.cost.text()
    spin.setValue(0.0)
    qtbot.waitUntil(lambda: not panel.verdict.text(), timeout=2000)
    assert panel.options.values["memory"] is None


# What it refuses --------------------------------------------------------------------------------------------------


def test_a_wrong_modality_is_refused_in_red_until_one_insists(make_napari_viewer, qtbot, model):
    panel = make_panel(make_napari_viewer(), qtbot, model, make_volume(modality="MR"))
    assert "is MR, but model 'tiny' is made for CT" in html.unescape(panel.verdict.text())
    assert "#ff6b6b" in panel.verdict.text()
    assert panel.verdict.isVisibleTo(panel)
    panel.run_button.click()
    qtbot.waitUntil(lambda: not panel.bar.running and "is MR" in panel.bar.message, timeout=60_000)
    assert len(panel.viewer.layers) == 1
    panel.force.setChecked(True)
    assert any(layer.name.endswith("tiny") for layer in run(panel, qtbot))


def test_a_single_slice_is_refused_by_a_3d_model(make_napari_viewer, qtbot, model):
    panel = make_panel(make_napari_viewer(), qtbot, model, make_volume((1, 16, 16)))
    assert "single slice" in panel.verdict.text()


def test_without_an_image_it_says_so(make_napari_viewer, qtbot, model):
    panel = make_panel(make_napari_viewer(), qtbot, model)
    assert "Open an image first" in panel.cost.text()
    panel.run_button.click()
    assert "open an image first" in panel.bar.message
    assert not panel.bar.running


def test_channels_on_different_grids_are_refused(make_napari_viewer, qtbot, tmp_path):
    two = {"channels": [{"name": "T1"}, {"name": "T2"}]}
    folder = write_model(
        tmp_path / "two", input=two, architecture={"name": "unet", "args": {"in_channels": 2, "out_channels": 3}}
    )
    other = make_volume(seed=2)
    elsewhere = other.replace(grid=Grid.from_spacing((1, 1, 1), other.grid.shape), name="elsewhere")
    panel = make_panel(make_napari_viewer(), qtbot, folder, make_volume(), other.replace(name="other"), elsewhere)
    assert len(panel.channels) == 2
    panel.channels[0].choose(panel.viewer.layers["scan"])
    panel.channels[1].choose(panel.viewer.layers["elsewhere"])
    qtbot.waitUntil(lambda: "different grids" in panel.verdict.text(), timeout=2000)
    panel.channels[1].choose(panel.viewer.layers["other"])
    qtbot.waitUntil(lambda: not panel.verdict.text(), timeout=2000)


def test_weights_that_do_not_fit_the_card_leave_nothing(panel, qtbot, model):
    (model / "weights.safetensors").write_bytes(b"something else")
    panel.run_button.click()
    qtbot.waitUntil(lambda: "SHA-256" in panel.bar.message, timeout=60_000)
    assert len(panel.viewer.layers) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_said_so(panel, qtbot):
    panel.options.device.setCurrentIndex(list(DEVICES.values()).index("cuda"))
    panel.run_button.click()
    qtbot.waitUntil(lambda: "no CUDA GPU" in panel.bar.message, timeout=60_000)
    assert len(panel.viewer.layers) == 1


# What it leaves ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(9, 10, 14), (2, 9, 10, 14)])
def test_a_run_adds_labels_probabilities_and_uncertainty_where_the_image_is(make_napari_viewer, qtbot, model, shape):
    volume = make_volume(shape)
    panel = make_panel(make_napari_viewer(), qtbot, model, volume)
    panel.classes[1].setChecked(True)
    panel.classes[2].setChecked(True)
    *probabilities, uncertainty, labels = run(panel, qtbot)
    assert [layer.name for layer in probabilities] == ["scan · tiny p(lung)", "scan · tiny p(bone)"]
    assert isinstance(labels, napari.layers.Labels)
    assert labels.visible
    assert not any(layer.visible for layer in (*probabilities, uncertainty))
    expected = predict(volume, load(model), probabilities="all", uncertainty=True)
    for layer, truth in [(labels, expected.labels), (uncertainty, expected.uncertainty),
                         (probabilities[0], expected.probability("lung"))]:  # fmt: skip
        found = layer_to_volume(layer)
        assert np.array_equal(found.data, truth.data)
        assert found.grid == volume.grid
        assert found.history == truth.history
    np.testing.assert_allclose(labels.colormap.map(np.uint8([2]))[0], (1, 0, 0, 1))
    assert list(labels.features["name"]) == ["background", "lung", "bone"]
    assert "scan · tiny is done" in panel.bar.message


def test_a_second_run_keeps_the_first_result(panel, qtbot):
    first = run(panel, qtbot)[-1]
    painted = first.data.copy()
    painted[0, 0, :] = 2
    first.data = painted
    second = run(panel, qtbot)[-1]
    assert second is not first
    assert second.name != first.name
    assert (first.data[0, 0] == 2).all()


def test_hovering_tells_every_class(panel, qtbot):
    labels = run(panel, qtbot)[-1]
    truth = predict(make_volume(), load(panel.source), probabilities="all")
    shown = [volume_to_layer(truth.probability(v))[0] for v in (0, 1, 2)]
    index = (3, 4, 5)
    found = dict(_hover.probabilities_at(labels, labels.data_to_world(index)))
    assert found == {n: float(a[index]) for n, a in zip(("background", "lung", "bone"), shown, strict=True)}
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)
    assert _hover.probabilities_at(labels, labels.data_to_world((-3, 0, 0))) == []
    viewer = panel.viewer
    viewer.dims.set_point(range(3), labels.data_to_world(index))
    viewer.mouse_over_canvas = True
    viewer.cursor.position = labels.data_to_world(index)
    viewer.status = {"layer_base": "scan", "source_type": "", "plugin": "", "coordinates": "[1 2 3]"}
    assert "p: " in viewer.status["coordinates"]
    best = max(found, key=found.get)
    assert f"{best} {found[best]:.2f}" in viewer.status["coordinates"]
    viewer.status = "saved"
    assert viewer.status == "saved"


def test_the_status_bar_of_the_view_dock_tells_every_class_too(panel, qtbot):
    from napari_lightbox.viewer.panels.view import attach

    labels = run(panel, qtbot)[-1]
    viewer = panel.viewer
    attach(viewer)
    viewer.mouse_over_canvas = True
    viewer.dims.set_point(range(3), labels.data_to_world((3, 4, 5)))
    viewer.cursor.position = labels.data_to_world((3, 4, 5))
    assert "p: " in viewer.status
    assert "scan" in viewer.status


def test_without_the_box_no_probabilities_are_kept(panel, qtbot):
    panel.hover.setChecked(False)
    panel.uncertainty.setChecked(False)
    (labels,) = run(panel, qtbot)
    assert _hover.probabilities_at(labels, labels.data_to_world((3, 4, 5))) == []


# While it runs ----------------------------------------------------------------------------------------------------


def slow_down(monkeypatch, panel):
    """Make every window wait, so that a test can act in the middle."""
    import time

    from napari_lightbox.models import engine

    fast = engine._checked

    def slow(*args):
        time.sleep(0.15)
        return fast(*args)

    monkeypatch.setattr(engine, "_checked", slow)


def test_progress_has_a_number_and_cancel_leaves_nothing(panel, qtbot, monkeypatch):
    slow_down(monkeypatch, panel)
    panel.run_button.click()
    assert not panel.run_button.isEnabled()
    assert "Loading" in panel.bar.message
    # A plain None would count as fulfilled.
    qtbot.waitUntil(lambda: bool(re.search(r"% \(windows [2-9]/12\)", panel.bar.number.text())), timeout=60_000)
    assert panel.bar.message == ""
    panel.bar.cancel_button.click()
    with qtbot.waitSignal(panel.bar.running_changed, timeout=1500):
        pass
    qtbot.waitUntil(lambda: "cancelled" in panel.bar.message, timeout=1500)
    assert len(panel.viewer.layers) == 1
    assert panel.run_button.isEnabled()


def test_the_image_may_go_while_it_runs(panel, qtbot, monkeypatch):
    slow_down(monkeypatch, panel)
    grid = make_volume().grid
    QTimer.singleShot(300, panel.viewer.layers.clear)
    panel.run_button.click()
    qtbot.waitUntil(lambda: not panel.bar.running and "done" in panel.bar.message, timeout=60_000)
    assert layer_to_volume(panel.viewer.layers["scan · tiny"]).grid == grid


def test_the_viewer_may_close_while_it_runs(panel, qtbot, monkeypatch):
    slow_down(monkeypatch, panel)
    panel.run_button.click()
    qtbot.waitUntil(lambda: "windows" in panel.bar.number.text(), timeout=60_000)
    job = panel.bar.runner.job
    panel.viewer.close()
    assert job.wait(5)


def test_it_leaves_the_gui_thread_alone(panel, qtbot):
    import threading

    seen = []

    class Net(torch.nn.Module):
        def forward(self, x):
            seen.append(threading.get_ident())
            return x.repeat(1, 3, 1, 1, 1)

    from napari_lightbox.viewer.panels import _made

    original = _made.load
    _made.load = lambda source: _with_module(original(source), Net())
    try:
        run(panel, qtbot)
    finally:
        _made.load = original
    assert seen
    assert threading.get_ident() not in seen


def _with_module(model, module):
    model.module = module.eval()
    return model


def test_the_overlap_of_the_card_is_used_until_it_is_changed(panel, tmp_path):
    assert panel.choices["overlap"] is None
    panel.choose_model(write_model(tmp_path / "fine", name="fine", window={"size": [8, 8, 8], "overlap": 0.62345}))
    assert panel.choices["overlap"] is None
    panel.options.overlap.setValue(0.9375)
    assert panel.choices["overlap"] == 0.9375
    panel.options.overlap.setValue(0.95)
    assert panel.choices["overlap"] == 0.95


def test_layers_are_made_in_the_background(panel, qtbot, monkeypatch):
    import threading

    from napari_lightbox.viewer.panels import _made

    seen = []
    make = _made.make_layer
    monkeypatch.setattr(_made, "make_layer", lambda *a, **k: seen.append(threading.get_ident()) or make(*a, **k))
    assert len(run(panel, qtbot)) == len(seen) == 2
    assert threading.get_ident() not in seen


def test_the_dock_may_go_while_results_are_added(panel, qtbot, monkeypatch):
    from napari_lightbox.viewer import adding

    monkeypatch.setattr(adding, "_PAUSE", 200)
    viewer = panel.viewer
    panel.run_button.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=60_000)
    viewer.window.remove_dock_widget(panel)
    panel.deleteLater()
    with qtbot.captureExceptions() as errors:
        qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=5000)
        qtbot.wait(50)
    assert not errors


def test_every_class_is_told_at_the_cursor(panel, qtbot):
    labels = run(panel, qtbot)[-1]
    arrays = tuple(np.full(labels.data.shape, p, np.float32) for p in (0.999, 0.001, 0.0))
    _hover.keep(labels, _hover.Kept(("background", "lung", "bone"), arrays))
    panel.viewer.cursor.position = labels.data_to_world((4, 4, 4))
    assert _hover.text_at(panel.viewer) == "p: background 1.00, lung 0.00, bone 0.00"


@pytest.mark.parametrize("dock", ["inference", "labels_table"])
def test_painting_is_noted_whichever_dock_is_open(make_napari_viewer, dock):
    from napari_lightbox.viewer.panels.labels_table import LabelsTable

    viewer = make_napari_viewer()
    scan = make_volume()
    truth = scan.replace(data=np.zeros(scan.grid.shape, np.uint8), kind="labels", history=({"operation": "otsu"},))
    layer = viewer.add_layer(Layer.create(*volume_to_layer(truth)))
    viewer.window.add_dock_widget({"inference": InferencePanel, "labels_table": LabelsTable}[dock](viewer), name="it")
    layer.paint((2, 3, 4), 1)
    assert layer_to_volume(layer).history[-1]["operation"] == "manual edit"


def test_a_model_that_brings_code_is_asked_about_once(panel, qtbot, tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTBOX_CONFIG", str(tmp_path / "config"))
    folder = write_model(tmp_path / "code", loader="torchscript", weights="net.ts", name="code")
    torch.manual_seed(4)
    network = build("unet", dims=3, out_channels=3, channels=(4, 8), norm="batch").eval()
    with pytest.warns(DeprecationWarning, match="trace"):
        torch.jit.trace(network, torch.rand(1, 1, 8, 8, 8)).save(str(folder / "net.ts"))
    card = json.loads((folder / "card.json").read_text())
    del card["sha256"]
    (folder / "card.json").write_text(json.dumps(card))
    panel.choose_model(folder)
    questions, answers = [], [False, True]

    def confirm(question, viewer):
        questions.append(question)
        return answers.pop(0)

    monkeypatch.setattr("napari_lightbox.viewer.panels._dock_parts.confirm", confirm)
    panel.run_button.click()
    qtbot.waitUntil(lambda: not panel.bar.running, timeout=60_000)
    assert len(panel.viewer.layers) == 1
    assert "SHA-256" in panel.bar.message
    for count in (3, 5):  # labels and what the cursor tells of
        panel.run_button.click()
        qtbot.waitUntil(lambda count=count: len(panel.viewer.layers) == count, timeout=60_000)
    assert len(questions) == 2
    assert "code of its own" in questions[0]


def test_a_refusal_goes_with_the_image_that_was_refused(make_napari_viewer, qtbot, model):
    panel = make_panel(make_napari_viewer(), qtbot, model, make_volume(modality="MR"))
    panel.run_button.click()
    qtbot.waitUntil(lambda: not panel.bar.running, timeout=60_000)
    assert "MR" in panel.bar.message
    panel.viewer.layers.clear()
    panel.viewer.add_layer(Layer.create(*volume_to_layer(make_volume())))
    panel.refresh()
    assert panel.bar.message == ""
