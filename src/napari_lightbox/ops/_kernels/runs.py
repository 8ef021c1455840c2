"""Connected components by runs: stretches of equal labels along a line.

Two passes over the voxels, and all between them on runs, of which there are few (L. He, Y. Chao and K. Suzuki, A
run-based two-scan labeling algorithm, IEEE Trans. Image Processing 17(5), 2008):

1. `count_2` and `join_2`: a run begins where a voxel differs from the one before it. Sixty-four voxels are compared
   with those before them at once, and with those of up to four lines before their own. Each bit that is left, where
   two runs begin to touch, joins them: how many bits before it say that a run begins is the number of its run. Most
   bits are not left, as they would join what is joined already: where a voxel has an equal one right above it, all
   others that both of them touch were joined with that one before (which neighbours tell nothing new: K. Wu, E. Otoo
   and K. Suzuki, Optimizing two-pass connected-component labeling algorithms, Pattern Analysis and Applications 12,
   2009).
2. `paint_1`: runs are written with the numbers of their components.

Joined runs form trees (union-find); the root of a tree is its first run, and both paths are shortened on the way to it
(M. Rem's algorithm, in E. W. Dijkstra, A Discipline of Programming, 1976; the fastest in M. Patwary, J. Blair and F.
Manne, Experiments on union-find algorithms for the disjoint-set data structure, SEA 2010). As runs are numbered in
the order of the voxels, so are the roots, and with them the components. Slabs of planes are joined by themselves, each
in a thread; `meet_2` joins the first plane of a slab with the plane before it, and `number_1` gives all components
their numbers.

Cost: some 0.2 ns a voxel where nothing changes, and 20 to 40 ns a run: nobody can guess which runs touch. Room: 20
bytes a run, so in noise up to ten bytes a voxel, and the bits of two planes for each thread. Limits: at most 2^31 runs,
and lines of 2^31 voxels. Importing this module needs numba.
"""

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._jit import jit
from .bits import lowest, ones

# Voxels that are compared at once.
_WORD = 64
_ZERO, _ONE, _TWO, _TOP = (np.uint64(n) for n in (0, 1, 2, 63))


def _comparer(with_nothing):
    """Make what compares 64 voxels of a flat array with others of it, or with 0; it returns a bit for each that is."""

    @intrinsic
    def compare(typing, flat, at, other):
        def emit(context, builder, signature, arguments):
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            vector, size = ir.VectorType(data.type.pointee, _WORD), signature.args[0].dtype.bitwidth // 8

            def load(place):
                return builder.load(builder.bitcast(builder.gep(data, [place]), vector.as_pointer()), align=size)

            values, others = load(arguments[1]), ir.Constant(vector, None) if with_nothing else load(arguments[2])
            return builder.bitcast(builder.icmp_unsigned("==", values, others), ir.IntType(_WORD))

        return types.uint64(flat, types.intp, types.intp), emit

    return compare


_equal_64, _nothing_64 = _comparer(with_nothing=False), _comparer(with_nothing=True)


@numba.njit(forceinline=True)
def _equal(flat, at, other, count):
    """Return a bit for each of up to 64 voxels from place `at` on: whether it equals that from place `other` on.

    What would lie before the array does not.
    """
    # Fewer than 64 are loaded together with what lies before them.
    short = _WORD - count
    if min(at, other) >= short:
        return _equal_64(flat, at - short, other - short) >> np.uint64(short)
    return _equal_first(flat, at, other, count)


@numba.njit
def _equal_first(flat, at, other, count):
    bits = _ZERO
    for k in range(max(0, -other), count):
        bits |= np.uint64(flat[at + k] == flat[other + k]) << np.uint64(k)
    return bits


@numba.njit(forceinline=True)
def _inside(flat, at, count):
    """Return a bit for each of up to 64 voxels from place `at` on: whether it is not background."""
    short = _WORD - count
    return ~_nothing_64(flat, at - short, 0) >> np.uint64(short) if at >= short else _inside_first(flat, at, count)


@numba.njit
def _inside_first(flat, at, count):
    bits = _ZERO
    for k in range(count):
        bits |= np.uint64(flat[at + k] != 0) << np.uint64(k)
    return bits


@numba.njit(forceinline=True)
def _runs(flat, begin, width, w):
    """Return three words for word `w` of a line: which voxels are inside, and which equal those before; and begins."""
    at, count = begin + _WORD * w, min(_WORD, width - _WORD * w)
    inside, equal = _inside(flat, at, count), _equal(flat, at, at - 1, count)
    if w == 0:
        equal &= ~_ONE
    return inside, equal, inside & ~equal


@jit
def count_2(flat, width, from_line, to_line):
    """Return how many runs the lines have, of `width` voxels each, that are not background."""
    total = 0
    for line in range(from_line, to_line):
        for w in range(-(-width // _WORD)):
            total += ones(_runs(flat, line * width, width, w)[2])
    return total


@numba.njit
def _cut(flat, line, width, begins, row, run, starts, stops, parent):
    """Find the runs of a line, of which `run` is the first; write a bit where each begins. Return the run after them.

    Nothing is written but bits where `starts` is empty.
    """
    before, stop = _ZERO, run
    for w in range(begins.shape[1]):
        inside, equal, first = _runs(flat, line * width, width, w)
        # Behind the last voxel of a line every run ends.
        ended, before = (inside << _ONE | before) & ~equal, inside >> _TOP
        begins[row, w] = first
        if len(starts) == 0:
            continue
        x = w * _WORD
        while first != _ZERO:
            starts[run], parent[run] = x + lowest(first), run
            run += 1
            first &= first - _ONE
        while ended != _ZERO:
            stops[stop] = x + lowest(ended)
            stop += 1
            ended &= ended - _ONE
    if len(starts) and before != _ZERO:
        stops[stop] = width
    return run


@numba.njit(forceinline=True)
def _unite(parent, run, other):
    """Join the trees of two runs: both paths to the root are gone at once, and shortened, until they meet."""
    while parent[run] != parent[other]:
        if parent[run] < parent[other]:
            run, other = other, run
        after = parent[run]
        parent[run] = parent[other]
        if after == run:
            break
        run = after


@numba.njit(forceinline=True)
def _reaching(straight, covered, firsts, onward, wide):
    """Return the voxels from which a stretch of some that touch straight goes on to one that is covered.

    Parameters
    ----------
    straight, covered, firsts, onward : int
        Bits of the voxels that touch, of those that are covered, of those with which a run begins, and of those after
        which their run goes on.
    wide : bool
        Whether voxels of the run beside one that is covered are so, too.
    """
    if wide:
        covered |= (covered << _ONE & ~firsts) | (covered >> _ONE & onward)
    found, link = straight & covered, straight & (straight >> _ONE) & onward
    for step in (1, 2, 4, 8, 16, 32):
        found |= link & (found >> np.uint64(step))
        link &= link >> np.uint64(step)
    return found


@numba.njit
def _unite_all(parent, bits, run, begins, other, other_begins):
    """Join the runs of two lines at some voxels; begins in a word say how many runs come behind `run` and `other`."""
    while bits != _ZERO:
        until = (_TWO << np.uint64(lowest(bits))) - _ONE
        _unite(parent, run + ones(begins & until) - 1, other + ones(other_begins & until) - 1)
        bits &= bits - _ONE


@numba.njit
def _join(flat, width, begin, there, covers, corners, begins, rows, runs, parent):
    """Join the runs of a line with those of the same label that they touch in a line before it.

    Parameters
    ----------
    flat : ndarray
        Labels.
    width, begin, there : int
        Voxels of a line; where this one begins, and where the other does.
    covers : tuple of int
        Where two more lines begin, or -1: a voxel that equals one straight in these is joined with all by that.
    corners : {0, 1, 2}
        Whether runs touch at corners; if so, whether that is covered, too (2).
    begins : ndarray
        Bits where runs begin, lines in rows.
    rows, runs : tuple of int
        Those of the two lines, and the first run of each.
    parent : ndarray
    """
    (row, other_row), (run, other) = rows, runs
    carry, words = _ZERO, begins.shape[1]
    for w in range(words):
        at, count, firsts, other_firsts = w * _WORD, min(_WORD, width - w * _WORD), begins[row, w], begins[other_row, w]
        inside = _inside(flat, begin + at, count)
        if inside != _ZERO:
            straight, covered = _equal(flat, begin + at, there + at, count) & inside, _ZERO
            for cover in covers:
                if cover >= 0:
                    covered |= _equal(flat, begin + at, cover + at, count)
            covered &= inside
            # Once where they begin to touch; a run of equal voxels goes on along both lines.
            found, carry = straight & (~(straight << _ONE | carry) | firsts), straight >> _TOP
            onward = (inside & ~firsts) >> _ONE
            if found != _ZERO and covered != _ZERO:
                found &= ~_reaching(straight, covered, firsts, onward, corners == 2)
            if found != _ZERO:
                _unite_all(parent, found, run, firsts, other, other_firsts)
            asked = (inside & ~covered if corners == 2 else inside) & ~straight
            # At the ends of a run: elsewhere its next voxel is straight there.
            left, right = asked & firsts, asked & ~onward
            if corners and left != _ZERO:
                left &= _equal(flat, begin + at, there + at - 1, count)
                left &= ~_ONE if w == 0 else ~_ZERO
                if left != _ZERO:
                    _unite_all(parent, left, run, firsts, other, other_firsts << _ONE)
            if corners and right != _ZERO:
                right &= _equal(flat, begin + at, there + at + 1, count)
                right &= ~(_ONE << np.uint64(count - 1)) if w == words - 1 else ~_ZERO
                if right != _ZERO:
                    _unite_all(parent, right, run, firsts, other + 1, other_firsts)
        else:
            carry = _ZERO
        run += ones(firsts)
        other += ones(other_firsts)


@numba.njit
def _join_line(flat, shape, rank, line, above, beside, first, begins, parent):
    """Join the runs of a line with those of the plane before it, where `above`, and the line before it, `beside`."""
    height, width = shape[1], shape[2]
    y, none = line % height, -1
    not_first, not_last = y > 0, y < height - 1
    others = (line - height, line - 1, line - height - 1, line - height + 1)
    asked = (above, beside and not_first, above and rank > 1 and not_first, above and rank > 1 and not_last)
    # The lines straight above and beside cover others, as all that touch there touch each other.
    over = (line - height) * width if above and rank > 1 else none
    first_cover, second_cover = (none, over, over, over), (none, none, (line - 1) * width, none)
    # With rank 2, lines that are both above and beside touch straight only.
    corners = (min(rank - 1, 1), rank - 1, 2 * (rank > 2), 2 * (rank > 2))
    row, rows, here = line % (2 * height), 2 * height, line * width
    for n in range(4):
        if asked[n]:
            other, covers = others[n], (first_cover[n], second_cover[n])
            runs = first[line], first[other]
            _join(flat, width, here, other * width, covers, corners[n], begins, (row, other % rows), runs, parent)


@jit
def join_2(flat, shape, rank, from_plane, to_plane, first, starts, stops, parent):
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
        Where along its line each run begins, and where it ends.
    parent : ndarray of int32
        For each run, a run before it that it is joined with, or itself.
    """
    height, width = shape[1], shape[2]
    begins = np.empty((2 * height, -(-width // _WORD)), np.uint64)
    run = first[from_plane * height]
    for z in range(from_plane, to_plane):
        for y in range(height):
            line = z * height + y
            first[line] = run
            run = _cut(flat, line, width, begins, line % (2 * height), run, starts, stops, parent)
            # The first line of the next slab may be written by two threads, and is the same.
            first[line + 1] = run
            _join_line(flat, shape, rank, line, z > from_plane, True, first, begins, parent)


@jit
def meet_2(flat, shape, rank, plane, first, nothing, parent):
    """Join the runs of a plane with those of the plane before it; arguments as for `join_2`, `nothing` is empty."""
    height, width = shape[1], shape[2]
    begins = np.empty((2 * height, -(-width // _WORD)), np.uint64)
    for z in range(plane - 1, plane + 1):
        for y in range(height):
            _cut(flat, z * height + y, width, begins, (z * height + y) % (2 * height), 0, nothing, nothing, nothing)
    for line in range(plane * height, (plane + 1) * height):
        _join_line(flat, shape, rank, line, True, False, first, begins, parent)


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
        count_2(flat, 1, 0, 1)
        return count_2
    if key[0] == "join":
        join_2(flat, (1, 1, 1), 1, 0, 1, first, runs, runs, runs)
        return join_2
    # Two planes, the second of which is joined with the first.
    two = np.zeros(2, key[1])
    two.flags.writeable = False
    meet_2(two, (2, 1, 1), 1, 1, np.zeros(3, np.int64), runs[:0], runs)
    return meet_2
