"""Segmentations: every voxel where an independent reading has it, and nothing bent to fit an image."""

import contextlib

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_objects import write_seg
from landmarks import oblique_grid

from napari_lightbox import io
from napari_lightbox.errors import FileError, GridError, InputError, LightboxError
from napari_lightbox.geometry import Grid
from napari_lightbox.io import _mask_layers
from napari_lightbox.io._dicom_seg import colour_of
from napari_lightbox.io._lattice import place
from napari_lightbox.io.masks import image_of, kind_of, read_masks
from napari_lightbox.ops.spatial import reorient
from napari_lightbox.volume import Volume

pytest.importorskip("pydicom")
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")
GRID = oblique_grid(left_handed=False)


def refused(error, path, *words, like=None):
    with pytest.raises(error) as caught:
        read_masks(path, like)
    text = str(caught.value)
    assert "\n" not in text
    assert ": " in text, "a remedy follows a colon"
    for word in words:
        assert word in text, text


@pytest.fixture
def truth(rng):
    """Return labels 0, 1, 2 on the oblique grid, with a plane that is empty."""
    data = rng.integers(0, 3, (5, 6, 7)).astype(np.uint8)
    data[2] = 0
    return data


def planes(data, values=(1, 2)):
    """Return the frames of labels; planes without any are left out, as writers do."""
    return [(v, k, data[k] == v) for v in values for k in range(len(data)) if (data[k] == v).any()]


# Real files -----------------------------------------------------------------------------------------------------------


def test_a_real_segmentation(data):
    (liver,) = read_masks(data("dicom_seg/liver.dcm"))
    same = io.read(data("dicom_seg/liver_seg.nrrd"))
    assert np.array_equal(liver.data > 0, np.asarray(same.data) > 0)
    assert int((liver.data == 1).sum()) == 107098
    assert liver.grid.same_space(same.grid)
    assert liver.kind == "labels"
    assert liver.labels[1].name == "Liver"
    assert liver.labels[1].code == {"scheme": "SRT", "value": "T-62000", "meaning": "Liver"}
    assert liver.meta["series"]["image_uid"].endswith("23430.1")


def test_a_real_segmentation_on_its_image(data):
    image = io.read(data("dicom_seg/ct-3slice"))
    (liver,) = read_masks(data("dicom_seg/liver.dcm"), image)
    same = sitk.GetArrayFromImage(sitk.ReadImage(str(data("dicom_seg/liver_seg.nrrd"))))
    assert liver.grid == image.grid
    assert np.array_equal(liver.data, same)


def test_real_segments_that_overlap(data):
    one, two = read_masks(data("dicom_seg/seg_image_ct_binary_overlap.dcm"))
    pydicom = pytest.importorskip("pydicom")
    ds = pydicom.dcmread(data("dicom_seg/seg_image_ct_binary_overlap.dcm"))
    frames = ds.pixel_array
    for number, volume in ((1, one), (2, two)):
        for frame, item in zip(frames, ds.PerFrameFunctionalGroupsSequence, strict=True):
            if item.SegmentIdentificationSequence[0].ReferencedSegmentNumber != number:
                continue
            z = float(item.PlanePositionSequence[0].ImagePositionPatient[2])
            k = round(volume.grid.to_index((z, *volume.grid.origin[1:]))[0])
            assert np.array_equal(volume.data[k] == number, frame > 0)
        assert (volume.data == number).sum() == frames[
            [i.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number
             for i in ds.PerFrameFunctionalGroupsSequence]
        ].sum()  # fmt: skip
    assert one.name.endswith("(1 of 2)")
    with pytest.raises(FileError, match="need 2 volumes: open all of them by read_masks or read_all"):
        _mask_layers.only([one, two], data("dicom_seg/seg_image_ct_binary_overlap.dcm"))


# Segmentations --------------------------------------------------------------------------------------------------------


def test_every_voxel_of_a_segmentation(tmp_path, truth):
    path = write_seg(tmp_path / "a.dcm", GRID, planes(truth), segments=(1, 2))
    (found,) = read_masks(path)
    assert np.array_equal(found.data, truth)
    assert found.grid.distance(GRID) < 1e-3
    assert found.data.dtype == np.uint8
    assert [(v, label.name) for v, label in found.labels.items()] == [(1, "part 1"), (2, "part 2")]
    assert found.labels[2].code == {"scheme": "SRT", "value": "T-2", "meaning": "Part 2"}
    assert found.labels[1].colour == "#ff0000"
    assert found.name == "Structures"
    assert "Secret" not in repr(found)
    assert found.meta["series"]["frame_of_reference_uid"] == "1.2.3.4"
    assert image_of(path) == "1.2.3.5"


@pytest.mark.parametrize("code", ["LPS", "RAS", "SLP", "IRA"])
def test_onto_an_image_of_any_order(tmp_path, truth, code):
    path = write_seg(tmp_path / "a.dcm", GRID, planes(truth), segments=(1, 2))
    image = reorient(Volume(truth, GRID, "labels"), code)
    (found,) = read_masks(path, image)
    assert found.grid == image.grid
    assert np.array_equal(found.data, image.data)


def test_onto_a_larger_and_a_smaller_image(tmp_path, truth):
    path = write_seg(tmp_path / "a.dcm", GRID, planes(truth), segments=(1, 2))
    larger = Grid(_moved(GRID, (-2, -1, -3)), (9, 10, 12))
    (found,) = read_masks(path, larger)
    assert np.array_equal(found.data[2:7, 1:7, 3:10], truth)
    assert np.count_nonzero(found.data) == np.count_nonzero(truth)
    assert "notes" not in found.meta
    smaller = Grid(_moved(GRID, (1, 2, 0)), (2, 3, 7))
    (found,) = read_masks(path, smaller)
    assert np.array_equal(found.data, truth[1:3, 2:5])
    lost = [np.count_nonzero(truth == v) - np.count_nonzero(truth[1:3, 2:5] == v) for v in (1, 2)]
    assert found.meta["notes"] == [
        f"part {v}: {n} voxels lie outside the image and were left out" for v, n in zip((1, 2), lost, strict=True)
    ]


def _moved(grid, index):
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_world(index)
    return affine


def test_an_image_on_other_voxels_is_refused(tmp_path, truth):
    path = write_seg(tmp_path / "a.dcm", GRID, planes(truth), segments=(1, 2))
    for other in (
        Grid(_moved(GRID, (0, 0.3, 0)), GRID.shape),
        GRID.with_spacing((3.3, 1.4, 0.9)),
        Grid.from_spacing(GRID.spacing, GRID.shape, GRID.origin),
    ):
        refused(GridError, path, "does not lie on the voxels of the image", "resample", like=other)


def test_rounded_headers_are_the_same_voxels(tmp_path, truth):
    path = write_seg(tmp_path / "a.dcm", GRID, planes(truth), segments=(1, 2))
    rounded = Grid(np.round(GRID.affine, 4), GRID.shape)
    (found,) = read_masks(path, rounded)
    assert found.grid == rounded
    assert np.array_equal(found.data, truth)


def test_as_few_volumes_as_will_do(tmp_path):
    a, b, c = np.zeros((3, 4, 4), bool)
    a[:2], b[1:3], c[3:] = True, True, True
    grid = Grid.from_spacing((2, 1, 1), (1, 4, 4))
    path = write_seg(tmp_path / "a.dcm", grid, [(5, 0, a), (7, 0, b), (300, 0, c)], segments=(5, 7, 300))
    one, two = read_masks(path)
    assert one.data.dtype == np.uint16
    assert [*one.labels] == [5, 300]
    assert [*two.labels] == [7]
    assert np.array_equal(one.data[0], np.where(a, 5, np.where(c, 300, 0)))
    assert np.array_equal(two.data[0], np.where(b, 7, 0))


def test_planes_that_are_far_apart_know_the_step_of_the_image(tmp_path, rng):
    mask = rng.random((4, 5)) > 0.5
    grid = Grid.from_spacing((2.0, 1.0, 1.5), (9, 4, 5), (10, 20, 30))
    path = write_seg(tmp_path / "a.dcm", grid, [(1, 1, mask), (1, 7, mask)])
    (found,) = read_masks(path, grid)
    assert np.flatnonzero(found.data.any(axis=(1, 2))).tolist() == [1, 7]
    (alone,) = read_masks(path)
    assert alone.grid.spacing[0] in (2.0, 12.0)
    assert alone.grid.to_world((0, 0, 0)) == pytest.approx(grid.to_world((1, 0, 0)))
    assert alone.grid.to_world((alone.grid.shape[0] - 1, 0, 0)) == pytest.approx(grid.to_world((7, 0, 0)))


def test_a_tilted_gantry_leans_the_planes(tmp_path, truth):
    affine = Grid.from_spacing((3, 1, 1.2), (5, 6, 7), (1, 2, 3)).affine.copy()
    affine[1, 0] = 0.8
    grid = Grid(affine, (5, 6, 7))
    path = write_seg(tmp_path / "a.dcm", grid, planes(truth), segments=(1, 2))
    for like in (None, grid):
        (found,) = read_masks(path, like)
        assert found.grid.distance(grid) < 1e-4
        assert np.array_equal(found.data, truth)


@pytest.mark.parametrize("compressed", [False, True])
def test_fractions_become_probabilities(tmp_path, rng, compressed):
    import pydicom

    stored = rng.integers(0, 201, (2, 5, 6, 7)).astype(np.uint8)
    frames = [(n + 1, k, stored[n, k]) for n in range(2) for k in range(5)]

    def compress(ds):
        if compressed:
            ds.compress(pydicom.uid.RLELossless)

    path = write_seg(
        tmp_path / "a.dcm", GRID, frames, "FRACTIONAL", segments=(1, 2), most=200, change=compress,
        SegmentationFractionalType="OCCUPANCY",
    )  # fmt: skip
    found = read_masks(path, GRID)
    for n, volume in enumerate(found):
        assert volume.kind == "probability"
        assert volume.data.dtype == np.float32
        assert np.allclose(volume.data, stored[n] / 200, atol=1e-6)
        assert [*volume.labels] == [n + 1]
        assert volume.meta["notes"] == [f"values are the share of a voxel that is part {n + 1}"]


@pytest.mark.parametrize(("bits", "background"), [(8, 0), (16, 9)])
def test_label_maps(tmp_path, truth, bits, background):
    stored = np.where(truth == 0, background, truth.astype(int) * (200 if bits == 16 else 1)).astype(np.uint16)
    numbers = (200, 400) if bits == 16 else (1, 2)
    path = write_seg(
        tmp_path / "a.dcm", GRID, [(None, k, stored[k]) for k in range(5)], "LABELMAP", segments=(0, *numbers),
        bits=bits, **({"PixelPaddingValue": background} if background else {}),
        SOPClassUID="1.2.840.10008.5.1.4.1.1.66.7",
    )  # fmt: skip
    (found,) = read_masks(path)
    assert np.array_equal(found.data, truth.astype(int) * (200 if bits == 16 else 1))
    assert [*found.labels] == [*numbers]


def label_map(path, *frames):
    uid = "1.2.840.10008.5.1.4.1.1.66.7"
    return write_seg(path, GRID, [(None, k, m) for k, m in frames], "LABELMAP", segments=(0, 1, 2), SOPClassUID=uid)


def test_label_maps_with_two_frames_on_one_plane(tmp_path, truth):
    planes = [(k, truth[k]) for k in range(5)]
    left, right = truth[1].copy(), truth[1].copy()
    left[:, 3:], right[:, :3] = 0, 0
    assert left.any()
    assert right.any()
    path = label_map(tmp_path / "a.dcm", planes[0], (1, left), (1, right), *planes[2:])
    assert np.array_equal(read_masks(path)[0].data, truth)
    other = np.where(truth[1] > 0, 3 - truth[1].astype(int), 0)
    path = label_map(tmp_path / "b.dcm", *planes, (1, other))
    with pytest.raises(FileError, match=r"different labels in several frames \(frame 6\): export"):
        read_masks(path)


def test_another_frame_of_reference_is_told(tmp_path, truth):
    path = write_seg(tmp_path / "a.dcm", GRID, planes(truth), segments=(1, 2))
    image = Volume(truth, GRID, name="CT", meta={"series": {"frame_of_reference_uid": "1.2.3.9"}})
    assert "the image CT has another frame of reference" in read_masks(path, image)[0].meta["notes"][-1]


def _without(*keywords):
    def change(ds):
        for keyword in keywords:
            delattr(ds, keyword)

    return change


def _set(**attributes):
    def change(ds):
        for name, value in attributes.items():
            setattr(ds, name, value)

    return change


def _spoil_frame(ds):
    del ds.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence


def _shift(ds):
    place = ds.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    row = ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient[:3]
    place.ImagePositionPatient = [
        f"{float(p) + 5 * float(r):.6f}" for p, r in zip(place.ImagePositionPatient, row, strict=True)
    ]


def _cut_pixels(ds):
    ds.PixelData = ds.PixelData[:4]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_spoil_frame, ["where frame 2 lies"]),
        (_shift, ["shifted sideways"]),
        (_cut_pixels, ["cannot be decoded"]),
        (_set(SegmentationType="SURFACE"), ["SURFACE", "only BINARY"]),
        (_without("SegmentSequence"), ["describes no segments"]),
        (_without("PerFrameFunctionalGroupsSequence"), ["describes 0 of its 4 frames"]),
        (_set(Rows=0), ["impossible size"]),
    ],
)
def test_segmentations_that_cannot_be(tmp_path, truth, change, words):
    frames = [(1, k, truth[k] > 0) for k in (0, 1, 3, 4)]
    path = write_seg(tmp_path / "a.dcm", GRID, frames, change=change)
    refused(FileError, path, str(path), *words)


def test_planes_unevenly_apart(tmp_path, truth):
    def change(ds):
        place = ds.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
        normal = np.cross(*np.array(
            ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient, float
        ).reshape(2, 3))  # fmt: skip
        place.ImagePositionPatient = [f"{v:.6f}" for v in np.array(place.ImagePositionPatient, float) + 1.1 * normal]

    path = write_seg(tmp_path / "a.dcm", GRID, [(1, k, truth[k] > 0) for k in (0, 1, 3, 4)], change=change)
    refused(FileError, path, "unevenly apart")


def test_a_segment_that_is_not_described(tmp_path, truth):
    refused(FileError, write_seg(tmp_path / "a.dcm", GRID, planes(truth)), "uses segment 2")


def test_changed_bytes_never_crash(tmp_path, truth, rng):
    raw = write_seg(tmp_path / "a.dcm", GRID, planes(truth), segments=(1, 2)).read_bytes()
    path = tmp_path / "b.dcm"
    for _ in range(100):
        changed = bytearray(raw)
        for place_ in rng.integers(132, len(raw), 3):
            changed[place_] = rng.integers(0, 256)
        path.write_bytes(changed)
        with contextlib.suppress(LightboxError):
            read_masks(path)


# Both -----------------------------------------------------------------------------------------------------------------


def test_what_is_no_mask(dicom_series, tmp_path):
    folder, _, _ = dicom_series()
    image = next(folder.iterdir())
    assert kind_of(image) is None
    assert image_of(image) == ""
    refused(FileError, image, "holds no structures (CT)")
    refused(FileError, folder, "is a folder")
    refused(FileError, tmp_path / "gone.dcm", "does not exist")
    (tmp_path / "text.dcm").write_text("hello")
    assert kind_of(tmp_path / "text.dcm") is None
    refused(FileError, tmp_path / "text.dcm", "no DICOM file")
    with pytest.raises(InputError, match="like must be the Volume of an image"):
        read_masks(image, like="ct.nii.gz")


def test_the_usual_way_of_opening_leads_here(tmp_path, truth):
    path = write_seg(tmp_path / "a.dcm", GRID, planes(truth), segments=(1, 2))
    assert kind_of(path) == "SEG"
    assert np.array_equal(io.read(path).data, truth)
    (found,) = io.read_all(path)
    assert found.kind == "labels"
    full = np.ones((6, 7), bool)
    both = write_seg(tmp_path / "b.dcm", GRID, [(1, 0, full), (2, 0, full)], segments=(1, 2))
    assert len(io.read_all(both)) == 2
    with pytest.raises(FileError, match="need 2 volumes"):
        io.read(both)


def test_where_voxels_do_not_coincide():
    grid = Grid.from_spacing((2, 1, 1), (4, 5, 6))
    assert place(grid, grid).view(np.arange(120).reshape(4, 5, 6)).shape == (4, 5, 6)
    assert place(grid, Grid(_moved(grid, (0.5, 0, 0)), grid.shape)) is None
    beside = place(grid, Grid(_moved(grid, (100, 0, 0)), grid.shape))
    assert beside.view(np.zeros((4, 5, 6))).size == 0


def test_colours_of_the_standard():
    """CIELab values of sRGB primaries at the white point D50, as ICC profiles give them."""
    for lab, colour in (
        ((54.29, 80.81, 69.89), "#ff0000"),
        ((87.82, -79.29, 80.99), "#00ff00"),
        ((29.57, 68.30, -112.03), "#0000ff"),
        ((100, 0, 0), "#ffffff"),
    ):
        stored = (lab[0] / 100 * 65535, (lab[1] + 128) / 255 * 65535, (lab[2] + 128) / 255 * 65535)
        found = colour_of([round(v) for v in stored])
        assert max(abs(int(found[n : n + 2], 16) - int(colour[n : n + 2], 16)) for n in (1, 3, 5)) <= 2
