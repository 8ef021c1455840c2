"""The one table of operations.

From a row come the dock, the menu entry, ``lightbox apply``, the recipe step and the contract tests. The signature and
the docstring of the function declare its parameters; the row says the rest.
"""

import inspect
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import InputError
from .ops import (
    components,
    distance,
    filters,
    frequency,
    morphology,
    perturb,
    segmentation,
    spatial,
    thresholding,
    warps,
)
from .types import Role
from .volume import Label, Volume


@dataclass(frozen=True)
class Parameter:
    """One argument of an operation, read off its signature.

    Parameters
    ----------
    name : str
        Name of the argument.
    annotation : object
        Its bare type, without `Annotated`; ``float | None`` stays as it is.
    default : object
        Default value; `inspect.Parameter.empty` where the argument must be given.
    hints : mapping
        ``min``, ``max``, ``step``, ``unit``, ``start`` (what an optional number begins with) and the like, from the
        annotation.
    role : str
        ``"value"``, ``"image"``, ``"labels"``, ``"voxels"`` (image or labels), ``"seeds"``, ``"volume"``,
        ``"frequencies"`` (points of the spectrum, which may say for which slice and frame they are), or what `apply`
        fills in: ``"spacing"``, ``"labelled"``, ``"device"``.
    help : str
        The argument's paragraph of the docstring.
    """

    name: str
    annotation: Any
    default: Any
    hints: Mapping[str, Any]
    role: str
    help: str

    @property
    def brief(self) -> str:
        """The first sentence of the help, without its marks, to follow a colon in a message."""
        # A semicolon between quotes belongs to what may be typed.
        sentence = re.match(r'(?:"[^"]*"|[.;:](?=\S)|[^.;:])*', self.help.replace("`", "").strip())[0]
        return sentence[:1].lower() + sentence[1:]

    @property
    def required(self) -> bool:
        """Whether the argument has no default."""
        return self.default is inspect.Parameter.empty

    @property
    def is_layer(self) -> bool:
        """Whether another volume (or points) stands for this argument, rather than a value."""
        return self.role in ("image", "labels", "voxels", "seeds", "volume")


@dataclass(frozen=True)
class Operation:
    """One row of the table.

    Parameters
    ----------
    function : callable
        Takes an array (or a `Volume`, for operations on the geometry) first and returns the like.
    title : str
        Name in menus and docks.
    menu : str
        ``"filter"``, ``"transform"``, ``"segment"``, ``"measure"`` or ``"visualize"``.
    halo : callable, optional
        From the parameters, how many voxels around a tile decide its result: one number, or one an axis (z, y, x);
        ``p["spacing"]`` is the voxel spacing in mm. None: the whole array decides.
    planes : bool
        Whether the operation is made for 2D planes.
    whole : bool
        Whether such an operation takes whole volumes as well, when asked to.
    result : {"image", "labels", "probability", "spectrum", "distances", "same"}
        What comes out. A spectrum is a picture that lies on no patient grid, distances are an image in mm; the same is
        of the kind of the input and, where that is labels, keeps their names.
    tolerance : float
        Relative difference that a replay on another machine may show; 0 for selections and whole numbers.
    preview : (callable, callable), optional
        For operations that need the whole array, but little of it: ``whole(image, **parameters)`` gives what must be
        known of all voxels, and ``part(piece, known, **parameters)`` the result on any piece of the array, exactly as
        the function gives it there.
    settle : (callable, callable), optional
        For operations on planes that choose a parameter by themselves: ``open(**parameters)`` says whether they are
        to, and ``choose(planes, **parameters)`` gives, from a stack of slices, for each the `Remarks` with what is
        chosen for it, so that the slices are treated alike.
    side_by_side : bool
        Whether slices may be worked on by several threads at once, one for each: the results are all of one type.
    names : callable, optional
        For a result of labels: ``names(input, result, parameters)``, with ``plane`` among these, gives their `Label`;
        after the title otherwise.
    """

    function: Callable
    title: str
    menu: str
    halo: Callable[[Mapping[str, Any]], int | tuple[int, ...]] | None = None
    planes: bool = False
    whole: bool = False
    result: str = "image"
    tolerance: float = 0.0
    preview: tuple[Callable, Callable] | None = None
    settle: tuple[Callable, Callable] | None = None
    side_by_side: bool = False
    names: Callable[[Volume, Volume, Mapping[str, Any]], Mapping[int, Label]] | None = None

    @property
    def name(self) -> str:
        """Name of the operation: that of its function."""
        return self.function.__name__

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return inspect.getdoc(self.function).splitlines()[0]

    @property
    def on_volumes(self) -> bool:
        """Whether the function takes and returns volumes, and so may change the grid."""
        return self._inputs[0].role == "volume"

    @property
    def input(self) -> Parameter:
        """The first argument: what the operation works on."""
        return self._inputs[0]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All arguments after the first, without those that `apply` fills in."""
        return tuple(p for p in self._inputs[1:] if p.role not in ("spacing", "labelled", "device"))

    @property
    def takes_device(self) -> bool:
        """Whether it can be computed on a graphics card."""
        return any(p.role == "device" for p in self._inputs)

    def told(self, volume: Volume) -> dict[str, bool]:
        """Return the arguments that say whether the voxels are labels."""
        return {p.name: volume.kind == "labels" for p in self._inputs if p.role == "labelled"}

    @property
    def roles(self) -> dict[str, str]:
        """Role of each argument after the first."""
        return {p.name: p.role for p in self._inputs[1:]}

    @property
    def wants_spacing(self) -> bool:
        """Whether `apply` hands the voxel spacing to the function."""
        return any(p.role == "spacing" for p in self._inputs)

    @cached_property
    def _inputs(self) -> tuple[Parameter, ...]:
        hints = get_type_hints(self.function, include_extras=True)
        texts = _parameter_texts(inspect.getdoc(self.function) or "")
        found = []
        for name, argument in inspect.signature(self.function).parameters.items():
            bare, extras, role = _unwrap(hints.get(name, Any))
            required = argument.default is inspect.Parameter.empty
            if name == "spacing" and required and role == "value":
                role = "spacing"
            found.append(Parameter(name, bare, argument.default, extras, role, texts.get(name, "")))
        return tuple(found)

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return `given` with all defaults filled in.

        Raises
        ------
        InputError
            If a name is unknown or an argument without default is missing.
        """
        known = {p.name: p for p in self.parameters}
        for name in given:
            if name not in known:
                names = ", ".join(known) or "none"
                raise InputError(f"{self.name} has no parameter {name!r}: it takes {names}")
        missing = [p.name for p in known.values() if p.required and given.get(p.name) is None]
        if missing:
            told = "; ".join(f"{name}: {known[name].brief or 'give a value'}" for name in missing)
            raise InputError(f"{self.name} needs {told}")
        return {name: given.get(name, p.default) for name, p in known.items()}


def _unwrap(annotation: Any) -> tuple[Any, dict, str]:
    """Split an annotation into its bare type, its hints and its role."""
    hints: dict = {}
    role = "value"
    if get_origin(annotation) in (Union, types.UnionType):
        # An optional layer or bounded number carries its hints inside the union.
        parts = [_unwrap(a) for a in get_args(annotation)]
        for _, inner, inner_role in parts:
            hints.update(inner)
            role = inner_role if inner_role != "value" else role
        bare = Union[tuple(p[0] for p in parts)]  # noqa: UP007 - made at run time
        return bare, hints, role
    if get_origin(annotation) is Annotated:
        annotation, *extras = get_args(annotation)
        for extra in extras:
            if isinstance(extra, Role):
                role = extra.kind
            elif isinstance(extra, Mapping):
                hints.update(extra)
        bare, inner, inner_role = _unwrap(annotation)
        return bare, {**inner, **hints}, role if role != "value" else inner_role
    if annotation is Volume:
        role = "volume"
    return annotation, hints, role


def _parameter_texts(docstring: str) -> dict[str, str]:
    """Read the paragraphs of a numpydoc Parameters section."""
    match = re.search(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-{3,}|\Z)", docstring, re.S | re.M)
    texts: dict[str, str] = {}
    names: list[str] = []
    for line in match.group(1).splitlines() if match else ():
        if line and not line[0].isspace():
            names = [n.strip() for n in line.split(":")[0].split(",")]
            texts.update(dict.fromkeys(names, ""))
        else:
            for name in names:
                texts[name] = f"{texts[name]} {line.strip()}".strip()
    return texts


def choices(parameter: Parameter) -> tuple | None:
    """Return the values of a `Literal` parameter, or None."""
    for part in (parameter.annotation, *get_args(parameter.annotation)):
        if get_origin(part) is Literal:
            return get_args(part)
    return None


def half(size: int | tuple[int, ...]) -> int:
    """Return the reach of a window of `size` voxels."""
    return max(size) // 2 if isinstance(size, tuple | list) else size // 2


_ROWS = (
    Operation(filters.median, "Median", "filter", halo=lambda p: half(p["size"])),
    Operation(filters.adaptive_median, "Adaptive median", "filter", halo=lambda p: half(p["max_size"])),
    Operation(filters.minimum, "Minimum", "filter", halo=lambda p: half(p["size"]), side_by_side=True),
    Operation(filters.maximum, "Maximum", "filter", halo=lambda p: half(p["size"]), side_by_side=True),
    Operation(filters.percentile, "Percentile", "filter", halo=lambda p: half(p["size"])),
    Operation(filters.mean, "Mean", "filter", halo=lambda p: half(p["size"]), tolerance=1e-6, side_by_side=True),
    Operation(
        filters.gaussian,
        "Gaussian blur",
        "filter",
        halo=lambda p: filters.gaussian_reach(**p),
        tolerance=1e-6,
        side_by_side=True,
    ),
    Operation(filters.bias_correction, "Bias correction", "filter", tolerance=1e-5, side_by_side=True),
    Operation(
        morphology.erosion, "Erosion", "filter", halo=lambda p: morphology.reach(**p), result="same", side_by_side=True
    ),
    Operation(
        morphology.dilation,
        "Dilation",
        "filter",
        halo=lambda p: morphology.reach(**p),
        result="same",
        side_by_side=True,
    ),
    Operation(
        morphology.opening,
        "Opening",
        "filter",
        halo=lambda p: morphology.reach(**p, times=2),
        result="same",
        side_by_side=True,
    ),
    Operation(
        morphology.closing,
        "Closing",
        "filter",
        halo=lambda p: morphology.reach(**p, times=2),
        result="same",
        side_by_side=True,
    ),
    Operation(
        frequency.spectrum,
        "Spectrum",
        "visualize",
        planes=True,
        whole=True,
        result="spectrum",
        tolerance=1e-5,
        side_by_side=True,
    ),
    Operation(
        frequency.notch,
        "Notch filter",
        "filter",
        planes=True,
        whole=True,
        tolerance=1e-5,
        settle=(frequency.are_centers_left_open, frequency.choose_centers),
        side_by_side=True,
    ),
    Operation(
        frequency.band_reject,
        "Band-reject filter",
        "filter",
        planes=True,
        whole=True,
        tolerance=1e-5,
        side_by_side=True,
    ),
    Operation(perturb.gaussian_noise, "Perturb: Gaussian noise", "filter", side_by_side=True),
    Operation(perturb.rician_noise, "Perturb: Rician noise", "filter", side_by_side=True),
    Operation(perturb.poisson_noise, "Perturb: Poisson noise", "filter", side_by_side=True),
    Operation(perturb.salt_and_pepper, "Perturb: salt and pepper", "filter", side_by_side=True),
    Operation(perturb.periodic_noise, "Perturb: periodic noise", "filter", tolerance=1e-6, side_by_side=True),
    Operation(perturb.bias_field, "Perturb: bias field", "filter", tolerance=1e-6, side_by_side=True),
    Operation(perturb.intensity, "Perturb: shift, scale, gamma", "filter", tolerance=1e-6, side_by_side=True),
    Operation(perturb.thick_slices, "Perturb: thick slices", "filter", tolerance=1e-6),
    Operation(perturb.missing_slices, "Perturb: missing slices", "filter", tolerance=1e-6),
    Operation(perturb.motion_ghost, "Perturb: motion ghost", "filter", tolerance=1e-5),
    Operation(spatial.affine, "Affine transform", "transform", tolerance=1e-5),
    Operation(spatial.resample, "Resample", "transform", tolerance=1e-5),
    Operation(spatial.reorient, "Reorient", "transform"),
    Operation(spatial.crop, "Crop", "transform"),
    Operation(spatial.pad, "Pad", "transform"),
    Operation(spatial.flip, "Flip", "transform"),
    Operation(warps.projective, "Projective warp", "transform", tolerance=1e-5),
    Operation(warps.polynomial, "Polynomial warp", "transform", tolerance=1e-5),
    Operation(warps.lens_distortion, "Lens distortion", "transform", tolerance=1e-5),
    Operation(
        segmentation.otsu,
        "Otsu thresholds",
        "segment",
        result="labels",
        preview=(
            segmentation.otsu_thresholds,
            lambda piece, thresholds, classes: segmentation.parted(piece, thresholds),
        ),
    ),
    Operation(thresholding.threshold, "Threshold", "segment", halo=lambda p: 0, result="labels"),
    Operation(segmentation.region_grow, "Region growing", "segment", result="labels"),
    Operation(
        components.components,
        "Connected components",
        "segment",
        result="labels",
        names=components.component_names,
    ),
    Operation(components.fill_holes, "Fill holes", "segment", result="same", side_by_side=True),
    Operation(distance.distance_transform, "Distance transform", "segment", result="distances", tolerance=1e-6),
)

OPERATIONS: Mapping[str, Operation] = types.MappingProxyType({row.name: row for row in _ROWS})


def operation(name: str) -> Operation:
    """Return the row of that name, or say which names there are."""
    try:
        return OPERATIONS[name]
    except KeyError:
        raise InputError(f"operation {name!r} is unknown: use one of {', '.join(OPERATIONS)}") from None
