"""What is made on purpose is not looked at by the next collections, and nothing is kept alive by that."""

import gc
import threading
import weakref

import pytest

from napari_lightbox.collector import many_lasting_objects


class Knot:
    """An object that only a collection can free."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def collecting():
    was_on = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if was_on else gc.disable)()


def young() -> int:
    """Return how many objects the two younger generations hold."""
    return len(gc.get_objects(generation=0)) + len(gc.get_objects(generation=1))


def test_what_was_made_is_old_at_once_and_freed_when_all_is_looked_at(collecting):
    frozen = gc.get_freeze_count()
    with many_lasting_objects():
        made = [Knot() for _ in range(20_000)]
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen
    if not frozen:
        assert young() < 10_000
    gone = weakref.ref(made[0])
    del made
    gc.collect(1)
    assert frozen or gone() is not None
    gc.collect()
    assert gone() is None


def test_objects_of_no_such_block_are_young(collecting):
    gc.collect()
    gc.disable()
    kept = [Knot() for _ in range(20_000)]
    assert young() > len(kept)


def test_frozen_objects_stay_frozen(collecting):
    gc.freeze()
    try:
        before = gc.get_freeze_count()
        with many_lasting_objects():
            kept = [Knot() for _ in range(100)]
        assert gc.get_freeze_count() == before
        assert len(kept) == 100
        assert gc.isenabled()
    finally:
        gc.unfreeze()


def test_it_ends_with_the_last_of_several_threads(collecting):
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with many_lasting_objects():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with many_lasting_objects():
        thread.start()
        assert entered.wait(10)
    assert not gc.isenabled()
    leave.set()
    thread.join(10)
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off(collecting):
    gc.disable()
    with pytest.raises(ZeroDivisionError), many_lasting_objects():
        1 / 0  # noqa: B018 - to leave by an exception
    assert not gc.isenabled()
