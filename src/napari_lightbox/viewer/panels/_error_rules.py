"""The rules of plausibility in the Errors dock: a table, and a line below that changes the chosen one."""

import math
from dataclasses import replace
from pathlib import Path

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ...errors import InputError, LightboxError
from ...ops._rules import RULES, Rule
from ...report.rules_file import USUAL, label_of, read_rules, write_rules
from ..layers import layer_record

_ALL = "all labels"
_LIMITED = ("volume", "intensity")
_FIELDS = ("limit", "low", "high")


def names_of(layer) -> dict[int, str]:
    """Return what the labels of a layer are called, as far as that is known."""
    record = layer_record(layer) if layer is not None else None
    return {} if record is None else {int(value): label.name for value, label in record["labels"].items()}


class RulesBox(QWidget):
    """A list of rules that can be added to, changed, saved and loaded.

    Parameters
    ----------
    layer : callable
        Returns the Labels layer that the rules are for, or None.
    parent : QWidget, optional
    """

    def __init__(self, layer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layer = layer
        self.rules: list[Rule] = list(USUAL)
        self.table = self._make_table()
        self.note = QLabel("", self)
        self.note.setWordWrap(True)
        self.note.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.table)
        column.addLayout(self._make_line())
        column.addLayout(self._make_buttons())
        column.addWidget(self.note)
        self._show(0)

    def _make_table(self) -> QTableWidget:
        table = QTableWidget(0, 3, self)
        table.setHorizontalHeaderLabels(["Rule", "Label", "Threshold"])
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(22)
        header = table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        table.setFixedHeight(header.sizeHint().height() + 5 * 22 + 4)
        table.currentCellChanged.connect(lambda row, *_: self._show_line(row))
        return table

    def _make_line(self) -> QGridLayout:
        self.kind_box, self.label_box, self.partner_box = (QComboBox(self) for _ in range(3))
        for kind, rule in RULES.items():
            self.kind_box.addItem(kind, kind)
            self.kind_box.setItemData(self.kind_box.count() - 1, rule.meaning, Qt.ItemDataRole.ToolTipRole)
        self.kind_box.activated.connect(lambda _: self._on_kind())
        for box, tip in (
            (self.label_box, "Label that the rule is about, by its name or number"),
            (self.partner_box, "Label of the patient's right"),
        ):
            box.setEditable(True)
            box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(8)
            box.setToolTip(tip)
            box.activated.connect(lambda _: self._on_change())
            box.lineEdit().editingFinished.connect(self._on_change)
        self.fields = {}
        for key in _FIELDS:
            field = QLineEdit(self)
            field.setMinimumWidth(40)
            field.editingFinished.connect(self._on_change)
            self.fields[key] = field
        self.unit = QLabel("", self)
        grid = QGridLayout()
        grid.addWidget(self.kind_box, 0, 0)
        grid.addWidget(self.label_box, 0, 1)
        beside = QHBoxLayout()
        for widget in (*self.fields.values(), self.unit, self.partner_box):
            beside.addWidget(widget)
        grid.addLayout(beside, 1, 0, 1, 2)
        grid.setColumnStretch(1, 1)
        return grid

    def _make_buttons(self) -> QHBoxLayout:
        row = QHBoxLayout()
        for name, text, tip, do in (
            ("add_button", "Add", "Add another rule", self.add),
            ("remove_button", "Remove", "Take the chosen rule away", self.remove),
            ("load_button", "Load\u2026", "Take rules from a JSON file", self._ask_load),
            ("save_button", "Save\u2026", "Write the rules to a JSON file, which lightbox evaluate --rules reads, too",
             self._ask_save),
        ):  # fmt: skip
            button = QPushButton(text, self)
            button.setToolTip(f"<qt>{tip}</qt>")
            button.setMinimumWidth(button.fontMetrics().horizontalAdvance(text) + 14)
            button.clicked.connect(lambda _=False, do=do: do())
            setattr(self, name, button)
            row.addWidget(button)
        return row

    # What is shown ------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the rules with the names of the labels as they are now."""
        self._show(max(0, self.table.currentRow()))

    def _show(self, row: int) -> None:
        names = names_of(self._layer())
        with QSignalBlocker(self.table):
            self.table.setRowCount(len(self.rules))
            for place, rule in enumerate(self.rules):
                label = _ALL if rule.label is None else _name(rule.label, names)
                if rule.kind == "swapped side":
                    label = f"{label} / {_name(rule.partner, names)}"
                for column, text in enumerate((rule.kind, label, _threshold(rule))):
                    item = QTableWidgetItem(text)
                    item.setToolTip(_tip(rule.kind))
                    self.table.setItem(place, column, item)
            row = min(row, len(self.rules) - 1)
            self.table.setCurrentCell(row, 0)
        self._show_line(row)

    def _show_line(self, row: int) -> None:
        there = 0 <= row < len(self.rules)
        rule = self.rules[row] if there else Rule("hole")
        names = names_of(self._layer())
        for box, value, first in ((self.label_box, rule.label, _ALL), (self.partner_box, rule.partner, None)):
            with QSignalBlocker(box):
                box.clear()
                for name in ([first] if first and rule.kind != "swapped side" else []) + list(names.values()):
                    box.addItem(name)
                box.setEditText(_ALL if value is None and first else "" if value is None else _name(value, names))
        kind = RULES[rule.kind]
        self.kind_box.setCurrentIndex(self.kind_box.findData(rule.kind))
        self.kind_box.setToolTip(f"<qt>{kind.meaning}</qt>")
        for key, field in self.fields.items():
            value = rule.threshold if key == "limit" else getattr(rule, key)
            field.setText("" if value is None or math.isnan(value) else f"{value:g}")
            field.setPlaceholderText("" if key == "limit" else f"no {key}")
            field.setToolTip(f"<qt>{kind.threshold}, {kind.unit}</qt>")
            field.setVisible((rule.kind in _LIMITED) == (key != "limit") and rule.kind != "swapped side")
        self.unit.setText("left, and right:" if rule.kind == "swapped side" else kind.unit)
        self.partner_box.setVisible(rule.kind == "swapped side")
        for widget in (self.kind_box, self.label_box, self.remove_button, *self.fields.values()):
            widget.setEnabled(there)

    def _say(self, text: str) -> None:
        self.note.setText(f'<span style="color:#ff6b6b">{text}</span>' if text else "")
        self.note.setVisible(bool(text))

    # What is done -------------------------------------------------------------------------------------------------

    def add(self) -> None:
        """Add a rule: holes of all labels, to be changed in the line below the table."""
        self.rules.append(Rule("hole"))
        self._say("")
        self._show(len(self.rules) - 1)

    def remove(self) -> None:
        """Take the chosen rule away."""
        row = self.table.currentRow()
        if 0 <= row < len(self.rules):
            del self.rules[row]
            self._say("")
            self._show(row)

    def _on_kind(self) -> None:
        row = self.table.currentRow()
        if not 0 <= row < len(self.rules) or self.rules[row].kind == self.kind_box.currentData():
            return
        kind, label = self.kind_box.currentData(), self.rules[row].label
        more: dict = {"low": 0.0} if kind in _LIMITED else {}
        if kind == "swapped side":
            pair = _sides(names_of(self._layer()))
            label, more = (pair[0] if label is None else label), {"partner": pair[1]}
        self.rules[row] = Rule(kind, label, **more)
        self._say("")
        self._show(row)

    def _on_change(self) -> None:
        """Take over what the line below the table says."""
        row = self.table.currentRow()
        if not 0 <= row < len(self.rules):
            return
        rule, names = self.rules[row], names_of(self._layer())
        try:
            text = self.label_box.currentText().strip()
            new = {"label": None if text in ("", _ALL) else label_of(text, names)}
            if rule.kind == "swapped side":
                new["partner"] = label_of(self.partner_box.currentText(), names)
            elif rule.kind in _LIMITED:
                new |= {key: _number(self.fields[key].text(), key) for key in ("low", "high")}
            else:
                limit = _number(self.fields["limit"].text(), "limit")
                new["limit"] = None if limit == RULES[rule.kind].limit else limit
            changed = replace(rule, **new)
        except LightboxError as error:
            self._say(str(error))
            return
        self._say("")
        if changed != rule:
            self.rules[row] = changed
            self._show(row)

    def load(self, path: str | Path) -> None:
        """Take the rules of a file; errors are raised."""
        self.rules = read_rules(path, names_of(self._layer()))
        self._show(0)

    def save(self, path: str | Path) -> None:
        """Write the rules to a file; errors are raised."""
        write_rules(path, self.rules, names_of(self._layer()))

    def _ask_load(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Rules of plausibility", "", "JSON (*.json)")
        self._do(self.load, name)

    def _ask_save(self) -> None:
        name, _ = QFileDialog.getSaveFileName(self, "Save the rules", "rules.json", "JSON (*.json)")
        self._do(self.save, name)

    def _do(self, function, name: str) -> None:
        if not name:
            return
        try:
            function(name)
        except LightboxError as error:
            self._say(str(error))
        else:
            self._say("")


def _name(value: int, names: dict[int, str]) -> str:
    return names.get(value, str(value))


def _threshold(rule: Rule) -> str:
    unit = RULES[rule.kind].unit
    if rule.kind == "swapped side":
        return "left / right"
    if rule.kind in _LIMITED:
        low, high = ("" if value is None else f"{value:g}" for value in (rule.low, rule.high))
        words = f"{low} to {high}" if low and high else f"from {low}" if low else f"up to {high}"
        return words if rule.kind == "intensity" else f"{words} {unit}"
    return f"up to {rule.threshold:g} {unit}"


def _tip(kind: str) -> str:
    rule = RULES[kind]
    return f"<qt>{kind}: {rule.meaning}" + (f"; {rule.threshold}, {rule.unit}</qt>" if rule.threshold else "</qt>")


def _number(text: str, name: str) -> float | None:
    text = text.strip().replace(",", ".")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{name} {text!r} is no number: type one without its unit")
    return value


def _sides(names: dict[int, str]) -> tuple[int, int]:
    """Return a label whose name says left and its partner; (1, 2) where no name does."""
    lower = {name.casefold(): value for value, name in names.items()}
    for name, value in lower.items():
        partner = lower.get(name.replace("left", "right"))
        if "left" in name and partner is not None:
            return value, partner
    return 1, 2
