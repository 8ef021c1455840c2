"""What errors and doubts are called, in which colours they are shown, and in which state they are."""

from typing import Any

from ...ops._doubts import DISAGREEMENT, UNCERTAIN
from ...ops._rules import RULES
from ...ops._versus import OUTCOMES

STATES = ("open", "accepted", "fixed", "dismissed")
# What was compared: with a reference, with nothing (doubts, or one of its own probabilities), two with a reference.
AGAINST, ALONE, VERSUS = "reference", "alone", "versus"
_NOUNS = {AGAINST: "error", ALONE: "doubt", VERSUS: "change"}
# The colours of Okabe and Ito, which people who see few colours tell apart: what lacks is warm, what is too much cool.
_ERRORS = {
    "missed": "#D55E00", "too small": "#E69F00", "split": "#CC79A7", "confused": "#F0E442",
    "invented": "#0072B2", "too large": "#56B4E9", "merged": "#009E73",
}  # fmt: skip
# Doubts are never shown beside errors: the same colours, and Tol's wine as the eighth; a grey is lost on images.
_DOUBTS = {
    "hole": "#56B4E9", "island": "#D55E00", "leak": "#E69F00", "swapped side": "#CC79A7", "volume": "#0072B2",
    "intensity": "#882255", DISAGREEMENT: "#009E73", UNCERTAIN: "#F0E442",
}  # fmt: skip
COLOURS = _ERRORS | _DOUBTS
MEANINGS = {
    "missed": "an object of the reference of which nothing was found",
    "too small": "the border of an object lies too far inside",
    "split": "a gap parts one object into several",
    "confused": "another label than in the reference",
    "invented": "an object where the reference has none",
    "too large": "the border of an object lies too far outside",
    "merged": "a bridge joins several objects",
    **{kind: rule.meaning for kind, rule in RULES.items()},
    DISAGREEMENT: "another segmentation says something else",
    UNCERTAIN: "the uncertainty is above the threshold",
}
OUTCOME_COLOURS = dict(zip(OUTCOMES, ("#009E73", "#56B4E9", "#F0E442", "#E69F00", "#D55E00"), strict=True))
OUTCOME_MEANINGS = {
    "mended": "wrong in the first, all of it right in the second",
    "better": "wrong in the first, some of it right in the second",
    "kept": "wrong in the first, and no voxel of it right in the second",
    "worse": "wrong in the second, some of it right in the first",
    "new": "wrong in the second, all of it right in the first",
}


def mode_of(review: dict) -> str:
    """Return what was compared: `AGAINST`, `ALONE` or `VERSUS`."""
    return review.get("mode", AGAINST)


def counted(count: int, review: dict) -> str:
    """Say how many errors, doubts or changes."""
    return f"{count or 'no'} {_NOUNS[mode_of(review)]}{'' if count == 1 else 's'}"


def palette(review: dict) -> tuple[str, dict[str, str], dict[str, str]]:
    """Return what the colours of a review stand for (``"kind"`` or ``"outcome"``), the colours, and their meanings.

    Only what can be in such a review is named; of doubts, what is in it.
    """
    if mode_of(review) == VERSUS:
        return "outcome", OUTCOME_COLOURS, OUTCOME_MEANINGS
    if mode_of(review) == AGAINST:
        return "kind", _ERRORS, MEANINGS
    there = {row["kind"] for row in review["rows"]}
    return "kind", {kind: colour for kind, colour in COLOURS.items() if kind in there}, MEANINGS


def colour_of(row: dict, review: dict) -> str:
    """Return the colour of an error."""
    return OUTCOME_COLOURS[row["outcome"]] if mode_of(review) == VERSUS else COLOURS[row["kind"]]


def name_of(value: int, review: dict) -> str:
    """Return what a label is called."""
    return "background" if value == 0 else review["names"].get(value) or f"label {value}"


def what(row: dict, review: dict, word: str = "taken for") -> str:
    """Return the labels of an error in words."""
    predicted, reference = row["predicted"], row["reference"]
    if predicted and reference and predicted != reference:
        if mode_of(review) == ALONE:
            return f"{name_of(predicted, review)}, rather {name_of(reference, review)}"
        return f"{name_of(reference, review)} {word} {name_of(predicted, review)}"
    return name_of(predicted or reference, review)


def mends(row: dict[str, Any]) -> bool:
    """Whether there is something else to paint than what was predicted."""
    return row["predicted"] != row["reference"]
