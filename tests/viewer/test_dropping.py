"""Files dropped on the window, and napari started with a file: through napari's own code, up to the layer."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from napari.settings import get_settings
from npe2 import PluginManager
from qtpy.QtCore import QMimeData, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import QApplication, QDialog

import napari_lightbox as lb
from napari_lightbox.phantoms import sample_path
from napari_lightbox.viewer import offers, readers
from napari_lightbox.viewer.layers import layer_to_volume

PLUGIN = "napari-lightbox"


@pytest.fixture
def viewer(make_napari_viewer):
    PluginManager.instance().discover()
    before = dict(get_settings().plugins.extension2reader)
    yield make_napari_viewer()
    get_settings().plugins.extension2reader = before


def drop(viewer, *paths):
    """Drop files on the canvas, as a file manager does."""
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    event = QDropEvent(
        QPointF(10, 10), Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    viewer.window._qt_viewer.dropEvent(event)


def choose_reader(display_name, seen):
    """Answer napari's question for the reader, as soon as it is asked."""

    def answer():
        dialog = next((w for w in QApplication.topLevelWidgets() if isinstance(w, QDialog) and w.isVisible()), None)
        if dialog is None or not hasattr(dialog, "reader_btn_group"):
            QTimer.singleShot(20, answer)
            return
        buttons = dialog.reader_btn_group.buttons()
        seen.append([button.text() for button in buttons])
        next(button for button in buttons if button.text() == display_name).setChecked(True)
        dialog.accept()

    QTimer.singleShot(0, answer)


def test_a_file_and_two_files(viewer, tmp_path, difficult):
    offers.make_default()
    lb.write(difficult, tmp_path / "one.nii.gz")
    drop(viewer, tmp_path / "one.nii.gz")
    assert layer_to_volume(viewer.layers[0]).grid.same_space(difficult.grid, 1e-4)
    labels = difficult.replace(data=(difficult.data > 9).astype(np.uint8), kind="labels")
    lb.write(labels, tmp_path / "two.seg.nrrd")
    viewer.layers.clear()
    drop(viewer, tmp_path / "one.nii.gz", tmp_path / "two.seg.nrrd")
    assert [layer_to_volume(layer).kind for layer in viewer.layers] == ["image", "labels"]
    assert all(layer_to_volume(layer).grid.same_space(difficult.grid, 1e-4) for layer in viewer.layers)


def test_a_dicom_folder_after_napari_has_asked(viewer, data):
    folder, seen = data("dicom_ct_series"), []
    choose_reader("Lightbox", seen)
    drop(viewer, folder)
    assert "Lightbox" in seen[0]
    volumes = lb.read_all(folder)
    assert len(viewer.layers) == len(volumes)
    assert layer_to_volume(viewer.layers[0]).grid.same_space(volumes[0].grid)


def test_a_file_before_we_are_the_default(viewer, tmp_path, difficult):
    lb.write(difficult, tmp_path / "one.nii.gz")
    seen = []
    choose_reader("Lightbox", seen)
    drop(viewer, tmp_path / "one.nii.gz")
    assert "Lightbox" in seen[0]
    assert layer_to_volume(viewer.layers[0]).grid.same_space(difficult.grid, 1e-4)


# What runs inside `napari FILE`, as its start-up script: it waits for the layers, notes what is there, and closes.
SCRIPT = """
import json, os, sys, time
import napari
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QMessageBox

begun = time.monotonic()

def look():
    viewer = napari.current_viewer()
    dialogs = [w for w in QApplication.topLevelWidgets() if w.isVisible() and hasattr(w, "reader_btn_group")]
    for dialog in dialogs:
        for button in dialog.reader_btn_group.buttons():
            if button.text() == "Lightbox":
                button.setChecked(True)
        found["asked"] = True
        dialog.accept()
    boxes = [w for w in QApplication.topLevelWidgets() if isinstance(w, QMessageBox) and w.isVisible()]
    wanted = os.environ["LIGHTBOX_TEST_OFFER"] == "yes"
    there = viewer.window._qt_window.isVisible() and viewer.layers and (boxes or not wanted)
    if time.monotonic() - begun < 60 and not there:
        QTimer.singleShot(50, look)
        return
    found["offer"] = [box.text() for box in boxes]
    found["layers"] = [
        {"name": l.name, "scale": list(map(float, l.scale)), "ours": "lightbox" in l.metadata} for l in viewer.layers
    ]
    with open(os.environ["LIGHTBOX_TEST_OUT"], "w") as file:
        json.dump(found, file)
    for box in boxes:
        box.reject()
    viewer.close()

found = {"asked": False}
QTimer.singleShot(50, look)
"""


@pytest.mark.skipif(os.environ.get("QT_QPA_PLATFORM") in ("offscreen", "minimal"), reason="napari FILE needs a screen")
@pytest.mark.parametrize("default", [True, False])
def test_napari_file(tmp_path, default):
    path, out = sample_path("thorax"), tmp_path / "found.json"
    config = {"schema_version": "0.9.0", "plugins": {}, "application": {}}
    (tmp_path / "start.py").write_text(textwrap.dedent(SCRIPT))
    config["application"]["startup_script"] = str(tmp_path / "start.py")
    config["application"]["confirm_close_window"] = False
    if default:
        config["plugins"]["extension2reader"] = dict.fromkeys(offers.PATTERNS, PLUGIN)
    (tmp_path / "settings.yaml").write_text(json.dumps(config))
    environment = {
        **os.environ,
        "NAPARI_CONFIG": str(tmp_path / "settings.yaml"),
        "XDG_CONFIG_HOME": str(tmp_path),
        "LIGHTBOX_TEST_OUT": str(out),
        "LIGHTBOX_TEST_OFFER": "no" if default else "yes",
    }
    done = subprocess.run(
        [sys.executable, "-m", "napari", str(path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert out.exists(), done.stderr[-2000:]
    found = json.loads(out.read_text())
    wanted = lb.read(path)
    assert [layer["ours"] for layer in found["layers"]] == [True]
    np.testing.assert_allclose(sorted(found["layers"][0]["scale"]), sorted(wanted.grid.spacing), rtol=1e-6)
    assert found["asked"] is not default
    assert bool(found["offer"]) is not default


def test_the_offer_waits_for_the_window(viewer, tmp_path, difficult, monkeypatch, qtbot):
    """A file named on the command line is read before the window is there to ask in."""
    offered = []
    monkeypatch.setattr(offers, "enabled", True)
    monkeypatch.setattr(offers, "offer_default", lambda viewer: offered.append(viewer.window._qt_window.isVisible()))
    readers.prepare(viewer)
    assert not offered
    viewer.window._qt_window.show()
    qtbot.waitUntil(lambda: bool(offered), timeout=3000)
    assert offered == [True]
