"""Where voxels lie: the `Grid` of a volume. Pure mathematics on numpy arrays.

Arrays are ordered ``(z, y, x)`` as stored, with frames first where there are any. `Grid.affine` takes an array index
``(z, y, x)`` to a point ``(z, y, x)`` of the patient in LPS millimetres: +x towards Left, +y Posterior, +z Superior.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations, product

import numpy as np

from .errors import GridError

# Letters of the two ends of each world axis, in array order (z, y, x): (towards +, towards -).
_LETTERS = (("S", "I"), ("P", "A"), ("L", "R"))
_DEGENERATE = 1e-6
# Planes of the body: the world axis (z, y, x) each is perpendicular to.
PLANES = {"axial": 0, "coronal": 1, "sagittal": 2}


@dataclass(frozen=True)
class Frames:
    """The frame axis of a 4D volume.

    Parameters
    ----------
    kind : str
        What changes from frame to frame: ``"time"``, ``"b-value"``, ``"echo"``, ``"phase"`` or ``"frame"``.
    values : tuple of float
        One value a frame.
    unit : str
        Unit of the values: ``"s"`` for time, ``"s/mm2"`` for b-values, ``"ms"`` for echoes, else empty.
    """

    kind: str
    values: tuple[float, ...]
    unit: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(float(v) for v in self.values))

    @property
    def step(self) -> float | None:
        """Distance between frames if it is the same throughout, else None."""
        if len(self.values) < 2:
            return None
        steps = np.diff(self.values)
        return float(steps[0]) if np.allclose(steps, steps[0], rtol=1e-4, atol=1e-9) else None


@dataclass(frozen=True, eq=False)
class Grid:
    """Position of every voxel of a volume in the patient.

    Parameters
    ----------
    affine : (4, 4) array_like of float
        Array index ``(z, y, x, 1)`` to world ``(z, y, x, 1)`` in LPS mm.
    shape : sequence of int
        ``(z, y, x)``, or ``(frame, z, y, x)`` where `frames` is given. A 2D image has one slice.
    frames : Frames, optional
        Kind and values of the frame axis.

    Raises
    ------
    GridError
        If the affine is not finite, has a zero spacing or parallel axes, or the shape does not fit.

    Examples
    --------
    >>> grid = Grid.from_spacing((2.0, 1.0, 1.0), (10, 20, 30))
    >>> grid.spacing, grid.code
    ((2.0, 1.0, 1.0), 'LPS')
    """

    affine: np.ndarray
    shape: tuple[int, ...]
    frames: Frames | None = field(default=None)

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        self._check_shape()
        self._check_affine()
        affine.flags.writeable = False

    def _check_shape(self) -> None:
        wanted = 3 if self.frames is None else 4
        if len(self.shape) != wanted:
            raise GridError(
                f"shape {self.shape} has {len(self.shape)} axes where {wanted} are needed: (z, y, x), "
                "with frames first only where a Frames object says what they are"
            )
        if min(self.shape) < 1:
            raise GridError(f"shape {self.shape} holds no voxels: every size must be at least 1")
        if self.frames is not None and len(self.frames.values) != self.shape[0]:
            raise GridError(f"{len(self.frames.values)} frame values are given for {self.shape[0]} frames")

    def _check_affine(self) -> None:
        affine = self.affine
        if affine.shape != (4, 4) or not np.array_equal(affine[3], (0, 0, 0, 1)):
            raise GridError(f"affine must be a 4x4 matrix whose last row is 0 0 0 1, not {affine.tolist()}")
        if not np.isfinite(affine).all():
            raise GridError("affine holds NaN or infinite values: the position of the voxels is unknown")
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        if not (spacing > 0).all():
            raise GridError(f"spacing {tuple(spacing.tolist())} (z, y, x) mm must be greater than zero")
        if abs(np.linalg.det(affine[:3, :3] / spacing)) < _DEGENERATE:
            raise GridError("affine is singular: two of its axes run in parallel, so voxels would fall onto one plane")

    @classmethod
    def from_spacing(
        cls,
        spacing: Sequence[float],
        shape: Sequence[int],
        origin: Sequence[float] = (0.0, 0.0, 0.0),
        direction: np.ndarray | None = None,
        frames: Frames | None = None,
    ) -> "Grid":
        """Make a grid from spacing and origin (mm) and direction cosines, all in (z, y, x) order."""
        spacing = np.asarray(spacing, dtype=float)
        if spacing.shape != (3,) or not np.isfinite(spacing).all() or not (spacing > 0).all():
            raise GridError(f"spacing must be three lengths in mm greater than zero (z, y, x), not {spacing.tolist()}")
        affine = np.eye(4)
        affine[:3, :3] = (np.eye(3) if direction is None else np.asarray(direction, dtype=float)) * spacing
        affine[:3, 3] = origin
        return cls(affine, tuple(shape), frames)

    # What it says of itself -------------------------------------------------------------------------------------

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along each array axis (z, y, x), mm."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def origin(self) -> tuple[float, float, float]:
        """World position (z, y, x) of the centre of voxel (0, 0, 0), mm."""
        return tuple(float(o) for o in self.affine[:3, 3])

    @property
    def direction(self) -> np.ndarray:
        """(3, 3) direction cosines; column i is the world direction (z, y, x) of array axis i."""
        return self.affine[:3, :3] / np.asarray(self.spacing)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the array axes: ``("z", "y", "x")``, with ``"t"`` first where there are frames."""
        return ("z", "y", "x") if self.frames is None else ("t", "z", "y", "x")

    @property
    def spatial_shape(self) -> tuple[int, int, int]:
        """Shape without the frame axis."""
        return self.shape[-3:]

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel, mm3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def left_handed(self) -> bool:
        """Whether the stored axes x, y, z form a left-handed system."""
        return bool(np.linalg.det(self.affine[:3, :3]) < 0)

    @property
    def shear(self) -> float:
        """Largest deviation of the axes from right angles, degrees."""
        cosines = self.direction.T @ self.direction
        worst = np.abs(cosines[np.triu_indices(3, 1)]).max()
        return float(np.degrees(np.arcsin(min(1.0, worst))))

    @property
    def obliquity(self) -> float:
        """Largest angle between an array axis and the patient axis closest to it, degrees."""
        axis_of_world, _ = self.closest_axes()
        cosines = [abs(self.direction[w, axis_of_world[w]]) for w in range(3)]
        return float(np.degrees(np.arccos(min(1.0, min(cosines)))))

    @property
    def code(self) -> str:
        """Orientation code in x, y, z order, as nibabel and ITK write it: ``"LPS"``, ``"RAS"``."""
        axis_of_world, flips = self.closest_axes()
        letter = {axis_of_world[w]: _LETTERS[w][flips[w]] for w in range(3)}
        return letter[2] + letter[1] + letter[0]

    def closest_axes(self) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
        """Say which array axis lies closest to each patient axis, and whether it runs against it.

        Returns
        -------
        axis_of_world : tuple of int
            Array axis (0 = z ... 2 = x) for world z, y, x; no axis twice.
        flips : tuple of bool
            True where that array axis runs towards Inferior, Anterior or Right.
        """
        u, _, vt = np.linalg.svd(self.direction)
        rotation = u @ vt
        # A tie (45 degrees) is resolved towards the stored order, whatever the rounding.
        best = max(permutations(range(3)), key=lambda p: round(sum(abs(rotation[w, p[w]]) for w in range(3)), 9))
        return best, tuple(bool(rotation[w, best[w]] < 0) for w in range(3))

    def plane_axis(self, plane: str | int) -> int:
        """Return the stored spatial axis (0, 1, 2) that is cut by slices of `plane`.

        `plane` is ``"axial"``, ``"coronal"``, ``"sagittal"``, or a stored axis as ``"z"``, ``"y"``, ``"x"`` or 0, 1, 2.
        """
        if plane in PLANES:
            return self.closest_axes()[0][PLANES[plane]]
        if plane in ("z", "y", "x"):
            return "zyx".index(plane)
        if isinstance(plane, (int, np.integer)) and not isinstance(plane, bool) and 0 <= plane < 3:
            return int(plane)
        raise GridError(f"plane {plane!r} is unknown: use axial, coronal, sagittal, or a stored axis z, y or x")

    # Positions --------------------------------------------------------------------------------------------------

    def to_world(self, index: np.ndarray) -> np.ndarray:
        """Take voxel indices (..., 3) in (z, y, x) to world points (..., 3) in LPS mm (z, y, x)."""
        return np.asarray(index, dtype=float) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, point: np.ndarray) -> np.ndarray:
        """Take world points (..., 3) (z, y, x) to voxel indices (..., 3); not rounded."""
        inverse = np.linalg.inv(self.affine[:3, :3])
        return (np.asarray(point, dtype=float) - self.affine[:3, 3]) @ inverse.T

    def corners(self) -> np.ndarray:
        """Return the (8, 3) world positions of the centres of the corner voxels."""
        return self.to_world(np.array(list(product(*((0, n - 1) for n in self.spatial_shape)))))

    def distance(self, other: "Grid") -> float:
        """Return the largest distance, mm, that a voxel of this grid has from the same index in `other`."""
        index = np.array(list(product(*((0, max(n - 1, 1)) for n in self.spatial_shape))))
        # Damaged headers name places so far away that their squares are no numbers any more.
        with np.errstate(over="ignore"):
            return float(np.linalg.norm(self.to_world(index) - other.to_world(index), axis=-1).max())

    def same_space(self, other: "Grid", tolerance: float = 0.01) -> bool:
        """Whether both grids put every voxel at the same place, frames aside.

        Direction cosines and origins are often written with few digits: `tolerance` is the share of the smallest
        spacing by which the farthest voxel may differ.
        """
        if self.spatial_shape != other.spatial_shape:
            return False
        return self.distance(other) <= tolerance * min(*self.spacing, *other.spacing)

    def difference(self, other: "Grid") -> str:
        """Say in words how `other` differs from this grid; empty where the two are the same in space."""
        if self.same_space(other):
            return ""
        found = []
        if self.spatial_shape != other.spatial_shape:
            found.append(f"size {_xyz(self.spatial_shape)} against {_xyz(other.spatial_shape)} voxels")
        if not np.allclose(self.spacing, other.spacing, rtol=1e-4):
            found.append(f"spacing {_xyz(self.spacing)} against {_xyz(other.spacing)} mm")
        if not np.allclose(self.direction, other.direction, atol=1e-3):
            found.append(f"direction {self.code} against {other.code}" if self.code != other.code else "direction")
        shift = np.linalg.norm(np.subtract(self.origin, other.origin))
        if shift > 1e-3:
            found.append(f"origin {shift:.3g} mm apart")
        return ", ".join(found) or f"positions up to {self.distance(other):.3g} mm apart"

    def require_same_space(self, other: "Grid", what: str = "the two volumes") -> None:
        """Raise `GridError`, saying how the grids differ, unless both cover the same voxels."""
        difference = self.difference(other)
        if difference:
            raise GridError(f"{what} lie on different grids ({difference}; x, y, z): resample one onto the other first")

    # Grids made from this one -----------------------------------------------------------------------------------

    def reordered(self, order: Sequence[int], flips: Sequence[bool]) -> "Grid":
        """Return the grid of ``data.transpose(order)`` with the new axes flipped where `flips` says so."""
        shape = [self.spatial_shape[a] for a in order]
        affine = np.eye(4)
        affine[:3, :3] = self.affine[:3, list(order)]
        affine[:3, 3] = self.affine[:3, 3]
        for axis, flip in enumerate(flips):
            if flip:
                affine[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
                affine[:3, axis] *= -1
        return Grid(affine, (*self.shape[:-3], *shape), self.frames)

    def order_for(self, code: str) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Return ``(order, flips)`` for `reordered` so that the result has the orientation `code` (x, y, z)."""
        names = {letter: (world, end) for world, pair in enumerate(_LETTERS) for end, letter in enumerate(pair)}
        letters = code.upper() if isinstance(code, str) else ""
        wanted = [names.get(letter) for letter in reversed(letters)]
        if len(wanted) != 3 or None in wanted or len({w for w, _ in wanted}) != 3:
            raise GridError(
                f"orientation {code!r} is not a code: give three letters in x, y, z order, one of L/R, one of P/A "
                "and one of S/I, such as LPS or RAS"
            )
        axis_of_world, flips = self.closest_axes()
        order = tuple(axis_of_world[world] for world, _ in wanted)
        return order, tuple(flips[world] != bool(end) for world, end in wanted)

    def with_spacing(self, spacing: Sequence[float]) -> "Grid":
        """Return a grid of another spacing (z, y, x, mm) over the same box, about the same centre."""
        new = Grid.from_spacing(spacing, (1, 1, 1)).spacing
        extent = np.multiply(self.spatial_shape, self.spacing)
        shape = np.maximum(1, np.round(extent / new)).astype(int)
        affine = np.eye(4)
        affine[:3, :3] = self.direction * new
        centre = self.to_world((np.array(self.spatial_shape) - 1) / 2)
        affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2)
        return Grid(affine, (*self.shape[:-3], *shape), self.frames)

    def without_frames(self) -> "Grid":
        """Return the grid of one frame."""
        return Grid(self.affine, self.spatial_shape)

    def with_frames(self, frames: Frames | None) -> "Grid":
        """Return this grid in space with other frames."""
        shape = self.spatial_shape if frames is None else (len(frames.values), *self.spatial_shape)
        return Grid(self.affine, shape, frames)

    def as_dict(self) -> dict:
        """Return plain lists and numbers that `from_dict` takes back."""
        frames = self.frames and {
            "kind": self.frames.kind,
            "values": list(self.frames.values),
            "unit": self.frames.unit,
        }
        return {"affine": self.affine.tolist(), "shape": list(self.shape), "frames": frames}

    @classmethod
    def from_dict(cls, values: dict) -> "Grid":
        """Make a grid from what `as_dict` gave."""
        frames = values.get("frames")
        return cls(values["affine"], tuple(values["shape"]), Frames(**frames) if frames else None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and self.frames == other.frames and np.array_equal(self.affine, other.affine)

    __hash__ = None


def _xyz(values: Sequence[float]) -> str:
    """Write (z, y, x) values as people read them: x x y x z."""
    return " x ".join(f"{v:.6g}" for v in reversed(values))
