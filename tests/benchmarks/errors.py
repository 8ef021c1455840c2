"""Measures how long the list of errors takes: a case of 100 labels with thousands of errors, some of them large.

python tests/benchmarks/errors.py [--shape 400 512 512] [--labels 100] [--repeats 3]
"""

import argparse
import time

import numpy as np

from napari_lightbox.ops import _ready
from napari_lightbox.ops._errors import find_errors


def make_case(shape: tuple[int, ...], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a prediction and a reference: ellipsoids; half of them shifted by a voxel, some lost, specks added."""
    rng = np.random.default_rng(0)
    reference = np.zeros(shape, np.uint8)
    for label in range(1, count + 1):
        centre = [rng.uniform(0.1, 0.9) * n for n in shape]
        radius = [rng.uniform(0.03, 0.12) * n for n in shape]
        box = tuple(
            slice(max(0, int(c - r)), min(n, int(c + r) + 1)) for c, r, n in zip(centre, radius, shape, strict=True)
        )
        parts = zip(np.ogrid[box], centre, radius, strict=True)
        reference[box][sum(((at - c) / r) ** 2 for at, c, r in parts) < 1] = label
    predicted = np.roll(reference, (1, 1), (1, 2))
    predicted[: shape[0] // 2] = reference[: shape[0] // 2]
    for label in (3, count // 2, 3 * count // 4):
        predicted[predicted == label] = 0
    for _ in range(300):
        z, y, x = (rng.integers(2, n - 6) for n in shape)
        predicted[z : z + 3, y : y + 4, x : x + 3] = rng.integers(0, count)
    return predicted, reference


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(400, 512, 512))
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    predicted, reference = make_case(tuple(args.shape), args.labels)
    size = f"{' x '.join(map(str, args.shape))}, {args.labels} labels, {np.count_nonzero(predicted != reference)} wrong"
    for number in range(args.repeats + 1):
        began = time.perf_counter()
        if number:
            found = find_errors(predicted, reference, (1.0, 0.7, 0.7))
        else:
            with _ready.waiting():
                found = find_errors(predicted, reference, (1.0, 0.7, 0.7))
        note = " (kernels made ready)" if number == 0 else ""
        print(f"{size}: {len(found.table)} errors in {time.perf_counter() - began:.2f} s{note}")


if __name__ == "__main__":
    main()
