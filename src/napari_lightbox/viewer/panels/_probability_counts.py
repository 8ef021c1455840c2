"""How many voxels reach each threshold, counted once: what a slider asks for is then read off a table.

No Qt here: arrays in, numbers out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...errors import InputError
from ...ops import metrics
from ...ops.thresholding import first_at_least
from ...progress import track

# Thresholds are the multiples of 1 / STEPS, from 0 to 1. Bin k holds what reaches threshold k, but not k + 1.
STEPS = 1000
# Bins of the reliability diagram; each is a whole number of the fine ones.
RELIABILITY = 20
# Voxels looked at between two chances to cancel.
_SLAB = 1 << 21
# Sums of shares may lie this far above 1.
_ABOVE = 1e-6
# Voxels up to which areas under curves are worked out from every value, not from the bins.
SORTED = 1 << 25


def thresholds() -> np.ndarray:
    """Return the thresholds, increasing: (STEPS + 1,) float64."""
    return np.arange(STEPS + 1) / STEPS


@dataclass(frozen=True)
class Row:
    """What one threshold gives; NaN where nothing can be said.

    `true` and `false` are voxels at or above it inside and outside the reference; `volume_ml` is theirs together.
    """

    threshold: float
    true: int
    false: int
    dice: float
    sensitivity: float
    precision: float
    volume_ml: float


@dataclass(frozen=True, eq=False)
class Counts:
    """Voxels in each bin of probability.

    Parameters
    ----------
    inside, outside : (frames, STEPS + 1) int64 arrays
        Voxels inside and outside the reference; without one all are outside.
    said : (frames, STEPS + 1) float64 array
        Sum of the probabilities in each bin.
    squares : (frames,) float64 array
        Sum of the squared differences between probability and reference.
    voxel_ml : float
        Volume of a voxel.
    referenced : bool
        Whether there is a reference.
    values : tuple of int
        Label values that the reference holds, 0 not among them.
    """

    inside: np.ndarray
    outside: np.ndarray
    said: np.ndarray
    squares: np.ndarray
    voxel_ml: float
    referenced: bool
    values: tuple[int, ...] = ()

    def of(self, frame: int | None) -> "Counts":
        """Return the counts of one frame."""
        if frame is None or len(self.inside) == 1:
            return self
        one = slice(frame, frame + 1)
        parts = (self.inside[one], self.outside[one], self.said[one], self.squares[one])
        return Counts(*parts, self.voxel_ml, self.referenced, self.values)

    def table(self) -> "Table":
        """Return what every threshold gives, all frames together."""
        return Table(self)


@dataclass(eq=False)
class Table:
    """Numbers for every threshold, increasing, as arrays of (STEPS + 1,)."""

    counts: Counts
    true: np.ndarray = field(init=False)
    false: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        counts = self.counts
        self.threshold = thresholds()
        self.true, self.false = (_at_least(part.sum(axis=0)) for part in (counts.inside, counts.outside))
        self.positives, self.negatives = int(self.true[0]), int(self.false[0])
        self.frames = len(counts.inside)
        # Of several frames the mean: their sum is no volume of anything.
        self.volume_ml = (self.true + self.false) * counts.voxel_ml / self.frames
        self.reference_ml = self.positives * counts.voxel_ml / self.frames if counts.referenced else float("nan")
        with np.errstate(invalid="ignore"):
            self.sensitivity = self.true / np.float64(self.positives)
            self.fall_out = self.false / np.float64(self.negatives)
            self.precision = self.true / (self.true + self.false).astype(float)
            self.dice = 2 * self.true / (self.true + self.false + self.positives).astype(float)
        if not counts.referenced:
            for name in ("sensitivity", "fall_out", "precision", "dice"):
                setattr(self, name, np.full(STEPS + 1, np.nan))

    def row(self, step: int) -> Row:
        """Return what threshold ``step / STEPS`` gives."""
        return Row(
            step / STEPS,
            int(self.true[step]),
            int(self.false[step]),
            *(float(a[step]) for a in (self.dice, self.sensitivity, self.precision, self.volume_ml)),
        )

    def best_dice(self) -> int:
        """Return the step of the largest Dice; of several in a row the middle one, which is the least delicate."""
        if not np.isfinite(self.dice).any():
            raise InputError("no threshold has a Dice: choose a reference that holds the class")
        best = np.flatnonzero(self.dice == np.nanmax(self.dice))
        run = best[: np.argmax(np.append(np.diff(best), 2) > 1) + 1]
        return int(run[len(run) // 2])

    def reliability(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return voxels, mean probability, and share inside the reference, of each of the RELIABILITY bins."""
        counts = self.counts
        # The last fine bin is 1 itself, which the last of the wide ones takes in.
        start = np.arange(RELIABILITY) * (STEPS // RELIABILITY)
        inside, outside, said = (
            np.add.reduceat(part.sum(axis=0), start) for part in (counts.inside, counts.outside, counts.said)
        )
        total = inside + outside
        with np.errstate(invalid="ignore"):
            return total, said / total, inside / total

    def ece(self) -> float:
        """Return the expected calibration error over the RELIABILITY bins."""
        total, said, true = self.reliability()
        there = total > 0
        return float((np.abs(said - true)[there] * total[there]).sum() / total.sum())

    def brier(self) -> float:
        """Return the mean squared difference between probability and reference."""
        return float(self.counts.squares.sum() / (self.positives + self.negatives))


@dataclass(frozen=True)
class Areas:
    """Area under the ROC curve and average precision; whether every value was looked at, or the bins alone."""

    auc: float
    precision: float
    exact: bool


def count(
    probability: np.ndarray, reference: np.ndarray | None, wanted: Sequence[int] | None, voxel_ml: float
) -> Counts:
    """Count the voxels of every bin.

    Parameters
    ----------
    probability : ndarray
        (z, y, x) or (frame, z, y, x), from 0 to 1.
    reference : ndarray, optional
        Labels of the same shape, or of one frame, which then stands for all.
    wanted : sequence of int, optional
        Label values that are meant; all but 0 where not given.
    voxel_ml : float
        Volume of a voxel.

    Raises
    ------
    InputError
        If a value is NaN or does not lie within 0 to 1, or the shapes differ.
    """
    frames = probability if probability.ndim == 4 else probability[None]
    if reference is not None and reference.shape[-3:] != frames.shape[1:]:
        raise InputError(f"reference of shape {reference.shape} does not fit probability of shape {probability.shape}")
    shape = (len(frames), STEPS + 1)
    inside, outside, said = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape)
    squares, values = np.zeros(len(frames)), set()
    for frame, slab in track(_slabs(frames.shape), "slabs counted"):
        block = np.asarray(frames[frame][slab])
        step = steps_of(block)
        number = np.bincount(step.ravel(), minlength=STEPS + 1)
        real = block.astype(np.float64).ravel()
        said[frame] += np.bincount(step.ravel(), real, STEPS + 1)
        squares[frame] += real @ real
        if reference is not None:
            part = np.asarray((reference if reference.ndim == 3 else reference[frame])[slab])
            values.update(_present(part))
            true = meant(part, wanted).ravel()
            hit = np.bincount(step.ravel()[true], minlength=STEPS + 1)
            inside[frame] += hit
            number = number - hit
            # (p - 1)^2 = p^2 - 2 p + 1
            squares[frame] += hit.sum() - 2 * real[true].sum()
        outside[frame] += number
    return Counts(inside, outside, said, squares, voxel_ml, reference is not None, tuple(sorted(values - {0})))


def steps_of(block: np.ndarray) -> np.ndarray:
    """Return the bin of each probability, exactly: what reaches ``k / STEPS`` as a real number is in bin k or above."""
    low, high = block.min(), block.max()
    if not (low >= 0 and high <= 1 + _ABOVE):
        raise InputError(
            f"the values go from {low:.4g} to {high:.4g}, and a probability lies from 0 to 1: choose the layer of a "
            "probability, or activate logits first"
        )
    kind = block.dtype if block.dtype.kind == "f" else np.dtype(np.float64)
    # One more than there are, which nothing reaches.
    edges = np.array([first_at_least(k / STEPS, kind) for k in range(STEPS + 1)] + [np.inf], kind.newbyteorder("="))
    step = (block * (np.float32 if kind.itemsize < 4 else kind.type)(STEPS)).astype(np.int32)
    np.clip(step, 0, STEPS, out=step)
    # The product is rounded: it may be one bin off.
    step -= block < edges[step]
    step += block >= edges[step + 1]
    return step


def meant(labels: np.ndarray, wanted: Sequence[int] | None) -> np.ndarray:
    """Return where the labels that are meant lie, as bool."""
    if wanted is None:
        return labels != 0
    found = np.zeros(labels.shape, bool)
    for value in wanted:
        found |= labels == value
    return found


def areas(table: Table, probability: np.ndarray, inside: np.ndarray | None) -> Areas:
    """Return the areas under the curves; from every value where there are up to `SORTED` voxels.

    Parameters
    ----------
    table : Table
        Of these voxels.
    probability, inside : ndarray
        Probabilities, and where the reference is; of one shape.
    """
    if inside is not None and probability.size <= SORTED:
        values = np.ascontiguousarray(probability)
        return Areas(metrics.roc(values, inside).area, metrics.precision_recall(values, inside).area, True)
    if not table.positives or not table.negatives:
        return Areas(float("nan"), float("nan"), False)
    # A tie within a bin counts half, as it does between equal values.
    x, y = np.append(table.fall_out, 0.0), np.append(table.sensitivity, 0.0)
    gained = -np.diff(np.append(table.true, 0)) / table.positives
    some = gained > 0
    auc = float((-np.diff(x) * (y[1:] + y[:-1]) / 2).sum())
    return Areas(auc, float((table.precision[some] * gained[some]).sum()), False)


def parse_values(text: str) -> tuple[int, ...] | None:
    """Read label values as people write them: ``10-14, 20``; None for "any" and for nothing.

    Examples
    --------
    >>> parse_values("1, 10-12"), parse_values("any")
    ((1, 10, 11, 12), None)
    """
    text = text.strip()
    if not text or text.casefold().startswith("any"):
        return None
    found: set[int] = set()
    for part in text.replace(";", ",").split(","):
        first, _, last = part.strip().partition("-")
        first = first.split()[0] if first.split() else ""
        last = last.strip() or first
        if not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) <= int(first) + 10_000):
            raise InputError(f"class {part.strip()!r} is no label value: write values such as 1, 10-14, or 'any'")
        found.update(range(int(first), int(last) + 1))
    return tuple(sorted(found))


def _at_least(histogram: np.ndarray) -> np.ndarray:
    return histogram[::-1].cumsum()[::-1]


def _present(labels: np.ndarray) -> list[int]:
    """Return the values that occur in a block."""
    if labels.dtype.itemsize == 1 and labels.dtype.kind == "u":
        return np.flatnonzero(np.bincount(labels.ravel(), minlength=1)).tolist()
    return np.unique(labels).tolist()


def _slabs(shape: Sequence[int]) -> list[tuple[int, slice]]:
    """Cut every frame along its first axis."""
    depth = max(1, _SLAB // max(1, int(np.prod(shape[2:]))))
    return [(f, slice(i, i + depth)) for f in range(shape[0]) for i in range(0, shape[1], depth)]
