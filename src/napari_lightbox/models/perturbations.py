"""The table of perturbations: which operation makes each, which parameter is its strength, and what to try first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..apply import apply
from ..errors import InputError
from ..ops import _check
from ..volume import Volume

_SAMPLE = 64


@dataclass(frozen=True)
class Perturbation:
    """One row of the table.

    Parameters
    ----------
    name, title : str
        ``"gaussian_noise"``; "Gaussian noise".
    operation : str
        Of the catalogue, which makes it.
    unit : str
        Of the strength, for people.
    suggest : callable
        From an image, strengths to try, without the one that changes nothing.
    parameters : callable
        From an image and a strength, the parameters of the operation, without the seed.
    nothing : float
        Strength that leaves the image as it is.
    seeded : bool
        Whether chance plays a part, so that repeating with other seeds makes sense.
    moves : bool
        Whether the contents move, so that the reference has to move along.
    whole : bool
        Whether strengths are whole numbers.
    """

    name: str
    title: str
    operation: str
    unit: str
    suggest: Callable[[Volume], Sequence[float]]
    parameters: Callable[[Volume, float], Mapping[str, Any]]
    nothing: float = 0.0
    seeded: bool = False
    moves: bool = False
    whole: bool = False

    def unit_of(self, volume: Volume) -> str:
        """Return the unit of the strength, with that of the image's values where these are known.

        Examples
        --------
        >>> volume = Volume.from_array(np.zeros((2, 3, 4)), meta={"unit": "HU"})
        >>> PERTURBATIONS["poisson_noise"].unit_of(volume), PERTURBATIONS["blur"].unit_of(volume)
        ('HU per count', 'mm')
        """
        known = str(volume.meta.get("unit") or "values")
        return known + self.unit.removeprefix("values") if self.unit.startswith("values") else self.unit

    def strengths(self, volume: Volume) -> tuple[float, ...]:
        """Return the strengths that are tried where none are given, beginning with that of nothing.

        Examples
        --------
        >>> volume = Volume.from_array(np.tile(np.arange(101), (4, 8, 1)), spacing=(1, 1, 1))
        >>> PERTURBATIONS["gaussian_noise"].strengths(volume)
        (0.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0)
        """
        found = [float(f"{s:.2g}") for s in self.suggest(volume)]
        return tuple(dict.fromkeys((self.nothing, *found)))


def contrast(volume: Volume) -> float:
    """Return the distance between the 0.5th and the 99.5th percentile of an image, from voxels all over it; 1 if 0."""
    data = volume.data if isinstance(volume.data, np.ndarray) else np.asarray(volume.frame(0).data)
    values = np.asarray(data[tuple(slice(None, None, max(1, n // _SAMPLE)) for n in data.shape)], float)
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, (0.5, 99.5)) if values.size else (0.0, 0.0)
    return float(high - low) or 1.0


def _of_contrast(*shares: float, power: int = 1, factor: float = 1.0) -> Callable[[Volume], list[float]]:
    return lambda volume: [factor * s**power * contrast(volume) for s in shares]


def _fixed(*values: float) -> Callable[[Volume], tuple[float, ...]]:
    return lambda volume: values


def _of_spacing(axis: int | None, *factors: float) -> Callable[[Volume], list[float]]:
    def suggest(volume: Volume) -> list[float]:
        grid = volume.grid
        lengths = [s for s, n in zip(grid.spacing, grid.spatial_shape, strict=True) if n > 1] or [1.0]
        step = min(lengths) if axis is None else grid.spacing[axis]
        return [f * step for f in factors]

    return suggest


def _of_slices(volume: Volume) -> list[int]:
    count = volume.grid.spatial_shape[0]
    return sorted({max(1, round(share * count)) for share in (0.02, 0.05, 0.1, 0.2, 0.4)} - {count})


def _single(volume: Volume) -> int:
    """Return the world axis (z, y, x) that a one-slice volume is flat along; z for all others."""
    shape = volume.grid.spatial_shape
    return int(np.argmax(np.abs(volume.grid.direction[:, shape.index(1)]))) if 1 in shape else 0


def _turned(volume: Volume, degrees: float) -> dict:
    return {"rotate": tuple(degrees if axis == _single(volume) else 0.0 for axis in range(3))}


def _scaled(volume: Volume, factor: float) -> dict:
    flat = _single(volume) if 1 in volume.grid.spatial_shape else None
    return {"scale": tuple(1.0 if axis == flat else factor for axis in range(3))}


def _wave(volume: Volume, amplitude: float) -> dict:
    # Eight voxels a cycle: coarse enough to look like anatomy, fine enough to be seen as stripes.
    return {"amplitude": amplitude, "frequency": float(f"{0.125 / volume.grid.spacing[2]:.4g}"), "angle": 30.0}


def _named(parameter: str) -> Callable[[Volume, float], dict]:
    return lambda volume, strength: {parameter: strength}


_SHARES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
_VALUES, _FACTORS = "values", (1.1, 1.25, 1.5, 2.0, 3.0)
_ROWS = (
    Perturbation("gaussian_noise", "Gaussian noise", "gaussian_noise", _VALUES, _of_contrast(*_SHARES),
                 _named("sigma"), seeded=True),
    Perturbation("rician_noise", "Rician noise", "rician_noise", _VALUES, _of_contrast(*_SHARES), _named("sigma"),
                 seeded=True),
    # Noise of these shares where the signal is half the contrast.
    Perturbation("poisson_noise", "Poisson noise", "poisson_noise", "values per count",
                 _of_contrast(*_SHARES, power=2, factor=2.0), _named("gain"), seeded=True),
    Perturbation("salt_and_pepper", "Salt and pepper", "salt_and_pepper", "share",
                 _fixed(0.01, 0.03, 0.1, 0.2, 0.4), _named("amount"), seeded=True),
    Perturbation("periodic_noise", "Periodic noise", "periodic_noise", _VALUES, _of_contrast(*_SHARES), _wave),
    Perturbation("blur", "Blur", "gaussian", "mm", _of_spacing(None, 1, 2, 4, 8, 16), _named("sigma")),
    Perturbation("bias_field", "Bias field", "bias_field", "share", _fixed(0.1, 0.2, 0.4, 0.6, 0.8),
                 _named("strength"), seeded=True),
    Perturbation("intensity_shift", "Intensity shift", "intensity", _VALUES, _of_contrast(*_SHARES), _named("shift")),
    Perturbation("intensity_scale", "Intensity scale", "intensity", "factor", _fixed(*_FACTORS), _named("scale"),
                 nothing=1.0),
    Perturbation("gamma", "Gamma", "intensity", "exponent", _fixed(*_FACTORS), _named("gamma"), nothing=1.0),
    Perturbation("rotation", "Rotation", "affine", "degrees", _fixed(5, 10, 20, 30, 45), _turned, moves=True),
    Perturbation("scaling", "Scaling", "affine", "factor", _fixed(1.1, 1.2, 1.35, 1.5, 2.0), _scaled, nothing=1.0,
                 moves=True),
    Perturbation("thick_slices", "Thick slices", "thick_slices", "mm", _of_spacing(0, 2, 3, 4, 6, 8),
                 _named("thickness")),
    Perturbation("missing_slices", "Missing slices", "missing_slices", "slices", _of_slices, _named("count"),
                 seeded=True, whole=True),
    Perturbation("motion_ghost", "Motion ghost", "motion_ghost", "mm", _of_spacing(1, 0.25, 0.5, 1, 2, 4),
                 _named("amplitude")),
)  # fmt: skip

PERTURBATIONS: Mapping[str, Perturbation] = {row.name: row for row in _ROWS}


def perturbation_of(name: str) -> Perturbation:
    """Return the row of that name, or say which there are."""
    if name not in PERTURBATIONS:
        raise InputError(f"perturbation {name!r} is unknown: use one of {', '.join(PERTURBATIONS)}")
    return PERTURBATIONS[name]


def perturbed(
    volume: Volume,
    perturbation: str,
    strength: float,
    *,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    like: Volume | None = None,
) -> Volume:
    """Perturb an image; or move its labels along, where the perturbation moves what is in it.

    Parameters
    ----------
    volume : Volume
        An image, a probability, or labels, which only a rotation and a scaling change (nearest voxel).
    perturbation : str
        A name of `PERTURBATIONS`.
    strength : float
        In the unit of the perturbation; that of nothing gives the volume as it is.
    seed : int
        Where chance plays a part.
    options : mapping, optional
        Further parameters of the operation: ``{"across": "axial"}``, ``{"fill": "interpolated"}``.
    like : Volume, optional
        The image whose grid decides what the options are where not given; the volume itself otherwise.

    Returns
    -------
    Volume
        On the same grid, with the step in its history.

    Raises
    ------
    InputError
        If the perturbation is unknown, or the strength is none that it takes.

    Examples
    --------
    >>> volume = Volume.from_array(np.full((2, 3, 4), 100), spacing=(1, 1, 1))
    >>> perturbed(volume, "intensity_shift", 5).data.max().item()
    105
    """
    row = perturbation_of(perturbation)
    strength = _check.whole(strength, "strength", 0) if row.whole else _check.number(strength, "strength")
    if strength == row.nothing or (volume.kind == "labels" and not row.moves):
        return volume
    parameters = {**row.parameters(volume if like is None else like, strength), **(options or {})}
    if row.seeded:
        parameters["seed"] = seed
    return apply(row.operation, volume, **parameters)


def read_options(texts: Sequence[str], name: str = "options") -> dict[str, Any]:
    """Read further parameters as a person types them.

    Parameters
    ----------
    texts : sequence of str
        ``"across=axial"``, ``"frequency=0.2"``: whole numbers, numbers, or words.
    name : str
        Of the argument, for the error.

    Raises
    ------
    InputError
        If one is not written so.

    Examples
    --------
    >>> read_options(["across=axial", "frequency=0.2", "order=2"])
    {'across': 'axial', 'frequency': 0.2, 'order': 2}
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, _, value = (part.strip() for part in text.partition("="))
        if not (key and value):
            raise InputError(f"{name} {text!r} must be NAME=VALUE, such as across=axial")
        try:
            found[key] = int(value) if value.lstrip("-").isdigit() else float(value)
        except ValueError:
            found[key] = value
    return found
