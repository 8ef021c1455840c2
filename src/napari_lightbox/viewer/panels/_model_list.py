"""Which models the Inference dock offers, and which layers their channels are by their names.

Beside the shipped models there are those that were chosen before, also in earlier sessions, and all in a folder of
models: the one that the environment variable ``LIGHTBOX_MODELS`` names, or else the one that was chosen last.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox

from ...io._atomic import replacing
from ...models.loaders.trust import config_folder
from ..layers import is_preview, layer_kind, plain

_MOST_RECENT = 8
_MOST_LISTED = 200
# What sequences of MRI are called, in one program or the other.
_SAME = (
    {"t1", "t1n", "t1w"}, {"t1c", "t1ce", "t1gd", "t1post"}, {"t2", "t2w"}, {"flair", "t2f", "t2flair"},
    {"ct", "ncct"}, {"pt", "pet"},
)  # fmt: skip


# The models -----------------------------------------------------------------------------------------------------


def recent() -> list[tuple[str, str]]:
    """Return name and folder of the models that were chosen last, the latest first; those that are gone are left out.

    What cannot be read counts as nothing: it is a convenience.
    """
    entries = _read().get("recent")
    found = []
    for entry in entries if isinstance(entries, list) else []:
        name, source = (entry.get("name"), entry.get("source")) if isinstance(entry, dict) else (None, None)
        if isinstance(name, str) and isinstance(source, str) and Path(source).exists():
            found.append((name, source))
    return found[:_MOST_RECENT]


def remember(name: str, source: str | Path) -> None:
    """Put a model in front of those that were chosen last."""
    path = str(Path(source).absolute())
    others = [{"name": n, "source": s} for n, s in recent() if s != path]
    _write({**_read(), "recent": [{"name": name, "source": path}, *others][:_MOST_RECENT]})


def models_folder() -> Path | None:
    """Return the folder of models: the one of ``LIGHTBOX_MODELS``, or the one that was chosen; None without."""
    named = os.environ.get("LIGHTBOX_MODELS") or _read().get("folder")
    return Path(named) if isinstance(named, str) and Path(named).is_dir() else None


def use_folder(folder: str | Path) -> None:
    """Take a folder of models from now on, also in later sessions."""
    _write({**_read(), "folder": str(Path(folder).absolute())})


def models_in(folder: Path | None) -> list[Path]:
    """Return the models in a folder, by what lies in them; their cards are read once they are chosen."""
    if folder is None:
        return []
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir())[:_MOST_LISTED]
        return [path for path in inside if _is_model(path)]
    except OSError:
        return []


def _is_model(path: Path) -> bool:
    files = ("card.json", "plans.json", "configs/metadata.json")
    return any((path / name).is_file() for name in files) or any(path.glob("*__*__*/plans.json"))


def fill(box: QComboBox, shipped: Sequence[str]) -> None:
    """List the models: shipped ones, those chosen last, and those of the folder, with lines between them."""
    box.clear()
    for name in shipped:
        box.addItem(name, name)
    folder = models_folder()
    last = recent()
    known = {source for _, source in last}
    inside = [(path.name, str(path.absolute())) for path in models_in(folder)]
    for entries in (
        [(f"{name} ({Path(source).name})", source) for name, source in last],
        [(name, source) for name, source in inside if source not in known],
    ):
        if entries and box.count():
            box.insertSeparator(box.count())
        for text, source in entries:
            box.addItem(text, source)
            box.setItemData(box.count() - 1, source, Qt.ItemDataRole.ToolTipRole)


def _read() -> dict[str, Any]:
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(table: dict[str, Any]) -> None:
    path = _file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(json.dumps(table, indent=2).encode())
    except OSError:
        # A list of what was chosen is not worth an error.
        return


def _file() -> Path:
    return config_folder() / "models.json"


# The channels ---------------------------------------------------------------------------------------------------


def matched(channels: Sequence[str], layers: Sequence[str]) -> list[int | None]:
    """Return for each channel which layer it is by its name, or None.

    A layer's name holds that of the channel as a word of its own: "case_0001 T1" is "T1", "case_0001 T1c" is not.
    Of several, the one counts whose other words are those of the channels found before: all come from one case. Where
    no name fits, endings like ``_0001`` count, as nnU-Net numbers channels.

    Examples
    --------
    >>> matched(["T1", "FLAIR"], ["case_2 flair", "case_1 FLAIR", "case_1 T1w"])
    [2, 1]
    """
    words = [_words(name) for name in layers]
    found: list[int | None] = []
    rest: frozenset[str] | None = None
    for number, channel in enumerate(channels):
        wanted = _words(channel)
        fits = [i for i, one in enumerate(words) if wanted and wanted <= one and i not in found]
        ending = f"{number:04d}"
        if not fits:
            fits = [i for i, name in enumerate(layers) if re.search(rf"_{ending}\b", name) and i not in found]
            wanted = frozenset([ending])
        fits.sort(key=lambda i: (rest is not None and words[i] - wanted != rest, len(words[i])))
        found.append(fits[0] if fits else None)
        if fits and rest is None:
            rest = words[fits[0]] - wanted
    return found


def _words(name: str) -> frozenset[str]:
    """Return the words of a name, sequences of MRI by one name each."""
    found = set(re.findall(r"[a-z0-9]+", name.casefold()))
    if found & _SAME[3]:
        # "T2 FLAIR" is no T2.
        found -= _SAME[2]
    for group in _SAME:
        if found & group:
            found = (found - group) | {min(group)}
    return frozenset(found)


class NameMatcher:
    """Chooses for each of several channels the layer that has its name, also of layers that are added later.

    A channel whose layer was chosen by hand stays as it is.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose layers are looked at.
    channels : sequence of str
        Names of the channels; one alone takes any layer.
    choosers : sequence of LayerChooser
        One for each.
    """

    def __init__(self, viewer: Any, channels: Sequence[str], choosers: Sequence[Any]) -> None:
        self._viewer, self._channels, self._choosers = plain(viewer), list(channels), list(choosers)
        self._by_hand: set[int] = set()
        self._listens = len(self._channels) > 1
        if self._listens:
            for number, chooser in enumerate(self._choosers):
                chooser.activated.connect(lambda _, n=number: self._by_hand.add(n))
            self._viewer.layers.events.inserted.connect(self.match)
            self.match()

    def match(self, event: Any = None) -> None:
        """Look at the names again."""
        layers = [one for one in reversed(self._viewer.layers) if layer_kind(one) == "image" and not is_preview(one)]
        found = matched(self._channels, [layer.name for layer in layers])
        try:
            for number, (chooser, index) in enumerate(zip(self._choosers, found, strict=True)):
                if index is not None and number not in self._by_hand:
                    chooser.choose(layers[index])
        except RuntimeError:
            # The dock is gone; the viewer still calls.
            self.close()

    def close(self) -> None:
        """Stop listening to the viewer."""
        if self._listens:
            self._viewer.layers.events.inserted.disconnect(self.match)
        self._listens = False
