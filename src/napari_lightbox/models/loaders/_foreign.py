"""What of a MONAI bundle is not understood here: what MONAI would run of it, and running that with the user's trust.

With trust, MONAI's own parser makes the network, the transforms and the inferer of what the bundle says, and that runs
code: expressions, and the bundle's own scripts. Trust goes by the SHA-256 of all files but pictures. What
no bundle needs is refused in any case, so that a mistake costs less: names outside of MONAI, torch, numpy and the
bundle's own scripts, hidden names, other files, compiled code.
"""

import ast
import builtins
import copy
import hashlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import FileError, InputError, need
from ..card import file_sha256
from ._config import Config, NotKnown
from ._parts import Part, entries, short_name

# Transforms that read or write files, or give an image its channels: images come from us, and results go to us.
_OURS = {
    "preprocessing": ("LoadImage", "EnsureChannelFirst", "AddChannel", "AsChannelFirst"),
    "postprocessing": ("SaveImage", "SaveClassification"),
}
_PACKAGES = ("monai", "torch", "numpy", "ignite", "scipy", "skimage")
_COMPILED = re.compile(r"\.(so(\.\d+)*|dll|dylib|pyd|pyc)$", re.IGNORECASE)
_SCRIPTS = (".py", ".pyw")
# Images and texts for readers, which may be many beside a bundle, and are never taken for code or settings.
_PICTURE = re.compile(r"\.(nii|nii\.gz|dcm|nrrd|mha|png|jpe?g|gif|md)$", re.IGNORECASE)
# What programs that do harm begin with, and what no description of an image's way does.
_NEVER = {
    "eval", "exec", "compile", "open", "getattr", "setattr", "delattr", "globals", "locals", "vars", "breakpoint",
    "**", "load", "loads", "hub", "system", "popen", "Popen", "unlink", "rmtree", "subprocess", "ctypes", "pickle",
}  # fmt: skip
_REFERENCE = re.compile(r"@(\w+)")
_LOCK = threading.RLock()


# What would run -------------------------------------------------------------------------------------------------


def needed(config: Config, roots: Sequence[str]) -> dict[str, Any]:
    """Return the entries that `roots` refer to, directly or not, and what is imported; a copy.

    Transforms that read or write files do nothing in it.
    """
    tree = dict(config.tree)
    for name in ("preprocessing", "postprocessing"):
        if name in tree and name in roots:
            tree[name] = _without_files(config, name)
    found: dict[str, Any] = {}
    wanted = ["imports", *roots]
    while wanted:
        name = wanted.pop()
        if name in tree and name not in found:
            found[name] = copy.deepcopy(tree[name])
            wanted += [other for text in _texts(tree[name]) for other in _REFERENCE.findall(text)]
    return found


def own_modules(folder: Path) -> set[str]:
    """Return the names under which a bundle's own scripts can be imported."""
    files = {path.stem for path in folder.glob("*.py")}
    return files | {path.name for path in folder.iterdir() if path.is_dir() and any(path.rglob("*.py"))}


def _texts(raw: Any) -> Iterator[str]:
    if isinstance(raw, str):
        yield raw
    elif isinstance(raw, Mapping):
        for key, one in raw.items():
            yield from (str(key), *_texts(one))
    elif isinstance(raw, list):
        for one in raw:
            yield from _texts(one)


def _tables(raw: Any) -> Iterator[Mapping]:
    if isinstance(raw, Mapping):
        yield raw
    for one in raw.values() if isinstance(raw, Mapping) else raw if isinstance(raw, list) else ():
        yield from _tables(one)


def require_harmless_names(tree: Mapping[str, Any], folder: Path, where: str) -> None:
    """Refuse what no bundle needs, trusted or not, in the entries that MONAI would run.

    Raises
    ------
    InputError
        If something names code outside of MONAI, torch, numpy and the bundle's own scripts, a hidden name, or a file.
    """
    own = own_modules(folder)
    for table in _tables(tree):
        target = table.get("_target_")
        if isinstance(target, str) and not target.startswith(("$", "@")):
            _require_target(target, own, where)
        if table.get("_mode_") == "debug":
            raise InputError(f"{where}: _mode_ is 'debug', which stops the program: leave it out")
    for text in _texts(tree):
        if text.startswith("%"):
            raise InputError(f"{where}: {text[:80]!r} takes another file in: write its content")
        if text.startswith("$"):
            _require_expression(text, own, where)


def _require_target(target: str, own: set[str], where: str) -> None:
    top, *rest = target.split(".")
    known = top in own | set(_PACKAGES) if rest else not hasattr(builtins, top)
    if not known or _strange(target.split(".")):
        raise InputError(
            f"{where}: it names {target!r}, which is neither of MONAI, torch and numpy nor in the bundle's scripts, "
            "and never run, trusted or not: take it out, or copy the whole bundle"
        )


def _require_expression(text: str, own: set[str], where: str) -> None:
    try:
        tree = ast.parse(re.sub(r"@+[\w:#]*", "_reference", text[1:].strip()))
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise InputError(f"{where}: the expression {text[:80]!r} cannot be read: correct it") from error
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names.append(node.id)
        elif isinstance(node, ast.Attribute):
            names.append(node.attr)
        elif isinstance(node, ast.Pow):
            names.append("**")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "__" in node.value:
            names.append(node.value)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names += [part for one in node.names for part in one.name.split(".")]
    if _strange(names):
        raise InputError(
            f"{where}: the expression {text[:80]!r} reaches for {_strange(names)!r}, which no bundle needs and which "
            "is never run, trusted or not: take it out"
        )


def _strange(names: Sequence[str]) -> str | None:
    return next((name for name in names if "__" in name or name in _NEVER), None)


def hashes(folder: Path, weights: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a bundle that may run or decide, by its place: of all but pictures.

    Scripts may open any other file, and to open one may be to run it.

    Raises
    ------
    FileError
        If the bundle holds compiled code, scripts that lie elsewhere, or ones that stand in for a library.
    """
    found: list[Path] = [weights]
    for name in own_modules(folder):
        if name in sys.stdlib_module_names or name in _PACKAGES:
            raise FileError(f"the bundle {folder} holds {name}, which stands in for a library: rename it")
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", ".git"))
        for name in (*folders, *files):
            path = here / name
            if _COMPILED.search(name):
                raise FileError(f"the bundle {folder} holds compiled code ({name}), which is never run, trusted or not")
            code = path.suffix in _SCRIPTS or path.is_dir() or here.name == "configs"
            if code and path.is_symlink():
                raise FileError(f"the bundle {folder} holds a link ({name}) to code elsewhere: copy the file there")
            if path.is_file() and path != weights and (code or not _PICTURE.search(name)):
                found.append(path)
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in found}


def sha256_of(known: Mapping[str, str]) -> str:
    """Return the one SHA-256 of a bundle, of those of its files."""
    lines = sorted(f"{place} {one}" for place, one in known.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def scripts_in(known: Mapping[str, str]) -> dict[str, str]:
    """Return the SHA-256 of a bundle's scripts, of those of all its files."""
    return {place: one for place, one in known.items() if place.endswith(_SCRIPTS)}


def _require_unchanged(folder: Path, scripts: Mapping[str, str]) -> None:
    """Refuse scripts that are others than those that were trusted."""
    paths = [path for path in folder.rglob("*") if path.suffix in _SCRIPTS and path.is_file()]
    places = {path.relative_to(folder).as_posix(): path for path in paths}
    places = {place: path for place, path in places.items() if not {"__pycache__", ".git"} & {*place.split("/")}}
    if {place: file_sha256(path) for place, path in places.items()} != scripts:
        raise FileError(f"the scripts of the bundle {folder} changed since it was loaded: load it again")


# Running it -----------------------------------------------------------------------------------------------------


@contextmanager
def scripts_of(folder: Path, scripts: Mapping[str, str]) -> Iterator[None]:
    """Let the bundle's own scripts be imported, and only its own: those of another bundle may have the same names.

    Nothing compiled is taken from the folder or left in it.

    Raises
    ------
    FileError
        If they have another SHA-256 than `scripts` says: imported late, they would run without trust.
    """
    with _LOCK, tempfile.TemporaryDirectory(prefix="lightbox-") as cache:
        _require_unchanged(folder, scripts)
        before = sys.path[:], sys.pycache_prefix
        own = own_modules(folder)
        hidden = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in own}
        for name in hidden:
            del sys.modules[name]
        sys.path.insert(0, str(folder))
        sys.pycache_prefix = cache
        try:
            yield
        finally:
            sys.path[:], sys.pycache_prefix = before
            for name in [name for name in sys.modules if name.partition(".")[0] in own]:
                del sys.modules[name]
            sys.modules.update(hidden)


@dataclass(frozen=True, eq=False)
class Parsed:
    """The parts of a bundle that MONAI made.

    Parameters
    ----------
    folder : Path
        The bundle.
    where : str
        What errors begin with.
    scripts : mapping of str to str
        SHA-256 of its scripts, which were trusted.
    keys : tuple of str
        What the images are called before the network, in the order of the channels; one name for all together.
    before, after : callable or None
        MONAI's transforms of tables.
    inferer : callable or None
        Where it is not understood here: asks the network about an image.
    network : torch.nn.Module or None
        Without weights, where it is not built here.
    """

    folder: Path
    where: str
    scripts: Mapping[str, str]
    keys: tuple[str, ...] = ("image",)
    before: Callable | None = None
    after: Callable | None = None
    inferer: Callable | None = None
    network: Any = None

    def call(self, what: str, *given: Any) -> Any:
        """Call one of the parts; whatever it says of a failure is told in one sentence."""
        part = getattr(self, what)
        if part is None:
            return given[0]
        with (
            telling(f"{self.where}: MONAI failed while it ran its {_SPOKEN[what]}"),
            scripts_of(self.folder, self.scripts),
        ):
            return part(*given)

    def step(self, transform: Callable, held: Any) -> Any:
        """Apply one transform of the preprocessing."""
        name = type(transform).__name__
        with telling(f"{self.where}: MONAI failed while it ran {name}"), scripts_of(self.folder, self.scripts):
            return transform(held)


_SPOKEN = {"before": "preprocessing", "after": "postprocessing", "inferer": "inferer"}


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Turn whatever MONAI or a bundle's code says of a failure into one sentence."""
    from ...progress import Cancelled

    try:
        yield
    except (Cancelled, InputError, FileError, MemoryError):
        raise
    except Exception as error:
        causes, cause = [], error
        while cause is not None:
            causes.append(cause)
            cause = cause.__cause__ or cause.__context__
        said = (str(causes[-1]).strip().splitlines() or [type(causes[-1]).__name__])[0][:200]
        raise InputError(f"{what} ({type(causes[-1]).__name__}: {said}): run it with MONAI to see more") from error


def image_keys(config: Config) -> tuple[str, ...]:
    """Return what the bundle calls its images: the keys that it loads, or those of its first transform."""
    try:
        raws = entries(config, "preprocessing")
    except InputError:
        return ("image",)
    for number, raw in enumerate(raws):
        try:
            keys = Part(config, raw, f"preprocessing::transforms::{number}").take("keys")
        except NotKnown:
            continue
        keys = [keys] if isinstance(keys, str) else keys
        if isinstance(keys, list) and keys and all(isinstance(key, str) for key in keys):
            return tuple(keys)
    return ("image",)


def parse(
    config: Config, folder: Path, scripts: Mapping[str, str], roots: Sequence[str], network: str | None
) -> Parsed:
    """Let MONAI's parser make the transforms and what else `roots` names; only of bundles that are trusted.

    Raises
    ------
    MissingPart
        If MONAI is not installed.
    InputError
        If MONAI cannot make it.
    """
    bundle = need("monai.bundle", f"{config.where[:1].upper()}{config.where[1:]}")
    tree = {**needed(config, roots), "bundle_root": str(folder)}
    if "device" in tree:
        # Images stay in the computer's memory; where the network runs is the user's choice.
        tree["device"] = "$torch.device('cpu')"
    parser = bundle.ConfigParser(tree)
    with telling(f"{config.where}: MONAI cannot make of it what it says"), scripts_of(folder, scripts):
        made = {name: parser.get_parsed_content(name) for name in roots if name in tree}
    return Parsed(
        folder,
        config.where,
        scripts,
        image_keys(config),
        made.get("preprocessing"),
        made.get("postprocessing"),
        made.get("inferer"),
        made.get(network) if network else None,
    )


def _without_files(config: Config, name: str) -> dict[str, Any]:
    """Return a list of transforms in which those that read or write files do nothing; the others keep their places."""
    transforms = []
    try:
        raws = entries(config, name)
    except NotKnown:
        return copy.deepcopy(config.tree[name])
    for number, raw in enumerate(raws):
        try:
            part = Part(config, raw, f"{name}::transforms::{number}")
            ours = part.monai and short_name(part) in _OURS[name]
        except InputError:
            ours = False
        if ours:
            keys = part.raw.get("keys", "image")
            raw = {"_target_": "monai.transforms.Identityd", "keys": keys, "allow_missing_keys": True}
        transforms.append(copy.deepcopy(raw))
    return {"_target_": "monai.transforms.Compose", "transforms": transforms}
