"""Outputs of models as other programs save them."""

import nibabel as nib
import numpy as np
import pytest

from napari_lightbox.io import convention
from napari_lightbox.models.outputs import read_outputs

NAMES = {"0": "background", "1": "lung", "2": "bone"}
SHAPE = (5, 6, 7)


def nifti(path, data, grid, dtype=np.float32):
    """Write (z, y, x) or (class, z, y, x) with nibabel, as other programs do."""
    array = np.asarray(data, dtype)
    stored = array.T if array.ndim == 3 else np.moveaxis(array, 0, -1).transpose(2, 1, 0, 3)
    nib.save(nib.Nifti1Image(stored, convention.to_xyz(grid.affine, "RAS")), path)
    return path


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def entropy(p):
    return -np.where(p > 0, p * np.log(np.maximum(p, 1e-30)), 0).sum(axis=0) / np.log(len(p))


def refused(error, *args, words, **options):
    with pytest.raises(error) as caught:
        read_outputs(*args, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert ": " in text, "a remedy follows a colon"
    for word in words:
        assert word in text, text
