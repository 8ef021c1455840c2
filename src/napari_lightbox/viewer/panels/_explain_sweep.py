"""The tab "Perturbations" of the Explain dock: sweep, curve, and the filters that mend it."""

import math
from functools import partial
from html import escape
from pathlib import Path

import numpy as np
from napari.layers import Layer
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ...catalogue import operation
from ...errors import InputError, LightboxError
from ...models import PERTURBATIONS, Mended
from ...models.perturbations import read_options
from ...report.colours import PALETTE, label_colour
from ...report.sweeps import export
from ...report.words import parameters
from ..adding import add_in_turn, place
from ..runner import main_window
from ..writers import file_name, may_replace
from ._dock_parts import text_label
from ._explain_plot import Curve, CurvePlot
from ._explain_work import Asked, Found, Shown, apply_filter, run_sweep, show_point, try_filters

_SUFFIXES = {"Table (*.csv)": ".csv", "JSON (*.json)": ".json", "Page with pictures (*.html)": ".html"}
_CURVES = 8
_ROW = 22


class SweepTab(QWidget):
    """Sweeps of the case that the dock is about.

    Parameters
    ----------
    dock : ExplainPanel
        Has ``case``, ``bar``, ``viewer`` and ``start``.
    """

    def __init__(self, dock) -> None:
        super().__init__()
        self.dock = dock
        self.found: Found | None = None
        self.mended: list[Mended] = []
        self.mended_at: float | None = None
        self._typed = False
        # Layers of the point that was clicked last, which the next one replaces.
        self._shown: list[Layer] = []
        self._lay_out()
        self._connect()
        self.refresh()
        self._show()

    def _lay_out(self) -> None:
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 6, 0, 0)
        box.addLayout(self._form())
        self.run_button = QPushButton("Run", self)
        self.run_button.setToolTip("Perturb the image step by step, and run the model on each, in the background")
        box.addWidget(self.run_button)
        self.plot = CurvePlot(self)
        self.plot.ink = QColor(get_theme(self.dock.viewer.theme).text.as_hex())
        box.addWidget(self.plot)
        self.legend, self.about = text_label(self), text_label(self)
        box.addWidget(self.legend)
        box.addWidget(self.about)
        row = QHBoxLayout()
        self.mend_button = QPushButton("What mends it?", self)
        self.mend_button.setToolTip(
            "<qt>Try filters on the image of the chosen point (the first that breaks the model, where none is) and "
            "rank them by the change in score</qt>"
        )
        self.score_box = QComboBox(self)
        self.score_box.addItem("Dice", "dice")
        self.score_box.addItem("Volume", "volume")
        self.score_box.setToolTip("What the curve shows")
        self.export_button = QPushButton("Export…", self)
        self.export_button.setToolTip("Write all figures as CSV or JSON, or a page with curve and pictures (HTML)")
        for widget, share in ((self.mend_button, 1), (self.score_box, 0), (self.export_button, 0)):
            row.addWidget(widget, share)
        box.addLayout(row)
        self._table(box)
        self.apply_button = QPushButton("Apply", self)
        self.apply_button.setToolTip("<qt>Add the image with the chosen filter applied, and its prediction</qt>")
        box.addWidget(self.apply_button)
        box.addStretch(1)

    def _form(self) -> QFormLayout:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.perturbation_box = QComboBox(self)
        for row in PERTURBATIONS.values():
            self.perturbation_box.addItem(row.title, row.name)
        self.perturbation_box.setToolTip("What is done to the image")
        form.addRow("Perturbation", self.perturbation_box)
        self.strengths = QLineEdit(self)
        self.strengths.setToolTip(
            "<qt>Strengths to try, apart by commas. Those shown suit the image; empty the line to get them back</qt>"
        )
        self.unit = QLabel("", self)
        line = QHBoxLayout()
        line.addWidget(self.strengths, 1)
        line.addWidget(self.unit)
        form.addRow("Strengths", line)
        self.repeats, self.seed = QSpinBox(self), QSpinBox(self)
        self.repeats.setRange(1, 50)
        self.repeats.setToolTip("Runs for each strength with other seeds; the band is from the worst to the best")
        self.seed.setRange(0, 2**31 - 1)
        self.seed.setToolTip("The same seed gives the same noise")
        form.addRow("Repeats", self.repeats)
        form.addRow("Seed", self.seed)
        self.options = QLineEdit(self)
        form.addRow("Options", self.options)
        return form

    def _table(self, box: QVBoxLayout) -> None:
        self.table = QTableWidget(0, 3, self)
        self.table.setHorizontalHeaderLabels(["Filter", "Score", "Change"])
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(_ROW)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setMinimumHeight(_ROW * 8 + 8)
        box.addWidget(self.table)

    def _connect(self) -> None:
        self.perturbation_box.currentIndexChanged.connect(self._on_perturbation)
        self.dock.case.changed.connect(self.refresh)
        self.strengths.textEdited.connect(self._on_typed)
        self.strengths.editingFinished.connect(self.refresh)
        self.run_button.clicked.connect(self.run)
        self.plot.chosen.connect(self.show_point)
        self.score_box.currentIndexChanged.connect(lambda _: self._show())
        self.mend_button.clicked.connect(self.mend)
        self.apply_button.clicked.connect(lambda: self.apply(self.table.currentRow()))
        self.table.itemDoubleClicked.connect(lambda item: self.apply(item.row()))
        self.table.itemSelectionChanged.connect(self._enable)
        self.export_button.clicked.connect(self._ask_export)
        self.dock.bar.running_changed.connect(lambda _: self._enable())

    # Choosing ---------------------------------------------------------------------------------------------------

    def _on_typed(self, text: str) -> None:
        self._typed = bool(text.strip())

    def _on_perturbation(self, _: int) -> None:
        self._typed = False
        self.options.clear()
        self.refresh()

    def refresh(self) -> None:
        """Suggest strengths that suit the image, unless some were typed."""
        row, image = PERTURBATIONS[self.perturbation_box.currentData()], self.dock.case.image
        names = [p.name for p in operation(row.operation).parameters if p.role == "value" and p.name != "seed"]
        self.options.setPlaceholderText("none: all as they are")
        self.options.setToolTip(
            f"<qt>Further parameters of {row.operation}, apart by commas, as in "
            f"{names[-1]}=...<br>There are: {', '.join(names)}</qt>"
        )
        self.unit.setText(row.unit if image is None else row.unit_of(image))
        self.repeats.setEnabled(row.seeded)
        self.seed.setEnabled(row.seeded)
        if not self._typed:
            # Voxels that are still to be computed are not looked at here: the sweep will do it.
            values = row.strengths(image) if image is not None and isinstance(image.data, np.ndarray) else ()
            self.strengths.setText(", ".join(f"{v:g}" for v in values))
            self.strengths.setCursorPosition(0)
        self._enable()

    def _asked(self) -> Asked:
        text, values = self.strengths.text(), None
        if text.strip():
            try:
                values = tuple(float(part) for part in text.replace(";", ",").split(",") if part.strip())
            except ValueError:
                raise InputError(f"strengths {text!r} must be numbers apart by commas, such as 10, 20, 40") from None
        name = self.perturbation_box.currentData()
        options = read_options([part for part in self.options.text().split(",") if part.strip()])
        return Asked(self.dock.case.take(), name, values, self.repeats.value(), self.seed.value(), options)

    def _enable(self) -> None:
        free = not self.dock.bar.running
        self.run_button.setEnabled(free)
        for widget in (self.mend_button, self.export_button, self.score_box):
            widget.setEnabled(free and self.found is not None)
        row = self.table.currentRow()
        self.apply_button.setEnabled(free and 0 <= row < len(self.mended) and bool(self.mended[row].steps))

    # Running ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Sweep, in the background."""
        try:
            asked = self._asked()
        except LightboxError as error:
            self.dock.bar.show_error(str(error))
            return
        title = f"{PERTURBATIONS[asked.perturbation].title} on {asked.case.volumes[0].name}"
        self.dock.start(partial(run_sweep, asked), title, self._found, self.run)

    def _found(self, found: Found) -> None:
        self.found, self.mended, self.mended_at = found, [], None
        self._shown = []
        self.plot.select(None)
        self.dock.findings.keep_sweep(found, (), None)
        self._show()
        notes = [n for n in found.sweep.notes if "resampled from" not in n]
        self.dock.bar.show_note("; ".join(notes[:3]))

    def _show(self) -> None:
        """Draw the curve and list the filters."""
        self._enable()
        self._list()
        if self.found is None:
            self.about.setText("")
            return
        sweep, score = self.found.sweep, self.score_box.currentData()
        curves = [Curve(name, colour, sweep.curve(score, label)) for name, colour, label in self._classes()]
        broken = sweep.breaking_point(score)
        up = "Dice" if score == "dice" else "Volume (ml)"
        across = f"{sweep.perturbation.title.lower()} ({sweep.unit})"
        self.plot.show_curves(curves, broken=broken, across=across, up=up)
        self.legend.setText(
            "&nbsp; ".join(f'<span style="color:{c.colour}">■</span>&nbsp;{escape(c.name)}' for c in curves)
        )
        share = f"{100 * sweep.share:g} %"
        bears = "stays above" if score == "dice" else "stays within"
        said = (
            f"<b>Breaks at {broken:.4g} {escape(sweep.unit)}</b>: {share} of the unperturbed score"
            if broken is not None
            else f"<b>Does not break</b>: {bears} {share} of the unperturbed score"
        )
        self.about.setText(f"{said}. {escape(sweep.meaning)}.")

    def _classes(self) -> list[tuple[str, str, int | None]]:
        """Return name, colour and label of the curves; the mean first."""
        sweep, ink = self.found.sweep, self.plot.ink.name()
        if len(sweep.classes) == 1:
            ((value, name),) = sweep.classes.items()
            return [(name, ink, value)]
        every = "mean" if self.score_box.currentData() == "dice" else "sum"
        card = self.dock.case.card
        shown = list(sweep.classes.items())[:_CURVES]
        coloured = [
            (name, label_colour(v, card.output.label(v)) if card else PALETTE[i % len(PALETTE)], v)
            for i, (v, name) in enumerate(shown)
        ]
        return [(every, ink, None), *coloured]

    def show_point(self, strength: float) -> None:
        """Add the image of a strength with its prediction as layers, in place of those shown before."""
        if self.found is not None:
            work = partial(show_point, self.found, strength)
            self.dock.start(
                work, f"Strength {strength:g}", partial(self._add, True), partial(self.show_point, strength)
            )

    def _add(self, replaces: bool, made: Shown) -> None:
        viewer = self.dock.viewer
        if replaces:
            for layer in [one for one in self._shown if one in viewer.layers]:
                viewer.layers.remove(layer)
            self._shown = list(made.layers)
        told = place(viewer, made.layers)
        add_in_turn(viewer, made.layers, lambda added: self.dock.say("; ".join([made.note, *told])))

    def mend(self) -> None:
        """Rank the filters on the image of the chosen point, in the background."""
        if self.found is None:
            return
        strength = self.found.sweep.first_broken if self.plot.selected is None else self.plot.selected
        title = f"Filters at strength {strength:g}"
        self.dock.start(partial(try_filters, self.found, strength), title, partial(self._mended, strength), self.mend)

    def _mended(self, strength: float, found: list[Mended]) -> None:
        self.mended, self.mended_at = found, strength
        self.dock.findings.keep_sweep(self.found, tuple(found), strength)
        self.plot.select(strength)
        self._list()
        # What shows as +0.000 mends nothing.
        best = found[0] if found and found[0].change >= 0.0005 else None
        said = f"{best.title} mends most: {best.change:+.3f}" if best else "none of the filters mends it"
        if self.found.sweep.breaking_point() is None:
            most = self.found.sweep.strengths[-1]
            said = f"{best.title} adds most: {best.change:+.3f}" if best else "none of the filters adds anything"
            self.dock.say(
                f"Nothing broke up to strength {most:g}, so there is nothing to mend; {len(found)} filters were tried "
                f"at strength {strength:g} (Dice {found[0].before:.3f}): {said}"
            )
            return
        self.dock.say(f"At strength {strength:g} (Dice {found[0].before:.3f}), {said}")

    def _list(self) -> None:
        self.table.setRowCount(len(self.mended))
        for row, one in enumerate(self.mended):
            tried = not math.isnan(one.score)
            texts = (one.title, f"{one.score:.3f}" if tried else "–", f"{one.change:+.3f}" if tried else "–")
            steps = [f"{s['operation']}: {parameters(s)}" for s in one.steps]
            for column, text in enumerate(texts):
                item = QTableWidgetItem(text)
                item.setToolTip("<qt>" + "<br>".join(escape(t) for t in (*steps, *one.notes)) + "</qt>")
                if column:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.table.setItem(row, column, item)
        if self.mended and not self.table.selectedItems():
            self.table.selectRow(0)
        self._enable()

    def apply(self, row: int) -> None:
        """Add the image with a filter of the table applied, and its prediction; they stay."""
        if self.found is None or not 0 <= row < len(self.mended) or not self.mended[row].steps:
            return
        work = partial(apply_filter, self.found, self.mended_at, self.mended[row])
        self.dock.start(work, self.mended[row].title, partial(self._add, False), partial(self.apply, row))

    # Export -----------------------------------------------------------------------------------------------------

    def export(self, path: Path) -> None:
        """Write what was found: as .csv, .json or .html, as the name ends."""
        if self.found is None:
            raise InputError("there is nothing to export: run a sweep first")
        export(Path(path), self.found.sweep, mended=self.mended, at=self.mended_at, pictures=self.found.pictures)

    def _ask_export(self) -> None:
        proposed = file_name(f"{self.found.sweep.image} {self.found.sweep.perturbation.name}", ".html")
        window = main_window(self.dock.viewer)
        name, chosen = QFileDialog.getSaveFileName(window, "Export the sweep", proposed, ";;".join(_SUFFIXES))
        if not name:
            return
        path = Path(name)
        try:
            if path.suffix.lower() not in _SUFFIXES.values():
                # The dialog has asked for the name as it was typed only.
                path = path.with_name(path.name + _SUFFIXES.get(chosen, ".html"))
                may_replace(None, [path], self.dock.viewer)
            self.export(path)
        except LightboxError as error:
            self.dock.bar.show_error(str(error))
        else:
            self.dock.say(f"Wrote {path}")
