"""64 voxels as the bits of a word: compared, counted, added up and written by vector instructions.

Explicit vectors of LLVM do what a loop over 64 voxels means, in a handful of instructions where the machine has masks
(AVX-512) or moves the signs of bytes into a word (SSE2, AVX2), and in more where it has neither.

Importing this module needs numba. What is changed here changes the kernels that use it: their numbers (in `flood`,
`grow`, `runs`, `sums` and `surface`) must be changed with it, as compiled code is kept on disk under their names.
"""

from collections.abc import Callable

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


def _splat(builder, value, lanes):
    """Put a value into every lane of a vector."""
    vector = ir.VectorType(value.type, lanes)
    nothing = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))


def _comparer(lanes: int) -> Callable:
    """Make what compares so many values at an address with two others."""

    @intrinsic
    def compare(typing, address, low, high):
        def generate(context, builder, signature, arguments):
            kind = context.get_value_type(low)
            vector = ir.VectorType(kind, lanes)
            values = builder.load(builder.inttoptr(arguments[0], vector.as_pointer()))
            values.align = context.get_abi_sizeof(kind)
            least, most = _splat(builder, arguments[1], lanes), _splat(builder, arguments[2], lanes)
            if isinstance(low, types.Float):
                above, below = builder.fcmp_ordered(">=", values, least), builder.fcmp_ordered("<=", values, most)
            else:
                test = builder.icmp_signed if low.signed else builder.icmp_unsigned
                above, below = test(">=", values, least), test("<=", values, most)
            bits = builder.bitcast(builder.and_(above, below), ir.IntType(lanes))
            return bits if lanes == 64 else builder.zext(bits, ir.IntType(64))

        return types.uint64(types.intp, low, high), generate

    return compare


# Bits that say which values at an address lie between two others, both included; NaN never does.
between_64, between_1 = _comparer(64), _comparer(1)


@intrinsic
def spell_64(typing, address, word):
    """Write the 64 bits of a word to an address, a byte of 0 or 1 each."""

    def generate(context, builder, signature, arguments):
        bits = builder.bitcast(arguments[1], ir.VectorType(ir.IntType(1), 64))
        vector = ir.VectorType(ir.IntType(8), 64)
        place = builder.inttoptr(arguments[0], vector.as_pointer())
        builder.store(builder.zext(bits, vector), place).align = 1
        return context.get_dummy_value()

    return types.void(types.intp, types.uint64), generate


def _folded(builder, vector, lanes):
    """Add the upper half of a vector to its lower one until so many lanes are left."""
    count = vector.type.count
    while count > lanes:
        count //= 2
        kind = ir.VectorType(ir.IntType(32), count)
        low, high = (ir.Constant(kind, list(range(at, at + count))) for at in (0, count))
        vector = builder.add(*(builder.shuffle_vector(vector, vector, half) for half in (low, high)))
    return vector


def _sums_of_short(builder, values, like):
    """Return sum and sum of squares of 64 whole numbers of at most 16 bits, each in 8 lanes."""
    half, long = ir.IntType(32), ir.IntType(64)
    widen = builder.sext if like.signed else builder.zext
    values = widen(values, ir.VectorType(half, 64))
    # As many are added within 32 bits as surely fit: of squares, without a sign, 16 below 2^16, or 2 up to 2^30.
    safe = 16 if like.bitwidth == 8 else 32 if like.signed else 64
    squares = _folded(builder, builder.mul(values, values), safe)
    totals = widen(_folded(builder, values, 16), ir.VectorType(long, 16))
    return _folded(builder, totals, 8), _folded(builder, builder.zext(squares, ir.VectorType(long, safe)), 8)


@intrinsic
def add_up_64(typing, address, word, like, sums):
    """Add up those of 64 whole numbers whose bits are set.

    In 8 lanes each of int64, one after the other in memory: the sum, and of the squares the sums of the upper and of
    the lower 32 bits. Squares of at most 32 bits have no upper ones.
    """

    def generate(context, builder, signature, arguments):
        vector, long = ir.VectorType(context.get_value_type(like), 64), ir.VectorType(ir.IntType(64), 64)
        values = builder.load(builder.inttoptr(arguments[0], vector.as_pointer()))
        values.align = like.bitwidth // 8
        chosen = builder.bitcast(arguments[1], ir.VectorType(ir.IntType(1), 64))
        values = builder.select(chosen, values, ir.Constant(vector, None))
        if like.bitwidth <= 16:
            total, squares = _sums_of_short(builder, values, like)
            parts = {0: total, 2: squares}
        else:
            values = (builder.sext if like.signed else builder.zext)(values, long)
            squares = builder.mul(values, values)
            half, low = (_splat(builder, ir.Constant(ir.IntType(64), n), 64) for n in (32, 0xFFFFFFFF))
            found = values, builder.lshr(squares, half), builder.and_(squares, low)
            parts = {n: _folded(builder, lanes, 8) for n, lanes in enumerate(found)}
        for n, lanes in parts.items():
            place = builder.add(arguments[3], ir.Constant(ir.IntType(64), 64 * n))
            place = builder.inttoptr(place, lanes.type.as_pointer())
            builder.store(builder.add(builder.load(place, align=8), lanes), place, align=8)
        return context.get_dummy_value()

    return types.void(types.intp, types.uint64, like, types.intp), generate


@intrinsic
def ones(typing, word):
    """Count the ones of a word."""

    def generate(context, builder, signature, arguments):
        word = ir.IntType(64)
        count = cgutils.get_or_insert_function(builder.module, ir.FunctionType(word, [word]), "llvm.ctpop.i64")
        return builder.call(count, arguments)

    return types.int64(types.uint64), generate


@intrinsic
def lowest(typing, word):
    """Return the number of the lowest bit of a word that is set; one must be."""

    def generate(context, builder, signature, arguments):
        word, flag = ir.IntType(64), ir.IntType(1)
        kind = ir.FunctionType(word, [word, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.cttz.i64")
        return builder.call(function, [arguments[0], ir.Constant(flag, 1)])

    return types.int64(types.uint64), generate


@intrinsic
def fetch(typing, address):
    """Ask for what lies at an address to be brought near; any address will do."""

    def generate(context, builder, signature, arguments):
        number = ir.IntType(32)
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # To be read, kept in all caches, data.
        place = builder.inttoptr(arguments[0], pointer)
        builder.call(fetch, [place, ir.Constant(number, 0), ir.Constant(number, 3), ir.Constant(number, 1)])
        return context.get_dummy_value()

    return types.void(types.intp), generate


@intrinsic
def peek(typing, address, like):
    """Load a number of the type of another from an address, aligned or not.

    Where a kernel is made of several functions, numbers are passed: numba counts who holds an array at every call,
    which takes longer than such functions do.
    """
    kind = types.unliteral(like)

    def generate(context, builder, signature, arguments):
        value = builder.load(builder.inttoptr(arguments[0], context.get_value_type(kind).as_pointer()))
        value.align = 1
        return value

    return kind(types.intp, kind), generate


@intrinsic
def poke(typing, address, value):
    """Store a number at an address, aligned or not."""
    kind = types.unliteral(value)

    def generate(context, builder, signature, arguments):
        address, value = arguments
        place = builder.inttoptr(address, value.type.as_pointer())
        builder.store(value, place).align = 1
        return context.get_dummy_value()

    return types.void(types.intp, kind), generate
