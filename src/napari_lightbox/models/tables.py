"""Models that give something other than voxels on the image's grid: how they are run, and what that costs.

These are answers and boxes, images on a finer grid, and several outputs at once. No torch here.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..volume import Volume
from . import chunks, cost, footprint, heap, several, windows
from .bundle_foreign import quote_whole
from .card import Card
from .channels import together
from .cost import CHUNKING, budget
from .heads import TABLES
from .plan import Options, Plan, Quote, make_plan

if TYPE_CHECKING:
    from .predict import Prediction

# What a network that nobody knows is taken to need beside its input, in channels of that size.
_FEATURES = 16
# Arrays of the size of the answers while these are checked and weighed.
_WEIGHING = 4
GUESSED = "what the network itself needs is a guess until the model is first run"
# Images of more voxels that take more bytes go to disk where memory does not suffice.
KEPT_ABOVE = 64 << 20


def is_table(card: Card) -> bool:
    """Whether a model gives a table in place of voxels."""
    return card.output.kind in TABLES


def as_whole(card: Card) -> Card:
    """Return a card whose network sees the whole image, whatever windows its other outputs have."""
    return replace(card, window=replace(card.window, size=None))


def is_apart(card: Card) -> bool:
    """Whether a model is run by this module: it gives no voxels on the grid of the image."""
    return is_table(card) or card.output.factor is not None


def card_for(card: Card, output: str | None) -> Card:
    """Return the card of one of several outputs, by its name.

    Raises
    ------
    InputError
        If there is no output of that name.
    """
    if output is None:
        return card
    if output not in card.outputs:
        known = ", ".join(card.outputs) or "its only one, so leave output out"
        raise InputError(f"output {output!r} is unknown to model {card.name!r}: use {known}")
    post = card.post if card.outputs[output] is card.output else {}
    return replace(card, output=card.outputs[output], outputs={}, post=post)


def for_output(model: Any, output: str | None) -> Any:
    """Return a model with the card of one of its outputs; a function has only one."""
    if output is None:
        return model
    if isinstance(model, Card):
        return card_for(model, output)
    if not hasattr(model, "card"):
        raise InputError(f"output {output!r} cannot be chosen for a function: leave it out")
    return replace(model, card=card_for(model.card, output))


def require_no_choice(card: Card, given: Mapping[str, Any]) -> None:
    """Refuse choices of `predict` that mean nothing here, where the caller made them."""
    kind = card.output.kind
    for name in ("kind", "activation"):
        if given.get(name) is not None and given[name] != getattr(card.output, name):
            raise InputError(
                f"{name} {given[name]!r} cannot be chosen for model {card.name!r}, whose kind is {kind!r}: leave it out"
            )
    if given.get("samples"):
        raise InputError(
            f"samples {given['samples']!r} cannot be chosen for model {card.name!r}, whose kind is {kind!r}: leave it "
            "out"
        )
    if given.get("post"):
        raise InputError(f"post cannot be chosen for model {card.name!r}, which gives no labels: leave it out")
    _require_unused(card, given)
    if kind in ("class", "value") and given.get("window") is not None:
        raise InputError(
            f"window {given['window']!r} cannot be chosen for model {card.name!r}, which sees the whole image at once: "
            "leave it out"
        )
    if kind not in ("class", "value") and given.get("mirror"):
        what = "boxes" if kind == "boxes" else "an image of more voxels"
        raise InputError(
            f"mirror {given['mirror']!r} cannot be chosen for model {card.name!r}, which gives {what}: leave it out"
        )


def _require_unused(card: Card, given: Mapping[str, Any]) -> None:
    """Refuse choices that belong to classes of voxels, or to the blending of windows where nothing is blended."""
    unused: dict[str, Any] = {"probabilities": (), "uncertainty": False, "skip_below": None}
    if is_table(card):
        unused["blending"] = card.window.blending
    if card.output.kind in ("class", "value"):
        unused["overlap"] = card.window.overlap
    for name, standard in unused.items():
        value = given.get(name)
        # A dialog gives what the card says as it is.
        if value not in (None, False, (), [], standard) or (name == "skip_below" and value is not None):
            raise InputError(
                f"{name} {value!r} means nothing to model {card.name!r}, whose kind is {card.output.kind!r}: leave it "
                "out"
            )


def run(
    models: Sequence[Any],
    channels: list[Volume],
    given: Mapping[str, Any],
    review: Callable[[], Sequence[str]],
    one: Callable[[dict[str, Any], Any], "Prediction"],
) -> "Prediction | None":
    """Return what a model says that `is_apart` or has several outputs; None where it is to be run the usual way.

    Parameters
    ----------
    models : sequence of Model or callable
        Who was asked; those that are run here answer alone.
    channels : list of Volume
        The images.
    given : mapping
        The choices of `predict.predict`.
    review : callable
        Checks the images against the card, and returns notes.
    one : callable
        Makes the prediction of one of several outputs that is run by itself, of its choices and the model.
    """
    card = getattr(models[0], "card", None)
    if card is None:
        return None
    if card.outputs and given["output"] is None:
        require_alone(models, card)
        chosen = {name: _choices(card, name, given) for name in card.outputs}
        made = several.run(models[0], channels, chosen, review, one)
        found = {name: _named(prediction, card, name) for name, prediction in made.items()}
        return replace(next(iter(found.values())), outputs=found)
    card = card_for(card, given["output"])
    if getattr(card.rules, "whole", False):
        from . import bundle_whole

        require_alone(models, card)
        notes, (channels, more) = review(), together(channels)
        return bundle_whole.predict(channels, models[0], given, (*notes, *more))
    if not is_apart(card):
        return None
    require_alone(models, card)
    require_no_choice(card, given)
    notes = review()
    need = _quote(channels, card, given, (), models[0])
    if given["check"]:
        cost.require(need, given["memory"], "image")
    channels, more = together(channels)
    if given.get("precision") == "fast":
        more = [*more, f"models of kind {card.output.kind!r} compute with all digits: precision 'fast' changes nothing"]
    # A whole image is asked about once: what its network leaves in the heap would be several times what it needs.
    with heap.tight() if card.output.kind in ("class", "value") else nullcontext():
        found = _predict(channels, for_output(models[0], given["output"]), given, on_disk=need.disk_bytes > 0)
    return replace(found, notes=(*notes, *more, *found.notes))


def _named(found: "Prediction", card: Card, output: str) -> "Prediction":
    """Tell the results of further outputs from those of the first by their names."""
    if card.outputs[output] is card.output:
        return found
    whole = f"· {card.name}"
    named = {key: v.replace(name=v.name.replace(whole, f"{whole} {output}")) for key, v in found.volumes.items()}
    return replace(found, volumes=named)


def _choices(card: Card, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the choices for one of several outputs: those that name classes are meant for the first."""
    chosen = {**given, "output": name}
    if card.outputs[name] is not card.output:
        chosen["post"] = None
        chosen["probabilities"] = "all" if given.get("probabilities") == "all" else ()
    if is_apart(card_for(card, name)) and any(not is_apart(card_for(card, other)) for other in card.outputs):
        # What belongs to classes of voxels is meant for the outputs that have them.
        chosen.update(post=None, probabilities=(), uncertainty=False, skip_below=None)
        kind = card.outputs[name].kind
        chosen["blending"] = None if kind in TABLES else chosen.get("blending")
        if kind in ("class", "value"):
            chosen.update(window=None, overlap=None)
    return chosen


def require_alone(models: Sequence[Any], card: Card) -> None:
    """Refuse several models where their answers are not averaged."""
    if len(models) > 1:
        what = "several outputs" if card.outputs else f"kind {card.output.kind!r}"
        raise InputError(f"model {card.name!r} has {what}, which is not averaged over models: run one at a time")


def _predict(channels: list[Volume], model: Any, given: Mapping[str, Any], *, on_disk: bool) -> "Prediction":
    card = model.card
    names = {"boxes": ("window", "overlap"), "image": ("window", "overlap", "blending")}
    chosen = {name: given.get(name) for name in ("device", *names.get(card.output.kind, ("mirror",)))}
    recorded = {"output": given["output"]} if given.get("output") else {}
    if card.output.kind == "boxes":
        from . import boxes

        return boxes.predict(channels, model, **chosen, recorded=recorded)
    if card.output.kind == "image":
        from . import finer

        recorded["check"] = given["check"]
        return finer.predict(channels, model, **chosen, recorded=recorded, on_disk=on_disk)
    from . import whole

    return whole.predict(channels, model, **chosen, recorded=recorded)


def quote(
    models: Sequence[Any],
    channels: Sequence[Volume],
    given: Mapping[str, Any],
    review: Callable[[Card], Sequence[str]],
    one: Callable[[dict[str, Any]], Quote],
) -> Quote | None:
    """Say what `run` will cost; None where it has nothing to run. Arguments as there; `models` may be cards."""
    card = models[0] if isinstance(models[0], Card) else getattr(models[0], "card", None)
    if card is None:
        return None
    if card.outputs and given["output"] is None:
        chosen = {name: _choices(card, name, given) for name in card.outputs}
        return several.quote(models[0], card, list(channels), chosen, one, review)
    card = card_for(card, given["output"])
    if getattr(card.rules, "whole", False):
        return quote_whole(channels, models[0], card, given, (*review(card), *together(channels, run=False)[1]))
    if not is_apart(card):
        return None
    require_alone(models, card)
    require_no_choice(card, given)
    return _quote(channels, card, given, (*review(card), *together(channels, run=False)[1]), models[0])


def _quote(channels: Sequence[Volume], card: Card, given: Mapping[str, Any], notes: Sequence[str], model: Any) -> Quote:
    cut = card.output.kind not in ("class", "value")
    overlap = given.get("overlap") if cut else 0.0
    share = card.window.overlap if overlap is None else overlap
    windows.check_overlap(share)
    options = Options("image", "none", share, "constant")
    plan = make_plan(list(channels), card if cut else as_whole(card), options, given.get("window") if cut else None)
    plan = footprint.learnt(plan, [model])
    images = 4 * math.prod(plan.shape) * (1 + len(card.input.channels))
    inputs = 4 * math.prod(plan.padded) * card.input.network_channels
    factor = card.output.factor or ()
    network, missing = plan.network_bytes, () if plan.network_bytes else footprint.unlearnt(plan, card)
    if not network:
        network = 4 * 4 * _FEATURES * math.prod(plan.window) * plan.batch * math.prod(factor or (1,))
    result, sums, answers = _finer(plan, card) if factor else (0, 0, 0)
    fixed = images + inputs + max(network, _WEIGHING * answers)
    # Small results stay in memory in any case.
    on_disk = result > KEPT_ABOVE and fixed + sums + result > budget(given.get("memory"))
    kept = [note.replace(", and back", "") for note in plan.notes]
    written = CHUNKING if chunks.available() else 0
    memory, disk = (fixed + sums + written, result) if on_disk else (fixed + sums + result, 0)
    told = (GUESSED,) if missing else ()
    return Quote(plan.frames * plan.windows_per_frame, memory, (*kept, *told, *notes), disk, unlearnt=missing)


def _finer(plan: Plan, card: Card) -> tuple[int, int, int]:
    """Return the bytes of an image on a finer grid, of what is still summed up, and of a batch's answers."""
    factor = (1, *card.output.factor) if plan.dims == 2 else card.output.factor
    channels = int(card.architecture.get("args", {}).get("out_channels", 1))
    plane = channels * 4 * math.prod(factor) * math.prod(plan.padded[1:])
    thick = plan.window[0] if plan.dims == 3 else plan.batch
    # Those that are kept while others are written are copied.
    held = min(plan.padded[0], thick) * plane
    one = 4 * channels * math.prod(factor)
    return one * math.prod(plan.working) * plan.frames, 2 * held, one * math.prod(plan.window) * plan.batch
