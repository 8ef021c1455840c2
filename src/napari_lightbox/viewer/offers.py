"""The offer, made once, to be the reader of medical files.

napari's own reader opens NIfTI, NRRD, MetaImage and DICOM files as bare arrays: spacing, orientation and rescaling are
lost without a word. Which reader is used is the user's choice, so we ask, once, and remember that we did.
"""

from napari.settings import get_settings
from qtpy.QtCore import QSettings
from qtpy.QtWidgets import QMessageBox

from . import asking
from .layers import plain
from .runner import main_window

PLUGIN = "napari-lightbox"
PATTERNS = ("*.nii", "*.nii.gz", "*.nrrd", "*.nhdr", "*.mha", "*.mhd", "*.dcm")
_KEY = "default_reader_offered"
_QUESTION = (
    "Open NIfTI, NRRD, MetaImage and DICOM files with napari-lightbox from now on?\n\nnapari's own reader opens them "
    "without their spacing and orientation. You can change this later in Preferences > Plugins."
)
# A programmed session (the demo, a script that takes pictures) switches the offer off.
enabled = True


def _store() -> QSettings:
    return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, PLUGIN, "viewer")


def was_offered() -> bool:
    """Whether the user has been asked before, or has chosen us without being asked."""
    chosen = get_settings().plugins.extension2reader
    return str(_store().value(_KEY, "")) == "yes" or all(chosen.get(p) == PLUGIN for p in PATTERNS)


def make_default() -> None:
    """Let napari open the medical formats with this plug-in from now on."""
    settings = get_settings()
    settings.plugins.extension2reader = {
        **settings.plugins.extension2reader,
        **dict.fromkeys(PATTERNS, PLUGIN),
    }


def offer_default(viewer) -> QMessageBox | None:
    """Ask once, without blocking, whether to be the default reader; return the open dialog or None.

    Nothing is asked where there is no window that somebody could see.
    """
    viewer = plain(viewer)
    if not enabled or not asking.has_screen(viewer) or was_offered():
        return None
    _store().setValue(_KEY, "yes")
    box = QMessageBox(main_window(viewer))
    box.setWindowTitle("napari-lightbox")
    box.setText(_QUESTION)
    box.setStandardButtons(QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No)
    box.accepted.connect(make_default)
    box.open()
    return box
