"""The median (or the value of any other rank) of every box-shaped window, by selection networks on vectors.

The idea
--------
Windows of neighbouring voxels share most of their values, so what can be sorted once for several windows is. Vectors
run along x: each lane is a window of its own, and all lanes do the same. For a window of z * y * x voxels:

1. *Runs.* The x voxels of a row of the window are sorted. A run serves all windows that hold this row: y * z of them.
2. *Sheets.* The y runs of a plane of the window are merged into one sorted list. Merged are two runs at a time, then
   two of these pairs: 3 = 2 + 1 runs, 5 = 4 + 1, 7 = 4 + 2 + 1. A list of two or four runs serves the windows of
   several rows, a sheet those of z planes.
3. *Selection.* The windows of two voxels that follow each other along z share all sheets but one each. The shared
   sheets are merged, and after each merge the values that can be the median of neither window are forgotten. What is
   left is about as long as a sheet. The value of the right rank of this list and a window's own sheet is picked.

So no value is ever looked at for a window alone but in the last step. All lists are kept in a scratch memory of some
hundred kilobytes, and a column of windows is worked on from one end of z to the other.

What it builds on
-----------------
- Sorting the runs of a window once, for all windows that share them: J. L. Smith, Implementing median filters in
  XC4000E FPGAs, Xcell 23, 1996; P. Kolte, R. Smith, W. Su, A fast median filter using AltiVec, ICCD 1999.
- Merging sorted lists by odd-even merging, and picking from two sorted lists: K. E. Batcher, AFIPS 1968.
- Forgetting what cannot be the median: A. W. Paeth, Graphics Gems, 1990. Forgetting for two neighbouring windows at
  once what they share: G. Perrot, S. Domas, R. Couturier, Fine-tuned high-speed implementation of a GPU-based median
  filter, J. Signal Processing Systems 75, 2014.

How it differs from separable sorting networks
----------------------------------------------
US 11,756,175 claims (claim 1, as printed in the Official Gazette of the USPTO, 12 September 2023) to take what all
windows of a tile share, to merge groups of extra columns into it, to keep a middle number of each result, to merge
groups of extra rows into each of these, and to sort what is left by a diagonal network that discards hyperbolic slices;
and (claim 17) an interpreter that inflates a template of a filter at run time. Here nothing is merged along two axes in
turn with a choice in between: runs lie along one axis only, and all that is merged are whole lists, each in increasing
order from end to end. Values are forgotten along one axis alone, the last, between two neighbouring windows. The result
is not sorted out by a network along diagonals, but picked from two sorted lists, one of what two windows share after
forgetting, one of what is a window's own. Larger tiles of windows share nothing, and nothing is interpreted.

Cost
----
Comparisons for each vector of voxels: 17 for 3 x 3, 59 for 5 x 5, 153 for 7 x 7, 84 for 3 x 3 x 3, 497 for 5 x 5 x 5
and 1756 for 7 x 7 x 7. A core that finds 115 G minima or maxima of int16 a second cannot do 3 x 3 x 3 in less than 0.73
ns a voxel and 5 x 5 x 5 in less than 4.3; measured are 0.75 and 4.4 while all stays in its cache, and 1.5 and 5.6 for a
volume of 17 MB, where the rest goes to copying tiles with their surroundings and to memory. Squares of 3 x 3
have a kernel of their own, see `squares`: there the copying would decide, not the network.

Limits
------
Windows of 3, 5 or 7 voxels along z, 1, 3, 5 or 7 along y and x: the code grows with the window, and with it the time
that it takes to compile, from one second to seven. Which axes of an image are y and z does not matter, so the windows
of pictures and of the planes of a stack are those with y = 1. Whole numbers only, in which other types are put by
`keys`. NaN has no place in an order. The same networks run by numpy in `window_plan.plain`.

Importing this module needs numba.
"""

from collections.abc import Callable

import numba
import numpy as np

from . import keys
from ._jit import jit
from .emit import constants, lanes, sizes_as_type, vectors, voxel_at
from .window_plan import Plan

# Rows of windows that are worked on together; a column of lists for them must fit into a core's cache.
_ROWS = 8
# Runs, and lists of runs, that a row of windows needs beyond its own.
_MORE = 6


_sort_run = vectors(lambda **sizes: Plan(**sizes).sort_run())
_merge_two = vectors(lambda **sizes: Plan(**sizes).merge_runs(1))
_merge_four = vectors(lambda **sizes: Plan(**sizes).merge_runs(2))
_merge_sheet = vectors(lambda **sizes: Plan(**sizes).merge_sheet())
_merge_sheets = vectors(lambda **sizes: Plan(**sizes).merge_sheets())
_merge_pairs = vectors(lambda **sizes: Plan(**sizes).merge_pairs())
_select = vectors(lambda **sizes: Plan(**sizes).select())


def _lengths(**sizes: int) -> tuple[int, ...]:
    plan = Plan(**sizes)
    return plan.z, plan.y, plan.run, plan.sheet


# The sizes of the window along z and y, and the lengths of a run and of a sheet.
_numbers = constants(4, _lengths)


@numba.njit
def _sheets_of_plane(voxels, start, pitch, rows, places, plan, lanes):
    """Make the sheets of some rows of windows in one plane; `places`: where runs, lists of 2 and 4, and sheets go."""
    _, y, run, sheet = _numbers(plan)
    ones, twos, fours, sheets = places
    list_1, list_sheet = run * lanes * voxels.itemsize, sheet * lanes * voxels.itemsize
    if y == 1:
        ones = sheets
    for row in range(rows + y - 1):
        _sort_run(plan, voxels, (start + row * pitch,), (ones + row * list_1,))
    if y == 1:
        return
    for row in range(rows + y - 3):
        one = ones + row * list_1
        _merge_two(plan, voxels, (one, one + list_1), (twos + row * 2 * list_1,))
    if y > 3:
        for row in range(rows):
            two = twos + row * 2 * list_1
            _merge_four(plan, voxels, (two, two + 4 * list_1), (fours + row * 4 * list_1,))
    for row in range(rows):
        four = fours + row * 4 * list_1
        two = twos + (row + 4 if y == 7 else row) * 2 * list_1
        one = ones + (row + y - 1) * list_1
        _merge_sheet(plan, voxels, (four, two, one), (sheets + row * list_sheet,))


@numba.njit
def _shared(voxels, first, row, places, plan, lanes):
    """Return where the two lists lie that the windows at `first` and the one behind it share."""
    z, _, _, sheet = _numbers(plan)
    sheets, pairs, four = places
    one_sheet = sheet * lanes * voxels.itemsize
    if z == 3:
        one = sheets + ((first + 1) % 4 * _ROWS + row) * one_sheet
        return one, sheets + ((first + 2) % 4 * _ROWS + row) * one_sheet
    at, slots = first // 2, z // 2
    one = pairs + (at % slots * _ROWS + row) * 2 * one_sheet
    two = pairs + ((at + 1) % slots * _ROWS + row) * 2 * one_sheet
    if z == 5:
        return one, two
    _merge_pairs(plan, voxels, (one, two), (four,))
    return four, pairs + ((at + 2) % slots * _ROWS + row) * 2 * one_sheet


@numba.njit
def _column(voxels, start, steps, out, first_out, to, extent, places, plan, lanes):
    """Find the values of the windows in a column: some rows, a vector of windows along x, all planes.

    `start` is the address of the first voxel, `steps` are the bytes along z and y from there. `first_out` is the index
    of the first result, `to` are the steps along z and y from there. `extent` is the number of windows along z, y and
    x, `places` says where all lists lie.
    """
    depth, rows, inside = extent
    z, _, _, sheet = _numbers(plan)
    ones, twos, fours, sheets, pairs, four, spare = places
    vector = lanes * voxels.itemsize
    list_sheet = sheet * vector
    plane_of_sheets = _ROWS * list_sheet
    straight = inside == lanes
    # Where the depth is odd, the last window has no partner: one plane more is made up, and not used.
    for plane in range(depth + z - 1 + depth % 2):
        here = sheets + plane % (z + 1) * plane_of_sheets
        source = start + min(plane, depth + z - 2) * steps[0]
        _sheets_of_plane(voxels, source, steps[1], rows, (ones, twos, fours, here), plan, lanes)
        if z > 3 and plane % 2 == 0 and plane > 0:
            before = sheets + (plane - 1) % (z + 1) * plane_of_sheets
            pair = pairs + (plane // 2 - 1) % (z // 2) * 2 * plane_of_sheets
            for row in range(rows):
                two_sheets = (before + row * list_sheet, here + row * list_sheet)
                _merge_sheets(plan, voxels, two_sheets, (pair + row * 2 * list_sheet,))
        first = plane - z
        if first < 0 or first % 2:
            continue
        count = min(2, depth - first)
        for row in range(rows):
            index = first_out + first * to[0] + row * to[1]
            to_1 = out.ctypes.data + index * voxels.itemsize if straight else spare
            to_2 = to_1 + to[0] * voxels.itemsize if straight and count == 2 else spare + vector
            one, two = _shared(voxels, first, row, (sheets, pairs, four), plan, lanes)
            own = sheets + first % (z + 1) * plane_of_sheets + row * list_sheet
            _select(plan, voxels, (one, two, own, here + row * list_sheet), (to_1, to_2))
            if not straight:
                for i in range(inside):
                    out[index + i] = voxel_at(voxels, to_1 + i * voxels.itemsize)
                    if count == 2:
                        out[index + to[0] + i] = voxel_at(voxels, to_2 + i * voxels.itemsize)


@jit
def ranks_3(voxels, at, out, to, shape, room, plan, lanes):
    """Find the value of a rank in every window that lies inside a block of voxels.

    Parameters
    ----------
    voxels : ndarray
        Whole numbers, flat; the rows of the block, in any order and at any distance. Behind the end of a row, up to a
        vector more is read, and counts nothing.
    at : tuple of int
        Index in `voxels` of the first voxel of the first window, and the steps along z and y.
    out : ndarray
        Results, flat.
    to : tuple of int
        Index in `out` of the first result, and the steps along z and y.
    shape : tuple of int
        Number of windows along z, y and x.
    room : ndarray
        Scratch memory, flat, as long as `build` says.
    plan : ndarray
        From `sizes_as_type`: the sizes z, y and x of the window, and the rank.
    lanes : int
        Voxels in a vector.
    """
    depth, height, width = shape
    z, y_size, run, sheet = _numbers(plan)
    size = voxels.itemsize
    list_run, list_sheet = run * lanes * size, sheet * lanes * size
    ones = (room.ctypes.data + lanes * size - 1) // (lanes * size) * (lanes * size)
    twos = ones + (_ROWS + _MORE) * list_run
    fours = twos + (_ROWS + _MORE) * 2 * list_run
    sheets = fours + _ROWS * 4 * list_run
    pairs = sheets + (z + 1) * _ROWS * list_sheet
    four = pairs + z // 2 * 2 * _ROWS * list_sheet
    places = ones, twos, fours, sheets, pairs, four, four + 4 * list_sheet
    # Where a window has one row a plane, rows share nothing: then vectors of one row take the place of rows.
    along = y_size == 1
    source_row, target_row = (lanes, lanes) if along else (at[2], to[2])
    steps, goals = (at[1] * size, source_row * size), (to[1], target_row)
    y = 0
    while y < height:
        x = 0
        while x < width:
            inside = min(lanes, width - x)
            rows = min(_ROWS, max(1, (width - x) // lanes) if along else height - y)
            start = voxels.ctypes.data + (at[0] + y * at[2] + x) * size
            first = to[0] + y * to[2] + x
            _column(voxels, start, steps, out, first, goals, (depth, rows, inside), places, plan, lanes)
            x += rows * lanes if along else lanes
        y += 1 if along else _ROWS


def build(key: tuple) -> Callable:
    """Compile a variant.

    Parameters
    ----------
    key : tuple
        Type of the voxels ("u1", "i2", "i4" or "i8"), z, y, x and rank, as in ``("i2", 3, 3, 3, 13)``.

    Returns
    -------
    callable
        ``kernel(voxels, at, out, to, shape, room)``, as in `ranks_3`; ``kernel.lanes`` is the number of voxels in a
        vector, ``kernel.room`` the length of the scratch memory.
    """
    code, *sizes = key
    plan, dtype = Plan(*sizes), np.dtype(code)
    count = lanes(dtype)
    as_type = sizes_as_type(z=plan.z, y=plan.y, x=plan.x, rank=plan.rank_wanted)

    def kernel(voxels, at, out, to, shape, room) -> None:
        ranks_3(voxels, at, out, to, shape, room, as_type, count)

    kernel.lanes = count
    kernel.room = count * (3 + (_ROWS + _MORE) * 7 * plan.run + ((2 * plan.z + 1) * _ROWS + 4) * plan.sheet)
    keys.prepare(dtype)
    tiny = np.zeros(plan.z * plan.y * plan.x + count, dtype)
    steps = (0, plan.y * plan.x, plan.x)
    kernel(tiny, steps, np.empty(1, dtype), (0, 1, 1), (1, 1, 1), np.empty(kernel.room, dtype))
    return kernel
