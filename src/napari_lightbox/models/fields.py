"""Checked values out of a JSON object: what is missing, wrong or unknown is named in one sentence."""

import re
import sys
from collections.abc import Mapping
from typing import Any

from ..errors import InputError


class Fields:
    """Takes checked values out of a mapping, and remembers which were taken.

    Every error names where the field stands, its value and what it may be.
    """

    def __init__(self, values: Any, where: str, prefix: str = ""):
        self.where, self.prefix = where, prefix
        if not isinstance(values, Mapping):
            raise InputError(f"{where}: {prefix.rstrip('.') or 'the content'} must be an object with named fields")
        self.values = values
        self.taken: set[str] = set()

    def wrong(self, name: str, remedy: str) -> InputError:
        """Return the error for a field: its value, and the remedy."""
        value = self.values.get(name)
        shown = repr(value) if name in self.values else "missing"
        return InputError(f"{self.where}: {self.prefix}{name} is {shown[:80]}: {remedy}")

    def take(self, name: str, default: Any = None) -> Any:
        """Take a value as it is."""
        self.taken.add(name)
        return self.values.get(name, default)

    def text(self, name: str, *, required: bool = False) -> str:
        """Take a text; empty where it is missing and not required."""
        value = self.take(name, None if required else "")
        if not isinstance(value, str) or (required and not value.strip()):
            raise self.wrong(name, "give a text")
        return value

    def choice(self, name: str, options: tuple[str, ...], default: str | None = None) -> str:
        """Take one of several words."""
        value = self.take(name, default)
        if value not in options:
            raise self.wrong(name, f"use one of {', '.join(options)}")
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Take an object; an empty one where it is missing."""
        value = self.take(name)
        if value is not None and not isinstance(value, Mapping):
            raise self.wrong(name, "give an object with named fields")
        return value or {}

    def part(self, name: str, *, required: bool = False) -> "Fields":
        """Take an object whose fields are checked in turn."""
        if required and name not in self.values:
            raise self.wrong(name, "give an object with named fields")
        return Fields(self.mapping(name), self.where, f"{self.prefix}{name}.")

    def number(self, name: str, default: float | None = None) -> float | None:
        """Take a finite number, or None."""
        value = self.take(name, default)
        if value is not None and not is_number(value):
            raise self.wrong(name, "give a number")
        return value

    def numbers(self, name: str, count: int, *, whole: bool) -> tuple | None:
        """Take `count` numbers greater than zero, or None."""
        value = self.take(name)
        if value is None:
            return None
        fits = isinstance(value, list | tuple) and len(value) == count and all(is_number(v) and v > 0 for v in value)
        if not fits or (whole and any(int(v) != v for v in value)):
            order = "(z, y, x)" if count == 3 else "(y, x)"
            sort = "whole numbers" if whole else "numbers"
            raise self.wrong(name, f"give {count} {sort} greater than zero in array order {order}, or null")
        return tuple(int(v) if whole else float(v) for v in value)

    def sha256(self, name: str) -> str | None:
        """Take a SHA-256, in lower case, or None."""
        value = self.take(name)
        if value is not None and not (isinstance(value, str) and re.fullmatch("[0-9a-fA-F]{64}", value)):
            raise self.wrong(name, "give the 64 hexadecimal digits of the weights' SHA-256, or null")
        return value and value.lower()

    def finish(self) -> None:
        """Refuse fields that nobody took: they are misspelt or unknown."""
        unknown = sorted(set(self.values) - self.taken)
        if unknown:
            known = ", ".join(sorted(self.taken))
            raise InputError(f"{self.where}: field {self.prefix}{unknown[0]} is unknown: the fields here are {known}")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that a float can hold; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
