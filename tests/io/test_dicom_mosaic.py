"""Siemens mosaics become volumes; what does not say where its slices lie is refused."""

import contextlib

import numpy as np
import pytest
from landmarks import rotation

from napari_lightbox import io
from napari_lightbox.errors import FileError
from napari_lightbox.geometry import Grid
from napari_lightbox.io import _dicom_mosaic

pytest.importorskip("pydicom")
from dicom_writing import csa, write_mosaic

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")


def oblique(count=7, flip=1):
    direction = rotation(8, -12, 25) @ np.diag([flip, 1, 1])
    return Grid.from_spacing((3.5, 2.0, 2.25), (count, 5, 6), (-40.5, 30.25, 12.0), direction)


@pytest.mark.parametrize("count", [1, 2, 4, 7, 9, 10])
def test_slices_of_a_mosaic_lie_where_they_were(tmp_path, rng, count):
    grid = oblique(count)
    data = rng.integers(-500, 3000, grid.shape)
    read = io.read(write_mosaic(tmp_path / "m.dcm", data, grid))
    assert np.array_equal(read.data, data)
    assert read.grid.distance(grid) < 1e-4


def test_slices_may_run_against_the_normal(tmp_path, rng):
    """The first tile is then the last slice along row x column."""
    grid = oblique(flip=-1)
    data = rng.integers(0, 3000, grid.shape)
    read = io.read(write_mosaic(tmp_path / "m.dcm", data, grid))
    for index in np.ndindex(grid.shape):
        place = np.rint(read.grid.to_index(grid.to_world(index))).astype(int)
        assert read.data[tuple(place)] == data[index]
    assert not read.grid.left_handed


def test_the_older_kind_of_private_header(tmp_path, rng):
    grid = oblique(5)
    data = rng.integers(0, 3000, grid.shape)
    normal = [f"{v:.8f}" for v in (grid.affine[:3, 0] / 3.5)[::-1]]
    old = csa({"B_value": ["0", ""], "NumberOfImagesInMosaic": ["5"], "SliceNormalVector": normal}, marked=False)
    assert _dicom_mosaic.csa(old)["SliceNormalVector"] == normal
    read = io.read(write_mosaic(tmp_path / "m.dcm", data, grid, header=old))
    assert np.array_equal(read.data, data)
    assert read.grid.distance(grid) < 1e-4


def test_several_mosaics_are_frames_in_time(tmp_path, rng):
    grid = oblique()
    data = rng.integers(0, 3000, (4, *grid.shape))
    for t, time in enumerate(("235959.500000", "000001.500000", "000003.500000", "000005.500000")):
        day = "20240229" if t == 0 else "20240301"
        write_mosaic(tmp_path / f"{9 - t}.dcm", data[t], grid, AcquisitionTime=time, AcquisitionDate=day, EchoTime=30)
    read = io.read(tmp_path)
    assert np.array_equal(read.data, data)
    assert (read.grid.frames.kind, read.grid.frames.values, read.grid.frames.unit) == ("time", (0, 2, 4, 6), "s")
    assert read.grid.without_frames().distance(grid) < 1e-4


NORMAL = {"SliceNormalVector": ["0", "0", "1"]}


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"", "lacks the number of slices and the direction of the slices"),
        (csa({"NumberOfImagesInMosaic": ["7"]}), "lacks the direction of the slices"),
        (csa(NORMAL), "lacks the number of slices"),
        (csa({"NumberOfImagesInMosaic": ["7"], "SliceNormalVector": ["0", "1", "0"]}), "do not lie side by side"),
        (csa({"NumberOfImagesInMosaic": ["7"], "SliceNormalVector": ["nan", "0", "1"]}), "do not lie side by side"),
        (csa({"NumberOfImagesInMosaic": ["7"], "SliceNormalVector": ["0", "0", "0"]}), "do not lie side by side"),
        (csa({"NumberOfImagesInMosaic": ["70"], **NORMAL}), "do not fill"),
        (csa({"NumberOfImagesInMosaic": ["-3"], **NORMAL}), "of -3 slices"),
        (csa({"NumberOfImagesInMosaic": ["many"], **NORMAL}), "lacks the number of slices"),
        (csa({"NumberOfImagesInMosaic": ["7"], **NORMAL})[:150], "CSA header is damaged"),
        (b"SV10" + bytes(4) + b"\xff" * 200, "CSA header is damaged"),
        (b"\xff" * 200, "CSA header is damaged"),
    ],
)
def test_a_mosaic_that_does_not_say_where_it_lies(tmp_path, rng, header, words):
    grid = Grid.from_spacing((3, 2, 2), (7, 5, 6))
    path = write_mosaic(tmp_path / "m.dcm", rng.integers(0, 99, grid.shape), grid, header=header)
    with pytest.raises(FileError, match=words):
        io.read(path)


def test_the_count_may_stand_elsewhere(tmp_path, rng):
    grid = Grid.from_spacing((3, 2, 2), (7, 5, 6))
    data = rng.integers(0, 99, grid.shape)

    def count(ds):
        ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 7)

    read = io.read(write_mosaic(tmp_path / "m.dcm", data, grid, header=csa(NORMAL), change=count))
    assert np.array_equal(read.data, data)


def test_random_private_headers_end_in_a_dict_or_an_error(rng):
    good = csa({"NumberOfImagesInMosaic": ["7"], **NORMAL})
    for start in (good, csa(NORMAL, marked=False)):
        for _ in range(300):
            spoilt = bytearray(start)
            for at in rng.integers(0, len(spoilt), 3):
                spoilt[at] = rng.integers(0, 256)
            with contextlib.suppress(ValueError):
                assert isinstance(_dicom_mosaic.csa(bytes(spoilt)), dict)


# Without a slice normal -----------------------------------------------------------------------------------------


def protocol(centres):
    """Return the series header of the manufacturer with the scan protocol's list of slices."""
    lines = ["### ASCCONV BEGIN ###", f"sSliceArray.lSize = {len(centres)}"]
    for n, centre in enumerate(centres):
        for axis, value in zip(("Sag", "Cor", "Tra"), centre, strict=True):
            # What is 0 is left out.
            lines += [f"sSliceArray.asSlice[{n}].sPosition.d{axis} = {value:.8f}"] if value else []
    return csa({"MrPhoenixProtocol": ["\n".join([*lines, "### ASCCONV END ###"])]})


def planned(path, data, grid, centres, block=0x20, **options):
    """Write a mosaic that has the number of its slices and a protocol, but no normal."""

    def change(ds):
        ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", len(data))
        if centres is not None:
            ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(block, "OB", protocol(centres))

    return write_mosaic(path, data, grid, header=b"", change=change, **options)


def centres_of(grid):
    """Return the centres of the slices as the protocol has them: of rows and columns as a whole, x, y, z."""
    count, rows, columns = grid.shape
    return np.array([grid.to_world((k, rows / 2, columns / 2))[::-1] for k in range(count)])


@pytest.mark.parametrize("flip", [1, -1])
@pytest.mark.parametrize("listed", [1, -1])
def test_the_protocol_proves_the_order(tmp_path, rng, flip, listed):
    """In whichever order it lists the slices: the first tile is at one end."""
    grid = oblique(flip=flip)
    data = rng.integers(0, 3000, grid.shape)
    read = io.read(planned(tmp_path / "m.dcm", data, grid, centres_of(grid)[::listed]))
    for index in np.ndindex(grid.shape):
        place = np.rint(read.grid.to_index(grid.to_world(index))).astype(int)
        assert read.data[tuple(place)] == data[index]
    assert np.abs(read.grid.to_index(grid.to_world((0, 0, 0))) % 1).round(3).max() in (0, 1)


def test_one_slice_needs_no_proof(tmp_path, rng):
    grid = oblique(1)
    data = rng.integers(0, 3000, grid.shape)
    assert np.array_equal(io.read(planned(tmp_path / "m.dcm", data, grid, None)).data, data)


@pytest.mark.parametrize("spoil", ["shifted", "centred", "fewer", "wider", "aside", "nothing", "not numbers"])
def test_a_protocol_that_proves_nothing(tmp_path, rng, spoil):
    grid = oblique()
    centres = centres_of(grid)
    step = centres[1] - centres[0]
    centres = {
        "shifted": centres + 0.5 * step,
        "centred": centres - 3 * step,
        "fewer": centres[:-1],
        "wider": centres[0] + 1.2 * np.arange(7)[:, None] * step,
        "aside": centres + 3 * grid.affine[:3, 2][::-1],
        "nothing": None,
        "not numbers": centres * np.nan,
    }[spoil]
    path = planned(tmp_path / "m.dcm", rng.integers(0, 99, grid.shape), grid, centres)
    with pytest.raises(FileError, match=r"lacks the direction of the slices .*: export it again with all private"):
        io.read(path)


def test_a_real_protocol(data, tmp_path):
    """Without the header that has the normal the mosaic lies where it lies with it."""
    import pydicom

    truth = io.read(data("dicom_transfer_syntaxes_head/1.dcm"))
    ds = pydicom.dcmread(data("dicom_transfer_syntaxes_head/1.dcm"))
    del ds[0x0029, 0x1010]
    ds.save_as(tmp_path / "m.dcm")
    read = io.read(tmp_path / "m.dcm")
    assert np.array_equal(read.data, truth.data)
    assert read.grid.distance(truth.grid) < 1e-4
