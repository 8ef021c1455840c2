"""Writing so that a reader finds either the old file or the whole new one, never a piece."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import FileError


@contextmanager
def replacing(path: Path, told: Path | None = None) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing; it takes the place of `path` when the block ends well.

    On any error, or when the work is cancelled, the temporary file is removed and an old `path` stays as it was. The
    sentence then speaks of `told`, the file that the user asked for, where that is another one.

    Raises
    ------
    FileError
        If the folder does not exist, may not be written to, or the disk is full.
    """
    path = Path(os.path.realpath(path))  # a link keeps pointing where it does
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        if path.is_dir():
            raise FileError(f"{path} is a folder: give the name of a file")
        try:
            with open(temporary, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                shutil.copymode(path, temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileError:
        raise
    except OSError as error:
        raise FileError(_sentence(told or path, error)) from error


def _sentence(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return f"{path} was not written, the disk is full: free some space or choose another folder"
    if isinstance(error, FileNotFoundError):
        return f"{path} was not written, its folder does not exist: make {path.parent} first"
    if isinstance(error, PermissionError):
        return f"{path} was not written, that is not permitted there: choose another folder"
    return f"{path} was not written ({error.strerror or error}): choose another folder"
