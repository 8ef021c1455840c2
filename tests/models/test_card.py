"""Cards: what is right is read whole; what is wrong is named, with its value and what it may be."""

import copy
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from napari_lightbox import Volume
from napari_lightbox.errors import FileError, InputError
from napari_lightbox.models.card import Card
from napari_lightbox.models.loaders import read_card
from napari_lightbox.models.plan import review

GOOD = {
    "name": "demo",
    "version": "1.0.0",
    "licence": "BSD-3-Clause",
    "description": "Finds things.",
    "intended_use": "Tests only.",
    "training_data": "none",
    "figures": {"dice": 0.9},
    "loader": "safetensors",
    "weights": "weights.safetensors",
    "sha256": "0" * 64,
    "architecture": {"name": "unet", "args": {"dims": 3, "in_channels": 1, "out_channels": 3}},
    "input": {
        "dims": 3,
        "channels": [
            {"name": "CT", "modality": "CT", "intensity": {"rule": "window", "low": -1000, "high": 1000}},
        ],
        "orientation": "LPS",
        "spacing": [3.0, 1.0, 1.0],
        "resize": None,
        "divisible_by": 16,
    },
    "window": {"size": [96, 96, 96], "overlap": 0.5, "blending": "gaussian"},
    "output": {
        "kind": "labels",
        "activation": "softmax",
        "labels": {"1": "lung", "2": "bone"},
        "colours": {"1": "#4fc3f7"},
    },
}


def changed(path, value):
    """Return the good card with one field replaced; DELETE takes it out."""
    card = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    here = card
    for name in parents:
        here = here[int(name) if name.isdigit() else name]
    if value is DELETE:
        del here[last]
    else:
        here[last] = value
    return card


DELETE = object()


def test_a_good_card_is_read_whole():
    card = Card.from_dict(GOOD)
    assert (card.name, card.version, card.loader) == ("demo", "1.0.0", "safetensors")
    assert card.input.channels[0].intensity.low == -1000
    assert card.input.spacing == (3.0, 1.0, 1.0)
    assert card.window.size == (96, 96, 96)
    assert card.output.values == (0, 1, 2)
    assert card.output.label(1).name == "lung"
    assert card.output.label(1).colour == "#4fc3f7"
    assert card.output.label(0).name == "background"
    text = card.describe()
    assert all(word in text for word in ("demo", "lung, bone", "Tests only.", "BSD-3-Clause", "dice: 0.9"))


def test_what_may_be_left_out_has_careful_defaults():
    least = {k: GOOD[k] for k in ("name", "loader", "weights", "architecture", "output")}
    card = Card.from_dict({**least, "input": {"dims": 3, "channels": [{"name": "image"}]}})
    assert card.window.size is None
    assert card.window.overlap == 0.5
    assert card.input.channels[0].modality is None
    assert card.input.channels[0].intensity.rule == "none"
    assert card.sha256 is None


WRONG = [
    ("name", DELETE, "name"),
    ("name", 3, "name"),
    ("loader", "pickle", "loader is 'pickle': use one of safetensors"),
    ("loader", DELETE, "loader is missing"),
    ("weights", DELETE, "weights is missing"),
    ("sha256", "abc", "sha256"),
    ("figures", [1], "figures"),
    ("inensity", 3, "inensity is unknown"),
    ("architecture", {}, "architecture"),
    ("architecture.args.in_channels", 2, "architecture.args.in_channels is 2"),
    ("architecture.args.out_channels", 4, "architecture.args.out_channels is 4"),
    ("architecture.args.dims", 2, "architecture.args.dims is 2"),
    ("input", DELETE, "input is missing"),
    ("input.dims", 4, "input.dims is 4: use 2 or 3"),
    ("input.channels", [], "input.channels"),
    ("input.channels.0.name", "", "channels"),
    ("input.channels.0.modality", 5, "modality"),
    ("input.channels.0.intensity.rule", "hu", "intensity.rule is 'hu'"),
    ("input.channels.0.intensity.high", -2000, "low < high"),
    ("input.channels.0.intensity.high", DELETE, "low < high"),
    ("input.channels.0.intensity", {"rule": "percentile", "low": 1, "high": 101}, "between 0 and 100"),
    ("input.channels.0.intensity", {"rule": "zscore", "mean": 3}, "mean and std"),
    ("input.channels.0.intensity", {"rule": "zscore", "mean": 3, "std": 0}, "greater than zero"),
    ("input.channels.0.intensity", {"rule": "minmax", "low": 3}, "low is unknown"),
    ("input.orientation", "LLS", "orientation"),
    ("input.orientation", 3, "orientation"),
    ("input.spacing", [1, 1], "3 numbers"),
    ("input.spacing", [1, 1, 0], "greater than zero"),
    ("input.spacing", [1, 1, float("nan")], "spacing"),
    ("input.resize", [64, 64, 64], "not both"),
    ("input.divisible_by", 0, "divisible_by"),
    ("input.divisible_by", 10, "divisible"),
    ("window.size", [96, 96], "3 whole numbers"),
    ("window.size", [96.5, 96, 96], "whole numbers"),
    ("window.overlap", 1, "overlap is 1"),
    ("window.blending", "hann", "blending"),
    ("window.step", 3, "window.step is unknown"),
    ("output.kind", "mask", "output.kind is 'mask'"),
    ("output.activation", "relu", "activation"),
    ("output.labels", {}, "name the classes"),
    ("output.labels", {"0": "air"}, "name the classes"),
    ("output.labels", {"one": "lung"}, "not a label value"),
    ("output.labels", {"1": "lung", "2": "lung"}, "same name"),
    ("output.labels", {"1": 5}, "must be a text"),
    ("output.colours", {"1": "blue"}, "#rrggbb"),
    ("output.colours", {"7": "#ffffff"}, "not among labels"),
    ("output.take", "", "output.take is ''"),
    ("output.factor", 2, "field output.factor is unknown"),
    ("post", {"liver": {"keep_largest": True}}, "post: class 'liver' is unknown: use lung, bone"),
    ("post", {"lung": {"largest": True}}, "field 'largest' is unknown"),
    ("input.context", 1, "a 3D network sees neighbouring slices anyway"),
    ("input.context", 0.5, "how many slices on each side"),
    ("outputs", {"a": {"kind": "image"}}, "name each output of the network, in place of output"),
    ("output", {"kind": "labels", "labels": {"1": "a"}, "classes": ["a"]}, "field output.classes is unknown"),
    ("output", {"kind": "class"}, "output.classes is missing: give the different names"),
    ("output", {"kind": "class", "classes": ["a", "a"]}, "different names"),
    ("output", {"kind": "class", "classes": ["a"]}, "use the activation sigmoid"),
    ("output", {"kind": "class", "classes": ["a", "b"], "slices": "mean"}, "output.slices is unknown"),
    ("output", {"kind": "class", "classes": ["a", "b"]}, "window.size is [96, 96, 96], but kind 'class' is an answer"),
    ("output", {"kind": "value"}, "output.values is missing"),
    ("output", {"kind": "value", "values": [{"unit": "ml"}]}, "output.values[0].name is missing"),
    ("output", {"kind": "value", "values": [{"name": "a", "scale": 0}]}, "output.values[0].scale is 0"),
    ("output", {"kind": "value", "values": [{"name": "a"}, {"name": "a"}]}, "two values have the same name"),
    ("output", {"kind": "value", "activation": "softmax", "values": [{"name": "a"}]}, "softmax belongs to classes"),
    ("output", {"kind": "boxes"}, "name the classes"),
    ("output", {"kind": "boxes", "order": ["x1", "y1", "x2", "y2"], "labels": {"1": "a"}}, "z1, y1, x1, z2, y2, x2"),
    ("output", {"kind": "boxes", "origin": "corner", "labels": {"1": "a"}}, "edge, centre"),
    ("output", {"kind": "boxes", "score": 2, "labels": {"1": "a"}}, "output.score is 2: give a number from 0 to 1"),
    ("output", {"kind": "boxes", "most": 0, "labels": {"1": "a"}}, "output.most is 0"),
    ("output", {"kind": "image", "factor": 1.5}, "output.factor is 1.5"),
    ("output", {"kind": "image", "factor": [2, 2]}, "a whole number or 3 (z, y, x)"),
]


@pytest.mark.parametrize(("path", "value", "said"), WRONG, ids=[f"{p}-{i}" for i, (p, _, _) in enumerate(WRONG)])
def test_a_wrong_field_is_named(path, value, said):
    with pytest.raises(InputError) as caught:
        Card.from_dict(changed(path, value))
    assert said in str(caught.value)
    assert "'demo'" in str(caught.value) or path == "name"
    assert "\n" not in str(caught.value)


def test_regions_list_their_channels_in_order():
    card = Card.from_dict(
        changed("output", {"kind": "regions", "labels": {"2": "whole", "1": "core"}})
        | {"architecture": {"name": "unet"}}
    )
    assert card.output.activation == "sigmoid"
    assert card.output.values == (2, 1)
    with pytest.raises(InputError, match="sigmoid or none"):
        Card.from_dict(changed("output", {"kind": "regions", "activation": "softmax", "labels": {"1": "a"}}))


def test_answers_boxes_and_several_outputs_are_read_whole():
    bare = {"architecture": {"name": "unet"}, "window": {}}
    output = {"kind": "value", "values": [{"name": "age", "unit": "years", "scale": 100, "offset": 1}]}
    card = Card.from_dict(changed("output", output) | bare)
    (age,) = card.output.quantities
    assert (age.name, age.unit, age.scale, age.offset) == ("age", "years", 100, 1)
    assert "age (years)" in card.describe()
    card = Card.from_dict(changed("output", {"kind": "class", "classes": ["a", "b"]}) | bare)
    assert card.output.classes == ("a", "b")
    assert (card.output.activation, card.output.slices) == ("softmax", "each")
    card = Card.from_dict(changed("output", {"kind": "boxes", "labels": {"1": "nodule"}}) | bare)
    assert card.output.boxes.order == ("z1", "y1", "x1", "z2", "y2", "x2")
    assert (card.output.boxes.origin, card.output.boxes.overlap, card.output.boxes.most) == ("edge", 0.5, 300)
    several = {k: v for k, v in GOOD.items() if k != "output"}
    several["outputs"] = {"seg": GOOD["output"], "clean": {"kind": "image", "take": 1}}
    card = Card.from_dict(several | {"post": {"*": {"keep_largest": 2}}})
    assert card.output is card.outputs["seg"]
    assert [spec.take for spec in card.outputs.values()] == ["seg", 1]
    assert dict(card.post) == {"*": {"keep_largest": 2, "remove_below_ml": 0.0, "fill_holes": False}}


def test_a_folder_without_a_card_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"holds no card\.json"):
        Card.read(tmp_path)
    with pytest.raises(FileError, match="not a folder"):
        Card.read(tmp_path / "none")
    (tmp_path / "card.json").write_text("{ not json")
    with pytest.raises(FileError, match="cannot be read as JSON"):
        Card.read(tmp_path)
    (tmp_path / "card.json").write_text("[1]")
    with pytest.raises(InputError, match="object with named fields"):
        Card.read(tmp_path)


def test_weights_are_hashed_and_a_wrong_hash_is_refused(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"abc")
    right = hashlib.sha256(b"abc").hexdigest()
    (tmp_path / "card.json").write_text(json.dumps(changed("sha256", right.upper())))
    assert Card.read(tmp_path).verify() == right
    (tmp_path / "card.json").write_text(json.dumps(GOOD))
    with pytest.raises(FileError, match="SHA-256 ba7816bf8f01"):
        Card.read(tmp_path).verify()
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(FileError, match="not there"):
        Card.read(tmp_path).verify()


def test_weights_outside_the_folder_are_refused(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (tmp_path / "w").write_bytes(b"abc")
    for where in ("../w", str(tmp_path / "w")):
        (model / "card.json").write_text(json.dumps(changed("weights", where)))
        with pytest.raises(FileError, match="outside"):
            Card.read(model).verify()


def test_reading_a_card_needs_no_torch():
    code = (
        "import sys; from napari_lightbox import models; models.available(); models.quote; "
        "assert not {'torch', 'napari', 'qtpy', 'SimpleITK'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_values_speak_where_no_file_states_the_modality():
    rng = np.random.default_rng(0)
    ct = Volume.from_array(
        rng.choice([-1000.0, 40.0], (8, 30, 30)) + rng.normal(0, 5, (8, 30, 30)), (1, 1, 1), name="ct"
    )
    grey = Volume.from_array(rng.uniform(0, 255, (8, 30, 30)), (1, 1, 1), name="grey")
    ultrasound, tomography = read_card("fetal-head"), read_card("ct-regions")
    assert "Hounsfield units (CT), but" in review([ct], ultrasound)[0][0]
    assert not review([grey], ultrasound)[0]
    assert "are not Hounsfield units" in review([grey], tomography)[0][0]
    assert "do not look like" in review([grey.replace(data=grey.data - 10)], tomography)[1][0]
    assert not review([ct], tomography)[0]
    chance = grey.replace(data=grey.data / 255, kind="probability", name="p")
    assert "'p' is a probability" in review([chance], tomography)[0][0]
