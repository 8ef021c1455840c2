"""Which classes a network is expected to give, what they are called, and which of them are wanted."""

from .card import Card
from .plan import Options
from .prediction import find_value


def expected(card: Card, options: Options) -> int:
    """Return how many classes the network is expected to give."""
    if card.output.values and options.kind == card.output.kind:
        return len(card.output.values)
    return int(card.architecture.get("args", {}).get("out_channels", 2))


def label_values(classes: int, card: Card, options: Options) -> tuple[int, ...]:
    """Return the label value of every channel."""
    if options.kind == "image":
        return tuple(range(classes))
    if card.output.values:
        return card.output.values
    separate = options.kind == "regions" or options.activation == "sigmoid" or classes == 1
    return tuple(range(1, classes + 1)) if separate else tuple(range(classes))


def wanted(options: Options, values: tuple[int, ...], card: Card) -> list[int]:
    """Return the label values whose probabilities are asked for."""
    if options.kind == "image":
        return []
    if options.probabilities == "all":
        return list(values)
    return list(dict.fromkeys(find_value(p, values, card) for p in options.probabilities))
