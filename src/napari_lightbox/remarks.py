"""What an operation has to say besides its result: sentences for people, and the values it chose by itself.

An operation says it without knowing who listens; without a listener it is lost, and nothing is paid.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Remarks:
    """What was said.

    Parameters
    ----------
    notes : list of str
        Sentences that people should see.
    chosen : dict
        Parameter to the value that the operation chose for it.
    """

    notes: list[str] = field(default_factory=list)
    chosen: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """What was said of one frame, or of one slice."""

    remarks: Remarks
    frame: int | None = None
    slice: int | None = None


_heard: ContextVar[Remarks | None] = ContextVar("lightbox_remarks", default=None)


def note(sentence: str) -> None:
    """Tell whoever collects remarks something that people should see."""
    heard = _heard.get()
    if heard is not None:
        heard.notes.append(sentence)


def choose(name: str, value: Any) -> None:
    """Tell whoever collects remarks which value was taken for a parameter that was left to the operation."""
    heard = _heard.get()
    if heard is not None:
        heard.chosen[name] = value


@contextmanager
def collecting() -> Iterator[Remarks]:
    """Collect the remarks of all work inside the ``with`` block, in this thread.

    Examples
    --------
    >>> with collecting() as heard:
    ...     note("2 spikes found")
    >>> heard.notes
    ['2 spikes found']
    """
    token = _heard.set(heard := Remarks())
    try:
        yield heard
    finally:
        _heard.reset(token)


def sentences(parts: Sequence[Part], most: int = 5) -> list[str]:
    """Return what was said of all parts: each sentence once, with the slices and frames it holds for if not for all.

    Examples
    --------
    >>> sentences([Part(Remarks(["a"]), slice=0), Part(Remarks(["b"]), slice=1), Part(Remarks(["a"]), slice=2)])
    ['slices 0, 2: a', 'slice 1: b']
    """
    places: dict[str, list[Part]] = {}
    for part in parts:
        for sentence in part.remarks.notes:
            places.setdefault(sentence, []).append(part)
    found = [s if len(where) == len(parts) else f"{_named(where)}: {s}" for s, where in places.items()]
    return found if len(found) <= most else [*found[:most], f"{len(found) - most} more notes of this kind"]


def _named(parts: Sequence[Part]) -> str:
    frames = list(dict.fromkeys(p.frame for p in parts if p.frame is not None))
    if all(p.slice is None for p in parts):
        return _counted("frame", frames)
    named = [(frame, [p.slice for p in parts if p.frame == frame]) for frame in frames or [None]]
    return ", ".join((f"frame {frame} " if frame is not None else "") + _counted("slice", n) for frame, n in named[:3])


def _counted(what: str, numbers: Sequence[int]) -> str:
    """Return ``slices 0 to 5, 9``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] + 1 == number:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    words = [f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    shown = ", ".join(words[:6]) + (" and others" if len(words) > 6 else "")
    return f"{what}{'s' if len(numbers) > 1 else ''} {shown}"
