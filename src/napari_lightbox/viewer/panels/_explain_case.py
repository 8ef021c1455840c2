"""What all tabs of the Explain dock are about: images, model, reference and class."""

from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QFormLayout, QHBoxLayout, QPushButton, QWidget

from ...errors import InputError, LightboxError
from ...models import available, read_card
from ...models.card import Card
from ...volume import Volume
from ..capture import volume_of
from ..choosers import LayerChooser
from ._error_work import is_review

_MEAN = "mean of all classes"


@dataclass(frozen=True)
class Case:
    """What was chosen when a job began.

    Parameters
    ----------
    volumes : tuple of Volume
        Images, in the order of the model's channels.
    model : str
        Name of a shipped model, or a folder.
    reference : Volume or None
        Labels taken as the truth; copy them with `capture.steady` in the background.
    label : int or None
        Class that is looked at; all of them where None.
    """

    volumes: tuple[Volume, ...]
    model: str
    reference: Volume | None
    label: int | None


class CaseBox(QWidget):
    """Choosers for a `Case`; `changed` is said when anything is chosen, `failed` when a model cannot be read."""

    changed = Signal()
    failed = Signal(str)

    def __init__(self, viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.card: Card | None = None
        self.channels: list[LayerChooser] = []
        self.form = QFormLayout(self)
        self.form.setContentsMargins(0, 0, 0, 0)
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.model_box = QComboBox(self)
        self.model_box.setToolTip("Models that come with napari-lightbox, and folders that you have chosen")
        self.folder_button = QPushButton("Folder ...", self)
        self.folder_button.setToolTip("Choose the folder of a model: the one that holds card.json and the weights")
        row = QHBoxLayout()
        row.addWidget(self.model_box, 1)
        row.addWidget(self.folder_button)
        self.form.addRow("Model", row)
        self.reference_box = LayerChooser(
            viewer, ("labels",), optional=True, accepts=lambda layer: not is_review(layer), parent=self
        )
        self.reference_box.setToolTip(
            "<qt>Labels taken to be right, with the values of the model's classes. Without them the model's own answer "
            "to the image as it is stands for the truth</qt>"
        )
        self.form.addRow("Reference", self.reference_box)
        self.class_box = QComboBox(self)
        self.class_box.setToolTip("Class that is scored")
        self.form.addRow("Class", self.class_box)
        self.model_box.currentIndexChanged.connect(self._on_model)
        self.folder_button.clicked.connect(self._ask_folder)
        self.reference_box.layer_changed.connect(self.changed)
        self.class_box.currentIndexChanged.connect(lambda _: self.changed.emit())

    def list_models(self) -> None:
        """Fill the list of models; once, when somebody listens to `failed`."""
        try:
            names = list(available())
        except LightboxError as error:
            self.failed.emit(str(error))
            return
        for name in names:
            self.model_box.addItem(name, name)

    def choose_model(self, source: str | Path) -> None:
        """Choose a shipped model by its name, or the folder of another."""
        source = str(source)
        index = self.model_box.findData(source)
        if index < 0:
            try:
                card = read_card(source)
            except LightboxError as error:
                self.failed.emit(str(error))
                return
            self.model_box.addItem(f"{card.name} ({Path(source).name})", source)
            index = self.model_box.count() - 1
        self.model_box.setCurrentIndex(index)

    def _ask_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of a model", str(Path.home()))
        if folder:
            self.choose_model(folder)

    def _on_model(self, index: int) -> None:
        source = self.model_box.itemData(index)
        try:
            self.card = read_card(source) if source else None
        except LightboxError as error:
            self.card = None
            self.failed.emit(str(error))
        self._make_channels()
        self.class_box.blockSignals(True)
        self.class_box.clear()
        self.class_box.addItem(_MEAN, None)
        output = self.card.output if self.card else None
        for value in (v for v in (output.values if output else ()) if v):
            self.class_box.addItem(output.label(value).name, value)
        self.class_box.blockSignals(False)
        self.changed.emit()

    def _make_channels(self) -> None:
        before = [chooser.layer for chooser in self.channels]
        for chooser in self.channels:
            chooser.disconnect_viewer()
            self.form.removeRow(chooser)
        self.channels = []
        for number, channel in enumerate(self.card.input.channels if self.card else ()):
            chooser = LayerChooser(self.viewer, ("image",), parent=self)
            chooser.setToolTip(f"The image that goes in as {channel.name}")
            if number < len(before) and before[number] is not None:
                chooser.choose(before[number])
            chooser.layer_changed.connect(self.changed)
            self.form.insertRow(1 + number, channel.name, chooser)
            self.channels.append(chooser)

    @property
    def image(self) -> Volume | None:
        """The first image, without asking or telling anything; None where there is none that can be used."""
        layer = self.channels[0].layer if self.channels else None
        try:
            return None if layer is None else volume_of(layer, self.viewer, quiet=True)
        except LightboxError:
            return None

    def take(self) -> Case:
        """Return what is chosen.

        Raises
        ------
        InputError
            If something is missing.
        """
        if self.card is None:
            raise InputError("no model is chosen: pick one from the list, or the folder of another")
        volumes = []
        for chooser, channel in zip(self.channels, self.card.input.channels, strict=True):
            if chooser.layer is None:
                raise InputError(f"{channel.name} needs an Image layer: open an image first")
            volumes.append(volume_of(chooser.layer, self.viewer))
        layer = self.reference_box.layer
        reference = None if layer is None else volume_of(layer, self.viewer)
        return Case(tuple(volumes), self.model_box.currentData(), reference, self.class_box.currentData())

    def close_down(self) -> None:
        """Stop listening to the viewer."""
        for chooser in (*self.channels, self.reference_box):
            chooser.disconnect_viewer()
