"""Measuring rows, one after the other."""

import importlib.util
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .. import __version__
from ..errors import InputError
from ..ops import _ready, _tiles
from ..progress import listening, report
from . import clock, preparing, rows_filters, rows_frequency, rows_metrics, rows_models, rows_segmentation, rows_spatial
from .task import LIBRARIES, Peer, Row, Task, Verdict

ROWS: list[Row] = [
    *rows_filters.ROWS,
    *rows_frequency.ROWS,
    *rows_spatial.ROWS,
    *rows_segmentation.ROWS,
    *rows_metrics.ROWS,
    *rows_models.ROWS,
]
# Edges of the volumes, seconds for a row beside its first calls, and most calls of each contestant.
WHOLE, QUICK = (1.0, 30.0, 9), (0.5, 0.8, 9)


@dataclass(frozen=True)
class Beside:
    """A peer in a row: absent, failed, or with a time and a verdict."""

    name: str
    version: str | None
    seconds: float | None = None
    calls: int = 0
    ratio: float | None = None
    same: bool | None = None
    verdict: str = ""
    note: str = ""


@dataclass(frozen=True)
class Prepared:
    """How the kernels of a row were made ready in this process, and, where measured, in new ones."""

    variants: tuple[str, ...]
    seconds: float
    compiled: bool
    cold: float | None = None
    cached: float | None = None


@dataclass(frozen=True)
class Report:
    """A measured row. Times are in seconds; `ratio` is a peer's time divided by ours."""

    topic: str
    title: str
    size: str
    seconds: float | None
    calls: int = 0
    limit: float | None = None
    share: float | None = None
    prepared: Prepared | None = None
    peers: tuple[Beside, ...] = field(default=())
    problem: str = ""

    @property
    def same(self) -> bool:
        """Whether no peer gave another result."""
        return not self.problem.startswith("failed") and all(peer.same is not False for peer in self.peers)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return asdict(self)


def choose(only: str | None = None, quick: bool = False) -> list[Row]:
    """Return the rows of some topics, apart by commas; all where none is given.

    Raises
    ------
    InputError
        If there is no such topic.
    """
    topics = list(dict.fromkeys(row.topic for row in ROWS))
    wanted = topics if only is None else [name.strip().replace("-", "_") for name in only.split(",")]
    for name in wanted:
        if name not in topics:
            raise InputError(f"only {name!r} is not measured: choose from {', '.join(topics)}")
    return [row for row in ROWS if row.topic in wanted and (row.quick or not quick)]


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "processor": _processor(),
        "threads": _tiles.workers(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "napari-lightbox": __version__,
        "copy_bytes_per_second": clock.copy_bandwidth(),
    }


def _processor() -> str:
    if sys.platform.startswith("linux"):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def measure(
    rows: Sequence[Row], bandwidth: float, *, quick: bool = False, tell: Callable[[Report], None] = lambda report: None
) -> list[Report]:
    """Measure rows one after the other.

    Parameters
    ----------
    rows : sequence of Row
        From `choose`.
    bandwidth : float
        Bytes a second that the machine copies.
    quick : bool
        Small volumes and few calls.
    tell : callable
        Gets every report as soon as it is there.
    """
    found = []
    for number, row in enumerate(rows):
        report("rows", number, len(rows))
        # Operations report their progress: that must not be part of the time.
        with listening(None):
            found.append(_measure(row, bandwidth, quick))
        tell(found[-1])
    report("rows", len(rows), len(rows))
    return found


def _failed(error: Exception) -> str:
    return f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _made(peer: Any) -> Callable[[], Any]:
    """Return the call of a peer; one that cannot even be prepared fails when it is called, and is told of then."""
    try:
        return peer.make()
    except Exception as error:
        found = error

        def fail() -> None:
            raise found

        return fail


def _measure(row: Row, bandwidth: float, quick: bool) -> Report:
    missing = [name for name in row.needs if importlib.util.find_spec(name) is None]
    if missing:
        return Report(row.topic, row.title, "", None, problem=f"not measured: {', '.join(missing)} is not installed")
    scale, seconds, rounds = QUICK if quick else WHOLE
    try:
        task = row.make(scale)
    except Exception as error:
        return Report(row.topic, row.title, "", None, problem=_failed(error))
    try:
        with _ready.waiting() as used:
            task.ours()
    except Exception as error:
        return Report(row.topic, row.title, task.size, None, problem=_failed(error))
    calls = {"": task.ours, **{peer.name: _made(peer) for peer in task.peers if peer.version is not None}}
    with _ready.waiting():
        times, results, failures = clock.race(calls, seconds, rounds)
    ours = times[""]
    limit = task.moved / bandwidth if task.moved else None
    return Report(
        row.topic,
        row.title,
        task.size,
        ours.seconds,
        ours.calls,
        limit,
        limit / ours.seconds if limit else None,
        _prepared(used, quick),
        _beside(task, times, results, failures),
    )


def _beside(task: Task, times: dict, results: dict, failures: dict) -> tuple[Beside, ...]:
    found = []
    for peer in task.peers:
        name, version = peer.name, peer.version
        if name in failures:
            found.append(Beside(name, version, verdict=f"failed: {failures[name]}", note=peer.note))
        elif name not in times:
            found.append(Beside(name, None, verdict="absent", note=peer.note))
        else:
            verdict, timed = _compare(peer, results), times[name]
            ratio = timed.seconds / times[""].seconds
            found.append(
                Beside(name, version, timed.seconds, timed.calls, ratio, verdict.same, verdict.text, peer.note)
            )
    return tuple(found)


def _compare(peer: Peer, results: dict) -> Verdict:
    try:
        return peer.compare(results[""], results[peer.name])
    except Exception as error:
        return Verdict(False, f"cannot be compared: {type(error).__name__}: {error}")


def _prepared(used: dict, quick: bool) -> Prepared | None:
    if not used:
        return None
    texts = tuple(f"{module} {' '.join(map(str, key))}" for module, key in used)
    apart = (None, None) if quick else preparing.cold_and_cached(tuple(used))
    made = used.values()
    return Prepared(texts, sum(m.seconds for m in made), any(m.compiled for m in made), *apart)


def absent(reports: Sequence[Report]) -> list[str]:
    """Return the names of the libraries that were not there."""
    names = {peer.name for row in reports for peer in row.peers if peer.verdict == "absent"}
    return [name for name, _ in LIBRARIES.values() if name in names]
