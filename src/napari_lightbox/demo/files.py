"""The demo without a screen: the same results as files, and a report with pictures."""

import json
import os
import re
from pathlib import Path

from ..errors import FileError
from ..io import read, write
from ..io._staged import staged
from ..phantoms import SAMPLES, sample_path
from ..progress import track
from ..recipe import Recipe
from ..report import write_report
from ..volume import Volume
from .pipeline import Session

# Names the files of a run, so that the next one into the same folder can take them away.
LISTING = "lightbox-demo.json"
_OURS = re.compile(r"\d{2,}_[a-z0-9_]+\.(nii\.gz|json)|report\.html")
SAMPLE = "thorax"
# Nodules lie inside the lung, and count as lung where a model knows no nodules.
SAMPLE_NAMES = {"lesion": "lung"}


def sample() -> tuple[Volume, Volume]:
    """Return the image that is shown where none is given, and its truth."""
    image, truth = (read(sample_path(name)) for name in (SAMPLE, SAMPLES[SAMPLE].truth))
    return image, truth


def save(session: Session, folder: str | os.PathLike, *, overwrite: bool = False) -> list[Path]:
    """Write all volumes of a session as NIfTI, a recipe for each result, and ``report.html``.

    ``lightbox-demo.json`` lists them.

    Parameters
    ----------
    session : Session
        From `pipeline.run`.
    folder : str or path
        Made where it is missing. The files appear together at the end; none does if the work is cancelled.
    overwrite : bool
        Replace files of the same names, and remove what else an earlier run wrote there and listed: the results of
        two patients must not lie side by side. Other files stay.

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
    earlier = _listed(folder) if overwrite else set()
    with staged(folder, overwrite) as stage:
        written = [write(session.image, stage / "01_image.nii.gz")]
        for number, shown in track(list(enumerate(session.shown, start=2)), "files"):
            stem = f"{number:02d}_{_slug(shown.role)}"
            written.append(write(shown.volume, stage / f"{stem}.nii.gz"))
            # What was read from a file, or compared with one, has no steps to replay.
            if shown.volume.history and shown.role not in ("truth", "comparison"):
                written.append(Recipe.of(shown.volume).save(stage / f"{stem}.json"))
        names = [*(path.name for path in written), LISTING, "report.html"]
        listing = {"lightbox_demo": 1, "files": names}
        (stage / LISTING).write_text(json.dumps(listing, indent=2) + "\n", encoding="utf-8")
        report(session, stage / "report.html")
    for name in sorted(earlier - set(names)):
        _remove(folder / name)
    return [folder / name for name in names]


def _listed(folder: Path) -> set[str]:
    """Return the files that an earlier run says it wrote, as far as they are named as the demo names files."""
    try:
        listing = json.loads((folder / LISTING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    if not isinstance(listing, dict) or "lightbox_demo" not in listing or not isinstance(listing.get("files"), list):
        return set()
    return {name for name in listing["files"] if isinstance(name, str) and _OURS.fullmatch(name)}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"{path} of an earlier run cannot be removed: {error.strerror or error}") from error


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
