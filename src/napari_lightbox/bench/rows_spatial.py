"""Rows of resampling."""

from collections.abc import Callable
from functools import partial

import numpy as np

from ..geometry import Grid
from ..ops import spatial
from ..volume import Volume
from .task import Peer, Row, Task, scan, shape_of, size_text, within

_SHAPE = (100, 512, 512)
_SPACING, _FINER = (2.0, 0.8, 0.8), (1.4, 0.75, 0.75)
_TURN = (10.0, 15.0, 20.0)
_ORDERS = {"nearest": 0, "linear": 1, "cubic": 3}
# Whole numbers may be rounded to either side of a half.
_TOLERANCE = {"nearest": 0, "linear": 1, "cubic": 1}
# Places half way between two voxels may fall to either.
_FEW = {"nearest": 1e-3, "linear": 0.0, "cubic": 1e-4}


def _itk(data: np.ndarray, source: Grid, target: Grid, backward: np.ndarray, order: str) -> Callable[[], np.ndarray]:
    import SimpleITK as sitk  # noqa: N813

    method = {"nearest": sitk.sitkNearestNeighbor, "linear": sitk.sitkLinear, "cubic": sitk.sitkBSpline}[order]

    def call() -> np.ndarray:
        image, like = sitk.GetImageFromArray(data), sitk.Image(target.shape[::-1], sitk.sitkUInt8)
        for each, grid in ((image, source), (like, target)):
            each.SetSpacing(grid.spacing[::-1])
            each.SetOrigin(grid.origin[::-1])
            each.SetDirection(grid.direction[::-1, ::-1].ravel().tolist())
        transform = sitk.AffineTransform(3)
        transform.SetMatrix(backward[:3, :3][::-1, ::-1].ravel().tolist())
        transform.SetTranslation(backward[:3, 3][::-1].tolist())
        return sitk.GetArrayFromImage(sitk.Resample(image, like, transform, method, float(data.min())))

    return call


def _scipy(data: np.ndarray, source: Grid, target: Grid, backward: np.ndarray, order: str) -> Callable[[], np.ndarray]:
    from scipy import ndimage

    matrix = np.linalg.inv(source.affine) @ backward @ target.affine
    return lambda: ndimage.affine_transform(
        data, matrix[:3, :3], matrix[:3, 3], target.shape, order=_ORDERS[order], mode="constant", cval=data.min()
    )


def _inside(source: Grid, target: Grid, backward: np.ndarray) -> np.ndarray:
    """Return which voxels lie between the centres of the outer voxels of the source: there the border has no say."""
    matrix = np.linalg.inv(source.affine) @ backward @ target.affine
    z, y, x = (np.arange(n, dtype=np.float32).reshape([-1 if a == i else 1 for a in range(3)]) for i, n in
               enumerate(target.shape))  # fmt: skip
    result = np.ones(target.shape, bool)
    for row, size in zip(matrix[:3], source.shape, strict=True):
        place = row[0] * z + row[1] * y + row[2] * x + row[3]
        result &= (place >= 0.01) & (place <= size - 1.01)
    return result


def _task(order: str, oblique: bool, scale: float) -> Task:
    shape = shape_of(_SHAPE, scale, least=12)
    if order == "cubic" and oblique:
        shape = shape_of(_SHAPE, 0.6 * scale, least=12)
    data = scan(shape, "int16")
    grid = Grid.from_spacing(_SPACING, data.shape)
    volume = Volume(data, grid)
    fill = float(data.min())
    if oblique:
        centre = grid.to_world((np.array(grid.shape) - 1) / 2)
        forward, target = spatial.affine_matrix(rotate=_TURN, centre=centre), grid
        ours = lambda: spatial.affine(volume, forward, order=order, fill=fill).data  # noqa: E731
    else:
        forward, target = np.eye(4), grid.with_spacing(_FINER)
        ours = lambda: spatial.resample(volume, _FINER, order=order, fill=fill).data  # noqa: E731
    case = (data, grid, target, np.linalg.inv(forward), order)
    inside = partial(_inside, grid, target, case[3])
    same = {"tolerance": _TOLERANCE[order], "few": _FEW[order]}
    peers = [Peer("SimpleITK", partial(_itk, *case), within(**same, where=inside if order == "cubic" else None))]
    peers.append(Peer("scipy", partial(_scipy, *case), within(**same, where=inside), "no half voxel beyond the outer"))
    moved = data.nbytes + int(np.prod(target.shape)) * data.itemsize
    text = f"{size_text(data)} -> {'x'.join(map(str, target.shape))}"
    return Task(ours, peers, text, moved)


ROWS = [
    *(
        Row("affine", f"affine, oblique, {order}", partial(_task, order, True), quick=order != "nearest")
        for order in ("linear", "nearest", "cubic")
    ),
    *(
        Row("resample", f"resample, spacing only, {order}", partial(_task, order, False), quick=order != "nearest")
        for order in ("linear", "nearest", "cubic")
    ),
]
