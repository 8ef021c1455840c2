"""A volume: voxels, where they lie, what they mean and how they came to be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from .errors import InputError
from .geometry import Frames, Grid
from .progress import track

KINDS = ("image", "labels", "probability")


@dataclass(frozen=True)
class Label:
    """What one value of a label volume stands for.

    Parameters
    ----------
    name : str
        Name shown to people.
    colour : str, optional
        ``"#rrggbb"``.
    code : mapping or str, optional
        Code of a terminology, passed through as it was found.
    """

    name: str
    colour: str | None = None
    code: Any = None


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels with their geometry. Frozen: every change makes a new volume.

    Parameters
    ----------
    data : array
        ``(z, y, x)`` or ``(frame, z, y, x)``, in the order in which the file stores it. numpy or dask; real numbers.
    grid : Grid
        Where the voxels lie; its shape equals that of `data`.
    kind : {"image", "labels", "probability"}
        Labels hold integers, probabilities floats from 0 to 1.
    name : str
        Name shown to people.
    labels : mapping of int to Label
        Meaning of label values; for a probability volume, of the class it belongs to.
    meta : mapping
        ``unit``, ``modality``, ``windows`` (list of ``{"name", "centre", "width"}``), ``series`` (identity of the
        series), ``source`` (path or UIDs), ``spacing_known`` and ``orientation_known`` (False where a format has none),
        ``notes`` (sentences that people should see). Formats add ``xform_code`` (NIfTI), ``padding_value`` (DICOM) and
        ``frames_fastest`` (NRRD) so that they are written as they were read.
    history : tuple of dict
        The steps that made the volume, oldest first; `Recipe` replays them.

    Examples
    --------
    >>> volume = Volume.from_array(np.zeros((4, 5, 6), np.int16), spacing=(2, 1, 1))
    >>> volume.grid.spacing
    (2.0, 1.0, 1.0)
    """

    data: Any
    grid: Grid
    kind: str = "image"
    name: str = "volume"
    labels: Mapping[int, Label] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if not (hasattr(self.data, "dtype") and hasattr(self.data, "shape")):
            raise InputError(f"data must be an array, not {type(self.data).__name__}")
        if isinstance(self.data, np.ma.MaskedArray):
            raise InputError(
                "data is a masked array, whose mask a volume cannot hold: fill it first with data.filled(...)"
            )
        if self.kind not in KINDS:
            raise InputError(f"kind {self.kind!r} is unknown: use one of {', '.join(KINDS)}")
        self._check_data()
        labels = {int(k): v if isinstance(v, Label) else Label(str(v)) for k, v in dict(self.labels).items()}
        object.__setattr__(self, "labels", MappingProxyType(labels))
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))
        object.__setattr__(self, "history", tuple(self.history))

    def _check_data(self) -> None:
        if tuple(self.data.shape) != self.grid.shape:
            raise InputError(f"data of shape {tuple(self.data.shape)} does not fit a grid of shape {self.grid.shape}")
        dtype = np.dtype(self.data.dtype)
        if dtype.kind == "c":
            raise InputError(f"data of type {dtype} is complex: take its magnitude or phase first")
        if dtype.kind not in "buif":
            raise InputError(f"data of type {dtype} holds no numbers")
        if self.kind == "labels" and dtype.kind == "f":
            raise InputError(f"labels must be whole numbers, not {dtype}: round them, or open the volume as an image")

    @classmethod
    def from_array(
        cls, data: np.ndarray, spacing=None, *, grid: Grid | None = None, frames: Frames | None = None, **fields
    ) -> "Volume":
        """Wrap an array that knows nothing of the patient.

        Parameters
        ----------
        data : array
            (y, x), (z, y, x) or (frame, z, y, x). Two axes become one slice.
        spacing : sequence of float, optional
            (z, y, x) or (y, x) in mm; 1 mm where not given, and marked as unknown.
        grid : Grid, optional
            Geometry, in place of `spacing`.
        frames : Frames, optional
            Kind and values of the frame axis of a 4D array; numbered where not given.
        **fields
            Further fields of `Volume`.
        """
        shape = tuple(np.shape(data))
        if len(shape) not in (2, 3, 4):
            raise InputError(f"data of shape {shape} has {len(shape)} axes: a volume has (z, y, x), with frames first")
        if len(shape) == 2:
            data, shape = data[None], (1, *shape)
        if len(shape) == 4 and frames is None and grid is None:
            frames = Frames("frame", tuple(range(shape[0])))
        if grid is None:
            meta = dict(fields.pop("meta", {}))
            meta.setdefault("spacing_known", spacing is not None)
            meta.setdefault("orientation_known", False)
            fields["meta"] = meta
            grid = Grid.from_spacing(_three_lengths(spacing), shape, frames=frames)
        return cls(data, grid, **fields)

    def replace(self, **changes) -> "Volume":
        """Return a copy with some fields changed; the voxels are shared unless `data` is given."""
        return replace(self, **changes)

    @property
    def frame_count(self) -> int:
        """Number of frames; 1 for a 3D volume."""
        return self.grid.shape[0] if self.grid.frames is not None else 1

    @property
    def is_2d(self) -> bool:
        """Whether each frame is a single slice."""
        return 1 in self.grid.spatial_shape and max(self.grid.spatial_shape) > 1

    def frame(self, index: int) -> "Volume":
        """Return one frame as a 3D volume that shares the voxels, computed if they are lazy."""
        if self.grid.frames is None:
            if index:
                raise InputError(f"frame {index} does not exist: the volume has no frames")
            return self
        if not 0 <= index < self.frame_count:
            raise InputError(f"frame {index} does not exist: the volume has frames 0 to {self.frame_count - 1}")
        return self.replace(data=np.asarray(self.data[index]), grid=self.grid.without_frames())


def _three_lengths(spacing: Any) -> tuple[float, ...]:
    """Return a spacing (z, y, x); 1 mm where it, or the thickness of a picture, is not given."""
    if spacing is None:
        return (1.0, 1.0, 1.0)
    try:
        lengths = tuple(float(s) for s in spacing)
    except (TypeError, ValueError):
        raise InputError(f"spacing must be lengths in mm, (z, y, x) or (y, x), not {spacing!r}") from None
    return (1.0, *lengths) if len(lengths) == 2 else lengths


def map_frames(function: Callable[[Volume], Volume], volume: Volume) -> Volume:
    """Run `function` on every frame, a 3D volume, and put the results together again.

    The only loop over frames of the package. All results must share one shape and grid. What `function` sets on its
    results (kind, name, labels, meta) is taken from the first frame.
    """
    if volume.grid.frames is None:
        return function(volume.replace(data=np.asarray(volume.data)))
    types: set[np.dtype] = set()
    # Each into its place at once: kept until the last, frames would be there twice.
    for index in track(range(volume.frame_count), "frames"):
        result = function(volume.frame(index))
        if index == 0:
            first, data = result, np.empty((volume.frame_count, *result.grid.spatial_shape), result.data.dtype)
        first.grid.require_same_space(result.grid, "results of different frames")
        # Of all types so far: a type that holds the first two may be wider than one that holds all.
        types.add(result.data.dtype)
        data = data.astype(np.result_type(*types), copy=False)
        data[index] = result.data
    return first.replace(data=data, grid=first.grid.with_frames(volume.grid.frames))
