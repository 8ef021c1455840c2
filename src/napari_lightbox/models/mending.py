"""The reverse of a sweep: which filter brings a model's answer back."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..apply import apply
from ..errors import InputError, LightboxError
from ..progress import track
from ..recipe import Recipe, Step
from ..volume import Volume
from .loaders import load
from .plan import as_channels
from .predict import ModelLike, Prediction, predict
from .sweeps import classes_of, require_reference, scores, without_nan


@dataclass(frozen=True)
class Filter:
    """A filter to try: its name, its title, the operation, and from an image its parameters."""

    name: str
    title: str
    operation: str
    parameters: Callable[[Volume], Mapping[str, Any]]


@dataclass(frozen=True)
class Mended:
    """How a model does behind a filter.

    Parameters
    ----------
    name, title : str
        Of the filter.
    score, before : float
        With the filter and without: mean Dice over the classes, or the model's confidence where there is no reference.
    measure : {"dice", "confidence"}
        Which of the two.
    classes : mapping of str to float
        Dice of every class, by name.
    steps : tuple of dict
        Of the filter, as in a history: a recipe.
    notes : tuple of str
        What the filter had to say; why it could not be tried.
    """

    name: str
    title: str
    score: float
    before: float
    measure: str
    classes: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[dict, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def change(self) -> float:
        """What the filter adds to the score; NaN where it could not be tried."""
        return self.score - self.before

    @property
    def recipe(self) -> Recipe:
        """The filter as a recipe, to be run on the image again."""
        return Recipe(tuple(Step.from_dict(step) for step in self.steps))

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        names = ("name", "title", "score", "before", "change", "measure", "classes", "steps", "notes")
        return without_nan({name: getattr(self, name) for name in names})


def _voxel(volume: Volume) -> float:
    """Return the finest distance of neighbouring voxels, mm."""
    grid = volume.grid
    return min((s for s, n in zip(grid.spacing, grid.spatial_shape, strict=True) if n > 1), default=1.0)


def _coarser(volume: Volume) -> dict[str, Any]:
    grid = volume.grid
    return {
        "spacing": tuple(
            float(f"{s * (2 if n > 1 else 1):.6g}") for s, n in zip(grid.spacing, grid.spatial_shape, strict=True)
        )
    }


_ROWS = (
    Filter("median_3", "Median 3", "median", lambda v: {"size": 3}),
    Filter("median_5", "Median 5", "median", lambda v: {"size": 5}),
    Filter("adaptive_median", "Adaptive median", "adaptive_median", lambda v: {"max_size": 7}),
    Filter("notch", "Notch, automatic", "notch", lambda v: {}),
    Filter("gaussian_1", "Gaussian, 1 voxel", "gaussian", lambda v: {"sigma": _voxel(v)}),
    Filter("gaussian_2", "Gaussian, 2 voxels", "gaussian", lambda v: {"sigma": 2 * _voxel(v)}),
    Filter("bias_correction", "Bias correction", "bias_correction", lambda v: {}),
    Filter("resample", "Resampling, twice as coarse", "resample", _coarser),
)
FILTERS: Mapping[str, Filter] = {row.name: row for row in _ROWS}


def mend(
    volume: Volume | Sequence[Volume],
    model: ModelLike,
    reference: Volume | None = None,
    filters: Sequence[str | Recipe] | None = None,
    *,
    label: int | str | None = None,
    **predict_options: Any,
) -> list[Mended]:
    """Try filters on an image and rank them by what they do to a model's answer.

    Parameters
    ----------
    volume : Volume or list of Volume
        As for `predict`; all channels are filtered.
    model : Model, str, path or callable
        As for `predict`; it must give labels.
    reference : Volume, optional
        Labels on the grid of the image. Without them, filters are ranked by the model's confidence, 1 minus the mean
        uncertainty: that says how sure it is, not how right.
    filters : sequence of str or Recipe, optional
        Names of `FILTERS`, or recipes of one's own; all of `FILTERS` where not given.
    label : int or str, optional
        Class that is scored; the mean over all classes that the model knows and the reference has where not given.
    **predict_options
        Arguments of `predict`: ``device``, ``window``, ``check`` and the like.

    Returns
    -------
    list of Mended
        The best first; those that could not be tried last, with the reason. A result on another grid (resampling) is
        brought back to the grid of the image by nearest voxels before it is scored.

    Raises
    ------
    InputError
        If a filter is unknown, or the model, the image and the reference do not fit each other.
    Cancelled
        By the listener of `progress`, within one window.

    Examples
    --------
    >>> truth = np.zeros((1, 16, 16), np.uint8)
    >>> truth[..., 8:] = 1
    >>> image = 100.0 * truth
    >>> image[0, ::5, 2::5] = 50.0
    >>> volume, truth = (Volume.from_array(a, spacing=(1, 1, 1)) for a in (image, truth))
    >>> best, *_ = mend(volume, lambda x: x - 40, truth.replace(kind="labels"), ["gaussian_2", "median_3"])
    >>> best.name, round(best.before, 3), round(best.score, 3)
    ('median_3', 0.97, 0.992)
    """
    channels = as_channels(volume)
    chosen = [_filter_of(one) for one in (FILTERS if filters is None else filters)]
    if reference is not None:
        require_reference(channels[0], reference)
    model = load(model) if isinstance(model, str | os.PathLike) else model
    job = _Job(channels, model, reference, label, predict_options)
    before = after = math.nan
    found = []
    for one in track([None, *chosen], "filters"):
        if one is None:
            before, _, _ = job.score(channels)
            continue
        title = one.title if isinstance(one, Filter) else _title(one)
        name = one.name if isinstance(one, Filter) else title
        steps, notes, classes, after = (), (), {}, math.nan
        try:
            images = [_filtered(v, one) for v in channels]
            steps = tuple(dict(step) for step in images[0].history[len(channels[0].history) :])
            after, classes, notes = job.score(images)
            notes = (*(n for step in steps for n in step.get("notes", ())), *notes)
        except LightboxError as error:
            notes = (str(error),)
        found.append(Mended(name, title, after, before, job.measure, classes, steps, notes))
    return sorted(found, key=lambda m: -m.change if not math.isnan(m.change) else math.inf)


@dataclass
class _Job:
    """What all trials share."""

    channels: list[Volume]
    model: ModelLike
    reference: Volume | None
    label: int | str | None
    wanted: Mapping[str, Any]

    @property
    def measure(self) -> str:
        return "confidence" if self.reference is None else "dice"

    def score(self, images: list[Volume]) -> tuple[float, dict[str, float], tuple[str, ...]]:
        """Return the score of the answer to some images, that of every class, and notes."""
        uncertain = {} if self.reference is not None else {"uncertainty": True}
        found = predict(images, self.model, **{**self.wanted, **uncertain})
        if self.reference is None:
            return 1 - _mean_of(found.uncertainty), {}, ()
        labels, notes = _back(found, self.channels[0])
        classes, _ = classes_of(found, self.reference, self.label)
        dice = {one["name"]: one["dice"] for one in scores(labels, self.reference, classes)}
        there = [v for v in dice.values() if not math.isnan(v)]
        return (sum(there) / len(there) if there else math.nan), dice, notes


def _mean_of(uncertainty: Volume) -> float:
    return float(np.mean(uncertainty.data, dtype=float))


def _back(found: Prediction, image: Volume) -> tuple[Volume, tuple[str, ...]]:
    labels = found.labels
    if labels.grid.same_space(image.grid):
        return labels, ()
    return apply("resample", labels, like=image), ("brought back to the grid of the image by nearest voxels",)


def _filter_of(one: str | Recipe) -> Filter | Recipe:
    if isinstance(one, Recipe):
        if not one.steps:
            raise InputError("a recipe without steps mends nothing: give filters by name, or recipes")
        return one
    if not isinstance(one, str) or one not in FILTERS:
        raise InputError(f"filter {one!r} is unknown: use one of {', '.join(FILTERS)}, or a Recipe")
    return FILTERS[one]


def _filtered(volume: Volume, one: Filter | Recipe) -> Volume:
    return one.run(volume) if isinstance(one, Recipe) else apply(one.operation, volume, **one.parameters(volume))


def _title(recipe: Recipe) -> str:
    return ", ".join(step.operation for step in recipe.steps)
