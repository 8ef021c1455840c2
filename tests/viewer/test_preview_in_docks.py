"""The live preview of docks, driven as a user drives them."""

import numpy as np
import pytest
from difficult_grids import difficult_grid
from napari.layers import Image, Labels, Layer

from napari_lightbox.apply import apply
from napari_lightbox.errors import InputError
from napari_lightbox.geometry import Frames
from napari_lightbox.viewer import docks, preview
from napari_lightbox.viewer.layers import is_preview, layer_to_volume, make_layer, volume_to_layer
from napari_lightbox.volume import Volume


@pytest.fixture
def viewer(make_napari_viewer, monkeypatch):
    monkeypatch.setattr(preview, "enabled", True)
    return make_napari_viewer()


def add(viewer, volume, **kwargs):
    return viewer.add_layer(Layer.create(*volume_to_layer(volume, **kwargs)))


def open_dock(viewer, name):
    dock = getattr(docks, name)(viewer)
    viewer.window.add_dock_widget(dock, name=name)
    return dock


def previews(viewer):
    return [layer for layer in viewer.layers if is_preview(layer)]


def settle(qtbot, dock, seconds=10):
    """Wait until the preview has caught up with the dock."""
    shown = dock.preview

    def rests():
        return not (shown._timer.isActive() or shown._runner.running or shown._wanted)

    qtbot.waitUntil(rests, timeout=1000 * seconds)


def picture(viewer, layer):
    """Return the slice of a layer that is on screen, or None where there is none."""
    if not layer.visible or layer._slice_input is None:
        return None
    point = viewer.dims.point
    offset = viewer.dims.ndim - layer.ndim
    index = np.round(layer.world_to_data(np.array(point[offset:]))).astype(int)
    at = []
    for axis in range(layer.ndim):
        if axis + offset in viewer.dims.displayed:
            at.append(slice(None))
        elif not 0 <= index[axis] < layer.data.shape[axis]:
            return None
        else:
            at.append(index[axis])
    return np.asarray(layer.data[tuple(at)])


def assert_preview_is(viewer, result: Volume, dtype=None):
    (shown,) = previews(viewer)
    whole = Layer.create(*volume_to_layer(result))
    wanted = picture(viewer, whole)
    assert wanted is not None
    found = picture(viewer, shown)
    assert found is not None
    np.testing.assert_array_equal(found, wanted)


def test_the_slice_on_screen_is_that_of_the_result(viewer, qtbot, difficult):
    layer = add(viewer, difficult)
    dock = open_dock(viewer, "median")
    settle(qtbot, dock)
    assert_preview_is(viewer, apply("median", difficult, size=3))
    assert viewer.layers.selection.active is layer  # it stays selected
    shown = previews(viewer)[0]
    for order, step in [((0, 1, 2), 0), ((1, 0, 2), 3), ((2, 0, 1), 4), ((2, 0, 1), 0)]:
        viewer.dims.order = order
        viewer.dims.set_current_step(order[0], step)
        settle(qtbot, dock)
        assert_preview_is(viewer, apply("median", difficult, size=3))
    dock.fields["size"].set_value(5)
    settle(qtbot, dock)
    assert_preview_is(viewer, apply("median", difficult, size=5))
    dock.plane.setCurrentText("coronal")
    settle(qtbot, dock)
    assert_preview_is(viewer, apply("median", difficult, size=5, plane="coronal"))
    assert previews(viewer) == [shown]  # one layer for all of them: nothing flickers


def test_it_comes_with_its_dock_and_goes_while_another_is_in_front(make_napari_viewer, qtbot, difficult, monkeypatch):
    monkeypatch.setattr(preview, "enabled", True)
    viewer = make_napari_viewer(show=True)
    add(viewer, difficult)
    dock = open_dock(viewer, "median")
    qtbot.waitUntil(lambda: len(previews(viewer)) == 1, timeout=20000)
    assert_preview_is(viewer, apply("median", difficult, size=3))
    dock.parent().hide()
    assert not previews(viewer)
    dock.parent().show()
    qtbot.waitUntil(lambda: len(previews(viewer)) == 1, timeout=20000)


def test_frames(viewer, qtbot, rng):
    grid = difficult_grid((6, 7, 8), Frames("time", (0, 0.5, 1), "s"))
    volume = Volume(rng.integers(0, 99, grid.shape).astype(np.int16), grid, name="beat")
    add(viewer, volume)
    dock = open_dock(viewer, "median")
    for frame, step in [(0, 2), (2, 2), (1, 0)]:
        viewer.dims.set_current_step((0, 1), (frame, step))
        settle(qtbot, dock)
        assert_preview_is(viewer, apply("median", volume, size=3))


@pytest.mark.parametrize("shape", [(20, 30), (5, 20, 30)])
def test_layers_made_in_napari(viewer, qtbot, rng, shape):
    layer = viewer.add_image(rng.integers(0, 99, shape).astype(np.uint8), scale=(2, 3, 4)[: len(shape)])
    dock = open_dock(viewer, "median")
    settle(qtbot, dock)
    assert_preview_is(viewer, apply("median", layer_to_volume(layer, assume=True), size=3))


def test_labels_from_what_is_known_of_the_whole_volume(viewer, qtbot, difficult):
    add(viewer, difficult)
    dock = open_dock(viewer, "otsu")
    dock.fields["classes"].set_value(3)
    settle(qtbot, dock)
    assert isinstance(previews(viewer)[0], Labels)
    known = dock.preview._known
    assert known.frames
    for step in (0, 2):
        viewer.dims.set_current_step(0, step)
        settle(qtbot, dock)
        assert_preview_is(viewer, apply("otsu", difficult, classes=3))
    assert dock.preview._known is known  # the volume was looked at once
    dock.fields["classes"].set_value(4)
    settle(qtbot, dock)
    assert_preview_is(viewer, apply("otsu", difficult, classes=4))
    table = previews(viewer)[0].colormap.color_dict
    assert {1, 2, 3} <= set(table)


def test_new_voxels_are_seen(viewer, qtbot, difficult):
    layer = add(viewer, difficult)
    dock = open_dock(viewer, "otsu")
    settle(qtbot, dock)
    layer.data = np.where(layer.data > 100, 200, 0).astype(np.int16)
    settle(qtbot, dock)
    (shown,) = previews(viewer)
    np.testing.assert_array_equal(picture(viewer, shown), picture(viewer, layer) > 100)


def test_seeds_are_followed(viewer, qtbot):
    grid = difficult_grid()
    data = np.zeros(grid.shape, np.int16)
    data[2:6, 3:9, 4:10] = 100
    layer = add(viewer, Volume(data, grid, name="block"))
    dock = open_dock(viewer, "region_grow")
    assert not dock.preview.box.isChecked()  # all of the volume is needed: only where asked for
    dock.preview.box.click()
    settle(qtbot, dock)
    assert "press New" in dock.preview.message
    assert not previews(viewer)
    dock.new_seeds_button.click()
    settle(qtbot, dock)
    assert "holds no points" in dock.preview.message
    inside = np.argwhere(layer.data == 100)[7]
    viewer.dims.set_current_step(0, inside[0])
    dock.fields["threshold"].set_value(10.0)
    settle(qtbot, dock)
    # The first seed is heard though there was nothing to preview until now.
    dock.layers["seeds"].layer.add([inside])
    settle(qtbot, dock)
    (shown,) = previews(viewer)
    np.testing.assert_array_equal(picture(viewer, shown) > 0, picture(viewer, layer) == 100)
    assert viewer.layers[-1] is dock.layers["seeds"].layer  # the seeds stay on top
    assert dock.preview.message.startswith("region of 144 voxels")


def test_it_is_never_an_input_and_never_saved(viewer, qtbot, difficult):
    layer = add(viewer, difficult)
    dock = open_dock(viewer, "median")
    settle(qtbot, dock)
    (shown,) = previews(viewer)
    other = open_dock(viewer, "minimum" if hasattr(docks, "minimum") else "otsu")
    assert [other.layers["image"].itemData(i) for i in range(other.layers["image"].count())] == [str(layer.unique_id)]
    with pytest.raises(InputError, match="preview"):
        layer_to_volume(shown)
    assert shown.name.startswith("Preview")


def test_it_goes_when_applied_and_comes_back_with_a_change(viewer, qtbot, difficult):
    add(viewer, difficult)
    dock = open_dock(viewer, "median")
    settle(qtbot, dock)
    dock.apply()
    assert not previews(viewer)
    qtbot.waitUntil(lambda: not dock.bar.running, timeout=10000)
    viewer.dims.set_current_step(0, 1)
    settle(qtbot, dock)
    assert not previews(viewer)  # the result is there
    assert len(viewer.layers) == 2
    dock.fields["size"].set_value(5)
    settle(qtbot, dock)
    (shown,) = previews(viewer)
    assert viewer.layers[-1] is shown  # over the older result


def test_it_goes_with_the_box_and_the_box_is_remembered(viewer, qtbot, difficult):
    add(viewer, difficult)
    dock = open_dock(viewer, "median")
    settle(qtbot, dock)
    dock.preview.box.click()
    assert not previews(viewer)
    again = open_dock(viewer, "median")
    assert not again.preview.box.isChecked()
    again.preview.box.click()
    settle(qtbot, again)
    assert previews(viewer)


def test_it_goes_with_its_dock(viewer, qtbot, difficult):
    add(viewer, difficult)
    dock = open_dock(viewer, "median")
    settle(qtbot, dock)
    viewer.window.remove_dock_widget(dock)
    assert not previews(viewer)
    viewer.dims.set_current_step(0, 1)
    qtbot.wait(150)
    assert not previews(viewer)


def test_it_goes_with_its_layer(viewer, qtbot, difficult):
    layer = add(viewer, difficult)
    dock = open_dock(viewer, "median")
    settle(qtbot, dock)
    viewer.layers.remove(layer)
    assert not previews(viewer)
    settle(qtbot, dock)
    assert not previews(viewer)


def test_deleting_it_unticks_the_box(viewer, qtbot, difficult):
    add(viewer, difficult)
    dock = open_dock(viewer, "median")
    settle(qtbot, dock)
    viewer.layers.remove(previews(viewer)[0])
    qtbot.waitUntil(lambda: not dock.preview.box.isChecked())
    dock.fields["size"].set_value(5)
    settle(qtbot, dock)
    assert not previews(viewer)


def test_clearing_the_viewer_leaves_the_box(viewer, qtbot, difficult):
    add(viewer, difficult)
    dock = open_dock(viewer, "median")
    settle(qtbot, dock)
    viewer.layers.clear()
    qtbot.wait(50)
    add(viewer, difficult)
    settle(qtbot, dock)
    assert dock.preview.box.isChecked()
    assert len(previews(viewer)) == 1


def test_one_at_a_time(viewer, qtbot, difficult):
    add(viewer, difficult)
    first, second = open_dock(viewer, "median"), open_dock(viewer, "adaptive_median")
    settle(qtbot, first)
    settle(qtbot, second)
    assert len(previews(viewer)) == 1
    first.fields["size"].set_value(5)
    settle(qtbot, first)
    assert "Median" in previews(viewer)[0].name


def test_the_window_of_the_picture_is_shared(viewer, qtbot, difficult):
    layer = add(viewer, difficult, contrast_limits=(10, 500), colormap="bone")
    dock = open_dock(viewer, "median")
    settle(qtbot, dock)
    (shown,) = previews(viewer)
    assert isinstance(shown, Image)
    assert (tuple(shown.contrast_limits), shown.colormap.name) == ((10, 500), "bone")
    layer.contrast_limits = (20, 300)
    assert tuple(shown.contrast_limits) == (20, 300)
    shown.contrast_limits = (30, 200)
    assert tuple(layer.contrast_limits) == (30, 200)
    dock.preview.box.click()
    layer.contrast_limits = (1, 2)


def test_errors_are_said_quietly(viewer, qtbot, difficult):
    add(viewer, difficult)
    dock = open_dock(viewer, "affine")
    dock.preview.box.setChecked(True)
    dock.fields["translate"].entries[0].setText("two")
    settle(qtbot, dock)
    assert "translate" in dock.preview.message
    assert dock.bar.message == ""
    assert not previews(viewer)
    viewer.dims.ndisplay = 3
    dock.fields["translate"].entries[0].setText("2")
    settle(qtbot, dock)
    assert "3D" in dock.preview.message


def test_the_geometry_of_the_result_is_previewed(viewer, qtbot, difficult):
    add(viewer, difficult)
    dock = open_dock(viewer, "affine")
    dock.preview.box.click()
    dock.fields["rotate"].set_value((10.0, 0.0, 0.0))
    settle(qtbot, dock)
    assert_preview_is(viewer, apply("affine", difficult, rotate=(10.0, 0.0, 0.0)))


def test_what_is_overtaken_is_not_shown(viewer, qtbot, difficult, monkeypatch):
    """A slice that is ready after another one has been scrolled to stays unseen."""
    import threading

    go, real = threading.Event(), preview.slice_of
    add(viewer, difficult)
    viewer.dims.set_current_step(0, 2)
    monkeypatch.setattr(preview, "slice_of", lambda *a, **k: go.wait(5) and real(*a, **k))
    dock = open_dock(viewer, "median")
    qtbot.waitUntil(lambda: dock.preview._runner.running)
    viewer.dims.set_current_step(0, 4)
    dock.fields["size"].set_value(5)
    go.set()
    settle(qtbot, dock)
    assert_preview_is(viewer, apply("median", difficult, size=5))


def test_scrolling_waits_for_the_whole_volume_and_a_parameter_does_not(viewer, qtbot, difficult, monkeypatch):
    """What is found out about the whole volume serves every slice: it must not begin anew with each."""
    import threading

    from napari_lightbox.progress import track

    go, begun, real = threading.Event(), [], preview.slice_of

    def slow(*args, known, **values):
        if not known.frames:
            begun.append(values["mode"])
            for _ in track(range(1000)):
                if go.wait(0.01):
                    break
        return real(*args, known=known, **values)

    add(viewer, difficult)
    viewer.dims.set_current_step(0, 1)
    monkeypatch.setattr(preview, "slice_of", slow)
    dock = open_dock(viewer, "pad")
    assert dock.preview.box.text() == "Preview (needs the whole volume)"
    assert not dock.preview.box.isChecked()
    dock.preview.box.click()
    qtbot.waitUntil(lambda: len(begun) == 1)
    for step in (2, 3):
        viewer.dims.set_current_step(0, step)
        qtbot.wait(120)
    # Longer than a slice may take: nothing was begun anew.
    assert len(begun) == 1
    dock.fields["mode"].set_value("edge")
    qtbot.waitUntil(lambda: begun == ["constant", "edge"])
    dock.preview.box.click()
    qtbot.waitUntil(lambda: not dock.preview._runner.running, timeout=1000)
    dock.preview.box.click()
    qtbot.waitUntil(lambda: len(begun) == 3)
    go.set()
    settle(qtbot, dock)
    assert previews(viewer)
    for step in (1, 4):
        viewer.dims.set_current_step(0, step)
        settle(qtbot, dock)
    assert len(begun) == 3


def test_a_preview_is_for_the_plane_it_was_made_for(viewer, qtbot, difficult):
    """It has no twin in the three planes, and shows its next slice without putting all layers together anew."""
    from napari.components import ViewerModel

    from napari_lightbox.viewer.mirror import mirror

    below = add(viewer, difficult)
    dock = open_dock(viewer, "median")
    settle(qtbot, dock)
    (shown,) = previews(viewer)
    seen = []
    shown.events.visible.connect(lambda event: seen.append(event))
    made = mirror(viewer, ViewerModel(), taken=lambda layer: not is_preview(layer))
    above = viewer.add_labels(np.zeros(below.data.shape, np.uint8), scale=below.scale, translate=below.translate)
    viewer.dims.set_current_step(0, 3)
    settle(qtbot, dock)
    assert (shown.visible, seen, made.twin(shown)) == (True, [], None)
    assert list(viewer.layers) == [below, shown, above]
    viewer.layers.move(0, 3)
    assert list(viewer.layers) == [shown, above, below]
    assert [made.original(twin) for twin in made.target.layers] == [above, below]
    made.close()


def test_closing_the_viewer_is_quiet(viewer, qtbot, difficult):
    viewer.add_layer(make_layer(difficult))
    dock = open_dock(viewer, "median")
    settle(qtbot, dock)
    dock.fields["size"].set_value(7)
    viewer.close()
    qtbot.wait(100)
