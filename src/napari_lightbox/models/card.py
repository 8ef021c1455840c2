"""The card of a model: what it takes, what it gives, who made it and for what. Read and checked without torch.

A model is a folder with a ``card.json`` and its weights. Every field is checked when the card is read; a field that is
wrong or unknown is named in the error.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..errors import FileError, GridError, InputError
from ..geometry import Grid
from ..progress import report
from .fields import Fields, is_number
from .heads import ACTIVATIONS, KINDS, OutputSpec, read_output_spec
from .post import check_rules

if TYPE_CHECKING:
    from .nnunet import Rules

__all__ = [
    "ACTIVATIONS",
    "BLENDINGS",
    "KINDS",
    "LOADERS",
    "RULES",
    "Card",
    "Channel",
    "InputSpec",
    "Intensity",
    "OutputSpec",
    "WindowSpec",
    "file_sha256",
    "output_names",
    "read_output_spec",
]

LOADERS = ("safetensors", "state_dict", "torchscript", "export", "onnx")
RULES = ("none", "window", "minmax", "zscore", "percentile")
BLENDINGS = ("gaussian", "constant")
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Intensity:
    """How grey values become the numbers that a network expects; statistics are those of one frame of one channel.

    Parameters
    ----------
    rule : {"none", "window", "minmax", "zscore", "percentile"}
        ``"window"`` clips to `low` .. `high` and scales that to 0 .. 1; ``"minmax"`` scales the frame's smallest and
        largest value to 0 .. 1; ``"percentile"`` clips to the frame's percentiles `low` and `high` and scales those
        to 0 .. 1; ``"zscore"`` subtracts the mean and divides by the standard deviation.
    low, high : float, optional
        For ``"window"`` in units of the image, for ``"percentile"`` in percent (0.5 and 99.5 where not given). For
        ``"zscore"`` in units of the image: it is clipped to them first.
    mean, std : float, optional
        For ``"zscore"``: fixed numbers in place of the frame's own.
    masked : bool
        For ``"zscore"``: only of and in what is not background, voxels outside it stay as they are. Background is what
        is 0 in all channels and reaches the border.
    """

    rule: str = "none"
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = None
    masked: bool = False


@dataclass(frozen=True)
class Channel:
    """One image that goes into the network. `modality` is a DICOM modality (``"CT"``, ``"MR"``) or None for any."""

    name: str = "image"
    modality: str | None = None
    intensity: Intensity = field(default_factory=Intensity)


@dataclass(frozen=True)
class InputSpec:
    """What the network sees.

    Parameters
    ----------
    dims : {2, 3}
        2 works slice by slice.
    channels : tuple of Channel
        In the order the network wants them.
    orientation : str or None
        Orientation code in x, y, z order that the voxels are brought to; None leaves them as they are stored.
    spacing : tuple of float or None
        mm for each axis in array order, (z, y, x) or (y, x); None leaves it as it comes.
    resize : tuple of int or None
        Number of voxels for each axis, whatever the spacing; not together with `spacing`.
    divisible_by : int
        Every axis is padded to a multiple of this.
    context : int
        For 2D: how many slices on each side go in with the one that is asked about, as channels of their own. Each
        image gives its slices from the first to the last, in the stored order or that of `orientation`; beyond the
        border the outermost slice is repeated.
    """

    dims: int = 3
    channels: tuple[Channel, ...] = (Channel(),)
    orientation: str | None = None
    spacing: tuple[float, ...] | None = None
    resize: tuple[int, ...] | None = None
    divisible_by: int = 1
    context: int = 0

    @property
    def network_channels(self) -> int:
        """Channels that the network itself takes: every image with its neighbouring slices."""
        return len(self.channels) * (2 * self.context + 1)


@dataclass(frozen=True)
class WindowSpec:
    """The sliding window: `size` in array order or None for the whole volume; `overlap` is a share of the size.

    `mirror` are the axes of the window along which a window is flipped too, in all combinations, and averaged.
    """

    size: tuple[int, ...] | None = None
    overlap: float = 0.5
    blending: str = "gaussian"
    mirror: tuple[int, ...] = ()


@dataclass(frozen=True)
class Card:
    """All that is known of a model, apart from its weights.

    Parameters
    ----------
    name, version, licence, description, intended_use, training_data : str
        Shown to people.
    figures : mapping
        How well it did, and on what.
    loader : str
        Format of the weights.
    weights, sha256 : str or None
        File beside the card, and the hash it must have.
    architecture : mapping
        ``{"name": ..., "args": {...}}`` for weights that come without their network.
    input, window, output : InputSpec, WindowSpec, OutputSpec
        What goes in, how it is cut, what comes out.
    folder : Path or None
        Where the card was read.
    rules : nnunet.Rules or None
        How a model of nnU-Net wants its images prepared, in place of the usual way.
    post : mapping
        What is done to the labels afterwards where the caller does not say, as in `post.postprocess`.
    outputs : mapping of str to OutputSpec
        Of a network with several outputs: all of them by name; `output` is the first.

    Examples
    --------
    >>> card = Card.from_dict({"name": "demo", "loader": "safetensors", "weights": "w.safetensors",
    ...     "architecture": {"name": "unet", "args": {}}, "input": {"dims": 3, "channels": [{"name": "CT"}]},
    ...     "output": {"kind": "labels", "activation": "softmax", "labels": {"1": "lung"}}})
    >>> card.output.values, card.window.overlap
    ((0, 1), 0.5)
    """

    name: str
    version: str = ""
    licence: str = ""
    description: str = ""
    intended_use: str = ""
    training_data: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    loader: str = "callable"
    weights: str | None = None
    sha256: str | None = None
    architecture: Mapping[str, Any] = field(default_factory=dict)
    input: InputSpec = field(default_factory=InputSpec)
    window: WindowSpec = field(default_factory=WindowSpec)
    output: OutputSpec = field(default_factory=OutputSpec)
    folder: Path | None = None
    rules: "Rules | None" = None
    post: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, OutputSpec] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], folder: Path | None = None) -> "Card":
        """Check the content of a ``card.json`` and make a card of it.

        Raises
        ------
        InputError
            If a field is missing, unknown or wrong; it is named, with what it may be.
        """
        what = values.get("name") if isinstance(values, Mapping) else None
        where = f"the card of {what!r}" if isinstance(what, str) else "the card"
        fields = Fields(values, where + (f" in {folder}" if folder else ""))
        spec = _read_input(fields.part("input", required=True))
        outputs = _read_outputs(fields, spec.dims)
        output = next(iter(outputs.values()))
        card = cls(
            name=fields.text("name", required=True),
            version=fields.text("version"),
            licence=fields.text("licence"),
            description=fields.text("description"),
            intended_use=fields.text("intended_use"),
            training_data=fields.text("training_data"),
            figures=fields.mapping("figures"),
            loader=fields.choice("loader", LOADERS),
            weights=fields.text("weights", required=True),
            sha256=fields.sha256("sha256"),
            architecture=fields.mapping("architecture"),
            input=spec,
            window=_read_window(fields.part("window"), fields),
            output=output,
            folder=folder,
            post=_read_post(fields, output),
            outputs=MappingProxyType(outputs if "outputs" in fields.taken else {}),
        )
        fields.finish()
        _check_together(card, fields)
        return card

    @classmethod
    def read(cls, folder: str | os.PathLike) -> "Card":
        """Read the card of a model's folder.

        Raises
        ------
        FileError
            If there is no folder, no card in it, or the card is not JSON.
        InputError
            If a field of the card is wrong.
        """
        folder = Path(folder)
        path = folder / "card.json"
        if not folder.is_dir():
            raise FileError(f"model {str(folder)!r} is not a folder: give the folder that holds card.json and weights")
        if not path.is_file():
            raise FileError(f"folder {folder} holds no card.json: write one that says what the model takes and gives")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FileError(f"{path} cannot be read as JSON: {error}") from error
        return cls.from_dict(values, folder)

    def weights_path(self) -> Path:
        """Return the file of the weights; refuse one that is missing or lies outside the folder."""
        if self.folder is None or self.weights is None:
            raise FileError(f"model {self.name!r} has no folder with weights: load it from its folder")
        path = self.folder / self.weights
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise FileError(f"weights {self.weights!r} lie outside the model's folder {self.folder}: move them into it")
        if not path.is_file():
            raise FileError(f"weights {path} are not there: put the file beside card.json")
        return path

    def verify(self) -> str:
        """Return the SHA-256 of the weights, and refuse them if the card names another one."""
        path = self.weights_path()
        found = file_sha256(path)
        if self.sha256 is not None and found != self.sha256:
            raise FileError(
                f"weights {path} have SHA-256 {found[:12]}..., but the card says {self.sha256[:12]}...: the file is "
                "damaged or not the one that belongs to the card, so fetch it again"
            )
        return found

    def describe(self) -> str:
        """Say in a few lines what the card says, for people."""
        channels = ", ".join(
            c.name + (f" ({c.modality})" if c.modality and c.modality != c.name else "") for c in self.input.channels
        )
        names = ", ".join(output_names(self.output))
        lines = [
            f"{self.name} {self.version}".strip(),
            self.description,
            f"Input: {self.input.dims}D, {channels}",
            f"Output: {self.output.kind}" + (f": {names}" if names else ""),
            self.intended_use and f"Intended use: {self.intended_use}",
            self.training_data and f"Training data: {self.training_data}",
            self.licence and f"Licence: {self.licence}",
        ]
        return "\n".join([*(line for line in lines if line), *_figure_lines(self.figures)])


def output_names(output: OutputSpec) -> list[str]:
    """Return what an output is about, for people: its labels, classes, or values with their units."""
    if output.kind == "value":
        return [q.name + (f" ({q.unit})" if q.unit else "") for q in output.quantities]
    return list(output.classes) or [label.name for value, label in output.labels.items() if value]


def _figure_lines(figures: Mapping[str, Any], indent: str = "") -> list[str]:
    """Write figures one a line, those under one name indented below it."""
    lines = []
    for key, value in figures.items():
        name = str(key).replace("_", " ")
        if isinstance(value, Mapping):
            lines += [f"{indent}{name}:", *_figure_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
    return lines


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    total = path.stat().st_size
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if total > _CHUNK:
                report("MB of weights", file.tell() >> 20, total >> 20)
    return digest.hexdigest()


# Reading the parts ----------------------------------------------------------------------------------------------


def _read_input(fields: Fields) -> InputSpec:
    dims = fields.take("dims", 3)
    if dims not in (2, 3) or isinstance(dims, bool):
        raise fields.wrong("dims", "use 2 or 3")
    channels = fields.take("channels")
    if not isinstance(channels, list) or not channels:
        raise fields.wrong("channels", 'give a list with one object an image, such as [{"name": "CT"}]')
    orientation = fields.take("orientation")
    if orientation is not None:
        try:
            Grid.from_spacing((1, 1, 1), (1, 1, 1)).order_for(orientation)
        except GridError as error:
            raise fields.wrong("orientation", "give a code in x, y, z order such as LPS, or null") from error
        orientation = orientation.upper()
    divisible = fields.take("divisible_by", 1)
    if not is_number(divisible) or divisible < 1 or int(divisible) != divisible:
        raise fields.wrong("divisible_by", "give a whole number of at least 1")
    spec = InputSpec(
        dims=dims,
        channels=tuple(_read_channel(Fields(c, fields.where, f"input.channels[{i}].")) for i, c in enumerate(channels)),
        orientation=orientation,
        spacing=fields.numbers("spacing", dims, whole=False),
        resize=fields.numbers("resize", dims, whole=True),
        divisible_by=int(divisible),
        context=_read_context(fields, dims),
    )
    if spec.spacing and spec.resize:
        raise fields.wrong("resize", "give spacing or resize, not both")
    fields.finish()
    return spec


def _read_context(fields: Fields, dims: int) -> int:
    context = fields.take("context", 0)
    if not is_number(context) or context < 0 or int(context) != context:
        raise fields.wrong("context", "give how many slices on each side go in too, a whole number of at least 0")
    if context and dims == 3:
        raise fields.wrong("context", "a 3D network sees neighbouring slices anyway: use dims 2, or leave it out")
    return int(context)


def _read_channel(fields: Fields) -> Channel:
    name = fields.text("name", required=True)
    modality = fields.take("modality")
    if modality is not None and (not isinstance(modality, str) or not modality):
        raise fields.wrong("modality", "give a modality such as CT, MR or US, or null for any")
    intensity = _read_intensity(fields.part("intensity"))
    fields.finish()
    return Channel(name, modality and modality.upper(), intensity)


def _read_intensity(fields: Fields) -> Intensity:
    rule = fields.choice("rule", RULES, "none")
    names: dict[str, Callable[[], tuple]] = {
        "window": lambda: (fields.number("low"), fields.number("high")),
        "percentile": lambda: (fields.number("low", 0.5), fields.number("high", 99.5)),
        "zscore": lambda: tuple(fields.number(name) for name in ("low", "high", "mean", "std")),
    }
    found = Intensity(rule, *names.get(rule, tuple)())
    fields.finish()
    if rule in ("window", "percentile"):
        if found.low is None or found.high is None or not found.low < found.high:
            raise fields.wrong("high", f"rule {rule!r} needs low and high with low < high")
        if rule == "percentile" and not 0 <= found.low < found.high <= 100:
            raise fields.wrong("high", "percentiles lie between 0 and 100")
    if rule == "zscore" and found.low is not None and found.high is not None and not found.low < found.high:
        raise fields.wrong("high", "it must be greater than low")
    if (found.mean is None) != (found.std is None) or (found.std is not None and found.std <= 0):
        raise fields.wrong("std", "give mean and std together, std greater than zero")
    return found


def _read_window(fields: Fields, card: Fields) -> WindowSpec:
    dims = card.values["input"].get("dims", 3)
    overlap = fields.number("overlap", 0.5)
    if overlap is None or not 0 <= overlap < 1:
        raise fields.wrong("overlap", "give a share from 0 to less than 1")
    size = fields.numbers("size", dims, whole=True)
    mirror = fields.take("mirror") or []
    if not isinstance(mirror, list) or any(type(a) is not int or not 0 <= a < dims for a in mirror):
        raise fields.wrong("mirror", f"give a list of axes of the window, from 0 to {dims - 1}")
    blending = fields.choice("blending", BLENDINGS, "gaussian")
    fields.finish()
    return WindowSpec(size, float(overlap), blending, tuple(dict.fromkeys(mirror)))


def _read_outputs(fields: Fields, dims: int) -> dict[str, OutputSpec]:
    """Read ``output``, or each of ``outputs``, which the network gives under that key or the number in ``take``."""
    if "outputs" not in fields.values:
        return {"": read_output_spec(fields.part("output", required=True), dims)}
    part = fields.part("outputs")
    if not part.values or "output" in fields.values:
        raise fields.wrong("outputs", "name each output of the network, in place of output")
    found = {name: read_output_spec(part.part(name), dims) for name in part.values}
    return {name: spec if spec.take is not None else replace(spec, take=name) for name, spec in found.items()}


def _read_post(fields: Fields, output: OutputSpec) -> Mapping[str, Any]:
    rules = fields.mapping("post")
    if rules and output.kind not in ("labels", "regions"):
        raise fields.wrong("post", f"only labels can be post-processed, not {output.kind}: leave it out")
    return MappingProxyType(check_rules(rules, output.labels, f"{fields.where}: post"))


def _check_tables(card: Card, fields: Fields) -> None:
    """Refuse windows for what is asked of a whole image."""
    if card.output.kind not in ("class", "value") and not card.output.factor:
        return
    if card.output.kind in ("class", "value") and card.window.size is not None:
        raise InputError(
            f"{fields.where}: window.size is {list(card.window.size)}, but kind {card.output.kind!r} is an answer for "
            "the whole image: give input.resize, and leave window out"
        )
    if card.output.factor and card.window.mirror:
        raise InputError(
            f"{fields.where}: window.mirror is {list(card.window.mirror)}, which is not done with output.factor: leave "
            "one of them out"
        )


def _check_together(card: Card, fields: Fields) -> None:
    """Check what concerns more than one field."""
    _check_tables(card, fields)
    by = card.input.divisible_by
    for name, sizes in (("window.size", card.window.size), ("input.resize", card.input.resize)):
        if sizes and any(n % by for n in sizes):
            raise InputError(f"{fields.where}: {name} {list(sizes)} must be divisible by input.divisible_by, {by}")
    if card.loader not in ("safetensors", "state_dict"):
        return
    args = card.architecture.get("args", {})
    if not isinstance(card.architecture.get("name"), str) or not isinstance(args, Mapping):
        raise fields.wrong("architecture", f'loader {card.loader!r} needs {{"name": "unet", "args": {{...}}}}')
    said = {"dims": card.input.dims, "in_channels": card.input.network_channels}
    if card.output.channels and not card.outputs:
        said["out_channels"] = card.output.channels
    for name, value in said.items():
        if name in args and args[name] != value:
            raise InputError(
                f"{fields.where}: architecture.args.{name} is {args[name]!r}, but input and output of the card need "
                f"{value}: correct the one that is wrong"
            )
