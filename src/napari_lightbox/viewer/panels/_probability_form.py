"""How the Probability dock is laid out."""

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QSlider,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from ..choosers import LayerChooser
from ..layers import layer_record
from ._error_work import is_review
from ._probability_counts import STEPS
from ._probability_plot import UnitPlot

ANY, THIS_FRAME, ALL_FRAMES = "any label", "this frame", "all frames"
_WIDTH = 330
# Values that follow the slider: name in the dock, attribute of a row, tooltip.
VALUES = (
    ("Dice", "dice", "Overlap with the reference: twice what both have, over the sum of both"),
    ("Sensitivity", "sensitivity", "Share of the reference that is found (recall)"),
    ("Precision", "precision", "Share of what is found that is in the reference"),
    ("Volume", "volume_ml", "Of all voxels at or above the threshold; of several frames the mean"),
)


def rank(layer) -> int:
    """Return how well a layer goes as a probability: 0 of a class, 1 of what is not said, 2 an uncertainty, 3 none."""
    record = layer_record(layer)
    if record is None or record["kind"] != "probability":
        return 3
    return 0 if record["labels"] else 2 if is_uncertainty(layer) else 1


def is_uncertainty(layer) -> bool:
    """Whether a layer says how undecided a model was, and not how likely a class is."""
    record = None if layer is None else layer_record(layer)
    if record is None or record["kind"] != "probability" or record["labels"]:
        return False
    last = record["history"][-1] if record["history"] else {}
    return dict(last.get("parameters") or {}).get("result") == "uncertainty" or "uncertainty" in layer.name


def lay_out(panel) -> None:
    """Make the widgets of the dock and put them in place."""
    inside = QWidget(panel)
    box = QVBoxLayout(inside)
    box.setContentsMargins(0, 0, 6, 0)
    box.addLayout(_choosers(panel))
    panel.histogram = UnitPlot("probability", "voxels", logarithmic=True)
    panel.histogram.empty = "Choose the layer of a probability"
    box.addWidget(panel.histogram)
    box.addLayout(_slider(panel))
    box.addLayout(_values(panel))
    box.addLayout(_buttons(panel))
    panel.tabs = QTabWidget(panel)
    panel.tabs.setDocumentMode(True)
    panel.roc = UnitPlot("false positive rate", "sensitivity", diagonal=True)
    panel.recall = UnitPlot("sensitivity (recall)", "precision")
    panel.reliability = UnitPlot("mean probability", "share in the reference", diagonal=True)
    for plot, title in ((panel.roc, "ROC"), (panel.recall, "Precision-recall"), (panel.reliability, "Reliability")):
        panel.tabs.addTab(plot, title)
    box.addWidget(panel.tabs)
    panel.figures = _text(panel)
    box.addWidget(panel.figures)
    box.addStretch(1)
    scroll = QScrollArea(panel)
    scroll.setWidgetResizable(True)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    scroll.setFrameShape(QScrollArea.Shape.NoFrame)
    scroll.setWidget(inside)
    outside = QVBoxLayout(panel)
    outside.setContentsMargins(6, 6, 6, 6)
    outside.addWidget(scroll, 1)
    outside.addWidget(panel.bar)
    panel.setMinimumWidth(_WIDTH)


def _choosers(panel) -> QFormLayout:
    form = panel.form = QFormLayout()
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    panel.probability_box = LayerChooser(
        panel.viewer, ("image",), rank=rank, gives_way=lambda layer: rank(layer) > 1, parent=panel
    )
    panel.probability_box.setToolTip("<qt>Image layer with values from 0 to 1: the probability of one class</qt>")
    panel.reference_box = LayerChooser(
        panel.viewer, ("labels",), optional=True, accepts=lambda layer: not is_review(layer), parent=panel
    )
    panel.reference_box.setToolTip(
        "<qt>Labels that are taken to be right. Without them there are only volume and histogram</qt>"
    )
    panel.class_box = QComboBox(panel)
    panel.class_box.setEditable(True)
    panel.class_box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
    panel.class_box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    panel.class_box.setToolTip("<qt>Label of the reference that the probability is about; several as 10-14, 20</qt>")
    panel.class_box.addItem(ANY, None)
    panel.frame_box = QComboBox(panel)
    panel.frame_box.addItems([THIS_FRAME, ALL_FRAMES])
    panel.frame_box.setToolTip("<qt>What numbers and curves are of; the mask is drawn in all frames</qt>")
    for title, widget in (
        ("Probability", panel.probability_box),
        ("Reference", panel.reference_box),
        ("Class", panel.class_box),
        ("Frames", panel.frame_box),
    ):
        form.addRow(title, widget)
    return form


def _slider(panel) -> QHBoxLayout:
    row = QHBoxLayout()
    panel.slider = QSlider(Qt.Orientation.Horizontal, panel)
    panel.slider.setRange(0, STEPS)
    panel.slider.setPageStep(STEPS // 20)
    panel.spin = QDoubleSpinBox(panel)
    panel.spin.setDecimals(3)
    panel.spin.setRange(0.0, 1.0)
    panel.spin.setSingleStep(0.01)
    tip = (
        f"<qt>Voxels with at least this probability are marked. There are {STEPS + 1} thresholds, {1 / STEPS:g} apart, "
        "and the numbers below are exact at each of them</qt>"
    )
    panel.slider.setToolTip(tip)
    panel.spin.setToolTip(tip)
    row.addWidget(panel.slider, 1)
    row.addWidget(panel.spin)
    return row


def _values(panel) -> QGridLayout:
    grid = QGridLayout()
    grid.setHorizontalSpacing(10)
    panel.values = {}
    for number, (title, name, tip) in enumerate(VALUES):
        label, value = QLabel(title, panel), QLabel("", panel)
        for widget in (label, value):
            widget.setToolTip(f"<qt>{tip}</qt>")
        value.setStyleSheet("font-weight: bold")
        value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        grid.addWidget(label, number // 2, 2 * (number % 2))
        grid.addWidget(value, number // 2, 2 * (number % 2) + 1)
        panel.values[name] = value
    grid.setColumnStretch(1, 1)
    grid.setColumnStretch(3, 1)
    panel.reference_volume = _text(panel)
    grid.addWidget(panel.reference_volume, 2, 0, 1, 4)
    return grid


def _buttons(panel) -> QGridLayout:
    grid = QGridLayout()
    panel.best_button, panel.half_button = QPushButton("Best Dice", panel), QPushButton("0.5", panel)
    panel.keep_button, panel.export_button = QPushButton("Keep as labels", panel), QPushButton("Export\u2026", panel)
    panel.best_button.setToolTip("<qt>Go to the threshold with the largest Dice</qt>")
    panel.half_button.setToolTip("<qt>Go to 0.5, where one class against the rest is undecided</qt>")
    panel.keep_button.setToolTip(
        "<qt>Make a Labels layer of what is marked now, with the step in its history; the marking itself is temporary, "
        "and neither saved nor taken by other docks</qt>"
    )
    panel.export_button.setToolTip("<qt>Write the curves as .csv, or with all figures as .json</qt>")
    buttons = (panel.best_button, panel.half_button, panel.keep_button, panel.export_button)
    for number, button in enumerate(buttons):
        grid.addWidget(button, number // 2, number % 2)
    return grid


def _text(panel) -> QLabel:
    label = QLabel("", panel)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label
