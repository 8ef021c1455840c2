"""A file that is not what it says ends in one sentence that names it."""

import contextlib
import gzip
import zlib

import nibabel as nib
import numpy as np
import pytest
from landmarks import VOLUMETRIC

from napari_lightbox import io
from napari_lightbox.errors import FileError, InputError, LightboxError
from napari_lightbox.volume import Volume

BROKEN = [
    ("MR_truncated.dcm", "cannot be decoded"),
    ("no_meta.dcm", "DICM is missing"),
    ("rtplan_truncated.dcm", "RTPLAN"),
    ("badVR.dcm", "NumberOfFrames = 1A, where a number is needed"),
    ("empty_charset_LEI.dcm", "no image"),
    ("not-nifti.nii", "not a NIfTI file"),
    ("truncated_60pct.nii.gz", "cut short"),
    ("header_only.nii", "cut short"),
    ("empty.nii.gz", "empty"),
    ("text_named.nrrd", "not an NRRD file"),
    ("raw_missing.mhd", "does_not_exist.raw"),
]


def sentence(path, word=""):
    """Read, and return the one sentence that says why it cannot be."""
    with pytest.raises(FileError) as caught:
        io.read(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    assert word in text
    assert ": " in text, "a remedy follows a colon"
    return text


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "word"), BROKEN)
def test_real_broken_files(data, name, word):
    sentence(data(f"broken/{name}"), word)


@pytest.mark.filterwarnings("ignore")
def test_every_broken_file_is_tested(data):
    assert {p.name for p in data("broken").iterdir()} == {name for name, _ in BROKEN}


def test_illegal_byte_skip(data):
    sentence(data("nrrd_variants/BallBinary30x30x30_byteskip_minus_five.nhdr"), "byte skip -5")


@pytest.mark.parametrize("suffix", [*VOLUMETRIC, ".png", ".tif"])
def test_cut_anywhere(tmp_path, suffix, rng):
    whole = Volume.from_array(rng.integers(0, 255, (1, 40, 50)).astype(np.uint8), (1, 1, 1))
    path = io.write(whole, tmp_path / f"a{suffix}")
    target = path.with_suffix(".raw") if suffix in (".mhd", ".nhdr") else path
    content = target.read_bytes()
    for length in {0, 1, 10, 100, 347, 348, 352, 400, len(content) // 2, len(content) - 9, len(content) - 1}:
        if length < len(content):
            target.write_bytes(content[:length])
            with pytest.raises(FileError) as caught:
                io.read(path)
            assert str(target) in str(caught.value)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".png"])
def test_a_flipped_bit_in_compressed_voxels(tmp_path, suffix, rng):
    whole = Volume.from_array(rng.integers(0, 255, (1, 40, 50)).astype(np.uint8), (1, 1, 1))
    path = io.write(whole, tmp_path / f"a{suffix}")
    content = path.read_bytes()
    # Behind the headers; the last bytes are the checksum itself.
    for at in (*rng.integers(len(content) * 3 // 4, len(content) - 16, 10), len(content) - 5):
        spoilt = bytearray(content)
        spoilt[at] ^= 16
        path.write_bytes(spoilt)
        sentence(path)


def test_a_checksum_that_nobody_reads(tmp_path, volume):
    """Voxels that inflate well and a wrong CRC at the end."""
    for suffix in (".nii.gz", ".nrrd", ".mha"):
        path = io.write(volume, tmp_path / f"a{suffix}")
        content = bytearray(path.read_bytes())
        content[-6 if suffix != ".mha" else -2] ^= 1
        path.write_bytes(content)
        sentence(path, "damaged")


def header_of(volume, tmp_path):
    path = io.write(volume, tmp_path / "a.nii")
    return path, nib.load(path).header


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"dim": [3, 7, -6, 5, 1, 1, 1, 1]}, "impossible size"),
        ({"dim": [3, 0, 6, 5, 1, 1, 1, 1]}, "impossible size"),
        ({"dim": [9, 7, 6, 5, 1, 1, 1, 1]}, "impossible size"),
        ({"dim": [5, 7, 6, 1, 5, 2, 1, 1]}, "frames"),
        ({"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]}, "cut short"),
        ({"datatype": 32, "bitpix": 64}, "complex"),
        ({"datatype": 128, "bitpix": 24}, "colours"),
        ({"datatype": 77}, "unknown type"),
        ({"bitpix": 8}, "contradicts"),
        ({"vox_offset": 100}, "byte 100"),
        ({"vox_offset": np.nan}, "nan"),
        ({"scl_slope": np.inf}, "inf"),
        ({"scl_slope": 2, "scl_inter": np.nan}, "nan"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "NaN"),
        ({"srow_x": [0, 0, 0, 0]}, "singular"),
        ({"srow_x": [0, 0, 0, 0], "srow_y": [0, 0, 0, 0], "srow_z": [0, 0, 0, 0]}, "greater than zero"),
        ({"sform_code": 0, "pixdim": [1, 0, 1, 1, 1, 1, 1, 1]}, "voxel size"),
        ({"sform_code": 0, "pixdim": [1, -1, 1, 1, 1, 1, 1, 1]}, "voxel size"),
        ({"sform_code": 0, "quatern_b": np.nan}, "orientation"),
        ({"sform_code": 0, "quatern_b": 2}, "orientation"),
        ({"sform_code": 0, "qform_code": 0, "pixdim": [1, np.nan, 1, 1, 1, 1, 1, 1]}, "voxel size"),
        ({"magic": b"ni1"}, "pair"),
        ({"magic": b"xyz"}, "not a NIfTI"),
    ],
)
def test_nifti_headers(tmp_path, volume, changes, word):
    path, header = header_of(volume, tmp_path)
    for name, value in changes.items():
        header[name] = value
    content = path.read_bytes()
    path.write_bytes(header.binaryblock + content[348:])
    sentence(path, word)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (b"sizes: 7 6 5", b"sizes: 7 -6 5", "impossible sizes"),
        (b"sizes: 7 6 5", b"sizes: 7 6", "impossible sizes"),
        (b"sizes: 7 6 5", b"sizes: 7 six 5", "impossible sizes"),
        (b"sizes: 7 6 5", b"sizes: 7000 6000 5", "cut short"),
        (b"type: int16", b"type: block", "not a number"),
        (b"endian: little\n", b"", "byte order"),
        (b"encoding: gzip", b"encoding: zstd", "no NRRD encoding"),
        (b"encoding: gzip\n", b"", "no field 'encoding'"),
        (b"encoding: gzip", b"encoding: gzip\ndata file: LIST", "several files"),
        (b"encoding: gzip", b"encoding: gzip\ndata file: gone.raw.gz", "does not exist"),
        (b"encoding: gzip", b"encoding: gzip\nline skip: -2", "line skip -2"),
        (b"kinds: domain", b"nonsense", "neither field nor key"),
        (b"space directions: (", b"space directions: (x,0,0) (", "no numbers"),
        (b"space directions: (", b"space directions: none (", "axes"),
        (b"space origin: (", b"space origin: (here,", "no point"),
        (b"space origin: (", b"space origin: (nan,", "NaN"),
    ],
)
def test_nrrd_headers(tmp_path, volume, old, new, word):
    path = io.write(volume, tmp_path / "a.nrrd")
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    sentence(path, word) if word != "does not exist" else sentence_of(path, word)


def sentence_of(path, word):
    with pytest.raises(FileError, match=word):
        io.read(path)


def test_nrrd_zero_direction_and_spacing(tmp_path):
    path = tmp_path / "a.nrrd"
    start = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 1 1 2\nencoding: raw\n"
    path.write_bytes(start + b"space: LPS\nspace directions: (0,0,0) (0,1,0) (0,0,1)\n\nab")
    sentence(path, "greater than zero")
    path.write_bytes(start + b"spacings: 1 0 1\n\nab")
    sentence(path, "greater than zero")
    path.write_bytes(start + b"space: LPS\nspace directions: (1,0,0) (1,0,0) (0,0,1)\n\nab")
    sentence(path, "singular")
    path.write_bytes(start.replace(b"1 1 2", b"3 1 1") + b"kinds: RGB-color domain domain\n\nabc")
    assert io.read(path).data.shape == (1, 1, 3)  # without directions a colour axis is one in space
    path.write_bytes(
        start.replace(b"1 1 2", b"3 1 1")
        + b"kinds: RGB-color domain domain\nspace dimension: 2\nspace directions: none (1,0) (0,1)\n\nabc"
    )
    sentence(path, "colours")


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (b"DimSize = 7 6 5", b"DimSize = 7 0 5", "impossible size"),
        (b"DimSize = 7 6 5", b"DimSize = 7 6", "impossible size"),
        (b"DimSize = 7 6 5", b"DimSize = 7000 6000 5", "cut short"),
        (b"NDims = 3", b"NDims = 5", "impossible size"),
        (b"ElementType = MET_SHORT", b"ElementType = MET_SHORT_ARRAY", "no single number"),
        (b"DimSize", b"ElementNumberOfChannels = 3\nDimSize", "3 values a voxel"),
        (b"DimSize", b"HereIsNoSize", "no DimSize"),
        (b"ObjectType = Image", b"ObjectType = Tube", "Tube"),
        (b"ElementSpacing = ", b"ElementSpacing = 0 ", "greater than zero"),
        (b"ElementSpacing = ", b"ElementSpacing = -1 ", "greater than zero"),
        (b"ElementSpacing = ", b"ElementSpacing = nan ", "numbers are needed"),
        (b"Offset = ", b"Offset = x ", "numbers are needed"),
        (b"TransformMatrix = ", b"TransformMatrix = 0 0 0 ", "impossible geometry"),
        (b"CompressedData = True", b"CompressedData = True\nBinaryData = False", "text"),
        (b"ElementDataFile = LOCAL", b"ElementDataFile = LIST", "several files"),
        (b"ElementDataFile = LOCAL", b"ElementDataFile = slice%03d.raw 1 5 1", "several files"),
    ],
)
def test_metaimage_headers(tmp_path, volume, old, new, word):
    path = io.write(volume, tmp_path / "a.mha")
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    sentence(path, word)


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha", ".png", ".tif", ".jpg"])
def test_changed_bytes_never_crash(tmp_path, suffix, rng):
    """Whatever stands in a header, the answer is a volume or a sentence."""
    whole = Volume.from_array(rng.integers(0, 255, (1, 8, 9)).astype(np.uint8), (0.5, 0.5))
    path = io.write(whole, tmp_path / f"a{suffix}")
    content = path.read_bytes()
    end = min(len(content), 352 if suffix == ".nii" else 600)
    for _ in range(100):
        spoilt = bytearray(content)
        for at in rng.integers(0, end, 3):
            spoilt[at] = rng.integers(0, 256)
        path.write_bytes(spoilt)
        with contextlib.suppress(LightboxError):
            assert io.read(path).data.ndim in (3, 4)


@pytest.mark.parametrize("suffix", io.suffixes())
def test_other_content_under_every_suffix(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    for content in (b"", b"x", b"This is no image.\n" * 50, bytes(2000), gzip.compress(b"hello"), zlib.compress(b"a")):
        path.write_bytes(content)
        sentence(path)


def test_missing_and_unknown_files(tmp_path):
    sentence(tmp_path / "gone.nii.gz", "does not exist")
    (tmp_path / "a.xyz").write_bytes(b"text")
    sentence(tmp_path / "a.xyz", "not known")
    (tmp_path / "empty").mkdir()
    sentence(tmp_path / "empty", "no DICOM files")


def test_spacing_and_kind_of_the_caller(tmp_path, volume):
    path = io.write(volume, tmp_path / "a.nii.gz")
    assert io.read(path, spacing=(3.3, 0.7, 0.9)).grid == volume.grid
    with pytest.raises(InputError, match="contradicts"):
        io.read(path, spacing=(1, 1, 1))
    with pytest.raises(InputError, match="kind 'mask'"):
        io.read(path, kind="mask")
    assert io.read(path, kind="labels").kind == "labels"
    halves = io.write(volume.replace(data=volume.data + 0.5), tmp_path / "b.nii.gz")
    with pytest.raises(FileError, match="not whole numbers"):
        io.read(halves, kind="labels")
    whole = io.write(volume.replace(data=volume.data.astype(np.float32)), tmp_path / "c.nii.gz")
    read = io.read(whole, kind="labels")
    assert read.data.dtype == np.int32
    assert np.array_equal(read.data, volume.data)
