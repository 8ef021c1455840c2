"""Files become layers: napari's reader contribution, and our own way of opening that leaves the window free.

napari's reader protocol is synchronous: File > Open and drag and drop wait until the file is read. ``open_path`` reads
in the background instead; the menu File > IO Utilities offers it as "Open medical volume" and "Open DICOM folder".
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import napari
from napari.layers import Layer
from qtpy.QtWidgets import QFileDialog

from ..errors import LightboxError
from ..io.files import read_all, suffixes
from ..volume import Volume
from . import asking, offers
from .adding import add_in_turn, place
from .collecting import spare
from .edits import note_edits
from .label_files import as_labels
from .layers import LayerTuple, make_layer, notices, plain, volume_to_layer
from .masks import Shown, read_onto, shown_images
from .points_file import is_table, read_points
from .runner import Job, main_window, run

# Pictures have other readers that do as well; we offer ourselves for them, since only we ask for the pixel size.
PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
_NOT_OURS = (".zarr", ".n5")


def get_reader(path: str | list[str]) -> Callable[[Any], list[LayerTuple]] | None:
    """Return the function that reads `path`, or None where the file is not ours (npe2's reader contribution)."""
    if isinstance(path, list | tuple):
        if len(path) != 1:
            return None
        path = path[0]
    file = Path(path)
    if file.is_dir():
        return None if file.suffix.lower() in _NOT_OURS else read_layers
    return read_layers if file.name.lower().endswith(suffixes()) or is_table(file) else None


def read_layers(path: str | list[str]) -> list[LayerTuple]:
    """Read every volume of a file or folder as layers; notices go to napari's notifications.

    Raises
    ------
    FileError
        One sentence that says what is wrong with the file.
    """
    viewer = napari.current_viewer()
    file = Path(path[0] if isinstance(path, list | tuple) else path)
    if is_table(file):
        return [read_points(file, viewer)]
    volumes = _read(file, shown=shown_images(viewer))
    if not volumes[0].meta.get("spacing_known", True) and asking.has_screen(viewer):
        volumes = _with_asked_spacing(file, volumes, viewer)
    found = [volume_to_layer(volume) for volume in volumes]
    for volume in volumes:
        for notice in notices(volume):
            asking.warn(notice)
    for notice in place(viewer, found):
        asking.warn(notice)
    prepare(viewer)
    return found


def _read(file: Path, spacing: float | None = None, shown: Sequence[Shown] = ()) -> list[Volume]:
    """Read all volumes; what was left out, with its reason, is shown as a warning when the rest is there."""
    if file.is_file() and (masks := read_onto(file, list(shown))) is not None:
        return masks
    # Not by Python's warnings: catching them is a matter of the whole process, and two files may be read at once.
    refused: list[str] = []
    volumes = read_all(file, spacing, refused=refused)
    for sentence in refused:
        volumes[0] = _with_note(volumes[0], sentence)
    return [as_labels(volume, file) for volume in volumes]


def _with_note(volume: Volume, note: str) -> Volume:
    return volume.replace(meta={**volume.meta, "notes": [*volume.meta.get("notes", ()), note]})


def _with_asked_spacing(file: Path, volumes: list[Volume], viewer) -> list[Volume]:
    spacing = asking.ask_spacing(volumes[0].name, viewer, bool(volumes[0].meta.get("pixel_size_known")))
    return volumes if spacing is None else _read(file, spacing)


def prepare(viewer) -> None:
    """Equip a viewer with letters, window by mouse and notes of edits; offer to be the default reader."""
    viewer = plain(viewer)
    if viewer is None:
        return
    from . import saving
    from .panels.view import attach

    note_edits(viewer)
    offers.writers_first()
    if main_window(viewer) is not None:
        attach(viewer)
        saving.bind(viewer)
        spare(viewer)
        offers.offer_when_shown(viewer)


def open_path(viewer, path: str | Path, *, spacing: float | None = None, on_done: Callable | None = None) -> Job:
    """Read a file or folder in the background and add its volumes to a viewer.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the layers go.
    path : str or Path
        File or DICOM folder.
    spacing : float, optional
        Pixel size in mm for files that do not know theirs.
    on_done : callable, optional
        Gets the list of new layers.

    Returns
    -------
    Job
        Already started; errors become notifications.
    """
    path = Path(path)
    return open_volumes(viewer, partial(_read, path, spacing, shown_images(viewer)), path.name, on_done=on_done)


def open_volumes(
    viewer,
    load: Callable[[], list[Volume]],
    name: str,
    *,
    start: Callable[..., Job | None] | None = None,
    on_done: Callable[[list[Layer]], None] | None = None,
) -> Job | None:
    """Read volumes by ``load()`` in the background and add them to a viewer.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the layers go.
    load : callable
        Runs in the background and returns the volumes.
    name : str
        What is opened, for messages.
    start : callable, optional
        Starts the job in place of `run`: the method of a dock's bar, which shows how it fares.
    on_done : callable, optional
        Gets the list of new layers.

    Returns
    -------
    Job or None
        What `start` returns; the job is under way.
    """
    viewer = plain(viewer)
    prepare(viewer)

    def work() -> tuple[list[Layer], list[str]]:
        volumes = load()
        return [make_layer(v) for v in volumes], [text for v in volumes for text in notices(v)]

    def show(result: tuple[list[Layer], list[str]]) -> None:
        for notice in (*result[1], *place(viewer, result[0])):
            asking.warn(notice)
        add_in_turn(viewer, result[0], on_done or (lambda _: None))

    viewer.status = f"Opening {name} ..."
    return (start or partial(run, viewer=viewer))(work, title=f"Opening {name}", on_done=show)


def open_file() -> None:
    """Ask for files and open them in the background (menu command)."""
    viewer = napari.current_viewer()
    patterns = " ".join(f"*{suffix}" for suffix in suffixes())
    names, _ = QFileDialog.getOpenFileNames(
        main_window(viewer), "Open medical volume", "", f"Volumes ({patterns});;Points (*.csv);;All files (*)"
    )
    for name in names:
        if is_table(name):
            # Small, and over a volume that is open already.
            try:
                plain(viewer).add_layer(Layer.create(*read_points(Path(name), viewer)))
            except LightboxError as error:
                asking.warn(str(error))
        else:
            open_path(viewer, name)


def open_folder() -> None:
    """Ask for a folder with DICOM files and open it in the background (menu command)."""
    viewer = napari.current_viewer()
    name = QFileDialog.getExistingDirectory(main_window(viewer), "Open DICOM folder")
    if name:
        open_path(viewer, name)
