"""Fitting mappings to tie points: pairs of a point in the input and where it belongs in the output.

Points are rows of 2 or 3 coordinates; a mapping takes coordinates (2 or 3, ...) to coordinates.
"""

from collections.abc import Callable
from itertools import combinations_with_replacement

import numpy as np

from ..errors import InputError

Mapping = Callable[[np.ndarray], np.ndarray]
# Singular values below this share of the largest say that the points do not decide the mapping.
_UNDECIDED = 1e-9


def projective(matrix: np.ndarray, middle: np.ndarray) -> Mapping:
    """Return the mapping of a homogeneous matrix, from the output to the input whose middle is given.

    What lies beyond the horizon, where the middle of the input does not, comes from nowhere: NaN.
    """
    size = len(matrix) - 1
    forward = np.linalg.inv(matrix)
    # A point's weight on the way back is one over that on the way there.
    front = np.sign(forward[size, :size] @ middle + forward[size, size]) or 1.0
    least = 1e-12 * np.abs(matrix[size]).max()

    def map_points(points: np.ndarray) -> np.ndarray:
        lifted = np.tensordot(matrix[:, :size], points, 1) + matrix[:, size].reshape(-1, *(1,) * (points.ndim - 1))
        weight = lifted[size] * front
        return lifted[:size] * front / np.where(weight > least, weight, np.nan)

    return map_points


def fit_projective(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the homogeneous matrix that takes `start` to `end` points, by the direct linear transform.

    Exact for the fewest points possible, least squares of the algebraic distance for more.
    """
    size = start.shape[1]
    least = size + 2
    if len(start) < least:
        raise InputError(f"pairs has {len(start)} pairs: a projective mapping needs at least {least}")
    (a, norm_a), (b, norm_b) = _normalised(start), _normalised(end)
    lifted = np.c_[a, np.ones(len(a))]
    rows = []
    for k in range(size):
        row = np.zeros((len(a), (size + 1) ** 2))
        row[:, k * (size + 1) : (k + 1) * (size + 1)] = lifted
        row[:, size * (size + 1) :] = -b[:, k : k + 1] * lifted
        rows.append(row)
    _, values, vectors = np.linalg.svd(np.concatenate(rows))
    if len(values) < (size + 1) ** 2 - 1 or values[(size + 1) ** 2 - 2] < _UNDECIDED * values[0]:
        raise InputError("pairs do not decide the mapping, as too many points lie on a line or plane: spread them out")
    inner = vectors[-1].reshape(size + 1, size + 1)
    if abs(np.linalg.det(inner / np.abs(inner).max())) < _UNDECIDED:
        raise InputError("pairs lead onto one line or plane: spread the points out, in the input and in the output")
    matrix = np.linalg.inv(norm_b) @ inner @ norm_a
    return matrix / np.abs(matrix).max()


def _require_one_to_one(start: np.ndarray, end: np.ndarray) -> None:
    """Refuse one point that goes to two places, and two that go to one: least squares would smear them."""
    count = len(np.unique(np.hstack([start, end]), axis=0))
    if len(np.unique(start, axis=0)) < count or len(np.unique(end, axis=0)) < count:
        raise InputError("pairs contradict each other, as one point is paired with two others: leave one of them out")


def fit_polynomial(start: np.ndarray, end: np.ndarray, degree: int) -> Mapping:
    """Return the mapping by polynomials of `degree` from `start` to `end` points that is best by least squares."""
    _require_one_to_one(start, end)
    a, norm = _normalised(start)
    powers = _powers(a.shape[1], degree)
    if len(a) < len(powers):
        raise InputError(f"pairs has {len(a)} pairs: degree {degree} needs at least {len(powers)}")
    factors, _, rank, _ = np.linalg.lstsq(_monomials(a.T, powers).T, end, rcond=_UNDECIDED)
    if rank < len(powers):
        raise InputError(
            f"pairs do not decide a mapping of degree {degree}, as their points lie on a line or curve: spread them "
            "out, or use a lower degree"
        )
    linear, shift = norm[:-1, :-1], norm[:-1, -1]

    def map_points(points: np.ndarray) -> np.ndarray:
        rest = (1,) * (points.ndim - 1)
        inner = np.tensordot(linear, points, 1) + shift.reshape(-1, *rest)
        result = np.zeros_like(points)
        # Term by term: all monomials at once would need many times the room.
        for power, factor in zip(powers, factors, strict=True):
            result += factor.reshape(-1, *rest) * _monomials(inner, [power])[0]
        return result

    return map_points


def _powers(size: int, degree: int) -> list[tuple[int, ...]]:
    """Return the coordinates that are multiplied in each term: (), (0,), (1,), (0, 0), (0, 1) ..."""
    return [term for n in range(degree + 1) for term in combinations_with_replacement(range(size), n)]


def _monomials(points: np.ndarray, powers: list[tuple[int, ...]]) -> np.ndarray:
    result = np.ones((len(powers), *points.shape[1:]))
    for row, power in zip(result, powers, strict=True):
        for coordinate in power:
            row *= points[coordinate]
    return result


def _normalised(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points moved and scaled to about 1 around 0, and the homogeneous matrix that does it."""
    middle = points.mean(axis=0)
    scale = float(np.sqrt(((points - middle) ** 2).sum(axis=1).mean())) or 1.0
    matrix = np.eye(points.shape[1] + 1)
    matrix[:-1] /= scale
    matrix[:-1, -1] = -middle / scale
    return (points - middle) / scale, matrix
