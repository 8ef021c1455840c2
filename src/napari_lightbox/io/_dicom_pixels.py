"""The pixels of a DICOM file: decoded, rescaled, grey.

pydicom decodes what it can by itself or through Pillow (uncompressed, deflated, RLE, 8-bit JPEG, JPEG 2000); the other
kinds (JPEG of 12 bits, JPEG lossless, JPEG-LS, HTJ2K) go through SimpleITK's GDCM, image by image, in a file that says
nothing but how the pixels are coded: GDCM would apply the rescale of the first image to all of them.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, MissingPart, need
from ..progress import Cancelled
from ._dicom_headers import Header, one_line, shown
from ._dicom_slices import Rescale, Slice
from ._values import grey, whole_type

_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_END_OF_CODE = b"\xff\xd9"
# Its pixels may be floating point, in elements that come instead of Pixel Data.
_PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
_CODING_TAGS = (
    "Rows Columns SamplesPerPixel PhotometricInterpretation PlanarConfiguration BitsAllocated BitsStored HighBit "
    "PixelRepresentation"
)


@dataclass(frozen=True)
class Coding:
    """How the pixels of a file are stored."""

    bits: int
    signed: bool
    colour: bool
    multiframe: bool
    syntax: str
    floating: bool = False
    palette: int = 0

    @property
    def stored(self) -> tuple[int, int]:
        """Smallest and largest value that comes out of the decoder: of a palette those of its tables."""
        if self.palette:
            return 0, (1 << self.palette) - 1
        return (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) if self.signed else (0, (1 << self.bits) - 1)

    @classmethod
    def of(cls, header: Header) -> "Coding":
        """Read it from a header."""
        colour = header.text("PhotometricInterpretation")
        samples = int(header.number("SamplesPerPixel", 1))
        allocated = int(header.number("BitsAllocated", 16))
        bits = int(header.number("BitsStored", allocated))
        floating = header.text("SOPClassUID") == _PARAMETRIC_MAP and header.get("BitsStored") is None
        if allocated not in ((32, 64) if floating else (8, 16, 32)) or not 1 <= bits <= allocated:
            raise FileError(
                f"{header.path} stores {bits} of {allocated} bits a pixel, which is no grey image: convert it first"
            )
        return cls(
            bits,
            bool(header.number("PixelRepresentation", 0)),
            samples > 1 or colour in _COLOURS,
            header.frames > 1,
            str(header.dataset.file_meta.TransferSyntaxUID),
            floating,
            _palette_bits(header) if colour == "PALETTE COLOR" else 0,
        )


def _palette_bits(header: Header) -> int:
    """Return the bits of the colours in the tables of a palette, which the stored indices say nothing of."""
    descriptor = header.numbers("RedPaletteColorLookupTableDescriptor", 3)
    return 8 if descriptor is None or descriptor[2] == 8 else 16


def result_type(coding: Sequence[Coding], rescale: Sequence[Rescale]) -> np.dtype:
    """Return an integer type that holds every possible value if all slopes and intercepts are whole, else float32."""
    if any(c.floating and c.bits == 64 for c in coding):
        return np.dtype(np.float64)
    if any(c.floating for c in coding):
        return np.dtype(np.float32)
    if not all(r.slope.is_integer() and r.inter.is_integer() for r in rescale):
        return np.dtype(np.float32)
    ends = []
    for c, r in {(c, r) for c, r in zip(coding, rescale, strict=True)}:
        ends += [v * int(r.slope) + int(r.inter) for v in c.stored]
    return whole_type(min(ends), max(ends), 1, 0) or np.dtype(np.float64)


def values(slices: Sequence[Slice], dtype: np.dtype) -> tuple[np.ndarray, bool]:
    """Decode images of one file.

    Parameters
    ----------
    slices : sequence of Slice
        All of one file.
    dtype : dtype
        Type of the result.

    Returns
    -------
    values : (images, rows, columns) array
    converted : bool
        Whether colour was turned into luminance.

    Raises
    ------
    FileError
        If they cannot be decoded, or are none that the header promises.
    """
    stored, converted = stored_values(slices)
    if stored.dtype.kind == "f" and dtype.kind in "iu":
        raise FileError(
            f"{slices[0].header.path} holds fractional values where its header promises whole ones: its header is wrong"
        )
    result = np.empty(stored.shape, dtype)
    for index, s in enumerate(slices):
        r = s.rescale
        if r == Rescale():
            result[index] = _fitting(stored[index], dtype, s)
        elif dtype.kind in "iu":
            result[index] = _fitting(stored[index].astype(np.int64) * int(r.slope) + int(r.inter), dtype, s)
        else:
            result[index] = stored[index].astype(np.float64) * r.slope + r.inter
    return result, converted


def _fitting(array: np.ndarray, dtype: np.dtype, s: Slice) -> np.ndarray:
    """Refuse whole values that would be wrapped round by a smaller type."""
    if dtype.kind in "iu" and array.size and not np.can_cast(array.dtype, dtype):
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise FileError(f"{s.header.path} holds larger values than its header promises: its header is wrong")
    return array


def stored_values(slices: Sequence[Slice]) -> tuple[np.ndarray, bool]:
    """Decode images of one file without scaling them; see `values`."""
    header = slices[0].header
    coding = Coding.of(header)
    wanted = [0] if header.is_mosaic else [s.index for s in slices]
    stored = decode(header.path, coding, wanted)
    converted = False
    if coding.colour and stored.ndim == 4:
        stored, converted = grey(stored)
    size = slices[0].size
    if header.is_mosaic and stored.shape[1:] != size:
        across = stored.shape[2] // size[1]
        corners = [(s.index // across * size[0], s.index % across * size[1]) for s in slices]
        stored = np.stack([stored[0, y : y + size[0], x : x + size[1]] for y, x in corners])
    if stored.shape[1:] != size:
        raise FileError(f"{header.path} holds images of another size than its header promises: copy the file again")
    return stored, converted


def decode(path: Path, coding: Coding, wanted: Sequence[int]) -> np.ndarray:
    """Return the images `wanted` of a file as they are stored, (images, rows, columns[, 3])."""
    pydicom = need("pydicom", "Reading DICOM")
    pixels = need("pydicom.pixels", "Reading DICOM")
    uid = pydicom.uid.UID(coding.syntax)
    if uid.is_private or not uid.is_transfer_syntax:
        raise FileError(f"{path} has the unknown transfer syntax {shown(coding.syntax)}: its header is wrong")
    read = _through_pydicom if _is_known(pixels, uid, coding) else _through_itk
    try:
        array = read(path, coding, wanted)
    except (Cancelled, MissingPart, MemoryError, FileError):
        raise
    except Exception as error:  # a damaged file makes the decoders raise whatever they ran into
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = (" ".join(lines) if read is _through_pydicom else lines[-1] if lines else "no reason given")[:300]
        other = ", or convert it to an uncompressed one" if uid.is_compressed else ""
        raise FileError(
            f"{path} has pixels that cannot be decoded ({uid.name}: {one_line(reason)}): copy the file again{other}"
        ) from error
    return array if coding.colour else _used_bits(array, coding)


def _is_known(pixels: Any, uid: Any, coding: Coding) -> bool:
    """Whether pydicom decodes a transfer syntax with what is installed."""
    if not (uid.is_compressed and uid.is_encapsulated):
        return True
    if uid == _JPEG_EXTENDED and coding.bits > 8:
        return False  # Pillow knows JPEG of 8 bits only
    try:
        return bool(pixels.get_decoder(uid).is_available)
    except NotImplementedError:
        return False


def _whole(path: Path) -> Any:
    import pydicom

    dataset = pydicom.dcmread(path)
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise FileError(f"{path} is cut short: its pixels are missing or end too early; copy the file again")
    return dataset


def _coded(dataset: Any, index: int) -> bytes:
    """Return one image as it is coded."""
    from pydicom import encaps

    count = int(dataset.get("NumberOfFrames") or 1)
    return encaps.get_frame(dataset.PixelData, index, number_of_frames=count, extended_offsets=_offsets(dataset))


def _require_ends(path: Path, dataset: Any, wanted: Sequence[int]) -> None:
    """Refuse JPEG 2000 that is cut short: its decoder would fill in what is missing."""
    for index in wanted:
        # Behind the end there may be padding.
        if _END_OF_CODE not in _coded(dataset, index).rstrip(b"\0")[-4:]:
            raise FileError(f"{path} is cut short: the pixels of image {index + 1} end too early; copy the file again")


def _through_pydicom(path: Path, coding: Coding, wanted: Sequence[int]) -> np.ndarray:
    from pydicom import pixels

    dataset = _whole(path)
    if coding.syntax in _JPEG_2000:
        _require_ends(path, dataset, wanted)
    if len(wanted) == 1:
        array = pixels.pixel_array(dataset, index=wanted[0])[None]
    else:
        array = pixels.pixel_array(dataset)
        array = array if coding.multiframe else array[None]
        array = array if list(wanted) == [*range(len(array))] else array[list(wanted)]
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        array = pixels.apply_color_lut(array, dataset)
    return array


def _used_bits(array: np.ndarray, coding: Coding) -> np.ndarray:
    """Clear the bits beyond Bits Stored, where old files keep overlays, and extend the sign."""
    spare = array.dtype.itemsize * 8 - coding.bits
    if array.dtype.kind not in "iu" or spare <= 0:
        return array
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return (array << spare) >> spare


def _through_itk(path: Path, coding: Coding, wanted: Sequence[int]) -> np.ndarray:
    dataset = _whole(path)
    images = []
    with tempfile.TemporaryDirectory(prefix="lightbox-") as folder:
        place = Path(folder) / "image.dcm"
        for index in wanted:
            _bare(dataset, _coded(dataset, index)).save_as(place, enforce_file_format=True)
            images.append(_read_bare(place))
    return np.stack(images)


def _offsets(dataset: Any) -> tuple[Any, Any] | None:
    parts = [dataset.get(name) for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
    return tuple(parts) if all(parts) else None


def _bare(dataset: Any, coded: bytes) -> Any:
    """Return a data set of one coded image and what decoding it needs."""
    import pydicom
    from pydicom import encaps

    bare = pydicom.Dataset()
    bare.file_meta = pydicom.dataset.FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    bare.file_meta.MediaStorageSOPClassUID = bare.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    bare.file_meta.MediaStorageSOPInstanceUID = bare.SOPInstanceUID = pydicom.uid.generate_uid()
    for name in _CODING_TAGS.split():
        if name in dataset:
            bare[name] = dataset[name]
    bare.PixelData = encaps.encapsulate([coded])
    bare["PixelData"].VR = "OB"
    return bare


def _read_bare(path: Path) -> np.ndarray:
    sitk = need("SimpleITK", "Decoding compressed DICOM")
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    image = reader.Execute()
    array = sitk.GetArrayFromImage(image)
    coloured = image.GetNumberOfComponentsPerPixel() > 1
    return array[0] if array.ndim == (4 if coloured else 3) else array
