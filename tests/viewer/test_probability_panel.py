"""The Probability dock, driven as a hand would, against numbers from elsewhere."""

import csv
import json

import numpy as np
import pytest
from difficult_grids import difficult_grid
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import QPointF, Qt

from napari_lightbox import Label, Recipe, Volume
from napari_lightbox.errors import InputError
from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.ops import metrics
from napari_lightbox.viewer.choosers import LayerChooser
from napari_lightbox.viewer.layers import is_preview, layer_to_volume, volume_to_layer
from napari_lightbox.viewer.panels import _probability_counts as counting
from napari_lightbox.viewer.panels import _probability_mask
from napari_lightbox.viewer.panels.probability import ProbabilityPanel

SHAPE = (6, 20, 24)
LEFT = Qt.MouseButton.LeftButton


def case(rng, shape=SHAPE, dtype=np.float32):
    """Return a probability and a reference that it tells with errors, many values on the edges of bins."""
    probability = rng.random(shape)
    probability.flat[: counting.STEPS + 1] = np.arange(counting.STEPS + 1) / counting.STEPS
    probability.flat[-300:] = 0
    truth = rng.random(shape) < probability**2
    return probability.astype(dtype), truth


def add(viewer, volume: Volume):
    data, arguments, kind = volume_to_layer(volume)
    return getattr(viewer, f"add_{kind}")(data, **arguments)


def volumes(rng, shape=SHAPE):
    frames = Frames("time", tuple(range(shape[0])), "s") if len(shape) == 4 else None
    probability, truth = case(rng, shape)
    grid = difficult_grid(shape) if frames is None else difficult_grid(shape[1:]).with_frames(frames)
    labels = np.where(truth, np.uint8(7), np.uint8(0))
    labels[..., 0] = 3
    return (
        Volume(probability, grid, "probability", "p(lung)", {2: Label("lung", "#00ff00")}),
        Volume(labels, grid, "labels", "truth", {3: Label("bone"), 7: Label("lung")}),
    )


@pytest.fixture
def opened(qtbot, rng):
    return open_panel(qtbot, *volumes(rng))


def open_panel(qtbot, probability, truth):
    viewer = ViewerModel()
    add(viewer, Volume(np.zeros(probability.grid.shape, np.int16), probability.grid, name="scan"))
    add(viewer, truth)
    add(viewer, probability)
    panel = ProbabilityPanel(PublicOnlyProxy(viewer))
    qtbot.addWidget(panel)
    panel.resize(330, 800)
    panel.show()
    qtbot.waitUntil(lambda: panel.counts is not None, timeout=10_000)
    return viewer, panel, probability, truth


def refer(qtbot, panel, name="truth"):
    panel.reference_box.setCurrentIndex(panel.reference_box.findText(name))
    qtbot.waitUntil(lambda: panel.areas is not None and not panel.bar.running, timeout=10_000)


def shown(panel) -> dict[str, float]:
    return {name: float(label.text().removesuffix(" ml")) for name, label in panel.values.items()}


# Counting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f4", "f8"])
def test_bins_are_exact_at_their_edges(rng, dtype):
    probability, _ = case(rng, dtype=np.float64)
    block = probability.astype(dtype)
    edges = np.arange(counting.STEPS + 1) / counting.STEPS
    expected = np.searchsorted(edges, block.astype(np.float64), "right") - 1
    assert np.array_equal(counting.steps_of(block), expected)


def test_the_table_is_what_the_metrics_say_at_every_threshold(rng, monkeypatch):
    monkeypatch.setattr(counting, "_SLAB", 700)
    probability, truth = case(rng)
    table = counting.count(probability, truth.astype(np.uint8), None, 0.5).table()
    for step in (0, 1, 250, 333, 500, 700, 999, 1000):
        found, row = probability.astype(np.float64) >= step / 1000, table.row(step)
        assert row.dice == pytest.approx(metrics.dice(found, truth), abs=1e-12)
        assert row.true + row.false == found.sum()
        assert row.sensitivity == pytest.approx((found & truth).sum() / truth.sum())
        assert row.precision == pytest.approx((found & truth).sum() / found.sum())
        assert row.volume_ml == pytest.approx(found.sum() * 0.5)
    assert table.brier() == pytest.approx(metrics.brier(probability, truth))
    assert table.ece() == pytest.approx(metrics.calibration(probability, truth, counting.RELIABILITY).ece)
    every = [metrics.dice(probability.astype(np.float64) >= k / 1000, truth) for k in range(1001)]
    assert table.dice[table.best_dice()] == pytest.approx(max(every))


def test_areas_come_from_every_value_or_nearly_so_from_the_bins(rng, monkeypatch):
    probability, truth = case(rng)
    table = counting.count(probability, truth.astype(np.uint8), None, 1.0).table()
    exact = counting.areas(table, probability, truth)
    assert exact.exact
    assert exact.auc == metrics.roc(probability, truth).area
    monkeypatch.setattr(counting, "SORTED", 1)
    coarse = counting.areas(table, probability, truth)
    assert not coarse.exact
    assert coarse.auc == pytest.approx(exact.auc, abs=1e-3)
    assert coarse.precision == pytest.approx(exact.precision, abs=5e-3)


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.5])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(InputError, match="from 0 to 1"):
        counting.count(np.array([[[0.5, value]]], np.float32), None, None, 1.0)


@pytest.mark.parametrize(("text", "values"), [("any label", None), ("", None), ("3, 10-12", (3, 10, 11, 12))])
def test_classes_are_read_as_people_write_them(text, values):
    assert counting.parse_values(text) == values


@pytest.mark.parametrize("text", ["lung", "5-3", "0", "1-99999"])
def test_classes_that_are_no_values_are_refused(text):
    with pytest.raises(InputError, match="is no label value"):
        counting.parse_values(text)


# The dock ---------------------------------------------------------------------------------------------------------


def test_without_a_reference_there_are_volume_and_histogram(opened):
    _, panel, probability, _ = opened
    assert panel.probability_box.layer.name == "p(lung)"
    found = probability.data.astype(np.float64) >= 0.5
    assert panel.values["volume_ml"].text() == f"{found.sum() * probability.grid.voxel_volume / 1000:.3g} ml"
    assert panel.values["dice"].text() == "-"
    assert panel.histogram.lines
    assert not panel.roc.lines
    assert not panel.best_button.isEnabled()
    assert not panel.class_box.isVisible()
    assert panel.minimumSizeHint().width() <= 330


def test_numbers_and_mask_follow_the_slider(opened, qtbot):
    viewer, panel, probability, truth = opened
    refer(qtbot, panel)
    # The class has the name of the probability's.
    assert panel.wanted == (7,)
    assert [panel.class_box.itemText(i) for i in range(panel.class_box.count())] == ["any label", "3 bone", "7 lung"]
    lung = truth.data == 7
    for step in (123, 900):
        panel.slider.setValue(step)
        found = probability.data.astype(np.float64) >= step / 1000
        assert shown(panel)["dice"] == pytest.approx(metrics.dice(found, lung), abs=5e-5)
        mask = panel.mask.layer
        assert is_preview(mask)
        expected, *_ = volume_to_layer(probability.replace(data=found.astype(np.uint8), kind="labels"))
        assert np.array_equal(mask.data, expected)
        np.testing.assert_allclose(mask.affine.affine_matrix, viewer.layers["p(lung)"].affine.affine_matrix)
        assert panel.spin.value() == pytest.approx(step / 1000)
    panel.class_box.setEditText("3, 7")
    panel.class_box.lineEdit().editingFinished.emit()
    either = metrics.dice(probability.data.astype(np.float64) >= 0.9, truth.data > 0)
    qtbot.waitUntil(lambda: panel.counts is not None and abs(shown(panel)["dice"] - either) < 6e-5, timeout=10_000)


def test_a_click_on_a_curve_moves_the_threshold(opened, qtbot):
    _, panel, *_ = opened
    refer(qtbot, panel)
    table = panel.table
    for number, (plot, x, y) in enumerate(
        ((panel.roc, table.fall_out, table.sensitivity), (panel.recall, table.sensitivity, table.precision))
    ):
        panel.tabs.setCurrentIndex(number)
        place = plot.place(x[640], y[640])
        qtbot.mouseClick(plot, LEFT, pos=place.toPoint())
        assert panel.step == pytest.approx(640, abs=15)
        np.testing.assert_allclose(plot.mark, (x[panel.step], y[panel.step]))
    qtbot.mouseClick(panel.histogram, LEFT, pos=panel.histogram.place(0.25, 1).toPoint())
    assert panel.step == pytest.approx(250, abs=3)
    assert panel.roc.threshold_at(QPointF(panel.roc.width() - 30, panel.roc.height() - 60)) is None


def test_buttons_go_to_the_best_dice_and_to_a_half(opened, qtbot):
    _, panel, *_ = opened
    refer(qtbot, panel)
    qtbot.mouseClick(panel.best_button, LEFT)
    assert panel.table.dice[panel.step] == panel.table.dice.max()
    assert panel.step != 500
    qtbot.mouseClick(panel.half_button, LEFT)
    assert panel.threshold == 0.5


def test_what_is_kept_is_a_layer_with_its_step(opened, qtbot):
    viewer, panel, probability, _ = opened
    panel.slider.setValue(700)
    qtbot.mouseClick(panel.keep_button, LEFT)
    qtbot.waitUntil(lambda: "p(lung) \u2265 0.700" in viewer.layers, timeout=10_000)
    kept = layer_to_volume(viewer.layers["p(lung) \u2265 0.700"])
    assert np.array_equal(kept.data, probability.data.astype(np.float64) >= 0.7)
    assert kept.labels == {1: Label("lung", "#00ff00")}
    assert np.array_equal(Recipe.of(kept).run(probability).data, kept.data)


def test_large_volumes_are_drawn_where_one_looks_and_then_everywhere(opened, qtbot, monkeypatch):
    viewer, panel, *_ = opened
    monkeypatch.setattr(_probability_mask, "AT_ONCE", 10)
    monkeypatch.setattr(_probability_mask, "_BLOCK", 500)
    panel.slider.setValue(0)
    data, here = panel.mask.layer.data, int(viewer.dims.current_step[0])
    assert data[here].all()
    qtbot.waitUntil(lambda: panel.mask.complete, timeout=10_000)
    assert data.all()
    panel.slider.setValue(1000)
    assert data[here].mean() < 0.1
    assert data[here - 1].all()
    viewer.dims.set_current_step(0, here - 1)
    assert data[here - 1].mean() < 0.1
    qtbot.waitUntil(lambda: panel.mask.complete, timeout=10_000)
    assert data.mean() < 0.1


def test_frames_alone_or_together(qtbot, rng):
    probability, truth = volumes(rng, (2, *SHAPE))
    viewer, panel, *_ = open_panel(qtbot, probability, truth)
    refer(qtbot, panel)
    assert panel.frame_box.isVisible()
    for frame in (0, 1):
        viewer.dims.set_current_step(0, frame)
        found = probability.data[frame].astype(np.float64) >= 0.5
        assert shown(panel)["dice"] == pytest.approx(metrics.dice(found, truth.data[frame] == 7), abs=5e-5)
    panel.frame_box.setCurrentIndex(1)
    found = probability.data.astype(np.float64) >= 0.5
    assert shown(panel)["dice"] == pytest.approx(metrics.dice(found, truth.data == 7), abs=5e-5)
    assert panel.table.row(500).volume_ml == pytest.approx(found.sum() / 2 * probability.grid.voxel_volume / 1000)


def test_painting_the_reference_counts_again(opened, qtbot):
    viewer, panel, probability, _ = opened
    refer(qtbot, panel)
    layer = viewer.layers["truth"]
    layer.data = np.full_like(layer.data, 7)
    every = metrics.dice(probability.data.astype(np.float64) >= 0.5, np.ones(SHAPE, bool))
    qtbot.waitUntil(lambda: panel.table is not None and abs(shown(panel)["dice"] - every) < 6e-5, timeout=10_000)


def test_other_grids_and_other_images_are_refused(opened, qtbot, rng):
    viewer, panel, probability, truth = opened
    add(viewer, truth.replace(name="moved", grid=Grid.from_spacing((9, 9, 9), SHAPE)))
    panel.reference_box.setCurrentIndex(panel.reference_box.findText("moved"))
    qtbot.waitUntil(lambda: "Resample" in panel.bar.message, timeout=10_000)
    assert panel.table is None
    panel.reference_box.setCurrentIndex(0)
    add(viewer, Volume(rng.normal(0, 100, SHAPE), probability.grid, name="HU"))
    panel.probability_box.setCurrentIndex(panel.probability_box.findText("HU"))
    qtbot.waitUntil(lambda: "a probability lies from 0 to 1" in panel.bar.message, timeout=10_000)
    assert panel.table is None
    assert panel.mask.layer is None


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_curves_are_written(opened, qtbot, tmp_path, suffix):
    _, panel, *_ = opened
    refer(qtbot, panel)
    panel.export(tmp_path / f"curves.{suffix}")
    text = (tmp_path / f"curves.{suffix}").read_text()
    if suffix == "csv":
        rows = list(csv.DictReader(text.splitlines()))
        assert len(rows) == 1001
        assert float(rows[250]["threshold"]) == 0.25
        assert float(rows[250]["dice"]) == panel.table.row(250).dice
        assert rows[250]["true_positive"] == str(panel.table.row(250).true)
        return
    found = json.loads(text)
    assert found["classes"] == [7]
    assert found["auc"] == panel.areas.auc
    assert found["curve"]["volume_ml"][500] == panel.table.row(500).volume_ml
    assert sum(found["reliability"]["voxels"]) == np.prod(SHAPE)


def test_a_closed_dock_takes_its_mask_along(make_napari_viewer, qtbot, rng):
    viewer = make_napari_viewer()
    probability, _ = volumes(rng)
    add(viewer, probability)
    panel = ProbabilityPanel(viewer)
    dock = viewer.window.add_dock_widget(panel, name="Probability")
    qtbot.waitUntil(lambda: panel.mask.layer is not None, timeout=10_000)
    viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=5000)
    viewer.dims.set_current_step(0, 1)


def test_it_begins_with_the_probability_of_a_class_and_says_so_of_an_uncertainty(qtbot, rng):
    probability, _ = volumes(rng)
    viewer = ViewerModel()
    add(viewer, probability)
    step = {"operation": "predict", "parameters": {"result": "uncertainty"}}
    doubt = Volume(probability.data, probability.grid, "probability", "scan doubt", history=(step,))
    add(viewer, doubt)
    add(viewer, Volume(np.zeros(SHAPE, np.int16), probability.grid, name="scan"))
    panel = ProbabilityPanel(PublicOnlyProxy(viewer))
    qtbot.addWidget(panel)
    assert panel.probability_box.layer.name == "p(lung)"
    panel.probability_box.choose(viewer.layers["scan doubt"])
    qtbot.waitUntil(lambda: panel.counts is not None, timeout=10_000)
    assert "not the probability of a class" in panel.figures.text()
    panel.probability_box.choose(viewer.layers["p(lung)"])
    qtbot.waitUntil(lambda: panel.figures.text().startswith("Without"), timeout=10_000)


def test_an_image_gives_way_to_the_probability_that_arrives(qtbot, rng):
    probability, _ = volumes(rng)
    viewer = ViewerModel()
    scan = add(viewer, Volume(np.zeros(SHAPE, np.int16), probability.grid, name="scan"))
    panel = ProbabilityPanel(PublicOnlyProxy(viewer))
    qtbot.addWidget(panel)
    assert panel.probability_box.layer is scan
    add(viewer, Volume(np.ones(SHAPE, np.int16), probability.grid, name="no better one"))
    assert panel.probability_box.layer is scan
    first = add(viewer, probability)
    assert panel.probability_box.layer is first
    qtbot.waitUntil(lambda: panel.counts is not None, timeout=10_000)
    assert panel.table.counts.outside.sum() == probability.data.size
    add(viewer, probability.replace(name="another"))
    assert panel.probability_box.layer is first


def test_an_image_that_was_chosen_by_hand_stays_chosen(qtbot, rng):
    probability, _ = volumes(rng)
    viewer = ViewerModel()
    scan = add(viewer, Volume(np.zeros(SHAPE, np.int16), probability.grid, name="scan"))
    panel = ProbabilityPanel(PublicOnlyProxy(viewer))
    qtbot.addWidget(panel)
    panel.probability_box.activated.emit(panel.probability_box.currentIndex())
    add(viewer, probability)
    assert panel.probability_box.layer is scan


def test_names_of_results_are_told_apart_in_a_narrow_dock(qtbot):
    viewer = ViewerModel()
    start = "example_ct \u00b7 resample \u00b7 ct-regions with much more"
    for end in ("p(bone)", "p(lung)", "uncertainty"):
        viewer.add_image(np.zeros((1, 4, 4)), name=f"{start} {end}")
    box = LayerChooser(viewer, ("image",))
    qtbot.addWidget(box)
    box.setToolTip("<qt>Which one</qt>")
    seen = set()
    for index in range(3):
        box.setCurrentIndex(index)
        name = box.currentText()
        assert box.shortened(150).endswith(name[-4:])
        assert box.fontMetrics().horizontalAdvance(box.shortened(150)) <= 150
        assert (name in box.toolTip(), "Which one" in box.toolTip()) == (True, True)
        assert box.itemData(index, Qt.ItemDataRole.ToolTipRole) == name
        seen.add(box.shortened(150))
    assert len(seen) == 3
    assert box.view().textElideMode() == Qt.TextElideMode.ElideMiddle
    box.resize(170, 24)
    assert not box.grab().isNull()
