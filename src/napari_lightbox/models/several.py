"""Several outputs of one network: it is asked once about every window, and each output takes its part of the answer.

Outputs that give voxels on the image's grid (labels, regions, images) share the sums, channel after channel. Answers
for the whole image are noted where the network is shown the same image for another output.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..volume import Volume
from . import cost, footprint
from .card import Card
from .channels import together
from .class_values import expected, wanted
from .heads import OutputSpec
from .panels import Panel
from .plan import Options, Plan, Quote, make_plan, options_for

if TYPE_CHECKING:
    import torch

    from .prediction import Prediction

# Numbers of an answer for a whole image that are noted; an output with more is none.
_MOST = 1 << 12
_CHOICES = ("overlap", "blending", "mirror", "activation", "kind", "probabilities", "uncertainty")


def shared(card: Card, given: Mapping[str, Any]) -> list[str]:
    """Return the outputs that are computed together; none where each has to be run by itself."""
    alone = card.rules is not None or given.get("samples") or given.get("skip_below") is not None
    alone = alone or given.get("uncertainty") not in (None, False, True, "entropy")
    alone = alone or any(given.get(name) is not None for name in ("kind", "activation"))
    dense = [n for n, o in card.outputs.items() if o.kind in ("labels", "regions", "image") and o.factor is None]
    return [] if alone or len(dense) < 2 else dense


def noted(card: Card) -> list[str]:
    """Return the outputs that answer for the whole image."""
    return [name for name, output in card.outputs.items() if output.kind in ("class", "value")]


def run(
    model: Any,
    channels: list[Volume],
    chosen: Mapping[str, Mapping[str, Any]],
    review: Callable[[], Sequence[str]],
    one: Callable[[Mapping[str, Any], Any], "Prediction"],
) -> dict[str, "Prediction"]:
    """Return the predictions of all outputs, by name.

    Parameters
    ----------
    model : Model
        Its card has several outputs.
    channels : list of Volume
        The images.
    chosen : mapping
        The choices of `predict.predict` for each output.
    review : callable
        Checks the images against the card, and returns notes.
    one : callable
        Makes the prediction of one output, of its choices and a model.
    """
    card = model.card
    found: dict[str, Prediction] = {}
    notes = Notes({name: card.outputs[name].take for name in noted(card)}, card) if len(card.outputs) > 1 else None
    names = shared(card, next(iter(chosen.values())))
    if names:
        found = _together(model, channels, {name: chosen[name] for name in names}, review, notes)
    for name in card.outputs:
        if name in found:
            continue
        asked = model
        if notes is not None and name in notes.takes:
            asked = replace(model, module=notes.around(model.module, notes.takes[name]), _elsewhere={})
        found[name] = one(chosen[name], asked)
    return {name: found[name] for name in card.outputs}


# Together -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One of the outputs that are computed together."""

    card: Card
    options: Options
    asked: Mapping[str, Any]


def parts_of(card: Card, chosen: Mapping[str, Mapping[str, Any]]) -> dict[str, Part]:
    """Return the outputs with their cards and options, checked."""
    from .post import rules_for
    from .tables import card_for

    found = {}
    for name, choices in chosen.items():
        own = card_for(card, name)
        options = options_for(own, **{key: choices.get(key) for key in _CHOICES})
        rules = rules_for(own, options.kind, choices.get("post"))
        names = ("window", "device", "check", "precision", "samples", "seed", "skip_below", "memory")
        asked = {key: choices.get(key) for key in names}
        found[name] = Part(own, options, {**asked, "post": rules, "output": name})
    return found


def as_one(card: Card, parts: Mapping[str, Part], taking: Any = None) -> tuple[Card, Options]:
    """Return a card and options as of one network whose channels are those of all outputs."""
    merged = replace(card, output=OutputSpec("image", "none", take=taking), outputs={}, post={})
    first = next(iter(parts.values())).options
    return merged, replace(first, kind="image", activation="none", probabilities=(), uncertainty=None)


def _together(
    model: Any,
    channels: list[Volume],
    chosen: Mapping[str, Mapping[str, Any]],
    review: Callable[[], Sequence[str]],
    notes: "Notes | None",
) -> dict[str, "Prediction"]:
    """Run the outputs that share their sums, and return their predictions."""
    from ._shared import Shared, Takes
    from .predict import carry_out

    parts = parts_of(model.card, chosen)
    for part in parts.values():
        if part.options.kind != "image" and part.card.output.values:
            # Unknown classes are refused before the work.
            wanted(part.options, part.card.output.values, part.card)
    takes = Takes([part.card.output for part in parts.values()], notes)
    card, options = as_one(model.card, parts, takes)
    own = replace(model, card=card)
    images, told = together(channels)
    panel = Panel(mirror=options.mirror)
    plan = make_plan(images, card, options, next(iter(parts.values())).asked["window"])
    plan = footprint.learnt(replace(plan, notes=(*review(), *told, *plan.notes)), [model])
    asked = {**next(iter(parts.values())).asked, "post": {}}
    work = Shared(images, [own], card, plan, asked, panel, parts=parts, takes=takes)
    work.require(sum(expected(part.card, part.options) for part in parts.values()))
    return carry_out(work, channels)


def bill_of(
    channels: Sequence[Volume], plan: Plan, card: Card, parts: Mapping[str, Part], counts: Sequence[int], most: float
) -> cost.Bill:
    """Return what the outputs need together, in the way of `cost.draw_up`: sums of all, results of each."""
    voxels, kept, results, half = math.prod(plan.grid.shape), 0, 0, True
    for part, count in zip(parts.values(), counts, strict=True):
        options = part.options
        every = options.kind == "image" or options.probabilities == "all"
        kept += count if every else len(options.probabilities)
        half = half and options.kind != "image" and options.activation != "none"
        results += voxels * ((options.kind != "image") * (1 if count <= 256 else 2) + 4 * bool(options.uncertainty))
    # What is kept is counted there; what it is made of decides whether half precision will do.
    options = replace(plan.options, kind="labels", activation="softmax" if half else "none")
    options = replace(options, probabilities=tuple(range(kept)))
    bill = cost.draw_up(
        channels, replace(plan, options=options), card, most - results, sum(counts), passes=2 ** len(options.mirror)
    )
    return replace(bill, memory_bytes=bill.memory_bytes + results)


def quote(
    model: Any,
    card: Card,
    channels: list[Volume],
    chosen: Mapping[str, Mapping[str, Any]],
    one: Callable[[Mapping[str, Any]], Quote],
    review: Callable[[Card], Sequence[str]],
) -> Quote:
    """Say what `run` will cost: what runs together is asked about once."""
    given = next(iter(chosen.values()))
    names = shared(card, given)
    quotes, answered = [], False
    if names:
        parts = parts_of(card, {name: chosen[name] for name in names})
        merged, options = as_one(card, parts)
        plan = footprint.learnt(make_plan(channels, merged, options, given.get("window")), [model])
        counts = [expected(part.card, part.options) for part in parts.values()]
        bill = bill_of(channels, plan, merged, parts, counts, cost.budget(given.get("memory")))
        told = (*footprint.noted(plan, card), *bill.notes, *review(card))
        notes = (*plan.notes, *told, *together(channels, run=False)[1])
        missing = footprint.unlearnt(plan, card)
        quotes.append(Quote(plan.frames * bill.windows, bill.memory_bytes, notes, bill.disk_bytes, unlearnt=missing))
        answered = plan.window[1:] == plan.padded[1:] and (plan.dims == 2 or plan.window[0] == plan.padded[0])
    for name in card.outputs:
        if name not in names:
            made = one(chosen[name])
            noting = name in noted(card)
            quotes.append(replace(made, windows=0) if noting and answered else made)
            answered = answered or noting
    notes = tuple(dict.fromkeys(note for made in quotes for note in made.notes))
    total = sum(made.memory_bytes for made in quotes)
    missing = next((made.unlearnt for made in quotes if made.unlearnt), ())
    disk = sum(made.disk_bytes for made in quotes)
    return Quote(sum(made.windows for made in quotes), total, notes, disk, unlearnt=missing)


# What is noted on the way ---------------------------------------------------------------------------------------


class Notes:
    """Answers for the whole image that a network gave while it was asked for another output.

    They are found again by what it was shown, bit by bit.

    Parameters
    ----------
    takes : mapping of str to str, int or None
        For each such output, where it stands in the answer.
    card : Card
        Of the model.
    """

    def __init__(self, takes: Mapping[str, Any], card: Card) -> None:
        self.takes, self._card = dict(takes), card
        self._known: dict[bytes, dict[Any, torch.Tensor]] = {}

    def add(self, keys: Sequence[bytes], answer: Any) -> None:
        """Note the answers to images with these keys."""
        from .taking import Taking, as_tensor

        if not self.takes:
            return
        for take in self.takes.values():
            try:
                found = as_tensor(Taking(lambda _: answer, self._card, take)(None))
            except InputError:
                # Whoever takes this output will say so.
                continue
            fits = hasattr(found, "detach") and found.ndim > 0 and len(found) == len(keys)
            if fits and found.numel() <= _MOST * len(keys):
                for key, row in zip(keys, found.detach().to("cpu"), strict=True):
                    self._known.setdefault(key, {})[take] = row.clone()

    def keys(self, images: "torch.Tensor") -> list[bytes]:
        """Return for each image of a batch what it is known by."""
        if not self.takes:
            return []
        arrays = images.detach().to("cpu").contiguous().numpy()
        return [hashlib.blake2b(one, digest_size=16).digest() for one in arrays]

    def answer(self, keys: Sequence[bytes], take: Any) -> "torch.Tensor | None":
        """Return the answers to images, if all are known."""
        import torch

        rows = [self._known.get(key, {}).get(take) for key in keys]
        return None if not rows or any(row is None for row in rows) else torch.stack(rows)

    def around(self, module: Any, take: Any) -> Any:
        """Return a network that is asked only about images to which no answer was noted."""
        import torch

        notes = self

        class Noted(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = module

            def forward(self, images: torch.Tensor) -> Any:
                keys = notes.keys(images)
                known = notes.answer(keys, take)
                if known is not None:
                    known = known.to(images.device)
                    # Where it stands in an answer of the network.
                    return {take: known} if isinstance(take, str) else known if take is None else [known] * (take + 1)
                answer = self.network(images)
                notes.add(keys, answer)
                return answer

        return Noted()
