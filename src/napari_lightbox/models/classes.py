"""Names of classes, from whatever lists them: nnU-Net's dataset.json, a card, a plain table, or a mapping."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import FileError, InputError
from ..volume import Label
from .card import Card, read_output_spec
from .fields import Fields

_MOST = 65535


@dataclass(frozen=True)
class Classes:
    """What the classes of an output are called.

    Parameters
    ----------
    labels : mapping of int to Label
        By value; may name the background, 0.
    kind : {"labels", "regions"}, optional
        Whether classes may overlap; None where the source does not say.
    activation : {"softmax", "sigmoid", "none"}, optional
        That turns the outputs of the network into probabilities, where the source is a card.
    name : str
        Of the model, where the source says it.
    """

    labels: Mapping[int, Label] = field(default_factory=dict)
    kind: str | None = None
    activation: str | None = None
    name: str = ""

    @property
    def foreground(self) -> tuple[int, ...]:
        """Values of the classes other than the background, in the order of the source."""
        return tuple(v for v in self.labels if v)


def read_classes(source: Any) -> Classes:
    """Read the names of classes.

    Parameters
    ----------
    source : path, mapping, Card, Classes or None
        A JSON file, or what such a file holds: a card of this package; nnU-Net's ``dataset.json``, with ``labels`` as
        ``{"lung": 1}`` or ``{"1": "lung"}`` and, for regions, ``regions_class_order``; or such a table alone.

    Raises
    ------
    FileError
        If the file is missing or no JSON.
    InputError
        If it does not name classes.

    Examples
    --------
    >>> read_classes({"labels": {"background": 0, "lung": 1}}).labels[1].name
    'lung'
    >>> read_classes({"1": "lung", "2": "bone"}).foreground
    (1, 2)
    """
    if source is None:
        return Classes()
    if isinstance(source, Classes):
        return source
    if isinstance(source, Card):
        return _of_output(source.output, source.name)
    where = "classes"
    if isinstance(source, str | os.PathLike):
        where = str(source)
        source = _load(Path(source))
    if not isinstance(source, Mapping) or not source:
        raise InputError(f'{where} names no classes: give a table such as {{"1": "lung"}}, a dataset.json or a card')
    if isinstance(source.get("output"), Mapping):
        fields = Fields(source, where)
        name = source.get("name")
        return _of_output(read_output_spec(fields.part("output")), name if isinstance(name, str) else "")
    if isinstance(source.get("labels"), Mapping):
        return _of_dataset(source, where)
    return Classes(_table(source, where))


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileError(f"{path} does not exist: check the name of the file that names the classes") from error
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{path} cannot be read as JSON ({error}): give a file that names the classes") from error


def _of_output(output: Any, name: str) -> Classes:
    if output.kind not in ("labels", "regions"):
        raise InputError(f"the card of {name or 'the model'} gives {output.kind}, not classes: leave it out")
    return Classes(dict(output.labels), output.kind, output.activation, name)


def _of_dataset(source: Mapping[str, Any], where: str) -> Classes:
    """Read nnU-Net's dataset.json; the class "ignore" is none that the network says."""
    table = {k: v for k, v in source["labels"].items() if k != "ignore"}
    order = source.get("regions_class_order")
    if order is None:
        return Classes(_table(table, where))
    names = [name for name, value in table.items() if name != "background" and value != 0]
    if not isinstance(order, list) or len(order) != len(names) or not all(_is_value(v) and v for v in order):
        raise InputError(f"{where} has regions_class_order {order} for {len(names)} regions: give one value for each")
    return Classes({int(v): Label(n) for v, n in zip(order, names, strict=True)}, "regions", "sigmoid")


def _table(table: Mapping[Any, Any], where: str) -> dict[int, Label]:
    """Read ``{"1": "lung"}`` or ``{"lung": 1}``."""
    found: dict[int, Label] = {}
    for key, entry in table.items():
        value, name = (key, entry) if isinstance(entry, str | Label) else (entry, key)
        if isinstance(value, str) and value.strip().isdecimal():
            value = int(value)
        if not _is_value(value) or not (isinstance(name, Label) or str(name).strip()):
            raise InputError(
                f"{where} has the class {key!r}: {entry!r}, where a value from 0 to {_MOST} and a name are needed: "
                'write {"1": "lung"} or {"lung": 1}'
            )
        if value in found:
            raise InputError(f"{where} names the value {value} twice: give every class a value of its own")
        found[int(value)] = name if isinstance(name, Label) else Label(str(name))
    names = [label.name for label in found.values()]
    if len(set(names)) < len(names):
        raise InputError(f"{where} uses a name for two classes: give every class a name of its own")
    return dict(sorted(found.items()))


def _is_value(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST
