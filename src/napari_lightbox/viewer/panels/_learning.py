"""Networks are followed before the first run, in a process of its own, so that the quote in a dock knows them."""

import logging

from qtpy.QtCore import QObject, QProcess, Signal

from ...models import footprint

log = logging.getLogger(__name__)


class Learner(QObject):
    """Has another process learn what networks need, one after the other, each once.

    Parameters
    ----------
    parent : QObject
        The process ends with it.
    """

    # Something may be known that was not.
    learnt = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._asked: set[tuple] = set()
        self._waiting: list[list[str]] = []
        self._process = QProcess(self)
        self._process.setStandardOutputFile(QProcess.nullDevice())
        self._process.finished.connect(self._on_end)
        self._process.errorOccurred.connect(self._on_error)

    @property
    def busy(self) -> bool:
        """Whether a network is being followed."""
        return self._process.state() != QProcess.ProcessState.NotRunning

    def ask(self, source: str, shape: tuple[int, ...]) -> None:
        """Have a model followed, for batches of a shape; nothing happens where that was tried already."""
        if (source, shape) in self._asked:
            return
        self._asked.add((source, shape))
        command = footprint.command(source, shape)
        if command:
            self._waiting.append(command)
            self._next()

    def stop(self) -> None:
        """End the process, and start no other."""
        self._waiting.clear()
        if self.busy:
            self._process.kill()
            self._process.waitForFinished(1000)

    def _next(self) -> None:
        if self._waiting and not self.busy:
            program, *arguments = self._waiting.pop(0)
            self._process.start(program, arguments)

    def _on_end(self, *_) -> None:
        said = bytes(self._process.readAllStandardError().data()).decode(errors="replace").strip()
        if said:
            log.info("a network was not followed: %s", said.split("\n")[-1])
        self.learnt.emit()
        self._next()

    def _on_error(self, error) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            log.info("no process that follows networks can be started")
            self.learnt.emit()
            self._next()
