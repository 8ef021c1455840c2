"""The U-Net, BasicUNet and SegResNet that MONAI bundles are made of.

They are written anew from their papers and the names of their weights, so that a bundle's state dict fits and gives the
same numbers, without MONAI being installed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import InputError

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_LINEAR = {2: "bilinear", 3: "trilinear"}
_NORMS = {
    "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d},
    "batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
}
_ACTIVATIONS = {
    "prelu": nn.PReLU, "relu": nn.ReLU, "leakyrelu": nn.LeakyReLU, "elu": nn.ELU, "relu6": nn.ReLU6, "selu": nn.SELU,
    "celu": nn.CELU, "gelu": nn.GELU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "swish": nn.SiLU, "mish": nn.Mish,
}  # fmt: skip
Named = str | Sequence[Any] | None


# Parts named in a configuration ---------------------------------------------------------------------------------


def _named(given: Named, what: str) -> tuple[str, dict[str, Any]]:
    """Return name (in lower case) and arguments of ``"batch"`` or ``["group", {"num_groups": 8}]``."""
    name, args = (given, {}) if isinstance(given, str) else (*given, {})[:2] if given else (None, {})
    if not isinstance(name, str) or not isinstance(args, Mapping):
        raise InputError(f"{what} {given!r} must be a name, or a name with its arguments")
    return name.lower(), dict(args)


def normalisation(given: Named, dims: int, channels: int) -> nn.Module:
    """Return a normalisation by its name: instance, batch or group.

    Examples
    --------
    >>> type(normalisation(["group", {"num_groups": 2}], 3, 4)).__name__
    'GroupNorm'
    """
    name, args = _named(given, "norm")
    if name == "group":
        return nn.GroupNorm(**{"num_channels": channels, **args})
    if name not in _NORMS:
        raise InputError(f"norm {name!r} is unknown: use instance, batch or group")
    return _NORMS[name][dims](channels, **args)


def activation(given: Named) -> nn.Module:
    """Return an activation by its name.

    Examples
    --------
    >>> activation(["LeakyReLU", {"negative_slope": 0.1}])
    LeakyReLU(negative_slope=0.1)
    """
    name, args = _named(given, "act")
    if name not in _ACTIVATIONS:
        raise InputError(f"act {name!r} is unknown: use one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name](**args)


def _dims(dims: Any, what: str) -> int:
    if dims not in _CONV or isinstance(dims, bool):
        raise InputError(f"spatial_dims {dims!r} cannot be built: {what} has 2 or 3")
    return dims


def _per_axis(value: Any, dims: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,) * dims


class _Parts(nn.Module):
    """What every convolution of a U-Net is made with."""

    def __init__(self, dims: int, norm: Named, act: Named, dropout: Any, bias: bool, ordering: str) -> None:
        super().__init__()
        self.dims, self.norm, self.act, self.dropout, self.bias, self.ordering = (
            dims,
            norm,
            act,
            dropout,
            bias,
            ordering,
        )

    def convolution(self, inside: int, outside: int, kernel: Any, stride: Any = 1, *, up=False, bare=False, pad=None):
        """Return a convolution, and what follows it unless it is bare."""
        kernel, stride = _per_axis(kernel, self.dims), _per_axis(stride, self.dims)
        if any(k % 2 == 0 for k in kernel):
            raise InputError(f"kernel_size {kernel} must be odd along every axis")
        pad = tuple((k - 1) // 2 for k in kernel) if pad is None else pad
        if up:
            # So that an axis becomes exactly `stride` times as long.
            more = tuple(s - 1 for s in stride)
            conv = _UP[self.dims](inside, outside, kernel, stride, pad, more, bias=self.bias)
        else:
            conv = _CONV[self.dims](inside, outside, kernel, stride, pad, bias=self.bias)
        block = nn.Sequential()
        block.add_module("conv", conv)
        if not bare:
            block.add_module("adn", self._after(outside))
        return block

    def _after(self, channels: int) -> nn.Sequential:
        made = nn.Sequential()
        for letter in self.ordering.upper():
            if letter == "N" and self.norm is not None:
                made.add_module("N", normalisation(self.norm, self.dims, channels))
            elif letter == "A" and self.act is not None:
                made.add_module("A", activation(self.act))
            elif letter == "D" and self.dropout is not None:
                made.add_module("D", nn.Dropout(float(self.dropout)))
            elif letter not in "NDA":
                raise InputError(f"adn_ordering {self.ordering!r} must be made of the letters N, D and A")
        return made


# MONAI's U-Net --------------------------------------------------------------------------------------------------


class _ResidualUnit(nn.Module):
    """Some convolutions, and their input added to what they give."""

    def __init__(self, parts: _Parts, inside: int, outside: int, kernel: Any, stride: Any, count: int, last_bare: bool):
        super().__init__()
        self.conv = nn.Sequential()
        before, step = inside, _per_axis(stride, parts.dims)
        strided = any(s != 1 for s in step)
        for number in range(max(1, count)):
            bare = last_bare and number == max(1, count) - 1
            self.conv.add_module(f"unit{number}", parts.convolution(before, outside, kernel, step, bare=bare))
            before, step = outside, (1,) * parts.dims
        self.residual: nn.Module = nn.Identity()
        if strided or inside != outside:
            size = _per_axis(kernel, parts.dims) if strided else (1,) * parts.dims
            pad = tuple((k - 1) // 2 for k in size)
            self.residual = _CONV[parts.dims](
                inside, outside, size, _per_axis(stride, parts.dims), pad, bias=parts.bias
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of ``(n, channels, *size)``."""
        return self.conv(x) + self.residual(x)


class _Beside(nn.Module):
    """Gives its input and what the levels below make of it, one after the other."""

    def __init__(self, below: nn.Module) -> None:
        super().__init__()
        self.submodule = below

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of both."""
        return torch.cat([x, self.submodule(x)], dim=1)


class MonaiUNet(nn.Module):
    """U-Net with residual units after Kerfoot et al. (STACOM 2018), as ``monai.networks.nets.UNet`` names its weights.

    Parameters
    ----------
    spatial_dims : {2, 3}
        Axes of the image.
    in_channels, out_channels : int
        Images that go in; classes that come out, background included.
    channels, strides : sequence of int
        Features at every level, finest first; and how many times coarser each level is than the one before.
    kernel_size, up_kernel_size : int or sequence of int
        Voxels of the convolutions down and up, odd.
    num_res_units : int
        Convolutions of a residual unit; 0 for plain convolutions.
    act, norm : str or (str, mapping)
        Activation and normalisation, by name or with arguments.
    dropout : float
        Share of values that are dropped while it learns.
    bias : bool
        Whether convolutions add a number of their own.
    adn_ordering : str
        Order of activation, dropout and normalisation after a convolution.

    Examples
    --------
    >>> MonaiUNet(2, 1, 2, (4, 8), (2,))(torch.zeros(1, 1, 8, 6)).shape
    torch.Size([1, 2, 8, 6])
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 2,
        channels: Sequence[int] = (16, 32, 64, 128, 256),
        strides: Sequence[Any] = (2, 2, 2, 2),
        kernel_size: Any = 3,
        up_kernel_size: Any = 3,
        num_res_units: int = 0,
        act: Named = "prelu",
        norm: Named = "instance",
        dropout: float = 0.0,
        bias: bool = True,
        adn_ordering: str = "NDA",
    ) -> None:
        super().__init__()
        if len(channels) < 2 or len(strides) < len(channels) - 1:
            raise InputError(f"channels {list(channels)} need at least 2 levels, and a stride for each but the first")
        parts = _Parts(_dims(spatial_dims, "a U-Net"), norm, act, dropout, bias, adn_ordering)
        self._kernels, self._units = (kernel_size, up_kernel_size), num_res_units
        self.model = self._level(parts, in_channels, out_channels, list(channels), list(strides), top=True)

    def _down(self, parts: _Parts, inside: int, outside: int, stride: Any) -> nn.Module:
        if self._units > 0:
            return _ResidualUnit(parts, inside, outside, self._kernels[0], stride, self._units, last_bare=False)
        return parts.convolution(inside, outside, self._kernels[0], stride)

    def _level(self, parts: _Parts, inside: int, outside: int, channels: list, strides: list, *, top: bool):
        """Return a level with all below it: down, the levels below beside what it has, up."""
        here, below = channels[:2]
        if len(channels) > 2:
            lower: nn.Module = self._level(parts, here, here, channels[1:], strides[1:], top=False)
            joined = 2 * here
        else:
            lower, joined = self._down(parts, here, below, 1), here + below
        bare = top and self._units == 0
        up: nn.Module = parts.convolution(joined, outside, self._kernels[1], strides[0], up=True, bare=bare)
        if self._units > 0:
            up = nn.Sequential(up, _ResidualUnit(parts, outside, outside, self._kernels[0], 1, 1, last_bare=top))
        return nn.Sequential(self._down(parts, inside, here, strides[0]), _Beside(lower), up)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits ``(n, out_channels, *size)`` of images ``(n, in_channels, *size)``."""
        return self.model(x)


# MONAI's BasicUNet ----------------------------------------------------------------------------------------------


class _UpAndJoin(nn.Module):
    """Doubles the resolution, joins the finer features, and convolves twice."""

    def __init__(self, parts: _Parts, coarse: int, fine: int, outside: int, *, halves: bool) -> None:
        super().__init__()
        kept = coarse // 2 if halves else coarse
        self.upsample = nn.Sequential()
        self.upsample.add_module("deconv", _UP[parts.dims](coarse, kept, 2, 2))
        self.convs = _twice(parts, fine + kept, outside)

    def forward(self, x: torch.Tensor, finer: torch.Tensor) -> torch.Tensor:
        """Return the features at the resolution of `finer`, whose axes may be odd."""
        x = self.upsample(x)
        missing = [n for a in range(x.ndim - 1, 1, -1) for n in (0, finer.shape[a] - x.shape[a])]
        if any(missing):
            x = nn.functional.pad(x, missing, "replicate")
        return self.convs(torch.cat([finer, x], dim=1))


def _twice(parts: _Parts, inside: int, outside: int) -> nn.Sequential:
    block = nn.Sequential()
    block.add_module("conv_0", parts.convolution(inside, outside, 3))
    block.add_module("conv_1", parts.convolution(outside, outside, 3))
    return block


class BasicUNet(nn.Module):
    """U-Net of five levels after Falk et al. (Nature Methods, 2019), as ``monai.networks.nets.BasicUNet`` has it.

    Parameters
    ----------
    spatial_dims, in_channels, out_channels, act, norm, dropout, bias
        As for `MonaiUNet`.
    features : sequence of 6 int
        Features of the five levels, finest first, and of the last convolutions.
    upsample : {"deconv"}
        How the resolution is doubled.

    Examples
    --------
    >>> BasicUNet(2, features=(2, 2, 2, 2, 2, 2))(torch.zeros(1, 1, 33, 16)).shape
    torch.Size([1, 2, 33, 16])
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 2,
        features: Sequence[int] = (32, 32, 64, 128, 256, 32),
        act: Named = ("LeakyReLU", {"negative_slope": 0.1, "inplace": True}),
        norm: Named = ("instance", {"affine": True}),
        bias: bool = True,
        dropout: float = 0.0,
        upsample: str = "deconv",
    ) -> None:
        super().__init__()
        if len(features) != 6:
            raise InputError(f"features {list(features)} must be six numbers")
        if upsample != "deconv":
            raise InputError(f"upsample {upsample!r} is not built here: use 'deconv'")
        parts = _Parts(_dims(spatial_dims, "a U-Net"), norm, act, dropout, bias, "NDA")
        self.conv_0 = _twice(parts, in_channels, features[0])
        pool = {2: nn.MaxPool2d, 3: nn.MaxPool3d}[spatial_dims]
        for level in range(1, 5):
            down = nn.Sequential()
            down.add_module("max_pooling", pool(2))
            down.add_module("convs", _twice(parts, features[level - 1], features[level]))
            self.add_module(f"down_{level}", down)
        for level in range(4, 0, -1):
            outside = features[5] if level == 1 else features[level - 1]
            joined = _UpAndJoin(parts, features[level], features[level - 1], outside, halves=level > 1)
            self.add_module(f"upcat_{level}", joined)
        self.final_conv = _CONV[spatial_dims](features[5], out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits ``(n, out_channels, *size)`` of images ``(n, in_channels, *size)``."""
        levels = [self.conv_0(x)]
        for down in (self.down_1, self.down_2, self.down_3, self.down_4):
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up in (self.upcat_4, self.upcat_3, self.upcat_2, self.upcat_1):
            x = up(x, levels.pop())
        return self.final_conv(x)


# SegResNet ------------------------------------------------------------------------------------------------------


def _bare(dims: int, inside: int, outside: int, kernel: int = 3, stride: int = 1, bias: bool = False) -> nn.Sequential:
    block = nn.Sequential()
    block.add_module("conv", _CONV[dims](inside, outside, kernel, stride, kernel // 2, bias=bias))
    return block


class _PreActivated(nn.Module):
    """Normalise, activate, convolve, twice; its input is added."""

    def __init__(self, dims: int, channels: int, norm: Named, act: Named) -> None:
        super().__init__()
        self.norm1, self.norm2 = normalisation(norm, dims, channels), normalisation(norm, dims, channels)
        self.act = activation(act)
        self.conv1, self.conv2 = _bare(dims, channels, channels), _bare(dims, channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features of the same shape."""
        y = self.conv1(self.act(self.norm1(x)))
        return x + self.conv2(self.act(self.norm2(y)))


class SegResNet(nn.Module):
    """Residual network after Myronenko (2018), without its autoencoder, as ``monai.networks.nets.SegResNet`` has it.

    Parameters
    ----------
    spatial_dims, in_channels, out_channels, act, norm
        As for `MonaiUNet`.
    init_filters : int
        Features of the finest level; each level below has twice as many.
    dropout_prob : float, optional
        Share of values that are dropped while it learns.
    use_conv_final : bool
        Whether the features become classes.
    blocks_down, blocks_up : sequence of int
        Residual blocks at every level, on the way down and on the way up.
    upsample_mode : {"nontrainable", "deconv"}
        How the resolution is doubled: linearly, or by a convolution.

    Examples
    --------
    >>> SegResNet(2, 8, 1, 3, blocks_down=(1, 1), blocks_up=(1,))(torch.zeros(1, 1, 8, 8)).shape
    torch.Size([1, 3, 8, 8])
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        init_filters: int = 8,
        in_channels: int = 1,
        out_channels: int = 2,
        dropout_prob: float | None = None,
        act: Named = ("RELU", {"inplace": True}),
        norm: Named = ("GROUP", {"num_groups": 8}),
        use_conv_final: bool = True,
        blocks_down: Sequence[int] = (1, 2, 2, 4),
        blocks_up: Sequence[int] = (1, 1, 1),
        upsample_mode: str = "nontrainable",
    ) -> None:
        super().__init__()
        if len(blocks_up) != len(blocks_down) - 1:
            raise InputError(f"blocks_up {list(blocks_up)} must be one fewer than blocks_down {list(blocks_down)}")
        if upsample_mode not in ("nontrainable", "deconv"):
            raise InputError(f"upsample_mode {upsample_mode!r} is not built here: use 'nontrainable' or 'deconv'")
        dims = _dims(spatial_dims, "a SegResNet")
        if _named(act, "act")[0] == "relu":
            act = ("relu", {})
        self.convInit = _bare(dims, in_channels, init_filters)
        self.dropout = nn.Identity() if dropout_prob is None else {2: nn.Dropout2d, 3: nn.Dropout3d}[dims](dropout_prob)
        self.down_layers, self.up_layers, self.up_samples = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        width = init_filters
        for level, count in enumerate(blocks_down):
            width = init_filters * 2**level
            first = _bare(dims, width // 2, width, stride=2) if level else nn.Identity()
            self.down_layers.append(
                nn.Sequential(first, *(_PreActivated(dims, width, norm, act) for _ in range(count)))
            )
        for count in blocks_up:
            width //= 2
            double = nn.Sequential()
            if upsample_mode == "deconv":
                double.add_module("deconv", _UP[dims](width, width, 2, 2))
            else:
                linear = nn.Upsample(scale_factor=2, mode=_LINEAR[dims], align_corners=False)
                double.add_module("upsample_non_trainable", linear)
            self.up_samples.append(nn.Sequential(_bare(dims, 2 * width, width, 1), double))
            self.up_layers.append(nn.Sequential(*(_PreActivated(dims, width, norm, act) for _ in range(count))))
        head = _bare(dims, init_filters, out_channels, 1, bias=True)
        self.conv_final = nn.Sequential(normalisation(norm, dims, init_filters), activation(act), head)
        self.use_conv_final = use_conv_final

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits ``(n, out_channels, *size)`` of images ``(n, in_channels, *size)``."""
        x = self.dropout(self.convInit(x))
        levels = []
        for down in self.down_layers:
            x = down(x)
            levels.append(x)
        levels.pop()
        for double, blocks in zip(self.up_samples, self.up_layers, strict=True):
            x = blocks(double(x) + levels.pop())
        return self.conv_final(x) if self.use_conv_final else x


NETWORKS: dict[str, type[nn.Module]] = {"monai_unet": MonaiUNet, "basic_unet": BasicUNet, "segresnet": SegResNet}
