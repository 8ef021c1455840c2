"""What a segmentation of anatomy cannot look like, each with a name, a threshold and a unit: rules of plausibility."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ..errors import InputError
from . import _check, components
from ._aside import aside


@dataclass(frozen=True)
class Kind:
    """A kind of rule.

    Parameters
    ----------
    meaning : str
        What is found.
    threshold, unit : str
        What its `limit` is, and in which unit; empty where it has none.
    limit : float
        What the limit is where none is given.
    """

    meaning: str
    threshold: str = ""
    unit: str = ""
    limit: float = float("nan")


RULES = {
    "hole": Kind("background inside of a label", "holes up to this volume", "ml", 5.0),
    "island": Kind("a piece of a label that lies apart from its largest one", "pieces up to this volume", "ml", 5.0),
    "leak": Kind("a part of a label that hangs on the rest by a thin neck", "necks up to this width", "mm", 4.0),
    "swapped side": Kind("a piece of a left label that lies right of its partner, or the other way round"),
    "volume": Kind("a label that is smaller or larger than it can be", "volumes outside of low to high", "ml"),
    "intensity": Kind(
        "pieces of a label whose grey values it cannot have", "grey values outside of low to high", "of the image"
    ),
}


@dataclass(frozen=True)
class Rule:
    """One rule for one label, or for all.

    Parameters
    ----------
    kind : str
        A key of `RULES`: ``"hole"``, ``"island"``, ``"leak"``, ``"swapped side"``, ``"volume"``, ``"intensity"``.
    label : int, optional
        The label it is about; all of them where not given. For ``"swapped side"`` the label of the patient's left.
    limit : float, optional
        Threshold of ``"hole"`` and ``"island"`` (ml; 5 where not given) and of ``"leak"`` (mm; 4 where not given).
    low, high : float, optional
        Limits of ``"volume"`` (ml) and ``"intensity"`` (grey values); none where not given.
    partner : int, optional
        For ``"swapped side"`` the label of the patient's right.
    """

    kind: str
    label: int | None = None
    limit: float | None = None
    low: float | None = None
    high: float | None = None
    partner: int | None = None

    def __post_init__(self) -> None:
        _check.choice(self.kind, tuple(RULES), "kind")
        if self.limit is not None:
            _check.number(self.limit, "limit", least=0)
        if self.kind == "swapped side" and (self.label is None or self.partner is None):
            raise InputError("a rule 'swapped side' needs label (of the left) and partner (of the right): give both")
        if self.kind in ("volume", "intensity"):
            if self.low is None and self.high is None:
                raise InputError(f"a rule {self.kind!r} needs low, high or both: give the limits")
            if self.low is not None and self.high is not None and not self.low <= self.high:
                raise InputError(f"a rule {self.kind!r} has low {self.low:g} above high {self.high:g}: swap them")

    @property
    def threshold(self) -> float:
        """The limit, or what it is where none is given."""
        return RULES[self.kind].limit if self.limit is None else float(self.limit)

    def __str__(self) -> str:
        kind = RULES[self.kind]
        if self.kind == "swapped side":
            return f"{self.kind} of {self.label} and {self.partner}"
        if self.kind not in ("volume", "intensity"):
            given = f"{self.threshold:g}"
        elif self.low is None or self.high is None:
            given = f"from {self.low:g}" if self.high is None else f"up to {self.high:g}"
        else:
            given = f"{self.low:g} to {self.high:g}"
        return f"{self.kind} ({given} {kind.unit})" + ("" if self.label is None else f" of {self.label}")


@dataclass(frozen=True)
class Scene:
    """What rules look at.

    Parameters
    ----------
    labels : (z, y, x) ndarray
        The segmentation.
    steps : ndarray
        mm per voxel.
    image : (z, y, x) ndarray or None
        Grey values.
    left : ndarray or None
        How far each step along z, y and x goes to the patient's left, mm.
    """

    labels: np.ndarray
    steps: np.ndarray
    image: np.ndarray | None = None
    left: np.ndarray | None = None

    @property
    def flat(self) -> bool:
        """Whether it is a single slice."""
        return self.labels.shape[0] == 1

    @property
    def millilitres(self) -> float:
        """Volume of a voxel, ml."""
        return float(np.prod(self.steps)) / 1000

    def values(self, rule: Rule) -> list[int]:
        """Return the labels that a rule is about."""
        return [v for v in np.unique(self.labels).tolist() if v] if rule.label is None else [int(rule.label)]


#: Voxels that break a rule (flat places), and the label each should rather have.
Broken = tuple[np.ndarray, np.ndarray]


def broken(rule: Rule, scene: Scene) -> Broken:
    """Return what breaks a rule."""
    return _TESTS[rule.kind](rule, scene)


def _hole(rule: Rule, scene: Scene) -> Broken:
    labels = scene.labels if rule.label is None else np.where(scene.labels == rule.label, scene.labels, 0)
    if scene.flat:
        # Around a single slice there is no background from which its holes could be reached; sizes stay in mm3.
        most = 1000 * rule.threshold / scene.steps[0]
        filled = components.fill_holes(labels[0], scene.steps[1:], max_size=most)[None]
    else:
        filled = components.fill_holes(labels, scene.steps, max_size=1000 * rule.threshold)
    # What lies inside of the one label may be another one.
    places = np.flatnonzero((filled != labels) & (scene.labels == 0))
    return places, filled.reshape(-1)[places]


def _island(rule: Rule, scene: Scene) -> Broken:
    found = []
    most = rule.threshold / scene.millilitres * (1 + 1e-9)
    for value in scene.values(rule):
        pieces, sizes, corner = _pieces_of(scene.labels, value)
        if len(sizes) > 2:
            apart = sizes <= most
            apart[[0, int(np.argmax(sizes[1:])) + 1]] = False
            found.append(_places(apart[pieces], corner, scene.labels.shape))
    return _together(found)


def _leak(rule: Rule, scene: Scene) -> Broken:
    """Take away what is thin: parts that come apart by that hang together by thin necks."""
    found = []
    for value in scene.values(rule):
        pieces, sizes, corner = _pieces_of(scene.labels, value)
        # Beyond the border of the array is outside, but not above and below a single slice.
        margin = (0 if scene.flat else 1, 1, 1)
        inside = np.pad(pieces, [(n, n) for n in margin])
        depth = _aside(ndimage.distance_transform_edt, inside, sampling=scene.steps)
        depth = depth[tuple(slice(n, n + size) for n, size in zip(margin, pieces.shape, strict=True))]
        cores, count = _aside(ndimage.label, depth > rule.threshold / 2, np.ones((3, 3, 3)))
        if count < 2:
            continue
        nearest = _aside(
            ndimage.distance_transform_edt,
            cores == 0,
            sampling=scene.steps,
            return_distances=False,
            return_indices=True,
        )
        core = np.where(pieces > 0, cores[tuple(nearest)], 0)
        # In each piece the core that most voxels belong to is the rest.
        owner = np.zeros(count + 1, int)
        owner[cores] = pieces
        owner[0] = 0
        weight = np.bincount(core.reshape(-1), minlength=count + 1)
        leaking = np.zeros(count + 1, bool)
        for piece in range(1, len(sizes)):
            mine = np.flatnonzero(owner == piece)
            if len(mine) > 1:
                leaking[mine] = True
                leaking[mine[np.argmax(weight[mine])]] = False
        # A core of another piece may be nearer: there is no leak into another piece.
        found.append(_places(leaking[core] & (owner[core] == pieces) & (pieces > 0), corner, scene.labels.shape))
    return _together(found)


def _swapped(rule: Rule, scene: Scene) -> Broken:
    if scene.left is None:
        raise InputError("a rule 'swapped side' needs left, the way to the patient's left along each axis: give it")
    sides = [_pieces_of(scene.labels, value) for value in (rule.label, rule.partner)]
    if any(len(sizes) < 2 for _, sizes, _ in sides):
        return _together([])
    places, weights = [], []
    for pieces, sizes, corner in sides:
        points = _aside(ndimage.center_of_mass, pieces > 0, pieces, range(1, len(sizes)))
        centres = np.array(points) + corner
        places.append(centres @ scene.left)
        weights.append(sizes[1:])
    # The middle between all that is left or right, each side counting the same.
    middle = float(np.mean([np.average(p, weights=w) for p, w in zip(places, weights, strict=True)]))
    found, proposed = [], []
    for (pieces, _, corner), place, sign, other in zip(sides, places, (1, -1), (rule.partner, rule.label), strict=True):
        wrong = np.append(False, sign * (place - middle) < 0)
        found.append(_places(wrong[pieces], corner, scene.labels.shape))
        proposed.append(np.full(len(found[-1]), other))
    return np.concatenate(found), np.concatenate(proposed)


def _volume(rule: Rule, scene: Scene) -> Broken:
    found = []
    for value in scene.values(rule):
        places = np.flatnonzero(scene.labels == value)
        size = len(places) * scene.millilitres
        if len(places) and _outside(np.array(size), rule):
            found.append(places)
    places = np.concatenate([*found, np.empty(0, np.int64)])
    # All of it is named; what it should rather be nobody knows.
    return places, scene.labels.reshape(-1)[places]


def _intensity(rule: Rule, scene: Scene) -> Broken:
    if scene.image is None:
        raise InputError("a rule 'intensity' needs image, the grey values that labels were drawn on: give it")
    inside = scene.labels != 0 if rule.label is None else scene.labels == rule.label
    places = np.flatnonzero(inside & _outside(scene.image, rule))
    return places, np.zeros(len(places), scene.labels.dtype)


def _aside(work: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    return aside("pieces", work, *arguments, **more)


def _outside(values: np.ndarray, rule: Rule) -> np.ndarray:
    low = -np.inf if rule.low is None else rule.low
    high = np.inf if rule.high is None else rule.high
    return (values < low) | (values > high)


def _pieces_of(labels: np.ndarray, value: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the numbered pieces of a label in its box, their sizes (0 first), and the corner of the box."""
    mask = labels == value
    box = ndimage.find_objects(mask.view(np.uint8))
    if not box:
        return np.zeros((0, 0, 0), int), np.zeros(1, int), np.zeros(3, int)
    pieces, _ = _aside(ndimage.label, mask[box[0]], np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.reshape(-1))
    return pieces, np.append(0, sizes[1:]), np.array([s.start for s in box[0]])


def _places(mask: np.ndarray, corner: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return np.ravel_multi_index(tuple((np.argwhere(mask) + corner).T), tuple(shape))


def _together(found: list[np.ndarray]) -> Broken:
    """Put places together that should rather be background."""
    places = np.concatenate([*found, np.empty(0, np.int64)])
    return places, np.zeros(len(places), np.int64)


_TESTS: dict[str, Callable[[Rule, Scene], Broken]] = {
    "hole": _hole,
    "island": _island,
    "leak": _leak,
    "swapped side": _swapped,
    "volume": _volume,
    "intensity": _intensity,
}
