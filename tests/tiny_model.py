"""A folder with a scan and a model with random weights, for commands that explain one."""

import json

import napari_lightbox as lb

ARGS = {"dims": 2, "out_channels": 2, "channels": [4, 8], "norm": "batch"}


def write_tiny(folder, scan: "lb.Volume", *, overlap: float = 0.0, **channel):
    """Write ``scan.nii.gz`` and the model ``tiny``, whose only class is called ``<thing>``, and return the folder."""
    import safetensors.torch
    import torch

    from napari_lightbox.models.networks import build

    (folder / "tiny").mkdir()
    torch.manual_seed(4)
    safetensors.torch.save_file(build("unet", **ARGS).state_dict(), folder / "tiny" / "w.safetensors")
    card = {"name": "tiny", "version": "1", "licence": "-", "loader": "safetensors", "weights": "w.safetensors",
            "sha256": None, "architecture": {"name": "unet", "args": ARGS},
            "input": {"dims": 2, "channels": [{"name": "image", **channel}], "divisible_by": 2},
            "window": {"size": [16, 16], "overlap": overlap},
            "output": {"kind": "labels", "labels": {"1": "<thing>"}}}  # fmt: skip
    (folder / "tiny" / "card.json").write_text(json.dumps(card))
    lb.write(scan, folder / "scan.nii.gz")
    return folder
