"""What the tests of the three planes share: volumes on difficult grids, and a mouse for a canvas."""

import numpy as np
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication

from napari_lightbox.geometry import Grid
from napari_lightbox.viewer.layers import volume_to_layer
from napari_lightbox.viewer.panels.three_planes import ThreePlanes
from napari_lightbox.volume import Label, Volume

LETTERS = {"axial": "A P R L", "coronal": "S I R L", "sagittal": "S I A P"}


def add(viewer, volume: Volume, **kwargs):
    data, arguments, kind = volume_to_layer(volume, **kwargs)
    return getattr(viewer, f"add_{kind}")(data, **arguments)


def flipped_grid(shape=(20, 30, 40), frames=None) -> Grid:
    """Anisotropic, stored along left, inferior and anterior: every axis permuted, two of them flipped."""
    direction = np.zeros((3, 3))
    direction[2, 0], direction[0, 1], direction[1, 2] = 1, -1, -1
    full = shape if frames is None else (len(frames.values), *shape)
    return Grid.from_spacing((3.0, 1.25, 0.8), full, (40.0, -30.0, 20.0), direction, frames=frames)


def image_on(grid: Grid, name="ct") -> Volume:
    data = np.arange(np.prod(grid.shape), dtype=np.int16).reshape(grid.shape)
    return Volume(data, grid, name=name, meta={"modality": "MR"})


def labels_on(grid: Grid, name="organs") -> Volume:
    return Volume(np.zeros(grid.shape, np.uint8), grid, "labels", name, {1: Label("liver", "#ff0000")})


def open_dock(viewer, qtbot) -> ThreePlanes:
    """Open the dock in a window that is small, since every pixel is drawn without a graphics card."""
    viewer.window.resize(900, 760)
    panel = ThreePlanes(viewer)
    viewer.window.add_dock_widget(panel, name="Three planes", area="right")
    settle(qtbot, panel)
    return panel


def settle(qtbot, panel) -> None:
    qtbot.waitUntil(lambda: panel.ready and len(panel.panes) == 3, timeout=120_000)
    qtbot.wait(170)
    qtbot.waitUntil(lambda: panel.ready, timeout=60_000)


def pixel_of(pane, world) -> QPoint:
    """Say where on the canvas of a plane a point of the world is drawn."""
    view = pane.qt_viewer.canvas.view
    row, column = (world[axis] for axis in pane.model.dims.displayed)
    x, y = (view.transform * view.scene.transform).map((column, row))[:2]
    return QPoint(round(float(x)), round(float(y)))


def native(pane):
    return pane.qt_viewer.canvas.native


def click(qtbot, pane, world, button=Qt.MouseButton.LeftButton, modifier=Qt.KeyboardModifier.NoModifier) -> None:
    at = pixel_of(pane, world)
    qtbot.mousePress(native(pane), button, modifier, at)
    qtbot.wait(20)
    qtbot.mouseRelease(native(pane), button, modifier, at)


def wheel(pane, world, notches: int, modifier=Qt.KeyboardModifier.NoModifier) -> None:
    at = QPointF(pixel_of(pane, world))
    event = QWheelEvent(
        at, QPointF(native(pane).mapToGlobal(at.toPoint())), QPoint(0, 0), QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton, modifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(native(pane), event)


def letters(pane) -> str:
    return " ".join(pane.model.canvas.overlays[f"lightbox_{edge}"].text for edge in ("top", "bottom", "left", "right"))
