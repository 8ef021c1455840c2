"""Bounded memory changes no voxel: blocks and rolling sums against the plain way, which holds everything at once."""

import numpy as np
import pytest
from full_memory import full_memory
from nets import Net, make, make_card

from napari_lightbox.models import bands, predict, quote
from napari_lightbox.models.loaders import Model
from napari_lightbox.models.networks import build
from napari_lightbox.models.plan import make_plan, options_for

torch = pytest.importorskip("torch")

NAMES = {"1": "a", "2": "b"}
# What differs from a 3D network on the image's own grid: card, arguments, shape.
CASES = {
    "overlapping": ({"window__size": [4, 6, 8]}, {}, (13, 17, 21)),
    "three in a row": ({"window__size": [6, 6, 6], "window__overlap": 0.7}, {"mirror": (0, 2)}, (9, 12, 11)),
    "side by side": ({"window__size": [4, 6, 8], "window__overlap": 0}, {}, (13, 17, 21)),
    "finer": ({"window__size": [4, 6, 8], "input__spacing": [1.3, 1.1, 0.8]}, {}, (9, 14, 16)),
    "coarser": ({"window__size": [4, 4, 4], "input__spacing": [4.1, 2.9, 2.2]}, {}, (20, 19, 22)),
    "much coarser": ({"window__size": [2, 2, 2], "input__spacing": [9.0, 6.0, 5.0]}, {}, (20, 19, 22)),
    "much finer": ({"window__size": [8, 8, 8], "input__spacing": [0.4, 1.5, 0.3]}, {}, (4, 12, 5)),
    "padded": ({"window__size": [16, 8, 8]}, {"blending": "constant"}, (5, 11, 20)),
    "turned": ({"window__size": [4, 6, 8], "input__orientation": "SAR", "input__spacing": [1.5, 1.5, 1.5]}, {},
               (11, 12, 13)),
    "whole": ({"input__divisible_by": 4}, {}, (7, 9, 10)),
    "slices": ({"input__dims": 2, "window__size": [8, 8]}, {}, (7, 17, 21)),
    "slices, resampled": ({"input__dims": 2, "window__size": [8, 8], "input__spacing": [1.1, 1.4]}, {}, (5, 17, 21)),
}  # fmt: skip


def a_model(changes, kind="labels"):
    torch.manual_seed(3)
    card = make_card(output={"kind": kind, "labels": NAMES}, **changes)
    conv = torch.nn.Conv2d if card.input.dims == 2 else torch.nn.Conv3d
    classes = len(card.output.values)
    network = torch.nn.Sequential(conv(1, 4, 3, padding=1), torch.nn.ReLU(), conv(4, classes, 3, padding=1))
    with torch.no_grad():
        network[2].weight.mul_(20)
    return Model(card, network)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("memory", [None, 2000])
def test_every_voxel_is_that_of_the_plain_way(name, memory):
    changes, given, shape = CASES[name]
    model, volume = a_model(changes), make(shape)
    labels, probabilities, entropy = full_memory(volume, model, **given)
    assert len(np.unique(labels)) == 3
    found = predict(volume, model, probabilities="all", uncertainty=True, memory=memory, check=False, **given)
    assert np.array_equal(found.labels.data, labels)
    np.testing.assert_allclose([found.probability(v).data for v in range(3)], probabilities, atol=2e-7)
    np.testing.assert_allclose(found.uncertainty.data, entropy, atol=2e-6)
    if memory is not None and name != "whole":
        assert any("divided into" in note for note in found.notes)


@pytest.mark.parametrize("memory", [None, 2000])
def test_regions_are_those_of_the_plain_way(memory):
    model, volume = a_model({"window__size": [4, 6, 8]}, "regions"), make((13, 17, 21))
    labels, probabilities, _ = full_memory(volume, model)
    found = predict(volume, model, probabilities="all", memory=memory, check=False)
    assert np.array_equal(found.labels.data, labels)
    np.testing.assert_allclose([found.probability(v).data for v in (1, 2)], probabilities, atol=2e-7)


def test_images_of_bounded_memory_are_the_same():
    torch.manual_seed(0)
    card = make_card(window__size=[4, 6, 8], input__spacing=[1.3, 1.1, 0.8])
    model, volume = Model(card, build("unet", dims=3, out_channels=2, channels=(2, 4))), make((2, 7, 11, 12))
    whole, parts = (predict(volume, model, memory=m, check=False) for m in (None, 2000))
    for channel in (0, 1):
        assert whole.output(channel).data.tobytes() == parts.output(channel).data.tobytes()


def test_the_first_of_equal_classes_is_taken():
    card = make_card(output={"kind": "labels", "labels": NAMES}, window__size=[3, 3, 3])
    ties = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]).T

    def network(x):
        return ties[:, (x[:, 0] * 10).long().abs() % 3].movedim(0, 1)

    found = predict(make((7, 8, 9)), Model(card, Net(network)), overlap=0)
    wanted = np.array([0, 0, 1])[np.abs((make((7, 8, 9)).data * 10).astype(int)) % 3]
    assert np.array_equal(found.labels.data, wanted)


# The schedule -----------------------------------------------------------------------------------------------------


def plan_of(name):
    changes, given, shape = CASES[name]
    card = a_model(changes).card
    return make_plan([make(shape)], card, options_for(card, **given))


@pytest.mark.parametrize("name", CASES)
def test_blocks_finish_every_voxel_once_and_hold_what_they_need(name):
    plan = plan_of(name)
    ways = bands.ways_back(plan)
    for parts in ((1, 1), (2, 1), (3, 2), (99, 99)):
        times = np.zeros(plan.shape, int)
        for block in bands.cover(plan, *parts):
            started = [w.start for w in block.windows]
            assert started == sorted(started)
            assert block.steps[-1].windows.stop == len(block.windows)
            for step in block.steps:
                times[step.out, block.out[0], block.out[1]] += 1
                assert step.top - step.base <= block.held[0]
                for z in range(step.out.start, step.out.stop):
                    assert step.base <= ways[0].first[z] <= ways[0].last[z] < step.top
                    later = [s[0] - plan.pad[0][0] for s in started[step.windows.stop :]]
                    assert all(ways[0].last[z] < start for start in later)
        assert (times == 1).all()


def test_no_more_is_held_than_windows_are_thick():
    card = make_card(window__size=[8, 16, 16])
    plan = make_plan([make((100, 32, 32))], card, options_for(card))
    (block,) = bands.cover(plan)
    assert block.held == (8, 32, 32)
    assert bands.sums_bytes([block], 5) == 4 * 5 * 8 * 32 * 32


def test_the_plane_is_divided_as_little_as_needed():
    card = make_card(window__size=[8, 16, 16])
    plan = make_plan([make((40, 64, 64))], card, options_for(card))
    whole = 4 * 8 * 64 * 64
    for share in (1, 0.7, 0.5, 0.3, 0.1):
        blocks = bands.choose(plan, 1, share * whole)
        assert bands.sums_bytes(blocks, 1) <= share * whole
        assert (len(blocks) == 1) == (share == 1)
    # A part of the plane needs its own windows, and those that reach into it.
    assert bands.count(bands.cover(plan, 2, 1)) == 9 * 7 * (4 + 4)
    assert quote(make((40, 64, 64)), card, memory=1e9).windows == 9 * 7 * 7
