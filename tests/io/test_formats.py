"""What each format says in its own words: units, scaling, orders, codes."""

import bz2

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from landmarks import LANDMARKS, itk_points, oblique_grid
from PIL import Image

from napari_lightbox import io
from napari_lightbox.errors import FileError, InputError
from napari_lightbox.geometry import Frames
from napari_lightbox.io import convention
from napari_lightbox.progress import Cancelled, listening
from napari_lightbox.volume import Volume

AFFINE = np.array([[2.0, 0, 0, 10], [0, 3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]])
OTHER = np.diag([2.0, 3.0, 4.0, 1.0])
VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def nifti(tmp_path, data=VOXELS, kind=nib.Nifti1Image, **fields):
    """Write a NIfTI file (data in x, y, z) with nibabel and some header fields."""
    path = tmp_path / "a.nii"
    header = kind.header_class()
    header.set_data_dtype(data.dtype)
    image = kind(data, None, header)
    for form, code in (("sform", fields.pop("sform", (AFFINE, 1))), ("qform", fields.pop("qform", (None, 0)))):
        getattr(image, f"set_{form}")(code[0], code[1])
    for name, value in fields.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def raw_header(path, **fields):
    """Change fields that nibabel sets itself."""
    header = nib.load(path).header
    header["vox_offset"] = header.single_vox_offset  # nibabel forgets it on loading
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + path.read_bytes()[header["sizeof_hdr"] :])
    return path


# NIfTI: which form holds ----------------------------------------------------------------------------------------


def test_sform_goes_before_qform_and_the_difference_is_told(tmp_path):
    read = io.read(nifti(tmp_path, sform=(AFFINE, 4), qform=(OTHER, 1)))
    assert np.allclose(convention.to_xyz(read.grid.affine, "RAS"), AFFINE)
    assert "sform (code 4) and qform (code 1)" in read.meta["notes"][0]
    assert "37.4 mm apart" in read.meta["notes"][0]
    assert read.meta["xform_code"] == 4


def test_qform_alone(tmp_path):
    read = io.read(nifti(tmp_path, sform=(None, 0), qform=(AFFINE, 2)))
    assert np.allclose(convention.to_xyz(read.grid.affine, "RAS"), AFFINE)
    assert "orientation_known" not in read.meta


def test_qform_is_used_when_the_sform_has_code_0(tmp_path):
    path = raw_header(nifti(tmp_path, qform=(OTHER, 1)), sform_code=0)
    assert np.allclose(convention.to_xyz(io.read(path).grid.affine, "RAS"), OTHER)


def test_no_form_at_all(tmp_path):
    path = raw_header(nifti(tmp_path), sform_code=0, qform_code=0, pixdim=[1, 2, 3, 4, 1, 1, 1, 1])
    read = io.read(path)
    assert read.grid.code == "RAS"
    assert read.grid.spacing == (4, 3, 2)
    assert read.meta["orientation_known"] is False


@pytest.mark.parametrize("turn", [(0, 0, 180), (180, 0, 0), (0, 180, 0), (10, 20, 30), (90, 0, 90), (179.999, 0, 0)])
@pytest.mark.parametrize("mirror", [1, -1])
def test_quaternions_as_nibabel_reads_them(tmp_path, turn, mirror):
    from landmarks import rotation

    affine = np.eye(4)
    affine[:3, :3] = rotation(*turn) * (2, 3, 4 * mirror)
    affine[:3, 3] = (5, 6, 7)
    path = nifti(tmp_path, sform=(None, 0), qform=(affine, 1))
    assert np.allclose(convention.to_xyz(io.read(path).grid.affine, "RAS"), nib.load(path).affine, atol=1e-4)


@pytest.mark.parametrize(("unit", "scale"), [(0, 1), (1, 1000), (2, 1), (3, 0.001)])
def test_units_of_space(tmp_path, unit, scale):
    path = raw_header(nifti(tmp_path), xyzt_units=unit)
    assert np.allclose(io.read(path).grid.spacing, np.array((4, 3, 2)) * scale)


@pytest.mark.parametrize(
    ("unit", "frames"),
    [
        (8, Frames("time", (1, 3), "s")),
        (16, Frames("time", (0.001, 0.003), "s")),
        (24, Frames("time", (1e-6, 3e-6), "s")),
        (32, Frames("frame", (1, 3), "Hz")),
        (0, Frames("frame", (0, 2), "")),
    ],
)
def test_units_of_time(tmp_path, unit, frames):
    path = nifti(tmp_path, np.zeros((2, 3, 4, 2), np.uint8))
    path = raw_header(path, xyzt_units=unit | 2, toffset=1, pixdim=[1, 2, 3, 4, 2, 1, 1, 1])
    assert io.read(path).grid.frames == frames


def test_axes_of_length_one_are_dropped(tmp_path):
    assert io.read(nifti(tmp_path, np.zeros((2, 3, 4, 1), np.uint8))).data.shape == (4, 3, 2)
    five = np.arange(72, dtype=np.uint8).reshape(2, 3, 4, 1, 3)
    read = io.read(nifti(tmp_path, five))
    assert read.data.shape == (3, 4, 3, 2)
    assert np.array_equal(read.data, five[..., 0, :].T)
    assert io.read(raw_header(nifti(tmp_path, five), intent_code=1007)).grid.frames.kind == "component"


def test_two_dimensional_nifti(tmp_path):
    path = nifti(tmp_path, np.arange(12, dtype=np.uint8).reshape(3, 4), sform=(None, 0), qform=(None, 0))
    path = raw_header(path, pixdim=[1, 2, 3, 0, 0, 0, 0, 0], qform_code=0, sform_code=0)
    read = io.read(path)
    assert read.data.shape == (1, 4, 3)
    assert read.grid.spacing == (1, 3, 2)


@pytest.mark.parametrize(
    ("stored", "slope", "inter", "result"),
    [
        ("int16", 1, 0, "int16"),
        ("int16", np.nan, np.nan, "int16"),
        ("int16", 0, 5, "int16"),
        ("int16", 1, -1024, "int32"),
        ("uint16", 1, -1024, "int32"),
        ("uint8", 1, -24, "int16"),
        ("uint8", 2, 0, "int16"),
        ("int16", 0.5, 0, "float32"),
        ("int32", 0.5, 0, "float64"),
        ("float32", 2, 1, "float32"),
        ("float64", 2, 1, "float64"),
    ],
)
def test_scaling(tmp_path, stored, slope, inter, result):
    data = VOXELS.astype(stored)
    path = raw_header(nifti(tmp_path, data), scl_slope=slope, scl_inter=inter)
    read = io.read(path)
    assert read.data.dtype == result
    assert np.allclose(read.data, nib.load(path).get_fdata().T, rtol=1e-6)


def test_big_endian_and_nifti_2(tmp_path):
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        header = kind.header_class(endianness=">")
        header.set_data_dtype(">i2")
        nib.save(kind(VOXELS, AFFINE, header), tmp_path / "a.nii.gz")
        read = io.read(tmp_path / "a.nii.gz")
        assert read.data.dtype == np.int16
        assert read.data.dtype.isnative
        assert np.array_equal(read.data, VOXELS.T)
        assert np.allclose(convention.to_xyz(read.grid.affine, "RAS"), AFFINE)


def test_gzip_is_told_by_content(tmp_path):
    path = nifti(tmp_path)
    path.rename(tmp_path / "plain.nii.gz")
    assert io.read(tmp_path / "plain.nii.gz").data.shape == (5, 4, 3)


def test_code_of_the_space_is_kept(tmp_path):
    read = io.read(nifti(tmp_path, sform=(AFFINE, 4)))
    assert nib.load(io.write(read, tmp_path / "b.nii")).header["sform_code"] == 4


def test_label_table_of_workbench(tmp_path):
    path = nifti(tmp_path, VOXELS)
    image = nib.load(path)
    table = b'<CaretExtension><Label Key="0" Red="0" Green="0" Blue="0"><![CDATA[nothing]]></Label>'
    table += b'<Label Key="3" Red="1" Green="0.5" Blue="0" Alpha="1"><![CDATA[liver]]></Label></CaretExtension>'
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, table))
    nib.save(image, tmp_path / "b.nii")
    read = io.read(tmp_path / "b.nii")
    assert read.kind == "labels"
    assert {k: (v.name, v.colour) for k, v in read.labels.items()} == {3: ("liver", "#ff8000")}


def test_b_values_beside_a_file(tmp_path, data):
    path = nifti(tmp_path, np.zeros((2, 3, 4, 3), np.uint8))
    (tmp_path / "a.bval").write_text("0 1000 1000\n")
    assert io.read(path).grid.frames == Frames("b-value", (0, 1000, 1000), "s/mm2")
    (tmp_path / "a.bval").write_text("0 1000\n")
    assert io.read(path).grid.frames.kind == "frame"
    real = io.read(data("dicom_4d_series/ge_dti_001_ground_truth.nii.gz"))
    assert real.grid.frames.kind == "b-value"


def test_bytes_too_many_are_noted(tmp_path):
    path = nifti(tmp_path)
    path.write_bytes(path.read_bytes() + b"abc")
    assert "3 bytes more" in io.read(path).meta["notes"][0]


# NRRD -----------------------------------------------------------------------------------------------------------


def nrrd(tmp_path, fields, content, name="a.nrrd"):
    path = tmp_path / name
    path.write_bytes(b"NRRD0005\n" + "\n".join(fields).encode() + b"\n\n" + content)
    return path


PLAIN = ["type: short", "dimension: 3", "sizes: 5 4 3", "endian: little"]


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("raw", VOXELS.tobytes()),
        ("bzip2", bz2.compress(VOXELS.tobytes())),
        ("ascii", " ".join(map(str, VOXELS.ravel())).encode()),
        ("hex", VOXELS.tobytes().hex().encode()),
    ],
)
def test_nrrd_encodings(tmp_path, encoding, content):
    path = nrrd(tmp_path, [*PLAIN, f"encoding: {encoding}", "spacings: 1 2 3"], content)
    read = io.read(path)
    assert np.array_equal(read.data, VOXELS)
    assert read.grid.spacing == (3, 2, 1)
    assert read.meta["orientation_known"] is False
    if encoding != "bzip2":
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), VOXELS)


@pytest.mark.parametrize(
    "space", ["left-posterior-superior", "LPS", "right-anterior-superior", "RAS", "left-anterior-superior", "LAS"]
)
def test_nrrd_spaces_as_itk_reads_them(tmp_path, space):
    directions = "space directions: (0,0,2) (3,0,0) (0,-4,0)"
    fields = [*PLAIN, "encoding: raw", f"space: {space}", directions, "space origin: (10,20,30)"]
    path = nrrd(tmp_path, fields, VOXELS.tobytes())
    points = LANDMARKS[:1], np.array([(2, 3, 4)])
    for landmarks in points:
        assert np.allclose(io.read(path).grid.to_world(landmarks), itk_points(path, landmarks), atol=1e-9)


def test_nrrd_skips(tmp_path):
    content = b"first\nsecond\n" + b"xx" + VOXELS.tobytes()
    assert np.array_equal(
        io.read(nrrd(tmp_path, [*PLAIN, "encoding: raw", "line skip: 2", "byte skip: 2"], content)).data, VOXELS
    )
    assert np.array_equal(io.read(nrrd(tmp_path, [*PLAIN, "encoding: raw", "byte skip: -1"], content)).data, VOXELS)


def test_nrrd_shear_is_the_files_own(tmp_path):
    directions = "space directions: (1,0,0) (0,1,0) (0,0.25,1)"
    read = io.read(nrrd(tmp_path, [*PLAIN, "encoding: raw", "space: LPS", directions], VOXELS.tobytes()))
    assert read.grid.to_world((2, 0, 0)).tolist() == [2, 0.5, 0]
    assert read.grid.shear == pytest.approx(np.degrees(np.arctan(0.25)))


def test_nrrd_frames_stored_fastest_go_back_there(tmp_path):
    data = np.arange(120, dtype=np.int16).reshape(3, 4, 5, 2)
    fields = ["type: short", "dimension: 4", "sizes: 2 5 4 3", "endian: little", "encoding: raw", "space: RAS"]
    fields += ["kinds: list domain domain domain", "space directions: none (1,0,0) (0,1,0) (0,0,1)"]
    read = io.read(nrrd(tmp_path, fields, data.tobytes()))
    assert read.data.shape == (2, 3, 4, 5)
    assert np.array_equal(read.data, np.moveaxis(data, -1, 0))
    path = io.write(read, tmp_path / "b.nrrd")
    assert b"sizes: 2 5 4 3" in path.read_bytes()
    again = io.read(path)
    assert np.array_equal(again.data, read.data)
    assert again.grid == read.grid
    assert np.array_equal(io.read(io.write(read, tmp_path / "b.nhdr")).data, read.data)


def test_overlapping_segments_are_not_taken_for_frames(tmp_path):
    fields = ["type: short", "dimension: 4", "sizes: 2 5 4 3", "endian: little", "encoding: raw", "space: LPS"]
    fields += ["kinds: list domain domain domain", "space directions: none (1,0,0) (0,1,0) (0,0,1)"]
    path = nrrd(tmp_path, [*fields, "Segment0_LabelValue:=1"], bytes(240), "a.seg.nrrd")
    with pytest.raises(FileError, match="overlapping segments in 2 layers"):
        io.read(path)


def test_four_dimensions_written_by_itk(tmp_path):
    data = np.arange(120, dtype=np.int16).reshape(2, 3, 4, 5)
    image = sitk.GetImageFromArray(data, isVector=False)
    image.SetSpacing((1, 2, 3, 0.5))
    image.SetOrigin((10, 20, 30, 1))
    for suffix in (".nrrd", ".mha", ".nii"):
        sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
        read = io.read(tmp_path / f"a{suffix}")
        assert np.array_equal(read.data, data)
        assert read.grid.spacing == (3, 2, 1)
        assert read.grid.origin == (30, 20, 10)
        assert read.grid.frames.values == (1, 1.5)


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd", ".nii.gz"])
@pytest.mark.parametrize("compressed", [True, False])
def test_files_written_by_itk(tmp_path, suffix, compressed, rng):
    grid = oblique_grid()
    data = rng.random((5, 6, 7))
    image = sitk.GetImageFromArray(data)
    geometry = convention.itk_geometry(grid.affine)
    image.SetOrigin(geometry["origin"])
    image.SetSpacing(geometry["spacing"])
    image.SetDirection(geometry["direction"])
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"), compressed)
    read = io.read(tmp_path / f"a{suffix}")
    assert np.array_equal(read.data, data)
    assert np.abs(read.grid.to_world(LANDMARKS) - grid.to_world(LANDMARKS)).max() < 1e-3
    assert read.kind == "image"


def test_two_dimensional_files_written_by_itk(tmp_path):
    image = sitk.GetImageFromArray(VOXELS[0])
    image.SetSpacing((0.5, 0.25))
    image.SetOrigin((3, 4))
    for suffix in (".nrrd", ".mha", ".mhd", ".nii"):
        sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
        read = io.read(tmp_path / f"a{suffix}")
        assert np.array_equal(read.data[0], VOXELS[0])
        assert read.grid.spacing[1:] == (0.25, 0.5)
        assert read.grid.origin[1:] == (4, 3)


# MetaImage ------------------------------------------------------------------------------------------------------


def test_metaimage_header_sizes_and_byte_order(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"skip me" + VOXELS.astype(">i2").tobytes())
    header = "NDims = 3\nDimSize = 5 4 3\nElementType = MET_SHORT\nElementByteOrderMSB = True\n"
    for size in ("-1", "7"):
        (tmp_path / "a.mhd").write_text(header + f"HeaderSize = {size}\nElementDataFile = a.bin\n")
        read = io.read(tmp_path / "a.mhd")
        assert np.array_equal(read.data, VOXELS)
        assert read.meta["spacing_known"] is False
        assert read.meta["orientation_known"] is False
        assert io.read(tmp_path / "a.mhd", spacing=(3, 2, 1)).grid.spacing == (3, 2, 1)


# Pictures -------------------------------------------------------------------------------------------------------


def test_picture_spacing_is_asked_for(tmp_path):
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "a.png")
    read = io.read(tmp_path / "a.png")
    assert read.grid.spacing == (1, 1, 1)
    assert read.meta["spacing_known"] is False
    assert read.meta["orientation_known"] is False
    assert io.read(tmp_path / "a.png", spacing=0.2).grid.spacing == (1, 0.2, 0.2)
    given = io.read(tmp_path / "a.png", spacing=(0.2, 0.1))
    assert given.grid.spacing == (1, 0.2, 0.1)
    assert given.meta["spacing_known"] is True
    for wrong in (0, -1, np.nan, (1, 0), (1, 1, 1, 1)):
        with pytest.raises(InputError, match="spacing"):
            io.read(tmp_path / "a.png", spacing=wrong)


@pytest.mark.parametrize(
    ("dpi", "known"), [(72, False), (96, False), (300, False), (254, False), (500, True), (2540 / 7, True)]
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_resolution_of_screens_is_not_believed(tmp_path, dpi, known, suffix):
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / f"a.{suffix}", dpi=(dpi, dpi))
    read = io.read(tmp_path / f"a.{suffix}")
    assert read.meta.get("spacing_known", True) is known
    assert read.grid.spacing[1] == pytest.approx(25.4 / dpi if known else 1, rel=1e-3)


def test_tiff_resolution_in_centimetres(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((4, 6), np.uint8), resolution=(50, 25), resolutionunit="CENTIMETER", metadata=None
    )
    assert io.read(tmp_path / "a.tif").grid.spacing == pytest.approx((1, 0.4, 0.2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_pictures_come_back(tmp_path, suffix, rng):
    for dtype in ("uint8", "uint16") if suffix == ".png" else ("uint8", "uint16", "int16", "float32"):
        data = rng.integers(0, 250, (1, 6, 7)).astype(dtype)
        grid = oblique_grid(shape=(1, 6, 7))
        written = Volume(data, grid, history=({"operation": "median"},))
        read = io.read(io.write(written, tmp_path / f"a{suffix}"))
        assert np.array_equal(read.data, data)
        assert read.data.dtype == dtype
        assert read.grid == grid
        assert read.history == written.history
        with Image.open(tmp_path / f"a{suffix}") as image:
            assert image.info["dpi"] == pytest.approx((25.4 / 0.9, 25.4 / 0.7), rel=1e-3)


def test_labels_in_pictures(tmp_path, labels):
    flat = Volume(np.asarray(labels.data)[:1], oblique_grid(shape=(1, 6, 7)), kind="labels", labels=labels.labels)
    read = io.read(io.write(flat, tmp_path / "a.png"))
    assert read.kind == "labels"
    assert dict(read.labels) == dict(labels.labels)
    with pytest.raises(FileError, match="JPEG changes values"):
        io.write(flat, tmp_path / "a.jpg")


def test_a_sagittal_slice_is_a_picture_too(tmp_path):
    grid = oblique_grid(shape=(5, 6, 1))
    written = Volume(np.arange(30, dtype=np.uint8).reshape(5, 6, 1), grid)
    read = io.read(io.write(written, tmp_path / "a.png"))
    assert np.array_equal(read.data, written.data)
    assert read.grid == grid


def test_pictures_that_cannot_be_written(tmp_path, volume, cine):
    for wrong, word in ((volume, "one slice"), (cine, "one slice")):
        with pytest.raises(FileError, match=word):
            io.write(wrong, tmp_path / "a.png")
    flat = Volume.from_array(np.zeros((4, 5), np.float32))
    with pytest.raises(FileError, match=r"float32: save it as \.nii\.gz"):
        io.write(flat, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_jpeg_is_close(tmp_path):
    ramp = Volume.from_array(np.tile(np.arange(0, 250, 5, dtype=np.uint8), (20, 1)), (0.5, 0.5))
    read = io.read(io.write(ramp, tmp_path / "a.jpg"))
    assert np.abs(read.data.astype(int) - ramp.data).max() <= 4
    assert read.grid == ramp.grid


def test_colour(tmp_path):
    grey = np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4, 1), 3, axis=2)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    read = io.read(tmp_path / "grey.png")
    assert np.array_equal(read.data[0], grey[..., 0])
    assert "notes" not in read.meta
    Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)).save(tmp_path / "c.png")
    read = io.read(tmp_path / "c.png")
    assert read.data[0].tolist() == [[76, 150, 29]]
    assert "luminance" in read.meta["notes"][0]
    tifffile.imwrite(tmp_path / "c.tif", np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8), photometric="rgb")
    assert io.read(tmp_path / "c.tif").data[0].tolist() == [[76, 150]]


def test_transparency(tmp_path):
    pixels = np.full((3, 4, 4), 255, np.uint8)
    pixels[..., :3] = 7
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (io.read(tmp_path / "a.png").data == 7).all()
    pixels[0, 0, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(FileError, match="transparent"):
        io.read(tmp_path / "a.png")


def test_the_distance_of_pages_is_not_made_up(tmp_path):
    path, stack = tmp_path / "a.tif", np.zeros((3, 4, 5), np.uint8)
    known = {"resolution": (20, 25), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, stack, photometric="minisblack", metadata=None, **known)
    read = io.read(path)
    assert read.meta["spacing_known"] is False
    assert read.grid.spacing[1:] == (0.4, 0.5)
    for spacing in (5, (5, 0.4, 0.5)):
        given = io.read(path, spacing=spacing)
        assert given.grid.spacing == (5, 0.4, 0.5)
        assert given.meta["spacing_known"] is True
        assert "pixel_size_known" not in given.meta
    with pytest.raises(InputError, match=r"pixels are 0.4 x 0.5 mm"):
        io.read(path, spacing=(5, 1, 1))


def test_pages_become_slices(tmp_path):
    stack = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", metadata=None)
    read = io.read(tmp_path / "a.tif", spacing=(2, 0.5, 0.5))
    assert np.array_equal(read.data, stack)
    assert read.grid.spacing == (2, 0.5, 0.5)
    assert "3 pages" in read.meta["notes"][0]
    with pytest.raises(InputError, match="leaves out how far apart the slices"):
        io.read(tmp_path / "a.tif", spacing=(0.5, 0.5))
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        file.write(stack[0])
        file.write(stack[0, 1:])
    with pytest.raises(FileError, match="page 2"):
        io.read(tmp_path / "b.tif")


# Progress -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_reading_shows_progress_and_stops(tmp_path, volume, suffix):
    path = io.write(volume, tmp_path / f"a{suffix}")
    said = []
    with listening(lambda *what: said.append(what)):
        io.read(path)
    assert said[0][1] == 0
    assert said[-1][1] <= said[-1][2]

    def cancel(what, done, total):
        raise Cancelled

    with listening(cancel), pytest.raises(Cancelled):
        io.read(path)


def test_info(tmp_path, labels):
    (facts,) = io.info(io.write(labels, tmp_path / "a.nii.gz"))
    assert facts["size"] == (7, 6, 5)
    assert facts["spacing"] == pytest.approx((0.9, 0.7, 3.3))
    assert facts["kind"] == "labels"
    assert facts["labels"][1] == "liver"
    assert facts["left_handed"] is True
    assert facts["range"] == (0, 300)
