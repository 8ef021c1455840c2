"""Fixtures shared by all tests: where the real images are, and how to do without them."""

import os
from pathlib import Path

import numpy as np
import pytest

# Real images are not part of the package. They lie beside a developer's checkout, or where the variable says.
REAL_DATA = Path(os.environ.get("LIGHTBOX_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture
def data():
    """Return a function that finds a real image, or skips the test where there is none."""

    def find(name: str) -> Path:
        path = REAL_DATA / name
        if not path.exists():
            pytest.skip(f"real image {name} is not here (set LIGHTBOX_TEST_DATA to the folder that has it)")
        return path

    return find


@pytest.fixture
def rng():
    """Return a seeded random generator."""
    return np.random.default_rng(20240711)


def pytest_collection_modifyitems(config, items):
    """Leave out what takes minutes, unless -m speaks of it."""
    if "slow" in (config.getoption("markexpr") or ""):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
