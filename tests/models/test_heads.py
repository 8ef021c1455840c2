"""What networks give beside a map of labels: several outputs, finer images, cleaned labels; slices with context."""

import json

import numpy as np
import pytest
from nets import Net, constant_logits, ct_card, make, make_card
from phantom_grids import CODES, block
from scipy import ndimage

from napari_lightbox.errors import InputError
from napari_lightbox.models import predict, quote
from napari_lightbox.models.loaders import Model
from napari_lightbox.recipe import Recipe

torch = pytest.importorskip("torch")

IMAGE = [{"name": "image"}]


def image_card(dims=3, window=None, input=(), **output):
    return make_card(
        input={"dims": dims, "channels": IMAGE, **dict(input)},
        window={"size": window, "overlap": 0.5},
        output={"kind": "image", **output},
    )


def refused(match, model, volume=None, **options):
    with pytest.raises(InputError, match=match) as caught:
        predict(make() if volume is None else volume, model, **options)
    assert "\n" not in str(caught.value)


# One of several outputs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "take", "factor", "said"),
    [
        (lambda x: {"a": x, "b": 2 * x}, "b", 2, None),
        (lambda x: {"a": x, "b": 2 * x}, 1, 2, None),
        (lambda x: {"only": 3 * x}, None, 3, None),
        (lambda x: {"aux": x, "out": 4 * x}, None, 4, "gives aux, out: 'out' was taken"),
        (lambda x: (x, 5 * x), 1, 5, None),
        (lambda x: [6 * x, x[..., ::2, ::2, ::2]], None, 6, "gives 2 outputs: the first was taken"),
        (lambda x: x, 0, 1, None),
    ],
)
def test_one_output_is_taken(answer, take, factor, said):
    volume = make()
    found = predict(volume, Model(image_card(take=take), Net(answer)))
    np.testing.assert_allclose(found.output().data, factor * volume.data, rtol=1e-6)
    notes = [note for note in found.notes if "output" in note or "taken" in note]
    assert notes == ([f"the network {said}"] if said else [])


def test_an_output_that_is_not_there_is_refused():
    refused("gives the outputs a, b, and none is named", Model(image_card(), Net(lambda x: {"a": x, "b": x})))
    refused("'c' is not among them: name one by output.take", Model(image_card(take="c"), Net(lambda x: {"a": x})))
    refused("gives 1 outputs without names, not 1", Model(image_card(take=1), Net(lambda x: [x])))
    refused("gives one output, not 'seg': leave take out", Model(image_card(take="seg"), Net(lambda x: x)))


def many_card(**changes):
    card = {
        "seg": {"kind": "labels", "labels": {"1": "bright"}},
        "clean": {"kind": "image", "unit": "HU", "modality": "ct"},
        "mean": {"kind": "value", "values": [{"name": "mean"}], "take": "m"},
    }
    values = {"name": "many", "loader": "torchscript", "weights": "w", "input": {"channels": IMAGE}, "outputs": card}
    from napari_lightbox.models import Card

    return Card.from_dict({**values, **changes})


def test_several_outputs_come_together_each_in_its_kind():
    volume = make()
    net = Net(lambda x: {"seg": torch.cat([-x, x], 1), "clean": 2 * x, "m": x.mean()[None]})
    found = predict(volume, Model(many_card(), net), probabilities="all")
    assert list(found.outputs) == ["seg", "clean", "mean"]
    np.testing.assert_array_equal(found.labels.data, volume.data > 0)
    np.testing.assert_array_equal(found.outputs["seg"].labels.data, volume.data > 0)
    clean = found.outputs["clean"].output()
    np.testing.assert_allclose(clean.data, 2 * volume.data, rtol=1e-6)
    assert (clean.meta["unit"], clean.meta["modality"]) == ("HU", "CT")
    assert found.outputs["mean"].get("mean") == pytest.approx(volume.data.mean(), rel=1e-4)
    assert clean.history[-1]["parameters"]["output"] == "clean"
    only = predict(volume, Model(many_card(), net), output="clean")
    assert not only.outputs
    assert quote(volume, many_card()).windows == len(net.seen) - 1 == 1
    refused("output 'x' is unknown to model 'many': use seg, clean, mean", Model(many_card(), net), output="x")
    refused("output 'x' cannot be chosen for a function", lambda x: x, output="x")
    refused("use its only one, so leave output out", Model(image_card(), net), output="x")


def test_choices_that_mean_nothing_to_an_answer_or_a_finer_image_are_refused():
    from nets import identity

    finer = Model(image_card(window=[4, 4, 4], factor=2), Net(identity))
    mean = Model(many_card(), Net(lambda x: {"m": x.mean()[None]}))
    for name, value in (("uncertainty", True), ("probabilities", "all"), ("skip_below", 0), ("skip_below", 0.5)):
        refused(f"{name} {value!r} means nothing to model", finer, **{name: value})
        refused(f"{name} {value!r} means nothing to model 'many'", mean, output="mean", **{name: value})
    refused("overlap 0.1 means nothing", mean, output="mean", overlap=0.1)
    refused("blending 'constant' means nothing", mean, output="mean", blending="constant")
    refused("mirror 5 must be", mean, output="mean", mirror=5)
    found = predict(make(), mean, output="mean", precision="fast", mirror=1, blending="gaussian")
    assert any("precision 'fast' changes nothing" in note for note in found.notes)
    assert found.step["parameters"] == {"mirror": [1], "output": "mean"}


def test_choices_of_voxels_are_for_the_outputs_that_have_them():
    net = Net(lambda x: {"seg": torch.cat([-x, x], 1), "clean": 2 * x, "m": x.mean()[None]})
    found = predict(make(), Model(many_card(), net), uncertainty=True, overlap=0, blending="constant")
    assert found.uncertainty.data.max() > 0
    assert found.outputs["mean"].rows
    made = found.outputs["clean"].output()
    assert np.array_equal(Recipe.of(made).steps[0].parameters["output"], "clean")


# Slices with their neighbours -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 5, 4), (2, 6, 5, 4), (1, 5, 4)])
def test_slices_see_their_neighbours_and_the_border_repeated(shape):
    volume = make(shape)
    weights = torch.tensor([1.0, 10.0, 100.0, 1000.0, 10000.0]).reshape(1, 5, 1, 1)
    net = Net(lambda x: (x * weights).sum(1, keepdim=True))
    found = predict(volume, Model(image_card(2, input={"context": 2}), net)).output().data
    longer = np.pad(volume.data, [(0, 0)] * (len(shape) - 3) + [(2, 2), (0, 0), (0, 0)], mode="edge")
    depth = shape[-3]
    wanted = sum(10**k * longer[..., k : k + depth, :, :].astype(float) for k in range(5))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_neighbours_are_in_the_order_of_the_card_and_of_each_image_in_turn():
    volume = block("RAI", (2, 3, 4), (2, 5, 6))
    assert volume.grid.order_for("LPS")[1][0]
    other = volume.replace(data=volume.data * 7)
    two = {"context": 1, "orientation": "LPS", "channels": [{"name": "a"}, {"name": "b"}]}
    net = Net(lambda x: x)
    found = predict([volume, other], Model(image_card(2, input=two), net))
    # Turned round, the slice before comes after in the stored order.
    for channel, (image, step) in enumerate([(i, s) for i in (volume, other) for s in (1, 0, -1)]):
        np.testing.assert_array_equal(found.output(channel).data, np.roll(image.data, -step, 0))
    assert net.seen[0].shape[1] == 6


# Images ---------------------------------------------------------------------------------------------------------


def upsampled(x, by=2):
    return torch.nn.functional.interpolate(x, scale_factor=by, mode="nearest")


@pytest.mark.parametrize("code", CODES)
def test_a_finer_image_lies_where_it_was(code):
    volume = block(code, (2, 3, 9), (4, 8, 12), frames=2)
    card = image_card(window=[8, 8, 8], input={"orientation": "LPS", "divisible_by": 4}, factor=2, unit="HU")
    found = predict(volume, Model(card, Net(upsampled))).output()
    assert found.data.shape == (2, 20, 28, 36)
    np.testing.assert_allclose(found.grid.spacing, (1.5, 1.0, 0.75))
    np.testing.assert_allclose(found.data, np.kron(volume.data, np.ones((1, 2, 2, 2))), atol=1e-6)
    fine, coarse = (g.to_world(np.argwhere(d[1] > 0.5)).mean(0) for g, d in ((v.grid, v.data) for v in (found, volume)))
    np.testing.assert_allclose(fine, coarse, atol=1e-4)
    # A corner of the image is the same point of the patient.
    np.testing.assert_allclose(found.grid.to_world((-0.5,) * 3), volume.grid.to_world((-0.5,) * 3), atol=1e-9)
    assert found.grid.frames == volume.grid.frames
    assert found.meta["unit"] == "HU"


def test_a_finer_image_of_a_resampled_one_covers_the_same_box():
    data = ndimage.gaussian_filter(block("AIR", (3, 4, 9), (5, 7, 12)).data, 1.5)
    volume = block("AIR", (0, 0, 0), (0, 0, 0)).replace(data=data)
    card = image_card(input={"spacing": [3.0, 3.0, 3.0], "orientation": "RAS"}, factor=[1, 2, 3])
    found = predict(volume, Model(card, Net(lambda x: upsampled(x, (1, 2, 3))))).output()
    order = volume.grid.order_for("RAS")[0]
    wanted = np.zeros(3)
    wanted[list(order)] = (3, 1.5, 1)
    np.testing.assert_allclose(found.grid.spacing, wanted, rtol=1e-6)
    centres = [v.grid.to_world(np.array(ndimage.center_of_mass(v.data))) for v in (found, volume)]
    assert np.linalg.norm(centres[0] - centres[1]) < 0.3


def test_slices_can_be_finer_in_their_plane_and_recorded_steps_run_again(tmp_path):
    folder = tmp_path / "twice"
    folder.mkdir()
    values = {
        "name": "twice", "loader": "torchscript", "weights": "w.pt", "sha256": None,
        "input": {"dims": 2, "channels": IMAGE}, "window": {"size": [4, 4]}, "output": {"kind": "image", "factor": 2},
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(values))
    module = torch.nn.Upsample(scale_factor=2, mode="nearest")
    torch.jit.trace(module, torch.zeros(1, 1, 4, 4)).save(folder / "w.pt")
    from napari_lightbox.models import load

    volume = make((3, 6, 7))
    found = predict(volume, load(folder, trust=True)).output()
    np.testing.assert_allclose(found.data, np.kron(volume.data, np.ones((1, 2, 2))), rtol=1e-5)
    again = Recipe.of(found).run(volume)
    np.testing.assert_array_equal(again.data, found.data)
    assert again.grid.same_space(found.grid)


def test_finer_images_that_do_not_fit_are_refused():
    card = image_card(factor=2)
    refused(r"gave \(1, 1, 6, 7, 8\) for a window .* where \(1, channels, 12, 14, 16\)", Model(card, Net(lambda x: x)))
    refused("NaN or infinite", Model(card, Net(lambda x: upsampled(x) / 0)))
    refused("mirror True cannot be chosen .* an image of more voxels", Model(card, Net(upsampled)), mirror=True)
    refused("blending 'hann'", Model(card, Net(upsampled)), blending="hann")


# Cleaned labels -------------------------------------------------------------------------------------------------


def specks():
    """Return an image with a block, a speck, and a hole in the block."""
    volume = block("RAS", (2, 3, 4), (6, 9, 12), frames=2)
    volume.data[..., 4, 5, 6] = 0
    volume.data[..., 8, 12, 16] = 1
    return volume


def bright(x):
    return torch.cat([0.5 - x, x - 0.5, torch.full_like(x, -9)], 1)


RULES = {"lung": {"keep_largest": True, "fill_holes": True}}


def test_labels_are_cleaned_as_asked_and_probabilities_stay():
    volume = specks()
    raw = predict(volume, Model(ct_card(), Net(bright)), probabilities="all")
    np.testing.assert_array_equal(raw.labels.data, volume.data)
    found = predict(volume, Model(ct_card(), Net(bright)), probabilities="all", post=RULES)
    wanted = block("RAS", (2, 3, 4), (6, 9, 12), frames=2)
    np.testing.assert_array_equal(found.labels.data, wanted.data)
    np.testing.assert_array_equal(found.probability("lung").data, raw.probability("lung").data)
    assert any("post-processing of lung: 2 of 4 components removed" in note for note in found.notes)
    (step,) = found.labels.history
    assert step["parameters"]["post"]["lung"] == {"keep_largest": 1, "remove_below_ml": 0.0, "fill_holes": True}


def test_a_card_says_what_is_done_where_the_caller_does_not():
    card = make_card(output={"kind": "labels", "labels": {"1": "lung", "2": "bone"}}, post={"*": RULES["lung"]})
    model, volume = Model(card, Net(bright)), specks()
    assert predict(volume, model).labels.data.sum() == 2 * 5 * 7 * 9
    np.testing.assert_array_equal(predict(volume, model, post=False).labels.data, volume.data)
    np.testing.assert_array_equal(predict(volume, model, post={}).labels.data, volume.data)
    assert predict(volume, model).labels.history[-1]["parameters"]["post"]["*"]["keep_largest"] == 1


def test_rules_that_do_not_fit_are_refused_before_the_work():
    model = Model(ct_card(), Net(constant_logits(1, 2, 3)))
    refused("post: class 'liver' is unknown: use lung, bone", model, post={"liver": {}})
    refused("post must be an object of classes", model, post=["lung"])
    assert not model.module.seen
    refused("post cannot be chosen for kind 'image'", Model(image_card(), Net()), post=RULES)


def test_a_finer_image_that_does_not_fit_into_memory_is_refused_before_the_work():
    model = Model(image_card(factor=2), Net(upsampled))
    refused("about .* of memory and 1 kB are allowed: allow more as memory, or crop or resample", model, memory=1000.0)
    assert not model.module.seen
    predict(make(), model, memory=1000.0, check=False)
