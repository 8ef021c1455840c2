"""What is doubtful in a segmentation without a reference, as tables and as a page with pictures."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..ops._doubts import DISAGREEMENT, UNCERTAIN, find_doubts
from ..ops._errors import Error
from ..ops._rules import RULES, Rule
from ..progress import track
from ..volume import Label, Volume
from . import page, words
from .files import csv_of, write_texts
from .pictures import View, draw
from .rules_file import plain_rule

FILES = ("doubts.csv", "doubts.json", "doubts.html")
# Doubts that are drawn, and that the page lists.
_DRAWN, _ROWS = 8, 400
_SHOWN = {1: Label("labels", "#56b4e9"), 2: Label("in doubt", "#d55e00")}


@dataclass(frozen=True, eq=False)
class Doubted:
    """A segmentation and what is doubtful in it.

    Parameters
    ----------
    name : str
    labels : Volume
    table : list of (int, Error)
        Frame and doubt, largest first.
    maps : list of ndarray
        For each frame the number of the doubt that each voxel belongs to, as `Error.number` counts within the frame.
    against : dict
        What was looked for, as JSON has it.
    volume, labelled : float
        Of all voxels in doubt, and of all labels, mm3, over all frames.
    thumbnail : str
        A picture of the largest doubt as a ``data:`` address, where one was drawn.
    """

    name: str
    labels: Volume
    table: list[tuple[int, Error]]
    maps: list[np.ndarray]
    against: dict[str, Any]
    volume: float = 0.0
    labelled: float = 0.0
    thumbnail: str = ""

    def counts(self) -> dict[str, tuple[int, float]]:
        """Return the number of doubts of each kind, and their volume in mm3."""
        found: dict[str, tuple[int, float]] = {}
        for _, one in self.table:
            count, volume = found.get(one.kind, (0, 0.0))
            found[one.kind] = (count + 1, volume + one.volume)
        return found


def doubt(
    labels: Volume,
    *,
    rules: Sequence[Rule] = (),
    uncertainty: Volume | None = None,
    above: float = 0.5,
    others: Sequence[Volume] = (),
    image: Volume | None = None,
    name: str = "",
) -> Doubted:
    """List what is doubtful in a segmentation, frame by frame.

    Parameters
    ----------
    labels : Volume
    rules : sequence of Rule
        What is not plausible.
    uncertainty : Volume, optional
        On the same grid: where it is more than `above`.
    above : float
        Threshold.
    others : sequence of Volume
        Other segmentations of the case: where they differ.
    image : Volume, optional
        Grey values for rules of intensity.
    name : str
        Of the case; that of the labels where empty.

    Returns
    -------
    Doubted

    Raises
    ------
    GridError
        If one lies on another grid.
    InputError
        If one has another number of frames, nothing is given to look for, or sides are asked of labels whose
        orientation is not known.

    Examples
    --------
    >>> cube = np.ones((3, 3, 3), np.uint8)
    >>> cube[1, 1, 1] = 0
    >>> labels = Volume.from_array(np.pad(cube, 1), spacing=(2, 1, 1), kind="labels")
    >>> doubt(labels, rules=[Rule("hole")]).counts()
    {'hole': (1, 2.0)}
    """
    maps = {key: one for key, one in (("uncertainty", uncertainty), ("image", image)) if one is not None}
    for one in (*maps.values(), *others):
        labels.grid.require_same_space(one.grid, f"{labels.name!r} and {one.name!r}")
        if one.frame_count != labels.frame_count:
            raise InputError(
                f"{one.name!r} has {one.frame_count} frames and {labels.name!r} {labels.frame_count}: give as many"
            )
    left = None
    if any(rule.kind == "swapped side" for rule in rules):
        if not labels.meta.get("orientation_known", True):
            raise InputError(f"{labels.name!r} does not say which side is left: leave out the rules 'swapped side'")
        # The world is LPS, and its last axis x grows to the left.
        left = labels.grid.affine[2, :3]
    table, numbers = [], []
    for frame in track(range(labels.frame_count), "frames"):
        found = find_doubts(
            np.asarray(labels.frame(frame).data),
            labels.grid.spacing,
            above=above,
            others=[np.asarray(one.frame(frame).data) for one in others],
            rules=rules,
            left=left,
            **{key: np.asarray(one.frame(frame).data) for key, one in maps.items()},
        )
        table += [(frame, one) for one in found.table]
        numbers.append(found.map)
    table.sort(key=lambda one: -one[1].voxels)
    known = {value: label.name for value, label in labels.labels.items()}
    against = {
        "rules": [plain_rule(rule, known) for rule in rules],
        "uncertainty_above": above if uncertainty is not None else None,
        "others": [one.name for one in others],
    }
    each = labels.grid.voxel_volume
    volume = each * sum(np.count_nonzero(one) for one in numbers)
    labelled = each * np.count_nonzero(np.asarray(labels.data))
    return Doubted(name or labels.name, labels, table, numbers, against, volume, labelled)


def write_doubts(folder: Path, found: Doubted, *, image: Volume | None = None, overwrite: bool = False) -> list[Path]:
    """Write what is doubtful as CSV, JSON and a page.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    found : Doubted
        From `doubt`.
    image : Volume, optional
        Grey values to draw on.
    overwrite : bool
        Replace files that are there.

    Returns
    -------
    list of Path
        ``doubts.csv``, ``doubts.json`` and ``doubts.html``.

    Raises
    ------
    FileError
        If a file exists and `overwrite` is not given, or cannot be written.
    """
    rows = rows_of(found)
    whole = {"case": found.name, "looked_for": found.against, "doubts": rows}
    contents = {
        "doubts.csv": csv_of(rows, ["case", "number", "kind"]),
        "doubts.json": json.dumps(whole, indent=1, allow_nan=False, ensure_ascii=False),
        "doubts.html": _page(found, rows, image),
    }
    return write_texts(folder, contents, overwrite=overwrite)


def rows_of(found: Doubted) -> list[dict[str, Any]]:
    """Return a row for each doubt, largest first."""
    return [_row(found, number, *one) for number, one in enumerate(found.table, start=1)]


def _row(found: Doubted, number: int, frame: int, one: Error) -> dict[str, Any]:
    grid = found.labels.grid
    z, y, x = (round(float(v), 3) for v in grid.without_frames().to_world(one.centre))

    def named(value: int) -> str:
        known = found.labels.labels
        return known[value].name if value in known else f"label {value}" if value else "background"

    return {
        "case": found.name, "frame": frame if grid.frames is not None else None, "number": number, "kind": one.kind,
        "predicted": one.predicted, "predicted_name": named(one.predicted), "proposed": one.reference,
        "proposed_name": named(one.reference), "voxels": one.voxels, "volume_mm3": one.volume,
        "uncertainty": None if math.isnan(one.uncertainty) else one.uncertainty, "x_mm": x, "y_mm": y, "z_mm": z,
    }  # fmt: skip


# The page ---------------------------------------------------------------------------------------------------------


def _page(found: Doubted, rows: Sequence[dict[str, Any]], image: Volume | None) -> str:
    title = f"Doubts about {found.name}"
    parts = [page.heading(title, 1), page.quiet(looked_for(found)), *panels(found, image)]
    if len(rows) > _ROWS:
        parts.append(page.quiet(f"{len(rows) - _ROWS} smaller ones are in doubts.csv only."))
    parts += [page.heading("Made with"), page.panel(page.pairs(words.versions()))]
    parts.append(page.quiet("Made by napari-lightbox. For research and teaching, not for clinical use."))
    return page.document(title, parts)


def looked_for(found: Doubted, *, several: bool = False) -> str:
    """Say in a sentence what was looked for; of `several` cases, without the names of the other segmentations."""
    looked = [_words(rule) for rule in found.against["rules"]]
    if found.against["uncertainty_above"] is not None:
        looked.append(f"uncertainty above {found.against['uncertainty_above']:g}")
    others = found.against["others"]
    if several and others:
        others = [f"{len(others)} other segmentation{'s' * (len(others) > 1)}"]
    looked += [f"differences from {name}" for name in others]
    return "Looked for: " + "; ".join(looked) + "."


def panels(found: Doubted, image: Volume | None = None, *, drawn: int = _DRAWN, listed: int = _ROWS) -> list[str]:
    """Return the parts of a page about the doubts of a case, to stand on a page of their own or among others.

    Parameters
    ----------
    found : Doubted
        From `doubt`.
    image : Volume, optional
        Grey values to draw on.
    drawn, listed : int
        How many doubts are drawn, and how many stand in the table.
    """
    rows = rows_of(found)
    meaning = {kind: rule.meaning for kind, rule in RULES.items()}
    meaning |= {DISAGREEMENT: "another segmentation says something else", UNCERTAIN: "above the threshold"}
    counts = [[k, meaning[k], n, f"{v / 1000:.3g}"] for k, (n, v) in found.counts().items()]
    columns = {"Kind": "text", "Meaning": "text", "Number": "number", "Volume (ml)": "number"}
    parts = [page.panel(page.table(columns, counts) if counts else page.quiet("Nothing was found."))]
    if rows:
        pictures = _drawn(found, rows[:drawn], image) if drawn else []
        parts += [page.heading("Largest first", 3), *pictures, page.panel(_table(rows[:listed]))]
    return parts


def _words(rule: dict[str, Any]) -> str:
    kind = RULES[rule["kind"]]
    sizes = [f"{key} {rule[key]:g} {kind.unit}" for key in ("limit", "low", "high") if key in rule]
    names = [str(rule[key]) for key in ("label", "partner") if key in rule]
    of = f" of {' and '.join(names)}" if names else ""
    return rule["kind"] + of + (f" ({', '.join(sizes)})" if sizes else "")


def _table(rows: Sequence[dict[str, Any]]) -> str:
    columns = {"#": "number", "Kind": "text", "Label": "text", "Rather": "text", "Volume (ml)": "number",
               "Depth (mm)": "number", "Uncertainty": "number", "Centre (mm LPS)": "text"}  # fmt: skip
    lines = []
    for row in rows:
        rather = row["proposed_name"] if row["proposed"] != row["predicted"] else "\u2013"
        sure = "\u2013" if row["uncertainty"] is None else f"{row['uncertainty']:.2f}"
        frame = "" if row["frame"] is None else f", frame {row['frame']}"
        place = ", ".join(f"{row[f'{axis}_mm']:zg}" for axis in "xyz") + frame
        size = f"{row['volume_mm3'] / 1000:.3g}"
        lines.append([row["number"], row["kind"], row["predicted_name"], rather, size, "\u2013", sure, place])
    return page.table(columns, lines)


def doubtful(found: Doubted, frame: int, one: Error, image: Volume | None) -> tuple[Volume, Volume]:
    """Return a doubt among the labels of its frame, and what it is drawn on: grey values, or nothing but black."""
    grid = found.labels.grid.without_frames()
    shown = (np.asarray(found.labels.frame(frame).data) != 0).astype(np.uint8)
    shown[found.maps[frame] == one.number] = 2
    below = Volume(np.zeros(grid.shape, np.uint8), grid) if image is None else image.frame(frame)
    return Volume(shown, grid, "labels", "doubt", _SHOWN), below


def _drawn(found: Doubted, rows: Sequence[dict[str, Any]], image: Volume | None) -> list[str]:
    parts = []
    for (frame, one), row in zip(found.table, rows, strict=False):
        over, below = doubtful(found, frame, one, image)
        point = tuple(float(v) for v in over.grid.to_world(one.voxel))
        title = f"{row['number']}: {row['kind']}, {row['predicted_name']}"
        if row["proposed"] != row["predicted"]:
            title += f", rather {row['proposed_name']}"
        pictures = page.pictures(draw(below, View(point, 0, 300), over=over), one.kind)
        parts.append(page.panel(page.heading(f"{title}: {one.volume / 1000:.3g} ml", 3), pictures))
    return [*parts, page.legend((label.name, label.colour) for label in _SHOWN.values())]
