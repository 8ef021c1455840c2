"""Rows of inference."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..volume import Volume
from .task import Peer, Row, Task, scan, size_text, within

_WINDOW = 96
_CHANNELS = (16, 32, 64, 128, 256)


def _net(scale: float) -> Any:
    """Return a U-Net with seeded weights."""
    import torch

    from ..models import networks

    with torch.random.fork_rng():
        torch.manual_seed(0)
        channels = _CHANNELS if scale == 1 else (8, 16, 32)
        return networks.build("unet", dims=3, in_channels=1, out_channels=4, channels=channels).eval()


def _monai(data: np.ndarray, net: Any, window: int) -> Callable[[], np.ndarray]:
    import torch
    from monai.inferers import SlidingWindowInferer

    inferer = SlidingWindowInferer(window, 1, 0.5, mode="constant")
    image = torch.from_numpy(data[None, None])

    def call() -> np.ndarray:
        with torch.inference_mode():
            return inferer(image, net)[0].argmax(0).numpy()

    return call


def _sliding_window(scale: float, precision: str, few: float) -> Task:
    from ..models import predict

    window = _WINDOW if scale == 1 else 32
    data = scan(tuple(window * n for n in (1, 1, 2)), "float32") / np.float32(1000)
    net = _net(scale)
    volume = Volume.from_array(data, (1.0, 1.0, 1.0))

    def ours() -> np.ndarray:
        given = {"window": (window,) * 3, "overlap": 0.5, "blending": "constant", "device": "cpu"}
        return predict(volume, net, precision=precision, **given).labels.data

    # All windows weigh the same: MONAI lifts small Gaussian weights, which is another blending. Where two classes are
    # level, either may win; with fewer digits they are so more often, above all with weights that never learned.
    peers = [Peer("monai", partial(_monai, data, net, window), within(0, few=few))]
    return Task(ours, peers, f"{size_text(data)}, windows of {window}^3")


ROWS = [
    Row(
        "predict",
        "sliding windows, U-Net, single precision",
        partial(_sliding_window, precision="exact", few=1e-3),
        needs=("torch",),
    ),
    Row(
        "predict",
        "sliding windows, U-Net, fewer digits where they are faster",
        partial(_sliding_window, precision="fast", few=2e-2),
        needs=("torch",),
    ),
]
