"""Where the voxels of an output lie in the input, line by line, and in which order they are worked on.

A position is worked out as ITK does: the two ends of an output line are mapped, and the voxels between them lie at
fractions of the way. So positions are the same as there to the last digit, and so is what is made of them.

The output is worked on in bricks of `DEEP` planes, `HIGH` lines and `PIECE` voxels. On an oblique grid a line of the
output crosses many lines and planes of the input, of each of which it needs a few voxels: the neighbouring lines and
planes of the output need those beside them. A brick finds them still in the core's own cache, where whole lines, one
after the other, had to fetch each of them dozens of times from one that is further away.

Importing this module needs numba.
"""

import numba
import numpy as np

PIECE, HIGH, DEEP = 128, 4, 16
_LINES = HIGH * DEEP


@numba.njit
def _ends(row, offset, z, y, count):
    """Return where along one input axis an output line begins, and how far it goes."""
    start = ((row[2] * 0.0 + row[1] * y) + row[0] * z) + offset
    return start, (((row[2] * count + row[1] * y) + row[0] * z) + offset) - start


@numba.njit
def _first(start, way, parts, limit, from_x, to_x, rising):
    """Return the first x of a stretch at which the place has reached `limit` (fallen below it unless `rising`)."""
    if from_x < to_x:
        # Near to where it should be, but for rounding; that is made sure of, and found by halving otherwise.
        guess = (limit - start) / way * len(parts) if way != 0.0 else 0.0
        guess = guess if guess > from_x else np.float64(from_x)
        near = np.int64(guess if guess < to_x - 1 else np.float64(to_x - 1))
        low, high = max(near - 1, from_x), min(near + 1, to_x - 1)
        if (start + parts[low] * way >= limit) == rising:
            to_x = low
        elif (start + parts[high] * way >= limit) == rising:
            from_x, to_x = low + 1, high
        else:
            from_x = high + 1
    while from_x < to_x:
        middle = (from_x + to_x) // 2
        if (start + parts[middle] * way >= limit) == rising:
            to_x = middle
        else:
            from_x = middle + 1
    return from_x


@numba.njit
def _between(start, way, parts, low, high, from_x, to_x):
    """Return the stretch of a line whose places on an input axis lie from `low` on, below `high`."""
    if way >= 0:
        first = _first(start, way, parts, low, from_x, to_x, True)
        return first, _first(start, way, parts, high, first, to_x, True)
    first = _first(start, way, parts, high, from_x, to_x, False)
    return first, _first(start, way, parts, low, first, to_x, False)


@numba.njit
def start_brick(out, shape, matrix, offset, parts, from_z, to_z, from_y, to_y, fill, stretch, ways):
    """Fill what of the lines of a brick, all along x, lies outside.

    Writes the stretch inside of each line into `stretch`, and where it starts and how far it goes along each input
    axis into `ways`: (z, way of z, y, way of y, x, way of x). Both have a row for each line, see `new_brick`.
    """
    count = out.shape[2]
    for z in range(from_z, to_z):
        for y in range(from_y, to_y):
            way = ways[(z - from_z) * HIGH + y - from_y]
            first, last = 0, count
            for axis in range(3):
                start, distance = _ends(matrix[axis], offset[axis], z, y, count)
                way[2 * axis], way[2 * axis + 1] = start, distance
                first, last = _between(start, distance, parts, -0.5, shape[axis] - 0.5, first, last)
            out[z, y, :first] = fill
            out[z, y, last:] = fill
            row = stretch[(z - from_z) * HIGH + y - from_y]
            row[0], row[1] = first, last


@numba.njit
def cut_brick(axis, low, high, parts, deep, lines, stretch, ways):
    """Cut the stretches of a brick of `deep` planes and some lines down to places on one input axis, see `_between`."""
    for n in range(deep):
        for n_line in range(n * HIGH, n * HIGH + lines):
            start, way, row = ways[n_line, 2 * axis], ways[n_line, 2 * axis + 1], stretch[n_line]
            row[0], row[1] = _between(start, way, parts, low, high, row[0], row[1])


@numba.njit
def new_brick():
    """Return room for the stretches and ways of a brick."""
    return np.zeros((_LINES, 2), np.intp), np.zeros((_LINES, 6))
