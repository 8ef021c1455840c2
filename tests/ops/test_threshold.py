"""Thresholds: what lies between limits, compared as real numbers."""

from fractions import Fraction

import numpy as np
import pytest

from napari_lightbox import Volume, apply, remarks
from napari_lightbox.errors import InputError
from napari_lightbox.ops.thresholding import first_at_least, threshold


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f4", "f8", "i2", "u1", "?"])
@pytest.mark.parametrize("limits", [(0.1, None), (0.1, 0.7), (0.7, 2.5), (-3, 300), (1, 1)])
def test_it_compares_real_numbers(rng, dtype, limits):
    low, high = limits
    values = np.concatenate([rng.uniform(-4, 4, 200), [low, low if high is None else high, 0, 1]])
    image = np.clip(values, 0, 200).astype(dtype) if dtype in ("u1", "?") else values.astype(dtype)
    # Fractions round nothing.
    exact = [Fraction(v) for v in image.tolist()]
    expected = [Fraction(low) <= v and (high is None or v <= Fraction(high)) for v in exact]
    assert threshold(image, low, high).tolist() == expected


def test_nan_is_never_marked_and_infinity_only_without_an_upper_limit():
    image = np.array([np.nan, np.inf, -np.inf, 2.0], np.float32)
    assert threshold(image, 1).tolist() == [0, 1, 0, 1]
    assert threshold(image, 1, 1e30).tolist() == [0, 0, 0, 1]
    assert threshold(image, 1).dtype == np.uint8


def test_limits_beyond_a_type_mark_all_or_nothing():
    image = np.array([0, 255], np.uint8)
    assert threshold(image, -1e6).tolist() == [1, 1]
    assert threshold(image, 1e6).tolist() == [0, 0]
    assert threshold(np.array([1, 6e4], np.float16), 1e6).tolist() == [0, 0]
    assert first_at_least(0.1, np.dtype("f4")) == np.float32(0.1)
    assert first_at_least(0.7, np.dtype("f4")) == np.nextafter(np.float32(0.7), np.float32(1))


@pytest.mark.parametrize(
    ("low", "high", "said"), [(np.nan, None, "low must be finite"), (2, 1, "high must be at least 2")]
)
def test_limits_that_make_no_sense_are_refused(low, high, said):
    with pytest.raises(InputError, match=said):
        threshold(np.zeros(3), low, high)


def test_a_volume_keeps_its_grid_and_records_the_step():
    volume = Volume.from_array(np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4), spacing=(3, 2, 1))
    found = apply("threshold", volume, low=0.25, high=0.75)
    assert found.kind == "labels"
    assert found.grid == volume.grid
    assert found.history[-1]["operation"] == "threshold"
    assert found.history[-1]["parameters"] == {"low": 0.25, "high": 0.75}
    assert found.data.sum() == ((volume.data >= 0.25) & (volume.data <= 0.75)).sum()


@pytest.mark.parametrize(("limits", "where"), [((9.0,), "from 9 on"), ((1.2, 1.6), "between 1.2 and 1.6")])
def test_it_says_why_nothing_is_marked(limits, where):
    with remarks.collecting() as heard:
        assert not threshold(np.array([1.0, np.nan, 4.5]), *limits).any()
        threshold(np.array([1.4, 9.5]), *limits)
    assert heard.notes == [f"nothing is marked: no voxel lies {where}, they go from 1 to 4.5"]
