"""Python's garbage collector looks through all of napari less often while a window is open.

A full collection stops every thread for as long as it takes to look at every object: some tenths of a second in a
process that holds a viewer. What needs one soon is a layer that was removed, as it may hold a gigabyte: it gets one
when the hands are at rest.
"""

import gc
import weakref

from qtpy.QtCore import QObject, QTimer

from .panels._links import Links
from .runner import main_window

_MARK = "lightbox_spared"
# Collections of the middle generation before a full one is considered; Python's own choice is 10.
RARELY = 100
# Milliseconds without another layer removed before what was removed is collected.
REST = 1000
# The thresholds that each window found.
_open: list[tuple[int, int, int]] = []


def spare(viewer) -> None:
    """Make full collections rare until the window of `viewer` is gone, and free layers that are removed from it.

    A second call for the same window changes nothing; a viewer without a window is left alone.
    """
    window = main_window(viewer)
    if window is None or window.property(_MARK) is not None:
        return
    window.setProperty(_MARK, True)
    _Removed(window, getattr(viewer, "__wrapped__", viewer))
    _open.append(gc.get_threshold())
    gc.set_threshold(*_open[0][:2], max(RARELY, _open[0][2]))
    window.destroyed.connect(_closed)


def _closed(*_) -> None:
    """Give the collector its thresholds back when the last window is gone."""
    before = _open[0]
    _open.pop()
    if not _open:
        gc.set_threshold(*before)


class _Removed(QObject):
    """Collects layers soon after they were removed; a child of the window."""

    def __init__(self, window, viewer) -> None:
        super().__init__(window)
        self._waiting: list[weakref.ref] = []
        self._timer = QTimer(self, singleShot=True, interval=REST)
        self._timer.timeout.connect(self._collect)
        self._links = Links(window)
        self._links.add(viewer.layers.events.removed, self._on_removed)

    def _on_removed(self, event) -> None:
        self._waiting.append(weakref.ref(event.value))
        self._timer.start()

    def _collect(self) -> None:
        waiting, self._waiting = self._waiting, []
        # napari collects while it removes, when it still holds the layer itself. Who is gone already needs no pause.
        if any(layer() is not None for layer in waiting):
            gc.collect()
