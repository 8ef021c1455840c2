"""What networks need for their windows, as far as it was learnt: from the loaded network, and remembered for quotes.

A network is followed once for each size of window (`_following`), which computes nothing and takes a second or so.
What is found is kept in the user's configuration folder, by the file of the weights, so that a quote knows it without
torch and without opening the model. No torch here.
"""

import json
import logging
import math
import os
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import LightboxError
from ..io._atomic import replacing
from . import cost
from .card import Card
from .plan import Plan

log = logging.getLogger(__name__)
LEARNING = "what the network itself needs is being worked out"
UNKNOWN = "without what the network itself needs, which is learnt when the model is first run"
# Voxels of a batch up to which nobody looks.
_LITTLE = 1 << 15
# Networks that are remembered on disk, the last ones.
_MOST = 200
_LEARN = (
    "import json, sys; source, shape, *sys.path = sys.argv[1:]; import {0} as it; it.learn(source, json.loads(shape))"
)
# What is found changes with the rules by which it is found.
_VERSION = 2
_found: "weakref.WeakKeyDictionary[Any, dict[str, int | None]]" = weakref.WeakKeyDictionary()


def learnt(plan: Plan, models: Sequence[Any]) -> Plan:
    """Return a plan that says what its network needs, where that can be learnt or is remembered.

    Parameters
    ----------
    plan : Plan
        Of the windows.
    models : sequence of Model, Card or callable
        Who is asked, one after the other. Models are followed, of cards it is known what was learnt before.
    """
    found = [_needed(model, plan) for model in models]
    known = [one for one in found if one is not None]
    return replace(plan, network_bytes=max(known)) if known and len(known) == len(found) else plan


def noted(plan: Plan, card: Card) -> tuple[str, ...]:
    """Return the note that a quote does not know the network, where it matters."""
    return (UNKNOWN,) if unlearnt(plan, card) else ()


def unlearnt(plan: Plan, card: Card) -> tuple[int, ...]:
    """Return the shape of the batches for which a network must still be followed; empty where nothing is missing."""
    missing = card.loader != "callable" and not _little(plan) and not cost.network_bytes(card, plan)
    return _shape(card, plan) if missing else ()


def command(source: str, shape: Sequence[int]) -> list[str]:
    """Return how a process of its own is started that learns what a model needs, and remembers it.

    Parameters
    ----------
    source : str
        The model, as `load` takes it. One that is not trusted stays closed.
    shape : sequence of int
        Of its batches, as `unlearnt` gives it.

    Returns
    -------
    list of str
        Empty where this Python cannot be started once more: in an application that has it inside.
    """
    if not Path(sys.executable or "").name.lower().startswith("python"):
        return []
    return [sys.executable, "-c", _LEARN.format(__name__), str(source), json.dumps(list(shape)), *sys.path]


def learn(source: str, shape: Sequence[int]) -> None:
    """Learn what a model needs for batches of a shape, behind everything else that this computer does."""
    from .loaders import load

    if hasattr(os, "nice"):
        os.nice(10)
    model = load(source)
    _of(model.card, model.module, tuple(shape))


def _little(plan: Plan) -> bool:
    return math.prod(plan.window) * plan.batch < _LITTLE


def _needed(model: Any, plan: Plan) -> int | None:
    if _little(plan):
        return None
    card, module = (model, None) if isinstance(model, Card) else (getattr(model, n, None) for n in ("card", "module"))
    if card is None or cost.compiled(card):
        return None
    return _of(card, module, _shape(card, plan))


def _shape(card: Card, plan: Plan) -> tuple[int, ...]:
    return plan.batch, card.input.network_channels, *plan.window[-card.input.dims :]


def _of(card: Card, module: Any, shape: tuple[int, ...]) -> int | None:
    # As `tables` runs them.
    tight = card.output.kind in ("class", "value")
    key = " ".join(map(str, shape)) + " tight" * tight
    known, name = {} if module is None else _found.setdefault(module, {}), _name(card)
    if key not in known:
        known[key] = _remembered().get(name, {}).get(key)
        if known[key] is None and module is not None:
            known[key] = _followed(module, shape, tight)
            _remember(name, key, known[key])
    return known[key]


def _followed(module: Any, shape: tuple[int, ...], tight: bool) -> int | None:
    own = getattr(module, "needed", None)
    if callable(own):
        # A network that another program runs says it itself.
        return own(shape)
    from ._following import needed

    return needed(module, shape, tight=tight)


# On disk ----------------------------------------------------------------------------------------------------------


def _name(card: Card) -> str | None:
    """Return what a network is remembered by: its file, as it is; None where it has none."""
    try:
        path = card.weights_path()
        about = path.stat()
    except (LightboxError, OSError):
        return None
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    return f"{path.resolve()} {about.st_size} {about.st_mtime_ns} {threads}"


def _file() -> Path:
    from .loaders.trust import config_folder

    return config_folder() / "network-memory.json"


def _remembered() -> dict[str, dict[str, int]]:
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
        networks = found["networks"] if found["version"] == _VERSION else {}
        known = {str(name): {str(k): int(v) for k, v in one.items()} for name, one in networks.items()}
        return {name: {k: v for k, v in one.items() if v > 0} for name, one in known.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RuntimeError):
        # It is only what can be learnt again.
        return {}


def _remember(name: str | None, key: str, size: int | None) -> None:
    if name is None or size is None:
        return
    networks = _remembered()
    one = {**networks.pop(name, {}), key: size}
    networks = dict([*networks.items(), (name, one)][-_MOST:])
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        with replacing(_file()) as file:
            file.write(json.dumps({"version": _VERSION, "networks": networks}, indent=1).encode())
    except (OSError, RuntimeError, LightboxError) as error:  # nobody's home is known, for one
        log.info("what networks need is not remembered: %s", error)
