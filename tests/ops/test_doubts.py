"""Doubts without a reference: planted holes, islands, leaks, swapped sides and limits, disagreement and uncertainty."""

import threading
import time

import numpy as np
import pytest
from scipy import ndimage

from napari_lightbox.errors import InputError
from napari_lightbox.ops._doubts import DOUBTS, find_doubts
from napari_lightbox.ops._rules import RULES, Rule
from napari_lightbox.progress import Cancelled, listening


def body():
    """A thick block (1) with a hole, an island, and a knob on a thin neck, all known to the voxel."""
    labels = np.zeros((24, 40, 40), np.uint8)
    labels[4:20, 4:20, 4:20] = 1
    labels[10:12, 10:12, 10:12] = 0  # hole of 8 voxels
    labels[2:5, 30:33, 2:5] = 1  # island of 27 voxels
    labels[11:13, 11:13, 20:26] = 1  # neck, 2 voxels thick
    labels[6:18, 6:18, 26:38] = 1  # knob of 12 x 12 x 12
    return labels


def kinds(found):
    return [(one.kind, one.predicted, one.reference, one.voxels) for one in found.table]


def test_holes_and_islands_to_the_voxel():
    labels = body()
    found = find_doubts(labels, (1, 1, 1), rules=[Rule("hole"), Rule("island")])
    assert kinds(found) == [("island", 1, 0, 27), ("hole", 0, 1, 8)]
    np.testing.assert_array_equal(np.argwhere(found.map == 2).min(axis=0), (10, 10, 10))
    assert found.table[0].centre == (3, 31, 3)
    assert all(np.isnan(one.depth) for one in found.table)
    # The limits are in ml: voxels of 8 mm3 make the island 0.216 ml and the hole 0.064 ml.
    limited = [Rule("hole", limit=0.064), Rule("island", limit=0.2)]
    assert kinds(find_doubts(labels, (2, 2, 2), rules=limited)) == [("hole", 0, 1, 8)]
    assert not find_doubts(labels, (2, 2, 2), rules=[Rule("hole", limit=0.06)]).table


def test_a_leak_hangs_on_by_a_thin_neck():
    labels = body()
    found = find_doubts(labels, (1, 1, 1), rules=[Rule("leak", label=1, limit=3.0)])
    assert [one.kind for one in found.table] == ["leak"]
    mask = found.map == 1
    knob = np.zeros_like(mask)
    knob[6:18, 6:18, 26:38] = True
    assert mask[knob].all()
    # Besides the knob at most the neck.
    assert not mask[:, :, :20].any()
    assert mask.sum() <= knob.sum() + 24
    # With a neck that is not thin there is none, in mm.
    assert not find_doubts(labels, (1, 1, 1), rules=[Rule("leak", limit=1.0)]).table
    assert find_doubts(labels, (0.5, 0.5, 0.5), rules=[Rule("leak", limit=1.5)]).table


@pytest.mark.parametrize("flip", [1, -1])
def test_a_leak_is_found_whatever_lies_at_the_corner_of_its_box(flip):
    labels = np.zeros((20, 40, 40), np.uint8)
    labels[1:8, 1:8, 1:8] = 1
    labels[10:19, 30:39, 30:39] = 1
    labels[4, 4, 4:35] = labels[4, 4:35, 34] = labels[4:11, 34, 34] = 1
    labels = labels[(slice(None, None, flip),) * 3]
    (leak,) = find_doubts(labels, (1, 1, 1), rules=[Rule("leak", limit=3.0)]).table
    assert 7**3 <= leak.voxels < 7**3 + 70


def test_a_leak_in_a_picture():
    plane = np.zeros((30, 60), np.uint8)
    plane[5:25, 5:25] = plane[8:22, 35:49] = plane[14:16, 25:35] = 3
    found = find_doubts(plane, (1, 1), rules=[Rule("leak", limit=4.0)])
    assert [one.kind for one in found.table] == ["leak"]
    assert (found.map[8:22, 35:49] == 1).all()
    assert not (found.map[:, :25] == 1).any()


@pytest.mark.parametrize("sign", [1, -1])
def test_sides(sign):
    labels = np.zeros((6, 10, 40), np.uint8)
    labels[1:5, 2:8, 2:12] = 1
    labels[1:5, 2:8, 28:38] = 2
    left = (0, 0, sign)
    first, second = (2, 1) if sign > 0 else (1, 2)  # which lies to the patient's left
    rule = Rule("swapped side", label=first, partner=second)
    assert not find_doubts(labels, (1, 1, 1), rules=[rule], left=left).table
    swapped = find_doubts(labels, (1, 1, 1), rules=[Rule("swapped side", label=second, partner=first)], left=left)
    assert sorted(kinds(swapped)) == [("swapped side", 1, 2, 240), ("swapped side", 2, 1, 240)]
    labels[2:4, 4:6, 30:33] = 1  # a piece of the one inside of the other
    alone = find_doubts(labels, (1, 1, 1), rules=[rule], left=left)
    assert kinds(alone) == [("swapped side", 1, 2, 12)]
    with pytest.raises(InputError, match="needs left"):
        find_doubts(labels, (1, 1, 1), rules=[rule])


def test_limits_of_volume_and_intensity():
    labels = body()
    image = np.full(labels.shape, 40.0)
    image[5:8, 5:8, 5:8] = -900
    found = find_doubts(labels, (1, 1, 1), rules=[Rule("intensity", low=-100, high=300)], image=image)
    assert kinds(found) == [("intensity", 1, 0, 27)]
    size = int((labels == 1).sum())
    within = [Rule("volume", label=1, low=size / 1000, high=size / 1000)]
    assert not find_doubts(labels, (1, 1, 1), rules=within).table
    small = find_doubts(labels, (1, 1, 1), rules=[Rule("volume", label=1, low=size / 1000 + 0.001)])
    assert sum(one.voxels for one in small.table) == size
    assert {(one.predicted, one.reference) for one in small.table} == {(1, 1)}
    with pytest.raises(InputError, match="needs image"):
        find_doubts(labels, (1, 1, 1), rules=[Rule("intensity", low=0)])


def test_what_others_say():
    own = np.array([[1, 1, 1, 0, 0, 2]])
    a, b = np.array([[1, 1, 0, 0, 3, 3]]), np.array([[1, 1, 0, 0, 0, 3]])
    found = find_doubts(own, (1, 1), others=[a, b])
    assert kinds(found) == [("disagreement", 1, 0, 1), ("disagreement", 0, 0, 1), ("disagreement", 2, 3, 1)]
    assert [one.uncertainty for one in found.table] == pytest.approx([2 / 3, 1 / 3, 2 / 3])
    # Two against two: the segmentation itself stands.
    even = find_doubts(own, (1, 1), others=[a, a, own])
    assert {(one.predicted, one.reference) for one in even.table} == {(1, 1), (0, 0), (2, 2)}


def test_unsure_pieces_and_who_has_a_voxel():
    labels = body()
    unsure = np.zeros(labels.shape, np.float32)
    unsure[2:5, 30:33, 2:5] = 0.9  # the island, which the rule has already
    unsure[15:17, 15:17, 15:17] = 0.8
    unsure[0, 0, 0] = 0.5  # not above
    found = find_doubts(labels, (1, 1, 1), uncertainty=unsure, rules=[Rule("island")], probability=1 - unsure)
    assert kinds(found) == [("island", 1, 0, 27), ("uncertain", 1, 1, 8)]
    assert [one.uncertainty for one in found.table] == pytest.approx([0.9, 0.8])
    assert [one.probability for one in found.table] == pytest.approx([0.1, 0.2])
    assert kinds(find_doubts(labels, (1, 1, 1), uncertainty=unsure, least=10)) == [("uncertain", 1, 1, 27)]


def test_every_rule_says_what_it_is():
    assert set(DOUBTS) == {*RULES, "disagreement", "uncertain"}
    for name, kind in RULES.items():
        assert kind.meaning
        assert bool(kind.threshold) == (name != "swapped side")
    assert str(Rule("leak", label=3, limit=2.5)) == "leak (2.5 mm) of 3"
    assert str(Rule("volume", label=2, low=4, high=5.5)) == "volume (4 to 5.5 ml) of 2"
    assert str(Rule("volume", low=4)) == "volume (from 4 ml)"
    assert str(Rule("intensity", high=300)) == "intensity (up to 300 of the image)"


def test_bad_input_is_one_sentence():
    labels = body()
    for call, said in (
        (lambda: find_doubts(labels, (1, 1, 1)), "nothing is given"),
        (lambda: find_doubts(labels, (1, 1, 1), others=[labels[1:]]), "shape"),
        (lambda: find_doubts(labels, (1, 1, 1), rules=["hole"]), "objects of Rule"),
        (lambda: find_doubts(labels[None], (1, 1, 1, 1), rules=[Rule("hole")]), "one frame at a time"),
        (lambda: Rule("holes"), "kind"),
        (lambda: Rule("volume"), "needs low, high"),
        (lambda: Rule("intensity", low=2, high=1), "swap them"),
        (lambda: Rule("swapped side", label=1), "partner"),
    ):
        with pytest.raises(InputError, match=said):
            call()
    assert (
        find_doubts(np.zeros((3, 4, 5), int), (1, 1, 1), rules=[Rule(k) for k in ("hole", "island", "leak")]).table
        == []
    )


@pytest.mark.parametrize(
    ("call", "rule"),
    [("distance_transform_edt", Rule("leak")), ("label", Rule("island")),
     ("center_of_mass", Rule("swapped side", 1, partner=2))],
)  # fmt: skip
def test_cancel_does_not_wait_for_a_long_call(monkeypatch, call, rule):
    over, began, plain = threading.Event(), time.perf_counter(), getattr(ndimage, call)

    def slow(*arguments, **more):
        over.wait(20)
        return plain(*arguments, **more)

    def listener(what, done, total):
        if time.perf_counter() - began > 0.3:
            raise Cancelled

    monkeypatch.setattr(ndimage, call, slow)
    labels = np.zeros((4, 6, 8), np.uint8)
    labels[:, :, :3], labels[:, :, 5:] = 1, 2
    try:
        with listening(listener), pytest.raises(Cancelled):
            find_doubts(labels, (1, 1, 1), rules=[rule], left=(0, 0, 1))
        assert time.perf_counter() - began < 1.3
    finally:
        over.set()


def test_what_fails_in_a_long_call_is_raised(monkeypatch):
    def full(*arguments, **more):
        raise MemoryError("no room")

    monkeypatch.setattr(ndimage, "distance_transform_edt", full)
    with pytest.raises(MemoryError, match="no room"):
        find_doubts(body(), (1, 1, 1), rules=[Rule("leak")])
