"""The parts that the operations share."""

import threading

import numpy as np
import pytest

from napari_lightbox.errors import InputError
from napari_lightbox.ops import _check, _tiles
from napari_lightbox.progress import Cancelled, listening

NUMPY_PAD = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap"}


@pytest.mark.parametrize("mode", NUMPY_PAD)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_border_equals_padding(mode, size):
    truth = np.pad(np.arange(size), 20, mode=NUMPY_PAD[mode])
    np.testing.assert_array_equal(_tiles.border_index(-20, size + 20, size, mode), truth)


def test_a_block_with_its_halo_equals_a_cut_of_the_padded_image(rng):
    image = rng.integers(0, 99, (7, 9, 5))
    padded = np.pad(image, ((2, 2), (3, 3), (0, 0)))
    found = _tiles.with_halo(image, (slice(0, 4), slice(3, 9), slice(1, 5)), (2, 3, 0), "constant")
    np.testing.assert_array_equal(found, padded[0:8, 3:15, 1:5])


@pytest.mark.parametrize("shape", [(5,), (7, 9), (10, 1, 33), (4, 5, 6, 7), (1, 1)])
@pytest.mark.parametrize("voxels", [1, 10, 50, 10**6])
def test_blocks_and_slabs_cover_everything_once(shape, voxels):
    for parts in (_tiles.blocks(shape, voxels), _tiles.slabs(shape, voxels)):
        count = np.zeros(shape, int)
        for part in parts:
            count[part] += 1
        assert (count == 1).all()
    assert all(np.prod([s.stop - s.start for s in block]) <= voxels for block in _tiles.blocks(shape, voxels))


def test_parts_run_once_each_in_several_threads():
    seen, reports = [], []
    with listening(lambda *report: reports.append(report)):
        _tiles.run(seen.append, range(100), "parts")
    assert sorted(seen) == list(range(100))
    assert reports[0] == ("parts", 0, 100)
    assert reports[-1] == ("parts", 100, 100)


def test_cancel_is_heard_while_a_part_runs_and_drops_the_rest():
    started, leave = [], threading.Event()

    def work(part):
        started.append(part)
        leave.wait(5)

    def listener(what, done, total):
        if started:
            leave.set()
            raise Cancelled

    with listening(listener), pytest.raises(Cancelled):
        _tiles.run(work, range(1000), "parts")
    assert len(started) < 100


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("1,2;3,4", [[1, 2], [3, 4]]),
        ("  1.5  -2e1 ;\n [3, +4] ; ", [[1.5, -20], [3, 4]]),
        ("(1, 2, 3)", [[1, 2, 3]]),
        ("7", [[7]]),
    ],
)
def test_points_are_read(text, points):
    np.testing.assert_array_equal(_check.parse_points(text), points)


@pytest.mark.parametrize("text", ["1,2;3", "a,b", "1,,x", "1;2,3"])
def test_points_that_cannot_be_read_are_quoted(text):
    with pytest.raises(InputError, match="cannot be read") as caught:
        _check.parse_points(text, "centers")
    assert repr(text) in str(caught.value)


def test_empty_text_holds_no_points():
    assert _check.parse_points(" ; \n").shape == (0, 0)


def test_float_types_hold_every_value():
    for given, expected in {"?": "f", "b": "f", "H": "f", "e": "f", "f": "f", "i": "d", "Q": "d", "d": "d"}.items():
        assert _check.float_type(np.dtype(given)) == np.dtype(expected)


def test_more_memory_than_the_machine_has_is_refused():
    _check.memory(1000, "a result", "use larger voxels")
    with pytest.raises(InputError, match="GB"):
        _check.memory(1 << 60, "a result", "use larger voxels")


def test_the_number_of_threads_is_a_setting(monkeypatch):
    monkeypatch.setenv("LIGHTBOX_THREADS", "1")
    assert _tiles.workers() == 1
    used = set()
    _tiles.run(lambda part: used.add(threading.get_ident()), range(8), "parts")
    assert used == {threading.get_ident()}
    monkeypatch.setenv("LIGHTBOX_THREADS", "many")
    with pytest.raises(InputError, match="LIGHTBOX_THREADS 'many' must be a whole number"):
        _tiles.workers()
    monkeypatch.delenv("LIGHTBOX_THREADS")
    assert _tiles.workers() >= 1
