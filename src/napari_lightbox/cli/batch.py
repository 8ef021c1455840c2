"""Commands that go through many cases: recipes, training; and what they have in common."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..errors import FileError, InputError, LightboxError, need
from ..geometry import Grid
from ..io import read, suffixes, write
from ..io._staged import staged
from ..progress import track
from ..recipe import Recipe
from ..volume import Volume
from .reading import read_input
from .words import err, out, typed


def case_name(path: str) -> str:
    """Return the name of a case: of its file without the suffix, or of its folder.

    Examples
    --------
    >>> case_name("scans/ct.nii.gz"), case_name("scans/dicom/")
    ('ct', 'dicom')
    """
    name = Path(path).name or Path(path).resolve().name
    for suffix in suffixes():
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def group_cases(inputs: Sequence[str], size: int = 1) -> dict[str, list[str]]:
    """Group the inputs to cases by name; two cases of one name would write the same files."""
    if len(inputs) % size:
        raise InputError(
            f"{len(inputs)} files are given, but the model takes {size} channels a case: give them in turn"
        )
    cases: dict[str, list[str]] = {}
    for start in range(0, len(inputs), size):
        files = [*inputs[start : start + size]]
        name = case_name(files[0])
        if name in cases:
            raise InputError(f"{cases[name][0]} and {files[0]} have the same name, {name!r}: run them into two folders")
        cases[name] = files
    return cases


def open_folder(path: str, suffix: str) -> Path:
    """Return the folder of the results, made if it is missing; refuse a suffix that cannot be written."""
    if suffix not in suffixes(write=True):
        raise InputError(f"--suffix {suffix!r} cannot be written: use one of {', '.join(suffixes(write=True))}")
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"folder {folder} cannot be made: {error.strerror or error}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"folder {folder} cannot be written to: choose another folder")
    return folder


def go_through(
    cases: dict[str, list[str]],
    targets: Callable[[str], list[Path]],
    work: Callable[[list[str]], list[Volume]],
    recipe: Recipe,
    args: argparse.Namespace,
) -> int:
    """Do all cases that were not done before; a bad one is named and the rest go on. Returns the exit code."""
    failed = []
    for name, files in track(list(cases.items()), "cases"):
        wanted = targets(name)
        there = [] if args.overwrite else [path for path in wanted if path.exists()]
        try:
            if there and len(there) < len(wanted):
                raise FileError(f"{there[0]} exists, but not all results: remove it or add --overwrite")
            if there:
                _require_made(recipe, there, files, args)
                out(f"{name}: done before, {wanted[0]} is there")
                continue
            _write_together(work(files), wanted)
            out(f"{name}: {', '.join(str(path) for path in wanted)}")
        except (LightboxError, OSError, MemoryError) as error:
            failed.append(name)
            err(f"{name}: {typed(str(error))}")
    if failed:
        err(f"{len(failed)} of {len(cases)} cases failed: {', '.join(failed)}")
    return 1 if failed else 0


def _write_together(volumes: list[Volume], targets: list[Path]) -> None:
    """Write all results of a case; if one fails or the work is stopped, what was there before stays as it was."""
    with staged(targets[0].parent, overwrite=True) as stage:
        for volume, path in zip(volumes, targets, strict=True):
            try:
                write(volume, stage / path.name)
            except FileError as error:
                # The place that is named is the one that was asked for.
                raise FileError(str(error).replace(str(stage), str(path.parent))) from error


def _require_made(recipe: Recipe, there: list[Path], files: list[str], args: argparse.Namespace) -> None:
    """Refuse results that other steps have made, or of another image: something was changed since."""
    image = read_input(args, files[0], _kind(recipe, args))
    for path in there:
        steps = read(path).history
        # Steps that the input came with stand before those of the recipe.
        before = len(steps) - len(recipe.steps)
        if before < 0 or before != len(image.history) or not recipe.made(steps[before:]):
            raise FileError(f"{path} was not made by these steps: add --overwrite, or choose another folder")
        grid = steps[before].get("grid") if recipe.steps else None
        if grid is not None and not Grid.from_dict(grid).same_space(image.grid):
            raise FileError(
                f"{path} was made of another image than {files[0]}: choose another folder, or add --overwrite"
            )


# run --------------------------------------------------------------------------------------------------------------


def run_recipe(args: argparse.Namespace) -> int:
    """Run a recipe over all inputs."""
    recipe, folder = Recipe.load(args.recipe), open_folder(args.out, args.suffix)
    inputs, further = recipe.inputs, {}
    for pair in args.further:
        name, sign, file = pair.partition("=")
        if not sign or not name or not file:
            raise InputError(f"--with {pair!r} must be a name and a file, such as --with mask=mask.nii.gz")
        name = _title(recipe, name)
        if name not in inputs:
            known = ", ".join(repr(n) for n in inputs) or "none"
            raise InputError(f"--with {pair!r} names no further volume of the recipe: it needs {known}")
        further[name] = read_input(args, file, "labels" if inputs[name] == "labels" else None)
    wanted = set(inputs) - set(further)
    if wanted:
        names = ", ".join(repr(n) for n in sorted(wanted))
        raise InputError(f"the recipe needs further volumes ({names}): give each as --with NAME=FILE")
    stem, kind = Path(args.recipe).stem, _kind(recipe, args)

    def targets(name: str) -> list[Path]:
        return [folder / f"{name}_{stem}{args.suffix}"]

    def work(files: list[str]) -> list[Volume]:
        return [recipe.run(read_input(args, files[0], kind), inputs=further)]

    return go_through(group_cases(args.inputs), targets, work, recipe, args)


def _kind(recipe: Recipe, args: argparse.Namespace) -> str | None:
    """Return what the inputs are to be read as where the recipe was made of labels and no option says otherwise."""
    return "labels" if recipe.kind == "labels" and args.read_as is None else None


def _title(recipe: Recipe, name: str) -> str:
    """Return the name of a further volume in the recipe, where only one goes by the parameter of that name."""
    if name in recipe.inputs:
        return name
    found = {
        str(value["volume"])
        for step in recipe.steps
        for parameter, value in step.parameters.items()
        if parameter == name and isinstance(value, Mapping) and "volume" in value
    }
    return found.pop() if len(found) == 1 else name


# train ------------------------------------------------------------------------------------------------------------


def train(args: argparse.Namespace) -> int:
    """Train one of the shipped models anew."""
    need("torch", "Training")
    folder = Path(args.out)
    if (folder / "card.json").exists() and not args.overwrite:
        raise FileError(f"{folder} already holds a finished model: choose another folder, or add --overwrite")
    if args.model == "fetal-head":
        from ..models.shipped import train_fetal_head as script

        if args.data is None:
            raise InputError("fetal-head learns from pictures: give their folder as --data DIR")
    else:
        from ..models.shipped import train_ct_regions as script
    if args.data is not None and not Path(args.data).is_dir():
        raise FileError(f"--data {args.data} is not a folder: give the folder of the data")
    call = []
    for name in ("data", "out", "steps", "seed", "threads"):
        value = getattr(args, name)
        call += [f"--{name}", str(value)] if value is not None else []
    script.main(call)
    return 0
