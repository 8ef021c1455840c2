"""Train ``ct-regions``: a small 3D U-Net that finds body, lung, bone, heart, fat and soft tissue in CT.

Run as ``lightbox train ct-regions --out FOLDER [--data FOLDER]``, or as a module::

    python -m napari_lightbox.models.shipped.train_ct_regions --out ct-regions --data FOLDER

It learns from random phantoms only (`napari_lightbox.phantoms.random_thorax`), so that it needs no data. They are drawn
in a second process while the network learns. The shipped weights took about an hour on two cores of an AMD EPYC with
bfloat16 instructions; without those it takes several times as long.

`--data` is a folder with real CT, which only ever serves for the figures (`measure_ct_regions` says which files).
"""

import argparse
import multiprocessing
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from ...phantoms_random import REGIONS, UNKNOWN, random_thorax, regions
from ..networks import build
from ..train import as_stored, dice_and_cross_entropy, export, fit

WINDOW = (64, 64, 64)
VIEW = (64, 80, 80)  # what is drawn of a person, and what the network sees of it at a time
LEARNING_WINDOW = (48, 64, 64)
SPACING = (4.0, 4.0, 4.0)
LOW, HIGH = -1000.0, 1000.0
CLASSES = len(REGIONS) + 1
ARCHITECTURE = {
    "dims": 3,
    "in_channels": 1,
    "out_channels": CLASSES,
    "channels": [8, 16, 32, 64, 128],
    "norm": "batch",
}
COLOURS = {"1": "#9e9e9e", "2": "#4fc3f7", "3": "#fff59d", "4": "#ef5350", "5": "#ffb300", "6": "#a1887f"}
STEPS = 6800
BATCH = 2
EVERY = 400
NEW_VIEW = 4  # steps
REMEMBERED = 400  # views
WEIGHTS = (1.0, 2.0, 2.0, 2.5, 2.0, 1.0, 1.0)  # gas, bone and heart fill little of a window
LATE = 4400  # steps; then what lies inside bones, as bright as organs with contrast agent, counts more
LATE_WEIGHTS = (1.0, 2.0, 2.0, 10.0, 2.0, 1.0, 1.0)
# Seeds of the phantoms: (stream, number). Streams never meet.
LEARN, FINAL, FINAL_WIDE = 1, 3, 6
FINALS = (20, 20)  # views held out, of both streams


def train(
    data: Path | None, out: Path, *, steps: int = STEPS, seed: int = 0, threads: int = 1, background: bool = True
) -> dict:
    """Train on random phantoms, take the figures, and write the model folder.

    Parameters
    ----------
    data : path or None
        Folder of real CT for the figures; left out where it is None.
    out : path
        Folder of the model, made where it is missing. A training that was broken off goes on from its checkpoint.
    steps : int
        Batches of 2 windows.
    seed, threads : int
        Random seed and CPU threads. The same numbers give the same weights on the same machine.
    background : bool
        Whether a second process draws the phantoms; the weights do not depend on it.

    Returns
    -------
    dict
        The card's figures.
    """
    from .measure_ct_regions import measure, write_failures

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    # Channels last and bfloat16: three times as fast on the processor that trained the shipped weights.
    network = build("unet", **ARCHITECTURE).to(memory_format=torch.channels_last_3d)
    with Phantoms(seed, background=background) as batch:
        found = fit(
            network,
            batch,
            steps,
            every=EVERY,
            loss=batch.loss,
            learning_rate=4e-3,
            warm_up=100,
            average=0.995,
            half=min(LEARNING_WINDOW) >= 3 * network.divisible_by,  # see `fit`
            checkpoint=out / "checkpoint.pt",
            log=lambda entry: print(entry, flush=True),
        )
    network = as_stored(found.network.to(memory_format=torch.contiguous_format))
    training = {"steps": steps, "batch": BATCH, "seed": seed, "threads": threads}
    export(network, card({}), out)
    views = held_out(FINAL, FINAL_WIDE, FINALS)
    figures = {**measure(out, views, data), "failures": write_failures(network, views, out), "training": training}
    export(network, card(figures), out)
    (out / "checkpoint.pt").unlink(missing_ok=True)
    return figures


class Phantoms:
    """Batches of windows out of random phantoms: one of the newest view, one of an older one, by the step's seed.

    Drawing a view takes longer than learning from it: a new one comes every fourth step, and a second process draws
    ahead. A view depends on its number only, so that the batches are the same however they are drawn.
    """

    def __init__(self, seed: int, *, background: bool = False, ahead: int = 12):
        self.seed = seed
        self.views: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.pending: deque[tuple[int, Future]] = deque()
        self.ahead = ahead
        self.weights = WEIGHTS
        self.pool = None
        if background:
            context = multiprocessing.get_context("spawn")
            self.pool = ProcessPoolExecutor(1, mp_context=context)

    def __enter__(self) -> "Phantoms":
        return self

    def __exit__(self, *_) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([LEARN, self.seed, step])
        self.weights = WEIGHTS if step < LATE else LATE_WEIGHTS
        newest = step // NEW_VIEW
        older = int(rng.integers(max(0, newest - REMEMBERED), newest + 1))
        chosen = [self.view(newest), self.view(older)]
        for old in [n for n in self.views if n < newest - REMEMBERED]:
            del self.views[old]
        pairs = [as_tensors(_seen(*view, rng)) for view in chosen]
        return torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs])

    def loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of the newest batch, whose step decides how much every class counts."""
        return dice_and_cross_entropy(logits, target, self.weights)

    def view(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a view, drawn again where it is not remembered, as after a break."""
        if self.pool is not None:
            start = self.pending[-1][0] + 1 if self.pending else number
            for n in range(start, number + self.ahead):
                self.pending.append((n, self.pool.submit(_draw, self.seed, n)))
            while self.pending and self.pending[0][0] <= number:
                n, future = self.pending.popleft()
                self.views[n] = future.result()
        if number not in self.views:
            self.views[number] = _draw(self.seed, number)
        return self.views[number]


def _draw(seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a view; every third lies further around, since the foam of a table looks like lung."""
    return random_thorax([LEARN, seed, number], VIEW, SPACING, wide=number % 3 == 2)


def _seen(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a window of a view with fresh noise and a small change of scale."""
    starts = [int(rng.integers(0, n - w + 1)) for n, w in zip(image.shape, LEARNING_WINDOW, strict=True)]
    box = tuple(slice(s, s + w) for s, w in zip(starts, LEARNING_WINDOW, strict=True))
    noise = rng.standard_normal(LEARNING_WINDOW, np.float32) * np.float32(rng.uniform(0, 12))
    return (image[box] + noise + 1000) * np.float32(rng.uniform(0.98, 1.02)) - 1000, labels[box]


def as_tensors(pair: tuple[np.ndarray, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a view as the network takes it, (1, 1, z, y, x) from 0 to 1, and its regions (1, z, y, x), -1 unknown."""
    image, labels = pair
    scaled = (np.clip(image, LOW, HIGH).astype(np.float32) - LOW) / (HIGH - LOW)
    truth = torch.from_numpy(regions(labels))[None].long()
    return torch.from_numpy(scaled)[None, None], torch.where(truth == UNKNOWN, -1, truth)


@torch.no_grad()
def phantom_dice(network: torch.nn.Module, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
    """Return the Dice of every region over all voxels of all views together."""
    overlap, total = np.zeros(CLASSES), np.zeros(CLASSES)
    for image, truth in pairs:
        found = torch.where(truth < 0, -1, network(image).argmax(1))
        for value in REGIONS:
            a, b = found == value, truth == value
            overlap[value] += float((a & b).sum())
            total[value] += float(a.sum() + b.sum())
    return {name: round(float(2 * overlap[v] / max(total[v], 1)), 4) for v, name in REGIONS.items()}


def held_out(stream: int, wide: int, counts: tuple[int, int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return views that no training sees: some of a stream, some of another one that lie further around."""
    views = [as_tensors(random_thorax([stream, n], WINDOW, SPACING)) for n in range(counts[0])]
    return views + [as_tensors(random_thorax([wide, n], WINDOW, SPACING, wide=True)) for n in range(counts[1])]


def card(figures: dict) -> dict:
    """Return the card but for what `export` adds."""
    return {
        "name": "ct-regions",
        "version": "2.0.0",
        "licence": "BSD-3-Clause",
        "description": "Finds lung, bone, heart, fat and soft tissue in CT of the trunk, coarsely (4 mm). Body is what "
        "remains inside the skin: gas and stool in the bowel, air in the airways. All classes together are the body's "
        "outline. Blood and contrast agent count as soft tissue, a nodule in the lung as lung.",
        "intended_use": "Research and teaching, not for clinical use. Known errors on real CT: thin ribs and part of "
        "the spongy inside of bones, above all below 150 HU, are soft tissue, and other bone is a little too wide; fat "
        "thinner than a voxel of 4 mm is soft tissue; lung that the border of the volume cuts may in places be taken "
        "for the air outside; air in the large airways is body, or lung. Organs that are bright with contrast agent "
        "may be bone, above all in small or noisy images (pictures failure-1 to 3). Heads, limbs, children and large "
        "tumours are not among what it learned from.",
        "training_data": "Random CT-like phantoms of napari-lightbox only (random_thorax), with exact truth; no image "
        "of a patient. The phantoms and the weights of the classes were chosen while looking at the real CTs of the "
        "figures, which therefore are no independent test.",
        "figures": figures,
        "architecture": {"name": "unet", "args": ARCHITECTURE},
        "input": {
            "dims": 3,
            "channels": [{"name": "CT", "modality": "CT", "intensity": {"rule": "window", "low": LOW, "high": HIGH}}],
            "orientation": "LPS",
            "spacing": list(SPACING),
            "resize": None,
            "divisible_by": 16,
        },
        "window": {"size": list(WINDOW), "overlap": 0.5, "blending": "gaussian"},
        "output": {
            "kind": "labels",
            "activation": "softmax",
            "labels": {str(value): name for value, name in REGIONS.items()},
            "colours": COLOURS,
        },
    }


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="lightbox train ct-regions", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with a real CT and its labels, for the figures only")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    print(train(**vars(parser.parse_args(arguments))))


if __name__ == "__main__":
    main()
