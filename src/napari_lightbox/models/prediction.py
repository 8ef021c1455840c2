"""What a prediction leaves: volumes with name, labels, meta and history."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..apply import input_names, record_input
from ..errors import InputError
from ..volume import Label, Volume
from .card import Card
from .heads import image_meta
from .loaders import SHIPPED

if TYPE_CHECKING:
    from .finishing import Results
    from .plan import Plan


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of a volume; every result lies on the grid of the input.

    Parameters
    ----------
    card : Card
        Of the model; of an ensemble, of its first one.
    volumes : mapping
        The results: ``"labels"``, ``"uncertainty"``, and the value of each channel that was kept.
    values : tuple of int
        Label value of every channel of the network.
    notes : tuple of str
        What was done on the way, and what could not be checked.
    outputs : mapping of str to Prediction
        Of a network with several outputs: the prediction of each, this one (the first) among them.
    """

    card: Card
    volumes: Mapping[Any, Volume]
    values: tuple[int, ...]
    notes: tuple[str, ...] = ()
    outputs: Mapping[str, "Prediction"] = field(default_factory=dict)

    @property
    def labels(self) -> Volume:
        """Labels of the voxels, with the names and colours of the card."""
        if "labels" not in self.volumes:
            raise InputError(f"model {self.card.name!r} gives an image, not labels: take output(channel)")
        return self.volumes["labels"]

    @property
    def uncertainty(self) -> Volume:
        """The doubt that was asked for, as `doubt` defines it: with the entropy 0 is certain, 1 all classes alike."""
        if "uncertainty" not in self.volumes:
            raise InputError("the uncertainty was not kept: run predict with uncertainty=True")
        return self.volumes["uncertainty"]

    @property
    def kept(self) -> tuple[int, ...]:
        """Label values (of an image: channels) whose values were kept."""
        return tuple(v for v in self.volumes if isinstance(v, int))

    def probability(self, label: int | str) -> Volume:
        """Return the probability of a class, by its value or its name; one that was asked for."""
        value = find_value(label, self.values, self.card)
        if value not in self.volumes:
            raise InputError(f"the probability of {label!r} was not kept: run predict with probabilities={label!r}")
        return self.volumes[value]

    def output(self, channel: int = 0) -> Volume:
        """Return a channel of a prediction with ``kind="image"``: the network's values as they are."""
        if "labels" in self.volumes:
            raise InputError("output() is for predictions with kind='image': take probability(label) here")
        if channel not in self.volumes:
            raise InputError(f"channel {channel!r} does not exist: there are {len(self.kept)}, from 0 on")
        return self.volumes[channel]


def find_value(label: int | str, values: tuple[int, ...], card: Card) -> int:
    """Return the value of a class, which is named by it or by its name."""
    names = {card.output.label(v).name: v for v in values}
    value = names.get(label, label) if isinstance(label, str) else label
    if value not in values or isinstance(value, bool):
        known = ", ".join(f"{v} ({name})" for name, v in names.items())
        raise InputError(f"class {label!r} is unknown to model {card.name!r}: use one of {known}")
    return int(value)


def gather(
    channels: Sequence[Volume],
    models: Sequence[Any],
    card: Card,
    plan: "Plan",
    results: "Results",
    asked: Mapping[str, Any],
    device: str,
    notes: Sequence[str],
) -> Prediction:
    """Wrap the arrays of a prediction as volumes.

    `asked` are the choices of the caller that are written down as they were made; `device` is where it ran.
    """
    first = channels[0]
    meta = {k: v for k, v in first.meta.items() if k not in ("unit", "windows")}
    bare = {k: v for k, v in meta.items() if k != "modality"}
    made = image_meta(card.output, meta)
    label = card.output.label
    volumes: dict[Any, Volume] = {}

    def add(key: Any, data: Any, suffix: str, **fields: Any) -> None:
        history = (*first.history, _step(channels, models, card, plan, asked, device, key))
        name = f"{first.name} · {card.name}{suffix}"
        volumes[key] = Volume(data, first.grid, name=name, history=history, **fields)

    if results.labels is not None:
        names = {v: label(v) for v in results.values if v}
        add("labels", results.labels, "", kind="labels", labels=names, meta=meta)
    # Without an activation a model may return anything; a probability lies between 0 and 1.
    within = plan.options.activation != "none" or (results.low >= 0 and results.high <= 1)
    for channel, data in results.kept.items():
        value = results.values[channel]
        if results.labels is None:
            add(value, data, f" {channel}" if len(results.kept) > 1 else "", kind="image", meta=made)
        else:
            found: Label = label(value)
            shown, kind = (f"p({found.name})", "probability") if within else (found.name, "image")
            add(value, data, f" {shown}", kind=kind, labels={value: found}, meta=bare)
    if results.doubt is not None:
        measure = plan.options.uncertainty
        suffix = " uncertainty" if measure == "entropy" else f" {measure.replace('_', ' ')}"
        add("uncertainty", results.doubt, suffix, kind="probability", meta=bare)
    return Prediction(card, volumes, results.values, tuple(notes))


def model_name(model: Any) -> str | None:
    """Return what a model is loaded by, or None for a function."""
    folder = model.card.folder if hasattr(model, "card") else None
    if folder is None:
        return None
    return folder.name if folder.parent == SHIPPED else str(folder.resolve())


def model_sha256(models: Sequence[Any]) -> str:
    """Return the SHA-256 of the weights; of several models, that of theirs one after another."""
    found = [getattr(model, "sha256", "") for model in models]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def _step(
    channels: Sequence[Volume],
    models: Sequence[Any],
    card: Card,
    plan: "Plan",
    asked: Mapping[str, Any],
    device: str,
    result: Any,
) -> dict:
    """Return the step of the history that made a result."""
    from .. import __version__

    options = plan.options
    names = [model_name(model) for model in models]
    size = plan.window if plan.dims == 3 else plan.window[1:]
    parameters = {
        "model": names[0] if len(names) == 1 else None if None in names else names,
        # Without a window of its own the model takes all of an image, of whatever size.
        "window": None if asked["window"] is None and card.window.size is None else list(size),
        "overlap": options.overlap,
        "blending": options.blending,
        "mirror": list(options.mirror) if options.mirror else False,
        "activation": options.activation,
        "kind": options.kind,
        "dims": plan.dims,
        **{name: value for name, value in asked.items() if name != "window"},
        "result": result,
    }
    if result == "uncertainty":
        parameters["uncertainty"] = options.uncertainty
    taken = input_names(channels[0].history)
    for number, channel in enumerate(channels[1:], start=2):
        parameters[f"channel_{number}"] = record_input(channel, taken)
    cards = [model.card if hasattr(model, "card") else card for model in models]
    return {
        "operation": "predict",
        "parameters": parameters,
        "plane": None,
        "model": {
            "name": " + ".join(one.name for one in cards),
            "version": " + ".join(one.version for one in cards),
            "sha256": model_sha256(models),
        },
        "device": device,
        "inputs": [v.name for v in channels],
        "grid": channels[0].grid.as_dict(),
        "version": __version__,
    }
