"""Full collections are rare while a window is open, and no removed layer is kept by that."""

import gc
import weakref

import numpy as np
from qtpy.QtCore import QEvent, QObject

from napari_lightbox.viewer import collecting, docks


def test_a_layer_that_was_open_before_the_first_dock_is_freed_when_it_is_removed(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    array = np.zeros((4, 5, 6))
    gone = weakref.ref(array)
    layer = weakref.ref(viewer.add_image(array, name="CT"))
    del array
    docks.median(viewer)
    viewer.layers.remove("CT")
    qtbot.waitUntil(lambda: gone() is None and layer() is None, timeout=10_000)


def test_several_removed_layers_are_one_collection(make_napari_viewer, qtbot, monkeypatch):
    viewer = make_napari_viewer()
    for name in ("first", "second"):
        viewer.add_image(np.zeros((4, 5, 6)), name=name)
    docks.median(viewer)
    calls = []
    kept = viewer.layers.pop(1)
    viewer.layers.pop(0)
    monkeypatch.setattr(collecting.gc, "collect", lambda *_: calls.append(1))
    qtbot.wait(collecting.REST + 500)
    assert calls == [1]
    assert kept.name == "second"


class _Refusing(QObject):
    def eventFilter(self, watched, event):
        if event.type() == QEvent.Type.Close:
            event.ignore()
            return True
        return False


def test_full_collections_are_rare_until_the_last_window_is_gone(make_napari_viewer, qtbot, monkeypatch):
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    monkeypatch.setattr(collecting, "_open", [])
    gc.set_threshold(700, 10, 10)
    try:
        first, second = make_napari_viewer(), make_napari_viewer()
        docks.otsu(first)
        assert gc.get_threshold() == (700, 10, collecting.RARELY)
        assert gc.get_freeze_count() <= frozen
        docks.otsu(second)
        docks.median(second)
        window = second.window._qt_window
        refusing = _Refusing()
        window.installEventFilter(refusing)
        window.close()
        window.removeEventFilter(refusing)
        qtbot.wait(20)
        assert gc.get_threshold() == (700, 10, collecting.RARELY)
        for viewer in (first, second):
            assert gc.get_threshold() == (700, 10, collecting.RARELY)
            gone = []
            viewer.window._qt_window.destroyed.connect(lambda *_, gone=gone: gone.append(True))
            viewer.window._qt_window.deleteLater()
            viewer.close()
            qtbot.waitUntil(lambda gone=gone: bool(gone), timeout=10_000)
        assert gc.get_threshold() == (700, 10, 10)
    finally:
        gc.set_threshold(*before)


def test_nothing_is_kept_when_the_window_closes(make_napari_viewer):
    viewer = make_napari_viewer()
    layer = viewer.add_image(np.zeros((4, 5, 6)))
    dock = docks.median(viewer)
    viewer.window.add_dock_widget(dock, name="median")
    gone = weakref.ref(layer)
    viewer.close()
    del viewer, layer, dock
    gc.collect()
    gc.collect()
    assert gone() is None
