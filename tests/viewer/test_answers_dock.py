"""The Inference dock with models that answer for an image, find boxes, or have their labels cleaned."""

import csv
import json

import numpy as np
import pytest
from napari.layers import Labels, Layer, Shapes
from qtpy.QtWidgets import QApplication

from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.viewer.layers import layer_to_volume, volume_to_layer
from napari_lightbox.viewer.panels.inference import InferencePanel
from napari_lightbox.volume import Volume

torch = pytest.importorskip("torch")


class Halves(torch.nn.Module):
    def forward(self, x):
        return torch.stack([x[..., :5].mean((1, 2, 3, 4)), x[..., 5:].mean((1, 2, 3, 4))], 1) * 20


class Bright(torch.nn.Module):
    def forward(self, x):
        return torch.cat([0.5 - x, x - 0.5], 1)


class Finder(torch.nn.Module):
    """Draws one box around all that is bright; scripted, as it cannot be traced."""

    def forward(self, x: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        found: list[dict[str, torch.Tensor]] = []
        for item in x:
            places = torch.nonzero(item[0] > 0.5)
            count = min(1, places.shape[0])
            boxes = torch.zeros(count, 6)
            if count:
                boxes = torch.cat([places.amin(0), places.amax(0) + 1]).to(torch.float32)[None]
            found.append(
                {"boxes": boxes, "scores": torch.ones(count) * 0.75, "labels": torch.ones(count, dtype=torch.int64)}
            )
        return found


OUTPUTS = {
    "class": (Halves, {"kind": "class", "classes": ["right", "left"]}),
    "boxes": (Finder, {"kind": "boxes", "labels": {"1": "nodule"}, "colours": {"1": "#00ff00"}}),
    "labels": (Bright, {"kind": "labels", "labels": {"1": "lung"}}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return the folders of three tiny models."""
    made = {}
    for name, (network, output) in OUTPUTS.items():
        folder = tmp_path_factory.mktemp(name)
        with pytest.warns(DeprecationWarning, match="script"):
            torch.jit.script(network()).save(folder / "w.pt")
        card = {
            "name": f"tiny-{name}", "loader": "torchscript", "weights": "w.pt", "output": output,
            "input": {"channels": [{"name": "image"}], "orientation": "LPS"},
        }  # fmt: skip
        (folder / "card.json").write_text(json.dumps(card))
        made[name] = folder
    return made


@pytest.fixture(autouse=True)
def trusting(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTBOX_CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr("napari_lightbox.viewer.panels._dock_parts.confirm", lambda *_: True)


def scan(frames=None):
    """Return an oblique, flipped volume: bright in z 3-5, y 2-6, x 6-8 of every frame, and one far voxel."""
    shape = (8, 9, 10) if frames is None else (frames, 8, 9, 10)
    data = np.zeros(shape, np.float32)
    data[..., 3:6, 2:7, 6:9] = 1
    angle = 0.2
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    times = None if frames is None else Frames("time", tuple(range(frames)), "s")
    grid = Grid.from_spacing((2.0, 1.5, 1.0), shape, (-30, 12, 5), turn @ np.diag([-1.0, 1, -1]), times)
    return Volume(data, grid, name="scan")


def open_panel(viewer, folder, volume):
    viewer.add_layer(Layer.create(*volume_to_layer(volume)))
    panel = InferencePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Inference")
    panel.choose_model(folder)
    return panel


def run(panel, qtbot):
    panel.run_button.click()
    qtbot.waitUntil(lambda: " is done" in panel.bar.message, timeout=60000)


def test_a_class_is_shown_copied_and_exported(make_napari_viewer, qtbot, folders, tmp_path):
    panel = open_panel(make_napari_viewer(), folders["class"], scan())
    assert not panel.results_box.isVisibleTo(panel)
    assert not panel.cleaning_fold.isVisibleTo(panel)
    assert not panel.answers.isVisibleTo(panel)
    assert "right \u00b7 left" in panel.about.text()
    run(panel, qtbot)
    assert len(panel.viewer.layers) == 1
    model = panel.answers.view.model()
    shown = [[model.data(model.index(r, c)) for c in range(model.columnCount())] for r in range(model.rowCount())]
    # The bright block is stored at high x, and x runs against the patient's left.
    assert [row[0] for row in shown] == ["right", "left"]
    assert float(shown[0][1]) > 0.9 > 0.1 > float(shown[1][1])
    panel.answers.copy_button.click()
    assert QApplication.clipboard().text().startswith("frame\tname\tprobability\n0\tright\t0.9")
    panel.answers.export(tmp_path / "table")
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == ["right", "left"]
    run(panel, qtbot)
    assert panel.answers.chooser.count() == 2


def test_boxes_lie_on_their_slices_and_a_click_goes_there(make_napari_viewer, qtbot, folders):
    viewer = make_napari_viewer()
    volume = scan(2)
    panel = open_panel(viewer, folders["boxes"], volume)
    run(panel, qtbot)
    shapes = viewer.layers[-1]
    assert isinstance(shapes, Shapes)
    assert len(shapes.data) == 2 * 3
    image = layer_to_volume(viewer.layers[0])
    shown = np.asarray(viewer.layers[0].data)
    for corners, number in zip(shapes.data, shapes.features["box"], strict=True):
        frame, plane = int(corners[0, 0]), int(corners[0, 1])
        low, high = np.ceil(corners[:, 2:].min(0)).astype(int), np.floor(corners[:, 2:].max(0)).astype(int)
        inside = shown[frame, plane, low[0] : high[0] + 1, low[1] : high[1] + 1]
        assert inside.all()
        assert inside.sum() == shown[frame, plane].sum() == 15
        assert panel.answers.table.rows[number]["frame"] == frame
    np.testing.assert_allclose(shapes.scale, viewer.layers[0].scale)
    np.testing.assert_allclose(shapes.translate, viewer.layers[0].translate)
    assert shapes.features["name"].tolist() == ["nodule"] * 6
    panel.answers._on_click(panel.answers.view.model().index(1, 0))
    point = viewer.layers[0].world_to_data(viewer.dims.point)
    place = np.argwhere(shown[1]).mean(0)
    np.testing.assert_allclose(point, [1, *place], atol=0.6)
    assert image.grid.frames is not None


def test_labels_are_cleaned_as_chosen_in_the_fold(make_napari_viewer, qtbot, folders):
    volume = scan()
    volume.data[0, 0, 0] = 1
    viewer = make_napari_viewer()
    panel = open_panel(viewer, folders["labels"], volume)
    assert panel.choices["post"] == {}
    panel.cleaning_fold.button.click()
    (row,) = panel.cleaning.rows.values()
    row.largest.setText("1")
    row.least.setText(".")
    row.holes.setChecked(True)
    assert panel.choices["post"] == {"lung": {"keep_largest": 1, "remove_below_ml": 0.0, "fill_holes": True}}
    panel.uncertainty.setChecked(False)
    run(panel, qtbot)
    labels = layer_to_volume(next(layer for layer in viewer.layers if isinstance(layer, Labels)))
    assert labels.data.sum() == 45
    assert labels.data[0, 0, 0] == 0
    assert panel.cleaning.minimumSizeHint().width() < 330


class Everything(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"seg": torch.cat([0.5 - x, x - 0.5], 1), "twice": 2 * x, "mean": x.mean((1, 2, 3, 4))[:, None]}


def test_every_output_of_a_model_is_prepared_for_the_viewer(tmp_path, monkeypatch):
    from napari_lightbox.models import load
    from napari_lightbox.viewer.panels import _made

    with pytest.warns(DeprecationWarning, match="script"):
        torch.jit.script(Everything()).save(tmp_path / "w.pt")
    outputs = {
        "seg": {"kind": "labels", "labels": {"1": "lung"}},
        "twice": {"kind": "image"},
        "mean": {"kind": "value", "values": [{"name": "mean"}]},
    }
    card = {"name": "all", "loader": "torchscript", "weights": "w.pt", "outputs": outputs}
    (tmp_path / "card.json").write_text(json.dumps({**card, "input": {"channels": [{"name": "image"}]}}))
    load(tmp_path, trust=True)
    choices = {"probabilities": "all", "uncertainty": True, "post": {"lung": {"keep_largest": True}}}
    made = _made.work(str(tmp_path), [scan()], choices, [1], True)
    # Labels lie on top, as what is told at the cursor belongs to them.
    assert [layer.name for layer in made.layers] == [
        "scan \u00b7 all twice", "scan \u00b7 all p(lung)", "scan \u00b7 all uncertainty", "scan \u00b7 all",
    ]  # fmt: skip
    assert isinstance(made.layers[-1], Labels)
    np.testing.assert_allclose(np.asarray(made.layers[0].data).max(), 2)
    assert made.kept is not None
    (table,) = made.tables
    assert table.get("mean") == pytest.approx(scan().data.mean())
