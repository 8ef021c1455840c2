"""Stacks that are tilted, uneven, incomplete or doubled: exact, refused by name, or resampled on request."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from landmarks import rotation
from scipy.interpolate import interp1d
from scipy.ndimage import map_coordinates

from napari_lightbox import io, phantoms_dicom
from napari_lightbox.errors import FileError
from napari_lightbox.geometry import Grid
from napari_lightbox.io.series import list_series

pydicom = pytest.importorskip("pydicom")
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")

STRAIGHT = Grid.from_spacing((2.5, 0.8, 0.7), (10, 8, 9), (-30, 20, 10))
OBLIQUE = Grid.from_spacing((2.5, 0.8, 0.7), (10, 8, 9), (-30, 20, 10), rotation(20, -15, 30))


def along(grid, shift):
    """Return a change that moves slice `index` by shift(index) steps (z, y, x) of the grid."""

    def change(ds, index):
        steps = grid.affine[:3, :3] @ np.asarray(shift(index), float)
        ds.ImagePositionPatient = [
            f"{float(p) + s:.7f}" for p, s in zip(ds.ImagePositionPatient, steps[::-1], strict=True)
        ]

    return change


def refused(folder, *words):
    with pytest.raises(FileError) as caught:
        io.read(folder)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    return str(caught.value)


# Tilt -----------------------------------------------------------------------------------------------------------


def tilted(dicom_series, grid, lean=0.8):
    """Every slice is `lean` rows further on."""
    affine = grid.affine.copy()
    affine[:3, 0] += affine[:3, 1] * lean
    return dicom_series(count=10, grid=grid, change=along(grid, lambda n: (0, n * lean, 0))), Grid(affine, grid.shape)


@pytest.mark.parametrize("grid", [STRAIGHT, OBLIQUE])
@pytest.mark.parametrize("lean", [0.8, -0.8])
def test_tilt_is_loaded_exactly(dicom_series, grid, lean):
    (folder, data, _), sheared = tilted(dicom_series, grid, lean)
    read = io.read(folder)
    assert np.array_equal(read.data, data.astype(int) - 1024)
    assert read.grid.distance(sheared) < 1e-4
    assert read.grid.shear == pytest.approx(np.degrees(np.arctan(0.8 * 0.8 / 2.5)), abs=1e-3)
    assert "tilted by 14.4 degrees" in read.meta["notes"][0]
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    reader.ForceOrthogonalDirectionOff()
    image = reader.Execute()
    for z, y, x in ((0, 0, 0), (9, 7, 8), (4, 0, 3)):
        assert np.allclose(
            image.TransformIndexToPhysicalPoint((x, y, z))[::-1], read.grid.to_world((z, y, x)), atol=1e-3
        )


@pytest.mark.parametrize("grid", [STRAIGHT, OBLIQUE])
@pytest.mark.parametrize("lean", [0.8, -0.8])
def test_tilt_resampled_to_right_angles(dicom_series, grid, lean):
    (folder, data, _), sheared = tilted(dicom_series, grid, lean)
    even = io.read(folder, even=True)
    assert even.grid.shear < 1e-4
    assert even.grid.spacing == pytest.approx(grid.spacing, abs=1e-5)
    assert "gaps" not in even.meta
    assert "14.4 degrees" in " ".join(even.meta["notes"])
    # All of the sheared stack is covered.
    reached = even.grid.to_index(sheared.corners())
    assert (reached > -0.5).all()
    assert (reached < np.array(even.grid.shape) - 0.5).all()
    # scipy on the same points; half a voxel at the edges is a matter of taste.
    points = np.stack(np.meshgrid(*(np.arange(n) for n in even.grid.shape), indexing="ij"), -1)
    there = sheared.to_index(even.grid.to_world(points))
    inside = ((there > -1e-6) & (there < np.array(sheared.shape) - 1 + 1e-6)).all(axis=-1)
    expected = map_coordinates(data - 1024.0, there[inside].T, order=1, mode="nearest")
    assert inside.mean() > 0.3
    assert np.abs(even.data[inside] - expected).max() <= 0.5 + 1e-3
    outside = ((there < -0.5) | (there > np.array(sheared.shape) - 0.5)).any(axis=-1)
    assert (even.data[outside] == even.data.min()).all()


def test_a_tilt_within_rounding_is_none(dicom_series):
    folder, _, _ = dicom_series(count=10, grid=STRAIGHT, change=along(STRAIGHT, lambda n: (0, 0.002 * n, 0)))
    read = io.read(folder)
    assert "notes" not in read.meta
    assert np.array_equal(io.read(folder, even=True).data, read.data)


# Missing and uneven slices --------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [STRAIGHT, OBLIQUE])
def test_missing_slices_are_interpolated_on_request(dicom_series, grid):
    gone = (3, 6, 7)
    folder, data, _ = dicom_series(count=10, grid=grid, change=lambda ds, n: n not in gone)
    sentence = refused(folder, "some are missing", "1 between 98.dcm and 96.dcm (5 mm)", "even=True", "--even")
    (info,) = list_series(folder)
    assert (info.problem, info.remedy_even) == (sentence, True)
    even = io.read(folder, even=True)
    assert even.grid.distance(grid) < 1e-3
    assert even.meta["gaps"] == [3, 6, 7]
    assert even.meta["notes"] == ["slices 3, 6-7 (counted from 0) were missing and are interpolated (linear)"]
    kept = [n for n in range(10) if n not in gone]
    truth = data.astype(int) - 1024
    assert np.array_equal(even.data[kept], truth[kept])
    assert even.data.dtype == np.int32
    expected = interp1d(kept, truth[kept], axis=0)(gone)
    assert np.abs(even.data[list(gone)] - expected).max() <= 0.5


@pytest.mark.parametrize("grid", [STRAIGHT, OBLIQUE])
def test_uneven_slices_are_resampled_on_request(dicom_series, grid):
    """Steps of 1, 1, 1, 2.2, 2.2, 1 ... of the grid: the finest that comes back is 1."""
    places = np.array([0, 1, 2, 3, 5.2, 7.4, 8.4, 9.4, 10.4, 11.9])
    change = along(grid, lambda n: (places[n] - n, 0, 0))
    folder, data, _ = dicom_series(count=10, grid=grid, change=change, RescaleSlope="0.5")
    refused(folder, "unevenly spaced", "even=True")
    even = io.read(folder, even=True)
    assert even.grid.spacing == pytest.approx((2.5, 0.8, 0.7), abs=1e-4)
    assert even.data.shape == (12, 8, 9)
    expected = interp1d(places, data * 0.5 - 1024, axis=0)(np.arange(12))
    # A slice within 0.05 steps of its place is taken as it is.
    assert np.allclose(even.data, expected, atol=1e-2)
    assert even.meta["gaps"] == [4, 5, 6, 7]
    assert "12 slices 2.5 mm apart" in even.meta["notes"][0]
    assert "the last 2.25 mm of the scan" in even.meta["notes"][0]


@pytest.mark.parametrize(("last", "left_out"), [(56, 6), (54, 4)])
def test_nothing_is_put_beyond_the_last_slice(dicom_series, last, left_out):
    places = np.array([0, 10, 20, 30, 40, last])
    grid = Grid.from_spacing((10, 0.8, 0.7), (6, 8, 9))
    folder, data, _ = dicom_series(count=6, grid=grid, change=along(grid, lambda n: (places[n] / 10 - n, 0, 0)))
    truth = data.astype(int) - 1024
    even = io.read(folder, even=True)
    assert even.grid.spacing[0] == pytest.approx(10)
    (note,) = even.meta["notes"]
    assert f"; the last {left_out} mm of the scan, beyond the last even slice, are left out" in note
    assert np.array_equal(even.data[:5], truth[:5])
    assert len(even.data) == 6
    expected = interp1d([40, last], truth[4:], axis=0)(50)
    assert np.abs(even.data[5] - expected).max() <= 0.5


def test_tilted_and_incomplete(dicom_series):
    lean = 0.8
    tilt = along(STRAIGHT, lambda n: (0, n * lean, 0))
    folder, _, _ = dicom_series(count=10, grid=STRAIGHT, change=lambda ds, n: (tilt(ds, n), n != 4)[1])
    refused(folder, "some are missing")
    even = io.read(folder, even=True)
    assert even.meta["gaps"] == [4]
    assert even.grid.shear < 1e-4
    assert even.data.shape[0] == 10
    assert "14.4 degrees" in " ".join(even.meta["notes"])


def test_gaps_in_every_frame(tmp_path, rng):
    from dicom_writing import write_series

    data = rng.integers(0, 3000, (2, 6, 5, 6))
    grid = Grid.from_spacing((3, 1, 1), (6, 5, 6))
    folder = write_series(tmp_path / "s", data, grid, lambda t, z: {"TriggerTime": 50 * t})
    for path in folder.iterdir():
        if (pydicom.dcmread(path).InstanceNumber - 1) % 6 == 2:
            path.unlink()
    refused(folder, "some are missing")
    even = io.read(folder, even=True)
    assert even.grid.frames.values == (0, 0.05)
    assert even.meta["gaps"] == [2]
    assert np.abs(even.data[:, 2] - (data[:, 1] + data[:, 3]) / 2).max() <= 0.5
    assert np.array_equal(even.data[:, 3:], data[:, 3:])


def test_even_changes_nothing_that_is_even(dicom_series):
    folder, _, _ = dicom_series()
    read, even = io.read(folder), io.read(folder, even=True)
    assert np.array_equal(read.data, even.data)
    assert read.grid == even.grid
    assert dict(read.meta) == dict(even.meta)


def test_what_no_resampling_mends(dicom_series):
    folder, _, _ = dicom_series(count=10, grid=STRAIGHT, change=along(STRAIGHT, lambda n: (0, 0, 2 * (n == 4))))
    for even in (False, True):
        with pytest.raises(FileError, match=r"shifted sideways by up to .* mm, most in 96.dcm"):
            io.read(folder, even=even)
    (info,) = list_series(folder)
    assert (bool(info.problem), info.remedy_even) == (True, False)


# Copies ---------------------------------------------------------------------------------------------------------


def test_copies_are_left_out(dicom_series):
    folder, data, _ = dicom_series()
    (folder / "copy.dcm").write_bytes((folder / "98.dcm").read_bytes())
    read = io.read(folder)
    assert np.array_equal(read.data, data.astype(int) - 1024)
    assert read.meta["notes"] == [
        "left out as copies, with the same pixels at the same positions: copy.dcm (of 98.dcm)"
    ]
    assert len(read.meta["series"]["instance_uids"]) == 6


def test_a_whole_series_twice(dicom_series):
    folder, data, _ = dicom_series()
    shutil.copytree(folder, folder / "again")
    assert np.array_equal(io.read(folder).data, data.astype(int) - 1024)


@pytest.mark.parametrize("differ", ["pixels", "rescale"])
def test_copies_that_differ_are_refused(dicom_series, differ):
    folder, _, _ = dicom_series()
    ds = pydicom.dcmread(folder / "98.dcm")
    if differ == "pixels":
        ds.PixelData = bytes([ds.PixelData[0] ^ 1]) + ds.PixelData[1:]
    else:
        ds.RescaleSlope = 2
    ds.save_as(folder / "copy.dcm")
    refused(folder, "duplicate", "98.dcm", "copy.dcm", "remove one of them")
    (info,) = list_series(folder)
    assert "copy.dcm" in info.warnings[0]


# Rounding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("decimals", "step"), [(1, 0.625), (2, 0.3), (3, 0.05), (1, 1.25), (4, 2.5)])
def test_rounded_positions_never_warn(dicom_series, decimals, step):
    """Positions written with one decimal at slices 0.625 mm apart are off by 8 % of their distance."""
    grid = Grid.from_spacing((step, 0.8, 0.7), (40, 8, 9), (-30.123, 20.456, 10.789), rotation(3, 2, 1))

    def written(ds, index):
        ds.ImagePositionPatient = [f"{float(v):.{decimals}f}" for v in ds.ImagePositionPatient]

    folder, data, _ = dicom_series(count=40, grid=grid, change=written)
    read = io.read(folder)
    assert np.array_equal(read.data, data.astype(int) - 1024)
    assert "notes" not in read.meta
    assert read.grid.distance(grid) < 2 * 10**-decimals
    (info,) = list_series(folder)
    assert (info.problem, info.warnings) == (None, ())


def test_noise_of_a_hundredth_of_a_step_never_warns(dicom_series, rng):
    shifts = rng.uniform(-0.015, 0.015, (10, 3))
    folder, _, _ = dicom_series(count=10, grid=OBLIQUE, change=along(OBLIQUE, lambda n: shifts[n]))
    read = io.read(folder)
    assert "notes" not in read.meta
    assert read.grid.distance(OBLIQUE) < 0.1


def test_a_missing_slice_is_seen_through_rounding(dicom_series):
    grid = Grid.from_spacing((0.625, 0.8, 0.7), (40, 8, 9))

    def written(ds, index):
        ds.ImagePositionPatient = [f"{float(v):.1f}" for v in ds.ImagePositionPatient]
        return index != 20

    folder, _, _ = dicom_series(count=40, grid=grid, change=written)
    refused(folder, "1 between 81.dcm and 79.dcm")
    assert io.read(folder, even=True).meta["gaps"] == [20]


# The phantom ----------------------------------------------------------------------------------------------------


SMALL = Grid.from_spacing((20.0, 16.0, 16.0), (10, 20, 22), (-105.0, -160.0, -185.0))


@pytest.mark.parametrize("variant", ["plain", "tilt", "duplicate", "jitter", "time"])
def test_series_of_the_phantom(tmp_path, variant):
    phantoms_dicom.write_series(tmp_path, variant, grid=SMALL)
    truth, _ = phantoms_dicom.series_phantom(variant, grid=SMALL)
    read = io.read(tmp_path)
    assert np.array_equal(read.data, truth.data)
    assert read.grid.distance(truth.grid) < 0.01
    if variant == "time":
        assert read.grid.frames.kind == "time"
        assert read.grid.frames.values == pytest.approx(truth.grid.frames.values, abs=1e-5)


def test_the_phantom_with_a_missing_slice(tmp_path):
    phantoms_dicom.write_series(tmp_path, "missing", grid=SMALL)
    truth, _ = phantoms_dicom.series_phantom("missing", grid=SMALL)
    refused(tmp_path, "some are missing")
    even = io.read(tmp_path, even=True)
    assert even.grid.distance(truth.grid) < 1e-3
    (gap,) = even.meta["gaps"]
    assert np.array_equal(np.delete(even.data, gap, 0), np.delete(truth.data, gap, 0))
