"""What a model's card says, as the text of a dock."""

import re
from collections.abc import Mapping
from html import escape
from typing import Any

from ...models.card import Card, output_names
from ..appearance import label_colour

# Characters that are shown at once.
_LONG = 120
_TASKS = {
    "labels": "names the tissue of every voxel",
    "regions": "marks regions that may overlap",
    "image": "makes an image from an image",
    "class": "puts the whole image into a class",
    "value": "gives numbers for the whole image",
    "boxes": "draws boxes around what it finds",
}


def summary(card: Card) -> str:
    """Return the part of a card that is always shown: task, input, classes, use, licence, figures in short.

    Long texts are cut after a sentence, so that the choices below stay in sight; `details` has all of them.
    """
    version = f" {escape(card.version)}" if card.version else ""
    lines = [
        f"<b>{escape(card.name)}</b>{version}: {escape(_opening(card.description)) or _TASKS[card.output.kind]}",
        f"<b>Input</b> {escape(_input(card))}",
        f"<b>Output</b> {_classes(card)}",
        f"<b>Intended use</b> {escape(_opening(card.intended_use)) or 'not stated'}",
        f"<b>Licence</b> {escape(card.licence) or 'not stated'}",
    ]
    short = [f"{_words(key)} {text}" for key, value in card.figures.items() if (text := _short(value))]
    more = " \u2026" if len(short) > 1 else ""
    lines.append(f"<b>Figures</b> {escape(short[0]) + more if short else 'none stated'}")
    return "".join(f'<p style="margin: 0 0 4px 0">{line}</p>' for line in lines)


def details(card: Card) -> str:
    """Return the rest of a card: training data, and every figure with how it was taken."""
    long = (("Description", card.description), ("Intended use", card.intended_use))
    lines = [f"<b>{title}</b> {escape(text)}" for title, text in long if _opening(text) != text]
    lines.append(f"<b>Training data</b> {escape(card.training_data) or 'not stated'}")
    for key, value in card.figures.items():
        lines.append(f"<b>{escape(_words(key).capitalize())}</b> {escape(_long(value))}")
    lines.append(f"<b>Network</b> {escape(_network(card))}")
    if card.folder is not None:
        lines.append(f"<b>Folder</b> {escape(str(card.folder))}")
    return "".join(f'<p style="margin: 0 0 4px 0">{line}</p>' for line in lines)


def _opening(text: str) -> str:
    """Return the first sentences of a long text, at least one of them."""
    if len(text) <= _LONG:
        return text
    sentences = re.split(r"(?<=[.!?]) ", text)
    kept = sentences[0]
    for sentence in sentences[1:]:
        if len(kept) + len(sentence) >= _LONG:
            break
        kept = f"{kept} {sentence}"
    return kept if kept == text else f"{kept} \u2026"


def _input(card: Card) -> str:
    spec = card.input
    names = " + ".join(c.name if c.modality in (None, c.name) else f"{c.name} ({c.modality})" for c in spec.channels)
    parts = [f"{names}, {'volumes' if spec.dims == 3 else 'single slices'}"]
    if spec.context:
        parts.append(f"each with {spec.context} on both sides")
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
    names = " \u00b7 ".join(escape(name) for name in output_names(card.output))
    text = " &nbsp;".join(marks) or names or _TASKS[card.output.kind]
    others = [f"{escape(name)} ({spec.kind})" for name, spec in list(card.outputs.items())[1:]]
    return text + (f"; and {', '.join(others)}" if others else "")


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
