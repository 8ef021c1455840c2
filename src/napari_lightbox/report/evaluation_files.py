"""Which files of several folders belong to one case."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import FileError, InputError
from ..io import suffixes
from ..io._carry import stem


@dataclass(frozen=True)
class Files:
    """What belongs to a case: paths, or None for what there is not."""

    predicted: str | None
    reference: str | None
    image: str | None = None
    second: str | None = None

    def seen_from(self, folder: Path) -> dict[str, str]:
        """Return the files as a program finds them that has read the results in a folder."""
        found = {}
        for key, path in (("prediction", self.predicted), ("reference", self.reference),
                          ("image", self.image), ("second", self.second)):  # fmt: skip
            if path is not None:
                try:
                    found[key] = Path(os.path.relpath(path, folder)).as_posix()
                except ValueError:
                    # On another drive.
                    found[key] = str(Path(path).resolve())
        return found


def _stem(path: str) -> str:
    return stem(Path(path))


def pair_up(
    predicted: str,
    reference: str,
    images: str | None = None,
    seconds: str | None = None,
    *,
    name: Callable[[str], str] = _stem,
) -> dict[str, Files]:
    """Find the files of each case in folders of predictions, references, images and second predictions.

    Parameters
    ----------
    predicted, reference : str
        Folders.
    images, seconds : str, optional
        Folders.
    name : callable
        Gives what a case is called from a path.

    Returns
    -------
    dict of str to Files
        For each reference what has its name, or is the only one whose name begins with it; then predictions to which
        no reference belongs, under their own names.

    Raises
    ------
    FileError
        If one is no folder.
    InputError
        If there are no references, or two files fit a case.
    """
    guesses, truths = _files(predicted, "PREDICTED", name), _files(reference, "REFERENCE", name)
    below = {} if images is None else _files(images, "--image", name)
    others = {} if seconds is None else _files(seconds, "--versus", name)
    if not truths:
        raise InputError(f"{reference} holds no file that can be read")
    found = {
        case: Files(_fitting(case, guesses, truths), path, *(_fitting(case, one, truths) for one in (below, others)))
        for case, path in truths.items()
    }
    used = {files.predicted for files in found.values()}
    return found | {case: Files(path, None) for case, path in guesses.items() if path not in used}


def cases_in(folder: str, what: str, name: Callable[[str], str] = _stem) -> dict[str, str]:
    """Return the files of a folder by the names of their cases; `what` is what errors call the folder."""
    return _files(folder, what, name)


def belonging(cases: Mapping[str, str], folder: str, what: str, name: Callable[[str], str] = _stem) -> dict[str, str]:
    """Return for each case the file of another folder that has its name, or is the only one that begins with it.

    Raises
    ------
    FileError
        If it is no folder.
    InputError
        If two files fit a case.
    """
    there = _files(folder, what, name)
    found = {case: _fitting(case, there, dict(cases)) for case in cases}
    return {case: path for case, path in found.items() if path is not None}


def _files(folder: str, what: str, name_of: Callable[[str], str]) -> dict[str, str]:
    if not Path(folder).is_dir():
        raise FileError(f"{what} {folder} is no folder: with --cohort give folders")
    found: dict[str, str] = {}
    for path in sorted(Path(folder).iterdir()):
        if path.is_dir() or path.name.lower().endswith(tuple(suffixes())):
            name = name_of(str(path))
            if name in found:
                raise InputError(f"{found[name]} and {path} have the same name, {name!r}: put one somewhere else")
            found[name] = str(path)
    return found


def _fitting(name: str, files: dict[str, str], names: dict[str, str]) -> str | None:
    """Return the file of a case: that of its name, or the only one whose name begins with it."""
    if name in files:
        return files[name]
    # "case_1_lungs" belongs to "case_1" only where there is no case "case_1_lungs", and not to "case".
    longer = [other for other in names if other != name and other.startswith(name)]
    fitting = [
        path
        for other, path in files.items()
        if other.startswith((f"{name}_", f"{name}-", f"{name}."))
        and other not in names
        and not any(other.startswith(one) for one in longer)
    ]
    if len(fitting) > 1:
        raise InputError(f"{fitting[0]} and {fitting[1]} both fit the case {name!r}: rename one, or take it away")
    return fitting[0] if fitting else None
