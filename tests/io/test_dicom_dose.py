"""Dose grids of radiotherapy are volumes in Gy."""

from pathlib import Path

import numpy as np
import pytest
from dicom_writing import dataset, plane
from landmarks import rotation

from napari_lightbox import io
from napari_lightbox.errors import FileError
from napari_lightbox.geometry import Grid
from napari_lightbox.io.series import list_series

pydicom = pytest.importorskip("pydicom")
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")

GRID = Grid.from_spacing((2.5, 0.8, 0.7), (5, 6, 7), (-30, 20, 10))
OBLIQUE = Grid.from_spacing((2.5, 0.8, 0.7), (5, 6, 7), (-30, 20, 10), rotation(20, -15, 30))
SCALING = 2.5e-7


def write_dose(path, grid, rng, change=None, offsets=None):
    data = rng.integers(0, 1 << 32, grid.shape, dtype=np.uint64)
    ds = dataset(*grid.shape[1:], kind="1.2.840.10008.5.1.4.1.1.481.2", Modality="RTDOSE")
    ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing = plane(grid, 0)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 32, 32, 31, 0
    ds.NumberOfFrames, ds.FrameIncrementPointer = grid.shape[0], 0x3004000C
    ds.GridFrameOffsetVector = list(2.5 * np.arange(grid.shape[0])) if offsets is None else list(offsets)
    ds.DoseGridScaling, ds.DoseUnits, ds.DoseType, ds.DoseSummationType = SCALING, "GY", "PHYSICAL", "PLAN"
    ds.PixelData = data.astype("<u4").tobytes()
    if change is not None:
        change(ds)
    ds.save_as(path, enforce_file_format=True)
    return path, data * SCALING


@pytest.mark.parametrize("grid", [GRID, OBLIQUE])
def test_a_dose_grid_in_gy(tmp_path, rng, grid):
    path, truth = write_dose(tmp_path / "d.dcm", grid, rng)
    read = io.read(path)
    assert np.allclose(read.data, truth, rtol=1e-6)
    assert read.grid.distance(grid) < 1e-4
    assert (read.meta["unit"], read.meta["modality"]) == ("Gy", "RTDOSE")
    assert read.meta["dose"] == {"type": "PHYSICAL", "of": "PLAN"}
    assert "notes" not in read.meta
    (info,) = list_series(path)
    assert (info.kind, info.size, info.problem, info.frames) == ("image", (7, 6, 5), None, None)
    assert info.thumbnail(32).any()


@pytest.mark.parametrize("level", [-30.0, 0.0])
def test_planes_by_their_height_in_the_patient(tmp_path, rng, level):
    """The second way of the standard: the vector begins with the z of the position, for axial grids."""
    grid = Grid.from_spacing((2.5, 0.8, 0.7), (5, 6, 7), (level, 20, 10))
    path, truth = write_dose(tmp_path / "d.dcm", grid, rng, offsets=level + 2.5 * np.arange(5))
    read = io.read(path)
    assert np.allclose(read.data, truth, rtol=1e-6)
    assert read.grid.distance(grid) < 1e-4


def test_planes_from_head_to_feet(tmp_path, rng):
    path, truth = write_dose(tmp_path / "d.dcm", GRID, rng, offsets=-2.5 * np.arange(5))
    read = io.read(path)
    assert np.allclose(read.data, truth[::-1], rtol=1e-6)
    assert read.grid.to_world((4, 0, 0)) == pytest.approx(GRID.origin, abs=1e-4)


def test_uneven_planes(tmp_path, rng):
    path, truth = write_dose(tmp_path / "d.dcm", GRID, rng, offsets=(0, 2.5, 5, 8.5, 11))
    with pytest.raises(FileError, match=r"unevenly spaced slices.*--even"):
        io.read(path)
    even = io.read(path, even=True)
    assert even.grid.spacing[0] == pytest.approx(2.5)
    assert np.allclose(even.data[:3], truth[:3], rtol=1e-6)
    assert np.allclose(even.data[3], truth[2] + (truth[3] - truth[2]) * 2.5 / 3.5, rtol=1e-5)


def test_a_missing_plane(tmp_path, rng):
    path, _ = write_dose(tmp_path / "d.dcm", GRID, rng, offsets=(0, 2.5, 5, 10, 12.5))
    with pytest.raises(FileError, match=r"1 between image 3 of d\.dcm and image 4 of d\.dcm"):
        io.read(path)
    assert io.read(path, even=True).meta["gaps"] == [3]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("GridFrameOffsetVector", None, "places of 0 of its 5 planes"),
        ("GridFrameOffsetVector", [0, 1, 2], "places of 3 of its 5 planes"),
        ("GridFrameOffsetVector", [7, 8, 9, 10, 11], "begin neither with 0 nor"),
        ("DoseGridScaling", None, "what its numbers are worth"),
        ("DoseGridScaling", 0, "what its numbers are worth"),
        ("ImagePositionPatient", None, "does not say where its dose grid lies"),
    ],
)
def test_doses_that_do_not_say_enough(tmp_path, rng, name, value, words):
    def change(ds):
        delattr(ds, name)
        if value is not None:
            setattr(ds, name, value)

    path, _ = write_dose(tmp_path / "d.dcm", GRID, rng, change)
    with pytest.raises(FileError, match=words):
        io.read(path)
    assert list_series(path)[0].problem


def test_relative_and_effective_doses_are_told(tmp_path, rng):
    def change(ds):
        ds.DoseUnits, ds.DoseType = "RELATIVE", "EFFECTIVE"

    read = io.read(write_dose(tmp_path / "d.dcm", GRID, rng, change)[0])
    assert read.meta["unit"] == "relative dose"
    assert read.meta["notes"] == [
        "the dose is not the physical one, its type is EFFECTIVE",
        "the dose is relative, not in Gy",
    ]


def test_doses_of_beams_and_an_image_in_one_folder(tmp_path, rng, dicom_series):
    folder, data, _ = dicom_series()
    for n, of in enumerate(("PLAN", "BEAM")):
        write_dose(folder / f"dose{n}.dcm", GRID, rng, lambda ds, of=of: setattr(ds, "DoseSummationType", of))
    assert np.array_equal(io.read(folder).data, data.astype(int) - 1024)
    found = [s for s in list_series(folder) if s.modality == "RTDOSE"]
    assert [(s.number, s.description) for s in found] == [
        ("5.1", "Made by hand (plan dose0.dcm)"),
        ("5.2", "Made by hand (beam dose1.dcm)"),
    ]
    assert not any(s.warnings for s in found)
    assert io.read(folder, series="5.2").meta["dose"]["of"] == "BEAM"
    assert len(io.read_all(folder)) == 3


@pytest.mark.parametrize("name", ["rtdose", "rtdose_rle", "rtdose_expb", "rtdose_1frame", "rtdose_expb_1frame"])
def test_files_of_pydicom(name):
    """As pydicom reads it, times the scaling of the header."""
    path = Path(pydicom.__file__).parent / "data" / "test_files" / f"{name}.dcm"
    if not path.exists():
        pytest.skip("pydicom was installed without its test files")
    ds = pydicom.dcmread(path)
    read = io.read(path)
    truth = ds.pixel_array.reshape(-1, 10, 10) * float(ds.DoseGridScaling)
    assert np.allclose(read.data, truth, rtol=1e-6)
    assert read.grid.origin == pytest.approx([float(v) for v in ds.ImagePositionPatient][::-1])
    last = [float(v) for v in ds.ImagePositionPatient]
    last[2] += float(ds.GridFrameOffsetVector[len(truth) - 1])
    assert read.grid.to_world((len(truth) - 1, 0, 0)) == pytest.approx(last[::-1])
