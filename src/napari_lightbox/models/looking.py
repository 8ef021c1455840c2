"""The network looked into: its layers, what they give for an image, its first kernels, and how far it sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..geometry import Grid
from ..volume import Volume
from ._explained_steps import step_of
from ._explaining import Job, divisor, folds, job_of
from .card import Card
from .loaders import Model
from .loaders import load as load_model
from .predict import ModelLike
from .torch_import import import_torch

if TYPE_CHECKING:
    from ._layers import Layer

# Values neighbouring each other in the answer that are asked what they can see.
_PLACES = 16
# Of the largest gradient: what is less is not seen in effect (Luo et al. 2016: two standard deviations of a Gaussian).
_EFFECTIVE = 1 - 0.9545


def layers(model: ModelLike, *, window: Sequence[int] | None = None, channels: int = 1, dims: int = 3) -> list["Layer"]:
    """Return the layers of a network, in the order in which they are done.

    Parameters
    ----------
    model : Model, str, path or torch.nn.Module
        As for `predict`; it must be a network of torch.
    window : sequence of int, optional
        Size of the input, array order, that the shapes are told for; the card's where not given, else 64 voxels.
    channels, dims : int
        For a module without a card: channels of its input, and whether it takes volumes or slices.

    Returns
    -------
    list of Layer
        ``name``, ``kind``, ``shape`` (channels, *size), ``window``, ``parameters``, and how many times coarser than
        the input each axis is (``coarser``). Layers that give no features of the input's axes are left out.

    Raises
    ------
    InputError
        If the network shows no layers (ONNX, TorchScript, functions), or the window does not fit it.

    Examples
    --------
    >>> from napari_lightbox.models.networks import build
    >>> [(row.name, row.shape) for row in layers(build("unet", dims=2, channels=(4, 8)), dims=2)][-1]
    ('head', (2, 64, 64))
    """
    card, module = _opened(model, channels, dims)
    return _rows(card, module, window)


def kernels(model: ModelLike) -> np.ndarray:
    """Return the kernels of the first convolution as pictures.

    Parameters
    ----------
    model : Model, str, path or torch.nn.Module
        As for `layers`.

    Returns
    -------
    (out, in, *size) float32 array
        Weights as they were learned; a copy.

    Raises
    ------
    InputError
        If the network shows no layers, or none of them is a convolution.

    Examples
    --------
    >>> from napari_lightbox.models.networks import build
    >>> kernels(build("unet", dims=2, channels=(4, 8))).shape
    (4, 1, 3, 3)
    """
    torch = import_torch("Looking into a model")
    card, module = _opened(model)
    kinds = (torch.nn.Conv2d, torch.nn.Conv3d)
    found = next((m for m in module.modules() if isinstance(m, kinds)), None)
    if found is None:
        raise InputError(f"model {card.name!r} has no convolution whose kernels could be shown")
    return found.weight.detach().to("cpu", torch.float32).numpy().copy()


def frequency_response(kernels: np.ndarray, size: int = 64) -> np.ndarray:
    """Return how strongly kernels pass each frequency.

    Parameters
    ----------
    kernels : (..., y, x) or (..., z, y, x) array
        As of `kernels`: two axes before those of the kernel.
    size : int
        Frequencies along each axis; kernels are filled up with zeros.

    Returns
    -------
    float32 array
        Magnitude of the discrete Fourier transform, the mean (frequency 0) at index ``size // 2`` of each axis, the
        highest frequency (half a cycle a voxel) at index 0.

    Examples
    --------
    >>> response = frequency_response(np.full((1, 1, 3, 3), 1 / 9), 8)
    >>> round(float(response[0, 0, 4, 4]), 6), round(float(response[0, 0, 4, 0]), 3)
    (1.0, 0.333)
    """
    kernels = np.asarray(kernels)
    axes = tuple(range(2, kernels.ndim))
    if not axes or size < max(kernels.shape[2:]):
        raise InputError(f"size {size!r} must be at least that of the kernels, which is {kernels.shape[2:]}")
    spectrum = np.abs(np.fft.fftn(kernels, s=(size,) * len(axes), axes=axes))
    return np.fft.fftshift(spectrum, axes=axes).astype(np.float32)


# Features -------------------------------------------------------------------------------------------------------


def features(
    volume: Volume | Sequence[Volume],
    model: ModelLike,
    layer: str,
    *,
    channels: Sequence[int] | None = None,
    most: int = 8,
    grid: str = "image",
    frame: int = 0,
    window: Sequence[int] | None = None,
    overlap: float | None = None,
    blending: str | None = None,
    dims: int = 3,
    device: str = "auto",
    check: bool = True,
) -> list[Volume]:
    """Return what a layer gives for an image: feature maps.

    Parameters
    ----------
    volume, model, window, overlap, blending, dims, device, check
        As for `predict`; windows are blended in the same way.
    layer : str
        A name that `layers` lists.
    channels : sequence of int, optional
        Channels of the layer, counted from 0; the most active ones where not given.
    most : int
        How many of the most active, by the mean of their magnitude.
    grid : {"image", "layer"}
        Interpolated linearly to the grid of the image, or as they are on the layer's own, coarser grid: that needs one
        window that covers the image.
    frame : int
        Of a 4D image.

    Returns
    -------
    list of Volume
        One for each channel, the most active first: float32 images, with the step ``"features"`` in their history. Of
        the folds of nnU-Net, those of the first.

    Raises
    ------
    InputError
        If layer or channel do not exist, the network shows no layers, or several windows have no coarser grid.
    Cancelled
        By the listener of `progress`, within one window.

    Examples
    --------
    >>> from napari_lightbox.models.networks import build
    >>> image = Volume.from_array(np.eye(16, dtype=np.float32), spacing=(1, 1))
    >>> found = features(image, build("unet", dims=2, channels=(4, 8)).eval(), "down.0", dims=2, most=2)
    >>> [one.data.shape for one in found]
    [(1, 16, 16), (1, 16, 16)]
    """
    if grid not in ("image", "layer"):
        raise InputError(f"grid {grid!r} is unknown: use image or layer")
    if isinstance(model, list | tuple):
        raise InputError(f"model is a list of {len(model)}: look into one network at a time")
    asked = {"window": window, "overlap": overlap, "blending": blending, "mirror": False, "dims": dims}
    asked |= {"device": device, "check": check}
    with job_of(volume, model, asked, frame) as job:
        from . import _attribution_maps as maps
        from . import _layers

        ready = job.frame(frame)
        question = job.question(ready.plan)
        network = _layers.require_network(job.network, job.card.name)
        size, count = ready.plan.window[-ready.plan.dims :], job.card.input.network_channels
        rows = _layers.listed(network, count, size)
        module = _layers.find(network, layer, rows)
        row = next(one for one in rows if one.name == layer)
        seam = _layers.alignment(network, rows, row, count, divisor(job.card, rows))
        batches = ready.batches(all_of_them=True)
        # Along the slices of a 2D network nothing gets coarser.
        single = ready.plan.padded[3 - ready.plan.dims :] == ready.plan.window[3 - ready.plan.dims :]
        if grid == "layer" and not single:
            raise InputError("grid 'layer' needs one window that covers the image: give window, or take grid='image'")
        job.counter.total += len(batches) * (1 if channels is not None else 2)
        activity = _activity(maps, ready, question, module, batches) if channels is None else None
        chosen = _chosen(channels, activity, row, most)
        written = {"layer": layer, "grid": grid, "frame": frame, **{k: v for k, v in asked.items() if k != "mirror"}}
        step = step_of("features", job.model, job.card, written, job.given, device=job.device)
        if grid == "layer":
            kept = [maps.activations(ready, question, module, some)[:, chosen] for some in batches]
            return _coarse(job, ready, row, seam, np.concatenate(kept), chosen, step)
        found = maps.features(ready, question, module, seam, chosen)
        return [_feature(job, ready, row, one, number, step) for one, number in zip(found, chosen, strict=True)]


def _activity(maps: Any, ready: Any, question: Any, module: Any, batches: Sequence[Any]) -> np.ndarray:
    """Return the mean magnitude of every channel."""
    total: Any = 0
    for some in batches:
        given = maps.activations(ready, question, module, some).double().abs()
        total = total + given.mean([a for a in range(given.ndim) if a != 1]).numpy() * len(given)
    return total


def _chosen(channels: Sequence[int] | None, activity: np.ndarray | None, row: "Layer", most: int) -> list[int]:
    if channels is None:
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise InputError(f"most {most!r} must be a whole number from 1 on")
        return [int(c) for c in np.argsort(-activity, kind="stable")[:most]]
    for channel in channels:
        if isinstance(channel, bool) or not isinstance(channel, int) or not 0 <= channel < row.shape[0]:
            raise InputError(f"channel {channel!r} does not exist: layer {row.name!r} has {row.shape[0]}, from 0 on")
    return list(channels)


def _feature(job: Job, ready: Any, row: "Layer", found: Any, channel: int, step: Mapping[str, Any]) -> Volume:
    data = np.zeros(job.plan.grid.spatial_shape, np.float32)
    ready.write(found, data)
    return _named(job, row, channel, data, job.plan.grid.without_frames(), step)


def _named(job: Job, row: "Layer", channel: int, data: np.ndarray, grid: Grid, step: Mapping[str, Any]) -> Volume:
    first = job.given[0]
    meta = {k: v for k, v in first.meta.items() if k not in ("unit", "windows", "modality")}
    name = f"{job.card.name} {row.name} · channel {channel}"
    step = {**step, "parameters": {**step["parameters"], "channel": channel}}
    return Volume(data, grid, name=name, meta=meta, history=(*first.history, step))


def _coarse(
    job: Job, ready: Any, row: "Layer", seam: Any, kept: np.ndarray, chosen: Sequence[int], step: Mapping[str, Any]
) -> list[Volume]:
    """Return features on the grid that they have: (n, channels, *size) of one window, or of slices."""
    plan = ready.plan
    if plan.dims == 2:
        kept = kept.transpose(1, 0, 2, 3)
        first, apart = (0.0, *seam.first), (1.0, *seam.step)
    else:
        kept = kept[0]
        first, apart = seam.first, seam.step
    grid = plan.grid.without_frames().reordered(plan.order, plan.flips)
    offset = [0 if plan.crop is None else part.start for part in plan.crop or (None,) * 3]
    # Voxel i of the layer lies at `first + apart i` of the padded working grid, which lies on the image's.
    begin = [
        o + (n - 1) / 2 + (f - pad[0] - (m - 1) / 2) * s
        for o, n, m, f, pad, s in zip(offset, plan.shape, plan.working, first, plan.pad, plan.steps, strict=True)
    ]
    if plan.firsts is not None:
        # Where the image's first voxel lies on the working grid.
        begin = [
            o + (f - pad[0] - at) * s
            for o, f, pad, at, s in zip(offset, first, plan.pad, plan.firsts, plan.steps, strict=True)
        ]
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_world(np.array(begin))
    affine[:3, :3] = grid.affine[:3, :3] * (np.array(plan.steps) * apart)
    coarse = Grid(affine, kept.shape[1:])
    return [_named(job, row, c, np.ascontiguousarray(one), coarse, step) for c, one in zip(chosen, kept, strict=True)]


# Receptive field ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReceptiveField:
    """How far one voxel of a layer sees, in voxels of the network's grid.

    Parameters
    ----------
    layer : str or None
        None for the answer.
    bound : tuple of (int, int), or None along an axis
        How many voxels before and after itself a value can depend on at most, by the network's structure; None where
        it depends on everything. Norms that look at the whole window (instance, group) are not counted.
    measured : tuple of (int, int)
        Before and after the middle of a window: where the gradient of its value is not zero, norms included.
    effective : tuple of (int, int)
        Where it is more than 4.55 % of its greatest (Luo et al. 2016, arXiv:1701.04128).
    window : tuple of int
        Size of that window: no more than it can be measured.
    spacing : tuple of float, or None
        mm of those voxels, (z, y, x) or (y, x); None where the card names none and no image was given.
    """

    layer: str | None
    bound: tuple[tuple[int, int] | None, ...]
    measured: tuple[tuple[int, int], ...]
    effective: tuple[tuple[int, int], ...]
    window: tuple[int, ...]
    spacing: tuple[float, ...] | None

    def sizes(self, which: str = "bound") -> tuple[int, ...]:
        """Return voxels along each axis, itself included, of ``"bound"``, ``"measured"`` or ``"effective"``.

        Where the bound is everything, the window.
        """
        given = getattr(self, which)
        return tuple(n if one is None else sum(one) + 1 for one, n in zip(given, self.window, strict=True))

    def millimetres(self, which: str = "bound") -> tuple[float, ...] | None:
        """Return `sizes` in mm."""
        if self.spacing is None:
            return None
        return tuple(n * s for n, s in zip(self.sizes(which), self.spacing, strict=True))

    def as_dict(self) -> Mapping[str, Any]:
        """Return plain values."""
        whichever = ("bound", "measured", "effective")
        found = {which: {"voxels": self.sizes(which), "mm": self.millimetres(which)} for which in whichever}
        return {"layer": self.layer, "window": self.window, **found}


def receptive_field(
    model: ModelLike,
    layer: str | None = None,
    *,
    window: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    channels: int = 1,
    dims: int = 3,
    seed: int = 0,
) -> ReceptiveField:
    """Say how far the network sees.

    Parameters
    ----------
    model, window, channels, dims
        As for `layers`.
    layer : str, optional
        A name that `layers` lists; the answer where not given.
    spacing : sequence of float, optional
        mm of the network's voxels, array order; the card's where not given.
    seed : int
        Of the random input that the gradient is measured at.

    Returns
    -------
    ReceptiveField
        The bound by the network's structure: which voxels reach a value when all weights are positive, so that nothing
        cancels, over 16 neighbouring values; and what is measured with the weights as they are.

    Raises
    ------
    InputError
        If the layer does not exist, or the network shows no layers or gives no gradients.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3, padding=1), torch.nn.Conv2d(1, 1, 5, padding=2))
    >>> receptive_field(net, dims=2, window=(32, 32)).sizes()
    (7, 7)
    """
    from . import _layers

    card, module = _opened(model, channels, dims)
    rows = _rows(card, module, window)
    count, number = card.input.network_channels, card.input.dims
    if layer is not None:
        _layers.find(module, layer, rows)
    by = divisor(card, rows)
    bound = tuple(_bound(module, layer, count, by, axis, rows) for axis in range(number))
    size = rows[0].window
    torch = import_torch()
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn((1, count, *size), generator=random)
    gradient, centre = _layers.middle_gradient(module, layer, inputs)
    given = spacing if spacing is not None else card.input.spacing
    return ReceptiveField(
        layer, bound, _around(gradient, 0.0, centre), _around(gradient, _EFFECTIVE * gradient.max(), centre), size,
        None if given is None else tuple(float(s) for s in given),
    )  # fmt: skip


def _bound(module: Any, layer: str | None, channels: int, by: int, axis: int, rows: Sequence["Layer"]) -> Any:
    from . import _layers

    dims = len(rows[0].window)
    row = next((one for one in rows if one.name == layer), rows[-1])
    try:
        found = _layers.reach(module, layer, channels, by, axis, dims, places=_PLACES)
        seam = _layers.alignment(module, rows, row, channels, by)
    except Exception:  # a network that does not bear another size or other weights
        return None
    if found is None:
        return None
    # Of a value that lies between two voxels, the one before it.
    own = [int(np.floor(seam.first[axis] + seam.step[axis] * place + 1e-6)) for place, _, _ in found]
    before = max(mine - low for mine, (_, low, _) in zip(own, found, strict=True))
    after = max(high - mine for mine, (_, _, high) in zip(own, found, strict=True))
    return max(0, before), max(0, after)


def _around(gradient: np.ndarray, above: float, centre: Sequence[int]) -> tuple[tuple[int, int], ...]:
    found = []
    for axis, middle in enumerate(centre):
        others = tuple(a for a in range(gradient.ndim) if a != axis)
        there = np.flatnonzero((gradient > above).any(axis=others))
        found.append((max(0, int(middle - there[0])), max(0, int(there[-1] - middle))) if there.size else (0, 0))
    return tuple(found)


# Opening ----------------------------------------------------------------------------------------------------------


def _opened(model: ModelLike, channels: int = 1, dims: int = 3) -> tuple[Card, Any]:
    from . import _layers
    from .card import Channel, InputSpec

    import_torch("Looking into a model")
    model = model if isinstance(model, Model) or callable(model) else load_model(model)
    if isinstance(model, Model):
        return model.card, _layers.require_network(folds(model.module, model.card)[0], model.card.name)
    name = type(model).__name__
    kernel = next((m for m in getattr(model, "modules", list)() if hasattr(m, "kernel_size")), None)
    dims = len(kernel.kernel_size) if kernel is not None and isinstance(kernel.kernel_size, tuple) else dims
    spec = InputSpec(dims=dims, channels=tuple(Channel(f"channel {i}") for i in range(channels)))
    return Card(name=name, input=spec), _layers.require_network(model, name)


def _rows(card: Card, module: Any, window: Sequence[int] | None) -> list["Layer"]:
    from . import _layers

    size = window or card.window.size or (64,) * card.input.dims
    if len(size) != card.input.dims:
        raise InputError(f"window {window!r} must be {card.input.dims} whole numbers, array order")
    return _layers.listed(module, card.input.network_channels, tuple(int(n) for n in size))


__all__ = ["ReceptiveField", "features", "frequency_response", "kernels", "layers", "receptive_field"]
