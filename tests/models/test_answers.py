"""Answers for whole images: classes and values, of volumes and of slices, and the table they are written to."""

import csv
import io
import json

import numpy as np
import pytest
from nets import Net, make, make_card
from phantom_grids import CODES, block

from napari_lightbox.errors import FileError, InputError
from napari_lightbox.models import predict, quote
from napari_lightbox.models.loaders import Model
from napari_lightbox.progress import Cancelled, listening

torch = pytest.importorskip("torch")

SIDES = ["left", "right", "posterior", "anterior", "superior", "inferior"]


def halves(x):
    """Return how much of the brightness lies in each half of the axes x, y, z, as logits; (n, 6)."""
    found = []
    for axis in (4, 3, 2):
        middle = x.shape[axis] // 2
        low, high = (x.narrow(axis, s, middle).sum((1, 2, 3, 4)) for s in (0, middle))
        found += [high, low]
    return torch.stack(found, 1)


def class_card(classes=SIDES, activation="softmax", dims=3, **output):
    spec = {"dims": dims, "channels": [{"name": "image"}]}
    spec.update(output.pop("input", {}))
    return make_card(
        input=spec,
        window={},
        output={"kind": "class", "activation": activation, "classes": list(classes), **output},
    )


def value_card(dims=3, values=({"name": "age", "unit": "years"},), input=(), **output):
    spec = {"dims": dims, "channels": [{"name": "image"}], **dict(input)}
    return make_card(input=spec, window={}, output={"kind": "value", "values": list(values), **output})


@pytest.mark.parametrize("code", CODES)
def test_an_asymmetric_phantom_is_seen_the_right_way_round(code):
    volume = block(code, (1, 2, 3), (2, 4, 5))
    centre = volume.grid.to_world((1.5, 3.0, 4.0)) - volume.grid.to_world((np.array(volume.data.shape) - 1) / 2)
    # Of the grid's own axes each lies closest to one of the patient; signs there are those of the voxel order.
    order, flips = volume.grid.order_for("LPS")
    offset = (np.array((1.5, 3.0, 4.0)) - (np.array(volume.data.shape) - 1) / 2)[list(order)]
    offset = np.where(flips, -offset, offset)
    assert (np.sign(offset) == np.sign(centre)).all(), "the phantom must not lie near a plane of the patient"
    wanted = {
        pair[0] if value > 0 else pair[1]
        for value, pair in zip(offset[::-1], zip(SIDES[::2], SIDES[1::2], strict=True), strict=True)
    }
    model = Model(class_card(activation="sigmoid", input={"orientation": "LPS"}), Net(lambda x: 100 * halves(x) - 50))
    found = predict(volume, model)
    assert {row["name"] for row in found.answers if row["probability"] > 0.99} == wanted
    assert {row["name"] for row in found.answers if row["probability"] < 0.01} == set(SIDES) - wanted


def test_probabilities_are_those_of_torch_frame_by_frame():
    volume = make((3, 6, 8, 10))
    model = Model(class_card(), Net(halves))
    found = predict(volume, model)
    assert [row["frame"] for row in found.rows] == [f for f in range(3) for _ in SIDES]
    assert [row["name"] for row in found.rows] == SIDES * 3
    logits = halves(torch.from_numpy(volume.data)[:, None])
    given = np.array([row["probability"] for row in found.rows]).reshape(3, 6)
    np.testing.assert_allclose(given, torch.softmax(logits, 1), atol=1e-6)
    assert found.get("left", 1) == given[1, 0]
    assert not np.allclose(given[0], given[1])
    assert found.columns == ("frame", "name", "probability")


def test_the_whole_image_is_brought_to_the_size_and_scaled():
    seen = Net(lambda x: x.mean((1, 2, 3, 4), keepdim=False)[:, None])
    values = [{"name": "volume", "unit": "ml", "scale": 20, "offset": -3}]
    spec = {"resize": [4, 6, 8], "channels": [{"name": "i", "intensity": {"rule": "minmax"}}]}
    volume = make((8, 12, 16))
    found = predict(volume, Model(value_card(values=values, input=spec), seen))
    assert seen.seen[0].shape == (1, 1, 4, 6, 8)
    halved = volume.data.reshape(4, 2, 6, 2, 8, 2).mean((1, 3, 5))
    halved = (halved - halved.min()) / (halved.max() - halved.min())
    assert found.rows[0]["value"] == pytest.approx(20 * halved.mean() - 3, rel=1e-5)
    assert (found.rows[0]["name"], found.rows[0]["unit"]) == ("volume", "ml")
    assert any("16 x 12 x 8 to 8 x 6 x 4" in note and "back" not in note for note in found.notes)


def test_slices_answer_each_or_together_and_in_the_stored_order():
    volume = block("RAI", (1, 2, 3), (2, 4, 5))
    brightness = volume.data.mean((1, 2))
    net = Net(lambda x: x.mean((1, 2, 3)))
    each = predict(volume, Model(value_card(2, input={"orientation": "LPS"}), net))
    assert volume.grid.order_for("LPS")[1][0], "the slices must be turned round on their way in"
    assert [row["slice"] for row in each.rows] == list(range(10))
    np.testing.assert_allclose([row["value"] for row in each.rows], brightness, atol=1e-6)
    assert each.columns == ("frame", "slice", "name", "value", "unit")
    mean = predict(volume, Model(value_card(2, slices="mean"), net))
    assert mean.rows == ({"frame": 0, "name": "age", "value": pytest.approx(brightness.mean()), "unit": "years"},)
    assert "the answer is the mean over 10 slices" in mean.notes
    most = predict(volume, Model(value_card(2, slices="max"), net))
    assert most.get("age") == pytest.approx(brightness.max())


def test_mirrored_answers_are_averaged():
    net = Net(lambda x: x[:, 0, 0, 0, :2])
    volume = make((2, 3, 4))
    model = Model(value_card(values=[{"name": "a"}, {"name": "b"}]), net)
    found = predict(volume, model, mirror=(2,))
    first, last = volume.data[0, 0, :2], volume.data[0, 0, ::-1][:2]
    np.testing.assert_allclose([row["value"] for row in found.rows], (first + last) / 2, rtol=1e-6)


def test_the_table_is_written_whole_and_read_back(tmp_path):
    found = predict(make(), Model(value_card(values=[{"name": "a, b", "unit": "mm"}]), Net(lambda x: x.sum()[None])))
    rows = list(csv.DictReader(io.StringIO(found.write(tmp_path / "a.csv").read_text())))
    assert rows == [{"frame": "0", "name": "a, b", "value": str(found.rows[0]["value"]), "unit": "mm"}]
    text = json.loads(found.write(tmp_path / "a.JSON").read_text())
    assert text["rows"] == [dict(row) for row in found.rows]
    assert text["model"]["name"] == "made-up"
    assert text["image"] == "scan"
    assert text["kind"] == "value"
    assert text["step"]["operation"] == "predict"
    assert text["step"]["inputs"] == ["scan"]
    with pytest.raises(InputError, match=r"must end in .csv or .json"):
        found.write(tmp_path / "a.txt")
    with pytest.raises(FileError, match="folder does not exist"):
        found.write(tmp_path / "no" / "a.csv")


def refused(match, model, volume=None, **options):
    with pytest.raises(InputError, match=match) as caught:
        predict(make() if volume is None else volume, model, **options)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_refused_in_a_sentence():
    good = Model(class_card(), Net(halves))
    found = predict(make(), good)
    for name in ("labels", "uncertainty"):
        with pytest.raises(InputError, match=r"gives answers for the whole image .take answers. and no"):
            getattr(found, name)
    for name in ("probability", "output"):
        with pytest.raises(InputError, match="gives answers for the whole image"):
            getattr(found, name)(0)
    with pytest.raises(InputError, match="no answer 'up' for frame 0, slice None: the names are left"):
        found.get("up")
    refused("window .8, 8, 8. cannot be chosen .* sees the whole image", good, window=[8, 8, 8])
    refused("kind 'labels' cannot be chosen .* whose kind is 'class'", good, kind="labels")
    refused("activation 'sigmoid' cannot be chosen", good, activation="sigmoid")
    refused("mirror .3,. must be True", good, mirror=(3,))
    refused(
        r"gave \(1, 2\) for an image of shape .* where \(1, 6\)", Model(class_card(), Net(lambda x: halves(x)[:, :2]))
    )
    refused("gave NoneType", Model(class_card(), Net(lambda x: None)))
    refused("NaN or infinite", Model(class_card(), Net(lambda x: halves(x) / 0 * 0)))
    refused(
        "are no probabilities: set output.activation",
        Model(class_card(activation="none"), Net(lambda x: halves(x) + 9)),
    )
    refused("failed on an image of shape .*ZeroDivisionError", Model(class_card(), Net(lambda x: 1 // 0)))
    refused("single slice", good, make((1, 8, 8)))
    bad = make()
    bad.data[0, 0, 0] = np.nan
    refused("holds 1 voxels that are NaN", good, bad)


def test_its_price_is_told_and_it_can_be_left():
    volume = make((3, 4, 8, 10))
    each = Model(value_card(2), Net(lambda x: x.mean((1, 2, 3))))
    assert quote(volume, each.card).windows == 12
    assert quote(volume, Model(class_card(), Net()).card).windows == 3

    def leave(what, done, total):
        if done:
            raise Cancelled

    with listening(leave), pytest.raises(Cancelled):
        predict(volume, each)
