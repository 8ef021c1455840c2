"""Networks as they are asked: one of several, with neurons left out at random or not (Monte-Carlo dropout).

Gal and Ghahramani, "Dropout as a Bayesian approximation" (ICML 2016): what a network with dropout says of an image with
other neurons left out each time is a sample of what it could have learned.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import Any

import torch

from ..errors import InputError
from .panels import Ask

# Held while a network with dropout is asked.
_ALONE = Lock()


def _is_dropout(module: torch.nn.Module) -> bool:
    # A network from TorchScript remembers the names of its parts.
    name = getattr(module, "original_name", type(module).__name__)
    return "Dropout" in name and getattr(module, "p", 1) > 0


def dropouts(network: Any) -> list[torch.nn.Module]:
    """Return the layers of a network that leave neurons out at random.

    Examples
    --------
    >>> len(dropouts(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Dropout(0.2), torch.nn.Dropout(0.0))))
    1
    """
    while not isinstance(network, torch.nn.Module) and hasattr(network, "network"):
        network = network.network
    return [m for m in network.modules() if _is_dropout(m)] if isinstance(network, torch.nn.Module) else []


def require_dropout(network: Any, name: str, samples: int) -> None:
    """Refuse samples of a network that leaves nothing out."""
    if samples and not dropouts(network):
        raise InputError(
            f"samples {samples} needs layers of dropout, and model {name!r} has none: leave samples out, or give a "
            "list of models"
        )


@contextmanager
def leaving_out(network: Any, seed: int | None) -> Iterator[None]:
    """Leave neurons out, those that a seed says; random numbers elsewhere go on as if nothing had been."""
    if seed is None:
        yield
        return
    layers = dropouts(network)
    before = [layer.training for layer in layers]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        try:
            for layer in layers:
                layer.train(True)
            yield
        finally:
            for layer, training in zip(layers, before, strict=True):
                layer.train(training)


def asker(networks: Sequence[Callable]) -> Ask:
    """Return a function that asks one of several networks.

    Networks with dropout are asked one at a time in this process: a prediction in another thread may be of the same
    network and not leave anything out, and random numbers are torch's own.
    """
    alone = [bool(dropouts(network)) for network in networks]

    def ask(question: tuple[int, int | None, torch.Tensor]) -> Any:
        number, seed, inputs = question
        with _ALONE if alone[number] else nullcontext(), leaving_out(networks[number], seed):
            return networks[number](inputs)

    return ask
