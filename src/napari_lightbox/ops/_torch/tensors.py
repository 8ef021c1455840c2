"""Arrays as tensors."""

from collections.abc import Callable

import numpy as np
import torch

from ...errors import InputError
from .. import _tiles

# Voxels that are converted, or copied in another order, at a time.
_SLAB = 1 << 22


def on_torch(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return an array as a tensor on a device, in a type that torch computes with and that holds its values.

    Raises
    ------
    InputError
        If torch has no such type.
    """
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "b":
        array = array.view(np.uint8)
    elif kind == "u" and size == 8:
        raise InputError("image holds unsigned 64-bit numbers, which torch cannot order: use device 'cpu'")
    elif kind == "u" and size > 1:
        array = array.astype(np.int32 if size == 2 else np.int64)
    elif kind == "f" and size == 2:
        array = array.astype(np.float32)
    elif kind == "f" and size > 8:
        raise InputError(f"image holds {array.dtype} numbers, which torch does not know: use device 'cpu'")
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    # Torch warns of arrays that may not be written, and takes none with a step backward, even along an axis of one.
    if not array.flags.writeable or min(array.strides, default=0) < 0:
        array = array.copy()
    return torch.from_numpy(array).to(device)


def in_slabs(
    array: np.ndarray, device: torch.device, convert: Callable[[np.ndarray], np.ndarray] = lambda part: part
) -> torch.Tensor:
    """Return what `on_torch` gives of ``convert(array)``, with no other array of that size on this machine."""
    first, *others = _tiles.slabs(array.shape, _SLAB)
    begun = on_torch(convert(array[first]), device)
    if not others:
        return begun
    whole = begun.new_empty(array.shape)
    whole[first] = begun
    for slab in others:
        whole[slab] = on_torch(convert(array[slab]), device)
    return whole
