"""Layers of arrays that lie on disk in compressed chunks."""

import numpy as np
import pytest

from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.models import chunks, stores
from napari_lightbox.viewer.layers import make_layer
from napari_lightbox.volume import Volume

pytest.importorskip("zarr")


def volume(values, kind="image") -> Volume:
    made = stores.make(values.shape, values.dtype, on_disk=True, along=-3)
    made[...] = values
    assert isinstance(made, chunks.Chunked)
    frames = Frames("time", tuple(range(len(values))), "s") if values.ndim == 4 else None
    return Volume(made, Grid.from_spacing((2.0, 1.0, 1.0), values.shape, frames=frames), kind, "made")


@pytest.fixture
def read(monkeypatch):
    """Count the voxels that are asked for."""
    seen, original = [], chunks.Kept.read

    def counted(self, places):
        seen.append(int(np.prod([len(one) for one in places])))
        return original(self, places)

    monkeypatch.setattr(chunks.Kept, "read", counted)
    return seen


@pytest.mark.parametrize("shape", [(45, 30, 40), (5, 27, 30, 40)])
def test_the_contrast_slider_reaches_values_beyond_the_middle_slice(read, shape):
    values = np.zeros(shape, np.float32)
    depth = shape[-3]
    values[..., : depth // 3, :, :] = -50
    values[..., depth - depth // 4 :, :, :] = 900
    layer = make_layer(volume(values), contrast_limits=(0, 100))
    assert tuple(layer.contrast_limits) == (0, 100)
    assert tuple(layer.contrast_limits_range) == (-50, 900)
    # The slice on screen and its thumbnail are read, too.
    assert sum(read) < values.size / 2


def test_the_first_window_is_that_of_several_slices():
    values = np.zeros((45, 30, 40), np.float32)
    values[10:20] = np.linspace(0, 3000, 40)
    low, high = make_layer(volume(values)).contrast_limits
    assert low == 0
    assert high == pytest.approx(3000, rel=0.05)


def test_frames_that_differ_are_seen():
    values = np.zeros((6, 4, 8, 8), np.float32)
    values += np.arange(6, dtype=np.float32)[:, None, None, None] * 100
    layer = make_layer(volume(values), contrast_limits=(1, 2))
    assert tuple(layer.contrast_limits_range) == (0, 500)


def test_a_probability_is_not_read_for_its_window(read):
    layer = make_layer(volume(np.full((45, 30, 40), 0.5, np.float16), "probability"))
    assert tuple(layer.contrast_limits_range) == (0, 1)
    assert sum(read) <= 2 * 30 * 40
