"""Where the time of a window goes, how near that is to what the processor can do, and ours beside MONAI's loop.

``python tests/benchmarks/inference_speed.py [--quick] [--threads N]``

Seconds are the least of several calls in turn, in wall-clock and in processor time: on a machine that does other
things too, the ratios of the latter are those to look at.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNETR, DynUNet, VNet
from torch.profiler import ProfilerActivity, profile

from napari_lightbox.models import _fused, fast, networks, predict
from napari_lightbox.models._fused_layers import layers_of
from napari_lightbox.ops import _ready
from napari_lightbox.ops._kernels import conv
from napari_lightbox.volume import Volume

_NNUNET = {
    "dims": 3, "in_channels": 1, "out_channels": 4, "n_stages": 5, "features_per_stage": [32, 64, 128, 256, 320],
    "kernel_sizes": 3, "strides": [1, 2, 2, 2, 2], "n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2,
    "conv_bias": True, "norm_op": "torch.nn.InstanceNorm3d", "norm_op_kwargs": {"affine": True, "eps": 1e-5},
    "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
}  # fmt: skip
_CASES = {
    "U-Net, 5.7 M weights": ("unet", {"out_channels": 4, "channels": (16, 32, 64, 128, 256)}, 96),
    "U-Net, small": ("unet", {"out_channels": 4, "channels": (8, 16, 32)}, 32),
    "U-Net, batch norm": ("unet", {"out_channels": 7, "channels": (8, 16, 32, 64, 128), "norm": "batch"}, 64),
    "nnU-Net, plain": ("plain_conv_unet", _NNUNET, 64),
}


def _two_convolutions() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(8, 3, 3, padding=1)
    )


# Networks whose layers are not known to us; the window is what they are asked about at once.
_FOREIGN = {
    "VNet of MONAI": (lambda: VNet(3, 1, 4), 32),
    "VNet of MONAI, TorchScript": (lambda: torch.jit.trace(VNet(3, 1, 4).eval(), torch.zeros(1, 1, 32, 32, 32)), 32),
    "DynUNet of MONAI": (lambda: DynUNet(3, 1, 3, [3] * 4, [1, 2, 2, 2], [2] * 3), 64),
    "UNETR of MONAI": (lambda: UNETR(1, 3, (64, 64, 64), hidden_size=192, mlp_dim=384, num_heads=6), 64),
    "two convolutions": (_two_convolutions, 32),
}


def best(calls: dict[str, Callable], repeats: int) -> dict[str, tuple[float, float]]:
    """Return the least wall-clock and processor seconds of every call; they take turns."""
    found = dict.fromkeys(calls, (np.inf, np.inf))
    for number in range(repeats + 1):
        for name, call in calls.items():
            began, worked = time.perf_counter(), time.process_time()
            call()
            spent = time.perf_counter() - began, time.process_time() - worked
            if number:
                found[name] = tuple(map(min, found[name], spent))
    return found


def limit() -> float:
    """Return how many billion operations a second a product of matrices reaches."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    wall, _ = best({"": lambda: torch.mm(a, b)}, 8)[""]
    return 2 * 2048**3 / wall / 1e9


def of_torch(net: torch.nn.Module, x: torch.Tensor) -> None:
    """Print which share of the plain module's time its kinds of layers take."""
    net(x)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        net(x)
    kinds = {"convolutions": ("conv",), "norms": ("norm",), "activations": ("relu",), "joining": ("aten::cat",)}
    shares = dict.fromkeys((*kinds, "rest"), 0.0)
    for event in seen.key_averages():
        kind = next((k for k, names in kinds.items() if any(n in event.key for n in names)), "rest")
        shares[kind] += event.self_cpu_time_total
    total = sum(shares.values())
    print("  PyTorch: " + ", ".join(f"{kind} {100 * share / total:.0f} %" for kind, share in shares.items()))


def of_ours(net: torch.nn.Module, x: torch.Tensor, paired: bool, top: float) -> None:
    """Print where the time of our layers goes, and how near the convolutions are to the limit."""
    run = _fused.Fused(layers_of(net), x.shape[2:], paired=paired, widths=conv.tile_widths())
    spent: dict[str, list[float]] = {"_convolve": [], "_convolve_put": [], "_put": [], "_run": []}
    for name, times in spent.items():
        setattr(run, name, _timed(getattr(run, name), times))
    sums = []
    for _ in range(4):
        for times in spent.values():
            times.clear()
        run(x)
        sums.append({name: sum(times) for name, times in spent.items()})
    least = min(sums, key=lambda s: s["_run"])
    # Multiplications and additions of the network itself: channels that only fill up a block do not count.
    work = 0.0
    for layer, prepared in zip(run._layers, run._prepared, strict=True):
        work += 2 * layer.weight.size * float(np.prod(prepared.shape[:3]))
    # Where the scale of a normalisation is known before, it is done with the convolution.
    convolving = least["_convolve"] + least["_convolve_put"]
    rate = work / convolving / 1e9
    total, rest = least["_run"], least["_run"] - convolving - least["_put"]
    kind = "bfloat16" if paired else "single precision"
    print(
        f"  ours, {kind}: convolutions {100 * convolving / total:.0f} %, "
        f"norms and activations apart {100 * least['_put'] / total:.0f} %, rest {100 * rest / total:.0f} %; "
        f"{rate:.0f} of {top:.0f} GFLOP/s"
    )


def _timed(call: Callable, times: list[float]) -> Callable:
    def timed(*given):
        began = time.perf_counter()
        call(*given)
        times.append(time.perf_counter() - began)

    return timed


def windows(net: torch.nn.Module, x: torch.Tensor, repeats: int) -> None:
    """Print a window by each way, and how the results differ."""
    size = tuple(x.shape[2:])
    exact, short = (fast.prepare(net, None, "cpu", precision, size) for precision in fast.PRECISIONS)
    calls = {"plain": lambda: net(x), "exact": lambda: exact(x), "fast": lambda: short(x)}
    expected, answers = net(x), {"exact": exact(x), "fast": short(x)}
    found = best(calls, repeats)
    for name, ask in (("exact", exact), ("fast", short)):
        wall, worked = (a / b for a, b in zip(found["plain"], found[name], strict=True))
        apart = float((answers[name] - expected).abs().max() / expected.abs().max())
        same = float((answers[name].argmax(1) == expected.argmax(1)).float().mean())
        print(
            f"  {name} ({ask.way}): {found[name][0]:.3f} s against {found['plain'][0]:.3f} s a window, "
            f"{wall:.2f}x (processor time {worked:.2f}x); off by {apart:.1e} of the largest logit, "
            f"{100 * same:.3f} % of the labels equal"
        )


def loops(net: torch.nn.Module, window: int, repeats: int, precisions: tuple[str, ...] = fast.PRECISIONS) -> None:
    """Print our whole prediction beside MONAI's sliding windows."""
    data = np.random.default_rng(0).normal(0, 1, (window, window, 2 * window)).astype(np.float32)
    volume, image = Volume.from_array(data, (1.0, 1.0, 1.0)), torch.from_numpy(data[None, None])
    inferer = SlidingWindowInferer(window, 1, 0.5, mode="gaussian")
    given = {"window": (window,) * 3, "overlap": 0.5, "blending": "gaussian", "device": "cpu"}
    calls: dict[str, Callable] = {"MONAI": lambda: inferer(image, net)[0].argmax(0).numpy()}
    for name in precisions:
        calls[name] = partial(lambda name: predict(volume, net, precision=name, **given).labels.data, name)
    found = best(calls, repeats)
    for name in precisions:
        wall, worked = (a / b for a, b in zip(found["MONAI"], found[name], strict=True))
        print(
            f"  predict, {name}: {found[name][0]:.3f} s, MONAI {found['MONAI'][0]:.3f} s for {data.shape}: "
            f"{wall:.2f}x (processor time {worked:.2f}x)"
        )


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="windows a third as wide, fewer repeats")
    parser.add_argument("--foreign", action="store_true", help="only the networks whose layers are not ours")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    repeats = 1 if asked.quick else 3
    with torch.inference_mode(), _ready.waiting():
        top = limit()
        able = conv.features_of_processor()
        print(f"{asked.threads} threads; a product of matrices reaches {top:.0f} GFLOP/s; {', '.join(sorted(able))}")
        for title, (name, args, window) in () if asked.foreign else _CASES.items():
            window = 32 if asked.quick else window
            torch.manual_seed(0)
            net = networks.build(name, **args).eval()
            x = torch.randn(1, 1, window, window, window)
            print(f"{title}: windows of {window}^3")
            of_torch(net, x)
            for paired in (False, True) if "bf16" in able else (False,):
                of_ours(net, x, paired, top)
            windows(net, x, repeats)
            loops(net, window, repeats)
        for title, (make, window) in _FOREIGN.items():
            torch.manual_seed(0)
            print(f"{title}: windows of {window}^3")
            loops(make().eval(), window, 2 * repeats + 1, ("exact",))


if __name__ == "__main__":
    main()
