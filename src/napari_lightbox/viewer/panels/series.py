"""The dock that lists the DICOM series of a folder, with a picture of each, and opens those that are chosen."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import napari
import numpy as np
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ...errors import LightboxError
from ...io.series import SeriesInfo, list_series
from ...report import words
from ...volume import Volume
from ..jobbar import JobBar, stop_when_closed
from ..layers import plain
from ..masks import Shown, as_shown, read_onto, shown_images
from ..readers import open_volumes
from ..runner import Runner
from ._seriestext import lines, tip

_THUMBNAIL = 72
_ROLE = Qt.ItemDataRole.UserRole


class SeriesPanel(QWidget):
    """List of the series below a folder, by patient and study, from their headers alone.

    A double click, or *Open* for several chosen ones, loads the volumes in the background.

    Parameters
    ----------
    viewer : napari.Viewer
        Where opened series go.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = plain(viewer)
        self.found: list[SeriesInfo] = []
        self._pictures = pictures = _Pictures(self._viewer)
        self._build()
        self.setAcceptDrops(True)
        self.destroyed.connect(self.bar.runner.discard)
        # Not the bound method: Qt would keep only a weak hold of it.
        self.destroyed.connect(lambda *_: pictures.stop())
        stop_when_closed(self, self.bar, pictures.stop)

    def _build(self) -> None:
        self.folder_field = QLineEdit(self)
        self.folder_field.setPlaceholderText("Folder with DICOM files")
        self.folder_field.setToolTip(
            "Folder that is searched, with all folders in it; folders can also be dropped here"
        )
        self.folder_field.returnPressed.connect(lambda: self.show_folder(self.folder_field.text()))
        self.choose_button = QPushButton("Choose\u2026", self)
        self.choose_button.clicked.connect(self._choose)
        line = QHBoxLayout()
        line.addWidget(self.folder_field, 1)
        line.addWidget(self.choose_button)
        self.tree = QTreeWidget(self)
        self.tree.setHeaderHidden(True)
        self.tree.setIconSize(QSize(_THUMBNAIL, _THUMBNAIL))
        self.tree.setIndentation(10)
        self.tree.setWordWrap(True)
        self.tree.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        # Wide enough for a picture and a line with three sizes beside it.
        self.tree.setMinimumSize(330, 240)
        self.tree.itemSelectionChanged.connect(self._on_selection)
        self.tree.itemDoubleClicked.connect(lambda item, _: self._open_one(item))
        self.even_box = QCheckBox("Resample irregular stacks", self)
        self.even_box.setToolTip(
            "<qt>For series with a tilted gantry, uneven distances or missing slices: interpolate them linearly onto "
            "an even, right-angled grid. Slices that were missing are marked. Without it a tilted series keeps its "
            "sheared grid, and uneven ones are not opened.</qt>"
        )
        self.even_box.toggled.connect(self._on_selection)
        self.open_button = QPushButton("Open", self)
        self.open_button.clicked.connect(self.open_selected)
        self.bar = JobBar(self._viewer, self)
        self.bar.running_changed.connect(self._on_selection)
        box = QVBoxLayout(self)
        box.addLayout(line)
        box.addWidget(self.tree, 1)
        box.addWidget(self.even_box)
        box.addWidget(self.open_button)
        box.addWidget(self.bar)
        self._on_selection()

    # Listing ----------------------------------------------------------------------------------------------------

    def _choose(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder with DICOM files", self.folder_field.text())
        if name:
            self.show_folder(name)

    def show_folder(self, path: str | Path) -> None:
        """List the series below a folder (or in a file); the headers are read in the background."""
        text = str(path).strip()
        if not text:
            self.bar.show_error("No folder is given: type one or press Choose")
            return
        self.folder_field.setText(text)
        if self.bar.running:
            self.bar.show_error("A job is still running: wait for it or press Cancel first")
            return
        self.bar.run(partial(list_series, Path(text).expanduser()), title="Reading headers", on_done=self._show)

    def _show(self, found: Sequence[SeriesInfo]) -> None:
        self._pictures.start_anew()
        self.found = list(found)
        self.tree.clear()
        groups: dict[tuple, QTreeWidgetItem] = {}
        for info in self.found:
            key = (info.patient, info.study)
            if key not in groups:
                groups[key] = group = QTreeWidgetItem(self.tree, [_heading(info)])
                group.setFlags(Qt.ItemFlag.ItemIsEnabled)
                font = group.font(0)
                font.setBold(True)
                group.setFont(0, font)
                group.setExpanded(True)
            item = QTreeWidgetItem(groups[key], ["\n".join(lines(info))])
            item.setData(0, _ROLE, info)
            item.setToolTip(0, tip(info))
            item.setIcon(0, _icon(np.zeros((_THUMBNAIL, _THUMBNAIL), np.uint8)))
        openable = sum(info.problem is None for info in self.found)
        self.bar.show_note(f"{len(self.found)} series, {openable} of them ready to open")
        if len(self.found) == 1:
            self._items()[0].setSelected(True)
        self._draw_next(self._items())

    def _items(self) -> list[QTreeWidgetItem]:
        groups = [self.tree.topLevelItem(i) for i in range(self.tree.topLevelItemCount())]
        return [group.child(i) for group in groups for i in range(group.childCount())]

    def _draw_next(self, waiting: list[QTreeWidgetItem]) -> None:
        """Draw one thumbnail after the other: a folder may hold hundreds of series."""
        if not waiting or self._pictures.runner.closed:
            return
        item, info = waiting[0], waiting[0].data(0, _ROLE)
        self._pictures.runner.run(
            partial(_picture, info),
            title=f"Picture of {info.description}",
            on_done=lambda picture: item.setIcon(0, _icon(picture)) if picture is not None else None,
            on_error=lambda _: None,  # a series without a picture can still be opened
            on_end=partial(self._draw_next, waiting[1:]),
        )

    # Opening ----------------------------------------------------------------------------------------------------

    def _selected(self) -> list[SeriesInfo]:
        return [item.data(0, _ROLE) for item in self.tree.selectedItems() if item.data(0, _ROLE) is not None]

    def _on_selection(self, *_) -> None:
        count = len(self._selected())
        self.open_button.setText(f"Open {count} series" if count > 1 else "Open")
        self.open_button.setEnabled(bool(count) and not self.bar.running)

    def _open_one(self, item: QTreeWidgetItem) -> None:
        info = item.data(0, _ROLE)
        if info is not None:
            self._open([info])

    def open_selected(self) -> None:
        """Open the chosen series."""
        self._open(self._selected())

    def _open(self, chosen: list[SeriesInfo]) -> None:
        if not chosen:
            self.bar.show_error("No series is chosen: click one in the list first")
            return
        even = self.even_box.isChecked()
        bad = next((i for i in chosen if i.problem is not None and not (even and i.remedy_even)), None)
        if bad is not None:
            remedy = ", or tick 'Resample irregular stacks' to open it" if bad.remedy_even else ""
            self.bar.show_error(f"{bad.problem}{remedy}")
            return
        name = chosen[0].description if len(chosen) == 1 else f"{len(chosen)} series"
        load = partial(_load, chosen, even, shown_images(self._viewer))
        open_volumes(self._viewer, load, name, start=self.bar.run, on_done=self._opened)

    def _opened(self, layers: list) -> None:
        self.bar.show_note(f"{', '.join(layer.name for layer in layers)}: open")

    # Dropping ---------------------------------------------------------------------------------------------------

    def dragEnterEvent(self, event) -> None:  # noqa: N802 - Qt's name
        """Accept files and folders."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event) -> None:  # noqa: N802 - Qt's name
        """List the first file or folder dropped here."""
        names = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        if names:
            event.acceptProposedAction()
            self.show_folder(names[0])


class _Pictures:
    """The runner that draws the thumbnails of the list as it stands; another list gets another one."""

    def __init__(self, viewer) -> None:
        self._viewer = viewer
        self.runner = Runner(viewer)

    def stop(self) -> None:
        """Draw no more of them."""
        self.runner.discard()

    def start_anew(self) -> None:
        """Drop what is left of the old list."""
        self.stop()
        self.runner = Runner(self._viewer)


def _load(chosen: list[SeriesInfo], even: bool, shown: list[Shown]) -> list[Volume]:
    """Load images first, so that segmentations and contours come onto theirs."""
    images = [volume for info in chosen if info.kind != "labels" for volume in info.load(even=even)]
    known = [*map(as_shown, images), *shown]
    masks = [volume for info in chosen if info.kind == "labels" for volume in read_onto(info.files[0], known) or ()]
    return [*images, *masks]


def _picture(info: SeriesInfo) -> np.ndarray | None:
    try:
        return info.thumbnail(size=_THUMBNAIL)
    except LightboxError:
        # The list says already what is wrong with the series, or opening it will.
        return None


def _icon(picture: np.ndarray) -> QIcon:
    picture = np.ascontiguousarray(picture)
    height, width = picture.shape
    image = QImage(picture.data, width, height, width, QImage.Format.Format_Grayscale8)
    return QIcon(QPixmap.fromImage(image))


def _heading(info: SeriesInfo) -> str:
    who = info.patient.name or info.patient.id or "no patient name"
    when = words.study(info.study.date, info.study.description)
    return f"{who} \u2013 {when}" if when else who
