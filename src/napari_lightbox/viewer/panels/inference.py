"""The Inference dock: choose a model, see what its card says, check it against the images, run it, see all results."""

from collections.abc import Callable, Sequence
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
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ...errors import InputError, LightboxError
from ...models import available, quote, read_card
from ...models.card import Card
from ...models.footprint import LEARNING, UNKNOWN
from ...models.loaders.trust import Untrusted
from ...models.plan import review
from ...models.tables import GUESSED
from ...volume import Volume
from ..adding import add_in_turn
from ..capture import volume_of
from ..choosers import LayerChooser
from ..edits import note_edits
from ..jobbar import JobBar, stop_when_closed
from ..layers import layer_to_volume, plain
from . import _hover, _model_list
from ._answers import AnswersView
from ._cardtext import details, summary
from ._cleaning import CleaningTable
from ._dock_parts import is_trusted, scrolling, text_label
from ._inference_options import RunOptions
from ._inference_preview import Slab, SlabPreview
from ._learning import Learner
from ._made import Made, name_run, work

_RED = "#ff6b6b"
# What changes in quick succession is looked at once.
_SETTLE_MS = 120


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
        # What speaks against a run, as it was said last.
        self._problems: list[str] = []
        self.channels: list[LayerChooser] = []
        self._matcher = _model_list.NameMatcher(self.viewer, (), ())
        self.classes: dict[int, QCheckBox] = {}
        self.preview = SlabPreview(self.viewer)
        self.bar = JobBar(viewer, self)
        self.learner = Learner(self)
        self.learner.learnt.connect(self._later)
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
        self.about, self.more = text_label(inside, selectable=True), text_label(inside, selectable=True)
        self.about_fold = Fold("More about this model", self.more, inside)
        box.addWidget(self.about)
        box.addWidget(self.about_fold)
        self.form = QFormLayout()
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        box.addLayout(self.form)
        self.results_box = self._results(inside)
        box.addWidget(self.results_box)
        self.cleaning = CleaningTable(inside)
        self.cleaning_fold = Fold("Clean the labels afterwards", self.cleaning, inside)
        self.cleaning_fold.button.toggled.connect(self.cleaning.unfold)
        box.addWidget(self.cleaning_fold)
        self.options = RunOptions(self.model_box, inside)
        self.options_fold = Fold("Options", self.options, inside)
        box.addWidget(self.options_fold)
        self.answers = AnswersView(self.viewer, inside)
        box.addWidget(self.answers)
        self.verdict, self.cost = text_label(inside, selectable=True), text_label(inside, selectable=True)
        self.force = QCheckBox("Run it all the same", inside)
        self.force.setToolTip("<qt>In spite of what is said above: the result may be nonsense, or memory run out</qt>")
        self.preview_button, self.run_button = QPushButton("Preview here", inside), QPushButton("Run", inside)
        self.preview_button.setToolTip(
            "<qt>Run the model on the slices around the one on screen only, as many as its window takes in, and show "
            "the result in a temporary layer</qt>"
        )
        box.addStretch(1)
        self.scroll, outside = scrolling(self, inside)
        # Below what scrolls: whether it may run, what it costs, and how far it is are always in sight.
        for widget in (self.verdict, self.force, self.cost):
            outside.addWidget(widget)
        row = QHBoxLayout()
        row.addWidget(self.preview_button, 1)
        row.addWidget(self.run_button, 1)
        outside.addLayout(row)
        outside.addWidget(self.bar)

    def _model_row(self, parent: QWidget) -> QHBoxLayout:
        row = QHBoxLayout()
        self.model_box = QComboBox(parent)
        self.model_box.setToolTip("Shipped models, those chosen last, and those in your folder of models")
        self.folder_button = QPushButton("Folder ...", parent)
        self.folder_button.setToolTip(
            "<qt>Choose the folder of a model: card.json and weights, a results folder of nnU-Net, a MONAI bundle; or "
            "a folder with several models, which are listed from then on</qt>"
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

    def _connect(self) -> None:
        self.model_box.currentIndexChanged.connect(self._on_model)
        self.folder_button.clicked.connect(self._ask_folder)
        self.run_button.clicked.connect(self.run)
        self.preview_button.clicked.connect(self.preview_here)
        for button in (self.run_button, self.preview_button):
            self.bar.running_changed.connect(lambda running, one=button: one.setEnabled(not running))
        # What its network needs is known once a model has run.
        self.bar.running_changed.connect(self._later)
        for check in (self.uncertainty, self.hover, self.force):
            check.toggled.connect(self._later)
        self.options.changed.connect(self._later)
        self.cleaning.changed.connect(self._later)
        # A dock that is gone must not be called back.
        self.destroyed.connect(self.bar.runner.discard)
        stop_when_closed(self, self.bar, self.preview.remove, self.learner.stop)

    def _later(self, *_: Any) -> None:
        self._settle.start()

    # Choosing a model -------------------------------------------------------------------------------------------

    def _list_shipped(self) -> None:
        try:
            names = list(available())
        except LightboxError as error:
            self.bar.show_error(str(error))
            names = []
        _model_list.fill(self.model_box, names)
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
                if inside := _model_list.models_in(Path(source)):
                    # No model itself, but a folder of models.
                    _model_list.use_folder(source)
                    self._list_shipped()
                    self.choose_model(inside[0])
                    return
                self.bar.show_error(str(error))
                return
            _model_list.remember(card.name, source)
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
        self.cleaning.set_card(card)
        labelled = card is None or card.output.kind in ("labels", "regions")
        self.results_box.setVisible(labelled)
        self.cleaning_fold.setVisible(labelled and card is not None)
        self.preview_button.setVisible(card is None or card.output.kind in ("labels", "regions", "image"))
        self.options.set_card(card)
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
        names = [channel.name for channel in self.card.input.channels] if self.card else []
        self._matcher.close()
        self._matcher = _model_list.NameMatcher(self.viewer, names, self.channels)

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
    def choices(self) -> dict[str, Any]:
        """The arguments of `predict` as they are chosen."""
        asked = tuple(value for value, box in self.classes.items() if box.isChecked())
        labelled = self.card is None or self.card.output.kind in ("labels", "regions")
        return {
            **({"post": self.cleaning.rules} if labelled else {}),
            **self.options.values,
            "probabilities": "all" if self.hover.isChecked() and self.classes else asked,
            "uncertainty": self.options.uncertainty if labelled and self.uncertainty.isChecked() else False,
            "check": not self.force.isChecked(),
        }

    def refresh(self) -> None:
        """Check the chosen images against the card, and say what a run will cost."""
        self._settle.stop()
        problems, cost, notes = self._look()
        if any(gone in self.bar.message for gone in self._problems if gone not in problems):
            # A refusal of images or choices that are no longer there.
            self.bar.clear()
        self._problems = problems
        if cost is not None and cost.unlearnt and not self.bar.running:
            for source in self._sources:
                self.learner.ask(source, cost.unlearnt)
            if self.learner.busy:
                notes = [note.replace(UNKNOWN, LEARNING).replace(GUESSED, LEARNING) for note in notes]
        self.verdict.setText("".join(f'<p style="color:{_RED}; margin:0"><b>{escape(p)}</b></p>' for p in problems))
        self.verdict.setVisible(bool(problems))
        self.force.setVisible(bool(problems) and cost is not None)
        if not self.force.isVisibleTo(self):
            self.force.setChecked(False)
        lines = ([f"<b>{escape(str(cost))}</b>"] if cost else []) + [
            f"\u00b7 {escape(n)}" for n in notes if n not in problems
        ]
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
            cost = quote(volumes, [self.card, *map(read_card, self.options.others)], **given)
            if cost.problem:
                problems = [*problems, cost.problem]
        except LightboxError as error:
            return [str(error)], None, ()
        return problems, cost, cost.notes

    # The run ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Capture images and choices, and start the job."""
        self._start(self._whole)

    def preview_here(self) -> None:
        """Run the model on the slab on screen only; the result is a temporary layer."""
        self._start(self._slab)

    def _start(self, prepare: Callable[[list[Volume]], tuple]) -> None:
        """Start the job that `prepare` makes of the images: what to do, its title, what follows."""
        if self.bar.running:
            return
        self.refresh()
        try:
            job, title, on_done = prepare(self._capture())
        except LightboxError as error:
            self.bar.show_error(str(error))
            return
        loading = "Loading the model; the first time this takes a few seconds"
        self.bar.run(job, title=title, on_done=on_done, first=loading)

    @property
    def _sources(self) -> tuple[str, ...]:
        return (self.source, *self.options.others)

    def _whole(self, volumes: list[Volume]) -> tuple:
        asked = tuple(value for value, box in self.classes.items() if box.isChecked())
        self._ran_on = self.channels[0].layer
        job = partial(work, self._sources, volumes, self.choices, asked, self.hover.isChecked())
        return job, f"{self.card.name} on {volumes[0].name}", self._show

    def _slab(self, volumes: list[Volume]) -> tuple:
        layer = self.channels[0].layer
        job = self.preview.job(layer, volumes, self.card, self._sources, self.choices)
        return job, f"Preview of {self.card.name}", self._show_slab

    def _show_slab(self, made: tuple[Layer, Slab] | Untrusted) -> None:
        if isinstance(made, Untrusted):
            self._ask_trust(made, self.preview_here)
            return
        layer, slab = made
        self.preview.show(layer)
        self.bar.show_note("; ".join((f"{layer.name}: {slab.told}", *slab.notes)))

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
            self._ask_trust(made, self.run)
            return
        self.preview.remove()
        self._hidden = name_run(self.viewer, made)
        if made.kept is not None:
            _hover.keep(made.layers[-1], made.kept)
        for table in made.tables:
            self.answers.add(table, made.image, self._ran_on)
            # Once it is laid out.
            QTimer.singleShot(0, self._reveal)
        add_in_turn(self.viewer, made.layers, partial(self._added, made))

    def _reveal(self) -> None:
        """Scroll to the table; the dock may have been closed meanwhile."""
        if not self.bar.runner.closed:
            self.scroll.ensureWidgetVisible(self.answers)

    def _ask_trust(self, question: Untrusted, again: Callable[[], None]) -> None:
        """Ask whether the model's file may run code, and start again if so."""
        if is_trusted(question, self.card.name, self.viewer, self.bar):
            # Once the job that asked has ended.
            QTimer.singleShot(0, again)

    def _added(self, made: Made, added: list[Layer]) -> None:
        """Say what there is now; the dock may have been closed meanwhile."""
        if self.bar.runner.closed:
            return
        if not added:
            table = made.tables[-1]
            self.bar.show_note(f"{table.card.name} on {table.image} is done: its table is above")
            return
        hidden = sum(not layer.visible for layer in added)
        text = f"{added[-1].name} is done"
        if hidden:
            layers = "1 more layer is" if hidden == 1 else f"{hidden} more layers are"
            text += f"; {layers} added but hidden: click the eye in the layer list"
        if self._hidden:
            text += f"; {self._hidden[0]}, of an earlier run, is hidden now"
        text += "".join(f"; {note}" for note in made.notes if "post-processing" in note or "not drawn" in note)
        self.bar.show_note(text)
