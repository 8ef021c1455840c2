"""Choices of a prediction that no image can make right, told before the first one is read."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from . import cost, ensembles, tables
from .class_values import wanted
from .loaders import Model
from .plan import Options, options_for, window_size
from .post import rules_for

if TYPE_CHECKING:
    from .card import Card

_OPTIONS = ("overlap", "blending", "mirror", "activation", "kind", "probabilities", "uncertainty")


def require(models: "Sequence[Model | Card]", given: Mapping[str, Any]) -> None:
    """Refuse choices that do not go with a model, whatever the image is.

    Parameters
    ----------
    models : sequence of Model or Card
        Those that answer together. Whether a network has dropout, as `samples` needs it, only a Model tells.
    given : mapping
        The arguments of `predict.predict`; those that are missing are as it has them.

    Raises
    ------
    InputError
        If a choice is unknown, out of range, or means nothing to these models.

    Examples
    --------
    >>> from .card import Card
    >>> require([Card("demo")], {"uncertainty": "variance", "mirror": True})
    """
    output = given.get("output")
    models = [tables.for_output(model, output) for model in models]
    card = models[0].card if isinstance(models[0], Model) else models[0]
    cost.budget(given.get("memory"))
    if getattr(card.rules, "whole", False):
        tables.require_alone(models, card)
        return
    if tables.is_apart(card):
        tables.require_alone(models, card)
        tables.require_no_choice(card, given)
        return
    ensembles.require_alike(models)
    options = options_for(card, **{name: given.get(name) for name in _OPTIONS})
    loaded = all(isinstance(model, Model) for model in models)
    ensembles.panel(models, card, options, given.get("samples", 0), given.get("seed", 0), loaded=loaded)
    require_skip(given.get("skip_below"), options)
    window_size(card, given.get("window"))
    if card.output.values and options.kind != "image":
        wanted(options, card.output.values, card)
    rules_for(card, options.kind, given.get("post"))


def require_skip(skip_below: float | None, options: Options) -> None:
    """Refuse a `skip_below` that is no number, or that goes with no background."""
    if skip_below is None:
        return
    if isinstance(skip_below, bool) or not isinstance(skip_below, int | float):
        raise InputError(f"skip_below {skip_below!r} must be a number, as the network sees it, or None")
    if options.kind == "image":
        raise InputError(
            f"skip_below {skip_below!r} takes windows as background, which an image does not have: leave it out"
        )
