"""MONAI bundles: metadata and inference configuration are read as data, and nothing in them is executed.

A bundle whose network is built here (`networks_monai`) runs without MONAI and needs no trust. TorchScript weights need
trust; so does a network that only MONAI itself can build, by its name among MONAI's own. What is not understood - a
transform, an argument, an expression, a network or an inferer of the bundle's own - is never left out, as that would
change the result: it is named, and MONAI itself runs it where the user trusts the bundle (`_foreign`).
"""

import hashlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ...errors import FileError, InputError, need
from ...volume import Label
from ..bundle import Rules
from ..bundle_foreign import ForeignRules
from ..card import Card, Channel, InputSpec, OutputSpec, WindowSpec, file_sha256
from ..fields import is_number
from . import _foreign, archive, state_dict, torchscript
from ._answers import Decision, Inferer, decision, inferer
from ._config import Config, NotKnown, read_table
from ._parts import Part
from ._transforms import preparation
from .trust import check as check_trust

if TYPE_CHECKING:
    import torch

_INFERENCE = ("inference.json", "inference.yaml", "inference.yml")
_NETWORKS = {"unet": "monai_unet", "segresnet": "segresnet", "basicunet": "basic_unet"}
_MODALITIES = {"CT": "CT", "MR": "MR", "MRI": "MR", "PT": "PT", "PET": "PT", "US": "US", "XR": "XR"}
_BY_MONAI = "monai:"
# Numbers and lists of numbers in the arguments of a network: more would only fill the memory.
_LARGEST, _MOST_LEVELS = 10_000, 64


@dataclass(frozen=True)
class Bundle:
    """Where a bundle lies: its folder, and its two configurations."""

    folder: Path
    metadata: Path
    inference: Path


@dataclass(frozen=True)
class _Content:
    """What a bundle says."""

    card: Card
    channels: tuple[int, ...] | None
    config: Config
    network: str
    # What is not understood, each in a few words; of these, what concerns the network itself and the inferer.
    missed: tuple[str, ...] = ()
    own_network: bool = False
    own_inferer: bool = False


# Finding it -----------------------------------------------------------------------------------------------------


def find(path: Path) -> Bundle | None:
    """Return the bundle that a path means, or None where it is none.

    Parameters
    ----------
    path : Path
        Its folder, ``configs`` in it, or a file in ``configs`` or ``models``.

    Raises
    ------
    FileError
        If ``configs/inference.json`` is missing beside the metadata.
    """
    path = path.absolute()
    for folder in (path, path.parent, path.parent.parent):
        if folder != path and (path if path.is_dir() else path.parent).name not in ("configs", "models"):
            break
        metadata = folder / "configs" / "metadata.json"
        if metadata.is_file():
            found = [folder / "configs" / name for name in _INFERENCE if (folder / "configs" / name).is_file()]
            if not found:
                raise FileError(f"{folder / 'configs'} holds no {_INFERENCE[0]}: copy the whole bundle")
            return Bundle(folder, metadata, found[0])
    return None


# The card, without torch ----------------------------------------------------------------------------------------


def read_card(bundle: Bundle) -> Card:
    """Return the card that metadata and configuration make; the weights stay closed.

    Raises
    ------
    FileError
        If a file is damaged or missing.
    InputError
        If something in them is not known.
    """
    return _read(bundle).card


def _read(bundle: Bundle) -> _Content:
    meta = read_table(bundle.metadata)
    config = Config(read_table(bundle.inference), f"the bundle {bundle.folder}")
    formats = _table(meta.get("network_data_format"))
    inputs, outputs = _table(formats.get("inputs")), _table(formats.get("outputs"))
    image = _table(inputs.get("image", next(iter(inputs.values()), None)))
    answer = _table(outputs.get("pred", next(iter(outputs.values()), None)))
    name, network = _network_part(config)
    weights = _weights(config, network, bundle)
    builds: list[str] = []
    args = _arguments(network, builds)
    if weights.endswith(".ts"):
        # The network comes with its weights.
        builds = []
    elif not _is_known(network):
        builds.append(f"the network is {network.target!r}, no network of MONAI's own")
    dims = _dims(args, image, config)
    early: list[str] = []
    late: list[str] = []
    before = preparation(config, early)
    asked, own_inferer = _inferer(config, dims, late)
    after = decision(config, late)
    count = _count(args.get("in_channels"), image, "in_channels", config) or 1
    classes = _count(args.get("out_channels"), answer, "out_channels", config)
    if late:
        output, channels = _declared(answer, classes), None
    else:
        output, channels = _output(after, answer, classes, config)
    card = Card(
        **_said(meta, bundle),
        loader="monai",
        weights=weights,
        architecture={
            "name": _architecture(network),
            "args": {**args, **({"out_channels": classes} if classes else {})},
        },
        input=InputSpec(
            dims,
            _channels(image, count),
            before.orientation,
            _spacing(before.steps, dims),
            divisible_by=_divisor(network, args),
        ),
        window=asked.window,
        output=output,
        folder=bundle.folder,
        rules=Rules(before.steps, asked.axes, asked.padding, asked.value),
        post={} if late else _post(after, output),
    )
    missed = (*builds, *early, *late)
    if missed:
        card = replace(
            card, rules=ForeignRules(before.steps, asked.axes, asked.padding, asked.value, missed, bool(late))
        )
    content = _Content(card, channels, config, name, missed, bool(builds), own_inferer)
    if missed:
        _foreign.require_harmless_names(_foreign.needed(config, _roots(content)), bundle.folder, config.where)
    return content


def _said(meta: Mapping[str, Any], bundle: Bundle) -> dict[str, Any]:
    """Return what the bundle says of itself, as a card has it."""
    return {
        "name": _text(meta.get("name")) or bundle.folder.name,
        "version": _text(meta.get("version")),
        "licence": _text(meta.get("copyright")),
        "description": _text(meta.get("description")),
        "intended_use": _text(meta.get("intended_use")),
        "training_data": _text(meta.get("data_source")),
        "figures": _table(meta.get("eval_metrics")),
    }


def _spacing(steps: Sequence[Any], dims: int) -> tuple[float, ...] | None:
    """Return the spacing that images are brought to; None where there is none."""
    spacing = next((step.values["pixdim"] for step in steps if step.kind == "spacing"), None)
    spacing = (spacing,) * dims if isinstance(spacing, int | float) else spacing
    fits = spacing is not None and len(spacing) == dims and all(n > 0 for n in spacing)
    return tuple(map(float, spacing)) if fits else None


def _roots(content: _Content) -> list[str]:
    """Return the entries of the configuration that MONAI is to make."""
    roots = ["preprocessing", *(["postprocessing"] if content.card.rules.whole else [])]
    return [*roots, *(["inferer"] if content.own_inferer else []), *([content.network] if content.own_network else [])]


def _inferer(config: Config, dims: int, missed: list[str]) -> tuple[Inferer, bool]:
    """Return how the network is asked, and whether only MONAI knows."""
    try:
        return inferer(config, dims), False
    except NotKnown as error:
        missed.append(error.what)
        return Inferer(dims, WindowSpec(None, 0.0, "constant"), (2, 0, 1) if dims == 2 else (0, 1, 2)), True


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _network_part(config: Config) -> tuple[str, Part]:
    for name in ("network_def", "network", "net"):
        if name in config.tree:
            return name, Part(config, "@" + name, name)
    raise InputError(f"{config.where}: its configuration names no network_def: write what the network is")


def _arguments(network: Part, missed: list[str]) -> dict[str, Any]:
    """Return the arguments of the network, plain values all; others are named in `missed`."""
    found = {}
    for name in network.raw:
        if not name.startswith("_"):
            try:
                found[name] = network.take(name)
            except NotKnown as error:
                missed.append(error.what)
    for name, value in found.items():
        each = value if isinstance(value, list) else [value]
        if len(each) > _MOST_LEVELS or any(is_number(n) and abs(n) > _LARGEST for n in each):
            raise network.wrong(name, "no network is as large as that")
    if "dimensions" in found:
        # As older versions of MONAI call it.
        found["spatial_dims"] = found.pop("dimensions")
    return found


def _architecture(network: Part) -> str:
    """Return the name of the network here; of one that only MONAI builds, its name there."""
    known = _NETWORKS.get(network.name.lower()) if network.monai else None
    return known or f"{_BY_MONAI}{network.target}"


def _divisor(network: Part, args: Mapping[str, Any]) -> int:
    """Return what windows of a network that only MONAI builds must be divisible by, where that is known."""
    patch = args.get("patch_size", 2)
    if not network.monai or (network.name == "SwinUNETR" and not isinstance(patch, int)):
        return 1
    # They halve what they see four times; SwinUNETR makes patches of it first.
    return {"VNet": 16, "SwinUNETR": max(1, patch) ** 5 if isinstance(patch, int) else 1}.get(network.name, 1)


def _is_known(network: Part) -> bool:
    """Whether a network is MONAI's own, or built here, and not the bundle's code."""
    return network.monai and (network.target == network.name or network.target.startswith("monai.networks.nets."))


def _weights(config: Config, network: Part, bundle: Bundle) -> str:
    """Return the file of the weights, from the bundle's folder on."""
    named = _checkpoint(config, bundle)
    script = f"{named.removesuffix('.pt')}.ts"
    built = not _architecture(network).startswith(_BY_MONAI)
    if (bundle.folder / script).is_file() and not (built and (bundle.folder / named).is_file()):
        return script
    return named


def _checkpoint(config: Config, bundle: Bundle) -> str:
    """Return the file that the bundle's ``CheckpointLoader`` names, or the usual one."""
    handlers = config.tree.get("handlers")
    entries = [(f"handlers::{n}", one) for n, one in enumerate(handlers if isinstance(handlers, list) else [])]
    entries += list(config.tree.items())
    for place, raw in entries:
        if isinstance(raw, Mapping) and str(raw.get("_target_", "")).rpartition(".")[2] == "CheckpointLoader":
            # Paths count from the bundle, wherever its author had it.
            here = Config({**config.tree, "bundle_root": "."}, config.where)
            path = here.value(raw.get("load_path", ""), f"{place}::load_path")
            parts = PurePosixPath(str(path)).parts
            if not isinstance(path, str) or not parts or parts[0] == "/" or ".." in parts:
                raise InputError(
                    f"{config.where}: {place} loads {path!r}, outside of the bundle: write its path after @bundle_root"
                )
            return str(PurePosixPath(path))
    return "models/model.pt"


def _dims(args: Mapping[str, Any], image: Mapping[str, Any], config: Config) -> int:
    shape = image.get("spatial_shape")
    found = args.get("spatial_dims", len(shape) if isinstance(shape, list) else 3)
    if found not in (2, 3) or isinstance(found, bool):
        raise InputError(
            f"{config.where}: the network has {found!r} axes, but images have 2 or 3: correct spatial_dims"
        )
    return found


def _count(given: Any, table: Mapping[str, Any], name: str, config: Config) -> int | None:
    """Return the number of channels that network and metadata agree on."""
    said = table.get("num_channels")
    for value in (given, said):
        if value is not None and (type(value) is not int or value < 1):
            raise InputError(f"{config.where}: {name} is {value!r}: give a whole number greater than zero")
    if given is not None and said is not None and given != said:
        raise InputError(
            f"{config.where}: {name} of the network is {given}, but metadata.json says {said}: correct the wrong one"
        )
    return said if given is None else given


def _channels(image: Mapping[str, Any], count: int) -> tuple[Channel, ...]:
    modality = _MODALITIES.get(_text(image.get("modality")).upper())
    if _text(image.get("format")).lower() == "hounsfield":
        modality = "CT"
    names = _names(image, count)
    return tuple(Channel(names[n] or ("image" if count == 1 else f"image {n + 1}"), modality) for n in range(count))


def _names(table: Mapping[str, Any], count: int) -> list[str]:
    """Return what the metadata calls channels; empty where it does not say, numbered where two are called the same."""
    known = {str(key): _text(name) for key, name in _table(table.get("channel_def")).items()}
    names: list[str] = []
    for number in range(count):
        name = known.get(str(number), "")
        names.append(f"{name} {number}" if name and name in names else name)
    return names


def _output(
    after: Decision, answer: Mapping[str, Any], count: int | None, config: Config
) -> tuple[OutputSpec, tuple[int, ...] | None]:
    """Return what comes out, and the channels of the network in the order of the labels where it is another."""
    if after.activation == "none" and after.decision == "none":
        if _text(answer.get("format")).lower() == "segmentation":
            raise InputError(
                f"{config.where}: postprocessing does not say how classes are decided: add AsDiscreted with argmax or "
                "threshold"
            )
        if _text(answer.get("type")).lower() not in ("image", ""):
            raise InputError(
                f"{config.where}: the network gives {answer.get('type')!r}, and only segmentations and images are "
                "understood here: write a card.json beside model.ts"
            )
        return OutputSpec("image", "none"), None
    if count is None:
        raise InputError(f"{config.where}: neither the network nor metadata.json says how many classes there are")
    names = [name or f"class {number}" for number, name in enumerate(_names(answer, max(count, 2)))]
    if after.decision == "argmax" or (after.activation == "softmax" and after.decision == "none"):
        if after.activation == "sigmoid" or count < 2:
            raise InputError(f"{config.where}: argmax of {count} classes after {after.activation} is not known here")
        return OutputSpec("labels", "softmax", {v: Label(names[v]) for v in range(1, count)}), None
    if after.activation == "softmax":
        raise InputError(f"{config.where}: a threshold after softmax is not known here: use argmax")
    if count == 1:
        name = names[0] if re.search("background", names[0], re.IGNORECASE) is None else names[1]
        return OutputSpec("labels", after.activation, {1: Label(name)}), None
    painted = after.painted or tuple((channel, channel + 1) for channel in range(count))
    if sorted(channel for channel, _ in painted) != list(range(count)) or len({v for _, v in painted}) != count:
        raise InputError(f"{config.where}: postprocessing does not give each of {count} regions a label of its own")
    labels = {value: Label(names[channel]) for channel, value in painted}
    order = tuple(channel for channel, _ in painted)
    return OutputSpec("regions", after.activation, labels), None if order == tuple(range(count)) else order


def _declared(answer: Mapping[str, Any], count: int | None) -> OutputSpec:
    """Return what the metadata says comes out, where MONAI makes it."""
    if _text(answer.get("format")).lower() != "segmentation":
        return OutputSpec("image", "none")
    names = [name or f"class {number}" for number, name in enumerate(_names(answer, max(count or 2, 2)))]
    return OutputSpec("labels", "softmax", {value: Label(names[value]) for value in range(1, len(names))})


def _post(after: Decision, output: OutputSpec) -> dict[str, Any]:
    if after.largest is None or output.kind not in ("labels", "regions"):
        return {}
    wanted = after.largest or tuple(v for v in output.labels if v)
    return {output.label(value).name: {"keep_largest": True} for value in wanted if value in output.labels}


# The network ----------------------------------------------------------------------------------------------------


def load(bundle: Bundle, trust: bool, fill: Callable) -> "tuple[Card, torch.nn.Module, str]":
    """Return card, network with its weights, and the SHA-256 of weights and configuration together.

    `fill` puts weights into a network, or refuses them.

    Raises
    ------
    FileError
        If a file is missing, damaged, or holds what is never run.
    InputError
        If something is not known, or not trusted (`trust.Untrusted`).
    MissingPart
        If torch is not installed; or MONAI, where only it can build the network.
    """
    # Before they are read: what is trusted is what was read.
    said = [file_sha256(bundle.metadata), file_sha256(bundle.inference)]
    content = _read(bundle)
    card, path = content.card, content.card.weights_path()
    name = card.architecture["name"]
    parsed = None
    if content.missed:
        known = _foreign.hashes(bundle.folder, path)
        if [known[one.relative_to(bundle.folder).as_posix()] for one in (bundle.metadata, bundle.inference)] != said:
            raise FileError(f"the bundle {bundle.folder} changed while it was read: load it again")
        sha256, scripts = _foreign.sha256_of(known), _foreign.scripts_in(known)
        check_trust(card.name, sha256, trust, _described(content.missed))
        parsed = _foreign.parse(content.config, bundle.folder, scripts, _roots(content), content.network)
        card = replace(card, rules=replace(card.rules, parsed=parsed))
        trust = True
    else:
        sha256 = hashlib.sha256("".join([file_sha256(path), *said]).encode()).hexdigest()
    if path.suffix == ".ts":
        module = _script(card, path, trust=None if content.missed else trust)
    else:
        module = _own(parsed, card) if content.own_network else _built(card, name, sha256, trust)
        fill(module, state_dict.read(path), card)
    return card, module if content.channels is None else _reordered(module, content.channels), sha256


def _described(missed: Sequence[str]) -> str:
    """Say what a bundle is whose parts are not all understood, to follow "the model is"."""
    absent = "" if find_spec("monai") else "; MONAI is not installed here: pip install monai"
    return (
        f"a MONAI bundle that says what is not understood here ({'; '.join(missed)}), which only MONAI itself can run, "
        f"with whatever code the bundle brings{absent}"
    )


def _script(card: Card, path: Path, trust: bool | None) -> "torch.nn.Module":
    """Return the network of a TorchScript file; trust of the whole bundle covers it (None)."""
    archive.check(path)
    if trust is not None:
        check_trust(card.name, file_sha256(path), trust, torchscript.RUNS)
    return torchscript.read(path)


def _own(parsed: "_foreign.Parsed", card: Card) -> "torch.nn.Module":
    """Return the network that MONAI made of what the bundle says."""
    from ..torch_import import import_torch

    if not isinstance(parsed.network, import_torch().nn.Module):
        raise InputError(f"the bundle {card.folder} makes no network of its network_def: correct it")
    return parsed.network


def _built(card: Card, name: str, sha256: str, trust: bool) -> "torch.nn.Module":
    """Return the network without weights: ours, or with trust the one that MONAI has under this name."""
    from ..torch_import import import_torch

    torch = import_torch("Loading a network")
    args = card.architecture["args"]
    if not name.startswith(_BY_MONAI):
        from ..networks import build

        return build(name, **args)
    target = name.removeprefix(_BY_MONAI)
    short = target.rpartition(".")[2]
    what = f"a MONAI bundle, whose network {short!r} only MONAI's own code can build from what the bundle says"
    check_trust(card.name, sha256, trust, what)
    known = getattr(need("monai.networks.nets", f"The network {short!r}"), short, None)
    if not isinstance(known, type) or not issubclass(known, torch.nn.Module):
        raise InputError(f"the bundle {card.folder} names the network {target!r}, which MONAI has not: check its name")
    if short == "SwinUNETR" and "img_size" in args and "img_size" not in inspect.signature(known).parameters:
        # MONAI 1.5 took it away: the network is the same for every size, and only checked windows against it.
        args = {name: value for name, value in args.items() if name != "img_size"}
    try:
        return known(**args)
    except Exception as error:  # whatever MONAI says of the arguments
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"MONAI cannot build the network {short!r} of the bundle {card.folder}: {first}") from error


def _reordered(module: "torch.nn.Module", channels: tuple[int, ...]) -> "torch.nn.Module":
    import torch

    class Reordered(torch.nn.Module):
        """A network whose classes come in another order."""

        def __init__(self) -> None:
            super().__init__()
            self.inside = module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inside(x)[:, list(channels)]

    return Reordered()
