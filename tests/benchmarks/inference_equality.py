"""How many voxels get another label than from the peers: nnU-Net's predictor, MONAI's windows and bundles, the network.

``python tests/benchmarks/inference_equality.py [--quick]``

Volumes and networks are those of the tests: small, lopsided, oblique where the peer can have it, with random weights
(in "large" cases trained ones), so that labels change from voxel to voxel and every difference shows. Peers that are
not installed are named as absent.
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models"))
# Voxels, and those with another label.
Row = tuple[str, str, int, int]


def rows_of_formats(scratch: Path) -> Iterator[Row]:
    """Every format, against the network itself on the same turned image.

    Folders of nnU-Net give what nnU-Net does: its sums are of half precision, which loses the corners of an image.
    """
    import test_model_formats as formats

    from napari_lightbox import models

    for loader in (*formats.FILES, "nnunet", "monai"):
        folder = scratch / loader
        try:
            make = {"nnunet": formats.as_nnunet, "monai": formats.as_bundle}.get(loader)
            wanted = make(folder) if make else formats.as_card(folder, loader)
            found = models.predict(formats.lopsided(), models.load(folder, trust=True)).labels.data
        except pytest.skip.Exception as absent:
            print(f"{loader}: {absent}")
            continue
        yield "the network itself", loader, wanted.size, int(np.count_nonzero(found != wanted))


def rows_of_windows() -> Iterator[Row]:
    """Windows alone, against MONAI's SlidingWindowInferer, where both cut the image into the same windows.

    Elsewhere ours are spread evenly, and MONAI's last one is moved inwards. MONAI's Gaussian weights do not fall below
    a thousandth; ours go on falling, and so do MONAI's in the rows "no floor". Bundles are run as MONAI has both.
    """
    import monai.inferers.utils as theirs

    from napari_lightbox import models
    from napari_lightbox.models.networks import build
    from napari_lightbox.volume import Volume

    torch.manual_seed(1)
    random = build("unet", dims=3, in_channels=1, out_channels=3, channels=(4, 8, 16)).eval()
    asked = [
        ("random", random, "constant", 0.25, (28, 40, 52), True),
        ("random", random, "gaussian", 0.5, (24, 32, 40), True),
        ("random", random, "gaussian", 0.5, (24, 32, 40), False),
        ("random", random, "gaussian", 0.75, (20, 24, 28), False),
        ("blurring", _blurring(), "gaussian", 0.5, (24, 32, 40), True),
    ]  # fmt: skip
    for name, net, mode, overlap, shape, floor in asked:
        data = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
        changed = contextlib.nullcontext() if floor else mock.patch.object(theirs, "compute_importance_map", _bare)
        with torch.inference_mode(), changed:
            image = torch.from_numpy(data[None, None])
            wanted = theirs.sliding_window_inference(image, (16, 16, 16), 1, net, overlap, mode)[0].argmax(0).numpy()
        given = {"window": (16, 16, 16), "overlap": overlap, "blending": mode, "device": "cpu"}
        found = models.predict(Volume.from_array(data, (1.0, 1.0, 1.0)), net, **given).labels.data
        what = f"{name} net, {mode}{'' if floor else ', no floor'}, overlap {overlap}"
        yield "MONAI, windows", what, wanted.size, int(np.count_nonzero(found != wanted))


def _blurring() -> torch.nn.Module:
    """Return a network whose answers depend little on the window, as those of trained ones do: a convolution."""
    torch.manual_seed(1)
    return torch.nn.Conv3d(1, 3, 5, padding=2).eval()


def _bare(size: tuple[int, ...], *_: object, dtype: torch.dtype = torch.float32, **__: object) -> torch.Tensor:
    """Return Gaussian weights as MONAI makes them, also the smallest ones."""
    found = torch.ones(1)
    for length in size:
        places = torch.arange(length) - (length - 1) / 2
        found = found[..., None] * torch.exp(-(places**2) / (2 * (length / 8) ** 2))
    return found[0].to(dtype)


def rows_of_bundles(scratch: Path) -> Iterator[Row]:
    """Bundles that are understood here, and such as MONAI runs in part, against MONAI's own run of the same folder."""
    import test_monai as known
    import test_monai_trusted as foreign

    from napari_lightbox import models

    kinds = {name: lambda folder, name=name: known.write_bundle(
        folder, known.configuration(known.BEFORE[name], postprocessing__transforms=[known.INVERT, known.POST[2]])
    ) for name in known.BEFORE}  # fmt: skip
    kinds["Gaussian windows"] = lambda folder: known.write_bundle(
        folder, known.configuration(postprocessing__transforms=[known.INVERT, known.POST[2]], inferer__mode="gaussian")
    )
    for name, changes in foreign.FOREIGN.items():
        kinds[f"with trust: {name}"] = lambda folder, changes=changes: foreign.dyn_bundle(folder, **changes)
    for number, (name, make) in enumerate(kinds.items()):
        place = scratch / str(number)
        place.mkdir()
        folder = make(place / "bundle")
        image = known.written(known.phantom(), place / "scan.nii.gz")
        wanted = known.by_monai(folder, [place / "scan.nii.gz"])[0]
        found = models.predict(image, models.load(folder, trust=True)).labels.data
        yield "MONAI, bundle", name, wanted.size, int(np.count_nonzero(found != wanted))


def rows_of_nnunet(scratch: Path, quick: bool) -> Iterator[Row]:
    """Results folders, against nnUNetPredictor.predict_single_npy_array."""
    import test_nnunet_equal as equal

    for number, which in enumerate(equal.CASES):
        train = equal.trained if which.startswith("large") else None
        if quick and train:
            continue
        size = int(np.prod(equal.CASES[which][2]["shape"]))
        place = scratch / str(number)
        place.mkdir()
        different, _ = equal.compare(place, which, train)
        yield "nnU-Net", which, size, round(different * size)


def table(quick: bool) -> list[Row]:
    """Return all rows of the peers that are installed."""
    found: list[Row] = []
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(said):
        scratch = Path(folder)
        os.environ["LIGHTBOX_CONFIG"] = str(scratch / "config")
        places = [scratch / name for name in ("formats", "bundles", "nnunet")]
        for place in places:
            place.mkdir()
        found += rows_of_formats(places[0])
        if find_spec("monai"):
            found += [*rows_of_windows(), *rows_of_bundles(places[1])]
        if find_spec("nnunetv2"):
            found += rows_of_nnunet(places[2], quick)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without the networks that are trained first")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")
    absent = [name for name in ("monai", "nnunetv2", "onnx", "onnxruntime") if not find_spec(name)]
    print(f"| {'against':28} | {'configuration':44} | voxels | other label |     share |")
    print(f"|{'-' * 30}|{'-' * 46}|-------:|------------:|----------:|")
    for peer, name, size, different in table(quick):
        print(f"| {peer:28} | {name:44} | {size:6} | {different:11} | {100 * different / size:7.4f} % |")
    if absent:
        print(f"not installed here, so not compared: {', '.join(absent)}")


if __name__ == "__main__":
    main()
