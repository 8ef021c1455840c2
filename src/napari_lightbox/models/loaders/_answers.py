"""How a MONAI bundle asks its network, and what becomes of the answer, understood from names and arguments."""

import ast
from collections.abc import Callable
from dataclasses import dataclass

from ..card import WindowSpec
from ..fields import is_number
from ._config import Config, NotKnown
from ._parts import ELSEWHERE, Part, read_each

# The network's windows ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inferer:
    """How the network is asked: its axes, the window, and what lies around small images."""

    dims: int
    window: WindowSpec
    axes: tuple[int, ...] = (0, 1, 2)
    padding: str = "constant"
    value: float = 0.0


def inferer(config: Config, dims: int) -> Inferer:
    """Return what ``inferer`` says; without one the network takes the whole image.

    Raises
    ------
    NotKnown
        If it is none of SlidingWindowInferer, SliceInferer and SimpleInferer, or has an argument that is not known.
    InputError
        If an argument is wrong.
    """
    axes = (2, 0, 1) if dims == 2 else (0, 1, 2)
    if "inferer" not in config.tree:
        return Inferer(dims, WindowSpec(None, 0.0, "constant"), axes)
    part = Part(config, "@inferer", "inferer")
    if part.name == "SimpleInferer" and part.monai:
        return Inferer(dims, WindowSpec(None, 0.0, "constant"), axes)
    if part.name not in ("SlidingWindowInferer", "SliceInferer") or not part.monai:
        raise NotKnown(
            config.where,
            f"the inferer is {part.target!r}",
            f"and only SlidingWindowInferer, SliceInferer and SimpleInferer are known here; {ELSEWHERE}",
        )
    if part.name == "SliceInferer":
        across = part.take("spatial_dim", 0)
        if across not in (0, 1, 2) or dims != 2:
            raise part.wrong("spatial_dim", "give the axis across the slices, 0 to 2, of a 2D network")
        axes = (across, *(axis for axis in range(3) if axis != across))
    part.skip(
        "sw_batch_size", "sw_device", "progress", "cache_roi_weight_map", "cpu_thresh", "buffer_steps", "buffer_dim",
        "with_coord",
    )  # fmt: skip
    overlap = part.number("overlap", 0.25)
    if overlap is None or not 0 <= overlap < 1:
        raise part.wrong("overlap", "give a share from 0 to less than 1")
    blending = part.take("mode", "constant")
    if blending not in ("constant", "gaussian"):
        raise part.wrong("mode", "use constant or gaussian")
    part.only("sigma_scale", 0.125)
    padding = part.take("padding_mode", "constant")
    if padding not in ("constant", "replicate", "reflect"):
        raise part.wrong("padding_mode", "use constant, replicate or reflect")
    found = Inferer(
        dims,
        WindowSpec(_roi(part, dims), float(overlap), blending),
        axes,
        padding,
        float(part.number("cval", 0.0) or 0),
    )
    part.finish()
    return found


def _roi(part: Part, dims: int) -> tuple[int, ...] | None:
    size = part.numbers("roi_size", whole=True)
    each = size if isinstance(size, tuple) else (size,) * dims
    if len(each) != dims or None in each:
        raise part.wrong("roi_size", f"give {dims} whole numbers for a {dims}D network")
    if all(n <= 0 for n in each):
        return None
    if any(n <= 0 for n in each):
        raise part.wrong("roi_size", "give the size along every axis, or 0 for all of them")
    return tuple(int(n) for n in each)


# After the network ----------------------------------------------------------------------------------------------


@dataclass
class Decision:
    """What becomes of the network's answer.

    Parameters
    ----------
    activation : str
        softmax, sigmoid, or none.
    decision : str
        argmax, threshold, or none where values stay as they are.
    largest : tuple of int or None
        Classes of which the largest component is kept; empty for all, None for none.
    painted : tuple of (int, int) or None
        Of overlapping regions: channel and label value, in the order in which they are written over each other.
    """

    activation: str = "none"
    decision: str = "none"
    largest: tuple[int, ...] | None = None
    painted: tuple[tuple[int, int], ...] | None = None


def decision(config: Config, missed: list[str]) -> Decision:
    """Return what ``postprocessing`` says; what is not understood is named in `missed`.

    Raises
    ------
    InputError
        If an argument is wrong.
    """
    found = Decision()
    read_each(config, "postprocessing", _AFTER, lambda part, name: _AFTER[name](part, found), missed)
    return found


def _invert(part: Part, found: Decision) -> None:
    """Results always come back to the image: linearly, before the classes are decided."""
    part.skip(*part.raw)


def _activations(part: Part, found: Decision) -> None:
    softmax, sigmoid = part.flag("softmax"), part.flag("sigmoid")
    if part.take("other") is not None or (softmax and sigmoid):
        raise part.unknown("other", "and only softmax or sigmoid is known here")
    part.skip("dim", "kwargs")
    found.activation = "softmax" if softmax else "sigmoid" if sigmoid else found.activation


def _discrete(part: Part, found: Decision) -> None:
    part.skip("to_onehot", "num_classes", "n_classes", "rounding", "dim", "keepdim")
    if part.take("rounding") is not None:
        raise part.unknown("rounding")
    threshold = part.take("threshold", part.take("logit_thresh") if part.flag("threshold_values") else None)
    part.skip("logit_thresh")
    if part.flag("argmax"):
        found.decision = "argmax"
    elif threshold is not None and threshold is not False:
        if threshold not in (0.5, True):
            raise part.unknown("threshold", "and only 0.5 is known here")
        found.decision = "threshold"


def _classes(part: Part) -> tuple[int, ...]:
    given = part.take("applied_labels")
    each = given if isinstance(given, list) else [given]
    if given is not None and any(not is_number(v) or int(v) != v or v < 1 for v in each):
        raise part.wrong("applied_labels", "give the values of labels")
    return () if given is None else tuple(int(v) for v in each)


def _largest(part: Part, found: Decision) -> None:
    part.skip("is_onehot")
    part.only("independent", True)
    part.only("connectivity", None, 3)
    part.only("num_components", 1)
    found.largest = _classes(part)


def _lambda(part: Part, found: Decision) -> None:
    """Understand regions that are made labels: ``lambda x: torch.where(x[[2]] > 0, 4, torch.where(...))``."""
    text = part.raw.get("func")
    part.skip("func", "inv_func", "overwrite", "track_meta")
    try:
        tree = ast.parse(str(text).removeprefix("$").strip(), mode="eval").body
        name = tree.args.args[0].arg
        if len(tree.args.args) != 1 or found.decision != "threshold":
            raise ValueError
        found.painted = tuple(reversed(_choices(tree.body, name)))
    except (SyntaxError, AttributeError, LookupError, ValueError, RecursionError, MemoryError) as error:
        raise part.unknown("func", "which is code, and not known by its text") from error


def _choices(node: ast.AST, name: str) -> list[tuple[int, int]]:
    """Return channel and value of nested choices, the strongest first."""
    if isinstance(node, ast.Constant) and node.value == 0:
        return []
    test, value, rest = node.args
    (channel,) = test.left.slice.elts
    (number,) = (one.value for one in test.comparators)
    plain = ast.unparse(node.func) == "torch.where" and not node.keywords and isinstance(test.ops[0], ast.Gt)
    plain = plain and test.left.value.id == name and number == 0 and isinstance(test.left.slice, ast.List)
    if not plain or not type(value.value) is type(channel.value) is int or not 0 < value.value < 65536:
        raise ValueError
    return [(channel.value, value.value), *_choices(rest, name)]


_AFTER: dict[str, Callable[[Part, Decision], None]] = {
    "Invert": _invert,
    "Activations": _activations,
    "AsDiscrete": _discrete,
    "KeepLargestConnectedComponent": _largest,
    "Lambda": _lambda,
}
