"""Looking into a model's zip archive before anything of it is opened.

Compiled code, and pickles that name anything but tensors and the archive's own classes, are refused whether the file
is trusted or not: no network needs them.
"""

import io
import pickletools
import re
import zipfile
from pathlib import Path

from ...errors import FileError

_COMPILED = re.compile(r"\.(so(\.\d+)*|dll|dylib|pyd|exe|o|a|cubin|sh|bat|pyc)$", re.IGNORECASE)
_HARMLESS = re.compile(
    r"__torch__(\.\w+)* \w+|collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)"
    r"|torch\.jit\._pickle (build_\w+list|build_tensor_from_id|restore_type_tag)"
    r"|torch (\w+Storage|Size|device|(b?float|u?int|complex|bool)\w*)"
)
_NAMES = ("GLOBAL", "INST")
_HIDDEN = ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4")
_LARGEST_PICKLE = 1 << 28


def check(path: Path) -> None:
    """Refuse an archive that holds what no network needs.

    Parameters
    ----------
    path : Path
        A ``.pt``, ``.ts`` or ``.pt2`` file.

    Raises
    ------
    FileError
        If the file is no zip archive, is damaged, or holds compiled code or a pickle that names anything strange.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive, path)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise FileError(f"weights {path} are no readable archive ({error}): fetch the file again") from error


def _check(archive: zipfile.ZipFile, path: Path) -> None:
    for member in archive.infolist():
        name = member.filename
        if _COMPILED.search(name):
            raise FileError(
                f"weights {path} hold compiled code ({name}), which is never run, trusted or not: export the model "
                "without compiling it (torch.export, TorchScript), or save its weights as safetensors"
            )
        if name.endswith((".pkl", ".pickle")):
            if member.file_size > _LARGEST_PICKLE:
                raise FileError(f"weights {path} hold a pickle of {member.file_size} bytes ({name}): no network does")
            _check_pickle(archive.read(member), name, path)
        elif name.endswith((".pt", ".pth")) and member.file_size:
            content = io.BytesIO(archive.read(member))
            if not zipfile.is_zipfile(content):
                _check_pickle(content.getvalue(), name, path)
                continue
            with zipfile.ZipFile(content) as inner:
                _check(inner, path)


def _check_pickle(content: bytes, member: str, path: Path) -> None:
    try:
        strange = _strange(content)
    except Exception as error:  # a damaged pickle may raise anything
        raise FileError(f"weights {path} hold a damaged pickle ({member}): fetch the file again") from error
    if strange is not None:
        raise FileError(
            f"weights {path} hold a pickle ({member}) that calls {strange}, which is never run, trusted or not: save "
            "the weights as safetensors or as a plain state dict"
        )


def _strange(content: bytes) -> str | None:
    """Return the first name in a pickle that is not known to be harmless."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in _NAMES and not _HARMLESS.fullmatch(str(argument)):
            return str(argument).replace(" ", ".")
        if opcode.name in _HIDDEN:
            # Such names are put together while the pickle runs; torch writes none of these.
            return "something by a hidden name"
    return None
