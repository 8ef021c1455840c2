"""`lightbox bench`: every row runs, its results are those of the others, and what it prints can be read."""

import importlib.util
import json
from fractions import Fraction

import numpy as np
import pytest

from napari_lightbox.bench import ROWS, choose, clock, measure, preparing, rows_segmentation, run, task, text
from napari_lightbox.cli import main
from napari_lightbox.errors import InputError

TINY = (0.06, 0.01, 2)
TOPICS = list(dict.fromkeys(row.topic for row in ROWS))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Measure next to nothing, and compile nothing."""
    monkeypatch.setattr(run, "QUICK", TINY)
    monkeypatch.setattr(run, "WHOLE", TINY)
    monkeypatch.setattr(clock, "copy_bandwidth", lambda: 1e10)
    monkeypatch.setenv("LIGHTBOX_COMPILED", "0")


@pytest.fixture
def missing(monkeypatch):
    """Return a way to let a library seem not installed."""
    real = importlib.util.find_spec

    def hide(hidden):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: None if name == hidden else real(name, *rest)
        )

    return hide


@pytest.mark.parametrize("topic", [t for t in TOPICS if t != "predict"])
def test_every_row_is_measured_and_no_result_differs(topic, missing):
    # It takes seconds to be imported.
    missing("monai")
    # Four classes take scikit-image a quarter of a minute, however small the image is.
    rows = [row for row in choose(topic) if "4 classes" not in row.title]
    for found in measure(rows, 1e10):
        assert not found.problem
        assert found.seconds > 0
        assert found.same, text.of_row(found)
        assert found.peers
        for peer in found.peers:
            assert (peer.verdict == "absent") == (peer.version is None), peer
            assert peer.seconds is None or peer.ratio == peer.seconds / found.seconds
            assert "failed" not in peer.verdict


@pytest.mark.slow
def test_rows_of_torch_are_measured():
    pytest.importorskip("torch")
    for found in measure(choose("predict,hausdorff"), 1e10):
        assert found.same, text.of_row(found)
        assert found.topic == "hausdorff" or found.limit is None


def test_the_command_prints_rows_and_writes_json(tmp_path, missing, capsys):
    missing("cc3d")
    target = tmp_path / "figures.json"
    arguments = ["bench", "--quick", "--only", "band-reject,components", "--json", str(target)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    for part in (
        "threads",
        "band reject",
        "limit",
        "SimpleITK",
        "equal but for numbers",
        "cc3d",
        "absent: cc3d",
        "2 rows",
    ):
        assert part in printed
    found = json.loads(target.read_text())
    assert found["machine"]["copy_bytes_per_second"] == 1e10
    assert found["absent"] == ["cc3d"]
    assert [row["topic"] for row in found["rows"]] == ["band_reject", "components"]
    peers = {peer["name"]: peer for peer in found["rows"][1]["peers"]}
    assert peers["cc3d"]["seconds"] is None
    assert peers["scipy"]["same"] is True
    assert peers["scipy"]["ratio"] > 0
    # Nothing is replaced, and that is found out before the work is done.
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


def test_unknown_operations_and_files_are_refused_in_one_sentence(tmp_path, capsys):
    for arguments, word in ((["--only", "medain"], "median"), (["--json", str(tmp_path / "a.txt")], ".json")):
        assert main(["bench", "--quick", *arguments]) == 2
        said = capsys.readouterr()
        assert not said.out
        assert word in said.err
        assert said.err.count("\n") == 1
    with pytest.raises(InputError, match="choose from median"):
        choose("nothing")


def test_quick_is_a_part_of_all():
    assert set(choose(quick=True)) < set(choose())
    assert {row.topic for row in choose("median,notch")} == {"median", "notch"}


def made(ours, theirs, compare=task.exactly):
    """Return the report of a row with one peer."""
    peer = task.Peer("sys", lambda: theirs, compare, note="toy")
    row = task.Row("toy", "Toy", lambda scale: task.Task(ours, [peer], "3 voxels", 100))
    return measure([row], 1e3)[0]


def test_a_row_that_differs_says_so():
    found = made(lambda: np.array([1, 2, 3]), lambda: np.array([1, 2, 5]))
    assert not found.same
    assert found.limit == 0.1
    assert "DIFFERS: 33 % of voxels differ, by up to 2" in text.of_row(found)
    assert "results differ in: Toy" in text.of_end([found], [])
    assert made(lambda: np.array([1, 2, 3]), lambda: np.array([1, 2, 5]), task.within(2)).same


def test_a_row_that_fails_says_so():
    def fail():
        raise ValueError("no\nluck")

    found = made(lambda: np.zeros(3), fail)
    assert found.peers[0].verdict == "failed: ValueError: no luck"
    found = made(fail, lambda: np.zeros(3))
    assert not found.same
    assert "ValueError: no luck" in text.of_row(found)


def test_comparisons_can_fail():
    a = np.array([[0.0, 1.0], [2.0, 4.0]])
    assert task.within(0.1, relative=True)(a, a + 0.39).same
    assert not task.within(0.1, relative=True)(a, a + 0.5).same
    assert not task.within(9)(a, a[0]).same
    assert not task.within(9)(a, a + np.nan).same
    assert task.within(0, few=0.25)(a, np.array([[0, 1], [2, 9]])).same
    assert not task.within(0, few=0.2)(a, np.array([[0, 1], [2, 9]])).same
    assert task.within(0, where=lambda: a < 3)(a, np.array([[0, 1], [2, 9]])).same
    assert task.same_parts(np.array([0, 1, 2, 2]), np.array([0, 7, 1, 1])).same
    assert not task.same_parts(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 1])).same
    assert not task.same_parts(np.array([0, 1, 1, 1]), np.array([0, 1, 2, 2])).same


def test_thresholds_are_told_apart_by_what_they_reach():
    count = np.array([5, 0, 0, 5])
    assert [rows_segmentation.between_classes(count, [t]) for t in (0, 1, 2)] == [45, 45, 45]
    assert rows_segmentation.between_classes(np.array([4, 1, 0, 5]), [0]) < Fraction(46)
    assert rows_segmentation.between_classes(np.array([4, 1, 0, 5]), [1]) == Fraction(1, 5) + 45


def test_contestants_take_turns_and_slow_ones_are_called_once():
    called = []

    def call(name, seconds):
        clock.time.sleep(seconds)
        called.append(name)

    calls = {"a": lambda: call("a", 0), "slow": lambda: call("slow", 0.05), "b": lambda: call("b", 0)}
    times, results, failures = clock.race(calls, 0.06, 2)
    assert called == ["a", "slow", "b", "a", "b", "a", "b"]
    assert (times["a"].calls, times["slow"].calls) == (2, 1)
    assert results == dict.fromkeys(calls)
    assert not failures


@pytest.mark.slow
def test_kernels_are_timed_compiled_and_loaded():
    pytest.importorskip("numba")
    cold, cached = preparing.cold_and_cached((("resample", ("nearest", "u1")),))
    assert cold > cached > 0
