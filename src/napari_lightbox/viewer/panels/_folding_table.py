"""A table that gives up columns rather than scroll sideways, and shows a name as long as there is room for it."""

from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHeaderView, QTableView

# Pixels that the stretched column has before others give way, and that a title needs beside its text.
_NAME = 96
_MARGIN = 22


class FoldingTable(QTableView):
    """Table view whose columns always fit.

    Parameters
    ----------
    stretched : int
        The column that takes what the others leave.
    folding : sequence of int
        Columns that are hidden where there is no room, the first one first.
    """

    def __init__(self, stretched: int, folding: Sequence[int]) -> None:
        super().__init__()
        self._stretched, self._folding = stretched, tuple(folding)
        header = self.horizontalHeader()
        header.setMinimumSectionSize(20)
        header.setResizeContentsPrecision(50)

    def setModel(self, model) -> None:  # noqa: N802 - Qt's name
        """Show a model and follow its changes."""
        super().setModel(model)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header.setSectionResizeMode(self._stretched, QHeaderView.ResizeMode.Stretch)
        for signal in (model.modelReset, model.layoutChanged, model.dataChanged):
            signal.connect(self.fold)
        self.fold()

    def resizeEvent(self, event) -> None:  # noqa: N802
        """Show as many columns as fit."""
        super().resizeEvent(event)
        self.fold()

    def fold(self, *_) -> None:
        """Give every column the width of its contents, and hide those that leave the name no room."""
        if self.model() is None:
            return
        count = self.model().columnCount()
        wanted = {
            column: max(self.sizeHintForColumn(column), self._title_width(column))
            for column in range(count)
            if column != self._stretched and (column in self._folding or not self.isColumnHidden(column))
        }
        hidden: set[int] = set()
        for column in self._folding:
            if self.viewport().width() - sum(w for c, w in wanted.items() if c not in hidden) >= _NAME:
                break
            hidden.add(column)
        for column in self._folding:
            self.setColumnHidden(column, column in hidden)
        for column, width in wanted.items():
            if column not in hidden and self.columnWidth(column) != width:
                self.setColumnWidth(column, width)

    def _title_width(self, column: int) -> int:
        # Qt gives no size for the title of a hidden column.
        title = str(self.model().headerData(column, Qt.Orientation.Horizontal) or "")
        return self.horizontalHeader().fontMetrics().horizontalAdvance(title) + _MARGIN if title else _MARGIN
