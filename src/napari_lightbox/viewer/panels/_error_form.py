"""The widgets of the Errors dock, and how they show a review."""

import math
from collections import Counter
from html import escape

from napari.layers import Labels
from qtpy.QtCore import QAbstractTableModel, QSignalBlocker, Qt
from qtpy.QtGui import QColor, QIcon, QKeySequence, QPixmap, QShortcut
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from ...ops._versus import OUTCOMES
from ..choosers import LayerChooser
from ..jobbar import JobBar
from ._dock_parts import scrolling
from ._error_ask import MODES, AskBox
from ._error_kinds import ALONE, COLOURS, STATES, VERSUS, counted, mends, mode_of, name_of, palette
from ._error_pair import MEND_INSTEAD, NOTHING_PAINTED
from ._error_rows import ErrorTable
from ._error_work import is_review
from ._label_rows import number
from .inference import Fold

# Rows of the score that are seen at once.
_SCORES = 4
# Pixels of a row of either table.
_ROW = 23
# Pixels that scroll at least above the buttons, where docks share the height of the window.
_LEAST = 160
_PAINTING = {
    "accept_button": "The prediction is right: paint it into the reference (Ctrl+Z undoes)",
    "fix_button": "The reference is right: paint it into the prediction (Ctrl+Z undoes)",
}


def build(panel) -> None:
    """Make the widgets of a dock; they become its attributes."""
    viewer = panel._viewer
    inside = QWidget(panel)
    column = QVBoxLayout(inside)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(4)
    scroll, outside = scrolling(panel, inside)
    scroll.setMinimumHeight(_LEAST)
    outside.setSpacing(4)
    choice = QWidget(panel)
    asked = QVBoxLayout(choice)
    asked.setContentsMargins(0, 0, 0, 0)
    panel.ask = AskBox(viewer, choice)
    for name in ("predicted_box", "reference_box", "second_box", "probability_box", "uncertainty_box"):
        setattr(panel, name, getattr(panel.ask, name))
    asked.addWidget(panel.ask)
    panel.find_button = QPushButton("Find errors", choice)
    panel.ask.mode_box.currentIndexChanged.connect(lambda _: _name_button(panel))
    _name_button(panel)
    asked.addWidget(panel.find_button)
    panel.choice_fold = Fold("Layers to compare", choice, panel)
    panel.choice_fold.button.setChecked(True)
    column.addWidget(panel.choice_fold)
    panel.bar = JobBar(viewer, panel)
    for widget in (panel.bar.progress, panel.bar.cancel_button):
        # Every line counts here: the table wants it while nothing runs.
        panel.bar.running_changed.connect(widget.setVisible)
        widget.hide()
    _review_row(panel, viewer, column)
    _score(panel, column)
    column.addLayout(_filters(panel))
    panel.table = ErrorTable()
    panel.table.setModel(panel.model)
    panel.table.setSortingEnabled(True)
    panel.table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
    panel.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    panel.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    panel.table.setTabKeyNavigation(False)
    panel.table.setWordWrap(False)
    panel.table.verticalHeader().setDefaultSectionSize(_ROW)
    panel.table.verticalHeader().hide()
    # Without it Qt asks every row for its height.
    panel.table.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
    panel.table.setMinimumHeight(150)
    column.addWidget(panel.table, 1)
    panel.about = _text(panel)
    column.addWidget(panel.about)
    panel.comment = QLineEdit(panel)
    panel.comment.setPlaceholderText("Comment on this error")
    panel.comment.setToolTip("Kept with the layer of errors and exported with it")
    outside.addWidget(panel.comment)
    for row in _buttons(panel):
        outside.addLayout(row)
    outside.addWidget(panel.bar)
    _shortcuts(panel)


def _name_button(panel) -> None:
    _, title, tip = MODES[panel.ask.mode]
    panel.find_button.setText(title)
    panel.find_button.setToolTip(f"<qt>{tip}; in the background</qt>")


def _review_row(panel, viewer, column: QVBoxLayout) -> None:
    panel.review_row = QWidget(panel)
    form = QFormLayout(panel.review_row)
    form.setContentsMargins(0, 0, 0, 0)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    panel.review_box = LayerChooser(viewer, ("labels",), accepts=is_review, parent=panel)
    panel.review_box.setToolTip("<qt>Layer of errors that is reviewed; each search makes one</qt>")
    form.addRow("Review", panel.review_box)
    column.addWidget(panel.review_row)


def _score(panel, column: QVBoxLayout) -> None:
    panel.score = _text(panel)
    panel.score.setToolTip(
        "<qt>Mean over the labels that prediction or reference has; all frames together. It follows painting.</qt>"
    )
    panel.scores = ScoreRows()
    panel.score_table = QTableView(panel)
    panel.score_table.setModel(panel.scores)
    panel.score_table.verticalHeader().setDefaultSectionSize(_ROW)
    panel.score_table.verticalHeader().hide()
    header = panel.score_table.horizontalHeader()
    header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    panel.score_table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
    panel.score_table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    panel.score_fold = Fold("Dice of each label", panel.score_table, panel)
    panel.score_fold.button.setChecked(True)
    panel.legend = _text(panel)
    panel.outline_box = QCheckBox("Prediction and reference as outlines", panel)
    panel.outline_box.setChecked(True)
    panel.outline_box.setToolTip("<qt>Draw their labels as lines in 2D, so that errors and image are seen</qt>")
    for widget in (panel.score, panel.score_fold, panel.outline_box, panel.legend):
        column.addWidget(widget)


def _filters(panel) -> QGridLayout:
    grid = QGridLayout()
    grid.setContentsMargins(0, 0, 0, 0)
    for place, (name, tip) in enumerate(
        (("kind_box", "Show errors of this kind only"), ("label_box", "Show errors of this label only"),
         ("state_box", "Show errors in this state only"), ("outcome_box", "Show errors that changed so only"))
    ):  # fmt: skip
        box = QComboBox(panel)
        box.setToolTip(tip)
        box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        box.setMinimumContentsLength(8)
        setattr(panel, name, box)
        grid.addWidget(box, *((place // 2, place % 2) if place < 3 else (2, 0)))
    panel.least_box = QDoubleSpinBox(panel)
    panel.least_box.setRange(0.0, 1e9)
    panel.least_box.setDecimals(1)
    panel.least_box.setSingleStep(10.0)
    panel.least_box.setSpecialValueText("any size")
    panel.least_box.setKeyboardTracking(False)
    panel.least_box.setToolTip("Show errors of at least this size only")
    grid.addWidget(panel.least_box, 1, 1)
    return grid


def _buttons(panel) -> list[QHBoxLayout]:
    rows = []
    for names in (
        (("previous_button", "\u25c0 Previous", "Fly to the error above in the table (Shift+N)"),
         ("next_button", "Next \u25b6", "Fly to the error below in the table (N)"),
         ("export_button", "Export\u2026", "Write all errors with states and comments to a CSV or JSON file")),
        (("accept_button", "Accept", _PAINTING["accept_button"]),
         ("fix_button", "Fix", _PAINTING["fix_button"]),
         ("dismiss_button", "Dismiss", "Does not matter: paint nothing, and take it off the picture"),
         ("reopen_button", "Reopen", "Take the decision back, and what it has painted")),
    ):  # fmt: skip
        row = QHBoxLayout()
        for name, text, tip in names:
            button = QPushButton(text, panel)
            button.setToolTip(f"<qt>{tip}</qt>")
            # As narrow as its text: four of them stand beside each other.
            button.setMinimumWidth(button.fontMetrics().horizontalAdvance(text) + 14)
            setattr(panel, name, button)
            row.addWidget(button)
        rows.append(row)
    return rows


def _shortcuts(panel) -> None:
    """Have the keys of the canvas work while the dock has them; what is typed into a field stays there."""
    for keys, do in (
        ("N", lambda: panel.step(1)),
        ("Shift+N", lambda: panel.step(-1)),
        (QKeySequence.StandardKey.Undo, lambda: _undo(panel._viewer)),
    ):
        shortcut = QShortcut(QKeySequence(keys), panel)
        shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        shortcut.activated.connect(do)


def _undo(viewer) -> None:
    layer = viewer.layers.selection.active
    if isinstance(layer, Labels):
        layer.undo()


def _text(panel) -> QLabel:
    label = QLabel("", panel)
    label.setWordWrap(True)
    # A long name must not widen the dock.
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label


# What they show -------------------------------------------------------------------------------------------------


def fill_filters(panel, review: dict) -> None:
    """Offer what a review has; {} offers nothing."""
    rows = review.get("rows", [])
    counts: dict[str, int] = {}
    labels = set()
    for row in rows:
        counts[row["kind"]] = counts.get(row["kind"], 0) + 1
        labels |= {row["predicted"], row["reference"]} - {0}
    outcomes = Counter(row.get("outcome") for row in rows)
    kinds = [(f"{kind} ({counts[kind]})", kind) for kind in COLOURS if kind in counts]
    names = [(name_of(value, review), value) for value in sorted(labels)]
    for box, first, entries in (
        (panel.kind_box, "all kinds", kinds),
        (panel.label_box, "all labels", names),
        (panel.state_box, "all states", [(state, state) for state in STATES]),
        (panel.outcome_box, "all changes", [(f"{one} ({outcomes[one]})", one) for one in OUTCOMES if one in outcomes]),
    ):
        with QSignalBlocker(box):
            box.clear()
            box.addItem(first, None)
            for text, value in entries:
                box.addItem(text, value)
    _show_colours(panel, review)
    with QSignalBlocker(panel.least_box):
        panel.least_box.setValue(0.0)
        panel.least_box.setSuffix(f" {panel.model.size_unit}")
    for widget in (panel.review_row, panel.outline_box, panel.legend):
        widget.setVisible(bool(review))
    for widget in (panel.score, panel.score_fold):
        widget.setVisible(bool(review) and mode_of(review) != ALONE)
    panel.outcome_box.setVisible(mode_of(review) == VERSUS)
    which = {ALONE: "Prediction", VERSUS: "Predictions and reference"}.get(mode_of(review), "Prediction and reference")
    panel.outline_box.setText(f"{which} as outlines")


def _show_colours(panel, review: dict) -> None:
    """Say what the colours stand for, beside the lists of what can be shown and in the legend."""
    key, colours, meanings = palette(review) if review else ("kind", {}, {})
    box = panel.outcome_box if key == "outcome" else panel.kind_box
    for place in range(1, box.count()):
        pixmap = QPixmap(10, 10)
        pixmap.fill(QColor(colours[box.itemData(place)]))
        box.setItemIcon(place, QIcon(pixmap))
    square = '<span style="color:{}">\u25a0</span>'
    panel.legend.setText(
        " ".join(
            f'<span style="white-space:nowrap">{square.format(colour)}&nbsp;{name.replace(" ", "&nbsp;")}</span>'
            for name, colour in colours.items()
        )
    )
    lines = [f"{square.format(colour)} {name}: {meanings[name]}" for name, colour in colours.items()]
    panel.legend.setToolTip("<qt>" + "<br>".join(lines) + "</qt>")


def show_score(panel, dice: dict[int, float], review: dict) -> None:
    """Show the score as it is, beside what it was when the errors were found."""
    if mode_of(review) == VERSUS:
        _show_versus(panel, review)
        return
    before = review.get("dice", {})
    mean, first = _mean(dice), _mean(before)
    text = f"<b>Mean Dice {number(mean, 4)}</b> of {len(dice)} label{'' if len(dice) == 1 else 's'}"
    if number(mean, 4) != number(first, 4):
        text += f" (when found {number(first, 4)})"
    if panel.pair is None:
        text += ", as it was when found"
    _fill_score(panel, review, text, dice, before, ("Label", "Dice", "When found"))


def _show_versus(panel, review: dict) -> None:
    """Show what the second prediction gains and loses against the first."""
    score = None if panel.pair is None else panel.pair.score
    first, second = (score.dice_first(), score.dice()) if score else (review["dice_first"], review["dice"])
    counts = (score.gained, score.lost) if score else (review["gained"], review["lost"])
    gained, lost = (_millilitres(count, review["voxel"]) for count in counts)
    means = [number(_mean({v: dice.get(v, 0.0) for v in {*first, *second}}), 4) for dice in (first, second)]
    text = f"<b>Gained {gained}, lost {lost}</b>; mean Dice {means[0]} \u2192 {means[1]}"
    text += f" ({escape(review['first'])} \u2192 {escape(review['prediction'])})"
    if score is None:
        text += ", as it was when found"
    elif counts != (review["gained"], review["lost"]):
        was = (_millilitres(review[key], review["voxel"]) for key in ("gained", "lost"))
        text += f"; when found, gained {next(was)} and lost {next(was)}"
    _fill_score(panel, review, text, second, first, ("Label", "Second", "First"))


def _millilitres(voxels: int, voxel: float | None) -> str:
    return f"{voxels} voxels" if voxel is None else f"{number(voxels * voxel / 1000, 2)} ml"


def _fill_score(panel, review: dict, text: str, now: dict, before: dict, titles: tuple[str, str, str]) -> None:
    panel.score.setText(text)
    panel.scores.show([(name_of(v, review), now.get(v), before.get(v)) for v in sorted({*now, *before})], titles)
    table = panel.score_table
    rows = min(_SCORES, max(1, panel.scores.rowCount()))
    table.setFixedHeight(table.horizontalHeader().sizeHint().height() + rows * table.rowHeight(0) + 4)


def _mean(dice: dict[int, float]) -> float:
    return sum(dice.values()) / len(dice) if dice else math.nan


def show_row(panel, row: dict | None) -> None:
    """Show the chosen error under the table, and what can be done with it."""
    model, pair = panel.model, panel.pair
    done = sum(row["state"] != STATES[0] for row in model.rows)
    if not model.rows:
        text = (
            f"{counted(0, model.review).capitalize()}."
            if model.review
            else "Choose what to compare, then press the button above."
        )
    else:
        text = f"{len(model.shown)} of {counted(len(model.rows), model.review)} shown, {done} reviewed."
        text += " Click one to fly there." if row is None else f"\n{model.whole(row)}"
        if mode_of(model.review) == VERSUS:
            text += "\nTwo predictions are compared: nothing is painted."
    panel.about.setText(text)
    if panel.comment.text() != (row["comment"] if row else ""):
        panel.comment.setText(row["comment"] if row else "")
    panel.comment.setEnabled(row is not None)
    is_open = row is not None and row["state"] == STATES[0]
    # To accept a doubt paints nothing; two predictions are compared, not mended.
    compared = mode_of(model.review) == VERSUS
    paints = is_open and pair is not None and not compared
    for name, tip in _PAINTING.items():
        tip = f"{NOTHING_PAINTED.capitalize()}: {MEND_INSTEAD}" if compared else tip
        getattr(panel, name).setToolTip(f"<qt>{tip}</qt>")
    panel.accept_button.setEnabled(paints or (is_open and mode_of(model.review) == ALONE))
    panel.fix_button.setEnabled(paints and mends(row))
    panel.dismiss_button.setEnabled(is_open)
    panel.reopen_button.setEnabled(row is not None and not is_open)
    for button in (panel.next_button, panel.previous_button):
        button.setEnabled(bool(model.shown))
    panel.export_button.setEnabled(panel.layer is not None)


class ScoreRows(QAbstractTableModel):
    """Dice of each label, now and when the errors were found."""

    def __init__(self) -> None:
        super().__init__()
        self._titles = ("Label", "Dice", "When found")
        self._rows: list[tuple[str, float | None, float | None]] = []

    def show(self, rows: list[tuple[str, float | None, float | None]], titles: tuple[str, str, str]) -> None:
        """Show these rows under these titles; where they are as many as before, in place."""
        if titles == self._titles and len(rows) == len(self._rows) and rows:
            self._rows = rows
            self.dataChanged.emit(self.index(0, 0), self.index(len(rows) - 1, 2))
            return
        self.beginResetModel()
        self._rows, self._titles = rows, titles
        self.endResetModel()

    def rowCount(self, parent=None) -> int:  # noqa: N802 - Qt's names
        """Number of labels."""
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def columnCount(self, parent=None) -> int:  # noqa: N802
        """Name and two numbers."""
        return 0 if parent is not None and parent.isValid() else 3

    def headerData(self, section, orientation, role=Qt.ItemDataRole.DisplayRole):  # noqa: N802
        """Titles of the columns."""
        wanted = orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole
        return self._titles[section] if wanted else None

    def data(self, index, role=Qt.ItemDataRole.DisplayRole):
        """Text of a cell; what has changed is bold in colour."""
        name, now, before = self._rows[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return name if index.column() == 0 else number((now, before)[index.column() - 1], 4)
        if role == Qt.ItemDataRole.ToolTipRole:
            return name
        if role == Qt.ItemDataRole.ForegroundRole and index.column() == 1 and now != before:
            return QColor("#56B4E9")
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column():
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None
