"""Reading an operation's parameters off its signature."""

import inspect
from typing import Annotated, Literal

import numpy as np
import pytest

from napari_lightbox import InputError, Volume
from napari_lightbox.catalogue import OPERATIONS, Operation, choices, half, operation
from napari_lightbox.types import ImageArray, LabelArray, OddSize, Seeds


def example(
    image: ImageArray,
    seeds: Seeds,
    spacing: tuple[float, ...],
    size: OddSize = 3,
    *,
    reach: Annotated[float | None, {"unit": "mm"}] = None,
    mode: Literal["a", "b"] = "a",
    mask: LabelArray | None = None,
) -> LabelArray:
    """Do something.

    Parameters
    ----------
    image : array
        The image.
    seeds : array
        Where it starts,
        in two lines.
    size, reach : numbers
        How far.
    mode : {"a", "b"}
        Which way.
    mask : array, optional
        Where it may go.

    Returns
    -------
    array
        mode : not a parameter.
    """


def moving(volume: Volume, like: Volume | None = None) -> Volume:
    """Move."""


ROW = Operation(example, "Example", "filter")


def test_roles():
    assert {p.name: p.role for p in ROW.parameters} == {
        "seeds": "seeds",
        "size": "value",
        "reach": "value",
        "mode": "value",
        "mask": "labels",
    }
    assert ROW.wants_spacing
    assert not ROW.on_volumes
    moves = Operation(moving, "Move", "transform")
    assert moves.on_volumes
    assert [p.role for p in moves.parameters] == ["volume"]


def test_hints_defaults_and_texts():
    by_name = {p.name: p for p in ROW.parameters}
    assert by_name["size"].hints["step"] == 2
    assert by_name["reach"].hints == {"unit": "mm"}
    assert by_name["reach"].annotation == float | None
    assert by_name["seeds"].required
    assert by_name["seeds"].help == "Where it starts, in two lines."
    assert by_name["seeds"].brief == "where it starts, in two lines"
    assert by_name["size"].help == by_name["reach"].help == "How far."
    assert choices(by_name["mode"]) == ("a", "b")
    assert choices(by_name["size"]) is None


def test_complete_fills_in_and_refuses():
    seeds = np.zeros((1, 3))
    assert ROW.complete({"seeds": seeds})["size"] == 3
    with pytest.raises(InputError, match="needs seeds"):
        ROW.complete({})
    with pytest.raises(InputError, match=r"needs center: frequency in the .*; width: width of the band"):
        operation("band_reject").complete({})
    # What may be typed is told whole, semicolons and all.
    with pytest.raises(InputError, match='as text "x, y > x, y; x, y > x, y" in a section, or "x, y, z > x, y, z"'):
        operation("polynomial").complete({})
    with pytest.raises(InputError, match="no parameter 'spacing'"):
        ROW.complete({"seeds": seeds, "spacing": (1, 1, 1)})


def test_every_row_has_a_unique_name_and_place():
    for name, row in OPERATIONS.items():
        assert row.name == name == operation(name).name
        assert row.menu in ("filter", "transform", "segment", "measure", "visualize")
        assert not inspect.isclass(row.function)
    assert len({row.title for row in OPERATIONS.values()}) == len(OPERATIONS)


def test_halo():
    assert half(5) == 2
    assert half((1, 3, 7)) == 3
    assert OPERATIONS["median"].halo({"size": 5}) == 2
