"""How the commands read files: the options, what is told of a file, and whether its numbers can be labels."""

import argparse
from pathlib import Path
from typing import Any

from ..errors import FileError, InputError
from .words import err, typed

_MOST_LABEL = 65535  # no number of a label is larger
_MOST_LABELS = 1000  # nor has a file more of them
_FEW_VALUES = 120  # grey values of a scan are more
_VOXELS_A_LABEL = 32


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how files are read."""
    group = parser.add_argument_group("reading")
    group.add_argument("--read-as", choices=("image", "labels", "probability"), help="what the values of the input are")
    group.add_argument(
        "--series", metavar="WHICH", help="which series of a DICOM folder: its number, UID or part of its description"
    )
    group.add_argument(
        "--even",
        action="store_true",
        help="resample (linear) a DICOM series that is tilted, uneven or has gaps to an even stack",
    )
    group.add_argument(
        "--pixel-size",
        metavar="X,Y[,Z]",
        help="size of the voxels in mm, for files that do not know it (PNG, JPEG, TIFF)",
    )


def number_list(text: str, option: str) -> list[float]:
    """Read lengths in mm apart by commas."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not 1 <= len(values) <= 3 or not all(0 < v < float("inf") for v in values):
        raise InputError(f"{option} {text!r} must be one to three lengths in mm greater than zero, such as 0.5,0.5,2")
    return values


def read_input(args: argparse.Namespace, path: str, kind: str | None = None):
    """Read a file or DICOM folder as the options say, and print what reading has to say of it.

    Labels that are asked for by `kind` are refused where the values cannot be labels and ``--read-as`` does not insist.
    """
    from ..io import read

    asked = kind or args.read_as
    if kind == "labels" and args.read_as != "labels":
        asked = None
    options = {"series": args.series} if args.series else {}
    volume = read(path, _pixel_size(args), kind=asked, even=args.even, **options)
    if kind == "labels" and volume.kind != "labels":
        why = why_no_labels(volume)
        if why is not None:
            raise InputError(f"{path} holds grey values ({why}), where labels are needed: give a file of labels")
        volume = _as_labels(volume)
    return _told(args, path, volume)


def read_labels(args: argparse.Namespace, path: str, who: str):
    """Read what an operation on labels works on; grey values are refused where the options do not call them labels.

    Of a DICOM folder with images and segmentations, the segmentation is taken.
    """
    if args.read_as not in (None, "labels"):
        return read_input(args, path)
    masks = _masks_of(args, path) if Path(path).is_dir() else None
    if masks is not None:
        return _told(args, path, masks)
    volume = read_input(args, path)
    if volume.kind == "labels":
        return volume
    why = why_no_labels(volume, stated=True)
    if why is not None:
        raise InputError(
            f"{who} works on labels, and {volume.name!r} holds grey values ({why}): segment it first (otsu), or open "
            "the file with --read-as labels if its numbers are labels"
        )
    return _as_labels(volume)


def read_each(args: argparse.Namespace, path: str) -> list:
    """Read a file or folder; of a DICOM segmentation whose structures overlap, all the volumes that they need."""
    from ..io import read_all
    from ..io.masks import kind_of

    if Path(path).is_file() and kind_of(Path(path)):
        return [_told(args, path, v) for v in read_all(path, _pixel_size(args), kind=args.read_as, even=args.even)]
    return [read_input(args, path)]


def _pixel_size(args: argparse.Namespace) -> Any:
    if args.pixel_size is None:
        return None
    spacing = [*reversed(number_list(args.pixel_size, "--pixel-size"))]
    return spacing[0] if len(spacing) == 1 else spacing


def _masks_of(args: argparse.Namespace, path: str):
    """Return the only segmentation in a folder, or the one that ``--series`` names; None where there is none."""
    from ..io.masks import only
    from ..io.series import list_series

    found = [s for s in list_series(path) if s.kind == "labels"]
    if args.series:
        wanted = args.series.strip()
        found = [s for s in found if wanted in (s.number, s.uid) or wanted.lower() in s.description.lower()]
    if not found:
        return None
    if len(found) > 1:
        names = ", ".join(str(s.files[0]) for s in found[:8]) + (", ..." if len(found) > 8 else "")
        raise FileError(f"{path} holds {len(found)} segmentations ({names}): give the file of one of them")
    return only(found[0].load(), found[0].files[0])


def _told(args: argparse.Namespace, path: str, volume: Any) -> Any:
    """Print the notes of a volume, each once for a file, and which options say nothing to it."""
    told = vars(args).setdefault("told", set())
    several = len(getattr(args, "inputs", ())) > 1
    notes = [typed(str(n)) for n in volume.meta.get("notes") or ()]
    if not Path(path).is_dir() and any(path.lower().endswith(s) for s in _without_series()):
        unused = [option for option, given in (("--series", args.series), ("--even", args.even)) if given]
        notes += [f"{' and '.join(unused)} choose what is read of DICOM, and change nothing here"] * bool(unused)
    for note in notes:
        if (path, note) not in told:
            told.add((path, note))
            err(f"note: {f'{path}: ' if several else ''}{note}")
    return volume


def _without_series() -> list[str]:
    """Return the suffixes of files that are no DICOM."""
    from ..io import suffixes

    return [s for s in suffixes() if s != ".dcm"]


# What the values can be -------------------------------------------------------------------------------------------


def why_no_labels(volume: Any, stated: bool = False) -> str | None:
    """Say why the values of a volume can be no labels; None where they can.

    Parameters
    ----------
    volume : Volume
        As it was read.
    stated : bool
        Whether a modality or unit alone says that the values are grey.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_lightbox.volume import Volume
    >>> why_no_labels(Volume.from_array(np.array([[-1000, 40]], np.int16)))
    'from -1000 on'
    >>> why_no_labels(Volume.from_array(np.array([[0, 3]], np.uint8))) is None
    True
    """
    import numpy as np

    meta = volume.meta
    says = [str(meta[name]) for name in ("modality", "unit") if meta.get(name)]
    if stated and says:
        return ", ".join(says)
    data = np.asarray(volume.data)
    if not data.size or data.dtype.kind == "b":
        return None
    low, high = data.min(), data.max()
    if low < 0:
        return f"from {low:g} on"
    if high > _MOST_LABEL:
        return f"up to {high:g}"
    # Written the other way round, NaN would pass.
    if data.dtype.kind == "f" and not all(np.array_equal(np.rint(part), part) for part in data):
        return "not whole numbers"
    count = _distinct(data)
    return f"{count} different ones" if count > _MOST_LABELS else None


def _distinct(data: Any) -> int:
    """Return how many values an array of whole numbers from 0 to `_MOST_LABEL` has."""
    import numpy as np

    seen = np.zeros(_MOST_LABEL + 1, bool)
    for part in data:
        seen[part.astype(np.uint16).ravel()] = True
    return int(seen.sum())


def _as_labels(volume: Any) -> Any:
    import numpy as np

    data = np.asarray(volume.data)
    return volume.replace(data=data.astype(np.int32) if data.dtype.kind == "f" else data, kind="labels")


def tell_if_labels(args: argparse.Namespace, volume: Any) -> None:
    """Note where the numbers of what is taken as an image may as well be labels."""
    import numpy as np

    meta, dtype = volume.meta, np.dtype(volume.data.dtype)
    told = args.read_as is not None or meta.get("modality") or meta.get("unit") or volume.history
    if told or volume.kind != "image" or dtype.kind not in "iuf":
        return
    data = np.asarray(volume.data)
    # NaN is neither.
    if not data.size or not (data.min() >= 0 and data.max() <= _MOST_LABEL):
        return
    if dtype.kind == "f" and not all(np.array_equal(np.rint(part), part) for part in data):
        return
    # Few voxels hold few values, whatever they are.
    if _distinct(data) <= min(_FEW_VALUES, data.size // _VOXELS_A_LABEL):
        err(f"note: {volume.name!r} is taken as an image; if its numbers are labels, add --read-as labels")


# Sizes ------------------------------------------------------------------------------------------------------------


def size_text(volume: Any) -> str:
    """Say how large a volume is and what its voxels measure, if that is known.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_lightbox.volume import Volume
    >>> size_text(Volume.from_array(np.zeros((16, 1, 4, 6))))
    '6 x 4 x 1 voxels, 16 frames (frame), spacing unknown'
    """
    from ..report.words import xyz

    grid = volume.grid
    voxels = f"{xyz(grid.spatial_shape)} voxels"
    frames = f", {volume.frame_count} frames ({grid.frames.kind})" if grid.frames is not None else ""
    if not volume.meta.get("spacing_known", True):
        flat = volume.meta.get("pixel_size_known")
        return f"{voxels}{frames}, " + (
            f"pixels of {xyz(grid.spacing[1:], 4)} mm, distance of slices unknown" if flat else "spacing unknown"
        )
    return f"{voxels} of {xyz(grid.spacing, 4)} mm{frames}"


def tell_if_sizeless(volume: Any) -> None:
    """Note, where lengths in mm are used, that those of the voxels are not known."""
    from ..report.words import xyz

    if volume.meta.get("spacing_known", True):
        return
    steps, name = volume.grid.spacing, repr(volume.name)
    if volume.meta.get("pixel_size_known"):
        err(
            f"note: the distance of the slices of {name} is unknown and counted as {steps[0]:.4g} mm: add "
            "--pixel-size MM if you know it"
        )
    else:
        err(
            f"note: the pixel size of {name} is unknown and counted as {xyz(steps, 4)} mm (x, y, z): add "
            "--pixel-size X,Y[,Z] if you know it"
        )
