"""The training loop: seeded, with averaged weights, able to stop, to be cancelled and to go on."""

import copy
import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import nn

from ..errors import InputError, need
from ..io._atomic import replacing
from ..io._staged import staged
from ..progress import track

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass
class Fit:
    """What `fit` found.

    Parameters
    ----------
    network : torch.nn.Module
        With the averaged weights of the best validation, in evaluation mode.
    score : float
        That validation's score.
    step : int
        The step after which it was reached.
    history : list of dict
        ``step``, ``loss`` (mean since the entry before) and ``score`` at every validation.
    """

    network: nn.Module
    score: float
    step: int
    history: list[dict] = field(default_factory=list)


def dice_and_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, weights: Sequence[float] | None = None
) -> torch.Tensor:
    """Return cross-entropy plus one minus the soft Dice, averaged over the classes that the batch holds.

    Parameters
    ----------
    logits : (n, classes, *size) float tensor
        What the network says.
    target : (n, *size) integer tensor
        The class of every voxel; -1 where it is not known, which counts for nothing.
    weights : sequence of float, optional
        How much every class counts in the cross-entropy, background first; for classes of few voxels.

    Notes
    -----
    The Dice term takes the whole batch as one picture, without background and without classes that are absent from
    it: their Dice would be 0 however little of them is found, and the network would learn to find them nowhere.
    """
    known = (target >= 0).unsqueeze(1)
    weight = None if weights is None else torch.tensor(weights, dtype=logits.dtype, device=logits.device)
    entropy = F.cross_entropy(logits, target.long(), weight, ignore_index=-1)
    probability = torch.softmax(logits, dim=1) * known
    axes = (0, *range(2, logits.ndim))
    truth = F.one_hot(target.clamp(min=0).long(), logits.shape[1]).movedim(-1, 1).to(logits.dtype) * known
    overlap, found, true = (value.sum(axes)[1:] for value in (probability * truth, probability, truth))
    present = true > 0
    if not present.any():
        return entropy
    return entropy + 1 - ((2 * overlap + 1) / (found + true + 1))[present].mean()


def fit(
    network: nn.Module,
    batch: Callable[[int], Batch],
    steps: int,
    *,
    validate: Callable[[nn.Module], float] | None = None,
    every: int = 100,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = dice_and_cross_entropy,
    learning_rate: float = 2e-3,
    weight_decay: float = 1e-4,
    warm_up: int = 100,
    average: float = 0.99,
    half: bool = False,
    checkpoint: str | os.PathLike | None = None,
    log: Callable[[dict], None] | None = None,
) -> Fit:
    """Train a network: AdamW, a cosine from `learning_rate` to nearly zero, an exponential average of the weights.

    Parameters
    ----------
    network : torch.nn.Module
        Trained in place. Seed its initialisation with ``torch.manual_seed`` before it is built.
    batch : callable
        ``batch(step) -> (inputs, targets)``. It draws from a generator seeded with the step, so that a training that
        was broken off goes on exactly as if it had not been.
    steps : int
        Number of batches.
    validate : callable, optional
        ``validate(network) -> score``, the higher the better, called on the averaged weights; the best are kept.
        Without it the last weights are the result.
    every : int
        Steps between two validations (and checkpoints).
    loss : callable
        ``loss(logits, targets)`` -> a scalar tensor.
    learning_rate, weight_decay : float
        Of AdamW; the rate climbs linearly during the first `warm_up` steps.
    average : float
        Share of the old average that every step keeps: 0.99 averages over about 100 steps.
    half : bool
        Whether the network computes in bfloat16 where PyTorch thinks it safe: about twice as fast on processors that
        know it, much slower on others. The weights and the loss stay in single precision. Not for 3D networks whose
        features become just 2 voxels deep: there PyTorch 2.13 reads memory that nobody has written when it computes
        the gradient of a convolution on a CPU.
    checkpoint : path, optional
        File that keeps the state at every validation; if it exists, the training goes on from there.
    log : callable, optional
        Called with every entry of the history.

    Returns
    -------
    Fit
        The network with its best averaged weights, their score and the history.

    Raises
    ------
    InputError
        If `steps` or `every` is less than 1, or the loss or its gradient is no longer a number.
    Cancelled
        By the listener of `progress`; the checkpoint stays, the network keeps what it has learned so far.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> line = nn.Linear(1, 1)
    >>> x = torch.linspace(-1, 1, 32)[:, None]
    >>> found = fit(line, lambda step: (x, 3 * x), 300, loss=F.mse_loss, learning_rate=0.2, weight_decay=0.0)
    >>> round(found.network.weight.item(), 1)
    3.0
    """
    if steps < 1 or every < 1:
        raise InputError(f"steps {steps} and every {every} must be at least 1")
    state = _State(network, learning_rate, weight_decay)
    if checkpoint is not None and Path(checkpoint).exists():
        state.load(Path(checkpoint))
    pending = range(state.step, steps)
    for step in track(pending, "steps"):
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate * _rate(step, steps, warm_up)
        network.train()
        inputs, targets = batch(step)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=half):
            logits = network(inputs)
        value = loss(logits.float() if half else logits, targets)
        if not torch.isfinite(value):
            raise InputError(f"the loss at step {step} is {value.item()}: lower learning_rate (now {learning_rate})")
        state.optimiser.zero_grad(set_to_none=True)
        value.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        if not torch.isfinite(norm):
            raise InputError(f"the gradient at step {step} is {norm.item()}: lower learning_rate (now {learning_rate})")
        state.optimiser.step()
        state.update_average(min(average, (step + 1) / (step + 10)))
        state.losses.append(value.item())
        state.step = step + 1
        if state.step % every == 0 or state.step == steps:
            entry = state.assess(validate)
            if log is not None:
                log(entry)
            if checkpoint is not None:
                state.save(Path(checkpoint))
    network.load_state_dict(state.best)
    return Fit(network.eval(), state.best_score, state.best_step, state.history)


def _rate(step: int, steps: int, warm_up: int) -> float:
    climb = min(1.0, (step + 1) / max(1, warm_up))
    return climb * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


class _State:
    """All that a training needs to go on: weights, their average, optimiser, best so far, history."""

    def __init__(self, network: nn.Module, learning_rate: float, weight_decay: float):
        self.network = network
        self.averaged = copy.deepcopy(network).eval()
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
        self.step = 0
        self.losses: list[float] = []
        self.history: list[dict] = []
        self.best = copy.deepcopy(network.state_dict())
        self.best_score = -math.inf
        self.best_step = 0

    @torch.no_grad()
    def update_average(self, keep: float) -> None:
        for old, new in zip(self.averaged.state_dict().values(), self.network.state_dict().values(), strict=True):
            if old.is_floating_point():
                old.lerp_(new, 1 - keep)
            else:
                old.copy_(new)

    def assess(self, validate: Callable[[nn.Module], float] | None) -> dict:
        with torch.no_grad():
            # Without validation the newest weights count as the best.
            score = float(validate(self.averaged.eval())) if validate is not None else float(self.step)
        if score > self.best_score:
            self.best, self.best_score = copy.deepcopy(self.averaged.state_dict()), score
            self.best_step = self.step
        entry = {"step": self.step, "loss": sum(self.losses) / max(1, len(self.losses)), "score": score}
        self.losses = []
        self.history.append(entry)
        return entry

    def save(self, path: Path) -> None:
        kept = {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best": self.best,
            "numbers": {"step": self.step, "best_score": self.best_score, "best_step": self.best_step},
            "history": json.dumps(self.history),
        }
        with replacing(path) as file:
            torch.save(kept, file)

    def load(self, path: Path) -> None:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        self.network.load_state_dict(kept["network"])
        self.averaged.load_state_dict(kept["averaged"])
        self.optimiser.load_state_dict(kept["optimiser"])
        self.best = kept["best"]
        self.step, self.best_step = kept["numbers"]["step"], kept["numbers"]["best_step"]
        self.best_score = kept["numbers"]["best_score"]
        self.history = json.loads(kept["history"])


def export(network: nn.Module, card: dict, folder: str | os.PathLike) -> Path:
    """Write a model folder: the weights, and the card with their SHA-256.

    Parameters
    ----------
    network : torch.nn.Module
        Its floating-point weights are stored in half precision; loading brings them back to single precision.
    card : dict
        What ``card.json`` says, but for ``loader``, ``weights`` and ``sha256``.
    folder : path
        Made where it is missing. Both files are written whole before the first takes its place, so that a full disk
        leaves an older model as it was. Should the second not follow, the SHA-256 of the card tells on loading.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    FileError
        If the files cannot be written.
    """
    safetensors = need("safetensors.torch", "Saving weights")
    folder = Path(folder)
    tensors = {name: _halved(value).contiguous() for name, value in network.state_dict().items()}
    content = safetensors.save(tensors)
    written = {"loader": "safetensors", "weights": "weights.safetensors", "sha256": hashlib.sha256(content).hexdigest()}
    text = json.dumps({**card, **written}, indent=2, ensure_ascii=False) + "\n"
    with staged(folder, overwrite=True) as stage:
        (stage / "weights.safetensors").write_bytes(content)
        (stage / "card.json").write_bytes(text.encode())
    return folder


def as_stored(network: nn.Module) -> nn.Module:
    """Round the weights, in place, to what `export` stores, so that figures are those of the shipped file."""
    rounded = {name: _halved(value).to(value.dtype) for name, value in network.state_dict().items()}
    network.load_state_dict(rounded)
    return network


def _halved(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() else value
