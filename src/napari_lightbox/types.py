"""Annotations that operations declare their arguments with.

They carry plain data only, so that a signature can say what a dock has to show without importing a GUI:
``get_type_hints(function, include_extras=True)`` gives them back.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np


@dataclass(frozen=True)
class Role:
    """What an array argument or result is, and so which layers may stand for it.

    `kind` is ``"image"``, ``"labels"``, ``"voxels"`` (one or the other), ``"seeds"`` (points) or ``"volume"`` (array
    with its grid); ``"labelled"`` is no layer but says whether the voxels are labels, and is filled in; ``"device"``
    says where it is computed, which is no part of what is computed.
    """

    kind: str


ImageArray = Annotated[np.ndarray, Role("image")]
LabelArray = Annotated[np.ndarray, Role("labels")]
VoxelArray = Annotated[np.ndarray, Role("voxels")]
AreLabels = Annotated[bool, Role("labelled")]
# At the array level: (n, ndim) voxel indices. Through `apply`: (n, 3) world points (z, y, x) in LPS mm,
# or (n, 4) with the frame index first.
Seeds = Annotated[np.ndarray, Role("seeds")]

# Where an array function computes: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
Device = Annotated[str, Role("device")]

Border = Literal["reflect", "nearest", "mirror", "constant", "wrap"]
OddSize = Annotated[int, {"min": 1, "max": 31, "step": 2, "unit": "voxels"}]
Interpolation = Literal["nearest", "linear", "cubic"]
