"""What a network in ONNX needs for a batch of windows, worked out from its graph without running it.

onnxruntime works out the sizes of all tensors between its operations if they are made outputs of the graph: protobuf
joins messages that are written one behind the other, so a graph of further outputs is put behind the file's. What
lives at once is then counted along the nodes, each tensor from where it is made to where it is last read.
"""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
_BYTES = {"tensor(double)": 8, "tensor(int64)": 8, "tensor(float16)": 2, "tensor(bool)": 1}
# Operations that write over their input where nobody else reads it.
_IN_PLACE = ("Relu", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "Add", "Mul", "Identity", "Reshape", "Clip", "Dropout")
# Of what lives at once: the arena of onnxruntime takes more from the system than it gives away.
_ARENA = 2.1
# What the operations bring with them.
_CODE = 12 << 20


def needed(runtime: Any, path: Path, shape: Sequence[int], fields: Callable) -> int | None:
    """Return about how many bytes a file's network takes beside its weights and its input; None where that is hidden.

    `fields` reads a protobuf message, as `onnx` does.
    """
    try:
        data = path.read_bytes()
        nodes = _nodes(data, fields)
        sizes = _sizes(runtime, path, data, [name for _, _, made in nodes for name in made if name], shape)
    except Exception as error:  # its exceptions have no common base
        log.info("%s cannot be followed: %s", path, str(error).split("\n")[0][:200])
        return None
    return int(_ARENA * _most(nodes, sizes)) + _CODE


def _most(nodes: Sequence[tuple[str, list[str], list[str]]], sizes: dict[str, int]) -> int:
    """Return the bytes that live at once, at most."""
    last = {name: number for number, (_, read, _) in enumerate(nodes) for name in read}
    living: dict[str, int] = {}
    most = 0
    for number, (operation, read, made) in enumerate(nodes):
        over = [name for name in read if last[name] == number and name in living]
        place = over[0] if over and operation in _IN_PLACE else None
        # Of a size that only the run would tell: padding, joining and the like make of their input what they get.
        given = sum(living.get(name, 0) for name in read)
        living.update({name: sizes.get(name, given) for name in made if name})
        most = max(most, sum(living.values()) - living.get(place, 0))
        for name in over:
            living.pop(name, None)
    return most


def _nodes(data: bytes, fields: Callable) -> list[tuple[str, list[str], list[str]]]:
    """Return operation, inputs and outputs of the nodes, in their order."""
    found = []
    for number, graph in fields(memoryview(data)):
        for kind, node in fields(graph) if number == 7 else ():
            if kind == 1:
                texts = [(n, bytes(value).decode()) for n, value in fields(node) if n in (1, 2, 4)]
                found.append(tuple([text for n, text in texts if n == kind] for kind in (4, 1, 2)))
    return [("".join(operation), read, made) for operation, read, made in found]


def _sizes(runtime: Any, path: Path, data: bytes, names: Sequence[str], shape: Sequence[int]) -> dict[str, int]:
    """Return the bytes of tensors by name, without those that are not known before they are made."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    # As the graph stands, so that every tensor is there.
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    plain = runtime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])
    for axis, size in zip(plain.get_inputs()[0].shape, shape, strict=True):
        if isinstance(axis, str):
            options.add_free_dimension_override_by_name(axis, size)
    outputs = {output.name for output in plain.get_outputs()}
    more = b"".join(_field(12, _field(1, name.encode())) for name in dict.fromkeys(names) if name not in outputs)
    full = data + _field(7, more)
    found = runtime.InferenceSession(full, sess_options=options, providers=["CPUExecutionProvider"]).get_outputs()
    known = {one.name: (_BYTES.get(one.type, 4), _whole(one.shape, shape[0])) for one in found}
    return {name: size * math.prod(axes) for name, (size, axes) in known.items() if axes is not None}


def _whole(axes: Sequence[Any], batch: int) -> Sequence[int] | None:
    """Return a shape whose first axis may be left open, as that is the batch; None where others are."""
    if len(axes) > 2 and not isinstance(axes[0], int):
        axes = [batch, *axes[1:]]
    return axes if all(isinstance(axis, int) for axis in axes) else None


def _field(number: int, data: bytes) -> bytes:
    """Return a field of a protobuf message that holds bytes."""
    return _number(number << 3 | 2) + _number(len(data)) + data


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
