"""What the label table shows: measuring in the background, numbers in words, a table model, a CSV file."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtGui import QColor

from ...io._atomic import replacing
from ...ops.measure import label_table
from ...progress import track

SORT = int(Qt.ItemDataRole.UserRole)
KEYS = ("colour", "frame", "label", "name", "volume_ml", "mean", "sd", "voxels")


@dataclass(frozen=True)
class Work:
    """All that a measurement needs, captured when it starts.

    Parameters
    ----------
    labels, image : array
        (z, y, x), or with frames first; views of what the layers hold. `image` may be None.
    frames : sequence of (int, int or None, int or None)
        For each frame to measure its number, and its place in `labels` and `image` (None: it has no frames).
    voxel_volume : float or None
        mm3, of the true grid; None where the spacing is not known.
    pixel_area : float, optional
        mm2 within a single slice. Its thickness is often made up: areas take the place of volumes.
    """

    labels: Any
    image: Any
    frames: Sequence[tuple[int, int | None, int | None]]
    voxel_volume: float | None
    pixel_area: float | None = None

    def __call__(self) -> list[dict]:
        """Measure; one row a frame and label."""
        rows = []
        for frame, at, image_at in track(self.frames, "frames") if len(self.frames) > 1 else self.frames:
            # A copy, since labels can be painted meanwhile.
            labels = np.array(self.labels if at is None else self.labels[at])
            image = None
            if self.image is not None:
                image = np.asarray(self.image if image_at is None else self.image[image_at])
            for found in label_table(labels, (1.0,) * labels.ndim, image):
                volume = None if self.voxel_volume is None else found["voxels"] * self.voxel_volume / 1000
                row = {"frame": frame, "label": found["label"], "voxels": found["voxels"], "volume_ml": volume}
                if self.pixel_area is not None:
                    row |= {"volume_ml": None, "area_cm2": found["voxels"] * self.pixel_area / 100}
                rows.append(row | {"mean": found.get("mean"), "sd": found.get("std")})
        return rows


def fullest_point(labels, value: int) -> tuple[int, ...] | None:
    """Return, for each axis of a (z, y, x) array, the slice that holds most voxels of a label; None if there are none.

    Goes slab by slab, so that a lazy array is never whole in memory.

    Examples
    --------
    >>> fullest_point(np.array([[[0, 2, 2], [0, 0, 2]]]), 2)
    (0, 0, 2)
    """
    counts = [np.zeros(n, np.int64) for n in labels.shape]
    for z in range(labels.shape[0]):
        mask = np.asarray(labels[z]) == value
        counts[0][z] = np.count_nonzero(mask)
        if counts[0][z]:
            for axis in range(1, labels.ndim):
                others = tuple(a for a in range(labels.ndim - 1) if a != axis - 1)
                counts[axis] += mask.sum(axis=others)
    if not counts[0].any():
        return None
    return tuple(int(np.argmax(count)) for count in counts)


def number(value: float | None, digits: int = 1) -> str:
    """Write a number for people: a few digits, a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "\u2013" if value is None or math.isnan(value) else str(value)
    if value and abs(value) < 10 ** (1 - digits):
        return f"{value:.3g}"
    return f"{value:z.{digits}f}" if abs(value) < 1e9 else f"{value:.4g}"


class LabelRows(QAbstractTableModel):
    """The rows of the table, for Qt.

    Parameters
    ----------
    rename : callable
        Called with (label, name) when the user has typed a name; returns whether it was taken.
    """

    def __init__(self, rename) -> None:
        super().__init__()
        self._rename = rename
        self.rows: list[dict] = []
        self.unit = ""
        self.size = "volume_ml"
        self.stale = True
        self.editable = False

    def show(self, rows: list[dict], unit: str = "", editable: bool = False) -> None:
        """Replace all rows; each has the `KEYS`, ``colour`` as ``"#rrggbb"`` or None."""
        self.beginResetModel()
        self.rows, self.unit, self.editable, self.stale = rows, unit, editable, False
        self.size = size_of(rows)
        self.endResetModel()

    def set_stale(self) -> None:
        """Draw the rows grey: what they were measured on has changed."""
        if not self.stale:
            self.stale = True
            self._changed()

    def restyle(self, colour, name) -> None:
        """Ask ``colour(label)`` and ``name(label)`` again for every row."""
        for row in self.rows:
            row["colour"], row["name"] = colour(row["label"]), name(row["label"])
        self._changed()

    def _changed(self) -> None:
        if self.rows:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self.rows) - 1, len(KEYS) - 1))

    # Qt's names -------------------------------------------------------------------------------------------------

    def rowCount(self, parent=None) -> int:  # noqa: N802
        """Number of rows."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent=None) -> int:  # noqa: N802
        """Number of columns."""
        return 0 if parent is not None and parent.isValid() else len(KEYS)

    def headerData(self, section, orientation, role=Qt.ItemDataRole.DisplayRole):  # noqa: N802
        """Titles of the columns, with units."""
        if orientation != Qt.Orientation.Horizontal or role != Qt.ItemDataRole.DisplayRole:
            return None
        unit = f" ({self.unit})" if self.unit else ""
        size = "Area (cm\u00b2)" if self.size == "area_cm2" else "Volume (ml)"
        return ("", "Frame", "Value", "Name", size, f"Mean{unit}", f"SD{unit}", "Voxels")[section]

    def data(self, index: QModelIndex, role=Qt.ItemDataRole.DisplayRole):
        """Text, colour and order of a cell."""
        row, key = self.rows[index.row()], KEYS[index.column()]
        value = row.get(self.size if key == "volume_ml" else key)
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            return self._text(key, value)
        if role == SORT:
            return self._order(key, value)
        if role == Qt.ItemDataRole.DecorationRole and key == "colour" and value:
            return QColor(value)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._whole(row)
        if role == Qt.ItemDataRole.ForegroundRole and self.stale:
            return QColor("gray")
        if role == Qt.ItemDataRole.TextAlignmentRole and key not in ("colour", "name"):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def _whole(self, row: dict) -> str:
        """Write a row out, for a dock too narrow to show all columns."""
        lines = [f"{row['name'] or 'label'} ({row['label']})"]
        for column, key in enumerate(KEYS):
            value = row.get(self.size if key == "volume_ml" else key)
            if key in ("volume_ml", "mean", "sd", "voxels") and value is not None:
                title = self.headerData(column, Qt.Orientation.Horizontal)
                lines.append(f"{title}: {self._text(key, value)}")
        return "\n".join(lines)

    @staticmethod
    def _text(key: str, value) -> str:
        if key == "colour":
            return ""
        if key == "frame":
            return str(value + 1)
        if key in ("volume_ml", "mean", "sd"):
            return number(value, 2)
        return str(value)

    @staticmethod
    def _order(key: str, value):
        if key in ("name", "colour"):
            return (value or "").casefold()
        return -math.inf if value is None or math.isnan(value) else float(value)

    def flags(self, index: QModelIndex):
        """Names can be typed."""
        flags = super().flags(index)
        if self.editable and KEYS[index.column()] == "name":
            flags |= Qt.ItemFlag.ItemIsEditable
        return flags

    def setData(self, index: QModelIndex, value, role=Qt.ItemDataRole.EditRole) -> bool:  # noqa: N802
        """Take a typed name."""
        name = str(value).strip()
        if role != Qt.ItemDataRole.EditRole or KEYS[index.column()] != "name" or not name:
            return False
        return bool(self._rename(self.rows[index.row()]["label"], name))


def size_of(rows: Sequence[dict]) -> str:
    """Return the key that the size of the labels goes by: ``"volume_ml"``, or ``"area_cm2"`` for single slices."""
    return "area_cm2" if rows and "area_cm2" in rows[0] else "volume_ml"


def write_csv(path, rows: Sequence[dict], *, unit: str, labels: str, image: str) -> None:
    """Write the rows as a table with full precision; the file appears whole or not at all.

    Parameters
    ----------
    path : path-like
        File to write.
    rows : sequence of dict
        As `LabelRows` shows them; frames are counted from 1.
    unit : str
        Of mean and sd.
    labels, image : str
        Names of the layers.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    size = size_of(rows)
    writer.writerow(["frame", "label", "name", "voxels", size, "mean", "sd", "unit", "labels", "image"])
    for row in rows:
        numbers = ["" if row[key] is None else row[key] for key in (size, "mean", "sd")]
        writer.writerow([row["frame"] + 1, row["label"], row["name"], row["voxels"], *numbers, unit, labels, image])
    with replacing(Path(path)) as file:
        file.write(text.getvalue().encode("utf-8"))
