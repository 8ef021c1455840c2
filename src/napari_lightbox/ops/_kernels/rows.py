"""What a flood keeps of the rows of an image, and where: in the memory of its own result, wherever that has room.

The idea
    Of a row of `wide` voxels a flood keeps five numbers and three bits a voxel. The result has a byte a voxel, which
    nobody needs before the flood has ended: the state of a row lies in that row's own bytes. When the region is
    written, the bits of a row are copied aside, a few hundred bytes, what they lay on is cleared, and the row's bytes
    are written over it. No row depends on another, so that threads share the rows as they like, and what was never
    reached, 0 as it came from the system, is never touched.

    The bits are kept in words of 64, the three of the same voxels side by side: a visit of a few words of a row touches
    one or two lines of the cache, not three or more.

Limits
    The state of a row takes 20 bytes and 24 for each word begun: there is room for it in rows of 44 to 64 and of 68 or
    more voxels. What calls gives other memory for narrower rows. Such state is not aligned: all is read and written as
    if it might lie anywhere, which costs nothing on processors of today.

Importing this module needs numba. What is changed here changes the kernels that use it: their numbers (in `flood` and
`sums`) must be changed with it, as compiled code is kept on disk under their names.
"""

from typing import NamedTuple

import numpy as np

from ._jit import jit
from .bits import peek, poke, spell_64

_U = np.uint64
_ZERO, _ONE, _BYTE = _U(0), _U(1), np.uint8(0)
_NUMBER = np.int32(0)
# Places of the bits of a word: voxels that may still join, that the flood reached from a neighbouring row, that joined.
FREE, FRESH, DONE = 0, 1, 2
# Places of the numbers of a row: the first word that was compared and the one behind the last, the first and the last
# that may hold fresh bits, and the row that waits behind this one in the same plane, or -1.
OPENED, SPAN, AFTER = 0, 2, 4
# Bytes of the numbers, and of a word's bits.
NUMBERS, WORD = 20, 24


class Rows(NamedTuple):
    """The state of a flood, by addresses; only what belongs to rows with a state need be set.

    Parameters
    ----------
    bits, apart : int
        Where the bits of row 0 are, and how many bytes farther on those of the next row: (words, 3) of uint64.
    numbers, away : int
        Where the numbers of row 0 are, and how many bytes farther on those of the next row: 5 of int32.
    state : int
        Of each row: 1 once some of it was compared, 2 more while it waits. (rows,) of uint8.
    top : int
        The row of each plane that is to be taken next, or -1: (planes,) of int32.
    filled, spread : int
        Room for a row of words each.
    words : int
        Words of a row.
    """

    bits: int
    apart: int
    numbers: int
    away: int
    state: int
    top: int
    filled: int
    spread: int
    words: int


@jit(forceinline=True)
def bits_at(rows, row, which, w):
    """Return where a word of a row is."""
    return rows.bits + row * rows.apart + WORD * w + 8 * which


@jit(forceinline=True)
def number_of(rows, row, which):
    """Return a number of a row."""
    return np.int64(peek(rows.numbers + row * rows.away + 4 * which, _NUMBER))


@jit(forceinline=True)
def set_number(rows, row, which, value):
    """Set a number of a row."""
    poke(rows.numbers + row * rows.away + 4 * which, np.int32(value))


@jit(forceinline=True)
def _clear(rows, row, start, stop):
    """Leave 0 where the numbers and words `start` to `stop` of a row were."""
    for which in range(NUMBERS // 4):
        set_number(rows, row, which, 0)
    for place in range(bits_at(rows, row, 0, start), bits_at(rows, row, 0, stop), 8):
        poke(place, _ZERO)


@jit
def wipe_1(rows, first, last):
    """Leave 0 where the state of rows `first` to `last` was."""
    for row in range(first, last):
        if peek(rows.state + row, _BYTE):
            _clear(rows, row, number_of(rows, row, OPENED), number_of(rows, row, OPENED + 1))


@jit(forceinline=True)
def _spell(kept, start, stop, wide, out):
    """Write those of the words `start` to `stop` of a row that hold anything."""
    for w in range(start, stop):
        word, left = peek(kept + 8 * w, _ZERO), wide - 64 * w
        if not word:
            continue
        if left >= 64:
            spell_64(out + 64 * w, word)
        elif w > 0:
            # The last 64 voxels of the row: the first of them belong to the word before.
            before = peek(kept + 8 * (w - 1), _ZERO) if w > start else _ZERO
            spell_64(out + wide - 64, (before >> _U(left)) | (word << _U(64 - left)))
        else:
            for x in range(left):
                poke(out + x, np.uint8((word >> _U(x)) & _ONE))


@jit
def paint_3(rows, wide, first, last, out, over):
    """Write the region into rows `first` to `last` of a result.

    Parameters
    ----------
    rows : Rows
        State.
    wide : int
        Voxels of a row.
    first, last : int
        Rows.
    out : int
        Where row 0 of the result begins, a byte a voxel; all 0 but for the state, if that lies there.
    over : bool
        Whether the state is not needed any more: it is cleared. It must be where it lies in the result.
    """
    room = np.empty(rows.words, np.uint64)
    kept = room.ctypes.data
    for row in range(first, last):
        if not peek(rows.state + row, _BYTE):
            continue
        start, stop = number_of(rows, row, OPENED), number_of(rows, row, OPENED + 1)
        for w in range(start, stop):
            poke(kept + 8 * w, peek(bits_at(rows, row, DONE, w), _ZERO))
        if over:
            _clear(rows, row, start, stop)
        _spell(kept, start, stop, wide, out + row * wide)
