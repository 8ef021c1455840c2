"""Tables of points come back onto their image, and files that hold labels open as labels. No window is needed."""

from fnmatch import fnmatch

import numpy as np
import pytest
from difficult_grids import difficult_grid
from napari.components import ViewerModel
from napari.layers import Layer

import napari_lightbox as lb
from napari_lightbox.errors import FileError
from napari_lightbox.geometry import Frames
from napari_lightbox.viewer import readers
from napari_lightbox.viewer.label_files import NOTE
from napari_lightbox.viewer.layers import make_layer
from napari_lightbox.viewer.manifest import manifest
from napari_lightbox.viewer.points_file import TABLE, points_table, read_points, write_points
from napari_lightbox.viewer.seeds import new_points, points_to_seeds
from napari_lightbox.volume import Volume


def image_on(grid, name="ct") -> Volume:
    return Volume(np.arange(np.prod(grid.shape), dtype=np.int16).reshape(grid.shape), grid, name=name)


@pytest.mark.parametrize("frames", [None, Frames("time", (0.0, 0.5, 1.0), "s")])
def test_points_come_back_where_they_were(tmp_path, frames):
    """On an oblique, flipped volume; with another one over it that does not hold them."""
    grid = difficult_grid((8, 9, 10)).with_frames(frames)
    viewer = ViewerModel()
    image = viewer.add_layer(make_layer(image_on(grid)))
    drawn = viewer.add_layer(new_points(image, "seeds"))
    drawn.add([(2, 3, 4, 5)[-image.ndim :], (1, 0, 7, 0)[-image.ndim :]])
    path = tmp_path / f"lesion{TABLE}"
    write_points(points_table(drawn, viewer), path)
    viewer.layers.remove(drawn)
    small = difficult_grid((2, 2, 2))
    viewer.add_layer(make_layer(image_on(small, "small")))
    layer = Layer.create(*read_points(path, viewer))
    assert layer.name == "lesion"
    assert layer.ndim == image.ndim
    for before, after in zip(drawn.data, layer.data, strict=True):
        np.testing.assert_allclose(layer.data_to_world(after), drawn.data_to_world(before), atol=1e-4)
    np.testing.assert_allclose(points_to_seeds(layer, image), points_to_seeds(drawn, image), atol=1e-4)
    assert layer.units == image.units


def test_points_without_a_frame_are_in_all_frames(tmp_path):
    grid = difficult_grid((8, 9, 10))
    viewer = ViewerModel()
    image = viewer.add_layer(make_layer(image_on(grid)))
    drawn = new_points(image)
    drawn.add([(2, 3, 4)])
    write_points(points_table(drawn, viewer), tmp_path / "one.csv")
    viewer.layers.clear()
    cine = viewer.add_layer(make_layer(image_on(grid.with_frames(Frames("time", (0.0, 1.0), "s")))))
    layer = Layer.create(*read_points(tmp_path / "one.csv", viewer))
    assert layer.ndim == 3
    np.testing.assert_allclose(cine.world_to_data((0, *layer.data_to_world(layer.data[0])))[1:], (2, 3, 4), atol=1e-4)


def test_what_is_no_table_of_ours_is_left_to_others(tmp_path):
    ours, other = tmp_path / f"a{TABLE}", tmp_path / "points.csv"
    write_points([(1.0, 2.0, 3.0, "")], ours)
    other.write_text("index,axis-0,axis-1\n0,1.0,2.0\n")
    (patterns,) = (one["filename_patterns"] for one in manifest()["contributions"]["readers"])
    assert any(fnmatch(ours.name, pattern) for pattern in patterns)
    assert not any(fnmatch(other.name, pattern) for pattern in patterns)
    assert readers.get_reader(str(ours)) is readers.read_layers
    assert readers.get_reader(str(other)) is None
    with pytest.raises(FileError, match="open the image first"):
        read_points(ours, ViewerModel())
    ours.write_text(ours.read_text().replace("2.0", "two"))
    with pytest.raises(FileError, match="damaged table of points"):
        read_points(ours, ViewerModel())


def test_labels_are_told_by_name_and_values(tmp_path):
    grid = difficult_grid((8, 9, 10))
    labels = Volume(np.arange(720, dtype=np.int16).reshape(grid.shape) % 5, grid)
    picture = Volume(np.arange(720, dtype=np.int16).reshape(grid.shape), grid)
    cases = (
        ("ct_seg.nii.gz", labels, "labels"),
        ("Brain-Mask2.nrrd", labels, "labels"),
        ("aseg.mha", labels, "labels"),
        ("phase.nii.gz", labels, "image"),
        ("segmented_head.nii.gz", labels, "image"),
        ("ct_seg_original.nii.gz", picture, "image"),
        ("mask_difference.nii.gz", labels.replace(data=labels.data - 1), "image"),
        ("seg_probability.nii.gz", labels.replace(data=labels.data.astype(np.float32)), "image"),
    )
    for name, volume, kind in cases:
        lb.write(volume, tmp_path / name)
        (read,) = readers._read(tmp_path / name)
        assert read.kind == kind, name
        np.testing.assert_array_equal(read.data, volume.data)
        assert read.grid.same_space(grid, 1e-4)
        assert (NOTE in read.meta.get("notes", ())) == (kind == "labels")
