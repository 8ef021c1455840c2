"""Real DICOM files: ground truth where there is one, a sentence where a file is a trap."""

import warnings

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from napari_lightbox import io
from napari_lightbox.errors import FileError

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


def agrees(read, image):
    """Compare with a NIfTI file voxel for voxel in the world."""
    array = sitk.GetArrayFromImage(image)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in read.grid.spatial_shape), indexing="ij"), -1).reshape(-1, 3)
    world = read.grid.to_world(index)
    direction = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    there = (world[:, ::-1] - image.GetOrigin()) @ np.linalg.inv(direction).T
    assert np.abs(there - np.rint(there)).max() < 1e-2
    x, y, z = np.rint(there).astype(int).T
    assert np.allclose(array[z, y, x], read.data.reshape(-1), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("dicom", "truth"),
    [
        ("dicom_mr_transfer_syntaxes/generic_anatomical_001", "{}_ground_truth.nii.gz"),
        ("dicom_mr_transfer_syntaxes/generic_anatomical_001", "{}_ground_truth_reoriented.nii.gz"),
        ("dicom_rtstruct/STS_025/MR_T1", "{}_image.nii.gz"),
        ("dicom_rtstruct/STS_025/PET", "{}_image.nii.gz"),
    ],
)
def test_ground_truth(data, dicom, truth):
    agrees(io.read(data(dicom)), sitk.ReadImage(str(data(truth.format(dicom)))))


def test_oblique_enhanced_multiframe(data):
    """The vendor's NIfTI of the same scan lies half a pixel aside in the plane; DICOM and ITK say where it is."""
    read = io.read(data("oblique_phantom_dicom/T1.dcm"))
    vendor = io.read(data("oblique_phantom_dicom/T1.nii.gz"))
    assert np.allclose(read.data, vendor.data, atol=1e-3)
    assert np.allclose(read.grid.direction, vendor.grid.direction, atol=1e-5)
    assert vendor.grid.to_index(read.grid.origin) == pytest.approx((0, 0.5, 0.5), abs=1e-3)
    image = sitk.ReadImage(str(data("oblique_phantom_dicom/T1.dcm")))
    for z, y, x in ((0, 0, 0), (9, 79, 79), (9, 0, 40)):
        assert np.allclose(
            image.TransformIndexToPhysicalPoint((x, y, z))[::-1], read.grid.to_world((z, y, x)), atol=1e-3
        )
    assert read.meta["windows"] == [{"name": "DICOM", "centre": 1070.0, "width": 1860.0}]


def test_masks_lie_on_their_dicom(data):
    image = io.read(data("dicom_rtstruct/STS_025/MR_T1"))
    image.grid.require_same_space(io.read(data("dicom_rtstruct/STS_025/MR_T1_mask.nii.gz")).grid)
    ct = io.read(data("dicom_seg/ct-3slice"))
    ct.grid.require_same_space(io.read(data("dicom_seg/liver_seg.nrrd")).grid)
    assert ct.data.dtype == np.int32
    assert (ct.data.min(), ct.data.max()) == (-3024, 1381)


def test_six_transfer_syntaxes(data):
    folder = data("dicom_single")
    first = io.read(folder / "MR_small.dcm")
    assert (first.data.min(), first.data.max()) == (127, 2145)
    others = sorted(folder.glob("MR_small_*.dcm"))
    assert len(others) == 5
    for path in others:
        read = io.read(path)
        assert np.array_equal(read.data, first.data), path
        assert read.grid == first.grid
        assert read.data.dtype == first.data.dtype


@pytest.mark.parametrize("name", [1, 4, 5, 7, 9])
def test_mosaics_in_five_transfer_syntaxes(data, name):
    folder = data("dicom_transfer_syntaxes_head")
    read = io.read(folder / f"{name}.dcm")
    assert read.data.shape == (35, 64, 64)
    agrees(read, sitk.ReadImage(str(folder / "1.nii")))


def test_copies_in_other_transfer_syntaxes_are_left_out(data):
    folder = data("dicom_transfer_syntaxes_head")
    read = io.read(folder)
    assert read.grid == io.read(folder / "1.dcm").grid
    assert read.meta["notes"] == [
        "left out as copies, with the same pixels at the same positions: 4.dcm, 5.dcm, 7.dcm, 9.dcm (of 1.dcm)"
    ]
    mr = io.read(data("dicom_single"), series="MR")
    assert np.array_equal(mr.data, io.read(data("dicom_single/MR_small.dcm")).data)


def test_diffusion_series(data):
    read = io.read(data("dicom_4d_series/ge_dti_001"))
    b_values = [float(v) for v in data("dicom_4d_series/ge_dti_001_ground_truth.bval").read_text().split()]
    assert read.grid.frames.kind == "b-value"
    assert list(read.grid.frames.values) == b_values
    truth = sitk.ReadImage(str(data("dicom_4d_series/ge_dti_001_ground_truth.nii.gz")))
    # GE writes directions along the axes of the image, with signs that its software decides.
    assert "gradient_directions" not in read.meta
    assert any("gradient directions are left out" in note for note in read.meta["notes"])
    for n in range(2):
        agrees(read.frame(n), truth[:, :, :, n])


def test_enhanced_series_in_time(data):
    read = io.read(data("dicom_enhanced_multiframe/philips_enhanced_fmri_001"))
    truth = sitk.ReadImage(str(data("dicom_enhanced_multiframe/philips_enhanced_fmri_001_ground_truth.nii.gz")))
    assert (read.grid.frames.kind, read.grid.frames.step, read.grid.frames.unit) == ("time", truth.GetSpacing()[3], "s")
    for n in range(4):
        agrees(read.frame(n), truth[:, :, :, n])


def by_pydicom(folder):
    """Return the slices from low to high along the normal, rescaled, read by pydicom alone."""
    slices = [pydicom.dcmread(path) for path in folder.rglob("*.dcm")]
    row, column = np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3)
    slices.sort(key=lambda ds: np.array(ds.ImagePositionPatient, float) @ np.cross(row, column))
    values = [ds.pixel_array * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0)) for ds in slices]
    return np.stack(values), slices


def lies_where_headers_say(grid, slices):
    """Compare the first and last voxel of every slice with the equation of the standard (PS3.3 C.7.6.2.1.1)."""
    for z, ds in enumerate(slices):
        row, column = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
        for y, x in ((0, 0), (ds.Rows - 1, ds.Columns - 1)):
            place = np.array(ds.ImagePositionPatient, float)
            place = place + row * ds.PixelSpacing[1] * x + column * ds.PixelSpacing[0] * y
            assert np.linalg.norm(grid.to_world((z, y, x)) - place[::-1]) < 1e-2


@pytest.mark.parametrize("name", ["dicom_ct_series", "dicom_gantry_tilt", "dicom_seg/ct-3slice"])
def test_as_pydicom_reads_it(data, name):
    """No expected conversion lies beside these."""
    read = io.read(data(name))
    values, slices = by_pydicom(data(name))
    assert np.array_equal(read.data, values)
    lies_where_headers_say(read.grid, slices)


def test_gantry_tilt(data):
    read = io.read(data("dicom_gantry_tilt"))
    assert read.grid.shear == pytest.approx(14, abs=0.05)
    assert "tilted by 14 degrees" in read.meta["notes"][0]
    even = io.read(data("dicom_gantry_tilt"), even=True)
    assert even.grid.shear < 1e-3
    assert even.data.shape == (4, 521, 512)
    for z, y, x in ((0, 256, 256), (3, 100, 400)):
        there = even.grid.to_index(read.grid.to_world((z, y, x)))
        assert there[0] == pytest.approx(z, abs=1e-3)
        below = int(there[1])
        share = there[1] - below
        expected = (1 - share) * even.data[z, below, x] + share * even.data[z, below + 1, x]
        near = read.data[z, y - 1 : y + 2, x]
        assert near.min() - 1 <= expected <= near.max() + 1


def test_missing_slice(data):
    folder = data("dicom_missing_slice")
    refused(folder, "1 between IM-0001-0009-0001.dcm and IM-0001-0010-0001.dcm (10 mm)", "even=True")
    even = io.read(folder, even=True)
    values, slices = by_pydicom(folder)
    assert even.meta["gaps"] == [3]
    assert np.array_equal(even.data[[0, 1, 2, 4]], values)
    assert np.abs(even.data[3] - (values[2] + values[3]) / 2).max() <= 0.5
    assert even.grid.to_world((4, 0, 0))[::-1] == pytest.approx(
        np.array(slices[3].ImagePositionPatient, float), abs=1e-2
    )


def test_enhanced_multiframe_without_positions(data):
    reads = [io.read(p) for p in sorted(data("dicom_enhanced_multiframe").glob("*.dcm"))]
    assert len(reads) == 3
    for read in reads:
        assert read.data.shape == (10, 1, 64, 64)
        assert read.data.max() == 467
        assert np.array_equal(read.data, reads[0].data)
        assert read.meta["orientation_known"] is False


def test_cine(data):
    read = io.read(data("four_d/heart_cine_16frames.dcm"))
    assert read.data.shape == (16, 1, 256, 256)
    assert read.grid.frames.kind == "time"
    assert read.grid.frames.step == pytest.approx(0.06947)
    assert read.meta["spacing_known"] is False


def test_ultrasound_regions_and_palette(data):
    read = io.read(data("dicom_single/examples_palette.dcm"))
    assert read.data.shape == (1, 350, 800)
    # Indices of 8 bits into tables of 16.
    dataset = pydicom.dcmread(data("dicom_single/examples_palette.dcm"))
    colours = pydicom.pixels.apply_color_lut(dataset.pixel_array, dataset)
    assert np.array_equal(read.data[0], np.rint(colours @ (0.299, 0.587, 0.114)))
    assert read.grid.spacing[1] == pytest.approx(0.262, abs=1e-3)
    assert "luminance" in read.meta["notes"][0]


def test_two_series_are_not_merged(data):
    refused(data("dicom_rtstruct/STS_025"), "2 series")


def test_the_ct_series(data):
    read = io.read(data("dicom_ct_series"))
    assert read.data.shape == (17, 128, 88)
    assert read.grid.code == "RAS"
    assert (read.data.min(), read.data.max()) == (0, 696)
    assert read.grid.origin == pytest.approx((-24.707, 122.163, 82.1807))


def test_both_series_of_a_patient(data):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        volumes = io.read_all(data("dicom_rtstruct/STS_025"))
    assert [v.meta["modality"] for v in volumes] == ["PT", "MR"]
    assert sum("contours" in str(w.message) for w in said) == 2
