"""The run of several outputs that share their sums: what the network says is stacked, and each output written apart."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from ..errors import InputError
from ..volume import Volume
from . import cost, finishing, several
from .class_values import expected, label_values, wanted
from .heads import OutputSpec
from .plan import Plan
from .post import applied
from .predict import Work
from .prediction import Prediction, gather
from .taking import Taking, as_tensor

if TYPE_CHECKING:
    from .card import Card


class Takes:
    """What is taken of an answer: the channels of several outputs, one after another.

    Parameters
    ----------
    outputs : sequence of OutputSpec
        Which.
    notes : Notes or None
        Where answers for the whole image are put down.
    """

    def __init__(self, outputs: Sequence[OutputSpec], notes: "several.Notes | None") -> None:
        self.outputs, self.notes = tuple(outputs), notes
        self.counts: list[int] = []

    def __call__(self, network: Callable, inputs: torch.Tensor, card: "Card") -> torch.Tensor:
        """Ask the network and return the channels of all outputs."""
        # Before it is asked: it may write into what it is shown.
        shape, keys = tuple(inputs.shape), self.notes.keys(inputs) if self.notes is not None else []
        answer = network(inputs)
        if self.notes is not None:
            self.notes.add(keys, answer)
        found = []
        for output in self.outputs:
            part = as_tensor(Taking(lambda _: answer, card, output.take)(None))
            fits = isinstance(part, torch.Tensor) and part.ndim == len(shape) and part.shape[0] == shape[0]
            fits = fits and tuple(part.shape[2:]) == shape[2:] and part.shape[1] > 0
            count = len(output.values)
            if not fits or (count and part.shape[1] != count):
                said = tuple(part.shape) if isinstance(part, torch.Tensor) else type(part).__name__
                raise InputError(
                    f"model {card.name!r} gave {said} for a window of shape {shape}, where ({shape[0]}, "
                    f"{count or 'classes'}, {', '.join(map(str, shape[2:]))}) is needed: check the output of kind "
                    f"{output.kind!r} in the card"
                )
            found.append(part.to(torch.float32))
        self.counts = [part.shape[1] for part in found]
        return torch.cat(found, 1)


@dataclass
class Shared(Work):
    """What the run of several outputs carries from frame to frame."""

    parts: Mapping[str, "several.Part"] = field(default_factory=dict)
    takes: Takes | None = None
    made: list[finishing.Results] = field(default_factory=list)

    def draw_up(self, classes: int, plan: Plan | None = None) -> cost.Bill:
        """Return what all outputs need together."""
        counts = self.takes.counts or [expected(part.card, part.options) for part in self.parts.values()]
        return several.bill_of(self.channels, plan or self.plan, self.card, self.parts, counts, self.most)

    def begin(self, channels: int) -> None:
        """Make the arrays of the results of each output."""
        self.require(channels)
        for part, count in zip(self.parts.values(), self.takes.counts, strict=True):
            options = part.options
            values = label_values(count, part.card, options)
            image = options.kind == "image"
            kept = range(count) if image else [values.index(v) for v in wanted(options, values, part.card)]
            self.made.append(
                finishing.allocate(
                    replace(self.plan, options=options), kept, values, dtype=self.bill.dtype,
                    on_disk=self.bill.on_disk, answers=1, apart=0,
                )
            )  # fmt: skip
        arrays = {(n, c): array for n, one in enumerate(self.made) for c, array in one.kept.items()}
        self.results = finishing.Results(tuple(range(channels)), None, arrays)

    def finisher(self, plan: Plan, frame: int, look: Callable[[], None]) -> finishing.Finisher:
        """Return what writes the results of a frame."""
        made = zip(self.parts.values(), self.made, strict=True)
        each = [
            finishing.Finisher(replace(plan, options=part.options), part.card, one, frame, look) for part, one in made
        ]
        return _Finishers(each, self.results, self.takes.counts)

    def gathered(self, given: list[Volume], device: str, notes: Sequence[str]) -> dict[str, Prediction]:
        """Return the prediction of each output."""
        found = {}
        model = self.models[0]
        for (name, part), results in zip(self.parts.items(), self.made, strict=True):
            plan = replace(self.plan, options=part.options)
            own = replace(model, card=part.card)
            one = gather(given, [own], part.card, plan, results, part.asked, device, notes)
            found[name] = applied(one, part.asked["post"])
        return found


class _Finishers(finishing.Finisher):
    """Writes the results of several outputs, whose channels follow one another."""

    def __init__(self, each: Sequence[finishing.Finisher], results: finishing.Results, counts: Sequence[int]) -> None:
        first = each[0]
        self.plan, self.card, self.look, self.ways = first.plan, first.card, first.look, first.ways
        self.each, self.results, self.counts = each, results, tuple(counts)
        self.views = {(n, c): view for n, one in enumerate(each) for c, view in one.views.items()}

    def write(self, strip: torch.Tensor, where: tuple[slice, ...]) -> None:
        """Write the results of a strip of the image, from its sums (channels, slices, rows, columns)."""
        for one, part in zip(self.each, strip.split(self.counts), strict=True):
            one.write(part, where)
