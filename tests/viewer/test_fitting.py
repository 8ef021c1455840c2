"""A picture that nobody has moved stays whole, and is not hidden, when the canvas shrinks. No window is needed."""

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_lightbox.viewer.panels.view import attach


@pytest.fixture
def wide():
    """Return a viewer model with a wide picture that napari has fitted, and a function for its share of the canvas."""
    model = ViewerModel()
    model.canvas.size = (600, 1200)
    model.add_image(np.zeros((2, 300, 1100), np.uint8))
    model.fit_to_view()

    def share() -> float:
        return float(max(np.array((300, 1100)) * model.scene.camera.zoom / np.array(model.canvas.size)))

    assert share() == pytest.approx(0.95)
    return model, share


def test_letters_after_the_layers_keep_the_picture_whole(wide):
    model, share = wide
    attach(model)
    assert share() == pytest.approx(0.95)
    for size in ((600, 700), (590, 650), (800, 1300)):
        model.canvas.size = size
        assert share() == pytest.approx(0.9)


def test_a_picture_that_is_cut_already_is_made_whole(wide):
    model, share = wide
    model.canvas.size = (600, 800)
    assert share() > 1.4
    attach(model)
    assert share() == pytest.approx(0.9)


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("change", [("zoom", 2.0), ("zoom", 0.4), ("center", (0.0, 150.0, 600.0))])
def test_what_the_user_has_zoomed_or_moved_stays(wide, change, late):
    model, _ = wide
    camera, (name, value) = model.scene.camera, change
    if late:
        attach(model)
    setattr(camera, name, value * camera.zoom if name == "zoom" else value)
    kept = camera.zoom, camera.center
    attach(model)
    model.canvas.size = (600, 700)
    assert (camera.zoom, camera.center) == kept


def test_letters_are_small_on_a_small_canvas(wide):
    model, _ = wide
    attach(model)
    letter = model.canvas.overlays["lightbox_top"]
    sizes = []
    for size in ((600, 1200), (120, 300), (400, 400)):
        model.canvas.size = size
        sizes.append(letter.font_size)
    assert sizes == [16, 10, 16]
