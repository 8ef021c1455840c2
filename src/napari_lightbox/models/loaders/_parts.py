"""One entry of a MONAI bundle's configuration: a name with arguments, of which every one must be known."""

from collections.abc import Callable, Mapping
from typing import Any

from ...errors import InputError
from ..fields import is_number
from ._config import Config, NotKnown

ELSEWHERE = "MONAI itself runs it where it is installed and you trust the bundle"
# Those that only bring files, types and keys into the shape that MONAI works with; their arguments do not matter.
NOTHING = {
    "LoadImage", "EnsureChannelFirst", "AddChannel", "AsChannelFirst", "EnsureType", "ToTensor", "ToDevice",
    "CastToType", "SelectItems", "SaveImage", "Identity", "SqueezeDim", "FromMetaTensor", "ToMetaTensor",
}  # fmt: skip
# Arguments that say for which entry of MONAI's tables a transform is, or how it is computed, not what.
_ALWAYS = ("_target_", "_desc_", "_requires_", "_disabled_", "keys", "allow_missing_keys", "lazy", "dtype", "device")


class Part:
    """One entry with a ``_target_``: takes its arguments, and refuses those that nobody took."""

    def __init__(self, config: Config, raw: Any, place: str) -> None:
        self.config, self.place = config, place
        self.raw = config.raw(raw, place)
        target = self.raw.get("_target_") if isinstance(self.raw, Mapping) else None
        if not isinstance(target, str):
            raise InputError(f"{config.where}: {place} is {str(self.raw)[:80]!r}, not one of MONAI's parts by its name")
        self.target = target
        package, _, name = target.rpartition(".")
        # Names without a package are MONAI's own.
        self.monai = not package or package.partition(".")[0] == "monai"
        self.name = name
        self.taken: set[str] = set(_ALWAYS)

    @property
    def disabled(self) -> bool:
        """Whether the bundle leaves it out."""
        found = self.config.value(self.raw.get("_disabled_", False), self.place)
        return found is True or str(found).lower() == "true"

    def take(self, name: str, default: Any = None) -> Any:
        """Take the value of an argument."""
        self.taken.add(name)
        if name not in self.raw:
            return default
        return self.config.value(self.raw[name], f"{self.place}::{name}")

    def skip(self, *names: str) -> None:
        """Accept arguments that make no difference."""
        self.taken.update(names)

    def wrong(self, name: str, remedy: str) -> InputError:
        """Return the error for an argument."""
        value = str(self.raw.get(name, "missing"))[:80]
        return InputError(f"{self.config.where}: {self.place} ({self.name}) has {name} {value!r}: {remedy}")

    def unknown(self, name: str, known: str = "") -> NotKnown:
        """Return the error for an argument that MONAI may know, and what of it is known here."""
        value = str(self.raw.get(name, "missing"))[:80]
        what = f"{self.place} ({self.name}) has {name} {value!r}"
        return NotKnown(self.config.where, what, f"{known or 'which is not known here'}; {ELSEWHERE}")

    def only(self, name: str, *allowed: Any) -> None:
        """Accept an argument only with these values; the first is the one it has where it is not given."""
        found = self.take(name, allowed[0])
        found = found[0] if isinstance(found, list) and len(found) == 1 else found
        if found not in allowed:
            raise self.unknown(name, f"and only {' or '.join(map(repr, allowed))} is known here")

    def flag(self, name: str, default: bool = False) -> bool:
        """Take a yes or no."""
        found = self.take(name, default)
        if found == "True":
            found = True
        if found is not None and not isinstance(found, bool):
            raise self.wrong(name, "write true or false")
        return bool(found)

    def number(self, name: str, default: float | None = None) -> float | None:
        """Take a number, or None."""
        found = self.take(name, default)
        if found is not None and not is_number(found):
            raise self.wrong(name, "give a number")
        return found

    def numbers(self, name: str, *, whole: bool = False) -> tuple | float | None:
        """Take a number, or one for each axis as a tuple, or None."""
        found = self.take(name)
        each = found if isinstance(found, list) else [found]
        right = all(is_number(v) and (not whole or int(v) == v) for v in each) and len(each) in (1, 2, 3)
        if found is not None and not right:
            raise self.wrong(name, f"give {'whole numbers' if whole else 'numbers'}, one for each axis")
        return tuple(found) if isinstance(found, list) and len(found) > 1 else each[0]

    def finish(self) -> None:
        """Refuse arguments that nobody took."""
        unknown = sorted(name for name in set(self.raw) - self.taken if self.raw[name] is not None)
        if unknown:
            raise self.unknown(unknown[0])


def entries(config: Config, name: str) -> list[Any]:
    """Return the transforms of ``preprocessing`` or ``postprocessing`` as they are written.

    Raises
    ------
    NotKnown
        If it is no list of transforms.
    """
    if name not in config.tree:
        return []
    raw = config.raw("@" + name, name)
    if isinstance(raw, Mapping):
        whole = Part(config, raw, name)
        if whole.name != "Compose" or not whole.monai:
            raise NotKnown(config.where, f"{name} is {whole.target!r}", f"where Compose is needed; {ELSEWHERE}")
        raw = config.raw(whole.raw.get("transforms", []), f"{name}::transforms")
    if not isinstance(raw, list):
        what = f"{name} is {str(raw)[:80]!r}"
        raise NotKnown(config.where, what, f"where a list of transforms is needed; {ELSEWHERE}")
    return raw


def read_each(config: Config, name: str, known: Mapping, read: Callable[[Part, str], None], missed: list[str]) -> None:
    """Read every transform of a list, by its name without MONAI's endings, and note in `missed` what is not understood.

    Parameters
    ----------
    known : mapping
        Names that `read` understands; those of `NOTHING` are left out.
    read : callable
        Takes a part and its name, and every argument of it.
    """
    try:
        raws = entries(config, name)
    except NotKnown as error:
        missed.append(error.what)
        return
    for number, raw in enumerate(raws):
        try:
            part = Part(config, raw, f"{name}::transforms::{number}")
            if part.disabled:
                continue
            short = short_name(part)
            if not part.monai or (short not in known and short not in NOTHING):
                raise NotKnown(config.where, f"{name} names the transform {part.target!r}", ELSEWHERE)
            if short in known:
                read(part, short)
                part.finish()
        except NotKnown as error:
            missed.append(error.what)


def short_name(part: Part) -> str:
    """Return the name of a transform without MONAI's endings."""
    return part.name.removesuffix("Dict").removesuffix("D").removesuffix("d")
