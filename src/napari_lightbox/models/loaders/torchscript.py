"""Networks in TorchScript: weights and code in one file, made by ``torch.jit.trace`` or ``torch.jit.script``."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import FileError
from ..torch_import import import_torch
from . import archive

if TYPE_CHECKING:
    import torch

RUNS = "a TorchScript file, which brings code of its own that runs on this computer"


def read(path: Path) -> "torch.nn.Module":
    """Return the network of a file, on the CPU, in evaluation mode.

    Raises
    ------
    FileError
        If the file is damaged, no TorchScript, or holds what `archive.check` refuses.
    """
    archive.check(path)
    torch = import_torch("Loading a network")
    try:
        with warnings.catch_warnings():
            # That newer models should be made with torch.export helps nobody who only wants to run this one.
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            return torch.jit.load(str(path), map_location="cpu").eval()
    except Exception as error:  # torch raises RuntimeError and others, with the C++ stack in the text
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FileError(
            f"weights {path} cannot be opened as TorchScript ({first[:200]}): save the network with "
            "torch.jit.save, or correct the card's loader"
        ) from error
