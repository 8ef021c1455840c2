"""The dock "Explain": why a model fails on a case."""

from collections.abc import Callable
from typing import Any

import napari
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QScrollArea, QTabWidget, QVBoxLayout, QWidget

from ...errors import LightboxError
from ...models.loaders.trust import Untrusted, remember
from ..asking import confirm
from ..edits import note_edits
from ..jobbar import JobBar, stop_when_closed
from ..layers import plain
from ._explain_attribution import AttributionTab
from ._explain_case import CaseBox
from ._explain_network import NetworkTab
from ._explain_sweep import SweepTab
from ._explain_work import trusting


class ExplainPanel(QWidget):
    """Dock that asks why a model fails: what it bears, where it breaks, and what mends it.

    Parameters
    ----------
    viewer : napari.Viewer
        Where images are taken from and results go.

    Notes
    -----
    The case (images, model, reference, class) stands above the tabs and is the same for all of them. A further tab is
    a widget that takes the dock, asks ``dock.case.take()`` for the case when its work begins, hands the work to
    ``dock.start``, and is added to ``dock.tabs``.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self.viewer = plain(viewer)
        self.setObjectName("lightbox-explain")
        self.bar = JobBar(viewer, self)
        self.case = CaseBox(self.viewer, self)
        self.case.failed.connect(self.bar.show_error)
        self.case.list_models()
        self.tabs = QTabWidget(self)
        self.tabs.setDocumentMode(True)
        self.sweeps = SweepTab(self)
        self.tabs.addTab(self.sweeps, "Perturbations")
        self.attribution = AttributionTab(self)
        self.tabs.addTab(self.attribution, "Attribution")
        self.network = NetworkTab(self)
        self.tabs.addTab(self.network, "Network")
        self._lay_out()
        note_edits(self.viewer)
        # A dock that is gone must not be called back.
        self.destroyed.connect(self.bar.runner.discard)
        stop_when_closed(self, self.bar, self.case.close_down, self.attribution.region_box.disconnect_viewer,
                         self.network.leave)  # fmt: skip

    def _lay_out(self) -> None:
        inside = QWidget(self)
        box = QVBoxLayout(inside)
        box.setContentsMargins(0, 0, 6, 0)
        box.addWidget(self.case)
        box.addWidget(self.tabs, 1)
        scroll = QScrollArea(self)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(inside)
        outside = QVBoxLayout(self)
        outside.setContentsMargins(6, 6, 6, 6)
        outside.addWidget(scroll, 1)
        # Below what scrolls: how far the work is always is in sight.
        outside.addWidget(self.bar)
        self.setMinimumWidth(330)

    def start(self, work: Callable[[], Any], title: str, on_done: Callable[[Any], None], again: Callable) -> None:
        """Do work in the background, one job at a time.

        Parameters
        ----------
        work : callable
            Runs in another thread; what it loads may ask for trust.
        title : str
            What the bar says.
        on_done : callable
            Gets the result, in the window's thread.
        again : callable
            Starts the same once more, when the user has said that they trust a model's file.
        """
        if self.bar.running:
            return

        def done(result: Any) -> None:
            if isinstance(result, Untrusted):
                self._ask_trust(result, again)
            else:
                on_done(result)

        self.bar.run(trusting(work), title=title, on_done=done)

    def say(self, text: str) -> None:
        """Show a sentence below, unless the dock has been closed meanwhile."""
        if not self.bar.runner.closed:
            self.bar.show_note(text)

    def _ask_trust(self, question: Untrusted, again: Callable) -> None:
        name = self.case.card.name if self.case.card else "this model"
        if not confirm(
            f"The model {name!r} is {question.what}.\n\nYes: you trust where it comes from, now and later.\n"
            "No: it stays closed.",
            self.viewer,
        ):
            self.bar.show_error(str(question))
            return
        try:
            remember(question.sha256, name)
        except LightboxError as error:
            self.bar.show_error(str(error))
            return
        # Once the job that asked has ended.
        QTimer.singleShot(0, again)
