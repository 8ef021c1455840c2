"""`lightbox measure`: every label of a file as a row of a table, printed and as CSV."""

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from .commands import add_overwrite, check_place
from .reading import add_reading, read_input, read_labels
from .words import out

_UNITS = {"volume_ml": "ml", "area_mm2": "mm2", "x_mm": "x (mm)", "y_mm": "y (mm)", "z_mm": "z (mm)"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Measure every label: its volume, the centroid in the patient (x, y, z in LPS mm), the bounding box, and the "
        "grey values of an image under it."
    )
    parser.add_argument("labels", metavar="LABELS", help="a file of labels, or a DICOM folder")
    parser.add_argument("--image", metavar="IMAGE", help="grey values on the same grid")
    parser.add_argument("--csv", metavar="FILE", help="also write the table, with all its columns and digits")
    add_overwrite(parser)
    add_reading(parser)


def run(args: argparse.Namespace) -> int:
    """Read, measure, print and write."""
    from ..io._atomic import replacing
    from ..ops.measure import table

    target = None
    if args.csv is not None:
        if Path(args.csv).suffix.lower() != ".csv":
            raise InputError(f"--csv {args.csv} must end in .csv")
        target = check_place(Path(args.csv), args.overwrite)
    labels = read_labels(args, args.labels, "measure")
    image = None if args.image is None else read_input(args, args.image, "image")
    rows = table(labels, image)
    out(as_text(rows) if rows else f"{labels.name} holds no label")
    if target is not None:
        with replacing(target) as file:
            file.write(as_csv(rows).encode("utf-8"))
    return 0


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Write rows as CSV; what is not known is left empty, frames are counted from 0 as in the arrays.

    Examples
    --------
    >>> as_csv([{"frame": None, "label": 3, "volume_ml": 1.25}]).split()
    ['frame,label,volume_ml', ',3,1.25']
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["frame", "label", "name", "voxels"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """Write rows for people: names to the left, numbers set flush right, the bounding box left to the CSV.

    Examples
    --------
    >>> print(as_text([{"frame": None, "label": 3, "name": "node", "voxels": 8, "volume_ml": 1.25}]))
    label  name  voxels    ml
        3  node       8  1.25
    """
    hidden = ("volume_mm3", *(f"{axis}_{end}" for axis in "xyz" for end in ("first", "last")))
    columns = [c for c in rows[0] if c not in hidden and (c != "frame" or rows[0]["frame"] is not None)]
    head = [_UNITS.get(c, c) for c in columns]
    cells = [head, *([_cell(c, row[c]) for c in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column == "name" else text.rjust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in cells
    )


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "?"
    if not isinstance(value, float):
        return str(value)
    return f"{value:z.1f}" if column.endswith("_mm") else f"{value:z.5g}"
