"""`lightbox demo`: a window where there is a screen, files and a report where there is none."""

import argparse
import os
import sys
from pathlib import Path

from ..errors import FileError, InputError, need
from .reading import read_input
from .words import err, out

_FOLDER = "lightbox-demo"


def has_screen() -> bool:
    """Whether a window can be opened: always outside Linux, there where a display is named."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def run(args: argparse.Namespace) -> int:
    """Run the demo."""
    window = has_screen() and not args.no_window
    if args.screenshot is not None:
        _check_screenshot(args, window)
    if window:
        need("napari", "Opening a window")
    folder = None if window and args.out is None else _folder(args)
    from .. import demo

    if args.input is None:
        image, truth = demo.sample()
        names = demo.SAMPLE_NAMES
    else:
        image, truth, names = read_input(args, args.input), None, None
    if args.truth is not None:
        truth, names = read_input(args, args.truth, kind="labels"), None
    call = {"model": args.model, "truth": truth, "names": names, "device": args.device}
    if window:
        from ..demo.window import show

        return show(image, call, folder=folder, overwrite=args.overwrite, screenshot=args.screenshot)
    session = demo.run(image, **call)
    written = demo.save(session, folder, overwrite=args.overwrite)
    for note in session.notes:
        err(f"note: {note}")
    for shown in session.shown:
        seconds = f" ({shown.seconds:.2f} s)" if shown.seconds is not None else ""
        out(f"{shown.title}{seconds}")
    out(f"{len(written)} files in {folder}; open {written[-1]} in a browser")
    return 0


def _check_screenshot(args: argparse.Namespace, window: bool) -> None:
    if not window:
        raise InputError("--screenshot needs a screen: run it on a desktop, or as xvfb-run -a lightbox demo ...")
    target = Path(args.screenshot)
    if target.suffix.lower() != ".png":
        raise InputError(f"--screenshot {target} must end in .png")
    if not target.parent.is_dir():
        raise FileError(f"folder {target.parent} does not exist: make it first")
    if target.exists() and not args.overwrite:
        raise FileError(f"{target} exists: choose another name, or add --overwrite")


def _folder(args: argparse.Namespace) -> Path:
    """Return the folder of the results; refuse one with a report in it before the work is done."""
    if args.out is not None:
        folder = Path(args.out)
        if folder.is_dir() and any(folder.iterdir()) and not args.overwrite:
            raise FileError(f"{folder} is not empty: choose another folder, or add --overwrite")
        return folder
    number = 1
    while (folder := Path(_FOLDER if number == 1 else f"{_FOLDER}-{number}")).exists() and not args.overwrite:
        number += 1
    return folder
