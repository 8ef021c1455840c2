"""Volumes and arrays that no one tidied up."""

import numpy as np
from hypothesis import strategies as st

from napari_lightbox import Frames, Grid, Volume

SHAPES = [
    (1, 1, 1),
    (1, 6, 7),
    (6, 1, 7),
    (6, 7, 1),
    (1, 1, 9),
    (5, 6, 7),
    (3, 2, 2),
    (2, 4, 5, 6),
    (1, 1, 5, 6),
    (3, 1, 1, 1),
]
DTYPES = ["?", "b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d", ">h", ">f", "<i"]
CONTENTS = ["noise", "constant", "zero", "two values", "nan", "inf", "all nan", "huge", "tiny", "extremes", "ramp"]
LAYOUTS = ["C", "fortran", "strided", "backwards", "read-only", "dask"]


def content(kind: str, shape: tuple[int, ...], dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    """Return an array of that shape and type; what a type cannot hold becomes noise."""
    noise = rng.normal(0, 60, shape) if dtype.kind in "if" else rng.integers(0, 2 if dtype.kind == "b" else 200, shape)
    if dtype.itemsize == 1:
        noise = np.clip(noise, -100, 100)
    data = noise.astype(dtype)
    if kind in ("constant", "zero"):
        data[...] = 0 if kind == "zero" else 7
    elif kind == "two values":
        data[...] = rng.random(shape) < 0.3
    elif kind == "ramp":
        data[...] = np.arange(data.size).reshape(shape) % 100
    elif kind == "extremes" and dtype.kind in "iu":
        data[rng.random(shape) < 0.3] = np.iinfo(dtype).max
        data[rng.random(shape) < 0.3] = np.iinfo(dtype).min
    elif dtype.kind == "f" and kind in ("nan", "inf", "all nan", "huge", "tiny"):
        where = rng.random(shape) < 0.2
        if kind == "nan":
            data[where] = np.nan
        elif kind == "inf":
            data[where] = np.where(rng.random(where.sum()) < 0.5, np.inf, -np.inf)
        elif kind == "all nan":
            data[...] = np.nan
        elif kind == "huge":
            data *= np.asarray(float(np.finfo(dtype).max) / 1000, dtype)
        else:
            data *= np.asarray(np.finfo(dtype).tiny, dtype)
    return data


def laid_out(data: np.ndarray, layout: str):
    """Return the same values in another layout, or owned by another library."""
    if layout == "fortran":
        return np.asfortranarray(data)
    if layout == "strided":
        return np.repeat(data, 2, axis=-1)[..., ::2]
    if layout == "backwards":
        back = (slice(None, None, -1),) * data.ndim
        return data[back].copy()[back]
    if layout == "read-only":
        data.flags.writeable = False
    if layout == "dask":
        import dask.array

        return dask.array.from_array(data, chunks=3)
    return data


@st.composite
def arrays(draw, shapes=SHAPES, dtypes=DTYPES):
    """Draw an array."""
    shape, dtype = draw(st.sampled_from(shapes)), np.dtype(draw(st.sampled_from(dtypes)))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    return laid_out(content(draw(st.sampled_from(CONTENTS)), shape, dtype, rng), draw(st.sampled_from(LAYOUTS)))


@st.composite
def grids(draw, shape):
    """Draw a grid: straight, oblique or left-handed, with spacings from the smallest to the largest that are met."""
    spacing = draw(st.sampled_from([(1, 1, 1), (3, 1.5, 1), (0.01, 0.02, 0.05), (40, 0.5, 0.5)]))
    angle = draw(st.sampled_from([0.0, 0.4]))
    c, s = np.cos(angle), np.sin(angle)
    direction = np.array([[c, -s, 0], [s, c, 0], [0, 0, draw(st.sampled_from([1, -1]))]])
    frames = Frames("time", tuple(range(shape[0])), "s") if len(shape) == 4 else None
    return Grid.from_spacing(spacing, shape, (10, -20, 5), direction, frames)


@st.composite
def volumes(draw, kinds=("image",)):
    """Draw a volume of one of the kinds."""
    kind = draw(st.sampled_from(kinds))
    whole = [d for d in DTYPES if np.dtype(d).kind in "bui"]
    data = draw(arrays(dtypes=whole if kind == "labels" else DTYPES))
    meta = {"spacing_known": draw(st.booleans()), "orientation_known": draw(st.booleans())}
    return Volume(data, draw(grids(tuple(data.shape))), kind, name="odd", meta=meta)
