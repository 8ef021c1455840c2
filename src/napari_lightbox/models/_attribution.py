"""What a map of attribution is made of: the target, the windows, and the ways into a frame and back.

The target is a number: the sum of one class's blended logits, on the grid of the image, over a region. Blending and
resampling are linear, so that it is a weighted sum of what the network says of each window. Its gradient is the sum of
the gradients of the windows: the maps of all windows add up to that of the whole volume, and nothing has to be joined.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from ..progress import Cancelled
from . import bands, sampling
from .card import Card
from .engine import Counter, is_memory
from .plan import Plan
from .taking import as_tensor
from .windows import Window

Network = Callable[[Any], Any]
Ask = Callable[[Callable[[], Any]], Any]


@dataclass
class Question:
    """What a network is asked: the logits of one class, and how they change.

    Parameters
    ----------
    network : callable
        Takes (n, channels, *window) and returns (n, classes, *window).
    card : Card
        Of the model.
    plan : Plan
        Of the frame.
    channel : int
        The class, as a channel of the answer.
    device : str
        Where the network is.
    ask : callable
        Runs a function in the network's thread, and can be left meanwhile.
    counter : Counter
        Of passes through the network.
    """

    network: Network
    card: Card
    plan: Plan
    channel: int
    device: str
    ask: Ask
    counter: Counter

    @property
    def ways(self) -> list[list[int]]:
        """Axes of the input that are flipped, for each time a window is shown."""
        axes = self.plan.options.mirror
        return [[a + 2 for a in c] for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)]

    # In the network's thread ------------------------------------------------------------------------------------

    def answers(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits of the class, (n, z, y, x), averaged over the mirrored ways."""
        found: Any = 0
        for axes in self.ways:
            # A network may write into what it is given.
            answer = self._checked(self.network(inputs.flip(axes)), inputs)[:, self.channel]
            found = found + answer.flip([a - 1 for a in axes])
        found = found / len(self.ways)
        return found.unsqueeze(1) if self.plan.dims == 2 else found

    def _checked(self, answer: Any, inputs: torch.Tensor) -> torch.Tensor:
        answer, shape = as_tensor(answer), tuple(inputs.shape)
        fits = isinstance(answer, torch.Tensor) and answer.ndim == len(shape)
        if not fits or (answer.shape[0], *answer.shape[2:]) != (shape[0], *shape[2:]):
            found = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
            raise InputError(
                f"model {self.card.name!r} gave {found} for a window of shape {shape}, where ({shape[0]}, classes, "
                f"{', '.join(map(str, shape[2:]))}) is needed: check its input and output in the card"
            )
        if answer.shape[1] <= self.channel:
            raise InputError(
                f"label is class {self.channel}, but model {self.card.name!r} gives {answer.shape[1]} classes: choose "
                "another"
            )
        return answer.to(torch.float32)

    def shaped(self, slab: torch.Tensor, window: Window, depth: int) -> torch.Tensor:
        """Return a window as the network takes it, (channels, *window); differentiable."""
        if self.plan.dims == 3:
            return slab
        around, place = self.card.input.context, window.start[0]
        first = max(0, place - around)
        wanted = torch.arange(place - around, place + around + 1).clamp(0, depth - 1) - first
        return slab.index_select(1, wanted.to(slab.device)).flatten(0, 1)

    # From outside -----------------------------------------------------------------------------------------------

    def guarded(self, work: Callable[[], Any], needs: str = "") -> Any:
        """Run work in the network's thread; a failure is told in a sentence."""
        try:
            found = self.ask(work)
        except (Cancelled, InputError):
            raise
        except Exception as error:
            said = str(error).strip().split("\n")[0][:200]
            if is_memory(error):
                raise InputError(
                    f"model {self.card.name!r} needs more memory than {self.device} has: gradients keep what every "
                    "layer gave, so choose a smaller window, device='cpu', or method='occlusion'"
                ) from None
            remedy = needs or "check that its card names the right channels, dims and window"
            raise InputError(f"model {self.card.name!r} failed ({type(error).__name__}: {said}): {remedy}") from error
        return found

    def gradients(self, slabs: Sequence[torch.Tensor], some: "Batch") -> tuple[float, list[torch.Tensor]]:
        """Return the target's share of some windows, and its gradient by each of the slabs."""

        def work() -> tuple[float, list[torch.Tensor]]:
            with torch.inference_mode(False), torch.enable_grad():
                leaves = [slab.detach().clone().to(self.device).requires_grad_() for slab in slabs]
                found = self.answers(self.inputs(leaves, some))
                require_gradient(found, self.card)
                target = (found.double() * some.weights.to(found.device)).sum()
                grads = torch.autograd.grad(target, leaves, allow_unused=True)
            zeros = (torch.zeros_like(slab) for slab in slabs)
            return float(target), [z if g is None else g.to("cpu") for g, z in zip(grads, zeros, strict=True)]

        found = self.guarded(work, "use method='occlusion', which needs no gradients")
        self.counter.add(1)
        return found

    def value(self, slabs: Sequence[torch.Tensor], some: "Batch") -> float:
        """Return the target's share of some windows."""

        def work() -> float:
            found = self.answers(self.inputs([slab.to(self.device) for slab in slabs], some))
            return float((found.double() * some.weights.to(found.device)).sum())

        found = self.guarded(work)
        self.counter.add(1)
        return found

    def inputs(self, slabs: Sequence[torch.Tensor], some: "Batch") -> torch.Tensor:
        """Return what goes in, (n, channels, *window)."""
        return torch.stack([self.shaped(s, w, some.depth) for s, w in zip(slabs, some.windows, strict=True)])


def require_gradient(found: torch.Tensor, card: Card) -> None:
    """Refuse an answer that does not say how it depends on the input."""
    if not found.requires_grad:
        raise InputError(
            f"model {card.name!r} gives no gradients, as networks in ONNX and functions that leave torch do not: use "
            "method='occlusion', which needs none"
        )


@dataclass(frozen=True)
class Batch:
    """Windows that go through the network together, with what every voxel of them counts."""

    windows: tuple[Window, ...]
    weights: torch.Tensor  # (n, z, y, x) float64
    depth: int


@dataclass
class Frame:
    """One frame, ready for the network.

    Parameters
    ----------
    image : (channels, z, y, x) tensor
        Prepared and padded.
    plan : Plan
        Of this frame.
    card : Card
        Of the model.
    region : (z, y, x) bool array
        Voxels of the image, as stored, whose logits are summed up.
    """

    image: torch.Tensor
    plan: Plan
    card: Card
    region: np.ndarray
    weights: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.weights = self._onto_windows(self.region)

    def _onto_windows(self, region: np.ndarray) -> torch.Tensor:
        """Return what each voxel of the padded working grid counts: the adjoint of the way back."""
        view = self.plan.turned(region)
        view = view if self.plan.crop is None else view[self.plan.crop]
        found = torch.from_numpy(np.array(view, dtype=np.float64, order="C"))
        for axis, way in enumerate(bands.ways_back(self.plan)):
            if way.indices is None:
                continue
            shape = list(found.shape)
            shape[axis] = way.length
            sums, place = torch.zeros(shape, dtype=torch.float64), [1, 1, 1]
            place[axis] = -1
            for index, share in zip(way.indices, way.shares, strict=True):
                sums.index_add_(axis, torch.from_numpy(index.copy()),
                                found * torch.from_numpy(share.astype(np.float64)).reshape(place))  # fmt: skip
            found = sums
        padded = torch.zeros(self.plan.padded, dtype=torch.float64)
        padded[self.inside] = found
        return padded

    @property
    def inside(self) -> tuple[slice, ...]:
        """The voxels of the padded grid that are not padding."""
        return tuple(slice(b, b + n) for (b, _), n in zip(self.plan.pad, self.plan.working, strict=True))

    def slab(self, window: Window) -> tuple[slice, ...]:
        """Return what a window needs of the image: itself, and the neighbours of its slice."""
        around = self.card.input.context
        first = slice(max(0, window.start[0] - around), window.start[0] + window.size[0] + around)
        return (slice(None), first, *window.slices[1:])

    def batches(self, *, all_of_them: bool = False) -> list[Batch]:
        """Return the windows that say something of the region, or all; with what their voxels count."""
        (block,) = bands.cover(self.plan)
        kept: list[tuple[Window, torch.Tensor]] = []
        for window in block.windows:
            z, y, x = (torch.from_numpy(np.asarray(w, np.float64)) for w in window.weights)
            counts = self.weights[window.slices] * z[:, None, None] * y[:, None] * x
            if all_of_them or bool(counts.any()):
                kept.append((window, counts))
        size = max(1, self.plan.batch)
        parts = (kept[start : start + size] for start in range(0, len(kept), size))
        return [Batch(tuple(w for w, _ in p), torch.stack([c for _, c in p]), self.plan.padded[0]) for p in parts]

    def folded(self, found: torch.Tensor) -> torch.Tensor:
        """Return a map without the padding, whose share goes to the outermost voxels that it repeats."""
        if self.card.rules is not None:
            # Zeros of the network's own: no voxel of the image.
            return found[(slice(None), *self.inside)]
        for axis, ((before, _), length) in enumerate(zip(self.plan.pad, self.plan.working, strict=True), start=1):
            places = (torch.arange(found.shape[axis]) - before).clamp(0, length - 1)
            shape = list(found.shape)
            shape[axis] = length
            found = torch.zeros(shape, dtype=found.dtype).index_add_(axis, places, found)
        return found

    def write(self, found: torch.Tensor, target: np.ndarray) -> None:
        """Bring a map (z, y, x) of the working grid to the grid of the image, linearly as a prediction."""
        for axis, way in enumerate(bands.ways_back(self.plan)):
            if way.indices is not None:
                found = sampling.gather(found, axis, way.indices, way.shares)
        view = self.plan.turned(target)
        view = view if self.plan.crop is None else view[self.plan.crop]
        view[...] = found.numpy()
