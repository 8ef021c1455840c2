"""What a MONAI bundle does to an image before its network sees it, understood from names and arguments.

Every transform that is known has a list of the arguments that are known; anything else is refused by its name, since
leaving out a transform would give a network other images than those it learned from. With the user's trust, MONAI runs
all of them then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..bundle import Step
from ..fields import is_number
from ._config import Config, NotKnown
from ._parts import ELSEWHERE, Part, read_each

_LINEAR = ("bilinear", "linear", "trilinear")


@dataclass(frozen=True)
class Preparation:
    """What happens before the network: the steps, and the orientation in the card's way of writing, or None."""

    steps: tuple[Step, ...]
    orientation: str | None


def preparation(config: Config, missed: list[str]) -> Preparation:
    """Return what ``preprocessing`` says.

    What is not understood is named in `missed`, and left out of the steps.

    Raises
    ------
    InputError
        If an argument is wrong.
    """
    steps: list[Step] = []
    codes: list[str] = []

    def read(part: Part, name: str) -> None:
        kind, arguments = _BEFORE[name]
        if kind != "orientation":
            steps.append(Step(kind, arguments(part)))
            return
        if codes or any(step.kind in ("crop", "pad", "divisible", "resize") for step in steps):
            raise NotKnown(
                config.where, f"{part.place} ({part.name}) comes after sizes are changed", f"not before; {ELSEWHERE}"
            )
        codes.append(_orientation(part))
        steps.append(Step("orientation", {}))

    read_each(config, "preprocessing", _BEFORE, read, missed)
    return Preparation(tuple(steps), codes[0] if codes else None)


def _orientation(part: Part) -> str:
    """Return the orientation as a card writes it: MONAI's axes are the other way round."""
    canonical = part.flag("as_closest_canonical")
    code = "RAS" if canonical else part.take("axcodes")
    labels = part.take("labels")
    standard = [["L", "R"], ["P", "A"], ["I", "S"]]
    if labels is not None and [list(map(str, pair)) for pair in labels] != standard:
        raise part.unknown("labels", "and only L and R, P and A, I and S are known here")
    if isinstance(code, list):
        code = "".join(map(str, code))
    sides = {"L": 0, "R": 0, "P": 1, "A": 1, "I": 2, "S": 2}
    right = isinstance(code, str) and sorted(sides.get(letter, 9) for letter in code.upper()) == [0, 1, 2]
    if not right:
        raise part.wrong("axcodes", "give three letters such as RAS")
    return code.upper()[::-1]


def _spacing(part: Part) -> dict[str, Any]:
    pixdim = part.numbers("pixdim")
    if pixdim is None:
        raise part.wrong("pixdim", "give the spacing in mm")
    part.only("mode", "bilinear", *_LINEAR)
    part.only("padding_mode", "border")
    for name in ("diagonal", "scale_extent"):
        part.only(name, False)
    part.skip("align_corners", "recompute_affine", "ensure_same_shape", "max_pixdim", "min_pixdim")
    for name in ("max_pixdim", "min_pixdim"):
        if part.take(name) is not None:
            raise part.unknown(name)
    return {"pixdim": pixdim}


def _resize(part: Part) -> dict[str, Any]:
    size = part.numbers("spatial_size", whole=True)
    if size is None:
        raise part.wrong("spatial_size", "give the number of voxels")
    part.only("mode", "area", *_LINEAR)
    if "mode" not in part.raw or part.take("mode") in ("area", ["area"]):
        raise part.unknown("mode", f"and only {' or '.join(_LINEAR)} is known here")
    part.only("size_mode", "all")
    part.only("align_corners", None, False)
    part.only("anti_aliasing", False)
    part.skip("anti_aliasing_sigma")
    return {"size": size}


def _crop(part: Part) -> dict[str, Any]:
    for name in ("select_fn", "channel_indices"):
        if part.take(name) is not None:
            raise part.unknown(name, "and only what is greater than 0 is kept here")
    margin = part.number("margin", 0)
    part.only("k_divisible", 1)
    if not part.flag("allow_smaller") and margin:
        raise part.unknown("margin", "which with allow_smaller false would pad beyond the border")
    part.skip("source_key", "mode", "start_coord_key", "end_coord_key")
    return {"margin": int(margin)}


def _pad(part: Part, name: str) -> Any:
    size = part.numbers(name, whole=True)
    if size is None:
        raise part.wrong(name, "give the number of voxels")
    part.only("method", "symmetric")
    part.only("mode", "constant")
    if part.number("value", 0) or part.number("constant_values", 0):
        raise part.unknown("value", "and only zeros are put around an image here")
    return size


def _range(part: Part) -> dict[str, Any]:
    source = (part.number("a_min"), part.number("a_max"))
    if None in source:
        raise part.wrong("a_min", "give a_min and a_max")
    return {"source": source, "target": _target(part), "clip": part.flag("clip")}


def _target(part: Part) -> tuple[float, float] | None:
    found = (part.number("b_min"), part.number("b_max"))
    if found == (None, None):
        if part.flag("clip"):
            raise part.wrong("clip", "give b_min and b_max")
        return None
    if None in found:
        raise part.wrong("b_min", "give b_min and b_max")
    return found


def _scale(part: Part) -> dict[str, Any]:
    if part.take("factor") is not None:
        raise part.unknown("factor")
    target = (part.number("minv", 0.0), part.number("maxv", 1.0))
    if None in target:
        raise part.wrong("minv", "give minv and maxv")
    return {"target": target, "channel_wise": part.flag("channel_wise")}


def _normalize(part: Part) -> dict[str, Any]:
    found = {}
    for name, argument in (("mean", "subtrahend"), ("std", "divisor")):
        value = part.take(argument)
        each = value if isinstance(value, list) else [value]
        if value is not None and not all(is_number(v) for v in each):
            raise part.wrong(argument, "give numbers")
        found[name] = tuple(value) if isinstance(value, list) else value
    wise = part.flag("channel_wise")
    if not wise and any(isinstance(v, tuple) for v in found.values()):
        raise part.wrong("subtrahend", "a number for each channel needs channel_wise true")
    return {**found, "nonzero": part.flag("nonzero"), "channel_wise": wise}


def _percentiles(part: Part) -> dict[str, Any]:
    lower, upper, target = part.number("lower"), part.number("upper"), _target(part)
    if lower is None or upper is None or not 0 <= lower < upper <= 100:
        raise part.wrong("lower", "give percentiles between 0 and 100, lower < upper")
    if part.flag("relative"):
        if target is None:
            raise part.wrong("relative", "it needs b_min and b_max")
        span = target[1] - target[0]
        target = (target[0] + span * lower / 100, target[0] + span * upper / 100)
    wise = part.flag("channel_wise")
    return {"lower": lower, "upper": upper, "target": target, "clip": part.flag("clip"), "channel_wise": wise}


def _threshold(part: Part) -> dict[str, Any]:
    value = part.number("threshold")
    if value is None:
        raise part.wrong("threshold", "give a number")
    return {"threshold": value, "above": part.flag("above", True), "value": part.number("cval", 0.0)}


_BEFORE: dict[str, tuple[str, Callable[[Part], dict[str, Any]]]] = {
    "Orientation": ("orientation", lambda part: {}),
    "Spacing": ("spacing", _spacing),
    "Resize": ("resize", _resize),
    "CropForeground": ("crop", _crop),
    "SpatialPad": ("pad", lambda part: {"size": _pad(part, "spatial_size")}),
    "DivisiblePad": ("divisible", lambda part: {"by": _pad(part, "k")}),
    "ScaleIntensityRange": ("range", _range),
    "ScaleIntensity": ("scale", _scale),
    "NormalizeIntensity": ("normalize", _normalize),
    "ScaleIntensityRangePercentiles": ("percentiles", _percentiles),
    "ThresholdIntensity": ("threshold", _threshold),
}
