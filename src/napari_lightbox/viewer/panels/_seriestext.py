"""What the list of series says of one: a few short lines, and everything in its tooltip."""

from html import escape

from ...io.series import SeriesInfo
from ...report import words


def lines(info: SeriesInfo) -> list[str]:
    """Return the lines of the list: name, size and spacing, frames, and what is wrong.

    Sizes and spacing are in x, y, z order, spacing in mm.
    """
    found = [" ".join(part for part in (f"{info.number}:" if info.number else "", info.description) if part)]
    size = " \u00d7 ".join(str(n) for n in info.size) if all(info.size) else ""
    found += [", ".join(part for part in (info.modality, size) if part)] if info.modality or size else []
    if info.spacing is not None:
        found.append(" \u00d7 ".join(f"{s:.3g}" for s in info.spacing) + " mm")
    if info.frames is not None:
        found.append(f"{info.frames.count} frames ({info.frames.kind})")
    if info.problem is not None:
        found.append("\u26a0 irregular, see tooltip" if info.remedy_even else "\u2715 cannot be opened, see tooltip")
    elif info.warnings:
        found.append(f"\u26a0 {len(info.warnings)} notice{'s' * (len(info.warnings) > 1)}, see tooltip")
    return found


def tip(info: SeriesInfo) -> str:
    """Return the tooltip: names, identity, files, and all warnings."""
    count = len(info.files)
    rows = [
        ("Patient", " ".join(part for part in (info.patient.name, info.patient.id and f"({info.patient.id})") if part)),
        ("Study", words.study(info.study.date, info.study.description)),
        ("Series", f"{info.number} {info.description}".strip()),
        ("Series UID", info.uid),
        ("Files", f"{count} file{'s' * (count > 1)}, {info.files[0].parent if count else ''}"),
        ("Transfer syntax", info.syntax),
    ]
    text = "<br>".join(f"<b>{name}</b> {escape(value)}" for name, value in rows if value)
    told = [*([info.problem] if info.problem else []), *info.warnings]
    return f"<qt>{text}{''.join(f'<p>{escape(sentence)}</p>' for sentence in told)}</qt>"
