"""DICOM segmentations and structure sets written by hand, attribute by attribute, as the standard puts them."""

import numpy as np

from napari_lightbox.io import convention


def _object(class_uid, modality):
    import pydicom

    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = class_uid
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = pydicom.uid.generate_uid()
    ds.Modality, ds.SeriesDescription, ds.SeriesNumber = modality, "Structures", 9
    ds.SeriesInstanceUID, ds.StudyInstanceUID = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
    ds.PatientName, ds.PatientID = "Secret^Name", "77"
    return ds


def _item(**attributes):
    import pydicom

    ds = pydicom.Dataset()
    for name, value in attributes.items():
        setattr(ds, name, value)
    return ds


def _code(value, scheme, meaning):
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def write_seg(path, grid, frames, kind="BINARY", segments=(1,), change=None, most=255, bits=8, **attributes):
    """Write a SEG.

    Parameters
    ----------
    grid : Grid
        Of the planes: frame (segment, k, mask) lies on plane k.
    frames : list of (int or None, int, 2D array)
    change : callable, optional
        May spoil the data set before it is saved.
    """
    ds = _object("1.2.840.10008.5.1.4.1.1.66.4", "SEG")
    vectors, origin = convention.to_vectors(grid.affine)
    lengths = np.linalg.norm(vectors, axis=1)
    ds.SegmentationType, ds.FrameOfReferenceUID = kind, "1.2.3.4"
    ds.ReferencedSeriesSequence = [_item(SeriesInstanceUID="1.2.3.5")]
    ds.SegmentSequence = [
        _item(
            SegmentNumber=n,
            SegmentLabel=f"part {n}",
            SegmentedPropertyTypeCodeSequence=[_code(f"T-{n}", "SRT", f"Part {n}")],
            RecommendedDisplayCIELabValue=[35579, 53664, 50858],  # red: L 54.3, a 80.8, b 69.9
        )
        for n in segments
    ]
    ds.Rows, ds.Columns = frames[0][2].shape
    ds.NumberOfFrames, ds.SamplesPerPixel, ds.PhotometricInterpretation = len(frames), 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 1 if kind == "BINARY" else bits
    ds.HighBit, ds.PixelRepresentation = ds.BitsAllocated - 1, 0
    if kind == "FRACTIONAL":
        ds.SegmentationFractionalType, ds.MaximumFractionalValue = "PROBABILITY", most
    cosines = (vectors[:2] / lengths[:2, None]).ravel()
    ds.SharedFunctionalGroupsSequence = [
        _item(
            PlaneOrientationSequence=[_item(ImageOrientationPatient=[f"{v:.9f}" for v in cosines])],
            PixelMeasuresSequence=[
                _item(PixelSpacing=[f"{lengths[1]:.9f}", f"{lengths[0]:.9f}"], SliceThickness=f"{lengths[2]:.9f}")
            ],
        )
    ]
    ds.PerFrameFunctionalGroupsSequence = [
        _item(
            PlanePositionSequence=[_item(ImagePositionPatient=[f"{v:.6f}" for v in origin + k * vectors[2]])],
            **({} if n is None else {"SegmentIdentificationSequence": [_item(ReferencedSegmentNumber=n)]}),
        )
        for n, k, _ in frames
    ]
    stack = np.stack([mask for _, _, mask in frames])
    if kind == "BINARY":
        raw = np.packbits(stack.ravel().astype(np.uint8), bitorder="little").tobytes()
    else:
        raw = stack.astype(f"<u{bits // 8}").tobytes()
    ds.PixelData = raw + b"\0" * (len(raw) % 2)
    for name, value in attributes.items():
        setattr(ds, name, value)
    if change is not None:
        change(ds)
    ds.save_as(path, enforce_file_format=True)
    return path


def write_rtstruct(path, structures, series_uid="1.2.3.5", change=None):
    """Write an RTSTRUCT; `structures` maps a number to (name, colour, list of (kind, (n, 3) points x, y, z mm))."""
    ds = _object("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT")
    ds.StructureSetLabel = "plan"
    series = [_item(SeriesInstanceUID=series_uid)] if series_uid else []
    study = _item(RTReferencedSeriesSequence=series)
    ds.ReferencedFrameOfReferenceSequence = [_item(FrameOfReferenceUID="1.2.3.4", RTReferencedStudySequence=[study])]
    ds.StructureSetROISequence = [_item(ROINumber=n, ROIName=name) for n, (name, _, _) in structures.items()]
    ds.ROIContourSequence = []
    for number, (_, colour, contours) in structures.items():
        item = _item(ReferencedROINumber=number)
        if colour is not None:
            item.ROIDisplayColor = list(colour)
        item.ContourSequence = [
            _item(
                ContourGeometricType=kind,
                NumberOfContourPoints=len(points),
                ContourData=[f"{v:.6f}" for v in np.ravel(points)],
            )
            for kind, points in contours
        ]
        ds.ROIContourSequence.append(item)
    ds.RTROIObservationsSequence = [
        _item(ReferencedROINumber=n, RTROIIdentificationCodeSequence=[_code(f"C{n}", "FMA", "thing")])
        for n in structures
    ]
    if change is not None:
        change(ds)
    ds.save_as(path, enforce_file_format=True)
    return path


def contour(grid, k, corners, kind="CLOSED_PLANAR"):
    """Return a contour through corners (row, column; in pixels) on plane k (may lie between two)."""
    index = np.array([(k, row, column) for row, column in corners], float)
    return kind, grid.to_world(index)[:, ::-1]


def square(low, high):
    """Return the corners of a square."""
    return [(low, low), (low, high), (high, high), (high, low)]
