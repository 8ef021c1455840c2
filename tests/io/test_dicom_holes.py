"""Frames that lack single images: refused by name, or filled within the frame on request."""

import numpy as np
import pytest
from dicom_writing import write_enhanced, write_series
from landmarks import rotation
from scipy.interpolate import interp1d

from napari_lightbox import io
from napari_lightbox.cli import main
from napari_lightbox.errors import FileError
from napari_lightbox.geometry import Grid
from napari_lightbox.io.series import list_series

pydicom = pytest.importorskip("pydicom")
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")

GRID = Grid.from_spacing((2.5, 0.8, 0.7), (6, 5, 6), (-30, 20, 10), rotation(5, 10, 15))
GRADIENTS = [[0, 0, 0], [0, 1, 0], [0, 0.6, 0.8]]
# What tells three frames apart, and how frame 1 is named.
MARKS = {
    "trigger time": (lambda t, z: {"TriggerTime": 40 * t}, "time 0.04 s"),
    "running clock": (
        lambda t, z: {"AcquisitionTime": f"1200{10 * t + (z * 2) % 6:02d}", "AcquisitionNumber": t},
        "time 10 s",
    ),
    "numbers alone": (lambda t, z: {"AcquisitionTime": f"1200{10 * t + (z * 2) % 6:02d}"}, "time 10 s"),
    "b-value": (lambda t, z: {"DiffusionBValue": (0, 500, 1000)[t]}, "b-value 500 s/mm2"),
    "direction": (
        lambda t, z: {"DiffusionBValue": 1000 * bool(t), "DiffusionGradientOrientation": GRADIENTS[t]},
        "b-value 1000 s/mm2",
    ),
    "temporal position": (lambda t, z: {"TemporalPositionIdentifier": t + 1}, "1 (counted from 0)"),
}


def name_of(t, z):
    return f"{((t * 6 + z + 1) * 37) % 1009:04d}.dcm"


def series(tmp_path, rng, gone, marks="trigger time", frames=3):
    """Write frames without the images (frame, slice) in `gone`."""
    data = rng.integers(0, 3000, (frames, *GRID.shape))
    folder = write_series(tmp_path / "s", data, GRID, MARKS[marks][0])
    for t, z in gone:
        (folder / name_of(t, z)).unlink()
    return folder, data


def interpolated(data, gone):
    """Return what scipy makes of the slices that are there, frame by frame, and which are not."""
    result, mask = data.astype(float), np.zeros(data.shape[:2], bool)
    mask[tuple(np.transpose(gone))] = True
    for t in range(len(data)):
        there = np.flatnonzero(~mask[t])
        result[t] = interp1d(there, data[t, there], axis=0, bounds_error=False)(np.arange(data.shape[1]))
    return result, mask


def refused(path, *words):
    with pytest.raises(FileError) as caught:
        io.read(path)
    text = str(caught.value)
    assert all(word in text for word in words), text
    return text


@pytest.mark.parametrize("marks", MARKS)
def test_one_image_is_missing(tmp_path, rng, marks):
    gone = [(1, 3)]
    folder, data = series(tmp_path, rng, gone, marks)
    place = ", ".join(f"{v:.4g}" for v in GRID.to_world((3, 0, 0))[::-1])
    sentence = refused(
        folder,
        "frame 1 (counted from 0",
        MARKS[marks][1],
        f"between {name_of(1, 2)} and {name_of(1, 4)}",
        place,
        "copy the whole series again, or open it with even=True (--even on the command line)",
    )
    (info,) = list_series(folder)
    assert (info.problem, info.remedy_even, info.size, info.frames.count) == (sentence, True, (6, 5, 6), 3)
    even = io.read(folder, even=True)
    expected, mask = interpolated(data, gone)
    assert np.array_equal(even.data[~mask], data[~mask])
    assert np.abs(even.data - expected).max() <= 0.5
    assert even.data.dtype.kind == "i"
    assert even.grid.without_frames().distance(GRID) < 1e-4
    assert even.meta["frame_gaps"] == [[1, 3]]
    assert "gaps" not in even.meta
    assert "slice 3 of frame 1 (counted from 0) was missing and is interpolated (linear)" in even.meta["notes"]
    assert len(even.meta["series"]["instance_uids"]) == 17


def test_several_images_are_missing(tmp_path, rng):
    """Of one frame next to each other, of another elsewhere; of all frames at one position."""
    gone = [(0, 2), (0, 3), (2, 1), *((t, 4) for t in range(3))]
    folder, data = series(tmp_path, rng, gone)
    refused(folder, "some are missing")
    even = io.read(folder, even=True)
    expected, _ = interpolated(data, gone)
    assert np.abs(even.data - expected).max() <= 1.0  # rounded twice where a gap is beside a hole
    assert even.meta["gaps"] == [4]
    assert even.meta["frame_gaps"] == [[0, 2], [0, 3], [2, 1]]
    assert even.meta["notes"][-1].startswith("slices 2-3 of frame 0, slice 1 of frame 2 (counted from 0) were missing")
    assert even.grid.without_frames().distance(GRID) < 1e-4


def test_uneven_positions_and_a_hole(tmp_path, rng):
    """Slices beside the hole carry what was interpolated."""
    folder, data = series(tmp_path, rng, [(1, 3)])
    places = np.array([0, 1, 2, 3.4, 4.4, 5.4])
    step = (GRID.affine[:3, 0])[::-1]
    for path in folder.iterdir():
        ds = pydicom.dcmread(path)
        at = (int(ds.InstanceNumber) - 1) % 6
        ds.ImagePositionPatient = [
            f"{v:.6f}" for v in np.array(ds.ImagePositionPatient, float) + step * (places[at] - at)
        ]
        ds.save_as(path)
    even = io.read(folder, even=True)
    for t in range(3):
        there = [n for n in range(6) if (t, n) != (1, 3)]
        expected = interp1d(places[there], data[t, there], axis=0)(np.arange(6))
        assert np.abs(even.data[t] - expected).max() <= 1.0
    assert even.meta["frame_gaps"] == [[1, 3], [1, 4]]


def test_the_end_of_one_frame(tmp_path, rng):
    """There is nothing to interpolate from: the slice is left out of all frames."""
    folder, data = series(tmp_path, rng, [(1, 0), (2, 3)])
    refused(folder, f"at its end, beyond {name_of(1, 1)}")
    even = io.read(folder, even=True)
    assert even.data.shape == (3, 5, 5, 6)
    assert np.array_equal(even.data[:2], data[:2, 1:])
    assert even.meta["frame_gaps"] == [[2, 2]]
    assert even.grid.to_world((0, 0, 0, 0)[1:]) == pytest.approx(GRID.to_world((1, 0, 0)), abs=1e-4)
    assert "slices at the ends that are missing in some frames were left out of all frames: 1" in even.meta["notes"]


def test_an_end_behind_an_end(tmp_path, rng):
    """Without the first slice, which one frame lacks, another frame begins with a hole."""
    folder, data = series(tmp_path, rng, [(0, 0), (1, 1)])
    even = io.read(folder, even=True)
    assert np.array_equal(even.data, data[:, 2:])
    assert sum("were left out of all frames: 1" in note for note in even.meta["notes"]) == 2


def test_a_frame_that_breaks_off(tmp_path, rng):
    """The scan was stopped: the last frame is left out, not the slices of all others."""
    folder, data = series(tmp_path, rng, [(2, z) for z in range(2, 6)])
    even = io.read(folder, even=True)
    assert np.array_equal(even.data, data[:2])
    assert even.grid.frames.values == (0, 0.04)
    assert "frame_gaps" not in even.meta
    (note,) = even.meta["notes"]
    assert note == "frames whose first or last images are missing were left out: 2 (counted from 0; time 0.08 s)"


def test_an_enhanced_file(tmp_path, rng):
    data = rng.integers(0, 3000, (2, *GRID.shape))

    def forget(ds):
        del ds.PerFrameFunctionalGroupsSequence[2 * 3 + 1]
        ds.NumberOfFrames = 11
        images = np.frombuffer(ds.PixelData, "<i2").reshape(12, 5, 6)
        ds.PixelData = np.delete(images, 7, 0).tobytes()

    path = write_enhanced(tmp_path / "e.dcm", data, GRID, change=forget)
    refused(path, "between image 6 of e.dcm and image 9 of e.dcm")
    even = io.read(path, even=True)
    expected, _ = interpolated(data, [(1, 3)])
    assert np.abs(even.data - expected).max() <= 0.5


def test_one_of_two_kinds_is_missing(tmp_path, rng):
    """Magnitude and phase are volumes of their own: each has a gap like that of any series."""
    data = rng.integers(0, 3000, (2, *GRID.shape))
    folder = write_series(tmp_path / "s", data, GRID, lambda t, z: {"ImageType": ["ORIGINAL", "PRIMARY", "MP"[t]]})
    (folder / name_of(1, 2)).unlink()
    assert np.array_equal(io.read(folder, series="5.1").data, data[0])
    even = io.read(folder, series="5.2", even=True)
    assert even.meta["gaps"] == [2]
    assert np.abs(even.data[2] - (data[1, 1] + data[1, 3]) / 2).max() <= 0.5


def test_what_cannot_be_told_is_refused(tmp_path, rng):
    """Clocks that run from slice to slice, and numbers that were given anew behind the loss."""
    folder, _ = series(tmp_path, rng, [(1, 3)], "numbers alone")
    for path in folder.iterdir():
        ds = pydicom.dcmread(path)
        ds.InstanceNumber -= ds.InstanceNumber > 9
        ds.save_as(path)
    for even in (False, True):
        with pytest.raises(FileError, match=r"but 2 at the position of \d+.dcm, and nothing in their headers tells"):
            io.read(folder, even=even)


def test_an_image_too_many_is_refused(tmp_path, rng):
    folder, _ = series(tmp_path, rng, [])
    ds = pydicom.dcmread(folder / name_of(1, 3))
    ds.TriggerTime, ds.InstanceNumber = 7, 99
    ds.save_as(folder / "more.dcm")
    refused(folder, "holds 3 images at most positions, but 4 at the position of")


def test_on_the_command_line(tmp_path, rng, capsys):
    folder, _ = series(tmp_path, rng, [(1, 3)])
    out = tmp_path / "a.nii.gz"
    assert main(["convert", str(folder), str(out)]) == 2
    assert f"between {name_of(1, 2)} and {name_of(1, 4)}" in capsys.readouterr().err
    assert main(["convert", str(folder), str(out), "--even"]) == 0
    assert "slice 3 of frame 1" in capsys.readouterr().err
    assert main(["info", str(out)]) == 0
    assert "slice 3 of frame 1 (counted from 0) missing and interpolated" in capsys.readouterr().out
