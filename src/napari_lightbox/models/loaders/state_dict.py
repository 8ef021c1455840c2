"""Weights in a ``.pt`` or ``.pth`` file, read as numbers only: a pickle that wants to run code is refused."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import FileError
from ..torch_import import import_torch
from . import archive

if TYPE_CHECKING:
    import torch

# Names under which training programs keep the weights inside a checkpoint.
_NESTED = ("state_dict", "model_state_dict", "network_weights", "model")


def read(path: Path) -> "dict[str, torch.Tensor]":
    """Return the tensors of a state dict, on the CPU; a checkpoint that holds one among other things is opened.

    Raises
    ------
    FileError
        If the file is damaged, holds no state dict, or needs more than ``weights_only=True`` allows.
    """
    torch = import_torch("Loading weights")
    archive.require_size(path)
    try:
        # Said outright: an environment variable can turn torch's own default off.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FileError(
            f"weights {path} hold more than numbers, or are damaged, and could run code when opened: save them again "
            "as a plain state dict or as safetensors"
        ) from error
    except Exception as error:  # a damaged pickle may raise anything
        raise FileError(f"weights {path} cannot be read ({error}): fetch the file again") from error
    for name in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not isinstance(content, Mapping) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise FileError(f"weights {path} hold no state dict: save network.state_dict() and nothing else")
    # What data-parallel training puts in front of every name.
    if content and all(str(k).startswith("module.") for k in content):
        content = {k.removeprefix("module."): v for k, v in content.items()}
    return dict(content)
