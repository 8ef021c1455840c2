"""Our networks by compiled layers, against the plain modules in double precision; and which way is taken when."""

import copy

import numpy as np
import pytest

from napari_lightbox import phantoms
from napari_lightbox.errors import InputError
from napari_lightbox.geometry import Grid
from napari_lightbox.ops import _ready
from napari_lightbox.progress import Cancelled

torch = pytest.importorskip("torch")
pytest.importorskip("numba")

from torch import nn  # noqa: E402

from napari_lightbox.models import fast, predict  # noqa: E402
from napari_lightbox.models._fused import Fused, bfloat16  # noqa: E402
from napari_lightbox.models._fused_layers import layers_of  # noqa: E402
from napari_lightbox.models.asking import _StopAsked  # noqa: E402
from napari_lightbox.models.networks import build  # noqa: E402
from napari_lightbox.ops._kernels import conv  # noqa: E402

pytestmark = pytest.mark.skipif(not conv.features_of_processor(), reason="no kernels for this processor")

WIDTHS = conv.tile_widths()[:1]
NNUNET = {
    "dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "n_stages": 3,
    "features_per_stage": [4, 16, 20],
    "kernel_sizes": [[1, 3, 3], 3, 3],
    "strides": [1, [1, 2, 2], 2],
    "conv_bias": True,
    "norm_op": "torch.nn.InstanceNorm3d",
    "norm_op_kwargs": {"affine": True, "eps": 1e-5},
    "nonlin": "torch.nn.LeakyReLU",
}
RESIDUAL = {**NNUNET, "n_blocks_per_stage": [1, 2, 2], "n_conv_per_stage_decoder": 1}
PLAIN = {**NNUNET, "n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2, "nonlin": "torch.nn.ReLU"}
DROPPING = {**PLAIN, "dropout_op": "torch.nn.Dropout3d", "dropout_op_kwargs": {"p": 0.5}}


def made(name, **args):
    """Return a network whose norms, and their statistics, are not what they are made with."""
    torch.manual_seed(0)
    net = build(name, **args).eval()
    with torch.no_grad():
        for values in (*net.parameters(), *net.buffers()):
            if values.ndim == 1 and values.is_floating_point():
                values.uniform_(0.5, 1.5)
    return net


def windows(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def truth(net, x):
    with torch.inference_mode():
        return copy.deepcopy(net).double()(x.double())


def asked(net, x, precision="exact"):
    """Return the answer of the compiled layers, and the way that was taken."""
    with torch.inference_mode(), _ready.waiting():
        ask = fast.prepare(net, None, "cpu", precision, x.shape[2:])
        return ask(x), ask


def away(found, expected):
    """Return the largest difference as a share of the largest value."""
    return float((found.double() - expected).abs().max() / expected.abs().max())


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """Let no window be too small for the compiled layers, and compile narrow tiles only: that is soon done."""
    monkeypatch.setattr(fast, "_LITTLE", 0)
    monkeypatch.setattr(fast, "_ENOUGH", 1e-9)
    monkeypatch.setattr(conv, "tile_widths", lambda: (4,))


@pytest.mark.parametrize(
    ("name", "args", "shape"),
    [
        # More channels than a block holds and fewer; rows of whole tiles, of parts of one, and narrower than any.
        ("unet", {"in_channels": 2, "out_channels": 3, "channels": (4, 17), "residual": True}, (2, 2, 8, 6, 16)),
        ("unet", {"out_channels": 18, "channels": (5, 7, 9), "norm": "batch"}, (1, 1, 4, 8, 12)),
        ("unet", {"in_channels": 17, "channels": (4, 6)}, (1, 17, 4, 6, 14)),
        # Half blocks, into which shortcuts are added row by row.
        ("unet", {"in_channels": 2, "channels": (7, 8, 20), "residual": True, "norm": "batch"}, (2, 2, 8, 4, 12)),
        ("unet", {"dims": 2, "channels": (16, 16), "residual": True, "norm": "batch"}, (3, 1, 6, 16)),
        ("residual_encoder_unet", RESIDUAL, (1, 1, 6, 12, 16)),
        ("residual_unet", RESIDUAL, (1, 1, 6, 12, 16)),
        ("plain_conv_unet", PLAIN, (1, 1, 4, 8, 16)),
    ],
)
def test_our_networks_answer_as_in_double_precision_but_for_rounding(name, args, shape):
    net, x = made(name, **args), windows(*shape)
    found, ask = asked(net, x)
    assert ask.way == "fused"
    expected = truth(net, x)
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    assert away(found, expected) < 1e-5
    # Memory that is used again holds nothing of the window before.
    with torch.inference_mode(), _ready.waiting():
        assert not torch.equal(ask(2 * x + 1), found)
        assert torch.equal(ask(x), found)


def test_tiles_as_wide_as_the_registers_allow_do_as_well():
    net, x = made("unet", dims=2, channels=(4, 6)), windows(1, 1, 10, max(WIDTHS) + 10)
    with _ready.waiting():
        found = Fused(layers_of(net), x.shape[2:], paired=False, widths=WIDTHS)(x)
    assert away(found, truth(net, x)) < 1e-5


def test_instances_far_from_zero_are_normalised_as_well_as_by_torch():
    """A mean of squares less the square of a mean would lose all digits in single precision."""
    net, x = made("unet", dims=2, channels=(4, 6)), windows(1, 1, 16, 16)
    with torch.no_grad():
        net.down[0].conv1.weight.abs_()
    x = x + 3000
    with torch.inference_mode():
        theirs = away(net(x), truth(net, x))
    assert away(asked(net, x)[0], truth(net, x)) < max(1e-5, 2 * theirs)


def test_what_is_not_a_number_comes_out_as_such():
    net, x = made("unet", dims=2, channels=(4, 6)), windows(1, 1, 16, 16)
    x[0, 0, 3, 4] = torch.nan
    assert asked(net, x)[0].isnan().any()
    assert asked(net, x[..., ::1] * torch.inf)[0].isnan().any()


def test_all_folds_answer_together():
    from napari_lightbox.models.folds import Folds

    nets = [made("unet", dims=2, channels=(4, 6)) for _ in range(2)]
    with torch.no_grad():
        nets[1].head.bias += 4
    each, x = [], windows(1, 1, 16, 16)
    for apart in (False, True):
        found, ask = asked(Folds(nets, apart=apart).eval(), x)
        assert ask.way == "fused"
        each.append(found)
    alone = [truth(net, x) for net in nets]
    assert away(each[0], (alone[0] + alone[1]) / 2) < 1e-5
    assert away(each[1], torch.cat(alone, 1)) < 1e-5


@pytest.mark.parametrize("model", ["ct-regions", "fetal-head"])
def test_shipped_models_give_the_same_labels(model, monkeypatch):
    if model == "ct-regions":
        volume = phantoms.thorax(Grid.from_spacing((4, 4, 4), (32, 64, 64), (-64, -128, -128)))[0]
    else:
        volume = phantoms.ultrasound_head(4)[0]
    given = {"dims": 3 if model == "ct-regions" else 2, "device": "cpu"}
    with _ready.waiting() as used:
        found = predict(volume, model, **given).labels.data
    assert any(module == "conv" for module, _ in used)
    monkeypatch.setenv("LIGHTBOX_COMPILED", "0")
    np.testing.assert_array_equal(found, predict(volume, model, **given).labels.data)
    assert found.any()


# Which way ------------------------------------------------------------------------------------------------------


def changed(kind):
    net = made("unet", dims=2, channels=(4, 6))
    if kind == "foreign":
        return nn.Sequential(net)
    if kind == "listened to":
        net.head.register_forward_hook(lambda *_: None)
    if kind == "double":
        return net.double()
    if kind == "another activation":
        net.down[0].activation = nn.GELU()
    if kind == "a convolution with holes":
        net.down[0].conv1 = nn.Conv2d(1, 4, 3, padding=2, dilation=2, bias=False)
    if kind == "a convolution that is too wide":
        net.down[0].conv1 = nn.Conv2d(1, 4, 5, padding=2, bias=False)
    return net


@pytest.mark.parametrize(
    "kind",
    ["foreign", "listened to", "double", "another activation", "a convolution with holes",
     "a convolution that is too wide"],
)  # fmt: skip
def test_all_other_networks_are_asked_as_they_are(kind):
    net = changed(kind)
    x = windows(1, 1, 16, 16).to(next(net.parameters()).dtype)
    found, ask = asked(net, x)
    assert ask.way == "plain"
    with torch.inference_mode():
        assert torch.equal(found, net(x))


def test_dropout_that_is_switched_on_later_is_seen():
    net, x = made("plain_conv_unet", **DROPPING), windows(1, 1, 4, 8, 16)
    found, ask = asked(net, x)
    assert ask.way == "fused"
    assert away(found, truth(net, x)) < 1e-5
    for part in net.modules():
        if isinstance(part, nn.Dropout3d):
            part.train()
    with torch.inference_mode():
        assert not torch.equal(ask(x), ask(x))
    assert ask.way == "plain"


def test_a_size_that_does_not_fit_is_refused_by_the_network_in_words():
    net = made("unet", dims=2, channels=(4, 6))
    with pytest.raises(InputError, match="divisible by 2"):
        asked(net, windows(1, 1, 15, 16))


def test_instances_of_one_voxel_are_refused_as_by_torch():
    net = made("unet", dims=2, channels=(4, 6, 8))
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        asked(net, windows(1, 1, 4, 4))


def test_without_kernels_torch_answers(monkeypatch):
    monkeypatch.setenv("LIGHTBOX_COMPILED", "0")
    net, x = made("unet", dims=2, channels=(4, 6)), windows(1, 1, 16, 16)
    found, ask = asked(net, x)
    with torch.inference_mode():
        assert torch.equal(found, net(x))
    assert ask.way == "plain"


def test_an_answer_that_nobody_waits_for_stops_between_layers():
    import threading

    net, x = made("unet", dims=2, channels=(4, 6)), windows(1, 1, 16, 16)
    _, ask = asked(net, x)
    stopped, seen = threading.Event(), []
    run = ask.ours._fused[(16, 16)][False][0]
    original = run._convolve
    run._convolve = lambda *given: (seen.append(given), stopped.set(), original(*given))
    with torch.inference_mode(), _StopAsked(stopped), pytest.raises(Cancelled):
        ask(x)
    assert len(seen) == 1


# Fewer digits ---------------------------------------------------------------------------------------------------


def test_bfloat16_is_rounded_as_by_torch():
    values = np.random.default_rng(0).normal(0, 1, 5000).astype(np.float32)
    values[:6] = 0, -0.0, np.inf, -np.inf, 3.4e38, 1e-40
    values[6:200].view(np.uint32)[:] = values[6:200].view(np.uint32) & 0xFFFF0000 | 0x8000  # halfway between two
    expected = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(bfloat16(values), expected)
    assert torch.from_numpy(bfloat16(np.float32([np.nan])).view(np.int16)).view(torch.bfloat16).isnan().all()


@pytest.mark.skipif("bf16" not in conv.features_of_processor(), reason="no instructions for bfloat16")
@pytest.mark.parametrize("channels", [(5, 17), (16, 32)])
def test_pairs_of_bfloat16_answer_as_rounded_numbers_do(channels):
    net, x = made("unet", channels=channels, out_channels=3, residual=True), windows(1, 1, 8, 6, 16)
    with torch.no_grad():
        for weight in net.parameters():
            if weight.ndim > 1:
                weight.copy_(weight.bfloat16())
    x = x.bfloat16().float()
    with _ready.waiting():
        found = Fused(layers_of(net), x.shape[2:], paired=True, widths=conv.tile_widths())(x)
    # Only features between layers are rounded now: each by at most a share of 2 ** -9.
    assert 1e-7 < away(found, truth(net, x)) < 2e-2
    first = layers_of(net)[0]
    alone = [first, copy.copy(layers_of(net)[-1])]
    object.__setattr__(alone[0], "norm", None)
    object.__setattr__(alone[0], "slope", 1.0)
    object.__setattr__(alone[1], "sources", (first.target,))
    with _ready.waiting():
        found = Fused(alone, x.shape[2:], paired=True, widths=conv.tile_widths())(x)
    with torch.no_grad():
        middle = net.down[0].conv1(x).bfloat16().double()
        expected = copy.deepcopy(net.head).double()(middle)
    # A sum on the border between two numbers may be rounded to either of them.
    assert ((found.double() - expected).abs() > 1e-5).double().mean() < 1e-2


@pytest.fixture
def clock(monkeypatch):
    """Let the ways of asking take the seconds that a test says."""
    seconds, tried = {}, []
    real = fast.Prepared._timed

    def timed(self, way, x):
        tried.append(way)
        return real(self, way, x)[0], seconds.get(way, 1.0)

    monkeypatch.setattr(fast.Prepared, "_timed", timed)
    monkeypatch.setattr(fast, "_short_numbers", lambda: True)
    return seconds, tried


def test_the_faster_way_is_kept_and_told(clock):
    seconds, tried = clock
    seconds["bfloat16"] = 0.4
    net, x = nn.Conv2d(1, 2, 3, padding=1).eval(), windows(1, 1, 16, 16)
    for number in range(2):
        ask = fast.prepare(net, None, "cpu", "fast", (16, 16))
        with torch.inference_mode():
            found = ask(x)
        assert found.dtype == torch.float32
        assert ask.way == "bfloat16"
        assert ask.notes == ("features and weights rounded to bfloat16, 2.5 times as fast as exact here",)
        assert tried == ["plain", "bfloat16"], number
    assert 1e-6 < away(found, truth(net, x)) < 2e-2


def test_fewer_digits_that_gain_nothing_are_not_taken(clock):
    clock[0]["bfloat16"] = 0.95
    net, x = nn.Conv2d(1, 2, 3, padding=1).eval(), windows(1, 1, 16, 16)
    ask = fast.prepare(net, None, "cpu", "fast")
    with torch.inference_mode():
        assert torch.equal(ask(x), net(x))
    assert ask.notes == ("fewer digits were tried and are not faster here: precision 'fast' computes as 'exact' does",)


def test_a_network_that_knows_no_short_numbers_is_asked_as_it_is(clock):
    class Strict(nn.Module):
        def forward(self, x):
            if torch.is_autocast_enabled("cpu"):
                raise RuntimeError("expected Float")
            return {"out": x + 1}

    ask = fast.prepare(Strict().eval(), None, "cpu", "fast")
    assert torch.equal(ask(torch.zeros(1, 1, 4, 4))["out"], torch.ones(1, 1, 4, 4))
    assert "not faster" in ask.notes[0]


def test_without_instructions_for_it_fast_is_exact_and_says_so(clock, monkeypatch):
    monkeypatch.setattr(fast, "_short_numbers", lambda: False)
    net, x = nn.Conv2d(1, 2, 3, padding=1).eval(), windows(1, 1, 16, 16)
    ask = fast.prepare(net, None, "cpu", "fast")
    with torch.inference_mode():
        assert torch.equal(ask(x), net(x))
    assert ask.notes == (fast._NO_SHORT_NUMBERS,)
    assert not clock[1]


def test_a_function_is_asked_as_it_is_and_a_precision_that_does_not_exist_refused():
    ask = fast.prepare(lambda x: x + 1, None, "cpu", "fast")
    assert float(ask(torch.zeros(1, 1, 2, 2)).sum()) == 4
    assert "no network" in ask.notes[0]
    with pytest.raises(InputError, match="precision 'half'"):
        fast.prepare(nn.Identity(), None, "cpu", "half")
