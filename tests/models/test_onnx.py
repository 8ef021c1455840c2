"""Networks in ONNX: the same labels as the network itself, and nothing outside of the model's folder is read."""

import json
import struct
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from napari_lightbox import models  # noqa: E402
from napari_lightbox.errors import FileError, InputError, MissingPart  # noqa: E402
from napari_lightbox.geometry import Grid  # noqa: E402
from napari_lightbox.models.loaders import onnx, trust  # noqa: E402
from napari_lightbox.models.networks import build  # noqa: E402
from napari_lightbox.volume import Volume  # noqa: E402


@pytest.fixture(autouse=True)
def own_list(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTBOX_CONFIG", str(tmp_path / "config"))


# ONNX by hand: protobuf is numbers of fields, lengths and contents -------------------------------------------------


def number(field, value):
    return varint(field << 3) + varint(value)


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def part(field, content):
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def node(operation, inputs, output, attributes=b"", domain=""):
    names = b"".join(part(1, name) for name in inputs)
    return part(1, names + part(2, output) + part(4, operation) + attributes + (part(7, domain) if domain else b""))


def value(field, name, sizes, kind=1):
    dims = b"".join(part(1, number(1, n) if isinstance(n, int) else part(2, n)) for n in sizes)
    return part(field, part(1, name) + part(2, part(1, number(1, kind) + part(2, dims))))


def tensor(name, external=None):
    data = number(1, 1) + number(2, 1) + part(8, name)
    if external is None:
        return part(5, data + part(9, struct.pack("<f", -1.0)))
    return part(5, data + part(13, part(1, "location") + part(2, external)) + number(14, 1))


def model_file(sizes=("n", 1, "z", "y", "x"), *, external=None, extra=b"", inputs=b"", kind=1):
    """Return a network of two classes, -x and x: the second is where the image is above zero."""
    answer = [sizes[0], 2, *sizes[2:]]
    axis = part(5, part(1, "axis") + number(3, 1) + number(20, 2))
    graph = node("Mul", ["image", "minus"], "other") + node("Concat", ["other", "image"], "logits", axis) + extra
    graph += part(2, "g") + tensor("minus", external) + value(11, "image", sizes, kind) + inputs
    graph += value(12, "logits", answer, kind)
    return number(1, 8) + part(7, graph) + part(8, number(2, 13))


def write_folder(folder, content, *, dims=3, **changes):
    folder.mkdir(parents=True)
    (folder / "net.onnx").write_bytes(content)
    card = {
        "name": "graph", "loader": "onnx", "weights": "net.onnx",
        "input": {"dims": dims, "channels": [{"name": "CT"}], "orientation": "LPS"},
        "window": {"size": [4, 8, 8][-dims:]}, "output": {"kind": "labels", "labels": {"1": "one"}},
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps({**card, **changes}))
    return folder


def lopsided():
    z, y, x = np.mgrid[:6, :11, :13]
    data = 3.0 * (np.hypot(np.hypot(z - 2, y - 3), x - 9) < 3) - 1 + 0.01 * (z + y + x)
    direction = np.diag([1.0, -1.0, -1.0])
    return Volume(data.astype(np.float32), Grid.from_spacing((2, 1, 1), data.shape, (0, 0, 0), direction))


# Running ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [("n", 1, "z", "y", "x"), (2, 1, 4, 8, 8)])
def test_a_lopsided_volume_comes_back_as_it_lies(tmp_path, sizes):
    pytest.importorskip("onnxruntime")
    image = lopsided()
    model = models.load(write_folder(tmp_path / "m", model_file(sizes), window={"size": [4, 8, 8]}))
    assert not trust.remembered()
    found = models.predict(image, model).labels
    assert found.grid == image.grid
    assert np.array_equal(found.data, image.data > 0)
    if sizes[0] == 2:
        with pytest.raises(InputError, match=r"windows of \(4, 8, 8\) only"):
            models.predict(image, model, window=(4, 8, 12))
        free = models.load(write_folder(tmp_path / "free", model_file(sizes), window={"size": None}))
        assert free.card.window.size == (4, 8, 8)
        assert np.array_equal(models.predict(image, free).labels.data, image.data > 0)


def test_what_the_file_fixes_must_fit_the_card(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(InputError, match=r"input\.dims"):
        models.load(write_folder(tmp_path / "dims", model_file((1, 1, 4, 8, 8)), dims=2))
    two = {"dims": 3, "channels": [{"name": "a"}, {"name": "b"}]}
    with pytest.raises(InputError, match=r"input\.channels"):
        models.load(write_folder(tmp_path / "channels", model_file((1, 1, 4, 8, 8)), input=two))
    more = write_folder(tmp_path / "more", model_file(inputs=value(11, "second", (1, 1, 4, 8, 8))))
    with pytest.raises(InputError, match="take 2 inputs"):
        models.load(more)
    flat = write_folder(tmp_path / "flat", model_file(("n", 1)))
    with pytest.raises(InputError, match="one tensor of real numbers"):
        models.load(flat)


def test_weights_beside_the_file_belong_to_its_hash(tmp_path):
    pytest.importorskip("onnxruntime")
    folder = write_folder(tmp_path / "m", model_file(external="minus.data"))
    with pytest.raises(FileError, match=r"'minus\.data' beside them"):
        models.load(folder)
    (folder / "minus.data").write_bytes(struct.pack("<f", -1.0))
    model = models.load(folder)
    assert np.array_equal(models.predict(lopsided(), model).labels.data, lopsided().data > 0)
    (folder / "minus.data").write_bytes(struct.pack("<f", -2.0))
    assert models.load(folder).sha256 != model.sha256


@pytest.mark.parametrize("name", ["fetal-head", "unet"])
def test_an_exported_network_gives_the_same_labels(tmp_path, name):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    if name == "unet":
        torch.manual_seed(1)
        network = build("unet", dims=3, channels=(4, 8)).eval()
        torch.nn.init.zeros_(network.head.bias)
        folder = write_folder(tmp_path / "m", b"")
        card, example, image = models.read_card(folder), torch.rand(1, 1, 4, 8, 8), lopsided()
        own = models.Model(card, network)
    else:
        own = models.load(name)
        folder = write_folder(tmp_path / "m", b"")
        content = json.loads((own.card.folder / "card.json").read_text())
        content.update(loader="onnx", weights="net.onnx", sha256=None)
        (folder / "card.json").write_text(json.dumps(content))
        rng = np.random.default_rng(2)
        example = torch.rand(1, 1, 64, 64)
        data = np.clip(rng.normal(60, 30, (1, 140, 190)), 0, 255)
        data[:, 40:100, 50:140] += 60
        image = Volume(data.astype(np.float32), Grid.from_spacing((1, 1, 1), data.shape), meta={"modality": "US"})
    axes = {0: "n", **{a: f"s{a}" for a in range(2, example.ndim)}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            own.module, (example,), str(folder / "net.onnx"), dynamo=False, input_names=["image"],
            output_names=["logits"], dynamic_axes={"image": axes, "logits": axes},
        )  # fmt: skip
    wanted = models.predict(image, own, probabilities=1)
    found = models.predict(image, models.load(folder), probabilities=1)
    assert np.abs(found.probability(1).data - wanted.probability(1).data).max() < 1e-4
    assert np.mean(found.labels.data != wanted.labels.data) < 1e-4
    assert len(np.unique(found.labels.data)) > 1


# Refusing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.bin", "a/../../secret.bin", "link.bin", ""])
def test_no_file_outside_of_the_folder_is_read(tmp_path, name):
    (tmp_path / "secret.bin").write_bytes(struct.pack("<f", 7.0))
    folder = write_folder(tmp_path / "m", model_file(external=name))
    (folder / "a").mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(FileError, match="outside of the model's folder"):
        models.load(folder, trust=True)


def test_no_file_is_read_for_a_constant_inside_a_branch(tmp_path):
    constant = part(5, part(1, "value") + part(5, tensor("c", "../secret.bin")[2:]) + number(20, 4))
    branch = part(5, part(1, "then_branch") + part(6, node("Constant", [], "c", constant)) + number(20, 5))
    path = tmp_path / "net.onnx"
    path.write_bytes(model_file(extra=node("If", ["image"], "c", branch)))
    with pytest.raises(FileError, match="outside of the model's folder"):
        onnx.external_files(path)


def test_compiled_code_and_strange_operations_are_refused(tmp_path):
    context = model_file(extra=node("EPContext", ["image"], "c", domain="com.microsoft"))
    with pytest.raises(FileError, match="compiled code"):
        models.load(write_folder(tmp_path / "context", context), trust=True)
    pytest.importorskip("onnxruntime")
    strange = model_file(extra=node("Mine", ["image"], "c", domain="my.library"))
    with pytest.raises(FileError, match="cannot be opened by onnxruntime"):
        models.load(write_folder(tmp_path / "strange", strange), trust=True)


def test_damaged_files_are_one_sentence(tmp_path, rng):
    runs = pytest.importorskip("onnxruntime")
    assert runs
    content = model_file()
    bad = [b"", b"no model", content[: len(content) // 2], content[:-3], rng.bytes(300), b"\xff" * 40]
    for place, one in enumerate(bad):
        with pytest.raises((FileError, InputError)) as caught:
            models.load(write_folder(tmp_path / f"m{place}", one))
        assert "\n" not in str(caught.value)


def test_without_onnxruntime_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPart, match=r"napari-lightbox\[models\]"):
        models.load(write_folder(tmp_path / "m", model_file()))
