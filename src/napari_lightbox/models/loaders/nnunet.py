"""Results folders of nnU-Net v2: plans and data set are read as data, and the network is built here.

No name in such a folder is looked up or imported, as nnU-Net itself does with those in its plans: an architecture, a
normalisation or a resampling that is not known is refused by its name. So a folder needs no trust, and neither the
package ``nnunetv2`` nor its environment variables.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import FileError, InputError
from ...volume import Label
from ..card import Card, Channel, InputSpec, Intensity, OutputSpec, WindowSpec, file_sha256
from ..fields import Fields, is_number
from ..nnunet import Resampling, Rules
from . import _checkpoint

if TYPE_CHECKING:
    import torch

_FINAL = "checkpoint_final.pth"
_NETWORKS = {
    "PlainConvUNet": "plain_conv_unet",
    "ResidualEncoderUNet": "residual_encoder_unet",
    "ResidualUNet": "residual_unet",
}
# How the axes lie after nnU-Net read a file: as stored, or turned to RAS.
_READERS = {
    "SimpleITKIO": None, "NibabelIO": None, "NaturalImage2DIO": None, "Tiff3DIO": None,
    "NibabelIOWithReorient": "RAS", "SimpleITKIOWithReorient": "RAS",
}  # fmt: skip
_MODALITIES = ("CT", "MR", "MRI", "PT", "PET", "US")


@dataclass(frozen=True)
class Results:
    """A results folder: where it is, what was named, and the checkpoints to run."""

    folder: Path
    named: Path
    checkpoints: tuple[Path, ...]


# Finding it -----------------------------------------------------------------------------------------------------


def find(path: Path) -> Results | None:
    """Return the results that a path means, or None where it is no such folder.

    Parameters
    ----------
    path : Path
        The folder with ``plans.json`` (``nnUNetTrainer__nnUNetPlans__3d_fullres``), the one above it, one of its
        folds, or a checkpoint. Of a folder with several folds all are averaged, ``fold_all`` only where it is alone.

    Raises
    ------
    FileError
        If ``dataset.json`` or every checkpoint is missing.
    InputError
        If there are several such folders to choose from.
    """
    if path.suffix == ".pth" and path.is_file():
        folder, found = path.absolute().parent.parent, (path,)
    elif path.name.startswith("fold_") and path.is_dir():
        folder, found = path.absolute().parent, (path / _FINAL,)
    elif (path / "plans.json").is_file():
        folds = sorted(p for p in path.glob(f"fold_*/{_FINAL}") if p.is_file())
        folder, found = path, tuple(p for p in folds if p.parent.name != "fold_all") or tuple(folds)
    elif path.is_dir():
        inside = sorted(p.parent for p in path.glob("*__*__*/plans.json"))
        if len(inside) > 1:
            names = ", ".join(p.name for p in inside)
            raise InputError(f"{path} holds {len(inside)} models of nnU-Net ({names}): give one of these folders")
        return find(inside[0]) if inside else None
    else:
        return None
    if not (folder / "plans.json").is_file():
        return None
    if not (folder / "dataset.json").is_file():
        raise FileError(f"{folder} holds no dataset.json: copy it from the results folder of nnU-Net, where it lies")
    if not found or not found[0].is_file():
        raise FileError(
            f"{path} holds no {_FINAL}: let the training end, or give the file of another checkpoint, such as "
            "fold_0/checkpoint_best.pth"
        )
    return Results(folder, path, found)


# The card, without torch ----------------------------------------------------------------------------------------


def read_card(results: Results) -> Card:
    """Return the card that plans, data set and checkpoints make; the weights stay closed.

    Raises
    ------
    FileError
        If a file is damaged.
    InputError
        If something in them is not known, or the model is the second of a cascade.
    """
    plans = Fields(_json(results.folder / "plans.json"), f"{results.folder / 'plans.json'}")
    dataset = Fields(_json(results.folder / "dataset.json"), f"{results.folder / 'dataset.json'}")
    said = _said(results)
    config = _configuration(plans, said["configuration"])
    patch = config.take("patch_size")
    dims = len(patch) if isinstance(patch, list) else 0
    if dims not in (2, 3):
        raise config.wrong("patch_size", "give 2 or 3 numbers")
    channels = _channels(plans, dataset, config)
    transpose = plans.take("transpose_forward", [0, 1, 2])
    if not isinstance(transpose, list) or sorted(map(str, transpose)) != ["0", "1", "2"]:
        raise plans.wrong("transpose_forward", "give the axes 0, 1 and 2 in some order")
    spacing = config.numbers("spacing", dims, whole=False)
    if spacing is None:
        raise config.wrong("spacing", "give one number for each axis of patch_size")
    reader = plans.take("image_reader_writer", "SimpleITKIO")
    if reader not in _READERS:
        raise plans.wrong("image_reader_writer", f"how it turns images is known of {', '.join(_READERS)}")
    pixels = reader == "NaturalImage2DIO"
    output = _output(dataset)
    network, args = _network(config, dims, said["trainer"])
    folds = ", ".join(p.parent.name.removeprefix("fold_") for p in results.checkpoints)
    cases = dataset.take("numTraining")
    name = plans.text("dataset_name", required=True)
    # The card's spacing is in the order of the image's axes; that of a 2D network depends on where its slices lie.
    in_order = tuple(spacing[transpose.index(a)] for a in range(3)) if dims == 3 else spacing
    return Card(
        name=f"{name} {said['configuration']}",
        description=f"nnU-Net v2 ({said['trainer']}, {plans.text('plans_name')}), fold {folds}",
        training_data=f"{name}, {cases} cases" if cases else name,
        loader="nnunet",
        architecture={
            "name": network,
            "args": {"dims": dims, "in_channels": len(channels), "out_channels": len(output.values), **args},
        },
        input=InputSpec(dims, channels, _READERS[reader], None if pixels else in_order),
        window=WindowSpec(config.numbers("patch_size", dims, whole=True), 0.5, "gaussian", _mirror(said, dims)),
        output=output,
        folder=results.named,
        rules=Rules(
            transpose=tuple(transpose),
            spacing=spacing,
            image=_resampling(config, "data", 3),
            logits=_resampling(config, "probabilities", 1),
            folds=len(results.checkpoints),
            in_pixels=pixels,
        ),
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read as JSON: {error}") from error


def _said(results: Results) -> dict[str, Any]:
    """Return what the checkpoints say of themselves; all must say the same."""
    found = []
    for path in results.checkpoints:
        content = _checkpoint.inspect(path)
        start = content.get("init_args")
        configuration = start.get("configuration") if isinstance(start, Mapping) else None
        trainer, mirror = content.get("trainer_name"), content.get("inference_allowed_mirroring_axes")
        if not isinstance(configuration, str) or not isinstance(trainer, str):
            raise FileError(f"checkpoint {path} names no configuration and trainer: give one of nnU-Net v2")
        found.append({"configuration": configuration, "trainer": trainer, "mirror": mirror})
    for path, one in zip(results.checkpoints, found, strict=True):
        if one != found[0]:
            raise InputError(f"checkpoint {path} is of another training than {results.checkpoints[0]}: give one fold")
    return found[0]


def _mirror(said: Mapping[str, Any], dims: int) -> tuple[int, ...]:
    axes = said["mirror"] or ()
    if not isinstance(axes, list | tuple) or any(type(a) is not int or not 0 <= a < dims for a in axes):
        raise FileError(f"the checkpoint mirrors along {axes!r}, but the network has {dims} axes: it is damaged")
    return tuple(axes)


def _configuration(plans: Fields, name: str) -> Fields:
    """Return a configuration with all that it inherits."""
    every = plans.mapping("configurations")
    chain: list[str] = []
    merged: dict[str, Any] = {}
    following: Any = name
    while following is not None:
        if following in chain or not isinstance(every.get(following), Mapping):
            raise InputError(f"{plans.where}: configuration {following!r} is missing, or inherits from itself")
        chain.append(following)
        merged = {**every[following], **merged}
        following = every[following].get("inherits_from")
    if merged.get("previous_stage"):
        raise InputError(
            f"{plans.where}: {name} is the second network of a cascade, which needs what {merged['previous_stage']} "
            "found and is not run here: take the 3d_fullres model, or run nnUNetv2_predict and open what it wrote"
        )
    for key, wanted in (("preprocessor_name", "DefaultPreprocessor"),):
        if merged.get(key, wanted) != wanted:
            raise InputError(f"{plans.where}: {key} {merged[key]!r} is not known: only {wanted} is run here")
    return Fields(merged, plans.where, f"configurations.{name}.")


def _channels(plans: Fields, dataset: Fields, config: Fields) -> tuple[Channel, ...]:
    names = dataset.mapping("channel_names") or dataset.mapping("modality")
    if not names:
        raise dataset.wrong("channel_names", 'name the images, such as {"0": "CT"}')
    key = "foreground_intensity_properties_per_channel"
    figures = plans.mapping(key if key in plans.values else "foreground_intensity_properties_by_modality")
    schemes, masked = config.take("normalization_schemes"), config.take("use_mask_for_norm")
    if not isinstance(schemes, list) or len(schemes) != len(names):
        raise config.wrong("normalization_schemes", f"give one for each of {len(names)} channels")
    if not isinstance(masked, list) or len(masked) != len(names):
        raise config.wrong("use_mask_for_norm", f"give true or false for each of {len(names)} channels")
    found = []
    for number, name in enumerate(names.values()):
        figure = Fields(figures.get(str(number), {}), plans.where, f"{key}.{number}.")
        rule = _intensity(schemes[number], masked[number] is True, figure, config)
        modality = name.upper() if isinstance(name, str) and name.upper() in _MODALITIES else None
        found.append(Channel(str(name), modality, rule))
    return tuple(found)


def _intensity(scheme: Any, masked: bool, figures: Fields, config: Fields) -> Intensity:
    if scheme == "CTNormalization":
        names = ("percentile_00_5", "percentile_99_5", "mean", "std")
        low, high, mean, std = (figures.number(name) for name in names)
        for name, value in zip(names, (low, high, mean, std), strict=True):
            if value is None:
                raise figures.wrong(name, "CTNormalization needs a number")
        return Intensity("zscore", low, high, mean, max(std, 1e-8))
    known = {
        "ZScoreNormalization": Intensity("zscore", masked=masked),
        "NoNormalization": Intensity("none"),
        "RescaleTo01Normalization": Intensity("minmax"),
        "RGBTo01Normalization": Intensity("window", 0.0, 255.0),
    }
    if scheme not in known:
        raise config.wrong("normalization_schemes", f"{scheme!r} is not one of CTNormalization, {', '.join(known)}")
    return known[scheme]


def _resampling(config: Fields, what: str, order: int) -> Resampling:
    """Return how the plans resample images ("data") or logits ("probabilities")."""
    name = config.take(f"resampling_fn_{what}", "resample_data_or_seg_to_shape")
    args = config.mapping(f"resampling_fn_{what}_kwargs")
    if name == "no_resampling_hack" and config.values.get("resampling_fn_data") == name:
        return Resampling(order=None)
    if name == "resample_torch_fornnunet":
        args = {"force_separate_z": args.get("force_separate_z"), "order": 1, "order_z": 0}
    elif name != "resample_data_or_seg_to_shape":
        raise config.wrong(f"resampling_fn_{what}", "it is not known: only nnU-Net's own two are run here")
    found = Resampling(args.get("order", order), args.get("order_z", 0), args.get("force_separate_z"))
    orders = (0, 1, 3) if what == "data" else (1,)
    if found.order not in orders or found.order_z not in (*orders, 0) or not is_flag(found.separate):
        raise config.wrong(f"resampling_fn_{what}_kwargs", f"order and order_z must be among {orders} (order_z also 0)")
    if args.get("is_seg"):
        raise config.wrong(f"resampling_fn_{what}_kwargs", "is_seg is not known here")
    return found


def is_flag(value: Any) -> bool:
    """Whether a value is True, False or None."""
    return value is None or isinstance(value, bool)


def _output(dataset: Fields) -> OutputSpec:
    """Return the classes: labels that exclude each other, or regions that overlap. The ignore label is none."""
    table = {name: value for name, value in dataset.mapping("labels").items() if name != "ignore"}
    if not table:
        raise dataset.wrong("labels", 'name the classes, such as {"background": 0, "liver": 1}')
    if any(isinstance(value, list) and len(value) > 1 for value in table.values()):
        regions = [name for name, value in table.items() if {_whole(v, dataset) for v in _listed(value)} != {0}]
        order = dataset.take("regions_class_order")
        if not isinstance(order, list) or len(order) != len(regions) or len(set(map(str, order))) != len(order):
            raise dataset.wrong("regions_class_order", f"give a value of its own for each of {len(regions)} regions")
        values = [_whole(value, dataset) for value in order]
        return OutputSpec("regions", "sigmoid", {v: Label(n) for v, n in zip(values, regions, strict=True)})
    labels = {_whole(_listed(value)[0], dataset): Label(str(name)) for name, value in table.items()}
    if sorted(labels) != list(range(len(table))) or len(labels) < 2:
        raise dataset.wrong("labels", "values must run from 0 (background) without a gap")
    return OutputSpec("labels", "softmax", {value: labels[value] for value in sorted(labels) if value})


def _listed(value: Any) -> list:
    return value if isinstance(value, list) and value else [value]


def _whole(value: Any, dataset: Fields) -> int:
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if not is_number(number) or number != int(number) or not 0 <= number <= 65535:
        raise dataset.wrong("labels", f"{value!r} is no label value: use whole numbers from 0 to 65535")
    return int(number)


# The network ----------------------------------------------------------------------------------------------------


def _network(config: Fields, dims: int, trainer: str) -> tuple[str, dict[str, Any]]:
    """Return the name of the architecture here, and its arguments."""
    if "architecture" in config.values:
        part = config.part("architecture")
        name, args = part.text("network_class_name", required=True), dict(part.mapping("arch_kwargs"))
    else:
        name, args = _older_network(config, dims)
    last = name.rpartition(".")[2]
    if last not in _NETWORKS or not name.startswith("dynamic_network_architectures."):
        raise InputError(
            f"{config.where}: the network {name!r} is none that is built here ({', '.join(_NETWORKS)}): run it with "
            "nnU-Net, or export it with torch.export"
        )
    if trainer == "nnUNetTrainerBN":
        args.update(norm_op=f"torch.nn.BatchNorm{dims}d", norm_op_kwargs={"eps": 1e-5, "affine": True})
    return _NETWORKS[last], args


def _older_network(config: Fields, dims: int) -> tuple[str, dict[str, Any]]:
    """Return the same from plans as nnU-Net wrote them up to version 2.3."""
    name, counts = config.text("UNet_class_name", required=True), config.take("n_conv_per_stage_encoder")
    first, most = config.number("UNet_base_num_features"), config.number("unet_max_num_features")
    if not isinstance(counts, list) or first is None or most is None:
        raise config.wrong("n_conv_per_stage_encoder", "the plans name no architecture: plan again with nnU-Net v2.4")
    return f"dynamic_network_architectures.{name}", {
        "n_stages": len(counts),
        "features_per_stage": [int(min(first * 2**stage, most)) for stage in range(len(counts))],
        "kernel_sizes": config.take("conv_kernel_sizes"),
        "strides": config.take("pool_op_kernel_sizes"),
        "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage": counts,
        "n_conv_per_stage_decoder": config.take("n_conv_per_stage_decoder"),
        "conv_bias": True,
        "norm_op": f"torch.nn.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def load(results: Results, card: Card, fill: Any) -> "tuple[torch.nn.Module, str]":
    """Return the network with the weights of all folds, and the SHA-256 of the checkpoints.

    Several folds answer together: the mean of their logits. `fill` puts weights into a network, or refuses them.
    """
    from ..networks import build

    hashes = [file_sha256(path) for path in results.checkpoints]
    networks = []
    for path in results.checkpoints:
        networks.append(build(card.architecture["name"], **card.architecture["args"]))
        fill(networks[-1], _checkpoint.weights(path), card)
    sha256 = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
    if len(networks) == 1:
        return networks[0], sha256
    from ..folds import Folds

    return Folds(networks), sha256
