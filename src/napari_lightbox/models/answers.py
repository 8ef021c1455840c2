"""What a model says that is no voxels: answers for whole images, and boxes around what it found. Numpy only."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np

from ..errors import InputError
from ..geometry import Grid
from ..io._atomic import replacing
from ..volume import Volume
from .prediction import Prediction

_NOTHING: Mapping[str, Any] = MappingProxyType({})
SUFFIXES = (".csv", ".json")
# Corners of a box in the order (z, y, x), low before high.
_SIDES = ("z1", "y1", "x1", "z2", "y2", "x2")


@dataclass(frozen=True, eq=False)
class Table(Prediction):
    """A prediction whose result is a table; it has no labels and no other volumes.

    Parameters
    ----------
    rows : tuple of mapping
        One entry each, all with the same columns.
    step : mapping
        How it was made: model, its SHA-256, device, image, grid, parameters.
    image : str
        Name of the image.
    """

    rows: tuple[Mapping[str, Any], ...] = ()
    step: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    image: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, also where there is no row."""
        raise NotImplementedError

    def _none(self, what: str) -> NoReturn:
        raise InputError(f"model {self.card.name!r} gives {self._gives()} and no {what}")

    def _gives(self) -> str:
        raise NotImplementedError

    @property
    def labels(self) -> Volume:
        """There are none."""
        self._none("labels")

    @property
    def uncertainty(self) -> Volume:
        """There is none."""
        self._none("uncertainty of voxels")

    def probability(self, label: int | str) -> Volume:
        """There is none of voxels."""
        self._none("probability of voxels")

    def output(self, channel: int = 0) -> Volume:
        """There is none."""
        self._none("image")

    def as_csv(self) -> str:
        """Return the table as text, columns separated by commas, with their names first."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values: the rows with the model, the image and how they were made."""
        return {
            "model": {"name": self.card.name, "version": self.card.version},
            "kind": self.card.output.kind,
            "image": self.image,
            "rows": [dict(row) for row in self.rows],
            "notes": list(self.notes),
            "step": dict(self.step),
        }

    def write(self, path: str | Path) -> Path:
        """Write the table as ``.csv``, or with how it was made as ``.json``; the file appears whole or not at all.

        Raises
        ------
        InputError
            If the name ends otherwise.
        FileError
            If the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"{path} must end in {' or '.join(SUFFIXES)}: a table is written as one of them")
        text = self.as_csv() if path.suffix.lower() == ".csv" else json.dumps(self.as_dict(), indent=2) + "\n"
        with replacing(path) as file:
            file.write(text.encode())
        return path


@dataclass(frozen=True, eq=False)
class Answers(Table):
    """What a model says of a whole image: the probability of every class, or values with their units.

    ``rows`` hold ``frame`` (from 0), ``slice`` (from 0, in the stored order; only where every slice has its answer),
    ``name``, and ``probability`` or ``value`` and ``unit``.
    """

    @property
    def answers(self) -> tuple[Mapping[str, Any], ...]:
        """The rows."""
        return self.rows

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        output = self.card.output
        place = ("frame", "slice") if self.card.input.dims == 2 and output.slices == "each" else ("frame",)
        return (*place, "name", *(("probability",) if output.kind == "class" else ("value", "unit")))

    def _gives(self) -> str:
        return "answers for the whole image (take answers)"

    def get(self, name: str, frame: int = 0, slice: int | None = None) -> float:
        """Return the probability of a class or a value, by its name.

        Raises
        ------
        InputError
            If there is no such answer.
        """
        key = "probability" if self.card.output.kind == "class" else "value"
        for row in self.rows:
            if row["name"] == name and row["frame"] == frame and slice in (None, row.get("slice")):
                return row[key]
        names = ", ".join(dict.fromkeys(row["name"] for row in self.rows))
        raise InputError(f"there is no answer {name!r} for frame {frame}, slice {slice}: the names are {names}")


@dataclass(frozen=True, eq=False)
class Boxes(Table):
    """Boxes around what a model found, the best first.

    ``rows`` hold ``frame`` (from 0), ``label``, ``name``, ``score``; the sides ``x1 y1 z1 x2 y2 z2`` as voxel indices
    of the image as stored, where voxel k reaches from k - 0.5 to k + 0.5; the centre ``x_mm y_mm z_mm`` in the patient
    (LPS); and the lengths ``dx_mm dy_mm dz_mm`` along the axes of the image. A 2D network's box is one slice thick.

    Parameters
    ----------
    grid : Grid or None
        Of the image.
    """

    grid: Grid | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        sides = tuple(a + n for n in "12" for a in "xyz")
        places = tuple(f"{a}_mm" for a in "xyz") + tuple(f"d{a}_mm" for a in "xyz")
        return ("frame", "label", "name", "score", *sides, *places)

    def _gives(self) -> str:
        return "boxes (take rows, boxes and scores)"

    @property
    def boxes(self) -> np.ndarray:
        """(n, 6) float64, ``z1 y1 x1 z2 y2 x2`` as voxel indices."""
        return np.array([[row[k] for k in _SIDES] for row in self.rows], float).reshape(-1, 6)

    @property
    def scores(self) -> np.ndarray:
        """(n,) float64 scores."""
        return np.array([row["score"] for row in self.rows], float)


def box_rows(
    boxes: np.ndarray, scores: Sequence[float], labels: Sequence[int], frame: int, grid: Grid, names: Mapping[int, str]
) -> list[dict[str, Any]]:
    """Return the rows of `Boxes` for the boxes of one frame, (n, 6) voxel indices ``z1 y1 x1 z2 y2 x2``."""
    rows = []
    space = grid.without_frames()
    for box, score, label in zip(np.asarray(boxes, float), scores, labels, strict=True):
        low, high = box[:3], box[3:]
        centre, length = space.to_world((low + high) / 2), (high - low) * space.spacing
        row = {"frame": frame, "label": int(label), "name": names.get(int(label), f"class {label}")}
        row["score"] = tidy(score)
        row.update({f"{a}1": tidy(v) for a, v in zip("xyz", low[::-1], strict=True)})
        row.update({f"{a}2": tidy(v) for a, v in zip("xyz", high[::-1], strict=True)})
        row.update({f"{a}_mm": tidy(v) for a, v in zip("xyz", centre[::-1], strict=True)})
        row.update({f"d{a}_mm": tidy(v) for a, v in zip("xyz", length[::-1], strict=True)})
        rows.append(row)
    return rows


def tidy(value: float) -> float:
    """Return a number of single precision without digits that mean nothing.

    Examples
    --------
    >>> tidy(np.float32(0.1))
    0.1
    """
    return float(f"{float(value):.7g}")
