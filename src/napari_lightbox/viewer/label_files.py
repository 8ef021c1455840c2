"""Files of plain formats that hold labels but do not say so: told by their name and their few whole numbers."""

import re
from pathlib import Path

import numpy as np

from ..volume import Volume
from .appearance import sample

# As words of a file's name: "ct_seg", "brain-mask", "aseg", "labels2".
_WORD = re.compile(
    r"(?<![a-z])(?:[ad]?seg|segs|segmentations?|label(?:s|map)?|masks?|aparc|rois?|annotations?)(?![a-z])"
)
# Formats whose files may hold either.
_PLAIN = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
# More values than any atlas of organs has, and fewer than a picture of 8 bits.
_MOST = 200
NOTE = (
    "opened as labels, as its name and its few whole numbers say; if it is a picture, right-click it in the layer "
    "list and choose Convert to Image"
)


def as_labels(volume: Volume, file: Path) -> Volume:
    """Return the volume as labels where its file's name and its values say that it holds labels; else as it is.

    The voxels stay what they are.

    Parameters
    ----------
    volume : Volume
    file : Path
        What it was read from.

    Examples
    --------
    >>> volume = Volume.from_array(np.eye(3, dtype=np.uint8), spacing=(1, 1))
    >>> as_labels(volume, Path("brain_mask.nii.gz")).kind, as_labels(volume, Path("brain.nii.gz")).kind
    ('labels', 'image')
    """
    name = file.name.lower()
    if volume.kind != "image" or not name.endswith(_PLAIN) or not _WORD.search(name.split(".nii")[0]):
        return volume
    if np.dtype(volume.data.dtype).kind not in "bui" or not _few(volume.data):
        return volume
    notes = [*volume.meta.get("notes", ()), NOTE]
    return volume.replace(kind="labels", meta={**volume.meta, "notes": notes})


def _few(data) -> bool:
    # The sample is small: a picture has more values in it than labels have in all.
    values = np.unique(sample(data))
    return values.size <= _MOST and int(np.min(data)) >= 0
