"""What the canvas and the status bar say of the patient: letters at the edges, series, slice, window, position.

Works on the viewer model alone: no widgets. One `Annotations` belongs to one viewer and lives as long as it does.
"""

import weakref

import numpy as np

from ..layers import layer_kind, layer_record, shown_grid, true_position
from ..orientation import LETTERS, OBLIQUE, plane_shown, position_text, speaker, world_directions
from ..windowing import Window, meta_of, unit_of, windowed_layer
from ._corners import fitted
from ._planes import letters_now, refit, refit_cut, show_natural_plane, spatial_axis, unmirror

_YELLOW = "#ffd54f"
_WHITE = "#e8e8e8"
_LETTERS_AT = {"top": "top_center", "bottom": "bottom_center", "left": "middle_left", "right": "middle_right"}
# Points of the letters, and in a canvas less high or wide than so many pixels, where they would hide the patient.
_LETTER_POINTS, _SMALL = (16, 10), 200
# More values than these do not fit into a status bar.
_MOST_VALUES = 5


class Annotations:
    """Keeps letters, corner texts and status bar of one viewer right.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Not a proxy.
    brief : bool
        Leave out name and window, and let somebody else choose the plane: for a small view beside a larger one.
    """

    def __init__(self, viewer, *, brief: bool = False) -> None:
        self._viewer = weakref.ref(viewer)
        self._brief = brief
        self._show_letters = self._show_texts = True
        # What each corner was asked to say, and how it was laid out; whether anything was written that has no place.
        self._corners: dict[str, tuple] = {}
        self._written = False
        self._size = viewer.canvas.size
        self._add_overlays(viewer)
        dims, camera, layers = viewer.dims.events, viewer.scene.camera.events, viewer.layers
        # Not current_step: it comes with the point.
        for event in (dims.order, dims.point, camera.orientation, layers.selection.events.active):
            event.connect(self.refresh)
        dims.ndisplay.connect(self._on_ndisplay)
        # Of the group: it comes after napari's own.
        dims.connect(self._place, position="last")
        viewer.canvas.events.size.connect(self._on_size)
        for event in (layers.events.removed, layers.events.reordered):
            event.connect(self._on_layers)
        layers.events.inserted.connect(self._on_inserted)
        viewer.cursor.events.position.connect(self._on_cursor)
        dims.point.connect(self._on_cursor)
        # Last, so that our text is what stays when napari has put its own into the status bar.
        viewer.events.status.connect(self._on_status, position="last")
        self._on_layers()
        if not brief:
            refit_cut(viewer)

    def _add_overlays(self, viewer) -> None:
        from napari.components.overlays import TextOverlay

        overlays = viewer.canvas.overlays
        for edge, position in _LETTERS_AT.items():
            overlays[f"lightbox_{edge}"] = TextOverlay(position=position, color=_YELLOW, font_size=_LETTER_POINTS[0])
        overlays["lightbox_series"] = TextOverlay(position="top_left", color=_WHITE, font_size=10)
        overlays["lightbox_window"] = TextOverlay(position="bottom_left", color=_WHITE, font_size=10)

    # What is shown ----------------------------------------------------------------------------------------------

    @property
    def letters(self) -> bool:
        """Whether letters are shown at the edges of the canvas (in 2D)."""
        return self._show_letters

    @letters.setter
    def letters(self, value: bool) -> None:
        self._show_letters = bool(value)
        self.refresh()

    @property
    def texts(self) -> bool:
        """Whether series, slice and window are written into the corners."""
        return self._show_texts

    @texts.setter
    def texts(self, value: bool) -> None:
        self._show_texts = bool(value)
        self.refresh()

    def refresh(self, event=None) -> None:
        """Bring all overlays up to date."""
        viewer = self._viewer()
        if viewer is None:
            return
        layer = speaker(viewer)
        edges = letters_now(viewer)
        small = 0 < min(viewer.canvas.size) < _SMALL
        for edge in _LETTERS_AT:
            letter = getattr(edges, edge) if edges is not None and self._show_letters else ""
            self._write(viewer, f"lightbox_{edge}", letter, _LETTER_POINTS[small])
        named = layer if layer is not None else viewer.layers.selection.active
        image = None if self._brief else windowed_layer(viewer)
        series, window = self._show_texts and named is not None, self._show_texts and image is not None
        name, *lines = series_text(viewer, named).split("\n") if series else [""]
        if self._brief:
            name, lines = "", lines[viewer.dims.ndim - 3 :][:1]
        self._write_corner(viewer, "lightbox_series", name, lines)
        self._write_corner(viewer, "lightbox_window", "", [window_text(image)] if window else [])
        if self._written:
            self._written = False
            self._place()

    def _place(self, event=None) -> None:
        """Have the texts placed now.

        napari places them after it has drawn, where any text has changed (its own, hidden one for the slice does so
        with every slice), and then draws the whole canvas again.
        """
        viewer = self._viewer()
        if viewer is not None:
            tiling = viewer.canvas.overlay_tiling
            tiling.events(type_name="top_left", value=tiling.top_left)

    def _write_corner(self, viewer, key: str, name: str, lines: list[str]) -> None:
        padding = viewer.canvas.overlay_tiling.padding[0]
        asked = (name, tuple(lines), viewer.canvas.size, padding)
        if self._corners.get(key, (None,))[0] != asked:
            self._corners[key] = (asked, *fitted(name, lines, viewer.canvas.size, padding))
        _, text, points = self._corners[key]
        self._write(viewer, key, text, points)

    def _write(self, viewer, key: str, text: str, points: int) -> None:
        if key not in viewer.canvas.overlays:
            return
        overlay = viewer.canvas.overlays[key]
        if overlay.font_size != points:
            overlay.font_size = points
            self._written = True
        if overlay.text != text:
            overlay.text = text
            self._written = True
        # An empty box would still be drawn.
        if overlay.visible != bool(text):
            overlay.visible = bool(text)
            self._written = True

    # Events -----------------------------------------------------------------------------------------------------

    def _on_layers(self, event=None) -> None:
        viewer = self._viewer()
        if viewer is None:
            return
        for layer in viewer.layers:
            names = ["visible", "name", "scale", "translate", "rotate", "affine"]
            for name in names + (["contrast_limits"] if layer_kind(layer) == "image" else []):
                # napari connects a callback once, however often it is asked to.
                getattr(layer.events, name).connect(self.refresh)
        self.refresh()

    def _on_inserted(self, event=None) -> None:
        viewer = self._viewer()
        # The first volume decides how the patient is looked at; further ones are laid over it.
        if viewer is not None and len(viewer.layers) == 1 and not self._brief:
            show_natural_plane(viewer)
        self._on_layers()

    def _on_ndisplay(self, event=None) -> None:
        viewer = self._viewer()
        if viewer is not None and viewer.dims.ndisplay == 3:
            unmirror(viewer)
        self.refresh()

    def _on_size(self, event=None) -> None:
        viewer = self._viewer()
        if viewer is not None:
            before, self._size = self._size, viewer.canvas.size
            refit(viewer, None if self._brief else before)
            self.refresh()

    def _on_cursor(self, event=None) -> None:
        viewer = self._viewer()
        if viewer is None:
            return
        text = status_text(viewer)
        if text is not None and viewer.status != text:
            viewer.status = text

    def _on_status(self, event) -> None:
        viewer = self._viewer()
        if viewer is None:
            return
        # napari writes its own coordinates as a dict, or as a text where several layers are selected. Messages of
        # others stay as they are.
        of_napari = isinstance(event.value, dict) or (
            len(viewer.layers.selection) != 1
            and (event.value == "Ready" or " » " in event.value or "[empty]" in event.value)
        )
        if of_napari:
            self._on_cursor()


# Texts ----------------------------------------------------------------------------------------------------------


def series_text(viewer, layer) -> str:
    """Return name, plane, slice and frame for the corner of the canvas."""
    if layer is None:
        return ""
    record = layer_record(layer) if layer_kind(layer) in ("image", "labels") else None
    if record is None or viewer.dims.ndisplay != 2:
        return layer.name
    index = np.asarray(layer.world_to_data(np.asarray(viewer.dims.point, dtype=float)))
    shape = (layer.data[0] if layer.multiscale else layer.data).shape
    lines = [layer.name]
    for axis in viewer.dims.not_displayed:
        own = axis - (viewer.dims.ndim - layer.ndim)
        if own < 0:
            continue
        at, count, place = round(float(index[own])), shape[own], spatial_axis(viewer, axis)
        if not 0 <= at < count:
            lines.append("no slice here" if place >= 0 else "no frame here")
        else:
            line = _slice_line(layer, place, at, count) if place >= 0 else _frame_line(record, at, count)
            # Of a picture that knows no place there is nothing to say.
            lines += [line] if line != "1/1" else []
    if record["grid"].obliquity > OBLIQUE:
        lines.append(f"oblique by {record['grid'].obliquity:.1f}\u00b0")
    return "\n".join(lines)


def _frame_line(record: dict, at: int, count: int) -> str:
    frames = record["grid"].frames
    if frames is None or frames.kind == "frame":
        return f"frame {at + 1}/{count}"
    return f"frame {at + 1}/{count}  ({f'{frames.kind} {frames.values[at]:g} {frames.unit}'.rstrip()})"


def _slice_line(layer, place: int, at: int, count: int) -> str:
    directions = world_directions(layer)
    plane = plane_shown(directions, place)
    line = f"{plane} {at + 1}/{count}".strip()
    grid = shown_grid(layer)
    if directions is None or grid.obliquity > OBLIQUE:
        return line
    axis_of_world = [int(np.argmax(np.abs(grid.affine[world, :3]))) for world in range(3)]
    world = axis_of_world.index(place)
    index = np.zeros(3)
    index[place] = at
    value = float(grid.to_world(index)[world])
    return f"{line}  {LETTERS[world][int(value < 0)]} {abs(value):.1f} mm"


def window_text(layer) -> str:
    """Return width and level of an Image layer with their unit."""
    window = Window.of(layer)
    return f"W {window.width:.4g}  L {window.level:.4g} {unit_of(layer)}".rstrip()


def status_text(viewer) -> str | None:
    """Return position and values under the cursor; None where napari's own text must do (3D, layers not ours)."""
    layer = speaker(viewer)
    if layer is None or viewer.dims.ndisplay != 2 or not viewer.mouse_over_canvas:
        return None
    cursor = np.asarray(viewer.cursor.position, dtype=float)
    if len(cursor) != viewer.dims.ndim:
        return None
    point = true_position(layer, cursor)
    meta = meta_of(layer)
    text = position_text(
        point,
        orientation_known=meta.get("orientation_known", True),
        spacing_known=meta.get("spacing_known", True),
    )
    values = [value for value in (value_text(one, viewer, cursor) for one in _value_layers(viewer)) if value]
    return "    ".join([text, *values[:_MOST_VALUES]])


def _value_layers(viewer) -> list:
    """Return the layers whose values are worth telling: the active one first, then those on top."""
    active = viewer.layers.selection.active
    shown = [layer for layer in reversed(viewer.layers) if layer.visible and layer_kind(layer) in ("image", "labels")]
    return ([active] if active in shown else []) + [layer for layer in shown if layer is not active]


def value_text(layer, viewer, cursor: np.ndarray) -> str:
    """Return a layer's value under the cursor, with its unit or its name; empty outside and over background."""
    value = layer.get_value(cursor, view_direction=None, dims_displayed=list(viewer.dims.displayed), world=True)
    if getattr(layer, "multiscale", False) and isinstance(value, tuple):
        value = value[1]
    if value is None or np.ndim(value):
        return ""
    if layer_kind(layer) == "labels":
        if not value and layer is not viewer.layers.selection.active:
            return ""
        return f"{layer.name}: {label_name(layer, int(value))}"
    number = f"{value}" if np.dtype(layer.dtype).kind in "iub" else f"{float(value):.4g}"
    return f"{layer.name}: {number} {unit_of(layer)}".rstrip()


def label_name(layer, value: int) -> str:
    """Return the name of a label with its value: ``"liver (5)"``; ``"label 5"`` where it has no name."""
    if value == 0:
        return "background"
    record = layer_record(layer)
    label = record["labels"].get(value) if record else None
    return f"{label.name} ({value})" if label is not None else f"label {value}"
