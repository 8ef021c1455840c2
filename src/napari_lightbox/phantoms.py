"""Phantoms with exact truth: a CT-like thorax, a heart that beats, an ultrasound-like fetal head.

They are drawn from analytic shapes in patient millimetres (`phantoms_anatomy`), so that the truth is known at every
voxel of any grid. What ``sample_data/`` holds is made here, voxel for voxel.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from .errors import InputError
from .geometry import Frames, Grid
from .phantoms_anatomy import BODY, BONE, HEART, LEFT_LUNG, LESION, LIVER, RIGHT_LUNG, VERTEBRAE, Anatomy, Person
from .phantoms_random import REGIONS, random_thorax, regions
from .phantoms_shapes import render
from .progress import track
from .volume import Label, Volume

__all__ = [
    "LABELS",
    "REGIONS",
    "SAMPLES",
    "Sample",
    "beating_heart",
    "oblique_thorax",
    "periodic_noise",
    "random_thorax",
    "regions",
    "salt_and_pepper",
    "sample_path",
    "thorax",
    "ultrasound_head",
    "write_samples",
]

LABELS = {
    BODY: Label("body", "#9e9e9e"),
    LEFT_LUNG: Label("left lung", "#4fc3f7"),
    RIGHT_LUNG: Label("right lung", "#80deea"),
    HEART: Label("heart", "#ef5350"),
    LIVER: Label("liver", "#a1662f"),
    VERTEBRAE: Label("vertebrae", "#fff59d"),
    BONE: Label("other bone", "#e0d8c0"),
    LESION: Label("lesion", "#e040fb"),
}
_CT_META = {
    "modality": "CT",
    "unit": "HU",
    "windows": [
        {"name": "soft tissue", "centre": 40, "width": 400},
        {"name": "lung", "centre": -600, "width": 1500},
        {"name": "bone", "centre": 400, "width": 1800},
    ],
    "spacing_known": True,
    "orientation_known": True,
}


def thorax(
    grid: Grid | None = None, *, seed: int = 7, noise: float = 14.0, contrast: bool = True, lesions: int = 2
) -> tuple[Volume, Volume]:
    """Draw a CT-like thorax with exact truth.

    Parameters
    ----------
    grid : Grid, optional
        Where the voxels lie in the patient, LPS mm, without frames; z = 0 is the middle of the chest, and the trunk
        reaches from the thighs (-520) to the neck (260). By default 64 x 96 x 96 voxels of 4 mm over the chest.
    seed : int
        Of the person, the texture and the noise.
    noise : float
        Standard deviation of the noise, HU.
    contrast : bool
        Whether the blood holds contrast agent.
    lesions : int
        Nodules in the right lung; the left one gets one fewer.

    Returns
    -------
    image : Volume
        HU, int16.
    labels : Volume
        uint8 of the same grid; `LABELS` says what the values mean. A voxel belongs to what its centre lies in.

    Raises
    ------
    InputError
        If the grid has frames, or `noise` is negative.

    Examples
    --------
    >>> image, labels = thorax(Grid.from_spacing((16, 16, 16), (12, 22, 22), (-90, -170, -170)))
    >>> image.data.dtype, [labels.labels[v].name for v in np.unique(labels.data) if v][:3]
    (dtype('int16'), ['body', 'left lung', 'right lung'])
    """
    if grid is None:
        grid = Grid.from_spacing((4.0, 4.0, 4.0), (64, 96, 96), (-128.0, -182.0, -190.0))
    _check(grid, noise)
    anatomy = Anatomy(_sample_person(seed, contrast, lesions))
    image, truth = render(anatomy.parts(), grid, np.random.default_rng([seed, 1]), bend=2.0)
    return _as_ct(image, truth, grid, np.random.default_rng([seed, 2]), noise, "thorax")


def oblique_thorax(seed: int = 7, noise: float = 14.0) -> tuple[Volume, Volume]:
    """Draw the same thorax on a tilted, anisotropic grid (5 x 3.5 x 3.5 mm); see `thorax`."""
    turn = np.eye(3)
    for axes, degrees in (((0, 1), 11.0), ((0, 2), -7.0), ((1, 2), 14.0)):
        step, angle = np.eye(3), np.radians(degrees)
        step[np.ix_(axes, axes)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        turn = turn @ step
    shape, spacing = (48, 96, 108), np.array([5.0, 3.5, 3.5])
    centre = np.array([0.0, 8.0, 0.0])
    origin = centre - (turn * spacing) @ ((np.array(shape) - 1) / 2)
    image, labels = thorax(Grid.from_spacing(spacing, shape, origin, turn), seed=seed, noise=noise)
    return image.replace(name="thorax oblique"), labels.replace(name="thorax oblique labels")


def beating_heart(
    frames: int = 8, grid: Grid | None = None, *, period: float = 0.8, amplitude: float = 0.09, seed: int = 7
) -> tuple[Volume, Volume]:
    """Draw a thorax whose heart beats: its size follows a cosine over one period, largest at the first frame.

    Parameters
    ----------
    frames : int
        Moments of one beat, evenly apart; the frame axis is time in s.
    grid : Grid, optional
        Without frames. By default 26 x 44 x 64 voxels of 8 x 6 x 6 mm.
    period : float
        Length of a beat, s.
    amplitude : float
        Share by which the heart's radii grow and shrink.
    seed : int
        As in `thorax`.

    Returns
    -------
    image, labels : Volume
        4D, as in `thorax`.
    """
    if frames < 1 or not period > 0 or not 0 <= amplitude < 0.3:
        raise InputError(
            f"frames {frames} must be at least 1, period {period} s above 0 and amplitude {amplitude} from 0 to 0.3"
        )
    if grid is None:
        grid = Grid.from_spacing((8.0, 6.0, 6.0), (26, 44, 64), (-116.0, -122.0, -189.0))
    _check(grid, 0.0)
    anatomy = Anatomy(_sample_person(seed, True, 1))
    times = [period * frame / frames for frame in range(frames)]
    grains = np.random.default_rng([seed, 2])
    images, truths = [], []
    for time in track(times, "frames"):
        scale = 1 + amplitude * np.cos(2 * np.pi * time / period)
        image, truth = render(anatomy.parts(scale), grid, np.random.default_rng([seed, 1]), bend=2.0)
        drawn = _as_ct(image, truth, grid, grains, 10.0, "")
        images.append(drawn[0].data)
        truths.append(drawn[1].data)
    moving = grid.with_frames(Frames("time", tuple(times), "s"))
    image = Volume(np.stack(images), moving, name="beating heart", meta=_CT_META)
    meta = {key: _CT_META[key] for key in ("spacing_known", "orientation_known")}
    return image, Volume(np.stack(truths), moving, "labels", "beating heart labels", LABELS, meta)


def salt_and_pepper(volume: Volume, fraction: float = 0.05, seed: int = 0) -> Volume:
    """Replace a share of the voxels by the volume's smallest or largest value, half and half at random.

    Parameters
    ----------
    volume : Volume
        An image; it stays as it is.
    fraction : float
        Share of the voxels, 0 to 1.
    seed : int
        Of the choice.
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"fraction {fraction} must lie between 0 and 1")
    rng = np.random.default_rng(seed)
    data = np.array(volume.data)
    chance = rng.random(data.shape)
    low, high = data.min(), data.max()
    data[chance < fraction / 2] = low
    data[(chance >= fraction / 2) & (chance < fraction)] = high
    return volume.replace(data=data, name=f"{volume.name} salt and pepper")


def periodic_noise(
    volume: Volume, frequencies: Sequence[Sequence[float]] = ((0.125, 0.0625), (0.0, 0.25)), amplitude: float = 120.0
) -> Volume:
    """Add cosine waves, as electrical interference does.

    Parameters
    ----------
    volume : Volume
        An image; it stays as it is, and the result has its data type: integers are rounded, and clipped to its range.
    frequencies : sequence of sequences
        Of every wave, cycles per voxel along the last axes: two numbers (y, x) or three (z, y, x), up to 0.5.
    amplitude : float
        Of every wave, in the volume's unit.
    """
    data = np.asarray(volume.data)
    waves = np.zeros(data.shape)
    index = np.ogrid[tuple(slice(n) for n in data.shape)]
    for wave in frequencies:
        if len(wave) not in (2, 3) or max(abs(f) for f in wave) > 0.5:
            raise InputError(f"frequency {tuple(wave)} must be two or three numbers from -0.5 to 0.5 cycles per voxel")
        waves = waves + amplitude * np.cos(
            2 * np.pi * sum(f * i for f, i in zip(wave[::-1], index[::-1], strict=False))
        )
    return volume.replace(data=_cast(data + waves, data.dtype), name=f"{volume.name} periodic noise")


def ultrasound_head(seed: int = 4, shape: tuple[int, int] = (540, 800), pixel: float = 0.125) -> tuple[Volume, Volume]:
    """Draw an ultrasound-like picture of a fetal head: speckle, skull echo, midline, shadows, in a sector.

    Parameters
    ----------
    seed : int
        Of the head's size, place and tilt, and of the speckle.
    shape : (int, int)
        (y, x) in pixels.
    pixel : float
        Side of a pixel, mm.

    Returns
    -------
    image : Volume
        One slice, uint8, modality US.
    labels : Volume
        uint8; 1 inside the skull's outer edge.
    """
    rng = np.random.default_rng(seed)
    height, width = shape
    y, x = np.mgrid[0:height, 0:width] / height  # in picture heights, so that any size shows the same head
    middle = np.array([rng.uniform(0.46, 0.56), width / height * rng.uniform(0.45, 0.55)])
    long, tilt = rng.uniform(0.33, 0.4), rng.uniform(-0.45, 0.45)
    radii = np.array([long * rng.uniform(0.76, 0.84), long])
    v = np.cos(tilt) * (y - middle[0]) - np.sin(tilt) * (x - middle[1])
    u = np.sin(tilt) * (y - middle[0]) + np.cos(tilt) * (x - middle[1])
    radius = np.hypot(v / radii[0], u / radii[1])
    echo = _head_echo(u, v, radius, radii, y, x, rng)
    picture = _speckled(echo, height, rng)
    apex = np.array([-0.42, width / height * 0.5])
    angle, depth = np.arctan2(x - apex[1], y - apex[0]), np.hypot(y - apex[0], x - apex[1])
    picture *= 1 - 0.55 * np.exp(-(((angle - rng.uniform(-0.25, 0.25)) / 0.06) ** 2)) * (radius < 1.3) * (y > middle[0])
    picture[(np.abs(angle) > 0.62) | (depth < 0.5) | (depth > 1.39)] = 0
    data = _cast(255 * np.clip(picture, 0, 1), np.dtype(np.uint8))[None]
    grid = Grid.from_spacing((1.0, pixel, pixel), data.shape)
    meta = {"modality": "US", "spacing_known": True, "orientation_known": False}
    truth = (radius <= 1).astype(np.uint8)[None]
    label = {1: Label("fetal head", "#ffb74d")}
    return (
        Volume(data, grid, name="ultrasound head", meta=meta),
        Volume(truth, grid, "labels", "ultrasound head labels", label, meta),
    )


def _head_echo(u, v, radius, radii, y, x, rng: np.random.Generator) -> np.ndarray:
    """Return the mean echo strength, before speckle: tissue, fluid, skull, brain."""
    cloud = sum(np.cos(a * y + b * x + rng.uniform(0, 6.3)) for a, b in ((9, 3), (5, -8), (17, 11), (-14, 19))) / 4
    echo = np.clip(0.3 + 0.45 * cloud, 0.03, None) * (0.6 + 0.8 * np.exp(-y / 0.3))
    fluid = np.exp(-(((radius - 1.12) / 0.2) ** 4)) * (0.65 + 0.5 * np.cos(np.arctan2(v, u) + rng.uniform(0, 6.3)))
    echo *= 1 - 0.95 * np.clip(1.4 * fluid, 0, 1)
    brain = 0.09 + 0.04 * np.cos(30 * u + 8 * v) + 0.04 * np.cos(26 * v - 9 * u)
    share = 1 / (1 + np.exp((radius - 0.95) / 0.012))
    echo = share * brain + (1 - share) * echo
    middle = np.exp(-((v / (0.02 * radii[0])) ** 2)) * (np.abs(u) < 0.72 * radii[1])
    echo += 0.5 * middle * (1 - 0.75 * np.exp(-(((u - 0.35 * radii[1]) / (0.1 * radii[1])) ** 2)))
    for side in (-1, 1):
        plexus = np.hypot((v - side * 0.33 * radii[0]) / (0.12 * radii[0]), (u + 0.22 * radii[1]) / (0.3 * radii[1]))
        echo += 0.22 * np.exp(-(plexus**4))
    # The skull answers most where the beam, from above, meets it squarely.
    across = np.abs(v / radii[0]) / np.maximum(radius, 1e-6)
    skull = np.exp(-(((radius - 0.955) / 0.035) ** 2))
    return echo + skull * (0.12 + 1.1 * across**1.5)


def _speckled(echo: np.ndarray, height: int, rng: np.random.Generator) -> np.ndarray:
    """Return an echo picture with Rayleigh speckle, wider than deep, and a grey scale that lifts what is faint."""
    grain = (height / 540 * 1.6, height / 540 * 3.2)
    parts = [ndimage.gaussian_filter(rng.standard_normal(echo.shape), grain) for _ in range(2)]
    amplitude = np.hypot(*parts)
    amplitude /= np.sqrt((amplitude**2).mean())
    return 0.85 * (np.clip(echo, 0, None) * (0.4 + 0.6 * amplitude)) ** 0.7


def _sample_person(seed: int, contrast: bool, lesions: int) -> Person:
    return Person(
        np.random.default_rng([seed, 0]),
        blood=210.0 if contrast else 45.0,
        arms="up",
        table=True,
        lesions=lesions,
        pelvis=True,
    )


def _check(grid: Grid, noise: float) -> None:
    if grid.frames is not None:
        raise InputError("grid has frames: give the grid of one frame, as Grid.without_frames returns it")
    if not noise >= 0:
        raise InputError(f"noise {noise} HU must not be negative")


def _as_ct(image, truth, grid: Grid, rng: np.random.Generator, noise: float, name: str) -> tuple[Volume, Volume]:
    """Add noise of some grain, as reconstruction leaves it, and wrap both arrays."""
    grain = ndimage.gaussian_filter(rng.standard_normal(image.shape), 0.55)
    grain *= noise / max(float(grain.std()), 1e-9)
    data = np.clip(_cast(image + grain, np.dtype(np.int16)), -1024, 3071)
    meta = {key: _CT_META[key] for key in ("spacing_known", "orientation_known")}
    return (
        Volume(data, grid, name=name, meta=_CT_META),
        Volume(truth, grid, "labels", f"{name} labels", LABELS, meta),
    )


def _cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.clip(np.round(values), info.min, info.max).astype(dtype)
    return values.astype(dtype)


# The committed samples -----------------------------------------------------------------------------------------------


class Sample(NamedTuple):
    """A sample: title and description for people, what makes it, its file, and the sample that holds its truth."""

    title: str
    description: str
    maker: Callable[[], Volume]
    file: str
    truth: str | None = None


SAMPLES: dict[str, Sample] = {
    "thorax": Sample(
        "Thorax (CT-like phantom)",
        "64 x 96 x 96 voxels of 4 mm, HU, contrast agent, two nodules in the right lung, one in the left",
        lambda: thorax()[0],
        "thorax.nii.gz",
        "thorax-labels",
    ),
    "thorax-labels": Sample(
        "Thorax: truth", "what every voxel of the thorax is", lambda: thorax()[1], "thorax_labels.nii.gz"
    ),
    "thorax-salt-and-pepper": Sample(
        "Thorax with salt-and-pepper noise",
        "5 % of the voxels black or white: for the median and the adaptive median",
        lambda: salt_and_pepper(thorax()[0]),
        "thorax_salt_and_pepper.nii.gz",
        "thorax-labels",
    ),
    "thorax-periodic": Sample(
        "Thorax with periodic noise",
        "two waves of 120 HU: for the spectrum and the notch filter",
        lambda: periodic_noise(thorax()[0]),
        "thorax_periodic.nii.gz",
        "thorax-labels",
    ),
    "thorax-oblique": Sample(
        "Oblique thorax",
        "the same thorax on a tilted grid of 5 x 3.5 x 3.5 mm",
        lambda: oblique_thorax()[0],
        "thorax_oblique.nii.gz",
        "thorax-oblique-labels",
    ),
    "thorax-oblique-labels": Sample(
        "Oblique thorax: truth",
        "what every voxel of the oblique thorax is",
        lambda: oblique_thorax()[1],
        "thorax_oblique_labels.nii.gz",
    ),
    "beating-heart": Sample(
        "Beating heart (4D)",
        "8 moments of one heart beat of 0.8 s, CT-like",
        lambda: beating_heart()[0],
        "beating_heart.nii.gz",
        "beating-heart-labels",
    ),
    "beating-heart-labels": Sample(
        "Beating heart: truth",
        "what every voxel of the beating heart is, at every moment",
        lambda: beating_heart()[1],
        "beating_heart_labels.nii.gz",
    ),
    "ultrasound-head": Sample(
        "Fetal head (ultrasound-like phantom)",
        "800 x 540 pixels of 0.125 mm with speckle: for the model fetal-head",
        lambda: ultrasound_head()[0],
        "ultrasound_head.png",
        "ultrasound-head-labels",
    ),
    "ultrasound-head-labels": Sample(
        "Fetal head: truth", "1 inside the skull", lambda: ultrasound_head()[1], "ultrasound_head_labels.png"
    ),
}


def sample_path(name: str) -> Path:
    """Return the file of a sample, in the installed package or beside the source.

    Raises
    ------
    InputError
        If there is no such sample, or its file is missing.

    Examples
    --------
    >>> sample_path("thorax").name
    'thorax.nii.gz'
    """
    if name not in SAMPLES:
        raise InputError(f"sample {name!r} is unknown: use one of {', '.join(SAMPLES)}")
    here = Path(__file__).resolve().parent
    for folder in (here / "sample_data", here.parents[1] / "sample_data"):
        path = folder / SAMPLES[name].file
        if path.exists():
            return path
    raise InputError(f"the file of sample {name!r} is missing: make it with napari_lightbox.phantoms.write_samples")


def write_samples(folder: str | os.PathLike) -> list[Path]:
    """Make all samples anew and write them into `folder`; returns their paths."""
    from .io import write

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for sample in track(list(SAMPLES.values()), "samples"):
        path = folder / sample.file
        write(sample.maker(), path)
        paths.append(path)
    return paths
