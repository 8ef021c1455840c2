"""Why a model says what it says: which voxels speak for a class, and what its layers see.

Methods: gradient x input (Shrikumar et al. 2016, arXiv:1605.01713); integrated gradients (Sundararajan, Taly and Yan
2017, arXiv:1703.01365); Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) in its form for segmentations (Vinogradova,
Dibrov and Myers 2020, arXiv:2002.11434); occlusion (Zeiler and Fergus 2014, arXiv:1311.2901).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..volume import Volume
from ._explained_steps import opened, step_of
from ._explaining import Job, divisor, job_of
from .plan import Plan
from .predict import ModelLike

if TYPE_CHECKING:
    from ._attribution import Frame, Question
    from ._attribution_maps import Found

METHODS = ("gradient", "integrated_gradients", "grad_cam", "occlusion")
TITLES = {
    "gradient": "gradient x input",
    "integrated_gradients": "integrated gradients",
    "grad_cam": "Grad-CAM",
    "occlusion": "occlusion",
}
_EIGHTH = 8
_BASELINES = ("mean", "minimum", "blurred")
# Share of the change that integrated gradients may miss before that needs a remedy.
_MISSED = 0.05


def attribute(
    volume: Volume | Sequence[Volume],
    model: ModelLike | Sequence[ModelLike],
    label: int | str,
    *,
    method: str = "integrated_gradients",
    region: Volume | None = None,
    layer: str | None = None,
    steps: int | None = None,
    gap: float = 0.02,
    baseline: float | str | None = None,
    patch: float | Sequence[float] | None = None,
    stride: float | Sequence[float] | None = None,
    unit: str = "mm",
    frame: int | None = None,
    window: Sequence[int] | None = None,
    overlap: float | None = None,
    blending: str | None = None,
    mirror: bool | Sequence[int] | None = None,
    dims: int = 3,
    device: str = "auto",
    check: bool = True,
) -> Volume | list[Volume]:
    r"""Show which voxels speak for a class, and which against it.

    What is explained is one number, the target: the sum of the class's logits (what the network gives before its
    activation), blended and brought to the grid of the image as `predict` does it, over a region. The image is
    prepared and cut into windows as for a prediction; maps of windows add up to the map of the whole volume without
    seams, and one window that covers the volume gives just the map of a single pass.

    Parameters
    ----------
    volume : Volume or list of Volume
        As for `predict`: 2D, 3D or 4D; several channels as a list.
    model : Model, str, path, callable, or list of them
        As for `predict`. A callable takes a float32 tensor (n, channels, \*window) and must stay within torch, but for
        occlusion. Of several models, and of the folds of nnU-Net, the mean of the logits is explained: the map is the
        mean of theirs.
    label : int or str
        The class, by value or name; of a model that gives an image, the channel.
    method : {"integrated_gradients", "gradient", "grad_cam", "occlusion"}
        ``"gradient"``: gradient times input. ``"integrated_gradients"``: gradients integrated on the straight way
        from the baseline to the image (Gauss-Legendre), times the difference; the map's sum over the voxels that the
        network saw is the target less that of the baseline. ``"grad_cam"``: Seg-Grad-CAM, the channels of a layer
        weighed by the mean gradient of the target, negative sums cut off. ``"occlusion"``: by how much the target
        falls when a patch is set to the baseline, averaged over the patches that cover a voxel.
    region : Volume, optional
        Labels on the grid of the image: what is not 0 counts, such as one error. Where not given, the voxels that
        the model gives this class.
    layer : str, optional
        For Grad-CAM, a name that `layers` lists; where not given the last of the coarsest ones (the bottleneck), or
        in a network that never gets coarser the last before the head.
    steps : int, optional
        Of integrated gradients: passes for each window (Gauss-Legendre). Where not given, as many as `gap` needs, 8 to
        512: the way is halved again and again where the map's sum misses the change of the target.
    gap : float
        Where steps are not given: the share of the target's change that the map's sum may miss.
    baseline : float or {"mean", "minimum", "blurred"}, optional
        What stands for "nothing there", as the network sees it, after the card's intensity rule: 0 is the lower end
        of a window of grey levels, and the mean of a z-score; or each channel's mean or lowest value in the frame; or
        the frame blurred by a Gaussian of a fifth of its size. A network with instance normalisation sees the
        same at any contrast, and jumps where there is none: only the blurred baseline leads to it smoothly. Where not
        given ``"blurred"`` for integrated gradients of such networks, otherwise 0.
    patch, stride : float or sequence of float, optional
        Of occlusion, in array order (z, y, x); for a 2D model (y, x) as it sees them, as slices are covered one by
        one. An eighth of the image where not given, side by side.
    unit : {"mm", "voxels"}
        Of `patch` and `stride`; voxels are those that the network works on, in its order of axes.
    frame : int, optional
        The one frame of a 4D image that is explained, and the result has; all of them, each for itself, where not
        given.
    window, overlap, blending, mirror, dims, device, check
        As for `predict`.

    Returns
    -------
    Volume or list of Volume
        A float32 image on the grid of the input: positive where voxels speak for the class. For several channels a
        list with one for each, but of Grad-CAM, which has one map. Values are those of the voxels the network saw,
        interpolated linearly as a prediction is; where padding repeats the outermost voxels, its share is added to
        theirs. ``meta["notes"]`` says what was done, ``meta["attribution"]`` holds for each frame the target, that of
        the baseline, the map's sum over the voxels the network saw, and of integrated gradients the steps and the
        gap: the share of the change that the sum misses.

    Raises
    ------
    InputError
        If something does not fit; if the model gives no gradients (ONNX), which occlusion does not need; if the class
        is found nowhere and no region is given.
    Cancelled
        By the listener of `progress`, within one window.

    Notes
    -----
    Memory: one window's activations and their gradients, about three times those of a prediction, and four images of
    the working grid; of integrated gradients without steps, the input of up to 32 windows more. Passes through each
    network for each window that reaches into the region: 1 (gradient), ``steps + 2`` (integrated gradients; without
    steps as many as it takes), 2 (Grad-CAM; 1 for every other window), and of occlusion as many as patches touch it,
    for each channel.

    Examples
    --------
    >>> image = Volume.from_array(np.arange(6, dtype=np.float32).reshape(1, 2, 3), spacing=(1, 1, 1))
    >>> found = attribute(image, lambda x: 2 * x - 3, 1, method="gradient")
    >>> found.data[0].tolist()
    [[0.0, 0.0, 4.0], [6.0, 8.0, 10.0]]
    """
    _check_choices(method, steps, gap, baseline, unit)
    given = {"window": window, "overlap": overlap, "blending": blending, "mirror": mirror}
    asked = {**given, "dims": dims, "device": device, "check": check}
    with job_of(volume, model, asked, frame) as job:
        value = job.value_of(label)
        region_used = job.region(region, value)
        made = _Maps(job, method, {"layer": layer, "steps": steps, "gap": gap, "baseline": baseline, "patch": patch,
                                   "stride": stride, "unit": unit}, region_used)  # fmt: skip
        made.run(value)
    parameters = {"label": value, "method": method, **made.choices, "frame": frame, **_written(asked, job.plan)}
    return made.volumes(value, parameters, region)


def replay(step: Mapping[str, Any], volume: Volume, parameters: Mapping[str, Any]) -> Volume:
    """Repeat a step ``"attribute"`` of a volume's history; further volumes stand among its parameters.

    Raises
    ------
    InputError
        If the model was a Python function, or its weights are no longer the same.
    """
    values = dict(parameters)
    result = values.pop("result", 0)
    model, further = opened(step, values)
    found = attribute([volume, *further], model, values.pop("label"), **values)
    return found[result] if isinstance(found, list) else found


def _check_choices(method: str, steps: int | None, gap: float, baseline: float | str | None, unit: str) -> None:
    for name, value, known in (("method", method, METHODS), ("unit", unit, ("mm", "voxels"))):
        if value not in known:
            raise InputError(f"{name} {value!r} is unknown: use one of {', '.join(known)}")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise InputError(f"steps {steps!r} must be a whole number from 1 on, such as 32, or None for as many as needed")
    if isinstance(gap, bool) or not isinstance(gap, int | float) or not 0 < gap < 1:
        raise InputError(f"gap {gap!r} must be a share between 0 and 1, such as 0.02")
    number = isinstance(baseline, int | float) and not isinstance(baseline, bool) and np.isfinite(baseline)
    if not number and baseline is not None and baseline not in _BASELINES:
        raise InputError(
            f"baseline {baseline!r} must be a number as the network sees it, or one of {', '.join(_BASELINES)}"
        )


def _written(asked: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """Return choices as a history keeps them."""
    options = plan.options
    size = plan.window if plan.dims == 3 else plan.window[1:]
    made = {"overlap": options.overlap, "blending": options.blending, "mirror": list(options.mirror) or False}
    return {**asked, **made, "window": None if asked["window"] is None else list(size)}


# Maps ---------------------------------------------------------------------------------------------------------------


class _Maps:
    """The maps of all frames."""

    def __init__(self, job: Job, method: str, choices: Mapping[str, Any], region: np.ndarray) -> None:
        self.job, self.method, self.where = job, method, region
        used = {"gradient": (), "integrated_gradients": ("steps", "gap", "baseline"), "grad_cam": ("layer",),
                "occlusion": ("patch", "stride", "unit", "baseline")}[method]  # fmt: skip
        self.choices = {name: choices[name] for name in used}
        if self.choices.get("baseline", 0) is None:
            self.choices["baseline"] = self._baseline()
        self.figures: list[dict[str, float | None]] = []
        self.layers = [self._place_of_layer(one) for one in job.networks] if method == "grad_cam" else []
        count = 1 if method == "grad_cam" else len(job.channels)
        grid = job.plan.grid
        self.grid = grid if job.chosen is None else grid.without_frames()
        self.data = np.zeros((count, len(job.frames), *grid.spatial_shape), np.float32)

    def _baseline(self) -> float | str:
        """Return what suits the networks: those that even out contrast jump where there is none."""
        from . import _layers

        jumps = self.method == "integrated_gradients" and any(map(_layers.evens_out, self.job.networks))
        return "blurred" if jumps else 0.0

    def _place_of_layer(self, network: Any) -> tuple[Any, Any]:
        """Find the layer of Grad-CAM, and where its values lie."""
        from . import _layers

        job = self.job
        network = _layers.require_network(network, job.card.name)
        size = job.plan.window[-job.plan.dims :]
        rows = _layers.listed(network, job.card.input.network_channels, size)
        name = self.choices["layer"] or _layers.bottleneck(rows).name
        self.choices["layer"] = name
        layer = _layers.find(network, name, rows)
        row = next(one for one in rows if one.name == name)
        by = divisor(job.card, rows)
        return layer, _layers.alignment(network, rows, row, job.card.input.network_channels, by)

    def run(self, value: int) -> None:
        """Compute every frame that has something of the region."""
        from ._attribution_path import NODES

        job = self.job
        # Steps that are needed beyond the first ones are counted as they come.
        steps = self.choices.get("steps") or NODES
        passes = {"integrated_gradients": steps + 2, "occlusion": 0}.get(self.method, 1)
        for place, number in enumerate(job.frames):
            if not self.where[number].any():
                self.figures.append({"target": 0.0, "baseline": None, "sum": 0.0})
                continue
            frame = job.frame(number, self.where[number])
            every = len(frame.batches(all_of_them=True)) if self.method == "grad_cam" else 0
            job.counter.total += (passes * len(frame.batches()) + every) * len(job.networks)
            channel = job.channel_of(value, self._classes(frame))
            found = [self._map(frame, job.question(frame.plan, channel, one), number)
                     for number, one in enumerate(job.networks)]  # fmt: skip
            self._keep(frame, found, place)

    def _keep(self, frame: "Frame", found: Sequence["Found"], place: int) -> None:
        """Write the mean of the maps of all networks, and its figures."""
        maps = sum(one.maps for one in found) / len(found)
        for channel, one in enumerate(maps):
            frame.write(one, self.data[channel, place])
        figures = {"target": _mean([one.target for one in found]), "baseline": None, "sum": float(maps.double().sum())}
        if self.method == "integrated_gradients":
            figures["baseline"] = _mean([one.baseline for one in found])
            change = figures["target"] - figures["baseline"]
            figures["steps"] = max(one.steps for one in found)
            figures["gap"] = abs(change - figures["sum"]) / abs(change) if change else None
        self.figures.append(figures)

    def _classes(self, frame: "Frame") -> int:
        """Return how many classes a function gives, which its card does not say."""
        if self.job.card.output.values:
            return len(self.job.card.output.values)
        question, some = self.job.question(frame.plan), frame.batches()[0]
        slab = [frame.image[frame.slab(w)] for w in some.windows]
        from .taking import as_tensor

        return int(question.guarded(lambda: as_tensor(self.job.network(question.inputs(slab, some))).shape[1]))

    def _map(self, frame: "Frame", question: "Question", number: int) -> "Found":
        from . import _attribution_maps as maps
        from ._attribution_path import integrated_until

        chosen = self.choices
        if self.method == "gradient":
            return maps.gradient_input(frame, question)
        if self.method == "integrated_gradients":
            if chosen["steps"] is None:
                return integrated_until(frame, question, chosen["baseline"], chosen["gap"])
            return maps.integrated(frame, question, chosen["baseline"], chosen["steps"])
        if self.method == "grad_cam":
            return maps.grad_cam(frame, question, *self.layers[number])
        size, stride = patch_sizes(frame.plan, chosen["patch"], chosen["stride"], chosen["unit"])
        return maps.occluded(frame, question, chosen["baseline"], size, stride)

    def volumes(self, value: int, parameters: Mapping[str, Any], region: Volume | None) -> Volume | list[Volume]:
        """Wrap the maps as volumes with history."""
        job = self.job
        name = job.card.output.label(value).name if job.plan.options.kind != "image" else f"channel {value}"
        title = f"{TITLES[self.method]} of {name}"
        found = []
        for number, data in enumerate(self.data):
            source = job.given[number]
            meta = {k: v for k, v in job.given[0].meta.items() if k not in ("unit", "windows", "modality")}
            meta["attribution"] = {"method": self.method, "label": value, "frames": self.figures}
            meta["notes"] = [*(meta.get("notes") or ()), *job.notes, *self._said(name, region)]
            # A step without a region says so: it is explained where the class is found.
            chosen = {"region": None, **parameters, "result": number}
            step = step_of("attribute", job.model, job.card, chosen, job.given, region, job.device)
            data = data if self.grid.frames is not None else data[0]
            found.append(Volume(data, self.grid, name=f"{source.name} · {title}", meta=meta,
                                history=(*job.given[0].history, step)))  # fmt: skip
        return found[0] if len(found) == 1 else found

    def _said(self, name: str, region: Volume | None) -> list[str]:
        over = "the whole image" if self.job.plan.options.kind == "image" else f"the voxels found as {name}"
        over = over if region is None else repr(region.name)
        notes = [f"target: the sum of the logits of {name} over {over}"]
        if self.method == "grad_cam":
            notes.append(f"of layer {self.choices['layer']!r}")
        if self.method == "integrated_gradients":
            notes += self._missed()
        if len(self.job.networks) > 1:
            notes.append(f"the mean of {len(self.job.networks)} networks")
        return notes

    def _missed(self) -> list[str]:
        """Say by how much the map's sum misses the change of the target, and what would help."""
        there = [f for f in self.figures if f["baseline"] is not None]
        change = sum(abs(f["target"] - f["baseline"]) for f in there)
        if not change:
            return []
        share = sum(abs(f["target"] - f["baseline"] - f["sum"]) for f in there) / change
        steps, baseline = max(f["steps"] for f in there), self.choices["baseline"]
        said = f"the map's sum misses the change of the target by {share:.2%} (completeness), with {steps} steps from "
        said += f"the baseline {baseline!r}"
        other = "" if baseline == "blurred" else " or baseline='blurred'"
        if self.choices["steps"] is not None and share > _MISSED:
            said += f": take more steps{other}"
        elif self.choices["steps"] is None and share > self.choices["gap"]:
            said += f", where {self.choices['gap']:.2%} were asked for: take another baseline{other}"
        return [said]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def patch_sizes(plan: Plan, patch: Any, stride: Any, unit: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return size and stride of the patches in voxels of the working grid, (z, y, x)."""
    spacing = np.asarray(plan.grid.without_frames().reordered(plan.order, plan.flips).spacing) * plan.steps
    sizes = []
    for name, value in (("patch", patch), ("stride", stride)):
        if value is None:
            size = [max(1, -(-n // _EIGHTH)) for n in plan.working] if name == "patch" else list(sizes[0])
            sizes.append((1, *size[1:]) if plan.dims == 2 else tuple(size))
            continue
        numbers = list(value) if isinstance(value, list | tuple) else [value] * plan.dims
        good = all(isinstance(v, int | float) and not isinstance(v, bool) and v > 0 for v in numbers)
        if len(numbers) != plan.dims or not good:
            raise InputError(f"{name} {value!r} must be a length above 0, or {plan.dims} in array order, in {unit}")
        lengths = np.asarray(numbers, float)
        if unit == "mm":
            # The network may see other axes first than those that the image is stored by.
            lengths = (lengths[list(plan.order)] if plan.dims == 3 else lengths) / spacing[3 - plan.dims :]
        size = [max(1, round(float(v))) for v in lengths]
        sizes.append((1, *size) if plan.dims == 2 else tuple(size))
    return sizes[0], sizes[1]


__all__ = ["METHODS", "TITLES", "attribute", "replay"]
