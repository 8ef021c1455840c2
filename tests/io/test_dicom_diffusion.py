"""b-values as the manufacturers write them."""

import numpy as np
import pytest
from dicom_writing import write_series

from napari_lightbox import io
from napari_lightbox.geometry import Grid

pytest.importorskip("pydicom")
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")

GRID = Grid.from_spacing((2.5, 0.8, 0.7), (3, 5, 6), (-30, 20, 10))
DIRECTION = np.array([0.6, 0.0, 0.8])


def ge(b_value, direction, vr="IS", mark=0):
    """Return the private elements of GE: the b-value with what GE puts behind it, and three numbers."""
    first = [str(b_value + mark), "8", "0", "0"]
    return {
        (0x0043, 0x0010, "LO"): "GEMS_PARM_01",
        (0x0043, 0x1039, vr): first if vr == "IS" else "\\".join(first).encode(),
        (0x0019, 0x0010, "LO"): "GEMS_ACQU_01",
        **{(0x0019, 0x10BB + n, "DS"): f"{v:.6f}" for n, v in enumerate(direction)},
    }


def written(tmp_path, rng, marks):
    data = rng.integers(0, 3000, (len(marks), *GRID.shape))
    as_tags = [{((group << 16) | element, vr): v for (group, element, vr), v in m.items()} for m in marks]
    read = io.read(write_series(tmp_path / "s", data, GRID, lambda t, z: as_tags[t], Manufacturer="GE MEDICAL SYSTEMS"))
    assert np.array_equal(read.data, data)
    return read


@pytest.mark.parametrize("vr", ["IS", "UN"])
@pytest.mark.parametrize("mark", [0, 1_000_000_000])
def test_b_values_of_ge(tmp_path, rng, vr, mark):
    """Newer scanners add a mark of 1e9 where b is not 0, some to that of 0, too."""
    marks = [ge(0, (0, 0, 0), vr, mark), ge(750, DIRECTION, vr, mark), ge(1500, DIRECTION, vr, mark)]
    read = written(tmp_path, rng, marks)
    assert read.grid.frames.kind == "b-value"
    assert read.grid.frames.values == (0, 750, 1500)
    assert "gradient_directions" not in read.meta
    assert any("along the image" in note for note in read.meta["notes"])


def test_lengths_of_gradients_share_the_b_value_of_ge(tmp_path, rng):
    """Every image has the largest b-value; a gradient of half the length has a quarter of it."""
    marks = [ge(0, (0, 0, 0))] + [ge(3000, DIRECTION * np.sqrt(share)) for share in (1 / 6, 1 / 3, 2 / 3, 1)]
    read = written(tmp_path, rng, marks)
    assert read.grid.frames.values == (0, 500, 1000, 2000, 3000)
    assert any("squared length of the gradient" in note for note in read.meta["notes"])


def test_rounded_gradients_keep_their_b_value(tmp_path, rng):
    read = written(tmp_path, rng, [ge(0, (0, 0, 0)), ge(900, (0, 0, 0)), ge(1000, DIRECTION * 0.995)])
    assert read.grid.frames.values == (0, 900, 1000)
    assert not any("squared length" in note for note in read.meta["notes"])


def test_the_public_b_value_goes_first(tmp_path, rng):
    marks = [{**ge(3000, DIRECTION * 0.5), (0x0018, 0x9087, "FD"): float(b)} for b in (400, 800)]
    assert written(tmp_path, rng, marks).grid.frames.values == (400, 800)


def test_b_values_and_directions_of_philips(tmp_path, rng):
    """Its directions are those of the patient: R-L, A-P, F-H, which run as L, P, S."""

    def marks(b_value, direction):
        return {
            (0x2001, 0x0010, "LO"): "Philips Imaging DD 001",
            (0x2001, 0x1003, "FL"): b_value,
            (0x2005, 0x0010, "LO"): "Philips MR Imaging DD 001",
            **{(0x2005, 0x10B0 + n, "FL"): float(v) for n, v in enumerate(direction)},
        }

    read = written(tmp_path, rng, [marks(0.0, (0, 0, 0)), marks(800.0, DIRECTION), marks(1200.0, -DIRECTION)])
    assert read.grid.frames.values == (0, 800, 1200)
    directions = read.meta["gradient_directions"]
    assert directions[0] is None
    assert np.allclose(directions[1:], [DIRECTION, -DIRECTION], atol=1e-4)
