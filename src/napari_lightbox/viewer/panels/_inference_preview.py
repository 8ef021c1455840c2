"""A model tried on the slab on screen, before it runs over everything."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Layer

from ...collector import many_lasting_objects
from ...errors import InputError
from ...geometry import Grid
from ...models import load, predict
from ...models.card import Card
from ...models.loaders.trust import Untrusted
from ...models.plan import make_plan, options_for
from ...preview import Where
from ...volume import Volume
from ..adding import insert
from ..appearance import draw_dashes
from ..layers import KEY, PREVIEW, plain, volume_to_layer
from ..preview import visible_slice
from ..runner import is_open

# Rules that look at the grey values of the whole image.
_OF_ALL = ("minmax", "zscore", "percentile")
_PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class Slab:
    """A part of the channels: one frame, and along one stored axis the voxels from `start` to `stop`."""

    volumes: tuple[Volume, ...]
    where: Where
    start: int
    stop: int
    notes: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """What was looked at, for people."""
        count = self.stop - self.start
        return f"{count} slice{'s' * (count > 1)} around this one"


def slab_of(volumes: Sequence[Volume], card: Card, where: Where) -> Slab:
    """Cut the slab that a model's window takes in around a slice, whole in its plane.

    Parameters
    ----------
    volumes : sequence of Volume
        The channels; those on another grid than the first stay whole.
    card : Card
        Of the model.
    where : Where
        The slice on screen, of the first channel.

    Returns
    -------
    Slab
        One frame of everything where the model takes all of an image in any case.

    Raises
    ------
    InputError
        If the model works on slices of another plane.
    """
    first = volumes[0]
    plan = make_plan([v.frame(where.frame) for v in volumes[:1]] * len(volumes), card, options_for(card))
    axis = plan.order.index(where.axis)
    size = first.grid.spatial_shape[where.axis]
    if plan.dims == 2 and axis != 0:
        plane = _PLANES[first.grid.closest_axes()[0].index(plan.order[0])]
        raise InputError(f"{card.name} works on {plane} slices: show the {plane} plane to preview it")
    resized = card.input.resize is not None and (plan.dims == 3 or axis > 0)
    voxels = 1 + 2 * card.input.context if plan.dims == 2 else int(np.ceil(plan.window[axis] * plan.steps[axis]))
    thick = size if resized else min(size, max(1, voxels))
    start = min(max(0, where.index - thick // 2), size - thick)
    notes = []
    of_all = card.rules is not None or any(c.intensity.rule in _OF_ALL for c in card.input.channels)
    if thick < size and of_all:
        notes.append("its grey values are scaled by those of the slab alone, so the full run may differ")
    parts = []
    for volume in volumes:
        frame = volume.frame(where.frame if volume.frame_count > 1 else 0)
        same = frame.grid.same_space(first.grid.without_frames()) and frame.grid.shape == first.grid.spatial_shape
        parts.append(_cut(frame, where.axis, start, start + thick) if same else frame)
    return Slab(tuple(parts), where, start, start + thick, tuple(notes))


def _cut(volume: Volume, axis: int, start: int, stop: int) -> Volume:
    """Return some slices of a frame, where they are in the patient."""
    data = volume.data[(slice(None),) * axis + (slice(start, stop),)]
    affine = volume.grid.affine.copy()
    affine[:3, 3] += start * affine[:3, axis]
    return volume.replace(data=data, grid=Grid(affine, data.shape))


class SlabPreview:
    """Runs a model over the slab on screen and shows what it says in a temporary layer.

    Parameters
    ----------
    viewer : napari.Viewer
        It is not kept alive.
    """

    def __init__(self, viewer) -> None:
        self._viewer = weakref.ref(plain(viewer))
        self.layer: Layer | None = None

    def job(
        self, source: Layer, volumes: Sequence[Volume], card: Card, models: Sequence[str], choices: dict
    ) -> Callable:
        """Return the work for the slab on screen now; it gives a layer and the slab, or a question of trust.

        Parameters
        ----------
        source : Layer
            Layer of the first channel.
        volumes : sequence of Volume
            The channels.
        card : Card
            Of the model.
        models : sequence of str
            What is loaded.
        choices : dict
            Arguments of `predict`; nothing but labels or an image is made.
        """
        if card.output.kind not in ("labels", "regions", "image"):
            raise InputError(f"{card.name} answers for the whole image: there is no slab to preview, so press Run")
        where = visible_slice(self._viewer(), source, volumes[0])
        frames = None
        if source.ndim == 4:
            scale, start = float(source.scale[0]), float(source.translate[0])
            frames = (scale, start + where.frame * scale, source.units[0], source.axis_labels[0])
        chosen = {k: v for k, v in choices.items() if k not in ("probabilities", "uncertainty", "post")}
        return partial(_work, tuple(volumes), where, card, tuple(models), chosen, frames)

    def show(self, made: Layer) -> None:
        """Show a preview in place of the one before."""
        self.remove()
        viewer = self._viewer()
        if is_open(viewer):
            self.layer = insert(viewer, made)

    def remove(self) -> None:
        """Take the preview out of the viewer."""
        layer, self.layer = self.layer, None
        viewer = self._viewer()
        if layer is not None and is_open(viewer) and layer in viewer.layers:
            active = viewer.layers.selection.active
            viewer.layers.remove(layer)
            if active is not None and active in viewer.layers:
                viewer.layers.selection.active = active


def _work(
    volumes: Sequence[Volume], where: Where, card: Card, sources: Sequence[str], choices: dict[str, Any], frames
) -> tuple[Layer, Slab] | Untrusted:
    """Cut the slab, load, predict and prepare the layer; runs in the background."""
    slab = slab_of(volumes, card, where)
    try:
        models = [load(one) for one in sources]
    except Untrusted as question:
        return question
    found = predict(list(slab.volumes), models if len(models) > 1 else models[0], **choices)
    found = next(iter(found.outputs.values())) if found.outputs else found
    volume = found.labels if "labels" in found.volumes else found.output(0)
    data, arguments, kind = volume_to_layer(volume, name=f"preview {volume.name}")
    metadata = {k: v for k, v in arguments["metadata"].items() if k != KEY}
    arguments = {**arguments, "metadata": {**metadata, PREVIEW: True}}
    if frames is not None:
        # It belongs to one frame, and is not to be seen in the others.
        data = data[None]
        for key, value in zip(("scale", "translate", "units", "axis_labels"), frames, strict=True):
            arguments[key] = (value, *arguments[key])
    with many_lasting_objects():
        layer = Layer.create(data, arguments, kind)
        draw_dashes()
    return layer, slab
