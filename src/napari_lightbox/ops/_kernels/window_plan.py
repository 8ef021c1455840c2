"""Which networks lead to the value of some rank of a box-shaped window; `median` says why it is these.

No compiler is needed here: `plain` runs the same networks by numpy, for tests.
"""

import numpy as np

from .networks import Block, Network, kept


class Plan:
    """How long the lists are that one window leads to, and which rank is sought among what is left of it.

    Parameters
    ----------
    z, y, x : int
        Sizes of the window: 3, 5 or 7; 1 as well for y and x.
    rank : int
        Rank of the value wanted, 0 for the smallest.
    """

    def __init__(self, z: int, y: int, x: int, rank: int) -> None:
        self.z, self.y, self.x, self.rank_wanted = z, y, x, rank
        total = z * y * x
        self.run_kept = kept(x, rank, total)
        self.run = _length(self.run_kept)
        total, rank = z * y * self.run, rank - z * y * self.run_kept.start
        self.sheet_kept = kept(y * self.run, rank, total)
        self.sheet = _length(self.sheet_kept)
        self.total, self.rank = z * self.sheet, rank - z * self.sheet_kept.start
        self.four_kept = kept(4 * self.sheet, self.rank, self.total) if z == 7 else slice(0, 0)
        self.four = _length(self.four_kept)
        if z == 7:
            self.total, self.rank = self.total - 4 * self.sheet + self.four, self.rank - self.four_kept.start

    def sort_run(self) -> Block:
        """Sort the voxels of a row of the window."""
        network = Network()
        voxels = network.inputs(self.x)
        return Block(network, [voxels], [network.sort(voxels)[self.run_kept]], sliding=True)

    def merge_runs(self, runs: int) -> Block | None:
        """Merge two lists of `runs` runs each, where the window needs that."""
        if self.y < 2 * runs:
            return None
        network = Network()
        lists = [network.inputs(runs * self.run) for _ in range(2)]
        return Block(network, lists, [network.merge(*lists)])

    def merge_sheet(self) -> Block | None:
        """Merge all runs of a plane of the window: from four runs, two runs and one. Short lists are merged first."""
        if self.y == 1:
            return None
        network = Network()
        lists = {runs: network.inputs(runs * self.run) for runs in (4, 2, 1)}
        used = {3: (1, 2), 5: (1, 4), 7: (1, 2, 4)}[self.y]
        merged: list[int] = []
        for runs in used:
            merged = network.merge(merged, lists[runs])
        return Block(network, list(lists.values()), [merged[self.sheet_kept]])

    def merge_sheets(self) -> Block | None:
        """Merge two sheets, where the window shares four or more of them with its neighbour."""
        if self.z == 3:
            return None
        network = Network()
        sheets = [network.inputs(self.sheet) for _ in range(2)]
        return Block(network, sheets, [network.merge(*sheets)])

    def merge_pairs(self) -> Block | None:
        """Merge four sheets from two pairs, where the window shares six with its neighbour."""
        if self.z < 7:
            return None
        network = Network()
        pairs = [network.inputs(2 * self.sheet) for _ in range(2)]
        return Block(network, pairs, [network.merge(*pairs)[self.four_kept]])

    def select(self) -> Block:
        """Select the values wanted of two neighbouring windows: from what they share, and from a sheet of each."""
        network = Network()
        lengths = {3: (1, 1), 5: (2, 2), 7: (0, 2)}[self.z]
        shared = [network.inputs(length * self.sheet or self.four) for length in lengths]
        own = [network.inputs(self.sheet) for _ in range(2)]
        known = network.merge(*shared)
        still = kept(len(known), self.rank, self.total)
        picked = [[network.pick(known[still], sheet, self.rank - still.start)] for sheet in own]
        return Block(network, [*shared, *own], picked)


def _length(part: slice) -> int:
    return part.stop - part.start


def plain(plan: Plan, voxels: np.ndarray) -> np.ndarray:
    """Find the value wanted of every window inside a block (z, y, x) of whole numbers by numpy."""
    depth, height, width = (n - size + 1 for n, size in zip(voxels.shape, (plan.z, plan.y, plan.x), strict=True))
    (ones,) = plan.sort_run().evaluate([[voxels[:, :, i : i + width] for i in range(plan.x)]])

    def rows(lists: list[np.ndarray], start: int, count: int) -> list[np.ndarray]:
        return [values[:, start : start + count] for values in lists]

    sheets = ones
    if plan.y > 1:
        (twos,) = plan.merge_runs(1).evaluate([rows(ones, i, height + plan.y - 3) for i in (0, 1)])
        fours = plan.merge_runs(2).evaluate([rows(twos, i, height) for i in (0, 2)])[0] if plan.y > 3 else twos * 2
        two_at = 4 if plan.y == 7 else 0
        (sheets,) = plan.merge_sheet().evaluate(
            [rows(fours, 0, height), rows(twos, two_at, height), rows(ones, plan.y - 1, height)]
        )

    result = np.empty((depth, height, width), voxels.dtype)
    for z in range(0, depth, 2):
        planes = [[values[min(z + i, len(values) - 1)] for values in sheets] for i in range(plan.z + 1)]
        inner = planes[1:-1]
        if plan.z > 3:
            inner = [plan.merge_sheets().evaluate(inner[i : i + 2])[0] for i in range(0, len(inner), 2)]
        if plan.z > 5:
            inner = [plan.merge_pairs().evaluate(inner[:2])[0], inner[2]]
        found = plan.select().evaluate([*inner, planes[0], planes[-1]])
        for i, values in enumerate(found[: depth - z]):
            result[z + i] = values[0]
    return result
