"""Weights in a ``.safetensors`` file: numbers only, nothing in it can run."""

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import FileError, need

if TYPE_CHECKING:
    import torch


def read(path: Path) -> "dict[str, torch.Tensor]":
    """Return the tensors of a file, on the CPU.

    Raises
    ------
    FileError
        If the file is damaged or of another kind.
    MissingPart
        If safetensors is not installed.
    """
    library = need("safetensors", "Loading weights")
    files = need("safetensors.torch", "Loading weights")
    try:
        return files.load_file(path, device="cpu")
    except (library.SafetensorError, OSError, ValueError) as error:
        raise FileError(f"weights {path} are no readable safetensors file ({error}): fetch the file again") from error
