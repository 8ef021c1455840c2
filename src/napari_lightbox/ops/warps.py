"""Warps that bend straight lines or let parallels meet: projective, polynomial, and the distortion of lenses.

Lengths are millimetres. A warp in a section acts in the same way on every slice of it. Its two coordinates are those
of the patient that the section shows, in LPS mm as the status bar has them: (y, x) in an axial section, (z, x) in a
coronal one, (z, y) in a sagittal one. In an oblique volume they are counted along its own axes, through the same
origin. A typed text has them the other way round, as people write them: x before y before z.

Memory beside the result does not grow with the volume: a spline's coefficients are made of a whole frame where they
take up to 256 MiB, else brick by brick as in `spatial.affine`; in a section of some slices at a time. The result is the
same either way.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Literal

import numpy as np

from ..errors import InputError
from ..geometry import PLANES, Grid
from ..types import Interpolation
from ..volume import Volume
from . import _check, _lens, _tie_points, _warp
from ._pull import pull_volume

Section = Literal["axial", "coronal", "sagittal"] | None
_PAIRS = {"unit": "mm", "placeholder": "from x, y > to x, y; ..., such as 0, 0 > 5, 0; 90, 0 > 80, 10"}
Pairs = Annotated[str, _PAIRS]
OptionalPairs = Annotated[str | None, _PAIRS]
Homography = Annotated[str | None, {"unit": "mm", "placeholder": "x, y: 1, 0, 5; 0, 1, 0; 0.001, 0, 1"}]
Factor = Annotated[float, {"min": -10.0, "max": 10.0, "step": 0.01}]
OptionalPoint = Annotated[tuple[float, float, float] | None, {"unit": "mm", "order": "zyx"}]
_LARGEST_CONDITION = 1e14

__all__ = ["lens_distortion", "polynomial", "projective"]


def projective(
    volume: Volume,
    pairs: OptionalPairs = None,
    homography: Homography = None,
    matrix: Sequence[Sequence[float]] | None = None,
    *,
    section: Section = None,
    order: Interpolation = "linear",
    fill: float | None = None,
) -> Volume:
    """Warp a volume by a projective mapping (homography): straight lines stay straight, parallels may meet.

    The mapping is given in one of three ways: by pairs of points, by a 3x3 matrix for a section, or by a 4x4 matrix
    for all of space.

    Parameters
    ----------
    volume : Volume
        2D, 3D or 4D, whose slices and frames are warped alike.
    pairs : str or (n, 2, 2) or (n, 2, 3) array_like
        Where points lie and where they belong, in mm: at least 4 pairs in a section, as text
        ``"x, y > x, y; x, y > x, y"``; or at least 5 in space, ``"x, y, z > x, y, z"``. More than needed are
        fitted by least squares. As an array, each pair is (from, to) with coordinates in array order.
    homography : str or (3, 3) array_like
        Takes input to output points (x, y, 1) of a section, in mm, by its rows ``"1, 0, 5; 0, 1, 0; 0, 0, 1"``. As an
        array, it takes them in array order (y, x, 1).
    matrix : (4, 4) array_like, optional
        Takes input points to output points, (z, y, x, 1) in LPS mm; its last row need not be 0 0 0 1.
    section : {"axial", "coronal", "sagittal"}, optional
        What pairs of two coordinates and a homography act in; where not given, the plane of a single slice, and axial
        for a stack of slices.
    order : {"nearest", "linear", "cubic"}
        Interpolation; labels always take the nearest.
    fill : float, optional
        Value where the output lies outside the input (or beyond the horizon); the smallest value of the volume (of each
        frame) where not given, 0 for labels and probabilities.

    Returns
    -------
    Volume
        On the same grid, same type of voxels; kind, name, labels and meta are kept. A NaN or infinite voxel spoils what
        linear interpolation makes of it.

    Raises
    ------
    InputError
        If the mapping is given in none or in several ways, cannot be inverted, or is not decided by the pairs; nothing
        of the volume is left; or cubic interpolation meets NaN or infinite values.

    References
    ----------
    R. Hartley and A. Zisserman, Multiple View Geometry in Computer Vision, 2nd ed., section 4.1, the direct linear
    transformation.

    Examples
    --------
    >>> volume = Volume.from_array(np.arange(6).reshape(1, 2, 3), spacing=(1, 1, 1))
    >>> projective(volume, homography="1, 0, 1; 0, 1, 0; 0, 0, 1", fill=-1).data.tolist()
    [[[-1, 0, 1], [-1, 3, 4]]]
    """
    ways = [not _empty(pairs), not _empty(homography), matrix is not None]
    if sum(ways) != 1:
        given = "given in several ways" if any(ways) else "not given"
        raise InputError(f"the mapping is {given}: give pairs of points, or a homography, or a matrix")
    if ways[0]:
        start, end = _parse_pairs(pairs)
        backward = _tie_points.fit_projective(end, start)
    elif ways[1]:
        backward = _inverse(_parse_homography(homography), 3, "homography")
    else:
        backward = _inverse(matrix, 4, "matrix")

    mapping = partial(_tie_points.projective, backward)
    return _warped(volume, mapping, len(backward) - 1, section, order, fill)


def polynomial(
    volume: Volume,
    pairs: Pairs,
    degree: Annotated[int, {"min": 1, "max": 3}] = 2,
    *,
    section: Section = None,
    order: Interpolation = "linear",
    fill: float | None = None,
) -> Volume:
    """Warp a volume by polynomials fitted to tie points: points whose place before and after is known.

    For each voxel of the output, polynomials of its coordinates say where in the input it comes from. They are fitted
    to the pairs by least squares, and go through them exactly where there are just as many as the degree needs.

    Parameters
    ----------
    volume : Volume
        2D, 3D or 4D, whose slices and frames are warped alike.
    pairs : str or (n, 2, 2) or (n, 2, 3) array_like
        Where points lie and where they belong, in mm, as text ``"x, y > x, y; x, y > x, y"`` in a section, or
        ``"x, y, z > x, y, z"`` in space. A section needs at least 3, 6 or 10 pairs for degree 1, 2 or 3, space 4, 10 or
        20. As an array, each pair is (from, to) with coordinates in array order.
    degree : int
        Degree of the polynomials, 1 (affine) to 3. Far from the points, high degrees lead far astray.
    section : {"axial", "coronal", "sagittal"}, optional
        What pairs of two coordinates act in; where not given, the plane of a single slice, and axial for a stack.
    order : {"nearest", "linear", "cubic"}
        Interpolation; labels always take the nearest.
    fill : float, optional
        Value where the output lies outside the input; the smallest value of the volume (of each frame) where not given,
        0 for labels and probabilities.

    Returns
    -------
    Volume
        On the same grid, same type of voxels; kind, name, labels and meta are kept. A NaN or infinite voxel spoils what
        linear interpolation makes of it.

    Raises
    ------
    InputError
        If the pairs are too few or do not decide the polynomials, nothing of the volume is left, or cubic interpolation
        meets NaN or infinite values.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 2.6, Geometric transformations: image
    registration by tie points.

    Examples
    --------
    >>> volume = Volume.from_array(np.arange(6).reshape(1, 2, 3), spacing=(1, 1, 1))
    >>> polynomial(volume, "0,0 > 1,0; 1,0 > 2,0; 0,1 > 1,1", degree=1, fill=-1).data.tolist()
    [[[-1, 0, 1], [-1, 3, 4]]]
    """
    degree = _check.whole(degree, "degree")
    if degree > 3:
        raise InputError(f"degree must be 1, 2 or 3, not {degree}")
    if _empty(pairs):
        raise InputError(
            "pairs is empty: write where points lie and where they belong, as in 0, 0 > 5, 0; 90, 0 > 80, 10"
        )
    start, end = _parse_pairs(pairs)
    backward = _tie_points.fit_polynomial(end, start, degree)
    return _warped(volume, lambda middle: backward, start.shape[1], section, order, fill)


def lens_distortion(
    volume: Volume,
    k1: Factor = 0.0,
    k2: Factor = 0.0,
    k3: Factor = 0.0,
    p1: Factor = 0.0,
    p2: Factor = 0.0,
    *,
    mode: Literal["correct", "distort"] = "correct",
    centre: OptionalPoint = None,
    radius: Annotated[float | None, {"min": 1e-3, "max": 1e5, "step": 10.0, "unit": "mm"}] = None,
    section: Section = None,
    order: Interpolation = "linear",
    fill: float | None = None,
) -> Volume:
    """Correct the distortion of a lens, or distort as a lens does: the radial and tangential model of Brown.

    An ideal point (u, v), counted from the centre in units of `radius`, is seen by the lens at

    - u (1 + k1 r^2 + k2 r^4 + k3 r^6) + 2 p1 u v + p2 (r^2 + 2 u^2)
    - v (1 + k1 r^2 + k2 r^4 + k3 r^6) + p1 (r^2 + 2 v^2) + 2 p2 u v

    with r^2 = u^2 + v^2, u along the first and v along the second of the patient's axes x, y, z that the section shows.
    With the focal length as `radius`, the factors are those that camera calibrations report.

    Parameters
    ----------
    volume : Volume
        2D, 3D or 4D, whose slices and frames are treated alike.
    k1, k2, k3 : float
        Radial factors, without unit; the lens is a barrel where they are negative, and a pincushion where positive.
    p1, p2 : float
        Tangential factors, without unit.
    mode : {"correct", "distort"}
        Whether the volume is what the lens shows and gets mended, or is ideal and gets distorted.
    centre : sequence of float, optional
        (z, y, x) world point in LPS mm on the axis of the lens; the middle of the volume where not given.
    radius : float, optional
        Distance from the centre in mm that counts as 1; half the diagonal of the section where not given.
    section : {"axial", "coronal", "sagittal"}, optional
        The plane of the picture; where not given, that of a single slice, and axial for a stack of slices.
    order : {"nearest", "linear", "cubic"}
        Interpolation; labels always take the nearest.
    fill : float, optional
        Value where the output lies outside the input, or so far out that the model folds the picture back; the smallest
        value of the volume (of each frame) where not given, 0 for labels and probabilities.

    Returns
    -------
    Volume
        On the same grid, same type of voxels; kind, name, labels and meta are kept. A NaN or infinite voxel spoils what
        linear interpolation makes of it.

    Raises
    ------
    InputError
        If a factor is not finite, the radius is not above zero, nothing of the volume is left, or cubic interpolation
        meets NaN or infinite values.

    References
    ----------
    D. C. Brown, Decentering distortion of lenses, Photogrammetric Engineering 32(3), 1966.

    Examples
    --------
    >>> volume = Volume.from_array(np.arange(5).reshape(1, 1, 5), spacing=(1, 1, 1))
    >>> lens_distortion(volume, k1=0.25, radius=2, mode="distort", order="nearest", fill=-1).data.tolist()
    [[[0, 1, 2, 3, 4]]]
    """
    factors = tuple(
        _check.number(value, name)
        for name, value in zip(("k1", "k2", "k3", "p1", "p2"), (k1, k2, k3, p1, p2), strict=True)
    )
    _check.choice(mode, ("correct", "distort"), "mode")
    if radius is not None:
        radius = _check.number(radius, "radius", above=0)
    plane = _Plane(volume.grid.without_frames(), section)
    middle = plane.middle if centre is None else plane.of_world(_check.vector(centre, "centre", 3))
    unit = plane.half_diagonal if radius is None else radius
    lens = _lens.distorted if mode == "correct" else _lens.ideal

    def backward(points: np.ndarray) -> np.ndarray:
        offset = middle.reshape(2, *(1,) * (points.ndim - 1))
        return lens((points - offset)[::-1] / unit, *factors)[::-1] * unit + offset

    return _warped(volume, lambda middle: backward, 2, section, order, fill)


def _warped(
    volume: Volume,
    mapping: Callable[[np.ndarray], _tie_points.Mapping],
    size: int,
    section: str | None,
    order: str,
    fill: float | None,
) -> Volume:
    """Fetch every voxel from where a mapping from output to input, made for the middle of the volume, says.

    `size` is 2 for coordinates of a section, 3 for world points.
    """
    grid = volume.grid.without_frames()
    plane = _Plane(grid, section)
    if size == 2:
        find = plane.finder(mapping(plane.middle))
        return pull_volume(volume, grid, order, fill, lambda d, o, v: _warp.pull_planes(d, plane.across, find, o, v))
    backward, inverse = mapping(grid.to_world((np.array(grid.shape) - 1) / 2)), np.linalg.inv(grid.affine)

    def places(block: tuple[slice, ...]) -> np.ndarray:
        index = np.stack(np.meshgrid(*(np.arange(s.start, s.stop, dtype=float) for s in block), indexing="ij"))
        return _moved(inverse, backward(_moved(grid.affine, index)))

    return pull_volume(volume, grid, order, fill, lambda d, o, v: _warp.pull(d, grid.shape, places, o, v))


def _moved(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return points (3, ...) after an affine movement."""
    return np.tensordot(affine[:3, :3], points, 1) + affine[:3, 3].reshape(3, *(1,) * (points.ndim - 1))


class _Plane:
    """A section of a grid, and the coordinates of its points: along its own axes, as the patient's run, in mm."""

    def __init__(self, grid: Grid, section: str | None) -> None:
        stored, flips = grid.closest_axes()
        if section is None:
            # The plane of a single slice; the other names would show it edge on.
            section = next((n for n, w in PLANES.items() if grid.shape[stored[w]] == 1), "axial")
        _check.choice(section, tuple(PLANES), "section")
        world = [w for w in range(3) if w != PLANES[section]]
        self.across = stored[PLANES[section]]
        axes = np.stack([grid.direction[:, stored[w]] * (-1 if flips[w] else 1) for w in range(3)], axis=1)
        self._to_axes = np.linalg.inv(axes)[world]
        self._stored = [stored[w] for w in world]
        self._step = np.array([grid.spacing[stored[w]] * (-1 if flips[w] else 1) for w in world])
        self._origin = self._to_axes @ grid.origin
        self._last = np.array([grid.shape[a] - 1 for a in self._stored])

    @property
    def middle(self) -> np.ndarray:
        """Coordinates of the middle, in array order."""
        return self._origin + self._step * self._last / 2

    @property
    def half_diagonal(self) -> float:
        """Distance from the middle to the corners of the outer voxels, mm."""
        return float(np.linalg.norm(self._step * (self._last + 1))) / 2

    def of_world(self, point: np.ndarray) -> np.ndarray:
        """Return the coordinates of a world point."""
        return self._to_axes @ point

    def finder(self, backward: _tie_points.Mapping) -> Callable[[tuple[slice, ...]], np.ndarray]:
        """Return what says, for a block of the stored plane, which indices in it its voxels come from."""
        swapped = self._stored[0] > self._stored[1]
        step, origin = self._step.reshape(2, 1, 1), self._origin.reshape(2, 1, 1)

        def find(block: tuple[slice, ...]) -> np.ndarray:
            first, second = block[::-1] if swapped else block
            index = np.stack(
                np.meshgrid(
                    np.arange(first.start, first.stop, dtype=float),
                    np.arange(second.start, second.stop, dtype=float),
                    indexing="ij",
                )
            )
            found = (backward(index * step + origin) - origin) / step
            # From the order of the patient's axes to that in which they are stored.
            return found[::-1].transpose(0, 2, 1) if swapped else found

        return find


def _empty(value) -> bool:
    # By its length: rows of different lengths make no array.
    if isinstance(value, str):
        return not value.strip()
    return value is None or (hasattr(value, "__len__") and not len(value))


def _parse_pairs(pairs) -> tuple[np.ndarray, np.ndarray]:
    """Return the points before and after, (n, 2 or 3) each in array order."""
    typed = isinstance(pairs, str)
    if typed:
        pairs = _numbers_of(pairs)
        if pairs.shape[1] not in (4, 6):
            raise InputError(
                "pairs must be points from > to of two or three coordinates each: write 0, 0 > 5, 0; 90, 0 > 80, 10"
            )
        pairs = pairs.reshape(len(pairs), 2, -1)[..., ::-1]
    try:
        found = np.array(pairs, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"pairs must be numbers of shape (n, 2, 2) or (n, 2, 3), not {pairs!r}") from None
    if found.ndim != 3 or found.shape[1] != 2 or found.shape[2] not in (2, 3):
        raise InputError(f"pairs of shape {found.shape} must have shape (n, 2, 2) or (n, 2, 3): from and to")
    if not np.isfinite(found).all():
        raise InputError("pairs holds NaN or infinite values: give finite coordinates in mm")
    return found[:, 0], found[:, 1]


def _numbers_of(text: str) -> np.ndarray:
    """Return the numbers of typed pairs, one pair a row."""
    try:
        return _check.parse_points(re.sub(r"-?>|→", " ", text), "pairs")
    except InputError:
        raise InputError(
            f"pairs {text[:60]!r} cannot be read: write points from > to, with equally many numbers each, such as "
            "0, 0 > 5, 0; 90, 0 > 80, 10"
        ) from None


def _parse_homography(value) -> np.ndarray:
    """Return the matrix for points (first, second, 1) in array order."""
    if not isinstance(value, str):
        return value
    rows = _check.parse_points(value, "homography")
    if rows.shape not in ((3, 3), (1, 9)):
        raise InputError(f"homography {value[:60]!r} is no 3x3 matrix: write its rows, as in 1, 0, 5; 0, 1, 0; 0, 0, 1")
    order = (1, 0, 2)
    return rows.reshape(3, 3)[np.ix_(order, order)]


def _inverse(matrix, size: int, name: str) -> np.ndarray:
    try:
        forward = np.array(matrix, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a {size}x{size} matrix of numbers, not {matrix!r}") from None
    if forward.shape != (size, size) or not np.isfinite(forward).all():
        raise InputError(f"{name} must be a {size}x{size} matrix of finite numbers, not {forward.tolist()}")
    if not forward.any() or np.linalg.cond(forward) > _LARGEST_CONDITION:
        raise InputError(
            f"{name} flattens the volume (its determinant is zero, or its numbers are too far apart to invert it): "
            "give one that can be inverted"
        )
    return np.linalg.inv(forward)
