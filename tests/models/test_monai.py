"""MONAI bundles: the same labels as MONAI's own run of the same folder, and nothing in them is ever executed."""

import json
import os
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bundles import (  # noqa: E402
    INVERT,
    LOAD,
    NETWORK,
    ORIENTATION,
    POST,
    SPACING,
    WINDOW,
    configuration,
    metadata,
    network,
    phantom,
    write_bundle,
)  # fmt: skip

import napari_lightbox as lb  # noqa: E402
from napari_lightbox import models  # noqa: E402
from napari_lightbox.errors import FileError, InputError, LightboxError  # noqa: E402
from napari_lightbox.models.loaders import trust  # noqa: E402
from napari_lightbox.models.loaders._config import Config, read_table  # noqa: E402
from napari_lightbox.models.networks import build  # noqa: E402

CROP = {"_target_": "CropForegroundd", "keys": "image", "source_key": "image"}
ABOVE = {"_target_": "ThresholdIntensityd", "keys": "image", "threshold": 1.0, "above": True, "cval": 0}
ZSCORE = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True}
SCALE = {"_target_": "monai.transforms.ScaleIntensityd", "keys": ["image"], "minv": -1.0, "maxv": 1.0}
SHARES = {
    "_target_": "ScaleIntensityRangePercentilesd", "keys": "image", "lower": 5, "upper": 95, "b_min": 0, "b_max": 1,
    "clip": True, "relative": True,
}  # fmt: skip
WIDEN = [
    {"_target_": "SpatialPadd", "keys": "image", "spatial_size": [24, 20, 20]},
    {"_target_": "DivisiblePadd", "keys": "image", "k": 8},
]
RESIZE = {"_target_": "Resized", "keys": "image", "spatial_size": [24, 20, 16], "mode": "trilinear"}
BEFORE = {
    "as stored": (WINDOW,),
    "turned and resampled": (ORIENTATION, SPACING, ZSCORE),
    "resampled, then turned": (WINDOW, SPACING, ORIENTATION),
    "cropped": (ABOVE, ORIENTATION, CROP, SPACING),
    "widened": (ORIENTATION, SPACING, SHARES, *WIDEN),
    "resized": (ORIENTATION, SCALE, RESIZE),
}


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def own_list(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTBOX_CONFIG", str(tmp_path / "config"))


def by_monai(folder, files) -> np.ndarray:
    """Return what MONAI itself makes of a bundle, (classes, z, y, x): its own parser, transforms and network."""
    pytest.importorskip("monai")
    from monai.bundle import ConfigParser
    from monai.data import MetaTensor

    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    before, after, asked, net = (
        parser.get_parsed_content(name) for name in ("preprocessing", "postprocessing", "inferer", "network_def")
    )
    net.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    after.transforms = [one for one in after.transforms if type(one).__name__ != "SaveImaged"]
    held = before({"image": files[0] if len(files) == 1 else files})
    with torch.inference_mode():
        answer = asked(held["image"][None].float(), net.eval())[0]
    image = held["image"]
    held["pred"] = MetaTensor(answer.as_tensor(), meta=image.meta, applied_operations=image.applied_operations)
    return after(held)["pred"].numpy().transpose(0, 3, 2, 1)


def written(volume, path):
    """Return a volume as it is read from a file that MONAI reads, too."""
    lb.write(volume, path)
    return lb.read(path).replace(meta={"modality": "MR"})


@pytest.mark.parametrize("name", BEFORE)
def test_labels_are_those_of_monai(tmp_path, name):
    # Logits, as the order of softmax and interpolation would show otherwise.
    config = configuration(BEFORE[name], postprocessing__transforms=[INVERT, POST[2]])
    folder = write_bundle(tmp_path / "bundle", config)
    image = written(phantom(), tmp_path / "scan.nii.gz")
    wanted = by_monai(folder, [tmp_path / "scan.nii.gz"])[0]
    found = models.predict(image, models.load(folder)).labels
    assert found.grid == image.grid
    assert min(np.bincount(found.data.ravel())[:2]) > 1000
    assert np.mean(found.data != wanted) < 1e-4
    assert np.mean(found.data != wanted[::-1]) > 0.1


def test_gaussian_windows_weigh_as_in_monai_in_any_memory(tmp_path):
    # MONAI's weights stop falling at a thousandth; with random weights every share of a window shows.
    config = configuration(
        (ORIENTATION, WINDOW), postprocessing__transforms=[INVERT, POST[2]], inferer__mode="gaussian",
        inferer__overlap=0.625,
    )  # fmt: skip
    folder = write_bundle(tmp_path / "bundle", config)
    image = written(phantom((20, 40, 30)), tmp_path / "scan.nii.gz")
    wanted = by_monai(folder, [tmp_path / "scan.nii.gz"])[0]
    found = models.predict(image, folder)
    assert np.mean(found.labels.data != wanted) < 1e-4
    divided = models.predict(image, folder, memory=3e5, check=False)
    assert any("divided into" in note for note in divided.notes)
    assert np.array_equal(divided.labels.data, found.labels.data)


def test_softmax_before_the_way_back_differs_little(tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    image = written(phantom(flip=False), tmp_path / "scan.nii.gz")
    found = models.predict(image, models.load(folder), probabilities="organ")
    assert np.mean(found.labels.data != by_monai(folder, [tmp_path / "scan.nii.gz"])[0]) < 0.01
    assert found.labels.labels[2].name == "lesion"
    assert found.probability("organ").data.max() > 0.3


def test_regions_of_several_images_are_written_in_the_order_of_the_bundle(tmp_path):
    choice = "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, torch.where(x[[1]] > 0, 2, 0)))"
    post = [
        {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
        {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
        {"_target_": "Lambdad", "keys": "pred", "func": choice},
    ]
    args = {"in_channels": 2, "out_channels": 3, "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}
    config = configuration(
        (ZSCORE,), network_def={"_target_": "SegResNet", "dropout_prob": 0.2, **args}, postprocessing__transforms=post
    )
    config["preprocessing"]["transforms"].pop(1)
    torch.manual_seed(5)
    weights = build("segresnet", **args).eval()
    torch.nn.init.normal_(weights.conv_final[2].conv.weight, 0, 1)
    folder = write_bundle(tmp_path / "bundle", config, metadata(("T1", "T2"), ("core", "whole", "active")), weights)
    images = [written(phantom((12, 16, 18), seed=n), tmp_path / f"{n}.nii.gz") for n in range(2)]
    model = models.load(folder)
    assert [c.name for c in model.card.input.channels] == ["T1", "T2"]
    assert {v: one.name for v, one in model.card.output.labels.items()} == {2: "whole", 1: "core", 4: "active"}
    found = models.predict(images, model).labels.data
    assert set(np.unique(found)) == {0, 1, 2, 4}
    assert np.array_equal(found, by_monai(folder, [tmp_path / f"{n}.nii.gz" for n in range(2)])[0])


def test_slices_along_the_axis_of_the_inferer(tmp_path):
    config = configuration(
        (WINDOW,), network_def={**NETWORK, "spatial_dims": 2},
        inferer={"_target_": "SliceInferer", "roi_size": [16, 16], "spatial_dim": 2, "overlap": 0.5},
        postprocessing__transforms=[POST[2]],
    )  # fmt: skip
    folder = write_bundle(tmp_path / "bundle", config, weights=network(spatial_dims=2))
    image = written(phantom((5, 24, 32)), tmp_path / "scan.nii.gz")
    found = models.predict(image, models.load(folder)).labels.data
    assert len(np.unique(found)) > 1
    assert np.array_equal(found, by_monai(folder, [tmp_path / "scan.nii.gz"])[0])


def test_the_card_says_what_the_bundle_says(tmp_path):
    largest = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1]}
    folder = write_bundle(tmp_path / "bundle", configuration(postprocessing__transforms=[*POST, largest]))
    for path in (folder, folder / "configs", folder / "models" / "model.pt", folder / "configs" / "inference.json"):
        card = models.read_card(path)
        assert (card.name, card.version, card.input.orientation) == ("made up", "0.2.0", "SAR")
        assert (card.window.size, card.window.overlap, card.window.blending) == ((16, 16, 16), 0.5, "constant")
        assert card.input.spacing == (1.5, 1.0, 2.5)
        assert dict(card.post) == {"organ": {"keep_largest": True}}
    model = models.load(folder)
    assert model.describe().startswith("made up 0.2.0")
    steps = models.predict(phantom(), model).labels.history
    assert steps[0]["model"]["sha256"] == model.sha256
    assert np.array_equal(
        lb.Recipe.of(models.predict(phantom(), model).labels).run(phantom()).data,
        models.predict(phantom(), model).labels.data,
    )
    # Another configuration makes another model of the same weights.
    (folder / "configs" / "inference.json").write_text(json.dumps(configuration((WINDOW,))))
    assert models.load(folder).sha256 != model.sha256


def test_yaml_means_the_same(tmp_path):
    yaml = pytest.importorskip("yaml")
    folder = write_bundle(tmp_path / "bundle")
    wanted = models.read_card(folder)
    (folder / "configs" / "inference.json").unlink()
    (folder / "configs" / "inference.yaml").write_text(yaml.safe_dump(configuration()))
    assert models.read_card(folder) == wanted


def test_a_network_of_monai_alone_runs_with_trust(tmp_path):
    monai = pytest.importorskip("monai.networks.nets")
    args = {
        "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "kernel_size": [3, 3, 3], "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2], "filters": [4, 8, 8],
    }  # fmt: skip
    torch.manual_seed(2)
    plain = monai.DynUNet(**args).eval()
    config = configuration((WINDOW,), network_def={"_target_": "monai.networks.nets.DynUNet", **args})
    folder = write_bundle(tmp_path / "bundle", config, weights=plain)
    with pytest.raises(trust.Untrusted, match=r"'DynUNet'.*trust=True"):
        models.load(folder)
    image = written(phantom((16, 24, 16)), tmp_path / "scan.nii.gz")
    found = models.predict(image, models.load(folder, trust=True)).labels.data
    assert np.array_equal(found, by_monai(folder, [tmp_path / "scan.nii.gz"])[0])
    assert len(models.load(folder).sha256) == 64


def test_torchscript_stands_in_for_a_network_that_nobody_knows(tmp_path):
    config = configuration(network_def={"_target_": "scripts.my.Net", "spatial_dims": 3})
    folder = write_bundle(tmp_path / "bundle", config)
    with pytest.raises(InputError, match=r"'scripts\.my\.Net', which is neither of MONAI.*nor in the bundle's scripts"):
        models.load(folder, trust=True)
    with pytest.warns(DeprecationWarning, match="trace"):
        torch.jit.trace(network(), torch.rand(1, 1, 16, 16, 16)).save(str(folder / "models" / "model.ts"))
    with pytest.raises(trust.Untrusted):
        models.load(folder)
    found = models.predict(phantom(), models.load(folder, trust=True)).labels.data
    assert np.array_equal(found, models.predict(phantom(), write_bundle(tmp_path / "known")).labels.data)


# What is never done -----------------------------------------------------------------------------------------------

MARK = "it-ran"
EVIL = f"__import__('pathlib').Path('{MARK}').touch()"
HOSTILE = {
    "expression": {"pixdim": f"${EVIL}"},
    "import": {"pixdim": "$import os"},
    "target": {"network_def": {"_target_": "os.system", "command": f"touch {MARK}"}},
    "nested target": {"network_def__norm": {"_target_": "os.system", "command": f"touch {MARK}"}},
    "attribute": {"pixdim": "$[].__class__.__mro__[1].__subclasses__()"},
    "comprehension": {"pixdim": f"$[{EVIL} for _ in [1]]"},
    "lambda": {"network_def__channels": f"$(lambda: {EVIL})()"},
    "format": {"network_def__act": "$'{0.__class__}'.format(1)"},
    "power": {"network_def__channels": "$[9 ** 9 ** 9]"},
    "long text": {"network_def__act": "$'a' * 10 ** 9"},
    "file": {"pixdim": "%/etc/passwd"},
    "endless": {"pixdim": "@pixdim"},
    "growing": {"pixdim": "$@a + @a", "a": "$@pixdim + @pixdim"},
    "transform": {"preprocessing__transforms": [*LOAD, {"_target_": "os.system", "command": f"touch {MARK}"}]},
    "lambda transform": {
        "preprocessing__transforms": [*LOAD, {"_target_": "Lambdad", "keys": "image", "func": f"$lambda x: {EVIL}"}]
    },
    "inferer": {"inferer": {"_target_": "subprocess.Popen", "args": ["touch", MARK]}},
    "post": {"postprocessing__transforms": [*POST, {"_target_": "Lambdad", "func": f"$lambda x: {EVIL}"}]},
    "weights outside": {"handlers": [{"_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/../../x.pt'"}]},
    "weights at the root": {"handlers": [{"_target_": "CheckpointLoader", "load_path": "/etc/passwd"}]},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_in_a_configuration_is_executed(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = write_bundle(tmp_path / "bundle", configuration(**HOSTILE[name]))
    with pytest.raises(InputError) as caught:
        models.load(folder)
    assert "\n" not in str(caught.value)
    assert not trust.remembered()
    # What no bundle needs is refused with trust, too; without MONAI the rest is.
    with pytest.raises(LightboxError) as caught:
        models.load(folder, trust=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / MARK).exists()


def test_what_is_not_needed_is_not_looked_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = {"imports": [f"${EVIL}"], "run": [f"${EVIL}"], "device": f"${EVIL}", "output_dir": f"${EVIL}"}
    models.load(write_bundle(tmp_path / "bundle", configuration(**more)))
    assert not (tmp_path / MARK).exists()


class Payload:
    """What an attacker's pickle does: it makes a folder when it is opened."""

    def __reduce__(self):
        return (os.mkdir, (MARK,))


def test_pickled_weights_are_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    folder = write_bundle(tmp_path / "bundle", weights={"state_dict": Payload()})
    with pytest.raises(FileError, match="more than numbers"):
        models.load(folder, trust=True)
    (folder / "models" / "model.pt").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(FileError, match="more than numbers"):
        models.load(folder, trust=True)
    yaml = "a: !!python/object/apply:os.mkdir [it-ran]\n"
    (folder / "configs" / "inference.json").unlink()
    (folder / "configs" / "inference.yaml").write_text(yaml)
    with pytest.raises(FileError, match="cannot be read"):
        models.load(folder, trust=True)
    assert not (tmp_path / MARK).exists()


BOMBS = {
    "x: $[list(@s), list(@s)]": {"x": "$[list(@s), list(@s)]", "s": "a" * 1_000_000},
    "sum of texts": {"x": "$sum([@s, @s], [])", "s": "a" * 1_000_000},
    "long list": {"x": "$sum([@s, @s, @s], [])", "s": [0] * 4000},
    "power": {"x": "$9**9**9"},
    "repeated": {"x": "$'a' * 10**9"},
    "attribute": {"x": "$().__class__"},
    "format": {"x": "$'%s' % 3"},
    "brackets": {"x": "$" + "(" * 900 + "1" + ")" * 900},
    "circle": {"x": "$[@y]", "y": "$[@x]"},
    "large number": {"x": "$10**400 * 1.0"},
}


@pytest.mark.parametrize("name", BOMBS)
def test_expressions_that_grow_or_reach_out_are_refused_at_once(name):
    with pytest.raises(InputError):
        Config(BOMBS[name], "a bundle").get("x")


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: &a [1]\nb: [*a, *a]\n", "aliases"), ("a: " + "[" * 200 + "]" * 200, "deep")],
)
def test_yaml_that_stands_for_more_than_it_holds_is_refused(tmp_path, text, said):
    pytest.importorskip("yaml")
    (tmp_path / "inference.yaml").write_text(text)
    with pytest.raises(FileError, match=said):
        read_table(tmp_path / "inference.yaml")


@pytest.mark.parametrize(
    "changes",
    [{"network_def__num_res_units": 10**6}, {"inferer__roi_size": [10**9] * 3}, {"inferer__cval": 10**400},
     {"network_def__channels": [4] * 1000}],
)  # fmt: skip
def test_numbers_that_would_fill_the_memory_are_refused(tmp_path, changes):
    folder = write_bundle(tmp_path / "bundle", configuration(**changes))
    with pytest.raises(InputError, match=r"no network is as large|too many|give a number"):
        models.quote(phantom(), folder)


WRONG = {
    "RandFlipd": {"preprocessing__transforms": [*LOAD, {"_target_": "RandFlipd", "keys": "image"}]},
    "scale_extent": {"preprocessing__transforms": [*LOAD, {**SPACING, "scale_extent": True}]},
    "'nearest'": {"preprocessing__transforms": [*LOAD, {**SPACING, "mode": "nearest"}]},
    "surprise": {"preprocessing__transforms": [*LOAD, {**WINDOW, "surprise": 1}]},
    "axcodes": {"preprocessing__transforms": [*LOAD, {**ORIENTATION, "axcodes": "RAX"}]},
    "select_fn": {"preprocessing__transforms": [*LOAD, {**CROP, "select_fn": "$lambda x: x > 3"}]},
    "'DynamicInferer'": {"inferer": {"_target_": "DynamicInferer"}},
    "roi_size": {"inferer__roi_size": [16, 16]},
    "in_channels": {"network_def__in_channels": 2},
    "out_channels": {"network_def__out_channels": 5},
    "decided": {"postprocessing__transforms": [INVERT]},
    "@nothing": {"pixdim": "@nothing"},
    "cannot be built": {"network_def__width": 3},
    "do not fit its architecture": {"network_def__channels": [4, 8, 32]},
}


@pytest.mark.parametrize("told", WRONG)
def test_what_is_not_known_is_named(tmp_path, told):
    folder = write_bundle(tmp_path / "bundle", configuration(**WRONG[told]))
    with pytest.raises(InputError) as caught:
        models.load(folder)
    assert told in str(caught.value)


def test_incomplete_bundles_are_one_sentence(tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    (folder / "models" / "model.pt").unlink()
    with pytest.raises(FileError, match=r"model\.pt are not there"):
        models.load(folder)
    (folder / "configs" / "inference.json").write_text("[" * 100_000)
    with pytest.raises(FileError, match=r"inference\.json cannot be read"):
        models.load(folder)
    (folder / "configs" / "inference.json").unlink()
    with pytest.raises(FileError, match=r"holds no inference\.json"):
        models.read_card(folder)


def test_plain_expressions_are_worked_out():
    tree = {
        "n": 3, "names": {"a": 1, "b": 2}, "sizes": "$[@n * 2, @n // 2, -@n]", "count": "$len(@names) + 1",
        "deep": "@names#b", "old": "@names::a", "chosen": "$'x' if @n > 2 and False or @n == 3 else 'y'",
        "choice": "$'x' if 2 < @n <= 3 else 'y'", "joined": "$[1] + @sizes", "text": "$@choice + '.pt'",
    }  # fmt: skip
    config = Config(tree, "here")
    found = {name: config.get(name) for name in tree if name not in ("names", "n", "chosen")}
    assert found == {
        "sizes": [6, 1, -3], "count": 3, "deep": 2, "old": 1, "choice": "x", "joined": [1, 6, 1, -3], "text": "x.pt",
    }  # fmt: skip
    with pytest.raises(InputError, match="never executed"):
        config.get("chosen")
