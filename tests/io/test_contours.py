"""Contours of structure sets: filled as other programs fill them, on the image that they were drawn on."""

import contextlib

import numpy as np
import pytest
from dicom_objects import contour, square, write_rtstruct
from landmarks import rotation
from skimage.measure import points_in_poly

from napari_lightbox import io
from napari_lightbox.errors import FileError, GridError, LightboxError
from napari_lightbox.geometry import Grid
from napari_lightbox.io._rtstruct import fill
from napari_lightbox.io.masks import image_of, read_masks
from napari_lightbox.ops.spatial import reorient

pytest.importorskip("pydicom")
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")


def refused(error, path, *words, like=None):
    with pytest.raises(error) as caught:
        read_masks(path, like)
    text = str(caught.value)
    assert "\n" not in text
    assert ": " in text, "a remedy follows a colon"
    for word in words:
        assert word in text, text


def _moved(grid, index):
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_world(index)
    return affine


def _set(**attributes):
    def change(ds):
        for name, value in attributes.items():
            setattr(ds, name, value)

    return change


# Real files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("series", "count"), [("MR_T1", 9655), ("PET", 606)])
def test_real_contours_are_filled_as_another_program_fills_them(data, series, count):
    folder = data(f"dicom_rtstruct/STS_025/{series}").parent
    truth = io.read(folder / f"{series}_mask.nii.gz")
    path = folder / series / "mask" / "RS.dcm"
    (found,) = read_masks(path, truth)
    assert np.array_equal(found.data, np.asarray(truth.data))
    assert int(found.data.sum()) == count
    assert found.labels[1].name == f"GTV_Mass_{series}"
    assert found.labels[1].colour == "#ff0000"


def test_the_image_of_real_contours_is_found_beside_them(data):
    folder = data("dicom_rtstruct/STS_025/MR_T1").parent
    (found,) = read_masks(folder / "MR_T1" / "mask" / "RS.dcm")
    image = io.read(folder / "MR_T1" / "image")
    assert found.grid == image.grid
    assert image_of(folder / "MR_T1" / "mask" / "RS.dcm") == image.meta["series"]["uid"]
    truth = io.read(folder / "MR_T1_mask.nii.gz")
    points = truth.grid.to_world(np.argwhere(np.asarray(truth.data)))
    index = np.rint(found.grid.to_index(points)).astype(int)
    assert found.data[tuple(index.T)].all()
    assert found.data.sum() == len(index)


# Contours -------------------------------------------------------------------------------------------------------------


def test_polygons_are_filled_as_points_are_found_inside(rng):
    for _ in range(20):
        corners = rng.uniform(-3, 23, (rng.integers(3, 12), 2))
        rows, columns = np.mgrid[0:20, 0:17]
        points = np.stack([rows.ravel(), columns.ravel()], axis=1)
        truth = points_in_poly(points, corners).reshape(20, 17)
        assert np.array_equal(fill([corners], (20, 17)), truth)


def test_edges_belong_to_one_side():
    """Squares that share an edge through voxel centres cover every voxel once."""
    left, right = [(0, 0), (0, 3), (4, 3), (4, 0)], [(0, 3), (0, 6), (4, 6), (4, 3)]
    total = sum(fill([np.array(one, float)], (6, 8)).astype(int) for one in (left, right))
    assert np.array_equal(total, fill([np.array([(0, 0), (0, 6), (4, 6), (4, 0)], float)], (6, 8)))
    assert total[:4, :6].all()
    assert total.sum() == 24


IMAGE = Grid.from_spacing((3.0, 1.0, 1.25), (6, 20, 24), (-8, 12, 30), rotation(10, 20, 30))


def structure(*contours, name="target", colour=(0, 128, 255)):
    return name, colour, list(contours)


def test_a_structure_on_an_oblique_image(tmp_path):
    path = write_rtstruct(tmp_path / "a.dcm", {4: structure(*(contour(IMAGE, k, square(2.5, 6.5)) for k in (1, 2, 3)))})
    (found,) = read_masks(path, IMAGE)
    expected = np.zeros(IMAGE.shape, np.uint8)
    expected[1:4, 3:7, 3:7] = 4
    assert np.array_equal(found.data, expected)
    assert found.grid == IMAGE
    assert found.labels[4].name == "target"
    assert found.labels[4].colour == "#0080ff"
    assert found.labels[4].code["value"] == "C4"
    assert found.name == "plan"
    assert "notes" not in found.meta
    assert "Secret" not in repr(found)


def ring(low, high, inside_low, inside_high):
    """Return one contour that runs round outside, along a keyhole, and round the hole the other way."""
    outer, inner = square(low, high), square(inside_low, inside_high)
    return [*outer, outer[0], inner[0], *reversed(inner)]


@pytest.mark.parametrize("how", ["keyhole", "two contours"])
def test_holes(tmp_path, how):
    if how == "keyhole":
        contours = [contour(IMAGE, 2, ring(1.5, 11.5, 4.5, 7.5))]
    else:
        contours = [contour(IMAGE, 2, square(1.5, 11.5)), contour(IMAGE, 2, square(4.5, 7.5))]
    (found,) = read_masks(write_rtstruct(tmp_path / "a.dcm", {1: structure(*contours)}), IMAGE)
    expected = np.zeros(IMAGE.shape, np.uint8)
    expected[2, 2:12, 2:12] = 1
    expected[2, 5:8, 5:8] = 0
    assert np.array_equal(found.data, expected)


def test_a_contour_that_is_there_twice_counts_once(tmp_path):
    twice = [contour(IMAGE, 2, square(1.5, 5.5))] * 2
    (found,) = read_masks(write_rtstruct(tmp_path / "a.dcm", {1: structure(*twice)}), IMAGE)
    assert found.data.sum() == 16
    assert "1 contours twice: each counts once" in found.meta["notes"][0]


@pytest.mark.parametrize("how", [lambda c: c[2:] + c[:2], lambda c: c[::-1], lambda c: [*c[1:], c[0], c[1]]])
@pytest.mark.parametrize("corners", [square(1.5, 5.5), ring(1.5, 11.5, 4.5, 7.5)])
def test_a_contour_that_is_there_twice_from_another_point(tmp_path, how, corners):
    once = [contour(IMAGE, 2, corners)]
    again = [*once, contour(IMAGE, 2, how(corners))]
    (truth,), (found,) = (
        read_masks(write_rtstruct(tmp_path / "a.dcm", {1: structure(*each)}), IMAGE) for each in (once, again)
    )
    assert truth.data.any()
    assert np.array_equal(found.data, truth.data)
    assert "1 contours twice: each counts once" in found.meta["notes"][0]


def test_structures_that_overlap(tmp_path):
    path = write_rtstruct(
        tmp_path / "a.dcm",
        {
            1: structure(contour(IMAGE, 2, square(0.5, 15.5)), name="body"),
            2: structure(contour(IMAGE, 2, square(3.5, 5.5)), name="organ"),
            3: structure(contour(IMAGE, 2, square(8.5, 9.5)), name="other"),
        },
    )
    body, organs = read_masks(path, IMAGE)
    assert [label.name for label in body.labels.values()] == ["body"]
    assert [label.name for label in organs.labels.values()] == ["organ", "other"]
    assert (body.data == 1).sum() == 225
    assert [(organs.data == v).sum() for v in (2, 3)] == [4, 1]


def test_contours_between_slices_go_to_the_nearest(tmp_path):
    contours = [contour(IMAGE, k, square(1.5, 5.5)) for k in (1, 2.3, 2.6)]
    (found,) = read_masks(write_rtstruct(tmp_path / "a.dcm", {1: structure(*contours)}), IMAGE)
    assert [int(s.sum()) for s in found.data] == [0, 16, 16, 16, 0, 0]
    assert found.meta["notes"] == ["target: 2 of 3 contours lie between two slices and were put onto the nearest"]


@pytest.mark.parametrize("start", [0.5, 1.5])
def test_a_structure_drawn_half_a_slice_off(tmp_path, start):
    contours = [contour(IMAGE, start + n, square(1.5, 5.5)) for n in range(4)]
    (found,) = read_masks(write_rtstruct(tmp_path / "a.dcm", {1: structure(*contours)}), IMAGE)
    filled = np.flatnonzero(found.data.any(axis=(1, 2)))
    assert filled.tolist() == [int(start + 0.5) + n for n in range(4)]
    assert [int(s.sum()) for s in found.data[filled]] == [16] * 4


def test_two_planes_on_one_slice_do_not_cut_holes(tmp_path):
    contours = [contour(IMAGE, 2.2, square(1.5, 9.5)), contour(IMAGE, 1.8, square(3.5, 5.5))]
    (found,) = read_masks(write_rtstruct(tmp_path / "a.dcm", {1: structure(*contours)}), IMAGE)
    assert found.data[2].sum() == 64


def test_what_is_left_out_is_named(tmp_path):
    contours = [
        contour(IMAGE, 1, square(1.5, 5.5)),
        contour(IMAGE, 4, square(1.5, 5.5)),
        contour(IMAGE, 9, square(1.5, 5.5)),
        contour(IMAGE, 1, [(3, 3)], "POINT"),
        contour(IMAGE, 1, [(3, 3), (4, 8), (6, 6)], "OPEN_PLANAR"),
    ]
    path = write_rtstruct(
        tmp_path / "a.dcm", {1: structure(*contours), 2: structure(contour(IMAGE, 1, [(3, 3)], "POINT"), name="marker")}
    )
    (found,) = read_masks(path, IMAGE)
    told = " | ".join(found.meta["notes"])
    assert "1 OPEN_PLANAR, 1 POINT" in told
    assert "without closed contours were left out: marker" in told
    assert "1 of 3 contours lie beyond the slices" in told
    assert "2 slices between its ends have no contour and stay empty" in told
    assert [*found.labels] == [1]


def test_contours_along_another_axis_of_the_voxels(tmp_path):
    """The image was stored in another order: what were slices are columns now."""
    path = write_rtstruct(tmp_path / "a.dcm", {1: structure(contour(IMAGE, 3, [(2.1, 1.9), (3.3, 15.2), (14.4, 9.7)]))})
    (straight,) = read_masks(path, IMAGE)
    turned = reorient(straight, "SRA")
    (found,) = read_masks(path, turned)
    assert np.array_equal(found.data, turned.data)
    assert found.data.any()


def test_contours_at_an_angle_are_refused(tmp_path):
    path = write_rtstruct(tmp_path / "a.dcm", {1: structure(contour(IMAGE, 3, square(2, 12)))})
    straight = Grid.from_spacing((3, 1, 1.25), (40, 60, 60), (-60, -20, 0))
    refused(GridError, path, "at an angle to the slices", like=straight)
    far = Grid(_moved(IMAGE, (50, 0, 0)), IMAGE.shape)
    refused(GridError, path, "beyond the slices", like=far)


@pytest.mark.parametrize("number", [0, -3, 70000])
def test_numbers_that_labels_cannot_have(tmp_path, number):
    parts = {number: structure(contour(IMAGE, 1, square(1.5, 2.5))), 5: structure(contour(IMAGE, 2, square(1.5, 2.5)))}
    (found,) = read_masks(write_rtstruct(tmp_path / "a.dcm", parts), IMAGE)
    assert [*found.labels] == [1, 2]
    assert np.unique(found.data).tolist() == [0, 1, 2]


def test_the_image_beside_the_contours(dicom_series, tmp_path):
    folder, _, grid = dicom_series(SeriesInstanceUID="1.2.77.1")
    path = folder.parent / "structures.dcm"
    write_rtstruct(path, {1: structure(contour(grid, 2, square(1.5, 4.5)))}, series_uid="1.2.77.1")
    (found,) = read_masks(path)
    assert found.grid.distance(grid) < 1e-4
    assert found.data[2, 2:5, 2:5].all()
    assert found.data.sum() == 9
    assert io.read(path).data.sum() == 9


def test_contours_beside_a_series_with_a_gap(dicom_series, tmp_path):
    folder, _, grid = dicom_series(SeriesInstanceUID="1.2.77.1", change=lambda ds, n: n != 3)
    path = tmp_path / "structures.dcm"
    write_rtstruct(path, {1: structure(contour(grid, 2, square(1.5, 4.5)))}, series_uid="1.2.77.1")
    refused(
        FileError,
        path,
        "some are missing",
        f"read_masks('{path.name}', like=read('{folder}', series='1.2.77.1', even=True))",
    )
    (found,) = read_masks(path, like=io.read(folder, series="1.2.77.1", even=True))
    assert found.data[2].sum() == 9


@pytest.mark.parametrize("uid", ["1.2.99.1", ""])
def test_an_image_that_is_not_there(tmp_path, uid):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    path = write_rtstruct(folder / "a.dcm", {1: structure(contour(IMAGE, 2, square(1, 4)))}, series_uid=uid)
    refused(FileError, path, "read_masks", "'like'")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (_set(ROIContourSequence=[]), "holds no contours"),
        (_set(StructureSetROISequence=[]), "which it does not name"),
        (lambda ds: setattr(ds.ROIContourSequence[0].ContourSequence[0], "ContourData", [1, 2, 3, 4]), "not made of"),
    ],
)
def test_structure_sets_that_cannot_be(tmp_path, change, word):
    path = write_rtstruct(tmp_path / "a.dcm", {1: structure(contour(IMAGE, 2, square(1, 4)))}, change=change)
    refused(FileError, path, word, like=IMAGE)


def test_changed_bytes_of_contours_never_crash(tmp_path, rng):
    parts = {1: structure(contour(IMAGE, 2, square(1, 14))), 2: structure(contour(IMAGE, 3, square(1, 4)))}
    raw = write_rtstruct(tmp_path / "a.dcm", parts).read_bytes()
    path = tmp_path / "b.dcm"
    for _ in range(100):
        changed = bytearray(raw)
        for place_ in rng.integers(132, len(raw), 3):
            changed[place_] = rng.integers(0, 256)
        path.write_bytes(changed)
        with contextlib.suppress(LightboxError):
            read_masks(path, IMAGE)


@pytest.mark.parametrize("spacing", [1.0, 2.0, 6.54])
def test_slices_the_contours_were_not_drawn_on_are_refused(data, spacing):
    folder = data("dicom_rtstruct/STS_025/MR_T1")
    image = io.files.read(folder / "image")
    own = image.grid
    depth = int(own.spatial_shape[0] * own.spacing[0] / spacing)
    affine = own.affine.copy()
    affine[:3, 0] *= spacing / own.spacing[0]
    with pytest.raises(GridError, match="image they were drawn on"):
        read_masks(next((folder / "mask").iterdir()), like=Grid(affine, (depth, *own.spatial_shape[1:])))
