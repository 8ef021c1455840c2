"""A file appears whole or not at all."""

import errno
import os

import numpy as np
import pytest
from landmarks import VOLUMETRIC

from napari_lightbox import io
from napari_lightbox.errors import FileError, InputError
from napari_lightbox.io import _atomic, _bytes
from napari_lightbox.progress import Cancelled, listening
from napari_lightbox.volume import Volume

SUFFIXES = [*VOLUMETRIC, ".seg.nrrd", ".png", ".tif", ".jpg"]


def picture(value=1):
    return Volume.from_array(np.full((5, 6), value, np.uint8), (0.5, 0.5))


class Failing:
    """Voxels that cannot all be computed."""

    dtype = np.dtype(np.uint8)

    def __init__(self, error, shape):
        self.error, self.shape = error, shape

    def __getitem__(self, index):
        if np.ravel(index)[-1] == 0:
            return np.zeros(self.shape[1:], np.uint8)
        raise self.error

    def __array__(self, dtype=None, copy=None):
        raise self.error


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), FileError),
        (Cancelled(), Cancelled),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_what_goes_wrong_leaves_the_old_file(tmp_path, suffix, error, shown):
    path = io.write(picture(), tmp_path / f"a{suffix}")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    flat = suffix in (".png", ".tif", ".jpg")
    shape = (1, 5, 6) if flat else (2, 5, 6)
    lazy = Volume.from_array(np.zeros(shape, np.uint8), (1, 1, 1)).replace(data=Failing(error, shape))
    with pytest.raises(shown) as caught:
        io.write(lazy, path)
    if shown is FileError:
        assert "disk is full" in str(caught.value)
        assert str(path) in str(caught.value)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", VOLUMETRIC)
def test_cancelled_by_the_listener(tmp_path, volume, suffix):
    def cancel(what, done, total):
        if done == 2:
            raise Cancelled

    with listening(cancel), pytest.raises(Cancelled):
        io.write(volume, tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_pairs_never_share_or_orphan_their_voxels(tmp_path, suffix):
    a = io.write(picture(1), tmp_path / f"a{suffix}")
    other = io.write(picture(2), tmp_path / ("a.nhdr" if suffix == ".mhd" else "a.mhd"))
    for value in (3, 4, 5):
        io.write(picture(value), a)
        assert (io.read(a).data == value).all()
        assert (io.read(other).data == 2).all()
    assert len(list(tmp_path.glob("*.raw"))) == 2
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_pair_that_fails_at_its_header_keeps_the_old_one(tmp_path, suffix, monkeypatch):
    path = io.write(picture(1), tmp_path / f"a{suffix}")
    replace = os.replace

    def full(source, target):
        if str(target).endswith(suffix):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(_atomic.os, "replace", full)
    with pytest.raises(FileError, match="disk is full"):
        io.write(picture(2), path)
    monkeypatch.undo()
    assert (io.read(path).data == 1).all()
    assert len(list(tmp_path.iterdir())) == 2


def test_foreign_raw_files_are_left_alone(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"of somebody else")
    path = io.write(picture(3), tmp_path / "a.mhd")
    assert (tmp_path / "a.raw").read_bytes() == b"of somebody else"
    assert (io.read(path).data == 3).all()


def test_a_link_keeps_pointing(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "a.nii.gz").symlink_to(real / "b.nii.gz")
    io.write(picture(), tmp_path / "a.nii.gz")
    assert (tmp_path / "a.nii.gz").is_symlink()
    assert io.read(real / "b.nii.gz").grid.shape == (1, 5, 6)


def test_permissions_of_the_old_file_stay(tmp_path):
    path = io.write(picture(), tmp_path / "a.nii")
    path.chmod(0o640)
    io.write(picture(), path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_sentences(tmp_path, volume):
    with pytest.raises(FileError, match="folder does not exist"):
        io.write(volume, tmp_path / "no" / "a.nii")
    with pytest.raises(FileError, match=r"'\.xyz'.*\.nii\.gz"):
        io.write(volume, tmp_path / "a.xyz")
    with pytest.raises(FileError, match="without a suffix"):
        io.write(volume, tmp_path / "a")
    with pytest.raises(FileError, match=r"\.dcm"):
        io.write(volume, tmp_path / "a.dcm")
    with pytest.raises(InputError, match="from_array"):
        io.write(np.zeros((2, 3, 4)), tmp_path / "a.nii")
    (tmp_path / "b.nii").mkdir()
    with pytest.raises(FileError, match="is a folder"):
        io.write(volume, tmp_path / "b.nii")
    assert [p.name for p in tmp_path.iterdir()] == ["b.nii"]


def test_upper_case_and_dotted_names(tmp_path, volume):
    for name in ("A.NII.GZ", "patient.1.2.nrrd", "B.MHA"):
        assert np.array_equal(io.read(io.write(volume, tmp_path / name)).data, volume.data)


def test_a_file_that_does_not_fit_says_how_much_it_needs(tmp_path, volume, monkeypatch):
    paths = [io.write(volume, tmp_path / f"a{s}") for s in VOLUMETRIC]
    monkeypatch.setattr(_bytes, "free_memory", lambda: 100)
    for path in paths:
        with pytest.raises(FileError, match=r"needs 420 bytes of memory, 100 bytes is free"):
            io.read(path)


def test_free_memory_is_known_here():
    assert _bytes.free_memory() > 1 << 20


def test_sizes_as_people_read_them():
    assert [_bytes.size_text(n) for n in (5, 2048, 12.3 * 2**30)] == ["5 bytes", "2.0 KiB", "12.3 GiB"]
