"""Memory: what is quoted against what a process of its own really takes, budgets, files, and running out of it."""

import errno
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from nets import Net, constant_logits, ct_card, make, make_card

from napari_lightbox.errors import FileError, InputError
from napari_lightbox.models import cost, predict, quote, stores
from napari_lightbox.models.loaders import Model

torch = pytest.importorskip("torch")
MEASURE = Path(__file__).parents[1] / "benchmarks" / "inference_memory.py"
linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")


def measured(**case):
    """Return what a case was quoted and what it took, bytes, in a process of its own."""
    call = [sys.executable, str(MEASURE), "--case", json.dumps(case)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, capture_output=True, text=True, check=True, timeout=3000, env=env)
    return json.loads(done.stdout.splitlines()[-1])


@linux
@pytest.mark.parametrize(
    "case",
    [
        {"shape": [48, 192, 192], "classes": 10, "window": [24, 64, 64], "overlap": 0.25, "probabilities": "all"},
    ],
)
def test_the_quote_is_within_a_fifth_of_what_is_taken(case):
    found = measured(**case)
    assert found["quoted"] == pytest.approx(found["taken"], rel=0.2)


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        {"shape": [48, 192, 192], "classes": 20, "window": [24, 64, 64], "overlap": 0.25},
        {"shape": [200, 256, 256], "classes": 4, "window": [64, 64, 64]},
        {"shape": [160, 256, 256], "classes": 8, "window": [32, 64, 64]},
        {"shape": [96, 192, 192], "classes": 40, "window": [32, 64, 64], "memory": 2.2e8},
        {"shape": [96, 192, 192], "classes": 20, "window": [32, 64, 64], "probabilities": "all", "memory": 3e8},
        {"shape": [48, 48, 48], "classes": 4, "window": [32, 32, 32], "channels": [16, 32]},
        {"shape": [64, 160, 160], "classes": 4, "window": [64, 64, 64], "channels": [16, 32]},
        {"shape": [96, 192, 192], "classes": 4, "window": [96, 96, 96], "channels": [16, 32, 64]},
        {"shape": [40, 192, 192], "classes": 4, "window": [64, 64], "channels": [16, 32]},
        {"shape": [24, 512, 512], "classes": 4, "window": [256, 256], "channels": [16, 32, 64]},
    ],
)
def test_larger_quotes_too(case):
    found = measured(**case)
    assert found["quoted"] == pytest.approx(found["taken"], rel=0.2)


@pytest.mark.parametrize(
    ("side", "taken"), [(16, 85e6), (32, 97e6), (48, 140e6), (64, 200e6), (72, 245e6), (96, 465e6)]
)
def test_the_share_of_a_network_in_the_quote_is_what_was_measured(monkeypatch, side, taken):
    """Of U-Nets of 16 features at first: peaks of `inference_memory.py` less what is counted beside the network."""
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    monkeypatch.setattr(cost._ready, "available", lambda: True)
    card = SimpleNamespace(architecture={"name": "unet", "args": {"channels": [16, 32], "out_channels": 4}})
    plan = SimpleNamespace(window=(side, side, side), batch=1, network_bytes=0)
    assert cost.network_bytes(card, plan) == pytest.approx(taken, rel=0.15)


def test_a_compiler_that_is_loaded_is_not_counted(monkeypatch):
    card = SimpleNamespace(architecture={"args": {"channels": [16, 32]}})
    plan = SimpleNamespace(window=(8, 8, 8), batch=1, network_bytes=0)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    without = cost.network_bytes(card, plan)
    monkeypatch.setitem(sys.modules, "numba", SimpleNamespace())
    assert without - cost.network_bytes(card, plan) == cost._COMPILER


@pytest.mark.parametrize("compiled", [True, False])
def test_slices_that_compiled_layers_take_one_by_one_count_once(monkeypatch, compiled):
    monkeypatch.setattr(cost._ready, "available", lambda: compiled)
    card = SimpleNamespace(architecture={"name": "unet2d", "args": {"channels": [16, 32]}})
    plans = [SimpleNamespace(window=(1, 64, 64), batch=batch, network_bytes=0) for batch in (1, 16)]
    needed = [cost.network_bytes(card, plan) for plan in plans]
    assert (needed[0] == needed[1]) == compiled


@linux
@pytest.mark.slow
def test_a_hundred_classes_of_a_large_volume_fit_into_four_gigabytes():
    found = measured(shape=[400, 512, 512], classes=100, window=[96, 96, 96], overlap=0.25, memory=3.5e9)
    assert found["taken"] < 4e9


@linux
def test_memory_does_not_grow_with_the_depth_of_many_classes():
    """The sums of all classes would take 710 MB here."""
    found = measured(shape=[120, 192, 192], classes=40, window=[8, 96, 96], overlap=0)
    assert found["taken"] < 1.8e8


# Where results are kept -------------------------------------------------------------------------------------------


def test_a_budget_is_kept_or_refused():
    model, volume = Model(ct_card(window__size=[8, 16, 16]), Net(constant_logits(1, 2, 3))), make((64, 64, 64))
    with pytest.raises(InputError, match="of memory and 1 kB are allowed: allow more as memory"):
        predict(volume, model, memory=1000)
    for wrong in (0, -1, "much", True):
        with pytest.raises(InputError, match="must be bytes"):
            predict(volume, model, memory=wrong)
    assert quote(volume, model, memory=1e9).windows < quote(volume, model, memory=1000).windows


def test_a_quote_says_what_would_fit_and_it_does():
    card, volume = ct_card(window__size=[8, 16, 16]), make((64, 128, 128))
    bare = quote(volume, card).memory_bytes
    kept = {"probabilities": "all", "uncertainty": True}
    both = quote(volume, card, memory=(bare + quote(volume, card, **kept).memory_bytes) / 2, **kept)
    assert "or keep no probabilities (about" in both.problem
    assert both.notes[0] == both.problem
    assert not quote(volume, card, memory=1.01 * bare, uncertainty=False).problem
    assert "keep no probabilities and no uncertainty" in quote(volume, card, memory=1.01 * bare, **kept).problem
    short = (bare + 2 * quote(volume, card, memory=1000).memory_bytes) / 3
    assert quote(volume, card, memory=short - 1e5).problem == ""
    assert "whatever the image" in quote(volume, card, memory=1000).problem


def test_of_a_smaller_image_what_is_said_fits():
    card, volume = ct_card(window__size=[8, 16, 16]), make((64, 128, 128))
    allowed = 0.8 * quote(volume, card, memory=1000).memory_bytes
    problem = quote(volume, card, memory=allowed).problem
    share = float(problem.split("to ")[-1].split(" %")[0]) / 100
    assert 0 < share < 1
    cropped = make((int(64 * share), 128, 128))
    assert not quote(cropped, card, memory=allowed).problem
    with pytest.raises(InputError) as refused:
        predict(volume, Model(card, Net(constant_logits(1, 2, 3))), memory=allowed)
    assert str(refused.value) == problem


@pytest.mark.parametrize("kind", [np.memmap, "chunks"])
def test_large_probabilities_are_halved_and_put_on_disk(monkeypatch, kind):
    from napari_lightbox.models import chunks, cost

    if kind == "chunks":
        pytest.importorskip("zarr")
        kind = chunks.Chunked
    else:
        monkeypatch.setattr(chunks, "available", lambda: False)
    model, volume = Model(ct_card(), Net(lambda x: torch.cat([x, -x, 2 * x], 1))), make((2, 6, 7, 8))
    plain = predict(volume, model, probabilities="all")
    assert plain.probability(0).data.dtype == np.float32
    monkeypatch.setattr(cost, "HALF_ABOVE", 1000)
    monkeypatch.setattr(cost, "_SMALL", 1000)
    half = predict(volume, model, probabilities="all", memory=1e9)
    disk = predict(volume, model, probabilities="all", memory=1001, check=False)
    assert any("half precision" in note for note in half.notes)
    assert any("on disk" in note for note in disk.notes)
    for value in range(3):
        wanted = plain.probability(value).data.astype(np.float16)
        assert half.probability(value).data.dtype == np.float16
        assert isinstance(disk.probability(value).data, kind)
        assert np.array_equal(half.probability(value).data, wanted)
        assert np.array_equal(disk.probability(value).data, wanted)
    assert np.array_equal(disk.labels.data, plain.labels.data)


def test_the_library_that_compresses_is_counted(monkeypatch):
    from napari_lightbox.models import chunks, cost

    monkeypatch.setattr(cost, "_SMALL", 1000)
    model, volume, needed = Model(ct_card(), Net(lambda x: x)), make((64, 64, 64)), {}
    for there in (False, True):
        monkeypatch.setattr(chunks, "available", lambda there=there: there)
        needed[there] = quote(volume, model, probabilities="all", memory=1001)
        assert needed[there].disk_bytes > 0
    assert needed[True].memory_bytes - needed[False].memory_bytes == cost.CHUNKING


def test_the_library_that_compresses_is_counted_for_finer_images_too(monkeypatch):
    from napari_lightbox.models import chunks, cost, tables

    monkeypatch.setattr(tables, "KEPT_ABOVE", 1000)
    card = make_card(window__size=[8, 8, 8], output={"kind": "image", "activation": "none", "factor": [2, 2, 2]})
    needed = {}
    for there in (False, True):
        monkeypatch.setattr(chunks, "available", lambda there=there: there)
        needed[there] = quote(make((16, 16, 16)), card, memory=1001)
        assert needed[there].disk_bytes > 0
    assert needed[True].memory_bytes - needed[False].memory_bytes == cost.CHUNKING


def test_gaps_that_answers_leave_in_the_heap_are_counted_once(monkeypatch):
    """Of windows beyond 32 MB nothing stays: the system takes them back."""
    volume, model = make((8, 128, 128)), Model(ct_card(window__size=[8, 64, 64]), Net(lambda x: x))
    needed = quote(volume, model).memory_bytes
    answer = 4 * 3 * 8 * 64 * 64
    monkeypatch.setattr(cost, "_GIVEN_BACK", answer)
    assert needed - quote(volume, model).memory_bytes == answer // 2


def test_what_was_freed_is_given_back_where_memory_is_short(monkeypatch):
    from napari_lightbox.models import heap

    given = []
    monkeypatch.setattr(heap, "give_back", lambda: given.append(1))
    model, volume = Model(ct_card(window__size=[8, 16, 16]), Net(constant_logits(1, 2, 3))), make((16, 32, 32))
    predict(volume, model, memory=1e9)
    assert not given
    predict(volume, model, memory=1.2 * quote(volume, model).memory_bytes)
    predict(volume, model, memory=1000, check=False)
    assert len(given) > 4


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@linux
def test_a_tight_heap_has_no_gaps():
    from napari_lightbox.models import heap

    with heap.tight(), heap.tight():
        # Small blocks between them, so that the heap's end does not move by itself.
        arrays = [(np.ones(1 << 20), np.ones(1 << 12)) for _ in range(8)]
        kept, before = [small for _, small in arrays], resident()
        del arrays
        assert before - resident() > 60e6
    assert all(one.all() for one in kept)
    assert heap._tight == [0]


@linux
def test_freed_memory_goes_back_to_the_system():
    from napari_lightbox.models import heap

    # Between small blocks that stay, so that the heap's end does not move by itself.
    blocks = [np.ones(1 << 13) for _ in range(400)]
    kept = blocks[::8]
    del blocks
    before = resident()
    heap.give_back()
    assert before - resident() > 10e6
    assert all(one.all() for one in kept)


@linux
@pytest.mark.slow
def test_the_memory_that_is_allowed_is_not_exceeded():
    for classes, allowed, kept in ((57, 2.5e8, ()), (25, 1.5e8, [1, 2, 3, 4, 5, 6])):
        case = {"shape": [96, 192, 192], "classes": classes, "window": [32, 64, 64], "overlap": 0.25}
        found = measured(**case, memory=allowed, probabilities=kept)
        assert found["taken"] <= allowed


def test_a_file_is_gone_with_its_last_view(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    array = stores.make((64, 1024), np.float32, on_disk=True)
    view = array.T[::-1]
    view[3] = 5
    stores.release(array)
    del array
    gc.collect()
    assert (view[3] == 5).all()
    del view
    gc.collect()
    assert list(tmp_path.iterdir()) == []


# Running out of it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [MemoryError, torch.cuda.OutOfMemoryError])
@pytest.mark.parametrize("dims", [2, 3])
def test_running_out_once_changes_no_label_and_is_noted(error, dims):
    window = [4, 6, 8] if dims == 3 else [6, 8]
    card = make_card(input__dims=dims, window__size=window, output={"kind": "labels", "labels": {"1": "a"}})
    volume, asked = make((9, 13, 17)), []

    def network(x):
        asked.append(len(x))
        if len(asked) == 5 and error is not None:
            raise error("out of memory")
        return torch.cat([x, x.roll(1, -1)], 1)

    found = predict(volume, Model(card, Net(network)), probabilities=1)
    assert any("memory ran out" in note for note in found.notes)
    error = None
    plain = predict(volume, Model(card, Net(network)), probabilities=1)
    assert not any("memory" in note for note in plain.notes)
    assert np.array_equal(found.labels.data, plain.labels.data)
    assert np.array_equal(found.probability(1).data, plain.probability(1).data)


# Channels and empty windows ---------------------------------------------------------------------------------------


def test_channels_on_other_grids_are_resampled_with_a_note():
    first = make((8, 9, 10), spacing=(2, 1, 1))
    fine = make((16, 18, 20), spacing=(1, 0.5, 0.5), seed=2).replace(name="fine")
    found = predict([first, fine], lambda x: x[:, 1:], kind="image", overlap=0)
    from napari_lightbox.ops.spatial import resample

    assert np.array_equal(found.output().data, resample(fine, like=first).data)
    assert any("'fine' was resampled onto 'scan'" in note for note in found.notes)
    assert any("'fine' was resampled" in note for note in quote([first, fine], lambda x: x).notes)


def test_empty_windows_are_background_where_asked():
    data = np.zeros((4, 4, 32), np.float32)
    data[..., :8] = 1
    volume = make((4, 4, 32)).replace(data=data)
    net = Net(constant_logits(1, 5, 2))
    model = Model(ct_card(window__size=[4, 4, 4]), net)
    found = predict(volume, model, skip_below=0.5, overlap=0, probabilities="all")
    assert (found.labels.data[..., :8] == 1).all()
    assert (found.labels.data[..., 8:] == 0).all()
    assert found.probability(0).data[..., 8:].min() > 0.999
    assert len(net.seen) == 2
    assert any("6 windows were taken as background" in note for note in found.notes)
    with pytest.raises(InputError, match="skip_below"):
        predict(volume, lambda x: x, kind="image", skip_below=0.5)


@pytest.mark.parametrize("dims", [2, 3])
def test_what_is_skipped_is_the_same_in_bounded_memory(dims):
    """The very first window, too, which is asked about to learn the number of classes."""
    window = [6, 8] if dims == 3 else [5, 6]
    card = make_card(
        input__dims=dims,
        window__size=window if dims == 2 else [4, *window],
        output={"kind": "labels", "labels": {"1": "a"}},
    )
    model = Model(card, Net(lambda x: torch.cat([x, x.roll(1, -1)], 1)))
    data = make((9, 13, 17)).data.copy()
    data[:5, :9] = 0
    volume = make((9, 13, 17)).replace(data=data)
    whole, parts = (predict(volume, model, skip_below=0.1, memory=m, check=False) for m in (None, 2000))
    assert np.array_equal(whole.labels.data, parts.labels.data)
    told = [next(note for note in found.notes if "taken as background" in note) for found in (whole, parts)]
    assert told[0] == told[1]
    assert any("divided" in note for note in parts.notes)
    assert whole.labels.data[0, :4].max() == 0


def test_a_full_disk_is_told_before_the_work(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(FileError, match=r"cannot be kept in .*No space left"):
        stores.make((4, 4), np.float32, on_disk=True)


def test_probabilities_on_disk_are_shown_without_reading_them():
    pytest.importorskip("napari")
    from napari_lightbox.viewer.layers import volume_to_layer

    data = stores.make((4, 5, 6), np.float16, on_disk=True, chunked=False)
    data[2] = 0.5
    volume = make((4, 5, 6)).replace(data=data, kind="probability")
    shown = volume_to_layer(volume)[0]
    assert isinstance(shown, np.memmap)
    assert np.shares_memory(shown, data)
