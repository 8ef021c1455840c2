"""Masks that may overlap become as few label volumes as hold them."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError
from ..geometry import Grid
from ..volume import Label, Volume
from ._bytes import require_memory
from ._dicom_headers import Header

View = Callable[[np.ndarray], np.ndarray]


class MaskLayers:
    """Label volumes, filled mask by mask: each goes into the first in which it covers nothing.

    Parameters
    ----------
    path : Path
        The file, for sentences.
    grid : Grid
        Of the volumes; without frames.
    largest : int
        Largest value that will be written.
    """

    def __init__(self, path: Path, grid: Grid, largest: int) -> None:
        self.path, self.grid = path, grid
        self.dtype = np.dtype(np.uint8 if largest < 1 << 8 else np.uint16)
        self.arrays: list[np.ndarray] = []
        self.values: list[list[int]] = []

    def add(self, value: int, pieces: Mapping[int, np.ndarray], view: View) -> None:
        """Put one mask in.

        Parameters
        ----------
        value : int
            What it is called in the volume.
        pieces : mapping of int to 2D bool array
            Slice by slice.
        view : callable
            Turns an array of the grid so that ``view(array)[k]`` is the plane of ``pieces[k]``.
        """
        parts = {k: _boxed(piece) for k, piece in pieces.items()}
        parts = {k: part for k, part in parts.items() if part is not None}
        number = next((n for n, array in enumerate(self.arrays) if self._is_free(view(array), parts)), None)
        if number is None:
            number = self._new()
        planes = view(self.arrays[number])
        for k, (box, mask) in parts.items():
            planes[k][box][mask] = value
        self.values[number].append(value)

    @staticmethod
    def _is_free(planes: np.ndarray, parts: Mapping[int, tuple[tuple[slice, slice], np.ndarray]]) -> bool:
        return not any(planes[k][box][mask].any() for k, (box, mask) in parts.items())

    def _new(self) -> int:
        require_memory(self.path, math.prod(self.grid.shape) * self.dtype.itemsize)
        self.arrays.append(np.zeros(self.grid.shape, self.dtype))
        self.values.append([])
        return len(self.arrays) - 1

    def volumes(self, name: str, labels: Mapping[int, Label], meta: Mapping[str, Any]) -> list[Volume]:
        """Return the volumes, an empty one where there are no masks; several are numbered, since they overlap."""
        if not self.arrays:
            self._new()
        count = len(self.arrays)
        found = []
        for number, (array, values) in enumerate(zip(self.arrays, self.values, strict=True), start=1):
            own = {value: labels[value] for value in sorted(values)}
            title = name if count == 1 else f"{name} ({number} of {count})"
            found.append(Volume(array, self.grid, "labels", title, own, dict(meta)))
        return found


def _boxed(mask: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray] | None:
    """Return the smallest box that holds a mask, and the mask in it; None where it is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    down = slice(int(rows[0]), int(rows[-1]) + 1)
    columns = np.flatnonzero(mask[down].any(axis=0))
    box = (down, slice(int(columns[0]), int(columns[-1]) + 1))
    return box, mask[box]


def only(volumes: list[Volume], path: Path) -> Volume:
    """Return the one volume of a file, or say that there are several."""
    if len(volumes) == 1:
        return volumes[0]
    what = "overlapping structures" if volumes[0].kind == "labels" else "segments with probabilities"
    raise FileError(
        f"{path} holds {what}, which need {len(volumes)} volumes: open all of them by read_masks or read_all"
    )


def code_of(header: Header, item: Any) -> dict[str, str] | None:
    """Return a DICOM code of a header as ``{"scheme", "value", "meaning"}``."""
    values = (header.get(keyword, within=item) for keyword in ("CodeValue", "LongCodeValue", "URNCodeValue"))
    value = next((v for v in values if v), None)
    if value is None:
        return None
    return {
        "scheme": str(header.get("CodingSchemeDesignator", "", item)),
        "value": str(value),
        "meaning": str(header.get("CodeMeaning", "", item)),
    }
