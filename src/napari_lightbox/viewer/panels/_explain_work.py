"""What the Explain dock does in the background: sweep, show a point of the curve, try filters, apply one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from napari.layers import Layer

from ...models import Mended, Sweep, load, mend, perturbed, predict, sweep
from ...models.loaders.trust import Untrusted
from ...models.sweeps import CHANNELS_APART
from ...report.colours import window
from ...report.pictures import Picture
from ...report.sweeps import picture_of
from ...volume import Volume
from ..capture import steady
from ..layers import make_layer
from ._explain_case import Case


@dataclass(frozen=True)
class Asked:
    """What a sweep was asked for: the case, the perturbation, its strengths, repeats, seed and further parameters."""

    case: Case
    perturbation: str
    strengths: tuple[float, ...] | None
    repeats: int = 1
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    check: bool = True

    def images(self, strength: float) -> list[Volume]:
        """Return the images as they were in the first run of a strength."""
        return [
            perturbed(v, self.perturbation, strength, seed=self.seed + CHANNELS_APART * i, options=self.options)
            for i, v in enumerate(self.case.volumes)
        ]

    def moved(self, labels: Volume, strength: float) -> Volume:
        """Return labels where they lie at a strength."""
        return perturbed(labels, self.perturbation, strength, options=self.options, like=self.case.volumes[0])


@dataclass(frozen=True)
class Found:
    """A sweep, what it is compared with (unmoved), and pictures for its page."""

    asked: Asked
    sweep: Sweep
    truth: Volume
    pictures: Mapping[float, list[Picture]] = field(default_factory=dict)


@dataclass(frozen=True)
class Shown:
    """Layers to add, bottom first, and what to say of them."""

    layers: tuple[Layer, ...]
    note: str = ""


def trusting(work: Callable[[], Any]) -> Callable[[], Any]:
    """Return work that gives back the question whether a model's file may run code, instead of failing with it."""

    def call() -> Any:
        try:
            return work()
        except Untrusted as question:
            return question

    return call


def run_sweep(asked: Asked) -> Found:
    """Sweep, and draw every answer."""
    case, pictures, first = asked.case, {}, []
    model = load(case.model)
    reference = None if case.reference is None else steady(case.reference)
    limits = window(case.volumes[0].frame(0))

    def watch(strength: float, repeat: int, image: Volume, labels: Volume, truth: Volume) -> None:
        if not first:
            first.append(truth)
        if repeat == 0:
            pictures[strength] = picture_of(image, labels, limits)

    found = sweep(
        case.volumes,
        model,
        asked.perturbation,
        asked.strengths,
        reference=reference,
        label=case.label,
        repeats=asked.repeats,
        seed=asked.seed,
        options=asked.options,
        watch=watch,
        check=asked.check,
    )
    return Found(asked, found, first[0], pictures)


def show_point(found: Found, strength: float) -> Shown:
    """Make the image of a strength and its prediction again, as layers."""
    images = found.asked.images(strength)
    labels = predict(images, load(found.asked.case.model), check=False).labels
    name = f"{found.sweep.perturbation.title.lower()} {strength:g} {found.sweep.unit}"
    return Shown(
        (make_layer(images[0], f"{found.sweep.image} · {name}"), make_layer(labels, f"{found.sweep.model} · {name}")),
        f"shown: {name}",
    )


def try_filters(found: Found, strength: float) -> list[Mended]:
    """Rank the filters on the image of a strength."""
    asked = found.asked
    model, truth = load(asked.case.model), asked.moved(found.truth, strength)
    return mend(asked.images(strength), model, truth, label=asked.case.label, check=False)


def apply_filter(found: Found, strength: float, one: Mended) -> Shown:
    """Make the filtered image of a strength and its prediction, as layers."""
    recipe = one.recipe
    images = [recipe.run(volume) for volume in found.asked.images(strength)]
    labels = predict(images, load(found.asked.case.model), check=False).labels
    return Shown((make_layer(images[0]), make_layer(labels)), f"{one.title} applied at {strength:g}")
