"""Integrated gradients to a stated accuracy: the way is halved where the map's sum does not say what the target does.

Sundararajan, Taly and Yan 2017 (arXiv:1703.01365): over every part of the way, what the map gathers is what the target
changes (completeness). That is known from two answers of the network, so that each part says itself how far it is off,
and only those that are get more steps.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ._attribution import Batch, Frame, Question
from ._attribution_maps import Found, baselines

# Passes for a part of the way (Gauss-Legendre), and how often a part may be halved.
NODES, _HALVINGS = 8, 12
#: Most passes for a window.
MOST = 512


@dataclass
class _Way:
    """The straight way from the baseline to the image, for some windows: 0 is the one, 1 the other."""

    question: Question
    some: Batch
    lows: list[torch.Tensor]
    highs: list[torch.Tensor]
    passes: int = 0

    def at(self, place: float) -> list[torch.Tensor]:
        if place in (0.0, 1.0):
            return self.highs if place else self.lows
        return [low + place * (high - low) for low, high in zip(self.lows, self.highs, strict=True)]

    def value(self, place: float) -> float:
        # The ends are counted beforehand, as is the first part.
        self.question.counter.total += 0.0 < place < 1.0
        return self.question.value(self.at(place), self.some)

    def part(self, start: float, stop: float) -> tuple[list[torch.Tensor], float]:
        """Return the gradients integrated over a part of the way, and what the map gathers there."""
        places, shares = np.polynomial.legendre.leggauss(NODES)
        self.question.counter.total += NODES if self.passes else 0
        self.passes += NODES
        sums: list[Any] = [0] * len(self.highs)
        for place, share in zip((places + 1) / 2, shares / 2, strict=True):
            _, grads = self.question.gradients(self.at(start + float(place) * (stop - start)), self.some)
            sums = [total + float(share) * (stop - start) * grad for total, grad in zip(sums, grads, strict=True)]
        along = zip(self.lows, self.highs, sums, strict=True)
        return sums, float(sum(((high - low) * one).double().sum() for low, high, one in along))

    def walk(self, low: float, high: float, allowed: float) -> list[torch.Tensor]:
        """Return the gradients integrated over the whole way.

        The targets at its ends are `low` and `high`; `allowed` is how far the map's sum may be off. Of the parts of a
        length those are taken that are least off, within half of what is still allowed; the others are halved.
        """
        totals = [torch.zeros_like(one) for one in self.highs]
        parts = [(0.0, 1.0, low, high)]
        while parts:
            tried = []
            for start, stop, before, after in parts:
                sums, gathered = self.part(start, stop)
                tried.append((abs(after - before - gathered), sums, (start, stop, before, after)))
            tried.sort(key=lambda one: one[0])
            good = sum(off for off, *_ in tried) <= allowed
            ended = parts[0][1] - parts[0][0] <= 2.0**-_HALVINGS
            parts, room = [], allowed / 2
            for number, (off, sums, (start, stop, before, after)) in enumerate(tried):
                left = 2 * NODES * (len(tried) - number)
                if good or ended or off <= room or self.passes + left > MOST:
                    room, allowed = room - off, allowed - off
                    for total, one in zip(totals, sums, strict=True):
                        total += one
                else:
                    middle = (start + stop) / 2
                    between = self.value(middle)
                    parts += [(start, middle, before, between), (middle, stop, between, after)]
            del tried
        return totals


def integrated_until(frame: Frame, question: Question, baseline: float | str, gap: float) -> Found:
    """Return integrated gradients whose sum misses at most the share `gap` of the target's change, where that can be.

    `Found.steps` is the number of passes of the window that needed most.
    """
    rest, ways, ends = baselines(frame, baseline), [], []
    places = [[frame.slab(window) for window in some.windows] for some in frame.batches()]
    for some, where in zip(frame.batches(), places, strict=True):
        ways.append(_Way(question, some, [rest[place] for place in where], [frame.image[place] for place in where]))
        ends.append((ways[-1].value(0.0), ways[-1].value(1.0)))
    at_rest, target = (sum(values) for values in zip(*ends, strict=True))
    changes = [abs(high - low) for low, high in ends]
    # What is next to nothing beside the numbers it is the difference of cannot be met.
    allowed = gap * max(abs(target - at_rest), 1e-5 * (abs(target) + abs(at_rest)))
    maps = torch.zeros_like(frame.image)
    for way, where, (low, high), change in zip(ways, places, ends, changes, strict=True):
        share = change / sum(changes) if sum(changes) else 1 / len(ways)
        found = way.walk(low, high, allowed * share)
        for place, first, last, total in zip(where, way.lows, way.highs, found, strict=True):
            maps[place] += (last - first) * total
    return Found(frame.folded(maps), target, at_rest, max(way.passes for way in ways))
