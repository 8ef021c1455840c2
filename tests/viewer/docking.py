"""Opens and drives the docks of operations, as a user does."""

from napari.layers import Layer
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import Qt

from napari_lightbox.viewer import docks
from napari_lightbox.viewer.layers import volume_to_layer


def add(viewer, volume, **kwargs):
    return viewer.add_layer(Layer.create(*volume_to_layer(volume, **kwargs)))


def open_dock(viewer, qtbot, name):
    dock = getattr(docks, name)(PublicOnlyProxy(viewer))
    viewer.window.add_dock_widget(dock, name=name)
    return dock


def press(qtbot, dock, seconds=20):
    """Press Apply and wait until the dock is at rest."""
    qtbot.mouseClick(dock.apply_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not dock.bar.running, timeout=1000 * seconds)
