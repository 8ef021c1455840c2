"""The curves of a probability as files."""

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...io._atomic import replacing
from ._probability_counts import RELIABILITY, Areas, Table

_COLUMNS = ("threshold", "true_positive", "false_positive", "false_negative", "true_negative", "sensitivity",
            "specificity", "precision", "dice", "volume_ml")  # fmt: skip


def columns(table: Table) -> dict[str, np.ndarray]:
    """Return the numbers of every threshold by name; without a reference only volumes."""
    if not table.counts.referenced:
        return {"threshold": table.threshold, "voxels": table.false, "volume_ml": table.volume_ml}
    arrays = (
        table.threshold, table.true, table.false, table.positives - table.true, table.negatives - table.false,
        table.sensitivity, 1 - table.fall_out, table.precision, table.dice, table.volume_ml,
    )  # fmt: skip
    return dict(zip(_COLUMNS, arrays, strict=True))


def write(path: str | Path, table: Table, areas: Areas | None, about: Mapping[str, Any]) -> Path:
    """Write the curves as .csv, one row for each threshold, or as .json with everything that was found.

    Parameters
    ----------
    path : str or Path
        A name without a suffix becomes .csv.
    table : Table
        The numbers.
    areas : Areas, optional
        Areas under the curves.
    about : mapping
        What they are about: names of layers, classes, frame.

    Returns
    -------
    Path
        What was written; numbers that do not exist are empty, or null.

    Raises
    ------
    InputError
        If the name ends otherwise, or the file cannot be written.
    """
    path = Path(path)
    path = path if path.suffix else path.with_suffix(".csv")
    if path.suffix.lower() not in (".csv", ".json"):
        raise InputError(f"curves are written as .csv or .json, not as {path.suffix!r}: choose one of them")
    text = _csv(table) if path.suffix.lower() == ".csv" else _json(table, areas, about)
    with replacing(path) as file:
        file.write(text.encode())
    return path


def _csv(table: Table) -> str:
    found = columns(table)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(found)
    writer.writerows(["" if v is None else v for v in row] for row in zip(*map(_plain, found.values()), strict=True))
    return text.getvalue()


def _json(table: Table, areas: Areas | None, about: Mapping[str, Any]) -> str:
    found: dict[str, Any] = {**about, "curve": {name: _plain(values) for name, values in columns(table).items()}}
    if table.counts.referenced:
        total, said, true = table.reliability()
        found["reference_ml"] = table.reference_ml
        found["brier"], found["ece"] = table.brier(), table.ece()
        edges = (np.arange(RELIABILITY + 1) / RELIABILITY).tolist()
        found["reliability"] = {"edges": edges, "voxels": _plain(total), "said": _plain(said), "true": _plain(true)}
    if areas is not None:
        found["auc"], found["average_precision"] = _number(areas.auc), _number(areas.precision)
        found["areas"] = "from every value" if areas.exact else "from the thresholds"
    return json.dumps(found, indent=1)


def _plain(values: np.ndarray) -> list[float | int | None]:
    return [_number(v) for v in values.tolist()]


def _number(value: float) -> float | int | None:
    return value if not isinstance(value, float) or math.isfinite(value) else None
