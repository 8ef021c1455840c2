"""Opening and saving through napari: every voxel comes back to where it was."""

import threading
import time
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from difficult_grids import difficult_grid
from napari.layers import Image, Labels
from napari.settings import get_settings
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QMessageBox

import napari_lightbox as lb
from napari_lightbox.errors import FileError
from napari_lightbox.geometry import Grid
from napari_lightbox.phantoms import SAMPLES, sample_path
from napari_lightbox.viewer import asking, offers, readers, samples, writers
from napari_lightbox.viewer.layers import layer_to_volume, notices
from napari_lightbox.volume import Volume

PLUGIN = "napari-lightbox"
FORMATS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


@pytest.fixture(autouse=True)
def our_plugin(npe2pm_):
    """Let napari's test plug-in manager know the installed plug-in."""


@pytest.fixture
def npe2pm_():
    from npe2 import PluginManager

    manager = PluginManager.instance()
    manager.discover()
    return manager


def saved(volume, path):
    lb.write(volume, path)
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_open_and_save_again(make_napari_viewer, tmp_path, difficult, suffix):
    viewer = make_napari_viewer()
    source = saved(difficult, tmp_path / f"in{suffix}")
    (layer,) = viewer.open(source, plugin=PLUGIN)
    assert isinstance(layer, Image)
    assert layer.ndim == 3
    target = tmp_path / f"out{suffix}"
    assert layer.save(str(target), plugin=PLUGIN) == [str(target)]
    back = lb.read(target)
    assert back.grid.same_space(difficult.grid, 1e-6)
    np.testing.assert_array_equal(back.data, difficult.data)


@pytest.mark.parametrize("suffix", [".nii.gz", ".seg.nrrd", ".mha"])
def test_new_labels_on_an_oblique_volume_are_saved_where_they_were_painted(
    make_napari_viewer, tmp_path, difficult, suffix
):
    viewer = make_napari_viewer()
    (image,) = viewer.open(saved(difficult, tmp_path / "in.nii"), plugin=PLUGIN)
    viewer.layers.selection.active = image
    viewer._new_labels()
    labels = viewer.layers[-1]
    assert "lightbox" not in labels.metadata
    labels.brush_size = 1
    labels.paint((4, 5, 6), 2)
    target = tmp_path / f"painted{suffix}"
    viewer.layers.save(str(target), selected=True, plugin=PLUGIN)
    wanted = difficult.grid.to_world(np.argwhere(difficult.data == image.data[4, 5, 6])[0])
    picture = SimpleITK.ReadImage(str(target))
    index = np.argwhere(SimpleITK.GetArrayFromImage(picture) > 0)
    assert len(index) >= 1
    places = [picture.TransformIndexToPhysicalPoint(i[::-1].tolist())[::-1] for i in index]
    assert min(np.linalg.norm(np.subtract(p, wanted)) for p in places) < 1e-3
    if suffix == ".nii.gz":
        loaded = nib.load(target)
        found = np.argwhere(np.asarray(loaded.dataobj) > 0)
        ras = nib.affines.apply_affine(loaded.affine, found)
        assert np.linalg.norm(ras * (-1, -1, 1) - wanted[::-1], axis=1).min() < 1e-3


def test_labels_come_as_labels_with_names(make_napari_viewer, tmp_path):
    grid = difficult_grid()
    data = np.zeros(grid.shape, np.uint8)
    data[1:4, 2:5, 3:6] = 4
    volume = Volume(data, grid, "labels", labels={4: "liver"})
    viewer = make_napari_viewer()
    (layer,) = viewer.open(saved(volume, tmp_path / "truth.nii.gz"), plugin=PLUGIN)
    assert isinstance(layer, Labels)
    assert "liver" in list(layer.features["name"])
    layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 4)
    target = tmp_path / "again.nii.gz"
    layer.save(str(target), plugin=PLUGIN)
    back = lb.read(target)
    assert back.kind == "labels"
    assert back.labels[4].name == "liver"
    assert back.data.dtype == np.uint8


def test_several_layers_are_saved_each_under_its_name(make_napari_viewer, tmp_path, difficult):
    viewer = make_napari_viewer()
    viewer.open(saved(difficult, tmp_path / "in.nii"), plugin=PLUGIN)
    viewer.layers.selection.active = viewer.layers[0]
    viewer._new_labels()
    viewer.layers[1].data[2, 2, 2] = 1
    viewer.layers[1].name = "a/b: lesion"
    written = viewer.layers.save(str(tmp_path / "case.nii.gz"), plugin=PLUGIN)
    assert sorted(Path(p).name for p in written) == ["case - a_b_ lesion.nii.gz", "case - difficult.nii.gz"]
    for path in written:
        assert lb.read(path).grid.same_space(difficult.grid)
    folder = writers.write_layers(str(tmp_path / "new"), [layer.as_layer_data_tuple() for layer in viewer.layers])
    assert sorted(Path(p).relative_to(tmp_path / "new").name for p in folder) == [
        "a_b_ lesion.nii.gz",
        "difficult.nii.gz",
    ]


def test_equal_names_do_not_overwrite_each_other(tmp_path):
    names = writers._file_names(tmp_path / "x.nii", ["a", "a", "A?", "..."])
    assert [n.name for n in names] == ["x - a.nii", "x - a 2.nii", "x - A_.nii", "x - layer.nii"]


def test_older_files_are_not_replaced_unasked(make_napari_viewer, tmp_path, difficult, monkeypatch):
    viewer = make_napari_viewer()
    viewer.open(saved(difficult, tmp_path / "in.nii"), plugin=PLUGIN)
    (tmp_path / "case - difficult.nii.gz").write_bytes(b"mine")
    (tmp_path / "out.nii.gz").write_bytes(b"mine")
    layers = [layer.as_layer_data_tuple() for layer in viewer.layers]
    double = [(layers[0][0], {**layers[0][1], "name": "a"}, "image"), layers[0]]
    with pytest.raises(FileError, match="already holds case - difficult"):
        writers.write_layers(str(tmp_path / "case.nii.gz"), double)
    assert not (tmp_path / "case - a.nii.gz").exists()
    with pytest.raises(FileError, match=r"already holds out\.nii\.gz"):
        writers.write_image(str(tmp_path / "out"), *layers[0][:2])
    assert (tmp_path / "out.nii.gz").read_bytes() == b"mine"
    asked = []
    monkeypatch.setattr(asking, "confirm", lambda question, *_: asked.append(question) or True)
    writers.write_layers(str(tmp_path / "case.nii.gz"), double)
    assert "case - difficult.nii.gz" in asked[0]
    assert lb.read(tmp_path / "case - difficult.nii.gz").grid.same_space(difficult.grid)
    # The name that was chosen literally is the dialog's business.
    writers.write_image(str(tmp_path / "out.nii.gz"), *layers[0][:2])
    assert len(asked) == 1


def test_a_strange_layer_is_refused_and_nothing_is_written(make_napari_viewer, tmp_path, difficult):
    viewer = make_napari_viewer()
    viewer.open(saved(difficult, tmp_path / "in.nii"), plugin=PLUGIN)
    viewer.add_labels(np.zeros((3, 4, 5), np.uint8), name="stranger")
    # No ValueError, which napari would take for a writer that does not fit.
    with pytest.raises(FileError, match="stranger"):
        writers.write_layers(str(tmp_path / "out.nii"), [layer.as_layer_data_tuple() for layer in viewer.layers])
    assert sorted(p.name for p in tmp_path.glob("out*")) == []


def test_a_layer_moved_by_hand_is_asked_about(make_napari_viewer, tmp_path, difficult, monkeypatch):
    viewer = make_napari_viewer()
    (layer,) = viewer.open(saved(difficult, tmp_path / "in.nii"), plugin=PLUGIN)
    layer.translate = np.add(layer.translate, (0, 0, 4.0))
    with pytest.raises(FileError, match="by hand"):
        writers.write_image(str(tmp_path / "out.nii"), *layer.as_layer_data_tuple()[:2])
    monkeypatch.setattr(asking, "confirm_moved", lambda *_: True)
    writers.write_image(str(tmp_path / "out.nii"), *layer.as_layer_data_tuple()[:2])
    shift = np.subtract(lb.read(tmp_path / "out.nii").grid.origin, difficult.grid.origin)
    assert np.linalg.norm(shift) == pytest.approx(4.0, abs=1e-4)


def test_a_name_without_a_suffix_gets_one(tmp_path, make_napari_viewer, difficult):
    viewer = make_napari_viewer()
    (layer,) = viewer.open(saved(difficult, tmp_path / "in.nii"), plugin=PLUGIN)
    assert writers.write_image(str(tmp_path / "out"), *layer.as_layer_data_tuple()[:2]) == [
        str(tmp_path / "out.nii.gz")
    ]


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.NRRD", "a.mha", "a.dcm", "a.png"])
def test_files_of_ours(name):
    assert readers.get_reader(name) is readers.read_layers
    assert readers.get_reader([name]) is readers.read_layers


def test_files_of_others(tmp_path):
    assert readers.get_reader("a.zarr") is None
    assert readers.get_reader("a.txt") is None
    assert readers.get_reader(["a.nii", "b.nii"]) is None
    (tmp_path / "x.zarr").mkdir()
    assert readers.get_reader(str(tmp_path / "x.zarr")) is None
    assert readers.get_reader(str(tmp_path)) is readers.read_layers


def test_broken_files_are_told_in_a_sentence(make_napari_viewer, tmp_path):
    viewer = make_napari_viewer()
    broken = tmp_path / "broken.nii"
    broken.write_bytes(b"\x5c\x01\x00\x00" + bytes(100))
    with pytest.raises(FileError, match=r"broken\.nii"):
        readers.read_layers(str(broken))
    assert len(viewer.layers) == 0


def test_a_dicom_folder(make_napari_viewer, data):
    viewer = make_napari_viewer()
    folder = data("dicom_ct_series")
    layers = viewer.open(folder, plugin=PLUGIN)
    volumes = lb.read_all(folder)
    assert len(layers) == len(volumes)
    for layer, volume in zip(layers, volumes, strict=True):
        assert layer_to_volume(layer).grid == volume.grid


def test_notices_are_told(make_napari_viewer, tmp_path, difficult, monkeypatch):
    told = []
    monkeypatch.setattr(asking, "warn", told.append)
    make_napari_viewer()
    readers.read_layers(str(saved(difficult, tmp_path / "in.nii")))
    assert any("oblique by" in text for text in told)


def test_open_in_the_background(make_napari_viewer, qtbot, tmp_path, difficult, monkeypatch):
    viewer, seen = make_napari_viewer(), []
    read = readers.read_all
    monkeypatch.setattr(readers, "read_all", lambda *a, **k: seen.append(threading.get_ident()) or read(*a, **k))
    opened = []
    readers.open_path(viewer, saved(difficult, tmp_path / "in.nii"), on_done=opened.extend)
    qtbot.waitUntil(lambda: len(opened) == 1, timeout=20000)
    assert seen[0] != threading.get_ident()
    assert layer_to_volume(opened[0]).grid.same_space(difficult.grid)


def test_two_files_at_once_leave_the_warnings_alone(tmp_path, monkeypatch):
    first, second, out = threading.Event(), threading.Event(), {}
    volume = Volume.from_array(np.zeros((2, 2, 2)), (1, 1, 1))

    def reading(file, spacing, refused):
        if file.name == "a":
            first.set()
            second.wait(5)
        else:
            refused.append("about b")
            second.set()
            time.sleep(0.1)
        return [volume]

    monkeypatch.setattr(readers, "read_all", reading)
    before = warnings.showwarning, list(warnings.filters)
    a = threading.Thread(target=lambda: out.update(a=readers._read(Path("a"))))
    b = threading.Thread(target=lambda: out.update(b=readers._read(Path("b"))))
    a.start()
    first.wait(5)
    b.start()
    a.join()
    b.join()
    assert (warnings.showwarning, warnings.filters) == before
    assert out["b"][0].meta["notes"] == ["about b"]
    assert not out["a"][0].meta.get("notes")


def test_refusals_are_warned_of_or_collected(monkeypatch, tmp_path):
    from napari_lightbox.io import dicom

    volume = Volume.from_array(np.zeros((2, 2, 2)), (1, 1, 1))
    monkeypatch.setattr(dicom, "read_all", lambda path, even=False: ([volume], [FileError("5.dcm is cut short")]))
    with pytest.warns(UserWarning, match="cut short"):
        lb.read_all(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused = []
        lb.read_all(tmp_path, refused=refused)
    assert refused == ["5.dcm is cut short"]


def other_grid(difficult, shift):
    moved = difficult.grid.affine.copy()
    moved[:3, 3] += shift
    grid = Grid(moved, difficult.grid.shape).with_spacing((2.0, 2.0, 2.0))
    return Volume(np.zeros(grid.shape, np.int16), grid, name="other")


@pytest.mark.parametrize("background", [False, True])
def test_a_file_on_another_grid_is_hidden_and_said_so(
    make_napari_viewer, qtbot, tmp_path, difficult, monkeypatch, background
):
    told, opened = [], []
    monkeypatch.setattr(asking, "warn", told.append)
    viewer = make_napari_viewer()
    viewer.open(saved(difficult, tmp_path / "first.nii"), plugin=PLUGIN)

    def open_one(volume, name):
        path = saved(volume, tmp_path / name)
        told.clear()
        opened.clear()
        if background:
            readers.open_path(viewer, path, on_done=opened.extend)
            qtbot.waitUntil(lambda: len(opened) == 1, timeout=20000)
        else:
            opened.extend(viewer.open(path, plugin=PLUGIN))
        return opened[0], [text for text in told if "another grid" in text]

    layer, said = open_one(other_grid(difficult, 0), "other.nii")
    assert not layer.visible
    assert "another grid than" in said[0]
    assert "spacing" in said[0]
    assert "eye" in said[0]
    layer, said = open_one(other_grid(difficult, 500.0), "far.nii")
    assert layer.visible
    assert "another grid than" in said[0]
    layer, said = open_one(difficult, "again.nii")
    assert layer.visible
    assert not said


def test_the_notice_of_an_oblique_volume_names_what_helps(difficult):
    (notice,) = notices(difficult)
    assert "Resample" in notice
    assert "Reorient" not in notice


def test_opening_what_is_not_there_is_told(make_napari_viewer, qtbot, tmp_path, monkeypatch):
    from napari_lightbox.viewer import runner

    told = []
    monkeypatch.setattr(runner, "notify_error", told.append)
    viewer = make_napari_viewer()
    readers.open_path(viewer, tmp_path / "none.nii")
    qtbot.waitUntil(lambda: bool(told), timeout=20000)
    assert "none.nii" in told[0]
    assert len(viewer.layers) == 0


def test_a_picture_is_asked_for_its_pixel_size(make_napari_viewer, tmp_path, monkeypatch):
    make_napari_viewer()
    path = tmp_path / "radiograph.png"
    lb.write(Volume.from_array(np.arange(120, dtype=np.uint8).reshape(10, 12)), path)
    monkeypatch.setattr(asking, "has_screen", lambda *_: True)
    monkeypatch.setattr(asking, "ask_spacing", lambda *_: 0.25)
    ((_, kwargs, _),) = readers.read_layers(str(path))
    assert tuple(kwargs["scale"][1:]) == (0.25, 0.25)
    assert kwargs["units"] == ("mm",) * 3
    monkeypatch.setattr(asking, "ask_spacing", lambda *_: None)
    ((_data, kwargs, _),) = readers.read_layers(str(path))
    assert kwargs["units"] == ("pixel",) * 3


@pytest.mark.parametrize("name", samples.NAMES)
def test_samples_open_with_their_truth_hidden(make_napari_viewer, name):
    viewer = make_napari_viewer()
    layers = viewer.open_sample(PLUGIN, name)
    assert layers[0].visible
    assert layer_to_volume(layers[0]).grid.same_space(lb.read(sample_path(name)).grid)
    if SAMPLES[name].truth:
        assert isinstance(layers[1], Labels)
        assert not layers[1].visible


@pytest.fixture
def extension2reader():
    before = dict(get_settings().plugins.extension2reader)
    yield lambda: get_settings().plugins.extension2reader
    get_settings().plugins.extension2reader = before


@pytest.mark.parametrize("answer", ["Yes", "No"])
def test_the_offer_is_made_once(make_napari_viewer, qtbot, tmp_path, difficult, monkeypatch, extension2reader, answer):
    viewer = make_napari_viewer(show=True)
    monkeypatch.setattr(offers, "enabled", True)
    path = saved(difficult, tmp_path / "in.nii.gz")
    assert extension2reader().get("*.nii.gz") != PLUGIN
    box = offers.offer_default(viewer)
    assert box.isVisible()
    QTimer.singleShot(0, box.button(getattr(QMessageBox.StandardButton, answer)).click)
    qtbot.waitUntil(lambda: not box.isVisible(), timeout=2000)
    assert offers.offer_default(viewer) is None
    if answer == "No":
        assert extension2reader().get("*.nii.gz") != PLUGIN
        return
    assert all(extension2reader()[pattern] == PLUGIN for pattern in offers.PATTERNS)
    (layer,) = viewer.open(path, plugin=None)
    assert layer_to_volume(layer).grid.same_space(difficult.grid)


def test_nothing_is_offered_where_nobody_looks(make_napari_viewer, monkeypatch):
    viewer = make_napari_viewer()
    monkeypatch.setattr(offers, "enabled", True)
    assert offers.offer_default(viewer) is None
    assert offers.offer_default(None) is None
