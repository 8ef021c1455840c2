"""What the Errors dock compares, and with what: the form at its top, and the search that it stands for."""

from functools import partial

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QListWidget,
    QListWidgetItem,
    QSpinBox,
    QWidget,
)

from ...errors import InputError
from ..choosers import LayerChooser
from ..layers import layer_kind, plain
from ._error_rules import RulesBox
from ._error_searches import DoubtSearch, ProbabilitySearch, VersusSearch
from ._error_work import Search, is_review, take_pair
from ._links import Links

REFERENCE, UNCERTAIN, OTHERS, RULES, PROBABILITY = "reference", "uncertain", "others", "rules", "probability"
MODES = {
    REFERENCE: ("a reference", "Find errors", "Every difference from labels that are taken to be right"),
    UNCERTAIN: ("nothing: uncertain places", "Find doubts", "Where a map of uncertainty is above a threshold"),
    OTHERS: ("other segmentations", "Find doubts", "Where other models, folds, mirrored passes or raters differ"),
    RULES: (
        "rules of plausibility",
        "Find doubts",
        "What anatomy cannot look like: holes, islands, leaks",
    ),
    PROBABILITY: ("one of its probabilities", "Find differences", "Where a label and its own probability differ"),
}
# Which rows each choice shows.
_SHOWN = {
    REFERENCE: ("reference_box", "second_box", "probability_box", "uncertainty_box"),
    UNCERTAIN: ("uncertainty_box", "above_box", "probability_box"),
    OTHERS: ("others_list", "probability_box"),
    RULES: ("rules_box", "image_box", "probability_box"),
    PROBABILITY: ("probability_box", "above_box", "value_box"),
}


class AskBox(QWidget):
    """The form: a choice of what to compare with, and the layers that this takes.

    Parameters
    ----------
    viewer : napari.Viewer
    parent : QWidget
    """

    def __init__(self, viewer, parent: QWidget) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.mode_box = QComboBox(self)
        for mode, (title, _, tip) in MODES.items():
            self.mode_box.addItem(title, mode)
            self.mode_box.setItemData(self.mode_box.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self._form.addRow("Compare with", self.mode_box)
        self._add_choosers()
        self._add_values()
        self.mode_box.currentIndexChanged.connect(lambda _: self._on_mode())
        self.predicted_box.layer_changed.connect(self.refresh)
        # What is listed under Others, and the viewer's list of layers: after the choosers, which hear of it first.
        self._names, self._lists = Links(self), Links(self)
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            self._lists.add(event, self._on_layers)
        self._on_mode()

    def _add_choosers(self) -> None:
        labels = partial(LayerChooser, self._viewer, ("labels",), accepts=lambda one: not is_review(one), parent=self)
        image = partial(LayerChooser, self._viewer, ("image",), optional=True, parent=self)
        for name, title, make, tip in (
            ("predicted_box", "Prediction", labels, "Labels that are looked through for errors"),
            ("reference_box", "Reference", partial(labels, optional=True), "Labels that are taken to be right"),
            ("second_box", "Second", partial(labels, optional=True),
             "Another prediction: where one is chosen, the table lists what it mends and what it makes worse"),
            ("probability_box", "Probability", image, "Image to average over each error: how sure the model was there"),
            ("uncertainty_box", "Uncertainty", image, "Image to average over each error: how undecided the model was"),
            ("image_box", "Image", image, "Grey values, for rules of intensity"),
        ):  # fmt: skip
            box = make()
            box.setToolTip(f"<qt>{tip}</qt>")
            setattr(self, name, box)
            self._form.addRow(title, box)

    def _add_values(self) -> None:
        self.above_box = QDoubleSpinBox(self)
        self.above_box.setRange(-1e6, 1e6)
        self.above_box.setDecimals(3)
        self.above_box.setSingleStep(0.05)
        self.above_box.setValue(0.5)
        self.above_box.setToolTip("<qt>What is above this counts; in the units of the image</qt>")
        self.value_box = QSpinBox(self)
        self.value_box.setRange(1, 2**31 - 1)
        self.value_box.setToolTip("<qt>Number of the label that the probability is of</qt>")
        self.others_list = QListWidget(self)
        self.others_list.setFixedHeight(92)
        self.others_list.setToolTip("<qt>Tick the segmentations to compare with: what most say is proposed</qt>")
        self.rules_box = RulesBox(lambda: self.predicted_box.layer, self)
        self._form.addRow("Above", self.above_box)
        self._form.addRow("Label", self.value_box)
        self._form.addRow("Others", self.others_list)
        self._form.addRow(self.rules_box)

    @property
    def mode(self) -> str:
        """What is compared with, a key of `MODES`."""
        return self.mode_box.currentData()

    def choose(self, mode: str) -> None:
        """Choose what to compare with."""
        self.mode_box.setCurrentIndex(self.mode_box.findData(mode))

    def _on_mode(self) -> None:
        shown = (*_SHOWN[self.mode], "mode_box", "predicted_box")
        for name in {name for names in _SHOWN.values() for name in names}:
            widget = getattr(self, name)
            label = self._form.labelForField(widget)
            for one in (widget, label):
                if one is not None:
                    one.setVisible(name in shown)
        for box, needed in ((self.uncertainty_box, UNCERTAIN), (self.probability_box, PROBABILITY)):
            # One that is needed: that which is there is meant.
            if self.mode == needed and box.layer is None and box.count() > 1:
                box.setCurrentIndex(_likely(box, needed))
        self.refresh()

    def _on_layers(self, event=None) -> None:
        self.refresh()

    def refresh(self) -> None:
        """List the segmentations that there are, and the names of the labels that there are."""
        own, ticked = self.predicted_box.layer, set(self.ticked())
        layers = [
            one
            for one in reversed(self._viewer.layers)
            if layer_kind(one) == "labels" and not is_review(one) and one is not own
        ]
        self._names.clear()
        with QSignalBlocker(self.others_list):
            self.others_list.clear()
            for layer in layers:
                self._names.add(layer.events.name, self._on_layers)
                item = QListWidgetItem(layer.name, self.others_list)
                item.setData(Qt.ItemDataRole.UserRole, str(layer.unique_id))
                on = str(layer.unique_id) in ticked
                item.setCheckState(Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)
        self.rules_box.refresh()

    def ticked(self) -> list[str]:
        """Return the identities of the segmentations that are ticked."""
        items = [self.others_list.item(row) for row in range(self.others_list.count())]
        return [one.data(Qt.ItemDataRole.UserRole) for one in items if one.checkState() == Qt.CheckState.Checked]

    # The search ---------------------------------------------------------------------------------------------------

    def search(self) -> tuple:
        """Return the search that the form stands for, and the layers that are compared by it, the painted one first.

        Raises
        ------
        InputError
            If a layer is missing, or lies on another grid.
        """
        predicted, mode = self.predicted_box.layer, self.mode
        if mode == REFERENCE:
            return self._against_reference(predicted)
        if predicted is None:
            raise InputError("a Labels layer is needed: open the prediction")
        identity = str(predicted.unique_id)
        chosen = {
            name: getattr(self, f"{name}_box").layer if f"{name}_box" in _SHOWN[mode] else None
            for name in ("probability", "uncertainty", "image")
        }
        known = {str(one.unique_id): one for one in self._viewer.layers}
        others = [known[one] for one in self.ticked() if one in known] if mode == OTHERS else []
        rules = tuple(self.rules_box.rules) if mode == RULES else ()
        for needed, is_there, sentence in (
            (UNCERTAIN, chosen["uncertainty"], "an uncertainty is needed: choose the Image layer that holds it"),
            (PROBABILITY, chosen["probability"], "a probability is needed: choose the Image layer that holds it"),
            (OTHERS, others, "another segmentation is needed: tick those to compare with"),
            (RULES, rules, "there are no rules: add one"),
        ):
            if mode == needed and not is_there:
                raise InputError(sentence)
        first, *rest = take_pair(predicted, (*chosen.values(), *others), self._viewer)
        maps = dict(zip(chosen, rest, strict=False))
        above = self.above_box.value()
        if mode == PROBABILITY:
            return ProbabilitySearch(first, identity, maps["probability"], self.value_box.value(), above), (predicted,)
        return DoubtSearch(first, identity, **maps, above=above, others=rest[3:], rules=rules), (predicted,)

    def _against_reference(self, predicted) -> tuple:
        boxes = (self.reference_box, self.probability_box, self.uncertainty_box)
        reference, *means = (box.layer for box in boxes)
        if predicted is None or reference is None:
            raise InputError("two Labels layers are needed: open the prediction and the reference")
        if predicted is reference:
            raise InputError(f"{predicted.name} is chosen twice: choose another layer as the reference")
        second = self.second_box.layer
        if second is None:
            taken = take_pair(predicted, (reference, *means), self._viewer)
            return Search(*taken, (str(predicted.unique_id), str(reference.unique_id))), (predicted, reference)
        if second in (predicted, reference):
            raise InputError(f"{second.name} is chosen twice: choose another layer as the second prediction, or none")
        layers = (second, reference, predicted)
        taken = take_pair(second, layers[1:], self._viewer)
        return VersusSearch(*taken, tuple(str(plain(one).unique_id) for one in layers)), layers


def _likely(box: LayerChooser, word: str) -> int:
    """Return the entry whose name says what it is, else the first layer."""
    stem = {UNCERTAIN: ("uncert", "entropy", "variance", "doubt"), PROBABILITY: ("prob",)}[word]
    names = [box.itemText(place).casefold() for place in range(box.count())]
    return next((place for place, name in enumerate(names) if place and any(s in name for s in stem)), 1)
