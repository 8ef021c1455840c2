"""Where a network is asked, and how it can be left."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from napari_lightbox.models import asking, predict  # noqa: E402
from napari_lightbox.models.asking import leavable  # noqa: E402
from napari_lightbox.progress import Cancelled, listening, report  # noqa: E402
from napari_lightbox.volume import Volume  # noqa: E402


def quiet(*_what) -> None:
    """Look or listen, and do nothing."""


@pytest.fixture
def heard():
    """Somebody listens, and so could cancel."""
    with listening(quiet):
        yield


def here(_given) -> bool:
    """Say whether this is the thread of the test."""
    return threading.current_thread() is threading.main_thread()


def test_the_first_answer_is_waited_for_in_another_thread_and_short_ones_are_made_here(heard):
    with leavable(here, quiet) as ask:
        assert [ask(None) for _ in range(3)] == [False, True, True]
        assert list(ask.each(here(None) for _ in range(2))) == [True, True]
    assert not any(thread.name == "lightbox-network" and thread.is_alive() for thread in _soon_ended())


def _soon_ended() -> list[threading.Thread]:
    for thread in threading.enumerate():
        if thread.name == "lightbox-network":
            thread.join(5)
    return threading.enumerate()


def test_without_a_listener_nothing_is_asked_elsewhere():
    with leavable(here, quiet) as ask:
        assert ask(None)
    assert all(thread.name != "lightbox-network" for thread in threading.enumerate())


def test_after_a_long_answer_the_next_is_waited_for_elsewhere_again(heard, monkeypatch):
    monkeypatch.setattr(asking, "_SHORT", 0.1)

    def network(seconds):
        time.sleep(seconds)
        return here(None)

    with leavable(network, quiet) as ask:
        assert [ask(seconds) for seconds in (0.0, 0.2, 0.0, 0.0)] == [False, True, False, True]


def test_windows_that_take_long_can_all_be_left(heard, monkeypatch):
    """Steps that ask nothing, and the ends of runs of steps, take no time and say nothing of the next window."""
    monkeypatch.setattr(asking, "_SHORT", 0.02)
    places = []

    def network(x):
        places.append(here(None))
        time.sleep(0.04)
        return x

    image = np.zeros((20, 6, 6), np.float32)
    image[12:] = 1
    volume = Volume.from_array(image, spacing=(1, 1, 1))
    for skip_below in (None, 0.5):
        predict(volume, network, window=(4, 6, 6), overlap=0, skip_below=skip_below)
    assert len(places) == 5 + 1 + 2
    assert not any(places)


def test_another_thread_is_asked_while_the_last_is_still_about_to_end(heard):
    looks = []

    def look():
        looks.append(1)
        if len(looks) > 10:
            raise Cancelled

    with leavable(here, look) as ask:
        assert not ask(None)
        first, ask._questions, ask._took = ask._questions, None, float("inf")
        assert not ask(None)
        first.put(None)


def test_an_error_holds_on_to_nothing_that_the_network_had(heard):
    class Large:
        """Stands for the features of a network, whose memory another try needs."""

    made = []

    def network(_):
        large = Large()
        made.append(weakref.ref(large))
        raise MemoryError

    gc.disable()
    try:
        with leavable(network, quiet) as ask:
            with pytest.raises(ZeroDivisionError):
                _fail_otherwise(ask)
            for _ in range(100):
                if made[0]() is None:
                    break
                time.sleep(0.02)
            assert made[0]() is None
    finally:
        gc.enable()


def _fail_otherwise(ask) -> None:
    try:
        ask(None)
    except MemoryError:
        failed = True
    if failed:
        raise ZeroDivisionError


def test_a_long_answer_is_left_at_once_and_the_network_stops_at_its_next_function(heard):
    ended, go_on = [], threading.Event()

    def network(x):
        try:
            go_on.wait(30)
            return x + 1
        except Cancelled:
            ended.append("stopped")
            raise

    def look():
        raise Cancelled

    began = time.perf_counter()
    with pytest.raises(Cancelled), leavable(network, look) as ask:
        ask(torch.zeros(2))
    assert time.perf_counter() - began < 10
    go_on.set()
    _soon_ended()
    assert ended == ["stopped"]


def test_a_process_that_ends_lets_answers_that_were_left_come_to_their_end(heard):
    go_on = threading.Event()

    def look():
        raise Cancelled

    with pytest.raises(Cancelled), leavable(lambda _: go_on.wait(30), look) as ask:
        ask(None)
    threading.Timer(0.3, go_on.set).start()
    asking._wait_for_all()
    assert all(thread.name != "lightbox-network" for thread in threading.enumerate())


@pytest.mark.parametrize("short", [0.0, 100.0], ids=["in the other thread", "here"])
def test_answers_and_errors_come_back_and_only_the_asker_tells_progress(monkeypatch, short):
    monkeypatch.setattr(asking, "_SHORT", short)
    told = []

    def network(x):
        report("steps inside", 1)
        if x is None:
            raise ValueError("not this one")
        assert torch.is_inference_mode_enabled()
        return x * 2

    with listening(lambda *what: told.append(what)), leavable(network, quiet) as ask:
        assert [ask(number) for number in (1, 2)] == [2, 4]
        with pytest.raises(ValueError, match="not this one"):
            ask(None)
        assert ask(3) == 6
        assert list(ask.each(network(n) for n in (1, 2))) == [2, 4]
    assert told == []
    assert not torch.is_inference_mode_enabled()


def test_openmp_threads_come_back_after_they_were_let_go():
    x = torch.arange(1 << 20, dtype=torch.float32)
    before = (x * 2).sum()
    for _ in range(3):
        asking._let_threads_go()
        assert (x * 2).sum() == before
