"""What is printed, and sentences made for Python put into the words of the command line."""

import re
import sys

# What a sentence says to people who write Python, and what they type here. Longer ones come first.
_TYPED = (
    (r"even=True \(--even on the command line\)", "--even"),
    (r"\beven=True\b", "--even"),
    (r",? or open all of them by read_all\b", ""),
    (r",? or read it by read_masks with the image as 'like'", ""),
    (
        r"open all of them by read_masks or read_all\b",
        "write each to a file of its own with 'lightbox convert FILE OUT.nii.gz'",
    ),
    (r"\(series=\.\.\.\)", "(--series WHICH)"),
    (r"\bseries=\.\.\.", "--series WHICH"),
    (r"\bkey=\.\.\.", "--key NAME"),
    (r"\baxes=\.\.\.", "--axes LETTERS"),
    (r"\b(?:with|by) kind='(image|labels|probability)'", r"with --read-as \1"),
    (r"\bkind='(image|labels|probability)'", r"--read-as \1"),
    (
        r"give a list of models, samples \(of a model with dropout\) or mirror=True, or take 'entropy'",
        "add --also MODEL, --samples N (of a model with dropout) or --mirror, or take --uncertainty entropy",
    ),
    (r"\ballow more as memory\b", "allow more with --memory"),
    (r"\bkeep no probabilities and no uncertainty\b", "leave out --probability and --uncertainty"),
    (r"\bkeep no (probabilit|uncertaint)(?:y|ies)\b", r"leave out --\1y"),
    (r"\bchoose kind='regions'", "add --regions"),
    (r"\bkind='regions'", "--regions"),
)


def typed(sentence: str) -> str:
    """Return a sentence with the options of the command line in place of arguments of Python.

    Examples
    --------
    >>> typed("choose one by its number (series=...), or open all of them by read_all")
    'choose one by its number (--series WHICH)'
    >>> typed("open the file with kind='labels' if its numbers are labels")
    'open the file with --read-as labels if its numbers are labels'
    """
    for pattern, words in _TYPED:
        sentence = re.sub(pattern, words, sentence)
    return sentence


def out(text: str) -> None:
    """Print a line at once, so that the lines of a long run can be followed."""
    print(text, flush=True)


def err(text: str) -> None:
    """Print a line to standard error."""
    print(f"lightbox: {text}", file=sys.stderr, flush=True)
