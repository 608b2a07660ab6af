"""Sixteen float32 in one value inside numba functions, and masks of them.

numba has no vector type, and whether LLVM vectorises a loop hangs on what it can prove about the
arrays. Here a row of a tile is one LLVM vector, which becomes one AVX-512 register, two of AVX or
four of NEON, always. ``+ - *`` work between lanes and with floats, ``& |`` between masks.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeVar, cast

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

WIDTH = 16

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """With numba, once and for all; division by zero gives infinity, as in C."""
    return cast(Function, njit(cache=True, nogil=True, error_model="numpy")(function))


class LanesType(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="Lanes")


class MaskType(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="Mask")


_lanes, _mask = LanesType(), MaskType()
_FLOATS = ir.VectorType(ir.FloatType(), WIDTH)
_INTS = ir.VectorType(ir.IntType(32), WIDTH)
_BITS = ir.VectorType(ir.IntType(1), WIDTH)


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _FLOATS)


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _BITS)


def _each(value: float) -> ir.Constant:
    return ir.Constant(_FLOATS, [ir.Constant(ir.FloatType(), value)] * WIDTH)


def _whole(value: int) -> ir.Constant:
    return ir.Constant(_INTS, [value] * WIDTH)


def _vector_op(result: Any, given: tuple[Any, ...], build: Callable[..., Any]) -> Any:
    """An operation on lanes and masks; ``build(builder, *values)`` makes its instructions."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return build(builder, *values)

    if len(given) == 1:

        def one(typing: Any, a: Any) -> Any:
            return (result(*given), code) if (a,) == given else None

        return intrinsic(one)
    if len(given) == 2:

        def two(typing: Any, a: Any, b: Any) -> Any:
            return (result(*given), code) if (a, b) == given else None

        return intrinsic(two)

    def three(typing: Any, a: Any, b: Any, c: Any) -> Any:
        return (result(*given), code) if (a, b, c) == given else None

    return intrinsic(three)


# A product and a sum may become one fused instruction, as in C; nothing else is reordered.
_FUSED = ("contract",)
_pair = (_lanes, _lanes)
_add = _vector_op(_lanes, _pair, lambda b, x, y: b.fadd(x, y, flags=_FUSED))
_sub = _vector_op(_lanes, _pair, lambda b, x, y: b.fsub(x, y, flags=_FUSED))
_mul = _vector_op(_lanes, _pair, lambda b, x, y: b.fmul(x, y, flags=_FUSED))
_and = _vector_op(_mask, (_mask, _mask), lambda b, x, y: b.and_(x, y))
_or = _vector_op(_mask, (_mask, _mask), lambda b, x, y: b.or_(x, y))
_over = _vector_op(_lanes, _pair, lambda b, x, y: b.fdiv(x, y, flags=_FUSED))
_at_least = _vector_op(_mask, _pair, lambda b, x, y: b.fcmp_ordered(">=", x, y))
_below = _vector_op(_mask, _pair, lambda b, x, y: b.fcmp_ordered("<", x, y))
pick = _vector_op(_lanes, (_mask, _lanes, _lanes), lambda b, m, x, y: b.select(m, x, y))
"""The first lane value where the mask is set, else the second."""
least = _vector_op(_lanes, _pair, lambda b, x, y: b.select(b.fcmp_ordered("<", x, y), x, y))


_EXP2 = (0.001327647152, 0.009675541331, 0.05550713275, 0.2402211972, 0.6931469671, 1.000000072)
"""2^f on -1/2..1/2, highest power first: a minimax fit, relative error 7.5e-8 before rounding."""


def _power_of_two(b: Any, x: Any) -> Any:
    whole = b.fptosi(b.fsub(x, _each(0.5)), _INTS)  # to zero, so for x <= 0 to the nearest
    f = b.fsub(x, b.sitofp(whole, _FLOATS))
    p = _each(_EXP2[0])
    for coefficient in _EXP2[1:]:
        p = b.fadd(b.fmul(p, f, flags=_FUSED), _each(coefficient), flags=_FUSED)
    bits = b.shl(b.add(whole, _whole(127)), _whole(23))
    return b.fmul(p, b.bitcast(bits, _FLOATS))


def _magnitude(b: Any, x: Any) -> Any:
    return b.bitcast(b.and_(b.bitcast(x, _INTS), _whole(0x7FFFFFFF)), _FLOATS)


def _any_of(b: Any, mask: Any) -> Any:
    return b.icmp_unsigned("!=", b.bitcast(mask, ir.IntType(WIDTH)), ir.Constant(ir.IntType(16), 0))


def _halved(b: Any, x: Any, size: int) -> Any:
    """Its upper half added to its lower until ``size`` are left."""
    while x.type.count > size:
        half = x.type.count // 2
        kind = ir.VectorType(ir.IntType(32), half)
        low, high = (ir.Constant(kind, list(range(k, k + half))) for k in (0, half))
        spare = ir.Constant(x.type, ir.Undefined)
        x = b.fadd(b.shuffle_vector(x, spare, low), b.shuffle_vector(x, spare, high))
    return x


def _sum_of(b: Any, x: Any) -> Any:
    return b.extract_element(_halved(b, x, 1), ir.Constant(ir.IntType(32), 0))


exp2 = _vector_op(_lanes, (_lanes,), _power_of_two)
"""2^x for x in -126..0.5, relative error below 3e-7. Other lanes hold anything."""
magnitude = _vector_op(_lanes, (_lanes,), _magnitude)
some = _vector_op(types.boolean, (_mask,), _any_of)
"""Whether any lane of a mask is set."""
total = _vector_op(types.float32, (_lanes,), _sum_of)


@intrinsic  # type: ignore[untyped-decorator]
def fill(typing: Any, value: Any) -> Any:
    """All lanes ``value``."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        one = context.cast(builder, values[0], value, types.float32)
        first = ir.Constant(ir.IntType(32), 0)
        vector = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), one, first)
        return builder.shuffle_vector(vector, vector, _whole(0))

    return _lanes(value), code


@intrinsic  # type: ignore[untyped-decorator]
def count_up(typing: Any) -> Any:
    """0, 1, 2 ... 15."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return ir.Constant(_FLOATS, [ir.Constant(ir.FloatType(), k) for k in range(WIDTH)])

    return _lanes(), code


def _pointer(
    context: Any, builder: Any, kind: Any, array: Any, index: Any, to: Any = _FLOATS
) -> Any:
    data = cgutils.create_struct_proxy(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), to.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def load(typing: Any, array: Any, index: Any) -> Any:
    """Sixteen numbers of a flat float32 array from ``index`` on; not checked."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        index = context.cast(builder, values[1], signature.args[1], types.intp)
        return builder.load(
            _pointer(context, builder, signature.args[0], values[0], index), align=4
        )

    return _lanes(array, index), code


@intrinsic  # type: ignore[untyped-decorator]
def store_totals(typing: Any, array: Any, index: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """The sums of four to ``array[index : index + 4]``: cheaper than four times ``total``."""

    def fold(builder: Any, x: Any, y: Any, group: int) -> Any:
        """Sums of neighbouring groups of ``group`` lanes: now of ``x``, now of ``y``."""
        starts = range(0, WIDTH, 2 * group)
        low = [k + j + side for k in starts for side in (0, WIDTH) for j in range(group)]
        picks = [ir.Constant(_INTS, [k + high for k in low]) for high in (0, group)]
        return builder.fadd(*(builder.shuffle_vector(x, y, pick) for pick in picks))

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind, number, *_ = signature.args
        index = context.cast(builder, values[1], number, types.intp)
        _, _, a, b, c, d = values
        x, y = fold(builder, a, b, 1), fold(builder, c, d, 1)
        all_four = _halved(builder, fold(builder, x, y, 2), 4)
        to = _pointer(context, builder, kind, values[0], index, all_four.type)
        builder.store(all_four, to, align=4)
        return context.get_dummy_value()

    return types.none(array, index, a, b, c, d), code


@intrinsic  # type: ignore[untyped-decorator]
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """The reverse of ``load``."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        index = context.cast(builder, values[1], signature.args[1], types.intp)
        to = _pointer(context, builder, signature.args[0], values[0], index)
        builder.store(values[2], to, align=4)
        return context.get_dummy_value()

    return types.none(array, index, _lanes), code


def _operator(symbol: Any, on_lanes: Any) -> None:
    @overload(symbol)  # type: ignore[untyped-decorator]
    def choose(a, b):  # type: ignore[no-untyped-def]
        left, right = isinstance(a, LanesType), isinstance(b, LanesType)
        if left and right:
            return lambda a, b: on_lanes(a, b)
        if left and isinstance(b, types.Number):
            return lambda a, b: on_lanes(a, fill(b))
        if right and isinstance(a, types.Number):
            return lambda a, b: on_lanes(fill(a), b)
        return None


for _symbol, _on_lanes in (
    (operator.add, _add), (operator.sub, _sub), (operator.mul, _mul), (operator.truediv, _over),
    (operator.ge, _at_least), (operator.lt, _below),
):  # fmt: skip
    _operator(_symbol, _on_lanes)


@overload(operator.and_)  # type: ignore[untyped-decorator]
def _both(a, b):  # type: ignore[no-untyped-def]
    if isinstance(a, MaskType) and isinstance(b, MaskType):
        return lambda a, b: _and(a, b)
    return None


@overload(operator.or_)  # type: ignore[untyped-decorator]
def _either(a, b):  # type: ignore[no-untyped-def]
    if isinstance(a, MaskType) and isinstance(b, MaskType):
        return lambda a, b: _or(a, b)
    return None
