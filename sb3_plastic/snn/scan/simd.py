"""
What numba lacks for the kernels: vectors of numbers, arrays given by their addresses, a queue, flush to zero.

The vectors stand in place of the compiler's own search for them.

A loop over a dozen arrays is more than LLVM proves free of overlap, and then it computes one number at a time. Written
with these few operations it is vector instructions on every processor (``LANES`` numbers are one register with AVX-512,
two with AVX2, four with SSE or NEON), and the order of every sum is in the source. So arrays have as many columns as
:func:`padded` says; what is beyond their own stays 0.
"""

from __future__ import annotations

import operator
import platform
from typing import Any

from llvmlite import binding, ir
from numba import extending, types
from numba.core import cgutils
from numba.extending import lower_builtin, models, register_model, type_callable
from numba.np.arrayobj import populate_array

intrinsic: Any = extending.intrinsic  # whose own type would have callers pass the typing context

LANES = 16


def padded(n: int) -> int:
    """The length of an axis with padding to whole vectors, a multiple of ``LANES``. :param n: without"""
    return -(-n // LANES) * LANES


class Vector(types.Type):
    """``LANES`` numbers of one type."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(dmm.lookup(fe_type.dtype).get_value_type(), LANES))


def _address(context: Any, builder: Any, array_type: Any, array: Any, index_type: Any, index: Any) -> Any:
    """Pointer to the vector that begins at ``index``, an integer or, in a matrix, a pair of them."""
    indices = cgutils.unpack_tuple(builder, index) if isinstance(index_type, types.BaseTuple) else [index]
    arrays = context.make_array(array_type)(context, builder, array)
    item = cgutils.get_item_pointer(context, builder, array_type, arrays, indices, wraparound=False)
    return builder.bitcast(item, ir.VectorType(context.get_value_type(array_type.dtype), LANES).as_pointer())


def _same(index: Any) -> Any:
    return types.UniTuple(types.intp, 2) if isinstance(index, types.BaseTuple) else types.intp


def _bytes(array: Any) -> Any:
    return array.dtype.bitwidth // 8


@intrinsic
def load(typing_context: Any, array: Any, index: Any) -> Any:
    """``array[index : index + LANES]``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_type, index_type = signature.args
        where = _address(context, builder, array_type, arguments[0], index_type, arguments[1])
        return builder.load(where, align=_bytes(array_type))

    return Vector(array.dtype)(array, _same(index)), generate


@intrinsic
def store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index : index + LANES] = value``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_type, index_type, _ = signature.args
        where = _address(context, builder, array_type, arguments[0], index_type, arguments[1])
        builder.store(arguments[2], where, align=_bytes(array_type))
        return context.get_dummy_value()

    return types.void(array, _same(index), value), generate


def _shuffle(builder: Any, vector: Any, lanes: Any) -> Any:
    undefined = ir.Constant(vector.type, ir.Undefined)
    return builder.shuffle_vector(
        vector, undefined, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
    )


@intrinsic
def splat(typing_context: Any, number: Any) -> Any:
    """A vector of one number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (number,) = arguments
        undefined = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
        vector = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
        return _shuffle(builder, vector, [0] * LANES)

    return Vector(number)(number), generate


@intrinsic
def zeros(typing_context: Any, array: Any) -> Any:
    """A vector of zeros of the type of an array's numbers."""
    vector = Vector(array.dtype)
    return vector(array), lambda context, builder, *_: ir.Constant(context.get_value_type(vector), [0.0] * LANES)


@intrinsic
def total(typing_context: Any, vector: Any) -> Any:
    """The sum of a vector: halves are added until one number is left."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (vector,) = arguments
        n = LANES
        while n > 1:
            n //= 2
            low, high = _shuffle(builder, vector, range(n)), _shuffle(builder, vector, range(n, 2 * n))
            vector = builder.fadd(low, high)
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    return vector.dtype(vector), generate


def _llvm(builder: Any, name: Any, *arguments: Any) -> Any:
    """Call ``llvm.<name>`` for vectors."""
    vector = arguments[0].type
    suffix = f"v{LANES}f{32 if isinstance(vector.element, ir.FloatType) else 64}"
    function = ir.FunctionType(vector, [vector] * len(arguments))
    return builder.call(cgutils.get_or_insert_function(builder.module, function, f"llvm.{name}.{suffix}"), arguments)


@intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """``a b + c``, rounded once."""
    return a(a, b, c), lambda context, builder, signature, arguments: _llvm(builder, "fma", *arguments)


@intrinsic
def fnma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """``c - a b``, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, c = arguments
        return _llvm(builder, "fma", builder.fneg(a), b, c)

    return a(a, b, c), generate


@intrinsic
def clip(typing_context: Any, x: Any, bound: Any) -> Any:
    """``x`` between ``-bound`` and ``bound``. NaN stays NaN, so that a divergence is seen."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, bound = arguments
        lowest = builder.fneg(bound)
        x = builder.select(builder.fcmp_ordered("<", x, lowest), lowest, x)
        return builder.select(builder.fcmp_ordered(">", x, bound), bound, x)

    return x(x, bound), generate


@intrinsic
def within(typing_context: Any, x: Any, bound: Any, value: Any) -> Any:
    """``value`` where ``|x| <= bound``, else 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, bound, value = arguments
        inside = builder.fcmp_ordered("<=", _llvm(builder, "fabs", x), bound)
        return builder.select(inside, value, ir.Constant(x.type, [0.0] * LANES))

    return x(x, bound, value), generate


@intrinsic
def step(typing_context: Any, x: Any, bound: Any) -> Any:
    """1 where ``x > bound``, else 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, bound = arguments
        one, zero = (ir.Constant(x.type, [value] * LANES) for value in (1.0, 0.0))
        return builder.select(builder.fcmp_ordered(">", x, bound), one, zero)

    return x(x, bound), generate


def _define(symbol: Any, instruction: str) -> None:
    @type_callable(symbol)
    def type_of(context: Any) -> Any:
        return lambda a, b: a if isinstance(a, Vector) and a == b else None

    @lower_builtin(symbol, Vector, Vector)
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)


_define(operator.add, "fadd")
_define(operator.sub, "fsub")
_define(operator.mul, "fmul")


@intrinsic
def call_at(typing_context: Any, address: Any, arrays: Any, n: Any) -> Any:
    """Call the function at an address, which takes pointers to numbers and how many there are."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, array_types, _ = signature.args
        address, arrays, n = arguments
        data = [
            context.make_array(array_type)(context, builder, array).data
            for array_type, array in zip(array_types, cgutils.unpack_tuple(builder, arrays), strict=True)
        ]
        function = ir.FunctionType(ir.VoidType(), [pointer.type for pointer in data] + [n.type])
        builder.call(builder.inttoptr(address, function.as_pointer()), [*data, n])
        return context.get_dummy_value()

    return types.void(types.intp, arrays, types.intp), generate


@intrinsic
def take(typing_context: Any, queue: Any) -> Any:
    """The next number of a queue, ``int64 [1]``, from which several threads take 0, 1, 2, ..., each once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(data.type.pointee, 1), "monotonic")

    return types.int64(queue), generate


# ------------------------------------------------------------------------------------------- arrays given by addresses


def _row(context: Any, builder: Any, entry_type: Any, entry: Any, i: Any, number: Any) -> Any:
    """Type and value of one row of an entry; ``entry`` points to its words: address, stride in bytes, shape."""
    axes = entry_type.fields["shape"].type.nitems
    array_type = types.Array(number, axes, "C")
    address, stride, *shape = (
        builder.load(builder.gep(entry, [ir.Constant(ir.IntType(64), word)])) for word in range(2 + axes)
    )
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(number)))
    strides = [itemsize]
    for size in reversed(shape[1:]):
        strides.insert(0, builder.mul(size, strides[0]))
    array = context.make_array(array_type)(context, builder)
    populate_array(
        array,
        data=builder.inttoptr(builder.add(address, builder.mul(i, stride)), array.data.type),
        shape=cgutils.pack_array(builder, shape),
        strides=cgutils.pack_array(builder, strides),
        itemsize=itemsize,
        meminfo=None,  # No reference count: the caller keeps the memory alive.
    )
    return array_type, array._getvalue()


def _words(builder: Any, record: Any) -> Any:
    return builder.bitcast(record, ir.IntType(64).as_pointer())


@intrinsic
def row(typing_context: Any, entry: Any, i: Any, number: Any) -> Any:
    """
    Row i of an entry of the record (:mod:`sb3_plastic.snn.scan.call`), an array in C order of numbers of the type of
    ``number``: it begins i strides after the entry's address. An entry with stride 0 has the same row for all i.
    """
    axes = entry.fields["shape"].type.nitems

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        entry, i, _ = arguments
        return _row(context, builder, signature.args[0], _words(builder, entry), i, signature.args[2])[1]

    return types.Array(number, axes, "C")(entry, types.intp, number), generate


@intrinsic
def rows(typing_context: Any, names: Any, group: Any, i: Any, number: Any) -> Any:
    """
    Row i of each entry of a group, as a named tuple.

    ``names`` is the class of the tuple; the group has an entry for each of its fields.
    """
    fields = [group.fields[name] for name in names.instance_class._fields]
    arrays = [types.Array(number, field.type.fields["shape"].type.nitems, "C") for field in fields]
    result = types.NamedTuple(arrays, names.instance_class)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, group, i, _ = arguments
        words, values = _words(builder, group), []
        for field in fields:
            entry = builder.gep(words, [ir.Constant(ir.IntType(64), field.offset // 8)])
            values.append(_row(context, builder, field.type, entry, i, signature.args[3])[1])
        return context.make_tuple(builder, signature.return_type, values)

    return result(names, group, types.intp, number), generate


binding.initialize_native_asmparser()  # reads the two instructions below


def _x86_control(builder: Any, instruction: Any, pointer: Any) -> None:
    """``stmxcsr`` or ``ldmxcsr``: write or read the control word of x86's vector unit."""
    kind = ir.FunctionType(ir.VoidType(), [pointer.type])
    builder.asm(kind, f"{instruction} ($0)", "r,~{memory}", [pointer], side_effect=True)


FLUSH_X86 = 0x8040  # results too small for a normal number become 0, and so do such arguments


@intrinsic
def flush_subnormals(typing_context: Any) -> Any:
    """
    From here on numbers below the smallest normal one, 1e-38 in float32, are 0; returns the mode that was, for
    :func:`restore_mode`. The traces of silent neurons decay into such numbers within some 400 ticks, and with them all
    that they are multiplied by; many a processor then takes a hundred times as long. Elsewhere than on x86 nothing is
    done.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        mode = ir.IntType(32)
        if platform.machine().lower() not in ("x86_64", "amd64"):
            return ir.Constant(mode, 0)
        place = cgutils.alloca_once(builder, mode)
        _x86_control(builder, "stmxcsr", place)
        before = builder.load(place)
        builder.store(builder.or_(before, ir.Constant(mode, FLUSH_X86)), place)
        _x86_control(builder, "ldmxcsr", place)
        return before

    return types.uint32(), generate


@intrinsic
def restore_mode(typing_context: Any, mode: Any) -> Any:
    """Undo :func:`flush_subnormals`: the mode belongs to the thread, and so to whoever called."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if platform.machine().lower() in ("x86_64", "amd64"):
            place = cgutils.alloca_once(builder, ir.IntType(32))
            builder.store(arguments[0], place)
            _x86_control(builder, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(mode), generate
