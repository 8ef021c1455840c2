"""The demo: one volume filtered, parted, grown, inferred and compared, in a napari window or as files with a report.

>>> from napari_lightbox import demo
>>> sorted(demo.OUTCOMES)
[1, 2, 3, 4]
"""

from .compare import OUTCOMES, Comparison, against
from .files import SAMPLE_NAMES, sample, save
from .pipeline import Session, Shown, run

__all__ = ["OUTCOMES", "SAMPLE_NAMES", "Comparison", "Session", "Shown", "against", "run", "sample", "save"]
