"""Parameters of an operation: right ones, those just outside, and nonsense."""

from types import NoneType
from typing import get_args

import numpy as np
from hypothesis import strategies as st
from odd_arrays import grids, volumes

from napari_lightbox import Volume
from napari_lightbox.catalogue import Operation, Parameter, choices

NUMBERS = [0, 1, 2, 3, -1, 4, 0.5, 2.5, 1e-9, 1e9, -1e30, 1e300, np.nan, np.inf, -np.inf, 10**30]
NONSENSE = [None, True, "", "x", "auto", "1, 2", [], [1], (1, 2), (1, 2, 3), [[1, 2, 3]], {}, b"3", 1j, "nan", object()]
TEXTS = [
    "",
    "auto",
    "1, 2",
    "2, 1",
    "1, 2, 3",
    "0 1 1 2",
    "nan, 1",
    "1e300, 1",
    "LPS",
    "RAI",
    "1;2",
    "x",
    "0, 0 > 1, 1",
]
# Enough for polynomials of degree 3 in a section.
PAIRS = "; ".join(f"{x}, {y} > {x + (x > 6) / 2}, {y}" for x in (0, 3, 6, 9) for y in (0, 3, 6, 9))
HOMOGRAPHY = "1, 0.1, 0; 0, 1, 0.5; 0.001, 0, 1"
TEXTS += ["0, 0 > 0.5, 0; 9, 0 > 9, 0; 0, 9 > 0, 9; 9, 9 > 9, 8", HOMOGRAPHY]


def fitting(parameter: Parameter) -> st.SearchStrategy:
    """Values that a careful user might give."""
    low, high = parameter.hints.get("min", -20), parameter.hints.get("max", 20)
    if (options := choices(parameter)) is not None:
        return st.sampled_from([*options, *([None] if NoneType in get_args(parameter.annotation) else [])])
    kinds = {parameter.annotation, *get_args(parameter.annotation)}
    if bool in kinds:
        return st.booleans()
    if int in kinds and not any(str(k).startswith("tuple") for k in kinds):
        step = parameter.hints.get("step", 1)
        return st.integers(0, 4).map(lambda i: int(min(low + i * step, high)))
    if float in kinds and not any(str(k).startswith("tuple") for k in kinds):
        return st.floats(max(low, -50), min(high, 50))
    if any(str(k).startswith("tuple") for k in kinds):
        return st.tuples(*[st.floats(max(low, 0.3), min(high, 5))] * 3)
    # Of texts with a grammar of their own hardly one of those for everything would do.
    right = {"pairs": [PAIRS], "homography": [HOMOGRAPHY]}.get(parameter.name, [])
    return st.sampled_from([*TEXTS, *right * len(TEXTS)])


def values(parameter: Parameter) -> st.SearchStrategy:
    """Any value: mostly a fitting one, or the default."""
    numbers = [*NUMBERS, parameter.hints.get("min", 0), parameter.hints.get("max", 1)]
    odd = st.one_of(st.sampled_from(numbers), st.sampled_from(NONSENSE), st.sampled_from(TEXTS))
    rows = st.lists(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=4), max_size=3)
    kinds = [fitting(parameter)] * 6 + [odd, odd, rows]
    return st.one_of(*kinds) if parameter.required else st.one_of(*kinds, *[st.just(parameter.default)] * 4)


@st.composite
def layers(draw, parameter: Parameter, volume: Volume):
    """Draw what stands for a further volume or for seeds: on the same grid or another, of the right kind or not."""
    shape = np.array(volume.grid.spatial_shape)
    if parameter.role == "seeds":
        fraction = st.tuples(*[st.sampled_from([0.0, 0.3, 0.5, 0.999])] * 3)
        inside = [
            list(volume.grid.to_world(np.array(draw(fraction)) * (shape - 1))) for _ in range(draw(st.integers(1, 2)))
        ]
        odd = [
            [],
            [[1e6, 0, 0]],
            [[np.nan, 0, 0]],
            [[1, 2]],
            "x",
            None,
            [[0, *inside[0]]],
            [[9, *inside[0]]],
            [["a"] * 3],
        ]
        return draw(st.one_of(*[st.just(inside)] * 4, st.sampled_from(odd)))
    if draw(st.integers(0, 4)) == 0 and not parameter.required:
        return None
    if draw(st.integers(0, 6)) == 0:
        return draw(st.sampled_from([np.zeros((2, 2, 2)), "mask", 3]))
    if draw(st.integers(0, 4)) == 0:
        return draw(volumes(("labels", "image")))
    data = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 3, volume.grid.shape)
    kind = "labels" if parameter.role == "labels" or draw(st.booleans()) else "image"
    grid = volume.grid if draw(st.integers(0, 5)) else draw(grids(volume.grid.shape))
    return Volume(data.astype(draw(st.sampled_from(["B", "h", "?", "q"]))), grid, kind, name="other")


@st.composite
def calls(draw, row: Operation):
    """Draw a volume, the plane and all that is given by name."""
    kinds = ("image", "image", "image", "labels") if row.input.role == "image" else ("image", "labels")
    kinds = ("labels", "labels", "labels", "image") if row.input.role == "labels" else kinds
    volume = draw(volumes(kinds))
    given = {}
    for parameter in row.parameters:
        if parameter.is_layer:
            given[parameter.name] = draw(layers(parameter, volume))
        elif parameter.required or draw(st.booleans()):
            given[parameter.name] = draw(values(parameter))
    plane = draw(st.sampled_from([None, None, None, "axial", "sagittal", "volume", 1, "z", "oblique", 7, 2.5]))
    return volume, plane, given
