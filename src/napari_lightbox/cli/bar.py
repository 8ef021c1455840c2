"""A progress bar on a terminal."""

import shutil
import time
from typing import TextIO

from ..progress import time_left

_PERIOD = 0.1
_WIDTH = 24


class Bar:
    """Draws what `progress` reports, where the stream is a terminal; otherwise it stays silent.

    The time left is that of everything; of several cases, of the one at hand and of all.

    Parameters
    ----------
    stream : text stream
        Standard error.
    """

    def __init__(self, stream: TextIO):
        self.stream = stream
        self.on = bool(getattr(stream, "isatty", lambda: False)())
        self.levels: dict[str, tuple[int, int | None]] = {}
        self._drawn_at = 0.0
        self._length = 0
        # When each of the loops began.
        self._began: dict[str, float] = {}

    @property
    def listener(self):
        """What `progress.listening` takes; None where nothing is to be drawn."""
        return self.update if self.on else None

    def update(self, what: str, done: int, total: int | None) -> None:
        """Take a report; loops inside loops are drawn together, outermost first."""
        if what in self.levels:
            # A step of an outer loop ends all loops inside it.
            for inner in list(self.levels)[list(self.levels).index(what) + 1 :]:
                del self.levels[inner]
        now = time.monotonic()
        if what not in self.levels:
            self._began[what] = now
            # A loop that has come to its end does not contain the next one.
            self.levels = {name: one for name, one in self.levels.items() if not _ended(*one)}
        self.levels[what] = (done, total)
        if _ended(done, total) and len(self.levels) > 1:
            del self.levels[what]
        if now - self._drawn_at >= _PERIOD:
            self._drawn_at = now
            self._draw()

    def fraction(self) -> float | None:
        """Return the share that is done, inner loops counted as part of a step of the outer ones."""
        return _share(list(self.levels.values()))

    def left(self) -> str:
        """Return how long it will still take, as far as that can be told."""
        names, levels = list(self.levels), list(self.levels.values())
        inner = time.monotonic() - self._began[names[-1 if len(names) < 2 else 1]]
        share, (done, cases) = _share(levels[1:]) or 0.0, levels[0]
        case = time_left(inner, share)
        if len(levels) < 2 or done:
            whole = time_left(time.monotonic() - self._began[names[0]], _share(levels) or 0.0)
        else:
            # What came before in the first case, such as reading it, took time that no loop tells of.
            whole = time_left(inner, share) and time_left(inner, share / (cases or 1))
        alone = len(levels) < 2 or (cases or 1) < 2
        if alone or not case:
            return f"{whole} left" if whole else ""
        return f"{case} left" + (f", {whole} for all" if whole else "")

    def text(self) -> str:
        """Return the line that is drawn."""
        words = ", ".join(f"{k} {d}/{t}" if t is not None else f"{k} {d}" for k, (d, t) in self.levels.items())
        share = self.fraction()
        if share is None:
            return words
        full = round(share * _WIDTH)
        left = self.left()
        return f"[{'#' * full}{'.' * (_WIDTH - full)}] {share:4.0%} {words}" + (f", {left}" if left else "")

    def _draw(self) -> None:
        # A line that wraps could not be wiped away.
        text = self.text()[: max(20, min(110, shutil.get_terminal_size((111, 24)).columns - 1))]
        self.stream.write("\r" + text.ljust(self._length))
        self.stream.flush()
        self._length = len(text)

    def close(self) -> None:
        """Wipe the bar away."""
        if self.on and self._length:
            self.stream.write("\r" + " " * self._length + "\r")
            self.stream.flush()
            self._length = 0
        self.levels.clear()


def _ended(done: int, total: int | None) -> bool:
    return total is not None and done >= total


def _share(levels: list[tuple[int, int | None]]) -> float | None:
    """Return the share that is done of loops, outermost first."""
    share, step, known = 0.0, 1.0, False
    for done, total in levels:
        if not total:
            break
        known = True
        share += step * done / total
        step /= total
    return min(share, 1.0) if known else None
