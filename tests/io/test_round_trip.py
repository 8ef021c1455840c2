"""A volume that goes to disk and comes back is the same, here and in nibabel and SimpleITK."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from landmarks import LANDMARKS, VOLUMETRIC, itk_array, itk_points, nibabel_points, oblique_grid, rotation

from napari_lightbox import io
from napari_lightbox.errors import FileError
from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.volume import Volume

TOLERANCE = 1e-3  # mm


def same(read, written):
    assert np.array_equal(read.data, written.data)
    assert read.data.dtype == written.data.dtype
    assert read.grid == written.grid
    assert read.kind == written.kind
    assert read.name == written.name
    assert dict(read.labels) == dict(written.labels)
    assert read.history == written.history
    assert {k: read.meta[k] for k in written.meta} == dict(written.meta)


@pytest.mark.parametrize("suffix", [*VOLUMETRIC, ".seg.nrrd"])
def test_everything_comes_back(volume, tmp_path, suffix):
    path = io.write(volume, tmp_path / f"a{suffix}")
    same(io.read(path), volume)
    assert io.read(path).meta["source"] == str(path)


@pytest.mark.parametrize("suffix", VOLUMETRIC)
def test_itk_puts_voxels_at_the_same_place(volume, tmp_path, suffix):
    path = io.write(volume, tmp_path / f"a{suffix}")
    assert np.array_equal(itk_array(path), volume.data)
    assert np.abs(itk_points(path) - volume.grid.to_world(LANDMARKS)).max() < TOLERANCE


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nibabel_puts_voxels_at_the_same_place(volume, tmp_path, suffix):
    path = io.write(volume, tmp_path / f"a{suffix}")
    image = nib.load(path)
    assert np.array_equal(np.asarray(image.dataobj).T, volume.data)
    assert np.abs(nibabel_points(path) - volume.grid.to_world(LANDMARKS)).max() < TOLERANCE
    assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-4)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("flips", product((1, -1), repeat=3))
def test_all_48_orders(tmp_path, suffix, flips):
    for order in permutations(range(3)):
        direction = (rotation(3, 5, 7) * flips)[:, order]
        grid = Grid.from_spacing((3.0, 0.7, 0.9), (5, 6, 7), (-10, 200, 3), direction)
        written = Volume(np.arange(210, dtype=np.int16).reshape(5, 6, 7), grid)
        path = io.write(written, tmp_path / f"a{suffix}")
        same(io.read(path), written)
        assert np.abs(itk_points(path) - grid.to_world(LANDMARKS)).max() < TOLERANCE


@pytest.mark.parametrize("suffix", VOLUMETRIC)
def test_the_header_alone_holds_the_geometry(volume, tmp_path, suffix):
    """Our own record must not be needed: another program's copy of the file has none."""
    path = io.write(volume, tmp_path / f"a{suffix}")
    content = path.read_bytes() if suffix != ".nii.gz" else None
    if content is None:
        image = nib.load(path)
        image.header.extensions.clear()
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), path)
    else:
        path.write_bytes(content.replace(b"lightbox", b"xightbox"))
    read = io.read(path)
    assert read.history == ()
    assert np.array_equal(read.data, volume.data)
    assert np.abs(read.grid.to_world(LANDMARKS) - volume.grid.to_world(LANDMARKS)).max() < TOLERANCE


@pytest.mark.parametrize("suffix", VOLUMETRIC)
def test_labels_keep_type_names_and_colours(labels, tmp_path, suffix):
    same(io.read(io.write(labels, tmp_path / f"a{suffix}")), labels)


def test_slicer_segmentation_keys(labels, tmp_path):
    path = io.write(labels, tmp_path / "a.seg.nrrd")
    path.write_bytes(path.read_bytes().replace(b"lightbox:=", b"xightbox:="))
    read = io.read(path)
    assert read.kind == "labels"
    assert {k: v.name for k, v in read.labels.items()} == {1: "liver", 7: "Milz – größer", 300: "tumour"}
    assert read.labels[1].colour == "#dd8265"
    assert read.labels[1].code == "T-62000"

    image = sitk.ReadImage(str(path))
    assert image.GetMetaData("Segment0_Name") == "liver"
    assert image.GetMetaData("Segment1_LabelValue") == "7"


def test_nifti_says_that_it_holds_labels(labels, tmp_path):
    assert nib.load(io.write(labels, tmp_path / "a.nii.gz")).header["intent_code"] == 1002


@pytest.mark.parametrize("suffix", VOLUMETRIC)
def test_frames_in_time(cine, tmp_path, suffix):
    path = io.write(cine, tmp_path / f"a{suffix}")
    same(io.read(path), cine)
    if suffix not in (".nrrd", ".nhdr"):
        assert np.array_equal(itk_array(path), cine.data)
    assert np.abs(itk_points(path) - cine.grid.to_world(LANDMARKS)).max() < TOLERANCE


def test_other_programs_see_the_time_step(cine, tmp_path):
    header = nib.load(io.write(cine, tmp_path / "a.nii.gz")).header
    assert header.get_zooms()[3] == 0.5
    assert header.get_xyzt_units() == ("mm", "sec")
    assert header["toffset"] == 0.25


@pytest.mark.parametrize("suffix", VOLUMETRIC)
@pytest.mark.parametrize(
    "frames",
    [
        Frames("b-value", (0, 1000, 1000), "s/mm2"),
        Frames("echo", (1.5, 9.0, 30.0), "ms"),
        Frames("time", (0, 1, 5), "s"),
        Frames("time", (3, 2, 1), "s"),
    ],
)
def test_frame_values_that_no_format_knows(cine, tmp_path, suffix, frames):
    odd = cine.replace(grid=cine.grid.with_frames(frames))
    same(io.read(io.write(odd, tmp_path / f"a{suffix}")), odd)


@pytest.mark.parametrize("suffix", VOLUMETRIC)
def test_a_single_frame_stays_a_frame(tmp_path, suffix, rng):
    grid = oblique_grid().with_frames(Frames("time", (2.0,), "s"))
    one = Volume(rng.random((1, 5, 6, 7)), grid)
    same(io.read(io.write(one, tmp_path / f"a{suffix}")), one)


def sheared():
    affine = np.array(oblique_grid().affine)
    affine[:3, 0] += 0.25 * affine[:3, 1]
    return Volume(np.arange(210, dtype=np.int16).reshape(5, 6, 7), Grid(affine, (5, 6, 7)))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".nhdr"])
def test_shear_is_kept(tmp_path, suffix):
    path = io.write(sheared(), tmp_path / f"a{suffix}")
    same(io.read(path), sheared())
    if "nii" in suffix:
        assert nib.load(path).header["qform_code"] == 0
        assert np.abs(nibabel_points(path) - sheared().grid.to_world(LANDMARKS)).max() < TOLERANCE


@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
def test_shear_is_refused_where_it_would_be_bent(tmp_path, suffix):
    with pytest.raises(FileError, match=r"sheared by .* degrees.*\.nii\.gz"):
        io.write(sheared(), tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize(
    "dtype",
    ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64", ">i2", ">f4"],
)
def test_types(tmp_path, suffix, dtype):
    data = np.arange(24).astype(dtype).reshape(2, 3, 4)
    read = io.read(io.write(Volume.from_array(data, (1, 1, 1)), tmp_path / f"a{suffix}"))
    assert read.data.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(read.data, data)


@pytest.mark.parametrize(("dtype", "stored"), [("bool", "uint8"), ("float16", "float32"), ("longdouble", "float64")])
def test_types_that_no_format_has(tmp_path, dtype, stored):
    data = (np.arange(24) % 2).astype(dtype).reshape(2, 3, 4)
    for suffix in VOLUMETRIC:
        read = io.read(io.write(Volume.from_array(data, (1, 1, 1)), tmp_path / f"a{suffix}"))
        assert read.data.dtype == stored
        assert np.array_equal(read.data, data)


@pytest.mark.parametrize("suffix", VOLUMETRIC)
def test_arrays_that_are_unlike_a_plain_one(tmp_path, suffix, volume):
    turned = np.asfortranarray(np.array(volume.data))
    turned.flags.writeable = False
    strided = np.repeat(np.array(volume.data), 2, axis=2)[..., ::2]
    dask = pytest.importorskip("dask.array").from_array(np.array(volume.data), chunks=(2, 3, 4))
    for data in (turned, strided, dask):
        read = io.read(io.write(volume.replace(data=data), tmp_path / f"a{suffix}"))
        assert np.array_equal(read.data, volume.data)


@pytest.mark.parametrize("suffix", VOLUMETRIC)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 6), (4, 1, 6), (4, 5, 1)])
def test_thin_volumes(tmp_path, suffix, shape):
    thin = Volume(np.ones(shape, np.int16), oblique_grid(shape=shape))
    path = io.write(thin, tmp_path / f"a{suffix}")
    same(io.read(path), thin)


def test_values_that_are_no_numbers_are_kept(tmp_path):
    data = np.array([np.nan, np.inf, -np.inf, 1e38], np.float32).reshape(1, 2, 2)
    for suffix in VOLUMETRIC:
        read = io.read(io.write(Volume.from_array(data, (1, 1)), tmp_path / f"a{suffix}"))
        assert np.array_equal(read.data, data, equal_nan=True)


def test_a_long_axis_becomes_nifti_2(tmp_path):
    long = Volume.from_array(np.arange(40000, dtype=np.int32).reshape(1, 1, 40000), (1, 1, 1))
    path = io.write(long, tmp_path / "a.nii")
    assert isinstance(nib.load(path), nib.Nifti2Image)
    same(io.read(path), long)


def test_history_is_dropped_when_another_program_has_moved_the_voxels(volume, tmp_path):
    path = io.write(volume, tmp_path / "a.nii.gz")
    image = nib.load(path)
    cropped = nib.Nifti1Image(np.asarray(image.dataobj)[1:], image.affine, image.header)
    nib.save(cropped, path)
    read = io.read(path)
    assert read.data.shape == (5, 6, 6)
    assert read.history == ()
    assert read.meta["unit"] == "HU"


def test_a_damaged_record_does_no_harm(volume, tmp_path):
    path = io.write(volume, tmp_path / "a.nrrd")
    path.write_bytes(path.read_bytes().replace(b'"labels":{}', b'"labels":[]'))
    read = io.read(path)
    assert np.array_equal(read.data, volume.data)
    assert "record" in read.meta["notes"][0]


angles = st.floats(-180, 180, allow_nan=False)
lengths = st.floats(0.05, 20)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turn=st.tuples(angles, angles, angles),
    spacing=st.tuples(lengths, lengths, lengths),
    origin=st.tuples(*[st.floats(-2000, 2000)] * 3),
    mirrored=st.booleans(),
    suffix=st.sampled_from(VOLUMETRIC),
)
def test_any_grid(tmp_path, turn, spacing, origin, mirrored, suffix):
    direction = rotation(*turn) @ np.diag([1, 1, -1 if mirrored else 1])
    grid = Grid.from_spacing(spacing, (5, 6, 7), origin, direction)
    written = Volume(np.arange(210, dtype=np.int16).reshape(5, 6, 7), grid)
    path = io.write(written, tmp_path / f"a{suffix}")
    same(io.read(path), written)
    assert np.abs(itk_points(path) - grid.to_world(LANDMARKS)).max() < TOLERANCE
    if "nii" in suffix:
        assert np.abs(nibabel_points(path) - grid.to_world(LANDMARKS)).max() < TOLERANCE
