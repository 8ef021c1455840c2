"""What is done to labels after a model has said them: class by class, as the user chooses, and written down."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..ops import _regions, _runs, _tiles
from ..ops.components import fill_holes
from ..progress import track
from ..volume import Label, Volume
from .fields import is_number

if TYPE_CHECKING:
    from .card import Card
    from .prediction import Prediction

# For all classes that have no rule of their own.
OTHERS = "*"
# Voxels that are worked on at once, so that cancelling need not wait.
_SLAB = 1 << 21
# Rounding of volumes in ml: one that is met exactly counts as met.
_ROUNDING = 1 - 1e-9


@dataclass(frozen=True)
class Rule:
    """What is done to one class.

    Parameters
    ----------
    keep_largest : int
        How many components stay, the largest ones; 0 keeps all.
    remove_below_ml : float
        Components smaller than this go, ml.
    fill_holes : bool
        Whether background that the class encloses becomes the class.
    """

    keep_largest: int = 0
    remove_below_ml: float = 0.0
    fill_holes: bool = False


@dataclass
class _Tally:
    """What became of a class, in components and voxels, over all frames."""

    components: int = 0
    removed: int = 0
    removed_voxels: int = 0
    filled_voxels: int = 0


@dataclass
class _Work:
    """What one frame after the other needs."""

    rules: dict[int | str, Rule]
    spacing: tuple[float, ...]
    voxel_ml: float
    tallies: dict[int, _Tally] = field(default_factory=dict)

    def rule(self, value: int) -> Rule:
        return self.rules.get(value, self.rules.get(OTHERS, Rule()))


def postprocess(labels: Volume, rules: Mapping[str | int, Mapping[str, Any]]) -> Volume:
    """Clean labels up class by class: keep the largest components, remove small ones, fill holes.

    Every frame is worked on by itself, in this order: of the components of every class, those that are too small and
    those beyond the largest ones become background; then holes are filled. Voxels are neighbours across faces, edges
    and corners (26, or 8 in a single slice). Of components of equal size, the one whose first voxel comes first in
    the stored order is the larger. A hole is background that cannot be left through faces without crossing the
    class, in 3D (in a single slice in 2D); other classes inside stay as they are, and of classes that lie around
    each other the innermost takes it. Volumes are counted before holes are filled; a single slice counts with its
    thickness.

    Parameters
    ----------
    labels : Volume
        Labels in 2D, 3D or 4D; 0 is background.
    rules : mapping
        By name or value of a class, and ``"*"`` for all others: ``{"lung": {"keep_largest": True,
        "remove_below_ml": 2.0, "fill_holes": True}}``. `keep_largest` may be a number of components.

    Returns
    -------
    Volume
        Labels of the same type on the same grid, with the names they had; the step is written into the history, so
        that a recipe repeats it, and ``meta["notes"]`` says what was removed and filled.

    Raises
    ------
    InputError
        If `labels` are none, a class or a field is unknown, a value is out of range, or ml are asked for where the
        spacing is unknown.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 9.5.

    Examples
    --------
    >>> made = Volume.from_array(np.array([[1, 1, 0, 1]], np.uint8), (1, 1), kind="labels", labels={1: "lung"})
    >>> postprocess(made, {"lung": {"keep_largest": True}}).data.tolist()
    [[[1, 1, 0, 0]]]
    """
    if not isinstance(labels, Volume) or labels.kind != "labels":
        found = f"a volume of kind {labels.kind!r}" if isinstance(labels, Volume) else type(labels).__name__
        raise InputError(f"labels must be a Volume of labels, not {found}: take the labels of a prediction")
    checked = check_rules(rules, labels.labels)
    data, notes = cleaned(labels, checked)
    meta = {**labels.meta, "notes": (*(labels.meta.get("notes") or ()), *notes)} if notes else labels.meta
    step = {
        "operation": "postprocess",
        "parameters": {"rules": checked},
        "plane": None,
        "inputs": [labels.name],
        "grid": labels.grid.as_dict(),
        "version": _version(),
    }
    return Volume(
        data, labels.grid, "labels", f"{labels.name} cleaned", labels.labels, meta, (*labels.history, step)
    )  # fmt: skip


def check_rules(rules: Any, names: Mapping[int, Label], where: str = "rules") -> dict[str, dict[str, Any]]:
    """Check rules as people write them, and return them as plain values with every field filled in.

    Parameters
    ----------
    rules : mapping
        As for `postprocess`.
    names : mapping of int to Label
        The classes there are; where it is empty, classes go by their values.
    where : str
        Where the rules stand, for errors.

    Raises
    ------
    InputError
        Naming the class, the field, its value and what it may be.
    """
    if not isinstance(rules, Mapping):
        raise InputError(f'{where} must be an object of classes, such as {{"lung": {{"keep_largest": true}}}}')
    checked: dict[str, dict[str, Any]] = {}
    seen: dict[int | str, str] = {}
    for key, fields in rules.items():
        value = _value(key, names, where)
        if value in seen:
            raise InputError(f"{where}: {key!r} and {seen[value]!r} are the same class: give it one rule")
        seen[value] = str(key)
        checked[str(key)] = asdict(_rule(fields, f"{where}, class {key!r}"))
    return checked


def _value(key: Any, names: Mapping[int, Label], where: str) -> int | str:
    """Return the value of a class that is named, or the mark of all others."""
    if key == OTHERS:
        return OTHERS
    for value, label in names.items():
        if label.name == key and value:
            return value
    if isinstance(key, str) and key.isdecimal():
        key = int(key)
    fits = isinstance(key, int | np.integer) and not isinstance(key, bool) and key != 0
    if fits and (not names or key in names):
        return int(key)
    known = ", ".join(label.name for value, label in names.items() if value) or "values such as 1"
    raise InputError(f"{where}: class {key!r} is unknown: use {known}, or {OTHERS!r} for all others")


def _rule(fields: Any, where: str) -> Rule:
    if not isinstance(fields, Mapping):
        raise InputError(f'{where}: {fields!r} must be an object, such as {{"keep_largest": true}}')
    unknown = sorted(set(map(str, fields)) - {"keep_largest", "remove_below_ml", "fill_holes"})
    if unknown:
        raise InputError(
            f"{where}: field {unknown[0]!r} is unknown: the fields are keep_largest, remove_below_ml and fill_holes"
        )
    largest, least = fields.get("keep_largest", 0), fields.get("remove_below_ml", 0.0)
    holes = fields.get("fill_holes", False)
    if not is_number(int(largest) if isinstance(largest, bool) else largest) or largest < 0 or largest != int(largest):
        raise InputError(f"{where}: keep_largest {largest!r} must be true, or how many components stay")
    if not is_number(least) or least < 0:
        raise InputError(f"{where}: remove_below_ml {least!r} must be a volume in ml of at least 0")
    if not isinstance(holes, bool):
        raise InputError(f"{where}: fill_holes {holes!r} must be true or false")
    return Rule(int(largest), float(least), holes)


def cleaned(labels: Volume, checked: Mapping[str, Mapping[str, Any]]) -> tuple[np.ndarray, list[str]]:
    """Return the voxels after rules from `check_rules`, a new array, and sentences that say what changed."""
    rules = {_value(key, labels.labels, "rules"): Rule(**fields) for key, fields in checked.items()}
    if any(rule.remove_below_ml for rule in rules.values()) and not labels.meta.get("spacing_known", True):
        raise InputError(
            f"the spacing of {labels.name!r} is unknown, so ml cannot be told: open it with its spacing, or leave "
            "remove_below_ml out"
        )
    work = _Work(rules, labels.grid.spacing, labels.grid.voxel_volume / 1000)
    frames = range(labels.frame_count)
    data = np.asarray(labels.data)
    result = np.empty(data.shape, data.dtype)
    for number in track(frames, "frames"):
        where = number if labels.grid.frames is not None else ...
        result[where] = _frame(data[where], work)
    return result, _told(work, labels)


def _frame(frame: np.ndarray, work: _Work) -> np.ndarray:
    """Clean one frame (z, y, x); a single slice is worked on in its plane."""
    flat = [axis for axis, size in enumerate(frame.shape) if size == 1][:1]
    array = np.squeeze(frame, axis=flat[0]) if flat else frame
    array = np.ascontiguousarray(array, np.uint8 if frame.dtype == bool else frame.dtype.newbyteorder("="))
    array = _without_parts(array, work)
    array = _without_holes(array, [s for a, s in enumerate(work.spacing) if a not in flat], work)
    return array.reshape(frame.shape)


def _without_parts(array: np.ndarray, work: _Work) -> np.ndarray:
    if not any(rule.keep_largest or rule.remove_below_ml for rule in work.rules.values()):
        return array
    found = _runs.regions(array, array.ndim)
    keep = np.ones(len(found.size), bool)
    for value in np.unique(found.value).tolist():
        rule, mine = work.rule(value), np.flatnonzero(found.value == value)
        keep[mine] = found.size[mine] * work.voxel_ml >= rule.remove_below_ml * _ROUNDING
        if rule.keep_largest:
            # Regions are numbered by their first voxels, and a stable sort leaves equal ones in that order.
            keep[mine[np.argsort(-found.size[mine], kind="stable")][rule.keep_largest :]] = False
        tally = work.tallies.setdefault(value, _Tally())
        gone = mine[~keep[mine]]
        tally.components += len(mine)
        tally.removed += len(gone)
        tally.removed_voxels += int(found.size[gone].sum())
    kept = np.where(keep, found.value, found.value.dtype.type(0))
    return found.painted(np.append(kept, kept.dtype.type(0)))


def _without_holes(array: np.ndarray, spacing: list[float], work: _Work) -> np.ndarray:
    values = [value for value in _regions.values_of(array).tolist() if work.rule(value).fill_holes]
    if not values:
        return array
    slabs, lock = _tiles.slabs(array.shape, _SLAB), Lock()
    walls = np.empty_like(array)

    def choose(slab: slice) -> None:
        # A class that is not to be filled is no wall of a hole, only something that lies in one.
        part = array[slab]
        np.multiply(part, np.isin(part, values), out=walls[slab])

    def merge(slab: slice) -> None:
        part = array[slab]
        added = (part == 0) & (filled[slab] != 0)
        found, counts = np.unique(filled[slab][added], return_counts=True)
        filled[slab] = np.where(added, filled[slab], part)
        with lock:
            for value, count in zip(found.tolist(), counts.tolist(), strict=True):
                work.tallies.setdefault(value, _Tally()).filled_voxels += count

    _tiles.run(choose, slabs, "slabs")
    filled = fill_holes(walls, spacing)
    _tiles.run(merge, slabs, "slabs")
    return filled


def _told(work: _Work, labels: Volume) -> list[str]:
    """Say what became of every class that changed."""
    known = labels.meta.get("spacing_known", True)
    notes = []
    for value, tally in sorted(work.tallies.items()):
        parts = []
        if tally.removed:
            size = _size(tally.removed_voxels, work, known)
            parts.append(f"{tally.removed} of {tally.components} components removed ({size})")
        if tally.filled_voxels:
            parts.append(f"holes of {_size(tally.filled_voxels, work, known)} filled")
        if parts:
            label = labels.labels.get(value)
            notes.append(f"post-processing of {label.name if label else f'class {value}'}: {', '.join(parts)}")
    return notes


def _size(voxels: int, work: _Work, known: bool) -> str:
    return f"{voxels * work.voxel_ml:.3g} ml" if known else f"{voxels} voxels"


def rules_for(card: "Card", kind: str, post: Any) -> dict[str, dict[str, Any]]:
    """Return the rules of one prediction, checked: those that were given, or the card's; False means none.

    Raises
    ------
    InputError
        If there are rules and the prediction has no labels, or they do not fit the card.
    """
    if kind not in ("labels", "regions"):
        if post:
            raise InputError(f"post cannot be chosen for kind {kind!r}, which gives no labels: leave it out")
        return {}
    if post is None:
        return dict(card.post)
    return {} if post is False else check_rules(post, card.output.labels, "post")


def applied(found: "Prediction", rules: Mapping[str, Mapping[str, Any]]) -> "Prediction":
    """Return a prediction whose labels are cleaned by rules from `rules_for`, with notes of what changed."""
    if not rules or "labels" not in found.volumes:
        return found
    data, told = cleaned(found.labels, rules)
    labels = found.labels.replace(data=data)
    return replace(found, volumes={**found.volumes, "labels": labels}, notes=(*found.notes, *told))


def replay(volume: Volume, parameters: Mapping[str, Any]) -> Volume:
    """Repeat a step ``"postprocess"`` of a history on other labels."""
    unknown = sorted(set(parameters) - {"rules"})
    if unknown or "rules" not in parameters:
        raise InputError(f"a step postprocess holds rules alone, not {', '.join(unknown) or 'nothing'}")
    return postprocess(volume, parameters["rules"])


def _version() -> str:
    from .. import __version__

    return __version__
