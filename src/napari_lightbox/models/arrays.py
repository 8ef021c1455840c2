"""Arrays of numpy files (.npz, .npy), loaded without running anything that is in them, and what their axes are."""

import itertools
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import FileError, InputError
from ..io._bytes import require_memory

# Names under which outputs are found, the surest first; nnU-Net 2 writes "probabilities", nnU-Net 1 "softmax".
_KEYS = ("probabilities", "softmax", "logits", "segmentation", "seg", "labels")
SUFFIXES = (".npz", ".npy")


def load_array(path: Path, key: str | None = None) -> tuple[np.ndarray, str]:
    """Load an array.

    Parameters
    ----------
    path : Path
        .npz or .npy.
    key : str, optional
        Name of the array in an .npz; found by itself where there is one array only, or one of the usual names.

    Returns
    -------
    array : array of numbers
    key : str
        The name it has in the file; empty for .npy.

    Raises
    ------
    FileError
        If the file is damaged, or holds Python objects, which could run code when they are loaded.
    InputError
        If there are several arrays, or none of that name.
    """
    if not path.exists():
        raise FileError(f"{path} does not exist: check the name")
    try:
        if path.suffix.lower() == ".npy":
            _require_plain(path, *_header(path))
            return np.load(path, allow_pickle=False), ""
        with zipfile.ZipFile(path) as archive:
            names = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
            chosen = _choose(path, names, key)
            with archive.open(f"{chosen}.npy") as member:
                _require_plain(path, *_header(member))
            with archive.open(f"{chosen}.npy") as member:
                return np.lib.format.read_array(member, allow_pickle=False), chosen
    except (FileError, InputError, MemoryError):
        raise
    except PermissionError as error:
        raise FileError(f"{path} may not be read: change its permissions") from error
    except Exception as error:  # zipfile, zlib and numpy's parser raise whatever a damaged file leads to
        raise FileError(f"{path} is damaged, or no numpy file: copy it again from its source") from error


def _choose(path: Path, names: Sequence[str], key: str | None) -> str:
    if key is not None:
        if key not in names:
            raise InputError(f"key {key!r} is not in {path}: use one of {', '.join(names) or 'none, it is empty'}")
        return key
    if len(names) == 1:
        return names[0]
    found = next((name for name in _KEYS if name in names), None)
    if found is None:
        raise InputError(f"{path} holds the arrays {', '.join(names) or 'none'}: name one of them by key=...")
    return found


def _header(file) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and type of an array, from its header alone."""
    if isinstance(file, Path):
        with open(file, "rb") as stream:
            return _header(stream)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _require_plain(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.hasobject:
        raise FileError(
            f"{path} holds Python objects, which could run code when they are loaded: save plain arrays by numpy.savez"
        )
    if dtype.kind not in "buif":
        raise FileError(f"{path} holds {dtype}, which are no real numbers: save probabilities, logits or labels")
    require_memory(path, 2 * math.prod(shape) * dtype.itemsize)


def in_order(array: np.ndarray, axes: str | None, wanted: Sequence[int], framed: bool, what: str) -> np.ndarray:
    r"""Bring the axes of an array into the order (class,) (frame,) z, y, x of an image.

    Parameters
    ----------
    array : array
        Of an output.
    axes : str, optional
        What its axes are, a letter each: ``c`` class, ``t`` frame, ``z``, ``y``, ``x`` as the image is stored. By
        default as nnU-Net writes them, ``"czyx"``, or ``"zyx"`` without classes.
    wanted : sequence of int
        Shape of the image.
    framed : bool
        Whether the image has frames first.
    what : str
        The file, as the subject of a sentence.

    Returns
    -------
    array
        A view, (class, \*wanted) or, where it has no classes, `wanted`.

    Raises
    ------
    InputError
        If the shape does not fit the image; the sentence names an order that would.
    """
    letters = "tzyx" if framed else "zyx"
    wanted = tuple(wanted)
    array = _with_single_slice(array, axes, wanted, letters)
    given = axes or ("c" + letters if array.ndim == len(wanted) + 1 else letters)
    if sorted(given) not in (sorted(letters), sorted("c" + letters)) or len(given) != array.ndim:
        raise InputError(
            f"axes {given!r} do not fit {what}, of shape {array.shape}: name each of its axes once, such as "
            f"{'c' + letters!r}"
        )
    order = [given.index(a) for a in ("c" + letters if "c" in given else letters)]
    turned = array.transpose(order)
    if turned.shape[-len(wanted) :] == wanted:
        return turned
    fitting = _fitting(array.shape, wanted, letters)
    remedy = f"its axes seem to be {' or '.join(map(repr, fitting))}, so say so by axes=..." if fitting else (
        "it was made of another image, or cropped or resampled; export it on the grid of this image"
    )  # fmt: skip
    raise InputError(
        f"{what} has the shape {array.shape} ({', '.join(given)}) where the image is {wanted} ({', '.join(letters)}): "
        f"{remedy}"
    )


def _with_single_slice(array: np.ndarray, axes: str | None, wanted: tuple[int, ...], letters: str) -> np.ndarray:
    """Give a plane its third axis, where the image is one slice."""
    single = [n for n, size in enumerate(wanted) if size == 1 and letters[n] != "t"]
    if axes is not None or not single or array.ndim >= len(wanted) + 1 or 1 in array.shape:
        return array
    if array.ndim == len(wanted) and tuple(n for n in wanted if n != 1) != array.shape[1:]:
        return array
    return np.expand_dims(array, single[0] + (array.ndim == len(wanted)))


def _fitting(shape: tuple[int, ...], wanted: tuple[int, ...], letters: str) -> list[str]:
    """Return the orders of axes with which an array would fit an image."""
    letters = "c" + letters if len(shape) == len(wanted) + 1 else letters
    if len(shape) != len(letters):
        return []
    sizes = dict(zip(letters[-len(wanted) :], wanted, strict=True))
    found = ["".join(p) for p in itertools.permutations(letters)
             if all(a == "c" or sizes[a] == n for a, n in zip(p, shape, strict=True))]  # fmt: skip
    return found[:3]
