"""Every long operation says how far it is, and stops within a second of being told to."""

import threading
import time

import numpy as np
import pytest

from napari_lightbox.geometry import Grid
from napari_lightbox.ops import components, filters, frequency, measure, metrics, morphology, segmentation, spatial
from napari_lightbox.progress import Cancelled, listening
from napari_lightbox.volume import Volume

SHAPE = (64, 256, 256)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(5).integers(-1000, 2000, SHAPE, dtype=np.int16)


def moved(order):
    def call(image):
        volume = Volume(image, Grid.from_spacing((1, 1, 1), image.shape))
        return spatial.affine(volume, rotate=(3, 4, 5), order=order, scale=(1, 3, 3), grid="fit")

    return call


CALLS = {
    "median 3": lambda a: filters.median(a, 3),
    "median 15": lambda a: filters.median(a, 15),
    "adaptive median 7": lambda a: filters.adaptive_median(a, 7),
    "adaptive median 15": lambda a: filters.adaptive_median(np.where(a > 0, 0, a), 15),
    "spectrum": frequency.spectrum,
    "find spikes": frequency.find_spikes,
    "notch": lambda a: frequency.notch(a, "9, 20, 31"),
    "band reject": lambda a: frequency.band_reject(a, 40, 5),
    "affine nearest": moved("nearest"),
    "affine linear": moved("linear"),
    "affine cubic": moved("cubic"),
    "otsu": lambda a: segmentation.otsu(a, 4),
    "grow by seed": lambda a: segmentation.region_grow(a, [(4, 9, 9)], threshold=1500),
    "grow by mean": lambda a: segmentation.region_grow(a, [(4, 9, 9)], criterion="mean", threshold=1900),
    "grow by confidence": lambda a: segmentation.region_grow(a, [(4, 9, 9)], criterion="confidence", multiplier=1.5),
    "minimum 15": lambda a: filters.minimum(a, 15),
    "percentile 7": lambda a: filters.percentile(a, 20, 7),
    "mean 31": lambda a: filters.mean(a, 31),
    "gaussian 8": lambda a: filters.gaussian(a, (1, 1, 1), 8),
    "bias correction": lambda a: filters.bias_correction(a, (1, 1, 1), shrink=1),
    "erosion 9 mm": lambda a: morphology.erosion(a, (1, 1, 1), 9.0),
    "dilation of labels": lambda a: morphology.dilation(a % 50 == 0, (1, 1, 1), 30.0, labelled=True),
    "closing of labels": lambda a: morphology.closing(np.maximum(a - 1990, 0), (1, 1, 1), 4.0, labelled=True),
    "components": lambda a: components.components(a > 1000, (1, 1, 1), connectivity=6),
    "components of labels": lambda a: components.components(np.repeat(a[:, :, ::8] % 5, 8, 2), (1, 1, 1)),
    "fill holes": lambda a: components.fill_holes(np.repeat(a[:, :, ::8] % 5, 8, 2), (1, 1, 1)),
    "table": lambda a: measure.label_table(a, (1, 1, 1), a),
    "confusion": lambda a: metrics.confusion(a, a),
}


@pytest.mark.parametrize("name", CALLS)
def test_cancel_acts_within_a_second(image, name):
    """Cancelled 0.3 s after the start (or at once where the work is that short)."""
    began = time.perf_counter()
    asked = []

    def listener(what, done, total):
        if time.perf_counter() - began > 0.3:
            asked.append(time.perf_counter())
            raise Cancelled

    reports = []

    def watch(what, done, total):
        reports.append((time.perf_counter(), what, done, total))
        listener(what, done, total)

    with listening(watch):
        try:
            CALLS[name](image)
        except Cancelled:
            ended = time.perf_counter()
            # From the moment the user pressed the button to the moment the work was gone.
            assert ended - began - 0.3 < 1.0
            assert ended - asked[0] < 1.0
    assert reports
    assert all(what for _, what, _, _ in reports)


@pytest.mark.parametrize("name", ["median 3", "adaptive median 7", "affine linear", "otsu", "grow by mean"])
def test_reports_count_up_to_the_total(image, name):
    reports = []
    with listening(lambda *report: reports.append(report)):
        CALLS[name](image[:8, :64, :64])
    assert reports[-1][1] == reports[-1][2]
    if name == "grow by mean":
        # How far a region will grow nobody knows.
        assert any(what == "voxels" and done > 1000 and total is None for what, done, total in reports)


def test_a_failure_in_a_tile_reaches_the_caller(image, monkeypatch):
    def fail(*_):
        raise MemoryError("no room")

    monkeypatch.setenv("LIGHTBOX_COMPILED", "0")
    monkeypatch.setattr(filters._windows, "medians", fail)
    with pytest.raises(MemoryError, match="no room"):
        filters.median(image, 3)


def test_other_threads_go_on_while_a_filter_runs(image):
    """The longest pause of a heart that beats every 5 ms."""
    gaps, stop = [], threading.Event()

    def beat():
        last = time.perf_counter()
        while not stop.wait(0.005):
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    heart = threading.Thread(target=beat)
    heart.start()
    filters.median(image, 3)
    segmentation.region_grow(image, [(4, 9, 9)], threshold=1500)
    moved("linear")(image[:16])
    stop.set()
    heart.join()
    # Generous, as the machine may be busy; held locks show as seconds.
    assert max(gaps) < 0.5
