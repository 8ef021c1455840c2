"""The commands of `lightbox`. Nothing heavy is imported until a command needs it."""

import argparse
import importlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FileError, InputError
from . import reading
from .reading import add_reading, number_list, read_input
from .words import typed

# Roles of parameters that are volumes, hence files here.
_VOLUMES = ("image", "labels", "volume")


@dataclass(frozen=True)
class Command:
    """A command: what it is for, its arguments, and what it does (it returns the exit code)."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser, list[str]], None]
    run: Callable[[argparse.Namespace], int]


# What several commands share --------------------------------------------------------------------------------------


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add ``--overwrite``."""
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")


def check_target(path: str, overwrite: bool) -> Path:
    """Refuse a file that cannot or must not be written, before the work is done."""
    from ..io import suffixes

    target = Path(path)
    if not target.name.lower().endswith(suffixes(write=True)):
        raise FileError(f"{target} names no format that can be written: end it in {', '.join(suffixes(write=True))}")
    return check_place(target, overwrite)


def check_place(target: Path, overwrite: bool) -> Path:
    """Refuse a place where no file can or must be written, before the work is done."""
    if not target.parent.is_dir():
        raise FileError(f"folder {target.parent} does not exist: make it first")
    if target.is_dir():
        raise FileError(f"{target} is a folder: give the name of a file")
    if target.exists() and not overwrite:
        raise FileError(f"{target} exists: choose another name, or add --overwrite")
    # A link is followed: the file is made where it points.
    place = Path(os.path.realpath(target)).parent
    if not os.access(place, os.W_OK | os.X_OK):
        raise FileError(f"folder {place} cannot be written to: choose another place for {target.name}")
    return target


def save(volume: Any, target: Path) -> None:
    """Write a volume and say so."""
    from ..io import write

    write(volume, target)
    print(f"{target}: {volume.kind}, {reading.size_text(volume)}")


# demo -----------------------------------------------------------------------------------------------------------


def _add_demo(parser: argparse.ArgumentParser, argv: list[str]) -> None:
    parser.add_argument("--input", metavar="PATH", help="a volume or DICOM folder; the shipped thorax if not given")
    parser.add_argument("--truth", metavar="PATH", help="labels on the same grid that are known to be right")
    parser.add_argument("--model", help="a shipped model or a model's folder; chosen by the image if not given")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--out", metavar="DIR", help="write files and a report there (without a screen: lightbox-demo)")
    parser.add_argument("--no-window", action="store_true", help="write files and a report even if there is a screen")
    parser.add_argument("--screenshot", metavar="FILE", help="save a picture of the window as PNG and quit")
    add_overwrite(parser)
    add_reading(parser)


def _run_demo(args: argparse.Namespace) -> int:
    from . import demonstrate

    return demonstrate.run(args)


# info -----------------------------------------------------------------------------------------------------------


def _add_info(parser: argparse.ArgumentParser, argv: list[str]) -> None:
    parser.add_argument("path", help="a file; or a folder, whose DICOM series are listed")
    parser.add_argument("--json", action="store_true", help="write the same as JSON")


def _run_info(args: argparse.Namespace) -> int:
    from ..io import info

    if Path(args.path).is_dir():
        from ..io.series import list_series
        from . import series

        print((series.as_json if args.json else series.as_text)(list_series(args.path)))
        return 0
    found = info(args.path)
    print(json.dumps(found, indent=2) if args.json else "\n\n".join(_described(volume) for volume in found))
    return 0


def _described(facts: dict[str, Any]) -> str:
    frames, span = facts["frames"], facts["range"]
    unit = f" {facts['unit']}" if facts["unit"] else ""
    labels = facts["labels"]
    rows = {
        "kind": f"{facts['kind']}, {facts['type']}",
        "modality": facts["modality"] or "not stated",
        "size": f"{_by(facts['size'])} voxels (x, y, z)",
        "spacing": f"{_by(facts['spacing'])} mm (x, y, z)" if facts["spacing_known"] else "unknown",
        "orientation": facts["orientation"] + (", left-handed axes" if facts["left_handed"] else ""),
        "obliquity": f"{facts['obliquity']:.1f} degrees" if facts["orientation"] != "unknown" else "unknown",
        "origin": f"{_by(facts['origin'], ', ')} mm (x, y, z in LPS)" if facts["orientation"] != "unknown" else "",
        "frames": frames and f"{len(frames['values'])} ({frames['kind']}, {_span(frames)})",
        "values": f"{span[0]:z.6g} to {span[1]:z.6g}{unit}" if span else "no finite values",
        "labels": ", ".join(f"{v} {n}" for v, n in [*labels.items()][:12]) + (" ..." if len(labels) > 12 else ""),
    }
    lines = [facts["name"], *(f"  {name:<12} {value}" for name, value in rows.items() if value)]
    if facts["shear"] > 0.05:
        lines.append(f"  warning      the axes are sheared by {facts['shear']:.1f} degrees")
    if facts.get("gaps"):
        one, which = len(facts["gaps"]) == 1, ", ".join(map(str, facts["gaps"]))
        told = f"slice {which} (counted from 0) was" if one else f"slices {which} (counted from 0) were"
        lines.append(f"  gaps         {told} missing and {'is' if one else 'are'} interpolated")
    if facts.get("frame_gaps"):
        told = "; ".join(f"slice {z} of frame {t}" for t, z in facts["frame_gaps"])
        lines.append(f"  gaps         {told} (counted from 0) missing and interpolated")
    lines += [f"  warning      {typed(note)}" for note in facts["notes"]]
    return "\n".join(lines)


def _by(values: tuple, between: str = " x ") -> str:
    return between.join(f"{v:z.6g}" for v in values)


def _span(frames: dict[str, Any]) -> str:
    unit = f" {frames['unit']}" if frames["unit"] else ""
    return f"{frames['values'][0]:g} to {frames['values'][-1]:g}{unit}"


# convert --------------------------------------------------------------------------------------------------------


def _add_convert(parser: argparse.ArgumentParser, argv: list[str]) -> None:
    parser.add_argument("input", metavar="IN", help="a file or a DICOM folder")
    parser.add_argument("output", metavar="OUT", help="the file to write; its suffix tells the format")
    parser.add_argument("--orientation", metavar="CODE", help="order of the stored axes, such as LPS or RAS")
    parser.add_argument("--spacing", metavar="X,Y,Z", help="resample to voxels of this size in mm; one number for all")
    add_overwrite(parser)
    add_reading(parser)


def _run_convert(args: argparse.Namespace) -> int:
    from ..apply import apply

    target = check_target(args.output, args.overwrite)
    spacing = None
    if args.spacing is not None:
        spacing = number_list(args.spacing, "--spacing")
        if len(spacing) == 2:
            raise InputError(f"--spacing {args.spacing!r} must be one length or three, such as 1 or 1,1,2")
        spacing = tuple(reversed(spacing if len(spacing) == 3 else spacing * 3))
    volumes = reading.read_each(args, args.input)
    targets = _numbered(target, len(volumes), args.overwrite)
    if len(volumes) > 1:
        print(f"{args.input} needs {len(volumes)} volumes, each is written to a file of its own")
    for volume, place in zip(volumes, targets, strict=True):
        result = volume
        if args.orientation is not None:
            result = apply("reorient", result, code=args.orientation)
        if spacing is not None:
            result = apply("resample", result, spacing=spacing)
        save(result, place)
        if spacing is not None:
            reading.tell_if_labels(args, volume)
            reading.tell_if_sizeless(volume)
    return 0


def _numbered(target: Path, count: int, overwrite: bool) -> list[Path]:
    """Return a file for each of several volumes: out_1.nii.gz, out_2.nii.gz."""
    if count == 1:
        return [target]
    from ..io import suffixes

    suffix = next(s for s in suffixes(write=True) if target.name.lower().endswith(s))
    stem, suffix = target.name[: -len(suffix)], target.name[-len(suffix) :]
    return [check_place(target.with_name(f"{stem}_{n}{suffix}"), overwrite) for n in range(1, count + 1)]


# apply ----------------------------------------------------------------------------------------------------------


def _add_apply(parser: argparse.ArgumentParser, argv: list[str]) -> None:
    from ..catalogue import OPERATIONS
    from . import arguments

    parser.description = "Run one operation on a volume. 'lightbox apply OPERATION --help' explains its parameters."
    names = [a for a in argv if not a.startswith("-")][1:2]
    subparsers = parser.add_subparsers(metavar="OPERATION", title="operations", dest="operation", required=True)
    for name, row in OPERATIONS.items():
        summary = row.summary.replace("%", "%%")
        sub = subparsers.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if names == [name]:
            _add_one_operation(sub, row)
            arguments.add_parameters(sub, row)


def _add_one_operation(parser: argparse.ArgumentParser, row: Any) -> None:
    others = [p for p in row.parameters if p.role in _VOLUMES]
    parser.add_argument("input", metavar="INPUT", help="a file or a DICOM folder")
    if others:
        names = ", ".join(p.name for p in others)
        parser.add_argument("others", metavar="INPUT2", nargs="*", help=f"further volumes, in this order: {names}")
    parser.add_argument("--out", required=True, metavar="FILE", help="the file to write; its suffix tells the format")
    parser.add_argument("--recipe", metavar="FILE", help="also save the step as a recipe for 'lightbox run'")
    if not row.on_volumes:
        whole = "axial planes" if row.planes else "the whole volume at once"
        also = "; volume: all at once" if row.whole else ""
        parser.add_argument(
            "--plane", help=f"axial, coronal, sagittal, z, y or x: slice by slice{also} (default: {whole})"
        )
    if row.takes_device:
        parser.add_argument("--device", default="cpu", help="cpu, or a graphics card: cuda, cuda:1 (default cpu)")
    add_overwrite(parser)
    add_reading(parser)


def _run_apply(args: argparse.Namespace) -> int:
    from ..apply import apply
    from ..catalogue import operation
    from ..recipe import Recipe
    from .arguments import points

    row = operation(args.operation)
    target = check_target(args.out, args.overwrite)
    recipe = _recipe_target(args, row)
    _require_seeds(args, row)
    # The mask of an operation on volumes may lie on another grid, but has labels, too.
    kinds = {p.name: "labels" if p.role == "labels" or p.name == "mask" else None for p in row.parameters}
    roles = {p.name: p.role for p in row.parameters}
    values = {
        name.removeprefix("parameter_"): value for name, value in vars(args).items() if name.startswith("parameter_")
    }
    for name, value in values.items():
        if roles[name] == "seeds":
            values[name] = points(value)
        elif roles[name] in _VOLUMES:
            values[name] = read_input(args, value, kinds[name])
    free = [p.name for p in row.parameters if p.role in _VOLUMES and p.name not in values]
    files = getattr(args, "others", [])
    if len(files) > len(free):
        raise InputError(f"{row.name} takes {len(free)} further volumes, not {len(files)}: leave {files[-1]} out")
    values |= {name: read_input(args, file, kinds[name]) for name, file in zip(free, files, strict=False)}
    plane = getattr(args, "plane", None)
    if row.input.role == "labels":
        source = reading.read_labels(args, args.input, row.name)
    else:
        source = read_input(args, args.input)
    result = apply(row.name, source, plane=plane, device=getattr(args, "device", "cpu"), **values)
    save(result, target)
    # Labels are worked on one by one, and never interpolated.
    if row.input.role in ("image", "voxels") or any(p.name == "order" for p in row.parameters):
        reading.tell_if_labels(args, source)
    if _in_mm(row, values):
        reading.tell_if_sizeless(source)
    for note in result.history[-1].get("notes", ()):
        print(typed(note))
    if recipe is not None:
        steps = len(result.history)
        print(f"{Recipe.of(result).save(recipe)}: recipe of {steps} step{'s' * (steps != 1)}")
    return 0


def _in_mm(row: Any, values: dict[str, Any]) -> bool:
    """Whether an operation is given lengths in mm, or has them by itself."""
    lengths = {p.name: p.default for p in row.parameters if str(p.hints.get("unit", "")).startswith("mm")}
    return any(values.get(name, default) not in (None, 0, ()) for name, default in lengths.items())


def _recipe_target(args: argparse.Namespace, row: Any) -> Path | None:
    """Refuse a recipe that would replace a volume or cannot be written, before the work is done."""
    if args.recipe is None:
        return None
    target = Path(args.recipe)
    volumes = [getattr(args, f"parameter_{p.name}", None) for p in row.parameters if p.role in _VOLUMES]
    for other in (args.out, args.input, *getattr(args, "others", []), *volumes):
        if other is not None and os.path.realpath(other) == os.path.realpath(target):
            raise InputError(f"--recipe {target} is the file of a volume: give a name of its own, ending in .json")
    if target.suffix.lower() != ".json":
        raise InputError(f"--recipe {target} must end in .json")
    return check_place(target, args.overwrite)


def _require_seeds(args: argparse.Namespace, row: Any) -> None:
    """Ask for seeds as they are typed here; the operation itself would ask for indices."""
    for p in row.parameters:
        if p.role == "seeds" and p.required and not hasattr(args, f"parameter_{p.name}"):
            raise InputError(
                f"{row.name} needs {p.name}: add --{p.name} X,Y,Z, points in LPS mm, several apart by blanks"
            )


# phantom --------------------------------------------------------------------------------------------------------


def _add_phantom(parser: argparse.ArgumentParser, argv: list[str]) -> None:
    from ..phantoms_dicom import VARIANTS

    parser.description = "Write a DICOM series of the thorax phantom, whose truth is known at every voxel."
    parser.add_argument("out", metavar="DIR", help="an empty folder, made if it is missing")
    what = "; ".join(f"{name}: {text}" for name, text in VARIANTS.items())
    parser.add_argument("--variant", choices=VARIANTS, default="plain", metavar="NAME", help=f"{what} (default plain)")
    parser.add_argument("--seed", type=int, default=0, help="of the person and of all UIDs (default 0)")


def _run_phantom(args: argparse.Namespace) -> int:
    from ..phantoms_dicom import write_series

    paths = write_series(args.out, args.variant, args.seed)
    print(f"{args.out}: {len(paths)} DICOM files, {paths[0].name} to {paths[-1].name}")
    return 0


# The long ones ----------------------------------------------------------------------------------------------------


def _add_run(parser: argparse.ArgumentParser, argv: list[str]) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe, as docks, 'apply --recipe' and the demo save it")
    parser.add_argument("inputs", metavar="IN", nargs="+", help="files or DICOM folders, each a case of its own")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the results, made if it is missing")
    parser.add_argument(
        "--with",
        dest="further",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a further volume that the recipe needs, by the name it uses; the same for all cases",
    )
    parser.add_argument("--suffix", default=".nii.gz", help="format of the results (default .nii.gz)")
    add_overwrite(parser)
    add_reading(parser)


def _add_train(parser: argparse.ArgumentParser, argv: list[str]) -> None:
    parser.add_argument("model", choices=("fetal-head", "ct-regions"), help="which of the shipped models to train anew")
    parser.add_argument("--data", metavar="DIR", help="folder of the data; fetal-head needs it, ct-regions for figures")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the model; goes on if unfinished")
    parser.add_argument("--steps", type=int, help="batches to learn from")
    parser.add_argument("--seed", type=int, help="random seed")
    parser.add_argument("--threads", type=int, help="CPU threads")
    add_overwrite(parser)


def _add_measure(parser: argparse.ArgumentParser, argv: list[str]) -> None:
    from .measure import add_arguments

    add_arguments(parser)


def _run_measure(args: argparse.Namespace) -> int:
    from .measure import run

    return run(args)


def _add_evaluate(parser: argparse.ArgumentParser, argv: list[str]) -> None:
    from .evaluate import add_arguments

    add_arguments(parser)


def _run_evaluate(args: argparse.Namespace) -> int:
    from .evaluate import run

    return run(args)


def _add_outputs(parser: argparse.ArgumentParser, argv: list[str]) -> None:
    from .outputs import add_arguments

    add_arguments(parser, argv)


def _run_outputs(args: argparse.Namespace) -> int:
    from .outputs import run

    return run(args)


def _batch(name: str) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        from . import batch

        return getattr(batch, name)(args)

    return run


def _room(name: str, do: str) -> Callable:
    """Return what calls a function of a module of this room, imported only then."""
    return lambda first, *_: getattr(importlib.import_module(f".{name}", __package__), do)(first)


# bench ----------------------------------------------------------------------------------------------------------


def _add_bench(parser: argparse.ArgumentParser, argv: list[str]) -> None:
    from . import bench

    bench.add_arguments(parser)


def _run_bench(args: argparse.Namespace) -> int:
    from . import bench

    return bench.run(args)


COMMANDS = {
    "demo": Command(
        "see everything at work on a volume: in a napari window, or as files and a report", _add_demo, _run_demo
    ),
    "info": Command("say what a file or a DICOM folder holds", _add_info, _run_info),
    "convert": Command("write a volume in another format, orientation or spacing", _add_convert, _run_convert),
    "apply": Command("run one operation on a volume", _add_apply, _run_apply),
    "measure": Command("measure every label: volume, place, grey values", _add_measure, _run_measure),
    "run": Command("run a recipe over one volume or many", _add_run, _batch("run_recipe")),
    "predict": Command("run a model over volumes", _room("predicting", "add_arguments"), _room("predicting", "run")),
    "outputs": Command("load what a model said elsewhere onto its image", _add_outputs, _run_outputs),
    "evaluate": Command("compare labels with a reference: scores, errors, a page", _add_evaluate, _run_evaluate),
    "sweep": Command(
        "perturb an image step by step until a model breaks on it",
        _room("sweep", "add_arguments"),
        _room("sweep", "run"),
    ),
    "explain": Command(
        "show which voxels of an image speak for a class",
        _room("explain", "add_arguments"),
        _room("explain", "run"),
    ),
    "models": Command(
        "list the shipped models and what their cards say, and the architectures",
        _room("model_list", "add_arguments"),
        _room("model_list", "run"),
    ),
    "phantom": Command("write a DICOM series of the thorax phantom, in order or spoilt", _add_phantom, _run_phantom),
    "train": Command("train a shipped model anew", _add_train, _batch("train")),
    "bench": Command("measure how fast the operations are here, beside other libraries", _add_bench, _run_bench),
}
