"""Around a network: one of several outputs is taken, and slices get their neighbours as channels."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from .card import Card


class Taking:
    """A network of which one output is taken; `notes` say what was left out without being asked.

    A dictionary gives what `take` names (its only entry, or ``"out"``, where nothing is named); of a tuple or list,
    `take` is the number of an entry. Where nothing is named the first is taken, which is the full size of a network
    with deep supervision.

    Parameters
    ----------
    network : callable
        Takes a tensor; returns a tensor or array, or several of them in a dictionary, tuple or list.
    card : Card
        Of the model, for its name in errors.
    take : str, int, None or callable
        Which output; or what asks the network, and takes several of them.

    Examples
    --------
    >>> Taking(lambda x: {"a": x, "b": -x}, Card("demo"), "b")(torch.ones(1))
    tensor([-1.])
    """

    def __init__(self, network: Callable[[Any], Any], card: Card, take: Any) -> None:
        self.network, self.card, self.name, self.take = network, card, card.name, take
        self.notes: list[str] = []

    def __call__(self, inputs: Any) -> Any:
        if callable(self.take):
            return self.take(self.network, inputs, self.card)
        answer = self.network(inputs)
        if isinstance(answer, Mapping):
            return self._of_names(answer)
        if isinstance(answer, tuple | list):
            return self._of_numbers(answer)
        if self.take in (None, 0):
            return answer
        raise InputError(f"model {self.name!r} gives one output, not {self.take!r}: leave take out of its card")

    def _of_names(self, answer: Mapping[Any, Any]) -> Any:
        names = ", ".join(map(str, answer))
        if isinstance(self.take, int) and 0 <= self.take < len(answer):
            return list(answer.values())[self.take]
        if self.take in answer:
            return answer[self.take]
        if self.take is None and len(answer) == 1:
            return next(iter(answer.values()))
        if self.take is None and "out" in answer:
            self._note(f"the network gives {names}: 'out' was taken")
            return answer["out"]
        wanted = "none is named" if self.take is None else f"{self.take!r} is not among them"
        raise InputError(
            f"model {self.name!r} gives the outputs {names or 'none'}, and {wanted}: name one by output.take in its "
            "card"
        )

    def _of_numbers(self, answer: tuple | list) -> Any:
        number = 0 if self.take is None else self.take
        if not isinstance(number, int) or not -1 < number < len(answer):
            raise InputError(
                f"model {self.name!r} gives {len(answer)} outputs without names, not {self.take!r}: give output.take "
                "as a number from 0 on"
            )
        if self.take is None and len(answer) > 1:
            self._note(f"the network gives {len(answer)} outputs: the first was taken")
        return answer[number]

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def with_context(image: torch.Tensor, context: int) -> torch.Tensor:
    """Give every slice its neighbours as channels.

    Parameters
    ----------
    image : (channels, z, y, x) tensor
        A frame as the network wants it.
    context : int
        Slices on each side; beyond the border the outermost slice is repeated.

    Returns
    -------
    tensor
        (channels * (2 * context + 1), z, y, x): of each channel first the slice that lies `context` before. A view of
        a copy with a few more slices where there is one channel.

    Examples
    --------
    >>> with_context(torch.arange(3.0).reshape(1, 3, 1, 1), 1)[:, :, 0, 0].tolist()
    [[0.0, 0.0, 1.0], [0.0, 1.0, 2.0], [1.0, 2.0, 2.0]]
    """
    if not context:
        return image
    depth = image.shape[1]
    longer = image.index_select(1, torch.arange(-context, depth + context).clamp(0, depth - 1))
    # (channels, z, y, x, neighbours), without copying
    around = longer.unfold(1, 2 * context + 1, 1).permute(0, 4, 1, 2, 3)
    return around[0] if image.shape[0] == 1 else around.flatten(0, 1)


def as_tensor(answer: Any) -> Any:
    """Return an array as a tensor; anything else as it is."""
    return torch.from_numpy(np.ascontiguousarray(answer)) if isinstance(answer, np.ndarray) else answer
