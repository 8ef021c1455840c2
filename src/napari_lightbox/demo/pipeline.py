"""What the demo does with a volume: the same steps with and without a screen.

Filter, Otsu's classes, a region grown from a seed that is found in the data, a model with its probability and
uncertainty, and, where the truth is known, a map of what the model got wrong.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from ..apply import apply
from ..errors import InputError, LightboxError
from ..ops import segmentation
from ..progress import track
from ..report import Entry
from ..volume import Label, Volume
from . import compare, seeds


@dataclass(frozen=True)
class Shown:
    """One result of the demo.

    Parameters
    ----------
    role : str
        ``"filtered"``, ``"otsu"``, ``"grown"``, ``"labels"``, ``"probability"``, ``"uncertainty"``, ``"truth"`` or
        ``"comparison"``.
    volume : Volume
        The result, on the grid of the image.
    title : str
        What it is, for people.
    note : str
        How it was made, in a sentence.
    seconds : float or None
        How long it took.
    point : (float, float, float) or None
        World point (z, y, x) where there is something to see.
    marks : sequence of (z, y, x)
        World points that matter: seeds.
    limits : (float, float) or None
        Grey levels of the image below that suit it.
    """

    role: str
    volume: Volume
    title: str
    note: str = ""
    seconds: float | None = None
    point: tuple[float, float, float] | None = None
    marks: Sequence[Sequence[float]] = ()
    limits: tuple[float, float] | None = None

    def entry(self) -> Entry:
        """Return it as the report shows it."""
        return Entry(
            self.volume,
            title=self.title,
            note=f"{self.note} The seed is marked with a cross." if self.marks else self.note,
            limits=self.limits,
            point=self.point,
            marks=self.marks,
            seconds=self.seconds,
        )


@dataclass
class Session:
    """All that the demo made of one volume.

    Parameters
    ----------
    image : Volume
        What it started from.
    shown : list of Shown
        The results, in the order in which they were made.
    notes : list of str
        What did not fit, in sentences.
    thresholds : tuple of float
        Otsu's thresholds.
    tables : dict of str to list of dict
        Figures by heading: agreement with the truth.
    """

    image: Volume
    shown: list[Shown] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    thresholds: tuple[float, ...] = ()
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def volumes(self) -> list[Volume]:
        """The image and all results."""
        return [self.image, *(s.volume for s in self.shown)]

    def find(self, role: str) -> Shown | None:
        """Return the result with that role, if there is one."""
        return next((s for s in self.shown if s.role == role), None)


def run(
    volume: Volume,
    model: Any = None,
    truth: Volume | None = None,
    *,
    names: Mapping[str, str] | None = None,
    device: str = "auto",
) -> Session:
    """Run all steps of the demo on one volume.

    Parameters
    ----------
    volume : Volume
        Image, 2D, 3D or 4D.
    model : Model, str, path or callable, optional
        By default the shipped model that is made for such an image: ``"ct-regions"`` for CT volumes, ``"fetal-head"``
        for single ultrasound slices.
    truth : Volume, optional
        Labels on the same grid, known to be right.
    names : mapping of str to str, optional
        Which class of the model a label of the truth belongs to, where the names alone do not say it.
    device : {"auto", "cpu", "cuda"}
        Where the model runs.

    Returns
    -------
    Session
        A step that cannot be done on this volume is left out; `Session.notes` says which and why.

    Raises
    ------
    InputError
        If `volume` is no image.
    GridError
        If the truth lies on another grid.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> disk = (np.hypot(*np.mgrid[-20:20, -20:20]) < 12) * 100 + rng.integers(0, 20, (40, 40))
    >>> session = run(Volume.from_array(disk, spacing=(1, 1), meta={"modality": "MR"}))
    >>> [s.role for s in session.shown]
    ['filtered', 'otsu', 'grown']
    """
    if volume.kind == "labels":
        raise InputError(f"{volume.name!r} holds labels: the demo starts from an image")
    if truth is not None:
        volume.grid.require_same_space(truth.grid, f"{volume.name!r} and its truth")
    volume, tissue = seeds.recognise(volume)
    session = Session(volume, notes=list(tissue.notes))
    steps: Sequence[Callable[[], None]] = (
        lambda: _filter(session, tissue),
        lambda: _otsu(session, tissue),
        lambda: _grow(session, tissue),
        lambda: _infer(session, model, tissue, device),
        lambda: _compare(session, truth, names),
    )
    for step in track(steps, "steps"):
        try:
            step()
        except LightboxError as error:
            text = str(error)
            session.notes.append(f"{text[0].upper()}{text[1:]}.")
    return session


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def _filter(session: Session, tissue: seeds.Tissue) -> None:
    size = tissue.window
    found, seconds = _timed(lambda: apply("median", session.image, size=size))
    note = f"Median of {size} voxels along each axis: less noise, edges stay where they are."
    session.shown.append(Shown("filtered", found, "Median filter", note, seconds))


def _otsu(session: Session, tissue: seeds.Tissue) -> None:
    base = _base(session)
    found, seconds = _timed(lambda: apply("otsu", base, classes=tissue.classes))
    # Frame by frame the thresholds differ a little; those of the frame that the report draws are shown.
    thresholds = segmentation.otsu_thresholds(np.asarray(base.frame(0).data), tissue.classes)
    session.thresholds = tuple(float(t) for t in thresholds)
    found = found.replace(labels=_ranges(session.thresholds, base.meta.get("unit", "")))
    note = f"{tissue.classes} classes of grey value with the largest variance between them."
    session.shown.append(Shown("otsu", found, "Otsu classes", note, seconds))


def _ranges(thresholds: Sequence[float], unit: str) -> dict[int, Label]:
    """Name Otsu's classes after their grey values."""
    words = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(thresholds)] + [f"above {thresholds[-1]:.4g}"]
    return {value: Label(f"{text} {unit}".strip()) for value, text in enumerate(words, start=1)}


def _grow(session: Session, tissue: seeds.Tissue) -> None:
    base = _base(session)
    seed = seeds.find(base, tissue, session.thresholds)
    parameters = {"seeds": [seed.point], "criterion": "mean", "threshold": seed.threshold}
    found, seconds = _timed(lambda: apply("region_grow", base, **parameters))
    found = found.replace(labels={1: Label(seed.name)})
    x, y, z = seed.point[::-1]
    world = " (LPS)" if session.image.meta.get("orientation_known", True) else ""
    note = (
        f"Seed at x {x:.1f}, y {y:.1f}, z {z:.1f} mm{world}: {seed.rule}. Neighbours joined while they differed from "
        f"the mean of the region by less than {seed.threshold:g}."
    )
    shown = Shown("grown", found, f"Grown region: {seed.name}", note, seconds, seed.point, (seed.point,), seed.limits)
    session.shown.append(shown)


def _base(session: Session) -> Volume:
    filtered = session.find("filtered")
    return filtered.volume if filtered else session.image


def _infer(session: Session, model: Any, tissue: seeds.Tissue, device: str) -> None:
    from .. import models

    if model is None:
        model = default_model(session.image, tissue.kind)
        if model is None:
            what = "a single slice" if session.image.is_2d else "a volume"
            what += f" of modality {tissue.kind}" if tissue.kind else " of such values"
            session.notes.append(f"No shipped model is made for {what}: name one with --model to see inference.")
            return
    if isinstance(model, str) or hasattr(model, "__fspath__"):
        model = models.load(model)
    card = getattr(model, "card", None)
    names = [label.name for value, label in card.output.labels.items() if value] if card else []
    chosen = next((n for n in names if n != "body"), names[0] if names else 1)
    call = {"probabilities": (chosen,), "uncertainty": True, "device": device}
    found, seconds = _timed(lambda: models.predict(session.image, model, **call))
    _show_prediction(session, found, chosen, seconds)


def default_model(image: Volume, kind: str) -> str | None:
    """Return the name of the shipped model that is made for such an image, or None."""
    if kind == "CT" and not image.is_2d:
        return "ct-regions"
    return "fetal-head" if image.is_2d and kind in ("US", "") else None


def _show_prediction(session: Session, found: Any, chosen: str | int, seconds: float) -> None:
    card = found.card
    about = f"{card.name} {card.version}".strip()
    how = " ".join(f"{n[0].upper()}{n[1:]}." for n in found.notes)
    note = f"Model {about}. {card.intended_use} {how}".strip()
    session.shown.append(Shown("labels", found.labels, f"{card.name} labels", note, seconds))
    probability = found.probability(chosen)
    name = next((label.name for label in probability.labels.values()), str(chosen))
    session.shown.append(Shown("probability", probability, f"{card.name} probability of {name}"))
    note = "Entropy of all classes: 0 where the model is certain, 1 where all classes are equally likely to it."
    where = seeds.deepest(np.asarray(found.uncertainty.frame(0).data) > 0.5, found.uncertainty.grid)
    session.shown.append(Shown("uncertainty", found.uncertainty, f"{card.name} uncertainty", note, point=where))


def _compare(session: Session, truth: Volume | None, names: Mapping[str, str] | None) -> None:
    labels = session.find("labels")
    if truth is None or labels is None:
        return
    started = time.perf_counter()
    found = compare.against(labels.volume, truth, names)
    seconds = time.perf_counter() - started
    if found is None:
        values = [*truth.labels] or compare.held(truth)
        what = compare.named(truth, values) if values else "no value but 0"
        session.notes.append(f"The truth holds none of the model's classes ({what}): they were not compared.")
        return
    session.notes += found.notes
    session.shown.append(Shown("truth", truth, "Truth", "What is known to be right."))
    where = seeds.deepest(np.asarray(found.volume.frame(0).data) > 1, found.volume.grid)
    note = found.note
    if where is not None:
        note += " The largest error lies around x {2:.0f}, y {1:.0f}, z {0:.0f} mm.".format(*where)
    session.shown.append(Shown("comparison", found.volume, "Model against truth", note, seconds, where))
    session.tables["Agreement of the model with the truth"] = found.rows
