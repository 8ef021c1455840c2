"""Resampling by an affine map with torch, by the same arithmetic as on the processor.

A position is worked out as ITK does: the two ends of an output line are mapped, and the voxels between them lie at
fractions of the way.
"""

import numpy as np
import torch

from ...progress import track
from .. import _check, _tiles
from .._interpolation import UPWARD, coefficients, store
from .._resample import on_voxels
from .tensors import on_torch

# Output voxels at a time: a cubic spline gathers 64 voxels for each.
_SLAB = {"nearest": 1 << 22, "linear": 1 << 22, "cubic": 1 << 20}
_ON_VOXEL = 1e-6


def pull(
    data: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], order: str, fill: float, device: torch.device
) -> np.ndarray:
    """Fetch every voxel of an output grid from `data`; arguments as for `_resample.pull`."""
    if on_voxels(matrix):
        order, matrix = "nearest", np.round(matrix)
    if order == "cubic":
        source = torch.from_numpy(coefficients(data.astype(_check.float_type(data.dtype)))).to(device)
    elif order == "nearest":
        # Voxels are moved as they are, whatever their bits mean.
        bits = np.dtype(f"i{data.dtype.itemsize}")
        source = torch.from_numpy(np.ascontiguousarray(data).view(bits).copy()).to(device)
    else:
        source = on_torch(data, device)
    result = np.empty(shape, data.dtype)
    for slab in track(_tiles.slabs(shape, _SLAB[order]), "slabs"):
        places = _places(matrix, slab, shape, device)
        if order == "nearest":
            places = [p + UPWARD for p in places]
        beyond = torch.zeros(places[0].shape, dtype=torch.bool, device=device)
        for place, length in zip(places, data.shape, strict=True):
            beyond |= (place < -0.5) | (place >= length - 0.5)
        values = _WAYS[order](source, places).cpu().numpy()
        out = result[slab]
        if order == "nearest":
            out[...] = values.view(data.dtype)
        else:
            # Single precision swallows the noise in the last digits before it is rounded.
            store(values.astype(_check.float_type(data.dtype), copy=False), out, within=order == "linear")
        out[beyond.cpu().numpy()] = fill
    return result


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
