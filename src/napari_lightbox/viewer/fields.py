"""One input field per parameter of an operation, chosen by the annotation of its signature."""

import ast
import math
import re
from collections.abc import Sequence
from types import NoneType
from typing import Any, get_args, get_origin

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QHBoxLayout, QLabel, QLineEdit, QSpinBox, QWidget

from ..catalogue import Parameter, choices
from ..errors import InputError
from ..ops._check import parse_matrix, swapped_matrix

_LARGE = 1e9
# What moves along which axis, last one first as all triples are shown.
_SHEARS = ("yx", "zx", "zy")


class Field(QWidget):
    """A widget for one parameter.

    Subclasses show a value and give it back; `value` raises `InputError` where what was typed cannot be used.
    """

    changed = Signal()

    def __init__(self, parameter: Parameter, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.parameter = parameter
        self.line = QHBoxLayout(self)
        self.line.setContentsMargins(0, 0, 0, 0)
        self.line.setSpacing(4)

    def value(self) -> Any:
        """Return what is chosen, as the function takes it."""
        raise NotImplementedError

    def set_value(self, value: Any) -> None:
        """Show `value`."""
        raise NotImplementedError

    def reset(self) -> None:
        """Show the default of the signature."""
        if not self.parameter.required:
            self.set_value(self.parameter.default)


class BoolField(Field):
    """A check box."""

    def __init__(self, parameter: Parameter, parent: QWidget | None = None) -> None:
        super().__init__(parameter, parent)
        self.box = QCheckBox(self)
        self.box.toggled.connect(lambda _: self.changed.emit())
        self.line.addWidget(self.box)
        self.reset()

    def value(self) -> bool:
        return self.box.isChecked()

    def set_value(self, value: Any) -> None:
        self.box.setChecked(bool(value))


class ChoiceField(Field):
    """A list of the values of a `Literal`; None, where it is allowed, reads "automatic"."""

    def __init__(self, parameter: Parameter, parent: QWidget | None = None) -> None:
        super().__init__(parameter, parent)
        self.box = QComboBox(self)
        # The values may be numbers (4 or 8 neighbours): the list keeps them beside their texts.
        self.values = (*((None,) if _optional(parameter) else ()), *choices(parameter))
        self.box.addItems(["automatic" if value is None else str(value) for value in self.values])
        self.box.currentIndexChanged.connect(lambda _: self.changed.emit())
        self.line.addWidget(self.box)
        self.reset()

    def value(self) -> Any:
        return self.values[self.box.currentIndex()]

    def set_value(self, value: Any) -> None:
        if value in self.values:
            self.box.setCurrentIndex(self.values.index(value))


class NumberField(Field):
    """A number with its unit and bounds; where it may be left out, a check box says whether it is given."""

    def __init__(self, parameter: Parameter, parent: QWidget | None = None) -> None:
        super().__init__(parameter, parent)
        self.given = QCheckBox(self) if _optional(parameter) else None
        self.spin = _spin_box(parameter, whole=_is_whole(parameter.annotation), parent=self)
        self.spin.valueChanged.connect(lambda _: self.changed.emit())
        if self.given is not None:
            self.given.setToolTip("Give a value; otherwise it is chosen automatically")
            self.given.toggled.connect(self._toggle)
            self.line.addWidget(self.given)
        self.line.addWidget(self.spin, 1)
        self.reset()
        if self.given is not None:
            self._toggle(self.given.isChecked())

    def _toggle(self, given: bool) -> None:
        self.spin.setEnabled(given)
        self.changed.emit()

    def value(self) -> int | float | None:
        if self.given is not None and not self.given.isChecked():
            return None
        return self.spin.value()

    def set_value(self, value: Any) -> None:
        if self.given is not None:
            self.given.setChecked(value is not None)
        if isinstance(value, int | float):
            self.spin.setValue(value)


class TupleField(Field):
    """Two or three numbers, one an axis: shown x first, as people read them, given back in array order."""

    def __init__(self, parameter: Parameter, length: int, parent: QWidget | None = None) -> None:
        super().__init__(parameter, parent)
        self.given = QCheckBox(self) if _optional(parameter) else None
        if self.given is not None:
            self.given.setToolTip("Give values; otherwise they are chosen automatically")
            self.given.toggled.connect(self._toggle)
            self.line.addWidget(self.given)
        whole = all(argument is int for argument in get_args(_tuple_part(parameter.annotation)) if argument is not ...)
        self.entries = [_Entry(parameter, whole, self) for _ in range(length)]
        names = _SHEARS if parameter.name == "shear" else "xyz"
        for name, entry in zip(names, reversed(self.entries), strict=False):
            entry.textChanged.connect(lambda _: self.changed.emit())
            self.line.addWidget(QLabel(name, self))
            self.line.addWidget(entry, 1)
        if parameter.hints.get("unit"):
            self.line.addWidget(QLabel(str(parameter.hints["unit"]), self))
        self.reset()
        if self.given is not None:
            self._toggle(self.given.isChecked())

    def _toggle(self, given: bool) -> None:
        for entry in self.entries:
            entry.setEnabled(given)
        self.changed.emit()

    def value(self) -> tuple | None:
        if self.given is not None and not self.given.isChecked():
            return None
        return tuple(entry.value() for entry in self.entries)

    def set_value(self, value: Any) -> None:
        if self.given is not None:
            self.given.setChecked(value is not None)
        if value is None:
            return
        values = value if isinstance(value, Sequence) else [value] * len(self.entries)
        for entry, number in zip(self.entries, values, strict=True):
            entry.setText(f"{number:.10g}")


class TextField(Field):
    """A line of text: words for a string parameter, numbers and rows of numbers for every other."""

    def __init__(self, parameter: Parameter, parent: QWidget | None = None) -> None:
        super().__init__(parameter, parent)
        self.edit = QLineEdit(self)
        rows = "" if self._is_text else "numbers: 12, 30; -12, 5 (rows apart by ;)"
        self.edit.setPlaceholderText(parameter.hints.get("placeholder", rows))
        self.edit.textChanged.connect(lambda _: self.changed.emit())
        self.line.addWidget(self.edit)
        self.reset()

    @property
    def _is_text(self) -> bool:
        return str in (self.parameter.annotation, *get_args(self.parameter.annotation))

    def value(self) -> Any:
        text = self.edit.text().strip()
        if not text:
            if _optional(self.parameter) or not self.parameter.required:
                return None if _optional(self.parameter) else self.parameter.default
            raise InputError(f"{self.parameter.name} is empty: {self.parameter.brief or 'type a value'}")
        return text if self._is_text else parse_numbers(text, self.parameter.name)

    def set_value(self, value: Any) -> None:
        self.edit.setText(_written(value))

    def reset(self) -> None:
        self.edit.setText("" if self.parameter.required else _written(self.parameter.default))


class MatrixField(TextField):
    """A 4x4 matrix, typed in the order x, y, z as on the command line, given back in array order."""

    def __init__(self, parameter: Parameter, parent: QWidget | None = None) -> None:
        super().__init__(parameter, parent)
        self.edit.setPlaceholderText("x, y, z: 1,0,0,5; 0,1,0,0; 0,0,1,0; 0,0,0,1")

    def value(self) -> list[list[float]] | None:
        text = self.edit.text().strip()
        return parse_matrix(text, self.parameter.name) if text else super().value()

    def set_value(self, value: Any) -> None:
        self.edit.setText("" if value is None else _written(swapped_matrix(value).tolist()))


def field_for(parameter: Parameter, parent: QWidget | None = None) -> Field:
    """Make the field that fits a parameter.

    Examples
    --------
    >>> from napari_lightbox.catalogue import OPERATIONS  # doctest: +SKIP
    >>> field_for(OPERATIONS["median"].parameters[0]).value()  # doctest: +SKIP
    3
    """
    kinds = _kinds(parameter.annotation)
    if choices(parameter) is not None:
        field: Field = ChoiceField(parameter, parent)
    elif kinds == {bool}:
        field = BoolField(parameter, parent)
    elif length := _tuple_length(parameter.annotation):
        field = TupleField(parameter, length, parent)
    elif kinds and kinds & {int, float}:
        field = NumberField(parameter, parent)
    elif parameter.name == "matrix":
        field = MatrixField(parameter, parent)
    else:
        field = TextField(parameter, parent)
    text = readable(parameter.help)
    if isinstance(field, TupleField | MatrixField):
        text += " Typed here in the order x, y, z."
    if text:
        field.setToolTip(f"<qt>{text}</qt>")
    return field


def readable(text: str) -> str:
    """Take the marks of reStructuredText out of a docstring's paragraph."""
    text = re.sub(r"``([^`]*)``", r"\1", text)
    return re.sub(r":\w+:`([^`]*)`|`([^`]*)`", lambda m: m.group(1) or m.group(2), text).replace("<", "&lt;")


def label_for(parameter: Parameter) -> str:
    """Return the words that stand before a field."""
    return parameter.name.replace("_", " ").capitalize()


def parse_numbers(text: str, name: str) -> Any:
    """Read a number, a row of numbers or rows apart by semicolons; also as Python writes them.

    Examples
    --------
    >>> parse_numbers("12, 30; -12 5", "centers")
    [[12, 30], [-12, 5]]
    >>> parse_numbers("[1, 2.5]", "center")
    [1, 2.5]
    """
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = None
    if not _all_numbers(value) or ";" in text:
        try:
            rows = [[_number(part) for part in re.split(r"[,\s]+", row.strip()) if part] for row in text.split(";")]
            rows = [row for row in rows if row]
            if not rows:
                raise ValueError
        except ValueError:
            raise InputError(f"{name} {text!r} is not made of numbers: write them as 12, 30; -12, 5") from None
        value = rows if ";" in text else rows[0]
    return list(value) if isinstance(value, tuple) else value


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not math.isfinite(number):
            raise
        return number


def _all_numbers(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) > 0 and all(_all_numbers(v) for v in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
        return "; ".join(", ".join(map(str, row)) for row in value)
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _kinds(annotation: Any) -> set:
    """Return the plain types among the members of an annotation, without None."""
    members = get_args(annotation) if get_origin(annotation) not in (None, tuple, list) else (annotation,)
    return {m for m in members or (annotation,) if m in (bool, int, float, str)}


def _tuple_part(annotation: Any) -> Any:
    for part in (annotation, *get_args(annotation)):
        if get_origin(part) is tuple:
            return part
    return None


def _tuple_length(annotation: Any) -> int:
    """Return how many numbers a ``tuple[float, float, float]`` has; 0 for anything else."""
    members = get_args(_tuple_part(annotation))
    return len(members) if members and all(m in (int, float) for m in members) and len(members) <= 3 else 0


def _optional(parameter: Parameter) -> bool:
    return NoneType in get_args(parameter.annotation) or parameter.default is None


def _is_whole(annotation: Any) -> bool:
    kinds = _kinds(annotation)
    return int in kinds and float not in kinds


class _Entry(QLineEdit):
    """A number typed into a short line: three spin boxes side by side would have no room for their digits."""

    def __init__(self, parameter: Parameter, whole: bool, parent: QWidget) -> None:
        super().__init__(_first_shown(parameter), parent)
        self._parameter, self._whole = parameter, whole
        self.setMinimumWidth(48)

    def value(self) -> int | float:
        text, name = self.text().strip().replace(",", "."), self._parameter.name
        try:
            number = int(text) if self._whole else float(text)
        except ValueError:
            kind = "a whole number" if self._whole else "a number"
            raise InputError(f"{name} has {text!r} where {kind} is needed: type one, such as 2") from None
        low, high = self._parameter.hints.get("min", -math.inf), self._parameter.hints.get("max", math.inf)
        if not (math.isfinite(number) and low <= number <= high):
            raise InputError(f"{name} {text} is out of range: use {low:g} to {high:g}")
        return number


def _first_shown(parameter: Parameter) -> str:
    """Return what an optional number shows before it is given: lengths of voxels are never 0."""
    return str(parameter.hints.get("start", "1" if "spacing" in parameter.name else "0"))


class ShortDecimal(QDoubleSpinBox):
    """A spin box that writes 2.5 and not 2.500."""

    def textFromValue(self, value: float) -> str:  # noqa: N802 - Qt's name
        text = super().textFromValue(value)
        point = self.locale().decimalPoint()
        return text.rstrip("0").rstrip(point) if point in text else text


def _spin_box(parameter: Parameter, whole: bool, parent: QWidget) -> QSpinBox | QDoubleSpinBox:
    hints = parameter.hints
    low, high = float(hints.get("min", -_LARGE)), float(hints.get("max", _LARGE))
    if whole:
        spin: QSpinBox | QDoubleSpinBox = QSpinBox(parent)
        spin.setRange(int(low), int(high))
        spin.setSingleStep(int(hints.get("step", 1)))
    else:
        spin = ShortDecimal(parent)
        step = float(hints.get("step", 0.1 if abs(high) <= 10 else 1.0))
        spin.setDecimals(max(3, -math.floor(math.log10(step))) if step < 1 else 3)
        spin.setRange(low, high)
        spin.setSingleStep(step)
    spin.setValue(int(_first_shown(parameter)))
    if hints.get("unit"):
        spin.setSuffix(f" {hints['unit']}")
    spin.setKeyboardTracking(False)
    # The wheel scrolls the dock; it must not change a number that happens to lie under the mouse.
    spin.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    spin.wheelEvent = lambda event: event.ignore()
    return spin
