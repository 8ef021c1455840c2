"""What a prediction will need, worked out before it runs, and how it is kept within a budget. Without torch.

First the probabilities go to disk, then the plane is divided: the first costs nothing but space, the second makes
windows run twice. Neither changes a label.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import InputError
from ..memory import free_memory
from ..ops import _ready
from ..volume import Volume
from . import _unet_memory, bands, chunks
from .card import Card
from .plan import STRIP_BYTES, Plan, Quote, human_bytes

# Probabilities that need more than this in single precision are kept in half precision.
HALF_ABOVE = 1 << 30
# Share of the free memory that a prediction may take where nothing else is said.
SHARE = 0.5
# Results that are smaller stay in memory in any case.
_SMALL = 64 << 20
# What a prediction takes whatever it does: the network's thread, and memory that was freed but not given back.
_ALWAYS = 16 << 20
# The heap does not give smaller arrays back: an answer that is freed leaves a gap too small for the next, as the
# windows that are asked about go there first. Now and then the next one fits: half of it is what it comes to.
_GIVEN_BACK = 32 << 20
# What writing compressed chunks takes beside the results: the library, its threads, and slabs on their way to disk.
CHUNKING = 12 << 20
# What the first convolutions bring with them, whatever their size: kernels, gaps in the heap, and the compiler where
# nobody has loaded it.
_KERNELS, _COMPILER = 34 << 20, 56 << 20
# Arrays of the size of the first level's features that a U-Net has in use at once where PyTorch computes it;
# convolutions pad features to 16.
_LEVELS = 6.4
_LEAST_FEATURES = 16
# Architectures that run through compiled layers where there is a compiler.
_COMPILED = ("unet", "unet2d", "plain_conv_unet", "residual_encoder_unet", "residual_unet")
# Bytes of the pieces in which `sums` weighs answers.
_PIECE = 4 << 20


def budget(memory: float | None) -> float:
    """Return the bytes that a prediction may take.

    Parameters
    ----------
    memory : int or float or None
        Bytes; up to 1, a share of what is free; None for half of it.

    Raises
    ------
    InputError
        If it is no number greater than 0.

    Examples
    --------
    >>> budget(2e9)
    2000000000.0
    """
    number = isinstance(memory, int | float | np.number) and not isinstance(memory, bool)
    if memory is not None and (not number or not memory > 0):
        raise InputError(f"memory {memory!r} must be bytes, such as 4e9, or a share of the free memory, such as 0.5")
    if memory is not None and memory > 1:
        return float(memory)
    free = free_memory()
    return math.inf if free is None else free * (SHARE if memory is None else memory)


def refusal(
    needed: float, memory: float | None, allowed: float | None, kind: str, remedy: str | None = None
) -> str | None:
    """Say why a prediction does not fit into memory, and what helps; None where it fits.

    Parameters
    ----------
    needed : float
        Bytes.
    memory : int or float or None
        As the caller gave it.
    allowed : float or None
        Bytes that it stands for; where `memory` is None, what is free, None where that is not known.
    kind : str
        What the model gives: ``"image"`` has no probabilities that could be left out.
    remedy : str, optional
        What would fit, as `remedy` says it.
    """
    if allowed is None or needed <= allowed:
        return None
    if remedy is None:
        remedy = "crop or resample the image"
        remedy = remedy if kind == "image" else f"keep fewer probabilities, or {remedy}"
    said = f"{human_bytes(allowed)} are free"
    if memory is not None:
        said, remedy = f"{human_bytes(allowed)} are allowed", f"allow more as memory, or {remedy}"
    return f"the prediction needs about {human_bytes(needed)} of memory and {said}: {remedy}"


def told(quote: Quote, memory: float | None, kind: str, remedy: Callable[[float], str] | None = None) -> Quote:
    """Return a quote that says whether it fits into memory; `remedy` is asked what would fit into so many bytes."""
    allowed = free_memory() if memory is None else budget(memory)
    if allowed is None or quote.memory_bytes <= allowed:
        return quote
    problem = refusal(quote.memory_bytes, memory, allowed, kind, remedy and remedy(allowed))
    return replace(quote, notes=(problem, *quote.notes), problem=problem)


def require(quote: Quote, memory: float | None, kind: str) -> None:
    """Refuse what does not fit into memory."""
    problem = told(quote, memory, kind).problem
    if problem:
        raise InputError(problem)


@dataclass(frozen=True)
class Bill:
    """How a prediction is kept within its budget, and what it then needs.

    Parameters
    ----------
    blocks : tuple of Block
        Into which the plane of a frame is divided.
    room : float
        Bytes for the sums.
    memory_bytes, disk_bytes : int
        What is needed.
    dtype : type
        Of the probabilities that are kept.
    on_disk : bool
        Whether these are on disk.
    least_bytes : int
        What would be needed of an image of one window.
    always_bytes : int
        What is needed whatever the image and the window are.
    """

    blocks: tuple[bands.Block, ...]
    room: float
    memory_bytes: int
    disk_bytes: int
    dtype: type
    on_disk: bool
    least_bytes: int = 0
    always_bytes: int = 0

    @property
    def windows(self) -> int:
        """Windows that a frame is run in."""
        return bands.count(self.blocks)

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know of it."""
        found = []
        if self.dtype is np.float16:
            found.append(
                f"probabilities are kept in half precision (3 digits), as they need more than "
                f"{human_bytes(HALF_ABOVE)} in single"
            )
        if self.on_disk:
            found.append("probabilities are kept on disk, in a temporary file that is gone with the last of them")
        if len(self.blocks) > 1:
            found.append(f"the plane is divided into {len(self.blocks)} parts to need less memory")
        return tuple(found)


def draw_up(
    volumes: Sequence[Volume], plan: Plan, card: Card, most: float, classes: int, *, answers: int = 1, passes: int = 1
) -> Bill:
    """Return how a prediction stays within `most` bytes, where it can.

    Parameters
    ----------
    volumes : sequence of Volume
        The images.
    plan, card : Plan, Card
        What is done.
    most : float
        The budget.
    classes : int
        That the network gives.
    answers, passes : int
        How many answers to each window are summed up on their own, and how often it is asked about.
    """
    options = plan.options
    every = classes if options.probabilities == "all" or options.kind == "image" else len(options.probabilities)
    single = 4 * every * math.prod(plan.grid.shape)
    activated = options.kind != "image" and options.activation != "none"
    dtype = np.float16 if activated and single > HALF_ABOVE else np.float32
    kept = single // 2 if dtype is np.float16 else single
    results = math.prod(plan.grid.shape) * (
        (options.kind != "image") * (1 if classes <= 256 else 2) + 4 * bool(options.uncertainty)
    )
    inputs = card.input.network_channels
    image = 4 * inputs * math.prod(plan.padded)
    window, channels = math.prod(plan.window) * plan.batch, classes * answers
    asking = 4 * window * (inputs * (1 + (passes > 1)) + channels + (classes if passes > 1 else 0))
    network, answer = network_bytes(card, plan), 4 * window * channels
    if network and network == plan.network_bytes:
        # What was learnt has the answer of one network in it.
        network = max(1.0, network - 4 * window * classes)
    asking += max(network, min(_PIECE, answer))
    # The gaps that a known network leaves are counted with it.
    gap = answer // 2 if not network and answer < _GIVEN_BACK else 0
    least = _ALWAYS + gap + max(asking, _finishing(plan, channels, classes))
    fixed = least + results + image
    whole = bands.cover(plan)
    on_disk = kept > _SMALL and fixed + kept + bands.sums_bytes(whole, plan.numbers(channels)) > most
    fixed += kept if not on_disk else CHUNKING if chunks.available() else 0
    room = max(0.0, most - fixed)
    blocks = bands.choose(plan, channels, room)
    # Weights that are no product of those along the axes are added up beside the sums.
    running = fixed + bands.sums_bytes(blocks, plan.numbers(channels))
    before = results + (0 if on_disk else kept) if plan.frames > 1 else 0
    preparing = _ALWAYS + before + _preparing(volumes, plan, card)
    disk = kept if on_disk else 0
    always = _ALWAYS + (min(network, _loading()) if network else 0)
    return Bill(blocks, room, int(max(running, preparing)), disk, dtype, on_disk, int(least), int(always))


def remedy(plan: Plan, bill: Bill, allowed: float, draw: Callable[[Plan], Bill]) -> str:
    """Say what of a prediction would fit into memory.

    Parameters
    ----------
    plan, bill : Plan, Bill
        Of the prediction that does not.
    allowed : float
        Bytes.
    draw : callable
        Draws up the bill of another plan, as `draw_up` does.

    Returns
    -------
    str
        What is to be done, as the end of a sentence.
    """
    options = plan.options
    left_out: dict[str, Any] = {}
    for name, nothing in (("probabilities", ()), ("uncertainty", None)):
        if options.kind == "image" or not getattr(options, name):
            continue
        left_out[name] = nothing
        needed = draw(replace(plan, options=replace(options, **left_out))).memory_bytes
        if needed <= allowed:
            return f"keep no {' and no '.join(left_out)} (about {human_bytes(needed)})"
    share = (allowed - bill.least_bytes) / max(1, bill.memory_bytes - bill.least_bytes)
    smaller = math.floor(100 * share)
    if smaller >= 1:
        return f"crop or resample the image to {smaller} % of its voxels"
    if bill.always_bytes > allowed:
        return f"choose another model, as this one needs {human_bytes(bill.always_bytes)} whatever the image"
    return "choose a smaller window" if bill.least_bytes > allowed else "crop or resample the image"


def _preparing(volumes: Sequence[Volume], plan: Plan, card: Card) -> int:
    """Return the bytes in use while a frame is prepared."""
    voxels, working = math.prod(plan.shape), math.prod(plan.working)
    plain = plan.order == (0, 1, 2) and not any(plan.flips)
    raw = 0 if plain and all(v.data.dtype == np.float32 for v in volumes) else 4 * voxels
    whole = 4 * len(volumes) * math.prod(plan.padded) if len(volumes) > 1 or plan.padded != plan.working else 0
    if card.rules is not None:
        raw, whole = 4 * voxels * len(volumes), 4 * len(volumes) * math.prod(plan.padded)
    here = 4 * working
    resampling = 0
    if plan.working != plan.shape:
        # Axes that shrink come first; what is made of one is there while the next is.
        resampling = 4 * 2 * max(voxels if working > voxels else working, working)
    scaling = 0 if all(c.intensity.rule == "none" for c in card.input.channels) else here
    first = here if resampling else raw
    return whole + max(raw + voxels, raw + resampling, first + scaling)


def _finishing(plan: Plan, channels: int, classes: int) -> int:
    """Return the bytes in use while a strip is finished."""
    options, row = plan.options, 4 * channels * plan.shape[2]
    strip = max(row, min(STRIP_BYTES, row * plan.shape[1] * min(plan.shape[0], plan.window[0])))
    copies = 2 if plan.working != plan.shape else 0
    if options.kind != "image":
        activated = options.probabilities or options.uncertainty or options.activation == "sigmoid"
        copies += 1 if activated or channels > classes else 0
        # The channel of the largest value is a number of 8 bytes for each voxel, and its label one of 4.
        copies += 4 / channels
    return int(copies * strip)


def compiled(card: Card) -> bool:
    """Whether a network is known to go through compiled layers."""
    return card.architecture.get("name") in _COMPILED and _features(card) > 0 and _ready.available()


def network_bytes(card: Card, plan: Plan) -> float:
    """Return about what a network needs for the windows that go through it together; 0 where nothing is known of it."""
    layers, features = compiled(card), _features(card)
    if plan.network_bytes and not layers:
        return plan.network_bytes
    if layers:
        # They take the windows that are asked about together one after the other.
        name, args = card.architecture["name"], card.architecture["args"]
        return _loading() + _unet_memory.needed(name, args, _levels(card), plan.window)
    if not features:
        return 0.0
    level = 4 * math.prod(plan.window) * plan.batch * max(_LEAST_FEATURES, features)
    return _loading() + _LEVELS * level


def _features(card: Card) -> int:
    """Return the features of a network's finest level, as its architecture says; 0 where it does not."""
    levels = _levels(card)
    return levels[0] if levels else 0


def _levels(card: Card) -> list[int]:
    """Return the features of a network's levels, finest first, as far as its architecture says them."""
    args: Any = card.architecture.get("args", {})
    # What they are called in one architecture or the other.
    names = ("channels", "features_per_stage", "features", "init_filters")
    found = next((args[name] for name in names if args.get(name)), 0)
    if isinstance(found, int):
        return [found] * args.get("n_stages", 1) if found else []
    return list(found)


def _loading() -> int:
    """Return what a known network brings with it, beside what this process has loaded already."""
    return _KERNELS + (0 if "numba" in sys.modules else _COMPILER)
