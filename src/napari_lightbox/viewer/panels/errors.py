"""The dock "Errors": every error of a segmentation in a table, shown at a click, accepted, mended or dismissed."""

import re
import weakref
from functools import partial
from pathlib import Path

import napari
from qtpy.QtCore import QSize, QTimer
from qtpy.QtWidgets import QFileDialog, QWidget

from ...errors import InputError, LightboxError
from ..adding import insert
from ..edits import note_edits
from ..layers import layer_kind, plain
from ..runner import main_window, run
from ..writers import file_name, may_replace
from . import _error_flight, _error_form
from ._error_ends import bind_keys, fill, outline, shut, stop
from ._error_files import write_json, write_table
from ._error_kinds import AGAINST, ALONE, VERSUS, counted, mode_of
from ._error_pair import Alone, Pair, Versus
from ._error_rows import ErrorRows, Filter
from ._error_score import PREDICTED, REFERENCE, Score
from ._error_work import REVIEW, Found, Recount, is_review, take_pair, voxels_of
from ._links import Links
from ._pane import Closing

TITLE = "Errors"
# Milliseconds after a change that was not made here until the score follows: the time between two strokes.
_PAUSE = 150
# Milliseconds between two looks at whether something was undone in a layer that is hidden.
_LOOK = 150
_TRUTH = re.compile(r"(^|[^a-z])(ref|reference|truth|gt|gold|manual|expert)([^a-z]|$)", re.IGNORECASE)


class ErrorsPanel(QWidget):
    """Dock that compares a prediction with a reference, error by error.

    A click on a row flies there on all canvases. Accept paints the prediction into the reference, Fix the reference
    into the prediction, each as an edit of that layer which napari's undo takes back; the score above the table
    follows. What was decided is kept in the metadata of the layer of errors.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer that the dock belongs to.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = plain(viewer)
        note_edits(self._viewer)
        self.model = ErrorRows()
        self.layer = None
        self.pair: Pair | None = None
        # What is drawn as outlines.
        self._compared_layers = ()
        # Number of the error that was last shown, and its row, which another one takes when it is filtered out.
        self.current, self._place = 0, 0
        self._fresh: tuple | None = None
        # Decisions that an undo has taken back, by number: a redo brings them again.
        self._undone: dict[int, str] = {}
        self._own = False
        _error_form.build(self)
        self._connect()
        # What must be ended with the dock; a dict of its own, as it outlives the widget.
        self._room: dict = {"runner": self.bar.runner, "jobs": {}, "links": [Links(self), Links(self)], "outlined": []}
        self._room["keys"] = bind_keys(self._viewer, weakref.ref(self))
        self._settler = QTimer(self, singleShot=True, interval=_PAUSE)
        self._settler.timeout.connect(self._compare)
        self._watcher = QTimer(self, interval=_LOOK)
        self._watcher.timeout.connect(self._catch_up)
        self._later = QTimer(self, singleShot=True, interval=0)
        self._later.timeout.connect(self._pair_up)
        layers = self._viewer.layers.events
        self._room["links"][0].add(layers.inserted, lambda event: self._later.start())
        self._room["links"][0].add(layers.removed, self._on_removed)
        self._room["links"][0].add(self._viewer.dims.events.ndisplay, self._on_display)
        Closing(self, self._viewer, partial(shut, weakref.ref(self._viewer), self._room))
        self._pair_up()
        self._on_review()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Wide enough for the columns that a reader wants first."""
        return QSize(480, 800)

    def _connect(self) -> None:
        self.find_button.clicked.connect(self.find)
        self.review_box.layer_changed.connect(self._on_review)
        self.table.clicked.connect(lambda index: self.show_row(index.row()))
        self.table.activated.connect(lambda index: self.show_row(index.row()))
        self.table.selectionModel().currentRowChanged.connect(lambda index, _: self._on_arrow(index.row()))
        for box in (self.kind_box, self.label_box, self.state_box, self.outcome_box):
            box.currentIndexChanged.connect(self._on_filter)
        self.least_box.valueChanged.connect(self._on_filter)
        self.comment.textEdited.connect(self._on_comment)
        self.outline_box.toggled.connect(self._outline)
        self.bar.running_changed.connect(lambda running: self.find_button.setEnabled(not running))
        for button, do in (
            (self.next_button, lambda: self.step(1)),
            (self.previous_button, lambda: self.step(-1)),
            (self.accept_button, lambda: self.decide("accepted")),
            (self.fix_button, lambda: self.decide("fixed")),
            (self.dismiss_button, lambda: self.decide("dismissed")),
            (self.reopen_button, self.reopen),
            (self.export_button, self._ask_export),
        ):
            button.clicked.connect(do)

    # Choosing and finding -----------------------------------------------------------------------------------------

    def _pair_up(self) -> None:
        """Have the two choosers name two layers, the one called so as the reference; none where there is but one."""
        self.ask.refresh()
        first, second = self.predicted_box, self.reference_box
        layers = [one for one in reversed(self._viewer.layers) if layer_kind(one) == "labels" and not is_review(one)]
        if second.layer not in (None, first.layer):
            return
        if len(layers) < 2:
            second.setCurrentIndex(0)
            return
        truth = next((one for one in layers if _TRUTH.search(one.name)), layers[-1])
        second.choose(truth)
        if first.layer is truth:
            first.choose(next(one for one in layers if one is not truth))

    def find(self) -> None:
        """Find the errors or doubts that the form asks for in the background and show them."""
        try:
            search, layers = self.ask.search()
        except LightboxError as error:
            self.bar.show_error(str(error))
            return
        self.bar.run(search, title=f"Errors of {layers[0].name}", on_done=partial(self._found, layers))

    def _found(self, layers, found: Found) -> None:
        for layer in self._viewer.layers:
            if is_review(layer):
                layer.visible = False
        self._fresh = (found.layer, layers, found.score)
        insert(self._viewer, found.layer)
        self.review_box.choose(found.layer)
        count = len(self.model.rows)
        said = counted(count, self.model.review)
        self.bar.show_note(f"{said}, in the layer {found.layer.name}" if count else said)
        self.choice_fold.button.setChecked(False)

    # The review that is shown -------------------------------------------------------------------------------------

    def _on_review(self) -> None:
        """Show the review of the chosen layer of errors."""
        layer = self.review_box.layer
        if layer is self.layer and layer is not None:
            return
        self._release()
        self.layer, self.current, self._place = layer, 0, 0
        review = layer.metadata[REVIEW] if layer is not None else {}
        self.model.filter = Filter()
        self.model.show(review)
        _error_form.fill_filters(self, review)
        self._show_current()
        if layer is not None:
            self._find_pair(review)
        self._show_score()

    def _release(self) -> None:
        """Let go of the layers and all that was counted."""
        self._compared_layers: tuple = ()
        self._room["links"][1].clear()
        self._settler.stop()
        self._watcher.stop()
        stop(self._room["jobs"])
        fill(self._room["outlined"])
        self.pair = None
        self._undone.clear()

    def _find_pair(self, review: dict) -> None:
        """Take up the two layers that were compared; count again where they were compared earlier."""
        fresh, self._fresh = self._fresh, None
        if fresh is not None and fresh[0] is self.layer:
            self._follow(*fresh[1:])
            return
        known = {str(one.unique_id): one for one in self._viewer.layers}
        layers = [known.get(one) for one in review["ids"]]
        if None in layers:
            return
        try:
            taken = take_pair(layers[0], layers[1:], self._viewer)
        except LightboxError as error:
            self.bar.show_error(str(error))
            return
        if taken[0].grid.shape != tuple(review["shape"]):
            return
        if mode_of(review) in (AGAINST, VERSUS):
            self._start("count", Recount(*taken), partial(self._follow, layers))
        else:
            self._follow(layers, None)

    def _follow(self, layers, score: Score | None) -> None:
        """Paint and watch the layers from now on; they may have been removed meanwhile."""
        self._room["jobs"].pop("count", None)
        if self.layer is None or any(one not in self._viewer.layers for one in layers):
            return
        review = self.model.review
        self._compared_layers = tuple(layers)
        if score is None:
            self.pair = Alone(layers[0], review)
        else:
            self.pair = Versus(layers, score, review) if mode_of(review) == VERSUS else Pair(*layers, score, review)
        for layer in self.pair.layers:
            for event in (layer.events.paint, layer.events.data):
                self._room["links"][1].add(event, self._on_edit)
            self._room["links"][1].add(layer.events.set_data, self._catch_up)
            self._room["links"][1].add(layer.events.name, lambda event: self._show_current())
        self._seen = self._histories()
        self._watcher.start()
        self._outline(self.outline_box.isChecked())
        self._reconcile()
        self._show_score()
        self._show_current()

    def _outline(self, wanted: bool) -> None:
        """Draw the layers as outlines, or as they were."""
        fill(self._room["outlined"])
        # napari warns of lines in 3D.
        if wanted and self._viewer.dims.ndisplay == 2:
            outline(self._compared_layers, self._room["outlined"])

    def _on_display(self, event=None) -> None:
        self._outline(self.outline_box.isChecked())

    def _start(self, name: str, work, on_done) -> None:
        job = self._room["jobs"].pop(name, None)
        if job is not None:
            job.discard()
        self._room["jobs"][name] = run(
            work, title="Comparing labels", on_done=on_done, on_error=self.bar.show_error, viewer=self._viewer
        )

    def _on_removed(self, event) -> None:
        self._later.start()
        if event.value in self._compared_layers:
            self._release()
            self.bar.show_note(f"{event.value.name} was removed: the list stays, nothing can be painted any more")
            self._show_score()
            self._show_current()
        if event.value is self.layer:
            # Before the list of reviews hears of it.
            self.layer = None
            self._release()

    # What is painted elsewhere ------------------------------------------------------------------------------------

    def _histories(self) -> list[tuple[int, int]]:
        """Return how many steps could be undone and redone in both layers."""
        return [
            (len(getattr(one, "_undo_history", ())), len(getattr(one, "_redo_history", ()))) for one in self.pair.layers
        ]

    def _on_edit(self, event=None) -> None:
        if not self._own and self.pair is not None:
            self._seen = self._histories()
            self._reconcile()
            self._settler.start()

    def _catch_up(self, event=None) -> None:
        # Undo and redo say no more than every move to another slice does, and in a hidden layer nothing at all.
        if self.pair is not None and not self._own and self._histories() != self._seen:
            self._on_edit()

    def _reconcile(self) -> None:
        """Open again what an undo has taken back, and decide again what a redo has brought back."""
        found = False
        for row in self.model.rows:
            before = row["state"]
            if before == "open" and row["number"] not in self._undone:
                continue
            now = self._undone[row["number"]] if before == "open" else before
            done = self.pair.decided({**row, "state": now})
            if done is None:
                continue
            kept = self.pair.holds(done[0], row, done[1])
            if kept == (before != "open"):
                continue
            row["state"] = now if kept else "open"
            if kept:
                del self._undone[row["number"]]
            else:
                self._undone[row["number"]] = now
            self.pair.follow(done[0], voxels_of(self.model.review, row["number"]))
            self._draw(row)
            found = True
        if found:
            self.layer.refresh()
            self._show_score()
            self._rearrange()

    def _compare(self) -> None:
        if self.pair is not None and self.pair.score is not None:
            self._start("compare", self.pair.compare(), self._compared)

    def _compared(self, outcome) -> None:
        self._room["jobs"].pop("compare", None)
        if self.pair is None:
            return
        if isinstance(outcome, Score):
            self.pair.score = outcome
        else:
            self.pair.take(outcome)
        self._show_score()

    def _show_score(self) -> None:
        _error_form.show_score(self, self._dice(), self.model.review)

    def _dice(self) -> dict[int, float]:
        """Return the score as it is, or where it cannot be known any more, as it was."""
        counted = self.pair is not None and self.pair.score is not None
        return self.pair.score.dice() if counted else self.model.review.get("dice", {})

    # Rows ---------------------------------------------------------------------------------------------------------

    def _row(self) -> dict | None:
        """Return the error that was last shown or chosen."""
        return self.model.rows[self.current - 1] if 0 < self.current <= len(self.model.rows) else None

    def _on_filter(self, *_) -> None:
        chosen = (self.kind_box.currentData(), self.label_box.currentData(), self.state_box.currentData())
        self.model.arrange(Filter(*chosen, self.least_box.value(), self.outcome_box.currentData()))
        self._select()
        self._show_current()

    def _rearrange(self) -> None:
        """Filter and sort anew after a change of the rows, and keep the row that was chosen."""
        self.model.arrange()
        self._select()
        self._show_current()

    def _select(self) -> None:
        """Mark the current error in the table, if it is shown."""
        place = next((i for i, at in enumerate(self.model.shown) if at == self.current - 1), None)
        if place is None:
            self.table.clearSelection()
            return
        self._place = place
        selection = self.table.selectionModel()
        selection.blockSignals(True)
        self.table.selectRow(place)
        selection.blockSignals(False)
        # The table has not heard of it either, and would go on to show what was chosen before.
        self.table.viewport().update()
        self.table.scrollTo(self.model.index(place, 0))

    def _on_arrow(self, place: int) -> None:
        # A table that gets the keyboard names a row without selecting it.
        if place >= 0 and self.table.selectionModel().isRowSelected(place):
            self._on_row(place)

    def _on_row(self, place: int) -> None:
        if 0 <= place < len(self.model.shown):
            self.current, self._place = self.model.shown[place] + 1, place
            self._show_current()

    def show_row(self, place: int) -> None:
        """Fly to the error in a row of the table, counted from 0 as sorted and filtered."""
        self._on_row(place)
        self._select()
        row = self._row()
        if row is not None and self.layer is not None and self.layer in self._viewer.layers:
            _error_flight.fly(self._viewer, self.layer, row["voxel"], row["low"], row["high"])

    def step(self, by: int) -> None:
        """Fly to the next (1) or the previous (-1) error of the table."""
        count = len(self.model.shown)
        if count == 0:
            return
        if self.current - 1 in self.model.shown:
            place = self._place + by
        else:
            # The row of an error that has left the table is taken by the next one.
            place = min(max(self._place + min(by, 0), 0), count - 1)
        if not 0 <= place < count:
            self._viewer.status = "This was the last error of the list" if by > 0 else "This was the first error"
            return
        self.show_row(place)

    def _show_current(self) -> None:
        _error_form.show_row(self, self._row())
        if self.layer is not None and self.current:
            # Whoever looks at the layer knows which one is meant.
            self.layer.selected_label = self.current

    def _on_comment(self, text: str) -> None:
        row = self._row()
        if row is not None:
            row["comment"] = text
            if self.current - 1 in self.model.shown:
                self.model.changed(self._place)

    # Deciding -----------------------------------------------------------------------------------------------------

    def decide(self, state: str) -> None:
        """Accept (``"accepted"``), mend (``"fixed"``) or dismiss (``"dismissed"``) the current error."""
        self._catch_up()
        row = self._row()
        if row is None or row["state"] != "open":
            return
        self._set(row, state)

    def reopen(self) -> None:
        """Take a decision back; what it has painted gets the label that was there."""
        self._catch_up()
        row = self._row()
        if row is not None and row["state"] != "open":
            self._set(row, "open")

    def _set(self, row: dict, state: str) -> None:
        painted = {"fixed": PREDICTED, "accepted": REFERENCE}
        if mode_of(self.model.review) == ALONE:
            del painted["accepted"]
        which = painted.get(row["state"] if state == "open" else state)
        if which is not None:
            # Accepting, and taking back a mend, paint what was predicted; the others the reference.
            value = row["predicted"] if (which == REFERENCE) == (state != "open") else row["reference"]
            try:
                self._paint(which, row, value)
            except LightboxError as error:
                self.bar.show_error(str(error))
                return
        row["state"] = state
        self._undone.pop(row["number"], None)
        self._draw(row)
        self.layer.refresh()
        self._show_score()
        self._rearrange()

    def _paint(self, which: int, row: dict, value: int) -> None:
        if self.pair is None:
            raise InputError("prediction and reference are not both open: open them and find errors again")
        self._own = True
        try:
            self.pair.paint(which, row, value)
        finally:
            self._own = False
            self._seen = self._histories()
        # Ctrl+Z over the picture undoes in the layer that is selected.
        self._viewer.layers.selection.active = self.pair.layers[which]

    def _draw(self, row: dict) -> None:
        """Show the voxels of an error as long as it is open."""
        if self.layer is not None:
            self.layer.data[voxels_of(self.model.review, row["number"])] = (
                row["number"] if row["state"] == "open" else 0
            )

    # Export -------------------------------------------------------------------------------------------------------

    def export(self, path) -> None:
        """Write the review: as JSON where the name ends so, else as CSV.

        Parameters
        ----------
        path : path-like
            File to write; it appears whole or not at all.

        Raises
        ------
        InputError
            If there is no review.
        FileError
            If the file cannot be written.
        """
        if self.layer is None:
            raise InputError("there is no review to export: find errors first")
        self._catch_up()
        if Path(path).suffix.lower() == ".json":
            write_json(Path(path), self.model.review, self._dice())
        else:
            write_table(Path(path), self.model.review)

    def _ask_export(self) -> None:
        proposed = file_name(self.layer.name if self.layer is not None else TITLE, ".csv")
        name, chosen = QFileDialog.getSaveFileName(
            main_window(self._viewer), "Export the review", proposed, "Table (*.csv);;JSON (*.json)"
        )
        if not name:
            return
        path = Path(name)
        try:
            if path.suffix.lower() not in (".csv", ".json"):
                # The dialog has asked for the name as it was typed only.
                path = path.with_name(path.name + (".json" if "json" in chosen else ".csv"))
                may_replace(None, [path], self._viewer)
            self.export(path)
        except LightboxError as error:
            self.bar.show_error(str(error))
        else:
            self.bar.show_note(f"Wrote {path}")
