"""The layers of a network: their names and shapes, what they give, and where its values lie on the input."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import InputError
from . import sampling

_ACTIVATIONS = ("ReLU", "ELU", "GELU", "SiLU", "Sigmoid", "Tanh", "Softmax", "Mish", "swish", "Softplus")
_LONGEST = 1024
# Voxels of a window that goes through a network within a second or so.
_SMALL = 1 << 18


@dataclass(frozen=True)
class Layer:
    """A layer, as a pass of the network shows it.

    Parameters
    ----------
    name : str
        As in ``network.named_modules()``.
    kind : str
        Its class.
    shape : tuple of int
        (channels, *size) that it gives for `window`.
    window : tuple of int
        Size of the input, array order.
    parameters : int
        How many numbers were learned.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    window: tuple[int, ...]
    parameters: int

    @property
    def coarser(self) -> tuple[float, ...]:
        """How many voxels of the input one of its voxels stands for, along each axis."""
        return tuple(n / m for n, m in zip(self.window, self.shape[1:], strict=True))


@contextmanager
def hooked(layer: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """Keep what a layer gives; what comes after gets a copy, as it may write into it."""
    kept: list[torch.Tensor] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> Any:
        if not isinstance(output, torch.Tensor):
            return None
        kept.append(output)
        return output.clone()

    handle = layer.register_forward_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()


def require_network(network: Any, name: str) -> torch.nn.Module:
    """Refuse what has no layers: functions, and graphs of other programs."""
    inside = getattr(network, "network", network)
    if not isinstance(inside, torch.nn.Module) or not any(True for _ in inside.children()):
        raise InputError(
            f"model {name!r} shows no layers, as functions and networks in ONNX do not: take a network of torch, or "
            "method='occlusion' where its answers are to be explained"
        )
    if isinstance(inside, torch.jit.ScriptModule):
        raise InputError(
            f"model {name!r} is TorchScript, whose layers cannot be looked into: take the network it was made of, or "
            "method='gradient', 'integrated_gradients' or 'occlusion'"
        )
    return inside


def evens_out(network: Any) -> bool:
    """Whether a network evens out what it sees by norms over a whole window: contrast is nothing to it, but none is."""
    inside = getattr(network, "network", network)
    kinds = ("InstanceNorm", "GroupNorm", "LayerNorm")
    modules = inside.modules() if isinstance(inside, torch.nn.Module) else ()
    return any(kind in getattr(one, "original_name", type(one).__name__) for one in modules for kind in kinds)


def find(network: torch.nn.Module, name: str, rows: Sequence[Layer]) -> torch.nn.Module:
    """Return a layer by its name."""
    if name not in {row.name for row in rows}:
        known = ", ".join(row.name for row in rows[:40])
        raise InputError(f"layer {name!r} does not exist or gives no features: use one of {known}")
    return network.get_submodule(name)


def listed(network: torch.nn.Module, channels: int, window: Sequence[int]) -> list[Layer]:
    """Return all layers that give features for a window, in the order in which they are done.

    Shapes for a large window come from a pass without numbers (torch's device "meta") where the network allows it:
    that takes some seconds to get ready, which a small one does not need.
    """
    small = torch.Size(window).numel() <= _SMALL
    for device in ("cpu",) if small else ("meta", "cpu"):
        try:
            probe = copy.deepcopy(network).to(device) if device == "meta" else network
            return _pass(probe, torch.zeros((1, channels, *window), device=device))
        except Exception as error:  # whatever a network does not bear
            failed = error
    said = str(failed).strip().split("\n")[0][:200]
    raise InputError(f"window {tuple(window)} cannot go through the network ({said}): choose another") from failed


def _pass(network: torch.nn.Module, inputs: torch.Tensor) -> list[Layer]:
    found: dict[str, Layer] = {}
    handles = []
    for name, module in network.named_modules():
        if not name:
            continue

        def note(module: torch.nn.Module, _inputs: Any, output: Any, name: str = name) -> None:
            if isinstance(output, torch.Tensor) and output.ndim == inputs.ndim:
                learned = sum(p.numel() for p in module.parameters())
                shape, size = tuple(output.shape[1:]), tuple(inputs.shape[2:])
                # The last time counts, for those that are used more than once.
                found.pop(name, None)
                found[name] = Layer(name, type(module).__name__, shape, size, learned)

        handles.append(module.register_forward_hook(note))
    try:
        with torch.inference_mode():
            network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())


def bottleneck(rows: Sequence[Layer]) -> Layer:
    """Return the last of the coarsest layers; in a network that never gets coarser, the last before its head."""
    if not rows:
        raise InputError("the network has no layers that give features: use method='occlusion'")
    sizes = [torch.Size(row.shape[1:]).numel() for row in rows]
    if min(sizes) < torch.Size(rows[0].window).numel():
        return [row for row, size in zip(rows, sizes, strict=True) if size == min(sizes)][-1]
    return rows[-2] if len(rows) > 1 else rows[-1]


# Where values lie -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alignment:
    """Where the values of a layer lie: value i at ``first + step * i`` voxels of the input, along each axis."""

    first: tuple[float, ...]
    step: tuple[float, ...]

    def widened(self, maps: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """Interpolate maps (n, *layer) linearly to the voxels of a window, (n, *size)."""
        for axis, (length, first, step) in enumerate(zip(size, self.first, self.step, strict=True), start=1):
            if maps.shape[axis] != length or first != 0:
                along = sampling.taps(maps.shape[axis], length, 1 / step, smooth=False, first=-first / step)
                maps = sampling.gather(maps, axis, *along)
        return maps


def alignment(network: torch.nn.Module, rows: Sequence[Layer], row: Layer, channels: int, by: int) -> Alignment:
    """Return where the values of a layer lie.

    A convolution with stride 2 and padding 1 takes every second voxel, starting with the first: its values do not lie
    in the middle of two voxels, as resizing an image would have it. Where they lie is seen from what reaches them in
    the first layer of that size; later ones are joined with it. Where that cannot be seen they share the window.
    """
    steps = tuple(n / m for n, m in zip(row.window, row.shape[1:], strict=True))
    shared = tuple((s - 1) / 2 for s in steps)
    if all(s == 1 for s in steps):
        return Alignment((0.0,) * len(steps), steps)
    earliest = next(one for one in rows if one.shape[1:] == row.shape[1:])
    first = []
    for axis, step in enumerate(steps):
        reach = _seen(network, earliest.name, channels, by, axis, len(steps), step)
        first.append(shared[axis] if reach is None else reach)
    return Alignment(tuple(first), steps)


def _seen(network, name: str, channels: int, by: int, axis: int, dims: int, step: float) -> float | None:
    """Return where the first value of a layer lies along an axis, or None where it cannot be seen."""
    try:
        found = reach(network, name, channels, by, axis, dims, places=1)
    except Exception:  # a network that does not bear another size or other weights
        return None
    if found is None:
        return None
    (place, low, high), _ = found[0], found
    return (low + high) / 2 - step * place


def reach(
    network: torch.nn.Module, name: str | None, channels: int, by: int, axis: int, dims: int, places: int
) -> list[tuple[int, int, int]] | None:
    """Return which voxels along an axis can reach some neighbouring values in the middle of a layer.

    Parameters
    ----------
    network : Module
    name : str or None
        Of the layer; None for the answer.
    channels, by : int
        Channels of the input, and what its sizes must be divisible by.
    axis, dims : int
        Axis, of how many.
    places : int
        How many neighbouring values are looked at.

    Returns
    -------
    list of (place, lowest, highest), or None
        None where a value depends on all of the longest input tried.
    """
    by = max(1, by)
    try:
        return _longest(along(positive(network), axis), name, channels, by, axis, [1] * dims, places)
    except Exception:  # what is no layer of its own cannot be narrowed to one axis
        return _longest(positive(network), name, channels, by, axis, [max(by, 2)] * dims, places)


def _longest(
    probe: torch.nn.Module, name: str | None, channels: int, by: int, axis: int, shape: list[int], places: int
) -> list[tuple[int, int, int]] | None:
    """Try longer and longer inputs, until nothing is cut off at their ends."""
    layer = probe.get_submodule(name) if name else probe
    length = max(by, -(-64 // by) * by)
    while length <= max(_LONGEST, by):
        shape[axis] = length
        found = _reached(probe, layer, channels, shape, axis, places)
        if all(low > 0 and high < length - 1 for _, low, high in found):
            return found
        length *= 2
    return None


def _reached(probe, layer, channels: int, shape: list[int], axis: int, places: int) -> list[tuple[int, int, int]]:
    with torch.inference_mode(False), torch.enable_grad():
        inputs = torch.ones((1, channels, *shape), dtype=torch.float64, requires_grad=True)
        kept: list[torch.Tensor] = []
        handle = layer.register_forward_hook(lambda _m, _i, output: kept.append(_tensor(output)))
        try:
            probe(inputs * 1)
        finally:
            handle.remove()
        others = [a for a in range(inputs.ndim) if a != axis + 2]
        line = kept[-1].sum(others)
        first = max(0, len(line) // 2 - places // 2)
        found = []
        for place in range(first, min(len(line), first + places)):
            (grad,) = torch.autograd.grad(line[place], inputs, retain_graph=True)
            there = torch.nonzero(grad.sum(others) > 0).flatten()
            found.append((place, int(there[0]), int(there[-1])))
    return found


def _tensor(output: Any) -> torch.Tensor:
    while not isinstance(output, torch.Tensor):
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]
    return output.clone()


def positive(network: torch.nn.Module) -> torch.nn.Module:
    """Return a copy in which nothing cancels: positive weights, no norms, no activations, means for maxima.

    A value of it depends on exactly those voxels that a value of the network can depend on, beside what norms look at.
    """
    probe = copy.deepcopy(network).double()
    for parent in list(probe.modules()):
        for name, child in list(parent.named_children()):
            kind = type(child).__name__
            if "Norm" in kind or "Dropout" in kind or any(one in kind for one in _ACTIVATIONS):
                setattr(parent, name, torch.nn.Identity())
            elif kind in ("MaxPool2d", "MaxPool3d"):
                pool = torch.nn.AvgPool2d if kind.endswith("2d") else torch.nn.AvgPool3d
                setattr(parent, name, pool(child.kernel_size, child.stride, child.padding, child.ceil_mode))
    with torch.no_grad():
        for parameter in probe.parameters():
            # Means, as sums would grow beyond all bounds.
            parameter.fill_(1 / max(1, parameter[0].numel()) if parameter.ndim > 1 else 0.0)
    return probe


def along(probe: torch.nn.Module, axis: int) -> torch.nn.Module:
    """Narrow a network of `positive` to one axis: the others are one voxel wide, and nothing happens along them.

    As all weights of a kernel are the same, what reaches a value along the axis stays the same, in a fraction of the
    time.
    """
    for module in probe.modules():
        if hasattr(module, "divisible_by"):
            module.divisible_by = 1
        kernel = getattr(module, "kernel_size", None)
        scale = getattr(module, "scale_factor", None)
        if kernel is None and scale is None:
            continue
        neutral = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1, "output_padding": 0, "scale_factor": 1}
        weight = getattr(module, "weight", None)
        dims = weight.ndim - 2 if weight is not None else int(type(module).__name__[-2]) if kernel else None
        if dims is None or getattr(module, "padding_mode", "zeros") != "zeros":
            raise ValueError(f"{type(module).__name__} cannot be narrowed")
        for attribute, nothing in neutral.items():
            value = getattr(module, attribute, None)
            if isinstance(value, int | tuple):
                value = value if isinstance(value, tuple) else (value,) * dims
                setattr(module, attribute, tuple(v if a == axis else nothing for a, v in enumerate(value)))
            elif isinstance(value, str):
                raise ValueError(f"padding {value!r} cannot be narrowed")
        if weight is not None:
            others = [a + 2 for a in range(dims) if a != axis]
            module.weight = torch.nn.Parameter(weight.mean(others, keepdim=True))
    return probe


def middle_gradient(network: torch.nn.Module, name: str | None, inputs: torch.Tensor) -> tuple[Any, tuple[int, ...]]:
    """Return the magnitude of the gradient of a layer's middle value by the input, and where that value lies.

    All channels are summed up, those of the layer and those of the input; an array of the input's size.
    """
    layer = network.get_submodule(name) if name else network
    kept: list[torch.Tensor] = []
    with torch.inference_mode(False), torch.enable_grad():
        leaf = inputs.clone().requires_grad_()
        handle = layer.register_forward_hook(lambda _m, _i, output: kept.append(_tensor(output)))
        try:
            network(leaf * 1)
        finally:
            handle.remove()
        given = kept[-1]
        if not given.requires_grad:
            raise InputError("the network gives no gradients, by which its receptive field is measured")
        place = tuple(n // 2 for n in given.shape[2:])
        (grad,) = torch.autograd.grad(given[(0, slice(None), *place)].sum(), leaf)
    steps = [n / m for n, m in zip(inputs.shape[2:], given.shape[2:], strict=True)]
    return grad[0].abs().sum(0).numpy(), tuple(round(p * s) for p, s in zip(place, steps, strict=True))
