"""Filters of the spectrum with torch: the factors are made on the processor, slab by slab, as everywhere else."""

from collections.abc import Callable

import numpy as np
import torch

from ...progress import track
from .. import _check, _tiles
from .tensors import on_torch

_SLAB = 1 << 22


def multiplied(image: np.ndarray, transfer: Callable, device: torch.device) -> np.ndarray:
    """Return `image` filtered by a transfer function; arguments as for `_frequency_filter.multiplied`."""
    real, shape = _check.float_type(image.dtype), image.shape
    spectrum = torch.fft.rfftn(on_torch(image.astype(real, copy=False), device))
    along = [np.fft.fftfreq(n, 1 / n) for n in shape[:-1]] + [np.arange(shape[-1] // 2 + 1, dtype=float)]
    frequencies = [f.reshape([-1 if a == axis else 1 for a in range(len(shape))]) for axis, f in enumerate(along)]
    for slab in track(_tiles.slabs(tuple(spectrum.shape), _SLAB), "planes"):
        factors = np.ascontiguousarray(transfer([frequencies[0][slab], *frequencies[1:]], real))
        spectrum[slab] *= torch.from_numpy(factors).to(device)
    return torch.fft.irfftn(spectrum, s=shape).cpu().numpy()
