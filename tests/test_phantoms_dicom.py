"""DICOM series of the phantom: every voxel where the phantom has it, for us and for ITK; spoilt as the variant says."""

import hashlib

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

import napari_lightbox as lb
from napari_lightbox import phantoms_dicom
from napari_lightbox.cli import main
from napari_lightbox.errors import FileError, InputError
from napari_lightbox.geometry import Grid
from napari_lightbox.phantoms_dicom import VARIANTS, series_phantom, spoilt_slice, write_series

pydicom = pytest.importorskip("pydicom")
# Small, anisotropic, and off the axes of the patient where a test asks for it.
SMALL = Grid.from_spacing((20.0, 12.0, 13.0), (10, 24, 26), (-90.0, -140.0, -162.5))


def oblique():
    """Return a right-angled grid that is turned about all axes."""
    turn, _ = np.linalg.qr(np.array([[1.0, 0.1, -0.05], [-0.08, 1.0, 0.2], [0.06, -0.15, 1.0]]))
    turn = turn * np.sign(np.diag(turn))
    return Grid.from_spacing((20.0, 12.0, 13.0), (6, 20, 22), (-60.0, -110.0, -140.0), turn)


def headers(paths):
    return [pydicom.dcmread(path) for path in paths]


@pytest.mark.parametrize("variant", ["plain", "jitter", "tilt", "duplicate", "time"])
def test_every_voxel_comes_back(variant, tmp_path):
    write_series(tmp_path, variant, seed=3)
    truth, _ = series_phantom(variant, seed=3)
    read = lb.read(tmp_path)
    assert np.array_equal(read.data, truth.data)
    assert read.data.dtype == np.int16
    assert read.grid.same_space(truth.grid)
    assert read.grid.distance(truth.grid) < 5e-3
    if variant == "time":
        assert read.grid.frames.kind == "time"
        assert read.grid.frames.values == pytest.approx(truth.grid.frames.values)
    assert read.meta["unit"] == "HU"
    assert [w["name"] for w in read.meta["windows"]] == ["soft tissue", "lung", "bone"]
    assert ("notes" in read.meta) is (variant in ("tilt", "duplicate"))


@pytest.mark.parametrize("grid", [None, oblique()], ids=["straight", "oblique"])
def test_itk_reads_the_same(grid, tmp_path):
    write_series(tmp_path, seed=1, grid=grid)
    truth, _ = series_phantom(seed=1, grid=grid)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(image), truth.data)
    for index in ((0, 0, 0), tuple(n - 1 for n in truth.grid.shape), (2, 0, 7)):
        point = image.TransformIndexToPhysicalPoint(tuple(reversed(index)))
        assert np.allclose(point[::-1], truth.grid.to_world(index), atol=1e-4)


def test_the_phantom_is_the_thorax():
    image, labels = series_phantom(seed=5, grid=SMALL)
    same, truth = lb.phantoms.thorax(SMALL, seed=5)
    assert np.array_equal(image.data, same.data)
    assert np.array_equal(labels.data, truth.data)


def test_a_missing_slice(tmp_path):
    paths = write_series(tmp_path, "missing", grid=SMALL)
    there = sorted(float(ds.ImagePositionPatient[2]) for ds in headers(paths))
    every = [-90 + 20 * n for n in range(10)]
    assert there == [z for n, z in enumerate(every) if n != spoilt_slice(10)]
    with pytest.raises(FileError):
        lb.read(tmp_path)


def test_a_missing_image_of_one_moment(tmp_path):
    paths = write_series(tmp_path, "time-missing")
    truth, _ = series_phantom("time-missing")
    gone = spoilt_slice(truth.grid.spatial_shape[0])
    assert len(paths) == truth.data.shape[0] * truth.data.shape[1] - 1
    with pytest.raises(FileError, match=r"lacks images that its other frames have: frame 1 \(counted from 0; time"):
        lb.read(tmp_path)
    even = lb.read(tmp_path, even=True)
    assert even.meta["frame_gaps"] == [[1, gone]]
    assert even.grid.same_space(truth.grid)
    mask = np.zeros(truth.data.shape[:2], bool)
    mask[1, gone] = True
    assert np.array_equal(even.data[~mask], truth.data[~mask])
    between = (truth.data[1, gone - 1].astype(float) + truth.data[1, gone + 1]) / 2
    assert np.abs(even.data[1, gone] - between).max() <= 0.5


def test_the_gantry_is_tilted_about_the_rows(tmp_path):
    paths = write_series(tmp_path, "tilt", grid=SMALL)
    found = headers(paths)
    first, second = (np.array(found[n].ImagePositionPatient, float) for n in (-1, -2))
    cosines = np.array(found[0].ImageOrientationPatient, float)
    normal = np.cross(cosines[:3], cosines[3:])
    assert second - first == pytest.approx([0, 0, 20])
    assert np.degrees(np.arccos(normal[2])) == pytest.approx(15, abs=1e-6)
    assert float(found[0].GantryDetectorTilt) == 15
    # The voxels of the sheared grid are those of the straight phantom, where the two meet: in the middle row.
    truth, _ = series_phantom("tilt", grid=SMALL)
    assert truth.grid.shear == pytest.approx(15)
    assert truth.grid.to_world((0, 11.5, 0)) == pytest.approx(SMALL.to_world((0, 11.5, 0)))
    stored = np.stack([ds.pixel_array.astype(int) - 1024 for ds in reversed(found)])
    assert np.array_equal(stored, truth.data)


def test_a_slice_that_is_there_twice(tmp_path):
    same = headers(write_series(tmp_path / "a", "duplicate", grid=SMALL))
    other = headers(write_series(tmp_path / "b", "duplicate-different", grid=SMALL))
    for found, equal in ((same, True), (other, False)):
        extra = found[-1]
        twin = next(ds for ds in found if ds.ImagePositionPatient == extra.ImagePositionPatient)
        assert twin is not extra
        assert twin.SOPInstanceUID != extra.SOPInstanceUID
        assert np.array_equal(twin.pixel_array, extra.pixel_array) is equal
        assert len({ds.SOPInstanceUID for ds in found}) == len(found) == 11


def test_jitter_is_there_and_small(tmp_path):
    found = headers(write_series(tmp_path, "jitter", grid=SMALL))
    positions = np.array([ds.ImagePositionPatient for ds in reversed(found)], float)
    exact = SMALL.to_world(np.stack([np.arange(10), np.zeros(10), np.zeros(10)], axis=1))[:, ::-1]
    off = np.abs(positions - exact)
    assert 1e-4 < off.max() <= 2.1e-3


@pytest.mark.parametrize("seed", range(5))
def test_uneven_slices_are_some_of_a_fine_phantom(seed, tmp_path):
    found = headers(write_series(tmp_path, "uneven", seed=seed, grid=SMALL))
    truth, _ = series_phantom("uneven", seed=seed, grid=SMALL)
    steps = -np.diff([float(ds.ImagePositionPatient[2]) for ds in found])
    assert set(np.round(steps, 6)) == {15.0, 20.0, 25.0}
    for ds in found:
        index = truth.grid.to_index(np.array(ds.ImagePositionPatient, float)[::-1])
        assert index == pytest.approx(np.round(index), abs=1e-6)
        assert np.array_equal(ds.pixel_array.astype(int) - 1024, truth.data[round(index[0])])
    with pytest.raises(FileError):
        lb.read(tmp_path)


def test_moments_of_a_beat(tmp_path):
    found = headers(write_series(tmp_path, "time", seed=2))
    truth, _ = series_phantom("time", seed=2)
    assert truth.grid.frames.kind == "time"
    assert len(found) == truth.grid.shape[0] * truth.grid.shape[1] == 40
    for ds in found:
        frame = int(ds.TemporalPositionIdentifier) - 1
        assert float(ds.TriggerTime) / 1000 == pytest.approx(truth.grid.frames.values[frame])
        index = truth.grid.to_index(np.array(ds.ImagePositionPatient, float)[::-1])
        assert np.array_equal(ds.pixel_array.astype(int) - 1024, truth.data[frame, round(index[0])])


def digest(paths):
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    first = digest(write_series(tmp_path / "a", "jitter", seed=4, grid=SMALL))
    assert first == digest(write_series(tmp_path / "b", "jitter", seed=4, grid=SMALL))
    assert not set(first) & set(digest(write_series(tmp_path / "c", "jitter", seed=5, grid=SMALL)))


# Type 1 attributes of the CT Image IOD (PS3.3 A.3.3) that every object must have with a value, and those of type 2,
# which may be empty but must be there.
TYPE_1 = (
    "StudyInstanceUID Modality SeriesInstanceUID FrameOfReferenceUID PixelSpacing ImageOrientationPatient "
    "ImagePositionPatient SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit "
    "PixelRepresentation PixelData ImageType RescaleIntercept RescaleSlope SOPClassUID SOPInstanceUID PatientPosition"
)
TYPE_2 = (
    "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID "
    "AccessionNumber SeriesNumber PositionReferenceIndicator Manufacturer SliceThickness KVP AcquisitionNumber "
    "InstanceNumber"
)


@pytest.mark.parametrize("variant", VARIANTS)
def test_headers_are_those_of_a_ct_image(variant, tmp_path):
    paths = write_series(tmp_path, variant, grid=SMALL)
    ids = set()
    for ds in headers(paths):
        for name in TYPE_1.split():
            assert ds.get(name) not in (None, "", []), name
        for name in TYPE_2.split():
            assert name in ds, name
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
        assert all(uid.is_valid for uid in (ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID))
        assert str(ds.PatientName) == "Phantom^Thorax"
        assert "not for clinical use" in ds.ImageComments
        ids.add(ds.SOPInstanceUID)
    assert len(ids) == len(paths)
    # One patient, one frame of reference, whatever the variant.
    assert ds.FrameOfReferenceUID == phantoms_dicom._uid(0, "frame of reference")


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="'sideways' is unknown"):
        write_series(tmp_path, "sideways")
    with pytest.raises(InputError, match="seed -1 must not be negative"):
        write_series(tmp_path, seed=-1)
    with pytest.raises(InputError, match="too few"):
        write_series(tmp_path, "missing", grid=Grid.from_spacing((1, 1, 1), (2, 8, 8)))
    with pytest.raises(InputError, match="left-handed"):
        write_series(tmp_path, grid=Grid(np.diag([1.0, 1.0, -1.0, 1.0]), (4, 8, 8)))
    write_series(tmp_path, grid=SMALL)
    with pytest.raises(FileError, match="exists: choose an empty folder"):
        write_series(tmp_path, grid=SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        write_series(tmp_path / "file" / "below", grid=SMALL)


def test_damage_of_the_plan_is_found():
    """What the truths above rest on: spoilt slices lie inside, so that no variant is a shorter or longer stack."""
    assert all(0 < spoilt_slice(n) < n - 1 for n in range(4, 200))


def test_the_command(tmp_path, capsys):
    assert main(["phantom", str(tmp_path / "new"), "--variant", "duplicate", "--seed", "4"]) == 0
    assert "21 DICOM files" in capsys.readouterr().out
    assert headers([tmp_path / "new" / "thorax-duplicate-001.dcm"])[0].PatientID == "PHANTOM-4"
