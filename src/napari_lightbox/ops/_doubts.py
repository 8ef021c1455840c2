"""Where a segmentation is likely to be wrong, without a reference: unsure, not agreed upon, or not plausible."""

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from ..progress import report, track
from ..types import ImageArray, LabelArray
from . import _check, _error_voxels, _rules
from ._errors import Error, Errors
from ._rules import Rule

UNCERTAIN, DISAGREEMENT = "uncertain", "disagreement"
#: Every kind of doubt there is.
DOUBTS = (*_rules.RULES, DISAGREEMENT, UNCERTAIN)


def find_doubts(
    labels: LabelArray,
    spacing: Sequence[float],
    *,
    uncertainty: ImageArray | None = None,
    above: float = 0.5,
    others: Sequence[LabelArray] = (),
    rules: Sequence[Rule] = (),
    image: ImageArray | None = None,
    left: Sequence[float] | None = None,
    probability: ImageArray | None = None,
    least: float = 0.0,
) -> Errors:
    """List what is doubtful in a segmentation that has no reference, as `find_errors` lists what is wrong.

    Parameters
    ----------
    labels : ndarray
        The segmentation: whole numbers or bool, of one to three axes; 0 is background.
    spacing : sequence of float
        mm per voxel in array order.
    uncertainty : ndarray, optional
        Of the same shape, 0 to 1: connected voxels of one label where it is more than `above` are ``"uncertain"``.
    above : float
        Threshold of the uncertainty.
    others : sequence of ndarray
        The same case by other models, folds, mirrored passes or raters: connected voxels where any of them differs
        are a ``"disagreement"``. What most of all say (the segmentation itself among them, and first where numbers
        are equal) stands as `reference`.
    rules : sequence of Rule
        What is not plausible; the kind of the rule is the kind of the doubt.
    image : ndarray, optional
        Grey values for rules of intensity.
    left : sequence of float, optional
        For rules of sides: how far a step along each axis goes to the patient's left.
    probability : ndarray, optional
        Of the same shape, averaged over each doubt.
    least : float
        Leave out what is smaller, mm3.

    Returns
    -------
    Errors
        As from `find_errors`, by decreasing volume: `reference` is what a voxel should rather be, where that can be
        said, else the same as `predicted`; `depth` is NaN; `uncertainty` is the mean of the map where there is one,
        else for a disagreement the mean share of those that differ.

    Raises
    ------
    InputError
        If shapes do not fit, nothing is given to look for, or a rule lacks what it needs.

    Notes
    -----
    A voxel belongs to one doubt: to the first rule in the order given that it breaks, else to a disagreement, else to
    an uncertain piece. Voxels of a doubt touch by faces, edges or corners.

    Rules: a hole is background that cannot be left through faces without crossing the label. Islands are connected
    pieces other than the label's largest. A leak hangs on the largest part by a neck that vanishes when half of the
    limit is taken away all around; a leak that is thin itself is not found. A piece lies on the wrong side where its
    centre is beyond the middle between the two labels. All of a label is named where its volume is outside the limits.

    Examples
    --------
    >>> found = find_doubts(np.array([[1, 1, 1, 0, 0, 1], [1, 0, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0]]), (1, 1),
    ...                     rules=[Rule("hole"), Rule("island", limit=1.0)])
    >>> [(doubt.kind, doubt.predicted, doubt.reference, doubt.voxel) for doubt in found.table]
    [('island', 1, 0, (0, 5)), ('hole', 0, 1, (1, 1))]
    """
    labels = _check.labels(labels, "labels")
    if labels.ndim > 3:
        raise InputError(f"labels has {labels.ndim} axes: give one frame at a time, of three axes at most")
    steps = _check.steps(spacing, labels.ndim)
    smallest = _check.number(least, "least", least=0)
    if uncertainty is None and not others and not rules:
        raise InputError("nothing is given to look for: give uncertainty, others or rules")
    maps = {}
    for name, values in (("uncertainty", uncertainty), ("probability", probability), ("image", image)):
        if values is not None:
            maps[name] = _check.image(values, name)
            _check.same_shape(labels, maps[name], ("labels", name))
    others = [_check.labels(one, f"others[{n}]") for n, one in enumerate(others)]
    for n, one in enumerate(others):
        _check.same_shape(labels, one, ("labels", f"others[{n}]"))
    doubts = _Doubts(labels, steps)
    doubts.add_rules(rules, maps.get("image"), None if left is None else _check.vector(left, "left", labels.ndim))
    if others:
        doubts.add_disagreement(others)
    if uncertainty is not None:
        limit = _check.number(above, "above")
        places = np.flatnonzero(maps["uncertainty"] > limit)
        doubts.add(UNCERTAIN, places, labels.reshape(-1)[places])
    return doubts.listed(smallest, maps)


class _Doubts:
    """Voxels in doubt, each with a kind and with what it should rather be; the first to name a voxel has it."""

    def __init__(self, labels: np.ndarray, steps: np.ndarray) -> None:
        self.shape, self.ndim = labels.shape, labels.ndim
        self.labels = _error_voxels.volume(labels)
        self.steps = np.concatenate([np.ones(3 - labels.ndim), steps])
        self.volume = float(np.prod(steps))
        self._taken = np.zeros(labels.size, bool)
        self._found: list[tuple[int, np.ndarray, np.ndarray]] = []
        self._dissent: np.ndarray | None = None

    def add(self, kind: str, places: np.ndarray, proposed: np.ndarray) -> None:
        """Take voxels that no other kind has yet."""
        free = ~self._taken[places]
        places, proposed = places[free], np.asarray(proposed)[free]
        self._taken[places] = True
        if len(places):
            self._found.append((DOUBTS.index(kind), places, proposed.astype(np.int64)))

    def add_rules(self, rules: Sequence[Rule], image: np.ndarray | None, left: np.ndarray | None) -> None:
        """Take the voxels that break rules."""
        flat = 3 - self.ndim
        toward = None if left is None else np.concatenate([np.zeros(flat), left])
        shown = None if image is None else image.reshape(self.labels.shape)
        scene = _rules.Scene(self.labels, self.steps, shown, toward)
        for rule in track(rules, "rules"):
            if not isinstance(rule, Rule):
                raise InputError(f"rules holds {rule!r}: give objects of Rule")
            self.add(rule.kind, *_rules.broken(rule, scene))

    def add_disagreement(self, others: Sequence[np.ndarray]) -> None:
        """Take the voxels in which any of several maps differs."""
        own = self.labels.reshape(-1)
        maps = [one.reshape(-1) for one in others]
        differs = np.zeros(own.size, bool)
        for one in track(maps, "label maps"):
            differs |= one != own
        places = np.flatnonzero(differs)
        votes = np.stack([one[places].astype(np.int64) for one in (own, *maps)])
        counts = np.stack([(votes == one).sum(axis=0) for one in votes])
        # Of equal numbers of votes the first wins: that of the segmentation itself.
        winner = np.take_along_axis(votes, counts.argmax(axis=0)[None], 0)[0]
        self._dissent = np.zeros(own.size, np.float32)
        self._dissent[places] = 1 - counts[0] / len(votes)
        self.add(DISAGREEMENT, places, winner)

    def listed(self, least: float, maps: dict[str, np.ndarray]) -> Errors:
        """Part all voxels into connected pieces and list these."""
        if not self._found:
            return Errors([], np.zeros(self.shape, np.uint8))
        kinds = np.concatenate([np.full(len(places), kind) for kind, places, _ in self._found])
        index = np.concatenate([places for _, places, _ in self._found])
        proposed = np.concatenate([labels for _, _, labels in self._found])
        order = np.argsort(index)
        kinds, index, proposed = kinds[order], index[order], proposed[order]
        own = self.labels.reshape(-1)[index]
        piece, count = _error_voxels.pieces(index, _codes(kinds, own, proposed), self.labels.shape)
        report("pieces", count, count)
        sizes = np.bincount(piece, minlength=count)
        first = np.full(count, len(index))
        np.minimum.at(first, piece, np.arange(len(index)))
        kept = np.flatnonzero(sizes * self.volume >= least * (1 - 1e-9))
        kept = kept[np.lexsort((first[kept], -sizes[kept]))]
        names = np.zeros(count, np.min_scalar_type(len(kept)))
        names[kept] = np.arange(1, len(kept) + 1)
        numbers = np.zeros(self.shape, names.dtype)
        numbers.reshape(-1)[index] = names[piece]
        means = self._means(index, piece, sizes, maps)
        where = _error_voxels.places(index, self.labels.shape)
        centres = np.stack([np.bincount(piece, axis, count) / sizes for axis in where.T], axis=1)
        table = []
        for number, one in enumerate(track(kept.tolist(), "pieces"), start=1):
            at = first[one]
            kind = DOUBTS[kinds[at]]
            table.append(
                Error(
                    number=number,
                    kind=kind,
                    predicted=int(own[at]),
                    reference=int(proposed[at]),
                    voxels=int(sizes[one]),
                    volume=int(sizes[one]) * self.volume,
                    depth=float("nan"),
                    centre=tuple(centres[one, 3 - self.ndim :].tolist()),
                    voxel=tuple(where[at, 3 - self.ndim :].tolist()),
                    **{name: float(values[one]) for name, values in means(kind).items()},
                )
            )
        return Errors(table, numbers)

    def _means(self, index, piece, sizes, maps):
        """Return what gives the means of a kind of doubt, piece by piece."""
        found = {}
        for name in ("probability", "uncertainty"):
            if name in maps:
                values = maps[name].reshape(-1)[index].astype(float)
                found[name] = np.bincount(piece, values, len(sizes)) / sizes
        if self._dissent is None or "uncertainty" in found:
            return lambda kind: found
        share = np.bincount(piece, self._dissent[index].astype(float), len(sizes)) / sizes
        return lambda kind: found | ({"uncertainty": share} if kind == DISAGREEMENT else {})


def _codes(kinds: np.ndarray, own: np.ndarray, proposed: np.ndarray) -> np.ndarray:
    """Return one number for each kind of doubt and pair of labels."""
    labels = []
    for values in (own, proposed):
        # Labels of more than 30 bits are numbered.
        fits = int(values.min()) >= -(1 << 29) and int(values.max()) < 1 << 29
        labels.append(values.astype(np.int64) if fits else np.unique(values, return_inverse=True)[1].reshape(-1))
    low = (1 << 30) - 1
    return kinds.astype(np.int64) << 60 | (labels[0] & low) << 30 | labels[1] & low
