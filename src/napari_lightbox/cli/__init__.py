"""The command `lightbox`: everything that works without a screen, and the demo."""

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from typing import NoReturn

from .. import __version__
from ..errors import InputError, LightboxError
from ..progress import Cancelled, listening
from . import commands
from .bar import Bar
from .words import typed

_FAILED, _STOPPED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process where not given.

    Returns
    -------
    int
        0 where all went well; 1 where some of several cases failed; 2 where the command could not be done; 130 where
        it was stopped with Ctrl-C.
    """
    process = argv is None
    argv = [*(sys.argv[1:] if argv is None else argv)]
    debug = "--debug" in argv
    argv = [_plain(a) for a in argv if a != "--debug"]
    bar = Bar(sys.stderr)
    try:
        with _interruptible(), _warnings_as_lines(debug):
            args = _parse(argv)
            if args is None:
                return 0
            with listening(bar.listener):
                code = args.run(args)
        sys.stdout.flush()
        return code
    except SystemExit as done:  # --help, --version
        return int(done.code or 0)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python would complain again when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, Cancelled):
        bar.close()
        _say("stopped: unfinished results were not kept")
        if process and "torch" in sys.modules:
            # Its threads are still at work, and would make an end in good order a crash.
            sys.stdout.flush()
            os._exit(_STOPPED)
        return _STOPPED
    except Exception as error:
        bar.close()
        if debug:
            raise
        _say(_sentence(error))
        return _FAILED
    finally:
        bar.close()


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the list of all options."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message.rstrip('.')}: see {self.prog} --help")


def _parse(argv: list[str]) -> argparse.Namespace | None:
    """Read the arguments; only the chosen command brings in what it needs."""
    parser = _Parser(
        prog="lightbox",
        description="Medical volumes: look, filter, segment, run models, and keep every voxel where it was.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"napari-lightbox {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    chosen = next((a for a in argv if not a.startswith("-")), None)
    subparsers = parser.add_subparsers(metavar="COMMAND", title="commands", parser_class=_Parser)
    for name, command in commands.COMMANDS.items():
        sub = subparsers.add_parser(name, help=command.help, description=command.help, allow_abbrev=False)
        if name == chosen:
            command.add_arguments(sub, argv)
            sub.set_defaults(run=command.run)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        # Of the operation where one is chosen, whose help has the options.
        words = [parser.prog, chosen, getattr(args, "operation", None)]
        asked = " ".join(filter(None, words))
        raise InputError(f"unrecognized arguments: {' '.join(a.strip() for a in unknown)}: see {asked} --help")
    if not hasattr(args, "run"):
        parser.print_help()
        return None
    return args


def _plain(argument: str) -> str:
    """Keep argparse from taking ``-12.5,30,7`` for an option: what starts with a blank is a value to it."""
    return f" {argument}" if len(argument) > 1 and argument[0] == "-" and argument[1] in "0123456789." else argument


def _say(sentence: str) -> None:
    print(f"lightbox: {sentence}", file=sys.stderr)


def _sentence(error: Exception) -> str:
    if isinstance(error, LightboxError):
        return typed(str(error))
    if isinstance(error, MemoryError):
        return "the memory of this computer does not suffice: work on a smaller or coarser volume"
    text = " ".join(str(error).split()) or "no message"
    return f"failed unexpectedly ({type(error).__name__}: {text[:300]}): add --debug to see where"


@contextmanager
def _interruptible():
    """Let a polite request to end (SIGTERM) clean up as Ctrl-C does."""
    try:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _warnings_as_lines(debug: bool):
    """Show what readers warn of as one line; what libraries tell their developers only where asked for."""
    with warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", category=UserWarning, module=r"napari_lightbox\.")
            warnings.filterwarnings("default", category=UserWarning, module=r"__main__")
        warnings.showwarning = lambda message, *_, **__: _say(f"warning: {typed(str(message))}")
        yield


if __name__ == "__main__":
    sys.exit(main())
