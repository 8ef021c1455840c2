"""Networks that bring their own code: TorchScript and torch.export, trusted or refused."""

import json
import os
import pickle
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from napari_lightbox import models  # noqa: E402
from napari_lightbox.errors import FileError, InputError  # noqa: E402
from napari_lightbox.geometry import Grid  # noqa: E402
from napari_lightbox.models.loaders import trust  # noqa: E402
from napari_lightbox.models.networks import build  # noqa: E402
from napari_lightbox.volume import Volume  # noqa: E402

ARGS = {"dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "norm": "batch"}
SIZE = (8, 12, 16)
FORMATS = {"torchscript": "net.ts", "export": "net.pt2"}


@pytest.fixture(autouse=True)
def own_list(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTBOX_CONFIG", str(tmp_path / "config"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the network, and its files by loader."""
    folder = tmp_path_factory.mktemp("nets")
    torch.manual_seed(7)
    network = build("unet", **ARGS).eval()
    torch.nn.init.zeros_(network.head.bias)
    example = torch.rand(2, 1, *SIZE)
    with pytest.warns(DeprecationWarning, match="trace"):
        torch.jit.trace(network, example[:1]).save(str(folder / FORMATS["torchscript"]))
    torch.export.save(torch.export.export(network, (example,)), str(folder / FORMATS["export"]))
    return network, {loader: folder / name for loader, name in FORMATS.items()}


def write_folder(folder, loader, content: bytes, **changes):
    folder.mkdir()
    (folder / FORMATS[loader]).write_bytes(content)
    card = {
        "name": "brings-code", "loader": loader, "weights": FORMATS[loader],
        "input": {"dims": 3, "channels": [{"name": "CT"}], "orientation": "LPS", "divisible_by": 2},
        "window": {"size": list(SIZE), "overlap": 0.5},
        "output": {"kind": "labels", "labels": {"1": "one", "2": "two"}},
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps({**card, **changes}))
    return folder


def lopsided() -> Volume:
    """A volume that no flip and no swap of axes leaves as it is, stored against LPS."""
    z, y, x = np.mgrid[:10, :14, :18]
    data = (np.hypot(np.hypot(z - 2, y - 3), x - 12) < 4) + 0.02 * x + 0.01 * y
    direction = np.diag([1.0, -1.0, -1.0])
    return Volume((3 * data - 1).astype(np.float32), Grid.from_spacing((2, 1, 1), data.shape, (0, 0, 0), direction))


@pytest.mark.parametrize("loader", FORMATS)
def test_the_labels_are_those_of_the_network_itself(tmp_path, saved, loader):
    network, files = saved
    folder = write_folder(tmp_path / "m", loader, files[loader].read_bytes())
    with pytest.raises(trust.Untrusted, match=r"trust=True.*safetensors"):
        models.load(folder)
    assert not trust.remembered()
    model = models.load(folder, trust=True)
    assert trust.remembered() == {model.sha256: "brings-code"}
    x = torch.rand(3, 1, *SIZE)
    assert torch.allclose(model.module(x), network(x), atol=1e-5)
    image = lopsided()
    found = models.predict(image, model).labels
    plain = models.predict(image, models.Model(model.card, network)).labels
    assert found.grid == image.grid
    assert np.array_equal(found.data, plain.data)
    assert len(np.unique(found.data)) > 1
    # It was turned to LPS and back: the same as turning it ourselves.
    turned = models.predict(image.replace(data=image.data[:, ::-1, ::-1].copy(), grid=_plain_grid(image)), model).labels
    assert np.array_equal(turned.data[:, ::-1, ::-1], found.data)
    # Trust is remembered by the file, wherever it lies.
    assert models.load(folder).sha256 == model.sha256
    trust.forget(model.sha256)
    with pytest.raises(trust.Untrusted):
        models.load(folder)


def _plain_grid(image: Volume) -> Grid:
    last = image.grid.to_world(np.array([0, image.data.shape[1] - 1, image.data.shape[2] - 1]))
    return Grid.from_spacing((2, 1, 1), image.data.shape, last)


def test_an_exported_network_decides_the_window(tmp_path, saved):
    content = saved[1]["export"].read_bytes()
    folder = write_folder(tmp_path / "m", "export", content, window={"size": None})
    model = models.load(folder, trust=True)
    assert model.card.window.size == SIZE
    assert models.predict(lopsided(), model).labels.data.shape == lopsided().data.shape
    with pytest.raises(InputError, match=r"windows of \(8, 12, 16\) only"):
        models.predict(lopsided(), model, window=(8, 8, 8))
    other = write_folder(
        tmp_path / "two", "export", content, input={"dims": 2, "channels": [{"name": "CT"}]}, window={"size": [8, 8]}
    )
    with pytest.raises(InputError, match=r"input\.dims"):
        models.load(other, trust=True)
    channels = {"dims": 3, "channels": [{"name": "a"}, {"name": "b"}]}
    with pytest.raises(InputError, match=r"input\.channels"):
        models.load(write_folder(tmp_path / "more", "export", content, input=channels), trust=True)


class Payload:
    """What an attacker's pickle does: it makes a folder when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def with_member(source, target, name: str, content: bytes) -> bytes:
    """Return a model file to which a member was added, or in which it was replaced."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.infolist():
            if not member.filename.endswith(name):
                new.writestr(member, old.read(member))
        new.writestr(old.infolist()[0].filename.split("/")[0] + "/" + name, content)
    return target.read_bytes()


@pytest.mark.parametrize("loader", FORMATS)
def test_compiled_code_and_strange_pickles_are_never_opened(tmp_path, saved, loader):
    file, mark = saved[1][loader], tmp_path / "it-ran"
    hidden = pickle.dumps(Payload(mark), protocol=4)
    pickled = {"config": {"w": {"path_name": "weight_0", "use_pickle": True}}}
    objects = {"config": {"w": {"path_name": "opaque_obj_0", "use_pickle": False}}}
    payloads = {
        "data/aotinductor/model/wrapper.so": b"\x7fELF",
        "data/aotinductor/model/wrapper.cpp": b"int main() {}",
        "extra/plugin.DLL": b"MZ",
        "somewhere/else": b"",
        "data/constants/evil.pkl": pickle.dumps(Payload(mark), protocol=2),
        "data.pkl": hidden,
        "data/sample_inputs/evil.pt": hidden,
        "data/weights/model_weights_config.json": json.dumps(pickled).encode(),
        "data/constants/model_constants_config.json": json.dumps(objects).encode(),
    }
    for number, (name, content) in enumerate(payloads.items()):
        changed = with_member(file, tmp_path / f"evil-{number}", name, content)
        folder = write_folder(tmp_path / f"m{number}", loader, changed)
        with pytest.raises(FileError, match=r"never run, trusted or not"):
            models.load(folder, trust=True)
    assert not mark.exists()
    assert not trust.remembered()


class Writes(torch.nn.Module):
    """A network that writes what it sees into a file."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "it-ran")
        return x


class Reads(torch.nn.Module):
    """A network that gives away what is in a file."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("/etc/hostname", False, 4, dtype=torch.uint8).sum()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("network", [Writes, Reads])
def test_networks_that_open_files_are_refused(tmp_path, monkeypatch, network):
    monkeypatch.chdir(tmp_path)
    torch.jit.script(network()).save(str(tmp_path / "net"))
    folder = write_folder(tmp_path / "m", "torchscript", (tmp_path / "net").read_bytes())
    with pytest.raises(FileError, match=r"opens files \(torch\.(save|from_file).*never run, trusted or not"):
        models.load(folder, trust=True)
    assert not (tmp_path / "it-ran").exists()
    assert not trust.remembered()


@pytest.mark.parametrize("loader", FORMATS)
def test_an_archive_that_can_be_read_in_two_ways_is_refused(tmp_path, saved, loader):
    content = saved[1][loader].read_bytes()
    evil = with_member(saved[1][loader], tmp_path / "evil", "data/aotinductor/x.so", b"\x7fELF")
    for number, double in enumerate((evil + content, content + evil)):
        folder = write_folder(tmp_path / f"m{number}", loader, double)
        with pytest.raises(FileError, match=r"no plain archive|two archives|never run|no readable"):
            models.load(folder, trust=True)
    assert not trust.remembered()


def test_a_damaged_stream_is_one_sentence(tmp_path, saved):
    target = tmp_path / "packed"
    with zipfile.ZipFile(saved[1]["torchscript"]) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    content = bytearray(target.read_bytes())
    at = content.index(b"data.pkl") + 40
    content[at : at + 60] = b"\xff" * 60
    folder = write_folder(tmp_path / "m", "torchscript", bytes(content))
    with pytest.raises(FileError, match="weights"):
        models.load(folder, trust=True)


@pytest.mark.parametrize("loader", FORMATS)
def test_damaged_and_mistaken_files_are_one_sentence(tmp_path, saved, loader):
    content = saved[1][loader].read_bytes()
    other = saved[1]["export" if loader == "torchscript" else "torchscript"].read_bytes()
    for number, bad in enumerate((b"", b"no archive", content[: len(content) // 2], other)):
        folder = write_folder(tmp_path / f"m{number}", loader, bad)
        with pytest.raises(FileError) as caught:
            models.load(folder, trust=True)
        assert "\n" not in str(caught.value)
        assert "net." in str(caught.value)


def test_a_list_of_trusted_files_that_is_damaged_is_said(tmp_path, saved):
    path = tmp_path / "config" / "trusted-models.json"
    path.parent.mkdir()
    for content in ("{", "[]"):
        path.write_text(content)
        with pytest.raises(FileError, match="delete it"):
            trust.remembered()
