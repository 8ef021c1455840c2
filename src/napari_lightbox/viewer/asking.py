"""Questions and notices to the user: dialogs where somebody sits in front of the screen."""

import os

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QInputDialog, QMessageBox

from .runner import main_window


def has_screen(viewer=None) -> bool:
    """Whether a dialog would be seen: there is a viewer whose window is shown, on a platform with a screen."""
    if os.environ.get("QT_QPA_PLATFORM") in ("offscreen", "minimal"):
        return False
    window = main_window(viewer) if viewer is not None else None
    return window is not None and window.isVisible()


def confirm(question: str, viewer=None, title: str = "napari-lightbox") -> bool:
    """Ask a yes-or-no question; the answer is no where nobody can be asked."""
    if not has_screen(viewer):
        return False
    answer = QMessageBox.question(main_window(viewer), title, question)
    return answer == QMessageBox.StandardButton.Yes


def may_stop(title: str, viewer=None, ended=None) -> bool:
    """Ask whether a job may be stopped as its dock is to be closed; it may where nobody can be asked.

    The question goes, as if it were declined, with the window, and when the signal `ended` says that the job is over:
    its dock then stays, to say how it ended.
    """
    if not has_screen(viewer):
        return True
    box = QMessageBox(main_window(viewer))
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setIcon(QMessageBox.Icon.Question)
    box.setWindowTitle("napari-lightbox")
    box.setText(f"{title} is still running.")
    box.setInformativeText(
        "The eye beside the cross only hides the dock: the result comes, and the Plugins menu brings the dock back."
    )
    stop = box.addButton("Stop it and close", QMessageBox.ButtonRole.DestructiveRole)
    keep = box.addButton("Keep running", QMessageBox.ButtonRole.RejectRole)
    box.setDefaultButton(keep)
    box.setEscapeButton(keep)
    # The box itself may be gone once it has been answered.
    stopped: list[bool] = []
    stop.clicked.connect(lambda: stopped.append(True))
    if ended is not None:
        ended.connect(box.reject)
    box.exec_()
    return bool(stopped)


def confirm_moved(layer, viewer=None) -> bool:
    """Ask whether the edit of a layer's transform is meant."""
    return confirm(
        f"The position, scale or rotation of the layer {layer.name!r} was edited by hand.\n\n"
        "Yes: the edited position is the true one.\nNo: stop, so that it can be set back.",
        viewer,
    )


def tell(text: str) -> None:
    """Show a sentence as napari's notification."""
    from napari.utils.notifications import show_info

    show_info(text)


def warn(text: str) -> None:
    """Show a sentence as napari's warning."""
    from napari.utils.notifications import show_warning

    show_warning(text)


def ask_spacing(name: str, viewer=None, slices: bool = False) -> float | None:
    """Ask for the pixel size of a picture, or for the distance of its slices, mm; None where it stays unknown."""
    title = "Distance of slices" if slices else "Pixel size"
    missing = "how far apart its slices are" if slices else "how large its pixels are"
    value, given = QInputDialog.getDouble(
        main_window(viewer),
        title,
        f"{name} does not say {missing}.\n{title} in mm (Cancel: unknown, lengths stay in pixels):",
        1.0,
        1e-6,
        1e6,
        6,
    )
    return float(value) if given and value > 0 else None
