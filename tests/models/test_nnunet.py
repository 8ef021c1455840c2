"""Results folders of nnU-Net: prepared as if by hand, with networks of which it is known what they say."""

import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from scipy import ndimage
from skimage.transform import resize

torch = pytest.importorskip("torch")

import nnunet_folders as folders  # noqa: E402
from nets import Net, make_card  # noqa: E402

from napari_lightbox import models  # noqa: E402
from napari_lightbox.cli import main  # noqa: E402
from napari_lightbox.errors import InputError  # noqa: E402
from napari_lightbox.geometry import Frames, Grid  # noqa: E402
from napari_lightbox.models import nnunet  # noqa: E402
from napari_lightbox.models.plan import options_for  # noqa: E402
from napari_lightbox.volume import Volume  # noqa: E402

TURNED = np.diag([1.0, -1.0, -1.0])
TWO = {"background": 0, "bright": 1}


def scan(shape=(14, 20, 24), spacing=(2.0, 1.1, 1.0), *, direction=None, empty=True, seed=0):
    """Return an image that no flip and no swap of axes leaves as it is, with zeros around it."""
    rng = np.random.default_rng(seed)
    data = 90 + 300 * ndimage.gaussian_filter(rng.normal(0, 1, shape), 1.5)
    data += 4 * np.arange(shape[2])
    if empty:
        data[:2] = data[:, -3:] = data[:, :, :4] = 0
    grid = Grid.from_spacing(spacing, shape, (5, -7, 11), direction)
    return Volume(data.astype(np.float32), grid, name="scan", meta={"modality": "CT"})


def known_folder(folder, *, limits=(0.0,), labels=TWO, shift=0, mirror=None, dims=3, dataset=None, **of_plans):
    """Write a folder whose network compares its image with limits."""
    of_plans = {"patch": (8, 8, 8)[:dims], "network": folders.pointwise(folders.architecture(dims)), **of_plans}
    plans = folders.make_plans(**of_plans)
    name = of_plans.get("name", "3d_fullres")
    dataset = dataset or folders.make_dataset(labels)
    network = folders.known_network(plans, dataset, name, limits=limits, shift=shift)
    folders.write_folder(folder, plans, dataset, name=name, networks=[network], mirror=mirror)
    return folder


def box(data):
    found = np.argwhere(data != 0)
    return tuple(slice(a, b) for a, b in zip(found.min(0), found.max(0) + 1, strict=True))


def ct(data):
    """Return the CT normalisation of the made-up plans."""
    return (np.clip(data, -300, 400) - 90) / 120


@pytest.fixture
def single(monkeypatch):
    """Let windows be added up in single precision: what is worked out by hand then holds to the last voxel."""
    make_plan = nnunet.make_plan
    monkeypatch.setattr(nnunet, "make_plan", lambda *given: replace(make_plan(*given), halved=False))


# Preparing an image ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("shape", [(9, 31, 17), (20, 8, 13), (12, 20, 7)])
def test_resampling_is_that_of_scikit_image(rng, shape, order):
    image = rng.normal(0, 1, (12, 20, 13)).astype(np.float32)
    wanted = resize(image, shape, order=order, mode="edge", anti_aliasing=False, preserve_range=True)
    found = nnunet.resample(image, shape, nnunet.Resampling(order=order))
    assert np.abs(found - wanted).max() < 1e-5
    assert (found.min(), found.max()) == pytest.approx((wanted.min(), wanted.max()), abs=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("count", [5, 10, 27])
def test_thick_slices_are_resampled_each_for_itself(rng, axis, count):
    image = np.moveaxis(rng.normal(0, 1, (10, 16, 12)).astype(np.float32), 0, axis)
    shape = [11, 19]
    shape.insert(axis, count)
    found = np.moveaxis(nnunet.resample(image, shape, nnunet.Resampling(3), axis), axis, 0)
    plane = found.shape[1:]
    before = np.moveaxis(image, axis, 0)
    slices = np.stack([resize(s, plane, order=3, mode="edge", anti_aliasing=False) for s in before])
    places = 10 / count * (np.arange(count) + 0.5) - 0.5
    grid = np.meshgrid(places, *map(np.arange, plane), indexing="ij")
    wanted = ndimage.map_coordinates(slices, grid, order=0, mode="nearest")
    assert np.abs(found - wanted).max() < 1e-5


def test_which_axis_is_thick():
    assert nnunet.thick_axis((3, 1, 1), (3, 1, 1)) is None
    assert nnunet.thick_axis((3.1, 1, 1), (1, 1, 1)) == 0
    assert nnunet.thick_axis((1, 1, 1), (1, 1, 3.5)) == 2
    assert nnunet.thick_axis((0.2, 1, 1), (1, 1, 1)) is None  # two thick axes are none
    assert nnunet.thick_axis((5, 1, 1), (5, 1, 1), False) is None
    assert nnunet.thick_axis((2, 1, 1), (1, 1, 1), True) == 0
    assert nnunet.thick_axis((1, 1, 1), (1, 1, 1), True) is None


def test_the_gaussian_stands_where_nnunet_puts_it():
    from napari_lightbox.models import windows

    point = np.zeros(16)
    point[8] = 1
    wanted = ndimage.gaussian_filter(point, 2, mode="constant", truncate=9)
    assert np.allclose(windows.profile(16, "gaussian", rounded=True), wanted / wanted.max(), atol=1e-6)


@pytest.mark.parametrize(
    ("spacing", "target", "thick"),
    [((2.0, 1.1, 1.0), (1.5, 1.5, 1.5), None), ((4.0, 1.0, 1.1), (3.0, 0.8, 0.8), 0), ((1, 1, 1), (1, 1, 1), None)],
)
def test_labels_are_those_of_preparing_by_hand(tmp_path, single, spacing, target, thick):
    image = scan(spacing=spacing, direction=TURNED)
    folder = known_folder(tmp_path / "m", limits=(0.1, 0.6), labels={**TWO, "brightest": 2}, spacing=target)
    found = models.predict(image, models.load(folder), probabilities="all")
    inside = box(image.data)
    part = ct(image.data[inside])
    shape = tuple(round(a / b * n) for a, b, n in zip(spacing, target, part.shape, strict=True))
    if thick is None:
        small = resize(part, shape, order=3, mode="edge", anti_aliasing=False)
        back = resize(small, part.shape, order=1, mode="edge", anti_aliasing=False)
    else:
        small = nnunet.resample(part, shape, nnunet.Resampling(3), thick)
        slices = np.stack([resize(s, part.shape[1:], order=1, mode="edge", anti_aliasing=False) for s in small])
        nearest = np.floor(shape[0] / part.shape[0] * (np.arange(part.shape[0]) + 0.5)).astype(int)
        back = slices[nearest]
    wanted = np.zeros(image.data.shape, int)
    wanted[inside] = (back > 0.1) + 1 * (back > 0.6)
    assert found.labels.grid == image.grid
    assert np.mean(found.labels.data != wanted) < 3e-4
    assert min(np.bincount(wanted.ravel())) > 100
    logits = np.stack([0 * back, back - 0.1, 2 * back - 0.7])
    soft = np.exp(logits) / np.exp(logits).sum(0)
    for value in (0, 1, 2):
        outside = np.full(image.data.shape, float(value == 0))
        outside[inside] = soft[value]
        assert np.abs(found.probability(value).data - outside).max() < 1e-4


def test_the_network_sees_axes_as_the_plans_say(tmp_path, single):
    # It looks at the next voxel of its last axis: of x as stored, of z where the plans turn z last, and of x from left
    # to right where nnU-Net turned its images to RAS.
    image = scan(spacing=(1, 1, 1), direction=TURNED, empty=False)
    bright = ct(image.data) > 0
    cases = {
        "plain": (bright[:, :, 1:], np.s_[:, :, :-1], {}),
        "turned": (bright[1:], np.s_[:-1], {"transpose": (2, 1, 0)}),
    }
    for name, (wanted, where, of_plans) in cases.items():
        found = models.predict(image, models.load(known_folder(tmp_path / name, shift=1, **of_plans)))
        assert np.array_equal(found.labels.data[where], wanted)
    folder = known_folder(tmp_path / "ras", shift=1)
    plans = json.loads((folder / "plans.json").read_text())
    (folder / "plans.json").write_text(json.dumps({**plans, "image_reader_writer": "NibabelIOWithReorient"}))
    found = models.predict(image, models.load(folder))
    towards = image.grid.code[0]
    step = np.s_[:, :, :-1] if towards == "R" else np.s_[:, :, 1:]
    seen = bright[:, :, 1:] if towards == "R" else bright[:, :, :-1]
    assert np.array_equal(found.labels.data[step], seen)


def test_mirroring_is_that_of_the_checkpoint(tmp_path, single):
    image = scan(spacing=(1, 1, 1), empty=False)
    one = models.load(known_folder(tmp_path / "one", shift=1, mirror=(2,)))
    assert options_for(one.card).mirror == (2,)
    assert models.read_card(tmp_path / "one").window.mirror == (2,)
    value = ct(image.data)
    both = (value[:, :, 2:] + value[:, :, :-2]) / 2 > 0
    found = models.predict(image, one).labels.data[:, :, 1:-1]
    assert np.mean(found != both) < 1e-3
    alone = models.predict(image, one, mirror=False).labels.data[:, :, 1:-1]
    assert np.array_equal(alone, value[:, :, 2:] > 0)


def in_half_precision(networks, image, size):
    """Return what nnU-Net 2.8 adds up of an image (1, z, y, x): every fold for itself, in arrays of half precision."""
    point = np.zeros(size)
    point[tuple(n // 2 for n in size)] = 1
    gaussian = ndimage.gaussian_filter(point, [n / 8 for n in size], 0, mode="constant", cval=0)
    gaussian = (10 * gaussian / gaussian.max()).astype(np.float16)
    gaussian[gaussian == 0] = gaussian[gaussian > 0].min()
    counts = [int(np.ceil((n - s) / (0.5 * s))) + 1 for n, s in zip(image.shape[1:], size, strict=True)]
    spans = [(n - s) / max(1, c - 1) for n, s, c in zip(image.shape[1:], size, counts, strict=True)]
    mean = 0
    for network in networks:
        total, weight = np.zeros((2, *image.shape[1:]), np.float16), np.zeros(image.shape[1:], np.float16)
        for number in np.ndindex(*counts):
            start = [round(i * span) for i, span in zip(number, spans, strict=True)]
            place = tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))
            with torch.inference_mode():
                answer = network(torch.from_numpy(image[(slice(None), *place)])[None])[0].numpy()
            total[(slice(None), *place)] = total[(slice(None), *place)].astype(np.float32) + answer * gaussian
            weight[place] += gaussian
        mean = mean + total / weight
    return mean / np.float16(len(networks))


@pytest.mark.parametrize("folds", [1, 2])
def test_sums_are_rounded_to_half_precision_as_nnunet_does(tmp_path, folds):
    plans, dataset = folders.make_plans(patch=(8, 8, 8)), folders.make_dataset(TWO)
    folders.write_folder(tmp_path / "m", plans, dataset, folds=folds, mirror=None)
    image = scan((13, 19, 22), (1, 1, 1), empty=False)
    model = models.load(tmp_path / "m")
    networks = list(model.module.folds) if folds > 1 else [model.module]
    assert len(networks) == folds
    wanted = in_half_precision(networks, ct(image.data)[None].astype(np.float32), (8, 8, 8))
    found = models.predict(image, model, probabilities="all")
    assert np.array_equal(found.labels.data, wanted.argmax(0))
    soft = np.exp(wanted.astype(np.float32))
    assert np.abs(found.probability(1).data - soft[1] / soft.sum(0)).max() < 1e-6
    parts = models.predict(image, model, memory=1, check=False)
    assert np.array_equal(parts.labels.data, found.labels.data)


def test_logits_too_large_for_half_precision_are_refused(tmp_path):
    folder = known_folder(tmp_path / "m", limits=(-1e6,))
    with pytest.raises(InputError, match="too large for sums in half precision"):
        models.predict(scan(spacing=(1, 1, 1), empty=False), models.load(folder))


def test_masked_z_scores_and_regions(tmp_path):
    image = scan(spacing=(1, 1, 1)).replace(meta={"modality": "MR"})
    image.data[7, 10:12, 12:14] = 0  # a hole, which counts as inside
    labels = {"background": 0, "all": [1, 2], "bright": [2], "ignore": 3}
    dataset = folders.make_dataset(labels, ("MR",), regions_class_order=[1, 2])
    folder = known_folder(
        tmp_path / "m", limits=(0.05, 0.7), dataset=dataset, schemes=("ZScoreNormalization",), masked=[True],
    )  # fmt: skip
    model = models.load(folder)
    assert model.card.output.kind == "regions"
    assert {v: one.name for v, one in model.card.output.labels.items()} == {1: "all", 2: "bright"}
    inside = np.zeros(image.data.shape, bool)
    inside[box(image.data)] = True
    assert inside[7, 10, 12]
    values = image.data[inside]
    score = (image.data - values.mean()) / values.std()
    wanted = np.where(inside, (score > 0.05) + 1 * (score > 0.7), 0)
    assert np.array_equal(models.predict(image, model).labels.data, wanted)


def test_every_frame_is_cropped_for_itself(tmp_path):
    frames = [scan(spacing=(1.5, 1, 1), seed=n, empty=n > 0) for n in range(3)]
    frames[2].data[:] = 0
    grid = frames[0].grid.with_frames(Frames("time", (0.0, 1.0, 2.0), "s"))
    together = Volume(np.stack([f.data for f in frames]), grid, name="scan", meta={"modality": "CT"})
    model = models.load(known_folder(tmp_path / "m"))
    found = models.predict(together, model).labels.data
    assert not found[2].any()
    for number in range(2):
        assert np.array_equal(found[number], models.predict(frames[number], model).labels.data)


def test_slices_of_a_2d_network(tmp_path):
    image = scan(shape=(6, 21, 30), spacing=(3, 0.8, 0.8))
    folder = known_folder(tmp_path / "m", dims=2, name="2d", patch=(16, 16), spacing=(1.0, 1.0), mirror=(0, 1))
    found = models.predict(image, models.load(folder))
    inside = box(image.data)
    part = ct(image.data[inside])
    small = resize(part, (part.shape[0], *(round(0.8 * n) for n in part.shape[1:])), order=3, mode="edge",
                   anti_aliasing=False)  # fmt: skip
    wanted = np.zeros(image.data.shape, bool)
    wanted[inside] = resize(small, part.shape, order=1, mode="edge", anti_aliasing=False) > 0
    assert np.mean(found.labels.data != wanted) < 1e-3


# Folders --------------------------------------------------------------------------------------------------------


def test_folds_answer_together_or_one_by_one(tmp_path):
    parent = tmp_path / "Dataset001_MadeUp"
    folder = parent / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    networks = folders.write_folder(folder, folders.make_plans(patch=(8, 8, 8)), folds=2, mirror=None)
    model = models.load(folder)
    x = torch.rand(2, 1, 8, 8, 8)
    with torch.no_grad():
        answers = [network(x) for network in networks]
        assert torch.allclose(model.module(x), (answers[0] + answers[1]) / 2, atol=1e-6)
        for named in (folder / "fold_1", folder / "fold_1" / "checkpoint_final.pth"):
            assert torch.equal(models.load(str(named)).module(x), answers[1])
    assert models.load(parent).sha256 == model.sha256 != models.load(folder / "fold_0").sha256
    assert model.name == "Dataset001_MadeUp 3d_fullres"
    assert "fold 0, 1" in model.describe()
    folders.write_folder(parent / "nnUNetTrainer__nnUNetPlans__3d_lowres", name="3d_lowres")
    with pytest.raises(InputError, match=r"3d_fullres, .*3d_lowres"):
        models.load(parent)


def test_history_repeats_the_prediction(tmp_path):
    image = scan()
    folder = known_folder(tmp_path / "m", spacing=(1.5, 1.5, 1.5), mirror=(0, 2))
    found = models.predict(image, str(folder)).labels
    step = found.history[-1]
    assert step["parameters"]["mirror"] == [0, 2]
    assert np.array_equal(models.replay(step, image, step["parameters"]).data, found.data)


def test_a_quote_is_made_without_the_weights(tmp_path, monkeypatch):
    folder = known_folder(tmp_path / "m")
    monkeypatch.setattr(torch, "load", None)
    image = scan(spacing=(1, 1, 1), shape=(8, 12, 16))
    assert models.quote(image, folder).windows == 2 * 3
    assert models.quote(image, folder).memory_bytes > image.data.nbytes


def test_the_command_line_runs_a_folder(tmp_path, capsys):
    folder = known_folder(tmp_path / "m", spacing=(1.5, 1.5, 1.5))
    image = scan(direction=TURNED)
    affine = np.diag([-1.0, -1.1, 2.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(np.transpose(image.data, (2, 1, 0)), affine), tmp_path / "scan.nii.gz")
    out = ["--out", str(tmp_path / "out"), "--read-as", "image"]
    # No NIfTI file says that it is CT, and nothing in this one is below 0.
    assert main(["predict", str(folder), str(tmp_path / "scan.nii.gz"), *out]) == 1
    assert "are not Hounsfield units" in capsys.readouterr().err
    assert main(["predict", str(folder), str(tmp_path / "scan.nii.gz"), *out, "--force"]) == 0
    (made,) = (tmp_path / "out").glob("*.nii.gz")
    assert made.name == "scan_Dataset001_MadeUp-3d_fullres.nii.gz"
    assert np.allclose(nibabel.load(made).affine, affine)
    wanted = models.predict(image, folder).labels.data
    assert np.array_equal(np.asarray(nibabel.load(made).dataobj).transpose(2, 1, 0), wanted)
    assert main(["models", str(folder)]) == 0
    assert "Dataset001_MadeUp 3d_fullres" in capsys.readouterr().out


def test_photographs_are_measured_in_pixels(tmp_path):
    image = scan(shape=(1, 20, 26), spacing=(5, 0.3, 0.3), empty=False)
    image = image.replace(meta={"spacing_known": False})
    folder = known_folder(tmp_path / "m", dims=2, name="2d", patch=(8, 8), spacing=(1.0, 1.0))
    plans = json.loads((folder / "plans.json").read_text())
    with pytest.raises(InputError, match="spacing"):
        models.predict(image, folder)
    (folder / "plans.json").write_text(json.dumps({**plans, "image_reader_writer": "NaturalImage2DIO"}))
    assert np.array_equal(models.predict(image, folder).labels.data, ct(image.data) > 0)


def test_a_card_may_ask_for_the_same_rule_and_mirroring(rng):
    rule = {"rule": "zscore", "low": -300, "high": 400, "mean": 90, "std": 120}
    channels = [{"name": "CT", "intensity": rule}]
    card = make_card(input__channels=channels, window__size=[4, 4, 4], window__mirror=[2])
    image = Volume.from_array(rng.normal(90, 400, (4, 6, 8)).astype(np.float32), spacing=(1, 1, 1))
    seen = Net()
    models.predict(image, models.Model(card, seen))
    assert len(seen.seen) % 2 == 0
    assert np.allclose(seen.seen[1], seen.seen[0][..., ::-1])
    wanted = ct(np.asarray(image.data))
    assert np.allclose(seen.seen[0][0, 0], wanted[:4, :4, :4], atol=1e-6)
    for bad in ([3], [-1], "z", [True]):
        with pytest.raises(InputError, match="mirror"):
            make_card(window__mirror=bad)
    with pytest.raises(InputError, match="greater than low"):
        make_card(input__channels=[{"name": "CT", "intensity": {**rule, "high": -400}}])
