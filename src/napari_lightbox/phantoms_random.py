"""Random CT-like views of random people: what ``ct-regions`` learns from.

Everything that a scanner or a patient may change is drawn anew: sizes, tissue values, contrast, gas, arms, table,
position, tilt, field of view, slice thickness, noise.
"""

import numpy as np
from scipy import ndimage

from .geometry import Grid
from .phantoms_anatomy import BODY, BONE, HEART, LEFT_LUNG, LESION, LIVER, RIGHT_LUNG, VERTEBRAE, Person
from .phantoms_detail import FAT, SOFT, DetailedAnatomy, paint

# A nodule inside the lung counts as lung, as the reference labels of other programs have it.
_REGION = {
    BODY: 1, LEFT_LUNG: 2, RIGHT_LUNG: 2, LESION: 2, VERTEBRAE: 3, BONE: 3, HEART: 4, FAT: 5, SOFT: 6, LIVER: 1,
}  # fmt: skip
UNKNOWN = 255
REGIONS = {1: "body", 2: "lung", 3: "bone", 4: "heart", 5: "fat", 6: "soft tissue"}


def regions(labels: np.ndarray) -> np.ndarray:
    """Turn labels of a phantom into those of ``ct-regions``, `REGIONS`; uint8.

    Body is all that has no label of its own: of a random phantom, gas and what the bowel holds; of the plain thorax
    also its fat and most soft tissue, which its truth does not tell apart. 255, what nobody knows, stays.
    """
    table = np.zeros(256, np.uint8)
    table[UNKNOWN] = UNKNOWN
    for value, region in _REGION.items():
        table[value] = region
    return table[labels]


def random_person(rng: np.random.Generator) -> Person:
    """Draw a person: build, tissue values, contrast agent, gas, arms."""
    contrast = rng.random() < 0.45
    return Person(
        rng,
        vary=1.0,
        fat=rng.uniform(4, 42),
        blood=rng.uniform(90, 380) if contrast else rng.uniform(28, 58),
        heart_scale=rng.uniform(0.85, 1.22),
        muscle_hu=rng.uniform(18, 70),
        fat_hu=rng.uniform(-115, -80),
        lung_hu=rng.uniform(-960, -720),
        liver_hu=rng.uniform(20, 78),
        bone_hu=rng.uniform(320, 950),
        marrow_hu=rng.uniform(-20, 280),
        arms=str(rng.choice(["up", "down", "none"], p=[0.5, 0.25, 0.25])),
        table=bool(rng.random() < 0.75),
        bowel_gas=rng.uniform(0.02, 0.6),
        oral=rng.uniform(50, 400) if rng.random() < 0.15 else 0.0,
        lesions=int(rng.integers(0, 3)),
        size=np.array([1.0, *(rng.uniform(0.82, 1.25) * rng.uniform(0.94, 1.06, 2))]),
    )


def random_grid(rng: np.random.Generator, shape=(64, 64, 64), spacing=(4.0, 4.0, 4.0), *, wide: bool = False) -> Grid:
    """Draw a grid somewhere between thigh and neck, most often over the chest, tilted a little, another body length.

    A wide choice reaches below the table and beside the patient, and ends more often within the lungs.
    """
    zone = rng.random()
    if wide:
        z = rng.uniform(-200, -40) if zone < 0.45 else rng.uniform(-420, 170)
        centre = np.array([z, rng.uniform(-110, 200), rng.uniform(-160, 160)])
    else:
        z = rng.uniform(-60, 60) if zone < 0.45 else (rng.uniform(-420, -60) if zone < 0.85 else rng.uniform(60, 170))
        centre = np.array([z, rng.uniform(-70, 70), rng.uniform(-110, 110)])
    angles = np.radians(rng.normal(0, 5, 3))
    turn = np.eye(3)
    for (i, j), angle in zip(((0, 1), (0, 2), (1, 2)), angles, strict=True):
        step = np.eye(3)
        step[[i, j], [i, j]] = np.cos(angle)
        step[i, j], step[j, i] = np.sin(angle), -np.sin(angle)
        turn = turn @ step
    # The person is built about one body length; another grid spacing shows a taller or smaller one.
    spacing = np.asarray(spacing) / np.array([rng.uniform(0.85, 1.15), 1, 1])
    origin = centre - (turn * spacing) @ ((np.array(shape) - 1) / 2)
    return Grid.from_spacing(spacing, shape, origin, turn)


def random_thorax(
    seed, shape=(64, 64, 64), spacing=(4.0, 4.0, 4.0), *, wide: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one random view of one random person.

    Parameters
    ----------
    seed : int or sequence of int
        The same seed gives the same view.
    shape, spacing : tuple
        Of the view, (z, y, x), voxels and mm (axes LPS).
    wide : bool
        Choose the place of the view from further around, also below the table.

    Returns
    -------
    image : (z, y, x) int16 array
        HU.
    labels : (z, y, x) uint8 array
        Exact truth as `phantoms_detail.paint` gives it; 0 outside a round field of view, 255 where the border of a
        smaller volume is repeated to fill the window. `regions` turns it into what ``ct-regions`` learns.

    Examples
    --------
    >>> image, labels = random_thorax(3, shape=(16, 16, 16), spacing=(12.0, 12.0, 12.0))
    >>> image.dtype, labels.dtype
    (dtype('int16'), dtype('uint8'))
    """
    rng = np.random.default_rng(seed)
    person = random_person(rng)
    grid = random_grid(rng, shape, spacing, wide=wide)
    edge = float(np.mean(spacing)) * rng.uniform(0.6, 1.4)
    image, labels = paint(DetailedAnatomy(person).parts(), grid, rng, edge=edge, bend=rng.uniform(0, 6))
    image, labels = _scanned(image, labels, rng)
    return np.clip(np.round(image), -1024, 3071).astype(np.int16), labels


def _scanned(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Add what a scanner does: thick slices, a kernel, noise, streaks, a drift of values, a limited field of view."""
    if rng.random() < 0.35:
        axis = int(rng.choice(3, p=[0.7, 0.15, 0.15]))
        image = ndimage.uniform_filter1d(image, int(rng.integers(2, 4)), axis=axis)
    kernel = rng.random()
    if kernel < 0.25:
        image = ndimage.gaussian_filter(image, rng.uniform(0.3, 0.7))
    elif kernel < 0.55:  # a sharp kernel overshoots at edges
        image = image + np.float32(rng.uniform(0.2, 1.0)) * (image - ndimage.gaussian_filter(image, 0.8))
    image = image + _noise(image.shape, rng)
    image = (image + 1000) * np.float32(rng.uniform(0.97, 1.03)) - 1000 + np.float32(rng.normal(0, 6))
    if rng.random() < 0.25:
        _cut_circle(image, labels, rng)
    if rng.random() < 0.35:
        image = _cut_box(image, labels, rng)
    return image, labels


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return noise of some grain, and streaks along x such as shoulders and hips leave."""
    noise = rng.standard_normal(shape, np.float32)
    if rng.random() < 0.6:
        noise = ndimage.gaussian_filter(noise, rng.uniform(0.3, 0.9))
        noise /= max(float(noise.std()), 1e-6)
    noise *= np.float32(rng.uniform(2, 20) if rng.random() < 0.75 else rng.uniform(20, 70))
    if rng.random() < 0.2:
        streaks = ndimage.gaussian_filter1d(rng.standard_normal(shape, np.float32), rng.uniform(4, 15), axis=2)
        streaks /= max(float(streaks.std()), 1e-6)
        noise += np.float32(rng.uniform(5, 30)) * streaks
    return noise


def _cut_circle(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> None:
    """Blank what lies outside a round reconstruction field, in place."""
    _, rows, columns = image.shape
    y, x = np.ogrid[:rows, :columns]
    centre = (rows - 1) / 2 + rng.normal(0, 5), (columns - 1) / 2 + rng.normal(0, 5)
    outside = np.hypot(y - centre[0], x - centre[1]) > rng.uniform(0.38, 0.6) * max(rows, columns)
    image[:, outside], labels[:, outside] = rng.choice([-1000.0, -1024.0]), 0


def _cut_box(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut the volume short on one or two sides and repeat its border, as a small volume fills a larger window.

    `labels` change in place.
    """
    for axis in rng.choice(3, int(rng.integers(1, 3)), replace=False):
        length = image.shape[axis]
        keep = int(rng.uniform(0.5, 0.95) * length)
        start = int(rng.integers(0, length - keep + 1))
        index = np.clip(np.arange(length), start, start + keep - 1)
        image = image.take(index, axis)
        np.moveaxis(labels, axis, 0)[index != np.arange(length)] = UNKNOWN
    return image
