"""Arrays in compressed chunks on disk: against arrays of numpy that the same was done to."""

import copy
import gc
import os
import pickle
import threading

import numpy as np
import pytest
from nets import Net, ct_card, make

import napari_lightbox as lb
from napari_lightbox.errors import FileError
from napari_lightbox.models import chunks, cost, predict, stores
from napari_lightbox.models.loaders import Model
from napari_lightbox.progress import Cancelled, listening

torch = pytest.importorskip("torch")
pytest.importorskip("zarr")


def pair(shape=(70, 40, 150), along=-3, seed=0):
    """Return an array in chunks and one of numpy with the same values."""
    values = np.random.default_rng(seed).random(shape).astype(np.float16)
    made = stores.make(shape, np.float16, on_disk=True, along=along)
    assert isinstance(made, chunks.Chunked)
    made[...] = values
    return made, values


def some_index(shape, random):
    index = []
    for length in shape:
        a, b = sorted(random.integers(0, length + 1, 2).tolist())
        choices = (int(random.integers(-length, length)), slice(a, b, int(random.integers(1, 4))), slice(None))
        index.append((*choices, slice(b, a, -2), slice(None, None, -1))[random.integers(0, 5)])
    return tuple(index)


@pytest.mark.parametrize(("shape", "along"), [((70, 40, 150), -3), ((2, 40, 70, 90), -1), ((3, 4, 5), -2)])
def test_it_holds_and_gives_what_an_array_of_numpy_would(shape, along):
    random = np.random.default_rng(1)
    made, wanted = stores.make(shape, np.float16, on_disk=True, along=along), np.zeros(shape, np.float16)
    order = (1, 2, 0) if len(shape) == 3 else (0, 3, 1, 2)
    flips = tuple(slice(None, None, -1) if axis % 2 else slice(None) for axis in range(len(shape)))
    turned, expected = made.transpose(order)[flips], wanted.transpose(order)[flips]
    assert isinstance(turned, chunks.Chunked)
    for _ in range(12):
        where = tuple(slice(*sorted(random.integers(0, n + 1, 2).tolist())) for n in expected.shape)
        values = random.random(expected[where].shape).astype(np.float32)
        turned[where] = expected[where] = values
    assert np.array_equal(np.asarray(made), wanted)
    for _ in range(60):
        index = some_index(expected.shape, random)
        found = turned[index]
        assert np.shape(found) == expected[index].shape
        assert np.array_equal(np.asarray(found), expected[index])
    mask = expected > 0.5
    assert np.array_equal(turned > 0.5, mask)
    assert np.array_equal(turned[mask], expected[mask])
    assert np.array_equal(turned[np.nonzero(mask)], expected[mask])
    assert turned.max() == expected.max()
    assert np.array_equal(1 - turned.astype(np.float32), 1 - expected.astype(np.float32))
    with pytest.raises(IndexError):
        turned[shape[order[0]]]


def test_what_was_read_may_be_changed_and_does_not_come_back():
    made, values = pair((8, 9, 10))
    found = made[3]
    found[:] = 7
    assert np.array_equal(made[3], values[3])
    made[3, 2] = 0.25
    assert (made[3, 2] == 0.25).all()
    assert np.array_equal(made[3, 3], values[3, 3])


def test_little_is_read_for_a_slice_and_less_stored_where_values_are_alike(monkeypatch):
    made = stores.make((96, 256, 256), np.float16, on_disk=True)
    made[40:50, :128] = np.linspace(0, 1, 256, dtype=np.float32)
    made.settle()
    assert made.stored_bytes < made.nbytes / 50
    read = []
    get = made._kept.file.get

    async def counted(key, *args, **more):
        read.append(key)
        return await get(key, *args, **more)

    monkeypatch.setattr(made._kept.file, "get", counted)
    chunks._forget(made._kept.number)
    assert float(made[45, 100, 255]) == 1
    assert len(read) == 1
    assert made[45].shape == made[44].shape == (256, 256)
    assert len(read) == 5
    assert made[:, :, 7].shape == (96, 256)
    assert len(read) == 11


def test_nothing_is_left_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made, values = pair((70, 20, 30))
    handles = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    view = made.T[::-1]
    del made
    gc.collect()
    assert np.array_equal(np.asarray(view), values.T[::-1])
    del view
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    assert handles is None or len(os.listdir("/proc/self/fd")) < handles


def test_a_full_disk_is_told(monkeypatch):
    made = stores.make((4, 5, 6), np.float32, on_disk=True)
    made[1] = 3

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_lightbox.models._one_file._write", full)
    with pytest.raises(FileError, match="TMPDIR"):
        made.settle()


def test_it_is_copied_sent_and_asked_as_an_array_but_takes_no_results_of_arithmetic():
    made, values = pair((4, 5, 6))
    assert copy.copy(made) is made
    assert np.array_equal(pickle.loads(pickle.dumps(made[::-1])), values[::-1])
    assert made.itemsize == 2
    assert np.array_equal(made.take([1, 3], 1), values.take([1, 3], 1))
    with pytest.raises(TypeError, match="takes no results"):
        made += 1
    with pytest.raises(TypeError, match="takes no results"):
        np.add(made, 1, out=made)
    assert np.array_equal(np.asarray(made), values)


def test_one_that_goes_while_the_readings_are_locked_holds_nobody_up():
    made, _ = pair((4, 5, 6))
    assert made[1].shape == (5, 6)
    number = made._kept.number
    with chunks._lock:
        # As where memory is collected in the middle of a reading.
        del made
        gc.collect()
        assert number in chunks._gone
    pair((4, 5, 6))[0][1]
    assert number not in {key[0] for key in chunks._recent}


def test_a_reading_waits_for_what_is_being_written():
    """The place of a chunk in the file may be given to another meanwhile."""
    made, values = pair((4, 5, 6))
    made.settle()
    found = []
    reader = threading.Thread(target=lambda: found.append(made[2]), daemon=True)
    with made._kept._busy:
        reader.start()
        reader.join(0.05)
        assert not found
    reader.join(5)
    assert np.array_equal(found[0], values[2])


@pytest.fixture
def on_disk(monkeypatch):
    monkeypatch.setattr(cost, "_SMALL", 1000)


def test_both_ways_of_keeping_them_give_the_same_and_so_does_memory(on_disk, monkeypatch):
    """In four parts of the plane, axes turned and flipped, two frames."""
    volume = make((2, 30, 40, 50))
    card = ct_card(window__size=[8, 16, 16], input__orientation="PSR")
    model = Model(card, Net(lambda x: torch.cat([x, -x, x.roll(2, -1)], 1)))
    found = {}
    for name, there, memory in (("memory", True, None), ("chunks", True, 300_000), ("memmap", False, 300_000)):
        monkeypatch.setattr(chunks, "available", lambda there=there: there)
        found[name] = predict(volume, model, probabilities="all", memory=memory, check=False)
    assert any("divided" in note for note in found["chunks"].notes)
    assert isinstance(found["chunks"].probability(1).data, chunks.Chunked)
    assert isinstance(found["memmap"].probability(1).data, np.memmap)
    for name in ("chunks", "memmap"):
        assert np.array_equal(found[name].labels.data, found["memory"].labels.data)
        for value in range(3):
            wanted = np.asarray(found["memory"].probability(value).data)
            assert np.array_equal(np.asarray(found[name].probability(value).data), wanted)


def test_it_is_saved_and_worked_on_like_any_volume(tmp_path):
    made, values = pair((20, 30, 40))
    volume = lb.Volume.from_array(values, (2, 1, 1)).replace(data=made, kind="probability")
    lb.write(volume, tmp_path / "p.nii.gz")
    assert np.array_equal(lb.read(tmp_path / "p.nii.gz").data, values)
    # With the checksum of the voxels, by which a file that was changed is told.
    lb.write(volume.replace(data=values), tmp_path / "q.nii.gz")
    assert (tmp_path / "p.nii.gz").read_bytes() == (tmp_path / "q.nii.gz").read_bytes()
    blurred = lb.apply("gaussian", volume, sigma=1.0)
    assert np.array_equal(blurred.data, lb.apply("gaussian", volume.replace(data=values), sigma=1.0).data)


def test_a_viewer_shows_it_slice_by_slice():
    pytest.importorskip("napari")
    from napari_lightbox.viewer.layers import layer_to_volume, make_layer

    made, values = pair((20, 30, 40))
    volume = lb.Volume.from_array(values, (2, 1, 1)).replace(data=made, kind="probability")
    layer = make_layer(volume)
    assert isinstance(layer.data, chunks.Chunked)
    again = layer_to_volume(layer)
    assert isinstance(again.data, chunks.Chunked)
    assert np.array_equal(np.asarray(again.data), values)


def test_writing_can_be_cancelled(on_disk):

    def listen(what, *_):
        if what == "probabilities":
            raise Cancelled

    model = Model(ct_card(), Net(lambda x: torch.cat([x, -x, x], 1)))
    with listening(listen), pytest.raises(Cancelled):
        predict(make((6, 7, 8)), model, probabilities="all", memory=1001, check=False)
