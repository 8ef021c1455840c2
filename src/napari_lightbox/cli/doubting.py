"""`lightbox evaluate` without a reference: what is doubtful in labels, by rules, uncertainty or other segmentations."""

import argparse
from pathlib import Path

from ..errors import FileError, InputError
from .batch import case_name
from .reading import read_input, read_labels
from .words import out

_WAYS = ("rules", "uncertainty", "others")
# In place of a file: holes, islands and leaks of all labels.
_USUAL = "usual"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that take the place of a reference."""
    parser.add_argument(
        "--rules",
        metavar="RULES.json",
        help=f"without a reference: rules of plausibility to check; {_USUAL!r} for holes, islands and leaks",
    )
    parser.add_argument("--uncertainty", metavar="MAP", help="without a reference: list where it is above --above")
    parser.add_argument("--above", type=float, default=0.5, help="threshold of the uncertainty (default 0.5)")
    parser.add_argument(
        "--others", nargs="+", metavar="LABELS", help="without a reference: other segmentations, list where they differ"
    )


def asked(args: argparse.Namespace) -> bool:
    """Whether anything was given that takes the place of a reference."""
    return any(getattr(args, way) is not None for way in _WAYS)


def run(args: argparse.Namespace) -> int:
    """List the doubts about one file of labels and write them."""
    from ..report.doubts import FILES, doubt, write_doubts
    from ..report.rules_file import USUAL, read_rules

    if args.reference is not None:
        raise InputError("REFERENCE stands beside --rules, --uncertainty or --others: leave one of them out")
    if not asked(args):
        raise InputError("there is nothing to compare with: give REFERENCE, or --rules, --uncertainty or --others")
    if args.cohort or args.versus is not None:
        raise InputError("--cohort and --versus need references: give REFERENCE in place of rules and uncertainty")
    folder = Path(args.out)
    there = next((folder / name for name in FILES if (folder / name).exists()), None)
    if there is not None and not args.overwrite:
        raise FileError(f"{there} exists: choose another folder, or add --overwrite")
    labels = read_labels(args, args.predicted, "evaluate")
    names = {value: label.name for value, label in labels.labels.items()}
    maps = {
        key: None if path is None else read_input(args, path, "image")
        for key, path in (("uncertainty", args.uncertainty), ("image", args.image))
    }
    found = doubt(
        labels,
        rules=[] if args.rules is None else USUAL if args.rules == _USUAL else read_rules(args.rules, names),
        above=args.above,
        others=[read_labels(args, path, "evaluate") for path in args.others or ()],
        name=case_name(args.predicted),
        **maps,
    )
    files = write_doubts(folder, found, image=maps["image"], overwrite=args.overwrite)
    for kind, (count, volume) in found.counts().items():
        out(f"{kind}: {count}, {volume / 1000:.3g} ml")
    if not found.table:
        out("no doubts")
    out(", ".join(str(path) for path in files))
    return 0
