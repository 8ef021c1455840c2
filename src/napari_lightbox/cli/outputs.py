"""The command `lightbox outputs`: what a model said elsewhere, onto its image."""

import argparse
from pathlib import Path

from ..errors import FileError, InputError
from ..io import suffixes, write
from ..io._staged import staged
from ..models.classes import read_classes
from ..models.outputs import Outputs, read_outputs
from ..volume import Volume
from .batch import case_name
from .commands import add_overwrite
from .reading import add_reading, read_input
from .words import out, typed


def add_arguments(parser: argparse.ArgumentParser, argv: list[str]) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Load labels, probabilities or logits of a model that was run elsewhere, check that they fit their image, and "
        "write labels, probabilities and uncertainty on its grid."
    )
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="labels; an .npz of nnU-Net; a file with the classes as 4th axis; or one file a class, background first",
    )
    parser.add_argument("--like", required=True, metavar="IMAGE", help="the image, a file or a DICOM folder")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the results, made if it is missing")
    parser.add_argument("--classes", metavar="JSON", help="names of the classes: a dataset.json, card.json or table")
    parser.add_argument(
        "--activation",
        choices=("softmax", "sigmoid", "none"),
        help="softmax or sigmoid: the values are logits; none: they are probabilities (default: told by the values)",
    )
    parser.add_argument("--regions", action="store_true", help="classes may overlap")
    parser.add_argument("--axes", metavar="CZYX", help="axes of an .npz or .npy, a letter each (default czyx)")
    parser.add_argument("--key", metavar="NAME", help="name of the array in an .npz with several")
    parser.add_argument(
        "--probability", action="append", default=[], metavar="NAME", help="write the probability of this class, or all"
    )
    parser.add_argument("--uncertainty", action="store_true", help="write the normalised entropy of the classes")
    parser.add_argument("--suffix", default=".nii.gz", help="format of the results (default .nii.gz)")
    add_overwrite(parser)
    add_reading(parser)


def run(args: argparse.Namespace) -> int:
    """Load the outputs and write what was asked for."""
    if args.suffix not in suffixes(write=True):
        raise InputError(f"--suffix {args.suffix!r} cannot be written: use one of {', '.join(suffixes(write=True))}")
    image = read_input(args, args.like)
    found = read_outputs(
        args.files if len(args.files) > 1 else args.files[0],
        image,
        None if args.classes is None else read_classes(args.classes),
        activation=args.activation,
        kind="regions" if args.regions else None,
        axes=args.axes and args.axes.lower(),
        key=args.key,
        probabilities="all" if "all" in args.probability else [_value(n) for n in args.probability],
        uncertainty=args.uncertainty,
    )
    for note in found.notes:
        out(typed(note))
    results = _results(args, found)
    folder = Path(args.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"folder {folder} cannot be made: {error.strerror or error}") from error
    base = f"{case_name(args.like)}_{_plain(found.card.name)}"
    targets = [folder / f"{base}{part}{args.suffix}" for part, _ in results]
    there = next((path for path in targets if path.exists() and not args.overwrite), None)
    if there is not None:
        raise FileError(f"{there} exists: choose another folder, or add --overwrite")
    with staged(folder, overwrite=True) as stage:
        for (_, volume), path in zip(results, targets, strict=True):
            write(volume, stage / path.name)
    out(", ".join(str(path) for path in targets))
    return 0


def _value(name: str) -> int | str:
    return int(name) if name.isdecimal() else name


def _plain(name: str) -> str:
    return name.replace("/", "-").replace(" ", "-")


def _results(args: argparse.Namespace, found: Outputs) -> list[tuple[str, Volume]]:
    """Return what is written, with the end of its name; what labels alone cannot give is refused."""
    results = [("_labels", found.labels)]
    for value in found.kept or [_value(n) for n in args.probability]:
        volume = found.probability(value)
        results.append((f"_p_{_plain(found.card.output.label(value).name)}", volume))
    return results + ([("_uncertainty", found.uncertainty)] if args.uncertainty else [])
