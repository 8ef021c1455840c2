"""Segmentations and contours dropped onto the window come onto the image that they belong to."""

import numpy as np
import pytest
from dicom_objects import contour, square, write_rtstruct, write_seg
from napari.layers import Image, Labels

import napari_lightbox as lb
from napari_lightbox.geometry import Grid
from napari_lightbox.viewer import asking, readers
from napari_lightbox.viewer.layers import layer_to_volume

pytest.importorskip("pydicom")
PLUGIN = "napari-lightbox"
GRID = Grid.from_spacing((3.0, 1.0, 1.25), (6, 20, 24), (-8, 12, 30))


@pytest.fixture(autouse=True)
def plugin():
    """Let napari's test plug-in manager know the installed plug-in."""
    from npe2 import PluginManager

    PluginManager.instance().discover()


@pytest.fixture
def told(monkeypatch):
    """Collect what people are told."""
    said = []
    monkeypatch.setattr(asking, "warn", said.append)
    return said


@pytest.fixture
def image(rng):
    """Return an image that knows the series it is."""
    data = rng.integers(0, 100, GRID.shape).astype(np.int16)
    series = {"uid": "1.2.3.5", "frame_of_reference_uid": "1.2.3.4"}
    return lb.Volume(data, GRID, name="CT", meta={"modality": "CT", "series": series})


def show(viewer, volume):
    from napari_lightbox.viewer.layers import make_layer

    return viewer.add_layer(make_layer(volume))


def parts(shape=(4, 6, 8)):
    """Return two disjoint segments in a corner of the image, planes 1 to 4."""
    first, second = np.zeros(shape, bool), np.zeros(shape, bool)
    first[:, :3], second[:, 4:, 2:] = True, True
    return first, second


def corner():
    return Grid(np.c_[GRID.affine[:, :3], [*GRID.to_world((1, 2, 3)), 1]], (4, 6, 8))


def test_a_segmentation_lands_on_its_image(make_napari_viewer, tmp_path, image, told):
    viewer = make_napari_viewer()
    show(viewer, image)
    first, second = parts()
    frames = [(n, k, mask[k]) for n, mask in ((1, first), (2, second)) for k in range(4)]
    path = write_seg(tmp_path / "seg.dcm", corner(), frames, segments=(1, 2))
    (layer,) = viewer.open(path, plugin=PLUGIN)
    assert isinstance(layer, Labels)
    assert layer.visible
    assert layer.data.shape == GRID.shape
    found = layer_to_volume(layer)
    assert found.grid == GRID
    assert np.array_equal(found.data[1:5, 2:8, 3:11], first + 2 * second)
    assert [label.name for label in found.labels.values()] == ["part 1", "part 2"]
    assert np.allclose(layer.colormap.color_dict[1][:3], (1, 0, 0), atol=0.02)
    assert told == []


def test_without_its_image_it_lies_where_its_frames_say(make_napari_viewer, tmp_path):
    viewer = make_napari_viewer()
    first, _ = parts()
    path = write_seg(tmp_path / "seg.dcm", corner(), [(1, k, first[k]) for k in range(4)])
    (layer,) = viewer.open(path, plugin=PLUGIN)
    assert layer_to_volume(layer).grid.distance(corner()) < 1e-4


@pytest.mark.parametrize("shift", [0, 0.4])
def test_an_image_of_another_series_takes_it_only_if_voxels_coincide(make_napari_viewer, tmp_path, image, shift, told):
    viewer = make_napari_viewer()
    affine = GRID.affine.copy()
    affine[0, 3] += shift
    other = image.replace(grid=Grid(affine, GRID.shape), meta={"modality": "CT"})
    show(viewer, other)
    first, _ = parts()
    path = write_seg(tmp_path / "seg.dcm", corner(), [(1, k, first[k]) for k in range(4)])
    (layer,) = viewer.open(path, plugin=PLUGIN)
    found = layer_to_volume(layer)
    assert found.data.sum() == first.sum()
    assert found.grid == other.grid if not shift else found.grid.distance(corner()) < 1e-4
    assert bool(told) is bool(shift)


def test_fractions_are_images(make_napari_viewer, tmp_path, rng):
    viewer = make_napari_viewer()
    stored = rng.integers(0, 256, (6, 20, 24)).astype(np.uint8)
    path = write_seg(tmp_path / "seg.dcm", GRID, [(1, k, stored[k]) for k in range(6)], "FRACTIONAL")
    (layer,) = viewer.open(path, plugin=PLUGIN)
    assert isinstance(layer, Image)
    assert np.allclose(layer_to_volume(layer).data, stored / 255, atol=1e-6)
    assert layer_to_volume(layer).kind == "probability"


def test_overlapping_contours_in_the_background(make_napari_viewer, qtbot, tmp_path, image, told):
    viewer = make_napari_viewer()
    show(viewer, image)
    path = write_rtstruct(
        tmp_path / "rs.dcm",
        {
            1: ("body", (255, 255, 0), [contour(GRID, k, square(0.5, 15.5)) for k in (1, 2, 3)]),
            2: ("organ", (0, 0, 255), [contour(GRID, 2, square(3.5, 6.5))]),
        },
    )
    done = []
    readers.open_path(viewer, path, on_done=done.extend)
    qtbot.waitUntil(lambda: bool(done), timeout=20000)
    body, organ = (layer_to_volume(layer) for layer in done)
    assert body.grid == organ.grid == GRID
    assert (body.data == 1).sum() == 675
    assert (organ.data == 2).sum() == 9
    assert np.allclose(done[1].colormap.color_dict[2][:3], (0, 0, 1), atol=0.02)
    assert told == []


def test_contours_whose_image_is_not_found_go_onto_the_active_one_and_say_so(make_napari_viewer, tmp_path, image, told):
    viewer = make_napari_viewer()
    show(viewer, image.replace(name="converted", meta={"modality": "CT"}))
    path = write_rtstruct(tmp_path / "rs.dcm", {1: ("organ", None, [contour(GRID, 2, square(3.5, 6.5))])}, "1.2.9")
    (layer,) = viewer.open(path, plugin=PLUGIN)
    assert layer_to_volume(layer).data.sum() == 9
    assert any("filled on converted" in sentence for sentence in told)


def of_another_patient(image):
    """Return the same voxels in another frame of reference."""
    series = {"uid": "9.9.1", "frame_of_reference_uid": "9.9.2"}
    return image.replace(name="other", meta={"modality": "CT", "series": series})


def test_contours_of_another_frame_of_reference_are_refused(make_napari_viewer, tmp_path, image):
    viewer = make_napari_viewer()
    show(viewer, of_another_patient(image))
    path = write_rtstruct(tmp_path / "rs.dcm", {1: ("organ", None, [contour(GRID, 2, square(3.5, 6.5))])}, "1.2.9")
    with pytest.raises(lb.FileError, match="another frame of reference than other: open the image"):
        viewer.open(path, plugin=PLUGIN)
    assert len(viewer.layers) == 1


def test_contours_go_onto_the_image_of_their_frame_of_reference(make_napari_viewer, tmp_path, image, told):
    viewer = make_napari_viewer()
    affine = GRID.affine.copy()
    affine[1, 3] += 2  # two rows further
    resampled = image.replace(grid=Grid(affine, GRID.shape), name="resampled")
    show(viewer, resampled)
    show(viewer, of_another_patient(image))
    path = write_rtstruct(tmp_path / "rs.dcm", {1: ("organ", None, [contour(GRID, 2, square(3.5, 6.5))])}, "1.2.9")
    (layer,) = viewer.open(path, plugin=PLUGIN)
    assert layer_to_volume(layer).grid == resampled.grid
    assert any("filled on resampled" in sentence for sentence in told)


def test_a_segmentation_of_another_frame_of_reference_stays_apart(make_napari_viewer, tmp_path, image, told):
    viewer = make_napari_viewer()
    show(viewer, of_another_patient(image))
    first, _ = parts()
    path = write_seg(tmp_path / "seg.dcm", corner(), [(1, k, first[k]) for k in range(4)])
    (layer,) = viewer.open(path, plugin=PLUGIN)
    assert layer_to_volume(layer).grid.distance(corner()) < 1e-4
    assert any("other: another frame of reference than that of seg.dcm" in sentence for sentence in told)


def test_a_named_series_with_another_frame_of_reference_is_told(make_napari_viewer, tmp_path, image, told):
    viewer = make_napari_viewer()
    show(viewer, image.replace(meta={"series": {"uid": "1.2.3.5", "frame_of_reference_uid": "9.9.2"}}))
    path = write_rtstruct(tmp_path / "rs.dcm", {1: ("organ", None, [contour(GRID, 2, square(3.5, 6.5))])})
    (layer,) = viewer.open(path, plugin=PLUGIN)
    assert layer_to_volume(layer).grid == GRID
    assert any("another frame of reference" in sentence for sentence in told)


def test_contours_without_any_image_are_refused(make_napari_viewer, tmp_path):
    viewer = make_napari_viewer()
    path = write_rtstruct(tmp_path / "rs.dcm", {1: ("organ", None, [contour(GRID, 2, square(3.5, 6.5))])}, "1.2.9")
    with pytest.raises(lb.FileError, match="put both into one folder"):
        viewer.open(path, plugin=PLUGIN)
    assert not viewer.layers


def test_real_contours_onto_the_open_image(make_napari_viewer, data, told):
    viewer = make_napari_viewer()
    folder = data("dicom_rtstruct/STS_025/PET").parent
    viewer.open(folder / "PET" / "image", plugin=PLUGIN)
    (layer,) = viewer.open(folder / "PET" / "mask" / "RS.dcm", plugin=PLUGIN)
    assert layer.visible
    assert (layer_to_volume(layer).data == 1).sum() == 606


def test_the_list_of_series_puts_contours_onto_their_image(make_napari_viewer, qtbot, data, told):
    from napari_lightbox.viewer.panels.series import SeriesPanel

    viewer = make_napari_viewer()
    panel = SeriesPanel(viewer)
    qtbot.addWidget(panel)
    panel.show_folder(data("dicom_seg"))
    qtbot.waitUntil(lambda: bool(panel.found) and not panel.bar.running, timeout=60_000)
    chosen = [one for one in panel.found if one.files[0].name == "liver.dcm" or "ct-3slice" in str(one.files[0])]
    assert [one.kind for one in sorted(chosen, key=lambda one: one.kind)] == ["image", "labels"]
    panel._open(chosen)
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=60_000)
    image, liver = (layer_to_volume(layer) for layer in viewer.layers)
    assert liver.grid == image.grid
    assert (liver.data == 1).sum() == 107098
    assert viewer.layers[1].visible
    assert told == []
