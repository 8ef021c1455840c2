"""Voxels of any type as whole numbers in the same order, so that few types of vectors serve all of them.

Importing this module needs numba.
"""

import numpy as np

from .._ranks import FLOAT, TURNED
from ._jit import jit


@jit
def encode_1(voxels, kind, first_bit, largest):
    """Turn voxels into whole numbers of the same order, in place; say whether there is a NaN among them.

    Parameters
    ----------
    voxels : ndarray
        Flat, viewed as the whole numbers that stand for them.
    kind : int
        TURNED or FLOAT.
    first_bit : int
        The number of which only the first bit is set.
    largest : int
        The number that stands for infinity; no float but NaN gives one beyond it, on either side.
    """
    if kind == TURNED:
        for i in range(len(voxels)):
            voxels[i] ^= first_bit
        return False
    found = 0
    for i in range(len(voxels)):
        number = voxels[i]
        if number < 0:
            number ^= ~first_bit
        found |= (number > largest) | (number < ~largest)
        voxels[i] = number
    return found != 0


@jit
def decode_1(voxels, kind, first_bit):
    """Turn whole numbers back into voxels, in place."""
    if kind == TURNED:
        for i in range(len(voxels)):
            voxels[i] ^= first_bit
    else:
        for i in range(len(voxels)):
            if voxels[i] < 0:
                voxels[i] ^= ~first_bit


def prepare(dtype: np.dtype) -> None:
    """Compile both functions for a type of whole numbers."""
    one = np.zeros(1, dtype)
    encode_1(one, FLOAT, one[0], one[0])
    decode_1(one, FLOAT, one[0])
