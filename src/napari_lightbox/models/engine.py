"""The part of a prediction that computes: a frame goes through the network window by window, then back to its grid."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from .. import progress
from ..errors import InputError
from ..volume import Volume
from . import sampling, windows
from .card import Card, Intensity
from .plan import SLAB_BYTES, Plan

Network = Callable[[torch.Tensor], "torch.Tensor | np.ndarray"]


@dataclass
class Counter:
    """Counts windows over all frames; every report is also a moment at which the work may be cancelled."""

    total: int
    done: int = 0

    def add(self, count: int = 0) -> None:
        """Report `count` more windows."""
        self.done += count
        progress.report("windows", self.done, self.total)


@dataclass
class Results:
    """Arrays that the frames are written into, as stored: (frame, z, y, x), or (z, y, x) for the one that is None.

    Parameters
    ----------
    values : tuple of int
        Label value of every channel of the network.
    labels : array or None
        Label of every voxel.
    kept : dict of int to float32 array
        Probability (or value) of the channels that were asked for.
    entropy : float32 array or None
        Uncertainty, 0 to 1.
    """

    values: tuple[int, ...]
    labels: np.ndarray | None
    kept: dict[int, np.ndarray] = field(default_factory=dict)
    entropy: np.ndarray | None = None


def choose_device(device: str) -> str:
    """Return the torch device for ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises
    ------
    InputError
        If a GPU was asked for and torch sees none.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    kind, _, number = str(device).partition(":")
    if kind != "cuda" or (number and not number.isdecimal()):
        raise InputError(f"device {device!r} is unknown: use 'auto', 'cpu' or 'cuda'")
    if not torch.cuda.is_available():
        raise InputError(f"device {device!r} was asked for, but torch finds no CUDA GPU here: use 'auto' or 'cpu'")
    if number and int(number) >= torch.cuda.device_count():
        raise InputError(
            f"device {device!r} does not exist: there are {torch.cuda.device_count()} GPUs, from cuda:0 on"
        )
    return device


# In -------------------------------------------------------------------------------------------------------------


def prepare(channels: Sequence[Volume], card: Card, plan: Plan, counter: Counter) -> torch.Tensor:
    """Return one frame as the network wants it: (channels, z, y, x) float32, padded, on the CPU."""
    ready = []
    for volume, channel in zip(channels, card.input.channels, strict=True):
        array = read_frame(volume, plan, counter)
        # Nothing below writes into it, but torch warns of arrays that are read-only.
        tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
        tensor = sampling.resample(tensor, plan.working, plan.steps, smooth=True)
        counter.add()
        ready.append(scaled(tensor, channel.intensity))
    tensor = torch.stack(ready)
    for axis, (before, after) in enumerate(plan.pad, start=1):
        if before or after:
            length = tensor.shape[axis]
            tensor = tensor.index_select(axis, torch.arange(-before, length + after).clamp(0, length - 1))
    return tensor


def read_frame(volume: Volume, plan: Plan, counter: Counter) -> np.ndarray:
    """Return a frame of a channel, turned, as a float32 array in C order."""
    counter.add()
    with np.errstate(over="ignore"):  # what is too large is told below
        array = np.asarray(plan.turned(np.asarray(volume.data)), dtype=np.float32, order="C")
    if not np.isfinite(array).all():
        bad = int(array.size - np.isfinite(array).sum())
        raise InputError(
            f"{volume.name!r} holds {bad} voxels that are NaN, infinite or too large for single precision: "
            "replace them by a number before a model runs over the image"
        )
    counter.add()
    return array


def scaled(image: torch.Tensor, rule: Intensity, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Apply a channel's intensity rule; a constant image becomes 0 where a rule would divide by nothing.

    With a mask, ``"zscore"`` is of and in its voxels only.
    """
    if rule.rule == "none":
        return image
    if rule.rule == "zscore":
        return _standardised(image, rule, mask)
    low, high = rule.low, rule.high
    if rule.rule == "minmax":
        low, high = float(image.min()), float(image.max())
    elif rule.rule == "percentile":
        low, high = (float(v) for v in np.percentile(image.numpy(), (rule.low, rule.high)))
    if not high > low:
        return torch.zeros_like(image)
    return (image.clamp(low, high) - low) / (high - low)


def _standardised(image: torch.Tensor, rule: Intensity, mask: torch.Tensor | None) -> torch.Tensor:
    if rule.low is not None or rule.high is not None:
        image = image.clamp(rule.low, rule.high)
    values = (image if mask is None else image[mask]).numpy()
    mean, std = rule.mean, rule.std
    if not values.size:
        return image
    if mean is None:
        # In double precision: sums over many voxels lose digits in single.
        mean, std = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    found = (image - mean) / std if std > 0 else torch.zeros_like(image)
    return found if mask is None else torch.where(mask, found, image)


# Through --------------------------------------------------------------------------------------------------------


def run_windows(
    network: Network, image: torch.Tensor, plan: Plan, card: Card, device: str, counter: Counter
) -> torch.Tensor:
    """Return the network's answer for a whole padded frame, (classes, z, y, x) float32, windows blended.

    The padding is cut off. Sums stay on the device if they fit into half of its free memory.
    """
    total, blended = None, plan.options.overlap > 0
    laid_out = windows.layout(plan.padded, plan.window, plan.overlaps, plan.options.blending, rounded=plan.rounded)
    for start in range(0, len(laid_out), plan.batch):
        batch = laid_out[start : start + plan.batch]
        inputs = torch.stack([image[(slice(None), *w.slices)] for w in batch])
        answers = _ask(network, inputs.to(device), plan, card, counter)
        if total is None:
            total = _empty(answers.shape[1], plan, device)
        for window, answer in zip(batch, answers, strict=True):
            _add(total, window, answer.to(total.device), blended)
        counter.add(len(batch))
    inside = tuple(slice(a, n - b) for n, (a, b) in zip(plan.padded, plan.pad, strict=True))
    return total[(slice(None), *inside)]


def _add(total: torch.Tensor, window: windows.Window, answer: torch.Tensor, blended: bool) -> None:
    if not blended:
        # Written, not added: what the network says arrives bit for bit.
        owned = window.owned()
        target = tuple(slice(s + o.start, s + o.stop) for s, o in zip(window.start, owned, strict=True))
        total[(slice(None), *target)] = answer[(slice(None), *owned)]
        return
    for axis, vector in enumerate(window.weights):
        place = [1, 1, 1, 1]
        place[axis + 1] = -1
        answer = answer * torch.from_numpy(vector).to(answer.device).reshape(place)
    total[(slice(None), *window.slices)] += answer


def _empty(classes: int, plan: Plan, device: str) -> torch.Tensor:
    shape = (classes, *plan.padded)
    if device != "cpu" and 4 * math.prod(shape) > torch.cuda.mem_get_info(device)[0] // 2:
        device = "cpu"
    return torch.zeros(shape, dtype=torch.float32, device=device)


def _ask(network: Network, inputs: torch.Tensor, plan: Plan, card: Card, counter: Counter) -> torch.Tensor:
    """Return the answers to a batch of windows (n, channels, z, y, x), the mean over all mirrored ways of asking."""
    flat = plan.dims == 2
    inputs = inputs.squeeze(2) if flat else inputs
    ways = [c for n in range(len(plan.options.mirror) + 1) for c in itertools.combinations(plan.options.mirror, n)]
    total = None
    for axes in ways:
        where = [a + 2 for a in axes]
        if axes:
            counter.add()
        # `flip` copies, also along no axis: a network may write into what it is given.
        answer = _checked(network, inputs.flip(where) if len(ways) > 1 else inputs, plan, card)
        answer = answer.flip(where) if where else answer
        total = answer if total is None else total + answer
    total = total / len(ways) if len(ways) > 1 else total
    return total.unsqueeze(2) if flat else total


def _checked(network: Network, inputs: torch.Tensor, plan: Plan, card: Card) -> torch.Tensor:
    """Ask the network once and check the shape and the numbers of its answer."""
    shape = tuple(inputs.shape)
    try:
        answer = network(inputs)
    except (progress.Cancelled, InputError):
        raise
    except Exception as error:
        raise _explained(error, shape, card, inputs.device) from error
    if isinstance(answer, np.ndarray):
        answer = torch.from_numpy(np.ascontiguousarray(answer))
    expected = len(card.output.values) if plan.options.kind == card.output.kind else 0
    fits = isinstance(answer, torch.Tensor) and answer.ndim == inputs.ndim
    fits = fits and answer.shape[0] == shape[0] and answer.shape[2:] == inputs.shape[2:]
    if not fits or answer.shape[1] == 0 or (expected and answer.shape[1] != expected):
        found = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise InputError(
            f"model {card.name!r} gave {found} for a window of shape {shape}, where ({shape[0]}, "
            f"{expected or 'classes'}, {', '.join(map(str, shape[2:]))}) is needed: check its input and output in the "
            "card"
        )
    answer = answer.to(torch.float32)
    if not torch.isfinite(answer).all():
        raise InputError(
            f"model {card.name!r} gave NaN or infinite values for a window of shape {shape}: its weights may be "
            "damaged, or the intensity rule of its card does not fit this image"
        )
    return answer


def _explained(error: Exception, shape: tuple[int, ...], card: Card, device: torch.device) -> InputError:
    said = str(error).strip().split("\n")[0][:200]
    memory = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)
    if memory:
        other = "" if device.type == "cpu" else ", or run it with device='cpu'"
        return InputError(
            f"model {card.name!r} needs more memory than {device} has for a window of shape {shape}: choose a smaller "
            f"window{other}"
        )
    return InputError(
        f"model {card.name!r} failed on a window of shape {shape} ({type(error).__name__}: {said}): check that its "
        "card names the right channels, dims and window"
    )


# Out ------------------------------------------------------------------------------------------------------------


def allocate(classes: int, card: Card, plan: Plan, kept: Sequence[int], values: tuple[int, ...]) -> Results:
    """Make the arrays that results are written into; `kept` are channels whose values stay."""
    shape = plan.grid.shape
    image = plan.options.kind == "image"
    dtype = np.uint8 if not values or max(values) <= 255 else np.uint16
    return Results(
        values=values,
        labels=None if image else np.zeros(shape, dtype),
        kept={c: np.zeros(shape, np.float32) for c in (range(classes) if image else kept)},
        entropy=np.zeros(shape, np.float32) if plan.options.uncertainty and not image else None,
    )


def finish(logits: torch.Tensor, plan: Plan, card: Card, results: Results, frame: int, counter: Counter) -> None:
    """Bring a frame's logits back to the image's grid, activate them, and write labels and probabilities.

    Works slab by slab, so that the classes never exist together at the size of the image.
    """
    if plan.crop and 0 in results.kept and results.values[0] == 0 and plan.options.activation == "softmax":
        # Nothing but background lies outside of what the network saw.
        _view(results.kept[0], replace(plan, crop=None), frame)[...] = 1
    views = {c: _view(a, plan, frame) for c, a in results.kept.items()}
    labels, entropy = _view(results.labels, plan, frame), _view(results.entropy, plan, frame)
    depth, *plane = plan.shape
    thick = max(1, SLAB_BYTES // (4 * logits.shape[0] * math.prod(plane)))
    back = tuple(1.0 if s == 1 else 1 / s for s in plan.steps)
    # The step is that of the grids; a working grid is a whole number of voxels and may be a little larger or smaller.
    indices, shares = sampling.taps(logits.shape[1], depth, back[0], smooth=False)
    if plan.nearest == 0:
        indices, shares = sampling.nearest(logits.shape[1], depth)
    nearest = plan.nearest - 1 if plan.nearest else None
    for start in range(0, depth, thick):
        stop = min(depth, start + thick)
        if back[0] == 1 and logits.shape[1] == depth:
            slab = logits[:, start:stop]
        else:
            slab = sampling.gather(logits, 1, indices[:, start:stop], shares[:, start:stop])
        slab = sampling.resample(slab, plane, back[1:], smooth=False, nearest_axis=nearest)
        where = slice(start, stop)
        _write(slab, plan, card, results, where, labels, views, entropy)
        counter.add()


def _view(array: np.ndarray | None, plan: Plan, frame: int) -> np.ndarray | None:
    if array is None:
        return None
    view = plan.turned(array if plan.grid.frames is None else array[frame])
    return view if plan.crop is None else view[plan.crop]


def _write(slab: torch.Tensor, plan: Plan, card: Card, results: Results, where: slice, labels, views, entropy) -> None:
    options = plan.options
    if options.kind == "image":
        for channel, view in views.items():
            view[where] = slab[channel].cpu().numpy()
        return
    needed = bool(views) or entropy is not None
    separate = options.activation == "sigmoid" or options.kind == "regions" or slab.shape[0] == 1
    probability = None
    if needed or separate:
        probability = {"softmax": lambda t: torch.softmax(t, 0), "sigmoid": torch.sigmoid}.get(
            options.activation, lambda t: t
        )(slab)
    if options.activation == "none" and entropy is not None:
        _check_probabilities(probability, card)
    labels[where] = _decide(slab, probability, options.kind, separate, results.values).cpu().numpy()
    for channel, view in views.items():
        view[where] = probability[channel].cpu().numpy()
    if entropy is not None:
        entropy[where] = _entropy(probability, separate).cpu().numpy()


def _decide(
    slab: torch.Tensor, probability: torch.Tensor | None, kind: str, separate: bool, values: tuple[int, ...]
) -> torch.Tensor:
    """Return the label of every voxel: the likeliest class, or every region that is likelier than not."""
    if not separate:
        return torch.tensor(values, dtype=torch.int32, device=slab.device)[slab.argmax(0)]
    if kind == "regions":
        result = torch.zeros(slab.shape[1:], dtype=torch.int32, device=slab.device)
        for channel, value in enumerate(values):
            result[probability[channel] > 0.5] = value
        return result
    best, channel = probability.max(0)
    found = torch.tensor(values, dtype=torch.int32, device=slab.device)[channel]
    return torch.where(best > 0.5, found, torch.zeros_like(found))


def _entropy(probability: torch.Tensor, separate: bool) -> torch.Tensor:
    """Return Shannon's entropy over its largest possible value; of separate classes, the largest of their own."""
    p = probability.clamp(0, 1)
    if separate:
        each = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / math.log(2)
        return each.amax(0).clamp(0, 1)
    return (-torch.xlogy(p, p).sum(0) / math.log(p.shape[0])).clamp(0, 1)


def _check_probabilities(values: torch.Tensor, card: Card) -> None:
    low, high = float(values.min()), float(values.max())
    if low < -1e-3 or high > 1 + 1e-3:
        raise InputError(
            f"model {card.name!r} gives values from {low:.3g} to {high:.3g}, which are no probabilities and so have no "
            "uncertainty: choose the activation 'softmax' or 'sigmoid', or leave uncertainty out"
        )
