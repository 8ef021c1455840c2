"""The training of ct-regions, in small: it runs through, and its batches depend on nothing but their number."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from napari_lightbox import cli, phantoms  # noqa: E402
from napari_lightbox.geometry import Grid  # noqa: E402
from napari_lightbox.models import load, predict  # noqa: E402
from napari_lightbox.models.shipped import measure_ct_regions as measure  # noqa: E402
from napari_lightbox.models.shipped import train_ct_regions as ct  # noqa: E402


@pytest.fixture
def small(monkeypatch):
    """Windows and views so small that a step takes no time."""
    monkeypatch.setattr(ct, "VIEW", (16, 32, 32))
    monkeypatch.setattr(ct, "LEARNING_WINDOW", (16, 16, 16))
    monkeypatch.setattr(ct, "FINALS", (1, 2))


def test_batches_repeat_themselves_in_any_order(small):
    first = ct.Phantoms(0)
    batches = [first(step) for step in range(10)]
    images, truth = batches[9]
    assert images.shape == (2, 1, 16, 16, 16)
    assert truth.shape == (2, 16, 16, 16)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    assert int(truth.min()) >= -1
    assert int(truth.max()) < ct.CLASSES
    again = ct.Phantoms(0)(9)  # as after a break
    assert all(torch.equal(a, b) for a, b in zip(batches[9], again, strict=True))
    assert not torch.equal(batches[8][0], batches[9][0])
    other = ct.Phantoms(1)(9)
    assert not torch.equal(other[0], batches[9][0])


def test_a_second_process_draws_the_same_views(monkeypatch):
    monkeypatch.setattr(ct, "_draw", _stripes)
    with ct.Phantoms(5, background=True, ahead=3) as batch:
        for number in (2, 3, 7):
            drawn, here = batch.view(number), _stripes(5, number)
            assert all(np.array_equal(a, b) for a, b in zip(drawn, here, strict=True))
        assert [n for n, _ in batch.pending] == [8, 9]
    assert batch.pool._processes is None or not batch.pool._processes


def _stripes(seed, number):
    rng = np.random.default_rng([seed, number])
    return rng.standard_normal((4, 4, 4)), rng.integers(0, 3, (4, 4, 4))


def test_bone_counts_more_in_the_late_steps(small, monkeypatch):
    monkeypatch.setattr(ct, "LATE", 2)
    batch = ct.Phantoms(0)
    logits = torch.zeros(1, ct.CLASSES, 1, 1, 2)
    logits[:, 6] = 1.0  # soft tissue, wrong for one voxel of bone and right for the other
    target = torch.tensor([[[[3, 6]]]])
    losses = []
    for step in (1, 2):
        batch(step)
        losses.append(float(batch.loss(logits, target)))
    assert losses[1] > losses[0] + 0.1


def test_old_views_are_forgotten(small, monkeypatch):
    monkeypatch.setattr(ct, "REMEMBERED", 2)
    batch = ct.Phantoms(0)
    for step in range(0, 24):
        batch(step)
    assert set(batch.views) <= {3, 4, 5}


def test_the_command_trains_a_model_that_runs(small, tmp_path, capsys, monkeypatch):
    for name in ("thorax", "beating_heart"):  # these figures are taken of the shipped model
        monkeypatch.setattr(measure, name, lambda model: {"how": "not measured"})
    out = tmp_path / "model"
    assert cli.main(["train", "ct-regions", "--out", str(out), "--steps", "2", "--threads", "1"]) == 0
    assert "score" in capsys.readouterr().out
    names = ["card.json", "failure-1.png", "failure-2.png", "failure-3.png", "weights.safetensors"]
    assert sorted(p.name for p in out.iterdir()) == names  # the checkpoint is gone
    figures = json.loads((out / "card.json").read_text(encoding="utf-8"))["figures"]
    assert set(figures) == {"phantoms", "thorax", "beating_heart", "failures", "training"}
    assert figures["training"]["steps"] == 2
    image, _ = phantoms.thorax(Grid.from_spacing((8, 8, 8), (24, 32, 32), (-90, -120, -120)))
    found = predict(image, load(out)).labels
    assert found.data.shape == image.data.shape
    assert set(np.unique(found.data)) <= set(range(ct.CLASSES))
