"""Viewer tests drive real widgets; they need a screen (Xvfb), or run without pictures on Qt's offscreen platform."""

import gc
import os

import numpy as np
import pytest
from difficult_grids import difficult_grid

from napari_lightbox.volume import Volume

pytest.importorskip("napari")
pytest.importorskip("qtpy")

if os.environ.get("QT_QPA_PLATFORM") in ("offscreen", "minimal"):
    # Without OpenGL napari cannot ask the card for its limits when a layer is added: answer for it.
    import napari._vispy.canvas as _canvas
    import napari._vispy.layers.base as _base
    import napari._vispy.layers.image as _image
    import napari._vispy.layers.labels as _labels

    for _module in (_image, _base, _labels, _canvas):
        if hasattr(_module, "get_gl_extensions"):
            _module.get_gl_extensions = lambda: "texture_float"
        _module.get_max_texture_sizes = lambda: (16384, 2048)


@pytest.fixture(autouse=True)
def _quick_collections():
    """Have the garbage collector pass over what is there already.

    napari and its test fixture collect whenever a layer or a viewer goes, which takes most of the time otherwise.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_choices(tmp_path_factory, monkeypatch):
    """Keep what tests choose out of the user's own configuration."""
    monkeypatch.setenv("LIGHTBOX_CONFIG", str(tmp_path_factory.mktemp("choices")))
    monkeypatch.delenv("LIGHTBOX_MODELS", raising=False)


@pytest.fixture
def difficult(rng):
    """Return an image volume with voxels that all differ, on a difficult grid."""
    grid = difficult_grid()
    data = rng.permutation(np.prod(grid.shape)).astype(np.int16).reshape(grid.shape)
    return Volume(data, grid, name="difficult", meta={"modality": "MR"})


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    """Keep the settings of whoever runs the tests out of them, and their answers out of the settings."""
    from qtpy.QtCore import QSettings

    from napari_lightbox.viewer import offers, preview

    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(tmp_path))
    # A dialog that nobody answers would wait for ever; the test that wants it switches it on.
    monkeypatch.setattr(offers, "enabled", False)
    # Nor does a preview come between, except in the tests of previews.
    monkeypatch.setattr(preview, "enabled", False)
