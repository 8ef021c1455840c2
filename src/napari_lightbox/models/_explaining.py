"""A model and images, prepared and ready to be asked frame by frame: for attribution, and to look into its layers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..volume import Volume
from .card import Card, Channel, InputSpec, OutputSpec
from .channels import as_channels, together
from .ensembles import listed, require_alike
from .heads import TABLES
from .loaders import Model
from .loaders import load as load_model
from .plan import Plan, make_plan, options_for, review
from .predict import ModelLike, predict
from .prediction import find_value
from .torch_import import import_torch

if TYPE_CHECKING:
    from ._attribution import Frame, Question


@dataclass
class Job:
    """A model and images, ready to be asked frame by frame."""

    channels: list[Volume]
    given: list[Volume]
    model: Any
    card: Card
    plan: Plan
    asked: Mapping[str, Any]
    networks: list[Any]
    device: str
    ask: Any
    counter: Any
    notes: list[str]
    chosen: int | None = None

    @property
    def frames(self) -> list[int]:
        """The frames that are looked at."""
        return list(range(self.plan.frames)) if self.chosen is None else [self.chosen]

    @property
    def network(self) -> Any:
        """The network; of several, the first."""
        return self.networks[0]

    def question(self, plan: Plan, channel: int = 0, network: Any = None) -> "Question":
        """Return what a network is asked about a frame."""
        from ._attribution import Question

        network = self.network if network is None else network
        return Question(network, self.card, plan, channel, self.device, self.ask, self.counter)

    def frame(self, number: int, region: np.ndarray | None = None) -> "Frame":
        """Return a frame as the network wants it; `region` is (z, y, x) as stored, everything where not given."""
        from . import engine
        from ._attribution import Frame

        images, plan = [v.frame(number) for v in self.channels], self.plan
        if self.card.rules is None:
            image = engine.prepare(images, self.card, plan, self.counter)
        else:
            image, plan = self.card.rules.prepare(images, self.card, plan, self.counter)
        if region is None:
            region = np.ones(self.plan.grid.spatial_shape, bool)
        return Frame(image.clone(), plan, self.card, region)

    def value_of(self, label: int | str) -> int:
        """Return the value of a class that is named by it or by its name."""
        if self.card.output.values:
            return find_value(label, self.card.output.values, self.card)
        if isinstance(label, bool) or not isinstance(label, int) or label < 0:
            raise InputError(f"label {label!r} must be the number of a class: model {self.card.name!r} names none")
        return label

    def channel_of(self, value: int, classes: int) -> int:
        """Return which channel of the answer is a class."""
        options = self.plan.options
        if options.kind == "image":
            return value
        if self.card.output.values:
            return self.card.output.values.index(value)
        separate = options.kind == "regions" or options.activation == "sigmoid" or classes == 1
        return value - 1 if separate else value

    def region(self, region: Volume | None, value: int) -> np.ndarray:
        """Return which voxels count, (frames, z, y, x); a region in space counts in every frame."""
        first = self.channels[0]
        shape = (self.plan.frames, *self.plan.grid.spatial_shape)
        if region is not None:
            if not isinstance(region, Volume) or region.kind != "labels":
                raise InputError(f"region {getattr(region, 'name', region)!r} must be a Volume of labels")
            first.grid.require_same_space(region.grid, f"{first.name!r} and the region {region.name!r}")
            if region.frame_count not in (1, first.frame_count):
                raise InputError(
                    f"region {region.name!r} has {region.frame_count} frames and the image {first.frame_count}: give "
                    "one, or as many"
                )
            where = np.broadcast_to(np.asarray(region.data) != 0, shape)
        elif self.plan.options.kind == "image":
            where = np.ones(shape, bool)
        else:
            images = self.given if self.chosen is None else [v.frame(self.chosen) for v in self.given]
            found = predict(images, self.model, **{**self.asked, "check": False}).labels
            where = np.zeros(shape, bool)
            where[self.frames] = np.asarray(found.data) == value
        if not where[self.frames].any():
            raise InputError(
                f"region {region.name!r} is empty: mark the voxels that are to be explained"
                if region is not None
                else f"label {value} is found nowhere in {first.name!r} by model {self.card.name!r}: give a region of "
                "voxels that are to be explained"
            )
        return where


@contextmanager
def job_of(volume: Any, model: ModelLike, asked: Mapping[str, Any], frame: int | None = None) -> Iterator[Job]:
    """Check and prepare everything, and keep the network's thread while it is asked."""
    torch = import_torch("Explaining a model")
    from . import engine
    from .asking import leavable

    given = as_channels(volume)
    models = [one if isinstance(one, Model) or callable(one) else load_model(one) for one in listed(model)]
    require_alike(models)
    model = models if len(models) > 1 else models[0]
    card = _card_of(models[0], given, asked["dims"])
    problems, notes = review(given, card)
    if problems and (asked["check"] or len(given) != len(card.input.channels)):
        raise InputError(problems[0])
    count = given[0].frame_count
    if frame is not None and (isinstance(frame, bool) or not isinstance(frame, int) or not 0 <= frame < count):
        raise InputError(f"frame {frame!r} does not exist: the image has {count}, counted from 0")
    options = options_for(card, **{k: asked[k] for k in ("overlap", "blending", "mirror")})
    channels, more = together(given)
    plan = make_plan(channels, card, options, asked["window"])
    device = engine.choose_device(asked["device"])
    networks = [network for one in models for network in _networks(one, device)]
    counter = engine.Counter(0)
    # Single precision as it is written, as for predictions.
    with (
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True),
        leavable(lambda work: work(), counter.add) as ask,
    ):
        yield Job(channels, given, model, card, plan, asked, networks, device, ask, counter,
                  [*problems, *notes, *more, *plan.notes], frame)  # fmt: skip


def _networks(model: Any, device: str) -> list[Any]:
    """Return the networks of a model: its folds, whose mean is the answer, or the one that there is."""
    if not isinstance(model, Model):
        return [model]
    from .taking import Taking

    card = model.card
    return [Taking(one, card, card.output.take) for one in folds(model.on(device), card)]


def folds(module: Any, card: Card) -> list[Any]:
    """Return the folds of nnU-Net that answer together; any other network is the only one."""
    return list(module.folds) if card.loader == "nnunet" and hasattr(module, "folds") else [module]


def _card_of(model: Any, channels: list[Volume], dims: int) -> Card:
    if not isinstance(model, Model):
        if dims not in (2, 3):
            raise InputError(f"dims {dims!r} must be 2 or 3")
        name = getattr(model, "__name__", type(model).__name__).strip("<>")
        spec = InputSpec(dims=dims, channels=tuple(Channel(v.name) for v in channels))
        return Card(name=name, input=spec, output=OutputSpec())
    card = model.card
    if getattr(card.rules, "whole", False):
        raise InputError(
            f"model {card.name!r} is prepared and finished by MONAI as a whole, which leaves gradients no way back: "
            "take a bundle whose transforms are known here"
        )
    if card.output.kind in TABLES or card.output.factor is not None:
        raise InputError(
            f"model {card.name!r} gives no voxels on the grid of its input, which is what can be explained: take a "
            "model of labels, regions or an image"
        )
    return card


def divisor(card: Card, rows: Sequence[Any]) -> int:
    """Return by what sizes of the input must be divisible: the card's, or how much coarser the network gets."""
    coarsest = max((c for row in rows for c in row.coarser), default=1)
    return max(card.input.divisible_by, int(np.ceil(coarsest - 1e-6)))
