"""`lightbox evaluate`: segmentations against their references, one case or a cohort."""

import argparse
from pathlib import Path

from ..errors import FileError, InputError, LightboxError
from ..progress import track
from .batch import case_name
from .commands import add_overwrite
from .reading import add_reading, read_input, read_labels
from .words import err, out, typed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Compare labels with a reference on the same grid: overlap, rates, volumes and surface distances of every "
        "label, every single error with its place in the patient, and a page with pictures, the worst first."
    )
    parser.add_argument("predicted", metavar="PREDICTED", help="labels to be judged; with --cohort a folder of them")
    parser.add_argument("reference", metavar="REFERENCE", help="labels taken as the truth; with --cohort a folder")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the results, made if it is missing")
    parser.add_argument(
        "--cohort",
        action="store_true",
        help="both are folders: a prediction belongs to the reference whose name it has, or begins with",
    )
    parser.add_argument("--image", metavar="IMAGE", help="grey values to draw on; with --cohort a folder")
    parser.add_argument("--labels", metavar="N,N", help="values to score (default: all but 0)")
    parser.add_argument("--tolerance", type=float, default=2.0, help="mm, for the surface Dice (default 2)")
    parser.add_argument("--instances", action="store_true", help="also match connected pieces: lesions, nodules")
    add_overwrite(parser)
    add_reading(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate all cases and write what was found; a bad case is named, and the rest go on."""
    from ..report.evaluation import evaluate, summary
    from ..report.evaluation_page import FILES, write_evaluation

    folder = Path(args.out)
    there = next((folder / name for name in FILES if (folder / name).exists()), None)
    if there is not None and not args.overwrite:
        raise FileError(f"{there} exists: choose another folder, or add --overwrite")
    labels = _labels(args.labels)
    cases, images, failed = [], {}, {}
    pairs = _pairs(args, failed)
    if args.cohort:
        # Before the work is done for nothing.
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"folder {folder} cannot be made: {error.strerror or error}") from error
    for name, (predicted, reference, image) in track(list(pairs.items()), "cases"):
        try:
            if predicted is None:
                raise FileError(f"there is no prediction for {reference}")
            truth = read_labels(args, reference, "evaluate")
            found = read_labels(args, predicted, "evaluate")
            case = evaluate(found, truth, labels=labels, tolerance=args.tolerance, instances=args.instances, name=name)
            if image is not None:
                images[name] = read_input(args, image, "image")
                truth.grid.require_same_space(images[name].grid, f"{truth.name!r} and {images[name].name!r}")
                if images[name].frame_count not in (1, truth.frame_count):
                    raise InputError(
                        f"image {image} has {images[name].frame_count} frames and the reference {truth.frame_count}: "
                        "give one of one frame, or of as many"
                    )
        except (LightboxError, OSError, MemoryError) as error:
            if not args.cohort:
                raise
            failed[name] = typed(str(error))
            err(f"{name}: {failed[name]}")
        else:
            cases.append(case)
            _keep_the_worst(cases, images)
    if not cases:
        raise InputError(f"none of {len(failed)} cases could be evaluated")
    files = write_evaluation(
        folder, cases, images=images, failed=failed, tolerance=args.tolerance, overwrite=args.overwrite
    )
    for row in summary(cases):
        lost = "".join(f", {row[key]} {key}" for key in ("missed", "invented") if row[key])
        count = f" ({row['cases']} cases{lost})" if args.cohort else lost
        out(f"{row['name']}: Dice {row['dice']:.4f}, surface Dice {row['surface_dice']:.4f}, HD95 {row['hd95']:.2f} mm"
            f"{count}")  # fmt: skip
    out(", ".join(str(path) for path in files))
    return 1 if failed else 0


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


def _pairs(args: argparse.Namespace, failed: dict[str, str]) -> dict[str, tuple[str | None, str, str | None]]:
    """Return for each case the files of prediction, reference and image; predictions of none are told in `failed`."""
    if not args.cohort:
        return {case_name(args.predicted): (args.predicted, args.reference, args.image)}
    predicted, reference = _files(args.predicted, "PREDICTED"), _files(args.reference, "REFERENCE")
    images = {} if args.image is None else _files(args.image, "--image")
    if not reference:
        raise InputError(f"{args.reference} holds no file that can be read")
    pairs = {}
    for name, path in reference.items():
        pairs[name] = (_fitting(name, predicted, reference), path, _fitting(name, images, reference))
    used = {predicted for predicted, _, _ in pairs.values()}
    for name, path in predicted.items():
        if path not in used:
            failed[name] = f"there is no reference for {path}"
            err(f"{name}: {failed[name]}")
    return pairs


def _files(folder: str, what: str) -> dict[str, str]:
    from ..io import suffixes

    if not Path(folder).is_dir():
        raise FileError(f"{what} {folder} is no folder: with --cohort give folders")
    found: dict[str, str] = {}
    for path in sorted(Path(folder).iterdir()):
        if path.is_dir() or path.name.lower().endswith(tuple(suffixes())):
            name = case_name(str(path))
            if name in found:
                raise InputError(f"{found[name]} and {path} have the same name, {name!r}: put one somewhere else")
            found[name] = str(path)
    return found


def _fitting(name: str, files: dict[str, str], names: dict[str, str]) -> str | None:
    """Return the file of a case: that of its name, or the only one whose name begins with it."""
    if name in files:
        return files[name]
    # "case_1_lungs" belongs to "case_1" only where there is no case "case_1_lungs", and not to "case".
    longer = [other for other in names if other != name and other.startswith(name)]
    fitting = [
        path
        for other, path in files.items()
        if other.startswith((f"{name}_", f"{name}-", f"{name}."))
        and other not in names
        and not any(other.startswith(one) for one in longer)
    ]
    if len(fitting) > 1:
        raise InputError(f"{fitting[0]} and {fitting[1]} both fit the case {name!r}: rename one, or take it away")
    return fitting[0] if fitting else None
