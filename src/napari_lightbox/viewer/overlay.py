"""The temporary layer of a preview: one slice thick, over the layer it was made from, marked so that nothing takes it.

It does not say where in the patient it lies, is refused as an input and for saving, and belongs to one dock.
"""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer

from .adding import insert
from .layers import KEY, PREVIEW, LayerTuple, is_preview, layer_kind, plain
from .runner import is_open

# What changes from one slice to the next, and what is shared with the source.
_PLACE = ("scale", "translate")
_SHARED = ("contrast_limits", "colormap", "gamma")


def marked(made: LayerTuple, title: str) -> LayerTuple:
    """Turn the layer data of a slice into those of a preview."""
    data, arguments, kind = made
    arguments = {**arguments, "name": f"Preview: {title}"}
    arguments["metadata"] = {PREVIEW: True, **{k: v for k, v in arguments["metadata"].items() if k != KEY}}
    return data, arguments, kind


class Overlay:
    """Shows slices in a viewer, in one layer that is made when the first comes.

    Parameters
    ----------
    viewer : napari.Viewer
        It is not kept alive.
    """

    def __init__(self, viewer) -> None:
        self._viewer = weakref.ref(plain(viewer))
        self.layer: Layer | None = None
        self._of: Callable[[], Layer | None] = lambda: None
        # The source whose look is followed, and the layer that follows it.
        self._source: Layer | None = None
        self._linked: Layer | None = None

    @property
    def shown(self) -> bool:
        """Whether there is a slice on screen, or in the slice that was on screen when it came."""
        return self.layer is not None and self.layer.visible

    def show(self, made: Layer | LayerTuple, source: Layer, *, shared: bool) -> None:
        """Show a slice in place of the one before.

        Parameters
        ----------
        made : Layer or (data, dict, str)
            Of `marked`; a layer is taken as it is.
        source : Layer
            What it was made from.
        shared : bool
            Whether the slice has the look of its source, also when that changes.
        """
        viewer = self._viewer()
        if not is_open(viewer):
            return
        if isinstance(made, Layer):
            self.remove()
            self.layer = insert(viewer, made, _place_for(viewer, made))
        elif source is not self._of() or not self.takes(made):
            self.remove()
            fresh = Layer.create(*made)
            self.layer = insert(viewer, fresh, _place_for(viewer, fresh))
        else:
            self._renew(made, shared)
        self._of = weakref.ref(source)
        self._share(source if shared else None)

    def takes(self, made: LayerTuple) -> bool:
        """Whether a slice can be shown in the layer that is there."""
        data, _, kind = made
        layer = self.layer
        return layer is not None and layer_kind(layer) == kind and layer.ndim == data.ndim and layer.dtype == data.dtype

    def _renew(self, made: LayerTuple, shared: bool) -> None:
        data, arguments, _ = made
        layer = self.layer
        if not layer.visible:
            # Said again, it would have napari put all layers together anew.
            layer.visible = True
        if isinstance(layer, Labels):
            table = arguments.get("colormap")
            if table is not None and not set(table) <= set(getattr(layer.colormap, "color_dict", {})):
                layer.colormap = table
            if "features" in arguments:
                layer.features = arguments["features"]
        elif not shared and arguments.get("contrast_limits") is not None:
            layer.contrast_limits_range = arguments["contrast_limits"]
            layer.contrast_limits = arguments["contrast_limits"]
        layer.name = arguments["name"]
        # First the voxels: until the place follows, they lie in a slice that is not on screen any more.
        layer.data = data
        for key in _PLACE:
            if not np.array_equal(getattr(layer, key), arguments[key]):
                setattr(layer, key, arguments[key])

    def hide(self) -> None:
        """Take the slice off the screen, until the next one comes."""
        if self.layer is not None:
            self.layer.visible = False

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        self._share(None)
        layer, self.layer = self.layer, None
        viewer = self._viewer()
        if layer is not None and is_open(viewer) and layer in viewer.layers:
            selected = viewer.layers.selection.active
            viewer.layers.remove(layer)
            if selected is not None and selected in viewer.layers:
                viewer.layers.selection.active = selected

    def _share(self, source: Layer | None) -> None:
        """Let the window of the source be that of the slice, and the other way round."""
        if source is self._source and (source is None or self._linked is self.layer):
            return
        if self._source is not None:
            for name in _SHARED:
                getattr(self._source.events, name).disconnect(self._from_source)
            if self._linked is not None:
                self._linked.events.contrast_limits.disconnect(self._to_source)
        self._source, self._linked = source, self.layer if source is not None else None
        if isinstance(source, Image) and isinstance(self.layer, Image):
            self._from_source()
            for name in _SHARED:
                getattr(source.events, name).connect(self._from_source)
            self.layer.events.contrast_limits.connect(self._to_source)
        else:
            self._source = self._linked = None

    def _from_source(self, event: Any = None) -> None:
        if self.layer is None or self._source is None:
            return
        self.layer.contrast_limits_range = self._source.contrast_limits_range
        for name in _SHARED:
            if getattr(self.layer, name) != getattr(self._source, name):
                setattr(self.layer, name, getattr(self._source, name))

    def _to_source(self, event: Any = None) -> None:
        if self.layer is not None and self._source is not None:
            limits = self.layer.contrast_limits
            if tuple(limits) != tuple(self._source.contrast_limits):
                self._source.contrast_limits = limits


def _place_for(viewer, made: Layer) -> int:
    """Return where in the list a preview goes: pictures under labels and points, labels under points."""
    above = ("image",) if isinstance(made, Image) else ("image", "labels")
    places = [i for i, other in enumerate(viewer.layers) if layer_kind(other) in above and not is_preview(other)]
    return places[-1] + 1 if places else len(viewer.layers)
