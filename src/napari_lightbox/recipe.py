"""The steps that made a volume, saved as JSON and run again without a viewer.

A recipe is a list of steps. Each names an operation of the catalogue (or ``predict``), all of its parameters, and the
further volumes it used, by name.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .apply import apply, plain
from .catalogue import operation
from .errors import FileError, InputError
from .io._atomic import replacing
from .progress import track
from .volume import KINDS, Volume

_FORMAT = 1
# How the viewer records that voxels were painted.
_BY_HAND = "manual edit"
# Steps that models leave, which no row of the catalogue stands for.
_OF_MODELS = ("predict", "postprocess", "attribute", "features", "kernels", "receptive_field")
_LOOKED = ("features", "kernels", "receptive_field")


@dataclass(frozen=True)
class Step:
    """One step of a recipe.

    Parameters
    ----------
    operation : str
        Name in the catalogue, or of what a model does: ``"predict"``, ``"postprocess"``, ``"attribute"``,
        ``"features"``, ``"kernels"`` or ``"receptive_field"``.
    parameters : mapping
        All parameters, as plain values. A further volume is written as ``{"volume": name, "kind": ..., "grid": ...}``.
    plane : str or int, optional
        Plane the operation ran in, slice by slice.
    record : mapping
        What else was written down: names of the inputs, grid, version.
    """

    operation: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    plane: str | int | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Step":
        """Make a step from a dict of a volume's history or of a file."""
        if not isinstance(values, Mapping) or not isinstance(values.get("operation"), str):
            raise InputError(f"step {values!r} names no operation")
        if not isinstance(values.get("parameters", {}), Mapping):
            raise InputError(f"parameters of step {values['operation']!r} must be names with values")
        known = {k: values[k] for k in ("operation", "parameters", "plane") if k in values}
        return cls(**known, record={k: v for k, v in values.items() if k not in known})

    def as_dict(self) -> dict:
        """Return plain values, as they stand in a history."""
        known = {"operation": self.operation, "parameters": self.parameters, "plane": self.plane}
        return plain({**known, **self.record})

    @property
    def volumes(self) -> tuple[str, ...]:
        """Names of the further volumes the step needs, in the order of its arguments."""
        return tuple(str(v["volume"]) for v in self.parameters.values() if isinstance(v, Mapping) and "volume" in v)

    def made(self, done: Mapping[str, Any]) -> bool:
        """Whether a step of a history is this one: the same operation with the same choices.

        Further volumes count as the same, since each case may bring its own.
        """
        try:
            other = Step.from_dict(done)
            wanted, planes = self.parameters, False
            if self.operation not in _OF_MODELS:
                row = operation(self.operation)
                wanted, planes = row.complete(self.parameters), row.planes
        except InputError:
            return False
        # What was left to the operation, beside what it then chose.
        asked = other.record.get("asked") or {}
        names = {k for k in wanted if k in other.parameters} if self.operation in _OF_MODELS else set(wanted)
        weights = [(s.record.get("model") or {}).get("sha256") for s in (self, other)]
        return (
            self.operation == other.operation
            and (self.plane == other.plane or (self.plane is None and planes))
            and (not all(weights) or weights[0] == weights[1])
            and all(
                _same(wanted[name], other.parameters.get(name)) or (name in asked and _same(wanted[name], asked[name]))
                for name in names
            )
        )

    def role(self, name: str) -> str:
        """Return what a further volume is to the step: ``"image"``, ``"labels"`` or ``"volume"``."""
        if self.operation == "predict" or self.operation in _LOOKED:
            return "image"
        if self.operation == "attribute":
            asked = next(k for k, v in self.parameters.items() if isinstance(v, Mapping) and v.get("volume") == name)
            return "labels" if asked == "region" else "image"
        roles = {p.name: p.role for p in operation(self.operation).parameters}
        argument, value = next(
            (argument, v)
            for argument, v in self.parameters.items()
            if isinstance(v, Mapping) and str(v.get("volume")) == name
        )
        # What the operation takes, and where that may be either, what it was given.
        role = roles.get(argument, "volume")
        return "labels" if role == "volume" and value.get("kind") == "labels" else role

    @property
    def kind(self) -> str | None:
        """What the step works on, ``"labels"`` or another kind of volume; None where nobody knows."""
        if self.operation in (_BY_HAND, "predict", "attribute", *_LOOKED):
            return None
        if self.operation == "postprocess":
            return "labels"
        if operation(self.operation).input.role == "labels":
            return "labels"
        found = self.record.get("kind")
        return found if found in KINDS else None


@dataclass(frozen=True)
class Recipe:
    """Steps to run one after the other, each on the result of the one before.

    Parameters
    ----------
    steps : tuple of Step
        The steps, first one first.

    Examples
    --------
    >>> import numpy as np
    >>> volume = Volume.from_array(np.eye(8, dtype=np.int16)[None])
    >>> result = apply("median", volume, size=3)
    >>> again = Recipe.of(result).run(volume)
    >>> bool((again.data == result.data).all())
    True
    """

    steps: tuple[Step, ...]

    @classmethod
    def of(cls, volume: Volume) -> "Recipe":
        """Return the recipe that made `volume`: its history."""
        return cls(tuple(Step.from_dict(s) for s in volume.history))

    def save(self, path: str | os.PathLike) -> Path:
        """Write the recipe as JSON, in one go: a file that was there stays whole if it fails."""
        path = Path(path)
        text = json.dumps({"lightbox_recipe": _FORMAT, "steps": [s.as_dict() for s in self.steps]}, indent=2)
        with replacing(path) as file:
            file.write(f"{text}\n".encode())
        return path

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Recipe":
        """Read a recipe.

        Raises
        ------
        FileError
            If the file is missing or is not a recipe.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise FileError(f"recipe {path} cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise FileError(f"{path} is not a recipe, it is no text: give the .json that was saved as one") from error
        except ValueError as error:
            raise FileError(f"recipe {path} is not JSON: {error}") from error
        if not isinstance(content, dict) or not isinstance(content.get("steps"), list):
            raise FileError(f"{path} is not a recipe: it has no list of steps")
        if content.get("lightbox_recipe") != _FORMAT:
            raise FileError(
                f"recipe {path} has format {content.get('lightbox_recipe')!r}: this version reads {_FORMAT}"
            )
        return cls(tuple(Step.from_dict(s) for s in content["steps"]))

    def run(self, volume: Volume, *others: Volume, inputs: Mapping[str, Volume] | None = None) -> Volume:
        """Run all steps on `volume`.

        Parameters
        ----------
        volume : Volume
            What the first step works on.
        *others : Volume
            The further volumes the steps ask for, in the order in which they are first asked for. They are taken as
            given: steps that made those of the recording are written down with them, but not run again.
        inputs : mapping of str to Volume, optional
            The same by the name that the recipe uses.

        Returns
        -------
        Volume
            Result of the last step.

        Raises
        ------
        InputError
            If a step is unknown or was done by hand, a volume it needs is not given, or one name stands for volumes
            that differ.
        """
        self._check()
        found = self._find_inputs(others, dict(inputs or {}))
        for step in track(self.steps, "steps"):
            volume = _run_step(step, volume, found)
        return volume

    def made(self, steps: Sequence[Mapping[str, Any]]) -> bool:
        """Whether `steps`, of a volume's history, are those of the recipe.

        Examples
        --------
        >>> import numpy as np
        >>> result = apply("median", Volume.from_array(np.eye(8, dtype=np.int16)[None]), size=3)
        >>> Recipe((Step("median", {"size": 3}),)).made(result.history)
        True
        """
        return len(steps) == len(self.steps) and all(a.made(b) for a, b in zip(self.steps, steps, strict=True))

    @property
    def kind(self) -> str | None:
        """What the first step works on: ``"labels"`` or another kind of volume; None where nobody knows."""
        return self.steps[0].kind if self.steps else None

    @property
    def inputs(self) -> dict[str, str]:
        """Names of the further volumes, in the order in which they are first asked for, and what each is.

        ``"labels"`` where a step takes it as labels; ``"image"`` or ``"volume"`` otherwise.
        """
        roles: dict[str, str] = {}
        for step in self.steps:
            for name in step.volumes:
                if roles.get(name) != "labels":
                    roles[name] = step.role(name)
        return roles

    def _find_inputs(self, others: tuple[Volume, ...], inputs: dict[str, Volume]) -> dict[str, Volume]:
        wanted = [name for name in self.inputs if name not in inputs]
        if len(others) != len(wanted):
            names = ", ".join(repr(n) for n in wanted) or "none"
            raise InputError(f"the recipe needs {len(wanted)} further volumes ({names}), {len(others)} are given")
        return {**inputs, **dict(zip(wanted, others, strict=True))}

    def _check(self) -> None:
        """Refuse, before the first step runs, steps that cannot, and one name for volumes that lay on other grids."""
        for number, step in enumerate(self.steps, start=1):
            if step.operation == _BY_HAND:
                raise InputError(
                    f"step {number} of the recipe was done by hand, which cannot be run again: take the step out of "
                    "the recipe, or go on from a file with the edited volume"
                )
            if step.operation not in _OF_MODELS:
                operation(step.operation)
        grids: dict[str, Any] = {}
        for value in (v for step in self.steps for v in step.parameters.values()):
            if isinstance(value, Mapping) and "volume" in value and value.get("grid") is not None:
                name, grid = str(value["volume"]), plain(value["grid"])
                if grids.setdefault(name, grid) != grid:
                    raise InputError(
                        f"the recipe calls two different volumes {name!r}: give them names of their own in its file"
                    )


def _same(wanted: Any, recorded: Any) -> bool:
    """Whether two values of a parameter are the same once they are written down."""
    wanted, recorded = plain(wanted), plain(recorded)
    if isinstance(wanted, Mapping) and isinstance(recorded, Mapping) and "volume" in wanted:
        return "volume" in recorded
    if isinstance(wanted, list) and isinstance(recorded, list) and wanted and not isinstance(wanted[0], list):
        # One point may be given as it is, or as the only row.
        return recorded in (wanted, [wanted])
    return wanted == recorded


def _run_step(step: Step, volume: Volume, inputs: Mapping[str, Volume]) -> Volume:
    values = {
        name: inputs[str(value["volume"])] if isinstance(value, Mapping) and "volume" in value else value
        for name, value in step.parameters.items()
    }
    if step.operation == "predict":
        from .models.predict import replay

        return replay(step.as_dict(), volume, values)
    if step.operation == "attribute":
        from .models import explain

        return explain.replay(step.as_dict(), volume, values)
    if step.operation in _LOOKED:
        from .models import looked

        return looked.replay(step.as_dict(), volume, values)
    if step.operation == "postprocess":
        from .models import post

        return post.replay(volume, values)
    return apply(step.operation, volume, plane=step.plane, **values)
