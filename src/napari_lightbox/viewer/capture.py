"""What a job starts from: the volume of a layer, taken in the window's thread, its voxels copied in the job's."""

from functools import cache
from itertools import pairwise

import numpy as np

from ..progress import track
from ..volume import Volume
from . import asking
from .layers import MovedByHand, layer_to_volume, plain

# Bytes copied between two chances to cancel.
_SLAB = 32_000_000


def volume_of(layer, viewer, *, assume: bool = True, quiet: bool = False) -> Volume:
    """Return the volume of a layer without copying a voxel; ask where its transform was edited by hand.

    Parameters
    ----------
    layer : Image or Labels layer
        Where the volume comes from.
    viewer : napari.Viewer or None
        Whose other layers say where this one lies, and over which a question is asked.
    assume : bool
        Take napari's own scale and translation as the position where nothing better is known.
    quiet : bool
        Ask nothing, and tell nothing twice: for what happens with every change.

    Raises
    ------
    MovedByHand
        If the user does not mean the edit, or cannot be asked.
    InputError
        As `layer_to_volume`.
    """
    viewer = plain(viewer)
    layers = viewer.layers if viewer is not None else ()
    try:
        return layer_to_volume(layer, layers, assume=assume, copy=False, say=_tell_once if quiet else asking.tell)
    except MovedByHand:
        if quiet or not asking.confirm_moved(layer, viewer):
            raise
        return layer_to_volume(layer, layers, assume=assume, copy=False, accept_transform=True)


@cache
def _tell_once(text: str) -> None:
    asking.tell(text)


def steady(volume: Volume) -> Volume:
    """Copy voxels that may be painted meanwhile, so that the copy is what they all were at one moment.

    Meant for the background. The copy is compared with the voxels until a whole pass finds no difference.

    Parameters
    ----------
    volume : Volume
        Only labels in memory are copied: images are not painted, lazy voxels are not changed.
    """
    data = volume.data
    if volume.kind != "labels" or not isinstance(data, np.ndarray) or data.size == 0:
        return volume
    axis = int(np.argmax(np.abs(data.strides)))
    count = min(data.shape[axis], -(-data.nbytes // _SLAB))
    edges = np.linspace(0, data.shape[axis], count + 1).astype(int)
    slabs = [(slice(None),) * axis + (slice(a, b),) for a, b in pairwise(edges)]
    copy = np.empty_like(data)
    for slab in track(slabs, "slabs copied"):
        copy[slab] = data[slab]
    changed = True
    while changed:
        changed = False
        for slab in track(slabs, "slabs checked"):
            if not np.array_equal(copy[slab], data[slab]):
                copy[slab], changed = data[slab], True
    return volume.replace(data=copy)
