"""How networks are asked whose answers are not labels on the image's grid, and what is done when memory runs out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from ..errors import InputError
from ..progress import Cancelled
from ..volume import Volume
from . import engine
from .asking import leavable
from .card import Card
from .plan import Plan
from .taking import Taking, with_context


@dataclass
class Session:
    """What one such prediction carries from frame to frame.

    Parameters
    ----------
    channels, card, plan
        What is run on what, and how.
    device : str
        Where the network is.
    network : callable
        What is asked.
    counter : Counter
        Of windows.
    to_cpu : callable
        Brings the network to the CPU.
    notes : list of str
        What was done when memory ran out.
    most : int or None
        How many windows, or slices, may go through the network together, after memory ran out.
    """

    channels: list[Volume]
    card: Card
    plan: Plan
    device: str
    network: Callable[[Any], Any]
    counter: engine.Counter
    to_cpu: Callable[[], None]
    notes: list[str] = field(default_factory=list)
    most: int | None = None

    def image(self, frame: int) -> torch.Tensor:
        """Return a frame as the network wants it, (channels, z, y, x)."""
        images = [volume.frame(frame) for volume in self.channels]
        if self.card.rules is not None:
            image, _ = self.card.rules.prepare(images, self.card, self.plan, self.counter)
        else:
            image = engine.prepare(images, self.card, self.plan, self.counter)
        return with_context(image, self.card.input.context)

    def answers(self, inputs: torch.Tensor) -> Iterator[tuple[torch.Tensor, Any]]:
        """Ask about a batch, with less at once where memory runs out.

        Yields
        ------
        (n, channels, ...) tensor
            A part of the batch, in order; all of it where memory suffices.
        object
            The network's answer to it, whatever that is.
        """
        done = 0
        while done < len(inputs):
            number = min(self.most or len(inputs), len(inputs) - done)
            part = inputs[done : done + number]
            try:
                answer = self._once(part)
            except engine.OutOfMemory as error:
                failed = str(error)
            else:
                yield part, answer
                done += number
                continue
            # Outside of the handler, so that nothing holds on to what the network had in use.
            self._do_with_less(number, failed)

    def _once(self, inputs: torch.Tensor) -> Any:
        """Return the answer to a batch; a failure is told in a sentence."""
        shape = tuple(inputs.shape)
        try:
            return self.network(inputs.to(self.device))
        except (Cancelled, InputError):
            raise
        except Exception as error:
            if engine.is_memory(error):
                other = "" if self.device == "cpu" else "device='cpu', or "
                raise engine.OutOfMemory(
                    f"model {self.card.name!r} needs more memory than {self.device} has for an image of shape {shape}: "
                    f"use {other}a smaller input.resize or window"
                ) from None
            said = str(error).strip().split("\n")[0][:200]
            raise InputError(
                f"model {self.card.name!r} failed on an image of shape {shape} ({type(error).__name__}: {said}): check "
                "that its card names the right channels, dims and size"
            ) from error

    def _do_with_less(self, number: int, failed: str) -> None:
        """Free memory for another try: less at once, then everything on the CPU."""
        if self.device != "cpu":
            torch.cuda.empty_cache()
        if number > 1:
            self.most = number // 2
            what = "slices" if self.plan.dims == 2 else "windows"
            self._note(f"memory ran out: {self.most} {what} instead of {number} went through the network at once")
        elif self.device != "cpu":
            self._note(f"the memory of {self.device} did not suffice: the network went on on the CPU")
            self.device = "cpu"
            self.to_cpu()
        else:
            raise engine.OutOfMemory(failed)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


@contextmanager
def session(
    channels: list[Volume], model: Any, card: Card, plan: Plan, device: str, total: int
) -> Iterator[tuple[Session, Taking]]:
    """Set torch up as predictions have it, and give what is asked, so that it can be left at any time."""
    device = engine.choose_device(device)
    counter = engine.Counter(total)
    taking = Taking(model.on(device), card, None if card.output.kind == "boxes" else card.output.take)

    def ask(inputs: torch.Tensor) -> Any:
        return taking.network(inputs) if card.output.kind == "boxes" else taking(inputs)

    def to_cpu() -> None:
        taking.network = model.on("cpu")

    # Single precision as it is written: a GPU would otherwise round to fewer digits in convolutions.
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True),
        leavable(ask, counter.add) as network,
    ):
        yield Session(channels, card, plan, device, network, counter, to_cpu), taking
