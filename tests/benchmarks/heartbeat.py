"""Measures how long the window stands still while a job runs: the longest gap between two beats of a fast timer.

    xvfb-run -a python tests/benchmarks/heartbeat.py [--shape 200 512 512] [--jobs inference median ...] [--limit 100]

Prints one line a job: the longest gap while the job ran, and the longest until all of its results were on screen
(which is napari's own doing: shaders and texture upload; the first Labels layer of a process takes longest, so
inference comes first). Exits with 1 if a gap during a job is over --limit, or one at its end over --limit-shown.
"""

import argparse
import sys
import time

import napari
import numpy as np
from qtpy.QtCore import QCoreApplication, QEvent, QObject, Qt, QTimer

from napari_lightbox.errors import InputError, LightboxError
from napari_lightbox.geometry import Grid
from napari_lightbox.io import read
from napari_lightbox.viewer import docks, offers, preview
from napari_lightbox.viewer.layers import make_layer
from napari_lightbox.volume import Volume

BEAT = 5  # ms


class Heartbeat(QObject):
    """A timer of the GUI thread that notes the longest time between two of its beats.

    `worst` is by the clock; `worked` is the most that this thread computed between two beats, which is what remains of
    a gap on a machine that does nothing else.
    """

    def __init__(self) -> None:
        super().__init__()
        self.restart()
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._timer.start(BEAT)

    def _beat(self) -> None:
        now, used = time.perf_counter(), time.thread_time()
        self.worst = max(self.worst, 1000 * (now - self._last))
        self.worked = max(self.worked, 1000 * (used - self._used))
        self._last, self._used = now, used

    def restart(self) -> None:
        """Forget what was measured."""
        self.worst, self._last = 0.0, time.perf_counter()
        self.worked, self._used = 0.0, time.thread_time()


def spin(seconds: float, until=lambda: False) -> bool:
    """Run the event loop for some seconds, or until something is true."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end and not until():
        QCoreApplication.processEvents()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        time.sleep(0.0005)
    return until()


def make_volume(shape: tuple[int, int, int]) -> Volume:
    """Return a CT-like volume with a little of everything."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    data = np.where(y * y + x * x < 0.6, 40, -1000) + 200 * ((x - 0.3) ** 2 + y * y + z * z < 0.1)
    data = (data + rng.normal(0, 20, shape).astype(np.float32)).astype(np.int16)
    grid = Grid.from_spacing((1.5, 0.8, 0.8), shape)
    return Volume(data, grid, name="CT", meta={"modality": "CT", "unit": "HU"})


def measure(heart: Heartbeat, viewer, start, running, seconds: float) -> list[tuple[float, float]]:
    """Start a job; return the gaps at the click, while it runs, when the result is added: ms by clock, ms worked."""
    before = len(viewer.layers)
    heart.restart()
    start()
    spin(0.05)
    click = heart.worst, heart.worked
    heart.restart()
    worst = 0.0, 0.0
    # The last gap before the end belongs to showing the result, not to the work.
    end = time.perf_counter() + seconds
    while running() and time.perf_counter() < end:
        worst = heart.worst, heart.worked
        spin(0.02, lambda: not running())
    # Results come one by one: wait until no more do.
    count = -1
    while count != len(viewer.layers):
        count = len(viewer.layers)
        spin(1.0)
    shown = (heart.worst, heart.worked) if count > before else (0.0, 0.0)
    return [click, worst, shown]


def operation_job(viewer, name: str):
    """Return what starts the dock of an operation, and what tells whether it runs."""
    dock = getattr(docks, name)(viewer)
    viewer.window.add_dock_widget(dock, name=name)
    return dock, dock.apply, lambda: dock.bar.running


def inference_job(viewer, model: str):
    """Return the same for the inference dock with a shipped model."""
    from napari_lightbox.viewer.panels.inference import InferencePanel

    panel = InferencePanel(viewer)
    viewer.window.add_dock_widget(panel, name="inference")
    panel.choose_model(model)
    if not spin(60, panel.run_button.isEnabled):
        raise InputError(f"model {model} does not take this volume")
    return panel, panel.run, lambda: panel.bar.running


def _text(gap: tuple[float, float]) -> str:
    return f"{gap[0]:.0f} ms ({gap[1]:.0f} worked)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(200, 512, 512))
    parser.add_argument("--jobs", nargs="+", default=["inference", "median", "otsu", "resample"])
    parser.add_argument("--input", help="a volume to measure with, in place of a made one")
    parser.add_argument("--model", default="ct-regions")
    parser.add_argument("--limit", type=float, default=100.0, help="ms")
    parser.add_argument("--limit-shown", type=float, default=700.0, help="ms")
    parser.add_argument("--worked", action="store_true", help="judge by the time worked, not by the clock")
    parser.add_argument("--seconds", type=float, default=600.0, help="longest time for one job")
    options = parser.parse_args()
    offers.enabled = preview.enabled = False
    viewer = napari.Viewer()
    volume = read(options.input) if options.input else make_volume(tuple(options.shape))
    viewer.add_layer(make_layer(volume, name="CT"))
    spin(2)
    heart, failed = Heartbeat(), False
    for job in options.jobs:
        viewer.layers.selection.active = viewer.layers["CT"]
        try:
            made = inference_job(viewer, options.model) if job == "inference" else operation_job(viewer, job)
        except (ImportError, LightboxError) as error:
            print(f"{job}: not measured ({error})")
            continue
        dock, start, running = made
        if job == "resample":
            dock.fields["spacing"].set_value((2.0, 1.2, 1.2))
        spin(0.5)
        begun = time.perf_counter()
        click, worst, shown = measure(heart, viewer, start, running, options.seconds)
        took = time.perf_counter() - begun
        print(
            f"{job}: {took:.1f} s, longest gap {_text(worst)} while it ran, {_text(click)} at the click, "
            f"{_text(shown)} when the result came on screen",
            flush=True,
        )
        # With --worked, what others do on this machine is left out.
        by = int(options.worked)
        failed |= max(worst[by], click[by]) > options.limit or shown[by] > options.limit_shown
        viewer.window.remove_dock_widget(dock)
    viewer.close()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
