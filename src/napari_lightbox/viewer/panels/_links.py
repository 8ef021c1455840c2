"""Connections to napari's events that end with the widget that made them."""

from collections.abc import Callable


class Links:
    """Connections to events of the viewer or of layers, undone together.

    A closed dock is deleted by Qt while the viewer lives on, and would be called back into nothing.

    Parameters
    ----------
    widget : QWidget
        When it is destroyed, all connections end.
    """

    def __init__(self, widget) -> None:
        self._made: list[tuple] = []
        # Not the bound method: Qt would keep only a weak hold of it.
        widget.destroyed.connect(lambda *_: self.clear())

    def add(self, event, callback: Callable) -> None:
        """Connect a callback to an event emitter of napari."""
        event.connect(callback)
        self._made.append((event, callback))

    def clear(self) -> None:
        """End all connections."""
        while self._made:
            event, callback = self._made.pop()
            event.disconnect(callback)
