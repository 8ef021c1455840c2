"""What a measurement is made of: our call, the calls of others, and how their results are compared."""

import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import numpy as np

# Module -> name in print, distribution.
LIBRARIES = {
    "SimpleITK": ("SimpleITK", "SimpleITK"),
    "scipy": ("scipy", "scipy"),
    "skimage": ("scikit-image", "scikit-image"),
    "cv2": ("OpenCV", "opencv-python-headless"),
    "cc3d": ("cc3d", "connected-components-3d"),
    "edt": ("edt", "edt"),
    "monai": ("MONAI", "monai"),
    "numpy": ("numpy", "numpy"),
    "sys": ("plain Python", ""),
}


@dataclass(frozen=True)
class Verdict:
    """Whether two results count as the same, and what to print."""

    same: bool
    text: str


Compare = Callable[[Any, Any], Verdict]


@dataclass(frozen=True)
class Peer:
    """Another way to the same result.

    Parameters
    ----------
    module : str
        The library: one of `LIBRARIES`. Where it is not installed, the peer is named as absent.
    make : callable
        Imports what it needs and returns the call that is timed.
    compare : callable
        From our result and that of the call, a `Verdict`.
    note : str
        What the reader must know: in what the peer does less, or otherwise.
    """

    module: str
    make: Callable[[], Callable[[], Any]]
    compare: Compare
    note: str = ""

    @property
    def name(self) -> str:
        """Name in print."""
        return LIBRARIES[self.module][0]

    @property
    def version(self) -> str | None:
        """Version of the library; None where it is not installed."""
        if self.module == "sys":
            return platform.python_version()
        if importlib.util.find_spec(self.module) is None:
            return None
        return _version_of(self.module)


@cache
def _version_of(module: str) -> str:
    try:
        return importlib.metadata.version(LIBRARIES[module][1])
    except importlib.metadata.PackageNotFoundError:
        # OpenCV comes under several names.
        names = importlib.metadata.packages_distributions().get(module, ())
        return importlib.metadata.version(names[0]) if names else ""


@dataclass(frozen=True)
class Task:
    """A measurement that is ready to begin.

    Parameters
    ----------
    ours : callable
        Our operation.
    peers : list of Peer
        Those who do the same.
    size : str
        What it works on, in print: ``"int16 128x256x256"``.
    moved : int, optional
        Bytes that must be read and written at least: what goes in, once, and what comes out, once. None where that is
        not what limits the work.
    """

    ours: Callable[[], Any]
    peers: list[Peer]
    size: str
    moved: int | None = None


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Parameters
    ----------
    topic : str
        The operation, for ``--only``.
    title : str
        What is measured.
    make : callable
        From a scale (1 for the whole size; edges shrink with it) the `Task`.
    quick : bool
        Whether it is measured by ``--quick`` too.
    """

    topic: str
    title: str
    make: Callable[[float], Task]
    quick: bool = True
    needs: tuple[str, ...] = field(default=())


# Comparing --------------------------------------------------------------------------------------------------------


def exactly(ours: np.ndarray, theirs: np.ndarray) -> Verdict:
    """Equal in every voxel."""
    return within(0)(ours, theirs)


def within(
    tolerance: float,
    *,
    relative: bool = False,
    few: float = 0.0,
    inside: int = 0,
    where: Callable[[], np.ndarray] | None = None,
) -> Compare:
    """Return a comparison that allows for rounding.

    Parameters
    ----------
    tolerance : float
        Largest difference of a voxel.
    relative : bool
        Whether that is a share of the range of our values.
    few : float
        Share of the voxels that may differ by more.
    inside : int
        Voxels left out at every border.
    where : callable, optional
        Gives a mask of the voxels that are compared.
    """

    def compare(ours: np.ndarray, theirs: np.ndarray) -> Verdict:
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        if ours.shape != theirs.shape:
            return Verdict(False, f"shape {theirs.shape} instead of {ours.shape}")
        inner = tuple(slice(inside, n - inside) if n > 2 * inside else slice(None) for n in ours.shape)
        ours, theirs = ours[inner], theirs[inner]
        told = " inside" if inside or where is not None else ""
        if where is not None:
            chosen = where()
            ours, theirs = ours[chosen], theirs[chosen]
        if np.array_equal(ours, theirs):
            return Verdict(True, f"equal{told}")
        apart = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
        allowed = tolerance * (float(np.ptp(ours)) if relative else 1.0)
        more = int(np.count_nonzero(~(apart <= allowed)))
        if more == 0:
            unit = " of the range" if relative else ""
            return Verdict(True, f"within {tolerance:g}{unit}{told}")
        share = f"{100 * more / apart.size:.2g} % of voxels differ, by up to {apart.max():.4g}{told}"
        return Verdict(more <= few * apart.size, share)

    return compare


def same_parts(ours: np.ndarray, theirs: np.ndarray) -> Verdict:
    """Equal but for the numbers of the parts."""
    pairs = np.unique(ours.astype(np.int64).ravel() << 32 | theirs.astype(np.int64).ravel())
    one, other = len(np.unique(pairs >> 32)), len(np.unique(pairs & 0xFFFFFFFF))
    same = len(pairs) == one == other
    return Verdict(same, "equal but for numbers" if same else f"{other - 1} parts instead of {one - 1}")


def not_compared(why: str) -> Compare:
    """Return a comparison that says why there is none."""
    return lambda ours, theirs: Verdict(True, f"not compared: {why}")


# Volumes ----------------------------------------------------------------------------------------------------------


def shape_of(whole: tuple[int, ...], scale: float, least: int = 8) -> tuple[int, ...]:
    """Return a shape with shorter edges."""
    return tuple(min(n, max(least, round(n * scale))) for n in whole)


@lru_cache(maxsize=3)
def scan(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return a seeded volume like a CT: air, a body of organs that lie in each other, smooth parts, noise."""
    rng = np.random.default_rng(20240711)
    axes = [np.linspace(-1, 1, n, dtype=np.float32).reshape([-1 if a == i else 1 for a in range(3)]) for i, n in
            enumerate(shape)]  # fmt: skip
    z, y, x = axes
    image = np.full(shape, -1000, np.float32)
    image[(0.3 * z * z + y * y + 0.8 * x * x) < 0.8] = 40
    organ = (z * z + (y - 0.2) ** 2 + (x - 0.3) ** 2) < 0.3
    image[organ] = 140
    image += 60 * np.sin(9 * z) * np.sin(11 * y) * np.sin(7 * x)
    image += rng.normal(0, 12, shape).astype(np.float32)
    if dtype == "uint8":
        return np.clip((image + 1100) / 6, 0, 255).astype(np.uint8)
    return np.rint(image).astype(dtype) if np.dtype(dtype).kind in "iu" else image.astype(dtype)


def size_text(image: np.ndarray) -> str:
    """Return type and size in print, z first."""
    return f"{image.dtype} {'x'.join(map(str, image.shape))}"
