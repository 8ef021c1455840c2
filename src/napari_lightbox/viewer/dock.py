"""A row of the catalogue becomes a dock: layers, parameters, Apply, Cancel, Reset, and the result as a new layer."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import SimpleITK  # noqa: F401 - loading it holds the interpreter for 0.2 s: rather when a dock opens than in a job
from napari.layers import Image, Layer
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ..apply import WHOLE, apply
from ..catalogue import Operation, Parameter, operation
from ..errors import InputError, LightboxError
from ..geometry import PLANES, Grid
from ..ops import _ready
from ..volume import Volume
from .adding import add_then_select, show_alone
from .capture import steady, volume_of
from .choosers import KINDS, LayerChooser
from .collecting import spare
from .edits import note_edits
from .fields import Field, field_for, label_for, readable
from .jobbar import JobBar, stop_when_closed
from .layers import (
    layer_kind,
    layer_record,
    make_layer,
    plain,
    shown_grid,
    spectrum_layer,
)
from .preview import Captured, Preview
from .scrolled import Scrolled
from .seeds import new_points, points_to_seeds

# How an image looks is carried to the image that is made from it.
_LOOKS = ("contrast_limits", "colormap", "gamma", "blending", "interpolation2d", "interpolation3d", "opacity")
_WHOLE = "whole volume"


class OperationDock(QWidget):
    """The dock of one operation.

    Parameters
    ----------
    viewer : napari.Viewer
        Where layers are taken from and the result goes.
    name : str
        Name of the operation in the catalogue.

    Notes
    -----
    Everything is captured when Apply is pressed: layers and parameters may change, and layers may be deleted, while
    the job runs.
    """

    def __init__(self, viewer, name: str) -> None:
        super().__init__()
        self.viewer = plain(viewer)
        self.row: Operation = operation(name)
        self.setObjectName(f"lightbox-{name}")
        note_edits(self.viewer)
        spare(self.viewer)
        self.layers: dict[str, LayerChooser] = {}
        self.fields: dict[str, Field] = {}
        self.plane: QComboBox | None = None
        self.bar = JobBar(viewer, self)
        self.apply_button, self.reset_button = QPushButton("Apply", self), QPushButton("Reset", self)
        self._lay_out()
        self.preview = Preview(viewer, self.row, partial(self._capture, quiet=True), self, self._chosen_layers)
        self._inside.layout().addWidget(self.preview)
        for field in self.fields.values():
            field.changed.connect(self.preview.request)
        for chooser in self.layers.values():
            chooser.layer_changed.connect(self.preview.request)
        if self.plane is not None:
            self.plane.currentIndexChanged.connect(self.preview.request)
        self.layers[self.row.input.name].layer_changed.connect(self._warm)
        self._warm()
        self.apply_button.clicked.connect(self.apply)
        self.reset_button.clicked.connect(self.reset)
        self.bar.running_changed.connect(lambda running: self.apply_button.setEnabled(not running))
        # The job holds what it needs; a dock that is gone must not be called back.
        self.destroyed.connect(self.bar.runner.discard)
        stop_when_closed(self, self.bar)

    def _warm(self) -> None:
        """Let what the operation needs for the chosen layer be compiled in the background, before Apply is pressed."""
        layer = self.layers[self.row.input.name].layer
        if layer is None or layer_kind(layer) == "points":
            return
        shape, flat = layer.data.shape[-3:], self.row.planes and not self.row.whole
        ndim = 2 if flat or len(shape) < 3 or shape[0] == 1 else 3
        _ready.warm(self.row.name, layer.data.dtype, ndim, math.prod(shape))

    # Laying out -------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        self._inside = QWidget(self)
        summary = QLabel(readable(self.row.summary), self._inside)
        summary.setWordWrap(True)
        self.form = QFormLayout()
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        first = self.row.input
        kinds = KINDS[first.role]
        self._add_layer(first.name, "Layer" if len(kinds) > 1 else kinds[0].capitalize(), kinds, first)
        for parameter in self.row.parameters:
            if parameter.is_layer:
                self._add_layer(parameter.name, label_for(parameter), KINDS[parameter.role], parameter)
        for parameter in self.row.parameters:
            if not parameter.is_layer:
                self.fields[parameter.name] = field = field_for(parameter, self)
                self._add_row(label_for(parameter), field, field.toolTip())
        for field in self.fields.values():
            field.changed.connect(self._show_what_applies)
        self._show_what_applies()
        if not self.row.on_volumes:
            self._add_planes()
        buttons = QHBoxLayout()
        buttons.addWidget(self.apply_button)
        buttons.addWidget(self.reset_button)
        inside = QVBoxLayout(self._inside)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.addWidget(summary)
        inside.addLayout(self.form)
        box = QVBoxLayout(self)
        box.addWidget(Scrolled(self._inside, self))
        box.addLayout(buttons)
        box.addWidget(self.bar)
        box.addStretch(1)

    def _add_row(self, text: str, widget: QWidget, tip: str) -> None:
        label = QLabel(text, self)
        label.setToolTip(tip)
        self.form.addRow(label, widget)

    def _add_layer(self, name: str, text: str, kinds: tuple[str, ...], parameter: Parameter) -> None:
        tip = f"<qt>{readable(parameter.help)}</qt>"
        optional = not parameter.required
        chooser = LayerChooser(self.viewer, kinds, optional=optional, parent=self)
        chooser.setToolTip(tip)
        self.layers[name] = chooser
        if parameter.role != "seeds":
            self._add_row(text, chooser, tip)
            return
        line = QWidget(self)
        row = QHBoxLayout(line)
        row.setContentsMargins(0, 0, 0, 0)
        self.new_seeds_button = QPushButton("New", line)
        self.new_seeds_button.setToolTip(
            "New seed points: an empty Points layer over the chosen layer, ready to click in"
        )
        self.new_seeds_button.clicked.connect(partial(self._new_seeds, chooser))
        row.addWidget(chooser, 1)
        row.addWidget(self.new_seeds_button)
        self._add_row(text, line, tip)

    def _add_planes(self) -> None:
        self.plane = QComboBox(self)
        whole = (_WHOLE,) if self.row.whole or not self.row.planes else ()
        self.plane.addItems([*PLANES, *whole] if self.row.planes else [*whole, *PLANES])
        tip = "<qt>Work on the whole volume at once, or slice by slice in a plane of the body.</qt>"
        if self.row.planes and not self.row.whole:
            tip = "<qt>The plane of the body that is worked on, slice by slice.</qt>"
        self.plane.setToolTip(tip)
        self._add_row("Plane", self.plane, tip)

    def _applies(self, name: str) -> bool:
        """Whether a parameter has a meaning beside the choices made for the others."""
        only = self.fields[name].parameter.hints.get("only", {})
        return all(self.fields[other].value() in values for other, values in only.items())

    def _show_what_applies(self) -> None:
        for name, field in self.fields.items():
            self.form.setRowVisible(field, self._applies(name))

    # Acting -----------------------------------------------------------------------------------------------------

    def _new_seeds(self, chooser: LayerChooser) -> None:
        image = self.layers[self.row.input.name].layer
        if image is None:
            self.bar.show_error("There is no image to place seeds in: open or choose one first")
            return
        points = self.viewer.add_layer(new_points(image, f"{image.name} seeds"))
        points.mode = "add"
        chooser.choose(points)
        self.bar.show_note("Click into the image to place seeds, then press Apply")

    def reset(self) -> None:
        """Put every parameter back to its default."""
        for field in self.fields.values():
            field.reset()
        if self.plane is not None:
            self.plane.setCurrentIndex(0)
        self.bar.clear()

    def apply(self) -> None:
        """Capture layers and parameters and start the job."""
        if self.bar.running:
            return
        self.preview.rest()
        try:
            taken = self._capture()
        except LightboxError as error:
            self.bar.show_error(str(error))
            return
        source, volume = taken.source, taken.volume
        make = partial(spectrum_layer, source=layer_record(source)) if self.row.result == "spectrum" else make_layer
        work = partial(_work, self.row.name, volume, taken.plane, dict(taken.values), partial(make, **taken.looks))
        title = f"{self.row.title} of {volume.name}"
        self.bar.run(work, title=title, on_done=partial(self._show, shown_grid(source)))

    def _chosen_plane(self, volume: Volume) -> str | None:
        if self.plane is None or self.plane.currentText() == _WHOLE:
            return WHOLE if self.plane is not None and self.row.planes else None
        # A single slice is its own plane, whichever way it lies.
        return None if volume.is_2d else self.plane.currentText()

    def _capture(self, quiet: bool = False) -> Captured:
        """Take what the dock works on; `quiet`: ask and tell the user nothing."""
        source = self._layer_of(self.row.input)
        volume = volume_of(source, self.viewer, quiet=quiet)
        values: dict[str, Any] = {}
        layers = [source]
        for parameter in self.row.parameters:
            if not parameter.is_layer:
                name = parameter.name
                values[name] = self.fields[name].value() if self._applies(name) else parameter.default
                continue
            layer = self._layer_of(parameter)
            if layer is None:
                continue
            layers.append(layer)
            if parameter.role == "seeds":
                values[parameter.name] = points_to_seeds(layer, source)
            else:
                values[parameter.name] = volume_of(layer, self.viewer, quiet=quiet)
        looks = _looks(source, self.row, values)
        return Captured(source, volume, values, self._chosen_plane(volume), looks, tuple(layers))

    def _chosen_layers(self) -> tuple[Layer, ...]:
        return tuple(chooser.layer for chooser in self.layers.values() if chooser.layer is not None)

    def _layer_of(self, parameter: Parameter) -> Layer | None:
        layer = self.layers[parameter.name].layer
        if layer is None and parameter.required:
            kinds = " or ".join(kind.capitalize() for kind in KINDS[parameter.role])
            remedy = "press New and click into the image" if parameter.role == "seeds" else "open or make one first"
            raise InputError(f"{label_for(parameter)} needs a layer of type {kinds}: {remedy}")
        return layer

    def _show(self, source_grid: Grid | None, layer: Layer) -> None:
        """Add the result; runs in the GUI thread."""
        add_then_select(self.viewer, layer)
        seeds = [i for i, other in enumerate(self.viewer.layers) if layer_kind(other) == "points"]
        if seeds and any(p.role == "seeds" for p in self.row.parameters):
            # What grew from the seeds must not cover them.
            self.viewer.layers.move(len(self.viewer.layers) - 1, seeds[0])
        if self.row.result == "spectrum":
            self.bar.show_note(f"{layer.name} lies over its image; positions in it are frequencies, not millimetres")
            return
        alone = show_alone(self.viewer, layer)
        grid = shown_grid(layer)
        if alone is not None:
            self.bar.show_note(alone)
        elif source_grid is not None and not grid.same_space(source_grid):
            self.bar.show_note(f"{layer.name} lies on another grid: {source_grid.difference(grid)}")
        else:
            self.bar.show_note("; ".join([f"{layer.name} is done", *_said(layer)]))


def _said(layer: Layer) -> list[str]:
    """Return what the operation had to say, besides its result."""
    history = (layer_record(layer) or {}).get("history") or ({},)
    return list(history[-1].get("notes", ()))


def _work(name: str, volume: Volume, plane: str | None, values: dict, make: Callable[[Volume], Layer]) -> Layer:
    """Run the operation and make the layer; runs in the background."""
    volume = steady(volume)
    values = {key: steady(value) if isinstance(value, Volume) else value for key, value in values.items()}
    return make(apply(name, volume, plane=plane, **values))


def _looks(source: Layer, row: Operation, values: dict[str, Any]) -> dict[str, Any]:
    """Return what the result takes over from the layer it is made from."""
    if row.result not in ("image", "same") or not isinstance(source, Image):
        return {}
    looks = {name: getattr(source, name) for name in _LOOKS}
    if values.get("mode") == "pass":
        # What is passed alone has little of the mean: in the window of the image it would be black.
        del looks["contrast_limits"]
    return looks


@cache
def operation_dock(name: str) -> type[OperationDock]:
    """Return the class of an operation's dock: called with a viewer, it makes the dock.

    A class of its own for each, as napari hands the viewer only to widget classes whose argument has this name.
    """

    class Dock(OperationDock):
        __doc__ = f"The dock of {operation(name).title}."

        def __init__(self, napari_viewer) -> None:
            super().__init__(napari_viewer, name)

    Dock.__name__ = Dock.__qualname__ = f"{name.title().replace('_', '')}Dock"
    return Dock
