"""DICOM: series slice by slice are loaded exactly; what does not belong together comes apart, or is refused by name."""

import contextlib
import re
import sys

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from landmarks import rotation

from napari_lightbox import io
from napari_lightbox.errors import FileError, LightboxError, MissingPart
from napari_lightbox.geometry import Grid
from napari_lightbox.io import _bytes, dicom
from napari_lightbox.progress import Cancelled, listening

pydicom = pytest.importorskip("pydicom")
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")


def refused(path, *words):
    """Read, and check that the one sentence holds all words."""
    with pytest.raises(FileError) as caught:
        io.read(path)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


# A series that is in order --------------------------------------------------------------------------------------


def test_a_regular_series(dicom_series):
    folder, data, grid = dicom_series()
    read = io.read(folder)
    assert np.array_equal(read.data, data.astype(int) - 1024)
    assert read.data.dtype == np.int32
    assert read.grid.distance(grid) < 1e-5
    assert read.name == "Thorax"
    assert read.meta["unit"] == "HU"
    assert read.meta["modality"] == "CT"
    assert read.meta["windows"] == [
        {"name": "SOFT", "centre": 40.0, "width": 400.0},
        {"name": "LUNG", "centre": -600.0, "width": 1500.0},
    ]
    assert read.meta["series"]["number"] == "4"
    assert len(read.meta["series"]["instance_uids"]) == 6
    assert read.meta["source"] == str(folder)


def test_nothing_of_the_patient_is_kept(dicom_series, tmp_path):
    read = io.read(dicom_series()[0])
    assert "Secret" not in repr(read)
    path = io.write(read, tmp_path / "a.nrrd")
    assert b"Secret" not in path.read_bytes()


@pytest.mark.parametrize("turn", [(0, 0, 0), (90, 0, 0), (0, 90, 0), (5, 10, 15), (180, 0, 90), (-60, 35, 120)])
def test_every_orientation_as_itk_places_it(dicom_series, turn):
    grid = Grid.from_spacing((2.5, 0.8, 0.7), (6, 8, 9), (-30, 20, 10), rotation(*turn))
    folder, _, _ = dicom_series(grid=grid)
    read = io.read(folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    assert np.array_equal(read.data, sitk.GetArrayFromImage(image))
    for z, y, x in ((0, 0, 0), (5, 7, 8), (2, 0, 8)):
        assert np.allclose(
            image.TransformIndexToPhysicalPoint((x, y, z))[::-1], read.grid.to_world((z, y, x)), atol=1e-3
        )


def test_files_without_suffix_and_beside_other_files(dicom_series):
    folder, data, _ = dicom_series()
    for number, path in enumerate(folder.iterdir()):
        path.rename(folder / f"IM{number}")
    (folder / "notes.txt").write_text("hello")
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert np.array_equal(io.read(folder).data, data.astype(int) - 1024)


@pytest.mark.parametrize(
    ("dtype", "attributes", "result"),
    [
        (np.int16, {"RescaleIntercept": 0}, "int16"),
        (np.uint16, {"BitsStored": 12, "HighBit": 11, "RescaleIntercept": -1024}, "int16"),
        (np.uint16, {"RescaleIntercept": -1024}, "int32"),
        (np.uint16, {"RescaleIntercept": 0}, "uint16"),
        (np.int16, {"RescaleSlope": 2}, "int32"),
        (np.int16, {"RescaleSlope": "0.5"}, "float32"),
        (np.int16, {"RescaleIntercept": "-1024.5"}, "float32"),
    ],
)
def test_whole_hounsfield_units_stay_whole(dicom_series, dtype, attributes, result):
    folder, data, _ = dicom_series(dtype=dtype, **attributes)
    read = io.read(folder)
    assert read.data.dtype == result
    slope, inter = float(attributes.get("RescaleSlope", 1)), float(attributes.get("RescaleIntercept", -1024))
    assert np.allclose(read.data, data * slope + inter)


def test_every_slice_has_its_own_rescale(dicom_series):
    def change(ds, index):
        ds.Modality, ds.Units, ds.RescaleSlope, ds.RescaleIntercept = "PT", "BQML", f"{0.5 + index}", 0

    folder, data, _ = dicom_series(change=change)
    read = io.read(folder)
    assert np.allclose(read.data, data * (0.5 + np.arange(6))[:, None, None])
    assert read.meta["unit"] == "BQML"


def test_bits_beyond_those_stored_are_no_values(dicom_series):
    def overlay(ds, index):
        ds.BitsStored, ds.HighBit = 12, 11
        array = np.frombuffer(ds.PixelData, np.uint16) | 0xF000
        ds.PixelData = array.tobytes()

    folder, data, _ = dicom_series(change=overlay, dtype=np.uint16, RescaleIntercept=0)
    assert np.array_equal(io.read(folder).data, data & 0xFFF)


def test_padding_and_inverted_grey_are_told(dicom_series):
    folder, data, _ = dicom_series(PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1")
    read = io.read(folder)
    assert read.meta["padding_value"] == -3024
    assert np.array_equal(read.data, data.astype(int) - 1024)
    assert "MONOCHROME1" in read.meta["notes"][0]


def test_rounding_in_the_headers_is_tolerated(dicom_series):
    def rounded(ds, index):
        ds.ImagePositionPatient = [f"{float(v):.3f}" for v in ds.ImagePositionPatient]
        ds.ImageOrientationPatient = [f"{float(v) + (index % 2) * 1e-6:.5f}" for v in ds.ImageOrientationPatient]

    folder, _, grid = dicom_series(change=rounded)
    read = io.read(folder)
    assert read.grid.distance(grid) < 2e-3
    assert read.grid.shear < 1e-4


def test_a_single_file_is_one_slice(dicom_series):
    folder, data, grid = dicom_series(SliceThickness=3)
    read = io.read(folder / "98.dcm")
    assert np.array_equal(read.data[0], data[2].astype(int) - 1024)
    assert np.allclose(read.grid.origin, grid.to_world((2, 0, 0)), atol=1e-6)
    assert read.grid.spacing == pytest.approx((3, 0.8, 0.7))


def test_progress_and_cancel(dicom_series):
    folder, _, _ = dicom_series()
    said = []
    with listening(lambda what, done, total: said.append((what, done, total))):
        io.read(folder)
    assert ("headers read", 6, 6) in said
    assert ("files read", 6, 6) in said

    def cancel(what, done, total):
        if (what, done) == ("files read", 2):
            raise Cancelled

    with listening(cancel), pytest.raises(Cancelled):
        io.read(folder)


def test_a_series_that_does_not_fit(dicom_series, monkeypatch):
    folder, _, _ = dicom_series()
    monkeypatch.setattr(_bytes, "free_memory", lambda: 1000)
    refused(folder, str(folder), "needs", "1000 bytes is free")


def test_round_trip_through_nifti(dicom_series, tmp_path):
    read = io.read(dicom_series()[0])
    again = io.read(io.write(read, tmp_path / "a.nii.gz"))
    assert again.grid == read.grid
    assert again.name == "Thorax"
    assert again.meta["windows"] == read.meta["windows"]
    assert again.meta["series"] == read.meta["series"]


# Several series -------------------------------------------------------------------------------------------------


def test_series_are_never_merged(dicom_series):
    folder, first, _ = dicom_series()
    place = folder / "more"
    _, second, _ = dicom_series(folder="series/more", SeriesNumber=9, SeriesDescription="Abdomen")
    assert place.is_dir()
    refused(folder, "2 series", "4: 'Thorax', CT, 6 images", "9: 'Abdomen', CT, 6 images", "read_all")
    volumes = io.read_all(folder)
    assert [v.name for v in volumes] == ["Thorax", "Abdomen"]
    assert np.array_equal(volumes[1].data, second.astype(int) - 1024)
    for wanted in (9, "9", "abdo", volumes[1].meta["series"]["uid"]):
        assert np.array_equal(io.read(folder, series=wanted).data, second.astype(int) - 1024)
    assert np.array_equal(io.read(folder, series=4).data, first.astype(int) - 1024)
    with pytest.raises(FileError, match="no series 'pelvis' among"):
        io.read(folder, series="pelvis")


def test_a_bad_series_does_not_hide_the_good_one(dicom_series):
    folder, first, _ = dicom_series()
    dicom_series(folder="series/more", change=lambda ds, i: i != 3, SeriesNumber=9)
    with pytest.warns(UserWarning, match="some are missing"):
        volumes = io.read_all(folder)
    assert len(volumes) == 1
    assert np.array_equal(volumes[0].data, first.astype(int) - 1024)


# What is refused ------------------------------------------------------------------------------------------------


def test_missing_slice(dicom_series):
    folder, _, _ = dicom_series(change=lambda ds, i: i != 3)
    refused(folder, "2.5 mm apart", "1 between 98.dcm and 96.dcm (5 mm)")


def test_two_gaps(dicom_series):
    folder, _, _ = dicom_series(count=10, change=lambda ds, i: i not in (3, 6, 7))
    refused(folder, "1 between 98.dcm and 96.dcm", "2 between 95.dcm and 92.dcm")


def shifted(index, along):
    def change(ds, i):
        if i == index:
            ds.ImagePositionPatient = [
                f"{float(p) + a:.6f}" for p, a in zip(ds.ImagePositionPatient, along, strict=True)
            ]

    return change


def test_uneven_slices(dicom_series):
    grid = Grid.from_spacing((2.5, 0.8, 0.7), (6, 8, 9))
    folder, _, _ = dicom_series(grid=grid, change=shifted(3, (0, 0, 0.4)))
    refused(folder, "unevenly spaced", "98.dcm to 97.dcm (2.9 mm)")


def test_a_slice_beside_the_others(dicom_series):
    grid = Grid.from_spacing((2.5, 0.8, 0.7), (6, 8, 9))
    folder, _, _ = dicom_series(grid=grid, change=shifted(3, (3, 0, 0)))
    refused(folder, "sideways", "97.dcm")


def two_volumes(folder, *words, what="volumes"):
    """Check that reading asks which of two volumes is meant, and that both can be had; return them."""
    refused(folder, f"holds 2 {what}", *words)
    volumes = io.read_all(folder)
    assert len(volumes) == 2
    for number, volume in enumerate(volumes, start=1):
        again = io.read(folder, series=f"4.{number}")
        assert np.array_equal(again.data, volume.data)
        assert again.name == volume.name
    return volumes


def test_mixed_orientations_come_apart(dicom_series):
    straight = Grid.from_spacing((2.5, 0.8, 0.7), (6, 8, 9))

    def turn(ds, index):
        if index == 5:
            ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    folder, data, _ = dicom_series(grid=straight, change=turn)
    stack, scout = two_volumes(folder, "'Thorax (axial)', CT, 5 images", "'Thorax (coronal)', CT, 1 image")
    assert np.array_equal(stack.data, data[:5].astype(int) - 1024)
    assert np.array_equal(scout.data[0], data[5].astype(int) - 1024)
    assert scout.grid.code == "LIP"
    assert io.read(folder, series="coronal").grid == scout.grid


def test_mixed_sizes_come_apart(dicom_series):
    def cut(ds, index):
        if index == 5:
            ds.Rows, ds.PixelData = 7, ds.PixelData[: 7 * 9 * 2]

    folder, data, _ = dicom_series(change=cut)
    stack, other = two_volumes(folder, "9 x 8", "9 x 7")
    assert stack.data.shape == (5, 8, 9)
    assert np.array_equal(other.data[0], data[5, :7].astype(int) - 1024)


def test_mixed_pixel_spacings_come_apart(dicom_series):
    def zoom(ds, index):
        if index == 5:
            ds.PixelSpacing = [0.9, 0.7]

    stack, other = two_volumes(dicom_series(change=zoom)[0], "part 1", "part 2")
    assert stack.grid.spacing == pytest.approx((2.5, 0.8, 0.7))
    assert other.grid.spacing[1:] == pytest.approx((0.9, 0.7))


def test_a_stray_slice_leaves_a_hole_that_is_told(dicom_series):
    def turn(ds, index):
        if index == 2:
            ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    folder, _, _ = dicom_series(grid=Grid.from_spacing((2.5, 0.8, 0.7), (6, 8, 9)), change=turn)
    volumes, errors = dicom.read_all(folder)
    assert [v.name for v in volumes] == ["Thorax (coronal)"]
    assert "1 between 99.dcm and 97.dcm" in str(errors[0])


@pytest.mark.parametrize("name", ["PatientID", "StudyInstanceUID", "Modality"])
def test_nobody_elses_slice_is_taken(dicom_series, name):
    other = {"PatientID": "78", "StudyInstanceUID": "1.2.3", "Modality": "MR"}[name]

    def swap(ds, index):
        if index == 5:
            setattr(ds, name, other)

    folder, data, _ = dicom_series(change=swap)
    stack, single = two_volumes(folder, what="series")
    assert np.array_equal(stack.data, data[:5].astype(int) - 1024)
    assert np.array_equal(single.data[0], data[5].astype(int) - 1024)
    assert "another patient" in stack.meta["notes"][0]
    assert "Secret" not in repr(stack)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("PixelSpacing", [0, 0.7], "pixel spacing"),
        ("PixelSpacing", None, "no Pixel Spacing"),
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0], "no valid orientation"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "no valid orientation"),
        ("RescaleSlope", 0, "slope of 0"),
        ("Rows", 0, "impossible size"),
        ("BitsAllocated", 1, "no grey image"),
        ("PixelData", b"\0" * 20, "cannot be decoded"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"], "mosaic"),
        ("ImagePositionPatient", ["nan", 0, 0], "impossible position"),
        ("ImagePositionPatient", ["1e400", 0, 0], "impossible position"),
        ("ImagePositionPatient", [1, 2], "3 numbers are needed"),
        ("ImageOrientationPatient", ["nan", 0, 0, 0, 1, 0], "no valid orientation"),
        ("NumberOfFrames", 0, "promises 0 images"),
        ("BitsStored", 20, "no grey image"),
    ],
)
def test_headers_that_cannot_be(dicom_series, name, value, word):
    def change(ds, index):
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)

    refused(dicom_series(count=3, change=change)[0], word, ".dcm")


def test_more_images_promised_than_there_are(dicom_series):
    refused(dicom_series(count=1, NumberOfFrames=3)[0], "100.dcm", "cannot be decoded", "less than expected")


def test_a_damaged_file_in_a_series_is_named(dicom_series):
    folder, _, _ = dicom_series()
    path = folder / "97.dcm"
    content = path.read_bytes()
    for spoilt in (content[:600], content[:100], b"", content[:-10]):
        path.write_bytes(spoilt)
        refused(folder, "97.dcm")


@pytest.mark.parametrize("kept", [300, 100, 0])
def test_a_damaged_slice_never_shortens_a_stack(dicom_series, kept):
    folder, _, _ = dicom_series()
    _, other, _ = dicom_series(folder="series/more", SeriesNumber=9)
    end = folder / "95.dcm"  # the last slice: no gap would be seen
    end.write_bytes(end.read_bytes()[:kept])
    volumes, errors = dicom.read_all(folder)
    assert [v.meta["series"]["number"] for v in volumes] == ["9"]
    assert np.array_equal(volumes[0].data, other.astype(int) - 1024)
    assert "95.dcm" in str(errors[0])
    assert re.search("series 4 'Thorax'.* was left out, one of its slices may be 95.dcm", str(errors[1]))


def test_a_damaged_file_of_another_folder_is_nothing_to_the_series_asked_for(dicom_series):
    folder, data, _ = dicom_series()
    dicom_series(folder="series/more", SeriesNumber=9, SeriesDescription="Other")
    damaged = folder / "more" / "97.dcm"
    damaged.write_bytes(damaged.read_bytes()[:300])
    assert np.array_equal(io.read(folder, series=4).data, data.astype(int) - 1024)
    for series in (9, 12, None):  # it may be the one that is not found
        with pytest.raises(FileError, match=r"97\.dcm"):
            io.read(folder, series=series)


def test_files_beside_the_slices_that_are_no_dicom_are_named(dicom_series):
    folder, _, _ = dicom_series()
    for path in folder.iterdir():
        path.rename(path.with_suffix(""))
    end = folder / "95"
    end.write_bytes(end.read_bytes()[:100])
    (folder / "report.txt").write_text("no slice")
    (folder / ".hidden").write_text("no slice")
    read = io.read(folder)
    assert len(read.data) == 5
    assert read.meta["notes"] == ["no DICOM files, or not any more, and left out: 95"]


def test_objects_that_are_no_image_are_passed_over(dicom_series):
    folder, data, _ = dicom_series()
    structures = pydicom.dcmread(folder / "97.dcm")
    structures.Modality = "RTSTRUCT"
    structures.SOPInstanceUID = structures.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    for name in ("Rows", "Columns", "PixelData"):
        delattr(structures, name)
    structures.save_as(folder / "RS.dcm")
    assert np.array_equal(io.read(folder).data, data.astype(int) - 1024)
    refused(folder / "RS.dcm", "contours")


def test_images_without_a_position_are_not_stacked(dicom_series):
    def forget(ds, index):
        del ds.ImagePositionPatient, ds.ImageOrientationPatient

    folder, _, _ = dicom_series(count=3, change=forget)
    refused(folder, "3 series")
    volumes = io.read_all(folder)
    assert [v.grid.shape for v in volumes] == [(1, 8, 9)] * 3
    assert volumes[0].meta["orientation_known"] is False
    assert volumes[0].grid.spacing == pytest.approx((1, 0.8, 0.7))


def test_detector_spacing_is_told(dicom_series):
    def xray(ds, index):
        del ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing
        ds.ImagerPixelSpacing = [0.2, 0.1]

    (volume,) = io.read_all(dicom_series(count=1, change=xray)[0])
    assert volume.grid.spacing == (1, 0.2, 0.1)
    assert "magnification" in volume.meta["notes"][0]


def test_colour_becomes_luminance(dicom_series):
    def colour(ds, index):
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
        ds.RescaleIntercept = 0
        ds.PixelData = bytes([255, 0, 0]) * 72

    (volume,) = io.read_all(dicom_series(count=1, change=colour)[0])
    assert (volume.data == 76).all()
    assert "luminance" in volume.meta["notes"][0]


def test_without_pydicom(dicom_series, monkeypatch):
    folder, _, _ = dicom_series()
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingPart, match=re.escape("pip install 'napari-lightbox[dicom]'")):
        io.read(folder)


def test_changed_bytes_never_crash(dicom_series, rng):
    folder, _, _ = dicom_series(count=1)
    path = folder / "100.dcm"
    content = path.read_bytes()
    for _ in range(100):
        spoilt = bytearray(content)
        for at in rng.integers(132, len(content) - 150, 4):
            spoilt[at] = rng.integers(0, 256)
        path.write_bytes(spoilt)
        with contextlib.suppress(LightboxError):
            assert io.read(path).data.ndim in (3, 4)
