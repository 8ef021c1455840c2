"""The report: pictures the right way round and to scale, numbers that are right, a page that needs no other file."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

import napari_lightbox as lb
from napari_lightbox import report
from napari_lightbox.report import colours, page, words
from napari_lightbox.report.histogram import histogram
from napari_lightbox.volume import Label, Volume

# Letters at top, bottom, left and right of each plane as radiologists hang them.
HANGING = {"axial": "APRL", "coronal": "SIRL", "sagittal": "SIAP"}
BRIGHT = 200


def patient(code: str = "LPS", spacing=(4.0, 2.0, 1.0), affine=None) -> Volume:
    """Return a dark box with one bright block in the patient's left, posterior, superior corner, stored as `code`."""
    data = np.zeros((10, 20, 40), np.int16)
    data[7:, 14:, 28:] = 1000
    grid = lb.Grid.from_spacing(spacing, data.shape) if affine is None else lb.Grid(affine, data.shape)
    volume = Volume(data, grid, name="box", meta={"modality": "MR", "unit": "au"})
    return lb.apply("reorient", volume, code=code).replace(history=(), name="box")


def pictures(volume: Volume, **kwargs) -> dict[str, np.ndarray]:
    # The planes go through the middle of the bright corner.
    place = (8.0 * 4, 17.0 * 2, 34.0)
    view = report.View(kwargs.pop("point", place), size=kwargs.pop("size", 400))
    return {p.plane: np.asarray(p.image) for p in report.draw(volume, view, **kwargs)}


def brightest_corner(picture: np.ndarray) -> str:
    """Say in which quarter of a picture the light is."""
    grey = picture.mean(axis=2)
    rows, columns = grey.shape
    quarters = {
        "top left": grey[: rows // 2, : columns // 2],
        "top right": grey[: rows // 2, columns // 2 :],
        "bottom left": grey[rows // 2 :, : columns // 2],
        "bottom right": grey[rows // 2 :, columns // 2 :],
    }
    return max(quarters, key=lambda name: quarters[name].mean())


@pytest.mark.parametrize("code", ["LPS", "RAS", "SAR", "PIL", "ASL", "IRP"])
def test_planes_hang_as_radiologists_hang_them(code):
    """Left is on the right, posterior at the bottom (or right), the head at the top: however the file stores it."""
    found = pictures(patient(code))
    assert brightest_corner(found["axial"]) == "bottom right"
    assert brightest_corner(found["coronal"]) == "top right"
    assert brightest_corner(found["sagittal"]) == "top right"


@pytest.mark.parametrize("code", ["LPS", "RAS", "PIR"])
def test_aspect_is_that_of_the_patient(code):
    found = pictures(patient(code))
    # 40 mm along z (S), 40 mm along y (P), 40 mm along x (L): all planes are squares of 400 pixels.
    assert {p.shape[:2] for p in found.values()} == {(400, 400)}
    flat = pictures(patient(code, spacing=(4.0, 2.0, 0.5)))
    assert flat["axial"].shape[:2] == (400, 200)
    assert flat["coronal"].shape[:2] == (400, 200)
    assert flat["sagittal"].shape[:2] == (400, 400)


@pytest.mark.parametrize(("plane", "wanted"), HANGING.items())
def test_letters_name_the_sides(plane, wanted):
    for code in ("LPS", "RAS", "SPL"):
        assert "".join(report.letters(patient(code).grid, plane)) == wanted


def test_letters_of_an_oblique_volume_are_marked():
    angle = np.radians(10)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    grid = lb.Grid(turn, (10, 20, 40))
    assert report.letters(grid, "axial") == ("A~", "P~", "R~", "L~")
    # The axis that the rotation goes about is straight.
    assert report.letters(grid, "coronal") == ("S", "I", "R~", "L~")


def test_unknown_orientation_shows_no_sides():
    assert report.letters(patient().grid, "axial", known=False) == ("?", "?", "?", "?")


def test_a_single_slice_has_one_plane():
    flat = Volume.from_array(np.eye(20, dtype=np.uint8), spacing=(1, 2))
    assert report.planes_of(flat.grid) == ["axial"]
    assert pictures(flat, point=(0, 0, 0))["axial"].shape[:2] == (200, 400)


def test_labels_lie_on_their_voxels():
    volume = patient()
    labels = volume.replace(data=(volume.data > 0).astype(np.uint8), kind="labels", labels={1: Label("a", "#ff0000")})
    dark = volume.replace(data=np.zeros_like(volume.data))
    drawn = pictures(dark, over=labels, limits=(0, 1))["axial"].astype(int)
    red = (drawn[..., 0] > 60) & (drawn[..., 1] < 20)
    rows, columns = np.nonzero(red)
    # y from voxel 14 of 20, x from voxel 28 of 40; 400 pixels each.
    assert (rows.min(), columns.min()) == (280, 280)
    assert (rows.max(), columns.max()) == (399, 399)
    # Fill is lighter than the line around it.
    assert drawn[340, 340, 0] < drawn[280, 340, 0]


def test_probability_is_a_heat_map():
    volume = patient()
    heat = volume.replace(data=np.linspace(0, 1, 40, dtype=np.float32)[None, None] * np.ones((10, 20, 1), np.float32))
    drawn = pictures(volume.replace(data=volume.data * 0), over=heat.replace(kind="probability"), limits=(0, 1))
    row = drawn["axial"][100].astype(int).sum(axis=1)
    assert row[20] < row[200] < row[380]


def test_another_grid_is_refused():
    volume = patient()
    other = Volume(volume.data[:5] > 0, lb.Grid(volume.grid.affine, (5, 20, 40)), "labels")
    with pytest.raises(lb.GridError, match="different grids"):
        pictures(volume, over=other)


def test_windows():
    assert colours.window(patient().replace(meta={"modality": "CT"})) == (-160, 240)
    own = {"windows": [{"name": "mine", "centre": 50, "width": 100}]}
    assert colours.window(patient().replace(meta=own)) == (0, 100)
    assert colours.window(patient().replace(data=np.full((10, 20, 40), 3.0))) == (3.0, 4.0)
    low, high = colours.window(patient().replace(data=np.full((10, 20, 40), np.nan)))
    assert low < high


def test_table_is_right_by_hand():
    labels = np.zeros((2, 4, 5), np.uint8)
    labels[0, :2, :3] = 1
    labels[1, 3, 4] = 7
    grid = lb.Grid.from_spacing((5.0, 2.0, 1.0), labels.shape)
    image = Volume(np.arange(40, dtype=np.int16).reshape(2, 4, 5), grid)
    rows = report.table_rows(Volume(labels, grid, "labels", labels={1: Label("one", "#112233")}), image)
    assert [r["name"] for r in rows] == ["one", "label 7"]
    assert [r["voxels"] for r in rows] == [6, 1]
    assert [r["volume_ml"] for r in rows] == pytest.approx([0.06, 0.01])
    assert rows[0]["mean"] == pytest.approx(np.mean([0, 1, 2, 5, 6, 7]))
    assert rows[1]["mean"] == 39
    assert rows[0]["colour"] == "#112233"


def test_table_of_frames():
    grid = lb.Grid.from_spacing((1, 1, 1), (2, 2, 2, 2), frames=lb.Frames("time", (0, 1), "s"))
    labels = np.zeros((2, 2, 2, 2), np.uint8)
    labels[0, 0, 0, 0] = 1
    labels[1, 0] = 1
    rows = report.table_rows(Volume(labels, grid, "labels"))
    assert [(r["frame"], r["voxels"]) for r in rows] == [(0, 1), (1, 4)]


def test_published_volumes_of_real_organs(data):
    """Volume and mean of the organs agree with the numbers that another program published."""
    image = lb.read(data("ct_abdomen_organs/example_ct_sm.nii.gz"))
    labels = lb.read(data("ct_abdomen_organs/example_seg_fast.nii.gz"), kind="labels")
    rows = {r["name"]: r for r in report.table_rows(labels, image)}
    assert rows["liver"]["volume_ml"] == pytest.approx(1062.45, abs=0.01)
    assert rows["liver"]["mean"] == pytest.approx(44.86, abs=0.01)
    assert rows["spleen"]["volume_ml"] == pytest.approx(260.01, abs=0.01)


def embedded(text: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(m))) for m in re.findall(r'base64,([^"]+)"', text)]


def test_report_is_one_whole_page(tmp_path):
    volume = patient()
    labels = lb.apply("otsu", volume)
    path = report.write_report(
        tmp_path / "r.html",
        volume,
        [labels, report.Entry(volume, title="the <box>", note="as it is", seconds=1.25, marks=[(32, 34, 34)])],
        notes=["look & see"],
        thresholds=(500.0,),
        tables={"Figures": [{"name": "a", "value": 0.5}]},
    )
    text = path.read_text(encoding="utf-8")
    # Three planes of the image, a histogram, three planes for each of two results.
    assert [p.format for p in embedded(text)] == ["PNG"] * 10
    # Nothing is fetched from anywhere, nothing runs.
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "<script" not in text
    assert "the &lt;box&gt;" in text
    assert "look &amp; see" in text
    assert "1.25 s" in text
    assert "otsu (classes 2)" in text  # what was done
    # 1/8 of the box less rounding: 3 x 6 x 12 voxels of 8 mm3.
    assert f"{3 * 6 * 12 * 8 / 1000:.3g}" in text
    assert "Volume (ml)" in text
    assert lb.__version__ in text
    assert list(tmp_path.iterdir()) == [path]


def test_single_slices_are_measured_as_areas(tmp_path):
    image = Volume.from_array(np.eye(20) * 100, spacing=(1, 1), meta={"modality": "US"})
    text = report.write_report(tmp_path / "r.html", image, [lb.apply("otsu", image)]).read_text(encoding="utf-8")
    assert "Area (cm²)" in text
    assert "0.2" in text


def test_unknown_spacing_is_said(tmp_path):
    image = Volume.from_array(np.eye(20) * 100)
    text = report.write_report(tmp_path / "r.html", image, [lb.apply("otsu", image)]).read_text(encoding="utf-8")
    assert "does not say how large its voxels are" in text
    assert "Pixels" in text


def test_a_moving_volume_shows_one_frame_and_the_range(tmp_path):
    grid = lb.Grid.from_spacing((1, 1, 1), (3, 6, 6, 6), frames=lb.Frames("time", (0, 0.5, 1), "s"))
    data = np.zeros((3, 6, 6, 6), np.uint8)
    for frame, size in enumerate((2, 4, 3)):
        data[frame, :size, :size, :size] = 200
    volume = Volume(data, grid, name="beating")
    path = report.write_report(tmp_path / "r.html", volume, [lb.apply("otsu", volume)], frame=1)
    text = path.read_text(encoding="utf-8")
    assert "Frame 2 of 3" in text
    assert "0.008 to 0.064" in text


def test_nothing_is_overwritten_silently(tmp_path):
    path = tmp_path / "r.html"
    path.write_text("mine")
    with pytest.raises(lb.FileError, match="exists"):
        report.write_report(path, patient())
    assert path.read_text() == "mine"
    report.write_report(path, patient(), overwrite=True)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"path": "r.txt"}, "must end in .html"),
        ({"path": "nowhere/r.html"}, "was not written, its folder does not exist"),
        ({"path": "r.html", "frame": 3}, "frame 3 does not exist"),
    ],
)
def test_errors_are_sentences(tmp_path, call, message):
    call = {**call, "path": tmp_path / call["path"]}
    with pytest.raises(lb.LightboxError, match=message):
        report.write_report(call.pop("path"), patient(), **call)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((1, 1, 1), np.uint8),
        np.full((3, 4, 5), np.nan),
        np.full((3, 4, 5), 7, np.int16),
        np.array([[[np.inf, 1.0, -np.inf, 3.0]]]),
        np.ones((3, 4, 5), bool),
        np.linspace(-1e30, 1e30, 60).reshape(3, 4, 5).astype(">f8"),
    ],
    ids=["one voxel", "NaN", "constant", "inf", "bool", "huge and big-endian"],
)
def test_odd_volumes_give_a_report(tmp_path, data):
    volume = Volume.from_array(data, spacing=(1, 1, 1))
    text = report.write_report(tmp_path / "r.html", volume).read_text(encoding="utf-8")
    assert all(p.size[0] > 0 for p in embedded(text))


def test_histogram_marks_its_thresholds():
    volume = Volume.from_array(np.r_[np.zeros(50), np.full(50, 100.0)].reshape(10, 10))
    plain, marked = (np.asarray(histogram(volume, t)).astype(int) for t in ((), (50.0,)))
    columns = np.nonzero((plain != marked).any(axis=(0, 2)))[0]
    # In the middle: its line, and its number above.
    assert abs(columns.mean() - plain.shape[1] / 2) < 3


def test_points_are_written_x_first():
    step = {"operation": "region_grow", "parameters": {"seeds": [[30.0, -20.0, 10.0]], "mask": None}, "plane": None}
    assert words.parameters(step) == "seeds x 10.0 y -20.0 z 30.0 mm"


def test_page_escapes_what_files_are_called():
    assert "<script>" not in page.table({"a": "text"}, [["<script>"]])
    assert "<script>" not in page.document("<script>", [page.heading("<script>"), page.note("<script>")])
