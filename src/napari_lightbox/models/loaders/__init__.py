"""Models from their folders: the card is checked, the weights are hashed, and only then is anything opened."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import FileError, InputError
from ..card import Card, file_sha256
from ..torch_import import import_torch
from . import monai, nnunet
from .trust import check as check_trust

if TYPE_CHECKING:
    import torch

SHIPPED = Path(__file__).resolve().parent.parent / "shipped"
# Formats that bring the network itself; the others hold numbers only.
_PROGRAMS = ("torchscript", "export", "onnx")


@dataclass(eq=False)
class Model:
    """A network with its card, ready to run.

    Parameters
    ----------
    card : Card
        What it takes and gives.
    module : torch.nn.Module
        On the CPU, in evaluation mode.
    sha256 : str
        Hash of the weights' file.

    Examples
    --------
    >>> from napari_lightbox.models.networks import build
    >>> Model(Card("demo"), build("unet", dims=2, channels=(4, 8))).name
    'demo'
    """

    card: Card
    module: "torch.nn.Module"
    sha256: str = ""
    _elsewhere: dict = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.module.eval()
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)

    @property
    def name(self) -> str:
        """Name of the model, from its card."""
        return self.card.name

    def describe(self) -> str:
        """Say in a few lines what the card says."""
        return self.card.describe()

    def on(self, device: str) -> "torch.nn.Module":
        """Return the module on a device; the one on the CPU stays where it is."""
        if device == "cpu":
            return self.module
        if device not in self._elsewhere:
            import copy

            self._elsewhere[device] = copy.deepcopy(self.module).to(device)
        return self._elsewhere[device]


def available() -> dict[str, Card]:
    """Return the cards of the models that come with the package, by name.

    Examples
    --------
    >>> all(card.name == name for name, card in available().items())
    True
    """
    cards = [Card.read(path.parent) for path in sorted(SHIPPED.glob("*/card.json"))]
    return {card.name: card for card in cards}


def read_card(path_or_name: str | os.PathLike) -> Card:
    """Return the card of a shipped model or of a model's folder, without opening the weights and without torch.

    A results folder of nnU-Net v2 has no ``card.json``: its card is made of the plans; that of a MONAI bundle of its
    metadata and inference configuration.

    Raises
    ------
    FileError
        If there is no such model.
    InputError
        If the card is wrong.
    """
    if isinstance(path_or_name, str):
        folder = SHIPPED / path_or_name
        if folder.parent == SHIPPED and (folder / "card.json").is_file():
            return Card.read(folder)
        if not path_or_name or not Path(path_or_name).exists():
            names = ", ".join(available()) or "none"
            raise FileError(
                f"model {path_or_name!r} is neither shipped ({names}) nor a folder: give one of these names or the "
                "folder that holds card.json"
            )
    path = Path(path_or_name)
    results = _results(path)
    if results is not None:
        return nnunet.read_card(results)
    bundle = _bundle(path)
    if bundle is not None:
        return monai.read_card(bundle)
    return Card.read(path.parent if path.name == "card.json" else path)


def _results(path: Path) -> nnunet.Results | None:
    """Return the results of nnU-Net that a path means, where there is no card."""
    return None if path.name == "card.json" or (path / "card.json").is_file() else nnunet.find(path)


def _bundle(path: Path) -> monai.Bundle | None:
    """Return the MONAI bundle that a path means, where there is no card."""
    return None if path.name == "card.json" or (path / "card.json").is_file() else monai.find(path)


def load(path_or_name: str | os.PathLike, trust: bool = False) -> Model:
    """Load a model.

    Parameters
    ----------
    path_or_name : str or path
        Name of a shipped model, such as ``"ct-regions"``, a folder with ``card.json``, a results folder of nnU-Net
        v2, one of its folds or checkpoints, or a MONAI bundle.
    trust : bool
        That you trust the file to run code on this computer, which TorchScript and torch.export files do when they
        are opened; it is remembered by the file's SHA-256. safetensors, state dicts, ONNX, nnU-Net and MONAI
        bundles that are understood here never need it; what of a bundle is not, only MONAI itself runs, with trust.
        Compiled code and strange pickles are refused in any case.

    Returns
    -------
    Model

    Raises
    ------
    FileError
        If the folder, the card or the weights are missing, damaged, or have another SHA-256 than the card says, or
        hold what is never run.
    InputError
        If the card is wrong, the weights do not fit its architecture, or the file is not trusted (`Untrusted`).
    MissingPart
        If torch or safetensors is not installed.
    """
    card = read_card(path_or_name)
    if card.loader == "nnunet":
        module, found = nnunet.load(nnunet.find(card.folder), card, _fill)
        return Model(card, module, found)
    if card.loader == "monai":
        return Model(*monai.load(monai.find(card.folder), trust, _fill))
    found = card.verify()
    if card.loader in _PROGRAMS:
        return _program(card, found, trust)
    import_torch()
    from ..networks import build
    from . import safetensors, state_dict

    reader = {"safetensors": safetensors, "state_dict": state_dict}[card.loader]
    tensors = reader.read(card.weights_path())
    module = build(card.architecture["name"], **card.architecture.get("args", {}))
    _fill(module, tensors, card)
    return Model(card, module, found)


def _program(card: Card, sha256: str, trust: bool) -> Model:
    """Load a network that comes with its weights, after a look at what the file holds and whether it is trusted."""
    from . import archive, export, onnx, torchscript

    path = card.weights_path()
    if card.loader == "onnx":
        several = "batch" if card.outputs or card.output.take is not None else ""
        module = onnx.read(path, "each" if card.output.kind == "boxes" else several)
        if module.files:
            sha256 = hashlib.sha256("".join([sha256, *map(file_sha256, module.files)]).encode()).hexdigest()
    else:
        reader = {"torchscript": torchscript, "export": export}[card.loader]
        archive.check(path)
        check_trust(card.name, sha256, trust, reader.RUNS)
        module = reader.read(path)
    fixed = getattr(module, "fixed", None)
    if fixed is not None:
        card = _fitted(card, fixed)
    return Model(card, module, sha256)


def _fitted(card: Card, fixed: tuple[int | None, ...]) -> Card:
    """Return the card with the window that the network was exported for."""
    if len(fixed) != card.input.dims + 2:
        raise InputError(
            f"model {card.name!r} has input.dims {card.input.dims} in its card, but was exported for {len(fixed) - 2} "
            "axes: correct input.dims"
        )
    if fixed[1] not in (None, card.input.network_channels):
        raise InputError(
            f"model {card.name!r} has {card.input.network_channels} input channels in its card, but was exported for "
            f"{fixed[1]}: correct input.channels"
        )
    if None in fixed[2:]:
        return card
    return replace(card, window=replace(card.window, size=tuple(fixed[2:])))


def _fill(module: "torch.nn.Module", tensors: Mapping[str, Any], card: Card) -> None:
    """Put the weights into the module; refuse them unless names and shapes are the same."""
    own = module.state_dict()
    missing = [k for k in own if k not in tensors]
    unexpected = [k for k in tensors if k not in own]
    other = [k for k in own if k in tensors and own[k].shape != tensors[k].shape]
    if missing or unexpected or other:
        first = (missing or unexpected or other)[0]
        remedy = "correct architecture.args in the card, or take the weights that belong to it"
        if card.loader == "nnunet":
            remedy = "its trainer changed the network that the plans name, so run it with nnU-Net"
        raise InputError(
            f"the weights of model {card.name!r} do not fit its architecture {card.architecture['name']!r}: "
            f"{len(missing)} are missing, {len(unexpected)} unexpected, {len(other)} of another shape (first: "
            f"{first!r}): {remedy}"
        )
    module.load_state_dict(dict(tensors))
