"""Loading: the right weights come in unchanged, everything else ends in one sentence and runs nothing."""

import json
import pickle

import pytest

from napari_lightbox import models
from napari_lightbox.errors import FileError, InputError

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

from napari_lightbox.models.networks import build  # noqa: E402

ARGS = {"dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "norm": "batch"}


def write_model(folder, *, loader="safetensors", args=ARGS, **changes):
    """Write a tiny model with random weights; return its network."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(3)
    network = build("unet", **ARGS).eval()
    name = "weights.safetensors" if loader == "safetensors" else "weights.pt"
    if loader == "safetensors":
        safetensors_torch.save_file(network.state_dict(), folder / name)
    else:
        torch.save(network.state_dict(), folder / name)
    card = {
        "name": "tiny",
        "version": "0.1",
        "loader": loader,
        "weights": name,
        "architecture": {"name": "unet", "args": args},
        "input": {"dims": 2, "channels": [{"name": "image"}], "divisible_by": 2},
        "output": {"kind": "labels", "labels": {"1": "thing"}},
    }
    (folder / "card.json").write_text(json.dumps({**card, **changes}))
    return network


@pytest.mark.parametrize("loader", ["safetensors", "state_dict"])
def test_weights_arrive_unchanged(tmp_path, loader):
    network = write_model(tmp_path / "m", loader=loader)
    for where in (tmp_path / "m", str(tmp_path / "m"), tmp_path / "m" / "card.json"):
        model = models.load(where)
    assert model.name == "tiny"
    assert len(model.sha256) == 64
    assert not model.module.training
    x = torch.randn(1, 1, 8, 8)
    assert torch.equal(model.module(x), network(x))
    assert "thing" in model.describe()


def test_half_precision_weights_come_back_as_single(tmp_path):
    network = write_model(tmp_path / "m")
    halves = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    safetensors_torch.save_file(halves, tmp_path / "m" / "weights.safetensors")
    assert {p.dtype for p in models.load(tmp_path / "m").module.parameters()} == {torch.float32}


def test_a_checkpoint_with_a_state_dict_inside_is_opened(tmp_path):
    network = write_model(tmp_path / "m", loader="state_dict")
    parallel = {f"module.{k}": v for k, v in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": parallel}, tmp_path / "m" / "weights.pt")
    x = torch.randn(1, 1, 4, 4)
    assert torch.equal(models.load(tmp_path / "m").module(x), network(x))


class Payload:
    """What an attacker's pickle does: it writes a file when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, monkeypatch):
    write_model(tmp_path / "m", loader="state_dict")
    # The variable that turns torch's own default off must change nothing.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    for save in (torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))):
        save(Payload(tmp_path / "trace"), tmp_path / "m" / "weights.pt")
        with pytest.raises(FileError, match=r"more than numbers|cannot be read"):
            models.load(tmp_path / "m")
        assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("loader", ["safetensors", "state_dict"])
@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_damaged_weights_are_refused(tmp_path, loader, content):
    write_model(tmp_path / "m", loader=loader)
    file = next((tmp_path / "m").glob("weights.*"))
    file.write_bytes(file.read_bytes()[:-500] if content is None else content)
    with pytest.raises(FileError) as caught:
        models.load(tmp_path / "m")
    assert str(file) in str(caught.value)


def test_a_file_without_a_state_dict_is_refused(tmp_path):
    write_model(tmp_path / "m", loader="state_dict")
    torch.save([1, 2], tmp_path / "m" / "weights.pt")
    with pytest.raises(FileError, match="no state dict"):
        models.load(tmp_path / "m")


def test_weights_of_another_architecture_are_refused(tmp_path):
    write_model(tmp_path / "m", args={**ARGS, "channels": [4, 16]})
    with pytest.raises(InputError, match="of another shape"):
        models.load(tmp_path / "m")
    write_model(tmp_path / "m", args={**ARGS, "channels": [4, 8, 16]})
    with pytest.raises(InputError, match=r"\d+ are missing"):
        models.load(tmp_path / "m")
    write_model(tmp_path / "m", args={**ARGS, "width": 3})
    with pytest.raises(InputError, match="cannot be built"):
        models.load(tmp_path / "m")
    write_model(tmp_path / "m", architecture={"name": "transformer"})
    with pytest.raises(InputError, match="'transformer' is unknown"):
        models.load(tmp_path / "m")


def test_a_wrong_hash_is_refused_before_the_file_is_opened(tmp_path):
    write_model(tmp_path / "m", loader="state_dict", sha256="1" * 64)
    with pytest.raises(FileError, match="SHA-256"):
        models.load(tmp_path / "m")


@pytest.mark.parametrize("trust", [False, True])
def test_unknown_formats_are_refused_by_name(tmp_path, trust):
    write_model(tmp_path / "m")
    card = json.loads((tmp_path / "m" / "card.json").read_text())
    (tmp_path / "m" / "card.json").write_text(json.dumps({**card, "loader": "keras"}))
    with pytest.raises(InputError, match=r"loader is 'keras': use one of safetensors, state_dict, .*onnx"):
        models.load(tmp_path / "m", trust=trust)


def test_an_unknown_name_lists_the_shipped_models():
    with pytest.raises(FileError, match="neither shipped"):
        models.load("no-such-model")
    with pytest.raises(FileError, match="neither shipped"):
        models.load("")


def test_every_shipped_model_loads():
    for name, card in models.available().items():
        assert card.sha256
        assert card.licence
        assert "clinical" in card.intended_use
        assert models.load(name).name == name
