"""Networks in ONNX with several outputs: boxes, scores and labels in any order, and outputs by name."""

import json

import numpy as np
import pytest
from nets import Net, make, make_card

from napari_lightbox import models
from napari_lightbox.errors import InputError
from napari_lightbox.models.loaders import Model

torch = pytest.importorskip("torch")

BOXES = np.array([[0, 0, 0, 2, 3, 4], [1, 2, 3, 4, 6, 7]], np.float32)


def saved(folder, nodes, outputs, constants, output):
    """Write a network of one input, and a card; outputs are names with types of numpy and shapes."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import helper, numpy_helper

    def told(name, dtype, shape):
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    graph = helper.make_graph(
        [helper.make_node(kind, given, [made], **more) for kind, given, made, more in nodes],
        "g", [told("image", np.float32, ["n", 1, "z", "y", "x"])], [told(*one) for one in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, folder / "net.onnx")
    card = {
        "name": "several", "loader": "onnx", "weights": "net.onnx", "input": {"channels": [{"name": "CT"}]},
        "window": {"size": [4, 8, 8]}, **output,
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))
    return models.load(folder)


def test_boxes_come_by_other_names_in_another_order(tmp_path):
    constants = {"d": BOXES, "c": np.array([2, 1]), "p": np.array([0.5, 0.75], np.float32)}
    nodes = [("Identity", [one], name, {}) for one, name in (("c", "classes"), ("d", "dets"), ("p", "conf"))]
    outputs = [("classes", np.int64, ["m"]), ("conf", np.float32, ["m"]), ("dets", np.float32, ["m", 6])]
    kind = {"kind": "boxes", "labels": {"1": "nodule", "2": "cyst"}}
    model = saved(tmp_path, nodes, outputs, constants, {"output": kind})
    found = models.predict(make((4, 8, 8)), model)
    np.testing.assert_allclose(found.boxes, BOXES[::-1] - 0.5)
    assert [(row["name"], row["score"]) for row in found.rows] == [("nodule", 0.75), ("cyst", 0.5)]
    # In two windows, each by itself.
    assert {row["name"] for row in models.predict(make((4, 8, 12)), model).rows} == {"nodule", "cyst"}


def test_several_outputs_of_one_file_are_told_apart(tmp_path):
    nodes = [
        ("Mul", ["image", "minus"], "other", {}),
        ("Concat", ["other", "image"], "logits", {"axis": 1}),
        ("Mul", ["image", "two"], "double", {}),
        ("GlobalAveragePool", ["image"], "mean", {}),
    ]
    outputs = [(name, np.float32, ["n", k, "z", "y", "x"]) for name, k in (("double", 1), ("logits", 2))]
    outputs.append(("mean", np.float32, ["n", 1, 1, 1, 1]))
    constants = {"minus": np.float32(-1), "two": np.float32(2)}
    parts = {
        "seg": {"kind": "labels", "labels": {"1": "bright"}, "take": "logits"},
        "twice": {"kind": "image", "take": "double"},
        "mean": {"kind": "value", "values": [{"name": "mean"}], "take": "mean"},
    }
    model = saved(tmp_path, nodes, outputs, constants, {"outputs": parts})
    image = make((6, 9, 12))
    found = models.predict(image, model)
    assert np.array_equal(found.labels.data, image.data > 0)
    np.testing.assert_allclose(found.outputs["twice"].output().data, 2 * image.data, rtol=1e-5)
    assert found.outputs["mean"].get("mean") == pytest.approx(image.data.mean(), rel=1e-4)


CARD = make_card(output={"kind": "boxes", "labels": {"1": "a", "2": "b"}})
SCORES, LABELS = torch.tensor([0.5, 0.75]), torch.tensor([2, 1])
THREE = (torch.from_numpy(BOXES), SCORES, LABELS)


@pytest.mark.parametrize(
    "answer",
    [
        THREE,
        list(THREE),
        [THREE],
        tuple(one[None] for one in THREE[::-1]),
        {"pred_boxes": THREE[0], "prob": SCORES, "cls": LABELS},
        {"x": THREE[0][None], "y": LABELS[None], "z": SCORES[None]},
    ],
)
def test_boxes_may_be_tuples_and_batches(answer):
    found = models.predict(make(), Model(CARD, Net(lambda x: answer)))
    np.testing.assert_allclose(found.boxes, BOXES[::-1] - 0.5)
    assert [row["label"] for row in found.rows] == [1, 2]


def test_boxes_that_cannot_be_told_apart_are_refused():
    with pytest.raises(InputError, match="boxes, scores and labels by name are needed"):
        models.predict(make(), Model(CARD, Net(lambda x: (THREE[0], SCORES, SCORES))))
