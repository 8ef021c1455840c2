"""Masks as bits, 64 voxels a word, and which of them are on the surface: worked out by a few operations for all 64.

Importing this module needs numba. Whoever changes a kernel changes the number in its name too: compiled code is kept
on disk under it.
"""

import numba
import numpy as np

from ._jit import jit
from .bits import between_64

_ZERO, _ONE, _TOP = np.uint64(0), np.uint64(1), np.uint64(63)
_LOW, _HIGH = np.uint8(1), np.uint8(255)


@jit
def pack_2(mask, wide, first, last, bits):
    """Pack rows `first` to `last` of a mask (flat, bytes that are not 0 inside) into words of 64 voxels.

    The words are 0 before; those that stay so are not touched, so that the system need not give memory for them.
    """
    full = wide // 64
    left = wide - 64 * full
    for row in range(first, last):
        start = row * wide
        for w in range(full):
            word = between_64(mask.ctypes.data + start + 64 * w, _LOW, _HIGH)
            if word != _ZERO:
                bits[row, w] = word
        if left:
            word = _ZERO
            for x in range(left):
                word |= np.uint64(mask[start + 64 * full + x] != 0) << np.uint64(x)
            if word != _ZERO:
                bits[row, full] = word


@jit
def mark_1(places, low, bits):
    """Set the bits of places (z, y, x), of which `low` is the first."""
    for i in range(len(places)):
        x = np.uint64(places[i, 2] - low[2])
        bits[places[i, 0] - low[0], places[i, 1] - low[1], x >> np.uint64(6)] |= _ONE << (x & _TOP)


@numba.njit(forceinline=True)
def on_surface(bits, axes, z, y, w):
    """Return those of 64 voxels that have a neighbour along some axes outside of the mask; all where `axes` is 0."""
    here = bits[z, y, w]
    deep, tall, words = bits.shape
    if here == _ZERO or axes == 0 or y == 0 or y == tall - 1:
        return here
    if axes == 3 and (z == 0 or z == deep - 1):
        return here
    before = bits[z, y, w - 1] >> _TOP if w > 0 else _ZERO
    after = bits[z, y, w + 1] << _TOP if w < words - 1 else _ZERO
    inner = (here << _ONE | before) & (here >> _ONE | after) & bits[z, y - 1, w] & bits[z, y + 1, w]
    if axes == 3:
        inner &= bits[z - 1, y, w] & bits[z + 1, y, w]
    return here & ~inner


@jit
def skin_1(bits, axes, z0, y0, out):
    """Write the bits of a mask that are on its surface, of a part that begins at `z0` and `y0`."""
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            for w in range(out.shape[2]):
                out[z, y, w] = on_surface(bits, axes, z0 + z, y0 + y, w)
