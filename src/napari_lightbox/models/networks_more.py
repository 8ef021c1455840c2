"""Further architectures by name: MeshNet, the U-Net of single slices, and those that MONAI bundles are made of."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ..errors import InputError
from .networks_monai import NETWORKS


class MeshNet(nn.Module):
    """MeshNet after Fedorov et al. (IJCNN 2017): dilated convolutions at full resolution, and so very few weights.

    Parameters
    ----------
    dims : {2, 3}
        Axes of the image.
    in_channels, out_channels : int
        Images that go in; classes that come out, background included.
    channels : int
        Features of every layer.
    dilations : sequence of int
        Voxels between the taps of each layer of 3x3(x3) convolutions; a 1x1(x1) convolution makes the classes.
    dropout : float
        Share of features that are dropped while it learns.

    Notes
    -----
    A voxel's result depends on ``sum(dilations)`` voxels around it, and any size of image will do.

    Examples
    --------
    >>> MeshNet(dims=2, channels=5)(torch.zeros(1, 1, 7, 9)).shape
    torch.Size([1, 2, 7, 9])
    """

    def __init__(
        self,
        dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 2,
        channels: int = 21,
        dilations: Sequence[int] = (1, 1, 1, 2, 4, 8, 1),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if dims not in (2, 3) or isinstance(dims, bool):
            raise InputError(f"dims {dims!r} cannot be built: a MeshNet has 2 or 3")
        conv, norm = {2: nn.Conv2d, 3: nn.Conv3d}[dims], {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims]
        layers: list[nn.Module] = []
        before = in_channels
        for dilation in dilations:
            layers += [conv(before, channels, 3, padding=dilation, dilation=dilation), norm(channels), nn.ReLU()]
            layers += [{2: nn.Dropout2d, 3: nn.Dropout3d}[dims](dropout)] if dropout else []
            before = channels
        self.layers = nn.Sequential(*layers)
        self.head = conv(before, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits ``(n, out_channels, *size)`` of images ``(n, in_channels, *size)``."""
        return self.head(self.layers(x))


def unet2d(
    in_channels: int = 1,
    out_channels: int = 2,
    channels: Sequence[int] = (16, 32, 64, 128),
    norm: str = "instance",
    residual: bool = False,
) -> nn.Module:
    """Return a ``"unet"`` of single slices: the same network with ``dims=2``.

    Parameters
    ----------
    in_channels, out_channels, channels, norm, residual
        As for `networks.UNet`.

    Examples
    --------
    >>> unet2d(channels=(4, 8)).dims
    2
    """
    from .networks import UNet

    return UNet(2, in_channels, out_channels, channels, norm, residual)


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"unet2d": unet2d, "meshnet": MeshNet, **NETWORKS}
