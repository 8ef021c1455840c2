"""Peak extra memory of the operations on a CT, beside that of the usual ways in scipy and SimpleITK.

    python tests/benchmarks/memory.py [--shape 200 512 512] [--only median ...] [--no-peers]

Every row is a process of its own. It makes the input, calls once on a small piece, so that libraries are imported and
kernels ready, and then measures by how much the resident memory grows at most during one call; the output is part of
that. Figures are multiples of the output; the Hausdorff distance, whose output is a number, has multiples of one mask.
A library's pool of threads and its own caches are part of what is measured. Rows that end in "deep" have an input of
four times the depth: where scratch memory does not grow with the volume, its share is smaller there. Linux only: it
reads /proc.
"""

import argparse
import ctypes
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SPACING, FINER = (1.5, 0.8, 0.8), (1.2, 0.7, 0.7)
MIB = 1 << 20
# Reach of 3 mm in voxels, x first.
_RADII = (3, 3, 2)
_MORPHOLOGY = (
    "erosion",
    "opening",
    "opening, deep",
    "erosion, labels",
    "dilation, labels",
    "opening, labels",
    "closing, labels",
    "closing, labels, deep",
)
# A call on what `given` says, of ours or of a peer; gives its output.
Call = Callable[..., np.ndarray]


def _volume(image: np.ndarray):
    from napari_lightbox import Grid, Volume

    return Volume(image, Grid.from_spacing(SPACING, image.shape))


def _seed(image: np.ndarray) -> tuple[int, ...]:
    """Return a voxel in the organ of `bench.task.scan`."""
    return tuple(round((p + 1) / 2 * (n - 1)) for p, n in zip((0.0, 0.2, 0.3), image.shape, strict=True))


def given(name: str, shape: tuple[int, ...]):
    """Return the input of a row: an image, or two masks."""
    from napari_lightbox.bench.task import scan

    image = scan(shape, "float64" if name.endswith("float64") else "int16")
    if "labels" in name:
        image = _labels(image)
    if name.endswith("deep"):
        image = np.tile(image, (4, 1, 1))
    return (image > 90, np.roll(image > 90, 2, axis=1)) if name.startswith("hausdorff") else image


def _labels(image: np.ndarray) -> np.ndarray:
    """Return the body and the organ of `bench.task.scan` as two labels, with holes, uint8."""
    labels = np.empty(image.shape, np.uint8)
    for plane, made in zip(image, labels, strict=True):
        made[...] = (plane > -500).view(np.uint8) + (plane > 120)
    return labels


def _itk(name: str, *arguments, **options) -> Call:
    """Return a call of a function of SimpleITK, from numpy and back."""
    import SimpleITK as sitk  # noqa: N813

    return lambda image: sitk.GetArrayFromImage(
        getattr(sitk, name)(sitk.GetImageFromArray(image), *arguments, **options)
    )


def _itk_resampled(finer: bool, cubic: bool = False) -> Call:
    import SimpleITK as sitk  # noqa: N813

    def call(image: np.ndarray) -> np.ndarray:
        source = sitk.GetImageFromArray(image)
        source.SetSpacing(SPACING[::-1])
        resample = sitk.ResampleImageFilter()
        resample.SetReferenceImage(source)
        resample.SetInterpolator(sitk.sitkBSpline if cubic else sitk.sitkLinear)
        if finer:
            resample.SetOutputSpacing(FINER[::-1])
            resample.SetSize([int(n * a / b) for n, a, b in zip(image.shape, SPACING, FINER, strict=True)][::-1])
        else:
            middle = source.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in source.GetSize()])
            resample.SetTransform(sitk.Euler3DTransform(middle, 0.3, 0.2, 0.1))
        return sitk.GetArrayFromImage(resample.Execute(source))

    return call


def _itk_grown(name: str, **options) -> Call:
    import SimpleITK as sitk  # noqa: N813

    def call(image: np.ndarray) -> np.ndarray:
        seed = _seed(image)
        if name == "ConnectedThreshold":
            middle = int(image[seed])
            options.update(lower=middle - 60, upper=middle + 60)
        found = getattr(sitk, name)(sitk.GetImageFromArray(image), seedList=[seed[::-1]], **options)
        return sitk.GetArrayFromImage(found)

    return call


def _itk_hausdorff(masks: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    import SimpleITK as sitk  # noqa: N813

    first, second = (sitk.GetImageFromArray(mask.view(np.uint8)) for mask in masks)
    for each in (first, second):
        each.SetSpacing(SPACING[::-1])
    found = sitk.HausdorffDistanceImageFilter()
    found.Execute(first, second)
    return np.array(found.GetHausdorffDistance())


def _scipy_notch(image: np.ndarray) -> np.ndarray:
    """Filter the half spectrum with a mask of its size, in single precision: plain, but no worse than it must be."""
    from scipy import fft

    spectrum = fft.rfftn(image.astype(np.float32), workers=2)
    z, y, x = np.ogrid[tuple(slice(n) for n in spectrum.shape)]
    away = np.sqrt((z - 5.0) ** 2 + (y - 20.0) ** 2 + (x - 30.0) ** 2, dtype=np.float32)
    spectrum *= away > 5
    return fft.irfftn(spectrum, image.shape, workers=2)


def _morphology(function: Callable, labelled: bool) -> Call:
    return lambda image: function(image, SPACING, 3.0, labelled=labelled)


def ours() -> dict[str, Call]:
    """Return our calls by their names."""
    from napari_lightbox.ops import filters, frequency, metrics, morphology, segmentation, spatial, warps

    def grown(**options) -> Call:
        return lambda image: segmentation.region_grow(image, [_seed(image)], **options)

    def turned(image: np.ndarray) -> np.ndarray:
        return spatial.affine(_volume(image), rotate=(6, 12, 18), order="cubic").data

    def finer(image: np.ndarray) -> np.ndarray:
        return spatial.resample(_volume(image), FINER, order="cubic").data

    # Parallels meet: along x, the far end is a few per cent smaller.
    meeting = np.eye(4)
    meeting[3, 2] = 1e-4

    def projected(image: np.ndarray, order: str = "cubic") -> np.ndarray:
        return warps.projective(_volume(image), matrix=meeting, order=order).data

    def seen(image: np.ndarray) -> np.ndarray:
        return warps.lens_distortion(_volume(image), k1=0.1, order="cubic").data

    def apart(masks: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return np.array(metrics.hausdorff(*masks, SPACING))

    return {
        "median 3": filters.median,
        "median 7": lambda image: filters.median(image, 7),
        "adaptive_median 7": filters.adaptive_median,
        "percentile 25 %, 3": lambda image: filters.percentile(image, 25),
        **{name: _morphology(getattr(morphology, name.split(",")[0]), "labels" in name) for name in _MORPHOLOGY},
        "spectrum": frequency.spectrum,
        "spectrum, deep": frequency.spectrum,
        "spectrum, float64": frequency.spectrum,
        "notch": lambda image: frequency.notch(image, [(5, 20, 30)]),
        "band_reject": lambda image: frequency.band_reject(image, 30, 5),
        "affine, linear": lambda image: spatial.affine(_volume(image), rotate=(6, 12, 18)).data,
        "affine, cubic": turned,
        "affine, cubic, deep": turned,
        "resample, linear": lambda image: spatial.resample(_volume(image), FINER).data,
        "resample, cubic": finer,
        "resample, cubic, deep": finer,
        "projective, linear": lambda image: projected(image, "linear"),
        "projective, cubic": projected,
        "projective, cubic, deep": projected,
        "lens_distortion, cubic": seen,
        "lens_distortion, cubic, deep": seen,
        "otsu": segmentation.otsu,
        "region_grow, seed": grown(threshold=60.5),
        "region_grow, all joins": grown(threshold=1e6),
        "region_grow, mean": grown(threshold=60.5, criterion="mean"),
        "region_grow, confidence": grown(criterion="confidence"),
        "hausdorff 95 %": apart,
        "hausdorff 95 %, deep": apart,
    }


def peers() -> dict[str, tuple[str, Call]]:
    """Return the calls of others by the names of ours, where a library has the operation."""
    from scipy import ndimage

    return {
        "median 3": ("SimpleITK", _itk("Median", [1, 1, 1])),
        **{name: ("SimpleITK", _itk("GrayscaleErode", _RADII)) for name in ("erosion", "erosion, labels")},
        **{name: ("SimpleITK", _itk("GrayscaleMorphologicalOpening", _RADII)) for name in ("opening", "opening, deep")},
        "percentile 25 %, 3": ("scipy", lambda image: ndimage.percentile_filter(image, 25, 3)),
        "notch": ("scipy", _scipy_notch),
        "affine, linear": ("SimpleITK", _itk_resampled(finer=False)),
        "affine, cubic": ("SimpleITK", _itk_resampled(finer=False, cubic=True)),
        "affine, cubic, deep": ("SimpleITK", _itk_resampled(finer=False, cubic=True)),
        "resample, linear": ("SimpleITK", _itk_resampled(finer=True)),
        "resample, cubic": ("SimpleITK", _itk_resampled(finer=True, cubic=True)),
        "resample, cubic, deep": ("SimpleITK", _itk_resampled(finer=True, cubic=True)),
        "otsu": ("SimpleITK", _itk("OtsuThreshold", 0, 1, 128)),
        "region_grow, seed": ("SimpleITK", _itk_grown("ConnectedThreshold")),
        "region_grow, confidence": ("SimpleITK", _itk_grown("ConfidenceConnected", numberOfIterations=4)),
        "hausdorff 95 %": ("SimpleITK", _itk_hausdorff),
        "hausdorff 95 %, deep": ("SimpleITK", _itk_hausdorff),
    }


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {field}")


def peak_of(call: Callable[[], np.ndarray]) -> tuple[np.ndarray, int]:
    """Return what a call gives, and by how many bytes resident memory grew at most."""
    # What making the input left behind would be used again unseen.
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)(0)
    before = _resident("VmRSS")
    try:
        # Forgets the highest value so far.
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _watched(call, before)
    made = call()
    return made, _resident("VmHWM") - before


def _watched(call: Callable[[], np.ndarray], before: int) -> tuple[np.ndarray, int]:
    """Measure by looking every few milliseconds, where the system does not let its highest value be reset."""
    most, over = [before], threading.Event()

    def look() -> None:
        while not over.wait(0.003):
            most[0] = max(most[0], _resident("VmRSS"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        made = call()
    finally:
        over.set()
        thread.join()
    return made, most[0] - before


def once(name: str, who: str, shape: tuple[int, ...]) -> None:
    """Measure one call in this process, and print the bytes of its peak, those of the output, and the seconds."""
    from napari_lightbox.ops import _ready

    call = ours()[name] if who == "ours" else peers()[name][1]
    with _ready.waiting():
        call(given(name, (40, 64, 80)))
        taken = given(name, shape)
        began = time.perf_counter()
        made, peak = peak_of(lambda: call(taken))
    output = made.nbytes if made.ndim else taken[0].nbytes
    print(peak, output, time.perf_counter() - began)


def _figure(name: str, who: str, shape: list[int]) -> str:
    command = [sys.executable, __file__, "--once", name, who, "--shape", *map(str, shape)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return f"failed: {done.stderr.strip().splitlines()[-1][:60] if done.stderr else 'no memory?'}"
    peak, output, seconds = (float(n) for n in done.stdout.split())
    return f"{peak / output:5.2f} x {output / MIB:4.0f} MiB, {seconds:5.1f} s"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(200, 512, 512))
    parser.add_argument("--only", nargs="+", default=[], help="rows whose names begin so")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--once", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        once(*options.once, tuple(options.shape))
        return
    others = {} if options.no_peers else peers()
    print(f"int16 {'x'.join(map(str, options.shape))}; peak extra memory as a multiple of the output\n")
    for name in ours():
        if options.only and not name.startswith(tuple(options.only)):
            continue
        line = f"{name:24} ours {_figure(name, 'ours', options.shape)}"
        if name in others:
            line += f"   {others[name][0]} {_figure(name, others[name][0], options.shape)}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
