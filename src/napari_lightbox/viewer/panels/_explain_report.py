"""What the Explain dock has found so far, to be written as one page."""

from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from ...errors import LightboxError
from ...report import explained, network, sweeps
from ...report.explanation import Section, write_explanation
from ...volume import Volume
from ..capture import steady
from ..runner import main_window
from ..writers import file_name, may_replace

_MOST = 40


class Findings(QWidget):
    """The button that writes all findings of a dock as a page; tabs put theirs here.

    A finding has a key: what is found again (the same sweep with its filters tried, the same kernels) takes its place.

    Parameters
    ----------
    dock : ExplainPanel
        Has ``bar``, ``viewer`` and ``start``.
    """

    def __init__(self, dock) -> None:
        super().__init__(dock)
        self.dock = dock
        self.kept: dict[Any, tuple[str, Any]] = {}
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self.button = QPushButton("", self)
        self.button.setToolTip("<qt>Write all that was found in this dock as one page with pictures (HTML)</qt>")
        self.clear_button = QPushButton("Clear", self)
        self.clear_button.setToolTip("Forget what was found; layers stay")
        row.addWidget(self.button, 1)
        row.addWidget(self.clear_button)
        self.button.clicked.connect(self._ask)
        self.clear_button.clicked.connect(self.clear)
        dock.bar.running_changed.connect(lambda _: self._show())
        self._show()

    def keep(self, key: Any, heading: str, make: Any) -> None:
        """Keep a finding; `make` returns the parts of its section when the page is written, in the background."""
        self.kept.pop(key, None)
        self.kept[key] = (heading, make)
        while len(self.kept) > _MOST:
            self.kept.pop(next(iter(self.kept)))
        self._show()

    def keep_sweep(self, found, mended, at: float | None) -> None:
        """Keep a sweep with its pictures and the filters that were tried."""
        one = found.sweep
        heading = f"{one.perturbation.title}: {one.model} on {one.image}"
        # The identity of what is kept: that of anything else may be another's by and by.
        self.keep(id(one), heading, partial(sweeps.panels, one, mended=mended, at=at, pictures=found.pictures))

    def keep_maps(self, volumes: tuple[Volume, ...], images: tuple[Volume, ...], region: Volume | None) -> None:
        """Keep maps of attribution."""

        def parts() -> list[str]:
            return explained.panels(volumes, [steady(one) for one in images], region)

        self.keep(id(volumes), "Attribution", parts)

    def keep_network(self, heading: str, volumes: tuple[Volume, ...], image: Volume | None = None) -> None:
        """Keep what was seen of a network."""

        def parts() -> list[str]:
            return network.panels(volumes, None if image is None else steady(image))

        # The same layer of another image, and what is seen from another place, have the same name.
        self.keep(repr([(one.name, one.history[-1]) for one in volumes]), heading, parts)

    def clear(self) -> None:
        """Forget everything."""
        self.kept.clear()
        self._show()

    def _show(self) -> None:
        count = len(self.kept)
        self.button.setText(f"Report… ({count} finding{'s' * (count != 1)})" if count else "Report…")
        for widget in (self.button, self.clear_button):
            widget.setEnabled(bool(count) and not self.dock.bar.running)

    def _title(self) -> str:
        card = self.dock.case.card
        # What was found stays when no model is chosen any more.
        return "Explanation" if card is None else f"Explanation of {card.name}"

    # Writing ------------------------------------------------------------------------------------------------------

    def write(self, path: Path) -> None:
        """Write the page, in the background."""
        kept, title = list(self.kept.values()), self._title()

        def work() -> Path:
            return write_explanation(Path(path), title, [Section(name, tuple(make())) for name, make in kept])

        self.dock.start(work, "Report", lambda made: self.dock.say(f"Wrote {made}"), partial(self.write, path))

    def _ask(self) -> None:
        window = main_window(self.dock.viewer)
        proposed = file_name(self._title(), ".html")
        name, _ = QFileDialog.getSaveFileName(window, "Report", proposed, "Page with pictures (*.html)")
        if not name:
            return
        path = Path(name)
        try:
            if path.suffix.lower() not in (".html", ".htm"):
                # The dialog has asked for the name as it was typed only.
                path = path.with_name(path.name + ".html")
                may_replace(None, [path], self.dock.viewer)
        except LightboxError as error:
            self.dock.bar.show_error(str(error))
        else:
            self.write(path)
