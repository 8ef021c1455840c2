"""Real DICOM files: ground truth where there is one, a sentence where a file is a trap."""

import warnings

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from napari_lightbox import io
from napari_lightbox.errors import FileError
from napari_lightbox.io import _dicom_pixels
from napari_lightbox.io._dicom_pixels import Coding, Rescale

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


def test_mosaics_decode_alike_and_are_refused(data):
    folder = data("dicom_transfer_syntaxes_head")
    seen = []
    for path in sorted(folder.glob("*.dcm")):
        refused(path, "mosaic")
        header = pydicom.dcmread(path, stop_before_pixels=True)
        coding = Coding(12, False, False, False, str(header.file_meta.TransferSyntaxUID))
        seen.append(_dicom_pixels.values(path, coding, [Rescale()], np.dtype(np.int16))[0])
    assert len(seen) == 5
    assert seen[0].max() == 2362
    assert all(np.array_equal(s, seen[0]) for s in seen)


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
    assert read.data.dtype == np.uint8
    assert read.grid.spacing[1] == pytest.approx(0.262, abs=1e-3)
    assert "luminance" in read.meta["notes"][0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dicom_gantry_tilt", ("tilted by 14 degrees", "IM-0001-0001.dcm")),
        ("dicom_missing_slice", ("1 between IM-0001-0009-0001.dcm and IM-0001-0010-0001.dcm",)),
        ("dicom_4d_series/ge_dti_001", ("2 images at each of 4 positions",)),
        ("dicom_enhanced_multiframe/philips_enhanced_fmri_001", ("4 images at each of 8 positions",)),
        ("dicom_rtstruct/STS_025", ("2 series",)),
        ("dicom_rtstruct/STS_025/PET/mask/RS.dcm", ("RTSTRUCT",)),
        ("dicom_seg/liver.dcm", ("DICOM SEG",)),
    ],
)
def test_traps(data, name, words):
    refused(data(name), *words)


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
