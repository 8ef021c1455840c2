"""Linear resampling along the axes of an array, for the way into a network and back.

The working grid of a model has the axes of the image, so that resampling is three sums along single axes: exact,
quick, and slab by slab where the result is large.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def taps(
    length: int, count: int, step: float, *, smooth: bool, first: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
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
    first : float, optional
        Place of the first new voxel, in old voxels, where both do not cover the same stretch.

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
    if first is not None:
        middle = np.arange(count) * step + first
    middle = np.clip(middle, 0, length - 1)
    reach = max(1.0, step if smooth else 1.0) / 2
    lowest = np.floor(middle - reach + 0.5)
    indices = lowest + np.arange(math.ceil(2 * reach) + 1)[:, None]
    # Old voxel i is the stretch i - 0.5 .. i + 0.5: its share is what the new voxel covers of it.
    shares = np.minimum(indices + 0.5, middle + reach) - np.maximum(indices - 0.5, middle - reach)
    shares = np.where((indices < 0) | (indices > length - 1), 0, np.maximum(shares, 0))
    shares[shares < 1e-9] = 0
    shares /= shares.sum(axis=0)
    used = shares.any(axis=1)
    return np.clip(indices, 0, length - 1).astype(np.int64)[used], shares[used].astype(np.float32)


@dataclass(frozen=True, eq=False)
class Way:
    """How the voxels of an image are made up of those of a working grid, along one axis.

    Parameters
    ----------
    length, count : int
        Voxels of the working grid and of the image.
    indices, shares : (taps, count) arrays or None
        As of `taps`; None where each voxel is taken as it is.
    """

    length: int
    count: int
    indices: np.ndarray | None = None
    shares: np.ndarray | None = None

    @cached_property
    def first(self) -> np.ndarray:
        """The lowest working voxel that each voxel of the image needs: (count,) int64, never falling."""
        if self.indices is None:
            return np.arange(self.count)
        return np.where(self.shares > 0, self.indices, self.length).min(axis=0)

    @cached_property
    def last(self) -> np.ndarray:
        """The highest working voxel that each voxel of the image needs: (count,) int64, never falling."""
        if self.indices is None:
            return np.arange(self.count)
        return np.where(self.shares > 0, self.indices, -1).max(axis=0)


def way_back(length: int, count: int, step: float, *, to_nearest: bool = False, first: float | None = None) -> Way:
    """Return how `count` voxels are made of `length`, linearly or each of the nearest one.

    `step` is the distance of the new voxels in old ones; with step 1 and equal counts nothing changes. `first` is as
    of `taps`.

    Examples
    --------
    >>> way_back(2, 4, 0.5).last
    array([0, 1, 1, 1])
    """
    if length == count and step == 1 and not first:
        return Way(length, count)
    found = nearest(length, count) if to_nearest else taps(length, count, step, smooth=False, first=first)
    return Way(length, count, *found)


def gather(tensor: "torch.Tensor", axis: int, indices: np.ndarray, shares: np.ndarray) -> "torch.Tensor":
    """Return the weighted sum of voxels along one axis, as `taps` describes it, in single precision."""
    import torch

    place = [1] * tensor.ndim
    place[axis] = -1
    out = None
    for index, share in zip(indices, shares, strict=True):
        part = tensor.index_select(axis, torch.from_numpy(np.ascontiguousarray(index)).to(tensor.device)).float()
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
