"""The dock that says of every label how large it is, in ml, and what grey values lie under it."""

from dataclasses import replace
from functools import partial

import napari
import numpy as np
from qtpy.QtCore import QSortFilterProxyModel, Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from ...errors import InputError, LightboxError
from ...volume import Label
from .. import appearance
from ..choosers import LayerChooser
from ..edits import note_edits
from ..layers import difference, layer_kind, layer_record, layer_to_volume, plain, shown_grid, was_moved
from ..runner import Job, notify_error, run
from ..windowing import can_window, unit_of
from ._folding_table import FoldingTable
from ._label_rows import KEYS, SORT, LabelRows, Work, fullest_point, write_csv
from ._links import Links

# Milliseconds without a change before labels are measured again: the time between two strokes.
_PAUSE = 400
# Columns that give way where the dock is narrow, the first one first; the tooltip of a row has them all.
_FOLDING = ("voxels", "sd", "mean")
SHOWN, ALL = "frame shown", "all frames"


class LabelsTable(QWidget):
    """Table of voxels, volume, mean and standard deviation of every label.

    It follows painting, frames and the chosen layers by itself, measures in the background, and draws in grey what is
    no longer current. A click on a row selects the label and shows where most of it is; names can be typed.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer that the dock belongs to.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = plain(viewer)
        note_edits(self._viewer)
        # What runs: "measure" and "jump". A dict of its own, as it must outlive the widget to be stopped.
        self._jobs: dict[str, Job] = {}
        self._undo = self._frames = None
        self.model = LabelRows(self._rename)
        self._timer = QTimer(self, singleShot=True, interval=_PAUSE)
        self._timer.timeout.connect(self.measure)
        self._build()
        self._links, self._layer_links = Links(self), Links(self)
        layers, dims = self._viewer.layers.events, self._viewer.dims.events
        for event in (layers.inserted, layers.removed):
            self._links.add(event, self._on_layers)
        for event in (dims.point, dims.current_step):
            self._links.add(event, self._on_frame)
        self.destroyed.connect(partial(_stop, self._jobs))
        self._on_layers()

    def _build(self) -> None:
        layout, form = QVBoxLayout(self), QFormLayout()
        self._form = form
        self.labels_box = LayerChooser(self._viewer, ("labels",))
        self.image_box = LayerChooser(self._viewer, ("image",), optional=True)
        self.frames_box = QComboBox()
        self.labels_box.setToolTip("Labels to measure")
        self.image_box.setToolTip("Image whose values are averaged under each label")
        self.frames_box.setToolTip("Of a 4D volume: measure the frame on screen, or every frame")
        self.frames_box.addItems([SHOWN, ALL])
        for name, box in (("Labels", self.labels_box), ("Image", self.image_box), ("Measure", self.frames_box)):
            form.addRow(name, box)
        self.labels_box.layer_changed.connect(self._on_labels)
        self.image_box.layer_changed.connect(self._on_choice)
        self.frames_box.currentIndexChanged.connect(self._on_choice)
        layout.addLayout(form)
        self._sorted = QSortFilterProxyModel(self)
        self._sorted.setSourceModel(self.model)
        self._sorted.setSortRole(SORT)
        self.table = FoldingTable(KEYS.index("name"), tuple(KEYS.index(key) for key in _FOLDING))
        self.table.setModel(self._sorted)
        self.table.setSortingEnabled(True)
        self.table.sortByColumn(KEYS.index("label"), Qt.SortOrder.AscendingOrder)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.verticalHeader().hide()
        self.table.setMinimumHeight(160)
        self.table.clicked.connect(self._on_click)
        layout.addWidget(self.table, 1)
        self.note = QLabel()
        self.note.setWordWrap(True)
        # Long names of layers in it do not widen the dock.
        self.note.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        row = QHBoxLayout()
        row.addWidget(self.note, 1)
        self.export_button = QPushButton("Export CSV\u2026")
        self.export_button.clicked.connect(self._ask_export)
        row.addWidget(self.export_button)
        layout.addLayout(row)

    # Layers -----------------------------------------------------------------------------------------------------

    @property
    def labels(self):
        """The Labels layer that is measured, or None."""
        return self.labels_box.layer

    @property
    def image(self):
        """The Image layer whose values are averaged, or None."""
        return self.image_box.layer

    def _on_layers(self, event=None) -> None:
        self._layer_links.clear()
        for layer in self._viewer.layers:
            kind = layer_kind(layer)
            if kind not in ("image", "labels"):
                continue
            names = ["data", "scale", "translate", "rotate", "shear", "affine"]
            for name in names + (["paint", "labels_update"] if kind == "labels" else []):
                self._layer_links.add(getattr(layer.events, name), self._on_data)
            if kind == "labels":
                self._layer_links.add(layer.events.set_data, self._on_set_data)
                for name in ("colormap", "selected_label"):
                    self._layer_links.add(getattr(layer.events, name), self._on_style)
        if event is not None and event.type == "inserted" and layer_kind(event.value) == "labels":
            self.labels_box.choose(event.value)
        self._on_labels()

    def _on_labels(self) -> None:
        """Take the image that lies on the chosen labels, unless one is chosen."""
        if self.labels is not None and self.image is None:
            images = [layer for layer in self._viewer.layers if can_window(layer)]
            fitting = _fitting(self.labels, images)
            if fitting is not None:
                self.image_box.choose(fitting)
        self._on_choice()

    def _on_choice(self, *_) -> None:
        four = any(_has_frames(layer) for layer in (self.labels, self.image))
        self.frames_box.setEnabled(four)
        self._form.setRowVisible(self.frames_box, four)
        self.table.setColumnHidden(KEYS.index("frame"), not (four and self.frames_box.currentText() == ALL))
        self._undo = _undo_state(self.labels)
        self._outdated(wait=0)

    # What makes the table stale ---------------------------------------------------------------------------------

    def _on_data(self, event=None) -> None:
        if event is None or event.source is self.labels or event.source is self.image:
            self._outdated()

    def _on_set_data(self, event) -> None:
        # Undo and redo say no more than this, and every move to another slice says the same.
        if event.source is self.labels and _undo_state(self.labels) != self._undo:
            self._undo = _undo_state(self.labels)
            self._outdated()

    def _on_frame(self, event=None) -> None:
        if self.labels is not None and self.frames_box.currentText() == SHOWN and self._frames_now() != self._frames:
            self._outdated()

    def _on_style(self, event=None) -> None:
        if self.labels is None or event.source is not self.labels:
            return
        self.model.restyle(self._colour, self._name)
        self._show_selected()

    def _outdated(self, wait: int = _PAUSE) -> None:
        """Stop what is being measured, show that the rows are old, and measure again after a pause."""
        self._stop("measure")
        self.model.set_stale()
        self.export_button.setEnabled(False)
        self._timer.start(wait)

    def _stop(self, name: str) -> None:
        job = self._jobs.pop(name, None)
        if job is not None:
            job.discard()

    def showEvent(self, event) -> None:  # noqa: N802 - Qt's name
        """Measure what has changed while the dock was hidden."""
        super().showEvent(event)
        if self.model.stale:
            self._timer.start(0)

    # Measuring --------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether the rows are not current yet."""
        return self._timer.isActive() or "measure" in self._jobs

    def measure(self) -> None:
        """Measure the chosen layers in the background and show the rows."""
        if self.window().isVisible() and not self.isVisible():
            return  # behind another dock: showEvent comes back to it
        self._timer.stop()
        self._stop("measure")
        if self.labels is None:
            self.model.show([])
            self.note.setText(
                "Add or choose a Labels layer. Labels that came as an image: right-click it in the layer list, "
                "Convert to Labels."
            )
            return
        try:
            work, note = self._work()
        except LightboxError as error:
            self._failed(str(error))
            return
        labels, unit = self.labels, unit_of(self.image) if work.image is not None else ""
        self._frames = self._frames_now()
        self.note.setText("measuring \u2026")
        self._jobs["measure"] = run(
            work,
            title=f"Measuring {labels.name}",
            on_done=partial(self._done, unit, note),
            on_error=self._failed,
            on_progress=lambda text, _: self.note.setText(f"measuring: {text}"),
            viewer=self._viewer,
        )

    def _work(self) -> tuple[Work, str]:
        """Return what is to be measured, and what the user must know of it."""
        labels, image, notes = self.labels, self.image, []
        volume = self._voxel_volume(labels, notes)
        area = None if volume is None else _pixel_area(shown_grid(labels))
        if image is not None:
            why = difference(labels, image)
            if why:
                notes.append(f"no mean: {image.name} lies on another grid ({why}); resample it onto the labels first")
                image = None
        elif any(can_window(layer) for layer in self._viewer.layers):
            notes.append("choose an image for mean and SD")
        frames = self._frames_now()
        if self.frames_box.currentText() == ALL and self.frames_box.isEnabled():
            counts = {_array(layer).shape[0] for layer in (labels, image) if _has_frames(layer)}
            if len(counts) > 1:
                raise InputError(f"{labels.name} and {image.name} have different numbers of frames: choose one of them")
            frames = [
                (i, *(i if _has_frames(layer) else None for layer in (labels, image))) for i in range(counts.pop())
            ]
            notes.insert(0, f"all {len(frames)} frames")
        elif self.frames_box.isEnabled():
            notes.insert(0, f"frame {frames[0][0] + 1}")
        if image is None:
            frames = [(frame, at, None) for frame, at, _ in frames]
        return Work(_array(labels), None if image is None else _array(image), frames, volume, area), "; ".join(notes)

    def _voxel_volume(self, labels, notes: list[str]) -> float | None:
        """Return mm3 a voxel by the true grid of the labels, or None with the reason in `notes`."""
        try:
            if layer_record(labels) is None:
                # Adopts the grid of the volume that labels made in napari lie on.
                layer_to_volume(labels, self._viewer.layers, copy=False)
            if was_moved(labels):
                notes.append("the transform of the labels was edited by hand: volumes are those of the file")
            record = layer_record(labels)
        except LightboxError as error:
            notes.append(f"no volumes: {error}")
            return None
        if record is None:
            notes.append("no volumes: the grid of the labels is not known")
            return None
        if not record["meta"].get("spacing_known", True):
            notes.append("no volumes: the voxel spacing is not known")
            return None
        return shown_grid(labels).voxel_volume

    def _frames_now(self) -> list[tuple[int, int | None, int | None]]:
        """Return the frame on screen: its number and its place in labels and image."""
        places = [_frame_of(layer, self._viewer) if layer is not None else None for layer in (self.labels, self.image)]
        return [(next((at for at in places if at is not None), 0), *places)]

    def _done(self, unit: str, note: str, rows: list[dict]) -> None:
        self._jobs.pop("measure", None)
        for row in rows:
            row["colour"], row["name"] = self._colour(row["label"]), self._name(row["label"])
        self.model.show(rows, unit, editable=layer_record(self.labels) is not None)
        self.note.setText("; ".join(text for text in (note, "" if rows else "no label is painted yet") if text))
        self.export_button.setEnabled(bool(rows))
        self._show_selected()

    def _failed(self, text: str) -> None:
        self._jobs.pop("measure", None)
        # No old rows under a new failure.
        self.model.show([])
        self.note.setText(text)

    # Names and colours ------------------------------------------------------------------------------------------

    def _name(self, value: int) -> str:
        record = layer_record(self.labels)
        label = record["labels"].get(value) if record else None
        return label.name if label is not None else ""

    def _colour(self, value: int) -> str | None:
        colour = self.labels.get_color(value)
        if colour is None:
            return None
        return "#" + "".join(f"{round(255 * float(part)):02x}" for part in colour[:3])

    def _rename(self, value: int, name: str) -> bool:
        record = layer_record(self.labels) if self.labels is not None else None
        if record is None:
            return False
        known = record["labels"].get(value)
        record["labels"][value] = replace(known, name=name) if known is not None else Label(name)
        # For what napari itself writes at the cursor.
        self.labels.features = appearance.label_features(record["labels"])
        self.model.restyle(self._colour, self._name)
        return True

    # Rows -------------------------------------------------------------------------------------------------------

    def _show_selected(self) -> None:
        value = self.labels.selected_label if self.labels is not None else None
        for index, row in enumerate(self.model.rows):
            if row["label"] == value:
                self.table.selectRow(self._sorted.mapFromSource(self.model.index(index, 0)).row())
                return
        self.table.clearSelection()

    def _on_click(self, index) -> None:
        row = self.model.rows[self._sorted.mapToSource(index).row()]
        layer = self.labels
        if layer is None:
            return
        layer.selected_label = row["label"]
        self._stop("jump")
        frame, data = row["frame"] if _has_frames(layer) else None, _array(layer)
        self._jobs["jump"] = run(
            partial(fullest_point, data if frame is None else data[frame], row["label"]),
            title=f"Looking for label {row['label']}",
            on_done=partial(self._go_to, layer, frame),
            viewer=self._viewer,
        )

    def _go_to(self, layer, frame: int | None, at: tuple[int, ...] | None) -> None:
        self._jobs.pop("jump", None)
        viewer = self._viewer
        if at is None or layer not in viewer.layers:
            return
        world = layer.data_to_world(at if frame is None else (frame, *at))
        axes = range(viewer.dims.ndim - layer.ndim, viewer.dims.ndim)
        viewer.dims.set_point(list(axes), [float(v) for v in world])
        if viewer.dims.ndisplay == 2:
            centre = np.array([viewer.dims.point[axis] for axis in viewer.dims.displayed])
            seen = np.array(viewer.canvas.size) / viewer.scene.camera.zoom / 2
            if (np.abs(centre - viewer.scene.camera.center[-2:]) > seen).any():
                viewer.scene.camera.center = (0.0, *centre)

    # Export -----------------------------------------------------------------------------------------------------

    def export(self, path) -> None:
        """Write the rows, in the order shown, as a CSV file with full precision.

        Parameters
        ----------
        path : path-like
            File to write; it appears whole or not at all.

        Raises
        ------
        InputError
            If the rows are not current.
        FileError
            If the file cannot be written.
        """
        if self.model.stale or not self.model.rows:
            raise InputError("there are no current rows to export: wait until the labels are measured")
        order = [self._sorted.mapToSource(self._sorted.index(i, 0)).row() for i in range(self._sorted.rowCount())]
        image = self.image.name if self.image is not None and self.model.rows[0]["mean"] is not None else ""
        rows = [self.model.rows[i] for i in order]
        write_csv(path, rows, unit=self.model.unit, labels=self.labels.name, image=image)

    def _ask_export(self) -> None:
        proposed = f"{self.labels.name}.csv" if self.labels is not None else "labels.csv"
        path, _ = QFileDialog.getSaveFileName(self, "Export label table", proposed, "Tables (*.csv)")
        if not path:
            return
        try:
            self.export(path)
        except LightboxError as error:
            notify_error(str(error))
        else:
            self._viewer.status = f"Wrote {path}"


def _stop(jobs: dict[str, Job], *_) -> None:
    for job in jobs.values():
        job.discard()


def _fitting(labels, images: list):
    """Return the topmost image on the grid of the labels, or None."""
    return next((image for image in reversed(images) if not difference(labels, image)), None)


def _pixel_area(grid) -> float | None:
    """Return mm2 a pixel of a single slice; None for volumes."""
    shape = grid.spatial_shape
    if 1 not in shape or max(shape) == 1:
        return None
    return grid.voxel_volume / grid.spacing[shape.index(1)]


def _array(layer):
    return layer.data[0] if layer.multiscale else layer.data


def _has_frames(layer) -> bool:
    return layer is not None and layer.ndim == 4


def _frame_of(layer, viewer) -> int | None:
    """Return the frame of a 4D layer that is on screen, clipped to those it has; None for a layer without frames."""
    if not _has_frames(layer):
        return None
    at = round(float(layer.world_to_data(np.asarray(viewer.dims.point, dtype=float))[0]))
    return min(max(at, 0), _array(layer).shape[0] - 1)


def _undo_state(layer) -> tuple[int, int]:
    """Return how many steps could be undone and redone."""
    return len(getattr(layer, "_undo_history", ())), len(getattr(layer, "_redo_history", ()))
