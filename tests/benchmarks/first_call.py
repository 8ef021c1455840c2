"""Measures the first use of operations in a window: how long it takes, what serves, and whether the window stalls.

    xvfb-run -a python tests/benchmarks/first_call.py [--operations median otsu ...] [--shape 100 512 512] [--wait]

With an empty folder for compiled code, then with what that run left in it, each in a process of its own: opens the
dock, presses Apply (with --wait: when the kernels are ready), and prints the seconds until the result is there, who
made it (the kernel, or what serves until it is ready; a long job changes over on the run), the seconds until the
kernels were ready, and the longest gap between two beats of a fast timer meanwhile (with --wait: until Apply is
pressed, so that showing the result, which is napari's own doing, is left out).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter

# What computes until the kernels are ready, with the same result.
MEANWHILE = {
    "median": "networks in numpy",
    "adaptive_median": "scipy",
    "resample": "SimpleITK",
    "otsu": "numpy",
    "region_grow": "scipy",
    "notch": "scipy",
}


def main() -> None:
    """Run it cold and cached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", nargs="+", default=list(MEANWHILE))
    parser.add_argument("--shape", type=int, nargs=3, default=(100, 512, 512))
    parser.add_argument("--wait", action="store_true", help="press Apply when the kernels are ready")
    parser.add_argument("--within", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.within:
        once(options.operations[0], tuple(options.shape), options.wait)
        return
    for operation in options.operations:
        with tempfile.TemporaryDirectory() as folder:
            for state in ("cold", "cached"):
                print(f"{operation}, {state}: ", end="", flush=True)
                command = [sys.executable, *sys.argv, "--within", "--operations", operation]
                subprocess.run(command, check=True, env={**os.environ, "NUMBA_CACHE_DIR": folder})


def count_served(ready, meanwhile: str) -> Counter:
    """Count from now on how often a kernel was there when asked for, and how often it was not."""
    served, get = Counter(), ready.Variants.get

    def counted(variants, key):
        kernel = get(variants, key)
        served[meanwhile if kernel is None else "kernel"] += 1
        return kernel

    ready.Variants.get = counted
    return served


def once(name: str, shape: tuple[int, int, int], wait: bool) -> None:
    """Open the dock, apply it once, and print the times."""
    import napari
    from heartbeat import Heartbeat, make_volume, operation_job, spin

    from napari_lightbox.ops import _ready
    from napari_lightbox.viewer import offers, preview
    from napari_lightbox.viewer.layers import make_layer

    offers.enabled = preview.enabled = False
    viewer = napari.Viewer()
    image = viewer.add_layer(make_layer(make_volume(shape), name="CT"))
    if name == "region_grow":
        viewer.add_points([image.data_to_world([n // 2 for n in shape])], name="Seeds")
        viewer.layers.selection.active = image
    spin(2)
    kernels: list = []

    def ready() -> bool:
        # Of some kernels no variant is wanted for this image.
        building = [one for variants in kernels for one in variants._building.values()]
        return bool(building) and all(one.over.is_set() for one in building)

    def pending() -> bool:
        return any(not one.over.is_set() for variants in kernels for one in variants._building.values())

    heart, began = Heartbeat(), time.perf_counter()
    dock, start, running = operation_job(viewer, name)
    kernels = [variants for variants, _ in _ready._usual.get(name, ())]
    spin(0.2)
    click, done, made = heart.worst, None, None
    heart.restart()
    if wait:
        spin(120, ready)
        gap, made = heart.worst, time.perf_counter() - began
    served, pressed = count_served(_ready, MEANWHILE.get(name, "the plain way")), time.perf_counter()
    start()
    while (done is None or pending()) and time.perf_counter() - began < 300:
        spin(0.01)
        if made is None and ready():
            made = time.perf_counter() - began
        if done is None and not running():
            done = time.perf_counter() - pressed
    gap = gap if wait else heart.worst
    spin(0.5)
    by = " and ".join(served) or MEANWHILE.get(name, "the plain way")
    when = "not ready" if made is None else f"ready {made:.2f} s after the dock opened"
    kernels_text = f"kernels {when}" if kernels else "no kernels"
    done = float("nan") if done is None else done
    print(
        f"{dock.bar.message!r} {done:.2f} s after Apply, by {by}; {kernels_text}, longest gap {gap:.0f} ms until then, "
        f"{click:.0f} ms when the dock opened",
        flush=True,
    )
    viewer.close()


if __name__ == "__main__":
    main()
