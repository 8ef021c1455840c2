"""Voxels of any type as whole numbers in the same order, so that few types of vectors serve all of them.

A block is fetched row by row, with what lies beyond the border, and turned into whole numbers while a row is in the
nearest cache; `_tiles.with_halo` is the plain way to the same voxels.

Importing this module needs numba.
"""

import numba
import numpy as np
from llvmlite import ir
from numba import carray
from numba.core import types
from numba.extending import intrinsic

from .._ranks import AS_IS, FLOAT, TURNED
from ._jit import jit
from .emit import voxel_at


@intrinsic
def _pointer(typingctx, address):
    """Return an address as a pointer, from which `carray` makes an array."""

    def write_code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.intp), write_code


@jit
def encode_2(voxels, kind, first_bit, largest):
    """Turn voxels into whole numbers of the same order, in place; say whether there is a NaN among them.

    A zero loses its sign: to an order both are one number.

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
        # Zeros of both signs are equal.
        voxels[i] = 0 if number == -1 else number
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


@numba.njit
def _fetch_row(address, step, x_from, inner, row):
    """Fetch a row that begins at an address."""
    first, behind = inner
    start = address + x_from[first] * step
    inside = row[first:behind]
    if step == row.itemsize:
        source = carray(_pointer(start), (len(inside),), row.dtype)
        for i in range(len(inside)):
            inside[i] = source[i]
    else:
        for i in range(len(inside)):
            inside[i] = voxel_at(row, start + i * step)
    for border in (range(first), range(behind, len(row))):
        for i in border:
            row[i] = voxel_at(row, address + x_from[i] * step) if x_from[i] >= 0 else 0


@jit
def fetch_2(address, steps, indices, inner, target, kind, first_bit, largest):
    """Fetch a block of an image as whole numbers; say whether there is a NaN in it.

    Parameters
    ----------
    address : int
        Of the image.
    steps : tuple of int
        Distances of neighbours along z, y and x in bytes.
    indices : tuple of ndarray of int64
        Along each axis, where in the image each voxel of the block stands; -1 for zeros.
    inner : tuple of int
        First voxel of a row of the block that lies inside the image, and the one behind the last.
    target : (z, y, x) ndarray
        Result.
    kind, first_bit, largest
        As for `encode_2`; AS_IS as well.
    """
    z_from, y_from, x_from = indices
    found = False
    for z in range(target.shape[0]):
        for y in range(target.shape[1]):
            row = target[z, y]
            if z_from[z] < 0 or y_from[y] < 0:
                for i in range(len(row)):
                    row[i] = 0
            else:
                _fetch_row(address + z_from[z] * steps[0] + y_from[y] * steps[1], steps[2], x_from, inner, row)
            if kind != AS_IS:
                found |= encode_2(row, kind, first_bit, largest)
    return found


@jit
def decode_block_1(voxels, first, steps, shape, kind, first_bit):
    """Turn the whole numbers of a block back into voxels, in place.

    Parameters
    ----------
    voxels : ndarray
        Flat, contiguous.
    first : int
        Index of the first voxel of the block.
    steps : tuple of int
        Distances of neighbours along z and y.
    shape : tuple of int
        Of the block.
    kind, first_bit
        As for `decode_1`.
    """
    for z in range(shape[0]):
        for y in range(shape[1]):
            at = first + z * steps[0] + y * steps[1]
            decode_1(voxels[at : at + shape[2]], kind, first_bit)


def prepare(dtype: np.dtype) -> None:
    """Compile all functions for a type of whole numbers."""
    block, at = np.zeros((1, 1, 1), dtype), np.zeros(1, np.int64)
    one = block[0, 0]
    fetch_2(block.ctypes.data, (0, 0, 0), (at, at, at), (0, 1), block.copy(), FLOAT, one[0], one[0])
    decode_1(one, FLOAT, one[0])
    decode_block_1(one, 0, (0, 0), (1, 1, 1), FLOAT, one[0])
