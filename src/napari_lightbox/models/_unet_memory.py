"""What our U-Nets need between their compiled layers, by the rules of `_fused` for its memory, but without torch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

# As in `_fused`.
_LANES, _HALF = 16, 8


def needed(name: str, args: Mapping[str, Any], features: Sequence[int], window: Sequence[int]) -> int:
    """Return about how many bytes a window takes: features that live at once, what a layer calculates, and weights.

    Parameters
    ----------
    name, args : str, mapping
        Of an architecture that runs through compiled layers, as its card has them.
    features : sequence of int
        At every level, finest first.
    window : sequence of int
        (z, y, x), z of 1 for slices.

    Examples
    --------
    >>> eight, sixteen = (needed("unet", {}, (first, 2 * first), (64, 64, 64)) for first in (8, 16))
    >>> sixteen > 1.5 * eight > 4 * 64**3
    True
    """
    planar = name == "unet2d" or args.get("dims") == 2
    inputs, classes = args.get("in_channels", 1), args.get("out_channels", 2)
    residual = bool(args.get("residual")) or name.startswith("residual")
    total, most = 0, 0
    for level, (size, count) in enumerate(zip(_sizes(args, features, window), features, strict=True)):
        voxels = math.prod(size)
        widest = max(count, inputs, classes) if level == 0 else count
        block = 4 * (_HALF if widest <= _HALF else _LANES) * math.prod(n + 2 for n in size[planar:])
        # The skip, one that is read and one that is written; where features are added, these too.
        alive = (3 if level < len(features) - 1 else 2) + residual
        total += block * (alive * _blocks(count) + (_blocks(inputs) if level == 0 else 0))
        # The answer, and what is normalised when all of it is known, are calculated as a whole.
        whole = max(_blocks(count) if _apart(args) else 0, _blocks(classes) if level == 0 else 0)
        most = max(most, 4 * _LANES * whole * voxels)
    return total + most + _weights(features, inputs, planar)


def _sizes(args: Mapping[str, Any], features: Sequence[int], window: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the sizes (z, y, x) of the levels."""
    given = args.get("strides")
    steps = [given] * len(features) if isinstance(given, int) else given or [1]
    found, size = [], tuple(window)
    for level in range(len(features)):
        step = steps[level] if level < len(steps) else 2
        along = [step] * 3 if isinstance(step, int) else [1] * (3 - len(step)) + list(step)
        size = tuple(math.ceil(n / s) for n, s in zip(size, along, strict=True))
        found.append(size)
    return found


def _apart(args: Mapping[str, Any]) -> bool:
    """Whether features are normalised by what they are themselves."""
    return "nstance" in str(args.get("norm_op", args.get("norm", "instance")))


def _weights(features: Sequence[int], inputs: int, planar: bool) -> int:
    """Return the bytes of the weights as the kernels read them, of two convolutions in each block."""
    taps, total = 9 if planar else 27, 0
    for before, count in zip((inputs, *features), features, strict=False):
        total += before * count + 4 * count * count
    return 4 * taps * total


def _blocks(channels: int) -> int:
    return -(-channels // _LANES)
