"""The command `lightbox predict`: one model, or several together, over many cases."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..io.picture import hindrance
from ..recipe import Recipe, Step
from ..volume import Volume
from . import batch, tables
from .commands import add_overwrite
from .reading import add_reading, read_input
from .words import out

# As `models.doubt` defines them.
_DOUBTS = ("entropy", "mutual_information", "variance", "disagreement")
_SIZES = {"": 1e9, "gb": 1e9, "mb": 1e6, "%": 0.01}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="name of a shipped model, or a model's folder")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="files or DICOM folders; channels of a case in turn")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the results, made if it is missing")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="MODEL",
        help="a further model with the same input and classes: the mean of their probabilities decides",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="let the model's files run their own code, now and later (TorchScript, .pt2, and of MONAI bundles what "
        "only MONAI can run)",
    )
    parser.add_argument(
        "--probability", action="append", default=[], metavar="NAME", help="keep the probability of this class, or all"
    )
    parser.add_argument(
        "--uncertainty",
        nargs="?",
        const=_DOUBTS[0],
        default=False,
        choices=_DOUBTS,
        metavar="KIND",
        help=f"keep a measure of doubt: {', '.join(_DOUBTS)} (default entropy); the others compare several passes",
    )
    _add_run(parser)
    tables.add_choices(parser)
    parser.add_argument("--suffix", default=".nii.gz", help="format of the results (default .nii.gz)")
    add_overwrite(parser)
    add_reading(parser)


def _add_run(parser: argparse.ArgumentParser) -> None:
    """Add how the model is run."""
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    parser.add_argument("--window", metavar="X,Y[,Z]", help="size of the sliding window, voxels (default: the card's)")
    parser.add_argument("--overlap", type=float, help="share that neighbouring windows have in common, 0 to below 1")
    parser.add_argument("--blending", choices=("gaussian", "constant"), help="weights inside a window")
    parser.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="average over mirrored windows, several times slower (default: as the model is meant to be run)",
    )
    parser.add_argument(
        "--activation",
        choices=("softmax", "sigmoid", "none"),
        help="what makes the model's values probabilities (default: the card's)",
    )
    parser.add_argument(
        "--precision",
        choices=("exact", "fast"),
        default="exact",
        help="fast: half precision where it helps (default exact)",
    )
    parser.add_argument(
        "--samples", type=int, default=0, metavar="N", help="Monte-Carlo dropout: passes with neurons left out"
    )
    parser.add_argument("--seed", type=int, default=0, help="of --samples (default 0)")
    parser.add_argument(
        "--skip-below",
        type=float,
        metavar="VALUE",
        help="take windows as background whose scaled values nowhere exceed this (default: none)",
    )
    parser.add_argument(
        "--memory", metavar="GB", help="that may be taken: 4, 500MB or 50%% of what is free (default 50%%)"
    )
    parser.add_argument(
        "--force", action="store_true", help="go on where image and model do not fit each other, with notes"
    )


def run(args: argparse.Namespace) -> int:
    """Run the model over all cases; a bad one is named, and those that are done already stay."""
    from .. import models
    from ..models import choices
    from ..models.tables import is_table

    cards = [models.read_card(one) for one in (args.model, *args.also)]
    card = tables.chosen_card(cards[0], args)
    call, cases = _call(args, card), batch.group_cases(args.inputs, len(card.input.channels))
    # What no image can make right is told once, not case by case.
    choices.require(cards, call)
    folder = batch.open_folder(args.out, args.suffix)
    loaded = [models.load(one, trust=args.trust) for one in (args.model, *args.also)]
    choices.require(loaded, call)
    if is_table(card):
        if len(loaded) > 1:
            raise InputError(
                f"--also {args.also[0]} cannot join model {card.name!r}, whose kind is {card.output.kind!r}"
            )
        return tables.predict(args, cases, folder, loaded[0], call)
    together = loaded if len(loaded) > 1 else loaded[0]

    def targets(name: str) -> list[Path]:
        return [folder / f"{name}_{part}{args.suffix}" for part in _parts(args, card)]

    def work(files: list[str]) -> list[Volume]:
        channels = [read_input(args, file) for file in files]
        _require_suffix(args, card, channels[0])
        _require_fit(args, card, channels)
        found = models.predict(channels, together, **call)
        for note in found.notes:
            out(f"{batch.case_name(files[0])}: {note}")
        return _results(args, card, found)

    return batch.go_through(cases, targets, work, Recipe((_as_step(call, loaded),)), args)


def _call(args: argparse.Namespace, card: Any) -> dict[str, Any]:
    names = ("device", "overlap", "blending", "mirror", "uncertainty", "activation", "precision", "samples", "seed")
    call = {name: getattr(args, name) for name in names}
    call.update(skip_below=args.skip_below, memory=_memory(args.memory), check=not args.force, **tables.choices(args))
    call["probabilities"] = "all" if "all" in args.probability else tuple(_class(card, n)[0] for n in args.probability)
    if args.window is not None:
        call["window"] = _window(args.window, card.input.dims)
    return call


def _window(text: str, dims: int) -> tuple[int, ...]:
    """Return the size of the window in array order.

    Examples
    --------
    >>> _window("96,96,64", 3)
    (64, 96, 96)
    """
    try:
        size = tuple(int(n) for n in reversed(text.split(",")))
    except ValueError:
        size = ()
    if len(size) != dims or min(size) < 1:
        wanted = "3 whole numbers above 0, x,y,z, such as 96,96,64" if dims == 3 else (
            "2 whole numbers above 0, x,y, such as 256,192"
        )  # fmt: skip
        raise InputError(f"--window {text!r} must be {wanted}")
    return size


def _require_suffix(args: argparse.Namespace, card: Any, image: Volume) -> None:
    """Refuse a suffix that cannot hold the results of an image before the model runs over it."""
    kept = bool(args.probability or args.uncertainty) and card.output.kind != "image"
    last = max(card.output.values, default=0)
    made = [("image", np.dtype(np.float32))] if card.output.kind == "image" else [("labels", np.min_scalar_type(last))]
    made += [("probability", np.dtype(np.float32))] if kept else []
    for kind, dtype in made:
        if why := hindrance(args.suffix, image.grid, kind, dtype):
            raise InputError(f"--suffix {args.suffix} does not suit the results, {why}")


def _require_fit(args: argparse.Namespace, card: Any, channels: list[Volume]) -> None:
    """Refuse images that the model is not made for, with the option that overrules it."""
    from ..models.plan import review

    problems, _ = review(channels, card)
    if problems and not args.force:
        raise InputError(f"{problems[0]}, or add --force")


def _memory(text: str | None) -> float | None:
    """Return bytes, or a share of what is free.

    Examples
    --------
    >>> _memory("4"), _memory("500 MB"), _memory("25%")
    (4000000000.0, 500000000.0, 0.25)
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *(gb|mb|%)?", text.strip().lower())
    value = float(found.group(1)) * _SIZES[found.group(2) or ""] if found else 0
    if value <= 0 or (text.strip().endswith("%") and value > 1):
        raise InputError(f"--memory {text!r} must be GB, such as 4, or 500MB, or a share of what is free such as 50%")
    return value


def _as_step(call: dict[str, Any], loaded: Sequence[Any]) -> Step:
    """Return the step that results of these options have in their history."""
    from ..models.plan import options_for
    from ..models.post import rules_for
    from ..models.prediction import model_sha256
    from ..models.tables import card_for

    card = card_for(loaded[0].card, call["output"])
    chosen = {name: call[name] for name in ("overlap", "blending", "mirror", "activation")}
    options = options_for(card, **chosen)
    window = call.get("window", card.window.size)
    parameters = {
        "window": None if window is None else list(window),
        "overlap": options.overlap,
        "blending": options.blending,
        "mirror": list(options.mirror) or False,
        "activation": options.activation,
        **{name: call[name] for name in ("precision", "samples", "skip_below")},
    }
    if call["output"] is not None:
        parameters["output"] = call["output"]
    if call["samples"]:
        parameters["seed"] = call["seed"]
    if call["uncertainty"]:
        parameters["uncertainty"] = call["uncertainty"]
    if not card.output.factor:
        parameters["post"] = rules_for(card, options.kind, call["post"])
    return Step("predict", parameters, record={"model": {"sha256": model_sha256(loaded)}})


def _class(card: Any, name: str) -> tuple[int, str]:
    """Return value and name of a class that is named by either."""
    known = {card.output.label(v).name: v for v in card.output.values}
    value = known.get(name, int(name) if name.isdecimal() else None)
    if value not in known.values():
        raise InputError(f"class {name!r} is unknown to model {card.name!r}: use one of {', '.join(known)}, or all")
    return value, card.output.label(value).name


def _classes(args: argparse.Namespace, card: Any) -> list[tuple[int, str]]:
    if "all" in args.probability:
        return [(v, card.output.label(v).name) for v in card.output.values]
    return list(dict.fromkeys(_class(card, name) for name in args.probability))


def _parts(args: argparse.Namespace, card: Any) -> list[str]:
    """Return what the files of a case are called, after its name."""
    model = _plain(card.name)
    if card.output.kind == "image":
        count = _images(card)
        return [model] if count == 1 else [f"{model}_{channel}" for channel in range(count)]
    parts = [model, *(f"{model}_p_{_plain(name)}" for _, name in _classes(args, card))]
    measure = "uncertainty" if args.uncertainty in (False, _DOUBTS[0]) else args.uncertainty
    return parts + ([f"{model}_{measure}"] if args.uncertainty else [])


def _images(card: Any) -> int:
    """Return how many images a network gives, as its card says; the first alone where it does not."""
    return int(card.architecture.get("args", {}).get("out_channels", 1))


def _plain(name: str) -> str:
    return name.replace("/", "-").replace(" ", "-")


def _results(args: argparse.Namespace, card: Any, found: Any) -> list[Volume]:
    if card.output.kind == "image":
        return [found.output(channel) for channel in range(_images(card))]
    results = [found.labels, *(found.probability(value) for value, _ in _classes(args, card))]
    return results + ([found.uncertainty] if args.uncertainty else [])
