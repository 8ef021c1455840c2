"""Run a model over a volume of two, three or four dimensions: every frame, on the image's own grid."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..apply import input_names, record_input
from ..errors import InputError
from ..memory import free_memory
from ..progress import Cancelled
from ..volume import Label, Volume
from . import nnunet
from .card import Card, Channel, InputSpec, OutputSpec, WindowSpec
from .loaders import SHIPPED, Model, load, read_card
from .plan import Options, Plan, Quote, as_channels, estimate, human_bytes, make_plan, options_for, review
from .torch_import import import_torch

if TYPE_CHECKING:
    from .engine import Results

ModelLike = Model | str | os.PathLike | Callable


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of a volume; every result lies on the grid of the input.

    Parameters
    ----------
    card : Card
        Of the model.
    volumes : mapping
        The results: ``"labels"``, ``"uncertainty"``, and the value of each channel that was kept.
    values : tuple of int
        Label value of every channel of the network.
    notes : tuple of str
        What was done on the way, and what could not be checked.
    """

    card: Card
    volumes: Mapping[Any, Volume]
    values: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> Volume:
        """Labels of the voxels, with the names and colours of the card."""
        if "labels" not in self.volumes:
            raise InputError(f"model {self.card.name!r} gives an image, not labels: take output(channel)")
        return self.volumes["labels"]

    @property
    def uncertainty(self) -> Volume:
        """Entropy of the classes over its largest possible value: 0 where one is certain, 1 where all are equal."""
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


def predict(
    volume: Volume | Sequence[Volume],
    model: ModelLike,
    *,
    window: Sequence[int] | None = None,
    overlap: float | None = None,
    blending: str | None = None,
    mirror: bool | Sequence[int] | None = None,
    probabilities: str | int | Sequence[int | str] = (),
    uncertainty: bool = False,
    activation: str | None = None,
    dims: int = 3,
    device: str = "auto",
    precision: str = "exact",
    kind: str | None = None,
    check: bool = True,
) -> Prediction:
    r"""Run a model over a volume, window by window and frame by frame.

    The image is turned to the card's orientation, resampled to its spacing or size (linear; averaged where it gets
    coarser), scaled by its intensity rule, and padded by repeating the outermost voxels. The logits of overlapping
    windows are blended, resampled linearly to the grid of the image, and only then activated.

    Parameters
    ----------
    volume : Volume or list of Volume
        2D, 3D or 4D; several channels as a list on one grid, in the card's order. Every frame is computed.
    model : Model, str, path or callable
        A loaded model, the name of a shipped one, a model's folder, or any function that takes a float32 tensor
        (n, channels, \*window) and returns a tensor or array (n, classes, \*window).
    window : sequence of int, optional
        Size in array order; the card's where not given, and the whole volume where there is none.
    overlap : float, optional
        Share of the window that neighbours have in common, 0 to less than 1. With 0 nothing is blended.
    blending : {"gaussian", "constant"}, optional
        Weights of a window: a Gaussian with a standard deviation of an eighth of its size, or all the same.
    mirror : bool or sequence of int, optional
        Average over the windows flipped along all axes, or along these axes of the window, in all combinations; along
        those of the card where not given, which most have none of.
    probabilities : "all", int, str or sequence of them
        Classes whose probabilities are kept, by value or by name. float32, 4 bytes a voxel and class.
    uncertainty : bool
        Whether the normalised entropy is kept.
    activation : {"softmax", "sigmoid", "none"}, optional
        ``"none"`` takes what the model returns as it is: probabilities, or any values, which are kept as images then.
        By default the card's; sigmoid where `kind` makes regions of classes; for a callable softmax, or sigmoid where
        it returns one class. Regions overlap, so softmax is refused for them.
    dims : {3, 2}
        For a callable: whether it takes volumes or slices (along the first stored axis). A card knows it.
    device : {"auto", "cpu", "cuda"}
        ``"auto"`` takes CUDA where it is there.
    precision : {"exact"}
        Single precision throughout, without the GPU's shortcuts.
    kind : {"labels", "regions", "image"}, optional
        What the output is; the card's where not given, else labels. ``"image"`` keeps the values as they are.
    check : bool
        Refuse an image of another modality, a single slice for a 3D model, an unknown spacing, and work that does
        not fit into memory. With False these become notes.

    Returns
    -------
    Prediction
        ``.labels``, ``.probability(label)``, ``.uncertainty``: volumes on the grid of the input.

    Raises
    ------
    InputError
        If image and model do not fit each other, the image holds NaN or infinite voxels, or memory does not suffice.
    MissingPart
        If torch is not installed.
    Cancelled
        By the listener of `progress`, within one window.

    Examples
    --------
    >>> import numpy as np
    >>> image = Volume.from_array(np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4), spacing=(1, 1, 1))
    >>> found = predict(image, lambda x: 50 * x, probabilities=1)
    >>> int(found.labels.data.sum()), float(found.probability(1).data[-1, -1, -1])
    (12, 1.0)
    """
    if precision != "exact":
        raise InputError(f"precision {precision!r} is unknown: this version computes with 'exact' only")
    channels = as_channels(volume)
    import_torch()
    model = _resolve(model)
    given = {"overlap": overlap, "blending": blending, "mirror": mirror, "activation": activation, "kind": kind}
    given.update(probabilities=probabilities, uncertainty=uncertainty)
    card, options = _card_of(model, channels, dims, given)
    notes = _reviewed(channels, card, check)
    plan = make_plan(channels, card, options, window)
    if check:
        _require_memory(estimate(plan, card))
    asked = {"window": window, "device": device, "check": check}
    return _run(channels, model, card, replace(plan, notes=(*notes, *plan.notes)), asked)


def quote(volume: Volume | Sequence[Volume], model: ModelLike | Card, *, dims: int = 3, window=None, **given) -> Quote:
    """Say what a prediction will cost, without running it, loading weights or importing torch.

    Parameters
    ----------
    volume, model, dims, window, **given
        As for `predict`; `model` may also be a Card. `device`, `precision` and `check` make no difference.

    Returns
    -------
    Quote
        Number of windows, memory, and notes. The number of classes of a callable is taken to be 2.

    Raises
    ------
    InputError
        If image and model do not fit each other in a way that `check=False` would not help.

    Examples
    --------
    >>> import numpy as np
    >>> image = Volume.from_array(np.zeros((64, 64, 64), np.int16), spacing=(1, 1, 1))
    >>> quote(image, lambda x: x, window=(32, 32, 32), overlap=0).windows
    8
    """
    for name in ("device", "precision", "check"):
        given.pop(name, None)
    unknown = set(given) - {"overlap", "blending", "mirror", "activation", "kind", "probabilities", "uncertainty"}
    if unknown:
        raise InputError(f"{sorted(unknown)[0]!r} is no argument of predict")
    channels = as_channels(volume)
    if isinstance(model, str | os.PathLike):
        model = read_card(model)
    card, options = _card_of(model, channels, dims, given)
    return estimate(make_plan(channels, card, options, window), card, _reviewed(channels, card, check=False))


def replay(step: Mapping[str, Any], volume: Volume, parameters: Mapping[str, Any]) -> Volume:
    """Repeat a step ``"predict"`` of a volume's history, with the choices recorded there.

    It runs on the device that was asked for then; on the CPU where that was a GPU and none is here.

    Parameters
    ----------
    step : mapping
        The step, as it stands in the history.
    volume : Volume
        First channel of the input.
    parameters : mapping
        The step's parameters, with further channels (``channel_2``, ...) given as volumes.

    Returns
    -------
    Volume
        The result the history belongs to: labels, a probability, an output or the uncertainty.

    Raises
    ------
    InputError
        If the model was a Python function, or its weights are no longer the same.
    """
    values = dict(parameters)
    name, result = values.pop("model", None), values.pop("result", "labels")
    if not name:
        raise InputError(
            "the prediction was made by a Python function, which a recipe cannot hold: run predict with it again"
        )
    model = load(name)
    recorded = step.get("model", {}).get("sha256")
    if recorded and model.sha256 != recorded:
        raise InputError(
            f"the weights of model {model.name!r} are not those the recipe was made with (SHA-256 "
            f"{model.sha256[:12]}..., recorded {recorded[:12]}...): take that version of the model"
        )
    further = [values.pop(k) for k in sorted((k for k in values if k.startswith("channel_")), key=lambda k: int(k[8:]))]
    values["device"] = _device_here(values.get("device", "auto"))
    values["uncertainty"] = result == "uncertainty"
    values["probabilities"] = (result,) if isinstance(result, int) and values.get("kind") != "image" else ()
    found = predict([volume, *further], model, **values)
    return found.volumes[result]


# Inside ---------------------------------------------------------------------------------------------------------


def _device_here(device: str) -> str:
    torch = import_torch()
    return "auto" if str(device).startswith("cuda") and not torch.cuda.is_available() else device


def _resolve(model: ModelLike) -> Model | Callable:
    if isinstance(model, str | os.PathLike):
        return load(model)
    if not isinstance(model, Model) and not callable(model):
        raise InputError(f"model must be a Model, a name, a folder or a function, not {type(model).__name__}")
    return model


def _card_of(model: Any, channels: list[Volume], dims: int, given: dict) -> tuple[Card, Options]:
    """Return the card of a model, or one made up for a function; and the options that go with it."""
    if isinstance(model, Model | Card):
        card = model if isinstance(model, Card) else model.card
        return card, options_for(card, **given)
    if dims not in (2, 3):
        raise InputError(f"dims {dims!r} must be 2 or 3")
    card = Card(
        name=getattr(model, "__name__", type(model).__name__).strip("<>"),
        input=InputSpec(dims=dims, channels=tuple(Channel(v.name) for v in channels)),
        window=WindowSpec(),
        output=OutputSpec(kind=given.get("kind") or "labels"),
    )
    return card, options_for(card, **given)


def _reviewed(channels: list[Volume], card: Card, check: bool) -> list[str]:
    problems, notes = review(channels, card)
    if problems and (check or len(channels) != len(card.input.channels)):
        raise InputError(problems[0])
    if card.loader not in ("callable", "nnunet") and card.sha256 is None:
        notes.append(f"the card of {card.name!r} names no SHA-256: whether the weights belong to it was not checked")
    return problems + notes


def _require_memory(cost: Quote) -> None:
    free = free_memory()
    if free is not None and cost.memory_bytes > free:
        raise InputError(
            f"the prediction needs about {human_bytes(cost.memory_bytes)} of memory and {human_bytes(free)} are free: "
            "keep fewer probabilities, or crop or resample the image"
        )


@dataclass
class _Work:
    """What one prediction carries from frame to frame."""

    channels: list[Volume]
    card: Card
    plan: Plan
    asked: Mapping[str, Any]  # window, device and check, as the caller gave them
    results: "Results | None" = field(default=None)


def _run(channels: list[Volume], model: Model | Callable, card: Card, plan: Plan, asked: dict) -> Prediction:
    import torch

    from . import engine
    from .asking import leavable

    device = engine.choose_device(asked["device"])
    network = model.on(device) if isinstance(model, Model) else model
    counter = engine.Counter(plan.frames * plan.windows_per_frame)
    work = _Work(channels, card, plan, asked)
    _early_names(card, plan.options)
    try:
        # Single precision as it is written: a GPU would otherwise round to fewer digits in convolutions.
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True),
            leavable(network, counter.add) as ask,
        ):
            for frame in range(plan.frames):
                _frame(work, ask, frame, device, counter)
    except (Cancelled, InputError):
        raise
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:
        cost = human_bytes(estimate(plan, card).memory_bytes)
        raise InputError(
            f"memory ran out (about {cost} are needed): keep fewer probabilities, or crop or resample the image"
        ) from error
    return _gather(work, model, device)


def _frame(work: _Work, network: Callable, frame: int, device: str, counter: Any) -> None:
    """Compute one frame and write its results."""
    from . import engine

    images, plan = [v.frame(frame) for v in work.channels], work.plan
    if work.card.rules is None:
        image = engine.prepare(images, work.card, plan, counter)
    else:
        image, plan = nnunet.prepare(images, work.card, plan, counter)
        counter.total += plan.windows_per_frame - work.plan.windows_per_frame
    del images
    logits = engine.run_windows(network, image, plan, work.card, device, counter)
    del image
    if work.results is None:
        classes = logits.shape[0]
        if work.card.loader == "callable" and classes == 1 and work.plan.options.activation == "softmax":
            # One class has nothing to compete with: it is there or not.
            work.plan = plan = replace(work.plan, options=replace(work.plan.options, activation="sigmoid"))
        values = _values(classes, work.card, work.plan.options)
        kept = [values.index(v) for v in _wanted(work.plan.options, values, work.card)]
        work.results = engine.allocate(classes, work.card, work.plan, kept, values)
    engine.finish(logits, plan, work.card, work.results, frame, counter)


def _values(classes: int, card: Card, options: Options) -> tuple[int, ...]:
    """Return the label value of every channel."""
    if options.kind == "image":
        return tuple(range(classes))
    if card.output.values:
        return card.output.values
    separate = options.kind == "regions" or options.activation == "sigmoid" or classes == 1
    return tuple(range(1, classes + 1)) if separate else tuple(range(classes))


def _early_names(card: Card, options: Options) -> None:
    """Refuse unknown classes before the work, where the card tells them."""
    if card.output.values and options.kind != "image":
        _wanted(options, card.output.values, card)


def _wanted(options: Options, values: tuple[int, ...], card: Card) -> list[int]:
    if options.kind == "image":
        return []
    if options.probabilities == "all":
        return list(values)
    return list(dict.fromkeys(find_value(p, values, card) for p in options.probabilities))


def find_value(label: int | str, values: tuple[int, ...], card: Card) -> int:
    names = {card.output.label(v).name: v for v in values}
    value = names.get(label, label) if isinstance(label, str) else label
    if value not in values or isinstance(value, bool):
        known = ", ".join(f"{v} ({name})" for name, v in names.items())
        raise InputError(f"class {label!r} is unknown to model {card.name!r}: use one of {known}")
    return int(value)


def _gather(work: _Work, model: Model | Callable, device: str) -> Prediction:
    """Wrap the arrays as volumes with name, labels, meta and history."""
    results, card, first = work.results, work.card, work.channels[0]
    meta = {k: v for k, v in first.meta.items() if k not in ("unit", "windows")}
    bare = {k: v for k, v in meta.items() if k != "modality"}
    label = card.output.label
    volumes: dict[Any, Volume] = {}

    def add(key: Any, data: Any, suffix: str, **fields: Any) -> None:
        history = (*first.history, _step(work, model, device, key))
        name = f"{first.name} · {card.name}{suffix}"
        volumes[key] = Volume(data, first.grid, name=name, history=history, **fields)

    if results.labels is not None:
        names = {v: label(v) for v in results.values if v}
        add("labels", results.labels, "", kind="labels", labels=names, meta=meta)
    for channel, data in results.kept.items():
        value = results.values[channel]
        if results.labels is None:
            add(value, data, f" {channel}" if len(results.kept) > 1 else "", kind="image", meta=bare)
        else:
            found: Label = label(value)
            # Without an activation a model may return anything; a probability lies between 0 and 1.
            within = work.plan.options.activation != "none" or (data.min() >= 0 and data.max() <= 1)
            shown, kind = (f"p({found.name})", "probability") if within else (found.name, "image")
            add(value, data, f" {shown}", kind=kind, labels={value: found}, meta=bare)
    if results.entropy is not None:
        add("uncertainty", results.entropy, " uncertainty", kind="probability", meta=bare)
    return Prediction(card, volumes, results.values, work.plan.notes)


def _step(work: _Work, model: Model | Callable, device: str, result: Any) -> dict:
    """Return the step of the history that made a result."""
    from .. import __version__

    plan, card, options = work.plan, work.card, work.plan.options
    folder = card.folder
    name = folder and (folder.name if folder.parent == SHIPPED else str(folder.resolve()))
    size = plan.window if plan.dims == 3 else plan.window[1:]
    parameters = {
        "model": name,
        # Without a window of its own the model takes all of an image, of whatever size.
        "window": None if work.asked["window"] is None and card.window.size is None else list(size),
        "overlap": options.overlap,
        "blending": options.blending,
        "mirror": list(options.mirror) if options.mirror else False,
        "activation": options.activation,
        "kind": options.kind,
        "dims": plan.dims,
        "precision": "exact",
        "device": work.asked["device"],
        "check": work.asked["check"],
        "result": result,
    }
    taken = input_names(work.channels[0].history)
    for number, channel in enumerate(work.channels[1:], start=2):
        parameters[f"channel_{number}"] = record_input(channel, taken)
    return {
        "operation": "predict",
        "parameters": parameters,
        "plane": None,
        "model": {"name": card.name, "version": card.version, "sha256": getattr(model, "sha256", "")},
        "device": device,
        "inputs": [v.name for v in work.channels],
        "grid": work.channels[0].grid.as_dict(),
        "version": __version__,
    }
