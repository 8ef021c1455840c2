"""How fast the operations are on this machine, beside other libraries and beside what the machine can do.

A row is one measurement: an operation on a made volume, the calls of other libraries that compute the same, and what
"the same" means. Rows lie in files by topic; `ROWS` is the list of all. Whoever adds one writes a function that makes
a `Task`, and names it in the list of its file.
"""

from .run import ROWS, Report, choose, measure

__all__ = ["ROWS", "Report", "choose", "measure"]
