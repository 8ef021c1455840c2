"""The dock "Explain": why a model fails on a case."""

from collections.abc import Callable, Sequence
from typing import Any

import napari
from napari.layers import Layer
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QTabWidget, QVBoxLayout, QWidget

from ...models.loaders.trust import Untrusted
from ..adding import add_in_turn, place
from ..edits import note_edits
from ..jobbar import JobBar, stop_when_closed
from ..layers import plain
from ._dock_parts import is_trusted, scrolling
from ._explain_attribution import AttributionTab
from ._explain_case import CaseBox
from ._explain_network import NetworkTab
from ._explain_report import Findings
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
    ``dock.start``, puts what it finds into ``dock.findings``, and is added to ``dock.tabs``.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self.viewer = plain(viewer)
        self.setObjectName("lightbox-explain")
        self._covering: list[Layer] = []
        self.bar = JobBar(viewer, self)
        self.case = CaseBox(self.viewer, self)
        self.case.failed.connect(self.bar.show_error)
        self.case.list_models()
        self.findings = Findings(self)
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
        _, outside = scrolling(self, inside)
        # Below what scrolls: what was found, and how far the work is.
        outside.addWidget(self.findings)
        outside.addWidget(self.bar)

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
                name = self.case.card.name if self.case.card else "this model"
                if is_trusted(result, name, self.viewer, self.bar):
                    # Once the job that asked has ended.
                    QTimer.singleShot(0, again)
            else:
                on_done(result)

        self.bar.run(trusting(work), title=title, on_done=done)

    def add(self, layers: Sequence[Layer], note: str = "", *, covers: bool = False) -> None:
        """Add layers and say so; those that cover the image hide the ones before them, which would mix with them."""
        viewer = self.viewer
        if covers:
            for layer in [one for one in self._covering if one in viewer.layers]:
                layer.visible = False
            self._covering = list(layers)
        told = [*([note] if note else []), *place(viewer, layers)]
        add_in_turn(viewer, layers, lambda added: self.say("; ".join(told)))

    def say(self, text: str) -> None:
        """Show a sentence below, unless the dock has been closed meanwhile."""
        if not self.bar.runner.closed:
            self.bar.show_note(text)
