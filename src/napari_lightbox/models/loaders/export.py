"""Networks exported with ``torch.export``: a ``.pt2`` file with the graph and the weights."""

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import FileError, InputError
from ..torch_import import import_torch
from . import archive

if TYPE_CHECKING:
    import torch

RUNS = "a torch.export file, whose graph is rebuilt by running expressions from the file"


def read(path: Path) -> "torch.nn.Module":
    """Return the network of a file, on the CPU.

    It answers windows of the shapes it was exported for: its attribute ``fixed`` says them, None where any will do. A
    batch of more windows than it takes at a time is cut up.

    Raises
    ------
    FileError
        If the file is damaged, no exported program, or holds what `archive.check` refuses.
    InputError
        If the network takes anything but one tensor (batch, channels, then the axes).
    """
    archive.check(path)
    torch = import_torch("Loading a network")
    log = logging.getLogger("torch.export")
    level = log.level
    try:
        log.setLevel(logging.ERROR)
        program = torch.export.load(str(path))
    except Exception as error:  # anything may come out of a damaged graph
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FileError(
            f"weights {path} cannot be opened as a torch.export program ({first[:200]}): save it with "
            f"torch.export.save of torch {torch.__version__.split('+')[0]} or older, or correct the card's loader"
        ) from error
    finally:
        log.setLevel(level)
    names = set(program.graph_signature.user_inputs)
    inputs = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(inputs) != 1 or not isinstance(inputs[0], torch.Tensor) or inputs[0].ndim not in (4, 5):
        raise InputError(
            f"weights {path} take {len(inputs)} inputs, where one tensor (batch, channels, then 2 or 3 axes) is "
            "needed: export the network itself, without what prepares its input"
        )
    return _module(program, _fixed(inputs[0]))


def _fixed(example: "torch.Tensor") -> tuple[int | None, ...]:
    """Return the sizes that may not change; None for those that may."""
    return tuple(n if isinstance(n, int) else None for n in example.shape)


def _module(program: Any, fixed: tuple[int | None, ...]) -> "torch.nn.Module":
    import torch

    class Exported(torch.nn.Module):
        """A program as a module that can be moved and asked for any number of windows."""

        def __init__(self) -> None:
            super().__init__()
            self.program = program
            self.graph = program.module()
            self.fixed = fixed

        def train(self, mode: bool = True) -> "torch.nn.Module":
            # An exported graph is what it is: it was exported in one mode or the other.
            return self

        def __deepcopy__(self, memo: dict) -> "torch.nn.Module":
            return _module(program, fixed)

        def to(self, device: Any) -> "torch.nn.Module":
            # Constants in the graph name their device.
            from torch.export.passes import move_to_device_pass

            return _module(move_to_device_pass(program, device), fixed)

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            size = tuple(x.shape[2:])
            if any(want not in (None, n) for want, n in zip(fixed[2:], size, strict=True)):
                raise InputError(
                    f"the exported network answers windows of {fixed[2:]} only, not {size}: give window.size "
                    "in the card, or export it with dynamic shapes"
                )
            batch = fixed[0]
            if batch in (None, len(x)):
                return self.graph(x)
            missing = math.ceil(len(x) / batch) * batch - len(x)
            filled = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing else x
            return torch.cat([self.graph(part) for part in filled.split(batch)])[: len(x)]

    return Exported()
