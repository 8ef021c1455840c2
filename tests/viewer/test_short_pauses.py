"""Nothing holds the window up longer than it must: turns are short while jobs run, drawing comes after adding."""

import gc
import sys
import threading

import numpy as np

from napari_lightbox.viewer import adding, collecting
from napari_lightbox.viewer.jobbar import JobBar
from napari_lightbox.viewer.runner import main_window, run


def test_threads_take_short_turns_while_jobs_run(qtbot):
    before, seen, go_on = sys.getswitchinterval(), [], threading.Event()

    def work() -> None:
        seen.append(sys.getswitchinterval())
        go_on.wait(10)

    def fail() -> None:
        work()
        raise MemoryError

    jobs = [run(work), run(fail, on_error=lambda _: None)]
    qtbot.waitUntil(lambda: len(seen) == 2)
    go_on.set()
    qtbot.waitUntil(lambda: not any(job.running for job in jobs))
    assert seen == [min(before, 0.001)] * 2
    assert sys.getswitchinterval() == before


def test_a_layer_is_drawn_after_it_was_added(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    first = viewer.add_image(np.zeros((4, 5, 6)))
    canvas = main_window(viewer).centralWidget()
    assert canvas.updatesEnabled()
    layer = type(first)(np.ones((4, 5, 6)))
    adding.insert(viewer, layer)
    assert viewer.layers[-1] is layer
    assert viewer.layers.selection.active is first
    assert not canvas.updatesEnabled()
    qtbot.waitUntil(canvas.updatesEnabled, timeout=2000)


def test_layers_of_a_window_that_closes_meanwhile_do_no_harm(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    layer = viewer.add_image(np.zeros((4, 5, 6)))
    done = []
    adding.add_in_turn(viewer, [type(layer)(np.ones((4, 5, 6))) for _ in range(2)], done.append)
    viewer.close()
    qtbot.wait(100)
    assert done == []


def test_every_dock_with_a_job_makes_full_collections_rare(make_napari_viewer, qtbot, monkeypatch):
    before = gc.get_threshold()
    monkeypatch.setattr(collecting, "_open", [])
    gc.set_threshold(700, 10, 10)
    try:
        viewer = make_napari_viewer()
        qtbot.addWidget(JobBar(viewer))
        assert gc.get_threshold() == (700, 10, collecting.RARELY)
        qtbot.addWidget(JobBar(None))
    finally:
        gc.set_threshold(*before)
