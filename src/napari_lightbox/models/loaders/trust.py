"""Which model files the user trusts to run code on this computer, remembered by their SHA-256.

The list is a small JSON file in the user's configuration folder (or in the folder that ``LIGHTBOX_CONFIG`` names). A
file that was changed has another SHA-256, and is asked about again.
"""

import json
import os
import sys
from pathlib import Path

from ...errors import FileError, InputError
from ...io._atomic import replacing


class Untrusted(InputError):  # noqa: N818 - named for what it says
    """A model's file could run code, and the user has not said that they trust it.

    `sha256` is the file's, `what` says what it is and does.
    """

    def __init__(self, message: str, sha256: str, what: str) -> None:
        super().__init__(message)
        self.sha256, self.what = sha256, what


def remembered() -> dict[str, str]:
    """Return the names of the files that are trusted, by SHA-256.

    Raises
    ------
    FileError
        If the list is there but cannot be read.
    """
    path = _list()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise FileError(f"the list of trusted models {path} cannot be read ({error}): delete it") from error
    if not isinstance(found, dict):
        raise FileError(f"the list of trusted models {path} holds no table: delete it")
    return {str(key): str(value) for key, value in found.items()}


def remember(sha256: str, name: str) -> None:
    """Trust a file from now on."""
    _write({**remembered(), sha256: name})


def forget(sha256: str) -> None:
    """Trust a file no longer; nothing happens where it was not trusted."""
    _write({key: name for key, name in remembered().items() if key != sha256})


def check(name: str, sha256: str, trust: bool, what: str) -> None:
    """Let a file pass that is trusted, now or from before; one that is trusted now is remembered.

    Parameters
    ----------
    name : str
        Of the model.
    sha256 : str
        Of the file.
    trust : bool
        Whether the user says so now.
    what : str
        What the file does when it is opened, to follow "which".

    Raises
    ------
    Untrusted
        If it is not trusted.
    """
    known = sha256 in remembered()
    if not known and not trust:
        raise Untrusted(
            f"model {name!r} is {what}: if you trust where it comes from, open it with trust=True (--trust; the file's "
            f"SHA-256 is {sha256[:12]}...), or ask for its weights as safetensors, which cannot run anything",
            sha256,
            what,
        )
    if not known:
        remember(sha256, name)


def config_folder() -> Path:
    """Return the folder in which choices of the user are kept: that of ``LIGHTBOX_CONFIG``, or the system's own."""
    folder = os.environ.get("LIGHTBOX_CONFIG")
    if not folder:
        windows = sys.platform == "win32"
        base = os.environ.get("APPDATA" if windows else "XDG_CONFIG_HOME") or Path.home() / ".config"
        folder = Path(base) / "napari-lightbox"
    return Path(folder)


def _list() -> Path:
    return config_folder() / "trusted-models.json"


def _write(table: dict[str, str]) -> None:
    path = _list()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(json.dumps(table, indent=2).encode())
    except OSError as error:
        raise FileError(
            f"the list of trusted models {path} cannot be written ({error.strerror or error}): set LIGHTBOX_CONFIG to "
            "a folder that can"
        ) from error
