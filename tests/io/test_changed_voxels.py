"""Steps are kept with the voxels they lead to, and dropped where another program has changed these."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from napari_lightbox import io
from napari_lightbox.volume import Volume

STEPS = ({"operation": "median", "parameters": {"size": 3, "mode": "reflect"}, "plane": None},)


def is_as_written(read):
    return read.history == STEPS and not any("changed" in note for note in read.meta.get("notes", ()))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("dtype", ["?", "<f2", ">i2", "<u4", "<f8"])
def test_history_comes_back_with_the_voxels_it_made(tmp_path, cine, suffix, dtype):
    for volume in (cine, cine.replace(meta={"frames_fastest": True}), cine.frame(0)):
        data = (100 * volume.data).astype(dtype)
        assert is_as_written(io.read(io.write(volume.replace(data=data, history=STEPS), tmp_path / f"a{suffix}")))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_history_of_pictures_comes_back(tmp_path, rng, suffix):
    picture = Volume.from_array(rng.integers(0, 256, (9, 8)).astype(np.uint8), (0.5, 0.5), history=STEPS)
    assert is_as_written(io.read(io.write(picture, tmp_path / f"a{suffix}")))


def test_nan_is_no_change(tmp_path, volume):
    data = volume.data.astype(np.float32)
    data[0, 0, 0] = np.nan
    assert is_as_written(io.read(io.write(volume.replace(data=data, history=STEPS), tmp_path / "a.nii")))


def test_other_voxels_have_another_history(tmp_path, labels):
    path = io.write(labels.replace(history=STEPS), tmp_path / "a.nii.gz")
    image = nib.load(path)
    voxels = np.asarray(image.dataobj)
    wider = image.header.copy()
    wider.set_data_dtype(np.int32)
    nib.save(nib.Nifti1Image(voxels.astype(np.int32), image.affine, wider), path)
    assert is_as_written(io.read(path))
    voxels = voxels.copy()
    voxels[2, 2, 2] += 1
    nib.save(nib.Nifti1Image(voxels, image.affine, image.header), path)
    read = io.read(path)
    assert read.history == ()
    assert read.labels == labels.labels
    assert "voxels were changed" in read.meta["notes"][0]


def test_another_type_with_other_values_is_a_change(tmp_path, volume):
    path = io.write(volume.replace(history=STEPS), tmp_path / "a.nii.gz")
    image = nib.load(path)
    header = image.header.copy()
    header.set_data_dtype(np.float32)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) / np.float32(7) - 3, image.affine, header), path)
    read = io.read(path)
    assert (read.history, read.meta["unit"]) == ((), "HU")
    assert "unit are still those of then" in read.meta["notes"][0]


def test_itk_keeps_the_record_and_is_found_out_too(tmp_path, volume):
    path = io.write(volume.replace(history=STEPS), tmp_path / "a.nrrd")
    image = sitk.ReadImage(path)
    sitk.WriteImage(image, path)
    assert is_as_written(io.read(path))
    changed = image + 1
    for key in image.GetMetaDataKeys():
        changed.SetMetaData(key, image.GetMetaData(key))
    sitk.WriteImage(changed, path)
    assert io.read(path).history == ()
