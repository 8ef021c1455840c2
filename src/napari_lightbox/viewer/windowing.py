"""Window and level: presets, what the file proposes, automatic ones, and the drag with the right mouse button.

Level is the value in the middle of the grey scale, width the span from black to white, both in the unit of the voxels.
DICOM's windows are used as LINEAR_EXACT reads them (level -+ width / 2); its older LINEAR rule lies half a unit lower.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .appearance import looks_like_ct, sample
from .layers import is_preview, layer_kind, layer_record
from .orientation import on_screen, topmost

# (name, level, width) in HU: values of standard practice, as textbooks and Radiopaedia's "Windowing (CT)" list them.
CT_PRESETS = (
    ("Brain", 40.0, 80.0),
    ("Stroke", 40.0, 40.0),
    ("Subdural", 75.0, 215.0),
    ("Temporal bone", 600.0, 2800.0),
    ("Lung", -600.0, 1500.0),
    ("Mediastinum", 50.0, 350.0),
    ("Soft tissue", 50.0, 400.0),
    ("Abdomen", 40.0, 400.0),
    ("Liver", 30.0, 150.0),
    ("Spine", 50.0, 250.0),
    ("Bone", 400.0, 1800.0),
    ("Angiography", 170.0, 600.0),
)
# Shares of the voxels, percent, that an automatic window leaves black and white.
PERCENTILES = (1.0, 99.0)
# Pixels of drag that double the width, and that move the level by one width.
DOUBLING = 200.0
TRAVEL = 400.0


@dataclass(frozen=True)
class Window:
    """A grey scale: value in its middle and span from black to white, in the unit of the voxels."""

    level: float
    width: float

    @classmethod
    def of(cls, layer) -> "Window":
        """Return the window that an Image layer is shown with."""
        low, high = (float(v) for v in layer.contrast_limits)
        return cls((low + high) / 2, high - low)

    @property
    def limits(self) -> tuple[float, float]:
        """Black and white."""
        return self.level - self.width / 2, self.level + self.width / 2

    def dragged(self, right: float, down: float, smallest: float = 0.0) -> "Window":
        """Return the window after a drag by `right` and `down` canvas pixels.

        Right widens (less contrast), down raises the level (darker). The steps follow the width, so the drag feels the
        same over 4000 HU and over probabilities from 0 to 1.

        Examples
        --------
        >>> Window(40, 400).dragged(200, -100)
        Window(level=-60.0, width=800.0)
        """
        width = self.width * 2.0 ** float(np.clip(right / DOUBLING, -40, 40))
        level = self.level + self.width * down / TRAVEL
        return Window(level, max(width, smallest, 4 * np.spacing(abs(level) + width)))


def can_window(layer) -> bool:
    """Whether a layer is a grey-value picture."""
    return layer is not None and layer_kind(layer) == "image" and not getattr(layer, "rgb", False)


def windowed_layer(viewer):
    """Return the Image layer that presets, keys and the drag act on, or None.

    The active one where it is on screen, else the topmost visible one: so the picture under labels can be windowed
    while they are painted, and a hidden layer is never windowed unseen.
    """
    active = viewer.layers.selection.active
    if can_window(active) and on_screen(active, viewer):
        return active
    # A preview follows the window of the picture that it was made from.
    visible = [layer for layer in viewer.layers if layer.visible and can_window(layer) and not is_preview(layer)]
    return topmost(visible, viewer)


def smallest_width(layer) -> float:
    """Return the narrowest window that makes sense: one step of whole numbers, any width of floats."""
    return 1.0 if np.dtype(layer.dtype).kind in "iu" else 0.0


def apply_window(layer, window: Window) -> None:
    """Show an Image layer with a window; nothing happens if it is not finite or has no width."""
    low, high = window.limits
    if np.isfinite((low, high)).all() and low < high:
        layer.contrast_limits = (low, high)


def meta_of(layer) -> dict:
    """Return what is known of a layer's volume; empty for a layer that is not ours."""
    record = layer_record(layer) if layer_kind(layer) in ("image", "labels") else None
    return record["meta"] if record else {}


def is_ct(layer) -> bool:
    """Whether CT presets fit: the file says so, or it names no modality and its values can only be Hounsfield units."""
    if not can_window(layer):
        return False
    record = layer_record(layer)
    meta = record["meta"] if record else {}
    if meta.get("modality") or meta.get("unit"):
        return meta.get("modality") == "CT" or meta.get("unit") == "HU"
    if record is None or record["kind"] != "image":
        return False
    # Reading a sample of the voxels is cheap, but not for every move of the mouse.
    if "looks_like_ct" not in record:
        record["looks_like_ct"] = looks_like_ct(_sample(layer))
    return record["looks_like_ct"]


def unit_of(layer) -> str:
    """Return the unit of a layer's voxels, ``"HU"`` where they can be nothing else; empty where it is not known."""
    return str(meta_of(layer).get("unit") or ("HU" if is_ct(layer) else ""))


def file_windows(layer) -> list[tuple[str, Window]]:
    """Return the windows that the file proposes, with their names."""
    found = []
    for number, entry in enumerate(meta_of(layer).get("windows") or (), start=1):
        window = Window(float(entry["centre"]), float(entry["width"]))
        if np.isfinite((window.level, window.width)).all() and window.width > 0:
            found.append((str(entry.get("name") or f"window {number}"), window))
    return found


def _data(layer):
    return layer.data[-1] if getattr(layer, "multiscale", False) else layer.data


def _sample(layer) -> np.ndarray:
    data = _data(layer)
    return sample(data if hasattr(data, "ndim") else np.asarray(data))


def automatic(layer) -> Window | None:
    """Return the window between two percentiles of a sample of the finite voxels; None if they are all the same."""
    values = _sample(layer)
    if values.size == 0:
        return None
    low, high = (float(v) for v in np.percentile(values, PERCENTILES))
    if not low < high:
        low, high = float(values.min()), float(values.max())
    return Window((low + high) / 2, high - low) if low < high else None


def full_range(data) -> Window | None:
    """Return the window from the lowest to the highest finite voxel; None if they are all the same.

    Goes slice by slice, so that a lazy array is never whole in memory.
    """
    low, high = np.inf, -np.inf
    for part in data if data.ndim > 2 else (data,):
        part = np.asarray(part)
        if part.dtype.kind == "f":
            part = part[np.isfinite(part)]
        if part.size:
            low, high = min(low, float(part.min())), max(high, float(part.max()))
    return Window((low + high) / 2, high - low) if low < high else None


def drag_window(viewer, event) -> Iterator[None]:
    """Change window and level while the right button drags; a napari mouse callback.

    Of the picture that `windowed_layer` names, without modifier keys; the camera keeps still meanwhile. A tool of the
    active layer (brush, polygon ...) keeps the right button for itself.
    """
    layer = windowed_layer(viewer)
    if event.button != 2 or event.modifiers or layer is None or has_tool(viewer.layers.selection.active):
        return
    camera = viewer.scene.camera
    start, window, smallest, pan = event.pos, Window.of(layer), smallest_width(layer), camera.mouse_pan
    camera.mouse_pan = False
    try:
        yield
        while event.type == "mouse_move":
            apply_window(layer, window.dragged(event.pos[0] - start[0], event.pos[1] - start[1], smallest))
            yield
    finally:
        camera.mouse_pan = pan


def has_tool(layer) -> bool:
    """Whether a layer has a brush, polygon, picker ... in hand, so that the mouse buttons are its own."""
    return str(getattr(layer, "mode", "pan_zoom")) not in ("pan_zoom", "transform")
