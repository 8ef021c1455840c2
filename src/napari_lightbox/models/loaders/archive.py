"""Looking into a model's zip archive before anything of it is opened.

Compiled code, source that torch would compile, and pickles that name anything but tensors and the archive's own classes
are refused whether the file is trusted or not: no network needs them. A member that has no place in such a file is
refused, too, and so is an archive that Python and torch's own reader would not read alike.
"""

import io
import json
import pickletools
import re
import zipfile
import zlib
from pathlib import Path

from ...errors import FileError
from ..torch_import import import_torch

# Where the parts of TorchScript and of torch.export lie; whatever else there is, torch could be made to run.
_PLACES = re.compile(
    r"(data|constants|traced_inputs)\.pkl|(data|constants|traced_inputs)/[\w.]+|code/.+\.(py|debug_pkl)|version|byteorder"
    r"|\.data/(version|serialization_id)|attributes\.pkl|bytecode\.pkl|\.format_version|extra/[\w.-]+|models/[\w.-]+\.json"
    r"|data/(weights|constants|sample_inputs)/[\w.-]+|archive_(format|version)"
)
_COMPILED = re.compile(r"\.(so(\.\d+)*|dll|dylib|pyd|exe|o|a|cubin|sh|bat|pyc|c|cc|cpp|cu|h)$", re.IGNORECASE)
_HARMLESS = re.compile(
    r"__torch__(\.\w+)* \w+|collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)"
    r"|torch\.jit\._pickle (build_\w+list|build_tensor_from_id|restore_type_tag)"
    r"|torch (\w+Storage|Size|device|(b?float|u?int|complex|bool)\w*)"
)
# Operations of torch that write a file, or read one that the author names.
_FILES = re.compile(rb"\b(?:torch|aten)(?:\.|::)(save|from_file|load)\b")
_NAMES = ("GLOBAL", "INST")
_HIDDEN = ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4")
_LARGEST_PICKLE = 1 << 28
# torch does not compress what it writes, so that what an archive holds is about as large as itself.
_MOST_FOR_NOTHING = 64 << 20
_MOST_TIMES = 8
# Names that torch gives to tensors; others are objects, which it unpickles.
_TENSOR = re.compile(r"(weight|tensor)_\d+")


def check(path: Path) -> None:
    """Refuse an archive that holds what no network needs.

    Parameters
    ----------
    path : Path
        A ``.pt``, ``.ts`` or ``.pt2`` file.

    Raises
    ------
    FileError
        If the file is no zip archive, is damaged, or holds compiled code, or a pickle that names anything strange.
    MissingPart
        If torch is not installed.
    """
    torch = import_torch("Loading a network")
    require_size(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [member.filename for member in archive.infolist()]
            _require_one_reading(archive, names, path)
            reader = torch._C.PyTorchFileReader(str(path))
            # torch leaves out the folder that all members lie in.
            listed = sorted(reader.get_all_records())
            if sorted(name.partition("/")[2] for name in names) != listed:
                raise FileError(f"weights {path} are two archives in one: fetch the file from where it was made")
            _check(archive, path)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"weights {path} are no readable archive ({_first(error)}): fetch the file again") from error
    except MemoryError as error:
        raise FileError(f"weights {path} do not fit in memory: no network needs that") from error


def require_size(path: Path) -> None:
    """Refuse an archive that would unpack to far more than it is; what is no archive passes.

    Raises
    ------
    FileError
        If its members together are several times as large as the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return
    if size > _MOST_FOR_NOTHING + _MOST_TIMES * path.stat().st_size:
        raise FileError(
            f"weights {path} would unpack to {size >> 20} MB, far more than the file is, which no network needs: fetch "
            "the file from where it was made"
        )


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _require_one_reading(archive: zipfile.ZipFile, names: list[str], path: Path) -> None:
    """Refuse archives that programs may read in two ways."""
    offsets = [member.header_offset for member in archive.infolist()]
    if not offsets or min(offsets) != 0 or len(set(names)) != len(names):
        raise FileError(f"weights {path} are no plain archive: fetch the file from where it was made")


def _check(archive: zipfile.ZipFile, path: Path) -> None:
    for member in archive.infolist():
        name = member.filename
        inside = name.partition("/")[2]
        if _COMPILED.search(name) or "aotinductor" in name.lower():
            raise FileError(
                f"weights {path} hold compiled code ({name}), which is never run, trusted or not: export the model "
                "without compiling it (torch.export, TorchScript), or save its weights as safetensors"
            )
        if not _PLACES.fullmatch(inside):
            raise FileError(
                f"weights {path} hold {name}, which is no part of a network and never run, trusted or not: save the "
                "model again with torch.jit.save or torch.export.save"
            )
        if re.search(r"/(code/.+\.py|models/[\w.-]+\.json)$", name):
            _check_code(archive.read(member), name, path)
        if name.endswith("_config.json"):
            _check_config(archive.read(member), name, path)
        elif name.endswith((".pt", ".pth")) and member.file_size:
            _check_nested(archive, member, path)
        elif name.endswith((".pkl", ".pickle")):
            _read_pickle(archive, member, path)


def _check_code(content: bytes, member: str, path: Path) -> None:
    """Refuse networks that open files by themselves."""
    found = _FILES.search(content)
    if found is not None:
        raise FileError(
            f"weights {path} hold a network that opens files ({found.group().decode()} in {member}), which is never "
            "run, trusted or not: no network needs files of its own"
        )


def _check_nested(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    if member.file_size > _LARGEST_PICKLE:
        raise FileError(f"weights {path} hold an archive of {member.file_size} bytes in themselves: no network does")
    content = io.BytesIO(archive.read(member))
    if not zipfile.is_zipfile(content):
        _check_pickle(content.getvalue(), member.filename, path)
        return
    with zipfile.ZipFile(content) as inner:
        _require_one_reading(inner, [m.filename for m in inner.infolist()], path)
        for part in inner.infolist():
            if _COMPILED.search(part.filename):
                raise FileError(f"weights {path} hold compiled code ({part.filename}), never run, trusted or not")
            if part.filename.endswith(".pkl"):
                _read_pickle(inner, part, path)


def _read_pickle(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    if member.file_size > _LARGEST_PICKLE:
        raise FileError(f"weights {path} hold a pickle of {member.file_size} bytes ({member.filename}): none needs it")
    _check_pickle(archive.read(member), member.filename, path)


def _check_config(content: bytes, member: str, path: Path) -> None:
    """Refuse tables that tell torch to unpickle what they name."""
    try:
        entries = json.loads(content).get("config", {})
        named = [(entry.get("path_name", ""), entry.get("use_pickle", False)) for entry in entries.values()]
    except (ValueError, AttributeError) as error:
        raise FileError(f"weights {path} hold a damaged table ({member}): fetch the file again") from error
    bad = next((str(name) for name, pickled in named if pickled or not _TENSOR.fullmatch(str(name))), None)
    if bad is not None:
        raise FileError(
            f"weights {path} hold an object that would be unpickled ({bad}), which is never run, trusted or not: "
            "export the network with tensors only"
        )


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
