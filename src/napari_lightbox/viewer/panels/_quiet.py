"""Spares a canvas work that changes nothing on it: what napari and vispy do anew for every slice, text and draw.

Nothing here changes what is drawn. Where napari or vispy are made otherwise one day, their own way is taken.
"""

from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress

import numpy as np
from vispy.color import Color
from vispy.gloo import Texture2D
from vispy.scene import Node
from vispy.scene.visuals import Rectangle
from vispy.visuals.transforms import MatrixTransform, STTransform


class Steady(MatrixTransform):
    """A transform that says nothing when it is given the matrix that it has.

    napari sets the place of every layer, and of all that hangs on it, with every slice; all visuals below would then
    work out their own place, and send it to the graphics card.
    """

    @property
    def matrix(self) -> np.ndarray:
        """The (4, 4) matrix."""
        return MatrixTransform.matrix.fget(self)

    @matrix.setter
    def matrix(self, value) -> None:
        if not np.array_equal(value, getattr(self, "_matrix", None)):
            # A copy: a caller may go on to change its array.
            MatrixTransform.matrix.fset(self, np.array(value))


class Plate(Rectangle):
    """The box behind a text: one square for good, put where it belongs by its transform.

    vispy's own compiles its shaders anew with every change of its size, and napari changes it with every text.
    """

    def __init__(self) -> None:
        super().__init__(center=(0, 0), width=1, height=1, border_width=0)
        self.unfreeze()
        self._sides, self._middle, self._base = [1.0, 1.0], (0.0, 0.0), None
        self._placed = STTransform()
        self.freeze()
        Node.transform.fset(self, self._placed)

    @property
    def width(self) -> float:
        """Width, in the coordinates of the text."""
        return self._sides[0]

    @width.setter
    def width(self, value: float) -> None:
        self._sides[0] = float(value)
        self._place()

    @property
    def height(self) -> float:
        """Height, in the coordinates of the text."""
        return self._sides[1]

    @height.setter
    def height(self, value: float) -> None:
        self._sides[1] = float(value)
        self._place()

    @property
    def center(self) -> tuple[float, float]:
        """Middle, x and y in the coordinates of the text."""
        return self._middle

    @center.setter
    def center(self, value) -> None:
        self._middle = (float(value[0]), float(value[1]))
        self._place()

    @property
    def color(self) -> Color:
        """Colour of the area."""
        return Rectangle.color.fget(self)

    @color.setter
    def color(self, value) -> None:
        if Color(value, clip=True) != self.color:
            Rectangle.color.fset(self, value)

    @property
    def transform(self) -> STTransform:
        """The transform of the square; set to the one of the text, it follows that."""
        return self._placed

    @transform.setter
    def transform(self, base: STTransform) -> None:
        if base is self._base:
            return
        if self._base is not None:
            self._base.changed.disconnect(self._place)
        self._base = base
        base.changed.connect(self._place)
        self._place()

    def _place(self, event=None) -> None:
        if self._base is None:
            return
        scale, shift = self._base.scale, self._base.translate
        wide = scale * (*self._sides, 1, 1)
        there = shift + scale * (*self._middle, 0, 0)
        if not np.array_equal(wide, self._placed.scale):
            self._placed.scale = wide
        if not np.array_equal(there, self._placed.translate):
            self._placed.translate = there


def quieten(qt_viewer) -> None:
    """Spare a canvas the work for which nothing has changed; call it again for what has come since.

    Parameters
    ----------
    qt_viewer : QtViewer
        Widget of the canvas.
    """
    # Each by itself: what is missing for the one may be there for the others.
    for spare in (_steady, _give_plates, _keep_tables):
        with suppress(AttributeError, TypeError):
            spare(qt_viewer)


def _steady(qt_viewer) -> None:
    for visual in qt_viewer.canvas.layer_to_visual.values():
        for node in (visual.node, *visual.node.children):
            if type(node.transform) is MatrixTransform:
                node.transform = Steady(node.transform.matrix)


def _give_plates(qt_viewer) -> None:
    """Give the texts of napari other boxes, which look the same."""
    for visuals in qt_viewer.canvas._viewer_overlay_to_visual.values():
        for visual in visuals:
            if type(getattr(visual, "box", None)) is not Rectangle or type(visual.node.transform) is not STTransform:
                continue
            # All that is needed is there before anything is changed.
            plate, blend, show = Plate(), visual._on_blending_change, visual._on_box_change
            visual.box.parent = None
            visual.box = plate
            blend()
            show()


def _keep_tables(qt_viewer) -> None:
    """Leave the table by which a text is smoothed on the graphics card: it is sent with every draw otherwise."""
    for font in qt_viewer._font_manager._fonts.values():
        if isinstance(font._kernel, np.ndarray):
            font._kernel = Texture2D(font._kernel)


def slicing_once(viewer) -> AbstractContextManager:
    """Have a move of the sliders slice all layers for its last event only, where napari does so for either of two.

    Parameters
    ----------
    viewer : napari.Viewer
        Itself, not a proxy of it.
    """
    slicing, events = getattr(viewer, "_update_layers", None), viewer.dims.events
    others = [one[1] for one in events.point.callbacks if isinstance(one, tuple)]
    # To block None would block all that listens.
    if slicing is None or "_update_layers" not in others:
        return nullcontext()
    return events.current_step.blocker(slicing)


def aim(qt_viewer, centre, zoom: float) -> None:
    """Move the camera of a canvas in 2D: once, where napari does so for the place, for the zoom and in between.

    Parameters
    ----------
    qt_viewer : QtViewer
        Widget of the canvas.
    centre : (2,) sequence of float
        World coordinates of the middle of the canvas, along the two axes displayed.
    zoom : float
        Pixels of the canvas for a unit of the world.
    """
    camera, canvas = qt_viewer.viewer.scene.camera, qt_viewer.canvas
    with ExitStack() as blocked:
        try:
            eye, view = canvas.camera, canvas.view
            size = np.array(view.rect.size) / zoom
            blockers = (camera.events.center.blocker(eye._on_center_change),
                        camera.events.zoom.blocker(eye._on_zoom_change))  # fmt: skip
        except AttributeError:
            view = None
        else:
            for one in blockers:
                blocked.enter_context(one)
        camera.center, camera.zoom = (0.0, *centre), zoom
    if view is not None:
        view.camera.rect = (*(np.array(centre[::-1]) - size / 2), *size)
