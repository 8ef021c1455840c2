"""What a network needs for a batch of windows, followed through its operations without computing anything.

The network is asked about a tensor without numbers (torch's device "meta"). Every operation it does passes by here,
whether it is a module, TorchScript or an exported program, and what lives at once is counted. To that comes what the
convolutions of oneDNN and of PyTorch take for themselves, which no tensor shows.
"""

import copy
import logging
import math
from types import FunctionType
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

log = logging.getLogger(__name__)
# oneDNN pads features to so many, and reads fewer than that where they lie.
_LANES = 16
# Sizes (n, channels, and two axes) up to which PyTorch convolves single windows itself, by a matrix of all patches.
_LITTLE = 20480
# Arrays of more bytes go back to the system when they are freed; smaller ones leave gaps in the heap.
_SMALL = 32 << 20
# What the gaps come to, as a share of the smaller arrays that live at once; more where TorchScript runs the network.
_GAPS, _GAPS_OF_SCRIPTS = 0.55, 1.5
_ROUNDED = 1.03
# Operations by which a script changes a list or a dictionary.
_CHANGES = ("aten::_set_item", "aten::append", "aten::extend", "aten::insert", "aten::update", "aten::setdefault")
# What the layers of oneDNN, and the operations of PyTorch, bring with them: code that is read or made.
_CODE, _OPERATIONS = 46 << 20, 8 << 20


def needed(network: torch.nn.Module, shape: tuple[int, ...], *, tight: bool = False) -> int | None:
    """Return about how many bytes a network takes on the processor beside its weights and its input.

    Parameters
    ----------
    network : torch.nn.Module
        On the CPU. It is left as it is: a copy without weights is asked; a script, which has no such copy, itself.
    shape : tuple of int
        Of a batch of windows, (n, channels, then 2 or 3 axes).
    tight : bool
        Whether it is asked while the heap is `heap.tight`.

    Returns
    -------
    int or None
        None where the network cannot be followed: it looks at the numbers, is no network of torch, or what it was asked
        about would stay behind, in a script that keeps things or with somebody who listens to its parts.

    Examples
    --------
    >>> needed(torch.nn.ReLU(), (1, 1, 64, 64, 64)) > 4 * 64**3
    True
    """
    following = _Following()
    try:
        twin = _twin(network)
        # The optimiser of TorchScript would otherwise take what it sees here for what comes later.
        with torch.random.fork_rng(devices=()), torch.no_grad(), torch.jit.optimized_execution(False), following:
            asked = torch.zeros(shape, device="meta")
            twin(asked)
    except Exception as error:  # whatever a network does not bear
        if following.left is not None:
            raise following.left from None
        log.info("%s cannot be followed: %s", type(network).__name__, str(error).split("\n")[0][:200])
        return None
    beside = max(0, following.most - 4 * math.prod(shape))
    scripts = any(isinstance(one, torch.jit.ScriptModule) for one in network.modules())
    gaps = 0 if tight else (_GAPS_OF_SCRIPTS if scripts else _GAPS) * following.small
    return int(_ROUNDED * beside + gaps) + (_CODE if following.convolved else _OPERATIONS)


def _twin(network: torch.nn.Module) -> torch.nn.Module:
    """Return a copy whose weights have no numbers, and which keeps for itself whatever it keeps."""
    shared: dict[int, Any] = {}
    for part in network.modules():
        hooks = (*part._forward_hooks.values(), *part._forward_pre_hooks.values())
        # Objects that listen are copied; of functions only torch's own are known to remember nothing.
        if any(isinstance(hook, FunctionType) and not hook.__module__.startswith("torch.") for hook in hooks):
            raise ValueError("somebody listens to its parts")
        if isinstance(part, torch.jit.ScriptModule):
            if _keeps(part):
                raise ValueError("a script changes what it holds")
            # A copy would have all its weights once more.
            shared[id(part)] = part
    for one in (*network.parameters(), *network.buffers()):
        bare = _bare(one)
        shared[id(one)] = torch.nn.Parameter(bare, one.requires_grad) if isinstance(one, torch.nn.Parameter) else bare
    return copy.deepcopy(network, shared)


def _keeps(script: torch.jit.ScriptModule) -> bool:
    """Whether a script writes into what belongs to it."""
    graph = getattr(script, "inlined_graph", None)
    if graph is None:
        return False
    changes = [node for kind in _CHANGES for node in graph.findAllNodes(kind)]
    own = any(next(node.inputs()).node().kind() == "prim::GetAttr" for node in changes)
    return own or bool(graph.findAllNodes("prim::SetAttr"))


class _Following(TorchDispatchMode):
    """Counts the bytes that live at once.

    Attributes
    ----------
    most : int
        Bytes at most.
    small : int
        Bytes of smaller arrays at most.
    convolved : bool
        Whether oneDNN had anything to do.
    left : BaseException or None
        What ended it from outside, such as Ctrl-C: a script makes an error of its own of that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most, self.small, self.convolved = 0, 0, False
        self.left: BaseException | None = None
        self._living: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        try:
            return self._done(function, args, kwargs or {})
        except Exception:
            raise
        except BaseException as left:
            self.left = left
            raise

    def _done(self, function: Any, args: tuple, kwargs: dict) -> Any:
        args, kwargs = _without_numbers(args, kwargs)
        if function._schema.is_mutable:
            self._require_own(function, args, kwargs)
        out = function(*args, **kwargs)
        made = [one for one in tree_leaves(out) if isinstance(one, torch.Tensor)]
        for one in made:
            storage = one.untyped_storage()
            self._living[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._living = {key: one for key, one in self._living.items() if not one[0].expired()}
        here = [size for _, size in self._living.values()]
        if function.overloadpacket in (torch.ops.aten.convolution, torch.ops.aten._convolution):
            here += self._convolving(made[0], *args[:4], args[5], transposed=args[6], groups=args[8])
        self.most = max(self.most, sum(here))
        self.small = max(self.small, sum(size for size in here if size < _SMALL))
        return out

    def _require_own(self, function: Any, args: tuple, kwargs: dict) -> None:
        """Refuse to write into numbers that were there before."""
        for place, argument in enumerate(function._schema.arguments):
            written = argument.alias_info is not None and argument.alias_info.is_write
            given = args[place] if place < len(args) else kwargs.get(argument.name)
            for one in tree_leaves(given) if written else ():
                if (
                    isinstance(one, torch.Tensor)
                    and not one.is_meta
                    and one.untyped_storage()._cdata not in self._living
                ):
                    raise ValueError("it changes numbers that it holds")

    def _convolving(self, out, x, weight, _bias, stride, dilation, *, transposed: bool, groups: int) -> list[int]:
        """Return the sizes of what a convolution makes beside its output."""
        size, copied = tuple(weight.shape[2:]), 0 if x.is_contiguous() else _bytes(x)
        unit = max(*stride, *dilation) == 1
        point = unit and math.prod(size) == 1
        alone = point and len(x) < 16 and torch.get_num_threads() == 1
        large = groups > 1 or min(size[-2:]) > 3 or len(x) > 1 or math.prod(x.shape[:4]) > _LITTLE
        if not alone and large:
            self.convolved = True
            taken, given = (_bytes(x), _bytes(out)) if transposed else (_blocked(x), _blocked(out))
            if not transposed and x.shape[1] < _LANES:
                taken = 0
            # The output proper is made when the copy of the input is gone.
            return [copied, given, max(0, taken + _bytes(weight) - _bytes(out))]
        if point:
            return [copied]
        patches = weight.shape[1] * math.prod(x.shape[2:]) if transposed else x.shape[1] * math.prod(out.shape[2:])
        return [copied, 4 * math.prod(size) * patches * (1 if transposed else len(x))]


def _without_numbers(args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Return arguments whose tensors are all without numbers, where any is."""
    flat, how = tree_flatten((args, kwargs))
    tensors = [one for one in flat if isinstance(one, torch.Tensor)]
    if not any(one.is_meta for one in tensors):
        return args, kwargs
    args, kwargs = tree_unflatten([_bare(one) if isinstance(one, torch.Tensor) else one for one in flat], how)
    if kwargs.get("device") is not None:
        kwargs["device"] = torch.device("meta")
    return args, kwargs


def _bare(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_meta:
        return tensor
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _blocked(tensor: torch.Tensor) -> int:
    """Return the bytes of features in blocks, as oneDNN has them."""
    channels = tensor.shape[1]
    return _bytes(tensor) * (-(-channels // _LANES) * _LANES) // max(1, channels)
