"""What the Errors dock has done in the background: the errors found, as rows, as a layer and as a score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Layer

from ...errors import InputError
from ...geometry import Grid
from ...ops._errors import Error, Errors, find_errors
from ...progress import track
from ...volume import Label, Volume
from ..capture import steady, volume_of
from ..layers import layer_record, make_layer, plain
from ._error_kinds import AGAINST, STATES, colour_of, mode_of, palette, what
from ._error_score import Score, VersusScore

# Where the review is kept in the metadata of the layer of errors.
REVIEW = "lightbox_review"
# So much that the colours are those of the legend, so little that what is under them is made out.
_OPACITY = 0.85
_KEPT = ("spacing_known", "orientation_known", "series", "patient")


@dataclass(frozen=True)
class Taken:
    """A layer as it is when a job starts.

    Parameters
    ----------
    volume : Volume
        Its voxels are shared with the layer.
    order, flips : tuple
        How the layer shows the stored axes.
    """

    volume: Volume
    order: tuple[int, ...]
    flips: tuple[bool, ...]

    @property
    def grid(self) -> Grid:
        """The grid as displayed."""
        return self.volume.grid.reordered(self.order, self.flips)

    def array(self) -> np.ndarray:
        """Return the voxels as displayed; labels in memory are copied, as they may be painted meanwhile."""
        data = np.asarray(steady(self.volume).data)
        lead = data.ndim - 3
        data = data.transpose(*range(lead), *(lead + axis for axis in self.order))
        return data[(slice(None),) * lead + tuple(slice(None, None, -1 if flip else None) for flip in self.flips)]

    def stored(self, shown: np.ndarray) -> np.ndarray:
        """Return an array that is in the order displayed in the order of the file; the same memory."""
        return _stored(shown, self.order, self.flips)


def _stored(shown: np.ndarray, order, flips) -> np.ndarray:
    lead = shown.ndim - 3
    turn = tuple(slice(None, None, -1 if flip else None) for flip in flips)
    back = (lead + order.index(axis) for axis in range(3))
    return shown[(slice(None),) * lead + turn].transpose(*range(lead), *back)


def take(layer, viewer) -> Taken:
    """Take a layer without copying a voxel, as `volume_of`."""
    volume, record = volume_of(layer, viewer), layer_record(layer)
    order, flips = ((0, 1, 2), (False,) * 3) if record is None else (tuple(record["order"]), tuple(record["flips"]))
    if volume.grid.order_for("LPS") != (order, flips):
        raise InputError(
            f"{volume.name} was turned or mirrored by hand: set its transform back, or bring it onto the grid of its "
            "image with Resample"
        )
    return Taken(volume, order, flips)


def take_pair(first, others: Sequence, viewer) -> list[Taken | None]:
    """Take layers that must lie on the grid of the first one; None stays None.

    Raises
    ------
    InputError
        If one lies on another grid, with how it differs and the remedy.
    """
    taken: list[Taken | None] = [take(first, viewer)]
    grid = taken[0].grid
    for layer in others:
        one = None if layer is None else take(layer, viewer)
        taken.append(one)
        if one is None:
            continue
        why = grid.difference(one.grid)
        if why:
            raise InputError(
                f"{layer.name} lies on another grid than {first.name} ({why}): bring it onto that grid with Resample, "
                "then find errors again"
            )
        if len(grid.shape) != len(one.grid.shape) or grid.shape[0] != one.grid.shape[0]:
            raise InputError(
                f"{layer.name} has {_frames(one.grid)} and {first.name} {_frames(grid)}: choose layers with the same "
                "number of frames"
            )
    return taken


def _frames(grid: Grid) -> str:
    count = 1 if grid.frames is None else grid.shape[0]
    return "no frames" if grid.frames is None else f"{count} frame{'s' if count > 1 else ''}"


@dataclass(frozen=True)
class Found:
    """What a search leaves for the dock: the layer of errors, not in a viewer yet, and the score if there is one."""

    layer: Layer
    score: Score | None


@dataclass(frozen=True)
class Search:
    """Everything that a search needs, taken when it starts. Call it in the background.

    Parameters
    ----------
    predicted, reference : Taken
        The labels.
    probability, uncertainty : Taken or None
        Images to average over each error.
    ids : tuple of str
        Identities of the two layers.
    """

    predicted: Taken
    reference: Taken
    probability: Taken | None
    uncertainty: Taken | None
    ids: tuple[str, str]

    def __call__(self) -> Found:
        """Find the errors of all frames and make the layer that shows them."""
        predicted, reference = self.predicted.array(), self.reference.array()
        score = Score(predicted, reference)
        extra = {name: getattr(self, name) for name in ("probability", "uncertainty")}
        means = {name: one.array() for name, one in extra.items() if one is not None}
        frames = []
        for frame in frames_of(predicted):
            here = {name: at(data, frame) for name, data in means.items()}
            errors = find_errors(at(predicted, frame), at(reference, frame), self.predicted.grid.spacing, **here)
            frames.append((pieces(errors), errors.map))
        more = {"reference": self.reference.volume.name, "averages": [*means], "dice": score.dice()}
        return Found(review_layer(self.predicted, frames, self.ids, (self.reference,), **more), score)


@dataclass(frozen=True)
class Recount:
    """The score of what was compared earlier; `first`: of two predictions, the older one. Call it in the background."""

    predicted: Taken
    reference: Taken
    first: Taken | None = None

    def __call__(self) -> Score:
        """Copy and count."""
        maps = (self.predicted.array(), self.reference.array())
        return Score(*maps) if self.first is None else VersusScore(*maps, self.first.array())


def at(data: np.ndarray, frame: int | None) -> np.ndarray:
    """Return a frame of an array, or all of one that has none."""
    return data if frame is None else data[frame]


def frames_of(data: np.ndarray) -> Any:
    """Go through the frames of an array; (None,) for one that has none."""
    return track(range(data.shape[0]), "frames") if data.ndim == 4 else (None,)


# An error, how much it counts in the order of all, and what its row has beside it.
Piece = tuple[Error, int, dict[str, Any]]


def pieces(errors: Errors) -> list[Piece]:
    """Return errors for `review_layer`, the largest first."""
    return [(error, error.voxels, {}) for error in errors.table]


def review_layer(
    source: Taken,
    frames: Sequence[tuple[list[Piece], np.ndarray]],
    ids: Sequence[str],
    others: Sequence[Taken] = (),
    **more,
) -> Layer:
    """Make the layer of errors, with the review in its metadata.

    Parameters
    ----------
    source : Taken
        The prediction.
    frames : sequence of (list of Piece, ndarray)
        For each frame its errors, and their map: 1 stands for the first of the list.
    ids : sequence of str
        Identities of the layers that were compared, the one that is painted by Fix first.
    others : sequence of Taken
        Label volumes that know names of labels, too.
    **more
        Further entries of the review.
    """
    known = source.volume.meta.get("spacing_known", True)
    rows, numbers = _gather(frames, source, known)
    places, ends = _places(numbers, len(rows))
    _add_boxes(rows, places, ends, numbers.shape)
    names = {}
    for one in (source, *others):
        names |= {int(value): label.name for value, label in one.volume.labels.items()}
    review = {
        "mode": AGAINST,
        "prediction": source.volume.name,
        "reference": "",
        "ids": tuple(ids),
        "names": names,
        "unit": "mm" if known else "px",
        "averages": [],
        "frames": numbers.shape[0] if numbers.ndim == 4 else 0,
        "dice": {},
        "shape": numbers.shape,
        "rows": rows,
        "places": places,
        "ends": ends,
        **more,
    }
    return _layer(source, numbers, review)


def _gather(frames, source: Taken, known: bool) -> tuple[list[dict], np.ndarray]:
    """Put the errors of all frames into one order, worst first."""
    lead = len(source.grid.shape) == 4
    found = [(n if lead else None, *piece) for n, (here, _) in enumerate(frames) for piece in here]
    order = sorted(range(len(found)), key=lambda i: (-found[i][2], i))
    rows = []
    for number, i in enumerate(order, start=1):
        frame, error, _, extra = found[i]
        rows.append(_row(number, frame, error, source.grid, known) | extra)
    new = np.zeros(len(found) + 1, np.uint16 if len(found) < 1 << 16 else np.uint32)
    new[np.asarray(order, int) + 1] = np.arange(1, len(found) + 1)
    numbers = np.empty(source.grid.shape, new.dtype)
    first = 0
    for index, (here, one) in enumerate(frames):
        own = new[first : first + len(here) + 1].copy()
        own[0] = 0
        numbers[index if lead else ...] = own[one]
        first += len(here)
    return rows, numbers


def _layer(source: Taken, numbers: np.ndarray, review: dict) -> Layer:
    key, colours, _ = palette(review)
    labels = {
        row["number"]: Label(f"{row[key]}: {what(row, review)}", colour_of(row, review)) for row in review["rows"]
    }
    meta = {key: source.volume.meta[key] for key in _KEPT if key in source.volume.meta}
    # Without an entry napari would give every number a colour of its own.
    labels = labels or {1: Label("no errors", next(iter(colours.values()), "#BBBBBB"))}
    noun = {AGAINST: "errors of"}.get(mode_of(review), review.get("title", "doubts about"))
    name = f"{noun} {source.volume.name}"
    volume = Volume(source.stored(numbers), source.volume.grid, "labels", name, labels, meta)
    layer = make_layer(volume, metadata={REVIEW: review}, opacity=_OPACITY)
    # The dock alone writes here.
    layer.editable = False
    return layer


def _row(number: int, frame: int | None, error: Error, grid: Grid, known: bool) -> dict[str, Any]:
    z, y, x = (float(v) for v in grid.to_world(np.array(error.centre)))
    return {
        "number": number,
        "kind": error.kind,
        "predicted": error.predicted,
        "reference": error.reference,
        "voxels": error.voxels,
        "size": error.voxels * grid.voxel_volume if known else float(error.voxels),
        "depth": error.depth,
        "probability": error.probability,
        "uncertainty": error.uncertainty,
        "x": x,
        "y": y,
        "z": z,
        "frame": frame,
        "state": STATES[0],
        "comment": "",
        "voxel": (() if frame is None else (frame,)) + error.voxel,
    }


def _places(numbers: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the flat indices of all voxels of errors, error by error, and where each error ends."""
    flat = np.flatnonzero(numbers)
    owner = numbers.ravel()[flat]
    order = np.argsort(owner, kind="stable")
    return flat[order], np.cumsum(np.bincount(owner, minlength=count + 1)[1:])


def _add_boxes(rows: list[dict], places: np.ndarray, ends: np.ndarray, shape: tuple[int, ...]) -> None:
    """Note with each row the first and last index of its voxels along each axis."""
    if not rows:
        return
    starts = np.concatenate([[0], ends[:-1]])
    coordinates = np.unravel_index(places, shape)
    low = np.stack([np.minimum.reduceat(one, starts) for one in coordinates], axis=1).tolist()
    high = np.stack([np.maximum.reduceat(one, starts) for one in coordinates], axis=1).tolist()
    for row, first, last in zip(rows, low, high, strict=True):
        row["low"], row["high"] = tuple(first), tuple(last)


def voxels_of(review: dict, number: int) -> tuple[np.ndarray, ...]:
    """Return the indices of the voxels of an error in the order displayed."""
    first = int(review["ends"][number - 2]) if number > 1 else 0
    return np.unravel_index(review["places"][first : int(review["ends"][number - 1])], review["shape"])


def as_found(layer, number: int) -> np.ndarray:
    """Return where an error was when it was found, also where it is accepted, mended or dismissed by now.

    Parameters
    ----------
    layer : Layer
        One that `is_review`.
    number : int
        Of the error, from 1.

    Returns
    -------
    ndarray of the type of the layer
        `number` at its voxels, else 0, in the order of the file: as `capture.volume_of` returns the layer.
    """
    review, record = plain(layer).metadata[REVIEW], layer_record(layer)
    shown = np.zeros(review["shape"], layer.dtype)
    if 0 < number <= len(review["ends"]):
        shown[voxels_of(review, number)] = number
    return _stored(shown, tuple(record["order"]), tuple(record["flips"]))


def is_review(layer) -> bool:
    """Whether a layer shows errors that were found."""
    return isinstance(plain(layer).metadata.get(REVIEW), dict)
