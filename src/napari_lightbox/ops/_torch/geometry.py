"""Resampling by an affine map with torch, by the same arithmetic as on the processor.

A position is worked out as ITK does: the two ends of an output line are mapped, and the voxels between them lie at
fractions of the way.

Neither the memory of the card nor that of this machine beside the result grows with the volume. The coefficients of a
cubic spline are made on the processor, brick by brick where those of the whole input take more than `_bricks.LIMIT`;
voxels are brought to the card as they are, all in one up to `_ON_CARD` bytes, and beyond it in bricks too. The result
is the same as from the whole.
"""

import numpy as np
import torch

from ...progress import track
from .. import _bricks, _check, _tiles
from .._interpolation import UPWARD, coefficients, store
from .._resample import on_voxels
from .tensors import in_slabs, on_torch

# Output voxels at a time: a cubic spline gathers 64 voxels for each.
_SLAB = {"nearest": 1 << 22, "linear": 1 << 22, "cubic": 1 << 20}
# Bytes of an input that are on the card at a time: about as much as a slab takes there.
_ON_CARD = 1 << 30


def pull(
    data: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], order: str, fill: float, device: torch.device
) -> np.ndarray:
    """Fetch every voxel of an output grid from `data`; arguments as for `_resample.pull`."""
    if on_voxels(matrix):
        order, matrix = "nearest", np.round(matrix)
    result = np.empty(shape, data.dtype)
    slabs = _tiles.slabs(shape, _SLAB[order])
    division = _division(data, matrix, shape, order)
    alone = division == [_bricks.whole(data.shape)]
    if not alone:
        _tiles.run(lambda slab: result[slab].fill(fill), slabs, "slabs")

    def work(brick: _bricks.Brick) -> None:
        here = [slab for slab in slabs if alone or _may_meet(brick, matrix, slab, shape)]
        source = _brought(data[brick.box], order, device) if here else None
        for slab in track(here, "slabs"):
            places = _places(matrix, slab, shape, device)
            if order == "nearest":
                places = [p + UPWARD for p in places]
            inside = _inside(places, data.shape, brick)
            out = result[slab]
            if alone:
                _store(_WAYS[order](source, places), out, order)
                out[~inside.cpu().numpy()] = fill
            elif inside.any():
                # Exact: a whole number, and none larger than the place.
                held = [p[inside] - s.start for p, s in zip(places, brick.box, strict=True)]
                made = np.empty(held[0].shape, data.dtype)
                _store(_WAYS[order](source, held), made, order)
                out[inside.cpu().numpy()] = made

    _bricks.one_by_one(work, division, "bricks")
    return result


def _division(data: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], order: str) -> list[_bricks.Brick]:
    """Return the bricks that the input is brought in."""
    if order == "cubic":
        return _bricks.bricks(matrix, shape, data.shape, _check.float_type(data.dtype))
    kind = data.dtype if order == "nearest" else on_torch(data[:1, :1, :1], torch.device("cpu")).numpy().dtype
    return _bricks.bricks(matrix, shape, data.shape, kind, reach=0, limit=_ON_CARD)


def _inside(places: list[torch.Tensor], shape: tuple[int, ...], brick: _bricks.Brick) -> torch.Tensor:
    """Return which places belong to a brick, and lie within half a voxel of the outer voxels of the whole."""
    inside = torch.ones(places[0].shape, dtype=torch.bool, device=places[0].device)
    for place, length, low, high in zip(places, shape, brick.low, brick.high, strict=True):
        inside &= (place >= max(-0.5, low)) & (place < min(length - 0.5, high))
    return inside


def _may_meet(brick: _bricks.Brick, matrix: np.ndarray, slab: slice, shape: tuple[int, ...]) -> bool:
    """Whether a slab of the output may have places in a brick."""
    return bool(brick.holds(matrix, np.array([[slab.start, 0, 0]]), np.array([[slab.stop, *shape[1:]]]))[0])


def _brought(data: np.ndarray, order: str, device: torch.device) -> torch.Tensor:
    """Return on the card what is interpolated there."""
    if order == "cubic":
        return torch.from_numpy(coefficients(data.astype(_check.float_type(data.dtype)))).to(device)
    # Nearest voxels are moved as they are, whatever their bits mean.
    return in_slabs(data.view(f"i{data.dtype.itemsize}") if order == "nearest" else data, device)


def _store(values: torch.Tensor, out: np.ndarray, order: str) -> None:
    """Write what torch made into voxels."""
    found = values.cpu().numpy()
    if order == "nearest":
        out[...] = found.view(out.dtype)
    else:
        # Single precision swallows the noise in the last digits before it is rounded.
        store(found.astype(_check.float_type(out.dtype), copy=False), out, within=order == "linear")


def _places(matrix: np.ndarray, slab: slice, shape: tuple[int, ...], device: torch.device) -> list[torch.Tensor]:
    """Return the input index of every voxel of a slab along each input axis, in double precision."""
    z, y, x = (
        torch.arange(n, dtype=torch.float64, device=device).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, n in enumerate((slab.stop - slab.start, *shape[1:]))
    )
    linear = matrix[:3, :3].tolist()
    offset = (matrix[:3, :3][:, 0] * slab.start + matrix[:3, 3]).tolist()
    found = []
    for (by_z, by_y, by_x), first in zip(linear, offset, strict=True):
        start = (by_y * y + by_z * z) + first
        way = (((by_x * shape[2] + by_y * y) + by_z * z) + first) - start
        found.append(start + (x / float(shape[2])) * way)
    return found


def _nearest(source: torch.Tensor, places: list[torch.Tensor]) -> torch.Tensor:
    index = [torch.floor(p + 0.5).clamp(0, n - 1).long() for p, n in zip(places, source.shape, strict=True)]
    return source[index[0], index[1], index[2]]


def _linear(source: torch.Tensor, places: list[torch.Tensor]) -> torch.Tensor:
    low, high, parts = [], [], []
    for place, length in zip(places, source.shape, strict=True):
        place = place.clamp(0, length - 1)
        first = torch.floor(place)
        low.append(first.long())
        high.append((low[-1] + 1).clamp(max=length - 1))
        parts.append(place - first)
    rows = []
    for z in (low[0], high[0]):
        columns = []
        for y in (low[1], high[1]):
            columns.append(_between(source[z, y, low[2]], source[z, y, high[2]], parts[2]))
        rows.append(_between(*columns, parts[1]))
    return _between(*rows, parts[0])


def _between(a: torch.Tensor, b: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    first = a.double()
    # A voxel that counts nothing does not spoil the result, whatever it holds.
    return torch.where(part == 0, first, first + (b.double() - first) * part)


def _cubic(source: torch.Tensor, places: list[torch.Tensor]) -> torch.Tensor:
    taps = []
    for place, length in zip(places, source.shape, strict=True):
        place = place.clamp(-1, length)
        first = torch.floor(place)
        t = place - first
        weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (1 - t) ** 3 - 6 * (1 - t) ** 2 + 4, t**3)
        mirrored = torch.from_numpy(_tiles.border_index(-3, length + 4, length, "mirror")).to(source.device)
        taps.append([(mirrored[first.long() + k + 2], weight / 6) for k, weight in enumerate(weights)])
    total = torch.zeros(torch.broadcast_shapes(*(p.shape for p in places)), dtype=torch.float64, device=source.device)
    for z, by_z in taps[0]:
        for y, by_y in taps[1]:
            for x, by_x in taps[2]:
                total += source[z, y, x] * (by_z * by_y * by_x)
    return total


_WAYS = {"nearest": _nearest, "linear": _linear, "cubic": _cubic}
