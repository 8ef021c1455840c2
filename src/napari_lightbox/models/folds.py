"""Networks of one kind that answer together, as the folds of a cross-validation do."""

from collections.abc import Sequence

import torch


class Folds(torch.nn.Module):
    """Networks of one kind whose mean is the answer.

    Parameters
    ----------
    networks : sequence of torch.nn.Module
        The folds.
    apart : bool
        Whether their answers stand one behind the other along the channels, in place of the mean.
    """

    def __init__(self, networks: Sequence[torch.nn.Module], *, apart: bool = False) -> None:
        super().__init__()
        self.folds, self.apart = torch.nn.ModuleList(networks), apart

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the answer to windows (n, channels, *size)."""
        return together([fold(x) for fold in self.folds], apart=self.apart)


def together(answers: Sequence[torch.Tensor], *, apart: bool) -> torch.Tensor:
    """Return the mean of some answers, or all of them along the channels."""
    return torch.cat(answers, 1) if apart else sum(answers[1:], answers[0]) / len(answers)
