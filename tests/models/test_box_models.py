"""Boxes around what a network finds: their place in the image and in the patient, and which of them stay."""

from types import SimpleNamespace

import numpy as np
import pytest
from nets import Net, make, make_card
from phantom_grids import CODES, block
from scipy import ndimage

from napari_lightbox.errors import InputError
from napari_lightbox.models import predict, quote
from napari_lightbox.models.loaders import Model

torch = pytest.importorskip("torch")

from napari_lightbox.models.boxes import suppressed  # noqa: E402


def finder(order="z1 y1 x1 z2 y2 x2", shift=0.0, score=0.9, level=0.5):
    """Return a network that draws a box around every bright component of what it sees."""

    def one(image):
        parts, _ = ndimage.label(image.numpy() > level)
        rows = []
        for place in ndimage.find_objects(parts):
            sides = {}
            for axis, part in zip("zyx"[3 - len(place) :], place, strict=True):
                sides[f"{axis}1"], sides[f"{axis}2"] = part.start - shift, part.stop - shift
            rows.append([sides[name] for name in order.split()])
        boxes = torch.tensor(rows, dtype=torch.float32).reshape(-1, 2 * (image.ndim))
        count = len(rows)
        return {"boxes": boxes, "scores": torch.full((count,), score), "labels": torch.ones(count, dtype=torch.int64)}

    return Net(lambda x: [one(item[0]) for item in x])


def card(dims=3, window=None, input=(), **output):
    return make_card(
        input={"dims": dims, "channels": [{"name": "image"}], **dict(input)},
        window={"size": window, "overlap": 0.5},
        output={"kind": "boxes", "labels": {"1": "nodule", "2": "cyst"}, **output},
    )


LOW, HIGH = (2, 3, 9), (4, 8, 12)
# Voxel k reaches from k - 0.5 to k + 0.5.
EXACT = [1.5, 2.5, 8.5, 4.5, 8.5, 12.5]


@pytest.mark.parametrize("code", CODES)
def test_a_box_comes_back_to_its_voxels_and_its_place_in_the_patient(code):
    volume = block(code, LOW, HIGH, frames=2)
    found = predict(volume, Model(card(input={"orientation": "LPS", "divisible_by": 4}), finder()))
    np.testing.assert_allclose(found.boxes, [EXACT, EXACT])
    assert [row["frame"] for row in found.rows] == [0, 1]
    row = found.rows[0]
    inside = np.argwhere(volume.data[0])
    centre = volume.grid.to_world(inside).mean(0)
    np.testing.assert_allclose([row["z_mm"], row["y_mm"], row["x_mm"]], centre, atol=1e-4)
    np.testing.assert_allclose([row["dz_mm"], row["dy_mm"], row["dx_mm"]], np.multiply((3, 6, 4), (3, 2, 1.5)))
    assert (row["label"], row["name"], row["score"]) == (1, "nodule", 0.9)


def test_orders_and_origins_of_a_card_are_followed():
    volume = block("LPS", LOW, HIGH)
    order = "x1 y1 x2 y2 z1 z2"
    model = Model(card(order=order.split(), origin="centre"), finder(order, shift=0.5))
    np.testing.assert_allclose(predict(volume, model).boxes, [EXACT])


def test_a_resampled_image_gives_boxes_within_a_voxel():
    volume = block("AIR", (2, 4, 8), (5, 9, 13))
    found = predict(volume, Model(card(input={"spacing": [1.5, 1.0, 1.0]}), finder()))
    np.testing.assert_allclose(found.boxes, [[1.5, 3.5, 7.5, 5.5, 9.5, 13.5]], atol=0.3)


def test_slices_give_boxes_of_one_slice_in_the_order_of_torchvision():
    volume = block("RAI", LOW, HIGH)
    found = predict(volume, Model(card(2, input={"orientation": "LPS"}), finder("x1 y1 x2 y2")))
    wanted = [[z - 0.5, 2.5, 8.5, z + 0.5, 8.5, 12.5] for z in (2, 3, 4)]
    np.testing.assert_allclose(sorted(found.boxes.tolist()), wanted)
    assert found.rows[0]["dz_mm"] == 3.0


def test_windows_that_cut_an_object_do_not_leave_its_parts():
    volume = block("LPS", LOW, HIGH)
    model = Model(card(window=[8, 12, 8]), finder())
    assert quote(volume, model.card).windows == 16
    found = predict(volume, model)
    assert len(model.module.seen) == 16
    np.testing.assert_allclose(found.boxes, [EXACT])
    # An object that no window sees whole keeps its largest parts.
    parts = predict(block("LPS", (2, 3, 1), (4, 8, 16)), model)
    assert len(parts.rows) > 1


def test_suppression_is_greedy_by_score_within_a_class():
    rng = np.random.default_rng(3)
    low = rng.uniform(0, 40, (80, 3))
    low[:, 0] = 0
    size = rng.uniform(4, 20, (80, 3))
    size[:, 0] = 1
    boxes = np.concatenate([low, low + size], 1)
    scores, labels = rng.permutation(80) / 80, rng.integers(1, 3, 80)
    found = SimpleNamespace(boxes=boxes, scores=scores, labels=labels, cut=np.zeros(80, bool))
    kept = suppressed(found, 0.3)
    assert (np.diff(scores[kept]) < 0).all()
    assert 10 < len(kept) < 70
    wanted = []
    for label in (1, 2):
        mine = sorted(np.flatnonzero(labels == label), key=lambda n: -scores[n])
        while mine:
            best, *rest = mine
            wanted.append(best)
            mine = [n for n in rest if iou(boxes[best], boxes[n]) <= 0.3]
    assert sorted(kept) == sorted(wanted)


def iou(a, b):
    shared = np.prod([max(0.0, min(a[3 + k], b[3 + k]) - max(a[k], b[k])) for k in range(3)])
    return shared / (np.prod(a[3:] - a[:3]) + np.prod(b[3:] - b[:3]) - shared)


def test_low_scores_background_and_all_but_the_best_are_left_out():
    boxes = torch.tensor([[0.0, 0, 0, 2, 2, 2], [2, 2, 2, 4, 4, 4], [0, 4, 0, 2, 6, 2], [0, 0, 4, 2, 2, 6]])
    said = {"boxes": boxes, "scores": torch.tensor([0.5, 0.9, 0.04, 0.8]), "labels": torch.tensor([1, 2, 1, 0])}
    model = Model(card(), Net(lambda x: said))
    found = predict(make((6, 6, 6)), model)
    assert [row["name"] for row in found.rows] == ["cyst", "nodule"]
    np.testing.assert_allclose(found.scores, [0.9, 0.5])
    best = predict(make((6, 6, 6)), Model(card(most=1), Net(lambda x: said)))
    assert [row["name"] for row in best.rows] == ["cyst"]
    none = predict(make((6, 6, 6)), Model(card(score=1.0), Net(lambda x: said)))
    assert none.rows == ()
    assert none.as_csv().startswith("frame,label,name,score,x1,y1,z1,x2")
    assert none.boxes.shape == (0, 6)


def test_what_does_not_fit_is_refused_in_a_sentence():
    def refused(match, answer, **options):
        with pytest.raises(InputError, match=match) as caught:
            predict(make((6, 6, 6)), Model(card(), Net(lambda x: answer)), **options)
        assert "\n" not in str(caught.value)

    one = torch.ones(1)
    good = {"boxes": torch.tensor([[0.0, 0, 0, 1, 1, 1]]), "scores": one, "labels": one.long()}
    refused("gave Tensor for 1 windows, where a list of 1", torch.zeros(1, 3))
    refused("with boxes, where boxes, scores and labels", {"boxes": one})
    refused(r"gave boxes \(1, 4\), .* where \(n, 6\)", {**good, "boxes": torch.zeros(1, 4)})
    refused("gave boxes, scores or labels that are no tensors", {**good, "labels": ["nodule"]})
    refused("NaN or infinite boxes", {**good, "scores": one * np.nan})
    refused("found class 7, which its card does not name", {**good, "labels": one.long() * 7})
    refused("overlap 2 must be a share", good, overlap=2)
    refused("post cannot be chosen", good, post={"*": {"keep_largest": True}})
    with pytest.raises(InputError, match=r"gives boxes .take rows, boxes and scores. and no labels"):
        _ = predict(make((6, 6, 6)), Model(card(), Net(lambda x: [good]))).labels
