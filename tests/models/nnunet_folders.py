"""Results folders as nnU-Net v2 writes them, with networks that are made up here."""

import json

import numpy as np
import torch

from napari_lightbox.models.networks import build

CT = {"mean": 90.0, "std": 120.0, "percentile_00_5": -300.0, "percentile_99_5": 400.0, "median": 80.0}


def architecture(dims=3, kind="PlainConvUNet", features=(4, 8), strides=None, kernels=None):
    """Return the part of the plans that names a network."""
    per_stage = "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"
    stages = len(features)
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(features),
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": kernels or [[3] * dims] * stages,
            "strides": strides or [[1] * dims, *[[2] * dims] * (stages - 1)],
            per_stage: [1] * stages,
            "n_conv_per_stage_decoder": [1] * (stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def resampling(order):
    return {"is_seg": order is None, "order": order or 1, "order_z": 0, "force_separate_z": None}


def make_plans(*, name="3d_fullres", spacing=(1.0, 1.0, 1.0), patch=(16, 16, 16), schemes=("CTNormalization",),
               masked=None, transpose=(0, 1, 2), network=None, **changes):  # fmt: skip
    way = {"resampling_fn_data": None, "resampling_fn_seg": None, "resampling_fn_probabilities": None}
    way = dict.fromkeys(way, "resample_data_or_seg_to_shape")
    orders = {"data": resampling(3), "seg": {**resampling(None)}, "probabilities": resampling(1)}
    way.update({f"resampling_fn_{what}_kwargs": args for what, args in orders.items()})
    config = {
        "data_identifier": "made_up",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch),
        "spacing": list(spacing),
        "normalization_schemes": list(schemes),
        "use_mask_for_norm": list(masked or [False] * len(schemes)),
        "architecture": network or architecture(len(patch)),
        **way,
        **changes,
    }
    return {
        "dataset_name": "Dataset001_MadeUp",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(transpose),
        "transpose_backward": [int(n) for n in np.argsort(transpose)],
        "configurations": {name: config},
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(n): CT for n in range(len(schemes))},
    }


def make_dataset(labels=None, channels=("CT",), **more):
    labels = labels or {"background": 0, "one": 1, "two": 2}
    return {"channel_names": {str(n): c for n, c in enumerate(channels)}, "labels": labels, "numTraining": 3,
            "file_ending": ".nii.gz", **more}  # fmt: skip


def heads(dataset):
    """Return how many channels the network gives."""
    table = {k: v for k, v in dataset["labels"].items() if k != "ignore"}
    return len(table) - any(isinstance(v, list) and len(v) > 1 for v in table.values())


def make_network(plans, dataset, name="3d_fullres", seed=0):
    """Return a network of the plans, with random weights that tell the classes apart."""
    torch.manual_seed(seed)
    config = plans["configurations"][name]
    kind = config["architecture"]["network_class_name"].rpartition(".")[2]
    known = {"PlainConvUNet": "plain_conv_unet", "ResidualEncoderUNet": "residual_encoder_unet"}
    network = build(known[kind], dims=len(config["patch_size"]), in_channels=len(dataset["channel_names"]),
                    out_channels=heads(dataset), **config["architecture"]["arch_kwargs"])  # fmt: skip
    with torch.no_grad():
        for key, value in network.named_parameters():
            value.copy_(torch.randn_like(value) * (0.3 if value.ndim > 1 else 0.1) + ("norm.weight" in key))
    return network.eval()


def pointwise(architecture):
    """Return an architecture without normalisation and activation: its networks are linear."""
    none = dict.fromkeys(("norm_op", "norm_op_kwargs", "nonlin", "nonlin_kwargs"))
    return {**architecture, "arch_kwargs": {**architecture["arch_kwargs"], **none}}


def known_network(plans, dataset, name="3d_fullres", *, limits=(0.0,), shift=0):
    """Return a network that compares its first image with limits: class n + 1 wins above limit n, so far as it rises.

    `shift` makes it look at the next voxel along the last axis, in place of the one it answers for.
    """
    network = make_network(plans, dataset, name)
    features = plans["configurations"][name]["architecture"]["arch_kwargs"]["features_per_stage"][0]
    middle = (1,) * len(plans["configurations"][name]["patch_size"])
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
        network.encoder.stages[0][0].convs[0].conv.weight[(0, 0, *middle[:-1], 1 + shift)] = 1
        network.decoder.stages[0].convs[0].conv.weight[(0, features, *middle)] = 1
        head = network.decoder.seg_layers[-1]
        # Lines of rising slope that cross at the limits.
        slopes = np.arange(len(limits) + 1.0)
        offsets = -np.concatenate([[0], np.cumsum(limits)])
        if heads(dataset) == len(limits):
            slopes, offsets = np.full(len(limits), 50.0), -50 * np.asarray(limits)
        head.weight[:, 0] = torch.tensor(slopes).reshape(-1, *[1] * len(middle))
        head.bias[:] = torch.tensor(offsets)
    return network


def write_checkpoint(path, network, *, name="3d_fullres", mirror=(0, 1, 2), trainer="nnUNetTrainer", **more):
    """Write a checkpoint with all that nnU-Net's training puts into it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    optimiser = torch.optim.SGD(network.parameters(), 0.01, momentum=0.99, nesterov=True)
    content = {
        "network_weights": network.state_dict(),
        "optimizer_state": optimiser.state_dict(),
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)], "epochs": [np.int64(1)], "lrs": [0.01]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 2,
        "init_args": {"plans": {"a": 1}, "configuration": name, "fold": 0, "device": torch.device("cpu")},
        "trainer_name": trainer,
        "inference_allowed_mirroring_axes": mirror,
        **more,
    }
    torch.save(content, path)


def write_folder(folder, plans=None, dataset=None, *, folds=1, name="3d_fullres", networks=None, **checkpoint):
    """Write a results folder, and return its networks."""
    plans, dataset = plans or make_plans(name=name), dataset or make_dataset()
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    networks = networks or [make_network(plans, dataset, name, seed) for seed in range(folds)]
    for fold, network in enumerate(networks):
        write_checkpoint(folder / f"fold_{fold}" / "checkpoint_final.pth", network, name=name, **checkpoint)
    return networks
