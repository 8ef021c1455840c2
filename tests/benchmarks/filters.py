"""How fast the local filters, morphology and components are beside scipy, SimpleITK and scikit-image.

``python tests/benchmarks/filters.py [--only NAME] [--depth 64]`` measures every operation and its twins as `lightbox
bench` does. A twin is only named where it computes the same thing, but for rounding (SimpleITK's Gaussian approximates
the kernel to 1e-3) and, in `fill_holes` and labels, for one label at a time.
"""

import argparse
from collections.abc import Callable

import numpy as np
import SimpleITK as sitk  # noqa: N813
from rows import print_rows
from scipy import ndimage
from skimage import measure, segmentation

from napari_lightbox.bench.task import Compare, Peer, Row, Task, not_compared, same_parts, within
from napari_lightbox.ops import components, filters, morphology

SPACING = (1.0, 1.0, 1.0)


def volumes(depth: int) -> dict[str, np.ndarray]:
    """Return a seeded volume of int16 with smooth parts and noise, and what is made of it."""
    rng = np.random.default_rng(7)
    smooth = ndimage.gaussian_filter(rng.normal(size=(depth, 256, 256)).astype(np.float32), 6)
    smooth /= smooth.std()
    image = (300 * smooth + 40 * rng.normal(size=smooth.shape)).astype(np.int16)
    labels = np.zeros(image.shape, np.uint8)
    for value, low in enumerate((0.7, 1.1, 1.6, 2.2), start=1):
        labels[smooth > low] = value
    holes = labels * (rng.random(image.shape) > 1e-3)
    return {"image": image, "float": image.astype(np.float32), "labels": labels, "mask": labels > 0, "holes": holes}


def ball(radius: int) -> np.ndarray:
    """Return the ball as an array of bool."""
    steps = np.indices((2 * radius + 1,) * 3) - radius
    return (steps**2).sum(axis=0) <= radius**2


def itk(function, *arguments):
    """Return a call that takes an array and gives one, by SimpleITK."""
    return lambda a: sitk.GetArrayFromImage(function(sitk.GetImageFromArray(a), *arguments))


def cases(v: dict[str, np.ndarray]) -> dict:
    """Return name -> (ours, {twin: call})."""
    a, f = v["image"], v["float"]
    found: dict = {}
    for size in (3, 7, 15):
        box = [size // 2] * 3
        found[f"minimum {size}"] = (
            lambda s=size: filters.minimum(a, s),
            {
                "scipy": lambda s=size: ndimage.minimum_filter(a, s),
                "SimpleITK": lambda b=box: itk(sitk.GrayscaleErode, b, sitk.sitkBox)(a),
            },
        )
        found[f"mean {size}, float32"] = (
            lambda s=size: filters.mean(f, s),
            {
                "scipy": lambda s=size: ndimage.uniform_filter(f, s),
                "SimpleITK": lambda b=box: itk(sitk.BoxMean, b)(f),
            },
        )
    for size in (3, 5):
        box = [size // 2] * 3
        found[f"percentile 25, {size}"] = (
            lambda s=size: filters.percentile(a, 25, s),
            {
                "scipy": lambda s=size: ndimage.percentile_filter(a, 25, s),
                "SimpleITK": lambda b=box: itk(sitk.Rank, 0.25, b)(a),
            },
        )
    for sigma in (1.0, 2.0, 4.0):
        for name, image in (("int16", a), ("float32", f)):
            twins = {"scipy": lambda i=image, s=sigma: ndimage.gaussian_filter(i, s)}
            if name == "float32":
                width = int(8 * sigma) + 1
                twins["SimpleITK"] = lambda s=sigma, w=width: itk(sitk.DiscreteGaussian, s * s, w, 1e-3, False)(f)
            found[f"gaussian {sigma:g} mm, {name}"] = (
                lambda i=image, s=sigma: filters.gaussian(i, SPACING, s),
                twins,
            )
    found |= _shapes(v, a)
    return found | _regions(v)


def _shapes(v: dict[str, np.ndarray], a: np.ndarray) -> dict:
    found: dict = {}
    for radius in (1, 3, 6):
        twins = {"SimpleITK": lambda r=radius: itk(sitk.GrayscaleErode, [r] * 3, sitk.sitkBall)(a)}
        if radius < 6:  # it takes minutes beyond
            twins["scipy"] = lambda r=radius: ndimage.grey_erosion(a, footprint=ball(r))
        found[f"erosion {radius} mm, grey"] = (lambda r=radius: morphology.erosion(a, SPACING, float(r)), twins)
    mask = v["mask"]
    for radius in (2, 10):
        twins = {
            "SimpleITK": lambda r=radius: itk(sitk.BinaryErode, [r] * 3)(mask.view(np.uint8)),
            "scipy, distances": lambda r=radius: ndimage.distance_transform_edt(mask) > r,
        }
        found[f"erosion {radius} mm, mask"] = (
            lambda r=radius: morphology.erosion(mask, SPACING, float(r), labelled=True),
            twins,
        )
    labels = v["labels"]
    found["dilation 5 mm, labels"] = (
        lambda: morphology.dilation(labels, SPACING, 5.0, labelled=True),
        {"scikit-image": lambda: segmentation.expand_labels(labels, 5.0)},
    )
    return found


def _regions(v: dict[str, np.ndarray]) -> dict:
    found: dict = {}
    for connectivity, rank in ((6, 1), (26, 3)):
        structure = ndimage.generate_binary_structure(3, rank)
        found[f"components, mask, {connectivity}"] = (
            lambda c=connectivity: components.components(v["mask"], SPACING, connectivity=c),
            {
                "scipy": lambda s=structure: ndimage.label(v["mask"], s)[0],
                "SimpleITK": lambda r=rank: itk(sitk.ConnectedComponent, r == 3)(v["mask"].view(np.uint8)),
                "scikit-image": lambda r=rank: measure.label(v["mask"], connectivity=r),
            },
        )
        found[f"components, labels, {connectivity}"] = (
            lambda c=connectivity: components.components(v["labels"], SPACING, connectivity=c),
            {
                "scipy, each": lambda s=structure: [ndimage.label(v["labels"] == i, s) for i in (1, 2, 3, 4)],
                "scikit-image": lambda r=rank: measure.label(v["labels"], connectivity=r),
            },
        )
    solid = v["holes"] > 0
    found["fill holes, mask"] = (
        lambda: components.fill_holes(solid, SPACING),
        {
            "scipy": lambda: ndimage.binary_fill_holes(solid),
            "SimpleITK": lambda: itk(sitk.BinaryFillhole)(solid.view(np.uint8)),
        },
    )
    return found


MODULES = {"SimpleITK": "SimpleITK", "scipy": "scipy", "scikit-image": "skimage"}


def comparison(name: str, twin: str) -> Compare:
    """Return how the results of a row are compared."""
    if twin == "scipy, each":
        return not_compared("one label after the other")
    if name.startswith("components"):
        return same_parts
    if name.startswith("fill"):
        return within(0)
    if name.startswith("erosion") and twin == "SimpleITK":
        return not_compared("another ball")
    if name.startswith("percentile") and twin == "SimpleITK":
        return not_compared("another rank")
    # Borders are continued otherwise by SimpleITK; where two labels are equally near, either may win.
    few = 1e-3 if name.startswith("dilation") or "grey" in name else 0.0
    return within(3e-3, relative=True, inside=20, few=few)


def row(name: str, ours: Callable, twins: dict[str, Callable], size: str) -> Row:
    """Return an operation and its twins as a row."""
    peers = [
        Peer(MODULES[twin.partition(",")[0]], lambda call=call: call, comparison(name, twin), twin.partition(", ")[2])
        for twin, call in twins.items()
    ]
    return Row(name.split()[0], name, lambda scale: Task(ours, peers, size))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="only operations whose name holds this")
    parser.add_argument("--depth", type=int, default=64, help="slices of 256 x 256")
    args = parser.parse_args()
    found = cases(volumes(args.depth)).items()
    print_rows(row(name, *calls, f"{args.depth}x256x256") for name, calls in found if args.only in name)


if __name__ == "__main__":
    main()
