"""Train ``ct-regions``: a small 3D U-Net that finds body, lung, bone and heart in CT.

Run as ``lightbox train ct-regions --out FOLDER [--data FOLDER]``, or as a module::

    python -m napari_lightbox.models.shipped.train_ct_regions --out ct-regions --data ct_abdomen_organs

It learns from random phantoms only (`napari_lightbox.phantoms.random_thorax`), so that it needs no data: first from
views of the body, then also from views that lie further around, since the foam of a table looks like lung.

`--data` is a folder with ``example_ct.nii.gz``, ``example_seg_fast_force_split.nii.gz`` and ``total_labels.json``: a
real abdominal CT with the labels of another program, which only ever serves for the figures.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from ...phantoms_random import REGIONS, UNKNOWN, random_thorax, regions
from ..networks import build
from ..train import as_stored, dice_and_cross_entropy, export, fit

WINDOW = (64, 64, 64)
LEARNING_WINDOW = (40, 48, 48)  # smaller: as many voxels can be seen in more different people
SPACING = (4.0, 4.0, 4.0)
LOW, HIGH = -1000.0, 1000.0
ARCHITECTURE = {"dims": 3, "in_channels": 1, "out_channels": 5, "channels": [8, 24, 48, 96], "norm": "batch"}
STEPS = 1400
BATCH = 2
WEIGHTS = (1.0, 1.0, 1.0, 4.0, 4.0)  # bone and heart fill little of a window
WIDE_STEPS = 700
# Seeds of the phantoms: (stream, number). Streams never meet.
LEARN, CHECK, FINAL, LEARN_WIDE, CHECK_WIDE, FINAL_WIDE = 1, 2, 3, 4, 5, 6


def train(
    data: Path | None,
    out: Path,
    *,
    steps: int = STEPS,
    wide_steps: int = WIDE_STEPS,
    seed: int = 0,
    threads: int = 1,
) -> dict:
    """Train on random phantoms, take the figures, and write ``card.json`` and ``weights.safetensors`` into `out`.

    Parameters
    ----------
    data : path or None
        Folder of the real CT for the figures; left out where it is None.
    out : path
        Folder of the model, made where it is missing. A training that was broken off goes on from its checkpoint.
    steps, wide_steps : int
        Batches of 2 windows in the first part, over the body, and in the second, which also looks further around.
    seed, threads : int
        Random seed and CPU threads. The same numbers give the same weights on the same machine.

    Returns
    -------
    dict
        The card's figures.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    check = [as_tensors(random_thorax([CHECK, n], WINDOW, SPACING)) for n in range(6)]
    network = build("unet", **ARCHITECTURE)
    network, first = learn(network, Phantoms(seed), check, out / "checkpoint.pt", steps, rate=4e-3, warm_up=40)
    check += [as_tensors(random_thorax([CHECK_WIDE, n], WINDOW, SPACING, wide=True)) for n in range(6)]
    wide = Phantoms(seed, wide=True)
    network, second = learn(network, wide, check, out / "checkpoint-wide.pt", wide_steps, rate=1.5e-3, warm_up=20)
    final = [as_tensors(random_thorax([FINAL, n], WINDOW, SPACING)) for n in range(20)]
    final += [as_tensors(random_thorax([FINAL_WIDE, n], WINDOW, SPACING, wide=True)) for n in range(20)]
    figures = {
        "phantoms": {
            "how": f"Dice over the voxels of {len(final)} random phantoms (64 x 64 x 64 at 4 mm) of other seeds",
            "dice": phantom_dice(network, final),
        }
    }
    if data is not None:
        figures["real_abdominal_ct"] = real_figures(network, Path(data))
    figures["training"] = {
        "steps": [steps, wide_steps],
        "best_steps": [first, second],
        "batch": BATCH,
        "seed": seed,
        "threads": threads,
    }
    export(network, card(figures), out)
    for name in ("checkpoint.pt", "checkpoint-wide.pt"):
        (out / name).unlink(missing_ok=True)
    return figures


def learn(
    network: torch.nn.Module, batch: "Phantoms", check: list, checkpoint: Path, steps: int, *, rate: float, warm_up: int
) -> tuple[torch.nn.Module, int]:
    """Train over one kind of views; return the network, its weights rounded as they are stored, and the best step."""
    found = fit(
        network,
        batch,
        steps,
        validate=lambda network: float(np.mean(list(phantom_dice(network, check).values()))),
        every=50,
        loss=lambda logits, target: dice_and_cross_entropy(logits, target, WEIGHTS),
        learning_rate=rate,
        warm_up=warm_up,
        checkpoint=checkpoint,
        log=lambda entry: print(entry, flush=True),
    )
    return as_stored(found.network), found.step


class Phantoms:
    """Batches of random phantoms: the newest view and one of the last hundred, drawn by the step's seed.

    Rendering a view takes as long as learning from it, so a new one comes every second step.
    """

    def __init__(self, seed: int, remembered: int = 100, *, wide: bool = False):
        self.seed, self.remembered, self.wide = seed, remembered, wide
        self.stream = LEARN_WIDE if wide else LEARN
        self.views: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([self.stream, self.seed, step])
        newest = step // 2
        older = int(rng.integers(max(0, newest - self.remembered), newest + 1))
        chosen = [self.view(newest), self.view(older)]
        for old in [n for n in self.views if n < newest - self.remembered]:
            del self.views[old]
        pairs = [as_tensors((_changed(image, rng), labels)) for image, labels in chosen]
        return torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs])

    def view(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a view, rendered again where it is not remembered, as after a break."""
        if number not in self.views:
            # Two of three views of the second part are wide: what was learned of the body is kept.
            wide = self.wide and number % 3 != 0
            self.views[number] = random_thorax([self.stream, self.seed, number], LEARNING_WINDOW, SPACING, wide=wide)
        return self.views[number]


def _changed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a view with fresh noise and a small change of scale."""
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, 12))
    return (image + noise + 1000) * np.float32(rng.uniform(0.98, 1.02)) - 1000


def as_tensors(pair: tuple[np.ndarray, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a view as the network takes it, (1, 1, z, y, x) from 0 to 1, and its regions (1, z, y, x), -1 unknown."""
    image, labels = pair
    scaled = (np.clip(image, LOW, HIGH).astype(np.float32) - LOW) / (HIGH - LOW)
    truth = torch.from_numpy(regions(labels))[None].long()
    return torch.from_numpy(scaled)[None, None], torch.where(truth == UNKNOWN, -1, truth)


# What comes of it ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def phantom_dice(network: torch.nn.Module, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
    """Return the Dice of every region over all voxels of all views together."""
    overlap, total = np.zeros(5), np.zeros(5)
    for image, truth in pairs:
        found = torch.where(truth < 0, -1, network(image).argmax(1))
        for value in REGIONS:
            a, b = found == value, truth == value
            overlap[value] += float((a & b).sum())
            total[value] += float(a.sum() + b.sum())
    return {name: round(float(2 * overlap[v] / max(total[v], 1)), 4) for v, name in REGIONS.items()}


def reference_regions(labels: np.ndarray, names: dict[str, str]) -> np.ndarray:
    """Turn the organ labels of the real CT into regions; body is not among them, so 1 means any other organ."""
    table = np.zeros(256, np.uint8)
    bones = ("vertebrae", "rib_", "hip_", "sacrum", "femur", "sternum", "clavicula", "scapula", "humerus", "skull")
    for value, name in names.items():
        region = 2 if name.startswith("lung") else 4 if name == "heart" else 3 if name.startswith(bones) else 1
        table[int(value)] = region
    return table[labels]


@torch.no_grad()
def segment(network: torch.nn.Module, image: np.ndarray) -> np.ndarray:
    """Return the logits (5, z, y, x) of a whole CT (z, y, x), HU, 4 mm, LPS: windows with overlap, Gaussian weights."""
    ahead = [max(0, w - n) for n, w in zip(image.shape, WINDOW, strict=True)]
    padded = np.pad(image, [(a // 2, a - a // 2) for a in ahead], mode="edge")
    line = [np.exp(-0.5 * ((np.arange(w) - (w - 1) / 2) / (w / 8)) ** 2) for w in WINDOW]
    weight = torch.from_numpy((line[0][:, None, None] * line[1][:, None] * line[2]).astype(np.float32)).clamp(min=1e-3)
    scaled = torch.from_numpy((np.clip(padded, LOW, HIGH).astype(np.float32) - LOW) / (HIGH - LOW))
    total, weights = torch.zeros(5, *padded.shape), torch.zeros(padded.shape)
    starts = [sorted({*range(0, n - w, w // 2), n - w}) for n, w in zip(padded.shape, WINDOW, strict=True)]
    for z in starts[0]:
        for y in starts[1]:
            for x in starts[2]:
                box = tuple(slice(s, s + w) for s, w in zip((z, y, x), WINDOW, strict=True))
                total[(slice(None), *box)] += network(scaled[box][None, None])[0] * weight
                weights[box] += weight
    inside = tuple(slice(a // 2, a // 2 + n) for a, n in zip(ahead, image.shape, strict=True))
    return (total / weights)[(slice(None), *inside)].numpy()


def real_figures(network: torch.nn.Module, data: Path) -> dict:
    """Return the agreement with the labels that another program gave to a real abdominal CT."""
    import nibabel
    from scipy import ndimage

    def load(name: str) -> tuple[np.ndarray, tuple[float, ...]]:
        image = nibabel.as_closest_canonical(nibabel.load(data / name))
        # Canonical is RAS in x, y, z: turned to LPS in z, y, x.
        return np.asarray(image.dataobj)[::-1, ::-1].transpose(2, 1, 0), image.header.get_zooms()[::-1]

    image, spacing = load("example_ct.nii.gz")
    reference = reference_regions(
        load("example_seg_fast_force_split.nii.gz")[0], json.loads((data / "total_labels.json").read_text())
    )
    shape = np.round(np.array(image.shape) * spacing / SPACING).astype(int)
    fine = np.array(image.shape) / shape
    position = np.meshgrid(*((np.arange(n) + 0.5) * f - 0.5 for n, f in zip(shape, fine, strict=True)), indexing="ij")
    coarse = ndimage.map_coordinates(image.astype(np.float32), position, order=1, mode="nearest")
    logits = segment(network, coarse)
    back = np.meshgrid(*((np.arange(n) + 0.5) / f - 0.5 for n, f in zip(image.shape, fine, strict=True)), indexing="ij")
    up = [ndimage.map_coordinates(channel, back, order=1, mode="nearest") for channel in logits]
    found = np.argmax(up, axis=0)
    return agreement(found, reference)


def agreement(found: np.ndarray, reference: np.ndarray) -> dict:
    """Return how far regions found agree with `reference_regions` of the same CT."""
    overlap = {}
    for value, name in ((2, "lung"), (3, "bone")):
        a, b = found == value, reference == value
        overlap[name] = round(2 * float((a & b).sum()) / max(float(a.sum() + b.sum()), 1), 4)
    organs = reference > 0
    return {
        "how": "agreement (Dice) with the labels of TotalSegmentator on one abdominal CT, which are no ground truth; "
        "the CT holds no heart, and the reference labels no body",
        "dice": overlap,
        "reference_organs_inside_body": round(float((found[organs] > 0).mean()), 4),
        "heart_found_ml_where_there_is_none": int((found == 4).sum() * 0.027),
        "lung_found_ml": int((found == 2).sum() * 0.027),
        "lung_reference_ml": int((reference == 2).sum() * 0.027),
    }


def card(figures: dict) -> dict:
    """Return the card but for what `export` adds."""
    return {
        "name": "ct-regions",
        "version": "1.0.0",
        "licence": "BSD-3-Clause",
        "description": "Finds body, lung, bone and heart in CT of the trunk, coarsely (4 mm). Body is all else inside "
        "the skin; a nodule in the lung counts as lung.",
        "intended_use": "Research and teaching, not for clinical use. A first, briefly trained model that learned from "
        "phantoms only. Known errors on real CT: it takes some bowel gas for lung, leaves out parts of lungs, above "
        "all where they are very dark or end at the border of the volume, and misses thin bones and the inside of "
        "thick ones.",
        "training_data": "Random CT-like phantoms of napari-lightbox only (random_thorax), with exact truth.",
        "figures": figures,
        "architecture": {"name": "unet", "args": ARCHITECTURE},
        "input": {
            "dims": 3,
            "channels": [{"name": "CT", "modality": "CT", "intensity": {"rule": "window", "low": LOW, "high": HIGH}}],
            "orientation": "LPS",
            "spacing": list(SPACING),
            "resize": None,
            "divisible_by": 8,
        },
        "window": {"size": list(WINDOW), "overlap": 0.5, "blending": "gaussian"},
        "output": {
            "kind": "labels",
            "activation": "softmax",
            "labels": {str(value): name for value, name in REGIONS.items()},
            "colours": {"1": "#9e9e9e", "2": "#4fc3f7", "3": "#fff59d", "4": "#ef5350"},
        },
    }


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="lightbox train ct-regions", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with a real CT and its labels, for the figures only")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--wide-steps", type=int, default=WIDE_STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    print(train(**vars(parser.parse_args(arguments))))


if __name__ == "__main__":
    main()
