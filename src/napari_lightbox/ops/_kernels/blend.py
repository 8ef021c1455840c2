"""Linear interpolation between eight voxels, written as vector instructions.

Two neighbours on a line are one load from memory: `copy_pair`. `blended` takes pairs of sixteen places at once.

Voxels of more than 16 bits are interpolated in double precision, product after product in the order of ITK: the
result is the same to the last digit.

Voxels of up to 16 bits are interpolated in single precision, half the work, and the result is the same nevertheless.
What is wanted is the whole number nearest to the value v' that double precision gives. Single precision gives a value
v that is off by no more than some e, so whenever v lies further than e from the middle between two whole numbers, v and
v' round to the same one; `blended` tells at which places it does not, and these are worked out again in double
precision: some in a thousand. This is how exact geometric predicates are made quick (S. Fortune and C. J. Van Wyk,
Static analysis yields efficient exact integer arithmetic, ACM Trans. Graphics 15(3), 1996: floating-point filters).

The bound: let m be the largest magnitude of a voxel and u = 2**-24, half a unit in the last place of 1. A step from a
to b by a fraction w, rounded to single precision, is off by at most 2 m u / 2 from the rounding of w, 2 m u each from
those of the difference and of the product, and m u from that of the sum: 6 m u, and the errors of a and b come to it
with weights that add up to 1. Three steps make 18 m u, and 1 m u is for the rounding of v' to single precision, which
is part of the rule. `_resample_compiled.sure_of` takes 20 m u: double precision's own error has room too.

Importing this module needs numba.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# Places at a time: a vector of single precision on the widest processors; the compiler halves it on others.
LANES = 16
_INDEX = ir.IntType(32)
_FLOATS, _DOUBLES = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.DoubleType(), LANES)
_WHOLE = 1.5 * 2**52


def _data(context, builder, kind, array):
    """Return the address of the first item of an array."""
    return context.make_array(kind)(context, builder, array).data


def _at(builder, pointer, index, kind):
    """Return the place of item `index`, as that of a `kind`."""
    return builder.bitcast(builder.gep(pointer, [index]), kind.as_pointer())


def _splat(builder, number, kind):
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(_INDEX, 0))
    zeros = ir.Constant(ir.VectorType(_INDEX, kind.count), None)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)


def _call(builder, name, value):
    bits = 32 if value.type is _FLOATS else 64
    kind = ir.FunctionType(value.type, [value.type])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f{bits}"), [value])


@intrinsic
def copy_pair(typing, source, place, pairs, n):
    """Copy voxels `place` and ``place + 1`` of a flat array to places ``2 * n`` and ``2 * n + 1`` of `pairs`."""

    def emit(context, builder, signature, arguments):
        bits = signature.args[0].dtype.bitwidth
        kind = ir.IntType(2 * bits) if bits < 64 else ir.VectorType(ir.IntType(64), 2)
        source_data = _data(context, builder, signature.args[0], arguments[0])
        pairs_data = _data(context, builder, signature.args[2], arguments[2])
        found = builder.load(_at(builder, source_data, arguments[1], kind), align=bits // 8)
        twice = builder.shl(arguments[3], ir.Constant(arguments[3].type, 1))
        builder.store(found, _at(builder, pairs_data, twice, kind), align=bits // 8)
        return context.get_dummy_value()

    return types.void(source, types.intp, pairs, types.intp), emit


@intrinsic
def blended(typing, pairs, piece, fractions, n, line, x, sure):
    """Interpolate at places `n` to ``n + LANES``, and write the results into ``line[x:]``.

    Parameters
    ----------
    pairs : ndarray
        Pairs of voxels: at (z, y), (z, y + 1), (z + 1, y) and (z + 1, y + 1), `piece` pairs of each.
    piece : int
        Places of a piece.
    fractions : ndarray of float64
        How far each place lies from the first voxel, along z, y and x: `piece` numbers of each.
    n, x : int
        See above.
    line : ndarray
        Of the type of the voxels.
    sure : float
        Distance from a whole number up to which single precision is sure of it.

    Returns
    -------
    int
        A bit for each of the places that single precision is not sure of.
    """

    def emit(context, builder, signature, arguments):
        voxel = signature.args[0].dtype
        pairs, fractions, line = (_data(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 4))
        _, piece, _, n, _, x, sure = arguments
        narrow = isinstance(voxel, types.Integer) and voxel.bitwidth <= 16
        code = _Narrow(builder, voxel) if narrow else _Wide(builder, voxel)
        places = [builder.add(n, builder.mul(piece, ir.Constant(piece.type, i))) for i in range(4)]
        z, y, x_part = (
            code.fraction(builder.load(_at(builder, fractions, at, _DOUBLES), align=8)) for at in places[:3]
        )
        a, b, c, d = (code.step(*code.pair(pairs, at), x_part) for at in places)
        value = code.step(code.step(a, b, y), code.step(c, d, y), z)
        rounded, unsure = code.rounded(value, sure)
        builder.store(rounded, _at(builder, line, x, rounded.type), align=voxel.bitwidth // 8)
        return unsure

    f, i = types.float64, types.intp
    return types.int32(pairs, i, types.Array(f, 1, "C"), i, line, i, f), emit


class _Narrow:
    """The code for voxels of up to 16 bits: single precision, and which results are sure."""

    def __init__(self, builder, voxel):
        self.builder, self.voxel, self.bits = builder, voxel, voxel.bitwidth

    def fraction(self, doubles):
        return self.builder.fptrunc(doubles, _FLOATS)

    def pair(self, pairs, at):
        builder, kind = self.builder, ir.VectorType(ir.IntType(2 * self.bits), LANES)
        twice = builder.shl(at, ir.Constant(at.type, 1))
        both = builder.load(_at(builder, pairs, twice, kind), align=self.bits // 8)
        half = ir.VectorType(ir.IntType(self.bits), LANES)
        high = builder.lshr(both, ir.Constant(kind, [self.bits] * LANES))
        convert = builder.sitofp if self.voxel.signed else builder.uitofp
        return tuple(convert(builder.trunc(part, half), _FLOATS) for part in (both, high))

    def step(self, a, b, part):
        # Product and sum may be one instruction: its error is smaller.
        way = self.builder.fmul(part, self.builder.fsub(b, a), flags=("contract",))
        return self.builder.fadd(a, way, flags=("contract",))

    def rounded(self, value, sure):
        builder = self.builder
        whole = _call(builder, "rint", value)
        off = builder.fpext(_call(builder, "fabs", builder.fsub(value, whole)), _DOUBLES)
        bits = builder.bitcast(builder.fcmp_ordered(">", off, _splat(builder, sure, _DOUBLES)), ir.IntType(LANES))
        numbers = builder.fptosi(whole, ir.VectorType(_INDEX, LANES))
        return builder.trunc(numbers, ir.VectorType(ir.IntType(self.bits), LANES)), builder.zext(bits, _INDEX)


class _Wide:
    """The code for other voxels: double precision, step by step as ITK has it."""

    def __init__(self, builder, voxel):
        self.builder, self.voxel = builder, voxel

    def fraction(self, doubles):
        return doubles

    def pair(self, pairs, at):
        builder, item = self.builder, pairs.type.pointee
        kind = ir.VectorType(item, 2 * LANES)
        twice = builder.shl(at, ir.Constant(at.type, 1))
        both = builder.load(_at(builder, pairs, twice, kind), align=self.voxel.bitwidth // 8)
        found = []
        for first in (0, 1):
            chosen = ir.Constant(ir.VectorType(_INDEX, LANES), [first + 2 * n for n in range(LANES)])
            found.append(self._doubles(builder.shuffle_vector(both, ir.Constant(kind, ir.Undefined), chosen)))
        return found

    def _doubles(self, values):
        if isinstance(self.voxel, types.Float):
            return values if self.voxel.bitwidth == 64 else self.builder.fpext(values, _DOUBLES)
        convert = self.builder.sitofp if self.voxel.signed else self.builder.uitofp
        return convert(values, _DOUBLES)

    def step(self, a, b, part):
        # At the far end of an axis the fraction is 1, and must give b to the last digit.
        builder = self.builder
        made = builder.fadd(a, builder.fmul(builder.fsub(b, a), part))
        ones = ir.Constant(_DOUBLES, [1.0] * LANES)
        return builder.select(builder.fcmp_ordered("==", part, ones), b, made)

    def rounded(self, value, sure):
        builder, none = self.builder, ir.Constant(_INDEX, 0)
        if isinstance(self.voxel, types.Float):
            return (value if self.voxel.bitwidth == 64 else builder.fptrunc(value, _FLOATS)), none
        # Adding this and taking it off again rounds to whole numbers, halves to even.
        shift = ir.Constant(_DOUBLES, [_WHOLE] * LANES)
        whole = builder.fptosi(builder.fsub(builder.fadd(value, shift), shift), ir.VectorType(ir.IntType(64), LANES))
        return builder.trunc(whole, ir.VectorType(ir.IntType(self.voxel.bitwidth), LANES)), none
