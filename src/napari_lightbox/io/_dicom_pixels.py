"""The pixels of a DICOM file: decoded, rescaled, grey.

pydicom decodes what it can by itself or through Pillow; the other compressed kinds (JPEG lossless, JPEG-LS, HTJ2K) go
through SimpleITK's GDCM, which applies the rescale of the file on its own.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FileError, MissingPart, need
from ..progress import Cancelled
from ._values import grey, whole_type


@dataclass(frozen=True)
class Rescale:
    """How stored values become real ones: times `slope` plus `inter`."""

    slope: float = 1.0
    inter: float = 0.0


@dataclass(frozen=True)
class Coding:
    """How the pixels of a file are stored."""

    bits: int
    signed: bool
    colour: bool
    multiframe: bool
    syntax: str

    @property
    def stored(self) -> tuple[int, int]:
        """Smallest and largest value that can be stored."""
        return (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) if self.signed else (0, (1 << self.bits) - 1)


def result_type(coding: list[Coding], rescale: list[Rescale]) -> np.dtype:
    """Return an integer type that holds every possible value if all slopes and intercepts are whole, else float32."""
    if not all(r.slope.is_integer() and r.inter.is_integer() for r in rescale):
        return np.dtype(np.float32)
    ends = []
    for c, r in {(c, r) for c, r in zip(coding, rescale, strict=True)}:
        ends += [v * int(r.slope) + int(r.inter) for v in c.stored]
    return whole_type(min(ends), max(ends), 1, 0) or np.dtype(np.float64)


def values(path: Path, coding: Coding, rescale: list[Rescale], dtype: np.dtype) -> tuple[np.ndarray, bool]:
    """Decode all images of a file.

    Parameters
    ----------
    rescale : list of Rescale
        One for each image.
    dtype : dtype
        Type of the result.

    Returns
    -------
    values : (images, rows, columns) array
    converted : bool
        Whether colour was turned into luminance.
    """
    stored = _through_pydicom(path, coding)
    if stored is None:
        final = _through_itk(path, coding, rescale)
        final, converted = grey(final) if coding.colour and final.ndim == 4 else (final, False)
        return (np.rint(final) if dtype.kind in "iu" and final.dtype.kind == "f" else final).astype(dtype), converted
    if stored.shape[0] != len(rescale):
        raise FileError(
            f"{path} holds {stored.shape[0]} images where its header promises {len(rescale)}: copy it again"
        )
    converted = False
    if coding.colour:
        stored, converted = grey(stored)
    result = np.empty(stored.shape, dtype)
    for index, r in enumerate(rescale):
        if r == Rescale():
            result[index] = stored[index]
        elif dtype.kind in "iu":
            result[index] = stored[index].astype(np.int64) * int(r.slope) + int(r.inter)
        else:
            result[index] = stored[index].astype(np.float64) * r.slope + r.inter
    return result, converted


def _through_pydicom(path: Path, coding: Coding) -> np.ndarray | None:
    """Return (images, rows, columns[, 3]) stored values, or None where pydicom has no decoder for the syntax."""
    pydicom = need("pydicom", "Reading DICOM")
    pixels = need("pydicom.pixels", "Reading DICOM")
    uid = pydicom.uid.UID(coding.syntax)
    if uid.is_private or not uid.is_transfer_syntax:
        raise FileError(f"{path} has the unknown transfer syntax {coding.syntax}: its header is wrong")
    try:
        if uid.is_compressed and uid.is_encapsulated and not pixels.get_decoder(uid).is_available:
            return None
    except NotImplementedError:
        return None
    try:
        dataset = pydicom.dcmread(path)
        array = pixels.pixel_array(dataset)
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            array = pixels.apply_color_lut(array, dataset)
    except (Cancelled, MissingPart, MemoryError):
        raise
    except Exception as error:  # a damaged file makes pydicom raise whatever its parser ran into
        reason = " ".join(str(error).split())
        raise FileError(f"{path} has pixels that cannot be decoded ({reason}): copy the file again") from error
    array = array if coding.multiframe else array[None]
    return array if coding.colour else _used_bits(array, coding)


def _used_bits(array: np.ndarray, coding: Coding) -> np.ndarray:
    """Clear the bits beyond Bits Stored, where old files keep overlays, and extend the sign."""
    spare = array.dtype.itemsize * 8 - coding.bits
    if array.dtype.kind not in "iu" or spare <= 0:
        return array
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return (array << spare) >> spare


def _through_itk(path: Path, coding: Coding, rescale: list[Rescale]) -> np.ndarray:
    if coding.multiframe and len(set(rescale)) > 1:
        raise FileError(
            f"{path} is compressed and scales every image differently: decompress it first (dcmdjpls, gdcmconv)"
        )
    sitk = need("SimpleITK", "Decoding compressed DICOM")
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        image = reader.Execute()
    except RuntimeError as error:
        reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), "unknown reason").strip()
        raise FileError(f"{path} has pixels that cannot be decoded ({reason}): copy the file again") from error
    array = sitk.GetArrayFromImage(image)
    spatial = array.ndim - (1 if image.GetNumberOfComponentsPerPixel() > 1 else 0)
    return array if spatial == 3 else array[None]
