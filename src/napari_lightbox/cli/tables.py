"""`lightbox predict` for models that answer for a whole image or find boxes; and what is done to labels afterwards."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import FileError, InputError, LightboxError
from ..io._staged import staged
from ..progress import track
from .reading import read_input
from .words import err, out, typed

# Rows that are printed; the files have all.
_MOST = 20


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which output is wanted, and what is done to labels."""
    parser.add_argument(
        "--post",
        metavar="RULES",
        help='what is done to the labels, by class: JSON such as {"lung": {"keep_largest": true, "remove_below_ml": 2, '
        '"fill_holes": true}, "*": {...}}, or a file with it; {} for nothing (default: as the card says)',
    )
    parser.add_argument("--output", metavar="NAME", help="of a model with several outputs, which (default: the first)")


def chosen_card(card: Any, args: argparse.Namespace) -> Any:
    """Return the card of the output that is wanted."""
    from ..models.tables import card_for

    if args.output is None and card.outputs:
        args.output = next(iter(card.outputs))
    return card_for(card, args.output)


def choices(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `predict` that `add_choices` asks for."""
    return {"post": rules(args.post), "output": args.output}


def rules(text: str | None) -> Mapping[str, Any] | None:
    """Read rules of post-processing from JSON, or from a file that holds it; None where there are none.

    Raises
    ------
    InputError
        If it is no JSON object.
    FileError
        If the file cannot be read.
    """
    if text is None:
        return None
    if not text.lstrip().startswith("{"):
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f'--post {text} is neither JSON such as {{"lung": {{...}}}} nor a file of it') from error
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(f"--post {text[:60]!r} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f'--post {text[:60]!r} must be an object of classes, such as {{"lung": {{...}}}}')
    return found


def predict(args: argparse.Namespace, cases: Mapping[str, list[str]], folder: Path, model: Any, call: dict) -> int:
    """Run a model that gives a table over all cases: print it, and write it as .csv and .json.

    A case whose two files are there, made by the same weights, is not done again.
    """
    from .. import models

    card, failed = chosen_card(model.card, args), []
    name_of = card.name.replace("/", "-").replace(" ", "-")
    for name, files in track(list(cases.items()), "cases"):
        targets = [folder / f"{name}_{name_of}{suffix}" for suffix in (".csv", ".json")]
        try:
            if not args.overwrite and any(path.exists() for path in targets):
                _require_made(targets, model, call)
                out(f"{name}: done before, {targets[0]} is there")
                continue
            found = models.predict([read_input(args, file) for file in files], model, **call)
            with staged(folder, overwrite=True) as stage:
                for path in targets:
                    found.write(stage / path.name)
            for note in found.notes:
                out(f"{name}: {note}")
            _print(name, found)
            out(f"{name}: {', '.join(map(str, targets))}")
        except (LightboxError, OSError, MemoryError) as error:
            failed.append(name)
            err(f"{name}: {typed(str(error))}")
    if failed:
        err(f"{len(failed)} of {len(cases)} cases failed: {', '.join(failed)}")
    return 1 if failed else 0


def _print(name: str, found: Any) -> None:
    """Print the rows, one a line."""
    for row in found.rows[:_MOST]:
        place = " ".join(f"{key} {row[key]}" for key in ("frame", "slice") if key in row and _varies(found.rows, key))
        if "score" in row:
            centre = ", ".join(f"{row[axis]:z.1f}" for axis in ("x_mm", "y_mm", "z_mm"))
            text = f"{row['name']} {row['score']:.3f} at {centre} mm"
        elif "probability" in row:
            text = f"{row['name']} {row['probability']:.3f}"
        else:
            text = f"{row['name']} {row['value']:.5g} {row['unit']}".rstrip()
        out(f"{name}: {place + ': ' if place else ''}{text}")
    if not found.rows:
        out(f"{name}: nothing was found")
    elif len(found.rows) > _MOST:
        out(f"{name}: and {len(found.rows) - _MOST} more rows")


def _varies(rows: Any, key: str) -> bool:
    return len({row[key] for row in rows}) > 1


def _require_made(targets: list[Path], model: Any, call: Mapping[str, Any]) -> None:
    """Refuse results of other weights or other choices, and half of a result."""
    missing = [path for path in targets if not path.exists()]
    if missing:
        raise FileError(f"{missing[0]} is missing, but not its other file: add --overwrite to do the case again")
    try:
        step = json.loads(targets[1].read_text(encoding="utf-8"))["step"]
        made, parameters = step["model"]["sha256"], dict(step["parameters"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{targets[1]} is no result of a model: add --overwrite, or choose another folder") from error
    if made != model.sha256:
        raise FileError(f"{targets[1]} was made by other weights: add --overwrite, or choose another folder")
    for name in ("window", "overlap", "mirror", "output"):
        asked, done = call.get(name), parameters.get(name)
        done = bool(done) if name == "mirror" else done
        asked = list(asked) if isinstance(asked, tuple) else asked
        if asked is not None and asked != done:
            raise FileError(f"{targets[1]} was made with {name} {done}: add --overwrite, or choose another folder")
