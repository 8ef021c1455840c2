"""The offer, made once, to be the reader of medical files.

napari's own reader opens NIfTI, NRRD, MetaImage and DICOM files as bare arrays: spacing, orientation and rescaling are
lost without a word. Which reader is used is the user's choice, so we ask, once, and remember that we did.
"""

import weakref

from napari.settings import get_settings
from npe2 import PluginManager
from qtpy.QtCore import QEvent, QObject, QSettings, QTimer
from qtpy.QtWidgets import QMessageBox

from . import asking
from .layers import plain
from .runner import is_open, main_window

PLUGIN = "napari-lightbox"
PATTERNS = ("*.nii", "*.nii.gz", "*.nrrd", "*.nhdr", "*.mha", "*.mhd", "*.dcm", "*.points.csv")
_KEY = "default_reader_offered"
_QUESTION = (
    "Open NIfTI, NRRD, MetaImage and DICOM files with napari-lightbox from now on?\n\nnapari's own reader opens them "
    "without their spacing and orientation. You can change this later in Preferences > Plugins."
)
# A programmed session (the demo, a script that takes pictures) switches the offer off.
enabled = True


def settings() -> QSettings:
    """Return what the user's answers and habits are kept in."""
    return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, PLUGIN, "viewer")


def was_offered() -> bool:
    """Whether the user has been asked before, or has chosen us without being asked."""
    chosen = get_settings().plugins.extension2reader
    return str(settings().value(_KEY, "")) == "yes" or all(chosen.get(p) == PLUGIN for p in PATTERNS)


def writers_first() -> None:
    """Let napari's Save dialogs list our writers of volumes first: what is typed there is read as a file type of ours.

    napari takes the first writer that fits, and lists its own first, which writes bare arrays.
    """
    index = getattr(PluginManager.instance(), "_contrib", None)
    writers = getattr(index, "_writers", None)
    # npe2 has no public order of writers; where its list looks otherwise, the order stays as it is.
    if isinstance(writers, list) and all(isinstance(entry, tuple) and len(entry) == 4 for entry in writers):
        writers.sort(key=lambda entry: not _writes_volumes(entry[3]))


def _writes_volumes(writer) -> bool:
    return writer.command.startswith(f"{PLUGIN}.") and ".nii.gz" in writer.filename_extensions


def make_default() -> None:
    """Let napari open the medical formats with this plug-in from now on."""
    settings = get_settings()
    settings.plugins.extension2reader = {
        **settings.plugins.extension2reader,
        **dict.fromkeys(PATTERNS, PLUGIN),
    }


def offer_when_shown(viewer) -> None:
    """Make the offer, as soon as there is a window to make it in: `napari FILE` reads the file before it shows one."""
    window = main_window(viewer)
    if window is None or not enabled:
        return
    if window.isVisible():
        offer_default(viewer)
    else:
        _WhenShown(window, weakref.ref(plain(viewer)))


class _WhenShown(QObject):
    """Makes the offer when a window is shown for the first time; a child of the window."""

    def __init__(self, window, viewer: weakref.ref) -> None:
        super().__init__(window)
        self._viewer = viewer
        window.installEventFilter(self)

    def eventFilter(self, watched, event) -> bool:  # noqa: N802 - Qt's name
        if event.type() == QEvent.Type.Show and self._viewer is not None:
            watched.removeEventFilter(self)
            viewer, self._viewer = self._viewer, None
            QTimer.singleShot(0, lambda: viewer() is not None and is_open(viewer()) and offer_default(viewer()))
        return False


def offer_default(viewer) -> QMessageBox | None:
    """Ask once, without blocking, whether to be the default reader; return the open dialog or None.

    Nothing is asked where there is no window that somebody could see.
    """
    viewer = plain(viewer)
    if not enabled or not asking.has_screen(viewer) or was_offered():
        return None
    settings().setValue(_KEY, "yes")
    box = QMessageBox(main_window(viewer))
    box.setWindowTitle("napari-lightbox")
    box.setText(_QUESTION)
    box.setStandardButtons(QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No)
    box.accepted.connect(make_default)
    box.open()
    return box
