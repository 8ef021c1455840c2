"""The way back of a prediction: sums that are complete become labels, probabilities and doubt on the image's grid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ..errors import InputError
from ..progress import track
from . import chunks, doubt, sampling, stores
from .bands import Block, ways_back
from .card import Card
from .plan import STRIP_BYTES, Plan
from .sums import Sums


@dataclass
class Results:
    """Arrays that the frames are written into, as stored: (frame, z, y, x), or (z, y, x) for the one that is None.

    Parameters
    ----------
    values : tuple of int
        Label value of every class.
    labels : array or None
        Label of every voxel.
    kept : dict of int to float array
        Probability (or value) of the classes that were asked for; float16 and on disk where they are large.
    doubt : float32 array or None
        Uncertainty, 0 to 1.
    answers : int
        How many answers are averaged, each after its activation.
    apart : int
        How many further ones, beside them in the sums, `doubt` is measured over; 0 where over the answers.
    low, high : float
        Smallest and largest value of what was kept, where it is not activated.
    """

    values: tuple[int, ...]
    labels: np.ndarray | None
    kept: dict[int, np.ndarray] = field(default_factory=dict)
    doubt: np.ndarray | None = None
    answers: int = 1
    apart: int = 0
    low: float = np.inf
    high: float = -np.inf

    def settle(self) -> None:
        """Bring to disk what is not there yet of arrays that are kept on it: all frames are written."""
        open_ = [array for array in self.kept.values() if isinstance(array, chunks.Chunked)]
        for array in track(open_, "probabilities") if open_ else ():
            stores.settle(array)


def allocate(
    plan: Plan, kept: Sequence[int], values: tuple[int, ...], *, dtype: type, on_disk: bool, answers: int, apart: int
) -> Results:
    """Make the arrays that results are written into; `kept` are classes whose values stay."""
    shape = plan.grid.shape
    image = plan.options.kind == "image"
    return Results(
        values=values,
        labels=None if image else np.zeros(shape, np.uint8 if not values or max(values) <= 255 else np.uint16),
        kept={c: stores.make(shape, dtype, on_disk=on_disk, along=plan.order[0] - 3) for c in kept},
        doubt=np.zeros(shape, np.float32) if plan.options.uncertainty and not image else None,
        answers=answers,
        apart=apart,
    )


class Finisher:
    """Writes the results of one frame, from sums that are complete.

    Works strip by strip, so that the classes never exist together at the size of the image: never more than
    `STRIP_BYTES`, or one row of all classes where that is more.
    """

    def __init__(
        self, plan: Plan, card: Card, results: Results, frame: int, look: Callable[[], None] | None = None
    ) -> None:
        self.plan, self.card, self.results, self.look = plan, card, results, look
        self.ways = ways_back(plan)
        if plan.crop and 0 in results.kept and results.values[0] == 0 and plan.options.activation == "softmax":
            # Nothing but background lies outside of what the network saw.
            _view(results.kept[0], replace(plan, crop=None), frame)[...] = 1
        self.views = {c: _view(array, plan, frame) for c, array in results.kept.items()}
        self.labels, self.doubt = _view(results.labels, plan, frame), _view(results.doubt, plan, frame)
        options = plan.options
        self.separate = options.activation == "sigmoid" or options.kind == "regions" or len(results.values) == 1

    def finish(self, sums: Sums, block: Block, out: slice) -> None:
        """Write slices `out` of the image within the rows and columns of a block."""
        rows, columns = block.out
        wide = max(columns.stop - columns.start, block.part[1].stop - block.part[1].start)
        high = rows.stop - rows.start
        fit = max(1, STRIP_BYTES // (4 * sums.total.shape[0] * wide))
        thick, strip = max(1, fit // high), min(fit, high)
        for start in range(out.start, out.stop, thick):
            some = slice(start, min(out.stop, start + thick))
            for row in range(rows.start, rows.stop, strip):
                here = slice(row, min(rows.stop, row + strip))
                self.write(self._strip(sums, block, some, here), (some, here, columns))
            for array in self.results.kept.values():
                stores.release(array)
            self._looked()

    def _looked(self) -> None:
        """Give the chance to cancel, where what is on disk may have taken a while."""
        if self.look is not None and any(isinstance(one, chunks.Chunked) for one in self.views.values()):
            self.look()

    def _strip(self, sums: Sums, block: Block, out: slice, rows: slice) -> torch.Tensor:
        """Return the sums on the image's grid: (channels, slices, rows, columns)."""
        way = self.ways[1]
        low, high = int(way.first[rows.start]), int(way.last[rows.stop - 1]) + 1
        corner = block.part[0].start
        strip = sums.slices(self.ways[0], out, slice(low - corner, high - corner))
        wanted = {1: (rows, low, high), 2: (block.out[1], block.part[1].start, block.part[1].stop)}
        # Axes that shrink come first, so that the others have less to do.
        order = sorted(wanted, key=lambda a: self.ways[a].count / self.ways[a].length)
        for axis in order if self.plan.firsts is None else wanted:
            part, first, stop = wanted[axis]
            way = self.ways[axis]
            if way.indices is not None:
                indices = np.clip(way.indices[:, part], first, stop - 1) - first
                strip = sampling.gather(strip, axis + 1, indices, way.shares[:, part])
        return strip.half().float() if self.plan.halved else strip

    def write(self, strip: torch.Tensor, where: tuple[slice, ...]) -> None:
        """Write the results of a strip of the image, from its sums (channels, slices, rows, columns)."""
        results, options = self.results, self.plan.options
        every = strip.unflatten(0, (-1, len(results.values)))
        answers = every[: results.answers]
        if options.kind == "image":
            mean = answers[0] if len(answers) == 1 else answers.mean(0)
            for channel, view in self.views.items():
                view[where] = mean[channel].cpu().numpy()
            return
        several = len(answers) > 1
        needed = bool(self.views) or self.doubt is not None or self.separate or several
        each = [_activated(one, options.activation) for one in answers] if needed else []
        mean = sum(each[1:], start=each[0]) / len(each) if several else (each or [None])[0]
        if options.activation == "none":
            self._look(mean)
        decided = mean if several else answers[0]
        self.labels[where] = _decide(decided, mean, options.kind, self.separate, results.values).cpu().numpy()
        for channel, view in self.views.items():
            view[where] = mean[channel].cpu().numpy()
            self._looked()
        if self.doubt is not None:
            apart = every[results.answers :] if results.apart else None
            passes = each if apart is None else [_activated(one, options.activation) for one in apart]
            passes = torch.stack(passes) if options.uncertainty != "entropy" else mean[None]
            found = doubt.measure(options.uncertainty, mean, passes, separate=self.separate)
            self.doubt[where] = found.cpu().numpy()

    def _look(self, values: torch.Tensor | None) -> None:
        """Note the range of what a model gave without activation, which need not be probabilities."""
        if values is None:
            return
        low, high = (float(v) for v in torch.aminmax(values))
        if self.doubt is not None and (low < -1e-3 or high > 1 + 1e-3):
            raise InputError(
                f"model {self.card.name!r} gives values from {low:.3g} to {high:.3g}, which are no probabilities and "
                "so have no uncertainty: choose the activation 'softmax' or 'sigmoid', or leave uncertainty out"
            )
        self.results.low, self.results.high = min(low, self.results.low), max(high, self.results.high)


def _view(array: np.ndarray | None, plan: Plan, frame: int) -> np.ndarray | None:
    if array is None:
        return None
    view = plan.turned(array if plan.grid.frames is None else stores.view(array, frame))
    return view if plan.crop is None else stores.view(view, plan.crop)


def _activated(logits: torch.Tensor, activation: str) -> torch.Tensor:
    if activation == "softmax":
        return _softmax(logits)
    return torch.sigmoid(logits) if activation == "sigmoid" else logits


def _softmax(logits: torch.Tensor) -> torch.Tensor:
    """Return the softmax over the first axis.

    torch's own rounds otherwise where a strip ends and with another number of threads; this one does not.
    """
    powers = (logits - logits.amax(0)).exp_()
    total = powers[0].clone()
    for one in powers[1:]:
        total += one
    return powers.div_(total)


def _decide(
    values: torch.Tensor, probability: torch.Tensor | None, kind: str, separate: bool, labels: tuple[int, ...]
) -> torch.Tensor:
    """Return the label of every voxel: the likeliest class, or every region that is likelier than not."""
    table = torch.tensor(labels, dtype=torch.int32, device=values.device)
    if not separate:
        # The first of equals, as with argmax, which takes many times as long.
        return table[values.max(0).indices]
    if kind == "regions":
        result = torch.zeros(values.shape[1:], dtype=torch.int32, device=values.device)
        for channel, value in enumerate(labels):
            result[probability[channel] > 0.5] = value
        return result
    best, channel = probability.max(0)
    found = table[channel]
    return torch.where(best > 0.5, found, torch.zeros_like(found))
