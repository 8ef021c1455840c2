"""The part of a prediction that computes: a frame goes through the networks window by window, in bounded memory."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from .. import progress
from ..errors import InputError
from ..volume import Volume
from . import bands, gpu, heap, sampling, windows
from .asking import Away
from .card import Card, Intensity
from .finishing import Finisher
from .panels import Ask, Panel
from .plan import Plan
from .sums import Sums

Network = Callable[[torch.Tensor], "torch.Tensor | np.ndarray"]
# What a window that is skipped is said to be: background, as sure as this logit makes it.
_SURE = 10.0
# Values that are summed up at once.
_PART = 1 << 20


@dataclass
class Counter:
    """Counts windows over all frames; every report is also a moment at which the work may be cancelled."""

    total: int
    done: int = 0

    def add(self, count: int = 0) -> None:
        """Report `count` more windows."""
        self.done += count
        progress.report("windows", self.done, self.total)


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
    padded = any(before or after for before, after in plan.pad)
    whole = torch.empty((len(channels), *plan.padded)) if padded or len(channels) > 1 else None
    for number, (volume, channel) in enumerate(zip(channels, card.input.channels, strict=True)):
        array = read_frame(volume, plan, counter)
        # Nothing below writes into it, but torch warns of arrays that are read-only.
        tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
        del array
        tensor = sampling.resample(tensor, plan.working, plan.steps, smooth=True)
        counter.add()
        tensor = scaled(tensor, channel.intensity)
        if whole is None:
            return tensor[None]
        _fill(whole[number], tensor, plan.pad)
        del tensor
        counter.add()
    return whole


def _fill(target: torch.Tensor, image: torch.Tensor, pad: Sequence[tuple[int, int]]) -> None:
    """Write an image into a larger one and repeat its outermost voxels around it."""
    inside = tuple(slice(before, before + n) for (before, _), n in zip(pad, image.shape, strict=True))
    target[inside] = image
    for axis, ((before, after), length) in enumerate(zip(pad, image.shape, strict=True)):
        # Axes before this one are full already; those after it still hold the image only.
        lead = [slice(None)] * axis
        rest = inside[axis + 1 :]
        for start, stop, edge in ((0, before, before), (before + length, before + length + after, before + length - 1)):
            if stop > start:
                target[(*lead, slice(start, stop), *rest)] = target[(*lead, slice(edge, edge + 1), *rest)]


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
    return image.clamp(low, high).sub_(low).div_(high - low)


def _standardised(image: torch.Tensor, rule: Intensity, mask: torch.Tensor | None) -> torch.Tensor:
    if rule.low is not None or rule.high is not None:
        image = image.clamp(rule.low, rule.high)
    values = (image if mask is None else image[mask]).numpy()
    mean, std = rule.mean, rule.std
    if not values.size:
        return image
    if mean is None:
        mean, std = _moments(values.reshape(-1))
    found = (image - mean).div_(std) if std > 0 else torch.zeros_like(image)
    return found if mask is None else torch.where(mask, found, image)


def _moments(values: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation: in double precision, as sums over many voxels lose digits in single."""
    parts = [values[i : i + _PART] for i in range(0, values.size, _PART)]
    mean = math.fsum(part.sum(dtype=np.float64) for part in parts) / values.size
    squares = math.fsum(float(np.square(part - mean, dtype=np.float64).sum()) for part in parts)
    return mean, math.sqrt(squares / values.size)


# Through --------------------------------------------------------------------------------------------------------


class OutOfMemory(InputError):  # noqa: N818 - named for what it says
    """Memory ran out where less may do."""


@dataclass
class Run:
    """What one prediction carries from frame to frame.

    Parameters
    ----------
    away : callable
        Has work done in the thread that asks the networks; all that is done for every window is done there.
    ask : callable
        Asks one of the networks, in that thread, as `passes.asker` gives it.
    panel : Panel
        Who is asked.
    card : Card
        Of the model.
    device : str
        Where the networks are.
    counter : Counter
        Of windows.
    to_cpu : callable or None
        Brings the networks to the CPU.
    skip_below : float or None
        Windows that nowhere exceed it are background without being asked.
    notes : list of str
        What was done when memory ran out, and what was skipped.
    """

    away: Away
    ask: Ask
    panel: Panel
    card: Card
    device: str
    counter: Counter
    to_cpu: Callable[[], None] | None = None
    skip_below: float | None = None
    notes: list[str] = field(default_factory=list)
    # Frame and start of the windows that were; in several parts of the plane a window comes more than once.
    skipped: set[tuple[int, ...]] = field(default_factory=set)
    number: int = 0
    most: int | None = None
    sums_device: str | None = None
    _lane: gpu.Lane | None = None

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def windows_at_once(self, plan: Plan) -> int:
        """Return how many windows the GPU has room for; not fewer at most than `plan` would take of small ones."""
        size = plan.window[1:] if plan.dims == 2 else plan.window
        shape = (self.card.input.network_channels, *size)
        most = max(gpu.MOST, plan.batch)
        return self.away(lambda: gpu.windows_at_once(lambda x: self.ask((0, None, x)), shape, self.device, most))

    def first(self, image: torch.Tensor, plan: Plan) -> dict[tuple[int, ...] | None, torch.Tensor]:
        """Ask about the first windows, which says how many classes there are; the answers are used later.

        That to a window which is to be skipped comes under the key None: it is not used.
        """
        (block,) = bands.cover(plan)
        some = block.windows[block.steps[0].windows]
        answers = self.away(lambda: self._answers(image, plan, some, may_skip=False))
        skipped = (self._is_empty(image[(slice(None), *w.slices)]) for w in some)
        return {None if skip else w.start: a for w, a, skip in zip(some, answers, skipped, strict=True)}

    def _is_empty(self, window: torch.Tensor) -> bool:
        """Whether a window is to be taken as background."""
        return self.skip_below is not None and bool(window.max() <= self.skip_below)

    def told(self) -> tuple[str, ...]:
        """Return what people should know of the run."""
        if not self.skipped:
            return tuple(self.notes)
        many = f"{len(self.skipped)} windows were" if len(self.skipped) > 1 else "1 window was"
        return (*self.notes, f"{many} taken as background: nothing there exceeds {self.skip_below:g}")

    def frame(
        self,
        image: torch.Tensor,
        plan: Plan,
        finisher: Finisher,
        channels: int,
        room: float,
        known: dict[tuple[int, ...] | None, torch.Tensor],
        expected: int,
        *,
        tight: bool = False,
    ) -> None:
        """Run all windows of a frame and write its results.

        Parameters
        ----------
        image : (channels, z, y, x) float32 tensor
            Prepared and padded.
        plan : Plan
            Of this frame.
        finisher : Finisher
            Of this frame.
        channels : int
            Sums of each voxel.
        room : float
            Bytes for the sums.
        known : dict
            Answers there are already, by the start of their window; they are taken out.
        expected : int
            Windows that the counter has been told of.
        tight : bool
            Whether memory is short; it is in any case where the plane is divided.
        """
        self.number += 1
        while True:
            blocks = bands.choose(plan, channels, room)
            self.counter.total += bands.count(blocks) - expected
            expected = 0
            try:
                for block in blocks:
                    self._block(image, plan, finisher, block, channels, known, tight=tight or len(blocks) > 1)
                return
            except OutOfMemory as error:
                smaller = bands.choose(plan, channels, bands.sums_bytes(blocks, plan.numbers(channels)) / 2)
                if len(smaller) <= len(blocks):
                    raise InputError(str(error)) from error
            room = bands.sums_bytes(smaller, plan.numbers(channels))
            self.note(f"memory ran out: the plane was divided into {len(smaller)} parts, done one after another")

    def _block(
        self, image, plan, finisher: Finisher, block: bands.Block, channels: int, known: dict, *, tight: bool
    ) -> None:
        sums = self._make_sums(block, plan, channels)
        for steps in _until_whole(block.steps):
            for count in self.away.each(self._add(image, plan, block, step, sums, known) for step in steps):
                self.counter.add(count)
            if tight:
                heap.give_back()
            finisher.finish(sums, block, steps[-1].out)
            self.counter.add()

    def _add(self, image, plan: Plan, block: bands.Block, step: bands.Step, sums: Sums, known: dict) -> int:
        """Ask about the windows of a step, add what is answered to the sums, and return how many they are."""
        sums.begin(step)
        batch = block.windows[step.windows]
        asked = [w for w in batch if w.start not in known]
        answers = self._answers(image, plan, asked, sums=sums) if asked else ()
        found = dict(zip((w.start for w in asked), answers, strict=True))
        for window in batch:
            answer = known.pop(window.start) if window.start in known else found.pop(window.start)
            fetched = self._lane is not None and answer.device.type != "cpu" and sums.total.device.type == "cpu"
            sums.add(window, self._lane.fetch(answer) if fetched else answer)
        return len(batch)

    def _make_sums(self, block: bands.Block, plan: Plan, channels: int) -> Sums:
        device, before = self.sums_device or self.device, [pad[0] for pad in plan.pad]
        size = bands.sums_bytes([block], plan.numbers(channels))
        how = {
            "blended": plan.options.overlap > 0,
            "joint": plan.joint,
            "halved": plan.halved,
            "folds": self.panel.folds,
        }
        if device != "cpu" and size > torch.cuda.mem_get_info(device)[0] // 2:
            device = "cpu"
        try:
            return Sums(channels, block, before, device, **how)
        except (MemoryError, RuntimeError) as error:
            if not is_memory(error):
                raise
            if device == "cpu":
                raise OutOfMemory(
                    f"the sums of all classes need {size / 1e9:.1f} GB, which are not free: crop or resample the image"
                ) from error
        self._sums_to_cpu()
        return Sums(channels, block, before, "cpu", **how)

    def _sums_to_cpu(self) -> None:
        self.sums_device = "cpu"
        self.note("the GPU's memory ran out: sums are kept in the computer's memory")

    def _answers(
        self,
        image: torch.Tensor,
        plan: Plan,
        asked: Sequence[windows.Window],
        *,
        sums: Sums | None = None,
        may_skip: bool = True,
    ) -> Sequence[torch.Tensor]:
        """Return the answers to some windows, with less at once where memory runs out."""
        found: list[torch.Tensor] = []
        asked = list(asked)
        while len(found) < len(asked):
            number = min(self.most or len(asked), len(asked) - len(found))
            some = asked[len(found) : len(found) + number]
            try:
                found.extend(self._once(image, plan, some, sums if may_skip else None))
                continue
            except OutOfMemory as error:
                failed = str(error)
            # Outside of the handler, so that nothing holds on to what the network had in use.
            self._do_with_less(number, sums, failed)
        return found

    def _do_with_less(self, number: int, sums: Sums | None, failed: str) -> None:
        """Free memory for another try: fewer windows at once, sums on the CPU, everything on the CPU."""
        if self.device != "cpu":
            torch.cuda.empty_cache()
        if number > 1:
            self.most = number // 2
            self.note(f"memory ran out: {self.most} windows instead of {number} went through the network at once")
        elif sums is not None and sums.total.device.type != "cpu":
            sums.move("cpu")
            self._sums_to_cpu()
        elif self.device != "cpu" and self.to_cpu is not None:
            self.to_cpu()
            self.note(f"the memory of {self.device} did not suffice: the network went on on the CPU")
            self.device = self.sums_device = "cpu"
        else:
            raise OutOfMemory(failed)

    def _once(self, image, plan: Plan, some: Sequence[windows.Window], sums: Sums | None) -> Sequence[torch.Tensor]:
        """Ask about windows that go through the networks together."""
        inputs = [image[(slice(None), *w.slices)] for w in some]
        empty = [sums is not None and self._is_empty(part) for part in inputs]
        self.skipped |= {(self.number, *w.start) for w, skip in zip(some, empty, strict=True) if skip}
        asked = [part for part, skip in zip(inputs, empty, strict=True) if not skip]
        answers: Sequence[torch.Tensor] = ()
        if asked:
            sent = self._sent(asked)
            answers = self.away.timed(
                lambda: self.panel.ask(
                    sent,
                    plan.dims == 2,
                    lambda question: _checked(self.ask, question, plan, self.card, self.panel.folds),
                    self.counter.add,
                )
            )
        if not any(empty):
            return answers
        nothing = self._background(plan, sums.total.shape[0])
        given = iter(answers)
        return [nothing if skip else next(given) for skip in empty]

    def _sent(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        if self.device == "cpu":
            return torch.stack(parts)
        if self._lane is None:
            self._lane = gpu.Lane(self.device)
        return self._lane.send(parts)

    def _background(self, plan: Plan, channels: int) -> torch.Tensor:
        """Return the answer to a window in which nothing is."""
        options, classes = plan.options, channels // self.panel.channels
        separate = options.activation == "sigmoid" or options.kind == "regions" or classes == 1
        low, high = (0.0, 1.0) if options.activation == "none" else (-_SURE, _SURE)
        one = torch.full((classes, 1, 1, 1), low)
        if not separate:
            one[0] = high
        return one.repeat(self.panel.channels, 1, 1, 1).expand(-1, *plan.window)


def _until_whole(steps: Sequence[bands.Step]) -> Iterator[list[bands.Step]]:
    """Give steps in runs, each up to one after which slices are complete."""
    run: list[bands.Step] = []
    for step in steps:
        run.append(step)
        if step.out.stop > step.out.start:
            yield run
            run = []
    if run:
        yield run


def is_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)


def _checked(ask: Ask, question: tuple, plan: Plan, card: Card, folds: int) -> torch.Tensor:
    """Ask a network once and check the shape and the numbers of its answer."""
    inputs = question[2]
    # The network may write into it; what it is like is noted before.
    shape, device = tuple(inputs.shape), inputs.device
    del inputs
    try:
        answer = ask(question)
    except (progress.Cancelled, InputError):
        raise
    except Exception as error:
        raise _explained(error, shape, card, device) from (None if is_memory(error) else error)
    if isinstance(answer, np.ndarray):
        answer = torch.from_numpy(np.ascontiguousarray(answer))
    expected = folds * len(card.output.values) if plan.options.kind == card.output.kind else 0
    fits = isinstance(answer, torch.Tensor) and answer.ndim == len(shape)
    fits = fits and answer.shape[0] == shape[0] and tuple(answer.shape[2:]) == shape[2:]
    if not fits or answer.shape[1] == 0 or (expected and answer.shape[1] != expected):
        found = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise InputError(
            f"model {card.name!r} gave {found} for a window of shape {shape}, where ({shape[0]}, "
            f"{expected or 'classes'}, {', '.join(map(str, shape[2:]))}) is needed: check its input and output in the "
            "card"
        )
    answer = answer.to(torch.float32)
    # The extremes are finite only if all are, and asking for them needs no further memory.
    if not all(torch.isfinite(one) for one in torch.aminmax(answer)):
        raise InputError(
            f"model {card.name!r} gave NaN or infinite values for a window of shape {shape}: its weights may be "
            "damaged, or the intensity rule of its card does not fit this image"
        )
    return answer


def _explained(error: Exception, shape: tuple[int, ...], card: Card, device: torch.device) -> InputError:
    said = str(error).strip().split("\n")[0][:200]
    if is_memory(error):
        other = "" if device.type == "cpu" else ", or run it with device='cpu'"
        return OutOfMemory(
            f"model {card.name!r} needs more memory than {device} has for a window of shape {shape}: choose a smaller "
            f"window{other}"
        )
    size, other = card.window.size, ""
    if size is not None and sorted(size) != sorted(shape[2:]):
        # Some networks, such as UNETR, know only the size that they learned from.
        other = f", or leave window out (its card says {', '.join(map(str, size))})"
    return InputError(
        f"model {card.name!r} failed on a window of shape {shape} ({type(error).__name__}: {said}): check that its "
        f"card names the right channels, dims and window{other}"
    )
