"""Every real file that is in order reads with the voxels and places that nibabel and SimpleITK give."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from napari_lightbox import io

NIFTI = [
    "brain_mni152/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
    "ct_abdomen_organs/example_ct.nii.gz",
    "ct_abdomen_organs/example_ct_sm.nii.gz",
    "ct_abdomen_organs/example_seg.nii.gz",
    "dicom_4d_series/ge_dti_001_ground_truth.nii.gz",
    "dicom_enhanced_multiframe/philips_enhanced_fmri_001_ground_truth.nii.gz",
    "dicom_transfer_syntaxes_head/1.nii",
    "epi_orientation/ax_asc_35sl_6.nii",
    "epi_orientation/cor_asc_35sl_16.nii",
    "filters_ibsi2/1_a_1-ValidCRM.nii.gz",
    "filters_ibsi2/orientation.nii.gz",
    "four_d/example4d.nii.gz",
    "four_d/functional.nii",
    "four_d/small_64D.nii",
    "nifti_variants/big.nii.gz",
    "nifti_variants/example_nifti2.nii.gz",
    "nifti_variants/little.nii.gz",
    "nifti_variants/S0_10slices.nii.gz",
    "nrrd_variants/BallBinary30x30x30.nii.gz",
    "oblique_phantom_dicom/T1.nii.gz",
    "oblique_slices/aniso_vox.nii.gz",
    "oblique_slices/T1W_trans_0_0_0_SENSE_4_1.nii.gz",
    "oblique_slices/T1W_trans_5_15_30_SENSE_10_1.nii.gz",
    "oblique_slices/T1W_trans_5_15_30_SENSE_FSL_10_1.nii.gz",
    "phantom_ibsi1/phantom.nii.gz",
    "spinal_cord/t2.nii.gz",
    "spine_prediction_pair/matched_instance_pred.nii.gz",
]
ITK = [
    "brain_tumour_radiomics/brain1_image.nrrd",
    "brain_tumour_radiomics/brain1_label.nrrd",
    "ct_lung/3DCT_lung_baseline_small.mha",
    "ct_lung/2DMRI-T1_brain.mha",
    "dicom_seg/heart_seg.nrrd",
    "dicom_seg/liver_seg.nrrd",
    "nrrd_variants/BallBinary30x30x30.nrrd",
    "nrrd_variants/BallBinary30x30x30_gz.nrrd",
    "nrrd_variants/BallBinary30x30x30.nhdr",
]
# Not those that it refuses or reads otherwise: NIfTI-2, a direction that is not orthonormal, a sform it does not use.
ITK_NIFTI = [n for n in NIFTI if "nifti2" not in n and "S0_10slices" not in n]


def corners(grid):
    return np.array([(z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1)]) * (np.array(grid.spatial_shape) - 1)


@pytest.mark.parametrize("name", NIFTI)
def test_as_nibabel_reads_it(data, name):
    image = nib.load(data(name))
    read = io.read(data(name))
    values = np.asarray(image.dataobj).T
    values = values[0] if values.ndim == 4 and len(values) == 1 else values
    assert values.shape == read.data.shape
    if read.data.dtype.kind in "iu":
        assert np.array_equal(read.data, values)
    else:
        assert np.allclose(read.data, values, rtol=1e-6, equal_nan=True)
    ras = corners(read.grid)[:, ::-1] @ image.affine[:3, :3].T + image.affine[:3, 3]
    assert np.abs(read.grid.to_world(corners(read.grid)) - (ras * (-1, -1, 1))[:, ::-1]).max() < 1e-3


@pytest.mark.parametrize("name", ITK + ITK_NIFTI)
def test_as_itk_reads_it(data, name):
    image = sitk.ReadImage(str(data(name)))
    read = io.read(data(name))
    values = sitk.GetArrayFromImage(image)
    assert np.allclose(read.data.reshape(values.shape), values, rtol=1e-6, equal_nan=True)
    count = min(image.GetDimension(), 3)
    rest = (0,) * (image.GetDimension() - count)
    for index in corners(read.grid):
        point = image.TransformIndexToPhysicalPoint((*(int(i) for i in index[::-1][:count]), *rest))[:count]
        assert np.allclose(read.grid.to_world(index)[::-1][:count], point, atol=1e-3)


@pytest.mark.parametrize("name", [*ITK, *NIFTI])
def test_written_and_read_again(data, name, tmp_path):
    read = io.read(data(name))
    for suffix in (".nii.gz", ".nrrd", ".mha"):
        if read.data.nbytes > 3e6 and suffix != ".nrrd":
            continue
        if suffix == ".mha" and "S0_10slices" in name:
            continue
        again = io.read(io.write(read, tmp_path / f"a{suffix}"))
        assert np.array_equal(again.data, read.data, equal_nan=True)
        assert again.data.dtype == read.data.dtype
        assert again.grid == read.grid
        assert dict(again.labels) == dict(read.labels)
        assert again.kind == read.kind


def test_the_same_ball_five_times(data):
    names = ("BallBinary30x30x30.nrrd", "BallBinary30x30x30_gz.nrrd", "BallBinary30x30x30.nhdr")
    reads = [io.read(data(f"nrrd_variants/{name}")) for name in names]
    reads.append(io.read(data("nrrd_variants/BallBinary30x30x30.nii.gz")))
    for read in reads[1:]:
        assert np.array_equal(read.data, reads[0].data)
    assert reads[1].grid == reads[0].grid == reads[2].grid


def test_big_and_little_endian(data):
    big, little = io.read(data("nifti_variants/big.nii.gz")), io.read(data("nifti_variants/little.nii.gz"))
    assert np.array_equal(big.data, little.data)
    assert big.grid == little.grid


def test_shear_and_vectors_of_the_variants(data):
    assert io.read(data("nifti_variants/S0_10slices.nii.gz")).grid.shear > 30
    five = io.read(data("nifti_variants/5D_zeros.nii.gz"))
    assert five.data.shape == (3, 170, 256, 256)
    assert five.grid.frames.kind == "component"


@pytest.mark.parametrize(
    "name",
    ["brain_tumour_radiomics/brain1_image.nrrd", "spinal_cord/t2.nii.gz", "four_d/example4d.nii.gz"],
)
def test_left_handed_volumes_stay_left_handed(data, name):
    image = sitk.ReadImage(str(data(name)))
    direction = np.reshape(image.GetDirection(), (image.GetDimension(),) * 2)[:3, :3]
    assert io.read(data(name)).grid.left_handed == (np.linalg.det(direction) < 0)


def test_both_epi_scans_overlay(data):
    """Two tilted scans of one head: the intensities at the same places of the world correlate."""
    from scipy.ndimage import map_coordinates

    one = io.read(data("epi_orientation/ax_asc_35sl_6.nii")).frame(0)
    two = io.read(data("epi_orientation/cor_asc_35sl_16.nii")).frame(0)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in one.grid.shape), indexing="ij"), -1)
    there = two.grid.to_index(one.grid.to_world(index))
    inside = ((there >= 0) & (there <= np.array(two.grid.shape) - 1)).all(-1)
    other = map_coordinates(two.data.astype(float), there[inside].T, order=1)
    assert np.corrcoef(one.data[inside], other)[0, 1] > 0.8


def test_crop_that_kept_its_origin(data):
    """example_ct_sm has the origin of the volume it was cut from: equal voxels, but not at the same places."""
    whole, cut = (io.read(data(f"ct_abdomen_organs/example_ct{s}.nii.gz")) for s in ("", "_sm"))
    assert np.array_equal(whole.data[82:112], cut.data)
    assert np.allclose(whole.grid.origin, cut.grid.origin)


def test_organ_names_in_the_header(data):
    read = io.read(data("ct_abdomen_organs/example_seg.nii.gz"))
    assert read.kind == "labels"
    assert read.labels[5].name == "liver"
    assert read.labels[5].colour == "#00ffff"


def test_float_label_map_becomes_labels_when_asked(data):
    path = data("brain_labels/training_seg_01.nii.gz")
    read = io.read(path, kind="labels")
    assert read.kind == "labels"
    assert read.data.dtype == np.int32
    assert read.grid.left_handed


@pytest.mark.parametrize("name", ["ultrasound/femur_input.png", "xray/00000001_000.png"])
def test_real_pictures(data, name):
    from PIL import Image

    read = io.read(data(name))
    assert np.array_equal(read.data[0], np.array(Image.open(data(name)).convert("L")))
    assert read.meta["spacing_known"] is False


def test_ultrasound_with_its_published_pixel_size(data):
    images = sorted(data("ultrasound_head_hc18/images").glob("*HC.png"))
    read = io.read(images[0], spacing=(0.0693, 0.0693))
    assert read.grid.spacing == (1, 0.0693, 0.0693)
    mask = io.read(images[0].with_name(images[0].stem + "_Mask.png"), kind="labels")
    assert mask.data.shape == read.data.shape
    assert set(np.unique(mask.data)) == {0, 255}
