"""The dock that explains, driven as a hand would, on models whose answers are known."""

import csv
import json
import math

import numpy as np
import pytest
from difficult_grids import difficult_grid
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QFileDialog

from napari_lightbox import Label, Volume
from napari_lightbox.models import PERTURBATIONS, perturbed
from napari_lightbox.models.loaders.trust import Untrusted
from napari_lightbox.ops.metrics import dice
from napari_lightbox.viewer.layers import layer_to_volume, volume_to_layer
from napari_lightbox.viewer.panels import _dock_parts, _explain_work
from napari_lightbox.viewer.panels._explain_plot import Curve, CurvePlot, Point
from napari_lightbox.viewer.panels.explain import ExplainPanel

torch = pytest.importorskip("torch")

SHAPE = (4, 40, 48)
LEFT = Qt.MouseButton.LeftButton


def bright(x):
    """Find what is brighter than 112, just below the block."""
    return 5 * (x - 112)


def add(viewer, volume: Volume):
    data, arguments, kind = volume_to_layer(volume)
    return getattr(viewer, f"add_{kind}")(data, **arguments)


@pytest.fixture
def opened(qtbot, monkeypatch):
    """Return a viewer, the dock over a bright block on a difficult grid, and image and reference."""
    # A function stands for the model, so that every answer is known; its card is that of a shipped one.
    monkeypatch.setattr(_explain_work, "load", lambda source: bright)
    viewer = ViewerModel()
    block = np.zeros(SHAPE, np.uint8)
    block[:, 10:30, 12:36] = 1
    grid = difficult_grid(SHAPE)
    image = Volume(20 + 100.0 * block, grid, name="block", meta={"modality": "US", "unit": "dB"})
    truth = Volume(block, grid, "labels", "truth", {1: Label("thing", "#ff0000")})
    add(viewer, image)
    add(viewer, truth)
    panel = ExplainPanel(PublicOnlyProxy(viewer))
    qtbot.addWidget(panel)
    panel.case.choose_model("fetal-head")
    panel.resize(340, 900)
    panel.show()
    return viewer, panel, image, truth


def press(qtbot, panel, button) -> None:
    qtbot.mouseClick(button, LEFT)
    finish(qtbot, panel)


def finish(qtbot, panel) -> None:
    qtbot.waitUntil(lambda: not panel.bar.running, timeout=60_000)
    qtbot.wait(60)


def expect(qtbot, viewer, names: list[str]) -> None:
    """Wait until these layers lie over image and reference: they are added one after the other."""
    qtbot.waitUntil(lambda: [layer.name for layer in viewer.layers][2:] == names, timeout=20_000)


def sweep_salt(qtbot, panel, viewer) -> None:
    tab = panel.sweeps
    panel.case.reference_box.choose(viewer.layers["truth"])
    tab.perturbation_box.setCurrentIndex(tab.perturbation_box.findData("salt_and_pepper"))
    tab.strengths.clear()
    qtbot.keyClicks(tab.strengths, "0.1, 0.3")
    press(qtbot, panel, tab.run_button)


def expected_dice(image: Volume, truth: Volume, strength: float) -> float:
    return dice(perturbed(image, "salt_and_pepper", strength).data > 112, truth.data)


def test_strengths_suit_the_image_until_some_are_typed(opened, qtbot):
    _, panel, image, _ = opened
    tab = panel.sweeps
    for name, row in PERTURBATIONS.items():
        tab.perturbation_box.setCurrentIndex(tab.perturbation_box.findData(name))
        shown = [float(part) for part in tab.strengths.text().split(",")]
        assert shown == pytest.approx(row.strengths(image))
        assert tab.unit.text() == row.unit_of(image)
        assert tab.seed.isEnabled() == row.seeded
    tab.strengths.clear()
    qtbot.keyClicks(tab.strengths, "3, 4")
    panel.case.changed.emit()
    assert tab.strengths.text() == "3, 4"
    assert panel.minimumSizeHint().width() <= 340


def test_sweep_click_mend_apply_export(opened, qtbot, tmp_path, monkeypatch):
    viewer, panel, image, truth = opened
    tab = panel.sweeps
    assert not tab.mend_button.isEnabled()
    sweep_salt(qtbot, panel, viewer)
    sweep = tab.found.sweep
    assert [p.mean for p in sweep.curve()] == pytest.approx([expected_dice(image, truth, s) for s in (0, 0.1, 0.3)])
    assert tab.plot.broken == sweep.breaking_point()
    assert f"{sweep.breaking_point():.4g}" in tab.about.text()
    # A click on the second point shows that image with its prediction; the arrow key goes on and replaces them.
    there = tab.plot.place(0.1, sweep.curve()[1].mean)
    qtbot.mouseClick(tab.plot, LEFT, pos=QPoint(round(there.x()) + 3, round(there.y()) - 3))
    expect(qtbot, viewer, ["block · salt and pepper 0.1 share", "bright · salt and pepper 0.1 share"])
    shown, labels = (layer_to_volume(layer) for layer in viewer.layers[2:])
    spoilt = perturbed(image, "salt_and_pepper", 0.1)
    np.testing.assert_array_equal(shown.data, spoilt.data)
    np.testing.assert_array_equal(labels.data, spoilt.data > 112)
    assert shown.grid == labels.grid == image.grid
    qtbot.keyClick(tab.plot, Qt.Key.Key_Right)
    expect(qtbot, viewer, ["block · salt and pepper 0.3 share", "bright · salt and pepper 0.3 share"])
    # What mends the image of that point.
    press(qtbot, panel, tab.mend_button)
    assert tab.mended_at == 0.3
    best = tab.mended[0]
    assert "edian" in best.title
    assert (tab.table.item(0, 0).text(), tab.table.item(0, 2).text()) == (best.title, f"{best.change:+.3f}")
    assert f"{best.title} mends most" in panel.bar.message
    press(qtbot, panel, tab.apply_button)
    qtbot.waitUntil(lambda: len(viewer.layers) == 6, timeout=20_000)
    filtered, answer = (layer_to_volume(layer) for layer in viewer.layers[-2:])
    np.testing.assert_array_equal(answer.data, filtered.data > 112)
    assert dice(answer.data, truth.data) == pytest.approx(best.score)
    assert [step["operation"] for step in answer.history] == ["salt_and_pepper", best.steps[0]["operation"], "predict"]
    # Files.
    for suffix in ("csv", "json", "html"):
        path = tmp_path / f"found.{suffix}"
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, path=path: (str(path), ""))
        press(qtbot, panel, tab.export_button)
    assert [float(r["strength"]) for r in csv.DictReader((tmp_path / "found.csv").open())] == [0, 0.1, 0.3]
    told = json.loads((tmp_path / "found.json").read_text())
    assert (told["mended_at"], told["mended"][0]["name"]) == (0.3, best.name)
    assert "What mends it" in (tmp_path / "found.html").read_text()


def test_without_a_reference_and_by_volume(opened, qtbot):
    viewer, panel, image, _ = opened
    tab = panel.sweeps
    tab.perturbation_box.setCurrentIndex(tab.perturbation_box.findData("intensity_shift"))
    tab.strengths.setText("")
    qtbot.keyClicks(tab.strengths, "50, 100")
    press(qtbot, panel, tab.run_button)
    assert "steadiness" in tab.about.text()
    assert tab.found.sweep.reference is None
    tab.score_box.setCurrentIndex(1)
    ml = np.prod(image.grid.spacing) / 1000
    counts = [(image.data + s > 112).sum() for s in (0, 50, 100)]
    assert [p.mean for p in tab.plot.curves[0].points] == pytest.approx([c * ml for c in counts])
    press(qtbot, panel, tab.mend_button)
    # What is mended for is the answer to the image as it is.
    assert tab.mended[0].measure == "dice"
    assert len(viewer.layers) == 2


def test_what_does_not_break_has_nothing_to_mend(opened, qtbot):
    _, panel, _, _ = opened
    tab = panel.sweeps
    tab.perturbation_box.setCurrentIndex(tab.perturbation_box.findData("intensity_shift"))
    tab.strengths.setText("")
    qtbot.keyClicks(tab.strengths, "1, 2")
    press(qtbot, panel, tab.run_button)
    assert "Does not break" in tab.about.text()
    press(qtbot, panel, tab.mend_button)
    assert "Nothing broke up to strength 2" in panel.bar.message
    assert "mends most" not in panel.bar.message


def test_options_go_to_the_operation(opened, qtbot):
    viewer, panel, image, _ = opened
    tab = panel.sweeps
    tab.perturbation_box.setCurrentIndex(tab.perturbation_box.findData("missing_slices"))
    assert "fill" in tab.options.toolTip()
    qtbot.keyClicks(tab.options, "fill=empty, across=y")
    tab.strengths.setText("2")
    press(qtbot, panel, tab.run_button)
    assert tab.found is not None, panel.bar.message
    step = tab.found.sweep.steps[2.0][0]["parameters"]
    assert (step["fill"], step["across"]) == ("empty", "y")
    tab.show_point(2.0)
    finish(qtbot, panel)
    qtbot.waitUntil(lambda: len(viewer.layers) == 4, timeout=5_000)
    expected = perturbed(image, "missing_slices", 2, options={"fill": "empty", "across": "y"})
    np.testing.assert_array_equal(layer_to_volume(viewer.layers[2]).data, expected.data)


def test_mistakes_stand_in_the_bar_and_a_sweep_can_be_cancelled(opened, qtbot, monkeypatch):
    viewer, panel, *_ = opened
    tab = panel.sweeps
    tab.strengths.setText("1, x")
    press(qtbot, panel, tab.run_button)
    assert "must be numbers apart by commas" in panel.bar.message
    tab.strengths.setText("-1, 1")
    press(qtbot, panel, tab.run_button)
    assert "sweep one side at a time" in panel.bar.message
    tab.strengths.setText("1")
    tab.options.setText("seed")
    press(qtbot, panel, tab.run_button)
    assert "must be NAME=VALUE" in panel.bar.message
    tab.options.setText("colour=3")
    press(qtbot, panel, tab.run_button)
    assert "no parameter 'colour'" in panel.bar.message
    tab.options.clear()
    assert tab.found is None

    def slow(x):
        import time

        time.sleep(0.05)
        return bright(x)

    monkeypatch.setattr(_explain_work, "load", lambda source: slow)
    tab.strengths.setText(", ".join(str(n) for n in range(1, 200)))
    qtbot.mouseClick(tab.run_button, LEFT)
    qtbot.wait(300)
    assert panel.bar.running
    assert not tab.run_button.isEnabled()
    qtbot.mouseClick(panel.bar.cancel_button, LEFT)
    qtbot.waitUntil(lambda: not panel.bar.running, timeout=2_000)
    assert "cancelled" in panel.bar.message
    assert len(viewer.layers) == 2


def test_a_model_that_may_run_code_is_asked_about_once(opened, qtbot, monkeypatch):
    _, panel, *_ = opened
    trusted = []

    def load(source):
        if not trusted:
            raise Untrusted("no", "abc", "a program")
        return bright

    monkeypatch.setattr(_explain_work, "load", load)
    monkeypatch.setattr(_dock_parts, "confirm", lambda *_: True)
    monkeypatch.setattr(_dock_parts, "remember", lambda sha, name: trusted.append(sha))
    panel.sweeps.strengths.setText("1")
    press(qtbot, panel, panel.sweeps.run_button)
    qtbot.waitUntil(lambda: panel.sweeps.found is not None, timeout=20_000)
    assert trusted == ["abc"]


def test_a_model_that_stays_closed_says_what_can_be_done_here(opened, monkeypatch):
    viewer, panel, *_ = opened
    monkeypatch.setattr(_dock_parts, "confirm", lambda *_: False)
    question = Untrusted("open it with trust=True", "abc", "a program")
    assert not _dock_parts.is_trusted(question, "toy", viewer, panel.bar)
    said = panel.bar.message
    for part in ("'toy' stays closed", "a program", "answer Yes"):
        assert part in said
    assert "trust=True" not in said


def test_points_are_drawn_in_their_place_and_gaps_left_out(qtbot):
    plot = CurvePlot()
    qtbot.addWidget(plot)
    plot.resize(400, 200)
    plot.show()
    points = [Point(0, 1, 1, 1), Point(5, math.nan, math.nan, math.nan), Point(10, 0.5, 0.4, 0.6)]
    plot.show_curves([Curve("mean", "#00ff00", points)], broken=2.0, across="x", up="Dice")
    picture = plot.grab().toImage()
    ratio = picture.width() / plot.width()
    for p in (points[0], points[2]):
        spot = plot.place(p.strength, p.mean) * ratio
        assert picture.pixelColor(round(spot.x()), round(spot.y())).green() > 200
    line = plot.place(2.0, 0.1) * ratio
    reds = [picture.pixelColor(round(line.x()), y).red() for y in range(40, 120)]
    assert max(reds) > 200
    said = []
    plot.chosen.connect(said.append)
    qtbot.mouseClick(plot, LEFT, pos=QPoint(200, 190))  # far from any point
    assert said == []
    qtbot.keyClick(plot, Qt.Key.Key_Right)
    assert said == [0]
