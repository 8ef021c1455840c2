"""Writing several files so that all of them appear together, or none."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import FileError
from ._pair import HEADERS, drop_voxels, voxels_of


@contextmanager
def staged(folder: Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder to write into whose files move to `folder` when all went well, and vanish otherwise.

    Raises
    ------
    FileError
        If `folder` cannot be made, or a file of the same name is there and `overwrite` is not given.
    """
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file: give a folder")
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".lightbox-", dir=folder))
    except OSError as error:
        raise FileError(f"folder {folder} cannot be written to: {error.strerror or error}") from error
    done = False
    try:
        taken = _reserve_voxels(folder, stage)
        yield stage
        for path in taken:
            path.unlink(missing_ok=True)
        _move(stage, folder, overwrite)
        done = True
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"the files could not be written to {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if made and not done:
            with suppress(OSError):
                folder.rmdir()


def _reserve_voxels(folder: Path, stage: Path) -> list[Path]:
    """Keep the names of voxel files that are there from being used again: their headers still point at them."""
    taken = [stage / path.name for path in folder.glob("*.raw")]
    for path in taken:
        path.touch()
    return taken


def _move(stage: Path, folder: Path, overwrite: bool) -> None:
    there = [path.name for path in stage.iterdir() if (folder / path.name).exists()]
    if there and not overwrite:
        raise FileError(f"{folder} already holds {there[0]}: choose another folder, or add --overwrite")
    for name in there:
        if (folder / name).is_dir():
            raise FileError(f"{folder / name} is a folder: remove it, or choose another folder")
        shutil.copymode(folder / name, stage / name)
    # Headers come last: they point at their voxels only when those are in place.
    for path in sorted(stage.iterdir(), key=lambda p: (p.suffix.lower() in HEADERS, p.name)):
        target = Path(os.path.realpath(folder / path.name))  # a link keeps pointing where it does
        old = voxels_of(target) if path.suffix.lower() in HEADERS else None
        try:
            os.replace(path, target)
        except OSError:
            if not (folder / path.name).is_symlink():
                raise
            shutil.copyfile(path, target)  # a link to another disk
        drop_voxels(old, target)
