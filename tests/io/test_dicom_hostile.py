"""DICOM files whose headers hold anything: each ends in a volume or in one sentence."""

import contextlib
import warnings

import numpy as np
import pytest

from napari_lightbox import io
from napari_lightbox.errors import FileError, LightboxError
from napari_lightbox.geometry import Grid
from napari_lightbox.io.series import list_series

pytest.importorskip("pydicom")
import pydicom
from dicom_writing import dataset, item, plane, write_enhanced, write_mosaic, write_series

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

GRID = Grid.from_spacing((2, 1, 1), (3, 4, 5))
NAMES = (
    "ImageType Rows Columns NumberOfFrames SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored "
    "HighBit PixelRepresentation ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness "
    "SpacingBetweenSlices RescaleSlope RescaleIntercept WindowCenter WindowWidth PixelPaddingValue PatientName "
    "PatientID StudyDate TriggerTime DiffusionBValue TemporalPositionIndex FrameContentSequence "
    "PlanePositionSequence PlaneOrientationSequence PixelMeasuresSequence SharedFunctionalGroupsSequence "
    "PerFrameFunctionalGroupsSequence DimensionIndexValues MRDiffusionSequence PixelData SeriesInstanceUID "
    "SeriesNumber Modality SOPClassUID GridFrameOffsetVector DoseGridScaling DoseUnits DoseType "
    "RealWorldValueMappingSequence RealWorldValueSlope RealWorldValueIntercept RealWorldValueFirstValueMapped "
    "RealWorldValueLastValueMapped MeasurementUnitsCodeSequence CodeValue "
)
VALUES = [
    None, "", "abc", 0, -1, 1, 7, 65535, 2**31, 1e30, "nan", "1e999", "999999", [1, 2], [0] * 6, ["nan"] * 3,
    ["nan"] * 6, [1, 0, 0, 1, 0, 0], [1e300] * 3, [1e-320] * 2, b"\xff\xfe", "20249999", "é", ["MOSAIC"], "RGB",
]  # fmt: skip


def series(folder, data):
    write_series(folder, data, GRID, lambda t, z: {"TriggerTime": 50 * t})


def enhanced(folder, data):
    marks = [
        lambda t, z: {"FrameContentSequence": item(TemporalPositionIndex=t + 1)},
        lambda t, z: {"MRDiffusionSequence": item(DiffusionBValue=500.0 * t)},
    ]
    write_enhanced(folder / "e.dcm", data, GRID, marks)


def mosaics(folder, data):
    for t in range(2):
        write_mosaic(folder / f"{t}.dcm", data[t], GRID, AcquisitionTime=f"12000{t}")


def incomplete(folder, data):
    """Write two frames, one of which lacks an image, and a mapping to real values."""
    one = item(RealWorldValueSlope=0.5, RealWorldValueIntercept=1, MeasurementUnitsCodeSequence=item(CodeValue="mm"))
    one.add_new(0x00409216, "SS", 0)
    one.add_new(0x00409211, "SS", 99)
    write_series(
        folder, data, GRID, lambda t, z: {"TriggerTime": 50 * t, "RealWorldValueMappingSequence": [one]}, SeriesNumber=1
    )
    sorted(folder.glob("*.dcm"))[1].unlink()


def dose(folder, data):
    ds = dataset(4, 5, kind="1.2.840.10008.5.1.4.1.1.481.2", Modality="RTDOSE", DoseGridScaling=0.01, DoseUnits="GY")
    ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing = plane(GRID, 0)
    ds.NumberOfFrames, ds.GridFrameOffsetVector, ds.PixelRepresentation = 3, [0, 2, 4], 0
    ds.PixelData = data[0].astype("<u2").tobytes()
    ds.save_as(folder / "d.dcm", enforce_file_format=True)


def every_item(ds):
    """Return a data set and all items of its sequences."""
    found = [ds]
    for tag in filter(
        lambda tag: ds.get_item(tag).VR == "SQ", list(ds.keys())
    ):  # without parsing what was spoilt before
        found += [part for one in ds[tag].value or () for part in every_item(one)]
    return found


def spoil(path, name, value, rng):
    ds = pydicom.dcmread(path)
    having = [part for part in every_item(ds) if name in part] or [ds]
    part = having[rng.integers(len(having))]
    tag = pydicom.tag.Tag(pydicom.datadict.tag_for_keyword(name))
    kind = pydicom.datadict.dictionary_VR(tag)
    if value is None or kind == "SQ":
        part.pop(tag, None)
    else:
        text = value if isinstance(value, bytes) else "\\".join(str(v) for v in np.atleast_1d(value)).encode("latin-1")
        # As raw bytes: pydicom itself would not write what does not suit the kind of element.
        raw = text + b" " * (len(text) % 2)
        kind = kind.split(" or ")[-1]
        part[tag] = pydicom.dataelem.RawDataElement(tag, kind, len(raw), raw, 0, False, True)
    with contextlib.suppress(Exception):  # what cannot be written stays as it was
        ds.save_as(path, enforce_file_format=True)


def one_sentence(work):
    try:
        return work()
    except LightboxError as error:
        text = str(error)
    assert text
    assert "\n" not in text
    return None


@pytest.mark.parametrize("make", [series, enhanced, mosaics, incomplete, dose])
@pytest.mark.parametrize("seed", range(12))
def test_anything_in_a_header(tmp_path, make, seed):
    rng = np.random.default_rng([seed, len(make.__name__)])
    data = rng.integers(0, 99, (2, *GRID.shape))
    make(tmp_path, data)
    paths, names = sorted(tmp_path.glob("*.dcm")), NAMES.split()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            name, value = names[rng.integers(len(names))], VALUES[rng.integers(len(VALUES))]
            chosen = paths if rng.random() < 0.3 else [paths[rng.integers(len(paths))]]
            for path in chosen:
                spoil(path, name, value, rng)
        volume = one_sentence(lambda: io.read(tmp_path))
        if volume is not None:
            assert np.isfinite(volume.grid.affine).all()
        one_sentence(lambda: io.read(tmp_path, even=True))
        one_sentence(lambda: io.read_all(tmp_path, refused=[]))
        for info in list_series(tmp_path):
            assert info.thumbnail(16).shape == (16, 16)
            if info.problem is None:
                one_sentence(info.load)


@pytest.mark.parametrize("make", [series, enhanced, mosaics])
def test_a_file_cut_anywhere(tmp_path, make, rng):
    data = rng.integers(0, 99, (2, *GRID.shape))
    make(tmp_path, data)
    path = sorted(tmp_path.glob("*.dcm"))[0]
    whole = path.read_bytes()
    for length in rng.integers(0, len(whole) - 2, 12):
        path.write_bytes(whole[:length])
        assert one_sentence(lambda: io.read(tmp_path)) is None


def test_more_images_promised_than_a_file_could_hold(tmp_path, rng):
    """Nothing is made for each of a million images."""
    series(tmp_path, rng.integers(0, 99, (1, *GRID.shape)))
    path = sorted(tmp_path.glob("*.dcm"))[0]
    ds = pydicom.dcmread(path)
    ds.NumberOfFrames = 16_000_000
    ds.save_as(path)
    (info, *_) = [s for s in list_series(tmp_path) if s.problem]
    assert "is cut short: its header promises 640000000 bytes" in info.problem


def test_a_sentence_shows_no_more_than_can_be_read(dicom_series):
    """A length that swallows what follows makes a value of anything."""

    def spoil(ds, index):
        ds.add_new(0x00280030, "LO", "0.7\\0.9 (\x01\x02" + "x" * 3000)

    with pytest.raises(FileError) as caught:
        io.read(dicom_series(count=1, change=spoil)[0])
    text = str(caught.value)
    assert "PixelSpacing" in text
    assert text.isprintable()
    assert len(text) < 500
