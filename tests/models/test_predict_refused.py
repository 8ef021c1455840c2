"""Models, volumes and options that do not fit are refused in a sentence, and so is what was not kept."""

import numpy as np
import pytest
from nets import Net, constant_logits, ct_card, identity, make, make_card

from napari_lightbox.errors import InputError
from napari_lightbox.models import predict
from napari_lightbox.models.loaders import Model
from napari_lightbox.models.networks import build
from napari_lightbox.volume import Volume

torch = pytest.importorskip("torch")


def refused(match, volume=None, model=None, **options):
    model = model or Model(ct_card(), Net(constant_logits(1, 2, 3)))
    volume = make(meta={"modality": "CT"}) if volume is None else volume
    with pytest.raises(InputError, match=match) as caught:
        predict(volume, model, **options)
    assert "\n" not in str(caught.value)


def test_a_wrong_modality_is_refused_and_an_unknown_one_is_noted():
    refused("'scan' is MR, but model 'made-up' is made for CT", make(meta={"modality": "MR"}))
    model = Model(ct_card(), Net(constant_logits(1, 2, 3)))
    found = predict(make(meta={"modality": "MR"}), model, check=False)
    assert any("is MR" in note for note in found.notes)
    assert any("modality of 'scan' is unknown" in note for note in predict(make(), model).notes)
    assert not any("modality" in note for note in predict(make(meta={"modality": "ct"}), model).notes)


WINDOW = {"rule": "window", "low": -1000, "high": 1000}


def with_rule(**rule):
    channels = [{"name": "CT", "modality": "CT", "intensity": rule}]
    return Model(ct_card(input={"dims": 3, "channels": channels}), Net(constant_logits(1, 2, 3)))


@pytest.mark.parametrize("rule", [WINDOW, {"rule": "zscore", "low": -160, "high": 300, "mean": 80, "std": 120}])
def test_values_that_cannot_be_hounsfield_units_are_refused_where_the_modality_is_unknown(rule):
    brain = np.random.default_rng(0).uniform(0, 255, (12, 20, 24))
    brain[0, 0, 0] = -2  # as resampling leaves it
    image = make((12, 20, 24)).replace(data=brain.astype(np.float32))
    said = r"values of 'scan' \(-2 to 2\d\d.*\) are not Hounsfield units .* model 'made-up' is made for CT"
    refused(said, image, with_rule(**rule))
    found = predict(image, with_rule(**rule), check=False)
    assert sum("Hounsfield" in note for note in found.notes) == 1
    # What a header says is not doubted, only noted.
    told = predict(image.replace(meta={"modality": "CT"}), with_rule(**rule)).notes
    assert any("do not look like Hounsfield units" in note for note in told)


def test_values_that_may_be_hounsfield_units_are_not_refused():
    rng = np.random.default_rng(0)
    soft = make((12, 20, 24)).replace(data=rng.normal(40, 15, (12, 20, 24)).astype(np.float32))
    assert any("modality of 'scan' is unknown" in note for note in predict(soft, with_rule(**WINDOW)).notes)
    bright = soft.replace(data=np.abs(soft.data))
    refused("not Hounsfield", bright, with_rule(**WINDOW))
    # The window of a brain begins at 0: images that are cut off there are what such a model learned from.
    for rule in ({"rule": "window", "low": 0, "high": 80}, {"rule": "minmax"}, {"rule": "none"}):
        predict(bright, with_rule(**rule))


def test_wrong_dims_channels_and_spacing_are_refused():
    refused("single slice", make((1, 8, 8)))
    refused(r"takes 1 images \(CT\), not 2", [make(), make()])
    refused(
        "spacing of 'volume' is unknown",
        Volume.from_array(np.zeros((4, 4, 4))),
        Model(ct_card(input__spacing=[1, 1, 1]), Net(constant_logits(1, 2, 3))),
    )
    refused(
        "does not lie in the plane",
        make((8, 1, 8)),
        Model(make_card(input={"dims": 2, "channels": [{"name": "i"}], "orientation": "LPS"}), Net()),
    )
    refused("must be a Volume", np.zeros((3, 3, 3)))
    refused("empty list", [])
    refused("label volume", Volume.from_array(np.zeros((3, 3, 3), np.uint8), kind="labels"))
    far = make().grid.reordered((0, 1, 2), (False,) * 3)
    far = type(far)(far.affine + 500 * np.eye(4, k=3), far.shape)
    refused("do not overlap", [make(), make().replace(grid=far, name="far")], identity)
    refused("frames", [make((2, 3, 4, 5)), make((3, 3, 4, 5))], identity)


def test_wrong_options_are_refused():
    refused("precision 'half'", precision="half")
    refused("device 'tpu'", device="tpu")
    refused("overlap 1.5", overlap=1.5)
    refused("blending 'hann'", blending="hann")
    refused("activation 'relu'", activation="relu")
    refused("kind 'class'", kind="class")
    refused("window", window=(4, 4))
    refused("window", window=(0, 4, 4))
    refused("divisible by 4", window=(6, 8, 8), model=Model(ct_card(input__divisible_by=4), Net()))
    refused("mirror", mirror=(3,))
    refused("dims 4", model=identity, dims=4)
    refused("must be a Model", model=3)
    refused(r"class 'liver' is unknown .* 1 \(lung\), 2 \(bone\)", probabilities=["liver"])
    refused("class 7", probabilities=7)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_said_so():
    refused("finds no CUDA GPU", device="cuda")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_voxels_that_are_no_numbers_are_refused(bad):
    data = np.zeros((3, 4, 5))
    data[1, 2, 3] = bad
    refused("holds 1 voxels that are NaN, infinite", Volume.from_array(data, spacing=(1, 1, 1)))


def test_a_model_with_a_wrong_answer_is_refused():
    refused("is needed", model=Model(ct_card(), Net(constant_logits(1, 2))))
    refused("is needed", model=lambda x: x[..., :-1])
    refused("is needed", model=lambda x: None)
    refused("is needed", model=lambda x: x[0])
    refused("NaN or infinite", model=lambda x: x / 0)
    refused("failed on a window of shape", model=lambda x: 1 // 0)
    torch.manual_seed(0)
    two = build("unet", dims=3, in_channels=2, out_channels=3, channels=(2, 4))
    refused("failed on a window .*channels", make((4, 4, 4)), Model(ct_card(), two))
    refused("divisible by 2", make((5, 4, 4)), Model(ct_card(), build("unet", dims=3, channels=(2, 4))))


def test_running_out_of_memory_is_one_sentence():
    def hungry(x):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    refused("choose a smaller window", model=hungry)
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.int16), (30000, 30000, 30000), (0, 0, 0))
    refused("GB are free", Volume.from_array(huge, spacing=(1, 1, 1)))


def test_what_was_not_kept_is_said_so():
    found = predict(make(), constant_logits(1, 2), probabilities=[1])
    with pytest.raises(InputError, match="probabilities=0"):
        found.probability(0)
    with pytest.raises(InputError, match="uncertainty=True"):
        _ = found.uncertainty
    with pytest.raises(InputError, match="kind='image'"):
        found.output()
    image = predict(make(), identity, kind="image")
    with pytest.raises(InputError, match="output"):
        _ = image.labels
    with pytest.raises(InputError, match="channel 1"):
        image.output(1)
