"""Smooth random fields of low order over a grid."""

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.polynomial import legendre

from . import _tiles
from ._perturb_random import normal

_SLAB = 1 << 20


def field_on(shape: tuple[int, ...], order: int, seed: int) -> Callable[[slice], np.ndarray]:
    """Return what gives a random field, from -1 to 1, for a slab of the first axis of an array.

    Parameters
    ----------
    shape : tuple of int
        Of the array; the field spans it from its first to its last voxel along each axis.
    order : int
        Largest total degree.
    seed : int
        The same seed gives the same field.

    Examples
    --------
    >>> field_on((3, 1), 1, 0)(slice(0, 3)).ravel().tolist()
    [1.0, 0.0, -1.0]
    """
    degrees = [d for d in product(range(order + 1), repeat=len(shape)) if 0 < sum(d) <= order]
    weights = np.zeros((order + 1,) * len(shape))
    weights[tuple(np.transpose(degrees))] = normal(seed, 0, 0, len(degrees))
    axes = [legendre.legvander(np.linspace(-1, 1, n) if n > 1 else np.zeros(1), order) for n in shape]
    # Contracted axis by axis, the first one last: a slab then costs one small product of matrices.
    later = weights
    for axis in range(len(shape) - 1, 0, -1):
        later = np.moveaxis(np.tensordot(later, axes[axis], (axis, 1)), -1, axis)

    def raw(slab: slice) -> np.ndarray:
        return np.tensordot(axes[0][slab], later, (1, 0))

    ends: list[tuple[float, float]] = []

    def look(slab: slice) -> None:
        part = raw(slab)
        ends.append((part.min(), part.max()))

    _tiles.run(look, _tiles.slabs(shape, _SLAB), "slabs")
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    middle, half = (low + high) / 2, (high - low) / 2

    def field(slab: slice) -> np.ndarray:
        found = raw(slab)
        if half <= 0:
            return np.zeros_like(found)
        found -= middle
        found /= half
        return found

    return field
