"""The Probability dock: move a threshold and see mask, Dice and volume follow; curves tell which one to take."""

from functools import partial
from html import escape
from pathlib import Path

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QWidget

from ...apply import apply
from ...errors import InputError, LightboxError
from ...volume import Label, Volume
from ..adding import add_then_select
from ..appearance import label_colour
from ..capture import volume_of
from ..edits import note_edits
from ..jobbar import JobBar
from ..layers import difference, grids_match, layer_record, make_layer, plain, shown_grid
from . import _probability_counts as counting
from ._links import Links
from ._pane import Closing
from ._probability_counts import STEPS, Areas, Counts, Table
from ._probability_export import write
from ._probability_form import ALL_FRAMES, ANY, VALUES, is_uncertainty, lay_out
from ._probability_mask import LiveMask, prepare
from ._probability_plot import Line

# Milliseconds: changes in quick succession are taken together.
_SETTLE, _SETTLE_PAINT = 120, 500
# Bins of the histogram that is drawn.
_BARS = 50
_DOUBT = (
    "<b>This is an uncertainty, not the probability of a class:</b> the threshold marks where the model was undecided. "
    "Have the model run with a probability layer ticked for one.<br>"
)
_FOUND, _REST, _CURVE = "#ffb74d", "#90a4ae", "#4fc3f7"


class ProbabilityPanel(QWidget):
    """Dock that explores the probability of a class.

    Parameters
    ----------
    viewer : napari.Viewer
        Where layers are taken from, and the mask is shown.

    Notes
    -----
    All voxels are counted once, in the background; a move of the slider then reads one row of a table.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self.viewer = plain(viewer)
        self.setObjectName("lightbox-probability")
        self.bar = JobBar(viewer, self)
        self.counts: Counts | None = None
        self.table: Table | None = None
        self.areas: Areas | None = None
        self.step = STEPS // 2
        lay_out(self)
        self.mask = LiveMask(self.viewer, self)
        self._settle, self._areas_later = QTimer(self, singleShot=True), QTimer(self, singleShot=True, interval=300)
        self._settle.timeout.connect(self._count)
        self._areas_later.timeout.connect(self._work_out_areas)
        # What the counts are of: layers and classes.
        self._counted: tuple | None = None
        self._links, self._layer_links = Links(self), Links(self)
        self._connect()
        note_edits(self.viewer)
        Closing(self, self.viewer, partial(_shut, self.bar.runner, self.mask, (self._links, self._layer_links)))
        self._move(self.step)
        self._on_layers()

    def _connect(self) -> None:
        self.probability_box.layer_changed.connect(self._on_layers)
        self.reference_box.layer_changed.connect(self._on_reference)
        self.class_box.activated.connect(lambda _: self._later())
        self.class_box.lineEdit().editingFinished.connect(self._later)
        self.frame_box.currentIndexChanged.connect(lambda _: self._tabulate())
        self.slider.valueChanged.connect(self._move)
        self.spin.valueChanged.connect(lambda value: self._move(round(value * STEPS)))
        for plot in (self.histogram, self.roc, self.recall, self.reliability):
            plot.chosen.connect(lambda value: self._move(round(value * STEPS)))
        self.best_button.clicked.connect(self.best)
        self.half_button.clicked.connect(lambda: self._move(STEPS // 2))
        self.keep_button.clicked.connect(self.keep)
        self.export_button.clicked.connect(self._ask_export)
        self.bar.running_changed.connect(self._on_running)
        self._links.add(self.viewer.dims.events.point, self._on_frame)
        self._links.add(self.viewer.layers.events.removed, self._on_removed)

    # What is looked at ------------------------------------------------------------------------------------------

    def _on_layers(self) -> None:
        layer = self.probability_box.layer
        data = None if layer is None else layer.data
        self.form.setRowVisible(self.frame_box, data is not None and data.ndim == 4)
        self.form.setRowVisible(self.class_box, self.reference_box.layer is not None)
        self._guess_class()
        self._later()

    def _on_reference(self) -> None:
        self.class_box.clear()
        self.class_box.addItem(ANY, None)
        self._fill_classes(())
        self._on_layers()

    def _guess_class(self) -> None:
        """Choose the label of the reference that has the name of the probability's class."""
        name = self._class.name.casefold()
        for index in range(1, self.class_box.count()):
            if self.class_box.itemText(index).partition(" ")[2].casefold() == name:
                self.class_box.setCurrentIndex(index)

    def _fill_classes(self, values) -> None:
        """List labels by value and name: those found in the reference, or those that its table names."""
        record = None if self.reference_box.layer is None else layer_record(self.reference_box.layer)
        names = {} if record is None else {v: label.name for v, label in record["labels"].items() if v}
        text = self.class_box.currentText()
        self.class_box.blockSignals(True)
        self.class_box.clear()
        self.class_box.addItem(ANY, None)
        for value in values or names:
            self.class_box.addItem(f"{value} {names.get(value, '')}".strip(), (int(value),))
        index = self.class_box.findText(text)
        self.class_box.setCurrentIndex(max(index, 0))
        if index < 0:
            self.class_box.setEditText(text)
        self.class_box.blockSignals(False)

    @property
    def wanted(self) -> tuple[int, ...] | None:
        """The label values of the reference that are meant; None for any."""
        text = self.class_box.currentText()
        index = self.class_box.findText(text)
        return self.class_box.itemData(index) if index >= 0 else counting.parse_values(text)

    @property
    def _class(self) -> Label:
        """Name and colour of the class whose probability this is."""
        layer = self.probability_box.layer
        record = None if layer is None else layer_record(layer)
        known = list(record["labels"].items()) if record else []
        if len(known) != 1:
            return Label("found", _FOUND)
        value, label = known[0]
        return Label(label.name, label_colour(value, label) if value else _FOUND)

    @property
    def frame(self) -> int | None:
        """The frame that numbers are of; None for all of them."""
        layer = self.probability_box.layer
        if layer is None or layer.ndim < 4 or self.frame_box.currentText() == ALL_FRAMES:
            return None
        dims = self.viewer.dims
        place = layer.world_to_data(np.asarray(dims.point[dims.ndim - layer.ndim :], float))[0]
        return int(np.clip(round(float(place)), 0, layer.data.shape[0] - 1))

    # Counting ---------------------------------------------------------------------------------------------------

    def _later(self, milliseconds: int = _SETTLE) -> None:
        self._settle.start(milliseconds)

    def _count(self) -> None:
        """Count anew, in the background, if anything has changed."""
        if self.bar.running:
            # What runs is overtaken.
            self.bar.runner.cancel()
            self._later()
            return
        layer, reference = self.probability_box.layer, self.reference_box.layer
        try:
            wanted = self.wanted if reference is not None else None
            key = (layer, None if layer is None else id(layer.data), reference, wanted)
            if key == self._counted:
                return
            self._forget()
            if layer is None:
                return
            self._follow(layer, reference)
            job = self._job(layer, reference, wanted)
        except LightboxError as error:
            self._forget()
            self.bar.show_error(str(error))
            return
        self._counted = key
        self.bar.run(job, title=f"Counting {layer.name}", on_done=self._on_counts)

    def _job(self, layer, reference, wanted):
        if getattr(layer, "multiscale", False):
            raise InputError(f"{layer.name} has several scales: choose a layer with one")
        if reference is not None and not grids_match(layer, reference):
            raise InputError(
                f"{reference.name} lies on another grid than {layer.name} ({difference(layer, reference)}): bring it "
                "there with Resample"
            )
        labels = None if reference is None else _solid(reference.data)
        return partial(_counted, _solid(layer.data), labels, wanted, _voxel_ml(layer))

    def _follow(self, layer, reference) -> None:
        """Count again when voxels change."""
        self._layer_links.clear()
        for one in (layer, reference):
            for name in ("data", "paint", "labels_update"):
                if one is not None and hasattr(one.events, name):
                    self._layer_links.add(getattr(one.events, name), self._on_edited)

    def _on_edited(self, event=None) -> None:
        self._counted = None
        self._later(_SETTLE_PAINT)

    def _forget(self) -> None:
        self._counted = self.counts = self.table = self.areas = None
        self.bar.clear()
        for plot in (self.histogram, self.roc, self.recall, self.reliability):
            plot.show_lines(())
        self.figures.setText("")
        self._show_row()
        self._on_running(False)
        if self.mask.source is not self.probability_box.layer:
            self.mask.remove()

    def _on_counts(self, counts: Counts) -> None:
        self.counts = counts
        self._fill_classes(counts.values)
        self._tabulate()
        self._draw_mask()

    def _tabulate(self) -> None:
        """Show the counts of the frames chosen."""
        self._on_running(self.bar.running)
        if self.counts is None:
            return
        self.table, self.areas = self.counts.of(self.frame).table(), None
        self._draw_curves()
        self._show_row()
        self._show_figures()
        if self.table.counts.referenced:
            self._areas_later.start()

    def _on_frame(self, event=None) -> None:
        if self.counts is not None and len(self.counts.inside) > 1 and self.frame is not None:
            self._tabulate()

    def _work_out_areas(self) -> None:
        if self.bar.running:
            self._areas_later.start()
            return
        layer, reference, frame, table = self.probability_box.layer, self.reference_box.layer, self.frame, self.table
        if table is None or layer is None or reference is None or self._settle.isActive():
            return
        wanted = self._counted[-1] if self._counted else None
        job = partial(_areas, table, _solid(layer.data), _solid(reference.data), wanted, frame)
        self.bar.run(job, title="Areas under the curves", on_done=partial(self._on_areas, table))

    def _on_areas(self, table: Table, areas: Areas) -> None:
        if table is self.table:
            self.areas = areas
            self._show_figures()

    # The threshold ----------------------------------------------------------------------------------------------

    @property
    def threshold(self) -> float:
        """The threshold."""
        return self.step / STEPS

    def _move(self, step: int) -> None:
        """Go to a threshold: everything in the dock follows, and the mask."""
        self.step = min(STEPS, max(0, int(step)))
        for widget, value in ((self.slider, self.step), (self.spin, self.step / STEPS)):
            widget.blockSignals(True)
            widget.setValue(value)
            widget.blockSignals(False)
        self._show_row()
        self._draw_mask()

    def best(self) -> None:
        """Go to the threshold with the largest Dice."""
        try:
            if self.table is None:
                raise InputError("there are no counts yet: choose a probability and a reference")
            self._move(self.table.best_dice())
        except LightboxError as error:
            self.bar.show_error(str(error))

    def _draw_mask(self) -> None:
        layer = self.probability_box.layer
        if self.counts is not None and layer is not None:
            self.mask.show(layer, self.threshold, self._class.colour or _FOUND)

    def _show_row(self) -> None:
        """Show what the threshold gives."""
        if self.table is None:
            for label in self.values.values():
                label.setText("")
            self.reference_volume.setText("")
            return
        row = self.table.row(self.step)
        for _, name, _ in VALUES:
            value = getattr(row, name)
            number = "-" if np.isnan(value) else f"{value:.4f}"
            self.values[name].setText(_ml(value) if name == "volume_ml" else number)
        self.histogram.show_mark(self.threshold, 1.0)
        fall_out = float(self.table.fall_out[self.step])
        self.roc.show_mark(fall_out, row.sensitivity)
        self.recall.show_mark(row.sensitivity, row.precision)
        if self.table.counts.referenced:
            _, said, true = self._reliable
            bin_ = min(self.step * counting.RELIABILITY // STEPS, counting.RELIABILITY - 1)
            self.reliability.show_mark(float(said[bin_]), float(true[bin_]))

    def _draw_curves(self) -> None:
        table, counts, at = self.table, self.table.counts, counting.thresholds()
        # In wider bins: single voxels would make a hedge of it.
        bins = _BARS
        start = np.arange(bins) * (STEPS // bins)
        lines = []
        groups = ((counts.inside, "reference", _FOUND), (counts.outside, "rest", _REST))
        for part, name, colour in groups if counts.referenced else ((counts.outside, "all voxels", _REST),):
            total = np.add.reduceat(part.sum(axis=0), start)
            edges = np.repeat(np.arange(bins + 1) / bins, 2)[1:-1]
            lines.append(Line(name, colour, edges, np.repeat(total, 2), edges))
        self.histogram.show_lines(lines)
        if not counts.referenced:
            return
        self._reliable = total, said, true = table.reliability()
        # Nothing is found above 1.
        ends = np.append(at, 1.0)
        self.roc.show_lines([Line("ROC", _CURVE, np.append(table.fall_out, 0), np.append(table.sensitivity, 0), ends)])
        self.recall.show_lines([Line("precision", _CURVE, table.sensitivity, table.precision, at)])
        there = total > 0
        middle = (np.arange(counting.RELIABILITY) + 0.5) / counting.RELIABILITY
        self.reliability.show_lines([Line("share", _CURVE, said[there], true[there], middle[there], dots=True)])

    def _show_figures(self) -> None:
        table = self.table
        doubt = _DOUBT if is_uncertainty(self.probability_box.layer) else ""
        if not table.counts.referenced:
            self.figures.setText(f"{doubt}Without a reference there is only volume and histogram.")
            return
        self.reference_volume.setText(f"Reference: {_ml(table.reference_ml)}")
        brier, ece = f"{table.brier():.3g}", f"{table.ece():.3g} ({counting.RELIABILITY} bins)"
        text = "AUC and AP follow \u2026"
        if self.areas is not None:
            about = "" if self.areas.exact else " (from the thresholds)"
            text = f"<b>AUC</b> {_number(self.areas.auc)} &nbsp; <b>AP</b> {_number(self.areas.precision)}{about}"
        self.figures.setText(f"{doubt}{text} &nbsp; <b>Brier</b> {brier} &nbsp; <b>ECE</b> {escape(ece)}")

    def _on_running(self, running: bool) -> None:
        ready = self.counts is not None and not running
        self.keep_button.setEnabled(ready)
        self.export_button.setEnabled(self.counts is not None)
        self.half_button.setEnabled(self.counts is not None)
        self.best_button.setEnabled(self.counts is not None and self.counts.referenced)

    def _on_removed(self, event) -> None:
        """Forget the mask where it was deleted by hand; the next move of the slider brings it back."""
        if event.value is self.mask.layer or event.value is self.mask.source:
            self.mask.remove()

    # What stays -------------------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Make a Labels layer of what is at or above the threshold."""
        layer = self.probability_box.layer
        if layer is None or self.bar.running:
            return
        try:
            volume = volume_of(layer, self.viewer)
        except LightboxError as error:
            self.bar.show_error(str(error))
            return
        job = partial(_kept, volume, self.threshold, self._class)
        self.bar.run(job, title=f"Threshold of {layer.name}", on_done=self._on_kept)

    def _on_kept(self, made) -> None:
        # It shows the same voxels; the next move of the slider brings the mask back.
        self.mask.remove()
        add_then_select(self.viewer, made)
        self.bar.show_note(f"{made.name} is a layer of its own now, with the step in its history")

    def _ask_export(self) -> None:
        layer = self.probability_box.layer
        name = f"{'probability' if layer is None else layer.name}_curves.csv".replace("/", "-").replace(" ", "-")
        path, _ = QFileDialog.getSaveFileName(self, "Write the curves", name, "Table (*.csv);;With figures (*.json)")
        if path:
            self.export(path)

    def export(self, path: str | Path) -> None:
        """Write the curves as .csv or .json, as the name ends; without an ending .csv."""
        if self.table is None:
            return
        reference = self.reference_box.layer
        referenced = self.table.counts.referenced and reference is not None
        about = {
            "probability": self.probability_box.layer.name,
            "reference": reference.name if referenced else None,
            "classes": list(self.wanted) if referenced and self.wanted is not None else None,
            "frame": self.frame,
            "frames": self.table.frames,
            "threshold": self.threshold,
        }
        try:
            written = write(path, self.table, self.areas, about)
        except LightboxError as error:
            self.bar.show_error(str(error))
            return
        self.bar.show_note(f"written: {written}")


def _counted(*arguments) -> Counts:
    """Count, and make ready what the mask will need; runs in the background."""
    prepare()
    return counting.count(*arguments)


def _kept(volume: Volume, threshold: float, label: Label):
    """Apply the threshold and prepare the layer; runs in the background."""
    found = apply("threshold", volume, low=threshold)
    name = f"{volume.name} \u2265 {threshold:.3f}"
    return make_layer(found.replace(name=name, labels={1: label}))


def _areas(table: Table, probability: np.ndarray, labels: np.ndarray, wanted, frame: int | None) -> Areas:
    if frame is not None:
        probability = probability[frame]
        labels = labels if labels.ndim == 3 else labels[frame]
    if probability.size > counting.SORTED:
        return counting.areas(table, probability, None)
    inside = counting.meant(np.asarray(labels), wanted)
    return counting.areas(table, np.asarray(probability), np.broadcast_to(inside, probability.shape))


def _solid(data):
    """Return three axes for a picture of two."""
    return data[None] if data.ndim == 2 else data


def _voxel_ml(layer) -> float:
    grid = shown_grid(layer)
    volume = float(np.prod(np.abs(layer.scale[-3:]))) if grid is None else grid.voxel_volume
    return volume / 1000


def _ml(value: float) -> str:
    return f"{value:.0f} ml" if value >= 1000 else f"{value:.3g} ml" if value < 100 else f"{value:.1f} ml"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4f}"


def _shut(runner, mask: LiveMask, links: tuple[Links, ...], gone: bool) -> None:
    """Release everything that the dock holds; a second call changes nothing."""
    runner.discard()
    mask.runner.discard()
    for one in (*links, mask.links):
        one.clear()
    if not gone:
        mask.remove()
