"""Our own U-Nets on the processor, layer by layer, by compiled kernels; see `ops/_kernels/conv.py` for the idea.

Nothing is copied between layers: joined features are read where they lie, and every layer writes into memory that is
used again for the next window.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import numpy as np
import torch

from ..ops._ready import Variants
from ._fused_layers import Layer, Norm

KERNELS = Variants("conv", after=1 << 20)
# As in `conv`, which needs numba.
LANES, HALF = 16, 8
# Seconds between two looks for kernels that are being compiled.
_POLL = 0.02
# Parts that a layer is cut into, for each thread: some threads may be held up by other work.
_PARTS = 4


class Fused:
    """A network as a list of layers, for one size of window.

    Parameters
    ----------
    layers : list of Layer
        From `layers_of`.
    size : sequence of int
        Of a window, (y, x) or (z, y, x).
    paired : bool
        Whether features and weights are bfloat16 (all sums stay in single precision), not single precision.
    widths : sequence of int
        Voxels that a tile may have, from `conv.tile_widths`.
    """

    def __init__(self, layers: list[Layer], size: Sequence[int], *, paired: bool, widths: Sequence[int]) -> None:
        self.size, self.paired, self._layers = tuple(size), paired, layers
        self._channels = layers[0].weight.shape[1]
        self._sizes = {0: (1,) * (3 - len(self.size)) + self.size}
        for layer in layers:
            inside = {self._sizes[s] for s in layer.sources}
            self._sizes[layer.target] = layer.size(self._sizes[layer.sources[0]])
            found = self._sizes[layer.target]
            unequal = layer.added is not None and self._sizes[layer.added] != found
            # A voxel that is alone has no statistics: PyTorch refuses it in words of its own.
            alone = layer.norm is not None and layer.norm.mean is None and max(found) == 1
            if len(inside) != 1 or min(found) < 1 or unequal or alone:
                raise ValueError(f"windows of {self.size} do not fit the network")
        lanes = _lanes(layers, self._sizes)
        self._prepared = [
            _Prepared.of(
                one, self._calculated(one), lanes[self._sizes[one.sources[0]]], paired, widths, one is layers[-1]
            )
            for one in layers
        ]
        # Multiplications for a window.
        self.work = sum(p.work for p in self._prepared)
        self._host, self._room, self._lock = self, None, Lock()

    def share_memory_of(self, other: "Fused") -> None:
        """Work in the memory of a network with the same layers, of which one is asked at a time then."""
        self._host = other

    def free(self) -> None:
        """Give back the memory between layers; the next window asks for it again."""
        self._room = None

    @property
    def _memory(self) -> "_Memory":
        host = self._host
        if host._room is None:
            host._room = _Memory(host._layers, host._sizes, host._prepared, host.paired)
        return host._room

    def _calculated(self, layer: Layer) -> tuple[int, ...]:
        """Return the sizes at which a layer is calculated: those of its input where it goes up."""
        return self._sizes[layer.sources[0]] if layer.up else self._sizes[layer.target]

    @property
    def keys(self) -> list[tuple]:
        """The kernels that are needed."""
        put = (p.put_key for p in self._prepared[:-1] if p.apart)
        return list(dict.fromkeys([*(p.key for p in self._prepared), *put, ("unpack",)]))

    def ask_for(self) -> None:
        """Have all kernels compiled, and do not wait for them."""
        for key in self._missing:
            KERNELS.expected(key)

    @property
    def _missing(self) -> list[tuple]:
        return [key for key in self.keys if KERNELS.get(key) is None]

    def wait(self) -> bool:
        """Wait until all kernels are compiled; return whether they are, or one of them cannot be."""
        while any(KERNELS.expected(key) for key in self._missing):
            time.sleep(_POLL)
        return not self._missing

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the answer to windows (n, channels, *size), as float32."""
        if x.shape[1] != self._channels or tuple(x.shape[2:]) != self.size:
            raise ValueError(f"windows of shape {tuple(x.shape)} do not fit the network")
        classes = len(self._layers[-1].weight)
        found = torch.empty((len(x), classes, *self.size), dtype=torch.float32)
        images = x.detach().to(torch.float32).numpy()
        with self._host._lock, _Crew(torch.get_num_threads()) as crew:
            for image, answer in zip(images, found.numpy(), strict=True):
                self._run(image.reshape(-1, *self._sizes[0]), answer.reshape(classes, *self._sizes[0]), crew)
        return found

    def _run(self, image: np.ndarray, answer: np.ndarray, crew: "_Crew") -> None:
        memory = self._memory
        memory.features[0].take(image, self.paired)
        for layer, prepared in zip(self._layers, self._prepared, strict=True):
            # A moment at which whoever waits may leave: torch's functions can be interrupted, compiled loops not.
            torch.empty(0)
            if not prepared.apart:
                self._convolve_put(layer, prepared, crew)
                continue
            self._convolve(layer, prepared, crew)
            if layer is self._layers[-1]:
                raw = memory.raw_view(prepared.blocks, prepared.shape)
                crew.share(KERNELS.get(("unpack",)), prepared.shape[0], raw, answer)
            else:
                self._put(layer, prepared, crew)

    def _convolve(self, layer: Layer, prepared: "_Prepared", crew: "_Crew") -> None:
        memory = self._memory
        table, steps = memory.tables[layer.target]
        planes = prepared.planes
        memory.moments[: planes * 2 * LANES] = 0
        crew.share(
            KERNELS.get(prepared.key), planes, table.ctypes.data, len(table), prepared.weights.ctypes.data,
            prepared.weights.strides[0], prepared.bias.ctypes.data, memory.raw.ctypes.data,
            memory.moments.ctypes.data, prepared.shape, steps,
        )  # fmt: skip

    def _convolve_put(self, layer: Layer, prepared: "_Prepared", crew: "_Crew") -> None:
        """Calculate a layer and bring each row to where the next layers read it."""
        memory, shape = self._memory, prepared.shape
        target, (table, steps) = memory.features[layer.target], memory.tables[layer.target]
        factors = _factors(layer.norm, memory.moments, prepared)
        places, near = _places(target, layer, prepared)
        added = 0 if layer.added is None else memory.features[layer.added].origin - target.origin
        crew.share(
            KERNELS.get(prepared.key), prepared.planes, table.ctypes.data, len(table),
            prepared.weights.ctypes.data, prepared.weights.strides[0], prepared.bias.ctypes.data,
            memory.raw.ctypes.data, shape, steps, factors.ctypes.data, np.float32(layer.slope), added,
            places.ctypes.data, near,
        )  # fmt: skip

    def _put(self, layer: Layer, prepared: "_Prepared", crew: "_Crew") -> None:
        """Bring what was calculated to where the next layers read it."""
        memory, shape = self._memory, prepared.shape
        target, kernel = memory.features[layer.target], KERNELS.get(prepared.put_key)
        added = 0 if layer.added is None else memory.features[layer.added].origin
        factors = _factors(layer.norm, memory.moments, prepared)
        crew.share(
            kernel, prepared.planes, memory.raw.ctypes.data, factors.ctypes.data, np.float32(layer.slope),
            added, target.origin, shape, target.steps,
        )  # fmt: skip


class _Crew:
    """Threads that work on the planes of a layer."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads - 1, "lightbox-layers") if threads > 1 else None

    def __enter__(self) -> "_Crew":
        return self

    def __exit__(self, *_) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def share(self, kernel: Callable, planes: int, *arguments) -> None:
        """Call ``kernel(*arguments, first, last)`` for parts of the planes, in all threads, this one too."""
        count = min(planes, self._threads * _PARTS) if self._threads > 1 else 1
        parts = [(planes * i // count, planes * (i + 1) // count) for i in range(count)]

        def work() -> None:
            while parts:
                try:
                    first, last = parts.pop()
                except IndexError:
                    return
                kernel(*arguments, first, last)

        helpers = [self._pool.submit(work) for _ in range(min(self._threads, count) - 1)]
        try:
            work()
        finally:
            for helper in helpers:
                helper.result()


# Memory ------------------------------------------------------------------------------------------------------------


class _Features:
    """Features in blocks, (block, z, y, x, lanes), in a border of zeros: a voxel, none along an axis of a plane."""

    def __init__(self, blocks: int, size: tuple[int, ...], lanes: int, planar: bool, paired: bool) -> None:
        self.border = (0 if planar else 1, 1, 1)
        padded = tuple(n + 2 * b for n, b in zip(size, self.border, strict=True))
        shape = (blocks, *padded, lanes)
        # Tiles that are wider than a row read beyond the last one.
        self._flat = _aligned(int(np.prod(shape)) + 64 * LANES, np.uint16 if paired else np.float32)
        self._flat[:] = 0
        self.array = self._flat[: int(np.prod(shape))].reshape(shape)
        self.steps = self.array.strides[:4]
        self.start = self.array.ctypes.data
        self.origin = self.start + sum(b * s for b, s in zip(self.border, self.steps[1:], strict=True))

    def take(self, image: np.ndarray, paired: bool) -> None:
        """Take over channels (channel, z, y, x)."""
        inner = tuple(slice(b, n - b) for b, n in zip(self.border, self.array.shape[1:4], strict=True))
        values = bfloat16(image) if paired else image
        lanes = self.array.shape[-1]
        for first in range(0, len(values), lanes):
            part = values[first : first + lanes]
            self.array[(first // lanes, *inner, slice(len(part)))] = np.moveaxis(part, 0, -1)


class _Memory:
    """All memory that windows of one size need; features whose time is over give theirs to later ones."""

    def __init__(self, layers: list[Layer], sizes: dict, prepared: list["_Prepared"], paired: bool) -> None:
        channels = {0: layers[0].weight.shape[1], **{one.target: len(one.weight) for one in layers}}
        planar = all(one.weight.shape[2] == 1 and not one.padding[0] for one in layers)
        lanes = _lanes(layers, sizes)
        last = {s: n for n, one in enumerate(layers) for s in (*one.sources, one.added)}
        self.features: dict[int, _Features] = {
            0: _Features(_blocks(channels[0]), sizes[0], lanes[sizes[0]], planar, paired)
        }
        free: dict[tuple, list[_Features]] = {}
        for number, layer in enumerate(layers[:-1]):
            kind = (_blocks(channels[layer.target]), *sizes[layer.target])
            waiting = free.get(kind)
            self.features[layer.target] = (
                waiting.pop() if waiting else _Features(kind[0], kind[1:], lanes[kind[1:]], planar, paired)
            )
            for old in {*layer.sources, layer.added} - {None, 0}:
                if last[old] == number:
                    free.setdefault((_blocks(channels[old]), *sizes[old]), []).append(self.features[old])
        self.tables = {one.target: self._table(one, channels, paired) for one in layers}
        # All that a layer calculates, or a row of each plane.
        self.raw = _aligned(max(p.planes * (p.shape[1] if p.apart else 1) * p.shape[3] * LANES for p in prepared))
        self.moments = _aligned(max(p.planes * 2 * LANES for p in prepared), np.float64)

    def raw_view(self, blocks: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return what was calculated, (block, z, y, row, 16)."""
        deep, tall, _, row = shape
        return self.raw[: blocks * deep * tall * row * LANES].reshape(blocks, deep, tall, row, LANES)

    def _table(self, layer: Layer, channels: dict[int, int], paired: bool) -> tuple[np.ndarray, tuple[int, ...]]:
        """Return the rows that go in (address, channels), and the steps from voxel to voxel; see `conv.convolve_2`."""
        rows = []
        deep, tall = (1, 1) if layer.up else layer.weight.shape[2:4]
        for source in layer.sources:
            features = self.features[source]
            far, *near = features.steps
            for block in range(_blocks(channels[source])):
                count = min(LANES, channels[source] - block * LANES)
                start = features.origin + block * far - sum(p * n for p, n in zip(layer.padding, near, strict=True))
                for z, y in np.ndindex(deep, tall):
                    rows.append((start + z * near[0] + y * near[1], -(-count // 2) if paired else count))
        stride = (1, 1, 1) if layer.up else layer.stride
        return np.array(rows, np.int64), tuple(n * s for n, s in zip(near, stride, strict=True))


def _places(target: _Features, layer: Layer, prepared: "_Prepared") -> tuple[np.ndarray, tuple[int, ...]]:
    """Return where each calculated block begins in the target, and the steps along z, y, x to its next voxels."""
    far, *near = target.steps
    phases = layer.weight.shape[2:] if layer.up else (1, 1, 1)
    starts = np.array([sum(p * n for p, n in zip(phase, near, strict=True)) for phase in np.ndindex(*phases)], np.int64)
    blocks = np.arange(prepared.blocks // len(starts), dtype=np.int64) * far
    return (target.origin + starts[:, None] + blocks).ravel(), tuple(n * s for n, s in zip(near, phases, strict=True))


def _aligned(count: int, dtype: type = np.float32) -> np.ndarray:
    """Return memory that begins where a line of the cache does."""
    size = np.dtype(dtype).itemsize
    raw = np.empty(count * size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count * size].view(dtype)


def _lanes(layers: list[Layer], sizes: dict[int, tuple[int, ...]]) -> dict[tuple[int, ...], int]:
    """Return how many channels a block has, for each size: half where all features of that size have so few."""
    most: dict[tuple[int, ...], int] = {sizes[0]: layers[0].weight.shape[1]}
    for layer in layers:
        most[sizes[layer.target]] = max(len(layer.weight), most.get(sizes[layer.target], 0))
    return {size: HALF if channels <= HALF else LANES for size, channels in most.items()}


def _blocks(channels: int) -> int:
    return -(-channels // LANES)


# Weights -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A layer as the kernels want it.

    Parameters
    ----------
    layer : Layer
        What it is made of.
    key : tuple
        Kernel that convolves.
    shape : tuple of int
        (z, y, x, row) of what it calculates.
    blocks : int
        Blocks of channels of that.
    bias : (blocks, 16) ndarray
        Added to each channel.
    apart : bool
        Whether what follows the convolution is a pass of its own.
    """

    layer: Layer
    key: tuple
    shape: tuple[int, ...]
    blocks: int
    bias: np.ndarray
    apart: bool

    @classmethod
    def of(
        cls, layer: Layer, size: tuple[int, ...], inside: int, paired: bool, widths: Sequence[int], last: bool
    ) -> "_Prepared":
        """Prepare a layer, or the last one, that calculates (z, y, x) voxels from blocks of `inside` channels."""
        bias, along, step = _padded(layer.bias), layer.weight.shape[4], layer.stride[2]
        if layer.up:
            # Every tap makes voxels of its own: one convolution a tap, of one tap.
            bias, along, step = np.tile(bias, int(np.prod(layer.weight.shape[2:]))), 1, 1
        width, bias = _width(size[2], widths), bias.reshape(-1, LANES)
        shape = (*size, max(size[2], width))
        kind = (width, along, step, int(paired), inside, HALF if len(layer.weight) <= HALF else LANES)
        apart = last or (layer.norm is not None and layer.norm.mean is None)
        key = ("convolve", *kind) if apart else ("convolve_put", *kind, int(layer.added is not None))
        return cls(layer, key, shape, len(bias), _line_up(bias), apart)

    @property
    def put_key(self) -> tuple:
        """Kernel for what follows, where that is `apart`."""
        return "put", self.key[4], self.key[6]

    @property
    def planes(self) -> int:
        """Planes of all blocks."""
        return self.blocks * self.shape[0]

    @property
    def work(self) -> float:
        """Multiplications for a window, of channels that fill up a block too."""
        taps = 1 if self.layer.up else int(np.prod(self.layer.weight.shape[2:]))
        return float(np.prod(self.shape[:3])) * self.blocks * self.key[6] * self.layer.weight.shape[1] * taps

    @cached_property
    def weights(self) -> np.ndarray:
        """Weights in the order in which `conv` reads them, (block, n); made when they are first needed."""
        taps = _padded(self.layer.weight)
        if self.layer.up:
            taps = np.moveaxis(taps, (2, 3, 4), (0, 1, 2)).reshape(-1, taps.shape[1], 1, 1, 1)
        return _packed(taps, self.layer, bool(self.key[4]))


def _padded(values: np.ndarray) -> np.ndarray:
    """Fill the first axis up to whole blocks."""
    more = -len(values) % LANES
    return np.pad(values, [(0, more)] + [(0, 0)] * (values.ndim - 1))


def _width(wide: int, widths: Sequence[int]) -> int:
    """Return the width of tiles that takes the least time for a row; each tile costs a little beside its voxels."""
    fitting = [w for w in widths if w <= wide] or [min(widths)]
    return min(fitting, key=lambda w: -(-wide // w) * (w + 1))


def _packed(taps: np.ndarray, layer: Layer, paired: bool) -> np.ndarray:
    """Return the weights in the order of the table of rows: (block, then block that goes in, z, y, channel, x, 16)."""
    blocks = len(taps) // LANES
    taps = taps.reshape(blocks, LANES, *taps.shape[1:])
    parts, start = [], 0
    for count in layer.inside:
        for first in range(0, count, LANES):
            part = taps[:, :, start + first : start + min(count, first + LANES)]
            if paired:
                part = np.pad(part, [(0, 0), (0, 0), (0, part.shape[2] % 2), (0, 0), (0, 0), (0, 0)])
                part = part.reshape(blocks, LANES, -1, 2, *part.shape[3:]).transpose(0, 4, 5, 2, 6, 1, 3)
            else:
                part = part.transpose(0, 3, 4, 2, 5, 1)
            parts.append(part.reshape(blocks, -1))
        start += count
    packed = np.concatenate(parts, axis=1)
    return _line_up(bfloat16(packed) if paired else packed)


def _line_up(values: np.ndarray) -> np.ndarray:
    found = _aligned(values.size, values.dtype).reshape(values.shape)
    found[...] = values
    return found


def bfloat16(values: np.ndarray) -> np.ndarray:
    """Return float32 values as bfloat16, to the nearest, ties to even: their upper 16 bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    # What is not a number stays so: rounding might carry into the sign.
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded.astype(np.uint16))


def _factors(norm: Norm | None, moments: np.ndarray, prepared: _Prepared) -> np.ndarray:
    """Return what each channel is multiplied by and what is added to it, (block, 2, 16) float32."""
    if norm is None:
        factors = np.zeros((prepared.blocks, 2, LANES), np.float32)
        factors[:, 0] = 1
        return factors
    channels, (deep, tall, wide, _) = len(norm.weight), prepared.shape
    mean, var = norm.mean, norm.var
    if mean is None:
        sums = moments[: prepared.blocks * deep * 2 * LANES].reshape(prepared.blocks, deep, 2, LANES).sum(1)
        sums = np.moveaxis(sums, 1, 0).reshape(2, -1)[:, :channels] / (deep * tall * wide)
        mean, var = sums[0], np.maximum(sums[1] - sums[0] ** 2, 0)
    factor = norm.weight / np.sqrt(var.astype(np.float64) + norm.eps)
    both = np.zeros((2, prepared.blocks * LANES), np.float32)
    both[:, :channels] = factor, norm.bias - mean * factor
    return np.ascontiguousarray(np.moveaxis(both.reshape(2, prepared.blocks, LANES), 0, 1))
