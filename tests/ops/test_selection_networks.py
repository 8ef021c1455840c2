"""Selection networks against sorting. That a network is right for all zeros and ones proves it for all values."""

from itertools import product

import numpy as np
import pytest

from napari_lightbox.ops._kernels.networks import Network, kept, median_and_extremes
from napari_lightbox.ops._kernels.window_plan import Plan, plain

WINDOWS = list(product((3, 5, 7), (1, 3, 5, 7), (1, 3, 5, 7)))


def sorted_bits(count):
    """Return all sorted lists of zeros and ones, one a column."""
    return np.arange(count)[:, None] >= np.arange(count, -1, -1)[None]


def both(first, second):
    """Return every column of one array beside every column of another."""
    return np.repeat(first, second.shape[1], axis=1), np.tile(second, (1, first.shape[1]))


@pytest.mark.parametrize("count", range(1, 12))
def test_sorting_is_right_for_all_zeros_and_ones(count):
    network = Network()
    wires = network.inputs(count)
    bits = np.array(list(product((0, 1), repeat=count)), np.uint8).T
    found = network.evaluate(dict(zip(wires, bits, strict=True)), network.sort(wires))
    np.testing.assert_array_equal(found, np.sort(bits, axis=0))


def test_merging_is_right_for_all_zeros_and_ones():
    for m, n in product((0, 1, 2, 3, 5, 9, 14, 25, 49), repeat=2):
        network = Network()
        first, second = network.inputs(m), network.inputs(n)
        merged = network.merge(first, second)
        values = np.concatenate(both(sorted_bits(m), sorted_bits(n)))
        found = network.evaluate(dict(enumerate(values)), merged)
        np.testing.assert_array_equal(np.array(found).reshape(values.shape), np.sort(values, axis=0))


def test_picking_is_right_for_all_zeros_and_ones():
    for m, n in product((1, 2, 3, 6, 10), repeat=2):
        values = np.concatenate(both(sorted_bits(m), sorted_bits(n)))
        for rank in range(m + n):
            network = Network()
            picked = network.pick(network.inputs(m), network.inputs(n), rank)
            (found,) = network.evaluate(dict(enumerate(values)), [picked])
            np.testing.assert_array_equal(found, np.sort(values, axis=0)[rank])


def test_pruning_leaves_the_outcome_and_takes_steps_away(rng):
    network = Network()
    wires = network.inputs(9)
    middle = network.sort(wires)[4]
    values = dict(zip(wires, rng.integers(0, 99, (9, 500)), strict=True))
    before, steps = network.evaluate(values, [middle]), len(network.steps)
    network.prune([middle])
    assert len(network.steps) < steps
    np.testing.assert_array_equal(network.evaluate(values, [middle]), before)


def test_forgetting_never_loses_the_wanted_value(rng):
    for total in range(1, 12):
        for count, rank in product(range(1, total + 1), range(total)):
            values = rng.integers(0, 5, total)
            known = np.sort(values[:count])
            still = kept(count, rank, total)
            rest = np.sort([*known[still], *values[count:]])
            assert rest[rank - still.start] == np.sort(values)[rank]


@pytest.mark.parametrize("sizes", WINDOWS, ids=str)
def test_the_networks_of_every_window_find_its_values(rng, sizes):
    voxels = rng.integers(0, 60, [n + more for n, more in zip(sizes, (2, 1, 1), strict=True)])
    windows = np.lib.stride_tricks.sliding_window_view(voxels, sizes)
    ordered = np.sort(windows.reshape(*windows.shape[:3], -1), axis=-1)
    total = ordered.shape[-1]
    for rank in {total // 2, 1, total // 4, total - 2}:
        np.testing.assert_array_equal(plain(Plan(*sizes, rank), voxels), ordered[..., rank])


def test_the_median_of_27_is_right_for_all_zeros_and_ones():
    """Whatever the runs are, they are sorted first: four states each, of nine runs."""
    plan = Plan(3, 3, 3, 13)
    ones = np.array(list(product(range(4), repeat=9)), np.int8).T.reshape(3, 3, -1)
    runs = np.array([ones > 2 - i for i in range(3)])
    sheets = []
    for z in range(3):
        (two,) = plan.merge_runs(1).evaluate([runs[:, z, 0], runs[:, z, 1]])
        (sheet,) = plan.merge_sheet().evaluate([[None] * 12, two, runs[:, z, 2]])
        sheets.append(sheet)
    for own in ((sheets[0], sheets[0]), (sheets[2], sheets[2])):
        others = sheets[1:] if own[0] is sheets[0] else sheets[:2]
        for (found,) in plan.select().evaluate([*others, *own]):
            np.testing.assert_array_equal(found, ones.sum(axis=(0, 1)) > 13)


@pytest.mark.parametrize("count", [3, 9, 15, 17])
def test_median_and_extremes_are_right_for_all_zeros_and_ones(count):
    bits = (np.arange(1 << count) >> np.arange(count)[:, None] & 1).astype(np.uint8)
    (found,) = median_and_extremes(count).evaluate([list(bits)])
    np.testing.assert_array_equal(found, np.sort(bits, axis=0)[[0, count // 2, -1]])


def test_median_and_extremes_of_25_are_right_where_nearly_half_are_ones(rng):
    bits = (np.arange(25)[:, None] < rng.integers(11, 15, 50_000)).astype(np.uint8)
    bits = np.concatenate([rng.permuted(bits, axis=0), sorted_bits(25), sorted_bits(25)[::-1]], axis=1)
    (found,) = median_and_extremes(25).evaluate([list(bits)])
    np.testing.assert_array_equal(found, np.sort(bits, axis=0)[[0, 12, -1]])
