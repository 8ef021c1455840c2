"""The row under every dock that does long work: progress with a number, Cancel, and one line for what went wrong."""

import time
import weakref
from collections.abc import Callable
from functools import partial
from html import escape, unescape
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from ..errors import LightboxError
from ..progress import time_left
from . import asking
from .collecting import spare
from .runner import Runner

_STEPS = 1000


class JobBar(QWidget):
    """Runs one job at a time and shows how it fares.

    Parameters
    ----------
    viewer : napari.Viewer, optional
        Closing it cancels the job.
    parent : QWidget, optional
        The dock.
    """

    running_changed = Signal(bool)

    def __init__(self, viewer=None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        spare(viewer)
        self.viewer = viewer
        self.runner = Runner(viewer)
        self.progress = QProgressBar(self)
        self.progress.setRange(0, _STEPS)
        self.progress.setTextVisible(False)
        self.number = QLabel("", self)
        self.cancel_button = QPushButton("Cancel", self)
        self.cancel_button.setToolTip("Stop within a second; nothing of the result is kept")
        self.cancel_button.clicked.connect(self.cancel)
        self.status = QLabel("", self)
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.status.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        row = QHBoxLayout()
        row.addWidget(self.progress, 1)
        row.addWidget(self.cancel_button)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.addLayout(row)
        box.addWidget(self.number)
        box.addWidget(self.status)
        # Of the job that runs, or ran last.
        self.title = ""
        self._started = time.monotonic()
        self._first = ""
        self._idle()

    @property
    def running(self) -> bool:
        """Whether a job is under way."""
        return self.runner.running

    def run(self, function: Callable[[], Any], *, title: str, on_done: Callable[[Any], None], first: str = "") -> None:
        """Start a job; a refusal, an error or a cancel is shown in the status line, and `first` until it reports."""
        self.title = title
        try:
            self.runner.run(
                function,
                title=title,
                on_done=on_done,
                on_error=self.show_error,
                on_progress=self._show_progress,
                on_cancelled=lambda: self.show_note(f"{title}: cancelled, nothing was changed"),
                on_end=self._idle,
            )
        except LightboxError as error:
            self.show_error(str(error))
            return
        self._started = time.monotonic()
        self._first = first
        self.show_note(first)
        # Busy until the work says how much there is.
        self.progress.setRange(0, 0)
        self.progress.setEnabled(True)
        self.number.setText(f"{title} ...")
        self.number.show()
        self.cancel_button.setEnabled(True)
        self.running_changed.emit(True)

    def cancel(self) -> None:
        """Cancel the job, if there is one."""
        if self.running:
            self.number.setText("cancelling ...")
            self.cancel_button.setEnabled(False)
            self.runner.cancel()

    def _show_progress(self, text: str, fraction: float | None) -> None:
        if not self.cancel_button.isEnabled():
            return
        if self._first and self.message == self._first:
            self.clear()
        if fraction is None:
            self.progress.setRange(0, 0)
            self.number.setText(text)
            return
        self.progress.setRange(0, _STEPS)
        self.progress.setValue(round(_STEPS * fraction))
        left = time_left(time.monotonic() - self._started, fraction)
        self.number.setText(f"{100 * fraction:.0f} % ({text})" + (f", {left} left" if left else ""))

    def _idle(self) -> None:
        self.progress.setRange(0, _STEPS)
        self.progress.setValue(0)
        self.progress.setEnabled(False)
        self.number.setText("")
        self.number.hide()
        self.cancel_button.setEnabled(False)
        self.running_changed.emit(False)

    def clear(self) -> None:
        """Empty the status line."""
        self.status.setText("")

    def show_error(self, text: str) -> None:
        """Show a sentence in red."""
        self.status.setText(f'<span style="color:#ff6b6b">{escape(text)}</span>')

    def show_note(self, text: str) -> None:
        """Show a sentence that is no error."""
        self.status.setText(escape(text))

    @property
    def message(self) -> str:
        """What the status line says, without its colour."""
        text = self.status.text()
        return unescape(text.split(">", 1)[1].rsplit("<", 1)[0] if text.startswith("<span") else text)


class _Closed(QObject):
    """Stops the job of a dock that was taken out of its window; a child of the dock."""

    def __init__(self, dock: QWidget, bar: JobBar, stops: tuple[Callable[[], None], ...]) -> None:
        super().__init__(dock)
        self._bar, self._stops = bar, stops
        self._docked = False
        dock.installEventFilter(self)

    def eventFilter(self, watched, event) -> bool:  # noqa: N802 - Qt's name
        if event.type() == QEvent.Type.ParentChange:
            outer = watched.parent()
            if outer is not None:
                self._docked = True
                _ask_first(outer, self._bar)
            elif self._docked:
                for stop in self._stops:
                    stop()
        return False


def _ask_first(outer: QObject, bar: JobBar) -> None:
    """Have the close button of napari's dock ask while the job of `bar` runs."""
    if callable(getattr(type(outer), "destroyOnClose", None)):
        # What the button calls; there is no event of Qt that could be refused.
        outer.destroyOnClose = partial(_close, weakref.ref(outer), weakref.ref(bar))


def _close(outer: weakref.ref, bar: weakref.ref) -> None:
    there = outer()
    if there is not None and _may_close(bar()):
        type(there).destroyOnClose(there)


def _may_close(bar: JobBar | None) -> bool:
    return bar is None or not bar.running or asking.may_stop(bar.title, bar.viewer, bar.running_changed)


def stop_when_closed(dock: QWidget, bar: JobBar, *others: Callable[[], None]) -> None:
    """Stop the job of `bar` when `dock` is closed: napari keeps the widget, so that nothing is destroyed.

    The close button asks first while a job runs. `others` are called when the dock is closed, too.
    """
    _Closed(dock, bar, (bar.runner.discard, *others))
