"""From a row of the catalogue to options of a command, and from what was typed to what the operation takes.

People write x, y, z in LPS mm; the operations take (z, y, x).
"""

import argparse
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

from ..catalogue import Operation, Parameter, choices
from ..errors import InputError
from ..ops._check import parse_matrix

_SHEARS = "YX,ZX,ZY"


def option_name(parameter: Parameter) -> str:
    """Return the option of a parameter: ``--max-size``."""
    return "--" + parameter.name.replace("_", "-")


def add_parameters(parser: argparse.ArgumentParser, row: Operation) -> None:
    """Add an option for every parameter of an operation."""
    group = parser.add_argument_group("parameters")
    for parameter in row.parameters:
        _add_parameter(group, parameter)


def _add_parameter(group: Any, parameter: Parameter) -> None:
    option, text = option_name(parameter), help_text(parameter)
    common: dict[str, Any] = {"dest": f"parameter_{parameter.name}", "default": argparse.SUPPRESS, "help": text}
    if parameter.role in ("image", "labels", "volume"):
        group.add_argument(option, metavar="FILE", **common)
    elif _kinds(parameter.annotation) == {bool}:
        group.add_argument(option, action=argparse.BooleanOptionalAction, **common)
    elif parameter.role == "seeds":
        group.add_argument(option, nargs="+", metavar="X,Y,Z", **common)
    elif (found := choices(parameter)) is not None:
        group.add_argument(option, type=_choice(found), choices=found, metavar=_either(found), **common)
    else:
        group.add_argument(option, type=converter(parameter), metavar=_metavar(parameter), **common)


def help_text(parameter: Parameter) -> str:
    """Return the words of the docstring, with unit, bounds and default."""
    text = re.sub(r"``([^`]*)``|`([^`]*)`", lambda m: m.group(1) or m.group(2), parameter.help)
    text = text.replace("\\|", "|").replace('"', "")
    facts = []
    if parameter.role == "seeds":
        text = "Points in the patient, x,y,z in LPS mm, several apart by blanks; with a frame first in 4D: frame,x,y,z."
    elif parameter.name == "matrix" or _tuple_length(parameter.annotation):
        facts.append("typed here in the order x, y, z")
    hints = parameter.hints
    if "unit" in hints:
        facts.append(f"in {hints['unit']}")
    if "min" in hints and "max" in hints:
        facts.append(f"{hints['min']:g} to {hints['max']:g}")
    if parameter.required:
        facts.append("needed")
    elif parameter.default is not None:
        facts.append(f"default {_written(parameter)}")
    return (text + (f" ({', '.join(facts)})" if facts else "")).replace("%", "%%")


def _written(parameter: Parameter) -> str:
    value = parameter.default
    if isinstance(value, tuple):
        return ",".join(f"{v:g}" for v in (reversed(value) if _tuple_length(parameter.annotation) else value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _metavar(parameter: Parameter) -> str:
    length = _tuple_length(parameter.annotation)
    if length:
        return _SHEARS if parameter.name == "shear" else "X,Y,Z" if length == 3 else "X,Y"
    kinds = _kinds(parameter.annotation)
    if parameter.name == "matrix":
        return "ROWS"
    return "N" if kinds & {int, float} else "TEXT"


def _either(values: Sequence[Any]) -> str:
    return "{" + ",".join(str(v) for v in values) + "}"


def _choice(values: Sequence[Any]) -> Callable[[str], Any]:
    by_text = {str(v): v for v in values}
    return lambda text: by_text.get(text.strip(), text)


def converter(parameter: Parameter) -> Callable[[str], Any]:
    """Return the function that turns what was typed into the parameter's value.

    A number where the parameter is one; ``3,3,5`` for one number an axis; rows of numbers apart by ``;`` or blanks;
    text otherwise. What is typed as x, y, z is turned into array order.
    """
    kinds, length = _kinds(parameter.annotation), _tuple_length(parameter.annotation)

    def convert(text: str) -> Any:
        text = text.strip()
        if parameter.name == "matrix":
            return _matrix(text)
        if length:
            values = numbers(text, parameter.name)
            if len(values) != length:
                raise argparse.ArgumentTypeError(f"{text!r} must be {length} numbers, such as 1,2,3")
            _bounded(text, values, parameter)
            return tuple(reversed(values))
        if kinds & {int, float}:
            return _number(text, parameter, whole=float not in kinds)
        return text

    return convert


def _number(text: str, parameter: Parameter, whole: bool) -> Any:
    if parameter.default is None and text.lower() in ("none", "auto"):
        return None
    try:
        values = [int(t) if whole else float(t) for t in text.split(",")]
    except ValueError:
        what = "a whole number" if whole else "a number"
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}") from None
    # One number an axis, x first, where the operation allows it.
    value = values[0] if len(values) == 1 else tuple(reversed(values))
    _bounded(text, values, parameter)
    return value


def _bounded(text: str, values: Sequence[float], parameter: Parameter) -> None:
    low, high = parameter.hints.get("min", -math.inf), parameter.hints.get("max", math.inf)
    if all(low <= one <= high for one in values):
        return
    if math.isinf(low) and math.isinf(high):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    raise argparse.ArgumentTypeError(f"{text} must lie between {low:g} and {high:g}")


def numbers(text: str, name: str) -> list[float]:
    """Read numbers apart by commas.

    Examples
    --------
    >>> numbers("1, -2.5,3", "spacing")
    [1.0, -2.5, 3.0]
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not made of numbers: write 1.5,2,3") from None
    if not all(math.isfinite(v) for v in found):
        raise argparse.ArgumentTypeError(f"{name} {text!r} must be finite")
    return found


def points(words: Sequence[str]) -> list[list[float]]:
    """Read points typed as x,y,z (or frame,x,y,z) in LPS mm; return them as (z, y, x), or (frame, z, y, x).

    Examples
    --------
    >>> points(["10,-20,30; 1,2,3"])
    [[30.0, -20.0, 10.0], [3.0, 2.0, 1.0]]
    >>> points(["0,10,-20,30"])
    [[0.0, 30.0, -20.0, 10.0]]
    """
    found = []
    # A blank after a comma belongs to the point: 1, 2, 3.
    text = re.sub(r"\s*,\s*", ",", " ".join(words))
    for word in re.split(r"[;\s]+", text.strip()):
        try:
            values = [float(v) for v in word.split(",")]
        except ValueError:
            values = []
        if len(values) not in (3, 4):
            raise InputError(
                f"seed {word!r} is not a point: write x,y,z in LPS mm, such as 12.5,-30,48, and files before options"
            )
        lead, place = values[:-3], values[-3:]
        found.append([*lead, *reversed(place)])
    return found


def _matrix(text: str) -> list[list[float]]:
    """Read a 4x4 matrix for x, y, z, from a file or as rows apart by semicolons, and turn it into array order."""
    # Many digits make a text that is too long to be asked for as the name of a file.
    path = Path(text) if ";" not in text else None
    if path is not None and path.is_file():
        text = ";".join(line.split("#")[0] for line in path.read_text(encoding="utf-8").splitlines())
    try:
        return parse_matrix(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(f"{error}, or name a text file") from None


def _kinds(annotation: Any) -> set:
    """Return the plain types among the members of an annotation, without None."""
    members = (annotation,) if get_origin(annotation) in (None, tuple, list) else get_args(annotation)
    return {m for m in members if m in (bool, int, float, str)} - {NoneType}


def _tuple_length(annotation: Any) -> int:
    """Return how many numbers a ``tuple[float, float, float]`` has; 0 for anything else."""
    for part in (annotation, *get_args(annotation)):
        if get_origin(part) is tuple:
            members = get_args(part)
            return len(members) if members and all(m in (int, float) for m in members) else 0
    return 0
