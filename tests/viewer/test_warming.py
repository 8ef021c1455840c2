"""A dock lets what its operation needs be compiled before Apply is pressed."""

import numpy as np
import pytest
from docking import add, open_dock

from napari_lightbox.ops import _ready
from napari_lightbox.volume import Volume


@pytest.fixture
def asked(monkeypatch):
    """Note what docks ask for."""
    found = []
    monkeypatch.setattr(_ready, "warm", lambda *call: found.append(call))
    return found


def test_an_open_dock_asks_for_the_kernels_of_its_layer(make_napari_viewer, qtbot, asked):
    viewer = make_napari_viewer()
    volume = add(viewer, Volume.from_array(np.zeros((3, 4, 5), np.int16), (1, 1, 1)), name="volume")
    flat = add(viewer, Volume.from_array(np.zeros((1, 4, 5), np.uint8), (1, 1, 1)), name="flat")
    viewer.layers.selection.active = volume
    dock = open_dock(viewer, qtbot, "median")
    assert asked == [("median", np.int16, 3, 60)]
    dock.layers["image"].choose(flat)
    assert asked[1:] == [("median", np.uint8, 2, 20)]
    # Nothing is shown for it: nobody waits.
    assert not dock.bar.running


def test_without_a_layer_nothing_is_asked_for(make_napari_viewer, qtbot, asked):
    open_dock(make_napari_viewer(), qtbot, "median")
    assert not asked
