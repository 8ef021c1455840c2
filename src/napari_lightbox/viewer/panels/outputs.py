"""The dock that loads what a model said elsewhere onto its image: labels, probabilities or logits from files."""

import re
from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import napari
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ...errors import InputError, LightboxError
from ...io import suffixes
from ...models.arrays import SUFFIXES
from ...models.outputs import read_outputs
from ...volume import Volume
from ..adding import add_in_turn
from ..capture import volume_of
from ..choosers import LayerChooser
from ..edits import note_edits
from ..jobbar import JobBar, stop_when_closed
from ..layers import plain
from . import _hover
from ._elided import ElidedLabel
from ._made import Made, made_of
from .inference import Fold

VALUES = {
    "Told by the values": None,
    "Probabilities": "none",
    "Logits of classes that exclude each other (softmax)": "softmax",
    "Logits of single classes (sigmoid)": "sigmoid",
}
# Arrays know no axes; with three letters there are no classes.
AXES = {
    "class, z, y, x (nnU-Net)": None,
    "class, x, y, z": "cxyz",
    "z, y, x, class": "zyxc",
    "x, y, z, class": "xyzc",
    "x, y, z (labels)": "xyz",
}


class OutputsPanel(QWidget):
    """Dock that loads outputs of a model onto an image of a viewer.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the image is taken from and results go.

    Notes
    -----
    The image and all choices are captured when *Load* is pressed. Results are new layers, as those of *Run a model*.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self.viewer = plain(viewer)
        self.setObjectName("lightbox-outputs")
        self.files: list[Path] = []
        self.names: Path | None = None
        self.bar = JobBar(viewer, self)
        self._lay_out()
        self.setAcceptDrops(True)
        self.files_button.clicked.connect(self._ask_files)
        self.names_button.clicked.connect(self._ask_names)
        self.forget_button.clicked.connect(lambda: self.choose_names(None))
        self.load_button.clicked.connect(self.load)
        self.bar.running_changed.connect(lambda running: self.load_button.setEnabled(not running))
        # A dock that is gone must not be called back.
        self.destroyed.connect(self.bar.runner.discard)
        stop_when_closed(self, self.bar)
        note_edits(self.viewer)
        _hover.watch(self.viewer)

    # Laying out -----------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        self.image = LayerChooser(self.viewer, ("image",), parent=self)
        self.image.setToolTip("<qt>The image that the model was run on</qt>")
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Image", self.image)
        form.addRow("Output", self._files_row())
        form.addRow("Class names", self._names_row())
        self.values = QComboBox(self)
        self.values.addItems(list(VALUES))
        self.values.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.values.setToolTip(
            "<qt>Values from 0 to 1 are taken as probabilities and others as logits, unless you say otherwise; whole "
            "numbers without classes are labels</qt>"
        )
        form.addRow("Values", self.values)
        self.regions = QCheckBox("Classes may overlap (regions)", self)
        self.regions.setToolTip("<qt>Each class is there or not, whatever the others are; later ones cover</qt>")
        self.each = QCheckBox("A layer for each class's probability", self)
        self.uncertainty = QCheckBox("Uncertainty layer", self)
        self.uncertainty.setChecked(True)
        self.uncertainty.setToolTip("<qt>0 where one class is certain, 1 where all are equal</qt>")
        self.hover = QCheckBox("All probabilities at the cursor", self)
        self.hover.setToolTip("<qt>Keep every class's probability, to read it in the status bar; costs memory</qt>")
        self.hover.setChecked(True)
        self.load_button = QPushButton("Load", self)
        self.told = QLabel("", self)
        self.told.setWordWrap(True)
        self.told.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.told.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        box = QVBoxLayout(self)
        box.setContentsMargins(6, 6, 6, 6)
        box.addLayout(form)
        for widget in (self.regions, self.each, self.uncertainty, self.hover):
            box.addWidget(widget)
        box.addWidget(Fold("Arrays (.npz, .npy)", self._arrays(), self))
        box.addStretch(1)
        for widget in (self.told, self.load_button, self.bar):
            box.addWidget(widget)
        self.setMinimumWidth(330)

    def _files_row(self) -> QWidget:
        self.files_button = QPushButton("Choose\u2026", self)
        self.files_button.setToolTip(
            "<qt>Labels, an .npz of nnU-Net, a 4D file with the classes last, or one file for each class in their "
            "order, background first; files can also be dropped here</qt>"
        )
        self.files_label = ElidedLabel("none chosen")
        return _row(self.files_label, self.files_button)

    def _names_row(self) -> QWidget:
        self.names_button = QPushButton("Choose\u2026", self)
        self.names_button.setToolTip(
            '<qt>A JSON file: dataset.json of nnU-Net, card.json, or {"1": "lung", "2": "bone"}</qt>'
        )
        self.forget_button = QToolButton(self)
        self.forget_button.setText("\u2715")
        self.forget_button.setToolTip("Take the names from the output, or from a dataset.json beside it")
        self.forget_button.setVisible(False)
        self.names_label = ElidedLabel("those of the output")
        return _row(self.names_label, self.forget_button, self.names_button)

    def _arrays(self) -> QWidget:
        box = QWidget(self)
        form = QFormLayout(box)
        form.setContentsMargins(12, 0, 0, 0)
        self.axes = QComboBox(box)
        self.axes.addItems(list(AXES))
        self.axes.setToolTip("<qt>What the axes of the array are; x, y, z are those of the image as it is stored</qt>")
        self.key = QLineEdit(box)
        self.key.setPlaceholderText("found by itself")
        self.key.setToolTip("Name of the array in an .npz that holds several")
        form.addRow("Axes", self.axes)
        form.addRow("Name", self.key)
        return box

    # Choosing -------------------------------------------------------------------------------------------------------

    def _ask_files(self) -> None:
        patterns = " ".join(f"*{suffix}" for suffix in (*suffixes(), *SUFFIXES))
        folder = str(self.files[0].parent) if self.files else ""
        names, _ = QFileDialog.getOpenFileNames(self, "Output of a model", folder, f"Outputs ({patterns});;All (*)")
        if names:
            self.choose_files(names)

    def choose_files(self, paths: Sequence[str | Path]) -> None:
        """Choose the files of an output; several are classes in the order of their names."""
        self.files = sorted((Path(p) for p in paths), key=lambda path: _natural(path.name))
        text = ", ".join(path.name for path in self.files)
        self.files_label.show_text(text or "none chosen")
        self.files_label.setToolTip("\n".join(str(path) for path in self.files))
        self.bar.clear()
        self.told.clear()

    def _ask_names(self) -> None:
        folder = str((self.names or (self.files or [Path()])[0]).parent)
        name, _ = QFileDialog.getOpenFileName(self, "Names of the classes", folder, "JSON (*.json)")
        if name:
            self.choose_names(name)

    def choose_names(self, path: str | Path | None) -> None:
        """Choose the file that names the classes; None takes the names from the output."""
        self.names = None if path is None else Path(path)
        self.names_label.show_text("those of the output" if self.names is None else self.names.name)
        self.names_label.setToolTip("" if self.names is None else str(self.names))
        self.forget_button.setVisible(self.names is not None)
        self.bar.clear()

    def dragEnterEvent(self, event) -> None:  # noqa: N802 - Qt's name
        """Accept files."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event) -> None:  # noqa: N802
        """Take the files that were dropped: a JSON file names classes."""
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        names = [path for path in paths if path.suffix.lower() == ".json"]
        if names:
            self.choose_names(names[0])
        if others := [path for path in paths if path not in names]:
            self.choose_files(others)
        event.acceptProposedAction()

    # Loading --------------------------------------------------------------------------------------------------------

    @property
    def choices(self) -> dict[str, Any]:
        """The arguments of `read_outputs` as they are chosen."""
        array = bool(self.files) and self.files[0].suffix.lower() in SUFFIXES
        return {
            "activation": VALUES[self.values.currentText()],
            "kind": "regions" if self.regions.isChecked() else None,
            "axes": AXES[self.axes.currentText()] if array else None,
            "key": (self.key.text().strip() or None) if array else None,
            "uncertainty": self.uncertainty.isChecked(),
            "probabilities": "all" if self.hover.isChecked() or self.each.isChecked() else (),
        }

    def load(self) -> None:
        """Capture image and choices, and start the job."""
        if self.bar.running:
            return
        self.told.clear()
        try:
            if self.image.layer is None:
                raise InputError("the output needs its image: open that first")
            if not self.files:
                raise InputError("no output is chosen: choose a file, or one for each class")
            image = volume_of(self.image.layer, self.viewer)
        except LightboxError as error:
            self.bar.show_error(str(error))
            return
        work = partial(
            _work, self.files, image, self.names, self.choices, self.each.isChecked(), self.hover.isChecked()
        )
        self.bar.run(work, title=f"{self.files[0].name} onto {image.name}", on_done=self._show)

    def _show(self, made: Made) -> None:
        """Add the results; runs in the GUI thread."""
        if made.kept is not None:
            _hover.keep(made.layers[-1], made.kept)
        add_in_turn(self.viewer, made.layers, partial(self._added, made.notes))

    def _added(self, notes: Sequence[str], added: list[Layer]) -> None:
        """Say what there is now; the dock may have been closed meanwhile."""
        if self.bar.runner.closed:
            return
        hidden = sum(not layer.visible for layer in added)
        text = f"{added[-1].name} is there"
        if hidden:
            layers = "1 more layer is" if hidden == 1 else f"{hidden} more layers are"
            text += f"; {layers} added but hidden: click the eye in the layer list"
        self.bar.show_note(text)
        self.told.setText("<br>".join(f"\u2022 {escape(note)}" for note in notes))


def _work(
    files: list[Path], image: Volume, names: Path | None, choices: dict[str, Any], each: bool, hover: bool
) -> Made:
    """Read, and prepare the layers, bottom first; runs in the background."""
    found = read_outputs(files if len(files) > 1 else files[0], image, names, **choices)
    return made_of(
        found, found.kept if each else (), uncertainty="uncertainty" in found.volumes, hover=hover and bool(found.kept)
    )


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Return a key that sorts class_10 after class_9."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _row(*widgets: QWidget) -> QWidget:
    box = QWidget(widgets[-1].parentWidget())
    row = QHBoxLayout(box)
    row.setContentsMargins(0, 0, 0, 0)
    for number, widget in enumerate(widgets):
        row.addWidget(widget, 1 if number == 0 else 0)
    return box
