"""Filters of the spectrum with torch: the factors are made on the processor, slab by slab, as everywhere else.

The spectrum of a volume is one piece: the card must have room for some four times the image in single precision (in
double for voxels of more than 16 bits), and memory there grows with the volume. On this machine only a slab is copied
at a time beside the result.
"""

from collections.abc import Callable

import numpy as np
import torch

from ...progress import track
from .. import _check, _tiles
from .tensors import in_slabs

_SLAB = 1 << 22


def multiplied(image: np.ndarray, transfer: Callable, device: torch.device) -> np.ndarray:
    """Return `image` filtered by a transfer function; arguments as for `_frequency_filter.multiplied`."""
    real, shape = _check.float_type(image.dtype), image.shape
    spectrum = torch.fft.rfftn(in_slabs(image, device, lambda part: part.astype(real, copy=False)))
    along = [np.fft.fftfreq(n, 1 / n) for n in shape[:-1]] + [np.arange(shape[-1] // 2 + 1, dtype=float)]
    frequencies = [f.reshape([-1 if a == axis else 1 for a in range(len(shape))]) for axis, f in enumerate(along)]
    for slab in track(_tiles.slabs(tuple(spectrum.shape), _SLAB), "planes"):
        factors = np.ascontiguousarray(transfer([frequencies[0][slab], *frequencies[1:]], real))
        spectrum[slab] *= torch.from_numpy(factors).to(device)
    return torch.fft.irfftn(spectrum, s=shape).cpu().numpy()
