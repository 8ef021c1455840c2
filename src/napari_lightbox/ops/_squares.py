"""The compiled way of windows of 3 x 3 voxels in planes, which needs no copy of the planes: see `_kernels.squares`."""

from collections.abc import Callable, Sequence

import numpy as np

from . import _ranks, _tiles
from ._ready import Key, Variants

# Voxels after which compiling a variant is worth its while: some seconds of the plain way.
KERNELS = Variants("squares", after=1 << 21)
_TYPES = {np.dtype(code) for code in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")}
# Bytes of a tile: less would be done before another thread has begun, more would not be interrupted soon.
_LEAST_TILE, _MOST_TILE = 1 << 22, 1 << 24
# Rows of up to so many voxels are not cut.
_ROW = 1 << 14


def key_of(dtype: np.dtype, rank: int) -> Key | None:
    """Say which variant serves a type of voxels and a rank; None where there is none.

    Examples
    --------
    >>> key_of(np.dtype(bool), 4)
    ('u1', 4)
    """
    dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    return (dtype.str[1:], rank) if dtype in _TYPES else None


def serves(image: np.ndarray, sizes: Sequence[int]) -> bool:
    """Whether the windows are squares of 3 voxels a side, one of them along the rows, and these lie in one piece."""
    if len(sizes) not in (2, 3) or sizes[-1] != 3 or sorted(sizes[:-1]) != [1, 3][3 - len(sizes) :]:
        return False
    return key_of(image.dtype, 4) is not None and image.strides[-1] == image.itemsize


class Compiled:
    """The compiled way for one image, window and rank.

    Parameters
    ----------
    image : ndarray
        The voxels.
    sizes : sequence of int
        Of the window, see `serves`.
    mode : str
        What lies beyond the border.
    kernel : callable
        The variant.
    """

    def __init__(self, image: np.ndarray, sizes: Sequence[int], mode: str, kernel: Callable) -> None:
        self.image, self.kernel = (
            image.view(np.uint8) if image.dtype.kind == "b" else image,
            kernel,
        )
        # The axis across which the rows of a window lie, and the one that it does not extend along.
        self.across = sizes.index(3)
        self.apart = 1 - self.across if image.ndim == 3 else None
        height, width = image.shape[self.across], image.shape[-1]
        self._row_from = _tiles.border_index(-1, height + 1, height, mode).astype(np.int64)
        before, behind = (int(_tiles.border_index(at, at + 1, width, mode)[0]) for at in (-1, width))
        self._ends = before, behind, width

    def tiles(self, shape: tuple[int, ...], plain_tile: int) -> list[_tiles.Block]:
        """Cut an image into tiles; one with NaN goes the plain way and must not take too long there."""
        share = self.image.nbytes // (2 * _tiles.workers())
        voxels = max(_LEAST_TILE, min(_MOST_TILE, share)) // self.image.itemsize
        return _tiles.blocks(shape, min(voxels, 4 * plain_tile) if self.image.dtype.kind == "f" else voxels, _ROW)

    def fill(self, result: np.ndarray, block: _tiles.Block) -> bool:
        """Work out a block of a contiguous result; False where the voxels hold NaN: then it must be done anew."""
        image, rows, columns = self.image, block[self.across], block[-1]
        planes = slice(0, 1) if self.apart is None else block[self.apart]
        down, over = (
            image.strides[self.across],
            0 if self.apart is None else image.strides[self.apart],
        )
        out, steps = result.reshape(-1).view(image.dtype), _ranks.steps_of(result.shape)
        first = sum(s.start * step for s, step in zip(block, steps, strict=True))
        with _ranks.rooms((image.dtype, self.kernel.room + self._ends[2])) as (room,):
            return not self.kernel(
                image.ctypes.data + planes.start * over,
                (over, down),
                self._row_from[rows.start : rows.stop + 2],
                self._ends,
                out,
                (
                    first,
                    0 if self.apart is None else steps[self.apart],
                    steps[self.across],
                ),
                (
                    planes.stop - planes.start,
                    rows.stop - rows.start,
                    columns.stop - columns.start,
                ),
                columns.start,
                room,
            )


def compiled(image: np.ndarray, sizes: Sequence[int], rank: int, mode: str) -> Compiled | None:
    """Return the compiled way if it is ready now; otherwise say that it is wanted."""
    key = key_of(image.dtype, rank)
    kernel = KERNELS.get(key)
    if kernel is None:
        # There is a variant for each of the ranks, few of which are wanted for long.
        KERNELS.ask(key, image.size if rank == 4 else image.size // 4)
        return None
    return Compiled(image, sizes, mode, kernel)


def _usual_keys(dtype: np.dtype, ndim: int) -> list[Key]:
    key = key_of(dtype, 4) if ndim == 2 else None
    return [] if key is None else [key]


KERNELS.usual_for("median", _usual_keys)
