"""Sweeps: how a model's answer changes while its image gets worse step by step, and where it breaks."""

import csv
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import FileError, InputError
from ..io._atomic import replacing
from ..ops import _check
from ..ops.metrics import confusion
from ..progress import track
from ..volume import Volume
from .loaders import load
from .perturbations import Perturbation, perturbation_of, perturbed
from .plan import as_channels
from .predict import ModelLike, Prediction, predict

SHARE = 0.9
# Seeds of further channels are this far apart, so that their noise differs.
CHANNELS_APART = 1_000_003


# Strength, repeat, perturbed image, predicted labels, reference.
Watcher = Callable[[float, int, Volume, Volume, Volume], None]


class Point(NamedTuple):
    """A point of a curve: strength, mean over the repeats, and the smallest and largest of them."""

    strength: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Sweep:
    """What a sweep found.

    Parameters
    ----------
    image, model : str
        Names.
    perturbation : Perturbation
        What was done.
    strengths : tuple of float
        From the one that changes nothing on.
    classes : mapping of int to str
        Labels that were scored, with their names.
    rows : tuple of dict
        One for each run and class: ``perturbation``, ``strength``, ``unit``, ``repeat``, ``seed``, ``label``, ``name``,
        ``dice``, ``predicted_ml``, ``reference_ml``.
    reference : str or None
        Name of the labels taken as the truth; None where the answer to the unperturbed image stands for it.
    label : int or None
        Class of the curve; the mean over all of them where None.
    share : float
        Of the unperturbed score, below which the model counts as broken.
    options : mapping
        Further parameters of the operation, as they were given.
    steps : mapping of float to list
        For each strength, the steps of the prediction's history from the image on: a recipe (first repeat).
    notes : tuple of str
        What a reader must know.
    unit : str
        Of the strengths.
    """

    image: str
    model: str
    perturbation: Perturbation
    strengths: tuple[float, ...]
    classes: Mapping[int, str]
    rows: tuple[dict[str, Any], ...]
    reference: str | None = None
    label: int | None = None
    share: float = SHARE
    options: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[float, list] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unit: str = ""

    def curve(self, score: str = "dice", label: int | None = None) -> list[Point]:
        """Return a score against the strength.

        Parameters
        ----------
        score : {"dice", "volume"}
            Dice, or the volume in ml (of several classes, their sum).
        label : int, optional
            One class; that of the sweep where not given, and of its classes the mean Dice: a class that neither has
            counts nowhere, one that only one of them has counts 0.
        """
        _check.choice(score, ("dice", "volume"), "score")
        label = self.label if label is None else label
        if label is not None and label not in self.classes:
            raise InputError(f"label {label!r} was not scored: use one of {', '.join(map(str, self.classes))}")
        runs: dict[float, dict[int, list[float]]] = {s: {} for s in self.strengths}
        key = "dice" if score == "dice" else "predicted_ml"
        for row in self.rows:
            if label in (None, row["label"]):
                runs[row["strength"]].setdefault(row["repeat"], []).append(row[key])
        points = []
        for strength, repeats in runs.items():
            join = _mean if score == "dice" else sum
            values = [v for v in map(join, repeats.values()) if not math.isnan(v)]
            ends = (min(values), max(values)) if values else (math.nan, math.nan)
            points.append(Point(strength, _mean(values), *ends))
        return points

    def breaking_point(self, score: str = "dice", label: int | None = None) -> float | None:
        """Return the strength at which the model breaks, or None where it does not.

        That is where the mean score first falls below `share` of what it is for the unperturbed image, interpolated
        linearly between the last strength that bears it and the first that does not. Of volumes: where the ratio to the
        reference, which a scaling changes too, first differs from that of the unperturbed image by more than 1 - share.
        None, too, where the unperturbed score is 0 or does not apply.
        """
        points = self.curve(score, label)
        values = [p.mean for p in points] if score == "dice" else self._ratios(label)
        if not values[0] > 0:
            return None
        held = [v / values[0] if score == "dice" else 1 - abs(v / values[0] - 1) for v in values]
        for before, after, start, end in zip(held, held[1:], points, points[1:], strict=False):
            if after < self.share:
                part = (before - self.share) / (before - after)
                return start.strength + part * (end.strength - start.strength)
        return None

    def _ratios(self, label: int | None) -> list[float]:
        """Return, for each strength, the volume over that of the reference; NaN where that has none."""
        label = self.label if label is None else label
        found = []
        for strength in self.strengths:
            rows = [r for r in self.rows if r["strength"] == strength and label in (None, r["label"])]
            true = sum(r["reference_ml"] for r in rows)
            found.append(sum(r["predicted_ml"] for r in rows) / true if true else math.nan)
        return found

    @property
    def first_broken(self) -> float:
        """The first strength that was run and lies beyond the breaking point; the last one where there is none."""
        broken, nothing = self.breaking_point(), self.perturbation.nothing
        if broken is None:
            return self.strengths[-1]
        return next(s for s in self.strengths if abs(s - nothing) >= abs(broken - nothing))

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, as `save` writes it; None where a score does not apply."""
        broken = {"all": self.breaking_point(label=None)} if self.label is None else {}
        broken |= {str(value): self.breaking_point(label=value) for value in self.classes}
        found = {
            "image": self.image,
            "model": self.model,
            "perturbation": self.perturbation.name,
            "operation": self.perturbation.operation,
            "unit": self.unit,
            "options": dict(self.options),
            "reference": self.reference,
            "score": self.meaning,
            "label": self.label,
            "classes": {str(k): v for k, v in self.classes.items()},
            "share": self.share,
            "breaking_point": broken,
            "breaking_point_of_volume": self.breaking_point("volume"),
            "curve": [p._asdict() for p in self.curve()],
            "curve_of_volume_ml": [p._asdict() for p in self.curve("volume")],
            "rows": list(self.rows),
            "steps": [{"strength": s, "steps": steps} for s, steps in self.steps.items()],
            "notes": list(self.notes),
        }
        return without_nan(found)

    @property
    def meaning(self) -> str:
        """What the Dice compares, in words."""
        if self.reference is not None:
            return f"Dice with the reference {self.reference}"
        return "Dice with the model's own answer to the unperturbed image: steadiness, not truth"

    def save(self, path: str | os.PathLike, *, overwrite: bool = False) -> Path:
        """Write the rows as ``.csv``, or everything as ``.json``, in one go.

        Raises
        ------
        InputError
            If the name ends otherwise.
        FileError
            If the file exists and `overwrite` is not given, or cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in (".csv", ".json"):
            raise InputError(f"{path} must end in .csv or .json")
        if path.exists() and not overwrite:
            raise FileError(f"{path} exists: choose another name, or overwrite it")
        text = self.csv() if path.suffix.lower() == ".csv" else json.dumps(self.as_dict(), indent=1)
        with replacing(path) as file:
            file.write(f"{text.rstrip()}\n".encode())
        return path

    def csv(self) -> str:
        """Return the rows as text, apart by commas."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()


def sweep(
    volume: Volume | Sequence[Volume],
    model: ModelLike,
    perturbation: str,
    strengths: Sequence[float] | None = None,
    *,
    reference: Volume | None = None,
    label: int | str | None = None,
    repeats: int = 1,
    seed: int = 0,
    share: float = SHARE,
    options: Mapping[str, Any] | None = None,
    watch: Watcher | None = None,
    **predict_options: Any,
) -> Sweep:
    """Run a model on an image that gets worse step by step, and score every answer.

    A rotation or a scaling moves what is in the image inside its grid; the reference is moved along (nearest voxel),
    so that both are compared where they lie, and what leaves the grid counts for neither.

    Parameters
    ----------
    volume : Volume or list of Volume
        As for `predict`; all channels are perturbed alike, each with noise of its own.
    model : Model, str, path or callable
        As for `predict`; it must give labels.
    perturbation : str
        A name of `PERTURBATIONS`: ``"gaussian_noise"``, ``"blur"``, ``"rotation"``, ...
    strengths : sequence of float, optional
        In the perturbation's unit, all on one side of the strength that changes nothing, which is run first in any
        case. Where not given, five that suit the image.
    reference : Volume, optional
        Labels on the grid of the image. Without them the model's answer to the unperturbed image stands for the truth:
        that shows how steady it is, not how right.
    label : int or str, optional
        Class of the curve; the mean over all classes that the model knows and the reference has where not given.
    repeats : int
        Runs for each strength, with seeds that follow on `seed`, where chance plays a part.
    seed : int
        Of the first run.
    share : float
        Of the unperturbed score, below which the model counts as broken; above 0, below 1.
    options : mapping, optional
        Further parameters of the operation, such as ``{"across": "axial"}`` or ``{"frequency": 0.2}``.
    watch : callable, optional
        Called after every run with its strength, repeat, perturbed image, predicted labels and what these are compared
        with: for pictures, as nothing of it is kept.
    **predict_options
        Arguments of `predict`: ``device``, ``window``, ``check`` and the like.

    Returns
    -------
    Sweep
        Rows, curves and the breaking point. No voxels are kept: `perturbed` makes the image of any strength again.

    Raises
    ------
    InputError
        If something does not fit, or no class of the model is in the reference.
    Cancelled
        By the listener of `progress`, within one window.

    Examples
    --------
    >>> image = Volume.from_array(np.tile(np.arange(8.0), (1, 8, 1)), spacing=(1, 1, 1))
    >>> found = sweep(image, lambda x: 50 * (x - 3.5), "intensity_shift", [1, 2, 3, 4])
    >>> [round(p.mean, 3) for p in found.curve()], round(found.breaking_point(), 3)
    ([1.0, 0.889, 0.8, 0.727, 0.667], 0.9)
    """
    channels, row = as_channels(volume), perturbation_of(perturbation)
    strengths = strengths_of(row, row.strengths(channels[0]) if strengths is None else strengths)
    repeats, seed = _check.whole(repeats, "repeats"), _check.whole(seed, "seed", 0)
    share = _check.number(share, "share", above=0)
    if share >= 1:
        raise InputError(f"share must be below 1, not {share!r}")
    wanted = {"probabilities": (), "uncertainty": False, **predict_options}
    if reference is not None:
        require_reference(channels[0], reference)
    model = load(model) if isinstance(model, str | os.PathLike) else model
    job = _Job(channels, model, row, dict(options or {}), wanted)
    repeats, unit = repeats if row.seeded else 1, row.unit_of(channels[0])
    runs = [(s, r) for s in strengths for r in range(repeats if s != row.nothing else 1)]
    rows: list[dict] = []
    steps: dict[float, list] = {}
    classes: dict[int, str] = {}
    heard = dict.fromkeys(_notes(row, reference, repeats))
    truth = reference
    for strength, repeat in track(runs, "runs"):
        image, found = job.run(strength, seed + repeat)
        if strength != row.nothing and strength == strengths[-1] and np.array_equal(image.data, channels[0].data):
            raise InputError(
                f"perturbation {row.name!r} of {strength:g} changes nothing in {channels[0].name!r}, so nothing can be "
                "learnt from it: choose larger strengths or another perturbation"
            )
        labels = found.labels
        heard.update(dict.fromkeys(found.notes))
        if truth is None:
            truth = labels
        if not classes:
            classes, chosen = classes_of(found, truth, label)
        there = job.moved(truth, strength)
        here = {"perturbation": row.name, "strength": strength, "unit": unit, "repeat": repeat}
        here["seed"] = seed + repeat if row.seeded else None
        rows += [{**here, **one} for one in scores(labels, there, classes)]
        if watch is not None:
            watch(strength, repeat, image, labels, there)
        if repeat == 0:
            steps[strength] = [dict(step) for step in labels.history[len(channels[0].history) :]]
    return Sweep(channels[0].name, found.card.name, row, strengths, classes, tuple(rows),
                 None if reference is None else reference.name, chosen, share, dict(options or {}), steps,
                 tuple(heard), unit)  # fmt: skip


@dataclass(frozen=True)
class _Job:
    """What all runs of a sweep share."""

    channels: list[Volume]
    model: ModelLike
    row: Perturbation
    options: Mapping[str, Any]
    wanted: Mapping[str, Any]

    def run(self, strength: float, seed: int) -> tuple[Volume, Prediction]:
        images = [
            perturbed(v, self.row.name, strength, seed=seed + CHANNELS_APART * i, options=self.options)
            for i, v in enumerate(self.channels)
        ]
        # Whether model and image fit is judged by the image as it is: that a perturbed one does not is the question.
        wanted = self.wanted if strength == self.row.nothing else {**self.wanted, "check": False}
        return images[0], predict(images, self.model, **wanted)

    def moved(self, labels: Volume, strength: float) -> Volume:
        return perturbed(labels, self.row.name, strength, options=self.options, like=self.channels[0])


def require_reference(image: Volume, reference: Volume) -> None:
    """Refuse a reference that is no labels, or lies elsewhere than the image."""
    if reference.kind != "labels":
        raise InputError(f"reference {reference.name!r} is of kind {reference.kind!r}: give labels")
    image.grid.require_same_space(reference.grid, f"{image.name!r} and its reference {reference.name!r}")
    if reference.frame_count != image.frame_count:
        raise InputError(
            f"reference {reference.name!r} has {reference.frame_count} frames and the image {image.frame_count}: give "
            "as many"
        )


def classes_of(found: Prediction, truth: Volume, label: int | str | None) -> tuple[dict[int, str], int | None]:
    """Return the classes that are scored, and the one that was asked for."""
    values = [v for v in found.values if v]
    names = {v: found.card.output.label(v).name for v in values}
    if label is not None:
        chosen = next((v for v, name in names.items() if label in (v, name)), None)
        if chosen is None or isinstance(label, bool):
            known = ", ".join(f"{v} ({name})" for v, name in names.items())
            raise InputError(f"label {label!r} is unknown to model {found.card.name!r}: use one of {known}")
        return {chosen: names[chosen]}, chosen
    there = np.unique(np.asarray(truth.data))
    shared = {v: name for v, name in names.items() if v in there}
    if not shared:
        known = ", ".join(f"{v} ({name})" for v, name in names.items())
        raise InputError(
            f"{truth.name!r} holds none of the classes of model {found.card.name!r}, which are {known}: give a "
            "reference with these values"
        )
    return shared, None


def scores(predicted: Volume, truth: Volume, classes: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return Dice and volumes of every class, over all frames; Dice is NaN where neither has the class."""
    ml = float(np.prod(truth.grid.spacing)) / 1000
    return [
        {
            "label": one["label"],
            "name": classes[one["label"]],
            "dice": one["dice"],
            "predicted_ml": (one["tp"] + one["fp"]) * ml,
            "reference_ml": (one["tp"] + one["fn"]) * ml,
        }
        for one in confusion(np.asarray(predicted.data), np.asarray(truth.data), list(classes))
    ]


def without_nan(value: Any) -> Any:
    """Return plain values with None where a number is NaN or infinite, which JSON does not know."""
    if isinstance(value, Mapping):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def strengths_of(row: Perturbation, given: Sequence[float]) -> tuple[float, ...]:
    """Return the strengths from nothing on, each once."""
    try:
        values = [float(s) for s in given]
    except (TypeError, ValueError):
        raise InputError(f"strengths must be numbers, not {given!r}") from None
    for value in values:
        _check.number(value, "strengths")
    away = [v - row.nothing for v in values if v != row.nothing]
    if not away:
        raise InputError(f"strengths {given!r} hold nothing but {row.nothing:g}, which changes nothing: give others")
    if min(away) < 0 < max(away):
        raise InputError(
            f"strengths {given!r} lie on both sides of {row.nothing:g}, which changes nothing: sweep one side at a time"
        )
    return (row.nothing, *sorted(set(values) - {row.nothing}, key=lambda v: abs(v - row.nothing)))


def _notes(row: Perturbation, reference: Volume | None, repeats: int) -> tuple[str, ...]:
    notes = []
    if reference is None:
        notes.append("no reference was given: the model's answer to the unperturbed image stands for the truth")
    if row.moves:
        notes.append("what it is compared with was moved along, by nearest voxels")
    if repeats > 1 and not row.seeded:
        notes.append(f"{row.title.lower()} has nothing of chance in it, so each strength was run once")
    return tuple(notes)


def _mean(values: Sequence[float]) -> float:
    """Return the mean of what applies; NaN where nothing does."""
    there = [v for v in values if not math.isnan(v)]
    return sum(there) / len(there) if there else math.nan
