"""A store of zarr in one file that has no name: nothing is left of it once nobody uses it."""

import os
import tempfile
import threading
import weakref
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype


class OneFile(Store):
    """Chunks one after another in a temporary file; where each lies is known in memory only.

    A chunk that is written again takes its old place if it fits in; if not, the smallest that has become free, or a new
    one at the end.
    """

    supports_writes = True
    supports_deletes = True
    supports_partial_writes = False
    supports_listing = True

    def __init__(self) -> None:
        super().__init__(read_only=False)
        self.folder = tempfile.gettempdir()
        handle, name = tempfile.mkstemp(prefix="lightbox-", suffix=".zarr")
        with suppress(OSError):
            # Windows keeps the name of a file that is in use.
            os.unlink(name)
            name = ""
        self._handle, self.size = handle, 0
        # Name: offset, bytes, bytes that there is room for; and what no name needs any more, as room and offset.
        self._places: dict[str, tuple[int, int, int]] = {}
        self._free: list[tuple[int, int]] = []
        self._guard = threading.Lock()
        self._is_open = True
        weakref.finalize(self, _close, handle, name)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"OneFile({self.size} bytes)"

    def __deepcopy__(self, memo: dict) -> "OneFile":
        return self

    def with_read_only(self, read_only: bool = False) -> "OneFile":
        """Return the store itself: nobody else can have it open."""
        return self

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return what is stored under a key, or a part of it."""
        with self._guard:
            place = self._places.get(key)
        if place is None:
            return None
        start, stop = _limits(byte_range, place[1])
        return prototype.buffer.from_bytes(_read(self._handle, stop - start, place[0] + start))

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return parts of what is stored under several keys."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether there is something under a key."""
        return key in self._places

    async def set(self, key: str, value: Buffer) -> None:
        """Store bytes under a key."""
        data = value.to_bytes()
        with self._guard:
            offset, room = self._room(key, len(data))
            self._places.pop(key, None)
        _write(self._handle, data, offset)
        with self._guard:
            self._places[key] = (offset, len(data), room)

    def _room(self, key: str, count: int) -> tuple[int, int]:
        """Return a place for some bytes, offset and room."""
        if key in self._places:
            offset, _, room = self._places[key]
            if room >= count:
                return offset, room
            self._free.append((room, offset))
        found = min((place for place in self._free if place[0] >= count), default=None)
        if found is not None:
            self._free.remove(found)
            return found[1], found[0]
        self.size += count
        return self.size - count, count

    async def set_partial_values(self, key_start_values: Iterable[tuple[str, int, Any]]) -> None:
        """Refuse: chunks are written whole."""
        raise NotImplementedError("chunks are written whole")

    async def delete(self, key: str) -> None:
        """Forget what is stored under a key."""
        with self._guard:
            place = self._places.pop(key, None)
            if place is not None:
                self._free.append((place[2], place[0]))

    async def list(self) -> AsyncIterator[str]:
        """Give all keys."""
        for key in [*self._places]:
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Give all keys that begin with a prefix."""
        for key in [*self._places]:
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Give the names that follow a prefix, up to the next slash."""
        start = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
        for name in dict.fromkeys(key[len(start) :].split("/")[0] for key in [*self._places] if key.startswith(start)):
            yield name


def _limits(part: ByteRequest | None, length: int) -> tuple[int, int]:
    if isinstance(part, RangeByteRequest):
        return part.start, min(part.end, length)
    if isinstance(part, OffsetByteRequest):
        return min(part.offset, length), length
    if isinstance(part, SuffixByteRequest):
        return max(0, length - part.suffix), length
    return 0, length


_seeking = threading.Lock()


def _read(handle: int, count: int, offset: int) -> bytes:
    parts = []
    while count > 0:
        if hasattr(os, "pread"):
            part = os.pread(handle, count, offset)
        else:
            with _seeking:
                os.lseek(handle, offset, os.SEEK_SET)
                part = os.read(handle, count)
        if not part:
            raise OSError("the temporary file is shorter than it was")
        parts.append(part)
        count, offset = count - len(part), offset + len(part)
    return b"".join(parts)


def _write(handle: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while len(rest):
        if hasattr(os, "pwrite"):
            done = os.pwrite(handle, rest, offset)
        else:
            with _seeking:
                os.lseek(handle, offset, os.SEEK_SET)
                done = os.write(handle, rest)
        rest, offset = rest[done:], offset + done


def _close(handle: int, name: str) -> None:
    with suppress(OSError):
        os.close(handle)
    if name:
        with suppress(OSError):
            os.unlink(name)
