"""How much a prediction is to be doubted: measures of several answers to one question.

The answers, or passes, are those of the members of an ensemble, of networks with neurons left out (Monte-Carlo
dropout), and to the image flipped. With p[t, c] the probability that pass t gives to class c, T passes and C classes,
and P[c] their mean:

========================  ====================================================================  ==================
measure                   definition                                                            range
========================  ====================================================================  ==================
``"entropy"``             -sum_c P[c] log P[c] / log C: all doubt, whatever its reason          0 to 1
``"mutual_information"``  entropy of P less the mean entropy of the passes, over log C: the     0 to 1
                          doubt that more training data would take away (BALD)
``"variance"``            mean over c of the variance of p[., c] about P[c], with divisor T     0 to 0.25
``"disagreement"``        share of the passes that do not vote for the class with most votes    0 to 1 - 1/min(C, T)
========================  ====================================================================  ==================

Classes that do not exclude each other (regions, sigmoid) are each there or not there: each is measured as two classes,
and a voxel takes the largest of its measures.

Sources: Gal, "Uncertainty in Deep Learning" (thesis, Cambridge 2016, section 3.3.1: predictive entropy, mutual
information, variation ratio); Kendall and Gal, "What uncertainties do we need in Bayesian deep learning for computer
vision?" (NeurIPS 2017); Smith and Gal, "Understanding measures of uncertainty for adversarial example detection" (UAI
2018: mutual information and the mean variance of softmax).
"""

import math
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    import torch

MEASURES = ("entropy", "mutual_information", "variance", "disagreement")


def named(uncertainty: bool | str | None) -> str | None:
    """Return the measure that the argument `uncertainty` of `predict` means, or None for none.

    Raises
    ------
    InputError
        If it is unknown.

    Examples
    --------
    >>> named(True), named("variance"), named(False)
    ('entropy', 'variance', None)
    """
    if uncertainty is None or uncertainty is False:
        return None
    if uncertainty is True:
        return "entropy"
    if uncertainty not in MEASURES:
        raise InputError(f"uncertainty {uncertainty!r} is unknown: use True, False or one of {', '.join(MEASURES)}")
    return uncertainty


def measure(name: str, mean: "torch.Tensor", passes: "torch.Tensor", *, separate: bool) -> "torch.Tensor":
    """Return a measure of doubt at every voxel.

    Parameters
    ----------
    name : str
        One of `MEASURES`.
    mean : (classes, ...) tensor
        Mean probability.
    passes : (passes, classes, ...) tensor
        Probabilities of each pass; ``"entropy"`` does not look at them.
    separate : bool
        Whether each class is there or not, whatever the others are.

    Returns
    -------
    (...) tensor

    Examples
    --------
    >>> import torch
    >>> passes = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> float(measure("mutual_information", passes.mean(0), passes, separate=False))
    1.0
    """
    if name == "entropy":
        return entropy(mean, separate=separate)
    if name == "variance":
        each = ((passes - mean) ** 2).mean(0)
        # Of two classes, there or not there, both have the same variance.
        return each.amax(0) if separate else each.mean(0)
    if name == "disagreement":
        return _disagreement(passes, separate=separate)
    if separate:
        inside = sum(_two(p) for p in passes) / len(passes)
        return (_two(mean) - inside).amax(0).clamp(0, 1)
    inside = sum(entropy(p, separate=False) for p in passes) / len(passes)
    return (entropy(mean, separate=False) - inside).clamp(0, 1)


def entropy(probability: "torch.Tensor", *, separate: bool) -> "torch.Tensor":
    """Return Shannon's entropy over its largest possible value; of separate classes, the largest of their own."""
    p = probability.clamp(0, 1)
    if separate:
        return _two(p).amax(0).clamp(0, 1)
    total = None
    # Class by class: one voxel's classes lie far apart in memory.
    for one in p:
        part = one.xlogy(one)
        total = part if total is None else total.add_(part)
    return (-total / math.log(p.shape[0])).clamp(0, 1)


def _two(probability: "torch.Tensor") -> "torch.Tensor":
    """Return the entropy, in bits, of each class being there or not."""
    p = probability.clamp(0, 1)
    q = 1 - p
    return -(p.xlogy(p) + q.xlogy(q)) / math.log(2)


def _disagreement(passes: "torch.Tensor", *, separate: bool) -> "torch.Tensor":
    if separate:
        share = (passes > 0.5).to(passes.dtype).mean(0)
        return share.minimum(1 - share).amax(0)
    import torch

    votes = torch.stack([one.max(0).indices for one in passes])
    # The class of most votes is that which most passes agree with.
    most = torch.stack([(votes == one).sum(0) for one in votes]).amax(0)
    return 1 - most.to(passes.dtype) / len(passes)
