"""`lightbox evaluate` without a reference: what is doubtful in labels, by rules, uncertainty or other segmentations."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import FileError, InputError, LightboxError
from ..progress import track
from .batch import case_name
from .reading import read_input, read_labels
from .words import err, out, typed

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
    parser.add_argument(
        "--uncertainty",
        metavar="MAP",
        help="without a reference: list where it is above --above; with --cohort a folder",
    )
    parser.add_argument("--above", type=float, default=0.5, help="threshold of the uncertainty (default 0.5)")
    parser.add_argument(
        "--others",
        nargs="+",
        metavar="LABELS",
        help="without a reference: other segmentations, list where they differ; with --cohort folders",
    )


def asked(args: argparse.Namespace) -> bool:
    """Whether anything was given that takes the place of a reference."""
    return any(getattr(args, way) is not None for way in _WAYS)


def run(args: argparse.Namespace) -> int:
    """List the doubts about one file of labels, or about those of a folder, and write them."""
    if args.reference is not None:
        raise InputError("REFERENCE stands beside --rules, --uncertainty or --others: leave one of them out")
    if not asked(args):
        raise InputError("there is nothing to compare with: give REFERENCE, or --rules, --uncertainty or --others")
    if args.versus is not None:
        raise InputError("--versus needs references: give REFERENCE in place of rules and uncertainty")
    return _cohort(args) if args.cohort else _one(args)


def _one(args: argparse.Namespace) -> int:
    from ..report.doubts import FILES, write_doubts

    folder = _free(args, FILES)
    files = {"labels": args.predicted, "uncertainty": args.uncertainty, "image": args.image, "others": args.others}
    found, image = _doubted(args, case_name(args.predicted), files)
    written = write_doubts(folder, found, image=image, overwrite=args.overwrite)
    for kind, (count, volume) in found.counts().items():
        out(f"{kind}: {count}, {volume / 1000:.3g} ml")
    if not found.table:
        out("no doubts")
    out(", ".join(str(path) for path in written))
    return 0


def _cohort(args: argparse.Namespace) -> int:
    """Look at every file of a folder; a bad case is named, and the rest go on."""
    from ..report import doubts_cohort

    folder = _free(args, doubts_cohort.FILES)
    pairs, failed = _files(args)
    for name, why in failed.items():
        err(f"{name}: {why}")
    cases, images = [], {}
    for name, files in track(list(pairs.items()), "cases"):
        try:
            case, image = _doubted(args, name, files)
            case = doubts_cohort.with_thumbnail(case, image)
        except (LightboxError, OSError, MemoryError) as error:
            failed[name] = typed(str(error))
            err(f"{name}: {failed[name]}")
            continue
        cases.append(case)
        images |= {} if image is None else {name: image}
        for other in doubts_cohort.worst_first(cases)[doubts_cohort.DRAWN :]:
            # Those only are drawn that are most in doubt: a cohort may be larger than the memory.
            cases[cases.index(other)] = doubts_cohort.without_voxels(other)
            images.pop(other.name, None)
    if not cases:
        raise InputError(f"none of {len(failed)} cases could be looked at")
    written = doubts_cohort.write_cohort(folder, cases, images=images, failed=failed, overwrite=args.overwrite)
    for case in doubts_cohort.worst_first(cases):
        row = doubts_cohort.overview(case)
        kinds = ", ".join(f"{count} {kind}" for kind, count in row["kinds"].items())
        out(f"{case.name}: {row['volume_ml']:.3g} ml in doubt" + (f" ({kinds})" if kinds else ""))
    out(", ".join(str(path) for path in written))
    return 1 if failed else 0


def _files(args: argparse.Namespace) -> tuple[dict[str, dict], dict[str, str]]:
    """Return the files of each case, and for the cases that lack one, what they lack."""
    from ..report.evaluation_files import belonging, cases_in

    labels = cases_in(args.predicted, "PREDICTED", case_name)
    if not labels:
        raise InputError(f"{args.predicted} holds no file that can be read")
    single = {key: {} if folder is None else belonging(labels, folder, f"--{key}", case_name)
              for key, folder in (("uncertainty", args.uncertainty), ("image", args.image))}  # fmt: skip
    others = [belonging(labels, folder, "--others", case_name) for folder in args.others or ()]
    pairs, failed = {}, {}
    for name, path in labels.items():
        if args.uncertainty is not None and name not in single["uncertainty"]:
            failed[name] = f"there is no map of uncertainty for {path}"
        elif any(name not in one for one in others):
            failed[name] = f"there is no other segmentation for {path}"
        else:
            pairs[name] = {"labels": path, "others": [one[name] for one in others],
                           **{key: one.get(name) for key, one in single.items()}}  # fmt: skip
    return pairs, failed


def _free(args: argparse.Namespace, names: Sequence[str]) -> Path:
    folder = Path(args.out)
    there = next((folder / name for name in names if (folder / name).exists()), None)
    if there is not None and not args.overwrite:
        raise FileError(f"{there} exists: choose another folder, or add --overwrite")
    return folder


def _doubted(args: argparse.Namespace, name: str, files: dict) -> tuple[Any, Any]:
    """Return what is doubtful in a case, and the image that it is drawn on, or None."""
    from ..report.doubts import doubt
    from ..report.rules_file import USUAL, read_rules

    labels = read_labels(args, files["labels"], "evaluate")
    names = {value: label.name for value, label in labels.labels.items()}
    maps = {key: None if files[key] is None else read_input(args, files[key], "image")
            for key in ("uncertainty", "image")}  # fmt: skip
    found = doubt(
        labels,
        rules=[] if args.rules is None else USUAL if args.rules == _USUAL else read_rules(args.rules, names),
        above=args.above,
        others=[read_labels(args, path, "evaluate") for path in files["others"] or ()],
        name=name,
        **maps,
    )
    return found, maps["image"]
