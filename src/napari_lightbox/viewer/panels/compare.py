"""The dock that compares two layers: in turn with one key, or side by side."""

import logging
import weakref
from collections.abc import Callable
from functools import partial

import napari
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QFormLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from ..choosers import LayerChooser
from ..compare import FLICKER_KEY, HELD, comparison
from ..layers import difference, layer_kind, plain
from ..runner import main_window
from ._links import Links
from ._pane import Closing
from ._side import SidePane
from .view import attach

log = logging.getLogger(__name__)
TITLE = "Side by side"
# Milliseconds until docks have taken their places; pixels that the second canvas gets at least.
_SETTLE = 1500
_LEAST = 200


class ComparePanel(QWidget):
    """Dock to look at two layers in turn, or beside each other, and to go back.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer that the dock belongs to.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = plain(viewer)
        attach(self._viewer)
        self._comparison = comparison(self._viewer)
        # The canvas beside the main one and its dock; a dict of its own, as it outlives the widget.
        self._room: dict = {"side": None, "dock": None, "comparison": self._comparison, "links": None}
        self._build()
        self._links = self._room["links"] = Links(self)
        layers = self._viewer.layers.events
        for event in (layers.inserted, layers.removed, layers.reordered):
            self._links.add(event, self._on_layers)
        self._later = QTimer(self, singleShot=True, interval=0)
        self._later.timeout.connect(self._fill)
        Closing(self, self._viewer, partial(_shut, weakref.ref(self._viewer), self._room))
        self._fill()

    def _build(self) -> None:
        layout, form = QVBoxLayout(self), QFormLayout()
        self.first = LayerChooser(self._viewer, ("image", "labels"))
        self.second = LayerChooser(self._viewer, ("image", "labels"))
        self.first.setToolTip("Layer that is seen first, and on the left")
        self.second.setToolTip("Layer that is seen in turn, and on the right")
        for name, box in (("First", self.first), ("Second", self.second)):
            form.addRow(name, box)
            box.activated.connect(self._on_choice)
        layout.addLayout(form)
        row = QHBoxLayout()
        self.flick_button = QPushButton(f"Switch ({FLICKER_KEY})")
        self.flick_button.setToolTip(
            f"Show the other layer, in its own window. Key {FLICKER_KEY} does the same over the picture; held "
            f"longer than {HELD:g} s it goes back when let go"
        )
        self.flick_button.clicked.connect(self.flick)
        self.side_button = QPushButton(TITLE)
        self.side_button.setToolTip("Show the second layer on a canvas of its own: same slice in mm, same zoom")
        self.side_button.clicked.connect(self.side_by_side)
        row.addWidget(self.flick_button)
        row.addWidget(self.side_button)
        layout.addLayout(row)
        self.back_button = QPushButton("Back")
        self.back_button.setToolTip("Show all layers as they were before the comparison")
        self.back_button.clicked.connect(self.back)
        layout.addWidget(self.back_button)
        self.note = QLabel()
        self.note.setWordWrap(True)
        layout.addWidget(self.note)
        layout.addStretch(1)

    # Layers -------------------------------------------------------------------------------------------------------

    def _on_layers(self, event=None) -> None:
        # Later: the boxes hear of it too.
        self._later.start()

    def _fill(self) -> None:
        """Show which two layers are compared."""
        pair = self._comparison.pair
        for box, layer in zip((self.first, self.second), pair, strict=False):
            box.choose(layer)
        for button in (self.flick_button, self.side_button):
            button.setEnabled(bool(pair))
        self._say()

    def _on_choice(self, *_) -> None:
        self.back()
        self._comparison.choose(self.first.layer, self.second.layer)
        self._fill()

    def _say(self) -> None:
        pair = self._comparison.pair
        if not pair:
            self.note.setText("Open two images or label layers.")
            return
        kinds = {layer_kind(layer) for layer in pair}
        text = "The labels are switched off and on over the image. " if len(kinds) == 2 else ""
        why = difference(*pair)
        if why:
            text += f"They lie on different grids ({why}): the same slice in mm is shown."
        self.note.setText(text)

    # What the buttons do ------------------------------------------------------------------------------------------

    @property
    def side(self) -> SidePane | None:
        """The second canvas, or None."""
        return self._room["side"]

    def flick(self) -> None:
        """Show the other of the two layers."""
        _end_side(self._viewer, self._room)
        self._comparison.flick()

    def side_by_side(self) -> None:
        """Show the second layer on a canvas beside the first."""
        pair = self._comparison.pair
        if not pair or self.side is not None or main_window(self._viewer) is None:
            return
        self._comparison.stop()
        reference = weakref.ref(self)
        half = max(_LEAST, self._viewer.canvas.size[1] // 2)
        side = self._room["side"] = SidePane(self._viewer, pair, partial(_later, reference, ComparePanel.back))
        side.uprooted.connect(partial(_later, reference, ComparePanel.dock_again))
        # A dock takes its least width at once, and keeps it; any other it takes only when it has been laid out.
        QTimer.singleShot(_SETTLE, partial(_let_go, weakref.ref(side), side.minimumWidth()))
        side.setMinimumWidth(half)
        self._room["dock"] = self._viewer.window.add_dock_widget(side, name=TITLE, area="right")
        # Its own cross ends the comparison too.
        Closing(side, self._viewer, partial(_side_closed, weakref.ref(self._viewer), weakref.ref(side), self._room))
        self.side_button.setEnabled(False)
        _beside(self._viewer, self._room["dock"])

    def dock_again(self) -> None:
        """Put the second canvas, which cannot float, back beside the first."""
        if self.side is not None:
            self.back()
            self.side_by_side()

    def back(self) -> None:
        """Show all layers as they were before the comparison."""
        _end_side(self._viewer, self._room)
        self._comparison.stop()
        self.side_button.setEnabled(bool(self._comparison.pair))


def _beside(viewer, dock) -> None:
    """Put the dock of the second canvas left of the other docks on the right."""
    window, area = main_window(viewer), Qt.DockWidgetArea.RightDockWidgetArea
    for other in window.findChildren(QDockWidget):
        here = other.isVisible() and not other.isFloating() and window.dockWidgetArea(other) == area
        if other is not dock and here:
            window.splitDockWidget(dock, other, Qt.Orientation.Horizontal)
            break


def _let_go(pane: weakref.ref, width: int) -> None:
    one = pane()
    try:
        if one is not None:
            one.setMinimumWidth(width)
    except RuntimeError:
        log.debug("the second canvas is closed already")


def _later(reference: weakref.ref, do: Callable[[ComparePanel], None]) -> None:
    """Do something with the dock in a moment, if it is there then."""
    QTimer.singleShot(0, partial(_now, reference, do))


def _now(reference: weakref.ref, do: Callable[[ComparePanel], None]) -> None:
    panel = reference()
    try:
        if panel is not None:
            do(panel)
    except RuntimeError:
        log.debug("the dock is closed already")


def _end_side(viewer, room: dict) -> None:
    """Close the second canvas and show everything as it was."""
    side, room["side"] = room["side"], None
    dock, room["dock"] = room["dock"], None
    if side is None:
        return
    side.shut()
    # Left behind by its dock, it is deleted.
    viewer.window.remove_dock_widget(dock)
    side.restore()


def _side_closed(viewer: weakref.ref, closed: weakref.ref, room: dict, gone: bool) -> None:
    side = closed()
    # Another may be there already.
    if side is None or side is not room["side"]:
        return
    room["side"], room["dock"] = None, None
    side.shut(gone)
    if viewer() is not None and not gone:
        side.restore()


def _shut(viewer: weakref.ref, room: dict, gone: bool) -> None:
    if room["links"] is not None:
        room["links"].clear()
    if viewer() is not None and not gone:
        _end_side(viewer(), room)
        room["comparison"].stop()
