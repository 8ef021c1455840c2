"""The label layers of a review: painted where the review says so, and compared with what was known of them."""

import numpy as np

from ...errors import InputError
from ._error_score import PREDICTED, REFERENCE, Score, VersusScore, changed
from ._error_work import voxels_of

# Changed voxels up to which the score is brought up to date rather than counted anew.
MANY = 1 << 21
# Of what has changed between two predictions nothing says which of three layers to mend.
NOTHING_PAINTED = "two predictions are compared here, and nothing is painted"
MEND_INSTEAD = "choose none as the second one, and find errors again"
_WORDS = ("prediction", "reference")


class Pair:
    """Prediction and reference, both open in the viewer.

    Parameters
    ----------
    predicted, reference : Labels layer
        Their voxels are those of the review, in the order displayed.
    score : Score
        Of copies of both.
    review : dict
        What the layer of errors holds.
    """

    def __init__(self, predicted, reference, score: Score, review: dict) -> None:
        self.layers = (predicted, reference)
        self.score = score
        self._review = review

    def array(self, which: int):
        """Return the voxels of a layer with the axes of the review, or None where they are others by now."""
        data, shape = self.layers[which].data, tuple(self._review["shape"])
        if not isinstance(data, np.ndarray):
            return None
        data = data[(None,) * (len(shape) - data.ndim)]
        return data if data.shape == shape else None

    def check(self, which: int, value: int) -> None:
        """Raise `InputError`, with the reason, if a value cannot be painted into a layer."""
        layer, data = self.layers[which], self.array(which)
        if data is None:
            lazy = not isinstance(layer.data, np.ndarray)
            why = "is not in memory" if lazy else "has other voxels by now"
            remedy = "duplicate it as an array first" if lazy else "find errors again"
            raise InputError(f"{layer.name} {why}, nothing can be painted: {remedy}")
        if not layer.editable:
            raise InputError(f"{layer.name} is locked: unlock it to have the {_WORDS[which]} changed")
        limits = np.iinfo(data.dtype) if data.dtype.kind in "iu" else None
        if limits is not None and not limits.min <= value <= limits.max:
            raise InputError(f"{layer.name} holds values up to {limits.max}, not {value}: convert its type first")

    def paint(self, which: int, row: dict, value: int) -> None:
        """Give all voxels of an error a label, as one edit of the layer that its own undo takes back."""
        self.check(which, value)
        layer, at = self.layers[which], voxels_of(self._review, row["number"])
        hidden = not layer.visible
        if hidden:
            # napari paints into the slice as well, which a layer that was never shown does not have.
            layer.visible = True
        try:
            layer.data_setitem(at[-layer.ndim :], value)
        finally:
            if hidden:
                layer.visible = False
        self.follow(which, at)

    def follow(self, which: int, at: tuple[np.ndarray, ...]) -> None:
        """Take into the score what a layer holds now at some voxels."""
        data = self.array(which)
        if data is not None:
            self.score.update(which, at, data[at])

    def holds(self, which: int, row: dict, value: int) -> bool:
        """Whether the deepest voxel of an error has a label: then so has all that was painted with it."""
        data = self.array(which)
        return data is not None and int(data[tuple(row["voxel"])]) == value

    def decided(self, row: dict) -> tuple[int, int] | None:
        """Return which layer a decision has painted, and the label; None for one that paints nothing."""
        return {"accepted": (REFERENCE, row["predicted"]), "fixed": (PREDICTED, row["reference"])}.get(row["state"])

    def compare(self) -> "Compare":
        """Return the work that finds what has changed since the score was last current."""
        arrays = tuple(self.array(which) for which in range(len(self.layers)))
        return Compare(arrays, tuple(self.score.maps), type(self.score))

    def take(self, flat: tuple[np.ndarray, ...]) -> None:
        """Bring the score up to date with the voxels that `Compare` has found."""
        for which, places in enumerate(flat):
            if len(places):
                self.follow(which, np.unravel_index(places, tuple(self._review["shape"])))


class Alone(Pair):
    """A prediction without a reference: Fix paints what is proposed, and there is no score.

    Parameters
    ----------
    predicted : Labels layer
        Its voxels are those of the review, in the order displayed.
    review : dict
        What the layer of doubts holds.
    """

    def __init__(self, predicted, review: dict) -> None:
        self.layers = (predicted,)
        self.score = None
        self._review = review

    def follow(self, which: int, at: tuple[np.ndarray, ...]) -> None:
        """Do nothing: there is no score to follow."""

    def decided(self, row: dict) -> tuple[int, int] | None:
        """Return what a mend has painted; to accept paints nothing."""
        return (PREDICTED, row["reference"]) if row["state"] == "fixed" else None


class Versus(Pair):
    """Two predictions and their reference: the score follows what is painted by hand; nothing is painted from here.

    Parameters
    ----------
    layers : sequence of Labels layer
        The second prediction, the reference, the first prediction.
    score : VersusScore
        Of copies of them.
    review : dict
        What the layer of changes holds.
    """

    def __init__(self, layers, score: VersusScore, review: dict) -> None:
        self.layers = tuple(layers)
        self.score = score
        self._review = review

    def decided(self, row: dict) -> None:
        """Return None: no decision paints anything."""
        return None

    def paint(self, which: int, row: dict, value: int) -> None:
        """Raise `InputError` that says what to do instead."""
        raise InputError(f"{NOTHING_PAINTED}: {MEND_INSTEAD}")


class Compare:
    """Finds changed voxels, or counts all anew where most have changed. Call it in the background."""

    def __init__(self, now: tuple, before: tuple, kind: type[Score] = Score) -> None:
        self._now, self._before, self._kind = now, before, kind

    def __call__(self) -> tuple[np.ndarray, ...] | Score:
        """Return the flat indices of what has changed in each layer, or a new score."""
        pairs = zip(self._now, self._before, strict=True)
        flat = tuple(np.zeros(0, np.int64) if a is None else changed(a, b) for a, b in pairs)
        if sum(map(len, flat)) <= MANY:
            return flat
        pairs = zip(self._now, self._before, strict=True)
        return self._kind(*(np.array(b if a is None else a) for a, b in pairs))
