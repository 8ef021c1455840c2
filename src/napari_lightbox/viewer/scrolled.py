"""Rows of a dock that scroll where there is too little room for them."""

from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QSizePolicy, QWidget

# Pixels of a form that are seen at least, where docks share the height of the window.
_LEAST = 120


class Scrolled(QScrollArea):
    """As high as what is inside where there is room, and never higher; else it scrolls up and down."""

    def __init__(self, inside: QWidget, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.setWidget(inside)

    def _height(self) -> int:
        inside = self.widget()
        # Text that wraps is higher in a narrow dock.
        high = max(inside.heightForWidth(self.viewport().width()), inside.minimumSizeHint().height())
        return high + self.height() - self.viewport().height()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's names
        """Return the size of what is inside, beside a scroll bar."""
        bar = self.verticalScrollBar().sizeHint().width()
        return QSize(self.widget().sizeHint().width() + bar, self._height())

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Return its width beside a scroll bar, and a few rows."""
        bar = self.verticalScrollBar().sizeHint().width()
        return QSize(self.widget().minimumSizeHint().width() + bar, min(_LEAST, self._height()))

    def resizeEvent(self, event) -> None:  # noqa: N802
        """Ask for another height in another width."""
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self.updateGeometry()

    def eventFilter(self, watched, event) -> bool:  # noqa: N802
        """Follow rows that come and go."""
        taken = super().eventFilter(watched, event)
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return taken
