"""What ``ct-regions`` is worth: on phantoms held out, on the samples, and on real CT against other software's labels.

`measure` looks below its data folder for these files and leaves out what is not there:

- ``example_ct.nii.gz``, an abdominal CT, with ``example_seg_fast_force_split.nii.gz`` and ``total_labels.json``, the
  labels of TotalSegmentator, and ``subcutaneous_fat.nii.gz``, ``torso_fat.nii.gz``, ``skeletal_muscle.nii.gz``, the
  tissues of its slices 82 to 111;
- ``3DCT_lung_baseline_small.mha``, a cut-out of a chest CT without labels: a rule on its HU stands in for them.

None of this is ground truth, and none of it is learned from.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from ... import phantoms
from ...errors import need
from ...io import read
from ...phantoms_random import REGIONS, regions
from ...volume import Volume
from ..loaders import load
from ..predict import predict
from .train_ct_regions import COLOURS, phantom_dice

ABDOMEN, CHEST = "example_ct.nii.gz", "3DCT_lung_baseline_small.mha"
SLICES = slice(82, 112)  # of the abdominal CT: those whose tissues are known
_BONES = ("vertebrae", "rib_", "hip_", "sacrum", "femur", "sternum", "clavicula", "scapula", "humerus", "skull")
View = tuple[torch.Tensor, torch.Tensor]  # of a phantom held out: image and regions, as the network takes them
_VALUE = {name: value for value, name in REGIONS.items()}


def measure(folder: str | Path, views: list[View], data: str | Path | None = None) -> dict:
    """Return the figures of a model folder: name of the test -> figures, and ``how`` they were taken."""
    model = load(folder)
    figures = {
        "phantoms": {
            "how": f"Dice over the voxels of {len(views)} random phantoms (64 x 64 x 64 at 4 mm) of other seeds; "
            "outline: all classes together",
            "dice": {**phantom_dice(model.module, views), "outline": _outline(model.module, views)},
        },
        "thorax": thorax(model),
        "beating_heart": beating_heart(model),
    }
    if data is not None and (path := find(data, ABDOMEN)):
        figures["real_abdominal_ct"] = abdomen(model, path)
    if data is not None and (path := find(data, CHEST)):
        figures["real_chest_ct"] = chest(model, path)
    return figures


def find(data: str | Path, name: str) -> Path | None:
    """Return the first file of this name in a folder or below it."""
    return next(iter(sorted(Path(data).rglob(name))), None)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Dice of two masks, to four places; 0 where both are empty."""
    return round(2 * float(np.count_nonzero(a & b)) / max(float(np.count_nonzero(a) + np.count_nonzero(b)), 1), 4)


@torch.no_grad()
def _outline(network: torch.nn.Module, views: list[View]) -> float:
    found = np.concatenate([(network(image).argmax(1) > 0)[truth >= 0].numpy() for image, truth in views])
    return dice(found, np.concatenate([(truth > 0)[truth >= 0].numpy() for _, truth in views]))


# Samples -------------------------------------------------------------------------------------------------------------


def plain_regions(labels: np.ndarray) -> np.ndarray:
    """Return regions with fat and soft tissue as body, which the truth of the plain thorax does not tell apart."""
    return np.where(np.isin(labels, (_VALUE["fat"], _VALUE["soft tissue"])), _VALUE["body"], labels)


def thorax(model) -> dict:
    """Return the Dice on a thorax of the kind of the samples, which no training has seen."""
    image, truth = phantoms.thorax(seed=31)
    found = plain_regions(predict(image, model).labels.data)
    true = plain_regions(regions(truth.data))
    return {
        "how": "Dice on phantoms.thorax(seed=31), drawn without the texture of the phantoms learned from; body there "
        "holds fat and soft tissue too",
        "dice": {name: dice(found == _VALUE[name], true == _VALUE[name]) for name in ("body", "lung", "bone", "heart")},
    }


def beating_heart(model) -> dict:
    """Return how the heart found in every frame of the beating heart follows its true volume."""
    image = read(phantoms.sample_path("beating-heart"))
    truth = read(phantoms.sample_path("beating-heart-labels"))
    found = predict(image, model).labels.data == _VALUE["heart"]
    true = regions(truth.data) == _VALUE["heart"]
    ml = [np.count_nonzero(a, axis=(1, 2, 3)) * float(np.prod(image.grid.spacing)) / 1000 for a in (found, true)]
    return {
        "how": "heart of the 4D sample beating-heart, every frame computed by itself",
        "found_ml": [round(v) for v in ml[0]],
        "true_ml": [round(v) for v in ml[1]],
        "correlation": round(float(np.corrcoef(*ml)[0, 1]), 4),
        "dice_min": min(dice(a, b) for a, b in zip(found, true, strict=True)),
    }


# Real CT -------------------------------------------------------------------------------------------------------------


def as_ct(path: Path) -> Volume:
    """Read a CT out of a file that does not say that it is one."""
    image = read(path)
    return image.replace(meta={**image.meta, "modality": "CT"})


def reference_regions(labels: np.ndarray, names: Mapping[str, str]) -> np.ndarray:
    """Turn the organ labels of the real CT into regions; 255 means any other organ."""
    table = np.zeros(256, np.uint8)
    for value, name in names.items():
        region = 2 if name.startswith("lung") else 4 if name == "heart" else 3 if name.startswith(_BONES) else 255
        table[int(value)] = region
    return table[labels]


def body_by_rule(hu: np.ndarray) -> np.ndarray:
    """Return the largest piece of a CT (z, y, x) above -300 HU, opened to cut off the table, its holes filled."""
    solid = ndimage.binary_opening(hu > -300, iterations=1)
    pieces, count = ndimage.label(solid)
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel(), minlength=count + 1)[1:]))
    return np.stack([ndimage.binary_fill_holes(plane) for plane in largest])


def abdomen(model, path: Path) -> dict:
    """Return how far the regions found agree with the labels that other software gave to the abdominal CT."""
    image = as_ct(path)
    hu, found = np.asarray(image.data), np.asarray(predict(image, model).labels.data)
    folder = path.parent
    names = json.loads((folder / "total_labels.json").read_text(encoding="utf-8"))
    organs = np.asarray(read(folder / "example_seg_fast_force_split.nii.gz").data)
    reference = reference_regions(organs, names)
    fat, torso, muscle = (
        np.asarray(read(folder / f"{name}.nii.gz").data) > 0
        for name in ("subcutaneous_fat", "torso_fat", "skeletal_muscle")
    )
    body = body_by_rule(hu)
    liters = np.prod(image.grid.spacing) / 1e6
    gut = np.isin(organs, [int(v) for v, name in names.items() if name in ("colon", "stomach", "small_bowel")])
    gas = gut & (hu < -500)
    return {
        "how": "agreement with the labels of TotalSegmentator on one abdominal CT, and with a rule on its HU (body: "
        "the largest piece above -300, filled; fat: -190 to -30 in it); neither is ground truth",
        "dice": {
            "lung": dice(found == 2, reference == 2),
            "bone": dice(found == 3, reference == 3),
            "fat": dice((found == 5)[SLICES], fat | torso),
            "outline_by_rule": dice(found > 0, body),
            "fat_by_rule": dice(found == 5, body & (hu > -190) & (hu < -30)),
        },
        "muscle_found_as_soft_tissue": _share(found[SLICES][muscle] == 6),
        "organs_found_as_soft_tissue": _share(found[(reference == 255) & (hu > 0) & (hu < 100)] == 6),
        "bowel_gas_found_as_lung": _share(found[gas] == 2),
        "lung_found_ml": round(1000 * liters * np.count_nonzero(found == 2)),
        "lung_reference_ml": round(1000 * liters * np.count_nonzero(reference == 2)),
        "heart_found_ml_where_there_is_none": round(1000 * liters * np.count_nonzero(found == 4)),
    }


def _share(hits: np.ndarray) -> float:
    return round(float(hits.mean()), 4) if hits.size else 0.0


def lung_by_rule(hu: np.ndarray) -> np.ndarray:
    """Return the air in the chest: below -500 HU after a median of 3 x 3 x 3, without pieces of outside air."""
    dark, count = ndimage.label(ndimage.median_filter(hu, 3) < -500)
    sizes = np.bincount(dark.ravel(), minlength=count + 1)
    means = ndimage.mean(hu, dark, np.arange(count + 1))
    return np.isin(dark, [n for n in range(1, count + 1) if sizes[n] > 1000 and means[n] > -960])


def chest(model, path: Path) -> dict:
    """Return how far the lung found agrees with two rules on the HU of the chest CT."""
    image = as_ct(path)
    hu, found = np.asarray(image.data), np.asarray(predict(image, model).labels.data)
    return {
        "how": "agreement on a cut-out of one chest CT, of which there are no labels, with rules on its HU: lung is "
        "what lies from -960 to -600; or pieces of over 1000 voxels below -500 after a median, without outside air",
        "dice": {
            "lung_by_rule": dice(found == 2, (hu < -600) & (hu > -960)),
            "lung_by_pieces": dice(found == 2, lung_by_rule(hu)),
        },
        "heart_found_ml": round(np.count_nonzero(found == 4) * float(np.prod(image.grid.spacing)) / 1000),
    }


# Pictures of failures ------------------------------------------------------------------------------------------------


@torch.no_grad()
def write_failures(network: torch.nn.Module, views: list[View], folder: Path, count: int = 3) -> dict:
    """Write pictures of the phantoms of lowest mean Dice: the slice with most errors as image, truth, and found.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode.
    views : list of (image, regions)
        Phantoms held out.
    folder : path
        Where ``failure-1.png`` and so on are written.
    count : int
        Number of pictures.

    Returns
    -------
    dict
        For the card: ``how``, and the Dice of the classes present, picture by picture.
    """
    pillow = need("PIL.Image", "Pictures")
    scores, results = [], []
    for image, truth in views:
        found = torch.where(truth < 0, 0, network(image).argmax(1))[0].numpy()
        true = truth[0].numpy()
        present = {n: dice(found == v, true == v) for v, n in REGIONS.items() if np.count_nonzero(true == v) > 200}
        scores.append(float(np.mean(list(present.values()))) if len(present) > 2 else 1.0)
        results.append((image[0, 0].numpy(), true, found, present))
    pictures = {}
    for place, number in enumerate(np.argsort(scores)[:count], start=1):
        image, true, found, present = results[number]
        z = int(np.argmax(((found != true) & (true >= 0)).sum(axis=(1, 2))))
        grey = np.clip(image[z] * 2000 / 1500, 0, 1)[..., None].repeat(3, axis=-1)
        tiles = [np.round(255 * grey).astype(np.uint8), _coloured(true[z]), _coloured(found[z])]
        tile = np.concatenate(tiles, axis=1).repeat(3, axis=0).repeat(3, axis=1)
        pillow.fromarray(tile).quantize(64).save(folder / f"failure-{place}.png", optimize=True)
        pictures[f"failure-{place}.png"] = {"slice": z, "dice": present}
    how = "the phantoms held out that are found worst; slice with most errors: image (-1000 to 500 HU), truth, found"
    return {"how": how, **pictures}


def _coloured(labels: np.ndarray) -> np.ndarray:
    table = np.full((256, 3), 40, np.uint8)  # unknown: dark grey
    table[0] = 0
    for value, colour in COLOURS.items():
        table[int(value)] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return table[labels & 255]
