"""Every reader with files that are not what they say: a volume that holds together, or one sentence."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_files import SUFFIXES, cases, make_all, spoilt
from outcome import attempt

import napari_lightbox as lb
from napari_lightbox import Recipe

pytest.importorskip("pydicom")

FORMATS = [*SUFFIXES, "labels.nii", "labels.nrrd", "movie.nii", "movie.nrrd"]
COMMON = {"derandomize": True, "database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}
FEW = settings(max_examples=8, **COMMON)
MANY = settings(max_examples=400, **COMMON)
# Real files of the kinds that are hard to make; each is small.
REAL = [
    "dicom_seg/seg_image_ct_binary.dcm",
    "dicom_enhanced_multiframe",
    "dicom_single/MR_small_jp2klossless.dcm",
    "dicom_single/MR_small_jpeg_ls_lossless.dcm",
    "dicom_single/MR_small_RLE.dcm",
    "dicom_single/MR_small_bigendian.dcm",
    "dicom_single/examples_palette.dcm",
    "dicom_transfer_syntaxes_head/1.dcm",
    "dicom_rtstruct",
    "nifti_variants/example_nifti2.nii.gz",
    "nrrd_variants/BallBinary30x30x30_gz.nrrd",
    "xray/00000001_000.png",
]


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    """Return the bytes of a good file of every format."""
    return make_all(tmp_path_factory.mktemp("good"))


def judge(volumes) -> None:
    """What was read holds together."""
    for volume in volumes:
        data = np.asarray(volume.data)
        assert data.shape == volume.grid.shape
        assert data.size
        assert data.dtype.kind in "buif"
        assert np.isfinite(volume.grid.affine).all()
        assert min(volume.grid.spacing) > 0
        assert data.nbytes < 1 << 28
        if volume.kind == "labels":
            assert data.dtype.kind in "bui"


def read_in_every_way(path: Path, hint=None) -> set[str]:
    """Read one path with every reader that takes it; return the sentences."""
    sentences = set()
    options = {"kind": hint} if isinstance(hint, str) else {"spacing": hint} if hint else {}
    ways = [lambda: [lb.read(path, **options)], lambda: lb.read_all(path), lambda: lb.read_masks(path)]
    if path.suffix == ".json":
        ways.append(lambda: Recipe.load(path) and [])
    if path.suffix == ".dcm":
        ways.append(lambda: [v for series in lb.list_series(path.parent) for v in series.load()])
    for way in ways:
        volumes, sentence = attempt(way)
        sentences.add(sentence)
        if volumes is not None:
            judge(volumes)
    return sentences


def read_spoilt(folder: Path, case) -> set[str]:
    files, first, hint = case
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return read_in_every_way(folder / first, hint)


@pytest.mark.parametrize("suffix", FORMATS)
def test_spoilt_files(formats, tmp_path, suffix):
    sentences = set()

    @FEW
    @given(cases(formats[suffix]))
    def run(case):
        sentences.update(read_spoilt(tmp_path / "spoilt", case))

    run()
    assert sentences - {""}, "not a file was refused: the cases are of no use"


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_spoilt_files_thoroughly(formats, tmp_path, suffix):
    sentences = set()

    @MANY
    @given(cases(formats[suffix]))
    def run(case):
        sentences.update(read_spoilt(tmp_path / "spoilt", case))

    run()
    assert len(sentences) > 3, "hardly a file was refused: the cases are of no use"


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_spoilt_real_files(data, tmp_path, name):
    path = data(name)
    path = path if path.is_file() else min((p for p in path.rglob("*.dcm")), key=lambda p: p.stat().st_size)
    content = path.read_bytes()

    @settings(max_examples=60, **COMMON)
    @given(spoilt(content), st.just(path.name))
    def run(content, file):
        read_spoilt(tmp_path / "spoilt", ({file: content}, file, None))

    run()


@pytest.mark.parametrize("suffix", sorted({f".{s.rsplit('.')[-1]}" for s in SUFFIXES} | {".nii.gz", "", ".xyz"}))
def test_empty_files_folders_and_nothing(tmp_path, suffix):
    empty, folder, missing = (tmp_path / f"{name}{suffix}" for name in ("empty", "folder", "missing"))
    empty.touch()
    folder.mkdir()
    for path in (empty, folder, missing):
        for way in (lb.read, lb.read_all, lb.read_masks, Recipe.load):
            if way is Recipe.load and suffix != ".json":
                continue
            result, sentence = attempt(lambda path=path, way=way: way(path))
            assert result is None
            assert path.name in sentence


def test_every_broken_file_ends_in_a_sentence(data):
    files = sorted(p for p in data("broken").iterdir() if p.is_file())
    assert len(files) > 5
    for path in files:
        for way in (lb.read, lb.read_all, lb.read_masks):
            result, sentence = attempt(lambda path=path, way=way: way(path))
            assert result is None, path
            assert path.name in sentence
            assert ": " in sentence, "a remedy follows a colon"
