"""Train ``fetal-head``: a 2D U-Net that finds the fetal head in an ultrasound picture.

Run as ``lightbox train fetal-head --data FOLDER --out FOLDER``, or as a module::

    python -m napari_lightbox.models.shipped.train_fetal_head --data ultrasound_head_hc18 --out fetal-head

`--data` is a folder with ``train_360_192x128.npz`` (pictures and masks to learn from), ``images/`` and
``pixel_size_and_HC.csv`` (full-size pictures, used for the final figures only and never to choose anything).
Source of the data: van den Heuvel et al. (2018), "Automated measurement of fetal head circumference", Zenodo 1327317.
"""

import argparse
import csv
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from ..networks import build
from ..train import as_stored, export, fit

SIZE = (128, 192)  # (y, x), what the network sees
ARCHITECTURE = {
    "dims": 2,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [16, 32, 64, 96, 128, 160],
    "norm": "instance",
}
STEPS = 2000
BATCH = 8


def train(data: Path, out: Path, *, steps: int = STEPS, seed: int = 0, threads: int = 1) -> dict:
    """Train, evaluate on the full-size pictures, and write ``card.json`` and ``weights.safetensors`` into `out`.

    Parameters
    ----------
    data, out : path
        Folder of the pictures; folder of the model, made where it is missing. A training that was broken off goes on
        from ``out/checkpoint.pt``.
    steps, seed, threads : int
        Batches of 8, random seed, CPU threads. The same three numbers give the same weights on the same machine.

    Returns
    -------
    dict
        The card's figures.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    data, out = Path(data), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    learn, check = load_pack(data / "train_360_192x128.npz")
    found = fit(
        build("unet", **ARCHITECTURE),
        lambda step: augmented_batch(*learn, np.random.default_rng([seed, step])),
        steps,
        validate=lambda network: float(np.mean(pack_dice(network, *check))),
        every=100,
        checkpoint=out / "checkpoint.pt",
        log=lambda entry: print(entry, flush=True),
    )
    network = as_stored(found.network)
    held_out = pack_dice(network, *check)
    figures = {
        **full_size_figures(network, data),
        "held_out_pictures_192x128": {
            "how": f"{len(held_out)} of the 360 training pictures, of other examinations, used to choose the step",
            "dice_mean": round(float(np.mean(held_out)), 4),
            "dice_min": round(float(np.min(held_out)), 4),
        },
        "training": {"steps": steps, "best_step": found.step, "batch": BATCH, "seed": seed, "threads": threads},
    }
    export(network, card(figures), out)
    (out / "checkpoint.pt").unlink()
    return figures


def load_pack(path: Path) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return (pictures, masks) to learn from and to choose the step with, uint8 (n, 128, 192).

    Pictures of one examination (``014_HC.png``, ``014_2HC.png``) stay together; every tenth examination is held out.
    """
    with np.load(path, allow_pickle=False) as pack:
        images, masks = pack["image"], pack["mask"]
        examinations = np.array([name.split("_")[0] for name in pack["filename"]])
    held_out = np.isin(examinations, np.unique(examinations)[5::10])
    return (images[~held_out], masks[~held_out]), (images[held_out], masks[held_out])


# What the network sees while it learns -------------------------------------------------------------------------------


def augmented_batch(images: np.ndarray, masks: np.ndarray, rng: np.random.Generator, size: int = BATCH):
    """Draw `size` pictures and change each as another probe, gain or position would have."""
    chosen = rng.choice(len(images), size, replace=False)
    image = torch.from_numpy(images[chosen]).float()[:, None] / 255
    mask = torch.from_numpy(masks[chosen]).float()[:, None]
    where = _positions(size, rng)
    image = F.grid_sample(image, where, align_corners=False)
    mask = F.grid_sample(mask, where, align_corners=False)
    image = torch.stack([_dirtied(one, rng) for one in image])
    return normalised(image), (mask[:, 0] > 0.5).long()


def _positions(size: int, rng: np.random.Generator) -> torch.Tensor:
    """Return sampling positions (n, y, x, 2): rotated, scaled, stretched, shifted, mirrored and softly warped."""
    height, width = SIZE
    matrices = []
    for _ in range(size):
        angle = math.radians(rng.uniform(-30, 30))
        scale = np.exp(rng.uniform(math.log(0.75), math.log(1.4)))
        stretch = np.exp(rng.uniform(-0.1, 0.1))
        rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        flips = np.diag([-1.0 if rng.random() < 0.5 else 1.0, -1.0 if rng.random() < 0.1 else 1.0])
        # grid_sample measures each axis by its own half length: turn there, or the picture would be sheared.
        aspect = np.diag([width / 2, height / 2])
        matrix = np.linalg.inv(aspect) @ rotation @ flips @ np.diag([scale * stretch, scale / stretch]) @ aspect
        matrices.append(np.column_stack([matrix, rng.uniform(-0.2, 0.2, 2)]))
    where = F.affine_grid(torch.tensor(np.array(matrices), dtype=torch.float32), [size, 1, *SIZE], align_corners=False)
    bends = torch.from_numpy(rng.normal(0, 0.025, (size, 2, 4, 6)).astype(np.float32))
    bends = F.interpolate(bends, SIZE, mode="bicubic", align_corners=True)
    return where + bends.movedim(1, -1)


def _dirtied(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return one picture (1, y, x), 0 to 1, with another gain, contrast, sharpness, speckle and acoustic shadows."""
    if rng.random() < 0.3:
        image = _blurred(image, rng.uniform(0.4, 1.2))
    image = image * _shadow(rng) if rng.random() < 0.4 else image
    if rng.random() < 0.6:
        grain = torch.from_numpy(rng.standard_normal((1, *SIZE)).astype(np.float32))
        sharpness = rng.uniform(0.3, 1.2)
        grain = _blurred(grain, sharpness) * (1 + 2 * sharpness)
        image = image * (1 + rng.uniform(0.0, 0.3) * grain)
    if rng.random() < 0.3:
        image = image + rng.uniform(0, 0.06) * torch.from_numpy(rng.standard_normal((1, *SIZE)).astype(np.float32))
    image = image.clamp(0, 1) ** math.exp(rng.uniform(-0.5, 0.5))
    return image * rng.uniform(0.6, 1.3) + rng.uniform(-0.05, 0.1)


def _shadow(rng: np.random.Generator) -> torch.Tensor:
    """Return a factor (1, y, x): a wedge below a probe above the picture in which the echoes fade."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    apex = (rng.uniform(-120, -20), rng.uniform(0, SIZE[1]))
    angle = np.arctan2(x - apex[1], y - apex[0])
    wedge = np.exp(-(((angle - rng.uniform(-0.7, 0.7)) / rng.uniform(0.03, 0.2)) ** 2))
    deep = 1 / (1 + np.exp(-(y - rng.uniform(0, 80)) / 6))
    return torch.from_numpy(1 - rng.uniform(0.3, 0.95) * wedge * deep)[None].float()


def _blurred(image: torch.Tensor, sigma: float) -> torch.Tensor:
    radius = max(1, round(3 * sigma))
    kernel = torch.exp(-(torch.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    image = F.conv2d(image[None], kernel.view(1, 1, -1, 1), padding=(radius, 0))
    return F.conv2d(image, kernel.view(1, 1, 1, -1), padding=(0, radius))[0]


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Bring each picture (n, 1, y, x) to mean 0 and standard deviation 1, the card's rule ``zscore``."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) / images.std((1, 2, 3), keepdim=True, correction=0).clamp(min=1e-8)


# What comes of it ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def pack_dice(network: torch.nn.Module, images: np.ndarray, masks: np.ndarray) -> list[float]:
    """Return the Dice of every picture at the size the network sees."""
    scores = []
    for start in range(0, len(images), 12):
        inputs = normalised(torch.from_numpy(images[start : start + 12]).float()[:, None])
        found = network(inputs).argmax(1).numpy() == 1
        scores += [dice(f, m > 0) for f, m in zip(found, masks[start : start + 12], strict=True)]
    return scores


@torch.no_grad()
def segment(network: torch.nn.Module, picture: np.ndarray) -> np.ndarray:
    """Return the head in one picture (y, x) of any size, bool, as the card's rules say: averaged down, logits up."""
    image = torch.from_numpy(np.ascontiguousarray(picture)).float()[None, None]
    logits = network(normalised(F.interpolate(image, SIZE, mode="area")))
    return F.interpolate(logits, picture.shape, mode="bilinear", align_corners=False)[0].argmax(0).numpy() == 1


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Return twice the overlap over the sum of two masks; 1 where both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def circumference(mask: np.ndarray) -> float:
    """Return the circumference, in pixels, of the ellipse with the moments of a mask (y, x); nan for an empty one."""
    points = np.argwhere(mask).astype(float)
    if len(points) < 3:
        return math.nan
    # A pixel is a square: its own second moment, 1/12, belongs to the shape.
    spread = np.linalg.eigvalsh(np.cov(points.T, bias=True) + np.eye(2) / 12)
    a, b = 2 * np.sqrt(np.maximum(spread, 0))
    h = ((a - b) / (a + b)) ** 2
    return math.pi * (a + b) * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))


def full_size_figures(network: torch.nn.Module, data: Path) -> dict:
    """Return Dice and error of the head circumference on the full-size pictures of ``images/``."""
    from PIL import Image

    scores, errors, of_masks = {}, {}, {}
    with open(data / "pixel_size_and_HC.csv", newline="") as file:
        for row in csv.DictReader(file):
            name, pixel = row["filename"], float(row["pixel_size_mm"])
            picture = np.asarray(Image.open(data / "images" / name).convert("L"))
            truth = np.asarray(Image.open(data / "images" / name.replace(".png", "_Mask.png")).convert("L")) > 127
            found = segment(network, picture)
            scores[name] = dice(found, truth)
            errors[name] = circumference(found) * pixel - float(row["head_circumference_mm"])
            of_masks[name] = circumference(truth) * pixel - float(row["head_circumference_mm"])
    error = np.array(list(errors.values()))
    return {
        "full_size_pictures": {
            "how": f"{len(scores)} pictures of about 800 x 540 that training never saw, each as it is stored; head "
            "circumference of the ellipse with the moments of the whole mask, against the sonographer's",
            "dice_mean": round(float(np.mean(list(scores.values()))), 4),
            "dice_min": round(min(scores.values()), 4),
            "worst": min(scores, key=scores.get),
            "hc_absolute_error_mm_mean": round(float(np.abs(error).mean()), 2),
            "hc_absolute_error_mm_max": round(float(np.abs(error).max()), 2),
            "hc_error_mm_mean": round(float(error.mean()), 2),
            "hc_error_mm_mean_of_the_reference_masks": round(float(np.mean(list(of_masks.values()))), 2),
        }
    }


def card(figures: dict) -> dict:
    """Return the card but for what `export` adds."""
    return {
        "name": "fetal-head",
        "version": "1.0.0",
        "licence": "BSD-3-Clause for the weights, which were trained on CC-BY-4.0 pictures: keep the credit to HC18",
        "description": "Finds the fetal head in a 2D ultrasound picture of a standard plane, "
        "so that its circumference can be measured.",
        "intended_use": "Research and teaching, not for clinical use.",
        "training_data": "325 pictures with head masks of HC18 (CC-BY-4.0): T. L. A. van den Heuvel, D. de Bruijn, "
        "C. L. de Korte, B. van Ginneken, Automated measurement of fetal head circumference, Zenodo 1327317, "
        "PLoS ONE 13(8) e0200412, 2018; box-averaged from 800 x 540 to 192 x 128.",
        "figures": figures,
        "architecture": {"name": "unet", "args": ARCHITECTURE},
        "input": {
            "dims": 2,
            "channels": [{"name": "ultrasound", "modality": "US", "intensity": {"rule": "zscore"}}],
            "orientation": None,
            "spacing": None,
            "resize": list(SIZE),
            "divisible_by": 32,
        },
        "window": {"size": None, "overlap": 0.0, "blending": "constant"},
        "output": {
            "kind": "labels",
            "activation": "softmax",
            "labels": {"1": "fetal head"},
            "colours": {"1": "#ffb74d"},
        },
    }


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="lightbox train fetal-head", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the HC18 pack")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    print(train(**vars(parser.parse_args(arguments))))


if __name__ == "__main__":
    main()
