"""Arrays on disk in compressed chunks: written band by band, and read no further than what is looked at.

The chunks are those of a zarr array (with the extra ``scale``), in one file that has no name, so that nothing of it is
left whatever becomes of the process. What is written collects in a slab that is as thick as a chunk; when the writing
moves on, the slab is compressed. What was read lately stays in memory, a little of it, for the next slice.
"""

import errno
import itertools
import math
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import pairwise, product
from typing import Any

import numpy as np

from ..errors import FileError

# Voxels of a chunk along the axis in which it is written, and along the others: 1 MB in half precision.
_THICK, _WIDE = 32, 128
# Bytes of all arrays together that are kept from the last readings, and of what is read whole for a part of it.
_KEPT = 128 << 20
_PIECE = 64 << 20
# What is taken from the array in memory once it has been read whole.
_METHODS = ("all", "any", "argmax", "argmin", "astype", "clip", "copy", "cumsum", "flat", "flatten", "item", "max")
_METHODS += ("mean", "min", "nonzero", "prod", "ravel", "repeat", "reshape", "round", "squeeze", "std", "sum")
_METHODS += ("swapaxes", "take", "tobytes", "tolist", "var", "view")

_recent: "OrderedDict[tuple, np.ndarray]" = OrderedDict()
_lock = threading.Lock()
_numbers = itertools.count()
# Arrays whose readings are still to be forgotten.
_gone: "deque[int]" = deque()


def available() -> bool:
    """Whether the library of the extra ``scale`` is installed."""
    return find_spec("zarr") is not None and find_spec("numcodecs") is not None


class Chunked(np.lib.mixins.NDArrayOperatorsMixin):
    """An array in compressed chunks that looks like one of numpy, and is read where it is indexed.

    Transposing, flipping and `part` read nothing. Any other index gives an array of numpy, and so does arithmetic.

    Parameters
    ----------
    kept : Kept
        The chunks.
    axes : sequence of (int, int, int, int), optional
        For each axis shown: that of the chunks, the index of its first voxel there, step (1 or -1) and length.
    fixed : mapping of int to int, optional
        Axes of the chunks that are not shown, and the index on them.
    """

    # Writers may read it twice: nothing is computed anew.
    is_stored = True
    # numpy leaves it to this class what its operators do with one.
    __array_priority__ = 20

    def __init__(self, kept: "Kept", axes: Sequence[tuple] | None = None, fixed: dict[int, int] | None = None) -> None:
        self._kept, self._fixed = kept, dict(fixed or {})
        whole = [(axis, 0, 1, count) for axis, count in enumerate(kept.shape)]
        self._axes = tuple(whole if axes is None else axes)
        self.shape = tuple(axis[3] for axis in self._axes)
        self.dtype, self.ndim = kept.dtype, len(self.shape)
        self.size = math.prod(self.shape)
        self.itemsize = self.dtype.itemsize
        self.nbytes = self.size * self.itemsize

    @property
    def stored_bytes(self) -> int:
        """Bytes on disk, of the whole array."""
        self._kept.settle()
        return self._kept.file.size

    def settle(self) -> None:
        """Compress what is still open: nothing more will be written."""
        self._kept.settle()

    def release(self) -> None:
        """Take what is being written out of memory."""
        self._kept.release()

    @property
    def T(self) -> "Chunked":  # noqa: N802 - as numpy has it
        """The array with its axes in reverse."""
        return self.transpose()

    def transpose(self, *axes: Any) -> "Chunked":
        """Return the array with its axes in another order; nothing is read."""
        if len(axes) == 1 and not isinstance(axes[0], int | np.integer):
            axes = tuple(axes[0] or ())
        order = axes or tuple(reversed(range(self.ndim)))
        return Chunked(self._kept, [self._axes[axis] for axis in order], self._fixed)

    def part(self, index: Any) -> "Chunked":
        """Return what whole numbers and slices of step 1 or -1 choose; nothing is read."""
        axes, fixed = [], dict(self._fixed)
        for one, (axis, first, step, count) in zip(self._full(index), self._axes, strict=True):
            if isinstance(one, slice):
                start, stop, way = one.indices(count)
                if abs(way) != 1:
                    raise IndexError(f"a part of an array in chunks has the step 1 or -1, not {way}")
                axes.append((axis, first + step * start, step * way, len(range(start, stop, way))))
            else:
                fixed[axis] = first + step * _inside(one, count)
        return Chunked(self._kept, axes, fixed)

    def _full(self, index: Any) -> tuple:
        """Return an index with one entry for each axis."""
        index = index if isinstance(index, tuple) else (index,)
        lead = next((n for n, one in enumerate(index) if one is Ellipsis), len(index))
        after = index[lead + 1 :]
        missing = self.ndim - lead - len(after)
        if missing < 0:
            raise IndexError(f"too many indices: the array has {self.ndim} axes, {len(index)} were given")
        return (*index[:lead], *(slice(None),) * missing, *after)

    def __getitem__(self, index: Any) -> Any:
        if not _is_plain(index):
            return self._chosen(index)
        index = self._full(index)
        if all(isinstance(one, slice) and one in (slice(None), slice(None, None, -1)) for one in index):
            return self.part(index)
        return self._read(index)

    def _read(self, index: tuple) -> Any:
        """Read what whole numbers and slices choose."""
        places: dict[int, range] = {axis: range(at, at + 1) for axis, at in self._fixed.items()}
        for one, (axis, first, step, count) in zip(index, self._axes, strict=True):
            chosen = range(count)[one] if isinstance(one, slice) else range(_inside(one, count), count)[:1]
            ends = (first + step * chosen.start, first + step * chosen.stop) if chosen else (0, 0)
            places[axis] = range(*ends, step * chosen.step)
        found = self._kept.read([places[axis] for axis in range(len(self._kept.shape))])
        seen = [axis[0] for axis in self._axes]
        found = found.transpose(*self._fixed, *seen)[(0,) * len(self._fixed)]
        return found[tuple(slice(None) if isinstance(one, slice) else 0 for one in index)]

    def _chosen(self, index: Any) -> np.ndarray:
        """Read voxels that arrays of numbers or masks choose: the box around them, or everything."""
        several = isinstance(index, tuple) and len(index) == self.ndim
        if several and all(isinstance(one, np.ndarray) and one.dtype.kind in "iu" and one.size for one in index):
            low = [int(one.min()) for one in index]
            if min(low) >= 0:
                box = tuple(slice(a, int(one.max()) + 1) for a, one in zip(low, index, strict=True))
                within = np.asarray(self._read(box))
                return within[tuple(one - a for a, one in zip(low, index, strict=True))]
        return np.asarray(self)[index]

    def __setitem__(self, index: Any, values: Any) -> None:
        here = self.part(index)
        values = np.broadcast_to(np.asarray(values), here.shape)
        boxes = {axis: slice(at, at + 1) for axis, at in here._fixed.items()}
        for axis, first, step, count in here._axes:
            boxes[axis] = slice(first, first + count) if step > 0 else slice(first - count + 1, first + 1)
        values = values[tuple(slice(None, None, axis[2]) for axis in here._axes)]
        values = values[(None,) * len(here._fixed)]
        seen = [*here._fixed, *(axis[0] for axis in here._axes)]
        values = values.transpose([seen.index(axis) for axis in range(len(seen))])
        self._kept.write(tuple(boxes[axis] for axis in range(len(boxes))), values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        found = self._read((slice(None),) * self.ndim)
        return found if dtype is None else found.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(one, Chunked) for one in options.get("out", ())):
            raise TypeError("an array in chunks takes no results of arithmetic: make an array of them")
        known = (np.asarray(one) if isinstance(one, Chunked) else one for one in inputs)
        return getattr(ufunc, method)(*known, **options)

    def __getattr__(self, name: str) -> Any:
        if name in _METHODS:
            return getattr(np.asarray(self), name)
        raise AttributeError(f"an array in chunks has no {name!r}: take it of np.asarray(array)")

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[number] for number in range(len(self)))

    def __repr__(self) -> str:
        return f"Chunked(shape={self.shape}, dtype={self.dtype})"

    def __deepcopy__(self, memo: dict) -> "Chunked":
        # A duplicate of a layer: nobody writes into it, so that both may share the file.
        return self

    def __copy__(self) -> "Chunked":
        return self

    def __reduce__(self) -> tuple:
        # The file has no name by which another process could find it.
        return np.asarray, (np.asarray(self),)


def _is_plain(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        one is Ellipsis or isinstance(one, slice) or (isinstance(one, int | np.integer) and not isinstance(one, bool))
        for one in parts
    )


def _inside(index: int, count: int) -> int:
    if not -count <= index < count:
        raise IndexError(f"index {index} is out of bounds for an axis of {count}")
    return int(index) % count


# Behind it ------------------------------------------------------------------------------------------------------


class Kept:
    """A zarr array in a file without a name, with the slab that is being written.

    Parameters
    ----------
    shape, dtype
        Of the array.
    along : int
        Axis in which it is written.
    scratch : callable
        Makes an array of zeros on disk of a shape and a type, for the slab.
    """

    def __init__(
        self, shape: Sequence[int], dtype: Any, along: int, scratch: Callable[[Sequence[int], Any], np.ndarray]
    ) -> None:
        import zarr
        from zarr.codecs import BloscCodec

        from ._one_file import OneFile

        self.shape, self.dtype, self.along, self._scratch = tuple(shape), np.dtype(dtype), along, scratch
        self.chunks = tuple(
            1 if axis < len(shape) - 3 else _even(n, _THICK if axis == along else _WIDE)
            for axis, n in enumerate(self.shape)
        )
        self.file = OneFile()
        self.array = zarr.create_array(
            store=self.file,
            shape=self.shape,
            chunks=self.chunks,
            dtype=self.dtype,
            compressors=BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"),
            filters=None,
            fill_value=0,
        )
        self._slab: np.ndarray | None = None
        self._at: tuple[int, int] | None = None
        self._touched: list[list[int]] = []
        self._there: set[tuple[int, int]] = set()
        self._busy = threading.RLock()
        self.number = next(_numbers)
        weakref.finalize(self, _forget, self.number).atexit = False

    # Writing

    def write(self, box: tuple[slice, ...], values: np.ndarray) -> None:
        """Write values into a box of the array."""
        lead, thick = len(self.shape) - 3, self.chunks[self.along]
        here = box[self.along]
        with self._busy:
            for frame in range(box[0].start, box[0].stop) if lead else (0,):
                for number in range(here.start // thick, -(-here.stop // thick)):
                    low, high = max(here.start, number * thick), min(here.stop, (number + 1) * thick)
                    self._open((frame, number))
                    where = list(box[lead:])
                    where[self.along - lead] = slice(low - number * thick, high - number * thick)
                    taken = [slice(None)] * len(self.shape)
                    taken[self.along] = slice(low - here.start, high - here.start)
                    if lead:
                        taken[0] = frame - box[0].start
                    self._slab[tuple(where)] = values[tuple(taken)]
                    for bounds, one in zip(self._touched, where, strict=True):
                        bounds[:] = min(bounds[0], one.start), max(bounds[1], one.stop)

    def _place(self, at: tuple[int, int]) -> list[slice]:
        """Return the three axes of a slab within the array."""
        lead, thick = len(self.shape) - 3, self.chunks[self.along]
        place = [slice(0, n) for n in self.shape[lead:]]
        first = at[1] * thick
        place[self.along - lead] = slice(first, min(first + thick, self.shape[self.along]))
        return place

    def _open(self, at: tuple[int, int]) -> None:
        """Take another slab, once the last one is on disk."""
        if self._at == at:
            return
        self.settle(close=False)
        lead = len(self.shape) - 3
        place = self._place(at)
        shape = list(self.shape[lead:])
        shape[self.along - lead] = self.chunks[self.along]
        # A new one is all zeros without being written, which the old one would have to be.
        self._slab = self._scratch(shape, self.dtype)
        if at in self._there:
            # It comes a second time: the plane was divided, or some of it was written before.
            inner = tuple(slice(0, one.stop - one.start) for one in place)
            self._slab[inner] = self.array[(*((at[0],) if lead else ()), *place)]
            self.release()
        self._at = at
        self._touched = [[n, 0] for n in self.shape[lead:]]
        self._touched[self.along - lead] = [self.chunks[self.along], 0]

    def settle(self, *, close: bool = True) -> None:
        """Compress what was written and is not on disk yet; `close` lets the slab go."""
        with self._busy:
            if self._at is not None:
                self._compress(self._at)
                self._there.add(self._at)
                self._at = None
                _forget(self.number)
            if close:
                self._slab = None

    def _compress(self, at: tuple[int, int]) -> None:
        lead = len(self.shape) - 3
        inner, outer = [], []
        for (low, high), place in zip(self._touched, self._place(at), strict=True):
            inner.append(slice(low, high))
            outer.append(slice(place.start + low, place.start + high))
        try:
            # Chunk by chunk: together they would need several times the memory.
            for part in product(*(_cut(one, size) for one, size in zip(outer, self.chunks[lead:], strict=True))):
                here = zip(part, outer, inner, strict=True)
                of_slab = tuple(slice(p.start - o.start + i.start, p.stop - o.start + i.start) for p, o, i in here)
                self.array[(*((at[0],) if lead else ()), *part)] = self._slab[of_slab]
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            remedy = "keep fewer of them, or set TMPDIR to a folder with more space" if full else str(error)
            raise FileError(f"the probabilities cannot be kept in {self.file.folder}: {remedy}") from error
        self.release()

    def release(self) -> None:
        """Take the pages of the slab out of memory."""
        from .stores import release

        with self._busy:
            if self._slab is not None:
                release(self._slab)

    # Reading

    def read(self, places: Sequence[range]) -> np.ndarray:
        """Return the voxels at some indices along each axis, all in one array."""
        # A chunk that is written meanwhile may take the place of another in the file.
        with self._busy:
            self.settle(close=False)
            return self._read(places)

    def _read(self, places: Sequence[range]) -> np.ndarray:
        if not all(len(one) for one in places):
            return np.zeros([len(one) for one in places], self.dtype)
        low = [min(one[0], one[-1]) for one in places]
        high = [max(one[0], one[-1]) + 1 for one in places]
        # All of the chunks that it touches are decompressed in any case.
        hull = tuple(
            slice(a // c * c, min(n, -(-b // c) * c))
            for a, b, c, n in zip(low, high, self.chunks, self.shape, strict=True)
        )
        if math.prod(one.stop - one.start for one in hull) * self.dtype.itemsize > _PIECE:
            steps = [abs(one.step) for one in places]
            found = np.asarray(self.array[tuple(slice(a, b, s) for a, b, s in zip(low, high, steps, strict=True))])
            return found[tuple(slice(None, None, 1 if one.step > 0 else -1) for one in places)]
        picked = []
        for one, whole in zip(places, hull, strict=True):
            start, stop = one[0] - whole.start, one[-1] - whole.start + (1 if one.step > 0 else -1)
            picked.append(slice(start, None if stop < 0 else stop, one.step))
        # A copy: what is kept for the next reading must not change, nor stay in memory for the sake of a few voxels.
        return self._lately(hull)[tuple(picked)].copy()

    def _lately(self, hull: tuple[slice, ...]) -> np.ndarray:
        key = (self.number, *((one.start, one.stop) for one in hull))
        with _lock:
            _purge()
            if key in _recent:
                _recent.move_to_end(key)
                return _recent[key]
        found = np.asarray(self.array[hull])
        with _lock:
            _recent[key] = found
            while sum(one.nbytes for one in _recent.values()) > _KEPT:
                _recent.popitem(last=False)
        return found


def _even(length: int, about: int) -> int:
    """Return the length of chunks that fill an axis evenly: what hangs over its end would be compressed as well."""
    return max(1, -(-length // max(1, round(length / about))))


def _cut(whole: slice, size: int) -> list[slice]:
    """Cut a stretch of an axis where chunks of it end."""
    edges = [whole.start, *range((whole.start // size + 1) * size, whole.stop, size), whole.stop]
    return [slice(a, b) for a, b in pairwise(edges)]


def _forget(number: int) -> None:
    """Forget what was read of an array that is gone, or was written since.

    Never waits: it is called wherever memory is collected, also in a thread that holds the lock.
    """
    _gone.append(number)
    if _lock.acquire(blocking=False):
        try:
            _purge()
        finally:
            _lock.release()


def _purge() -> None:
    """Let go of the readings that are to be forgotten; only with the lock."""
    while _gone:
        number = _gone.popleft()
        for key in [key for key in list(_recent) if key[0] == number]:
            del _recent[key]
