"""Connected components by runs: stretches of equal labels along a line.

Two passes over the voxels, and all between them on runs, of which there are few (L. He, Y. Chao and K. Suzuki, A
run-based two-scan labeling algorithm, IEEE Trans. Image Processing 17(5), 2008):

1. `count_1` and `join_1`: a run begins where a voxel differs from the one before it. Sixty-four voxels are compared
   with those before them at once; then only the places that differ are visited. Each run is joined with those of the
   lines before it that it touches: up to four lines, of which both lists of runs are gone through side by side.
2. `paint_1`: runs are written with the numbers of their components.

Joined runs form trees (union-find); the root of a tree is its first run, and paths are halved on the way to it (R. E.
Tarjan and J. van Leeuwen, Worst-case analysis of set union algorithms, J. ACM 31(2), 1984). As runs are numbered in
the order of the voxels, so are the roots, and with them the components. Slabs of planes are joined by themselves, each
in a thread; `meet_1` joins the first plane of a slab with the plane before it, and `number_1` gives all components
their numbers.

Cost: some 0.1 ns a voxel and pass where nothing changes (memory), and 50 to 100 ns a run: nobody can guess which runs
touch. Room: 20 bytes a run, so in noise up to ten bytes a voxel. Limits: at most 2^31 runs, and lines of 2^31 voxels.
Importing this module needs numba.
"""

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._jit import jit
from .bits import lowest

# Voxels that are compared at once.
_WORD = 64


@intrinsic
def _differing(typing, flat, at):
    """Return a bit for each of the 64 voxels from place `at` on of a flat array: whether it differs from the last."""

    def emit(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        vector, bits = ir.VectorType(data.type.pointee, _WORD), signature.args[0].dtype.bitwidth

        def load(shift):
            place = builder.gep(data, [builder.add(arguments[1], ir.Constant(arguments[1].type, shift))])
            return builder.load(builder.bitcast(place, vector.as_pointer()), align=bits // 8)

        return builder.bitcast(builder.icmp_unsigned("!=", load(0), load(-1)), ir.IntType(_WORD))

    return types.uint64(flat, types.intp), emit


@numba.njit
def _add(places, count, x, bits):
    """Write the places of the bits that are set, those of a word that begins at `x`."""
    while bits != 0:
        places[count] = x + lowest(bits)
        count += 1
        bits &= bits - np.uint64(1)
    return count


@numba.njit
def _cut(flat, begin, width, places):
    """Write where along a line its voxels change, its end too, and return how many places that are."""
    count = 0
    x = 1
    while x + _WORD <= width:
        count = _add(places, count, x, _differing(flat, begin + x))
        x += _WORD
    if width > _WORD:
        # The last word of a line goes back over voxels that are done.
        if x < width:
            done = np.uint64(x - (width - _WORD))
            bits = _differing(flat, begin + width - _WORD)
            count = _add(places, count, width - _WORD, (bits >> done) << done)
    else:
        for k in range(x, width):
            # Written anyway: whether a voxel differs cannot be guessed.
            places[count] = k
            count += flat[begin + k] != flat[begin + k - 1]
    places[count] = width
    return count + 1


@jit
def count_1(flat, width, from_line, to_line):
    """Return how many runs the lines have, of `width` voxels each, that are not background."""
    places = np.empty(width + 1, np.int32)
    total = 0
    for line in range(from_line, to_line):
        begin, x = line * width, 0
        for n in range(_cut(flat, begin, width, places)):
            total += flat[begin + x] != 0
            x = places[n]
    return total


@numba.njit
def _root(parent, run):
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@numba.njit
def _unite(parent, run, other):
    if parent[run] != parent[other]:
        a, b = _root(parent, run), _root(parent, other)
        parent[max(a, b)] = min(a, b)


@numba.njit
def _join(flat, width, here, there, slack, first, starts, stops, parent):
    """Join the runs of line `here` with those of the same label that they touch in line `there`, which is before it."""
    begin, before = here * width, there * width
    last_there, last_here = first[there + 1], first[here + 1]
    other = first[there]
    run = first[here]
    while run < last_here and other < last_there:
        start, stop, from_x, to_x = starts[run], stops[run], starts[other], stops[other]
        if (to_x + slack > start) & (stop + slack > from_x):
            if flat[before + from_x] == flat[begin + start]:
                _unite(parent, run, other)
            after = other + 1
            # Where both end at once the next of the other line may lie at the corner.
            if ((to_x == stop) & (starts[after] < stop + slack) & (after < last_there)) and (
                flat[before + starts[after]] == flat[begin + start]
            ):
                _unite(parent, run, after)
        # The one that ends first cannot meet the next of the other line. No branch: it could not be guessed.
        ended = to_x < stop
        other += ended
        run += not ended


@jit
def join_1(flat, shape, rank, from_plane, to_plane, first, starts, stops, parent):
    """Find the runs of some planes, and join those that touch.

    Parameters
    ----------
    flat : ndarray of unsigned int
        Labels, flat.
    shape : tuple of int
        (z, y, x).
    rank : int
        Neighbours differ by one step along at most this many axes.
    from_plane, to_plane : int
        The planes, a slab.
    first : ndarray of int64
        For each line of all planes, its first run, and at the end the number of runs; that of the first line of the
        slab is known, the others of it are written.
    starts, stops : ndarray of int32
        Where along its line each run begins, and where it ends. One more than there are runs.
    parent : ndarray of int32
        For each run, a run before it that it is joined with, or itself.
    """
    height, width = shape[1], shape[2]
    places = np.empty(width + 1, np.int32)
    run = first[from_plane * height]
    for line in range(from_plane * height, to_plane * height):
        begin, x = line * width, 0
        first[line] = run
        for n in range(_cut(flat, begin, width, places)):
            if flat[begin + x] != 0:
                starts[run], stops[run], parent[run] = x, places[n], run
                run += 1
            x = places[n]
        # The first line of the next slab may be written by two threads, and is the same.
        first[line + 1] = run
        y = line % height
        if y > 0:
            _join(flat, width, line, line - 1, int(rank > 1), first, starts, stops, parent)
        if line >= (from_plane + 1) * height:
            _join_above(flat, width, height, line, y, rank, first, starts, stops, parent)


@numba.njit
def _join_above(flat, width, height, line, y, rank, first, starts, stops, parent):
    """Join the runs of a line with those of the plane before it."""
    above = line - height
    _join(flat, width, line, above, int(rank > 1), first, starts, stops, parent)
    if rank > 1:
        if y > 0:
            _join(flat, width, line, above - 1, int(rank > 2), first, starts, stops, parent)
        if y < height - 1:
            _join(flat, width, line, above + 1, int(rank > 2), first, starts, stops, parent)


@jit
def meet_1(flat, shape, rank, plane, first, starts, stops, parent):
    """Join the runs of a plane with those of the plane before it; arguments as for `join_1`."""
    for y in range(shape[1]):
        line = plane * shape[1] + y
        _join_above(flat, shape[2], shape[1], line, y, rank, first, starts, stops, parent)


@jit
def number_1(starts, stops, parent, sizes):
    """Number the components in the order of their first voxels, and count the voxels of each.

    `parent` becomes the number of each run's component. Returns how many there are; `sizes` needs room for all runs.
    """
    count = 0
    for run in range(len(parent)):
        if parent[run] == run:
            parent[run] = count
            sizes[count] = 0
            count += 1
        else:
            # That run comes before this one, and has its number already.
            parent[run] = parent[parent[run]]
        sizes[parent[run]] += stops[run] - starts[run]
    return count


@jit
def paint_1(first, starts, stops, number, table, background, out, width, from_line, to_line):
    """Write the lines of a flat array: ``table[number]`` in each run, `background` between them."""
    for line in range(from_line, to_line):
        row = out[line * width : (line + 1) * width]
        row[:] = background
        for run in range(first[line], first[line + 1]):
            value = table[number[run]]
            for x in range(np.uintp(starts[run]), np.uintp(stops[run])):
                row[x] = value


def build(key):
    """Compile a variant: what to do and the type, as in ``("join", "u1")``; without a type for ``("number",)``."""
    first, runs = np.zeros(2, np.int64), np.zeros(1, np.int32)
    if key[0] == "number":
        number_1(runs, runs, runs, np.zeros(1, np.int64))
        return number_1
    flat = np.zeros(1, key[1])
    if key[0] == "paint":
        paint_1(first, runs, runs, runs, flat, flat[0], flat, 1, 0, 1)
        return paint_1
    flat.flags.writeable = False
    if key[0] == "count":
        count_1(flat, 1, 0, 1)
        return count_1
    if key[0] == "join":
        join_1(flat, (1, 1, 1), 1, 0, 1, first, runs, runs, runs)
        return join_1
    meet_1(flat, (1, 1, 1), 1, 0, first, runs, runs, runs)
    return meet_1
