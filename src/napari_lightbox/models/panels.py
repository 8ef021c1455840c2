"""Whom a prediction asks: one network or several, with neurons left out or not, about the image as it is and flipped.

What they say is stacked along the channels: first the answers whose probabilities are averaged (one for each model
and, with Monte-Carlo dropout, each sample), then, where doubt is measured over more than these, every single pass.
Within an answer logits are averaged: those of mirrored ways, and of the folds of nnU-Net, as nnU-Net does it.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

# Asks one network: its number, the seed of its dropout (None for none), and the input, which it may write into.
Ask = Callable[[tuple[int, int | None, "torch.Tensor"]], "torch.Tensor"]


@dataclass(frozen=True)
class Panel:
    """Who is asked, and how the answers belong together.

    Parameters
    ----------
    members : tuple of tuple of int
        For each model the numbers of its networks, whose logits are averaged: more than one only for folds that are
        asked one by one.
    samples : int
        Networks with neurons left out that each model stands for; 0 leaves none out.
    seed : int
        Of the neurons that are left out.
    mirror : tuple of int
        Axes of the window along which it is flipped, in all combinations.
    measured : bool
        Whether doubt is measured over the single passes.
    folds : int
        Answers that a network gives to each window at once, one behind the other: their mean is taken of the sums.
    """

    members: tuple[tuple[int, ...], ...] = ((0,),)
    samples: int = 0
    seed: int = 0
    mirror: tuple[int, ...] = ()
    measured: bool = False
    folds: int = 1

    @property
    def ways(self) -> list[tuple[int, ...]]:
        """Axes that are flipped, for each time a window is shown."""
        return [c for n in range(len(self.mirror) + 1) for c in itertools.combinations(self.mirror, n)]

    @property
    def answers(self) -> int:
        """Number of answers whose probabilities are averaged."""
        return len(self.members) * max(1, self.samples)

    @property
    def passes(self) -> int:
        """How often a network is asked about a window."""
        return sum(map(len, self.members)) * max(1, self.samples) * len(self.ways)

    @property
    def apart(self) -> int:
        """Number of passes that are kept beside the answers."""
        return self.passes if self.measured and self.passes > self.answers else 0

    @property
    def channels(self) -> int:
        """How many times the classes come out."""
        return (self.answers + self.apart) * self.folds

    def seeds(self) -> list[int | None]:
        """Return the seed of each sample: the same for every window, so that each is one network throughout."""
        if not self.samples:
            return [None]
        state = np.random.SeedSequence(self.seed).generate_state(self.samples, np.uint64)
        return [int(value >> np.uint64(1)) for value in state]

    def ask(self, inputs: "torch.Tensor", flat: bool, ask: Ask, look: Callable[[], None]) -> "torch.Tensor":
        """Return what all say of a batch of windows.

        Parameters
        ----------
        inputs : (n, channels, z, y, x) tensor
            Windows.
        flat : bool
            Whether the networks take (n, channels, y, x).
        ask : callable
            Asks one network.
        look : callable
            Called between two passes; may raise `Cancelled`.

        Returns
        -------
        (n, channels * classes, z, y, x) tensor
        """
        import torch

        inputs = inputs.squeeze(2) if flat else inputs
        answers: list[torch.Tensor] = []
        apart: list[torch.Tensor] = []
        first = True
        for networks, seed in itertools.product(self.members, self.seeds()):
            total = None
            for axes in self.ways:
                where = [a + 2 for a in axes]
                mean = None
                for network in networks:
                    if not first:
                        look()
                    first = False
                    # A network may write into what it is given: all but the only one get a copy, as `flip` makes.
                    answer = ask((network, seed, inputs.flip(where) if self.passes > 1 else inputs))
                    if self.apart:
                        apart.append(answer.flip(where) if where else answer)
                    mean = answer if mean is None else mean + answer
                mean = mean / len(networks) if len(networks) > 1 else mean
                mean = mean.flip(where) if where else mean
                total = mean if total is None else total + mean
            answers.append(total / len(self.ways) if len(self.ways) > 1 else total)
        found = answers[0] if len(answers) + len(apart) == 1 else torch.cat([*answers, *apart], 1)
        return found.unsqueeze(2) if flat else found
