"""Volumes to send through files, and DICOM files written slice by slice."""

from pathlib import Path

import numpy as np
import pytest
from landmarks import oblique_grid, rotation

from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.io import convention
from napari_lightbox.volume import Label, Volume


@pytest.fixture
def volume(rng):
    """Return a small CT-like volume that is oblique, anisotropic and left-handed, and knows a lot of itself."""
    return Volume(
        rng.integers(-1000, 3000, (5, 6, 7)).astype(np.int16),
        oblique_grid(),
        name="thorax, portal phase",
        meta={
            "unit": "HU",
            "modality": "CT",
            "windows": [{"name": "lung", "centre": -600.0, "width": 1500.0}],
            "series": {"number": "3", "uid": "1.2.3"},
        },
        history=({"operation": "median", "parameters": {"size": 3, "mode": "reflect"}, "plane": None},),
    )


@pytest.fixture
def labels(rng):
    """Return labels with names, colours and codes."""
    names = {1: Label("liver", "#dd8265", "T-62000"), 7: Label("Milz – größer", "#9d6ca2"), 300: Label("tumour", None)}
    data = rng.choice(np.array([0, 1, 7, 300], np.uint16), (5, 6, 7))
    return Volume(data, oblique_grid(), kind="labels", name="organs", labels=names)


@pytest.fixture
def cine(rng):
    """Return a volume with three frames in time."""
    grid = oblique_grid().with_frames(Frames("time", (0.25, 0.75, 1.25), "s"))
    return Volume(rng.random((3, 5, 6, 7), dtype=np.float32), grid, name="cine")


@pytest.fixture
def dicom_series(tmp_path, rng):
    """Return a function that writes a CT series and gives its folder; `change(dataset, index)` may spoil slices."""
    pydicom = pytest.importorskip("pydicom")

    def make(count=6, change=None, folder="series", grid=None, dtype=np.int16, **attributes):
        grid = grid or Grid.from_spacing((2.5, 0.8, 0.7), (count, 8, 9), (-30, 20, 10), rotation(5, 10, 15))
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        data = rng.integers(0, 3000, (count, 8, 9)).astype(dtype)
        xyz = convention.to_xyz(grid.affine)
        uid = attributes.pop("SeriesInstanceUID", pydicom.uid.generate_uid())
        spacing = np.linalg.norm(xyz[:3, :3], axis=0)
        for index in range(count):
            ds = pydicom.Dataset()
            ds.file_meta = pydicom.dataset.FileMetaDataset()
            ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = pydicom.uid.CTImageStorage
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = pydicom.uid.generate_uid()
            ds.PatientName, ds.PatientID, ds.Modality = "Secret^Name", "77", "CT"
            ds.SeriesInstanceUID, ds.SeriesNumber, ds.SeriesDescription = uid, 4, "Thorax"
            ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 8, 9, 1, "MONOCHROME2"
            ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
            ds.PixelRepresentation = int(np.dtype(dtype).kind == "i")
            ds.ImageOrientationPatient = [f"{v:.10f}" for v in (xyz[:3, :3] / spacing)[:, :2].T.ravel()]
            ds.ImagePositionPatient = [f"{v:.8f}" for v in (xyz @ (0, 0, index, 1))[:3]]
            ds.PixelSpacing = [float(spacing[1]), float(spacing[0])]
            ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
            ds.WindowCenter, ds.WindowWidth = [40, -600], [400, 1500]
            ds.WindowCenterWidthExplanation = ["SOFT", "LUNG"]
            ds.PixelData = data[index].tobytes()
            for name, value in attributes.items():
                setattr(ds, name, value)
            if change is not None and change(ds, index) is False:
                continue
            # Names run against the position, so that sorting by name would be noticed.
            ds.save_as(place / f"{100 - index}.dcm", enforce_file_format=True)
        return Path(place), data, grid

    return make
