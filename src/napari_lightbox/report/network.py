"""What is seen of a network, on a page: feature maps, first kernels and their frequency response, receptive fields."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..geometry import Grid
from ..volume import Volume
from . import page, words
from .pictures import Picture, View, draw

_WIDE, _SIZE = 640, 300


def panels(volumes: Sequence[Volume], image: Volume | None = None) -> list[str]:
    """Return the parts of a page about a network, to stand on a page of their own or among others.

    Parameters
    ----------
    volumes : sequence of Volume
        From `models.features`, `models.kernel_picture` and `models.seen_from`: their last step says what each is.
    image : Volume, optional
        What the network was shown; receptive fields are drawn on it.

    Returns
    -------
    list of str
        A panel for each volume, then the table of the steps that make them again.

    Examples
    --------
    >>> from napari_lightbox.models import kernel_picture
    >>> from napari_lightbox.models.networks import build
    >>> "first kernels" in panels([kernel_picture(build("unet", dims=2, channels=(4, 8)))])[0]
    True
    """
    found = []
    for volume in volumes:
        step = volume.history[-1]
        title = page.heading(volume.name, 3)
        if step["operation"] == "kernels":
            response = bool(step["parameters"]["response"])
            what = "middle 0, edge half a cycle a voxel" if response else "0 is grey, all have one scale"
            pictures = page.pictures([kernel_tiles(volume, signed=not response)], volume.name)
            found.append(page.panel(title, pictures, page.quiet(what)))
        elif step["operation"] == "receptive_field":
            found.append(page.panel(title, *_field(volume, image)))
        else:
            found.append(
                page.panel(title, page.pictures(draw(volume, View(_strongest(volume), 0, _SIZE)), volume.name))
            )
    rows = [(v.name, str(v.history[-1]["operation"]), words.parameters(v.history[-1])) for v in volumes if v.history]
    columns = {"Result": "text", "Step": "text", "With": "text"}
    return [*found, page.panel(page.heading("Steps", 3), page.table(columns, rows))] if rows else found


def kernel_tiles(volume: Volume, *, signed: bool) -> Picture:
    """Return the picture of kernels, each voxel a square; `signed`: 0 is grey, otherwise black."""
    data = np.asarray(volume.data, np.float32)[0]
    most = float(np.abs(data).max()) or 1.0
    grey = 127.5 + 127.5 * data / most if signed else 255 * data / most
    scale = max(1, _WIDE // max(data.shape))
    big = np.kron(np.clip(grey, 0, 255), np.ones((scale, scale))).round().astype(np.uint8)
    return Picture("kernels", Image.fromarray(big), f"from {data.min():.3g} to {data.max():.3g}")


def _field(volume: Volume, image: Volume | None) -> list[str]:
    field, parameters = volume.meta["receptive_field"], volume.history[-1]["parameters"]
    point = tuple(parameters["point"])
    grid = volume.grid
    below = Volume(np.zeros(grid.shape, np.uint8), grid) if image is None else image.frame(0)
    lines = []
    for which, word in (("bound", "at most"), ("measured", "measured"), ("effective", "in effect")):
        mm = field[which]["mm"]
        lines.append([word, _sizes(field[which]["voxels"]), "" if mm is None else _sizes([f"{v:.3g}" for v in mm])])
    return [
        page.pictures(draw(below, View(point, 0, _SIZE), over=volume, points=(point,)), volume.name),
        page.legend((label.name, label.colour) for label in volume.labels.values()),
        page.table({"A voxel sees": "text", "Voxels (array order)": "text", "mm": "text"}, lines),
    ]


def _sizes(values: Sequence) -> str:
    return " x ".join(map(str, values))


def _strongest(volume: Volume) -> tuple[float, ...]:
    grid: Grid = volume.grid
    place = np.unravel_index(int(np.abs(np.asarray(volume.data)).argmax()), volume.data.shape)
    return tuple(float(v) for v in grid.to_world(np.array(place, float)))
