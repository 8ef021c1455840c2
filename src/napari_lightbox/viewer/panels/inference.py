"""The Inference dock: choose a model, see what its card says, check it against the images, run it, see all results."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import napari
from napari.layers import Layer
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ...errors import InputError, LightboxError
from ...models import Prediction, available, load, predict, quote, read_card
from ...models.card import Card
from ...models.loaders.trust import Untrusted, remember
from ...models.plan import review
from ...volume import Volume
from ..adding import add_in_turn
from ..asking import confirm
from ..capture import volume_of
from ..choosers import LayerChooser
from ..edits import note_edits
from ..jobbar import JobBar, stop_when_closed
from ..layers import layer_to_volume, make_layer, plain, volume_to_layer
from . import _hover
from ._cardtext import details, summary

DEVICES = {"Automatic (GPU where there is one)": "auto", "CPU": "cpu", "CUDA GPU": "cuda"}
_RED = "#ff6b6b"
# What changes in quick succession is looked at once.
_SETTLE_MS = 120


@dataclass(frozen=True)
class Made:
    """What a run leaves for the viewer: layers to add, bottom first, and the probabilities behind the labels."""

    layers: tuple[Layer, ...]
    kept: _hover.Kept | None
    notes: tuple[str, ...]


class Fold(QWidget):
    """A heading with an arrow that shows and hides what is under it."""

    def __init__(self, title: str, content: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.button = QToolButton(self)
        self.button.setText(title)
        self.button.setCheckable(True)
        self.button.setAutoRaise(True)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.content = content
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(2)
        box.addWidget(self.button)
        box.addWidget(content)
        self.button.toggled.connect(self._toggle)
        self._toggle(False)

    def _toggle(self, shown: bool) -> None:
        self.button.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)
        self.content.setVisible(shown)


def _text_label(parent: QWidget) -> QLabel:
    label = QLabel("", parent)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.RichText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    # A long word must not widen the dock.
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label


class InferencePanel(QWidget):
    """Dock that runs a model over the images of a viewer.

    Parameters
    ----------
    viewer : napari.Viewer
        Where images are taken from and results go.

    Notes
    -----
    Images and choices are captured when Run is pressed. Results are new layers; those of an earlier run stay.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self.viewer = plain(viewer)
        self.setObjectName("lightbox-inference")
        self.card: Card | None = None
        self.source: str | None = None
        self.channels: list[LayerChooser] = []
        self.classes: dict[int, QCheckBox] = {}
        # The overlap of the card as the spin box shows it, which may have fewer digits.
        self._card_overlap: float | None = None
        self.bar = JobBar(viewer, self)
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(_SETTLE_MS)
        self._settle.timeout.connect(self.refresh)
        self._lay_out()
        self._connect()
        note_edits(self.viewer)
        _hover.watch(self.viewer)
        self._list_shipped()

    # Laying out -------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        inside = QWidget(self)
        box = QVBoxLayout(inside)
        box.setContentsMargins(0, 0, 6, 0)
        box.addLayout(self._model_row(inside))
        self.about, self.more = _text_label(inside), _text_label(inside)
        self.about_fold = Fold("More about this model", self.more, inside)
        box.addWidget(self.about)
        box.addWidget(self.about_fold)
        self.form = QFormLayout()
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        box.addLayout(self.form)
        box.addWidget(self._results(inside))
        box.addWidget(Fold("Options", self._options(inside), inside))
        self.verdict, self.cost = _text_label(inside), _text_label(inside)
        self.force = QCheckBox("Run it all the same", inside)
        self.force.setToolTip("The model was not made for such an image: its result may be nonsense")
        self.run_button = QPushButton("Run", inside)
        box.addStretch(1)
        scroll = QScrollArea(self)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(inside)
        outside = QVBoxLayout(self)
        outside.setContentsMargins(6, 6, 6, 6)
        outside.addWidget(scroll, 1)
        # Below what scrolls: whether it may run, what it costs, and how far it is are always in sight.
        for widget in (self.verdict, self.force, self.cost, self.run_button, self.bar):
            outside.addWidget(widget)
        self.setMinimumWidth(330)

    def _model_row(self, parent: QWidget) -> QHBoxLayout:
        row = QHBoxLayout()
        self.model_box = QComboBox(parent)
        self.model_box.setToolTip("Models that come with napari-lightbox, and folders that you have chosen")
        self.folder_button = QPushButton("Folder ...", parent)
        self.folder_button.setToolTip(
            "Choose the folder of a model: the one that holds card.json and the weights, or a results folder of nnU-Net"
        )
        row.addWidget(self.model_box, 1)
        row.addWidget(self.folder_button)
        return row

    def _results(self, parent: QWidget) -> QWidget:
        box = QWidget(parent)
        self.results_grid = QGridLayout(box)
        self.results_grid.setContentsMargins(0, 4, 0, 0)
        title = QLabel("Probability layers, beside the labels:", box)
        title.setToolTip("One Image layer for each class that is ticked")
        self.results_grid.addWidget(title, 0, 0, 1, 2)
        self.uncertainty = QCheckBox("Uncertainty layer", box)
        self.uncertainty.setToolTip(
            "<qt>How undecided the model is: 0 where one class is certain, 1 where all are equal</qt>"
        )
        self.uncertainty.setChecked(True)
        self.hover = QCheckBox("All probabilities at the cursor", box)
        self.hover.setToolTip("<qt>Keep every class's probability, to read it in the status bar; costs memory</qt>")
        self.hover.setChecked(True)
        return box

    def _options(self, parent: QWidget) -> QWidget:
        box = QWidget(parent)
        form = QFormLayout(box)
        form.setContentsMargins(12, 0, 0, 0)
        self.device = QComboBox(box)
        self.device.addItems(list(DEVICES))
        self.overlap = QDoubleSpinBox(box)
        self.overlap.setDecimals(4)
        self.overlap.setRange(0.0, 0.99)
        self.overlap.setSingleStep(0.05)
        self.overlap.setToolTip(
            "<qt>Share of a window that its neighbours have in common: more is smoother and slower</qt>"
        )
        self.blending = QComboBox(box)
        self.blending.addItems(["gaussian", "constant"])
        self.blending.setToolTip("How the results of overlapping windows are weighed")
        self.mirror = QCheckBox(box)
        self.mirror.setToolTip(
            "<qt>Average over the image flipped along all axes: steadier, and 4 or 8 times slower</qt>"
        )
        form.addRow("Device", self.device)
        form.addRow("Overlap of windows", self.overlap)
        form.addRow("Blending", self.blending)
        form.addRow("Mirrored too", self.mirror)
        return box

    def _connect(self) -> None:
        self.model_box.currentIndexChanged.connect(self._on_model)
        self.folder_button.clicked.connect(self._ask_folder)
        self.run_button.clicked.connect(self.run)
        self.bar.running_changed.connect(lambda running: self.run_button.setEnabled(not running))
        for check in (self.uncertainty, self.hover, self.mirror, self.force):
            check.toggled.connect(self._later)
        self.overlap.valueChanged.connect(self._later)
        self.blending.currentIndexChanged.connect(self._later)
        # A dock that is gone must not be called back.
        self.destroyed.connect(self.bar.runner.discard)
        stop_when_closed(self, self.bar)

    def _later(self, *_: Any) -> None:
        self._settle.start()

    # Choosing a model -------------------------------------------------------------------------------------------

    def _list_shipped(self) -> None:
        try:
            names = list(available())
        except LightboxError as error:
            self.bar.show_error(str(error))
            names = []
        for name in names:
            self.model_box.addItem(name, name)
        if not names:
            self._show_card(None, None)

    def _ask_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of a model", str(Path.home()))
        if folder:
            self.choose_model(folder)

    def choose_model(self, source: str | Path) -> None:
        """Choose a shipped model by its name, or the folder of another; a folder without a card is refused in red."""
        source = str(source)
        index = self.model_box.findData(source)
        if index < 0:
            try:
                card = read_card(source)
            except LightboxError as error:
                self.bar.show_error(str(error))
                return
            self.model_box.addItem(f"{card.name} ({Path(source).name})", source)
            index = self.model_box.count() - 1
        self.bar.clear()
        self.model_box.setCurrentIndex(index)

    def _on_model(self, index: int) -> None:
        source = self.model_box.itemData(index)
        try:
            self._show_card(source, read_card(source) if source else None)
        except LightboxError as error:
            self._show_card(None, None)
            self.bar.show_error(str(error))

    def _show_card(self, source: str | None, card: Card | None) -> None:
        self.source, self.card = source, card
        self.about.setText(summary(card) if card else "No model is chosen: pick one, or the folder of another.")
        self.more.setText(details(card) if card else "")
        self.about_fold.setVisible(card is not None)
        self._make_channels()
        self._make_classes()
        if card is not None:
            self.overlap.setValue(card.window.overlap)
            self._card_overlap = self.overlap.value()
            self.blending.setCurrentText(card.window.blending)
            self.mirror.setChecked(bool(card.window.mirror))
        self.refresh()

    def _make_channels(self) -> None:
        before = [chooser.layer for chooser in self.channels]
        for chooser in self.channels:
            chooser.disconnect_viewer()
        while self.form.rowCount():
            self.form.removeRow(0)
        self.channels = []
        for channel in self.card.input.channels if self.card else ():
            chooser = LayerChooser(self.viewer, ("image",), parent=self)
            chooser.setToolTip(f"The image that goes in as {channel.name}")
            if len(before) > len(self.channels) and before[len(self.channels)] is not None:
                chooser.choose(before[len(self.channels)])
            chooser.layer_changed.connect(self._later)
            self.form.addRow(channel.name, chooser)
            self.channels.append(chooser)

    def _make_classes(self) -> None:
        for box in self.classes.values():
            self.results_grid.removeWidget(box)
            box.hide()
            box.deleteLater()
        output = self.card.output if self.card else None
        self.classes = {}
        for number, value in enumerate(output.values if output else ()):
            box = QCheckBox(output.label(value).name, self)
            box.toggled.connect(self._later)
            self.classes[value] = box
            self.results_grid.addWidget(box, 1 + number // 2, number % 2)
        below = 1 + (len(self.classes) + 1) // 2
        self.results_grid.addWidget(self.uncertainty, below, 0)
        self.results_grid.addWidget(self.hover, below + 1, 0, 1, 2)

    # Before the run ---------------------------------------------------------------------------------------------

    @property
    def _card_mirrors(self) -> bool:
        return self.card is not None and bool(self.card.window.mirror)

    @property
    def choices(self) -> dict[str, Any]:
        """The arguments of `predict` as they are chosen."""
        asked = tuple(value for value, box in self.classes.items() if box.isChecked())
        overlap = self.overlap.value()
        return {
            "overlap": None if overlap == self._card_overlap else round(overlap, 4),
            "blending": self.blending.currentText(),
            "mirror": None if self.mirror.isChecked() == self._card_mirrors else self.mirror.isChecked(),
            "probabilities": "all" if self.hover.isChecked() and self.classes else asked,
            "uncertainty": self.uncertainty.isChecked(),
            "device": DEVICES[self.device.currentText()],
            "check": not self.force.isChecked(),
        }

    def refresh(self) -> None:
        """Check the chosen images against the card, and say what a run will cost."""
        self._settle.stop()
        problems, cost, notes = self._look()
        self.verdict.setText("".join(f'<p style="color:{_RED}; margin:0"><b>{escape(p)}</b></p>' for p in problems))
        self.verdict.setVisible(bool(problems))
        self.force.setVisible(bool(problems) and cost is not None)
        if not self.force.isVisibleTo(self):
            self.force.setChecked(False)
        lines = ([f"<b>{escape(str(cost))}</b>"] if cost else []) + [escape(n) for n in notes if n not in problems]
        self.cost.setText("<br>".join(lines))
        self.run_button.setToolTip(problems[0] if problems else "Run the model in the background")

    def _look(self) -> tuple[list[str], Any, Sequence[str]]:
        """Return what speaks against a run, its quote where one can be made, and notes."""
        if self.card is None:
            return [], None, ()
        layers = [chooser.layer for chooser in self.channels]
        if any(layer is None for layer in layers):
            return [], None, ("Open an image first: there is none to choose.",)
        try:
            volumes = [layer_to_volume(one, self.viewer.layers, assume=True, accept_transform=True) for one in layers]
            problems, _ = review(volumes, self.card)
            given = {k: v for k, v in self.choices.items() if k not in ("device", "check")}
            cost = quote(volumes, self.card, **given)
        except LightboxError as error:
            return [str(error)], None, ()
        return problems, cost, cost.notes

    # The run ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Capture images and choices, and start the job."""
        if self.bar.running:
            return
        self.refresh()
        try:
            volumes = self._capture()
        except LightboxError as error:
            self.bar.show_error(str(error))
            return
        asked = tuple(value for value, box in self.classes.items() if box.isChecked())
        work = partial(_work, self.source, volumes, self.choices, asked, self.hover.isChecked())
        self.bar.run(work, title=f"{self.card.name} on {volumes[0].name}", on_done=self._show)
        if self.bar.running:
            self.bar.show_note("Loading the model; the first time this takes a few seconds")

    def _capture(self) -> list[Volume]:
        if self.card is None:
            raise InputError("no model is chosen: pick one from the list, or the folder of another")
        volumes = []
        for chooser, channel in zip(self.channels, self.card.input.channels, strict=True):
            if chooser.layer is None:
                raise InputError(f"{channel.name} needs an Image layer: open an image first")
            volumes.append(volume_of(chooser.layer, self.viewer))
        return volumes

    def _show(self, made: Made | Untrusted) -> None:
        """Add the results; runs in the GUI thread."""
        if isinstance(made, Untrusted):
            self._ask_trust(made)
            return
        if made.kept is not None:
            _hover.keep(made.layers[-1], made.kept)
        add_in_turn(self.viewer, made.layers, self._added)

    def _ask_trust(self, question: Untrusted) -> None:
        """Ask whether the model's file may run code, and run it if so."""
        if not confirm(
            f"The model {self.card.name!r} is {question.what}.\n\nYes: you trust where it comes from, now and later.\n"
            "No: it stays closed.",
            self.viewer,
        ):
            self.bar.show_error(str(question))
            return
        try:
            remember(question.sha256, self.card.name)
        except LightboxError as error:
            self.bar.show_error(str(error))
            return
        # Once the job that asked has ended.
        QTimer.singleShot(0, self.run)

    def _added(self, added: list[Layer]) -> None:
        """Say what there is now; the dock may have been closed meanwhile."""
        if self.bar.runner.closed:
            return
        hidden = sum(not layer.visible for layer in added)
        text = f"{added[-1].name} is done"
        if hidden:
            layers = "1 more layer is" if hidden == 1 else f"{hidden} more layers are"
            text += f"; {layers} added but hidden: click the eye in the layer list"
        self.bar.show_note(text)


def _work(source: str, volumes: list[Volume], choices: dict, asked: tuple[int, ...], hover: bool) -> Made | Untrusted:
    """Load, run, and prepare the layers, bottom first; runs in the background."""
    try:
        model = load(source)
    except Untrusted as question:
        return question
    found = predict(volumes, model, **choices)
    if "labels" not in found.volumes:
        return Made(tuple(make_layer(found.output(c)) for c in found.kept), None, found.notes)
    return made_of(found, asked, uncertainty=choices["uncertainty"], hover=hover)


def made_of(found: Prediction, asked: Sequence[int], *, uncertainty: bool, hover: bool) -> Made:
    """Prepare the layers of a prediction with labels: probabilities, uncertainty, labels on top.

    Parameters
    ----------
    found : Prediction
        What a model said, here or elsewhere.
    asked : sequence of int
        Classes that get a layer of their probability.
    uncertainty : bool
        Whether there is a layer of it.
    hover : bool
        Whether the probabilities that were kept are told at the cursor.
    """
    made = [make_layer(found.probability(value), visible=False) for value in asked]
    if uncertainty:
        made.append(make_layer(found.uncertainty, colormap="magma", visible=False))
    made.append(make_layer(found.labels))
    kept = None
    if hover and found.kept:
        names = tuple(found.card.output.label(value).name for value in found.kept)
        kept = _hover.Kept(names, tuple(volume_to_layer(found.probability(value))[0] for value in found.kept))
    return Made(tuple(made), kept, found.notes)
