"""Tables and pages as files, all of them or none."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import FileError
from ..io._staged import staged


def write_texts(folder: Path, contents: Mapping[str, str], *, overwrite: bool = False) -> list[Path]:
    """Write texts by their names into a folder, which is made where it is missing.

    Returns
    -------
    list of Path
        In the order of `contents`.

    Raises
    ------
    FileError
        If a file exists and `overwrite` is not given, or cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"folder {folder} cannot be made: {error.strerror or error}") from error
    with staged(folder, overwrite=overwrite) as stage:
        for name, text in contents.items():
            (stage / name).write_bytes(text.encode())
    return [folder / name for name in contents]


def csv_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as text, apart by commas; `columns` stand in the first line where there are no rows.

    Examples
    --------
    >>> csv_of([{"a": 1, "b": 2}], []).split()
    ['a,b', '1,2']
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]) if rows else list(columns))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
