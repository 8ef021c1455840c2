"""Times resampling, and the median of small pictures, against plain SimpleITK and scipy: arrays in, arrays out.

    python tests/benchmarks/geometry.py [--shape 100 200 200] [--dtype int16] [--repeat 7] [--without-scipy]
        [--uncompiled]

Prints one line a task: milliseconds of all, and how many times faster ours is (medians, taken in turns in one run).
``--uncompiled`` also times ours without the kernels, as it works until they are compiled and where numba is missing.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

from napari_lightbox.geometry import Grid
from napari_lightbox.ops import filters, spatial
from napari_lightbox.ops._resample_compiled import Compiled
from napari_lightbox.volume import Volume

ITK = {"nearest": sitk.sitkNearestNeighbor, "linear": sitk.sitkLinear, "cubic": sitk.sitkBSpline}
ORDERS = {"nearest": 0, "linear": 1, "cubic": 3}
SPACING = (2.0, 0.8, 0.8)
FINER = (1.3, 0.7, 0.65)
TURN = (10.0, 15.0, 20.0)
PICTURES = (16, 32, 64, 128, 256)


def by_itk(data: np.ndarray, source: Grid, target: Grid, backward: np.ndarray, order: str) -> np.ndarray:
    """Resample as a script that uses SimpleITK does, from an array to an array."""
    image, like = sitk.GetImageFromArray(data), sitk.Image(target.shape[::-1], sitk.sitkUInt8)
    for each, grid in ((image, source), (like, target)):
        each.SetSpacing(grid.spacing[::-1])
        each.SetOrigin(grid.origin[::-1])
        each.SetDirection(grid.direction[::-1, ::-1].ravel().tolist())
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(backward[:3, :3][::-1, ::-1].ravel().tolist())
    transform.SetTranslation(backward[:3, 3][::-1].tolist())
    return sitk.GetArrayFromImage(sitk.Resample(image, like, transform, ITK[order], float(data.min())))


def by_scipy(data: np.ndarray, source: Grid, target: Grid, backward: np.ndarray, order: str) -> np.ndarray:
    """Resample as a script that uses scipy does."""
    matrix = np.linalg.inv(source.affine) @ backward @ target.affine
    return ndimage.affine_transform(
        data, matrix[:3, :3], matrix[:3, 3], target.shape, order=ORDERS[order], mode="constant", cval=data.min()
    )


def uncompiled(function: Callable) -> Callable:
    """Return a call of `function` that uses no kernel."""

    def call():
        kept = Compiled.ready, Compiled.ask
        Compiled.ready, Compiled.ask = False, lambda self, voxels: None
        try:
            return function()
        finally:
            Compiled.ready, Compiled.ask = kept

    return call


def race(ways: dict[str, Callable], repeat: int) -> dict[str, float]:
    """Call all ways in turns; return the median of each in milliseconds, without the first call."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeat + 1):
        for name, call in ways.items():
            began = time.perf_counter()
            call()
            if turn:
                times[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(found) for name, found in times.items()}


def tell(task: str, found: dict[str, float]) -> None:
    """Print one line."""
    ours = found.pop("ours")
    others = "".join(f"   {name} {value:9.3f} ms {value / ours:6.2f}x" for name, value in found.items())
    print(f"{task:26} ours {ours:9.3f} ms{others}", flush=True)


def main() -> None:
    """Run all tasks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=(100, 200, 200))
    parser.add_argument("--dtype", default="int16")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--without-scipy", action="store_true")
    parser.add_argument("--uncompiled", action="store_true")
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    data = ndimage.gaussian_filter(rng.normal(size=chosen.shape).astype(np.float32), 1.5)
    data = (data / data.std() * 300).clip(-1000, 2000).astype(chosen.dtype)
    grid = Grid.from_spacing(SPACING, chosen.shape)
    volume = Volume(data, grid)
    forward = spatial.affine_matrix(rotate=TURN, centre=grid.to_world((np.array(grid.shape) - 1) / 2))
    finer = grid.with_spacing(FINER)
    for order in ORDERS:
        print(f"{order}: kernel {'ready' if Compiled(order, data.dtype).wait() else 'none'}")
        for task, target, matrix, call in (
            ("oblique", grid, forward, lambda order=order: spatial.affine(volume, forward, order=order)),
            ("spacing only", finer, np.eye(4), lambda order=order: spatial.resample(volume, FINER, order=order)),
        ):
            peers = (data, grid, target, np.linalg.inv(matrix), order)
            ways = {"ours": call, "SimpleITK": lambda peers=peers: by_itk(*peers)}
            if not chosen.without_scipy:
                ways["scipy"] = lambda peers=peers: by_scipy(*peers)
            if chosen.uncompiled and order != "cubic":
                ways["ours uncompiled"] = uncompiled(call)
            tell(f"{order} {task}", race(ways, chosen.repeat if order != "cubic" else max(3, chosen.repeat // 2)))
    for side in PICTURES:
        picture = rng.integers(-1000, 1000, (side, side)).astype(chosen.dtype)
        for size in (3, 5):
            ways = {
                "ours": lambda picture=picture, size=size: filters.median(picture, size),
                "scipy": lambda picture=picture, size=size: ndimage.median_filter(picture, size),
            }
            tell(f"median {size} of {side} x {side}", race(ways, 30 * chosen.repeat))


if __name__ == "__main__":
    main()
