"""A folder to work in on the command line."""

import numpy as np

import napari_lightbox as lb
from napari_lightbox.cli import main
from napari_lightbox.volume import Volume


def fill(rng: np.random.Generator) -> lb.Volume:
    """Write ``a.nii.gz``, a small oblique-free volume, and ``mask.nii.gz`` on its grid into the working folder."""
    grid = lb.Grid.from_spacing((3.0, 2.0, 1.0), (6, 8, 10), (-5.0, 10.0, 20.0))
    volume = Volume(rng.integers(0, 50, (6, 8, 10)).astype(np.int16), grid, name="a")
    volume.data[2:4, 3:6, 2:7] += 500
    lb.write(volume, "a.nii.gz")
    lb.write(volume.replace(data=(volume.data > 300).astype(np.uint8), kind="labels", name="mask"), "mask.nii.gz")
    return volume


def run(*argv: str, code: int = 0) -> None:
    """Run a command, which ends with this code."""
    assert main([str(a) for a in argv]) == code
