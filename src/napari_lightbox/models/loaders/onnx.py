"""Networks in ONNX, run by onnxruntime.

An ONNX file needs no trust: it is a graph of named operations and their numbers, and cannot hold a program. onnxruntime
runs operations that it was built with, and refuses any other name. Operations from elsewhere would have to be brought
by a library of compiled code that the program registers, which this one never does. What remains is data outside of
the file: a graph may name other files for its weights, and these must lie in the model's folder, or reading a model
would read whatever file its author chose. Contexts of compiled code (``EPContext``) are refused.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import FileError, InputError, need
from ..torch_import import import_torch
from ._onnx_memory import needed

if TYPE_CHECKING:
    import torch

_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
# Where messages lie in onnx.proto, by message and number of the field: what is in them is read in turn.
_INSIDE = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "sparse": {1: "tensor", 2: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "tensor": {13: "entry"},
}
_DEEPEST = 64


# Looking into the file ------------------------------------------------------------------------------------------


def external_files(path: Path) -> list[Path]:
    """Return the files beside an ONNX file that hold its weights, after a look at all of its graphs.

    Raises
    ------
    FileError
        If the file is damaged, or names a file outside of its folder, or compiled code.
    """
    try:
        found = dict.fromkeys(_found(memoryview(path.read_bytes()), "model"))
    except (ValueError, IndexError) as error:
        raise FileError(f"weights {path} are no readable ONNX file ({error}): fetch the file again") from error
    files = []
    for kind, name in found:
        if kind == "operation":
            raise FileError(
                f"weights {path} hold compiled code ({name}), which is never run: export the network again, to plain "
                "ONNX"
            )
        file = path.parent / name
        if not name or not file.resolve().is_relative_to(path.parent.resolve()):
            raise FileError(
                f"weights {path} name the file {name!r} outside of the model's folder {path.parent}, which is never "
                "read: export the network again, with its weights in one file"
            )
        if not file.is_file():
            raise FileError(f"weights {path} need the file {name!r} beside them: copy it from where the model lies")
        files.append(file)
    return files


def _found(message: memoryview, kind: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield the files that a message names, and operations that are compiled code."""
    if depth > _DEEPEST:
        raise ValueError("its graphs lie too deep in one another")
    entry = {}
    for number, value in _fields(message):
        if not isinstance(value, memoryview):
            continue
        if kind == "entry":
            entry[number] = bytes(value).decode()
        elif kind == "node" and number == 4 and bytes(value) == b"EPContext":
            yield "operation", "EPContext"
        elif number in _INSIDE[kind]:
            yield from _found(value, _INSIDE[kind][number], depth + 1)
    if entry.get(1) == "location":
        yield "file", entry.get(2, "")


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield number and content of the fields of a protobuf message."""
    place = 0
    while place < len(message):
        key, place = _number(message, place)
        kind = key & 7
        if kind == 0:
            value, place = _number(message, place)
        else:
            size = {1: 8, 5: 4}.get(kind)
            if kind == 2:
                size, place = _number(message, place)
            if size is None or place + size > len(message):
                raise ValueError("it ends too early")
            value, place = message[place : place + size], place + size
        yield key >> 3, value


def _number(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
        if shift > 63:
            raise ValueError("a number in it is too large")


# Running it -----------------------------------------------------------------------------------------------------


def read(path: Path, every: str = "") -> "torch.nn.Module":
    """Return the network of a file, on the CPU.

    `every` asks for all outputs by name: ``"batch"`` of many windows together, ``"each"`` as a list of one window each,
    as outputs with as many rows as there are boxes do not fit together. Else the first that looks like an answer comes.

    It answers windows of the sizes the file fixes: its attribute ``fixed`` says them, None where any will do. A batch
    of more windows than it takes at a time is cut up. Its attribute ``files`` are those that its weights lie in beside
    it.

    Raises
    ------
    FileError
        If the file is damaged, holds an operation that onnxruntime has not, or names files outside of its folder.
    InputError
        If the network takes anything but one tensor (batch, channels, then the axes).
    MissingPart
        If onnxruntime is not installed.
    """
    files = external_files(path)
    runtime = need("onnxruntime", "Running an ONNX model")
    import_torch("Running an ONNX model")
    session = _session(runtime, path, "cpu")
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in _TYPES or len(inputs[0].shape) not in (4, 5):
        raise InputError(
            f"weights {path} take {len(inputs)} inputs, where one tensor of real numbers (batch, channels, then 2 or 3 "
            "axes) is needed: export the network itself, without what prepares its input"
        )
    module = _module(runtime, path, session, every)
    module.files = tuple(files)
    return module


def _session(runtime: Any, path: Path, device: str) -> Any:
    import torch

    options = runtime.SessionOptions()
    options.log_severity_level = 4  # errors are raised; their text is not printed as well
    options.intra_op_num_threads = torch.get_num_threads()
    providers: list = ["CPUExecutionProvider"]
    if device != "cpu" and "CUDAExecutionProvider" in runtime.get_available_providers():
        index = torch.device(device).index or 0
        # Single precision as it is written, as everywhere here.
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": index, "use_tf32": 0}))
    try:
        return runtime.InferenceSession(str(path), sess_options=options, providers=providers)
    except Exception as error:  # its exceptions have no common base
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FileError(
            f"weights {path} cannot be opened by onnxruntime {runtime.__version__} ({first[:200]}): export the network "
            "again with operations of standard ONNX"
        ) from error


def _by_name(session: Any, name: str, values: np.ndarray) -> dict[str, Any]:
    """Return all outputs for one input, by name."""
    import torch

    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {name: np.ascontiguousarray(values)})
    return {name: torch.from_numpy(np.asarray(one)) for name, one in zip(names, found, strict=True)}


def _module(runtime: Any, path: Path, session: Any, every: str = "") -> "torch.nn.Module":
    import torch

    first = session.get_inputs()[0]
    fixed = tuple(n if isinstance(n, int) and n > 0 else None for n in first.shape)
    # Of several outputs the first that looks like an answer: others are those of deep supervision.
    answer = next((o for o in session.get_outputs() if len(o.shape) == len(first.shape)), session.get_outputs()[0])

    class Onnx(torch.nn.Module):
        """A session of onnxruntime as a module."""

        def __init__(self) -> None:
            super().__init__()
            self.fixed = fixed

        def __deepcopy__(self, memo: dict) -> "torch.nn.Module":
            return _module(runtime, path, session, every)

        def to(self, device: Any) -> "torch.nn.Module":
            return _module(runtime, path, _session(runtime, path, str(device)), every)

        def needed(self, shape: tuple[int, ...]) -> int | None:
            """Return about how many bytes a batch takes beside its input, as far as that is known."""
            # More windows than it takes at a time go in turns.
            return needed(runtime, path, (fixed[0] or shape[0], *shape[1:]), _fields)

        def forward(self, x: "torch.Tensor") -> Any:
            size = tuple(x.shape[2:])
            if any(want not in (None, n) for want, n in zip(fixed[2:], size, strict=True)):
                raise InputError(
                    f"the ONNX network answers windows of {fixed[2:]} only, not {size}: give window.size in the card, "
                    "or export it with dynamic axes"
                )
            values = x.detach().cpu().numpy().astype(_TYPES[first.type], copy=False)
            if every == "each":
                return [_by_name(session, first.name, one) for one in values[:, None]]
            batch = fixed[0] or len(values)
            missing = math.ceil(len(values) / batch) * batch - len(values)
            values = np.concatenate([values, values[-1:].repeat(missing, 0)]) if missing else values
            parts = [values[start : start + batch] for start in range(0, len(values), batch)]
            if every:
                every_part = [_by_name(session, first.name, part) for part in parts]
                return {
                    name: torch.cat([part[name] for part in every_part])[: len(x)].to(x.device)
                    for name in every_part[0]
                }
            found = [session.run([answer.name], {first.name: np.ascontiguousarray(part)})[0] for part in parts]
            return torch.from_numpy(np.concatenate(found)[: len(x)]).to(x.device)

    return Onnx()
