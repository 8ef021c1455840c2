"""The runner: off the GUI thread, cancelled within a second, silent when nobody is left to listen."""

import gc
import threading
import time
import weakref

import pytest

from napari_lightbox.errors import InputError
from napari_lightbox.progress import report, track
from napari_lightbox.viewer import runner
from napari_lightbox.viewer.runner import Runner, run

pytestmark = pytest.mark.usefixtures("qapp")


def endless():
    """Work that only a cancel ends."""
    for _ in track(range(100_000), "steps"):
        time.sleep(0.005)


def test_work_leaves_the_gui_thread_and_callbacks_come_home(qtbot):
    seen = {}
    job = run(
        threading.get_ident,
        on_done=lambda worker: seen.update(worker=worker, home=threading.get_ident()),
        on_end=lambda: seen.update(end=threading.get_ident()),
    )
    qtbot.waitUntil(lambda: "worker" in seen, timeout=5000)
    assert seen["worker"] == job.thread_id != threading.get_ident()
    assert seen["home"] == seen["end"] == threading.get_ident()
    assert job.state == "done"
    assert not job.running


def test_progress_comes_with_a_number_at_most_twenty_times_a_second(qtbot):
    seen, home = [], threading.get_ident()

    def work():
        for _ in track(range(400), "tiles"):
            time.sleep(0.001)

    start = time.monotonic()
    job = run(work, on_progress=lambda text, share: seen.append((text, share, threading.get_ident())))
    qtbot.waitUntil(lambda: not job.running, timeout=5000)
    lasted = time.monotonic() - start
    assert 3 <= len(seen) <= 20 * lasted + 2
    assert {ident for _, _, ident in seen} == {home}
    shares = [share for _, share, _ in seen]
    assert shares == sorted(shares)
    assert shares[0] >= 0
    assert shares[-1] <= 1
    assert all(text.startswith("tiles ") and text.endswith("/400") for text, _, _ in seen)


def test_nested_loops_add_up():
    nested = runner._Nested()
    assert nested.update("frames", 0, 4) == ("frames 0/4", 0.0)
    assert nested.update("tiles", 5, 10) == ("frames 0/4, tiles 5/10", 0.125)
    assert nested.update("frames", 1, 4) == ("frames 1/4", 0.25)
    assert nested.update("tiles", 10, 10)[1] == 0.5
    assert nested.update("frames", 4, 4)[1] == 1.0
    # A loop after the end of another one is not part of it.
    assert nested.update("windows", 1, 2) == ("windows 1/2", 0.5)
    assert nested.update("voxels", 7, None) == ("windows 1/2, voxels 7", None)


def test_cancel_within_a_second(qtbot):
    calls = []
    job = run(
        endless,
        on_done=lambda _: calls.append("done"),
        on_cancelled=lambda: calls.append("cancelled"),
        on_error=lambda text: calls.append(text),
    )
    qtbot.wait(100)
    asked = time.monotonic()
    job.cancel()
    qtbot.waitUntil(lambda: not job.running, timeout=1000)
    assert time.monotonic() - asked < 1.0
    assert calls == ["cancelled"]


def test_cancel_that_comes_after_the_last_report_still_drops_the_result(qtbot):
    go, calls = threading.Event(), []
    job = run(go.wait, on_done=calls.append, on_cancelled=lambda: calls.append("cancelled"))
    job.cancel()
    go.set()
    qtbot.waitUntil(lambda: not job.running, timeout=2000)
    assert calls == ["cancelled"]


def test_errors_of_ours_are_told_as_they_are(qtbot):
    told = []

    def work():
        raise InputError("size 4 is even: use 3 or 5")

    job = run(work, on_error=told.append)
    qtbot.waitUntil(lambda: not job.running, timeout=2000)
    assert told == ["size 4 is even: use 3 or 5"]


def test_other_errors_become_one_sentence_and_the_traceback_goes_to_the_log(qtbot, caplog):
    told = []

    def work():
        raise ZeroDivisionError("division\nby zero")

    job = run(work, title="Median of CT", on_error=told.append)
    qtbot.waitUntil(lambda: not job.running, timeout=2000)
    assert told == ["Median of CT failed unexpectedly (ZeroDivisionError: division by zero); the log has the details"]
    assert "Traceback" in caplog.text
    assert "in work" in caplog.text


def test_out_of_memory_is_told_with_a_remedy(qtbot):
    told = []

    def work():
        raise MemoryError

    job = run(work, title="Resample", on_error=told.append)
    qtbot.waitUntil(lambda: not job.running, timeout=2000)
    assert "more memory" in told[0]


def test_error_without_a_listener_becomes_a_notification(qtbot, monkeypatch):
    told = []
    monkeypatch.setattr(runner, "notify_error", told.append)
    job = run(lambda: 1 / 0, title="Work")
    qtbot.waitUntil(lambda: not job.running, timeout=2000)
    assert len(told) == 1


def test_error_of_a_callback_is_told(qtbot):
    told = []

    def show(_):
        raise InputError("the layer is gone: choose another")

    job = run(lambda: 1, on_done=show, on_error=told.append)
    qtbot.waitUntil(lambda: not job.running, timeout=2000)
    assert told == ["the layer is gone: choose another"]


def test_one_job_at_a_time(qtbot):
    holder = Runner()
    holder.run(endless, title="Median of CT")
    assert holder.running
    with pytest.raises(InputError, match="Median of CT is still running"):
        holder.run(endless)
    holder.cancel()
    qtbot.waitUntil(lambda: not holder.running, timeout=1000)
    done = []
    holder.run(lambda: 5, on_done=done.append)
    qtbot.waitUntil(lambda: done == [5], timeout=1000)


def test_discard_calls_nobody(qtbot):
    holder, calls = Runner(), []
    job = holder.run(endless, on_cancelled=lambda: calls.append(1), on_end=lambda: calls.append(2))
    holder.discard()
    qtbot.waitUntil(lambda: not job.running, timeout=1000)
    assert calls == []


def test_finished_jobs_are_let_go(qtbot):
    class Big:
        pass

    big = Big()
    watch = weakref.ref(big)
    job = run(lambda big=big: big, on_done=lambda _: None)
    qtbot.waitUntil(lambda: not job.running, timeout=1000)
    del big
    gc.collect()
    assert watch() is None


@pytest.mark.parametrize("show", [False, True])
def test_closing_the_viewer_stops_its_jobs_quietly(make_napari_viewer, qtbot, show):
    viewer, calls = make_napari_viewer(show=show), []
    job = run(endless, viewer=viewer, on_done=calls.append, on_cancelled=lambda: calls.append(1),
              on_progress=lambda *_: report("nothing", 0, 1))  # fmt: skip
    qtbot.wait(60)
    viewer.close()
    qtbot.waitUntil(lambda: not job.running, timeout=3000)
    assert job.wait(0)
    assert calls == []


def test_closing_one_viewer_leaves_the_jobs_of_another(make_napari_viewer, qtbot):
    first, second, done = make_napari_viewer(), make_napari_viewer(), []
    go = threading.Event()
    run(go.wait, viewer=second, on_done=done.append)
    first.close()
    qtbot.wait(50)
    go.set()
    qtbot.waitUntil(lambda: done == [True], timeout=2000)
