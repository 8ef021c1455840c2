"""Import torch without stopping the other threads.

Python opens a library's compiled part while it holds the interpreter lock: for torch that is a third of a second and
more, in which no window is redrawn. Opening the same file beforehand through the system's own ``dlopen``, which
ctypes calls without the lock, leaves Python nothing to wait for. The collector of garbage is kept away from the many
objects that the import makes.
"""

import ctypes
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from ..collector import many_lasting_objects
from ..errors import need


def import_torch(purpose: str = "Inference") -> ModuleType:
    """Return torch; other threads go on while it is loaded.

    Parameters
    ----------
    purpose : str
        What it is needed for, as the subject of the sentence that says it is missing.

    Raises
    ------
    MissingPart
        If torch is not installed.

    Examples
    --------
    >>> import_torch().__name__
    'torch'
    """
    if "torch" in sys.modules:
        return need("torch", purpose)
    _open_libraries()
    with many_lasting_objects():
        return need("torch", purpose)


def _open_libraries() -> None:
    """Open torch's library where the system allows; whatever fails here is left to the import itself."""
    if not hasattr(os, "RTLD_LAZY"):
        return
    found = importlib.util.find_spec("torch")
    if found is None or not found.origin:
        return
    suffix = ".dylib" if sys.platform == "darwin" else ".so"
    library = Path(found.origin).parent / "lib" / f"libtorch_python{suffix}"
    if not library.is_file():
        return
    try:
        system_open = ctypes.CDLL(None).dlopen
    except (OSError, AttributeError):
        return
    system_open.restype, system_open.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
    system_open(os.fsencode(library), os.RTLD_LAZY)
