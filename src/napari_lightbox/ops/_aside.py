"""Long calls of other libraries, which cannot be stopped but can be left."""

from collections.abc import Callable
from threading import Thread
from typing import Any

from ..progress import report

# Seconds after which the listener is asked again.
_PATIENCE = 0.2


def aside(description: str, work: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """Return what one long call gives; it runs in a thread of its own, and the listener may cancel meanwhile.

    For calls that let the interpreter's lock go. One that was cancelled is left to itself: it ends by and by, and
    nobody waits for it.
    """
    outcome: list = []

    def call() -> None:
        try:
            outcome.append((work(*arguments, **more), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = Thread(target=call, name="lightbox-aside", daemon=True)
    report(description, 0)
    thread.start()
    # Most calls are over before the listener has to be asked.
    thread.join(_PATIENCE)
    while thread.is_alive():
        report(description, 0)
        thread.join(_PATIENCE)
    found, error = outcome[0]
    if error is not None:
        raise error
    return found
