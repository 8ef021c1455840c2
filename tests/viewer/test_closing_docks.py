"""Docks that are closed while their job runs."""

import time
from functools import partial

import pytest
from docking import add, open_dock
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication

from napari_lightbox.progress import track
from napari_lightbox.viewer import asking
from napari_lightbox.viewer import dock as dock_module


def endless(*_, **__):
    """Work that only a cancel ends."""
    for _ in track(range(100_000), "tiles"):
        time.sleep(0.005)


@pytest.mark.parametrize("stop", [True, False])
def test_the_cross_of_a_dock_asks_while_its_job_runs(make_napari_viewer, qtbot, difficult, monkeypatch, stop):
    viewer, asked = make_napari_viewer(), []
    monkeypatch.setattr(dock_module, "apply", endless)
    monkeypatch.setattr(asking, "may_stop", lambda title, *_: asked.append(title) or stop)
    add(viewer, difficult)
    dock = open_dock(viewer, qtbot, "median")
    outer = dock.parent()
    dock.apply()
    job = dock.bar.runner.job
    qtbot.mouseClick(outer.title.close_button, Qt.MouseButton.LeftButton)
    assert asked == ["Median of difficult"]
    if stop:
        assert dock.parent() is None
    else:
        assert dock.bar.running
        assert dock.parent() is outer
        dock.bar.cancel()
    qtbot.waitUntil(lambda: not job.running, timeout=3000)
    if not stop:
        # A dock at rest closes without a word.
        qtbot.mouseClick(outer.title.close_button, Qt.MouseButton.LeftButton)
        assert len(asked) == 1
        assert dock.parent() is None


def test_the_question_at_the_cross_keeps_the_job_unless_told_otherwise(make_napari_viewer, qtbot, monkeypatch):
    monkeypatch.setattr(asking, "has_screen", lambda *_: True)
    viewer, said = make_napari_viewer(), []

    def answer(text):
        box = QApplication.activeModalWidget()
        said.append(box.text())
        next(button for button in box.buttons() if button.text() == text).click() if text else box.reject()

    for text, expected in (("Stop it and close", True), ("Keep running", False), ("", False)):
        QTimer.singleShot(0, partial(answer, text))
        assert asking.may_stop("Median of CT", viewer) is expected
    assert said == ["Median of CT is still running."] * 3


def test_the_question_goes_with_the_job_or_the_window(make_napari_viewer, qtbot, difficult, monkeypatch):
    viewer = make_napari_viewer()
    monkeypatch.setattr(asking, "has_screen", lambda *_: True)
    monkeypatch.setattr(dock_module, "apply", endless)
    add(viewer, difficult)
    dock = open_dock(viewer, qtbot, "median")
    outer, said = dock.parent(), []
    # Whatever fails, the question does not wait for ever.
    dock.bar.running_changed.connect(lambda _: QTimer.singleShot(2000, lambda: _give_up(said)))
    dock.apply()
    QTimer.singleShot(0, dock.bar.cancel)
    qtbot.mouseClick(outer.title.close_button, Qt.MouseButton.LeftButton)
    assert not dock.bar.running
    assert dock.parent() is outer
    assert "cancelled" in dock.bar.message
    QTimer.singleShot(0, lambda: QApplication.activeModalWidget().deleteLater())
    QTimer.singleShot(20, lambda: QApplication.activeModalWidget() and QApplication.activeModalWidget().reject())
    assert asking.may_stop("Median of CT", viewer) is False
    assert not said


def _give_up(said):
    box = QApplication.activeModalWidget()
    if box is not None:
        said.append(box.text())
        box.reject()
