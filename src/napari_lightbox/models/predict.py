"""Run a model over a volume of two, three or four dimensions: every frame, on the image's own grid."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..memory import free_memory
from ..progress import Cancelled
from ..volume import Volume
from . import cost, ensembles, footprint, tables
from .card import Card, Channel, InputSpec, OutputSpec, WindowSpec
from .channels import as_channels, together
from .choices import require_skip
from .class_values import expected, label_values, wanted
from .loaders import Model, load, read_card
from .plan import Options, Plan, Quote, human_bytes, make_plan, options_for, review
from .post import applied, rules_for
from .prediction import Prediction, find_value, gather, model_sha256
from .torch_import import import_torch

if TYPE_CHECKING:
    from .engine import Run
    from .finishing import Finisher, Results
    from .panels import Panel

__all__ = ["ModelLike", "Prediction", "find_value", "predict", "quote", "replay"]

ModelLike = Model | str | os.PathLike | Callable
_PRECISIONS = ("exact", "fast")
# What makes no difference to a quote.
_UNQUOTED = ("device", "precision", "check", "seed", "skip_below")
# Share of the memory allowed from which on it is short.
_TIGHT = 0.75
_OPTIONS = ("overlap", "blending", "mirror", "activation", "kind", "probabilities", "uncertainty")


def predict(
    volume: Volume | Sequence[Volume],
    model: ModelLike | Sequence[ModelLike],
    *,
    window: Sequence[int] | None = None,
    overlap: float | None = None,
    blending: str | None = None,
    mirror: bool | Sequence[int] | None = None,
    probabilities: str | int | Sequence[int | str] = (),
    uncertainty: bool | str = False,
    activation: str | None = None,
    dims: int = 3,
    device: str = "auto",
    precision: str = "exact",
    kind: str | None = None,
    samples: int = 0,
    seed: int = 0,
    skip_below: float | None = None,
    memory: float | None = None,
    check: bool = True,
    post: Mapping[str | int, Mapping[str, Any]] | bool | None = None,
    output: str | None = None,
) -> Prediction:
    r"""Run a model over a volume, window by window and frame by frame.

    The image is turned to the card's orientation, resampled to its spacing or size (linear; averaged where it gets
    coarser), scaled by its intensity rule, and padded by repeating the outermost voxels. The logits of overlapping
    windows are blended, resampled linearly to the grid of the image, and only then activated. What lies behind the
    windows is finished while they move on, so that the classes never exist together at the size of the image; how
    much memory is allowed changes the time and where probabilities are kept, never a label.

    Parameters
    ----------
    volume : Volume or list of Volume
        2D, 3D or 4D; several channels as a list, in the card's order. Channels on other grids are resampled linearly
        onto that of the first, with a note. Every frame is computed.
    model : Model, str, path, callable, or list of them
        A loaded model, the name of a shipped one, a model's folder, or any function that takes a float32 tensor
        (n, channels, \*window) and returns a tensor or array (n, classes, \*window). Several models with the same
        input and classes are an ensemble: the mean of their probabilities decides. The folds of nnU-Net are one
        model, and the mean of their logits decides, as in nnU-Net.
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
        Classes whose probabilities are kept, by value or by name: float32, and float16 where they need more than
        1 GiB. What does not fit into `memory` is in a temporary file, which is gone with its last volume: compressed
        chunks of zarr where the extra ``scale`` is installed, else mapped into memory; a slice is read as it is looked
        at.
    uncertainty : bool or {"entropy", "mutual_information", "variance", "disagreement"}
        Which measure of doubt is kept, as `napari_lightbox.models.doubt` defines them; True is the normalised entropy.
        All but the entropy compare several passes: models, folds, samples and mirrored ways.
    activation : {"softmax", "sigmoid", "none"}, optional
        ``"none"`` takes what the model returns as it is: probabilities, or any values, which are kept as images then.
        By default the card's; sigmoid where `kind` makes regions of classes; for a callable softmax, or sigmoid where
        it returns one class. Regions overlap, so softmax is refused for them.
    dims : {3, 2}
        For a callable: whether it takes volumes or slices (along the first stored axis). A card knows it.
    device : {"auto", "cpu", "cuda"}
        ``"auto"`` takes CUDA where it is there.
    precision : {"exact", "fast"}
        ``"exact"``: single precision throughout, without the GPU's shortcuts; on the processor our own U-Nets go
        through compiled layers, whose sums are taken in another order. ``"fast"``: features and
        weights are rounded to bfloat16 (float16 on a GPU without it) where a trial on the first window shows that to
        be faster; what was found is noted.
    kind : {"labels", "regions", "image"}, optional
        What the output is; the card's where not given, else labels. ``"image"`` keeps the values as they are.
    samples : int
        Monte-Carlo dropout (Gal and Ghahramani 2016): how many times each model answers with neurons left out at
        random; 0 leaves none out. The same neurons are left out in every window.
    seed : int
        Which neurons: the same seed leaves out the same ones.
    skip_below : float, optional
        Windows whose scaled input nowhere exceeds it are taken as background, which is noted. For labels and regions.
    memory : int or float, optional
        Bytes that may be taken beyond the images, or up to 1 a share of what is free; half of it where not given.
    check : bool
        Refuse an image of another modality, a single slice for a 3D model, an unknown spacing, and work that does
        not fit into memory. With False these become notes.
    post : mapping or False, optional
        What is done to the labels at the end, by class, as in `postprocess`; probabilities and uncertainty stay as
        the model gave them. As the card says where not given; False does nothing.
    output : str, optional
        Of a model with several outputs, the one that is wanted; all of them where not given, and what belongs to
        classes of voxels is then meant for those that have them.

    Returns
    -------
    Prediction
        ``.labels``, ``.probability(label)``, ``.uncertainty``: volumes on the grid of the input; of a model with
        several outputs, ``.outputs[name]`` has each. A model that answers for the whole image gives `Answers`, one
        that finds objects `Boxes`.

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
    if precision not in _PRECISIONS:
        raise InputError(f"precision {precision!r} is unknown: use one of {', '.join(_PRECISIONS)}")
    channels = as_channels(volume)
    import_torch()
    models = [_resolve(one) for one in ensembles.listed(model)]
    given = {"overlap": overlap, "blending": blending, "mirror": mirror, "activation": activation, "kind": kind}
    given.update(probabilities=probabilities, uncertainty=uncertainty)
    more = {"window": window, "device": device, "samples": samples, "memory": memory, "post": post, "output": output}
    more.update(check=check, precision=precision, seed=seed, skip_below=skip_below)
    apart = tables.run(
        models, channels, {**given, **more}, lambda: _reviewed(channels, models[0].card, check),
        lambda chosen, one: predict(volume, one, **chosen),
    )  # fmt: skip
    if apart is not None:
        return apart
    models = [tables.for_output(one, output) for one in models]
    ensembles.require_alike(models)
    card, options = _card_of(models[0], channels, dims, given)
    rules = rules_for(card, options.kind, post)
    panel = ensembles.panel(models, card, options, samples, seed)
    asked = {"window": window, "device": device, "check": check, "precision": precision, "samples": samples}
    asked.update(seed=seed, skip_below=skip_below, memory=memory, post=rules)
    asked.update({} if output is None else {"output": output})
    require_skip(skip_below, options)
    notes = [*_reviewed(channels, card, check), *ensembles.ignored(models, options, post)]
    given_channels, (channels, more) = channels, together(channels)
    plan = make_plan(channels, card, options, window)
    if samples:
        # A batch has other neurons left out than its windows alone.
        plan = replace(plan, batch=1)
    plan = footprint.learnt(plan, models)
    work = Work(channels, models, card, replace(plan, notes=(*notes, *more, *plan.notes)), asked, panel)
    work.require(expected(card, options))
    return carry_out(work, given_channels)


def quote(
    volume: Volume | Sequence[Volume],
    model: ModelLike | Card | Sequence[ModelLike | Card],
    *,
    dims: int = 3,
    window: Sequence[int] | None = None,
    memory: float | None = None,
    samples: int = 0,
    **given,
) -> Quote:
    """Say what a prediction will cost, without running it; of a card also without weights and torch.

    Parameters
    ----------
    volume, model, dims, window, memory, samples, **given
        As for `predict`; `model` may also be a Card. `device`, `precision`, `seed`, `skip_below` and `check` make no
        difference.

    Returns
    -------
    Quote
        Number of windows, memory, space on disk, and notes; `problem` where that memory is not there. The number of
        classes of a callable is taken to be 2, and what it needs itself is not known. What a model's network needs is
        learnt when the model is first run, or from a loaded `Model`, which may take a second; our own networks are
        known.

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
    for name in _UNQUOTED:
        given.pop(name, None)
    post, output = given.pop("post", None), given.pop("output", None)
    unknown = set(given) - set(_OPTIONS)
    if unknown:
        raise InputError(f"{sorted(unknown)[0]!r} is no argument of predict")
    channels = as_channels(volume)
    models = [read_card(m) if isinstance(m, str | os.PathLike) else m for m in ensembles.listed(model)]
    more = {"window": window, "samples": samples, "memory": memory, "post": post, "output": output}
    apart = tables.quote(
        models, channels, {**given, **more}, lambda card: _reviewed(channels, card, check=False),
        lambda chosen: quote(volume, models[0], **chosen),
    )  # fmt: skip
    if apart is not None:
        return cost.told(apart, memory, "image")
    models = [tables.for_output(one, output) for one in models]
    card, options = _card_of(models[0], channels, dims, given)
    rules_for(card, options.kind, post)
    panel = ensembles.panel(models, card, options, samples, 0, loaded=False)
    plan = footprint.learnt(make_plan(channels, card, options, window), models)
    classes = expected(card, options)

    def draw(plan: Plan) -> cost.Bill:
        most = cost.budget(memory)
        return cost.draw_up(channels, plan, card, most, classes, answers=panel.channels, passes=panel.passes)

    bill = draw(plan)
    notes = (*plan.notes, *footprint.noted(plan, card), *bill.notes, *_reviewed(channels, card, check=False))
    notes = (*notes, *together(channels, run=False)[1])
    missing = footprint.unlearnt(plan, card)
    found = Quote(plan.frames * bill.windows, bill.memory_bytes, notes, bill.disk_bytes, unlearnt=missing)
    return cost.told(found, memory, options.kind, lambda allowed: cost.remedy(plan, bill, allowed, draw))


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
    models = [load(one) for one in ensembles.listed(name)]
    recorded, found = step.get("model", {}).get("sha256"), model_sha256(models)
    if recorded and found != recorded:
        raise InputError(
            f"the weights of model {models[0].name!r} are not those the recipe was made with (SHA-256 "
            f"{found[:12]}..., recorded {recorded[:12]}...): take that version of the model"
        )
    further = [values.pop(k) for k in sorted((k for k in values if k.startswith("channel_")), key=lambda k: int(k[8:]))]
    values["device"] = _device_here(values.get("device", "auto"))
    values["uncertainty"] = values.get("uncertainty", True) if result == "uncertainty" else False
    classes = tables.card_for(models[0].card, values.get("output")).output.kind != "image"
    classes = classes and values.get("kind") != "image"
    values["probabilities"] = (result,) if isinstance(result, int) and classes else ()
    made = predict([volume, *further], models if len(models) > 1 else models[0], **values)
    return made.volumes[result]


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
    if card.loader not in ("callable", "nnunet", "monai") and card.sha256 is None:
        notes.append(f"the card of {card.name!r} names no SHA-256: whether the weights belong to it was not checked")
    return problems + notes


@dataclass
class Work:
    """What one prediction carries from frame to frame."""

    channels: list[Volume]
    models: list[Any]
    card: Card
    plan: Plan
    asked: Mapping[str, Any]  # what the caller chose and is written down as it is
    panel: "Panel"
    bill: cost.Bill = field(init=False)
    results: "Results | None" = None

    def __post_init__(self) -> None:
        self.most = cost.budget(self.asked["memory"])

    def require(self, classes: int) -> None:
        """Work out how the memory allowed is kept; refuse what cannot be done in it."""
        options = self.plan.options
        self.bill = self.draw_up(classes)
        memory = self.asked["memory"]
        allowed = self.most if memory is not None else free_memory()
        if not self.asked["check"] or allowed is None or self.bill.memory_bytes <= allowed:
            return
        remedy = cost.remedy(self.plan, self.bill, allowed, lambda plan: self.draw_up(classes, plan))
        raise InputError(cost.refusal(self.bill.memory_bytes, memory, allowed, options.kind, remedy))

    def draw_up(self, classes: int, plan: Plan | None = None) -> cost.Bill:
        """Return what it needs with a number of classes; of another plan, where one is given."""
        panel, given = self.panel, (self.channels, plan or self.plan, self.card, self.most, classes)
        return cost.draw_up(*given, answers=panel.channels, passes=panel.passes)

    @property
    def tight(self) -> bool:
        """Whether what was freed is to be given back, as there is little room beside what is needed."""
        return self.bill.on_disk or self.bill.memory_bytes > _TIGHT * self.most

    def begin(self, channels: int) -> None:
        """Make the arrays of the results, once it is known how many channels come out."""
        from . import finishing

        panel, card = self.panel, self.card
        classes, options = channels // panel.channels, self.plan.options
        if card.loader == "callable" and classes == 1 and options.activation == "softmax":
            # One class has nothing to compete with: it is there or not.
            self.plan = replace(self.plan, options=replace(options, activation="sigmoid"))
            options = self.plan.options
        self.require(classes)
        values = label_values(classes, card, options)
        kept = range(classes) if options.kind == "image" else [values.index(v) for v in wanted(options, values, card)]
        self.results = finishing.allocate(
            self.plan, kept, values, dtype=self.bill.dtype, on_disk=self.bill.on_disk, answers=panel.answers,
            apart=panel.apart,
        )  # fmt: skip

    def finisher(self, plan: Plan, frame: int, look: Callable[[], None]) -> "Finisher":
        """Return what writes the results of a frame."""
        from . import finishing

        return finishing.Finisher(plan, self.card, self.results, frame, look)

    def gathered(self, given: list[Volume], device: str, notes: Sequence[str]) -> Any:
        """Return the prediction, once all frames are done."""
        found = gather(given, self.models, self.card, self.plan, self.results, self.asked, device, notes)
        return applied(found, self.asked["post"])


def carry_out(work: Work, given: list[Volume]) -> Prediction:
    import torch

    from . import engine, passes
    from .asking import leavable

    plan, card = work.plan, work.card
    device = engine.choose_device(work.asked["device"])

    def networks_on(where: str) -> list[Callable]:
        return ensembles.networks(work.models, work.panel, card, where, work.asked["precision"], plan.window)

    def to_cpu() -> None:
        networks[:] = networks_on("cpu")

    networks = networks_on(device)
    if card.output.values and plan.options.kind != "image":
        # Unknown classes are refused before the work, where the card tells them.
        wanted(plan.options, card.output.values, card)
    counter = engine.Counter(plan.frames * work.bill.windows)
    try:
        # Single precision as it is written: a GPU would otherwise round to fewer digits in convolutions.
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True),
            leavable(lambda part: part(), counter.add) as away,
        ):
            run = engine.Run(
                away, passes.asker(networks), work.panel, card, device, counter, to_cpu, work.asked["skip_below"]
            )
            if device != "cpu" and not work.panel.samples:
                work.plan = replace(plan, batch=run.windows_at_once(plan))
            for frame in range(plan.frames):
                _frame(work, run, frame)
        work.results.settle()
    except (Cancelled, InputError):
        raise
    except Exception as error:
        if not engine.is_memory(error):
            raise
        raise InputError(
            f"memory ran out (about {human_bytes(work.bill.memory_bytes)} are needed): keep fewer probabilities, or "
            "crop or resample the image"
        ) from error
    notes = (*work.plan.notes, *work.bill.notes, *run.told(), *ensembles.notes(networks))
    return work.gathered(given, device, notes)


def _frame(work: Work, run: "Run", frame: int) -> None:
    """Compute one frame and write its results."""
    from . import engine
    from .taking import with_context

    images, plan, card = [v.frame(frame) for v in work.channels], work.plan, work.card
    if card.rules is None:
        image = engine.prepare(images, card, plan, run.counter)
    else:
        image, plan = card.rules.prepare(images, card, plan, run.counter)
    del images
    image = with_context(image, card.input.context)
    expected, known = work.bill.windows, {}
    if work.results is None:
        known = run.first(image, plan)
        channels = next(iter(known.values())).shape[0]
        known.pop(None, None)
        work.begin(channels)
        plan = replace(plan, options=work.plan.options)
    finisher = work.finisher(plan, frame, run.counter.add)
    channels = len(work.results.values) * work.panel.channels
    run.frame(image, plan, finisher, channels, work.bill.room, known, expected, tight=work.tight)
