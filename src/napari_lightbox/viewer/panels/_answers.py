"""The table of what a model says that is no voxels: answers for the whole image, and the boxes that it found."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Layer
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from ...errors import LightboxError
from ...models.answers import Boxes, Table
from ...volume import Volume
from ..boxes import shown_box
from ..runner import notify_error
from ._error_flight import fly
from ._folding_table import FoldingTable
from ._label_rows import number

_TITLES = {"probability": "p", "x_mm": "x", "y_mm": "y", "z_mm": "z"}
# What is seen of boxes; the file has every column.
_BOX_COLUMNS = ("name", "score", "frame", "x_mm", "y_mm", "z_mm")
_SHORTEST, _TALLEST = 3, 8


class Rows(QAbstractTableModel):
    """The rows of a table, for Qt."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.rows: Sequence[Mapping[str, Any]] = table.rows
        self.columns = (
            _BOX_COLUMNS if isinstance(table, Boxes) else ("name", *(c for c in table.columns if c != "name"))
        )
        frames = len({row["frame"] for row in table.rows}) > 1
        self.columns = tuple(c for c in self.columns if c != "frame" or frames)
        if "unit" in self.columns and not any(row["unit"] for row in table.rows):
            self.columns = tuple(c for c in self.columns if c != "unit")

    def rowCount(self, parent=None) -> int:  # noqa: N802 - Qt's name
        """Number of rows."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent=None) -> int:  # noqa: N802
        """Number of columns."""
        return 0 if parent is not None and parent.isValid() else len(self.columns)

    def headerData(self, section, orientation, role=Qt.ItemDataRole.DisplayRole):  # noqa: N802
        """Return the title of a column."""
        if role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal:
            return _TITLES.get(self.columns[section], self.columns[section])
        if role == Qt.ItemDataRole.ToolTipRole and orientation == Qt.Orientation.Horizontal:
            name = self.columns[section]
            return f"Centre along {name[0]}, mm (LPS)" if name.endswith("_mm") else name.capitalize()
        return None

    def data(self, index: QModelIndex, role=Qt.ItemDataRole.DisplayRole):
        """Return what a cell shows."""
        if not index.isValid():
            return None
        column = self.columns[index.column()]
        value = self.rows[index.row()][column]
        if role == Qt.ItemDataRole.DisplayRole:
            return _written(column, value)
        if role == Qt.ItemDataRole.ToolTipRole:
            return ", ".join(f"{k} {v}" for k, v in self.rows[index.row()].items())
        if role == Qt.ItemDataRole.TextAlignmentRole and isinstance(value, int | float):
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None


def _written(column: str, value: Any) -> str:
    """Write a value for people; the tooltip and the file have all digits."""
    if column in ("probability", "score"):
        return f"{value:.3f}" if value >= 0.0005 or not value else "< 0.001"
    return number(value, 1 if column.endswith("_mm") else 3) if isinstance(value, float) else str(value)


class AnswersView(QWidget):
    """Shows tables that models gave, one at a time, and lets them be copied and written to a file.

    A click on a box goes there. It is hidden until there is a table.

    Parameters
    ----------
    viewer : napari.Viewer
        Where boxes are shown.
    parent : QWidget, optional
        The dock.
    """

    def __init__(self, viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.tables: list[tuple[Table, Volume, Layer | None]] = []
        self.chooser = QComboBox(self)
        self.chooser.setToolTip("Tables of this session, the newest first")
        self.chooser.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.view = FoldingTable(0, ())
        self.view.verticalHeader().hide()
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.clicked.connect(self._on_click)
        self.empty = QLabel("", self)
        self.copy_button, self.export_button = QPushButton("Copy", self), QPushButton("Export\u2026", self)
        self.copy_button.setToolTip("Copy the table as text that spreadsheets take")
        self.export_button.setToolTip("Write the table as .csv, or with how it was made as .json")
        self.copy_button.clicked.connect(self.copy)
        self.export_button.clicked.connect(self._ask_export)
        row = QHBoxLayout()
        row.addWidget(self.empty, 1)
        row.addWidget(self.copy_button)
        row.addWidget(self.export_button)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 4, 0, 0)
        box.addWidget(self.chooser)
        box.addWidget(self.view)
        box.addLayout(row)
        self.chooser.currentIndexChanged.connect(self._show)
        self.hide()

    def add(self, table: Table, image: Volume, layer: Layer | None = None) -> None:
        """Show a new table about an image, which `layer` shows; those before stay to be chosen."""
        self.tables.insert(0, (table, image, layer))
        self.chooser.blockSignals(True)
        self.chooser.insertItem(0, f"{table.card.name} on {table.image}")
        self.chooser.setCurrentIndex(0)
        self.chooser.blockSignals(False)
        self.show()
        self._show(0)

    @property
    def table(self) -> Table | None:
        """The table that is shown."""
        index = self.chooser.currentIndex()
        return self.tables[index][0] if 0 <= index < len(self.tables) else None

    def _show(self, index: int) -> None:
        table = self.table
        if table is None:
            return
        self.view.setModel(Rows(table))
        count = len(table.rows)
        what = "box" if isinstance(table, Boxes) else "row"
        plural = {"box": "boxes", "row": "rows"}[what]
        self.empty.setText(f"1 {what}" if count == 1 else f"{count or 'No'} {plural}")
        line = self.view.verticalHeader().defaultSectionSize()
        lines = min(max(count, _SHORTEST), _TALLEST)
        self.view.setFixedHeight(self.view.horizontalHeader().sizeHint().height() + lines * line + 4)

    def _on_click(self, index: QModelIndex) -> None:
        table, image, layer = self.tables[self.chooser.currentIndex()]
        if isinstance(table, Boxes) and layer is not None and layer in self._viewer.layers:
            row = table.rows[index.row()]
            low, high = shown_box(row, image)
            lead = [] if image.grid.frames is None else [row["frame"]]
            last = np.array([image.grid.spatial_shape[a] for a in image.grid.order_for("LPS")[0]]) - 1
            ends = [np.clip(np.round(end), 0, last) for end in ((low + high) / 2, low, high)]
            fly(self._viewer, layer, *([*lead, *map(int, end)] for end in ends))

    def copy(self) -> None:
        """Copy the table, tab-separated with titles."""
        table = self.table
        if table is not None:
            lines = [table.columns, *([row[c] for c in table.columns] for row in table.rows)]
            QApplication.clipboard().setText("\n".join("\t".join(map(str, line)) for line in lines))

    def _ask_export(self) -> None:
        name = f"{self.table.image}_{self.table.card.name}.csv".replace("/", "-").replace(" ", "-")
        path, _ = QFileDialog.getSaveFileName(self, "Write the table", name, "Table (*.csv);;With its record (*.json)")
        if path:
            self.export(path)

    def export(self, path: str | Path) -> None:
        """Write the table; a name without a suffix becomes .csv."""
        path = Path(path)
        try:
            self.table.write(path if path.suffix else path.with_suffix(".csv"))
        except LightboxError as error:
            notify_error(str(error))
