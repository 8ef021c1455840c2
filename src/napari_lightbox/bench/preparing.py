"""How long kernels take to be ready in a new process: compiled, and loaded from disk."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache

Variant = tuple[str, tuple]
_CODE = """
import importlib, json, sys, time
sys.path[:] = json.loads(sys.argv[1])
began = time.perf_counter()
import numba
times = [time.perf_counter() - began]
for module, key in json.loads(sys.argv[2]):
    began = time.perf_counter()
    importlib.import_module("napari_lightbox.ops._kernels." + module).build(tuple(key))
    times.append(time.perf_counter() - began)
print(json.dumps(times))
"""


@cache
def cold_and_cached(variants: tuple[Variant, ...]) -> tuple[float, float]:
    """Return the seconds that some kernels take in a new process when nothing is on disk, and when all is.

    The import of numba, which comes first, counts.
    """
    with tempfile.TemporaryDirectory(prefix="lightbox-bench-") as folder:
        cold, cached = (sum(_apart(variants, folder)) for _ in range(2))
    return cold, cached


def _apart(variants: Sequence[Variant], folder: str) -> list[float]:
    order = json.dumps([[module, list(key)] for module, key in variants])
    done = subprocess.run(
        [sys.executable, "-c", _CODE, json.dumps(sys.path), order],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NUMBA_CACHE_DIR": folder},
    )
    return json.loads(done.stdout.splitlines()[-1])
