"""Results folders of nnU-Net that are damaged, unknown or malicious: refused in one sentence, and nothing runs."""

import copy
import json
import os
import pickle
import shutil
import sys
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import nnunet_folders as folders  # noqa: E402

from napari_lightbox import models  # noqa: E402
from napari_lightbox.errors import FileError, InputError  # noqa: E402
from napari_lightbox.models.loaders import _checkpoint  # noqa: E402


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nnunet") / "m"
    folders.write_folder(folder)
    return folder


@pytest.fixture
def folder(tmp_path, written):
    return shutil.copytree(written, tmp_path / "m")


def change(folder, file="plans.json", **values):
    """Change plans: keys with __ lie inside one another, "config" stands for the configuration."""
    content = json.loads((folder / file).read_text())
    for path, value in values.items():
        *parents, last = path.split("__")
        here = content
        if parents[:1] == ["config"]:
            here, parents = content["configurations"]["3d_fullres"], parents[1:]
        for parent in parents:
            here = here[parent]
        here[last] = value
    (folder / file).write_text(json.dumps(content))


REFUSED = {
    "network": ({"config__architecture__network_class_name": "os.system"}, "'os.system' is none that is built here"),
    "module": ({"config__architecture__network_class_name": "evil.PlainConvUNet"}, "'evil.PlainConvUNet' is none"),
    "normalisation": ({"config__normalization_schemes": ["MyNormalization"]}, "'MyNormalization' is not one of"),
    "schemes": ({"config__normalization_schemes": []}, "one for each of 1 channels"),
    "preprocessor": ({"config__preprocessor_name": "MyPreprocessor"}, "'MyPreprocessor' is not known"),
    "reader": ({"image_reader_writer": "MyReader"}, "'MyReader': how it turns images is known of"),
    "resampling": ({"config__resampling_fn_data": "resample_my_way"}, "resample_my_way"),
    "order": ({"config__resampling_fn_data_kwargs": {"order": 4}}, "order and order_z must be among"),
    "cascade": ({"config__previous_stage": "3d_lowres"}, "cascade.*take the 3d_fullres model"),
    "inherits": ({"config__inherits_from": "3d_fullres"}, "inherits from itself"),
    "figures": ({"foreground_intensity_properties_per_channel": {}}, "CTNormalization needs a number"),
    "transpose": ({"transpose_forward": [0, 0, 1]}, "the axes 0, 1 and 2 in some order"),
    "patch": ({"config__patch_size": 16}, "patch_size is 16"),
    "spacing": ({"config__spacing": [1, 1]}, "spacing"),
    "no configuration": ({"configurations": {}}, "'3d_fullres' is missing"),
}


@pytest.mark.parametrize("which", REFUSED)
def test_what_is_not_known_is_named(folder, which):
    values, said = REFUSED[which]
    change(folder, **values)
    with pytest.raises(InputError, match=said) as caught:
        models.read_card(folder)
    assert "\n" not in str(caught.value)


LABELS = {
    "gap": {"labels": {"background": 0, "one": 2}},
    "none": {"labels": {}},
    "text": {"labels": {"background": 0, "one": "first"}},
    "no order": {"labels": {"background": 0, "all": [1, 2], "core": [2]}},
    "no channel": {"channel_names": {}},
}


@pytest.mark.parametrize("which", LABELS)
def test_classes_that_make_no_sense_are_named(folder, which):
    change(folder, "dataset.json", **LABELS[which])
    with pytest.raises(InputError, match=r"labels|regions_class_order|channel_names"):
        models.read_card(folder)


def test_missing_and_damaged_files_are_one_sentence(folder, tmp_path):
    checkpoint = folder / "fold_0" / "checkpoint_final.pth"
    content = checkpoint.read_bytes()
    for bad in (b"", b"no archive", content[: len(content) // 2]):
        checkpoint.write_bytes(bad)
        with pytest.raises(FileError, match="damaged"):
            models.load(folder)
    checkpoint.rename(folder / "fold_0" / "checkpoint_best.pth")
    with pytest.raises(FileError, match="holds no checkpoint_final"):
        models.load(folder)
    (folder / "plans.json").write_text("{")
    (folder / "fold_0" / "checkpoint_best.pth").write_bytes(content)
    with pytest.raises(FileError, match="JSON"):
        models.load(folder / "fold_0" / "checkpoint_best.pth")
    (folder / "dataset.json").unlink()
    with pytest.raises(FileError, match=r"no dataset\.json"):
        models.load(folder)
    with pytest.raises(FileError, match=r"card\.json"):
        models.load(tmp_path)


def test_weights_of_another_network_are_refused(folder):
    change(folder, config__architecture__arch_kwargs__features_per_stage=[4, 12])
    with pytest.raises(InputError, match="its trainer changed the network"):
        models.load(folder)
    change(folder, config__architecture__arch_kwargs__features_per_stage=[4])
    with pytest.raises(InputError, match="features_per_stage has 1 entries"):
        models.load(folder)
    change(folder, config__architecture__arch_kwargs__nonlin="os.system")
    with pytest.raises(InputError, match=r"nonlin|features"):
        models.load(folder)
    change(folder, config__architecture__arch_kwargs__features_per_stage=[4, 8])
    with pytest.raises(InputError, match=r"nonlin 'os\.system' is not known"):
        models.load(folder)


def test_folds_of_different_trainings_are_refused(folder):
    network = folders.make_network(folders.make_plans(), folders.make_dataset())
    folders.write_checkpoint(folder / "fold_1" / "checkpoint_final.pth", network, mirror=(0,))
    with pytest.raises(InputError, match="another training"):
        models.load(folder)
    assert models.load(folder / "fold_1").card.window.mirror == (0,)
    folders.write_checkpoint(folder / "fold_1" / "checkpoint_final.pth", network, mirror=(3,))
    with pytest.raises(FileError, match="mirrors along"):
        models.read_card(folder / "fold_1")


class Payload:
    """What an attacker's pickle does: it makes a folder when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("where", ["logging", "init_args", "network_weights", "state", "extension"])
def test_a_checkpoint_that_wants_to_run_code_does_not(folder, tmp_path, where):
    mark, path = tmp_path / "it-ran", folder / "fold_0" / "checkpoint_final.pth"
    network = folders.make_network(folders.make_plans(), folders.make_dataset())
    more = {
        "logging": {"logging": Payload(mark)},
        "init_args": {"init_args": {"configuration": "3d_fullres", "evil": [Payload(mark)]}},
        "network_weights": {"network_weights": {"a": Payload(mark)}},
        "state": {"grad_scaler_state": pickle.loads},
        "extension": {"_best_ema": Payload(mark)},
    }[where]
    if where == "extension":
        # A checkpoint whose pickle names its function only while it runs.
        folders.write_checkpoint(path, network)
        evil = pickle.dumps(Payload(mark), protocol=4)
        with zipfile.ZipFile(path) as old:
            members = {m.filename: old.read(m) for m in old.infolist()}
        with zipfile.ZipFile(path, "w") as new:
            for name, content in members.items():
                new.writestr(name, evil if name.endswith("data.pkl") else content)
        with pytest.raises(FileError):
            models.read_card(folder)
        with pytest.raises(FileError, match=r"could run code|cannot be read"):
            _checkpoint.weights(path)
    else:
        folders.write_checkpoint(path, network, **more)
        assert models.read_card(folder).loader == "nnunet"
        with pytest.raises(FileError, match="could run code"):
            models.load(folder)
        # Trust does not help: nothing in a checkpoint needs it.
        with pytest.raises(FileError, match="could run code"):
            models.load(folder, trust=True)
    assert not mark.exists()


def test_an_environment_variable_opens_no_pickle(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    mark = tmp_path / "it-ran"
    network = folders.make_network(folders.make_plans(), folders.make_dataset())
    folders.write_checkpoint(folder / "fold_0" / "checkpoint_final.pth", network, logging=Payload(mark))
    with pytest.raises(FileError, match="could run code"):
        models.load(folder)
    assert not mark.exists()


def test_checkpoints_of_older_numpy_and_parallel_trainings_are_read(folder, monkeypatch):
    path = folder / "fold_0" / "checkpoint_final.pth"
    wanted = models.load(folder).module.state_dict()
    with zipfile.ZipFile(path) as old:
        members = {m.filename: old.read(m) for m in old.infolist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    found = models.load(folder).module.state_dict()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())
    folders.write_checkpoint(path, torch.nn.ModuleDict({"module": models.load(folder).module}))
    found = models.load(folder).module.state_dict()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


def test_plans_as_nnunet_wrote_them_before_are_read(folder):
    wanted = models.load(folder)
    plans = json.loads((folder / "plans.json").read_text())
    config = plans["configurations"]["3d_fullres"]
    args = config.pop("architecture")["arch_kwargs"]
    config.update(
        UNet_class_name="PlainConvUNet", UNet_base_num_features=4, unet_max_num_features=320,
        n_conv_per_stage_encoder=args["n_conv_per_stage"], n_conv_per_stage_decoder=args["n_conv_per_stage_decoder"],
        num_pool_per_axis=[1, 1, 1], pool_op_kernel_sizes=args["strides"], conv_kernel_sizes=args["kernel_sizes"],
    )  # fmt: skip
    # A configuration that inherits, as planners of several batch sizes write them.
    plans["configurations"]["base"] = {**config, "patch_size": [4, 4, 4]}
    plans["configurations"]["3d_fullres"] = {"inherits_from": "base", "patch_size": config["patch_size"]}
    (folder / "plans.json").write_text(json.dumps(plans))
    found = models.load(folder)
    assert found.card.window == wanted.card.window
    x = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(found.module(x), wanted.module(x))


def test_batch_normalisation_of_its_trainer(folder):
    dataset, plans = folders.make_dataset(), folders.make_plans()
    changed = copy.deepcopy(plans)
    network = changed["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network["norm_op"] = "torch.nn.modules.batchnorm.BatchNorm3d"
    made = folders.make_network(changed, dataset)
    folders.write_checkpoint(folder / "fold_0" / "checkpoint_final.pth", made, trainer="nnUNetTrainerBN")
    x = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(models.load(folder).module(x), made(x))


def test_a_card_is_read_without_torch(folder):
    import subprocess

    code = f"import sys; from napari_lightbox import models; models.read_card({str(folder)!r}); "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_normalisations_become_rules(folder):
    rules = {
        "CTNormalization": ("zscore", -300.0, 400.0, 90.0, 120.0),
        "ZScoreNormalization": ("zscore", None, None, None, None),
        "NoNormalization": ("none", None, None, None, None),
        "RescaleTo01Normalization": ("minmax", None, None, None, None),
        "RGBTo01Normalization": ("window", 0.0, 255.0, None, None),
    }
    for scheme, wanted in rules.items():
        change(folder, config__normalization_schemes=[scheme])
        rule = models.read_card(folder).input.channels[0].intensity
        assert (rule.rule, rule.low, rule.high, rule.mean, rule.std) == wanted
    assert np.isclose(models.read_card(folder).window.overlap, 0.5)
