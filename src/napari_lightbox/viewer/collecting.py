"""Python's garbage collector is kept from looking through all of napari while a window is open.

A full collection stops every thread for as long as it takes to look at every object: some tenths of a second in a
process that holds a viewer. What is there when the first dock opens, or when a large library has been loaded, stays
until the window closes; the collector need not look at it until then.
"""

import gc

from qtpy.QtCore import QEvent, QObject

from .runner import main_window

_MARK = "lightbox_spared"


def spare(viewer) -> None:
    """Exempt all objects that exist now from collections, until the window of `viewer` closes.

    A second call for the same window changes nothing; a viewer without a window is left alone.
    """
    window = main_window(viewer)
    if window is not None and window.property(_MARK) is None:
        window.setProperty(_MARK, True)
        _Closing(window)
        gc.freeze()


class _Closing(QObject):
    """Gives everything back to the collector when a window closes; a child of the window."""

    def __init__(self, window) -> None:
        super().__init__(window)
        window.installEventFilter(self)

    def eventFilter(self, watched, event) -> bool:  # noqa: N802 - Qt's name
        if event.type() == QEvent.Type.Close:
            gc.unfreeze()
        return False
