"""The list of series of a folder: what it says agrees with what opens."""

import shutil

import numpy as np
import pytest

import napari_lightbox as lb
from napari_lightbox import io
from napari_lightbox.errors import FileError
from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.io import _dicom_pixels
from napari_lightbox.io._thumbnail import picture
from napari_lightbox.io.series import list_series

pytest.importorskip("pydicom")
import pydicom
from dicom_objects import contour, square, write_rtstruct, write_seg
from dicom_writing import dataset, write_series

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")


def test_what_is_said_of_a_series(dicom_series):
    folder, data, grid = dicom_series(StudyInstanceUID="1.2", StudyDate="20240229", StudyDescription="Check-up")
    (info,) = lb.list_series(folder)
    assert info.patient == ("Secret Name", "77")
    assert info.study == ("2024-02-29", "Check-up", "1.2")
    assert (info.number, info.description, info.modality, info.kind) == ("4", "Thorax", "CT", "image")
    assert sorted(info.files) == sorted(folder.iterdir())
    assert info.size == (9, 8, 6)
    assert info.spacing == pytest.approx((0.7, 0.8, 2.5))
    assert [type(v) for v in info.spacing] == [float] * 3
    assert (info.frames, info.warnings, info.problem, info.remedy_even) == (None, (), None, False)
    assert info.syntax == "Explicit VR Little Endian"
    (volume,) = info.load()
    assert np.array_equal(volume.data, data.astype(int) - 1024)
    assert volume.grid.distance(grid) < 1e-5
    assert info.uid == volume.meta["series"]["uid"]


def test_no_pixels_are_read_for_the_list_and_one_file_for_the_picture(dicom_series, monkeypatch):
    folder, _, _ = dicom_series()
    seen = []
    original = _dicom_pixels.decode
    monkeypatch.setattr(_dicom_pixels, "decode", lambda path, *rest: seen.append(path.name) or original(path, *rest))
    (info,) = list_series(folder)
    assert seen == []
    info.thumbnail()
    assert seen == ["97.dcm"]


def test_frames_are_told(tmp_path, rng):
    grid = Grid.from_spacing((2, 1, 1), (3, 4, 5))
    data = rng.integers(0, 99, (2, *grid.shape))
    write_series(tmp_path / "s", data, grid, lambda t, z: {"DiffusionBValue": (0, 900)[t]})
    (info,) = list_series(tmp_path)
    assert info.frames == ("b-value", 2, (0, 900), "s/mm2")
    assert info.size == (5, 4, 3)
    assert info.load()[0].grid.frames == Frames("b-value", (0, 900), "s/mm2")


def test_a_folder_as_it_comes_out_of_a_hospital(dicom_series, tmp_path):
    """Several patients, a gap, a report, a document, a broken file, files of other kinds."""
    root, _, _ = dicom_series()
    dicom_series(folder="series/gap", SeriesNumber=9, change=lambda ds, n: n != 3)
    dicom_series(folder="series/other", PatientID="5", PatientName="Another", SeriesNumber=2)
    for modality, name in (("SR", "report"), ("DOC", "document")):
        ds = dataset(1, 1)
        ds.Modality = modality
        del ds.Rows, ds.Columns
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.EncapsulatedPDFStorage
        ds.save_as(root / f"{name}.dcm", enforce_file_format=True)
    whole = next((root / "gap").iterdir()).read_bytes()
    (root / "broken").mkdir()
    (root / "broken" / "cut.dcm").write_bytes(whole[:300])
    (root / "letter.pdf").write_bytes(b"%PDF-1.4")
    (root / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    found = list_series(root)
    assert [(s.kind, s.number, s.modality) for s in found] == [
        ("image", "2", "CT"),
        ("image", "4", "CT"),
        ("image", "9", "CT"),
        ("other", "5", "DOC"),
        ("other", "5", "SR"),
        ("damaged", "", ""),
    ]
    assert found[0].patient == ("Another", "5")
    assert "some are missing" in found[2].problem
    assert found[2].remedy_even
    assert len(found[2].load(even=True)[0].data) == 6
    assert "report" in found[4].problem
    assert "cut.dcm" in found[5].problem
    for one in found[3:]:
        assert not one.thumbnail(32).any()
        with pytest.raises(FileError) as caught:
            one.load()
        assert str(caught.value) == one.problem


def test_a_slice_of_somebody_else(dicom_series):
    def swap(ds, index):
        if index == 5:
            ds.PatientID = "78"

    folder, _, _ = dicom_series(change=swap)
    found = list_series(folder)
    assert [(s.patient.id, s.number, s.size[2]) for s in found] == [("77", "4.1", 5), ("78", "4.2", 1)]
    assert all("another patient" in s.warnings[0] for s in found)


def test_a_damaged_slice_is_a_problem_of_its_series(dicom_series):
    folder, _, _ = dicom_series()
    path = folder / "95.dcm"
    path.write_bytes(path.read_bytes()[:300])
    found = list_series(folder)
    assert "95.dcm" in found[0].problem
    assert not found[0].remedy_even
    assert found[1].kind == "damaged"
    with pytest.raises(FileError, match=r"95\.dcm"):
        found[0].load(even=True)


def test_a_picture_without_a_position(dicom_series):
    def forget(ds, index):
        del ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing

    (info,) = list_series(dicom_series(count=1, change=forget)[0])
    assert (info.size, info.spacing, info.problem) == ((9, 8, 1), None, None)
    assert info.thumbnail().any()


def test_odd_headers_do_not_stop_the_list(dicom_series):
    folder, _, _ = dicom_series(count=3, StudyDate="", PatientName="", SeriesNumber="", WindowCenter="")
    (info,) = list_series(folder)
    assert info.patient == ("", "77")
    assert info.study.date == ""
    shutil.rmtree(folder)
    with pytest.raises(FileError, match="does not exist"):
        list_series(folder)
    folder.mkdir()
    with pytest.raises(FileError, match="holds no DICOM files"):
        list_series(folder)


def test_pixels_that_cannot_be_decoded_give_a_black_picture(dicom_series):
    (info,) = list_series(dicom_series(PixelData=bytes(20))[0])
    assert not info.thumbnail().any()


# Segmentations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_segmentation_has_the_size_of_its_masks(tmp_path, kind):
    """Two segments on planes 2 and 5 of a stack: four planes, whatever the number of frames."""
    grid = Grid.from_spacing((2.5, 0.8, 0.7), (9, 6, 7))
    mask = np.eye(6, 7, dtype=np.uint8)
    segments = (None,) if kind == "LABELMAP" else (1, 2)
    frames = [(n, k, mask) for n in segments for k in (2, 4, 5)]
    path = write_seg(tmp_path / "s.dcm", grid, frames, kind, segments=(1, 2))
    (info,) = list_series(tmp_path)
    assert (info.kind, info.modality, info.size, info.contents) == ("labels", "SEG", (7, 6, 4), "2 segments")
    assert info.spacing == pytest.approx((0.7, 0.8, 2.5))
    assert {v.grid.spatial_shape[::-1] for v in lb.read_masks(path)} == {info.size}


def test_contours_are_counted(tmp_path):
    grid = Grid.from_spacing((2.5, 0.8, 0.7), (9, 6, 7))
    liver = ("liver", None, [contour(grid, k, square(1, 4)) for k in (2, 3)])
    path = write_rtstruct(tmp_path / "s.dcm", {1: liver, 2: ("heart", None, liver[2][:1]), 3: ("nothing", None, [])})
    (info,) = list_series(tmp_path)
    assert (info.size, info.spacing, info.problem) == ((0, 0, 0), None, None)
    assert info.contents == "2 structures, 3 contours"
    write_rtstruct(path, {1: ("nothing", None, [])})
    assert "holds no contours" in list_series(tmp_path)[0].problem


def test_a_segmentation_that_cannot_be_placed_is_a_problem(tmp_path):
    def forget(ds):
        del ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence

    grid = Grid.from_spacing((2.5, 0.8, 0.7), (9, 6, 7))
    write_seg(tmp_path / "s.dcm", grid, [(1, 0, np.eye(6, 7, dtype=np.uint8))], change=forget)
    (info,) = list_series(tmp_path)
    assert "where frame 1 lies" in info.problem
    with pytest.raises(FileError, match="where frame 1 lies"):
        info.load()


def test_a_segmentation_that_is_asked_for_is_named(tmp_path, dicom_series):
    """Its number stands in the list, but its file is what opens it."""
    folder, _, _ = dicom_series()
    grid = Grid.from_spacing((2.5, 0.8, 0.7), (9, 6, 7))
    path = write_seg(folder / "s.dcm", grid, [(1, 0, np.eye(6, 7, dtype=np.uint8))])
    for wanted in ("9", 9, "struct"):
        with pytest.raises(FileError) as caught:
            io.read(folder, series=wanted)
        assert f"{path} holds a segmentation" in str(caught.value)
        assert "open that file by itself" in str(caught.value)
    assert io.read(folder).meta["modality"] == "CT"


def test_sizes_of_real_segmentations(data):
    found = [s for s in list_series(data("dicom_seg")) if s.kind == "labels"]
    assert [(s.size[2], s.contents) for s in found] == [(3, "1 segment"), (165, "2 segments"), (3, "1 segment")]
    for one in found:
        assert {v.grid.spatial_shape[::-1] for v in one.load()} == {one.size}


# The picture ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plane", "code", "right", "down"),
    [
        ("axial", "LPS", "L", "P"),
        ("axial", "RAS", "L", "P"),
        ("axial", "LAI", "L", "P"),
        ("coronal", "LSA", "L", "I"),
        ("coronal", "RIP", "L", "I"),
        ("sagittal", "PSR", "P", "I"),
        ("sagittal", "AIL", "P", "I"),
        ("axial", "PLS", "L", "P"),
    ],
)
def test_pictures_are_the_right_way_up(plane, code, right, down):
    """A bright corner at the left-posterior-inferior end, whatever the order of the axes."""
    grid = Grid.from_spacing((3, 1, 1), (7, 20, 20))
    order, flips = grid.order_for(code)
    grid = grid.reordered(order, flips)
    points = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), -1)
    z, y, x = np.moveaxis(grid.to_world(points), -1, 0)
    ends = {"L": x, "P": y, "I": -z}
    middle = grid.shape[0] // 2
    for letter, axis in ((right, 1), (down, 0)):
        shown = picture(ends[letter][middle], grid, 60).astype(float)
        inside = np.argwhere(shown > 0)
        (top, left), (bottom, end) = inside.min(axis=0), inside.max(axis=0)
        part = shown[top : bottom + 1, left : end + 1]
        first, last = (part[:, 0], part[:, -1]) if axis == 1 else (part[0], part[-1])
        assert last.mean() > first.mean() + 100, (plane, letter)


def test_pictures_have_the_right_aspect():
    grid = Grid.from_spacing((1, 3, 1), (1, 10, 20))
    shown = picture(np.arange(200.0).reshape(10, 20) + 500, grid, 60, [{"centre": 0, "width": 10}])
    rows, columns = (shown == 255).any(axis=1).sum(), (shown == 255).any(axis=0).sum()
    assert (rows, columns) == (60, 40)
    assert not shown[:, :10].any()
    assert not shown[:, -10:].any()


@pytest.mark.parametrize("values", [np.zeros((5, 5)), np.full((5, 5), np.nan), np.array([[np.inf, 1], [2, 3]])])
def test_pictures_of_odd_values(values):
    shown = picture(values, Grid.from_spacing((1, 1, 1), (1, *values.shape)), 16)
    assert shown.shape == (16, 16)
    assert shown.dtype == np.uint8


def test_low_values_are_bright_where_the_file_says_so(dicom_series):
    plain = list_series(dicom_series()[0])[0].thumbnail(32).astype(int)
    (info,) = list_series(dicom_series(folder="m", PhotometricInterpretation="MONOCHROME1")[0])
    volume = io.read(info.files[0].parent)
    assert "MONOCHROME1" in volume.meta["notes"][0]
    inner = info.thumbnail(32).astype(int)[8:24, 8:24]
    assert inner.shape == plain[8:24, 8:24].shape
    low = picture(volume.data[3], volume.grid, 32, volume.meta["windows"]).astype(int)
    assert np.array_equal(inner, 255 - low[8:24, 8:24])


# Real folders ---------------------------------------------------------------------------------------------------


def test_every_real_folder(data):
    """What the list promises, loading keeps."""
    root = data("dicom_single").parent
    folders = sorted(
        p for p in root.iterdir() if p.is_dir() and (p.name.startswith("dicom_") or "phantom_dicom" in p.name)
    )
    assert len(folders) == 11
    count = 0
    for folder in folders:
        for info in list_series(folder):
            if info.kind != "image":
                continue
            count += 1
            assert (info.problem is None) == (folder.name != "dicom_missing_slice")
            (volume,) = info.load(even=info.remedy_even)
            if info.problem is None:
                assert tuple(reversed(info.size)) == volume.grid.spatial_shape
            if info.spacing is not None:
                assert info.spacing[::-1] == pytest.approx(volume.grid.spacing, rel=1e-5)
            assert (info.frames and info.frames.values) == (volume.grid.frames and volume.grid.frames.values)
            assert info.thumbnail(48).std() > 1
    assert count == 17
