"""The command `lightbox models`: the shipped models, and the architectures that weights can be for."""

import argparse
import inspect
import json
from collections.abc import Callable
from typing import Any

from ..errors import MissingPart

# Networks of nnU-Net take what its plans write.
_PLANS = "dims, in_channels, out_channels, and the arch_kwargs of nnU-Net's plans"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", nargs="?", help="show this one alone, by its name or folder")


def run(args: argparse.Namespace) -> int:
    """Print the cards, and where none is named the architectures."""
    from ..models.loaders import available, read_card

    cards = [read_card(args.model)] if args.model else [*available().values()]
    print("\n\n".join(_card_text(card) for card in cards) if cards else "No models are shipped with this version.")
    if not args.model:
        print("\nArchitectures that a card can name, with their arguments:")
        print("\n".join(f"  {line}" for line in _architectures()))
    return 0


def _card_text(card: Any) -> str:
    first, *rest = card.describe().splitlines()
    return "\n".join([first, *(f"  {line}" for line in rest)])


def _architectures() -> list[str]:
    """Return a line for each architecture; one that says why where torch is missing."""
    from ..models.torch_import import import_torch

    try:
        import_torch("A list of the architectures")
    except MissingPart as error:
        return [str(error)]
    from ..models.networks import ARCHITECTURES

    return [f"{name}: {_arguments(build)}" for name, build in ARCHITECTURES.items()]


def _arguments(build: Callable) -> str:
    known = inspect.signature(build).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in known):
        return _PLANS
    return ", ".join(p.name if p.default is p.empty else f"{p.name}={json.dumps(p.default)}" for p in known)
