"""The images that go into a network together, brought onto one grid."""

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from ..volume import Volume


def as_channels(volume: Volume | Sequence[Volume]) -> list[Volume]:
    """Return the images of a prediction as a list, and refuse what cannot be one."""
    channels = list(volume) if isinstance(volume, list | tuple) else [volume]
    for one in channels:
        if not isinstance(one, Volume):
            raise InputError(f"volume must be a Volume, or a list with one for each channel, not {type(one).__name__}")
        if one.kind == "labels":
            raise InputError(f"{one.name!r} is a label volume: a model needs the image itself")
    if not channels:
        raise InputError("volume is an empty list: give one Volume for each channel of the model")
    first = channels[0]
    for other in channels[1:]:
        if other.frame_count != first.frame_count:
            raise InputError(
                f"channel {other.name!r} has {other.frame_count} frames, {first.name!r} has {first.frame_count}: "
                "give channels of the same frames"
            )
    return channels


def together(channels: Sequence[Volume], *, run: bool = True) -> tuple[list[Volume], list[str]]:
    """Bring all channels onto the grid of the first.

    Parameters
    ----------
    channels : sequence of Volume
        As many frames each.
    run : bool
        Whether to resample; otherwise only what would be done is told.

    Returns
    -------
    channels : list of Volume
        The first as it is, and those that lie on its grid; the others resampled linearly, with their lowest value
        outside of them.
    notes : list of str
        What was resampled.

    Raises
    ------
    InputError
        If a channel does not overlap the first.
    """
    first, found, notes = channels[0], [channels[0]], []
    for other in channels[1:]:
        difference = first.grid.difference(other.grid)
        if difference:
            share = _covered(first, other)
            if not share:
                raise InputError(
                    f"channels {first.name!r} and {other.name!r} lie on different grids that do not overlap "
                    f"({difference}; x, y, z): choose images of the same part of the patient, or register them first"
                )
            note = f"{other.name!r} was resampled onto {first.name!r} ({difference}; x, y, z)"
            notes.append(note if share > 0.995 else f"{note}, of which it covers {share:.0%}")
            if run:
                from ..ops.spatial import resample

                other = resample(other, like=first)
        found.append(other)
    return found, notes


def _covered(first: Volume, other: Volume) -> float:
    """Return the share of the first image's voxels that the other covers, by a sample of some thousand."""
    shape = first.grid.spatial_shape
    axes = [np.unique(np.linspace(0, n - 1, min(n, 24)).round()) for n in shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    index = other.grid.to_index(first.grid.to_world(points))
    limits = np.array(other.grid.spatial_shape) - 0.5
    return float(((index >= -0.5) & (index <= limits)).all(axis=1).mean())
