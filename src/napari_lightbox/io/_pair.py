"""A header and its voxels in two files (.nhdr, .mhd), written so that the header never points at foreign voxels."""

import contextlib
import itertools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ._atomic import replacing

# Suffixes of headers whose voxels lie in a file of their own.
HEADERS = (".mhd", ".nhdr")


def write_pair(path: Path, header: Callable[[str], bytes], voxels: Callable[[BinaryIO], None]) -> None:
    """Write the voxels under a name that nothing uses yet, then put the header in place, then drop the old voxels.

    Parameters
    ----------
    path : Path
        Where the header goes.
    header : callable
        Gives the header for the name of the voxel file.
    voxels : callable
        Writes the voxels to an open file.
    """
    path = Path(os.path.realpath(path))
    before = voxels_of(path)
    stem = path.stem
    names = itertools.chain([f"{stem}.raw"], (f"{stem}-{n}.raw" for n in itertools.count(2)))
    raw = next(path.with_name(n) for n in names if not path.with_name(n).exists())
    try:
        with replacing(raw, told=path) as file:
            voxels(file)
        with replacing(path) as file:
            file.write(header(raw.name))
    except BaseException:
        # The old header, if there was one, is still in place and points at the old voxels.
        if voxels_of(path) != raw:
            raw.unlink(missing_ok=True)
        raise
    drop_voxels(before, path)


def voxels_of(path: Path) -> Path | None:
    """Return the voxel file that a header names, if it lies in the same folder."""
    try:
        text = path.read_bytes()[:65536].decode("latin-1")
    except OSError:
        return None
    match = re.search(r"^(?:data ?file:|ElementDataFile *=)[ \t]*(\S[^\r\n]*?)[ \t]*\r?$", text, re.MULTILINE | re.I)
    if match is None or Path(match[1]).name != match[1]:
        return None
    return path.with_name(match[1])


def drop_voxels(raw: Path | None, path: Path) -> None:
    """Remove the voxels of the header that was at `path`, if they were made for it and no other header needs them."""
    if raw is None or not re.fullmatch(re.escape(path.stem) + r"(-\d+)?\.raw", raw.name):
        return
    used = (p for p in path.parent.iterdir() if p.suffix.lower() in HEADERS)
    if raw not in [voxels_of(p) for p in used]:
        with contextlib.suppress(OSError):
            raw.unlink(missing_ok=True)
