"""Doubt by hand, and predictions of several models, folds, samples and mirrored ways."""

import math
import threading

import numpy as np
import pytest
from nets import Net, constant_logits, ct_card, make, make_card

from napari_lightbox.errors import InputError
from napari_lightbox.models import doubt, predict, quote
from napari_lightbox.models.loaders import Model

torch = pytest.importorskip("torch")

# Three passes over three classes: two say the first class, one the second.
PASSES = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.85, 0.05]])


def entropy(p):
    return -sum(v * math.log(v) for v in p) / math.log(len(p))


def bits(p):
    return -(p * math.log2(p) + (1 - p) * math.log2(1 - p))


def by_hand(name):
    mean = PASSES.mean(0)
    return {
        "entropy": entropy(mean),
        "mutual_information": entropy(mean) - (entropy(PASSES[0]) + entropy(PASSES[1]) + entropy(PASSES[2])) / 3,
        # Squares about the means 0.4333, 0.45 and 0.1167: 0.18667, 0.245 and 0.01167.
        "variance": 1.33 / 27,
        "disagreement": 1 / 3,
    }[name]


@pytest.mark.parametrize("name", doubt.MEASURES)
def test_measures_of_exclusive_classes_are_those_by_hand(name):
    passes = torch.tensor(PASSES)
    found = doubt.measure(name, passes.mean(0), passes, separate=False)
    assert float(found) == pytest.approx(by_hand(name), abs=1e-12)


def test_measures_of_separate_classes_are_the_largest_of_their_own():
    passes = torch.tensor([[0.9, 0.4], [0.7, 0.6]], dtype=torch.float64)
    wanted = {
        "entropy": bits(0.5),
        "mutual_information": max(bits(0.8) - (bits(0.9) + bits(0.7)) / 2, bits(0.5) - (bits(0.4) + bits(0.6)) / 2),
        "variance": 0.01,
        "disagreement": 0.5,
    }
    for name, value in wanted.items():
        found = doubt.measure(name, passes.mean(0), passes, separate=True)
        assert float(found) == pytest.approx(value, abs=1e-12), name


def members(probabilities=PASSES):
    return [Model(ct_card(), Net(constant_logits(*np.log(p)))) for p in probabilities]


@pytest.mark.parametrize("name", doubt.MEASURES)
def test_an_ensemble_decides_by_its_mean_probability(name):
    found = predict(make(), members(), probabilities="all", uncertainty=name)
    mean = PASSES.mean(0)
    # Most passes say the first class, their mean the second.
    assert mean.argmax() == 1
    for value in range(3):
        np.testing.assert_allclose(found.probability(value).data, mean[value], atol=1e-6)
    assert (found.labels.data == mean.argmax()).all()
    np.testing.assert_allclose(found.uncertainty.data, by_hand(name), atol=1e-6)


def test_mirrored_ways_are_passes_and_labels_stay_those_of_the_mean_logits():
    ramp = torch.linspace(-2, 2, 6).reshape(1, 1, 1, 1, 6)

    def network(x):
        return torch.cat([ramp.expand(x.shape), x * 0], 1)

    volume = make((4, 5, 6))
    plain = predict(volume, network, mirror=(2,), probabilities="all")
    found = predict(volume, network, mirror=(2,), probabilities="all", uncertainty="variance")
    assert np.array_equal(found.labels.data, plain.labels.data)
    assert np.array_equal(found.probability(1).data, plain.probability(1).data)
    p = 1 / (1 + np.exp(-np.linspace(-2, 2, 6)))
    np.testing.assert_allclose(found.uncertainty.data[0, 0], ((p - p[::-1]) / 2) ** 2, atol=1e-6)


def dropout_model(p=0.5):
    torch.manual_seed(0)
    layers = [torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Dropout3d(p), torch.nn.Conv3d(8, 2, 1)]
    card = make_card(window={"size": [4, 6, 8]}, output={"kind": "labels", "labels": {"1": "a"}})
    return Model(card, torch.nn.Sequential(*layers))


def test_dropout_is_repeatable_and_the_same_in_bounded_memory():
    model, volume = dropout_model(), make((9, 13, 17))
    before = torch.random.get_rng_state()
    call = {"samples": 4, "probabilities": 1, "uncertainty": "mutual_information", "check": False}
    first = predict(volume, model, seed=3, **call)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not any(m.training for m in model.module.modules())
    for other in (predict(volume, model, seed=3, **call), predict(volume, model, seed=3, memory=2000, **call)):
        for name in first.volumes:
            assert np.array_equal(other.volumes[name].data, first.volumes[name].data)
    assert not np.array_equal(predict(volume, model, seed=4, **call).probability(1).data, first.probability(1).data)
    assert first.uncertainty.data.max() > 0.01
    step = first.uncertainty.history[-1]["parameters"]
    assert (step["samples"], step["seed"], step["uncertainty"]) == (4, 3, "mutual_information")
    assert first.uncertainty.name == "scan · made-up mutual information"


def test_a_sample_is_the_mean_of_networks_with_channels_left_out():
    model, volume = dropout_model(), make((4, 6, 8))
    many = predict(volume, model, samples=200, probabilities=1, window=(4, 6, 8)).probability(1).data
    network = model.module
    total = 0
    # All 256 ways to leave out 8 channels, each as likely as the others.
    with torch.no_grad():
        features = network[1](network[0](torch.from_numpy(volume.data)[None, None]))
        for number in range(256):
            mask = torch.tensor([(number >> bit) & 1 for bit in range(8)]).reshape(1, 8, 1, 1, 1) * 2.0
            total = total + torch.softmax(network[3](features * mask), 1)[0, 1]
    np.testing.assert_allclose(many, total.numpy() / 256, atol=0.06)
    assert not np.array_equal(many, predict(volume, model, probabilities=1, window=(4, 6, 8)).probability(1).data)


def test_what_cannot_be_asked_is_refused():
    def refused(match, model, **given):
        with pytest.raises(InputError, match=match):
            predict(make(meta={"modality": "CT"}), model, **given)

    one = members()[0]
    refused("compares several passes", one, uncertainty="variance")
    refused("uncertainty 'doubt' is unknown", one, uncertainty="doubt")
    refused("layers of dropout", one, samples=3)
    refused("layers of dropout", dropout_model(0.0), samples=3)
    refused("samples -1", one, samples=-1)
    refused("empty list", [])
    refused("mixes functions", [one, lambda x: x])
    refused("differ in input", [one, Model(ct_card(input__divisible_by=2), Net())])
    refused("differ in classes", [one, Model(make_card(output={"kind": "labels", "labels": {"1": "x"}}), Net())])
    refused("which an image does not have", lambda x: x, kind="image", uncertainty="variance", mirror=True)


def test_samples_in_one_thread_leave_nothing_out_in_another():
    """Both are of the same network, whose dropout is on only while samples are drawn."""
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.Dropout(0.5), torch.nn.Conv3d(8, 2, 1))
    card = make_card(output={"kind": "labels", "labels": {"1": "a"}}, window__size=[4, 4, 4])
    model, volume = Model(card, network), make((9, 9, 9))
    calls = {"plain": {}, "sampled": {"samples": 2, "seed": 3}}
    alone = {name: predict(volume, model, probabilities=1, **call).probability(1).data for name, call in calls.items()}
    found = []

    def run(name):
        made = predict(volume, model, probabilities=1, **calls[name])
        found.append((name, np.array_equal(made.probability(1).data, alone[name])))

    threads = [threading.Thread(target=run, args=(name,)) for name in (*calls, *calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [("plain", True)] * 2 + [("sampled", True)] * 2


def test_what_makes_no_difference_is_noted():
    rules = {"1": {"keep_largest": True}}
    cards = [ct_card(post=one) for one in ({}, {"lung": {"keep_largest": True}})]
    models = [Model(card, Net(constant_logits(1, 2, 3))) for card in cards]
    assert any("different things of post-processing" in note for note in predict(make(), models).notes)
    for told in (predict(make(), models, post=rules).notes, predict(make(), models[1]).notes):
        assert not any("different things" in note for note in told)
    image = predict(make(), lambda x: x, kind="image", uncertainty=True)
    assert any("uncertainty is of classes" in note for note in image.notes)


def test_a_quote_refuses_doubt_over_a_single_pass_and_counts_folds():
    card, volume = make_card(output={"kind": "labels", "labels": {"1": "a"}}), make((4, 6, 8))
    with pytest.raises(InputError, match=r"compares several passes.*mirror=True"):
        quote(volume, card, uncertainty="variance")
    assert quote(volume, card, uncertainty="variance", mirror=True).windows
    assert quote(volume, [card, card], uncertainty="disagreement").windows
    assert quote(volume, card, uncertainty="variance", samples=2).windows
