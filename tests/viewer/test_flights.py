"""What a flight of the Errors dock costs, counted rather than timed: each layer sliced and each canvas drawn once."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import Dims
from napari.layers._scalar_field.scalar_field import ScalarFieldSlicingState
from three_planes_tools import open_dock, settle
from vispy.gloo import Texture2D
from vispy.scene.visuals import Rectangle
from vispy.visuals.shaders.program import ModularProgram
from vispy.visuals.transforms import STTransform

from napari_lightbox.geometry import Grid
from napari_lightbox.viewer.layers import volume_to_layer
from napari_lightbox.viewer.panels._pane import main_canvas
from napari_lightbox.viewer.panels._quiet import Plate, Steady, aim, quieten, slicing_once
from napari_lightbox.viewer.panels.errors import ErrorsPanel
from napari_lightbox.viewer.panels.view import attach
from napari_lightbox.volume import Volume

SHAPE = (24, 40, 36)


def add(viewer, data: np.ndarray, kind: str, name: str):
    volume = Volume(data, Grid.from_spacing((3.0, 1.0, 1.0), data.shape), kind, name)
    made, arguments, layer_type = volume_to_layer(volume)
    return getattr(viewer, f"add_{layer_type}")(made, **arguments)


def fill(viewer) -> None:
    """Open an image, a prediction and a reference that differ in five places, no two in the same slice or row."""
    rng = np.random.default_rng(0)
    add(viewer, rng.normal(0, 100, SHAPE).astype(np.float32), "image", "ct")
    truth = np.zeros(SHAPE, np.uint8)
    truth[4:20, 8:32, 8:28] = 1
    guess = truth.copy()
    for n in range(5):
        guess[4 + 3 * n : 6 + 3 * n, 10 + 4 * n : 12 + 4 * n, 10 + 3 * n : 12 + 3 * n] = 0
        guess[4 + 3 * n, 10 + 4 * n, 12 + 3 * n : 16] = 0
    add(viewer, guess, "labels", "model")
    add(viewer, truth, "labels", "reference")


@pytest.fixture
def counted(monkeypatch):
    """Count slicings by the name of the layer, and shaders that are compiled."""
    counts = Counter()
    slicing, build = ScalarFieldSlicingState.set_view_slice, ModularProgram._build

    def sliced(state):
        counts[state.layer.name] += 1
        return slicing(state)

    def built(program):
        counts["shaders"] += 1
        return build(program)

    monkeypatch.setattr(ScalarFieldSlicingState, "set_view_slice", sliced)
    monkeypatch.setattr(ModularProgram, "_build", built)
    return counts


def test_a_flight_slices_each_layer_once_and_draws_each_canvas_once(make_napari_viewer, qtbot, counted):
    viewer = make_napari_viewer(show=True)
    fill(viewer)
    planes = open_dock(viewer, qtbot)
    panel = ErrorsPanel(viewer)
    qtbot.addWidget(panel)
    panel.find()
    qtbot.waitUntil(lambda: not panel.bar.running, timeout=30_000)
    assert len(panel.model.shown) >= 4
    canvases = {"main": main_canvas(viewer), **{name: pane.qt_viewer for name, pane in planes.panes.items()}}
    for name, canvas in canvases.items():
        canvas.canvas._scene_canvas.events.draw.connect(
            lambda event, name=name: counted.update([f"draw {name}"]), position="last"
        )
    # The first ones bring the cameras to the zoom of an error, and compile what was never shown.
    for place in (0, 1):
        panel.show_row(place)
        settle(qtbot, planes)
    for place in (2, 0):
        counted.clear()
        panel.show_row(place)
        layers = {name: counted[name] for name in ("ct", "model", "reference", panel.layer.name)}
        # All are where they should be when the click returns: what follows is drawing.
        world = np.array(panel.layer.data_to_world(panel.model.rows[panel.model.shown[place]]["voxel"]))
        for canvas in canvases.values():
            model = canvas.viewer
            where = list(model.dims.not_displayed)
            assert np.array(model.dims.point)[where] == pytest.approx(world[where])
            shown = world[list(model.dims.displayed)]
            assert model.scene.camera.center[-2:] == pytest.approx(tuple(shown), abs=1e-6)
            assert canvas.canvas.view.camera.rect.center == pytest.approx(tuple(shown[::-1]), abs=1e-6)
        assert planes.point == pytest.approx(world)
        settle(qtbot, planes)
        qtbot.wait(100)
        assert layers == dict.fromkeys(layers, 4)
        assert {name: counted[name] for name in layers} == layers
        assert [counted[f"draw {name}"] for name in canvases] == [1, 1, 1, 1]
        assert counted["shaders"] == 0


def test_a_quiet_canvas_shows_the_same(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    attach(viewer)
    fill(viewer)
    # A text, and a bar with a box, both napari's own, beside those of the package.
    text, bar = viewer.canvas.overlays.text, viewer.canvas.overlays.scale_bar
    text.text, text.box, text.visible, bar.box, bar.visible = "one\ntwo", True, True, True, True
    viewer.window.resize(700, 600)
    qtbot.wait(50)

    def picture(slice_: int, zoom: float, colours: str = "gray", said: str = "one\ntwo") -> np.ndarray:
        viewer.layers["ct"].colormap, text.text = colours, said
        viewer.dims.set_current_step(0, slice_)
        viewer.scene.camera.zoom = zoom
        return viewer.screenshot(canvas_only=True, flash=False)

    before = {at: picture(*at) for at in ((7, 6.0), (12, 6.0), (7, 9.0, "red", "a longer one"), (7, 9.0))}
    assert not np.array_equal(before[7, 6.0], before[12, 6.0])
    canvas = main_canvas(viewer)
    quieten(canvas)
    texts = [visual for found in canvas.canvas._viewer_overlay_to_visual.values() for visual in found]
    assert any(type(visual.box) is Plate for visual in texts)
    assert {type(one.node.transform) for one in canvas.canvas.layer_to_visual.values()} == {Steady}
    assert all(isinstance(font._kernel, Texture2D) for font in canvas._font_manager._fonts.values())
    quieten(canvas)
    for at, wanted in before.items():
        np.testing.assert_array_equal(picture(*at), wanted)
    # Turned, and in 3D and back, where napari makes new transforms.
    viewer.dims.order = (1, 0, 2)
    turned = viewer.screenshot(canvas_only=True, flash=False)
    assert not np.array_equal(turned, before[7, 9.0])
    viewer.dims.order = (0, 1, 2)
    np.testing.assert_array_equal(picture(7, 9.0), before[7, 9.0])


def test_aiming_once_is_centre_and_zoom(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    fill(viewer)
    canvas = main_canvas(viewer)
    aim(canvas, (-12.5, 7.25), 11.0)
    quick = canvas.canvas.view.camera.rect
    assert viewer.scene.camera.center == (0.0, -12.5, 7.25)
    assert viewer.scene.camera.zoom == 11.0
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0.0, 1.0, 2.0), 5.0
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0.0, -12.5, 7.25), 11.0
    slow = canvas.canvas.view.camera.rect
    assert (*quick.pos, *quick.size) == pytest.approx((*slow.pos, *slow.size))


def test_a_plate_lies_where_a_rectangle_would():
    base = STTransform(scale=(2.0, 3.0), translate=(5.0, 7.0))
    plate, plain = Plate(), Rectangle(center=(0, 0), border_width=0)
    plate.transform = base
    plain.transform = base
    for width, height, centre in ((40, 10, (20, 5)), (55, 12, (27.5, 6))):
        for one in (plate, plain):
            one.width, one.height, one.center = width, height, centre
        base.translate = (width, height)
        corners = [np.asarray(one.mesh.mesh_data.get_vertices(indexed="faces")) for one in (plate, plain)]
        found, wanted = (
            one.transform.map(at.reshape(-1, at.shape[-1])[:, :2])
            for one, at in zip((plate, plain), corners, strict=True)
        )
        np.testing.assert_allclose(found[:, :2], wanted[:, :2], atol=1e-5)
    assert (plate.width, plate.height, plate.center) == (55, 12, (27.5, 6))


class Without:
    """A widget, with its canvas, that has everything but some attributes."""

    def __init__(self, inside, missing) -> None:
        self.inside, self.missing = inside, missing

    def __getattr__(self, name):
        if name in self.missing:
            raise AttributeError(name)
        found = getattr(self.inside, name)
        return Without(found, self.missing) if name == "canvas" else found


def test_what_napari_lacks_one_day_is_left_to_its_own_way(make_napari_viewer):
    viewer = make_napari_viewer()
    fill(viewer)
    widget = main_canvas(viewer)
    names = ("layer_to_visual", "_viewer_overlay_to_visual", "_font_manager", "camera")

    def steady() -> set[bool]:
        return {type(one.node.transform) is Steady for one in widget.canvas.layer_to_visual.values()}

    for missing in (names, *((name,) for name in names)):
        quieten(Without(widget, missing))
        assert steady() == {missing not in (names, names[:1])}
        viewer.scene.camera.center, viewer.scene.camera.zoom = (0.0, 1.0, 2.0), 3.0
        aim(Without(widget, missing), (3.0, 4.0), 5.0)
        assert (viewer.scene.camera.center, viewer.scene.camera.zoom) == ((0.0, 3.0, 4.0), 5.0)
        assert widget.canvas.view.camera.rect.center == pytest.approx((4.0, 3.0))


def test_sliders_are_heard_where_no_function_that_slices_is_found():
    dims, heard = Dims(ndim=3, range=((0, 9, 1),) * 3), []
    dims.events.current_step.connect(heard.append)
    with slicing_once(SimpleNamespace(dims=dims)):
        dims.set_point(0, 4)
    assert heard
