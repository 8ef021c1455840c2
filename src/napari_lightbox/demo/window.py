"""The demo with a screen: a napari window with the session's layers and the docks in place."""

import signal
import sys
from collections.abc import Mapping
from functools import partial
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Layer
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QLabel, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from ..errors import FileError
from ..viewer.adding import add_in_turn
from ..viewer.dock import operation_dock
from ..viewer.jobbar import JobBar
from ..viewer.layers import make_layer
from ..viewer.manifest import PANELS
from ..viewer.readers import prepare
from ..viewer.seeds import new_points
from ..volume import Volume
from .files import save
from .pipeline import Session, Shown, run

_SIZE = (1560, 980)
# Layers that are visible at first; the rest is a click away.
_VISIBLE = ("labels",)
_LOOKS: dict[str, dict[str, Any]] = {
    "labels": {"opacity": 0.45},
    "grown": {"opacity": 0.5},
    "otsu": {"opacity": 0.4},
    "truth": {"opacity": 0.5},
    "comparison": {"opacity": 0.6},
    "probability": {"opacity": 0.8},
    "uncertainty": {"opacity": 0.8},
}
# Names of the docks: all must be readable side by side on the tabs of a narrow column.
_TABS = {"view": "View", "labels_table": "Labels", "inference": "Model", "region_grow": "Grow"}
# Time for fonts, canvas and docks to settle before a picture is taken.
_SETTLE_MS = 1500


class DemoPanel(QWidget):
    """Dock that runs the demo in the background and says what each layer is.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the layers go.
    image : Volume
        What the demo starts from.
    call : mapping
        Further arguments of `pipeline.run`.
    folder : Path, optional
        Where the session is saved as well.
    overwrite : bool
        Replace files that are there.
    """

    def __init__(
        self,
        viewer: napari.Viewer,
        image: Volume,
        call: Mapping[str, Any],
        folder: Path | None = None,
        overwrite: bool = False,
    ) -> None:
        super().__init__()
        self.viewer, self.image = viewer, image
        self.session: Session | None = None
        self.layer: Layer | None = None
        self.on_finished = lambda: None
        self.bar = JobBar(viewer, self)
        self.text = QLabel("", self)
        self.text.setWordWrap(True)
        self.text.setTextFormat(Qt.TextFormat.RichText)
        self.text.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        scroll = QScrollArea(self)
        scroll.setWidgetResizable(True)
        scroll.setWidget(self.text)
        box = QVBoxLayout(self)
        box.addWidget(self.bar)
        box.addWidget(scroll, 1)
        self.destroyed.connect(self.bar.runner.discard)
        self._work = partial(_work, image, dict(call), folder, overwrite)

    def start(self) -> None:
        """Show the image and start the work."""
        self.layer = self.viewer.add_layer(_layer(self.image))
        self.bar.run(self._work, title="Demo", on_done=self._show)
        # Without a result when the job is over, something went wrong, and the line of the bar says what.
        self.bar.running_changed.connect(lambda running: None if running else QTimer.singleShot(0, self._ended))

    def _ended(self) -> None:
        if self.session is None:
            self.on_finished()

    def _show(self, made: tuple[Session, list[Layer]]) -> None:
        self.session, layers = made
        image = self.layer if self.layer in self.viewer.layers else None
        waiting = []
        for shown, layer in zip(self.session.shown, layers, strict=True):
            if shown.role == "grown" and image is not None:
                waiting.append(_seeds(shown, image))
            waiting.append(layer)
        add_in_turn(self.viewer, waiting, partial(self._shown, self.session, image))

    def _shown(self, session: Session, image: Layer | None, added: list[Layer]) -> None:
        """Tell the layers apart when all are there; the dock may have been closed meanwhile."""
        labels = session.find("labels") or session.find("grown")
        if labels is not None and labels.title in self.viewer.layers:
            self.viewer.layers[labels.title].visible = True
        if image is not None and image in self.viewer.layers:
            self.viewer.layers.selection.active = image
        if not self.bar.runner.closed:
            self.text.setText(_told(session))
        self.on_finished()


def _seeds(shown: Shown, image: Layer) -> Layer:
    """Make the seed a point, ready to be moved and grown from again in the dock."""
    points = new_points(image, "Seed")
    points.visible = False
    for mark in shown.marks:
        place = _shown_index(shown.volume, mark)
        points.add(np.r_[np.zeros(image.ndim - 3), place])
    return points


def _work(image: Volume, call: dict[str, Any], folder: Path | None, overwrite: bool) -> tuple[Session, list[Layer]]:
    """Run the session, save it where asked for, and make the layers; runs in the background."""
    session = run(image, **call)
    if folder is not None:
        save(session, folder, overwrite=overwrite)
    layers = []
    for shown in session.shown:
        looks = {"visible": shown.role in _VISIBLE, **_LOOKS.get(shown.role, {})}
        layers.append(_layer(shown.volume, name=shown.title, **looks))
    return session, layers


def _layer(volume: Volume, **kwargs: Any) -> Layer:
    if volume.kind != "labels":
        # Smooth, as films are; the voxels themselves are a click away in the layer controls.
        kwargs = {"interpolation2d": "linear", **kwargs}
    return make_layer(volume, **kwargs)


def _shown_index(volume: Volume, point) -> np.ndarray:
    """Return where a world point lies in the array of the layer."""
    grid = volume.grid.without_frames()
    return grid.reordered(*grid.order_for("LPS")).to_index(np.asarray(point, float)[-3:])


def _told(session: Session) -> str:
    """Say what there is to see, as rich text."""
    lines = [f"<p>{escape(note)}</p>" for note in session.notes]
    for shown in session.shown:
        time = f" ({shown.seconds:.2f} s)" if shown.seconds is not None else ""
        lines.append(f"<p><b>{escape(shown.title)}</b>{time}<br>{escape(shown.note)}</p>")
    for name, rows in session.tables.items():
        words = "; ".join(f"{escape(str(row['class']))} {_figure(row['Dice'])}" for row in rows)
        lines.append(f"<p><b>{escape(name)}</b><br>Dice: {words}</p>")
    return "".join(lines)


def _figure(value: float) -> str:
    return "–" if value != value else f"{value:.3f}"


def open_docks(viewer: napari.Viewer, first: QWidget) -> dict[str, QWidget]:
    """Put the docks of the demo on the right, one behind the other, the demo's own in front.

    Returns
    -------
    dict of str to QWidget
        By title.
    """
    widgets: dict[str, QWidget] = {}
    for panel in (panel for panel in PANELS if panel.name in _TABS):
        module, name = panel.python_name.split(":")
        made = getattr(import_module(f"..viewer.{module}", __package__), name)(viewer)
        widgets[_TABS[panel.name]] = made
    widgets[_TABS["region_grow"]] = operation_dock("region_grow")(viewer)
    widgets["Demo"] = first
    docks = {}
    for title, widget in widgets.items():
        docks[title] = viewer.window.add_dock_widget(widget, name=title, area="right", tabify=bool(docks))
    docks["Demo"].raise_()
    return widgets


def show(
    image: Volume,
    call: Mapping[str, Any],
    *,
    folder: Path | None = None,
    overwrite: bool = False,
    screenshot: str | None = None,
) -> int:
    """Open the window and stay until it is closed.

    Parameters
    ----------
    image, call, folder, overwrite
        As for `DemoPanel`.
    screenshot : str, optional
        Save a picture of the window there when all layers are in place, and close it.

    Returns
    -------
    int
        Exit code: 0, or 2 where a screenshot was asked for and the demo failed.
    """
    viewer = napari.Viewer(title=f"Lightbox demo: {image.name}")
    viewer.window.resize(*_SIZE)
    prepare(viewer)
    panel = DemoPanel(viewer, image, call, folder, overwrite)
    open_docks(viewer, panel)
    result = {"code": 0}
    if screenshot is not None:
        panel.on_finished = partial(QTimer.singleShot, _SETTLE_MS, partial(_take, viewer, panel, screenshot, result))
    # Qt sleeps in its own loop: a timer lets Python notice Ctrl-C.
    before = signal.signal(signal.SIGINT, lambda *_: viewer.close())
    heartbeat = QTimer()
    heartbeat.timeout.connect(lambda: None)
    heartbeat.start(200)
    panel.start()
    try:
        napari.run()
    finally:
        signal.signal(signal.SIGINT, before)
    return result["code"]


def _take(viewer: napari.Viewer, panel: DemoPanel, screenshot: str, result: dict[str, int]) -> None:
    try:
        if panel.session is None:
            print(f"lightbox: {panel.bar.message or 'the demo did not finish'}", file=sys.stderr)
            result["code"] = 2
            return
        try:
            viewer.screenshot(screenshot, canvas_only=False, flash=False)
        except OSError as error:
            raise FileError(f"{screenshot} cannot be written: {error.strerror or error}") from error
        print(f"{screenshot}: picture of the window")
    except FileError as error:
        print(f"lightbox: {error}", file=sys.stderr)
        result["code"] = 2
    finally:
        viewer.close()
