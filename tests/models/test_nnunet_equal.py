"""Results folders of nnU-Net against nnU-Net itself, where it is installed."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("nnunetv2.inference.predict_from_raw_data", exc_type=ImportError)

import nnunet_folders as folders  # noqa: E402

from napari_lightbox import models  # noqa: E402
from napari_lightbox.geometry import Grid  # noqa: E402
from napari_lightbox.volume import Volume  # noqa: E402

REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "middle": [3], "ignore": 4}


def case(spacing, shape, *, channels=1, empty=0, seed=1):
    """Return images of soft blobs, lopsided, with a border of zeros that differs from side to side."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    found = []
    for number in range(channels):
        data = gaussian_filter(rng.normal(0, 1, shape), 2.0 / np.sqrt(spacing))
        data = 90 + 150 * data / data.std() + 40 * number
        if empty:
            data[:empty] = data[:, -2 * empty :] = data[:, :, : empty + 1] = 0
            data[shape[0] // 2, shape[1] // 3 : shape[1] // 3 + 3, shape[2] // 2 : shape[2] // 2 + 3] = 0
        found.append(Volume(data.astype(np.float32), Grid.from_spacing(spacing, shape), name=f"scan {number}"))
    return found


def of_nnunet(folder, images, probabilities=False):
    """Return what nnU-Net says."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(0.5, True, True, False, torch.device("cpu"), False, False, False)
    predictor.initialize_from_trained_model_folder(str(folder), None)
    data = np.stack([image.data for image in images]).astype(np.float32)
    spacing = [float(s) for s in images[0].grid.spacing]
    return predictor.predict_single_npy_array(data, {"spacing": spacing}, None, None, probabilities)


def residual(dims=3):
    return folders.architecture(dims, "ResidualEncoderUNet")


THICK = [[1, 1, 1], [1, 2, 2]]
CASES = {
    "isotropic": ({}, {}, {"spacing": (1.3, 0.8, 1.1), "shape": (22, 34, 30)}),
    "as it comes": ({"masked": [True], "schemes": ["ZScoreNormalization"]}, {},
                    {"spacing": (1, 1, 1), "shape": (20, 33, 30), "empty": 2}),
    "thick slices": ({"spacing": (5.0, 0.9, 0.9), "patch": (8, 24, 24),
                      "network": folders.architecture(strides=THICK, kernels=[[1, 3, 3], [3, 3, 3]])},
                     {}, {"spacing": (4.0, 0.7, 0.8), "shape": (12, 40, 44), "empty": 1}),
    "thick image": ({"spacing": (1.5, 1.5, 1.5)}, {}, {"spacing": (6.0, 1.1, 1.2), "shape": (8, 36, 30)}),
    "transposed": ({"transpose": (2, 0, 1), "spacing": (4.0, 1.0, 1.2), "network": residual()}, {},
                   {"spacing": (1.1, 1.0, 3.6), "shape": (34, 30, 11), "empty": 1}),
    "regions": ({"spacing": (1.2, 1.2, 1.2), "schemes": ["ZScoreNormalization", "RescaleTo01Normalization"],
                 "masked": [True, False]},
                {"labels": REGIONS, "regions_class_order": [1, 2, 3], "channels": ("T1", "FLAIR")},
                {"spacing": (1.0, 1.0, 1.0), "shape": (20, 28, 26), "channels": 2, "empty": 3}),
    "2d": ({"name": "2d", "spacing": (0.9, 0.9), "patch": (24, 32), "schemes": ["ZScoreNormalization"]},
           {"channels": ("MR",)}, {"spacing": (3.0, 0.7, 0.8), "shape": (7, 44, 50), "empty": 1}),
    "folds, lowres": ({"name": "3d_lowres", "spacing": (2.0, 2.0, 2.0), "schemes": ["NoNormalization"]}, {},
                      {"spacing": (1.0, 1.1, 1.0), "shape": (34, 40, 36)}),
    "large, isotropic": ({"spacing": (1.2, 1.2, 1.2), "patch": (32, 32, 32)}, {},
                         {"spacing": (1.5, 1.0, 1.0), "shape": (40, 66, 60)}),
    "large, thick slices": ({"spacing": (5.0, 1.0, 1.0), "patch": (12, 48, 40),
                             "network": folders.architecture(strides=THICK, kernels=[[1, 3, 3], [3, 3, 3]])}, {},
                            {"spacing": (5.0, 0.8, 0.8), "shape": (14, 90, 84)}),
    "small": ({}, {"labels": {"background": 0, "one": 1, "ignore": 2}}, {"spacing": (1, 1, 1), "shape": (9, 15, 21)}),
}  # fmt: skip


def trained(plans, dataset, steps=120):
    """Return a network that learned to tell dark, middle and bright blobs apart in noise."""
    from scipy.ndimage import gaussian_filter

    config = plans["configurations"]["3d_fullres"]
    network = folders.make_network(plans, dataset).train()
    for value in network.parameters():
        if value.ndim > 1:
            torch.nn.init.kaiming_normal_(value)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    rng, size = np.random.default_rng(5), config["patch_size"]
    for _ in range(steps):
        image = gaussian_filter(rng.normal(0, 1, size), 3.0 / np.array(config["spacing"]))
        image = 1.25 * image / image.std()
        truth = torch.from_numpy((image > 0.2).astype(int) + (image > 1))[None]
        noisy = np.clip(image, -3.25, 2.58) + rng.normal(0, 0.5, size)
        answer = network(torch.from_numpy(noisy.astype(np.float32))[None, None])
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(answer, truth).backward()
        optimiser.step()
    return network.eval()


def compare(tmp_path, which, train=None):
    """Return the share of voxels with other labels, and how far probabilities are apart; write them down."""
    of_plans, of_dataset, of_image = CASES[which]
    plans, dataset = folders.make_plans(**of_plans), folders.make_dataset(**of_dataset)
    name = of_plans.get("name", "3d_fullres")
    axes = tuple(range(len(plans["configurations"][name]["patch_size"])))
    folder = tmp_path / f"nnUNetTrainer__nnUNetPlans__{name}"
    many = 2 if "folds" in which else 1
    mirror = {"small": None, "large": axes[:1]}.get(which[:5], axes)
    networks = [train(plans, dataset)] if train else None
    folders.write_folder(folder, plans, dataset, folds=many, name=name, mirror=mirror, networks=networks)
    images = case(**of_image)
    wanted, probability = of_nnunet(folder, images, True)
    found = models.predict(images, models.load(folder), probabilities="all")
    different = float(np.mean(found.labels.data != wanted))
    apart = max(float(np.abs(found.probability(v).data - probability[n]).max()) for n, v in enumerate(found.values))
    assert np.count_nonzero(np.bincount(wanted.ravel())) == len(dataset["labels"]) - ("ignore" in dataset["labels"])
    print(f"{which}: {100 * different:.4f} % of {wanted.size} voxels, probabilities {apart:.1e} apart")
    return different, apart


@pytest.mark.parametrize("which", CASES)
def test_labels_are_those_of_nnunet(tmp_path, which):
    """As nnU-Net is installed: sums, and what is resampled of them, rounded to half precision."""
    different, apart = compare(tmp_path, which, trained if which.startswith("large") else None)
    assert different < 2e-4
    assert apart < 1e-3
