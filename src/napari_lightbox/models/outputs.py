"""Outputs of models that were run elsewhere, on their image: labels, probabilities or logits, without the model."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from ..errors import InputError
from ..memory import free_memory
from ..progress import track
from ..volume import Label, Volume
from ._outputs_in import SLAB, Found, find, is_label_map
from .card import ACTIVATIONS, Card, OutputSpec
from .classes import Classes, read_classes
from .plan import human_bytes
from .predict import Prediction, find_value

_ROUNDING = 1e-3  # by which probabilities may leave 0 .. 1
_SUM = 0.02  # by which their sum may differ from 1: half precision, or bytes
_OVERSHOOT = 0.15  # that a cubic interpolation may have added to probabilities
_REST = "the background is what the other classes leave of 1"


@dataclass(frozen=True, eq=False)
class Outputs(Prediction):
    """What files hold of a model's answer, with the attributes of a `Prediction`."""

    @property
    def uncertainty(self) -> Volume:
        """Entropy of the classes over its largest possible value; only where there are probabilities."""
        if "uncertainty" not in self.volumes and not self.kept:
            raise InputError("labels hold no uncertainty: load the probabilities or logits that they were made of")
        if "uncertainty" not in self.volumes:
            raise InputError("the uncertainty was not kept: load the outputs with uncertainty=True")
        return self.volumes["uncertainty"]

    def probability(self, label: int | str) -> Volume:
        """Return the probability of a class, by its value or its name."""
        if not self.kept and "uncertainty" not in self.volumes:
            raise InputError("labels hold no probabilities: load those that they were made of")
        return super().probability(label)


@dataclass(frozen=True)
class _Meaning:
    """How the channels are read.

    Parameters
    ----------
    kind : {"labels", "regions"}
    function : {"softmax", "sigmoid"} or None
        What makes probabilities of the values; None where they are such.
    separate : bool
        Whether each class is there or not, whatever the others are.
    values : tuple of int
        Label value of every class, with a background that is added.
    background : bool
        Whether that is added: what the others leave of 1.
    """

    kind: str
    function: str | None
    separate: bool
    values: tuple[int, ...]
    background: bool = False


@dataclass(frozen=True)
class _Facts:
    """What the values are, over all channels."""

    low: float
    high: float
    sums: tuple[float, float]  # smallest and largest sum of a voxel's classes, voxels that have none apart
    empty: int  # voxels whose classes are all 0
    whole: bool


def read_outputs(
    path: str | os.PathLike | Sequence[str | os.PathLike] | Mapping[int, str | os.PathLike],
    like: Volume,
    classes: Any = None,
    *,
    activation: str | None = None,
    kind: str | None = None,
    axes: str | None = None,
    key: str | None = None,
    probabilities: str | int | Sequence[int | str] = "all",
    uncertainty: bool = True,
) -> Outputs:
    r"""Load labels, probabilities or logits that were made elsewhere onto their image.

    Nothing is interpolated: the files must have the voxels of the image, in whatever order they are stored. Arrays of
    numpy know no positions, so their voxels are taken in the image's order and checked by their shape.

    Values from 0 to 1 are probabilities, and those of classes that exclude each other must add up to 1. Other values
    are logits: softmax makes probabilities of them, or sigmoid where there is one class or classes overlap. Whole
    numbers without an axis of classes are labels.

    Parameters
    ----------
    path : path, list of paths, or mapping of int to path
        NIfTI, NRRD, MetaImage or picture with labels, with one class, or with the classes as fourth axis; an array
        ``(class, z, y, x)`` or ``(z, y, x)`` in .npz (as nnU-Net saves them; the .pkl beside it is not needed) or .npy;
        several files of one class each, in order of the classes (background first, if it is among them) or by value.
        A file that is given by value holds that class alone: a mask, a probability or logits.
    like : Volume
        The image; with frames, the outputs must have them too.
    classes : path, mapping or Card, optional
        Names of the classes: a ``dataset.json`` of nnU-Net, a ``card.json``, or ``{"1": "lung"}``. Where not given,
        names that the file carries, or ``dataset.json`` beside it.
    activation : {"softmax", "sigmoid", "none"}, optional
        ``"softmax"`` and ``"sigmoid"`` take the values as logits, ``"none"`` as probabilities; told by the values
        where not given.
    kind : {"labels", "regions"}, optional
        Regions may overlap and are written one over the other in the order of `classes`; labels unless `classes` says
        otherwise.
    axes : str, optional
        Axes of an array, a letter each, ``"czyx"`` where not given.
    key : str, optional
        Name of the array in an .npz with several.
    probabilities : "all", int, str or sequence of them
        Classes whose probabilities are kept. float32, 4 bytes a voxel and class.
    uncertainty : bool
        Whether the normalised entropy is kept.

    Returns
    -------
    Outputs
        ``.labels``, ``.probability(label)``, ``.uncertainty``: volumes on the grid of the image, as from `predict`;
        ``.notes`` says what was assumed.

    Raises
    ------
    FileError
        If a file is damaged, or could run code.
    GridError
        If a file lies on other voxels than the image.
    InputError
        If shapes, classes or values do not fit.

    Examples
    --------
    >>> import tempfile
    >>> image = Volume.from_array(np.zeros((2, 3, 4), np.int16), spacing=(1, 1, 1))
    >>> lung = np.linspace(0, 1, 24).reshape(2, 3, 4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder) / "case.npz", probabilities=np.stack([1 - lung, lung]))
    ...     found = read_outputs(Path(folder) / "case.npz", image, {"0": "background", "1": "lung"})
    >>> int(found.labels.data.sum()), float(found.probability("lung").data[-1, -1, -1])
    (12, 1.0)
    """
    _check_choices(like, activation, kind)
    found = find(path, like, axes, key)
    if found.name == like.name:
        found.name = "output"
    given = _classes_for(classes, path, found)
    kind = kind or given.kind or "labels"
    if not found.stacked and activation is None and is_label_map(found.channels[0]):
        return _label_map(found, given, like)
    facts = _facts(found)
    meaning = _meaning(found, given, facts, activation, kind)
    return _probabilities(found, given, like, meaning, probabilities, uncertainty)


def _check_choices(like: Any, activation: str | None, kind: str | None) -> None:
    if not isinstance(like, Volume):
        raise InputError(f"like must be the Volume of the image, not {type(like).__name__}: read it first")
    if activation not in (None, *ACTIVATIONS):
        raise InputError(f"activation {activation!r} is unknown: use one of {', '.join(ACTIVATIONS)}")
    if kind not in (None, "labels", "regions"):
        raise InputError(f"kind {kind!r} is unknown: use 'labels' or 'regions'")
    if kind == "regions" and activation == "softmax":
        raise InputError("activation 'softmax' does not suit regions, which may overlap: use 'sigmoid' or 'none'")


def _classes_for(classes: Any, path: Any, found: Found) -> Classes:
    """Return the names of classes that were given, that the files carry, or that lie beside them."""
    if classes is not None:
        given = read_classes(classes)
        return replace(given, labels={v: _coloured(label, found.labels.get(v)) for v, label in given.labels.items()})
    if found.labels:
        return Classes(dict(sorted(found.labels.items())))
    one = (
        path
        if isinstance(path, str | os.PathLike)
        else next(iter(path.values() if isinstance(path, Mapping) else path))
    )
    beside = Path(one).parent / "dataset.json"
    if not beside.is_file():
        return Classes()
    found.notes.append(f"classes are named as in {beside}")
    return read_classes(beside)


def _coloured(label: Label, carried: Label | None) -> Label:
    """Return a label with the colour that the file has for it, where it has none of its own."""
    return label if label.colour or carried is None else replace(label, colour=carried.colour)


# What the values are ----------------------------------------------------------------------------------------------


def _slabs(found: Found) -> Iterator[tuple[slice, np.ndarray]]:
    """Give all channels, (class, ...) float32, piece by piece along the first axis of the image."""
    shape = found.channels[0].shape
    thick = max(1, SLAB // max(1, len(found.channels) * math.prod(shape[1:])))
    for start in track(range(0, shape[0], thick), "slabs"):
        where = slice(start, min(shape[0], start + thick))
        yield where, np.stack([np.asarray(c[where], dtype=np.float32) for c in found.channels])


def _facts(found: Found) -> _Facts:
    low, high, least, most, empty, bad, whole = math.inf, -math.inf, math.inf, -math.inf, 0, 0, True
    for _, slab in _slabs(found):
        finite = np.isfinite(slab)
        if not finite.all():
            bad += int(slab.size - np.count_nonzero(finite))
            continue
        low, high = min(low, float(slab.min())), max(high, float(slab.max()))
        sums = slab.sum(axis=0, dtype=np.float64)
        none = ~slab.any(axis=0)
        empty += int(np.count_nonzero(none))
        least = min(least, float(np.where(none, np.inf, sums).min()))
        most = max(most, float(np.where(none, -np.inf, sums).max()))
        whole = whole and bool(np.array_equal(np.rint(slab), slab))
    if bad:
        raise InputError(
            f"{found.name} holds {bad} values that are NaN or infinite: save the outputs again, or replace them"
        )
    return _Facts(low, high, (least, most), empty, whole)


def _adds_up(facts: _Facts) -> bool:
    return facts.sums[0] > facts.sums[1] or (abs(facts.sums[0] - 1) <= _SUM and abs(facts.sums[1] - 1) <= _SUM)


def _meaning(found: Found, given: Classes, facts: _Facts, activation: str | None, kind: str) -> _Meaning:
    """Decide what the channels are; refuse what does not add up."""
    count = len(found.channels)
    within = facts.low >= -_ROUNDING and facts.high <= 1 + _ROUNDING
    overshot = not within and facts.low >= -_OVERSHOOT and facts.high <= 1 + _OVERSHOOT and _adds_up(facts)
    span = f"values from {facts.low:.4g} to {facts.high:.4g}"
    if facts.whole and facts.high > 1:
        raise InputError(
            f"{found.name} holds whole numbers ({span}) for each class: save probabilities as numbers from 0 to 1"
        )
    if activation == "softmax" and count == 1:
        raise InputError(f"{found.name} holds one class, of which softmax would make 1 everywhere: choose 'sigmoid'")
    separate = kind == "regions" or count == 1 or given.activation == "sigmoid"
    if activation == "none" and not (within or overshot):
        raise InputError(f"{found.name} holds {span}, which are no probabilities: choose 'softmax' or 'sigmoid'")
    if activation is None and not (within or overshot):
        activation = "sigmoid" if separate else "softmax"
        found.notes.append(f"{span} were taken as logits: {activation} makes probabilities of them")
    logits = activation in ("softmax", "sigmoid")
    if logits and within:
        found.notes.append(f"{span} may be probabilities already, but {activation} was applied as asked for")
    if overshot and not logits:
        found.notes.append(f"{span} were cut to 0 .. 1: interpolation had made them leave it")
    separate = separate or activation == "sigmoid"
    values, background = _values(found, given, separate, logits, facts)
    if not (logits or separate or background):
        _require_sums(found, facts)
    return _Meaning(kind, activation if logits else None, separate, (0, *values) if background else values, background)


def _values(found: Found, given: Classes, separate: bool, logits: bool, facts: _Facts) -> tuple[tuple[int, ...], bool]:
    """Return the label value of every class, and whether the background has to be added."""
    count, named = len(found.channels), given.foreground
    unnamed = [] if found.values is None or not named else [v for v in found.values if v not in (0, *named)]
    if found.values is not None and (found.given or not unnamed):
        values = found.values
        if unnamed:
            found.notes.append(f"values without a name: {', '.join(map(str, unnamed[:8]))}")
        if separate:
            return values, False
        if logits and 0 not in values:
            raise InputError(
                f"{found.name} holds logits of the classes {', '.join(map(str, values))} and none of the background: "
                "give that as 0 too, or activation='sigmoid' if each class was told from the rest by itself"
            )
        if not logits and 0 not in values:
            if facts.sums[1] > 1 + _SUM:
                _require_sums(found, facts)
            found.notes.append(_REST)
            return values, True
        return values, False
    if not named:
        if separate:
            return tuple(range(1, count + 1)), False
        return tuple(range(count)), False
    if separate:
        expected, added = named, named
    else:
        expected, added = tuple(range(max(named) + 1)), named
    if count == len(expected):
        return expected, False
    if not separate and count == len(added) and not logits and facts.sums[1] <= 1 + _SUM:
        found.notes.append(_REST)
        return added, True
    names = ", ".join(given.labels.get(v, Label("background")).name for v in expected)
    raise InputError(
        f"{found.name} has {count} classes, but {len(expected)} are named ({names}): give the names of the classes of "
        "this output"
    )


def _require_sums(found: Found, facts: _Facts) -> None:
    if not _adds_up(facts):
        raise InputError(
            f"{found.name} holds probabilities whose sums go from {facts.sums[0]:.3g} to {facts.sums[1]:.3g}, not 1: "
            "choose kind='regions' if classes may overlap, or save all classes with the background"
        )
    if facts.empty:
        found.notes.append(f"{facts.empty} voxels have no class at all (all 0) and were taken as the first one")


# What they become -------------------------------------------------------------------------------------------------


def _label_map(found: Found, given: Classes, like: Volume) -> Outputs:
    """Wrap labels."""
    data = found.channels[0]
    if found.given:
        data = data * np.uint16(found.values[0])
    low, high = int(data.min()), int(data.max())
    if low < 0 or high > 65535:
        raise InputError(
            f"{found.name} holds labels from {low} to {high}: they must be whole numbers from 0 to 65535, or be given "
            "an axis of classes if they are logits"
        )
    labels = np.array(data, dtype=np.uint8 if high <= 255 else np.uint16, order="C")
    present = [v for v in np.flatnonzero(np.bincount(labels.ravel(), minlength=1)).tolist() if v]
    unnamed = [v for v in present if v not in given.labels]
    if given.labels and unnamed:
        found.notes.append(f"values without a name: {', '.join(map(str, unnamed[:8]))}")
    names = {v: given.labels[v] for v in given.foreground} | {v: Label(f"class {v}") for v in unnamed}
    spec = OutputSpec("labels", "none", dict(sorted(names.items())))
    card = Card(name=given.name or found.name, output=spec)
    volume = Volume(
        labels, like.grid, "labels", f"{like.name} · {card.name}", dict(spec.labels), _meta(like, found), found.history
    )
    return Outputs(card, {"labels": volume}, tuple(spec.labels), tuple(found.notes))


def _meta(like: Volume, found: Found) -> dict[str, Any]:
    return {**{k: v for k, v in like.meta.items() if k not in ("unit", "windows", "notes")}, "outputs": found.name}


def _probabilities(
    found: Found, given: Classes, like: Volume, meaning: _Meaning, wanted: Any, uncertainty: bool
) -> Outputs:
    """Turn the channels into labels, probabilities and uncertainty."""
    values = meaning.values
    named = {v: label for v, label in given.labels.items() if v in values}
    for v in values:
        named.setdefault(v, Label("background" if v == 0 else f"class {v}"))
    spec = OutputSpec(meaning.kind, "sigmoid" if meaning.separate else "softmax", named)
    card = Card(name=given.name or found.name, output=spec)
    asked = values if wanted == "all" else (wanted,) if isinstance(wanted, int | str) else wanted
    kept = list(dict.fromkeys(find_value(one, values, card) for one in asked))
    shape = like.grid.shape
    _require_memory(found, shape, len(kept) + uncertainty)
    labels = np.zeros(shape, np.uint8 if max(values) <= 255 else np.uint16)
    arrays = {v: np.zeros(shape, np.float32) for v in kept}
    entropy = np.zeros(shape, np.float32) if uncertainty else None
    for where, slab in _slabs(found):
        p = _activated(slab, meaning)
        labels[where] = _decided(p, meaning)
        for v, array in arrays.items():
            array[where] = p[values.index(v)]
        if entropy is not None:
            entropy[where] = _entropy(p, meaning.separate)
    return _wrapped(found, like, card, meaning, labels, arrays, entropy)


def _require_memory(found: Found, shape: tuple[int, ...], count: int) -> None:
    needed, free = (4 * count + 2) * math.prod(shape), free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"{found.name} needs about {human_bytes(needed)} of memory and {human_bytes(free)} are free: keep fewer "
            "probabilities"
        )


def _activated(slab: np.ndarray, meaning: _Meaning) -> np.ndarray:
    """Return probabilities (class, ...)."""
    if meaning.function == "sigmoid":
        return expit(slab)
    if meaning.function == "softmax":
        e = np.exp(slab - slab.max(axis=0, keepdims=True))
        return e / e.sum(axis=0, keepdims=True)
    if meaning.background:
        slab = np.concatenate([1 - slab.sum(axis=0, keepdims=True), slab])
    return np.clip(slab, 0, 1)


def _decided(p: np.ndarray, meaning: _Meaning) -> np.ndarray:
    """Return the likeliest class, or of separate ones those that are likelier than not."""
    values = np.array(meaning.values)
    if meaning.kind == "regions":
        result = np.zeros(p.shape[1:], np.int32)
        for channel, value in enumerate(meaning.values):
            result[p[channel] > 0.5] = value
        return result
    found = values[p.argmax(axis=0)]
    return np.where(p.max(axis=0) > 0.5, found, 0) if meaning.separate else found


def _entropy(p: np.ndarray, separate: bool) -> np.ndarray:
    """Return Shannon's entropy over its largest possible value; of separate classes, the largest of their own."""

    def term(q: np.ndarray) -> np.ndarray:
        return np.where(q > 0, -q * np.log(np.maximum(q, 1e-38)), 0)

    if separate:
        return np.clip((term(p) + term(1 - p)).max(axis=0) / math.log(2), 0, 1)
    return np.clip(term(p).sum(axis=0) / math.log(p.shape[0]), 0, 1)


def _wrapped(
    found: Found, like: Volume, card: Card, meaning: _Meaning, labels: np.ndarray, arrays: dict, entropy: Any
) -> Outputs:
    meta = _meta(like, found)
    bare = {k: v for k, v in meta.items() if k != "modality"}
    base, label = f"{like.name} · {card.name}", card.output.label
    names = {v: label(v) for v in meaning.values if v}
    volumes: dict[Any, Volume] = {"labels": Volume(labels, like.grid, "labels", base, names, meta)}
    for v, data in arrays.items():
        name = f"{base} p({label(v).name})"
        volumes[v] = Volume(data, like.grid, "probability", name, {v: label(v)}, bare)
    if entropy is not None:
        volumes["uncertainty"] = Volume(entropy, like.grid, "probability", f"{base} uncertainty", meta=bare)
    return Outputs(card, volumes, meaning.values, tuple(found.notes))
