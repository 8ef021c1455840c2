"""Moving, turning, cutting and resampling volumes, with exact geometry.

Points and lengths are in the world of `Grid.affine`: (z, y, x) in LPS millimetres. Everything that has one value
an axis is given in that order.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np

from ..errors import InputError
from ..geometry import Grid
from ..types import Device, Interpolation
from ..volume import Volume
from . import _check, _resample
from ._boxes import crop, flip, pad
from ._device import torch_device
from ._pull import pull_volume

Millimetres = Annotated[tuple[float, float, float], {"unit": "mm", "order": "zyx"}]
Degrees = Annotated[tuple[float, float, float], {"unit": "degrees", "order": "zyx"}]
OptionalMillimetres = Annotated[tuple[float, float, float] | None, {"unit": "mm", "order": "zyx"}]
Factors = Annotated[tuple[float, float, float], {"order": "zyx"}]

__all__ = ["affine", "affine_matrix", "crop", "flip", "pad", "reorient", "resample"]


def affine_matrix(
    translate: Sequence[float] = (0.0, 0.0, 0.0),
    rotate: Sequence[float] = (0.0, 0.0, 0.0),
    scale: Sequence[float] = (1.0, 1.0, 1.0),
    shear: Sequence[float] = (0.0, 0.0, 0.0),
    centre: Sequence[float] = (0.0, 0.0, 0.0),
) -> np.ndarray:
    """Return the matrix that scales, then shears, then rotates about a centre, and then translates.

    Parameters
    ----------
    translate : sequence of float
        (z, y, x) shift in mm: towards Superior, Posterior, Left.
    rotate : sequence of float
        Angles about the z, y and x axes through the centre, degrees; positive as the right hand's fingers curl when
        its thumb points along the axis. The turn about x comes first, then y, then z.
    scale : sequence of float
        (z, y, x) factors; negative ones mirror.
    shear : sequence of float
        (zy, zx, yx): how far a point moves along z for each mm in y, along z for each mm in x, and along y for each mm
        in x.
    centre : sequence of float
        (z, y, x) world point in mm that scaling, shearing and rotating leave in place.

    Returns
    -------
    (4, 4) ndarray of float64
        World point (z, y, x, 1) to world point, mm.

    Raises
    ------
    InputError
        If a value is not finite, or a factor is zero.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 2.6, Geometric transformations.

    Examples
    --------
    >>> affine_matrix(translate=(1, 2, 3), rotate=(90, 0, 0)).round(6).tolist()
    [[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 2.0], [0.0, -1.0, 0.0, 3.0], [0.0, 0.0, 0.0, 1.0]]
    """
    translate, centre = _check.vector(translate, "translate", 3), _check.vector(centre, "centre", 3)
    about_z, about_y, about_x = _check.vector(rotate, "rotate", 3)
    factors = _check.vector(scale, "scale", 3)
    if not factors.all():
        raise InputError(f"scale {tuple(factors.tolist())} holds a zero, which flattens the volume: use other factors")
    zy, zx, yx = _check.vector(shear, "shear", 3)
    shearing = np.array([[1, zy, zx], [0, 1, yx], [0, 0, 1]])
    linear = _turn(1, 2, about_z) @ _turn(2, 0, about_y) @ _turn(0, 1, about_x) @ shearing @ np.diag(factors)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = translate + centre - linear @ centre
    return matrix


def _turn(to: int, start: int, degrees: float) -> np.ndarray:
    """Return the rotation that turns array-order axis `start` towards axis `to`."""
    quarter, rest = divmod(degrees, 90)
    cosine, sine = np.cos(np.radians(rest)), np.sin(np.radians(rest))
    # Quarter turns are exact, so that voxels fall on voxels.
    for _ in range(int(quarter % 4)):
        cosine, sine = -sine, cosine
    matrix = np.eye(3)
    matrix[start, start] = matrix[to, to] = cosine
    matrix[to, start], matrix[start, to] = sine, -sine
    return matrix


def affine(
    volume: Volume,
    matrix: Sequence[Sequence[float]] | None = None,
    *,
    translate: Millimetres = (0.0, 0.0, 0.0),
    rotate: Degrees = (0.0, 0.0, 0.0),
    scale: Factors = (1.0, 1.0, 1.0),
    shear: Factors = (0.0, 0.0, 0.0),
    centre: OptionalMillimetres = None,
    order: Interpolation = "linear",
    fill: float | None = None,
    grid: Literal["same", "fit"] = "same",
    device: Device = "cpu",
) -> Volume:
    """Move, turn, scale or shear the contents of a volume in patient space.

    Parameters
    ----------
    volume : Volume
        3D, or 4D, whose frames are transformed alike.
    matrix : (4, 4) array_like, optional
        Takes input points to output points, (z, y, x, 1) in LPS mm. In place of `translate`, `rotate`, `scale`,
        `shear` and `centre`.
    translate : sequence of float
        (z, y, x) shift in mm: towards Superior, Posterior, Left.
    rotate : sequence of float
        Degrees about the z, y and x axes, by the right-hand rule; x first, then y, then z.
    scale : sequence of float
        (z, y, x) factors.
    shear : sequence of float
        (zy, zx, yx), mm per mm: z moves with y, z with x, y with x.
    centre : sequence of float, optional
        (z, y, x) world point in mm that scaling, shearing and rotating keep in place; the middle of the volume where
        not given.
    order : {"nearest", "linear", "cubic"}
        Interpolation; cubic is the cubic B-spline through the voxels. Labels always take the nearest.
    fill : float, optional
        Value where the output lies outside the input (beyond half a voxel from its outer voxels); the smallest value
        of the volume (of each frame) where not given, 0 for labels and probabilities.
    grid : {"same", "fit"}
        Grid of the result: that of the input, or the same voxels continued or cut so that all of the input fits.
    device : str
        ``"cpu"``, or a graphics card through torch: ``"cuda"``, ``"cuda:1"``. Equal within rounding.

    Returns
    -------
    Volume
        Same type of voxels, rounded and clipped where they are integers; kind, name, labels and meta are kept.
        A NaN or infinite voxel spoils what linear interpolation makes of it.

    Raises
    ------
    InputError
        If the matrix is not invertible or not affine, both a matrix and other parameters are given, nothing of the
        volume is left on the output grid, the fill value does not fit the voxels, the result would not fit in memory,
        or cubic interpolation meets NaN or infinite values, which a spline would spread.

    Notes
    -----
    Cubic interpolation makes the spline's coefficients of the whole input (of one frame) where they take up to 256 MiB,
    at 4 bytes a voxel for float32 and types of up to 16 bits, else 8. Those of larger inputs it makes brick by brick,
    from the voxels of a brick and 28 (of 8 bytes: 40) around it: what lies further away no longer counts. Either way
    gives the same; a double may differ by rounding. So memory beside the result does not grow with the volume, nor does
    that of a graphics card, to which larger inputs are brought in bricks. On the processor, the other interpolations
    need a copy of the input where it is not contiguous or may not be written, and as long as SimpleITK serves, until
    the compiled way is ready.

    References
    ----------
    M. Unser, Splines: a perfect fit for signal and image processing, IEEE Signal Processing Magazine 16(6), 1999.

    Examples
    --------
    >>> volume = Volume.from_array(np.arange(6).reshape(1, 2, 3), spacing=(1, 1, 1))
    >>> affine(volume, translate=(0, 0, 1), fill=-1).data.tolist()
    [[[-1, 0, 1], [-1, 3, 4]]]
    """
    source = volume.grid.without_frames()
    middle = source.to_world((np.array(source.shape) - 1) / 2) if centre is None else centre
    forward = affine_matrix(translate, rotate, scale, shear, middle)
    if matrix is not None:
        if centre is not None or not np.array_equal(forward, np.eye(4)):
            raise InputError("matrix and other movements are both given: give the matrix alone, or multiply them first")
        forward = _affine_4x4(matrix)
    _check.choice(grid, ("same", "fit"), "grid")
    target = source if grid == "same" else _fitting(source, forward)
    return _pull(volume, target, forward, order, fill, device)


def resample(
    volume: Volume,
    spacing: OptionalMillimetres = None,
    like: Volume | None = None,
    order: Interpolation = "linear",
    *,
    fill: float | None = None,
    device: Device = "cpu",
) -> Volume:
    """Resample a volume to another spacing, or onto the grid of another volume.

    Parameters
    ----------
    volume : Volume
        3D, or 4D, whose frames are resampled alike.
    spacing : sequence of float, optional
        (z, y, x) distance of the new voxels in mm along the stored axes. The box of the volume keeps its middle and,
        to within half a new voxel at each end, its extent.
    like : Volume, optional
        Gives its grid in place of a spacing; its frames do not matter. With neither, the voxels become cubes of the
        smallest spacing; an axis of one slice stays as it is.
    order : {"nearest", "linear", "cubic"}
        Interpolation; cubic is the cubic B-spline through the voxels. Labels always take the nearest. Coarser grids
        are sampled, not averaged: smooth first where that matters.
    fill : float, optional
        Value outside the volume; its smallest value (of each frame) where not given, 0 for labels and probabilities.
    device : str
        ``"cpu"``, or a graphics card through torch: ``"cuda"``, ``"cuda:1"``. Equal within rounding.

    Returns
    -------
    Volume
        Same type of voxels, rounded and clipped where they are integers; kind, name, labels and meta are kept.
        A NaN or infinite voxel spoils what linear interpolation makes of it.

    Raises
    ------
    InputError
        If both `spacing` and `like` are given, `like` lies elsewhere or only one of the two knows its place in the
        patient, a spacing is not above zero, the fill value does not fit the voxels, the result would not fit in
        memory, or cubic interpolation meets NaN or infinite values.

    Notes
    -----
    Memory beside the result is as for `affine`.

    References
    ----------
    M. Unser, Splines: a perfect fit for signal and image processing, IEEE Signal Processing Magazine 16(6), 1999.

    Examples
    --------
    >>> volume = Volume.from_array(np.arange(4.0).reshape(1, 1, 4), spacing=(1, 1, 1))
    >>> resample(volume, (1, 1, 2)).data.tolist()
    [[[0.5, 2.5]]]
    """
    source = volume.grid.without_frames()
    if spacing is not None and like is not None:
        raise InputError("spacing and like are both given: give one of them")
    if like is not None and _placed(like) != _placed(volume):
        lost = volume if _placed(like) else like
        raise InputError(
            f"{lost.name!r} does not say where it lies in the patient, so it cannot be brought together with the other "
            "volume: resample to a spacing instead"
        )
    target = source.with_spacing(_wanted_spacing(source, spacing)) if like is None else like.grid.without_frames()
    return _pull(volume, target, np.eye(4), order, fill, device)


def reorient(volume: Volume, code: str = "LPS") -> Volume:
    """Store a volume in another order of its axes; every voxel keeps its value and its place in the patient.

    Parameters
    ----------
    volume : Volume
        3D or 4D; frames stay first.
    code : str
        Orientation in x, y, z order, as nibabel and ITK write it: ``"LPS"``, ``"RAS"``, ``"PSR"``. The axes of an
        oblique volume stay oblique: each becomes the one closest to its letter.

    Returns
    -------
    Volume
        Shares the voxels with `volume`: axes are permuted and flipped, nothing is interpolated or copied.

    Raises
    ------
    GridError
        If the code is not three letters, one each of L/R, P/A and S/I.

    Examples
    --------
    >>> volume = Volume.from_array(np.arange(3).reshape(1, 1, 3), spacing=(1, 1, 1))
    >>> turned = reorient(volume, "RPS")
    >>> turned.data.tolist(), turned.grid.origin
    ([[[2, 1, 0]]], (0.0, 0.0, 2.0))
    """
    order, flips = volume.grid.order_for(code)
    first = len(volume.grid.shape) - 3
    data = volume.data.transpose((*range(first), *(a + first for a in order)))
    data = data[(Ellipsis, *(slice(None, None, -1 if flip else None) for flip in flips))]
    return volume.replace(data=data, grid=volume.grid.reordered(order, flips))


def _placed(volume: Volume) -> bool:
    return bool(volume.meta.get("orientation_known", True))


def _affine_4x4(matrix) -> np.ndarray:
    try:
        forward = np.array(matrix, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"matrix must be a 4x4 matrix of numbers, not {matrix!r}") from None
    if forward.shape != (4, 4) or not np.isfinite(forward).all():
        raise InputError(f"matrix must be a 4x4 matrix of finite numbers, not {forward.tolist()}")
    if not np.array_equal(forward[3], (0, 0, 0, 1)):
        raise InputError(f"matrix must have 0 0 0 1 as its last row, not {forward[3].tolist()}")
    lengths = np.linalg.norm(forward[:3, :3], axis=0)
    if not lengths.all() or abs(np.linalg.det(forward[:3, :3] / lengths)) < 1e-9:
        raise InputError("matrix flattens the volume (its determinant is zero): give one that can be inverted")
    return forward


def _fitting(source: Grid, forward: np.ndarray) -> Grid:
    """Return the voxels of `source`, continued or cut to the box that holds all of its voxels after the movement."""
    moved = source.corners() @ forward[:3, :3].T + forward[:3, 3]
    index = source.to_index(moved)
    low = np.floor(index.min(axis=0) + 1e-6)
    high = np.ceil(index.max(axis=0) - 1e-6)
    affine = source.affine.copy()
    affine[:3, 3] = source.to_world(low)
    return Grid(affine, tuple(int(n) for n in high - low + 1))


def _wanted_spacing(source: Grid, spacing) -> np.ndarray:
    if spacing is not None:
        wanted = _check.vector(spacing, "spacing", 3)
        if not (wanted > 0).all():
            z, y, x = wanted
            raise InputError(f"spacing must be greater than zero mm, not {x:g}, {y:g}, {z:g} (x, y, z)")
        return wanted
    long = np.array(source.spatial_shape) > 1
    if not long.any():
        return np.array(source.spacing)
    return np.where(long, np.min(np.array(source.spacing)[long]), source.spacing)


def _pull(volume: Volume, target: Grid, forward: np.ndarray, order: str, fill: float | None, device: str) -> Volume:
    """Fetch every voxel of `target` from where `forward` brought it from."""
    card = torch_device(device)
    source = volume.grid.without_frames()
    matrix = np.linalg.inv(source.affine) @ np.linalg.inv(forward) @ target.affine
    # Inverting leaves noise in the last digits, which would blur voxels that lie exactly on voxels.
    matrix = np.round(matrix, 12)

    def fetch(data: np.ndarray, order: str, value: float) -> np.ndarray:
        if not _resample.overlaps(matrix, target.spatial_shape, source.spatial_shape):
            raise InputError(
                f"the result would hold nothing of {volume.name!r}, which lies elsewhere: check the movement, or "
                "whether the two volumes belong to the same scan"
            )
        if card is None:
            return _resample.pull(data, matrix, target.shape, order, value)
        from ._torch import geometry

        return geometry.pull(data, matrix, target.shape, order, value, card)

    return pull_volume(volume, target, order, fill, fetch)
