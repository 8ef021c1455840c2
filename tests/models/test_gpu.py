"""What a GPU is given: measured batches, memory that it reads by itself, features with channels last.

No GPU is needed: what CUDA would say is told by the test, and tensors stay on the CPU.
"""

import numpy as np
import pytest
import torch

from napari_lightbox.models import engine, fast, gpu, predict
from napari_lightbox.models.networks import build


class Card:
    """A GPU with so much free memory that takes so many bytes a voxel of a window."""

    def __init__(self, monkeypatch, free: float, each: float) -> None:
        self.each, self.peak, self.asked = each, 0, []
        told = {
            "mem_get_info": lambda device: (free, 2 * free),
            "memory_allocated": lambda device: 0,
            "max_memory_allocated": lambda device: self.peak,
            "reset_peak_memory_stats": lambda device: None,
            "synchronize": lambda device: None,
            "empty_cache": lambda: None,
        }
        for name, function in told.items():
            monkeypatch.setattr(torch.cuda, name, function)
        zeros = torch.zeros
        monkeypatch.setattr(torch, "zeros", lambda *a, device=None, **k: zeros(*a, **k))

    def ask(self, x):
        """Answer, and note what memory it took."""
        self.asked.append(tuple(x.shape))
        self.peak = int(self.each * x[0, 0].numel() * len(x))
        return x


@pytest.mark.parametrize(("free", "each", "expected"), [(1e9, 1e3, 12), (1e9, 1e2, 16), (1e9, 5e4, 1)])
def test_as_many_windows_as_fit_into_a_share_of_the_free_memory(monkeypatch, free, each, expected):
    card = Card(monkeypatch, free, each)
    assert gpu.windows_at_once(card.ask, (2, 32, 32, 32), "cuda") == expected
    assert card.asked == [(1, 2, 32, 32, 32)]


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("CUDA out of memory"), ValueError("2 channels, not 1")])
def test_one_window_where_not_even_that_fits_or_the_network_fails(monkeypatch, error):
    """Whoever runs it says what is wrong in a sentence."""
    Card(monkeypatch, 1e9, 1)

    def ask(x):
        raise error

    assert gpu.windows_at_once(ask, (1, 8, 8, 8), "cuda") == 1


class Near(gpu.Lane):
    """A lane whose far end is the CPU; it counts buffers, and copies late as a GPU does."""

    def __init__(self) -> None:
        super().__init__("cuda")
        self.made, self.late = [], []

    def _pinned(self, count):
        self.made.append(count)
        return torch.empty(count)

    def _copied(self, tensor):
        target = torch.full_like(tensor, float("nan"))
        self.late.append((target, tensor))
        return target

    def _wait(self):
        for target, source in self.late:
            target.copy_(source)
        self.late.clear()


def test_windows_arrive_whole_though_the_buffer_is_used_again():
    rng, lane = np.random.default_rng(5), Near()
    sent = []
    for count in (1, 3, 2, 3):
        parts = [torch.from_numpy(rng.random((2, 4, 5, 6), np.float32))[:, ::2] for _ in range(count)]
        sent.append((lane.send(parts), torch.stack(parts)))
    lane._wait()
    for arrived, wanted in sent:
        assert torch.equal(arrived, wanted)
    assert lane.made == [2 * 2 * 5 * 6, 3 * 2 * 2 * 5 * 6]  # nothing new where there is room


def test_answers_come_back_through_one_buffer():
    lane = Near()
    for shape in ((3, 4, 5), (2, 4, 5), (3, 4, 5)):
        answer = torch.rand(shape).transpose(0, 1)
        assert torch.equal(lane.fetch(answer), answer)
    assert lane.made == [60]


@pytest.mark.parametrize("dims", [2, 3])
def test_channels_last_changes_the_order_and_no_value(dims):
    torch.manual_seed(3)
    network = build("unet", dims=dims, out_channels=3, channels=[4, 8]).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.rand(2, 1, *[16] * dims)
    plain = network(x)
    order = torch.channels_last if dims == 2 else torch.channels_last_3d
    with torch.inference_mode():
        gpu.arrange(network, channels_last=True)
    wide = [w for w in network.parameters() if w.ndim == dims + 2 and w.shape[2] > 1]
    assert wide
    assert all(w.is_contiguous(memory_format=order) for w in wide)
    turned = network(gpu.arranged(x))
    assert torch.allclose(turned, plain, atol=1e-5)
    turned.sum().backward()  # as explanations do, whatever order the last prediction left
    gpu.arrange(network, channels_last=False)
    assert all(w.is_contiguous() for w in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_fast_on_a_gpu_tries_channels_last_and_leaves_the_weights_as_the_fastest_way_wants_them(monkeypatch):
    network = build("unet", dims=2, out_channels=2, channels=[4, 8]).eval()
    seconds = {"plain": 3.0, "bfloat16": 2.0, "bfloat16 channels-last": 1.0}
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(fast.Prepared, "_wait", lambda self: None)
    monkeypatch.setattr(fast.Prepared, "_timed", lambda self, way, x: (self._ask(way, x), seconds[way]))
    # Autocast of a device that is not there would do nothing but warn.
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype: torch.amp.autocast_mode.autocast("cpu", dtype=dtype))
    ready = fast.prepare(network, None, "cuda", "fast")
    x = torch.rand(1, 1, 16, 16)
    with torch.inference_mode():
        wanted = network(x)
        first, again = ready(x), ready(x)
    assert ready.way == "bfloat16 channels-last"
    assert ready.notes == ("features and weights rounded to bfloat16, 3.0 times as fast as exact here",)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert torch.allclose(first, wanted, atol=0.1)
    exact = fast.prepare(network, None, "cuda", "exact")
    with torch.inference_mode():
        assert torch.equal(exact(x), wanted)
    assert all(w.is_contiguous() for w in network.parameters())


def test_a_gpu_gets_several_windows_at_once_and_gives_the_same_labels(monkeypatch):
    """The engine as it runs on a GPU, on a device that is the CPU by another name."""
    from napari_lightbox import Volume

    data = np.random.default_rng(0).normal(size=(20, 24, 28)).astype(np.float32)
    image = Volume.from_array(data, spacing=(1, 1, 1))
    seen = []

    def network(x):
        seen.append(len(x))
        return torch.cat([x, -x], 1)

    choice = {"window": (8, 8, 8), "overlap": 0.5, "probabilities": 1}
    plain = predict(image, network, **choice)
    seen.clear()
    monkeypatch.setattr(engine, "choose_device", lambda device: "cuda")
    monkeypatch.setattr(engine.Run, "_make_sums", _sums_on_the_cpu)
    monkeypatch.setattr(gpu, "windows_at_once", lambda ask, shape, device, most: 5)
    monkeypatch.setattr(gpu, "Lane", lambda device: Near())
    monkeypatch.setattr(Near, "_copied", lambda self, tensor: tensor.clone())
    found = predict(image, network, **choice)
    assert max(seen) == 5
    assert np.array_equal(found.labels.data, plain.labels.data)
    assert np.array_equal(found.probability(1).data, plain.probability(1).data)


def _sums_on_the_cpu(self, block, plan, channels):
    return engine.Sums(channels, block, [pad[0] for pad in plan.pad], "cpu", blended=plan.options.overlap > 0)
