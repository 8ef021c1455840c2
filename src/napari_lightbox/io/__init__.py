"""Reading and writing volumes, each with its geometry."""

from .files import info, read, read_all, suffixes, write

__all__ = ["info", "read", "read_all", "suffixes", "write"]
