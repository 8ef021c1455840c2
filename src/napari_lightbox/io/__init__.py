"""Reading and writing volumes, each with its geometry."""

from .files import info, read, read_all, suffixes, write
from .masks import read_masks

__all__ = ["info", "read", "read_all", "read_masks", "suffixes", "write"]
