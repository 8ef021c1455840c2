"""Rules of plausibility as a file: JSON that a person can write, with labels by name or by number."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import FileError, InputError, LightboxError
from ..io._atomic import replacing
from ..ops._rules import RULES, Rule

#: What is looked for where nothing is said: what no label of anatomy should have.
USUAL = (Rule("hole"), Rule("island"), Rule("leak"))
_NUMBERS = ("limit", "low", "high")


def read_rules(path: str | Path, names: Mapping[int, str] | None = None) -> list[Rule]:
    """Read rules of plausibility.

    Parameters
    ----------
    path : path-like
        JSON: ``{"rules": [...]}`` or the list alone; each entry has ``"kind"``, and where it needs them ``"label"`` and
        ``"partner"`` (a number, or a name from `names`), ``"limit"``, ``"low"`` and ``"high"``, as `Rule` has them.
    names : mapping of int to str, optional
        What the labels are called.

    Returns
    -------
    list of Rule

    Raises
    ------
    FileError
        If the file cannot be read.
    InputError
        If an entry is no rule, or names a label that there is not.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read as rules: {error}; give JSON as the Errors dock saves it") from error
    if isinstance(entries, dict):
        entries = entries.get("rules")
    if not isinstance(entries, list) or not entries:
        raise InputError(f'{path} holds no rules: give {{"rules": [{{"kind": "hole"}}]}}, one entry a rule')
    try:
        return [_rule(entry, dict(names or {})) for entry in entries]
    except LightboxError as error:
        raise InputError(f"{path}: {error}") from None


def write_rules(path: str | Path, rules: Sequence[Rule], names: Mapping[int, str] | None = None) -> None:
    """Write rules as `read_rules` reads them; the file appears whole or not at all.

    Parameters
    ----------
    path : path-like
    rules : sequence of Rule
    names : mapping of int to str, optional
        What the labels are called: names take the place of numbers.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    text = json.dumps({"rules": [plain_rule(rule, names) for rule in rules]}, indent=1, ensure_ascii=False)
    with replacing(Path(path)) as file:
        file.write(text.encode("utf-8"))


def plain_rule(rule: Rule, names: Mapping[int, str] | None = None) -> dict[str, Any]:
    """Return a rule as JSON has it: only what is given.

    Examples
    --------
    >>> plain_rule(Rule("hole", 3, limit=2.0), {3: "liver"})
    {'kind': 'hole', 'label': 'liver', 'limit': 2.0}
    """
    found: dict[str, Any] = {"kind": rule.kind}
    for key in ("label", "partner", *_NUMBERS):
        value = getattr(rule, key)
        if value is not None:
            found[key] = (names or {}).get(value, value) if key in ("label", "partner") else value
    return found


def label_of(text: str | int | None, names: Mapping[int, str]) -> int | None:
    """Return the label that a name or number stands for; None for all.

    Raises
    ------
    InputError
        If there is no such label.

    Examples
    --------
    >>> label_of("Liver", {3: "liver"}), label_of("7", {}), label_of(None, {})
    (3, 7, None)
    """
    if text is None or (isinstance(text, int) and not isinstance(text, bool)):
        return text
    wanted = str(text).strip().casefold()
    for value, name in names.items():
        if name.casefold() == wanted:
            return value
    try:
        return int(wanted)
    except ValueError:
        known = ", ".join(list(names.values())[:8]) or "none has a name"
        raise InputError(f"there is no label {text!r}: give its number, or a name of the labels ({known})") from None


def _rule(entry: Any, names: Mapping[int, str]) -> Rule:
    if not isinstance(entry, dict) or "kind" not in entry:
        raise InputError(f'{entry!r} is no rule: give an object with "kind", one of {", ".join(RULES)}')
    strange = set(entry) - {"kind", "label", "partner", *_NUMBERS}
    if strange:
        raise InputError(
            f"{sorted(strange)[0]!r} is nothing that a rule has: give kind, label, partner, limit, low, high"
        )
    for key in _NUMBERS:
        value = entry.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InputError(f"{key} {value!r} is no number: give one, without its unit")
    labels = {key: label_of(entry.get(key), names) for key in ("label", "partner")}
    return Rule(entry["kind"], **labels, **{key: entry.get(key) for key in _NUMBERS})
