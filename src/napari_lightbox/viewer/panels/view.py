"""The View dock and what it puts on the canvas: planes, window and level, letters, position.

`attach` equips a viewer; the dock is its face. Keys: Alt+1, Alt+2, Alt+3 show the axial, coronal and sagittal plane;
F2 sets an automatic window, F3 the full range, F4 the file's own; on CT F5 brain, F6 lung, F7 mediastinum, F8 abdomen,
F9 liver, F10 bone, F12 angiography. Q switches between two layers. Dragging with the right mouse button changes width
(across) and level (up, down).
"""

import weakref
from contextlib import contextmanager
from functools import partial

import napari
import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ...geometry import PLANES
from ..compare import FLICKER_KEY, flicker
from ..layers import plain, shown_grid
from ..orientation import OBLIQUE
from ..runner import run
from ..scrolled import Scrolled
from ..windowing import (
    CT_PRESETS,
    Window,
    apply_window,
    automatic,
    can_window,
    drag_window,
    file_windows,
    full_range,
    is_ct,
    meta_of,
    smallest_width,
    unit_of,
    windowed_layer,
)
from ._annotations import Annotations
from ._elided import ElidedLabel
from ._links import Links
from ._planes import show_plane

PLANE_KEYS = {"axial": "Alt-1", "coronal": "Alt-2", "sagittal": "Alt-3"}
AUTO, FULL, FILE = "Automatic (1 to 99 %)", "Full range", "From the file"
WINDOW_KEYS = {AUTO: "F2", FULL: "F3", FILE: "F4", "Brain": "F5", "Lung": "F6", "Mediastinum": "F7", "Abdomen": "F8",
               "Liver": "F9", "Bone": "F10", "Angiography": "F12"}  # fmt: skip
_CUSTOM = "(own)"
_DECIMALS = 6
_attached: "weakref.WeakKeyDictionary" = weakref.WeakKeyDictionary()
# The last search for the full range of a layer: a later choice makes it void.
_searches: "weakref.WeakKeyDictionary" = weakref.WeakKeyDictionary()


def attach(viewer) -> Annotations:
    """Equip a viewer with letters, corner texts, status bar, right-drag and keys; a second call changes nothing.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
        Also behind napari's proxy.

    Returns
    -------
    Annotations
        Of this viewer; ``letters`` and ``texts`` switch them on and off.
    """
    viewer = plain(viewer)
    if viewer not in _attached:
        _attached[viewer] = Annotations(viewer)
        viewer.mouse_drag_callbacks.append(drag_window)
        for plane, key in PLANE_KEYS.items():
            viewer.bind_key(key, _plane_key(plane), overwrite=True)
        for name, key in WINDOW_KEYS.items():
            viewer.bind_key(key, _window_key(name), overwrite=True)
        viewer.bind_key(FLICKER_KEY, flicker, overwrite=True)
    return _attached[viewer]


# Real functions: napari asks every bound one for its name, and no key works any more if one has none.
def _plane_key(plane: str):
    def show(viewer) -> None:
        show_plane(plain(viewer), plane)

    show.__doc__ = f"Show the {plane} plane."
    return show


def _window_key(name: str):
    def window(viewer) -> None:
        viewer = plain(viewer)
        layer = windowed_layer(viewer)
        if layer is not None:
            set_window(viewer, layer, name)

    window.__doc__ = f"Set the window of the picture: {name}."
    return window


def choices(layer) -> list[tuple[str, Window | None]]:
    """Return the windows that a layer can be shown with: (name, window); None for those that must be computed."""
    if not can_window(layer):
        return []
    found: list[tuple[str, Window | None]] = [(f"{FILE}: {name}", window) for name, window in file_windows(layer)]
    found += [(AUTO, None), (FULL, None)]
    if is_ct(layer):
        found += [(name, Window(level, width)) for name, level, width in CT_PRESETS]
    return found


def set_window(viewer, layer, name: str) -> None:
    """Show an Image layer with one of its `choices`; ``"From the file"`` alone means the first of the file's own.

    Nothing happens where the layer has no such choice. The full range is found in the background.
    """
    if layer in _searches:
        _searches.pop(layer).discard()
    fitting = [pair for pair in choices(layer) if pair[0] == name or (name == FILE and pair[0].startswith(FILE))]
    if not fitting:
        return
    window = fitting[0][1]
    if name == FULL:
        data = layer.data[0] if layer.multiscale else layer.data
        _searches[layer] = run(
            partial(full_range, data if hasattr(data, "ndim") else np.asarray(data)),
            title=f"Full range of {layer.name}",
            on_done=partial(_apply_found, layer),
            viewer=viewer,
        )
        return
    _apply_found(layer, automatic(layer) if name == AUTO else window)


def _apply_found(layer, window: Window | None) -> None:
    if window is not None:
        apply_window(layer, window)


class ViewPanel(QWidget):
    """Dock with planes, windows and what is known of the geometry of the active layer.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer that the dock belongs to; it is equipped by `attach`.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = plain(viewer)
        self._annotations = attach(self._viewer)
        self._layer = None
        self._filling = False
        inside = QWidget(self)
        layout = QVBoxLayout(inside)
        layout.addWidget(self._make_planes())
        layout.addWidget(self._make_window())
        layout.addWidget(self._make_canvas())
        self._name = ElidedLabel()
        self._name.setStyleSheet("font-weight: bold")
        layout.addWidget(self._name)
        self._about = QLabel()
        self._about.setWordWrap(True)
        self._about.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout.addWidget(self._about)
        outside = QVBoxLayout(self)
        outside.setContentsMargins(0, 0, 0, 0)
        # Where the window is low, rows are scrolled rather than cut.
        outside.addWidget(Scrolled(inside, self))
        outside.addStretch(1)
        self._links, self._layer_links = Links(self), Links(self)
        layers = self._viewer.layers
        for event in (layers.selection.events.active, layers.events.inserted, layers.events.removed):
            self._links.add(event, self._on_layers)
        # A layer without a slice where the sliders stand hands the window on to the picture that has one.
        for event in (self._viewer.dims.events.point, self._viewer.dims.events.order, layers.events.reordered):
            self._links.add(event, self._on_changed)
        self._on_layers()

    # Building ---------------------------------------------------------------------------------------------------

    def _make_planes(self) -> QWidget:
        box = QGroupBox("Plane")
        row = QHBoxLayout(box)
        self.plane_buttons = {}
        for plane in PLANES:
            button = QPushButton(plane.capitalize())
            button.setToolTip(f"Show the {plane} plane, fitted to the canvas ({PLANE_KEYS[plane].replace('-', '+')})")
            button.clicked.connect(partial(self._show_plane, plane))
            row.addWidget(button)
            self.plane_buttons[plane] = button
        return box

    def _make_window(self) -> QWidget:
        box = QGroupBox("Window")
        form = QFormLayout(box)
        self.windowed_name = ElidedLabel()
        form.addRow("Of", self.windowed_name)
        self.presets = QComboBox()
        # A file may name its windows at any length: they do not widen the dock.
        self.presets.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.presets.setMinimumContentsLength(14)
        self.presets.setToolTip("What the file proposes, computed windows, and presets in HU for CT")
        self.presets.activated.connect(self._on_preset)
        self.level, self.width_box = QDoubleSpinBox(), QDoubleSpinBox()
        self.level.setToolTip("Value in the middle of the grey scale")
        self.width_box.setToolTip("Span of values from black to white")
        for spin in (self.level, self.width_box):
            spin.setRange(-1e12, 1e12)
            spin.setKeyboardTracking(False)
            spin.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
            spin.valueChanged.connect(self._on_spin)
        form.addRow("Preset", self.presets)
        form.addRow("Level", self.level)
        form.addRow("Width", self.width_box)
        hint = QLabel("Drag with the right button: across for width, up and down for level (with a brush: hold Space).")
        hint.setWordWrap(True)
        form.addRow(hint)
        return box

    def _make_canvas(self) -> QWidget:
        box = QGroupBox("On the picture")
        column = QVBoxLayout(box)
        self.letters_box = QCheckBox("Sides of the patient (L R A P S I)")
        self.letters_box.setToolTip(f"~ follows where an axis is off by more than {OBLIQUE:g} degree, ? where unknown")
        self.texts_box = QCheckBox("Series, slice and window")
        for check, name in ((self.letters_box, "letters"), (self.texts_box, "texts")):
            check.setChecked(getattr(self._annotations, name))
            check.toggled.connect(partial(setattr, self._annotations, name))
            column.addWidget(check)
        return box

    # From the dock to the viewer --------------------------------------------------------------------------------

    def _show_plane(self, plane: str, *_) -> None:
        show_plane(self._viewer, plane)

    def _on_preset(self, index: int) -> None:
        name = self.presets.itemData(index)
        if name and can_window(self._layer):
            set_window(self._viewer, self._layer, name)

    def _on_spin(self) -> None:
        if self._filling or not can_window(self._layer):
            return
        width = max(self.width_box.value(), smallest_width(self._layer), 10.0**-_DECIMALS)
        apply_window(self._layer, Window(self.level.value(), width))

    # From the viewer to the dock --------------------------------------------------------------------------------

    @contextmanager
    def _filled(self):
        self._filling = True
        try:
            yield
        finally:
            self._filling = False

    def _on_layers(self, event=None) -> None:
        """Follow the layer that is windowed, and the active one in the lines below."""
        self._layer_links.clear()
        self._layer = windowed_layer(self._viewer)
        if self._layer is not None:
            self._layer_links.add(self._layer.events.contrast_limits, self._on_layer)
        for layer in self._viewer.layers:
            for name in ("name", "visible"):
                self._layer_links.add(getattr(layer.events, name), self._on_changed)
        self._fill_presets()
        self._on_layer()

    def _on_changed(self, event=None) -> None:
        if windowed_layer(self._viewer) is not self._layer or event.type == "name":
            self._on_layers()

    def _fill_presets(self) -> None:
        self.presets.clear()
        self.presets.addItem(_CUSTOM, None)
        for position, (name, window) in enumerate(choices(self._layer)):
            # The file's own windows come first; the key sets the first of them.
            key = WINDOW_KEYS.get(FILE if name.startswith(FILE) and position == 0 else name)
            numbers = f"  {window.level:g} / {window.width:g}" if window is not None else ""
            self.presets.addItem(f"{name}{numbers}" + (f"  ({key})" if key else ""), name)
        usable = can_window(self._layer)
        for widget in (self.presets, self.level, self.width_box):
            widget.setEnabled(usable)
        with self._filled():
            unit = unit_of(self._layer) if usable else ""
            for spin in (self.level, self.width_box):
                spin.setSuffix(f" {unit}" if unit else "")

    def _on_layer(self, event=None) -> None:
        active = self._viewer.layers.selection.active
        self._name.show_text("" if active is None else active.name)
        self._about.setText(about(active))
        self.windowed_name.show_text("" if self._layer is None else self._layer.name)
        if not can_window(self._layer):
            return
        window = Window.of(self._layer)
        with self._filled():
            for spin in (self.level, self.width_box):
                spin.setDecimals(self._decimals(window))
            self.level.setValue(window.level)
            self.width_box.setValue(window.width)
            self.presets.setCurrentIndex(self._matching(window))

    def _decimals(self, window: Window) -> int:
        """Return how many digits tell apart a thousandth of the window; one for whole numbers."""
        if smallest_width(self._layer):
            return 1
        return int(np.clip(3 - np.floor(np.log10(window.width)), 0, _DECIMALS))

    def _matching(self, window: Window) -> int:
        for index, (_, known) in enumerate(choices(self._layer), start=1):
            if known is not None and np.allclose((known.level, known.width), (window.level, window.width), rtol=1e-5):
                return index
        return 0


def about(layer) -> str:
    """Return a few lines on the geometry of a layer: size, spacing, orientation, unit."""
    grid = shown_grid(layer) if layer is not None and hasattr(layer, "metadata") else None
    if layer is None:
        return "No layer is selected."
    if grid is None:
        return "Its position in the patient is not known."
    record = layer.metadata["lightbox"]
    stored, meta = record["grid"], meta_of(layer)
    lines = [" \u00d7 ".join(str(n) for n in reversed(stored.spatial_shape)) + " voxels (x, y, z)"]
    unit = "mm" if meta.get("spacing_known", True) else "px (spacing unknown)"
    lines.append(" \u00d7 ".join(f"{s:.4g}" for s in reversed(stored.spacing)) + f" {unit}")
    if not meta.get("orientation_known", True):
        lines.append("orientation unknown")
    else:
        tilt = f", oblique by {stored.obliquity:.1f}\u00b0" if stored.obliquity > OBLIQUE else ""
        lines.append(f"stored as {stored.code}{tilt}")
    if is_ct(layer) and not meta.get("unit") and not meta.get("modality"):
        lines.append("values look like CT: taken as HU")
    if stored.frames is not None:
        lines.append(f"{len(stored.frames.values)} frames ({stored.frames.kind})")
    return "<br>".join(lines)
