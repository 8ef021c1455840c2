"""The fastest way that is at hand to ask a network: our compiled layers, fewer digits, or PyTorch as it is.

*Exact* means single precision throughout. Our own U-Nets then go through `_fused`, whose sums are taken in another
order than PyTorch's: results differ by rounding, less than 1e-5 of the largest. All other networks are asked as they
are.

*Fast* may round features and weights to bfloat16, with sums in single precision. Whether that gains anything depends
on the processor: every way is tried once on the first window, and the fastest is kept for that network and size of
window until the process ends.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..errors import InputError
from ..ops import _ready
from . import gpu
from ._fused import Fused
from ._fused_layers import Layer, UnfitError, layers_of
from .folds import Folds, together

log = logging.getLogger(__name__)
PRECISIONS = ("exact", "fast")
# Multiplications of a window below which calling our layers one by one costs more than they gain.
_LITTLE = 2e7
# All ways are tried so many times, but not again after so many seconds.
_ROUNDS, _ENOUGH = 3, 1.0
# How much faster fewer digits must be.
_WORTH = 1.1
# Features in the order that a GPU's units for few digits read.
_LAST = "channels-last"
# Sizes of window whose memory is kept.
_KEPT = 2
_NO_SHORT_NUMBERS = "this processor has no instructions for bfloat16: precision 'fast' computes as 'exact' does"
_NO_NETWORK = "this model is no network of PyTorch: precision 'fast' computes as 'exact' does"
# Network -> for a device and a shape of windows: the way that was fastest, and what was measured.
_chosen: WeakKeyDictionary[nn.Module, dict[tuple, tuple[str, tuple[str, ...]]]] = WeakKeyDictionary()


def prepare(network: Any, card: Any, device: str, precision: str, window: Sequence[int] | None = None) -> "Prepared":
    r"""Return a function that asks a network in the fastest way at hand.

    Parameters
    ----------
    network : torch.nn.Module or callable
        Takes (n, channels, \*size) and returns (n, classes, \*size). Its weights must not change afterwards.
    card : Card or None
        Of the model; only named in messages.
    device : str
        torch device on which the network lies: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    precision : {"exact", "fast"}
        Single precision throughout, or with fewer digits wherever that is faster.
    window : sequence of int, optional
        Size of the windows, (y, x) or (z, y, x): kernels for them are made ready in the background. The first window
        waits for them, so that all are answered alike; for sizes that do not fit, PyTorch computes.

    Returns
    -------
    Prepared
        To be called with tensors on `device`, in inference mode.

    Raises
    ------
    InputError
        If `precision` is unknown.

    Examples
    --------
    >>> ask = prepare(nn.Conv2d(1, 2, 1), None, "cpu", "exact", (8, 8))
    >>> ask(torch.zeros(1, 1, 8, 8)).shape, ask.way
    (torch.Size([1, 2, 8, 8]), 'plain')
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is unknown: use 'exact' or 'fast'")
    prepared = Prepared(network, str(device), precision)
    if window is not None and prepared.ours is not None:
        prepared.ours.ask_for(tuple(window))
    return prepared


class Prepared:
    """Asks a network in the fastest way at hand; made by `prepare`.

    Attributes
    ----------
    way : str
        How it was asked last: ``"plain"``, ``"fused"``, ``"fused bfloat16"``, ``"bfloat16"`` or ``"float16"``;
        the last two on a GPU also with ``" channels-last"``.
    notes : tuple of str
        What to tell of precision ``"fast"``; empty before the first window, and in exact mode.
    """

    def __init__(self, network: Any, device: str, precision: str) -> None:
        self.network, self.device, self.precision = network, device, precision
        self.way, self.notes = "plain", ()
        self.ours = _Ours.of(network, precision == "fast") if device == "cpu" else None

    def __call__(self, x: torch.Tensor) -> Any:
        """Ask about windows (n, channels, *size)."""
        fused = self.ours is not None and self.ours.answers(x)
        if self.precision == "exact":
            return self._ask("fused" if fused else "plain", x)
        if not isinstance(self.network, nn.Module):
            self.notes = (_NO_NETWORK,)
            return self._ask("plain", x)
        kind = (self.device, fused, tuple(x.shape[1:]))
        known = _chosen.setdefault(self.network, {})
        if kind not in known:
            answer, known[kind] = self._tried(x, self._ways(fused))
            self.way, self.notes = known[kind]
            return answer
        way, self.notes = known[kind]
        return self._ask(way, x)

    def _ways(self, fused: bool) -> list[str]:
        """Return all ways that are worth a trial, the exact one first."""
        if self.device != "cpu":
            short = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
            return ["plain", short, f"{short} {_LAST}"]
        if not fused:
            return ["plain", "bfloat16"] if _short_numbers() else ["plain"]
        short = ["fused bfloat16"] if True in self.ours.kinds else []
        return ["fused", *short, *(["bfloat16"] if _tiles() else [])]

    def _tried(self, x: torch.Tensor, ways: list[str]) -> tuple[Any, tuple[str, tuple[str, ...]]]:
        """Ask in all ways; return the answer of the fastest, and its name with a note."""
        if len(ways) == 1:
            return self._ask(ways[0], x), (ways[0], (_NO_SHORT_NUMBERS,))
        answers: dict[str, Any] = {}
        seconds = dict.fromkeys(ways, float("inf"))
        spent = 0.0
        for number in range(_ROUNDS):
            # In turns, so that other work on the machine slows all of them.
            for way in [w for w in ways if not number or w in answers]:
                try:
                    answers[way], needed = self._timed(way, x)
                except (RuntimeError, NotImplementedError) as error:
                    if way == ways[0]:
                        raise
                    log.info("%s cannot be computed in %s: %s", type(self.network).__name__, way, error)
                    continue
                seconds[way], spent = min(seconds[way], needed), spent + needed
                if self.ours is not None:
                    self.ours.free()
            if spent > _ENOUGH:
                break
        best = min(seconds, key=seconds.get)
        gain = seconds[ways[0]] / seconds[best]
        if gain < _WORTH:
            best = ways[0]
            note = "fewer digits were tried and are not faster here: precision 'fast' computes as 'exact' does"
        else:
            digits = best.removeprefix("fused ").partition(" ")[0]
            note = f"features and weights rounded to {digits}, {gain:.1f} times as fast as exact here"
        return answers[best], (best, (note,))

    def _timed(self, way: str, x: torch.Tensor) -> tuple[Any, float]:
        """Return an answer, and how long it took."""
        self._wait()
        # Time of this process: what others do meanwhile says nothing about the ways. A GPU's is not in it.
        clock = time.process_time if self.device == "cpu" else time.perf_counter
        began = clock()
        # A network may write into what it is given.
        answer = self._ask(way, x.clone())
        self._wait()
        return answer, max(clock() - began, 1e-9)

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)

    def _ask(self, way: str, x: torch.Tensor) -> Any:
        self.way = way
        if way.startswith("fused"):
            return self.ours.ask(x, paired=way == "fused bfloat16")
        digits, _, order = way.partition(" ")
        if self.device != "cpu" and isinstance(self.network, nn.Module):
            gpu.arrange(self.network, channels_last=order == _LAST)
        if way == "plain":
            return self.network(x)
        with torch.autocast(torch.device(self.device).type, getattr(torch, digits)):
            return _widened(self.network(gpu.arranged(x) if order == _LAST else x))


def _widened(answer: Any) -> Any:
    """Return an answer, or all answers of a network that gives several, in single precision."""
    if isinstance(answer, torch.Tensor):
        return answer.to(torch.float32) if answer.is_floating_point() else answer
    if isinstance(answer, Mapping):
        return {name: _widened(one) for name, one in answer.items()}
    return [_widened(one) for one in answer] if isinstance(answer, tuple | list) else answer


class _Ours:
    """A network of ours, or several of one kind whose mean is the answer, as compiled layers for sizes of window."""

    def __init__(self, network: nn.Module, folds: list[list[Layer]], short: bool, *, apart: bool = False) -> None:
        from ..ops._kernels import conv

        self._apart = apart
        self._parts, self._folds, self._widths = list(network.modules()), folds, conv.tile_widths()
        # Single precision, and pairs of bfloat16 where they are wanted and the processor has them.
        self.kinds = (False, True) if short and "bf16" in conv.features_of_processor() else (False,)
        self._fused: dict[tuple[int, ...], dict[bool, list[Fused]]] = {}

    @classmethod
    def of(cls, network: Any, short: bool) -> "_Ours | None":
        """Return None for a network that is not ours, or where there are no kernels for it."""
        if not isinstance(network, nn.Module) or not _ready.available():
            return None
        several = isinstance(network, Folds)
        try:
            folds = [layers_of(one) for one in (network.folds if several else [network])]
        except UnfitError as reason:
            log.debug("computed by PyTorch: %s", reason)
            return None
        from ..ops._kernels import conv

        apart = several and network.apart
        return cls(network, folds, short, apart=apart) if conv.features_of_processor() else None

    def answers(self, x: torch.Tensor) -> bool:
        """Say whether windows like this one can be asked about now."""
        # Dropout that is switched on, for one, makes the layers others.
        still = not any(part.training for part in self._parts)
        right = x.dtype == torch.float32 and x.device.type == "cpu"
        fitting = still and right and x.shape[1] == self._folds[0][0].weight.shape[1]
        return fitting and self._settled(self._of_size(tuple(x.shape[2:])))

    def ask_for(self, size: tuple[int, ...]) -> None:
        """Have the kernels for a size made ready, and do not wait for them."""
        for folds in self._of_size(size).values():
            folds[0].ask_for()

    @staticmethod
    def _settled(found: dict[bool, list[Fused]]) -> bool:
        """Wait for the kernels: answers differ by rounding, so all windows of all runs must be answered alike."""
        return bool(found) and all(folds[0].wait() for folds in found.values())

    def _of_size(self, size: tuple[int, ...]) -> dict[bool, list[Fused]]:
        if size not in self._fused:
            while len(self._fused) >= _KEPT:
                self._fused.pop(next(iter(self._fused)))
            self._fused[size] = self._made(size)
        return self._fused[size]

    def _made(self, size: tuple[int, ...]) -> dict[bool, list[Fused]]:
        """Return the folds for a size, in each kind of numbers; nothing where the size is not for them."""
        try:
            made = {
                paired: [Fused(layers, size, paired=paired, widths=self._widths) for layers in self._folds]
                for paired in self.kinds
            }
        except ValueError as reason:
            log.debug("computed by PyTorch: %s", reason)
            return {}
        for first, *rest in made.values():
            for fold in rest:
                fold.share_memory_of(first)
        return made if made[False][0].work >= _LITTLE else {}

    def free(self) -> None:
        """Give back the memory between layers; the next window asks for it again."""
        for folds in (folds for kinds in self._fused.values() for folds in kinds.values()):
            folds[0].free()

    def ask(self, x: torch.Tensor, *, paired: bool) -> torch.Tensor:
        """Return the answer, that of all folds together."""
        answers = [fold(x) for fold in self._fused[tuple(x.shape[2:])][paired]]
        return together(answers, apart=self._apart) if len(answers) > 1 else answers[0]


def _short_numbers() -> bool:
    """Say whether PyTorch's own layers have instructions for bfloat16 here."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)


def _tiles() -> bool:
    """Say whether the processor multiplies whole tiles of bfloat16, which our layers do not use."""
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())
