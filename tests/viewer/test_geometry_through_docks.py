"""An oblique, anisotropic, left-handed volume goes through every dock, to a file, and into two other programs.

Its three frames hold the patient coordinates z, y and x of every voxel. Whatever a dock does, nibabel and SimpleITK
must find at each voxel of the saved result the very position that they compute for it.
"""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from difficult_grids import difficult_grid
from napari.layers import Labels, Layer
from qtpy.QtCore import Qt
from scipy import ndimage

from napari_lightbox.catalogue import OPERATIONS
from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.ops.spatial import affine_matrix
from napari_lightbox.viewer import docks
from napari_lightbox.viewer.layers import volume_to_layer
from napari_lightbox.volume import Volume

TOLERANCE = 1e-3  # mm
SHIFT = (2.5, -1.25, 4.0)
# The same as tie points, typed x, y, z.
SHIFTED_POINTS = "0,0,0 > 4,-1.25,2.5; 50,0,0 > 54,-1.25,2.5; 0,50,0 > 4,48.75,2.5; 0,0,50 > 4,-1.25,52.5"
# What the dock is set to, how far the contents move, and how many voxels at the border the operation may change.
CASES = {
    "median": ({}, (0, 0, 0), 1),
    "adaptive_median": ({}, (0, 0, 0), 3),
    "percentile": ({}, (0, 0, 0), 1),
    "mean": ({}, (0, 0, 0), 1),
    "gaussian": ({"sigma": 0.5}, (0, 0, 0), 3),
    # Coordinates below 0 make no field: nothing is fitted above so high a threshold.
    "bias_correction": ({"threshold": 1e6}, (0, 0, 0), 0),
    "opening": ({"radius": 0.9}, (0, 0, 0), 2),
    "closing": ({"radius": 0.9}, (0, 0, 0), 2),
    "affine": ({"translate": SHIFT}, SHIFT, 0),
    "resample": ({"spacing": (1.5, 2.0, 1.1)}, (0, 0, 0), 0),
    "reorient": ({"code": "RAS"}, (0, 0, 0), 0),
    "crop": ({"start": (1, 2, 3), "stop": (8, 12, 14)}, (0, 0, 0), 0),
    "pad": ({"before": (2.0, 3.0, 0.0)}, (0, 0, 0), 0),
    "projective": ({"matrix": affine_matrix(SHIFT).tolist()}, SHIFT, 0),
    "polynomial": ({"pairs": SHIFTED_POINTS, "degree": 1}, SHIFT, 0),
    "lens_distortion": ({}, (0, 0, 0), 0),
    # What adds something to every voxel, by nothing.
    "gaussian_noise": ({"sigma": 0.0}, (0, 0, 0), 0),
    "rician_noise": ({"sigma": 0.0}, (0, 0, 0), 0),
    "poisson_noise": ({"gain": 0.0}, (0, 0, 0), 0),
    "salt_and_pepper": ({"amount": 0.0}, (0, 0, 0), 0),
    "periodic_noise": ({"amplitude": 0.0}, (0, 0, 0), 0),
    "bias_field": ({"strength": 0.0}, (0, 0, 0), 0),
    "intensity": ({}, (0, 0, 0), 0),
    "motion_ghost": ({"amplitude": 0.0}, (0, 0, 0), 0),
    # Coordinates are the mean of those beside them.
    "thick_slices": ({"thickness": 3 * difficult_grid().spacing[0]}, (0, 0, 0), 3),
    "missing_slices": ({"fill": "interpolated"}, (0, 0, 0), 0),
}
MIRRORED = {"flip"}
MASKS = ("otsu", "region_grow", "threshold")
# These change the outline of things: what the dock is set to, and the result by scipy where the voxels are stored.
OUTLINES = {
    "minimum": ("image", {}, lambda a: ndimage.minimum_filter(a, 3)),
    "maximum": ("image", {}, lambda a: ndimage.maximum_filter(a, 3)),
    "erosion": ("image", {"radius": 0.9}, lambda a: ndimage.grey_erosion(a, (1, 3, 1))),
    "dilation": ("labels", {"radius": 0.9}, lambda a: ndimage.grey_dilation(a, (1, 3, 1))),
    "components": ("labels", {}, lambda a: ndimage.label(a)[0]),
    "fill_holes": ("labels", {}, ndimage.binary_fill_holes),
    "distance_transform": (
        "labels",
        {},
        lambda a: ndimage.distance_transform_edt(a == 0, difficult_grid().spacing).astype(np.float32),
    ),
}
# Of labels, a picture is made.
PICTURES = {"distance_transform"}
# Frequencies lie on no grid of the patient.
NOWHERE = {"spectrum"}
# What takes a few frequencies and leaves a block standing.
WAVES = {"notch": {"centers": "4, 3", "radius": 0.5}, "band_reject": {"center": 5.0, "width": 0.2}}


def coordinates(grid: Grid) -> np.ndarray:
    """Return (3, z, y, x): the world z, y, x of every voxel."""
    return np.moveaxis(grid.to_world(np.moveaxis(np.indices(grid.spatial_shape), 0, -1)), -1, 0)


def by_nibabel(path):
    """Return values (frames first) and world points (z, y, x; LPS) of every voxel, by nibabel alone."""
    loaded = nib.load(path)
    values = np.asarray(loaded.dataobj)
    values = np.moveaxis(values, -1, 0) if values.ndim == 4 else values[None]
    index = np.moveaxis(np.indices(values.shape[1:]), 0, -1)
    return values, (nib.affines.apply_affine(loaded.affine, index) * (-1, -1, 1))[..., ::-1]


def by_simpleitk(path):
    """Return the same by SimpleITK alone."""
    picture = SimpleITK.ReadImage(str(path))
    values = SimpleITK.GetArrayFromImage(picture)
    values = values if values.ndim == 4 else values[None]
    dimension = picture.GetDimension()
    direction = np.array(picture.GetDirection()).reshape(dimension, dimension)[:3, :3]
    index = np.moveaxis(np.indices(values.shape[1:]), 0, -1)[..., ::-1]
    points = (index * picture.GetSpacing()[:3]) @ direction.T + picture.GetOrigin()[:3]
    return values, points[..., ::-1]


def run_dock(viewer, qtbot, name, settings):
    dock = getattr(docks, name)(viewer)
    viewer.window.add_dock_widget(dock, name=name)
    for field, value in settings.items():
        dock.fields[field].set_value(value)
    qtbot.mouseClick(dock.apply_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not dock.bar.running, timeout=20000)
    return dock


@pytest.fixture
def located(make_napari_viewer):
    """Return a viewer with the volume that knows where its voxels are."""
    grid = difficult_grid((9, 12, 15), Frames("time", (0.0, 0.5, 1.0), "s"))
    assert grid.left_handed
    assert grid.obliquity > 10
    viewer = make_napari_viewer()
    volume = Volume(coordinates(grid), grid, name="located")
    viewer.add_layer(Layer.create(*volume_to_layer(volume)))
    return viewer


def test_every_operation_is_covered():
    assert {*CASES, *MASKS, *OUTLINES, *WAVES, *NOWHERE, *MIRRORED} == set(OPERATIONS)


@pytest.mark.parametrize("reader", [by_nibabel, by_simpleitk])
@pytest.mark.parametrize("name", CASES)
def test_voxels_stay_where_they_are(located, qtbot, tmp_path, name, reader):
    settings, shift, border = CASES[name]
    dock = run_dock(located, qtbot, name, settings)
    assert len(located.layers) == 2, dock.bar.message
    path = tmp_path / "result.nii.gz"
    assert located.layers[-1].save(str(path), plugin="napari-lightbox")
    values, points = reader(path)
    assert values.shape[0] == 3
    inside = (slice(border, -border or None),) * 3
    found = np.moveaxis(values, 0, -1)[inside]
    wanted = (points - shift)[inside]
    # Outside of what was filmed there is nothing to compare with.
    index = difficult_grid((9, 12, 15)).to_index(wanted)
    known = ((index >= 0) & (index <= np.array((8, 11, 14)))).all(axis=-1)
    assert known.sum() > 100
    assert np.abs(found - wanted)[known].max() < TOLERANCE


@pytest.mark.parametrize(("axis", "world"), [("left-right", 2), ("superior-inferior", 0)])
def test_a_flip_mirrors_the_patient(located, qtbot, tmp_path, axis, world):
    dock = run_dock(located, qtbot, "flip", {"axis": axis})
    assert len(located.layers) == 2, dock.bar.message
    path = tmp_path / "result.nii.gz"
    located.layers[-1].save(str(path), plugin="napari-lightbox")
    grid = difficult_grid((9, 12, 15))
    normal = max(grid.direction.T, key=lambda direction: abs(direction[world]))
    for reader in (by_nibabel, by_simpleitk):
        values, points = reader(path)
        middle = points.reshape(-1, 3).mean(axis=0)
        mirrored = points - 2 * ((points - middle) @ normal)[..., None] * normal
        assert np.abs(np.moveaxis(values, 0, -1) - mirrored).max() < TOLERANCE


def test_resampled_onto_another_layer(located, qtbot, tmp_path):
    target = Grid.from_spacing((2, 1.5, 1), (10, 10, 10), difficult_grid().to_world((4, 5, 7)) - 6)
    other = located.add_layer(Layer.create(*volume_to_layer(Volume(np.zeros(target.shape), target, name="target"))))
    dock = docks.resample(located)
    located.window.add_dock_widget(dock)
    dock.layers["volume"].choose(located.layers["located"])
    dock.layers["like"].choose(other)
    qtbot.mouseClick(dock.apply_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not dock.bar.running, timeout=20000)
    path = tmp_path / "result.nii"
    located.layers[-1].save(str(path), plugin="napari-lightbox")
    for reader in (by_nibabel, by_simpleitk):
        values, points = reader(path)
        index = difficult_grid().to_index(points)
        known = ((index >= 0) & (index <= np.array((8, 11, 14)))).all(axis=-1)
        assert known.sum() > 50
        assert np.abs(np.moveaxis(values, 0, -1) - points)[known].max() < TOLERANCE


@pytest.fixture
def block(make_napari_viewer):
    """Return a viewer with a bright block in an oblique volume, and the block's voxels."""
    grid = difficult_grid()
    data = np.zeros(grid.shape, np.int16)
    data[2:6, 3:9, 4:11] = 500
    data[2, 3, 4] = 0  # no symmetry that could hide a flip
    viewer = make_napari_viewer()
    viewer.add_layer(Layer.create(*volume_to_layer(Volume(data, grid, name="block"))))
    return viewer, grid.to_world(np.argwhere(data))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("name", MASKS)
def test_regions_stay_where_they_are(block, qtbot, tmp_path, name, suffix):
    viewer, wanted = block
    if name == "region_grow":
        image = viewer.layers["block"]
        viewer.add_points([image.data_to_world(np.argwhere(image.data)[3])], name="seed")
        viewer.layers.selection.active = image
    settings = {"threshold": 10.0} if name == "region_grow" else {}
    dock = run_dock(viewer, qtbot, name, settings)
    made = next((layer for layer in viewer.layers if isinstance(layer, Labels)), None)
    assert made is not None, dock.bar.message
    path = tmp_path / f"region{suffix}"
    made.save(str(path), plugin="napari-lightbox")
    readers = (by_nibabel, by_simpleitk) if suffix == ".nii.gz" else (by_simpleitk,)
    for reader in readers:
        values, points = reader(path)
        found = points[values[0] > 0]
        assert len(found) == len(wanted)
        nearest = np.linalg.norm(found[:, None] - wanted[None], axis=-1).min(axis=1)
        assert nearest.max() < TOLERANCE


@pytest.mark.parametrize("name", OUTLINES)
def test_outlines_lie_where_they_are_stored(make_napari_viewer, qtbot, tmp_path, name):
    kind, settings, function = OUTLINES[name]
    grid = difficult_grid()
    data = np.zeros(grid.shape, np.uint8)
    data[2:6, 3:9, 4:11] = 1
    data[2, 3, 4] = data[3, 5, 6] = 0
    viewer = make_napari_viewer()
    viewer.add_layer(Layer.create(*volume_to_layer(Volume(data, grid, kind, name="block"))))
    dock = run_dock(viewer, qtbot, name, settings)
    assert len(viewer.layers) == 2, dock.bar.message
    made = viewer.layers[-1]
    assert isinstance(made, Labels) == (kind == "labels" and name not in PICTURES)
    path = tmp_path / "result.nii.gz"
    made.save(str(path), plugin="napari-lightbox")
    wanted = grid.to_world(np.argwhere(function(data)))
    for reader in (by_nibabel, by_simpleitk):
        values, points = reader(path)
        found = points[values[0] > 0]
        assert len(found) == len(wanted)
        nearest = np.linalg.norm(found[:, None] - wanted[None], axis=-1).min(axis=1)
        assert nearest.max() < TOLERANCE


@pytest.mark.parametrize("name", WAVES)
def test_filters_of_frequencies_keep_the_place(block, qtbot, tmp_path, name):
    viewer, wanted = block
    dock = run_dock(viewer, qtbot, name, WAVES[name])
    made = viewer.layers[-1]
    assert made.name.startswith(f"block · {name[:4]}".replace("_", "-")), dock.bar.message
    path = tmp_path / "notched.nii.gz"
    made.save(str(path), plugin="napari-lightbox")
    for reader in (by_nibabel, by_simpleitk):
        values, points = reader(path)
        found = points[values[0] > 250]
        distance = np.linalg.norm(found[:, None] - wanted[None], axis=-1).min(axis=1)
        # The filter may move the outline of the block; what is left of it lies on the very same voxels.
        assert np.mean(distance < TOLERANCE) > 0.9
        assert len(found) > 0.9 * len(wanted)
