"""Pixels come out the same however they are coded, and coded pixels that are damaged are refused."""

import base64

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from napari_lightbox import io
from napari_lightbox.errors import FileError
from napari_lightbox.geometry import Grid
from napari_lightbox.io._dicom_headers import scan
from napari_lightbox.io._dicom_pixels import values
from napari_lightbox.io._dicom_slices import slices_of

pytest.importorskip("pydicom")
import pydicom
from dicom_writing import dataset, item, write_enhanced
from pydicom import encaps, uid

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")

ROWS, COLUMNS = np.arange(16), np.arange(12)
PICTURE = (np.add.outer(ROWS * 37, COLUMNS * 11) ^ np.multiply.outer(ROWS, COLUMNS)).astype(np.uint16)
# PICTURE as imagecodecs 2026.3.6 codes it (OpenJPH, CharLS, liblj92), base 85.
HTJ2K = (
    "|4;u>04YEK0000C0000G00000000000000C0000G0000000000009pH0sl|{2mk^A000XAQUDA90ssL31q1{@0smY86Cj9?kdTm&"
    "kdTm&kdTmwh=~7W02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*00001Bme>blfVEbOa281bN~Rr0206e6F>kGfWQF<bO5gY0ta*e"
    "<^TtD0KfneKmZjm00f}?0TTcMObxL90LHWcegMOC0Kfnh@Bjs&003GbWTG*Al5#P;0IbnVe>VUMX{jQh65*DI0ZGTpezyP+srXS)"
    "2>|Vb_$f0ck$*P;zyL1300DLo01L4kiK6Ml0X;SvMAKd9KqHnYI1|Al2n-UKYB=23+)M&x%mksKM<S9>0RT)-"
    "9RTD>_z(r6UJmAk^$5C>P54$BdZx92WO@MsL~?TETOCd;&q0DRs`Wie*g|9|eE>o~gY<2)=T_Y5myLq9G1vw!@!+-"
    "iuf|@_#bxZ{<m9<S{02bjA)}Ft!iE7EQr-an*#"
)
JPEG_LS = (
    "|JeWN03cIPNk&Eh0ssI30000G0000C3J?YX0003j0003j|L6b+00001|JeWc01FTR5C9AT0TBTI_y7$7|Nj6I07C&306_oR00;pA"
    "00000psW>wuuc(!;jmT-!Z3VFgAh6thM*9L^e!@z1H`Dvs3|CjD-"
    "5BO9E8zkBtb!1uL$5&42w{*4MCY2EFBBsggXUg$i)oHs3S&$1cTEkB?h8=ih=Or5m2Z>jmPi?36kLFmK4cq1bA*pfN+{z!B`Crq9"
    "iw;QjN@_JUWe`dA|l?JadvDb!ZWPmy0kqEo*>O_mNjn^nix(5^+}$VhcbUib(9HIK-"
    "JNC?lAX+(2|_!~~R4{3eFM@)pC%)q8COj7ssIC(BSmp?yuDgqaL5X7H}2X~CEY7|5uOi44%t4h~94ZBiP&y|#mZ|Je"
)
JPEG_LOSSLESS = (
    "|JeV;02}}T00RL40|5X400000000051_uNJ0|)^S|HA+a5C9MW3;_TU0RP$m2mt^91^@v4uU@@+_3PKKUb!lWCcf>==|Rstl|~a)"
    "?=rHv206Ty4bJwGpCq`_B1(qjWi25;fhloGWU3*pKMGFUGK%c!D~^0sEzrpI!8i&_p((G<Zb@9Wvx?4SvJO?4&#S!GJo4K12213e"
    "cNU*m(x19EQ_@u!?#+V5ZrTbj3*RM>dAOO_LDbeSkKQZBN{2Sha16uRdyf3|=GBt<7;ek9uPX8(5B6|rEVCSXIXb6A`JQp&lIXOg"
    "vwvS~NSC{`U!$~u|Je"
)


def encapsulated(path, codes, syntax, **attributes):
    ds = dataset(16, 12, syntax=syntax, PixelRepresentation=0, **attributes)
    if len(codes) > 1:
        ds.NumberOfFrames = len(codes)
    ds.PixelData = encaps.encapsulate(codes)
    ds["PixelData"].VR = "OB"
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("code", "syntax"),
    [
        (HTJ2K, uid.HTJ2KLossless),
        (HTJ2K, uid.HTJ2KLosslessRPCL),
        (HTJ2K, uid.HTJ2K),
        (JPEG_LS, uid.JPEGLSLossless),
        (JPEG_LS, uid.JPEGLSNearLossless),
        (JPEG_LOSSLESS, uid.JPEGLossless),
        (JPEG_LOSSLESS, uid.JPEGLosslessSV1),
    ],
    ids=lambda v: getattr(v, "keyword", ""),
)
def test_codes_that_gdcm_knows(tmp_path, code, syntax):
    read = io.read(encapsulated(tmp_path / "a.dcm", [base64.b85decode(code)], syntax))
    assert np.array_equal(read.data[0], PICTURE)
    assert read.data.dtype == np.uint16


def test_every_image_of_a_coded_file_has_its_own_rescale(tmp_path, rng):
    """GDCM by itself would scale all images as the first."""
    grid = Grid.from_spacing((2, 1, 1), (3, 16, 12))

    def coded(ds):
        ds.file_meta.TransferSyntaxUID = uid.JPEGLSLossless
        ds.PixelRepresentation = 0
        ds.PixelData = encaps.encapsulate([base64.b85decode(JPEG_LS)] * 3)
        ds["PixelData"].VR = "OB"
        for n, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
            group.PixelValueTransformationSequence = [item(RescaleSlope=n + 1, RescaleIntercept=-7 * n)]

    data = np.broadcast_to(PICTURE, (1, 3, 16, 12))
    read = io.read(write_enhanced(tmp_path / "e.dcm", data, grid, change=coded))
    assert np.array_equal(read.data, np.stack([PICTURE * (n + 1.0) - 7 * n for n in range(3)]))


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
@pytest.mark.parametrize(
    ("code", "syntax"),
    [(HTJ2K, uid.HTJ2KLossless), (JPEG_LS, uid.JPEGLSLossless), (JPEG_LOSSLESS, uid.JPEGLosslessSV1)],
    ids=lambda v: getattr(v, "keyword", ""),
)
def test_codes_that_are_cut_short(tmp_path, code, syntax, kept):
    code = base64.b85decode(code)
    path = encapsulated(tmp_path / "a.dcm", [code[: int(len(code) * kept)]], syntax)
    with pytest.raises(FileError, match=r"a.dcm has pixels that cannot be decoded \(.*\): copy the file again"):
        io.read(path)


# SimpleITK writes these.


@pytest.mark.parametrize("compressor", ["", "JPEG", "JPEG2000", "RLE"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8])
def test_as_simpleitk_writes_it(tmp_path, rng, dtype, compressor):
    limits = np.iinfo(dtype)
    data = rng.integers(max(limits.min, -2000), min(limits.max, 3000), (1, 20, 24)).astype(dtype)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "a.dcm"))
    writer.SetUseCompression(bool(compressor))
    if compressor:
        writer.SetCompressor(compressor)
    writer.Execute(sitk.GetImageFromArray(data))
    coded = pydicom.dcmread(tmp_path / "a.dcm", stop_before_pixels=True).file_meta.TransferSyntaxUID.is_compressed
    assert coded == bool(compressor)
    read = io.read_all(tmp_path / "a.dcm")[0]
    assert np.array_equal(read.data.reshape(data.shape), data)


def test_jpeg_2000_that_is_cut_short_is_not_filled_in(tmp_path, rng):
    """OpenJPEG invents what is missing."""
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "a.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG2000")
    writer.Execute(sitk.GetImageFromArray(rng.integers(0, 3000, (1, 64, 64)).astype(np.uint16)))
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    whole = encaps.get_frame(ds.PixelData, 0, number_of_frames=1)
    for share in (0.1, 0.3, 0.7):
        ds.PixelData = encaps.encapsulate([whole[: int(len(whole) * share)]])
        ds.save_as(tmp_path / "b.dcm")
        with pytest.raises(FileError, match=r"b\.dcm"):
            io.read(tmp_path / "b.dcm")


@pytest.mark.parametrize("syntax", [uid.DeflatedExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_deflated_and_implicit_series(dicom_series, syntax):
    folder, data, _ = dicom_series()
    for path in folder.iterdir():
        ds = pydicom.dcmread(path)
        ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=True)
    assert np.array_equal(io.read(folder).data, data.astype(int) - 1024)


def test_a_damaged_deflated_file(dicom_series):
    folder, _, _ = dicom_series(count=1)
    path = folder / "100.dcm"
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    ds.save_as(path)
    content = path.read_bytes()
    for spoilt in (content[:-60], content[:500] + bytes(8) + content[508:]):
        path.write_bytes(spoilt)
        with pytest.raises(FileError, match=r"100\.dcm"):
            io.read(path)


@pytest.mark.parametrize(
    ("syntax", "words"),
    [
        (uid.MPEG2MPML, "MPEG2 Main Profile / Main Level"),
        (uid.HEVCMP51, "HEVC"),
        (uid.JPIPHTJ2KReferenced, "JPIP"),
    ],
)
def test_codes_that_nobody_here_knows(tmp_path, syntax, words):
    path = encapsulated(tmp_path / "a.dcm", [bytes(100)], uid.UID(syntax))
    with pytest.raises(FileError, match=words):
        io.read(path)


def test_a_transfer_syntax_of_a_manufacturer(tmp_path):
    ds = dataset(4, 4, syntax=uid.UID("1.2.840.113619.5.2"))
    ds.PixelData = bytes(32)
    ds.save_as(tmp_path / "a.dcm", implicit_vr=True, little_endian=True, enforce_file_format=True)
    with pytest.raises(FileError, match=r"unknown transfer syntax 1\.2\.840\.113619\.5\.2"):
        io.read(tmp_path / "a.dcm")


@pytest.mark.parametrize(("dtype", "name"), [("<f4", "FloatPixelData"), ("<f8", "DoubleFloatPixelData")])
def test_maps_of_floating_point(tmp_path, rng, dtype, name):
    grid = Grid.from_spacing((2, 1, 1), (3, 4, 5))
    data = rng.normal(0, 1e-3, grid.shape).astype(dtype)

    def floats(ds):
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = uid.ParametricMapStorage
        for gone in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
            delattr(ds, gone)
        ds.BitsAllocated = 8 * np.dtype(dtype).itemsize
        setattr(ds, name, data.tobytes())

    read = io.read(write_enhanced(tmp_path / "e.dcm", data[None], grid, change=floats))
    assert read.data.dtype == np.dtype(dtype)
    assert np.array_equal(read.data, data)


# Files that pydicom ships with itself.


def shipped(name):
    from pydicom.data import get_testdata_file

    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"this version of pydicom has no {name}")
    return path


@pytest.mark.parametrize(
    "name",
    [
        "JPEG-lossy.dcm",
        "JPGExtended.dcm",
        "JPEG2000.dcm",
        "693_J2KI.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "JPEGLSNearLossless_08.dcm",
        "JPEGLSNearLossless_16.dcm",
        "image_dfl.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_padded.dcm",
    ],
)
def test_as_itk_reads_it(name):
    path = shipped(name)
    (read,) = io.read_all(path)
    assert np.array_equal(read.data, sitk.GetArrayFromImage(sitk.ReadImage(str(path))))


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_have_bits_of_their_own(tmp_path, rng, bits):
    ds = dataset(16, 12, PhotometricInterpretation="PALETTE COLOR", BitsAllocated=8, BitsStored=8, HighBit=7)
    ds.PixelRepresentation = 0
    table = rng.integers(0, 1 << bits, 256).astype(f"<u{bits // 8}")
    for name in ("Red", "Green", "Blue"):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, bits])
        setattr(ds, f"{name}PaletteColorLookupTableData", table.tobytes())
    ds.PixelData = (PICTURE % 256).astype(np.uint8).tobytes()
    ds["PixelData"].VR = "OB"
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    (read,) = io.read_all(tmp_path / "a.dcm")
    assert read.data.dtype == f"u{bits // 8}"
    assert np.array_equal(read.data[0], table[PICTURE % 256])


def test_values_that_do_not_fit_are_refused(tmp_path):
    ds = dataset(2, 2, PixelRepresentation=0, BitsAllocated=16, BitsStored=16)
    ds.PixelData = np.array([1, 2, 3, 65280], "<u2").tobytes()
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    (header,) = scan(tmp_path / "a.dcm").series[0].headers
    values(slices_of(header), np.dtype(np.uint16))
    with pytest.raises(FileError, match="larger values than its header promises: its header is wrong"):
        values(slices_of(header), np.dtype(np.uint8))


@pytest.mark.parametrize(
    "name", ["SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle.dcm", "SC_rgb_jls_lossy_line.dcm", "examples_jpeg2k.dcm"]
)
def test_colours_as_itk_reads_them(name):
    path = shipped(name)
    (read,) = io.read_all(path)
    colours = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert np.array_equal(read.data, np.rint(colours @ (0.299, 0.587, 0.114)))
