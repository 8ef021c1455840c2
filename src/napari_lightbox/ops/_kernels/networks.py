"""Selection networks: which minima and maxima, in which order, lead from the voxels of a window to its median.

The idea
--------
A comparison takes two values and gives the smaller and the larger one. A *network* is a fixed list of comparisons,
the same whatever the values are; so every one of them can work on many windows at once, one in each lane of a
processor's vector, without a single branch. A value that passes from one comparison to the next is called a *wire*
here, and is no more than a number. A network is a list of steps ``("low" or "high", wire made, wire, wire)``: `emit`
turns it into machine code, and `Network.evaluate` computes the same with numpy, so that the networks can be tested
without a compiler.

What it builds on
-----------------
- `Network.merge` and `Network.sort`: odd-even merging (K. E. Batcher, Sorting networks and their applications,
  AFIPS 1968), for lists of any lengths (D. E. Knuth, The Art of Computer Programming, vol. 3, section 5.3.4).
- `kept`: forgetful selection (A. W. Paeth, Median finding on a 3 x 3 grid, Graphics Gems, 1990): once enough values
  are known, the smallest and the largest of them cannot be the median any more, whatever the others are, and drop out.
- `Network.pick`: the value of a given rank of two sorted lists together is the smallest of some maxima, as in the
  first step of Batcher's bitonic merging; nothing needs to be merged for it.
- `Network.prune`: steps whose outcome nobody asks for are left out. That makes a network that sorts into one that
  selects.

Cost
----
A step is one vector instruction. Merging lists of m and n values takes about (m + n) log2(m + n) steps, picking from
two lists of n values 2 n.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Wire = int


class Network:
    """A network in the making: wires are numbers, in the order in which they were made."""

    def __init__(self) -> None:
        self.wires = 0
        self.steps: list[tuple[str, Wire, Wire, Wire]] = []

    def inputs(self, count: int) -> list[Wire]:
        """Return `count` new wires that come from outside."""
        self.wires += count
        return list(range(self.wires - count, self.wires))

    def low(self, a: Wire, b: Wire) -> Wire:
        """Return the smaller one of two."""
        return self._step("low", a, b)

    def high(self, a: Wire, b: Wire) -> Wire:
        """Return the larger one of two."""
        return self._step("high", a, b)

    def _step(self, kind: str, a: Wire, b: Wire) -> Wire:
        made = self.wires
        self.wires += 1
        self.steps.append((kind, made, a, b))
        return made

    def sort(self, wires: Sequence[Wire]) -> list[Wire]:
        """Return the values in increasing order. For 3, 5 and 7 of them no network is known with fewer steps."""
        if len(wires) < 2:
            return list(wires)
        half = (len(wires) + 1) // 2
        return self.merge(self.sort(wires[:half]), self.sort(wires[half:]))

    def merge(self, first: Sequence[Wire], second: Sequence[Wire]) -> list[Wire]:
        """Return the values of two sorted lists as one."""
        if not first or not second:
            return [*first, *second]
        if len(first) == len(second) == 1:
            return [self.low(first[0], second[0]), self.high(first[0], second[0])]
        # Of the 1st, 3rd, 5th ... values merged and of the 2nd, 4th ... merged, neighbours may still be in wrong order.
        odd, even = self.merge(first[::2], second[::2]), self.merge(first[1::2], second[1::2])
        result = [odd[0]]
        for a, b in zip(even, odd[1:], strict=False):
            result += [self.low(a, b), self.high(a, b)]
        rest = min(len(even), len(odd) - 1)
        return result + even[rest:] + odd[1 + rest :]

    def pick(self, first: Sequence[Wire], second: Sequence[Wire], rank: int) -> Wire:
        """Return the value of rank `rank` (0: the smallest) of two sorted lists together.

        If i values of the first list belong to the ``rank + 1`` smallest, the last of them or the last one from the
        second list is the wanted value. Any other i gives a larger value, so that the smallest one is right.
        """
        found = None
        for i in range(max(0, rank + 1 - len(second)), min(rank + 1, len(first)) + 1):
            j = rank + 1 - i
            last = self.high(first[i - 1], second[j - 1]) if i and j else first[i - 1] if i else second[j - 1]
            found = last if found is None else self.low(found, last)
        return found

    def prune(self, outputs: Sequence[Wire]) -> None:
        """Leave out the steps that none of `outputs` depends on."""
        needed, steps = set(outputs), []
        for step in reversed(self.steps):
            if step[1] in needed:
                needed.update(step[2:])
                steps.append(step)
        self.steps = steps[::-1]

    def evaluate(self, values: dict[Wire, np.ndarray], outputs: Sequence[Wire]) -> list[np.ndarray]:
        """Compute `outputs` by numpy from the values of the wires that come from outside."""
        known = dict(values)
        for kind, made, a, b in self.steps:
            known[made] = np.minimum(known[a], known[b]) if kind == "low" else np.maximum(known[a], known[b])
        return [known[wire] for wire in outputs]


@dataclass(frozen=True)
class Block:
    """A network with the lists of wires that it reads and writes; each list lies in memory in one piece.

    Wires of a list are vectors one behind the other; where `sliding`, the vectors read overlap, each beginning one
    voxel after the one before it.
    """

    network: Network
    inputs: list[list[Wire]]
    outputs: list[list[Wire]]
    sliding: bool = False

    def evaluate(self, lists: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
        """Compute by numpy the lists that are written, from those that are read."""
        values = {
            wire: value
            for wires, given in zip(self.inputs, lists, strict=True)
            for wire, value in zip(wires, given, strict=True)
        }
        return [self.network.evaluate(values, wires) for wires in self.outputs]


def median_and_extremes(count: int, group: int = 8) -> Block:
    """Find the smallest, the middle and the largest one of an odd number of values.

    Some values at a time are sorted and merged into those known, of which what cannot be the middle is forgotten.

    Examples
    --------
    >>> median_and_extremes(3).evaluate([[np.array(5), np.array(9), np.array(7)]])
    [[np.int64(5), np.int64(7), np.int64(9)]]
    """
    network = Network()
    values, rank, total = network.inputs(count), count // 2, count
    *groups, last = [network.sort(values[i : i + group]) for i in range(0, count, group)]
    known = []
    for one in groups:
        known = network.merge(known, one)
        still = kept(len(known), rank, total)
        known, rank, total = known[still], rank - still.start, total - (len(known) - (still.stop - still.start))
    low, high = last[0], last[-1]
    for one in groups:
        low, high = network.low(low, one[0]), network.high(high, one[-1])
    return Block(network, [values], [[low, network.pick(known, last, rank), high]])


def kept(count: int, rank: int, total: int) -> slice:
    """Say which of `count` sorted values may still be the one of rank `rank` among `total` values.

    The others of the `total` are not known yet. Whoever drops the rest must lower the rank by the number of small
    values dropped, and the total by all of them.

    Examples
    --------
    >>> kept(18, rank=13, total=27)
    slice(4, 14, None)
    """
    return slice(max(0, count - (total - rank)), min(count, rank + 1))
