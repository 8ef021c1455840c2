"""The dock "Cohort": the cases that were evaluated, worst first; a double click opens one and lists its errors."""

from functools import partial
from pathlib import Path

import napari
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDockWidget,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from ..edits import note_edits
from ..jobbar import JobBar, stop_when_closed
from ..layers import layer_record, plain
from ..readers import open_volumes
from ..runner import main_window
from ._cohort_rows import THUMB, CohortCase, CohortRows, evaluate_folders, open_case, read_cohort
from ._error_ask import REFERENCE
from ._error_work import REVIEW, is_review
from ._folding_table import FoldingTable
from .errors import TITLE, ErrorsPanel


class CohortPanel(QWidget):
    """Dock that lists the cases of a cohort, one row a case with a picture of its worst error.

    Parameters
    ----------
    viewer : napari.Viewer
        Where cases are opened.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = plain(viewer)
        note_edits(self._viewer)
        self.model = CohortRows()
        self._opened: list = []
        self.bar = JobBar(viewer, self)
        self.open_button = QPushButton("Open evaluation.json\u2026", self)
        self.open_button.setToolTip("<qt>The file that lightbox evaluate --cohort has written</qt>")
        self.folders_button = QPushButton("Two folders\u2026", self)
        self.folders_button.setToolTip(
            "<qt>Evaluate the predictions of one folder against the references of the same names in another, here and "
            "now; a third folder may hold images</qt>"
        )
        self.case_button = QPushButton("Open the case", self)
        self.case_button.setToolTip("<qt>Open image, prediction and reference, and list the errors</qt>")
        self.about = QLabel("", self)
        self.about.setWordWrap(True)
        self.about.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.table = self._make_table()
        buttons = QHBoxLayout()
        buttons.addWidget(self.open_button)
        buttons.addWidget(self.folders_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 6, 6, 6)
        column.addLayout(buttons)
        column.addWidget(self.about)
        column.addWidget(self.table, 1)
        column.addWidget(self.case_button)
        column.addWidget(self.bar)
        self.setMinimumWidth(330)
        self.open_button.clicked.connect(self._ask)
        self.folders_button.clicked.connect(self._ask_folders)
        self.case_button.clicked.connect(lambda: self.open_row(self.table.currentIndex().row()))
        self.table.doubleClicked.connect(lambda index: self.open_row(index.row()))
        self.table.activated.connect(lambda index: self.open_row(index.row()))
        self.bar.running_changed.connect(self._on_running)
        self._on_running(False)
        self.destroyed.connect(self.bar.runner.discard)
        stop_when_closed(self, self.bar)
        self._show()

    def _make_table(self) -> FoldingTable:
        table = FoldingTable(1, (4,))
        table.setModel(self.model)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setWordWrap(False)
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(THUMB + 6)
        table.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        table.horizontalHeader().setSortIndicator(2, Qt.SortOrder.AscendingOrder)
        table.setSortingEnabled(True)
        return table

    def _on_running(self, running: bool) -> None:
        self.open_button.setEnabled(not running)
        self.folders_button.setEnabled(not running)
        for widget in (self.bar.progress, self.bar.cancel_button):
            # The table wants the line while nothing runs.
            widget.setVisible(running)
        self.case_button.setEnabled(not running and bool(self.model.cases))

    def _show(self, title: str = "") -> None:
        count = len(self.model.cases)
        hint = "Open what lightbox evaluate --cohort has written, evaluation.json, or evaluate two folders here."
        text = f"{count} case{'' if count == 1 else 's'} of {title}, worst first. Double click opens one."
        self.about.setText(text if count else hint)
        self.case_button.setEnabled(bool(count))
        if count:
            self.table.selectRow(0)

    # Opening ------------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        name, _ = QFileDialog.getOpenFileName(
            main_window(self._viewer), "Evaluation of a cohort", "", "Evaluation (*.json)"
        )
        if name:
            self.load(name)

    def _ask_folders(self) -> None:
        folders = []
        for title in ("Folder of predictions", "Folder of references", "Folder of images (cancel for none)"):
            name = QFileDialog.getExistingDirectory(main_window(self._viewer), title)
            if not name and len(folders) < 2:
                return
            folders.append(name or None)
        self.evaluate(*folders)

    def evaluate(self, predicted: str, reference: str, images: str | None = None) -> None:
        """Evaluate the cases of two folders in the background and show them.

        Parameters
        ----------
        predicted, reference : str
            Folders of labels; files of one name belong together.
        images : str, optional
            Folder of grey values.
        """
        work = partial(evaluate_folders, predicted, reference, images)
        self.bar.run(work, title="Evaluating", on_done=partial(self._evaluated, Path(predicted)))

    def _evaluated(self, folder: Path, result: tuple[list[CohortCase], list[str]]) -> None:
        cases, failed = result
        self._loaded(folder / "all", cases)
        if failed:
            self.bar.show_error(f"not evaluated: {'; '.join(failed[:3])}{' ...' if len(failed) > 3 else ''}")

    def load(self, path: str | Path) -> None:
        """Show the cases of an evaluation.

        Parameters
        ----------
        path : path-like
            ``evaluation.json``; what is wrong with it is said below the table.
        """
        path = Path(path)
        self.bar.run(partial(read_cohort, path), title=f"Reading {path.name}", on_done=partial(self._loaded, path))

    def _loaded(self, path: Path, cases: list[CohortCase]) -> None:
        self.model.show(cases)
        self.table.sortByColumn(2, Qt.SortOrder.AscendingOrder)
        self._show(path.parent.name or str(path))

    def open_row(self, row: int) -> None:
        """Open the case of a row, counted from 0 as sorted, and find its errors."""
        if not 0 <= row < self.model.rowCount() or self.bar.running:
            return
        case = self.model.case(row)
        done = partial(self._opened_case, case)
        open_volumes(self._viewer, partial(open_case, case), case.name, start=self.bar.run, on_done=done)

    def _opened_case(self, case: CohortCase, layers: list) -> None:
        before, self._opened = self._opened, list(layers)
        kept = self._put_away(before)
        errors = self._errors_dock()
        reference, predicted = layers[-1], layers[-2]
        errors.ask.choose(REFERENCE)
        errors.second_box.setCurrentIndex(0)
        errors.predicted_box.choose(predicted)
        errors.reference_box.choose(reference)
        errors.find()
        note = f"; {kept} was changed and stays, hidden" if kept else ""
        self.bar.show_note(f"{case.name} is open{note}")

    def _put_away(self, layers: list) -> str:
        """Remove the layers of the case before; hide those that hold work, and return what they are called."""
        ids = {str(one.unique_id) for one in layers}
        layers = [one for one in layers if one in self._viewer.layers]
        layers += [one for one in self._viewer.layers if is_review(one) and ids & {*one.metadata[REVIEW]["ids"]}]
        changed = [one for one in layers if _holds_work(one)]
        # A review goes on only beside what it was made from.
        keep = layers if changed else []
        for layer in layers:
            layer.visible = False
            if layer not in keep:
                self._viewer.layers.remove(layer)
        return ", ".join(one.name for one in changed)

    def _errors_dock(self) -> ErrorsPanel:
        """Return the dock of errors, opened where it is not."""
        window = main_window(self._viewer)
        found = [] if window is None else window.findChildren(ErrorsPanel)
        panel = found[0] if found else ErrorsPanel(self._viewer)
        if not found:
            # Behind one another: both lists want the whole height.
            self._viewer.window.add_dock_widget(panel, name=TITLE, area="right", tabify=True)
        dock = panel.parentWidget()
        while dock is not None and not isinstance(dock, QDockWidget):
            dock = dock.parentWidget()
        if dock is not None:
            dock.show()
            dock.raise_()
        return panel


def _holds_work(layer) -> bool:
    """Whether something was painted into a layer, or decided in a review."""
    if is_review(layer):
        return any(row["state"] != "open" or row["comment"] for row in layer.metadata[REVIEW]["rows"])
    record = layer_record(layer)
    return record is not None and bool(record.get("edited"))
