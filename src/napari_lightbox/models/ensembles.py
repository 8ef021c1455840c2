"""Several models that answer together, and the networks that they are made of."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .card import Card
from .loaders import Model
from .plan import Options

if TYPE_CHECKING:
    from .passes import Panel


def listed(model: Any) -> list[Any]:
    """Return the models that the argument `model` of `predict` means."""
    if not isinstance(model, list | tuple):
        return [model]
    if not model:
        raise InputError("model is an empty list: give at least one model")
    return list(model)


def require_alike(models: Sequence[Any]) -> None:
    """Refuse models that do not take the same images, or do not give the same classes."""
    if len(models) < 2:
        return
    cards = [model if isinstance(model, Card) else model.card for model in models if isinstance(model, Model | Card)]
    if cards and len(cards) < len(models):
        raise InputError("model mixes functions with models: give a list of one or the other")
    for other in cards[1:]:
        first = cards[0]
        parts = {
            "input": (first.input, other.input),
            "window": (first.window, other.window),
            "classes": (first.output.values, other.output.values),
            "kind": (first.output.kind, other.output.kind),
            "activation": (first.output.activation, other.output.activation),
            "preparation": (first.rules, other.rules),
        }
        unlike = [name for name, (a, b) in parts.items() if a != b]
        names = [
            v for v in first.output.values if first.output.label(v).name != other.output.label(v).name and not unlike
        ]
        if unlike or names:
            what = unlike[0] if unlike else f"name of class {names[0]}"
            raise InputError(
                f"models {first.name!r} and {other.name!r} differ in {what}: models that answer together must take the "
                "same images and give the same classes"
            )


def ignored(models: Sequence[Any], options: Options, post: Any) -> list[str]:
    """Say what was asked, or stands in cards, and makes no difference."""
    notes = []
    if options.kind == "image" and (options.uncertainty or options.probabilities):
        name = "uncertainty" if options.uncertainty else "probabilities"
        notes.append(f"{name} is of classes, which an image does not have: it was left out")
    cards = [model.card for model in models if isinstance(model, Model)]
    other = next((card for card in cards if dict(card.post) != dict(cards[0].post)), None)
    if other is not None and post is None:
        notes.append(
            f"models {cards[0].name!r} and {other.name!r} say different things of post-processing: that of "
            f"{cards[0].name!r} was done"
        )
    return notes


def panel(
    models: Sequence[Any], card: Card, options: Options, samples: int, seed: int, *, loaded: bool = True
) -> "Panel":
    """Return who is asked; whether models that are not loaded, as a quote has them, have dropout is not known.

    Raises
    ------
    InputError
        If `samples` or `seed` cannot be used, or there is one pass where doubt compares several.
    """
    for name, value in (("samples", samples), ("seed", seed)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InputError(f"{name} {value!r} must be a whole number from 0 on")
    measured = options.uncertainty not in (None, "entropy")
    if measured and options.kind == "image":
        raise InputError(
            f"uncertainty {options.uncertainty!r} is of classes, which an image does not have: leave it out"
        )
    from .panels import Panel

    members, number = [], 0
    for model in models:
        count = _count_folds(model) if measured else 1
        members.append(tuple(range(number, number + count)))
        number += count
    # nnU-Net rounds the sums of each fold to half precision before it takes their mean.
    alone = len(models) == 1 and not measured and not samples
    folds = getattr(card.rules, "folds", 1) if alone else 1
    found = Panel(tuple(members), samples, seed, options.mirror, measured, folds)
    if measured and found.passes < 2:
        raise InputError(
            f"uncertainty {options.uncertainty!r} compares several passes, and there is one: give a list of models, "
            "samples (of a model with dropout) or mirror=True, or take 'entropy'"
        )
    if loaded and samples:
        from .passes import require_dropout

        for model in models:
            network = model.module if isinstance(model, Model) else model
            name = model.name if isinstance(model, Model) else card.name
            require_dropout(network, name, samples)
    return found


def _count_folds(model: Any) -> int:
    """Return how many networks' logits make up the answer of a model or a card: those of its folds, or its own."""
    card = model if isinstance(model, Card) else getattr(model, "card", None)
    return getattr(card.rules, "folds", 1) if card is not None and card.loader == "nnunet" else 1


def networks(
    models: Sequence[Any], panel: "Panel", card: Card, device: str, precision: str, window: Sequence[int]
) -> list[Callable]:
    """Return the networks of all models on a device, in the order in which the panel numbers them."""
    from .folds import Folds
    from .taking import Taking

    found: list[Callable] = []
    for model, members in zip(models, panel.members, strict=True):
        if not isinstance(model, Model):
            found.append(_prepared(model, card, device, precision, window, panel))
            continue
        module = model.on(device)
        if panel.folds > 1:
            module = Folds(module.folds, apart=True)
        for one in module.folds if len(members) > 1 else [module]:
            ready = _prepared(one, model.card, device, precision, window, panel)
            found.append(Taking(ready, model.card, model.card.output.take))
    return found


def _prepared(
    network: Callable, card: Card, device: str, precision: str, window: Sequence[int], panel: "Panel"
) -> Callable:
    """Return a network made ready for windows of one size; one that leaves neurons out stays as it is."""
    if panel.samples:
        return network
    from . import fast

    return fast.prepare(network, card, device, precision, window[-card.input.dims :])


def notes(networks: Sequence[Callable]) -> tuple[str, ...]:
    """Return what the networks noted on the way."""
    parts = [part for one in networks for part in (one, getattr(one, "network", None))]
    return tuple(dict.fromkeys(note for part in parts for note in getattr(part, "notes", ())))
