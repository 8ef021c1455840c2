"""What networks of all formats need: learnt by following them, remembered, and told against what they really take."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nets import Net, ct_card, make, make_card

from napari_lightbox.errors import InputError
from napari_lightbox.models import cost, footprint, load, predict, quote
from napari_lightbox.models.loaders import Model

torch = pytest.importorskip("torch")

import network_folders  # noqa: E402

from napari_lightbox.models import _following  # noqa: E402

MEASURE = Path(__file__).parents[1] / "benchmarks" / "inference_memory.py"
linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
MIB = 1 << 20
# Equal runs of a case, at most.
RUNS = 4


@pytest.fixture(autouse=True)
def own_choices(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTBOX_CONFIG", str(tmp_path / "config"))


@linux
@pytest.mark.slow
@pytest.mark.parametrize("size", network_folders.SIZES)
@pytest.mark.parametrize("kind", network_folders.KINDS)
def test_the_quote_of_any_network_is_within_a_quarter_of_what_is_taken(tmp_path, kind, size):
    """Of small ones within 60 MB; of what equal runs take, as that differs by how the heap is laid out."""
    folder = network_folders.write(tmp_path / kind, kind, size)
    meta = {"modality": "MR" if kind in network_folders.MONAI else "CT"}
    case = {"folder": str(folder), "shape": network_folders.shape_of(kind, size), "meta": meta}
    call = [sys.executable, str(MEASURE), "--case", json.dumps(case)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    taken, near = [], False
    while not near and len(taken) < RUNS:
        done = subprocess.run(call, capture_output=True, text=True, check=True, timeout=3000, env=env)
        found = json.loads(done.stdout.splitlines()[-1])
        taken.append(found["taken"])
        least, most = min(taken), max(taken)
        near = min(0.8 * least, least - 60e6) < found["quoted"] < max(1.25 * most, most + 60e6)
    told = ", ".join(f"{one / 1e6:.0f}" for one in taken)
    print(f"{kind} {size}: quoted {found['quoted'] / 1e6:.0f} MB, taken {told} MB")
    assert near


# Following --------------------------------------------------------------------------------------------------------


def followed(network, shape):
    """Return the bytes that live at once beside the input, without any allowance."""
    following = _following._Following()
    with torch.no_grad(), following:
        network(torch.zeros(shape, device="meta"))
    return following.most - 4 * torch.Size(shape).numel()


def test_what_lives_at_once_is_counted_and_what_is_gone_is_not():
    one = 4 * 64**3
    twice = torch.nn.Sequential(torch.nn.Sigmoid(), torch.nn.Sigmoid(), torch.nn.Sigmoid())
    # While one is made of another both are there.
    assert followed(twice, (1, 1, 64, 64, 64)) == 2 * one
    assert followed(lambda x: torch.cat([x, x.sigmoid()], 1).sum(), (1, 1, 64, 64, 64)) == pytest.approx(3 * one, abs=8)
    assert followed(lambda x: x.view(-1)[5:].transpose(0, 0), (1, 1, 64, 64, 64)) == 0


@pytest.mark.parametrize(
    ("layer", "size", "images"),
    [
        # oneDNN: 16 features in blocks, in and out; then the output.
        (torch.nn.Conv3d(16, 16, 3, padding=1), 64, 2 * 16),
        (torch.nn.Conv3d(8, 2, 3, padding=1), 64, 2 + 16),
        # A matrix of all patches.
        (torch.nn.Conv3d(1, 2, 3, padding=1), 64, 2 + 27),
        (torch.nn.Conv3d(1, 2, 1), 64, 2),
    ],
)
def test_what_convolutions_take_for_themselves(layer, size, images):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = followed(layer, (1, layer.in_channels, size, size, size))
    finally:
        torch.set_num_threads(threads)
    assert found == pytest.approx(images * 4 * size**3, rel=0.01)


def test_a_script_is_followed_like_the_network_it_was_made_of_and_answers_as_before():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, 2, 1))
    network.eval()
    script, shape = torch.jit.trace(network, torch.zeros(1, 1, 8, 8)), (1, 1, 256, 256)
    inputs = torch.rand(1, 1, 16, 16)
    with torch.inference_mode():
        wanted = script(inputs)
    assert followed(script, shape) == followed(network, shape)
    assert _following.needed(script, shape) > _following.needed(network, shape)
    with torch.inference_mode():
        assert torch.equal(script(inputs), wanted)
    assert all(not p.is_meta for p in script.parameters())


def test_what_cannot_be_followed_is_not_known():
    def looks(x):
        return x if float(x.sum()) > 0 else -x

    assert _following.needed(Net(looks), (1, 1, 64, 64, 64)) is None


class Keeps(torch.nn.Module):
    """Keeps a table for each size, on the device of the window that is asked about first; and counts."""

    def __init__(self):
        super().__init__()
        self.weight, self.tables, self.asked = torch.nn.Parameter(torch.ones(1)), {}, 0
        self.register_buffer("seen", torch.zeros(()))
        self.norm = torch.nn.BatchNorm3d(1)

    def forward(self, x):
        self.tables.setdefault(x.shape[-1], torch.linspace(0, 1, x.shape[-1], device=x.device))
        self.seen += 1
        self.asked += 1
        return self.norm(x * self.tables[x.shape[-1]] * self.weight * torch.rand(1))


def test_following_leaves_networks_that_keep_things_as_they_were():
    network = Keeps()
    before, numbers = {name: one.clone() for name, one in network.state_dict().items()}, torch.get_rng_state()
    assert _following.needed(network, (1, 1, 32, 32, 32)) > 4 * 32**3
    assert not network.tables
    assert not network.asked
    assert torch.equal(torch.get_rng_state(), numbers)
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())
    assert network(torch.rand(1, 1, 32, 32, 32)).device.type == "cpu"


class Script(torch.nn.Module):
    tables: dict[int, torch.Tensor]
    last: torch.Tensor | None

    def __init__(self, keeps: str):
        super().__init__()
        self.keeps, self.tables, self.last = keeps, {}, None
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        if self.keeps == "table":
            self.tables[0] = x
        if self.keeps == "attribute":
            self.last = x
        if self.keeps == "buffer":
            self.seen.add_(1.0)
        return x + self.seen


@pytest.mark.parametrize("keeps", ["table", "attribute", "buffer"])
def test_scripts_that_keep_things_are_not_followed(keeps):
    script = torch.jit.script(Script(keeps))
    assert _following.needed(script, (1, 1, 32, 32, 32)) is None
    assert script.seen == 0
    assert not script.tables
    assert script.last is None


def test_who_listens_to_a_network_hears_nothing_of_it():
    network, heard = torch.nn.Sequential(torch.nn.ReLU()), []
    network[0].register_forward_hook(lambda *given: heard.append(given))
    assert _following.needed(network, (1, 1, 32, 32, 32)) is None
    assert not heard


@pytest.mark.parametrize("script", [False, True])
def test_following_can_be_left(monkeypatch, script):
    def left(*_):
        raise KeyboardInterrupt

    network = torch.nn.Sequential(torch.nn.Sigmoid(), torch.nn.ReLU())
    network = torch.jit.script(network) if script else network
    monkeypatch.setattr(_following._Following, "_done", left)
    with pytest.raises(KeyboardInterrupt):
        _following.needed(network, (1, 1, 32, 32, 32))


def test_an_exported_program_is_followed(tmp_path):
    module = load(network_folders.write(tmp_path / "model", "export", 16), trust=True).module
    assert _following.needed(module, (1, 1, 16, 16, 16)) > 4 * 32 * 16**3


def test_a_graph_in_onnx_is_followed_without_being_run(tmp_path):
    from napari_lightbox.models.loaders import _onnx_memory, onnx

    folder = network_folders.write(tmp_path / "model", "onnx", 32)
    module = load(folder).module
    nodes = _onnx_memory._nodes((folder / "weights.onnx").read_bytes(), onnx._fields)
    assert [made for _, _, made in nodes][-1] == ["y"]
    module.forward = lambda x: pytest.fail("asked")
    found = [module.needed((1, 1, n, n, n)) - _onnx_memory._CODE for n in (32, 64)]
    # Twice 16 features are joined, while both parts are there.
    assert found[1] == pytest.approx(_onnx_memory._ARENA * 64 * 4 * 64**3, rel=0.05)
    assert found[1] / found[0] == pytest.approx(8, rel=0.05)
    assert footprint.UNKNOWN not in quote(make((32, 32, 32)), load(folder)).notes


def test_tensors_live_from_where_they_are_made_to_where_they_are_last_read():
    from napari_lightbox.models.loaders._onnx_memory import _most

    nodes = [("Conv", ["x", "w"], ["a"]), ("Conv", ["a"], ["b"]), ("Relu", ["b"], ["c"]), ("Concat", ["c", "a"], ["d"])]
    assert _most(nodes, {"a": 10, "b": 20, "c": 20, "d": 30}) == 60
    # In place, and of a size that nobody said.
    assert _most(nodes[:3], {"a": 1, "b": 20, "c": 20}) == 21
    assert _most(nodes, {"a": 10, "b": 20, "c": 20}) == 60


# In quotes --------------------------------------------------------------------------------------------------------


def wide(x):
    return x.repeat(1, 64, 1, 1, 1)[:, :3] + 0


def test_a_loaded_network_is_in_the_quote_and_one_that_nobody_knows_is_said_to_be_missing():
    card, volume = ct_card(window__size=[64, 64, 64]), make((64, 64, 64))

    class Wide(torch.nn.Module):
        def forward(self, x):
            return wide(x)

    known, unknown = quote(volume, Model(card, Wide())), quote(volume, card)
    assert footprint.UNKNOWN in unknown.notes
    assert footprint.UNKNOWN not in known.notes
    assert known.memory_bytes - unknown.memory_bytes > 60 * 4 * 64**3
    with pytest.raises(InputError, match="of memory and"):
        predict(volume, Model(card, Wide()), memory=(known.memory_bytes + unknown.memory_bytes) / 2)


def test_what_was_learnt_is_remembered_for_the_card_until_the_file_changes(tmp_path):
    folder = network_folders.write(tmp_path / "model", "torchscript", 32)
    volume = make((32, 32, 32))
    assert footprint.UNKNOWN in quote(volume, folder).notes
    learnt = quote(volume, load(folder, trust=True))
    again = quote(volume, folder)
    assert again.memory_bytes == learnt.memory_bytes
    assert footprint.UNKNOWN not in again.notes
    (tmp_path / "config" / "network-memory.json").write_text("no table")
    assert footprint.UNKNOWN in quote(volume, folder).notes
    footprint._found.clear()
    quote(volume, load(folder, trust=True))
    os.utime(folder / "weights", ns=(1, 1))
    assert footprint.UNKNOWN in quote(volume, folder).notes


@pytest.mark.parametrize("size", ["-5", "Infinity", "[1]", '"much"'])
def test_a_table_that_was_tampered_with_says_nothing(tmp_path, size):
    (tmp_path / "config").mkdir()
    table = f'{{"version": {footprint._VERSION}, "networks": {{"a": {{"1 1 8": {size}}}}}}}'
    (tmp_path / "config" / "network-memory.json").write_text(table)
    assert not footprint._remembered().get("a")


def test_without_a_home_nothing_is_remembered(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(footprint, "_file", nowhere)
    footprint._remember("a", "1 1 8", 5)
    assert footprint._remembered() == {}


def test_quotes_of_answers_and_finer_images_know_the_network():
    volume = make((32, 32, 32))
    image = make_card(window__size=[32, 32, 32], output={"kind": "image", "activation": "none", "factor": [2, 2, 2]})
    value = make_card(output={"kind": "value", "values": [{"name": "mean"}]})

    class Little(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.interpolate(x, scale_factor=2)

    for card, network in ((image, Little()), (value, torch.nn.Identity())):
        guessed, known = quote(volume, card), quote(volume, Model(card, network))
        assert any("a guess" in note for note in guessed.notes)
        assert not any("a guess" in note for note in known.notes)
        assert known.memory_bytes < guessed.memory_bytes + 8 * MIB


def test_networks_of_compiled_layers_and_little_windows_are_not_looked_at(monkeypatch):
    monkeypatch.setattr(footprint, "_followed", lambda *_: pytest.fail("looked"))
    monkeypatch.setattr(cost._ready, "available", lambda: True)
    ours = ct_card(window__size=[32, 32, 32], architecture={"name": "unet", "args": {"channels": [4, 8]}})
    quote(make((32, 32, 32)), Model(ours, Net(lambda x: x)))
    quote(make((16, 16, 16)), Model(make_card(output={"kind": "image"}), Net(lambda x: x)))
