"""Times the median of small pictures beside scipy: what an operation costs before it has much to do.

python tests/benchmarks/pictures.py [--dtype int16]
"""

import argparse
from functools import partial

import numpy as np
from rows import print_rows
from scipy import ndimage

from napari_lightbox.bench.task import Peer, Row, Task, exactly, size_text
from napari_lightbox.ops import filters

SIDES = (16, 32, 64, 128, 256)


def median(side: int, size: int, dtype: str, scale: float) -> Task:
    """Return the measurement of one size of picture and window."""
    picture = np.random.default_rng(0).integers(-1000, 1000, (side, side)).astype(dtype)
    peer = Peer("scipy", lambda: partial(ndimage.median_filter, picture, size), exactly)
    return Task(partial(filters.median, picture, size), [peer], size_text(picture), 2 * picture.nbytes)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default="int16")
    dtype = parser.parse_args().dtype
    print_rows(
        Row("median", f"median {size} x {size}", partial(median, side, size, dtype))
        for side in SIDES
        for size in (3, 5)
    )


if __name__ == "__main__":
    main()
