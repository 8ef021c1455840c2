"""Every row of the catalogue with input that nobody tidied up: the right kind of result, or one sentence."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_arrays import DTYPES, arrays
from odd_parameters import calls
from outcome import attempt

import napari_lightbox as lb
from napari_lightbox import Volume
from napari_lightbox.catalogue import OPERATIONS

ROWS = list(OPERATIONS)
COMMON = {"derandomize": True, "database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}
# With the files, about two hundred cases in every run and thousands where asked for.
FEW = settings(max_examples=5, **COMMON)
MANY = settings(max_examples=120, **COMMON)


def copy_of(volume) -> np.ndarray | None:
    return np.array(volume.data) if isinstance(volume, Volume) else None


def check(name: str, call) -> str:
    """Run the operation and judge what comes out; return the sentence if it refused."""
    volume, plane, values = call
    row = OPERATIONS[name]
    kept = {key: copy_of(value) for key, value in {"": volume, **values}.items()}
    result, sentence = attempt(lambda: lb.apply(name, volume, plane=plane, **values))
    for key, value in {"": volume, **values}.items():
        if kept[key] is not None:
            np.testing.assert_array_equal(np.asarray(value.data), kept[key], err_msg=f"{key or 'input'} was changed")
    if result is None:
        return sentence
    data = np.asarray(result.data)
    assert data.shape == result.grid.shape
    assert data.dtype.kind in "buif"
    assert data.dtype.isnative
    if data.dtype.kind == "f" and np.isfinite(kept[""].astype(float)).all():
        assert np.isfinite(data).all(), "a finite image gives a finite result"
    if not row.on_volumes:
        assert data.shape == kept[""].shape
        assert row.result == "spectrum" or result.grid == volume.grid
        assert not np.shares_memory(data, np.asarray(volume.data))
    if row.result == "labels":
        assert result.kind == "labels"
        assert data.dtype.kind in "ui"
    assert result.history[-1]["operation"] == name
    return ""


@pytest.mark.parametrize("name", ROWS)
def test_operations(name):
    @FEW
    @given(calls(OPERATIONS[name]))
    def run(call):
        check(name, call)

    run()


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_operations_thoroughly(name):
    sentences, count = set(), [0]

    @MANY
    @given(calls(OPERATIONS[name]))
    def run(call):
        count[0] += 1
        sentences.add(check(name, call))

    run()
    assert "" in sentences, "not a single result: the cases are of no use"


NO_IMAGES = {
    "empty": np.zeros((0, 5, 4)),
    "empty slice": np.zeros((4, 5, 0), np.int16),
    "complex": np.ones((4, 5, 6), complex),
    "RGB": np.ones((4, 5, 6), [("r", "u1"), ("g", "u1"), ("b", "u1")]),
    "text": np.full((2, 3, 3), "a"),
    "objects": np.full((2, 3, 3), None),
    "dates": np.zeros((2, 3, 3), "M8[D]"),
    "a number": np.float64(3),
    "five axes": np.zeros((1, 1, 2, 3, 3)),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("what", NO_IMAGES)
def test_what_is_no_image(name, what):
    """Refused as a volume, and by the array function itself."""
    array, row = NO_IMAGES[what], OPERATIONS[name]
    needed = {p.name: [(1, 1, 1)] if p.role == "seeds" else 1.0 for p in row.parameters if p.required}
    result, sentence = attempt(lambda: lb.apply(name, Volume.from_array(array, spacing=(1, 1, 1)), **needed))
    assert result is None
    assert sentence
    if row.on_volumes or what == "five axes":
        return
    spacing = {"spacing": (1.0,) * np.ndim(array)} if row.wants_spacing else {}
    result, sentence = attempt(lambda: row.function(array, **needed, **spacing))
    assert result is None
    assert sentence


@FEW
@given(
    arrays(dtypes=[*DTYPES, "F", "g"]), st.sampled_from([None, (1, 1, 1), (0, 1, 1), (-1, 1, 1), "1", (np.nan,) * 3])
)
def test_arrays_become_volumes_or_are_refused(array, spacing):
    kept = np.array(array)
    volume, _ = attempt(lambda: Volume.from_array(array, spacing=spacing))
    np.testing.assert_array_equal(np.asarray(array), kept)
    if volume is not None:
        assert volume.grid.shape == tuple(array.shape)
        assert min(volume.grid.spacing) > 0
