"""The only place that knows other conventions than ours.

Ours: affine from array index ``(z, y, x)`` to world ``(z, y, x)`` in LPS millimetres. Files order their axes
``(x, y, z)``; NIfTI counts towards Right, Anterior, Superior (RAS), DICOM, NRRD and MetaImage mostly towards Left,
Posterior, Superior (LPS). Everything that crosses the border of the package is turned here.
"""

from collections.abc import Sequence

import numpy as np

# What a world axis (x, y, z) of another convention has to be multiplied with to run as in LPS.
_SIGNS = {"LPS": (1.0, 1.0, 1.0), "RAS": (-1.0, -1.0, 1.0), "LAS": (1.0, -1.0, 1.0)}
_REVERSED = [2, 1, 0, 3]


def from_xyz(affine: np.ndarray, space: str = "LPS") -> np.ndarray:
    """Turn an affine of another program into ours.

    Parameters
    ----------
    affine : (4, 4) array
        Index ``(x, y, z)`` to world ``(x, y, z)`` in mm.
    space : {"LPS", "RAS", "LAS"}
        Which way its world axes run.

    Returns
    -------
    (4, 4) array
        Index ``(z, y, x)`` to world ``(z, y, x)`` in LPS mm.

    Examples
    --------
    >>> from_xyz(np.diag([1.0, 2.0, 3.0, 1.0]), "RAS").diagonal().tolist()
    [3.0, -2.0, -1.0, 1.0]
    """
    signs = np.array((*_SIGNS[space], 1.0))
    return (np.asarray(affine, dtype=np.float64) * signs[:, None])[_REVERSED][:, _REVERSED]


def to_xyz(affine: np.ndarray, space: str = "LPS") -> np.ndarray:
    """Turn an affine of ours into one from index ``(x, y, z)`` to world ``(x, y, z)`` of `space`, mm."""
    signs = np.array((*_SIGNS[space], 1.0))
    return np.asarray(affine, dtype=np.float64)[_REVERSED][:, _REVERSED] * signs[:, None]


def from_vectors(vectors: np.ndarray, origin: Sequence[float], space: str = "LPS") -> np.ndarray:
    """Make an affine of ours from the step (x, y, z; mm) of each index x, y, z, given row by row, and the origin."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(vectors, dtype=np.float64).T
    affine[:3, 3] = origin
    return from_xyz(affine, space)


def to_vectors(affine: np.ndarray, space: str = "LPS") -> tuple[np.ndarray, np.ndarray]:
    """Return the step (x, y, z; mm) of each index x, y, z, row by row, and the origin (x, y, z)."""
    other = to_xyz(affine, space)
    return other[:3, :3].T, other[:3, 3]


def from_dicom(
    orientation: Sequence[float], position: Sequence[float], pixel_spacing: Sequence[float], step: Sequence[float]
) -> np.ndarray:
    """Make an affine of ours from DICOM attributes.

    Parameters
    ----------
    orientation : six floats
        Image Orientation (Patient): direction of growing column index, then of growing row index.
    position : three floats
        Image Position (Patient) of the first slice, mm.
    pixel_spacing : two floats
        Pixel Spacing: distance between rows, then between columns, mm.
    step : three floats
        From one slice to the next, mm (x, y, z).
    """
    along_x = np.asarray(orientation[:3], dtype=np.float64) * pixel_spacing[1]
    along_y = np.asarray(orientation[3:], dtype=np.float64) * pixel_spacing[0]
    return from_vectors(np.stack([along_x, along_y, np.asarray(step, dtype=np.float64)]), position)


def itk_geometry(affine: np.ndarray) -> dict[str, tuple[float, ...]]:
    """Return ``{"origin", "spacing", "direction"}`` as ITK takes them: x, y, z, LPS, direction row by row."""
    other = to_xyz(affine)
    spacing = np.linalg.norm(other[:3, :3], axis=0)
    direction = other[:3, :3] / spacing
    return {
        "origin": tuple(other[:3, 3].tolist()),
        "spacing": tuple(spacing.tolist()),
        "direction": tuple(direction.ravel().tolist()),
    }
