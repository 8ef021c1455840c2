"""What the dock of errors is made of: thousands of rows, and a score that follows changes."""

import time

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_lightbox.viewer.panels._error_rows import KEYS, ErrorRows
from napari_lightbox.viewer.panels._error_score import PREDICTED, REFERENCE, Score, changed


def dice(a: np.ndarray, b: np.ndarray) -> dict[int, float]:
    labels = sorted(set(np.unique(a)) | set(np.unique(b)) - {0})
    return {int(v): 2 * np.sum((a == v) & (b == v)) / (np.sum(a == v) + np.sum(b == v)) for v in labels if v}


def test_ten_thousand_rows_are_sorted_at_once(qtbot):
    row = {"kind": "missed", "predicted": 0, "reference": 1, "probability": float("nan"), "depth": float("inf"),
           "uncertainty": float("nan"), "frame": None, "state": "open", "comment": ""}  # fmt: skip
    rng = np.random.default_rng(3)
    rows = [
        {**row, "number": i + 1, "size": float(v), "voxels": int(v), "x": v, "y": v, "z": v}
        for i, v in enumerate(rng.integers(1, 500, 10_000))
    ]
    model = ErrorRows()
    model.show({"rows": rows, "names": {}, "unit": "mm", "averages": [], "frames": 0})
    begun = time.perf_counter()
    model.sort(KEYS.index("size"), Qt.SortOrder.DescendingOrder)
    assert time.perf_counter() - begun < 0.5
    sizes = [rows[i]["size"] for i in model.shown]
    assert sizes == sorted(sizes, reverse=True)
    assert model.data(model.index(0, KEYS.index("depth"))) == "\u221e"


def test_score_follows_changes(rng):
    maps = [rng.choice([0, 1, 2, 70_000], (6, 7, 8)) for _ in range(2)]
    score = Score(*(one.copy() for one in maps))
    assert score.dice() == pytest.approx(dice(*maps))
    for which in (PREDICTED, REFERENCE):
        flat = rng.choice(maps[0].size, 100, replace=False)
        maps[which].ravel()[flat] = rng.choice([0, 1, 5], 100)
        found = changed(maps[which], score.maps[which])
        assert set(found) <= set(flat)
        at = np.unravel_index(found, maps[0].shape)
        score.update(which, at, maps[which][at])
        assert score.dice() == pytest.approx(dice(*maps))
    assert np.isnan(Score(np.zeros((2, 2), int), np.zeros((2, 2), int)).mean())
