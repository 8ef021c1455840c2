"""What a network needs is worked out in another process, before the first run."""

import hashlib
import json
import sys

import numpy as np
import pytest
from napari.layers import Layer

from napari_lightbox.models import footprint, load
from napari_lightbox.viewer.layers import volume_to_layer
from napari_lightbox.viewer.panels._learning import Learner
from napari_lightbox.viewer.panels.inference import InferencePanel
from napari_lightbox.volume import Volume

torch = pytest.importorskip("torch")


class Wide(torch.nn.Module):
    """Needs much more than its answer."""

    def forward(self, x):
        return x.repeat(1, 64, 1, 1, 1)[:, :2] + 0


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a network in TorchScript."""
    path = tmp_path / "wide"
    path.mkdir()
    torch.jit.script(Wide()).save(str(path / "weights.pt"))
    card = {
        "name": "wide", "version": "1", "loader": "torchscript", "weights": "weights.pt",
        "sha256": hashlib.sha256((path / "weights.pt").read_bytes()).hexdigest(),
        "input": {"channels": [{"name": "image", "intensity": {"rule": "none"}}], "orientation": "RAS"},
        "window": {"size": [32, 32, 32], "overlap": 0.5}, "output": {"kind": "labels", "labels": {"1": "a"}},
    }  # fmt: skip
    (path / "card.json").write_text(json.dumps(card))
    return path


def opened(viewer, folder):
    viewer.add_layer(Layer.create(*volume_to_layer(Volume.from_array(np.zeros((32, 32, 32), np.float32)))))
    panel = InferencePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Inference")
    panel.choose_model(folder)
    return panel


def test_the_quote_knows_a_trusted_network_before_it_runs(make_napari_viewer, qtbot, folder):
    load(folder, trust=True)
    panel = opened(make_napari_viewer(), folder)
    assert footprint.LEARNING in panel.cost.text()
    before = panel._look()[1]
    qtbot.waitUntil(lambda: not panel.learner.busy and not panel._settle.isActive(), timeout=60_000)
    after = panel._look()[1]
    assert after.memory_bytes - before.memory_bytes > 50 * 4 * 32**3
    assert not after.unlearnt
    assert str(after) in panel.cost.text()
    assert footprint.LEARNING not in panel.cost.text()


def test_a_network_that_nobody_trusts_stays_closed_and_is_tried_once(make_napari_viewer, qtbot, folder):
    panel = opened(make_napari_viewer(), folder)
    with qtbot.waitSignal(panel.learner.learnt, timeout=60_000):
        pass
    qtbot.waitUntil(lambda: not panel._settle.isActive(), timeout=10_000)
    assert footprint.UNKNOWN in panel.cost.text()
    assert not panel.learner.busy


def test_the_quote_knows_a_network_that_has_run(make_napari_viewer, qtbot, folder, monkeypatch):
    monkeypatch.setattr(Learner, "ask", lambda *_: None)
    load(folder, trust=True)
    panel = opened(make_napari_viewer(), folder)
    assert footprint.UNKNOWN in panel.cost.text()
    panel.run()
    qtbot.waitUntil(lambda: "is done" in panel.bar.message, timeout=60_000)
    qtbot.waitUntil(lambda: footprint.UNKNOWN not in panel.cost.text(), timeout=10_000)
    assert "is done" in panel.bar.message


def test_networks_are_followed_one_after_the_other_and_the_last_process_ends_with_the_dock(qtbot, monkeypatch):
    begun = []

    def command(source, shape):
        begun.append(source)
        return [sys.executable, "-S", "-c", f"import time; time.sleep({0 if source == 'short' else 600})"]

    monkeypatch.setattr(footprint, "command", command)
    learner = Learner(None)
    for source in ("short", "short", "long"):
        learner.ask(source, (1, 1, 8, 8))
    assert begun == ["short", "long"]
    with qtbot.waitSignal(learner.learnt, timeout=20_000):
        pass
    qtbot.waitUntil(lambda: learner.busy, timeout=20_000)
    learner.stop()
    assert not learner.busy


def test_no_process_where_python_is_inside_another_application(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/opt/viewer")
    assert footprint.command("model", (1, 1, 8, 8)) == []
