"""Measures how long after a change the preview of every operation is on screen.

    xvfb-run -a python tests/benchmarks/preview.py [--shape 60 512 512] [--rows median otsu ...] [--repeats 7]

Prints one line a row: how much of the volume a slice needs, milliseconds from the change (scrolling by a slice, a
parameter) to the canvas drawn with the new slice, and those of the very first preview, which for some rows looks
through the whole volume. ``compute`` is the part that the operation itself takes on the slice, without a window;
``cpu`` is the processor time of all threads, which says more than the clock where others use the machine.
"""

import argparse
import statistics
import sys
import time

import napari
import numpy as np
from heartbeat import make_volume, spin

from napari_lightbox.catalogue import OPERATIONS
from napari_lightbox.preview import reach
from napari_lightbox.viewer import docks, offers
from napari_lightbox.viewer import preview as preview_module
from napari_lightbox.viewer.layers import make_layer
from napari_lightbox.viewer.seeds import new_points

# What makes a row do something, and a parameter to change.
FIELDS = {
    "affine": {"rotate": (5.0, 0.0, 0.0)},
    "resample": {"spacing": (3.0, 1.2, 1.2)},
    "notch": {"centers": "20, 30"},
    "band_reject": {"center": 40.0, "width": 10.0},
    "region_grow": {"threshold": 80.0},
    "crop": {"start": (5, 50, 50), "stop": (55, 400, 400)},
    "projective": {"homography": "1,0.05,0; 0,1,0; 0,0,1"},
}


class Stopwatch:
    """Notes when a preview was computed, handed to the viewer, and drawn."""

    def __init__(self, viewer) -> None:
        self.drawn, self.computed, self.worked = 0.0, 0.0, 0.0
        self._waiting = False
        canvas = viewer.window._qt_viewer.canvas._scene_canvas
        canvas.events.draw.connect(self._on_draw, position="last")
        real = preview_module.slice_of

        def timed(*args, **kwargs):
            begun = time.perf_counter()
            result = real(*args, **kwargs)
            self.computed = 1000 * (time.perf_counter() - begun)
            return result

        preview_module.slice_of = timed

    def watch(self, dock) -> None:
        real = dock.preview.overlay.show

        def show(*args, **kwargs):
            real(*args, **kwargs)
            self._waiting = True

        dock.preview.overlay.show = show

    def _on_draw(self, event) -> None:
        if self._waiting:
            self.drawn, self._waiting = time.perf_counter(), False

    def time(self, change, seconds: float = 120.0) -> float:
        """Return milliseconds from a change to the picture; NaN where none came."""
        self.drawn = 0.0
        begun, worked = time.perf_counter(), time.process_time()
        change()
        if not spin(seconds, lambda: self.drawn > 0):
            return float("nan")
        self.worked = 1000 * (time.process_time() - worked)
        return 1000 * (self.drawn - begun)


def settle(dock) -> None:
    shown = dock.preview
    spin(120, lambda: not (shown._timer.isActive() or shown._runner.running or shown._wanted))
    spin(0.1)


def measure(viewer, watch: Stopwatch, name: str, repeats: int) -> str:
    image = viewer.layers["CT"]
    viewer.layers.selection.active = image
    middle = viewer.dims.nsteps[0] // 2
    viewer.dims.set_current_step(0, middle)
    dock = getattr(docks, name)(viewer)
    if any(p.role == "seeds" for p in OPERATIONS[name].parameters):
        points = viewer.add_layer(new_points(image))
        points.add([(middle, *(n // 2 for n in image.data.shape[1:]))])
        dock.layers["seeds"].choose(points)
        dock.layers[OPERATIONS[name].input.name].choose(image)
    for field, value in FIELDS.get(name, {}).items():
        if field in dock.fields:
            dock.fields[field].set_value(value)
    dock.preview.box.setChecked(False)
    viewer.window.add_dock_widget(dock, name=name)
    spin(0.3)
    watch.watch(dock)
    first = watch.time(lambda: dock.preview.box.setChecked(True))
    settle(dock)
    if np.isnan(first):
        message = dock.preview.message
        viewer.window.remove_dock_widget(dock)
        return f"{name:20} no preview: {message}"
    scrolls, computed, changes, worked = [], [], [], []
    for step in range(repeats):
        scrolls.append(watch.time(lambda step=step: viewer.dims.set_current_step(0, middle + 1 + step)))
        computed.append(watch.computed)
        worked.append(watch.worked)
        settle(dock)
    changed = []
    for _ in range(3):
        changes.append(watch.time(dock.preview.request))
        changed.append(watch.worked)
        settle(dock)
    viewer.window.remove_dock_widget(dock)
    middling = statistics.median
    return (
        f"{name:20} {reach(name):10} scroll {middling(scrolls):4.0f} (worst {max(scrolls):4.0f}, "
        f"cpu {middling(worked):4.0f})  parameter {middling(changes):4.0f} (cpu {middling(changed):4.0f})  "
        f"first {first:6.0f}  compute {middling(computed):4.0f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(60, 512, 512))
    parser.add_argument("--rows", nargs="+", default=list(OPERATIONS))
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    offers.enabled = False
    viewer = napari.Viewer()
    viewer.add_layer(make_layer(make_volume(tuple(options.shape)), name="CT"))
    spin(2)
    watch = Stopwatch(viewer)
    print("ms, volume of", " x ".join(map(str, reversed(options.shape))), "int16")
    for name in options.rows:
        print(measure(viewer, watch, name, options.repeats), flush=True)
    viewer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
