"""The architectures that can be built by name: a card says ``{"name": "unet", "args": {...}}``."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn

from ..errors import InputError
from .networks_more import ARCHITECTURES as _MORE
from .nnunet_networks import ARCHITECTURES as _OF_NNUNET

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM = {
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
}


class Block(nn.Module):
    """Two convolutions 3x3(x3), each with normalisation and leaky ReLU; the first may halve the resolution.

    With `residual`, the block's input (brought to size and channels by a 1x1 convolution where needed) is added
    before the last activation.
    """

    def __init__(self, dims: int, inside: int, outside: int, *, stride: int = 1, norm: str, residual: bool):
        super().__init__()
        conv, normalise = _CONV[dims], _NORM[norm, dims]
        self.conv1 = conv(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.norm1 = normalise(outside, affine=True)
        self.conv2 = conv(outside, outside, 3, padding=1, bias=False)
        self.norm2 = normalise(outside, affine=True)
        self.activation = nn.LeakyReLU(0.01, inplace=True)
        self.shortcut = None
        if residual:
            same = stride == 1 and inside == outside
            self.shortcut = nn.Identity() if same else conv(inside, outside, 1, stride=stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of ``(n, channels, *size)``, halved in size where the block has stride 2."""
        y = self.norm2(self.conv2(self.activation(self.norm1(self.conv1(x)))))
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return self.activation(y)


class UNet(nn.Module):
    """U-Net after Ronneberger, Fischer and Brox (2015), with strided convolutions on the way down.

    Parameters
    ----------
    dims : {2, 3}
        Axes of the image.
    in_channels, out_channels : int
        Images that go in; classes that come out, background included.
    channels : sequence of int
        Features at every level, finest first. Every level after the first halves each axis, so the input's sizes must
        be divisible by ``2 ** (len(channels) - 1)``.
    norm : {"instance", "batch"}
        Instance normalisation forgets the brightness of a picture; batch normalisation keeps absolute values, and
        then the result of a voxel does not depend on what else lies in its window.
    residual : bool
        Whether every block adds its input to its output.

    Notes
    -----
    ``forward`` takes ``(n, in_channels, *size)`` and returns logits ``(n, out_channels, *size)``.

    Examples
    --------
    >>> net = UNet(dims=2, in_channels=1, out_channels=2, channels=(4, 8))
    >>> net(torch.zeros(1, 1, 16, 24)).shape
    torch.Size([1, 2, 16, 24])
    """

    def __init__(
        self,
        dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 2,
        channels: Sequence[int] = (16, 32, 64, 128),
        norm: str = "instance",
        residual: bool = False,
    ):
        super().__init__()
        if dims not in _CONV:
            raise InputError(f"dims {dims!r} cannot be built: a U-Net has 2 or 3")
        if (norm, dims) not in _NORM:
            raise InputError(f"norm {norm!r} is unknown: use 'instance' or 'batch'")
        counts = (in_channels, out_channels, *channels)
        if not channels or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in counts):
            raise InputError(f"channels {tuple(counts)} must be whole numbers greater than zero")
        self.divisible_by = 2 ** (len(channels) - 1)
        self.dims = dims
        options = {"norm": norm, "residual": residual}
        self.down = nn.ModuleList(
            Block(dims, before, here, stride=1 if level == 0 else 2, **options)
            for level, (before, here) in enumerate(zip((in_channels, *channels), channels, strict=False))
        )
        self.up = nn.ModuleList()
        self.merge = nn.ModuleList()
        for fine, coarse in reversed(list(pairwise(channels))):
            self.up.append(_UP[dims](coarse, fine, 2, stride=2))
            self.merge.append(Block(dims, 2 * fine, fine, **options))
        self.head = _CONV[dims](channels[0], out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits ``(n, out_channels, *size)`` of images ``(n, in_channels, *size)``.

        Raises
        ------
        InputError
            If the number of axes is wrong, or a size is not divisible by ``divisible_by``.
        """
        sizes = x.shape[2:]
        if len(sizes) != self.dims or any(n % self.divisible_by for n in sizes):
            raise InputError(
                f"an input of size {tuple(sizes)} does not fit this U-Net: it needs {self.dims} axes, each divisible "
                f"by {self.divisible_by}"
            )
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([up(x), skips.pop()], dim=1))
        return self.head(x)


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"unet": UNet, **_OF_NNUNET, **_MORE}


def build(name: str, **args) -> nn.Module:
    """Build an untrained network by its name.

    Parameters
    ----------
    name : str
        A key of `ARCHITECTURES`: ``"unet"``, or one of nnU-Net's: ``"plain_conv_unet"``, ``"residual_encoder_unet"``,
        ``"residual_unet"``.
    **args
        Arguments of the architecture, as a card's ``architecture.args`` holds them.

    Returns
    -------
    torch.nn.Module
        In training mode, with PyTorch's default initialisation (seed it with ``torch.manual_seed``).

    Raises
    ------
    InputError
        If the name or an argument is unknown.

    Examples
    --------
    >>> sum(p.numel() for p in build("unet", dims=2, channels=(4, 8)).parameters())
    1682
    """
    if name not in ARCHITECTURES:
        raise InputError(f"architecture {name!r} is unknown: use one of {', '.join(sorted(ARCHITECTURES))}")
    try:
        return ARCHITECTURES[name](**args)
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError, RuntimeError) as error:
        raise InputError(f"architecture {name!r} cannot be built with {sorted(args)}: {error}") from error
