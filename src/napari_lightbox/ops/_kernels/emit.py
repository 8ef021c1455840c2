"""From a selection network to machine code: every wire becomes a vector register, every step one vector instruction.

numba compiles Python functions by way of LLVM, and lets a function write the LLVM code of a call itself: an
*intrinsic*. `vectors` makes one that reads vectors from memory, runs them through a network and writes the outcome.
Nothing is left to the luck of automatic vectorisation, and LLVM splits, joins and schedules the instructions for the
processor at hand.

A network depends on the sizes of the window. The code of an intrinsic is written when the *types* of its arguments are
known, not their values; so the sizes must be told by a type. `sizes_as_type` makes an empty array for it, of texts of
so many characters: numba sees it as a type of its own, compiles a variant for it, and keeps that on disk like any
other. It must be no type of records: numba names the functions that it compiles for these by a number that it counts
up anew in every process, so that code of two variants, kept on disk by two processes, would have the same names.

Importing this module needs numba.
"""

from collections.abc import Callable
from functools import cache

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .networks import Block, Wire

# What types tell, and bounds of each number.
_SIZES = (
    {"z": 8, "y": 8, "x": 8, "rank": 512},
    {"width": 32, "along": 4, "step": 4, "paired": 2, "inside": 17, "lanes": 17},
    {"width": 32, "along": 4, "step": 4, "paired": 2, "inside": 17, "lanes": 17, "adds": 2},
    {"paired": 2, "lanes": 17, "adds": 2},
)


@cache
def _vector_bytes() -> int:
    """Return the width of this processor's vectors."""
    try:
        features = llvmlite.binding.get_host_cpu_features()
    except RuntimeError:
        return 16
    return 64 if features.get("avx512bw") else 32 if features.get("avx2") else 16


def lanes(dtype: np.dtype) -> int:
    """Return how many voxels of a type a vector holds."""
    return _vector_bytes() // np.dtype(dtype).itemsize


def sizes_as_type(**sizes: int) -> np.ndarray:
    """Return an empty array whose type tells numbers: those of one of `_SIZES`, each below its bound."""
    kind = next(k for k, bounds in enumerate(_SIZES) if list(bounds) == list(sizes))
    code = 0
    for name, bound in _SIZES[kind].items():
        if not 0 <= sizes[name] < bound:
            raise ValueError(f"{name} is {sizes[name]}: the code tells numbers from 0 to {bound - 1}")
        code = code * bound + sizes[name]
    return np.empty(0, f"S{code * len(_SIZES) + kind + 1}")


def sizes_of(text: types.CharSeq) -> dict[str, int]:
    """Return the numbers that the type of an array from `sizes_as_type` tells, from the type of its entries."""
    code, kind = divmod(text.count - 1, len(_SIZES))
    found = {}
    for name, bound in reversed(_SIZES[kind].items()):
        code, found[name] = divmod(code, bound)
    return found


def vectors(design: Callable[..., Block | None]) -> Callable:
    """Return a function, for compiled code only, that runs vectors in memory through a network.

    Parameters
    ----------
    design : callable
        From the numbers that the type of the first argument tells, the network; None where there is nothing to do.

    Returns
    -------
    callable
        ``emitted(sizes, voxels, sources, targets)``: an array from `sizes_as_type`, any array of the type of the
        voxels, and the addresses of the lists that are read and written, as tuples. All is read before anything is
        written.
    """

    @intrinsic
    def emitted(typingctx, sizes, voxels, sources, targets):
        def write_code(context, builder, signature, arguments):
            block = design(**sizes_of(sizes.dtype))
            if block is not None:
                addresses = [cgutils.unpack_tuple(builder, argument) for argument in arguments[2:]]
                _write(builder, block, voxels.dtype, *addresses)
            return context.get_dummy_value()

        return types.void(sizes, voxels, sources, targets), write_code

    return emitted


def constants(count: int, design: Callable[..., tuple[int, ...]]) -> Callable:
    """Return a function, for compiled code only, that gives numbers known when that is compiled.

    Parameters
    ----------
    count : int
        How many numbers.
    design : callable
        From the numbers that the type of the first argument tells, the numbers.

    Returns
    -------
    callable
        ``emitted(sizes)``: an array from `sizes_as_type`.
    """

    @intrinsic
    def emitted(typingctx, sizes):
        returned = types.UniTuple(types.int64, count)

        def write_code(context, builder, signature, arguments):
            found = [ir.Constant(ir.IntType(64), number) for number in design(**sizes_of(sizes.dtype))]
            return context.make_tuple(builder, returned, found)

        return returned(sizes), write_code

    return emitted


class Code:
    """What a function's machine code is written with: vectors of one type of voxel.

    Parameters
    ----------
    builder : IRBuilder
        Where the code goes.
    voxel : types.Integer or types.Float
        The type.
    """

    def __init__(self, builder: ir.IRBuilder, voxel: types.Number) -> None:
        self.builder, self.voxel = builder, voxel
        self.size, self.is_float = voxel.bitwidth // 8, isinstance(voxel, types.Float)
        self.lanes = _vector_bytes() // self.size
        kinds = {32: ir.FloatType(), 64: ir.DoubleType()}
        self.vector = ir.VectorType(
            kinds[voxel.bitwidth] if self.is_float else ir.IntType(voxel.bitwidth),
            self.lanes,
        )

    def _place(self, start: ir.Value, offset: int) -> ir.Value:
        address = self.builder.add(start, ir.Constant(start.type, offset))
        return self.builder.inttoptr(address, self.vector.as_pointer())

    def load(self, start: ir.Value, offset: int) -> ir.Value:
        """Read the vector that lies so many bytes behind an address."""
        return self.builder.load(self._place(start, offset), align=1)

    def store(self, value: ir.Value, start: ir.Value, offset: int) -> None:
        """Write the vector that lies so many bytes behind an address."""
        self.builder.store(value, self._place(start, offset), align=1)

    def less(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Say for each voxel of two vectors whether the first one is smaller."""
        if self.is_float:
            return self.builder.fcmp_ordered("<", a, b)
        compare = self.builder.icmp_signed if self.voxel.signed else self.builder.icmp_unsigned
        return compare("<", a, b)

    def pick(self, kind: str, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return the smaller ("low") or the larger ("high") one of two."""
        return self.builder.select(self.less(a, b) if kind == "low" else self.less(b, a), a, b)

    def any_nan(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return a number of 64 bits, 0 where neither of two vectors of fractions holds a NaN."""
        found = self.builder.fcmp_unordered("uno", a, b)
        return self.builder.zext(self.builder.bitcast(found, ir.IntType(self.lanes)), ir.IntType(64))

    def run(self, block: Block, lists: list[list[ir.Value]]) -> list[list[ir.Value]]:
        """Run vectors through a network, as `Block.evaluate` does."""
        block.network.prune([wire for wires in block.outputs for wire in wires])
        values: dict[Wire, ir.Value] = {}
        for wires, given in zip(block.inputs, lists, strict=True):
            values.update(zip(wires, given, strict=True))
        for kind, made, a, b in block.network.steps:
            values[made] = self.pick(kind, values[a], values[b])
        return [[values[wire] for wire in wires] for wires in block.outputs]


def _write(
    builder: ir.IRBuilder,
    block: Block,
    voxel: types.Integer,
    sources: list,
    targets: list,
) -> None:
    """Write the code of a block."""
    code = Code(builder, voxel)
    block.network.prune([wire for wires in block.outputs for wire in wires])
    step = code.size if block.sliding else _vector_bytes()
    inputs = {
        wire: (start, step * i)
        for start, wires in zip(sources, block.inputs, strict=True)
        for i, wire in enumerate(wires)
    }
    values: dict[Wire, ir.Value] = {}

    def value(wire: Wire) -> ir.Value:
        # Only what is used, and when it is first used: that keeps registers free.
        if wire not in values:
            values[wire] = code.load(*inputs[wire])
        return values[wire]

    for kind, made, a, b in block.network.steps:
        values[made] = code.pick(kind, value(a), value(b))
    for start, wires in zip(targets, block.outputs, strict=True):
        for i, wire in enumerate(wires):
            code.store(value(wire), start, i * _vector_bytes())


@intrinsic
def voxel_at(typingctx, voxels, address):
    """Return the voxel at an address; `voxels`: any array of its type."""

    def write_code(context, builder, signature, arguments):
        kind = ir.IntType(signature.return_type.bitwidth)
        return builder.load(builder.inttoptr(arguments[1], kind.as_pointer()), align=1)

    return voxels.dtype(voxels, types.intp), write_code
