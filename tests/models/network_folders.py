"""Folders of models in all formats, with networks large enough for their memory to be measured."""

import json

import pytest
from bundles import configuration, write_bundle
from nnunet_folders import architecture, make_plans, write_folder

torch = pytest.importorskip("torch")

from napari_lightbox.models.networks import build  # noqa: E402

CHANNELS = (16, 32, 64)
WHOLE = {"dims": 3, "channels": [{"name": "image"}]}
MONAI = {
    "VNet": {},
    "UNETR": {"feature_size": 16, "hidden_size": 192, "mlp_dim": 768, "num_heads": 6},
    "SwinUNETR": {"feature_size": 24},
    "DynUNet": {"kernel_size": [3] * 4, "strides": [1, 2, 2, 2], "upsample_kernel_size": [2] * 3},
}


def write(folder, kind: str, size: int):
    """Write a model of a kind whose windows have `size` voxels along each axis."""
    if kind in MONAI:
        return _bundle(folder, kind, size)
    if kind == "nnunet":
        plans = make_plans(patch=(size,) * 3, arch=architecture(features=(32, 64, 128)))
        return write_folder(folder, plans)
    return _WRITERS[kind](folder, size)


def _bundle(folder, name: str, size: int):
    nets = pytest.importorskip("monai.networks.nets")
    entry = {"_target_": name, "spatial_dims": 3, "in_channels": 1, "out_channels": 3, **MONAI[name]}
    if name == "UNETR":
        entry["img_size"] = [size] * 3
    args = {key: value for key, value in entry.items() if key != "_target_"}
    changes = {"network_def": entry, "inferer__roi_size": [size] * 3, "inferer__sw_batch_size": 1}
    return write_bundle(folder, configuration(before=(), **changes), weights=getattr(nets, name)(**args))


def _card(folder, size, loader, output=None, weights="weights", **more):
    folder.mkdir(parents=True, exist_ok=True)
    card = {
        "name": folder.name, "version": "1", "loader": loader, "weights": weights, "input": WHOLE,
        "window": {"size": size and [size] * 3}, "output": output or {"kind": "labels", "labels": {"1": "a"}}, **more,
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def _unet():
    torch.manual_seed(0)
    return build("unet", dims=3, channels=CHANNELS, out_channels=2).eval()


def _script(folder, size, network, output=None, whole=False):
    _card(folder, None if whole else size, "torchscript", output)
    with torch.no_grad():
        torch.jit.trace(network.eval(), torch.zeros(1, 1, 32, 32, 32)).save(str(folder / "weights"))
    return folder


def _export(folder, size):
    _card(folder, size, "export", weights="weights.pt2")
    torch.export.save(torch.export.export(_unet(), (torch.zeros(1, 1, *[size] * 3),)), folder / "weights.pt2")
    return folder


def _onnx(folder, size):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    _card(folder, size, "onnx", weights="weights.onnx")
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {n: f"d{n}" for n in (0, 2, 3, 4)}}}
    torch.onnx.export(_unet(), (torch.zeros(1, 1, 32, 32, 32),), folder / "weights.onnx", dynamo=False, **names)
    return folder


def _finer(features: int):
    image = {"kind": "image", "factor": [2, 2, 2]}
    if not features:
        network = torch.nn.Upsample(scale_factor=2, mode="trilinear")
    else:
        n, one = torch.nn, features
        network = n.Sequential(
            n.Conv3d(1, one, 3, padding=1), n.ReLU(), n.Conv3d(one, one, 3, padding=1), n.ReLU(),
            n.ConvTranspose3d(one, 1, 2, 2),
        )  # fmt: skip
    return lambda folder, size: _script(folder, size, network, image)


def _classes(folder, size):
    nets = pytest.importorskip("monai.networks.nets")
    network = nets.DenseNet121(3, 1, 2, init_features=32)
    output = {"kind": "class", "activation": "softmax", "classes": ["a", "b"]}
    return _script(folder, size, network, output, whole=True)


class _Boxes(torch.nn.Module):
    """A detector's features and one box, whatever it sees."""

    def __init__(self):
        super().__init__()
        self.network = _unet()

    def forward(self, x):
        best = self.network(x).flatten(1).amax(1)
        boxes = torch.tensor([[1.0, 1.0, 1.0, 8.0, 8.0, 8.0]]) + 0 * best[:, None]
        return {"boxes": boxes, "scores": best.sigmoid(), "labels": torch.ones_like(best).long()}


def _boxes(folder, size):
    _card(folder, size, "torchscript", {"kind": "boxes", "labels": {"1": "a"}})
    torch.jit.trace(_Boxes().eval(), torch.zeros(1, 1, 32, 32, 32), strict=False).save(str(folder / "weights"))
    return folder


_WRITERS = {
    "torchscript": lambda folder, size: _script(folder, size, _unet()),
    "export": _export,
    "onnx": _onnx,
    "finer": _finer(0),
    "finer-features": _finer(32),
    "class": _classes,
    "boxes": _boxes,
}
KINDS = (*_WRITERS, *MONAI, "nnunet")
SIZES = (64, 96)


def shape_of(kind: str, size: int) -> tuple[int, ...]:
    """Return the size of an image for a kind: of some windows, but one for a network that sees it as a whole."""
    return (size,) * 3 if kind == "class" else (size, 3 * size // 2, 3 * size // 2)
