"""Rows of thresholds, regions and parts."""

from collections import deque
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from ..ops import components, segmentation
from .task import Peer, Row, Task, Verdict, exactly, not_compared, same_parts, scan, shape_of, size_text

_SHAPE = (200, 512, 512)
# Values at which the thresholds of scikit-image can still be compared: its time grows with a power of their number.
_VALUES = {2: 4096, 3: 256, 4: 64}


# Otsu -------------------------------------------------------------------------------------------------------------


def _skimage_otsu(image: np.ndarray, classes: int, bins: int) -> Callable[[], np.ndarray]:
    from skimage.filters import threshold_multiotsu

    return lambda: threshold_multiotsu(image, classes, nbins=bins)


def _itk_otsu(image: np.ndarray, classes: int, bins: int) -> Callable[[], Any]:
    import SimpleITK as sitk  # noqa: N813

    def call() -> Any:
        found = sitk.OtsuMultipleThresholdsImageFilter()
        found.SetNumberOfThresholds(classes - 1)
        found.SetNumberOfHistogramBins(bins)
        found.Execute(sitk.GetImageFromArray(image))
        return found.GetThresholds()

    return call


def _given_our_histogram(image: np.ndarray, classes: int) -> Callable[[Any, Any], Verdict]:
    """Compare not what was timed, with bins of another width, but the thresholds of the same histogram.

    scikit-image sums in single precision and may miss the best thresholds by a little; ours must never be the worse.
    """

    def compare(ours: Any, theirs: Any) -> Verdict:
        from skimage.filters import threshold_multiotsu

        low, high = int(image.min()), int(image.max())
        step = -(-(high - low + 1) // _VALUES[classes])
        coarse = (image.astype(np.int32) - low) // step
        count = np.bincount(coarse.ravel())
        truth = threshold_multiotsu(classes=classes, hist=(count, np.arange(len(count))))
        found = segmentation.otsu_thresholds(coarse, classes)
        told = f"given our histogram ({len(count)} values)"
        if np.array_equal(found, truth):
            return Verdict(True, f"equal {told}")
        better = between_classes(count, found) >= between_classes(count, truth)
        return Verdict(better, f"ours part {'better' if better else 'worse'} {told}: {found}, not {truth}")

    return compare


def between_classes(count: np.ndarray, thresholds: Sequence[int]) -> Fraction:
    """Return what Otsu's method makes as large as it can: exactly, but for a constant."""
    edges = [0, *(int(t) + 1 for t in thresholds), len(count)]
    total = Fraction(0)
    for low, high in pairwise(edges):
        part = [int(n) for n in count[low:high]]
        if any(part):
            total += Fraction(sum(n * value for value, n in enumerate(part, start=low)) ** 2, sum(part))
    return total


def _otsu(classes: int, scale: float) -> Task:
    image = scan(shape_of(_SHAPE, scale), "int16")
    peers = [
        Peer("skimage", partial(_skimage_otsu, image, classes, 256), _given_our_histogram(image, classes), "256 bins"),
        Peer("SimpleITK", partial(_itk_otsu, image, classes, 128), not_compared("other bins"), "128 bins"),
    ]
    return Task(lambda: segmentation.otsu_thresholds(image, classes), peers, size_text(image), image.nbytes)


# Growing from a seed ----------------------------------------------------------------------------------------------


def _organ_seed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a voxel in the organ of `scan`."""
    return tuple(round((place + 1) / 2 * (n - 1)) for place, n in zip((0.0, 0.2, 0.3), shape, strict=True))


def _itk_seed(seed: tuple[int, ...]) -> list[int]:
    return [int(n) for n in reversed(seed)]


def _connected(scale: float) -> Task:
    image = scan(shape_of(_SHAPE, scale), "int16")
    seed, width = _organ_seed(image.shape), 60
    middle = int(image[seed])

    def itk() -> Callable[[], np.ndarray]:
        import SimpleITK as sitk  # noqa: N813

        return lambda: sitk.GetArrayFromImage(
            sitk.ConnectedThreshold(sitk.GetImageFromArray(image), [_itk_seed(seed)], middle - width, middle + width, 1)
        )

    def skimage() -> Callable[[], np.ndarray]:
        from skimage.segmentation import flood

        return lambda: flood(image, seed, connectivity=1, tolerance=width)

    peers = [Peer("SimpleITK", itk, exactly), Peer("skimage", skimage, exactly)]
    return Task(
        lambda: segmentation.region_grow(image, [seed], threshold=width + 0.5),
        peers,
        size_text(image),
        image.nbytes + image.size,
    )


def _confidence(scale: float) -> Task:
    image = scan(shape_of(_SHAPE, scale), "float32")
    seed = _organ_seed(image.shape)

    def itk() -> Callable[[], np.ndarray]:
        import SimpleITK as sitk  # noqa: N813

        return lambda: sitk.GetArrayFromImage(
            sitk.ConfidenceConnected(
                sitk.GetImageFromArray(image),
                seedList=[_itk_seed(seed)],
                numberOfIterations=4,
                multiplier=2.5,
                initialNeighborhoodRadius=1,
                replaceValue=1,
            )
        )

    return Task(
        lambda: segmentation.region_grow(image, [seed], criterion="confidence"),
        [Peer("SimpleITK", itk, exactly)],
        size_text(image),
        image.nbytes + image.size,
    )


def plain_mean_growing(image: np.ndarray, seed: tuple[int, ...], threshold: float) -> np.ndarray:
    """Grow by the running mean as a script does: a queue of voxels."""
    closed = np.zeros(tuple(n + 2 for n in image.shape), bool)
    closed[...] = True
    closed[1:-1, 1:-1, 1:-1] = False
    values = np.pad(image, 1)
    plane, row = values.shape[1] * values.shape[2], values.shape[2]
    flat, shut = values.ravel().tolist(), bytearray(closed.ravel().tobytes())
    first = ((seed[0] + 1) * values.shape[1] + seed[1] + 1) * row + seed[2] + 1
    queue, found = deque([first]), [first]
    shut[first] = 1
    total, count = float(flat[first]), 1
    while queue:
        here = queue.popleft()
        for there in (here - plane, here - row, here - 1, here + 1, here + row, here + plane):
            if not shut[there] and abs(total / count - flat[there]) < threshold:
                shut[there] = 1
                total += flat[there]
                count += 1
                queue.append(there)
                found.append(there)
    result = np.zeros(values.size, np.uint8)
    result[found] = 1
    return result.reshape(values.shape)[1:-1, 1:-1, 1:-1]


def _mean(scale: float) -> Task:
    image = scan(shape_of((100, 256, 256), scale), "int16")
    seed, threshold = _organ_seed(image.shape), 60.0
    peer = Peer("sys", lambda: lambda: plain_mean_growing(image, seed, threshold), exactly, "a queue of voxels")
    return Task(
        lambda: segmentation.region_grow(image, [seed], criterion="mean", threshold=threshold),
        [peer],
        size_text(image),
        image.nbytes + image.size,
    )


# Parts ------------------------------------------------------------------------------------------------------------


def _components(scale: float) -> Task:
    mask = scan(shape_of((256, 256, 256), scale), "int16") > 30
    peers = [
        Peer("cc3d", partial(_cc3d, mask), same_parts),
        Peer("scipy", partial(_scipy_label, mask), same_parts),
        Peer("SimpleITK", partial(_itk_label, mask), same_parts),
        Peer("skimage", partial(_skimage_label, mask), same_parts),
    ]
    ours = lambda: components.components(mask, (1.0, 1.0, 1.0), connectivity=26)  # noqa: E731
    return Task(ours, peers, f"mask {'x'.join(map(str, mask.shape))}", mask.nbytes + 4 * mask.size)


def _cc3d(mask: np.ndarray) -> Callable[[], np.ndarray]:
    import cc3d

    return lambda: cc3d.connected_components(mask, connectivity=26)


def _scipy_label(mask: np.ndarray) -> Callable[[], np.ndarray]:
    from scipy import ndimage

    return lambda: ndimage.label(mask, np.ones((3, 3, 3)))[0]


def _itk_label(mask: np.ndarray) -> Callable[[], np.ndarray]:
    import SimpleITK as sitk  # noqa: N813

    return lambda: sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.view(np.uint8)), True))


def _skimage_label(mask: np.ndarray) -> Callable[[], np.ndarray]:
    from skimage.measure import label

    return lambda: label(mask, connectivity=3)


ROWS = [
    *(
        Row("otsu", f"Otsu, {classes} classes, every grey value a bin", partial(_otsu, classes), quick=classes < 4)
        for classes in (2, 3, 4)
    ),
    Row("region_grow", "region growing, distance to the seed", _connected),
    Row("region_grow", "region growing, confidence", _confidence),
    Row("region_grow", "region growing, running mean", _mean),
    Row("components", "components, 26 neighbours", _components),
]
