"""Median and adaptive median with torch, on blocks that have their halo: the same values as on the processor.

Windows are gathered, a chunk of them side by side, and torch orders each. That is the plain way, and on a graphics card
a quick one; a median of floats that holds NaN is NaN in torch too.
"""

from collections.abc import Sequence

import numpy as np
import torch

from .tensors import on_torch

# Window elements that are gathered at a time: some hundred megabytes on a card, and less than a second on a processor.
_GATHERED = {"cuda": 1 << 26, "cpu": 1 << 22}


def median(padded: np.ndarray, sizes: Sequence[int], device: torch.device) -> np.ndarray:
    """Return the median of every window of `sizes` that lies wholly inside `padded`, in its type."""
    block = on_torch(padded, device)
    shape = [n - s + 1 for n, s in zip(padded.shape, sizes, strict=True)]
    windows = _Windows(block, sizes, shape)
    result = block.new_empty(int(np.prod(shape)))
    for part in windows.parts(len(result)):
        result[part] = windows.at(torch.arange(part.start, part.stop, device=device)).median(dim=1).values
    return _back(result, shape, padded.dtype)


def adaptive_median(padded: np.ndarray, max_size: int, device: torch.device) -> np.ndarray:
    """Filter the inside of a block that has a halo of ``max_size // 2`` on every side."""
    block = on_torch(padded, device)
    reach = max_size // 2
    shape = [n - 2 * reach for n in padded.shape]
    result = block[(slice(reach, -reach),) * block.ndim].clone().flatten()
    still_open = torch.arange(len(result), device=device)
    for size in range(3, max_size + 1, 2):
        edge = reach - size // 2
        inner = block[tuple(slice(edge, n - edge) for n in block.shape)].contiguous()
        windows = _Windows(inner, (size,) * block.ndim, shape)
        undecided = []
        for part in windows.parts(len(still_open)):
            at = still_open[part]
            values, done = _stage(windows.at(at), result[at], last=size == max_size)
            result[at[done]] = values[done]
            undecided.append(at[~done])
        still_open = torch.cat(undecided)
        if not len(still_open):
            break
    return _back(result, shape, padded.dtype)


def _stage(window: torch.Tensor, centre: torch.Tensor, last: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return new values of voxels with these windows, (n, elements), and which of them are final."""
    # Comparisons with NaN are false: such windows never succeed, and their median is NaN.
    low, middle, high = window.amin(dim=1), window.median(dim=1).values, window.amax(dim=1)
    passed = (low < middle) & (middle < high)
    values = torch.where(passed & (low < centre) & (centre < high), centre, middle)
    return values, torch.ones_like(passed) if last else passed


class _Windows:
    """The windows of a block; voxels are named by their flat index among those whose window lies wholly inside."""

    def __init__(self, block: torch.Tensor, sizes: Sequence[int], shape: Sequence[int]) -> None:
        self.flat, self.shape = block.reshape(-1), shape
        self.steps = [int(np.prod(block.shape[axis + 1 :])) for axis in range(block.ndim)]
        offsets = torch.zeros(1, dtype=torch.long, device=block.device)
        for size, step in zip(sizes, self.steps, strict=True):
            along = torch.arange(size, device=block.device) * step
            offsets = (offsets[:, None] + along).flatten()
        self.offsets = offsets

    def parts(self, count: int) -> list[slice]:
        """Cut `count` voxels into parts whose windows are gathered together."""
        step = max(1, _GATHERED[self.flat.device.type] // len(self.offsets))
        return [slice(i, min(i + step, count)) for i in range(0, max(count, 1), step)]

    def at(self, voxels: torch.Tensor) -> torch.Tensor:
        """Return the windows of some voxels, (n, elements)."""
        corner, rest = torch.zeros_like(voxels), voxels
        for size, step in zip(reversed(self.shape), reversed(self.steps), strict=True):
            corner += rest % size * step
            rest = rest // size
        return self.flat[corner[:, None] + self.offsets]


def _back(flat: torch.Tensor, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    return flat.reshape(tuple(shape)).cpu().numpy().astype(dtype, copy=False)
