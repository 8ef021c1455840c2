"""Two layers looked at in turn with one key, each with its own window.

Two images, or two label volumes, take turns; labels over an image are switched off and on over it. Works on the
viewer model alone: no Qt.
"""

import time
import weakref

from .layers import layer_kind, plain

# Free in napari 0.9 for every type of layer.
FLICKER_KEY = "Q"
# Seconds: a key that is held longer goes back when it is let go.
HELD = 0.4


class Comparison:
    """The two layers of a viewer that are compared.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        Not a proxy.
    """

    def __init__(self, viewer) -> None:
        self._viewer = weakref.ref(viewer)
        self._chosen: tuple[weakref.ref, ...] = ()
        self._before: dict[weakref.ref, bool] = {}

    @property
    def pair(self) -> tuple:
        """The two layers: those chosen, else the two topmost images or labels, visible ones first; or ()."""
        viewer = self._viewer()
        if viewer is None:
            return ()
        chosen = tuple(one() for one in self._chosen)
        if len(chosen) == 2 and all(layer is not None and layer in viewer.layers for layer in chosen):
            return chosen
        running = [one() for one in self._before]
        layers = [layer for layer in reversed(viewer.layers) if layer_kind(layer) in ("image", "labels")]
        layers.sort(key=lambda layer: not (layer.visible or layer in running))
        return tuple(layers[:2]) if len(layers) > 1 else ()

    def choose(self, first, second) -> None:
        """Compare two layers; where they are one or None, the two topmost."""
        pair = (plain(first), plain(second))
        chosen = () if None in pair or pair[0] is pair[1] else tuple(weakref.ref(layer) for layer in pair)
        if chosen != self._chosen:
            self.stop()
        self._chosen = chosen

    @property
    def running(self) -> bool:
        """Whether a layer may be hidden because of this comparison."""
        return bool(self._before)

    def flick(self) -> bool:
        """Show the other layer of the two; False where there are no two."""
        pair = self.pair
        if not pair:
            return False
        for layer in pair:
            # A layer may join later, when another one was removed.
            self._before.setdefault(weakref.ref(layer), layer.visible)
        show_only(pair, other_of(pair))
        return True

    def stop(self) -> None:
        """Show what was shown before the first flick."""
        before, self._before = self._before, {}
        for one, visible in before.items():
            layer = one()
            if layer is not None:
                layer.visible = visible


def over(pair: tuple):
    """Return the labels of a pair of labels and image, which lie over it; None for two of a kind."""
    kinds = [layer_kind(layer) for layer in pair]
    return pair[kinds.index("labels")] if len(set(kinds)) == 2 else None


def other_of(pair: tuple):
    """Return the layer of a pair that is not on top of what is seen now."""
    labels = over(pair)
    if labels is not None:
        image = next(layer for layer in pair if layer is not labels)
        return image if labels.visible else labels
    return pair[1] if pair[0].visible else pair[0]


def visible_with(pair: tuple, shown) -> dict:
    """Return which layers of a pair are visible while one of them is shown: labels keep their image."""
    labels = over(pair)
    return {layer: layer is shown or (labels is not None and layer is not labels) for layer in pair}


def show_only(pair: tuple, shown) -> None:
    """Make one layer of a pair visible and hide the other, except for the image under labels."""
    for layer, visible in sorted(visible_with(pair, shown).items(), key=lambda item: not item[1]):
        layer.visible = visible


_comparisons: "weakref.WeakKeyDictionary" = weakref.WeakKeyDictionary()


def comparison(viewer) -> Comparison:
    """Return the comparison of a viewer; it is made on the first call."""
    viewer = plain(viewer)
    if viewer not in _comparisons:
        _comparisons[viewer] = Comparison(viewer)
    return _comparisons[viewer]


def flicker(viewer):
    """Show the other of two layers; where the key is held, only as long as it is."""
    one = comparison(viewer)
    if not one.flick():
        viewer.status = "Open two images or label layers to switch between them"
        return
    pressed = time.monotonic()
    yield
    if time.monotonic() - pressed > HELD:
        one.flick()
