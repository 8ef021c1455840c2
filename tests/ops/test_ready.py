"""Kernels are made ready in the background; until then, and wherever they cannot be, there is simply none."""

import importlib.util
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from types import ModuleType

import numpy as np
import pytest

from napari_lightbox.ops import _ready
from napari_lightbox.ops._ready import Variants

pytest.importorskip("numba")

KEY = ("twice", 3)


@pytest.fixture
def kernels(monkeypatch):
    """Return kernels whose building does nothing, the keys that were built, and a gate that building waits for."""
    room, built, gate = ModuleType("toy"), [], threading.Event()

    def build(key):
        gate.wait(10)
        built.append(key)
        if key[0] == "broken":
            raise ValueError("no such kernel")
        return lambda value: key[1] * value

    room.build = build
    monkeypatch.setitem(sys.modules, "napari_lightbox.ops._kernels.toy", room)
    yield Variants("toy", after=100), built, gate
    gate.set()


def until(true):
    """Wait until something is true."""
    for _ in range(3000):
        if true():
            return
        time.sleep(0.01)
    pytest.fail("waited in vain")


def run_apart(code, **environment):
    """Run some lines in a fresh interpreter; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


def test_a_kernel_is_built_once_there_is_enough_to_do_and_nobody_waits(kernels):
    toy, built, gate = kernels
    for work in (40, 59):
        toy.ask(KEY, work)
    assert KEY not in toy._building
    toy.ask(KEY, 1)
    toy.ask(("twice", 5), 100)
    for _ in range(3):
        toy.ask(KEY, 1000)
    assert toy.get(KEY) is None
    gate.set()
    assert toy.wait(KEY)(2) == 6
    assert toy.wait(("twice", 5))(2) == 10
    assert toy.get(KEY)(2) == 6
    assert built == [KEY, ("twice", 5)]


def test_what_is_waited_for_comes_first(kernels):
    toy, built, gate = kernels
    toy.ask(("twice", 0), 100)
    until(lambda: _ready._current is toy._building["twice", 0])
    toy.ask(("twice", 1), 100)
    waiting = threading.Thread(target=toy.wait, args=[("twice", 2)])
    waiting.start()
    until(lambda: ("twice", 2) in toy._building)
    gate.set()
    waiting.join(30)
    assert toy.wait(("twice", 1))
    assert [n for _, n in built] == [0, 2, 1]


def test_many_threads_may_ask_at_once(kernels):
    toy, built, gate = kernels
    gate.set()
    found = []
    threads = [threading.Thread(target=lambda: found.append(toy.wait(KEY)(1))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [3] * 8
    assert built == [KEY]


def test_where_building_fails_the_log_says_so_and_nothing_is_tried_again(kernels, caplog):
    toy, built, gate = kernels
    gate.set()
    with caplog.at_level(logging.WARNING):
        assert toy.wait(("broken", 1)) is None
    assert "compiling toy" in caplog.text
    assert "no such kernel" in caplog.text
    toy.ask(("broken", 1), 1000)
    assert toy.wait(("broken", 1)) is None
    assert len(built) == 1
    assert toy.wait(KEY)(1) == 3
    # A module that is not there is no different.
    assert Variants("not_there", after=1).wait(KEY) is None


def test_switched_off_there_is_no_kernel(kernels, monkeypatch):
    toy, built, gate = kernels
    gate.set()
    assert toy.wait(KEY)
    monkeypatch.setenv("LIGHTBOX_COMPILED", "0")
    assert toy.get(KEY) is None
    assert toy.wait(("twice", 4)) is None
    toy.ask(("twice", 4), 1000)
    assert not toy._building.get(("twice", 4))
    monkeypatch.setenv("LIGHTBOX_COMPILED", "1")
    assert toy.get(KEY)
    assert built == [KEY]


def test_without_numba_there_is_no_kernel(kernels, monkeypatch):
    toy, built, _ = kernels
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "numba" else real(name, *rest))
    toy.ask(KEY, 1000)
    assert toy.wait(KEY) is None
    assert not toy._building
    assert not built


def test_the_usual_variants_of_an_operation_are_asked_for(kernels, monkeypatch):
    toy, built, gate = kernels
    monkeypatch.setattr(_ready, "_usual", {})
    gate.set()
    toy.usual_for("toying", lambda dtype, ndim: [(dtype.str, ndim)])
    _ready.warm("toying", ">i2", 3, 99)
    assert not toy._building
    _ready.warm("toying", ">i2", 3, 1)
    _ready.warm("another", "i2", 3, 1000)
    assert toy.wait((">i2", 3))
    assert built == [(">i2", 3)]


_RESAMPLE = """
from napari_lightbox.ops import _ready, _resample_compiled
kernels, key = _resample_compiled.KERNELS, ("nearest", "u1")
kernels.ask(key, 1 << 40)
"""
_UNTIL_READY = "kernels._building[key].over.wait(90); print(kernels.get(key) is not None)\n"
_CHILD = "import time\nwhile (p := _ready._process._process) is None: time.sleep(0.01)\nprint(p.pid)\n"


def test_a_process_of_its_own_compiles_onto_the_disk_and_the_next_session_finds_it_there(tmp_path):
    kept = {"NUMBA_CACHE_DIR": str(tmp_path)}
    (found,), log = run_apart(_RESAMPLE + _UNTIL_READY, **kept)
    assert (found, log) == ("True", "")
    assert len(list(tmp_path.rglob("resample.nearest_*.nbc"))) == 1
    no_process = "_ready._process.build = None\n"
    assert run_apart(_RESAMPLE + no_process + _UNTIL_READY, **kept) == (["True"], "")


@pytest.mark.skipif(os.name == "nt", reason="processes are looked up as POSIX has it")
def test_no_process_is_left_when_the_program_ends(tmp_path):
    (pid,), log = run_apart(_RESAMPLE + _CHILD, NUMBA_CACHE_DIR=str(tmp_path))
    assert not log
    until(lambda: not _alive(int(pid)))


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True


def test_a_full_or_damaged_disk_is_no_error(tmp_path, monkeypatch):
    from napari_lightbox.ops._kernels import _jit

    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("numba.core.caching.IndexDataCacheFile.save", full)
        assert _jit.jit(_plus_one)(1) == 2
    assert not list(tmp_path.rglob("*.nb?"))
    assert _jit.jit(_plus_one)(1) == 2
    with _jit.only_kept():
        assert _jit.jit(_plus_one)(1) == 2
        with pytest.raises(_jit.NotKeptError):
            _jit.jit(_plus_one)(1.0)
    for file in tmp_path.rglob("*.nbc"):
        file.write_bytes(b"damaged")
    with _jit.only_kept(), pytest.raises(_jit.NotKeptError):
        _jit.jit(_plus_one)(1)
    assert _jit.jit(_plus_one)(1) == 2


def _plus_one(value):
    return value + 1


def test_code_kept_under_the_name_of_another_type_is_not_used(tmp_path, monkeypatch):
    from napari_lightbox.ops._kernels import _jit

    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    half = _jit.jit(_plus_one)
    assert (half(1), half(1.5)) == (2, 2.5)
    first, second = sorted(tmp_path.rglob("*.nbc"))
    first.write_bytes(second.read_bytes())
    again = _jit.jit(_plus_one)
    assert (again(1), again(1.5)) == (2, 2.5)


def test_code_made_from_other_sources_is_not_used(tmp_path, monkeypatch):
    """The file of the kernel is all that numba looks at, and not at the modules that it is made from."""
    from napari_lightbox.ops._kernels import _jit

    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    assert _jit.jit(_plus_one)(1) == 2
    with _jit.only_kept():
        assert _jit.jit(_plus_one)(1) == 2
        monkeypatch.setattr(_jit, "_sources", lambda: "as they were before")
        with pytest.raises(_jit.NotKeptError):
            _jit.jit(_plus_one)(1)


def test_where_nothing_can_be_kept_a_thread_compiles(tmp_path, monkeypatch, kernels):
    """Neither a folder that may not be written nor one that cannot be made is an error."""
    from napari_lightbox.ops._kernels import _jit

    (tmp_path / "file").write_text("")
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "file" / "folder"))
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])
    monkeypatch.setattr(_ready._process, "build", None)
    toy, _, gate = kernels
    gate.set()
    sys.modules["napari_lightbox.ops._kernels.toy"].build = lambda key: _jit.jit(_plus_one)
    toy.ask(KEY, 100)
    toy._building[KEY].over.wait(30)
    assert toy.get(KEY)(1) == 2


def test_where_no_process_can_be_started_a_thread_compiles(kernels, monkeypatch):
    from napari_lightbox.ops._kernels import _jit

    toy, _, gate = kernels
    gate.set()
    monkeypatch.setattr(sys, "executable", "/opt/viewer/viewer")
    monkeypatch.setattr(_ready, "_process", type(_ready._process)())
    calls = []

    def build(key):
        calls.append(_jit._only_kept.get())
        if calls[-1]:
            raise _jit.NotKeptError
        return np.negative

    sys.modules["napari_lightbox.ops._kernels.toy"].build = build
    toy.ask(KEY, 100)
    toy._building[KEY].over.wait(30)
    assert toy.get(KEY) is np.negative
    assert calls == [True, False]


@pytest.mark.skipif(os.name == "nt", reason="no signal halts a process there")
def test_a_process_that_breaks_down_at_a_kernel_is_not_followed(kernels, monkeypatch, caplog):
    """What kills a compiler would kill the program, too."""
    from napari_lightbox.ops._kernels import _jit

    toy, built, _ = kernels

    def build(key):
        built.append(key)
        raise _jit.NotKeptError

    sys.modules["napari_lightbox.ops._kernels.toy"].build = build
    process = type(_ready._process)()
    monkeypatch.setattr(_ready, "_process", process)
    # There is no such kernel in the process.
    toy.ask(KEY, 100)
    toy._building[KEY].over.wait(30)
    assert "No module named" in caplog.text
    os.kill(process._process.pid, signal.SIGSTOP)
    threading.Timer(0.1, process._process.kill).start()
    with pytest.raises(RuntimeError, match="has ended"):
        process.build("toy", KEY)
    # The next one has a process again.
    assert "No module named" in process.build("toy", KEY)
    process.kill()
    with pytest.raises(OSError, match="pipe"):
        process.build("toy", KEY)
    assert process._process is None
    assert toy.get(KEY) is None
    assert built == [KEY]
