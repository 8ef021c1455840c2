"""A review as a file: CSV for tables, JSON for programs."""

import csv
import io
import json
import math
from pathlib import Path

from ...io._atomic import replacing
from ._error_kinds import ALONE, VERSUS, mode_of, name_of

_CENTRE = ("x", "y", "z")


def write_table(path: Path, review: dict) -> None:
    """Write all errors with what the review says of them as CSV; the file appears whole or not at all.

    Frames are counted from 1; centres are in LPS mm, lengths and sizes in mm and mm3, or in voxels where the spacing
    is not known. What there is not (the depth of a doubt, a mean without its image) is empty.
    """
    versus = mode_of(review) == VERSUS
    millimetres = review["unit"] == "mm"
    size, depth = ("size_mm3", "depth_mm") if millimetres else ("size_voxels", "depth_voxels")
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    changes = ["outcome", "changed_voxels", size.replace("size", "changed")] if versus else []
    writer.writerow(
        ["number", *changes, "kind", "predicted", "predicted_name", "reference", "reference_name", "voxels", size,
         depth, "probability", "uncertainty", "x_mm", "y_mm", "z_mm", "frame", "state", "comment"]
    )  # fmt: skip
    for row in review["rows"]:
        labels = [part for key in ("predicted", "reference") for part in (row[key], name_of(row[key], review))]
        depth, *means = ("" if math.isnan(row[k]) else row[k] for k in ("depth", "probability", "uncertainty"))
        changes = [row[key] for key in ("outcome", "changed_voxels", "changed")] if versus else []
        frame = "" if row["frame"] is None else row["frame"] + 1
        writer.writerow(
            [row["number"], *changes, row["kind"], *labels, row["voxels"], row["size"], depth, *means,
             *(row[key] for key in _CENTRE), frame, row["state"], row["comment"]]
        )  # fmt: skip
    with replacing(Path(path)) as file:
        file.write(text.getvalue().encode("utf-8"))


def write_json(path: Path, review: dict, dice: dict[int, float]) -> None:
    """Write the review as JSON, with the score as it is now and as it was; what is no number is null."""
    errors = []
    for row in review["rows"]:
        kept = {key: row[key] for key in ("number", "kind", "predicted", "reference", "voxels", "state", "comment")}
        kept |= {key: _finite(row[key]) for key in ("size", "depth", "probability", "uncertainty")}
        kept["predicted_name"], kept["reference_name"] = (name_of(row[k], review) for k in ("predicted", "reference"))
        kept["centre_lps_mm"] = [row[key] for key in _CENTRE]
        kept |= {key: row[key] for key in ("outcome", "changed_voxels", "changed") if key in row}
        kept["frame"] = None if row["frame"] is None else row["frame"] + 1
        errors.append(kept)
    alone = mode_of(review) == ALONE
    whole = {
        "prediction": review["prediction"],
        "compared_with" if alone else "reference": review["reference"],
        "units": {"size": "mm3", "depth": "mm"} if review["unit"] == "mm" else {"size": "voxels", "depth": "voxels"},
    }
    if mode_of(review) == VERSUS:
        whole |= {key: review[key] for key in ("first", "gained", "lost")}
        whole |= {f"dice_{name}": _by_label(review[key]) for name, key in (("first", "dice_first"), ("second", "dice"))}
    elif not alone:
        whole |= {"dice": _by_label(dice), "dice_when_found": _by_label(review["dice"])}
    whole["errors"] = errors
    with replacing(Path(path)) as file:
        file.write(json.dumps(whole, indent=1, allow_nan=False, ensure_ascii=False).encode("utf-8"))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _by_label(dice: dict[int, float]) -> dict[str, float]:
    return {str(label): value for label, value in dice.items()}
