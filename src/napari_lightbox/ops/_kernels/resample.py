"""Nearest and linear resampling by an affine map, compiled: the same arithmetic in the same order as SimpleITK's.

A position is worked out as ITK does: the two ends of an output line are mapped, and the voxels between them lie at
fractions of the way. So the results are the same to the last digit, and either may serve.

Lines are cut into short pieces, and a piece goes through in steps: its positions, its voxels one by one, then its
interpolation. The first and the last become vector instructions, because all that lies between them is kept in one
array, at distances that the compiler knows.

Importing this module needs numba. Whoever changes a kernel changes the number in its name too: compiled code is kept
on disk under that name.
"""

import numba
import numpy as np
from numba import types
from numba.extending import overload

from ._jit import jit

# Voxels of a piece.
_N = 128
_ONE = np.uintp(1)
# Adding these and taking them off again rounds to whole numbers, halves to even: no digit is left for a fraction.
_WHOLE_SINGLE = np.float32(1.5 * 2**23)
_WHOLE_DOUBLE = 1.5 * 2**52


def voxel(value, like):
    """Round a double as a voxel of the type of `like` is rounded; filled in below, by type."""


@overload(voxel, inline="always")
def _voxel_of(value, like):
    if isinstance(like, types.Float):
        return lambda value, like: value
    if like.bitwidth <= 16:
        # By way of single precision, which swallows the noise in the last digits of a double.
        return lambda value, like: np.int32(np.float32(np.float32(value) + _WHOLE_SINGLE) - _WHOLE_SINGLE)
    return lambda value, like: np.int64((value + _WHOLE_DOUBLE) - _WHOLE_DOUBLE)


@numba.njit(inline="always")
def _between(a, b, part):
    first = np.float64(a)
    return first + (np.float64(b) - first) * part


@numba.njit(inline="always")
def _ends(row, offset, z, y, count):
    """Return where along one input axis an output line begins, and how far it goes."""
    start = ((row[2] * 0.0 + row[1] * y) + row[0] * z) + offset
    return start, (((row[2] * count + row[1] * y) + row[0] * z) + offset) - start


@numba.njit
def _first(start, way, parts, limit, from_x, to_x, rising):
    """Return the first x of a stretch at which the place has reached `limit` (fallen below it unless `rising`)."""
    while from_x < to_x:
        middle = (from_x + to_x) // 2
        if (start + parts[middle] * way >= limit) == rising:
            to_x = middle
        else:
            from_x = middle + 1
    return from_x


@numba.njit
def _inside(start, way, parts, length, from_x, to_x):
    """Return the stretch of a line that lies inside an input axis of `length` voxels."""
    if way >= 0:
        first = _first(start, way, parts, -0.5, from_x, to_x, True)
        return first, _first(start, way, parts, length - 0.5, first, to_x, True)
    first = _first(start, way, parts, length - 0.5, from_x, to_x, False)
    return first, _first(start, way, parts, -0.5, first, to_x, False)


@numba.njit
def start_line(line, shape, matrix, offset, parts, z, y, fill):
    """Fill what of an output line lies outside; return the stretch inside and the (start, way) on each input axis."""
    count = len(line)
    z0, dz = _ends(matrix[0], offset[0], z, y, count)
    y0, dy = _ends(matrix[1], offset[1], z, y, count)
    x0, dx = _ends(matrix[2], offset[2], z, y, count)
    first, last = _inside(z0, dz, parts, shape[0], 0, count)
    first, last = _inside(y0, dy, parts, shape[1], first, last)
    first, last = _inside(x0, dx, parts, shape[2], first, last)
    line[:first] = fill
    line[last:] = fill
    return first, last, z0, dz, y0, dy, x0, dx


@jit
def nearest_1(source, shape, matrix, offset, parts, out, from_z, to_z, fill):
    """Fill planes `from_z` to `to_z` of `out` with the nearest voxels.

    Parameters
    ----------
    source : ndarray
        Voxels, flat.
    shape : tuple of int
        (z, y, x) of the source.
    matrix : (3, 3) ndarray of float64
        Output index to input index.
    offset : (3,) ndarray of float64
        Input index of output voxel (0, 0, 0).
    parts : ndarray of float64
        For each x of the output, its fraction of the line.
    out : ndarray
        (z, y, x), of the type of `source`.
    from_z, to_z : int
        Planes.
    fill : number
        Value outside.
    """
    height, width = float(shape[1]), float(shape[2])
    end_z, end_y, end_x = shape[0] - 1.0, shape[1] - 1.0, shape[2] - 1.0
    places = np.empty(_N)
    for z in range(from_z, to_z):
        for y in range(out.shape[1]):
            line = out[z, y]
            first, last, z0, dz, y0, dy, x0, dx = start_line(line, shape, matrix, offset, parts, z, y, fill)
            for start in range(first, last, _N):
                count = min(_N, last - start)
                for n in range(count):
                    part = parts[start + n]
                    # Places are not below -0.5, and those at the far end must not be rounded beyond it.
                    i = min(np.floor((z0 + part * dz) + 0.5), end_z)
                    j = min(np.floor((y0 + part * dy) + 0.5), end_y)
                    k = min(np.floor((x0 + part * dx) + 0.5), end_x)
                    places[n] = (i * height + j) * width + k
                for n in range(count):
                    line[start + n] = source[np.uintp(places[n])]


@jit
def linear_1(source, shape, matrix, offset, parts, out, from_z, to_z, fill):
    """Fill planes of `out` by linear interpolation; as `nearest_1`, but for the source.

    Behind the last voxel `source` needs one plane, one row and one voxel more: what lies beyond the end of an axis is
    read, and counts nothing. Therefore all voxels must be finite, too.
    """
    height, width = float(shape[1]), float(shape[2])
    end_z, end_y, end_x = shape[0] - 1.0, shape[1] - 1.0, shape[2] - 1.0
    row = np.uintp(shape[2])
    plane = row * np.uintp(shape[1])
    # Flat places and the fractions along z, y and x; the eight voxels around each place.
    f = np.empty(4 * _N)
    v = np.empty(8 * _N, source.dtype)
    for z in range(from_z, to_z):
        for y in range(out.shape[1]):
            line = out[z, y]
            first, last, z0, dz, y0, dy, x0, dx = start_line(line, shape, matrix, offset, parts, z, y, fill)
            for start in range(first, last, _N):
                count = min(_N, last - start)
                for n in range(count):
                    part = parts[start + n]
                    # Half a voxel beyond the outer voxels these go on.
                    pz = min(max(z0 + part * dz, 0.0), end_z)
                    py = min(max(y0 + part * dy, 0.0), end_y)
                    px = min(max(x0 + part * dx, 0.0), end_x)
                    i, j, k = np.floor(pz), np.floor(py), np.floor(px)
                    f[n] = (i * height + j) * width + k
                    f[_N + n], f[2 * _N + n], f[3 * _N + n] = pz - i, py - j, px - k
                for n in range(count):
                    here = np.uintp(f[n])
                    v[n], v[_N + n] = source[here], source[here + _ONE]
                    v[2 * _N + n], v[3 * _N + n] = source[here + row], source[here + row + _ONE]
                    here += plane
                    v[4 * _N + n], v[5 * _N + n] = source[here], source[here + _ONE]
                    v[6 * _N + n], v[7 * _N + n] = source[here + row], source[here + row + _ONE]
                for n in range(count):
                    a = _between(v[n], v[_N + n], f[3 * _N + n])
                    b = _between(v[2 * _N + n], v[3 * _N + n], f[3 * _N + n])
                    c = _between(v[4 * _N + n], v[5 * _N + n], f[3 * _N + n])
                    d = _between(v[6 * _N + n], v[7 * _N + n], f[3 * _N + n])
                    value = _between(_between(a, b, f[2 * _N + n]), _between(c, d, f[2 * _N + n]), f[_N + n])
                    line[start + n] = voxel(value, line[start + n])


def build(key):
    """Compile a variant: interpolation and type of voxel, as in ``("linear", "i2")``."""
    order, dtype = key[0], np.dtype(key[1])
    kernel = nearest_1 if order == "nearest" else linear_1
    source = np.zeros(4, dtype)
    source.flags.writeable = order == "linear"
    out, one = np.zeros((1, 1, 1), dtype), np.zeros(1)
    kernel(source, (1, 1, 1), np.eye(3), np.zeros(3), one, out, 0, 1, dtype.type(0))
    return kernel
