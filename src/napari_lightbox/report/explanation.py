"""All that was found of why a model fails on a case, on one page: sweeps, maps of attribution, the network's inside."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..io._atomic import replacing
from . import page, words


@dataclass(frozen=True)
class Section:
    """A finding: its heading, and the parts of the page, as the `panels` of this package's rooms return them."""

    heading: str
    parts: tuple[str, ...]


def write_explanation(path: Path, title: str, sections: Sequence[Section]) -> Path:
    """Write findings as one HTML file that needs no other; a file that is there is replaced, and stays whole if not.

    Parameters
    ----------
    path : Path
        Ends in ``.html``.
    title : str
    sections : sequence of Section
        In the order in which they are to be shown.

    Raises
    ------
    InputError
        If the name ends otherwise, or there are no findings.
    FileError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_explanation(Path(folder) / "why.html", "Why", [Section("Kernels", (page.panel("..."),))])
    ...     "<h2>Kernels</h2>" in path.read_text(encoding="utf-8")
    True
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"report {path} must end in .html")
    if not sections:
        raise InputError("there is nothing to report: run a sweep, make a map, or look into the network first")
    parts = [page.heading(title, 1)]
    for section in sections:
        parts += [page.heading(section.heading), *section.parts]
    parts += [page.heading("Made with"), page.panel(page.pairs(words.versions()))]
    parts.append(page.quiet("Made by napari-lightbox. For research and teaching, not for clinical use."))
    with replacing(path) as file:
        file.write(page.document(title, parts).encode())
    return path


__all__ = ["Section", "write_explanation"]
