"""What is to be done to the labels of a model afterwards: a small table with a row for every class."""

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import QLocale, Signal
from qtpy.QtGui import QDoubleValidator, QIntValidator
from qtpy.QtWidgets import QCheckBox, QGridLayout, QLabel, QLineEdit, QWidget

from ...models.card import Card
from ...models.post import OTHERS
from ._elided import ElidedLabel

_KEEP = "<qt>How many connected parts of the class stay, the largest ones; all where it is empty</qt>"
_SMALL = "<qt>Connected parts that are smaller than this go, in ml; they become background</qt>"
_HOLES = "<qt>Background that the class encloses becomes the class; done last</qt>"


class _Row:
    """The three choices for one class."""

    def __init__(self, name: str, parent: QWidget) -> None:
        self.title = ElidedLabel(name)
        # Lines and not spin boxes: napari's are too wide for a table in a dock.
        self.largest, self.least = QLineEdit(parent), QLineEdit(parent)
        self.largest.setPlaceholderText("all")
        self.least.setPlaceholderText("none")
        self.largest.setToolTip(_KEEP)
        self.least.setToolTip(_SMALL)
        digits = QDoubleValidator(0.0, 99999.0, 3, parent)
        # A point, whatever the country: as in cards and on the command line.
        digits.setLocale(QLocale.c())
        digits.setNotation(QDoubleValidator.Notation.StandardNotation)
        self.largest.setValidator(QIntValidator(0, 999, parent))
        self.least.setValidator(digits)
        self.holes = QCheckBox(parent)
        self.holes.setToolTip(_HOLES)
        for box in (self.largest, self.least):
            box.setFixedWidth(52)

    @property
    def rule(self) -> dict[str, Any]:
        """The rule as `postprocess` takes it."""
        return {
            "keep_largest": int(self.largest.text() or 0),
            "remove_below_ml": _number(self.least.text()),
            "fill_holes": self.holes.isChecked(),
        }

    def show_rule(self, rule: Mapping[str, Any]) -> None:
        """Show the choices of a rule."""
        largest, least = int(rule.get("keep_largest", 0)), float(rule.get("remove_below_ml", 0.0))
        self.largest.setText(str(largest) if largest else "")
        self.least.setText(f"{least:g}" if least else "")
        self.holes.setChecked(bool(rule.get("fill_holes", False)))


class CleaningTable(QWidget):
    """Choices of post-processing for every class of a model, and one row for all classes that have none.

    Parameters
    ----------
    parent : QWidget, optional
        The dock.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows: dict[str, _Row] = {}
        self._names: list[str] = []
        self._open = False
        self._asked: dict[str, dict[str, Any]] = {}
        self.grid = QGridLayout(self)
        self.grid.setContentsMargins(12, 0, 0, 0)
        self.grid.setHorizontalSpacing(6)
        self.grid.setVerticalSpacing(2)
        self.grid.setColumnStretch(0, 1)
        for column, (title, tip) in enumerate((("Largest", _KEEP), ("Min. ml", _SMALL), ("Holes", _HOLES)), start=1):
            label = QLabel(title, self)
            label.setToolTip(tip)
            self.grid.addWidget(label, 0, column)

    def set_card(self, card: Card | None) -> None:
        """Show what the card of a model says; a model without labels has no rows."""
        for row in self.rows.values():
            for widget in (row.title, row.largest, row.least, row.holes):
                self.grid.removeWidget(widget)
                widget.hide()
                widget.deleteLater()
        self.rows = {}
        labelled = card is not None and card.output.kind in ("labels", "regions")
        self._names = [card.output.label(v).name for v in card.output.values if v] if labelled else []
        self._asked = {_name(key, card): dict(rule) for key, rule in card.post.items()} if labelled else {}
        self.unfold(self._open)

    def unfold(self, shown: bool = True) -> None:
        """Make the rows once they are to be looked at: a model may have a hundred classes."""
        self._open = shown
        if not shown or self.rows or not self._names:
            return
        for number, name in enumerate([*self._names, OTHERS] if len(self._names) > 1 else self._names, start=1):
            row = _Row("all others" if name == OTHERS else name, self)
            row.show_rule(self._asked.get(name, {}))
            for column, widget in enumerate((row.title, row.largest, row.least, row.holes)):
                self.grid.addWidget(widget, number, column)
            row.largest.textChanged.connect(self._on_change)
            row.least.textChanged.connect(self._on_change)
            row.holes.toggled.connect(self._on_change)
            self.rows[name] = row

    def _on_change(self, *_: Any) -> None:
        self.changed.emit()

    @property
    def rules(self) -> dict[str, dict[str, Any]]:
        """The rules of all classes for which something is to be done."""
        if not self.rows:
            return self._asked
        chosen = {name: row.rule for name, row in self.rows.items()}
        return {name: rule for name, rule in chosen.items() if any(rule.values())}


def _number(text: str) -> float:
    """Return what is typed, also while it is typed: a point alone is nothing yet."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def _name(key: str, card: Card) -> str:
    """Return the name of a class that a card's rules name, or give by its value."""
    names = [label.name for label in card.output.labels.values()]
    return card.output.label(int(key)).name if key not in names and key.isdecimal() else key
