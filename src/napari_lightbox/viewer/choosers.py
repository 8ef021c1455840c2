"""Lists of the open layers that may stand for an argument."""

from collections.abc import Callable

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QWidget

from .layers import is_preview, layer_kind, layer_record, plain

# Which types of layers may stand for an argument of a role.
KINDS = {"image": ("image",), "labels": ("labels",), "seeds": ("points",)}
KINDS |= {"volume": ("image", "labels"), "voxels": ("image", "labels")}


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
    """

    layer_changed = Signal()

    def __init__(
        self,
        viewer,
        kinds=("image",),
        *,
        optional: bool = False,
        accepts: Callable | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._kinds, self._optional, self._accepts = plain(viewer), tuple(kinds), optional, accepts
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self._refresh)
        self._named: list = []
        self._refresh()
        self._prefer_active()
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
        index = self.findData(chosen) if chosen is not None else -1
        self.setCurrentIndex(index if index >= 0 else self._first_choice(layers, len(entries)))
        self.blockSignals(False)
        if self.currentData() != chosen:
            self.layer_changed.emit()

    def _first_choice(self, layers: list, count: int) -> int:
        """Return the entry to start from: what is seen and no model's probability, if there is such a layer."""
        if self._optional or not layers:
            return 0 if count else -1
        return min(range(count), key=lambda i: (_is_probability(layers[i]), not layers[i].visible, i))

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
        if active is not None and not self._optional and not _is_probability(active):
            self.choose(active)

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
