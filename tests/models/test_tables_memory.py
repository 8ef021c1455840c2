"""Answers, boxes and finer images when memory is short: the same results, with a note, or a refusal before the work."""

import numpy as np
import pytest
from nets import Net, make, make_card

from napari_lightbox.errors import InputError
from napari_lightbox.models import chunks, cost, heap, predict, quote, tables, windows
from napari_lightbox.models.loaders import Model
from napari_lightbox.models.plan import Options, make_plan

torch = pytest.importorskip("torch")

from napari_lightbox.models.session import Session, session  # noqa: E402


def failing(function, times):
    """Return a network that runs out of memory the first times it is asked about several windows."""
    left = [times]

    def run(x):
        if len(x) > 1 and left[0]:
            left[0] -= 1
            raise MemoryError("out of memory")
        return function(x)

    return Net(run)


def box(x):
    one = {"boxes": [[1.0, 2, 4, 5]], "scores": [0.9], "labels": [1]}
    return [{k: torch.tensor(v) for k, v in one.items()} for _ in x]


KINDS = {
    "value": ({"kind": "value", "values": [{"name": "mean"}]}, lambda x: x.mean((1, 2, 3)), None),
    "class": ({"kind": "class", "classes": ["a", "b"]}, lambda x: x[:, 0, :1, :2].flatten(1), None),
    "boxes": ({"kind": "boxes", "labels": {"1": "a"}}, box, [6, 6]),
    "finer": ({"kind": "image", "factor": 2}, lambda x: x.repeat_interleave(2, -1).repeat_interleave(2, -2), [6, 6]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_running_out_once_changes_nothing_and_is_noted(kind):
    output, function, window = KINDS[kind]
    card = make_card(input__dims=2, window__size=window, output=output)
    volume = make((9, 8, 11))
    found = predict(volume, Model(card, failing(function, 2)))
    plain = predict(volume, Model(card, Net(function)))
    said = [note for note in found.notes if "memory ran out" in note]
    assert said
    assert "slices instead of" in said[0]
    assert not any("memory ran out" in note for note in plain.notes)
    if kind == "finer":
        assert np.array_equal(found.output().data, plain.output().data)
    else:
        assert found.rows == plain.rows


@pytest.mark.parametrize("kind", KINDS)
def test_the_heap_is_tight_where_a_whole_image_is_asked_about(kind):
    output, function, window = KINDS[kind]
    seen = []

    def run(x):
        seen.append(heap._tight[0])
        return function(x)

    predict(make((9, 8, 11)), Model(make_card(input__dims=2, window__size=window, output=output), Net(run)))
    assert set(seen) == {1 if kind in ("class", "value") else 0}
    assert heap._tight == [0]


def test_one_that_needs_too_much_by_itself_goes_to_the_cpu_or_is_refused():
    def full(x):
        raise MemoryError

    card = make_card(output={"kind": "value", "values": [{"name": "mean"}]})
    with pytest.raises(InputError, match=r"needs more memory than cpu has .* a smaller input.resize or window"):
        predict(make(), Model(card, Net(full)))
    plan = make_plan([make()], card, Options("image", "none", 0.0, "constant"))
    with session([make()], Model(card, Net()), card, plan, "cpu", 1) as (run, _):
        moved = []
        # A device that there always is, in the part of a GPU.
        far = Session(run.channels, card, plan, "meta", full, run.counter, lambda: moved.append(True))
        far.to_cpu = lambda: setattr(far, "network", lambda x: x.sum())
        (part, answer) = next(far.answers(torch.ones(1, 2)))
    assert (tuple(part.shape), float(answer), far.device) == ((1, 2), 2.0, "cpu")
    assert far.notes == ["the memory of meta did not suffice: the network went on on the CPU"]


def shifted(x):
    """Return a finer image in which every window differs from its neighbours, so that blending can be seen."""
    fine = torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest")
    return torch.cat([fine + x.mean(), fine.roll(1, 2)], 1)


@pytest.mark.parametrize("blending", ["gaussian", "constant"])
def test_a_finer_image_is_the_sum_over_all_windows_whatever_is_held_at_once(blending, monkeypatch):
    size = (4, 6, 8)
    card = make_card(window__size=list(size), output={"kind": "image", "factor": 2})
    volume = make((15, 9, 13))
    found = predict(volume, Model(card, Net(shifted)), blending=blending)
    # All of it at once, in double precision.
    image = torch.from_numpy(volume.data)
    total = torch.zeros((2, *(2 * n for n in image.shape)), dtype=torch.float64)
    for window in windows.layout(tuple(image.shape), size, (0.5,) * 3, blending):
        weight = np.einsum("i,j,k->ijk", *(np.repeat(vector, 2).astype(float) for vector in window.weights))
        where = tuple(slice(2 * s, 2 * (s + n)) for s, n in zip(window.start, size, strict=True))
        total[(slice(None), *where)] += shifted(image[window.slices][None, None])[0].double() * torch.from_numpy(weight)
    for channel in range(2):
        np.testing.assert_allclose(found.output(channel).data, total[channel].numpy(), atol=1e-5)
    monkeypatch.setattr(tables, "KEPT_ABOVE", 1000)
    disk = predict(volume, Model(card, Net(shifted)), blending=blending, memory=1001, check=False)
    assert any("kept on disk" in note for note in disk.notes)
    assert isinstance(disk.output().data, chunks.Chunked if chunks.available() else np.memmap)
    for channel in range(2):
        assert np.array_equal(np.asarray(disk.output(channel).data), found.output(channel).data)
    made = quote(volume, card, memory=1001)
    assert made.disk_bytes == 4 * 8 * volume.data.size
    written = cost.CHUNKING if chunks.available() else 0
    assert made.memory_bytes - written < quote(volume, card).memory_bytes


def test_frames_and_padding_of_a_finer_image_in_slabs():
    card = make_card(window__size=[8, 8, 8], input__orientation="ARS", output={"kind": "image", "factor": 2})
    volume = make((2, 5, 9, 13))
    found = predict(volume, Model(card, Net(lambda x: torch.nn.functional.interpolate(x, scale_factor=2)))).output()
    np.testing.assert_allclose(found.data, np.kron(volume.data, np.ones((1, 2, 2, 2))), atol=1e-6)
