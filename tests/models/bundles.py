"""MONAI bundles that are made up for tests: their configurations, as the model zoo writes them, and random weights."""

import json
from pathlib import Path

import numpy as np
import pytest

from napari_lightbox.geometry import Grid
from napari_lightbox.volume import Volume

torch = pytest.importorskip("torch")

from napari_lightbox.models.networks import build  # noqa: E402

NETWORK = {
    "_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8, 16],
    "strides": [2, 2], "num_res_units": 2, "norm": "batch",
}  # fmt: skip
LOAD = [
    {"_target_": "LoadImaged", "keys": "image", "image_only": True},
    {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
]
WINDOW = {
    "_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -2, "a_max": 2, "b_min": 0, "b_max": 1, "clip": True,
}  # fmt: skip
ORIENTATION = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}
SPACING = {"_target_": "Spacingd", "keys": "image", "pixdim": "@pixdim", "mode": "bilinear"}
INVERT = {
    "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image",
    "nearest_interp": False, "to_tensor": True,
}  # fmt: skip
POST = [
    {"_target_": "Activationsd", "keys": "pred", "softmax": True},
    INVERT,
    {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
    {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
]


def configuration(before=(ORIENTATION, SPACING, WINDOW), **changes) -> dict:
    """Return an inference.json; keys with a double underscore reach inside."""
    config = {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "image_key": "image",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": "$list(sorted(glob.glob(@bundle_root + '/*.nii.gz')))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "highres": True,
        "pixdim": "$[1.5, 1.0, 2.5] if @highres else [3.0, 3.0, 3.0]",
        "network_def": dict(NETWORK),
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": [*LOAD, *before]},
        "inferer": {
            "_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 2, "overlap": 0.5,
            "device": "@device",
        },
        "postprocessing": {"_target_": "Compose", "transforms": list(POST)},
        "handlers": [
            {"_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/model.pt'",
             "load_dict": {"model": "@network"}, "map_location": "@device"},
        ],
        "run": ["$@evaluator.run()"],
    }  # fmt: skip
    for path, value in changes.items():
        *parents, last = path.split("__")
        here = config
        for name in parents:
            here = here[name]
        here[last] = value
    return config


def metadata(inputs=("CT image",), classes=("background", "organ", "lesion"), modality="MR", **changes) -> dict:
    """Return a metadata.json."""
    shape = {"type": "image", "spatial_shape": [16, 16, 16], "is_patch_data": True}
    return {
        "version": "0.2.0",
        "name": "made up",
        "description": "A network of random numbers",
        "intended_use": "tests",
        "network_data_format": {
            "inputs": {"image": {**shape, "format": "magnitude", "modality": modality, "num_channels": len(inputs),
                                 "channel_def": {str(n): name for n, name in enumerate(inputs)}}},
            "outputs": {"pred": {**shape, "format": "segmentation", "num_channels": len(classes),
                                 "channel_def": {str(n): name for n, name in enumerate(classes)}}},
        },
        **changes,
    }  # fmt: skip


def network(seed: int = 0, name: str = "monai_unet", **args):
    """Return a network whose answers change quickly from voxel to voxel."""
    torch.manual_seed(seed)
    plain = {k: v for k, v in NETWORK.items() if not k.startswith("_")}
    module = build(name, **{**plain, **args}).eval()
    for part in module.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 2)
    return module


def write_bundle(folder: Path, config: dict | None = None, meta: dict | None = None, weights=None) -> Path:
    """Write a bundle; its weights are those of a network, or any other object to be saved."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "metadata.json").write_text(json.dumps(meta or metadata()))
    (folder / "configs" / "inference.json").write_text(json.dumps(config or configuration()))
    weights = network() if weights is None else weights
    torch.save(
        weights.state_dict() if isinstance(weights, torch.nn.Module) else weights, folder / "models" / "model.pt"
    )
    return folder


def phantom(shape=(14, 30, 26), spacing=(3.1, 0.8, 1.1), seed: int = 0, flip: bool = True) -> Volume:
    """Return an oblique, anisotropic volume that no flip and no swap of axes leaves as it is."""
    turn, _ = np.linalg.qr(np.array([[1.0, 0.15, -0.1], [-0.1, 1.0, 0.2], [0.1, -0.15, 1.0]]))
    turn *= np.sign(np.diag(turn)) * (np.array([1, -1, 1]) if flip else 1)
    grid = Grid.from_spacing(spacing, shape, (-20, 10, 35), turn)
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    data = np.sin(x / 4) + np.cos(y / 5 + 0.02 * z * z) + 0.05 * (x - z) + (np.hypot(y - 8, x - 18) < 6)
    data += np.random.default_rng(seed).normal(0, 0.3, shape)
    return Volume(data.astype(np.float32), grid, name="scan", meta={"modality": "MR", "orientation_known": True})
