"""The tab "Attribution" of the Explain dock: which voxels speak for a class, over an error or where it is found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from html import escape
from typing import Any

import numpy as np
from napari.layers import Layer
from napari.utils import Colormap
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from ...errors import InputError, LightboxError
from ...models import attribute, load
from ...models.explain import METHODS, TITLES
from ...report.explained import UNITS
from ...volume import Volume
from ..capture import steady, volume_of
from ..choosers import LayerChooser
from ..layers import make_layer, plain
from ._dock_parts import text_label
from ._error_work import REVIEW, as_found, is_review
from ._explain_case import Case
from ._explain_network import shown_frame

# Against the class blue, for it vermilion (told apart by all eyes), and the image shines through where neither is.
_BLUE, _RED = (0.0, 0.45, 0.7), (0.84, 0.37, 0.0)
DIVERGING = Colormap(
    [(*_BLUE, 0.95), (*_BLUE, 0.6), (*_BLUE, 0.0), (*_RED, 0.0), (*_RED, 0.6), (*_RED, 0.95)],
    name="against and for",
    controls=[0.0, 0.25, 0.5, 0.5, 0.75, 1.0],
)
_HELP = {
    "integrated_gradients": "Gradients along the way from the baseline to the image: the map adds up to what changes",
    "gradient": "Gradient x input, one pass: the gradient at the image, times the image",
    "grad_cam": "Where a layer's channels that support the class are active: coarse, and steady",
    "occlusion": "Patches are covered one after another: slow, but needs nothing of the network but its answers",
}
_SUITABLE = "what suits the model"
# Of the largest magnitudes, what is left out of the colours.
_PERCENTILE = 99.5


@dataclass(frozen=True)
class Asked:
    """What is explained: the case, the class, the region (None: where the class is found), and the method's choices."""

    case: Case
    label: int
    region: Volume | None
    number: int | None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Mapped:
    """Layers of maps, what is known of them, the images, and the region (None: where the class is found)."""

    layers: tuple[Layer, ...]
    volumes: tuple[Volume, ...]
    images: tuple[Volume, ...]
    region: Volume | None


def run(asked: Asked) -> Mapped:
    """Make the maps, as layers; in the background."""
    region = None if asked.region is None else steady(asked.region)
    if region is not None and asked.number is not None:
        mask = (np.asarray(region.data) == asked.number).astype(np.uint8)
        name = region.labels[asked.number].name if asked.number in region.labels else f"label {asked.number}"
        region = region.replace(data=mask, name=f"{region.name}, {name}", labels={})
    found = attribute(list(asked.case.volumes), load(asked.case.model), asked.label, region=region, **asked.options)
    volumes = tuple(found) if isinstance(found, list) else (found,)
    return Mapped(tuple(map(map_layer, volumes)), volumes, asked.case.volumes, region)


def map_layer(volume: Volume) -> Layer:
    """Return the layer of a map: colours about zero, or from black where nothing is below it."""
    data = np.asarray(volume.data)
    there = np.abs(data)
    # A map of a small region is next to nothing in most voxels.
    there = there[there > 0.01 * there.max()]
    most = float(np.percentile(there, _PERCENTILE)) if there.size else 1.0
    if data.min() < 0:
        return make_layer(volume, colormap=DIVERGING, contrast_limits=(-most, most), blending="translucent")
    return make_layer(volume, colormap="inferno", contrast_limits=(0, most), blending="additive")


class AttributionTab(QWidget):
    """Maps of attribution for the case that the dock is about.

    Parameters
    ----------
    dock : ExplainPanel
        Has ``case``, ``bar``, ``viewer`` and ``start``.
    """

    def __init__(self, dock) -> None:
        super().__init__()
        self.dock = dock
        self._lay_out()
        self.method_box.currentIndexChanged.connect(lambda _: self._on_method())
        self.region_box.layer_changed.connect(self._on_region)
        self.run_button.clicked.connect(self.run)
        self._on_method()
        self._on_region()

    def _lay_out(self) -> None:
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 6, 0, 0)
        self.form = QFormLayout()
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.method_box = QComboBox(self)
        for name in ("integrated_gradients", *(m for m in METHODS if m != "integrated_gradients")):
            self.method_box.addItem(TITLES[name][0].upper() + TITLES[name][1:], name)
        self.form.addRow("Method", self.method_box)
        self.region_box = LayerChooser(self.dock.viewer, ("labels",), optional=True, parent=self)
        self.region_box.setToolTip(
            "<qt>What is to be explained: the errors of the Errors dock, or any labels. None: the voxels that the "
            "model gives the class</qt>"
        )
        self.form.addRow("Region", self.region_box)
        self.part_box = QComboBox(self)
        self.part_box.addItem("chosen error or selected label", True)
        self.part_box.addItem("everything in it", False)
        self.part_box.setToolTip("<qt>The error last shown by the Errors dock, or the label selected in the layer</qt>")
        self.form.addRow("Of it", self.part_box)
        self._options()
        self.frame_box = QCheckBox("Only the frame shown", self)
        self.frame_box.setChecked(True)
        self.frame_box.setToolTip("Of an image with frames")
        self.form.addRow("", self.frame_box)
        for combo in (self.method_box, self.part_box, self.baseline_box):
            # Long entries must not widen the dock.
            combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            combo.setMinimumContentsLength(12)
        box.addLayout(self.form)
        self.run_button = QPushButton("Explain", self)
        self.run_button.setToolTip("Make the map in the background, and add it as a layer")
        box.addWidget(self.run_button)
        self.about = text_label(self)
        box.addWidget(self.about)
        box.addStretch(1)

    def _options(self) -> None:
        self.layer_line = QLineEdit(self)
        self.layer_line.setPlaceholderText("the bottleneck")
        self.layer_line.setToolTip("<qt>A layer's name, as the tab Network lists them</qt>")
        self.steps_box = QSpinBox(self)
        self.steps_box.setRange(0, 1000)
        self.steps_box.setSpecialValueText("as many as needed")
        self.steps_box.setToolTip(
            "<qt>Passes for each window. As many as needed: until the map's sum misses at most 2 % of what the target "
            "changes, 512 at most; the sentence below says by how much it does</qt>"
        )
        self.baseline_box = QComboBox(self)
        self.baseline_box.setEditable(True)
        self.baseline_box.addItems([_SUITABLE, "0", "mean", "minimum", "blurred"])
        self.baseline_box.setToolTip(
            "<qt>What stands for “nothing there”: a number as the network sees it (after the card's intensity rule), "
            "or the image's mean or minimum, or the image itself, blurred, which is what suits networks with "
            "instance normalisation; 0 suits the others</qt>"
        )
        self.patch_box = QDoubleSpinBox(self)
        self.patch_box.setRange(0, 500)
        self.patch_box.setSuffix(" mm")
        self.patch_box.setSpecialValueText("an eighth of the image")
        self.patch_box.setToolTip("Edge of the patches that are covered")
        rows = (("Layer", self.layer_line), ("Steps", self.steps_box), ("Baseline", self.baseline_box),
                ("Patch", self.patch_box))  # fmt: skip
        for name, widget in rows:
            self.form.addRow(name, widget)

    def _show_row(self, widget: QWidget, shown: bool) -> None:
        widget.setVisible(shown)
        self.form.labelForField(widget).setVisible(shown)

    def _on_method(self) -> None:
        method = self.method_box.currentData()
        self.method_box.setToolTip(f"<qt>{_HELP[method]}.<br>{UNITS[method]}</qt>")
        self._show_row(self.layer_line, method == "grad_cam")
        self._show_row(self.steps_box, method == "integrated_gradients")
        self._show_row(self.baseline_box, method in ("integrated_gradients", "occlusion"))
        self._show_row(self.patch_box, method == "occlusion")

    def _on_region(self) -> None:
        layer = self.region_box.layer
        self._show_row(self.part_box, layer is not None)
        if layer is not None:
            self.part_box.setCurrentIndex(0 if is_review(layer) else 1)

    # Running ------------------------------------------------------------------------------------------------------

    def options(self) -> dict[str, Any]:
        """Return the choices of the method as `attribute` takes them."""
        method = self.method_box.currentData()
        found: dict[str, Any] = {"method": method}
        if method == "grad_cam":
            found["layer"] = self.layer_line.text().strip() or None
        if method == "integrated_gradients":
            found["steps"] = self.steps_box.value() or None
        if method in ("integrated_gradients", "occlusion"):
            typed = self.baseline_box.currentText().strip()
            try:
                found["baseline"] = None if typed in ("", _SUITABLE) else float(typed)
            except ValueError:
                found["baseline"] = typed
        if method == "occlusion":
            found["patch"] = self.patch_box.value() or None
        return found

    def take(self) -> Asked:
        """Return what is asked for.

        Raises
        ------
        InputError
            If something is missing.
        """
        case = self.dock.case.take()
        layer, region, number = self.region_box.layer, None, None
        if layer is not None:
            region = volume_of(layer, self.dock.viewer)
            if self.part_box.currentData():
                number = int(layer.selected_label)
                if is_review(layer):
                    # What is mended or dismissed has left the layer, and is still to be explained.
                    region = region.replace(data=as_found(layer, number))
        label = case.label if case.label is not None else self._class_of(layer, number)
        options = self.options()
        if self.frame_box.isChecked() and case.volumes[0].grid.frames is not None:
            options["frame"] = shown_frame(self.dock, case)
        return Asked(case, label, region, number, options)

    def _class_of(self, layer: Layer | None, number: int | None) -> int:
        """Return the class that an error is about: what was predicted, or else what is missing."""
        if layer is not None and is_review(layer) and number is not None:
            rows = plain(layer).metadata[REVIEW]["rows"]
            row = next((r for r in rows if r["number"] == number), None)
            known = self.dock.case.card.output.values
            found = [] if row is None else [v for v in (row["predicted"], row["reference"]) if v in known and v]
            if found:
                return found[0]
        values = [v for v in self.dock.case.card.output.values if v]
        if len(values) == 1:
            return values[0]
        raise InputError("no class is chosen: pick the one under Class that is to be explained")

    def run(self) -> None:
        """Make the map in the background."""
        try:
            asked = self.take()
        except LightboxError as error:
            self.dock.bar.show_error(str(error))
            return
        self.dock.start(partial(run, asked), self.method_box.currentText(), self._found, self.run)

    def _found(self, made: Mapped) -> None:
        self.about.setText(_summary(made.volumes[0]))
        self.dock.findings.keep_maps(made.volumes, made.images, made.region)
        self.dock.add(made.layers, covers=True)


def _summary(volume: Volume) -> str:
    """Say in a few lines what a map shows."""
    found = volume.meta["attribution"]
    target = sum(one["target"] for one in found["frames"])
    for_it, against = (float(np.asarray(volume.data)[side].sum(dtype=float)) for side in
                       (np.asarray(volume.data) > 0, np.asarray(volume.data) < 0))  # fmt: skip
    said = [f"<b>{escape(volume.name)}</b>"]
    # Sums over the image's voxels are no logits where the network works on coarser ones: shares say it.
    share = for_it / (for_it - against) if for_it - against else 0.0
    colours = f'<span style="color:#d55e00">■</span> for it {share:.0%}'
    if against:
        colours += f', <span style="color:#0072b2">■</span> against it {1 - share:.0%}'
    said.append(colours if found["method"] != "grad_cam" else "bright: supports the class")
    told = [note for note in volume.meta["notes"] if note.startswith(("target", "of layer", "the map", "the mean of"))]
    said += [*map(escape, told), f"value of the target: {target:.4g}", escape(UNITS[found["method"]])]
    return "<br>".join(said)
