"""Measures a flight of the Errors dock: from a click on an error until all four canvases have drawn it.

    xvfb-run -a -s "-screen 0 1600x1000x24" python tests/benchmarks/flights.py PREDICTION REFERENCE [IMAGE]

With the three planes open beside the main canvas. Prints for each way of flying (a click in the table, the key of the
next error) the median and the worst time until the last canvas has drawn, what the GUI thread computed for it, and how
often layers were sliced and canvases drawn. Exits with 1 if a median is over --limit.
"""

import argparse
import os
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import napari
import numpy as np
from napari.layers._scalar_field.scalar_field import ScalarFieldSlicingState
from qtpy.QtCore import QCoreApplication, QEvent, QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDockWidget

from napari_lightbox.io import read
from napari_lightbox.viewer import offers, preview
from napari_lightbox.viewer.layers import make_layer
from napari_lightbox.viewer.panels._pane import main_canvas
from napari_lightbox.viewer.panels.errors import ErrorsPanel
from napari_lightbox.viewer.panels.three_planes import ThreePlanes
from napari_lightbox.viewer.runner import main_window

# Seconds without a draw after which nothing more is expected.
QUIET = 0.35


def spin(seconds: float, until=lambda: False) -> bool:
    """Run the event loop for some seconds, or until something is true."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end and not until():
        QCoreApplication.processEvents()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        time.sleep(0.0005)
    return until()


class Watch:
    """Notes when each canvas has drawn, and counts draws and slicings."""

    def __init__(self, canvases: dict) -> None:
        self.draws, self.slices, self.last = Counter(), Counter(), {}
        for name, qt_viewer in canvases.items():
            canvas = qt_viewer.canvas._scene_canvas
            canvas.events.draw.connect(lambda event, name=name: self._drawn(name), position="last")

    def restart(self) -> None:
        """Forget what was counted."""
        self.draws.clear()
        self.slices.clear()
        self.last.clear()

    def _drawn(self, name: str) -> None:
        self.draws[name] += 1
        self.last[name] = time.perf_counter()

    @contextmanager
    def slicing(self):
        """Count slicings of layers meanwhile."""
        before = ScalarFieldSlicingState.set_view_slice
        watch = self

        def counted(state):
            watch.slices[state.layer.name] += 1
            return before(state)

        ScalarFieldSlicingState.set_view_slice = counted
        try:
            yield
        finally:
            ScalarFieldSlicingState.set_view_slice = before


def fly(panel, place: int, key: bool) -> None:
    """Go to a row as a hand would."""
    if key:
        panel.step(1)
        return
    table = panel.table
    table.scrollTo(panel.model.index(place, 0))
    QTest.mouseClick(
        table.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier,
        QPoint(60, table.rowViewportPosition(place) + 8),
    )  # fmt: skip


def once(watch: Watch, panel, place: int, key: bool) -> tuple[float, float, float]:
    """Fly once; return ms until the last canvas has drawn and the window is idle, and ms computed by then."""
    watch.restart()
    begun, used = time.perf_counter(), time.thread_time()
    fly(panel, place, key)
    done = time.perf_counter()
    clicked = 1000 * (done - begun)
    shown, worked = begun, used
    while time.perf_counter() - max(shown, done) < QUIET:
        before = sum(watch.draws.values()), time.thread_time()
        QCoreApplication.processEvents()
        if sum(watch.draws.values()) > before[0]:
            # Also what Qt does to put the window together.
            shown, worked = time.perf_counter(), time.thread_time()
        time.sleep(0.0005)
    if set(watch.last) != {"main", "axial", "coronal", "sagittal"}:
        print(f"  row {place}: drawn only {sorted(watch.last)}")
    return 1000 * (shown - begun), 1000 * (worked - used), clicked


def check(viewer, planes, panel) -> None:
    """Stop unless all four canvases are where the error is."""
    row = panel._row()
    world = np.array(panel.layer.data_to_world(row["voxel"]))
    for name, model in {"main": viewer, **{k: p.model for k, p in planes.panes.items()}}.items():
        dims = model.dims
        for axis in dims.not_displayed:
            assert abs(dims.point[axis] - world[axis]) <= dims.range[axis].step / 2 + 1e-6, (name, dims.point, world)
        assert np.allclose(model.scene.camera.center[-2:], world[list(dims.displayed)], atol=1e-3), name


def main() -> int:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prediction")
    parser.add_argument("reference")
    parser.add_argument("image", nargs="?")
    parser.add_argument("--flights", type=int, default=12)
    parser.add_argument("--limit", type=float, default=200.0, help="ms, of the median")
    parser.add_argument("--profile", help="file to write a profile of all flights to")
    parser.add_argument("--picture", help="file to write a picture of the window to")
    options = parser.parse_args()
    offers.enabled = preview.enabled = False
    viewer = napari.Viewer()
    viewer.window.resize(1600, 1000)
    for name, path in (("image", options.image), ("prediction", options.prediction), ("reference", options.reference)):
        if path:
            kind = "image" if name == "image" else "labels"
            viewer.add_layer(make_layer(read(path, kind=kind), name=name))
            spin(0.5)
    planes, panel = ThreePlanes(viewer), ErrorsPanel(viewer)
    viewer.window.add_dock_widget(planes, name="Three planes", area="right")
    viewer.window.add_dock_widget(panel, name="Errors", area="right")
    main = main_window(viewer)
    docks = [
        next(one for one in main.findChildren(QDockWidget) if one.isAncestorOf(widget)) for widget in (planes, panel)
    ]
    main.splitDockWidget(*docks, Qt.Orientation.Horizontal)
    viewer.window.resize(1600, 1000)
    spin(60, lambda: planes.ready and len(planes.panes) == 3)
    panel.predicted_box.choose(viewer.layers["prediction"])
    panel.reference_box.choose(viewer.layers["reference"])
    panel.find()
    spin(120, lambda: not panel.bar.running)
    spin(2)
    if len(panel.model.shown) < 2:
        print(panel.bar.message or "no errors to fly to")
        return 1
    watch = Watch({"main": main_canvas(viewer), **{k: pane.qt_viewer for k, pane in planes.panes.items()}})
    profile, failed = None, False
    if options.profile:
        import cProfile

        profile = cProfile.Profile()
    count = min(options.flights, len(panel.model.shown) - 1)
    for key in (False, True):
        panel.show_row(0)
        spin(1.0)
        times = []
        with watch.slicing():
            for place in range(1, count + 1):
                if profile:
                    profile.enable()
                times.append(once(watch, panel, place, key))
                if profile:
                    profile.disable()
                check(viewer, planes, panel)
                spin(0.1)
        drawn, worked, clicked = np.array(times).T
        way = "next" if key else "click"
        print(
            f"{Path(options.prediction).name} {way:5}: {len(times)} flights of {len(panel.model.rows)} errors, all "
            f"drawn after {np.median(drawn):.0f} ms (best {drawn.min():.0f}, worst {drawn.max():.0f}), GUI thread "
            f"computed {np.median(worked):.0f} ms, {np.median(clicked):.0f} ms until the click returned; last one: "
            f"draws {dict(watch.draws)}, slicings {dict(watch.slices)}",
            flush=True,
        )
        failed |= np.median(drawn) > options.limit
    if profile:
        profile.dump_stats(options.profile)
    if options.picture:
        QApplication.primaryScreen().grabWindow(0).save(options.picture)
    viewer.close()
    return int(failed)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
