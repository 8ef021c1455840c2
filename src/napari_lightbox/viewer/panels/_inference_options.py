"""How a model is run: the choices that are folded away until they are asked for."""

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QMenu,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QWidget,
)

from ...models.card import Card
from ...models.doubt import MEASURES
from ..fields import ShortDecimal

DEVICES = {"Automatic": "auto", "CPU": "cpu", "CUDA GPU": "cuda"}
PRECISIONS = {"Exact": "exact", "Fast, where it is": "fast"}
_GIGA = 1e9
# Pixels of a field.
_LEAST = 100


class RunOptions(QWidget):
    """Device, precision, windows, what is averaged, how doubt is measured, and memory.

    Parameters
    ----------
    models : QComboBox
        The list of models, whose data are their sources: others of them may answer together with the one chosen.
    parent : QWidget, optional

    Notes
    -----
    `changed` is said of whatever makes a difference to the result or its cost.
    """

    changed = Signal()

    def __init__(self, models: QComboBox, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._models = models
        # Sources of models that answer together with the one chosen.
        self.others: tuple[str, ...] = ()
        # The overlap of the card as the spin box shows it, which may have fewer digits; and whether it mirrors.
        self._card_overlap: float | None = None
        self._card_mirrors = False
        self._make()
        form = QFormLayout(self)
        form.setContentsMargins(12, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for title, widget in (
            ("Device", self.device),
            ("Precision", self.precision),
            ("Overlap", self.overlap),
            ("Blending", self.blending),
            ("Mirrored too", self.mirror),
            ("Together with", self.together),
            ("Dropout samples", self.samples),
            ("Uncertainty as", self.measure),
            ("Memory", self.memory),
        ):
            # Less than they ask for: the dock is narrow.
            widget.setMinimumWidth(_LEAST)
            form.addRow(title, widget)
        self.together.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._connect()

    def _make(self) -> None:
        self.device, self.precision, self.blending, self.measure = (QComboBox(self) for _ in range(4))
        for box in (self.device, self.precision, self.blending, self.measure):
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(10)
        self.device.addItems(list(DEVICES))
        self.device.setToolTip("Automatic: the GPU where there is one")
        self.precision.addItems(list(PRECISIONS))
        self.precision.setToolTip(
            "<qt>Fast: numbers of 16 bits where a trial on the first window shows that to be quicker; a few labels at "
            "borders change</qt>"
        )
        self.blending.addItems(["gaussian", "constant"])
        self.blending.setToolTip("How the results of overlapping windows are weighed")
        for name in MEASURES:
            self.measure.addItem(name.replace("_", " "), name)
        self.measure.setToolTip(
            "<qt>All but the entropy compare several passes: models, folds, dropout samples or mirrored ways</qt>"
        )
        self.overlap = QDoubleSpinBox(self)
        self.overlap.setDecimals(4)
        self.overlap.setRange(0.0, 0.99)
        self.overlap.setSingleStep(0.05)
        self.overlap.setToolTip(
            "<qt>Share of a window that its neighbours have in common: more is smoother and slower</qt>"
        )
        self.mirror = QCheckBox(self)
        self.mirror.setToolTip(
            "<qt>Average over the image flipped along all axes: steadier, and 4 or 8 times slower</qt>"
        )
        self.together = QToolButton(self)
        self.together.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.together.setToolTip(
            "<qt>Other models of the list that take the same images and give the same classes: the mean of all "
            "probabilities decides</qt>"
        )
        self.together.setMenu(QMenu(self.together))
        self.samples = QSpinBox(self)
        self.samples.setRange(0, 100)
        self.samples.setSpecialValueText("none")
        self.samples.setToolTip(
            "<qt>Monte-Carlo dropout: how often a model that has dropout answers with neurons left out at random</qt>"
        )
        self.memory = ShortDecimal(self)
        self.memory.setRange(0.0, 4096.0)
        # Whole MB: what is typed never turns into 0, which means something else.
        self.memory.setDecimals(3)
        self.memory.setSingleStep(0.1)
        self.memory.setSuffix(" GB")
        self.memory.setSpecialValueText("half of what is free")
        self.memory.setToolTip(
            "<qt>What a run may take; less makes it slower and puts probabilities on disk, and changes no label</qt>"
        )
        self._tell_together()

    def _connect(self) -> None:
        self.together.menu().aboutToShow.connect(self._list_models)
        for box in (self.blending, self.measure, self.precision):
            box.currentIndexChanged.connect(lambda _: self.changed.emit())
        for spin in (self.overlap, self.samples, self.memory):
            spin.valueChanged.connect(lambda _: self.changed.emit())
        self.mirror.toggled.connect(lambda _: self.changed.emit())

    def set_card(self, card: Card | None) -> None:
        """Show what the card of a newly chosen model says; other models do not go with it any more."""
        self.others = ()
        self._tell_together()
        if card is None:
            return
        self._card_mirrors = bool(card.window.mirror)
        self.overlap.setValue(card.window.overlap)
        self._card_overlap = self.overlap.value()
        self.blending.setCurrentText(card.window.blending)
        self.mirror.setChecked(self._card_mirrors)

    @property
    def values(self) -> dict[str, Any]:
        """The arguments of `predict`, without `uncertainty`; what the card says is left to it."""
        overlap, mirror = self.overlap.value(), self.mirror.isChecked()
        return {
            "overlap": None if overlap == self._card_overlap else round(overlap, 4),
            "blending": self.blending.currentText(),
            "mirror": None if mirror == self._card_mirrors else mirror,
            "device": DEVICES[self.device.currentText()],
            "precision": PRECISIONS[self.precision.currentText()],
            "samples": self.samples.value(),
            "memory": self.memory.value() * _GIGA or None,
        }

    @property
    def uncertainty(self) -> bool | str:
        """The measure of doubt; True is the entropy."""
        name = self.measure.currentData()
        return True if name == MEASURES[0] else name

    # Several models ---------------------------------------------------------------------------------------------

    def _list_models(self) -> None:
        menu = self.together.menu()
        menu.clear()
        for index in range(self._models.count()):
            source = self._models.itemData(index)
            if source is None or index == self._models.currentIndex():
                continue
            action = menu.addAction(self._models.itemText(index))
            action.setCheckable(True)
            action.setChecked(source in self.others)
            action.toggled.connect(lambda on, one=source: self.choose_other(one, on))
        if menu.isEmpty():
            menu.addAction("no other model is in the list").setEnabled(False)

    def choose_other(self, source: str, on: bool = True) -> None:
        """Let a model of the list answer together with the one chosen, or no longer."""
        rest = tuple(one for one in self.others if one != source)
        self.others = (*rest, source) if on else rest
        self._tell_together()
        self.changed.emit()

    def _tell_together(self) -> None:
        count = len(self.others)
        self.together.setText("no other model" if not count else f"{count} other model{'s' * (count > 1)}")
