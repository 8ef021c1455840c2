"""What stored numbers stand for: a Real World Value Mapping where it is all there is, and a note where it is not."""

import numpy as np
import pytest
from dicom_writing import dataset, item, plane, write_enhanced, write_series

from napari_lightbox import io
from napari_lightbox.geometry import Grid

pydicom = pytest.importorskip("pydicom")
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")

GRID = Grid.from_spacing((2.5, 0.8, 0.7), (4, 5, 6), (-30, 20, 10))
NOT_APPLIED = "(Real World Value Mapping), which was not applied: "


def mapping(slope=0.001, inter=-0.5, first=-32768, last=32767, unit="mm2/s", **attributes):
    content = {
        "RealWorldValueSlope": slope,
        "RealWorldValueIntercept": inter,
        "MeasurementUnitsCodeSequence": [item(CodeValue=unit, CodingSchemeDesignator="UCUM", CodeMeaning=unit)],
        **attributes,
    }
    found = item(**content)
    for tag, value in ((0x00409216, first), (0x00409211, last)):
        if value is not None:
            found.add_new(tag, "SS", value)
    return found


def enhanced(path, data, items, **attributes):
    def change(ds):
        ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence = items

    return write_enhanced(path, data[None], GRID, change=change, **attributes)


@pytest.fixture
def values(rng):
    return rng.integers(0, 3000, GRID.shape)


def test_one_line_for_all_images(tmp_path, values):
    read = io.read(enhanced(tmp_path / "e.dcm", values, [mapping()]))
    assert np.allclose(read.data, values * 0.001 - 0.5, atol=1e-6)
    assert read.meta["unit"] == "mm2/s"
    assert read.meta["notes"] == [
        "values are stored ones times 0.001 plus -0.5, in mm2/s, as the file says (Real World Value Mapping)"
    ]


def test_in_files_of_their_own_with_windows(tmp_path, values):
    folder = write_series(
        tmp_path / "s", values[None], GRID, lambda t, z: {"RealWorldValueMappingSequence": [mapping(2, 5, unit="1")]},
        WindowCenter=1000, WindowWidth=300,
    )  # fmt: skip
    read = io.read(folder)
    assert np.array_equal(read.data, values * 2 + 5)
    assert read.data.dtype.kind == "i"
    assert (read.meta["windows"][0]["centre"], read.meta["windows"][0]["width"]) == (2005, 600)
    assert read.meta["unit"] == ""
    assert "in no unit" in read.meta["notes"][0]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([mapping(), mapping(2, 0, unit="1")], "several at a time"),
        ([mapping(RealWorldValueLUTData=[1.0, 2.0])], "it is a table"),
        ([mapping(last=None)], "it does not say all that is needed"),
        ([mapping(slope=0)], "it does not say all that is needed"),
        ([mapping(first=0, last=1000)], "it is not meant for all values that occur"),
    ],
)
def test_what_is_not_plain_is_left(tmp_path, values, items, words):
    read = io.read(enhanced(tmp_path / "e.dcm", values, items))
    assert np.array_equal(read.data, values)
    (note,) = read.meta["notes"]
    assert note.endswith(NOT_APPLIED + words)


def test_what_changes_from_image_to_image_is_left(tmp_path, values):
    folder = write_series(
        tmp_path / "s", values[None], GRID, lambda t, z: {"RealWorldValueMappingSequence": [mapping(0.5 + z)]}
    )
    read = io.read(folder)
    assert np.array_equal(read.data, values)
    assert read.meta["notes"][0].endswith(NOT_APPLIED + "not the same for all images")


@pytest.mark.parametrize(("slope", "notes"), [(0.25, 1), (3, 0)])
def test_a_rescale_goes_first(tmp_path, values, slope, notes):
    """Nothing is said of a mapping that says the same."""
    folder = write_series(
        tmp_path / "s", values[None], GRID, lambda t, z: {"RealWorldValueMappingSequence": [mapping(slope, 7)]},
        RescaleSlope=3, RescaleIntercept=7,
    )  # fmt: skip
    read = io.read(folder)
    assert np.array_equal(read.data, values * 3 + 7)
    assert len(read.meta.get("notes", ())) == notes
    assert all(
        "to values in mm2/s" in n and n.endswith("the file has a rescale of its own")
        for n in read.meta.get("notes", ())
    )


def test_a_unit_of_the_rescale_goes_first(tmp_path, values):
    folder = write_series(
        tmp_path / "s", values[None], GRID, lambda t, z: {"RealWorldValueMappingSequence": [mapping()]},
        RescaleSlope=1, RescaleIntercept=0, RescaleType="HU",
    )  # fmt: skip
    read = io.read(folder)
    assert np.array_equal(read.data, values)
    assert read.meta["unit"] == "HU"
    assert NOT_APPLIED in read.meta["notes"][0]


def test_a_file_without_types(tmp_path, values):
    """In implicit VR the pixels say whether the first and last value have a sign."""
    path = tmp_path / "i.dcm"
    ds = dataset(5, 6, syntax=pydicom.uid.ImplicitVRLittleEndian)
    ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing = plane(GRID, 0)
    ds.RealWorldValueMappingSequence = [mapping(0.5, 0)]
    ds.PixelData = (values[0] - 1000).astype("<i2").tobytes()
    ds.save_as(path, enforce_file_format=True)
    assert np.allclose(io.read(path).data, (values[0] - 1000) * 0.5)


def test_a_parametric_map(tmp_path, rng):
    """Floating point pixels, whose mapping changes nothing but names the unit."""
    values = rng.random((5, 6), dtype=np.float32) * 1e-3
    ds = dataset(5, 6, kind="1.2.840.10008.5.1.4.1.1.30")
    del ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    ds.BitsAllocated, ds.NumberOfFrames = 32, 1
    position, orientation, spacing = plane(GRID, 0)
    one = mapping(1, 0, None, None)
    one.DoubleFloatRealWorldValueFirstValueMapped, one.DoubleFloatRealWorldValueLastValueMapped = 0.0, 1.0
    ds.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=item(ImageOrientationPatient=orientation),
            PixelMeasuresSequence=item(PixelSpacing=spacing, SliceThickness="2.5"),
            RealWorldValueMappingSequence=one,
        )
    ]
    ds.PerFrameFunctionalGroupsSequence = [item(PlanePositionSequence=item(ImagePositionPatient=position))]
    ds.FloatPixelData = values.tobytes()
    ds.save_as(tmp_path / "p.dcm", enforce_file_format=True)
    read = io.read(tmp_path / "p.dcm")
    assert np.array_equal(read.data[0], values)
    assert read.meta["unit"] == "mm2/s"
    assert "notes" not in read.meta
