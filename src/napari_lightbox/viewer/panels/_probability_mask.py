"""The Labels layer that follows a threshold: what is on screen at once, the rest of a large volume a little later."""

import weakref
from functools import partial

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import QTimer

from ...collector import many_lasting_objects
from ...ops.thresholding import first_at_least
from ...progress import track
from ..adding import insert
from ..appearance import draw_dashes
from ..layers import PREVIEW, plain
from ..runner import Runner, is_open
from ._links import Links

# Voxels that are written at once: some 5 ms.
AT_ONCE = 1 << 22
# Milliseconds without a change until the rest of a larger volume is written; voxels between two chances to cancel.
_PAUSE, _BLOCK = 250, 1 << 21


class LiveMask:
    """Shows where an Image layer reaches a threshold, in a temporary layer that no dock takes as an input.

    Parameters
    ----------
    viewer : napari.Viewer
        It is not kept alive.
    widget : QWidget
        The dock; when it is destroyed, nothing is called back.
    """

    def __init__(self, viewer, widget) -> None:
        self._viewer = weakref.ref(plain(viewer))
        self.layer: Labels | None = None
        self.source = None
        self.threshold: float | None = None
        # Whether all voxels are those of the threshold.
        self.complete = True
        self.runner = Runner(plain(viewer))
        self._again = False
        self._timer = QTimer(widget, singleShot=True, interval=_PAUSE)
        self._timer.timeout.connect(self._write_rest)
        self.links = Links(widget)
        dims = plain(viewer).dims.events
        for event in (dims.point, dims.order, dims.ndisplay):
            self.links.add(event, self._on_slice)

    def show(self, source, threshold: float, colour: str) -> None:
        """Mark where `source` is at least `threshold`; ``#rrggbb`` is the colour of a new layer."""
        viewer = self._viewer()
        if not is_open(viewer):
            return
        shape = tuple(source.data.shape)
        if self.layer is None or source is not self.source or self.layer.data.shape != shape:
            self.remove()
            self.source = source
            self.layer = insert(viewer, self._made(source, shape, colour))
        self.threshold = threshold
        self._timer.stop()
        self.runner.cancel()
        self.complete = np.prod(shape, dtype=float) <= AT_ONCE
        if self.complete:
            self._write(...)
        else:
            self._write_visible()
            self._timer.start()
        self.layer.refresh()

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        self._timer.stop()
        self.runner.cancel()
        layer, self.layer = self.layer, None
        viewer = self._viewer()
        if layer is not None and is_open(viewer) and layer in viewer.layers:
            selected = viewer.layers.selection.active
            viewer.layers.remove(layer)
            if selected is not None and selected in viewer.layers:
                viewer.layers.selection.active = selected

    @staticmethod
    def _made(source, shape: tuple[int, ...], colour: str) -> Labels:
        place = {key: getattr(source, key) for key in ("scale", "translate", "rotate", "shear", "units", "axis_labels")}
        return Labels(
            np.zeros(shape, np.uint8),
            name=f"Threshold: {source.name}",
            colormap=_colours(colour),
            opacity=0.5,
            metadata={PREVIEW: True},
            **place,
        )

    # Writing ----------------------------------------------------------------------------------------------------

    def _write(self, where) -> None:
        values = np.asarray(self.source.data[where])
        found = self.layer.data.view(bool)
        found[where] = values >= first_at_least(self.threshold, values.dtype)

    def _visible(self) -> tuple | None:
        """Return the part of the source that is on screen, or None where that is all of it."""
        viewer, layer = self._viewer(), self.source
        dims = viewer.dims
        if dims.ndisplay != 2:
            return None
        offset = dims.ndim - layer.ndim
        index = np.round(layer.world_to_data(np.asarray(dims.point[offset:], float))).astype(int)
        cut: list = [slice(None)] * layer.ndim
        for axis in (a - offset for a in dims.not_displayed if a >= offset):
            cut[axis] = int(np.clip(index[axis], 0, layer.data.shape[axis] - 1))
        return tuple(cut)

    def _write_visible(self) -> None:
        where = self._visible()
        if where is not None:
            self._write(where)

    def _on_slice(self, event=None) -> None:
        if self.layer is not None and not self.complete and is_open(self._viewer()):
            self._write_visible()
            self.layer.refresh()

    def _write_rest(self) -> None:
        if self.layer is None or self.complete:
            return
        if self.runner.running:
            # The one before stops soon.
            self._timer.start()
            return
        job = partial(_fill, self.source.data, self.layer.data, self.threshold)
        self.runner.run(job, title=self.layer.name, on_done=partial(self._filled, self.layer, self.threshold))

    def _filled(self, layer: Labels, threshold: float, _) -> None:
        if layer is self.layer and threshold == self.threshold:
            self.complete = True
            # In 3D, or where another window shows it.
            layer.refresh()


def prepare() -> None:
    """Have napari compile what it needs for the first mask of a session; takes seconds, so in the background."""
    with many_lasting_objects():
        Labels(np.zeros((1, 1, 1), np.uint8), colormap=_colours("#ffffff"))
        draw_dashes()


def _colours(colour: str) -> dict:
    return {0: "transparent", 1: colour, None: colour}


def _fill(data, mask: np.ndarray, threshold: float) -> None:
    """Write a mask, block by block; runs in the background."""
    depth = max(1, int(_BLOCK // max(1, np.prod(data.shape[1:], dtype=float))))
    found = mask.view(bool)
    for start in track(range(0, data.shape[0], depth), "slabs of the mask"):
        for part in _parts(data.shape, start, depth):
            values = np.asarray(data[part])
            found[part] = values >= first_at_least(threshold, values.dtype)


def _parts(shape: tuple[int, ...], start: int, depth: int) -> list[tuple[slice, ...]]:
    """Cut what lies from `start` on once more where one frame alone is large."""
    first = slice(start, start + depth)
    if len(shape) < 4:
        return [(first,)]
    inner = max(1, int(_BLOCK // max(1, np.prod(shape[2:], dtype=float))))
    return [(first, slice(i, i + inner)) for i in range(0, shape[1], inner)]
