"""DICOM files made by hand: enhanced multi-frame files, Siemens mosaics, coded pixels."""

import struct

import numpy as np
import pydicom
from pydicom.sequence import Sequence

from napari_lightbox.io import convention


def dataset(rows, columns, kind=pydicom.uid.MRImageStorage, syntax=pydicom.uid.ExplicitVRLittleEndian, **attributes):
    """Return an MR image without pixels."""
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = kind
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = pydicom.uid.generate_uid()
    ds.PatientName, ds.PatientID, ds.Modality = "Secret^Name", "77", "MR"
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.SeriesDescription = "1.2.826.1.5", 5, "Made by hand"
    ds.StudyInstanceUID, ds.StudyDate, ds.StudyDescription = "1.2.826.1", "20240229", "Tests"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = rows, columns, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    for name, value in attributes.items():
        setattr(ds, name, value)
    return ds


def item(**attributes):
    """Return an item of a sequence; values that are items become sequences of one."""
    ds = pydicom.Dataset()
    for name, value in attributes.items():
        setattr(ds, name, Sequence([value]) if isinstance(value, pydicom.Dataset) else value)
    return ds


def plane(grid, index):
    """Return position, orientation and pixel spacing of a slice, as DICOM writes them."""
    xyz = convention.to_xyz(grid.affine)
    spacing = np.linalg.norm(xyz[:3, :3], axis=0)
    return (
        [f"{v:.8f}" for v in (xyz @ (0, 0, index, 1))[:3]],
        [f"{v:.10f}" for v in (xyz[:3, :3] / spacing)[:, :2].T.ravel()],
        [float(spacing[1]), float(spacing[0])],
    )


def write_enhanced(path, data, grid, marks=(), change=None, declared=None, **attributes):
    """Write (frame, z, y, x) as one enhanced MR file, frames changing fastest.

    `marks` gives for each frame the functional groups that tell it apart, as a function of (frame, slice).
    """
    ds = dataset(*data.shape[2:], kind=pydicom.uid.EnhancedMRImageStorage, **attributes)
    groups, pixels = [], []
    for z in range(data.shape[1]):
        position, orientation, _ = plane(grid, z)
        for t in range(data.shape[0]):
            content = item(StackID="1", InStackPositionNumber=z + 1, DimensionIndexValues=[1, z + 1, t + 1])
            group = item(
                FrameContentSequence=content,
                PlanePositionSequence=item(ImagePositionPatient=position),
                PlaneOrientationSequence=item(ImageOrientationPatient=orientation),
            )
            for mark in marks:
                for name, value in mark(t, z).items():
                    if name == "FrameContentSequence":
                        content.update(value)
                    else:
                        setattr(group, name, Sequence([value]))
            groups.append(group)
            pixels.append(data[t, z])
    spacing = plane(grid, 0)[2]
    shared = item(PixelMeasuresSequence=item(PixelSpacing=spacing, SliceThickness=f"{grid.spacing[0]:.6f}"))
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
    ds.NumberOfFrames = declared or len(pixels)
    ds.PixelData = np.stack(pixels).astype("<i2").tobytes()
    if change is not None:
        change(ds)
    ds.save_as(path, enforce_file_format=True)
    return path


def write_series(folder, data, grid, marks, **attributes):
    """Write (frame, z, y, x) as one file a slice; `marks(frame, slice)` gives the attributes that tell it apart."""
    folder.mkdir(exist_ok=True)
    count = 0
    for t in range(data.shape[0]):
        for z in range(data.shape[1]):
            ds = dataset(*data.shape[2:], **attributes)
            ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing = plane(grid, z)
            count += 1
            ds.InstanceNumber = count
            for name, value in marks(t, z).items():
                if isinstance(name, tuple):
                    ds.add_new(*name, value)
                else:
                    setattr(ds, name, value)
            ds.PixelData = data[t, z].astype("<i2").tobytes()
            # Names say nothing of the order.
            ds.save_as(folder / f"{(count * 37) % 1009:04d}.dcm", enforce_file_format=True)
    return folder


def csa(tags, marked=True):
    """Write a CSA header; tags are names with lists of text."""
    content = (
        struct.pack("<4s4sII", b"SV10", b"\4\3\2\1", len(tags), 77) if marked else struct.pack("<II", len(tags), 77)
    )
    first = None
    for name, values in tags.items():
        first = len(values) if first is None else first
        content += struct.pack("<64si4siii", name.encode(), len(values), b"FD", 4, len(values), 77)
        for value in values:
            text = value.encode() + b"\0"
            lengths = (len(text),) * 4 if marked else (len(text) + first, 0, 0, 0)
            content += struct.pack("<4i", *lengths) + text + bytes(-len(text) % 4)
    return content


def write_mosaic(path, data, grid, header=None, normal=1, change=None, **attributes):
    """Write (z, y, x) as a Siemens mosaic; `normal` -1 runs against row x column."""
    count, rows, columns = data.shape
    across = int(np.ceil(np.sqrt(count)))
    picture = np.zeros((rows * across, columns * across), "<i2")
    for n in range(count):
        y, x = n // across * rows, n % across * columns
        picture[y : y + rows, x : x + columns] = data[n]
    ds = dataset(*picture.shape, **attributes)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    ds.Manufacturer = "SIEMENS"
    _, orientation, spacing = plane(grid, 0)
    ds.ImageOrientationPatient, ds.PixelSpacing = orientation, spacing
    xyz = convention.to_xyz(grid.affine)
    # The position is that of a slice as large as the picture, about the same centre.
    corner = xyz @ (-(columns * across - columns) / 2, -(rows * across - rows) / 2, 0, 1)
    ds.ImagePositionPatient = [f"{v:.8f}" for v in corner[:3]]
    ds.SpacingBetweenSlices = f"{grid.spacing[0]:.8f}"
    direction = xyz[:3, 2] / grid.spacing[0]
    if header is None:
        header = csa({"NumberOfImagesInMosaic": [str(count)], "SliceNormalVector": [f"{v:.8f}" for v in direction]})
    if header:
        block = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x10, "OB", header)
    ds.PixelData = picture.tobytes()
    if change is not None:
        change(ds)
    ds.save_as(path, enforce_file_format=True)
    return path
