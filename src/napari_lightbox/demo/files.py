"""The demo without a screen: the same results as files, and a report with pictures."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import FileError
from ..io import read, write
from ..phantoms import SAMPLES, sample_path
from ..progress import track
from ..recipe import Recipe
from ..report import write_report
from ..volume import Volume
from .pipeline import Session

SAMPLE = "thorax"
# Nodules lie inside the lung, and count as lung where a model knows no nodules.
SAMPLE_NAMES = {"lesion": "lung"}


def sample() -> tuple[Volume, Volume]:
    """Return the image that is shown where none is given, and its truth."""
    image, truth = (read(sample_path(name)) for name in (SAMPLE, SAMPLES[SAMPLE].truth))
    return image, truth


def save(session: Session, folder: str | os.PathLike, *, overwrite: bool = False) -> list[Path]:
    """Write all volumes of a session as NIfTI, a recipe for each result, and ``report.html``.

    Parameters
    ----------
    session : Session
        From `pipeline.run`.
    folder : str or path
        Made where it is missing. The files appear together at the end; none does if the work is cancelled.
    overwrite : bool
        Replace files of the same names.

    Returns
    -------
    list of Path
        The files, the report last.

    Raises
    ------
    FileError
        If the folder already holds files of these names and `overwrite` is not given, or cannot be written to.
    """
    folder = Path(folder)
    with staged(folder, overwrite) as stage:
        written = [write(session.image, stage / "01_image.nii.gz")]
        for number, shown in track(list(enumerate(session.shown, start=2)), "files"):
            stem = f"{number:02d}_{_slug(shown.role)}"
            written.append(write(shown.volume, stage / f"{stem}.nii.gz"))
            # What was read from a file, or compared with one, has no steps to replay.
            if shown.volume.history and shown.role not in ("truth", "comparison"):
                written.append(Recipe.of(shown.volume).save(stage / f"{stem}.json"))
        written.append(report(session, stage / "report.html"))
        names = [path.name for path in written]
    return [folder / name for name in names]


def report(session: Session, path: Path) -> Path:
    """Write the report of a session."""
    filtered = session.find("filtered")
    return write_report(
        path,
        session.image,
        [shown.entry() for shown in session.shown],
        title=f"lightbox demo: {session.image.name}",
        notes=session.notes,
        histogram_of=filtered.volume if filtered else session.image,
        thresholds=session.thresholds,
        tables=session.tables,
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "volume"


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
        yield stage
        there = [path.name for path in stage.iterdir() if (folder / path.name).exists()]
        if there and not overwrite:
            raise FileError(f"{folder} already holds {there[0]}: choose another folder, or add --overwrite")
        for path in sorted(stage.iterdir()):
            os.replace(path, folder / path.name)
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
