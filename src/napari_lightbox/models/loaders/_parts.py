"""One entry of a MONAI bundle's configuration: a name with arguments, of which every one must be known."""

from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import InputError
from ..fields import is_number
from ._config import Config

ELSEWHERE = "run the bundle with MONAI, and open what it writes with 'lightbox outputs'"
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

    def only(self, name: str, *allowed: Any) -> None:
        """Accept an argument only with these values; the first is the one it has where it is not given."""
        found = self.take(name, allowed[0])
        found = found[0] if isinstance(found, list) and len(found) == 1 else found
        if found not in allowed:
            raise self.wrong(name, f"only {' or '.join(map(repr, allowed))} is known here; {ELSEWHERE}")

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
            raise self.wrong(unknown[0], f"this argument is not known here; {ELSEWHERE}")


def parts(config: Config, name: str) -> Iterator[tuple[Part, str]]:
    """Yield the transforms of ``preprocessing`` or ``postprocessing``, with their names without MONAI's endings."""
    if name not in config.tree:
        return
    raw = config.raw("@" + name, name)
    if isinstance(raw, Mapping):
        whole = Part(config, raw, name)
        if whole.name != "Compose" or not whole.monai:
            raise InputError(f"{config.where}: {name} is {whole.target!r}, where Compose is needed; {ELSEWHERE}")
        raw = config.raw(whole.raw.get("transforms", []), f"{name}::transforms")
    if not isinstance(raw, list):
        raise InputError(f"{config.where}: {name} is {str(raw)[:80]!r}, where a list of transforms is needed")
    for number, one in enumerate(raw):
        part = Part(config, one, f"{name}::transforms::{number}")
        if part.disabled:
            continue
        if not part.monai:
            raise InputError(f"{config.where}: {name} names {part.target!r}, which is not MONAI's own; {ELSEWHERE}")
        yield part, part.name.removesuffix("Dict").removesuffix("D").removesuffix("d")
