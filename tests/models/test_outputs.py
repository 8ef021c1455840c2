"""Outputs made elsewhere: read back they are what was saved, and what does not fit its image is refused."""

import contextlib
import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_objects import write_seg
from output_files import NAMES, SHAPE, entropy, nifti, npz, refused
from scipy.special import expit, softmax

import napari_lightbox as lb
from napari_lightbox.cli import main
from napari_lightbox.errors import FileError, GridError, InputError
from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.io import convention
from napari_lightbox.models.outputs import read_outputs
from napari_lightbox.ops.spatial import reorient
from napari_lightbox.volume import Volume

# Probabilities and logits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["npz", "npz logits", "4D", "4D logits", "files", "npy"])
def test_every_way_of_saving_says_the_same(tmp_path, image, logits, how):
    p = softmax(logits, axis=0)
    values = logits if "logits" in how else p
    if how.startswith("npz"):
        path = npz(tmp_path / "case.npz", **{"logits" if "logits" in how else "probabilities": values})
    elif how.startswith("4D"):
        path = nifti(tmp_path / "case.nii.gz", values, image.grid)
    elif how == "npy":
        path = tmp_path / "case.npy"
        np.save(path, values)
    else:
        path = [nifti(tmp_path / f"case_{n}.nii.gz", values[n], image.grid) for n in range(3)]
    found = read_outputs(path, image, NAMES)
    assert np.array_equal(found.labels.data, p.argmax(axis=0))
    for n, name in enumerate(NAMES.values()):
        assert np.allclose(found.probability(name).data, p[n], atol=1e-6)
        assert found.probability(n).kind == "probability"
        assert found.probability(n).grid == image.grid
    assert np.allclose(found.uncertainty.data, entropy(p), atol=1e-5)
    assert [(v, label.name) for v, label in found.labels.labels.items()] == [(1, "lung"), (2, "bone")]
    assert found.labels.grid == image.grid
    assert any("were taken as logits: softmax" in note for note in found.notes) is ("logits" in how)
    assert "does not say where it lies" in " ".join(found.notes) if how.startswith("np") else True
    assert found.labels.meta["modality"] == "CT"


def test_what_our_own_model_says_comes_back(tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Conv3d(1, 3, 3, padding=1)
    grid = Grid.from_spacing((3, 2, 2), (8, 9, 10))
    volume = Volume(np.random.default_rng(1).normal(0, 1, grid.shape).astype(np.float32), grid, name="scan")
    truth = lb.models.predict(volume, net, probabilities="all", uncertainty=True)
    paths = [lb.write(truth.probability(v), tmp_path / f"{v}.nii.gz") for v in (2, 0, 1)]
    stacked = npz(tmp_path / "a.npz", probabilities=np.stack([truth.probability(v).data for v in (0, 1, 2)]))
    for found in (read_outputs(paths, volume), read_outputs(stacked, volume)):
        assert np.array_equal(found.labels.data, truth.labels.data)
        assert np.allclose(found.uncertainty.data, truth.uncertainty.data, atol=1e-6)
        for value in (0, 1, 2):
            assert np.allclose(found.probability(value).data, truth.probability(value).data, atol=1e-7)
    logits = npz(tmp_path / "b.npz", logits=np.stack([
        lb.models.predict(volume, net, kind="image").output(c).data for c in range(3)
    ]))  # fmt: skip
    found = read_outputs(logits, volume)
    assert np.array_equal(found.labels.data, truth.labels.data)
    assert np.allclose(found.probability(1).data, truth.probability(1).data, atol=1e-6)
    labels = lb.write(truth.labels, tmp_path / "labels.nrrd")
    again = read_outputs(labels, volume)
    assert np.array_equal(again.labels.data, truth.labels.data)
    assert again.labels.history == truth.labels.history


def test_the_shipped_model_saved_and_loaded(tmp_path):
    pytest.importorskip("torch")
    grid = Grid.from_spacing((6, 6, 6), (10, 18, 20), (-30, -60, -60))
    image, _ = lb.phantoms.thorax(grid)
    model = lb.models.load("ct-regions")
    truth = lb.models.predict(image, model, probabilities="all", uncertainty=True)
    values = model.card.output.values
    path = npz(tmp_path / "a.npz", probabilities=np.stack([truth.probability(v).data for v in values]))
    found = read_outputs(path, image, model.card)
    assert np.array_equal(found.labels.data, truth.labels.data)
    assert dict(found.labels.labels) == dict(truth.labels.labels)
    assert found.card.name == model.card.name
    assert np.allclose(found.uncertainty.data, truth.uncertainty.data, atol=1e-6)


def test_a_single_class(tmp_path, image, rng):
    values = rng.normal(0, 4, SHAPE).astype(np.float32)
    for stored in (values, expit(values)):
        found = read_outputs(nifti(tmp_path / "a.nii.gz", stored, image.grid), image, {"3": "tumour"})
        assert np.array_equal(found.labels.data, 3 * (values > 0))
        assert np.allclose(found.probability("tumour").data, expit(values), atol=1e-6)
        p = np.stack([expit(values), 1 - expit(values)])
        assert np.allclose(found.uncertainty.data, entropy(p), atol=1e-5)


def test_the_background_may_be_left_out(tmp_path, image, logits):
    p = softmax(logits, axis=0)
    found = read_outputs(npz(tmp_path / "a.npz", softmax=p[1:]), image, {"1": "lung", "2": "bone"})
    assert np.array_equal(found.labels.data, p.argmax(axis=0))
    assert np.allclose(found.probability(0).data, p[0], atol=1e-6)
    assert any("what the other classes leave" in note for note in found.notes)


def test_regions_are_written_in_their_order(tmp_path, image, rng):
    p = rng.random((3, *SHAPE)).astype(np.float32)
    dataset = {
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": [3]},
        "regions_class_order": [2, 1, 3],
    }
    expected = np.zeros(SHAPE, int)
    for channel, value in enumerate((2, 1, 3)):
        expected[p[channel] > 0.5] = value
    found = read_outputs(npz(tmp_path / "a.npz", probabilities=p), image, dataset)
    assert np.array_equal(found.labels.data, expected)
    assert found.labels.labels[2].name == "whole"
    assert np.array_equal(found.probability("core").data, p[1])
    each = np.stack([entropy(np.stack([one, 1 - one])) for one in p])
    assert np.allclose(found.uncertainty.data, each.max(axis=0), atol=1e-5)
    logits = read_outputs(npz(tmp_path / "b.npz", logits=np.log(p / (1 - p))), image, dataset)
    assert np.allclose(logits.probability("core").data, p[1], atol=1e-4)


def test_frames(tmp_path, rng):
    grid = Grid.from_spacing((3, 2, 2), (4, *SHAPE), frames=Frames("time", (0, 1, 2, 3), "s"))
    image = Volume(np.zeros(grid.shape, np.int16), grid, name="heart")
    logits = rng.normal(0, 2, (3, *grid.shape)).astype(np.float32)
    found = read_outputs(npz(tmp_path / "a.npz", logits=logits), image, NAMES)
    assert found.labels.grid == grid
    assert np.array_equal(found.labels.data, logits.argmax(axis=0))
    truth = logits.argmax(axis=0).astype(np.uint8)
    again = read_outputs(nifti(tmp_path / "a.nii.gz", truth, grid.without_frames(), np.uint8), image, NAMES)
    assert np.array_equal(again.labels.data, truth)
    refused(InputError, npz(tmp_path / "b.npz", labels=truth[0]), image, words=["shape (5, 6, 7)"])
    refused(InputError, nifti(tmp_path / "b.nii.gz", truth[:3], grid.without_frames()), image, words=["3 frames"])


def test_pictures(tmp_path, rng):
    image = Volume.from_array(rng.integers(0, 255, (6, 9)).astype(np.uint8))
    p = softmax(rng.normal(0, 2, (2, 6, 9)), axis=0)
    for stored in (p, p[:, None]):
        found = read_outputs(npz(tmp_path / "a.npz", probabilities=stored), image)
        assert np.array_equal(found.labels.data[0], p.argmax(axis=0))
    mask = (p.argmax(axis=0) * 255).astype(np.uint8)
    from PIL import Image

    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert np.array_equal(read_outputs(tmp_path / "mask.png", image).labels.data[0], mask)


# Labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64])
def test_labels_of_any_type(tmp_path, image, rng, dtype):
    truth = rng.integers(0, 3, SHAPE)
    found = read_outputs(nifti(tmp_path / "a.nii.gz", truth, image.grid, dtype), image, NAMES)
    assert np.array_equal(found.labels.data, truth)
    assert found.labels.data.dtype == np.uint8
    assert found.labels.name == "CT · a"
    for ask in (lambda: found.uncertainty, lambda: found.probability(1)):
        with pytest.raises(InputError, match="labels hold no"):
            ask()


def test_labels_that_have_no_name_are_told(tmp_path, image, rng):
    truth = rng.choice([0, 1, 7, 300], SHAPE)
    found = read_outputs(nifti(tmp_path / "a.nii.gz", truth, image.grid, np.int16), image, NAMES)
    assert any("without a name: 7, 300" in note for note in found.notes)
    assert found.labels.labels[300].name == "class 300"
    assert found.labels.data.dtype == np.uint16


@pytest.mark.parametrize("code", ["RAS", "LPI", "SAR"])
def test_another_order_of_the_same_voxels_is_turned(tmp_path, image, rng, code):
    truth = Volume(rng.integers(0, 3, SHAPE).astype(np.uint8), image.grid, "labels")
    turned = reorient(truth, code)
    path = tmp_path / "a.mha"
    itk = sitk.GetImageFromArray(turned.data)
    geometry = convention.itk_geometry(turned.grid.affine)
    itk.SetOrigin(geometry["origin"]), itk.SetSpacing(geometry["spacing"]), itk.SetDirection(geometry["direction"])
    sitk.WriteImage(itk, str(path))
    found = read_outputs(path, image, NAMES)
    assert np.array_equal(found.labels.data, truth.data)
    assert any("turned, voxel by voxel" in note for note in found.notes)


def test_other_grids_are_refused(tmp_path, image, rng):
    truth = rng.integers(0, 3, SHAPE)
    affine = image.grid.affine.copy()
    affine[:3, 3] += 0.4
    refused(GridError, nifti(tmp_path / "a.nii.gz", truth, Grid(affine, SHAPE)), image, words=["origin", "resample"])
    refused(
        GridError, nifti(tmp_path / "a.nii.gz", truth[:3], Grid(image.grid.affine, (3, 6, 7))), image, words=["size"]
    )
    stacked = softmax(rng.normal(0, 1, (2, *SHAPE)), axis=0)
    refused(GridError, nifti(tmp_path / "b.nii.gz", stacked, Grid(affine, SHAPE)), image, words=["another grid"])


# Arrays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", ["cxyz", "zyxc", "xyzc"])
def test_transposed_arrays_are_told_and_can_be_turned(tmp_path, image, logits, axes):
    stored = logits.transpose(["czyx".index(a) for a in axes])
    path = npz(tmp_path / "a.npz", logits=stored)
    refused(InputError, path, image, NAMES, words=[repr(axes), "axes="])
    found = read_outputs(path, image, NAMES, axes=axes)
    assert np.array_equal(found.labels.data, logits.argmax(axis=0))


def test_arrays_of_another_shape(tmp_path, image, logits):
    refused(InputError, npz(tmp_path / "a.npz", logits=logits[:, :3]), image, words=["(3, 3, 6, 7)", "(5, 6, 7)"])
    refused(InputError, npz(tmp_path / "a.npz", logits=logits[0, 0]), image, words=["(6, 7)"])
    refused(InputError, npz(tmp_path / "a.npz", logits=logits), image, axes="czy", words=["'czy' do not fit"])
    refused(InputError, npz(tmp_path / "a.npz", logits=logits), image, axes="czyy", words=["'czyy' do not fit"])


def test_arrays_by_name(tmp_path, image, logits):
    path = npz(tmp_path / "a.npz", one=logits, two=-logits)
    refused(InputError, path, image, NAMES, words=["one, two", "key="])
    refused(InputError, path, image, NAMES, key="three", words=["'three' is not in"])
    assert np.array_equal(read_outputs(path, image, NAMES, key="two").labels.data, (-logits).argmax(axis=0))


def test_nothing_in_a_file_is_run(tmp_path, image):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = npz(tmp_path / "a.npz", probabilities=np.array([Bomb()], dtype=object))
    refused(FileError, path, image, words=["run code"])
    np.save(tmp_path / "b.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    refused(FileError, tmp_path / "b.npy", image, words=["run code"])
    (tmp_path / "c.pkl").write_bytes(b"\x80\x04.")
    refused(InputError, tmp_path / "c.pkl", image, words=["is a pickle"])
    assert not (tmp_path / "ran").exists()


def test_damaged_files(tmp_path, image, logits, rng):
    raw = npz(tmp_path / "a.npz", logits=logits).read_bytes()
    path = tmp_path / "b.npz"
    refused(FileError, tmp_path / "gone.npz", image, words=["does not exist"])
    for cut in (0, 10, 200, len(raw) - 30):
        path.write_bytes(raw[:cut])
        refused(FileError, path, image, words=["damaged"])
    for _ in range(40):
        changed = bytearray(raw)
        for place in rng.integers(0, len(raw), 3):
            changed[place] = rng.integers(0, 256)
        path.write_bytes(changed)
        with contextlib.suppress(lb.LightboxError):
            read_outputs(path, image)


# Values that cannot be --------------------------------------------------------------------------------------------


def test_values_that_cannot_be(tmp_path, image, logits, rng):
    p = softmax(logits, axis=0)
    broken = p.copy()
    broken[1, 2, 3, 4] = np.nan
    refused(InputError, npz(tmp_path / "a.npz", p=broken), image, NAMES, words=["1 values that are NaN"])
    refused(InputError, npz(tmp_path / "a.npz", p=p * 0.5), image, NAMES, words=["sums go from 0.5 to 0.5", "regions"])
    refused(InputError, npz(tmp_path / "a.npz", p=logits), image, NAMES, activation="none", words=["no probabilities"])
    refused(InputError, npz(tmp_path / "a.npz", p=(p * 255).astype(np.uint8)), image, NAMES, words=["whole numbers"])
    refused(InputError, npz(tmp_path / "a.npz", p=p), image, {"1": "lung"}, words=["3 classes, but 2 are named"])
    refused(InputError, npz(tmp_path / "a.npz", p=-np.ones(SHAPE, np.int16)), image, words=["labels from -1"])
    refused(InputError, npz(tmp_path / "a.npz", p=p), image, activation="relu", words=["'relu' is unknown"])
    refused(InputError, npz(tmp_path / "a.npz", p=p), image, kind="image", words=["'image' is unknown"])
    refused(InputError, npz(tmp_path / "a.npz", p=p), image, kind="regions", activation="softmax", words=["regions"])
    refused(InputError, [], image, words=["path names no file"])
    refused(InputError, npz(tmp_path / "a.npz", p=p), "CT", words=["like must be the Volume"])
    refused(InputError, npz(tmp_path / "a.npz", p=p), image, NAMES, probabilities="liver", words=["'liver' is unknown"])


def test_rounded_and_interpolated_probabilities_are_probabilities(tmp_path, image, logits):
    p = softmax(logits, axis=0)
    half = read_outputs(npz(tmp_path / "a.npz", probabilities=p.astype(np.float16)), image, NAMES)
    assert np.allclose(half.probability(1).data, p[1], atol=1e-3)
    over = p.copy()
    over[0] -= 0.08
    over[1] += 0.08
    found = read_outputs(npz(tmp_path / "a.npz", probabilities=over), image, NAMES)
    assert found.probability(0).data.min() == 0
    assert any("cut to 0 .. 1" in note for note in found.notes)


def test_voxels_without_any_class_are_told(tmp_path, image, logits):
    p = softmax(logits, axis=0)
    p[:, 0] = 0
    found = read_outputs(npz(tmp_path / "a.npz", probabilities=p), image, NAMES)
    assert not found.labels.data[0].any()
    assert any("42 voxels have no class" in note for note in found.notes)


def test_only_what_was_asked_for_is_kept(tmp_path, image, logits):
    path = npz(tmp_path / "a.npz", logits=logits)
    found = read_outputs(path, image, NAMES, probabilities="lung", uncertainty=False)
    assert found.kept == (1,)
    with pytest.raises(InputError, match="not kept"):
        found.probability(2)
    with pytest.raises(InputError, match="uncertainty=True"):
        _ = found.uncertainty


def test_dicom_segmentations(tmp_path, image, rng):
    pytest.importorskip("pydicom")
    truth = rng.integers(0, 3, SHAPE)
    frames = [(v, k, truth[k] == v) for v in (1, 2) for k in range(5)]
    found = read_outputs(write_seg(tmp_path / "a.dcm", image.grid, frames, segments=(1, 2)), image)
    assert np.array_equal(found.labels.data, truth)
    stored = rng.integers(0, 120, (2, *SHAPE)).astype(np.uint8)
    frames = [(v, k, stored[v - 1, k]) for v in (1, 2) for k in range(5)]
    path = write_seg(tmp_path / "b.dcm", image.grid, frames, "FRACTIONAL", segments=(1, 2))
    found = read_outputs(path, image)
    p = np.concatenate([1 - stored.sum(axis=0, keepdims=True) / 255, stored / 255])
    assert np.array_equal(found.labels.data, p.argmax(axis=0))
    assert np.allclose(found.probability("part 2").data, stored[1] / 255, atol=1e-6)
    full = np.ones(SHAPE[1:], bool)
    both = write_seg(tmp_path / "c.dcm", image.grid, [(1, 0, full), (2, 0, full)], segments=(1, 2))
    refused(InputError, both, image, words=["not 1", "regions"])
    regions = read_outputs(both, image, kind="regions")
    assert (regions.labels.data[0] == 2).all()
    assert regions.probability("part 1").data.sum() == full.sum()


# Real -------------------------------------------------------------------------------------------------------------


def test_real_labels_of_five_algorithms(data):
    image = lb.read(data("glioma_five_predictions/OtherEXampleFromTCIA_fla_bet.nii.gz"))
    names = {"1": "necrosis", "2": "oedema", "4": "active tumour"}
    path = data("glioma_five_predictions/segmentation/isen-20.nii.gz")
    found = read_outputs(path, image, names)
    truth = np.asarray(nib.load(path).dataobj).T
    assert np.array_equal(found.labels.data, truth)
    assert found.labels.grid == image.grid


# The command ------------------------------------------------------------------------------------------------------


def test_the_command(tmp_path, image, logits, capsys):
    like = lb.write(image, tmp_path / "ct.nii.gz")
    path = npz(tmp_path / "case.npz", logits=logits)
    (tmp_path / "names.json").write_text(json.dumps(NAMES))
    call = ["outputs", str(path), "--like", str(like), "--out", str(tmp_path / "out"), "--uncertainty"]
    call += ["--classes", str(tmp_path / "names.json"), "--probability", "lung"]
    assert main(call) == 0
    assert "were taken as logits" in capsys.readouterr().out
    p = softmax(logits, axis=0)
    names = ["ct_case_labels.nii.gz", "ct_case_p_lung.nii.gz", "ct_case_uncertainty.nii.gz"]
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == names
    labels, lung, unsure = (lb.read(tmp_path / "out" / name) for name in names)
    assert np.array_equal(labels.data, p.argmax(axis=0))
    assert np.allclose(lung.data, p[1], atol=1e-6)
    assert np.allclose(unsure.data, entropy(p), atol=1e-5)
    assert labels.grid.same_space(image.grid)
    assert main(call) == 2
    assert "exists: choose another folder, or add --overwrite" in capsys.readouterr().err
    assert main([*call, "--overwrite"]) == 0
    assert main([*call[:-1], "liver", "--overwrite"]) == 2
    assert "'liver' is unknown" in capsys.readouterr().err


def test_the_command_with_labels_alone(tmp_path, image, rng, capsys):
    like = lb.write(image, tmp_path / "ct.nii.gz")
    path = nifti(tmp_path / "seg.nii.gz", rng.integers(0, 3, SHAPE), image.grid, np.uint8)
    call = ["outputs", str(path), "--like", str(like), "--out", str(tmp_path / "out")]
    assert main(call) == 0
    for more in (["--uncertainty"], ["--probability", "1"]):
        assert main([*call, *more, "--overwrite"]) == 2
        assert "labels hold no" in capsys.readouterr().err


def test_an_output_that_is_named_like_its_image(tmp_path, image, logits):
    found = read_outputs(npz(tmp_path / "CT.npz", logits=logits), image, NAMES)
    assert found.labels.name == "CT · output"


def test_colours_of_the_file_stay_with_names_from_elsewhere(tmp_path, image, rng):
    labels = {1: lb.Label("one", "#123456"), 2: lb.Label("two", "#654321")}
    path = lb.write(Volume(rng.integers(0, 3, SHAPE).astype(np.uint8), image.grid, "labels", labels=labels),
                    tmp_path / "a.nii.gz")  # fmt: skip
    found = read_outputs(path, image, NAMES)
    assert found.labels.labels[2] == lb.Label("bone", "#654321")
