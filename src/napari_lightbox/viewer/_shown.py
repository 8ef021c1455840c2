"""The grid of a layer's array as it is displayed, kept: every move of the mouse asks for it several times."""

from collections import deque

from ..geometry import Grid

_recent: deque = deque(maxlen=16)


def reordered(grid: Grid, order: tuple[int, ...], flips: tuple[bool, ...]) -> Grid:
    """Return ``grid.reordered(order, flips)``, made once for the same grid."""
    for known, *how, made in _recent:
        if known is grid and how == [order, flips]:
            return made
    _recent.append((grid, order, flips, grid.reordered(order, flips)))
    return _recent[-1][-1]
