"""A second canvas beside the main one that shows the second of two layers: same camera, same slice."""

from collections.abc import Callable

import numpy as np
from qtpy.QtCore import QSize

from ..compare import over, show_only, visible_with
from ..windowing import drag_window
from ._pane import Pane, main_canvas
from ._planes import fit, is_fitted, refit

_CAMERA = ("center", "zoom", "angles", "perspective", "orientation")


class SidePane(Pane):
    """Canvas for the second of two layers; the main canvas shows the first.

    All other layers are seen in both. `restore` shows everything as it was.

    Parameters
    ----------
    viewer : napari.Viewer
        The main viewer.
    pair : (Layer, Layer)
        Two images, two labels, or labels and the image under them.
    on_gone : callable
        Called when one of the two layers is removed.
    """

    def __init__(self, viewer, pair: tuple, on_gone: Callable[[], None]) -> None:
        labels = over(pair)
        # Labels over an image: without them on the left, with them on the right.
        first, second = pair if labels is None else (next(one for one in pair if one is not labels), labels)
        camera = viewer.scene.camera
        before = {layer: layer.visible for layer in pair}
        kept = None if is_fitted(viewer) else (camera.center, camera.zoom)
        on_second = visible_with(pair, second)
        show_only(pair, first)
        super().__init__(viewer, shown=lambda layer: on_second.get(layer, layer.visible))
        self.pair, self._before, self._camera, self._on_gone = pair, before, kept, on_gone
        self.model.mouse_drag_callbacks.append(drag_window)
        for name in _CAMERA:
            self._tie(viewer.scene.camera, self.model.scene.camera, name)
        for name in ("ndisplay", "order", "point"):
            self._tie(viewer.dims, self.model.dims, name)
        self.link(viewer.layers.events.removed, self._on_removed)
        self.link(self.model.canvas.events.size, self._on_size)
        self._copy(viewer.dims, self.model.dims, "ndisplay")
        self._copy(viewer.dims, self.model.dims, "order")
        self._copy(viewer.dims, self.model.dims, "point")
        for name in reversed(_CAMERA):
            self._copy(viewer.scene.camera, self.model.scene.camera, name)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """As wide as the main canvas."""
        canvas = main_canvas(self._viewer)
        width = self._viewer.canvas.size[1] if canvas is None else canvas.canvas.native.width()
        return QSize(max(200, width // 2), 400)

    def restore(self) -> None:
        """Show the two layers and the camera as they were before; the slice stays where the reader went."""
        for layer, visible in self._before.items():
            if layer in self._viewer.layers:
                layer.visible = visible
        if self._camera is None:
            fit(self._viewer)
        else:
            self._viewer.scene.camera.center, self._viewer.scene.camera.zoom = self._camera

    # Ties ---------------------------------------------------------------------------------------------------------

    def _tie(self, one, other, name: str) -> None:
        """Keep an attribute of two models the same, whichever changes."""
        for giver, taker in ((one, other), (other, one)):
            self.link(getattr(giver.events, name), _Copy(self._copy, giver, taker, name))

    @staticmethod
    def _copy(giver, taker, name: str) -> None:
        value = getattr(giver, name)
        mine = getattr(taker, name)
        if name == "point":
            # Before both know of a new layer they may have different numbers of axes.
            if len(value) == len(mine) and not np.allclose(value, mine):
                taker.point = value
        elif name == "order":
            if len(value) == len(mine) and tuple(value) != tuple(mine):
                taker.order = value
        elif name in ("center", "angles", "zoom", "perspective"):
            if np.shape(value) != np.shape(mine) or not np.allclose(value, mine, rtol=1e-9):
                setattr(taker, name, value)
        elif value != mine:
            setattr(taker, name, value)

    def _on_size(self, event=None) -> None:
        # The main canvas says how large things are.
        refit(self._viewer)

    def _on_removed(self, event) -> None:
        if event.value in self.pair:
            self._on_gone()


class _Copy:
    """A callback of its own for every tie: napari connects the same one only once."""

    def __init__(self, copy: Callable, giver, taker, name: str) -> None:
        self._copy, self._giver, self._taker, self._name = copy, giver, taker, name

    def __call__(self, event=None) -> None:
        self._copy(self._giver, self._taker, self._name)
