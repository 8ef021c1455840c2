"""The dock "Save volumes": chosen layers become files that keep their place in the patient.

Images and labels are written in a format for volumes, points as a table of world positions. Writing runs in the
background; every file appears whole or not at all, and what was not saved is named with the reason.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import napari
from napari.layers import Layer, Points
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ..errors import FileError, LightboxError
from ..io.files import suffixes, write
from ..progress import track
from ..volume import Volume
from .capture import steady, volume_of
from .jobbar import JobBar, stop_when_closed
from .layers import is_preview, layer_kind, plain
from .offers import PLUGIN, settings
from .panels._links import Links
from .points_file import TABLE, points_table, write_points
from .readers import PICTURES
from .runner import main_window
from .writers import DEFAULT, file_name, may_replace

TITLE = "Save volumes"
KEY = "Control-Shift-S"
SEGMENTATION = ".seg.nrrd"
_NAMES = {
    ".nii.gz": "NIfTI, compressed", ".nii": "NIfTI", ".nrrd": "NRRD", ".nhdr": "NRRD with a header of its own",
    ".mha": "MetaImage", ".mhd": "MetaImage with a header of its own", SEGMENTATION: "NRRD, labels as segmentation",
}  # fmt: skip


class Task(NamedTuple):
    """One file to write: its path, and what writes it there."""

    path: Path
    save: Callable[[Path], object]


class SavePanel(QWidget):
    """Dock that saves layers.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose layers are saved.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = plain(viewer)
        self.bar = JobBar(viewer, self)
        self._build()
        self._links = Links(self)
        events = self._viewer.layers.events
        self._names = Links(self)
        for event in (events.inserted, events.removed, events.reordered):
            self._links.add(event, self._refresh)
        for event in (events.inserted, events.removed):
            self._links.add(event, self._link_names)
        self.bar.running_changed.connect(lambda running: self.save_button.setEnabled(not running))
        self.destroyed.connect(self.bar.runner.discard)
        stop_when_closed(self, self.bar)
        self._link_names()
        self._refresh()
        self.check(self._viewer.layers.selection or self._viewer.layers)

    def _build(self) -> None:
        self.list = QListWidget(self)
        self.list.setToolTip("Ticked layers are saved, each to a file of its own")
        self.format = QComboBox(self)
        # Its longest name would make the dock wide.
        self.format.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.format.setMinimumContentsLength(12)
        self.format.setToolTip("<qt>The format of images and labels. Points become a table of positions.</qt>")
        for suffix in formats():
            self.format.addItem(f"{_NAMES.get(suffix, suffix.lstrip('.').upper())} ({suffix})", suffix)
        self.format.setCurrentIndex(max(0, self.format.findData(DEFAULT)))
        all_button, selected_button = QPushButton("All", self), QPushButton("Selected", self)
        all_button.setToolTip("Tick every layer")
        selected_button.setToolTip("Tick what is selected in the layer list")
        all_button.clicked.connect(lambda: self.check(self._viewer.layers))
        selected_button.clicked.connect(lambda: self.check(self._viewer.layers.selection))
        self.save_button = QPushButton("Save...", self)
        self.save_button.setToolTip(
            f"Choose where to; nothing is replaced unasked ({KEY.replace('-', '+')} opens this)"
        )
        self.save_button.clicked.connect(self.save)
        text = QLabel("Voxels, place in the patient, names and colours of labels are kept.", self)
        text.setWordWrap(True)
        row = QHBoxLayout()
        row.addWidget(all_button)
        row.addWidget(selected_button)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Format", self.format)
        column = QVBoxLayout(self)
        for widget in (text, self.list):
            column.addWidget(widget)
        column.addLayout(row)
        column.addLayout(form)
        column.addWidget(self.save_button)
        column.addWidget(self.bar)

    # The list ---------------------------------------------------------------------------------------------------

    def _link_names(self, event=None) -> None:
        self._names.clear()
        for layer in self._viewer.layers:
            self._names.add(layer.events.name, self._refresh)

    def _refresh(self, event=None) -> None:
        ticked = {item.data(Qt.ItemDataRole.UserRole) for item in self._items() if _ticked(item)}
        self.list.clear()
        for layer in reversed(self._viewer.layers):
            if is_preview(layer):
                continue
            reason = cannot_be_saved(layer)
            item = QListWidgetItem(f"{layer.name}: {reason}" if reason else layer.name)
            item.setData(Qt.ItemDataRole.UserRole, str(layer.unique_id))
            if reason:
                item.setFlags(Qt.ItemFlag.NoItemFlags)
            else:
                item.setCheckState(_state(str(layer.unique_id) in ticked))
            self.list.addItem(item)

    def _items(self) -> list[QListWidgetItem]:
        return [self.list.item(i) for i in range(self.list.count())]

    def check(self, layers) -> None:
        """Tick these layers and no others."""
        keys = {str(layer.unique_id) for layer in layers}
        for item in self._items():
            if item.flags() & Qt.ItemFlag.ItemIsEnabled:
                item.setCheckState(_state(item.data(Qt.ItemDataRole.UserRole) in keys))

    @property
    def layers(self) -> list[Layer]:
        """The ticked layers, the lowest first."""
        keys = {item.data(Qt.ItemDataRole.UserRole) for item in self._items() if _ticked(item)}
        return [layer for layer in self._viewer.layers if str(layer.unique_id) in keys]

    # Saving -----------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Ask where to, and start."""
        layers = self.layers
        if not layers:
            self.bar.show_error("Nothing is ticked: tick the layers to save")
            return
        paths = self._ask_file(layers[0]) if len(layers) == 1 else self._ask_folder(layers)
        if paths:
            self.save_to(layers, paths)

    def _ask_file(self, layer: Layer) -> list[Path]:
        """Return the path for one layer; the dialog asks before it replaces a file."""
        first = suffix_for(layer, self.format.currentData())
        own = [first, *([] if first == TABLE else formats())]
        own = list(dict.fromkeys(suffix_for(layer, suffix) for suffix in own))
        patterns = [f"{_NAMES.get(s, 'Table of positions')} (*{s})" for s in own]
        start = _folder() / file_name(layer.name, own[0])
        name, chosen = QFileDialog.getSaveFileName(main_window(self._viewer), TITLE, str(start), ";;".join(patterns))
        if not name:
            return []
        path = Path(name)
        if any(path.name.lower().endswith(s) for s in own):
            return [path]
        suffix = chosen.rpartition("*")[2].rstrip(")")
        # "seeds.csv" was typed where "seeds.points.csv" is meant.
        path = path.with_name(path.name.removesuffix(Path(suffix).suffix) + suffix)
        return [path] if self._may_replace([path]) else []

    def _ask_folder(self, layers: list[Layer]) -> list[Path]:
        name = QFileDialog.getExistingDirectory(main_window(self._viewer), f"{TITLE}: folder", str(_folder()))
        if not name:
            return []
        paths = named(Path(name), layers, self.format.currentData())
        return paths if self._may_replace(paths) else []

    def _may_replace(self, paths: list[Path]) -> bool:
        try:
            may_replace(None, paths, self._viewer)
        except FileError as error:
            self.bar.show_error(str(error))
            return False
        return True

    def save_to(self, layers: Sequence[Layer], paths: Sequence[Path]) -> None:
        """Save each layer to its path, in the background; files there are replaced."""
        tasks, refused = [], []
        for layer, path in zip(layers, paths, strict=True):
            try:
                tasks.append(Task(path, saver(layer, self._viewer)))
            except LightboxError as error:
                refused.append(str(error))
        settings().setValue("save/folder", str(paths[0].parent))
        title = f"Saving {paths[0].name}" if len(paths) == 1 else f"Saving {len(paths)} files"
        self.bar.run(partial(_write_all, tasks, refused), title=title, on_done=self._report)

    def _report(self, outcome: tuple[list[Path], list[str]]) -> None:
        written, refused = outcome
        text = ""
        if written:
            text = f"Saved in {written[0].parent}: {', '.join(path.name for path in written)}"
        if refused:
            self.bar.show_error(
                f"{text}. Not saved: {'; '.join(refused)}" if text else f"Not saved: {'; '.join(refused)}"
            )
        else:
            self.bar.show_note(text)


def formats() -> list[str]:
    """Return the suffixes of formats that hold a volume, the usual one first."""
    known = [s for s in suffixes(write=True) if s not in PICTURES]
    return sorted(known, key=lambda s: s != DEFAULT)


def suffix_for(layer: Layer, suffix: str) -> str:
    """Return the suffix of a layer's file where `suffix` was chosen for all: points and pictures may have their own."""
    kind = layer_kind(layer)
    if kind == "points":
        return TABLE
    return ".nrrd" if suffix == SEGMENTATION and kind == "image" else suffix


def cannot_be_saved(layer: Layer) -> str:
    """Say in a few words why a layer holds nothing that a file of ours can; empty where it does."""
    kind = layer_kind(layer)
    if kind not in ("image", "labels", "points"):
        return f"{kind}, no volume"
    return "a colour picture, no volume" if getattr(layer, "rgb", False) else ""


def saver(layer: Layer, viewer) -> Callable[[Path], object]:
    """Return what writes a layer to a path; all that can change meanwhile is taken now.

    Raises
    ------
    InputError
        If the layer does not know its place.
    """
    if isinstance(plain(layer), Points):
        return partial(write_points, points_table(layer, viewer))
    return partial(_write_volume, volume_of(layer, viewer, assume=False))


def _write_volume(volume: Volume, path: Path) -> None:
    write(steady(volume), path)


def _write_all(tasks: list[Task], refused: list[str]) -> tuple[list[Path], list[str]]:
    """Write the files one after the other; runs in the background."""
    written, refused = [], list(refused)
    for task in track(tasks, "files"):
        try:
            task.save(task.path)
            written.append(task.path)
        except LightboxError as error:
            refused.append(str(error))
    return written, refused


def named(folder: Path, layers: Sequence[Layer], suffix: str) -> list[Path]:
    """Return a path in `folder` for each layer, named after it, no two alike."""
    found: list[Path] = []
    for layer in layers:
        own, count = suffix_for(layer, suffix), 1
        path = folder / file_name(layer.name, own)
        while str(path).lower() in {str(other).lower() for other in found}:
            count += 1
            path = folder / file_name(f"{layer.name} {count}", own)
        found.append(path)
    return found


def _folder() -> Path:
    stored = Path(str(settings().value("save/folder", "") or Path.home()))
    return stored if stored.is_dir() else Path.home()


def _state(ticked: bool) -> Qt.CheckState:
    return Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked


def _ticked(item: QListWidgetItem) -> bool:
    return item.checkState() == Qt.CheckState.Checked


def bind(viewer) -> None:
    """Let Ctrl+Shift+S open the dock; a second call changes nothing."""
    plain(viewer).bind_key(KEY, open_panel, overwrite=True)


def open_panel(viewer) -> None:
    """Save layers with their place in the patient."""
    viewer = plain(viewer)
    if main_window(viewer) is not None:
        viewer.window.add_plugin_dock_widget(PLUGIN, TITLE)
