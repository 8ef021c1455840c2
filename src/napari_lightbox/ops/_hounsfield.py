"""Whether grey values are Hounsfield units, where no file says so."""

import numpy as np


def looks_like_ct(values: np.ndarray) -> bool:
    """Whether voxel values can only be Hounsfield units: air near -1000 and much between fat and muscle.

    Examples
    --------
    >>> looks_like_ct(np.r_[np.full(50, -1000.0), np.full(50, 40.0)]), looks_like_ct(np.arange(255.0))
    (True, False)
    """
    if values.size == 0 or not -3100 <= values.min() <= -900 or values.max() > 32767:
        return False
    air, soft = np.mean(values < -700), np.mean((values > -150) & (values < 150))
    return bool(air > 0.02 and soft > 0.05 and air + soft > 0.5)
