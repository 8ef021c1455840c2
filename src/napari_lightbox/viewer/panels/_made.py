"""What a run of a model leaves for the viewer: layers, prepared in the background, and tables."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from napari.layers import Layer

from ...models import Boxes, Prediction, load, predict
from ...models.answers import Table
from ...models.loaders.trust import Untrusted
from ...volume import Volume
from ..boxes import boxes_layer
from ..layers import is_preview, layer_kind, make_layer, plain, volume_to_layer
from . import _hover

# What the name of a layer of a run may add to the prefix of all of them.
_ENDS = r"(?: p\(.*\)| uncertainty| mutual information| variance| disagreement)?(?: \[\d+\])?"


@dataclass(frozen=True)
class Made:
    """What a run leaves for the viewer: layers to add, bottom first, the probabilities behind the labels, and tables.

    `kept` belongs to the uppermost layer; `image` is what the tables are about.
    """

    layers: tuple[Layer, ...]
    kept: _hover.Kept | None
    notes: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    image: Volume | None = None


def work(
    sources: str | Sequence[str], volumes: list[Volume], choices: dict, asked: Sequence[int], hover: bool
) -> Made | Untrusted:
    """Load a model or several, run them together, and prepare the layers, bottom first; runs in the background."""
    try:
        models = [load(source) for source in ([sources] if isinstance(sources, str) else sources)]
    except Untrusted as question:
        return question
    found = predict(volumes, models if len(models) > 1 else models[0], **choices)
    parts = [_part(one, volumes[0], choices, asked, hover) for one in (found.outputs or {"": found}).values()]
    # What is told at the cursor belongs to the layer on top.
    parts.sort(key=lambda part: part.kept is not None)
    layers = tuple(layer for part in parts for layer in part.layers)
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return Made(layers, parts[-1].kept, notes, tuple(t for part in parts for t in part.tables), volumes[0])


def _part(found: Prediction, image: Volume, choices: dict, asked: Sequence[int], hover: bool) -> Made:
    """Prepare what one output of a model leaves."""
    if isinstance(found, Boxes):
        layer, note = boxes_layer(found, image)
        return Made((layer,) if layer is not None else (), None, (*found.notes, *([note] if note else [])), (found,))
    if isinstance(found, Table):
        return Made((), None, found.notes, (found,))
    if "labels" not in found.volumes:
        return Made(tuple(make_layer(found.output(c)) for c in found.kept), None, found.notes)
    # Of several outputs each has classes of its own.
    asked = [value for value in asked if value in found.volumes]
    # Some models leave labels only, and say so in a note.
    uncertainty = bool(choices["uncertainty"]) and "uncertainty" in found.volumes
    return made_of(found, asked, uncertainty=uncertainty, hover=hover)


def made_of(found: Prediction, asked: Sequence[int], *, uncertainty: bool, hover: bool) -> Made:
    """Prepare the layers of a prediction with labels: probabilities, uncertainty, labels on top.

    Parameters
    ----------
    found : Prediction
        What a model said, here or elsewhere.
    asked : sequence of int
        Classes that get a layer of their probability.
    uncertainty : bool
        Whether there is a layer of it.
    hover : bool
        Whether the probabilities that were kept are told at the cursor.
    """
    made = [make_layer(found.probability(value), visible=False) for value in asked]
    if uncertainty:
        made.append(make_layer(found.uncertainty, colormap="magma", visible=False))
    made.append(make_layer(found.labels))
    kept = None
    if hover and found.kept:
        names = tuple(found.card.output.label(value).name for value in found.kept)
        kept = _hover.Kept(names, tuple(volume_to_layer(found.probability(value))[0] for value in found.kept))
    return Made(tuple(made), kept, found.notes)


def name_run(viewer, made: Made) -> list[str]:
    """Give the layers of a run a common prefix of their own, and hide the labels of earlier runs, which they lie over.

    The first run of a model over an image has no number, the next one is ``#2``: ``"CT · ct-regions #2 p(lung)"``.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the layers will be added.
    made : Made
        Its layers are renamed.

    Returns
    -------
    list of str
        Names of the labels that are hidden now, the latest first.
    """
    prefix = common_prefix([layer.name for layer in made.layers])
    if not prefix or made.image is None or not prefix.startswith(f"{made.image.name} \u00b7 "):
        return []
    others = [layer for layer in plain(viewer).layers if not is_preview(layer)]
    known = re.compile(rf"{re.escape(prefix)}(?: #(\d+))?{_ENDS}")
    runs = [int(found[1] or 1) for layer in others if (found := known.fullmatch(layer.name))]
    if not runs:
        return []
    number = max(runs) + 1
    for layer in made.layers:
        layer.name = _numbered(prefix, number) + layer.name[len(prefix) :]
    earlier = {_numbered(prefix, one) for one in range(1, number)}
    hidden = [one for one in reversed(others) if one.name in earlier and layer_kind(one) == "labels" and one.visible]
    for layer in hidden:
        layer.visible = False
    return [layer.name for layer in hidden]


def common_prefix(names: Sequence[str]) -> str:
    """Return the shortest of the names if all of them are it, or it and a further word; else an empty text.

    Examples
    --------
    >>> common_prefix(["CT · tiny p(lung)", "CT · tiny"])
    'CT · tiny'
    """
    shortest = min(names, key=len, default="")
    return shortest if all(n == shortest or n.startswith(f"{shortest} ") for n in names) else ""


def _numbered(prefix: str, number: int) -> str:
    return prefix if number == 1 else f"{prefix} #{number}"
