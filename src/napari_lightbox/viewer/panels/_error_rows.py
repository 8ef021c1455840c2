"""The table of errors: thousands of rows for Qt, sorted and filtered here, and written as CSV and JSON."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtGui import QColor

from ...ops._versus import OUTCOMES
from ._error_kinds import COLOURS, MEANINGS, OUTCOME_MEANINGS, STATES, VERSUS, colour_of, mode_of, palette, what
from ._folding_table import FoldingTable
from ._label_rows import number

KEYS = (
    "number", "outcome", "kind", "what", "size", "changed", "depth", "state", "probability", "uncertainty", "x", "y",
    "z", "frame", "comment",
)  # fmt: skip
_TITLES = {
    "number": "#", "outcome": "Change", "kind": "Kind", "what": "Label", "state": "State", "probability": "Prob.",
    "uncertainty": "Unc.", "frame": "Frame", "comment": "Comment",
}  # fmt: skip
_LEFT = ("outcome", "kind", "what", "state", "comment")
# Columns that give way where the dock is narrow, the first one first; the line under the table has them all.
_FOLDING = (
    "comment", "x", "y", "z", "uncertainty", "probability", "frame", "state", "depth", "size", "kind", "changed",
)  # fmt: skip
_CENTRE = ("x", "y", "z")
_MARK = {"open": "", "accepted": "\u2713 accepted", "fixed": "\u2713 fixed", "dismissed": "\u2013 dismissed"}


@dataclass(frozen=True)
class Filter:
    """Which rows are shown; None lets all through.

    Parameters
    ----------
    kind, state : str or None
        One of the kinds, one of `STATES`.
    label : int or None
        Predicted there, or in the reference.
    least : float
        Smallest size shown, mm3.
    outcome : str or None
        Of two predictions, what became of the error.
    """

    kind: str | None = None
    label: int | None = None
    state: str | None = None
    least: float = 0.0
    outcome: str | None = None

    def passes(self, row: dict) -> bool:
        """Whether a row is shown."""
        return (
            (self.kind is None or row["kind"] == self.kind)
            and (self.label is None or self.label in (row["predicted"], row["reference"]))
            and (self.state is None or row["state"] == self.state)
            and (self.outcome is None or row.get("outcome") == self.outcome)
            and row["size"] >= self.least
        )


class ErrorRows(QAbstractTableModel):
    """The rows of a review. `shown` holds their places in `rows` as sorted and filtered.

    A proxy model of Qt would ask back for every comparison: a second for some thousand rows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.review: dict = {}
        self.rows: list[dict] = []
        self.shown: list[int] = []
        self.filter = Filter()
        self._sorted = (KEYS.index("number"), Qt.SortOrder.AscendingOrder)

    def show(self, review: dict) -> None:
        """Show another review; {} shows none."""
        self.review, self.rows = review, review.get("rows", [])
        self.arrange()

    def arrange(self, which: Filter | None = None) -> None:
        """Filter and sort anew."""
        self.beginResetModel()
        self.filter = self.filter if which is None else which
        column, order = self._sorted
        key = self._order(KEYS[column])
        found = [i for i, row in enumerate(self.rows) if self.filter.passes(row)]
        self.shown = sorted(found, key=lambda i: key(self.rows[i]), reverse=order == Qt.SortOrder.DescendingOrder)
        self.endResetModel()

    def changed(self, place: int) -> None:
        """Draw a row again, by its place among those shown."""
        self.dataChanged.emit(self.index(place, 0), self.index(place, len(KEYS) - 1))

    def absent(self) -> set[str]:
        """Return the columns that this review has nothing to say in."""
        found = {"probability", "uncertainty"} - set(self.review.get("averages", ()))
        if mode_of(self.review) != VERSUS:
            found |= {"outcome", "changed"}
        if self.rows and all(math.isnan(row["depth"]) for row in self.rows):
            found.add("depth")
        return found if self.review.get("frames") else found | {"frame"}

    @property
    def size_unit(self) -> str:
        """Unit of sizes."""
        return "voxels" if self.review.get("unit") == "px" else "mm\u00b3"

    def _order(self, key: str) -> Callable[[dict], Any]:
        if key == "kind":
            kinds = list(COLOURS)
            return lambda row: kinds.index(row["kind"])
        if key == "outcome":
            return lambda row: OUTCOMES.index(row[key]) if key in row else 0
        if key == "state":
            return lambda row: STATES.index(row["state"])
        if key == "what":
            return lambda row: what(row, self.review).casefold()
        if key == "comment":
            return lambda row: row["comment"].casefold()
        # What is not a number comes as if it were less than any.
        return lambda row: -math.inf if row.get(key) is None or math.isnan(row[key]) else row[key]

    # Qt's names -------------------------------------------------------------------------------------------------

    def rowCount(self, parent=None) -> int:  # noqa: N802
        """Number of rows shown."""
        return 0 if parent is not None and parent.isValid() else len(self.shown)

    def columnCount(self, parent=None) -> int:  # noqa: N802
        """Number of columns."""
        return 0 if parent is not None and parent.isValid() else len(KEYS)

    def sort(self, column: int, order=Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column; equal rows keep the worst first."""
        self._sorted = (column, order)
        self.arrange()

    def headerData(self, section, orientation, role=Qt.ItemDataRole.DisplayRole):  # noqa: N802
        """Titles of the columns, with units."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        key, unit = KEYS[section], self.review.get("unit", "mm")
        if role == Qt.ItemDataRole.ToolTipRole:
            return _tip(key)
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        titles = {"size": f"Size {self.size_unit}", "changed": f"Changed {self.size_unit}", "depth": f"Depth {unit}"}
        titles |= {axis: f"{axis} mm" for axis in _CENTRE}
        return titles.get(key, _TITLES.get(key))

    def data(self, index: QModelIndex, role=Qt.ItemDataRole.DisplayRole):
        """Text and colours of a cell."""
        row, key = self.rows[self.shown[index.row()]], KEYS[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return self.text(row, key)
        if role == Qt.ItemDataRole.DecorationRole and key == palette(self.review)[0]:
            return QColor(colour_of(row, self.review))
        if role == Qt.ItemDataRole.ToolTipRole:
            return self.whole(row)
        if role == Qt.ItemDataRole.ForegroundRole and row["state"] != STATES[0]:
            return QColor("gray")
        if role == Qt.ItemDataRole.TextAlignmentRole and key not in _LEFT:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def text(self, row: dict, key: str) -> str:
        """Write a cell."""
        if key == "what":
            return what(row, self.review, "as")
        if key == "state":
            return _MARK[row["state"]] or "open"
        value = row.get(key)
        if key in ("size", "changed"):
            return "" if value is None else number(value, 0 if value >= 10 else 1)
        if key == "depth":
            return "\u221e" if math.isinf(value) else number(value, 1)
        if key in ("probability", "uncertainty"):
            return number(value, 2)
        if key in _CENTRE:
            return f"{value:z.1f}"
        return "" if value is None else str(value + 1 if key == "frame" else value)

    def whole(self, row: dict) -> str:
        """Write a row out, for a dock too narrow to show all columns."""
        unit = self.review["unit"]
        lines = [f"{row['number']}: {row['kind']}, {what(row, self.review)} ({row['state']})"]
        size = f"{self.text(row, 'size')} {self.size_unit} ({row['voxels']} voxels)"
        if math.isinf(row["depth"]):
            size += ", no right border to measure from"
        elif not math.isnan(row["depth"]):
            size += f", up to {row['depth']:.1f} {unit} deep"
        lines.append(size)
        if "outcome" in row:
            changed = f"{self.text(row, 'changed')} {self.size_unit} ({row['changed_voxels']} voxels) changed"
            lines.append(f"{row['outcome']}: {OUTCOME_MEANINGS[row['outcome']]}; {changed}")
        place = ", ".join(f"{name} {row[name]:z.1f}" for name in _CENTRE)
        frame = "" if row["frame"] is None else f", frame {row['frame'] + 1}"
        lines.append(f"centre {place} mm (LPS){frame}")
        means = [f"mean {name} {row[name]:.2f}" for name in self.review["averages"]]
        if means:
            lines.append(", ".join(means))
        if row["comment"]:
            lines.append(row["comment"])
        return "\n".join(lines)


def _tip(key: str) -> str:
    tips = {
        "number": "1 is the largest error; its value in the layer of errors",
        "outcome": "\n".join(f"{name}: {text}" for name, text in OUTCOME_MEANINGS.items()),
        "changed": "How much of it changed from the first prediction to the second",
        "kind": "\n".join(f"{kind}: {text}" for kind, text in MEANINGS.items()),
        "what": "The label that is wrong there; A as B: A in the reference, B predicted",
        "size": "Size of the error",
        "depth": "Largest distance of its voxels from the right border",
        "probability": "Mean of the chosen probability over the error",
        "uncertainty": "Mean of the chosen uncertainty over the error",
        "state": "What the review has decided",
        "frame": "Frame of the 4D volume, counted from 1",
        "comment": "What was typed under the table",
    }
    return tips.get(key, "Centre of the error in the patient: x to the left, y to the back, z to the head (LPS)")


class ErrorTable(FoldingTable):
    """Table of errors whose columns fit; those that a review lacks are gone altogether."""

    def __init__(self) -> None:
        super().__init__(KEYS.index("what"), ())

    def fold(self, *_) -> None:
        """Show the columns that there are and that fit; x, y and z go together."""
        model = self.model()
        if model is None:
            return
        absent = model.absent()
        for key in {*absent, "outcome", "changed", "kind"}:
            self.setColumnHidden(KEYS.index(key), key in absent)
        # The column that the colours stand for stays.
        stays = {*absent, palette(model.review)[0]}
        self._folding = tuple(KEYS.index(key) for key in _FOLDING if key not in stays)
        super().fold()
        if any(self.isColumnHidden(KEYS.index(key)) for key in _CENTRE):
            for key in _CENTRE:
                self.setColumnHidden(KEYS.index(key), True)
