"""The networks of nnU-Net v2, with the names that its checkpoints give to their weights.

Parameters are named, and counted twice, as in ``dynamic_network_architectures``: every convolution also stands in a
list ``all_modules``, and the decoder also holds the encoder. Nothing is looked up by a name from a file: what plans
may ask for is in the tables below.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import InputError

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_DROPOUTS = (nn.Dropout, nn.Dropout2d, nn.Dropout3d)
_ACTIVATIONS = (nn.LeakyReLU, nn.ReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish)


def _known(name: str | None, table: Sequence[type], argument: str) -> type | None:
    """Return the class that the plans name, by the last part of its name."""
    if name is None:
        return None
    classes = {one.__name__: one for one in table}
    last = str(name).rpartition(".")[2]
    if not isinstance(name, str) or last not in classes:
        raise InputError(f"{argument} {name!r} is not known: use one of {', '.join(classes)}")
    return classes[last]


def _each(value: Any, count: int, argument: str) -> list:
    """Return one entry for each of `count` stages."""
    entries = [value] * count if isinstance(value, int) else list(value)
    if len(entries) != count:
        raise InputError(f"{argument} has {len(entries)} entries where {count} are needed, one a stage")
    return entries


class _Kind:
    """What all layers of one network share."""

    def __init__(self, dims: int, bias: bool, parts: Mapping[str, Any]) -> None:
        if dims not in _CONV:
            raise InputError(f"dims {dims!r} cannot be built: a U-Net has 2 or 3")
        self.dims, self.bias = dims, bool(bias)
        self.norm = _known(parts.get("norm_op"), _NORMS, "norm_op")
        self.dropout = _known(parts.get("dropout_op"), _DROPOUTS, "dropout_op")
        self.nonlin = _known(parts.get("nonlin"), _ACTIVATIONS, "nonlin")
        self.norm_args = dict(parts.get("norm_op_kwargs") or {})
        self.dropout_args = dict(parts.get("dropout_op_kwargs") or {})
        self.nonlin_args = dict(parts.get("nonlin_kwargs") or {})

    def sizes(self, value: Any) -> list[int]:
        """Return one number for each axis."""
        return [value] * self.dims if isinstance(value, int) else [int(n) for n in value]

    def activation(self) -> nn.Module:
        return self.nonlin(**self.nonlin_args) if self.nonlin else nn.Identity()


class _Conv(nn.Module):
    """A convolution, then what belongs to it: dropout, normalisation, activation."""

    def __init__(self, kind: _Kind, inside: int, outside: int, kernel: Any, stride: Any, **parts: bool) -> None:
        super().__init__()
        kernel, bias = kind.sizes(kernel), parts.get("bias", kind.bias)
        around = [(n - 1) // 2 for n in kernel]
        self.conv = _CONV[kind.dims](inside, outside, kernel, kind.sizes(stride), padding=around, bias=bias)
        layers = [self.conv]
        if kind.dropout and parts.get("dropout", True):
            self.dropout = kind.dropout(**kind.dropout_args)
            layers.append(self.dropout)
        if kind.norm:
            self.norm = kind.norm(outside, **kind.norm_args)
            layers.append(self.norm)
        if kind.nonlin and parts.get("nonlin", True):
            self.nonlin = kind.activation()
            layers.append(self.nonlin)
        self.all_modules = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.all_modules(x)


class _Convs(nn.Module):
    """Several convolutions; the first may shrink the axes."""

    def __init__(self, kind: _Kind, count: int, inside: int, outside: int, kernel: Any, stride: Any = 1) -> None:
        super().__init__()
        rest = (_Conv(kind, outside, outside, kernel, 1) for _ in range(count - 1))
        self.convs = nn.Sequential(_Conv(kind, inside, outside, kernel, stride), *rest)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convs(x)


class _Residual(nn.Module):
    """Two convolutions whose input is added to their result: the block D of He et al., "Bag of tricks" (2019)."""

    def __init__(self, kind: _Kind, inside: int, outside: int, kernel: Any, stride: Any = 1) -> None:
        super().__init__()
        steps = kind.sizes(stride)
        self.conv1 = _Conv(kind, inside, outside, kernel, steps)
        self.conv2 = _Conv(kind, outside, outside, kernel, 1, dropout=False, nonlin=False)
        self.nonlin2 = kind.activation()
        way = [_POOL[kind.dims](steps, steps)] if any(n != 1 for n in steps) else []
        if inside != outside:
            way.append(_Conv(kind, inside, outside, 1, 1, bias=False, dropout=False, nonlin=False))
        self.skip = nn.Sequential(*way)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))


class _Residuals(nn.Module):
    """Several residual blocks; the first may shrink the axes."""

    def __init__(self, kind: _Kind, count: int, inside: int, outside: int, kernel: Any, stride: Any = 1) -> None:
        super().__init__()
        rest = (_Residual(kind, outside, outside, kernel) for _ in range(count - 1))
        self.blocks = nn.Sequential(_Residual(kind, inside, outside, kernel, stride), *rest)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)


class _Encoder(nn.Module):
    """The way down: a stage for each resolution."""

    def __init__(self, stages: nn.Sequential, stem: nn.Module | None) -> None:
        super().__init__()
        if stem is not None:
            self.stem = stem
        self.stages = stages

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        if hasattr(self, "stem"):
            x = self.stem(x)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class _Decoder(nn.Module):
    """The way up. Only the last of its outputs is used; the others helped in training."""

    def __init__(self, encoder: _Encoder, stages: list, ups: list, heads: list) -> None:
        super().__init__()
        self.encoder = encoder
        self.stages, self.transpconvs = nn.ModuleList(stages), nn.ModuleList(ups)
        self.seg_layers = nn.ModuleList(heads)

    def forward(self, skips: list[torch.Tensor]) -> torch.Tensor:
        x = skips.pop()
        for up, stage in zip(self.transpconvs, self.stages, strict=True):
            x = stage(torch.cat((up(x), skips.pop()), 1))
        return self.seg_layers[-1](x)


class _UNet(nn.Module):
    """A U-Net whose arguments are those of nnU-Net's plans (``arch_kwargs``), with sizes a stage.

    Parameters
    ----------
    dims : {2, 3}
        Axes of the image.
    in_channels, out_channels : int
        Images that go in, classes that come out.
    n_stages : int
        Resolutions.
    features_per_stage, kernel_sizes, strides : sequence
        For each stage, finest first; a stride of 2 halves the axis.
    n_conv_per_stage_decoder : int or sequence of int
        Convolutions of each stage on the way up, coarsest first.
    conv_bias : bool
        Whether convolutions have one.
    conv_op : str, optional
        Class of the convolutions; `dims` decides, and it must agree.
    deep_supervision : bool
        Makes no difference here.
    **parts
        ``norm_op``, ``dropout_op``, ``nonlin`` (names of torch's classes, or None) and their ``_kwargs``.

    Notes
    -----
    ``forward`` takes ``(n, in_channels, *size)`` and returns logits ``(n, out_channels, *size)``; sizes must be
    divisible by the product of all strides.
    """

    _down: type = _Convs
    _up: type = _Convs

    def __init__(
        self, dims: int, in_channels: int, out_channels: int, n_stages: int, features_per_stage: Any,
        kernel_sizes: Any, strides: Any, n_conv_per_stage_decoder: Any, per_stage: Any, conv_bias: bool = False,
        conv_op: str | None = None, deep_supervision: bool = False, **parts: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        known = {f"{name}{end}" for name in ("norm_op", "dropout_op", "nonlin") for end in ("", "_kwargs")}
        strange = [name for name, value in parts.items() if name not in known and value not in (None, False)]
        if strange:
            raise InputError(f"argument {strange[0]!r} is not known to this network: leave it out")
        kind = _Kind(dims, conv_bias, parts)
        if conv_op is not None and _known(conv_op, tuple(_CONV.values()), "conv_op") is not _CONV[dims]:
            raise InputError(f"conv_op {conv_op!r} does not fit a network of {dims} axes")
        features = _each(features_per_stage, n_stages, "features_per_stage")
        kernels, steps = _each(kernel_sizes, n_stages, "kernel_sizes"), _each(strides, n_stages, "strides")
        counts = _each(per_stage, n_stages, "convolutions or blocks")
        upward = _each(n_conv_per_stage_decoder, n_stages - 1, "n_conv_per_stage_decoder")
        residual = self._down is _Residuals
        stem = _Convs(kind, 1, in_channels, features[0], kernels[0]) if residual else None
        before = [features[0] if residual else in_channels, *features]
        blocks = [self._down(kind, *of) for of in zip(counts, before, features, kernels, steps, strict=False)]
        encoder = _Encoder(nn.Sequential(*(blocks if residual else map(nn.Sequential, blocks))), stem)
        stages, ups, heads = [], [], []
        for number, fine in enumerate(reversed(range(n_stages - 1))):
            step, count = kind.sizes(steps[fine + 1]), features[fine]
            ups.append(_UP[dims](features[fine + 1], count, step, step, bias=kind.bias))
            stages.append(self._up(kind, upward[number], 2 * count, count, kernels[fine]))
            heads.append(_CONV[dims](count, out_channels, 1))
        self.encoder = encoder
        self.decoder = _Decoder(encoder, stages, ups, heads)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits ``(n, out_channels, *size)`` of images ``(n, in_channels, *size)``."""
        return self.decoder(self.encoder(x))


class PlainConvUNet(_UNet):
    """nnU-Net's U-Net of plain convolutions, Isensee et al. (2021); `n_conv_per_stage` of them in each stage.

    Examples
    --------
    >>> net = PlainConvUNet(dims=2, in_channels=1, out_channels=3, n_stages=2, features_per_stage=[4, 8],
    ...     kernel_sizes=3, strides=[1, 2], n_conv_per_stage=2, n_conv_per_stage_decoder=1, nonlin="torch.nn.ReLU")
    >>> net(torch.zeros(1, 1, 8, 12)).shape
    torch.Size([1, 3, 8, 12])
    """

    def __init__(self, *, n_conv_per_stage: Any, **args: Any) -> None:
        super().__init__(per_stage=n_conv_per_stage, **args)


class ResidualEncoderUNet(_UNet):
    """nnU-Net's U-Net with residual blocks on the way down, Isensee et al. (2024)."""

    _down = _Residuals

    def __init__(self, *, n_blocks_per_stage: Any, **args: Any) -> None:
        super().__init__(per_stage=n_blocks_per_stage, **args)


class ResidualUNet(ResidualEncoderUNet):
    """nnU-Net's U-Net with residual blocks on both ways."""

    _up = _Residuals


ARCHITECTURES = {
    "plain_conv_unet": PlainConvUNet,
    "residual_encoder_unet": ResidualEncoderUNet,
    "residual_unet": ResidualUNet,
}
