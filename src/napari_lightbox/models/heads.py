"""What a network says, as its card describes it: labels, regions, an image, classes, values or boxes. No torch here."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..volume import Label
from .fields import Fields, is_number

KINDS = ("labels", "regions", "image", "class", "value", "boxes")
# Kinds that give a table and not voxels.
TABLES = ("class", "value", "boxes")
ACTIVATIONS = ("softmax", "sigmoid", "none")
SLICES = ("each", "mean", "max")
_SIDES = {2: ("x1", "y1", "x2", "y2"), 3: ("z1", "y1", "x1", "z2", "y2", "x2")}
_STANDARD = {"labels": "softmax", "regions": "sigmoid", "class": "softmax"}


@dataclass(frozen=True)
class Quantity:
    """A number that a network gives for a whole image: what it says times `scale`, plus `offset`, in `unit`."""

    name: str
    unit: str = ""
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class BoxSpec:
    """How a network writes boxes, and which of them are kept.

    Parameters
    ----------
    order : tuple of str
        Its columns: ``x1, y1, x2, y2`` for slices and ``z1, y1, x1, z2, y2, x2`` for volumes where not given.
    origin : {"edge", "centre"}
        Where 0 lies: on the outer edge of the first voxel, as torchvision has it, or in its centre.
    score : float
        Boxes that score less are left out.
    overlap : float
        Of two boxes of a class whose intersection over union is greater, the better one stays.
    most : int
        How many boxes of a frame are kept, the best ones.
    """

    order: tuple[str, ...]
    origin: str = "edge"
    score: float = 0.05
    overlap: float = 0.5
    most: int = 300


@dataclass(frozen=True)
class OutputSpec:
    """What the network says.

    Parameters
    ----------
    kind : {"labels", "regions", "image", "class", "value", "boxes"}
        ``"labels"``: classes that exclude each other; ``"regions"``: classes that may overlap, written one over the
        other in the order of `labels`; ``"image"``: values as they are; ``"class"`` and ``"value"``: an answer for
        the whole image; ``"boxes"``: objects found.
    activation : {"softmax", "sigmoid", "none"}
        ``"none"`` means that the network returns probabilities already.
    labels : mapping of int to Label
        With softmax (or none), output channel k is label k and 0 the background; with sigmoid, and for regions, the
        channels are the labels that are listed, in their order. Of boxes, what their classes are called.
    classes : tuple of str
        For ``"class"``: name of every output.
    quantities : tuple of Quantity
        For ``"value"``: every output.
    slices : {"each", "mean", "max"}
        For ``"class"`` and ``"value"`` of a 2D network: an answer for every slice, or their mean or largest.
    boxes : BoxSpec or None
        For ``"boxes"``.
    unit, modality : str
        For ``"image"``: what its values are.
    factor : tuple of int or None
        For ``"image"``: how many voxels the network makes of one, along each axis.
    take : str, int or None
        Which of several outputs of the network this is, by its key or its number.
    """

    kind: str = "labels"
    activation: str = "softmax"
    labels: Mapping[int, Label] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    quantities: tuple[Quantity, ...] = ()
    slices: str = "each"
    boxes: BoxSpec | None = None
    unit: str = ""
    modality: str = ""
    factor: tuple[int, ...] | None = None
    take: str | int | None = None

    @property
    def values(self) -> tuple[int, ...]:
        """Label value of every output channel; empty where the card names no labels."""
        if self.kind not in ("labels", "regions") or not self.labels:
            return ()
        if self.kind == "regions" or self.activation == "sigmoid":
            return tuple(v for v in self.labels if v)
        return tuple(range(max(self.labels) + 1))

    @property
    def channels(self) -> int | None:
        """How many channels (or numbers) the network must give; None where the card does not say."""
        return {"class": len(self.classes), "value": len(self.quantities)}.get(self.kind, len(self.values)) or None

    def label(self, value: int) -> Label:
        """Return the label of a value; those without a name are called background or class."""
        return self.labels.get(value, Label("background" if value == 0 else f"class {value}"))


def image_meta(output: OutputSpec, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the meta of an image that a network made of another: its values are what the card says they are."""
    kept = {k: v for k, v in meta.items() if k not in ("unit", "windows", "modality")}
    return {**kept, **{k: v for k, v in (("unit", output.unit), ("modality", output.modality)) if v}}


# Reading --------------------------------------------------------------------------------------------------------


def read_output_spec(fields: Fields, dims: int = 3) -> OutputSpec:
    """Check the part ``output`` of a card, of a network that sees slices (2) or volumes (3).

    Raises
    ------
    InputError
        Naming the field, its value and what it may be.
    """
    kind = fields.choice("kind", KINDS)
    activation = fields.choice("activation", ACTIVATIONS, _STANDARD.get(kind, "none"))
    if kind == "regions" and activation == "softmax":
        raise fields.wrong("activation", "regions may overlap, so use sigmoid or none")
    if kind in ("value", "boxes", "image") and activation == "softmax":
        raise fields.wrong("activation", f"softmax belongs to classes, not to {kind}: use none")
    more: dict[str, Any] = {}
    if kind == "class":
        more["classes"] = _read_classes(fields, activation)
    elif kind == "value":
        more["quantities"] = _read_quantities(fields)
    elif kind == "boxes":
        more["boxes"] = _read_boxes(fields, dims)
    elif kind == "image":
        more.update(unit=fields.text("unit"), modality=fields.text("modality").upper(), factor=_factor(fields, dims))
    if kind in ("class", "value"):
        more["slices"] = fields.choice("slices", SLICES, "each") if dims == 2 else "each"
    labels = _read_labels(fields, kind) if kind not in ("class", "value") else {}
    take = fields.take("take")
    if take is not None and (not isinstance(take, str | int) or isinstance(take, bool) or take == "" or take == -1):
        raise fields.wrong("take", "give the key or the number of one of the network's outputs, or leave it out")
    fields.finish()
    return OutputSpec(kind, activation, MappingProxyType(labels), take=take, **more)


def _read_labels(fields: Fields, kind: str) -> dict[int, Label]:
    colours = {_label_value(fields, "colours", k): v for k, v in fields.mapping("colours").items()}
    for value in colours.values():
        if not isinstance(value, str) or not re.fullmatch("#[0-9a-fA-F]{6}", value):
            raise fields.wrong("colours", f"{value!r} is not a colour: write #rrggbb")
    labels = {}
    for key, name in fields.mapping("labels").items():
        value = _label_value(fields, "labels", key)
        if not isinstance(name, str) or not name:
            raise fields.wrong("labels", f"the name of label {key} must be a text")
        labels[value] = Label(name, colours.pop(value, None))
    if kind != "image" and not any(labels):
        raise fields.wrong("labels", 'name the classes, such as {"1": "lung"}')
    if colours:
        raise fields.wrong("colours", f"label {next(iter(colours))} is not among labels")
    if len({label.name for label in labels.values()}) != len(labels):
        raise fields.wrong("labels", "two labels have the same name")
    return labels


def _label_value(fields: Fields, name: str, key: str) -> int:
    if not (isinstance(key, str) and key.isdecimal() and int(key) <= 65535):
        raise fields.wrong(name, f"{key!r} is not a label value: use whole numbers from 0 to 65535")
    return int(key)


def _read_classes(fields: Fields, activation: str) -> tuple[str, ...]:
    found = fields.take("classes")
    fits = isinstance(found, list) and found and all(isinstance(n, str) and n.strip() for n in found)
    if not fits or len(set(found)) != len(found):
        raise fields.wrong("classes", 'give the different names of all classes, such as ["normal", "fracture"]')
    if activation == "softmax" and len(found) == 1:
        raise fields.wrong("classes", "one class alone has nothing to compete with: use the activation sigmoid")
    return tuple(found)


def _read_quantities(fields: Fields) -> tuple[Quantity, ...]:
    found = fields.take("values")
    if not isinstance(found, list) or not found:
        raise fields.wrong("values", 'give a list with one object a number, such as [{"name": "age", "unit": "years"}]')
    made = []
    for number, values in enumerate(found):
        part = Fields(values, fields.where, f"{fields.prefix}values[{number}].")
        name, unit = part.text("name", required=True), part.text("unit")
        scale, offset = part.number("scale", 1.0), part.number("offset", 0.0)
        if not scale:
            raise part.wrong("scale", "give a number other than 0, or leave it out")
        part.finish()
        made.append(Quantity(name, unit, float(scale), float(offset or 0.0)))
    if len({one.name for one in made}) != len(made):
        raise fields.wrong("values", "two values have the same name")
    return tuple(made)


def _read_boxes(fields: Fields, dims: int) -> BoxSpec:
    sides = _SIDES[dims]
    order = fields.take("order", list(sides))
    if not isinstance(order, list) or sorted(map(str, order)) != sorted(sides):
        raise fields.wrong("order", f"give each of {', '.join(sides)} once, in the order of the network's columns")
    origin = fields.choice("origin", ("edge", "centre"), "edge")
    numbers = {}
    for name, standard in (("score", 0.05), ("overlap", 0.5)):
        numbers[name] = fields.number(name, standard)
        if numbers[name] is None or not 0 <= numbers[name] <= 1:
            raise fields.wrong(name, "give a number from 0 to 1")
    most = fields.take("most", 300)
    if not is_number(most) or most < 1 or int(most) != most:
        raise fields.wrong("most", "give a whole number of at least 1")
    return BoxSpec(tuple(order), origin, float(numbers["score"]), float(numbers["overlap"]), int(most))


def _factor(fields: Fields, dims: int) -> tuple[int, ...] | None:
    value = fields.take("factor")
    factors: Sequence[Any] = value if isinstance(value, list) else [value] * dims
    if value is None:
        return None
    if len(factors) != dims or any(not is_number(n) or n < 1 or int(n) != n for n in factors):
        order = "(z, y, x)" if dims == 3 else "(y, x)"
        raise fields.wrong("factor", f"give how many voxels the network makes of one, a whole number or {dims} {order}")
    found = tuple(int(n) for n in factors)
    return None if all(n == 1 for n in found) else found
