"""What docks about models are made of: a form that scrolls over what is always in sight, text that wraps, trust."""

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from ...errors import LightboxError
from ...models.loaders.trust import Untrusted, remember
from ..asking import confirm


def text_label(parent: QWidget, *, selectable: bool = False) -> QLabel:
    """Return a label of rich text that wraps, however narrow the dock."""
    label = QLabel("", parent)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.RichText)
    if selectable:
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    # A long word must not widen the dock.
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label


def scrolling(dock: QWidget, inside: QWidget) -> tuple[QScrollArea, QVBoxLayout]:
    """Lay a dock out: what is inside scrolls up and down; what the layout gets further on stays in sight below it."""
    scroll = QScrollArea(dock)
    scroll.setWidgetResizable(True)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    scroll.setFrameShape(QScrollArea.Shape.NoFrame)
    scroll.setWidget(inside)
    outside = QVBoxLayout(dock)
    outside.setContentsMargins(6, 6, 6, 6)
    outside.addWidget(scroll, 1)
    dock.setMinimumWidth(330)
    return scroll, outside


def is_trusted(question: Untrusted, name: str, viewer, bar) -> bool:
    """Ask whether a model's file may run code, and remember a yes; a no is told in the dock's bar."""
    if not confirm(
        f"The model {name!r} is {question.what}.\n\nYes: you trust where it comes from, now and later.\n"
        "No: it stays closed.",
        viewer,
    ):
        bar.show_error(
            f"the model {name!r} stays closed, as it is {question.what}: start again and answer Yes if you trust where "
            f"it comes from (the file's SHA-256 is {question.sha256[:12]}...), or ask for its weights as safetensors, "
            "which cannot run anything"
        )
        return False
    try:
        remember(question.sha256, name)
    except LightboxError as error:
        bar.show_error(str(error))
        return False
    return True
