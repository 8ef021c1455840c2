"""Convolutions of a network's features, with what follows each: normalisation and activation.

The idea
    Features lie in blocks of sixteen channels, (block, z, y, x, 16), or in half blocks of eight where there are no
    more, within a border of zeros one voxel wide. One vector (or two) holds the channels of a block that come out of
    a voxel. The sums of a *tile*, some neighbours along x, stay in registers from the first tap to the last: for each
    channel that goes in, the weights of the taps along x are read once for the whole tile, and each value of the row
    that goes in serves all taps that it lies under. So the processor multiplies and adds all the time, also with few
    channels, where libraries that gather columns or block over channels do not.

    Which rows go in is told by a table of addresses, one for each block and each tap along z and y. A convolution
    over joined features therefore needs no joined copy: their blocks just stand in the table one after another.

    What follows scales, adds the shortcut of a residual block, applies the (leaky) ReLU, and puts the voxels where
    the next layer reads them. Where the scale is known before (batch normalisation, or none), this is done with each
    row while it is near. Instance normalisation must know all voxels first: sums and sums of squares are added up in
    double precision while a row is near, and what follows is one more pass.

    ``paired`` kernels do the same with bfloat16: two channels that go in are multiplied and added by one instruction,
    in single precision.

What it follows
    Direct convolution with register blocking: E. Georganas et al., Anatomy of high-performance deep learning
    convolutions on SIMD architectures, SC 2018.

Limits
    Kernels of up to 3 along x, steps of 1 or 2 there. The order of the sums differs from that of other libraries.

Importing this module needs numba. Whoever changes a kernel changes the number in its name too: compiled code is kept
on disk under that name.
"""

from collections.abc import Callable
from functools import partial

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ._jit import jit
from .emit import sizes_as_type, sizes_of

# Channels of a block, and those of one that is calculated as half a block.
LANES, HALF = 16, 8
_FLOAT, _LONG, _INT, _SHORT = ir.FloatType(), ir.IntType(64), ir.IntType(32), ir.IntType(16)


class _BFloat(ir.Type):
    """LLVM's bfloat16, which llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


class _Vectors:
    """LLVM's types of vectors of one length."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.floats, self.doubles = (ir.VectorType(kind, lanes) for kind in (_FLOAT, ir.DoubleType()))
        self.ints, self.shorts = ir.VectorType(_INT, lanes), ir.VectorType(_SHORT, lanes)
        self.pairs = ir.VectorType(_BFloat(), 2 * lanes)

    def all(self, value: float, kind: ir.VectorType) -> ir.Constant:
        """Return a vector of equal values."""
        return ir.Constant(kind, [value] * self.lanes)

    def splat(self, builder: ir.IRBuilder, value: ir.Value, kind: ir.VectorType) -> ir.Value:
        """Return a vector that holds a value in every lane."""
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_INT, 0))
        return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(self.ints, None))

    def multiply_add(self, builder: ir.IRBuilder, x: ir.Value, y: ir.Value, total: ir.Value) -> ir.Value:
        """Return total + x y."""
        kind = "f64" if total.type == self.doubles else "f32"
        return _call(builder, f"llvm.fma.v{self.lanes}{kind}", total.type, x, y, total)

    def multiply_add_pairs(self, builder: ir.IRBuilder, x: ir.Value, y: ir.Value, total: ir.Value) -> ir.Value:
        """Return total + x y, both products of pairs of bfloat16."""
        x, y = builder.bitcast(x, self.pairs), builder.bitcast(y, self.pairs)
        return _call(builder, f"llvm.x86.avx512bf16.dpbf16ps.{32 * self.lanes}", self.floats, total, x, y)

    def narrow(self, builder: ir.IRBuilder, values: ir.Value) -> ir.Value:
        """Return floats as bfloat16, to the nearest, ties to even, in 16 bits each."""
        bits, sixteen = builder.bitcast(values, self.ints), self.all(16, self.ints)
        odd = builder.and_(builder.lshr(bits, sixteen), self.all(1, self.ints))
        rounded = builder.add(builder.add(bits, self.all(0x7FFF, self.ints)), odd)
        # What is not a number stays so: rounding might carry into the sign.
        rounded = builder.select(builder.fcmp_unordered("uno", values, values), bits, rounded)
        return builder.trunc(builder.lshr(rounded, sixteen), self.shorts)

    def widen(self, builder: ir.IRBuilder, values: ir.Value) -> ir.Value:
        """Return bfloat16 as floats."""
        wide = builder.shl(builder.zext(values, self.ints), self.all(16, self.ints))
        return builder.bitcast(wide, self.floats)


def features_of_processor() -> set[str]:
    """Return what this processor can do, of ``"avx2"``, ``"avx512"`` and ``"bf16"``; empty: too little."""
    try:
        has = llvmlite.binding.get_host_cpu_features()
    except RuntimeError:
        return set()
    if not (has.get("avx2") and has.get("fma")):
        return set()
    wide = {"avx512"} if has.get("avx512f") and has.get("avx512vl") and has.get("avx512bw") else set()
    return {"avx2"} | wide | ({"bf16"} if wide and has.get("avx512bf16") else set())


def tile_widths() -> tuple[int, ...]:
    """Return how many voxels the sums of which fit into the registers: there are 32 of 16, or 16 of 8."""
    return (24, 16, 12, 8, 6, 4) if "avx512" in features_of_processor() else (4,)


# Writing LLVM code -------------------------------------------------------------------------------------------------


def _at(builder: ir.IRBuilder, address: ir.Value, offset: int, kind: ir.Type) -> ir.Value:
    return builder.inttoptr(builder.add(address, ir.Constant(_LONG, offset)), kind.as_pointer())


def _load(builder: ir.IRBuilder, address: ir.Value, offset: int, kind: ir.Type) -> ir.Value:
    return builder.load(_at(builder, address, offset, kind), align=2)


def _call(builder: ir.IRBuilder, name: str, kind: ir.Type, *arguments: ir.Value) -> ir.Value:
    signature = ir.FunctionType(kind, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


@intrinsic
def _tile(typingctx, sizes, table, taps, position, weights, bias, target):
    """Compute the voxels of a tile.

    ``table``: address of pairs of int64, for every block and tap along z and y: the address of the row that goes in,
    and how many channels (pairs of channels) of it do; ``taps`` of them. ``position``: bytes from there to the first
    voxel. ``weights``: (tap, channel, tap along x, 16). ``target``: where (width, 16) floats are written, or half of
    each 16.
    """

    def write_code(context, builder, signature, arguments):
        _, table, taps, position, weights, bias, target = arguments
        size = sizes_of(signature.args[0].dtype)
        width, along, step, paired = size["width"], size["along"], size["step"], size["paired"]
        vectors, voxel = _Vectors(size["lanes"]), size["inside"] * (2 if paired else 4)
        value, vector = (_INT, vectors.ints) if paired else (_FLOAT, vectors.floats)
        multiply_add = vectors.multiply_add_pairs if paired else vectors.multiply_add
        sums = [cgutils.alloca_once(builder, vectors.floats) for _ in range(width)]
        first = _load(builder, bias, 0, vectors.floats)
        for place in sums:
            builder.store(first, place)
        at = cgutils.alloca_once_value(builder, weights)
        with cgutils.for_range(builder, taps) as tap:
            entry = builder.add(table, builder.shl(tap.index, ir.Constant(_LONG, 4)))
            row = builder.add(_load(builder, entry, 0, _LONG), position)
            with cgutils.for_range(builder, _load(builder, entry, 8, _LONG)) as channel:
                source = builder.add(row, builder.shl(channel.index, ir.Constant(_LONG, 2)))
                here = builder.load(at)
                factors = [_load(builder, here, 64 * k, vector) for k in range(along)]
                now = [builder.load(place) for place in sums]
                for i in range(step * (width - 1) + along):
                    under = [(k, (i - k) // step) for k in range(along) if (i - k) % step == 0]
                    under = [(k, j) for k, j in under if 0 <= j < width]
                    if under:
                        x = vectors.splat(builder, _load(builder, source, i * voxel, value), vector)
                    for k, j in under:
                        now[j] = multiply_add(builder, x, factors[k], now[j])
                for place, total in zip(sums, now, strict=True):
                    builder.store(total, place)
                builder.store(builder.add(here, ir.Constant(_LONG, 64 * along)), at)
        for j, place in enumerate(sums):
            builder.store(builder.load(place), _at(builder, target, 64 * j, vectors.floats), align=4)
        return context.get_dummy_value()

    return types.void(sizes, *(types.intp,) * 6), write_code


@intrinsic
def _address(typingctx, place):
    """Return the int64 at an address."""

    def write_code(context, builder, signature, arguments):
        return _load(builder, arguments[0], 0, _LONG)

    return types.intp(types.intp), write_code


@intrinsic
def _add_moments(typingctx, sizes, row, voxels, moments):
    """Add the sums and the sums of squares of a row to (2, 16) doubles."""

    def write_code(context, builder, signature, arguments):
        _, row, voxels, moments = arguments
        vectors = _Vectors(sizes_of(signature.args[0].dtype)["lanes"])
        kept = [_load(builder, moments, at, vectors.doubles) for at in (0, 8 * LANES)]
        sums = [cgutils.alloca_once_value(builder, value) for value in kept]
        with cgutils.for_range(builder, voxels) as voxel:
            place = builder.add(row, builder.shl(voxel.index, ir.Constant(_LONG, 6)))
            x = builder.fpext(_load(builder, place, 0, vectors.floats), vectors.doubles)
            builder.store(builder.fadd(builder.load(sums[0]), x), sums[0])
            builder.store(vectors.multiply_add(builder, x, x, builder.load(sums[1])), sums[1])
        for at, place in zip((0, 8 * LANES), sums, strict=True):
            builder.store(builder.load(place), _at(builder, moments, at, vectors.doubles), align=8)
        return context.get_dummy_value()

    return types.void(sizes, *(types.intp,) * 3), write_code


@intrinsic
def _row_out(typingctx, sizes, row, voxels, factors, added, target, step, slope):
    """Write ``slope``-activated ``row * factor + shift (+ added)`` to ``target``, whose voxels lie ``step`` apart."""

    def write_code(context, builder, signature, arguments):
        _, row, voxels, factors, added, target, step, slope = arguments
        size = sizes_of(signature.args[0].dtype)
        paired, adds, vectors = size["paired"], size["adds"], _Vectors(size["lanes"])
        floats = vectors.floats
        kept = vectors.shorts if paired else floats
        factor, shift = (_load(builder, factors, at, floats) for at in (0, 4 * LANES))
        slopes = vectors.splat(builder, slope, floats)
        with cgutils.for_range(builder, voxels) as voxel:
            x = _load(builder, builder.add(row, builder.shl(voxel.index, ir.Constant(_LONG, 6))), 0, floats)
            x = vectors.multiply_add(builder, x, factor, shift)
            offset = builder.mul(voxel.index, step)
            if adds:
                other = _load(builder, builder.add(added, offset), 0, kept)
                x = builder.fadd(x, vectors.widen(builder, other) if paired else other)
            positive = builder.fcmp_ordered(">", x, vectors.all(0.0, floats))
            x = builder.select(positive, x, builder.fmul(x, slopes))
            place = _at(builder, builder.add(target, offset), 0, kept)
            builder.store(vectors.narrow(builder, x) if paired else x, place, align=4)
        return context.get_dummy_value()

    return types.void(sizes, *(types.intp,) * 6, types.float32), write_code


# Kernels -----------------------------------------------------------------------------------------------------------


@jit
def convolve_3(sizes, width, table, taps, weights, weight_step, bias, raw, moments, shape, steps, first, last):
    """Convolve the planes `first` to `last` of the output, counted through its blocks.

    Parameters
    ----------
    sizes : ndarray
        From `sizes_as_type`: width, along, step, paired, inside, lanes (of blocks that go in and come out).
    width : int
        Voxels of a tile.
    table, taps, weights, bias : int
        See `_tile`; `bias` is the address of (block, 16) floats.
    weight_step : int
        Bytes from one block's weights to the next.
    raw : int
        Address of the output, (block, z, y, row, 16) floats; a row holds at least a tile.
    moments : int
        Address of (block, z, 2, 16) doubles, all 0: sums and sums of squares are added.
    shape : tuple of int
        (z, y, x, row) of the output.
    steps : tuple of int
        Bytes along z, y and x of the input between neighbours in the output.
    first, last : int
        Planes.
    """
    deep, tall, wide, row = shape
    tiles = (wide + width - 1) // width
    for plane in range(first, last):
        block, z = plane // deep, plane % deep
        for y in range(tall):
            target = raw + (plane * tall + y) * row * 64
            for tile in range(tiles):
                # The last tile ends with the row: what it shares with the one before is computed again.
                x = max(0, min(tile * width, wide - width))
                position = z * steps[0] + y * steps[1] + x * steps[2]
                _tile(sizes, table, taps, position, weights + block * weight_step, bias + block * 64, target + x * 64)
            _add_moments(sizes, target, wide, moments + plane * 256)


@jit
def convolve_put_1(sizes, width, table, taps, weights, weight_step, bias, raw, shape, steps,
                   factors, slope, added, starts, onward, first, last):  # fmt: skip
    """Convolve the planes `first` to `last`, and write each row as `put_3` does while it is near.

    Parameters
    ----------
    sizes : ndarray
        From `sizes_as_type`: width, along, step, paired, inside, lanes, adds.
    raw : int
        Address of room for a row of each plane.
    factors, slope
        As for `put_3`.
    added : int
        Bytes from the target to features that are added.
    starts : int
        Address of int64: where the first voxel of each block is written.
    onward : tuple of int
        Bytes of the target along z, y and x.
    width, table, taps, weights, weight_step, bias, shape, steps, first, last
        As for `convolve_3`.
    """
    deep, tall, wide, row = shape
    tiles = (wide + width - 1) // width
    for plane in range(first, last):
        block, z = plane // deep, plane % deep
        near, scales = raw + plane * row * 64, factors + block * 128
        for y in range(tall):
            for tile in range(tiles):
                x = max(0, min(tile * width, wide - width))
                position = z * steps[0] + y * steps[1] + x * steps[2]
                _tile(sizes, table, taps, position, weights + block * weight_step, bias + block * 64, near + x * 64)
            target = _address(starts + block * 8) + z * onward[0] + y * onward[1]
            _row_out(sizes, near, wide, scales, target + added, target, onward[2], slope)


@jit
def put_3(plain, adding, raw, factors, slope, added, target, shape, steps, first, last):
    """Normalise, add, activate, and write the planes `first` to `last`, counted through the blocks.

    Parameters
    ----------
    plain, adding : ndarray
        From `sizes_as_type`: paired, lanes, adds (0 and 1).
    raw : int
        Address of what `convolve_3` wrote.
    factors : int
        Address of (block, 2, 16) floats: what to multiply by, what to add.
    slope : float32
        Of the activation for negative values: 1 for none.
    added : int
        Address of features that are added, laid out as the target; 0 for none.
    target : int
        Address of the first voxel.
    shape : tuple of int
        (z, y, x, row).
    steps : tuple of int
        Bytes of the target from block to block, and along z, y and x.
    first, last : int
        Planes.
    """
    deep, tall, wide, row = shape
    for plane in range(first, last):
        block, z = plane // deep, plane % deep
        for y in range(tall):
            source = raw + (plane * tall + y) * row * 64
            offset = block * steps[0] + z * steps[1] + y * steps[2]
            if added:
                place = added + offset
                _row_out(adding, source, wide, factors + block * 128, place, target + offset, steps[3], slope)
            else:
                _row_out(plain, source, wide, factors + block * 128, 0, target + offset, steps[3], slope)


@jit
def unpack_1(raw, found, first, last):
    """Write blocks (block, z, y, row, 16) as channels (channel, z, y, x), planes `first` to `last` of them."""
    channels, _, tall, wide = found.shape
    for z in range(first, last):
        for y in range(tall):
            for channel in range(channels):
                block, lane = channel // LANES, channel % LANES
                for x in range(wide):
                    found[channel, z, y, x] = raw[block, z, y, x, lane]


def build(key: tuple) -> Callable:
    """Compile one kernel.

    Parameters
    ----------
    key : tuple
        ``("convolve", width, taps along x, step, paired, lanes inside, lanes)``, ``("convolve_put", *the same, adds)``,
        ``("put", paired, lanes)`` or ``("unpack",)``.
    """
    if key[0] == "convolve":
        sizes = _convolving(key[1:])
        return _warmed(partial(convolve_3, sizes, key[1]), (0, 0, 0, 0, 0, 0, 0, (1, 1, 1, 1), (1, 1, 1), 0, 0))
    if key[0] == "convolve_put":
        sizes = _convolving(key[1:7], adds=key[7])
        nothing = (0, 0, 0, 0, 0, 0, (1, 1, 1, 1), (1, 1, 1), 0, np.float32(1), 0, 0, (1, 1, 1), 0, 0)
        return _warmed(partial(convolve_put_1, sizes, key[1]), nothing)
    if key[0] == "put":
        plain, adding = (sizes_as_type(paired=key[1], lanes=key[2], adds=adds) for adds in (0, 1))
        slope = np.float32(1)
        return _warmed(partial(put_3, plain, adding), (0, 0, slope, 0, 0, (1, 1, 1, 1), (1, 1, 1, 1), 0, 0))
    raw, found = np.zeros((1, 1, 1, 1, LANES), np.float32), np.zeros((1, 1, 1, 1), np.float32)
    return _warmed(unpack_1, (raw, found, 0, 0))


def _convolving(key: tuple, **further: int) -> np.ndarray:
    names = ("width", "along", "step", "paired", "inside", "lanes")
    return sizes_as_type(**dict(zip(names, key, strict=True)), **further)


def _warmed(kernel: Callable, arguments: tuple) -> Callable:
    kernel(*arguments)
    return kernel
