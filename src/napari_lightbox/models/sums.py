"""The sums of weighted answers, of as many slices as are still open: a ring that moves on along the first axis."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..errors import InputError
from . import sampling, windows
from .bands import Block, Step

# Bytes that are weighed at once.
_PIECE = 4 << 20


class Sums:
    """Sums over one block of the plane.

    Slice z of the working grid lies in place ``z % thickness``, so that moving on copies nothing.

    Parameters
    ----------
    channels : int
        Sums of each voxel.
    block : Block
        What is summed up.
    before : sequence of int
        Padding before each axis of the working grid.
    device : str
        Where the sums lie.
    blended : bool
        Whether windows are weighed and added; otherwise each writes the voxels that it owns.
    joint : (z, y, x) float32 array, optional
        Weights of a window that are no product of those along its axes, in place of its own. What they add up to is
        kept beside the sums, which are divided by it when they are complete.
    halved : bool
        Whether sums are rounded to half precision whenever something is added, as nnU-Net has it.
    folds : int
        Parts of the channels whose mean is taken when they are complete.
    """

    def __init__(
        self,
        channels: int,
        block: Block,
        before: Sequence[int],
        device: str,
        *,
        blended: bool,
        joint: np.ndarray | None = None,
        halved: bool = False,
        folds: int = 1,
    ) -> None:
        dtype = torch.float16 if halved else torch.float32
        self.total = torch.zeros((channels, *block.held), dtype=dtype, device=device)
        self.block, self.before, self.blended = block, before, blended
        self.base, self.top = block.steps[0].base, block.steps[0].top
        self._joint = None if joint is None or not blended else torch.from_numpy(joint).to(device)
        self._weight = None if self._joint is None else torch.zeros(block.held, dtype=dtype, device=device)
        self._folds = folds
        # Slices before it are complete already.
        self._whole = self.base

    @property
    def _thick(self) -> int:
        return self.total.shape[1]

    def begin(self, step: Step) -> None:
        """Drop what lies before a step, and open what it needs."""
        if self.blended and step.base > self.base:
            for where, _ in self._places(self.base, min(step.base, self.base + self._thick)):
                self.total[:, where] = 0
                if self._weight is not None:
                    self._weight[where] = 0
        self.base, self.top = step.base, step.top

    def move(self, device: str) -> None:
        """Take the sums to another device."""
        self.total = self.total.to(device)
        if self._weight is not None:
            self._joint, self._weight = self._joint.to(device), self._weight.to(device)

    def _places(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """Give where slices ``start`` to ``stop - 1`` lie: at most two runs, with their share of the way there."""
        at = start
        while at < stop:
            place = at % self._thick
            length = min(stop - at, self._thick - place)
            yield slice(place, place + length), slice(at - start, at - start + length)
            at += length

    def add(self, window: windows.Window, answer: torch.Tensor) -> None:
        """Add the answer (channels, z, y, x) to one window, weighed, where it reaches into the block."""
        limits = ((self.base, self.top), *((part.start, part.stop) for part in self.block.part))
        owned = window.owned() if not self.blended else [slice(0, n) for n in window.size]
        inside, target = [], []
        for start, before, own, (low, high) in zip(window.start, self.before, owned, limits, strict=True):
            corner = start - before
            first, last = max(own.start, low - corner), min(own.stop, high - corner)
            if last <= first:
                return
            inside.append(slice(first, last))
            target.append((corner + first, corner + last))
        rows, columns = (
            slice(a - part.start, b - part.start) for (a, b), part in zip(target[1:], self.block.part, strict=True)
        )
        places = list(self._places(*target[0]))
        answer = answer[(slice(None), *inside)]
        joint = None if self._joint is None else self._joint[tuple(inside)]
        for where, share in places if joint is not None else ():
            self._weight[where, rows, columns] += joint[share]
        piece = max(1, _PIECE // (4 * max(1, answer[0].numel())))
        for channel in range(0, answer.shape[0], piece):
            some = slice(channel, channel + piece)
            part = answer[some].to(self.total.device)
            if joint is not None:
                part = part * joint
            elif self.blended:
                # The first product is a copy: what a network returned may be its own.
                part = part * _along(window.weights[0][inside[0]], 0, part.device)
                for axis in (1, 2):
                    part *= _along(window.weights[axis][inside[axis]], axis, part.device)
            for where, share in places:
                if self.blended:
                    self.total[some, where, rows, columns] += part[:, share]
                else:
                    # Written, not added: what the network says arrives bit for bit.
                    self.total[some, where, rows, columns] = part[:, share]

    def slices(self, way: sampling.Way, out: slice, rows: slice) -> torch.Tensor:
        """Return slices of the image's first axis, from some rows of the block: (channels, slices, rows, columns)."""
        self._complete(int(way.last[out.stop - 1]) + 1)
        total = self.total[: len(self.total) // self._folds, :, rows]
        if way.indices is None:
            places = list(self._places(out.start, out.stop))
            if len(places) == 1:
                return total[:, places[0][0]].float()
            return torch.cat([total[:, where] for where, _ in places], 1).float()
        # A voxel without a share may lie outside of what is held.
        indices = np.clip(way.indices[:, out], self.base, self.top - 1) % self._thick
        return sampling.gather(total, 1, indices, way.shares[:, out])

    def _complete(self, stop: int) -> None:
        """Divide the slices before `stop` by their weights, and take the mean of folds: no window reaches them now."""
        start = max(self._whole, self.base)
        for where, _ in self._places(start, max(start, min(stop, self.top))):
            if self._weight is not None:
                weight = self._weight[where]
                self.total[:, where] /= weight.masked_fill(weight == 0, 1)
            if self._folds > 1:
                first, *rest = self.total[:, where].chunk(self._folds)
                for fold in rest:
                    first += fold
                first /= self._folds
            # The extremes are finite only if all are.
            if self.total.dtype == torch.float16 and not all(map(torch.isfinite, self.total[:, where].aminmax())):
                raise InputError(
                    "the network's logits are too large for sums in half precision, and nnU-Net refuses them, too: "
                    "check that the image's values are those the model was made for"
                )
        self._whole = max(self._whole, min(stop, self.top))


def _along(vector: np.ndarray, axis: int, device: torch.device) -> torch.Tensor:
    place = [1, 1, 1, 1]
    place[axis + 1] = -1
    return torch.from_numpy(np.ascontiguousarray(vector)).to(device).reshape(place)
