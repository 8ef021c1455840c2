"""The training loop learns, repeats itself, goes on after a break, and stops when told."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from napari_lightbox.errors import FileError, InputError  # noqa: E402
from napari_lightbox.models import load, predict  # noqa: E402
from napari_lightbox.models.networks import build  # noqa: E402
from napari_lightbox.models.train import as_stored, dice_and_cross_entropy, export, fit  # noqa: E402
from napari_lightbox.progress import Cancelled, listening  # noqa: E402
from napari_lightbox.volume import Volume  # noqa: E402

ARCHITECTURE = {"dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "norm": "instance"}


def discs(seed, count=4, size=32):
    """Noisy pictures of one bright disc each, with the truth."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    truth = np.stack([np.hypot(y - rng.integers(10, 22), x - rng.integers(10, 22)) < rng.integers(4, 9)
                      for _ in range(count)])  # fmt: skip
    image = truth + 0.4 * rng.standard_normal(truth.shape)
    return torch.from_numpy(image[:, None]).float(), torch.from_numpy(truth).long()


def score(network):
    image, truth = discs(999, 8)
    found = network(image).argmax(1)
    return float(2 * (found * truth).sum() / (found.sum() + truth.sum()))


def trained(steps=60, **options):
    torch.manual_seed(0)
    return fit(
        build("unet", **ARCHITECTURE),
        discs,
        steps,
        validate=score,
        every=20,
        learning_rate=0.01,
        warm_up=5,
        average=0.8,
        **options,
    )


@pytest.fixture(scope="module")
def found():
    return trained()


def test_it_learns(found):
    torch.manual_seed(0)
    before = score(build("unet", **ARCHITECTURE).eval())
    assert before < 0.5
    assert found.score > 0.88
    assert not found.network.training
    assert score(found.network) == pytest.approx(found.score)
    assert [entry["step"] for entry in found.history] == [20, 40, 60]
    assert found.history[-1]["loss"] < found.history[0]["loss"]


def test_the_same_seed_gives_the_same_weights(found):
    again = trained().network.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in found.network.state_dict().items())


def test_a_training_that_was_cancelled_goes_on_as_if_it_had_not_been(found, tmp_path):
    def stop(description, done, total):
        assert description == "steps"
        if done >= 47:
            raise Cancelled

    with listening(stop), pytest.raises(Cancelled):
        trained(checkpoint=tmp_path / "state.pt")
    rest = trained(checkpoint=tmp_path / "state.pt")
    assert [entry["step"] for entry in rest.history] == [20, 40, 60]
    again = rest.network.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in found.network.state_dict().items())
    assert not list(tmp_path.glob("*.part"))


def test_without_validation_the_last_weights_are_the_result():
    torch.manual_seed(0)
    result = fit(build("unet", **ARCHITECTURE), discs, 25, every=20, warm_up=5)
    assert result.step == 25


def test_half_precision_learns_too(found):
    result = trained(half=True)
    assert all(value.dtype == torch.float32 for value in result.network.state_dict().values())
    assert result.score == pytest.approx(found.score, abs=0.05)
    weights = found.network.state_dict()
    assert any(not torch.equal(value, weights[name]) for name, value in result.network.state_dict().items())


def test_a_loss_that_is_no_number_is_an_error_in_words():
    with pytest.raises(InputError, match="lower learning_rate"):
        fit(build("unet", **ARCHITECTURE), discs, 2, loss=lambda logits, _: logits.mean() * torch.nan)
    with pytest.raises(InputError, match="gradient at step 0 is"):
        # The root of zero is zero, but its slope is infinite.
        fit(build("unet", **ARCHITECTURE), discs, 2, loss=lambda logits, _: (logits.mean() * 0).sqrt())
    with pytest.raises(InputError, match="at least 1"):
        fit(build("unet", **ARCHITECTURE), discs, 0)


def test_the_loss_of_hand_made_logits():
    truth = torch.tensor([[[0, 1], [1, -1]]])
    sure = 50 * (torch.nn.functional.one_hot(truth.clamp(min=0), 2).movedim(-1, 1).float() - 0.5)
    assert float(dice_and_cross_entropy(sure, truth)) == pytest.approx(0, abs=1e-5)
    # Nothing known: ln 2 of entropy, soft overlap 1 of 2 true voxels, 1.5 found in 3 known ones.
    even = dice_and_cross_entropy(torch.zeros(1, 2, 2, 2), truth)
    assert float(even) == pytest.approx(np.log(2) + 1 - (2 * 1 + 1) / (2 + 1.5 + 1))
    # The unknown voxel counts for nothing.
    changed = sure.clone()
    changed[..., 1, 1] = torch.tensor([9.0, -9.0])
    assert float(dice_and_cross_entropy(changed, truth)) == pytest.approx(0, abs=1e-5)


def test_a_class_that_the_batch_lacks_does_not_count_and_weights_do():
    truth = torch.tensor([[[0, 1], [1, 0]]])
    logits = torch.zeros(1, 3, 2, 2)
    # ln 3 of entropy; of class 1 alone: overlap 2/3, found 4/3, true 2.
    dice = 1 - (2 * 2 / 3 + 1) / (4 / 3 + 2 + 1)
    assert float(dice_and_cross_entropy(logits, truth)) == pytest.approx(np.log(3) + dice)
    logits[:, 0] = 2.0
    plain, weighted = (dice_and_cross_entropy(logits, truth, w) for w in (None, (1.0, 4.0, 1.0)))
    assert float(weighted) > float(plain)
    # Only background: entropy alone.
    alone = dice_and_cross_entropy(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long))
    assert float(alone) == pytest.approx(np.log(3))


def test_what_was_exported_is_what_runs(found, tmp_path):
    card = {
        "name": "discs",
        "version": "1",
        "licence": "BSD-3-Clause",
        "architecture": {"name": "unet", "args": ARCHITECTURE},
        "input": {"dims": 2, "channels": [{"name": "picture"}], "orientation": None, "divisible_by": 2},
        "output": {"kind": "labels", "activation": "softmax", "labels": {"1": "disc"}},
    }
    network = as_stored(found.network)
    folder = export(network, card, tmp_path / "discs")
    assert json.loads((folder / "card.json").read_text())["loader"] == "safetensors"
    assert sorted(p.name for p in folder.iterdir()) == ["card.json", "weights.safetensors"]
    image, _ = discs(5, 1)
    with torch.no_grad():
        expected = network(image).argmax(1).numpy()
    found = predict(Volume.from_array(image[0, 0].numpy(), (1.0, 1.0)), load(folder))
    np.testing.assert_array_equal(found.labels.data, expected)


def test_a_failed_export_leaves_the_older_model(found, tmp_path, monkeypatch):
    network = build("unet", **ARCHITECTURE)
    export(network, {"name": "old"}, tmp_path / "m")
    before = {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()}
    write = Path.write_bytes

    def full(path, data):
        if path.name.startswith("card.json"):
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FileError, match="No space left"):
        export(found.network, {"name": "new"}, tmp_path / "m")
    assert {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()} == before
