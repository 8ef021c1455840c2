"""A sweep as files: tables for programs, and a page with its curve, its pictures and what mends it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..io._atomic import replacing
from ..models.mending import Mended
from ..models.sweeps import Sweep
from ..volume import Volume
from . import page, words
from .files import write_texts
from .pictures import Picture, View, draw, planes_of

FILES = ("sweep.csv", "sweep.json", "sweep.html")
# What stays readable on white, after the mean in black.
_DARK = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#7f3fbf", "#555555")
_INK = "#22262b"
_SIZE, _LEFT, _RIGHT, _TOP, _BOTTOM = (860, 360), 76, 24, 18, 52
_MOST_CURVES = 8


def write_sweep(
    folder: Path,
    sweep: Sweep,
    *,
    mended: Sequence[Mended] = (),
    at: float | None = None,
    pictures: Mapping[float, Sequence[Picture]] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write the rows, everything as JSON, and a page.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    sweep : Sweep
        From `models.sweep`.
    mended : sequence of Mended
        From `models.mend`, tried on the image of strength `at`.
    at : float, optional
        That strength.
    pictures : mapping of float to sequence of Picture, optional
        For a strength, the perturbed image with the answer; see `picture_of`.
    overwrite : bool
        Replace files that are there.

    Returns
    -------
    list of Path
        ``sweep.csv``, ``sweep.json`` and ``sweep.html``.

    Raises
    ------
    FileError
        If a file exists and `overwrite` is not given, or cannot be written.
    """
    contents = {
        "sweep.csv": sweep.csv(),
        "sweep.json": _json(sweep, mended, at),
        "sweep.html": _page(sweep, mended, at, pictures),
    }
    return write_texts(folder, contents, overwrite=overwrite)


def export(
    path: Path,
    sweep: Sweep,
    *,
    mended: Sequence[Mended] = (),
    at: float | None = None,
    pictures: Mapping[float, Sequence[Picture]] | None = None,
) -> Path:
    """Write one of the three files of `write_sweep`, the one that the name's end tells: .csv, .json or .html.

    A file that is there is replaced, and stays whole if that fails.

    Raises
    ------
    InputError
        If the name ends otherwise.
    FileError
        If the file cannot be written.
    """
    path = Path(path)
    make = {
        ".csv": sweep.csv,
        ".json": lambda: _json(sweep, mended, at),
        ".html": lambda: _page(sweep, mended, at, pictures),
    }
    if path.suffix.lower() not in make:
        raise InputError(f"{path} must end in {', '.join(make)}")
    text = make[path.suffix.lower()]()
    with replacing(path) as file:
        file.write(text.encode())
    return path


def _json(sweep: Sweep, mended: Sequence[Mended], at: float | None) -> str:
    found = {**sweep.as_dict(), "mended_at": at, "mended": [one.as_dict() for one in mended]}
    return json.dumps(found, indent=1)


def _page(sweep: Sweep, mended: Sequence[Mended], at: float | None, pictures) -> str:
    title = f"{sweep.perturbation.title}: {sweep.model} on {sweep.image}"
    parts = [page.heading(title, 1), *panels(sweep, mended=mended, at=at, pictures=pictures)]
    parts += [page.heading("Made with"), page.panel(page.pairs(words.versions()))]
    parts.append(page.quiet("Made by napari-lightbox. For research and teaching, not for clinical use."))
    return page.document(title, parts)


def picture_of(
    image: Volume, labels: Volume, limits: tuple[float, float] | None = None, size: int = 260
) -> list[Picture]:
    """Draw the answer to a perturbed image through its middle, in axial slices or what there is instead.

    With the same `limits`, as `colours.window` gives them for the unperturbed image, pictures can be compared.
    """
    grid = image.grid.without_frames()
    middle = grid.to_world((np.array(grid.spatial_shape) - 1) / 2)
    drawn = draw(image.frame(0), View(tuple(middle), 0, size), over=labels.frame(0), limits=limits)
    shown = planes_of(grid)
    return drawn[:1] if "axial" in shown else drawn


def panels(
    sweep: Sweep,
    *,
    mended: Sequence[Mended] = (),
    at: float | None = None,
    pictures: Mapping[float, Sequence[Picture]] | None = None,
) -> list[str]:
    """Return the parts of a page about a sweep, to stand on a page of their own or among others."""
    row = sweep.perturbation
    curves = {value: sweep.curve(label=value) for value in sweep.classes}
    found = [page.note(note) for note in sweep.notes]
    found.append(page.panel(curve_svg(sweep), _legend(sweep), page.quiet(_breaks(sweep))))
    if sweep.reference is None:
        # Without the truth the volume is what people know something about.
        found.append(page.panel(curve_svg(sweep, "volume"), _legend(sweep, "volume"), page.quiet(_leaves(sweep))))
    names = [f"Strength ({sweep.unit})", *(["Mean"] if sweep.label is None else []), *_headings(sweep)]
    columns = dict.fromkeys(names, "number")
    lines = []
    for number, point in enumerate(sweep.curve()):
        mean = [_text(point.mean)] if sweep.label is None else []
        lines.append([f"{point.strength:g}", *mean, *(_text(c[number].mean) for c in curves.values())])
    found += [page.heading("Scores"), page.panel(page.table(columns, lines), page.quiet(f"{sweep.meaning}."))]
    if mended:
        found += [page.heading("What mends it"), _mended(mended, at, sweep.unit)]
    if pictures:
        named = [replace(one, position=f"{s:g} {sweep.unit}") for s, drawn in pictures.items() for one in drawn]
        found += [page.heading("Image and answer"), page.panel(page.pictures(named, row.title))]
    steps = sweep.steps.get(sweep.strengths[-1], ())
    told = {str(step["operation"]): words.parameters(step) for step in steps}
    found += [page.heading("Steps at the last strength"), page.panel(page.pairs(told))]
    return found


def _headings(sweep: Sweep) -> list[str]:
    """Return the names of the classes, with their value where two have the same."""
    names = list(sweep.classes.values())
    return [n if names.count(n) == 1 else f"{n} ({v})" for v, n in sweep.classes.items()]


def _mended(mended: Sequence[Mended], at: float | None, unit: str) -> str:
    columns = {"Filter": "text", "Score": "number", "Change": "number", "Steps": "text", "Notes": "text"}
    lines = [
        [one.title, _text(one.score), "–" if math.isnan(one.change) else f"{one.change:+.3f}",
         "; ".join(f"{s['operation']}: {words.parameters(s)}" for s in one.steps), " ".join(one.notes)]
        for one in mended
    ]  # fmt: skip
    what = "Dice" if mended[0].measure == "dice" else "Confidence of the model (how sure it is, not how right)"
    where = "" if at is None else f" at strength {at:g} {unit}"
    return page.panel(page.table(columns, lines), page.quiet(f"{what}{where}; unfiltered {_text(mended[0].before)}."))


def _breaks(sweep: Sweep) -> str:
    share = f"{100 * sweep.share:g} %"
    found = sweep.breaking_point()
    if found is None:
        return f"The score stays above {share} of that of the unperturbed image."
    unit = sweep.unit
    return f"Breaking point: {found:.4g} {unit}, where the score falls below {share} of that of the unperturbed image."


def _leaves(sweep: Sweep) -> str:
    change, found = f"{100 - 100 * sweep.share:.3g} %", sweep.breaking_point("volume")
    if found is None:
        return f"The volume stays within {change} of that of the unperturbed image."
    return f"From {found:.4g} {sweep.unit} on the volume is off by more than {change}."


# The curve ----------------------------------------------------------------------------------------------------------


def _curves(sweep: Sweep, score: str = "dice") -> list[tuple[str, str, list]]:
    """Return name, colour and points of what is drawn; the mean (of volumes, the sum) first."""
    if len(sweep.classes) == 1 or sweep.label is not None:
        return [(_headings(sweep)[0], _INK, sweep.curve(score))]
    shown = list(zip(sweep.classes, _headings(sweep), strict=True))[:_MOST_CURVES]
    classes = [(name, _DARK[i], sweep.curve(score, value)) for i, (value, name) in enumerate(shown)]
    return [("mean" if score == "dice" else "sum", _INK, sweep.curve(score)), *classes]


def _legend(sweep: Sweep, score: str = "dice") -> str:
    return page.legend((name, colour) for name, colour, _ in _curves(sweep, score))


class _Frame:
    """Places strengths and scores in a drawing."""

    def __init__(self, sweep: Sweep, score: str, curves: Sequence[tuple[str, str, list]]) -> None:
        self.low, self.high = sorted((sweep.strengths[0], sweep.strengths[-1]))
        highest = max((p.high for _, _, points in curves for p in points if not math.isnan(p.high)), default=1.0)
        self.top = 1.0 if score == "dice" else 1.05 * highest or 1.0

    def x(self, value: float) -> float:
        return round(_LEFT + (value - self.low) / (self.high - self.low) * (_SIZE[0] - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        return round(_TOP + (1 - value / self.top) * (_SIZE[1] - _TOP - _BOTTOM), 1)


def curve_svg(sweep: Sweep, score: str = "dice") -> str:
    """Return a curve of a sweep as SVG: the mean and every class, the spread over repeats, the breaking point.

    Parameters
    ----------
    sweep : Sweep
    score : {"dice", "volume"}
        As for `Sweep.curve`.

    Returns
    -------
    str

    Examples
    --------
    >>> from napari_lightbox.models import sweep
    >>> image = Volume.from_array(np.tile(np.arange(8.0), (1, 8, 1)), spacing=(1, 1, 1))
    >>> curve_svg(sweep(image, lambda x: 50 * (x - 3.5), "intensity_shift", [1, 2]))[:4]
    '<svg'
    """
    width, height = _SIZE
    curves = _curves(sweep, score)
    frame = _Frame(sweep, score, curves)
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" style="width:100%;max-width:{width}px" '
             f'aria-label="{escape(sweep.perturbation.title)}: {score} against strength" font-size="13">']  # fmt: skip
    parts.append(_grid(frame, sweep, "Dice" if score == "dice" else "Volume (ml)"))
    parts += [_line(frame, *curve, width=1.5 if number else 2.5) for number, curve in enumerate(curves)]
    broken = sweep.breaking_point(score)
    if broken is not None:
        x = frame.x(broken)
        right = x > 0.8 * width
        parts.append(f'<line x1="{x}" x2="{x}" y1="{_TOP}" y2="{height - _BOTTOM}" stroke="#c62828" '
                     f'stroke-dasharray="5 4" stroke-width="1.5"/><text x="{x + (-6 if right else 6)}" '
                     f'y="{_TOP + 12}" fill="#c62828" text-anchor="{"end" if right else "start"}">breaks at '
                     f"{broken:.3g}</text>")  # fmt: skip
    return "".join(parts) + "</svg>"


def _line(frame: _Frame, name: str, colour: str, points: list, width: float) -> str:
    """Return a curve with its points, and the band of its repeats."""
    there = [p for p in points if not math.isnan(p.mean)]
    parts = []
    if any(p.high > p.low for p in there):
        band = " ".join(f"{frame.x(p.strength)},{frame.y(p.high)}" for p in there)
        band += " " + " ".join(f"{frame.x(p.strength)},{frame.y(p.low)}" for p in reversed(there))
        parts.append(f'<polygon points="{band}" fill="{colour}" opacity="0.12"/>')
    line = " ".join(f"{frame.x(p.strength)},{frame.y(p.mean)}" for p in there)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}">'
                 f"<title>{escape(name)}</title></polyline>")  # fmt: skip
    parts += [f'<circle cx="{frame.x(p.strength)}" cy="{frame.y(p.mean)}" r="3.2" fill="{colour}"><title>{escape(name)}'
              f": {p.mean:.3f} at {p.strength:g}</title></circle>" for p in there]  # fmt: skip
    return "".join(parts)


def _grid(frame: _Frame, sweep: Sweep, up: str) -> str:
    """Return the axes, with a mark for every strength that was run."""
    width, height = _SIZE
    floor = height - _BOTTOM
    parts = []
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        y = frame.y(share * frame.top)
        parts.append(f'<line x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y}" y2="{y}" stroke="#e4e7eb"/>'
                     f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{share * frame.top:.3g}</text>')  # fmt: skip
    last = -math.inf
    for value in sorted(sweep.strengths):
        x = frame.x(value)
        parts.append(f'<line x1="{x}" x2="{x}" y1="{floor}" y2="{floor + 5}" stroke="{_INK}"/>')
        # Labels that would lie over the one before are left out.
        if x - last > 46:
            parts.append(f'<text x="{x}" y="{floor + 20}" text-anchor="middle">{value:g}</text>')
            last = x
    title = f"{sweep.perturbation.title.lower()} ({sweep.unit})"
    parts.append(f'<line x1="{_LEFT}" x2="{width - _RIGHT}" y1="{floor}" y2="{floor}" stroke="{_INK}"/>'
                 f'<text x="{(width + _LEFT) / 2}" y="{height - 8}" text-anchor="middle">{escape(title)}</text>'
                 f'<text x="16" y="{floor / 2}" text-anchor="middle" transform="rotate(-90 16 {floor / 2})">{up}</text>'
                 )  # fmt: skip
    return "".join(parts)


def _text(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
