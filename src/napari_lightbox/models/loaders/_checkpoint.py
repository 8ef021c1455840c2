"""Checkpoints of nnU-Net: what they say of themselves, and their weights. Nothing in them is ever run."""

import io
import pickle
import zipfile
from collections import OrderedDict
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import FileError
from ..torch_import import import_torch
from . import archive

if TYPE_CHECKING:
    import torch

_LARGEST_PICKLE = 1 << 28
# What is put in front of names by training on several GPUs, and by torch.compile.
_PREFIXES = ("module.", "_orig_mod.")


class _Inert:
    """Stands for whatever a pickle names: it takes everything, and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    extend = add = append


class _Inspector(pickle.Unpickler):
    """Reads the plain values of a pickle. No name in it is looked up: each is an `_Inert`, also in a strange file."""

    def find_class(self, module: str, name: str) -> Any:
        return OrderedDict if (module, name) == ("collections", "OrderedDict") else _Inert

    def persistent_load(self, pid: Any) -> Any:
        return _Inert()


def inspect(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds beside tensors, without torch: texts, numbers, lists and tables.

    Raises
    ------
    FileError
        If the file is damaged, or no checkpoint that ``torch.save`` of torch 1.6 or newer wrote.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = next(m for m in archive.infolist() if m.filename.endswith("data.pkl"))
            if member.file_size > _LARGEST_PICKLE:
                raise FileError(f"checkpoint {path} holds a table of {member.file_size} bytes, which no network needs")
            content = _Inspector(io.BytesIO(archive.read(member))).load()
    except FileError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise FileError(
            f"checkpoint {path} is damaged, or none of nnU-Net v2: copy it again from its source"
        ) from error
    if not isinstance(content, dict):
        raise FileError(f"checkpoint {path} is none of nnU-Net v2: give the file that its training wrote")
    return content


def weights(path: Path) -> "dict[str, torch.Tensor]":
    """Return the network's weights, on the CPU; beside tensors only numbers of numpy are let through.

    Raises
    ------
    FileError
        If the file is damaged, holds no weights, or anything that could run code.
    """
    torch = import_torch("Loading weights")
    archive.require_size(path)
    try:
        with _numbers_allowed(torch):
            # Mapped: the state of the optimiser, twice the size of the network, is not read.
            content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise FileError(
            f"checkpoint {path} holds more than numbers, or is damaged, and could run code when opened, so it stays "
            "closed: ask for one that nnU-Net itself wrote, or for the weights as safetensors"
        ) from error
    except Exception as error:  # a damaged file may raise anything
        raise FileError(f"checkpoint {path} cannot be read ({error}): copy it again from its source") from error
    found = content.get("network_weights") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise FileError(f"checkpoint {path} holds no network_weights: give the file that nnU-Net's training wrote")
    for prefix in _PREFIXES:
        if found and all(str(name).startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return dict(found)


def _numbers_allowed(torch: Any) -> Any:
    """Let ``weights_only`` read numpy's single numbers, which nnU-Net's log of the training holds."""
    allow = getattr(torch.serialization, "safe_globals", None)
    if allow is None:
        return nullcontext()
    scalar = np._core.multiarray.scalar
    kinds = [np.dtype(name) for name in ("f2", "f4", "f8", "i4", "i8", "u1", "?")]
    return allow([scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *{type(kind) for kind in kinds}])
