"""Run something with bad input: it ends in a result or in one sentence, soon, and without a word on the side."""

import contextlib
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_lightbox.errors import LightboxError
from napari_lightbox.progress import listening

# Limits of memory and of time are those of POSIX; elsewhere the tests that need them are left out.
resource = pytest.importorskip("resource")

SECONDS = 20
# Enough for what a DICOM file may say of a length: 4 GiB that are asked for, and not there.
_MEMORY = 5 << 30


class TooLong(BaseException):
    """Not an error of the product: no `except Exception` may catch it."""


@contextlib.contextmanager
def within_limits() -> Iterator[None]:
    """End what takes too long, and refuse memory far beyond what there was: small input needs none of it."""
    began = time.monotonic()

    def stop(*_: Any) -> None:
        if time.monotonic() - began > SECONDS:
            raise TooLong(f"after {SECONDS} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    limits = resource.getrlimit(resource.RLIMIT_AS)
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _MEMORY, limits[1]))
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS + 0.1)
    try:
        # What reports progress is stopped there, what does not by the alarm.
        with listening(stop), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            yield
        # What pydicom thinks of a damaged value it says whenever the value is read.
        others = [w for w in said if f"{w.filename} {w.message}".find("pydicom") < 0 and " VR " not in f"{w.message}"]
        assert not others, others[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if pages:
            resource.setrlimit(resource.RLIMIT_AS, limits)


def attempt(work: Callable[[], Any]) -> tuple[Any, str]:
    """Return what `work` gives, or the sentence it refuses with; every other end is a failure."""
    try:
        with within_limits():
            return work(), ""
    except LightboxError as error:
        text = str(error)
        assert 15 < len(text) < 600, text
        assert "\n" not in text.strip(), text
        assert "Traceback" not in text, text
        return None, text
