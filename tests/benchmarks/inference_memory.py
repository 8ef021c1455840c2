"""Peak memory of a prediction beside MONAI's and nnU-Net's sliding windows; each in a process of its own.

Run ``python tests/benchmarks/inference_memory.py`` for the table, classes by depth, or with ``--case JSON`` for one
measurement. The network is one that needs next to nothing itself, with ``channels`` a U-Net, or with ``folder`` that
of a model's folder, which is trusted. Peak resident memory counts from after the libraries
are loaded and the image is there. Peers that are not installed are named as absent.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from napari_lightbox.models import predict, quote
from napari_lightbox.models.card import Card
from napari_lightbox.models.loaders import Model, load
from napari_lightbox.models.networks import build
from napari_lightbox.volume import Volume

_TABLE = [(classes, depth) for classes in (3, 20, 60) for depth in (100, 200)]


class Shades(torch.nn.Module):
    """Gives each class a grey value, and voxels to the class whose value is nearest."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return minus the distance to each class's grey value."""
        out = torch.empty((len(x), self.classes, *x.shape[2:]))
        for number in range(self.classes):
            torch.sub(x[:, 0], number / self.classes, out=out[:, number]).abs_().neg_()
        return out


def status(name: str) -> int:
    """Return a line of the process's status, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def prepare(case: dict) -> tuple[Volume, Model]:
    """Return the image and the model of a case."""
    if case.get("folder"):
        return image(case), load(case["folder"], trust=True)
    classes, dims = case["classes"], len(case["window"])
    args = {"dims": dims, "channels": case.get("channels"), "out_channels": classes, **case.get("args", {})}
    card = {
        "name": "measured",
        "loader": "safetensors",
        "weights": "none",
        "architecture": {"name": "unet", "args": args if case.get("channels") else {}},
        "input": {
            "dims": dims,
            "channels": [{"name": "image", "intensity": {"rule": "window", "low": -1000, "high": 1000}}],
            "spacing": case.get("spacing"),
        },
        "window": {"size": case["window"], "overlap": case.get("overlap", 0.5)},
        "output": {"kind": "labels", "labels": {str(n): f"class {n}" for n in range(1, classes)}},
    }
    torch.manual_seed(0)
    network = build("unet", **args) if case.get("channels") else Shades(classes)
    return image(case), Model(Card.from_dict(card), network)


def image(case: dict) -> Volume:
    """Return the image of a case."""
    data = np.empty(case["shape"], np.int16)
    rng = np.random.default_rng(0)
    for plane in data:
        plane[...] = rng.integers(-1000, 1000, plane.shape)
    return Volume.from_array(data, spacing=(1, 1, 1), **({"meta": case["meta"]} if "meta" in case else {}))


def measure(case: dict) -> dict:
    """Run a case, and return what it was quoted and took."""
    torch.set_num_threads(1)
    volume, model = prepare(case)
    if not case.get("folder"):
        with torch.inference_mode():
            model.module(torch.zeros(1, 1, *[16] * len(case["window"])))
    predict(Volume.from_array(np.zeros((8, 8, 8), np.float32), spacing=(1, 1, 1)), lambda x: x)
    peer = _PEERS[case["peer"]](volume, model, case) if case.get("peer") else None
    given = {"probabilities": case.get("probabilities", ()), "memory": case.get("memory")}
    cost = quote(volume, model, **given)
    Path("/proc/self/clear_refs").write_text("5")
    before, start = status("VmRSS"), time.perf_counter()
    peer() if peer else predict(volume, model, check=False, **given)
    taken, seconds = status("VmHWM") - before, time.perf_counter() - start
    return {"taken": taken, "quoted": cost.memory_bytes, "seconds": seconds, "windows": cost.windows}


def _scaled(volume: Volume) -> torch.Tensor:
    """Return the image as the network sees it, (1, z, y, x)."""
    image = torch.from_numpy(volume.data.astype(np.float32))[None]
    return (image.clamp_(-1000, 1000) + 1000) / 2000


def _monai(volume: Volume, model: Model, case: dict):
    """Return the same with MONAI, as its tutorials have it: labels of the largest logit."""
    from monai.inferers import sliding_window_inference

    def run():
        window, overlap = tuple(case["window"]), case.get("overlap", 0.5)
        with torch.inference_mode():
            logits = sliding_window_inference(_scaled(volume)[None], window, 1, model.module, overlap, "gaussian")
            return logits.argmax(1).to(torch.uint8)

    return run


def _nnunet(volume: Volume, model: Model, case: dict):
    """Return the same with nnU-Net's predictor: its sums are of half precision."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        tile_step_size=1 - case.get("overlap", 0.5), use_mirroring=False, perform_everything_on_device=False,
        device=torch.device("cpu"), allow_tqdm=False,
    )  # fmt: skip
    predictor.network, predictor.allowed_mirroring_axes = model.module, None
    predictor.configuration_manager = SimpleNamespace(patch_size=case["window"])
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=case["classes"])

    def run():
        with torch.inference_mode():
            return predictor.predict_sliding_window_return_logits(_scaled(volume)).argmax(0).to(torch.uint8)

    return run


_PEERS = {"monai": _monai, "nnunetv2": _nnunet}


def main() -> None:
    """Measure one case, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case")
    chosen = parser.parse_args().case
    if chosen:
        print(json.dumps(measure(json.loads(chosen))))
        return
    peers = [name for name in _PEERS if importlib.util.find_spec(name)]
    for name in _PEERS.keys() - set(peers):
        print(f"{name} is not installed")
    heads = "".join(f"{name:>10}" for name in peers)
    print(f"classes  depth    ours  quoted{heads}   (MB, 192 x 192 in the plane, windows of 32 x 64 x 64)")
    for classes, depth in _TABLE:
        case = {"shape": [depth, 192, 192], "classes": classes, "window": [32, 64, 64], "overlap": 0.25}
        ours, *theirs = (_measured({**case, "peer": peer}) for peer in (None, *peers))
        numbers = "".join(f"{found['taken'] / 1e6:10.0f}" for found in theirs)
        print(f"{classes:7} {depth:6} {ours['taken'] / 1e6:7.0f} {ours['quoted'] / 1e6:7.0f}{numbers}", flush=True)


def _measured(case: dict) -> dict:
    """Measure a case in a process of its own."""
    call = [sys.executable, __file__, "--case", json.dumps(case)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
