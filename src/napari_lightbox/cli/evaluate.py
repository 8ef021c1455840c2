"""`lightbox evaluate`: segmentations against their references, one case or a cohort."""

import argparse
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FileError, InputError, LightboxError
from ..progress import track
from . import doubting
from .batch import case_name
from .commands import add_overwrite
from .reading import add_reading, read_input, read_labels
from .words import err, out, typed

if TYPE_CHECKING:
    from ..report.evaluation_files import Files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Compare labels with a reference on the same grid: overlap, rates, volumes and surface distances of every "
        "label, every single error with its place in the patient, and a page with pictures, the worst first. Without a "
        "reference, list what is doubtful: --rules, --uncertainty, --others."
    )
    parser.add_argument("predicted", metavar="PREDICTED", help="labels to be judged; with --cohort a folder of them")
    parser.add_argument(
        "reference", metavar="REFERENCE", nargs="?", help="labels taken as the truth; with --cohort a folder"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the results, made if it is missing")
    parser.add_argument(
        "--cohort",
        action="store_true",
        help="folders in place of files: a prediction belongs to the reference whose name it has, or begins with",
    )
    parser.add_argument("--image", metavar="IMAGE", help="grey values to draw on; with --cohort a folder")
    parser.add_argument("--labels", metavar="N,N", help="values to score (default: all but 0)")
    parser.add_argument("--tolerance", type=float, default=2.0, help="mm, for the surface Dice (default 2)")
    parser.add_argument("--instances", action="store_true", help="also match connected pieces: lesions, nodules")
    parser.add_argument("--versus", metavar="SECOND", help="a second prediction: what it makes better and worse")
    parser.add_argument("--slices", action="store_true", help="also score every slice")
    parser.add_argument("--boundary", type=float, metavar="MM", help="also the boundary IoU, of a rim of so many mm")
    parser.add_argument("--centreline", action="store_true", help="also the centreline Dice: vessels, airways")
    doubting.add_arguments(parser)
    add_overwrite(parser)
    add_reading(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate all cases and write what was found; a bad case is named, and the rest go on."""
    from ..report.evaluation_page import FILES, MORE_FILES, write_evaluation

    if args.reference is None or doubting.asked(args):
        return doubting.run(args)
    folder = Path(args.out)
    there = next((folder / name for name in (*FILES, *MORE_FILES) if (folder / name).exists()), None)
    if there is not None and not args.overwrite:
        raise FileError(f"{there} exists: choose another folder, or add --overwrite")
    labels = _labels(args.labels)
    cases, images, failed = [], {}, {}
    pairs = _pairs(args)
    for name, files in pairs.items():
        if files.reference is None:
            failed[name] = f"there is no reference for {files.predicted}"
            err(f"{name}: {failed[name]}")
    if args.cohort:
        # Before the work is done for nothing.
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"folder {folder} cannot be made: {error.strerror or error}") from error
    for name, files in track([pair for pair in pairs.items() if pair[0] not in failed], "cases"):
        try:
            case, image = _evaluated(args, name, files, labels)
        except (LightboxError, OSError, MemoryError) as error:
            if not args.cohort:
                raise
            failed[name] = typed(str(error))
            err(f"{name}: {failed[name]}")
        else:
            cases.append(case)
            if image is not None:
                images[name] = image
            _keep_the_worst(cases, images)
    if not cases:
        raise InputError(f"none of {len(failed)} cases could be evaluated")
    files = write_evaluation(
        folder, cases, images=images, failed=failed, tolerance=args.tolerance, overwrite=args.overwrite
    )
    _tell(args, cases)
    out(", ".join(str(path) for path in files))
    return 1 if failed else 0


def _evaluated(args: argparse.Namespace, name: str, files: "Files", labels: list[int] | None) -> tuple:
    """Return a case and the image that it is drawn on, or None."""
    from ..report.evaluation import evaluate
    from ..report.evaluation_page import with_thumbnail
    from ..report.evaluation_versus import compare

    if files.predicted is None:
        raise FileError(_missing("prediction", files.reference, args.predicted))
    if args.versus is not None and files.second is None:
        raise FileError(_missing("second prediction", files.reference, args.versus))
    with _naming("reference", files.reference):
        truth = read_labels(args, files.reference, "evaluate")
    with _naming("prediction", files.predicted):
        found = read_labels(args, files.predicted, "evaluate")
    options = {"labels": labels, "tolerance": args.tolerance, "instances": args.instances}
    options |= {"boundary": args.boundary, "centreline": args.centreline}
    case = evaluate(found, truth, slices=args.slices, name=name, **options)
    if files.second is not None:
        with _naming("second prediction", files.second):
            case = compare(case, read_labels(args, files.second, "evaluate"), **options)
    image = None
    if files.image is not None:
        image = read_input(args, files.image, "image")
        truth.grid.require_same_space(image.grid, f"{truth.name!r} and {image.name!r}")
        if image.frame_count not in (1, truth.frame_count):
            raise InputError(
                f"image {files.image} has {image.frame_count} frames and the reference {truth.frame_count}: "
                "give one of one frame, or of as many"
            )
    if args.cohort:
        case = with_thumbnail(case, image)
    return replace(case, files=files.seen_from(Path(args.out))), image


@contextmanager
def _naming(what: str, path: str) -> Iterator[None]:
    """Have errors name the file: those of a case have one name in all folders."""
    try:
        yield
    except LightboxError as error:
        if path in str(error):
            raise
        raise InputError(f"{what} {path}: {error}") from error


def _missing(what: str, reference: str, folder: str) -> str:
    """Say that a case lacks a file, and what there is that looks like it: a copy that broke off, say."""
    begin = f"{case_name(reference)}."
    near = [path for path in sorted(Path(folder).iterdir()) if path.name.startswith(begin)]
    known = f"; {near[0]} has no ending of a file that can be read: copy it again or rename it" if near else ""
    return f"there is no {what} for {reference}{known}"


def _tell(args: argparse.Namespace, cases: list) -> None:
    """Say on one line a label what was found."""
    from ..report.evaluation import summary
    from ..report.evaluation_versus import change_of, paired

    for row in summary(cases):
        lost = "".join(f", {row[key]} {key}" for key in ("missed", "invented") if row[key])
        count = f" ({row['cases']} cases{lost})" if args.cohort else lost
        out(f"{row['name']}: Dice {row['dice']:.4f}, surface Dice {row['surface_dice']:.4f}, HD95 {row['hd95']:.2f} mm"
            f"{count}")  # fmt: skip
    if args.versus is None:
        return
    for row in paired(cases):
        if row["score"] == "dice":
            sure = "" if math.isnan(row["p"]) else f", p {row['p']:.3g}"
            out(f"{row['name']}: second against first Dice {row['first']:.4f} to {row['second']:.4f}, better in "
                f"{row['better']} and worse in {row['worse']} of {row['cases']} cases{sure}")  # fmt: skip
    changes = [change_of(case) for case in cases]
    gained, lost = (sum(one[key] for one in changes) for key in ("gained_ml", "lost_ml"))
    out(f"gained {gained:.3g} ml, lost {lost:.3g} ml")


def _keep_the_worst(cases: list, images: dict) -> None:
    """Keep the voxels of those cases only that will be drawn: a cohort may be larger than the memory."""
    from ..report.evaluation import worst_first
    from ..report.evaluation_page import DRAWN

    for case in worst_first(cases)[DRAWN:]:
        cases[cases.index(case)] = case.without_voxels()
        images.pop(case.name, None)


def _labels(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--labels {text!r} must be whole numbers apart by commas, such as 1,2") from None


def _pairs(args: argparse.Namespace) -> dict[str, "Files"]:
    """Return the files of each case."""
    from ..report.evaluation_files import Files, pair_up

    if not args.cohort:
        return {case_name(args.predicted): Files(args.predicted, args.reference, args.image, args.versus)}
    return pair_up(args.predicted, args.reference, args.image, args.versus, name=case_name)
