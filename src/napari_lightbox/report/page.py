"""The parts of the report's page: HTML that needs no other file, every text escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from . import colours
from .pictures import Picture

_STYLE = """
:root { color-scheme: light; font: 15px/1.45 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #22262b; }
body { max-width: 1320px; margin: 0 auto; padding: 1.2rem 1.5rem 3rem; background: #f4f5f7; }
h1 { font-size: 1.6rem; margin: .2rem 0 .3rem; } h2 { font-size: 1.2rem; margin: 2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0 0 .5rem; }
.panel { background: #fff; border: 1px solid #d9dde3; border-radius: 6px; padding: .9rem 1rem; margin: 0 0 1rem; }
.row { display: flex; flex-wrap: wrap; gap: 10px; align-items: flex-start; }
figure { margin: 0; background: #000; padding: 0; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { color: #c9ced6; font-size: .78rem; padding: .25rem .4rem; }
.plain { background: none; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .28rem .6rem; border-bottom: 1px solid #e4e7eb; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; }
.legend { margin: .6rem 0 0; font-size: .88rem; } .legend span.item { margin-right: 1.1em; white-space: nowrap; }
.bar { display: inline-block; width: 160px; height: .8em; margin: 0 .4em; vertical-align: middle; }
.note { border-left: 4px solid #e6a23c; background: #fff8e8; padding: .5rem .8rem; margin: .5rem 0; }
.quiet { color: #5b6470; font-size: .88rem; margin: .5rem 0 0; } code { font-size: .86em; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
@media print { body { background: #fff; } .panel { break-inside: avoid; } }
"""


def document(title: str, parts: Iterable[str]) -> str:
    """Return the whole page."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        "<body>\n" + "\n".join(p for p in parts if p) + "\n</body></html>\n"
    )


def pictures(found: Sequence[Picture], what: str) -> str:
    """Return a row of pictures, each with its plane and position."""
    items = []
    for picture in found:
        words = f"{picture.plane}: {picture.position}"
        width, height = picture.image.size
        items.append(
            f'<figure style="max-width:{max(width, 160)}px"><img src="{picture.data_url()}" width="{width}" '
            f'height="{height}" alt="{escape(f"{what}, {words}")}"><figcaption>{escape(words)}</figcaption></figure>'
        )
    return f'<div class="row">{"".join(items)}</div>'


def legend(items: Iterable[tuple[str, str]]) -> str:
    """Return names with their colours, from (name, "#rrggbb") pairs."""
    found = "".join(f'<span class="item">{swatch(colour)}{escape(name)}</span>' for name, colour in items)
    return f'<p class="legend">{found}</p>' if found else ""


def heat_legend(what: str) -> str:
    """Return the colour bar of the heat map, from 0 to 1."""
    bar = f'<span class="bar" style="background:{colours.heat_css()}"></span>'
    return f'<p class="legend">{escape(what)}: 0 {bar} 1</p>'


def swatch(colour: str) -> str:
    """Return a small coloured square."""
    red, green, blue = colours.rgb(colour)
    return f'<span class="swatch" style="background:rgb({red} {green} {blue})"></span>'


def table(columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table.

    Parameters
    ----------
    columns : mapping
        Heading to ``"text"``, ``"number"`` or ``"html"`` (already escaped).
    rows : iterable of sequence
        One value a column, already written as people read it.
    """
    kinds = list(columns.values())
    number = {"number": ' class="number"'}
    head = "".join(f"<th{number.get(kind, '')}>{escape(name)}</th>" for name, kind in columns.items())
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{number.get(kind, '')}>{value if kind == 'html' else escape(str(value))}</td>"
            for value, kind in zip(row, kinds, strict=True)
        )
        + "</tr>\n"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'


def pairs(values: Mapping[str, Any]) -> str:
    """Return a table of names and values without a heading."""
    rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>\n" for k, v in values.items() if v != "")
    return f"<table><tbody>\n{rows}</tbody></table>"


def panel(*parts: str) -> str:
    """Return parts on a sheet of their own."""
    return f'<section class="panel">{"".join(parts)}</section>'


def heading(text: str, level: int = 2) -> str:
    """Return a heading."""
    return f"<h{level}>{escape(text)}</h{level}>"


def quiet(text: str) -> str:
    """Return a line in small grey letters."""
    return f'<p class="quiet">{escape(text)}</p>' if text else ""


def note(text: str) -> str:
    """Return a line that must not be overlooked."""
    return f'<p class="note">{escape(text)}</p>'
