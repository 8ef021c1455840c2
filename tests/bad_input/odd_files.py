"""Files of every format, and what may happen to them: cut, flipped, lied to, misnamed."""

import struct
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from napari_lightbox import Frames, Grid, Label, Volume, io
from napari_lightbox.volume import KINDS

SUFFIXES = [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".tif", ".jpg", ".dcm", ".rle.dcm", ".json"]
# What a liar writes into a field of numbers.
NUMBERS = ["0", "-1", "nan", "inf", "1e300", "99999999999", "2147483647", "-32768", "", "x", "1 2 3 4 5", "0.0"]


def make_all(folder: Path) -> dict[str, dict[str, bytes]]:
    """Write a small volume in every format; return the bytes of each format's files by their name."""
    rng = np.random.default_rng(5)
    grid = Grid.from_spacing((3, 0.7, 0.9), (4, 5, 6), (-10, 20, 5))
    image = Volume(rng.integers(-1000, 3000, (4, 5, 6)).astype(np.int16), grid, name="image")
    flat = Volume.from_array(rng.integers(0, 255, (1, 20, 24)).astype(np.uint8), (1, 0.5, 0.5))
    found = {}
    for suffix in SUFFIXES:
        place = folder / suffix.strip(".").replace(".", "_")
        place.mkdir()
        if suffix.endswith("dcm"):
            _write_dicom(place / "a.dcm", rng, compressed=suffix.startswith(".rle"))
        elif suffix == ".json":
            lb_recipe(image, place / "a.json")
        elif suffix == ".jpg":
            from PIL import Image

            Image.fromarray(flat.data[0]).save(place / "a.jpg")
        else:
            io.write(flat if suffix in (".png", ".tif") else image, place / f"a{suffix}")
        found[suffix] = {p.name: p.read_bytes() for p in sorted(place.iterdir())}
    labels = Volume(
        rng.integers(0, 3, (4, 5, 6)).astype(np.uint8), grid, "labels", labels={1: Label("liver", "#ff0000")}
    )
    movie = Volume(rng.random((3, 4, 5, 6), np.float32), grid.with_frames(Frames("time", (0, 1, 2.5), "s")))
    for name, volume in (("labels", labels), ("movie", movie)):
        for suffix in (".nii", ".nrrd"):
            path = folder / f"{name}{suffix}"
            io.write(volume, path)
            found[f"{name}{suffix}"] = {f"a{suffix}": path.read_bytes()}
    return found


def lb_recipe(image: Volume, path: Path) -> None:
    """Write a recipe of two steps."""
    from napari_lightbox import Recipe, apply

    Recipe.of(apply("otsu", apply("median", image))).save(path)


def _write_dicom(path: Path, rng: np.random.Generator, compressed: bool) -> None:
    import pydicom

    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = pydicom.uid.CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3.4"
    ds.PatientName, ds.PatientID, ds.Modality, ds.StudyInstanceUID = "A^B", "7", "CT", "1.2.3"
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.SeriesDescription = "1.2.5", 4, "Thorax"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 12, 14, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-10, 20, 5]
    ds.PixelSpacing, ds.SliceThickness, ds.RescaleSlope, ds.RescaleIntercept = [0.7, 0.9], 3, 1, -1024
    ds.WindowCenter, ds.WindowWidth = [40, -600], [400, 1500]
    ds.PixelData = rng.integers(0, 3000, (12, 14)).astype("<i2").tobytes()
    if compressed:
        ds.compress(pydicom.uid.RLELossless)
    ds.save_as(path, enforce_file_format=True)


@st.composite
def spoilt(draw, content: bytes):
    """Draw what has become of the bytes of one file."""
    how = draw(st.sampled_from(["cut", "flip", "flip head", "zeros", "number", "text", "more", "whole", "hole"]))
    at = draw(st.integers(0, max(0, len(content) - 1)))
    spoiled = bytearray(content)
    if how == "cut":
        return content[:at]
    if how == "more":
        return content + draw(st.binary(min_size=1, max_size=50))
    if how == "hole":
        return content[:at] + content[at + draw(st.integers(1, 40)) :]
    if how in ("flip", "flip head"):
        for _ in range(draw(st.integers(1, 12))):
            place = draw(st.integers(0, min(len(content), 400 if how == "flip head" else len(content)) - 1))
            spoiled[place] ^= draw(st.integers(1, 255))
    elif how == "zeros":
        spoiled[at : at + 64] = bytes(len(spoiled[at : at + 64]))
    elif how == "number":
        # A header field of two, four or eight bytes that says something else.
        lie = draw(st.sampled_from([0, -1, 1, 32767, -32768, 2**31 - 1, float("nan"), float("inf"), -1.0, 1e30, 1e-30]))
        whole = draw(st.sampled_from(["<h", "<i", "<q"]))
        form = draw(st.sampled_from(["<f", "<d"])) if isinstance(lie, float) else whole if abs(lie) < 2**15 else "<i"
        piece = struct.pack(form, lie)
        at = draw(st.integers(0, min(len(content), 400) // 2)) * 2
        spoiled[at : at + len(piece)] = piece
    elif how == "text":
        return _lied(draw, content)
    return bytes(spoiled)


def _lied(draw, content: bytes) -> bytes:
    """Change what a line of a text header says, or a text between quotes."""
    head, end, rest = content[:3000].partition(b"\n\n")
    lines = head.split(b"\n")
    at = draw(st.integers(0, len(lines) - 1))
    for mark in (b" = ", b":=", b": "):
        if mark in lines[at]:
            words = lines[at].partition(mark)[2].split()
            lie = draw(st.sampled_from(NUMBERS)).encode()
            if words and draw(st.booleans()):
                words[draw(st.integers(0, len(words) - 1))] = lie
                lie = b" ".join(words)
            lines[at] = lines[at].partition(mark)[0] + mark + lie
            break
    return b"\n".join(lines) + end + rest + content[3000:]


@st.composite
def cases(draw, files: dict[str, bytes]):
    """Draw the files of a format with one of them spoilt, and the name to read; sometimes by a wrong suffix."""
    names = sorted(files)
    victim = draw(st.sampled_from(names))
    spoiled = {**files, victim: draw(spoilt(files[victim]))}
    first = min(names, key=lambda n: n.endswith((".raw", ".gz.raw")))
    if draw(st.integers(0, 9)) == 0:
        wrong = f"a{draw(st.sampled_from([s for s in SUFFIXES if s != '.rle.dcm']))}"
        spoiled[wrong] = spoiled.pop(first)
        first = wrong
    return spoiled, first, draw(st.sampled_from([None, None, *KINDS, (1, 1), (1, 1, 1)]))
