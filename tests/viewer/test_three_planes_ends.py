"""Three linked planes: volumes that come and go, and that nothing is left when the dock or the window closes."""

import gc
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QWidget
from three_planes_tools import (
    LETTERS,
    add,
    click,
    flipped_grid,
    image_on,
    labels_on,
    letters,
    native,
    open_dock,
    settle,
)

from napari_lightbox.geometry import Frames
from napari_lightbox.viewer.panels.three_planes import ThreePlanes


@pytest.fixture
def planes(make_napari_viewer, qtbot):
    """Return a function that opens volumes and the dock: (viewer, panel)."""

    def open_planes(*volumes):
        viewer = make_napari_viewer(show=True)
        for volume in volumes:
            add(viewer, volume)
        return viewer, open_dock(viewer, qtbot)

    return open_planes


def test_volumes_that_come_and_go(planes, qtbot):
    viewer, panel = planes()
    assert "Open a volume" in panel.note.text()
    first = add(viewer, image_on(flipped_grid()))
    settle(qtbot, panel)
    assert {plane: letters(pane) for plane, pane in panel.panes.items()} == LETTERS
    assert "Click" in panel.note.text()
    frames = Frames("time", (0.0, 1.0), "s")
    add(viewer, image_on(flipped_grid((8, 9, 10), frames), "cine"))
    settle(qtbot, panel)
    assert {pane.model.dims.ndim for pane in panel.panes.values()} == {4}
    assert {plane: letters(pane) for plane, pane in panel.panes.items()} == LETTERS
    viewer.layers.remove("cine")
    settle(qtbot, panel)
    click(qtbot, panel.panes["axial"], first.data_to_world((14, 3, 3)))
    settle(qtbot, panel)
    assert panel.panes["coronal"].model.dims.point[1] == pytest.approx(first.data_to_world((14, 3, 3))[1], abs=0.7)
    viewer.layers.clear()
    settle(qtbot, panel)
    viewer.add_image(np.zeros((8, 9)))
    settle(qtbot, panel)
    assert "Open a volume" in panel.note.text()


def test_closing_the_dock_releases_everything(planes, qtbot):
    grid = flipped_grid()
    viewer, panel = planes(image_on(grid), labels_on(grid))
    layer = viewer.layers["organs"]
    # Hidden by the button of its title bar, it takes the crosshair along, which nothing could switch off then.
    line = panel._room["crosshair"]._line
    assert line.visible
    panel.parentWidget().hide()
    assert not line.visible
    panel.parentWidget().show()
    qtbot.waitUntil(lambda: line.visible, timeout=5000)
    models = [weakref.ref(pane.model) for pane in panel.panes.values()]
    twins = [weakref.ref(one().layers[1]) for one in models]
    callbacks = len(viewer.mouse_drag_callbacks)
    dock = next(d for d in viewer.window._wrapped_dock_widgets.values() if d.widget() is panel)
    viewer.window.remove_dock_widget(dock)
    qtbot.wait(50)
    assert len(viewer.mouse_drag_callbacks) == callbacks - 1
    panel.deleteLater()
    del panel, dock
    qtbot.wait(50)
    gc.collect()
    # What lives on in the viewer works on.
    layer.mode = "paint"
    layer.paint((1, 1, 1), 3)
    layer.undo()
    viewer.dims.set_point(0, 3.0)
    viewer.layers.remove(layer)
    add(viewer, image_on(grid, "again"))
    viewer.layers.selection.clear()
    qtbot.wait(100)
    gc.collect()
    assert [one() for one in twins] == [None] * 3
    assert [one() for one in models] == [None] * 3


def test_a_dock_that_floats_and_comes_back_shows_its_planes(planes, qtbot):
    _, panel = planes(image_on(flipped_grid()))
    dock = panel.parentWidget()
    for floating in (True, False):
        dock.setFloating(floating)
        settle(qtbot, panel)
        panel.centre()
        settle(qtbot, panel)
        assert {plane: letters(pane) for plane, pane in panel.panes.items()} == LETTERS
        for pane in panel.panes.values():
            assert native(pane).isVisible()
            picture = native(pane).grabFramebuffer()
            middle = picture.pixelColor(picture.width() // 2 + 12, picture.height() // 2 + 12)
            assert middle.value() > 50


def test_hidden_while_it_floats_it_takes_the_crosshair_along(planes, qtbot):
    viewer, panel = planes(image_on(flipped_grid()))
    line, dock = panel._room["crosshair"]._line, panel.parentWidget()
    dock.setFloating(True)
    settle(qtbot, panel)
    assert line.visible
    dock.hide()
    viewer.dims.set_point(0, viewer.dims.point[0] + 6)
    qtbot.wait(100)
    assert not line.visible
    dock.show()
    qtbot.waitUntil(lambda: line.visible, timeout=5000)


def test_closing_the_viewer_while_it_works(planes, qtbot):
    viewer, panel = planes(image_on(flipped_grid()), labels_on(flipped_grid()))
    panel.move_to(panel.point + 5)
    viewer.layers["organs"].paint((1, 1, 1), 3)
    viewer.close()
    qtbot.wait(250)


class Failing(QWidget):
    """Fails while it is shown, as a canvas does that a window draws with another context."""

    fails = False

    def showEvent(self, event):
        if self.fails:
            raise RuntimeError("not drawn")


class Planes(ThreePlanes, Failing):
    """The dock over a widget that may fail."""


def test_the_crosshair_comes_back_though_a_canvas_fails_to_draw(qtbot):
    panel = Planes(ViewerModel())
    qtbot.addWidget(panel)
    # No canvases: only that they are brought up to date matters.
    panel._builder.stop()
    panel.fails = True
    with pytest.raises(RuntimeError, match="not drawn"):
        panel.showEvent(QShowEvent())
    assert panel._flusher.isActive()
    assert "main" in panel._dirty
