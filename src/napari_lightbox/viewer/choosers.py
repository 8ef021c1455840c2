"""Lists of the open layers that may stand for an argument."""

from collections.abc import Callable
from html import escape

from napari.layers import Layer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QStyle, QStyledItemDelegate, QStyleOptionComboBox, QStylePainter, QWidget

from .layers import is_preview, layer_kind, layer_record, plain

# Which types of layers may stand for an argument of a role.
KINDS = {"image": ("image",), "labels": ("labels",), "seeds": ("points",)}
KINDS |= {"volume": ("image", "labels"), "voxels": ("image", "labels")}
# Pixels of the room for a name that stay free.
_FREE = 4


class LayerChooser(QComboBox):
    """A combo box of the layers of some kinds, kept up to date with the viewer.

    Layers are told apart by their ``unique_id``: names change, and napari hands plug-ins proxies of its layers.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose layers are listed.
    kinds : sequence of str
        ``"image"``, ``"labels"``, ``"points"``.
    optional : bool
        Offer "none" first.
    accepts : callable, optional
        Further test a layer must pass. Colour (RGB) pictures never do.
    rank : callable, optional
        Gives a number for a layer, the smaller the better it is to begin with; without it probabilities come last.
    gives_way : callable, optional
        Tells the layers that are chosen for want of a better one only, until one comes or the user has chosen.

    Notes
    -----
    Names that do not fit lose their middle, as results of one image differ at the end; the tooltip has them whole.
    """

    layer_changed = Signal()

    def __init__(
        self,
        viewer,
        kinds=("image",),
        *,
        optional: bool = False,
        accepts: Callable | None = None,
        rank: Callable[[Layer], int] | None = None,
        gives_way: Callable[[Layer], bool] | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._kinds, self._optional, self._accepts = plain(viewer), tuple(kinds), optional, accepts
        self._rank, self._about = rank or _is_probability, ""
        self._gives_way, self._by_hand = gives_way or (lambda _: False), False
        # That of menus does not shorten names.
        self.setItemDelegate(QStyledItemDelegate(self))
        self.view().setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self._refresh)
        self._named: list = []
        self._refresh()
        self._prefer_active()
        self._tell()
        self.currentIndexChanged.connect(self._tell)
        self.currentIndexChanged.connect(self._on_chosen)
        # Choosing the same again is a choice, too.
        self.activated.connect(self._on_chosen)
        self.currentIndexChanged.connect(lambda _: self.layer_changed.emit())

    def _candidates(self) -> list:
        return [
            layer
            for layer in reversed(self._viewer.layers)
            if layer_kind(layer) in self._kinds
            and not getattr(layer, "rgb", False)
            and not is_preview(layer)
            and (self._accepts is None or self._accepts(layer))
        ]

    def _refresh(self, event=None) -> None:
        try:
            chosen = self.currentData()
        except RuntimeError:
            # The dock is gone; the viewer still calls until its list of listeners is cleaned up.
            self.disconnect_viewer()
            return
        layers = self._candidates()
        self._follow_names(layers)
        entries = [("none", None)] if self._optional else []
        entries += [(layer.name, str(layer.unique_id)) for layer in layers]
        self.blockSignals(True)
        self.clear()
        for name, key in entries:
            self.addItem(name, key)
            self.setItemData(self.count() - 1, name, Qt.ItemDataRole.ToolTipRole)
        index = self.findData(chosen) if chosen is not None else -1
        self._by_hand = self._by_hand and index >= 0
        self.setCurrentIndex(self._better(index, layers) if index >= 0 else self._first_choice(layers, len(entries)))
        self.blockSignals(False)
        self._tell()
        if self.currentData() != chosen:
            self.layer_changed.emit()

    def _first_choice(self, layers: list, count: int) -> int:
        """Return the entry to start from: that of the best rank, if possible one that is seen."""
        if self._optional or not layers:
            return 0 if count else -1
        return min(range(count), key=lambda i: (self._rank(layers[i]), not layers[i].visible, i))

    def _better(self, index: int, layers: list) -> int:
        """Return the entry of the best rank instead of one that gives way to it; else the same."""
        if self._by_hand or self._optional or not self._gives_way(layers[index]):
            return index
        best = self._first_choice(layers, len(layers))
        return best if self._rank(layers[best]) < self._rank(layers[index]) else index

    def _on_chosen(self, _=None) -> None:
        self._by_hand = True

    def _follow_names(self, layers: list) -> None:
        for layer in self._named:
            if layer not in layers:
                layer.events.name.disconnect(self._refresh)
        for layer in layers:
            if layer not in self._named:
                layer.events.name.connect(self._refresh)
        self._named = layers

    def _prefer_active(self) -> None:
        active = self._viewer.layers.selection.active
        if active is not None and not self._optional and not self._rank(active):
            self.choose(active)

    def setToolTip(self, text: str) -> None:  # noqa: N802 - Qt's name
        """Say what the layer is for, below its whole name."""
        self._about = text.removeprefix("<qt>").removesuffix("</qt>")
        self._tell()

    def _tell(self, _=None) -> None:
        parts = (f"<b>{escape(self.currentText())}</b>" if self.currentText() else "", self._about)
        super().setToolTip(f"<qt>{'<br>'.join(part for part in parts if part)}</qt>" if any(parts) else "")

    def paintEvent(self, event) -> None:  # noqa: N802 - Qt's name
        """Draw the box with the name shortened in the middle."""
        painter, option = QStylePainter(self), QStyleOptionComboBox()
        self.initStyleOption(option)
        room = self.style().subControlRect(
            QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, self
        )
        option.currentText = self.shortened(room.width())
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def shortened(self, width: int) -> str:
        """Return the chosen name as it is drawn in so many pixels."""
        # Styles keep a little of the room free on both sides.
        return self.fontMetrics().elidedText(self.currentText(), Qt.TextElideMode.ElideMiddle, width - _FREE)

    def choose(self, layer) -> None:
        """Select a layer; one that is not in the list changes nothing."""
        index = self.findData(str(plain(layer).unique_id))
        if index >= 0:
            self.setCurrentIndex(index)

    @property
    def layer(self):
        """The chosen layer, or None."""
        key = self.currentData()
        for layer in self._viewer.layers:
            if str(layer.unique_id) == key:
                return layer
        return None

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer."""
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.disconnect(self._refresh)
        for layer in self._named:
            layer.events.name.disconnect(self._refresh)
        self._named = []


def _is_probability(layer) -> bool:
    record = layer_record(layer)
    return record is not None and record["kind"] == "probability"
