"""Several outputs of one network: it is asked once, and each output is what it is when it is run alone."""

import numpy as np
import pytest
from nets import Net, make

from napari_lightbox.errors import InputError
from napari_lightbox.models import Card, chunks, cost, predict, quote
from napari_lightbox.models.loaders import Model

torch = pytest.importorskip("torch")

OUTPUTS = {
    "seg": {"kind": "labels", "labels": {"1": "bright", "2": "shifted"}},
    "parts": {"kind": "regions", "labels": {"1": "a", "3": "b"}},
    "clean": {"kind": "image", "unit": "HU"},
    "mean": {"kind": "value", "values": [{"name": "mean"}], "take": "m"},
    "sort": {"kind": "class", "classes": ["low", "high"], "take": "s"},
}
for name in ("seg", "parts", "clean"):
    OUTPUTS[name]["take"] = name


def says(x):
    axes = tuple(range(2, x.ndim))
    return {
        "parts": torch.cat([x.roll(1, -1), -x], 1),
        "seg": torch.cat([-x, x, x.roll(2, -1) / 2], 1),
        "clean": 2 * x,
        "m": x.mean(axes),
        "s": torch.cat([x.amin(axes), x.amax(axes)], 1),
    }


def many(dims=3, outputs=OUTPUTS, **window):
    values = {
        "name": "many", "loader": "torchscript", "weights": "w", "outputs": outputs,
        "window": {"overlap": 0.5, **window},
        "input": {"channels": [{"name": "CT"}], "dims": dims, "orientation": "PSR"},
    }  # fmt: skip
    if dims == 3:
        values["input"]["spacing"] = [1.5, 1.5, 1.5]
    net = Net(says)
    return Model(Card.from_dict(values), net), net


def alone(volume, model, name, **choices):
    net = Net(says)
    return predict(volume, Model(model.card, net), output=name, **choices), len(net.seen)


def equal(found, wanted):
    assert list(found.volumes) == list(wanted.volumes)
    for key, volume in wanted.volumes.items():
        assert volume.data.dtype == found.volumes[key].data.dtype
        assert np.array_equal(np.asarray(found.volumes[key].data), np.asarray(volume.data)), key
        assert found.volumes[key].history == volume.history
        assert dict(found.volumes[key].meta) == dict(volume.meta)


@pytest.mark.parametrize(
    ("dims", "shape", "choices"),
    [
        (3, (2, 9, 12, 20), {}),
        (3, (9, 12, 20), {"mirror": True, "uncertainty": True, "memory": 20_000, "check": False}),
        (2, (5, 12, 20), {"overlap": 0, "post": {"bright": {"keep_largest": True}}}),
    ],
)
def test_each_is_what_it_is_alone_and_the_network_is_asked_once(dims, shape, choices):
    volume = make(shape)
    model, net = many(dims, size=[8, 8, 8][:dims])
    choices = {"probabilities": "all", **choices}
    found = predict(volume, model, **choices)
    asked = 0
    for name in ("seg", "parts", "clean"):
        given = choices if name == "seg" else {k: v for k, v in choices.items() if k != "post"}
        wanted, asked = alone(volume, model, name, **given)
        equal(found.outputs[name], wanted)
    # And once for the whole image, which answers two of them.
    whole = alone(volume, model, "mean", **{k: v for k, v in choices.items() if k == "mirror"})[1]
    assert len(net.seen) == asked + whole
    for name in ("mean", "sort"):
        given = {k: v for k, v in choices.items() if k == "mirror"}
        assert found.outputs[name].rows == alone(volume, model, name, **given)[0].rows


def test_an_answer_for_the_whole_image_is_noted_where_the_image_is_one_window():
    volume = make((9, 12, 20))
    model, net = many(size=None)
    found = predict(volume, model, mirror=True)
    assert len(net.seen) == 8
    for name in ("mean", "sort"):
        wanted = alone(volume, model, name, mirror=True)[0].rows
        assert found.outputs[name].rows == wanted
    assert quote(volume, model).windows == 1


def test_the_quote_counts_what_is_asked_and_what_is_kept(monkeypatch):
    volume = make((9, 12, 20))
    model, net = many(size=[8, 8, 8])
    made = quote(volume, model, probabilities="all")
    predict(volume, model)
    assert made.windows == len(net.seen)
    one = quote(volume, model, output="seg", probabilities="all")
    assert made.windows == one.windows + 1
    monkeypatch.setattr(cost, "_SMALL", 100)
    disk = quote(volume, model, probabilities="all", memory=1000)
    # How many channels an image has is not known before: two are reckoned with.
    assert disk.disk_bytes == 4 * volume.data.size * (3 + 2 + 2)
    found = predict(volume, model, probabilities="all", memory=1000, check=False)
    kind = chunks.Chunked if chunks.available() else np.memmap
    assert isinstance(found.outputs["parts"].probability(3).data, kind)
    assert isinstance(found.outputs["clean"].output().data, kind)
    equal(found.outputs["parts"], alone(volume, model, "parts", probabilities="all", memory=1000, check=False)[0])


def test_a_wrong_part_is_told_and_what_cannot_be_shared_is_run_alone():
    outputs = {**OUTPUTS, "parts": {**OUTPUTS["parts"], "labels": {"1": "a"}}}
    model, _ = many(outputs=outputs, size=[8, 8, 8])
    with pytest.raises(InputError, match=r"gave \(1, 2, 8, 8, 8\) .* where \(1, 1, .* output of kind 'regions'"):
        predict(make(), model)
    model, net = many(outputs={name: OUTPUTS[name] for name in ("seg", "parts")}, size=[8, 8, 8])
    volume = make((9, 12, 20))
    with pytest.raises(InputError, match="class 'nobody' is unknown"):
        predict(volume, model, probabilities="nobody")
    assert not net.seen
    found = predict(volume, model, skip_below=-100.0)
    assert len(net.seen) == 2 * alone(volume, model, "seg", skip_below=-100.0)[1]
    equal(found.outputs["parts"], alone(volume, model, "parts", skip_below=-100.0)[0])
