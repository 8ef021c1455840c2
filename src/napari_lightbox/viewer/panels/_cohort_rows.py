"""The cases of an evaluated cohort: read from its file, as a table for Qt, and as volumes to be opened."""

import base64
import binascii
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QSize, Qt
from qtpy.QtGui import QPixmap

from ...errors import FileError, InputError, LightboxError
from ...io import read
from ...progress import track
from ...report.evaluation import evaluate
from ...report.evaluation_cohort import overview
from ...report.evaluation_files import pair_up
from ...report.evaluation_page import with_thumbnail
from ...volume import Volume
from ._label_rows import number

COLUMNS = ("", "Case", "Dice", "Worst label", "Errors")
# Pixels of a thumbnail in the table.
THUMB = 56
_PNG = "data:image/png;base64,"
ROLES = ("image", "prediction", "reference")


@dataclass(frozen=True)
class CohortCase:
    """A case of a cohort.

    Parameters
    ----------
    name : str
    dice, worst_dice : float
        Mean over its labels, and that of its worst label; NaN where none applies.
    worst_label : str
    errors : int
        How many.
    picture : bytes
        PNG; empty where there is none.
    files : dict
        Path of the ``"prediction"``, the ``"reference"``, and of the ``"image"`` where there is one.
    """

    name: str
    dice: float
    worst_label: str
    worst_dice: float
    errors: int
    picture: bytes = b""
    files: dict[str, Path] = field(default_factory=dict)


def read_cohort(path: Path) -> list[CohortCase]:
    """Read the cases of an ``evaluation.json``, worst first.

    Raises
    ------
    FileError
        If the file cannot be read.
    InputError
        If it holds no cases.
    """
    try:
        whole = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read: {error}") from error
    entries = whole.get("cases") if isinstance(whole, dict) else None
    if not isinstance(entries, list):
        raise InputError(f"{path} holds no cases: open the evaluation.json that lightbox evaluate --cohort writes")
    try:
        cases = [_case(entry, Path(path).parent) for entry in entries]
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise InputError(f"{path} is damaged ({error!r}): have lightbox evaluate write it again") from error
    return sorted(cases, key=_order)


def _order(case: CohortCase) -> tuple[float, str]:
    return (math.inf if math.isnan(case.dice) else case.dice, case.name)


def _case(entry: dict, folder: Path) -> CohortCase:
    text = entry.get("thumbnail") or ""
    picture = base64.b64decode(text[len(_PNG) :], validate=True) if text.startswith(_PNG) else b""
    dice, worst = (math.nan if entry.get(key) is None else float(entry[key]) for key in ("dice", "worst_dice"))
    files = {role: folder / entry["files"][role] for role in ROLES if role in entry["files"]}
    return CohortCase(str(entry["name"]), dice, str(entry["worst_label"]), worst, int(entry["errors"]), picture, files)


def evaluate_folders(predicted: str, reference: str, images: str | None = None) -> tuple[list[CohortCase], list[str]]:
    """Evaluate the cases of two folders, worst first; also return what is wrong with those that cannot be.

    Raises
    ------
    LightboxError
        If the folders cannot be paired, or no case can be evaluated.
    """
    cases, failed = [], []
    for name, files in track([*pair_up(predicted, reference, images).items()], "cases"):
        paths = {"image": files.image, "prediction": files.predicted, "reference": files.reference}
        case = CohortCase(name, math.nan, "", math.nan, 0, files={k: Path(v) for k, v in paths.items() if v})
        try:
            volumes = open_case(case)
            found = evaluate(*volumes[-2:], name=name)
            row = overview(with_thumbnail(found, volumes[0] if len(volumes) == 3 else None))
        except (LightboxError, OSError, MemoryError) as error:
            failed.append(f"{name}: {error}")
            continue
        cases.append(replace(_case({**row, "files": {}}, Path()), files=case.files))
    if not cases:
        raise InputError(f"no case could be evaluated: {failed[0]}")
    return sorted(cases, key=_order), failed


def open_case(case: CohortCase) -> list[Volume]:
    """Read image (where there is one), prediction and reference of a case, named so. Call it in the background.

    Raises
    ------
    FileError
        If a file is gone or cannot be read.
    InputError
        If a file that should hold labels does not.
    """
    for role in ("prediction", "reference"):
        if role not in case.files:
            raise InputError(f"{case.name} has no {role}: give one of its name, or have it evaluated again")
    for role, path in case.files.items():
        if not path.exists():
            raise FileError(f"the {role} of {case.name} is not at {path} any more: move it back, or evaluate again")
    volumes = []
    for role, path in case.files.items():
        volume = read(path)
        volume = volume if role == "image" else _as_labels(volume, path)
        volumes.append(volume.replace(name=f"{case.name} {role}"))
    return volumes


def _as_labels(volume: Volume, path: Path) -> Volume:
    if volume.kind == "labels":
        return volume
    data = np.asarray(volume.data)
    if data.dtype.kind == "f":
        if not np.array_equal(np.rint(data), data):
            raise InputError(f"{path} holds numbers that are not whole: labels are needed")
        data = data.astype(np.int32)
    return volume.replace(data=data, kind="labels")


class CohortRows(QAbstractTableModel):
    """One row a case, with its picture."""

    def __init__(self) -> None:
        super().__init__()
        self.cases: list[CohortCase] = []
        self._order: list[int] = []
        self._pictures: dict[int, QPixmap] = {}

    def show(self, cases: list[CohortCase]) -> None:
        """Show other cases, in their order."""
        self.beginResetModel()
        self.cases, self._order, self._pictures = cases, list(range(len(cases))), {}
        self.endResetModel()

    def case(self, row: int) -> CohortCase:
        """Return the case of a row."""
        return self.cases[self._order[row]]

    # Qt's names -------------------------------------------------------------------------------------------------

    def rowCount(self, parent=None) -> int:  # noqa: N802
        """Number of cases."""
        return 0 if parent is not None and parent.isValid() else len(self._order)

    def columnCount(self, parent=None) -> int:  # noqa: N802
        """Picture, name, mean Dice, worst label, errors."""
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def headerData(self, section, orientation, role=Qt.ItemDataRole.DisplayRole):  # noqa: N802
        """Titles of the columns."""
        wanted = orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole
        return COLUMNS[section] if wanted else None

    def sort(self, column: int, order=Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column; a Dice that does not apply comes last."""
        keys = {
            1: lambda one: one.name.casefold(),
            2: lambda one: math.inf if math.isnan(one.dice) else one.dice,
            3: lambda one: math.inf if math.isnan(one.worst_dice) else one.worst_dice,
            4: lambda one: one.errors,
        }
        if column not in keys:
            return
        self.beginResetModel()
        down = order == Qt.SortOrder.DescendingOrder
        self._order = sorted(range(len(self.cases)), key=lambda i: keys[column](self.cases[i]), reverse=down)
        self.endResetModel()

    def data(self, index, role=Qt.ItemDataRole.DisplayRole):
        """Text and picture of a cell."""
        case, column = self.case(index.row()), index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            worst = f"{case.worst_label} {number(case.worst_dice, 3)}" if case.worst_label else ""
            return ("", case.name, number(case.dice, 3), worst, str(case.errors))[column]
        if role == Qt.ItemDataRole.DecorationRole and column == 0:
            return self._picture(self._order[index.row()])
        if role == Qt.ItemDataRole.SizeHintRole and column == 0:
            return QSize(THUMB + 6, THUMB + 6)
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{case.name}: double click opens it and lists its errors"
        if role == Qt.ItemDataRole.TextAlignmentRole and column in (2, 4):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def _picture(self, place: int) -> QPixmap | None:
        """Return the picture of a case, decoded when it is first seen."""
        if place not in self._pictures:
            made = QPixmap()
            made.loadFromData(self.cases[place].picture)
            if not made.isNull():
                mode = Qt.TransformationMode.SmoothTransformation
                made = made.scaled(THUMB, THUMB, Qt.AspectRatioMode.KeepAspectRatio, mode)
            self._pictures[place] = made
        made = self._pictures[place]
        return None if made.isNull() else made
