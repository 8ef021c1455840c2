"""The dock for outputs made elsewhere: what it loads, what it refuses, and what a person sees of it."""

import json

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import QFileDialog
from scipy.special import softmax

import napari_lightbox as lb
from napari_lightbox.geometry import Grid
from napari_lightbox.viewer.layers import layer_to_volume, volume_to_layer
from napari_lightbox.viewer.panels import _hover
from napari_lightbox.viewer.panels.outputs import AXES, VALUES, OutputsPanel
from napari_lightbox.volume import Volume

SHAPE = (6, 8, 9)


@pytest.fixture
def image(rng):
    """Return an oblique, left-handed image in another order than LPS."""
    angle = 0.2
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    direction = turn @ np.diag([1, -1, 1]) @ np.eye(3)[:, [2, 0, 1]]
    grid = Grid.from_spacing((2.0, 1.5, 0.7), SHAPE, (-30, 12, 5), direction)
    return Volume(rng.integers(0, 100, SHAPE).astype(np.int16), grid, name="scan", meta={"modality": "CT"})


@pytest.fixture
def p(rng):
    """Return probabilities of three classes."""
    return softmax(rng.normal(0, 2, (3, *SHAPE)), axis=0).astype(np.float32)


@pytest.fixture
def panel(make_napari_viewer, image):
    """Return the dock over the image."""
    viewer = make_napari_viewer()
    viewer.add_layer(Layer.create(*volume_to_layer(image)))
    panel = OutputsPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Load model output")
    return panel


@pytest.fixture
def saved(tmp_path, p):
    """Return an .npz as nnU-Net writes it, with its dataset.json beside it."""
    np.savez(tmp_path / "case.npz", probabilities=p)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "lung": 1, "bone": 2}}))
    return tmp_path / "case.npz"


def load(panel, qtbot):
    before = len(panel.viewer.layers)
    panel.load_button.click()
    assert panel.bar.running, panel.bar.message
    qtbot.waitUntil(lambda: not panel.bar.running and bool(panel.bar.message), timeout=60_000)
    return list(panel.viewer.layers)[before:]


def test_an_output_of_nnu_net_by_hand(panel, qtbot, monkeypatch, saved, image, p):
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: ([str(saved)], ""))
    panel.files_button.click()
    assert panel.files_label.whole == "case.npz"
    assert panel.load_button.isEnabled()
    unsure, labels = load(panel, qtbot)
    assert isinstance(labels, Labels)
    assert labels.name == "scan · case"
    found = layer_to_volume(labels)
    assert found.grid == image.grid
    assert np.array_equal(found.data, p.argmax(axis=0))
    assert [label.name for label in found.labels.values()] == ["lung", "bone"]
    assert isinstance(unsure, Image)
    assert not unsure.visible
    assert "1 more layer is added but hidden" in panel.bar.message
    assert "dataset.json" in panel.told.text()
    assert "does not say where it lies" in panel.told.text()


def test_hovering_tells_every_class(panel, qtbot, saved, image, p):
    panel.choose_files([saved])
    labels = load(panel, qtbot)[-1]
    order, flips = image.grid.order_for("LPS")
    for index in ((1, 2, 3), (5, 0, 8)):
        shown = np.array([index[a] for a in order])
        sizes = np.array(labels.data.shape)
        shown = np.where(flips, sizes - 1 - shown, shown)
        told = dict(_hover.probabilities_at(labels, labels.data_to_world(shown)))
        assert [told[name] for name in ("background", "lung", "bone")] == pytest.approx(
            p[(slice(None), *index)].tolist()
        )


def test_a_layer_for_each_class(panel, qtbot, saved, p):
    panel.choose_files([saved])
    panel.each.setChecked(True)
    panel.uncertainty.setChecked(False)
    layers = load(panel, qtbot)
    assert [layer.name for layer in layers] == [
        "scan · case p(background)",
        "scan · case p(lung)",
        "scan · case p(bone)",
        "scan · case",
    ]
    assert np.allclose(layer_to_volume(layers[1]).data, p[1])
    assert not layers[1].visible
    assert layers[-1].visible


def test_files_of_single_classes_are_sorted_as_people_count(panel, qtbot, tmp_path, image, p):
    for n in range(3):
        volume = Volume(p[n], image.grid)
        lb.write(volume, tmp_path / f"class_{9 + n}.nii.gz")
    panel.choose_files([tmp_path / f"class_{n}.nii.gz" for n in (10, 9, 11)])
    assert panel.files_label.whole == "class_9.nii.gz, class_10.nii.gz, class_11.nii.gz"
    labels = load(panel, qtbot)[-1]
    assert np.array_equal(layer_to_volume(labels).data, p.argmax(axis=0))


def test_labels_alone(panel, qtbot, tmp_path, image, rng):
    truth = rng.integers(0, 3, SHAPE).astype(np.uint8)
    lb.write(Volume(truth, image.grid, "labels"), tmp_path / "seg.mha")
    (tmp_path / "names.json").write_text('{"1": "lung", "2": "bone"}')
    panel.choose_files([tmp_path / "seg.mha"])
    panel.choose_names(tmp_path / "names.json")
    (labels,) = load(panel, qtbot)
    assert np.array_equal(layer_to_volume(labels).data, truth)
    assert layer_to_volume(labels).labels[2].name == "bone"
    assert _hover.probabilities_at(labels, labels.data_to_world((0, 0, 0))) == []


def test_dropped_files_are_chosen(panel, qtbot, saved, tmp_path):
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(tmp_path / "dataset.json")), QUrl.fromLocalFile(str(saved))])
    left = Qt.MouseButton.LeftButton
    event = QDropEvent(QPointF(QPoint(5, 5)), Qt.DropAction.CopyAction, mime, left, Qt.KeyboardModifier.NoModifier)
    panel.dropEvent(event)
    assert panel.files == [saved]
    assert panel.names == tmp_path / "dataset.json"
    panel.forget_button.click()
    assert panel.names is None
    assert panel.names_label.whole == "those of the output"


def test_choices_reach_the_reader(panel, qtbot, tmp_path, rng):
    logits = rng.normal(0, 2, (2, *SHAPE)).astype(np.float32)
    np.savez(tmp_path / "a.npz", one=logits.transpose(0, 3, 2, 1), two=logits)
    panel.choose_files([tmp_path / "a.npz"])
    panel.key.setText("one")
    panel.axes.setCurrentText("class, x, y, z")
    panel.values.setCurrentText("Logits of single classes (sigmoid)")
    panel.regions.setChecked(True)
    labels = load(panel, qtbot)[-1]
    expected = np.where(logits[1] > 0, 2, logits[0] > 0)
    assert np.array_equal(layer_to_volume(labels).data, expected)
    assert set(VALUES.values()) == {None, "none", "softmax", "sigmoid"}
    assert AXES["class, x, y, z"] == "cxyz"


@pytest.mark.parametrize(
    ("shape", "words"), [((3, 9, 8, 6), "its axes seem to be 'cxyz'"), ((3, 4, 8, 9), "where the image is (6, 8, 9)")]
)
def test_what_does_not_fit_is_a_sentence_and_leaves_nothing(panel, qtbot, tmp_path, shape, words):
    np.savez(tmp_path / "a.npz", p=np.zeros(shape))
    panel.choose_files([tmp_path / "a.npz"])
    assert load(panel, qtbot) == []
    assert words in panel.bar.message
    assert panel.told.text() == ""


def test_nothing_chosen_and_no_image(make_napari_viewer, qtbot, saved):
    panel = OutputsPanel(make_napari_viewer())
    qtbot.addWidget(panel)
    panel.load_button.click()
    assert "needs its image: open that first" in panel.bar.message
    panel.choose_files([saved])
    assert panel.bar.message == ""


def test_no_file_chosen(panel):
    panel.load_button.click()
    assert "no output is chosen" in panel.bar.message
