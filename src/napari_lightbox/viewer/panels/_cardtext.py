"""What a model's card says, as the text of a dock."""

from collections.abc import Mapping
from html import escape
from typing import Any

from ...models.card import Card
from ..appearance import label_colour

_TASKS = {
    "labels": "names the tissue of every voxel",
    "regions": "marks regions that may overlap",
    "image": "makes an image from an image",
    "class": "puts the whole image into a class",
    "value": "gives one number for the whole image",
}


def summary(card: Card) -> str:
    """Return the part of a card that is always shown: task, input, classes, use, licence, figures in short."""
    version = f" {escape(card.version)}" if card.version else ""
    lines = [
        f"<b>{escape(card.name)}</b>{version}: {escape(card.description) or _TASKS[card.output.kind]}",
        f"<b>Input</b> {escape(_input(card))}",
        f"<b>Output</b> {_classes(card)}",
        f"<b>Intended use</b> {escape(card.intended_use) or 'not stated'}",
        f"<b>Licence</b> {escape(card.licence) or 'not stated'}",
    ]
    short = [f"{_words(key)} {text}" for key, value in card.figures.items() if (text := _short(value))]
    lines.append(f"<b>Figures</b> {escape('; '.join(short)) or 'none stated'}")
    return "".join(f'<p style="margin: 0 0 4px 0">{line}</p>' for line in lines)


def details(card: Card) -> str:
    """Return the rest of a card: training data, and every figure with how it was taken."""
    lines = [f"<b>Training data</b> {escape(card.training_data) or 'not stated'}"]
    for key, value in card.figures.items():
        lines.append(f"<b>{escape(_words(key).capitalize())}</b> {escape(_long(value))}")
    lines.append(f"<b>Network</b> {escape(_network(card))}")
    if card.folder is not None:
        lines.append(f"<b>Folder</b> {escape(str(card.folder))}")
    return "".join(f'<p style="margin: 0 0 4px 0">{line}</p>' for line in lines)


def _input(card: Card) -> str:
    spec = card.input
    names = " + ".join(c.name if c.modality in (None, c.name) else f"{c.name} ({c.modality})" for c in spec.channels)
    parts = [f"{names}, {'volumes' if spec.dims == 3 else 'single slices'}"]
    if spec.orientation:
        parts.append(f"turned to {spec.orientation}")
    if spec.spacing:
        parts.append("at " + " x ".join(f"{s:g}" for s in reversed(spec.spacing)) + " mm")
    if spec.resize:
        parts.append("resized to " + " x ".join(str(n) for n in reversed(spec.resize)))
    return ", ".join(parts)


def _classes(card: Card) -> str:
    marks = [
        f'<span style="color:{label_colour(value, label)}">\u25a0</span>&nbsp;{escape(label.name)}'
        for value, label in card.output.labels.items()
        if value
    ]
    return " &nbsp;".join(marks) or _TASKS[card.output.kind]


def _network(card: Card) -> str:
    size = card.window.size
    window = "the whole image at once" if size is None else "windows of " + " x ".join(str(n) for n in reversed(size))
    name = card.architecture.get("name")
    return f"{name}, {window}" if name else window


def _words(key: str) -> str:
    return str(key).replace("_", " ")


def _short(value: Any) -> str:
    """Return the numbers among figures; texts and how the training was run are details."""
    if isinstance(value, Mapping):
        found = [
            (key, _short(v)) for key, v in value.items() if key not in ("how", "steps", "seed", "threads", "batch")
        ]
        return ", ".join(f"{_words(key)} {text}" for key, text in found if text and key != "best_step")
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _long(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(_long(v) if k == "how" else f"{_words(k)} {_long(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(_long(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
