"""Rows of the neighbourhood filters."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..ops import filters
from .task import Peer, Row, Task, exactly, scan, shape_of, size_text, within

_SHAPE = (128, 256, 256)
# For large windows, at which other libraries take microseconds for each voxel.
_FEW, _FEW_PLANES = (32, 128, 128), (4, 512, 512)
# What SimpleITK and OpenCV do at a border.
_BORDER = "nearest"


def _itk_median(image: np.ndarray, radius: int) -> Callable[[], np.ndarray]:
    import SimpleITK as sitk  # noqa: N813

    return lambda: sitk.GetArrayFromImage(sitk.Median(sitk.GetImageFromArray(image), [radius] * 3))


def _scipy_median(image: np.ndarray, size: Any) -> Callable[[], np.ndarray]:
    from scipy import ndimage

    return lambda: ndimage.median_filter(image, size, mode=_BORDER)


def _skimage_median(image: np.ndarray, size: int) -> Callable[[], np.ndarray]:
    from skimage.filters import rank

    window = np.ones((size,) * 3, np.uint8)
    return lambda: rank.median(image, window)


def _median(dtype: str, size: int, scale: float, shape: tuple[int, ...] = _SHAPE) -> Task:
    image = scan(shape_of(shape, scale), dtype)
    peers = [
        Peer("SimpleITK", partial(_itk_median, image, size // 2), exactly),
        Peer("scipy", partial(_scipy_median, image, size), exactly),
    ]
    if dtype == "uint8":
        peers.append(Peer("skimage", partial(_skimage_median, image, size), within(0, inside=size // 2)))
    return Task(lambda: filters.median(image, size, mode=_BORDER), peers, size_text(image), 2 * image.nbytes)


def _opencv_median(image: np.ndarray, size: int) -> Callable[[], np.ndarray]:
    import cv2

    return lambda: np.stack([cv2.medianBlur(plane, size) for plane in image])


def _median_planes(size: int, scale: float, shape: tuple[int, ...] = _SHAPE) -> Task:
    image = scan(shape_of(shape, scale), "uint8")

    peers = [
        Peer("cv2", partial(_opencv_median, image, size), exactly),
        Peer("scipy", partial(_scipy_median, image, (1, size, size)), exactly),
    ]
    ours = partial(filters.median, image, (1, size, size), mode=_BORDER)
    return Task(ours, peers, size_text(image), 2 * image.nbytes)


# Adaptive median --------------------------------------------------------------------------------------------------


def plain_adaptive(image: np.ndarray, max_size: int, mode: str = _BORDER) -> np.ndarray:
    """Return the adaptive median as the textbook has it, by whole filters of scipy for every size of the window."""
    from scipy import ndimage

    result, open_ = image.copy(), np.ones(image.shape, bool)
    for size in range(3, max_size + 1, 2):
        low = ndimage.minimum_filter(image, size, mode=mode)
        high = ndimage.maximum_filter(image, size, mode=mode)
        middle = ndimage.median_filter(image, size, mode=mode)
        passed = open_ & (low < middle) & (middle < high)
        keep = (low < image) & (image < high)
        result[passed & ~keep] = middle[passed & ~keep]
        open_ &= ~passed
        if not open_.any():
            return result
    result[open_] = middle[open_]
    return result


def _salted(image: np.ndarray, share: float) -> np.ndarray:
    """Return an image with salt and pepper: its largest and smallest value at random voxels."""
    rng = np.random.default_rng(3)
    chance = rng.random(image.shape, np.float32)
    result = image.copy()
    result[chance < share / 2] = image.min()
    result[chance > 1 - share / 2] = image.max()
    return result


def _adaptive(background: bool, scale: float) -> Task:
    image = scan(shape_of(_SHAPE, scale), "int16")
    if background:
        # The worst case: wide background of the same value as the pepper.
        image = np.where(image < -500, image.min(), image)
    image = _salted(image, 0.35)
    return _adaptive_task(image, 2 * image.nbytes)


def _adaptive_plane(scale: float) -> Task:
    image = _salted(scan((8, *shape_of((512, 512), scale)), "int16")[4], 0.35)
    return _adaptive_task(image, 2 * image.nbytes)


def _adaptive_task(image: np.ndarray, moved: int) -> Task:
    peer = Peer("scipy", lambda: lambda: plain_adaptive(image, 7), exactly, note="whole filters for every size")
    return Task(lambda: filters.adaptive_median(image, 7, mode=_BORDER), [peer], size_text(image), moved)


# The extremes share the machinery.


def _minimum(size: int, scale: float) -> Task:
    image = scan(shape_of(_SHAPE, scale), "int16")

    def scipy_way() -> Callable[[], np.ndarray]:
        from scipy import ndimage

        return lambda: ndimage.minimum_filter(image, size, mode=_BORDER)

    def itk_way() -> Callable[[], np.ndarray]:
        import SimpleITK as sitk  # noqa: N813

        box = [size // 2] * 3
        return lambda: sitk.GetArrayFromImage(sitk.GrayscaleErode(sitk.GetImageFromArray(image), box, sitk.sitkBox))

    peers = [Peer("SimpleITK", itk_way, exactly), Peer("scipy", scipy_way, exactly)]
    return Task(lambda: filters.minimum(image, size, mode=_BORDER), peers, size_text(image), 2 * image.nbytes)


ROWS = [
    *(
        Row(
            "median",
            f"median {size} x {size} x {size}, {dtype}",
            partial(_median, dtype, size),
            quick=(dtype, size) in (("int16", 3), ("int16", 5), ("float32", 3), ("uint8", 3)),
        )
        for dtype in ("int16", "float32", "uint8")
        for size in (3, 5, 7)
    ),
    *(
        Row("median", f"median {size} x {size}, uint8, planes", partial(_median_planes, size), quick=size < 7)
        for size in (3, 5, 7)
    ),
    *(
        Row("median", f"median 9 x 9 x 9, {dtype}", partial(_median, dtype, 9, shape=_FEW), quick=dtype == "int16")
        for dtype in ("int16", "float32")
    ),
    *(
        Row("median", f"median {size} x {size}, uint8, planes", partial(_median_planes, size, shape=_FEW_PLANES))
        for size in (15, 31)
    ),
    Row("adaptive_median", "adaptive median up to 7, 35 % salt and pepper", partial(_adaptive, False)),
    Row("adaptive_median", "adaptive median up to 7, background as the pepper", partial(_adaptive, True), quick=False),
    Row("adaptive_median", "adaptive median up to 7, one plane", _adaptive_plane),
    Row("minimum", "minimum 5 x 5 x 5", partial(_minimum, 5), quick=False),
]
