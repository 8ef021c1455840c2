"""The configuration of a MONAI bundle, read as data: nothing in it is imported, called or executed.

MONAI runs what such a file says: ``$`` begins a Python expression, ``_target_`` names any object that can be imported.
Here only values that are asked for are looked up. References (``@other::part``) are followed; of expressions only
arithmetic, comparisons, choices and lists of plain values are worked out, by walking their syntax tree. Whatever is
more than that is refused by its text, where it is needed, and never looked at where it is not.
"""

import ast
import json
import operator
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...errors import FileError, InputError, need

_LARGEST_FILE = 16 << 20
_LONGEST = 2000
_DEEPEST = 40
_MOST_STEPS = 20_000
_MOST_ITEMS = 10_000
_LARGEST_NUMBER = 10**15
_REFERENCE = re.compile(r"@(\w+(?:(?:::|#)\w+)*)")
_BINARY: dict[type, Callable] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_COMPARED: dict[type, Callable] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}  # fmt: skip
_UNARY: dict[type, Callable] = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_}
_CALLED: dict[str, Callable] = {
    "len": len, "int": int, "float": float, "list": list, "tuple": tuple, "min": min, "max": max, "sum": sum,
    "abs": abs, "bool": bool,
}  # fmt: skip
# Methods that leave a network what it is.
_MOVES = ("to", "eval", "cpu", "cuda", "float")


class NotKnown(InputError):  # noqa: N818 - named for what it says
    """Something in a configuration is not understood here; MONAI itself may know it. `what` names it."""

    def __init__(self, where: str, what: str, remedy: str) -> None:
        super().__init__(f"{where}: {what}, {remedy}")
        self.what = what


class _Unknown(Exception):  # noqa: N818 - caught here alone
    """Something in an expression that is not worked out."""


def read_table(path: Path) -> dict[str, Any]:
    """Return the content of a JSON or YAML file that holds a table.

    Raises
    ------
    FileError
        If it cannot be read, is too large, or holds no table.
    MissingPart
        If it is YAML, and pyyaml is not installed.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise FileError(f"{path} has {path.stat().st_size >> 20} MB, which no configuration needs")
        text = path.read_text(encoding="utf-8")
        found = _read_yaml(text) if path.suffix in (".yaml", ".yml") else json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise FileError(f"{path} holds no table with named entries: give the bundle that it belongs to")
    return found


def _read_yaml(text: str) -> Any:
    yaml = need("yaml", "A bundle's YAML configuration")
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            # A few lines of aliases can stand for more than any memory holds.
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it repeats parts by aliases (*name): write them out, or use references (@name)")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ValueError(f"its parts lie more than {_DEEPEST} deep in each other")
        # Plain values only: tags that name Python objects are refused.
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from error


class Config:
    """A table whose references and simple expressions are worked out when they are asked for.

    Parameters
    ----------
    tree : mapping
        As `read_table` gives it.
    where : str
        What errors begin with.

    Examples
    --------
    >>> config = Config({"size": [8, 8], "half": "$@size[0] // 2"}, "a bundle")
    >>> config.get("half")
    4
    """

    def __init__(self, tree: Mapping[str, Any], where: str) -> None:
        self.tree, self.where = tree, where
        self._steps = 0

    def get(self, name: str) -> Any:
        """Return the value of an entry; a reference like ``inferer::roi_size`` reaches inside."""
        return self.value("@" + name, name)

    def value(self, raw: Any, place: str, depth: int = 0) -> Any:
        """Return what a raw value means: plain values, lists and tables of them.

        Raises
        ------
        InputError
            If it needs code to run; the sentence names it.
        """
        self._count(place, depth)
        if isinstance(raw, str):
            return self._text(raw, place, depth)
        if isinstance(raw, list):
            return [self.value(one, place, depth + 1) for one in raw]
        if isinstance(raw, Mapping):
            return {key: self.value(one, f"{place}::{key}", depth + 1) for key, one in raw.items()}
        return raw

    def raw(self, raw: Any, place: str, depth: int = 0) -> Any:
        """Return a table or list with its entries as they are written, after references to it were followed."""
        self._count(place, depth)
        if isinstance(raw, str) and _REFERENCE.fullmatch(raw):
            return self.raw(self._find(raw[1:], place), raw[1:], depth + 1)
        if isinstance(raw, str) and raw.startswith("$"):
            return self._expression(raw, place, depth, as_written=True)
        return raw

    def _count(self, place: str, depth: int) -> None:
        self._steps += 1
        if depth > _DEEPEST or self._steps > _MOST_STEPS:
            raise InputError(f"{self.where}: {place} refers to itself, or to too much: it is no plain configuration")

    def _text(self, text: str, place: str, depth: int) -> Any:
        if _REFERENCE.fullmatch(text):
            return self.value(self._find(text[1:], place), text[1:], depth + 1)
        if text.startswith("$"):
            return self._expression(text, place, depth)
        if text.startswith("%"):
            raise InputError(f"{self.where}: {place} is {text[:80]!r}, which takes another file in: write its content")
        return text

    def _find(self, reference: str, place: str) -> Any:
        here: Any = self.tree
        for step, name in enumerate(re.split("::|#", reference)):
            if step:
                here = self.raw(here, place)
            if isinstance(here, Mapping) and name in here:
                here = here[name]
            elif isinstance(here, list) and name.isdecimal() and int(name) < len(here):
                here = here[int(name)]
            else:
                raise InputError(f"{self.where}: {place} refers to @{reference}, which is missing")
        return here

    # Expressions ------------------------------------------------------------------------------------------------

    def _expression(self, text: str, place: str, depth: int, *, as_written: bool = False) -> Any:
        refused = NotKnown(
            self.where,
            f"{place} is the expression {text[:80]!r}",
            "which is never executed without trust, and too much to be worked out from its text: write its value in "
            "its place",
        )
        if len(text) > _LONGEST:
            raise refused
        names: dict[str, str] = {}

        def named(match: re.Match) -> str:
            return names.setdefault(match.group(1), f"_reference_{len(names)}")

        try:
            tree = ast.parse(_REFERENCE.sub(named, text[1:].strip()), mode="eval").body
            where = {name: reference for reference, name in names.items()}
            return self._worked_out(tree, where, place, depth + 1, as_written)
        except (
            SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, MemoryError, _Unknown,
            RecursionError,
        ) as error:  # fmt: skip
            raise refused from error

    def _worked_out(self, node: ast.AST, names: dict, place: str, depth: int, as_written: bool = False) -> Any:
        """Return the value of a node of the syntax tree, of the few kinds that are known."""
        self._count(place, depth)

        def each(parts: list) -> list:
            return [self._worked_out(part, names, place, depth + 1, as_written) for part in parts]

        if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | None):
            return node.value
        if isinstance(node, ast.Name) and node.id in names:
            found = self._find(names[node.id], place)
            return (self.raw if as_written else self.value)(found, names[node.id], depth + 1)
        if isinstance(node, ast.List | ast.Tuple):
            return each(node.elts)
        if isinstance(node, ast.Dict) and None not in node.keys:
            return dict(zip(each(node.keys), each(node.values), strict=True))
        if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
            return _UNARY[type(node.op)](*each([node.operand]))
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            return _combined(_BINARY[type(node.op)], *each([node.left, node.right]))
        if isinstance(node, ast.Compare) and all(type(one) in _COMPARED for one in node.ops):
            values = each([node.left, *node.comparators])
            pairs = zip(node.ops, values, values[1:], strict=False)
            return all(_COMPARED[type(one)](a, b) for one, a, b in pairs)
        if isinstance(node, ast.IfExp):
            chosen = node.body if each([node.test])[0] else node.orelse
            return each([chosen])[0]
        if isinstance(node, ast.Subscript):
            held, key = each([node.value, node.slice])
            return held[key]
        if isinstance(node, ast.Call) and not node.keywords:
            return self._call(node, each)
        raise _Unknown

    def _call(self, node: ast.Call, each: Callable[[list], list]) -> Any:
        """Return what one of a few functions of plain values gives, or the network that a method moves elsewhere."""
        if isinstance(node.func, ast.Name) and node.func.id in _CALLED:
            return _called(node.func.id, each(node.args))
        if isinstance(node.func, ast.Attribute) and node.func.attr in _MOVES:
            (held,) = each([node.func.value])
            if isinstance(held, Mapping) and "_target_" in held:
                return held
        raise _Unknown


def _called(name: str, values: list) -> Any:
    """Return what one of the known functions gives, unless what it works on, or makes, is out of hand."""
    parts = [part for value in values if isinstance(value, list | tuple) for part in value]
    size = len(parts) + sum(len(v) for v in (*values, *parts) if isinstance(v, str | list | tuple | Mapping))
    # A text as a list is as many times as large, and the same text may be named again and again.
    if size > _MOST_ITEMS or (name in ("list", "tuple", "sum") and any(isinstance(v, str) for v in values)):
        raise _Unknown
    return _CALLED[name](*values)


def _combined(function: Callable, left: Any, right: Any) -> Any:
    """Return the result of an operator, unless it is none of numbers, or grows out of hand."""
    numbers = all(isinstance(v, int | float) for v in (left, right))
    joined = function is operator.add and type(left) is type(right) and isinstance(left, str | list)
    if not numbers and not (joined and len(left) + len(right) <= _MOST_ITEMS):
        raise _Unknown
    found = function(left, right)
    if numbers and abs(found) > _LARGEST_NUMBER:
        raise _Unknown
    return found
