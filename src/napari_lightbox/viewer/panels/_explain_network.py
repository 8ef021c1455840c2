"""The tab "Network" of the Explain dock: layers, feature maps, first kernels, and how far the network sees."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from napari.layers import Layer as NapariLayer
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSpinBox,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ...errors import InputError, LightboxError
from ...models import ReceptiveField, features, frequency_response, kernel_picture, kernels, layers, load, seen_from
from ...models.card import Card
from ...models.looked import field_of, reach
from ...models.plan import make_plan, options_for
from ...volume import Volume
from ..layers import layer_record, make_layer, true_position
from ._dock_parts import text_label
from ._explain_case import Case

_ROW = 20
_ACROSS, _GAP = 8, 2
_CELL = 34
_BOUND, _EFFECTIVE = "#f0e442", "#e69f00"


@dataclass(frozen=True)
class Looked:
    """What is known of a network: its layers and first kernels (None where it has no convolution)."""

    model: str
    rows: list
    kernels: np.ndarray | None
    pictures: tuple[Volume, ...] = ()


def look(model: str) -> Looked:
    """List the layers and take the kernels; in the background."""
    opened = load(model)
    rows = layers(opened)
    try:
        first = kernels(opened)
    except InputError:
        return Looked(model, rows, None)
    return Looked(model, rows, first, (kernel_picture(opened), kernel_picture(opened, response=True)))


@dataclass(frozen=True)
class Featured:
    """Feature maps of a layer, the most active first, and their layers, the most active last, which lies on top."""

    volumes: tuple[Volume, ...]
    layers: tuple[NapariLayer, ...]


def show_features(case: Case, layer: str, most: int, frame: int) -> Featured:
    """Make the feature maps of a layer, as layers of which the most active is the one seen; in the background."""
    found = features(list(case.volumes), load(case.model), layer, most=most, frame=frame)
    made = tuple(_feature_layer(one, number == 0) for number, one in reversed(list(enumerate(found))))
    return Featured(tuple(found), made)


def _feature_layer(volume: Volume, visible: bool) -> NapariLayer:
    return make_layer(volume, colormap="viridis", visible=visible)


def work_out(case: Case, layer: str | None) -> ReceptiveField:
    """Work out how far a layer sees; in the background."""
    return field_of(case.volumes, load(case.model), layer)[0]


def mark(case: Case, layer: str | None, point: tuple[float, ...]) -> tuple[Volume, NapariLayer]:
    """Mark what a layer sees from a place, as labels; in the background."""
    found = seen_from(list(case.volumes), load(case.model), point, layer)
    return found, make_layer(found)


# Pictures of kernels ----------------------------------------------------------------------------------------------


def mosaic(kernels: np.ndarray, *, signed: bool) -> np.ndarray:
    """Return kernels side by side as grey levels: (rows, columns) uint8, of the first input channel.

    The middle slice of those with three axes. `signed`: 0 is grey and all have one scale; otherwise each its own, from
    black.
    """
    flat = kernels[:, 0]
    flat = flat[:, flat.shape[1] // 2] if flat.ndim == 4 else flat
    count, height, width = flat.shape
    rows = -(-count // _ACROSS)
    scale = max(1, _CELL // max(height, width))
    cell = (height * scale + _GAP, width * scale + _GAP)
    found = np.full((rows * cell[0], min(count, _ACROSS) * cell[1]), 40, np.uint8)
    most = float(np.abs(flat).max()) or 1.0
    for number, one in enumerate(flat):
        own = float(one.max()) or 1.0
        grey = 127.5 + 127.5 * one / most if signed else 255 * one / own
        row, column = divmod(number, _ACROSS)
        big = np.kron(np.clip(grey, 0, 255), np.ones((scale, scale))).round().astype(np.uint8)
        top, left = row * cell[0], column * cell[1]
        found[top : top + big.shape[0], left : left + big.shape[1]] = big
    return found


def _pixmap(grey: np.ndarray) -> QPixmap:
    grey = np.ascontiguousarray(grey)
    height, width = grey.shape
    # A copy, as Qt does not keep the array.
    return QPixmap.fromImage(QImage(grey.data, width, height, width, QImage.Format.Format_Grayscale8).copy())


# The box at the cursor ---------------------------------------------------------------------------------------------


def shown_reach(field: ReceptiveField, which: str, card: Card, volume: Volume, layer: NapariLayer) -> np.ndarray:
    """Return how far a receptive field goes before and after a voxel, in voxels of a layer's data: (3, 2)."""
    plan, record = make_plan([volume], card, options_for(card)), layer_record(layer)
    stored = reach(field, which, plan)
    # The layer may have other axes first than the file, and turned ones.
    rows = [stored[axis, ::-1] if flip else stored[axis]
            for axis, flip in zip(record["order"], record["flips"], strict=True)]  # fmt: skip
    return np.array(rows)


def rectangles(voxel: np.ndarray, around: np.ndarray, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Return the box about a voxel as rectangles, one in each plane through it: (4, axes) corners each.

    They end with the image of this shape, as the sliders and the view follow all that is drawn; where the image has
    one slice only, it is the one plane.
    """
    last = np.asarray(shape[-3:]) - 1
    voxel = np.clip(voxel, 0, np.asarray(shape) - 1)
    low, high = (np.clip(end, 0, last) for end in (voxel[-3:] - around[:, 0], voxel[-3:] + around[:, 1]))
    found = []
    for across in range(3):
        a, b = (axis for axis in range(3) if axis != across)
        if min(last[a], last[b]) == 0:
            continue
        corners = np.tile(np.asarray(voxel, float), (4, 1))
        lead = corners.shape[1] - 3
        corners[:, lead + a] = (low[a], low[a], high[a], high[a])
        corners[:, lead + b] = (low[b], high[b], high[b], low[b])
        found.append(corners)
    return found


class NetworkTab(QWidget):
    """The network of the case that the dock is about, looked into.

    Parameters
    ----------
    dock : ExplainPanel
        Has ``case``, ``bar``, ``viewer`` and ``start``.
    """

    def __init__(self, dock) -> None:
        super().__init__()
        self.dock = dock
        self.looked: Looked | None = None
        self.field: ReceptiveField | None = None
        self.shapes: NapariLayer | None = None
        self._around: tuple[np.ndarray, np.ndarray] | None = None
        self._lay_out()
        self.look_button.clicked.connect(self.look)
        self.features_button.clicked.connect(self.show_features)
        self.field_button.toggled.connect(self._on_field)
        self.keep_button.clicked.connect(self.keep)
        self.kernels_button.clicked.connect(self.add_kernels)
        self.table.itemSelectionChanged.connect(self._enable)
        self.dock.case.changed.connect(self._on_case)
        self._enable()

    def _lay_out(self) -> None:
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 6, 0, 0)
        self.look_button = QPushButton("Look into the network", self)
        self.look_button.setToolTip("List its layers, and show the kernels of its first convolution")
        box.addWidget(self.look_button)
        self.table = QTableWidget(0, 3, self)
        self.table.setHorizontalHeaderLabels(["Layer", "Kind", "Shape"])
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.horizontalHeader().setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(_ROW)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setMinimumHeight(_ROW * 7)
        box.addWidget(self.table)
        self.features_button = QPushButton("Feature maps", self)
        self.features_button.setToolTip("<qt>Add the most active channels of the chosen layer as layers</qt>")
        self.most_box = QSpinBox(self)
        self.most_box.setRange(1, 64)
        self.most_box.setValue(4)
        self.most_box.setToolTip("How many channels, the most active first")
        self.field_button = QPushButton("Receptive field", self)
        self.field_button.setCheckable(True)
        self.field_button.setToolTip(
            "<qt>Draw at the cursor what the chosen layer (the answer, where none is chosen) can see: yellow by the "
            "network's structure, orange where it matters in effect</qt>"
        )
        self.keep_button = QPushButton("Keep", self)
        self.keep_button.setToolTip(
            "<qt>Keep what is drawn as a layer of labels about the place that the slices go through, with the step "
            "that makes it again</qt>"
        )
        # Two rows, so that the dock may stay narrow.
        for first, second, share in (
            (self.features_button, self.most_box, 0),
            (self.field_button, self.keep_button, 1),
        ):
            row = QHBoxLayout()
            row.addWidget(first, 1)
            row.addWidget(second, share)
            box.addLayout(row)
        self.about = text_label(self)
        box.addWidget(self.about)
        self.pictures = [QLabel("", self) for _ in range(2)]
        self.captions = [text_label(self) for _ in range(2)]
        for caption, picture in zip(self.captions, self.pictures, strict=True):
            box.addWidget(caption)
            picture.setAlignment(Qt.AlignmentFlag.AlignLeft)
            box.addWidget(picture)
        self.kernels_button = QPushButton("Kernels as layers", self)
        self.kernels_button.setToolTip("Add the kernels and their frequency response as images")
        box.addWidget(self.kernels_button)
        box.addStretch(1)

    @property
    def chosen(self) -> str | None:
        """Name of the chosen layer."""
        rows = self.table.selectionModel().selectedRows() if self.looked else []
        return self.looked.rows[rows[0].row()].name if rows else None

    def _enable(self) -> None:
        self.features_button.setEnabled(self.chosen is not None)
        self.keep_button.setEnabled(self.shapes is not None)
        self.kernels_button.setVisible(self.looked is not None and bool(self.looked.pictures))

    def _on_case(self) -> None:
        if self.looked is not None and self.dock.case.model_box.currentData() != self.looked.model:
            self.looked = None
            self.table.setRowCount(0)
            self.about.setText("")
            for label in (*self.pictures, *self.captions):
                label.clear()
        if self.field_button.isChecked():
            self.field_button.setChecked(False)
        self._enable()

    # Layers and kernels ---------------------------------------------------------------------------------------------

    def look(self) -> None:
        """List the layers, in the background."""
        model = self.dock.case.model_box.currentData()
        if model is None:
            self.dock.bar.show_error("no model is chosen: pick one from the list, or the folder of another")
            return
        self.dock.start(partial(look, model), "Looking into the network", self._looked, self.look)

    def _looked(self, found: Looked) -> None:
        self.looked = found
        self.table.setRowCount(len(found.rows))
        for number, row in enumerate(found.rows):
            shape = " x ".join(map(str, row.shape))
            for column, text in enumerate((row.name, row.kind, shape)):
                item = QTableWidgetItem(text)
                item.setToolTip(f"{row.name}: {row.parameters} learned numbers")
                self.table.setItem(number, column, item)
        window = " x ".join(map(str, found.rows[0].window))
        self.about.setText(f"{len(found.rows)} layers; shapes (channels, then array order) for a window of {window}")
        if found.kernels is not None:
            self._show_kernels(found.kernels)
            self.dock.findings.keep_network(f"First kernels of {self.dock.case.card.name}", found.pictures)
        self._enable()

    def _show_kernels(self, found: np.ndarray) -> None:
        where = "" if found.ndim == 4 else ", middle slice"
        self.captions[0].setText(f"<b>First kernels</b> ({found.shape[0]}{where}): dark −, bright +")
        self.pictures[0].setPixmap(_pixmap(mosaic(found, signed=True)))
        size = max(_CELL - _CELL % 2, *found.shape[2:])
        self.captions[1].setText("<b>Their frequency response</b>: middle 0, edge half a cycle a voxel")
        self.pictures[1].setPixmap(_pixmap(mosaic(frequency_response(found, size), signed=False)))

    # Feature maps ---------------------------------------------------------------------------------------------------

    def show_features(self) -> None:
        """Add the most active feature maps of the chosen layer, in the background."""
        layer = self.chosen
        if layer is None:
            return
        try:
            case = self.dock.case.take()
        except LightboxError as error:
            self.dock.bar.show_error(str(error))
            return
        frame = shown_frame(self.dock, case)
        work = partial(show_features, case, layer, self.most_box.value(), frame)
        self.dock.start(work, f"Features of {layer}", self._features, self.show_features)

    def _features(self, made: Featured) -> None:
        layer = made.volumes[0].history[-1]["parameters"]["layer"]
        self.dock.findings.keep_network(f"Feature maps of {layer}", made.volumes)
        note = f"{len(made.layers)} feature maps, the most active on top: click an eye to see another"
        self.dock.add(made.layers, note, covers=True)

    def add_kernels(self) -> None:
        """Add the kernels and their frequency response as images."""
        if self.looked is not None and self.looked.pictures:
            made = tuple(make_layer(one, visible=number == 0) for number, one in enumerate(self.looked.pictures))
            self.dock.add(made, "kernels lie on no patient grid: click the eyes of other layers to see them alone")

    # Receptive field --------------------------------------------------------------------------------------------------

    def _on_field(self, wanted: bool) -> None:
        if not wanted:
            self.leave()
            return
        try:
            case = self.dock.case.take()
        except LightboxError as error:
            self.dock.bar.show_error(str(error))
            self.field_button.setChecked(False)
            return
        if self.dock.bar.running:
            self.field_button.setChecked(False)
            return
        work = partial(work_out, case, self.chosen)
        self.dock.start(work, "Receptive field", self._seen, lambda: self.field_button.setChecked(True))

    def _seen(self, field: ReceptiveField) -> None:
        if not self.field_button.isChecked():
            return
        layer = self.dock.case.channels[0].layer
        image = self.dock.case.image
        if layer is None or image is None or layer_record(layer) is None:
            self.field_button.setChecked(False)
            self.dock.bar.show_error("the receptive field needs the image that the model is run on: choose its layer")
            return
        self.field, card = field, self.dock.case.card
        self._around = tuple(shown_reach(field, which, card, image, layer) for which in ("bound", "effective"))
        viewer = self.dock.viewer
        corners = self._corners(layer, np.asarray(viewer.dims.point, float))
        active = viewer.layers.selection.active
        self.shapes = viewer.add_shapes(
            corners,
            shape_type="rectangle",
            name="receptive field",
            face_color="transparent",
            edge_width=max(layer.data.shape[-3:]) / 250,
            edge_color=[_BOUND] * (len(corners) // 2) + [_EFFECTIVE] * (len(corners) // 2),
            # On the voxels of the image, so that it is seen in its slices and the sliders stay as they are.
            scale=layer.scale,
            translate=layer.translate,
            affine=layer.affine,
            units=layer.units,
        )
        viewer.layers.selection.active = active
        viewer.mouse_move_callbacks.append(self._on_move)
        self.about.setText(_told(field))
        self._enable()

    def keep(self) -> None:
        """Keep the receptive field about the place that the slices go through, as labels."""
        layer = self.dock.case.channels[0].layer
        if layer is None or self.field is None:
            return
        try:
            case = self.dock.case.take()
        except LightboxError as error:
            self.dock.bar.show_error(str(error))
            return
        dims = self.dock.viewer.dims
        point = true_position(layer, np.asarray(dims.point)[dims.ndim - layer.ndim :])
        if point is None:
            self.dock.bar.show_error("the receptive field needs the image that the model is run on: choose its layer")
            return
        work = partial(mark, case, self.field.layer, tuple(float(v) for v in point))
        self.dock.start(work, "Receptive field", partial(self._kept, case.volumes[0]), self.keep)

    def _kept(self, image: Volume, made: tuple[Volume, NapariLayer]) -> None:
        volume, layer = made
        self.dock.findings.keep_network("Receptive field", (volume,), image)
        self.dock.add((layer,), "receptive field about the place that the slices go through")

    def _corners(self, layer: NapariLayer, point: np.ndarray) -> list[np.ndarray]:
        voxel = np.round(layer.world_to_data(point[-layer.ndim :]))
        return [one for around in self._around for one in rectangles(voxel, around, layer.data.shape)]

    def _on_move(self, viewer, event) -> None:
        self.follow(np.asarray(viewer.cursor.position, float))

    def follow(self, point: np.ndarray) -> None:
        """Draw the boxes about a point of the world."""
        layer = self.dock.case.channels[0].layer
        if layer is None or self.shapes is None or self.shapes not in self.dock.viewer.layers:
            self.field_button.setChecked(False)
            return
        self.shapes.data = self._corners(layer, point)

    def leave(self) -> None:
        """Stop following the cursor, and take the box away."""
        viewer = self.dock.viewer
        if self._on_move in viewer.mouse_move_callbacks:
            viewer.mouse_move_callbacks.remove(self._on_move)
        if self.shapes is not None and self.shapes in viewer.layers:
            viewer.layers.remove(self.shapes)
        self.shapes = None
        self._enable()


def shown_frame(dock, case: Case) -> int:
    """Return the frame of the first image that is on screen."""
    if case.volumes[0].grid.frames is None:
        return 0
    layer, dims = dock.case.channels[0].layer, dock.viewer.dims
    at = layer.world_to_data(np.asarray(dims.point)[dims.ndim - layer.ndim :])[0]
    return int(np.clip(round(float(at)), 0, case.volumes[0].frame_count - 1))


def _told(field: ReceptiveField) -> str:
    """Say how far a layer sees."""
    name = field.layer or "the answer"
    lines = []
    for which, colour, word in (("bound", _BOUND, "at most"), ("effective", _EFFECTIVE, "in effect")):
        voxels = " x ".join(map(str, field.sizes(which)))
        mm = field.millimetres(which)
        size = f"{voxels} voxels" + ("" if mm is None else f", {' x '.join(f'{v:.0f}' for v in mm)} mm")
        whole = " (all that is shown to it)" if which == "bound" and None in field.bound else ""
        lines.append(f'<span style="color:{colour}">■</span> {word} {size}{whole}')
    return f"<b>A voxel of {name} sees</b><br>" + "<br>".join(lines)
