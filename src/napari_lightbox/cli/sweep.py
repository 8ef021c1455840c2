"""`lightbox sweep`: a model on an image that gets worse step by step, and what mends it."""

import argparse
from pathlib import Path
from typing import Any

from ..catalogue import operation
from ..errors import FileError, InputError
from ..ops import _check
from .reading import add_reading, read_input, read_labels
from .words import err, out, typed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Run a model on an image that is perturbed more and more (noise, blur, rotation, ...), score every answer, say "
        "where the model breaks, and rank filters by how far they mend it."
    )
    parser.add_argument("input", metavar="IMAGE", help="a file or a DICOM folder")
    parser.add_argument("--model", required=True, help="a shipped model or a model's folder")
    parser.add_argument("--perturbation", required=True, metavar="NAME", help=f"one of {', '.join(_names())}")
    parser.add_argument("--reference", metavar="LABELS", help="labels on the same grid, with the values of the model")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the results, made if it is missing")
    parser.add_argument("--strengths", metavar="N,N", help="in the perturbation's unit (default: some that suit it)")
    parser.add_argument("--label", metavar="NAME", help="class to look at, by name or value (default: mean of all)")
    parser.add_argument("--repeats", type=int, default=1, help="runs a strength, with other seeds (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of what is random (default 0)")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="a further parameter: across=axial"
    )
    parser.add_argument("--mend", action="store_true", help="also try filters at the first strength that breaks it")
    parser.add_argument("--force", action="store_true", help="go on where image and model do not fit each other")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    add_reading(parser)


def run(args: argparse.Namespace) -> int:
    """Sweep, mend where asked for, and write what was found."""
    from ..models import load, mend, perturbed, sweep
    from ..report.colours import window
    from ..report.sweeps import FILES, picture_of, write_sweep

    folder = Path(args.out)
    # What is wrong with the call itself is said first.
    strengths, options, label = _checked(args)
    there = next((folder / name for name in FILES if (folder / name).exists()), None)
    if there is not None and not args.overwrite:
        raise FileError(f"{there} exists: choose another folder, or add --overwrite")
    model = load(args.model)
    image = read_input(args, args.input, "image")
    truth = None if args.reference is None else read_labels(args, args.reference, "sweep")
    wanted = {"label": label, "device": args.device, "check": not args.force}
    pictures: dict[float, Any] = {}
    limits = window(image.frame(0))

    def watch(strength: float, repeat: int, shown, labels, reference) -> None:
        if repeat == 0:
            pictures[strength] = picture_of(shown, labels, limits)

    found = sweep(
        image,
        model,
        args.perturbation,
        strengths,
        reference=truth,
        repeats=args.repeats,
        seed=args.seed,
        options=options,
        watch=watch,
        **wanted,
    )
    at, mended = None, []
    if args.mend:
        at = found.first_broken
        shown = {"seed": args.seed, "options": options}
        worse = perturbed(image, args.perturbation, at, **shown)
        against = None if truth is None else perturbed(truth, args.perturbation, at, options=options, like=image)
        mended = mend(worse, model, against, **{**wanted, "check": False})
    files = write_sweep(folder, found, mended=mended, at=at, pictures=pictures, overwrite=args.overwrite)
    _tell(found, mended, at)
    out(", ".join(str(path) for path in files))
    return 0


def _checked(args: argparse.Namespace) -> tuple[list[float] | None, dict[str, Any], int | str | None]:
    """Return strengths, options and label, once everything is checked that needs no image."""
    from ..models import read_card
    from ..models.engine import choose_device
    from ..models.perturbations import perturbation_of, read_options
    from ..models.sweeps import strengths_of

    row = perturbation_of(args.perturbation)
    strengths, options = _strengths(args.strengths), read_options(args.option, "--option")
    if strengths is not None:
        strengths_of(row, strengths)
    operation(row.operation).complete(options)
    _check.whole(args.repeats, "--repeats")
    _check.whole(args.seed, "--seed", 0)
    output = read_card(args.model).output
    known = {v: output.label(v).name for v in output.values if v}
    label = _label(args.label)
    if label is not None and label not in (*known, *known.values()):
        listed = ", ".join(f"{v} ({name})" for v, name in known.items())
        raise InputError(f"--label {args.label!r} is unknown to model {args.model!r}: use one of {listed}")
    choose_device(args.device)
    for path in (args.input, args.reference):
        if path is not None and not Path(path).exists():
            raise FileError(f"{path} does not exist: check the name")
    return strengths, options, label


def _tell(found: Any, mended: list, at: float | None) -> None:
    unit = found.unit
    for note in found.notes:
        err(f"note: {typed(note)}")
    for point in found.curve():
        out(f"{point.strength:g} {unit}: Dice {point.mean:.4f}")
    broken = found.breaking_point()
    share = f"{100 * found.share:g} %"
    out(f"breaks at {broken:.4g} {unit} (below {share} of the unperturbed score)" if broken is not None
        else f"does not break: the score stays above {share} of the unperturbed one")  # fmt: skip
    for one in mended:
        told = f"{one.score:.4f} ({one.change:+.4f})" if one.score == one.score else f"not tried: {one.notes[0]}"
        out(f"at {at:g} {unit}, {one.title}: {one.measure} {told}")


def _names() -> tuple[str, ...]:
    from ..models.perturbations import PERTURBATIONS

    return tuple(PERTURBATIONS)


def _strengths(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--strengths {text!r} must be numbers apart by commas, such as 10,20,40") from None


def _label(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdigit() else text
