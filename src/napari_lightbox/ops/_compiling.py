"""The process that compiles kernels for this one; see `_kernels._child` for its side."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

_SERVE = "import sys; sys.path[:] = sys.argv[1:]; from {0}._kernels import _child; _child.main()"
# Seconds that the process gets to end by itself.
_PATIENCE = 2.0


class CompilingProcess:
    """Compiles kernels in a process of its own, which is started when it is first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None
        # After a fork, the process belongs to the other side.
        self._owner = 0

    def build(self, module: str, key: tuple) -> str | None:
        """Have a kernel compiled onto the disk, and wait for it.

        Parameters
        ----------
        module : str
            Module of `_kernels`.
        key : tuple of str or int
            The variant.

        Returns
        -------
        str or None
            None where it went well, otherwise what went wrong.

        Raises
        ------
        OSError
            If there can be no such process here.
        RuntimeError
            If it broke down at this kernel.
        """
        if self._process is None or self._owner != os.getpid():
            self._process, self._owner = _start(), os.getpid()
        process = self._process
        try:
            process.stdin.write(json.dumps([module, list(key)]) + "\n")
            process.stdin.flush()
        except OSError:
            # It was ended while it had nothing to do.
            self.close()
            raise
        answer = process.stdout.readline()
        if not answer:
            self.close()
            raise RuntimeError("the process that compiles has ended")
        return json.loads(answer)

    def close(self) -> None:
        """Let the process end; the next kernel starts another."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def kill(self) -> None:
        """End the process at once, whatever it does; whoever waits for its answer gets none."""
        process = self._process
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()


def _start() -> subprocess.Popen:
    """Start the process and wait until it says that it is there."""
    if not Path(sys.executable or "").name.lower().startswith("python"):
        # An application with Python inside: another of it would open.
        raise OSError("this Python cannot be started as a process of its own")
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE.format(__package__), *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    if not process.stdout.readline():
        process.kill()
        process.wait()
        raise OSError("the process that compiles does not start")
    return process
