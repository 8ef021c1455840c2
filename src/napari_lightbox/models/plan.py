"""What a prediction will do, worked out before it is done and without torch.

`review` checks images against a card, and `make_plan` says how they are turned, resampled and cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import InputError
from ..geometry import Grid
from ..ops._hounsfield import looks_like_ct
from ..volume import Volume
from . import doubt, windows
from .card import ACTIVATIONS, BLENDINGS, KINDS, Card, Channel
from .channels import as_channels as as_channels
from .heads import TABLES

_SAME_MODALITY = {"MRI": "MR", "MRT": "MR", "PET": "PT", "ULTRASOUND": "US", "OT": "", "UNKNOWN": ""}
_NAMED_MODALITY = {"US": "ultrasound", "PT": "PET", "NM": "nuclear medicine", "MG": "mammography", "CR": "X-ray"}
_NAMED_MODALITY |= {"DX": "X-ray", "RF": "fluoroscopy", "XA": "angiography", "OCT": "optical coherence tomography"}
# Spacings that differ by less than this share are the same: files round them.
_SAME_SPACING = 1e-3
# Share of the values of an image that may be below 0 although it is no CT.
_STRAY = 1e-3
# Bytes of results that are worked on at once, all classes together.
STRIP_BYTES = 4 << 20
# Voxels along an axis that no image reaches.
_LONGEST = 1 << 20


@dataclass(frozen=True)
class Options:
    """The choices of one prediction, checked, with the card's where the caller made none.

    Parameters
    ----------
    kind, activation : str
        As in `card.OutputSpec`.
    overlap, blending : float, str
        As in `card.WindowSpec`.
    mirror : tuple of int
        Spatial axes of the window that are flipped in all combinations.
    probabilities : str or tuple
        ``"all"``, or label values and names.
    uncertainty : str or None
        Which measure of `doubt` is kept.
    """

    kind: str
    activation: str
    overlap: float
    blending: str
    mirror: tuple[int, ...] = ()
    probabilities: Any = ()
    uncertainty: str | None = None


@dataclass(frozen=True)
class Plan:
    """How images are turned, resampled, padded and cut.

    Parameters
    ----------
    grid : Grid
        Of the images, as stored, with frames.
    order, flips : tuple
        Arguments of `Grid.reordered` that turn the stored axes to those the network wants.
    shape, working, padded : tuple of int
        Sizes (z, y, x) of a turned frame: as it comes, on the network's grid, and padded.
    steps : tuple of float
        Distance of the working grid's voxels in voxels of the image.
    pad : list of (int, int)
        Voxels added before and after each axis.
    window : tuple of int
        (z, y, x); a 2D model's has one slice.
    batch : int
        Windows that go through the network at once.
    dims : int
        2 or 3.
    options : Options
        What was chosen.
    notes : tuple of str
        What the user should know.
    crop : tuple of slice or None
        Part of a turned frame that the network sees; `shape` is its size. None: all of it.
    nearest : int or None
        Axis along which answers are taken from the nearest voxel on their way back, in place of interpolated.
    rounded : bool
        Whether the middle of a Gaussian window is a voxel, as nnU-Net has it.
    firsts : tuple of float or None
        Where on the working grid the image's first voxel lies, in its voxels; None where both cover the same box.
    even : bool
        Whether windows are spread evenly, as for `windows.positions`.
    floor : float
        What the weights of a Gaussian window, those of its axes together, do not fall below.
    halved : bool
        Whether logits are rounded to half precision whenever a window is added and when they are resampled, as in
        nnU-Net: labels are then those it gives, where it rounds two classes to the same value, too.
    network_bytes : int
        What the network needs for a batch of windows, as far as `footprint` learnt it; 0 where it did not.
    """

    grid: Grid
    order: tuple[int, ...]
    flips: tuple[bool, ...]
    shape: tuple[int, ...]
    working: tuple[int, ...]
    padded: tuple[int, ...]
    steps: tuple[float, ...]
    pad: list[tuple[int, int]]
    window: tuple[int, ...]
    batch: int
    dims: int
    options: Options
    notes: tuple[str, ...] = ()
    crop: tuple[slice, ...] | None = None
    nearest: int | None = None
    rounded: bool = False
    firsts: tuple[float, ...] | None = None
    even: bool = True
    floor: float = 0.0
    halved: bool = False
    network_bytes: int = 0

    def numbers(self, channels: int) -> float:
        """Return as how many numbers in single precision the sums of so many channels count, with their weights."""
        weighed = self.options.overlap > 0 and (self.halved or (self.floor > 0 and self.options.blending == "gaussian"))
        return (channels + weighed) / (2 if self.halved else 1)

    @property
    def joint(self) -> np.ndarray | None:
        """Weights of a window where they are no product of those along its axes, (z, y, x) float32."""
        blending = self.options.blending
        if not self.halved and (not self.floor or blending != "gaussian"):
            return None
        z, y, x = (windows.profile(n, blending, rounded=self.rounded) for n in self.window)
        if self.halved:
            # nnU-Net 2.8, `compute_gaussian`: ten in the middle, so that fewer are too small for half precision.
            return windows.halved((10 if blending == "gaussian" else 1) * z[:, None, None] * y[:, None] * x)
        z, y, x = (vector.astype(np.float32) for vector in (z, y, x))
        return np.maximum(z[:, None, None] * y[:, None] * x, np.float32(self.floor))

    @property
    def overlaps(self) -> tuple[float, ...]:
        """Overlap along each axis; slices of a 2D model do not overlap."""
        share = self.options.overlap
        return (0.0, share, share) if self.dims == 2 else (share, share, share)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.grid.shape[0] if self.grid.frames is not None else 1

    @property
    def windows_per_frame(self) -> int:
        """Number of windows of one frame."""
        return windows.count(self.padded, self.window, self.overlaps, even=self.even)

    def turned(self, array: np.ndarray) -> np.ndarray:
        """Return a view of a frame (z, y, x as stored) in the network's order of axes."""
        view = array.transpose(self.order)
        return view[tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flips)]


@dataclass(frozen=True)
class Quote:
    """What a prediction will cost, before it runs.

    Parameters
    ----------
    windows : int
        How many windows the network is asked about, over all frames.
    memory_bytes : int
        Peak memory beyond the images, bytes: prepared image, sums of the classes, results, and what the network
        itself needs; where that is not known, a note says so.
    notes : tuple of str
        What else is worth knowing: resampling, padding, what could not be checked.
    disk_bytes : int
        Space on disk for probabilities that do not fit into the memory allowed.
    problem : str
        Why it does not fit into memory, so that `predict` refuses it, and what would; empty where it fits. The first
        of the notes, too.
    unlearnt : tuple of int
        Shape of the batches for which it is not known what the network needs, (n, channels, then its axes); else
        empty.
    """

    windows: int
    memory_bytes: int
    notes: tuple[str, ...] = field(default=())
    disk_bytes: int = 0
    problem: str = ""
    unlearnt: tuple[int, ...] = ()

    def __str__(self) -> str:
        disk = f" and {human_bytes(self.disk_bytes)} on disk" if self.disk_bytes else ""
        return (
            f"{self.windows} window{'s' * (self.windows != 1)}, about {human_bytes(self.memory_bytes)} of memory{disk}"
        )


def human_bytes(count: float) -> str:
    """Write a number of bytes as people read it."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


# Checks ---------------------------------------------------------------------------------------------------------


def review(volumes: Sequence[Volume], card: Card) -> tuple[list[str], list[str]]:
    """Compare images with what a card asks for.

    Returns
    -------
    problems : list of str
        Why the model should not be run over them, worst first; one sentence each.
    notes : list of str
        What could not be checked.
    """
    wanted = card.input.channels
    if len(volumes) != len(wanted):
        names = ", ".join(c.name for c in wanted)
        return [
            f"model {card.name!r} takes {len(wanted)} images ({names}), not {len(volumes)}: choose one for each"
        ], []
    problems, notes = [], []
    for volume, channel in zip(volumes, wanted, strict=True):
        found = _modality(volume.meta.get("modality"))
        asked = _modality(channel.modality)
        why = _never_hounsfield(volume, channel) if asked == "CT" and not found else None
        if asked == "CT" and found in ("", "CT") and not why and _values_like_ct(volume) is False:
            notes.append(
                f"the values of {volume.name!r} do not look like Hounsfield units, which model {card.name!r} is made "
                "for: expect nothing of the result"
            )
        if channel.modality and volume.kind == "probability" and card.loader != "callable":
            problems.append(f"{volume.name!r} is a probability, not an image: choose the image")
        elif asked and asked != "CT" and not found and _values_like_ct(volume):
            problems.append(
                f"the values of {volume.name!r} are Hounsfield units (CT), but model {card.name!r} is made for "
                f"{_spoken(asked)}: choose another image or another model"
            )
        elif why:
            problems.append(f"{why}, and model {card.name!r} is made for CT: choose another image or another model")
        elif asked and not found:
            notes.append(f"the modality of {volume.name!r} is unknown: the model is made for {_spoken(asked)}")
        elif asked and found != asked:
            problems.append(
                f"{volume.name!r} is {_spoken(found)}, but model {card.name!r} is made for {_spoken(asked)}: choose "
                "another image or another model"
            )
    first = volumes[0]
    if card.input.dims == 3 and first.is_2d and card.loader != "callable":
        problems.append(f"{first.name!r} is a single slice, but model {card.name!r} works on 3D volumes")
    if card.input.spacing and first.meta.get("spacing_known") is False:
        mm = " x ".join(f"{s:g}" for s in reversed(card.input.spacing))
        problems.append(
            f"the spacing of {first.name!r} is unknown, but model {card.name!r} needs {mm} mm (x, y, z): open the "
            "image with its spacing given"
        )
    if card.input.orientation and first.meta.get("orientation_known") is False:
        notes.append(f"the orientation of {first.name!r} is unknown: its axes are taken as {first.grid.code}")
    return problems, notes


def _values_like_ct(volume: Volume) -> bool | None:
    """Whether grey values are Hounsfield units, by a sample of them; None where they are not in memory."""
    sample = _sample(volume)
    return None if sample is None else looks_like_ct(sample)


def _never_hounsfield(volume: Volume, channel: Channel) -> str | None:
    """Say why values cannot be the Hounsfield units that a channel wants; None where they may be.

    A window that reaches below 0 is there for air or fat, which every CT of a patient has. Where nothing is below 0 it
    is another modality, or CT that was cut off, shifted or scaled, and a network sees something else in any of them.
    A thousandth is let be: resampling leaves a few values below 0 in other images.
    """
    low, sample = channel.intensity.low, _sample(volume)
    if channel.intensity.rule not in ("window", "zscore") or low is None or low >= 0 or sample is None:
        return None
    if not sample.size or np.quantile(sample, _STRAY) < 0:
        return None
    return (
        f"the values of {volume.name!r} ({sample.min():.4g} to {sample.max():.4g}) are not Hounsfield units (CT), "
        "which are below 0 in air and fat"
    )


def _sample(volume: Volume) -> np.ndarray | None:
    """Return some of the grey values, all numbers; None where they are not in memory."""
    data = volume.data
    if not isinstance(data, np.ndarray):
        return None
    step = max(1, round((data.size / 200_000) ** (1 / 3)))
    sample = data[..., ::step, ::step, ::step].astype(np.float64)
    return sample[np.isfinite(sample)]


def _modality(name: Any) -> str:
    text = str(name or "").strip().upper()
    return _SAME_MODALITY.get(text, text)


def _spoken(modality: str) -> str:
    """Return a DICOM modality as people say it, with its code: US alone might be a country."""
    name = _NAMED_MODALITY.get(modality)
    return f"{name} ({modality})" if name else modality


def options_for(card: Card, **given: Any) -> Options:
    """Check the choices of the caller; None means the card's.

    Parameters are those of `predict`: kind, activation, overlap, blending, mirror, probabilities, uncertainty.
    """
    standard = {
        "kind": card.output.kind,
        "activation": card.output.activation,
        "overlap": card.window.overlap,
        "blending": card.window.blending,
    }
    if given.get("kind") == "regions" and standard["activation"] == "softmax":
        # Regions overlap: each is there or not, whatever the others are.
        standard["activation"] = "sigmoid"
    chosen = {k: standard[k] if given.get(k) is None else given[k] for k in standard}
    for name, options in (("kind", KINDS), ("activation", ACTIVATIONS), ("blending", BLENDINGS)):
        if chosen[name] not in options:
            raise InputError(f"{name} {chosen[name]!r} is unknown: use one of {', '.join(options)}")
    if chosen["kind"] in TABLES:
        raise InputError(
            f"kind {chosen['kind']!r} cannot be chosen, only a card can say it: use labels, regions or image"
        )
    if chosen["kind"] == "regions" and chosen["activation"] == "softmax":
        raise InputError(
            "activation 'softmax' lets classes exclude each other, but those of kind 'regions' overlap: use 'sigmoid', "
            "or 'none' where the model returns probabilities"
        )
    windows.check_overlap(chosen["overlap"])
    mirror = given.get("mirror")
    mirror = card.window.mirror if mirror is None else mirror
    axes = tuple(range(card.input.dims))
    if not isinstance(mirror, bool):
        mirror = tuple(mirror) if isinstance(mirror, list | tuple) else (mirror,)
        if any(a not in axes for a in mirror) or len(set(mirror)) != len(mirror):
            raise InputError(f"mirror {mirror!r} must be True, False, or axes of the window among {axes}")
    probabilities = given.get("probabilities", ())
    if isinstance(probabilities, str | int) and probabilities != "all":
        probabilities = (probabilities,)
    return Options(
        **chosen,
        mirror=(axes if mirror else ()) if isinstance(mirror, bool) else mirror,
        probabilities=probabilities if probabilities == "all" else tuple(probabilities or ()),
        uncertainty=doubt.named(given.get("uncertainty", False)),
    )


# The plan -------------------------------------------------------------------------------------------------------


def make_plan(volumes: Sequence[Volume], card: Card, options: Options, window: Sequence[int] | None = None) -> Plan:
    """Work out how `volumes` are brought to what the card asks for.

    Parameters
    ----------
    volumes : sequence of Volume
        The channels, on one grid.
    card : Card
        What the network wants.
    options : Options
        From `options_for`.
    window : sequence of int, optional
        Size of the window in array order, in place of the card's.
    """
    if card.rules is not None:
        return card.rules.make_plan(volumes, card, options, window)
    grid, dims = volumes[0].grid, card.input.dims
    order, flips = turn(volumes[0], card)
    oriented = grid.without_frames().reordered(order, flips)
    shape = oriented.spatial_shape
    working, steps = _working(oriented, card)
    _require_possible(working, card)
    size = window_size(card, window)
    pad = windows.padding(working, size, 1) if size[1] else _pad_all(working, card)
    padded = tuple(n + a + b for n, (a, b) in zip(working, pad, strict=True))
    whole = tuple(n if s is None else s for n, s in zip(padded, size, strict=True))
    notes = []
    if working != shape or any(s != 1 for s in steps):
        notes.append(describe_resampling(shape, working, oriented.spacing, steps))
    if padded != working:
        notes.append(f"padded to {_xyz(padded)} voxels by repeating the outermost ones")
    if grid.shear > 0.1:
        notes.append(f"the voxels are sheared by {grid.shear:.1f} degrees, which stays as it is")
    elif card.input.orientation and grid.obliquity > 1:
        notes.append(f"the volume is turned by {grid.obliquity:.1f} degrees against the patient, which stays as it is")
    batch = windows.batch(whole) if dims == 2 else 1
    return Plan(grid, order, flips, shape, working, padded, steps, pad, whole, batch, dims, options, tuple(notes))


def turn(volume: Volume, card: Card) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Return the arguments of `Grid.reordered` that turn an image to the card's orientation."""
    grid = volume.grid.without_frames()
    if card.input.orientation is not None:
        order, flips = grid.order_for(card.input.orientation)
        if card.input.dims == 2 and volume.is_2d and grid.spatial_shape[order[0]] != 1:
            raise InputError(
                f"the slice {volume.name!r} does not lie in the plane that model {card.name!r} works on: its axes "
                f"are {grid.code}, the model's {card.input.orientation}"
            )
        return order, flips
    order = (0, 1, 2)
    if card.input.dims == 2 and volume.is_2d:
        across = grid.spatial_shape.index(1)
        order = (across, *(a for a in range(3) if a != across))
    return order, (False, False, False)


def _working(oriented: Grid, card: Card) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return size of the working grid, and its steps in voxels of the image."""
    shape, spec = oriented.spatial_shape, card.input
    if spec.resize:
        size = (shape[0], *spec.resize) if spec.dims == 2 else spec.resize
        return tuple(size), tuple(n / m for n, m in zip(shape, size, strict=True))
    if not spec.spacing:
        return shape, (1.0, 1.0, 1.0)
    wanted = (oriented.spacing[0], *spec.spacing) if spec.dims == 2 else spec.spacing
    steps = np.divide(wanted, oriented.spacing)
    steps[np.abs(steps - 1) < _SAME_SPACING] = 1.0
    # As many voxels as `Grid.with_spacing` would make, rounding included.
    sizes = oriented.with_spacing(wanted).spatial_shape
    size = tuple(n if s == 1 else m for n, m, s in zip(shape, sizes, steps, strict=True))
    return size, tuple(float(s) for s in steps)


def window_size(card: Card, window: Sequence[int] | None) -> tuple[int | None, ...]:
    """Return (z, y, x) of the window; None where it takes the whole axis."""
    dims, by = card.input.dims, card.input.divisible_by
    size = card.window.size
    if window is not None:
        size = tuple(window) if isinstance(window, list | tuple) else (window,) * dims
        order = "(z, y, x)" if dims == 3 else "(y, x)"
        if len(size) != dims or any(isinstance(n, bool) or n != int(n) or n < 1 for n in size):
            raise InputError(f"window {window!r} must be {dims} whole numbers of voxels greater than zero {order}")
        if any(n % by for n in size):
            raise InputError(
                f"window {window!r} must be divisible by {by} along every axis {order}: model {card.name!r} asks so"
            )
    if size is None:
        return (None, None, None) if dims == 3 else (1, None, None)
    _require_possible(size, card)
    return tuple(int(n) for n in size) if dims == 3 else (1, *(int(n) for n in size))


def _require_possible(size: Sequence[int], card: Card) -> None:
    """Refuse sizes that no image has, before arrays of that size are made."""
    if max(size) > _LONGEST:
        raise InputError(
            f"model {card.name!r} would be shown {max(size)} voxels along an axis, which is too many: check the "
            "window, and spacing and resize in its card"
        )


def _pad_all(working: tuple[int, ...], card: Card) -> list[tuple[int, int]]:
    """Pad what one window takes as a whole: the slices of a 2D model stay as many as they are."""
    pad = windows.padding(working, (None, None, None), card.input.divisible_by)
    return [(0, 0), *pad[1:]] if card.input.dims == 2 else pad


def describe_resampling(
    shape: Sequence[int], working: Sequence[int], spacing: Sequence[float], steps: Sequence[float]
) -> str:
    """Say for people what a frame is resampled to."""
    mm = " x ".join(f"{s * d:.3g}" for s, d in reversed(list(zip(spacing, steps, strict=True))))
    return f"resampled from {_xyz(shape)} to {_xyz(working)} voxels of {mm} mm (x, y, z), and back"


def _xyz(values: Sequence[int]) -> str:
    return " x ".join(str(v) for v in reversed(values))
