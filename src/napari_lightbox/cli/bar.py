"""A progress bar on a terminal."""

import time
from typing import TextIO

_PERIOD = 0.1
_WIDTH = 24


class Bar:
    """Draws what `progress` reports, where the stream is a terminal; otherwise it stays silent.

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
        self.levels[what] = (done, total)
        if total is not None and done >= total and len(self.levels) > 1:
            del self.levels[what]
        now = time.monotonic()
        if now - self._drawn_at >= _PERIOD:
            self._drawn_at = now
            self._draw()

    def fraction(self) -> float | None:
        """Return the share that is done, inner loops counted as part of a step of the outer ones."""
        share, step, known = 0.0, 1.0, False
        for done, total in self.levels.values():
            if not total:
                break
            known = True
            share += step * done / total
            step /= total
        return min(share, 1.0) if known else None

    def text(self) -> str:
        """Return the line that is drawn."""
        words = ", ".join(f"{k} {d}/{t}" if t is not None else f"{k} {d}" for k, (d, t) in self.levels.items())
        share = self.fraction()
        if share is None:
            return words
        full = round(share * _WIDTH)
        return f"[{'#' * full}{'.' * (_WIDTH - full)}] {share:4.0%} {words}"

    def _draw(self) -> None:
        text = self.text()[:110]
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
