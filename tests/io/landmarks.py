"""Grids that are hard to get right, and where other programs put their voxels."""

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813

from napari_lightbox.geometry import Grid

VOLUMETRIC = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
LANDMARKS = np.array([(0, 0, 0), (4, 5, 6), (1, 2, 3), (4, 0, 6), (0, 5, 0)])


def rotation(a, b, c):
    """Return the matrix of turns about x, y and z in degrees."""
    a, b, c = np.radians((a, b, c))
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def oblique_grid(left_handed=True, shape=(5, 6, 7)):
    """Return an oblique, anisotropic grid."""
    direction = rotation(10, 20, 30) @ np.diag([1, 1, -1 if left_handed else 1])
    return Grid.from_spacing((3.3, 0.7, 0.9), shape, (-100.5, 20.25, -333.125), direction)


def nibabel_points(path, landmarks=LANDMARKS):
    """Return where nibabel puts voxels (z, y, x), as LPS mm (z, y, x)."""
    affine = nib.load(path).affine
    ras = landmarks[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
    return (ras * (-1, -1, 1))[:, ::-1]


def itk_points(path, landmarks=LANDMARKS):
    """Return where SimpleITK puts voxels (z, y, x), as LPS mm (z, y, x)."""
    image = sitk.ReadImage(str(path))
    frame = (0,) * (image.GetDimension() - 3)
    points = [image.TransformIndexToPhysicalPoint((*(int(i) for i in p[::-1]), *frame)) for p in landmarks]
    return np.array(points)[:, 2::-1]


def itk_array(path):
    """Return the voxels as SimpleITK reads them."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
