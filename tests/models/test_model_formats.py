"""Every format gives the labels of the network itself, on a volume that no flip and no swap of axes leaves as it is."""

import json
import shutil
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

import bundles  # noqa: E402
import nnunet_folders  # noqa: E402

from napari_lightbox import models, phantoms  # noqa: E402
from napari_lightbox.errors import FileError  # noqa: E402
from napari_lightbox.geometry import Grid  # noqa: E402
from napari_lightbox.models.loaders import SHIPPED  # noqa: E402
from napari_lightbox.models.networks import build  # noqa: E402
from napari_lightbox.volume import Volume  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
FILES = {
    "safetensors": "net.safetensors", "state_dict": "net.pt", "torchscript": "net.ts", "export": "net.pt2",
    "onnx": "net.onnx",
}  # fmt: skip
# As it is stored, and as LPS, (z, y, x).
STORED, TURNED = (12, 16, 8), (8, 12, 16)
ARGS = {"dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "norm": "batch"}


@pytest.fixture(autouse=True)
def own_list(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTBOX_CONFIG", str(tmp_path / "config"))


def save(network, loader, path, size):
    """Write a network in a format; `size` is that of the tensor it is shown."""
    example = torch.rand(size)
    if loader == "safetensors":
        safetensors_torch.save_file(network.state_dict(), path)
    elif loader == "state_dict":
        torch.save(network.state_dict(), path)
    elif loader == "torchscript":
        torch.jit.trace(network, example).save(str(path))
    elif loader == "export":
        torch.export.save(torch.export.export(network, (example,)), str(path))
    else:
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
        torch.onnx.export(network, (example,), str(path), dynamo=False, input_names=["image"], output_names=["logits"])


def lopsided() -> Volume:
    """Return an oblique, anisotropic volume stored as (y, x, z), the first two backwards."""
    turn, _ = np.linalg.qr(np.array([[1.0, 0.15, -0.1], [-0.1, 1.0, 0.2], [0.1, -0.15, 1.0]]))
    turn *= np.sign(np.diag(turn))
    # Columns are the stored axes, in the world of (z, y, x).
    direction = np.stack([-turn[:, 1], -turn[:, 2], turn[:, 0]], axis=1)
    grid = Grid.from_spacing((1.1, 0.8, 3.1), STORED, (-20, 10, 35), direction)
    y, x, z = np.mgrid[:12, :16, :8]
    data = np.sin(x / 2) + np.cos(y / 2 + 0.1 * z * z) + 0.1 * (x - z) + (np.hypot(y - 3, x - 10) < 4)
    return Volume(data.astype(np.float32), grid, name="scan", meta={"modality": "MR", "orientation_known": True})


def to_lps(stored: np.ndarray) -> np.ndarray:
    return stored[::-1, ::-1].transpose(2, 0, 1)


def from_lps(turned: np.ndarray) -> np.ndarray:
    return turned.transpose(1, 2, 0)[::-1, ::-1]


def said(network, image: np.ndarray) -> np.ndarray:
    """Return the labels that a network gives to an array as it lies."""
    with torch.inference_mode():
        return network(torch.from_numpy(image.copy())[None, None])[0].argmax(0).numpy()


def random_network():
    """Return a network to which all classes are about as likely."""
    torch.manual_seed(4)
    network = build("unet", **ARGS)
    image = torch.from_numpy(to_lps(lopsided().data).copy())[None, None]
    with torch.no_grad():
        network(image)
        network.eval().head.bias -= network(image).mean(dim=(0, 2, 3, 4))
    return network


def write_card(folder, loader, **changes):
    card = {
        "name": "net", "loader": loader, "weights": FILES[loader], "architecture": {"name": "unet", "args": ARGS},
        "input": {"dims": 3, "channels": [{"name": "MR"}], "orientation": "LPS"},
        "window": {"size": list(TURNED)}, "output": {"kind": "labels", "labels": {"1": "one", "2": "two"}},
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps({**card, **changes}))


def as_card(folder, loader):
    network = random_network()
    folder.mkdir()
    save(network, loader, folder / FILES[loader], (1, 1, *TURNED))
    write_card(folder, loader)
    return from_lps(said(network, to_lps(lopsided().data)))


def as_nnunet(folder):
    # It sees images as they are stored, here with its axes in another order.
    plans = nnunet_folders.make_plans(
        schemes=("NoNormalization",), spacing=(3.1, 1.1, 0.8), patch=TURNED, transpose=(2, 0, 1)
    )
    dataset = nnunet_folders.make_dataset(channels=("MR",))
    network = nnunet_folders.make_network(plans, dataset)
    nnunet_folders.write_folder(folder, plans, dataset, networks=[network], mirror=None)
    return said(network, lopsided().data.transpose(2, 0, 1)).transpose(1, 2, 0)


def as_bundle(folder):
    config = bundles.configuration((bundles.ORIENTATION, bundles.WINDOW), inferer={"_target_": "SimpleInferer"})
    network = bundles.network()
    bundles.write_bundle(folder, config, weights=network)
    # R, A, S are the other way round than L, P; x is the first axis.
    scaled = (lopsided().data.clip(-2, 2) + 2) / 4
    ras = to_lps(scaled)[:, ::-1, ::-1].transpose(2, 1, 0)
    return from_lps(said(network, ras).transpose(2, 1, 0)[:, ::-1, ::-1])


@pytest.mark.parametrize("loader", [*FILES, "nnunet", "monai"])
def test_the_phantom_comes_back_as_it_went_in(tmp_path, loader):
    folder = tmp_path / "model"
    special = {"nnunet": as_nnunet, "monai": as_bundle}
    wanted = special[loader](folder) if loader in special else as_card(folder, loader)
    image = lopsided()
    found = models.predict(image, models.load(folder, trust=loader in ("torchscript", "export"))).labels
    assert found.grid == image.grid
    # nnU-Net's sums of half precision hold whole numbers only in the corners, where its windows hardly weigh.
    most = 0.03 if loader == "nnunet" else 1e-3
    assert np.mean(found.data != wanted) < most
    for axis in range(3):
        assert np.mean(np.flip(found.data, axis) != wanted) > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ct-regions", "fetal-head"])
def test_shipped_models_say_the_same_in_every_format(tmp_path, name):
    flat = name == "fetal-head"
    size = (1, 1, 128, 192) if flat else (1, 1, 64, 64, 64)
    if flat:
        y, x = np.mgrid[:130, :190]
        ring = np.exp(-((np.hypot((y - 60) / 40, (x - 100) / 60) - 1) ** 2) / 0.02)
        image = Volume.from_array((200 * ring).astype(np.float32), (0.5, 0.5), meta={"modality": "US"})
    else:
        image = phantoms.thorax(seed=3)[0]
    shipped = models.load(name)
    wanted = models.predict(image, shipped).labels.data
    assert len(np.unique(wanted)) == (2 if flat else 7)
    for loader, file in FILES.items():
        folder = tmp_path / loader
        folder.mkdir()
        save(shipped.module, loader, folder / file, size)
        card = json.loads((SHIPPED / name / "card.json").read_text())
        changed = {"loader": loader, "weights": file, "sha256": None}
        (folder / "card.json").write_text(json.dumps({**card, **changed}))
        found = models.predict(image, models.load(folder, trust=True)).labels.data
        assert np.mean(found != wanted) < 1e-5, loader
        shutil.rmtree(folder)


# What no loader opens -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loader", FILES)
def test_links_out_of_the_folder_are_not_followed(tmp_path, loader):
    outside = tmp_path / "secret"
    outside.write_bytes(b"anything")
    folder = tmp_path / "model"
    folder.mkdir()
    write_card(folder, loader)
    (folder / FILES[loader]).symlink_to(outside)
    with pytest.raises(FileError, match="lie outside the model's folder"):
        models.load(folder, trust=True)


def test_archives_that_unpack_to_far_more_are_not_unpacked(tmp_path):
    bomb = tmp_path / "bomb"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("net/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("net/data/0", bytes(80 << 20))
    for loader in ("state_dict", "torchscript", "export"):
        folder = tmp_path / loader
        folder.mkdir()
        write_card(folder, loader)
        shutil.copy(bomb, folder / FILES[loader])
        with pytest.raises(FileError, match="unpack"):
            models.load(folder, trust=True)
