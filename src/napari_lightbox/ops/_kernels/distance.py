"""How far every voxel lies from the nearest of another kind: exact, axis by axis, in the memory of the result.

The idea
    The square of a distance is a sum over the axes, so that the nearest voxel can be looked for along one axis after
    the other (T. Saito and J. Toriwaki, New algorithms for Euclidean distance transformation of an n-dimensional
    digitized picture with applications, Pattern Recognition 27(11), 1994). Along the lines, `lines_2` knows the
    distances from where runs of equal voxels end. Across them, the square at place i is the least of f(j) + (i - j)^2
    over all j, where f holds the squares found so far: parabolas, of which the lowest counts.

    `across_2` takes 64 neighbouring lines at once into a buffer. Near distances, which are most, it finds by looking 1,
    2, 3 ... places up and down, until the parabola of such a place begins higher than all 64 are already; the compiler
    makes vectors of that. Where more than `_NEAR` steps would be needed it goes through each of the 64 by itself with
    the lower envelope of the parabolas, which takes the same time however far things are (P. Felzenszwalb and
    D. Huttenlocher, Distance transforms of sampled functions, Theory of Computing 8, 2012).

    Of two kinds, the one has its squares with the sign +, the other with -: to a voxel of the one kind all of the
    other are at 0. So a distance with sign takes the same memory as one without.

Cost
    Along the lines some 0.5 ns a voxel. Across, 3 operations a voxel and step in vectors of 16, or some 10 ns a voxel
    by envelopes. Memory: the result, and in each thread three buffers of 64 lines.

Limits
    Squares are single precision: distances are off by some 1e-7 of themselves. Importing this module needs numba.
"""

from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np

from ._jit import jit

#: Lines that are worked on together.
LANES = 64
# Steps up and down after which envelopes are faster.
_NEAR = 16
_FAR = np.float32(np.inf)
_ZERO, _ONE = np.float32(0), np.float32(1)


@jit
def lines_2(mask, wide, step, inside, outside, out):
    """Write the squares of distances along lines, with signs; infinite where a line is of one kind only.

    Parameters
    ----------
    mask : (n,) uint8 array
        Lines one after the other; 1 inside.
    wide : int
        Voxels of a line.
    step : float
        Distance of neighbouring voxels.
    inside, outside : float
        Signs of the squares inside and outside; 0 where they are not wanted.
    out : (n,) float32 array
    """
    square = np.float32(step * step)
    for begin in range(0, mask.size, wide):
        x = 0
        while x < wide:
            kind, start = mask[begin + x], x
            while x < wide and mask[begin + x] == kind:
                x += 1
            sign = np.float32(inside if kind else outside)
            _fill(out[begin + start : begin + x], start > 0, x < wide, square, sign)


@numba.njit
def _fill(run, left, right, square, sign):
    """Write a run of equal voxels: how far its ends are, where there is something behind them."""
    count = run.size
    if sign == _ZERO or not (left or right):
        run[:] = _ZERO if sign == _ZERO else sign * _FAR
        return
    scaled = sign * square
    middle = count // 2 if left and right else count if left else 0
    for k in range(middle):
        far = np.float32(k + 1)
        run[k] = far * far * scaled
    for k in range(middle, count):
        far = np.float32(count - k)
        run[k] = far * far * scaled


@jit
def across_2(data, along, between, outer, step, signed, last, from_job, to_job):
    """Look for what is nearer in other lines, `LANES` of them at a time.

    Parameters
    ----------
    data : (n,) float32 array
        Squares with signs, which are worked on in place.
    along : (int, int)
        Places along the axis that is gone through, and how far apart they lie in `data`.
    between : int
        Neighbouring voxels whose ways along that axis are worked on together: a line of them.
    outer : int
        How far apart in `data` such lines begin.
    step : float
        Distance of neighbouring voxels along the axis.
    signed : bool
        Whether both kinds have distances.
    last : bool
        Whether roots are written in place of squares.
    from_job, to_job : int
        Job j is part ``j % parts`` of line ``j // parts``, in parts of `LANES` voxels.
    """
    count, apart = along
    square = np.float32(step * step)
    given, found = np.zeros((count, LANES), np.float32), np.empty(LANES, np.float32)
    signs, most = np.empty(LANES, np.float32), np.empty(1, np.float32)
    bits = found.view(np.int32), most.view(np.int32)
    room = np.empty(count, np.float32), np.empty(count, np.int32), np.empty(count)
    parts = -(-between // LANES)
    for job in range(from_job, to_job):
        first = job % parts * LANES
        begin, lanes = job // parts * outer + first, min(LANES, between - first)
        for i in range(count):
            at = begin + i * apart
            given[i, :lanes] = data[at : at + lanes]
            given[i, lanes:] = _ZERO
        for i in range(count):
            if not _near(given, i, square, signed, signs, found, most, bits):
                for k in range(lanes):
                    _by_envelope(data, given[:, k], begin + k, apart, _ONE, square, last, room)
                    if signed:
                        _by_envelope(data, given[:, k], begin + k, apart, -_ONE, square, last, room)
                break
            at = begin + i * apart
            for k in range(lanes):
                value = np.sqrt(found[k]) if last else found[k]
                data[at + k] = value * signs[k]


@numba.njit
def _near(given, i, square, signed, signs, found, most, bits):
    """Find the squares of one place, looking ever farther up and down; False where that takes too long."""
    count = given.shape[0]
    for k in range(LANES):
        signs[k] = -_ONE if given[i, k] < _ZERO else _ONE
        found[k] = np.abs(given[i, k])
    for far in range(1, max(i, count - 1 - i) + 1):
        _highest(*bits)
        add = np.float32(far * far) * square
        if add >= most[0]:
            return True
        if far > _NEAR:
            return False
        for j in (i - far, i + far):
            if j < 0 or j >= count:
                continue
            row = given[j]
            if signed:
                for k in range(LANES):
                    other = signs[k] * row[k]
                    other = (other if other > _ZERO else _ZERO) + add
                    found[k] = other if other < found[k] else found[k]
            else:
                for k in range(LANES):
                    other = row[k] + add
                    found[k] = other if other < found[k] else found[k]
    return True


@numba.njit
def _highest(bits, most):
    # Numbers that are not negative are in the order of their bits, and whole numbers are compared in vectors.
    highest = np.int32(0)
    for k in range(LANES):
        highest = bits[k] if bits[k] > highest else highest
    most[0] = highest


@numba.njit
def _by_envelope(data, given, begin, apart, sign, square, last, room):
    """Find the squares of a whole line, of the voxels whose squares have a sign."""
    count = given.size
    heights, vertices, begins = room
    wanted = False
    for i in range(count):
        value = sign * given[i]
        wanted |= value > _ZERO
        heights[i] = value if value > _ZERO else _ZERO
    top = _envelope(heights, square, vertices, begins) if wanted else -1
    if top < 0:
        return
    k = 0
    for i in range(count):
        while k < top and begins[k + 1] < i:
            k += 1
        if sign * given[i] > _ZERO:
            far = np.float32(i - vertices[k])
            value = heights[vertices[k]] + far * far * square
            data[begin + i * apart] = sign * (np.sqrt(value) if last else value)


@numba.njit
def _envelope(heights, square, vertices, begins):
    """Find the parabolas that are lowest somewhere, and from where on each is; return the number of the last."""
    top, begin = -1, -np.inf
    for i in range(heights.size):
        if heights[i] == _FAR:
            continue
        while top >= 0:
            vertex = vertices[top]
            rise = np.float64(heights[i]) - np.float64(heights[vertex])
            begin = rise / (2.0 * square * (i - vertex)) + 0.5 * (i + vertex)
            if begin > begins[top]:
                break
            top -= 1
        top += 1
        vertices[top], begins[top] = i, begin if top else -np.inf
    return top


class Distance(NamedTuple):
    """The compiled functions."""

    lines: Callable
    across: Callable
    lanes: int = LANES


def build(key: tuple[str]) -> Distance:
    """Compile; there is one variant only."""
    mask, out = np.zeros(1, np.uint8), np.zeros(1, np.float32)
    # numba would compile anew for arrays that may be written and those that may not.
    mask.flags.writeable = False
    lines_2(mask, 1, 1.0, 1.0, 0.0, out)
    across_2(out, (1, 1), 1, 1, 1.0, True, True, 0, 1)
    return Distance(lines_2, across_2)
