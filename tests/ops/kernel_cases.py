"""Images of every kind for the tests of kernels, and a way to compute the same with and without them."""

import numpy as np

MODES = ("reflect", "nearest", "mirror", "constant", "wrap")


def image_of(rng, shape, dtype):
    """Return numbers of the whole range of a type, or few different ones, in any memory layout, not to be written."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        image = (rng.normal(size=shape) * 50).astype(dtype)
        if rng.random() < 0.3:
            image[rng.random(shape) < 0.05] = rng.choice([np.inf, -np.inf])
    elif dtype.kind == "b":
        image = rng.random(shape) < 0.5
    else:
        info = np.iinfo(dtype)
        # scipy loses digits beyond 2 ** 53.
        least, most = max(info.min, -(1 << 52)), min(info.max, 1 << 52)
        image = rng.integers(least, most, shape, dtype, endpoint=True)
    if rng.random() < 0.4:
        image = np.where(rng.random(shape) < 0.6, image.flat[0], image)
    layout = rng.integers(4)
    if layout == 1:
        image = np.asfortranarray(image)
    elif layout == 2:
        image = np.repeat(image, 2, axis=-1)[..., ::2]
    elif layout == 3:
        image = image[::-1].copy()[::-1]
    image.flags.writeable = False
    return image


def shape_of(rng, axes):
    """Return a shape: of one or few voxels an axis, or longer than a vector along the last one."""
    if rng.random() < 0.3:
        return tuple(int(n) for n in rng.integers(1, 6, axes))
    return tuple(int(n) for n in rng.integers(1, (20, 24, 150)[3 - axes :]))


def without_kernels(monkeypatch, function, *arguments, **options):
    """Compute the plain way."""
    with monkeypatch.context() as patch:
        patch.setenv("LIGHTBOX_COMPILED", "0")
        return function(*arguments, **options)
