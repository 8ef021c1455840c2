"""An image, and logits on its voxels."""

import numpy as np
import pytest
from output_files import SHAPE

from napari_lightbox.geometry import Grid
from napari_lightbox.volume import Volume


@pytest.fixture
def image(rng):
    """Return an oblique, anisotropic image."""
    turn, _ = np.linalg.qr(np.array([[1.0, 0.1, -0.05], [-0.08, 1.0, 0.2], [0.06, -0.15, 1.0]]))
    grid = Grid.from_spacing((3.0, 0.8, 1.1), SHAPE, (-20, 10, 35), turn * np.sign(np.diag(turn)))
    return Volume(rng.integers(-1000, 1000, SHAPE).astype(np.int16), grid, name="CT", meta={"modality": "CT"})


@pytest.fixture
def logits(rng):
    """Return logits of three classes."""
    return rng.normal(0, 3, (3, *SHAPE)).astype(np.float32)
