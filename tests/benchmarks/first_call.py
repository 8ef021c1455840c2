"""Measures the first use of an operation in a window: how soon its kernels are ready, and whether the window stalls.

    xvfb-run -a python tests/benchmarks/first_call.py [--operation median] [--shape 100 512 512] [--wait]

With an empty folder for compiled code, then with what that run left in it, each in a process of its own: opens the
dock, presses Apply (with --wait: when the kernels are ready), and prints the seconds until the result is there, the
seconds until the kernels are, and the longest gap between two beats of a fast timer meanwhile (with --wait: until
Apply is pressed, so that showing the result, which is napari's own doing, is left out).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time


def main() -> None:
    """Run it cold and cached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operation", default="median")
    parser.add_argument("--shape", type=int, nargs=3, default=(100, 512, 512))
    parser.add_argument("--wait", action="store_true", help="press Apply when the kernels are ready")
    parser.add_argument("--within", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.within:
        once(options.operation, tuple(options.shape), options.wait)
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold", "cached"):
            print(f"{name}: ", end="", flush=True)
            subprocess.run(
                [sys.executable, *sys.argv, "--within"], check=True, env={**os.environ, "NUMBA_CACHE_DIR": folder}
            )


def once(name: str, shape: tuple[int, int, int], wait: bool) -> None:
    """Open the dock, apply it once, and print the times."""
    import napari
    from heartbeat import Heartbeat, make_volume, operation_job, spin

    from napari_lightbox.ops import _ready
    from napari_lightbox.viewer import offers, preview
    from napari_lightbox.viewer.layers import make_layer

    offers.enabled = preview.enabled = False
    viewer = napari.Viewer()
    viewer.add_layer(make_layer(make_volume(shape), name="CT"))
    spin(2)
    kernels: list = []

    def ready() -> bool:
        return all(v._building and all(b.over.is_set() for b in v._building.values()) for v in kernels)

    heart, began = Heartbeat(), time.perf_counter()
    dock, start, running = operation_job(viewer, name)
    kernels = [variants for variants, _ in _ready._usual.get(name, ())]
    spin(0.2)
    click, done, made = heart.worst, None, None
    heart.restart()
    if wait:
        spin(120, ready)
        gap, made = heart.worst, time.perf_counter() - began
    pressed = time.perf_counter()
    start()
    while (done is None or made is None) and time.perf_counter() - began < 300:
        spin(0.01)
        if made is None and ready():
            made = time.perf_counter() - began
        if done is None and not running():
            done = time.perf_counter() - pressed
    gap = gap if wait else heart.worst
    spin(0.5)
    print(
        f"{name} of {'x'.join(map(str, shape))}: result {done:.2f} s after Apply ({dock.bar.message!r}), kernels ready "
        f"{made:.2f} s after the dock opened, longest gap {gap:.0f} ms until then, {click:.0f} ms when the dock opened",
        flush=True,
    )
    viewer.close()


if __name__ == "__main__":
    main()
