"""The one runner for long work: a background thread, progress with a number, cancel, and errors as one sentence.

The work is a plain function without arguments that knows nothing of Qt: everything it needs is captured before it
starts. It reports and is cancelled through `napari_lightbox.progress`. All callbacks run in the GUI thread.
"""

import atexit
import logging
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from qtpy.QtCore import QCoreApplication, QEvent, QObject, Qt, QTimer, Signal, Slot

from ..errors import InputError, LightboxError
from ..progress import Cancelled, listening

log = logging.getLogger(__name__)
# Seconds between two progress messages to the GUI thread: 20 a second look smooth and cost nothing.
_PERIOD = 0.05
# Seconds that a closing window waits for its jobs to stop.
_PATIENCE = 2.0
# Seconds that Python code of a job computes on while another thread asks for its turn. One answer of the GUI thread
# takes ten and more turns, and Python's own 5 ms for each of them is seen.
_TURN = 0.001
_running: set["Job"] = set()
_turns: list[float] = []
_turns_lock = threading.Lock()


@contextmanager
def _giving_way() -> Iterator[None]:
    """Let other threads have their turn soon while jobs run; afterwards as it was."""
    with _turns_lock:
        _turns.append(sys.getswitchinterval())
        sys.setswitchinterval(min(_TURN, _turns[0]))
    try:
        yield
    finally:
        with _turns_lock:
            before = _turns[0]
            _turns.pop()
            if not _turns:
                sys.setswitchinterval(before)


class _Nested:
    """Turns reports of nested loops (frames, in each of them tiles) into one fraction and one text."""

    def __init__(self) -> None:
        self._levels: dict[str, tuple[int, int | None]] = {}

    def update(self, what: str, done: int, total: int | None) -> tuple[str, float | None]:
        names = list(self._levels)
        if what in self._levels:
            drop = names[names.index(what) + 1 :]
        else:
            # A loop that has come to its end does not contain the next one: the next one follows it.
            drop = [name for name in names if self._levels[name][0] == self._levels[name][1]]
        for name in drop:
            del self._levels[name]
        self._levels[what] = (done, total)
        return self.text, self.fraction

    @property
    def text(self) -> str:
        parts = (
            f"{name} {done}/{total}" if total else f"{name} {done}" for name, (done, total) in self._levels.items()
        )
        return ", ".join(part.strip() for part in parts)

    @property
    def fraction(self) -> float | None:
        share = 0.0
        for done, total in reversed(self._levels.values()):
            if not total:
                return None
            share = min(1.0, (done + (share if done < total else 0.0)) / total)
        return share


class Job(QObject):
    """One piece of work that runs, or has run, in the background. Made by `run`.

    Parameters
    ----------
    function : callable
        The work; its return value goes to `on_done`.
    title : str
        What the work is, for messages and the log: ``"Median of CT"``.
    on_done, on_error, on_progress, on_cancelled, on_end : callable, optional
        See `run`.
    viewer : napari.Viewer, optional
        Closing it cancels the job and drops its result.
    """

    _tick = Signal()
    _ended = Signal()

    def __init__(self, function, title="", on_done=None, on_error=None, on_progress=None, on_cancelled=None,
                 on_end=None, viewer=None) -> None:  # fmt: skip
        super().__init__()
        self.title = title
        self.state = "waiting"
        self.text, self.fraction = "", None
        self.thread_id: int | None = None
        self._function = function
        self._calls = {"done": on_done, "failed": on_error, "cancelled": on_cancelled}
        self._on_progress, self._on_end = on_progress, on_end
        # A job does not keep a viewer alive; a reference to one that is gone tells so.
        self._viewer = None if viewer is None else weakref.ref(_plain(viewer))
        self._stop, self._over = threading.Event(), threading.Event()
        self._discarded = False
        self._outcome: tuple[str, Any] = ("cancelled", None)
        self._said = 0.0
        self._nested = _Nested()
        self._tick.connect(self._show, Qt.ConnectionType.QueuedConnection)
        self._ended.connect(self._finish, Qt.ConnectionType.QueuedConnection)

    # In the GUI thread ------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the job has started and its outcome has not been delivered yet."""
        return self.state == "running"

    @property
    def orphaned(self) -> bool:
        """Whether the viewer that the job worked for is closed."""
        return self._viewer is not None and not is_open(self._viewer())

    def works_for(self, viewer) -> bool:
        """Whether the job was started for `viewer`."""
        return self._viewer is not None and self._viewer() is _plain(viewer)

    def start(self) -> "Job":
        """Start the thread."""
        self.state = "running"
        _running.add(self)
        _watch_application()
        if self._viewer is not None:
            _watch_window(self._viewer())
        threading.Thread(target=self._work, name=f"lightbox: {self.title}", daemon=True).start()
        return self

    def cancel(self) -> None:
        """Ask the work to stop; it does so at its next report of progress."""
        self._stop.set()

    def discard(self) -> None:
        """Cancel, and call nobody back: there is nobody left to see the result."""
        self._discarded = True
        self.cancel()

    def wait(self, seconds: float = 30.0) -> bool:
        """Block until the thread is over; only for tests and closing windows. Callbacks come with the event loop."""
        return self._over.wait(seconds)

    @Slot()
    def _show(self) -> None:
        if self.running and not self._discarded and self._on_progress is not None:
            self._call(self._on_progress, self.text, self.fraction)

    @Slot()
    def _finish(self) -> None:
        _running.discard(self)
        self.state, value = self._outcome
        self._outcome = (self.state, None)
        if self.orphaned:
            self._discarded = True
        if not self._discarded:
            # First the end, so that a dock is ready for the next job whatever the other callbacks do.
            if self._on_end is not None:
                self._call(self._on_end)
            callback = self._calls[self.state]
            if callback is not None:
                self._call(callback, *(() if self.state == "cancelled" else (value,)))
            elif self.state == "failed":
                notify_error(value)
        self._function = self._on_progress = self._on_end = self._viewer = None
        self._calls = dict.fromkeys(self._calls)

    def _call(self, callback: Callable, *args) -> None:
        try:
            callback(*args)
        except LightboxError as error:
            on_error = self._calls["failed"]
            (on_error if on_error not in (None, callback) else notify_error)(str(error))
        except RuntimeError as error:
            # The widget that wanted to know is gone; nothing is left to be told.
            if "deleted" not in str(error):
                raise
            log.info("%s: %s", self.title, error)

    # In the background thread -----------------------------------------------------------------------------------

    def _work(self) -> None:
        self.thread_id = threading.get_ident()
        try:
            with listening(self._listen), _giving_way():
                result = self._function()
            self._outcome = ("cancelled", None) if self._stop.is_set() else ("done", result)
        except Cancelled:
            self._outcome = ("cancelled", None)
        except Exception as error:
            self._outcome = ("failed", sentence(error, self.title))
        finally:
            self._over.set()
            try:
                self._ended.emit()
            except RuntimeError:
                # The application is gone, and with it the event loop that would deliver.
                _running.discard(self)

    def _listen(self, what: str, done: int, total: int | None) -> None:
        if self._stop.is_set():
            raise Cancelled(self.title)
        self.text, self.fraction = self._nested.update(what, done, total)
        now = time.monotonic()
        if now - self._said >= _PERIOD:
            self._said = now
            self._tick.emit()


def run(
    function: Callable[[], Any],
    *,
    title: str = "",
    on_done: Callable[[Any], None] | None = None,
    on_error: Callable[[str], None] | None = None,
    on_progress: Callable[[str, float | None], None] | None = None,
    on_cancelled: Callable[[], None] | None = None,
    on_end: Callable[[], None] | None = None,
    viewer=None,
) -> Job:
    """Run `function` in the background and report to the GUI thread.

    Parameters
    ----------
    function : callable
        Work without arguments; it must capture arrays and parameters, never widgets or layers.
    title : str
        What it is, for messages and the log.
    on_done : callable
        Gets the return value.
    on_error : callable
        Gets one sentence; a napari notification shows it where no callback is given. The traceback goes to the log.
    on_progress : callable
        Gets a text such as ``"frames 2/8, tiles 3/12"`` and a fraction from 0 to 1 (None: not known), at most 20
        times a second.
    on_cancelled : callable
        Called without arguments.
    on_end : callable
        Called without arguments before any of the other three final callbacks.
    viewer : napari.Viewer
        If it is closed, the job is cancelled and nothing is called back.

    Returns
    -------
    Job
        Already started; ``job.cancel()`` stops it at its next report of progress.
    """
    return Job(function, title, on_done, on_error, on_progress, on_cancelled, on_end, viewer).start()


class Runner:
    """Runs one job at a time: what a dock holds.

    Parameters
    ----------
    viewer : napari.Viewer, optional
        Closing it cancels the job.
    """

    def __init__(self, viewer=None) -> None:
        self._viewer = viewer
        self.job: Job | None = None
        self.closed = False

    @property
    def running(self) -> bool:
        """Whether a job is under way."""
        return self.job is not None and self.job.running

    def run(self, function: Callable[[], Any], *, title: str = "", **callbacks) -> Job:
        """Start a job, as `run` does; refuse while another is under way."""
        if self.running:
            raise InputError(f"{self.job.title or 'A job'} is still running: wait for it or press Cancel first")
        self.job = run(function, title=title, viewer=self._viewer, **callbacks)
        return self.job

    def cancel(self) -> None:
        """Cancel the job, if there is one."""
        if self.job is not None:
            self.job.cancel()

    def discard(self) -> None:
        """Cancel the job and drop its result: its dock is being closed, and nothing can be shown in it any more."""
        self.closed = True
        if self.job is not None:
            self.job.discard()

    def wait(self, seconds: float = 30.0) -> bool:
        """Block until the job's thread is over; True if it is."""
        return self.job is None or self.job.wait(seconds)


def sentence(error: BaseException, title: str = "") -> str:
    """Return what the user is told of an error; whatever was not foreseen goes to the log with its traceback."""
    if isinstance(error, LightboxError):
        return str(error)
    log.error("%s failed", title or "A job", exc_info=error)
    if isinstance(error, MemoryError):
        return f"{title or 'The job'} needs more memory than there is: close other volumes, or crop or resample first"
    what = " ".join(str(error).split()) or type(error).__name__
    return f"{title or 'The job'} failed unexpectedly ({type(error).__name__}: {what[:300]}); the log has the details"


def notify_error(text: str) -> None:
    """Show a sentence as napari's error notification."""
    from napari.utils.notifications import show_error

    show_error(text)


def cancel_all(viewer=None, seconds: float = _PATIENCE) -> None:
    """Cancel the jobs of a viewer (or all), drop their results, and wait briefly until they have stopped."""
    jobs = [job for job in tuple(_running) if viewer is None or job.works_for(viewer)]
    _stop_jobs(jobs, seconds)


def _stop_jobs(jobs: list[Job], seconds: float = _PATIENCE) -> None:
    for job in jobs:
        job.discard()
    end = time.monotonic() + seconds
    for job in jobs:
        if not job.wait(max(0.0, end - time.monotonic())):
            log.warning("%s did not stop in time; its result is dropped", job.title)


# Windows that close ---------------------------------------------------------------------------------------------


def _plain(viewer):
    return getattr(viewer, "__wrapped__", viewer)


def main_window(viewer):
    """Return the Qt window of a viewer, or None if it has none or it was closed."""
    window = getattr(_plain(viewer), "window", None)
    return getattr(window, "_qt_window", None)


def is_open(viewer) -> bool:
    """Whether results can still be shown in a viewer; a viewer model without a window is always open."""
    if viewer is None:
        return False
    if getattr(_plain(viewer), "window", None) is None:
        return True
    window = main_window(viewer)
    try:
        return window is not None and not window.property("lightbox_closed")
    except RuntimeError:
        return False


class _Closing(QObject):
    """Notices that a main window closes; a child of the window, it lives exactly as long and holds neither."""

    def __init__(self, window, viewer) -> None:
        super().__init__(window)
        self._viewer = weakref.ref(viewer)
        window.installEventFilter(self)

    def eventFilter(self, watched, event) -> bool:  # noqa: N802 - Qt's name
        if event.type() == QEvent.Type.Close:
            # The window may still refuse (a question to the user): look again once it has decided.
            QTimer.singleShot(0, partial(_look_again, weakref.ref(watched), self._viewer, watched.isVisible()))
        return False


def _look_again(window: weakref.ref, viewer: weakref.ref, was_visible: bool) -> None:
    try:
        if was_visible and window() is not None and not window().isVisible():
            window().setProperty("lightbox_closed", True)
    except RuntimeError:
        log.debug("the window is gone already")
    _stop_orphans()


def _watch_window(viewer) -> None:
    window = main_window(viewer)
    if window is not None and window.property("lightbox_watched") is None:
        window.setProperty("lightbox_watched", True)
        _Closing(window, _plain(viewer))
        # A window that was never shown, or is closed by a script, goes without asking.
        window.destroyed.connect(_stop_orphans)


def _stop_orphans() -> None:
    _stop_jobs([job for job in tuple(_running) if job.orphaned])


def _watch_application() -> None:
    app = QCoreApplication.instance()
    if app is not None and app.property("lightbox_watched") is None:
        app.setProperty("lightbox_watched", True)
        app.aboutToQuit.connect(lambda: cancel_all())
        atexit.register(cancel_all)
