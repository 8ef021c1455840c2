"""The collector is spared while a window is open, and nothing is kept when it is closed."""

import gc
import weakref

import numpy as np

from napari_lightbox.viewer import docks


def test_all_is_given_back_when_the_window_closes(make_napari_viewer):
    gc.unfreeze()
    viewer = make_napari_viewer()
    layer = viewer.add_image(np.zeros((4, 5, 6)))
    assert gc.get_freeze_count() == 0
    dock = docks.median(viewer)
    viewer.window.add_dock_widget(dock, name="median")
    frozen = gc.get_freeze_count()
    assert frozen > 100_000
    docks.otsu(viewer)
    assert gc.get_freeze_count() <= frozen  # once for a window
    gone = weakref.ref(layer)
    viewer.close()
    assert gc.get_freeze_count() == 0
    del viewer, layer, dock
    gc.collect()
    gc.collect()
    assert gone() is None
