"""MONAI bundles that are not understood: nothing of them runs before they are trusted; then MONAI runs them."""

import json
import os
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bundles import INVERT, ORIENTATION, POST, SPACING, WINDOW, configuration, phantom, write_bundle  # noqa: E402
from test_monai import by_monai, written  # noqa: E402

import napari_lightbox as lb  # noqa: E402
from napari_lightbox import models, progress  # noqa: E402
from napari_lightbox.errors import FileError, InputError, MissingPart  # noqa: E402
from napari_lightbox.models.loaders import trust  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

DYN = {
    "_target_": "DynUNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 8, 8],
}  # fmt: skip
SMOOTH = {"_target_": "GaussianSmoothd", "keys": "image", "sigma": 0.7}
# Geometry that is not known here: turned, flipped, widened, cut.
MOVED = (
    SMOOTH, ORIENTATION, {"_target_": "Flipd", "keys": "image", "spatial_axis": [0]}, SPACING,
    {"_target_": "Rotate90d", "keys": "image", "spatial_axes": [0, 2]},
    {"_target_": "BorderPadd", "keys": "image", "spatial_border": [3, 0, 5]}, WINDOW,
)  # fmt: skip
CUT = {"_target_": "CropForegroundd", "keys": "image", "source_key": "image", "select_fn": "$lambda x: x > 1.2"}
LATE = [INVERT, POST[2]]
HOLES = {"_target_": "FillHolesd", "keys": "pred"}
OTHER = {"_target_": "SlidingWindowInfererAdapt", "roi_size": [16, 16, 16], "overlap": 0.5}
FOREIGN = {
    "'GaussianSmoothd'": {"before": (ORIENTATION, SPACING, WINDOW, SMOOTH), "inferer__mode": "gaussian"},
    "'Rotate90d'": {"before": MOVED},
    "select_fn": {"before": (ORIENTATION, CUT, WINDOW)},
    "'FillHolesd'": {"postprocessing__transforms": [*LATE, HOLES]},
    "'SlidingWindowInfererAdapt'": {"inferer": OTHER},
}
MARK = "it-ran"
SCRIPT = f"""
import pathlib
import torch
pathlib.Path({MARK!r}).touch()
class Brighterd:
    def __init__(self, keys, by):
        self.keys, self.by = keys, by
    def __call__(self, held):
        return {{**held, "image": held["image"] + self.by}}
class Net(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv = torch.nn.Conv3d(1, classes, 3, padding=1)
    def forward(self, x):
        return self.conv(x)
"""


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTBOX_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def dyn_bundle(folder, **changes):
    """Write a bundle whose network only MONAI has, of random weights."""
    nets = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(2)
    net = nets.DynUNet(**{key: value for key, value in DYN.items() if not key.startswith("_")})
    changes = {"network_def": dict(DYN), "postprocessing__transforms": list(LATE), **changes}
    return write_bundle(folder, configuration(**changes), weights=net)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_trusted_bundle_gives_the_labels_of_monai_unflipped(tmp_path, name):
    folder = dyn_bundle(tmp_path / "bundle", **FOREIGN[name])
    with pytest.raises(trust.Untrusted, match=f"{name}.*only MONAI itself can run.*trust=True"):
        models.load(folder)
    image = written(phantom(), tmp_path / "scan.nii.gz")
    wanted = by_monai(folder, [tmp_path / "scan.nii.gz"])[0]
    model = models.load(folder, trust=True)
    found = models.predict(image, model)
    assert found.labels.grid == image.grid
    assert np.array_equal(found.labels.data, wanted)
    assert np.mean(found.labels.data != wanted[::-1]) > 0.05
    assert {v: one.name for v, one in found.labels.labels.items()} == {1: "organ", 2: "lesion"}
    assert any(name in note for note in found.notes)
    assert found.labels.history[-1]["model"]["sha256"] == model.sha256
    assert models.quote(image, folder).memory_bytes > 0


UNETR = {"_target_": "UNETR", "img_size": "@roi", "feature_size": 4, "hidden_size": 24, "mlp_dim": 32, "num_heads": 4}
SWIN = {"_target_": "SwinUNETR", "feature_size": 12, "depths": [1] * 4, "num_heads": [1] * 4, "use_checkpoint": True}
DEEP = {**DYN, "strides": [1, 2, 2, 2], "kernel_size": [3] * 4, "upsample_kernel_size": [2] * 3,
        "filters": [4, 8, 8, 8], "deep_supervision": True, "deep_supr_num": 2}  # fmt: skip
VNET = {"_target_": "VNet"}
# Entry of the network, and size of its windows.
OTHERS = {"UNETR": (UNETR, 16), "SwinUNETR": (SWIN, 64), "VNet": (VNET, 16), "DynUNet": (DEEP, 16)}


def bundle_of(folder, entry, size):
    """Write a bundle of one of MONAI's networks, with random weights that make several classes."""
    nets = pytest.importorskip("monai.networks.nets")
    entry = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, **entry}
    args = {key: value for key, value in entry.items() if not key.startswith("_")}
    if "img_size" in args:
        args["img_size"] = [size] * 3
    torch.manual_seed(2)
    changes = {"network_def": entry, "postprocessing__transforms": list(LATE), "inferer__roi_size": [size] * 3}
    weights = getattr(nets, entry["_target_"])(**args)
    return write_bundle(folder, configuration(**changes, roi=[size] * 3), weights=weights)


@pytest.mark.parametrize(
    "name", [name if name in ("UNETR", "DynUNet") else pytest.param(name, marks=pytest.mark.slow) for name in OTHERS]
)
def test_other_networks_of_monai_give_its_labels_on_the_command_line(tmp_path, capsys, name):
    from napari_lightbox.cli import main

    entry, size = OTHERS[name]
    folder = bundle_of(tmp_path / "bundle", entry, size)
    image = written(phantom(), tmp_path / "scan.nii.gz")
    call = ["predict", str(folder), "scan.nii.gz", "--out", "out", "--device", "cpu"]
    assert main(call) == 2
    assert f"whose network {name!r} only MONAI's own code can build" in capsys.readouterr().err
    assert main([*call, "--trust"]) == 0
    (path,) = (tmp_path / "out").glob("*.nii.gz")
    found = lb.read(path)
    wanted = by_monai(folder, [tmp_path / "scan.nii.gz"])[0]
    assert found.grid == image.grid
    assert np.count_nonzero(found.data != wanted) == 0
    assert np.mean(found.data != wanted[::-1]) > 0.005
    if name == "UNETR":
        with pytest.raises(InputError, match=r"failed on a window.*or leave window out \(its card says 16, 16, 16\)"):
            models.predict(image, models.load(folder), window=(32, 32, 32))


@pytest.mark.parametrize(("entry", "by"), [(VNET, 16), (SWIN, 32), ({**SWIN, "patch_size": 1}, 1), (DYN, 1)])
def test_windows_that_a_network_cannot_halve_are_refused_before_it_is_loaded(tmp_path, entry, by):
    folder = write_bundle(tmp_path / "bundle", configuration(network_def={"out_channels": 3, **entry}), weights={})
    assert models.read_card(folder).input.divisible_by == by
    models.quote(phantom(), folder, window=(2 * by,) * 3)
    if by > 1:
        with pytest.raises(InputError, match=rf"window \(24, .*must be divisible by {by} along every axis"):
            models.quote(phantom(), folder, window=(24, 24, 24))


def test_a_swin_unetr_from_before_monai_1_5_is_built_without_its_size(tmp_path):
    nets = pytest.importorskip("monai.networks.nets")
    folder = bundle_of(tmp_path / "bundle", SWIN, 64)
    plain = models.load(folder, trust=True)
    path = folder / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["network_def"]["img_size"] = [64] * 3
    path.write_text(json.dumps(config))
    older = models.load(folder, trust=True)
    assert isinstance(older.module, nets.SwinUNETR)
    assert older.sha256 != plain.sha256
    # Of other networks an argument that MONAI does not know is refused as ever.
    config["network_def"] = {"_target_": "VNet", "img_size": 64, "out_channels": 3}
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"MONAI cannot build the network 'VNet'.*img_size"):
        models.load(folder, trust=True)


def test_our_way_of_finishing_stays_where_only_the_image_is_foreign(tmp_path):
    folder = dyn_bundle(tmp_path / "bundle", before=MOVED)
    image = written(phantom((10, 22, 20)), tmp_path / "scan.nii.gz")
    model = models.load(folder, trust=True)
    found = models.predict(image, model, probabilities="organ", uncertainty=True, memory=2e9)
    assert found.probability("organ").grid == found.uncertainty.grid == image.grid
    again = lb.Recipe.of(found.labels).run(image)
    assert np.array_equal(again.data, found.labels.data)


def test_several_frames_and_a_choice_that_means_nothing(tmp_path):
    folder = dyn_bundle(tmp_path / "bundle", postprocessing__transforms=[*LATE, HOLES])
    model = models.load(folder, trust=True)
    first, second = phantom((8, 16, 18)), phantom((8, 16, 18), seed=4)
    grid = type(first.grid)(first.grid.affine, (2, 8, 16, 18), lb.geometry.Frames("time", (0, 1), "s"))
    both = lb.Volume(np.stack([first.data, second.data]), grid, name="film", meta=first.meta)
    found = models.predict(both, model).labels
    for number, one in enumerate((first, second)):
        assert np.array_equal(found.data[number], models.predict(one, model).labels.data)
    assert np.array_equal(lb.Recipe.of(found).run(both).data, found.data)
    assert any("no uncertainty: MONAI" in note for note in models.predict(first, model, uncertainty=True).notes)
    with pytest.raises(InputError, match=r"samples 3 means nothing.*MONAI finishes"):
        models.predict(first, model, samples=3)


def test_work_in_monai_can_be_left_between_its_transforms(tmp_path):
    folder = dyn_bundle(tmp_path / "bundle", before=MOVED)
    model = models.load(folder, trust=True)
    reports = []

    def stop(*report):
        reports.append(report)
        if len(reports) == 5:
            raise progress.Cancelled

    with pytest.raises(progress.Cancelled), progress.listening(stop):
        models.predict(phantom(), model)
    assert len(reports) == 5


def with_script(folder, text=SCRIPT):
    """Write a bundle with a network and a transform of its own."""
    torch.manual_seed(0)
    state = {"conv.weight": torch.randn(3, 1, 3, 3, 3), "conv.bias": torch.zeros(3)}
    brighter = {"_target_": "scripts.own.Brighterd", "keys": "image", "by": 0.3}
    config = configuration(
        (ORIENTATION, brighter), network_def={"_target_": "scripts.own.Net", "classes": "$1 + @more"}, more=2,
        postprocessing__transforms=list(LATE),
    )  # fmt: skip
    write_bundle(folder, config, weights=state)
    (folder / "scripts").mkdir()
    (folder / "scripts" / "__init__.py").write_text("")
    (folder / "scripts" / "own.py").write_text(text)
    return folder


def test_scripts_run_only_with_trust_and_each_bundle_has_its_own(tmp_path):
    folder = with_script(tmp_path / "one")
    with pytest.raises(trust.Untrusted, match=r"'scripts\.own\.Net'.*'scripts\.own\.Brighterd'") as question:
        models.load(folder)
    models.quote(phantom(), folder)
    assert not (tmp_path / MARK).exists()
    pytest.importorskip("monai")
    trust.remember(question.value.sha256, "as the dialog does")
    model = models.load(folder)
    assert (tmp_path / MARK).exists()
    assert not (folder / "scripts" / "__pycache__").exists()
    assert "scripts.own" not in sys.modules
    found = models.predict(phantom(), model).labels.data
    assert len(np.unique(found)) == 3
    other = with_script(tmp_path / "two", SCRIPT.replace("self.conv(x)", "-self.conv(x)"))
    # Another script of the same name is asked about, and runs as itself.
    with pytest.raises(trust.Untrusted):
        models.load(other)
    opposite = models.predict(phantom(), models.load(other, trust=True)).labels.data
    assert np.mean(opposite != found) > 0.5
    assert np.array_equal(models.predict(phantom(), model).labels.data, found)


def test_what_is_refused_though_it_is_trusted(tmp_path):
    folder = with_script(tmp_path / "bundle")
    (folder / "scripts" / "fast.so").write_bytes(b"\x7fELF")
    with pytest.raises(FileError, match=r"compiled code \(fast\.so\), which is never run, trusted or not"):
        models.load(folder, trust=True)
    (folder / "scripts" / "fast.so").unlink()
    (folder / "scripts" / "more.py").symlink_to(tmp_path / "elsewhere.py")
    with pytest.raises(FileError, match="a link"):
        models.load(folder, trust=True)
    (folder / "scripts" / "more.py").unlink()
    (folder / "json.py").write_text("")
    with pytest.raises(FileError, match="stands in for a library"):
        models.load(folder, trust=True)
    assert not trust.remembered()
    assert not (tmp_path / MARK).exists()


def test_a_file_that_changed_is_asked_about_again_and_scripts_that_changed_do_not_run(tmp_path):
    """A script may open any other file, and be imported long after it was trusted."""
    late = SCRIPT.replace("return {**held", "import scripts.more; return {**held")
    folder = with_script(tmp_path / "bundle", late)
    (folder / "scripts" / "more.py").write_text("")
    (folder / "models" / "table.pkl").write_bytes(b"1")
    with pytest.raises(trust.Untrusted) as question:
        models.load(folder)
    (folder / "picture.png").write_bytes(b"1")
    with pytest.raises(trust.Untrusted) as again:
        models.load(folder)
    assert again.value.sha256 == question.value.sha256
    (folder / "models" / "table.pkl").write_bytes(b"2")
    with pytest.raises(trust.Untrusted) as changed:
        models.load(folder)
    assert changed.value.sha256 != question.value.sha256
    pytest.importorskip("monai")
    model = models.load(folder, trust=True)
    models.predict(phantom(), model)
    (folder / "scripts" / "more.py").write_text("import pathlib; pathlib.Path('changed-ran').touch()")
    with pytest.raises(FileError, match="changed since it was loaded: load it again"):
        models.predict(phantom(), model)
    assert not (tmp_path / "changed-ran").exists()


class Payload:
    """What an attacker's pickle does: it makes a folder when it is opened."""

    def __reduce__(self):
        return (os.mkdir, ("pickle-ran",))


def test_pickled_weights_are_not_opened_for_a_trusted_bundle(tmp_path):
    folder = dyn_bundle(tmp_path / "bundle", before=MOVED)
    torch.save({"state_dict": Payload()}, folder / "models" / "model.pt")
    with pytest.raises(FileError, match="more than numbers"):
        models.load(folder, trust=True)
    assert not (tmp_path / "pickle-ran").exists()


@pytest.mark.parametrize(
    "text", ["$torch.load('models/x.pt', weights_only=False)", "$os.system('touch it-ran')", "$eval('1')"]
)
def test_expressions_that_no_bundle_needs_are_refused_though_trusted(tmp_path, text):
    folder = write_bundle(tmp_path / "bundle", configuration((ORIENTATION, {**SMOOTH, "sigma": text})))
    with pytest.raises(InputError, match="no bundle needs"):
        models.load(folder, trust=True)
    assert not trust.remembered()


def test_without_monai_the_refusal_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.bundle", None)
    folder = write_bundle(tmp_path / "bundle", configuration((ORIENTATION, SMOOTH)))
    with pytest.raises(trust.Untrusted, match="'GaussianSmoothd'"):
        models.load(folder)
    with pytest.raises(MissingPart, match="needs monai, which is not installed: pip install monai"):
        models.load(folder, trust=True)


def test_failures_of_monai_are_one_sentence(tmp_path):
    pytest.importorskip("monai")
    wrong = {"_target_": "GaussianSmoothd", "keys": "image", "no_such": 1}
    folder = write_bundle(tmp_path / "bundle", configuration((ORIENTATION, wrong)))
    with pytest.raises(InputError, match="MONAI cannot make of it what it says") as caught:
        models.load(folder, trust=True)
    assert "\n" not in str(caught.value)
    late = {"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x[0]"}
    (folder / "configs" / "inference.json").write_text(json.dumps(configuration((ORIENTATION, late))))
    model = models.load(folder, trust=True)
    with pytest.raises(InputError, match=r"makes of an image 'image' something of shape.*correct its preprocessing"):
        models.predict(phantom(), model)
    turned = {"_target_": "Rotated", "keys": "image", "angle": [0.1, 0.0, 0.0]}
    (folder / "configs" / "inference.json").write_text(json.dumps(configuration((ORIENTATION, turned))))
    with pytest.raises(InputError, match="out of their axes"):
        models.predict(phantom(), models.load(folder, trust=True))
