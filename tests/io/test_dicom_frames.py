"""Several images at one position: times, b-values, echoes, phases; in files of their own and in one file."""

import numpy as np
import pytest
from landmarks import rotation

from napari_lightbox import io
from napari_lightbox.errors import FileError
from napari_lightbox.geometry import Grid
from napari_lightbox.io.series import list_series

pytest.importorskip("pydicom")
import pydicom
from dicom_writing import item, plane, write_enhanced, write_series

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")

GRID = Grid.from_spacing((2.5, 0.8, 0.7), (4, 5, 6), (-30, 20, 10), rotation(5, 10, 15))


def truth(rng, frames=3):
    return rng.integers(-900, 3000, (frames, *GRID.shape))


def frames_of(volume):
    frames = volume.grid.frames
    return frames.kind, frames.values, frames.unit


def date_time(seconds):
    return f"20240229{10 + int(seconds) // 3600:02d}{int(seconds) // 60 % 60:02d}{seconds % 60:09.6f}"


def _of_day(seconds):
    minutes, seconds = divmod(seconds % 86400, 60)
    return f"{minutes // 60:02d}{minutes % 60:02d}{seconds:02d}"


# One file a slice -----------------------------------------------------------------------------------------------

GRADIENTS = [[1, 0, 0], [0, 1, 0], [0, 0.6, 0.8]]
ONE_A_SLICE = {
    "trigger time": (lambda t, z: {"TriggerTime": 40 * t}, ("time", (0, 0.04, 0.08), "s")),
    "trigger time that runs on": (lambda t, z: {"TriggerTime": 40 * t + z}, ("time", (0.0015, 0.0415, 0.0815), "s")),
    "temporal position alone": (lambda t, z: {"TemporalPositionIdentifier": t + 1}, ("frame", (1, 2, 3), "")),
    "temporal position with times": (
        lambda t, z: {"TemporalPositionIdentifier": t + 1, "AcquisitionTime": f"1200{6 * t + z:02d}.5"},
        ("time", (0, 6, 12), "s"),
    ),
    "acquisition time": (lambda t, z: {"AcquisitionTime": f"12000{3 * t}.25"}, ("time", (0, 3, 6), "s")),
    "acquisition time, interleaved": (
        lambda t, z: {"AcquisitionTime": f"1200{10 * t + (z * 2) % 4 + z // 2:02d}"},
        ("time", (0, 10, 20), "s"),
    ),
    "past midnight": (
        lambda t, z: {
            "AcquisitionDate": "20240229" if t == 0 else "20240301",
            "AcquisitionTime": ("235958", "000003", "000008")[t],
        },
        ("time", (0, 5, 10), "s"),
    ),
    "past midnight without dates": (
        lambda t, z: {"AcquisitionTime": ("235958", "000003", "000008")[t]},
        ("time", (0, 5, 10), "s"),
    ),
    "past midnight within a frame, numbered": (
        lambda t, z: {"TemporalPositionIdentifier": t + 1, "AcquisitionTime": _of_day(86390 + 6 * t + z)},
        ("time", (0, 6, 12), "s"),
    ),
    "content time": (lambda t, z: {"ContentTime": f"12010{2 * t}"}, ("time", (0, 2, 4), "s")),
    "PET frame time": (
        lambda t, z: {"FrameReferenceTime": (5000, 15000, 45000)[t], "Modality": "PT"},
        ("time", (5, 15, 45), "s"),
    ),
    "b-value": (lambda t, z: {"DiffusionBValue": (0, 500, 1000)[t]}, ("b-value", (0, 500, 1000), "s/mm2")),
    "b-value of Siemens": (
        lambda t, z: {(0x00190010, "LO"): "SIEMENS MR HEADER", (0x0019100C, "IS"): (0, 500, 1000)[t]},
        ("b-value", (0, 500, 1000), "s/mm2"),
    ),
    "b-value of GE": (
        lambda t, z: {
            (0x00430010, "LO"): "GEMS_PARM_01",
            (0x00431039, "IS"): [(0, 10**9 + 800, 10**9 + 900)[t], 8, 0, 0],
        },
        ("b-value", (0, 800, 900), "s/mm2"),
    ),
    "b-value of Philips": (
        lambda t, z: {(0x20010011, "LO"): "Philips Imaging DD 001", (0x20011103, "FL"): (0.0, 500.0, 1000.0)[t]},
        ("b-value", (0, 500, 1000), "s/mm2"),
    ),
    "b-value with directions": (
        lambda t, z: {"DiffusionBValue": (0, 1000, 1000)[t], "DiffusionGradientOrientation": GRADIENTS[t]},
        ("b-value", (0, 1000, 1000), "s/mm2"),
    ),
    "echo time": (
        lambda t, z: {"EchoTime": (4.92, 7.38, 9.84)[t], "EchoNumbers": t + 1},
        ("echo", (4.92, 7.38, 9.84), "ms"),
    ),
    "echo number": (lambda t, z: {"EchoNumbers": t + 1}, ("echo", (1, 2, 3), "")),
    "cardiac phase": (lambda t, z: {"NominalPercentageOfCardiacPhase": 30 * t}, ("phase", (0, 30, 60), "%")),
    "inversion time": (lambda t, z: {"InversionTime": (50, 400, 2500)[t]}, ("inversion", (50, 400, 2500), "ms")),
    "flip angle": (lambda t, z: {"FlipAngle": (5, 10, 15)[t]}, ("flip angle", (5, 10, 15), "degrees")),
    "acquisition number": (lambda t, z: {"AcquisitionNumber": t + 4}, ("frame", (4, 5, 6), "")),
}


@pytest.mark.parametrize("name", ONE_A_SLICE)
def test_frames_one_file_a_slice(tmp_path, rng, name):
    marks, expected = ONE_A_SLICE[name]
    data = truth(rng)
    read = io.read(write_series(tmp_path / "s", data, GRID, marks))
    assert read.data.shape == data.shape
    assert np.array_equal(read.data, data)
    assert frames_of(read) == expected
    assert read.grid.without_frames().distance(GRID) < 1e-5


def test_directions_and_repetitions_in_order_of_acquisition(tmp_path, rng):
    """Two images without diffusion, not side by side, and two directions."""
    b = (0, 800, 0, 800)
    directions = ([0, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0])
    data = truth(rng, 4)
    folder = write_series(
        tmp_path / "s",
        data,
        GRID,
        lambda t, z: {
            "DiffusionBValue": b[t],
            "DiffusionGradientOrientation": directions[t],
            "AcquisitionTime": f"12000{t}",
        },
    )
    read = io.read(folder)
    assert np.array_equal(read.data, data)
    assert frames_of(read) == ("b-value", b, "s/mm2")
    assert read.meta["gradient_directions"] == [None, [0, 1, 0], None, [1, 0, 0]]


def test_directions_along_the_image_tell_frames_apart_but_are_not_given(tmp_path, rng):
    data = truth(rng, 3)

    def marks(t, z):
        ge = {(0x00190010, "LO"): "GEMS_ACQU_01"}
        return ge | {(0x001910BB + n, "DS"): f"{GRADIENTS[t][n]}" for n in range(3)} | {"DiffusionBValue": 900}

    read = io.read(write_series(tmp_path / "s", data, GRID, marks))
    assert np.array_equal(read.data, data)
    assert frames_of(read) == ("b-value", (900, 900, 900), "s/mm2")
    assert "gradient_directions" not in read.meta
    assert "along the image, not along the patient" in " ".join(read.meta["notes"])
    # What the standard has, counts.
    both = io.read(
        write_series(
            tmp_path / "b", data, GRID, lambda t, z: marks(t, z) | {"DiffusionGradientOrientation": GRADIENTS[t]}
        )
    )
    assert both.meta["gradient_directions"] == GRADIENTS


@pytest.mark.parametrize(("frames", "jitter"), [(12, 0.01), (2, 0.01), (2, 0.03), (5, 0.03)])
def test_frames_that_scatter_about_their_place(tmp_path, rng, frames, jitter):
    grid = Grid.from_spacing((10, 2, 2), (8, 5, 6))
    data = rng.integers(-900, 3000, (frames, *grid.shape))
    moved = rng.uniform(-jitter, jitter, (frames, 8))
    moved[0, 3], moved[1, 3] = -jitter, jitter

    def marks(t, z):
        return {"TriggerTime": 40 * t, "ImagePositionPatient": [0, 0, f"{10 * z + moved[t, z]:.6f}"]}

    read = io.read(write_series(tmp_path / "s", data, grid, marks))
    assert np.array_equal(read.data, data)
    assert read.grid.spacing[0] == pytest.approx(10, abs=0.02)


def test_echoes_in_time_are_volumes_of_their_own(tmp_path, rng):
    data = truth(rng, 6)
    folder = write_series(
        tmp_path / "s",
        data,
        GRID,
        lambda t, z: {"EchoTime": (10, 30)[t % 2], "AcquisitionTime": f"1200{2 * (t // 2):02d}.{t % 2}{z}"},
    )
    with pytest.raises(FileError, match=r"holds 2 volumes \(5.1: 'Made by hand \(echo time 10 ms\)', MR, 12 images"):
        io.read(folder)
    volumes = io.read_all(folder)
    for number, volume in enumerate(volumes):
        assert np.array_equal(volume.data, data[number::2])
        assert frames_of(volume) == ("time", (0, 2, 4), "s")
    assert np.array_equal(io.read(folder, series="5.2").data, data[1::2])
    assert np.array_equal(io.read(folder, series="echo time 30").data, data[1::2])


def test_magnitude_and_phase_are_volumes_of_their_own(tmp_path, rng):
    data = truth(rng, 2)
    folder = write_series(tmp_path / "s", data, GRID, lambda t, z: {"ImageType": ["ORIGINAL", "PRIMARY", "MP"[t]]})
    volumes = io.read_all(folder)
    assert [v.name for v in volumes] == ["Made by hand (M)", "Made by hand (P)"]
    assert all(np.array_equal(v.data, d) for v, d in zip(volumes, data, strict=True))


def test_kernels_are_volumes_of_their_own(tmp_path, rng):
    data = truth(rng, 2)
    folder = write_series(
        tmp_path / "s", data, GRID, lambda t, z: {"ConvolutionKernel": ("B30f", "B70f")[t], "ContentTime": f"12000{t}"}
    )
    assert [v.name for v in io.read_all(folder)] == ["Made by hand (B30f)", "Made by hand (B70f)"]


def test_what_nothing_tells_apart_is_refused(tmp_path, rng):
    folder = write_series(tmp_path / "s", truth(rng, 2), GRID, lambda t, z: {})
    with pytest.raises(
        FileError, match=r"duplicate slices: \d+.dcm and \d+.dcm lie at the same position, their pixels"
    ):
        io.read(folder)


def test_frames_that_move_are_refused(tmp_path, rng):
    folder = write_series(tmp_path / "s", truth(rng), GRID, lambda t, z: {"TemporalPositionIdentifier": t + 1})
    path = folder / "0185.dcm"
    ds = pydicom.dcmread(path)
    along = np.array(ds.ImageOrientationPatient[:3], float)
    ds.ImagePositionPatient = [f"{v:.6f}" for v in np.array(ds.ImagePositionPatient, float) + 0.5 * along]
    ds.save_as(path)
    with pytest.raises(FileError, match=r"moves from frame to frame|shifted sideways"):
        io.read(folder)


def test_frames_through_nifti(tmp_path, rng):
    data = truth(rng)
    read = io.read(write_series(tmp_path / "s", data, GRID, lambda t, z: {"DiffusionBValue": (0, 500, 1000)[t]}))
    again = io.read(io.write(read, tmp_path / "a.nii.gz"))
    assert frames_of(again) == frames_of(read)
    assert np.array_equal(again.data, data)


# Enhanced multi-frame -------------------------------------------------------------------------------------------


def content(**values):
    return {"FrameContentSequence": item(**values)}


def cardiac(**values):
    return {"CardiacSynchronizationSequence": item(**values)}


def diffusion(b, direction=None):
    mark = item(DiffusionBValue=float(b))
    if direction is not None:
        mark.DiffusionGradientDirectionSequence = [item(DiffusionGradientOrientation=direction)]
    return {"MRDiffusionSequence": mark}


IN_ONE_FILE = {
    "temporal index alone": ([lambda t, z: content(TemporalPositionIndex=t + 1)], ("frame", (1, 2, 3), "")),
    "acquisition date and time": (
        [lambda t, z: content(FrameAcquisitionDateTime=date_time(3590 + 7 * t + z))],
        ("time", (0, 7, 14), "s"),
    ),
    "reference date and time": (
        [lambda t, z: content(TemporalPositionIndex=t + 1, FrameReferenceDateTime=date_time(1.5 * t))],
        ("time", (0, 1.5, 3), "s"),
    ),
    "time offset": (
        [
            lambda t, z: content(TemporalPositionIndex=t + 1),
            lambda t, z: {"TemporalPositionSequence": item(TemporalPositionTimeOffset=4.0 * t)},
        ],
        ("time", (0, 4, 8), "s"),
    ),
    "cardiac phase": ([lambda t, z: cardiac(NominalPercentageOfCardiacPhase=25.0 * t)], ("phase", (0, 25, 50), "%")),
    "trigger delay": ([lambda t, z: cardiac(NominalCardiacTriggerDelayTime=30.0 * t)], ("time", (0, 0.03, 0.06), "s")),
    "b-value": ([lambda t, z: diffusion((0, 500, 1000)[t])], ("b-value", (0, 500, 1000), "s/mm2")),
    "b-value with directions": (
        [lambda t, z: diffusion((0, 700, 700)[t], None if t == 0 else GRADIENTS[t])],
        ("b-value", (0, 700, 700), "s/mm2"),
    ),
    "echo": (
        [lambda t, z: {"MREchoSequence": item(EffectiveEchoTime=(5.0, 10.0, 15.0)[t])}],
        ("echo", (5, 10, 15), "ms"),
    ),
    "its own dimension": ([], ("frame", (1, 2, 3), "")),
}


@pytest.mark.parametrize("name", IN_ONE_FILE)
def test_frames_in_one_enhanced_file(tmp_path, rng, name):
    marks, expected = IN_ONE_FILE[name]
    data = truth(rng)
    read = io.read(write_enhanced(tmp_path / "e.dcm", data, GRID, marks))
    assert read.data.shape == data.shape
    assert np.array_equal(read.data, data)
    assert frames_of(read) == expected
    assert read.grid.without_frames().distance(GRID) < 1e-5


def test_an_enhanced_file_for_each_time(tmp_path, rng):
    data = truth(rng)
    for t in range(3):
        mark = [lambda _, z, t=t: content(FrameAcquisitionDateTime=date_time(8 * t))]
        write_enhanced(tmp_path / f"{9 - t}.dcm", data[t : t + 1], GRID, mark)
    read = io.read(tmp_path)
    assert np.array_equal(read.data, data)
    assert frames_of(read) == ("time", (0, 8, 16), "s")


def test_enhanced_files_that_do_not_belong_together(tmp_path, rng):
    other = Grid.from_spacing((2.5, 0.8, 0.7), (4, 5, 6), (0, 0, 0), rotation(0, 0, 90))
    first, second = truth(rng, 1), truth(rng, 1)
    write_enhanced(tmp_path / "a.dcm", first, GRID)
    write_enhanced(tmp_path / "b.dcm", second, other)
    volumes = io.read_all(tmp_path)
    assert np.array_equal(volumes[0].data, first[0])
    assert np.array_equal(volumes[1].data, second[0])


def test_stacks_of_one_file_come_apart(tmp_path, rng):
    """A localizer: three planes of several slices in one enhanced file."""
    data = truth(rng, 1)
    turned = Grid.from_spacing((5, 0.8, 0.7), (2, 5, 6), (0, 0, 0), rotation(0, 0, 90))

    def turn(ds):
        for n in (2, 3):
            position, orientation, _ = plane(turned, n - 2)
            ds.PerFrameFunctionalGroupsSequence[n].PlanePositionSequence[0].ImagePositionPatient = position
            ds.PerFrameFunctionalGroupsSequence[n].PlaneOrientationSequence[0].ImageOrientationPatient = orientation

    path = write_enhanced(tmp_path / "e.dcm", data, GRID, change=turn)
    volumes = io.read_all(path)
    assert [v.data.shape for v in volumes] == [(2, 5, 6), (2, 5, 6)]
    assert np.array_equal(volumes[0].data, data[0, :2])
    assert [v.name for v in volumes] == ["Made by hand (axial)", "Made by hand (coronal)"]
    assert volumes[1].grid.spacing == pytest.approx((5, 0.8, 0.7))
    place = np.rint(volumes[1].grid.to_index(turned.to_world((0, 0, 0)))).astype(int)
    assert np.array_equal(volumes[1].data[place[0]], data[0, 2])


def test_parallel_stacks_of_one_file_come_apart(tmp_path, rng):
    """Both knees: two stacks of one orientation, side by side."""
    data = truth(rng, 1)

    def beside(ds):
        for n in (2, 3):
            group = ds.PerFrameFunctionalGroupsSequence[n]
            group.FrameContentSequence[0].StackID = "2"
            x, y, z = ds.PerFrameFunctionalGroupsSequence[n - 2].PlanePositionSequence[0].ImagePositionPatient
            group.PlanePositionSequence[0].ImagePositionPatient = [float(x) + 120, y, z]

    straight = Grid.from_spacing((2.5, 0.8, 0.7), (4, 5, 6))
    left, right = io.read_all(write_enhanced(tmp_path / "e.dcm", data, straight, change=beside))
    assert np.array_equal(left.data, data[0, :2])
    assert np.array_equal(right.data, data[0, 2:])
    assert right.grid.origin == pytest.approx(np.add(left.grid.origin, (0, 0, 120)))
    assert [v.name for v in (left, right)] == ["Made by hand (stack 1)", "Made by hand (stack 2)"]


def test_every_image_of_a_file_has_its_own_rescale(tmp_path, rng):
    data = truth(rng, 1)

    def scale(ds):
        for n, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
            group.PixelValueTransformationSequence = [item(RescaleSlope=n + 1, RescaleIntercept=-n, RescaleType="US")]

    read = io.read(write_enhanced(tmp_path / "e.dcm", data, GRID, change=scale))
    factor = np.arange(4)[:, None, None]
    assert np.array_equal(read.data, data[0] * (factor + 1) - factor)


def lies(name):
    def without(sequence):
        return lambda ds: delattr(ds.PerFrameFunctionalGroupsSequence[2], sequence)

    def position(value):
        def change(ds):
            ds.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient = value

        return change

    return {
        "fewer images": (lambda ds: setattr(ds, "NumberOfFrames", 4), "describes 12 of its 4 images"),
        "more images": (lambda ds: setattr(ds, "NumberOfFrames", 13), "describes 12 of its 13 images"),
        "no number": (lambda ds: delattr(ds, "NumberOfFrames"), "describes 12 of its 1 images"),
        "cut pixels": (lambda ds: setattr(ds, "PixelData", ds.PixelData[:-40]), "cannot be decoded"),
        "NaN": (position(["nan", 0, 0]), "impossible position"),
        "two numbers": (position([0, 0]), "3 numbers are needed"),
        "far away": (position([500, 0, 0]), "shifted sideways"),
        "no groups": (lambda ds: setattr(ds, "PerFrameFunctionalGroupsSequence", []), "describes 0 of its 12 images"),
        "no spacing": (lambda ds: setattr(ds, "SharedFunctionalGroupsSequence", []), "no Pixel Spacing"),
        "no position of one": (without("PlanePositionSequence"), "no position or orientation in image 3 of e.dcm"),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "fewer images",
        "more images",
        "no number",
        "cut pixels",
        "NaN",
        "two numbers",
        "far away",
        "no groups",
        "no spacing",
        "no position of one",
    ],
)
def test_enhanced_headers_that_lie(tmp_path, rng, name):
    change, words = lies(name)
    marks = [lambda t, z: content(TemporalPositionIndex=t + 1)]
    path = write_enhanced(tmp_path / "e.dcm", truth(rng), GRID, marks, change=change)
    with pytest.raises(FileError, match=words):
        io.read(path)
    (info,) = list_series(tmp_path)
    if name != "cut pixels":
        assert info.problem
