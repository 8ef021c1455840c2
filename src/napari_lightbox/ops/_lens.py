"""The lens model of Brown and Conrady, and its inverse. Points are (u, v) from the axis of the lens, (2, ...)."""

import numpy as np

_STEPS = 60
_CLOSE = 1e-10


def distorted(points: np.ndarray, k1: float, k2: float, k3: float, p1: float, p2: float) -> np.ndarray:
    """Return where the lens shows ideal points; NaN beyond where the model folds back."""
    seen, (uu, uv, vv) = _model(points, k1, k2, k3, p1, p2)
    # Up to the fold the mapping keeps its sense of rotation, and does not run backwards.
    folded = (uu * vv - uv * uv <= 0) | (uu + vv <= 0)
    return np.where(folded, np.nan, seen)


def ideal(points: np.ndarray, k1: float, k2: float, k3: float, p1: float, p2: float) -> np.ndarray:
    """Return which ideal points the lens shows at `points`, by Newton's method; NaN where there are none."""
    found = points.copy()
    for _ in range(_STEPS):
        with np.errstate(all="ignore"):
            seen, (uu, uv, vv) = _model(found, k1, k2, k3, p1, p2)
            off = points - seen
            determinant = uu * vv - uv * uv
            step = np.stack((vv * off[0] - uv * off[1], uu * off[1] - uv * off[0])) / determinant
            # Short steps: a long one could land beyond the fold.
            length = np.hypot(*step)
            step *= np.minimum(1.0, 0.25 * (1 + np.hypot(*found)) / np.maximum(length, 1e-300))
        found = found + np.where(np.isfinite(step), step, 0.0)
        if not (np.abs(off) > _CLOSE).any():
            break
    with np.errstate(all="ignore"):
        seen = distorted(found, k1, k2, k3, p1, p2)
        good = (np.abs(seen - points) < 1e-6).all(axis=0)
    return np.where(good, found, np.nan)


def _model(points: np.ndarray, k1: float, k2: float, k3: float, p1: float, p2: float):
    """Return the distorted points, and the derivatives du/du, du/dv = dv/du, dv/dv."""
    u, v = points
    r2 = u * u + v * v
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    slope = 2 * (k1 + r2 * (2 * k2 + r2 * 3 * k3))
    seen = np.stack(
        (
            u * radial + 2 * p1 * u * v + p2 * (r2 + 2 * u * u),
            v * radial + p1 * (r2 + 2 * v * v) + 2 * p2 * u * v,
        )
    )
    uu = radial + u * u * slope + 2 * p1 * v + 6 * p2 * u
    uv = u * v * slope + 2 * p1 * u + 2 * p2 * v
    vv = radial + v * v * slope + 6 * p1 * v + 2 * p2 * u
    return seen, (uu, uv, vv)
