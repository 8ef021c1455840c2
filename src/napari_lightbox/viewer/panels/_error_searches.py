"""Searches of the Errors dock beside that against a reference: doubts, a probability, and two predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import InputError
from ...ops._doubts import find_doubts
from ...ops._errors import find_errors
from ...ops._rules import Rule
from ...ops._versus import compare_errors
from ._error_kinds import ALONE, VERSUS
from ._error_score import VersusScore
from ._error_work import REVIEW, Found, Piece, Taken, at, frames_of, pieces, review_layer, voxels_of


@dataclass(frozen=True)
class DoubtSearch:
    """Doubts about a segmentation without a reference. Call it in the background.

    Parameters
    ----------
    predicted : Taken
        The labels.
    identity : str
        Of their layer.
    probability : Taken or None
        Image to average over each doubt.
    uncertainty : Taken or None
        Doubts are where it is more than `above`.
    above : float
        Threshold.
    others : sequence of Taken
        Other segmentations: doubts are where they differ.
    rules : sequence of Rule
        Doubts are what breaks them.
    image : Taken or None
        Grey values for rules of intensity.
    """

    predicted: Taken
    identity: str
    probability: Taken | None = None
    uncertainty: Taken | None = None
    above: float = 0.5
    others: Sequence[Taken] = ()
    rules: Sequence[Rule] = ()
    image: Taken | None = None

    def __call__(self) -> Found:
        """Find the doubts of all frames and make the layer that shows them."""
        labels, grid = self.predicted.array(), self.predicted.grid
        extra = {name: getattr(self, name) for name in ("uncertainty", "probability", "image")}
        maps = {name: one.array() for name, one in extra.items() if one is not None}
        others = [one.array() for one in self.others]
        frames = []
        for frame in frames_of(labels):
            found = find_doubts(
                at(labels, frame),
                grid.spacing,
                above=self.above,
                others=[at(one, frame) for one in others],
                rules=self.rules,
                left=self._left(),
                **{name: at(data, frame) for name, data in maps.items()},
            )
            frames.append((pieces(found), found.map))
        averages = [*(["probability"] if self.probability else []), *(["uncertainty"] if self._unsure else [])]
        more = {"mode": ALONE, "reference": self._against(), "averages": averages, "title": "doubts about"}
        return Found(review_layer(self.predicted, frames, (self.identity,), self.others, **more), None)

    @property
    def _unsure(self) -> bool:
        return self.uncertainty is not None or bool(self.others)

    def _left(self) -> np.ndarray | None:
        """Return how far a step along each axis goes to the patient's left."""
        if not any(rule.kind == "swapped side" for rule in self.rules):
            return None
        if not self.predicted.volume.meta.get("orientation_known", True):
            raise InputError(
                f"{self.predicted.volume.name} does not say which side is left: leave out the rule 'swapped side', or "
                "open a file that knows its orientation"
            )
        # The world is LPS, and its last axis x grows to the left.
        return self.predicted.grid.affine[2, :3]

    def _against(self) -> str:
        parts = [f"uncertainty above {self.above:g}"] if self.uncertainty is not None else []
        parts += [one.volume.name for one in self.others] + [str(rule) for rule in self.rules]
        return ", ".join(parts)


@dataclass(frozen=True)
class ProbabilitySearch:
    """A label against what a probability above a threshold says of it. Call it in the background.

    Parameters
    ----------
    predicted : Taken
        The labels.
    identity : str
        Of their layer.
    probability : Taken
        Image of the same grid.
    label : int
        Whose probability it is.
    above : float
        From which on it says so.
    """

    predicted: Taken
    identity: str
    probability: Taken
    label: int
    above: float = 0.5

    def __call__(self) -> Found:
        """Find the differences of all frames and make the layer that shows them."""
        labels, probability = self.predicted.array(), self.probability.array()
        if not (labels == self.label).any():
            raise InputError(f"{self.predicted.volume.name} has no label {self.label}: choose one that it has")
        frames = []
        for frame in frames_of(labels):
            sure, own = at(probability, frame), at(labels, frame)
            mine = np.where(own == self.label, own, 0)
            says = np.where(sure > self.above, self.label, 0).astype(own.dtype)
            # Nothing is said about what other labels are.
            says[(own != 0) & (own != self.label)] = 0
            found = find_errors(mine, says, self.predicted.grid.spacing, probability=sure)
            frames.append((pieces(found), found.map))
        against = f"{self.probability.volume.name} above {self.above:g}"
        more = {"mode": ALONE, "reference": against, "averages": ["probability"], "title": "differences of"}
        return Found(review_layer(self.predicted, frames, (self.identity,), **more), None)


@dataclass(frozen=True)
class VersusSearch:
    """Two predictions against one reference. Call it in the background.

    Parameters
    ----------
    second, reference, first : Taken
        The labels.
    ids : tuple of str
        Identities of their layers, in this order.
    """

    second: Taken
    reference: Taken
    first: Taken
    ids: tuple[str, str, str]

    def __call__(self) -> Found:
        """Find what got better and worse in all frames, and make the layer that shows it."""
        second, reference, first = (one.array() for one in (self.second, self.reference, self.first))
        grid, frames, gained, lost = self.second.grid, [], 0, 0
        for frame in frames_of(second):
            found = compare_errors(at(first, frame), at(second, frame), at(reference, frame), grid.spacing)
            gained, lost = gained + found.gained, lost + found.lost
            frames.append(_changes(found, grid.voxel_volume if self._known else 1.0))
        score = VersusScore(second, reference, first)
        more = {
            "mode": VERSUS, "title": "changes to", "reference": self.reference.volume.name,
            "first": self.first.volume.name, "gained": gained, "lost": lost,
            "dice": score.dice(), "dice_first": score.dice_first(),
            "voxel": grid.voxel_volume if self._known else None,
        }  # fmt: skip
        layer = review_layer(self.second, frames, self.ids, (self.first, self.reference), **more)
        review = layer.metadata[REVIEW]
        for row in review["rows"]:
            if row["outcome"] == "worse":
                # Of these only what was right before is shown: fly to the middle of that.
                places = voxels_of(review, row["number"])
                row["voxel"] = tuple(int(axis[len(axis) // 2]) for axis in places)
        return Found(layer, score)

    @property
    def _known(self) -> bool:
        return self.second.volume.meta.get("spacing_known", True)


def _changes(found, voxel: float) -> tuple[list[Piece], np.ndarray]:
    """Return the changes of a frame, and their map: where both are wrong, that of the first."""
    rows = []
    numbers = [np.zeros(len(errors.table) + 1, np.uint32) for errors in (found.first, found.second)]
    for number, change in enumerate(found.changes, start=1):
        numbers[change.outcome in ("worse", "new")][change.error.number] = number
        extra: dict[str, Any] = {"outcome": change.outcome, "changed": change.voxels * voxel}
        rows.append((change.error, change.voxels, extra | {"changed_voxels": change.voxels}))
    both = numbers[0][found.first.map]
    return rows, np.where(both == 0, numbers[1][found.second.map], both)
