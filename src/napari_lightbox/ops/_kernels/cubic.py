"""Cubic B-splines, compiled: the coefficients of the spline through the voxels, and its values on a grid.

A spline is a sum of bumps (B-splines), one on each voxel, whose heights are its coefficients. Finding these is undoing
a short filter, which a recursion forth and back along every axis does (M. Unser, A. Aldroubi and M. Eden, B-spline
signal processing, IEEE Trans. Signal Processing 41, 1993): `filter_1`. The value at a place is the sum of the 4 x 4 x 4
coefficients around it, each times its weight on every axis (P. Thevenaz, T. Blu and M. Unser, Interpolation revisited,
IEEE Trans. Medical Imaging 19, 2000): `oblique_2`. Where the axes of both grids run along each other the sums are
taken along one axis after the other, 12 products in place of 84: `along_1`.

How they are made quick:

- `filter_1` takes 16 lines at a time, side by side in a small table, so that each step of the recursion, which must
  wait for the one before, is one or two vector instructions for all of them.
- The coefficients have two more on either side of every axis (the mirror image, as the spline goes on there): no voxel
  asks whether it is near a border, and four neighbours on a line are always one load.
- `oblique_2` adds the four planes and four lines up as vectors of four neighbours, which are weighted and added last:
  16 loads, 20 products and 19 sums of such vectors a voxel. It goes through the output in bricks, see `lines`.
- `along_1` first makes one plane from four, of which each line of the result takes four lines.

All sums are in double precision. `filter_1` and `along_1` add in the order of `scipy.ndimage.spline_filter1d` and of
`_resample_axes.cubic`, and give the same to the last digit. `oblique_2` adds in another order than SimpleITK: its sums
differ by some 1e-15 of the largest coefficient, which single precision and whole numbers swallow but for a value that
lies exactly between two of them.

Measured, one core of an EPYC (Zen 4) at some 3 GHz: 6 ns a voxel for the coefficients, 15 ns a voxel for `oblique_2`
(10 of them for the sums, where 16 loads and 39 instructions of four doubles are the limit), 3 ns for `along_1`.

Limits: voxels must be finite, as one that is not spoils all lines through it. Importing this module needs numba.
"""

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from .._splines import POLE
from ._jit import jit
from .lines import DEEP, HIGH, PIECE, cut_brick, new_brick, start_brick

# Lines that are filtered side by side.
_LANES = 16
# What makes the filter's gain 1.
_GAIN = (1.0 - POLE) * (1.0 - 1.0 / POLE)
# Beyond so many voxels the pole's power is below 1e-22: what lies there tells nothing.
_FAR = 40
# Adding this and taking it off again rounds to whole numbers, halves to even: no digit is left for a fraction.
_WHOLE = 1.5 * 2**52


def _voxel(value, like):
    """Round and clip a double as a voxel of the type of `like` is; filled in below, by type."""


@overload(_voxel, inline="always")
def _voxel_of(value, like):
    if isinstance(like, types.Float):
        return lambda value, like: value
    low, high = float(like.minval), float(like.maxval)
    return lambda value, like: np.int64((min(max(np.float64(value), low), high) + _WHOLE) - _WHOLE)


@intrinsic
def _sum_of_64(typing, place, item, line, plane, x0, x1, x2, x3, y0, y1, y2, y3, z0, z1, z2, z3):
    """Add 4 planes of 4 lines of 4 coefficients up, each times its weights.

    `place` is the address of the first coefficient, `line` and `plane` the bytes from one to the next; `item` is any
    coefficient, for its type.
    """
    signature = types.float64(types.intp, item, types.intp, types.intp, *[types.float64] * 12)

    def emit(context, builder, signature, arguments):
        place, _, line, plane = arguments[:4]
        along_x, along_y, along_z = arguments[4:8], arguments[8:12], arguments[12:16]
        single = item.bitwidth == 32
        index, four = ir.IntType(32), ir.VectorType(ir.DoubleType(), 4)
        loaded = ir.VectorType(ir.FloatType() if single else ir.DoubleType(), 4)

        def vector(numbers):
            made = ir.Constant(four, ir.Undefined)
            for n, number in enumerate(numbers):
                made = builder.insert_element(made, number, ir.Constant(index, n))
            return made

        def neighbours(address):
            found = builder.load(builder.inttoptr(address, loaded.as_pointer()))
            found.align = item.bitwidth // 8
            return builder.fpext(found, four) if single else found

        def weighted(total, values, weight):
            # Product and sum may be one instruction.
            product = builder.fmul(values, weight, flags=("contract",))
            return product if total is None else builder.fadd(total, product, flags=("contract",))

        along_y, along_z = [vector([w] * 4) for w in along_y], [vector([w] * 4) for w in along_z]
        total = None
        for weight_z in along_z:
            address, lines = place, None
            for weight_y in along_y:
                lines = weighted(lines, neighbours(address), weight_y)
                address = builder.add(address, line)
            total = weighted(total, lines, weight_z)
            place = builder.add(place, plane)
        total = builder.fmul(total, vector(along_x))
        a, b, c, d = (builder.extract_element(total, ir.Constant(index, n)) for n in range(4))
        return builder.fadd(builder.fadd(a, b), builder.fadd(c, d))

    return signature, emit


@jit
def filter_1(flat, origin, count, step, beside, step_beside, from_a, to_a, step_a, pole_to_end):
    """Turn values into coefficients along one axis of an array of three, mirrored at its ends; works in place.

    Parameters
    ----------
    flat : ndarray
        The array, flat.
    origin : int
        Place of its first voxel.
    count, step : int
        Voxels along the axis, at least 2, and how far they lie apart in `flat`.
    beside, step_beside : int
        The same of the axis along which lines are taken side by side.
    from_a, to_a, step_a : int
        The same of the third axis, of which a part is filtered.
    pole_to_end : float
        The pole to the power of ``count - 1``.
    """
    # Flat, so that the compiler knows how far apart the rows are.
    table = np.zeros(count * _LANES)
    first = np.zeros(_LANES)
    last = count - 1
    for a in range(from_a, to_a):
        for start in range(0, beside, _LANES):
            lanes = min(_LANES, beside - start)
            here = origin + a * step_a + start * step_beside
            _read(flat, here, count, step, lanes, step_beside, table)
            # Forth, from the sum over the line and its mirror images.
            for k in range(_LANES):
                first[k] = table[k] + pole_to_end * table[last * _LANES + k]
            power = POLE
            for i in range(1, min(last, _FAR)):
                for k in range(_LANES):
                    first[k] += power * (table[i * _LANES + k] + pole_to_end * table[(last - i) * _LANES + k])
                power *= POLE
            for k in range(_LANES):
                table[k] = first[k] / (1.0 - pole_to_end * pole_to_end)
            for i in range(_LANES, count * _LANES, _LANES):
                for k in range(_LANES):
                    table[i + k] += POLE * table[i + k - _LANES]
            # And back.
            for k in range(_LANES):
                end = last * _LANES + k
                table[end] = (POLE * table[end - _LANES] + table[end]) * POLE / (POLE * POLE - 1.0)
            for i in range((last - 1) * _LANES, -1, -_LANES):
                for k in range(_LANES):
                    table[i + k] = POLE * (table[i + k + _LANES] - table[i + k])
            _write(table, count, lanes, flat, here, step, step_beside)


@numba.njit
def _read(flat, here, count, step, lanes, step_beside, table):
    """Put lines side by side into the table, with the filter's gain."""
    if step_beside == 1 and lanes == _LANES:
        for i in range(count):
            for k in range(_LANES):
                table[i * _LANES + k] = np.float64(flat[here + i * step + k]) * _GAIN
        return
    for k in range(lanes):
        for i in range(count):
            table[i * _LANES + k] = np.float64(flat[here + i * step + k * step_beside]) * _GAIN


@numba.njit
def _write(table, count, lanes, flat, here, step, step_beside):
    """Take lines out of the table again."""
    if step_beside == 1 and lanes == _LANES:
        for i in range(count):
            for k in range(_LANES):
                flat[here + i * step + k] = table[i * _LANES + k]
        return
    for k in range(lanes):
        for i in range(count):
            flat[here + i * step + k * step_beside] = table[i * _LANES + k]


@numba.njit
def _find_weights(way, parts, height, width, place, w):
    """Write the flat places of the first of 64 coefficients for a piece of a line, and the weights along z, y and x."""
    z0, dz, y0, dy, x0, dx = way
    for n in range(len(parts)):
        part = parts[n]
        z, y, x = z0 + part * dz, y0 + part * dy, x0 + part * dx
        i, j, k = np.floor(z), np.floor(y), np.floor(x)
        # One before the voxel at or below the place, and two more in front of all.
        place[n] = ((i + 1.0) * height + (j + 1.0)) * width + (k + 1.0)
        w[n], w[PIECE + n], w[2 * PIECE + n] = x - k, y - j, z - i
    for axis in range(2, -1, -1):
        for n in range(len(parts)):
            t = w[axis * PIECE + n]
            w3 = (1.0 / 6.0) * t * t * t
            w0 = (1.0 / 6.0) + 0.5 * t * (t - 1.0) - w3
            w2 = t + w0 - 2.0 * w3
            at = 4 * axis * PIECE + n
            w[at], w[at + PIECE], w[at + 2 * PIECE], w[at + 3 * PIECE] = w0, 1.0 - w0 - w2 - w3, w2, w3


@jit
def oblique_2(source, before, shape, low, high, matrix, offset, parts, out, from_z, to_z, from_y, to_y, fill):
    """Fill lines `from_y` to `to_y` of planes `from_z` to `to_z` of `out` with the values of a spline.

    Parameters
    ----------
    source : ndarray
        (z + 4, y + 4, x + 4) coefficients of a box of the input, two more on either side of every axis.
    before : int
        Flat place of the box's first voxel in `source`, if that began at the input's first voxel.
    shape : tuple of int
        (z, y, x) of the input.
    low, high : tuple of float
        (z, y, x) of the places that the box is for: from `low` on, below `high`. Others in the input are left alone.
    matrix : (3, 3) ndarray of float64
        Output index to input index.
    offset : (3,) ndarray of float64
        Input index of output voxel (0, 0, 0).
    parts : ndarray of float64
        For each x of the output, its fraction of the line.
    out : ndarray
        (z, y, x).
    from_z, to_z, from_y, to_y : int
        The part.
    fill : number
        Value outside.
    """
    item, size = source[0, 0, 0], source.itemsize
    line_bytes, plane_bytes = source.shape[2] * size, source.shape[1] * source.shape[2] * size
    height, width = float(source.shape[1]), float(source.shape[2])
    origin = source.ctypes.data
    stretch, ways = new_brick()
    # Flat places, and the weights of four coefficients along x, y and z.
    place, w = np.empty(PIECE), np.empty(12 * PIECE)
    # Single precision has the last word where coefficients are: as in an image of such voxels.
    values = np.empty(PIECE, source.dtype)
    for brick_z in range(from_z, to_z, DEEP):
        last_z = min(brick_z + DEEP, to_z)
        for brick_y in range(from_y, to_y, HIGH):
            last_y = min(brick_y + HIGH, to_y)
            start_brick(out, shape, matrix, offset, parts, brick_z, last_z, brick_y, last_y, fill, stretch, ways)
            for axis in range(3):
                if source.shape[axis] < shape[axis] + 4:
                    cut_brick(axis, low[axis], high[axis], parts, last_z - brick_z, last_y - brick_y, stretch, ways)
            for begin in range(0, out.shape[2], PIECE):
                for z in range(brick_z, last_z):
                    for y in range(brick_y, last_y):
                        n_line = (z - brick_z) * HIGH + y - brick_y
                        first, last = max(stretch[n_line, 0], begin), min(stretch[n_line, 1], begin + PIECE)
                        if first >= last:
                            continue
                        _find_weights(ways[n_line], parts[first:last], height, width, place, w)
                        for n in range(last - first):
                            values[n] = _sum_of_64(
                                origin + (np.intp(place[n]) - before) * size, item, line_bytes, plane_bytes,
                                w[n], w[PIECE + n], w[2 * PIECE + n], w[3 * PIECE + n],
                                w[4 * PIECE + n], w[5 * PIECE + n], w[6 * PIECE + n], w[7 * PIECE + n],
                                w[8 * PIECE + n], w[9 * PIECE + n], w[10 * PIECE + n], w[11 * PIECE + n],
                            )  # fmt: skip
                        line = out[z, y, first:last]
                        for n in range(len(line)):
                            line[n] = _voxel(values[n], line[n])


@jit
def along_1(source, first_z, weight_z, first_y, weight_y, first_x, weight_x, out, from_y, from_x):
    """Fill a block of `out` with the values of a spline, where each output axis runs along the same input axis.

    Parameters
    ----------
    source : ndarray
        (z, y, x) coefficients, of which all that count are there.
    first_z, first_y, first_x : ndarray of int
        For each place on an output axis, the first of its four coefficients.
    weight_z, weight_y, weight_x : ndarray of float64
        (4, n), the weights of these.
    out : ndarray
        (z, y, x), of as many planes as there are places on the first axis.
    from_y, from_x : int
        Where the first place on each of these axes belongs.
    """
    rows, width = source.shape[1], source.shape[2]
    plane = np.empty((rows, width))
    line = np.empty(width)
    low, high = first_y.min(), first_y.max() + 4
    for z in range(len(first_z)):
        i = first_z[z]
        a, b, c, d = weight_z[0, z], weight_z[1, z], weight_z[2, z], weight_z[3, z]
        for j in range(low, high):
            for k in range(width):
                plane[j, k] = (
                    source[i, j, k] * a + source[i + 1, j, k] * b + source[i + 2, j, k] * c + source[i + 3, j, k] * d
                )
        for y in range(len(first_y)):
            j = first_y[y]
            a, b, c, d = weight_y[0, y], weight_y[1, y], weight_y[2, y], weight_y[3, y]
            for k in range(width):
                line[k] = plane[j, k] * a + plane[j + 1, k] * b + plane[j + 2, k] * c + plane[j + 3, k] * d
            found = out[z, from_y + y, from_x : from_x + len(first_x)]
            for x in range(len(found)):
                k = np.uintp(first_x[x])
                value = (
                    line[k] * weight_x[0, x]
                    + line[k + np.uintp(1)] * weight_x[1, x]
                    + line[k + np.uintp(2)] * weight_x[2, x]
                    + line[k + np.uintp(3)] * weight_x[3, x]
                )
                found[x] = _voxel(value, found[x])


def build(key):
    """Compile a variant: ``("filter", "f4")``, or what for, type of coefficients and of voxels."""
    kind, dtype = key[0], np.dtype(key[1])
    source, eye = np.zeros((5, 5, 5), dtype), np.eye(3)
    if kind == "filter":
        filter_1(source.ravel(), 0, 5, 1, 5, 5, 0, 1, 25, 0.1)
        return filter_1
    out = np.zeros((1, 1, 1), key[2])
    if kind == "oblique":
        limits = (-1.0, -1.0, -1.0), (2.0, 2.0, 2.0)
        oblique_2(source, 0, (1, 1, 1), *limits, eye, np.zeros(3), np.zeros(1), out, 0, 1, 0, 1, out[0, 0, 0])
        return oblique_2
    one, weights = np.zeros(1, np.intp), np.zeros((4, 1))
    along_1(source, one, weights, one, weights, one, weights, out, 0, 0)
    return along_1
