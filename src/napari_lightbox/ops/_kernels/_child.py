"""A process of its own that compiles kernels onto the disk, from where the program then loads them.

numba holds the interpreter for tenths of a second at a time when it compiles; a window would stand still meanwhile.
The process reads orders from its standard input, a line of JSON each (module and key), and answers each with a line:
null, or what went wrong. A first line says that it is there. It ends when its input does, so that it never outlives
the program, however that ends.
"""

import importlib
import json
import os
import signal
import sys
import traceback
from queue import Queue
from threading import Thread
from typing import TextIO

# Less urgent than what the user does.
_NICE = 5


def main() -> None:
    """Serve until standard input ends."""
    orders, answers = sys.stdin, os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What others print must not get among the answers.
    os.dup2(2, 1)
    # Ctrl-C is meant for the program, which decides for itself whether to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(_NICE)
    todo: Queue[str] = Queue()
    Thread(target=_read, args=(orders, todo), daemon=True).start()
    print(json.dumps("ready"), file=answers, flush=True)
    while True:
        print(json.dumps(_build(*json.loads(todo.get()))), file=answers, flush=True)


def _read(orders: TextIO, todo: "Queue[str]") -> None:
    for line in orders:
        todo.put(line)
    # Nobody wants what is being compiled any more.
    os._exit(0)


def _build(module: str, key: list) -> str | None:
    try:
        importlib.import_module(f"{__package__}.{module}").build(tuple(key))
    except Exception:
        return traceback.format_exc()
    return None
