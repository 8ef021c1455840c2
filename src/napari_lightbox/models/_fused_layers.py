"""What our own U-Nets compute, written down as a list of layers: the form that `_fused` runs.

Every layer is a convolution of one or more features, with all that follows it. Features are known by numbers; 0 is
the image. A network with a part that has no place in such a list is left to PyTorch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from . import networks, nnunet_networks

_CONVS = (nn.Conv2d, nn.Conv3d)
_UPS = (nn.ConvTranspose2d, nn.ConvTranspose3d)
_INSTANCE = (nn.InstanceNorm2d, nn.InstanceNorm3d)
_BATCH = (nn.BatchNorm2d, nn.BatchNorm3d)
_DROPOUTS = (nn.Dropout, nn.Dropout2d, nn.Dropout3d)


class UnfitError(Exception):
    """The network has a part that cannot be written down as layers."""


@dataclass(frozen=True, eq=False)
class Norm:
    """Normalisation of channels: ``(x - mean) / sqrt(var + eps) * weight + bias``.

    Parameters
    ----------
    weight, bias : (channels,) ndarray
        Scale and shift.
    eps : float
        Added to the variance.
    mean, var : (channels,) ndarray or None
        Fixed statistics; None: those of the features themselves.
    """

    weight: np.ndarray
    bias: np.ndarray
    eps: float
    mean: np.ndarray | None = None
    var: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution with what follows it.

    Parameters
    ----------
    sources : tuple of int
        Features that go in, joined in this order.
    inside : tuple of int
        Channels of each of them.
    target : int
        Features that come out.
    weight : (outside, inside, kz, ky, kx) float32 ndarray
        Taps. Of a layer that goes `up`, each tap makes a voxel of its own.
    bias : (outside,) float32 ndarray
        Added to each channel.
    stride, padding : tuple of int
        As of a convolution, for z, y, x; `up`: the factors by which the axes grow.
    up : bool
        Whether the convolution is transposed.
    norm : Norm or None
        Normalisation.
    slope : float
        Of the activation for negative values; 1 for none.
    added : int or None
        Features that are added before the activation.
    """

    sources: tuple[int, ...]
    inside: tuple[int, ...]
    target: int
    weight: np.ndarray
    bias: np.ndarray
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    up: bool = False
    norm: Norm | None = None
    slope: float = 1.0
    added: int | None = None

    def size(self, inside: Sequence[int]) -> tuple[int, ...]:
        """Return the sizes of what comes out, for those of what goes in."""
        if self.up:
            return tuple(n * s for n, s in zip(inside, self.stride, strict=True))
        around = zip(inside, self.weight.shape[2:], self.padding, self.stride, strict=True)
        return tuple((n + 2 * p - k) // s + 1 for n, k, p, s in around)


def layers_of(network: nn.Module) -> list[Layer]:
    """Return the layers of a network; the last one's features are its answer.

    Raises
    ------
    UnfitError
        If there is no such list.
    """
    for part in network.modules():
        if part._forward_hooks or part._forward_pre_hooks:
            raise UnfitError("somebody listens to its parts")
    if any(p.dtype.itemsize != 4 or p.device.type != "cpu" for p in (*network.parameters(), *network.buffers())
           if p.is_floating_point()):  # fmt: skip
        raise UnfitError("its weights are not of single precision, or not in memory")
    record = _Record()
    if type(network) is networks.UNet:
        _unet(record, network)
    elif isinstance(network, nnunet_networks._UNet):
        _unet_of_nnunet(record, network)
    else:
        raise UnfitError(f"{type(network).__name__} is no network of ours")
    return record.layers


class _Record:
    """The list while it is written."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self._channels: list[int] = []

    def _add(self, sources: tuple[int, ...], weight: np.ndarray, conv: nn.Module | None, **fields) -> int:
        if not self._channels:
            self._channels.append(weight.shape[1])
        inside = tuple(self._channels[s] for s in sources)
        added = fields.get("added")
        if sum(inside) != weight.shape[1] or (added is not None and self._channels[added] != len(weight)):
            raise UnfitError("channels do not fit each other")
        bias = np.zeros(len(weight), np.float32) if conv is None or conv.bias is None else _array(conv.bias)
        self._channels.append(len(weight))
        target = len(self._channels) - 1
        self.layers.append(Layer(sources, inside, target, weight, bias, **fields))
        return target

    def conv(
        self,
        sources: tuple[int, ...],
        conv: nn.Module,
        norm: nn.Module | None = None,
        slope: float = 1.0,
        added: int | None = None,
        pooled: Sequence[int] | None = None,
    ) -> int:
        """Add a convolution, of the means over boxes of the size `pooled` where that is given."""
        simple = type(conv) in _CONVS and conv.groups == 1 and set(conv.dilation) == {1}
        if not simple or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise UnfitError("a convolution has groups, holes or a border of its own")
        weight = _in_space(_array(conv.weight))
        stride, padding = _triple(conv.stride, 1), _triple(conv.padding, 0)
        if pooled is not None:
            if weight.shape[2:] != (1, 1, 1) or stride != (1, 1, 1) or any(padding):
                raise UnfitError("means go into a convolution of several taps")
            stride = _triple(pooled, 1)
            weight = np.broadcast_to(weight / np.float32(np.prod(stride)), (*weight.shape[:2], *stride))
        kernel = weight.shape[2:]
        if max(padding) > 1 or kernel[2] > 3 or stride[2] > 2 or any(p >= k for p, k in zip(padding, kernel)):  # noqa: B905
            raise UnfitError("a convolution is too wide")
        found = _norm(norm, len(weight))
        fields = {"stride": stride, "padding": padding, "norm": found, "slope": slope, "added": added}
        return self._add(sources, weight, conv, **fields)

    def up(self, source: int, conv: nn.Module) -> int:
        """Add a transposed convolution whose voxels do not overlap."""
        simple = type(conv) in _UPS and conv.groups == 1 and set(conv.dilation) == {1}
        if not simple or conv.kernel_size != conv.stride or any(conv.padding) or any(conv.output_padding):
            raise UnfitError("a transposed convolution overlaps itself")
        weight = _in_space(_array(conv.weight)).swapaxes(0, 1)
        return self._add((source,), weight, conv, stride=_triple(conv.stride, 1), padding=(0, 0, 0), up=True)


# Parts -------------------------------------------------------------------------------------------------------------


def _array(tensor) -> np.ndarray:
    return tensor.detach().numpy()


def _in_space(weight: np.ndarray) -> np.ndarray:
    return weight[:, :, None] if weight.ndim == 4 else weight


def _triple(values: Sequence[int], first: int) -> tuple[int, ...]:
    return (first,) * (3 - len(values)) + tuple(int(n) for n in values)


def _norm(norm: nn.Module | None, channels: int) -> Norm | None:
    if norm is None:
        return None
    fixed = type(norm) in _BATCH
    kinds = _BATCH if fixed else _INSTANCE
    if type(norm) not in kinds or norm.track_running_stats != fixed or norm.num_features != channels:
        raise UnfitError("a normalisation is of another kind")
    weight = np.ones(channels, np.float32) if norm.weight is None else _array(norm.weight)
    bias = np.zeros(channels, np.float32) if norm.bias is None else _array(norm.bias)
    if fixed:
        return Norm(weight, bias, norm.eps, _array(norm.running_mean), _array(norm.running_var))
    return Norm(weight, bias, norm.eps)


def _slope(activation: nn.Module | None) -> float:
    if activation is None or type(activation) is nn.Identity:
        return 1.0
    if type(activation) is nn.ReLU:
        return 0.0
    if type(activation) is nn.LeakyReLU:
        return float(activation.negative_slope)
    raise UnfitError("an activation is of another kind")


# Networks ----------------------------------------------------------------------------------------------------------


def _unet(record: _Record, network: networks.UNet) -> None:
    x, skips = 0, []
    for block in network.down:
        x = _block(record, (x,), block)
        skips.append(x)
    skips.pop()
    for up, merge in zip(network.up, network.merge, strict=True):
        x = _block(record, (record.up(x, up), skips.pop()), merge)
    record.conv((x,), network.head)


def _block(record: _Record, sources: tuple[int, ...], block: networks.Block) -> int:
    slope, added = _slope(block.activation), None
    first = record.conv(sources, block.conv1, block.norm1, slope)
    if type(block.shortcut) is nn.Identity:
        (added,) = sources
    elif block.shortcut is not None:
        added = record.conv(sources, block.shortcut)
    return record.conv((first,), block.conv2, block.norm2, slope, added)


def _unet_of_nnunet(record: _Record, network: nnunet_networks._UNet) -> None:
    encoder, decoder, x, skips = network.encoder, network.decoder, 0, []
    if hasattr(encoder, "stem"):
        x = _stage(record, (x,), encoder.stem)
    for stage in encoder.stages:
        x = _stage(record, (x,), stage)
        skips.append(x)
    x = skips.pop()
    for up, stage in zip(decoder.transpconvs, decoder.stages, strict=True):
        x = _stage(record, (record.up(x, up), skips.pop()), stage)
    record.conv((x,), decoder.seg_layers[-1])


def _stage(record: _Record, sources: tuple[int, ...], stage: nn.Module) -> int:
    if type(stage) is nn.Sequential:
        (stage,) = stage
    step, parts = {
        nnunet_networks._Convs: (_conv, getattr(stage, "convs", ())),
        nnunet_networks._Residuals: (_residual, getattr(stage, "blocks", ())),
    }[type(stage)]
    for part in parts:
        sources = (step(record, sources, part),)
    return sources[0]


def _conv(
    record: _Record, sources: tuple[int, ...], part: nnunet_networks._Conv, nonlin: nn.Module | None = None,
    added: int | None = None, pooled: Sequence[int] | None = None,
) -> int:  # fmt: skip
    """Write down a convolution of nnU-Net; `nonlin` stands in for an activation that it has not got itself."""
    norm = getattr(part, "norm", None)
    own = getattr(part, "nonlin", None)
    expected = [part.conv, getattr(part, "dropout", None), norm, own]
    if list(part.all_modules) != [one for one in expected if one is not None]:
        raise UnfitError("a convolution has further parts")
    slope = _slope(own if own is not None else nonlin)
    return record.conv(sources, part.conv, norm, slope, added, pooled)


def _residual(record: _Record, sources: tuple[int, ...], block: nnunet_networks._Residual) -> int:
    (added,) = sources if len(sources) == 1 else (None,)
    pooled = None
    for part in block.skip:
        if type(part) in (nn.AvgPool2d, nn.AvgPool3d):
            pooled = part.kernel_size
        else:
            added, pooled = _conv(record, sources, part, pooled=pooled), None
    if pooled is not None or added is None:
        raise UnfitError("a shortcut has no convolution")
    first = _conv(record, sources, block.conv1)
    return _conv(record, (first,), block.conv2, block.nonlin2, added)
