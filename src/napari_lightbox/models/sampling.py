"""Linear resampling along the axes of an array, for the way into a network and back.

The working grid of a model has the axes of the image, so that resampling is three sums along single axes: exact,
quick, and slab by slab where the result is large.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def taps(length: int, count: int, step: float, *, smooth: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return which voxels make up each new voxel along one axis, and their shares.

    Parameters
    ----------
    length, count : int
        Voxels before and after. Both cover the same stretch about the same middle.
    step : float
        Distance of the new voxels, in old voxels.
    smooth : bool
        Where ``step > 1``, average over the stretch that a new voxel covers, so that noise and fine structure are not
        picked at random. Without it, and with ``step <= 1``: linear interpolation, which is the same with a stretch
        of one voxel.

    Returns
    -------
    indices : (taps, count) int64 array
    shares : (taps, count) float32 array
        They add up to one in every column. Beyond the border the outermost voxel counts.

    Examples
    --------
    >>> indices, shares = taps(4, 2, 2.0, smooth=False)
    >>> shares[indices == 2]
    array([0.5], dtype=float32)
    """
    middle = (np.arange(count) - (count - 1) / 2) * step + (length - 1) / 2
    middle = np.clip(middle, 0, length - 1)
    reach = max(1.0, step if smooth else 1.0) / 2
    first = np.floor(middle - reach + 0.5)
    indices = first + np.arange(math.ceil(2 * reach) + 1)[:, None]
    # Old voxel i is the stretch i - 0.5 .. i + 0.5: its share is what the new voxel covers of it.
    shares = np.minimum(indices + 0.5, middle + reach) - np.maximum(indices - 0.5, middle - reach)
    shares = np.where((indices < 0) | (indices > length - 1), 0, np.maximum(shares, 0))
    shares[shares < 1e-9] = 0
    shares /= shares.sum(axis=0)
    used = shares.any(axis=1)
    return np.clip(indices, 0, length - 1).astype(np.int64)[used], shares[used].astype(np.float32)


def gather(tensor: "torch.Tensor", axis: int, indices: np.ndarray, shares: np.ndarray) -> "torch.Tensor":
    """Return the weighted sum of voxels along one axis, as `taps` describes it."""
    import torch

    place = [1] * tensor.ndim
    place[axis] = -1
    out = None
    for index, share in zip(indices, shares, strict=True):
        part = tensor.index_select(axis, torch.from_numpy(np.ascontiguousarray(index)).to(tensor.device))
        part *= torch.from_numpy(np.ascontiguousarray(share)).to(tensor.device).reshape(place)
        out = part if out is None else out.add_(part)
    return out


def nearest(length: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what `taps` does where every new voxel is the nearest of the old ones; of two, the later."""
    middle = length / count * (np.arange(count) + 0.5) - 0.5
    indices = np.clip(np.floor(middle + 0.5), 0, length - 1).astype(np.int64)
    return indices[None], np.ones((1, count), np.float32)


def resample(
    tensor: "torch.Tensor",
    shape: Sequence[int],
    steps: Sequence[float],
    *,
    smooth: bool,
    nearest_axis: int | None = None,
) -> "torch.Tensor":
    """Resample the last axes of a tensor to `shape`; axes with step 1 and equal size stay as they are.

    Axes that shrink come first, so that the others have less to do. Along `nearest_axis`, one of those axes, nothing
    is interpolated.
    """
    first = tensor.ndim - len(shape)
    order = sorted(range(len(shape)), key=lambda a: shape[a] / tensor.shape[first + a])
    for axis in order:
        length = tensor.shape[first + axis]
        if length != shape[axis] or steps[axis] != 1:
            along = nearest(length, shape[axis]) if axis == nearest_axis else None
            along = along or taps(length, shape[axis], steps[axis], smooth=smooth)
            tensor = gather(tensor, first + axis, *along)
    return tensor
