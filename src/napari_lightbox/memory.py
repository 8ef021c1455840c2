"""How much memory is free, asked before much of it is needed."""

import os
from pathlib import Path


def free_memory() -> int | None:
    """Return how many bytes of memory are free, or None where the system does not say."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    except OSError:
        found.extend(_free_elsewhere())
    found.extend(_free_in_container(Path("/sys/fs/cgroup")))
    return max(0, min(found)) if found else None


def _free_in_container(group: Path) -> list[int]:
    """Return what a container is still allowed, which may be less than the machine has."""
    try:
        allowed, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        lines = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        # Files that the system keeps in memory count as used, but give way.
        cached = sum(int(size) for name, size in lines if name in ("active_file", "inactive_file"))
    except (OSError, ValueError):
        return []
    return [allowed - used + cached]


def _free_elsewhere() -> list[int]:
    """Ask systems that have no /proc."""
    for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"):
        try:
            return [os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")]
        except (AttributeError, OSError, ValueError):
            continue
    if os.name == "nt":
        import ctypes

        status = (ctypes.c_ulonglong * 8)(64)  # MEMORYSTATUSEX: length and load share the first 8 bytes
        if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            return [int(status[2])]
    return []
