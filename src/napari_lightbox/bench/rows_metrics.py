"""Rows of distances: between surfaces, and as a map."""

from collections.abc import Callable
from functools import partial

import numpy as np

from ..ops import _tiles, distance, metrics
from .task import Peer, Row, Task, Verdict, shape_of, within

_SHAPE = (256, 256, 256)
_SPACING = (2.0, 1.0, 1.0)


def _balls(shape: tuple[int, ...], apart: float) -> tuple[np.ndarray, np.ndarray]:
    """Return two bumpy balls whose centres lie `apart` of the volume's edge from each other."""

    def ball(place: float) -> np.ndarray:
        z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
        z, y, x = z[:, None, None], y[:, None] - place, x
        return z * z + y * y + x * x < 0.12 + 0.02 * np.sin(12 * z) * np.sin(12 * y) * np.sin(12 * x)

    return ball(-apart), ball(apart)


def _close(ours: float, theirs: float) -> Verdict:
    same = bool(np.isclose(ours, theirs, rtol=1e-4))
    return Verdict(same, "equal" if same else f"{theirs:.4f} mm instead of {ours:.4f} mm")


def _monai(first: np.ndarray, second: np.ndarray) -> Callable[[], float]:
    import torch
    from monai.metrics import compute_hausdorff_distance

    a, b = (torch.from_numpy(mask[None, None]) for mask in (first, second))
    return lambda: float(
        compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=list(_SPACING))
    )


def _scipy(first: np.ndarray, second: np.ndarray) -> Callable[[], float]:
    from scipy import ndimage

    def surface(mask: np.ndarray) -> np.ndarray:
        return mask & ~ndimage.binary_erosion(mask)

    def call() -> float:
        one, two = surface(first), surface(second)
        there = ndimage.distance_transform_edt(~two, _SPACING)[one]
        back = ndimage.distance_transform_edt(~one, _SPACING)[two]
        return max(float(np.percentile(there, 95)), float(np.percentile(back, 95)))

    return call


def _hausdorff(apart: float, scale: float) -> Task:
    first, second = _balls(shape_of(_SHAPE, scale), apart)
    peers = [
        Peer("monai", partial(_monai, first, second), _close),
        Peer("scipy", partial(_scipy, first, second), _close, "distance transform of the whole volume"),
    ]
    return Task(
        lambda: metrics.hausdorff(first, second, _SPACING, percentile=95),
        peers,
        f"masks {'x'.join(map(str, first.shape))}",
        first.nbytes + second.nbytes,
    )


def _map_of_distances(scale: float) -> Task:
    mask, _ = _balls(shape_of(_SHAPE, scale), 0.05)
    # To the last digit of single precision.
    alike = within(1e-6, relative=True)
    peers = [
        Peer("edt", partial(_edt, ~mask), alike, "with as many threads"),
        # Its distances inside count to the nearest voxel of the object's own surface.
        Peer("SimpleITK", partial(_maurer, mask), lambda a, b: alike(a, np.maximum(b, 0)), "both sides at once"),
        Peer("scipy", partial(_scipy_map, ~mask), alike),
    ]
    ours = lambda: distance.distance_transform(mask, _SPACING)  # noqa: E731
    return Task(ours, peers, f"mask {'x'.join(map(str, mask.shape))}", mask.nbytes + 4 * mask.size)


def _edt(outside: np.ndarray) -> Callable[[], np.ndarray]:
    import edt

    return lambda: edt.edt(outside, anisotropy=_SPACING, parallel=_tiles.workers())


def _maurer(mask: np.ndarray) -> Callable[[], np.ndarray]:
    import SimpleITK as sitk  # noqa: N813

    image = sitk.GetImageFromArray(mask.view(np.uint8))
    image.SetSpacing(_SPACING[::-1])
    return lambda: sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, False, False, True))


def _scipy_map(outside: np.ndarray) -> Callable[[], np.ndarray]:
    from scipy import ndimage

    return lambda: ndimage.distance_transform_edt(outside, _SPACING)


ROWS = [
    Row("hausdorff", "Hausdorff distance, 95 %, near each other", partial(_hausdorff, 0.05)),
    Row("hausdorff", "Hausdorff distance, 95 %, far apart", partial(_hausdorff, 0.4), quick=False),
    Row("distance_transform", "distance transform with spacing", _map_of_distances),
]
