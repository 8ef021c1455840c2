"""The errors a user may see: one sentence that names the argument, the value and the remedy."""

import importlib


class LightboxError(Exception):
    """Base of every error that is meant for the user; its text is shown as it is."""


class InputError(LightboxError, ValueError):
    """An argument, a layer or a parameter cannot be used as it was given."""


class GridError(InputError):
    """The geometry of a volume is impossible, or two volumes do not lie on the same grid."""


class FileError(LightboxError, OSError):
    """A file cannot be read or written as asked."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class MissingPart(LightboxError, ImportError):  # noqa: N818 - named for what it says
    """A library that an extra of napari-lightbox brings is not installed."""


# The part of the product a library belongs to, as it is named in pyproject.toml.
_EXTRA = {
    "torch": "torch",
    "safetensors": "torch",
    "onnxruntime": "models",
    "napari": "viewer",
    "qtpy": "viewer",
    "magicgui": "viewer",
    "pydicom": "dicom",
    "dask": "scale",
    "numba": "fast",
}


def need(module: str, purpose: str):
    """Import `module`, or say which extra brings it.

    Parameters
    ----------
    module : str
        Dotted name of the module.
    purpose : str
        What it is needed for, as the subject of the sentence: ``"Reading DICOM"``.

    Raises
    ------
    MissingPart
        If the module is not installed.

    Examples
    --------
    >>> need("json", "Reading a card").loads("[1]")
    [1]
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.split(".")[0]
        if error.name is None or error.name.split(".")[0] != top:
            raise
        extra = _EXTRA.get(top)
        remedy = f"pip install 'napari-lightbox[{extra}]'" if extra else f"pip install {top}"
        raise MissingPart(f"{purpose} needs {top}, which is not installed: {remedy}") from error
