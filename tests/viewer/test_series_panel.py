"""The list of DICOM series, driven as a hand would, over phantoms written as DICOM."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent

from napari_lightbox.io.series import list_series
from napari_lightbox.phantoms_dicom import series_phantom, write_series
from napari_lightbox.viewer.layers import layer_to_volume
from napari_lightbox.viewer.panels import _seriestext, series
from napari_lightbox.viewer.panels.series import SeriesPanel

pytest.importorskip("pydicom")


@pytest.fixture
def study(tmp_path):
    """Return a folder with an orderly series, one with a hole, a text, and something broken."""
    write_series(tmp_path / "plain", "plain")
    write_series(tmp_path / "hole", "missing", seed=1)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"nothing")
    return tmp_path


@pytest.fixture
def panel(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    panel = SeriesPanel(viewer)
    qtbot.addWidget(panel)
    panel.show()
    panel.viewer = viewer
    return panel


def listed(panel, qtbot, folder):
    panel.folder_field.setText(str(folder))
    qtbot.keyClick(panel.folder_field, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: not panel.bar.running and bool(panel.bar.message), timeout=20_000)
    return {item.text(0): item for item in panel._items()}


def item_of(panel, name):
    return next(item for item in panel._items() if name in item.text(0) or name in item.toolTip(0))


def volumes(panel, qtbot, count):
    qtbot.waitUntil(lambda: len(panel.viewer.layers) == count and not panel.bar.running, timeout=20_000)
    return [layer_to_volume(layer) for layer in panel.viewer.layers]


def test_a_folder_lists_series_with_size_spacing_and_what_is_wrong(panel, qtbot, study):
    listed(panel, qtbot, study)
    phantom, _ = series_phantom("plain")
    plain = next(item for item in panel._items() if str(study / "plain") in item.toolTip(0))
    size = " \u00d7 ".join(str(n) for n in reversed(phantom.grid.shape))
    spacing = " \u00d7 ".join(f"{s:.3g}" for s in reversed(phantom.grid.spacing))
    assert size in plain.text(0)
    assert f"{spacing} mm" in plain.text(0)
    hole = next(item for item in panel._items() if str(study / "hole") in item.toolTip(0))
    assert "irregular" in hole.text(0)
    assert "missing" in hole.toolTip(0)
    assert "Phantom" in panel.tree.topLevelItem(0).text(0)


def test_a_double_click_opens_the_volume_where_it_lies(panel, qtbot, study):
    listed(panel, qtbot, study / "plain")
    panel.tree.itemDoubleClicked.emit(panel._items()[0], 0)
    (found,) = volumes(panel, qtbot, 1)
    phantom, _ = series_phantom("plain")
    assert np.array_equal(found.data, phantom.data)
    assert np.allclose(found.grid.affine, phantom.grid.affine, atol=1e-3)


def test_an_irregular_series_is_opened_only_when_asked_for(panel, qtbot, study):
    listed(panel, qtbot, study / "hole")
    panel.tree.setCurrentItem(panel._items()[0])
    assert panel.open_button.isEnabled()
    qtbot.mouseClick(panel.open_button, Qt.MouseButton.LeftButton)
    assert "Resample irregular stacks" in panel.bar.message
    assert not panel.bar.running
    panel.even_box.setChecked(True)
    qtbot.mouseClick(panel.open_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: len(panel.viewer.layers) > 0 and not panel.bar.running, timeout=20_000)
    found = layer_to_volume(panel.viewer.layers[0])
    phantom, _ = series_phantom("missing", seed=1)
    (gap,) = found.meta["gaps"]
    assert found.data.shape == phantom.data.shape
    kept = np.arange(len(phantom.data)) != gap
    assert np.array_equal(np.asarray(found.data)[kept], np.asarray(phantom.data)[kept])


def test_several_are_opened_together(panel, qtbot, tmp_path):
    for seed in (0, 1):
        write_series(tmp_path / str(seed), "plain", seed=seed)
    listed(panel, qtbot, tmp_path)
    panel.tree.selectAll()
    assert panel.open_button.text() == "Open 2 series"
    qtbot.mouseClick(panel.open_button, Qt.MouseButton.LeftButton)
    assert len(volumes(panel, qtbot, 2)) == 2


def test_thumbnails_show_the_middle_slice(panel, qtbot, study):
    listed(panel, qtbot, study / "plain")
    item = panel._items()[0]

    def drawn():
        image = item.icon(0).pixmap(72, 72).toImage()
        grey = [image.pixelColor(x, image.height() // 2).lightness() for x in range(image.width())]
        return max(grey) > 60 and grey[0] < 40

    qtbot.waitUntil(drawn, timeout=10_000)


def test_a_dropped_folder_is_listed(panel, qtbot, study):
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(study / "plain"))])
    event = QDropEvent(
        QPointF(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    panel.dropEvent(event)
    qtbot.waitUntil(lambda: len(panel._items()) == 1, timeout=10_000)


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_a_folder_that_is_none_is_one_sentence(panel, qtbot, tmp_path, name):
    listed(panel, qtbot, tmp_path / name if name else "")
    assert panel.bar.message
    assert not panel._items()
    assert not panel.open_button.isEnabled()


def test_closing_the_dock_stops_its_jobs(panel, qtbot, study):
    panel.viewer.window.add_dock_widget(panel, name="series")
    panel.show_folder(study)
    panel.viewer.window.remove_dock_widget(panel)
    qtbot.wait(300)
    assert not panel.viewer.layers


@pytest.mark.parametrize("how", ["closed", "destroyed"])
def test_no_thumbnails_are_drawn_once_the_dock_is_gone(make_napari_viewer, qtbot, tmp_path, monkeypatch, how):
    for seed in range(4):
        write_series(tmp_path / str(seed), "plain", seed=seed)
    begun, ended, go_on = [], [], threading.Event()

    def picture(info):
        begun.append(info)
        go_on.wait(10)
        ended.append(info)

    monkeypatch.setattr(series, "_picture", picture)
    viewer = make_napari_viewer()
    panel = SeriesPanel(viewer)
    viewer.window.add_dock_widget(panel, name="series")
    listed(panel, qtbot, tmp_path)
    qtbot.waitUntil(lambda: len(begun) == 1, timeout=10_000)
    panel.show_folder(tmp_path)
    qtbot.waitUntil(lambda: len(begun) == 2, timeout=10_000)
    assert len(panel._items()) == 4
    if how == "closed":
        viewer.window.remove_dock_widget(panel)
    else:
        panel.deleteLater()
        qtbot.wait(50)
    go_on.set()
    qtbot.waitUntil(lambda: len(ended) == 2, timeout=10_000)
    qtbot.wait(300)
    assert len(begun) == 2


def test_a_study_whose_description_says_none_is_called_by_its_date(study):
    info = list_series(study / "plain")[0]
    info = replace(info, study=info.study._replace(date="2006-01-01", description="None"))
    assert series._heading(info).endswith("\u2013 2006-01-01")
    assert "None" not in _seriestext.tip(info)
