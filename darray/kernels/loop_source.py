"""Source of compiled loops: several operations of elements as one loop, in LLVM's language."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct

from darray.kernels.compiled_groups import ROW
from darray.kernels.loop_operations import (
    FLAGGING,
    KEEPS_BITS,
    OPERATIONS,
    Lines,
    converted,
    machine_type,
    select,
)

__all__ = ["BLOCK", "Loop", "Step", "loop_data", "source"]

# Elements that are computed at a time: what lies strided in memory is first laid in line, and
# results are written where they belong when all operands were read, so that a result may lie on
# an operand. Measured: 256 is as fast as any, and a page of each array is what the stack holds.
BLOCK = 256

# For 32 and 64 bits the sign bit, and all but it.
_MASKS = (
    np.array([1 << 31, (1 << 31) - 1], np.uint32).tobytes()
    + np.array([1 << 63, (1 << 63) - 1], np.uint64).tobytes()
)

# Bytes of a vector that goes past the caches, and what it must be aligned to: a line of a cache,
# since memory is written by lines, and part of one would have to be read first.
_LINE = 64

# What is shorter than so many blocks goes through the caches whatever is asked for.
_LEAST_BLOCKS = 4

DType: TypeAlias = np.dtype[Any]


class Step(Struct, frozen=True):
    """One operation of a loop.

    Attributes
    ----------
    function : ufunc or other function
        A ufunc of `OPERATIONS`, `np.where`, or `darray.kernels.cpu.cast`; or `np.power`, whose
        exponent is a constant and 2: then NumPy multiplies.
    operands : tuple of int
        Input k of the loop as k, the result of step k as ~k.
    loop_dtypes : tuple of numpy.dtype
        What the operands are brought to first.
    dtype : numpy.dtype
        That of the result.
    """

    function: Callable[..., Any]
    operands: tuple[int, ...]
    loop_dtypes: tuple[DType, ...]
    dtype: DType


class Loop(Struct, frozen=True):
    """Operations on elements of some inputs; the last one's results are what the loop gives.

    Attributes
    ----------
    dtypes : tuple of numpy.dtype
        Those of the inputs.
    constants : frozenset of int
        Inputs of which there is one value only.
    sums : bool
        Whether it gives, instead, the sums of rows of `ROW` results, which are real numbers:
        what ``numpy.add.reduce`` makes of each row.
    """

    dtypes: tuple[DType, ...]
    constants: frozenset[int]
    steps: tuple[Step, ...]
    sums: bool = False


def loop_data(streams: bool) -> bytes:
    """What a loop's last argument points to: masks of bits, and whether it `streams`.

    Then it writes past the caches what lies in line, whole lines of the cache at a time: what is
    not read again soon leaves there what is, and is not read before it is overwritten, a quarter of
    what ``x + y`` moves otherwise.

    Examples
    --------
    >>> loop_data(streams=False) == loop_data(streams=True)
    False
    """
    return _MASKS + int(streams).to_bytes(8, sys.byteorder)


def source(loop: Loop) -> str:
    """The module of `loop` in LLVM's language, with one function ``fused``: a loop of a ufunc.

    One that adds is a loop of a generalised ufunc over rows, whose elements are as far apart as
    the last of one row and the first of the next.

    Examples
    --------
    >>> double = np.dtype(float)
    >>> text = source(Loop((double,), frozenset(), (Step(np.sqrt, (0,), (double,), double),)))
    >>> "call double @llvm.sqrt.f64(double %v" in text
    True
    """
    entry, fetched, body, names = _reading(loop)
    found = _computing(loop, body, names)
    witnesses = _witnesses(loop, body, found)
    result = loop.steps[-1].dtype
    last = found[-1]
    if result.kind == "b":
        last = body.add(f"zext i1 {last} to i8")
    kind = _memory_type(result)
    size = result.itemsize
    count = len(loop.dtypes)
    begun = "".join([f"  {w}.sum = phi {t} [ 0, %block ], [ {w}, %body ]\n" for w, t in witnesses])
    # Nothing else can see this memory, but LLVM must not know.
    noted = "".join([f"  store volatile {t} {w}, ptr %sink\n" for w, t in witnesses])
    if loop.sums:
        written, writing = _summed(kind), _adding(kind)
    else:
        written = (
            f"  call void @scatter{size}"
            "(ptr %out, i64 %out.step, i64 %start, i64 %m, ptr %out.buffer, i64 %streams)\n"
            "  br label %written"
        )
        writing = _scattering(size)
    return f"""
define void @fused(ptr noalias %args, ptr noalias %dims, ptr noalias %steps, ptr noalias %masks) {{
entry:
  %count = load i64, ptr %dims
  %n = mul nsw i64 %count, {ROW if loop.sums else 1}
  %sink = alloca i64
  %sums = alloca [{ROW // BLOCK} x {kind}]
  %out.buffer = alloca [{BLOCK} x {kind}], align 64
  %out.args = getelementptr ptr, ptr %args, i64 {count}
  %out = load ptr, ptr %out.args
  %out.steps = getelementptr i64, ptr %steps, i64 {count}
  %out.step = load i64, ptr %out.steps
{_MASK_LINES}{entry}
{_streaming(size, loop.sums)}
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %block, label %end
block:
  %start = phi i64 [ 0, %entry ], [ %next, %written ]
  %most = phi i64 [ %first, %entry ], [ {BLOCK}, %written ]
  %left = sub i64 %n, %start
  %is.last = icmp slt i64 %left, %most
  %m = select i1 %is.last, i64 %left, i64 %most
{fetched}
  br label %body
body:
  %i = phi i64 [ 0, %block ], [ %i.next, %body ]
{begun}{chr(10).join(body.text)}
  %place = getelementptr {kind}, ptr %out.buffer, i64 %i
  store {kind} {last}, ptr %place
  %i.next = add nuw nsw i64 %i, 1
  %more = icmp ult i64 %i.next, %m
  br i1 %more, label %body, label %computed
computed:
{noted}{written}
written:
  %next = add i64 %start, %m
  %again = icmp slt i64 %next, %n
  br i1 %again, label %block, label %end
{_END_LINES}
{_gathering({one.itemsize for one in loop.dtypes})}{writing}{_DECLARED}"""


def _memory_type(dtype: DType) -> str:
    return "i8" if dtype.kind == "b" else machine_type(dtype)


def _reading(loop: Loop) -> tuple[str, str, Lines, list[str]]:
    """Lines before the loop, before each block, and in it, that read inputs; the values."""
    entry, fetched, body = [], [], Lines()
    names = []
    # Where rows are added, the steps within a row follow those from row to row.
    first = len(loop.dtypes) + 1 if loop.sums else 0
    arrays = [k for k in range(len(loop.dtypes)) if k not in loop.constants]
    place_of_step = {k: first + at if loop.sums else k for at, k in enumerate(arrays)}
    for k, dtype in enumerate(loop.dtypes):
        kind = _memory_type(dtype)
        entry.append(f"  %in{k}.args = getelementptr ptr, ptr %args, i64 {k}")
        entry.append(f"  %in{k} = load ptr, ptr %in{k}.args")
        if k in loop.constants:
            entry.append(f"  %in{k}.value = load {kind}, ptr %in{k}")
            value = f"%in{k}.value"
        else:
            step = place_of_step[k]
            entry.append(f"  %in{k}.steps = getelementptr i64, ptr %steps, i64 {step}")
            entry.append(f"  %in{k}.step = load i64, ptr %in{k}.steps")
            entry.append(f"  %in{k}.buffer = alloca [{BLOCK} x {kind}], align 64")
            fetched.append(
                f"  %in{k}.line = call ptr @gather{dtype.itemsize}"
                f"(ptr %in{k}, i64 %in{k}.step, i64 %start, i64 %m, ptr %in{k}.buffer)"
            )
            place = body.add(f"getelementptr {kind}, ptr %in{k}.line, i64 %i")
            value = body.add(f"load {kind}, ptr {place}")
        names.append(body.add(f"icmp ne i8 {value}, 0") if dtype.kind == "b" else value)
    return "\n".join(entry), "\n".join(fetched), body, names


def _computing(loop: Loop, body: Lines, names: list[str]) -> list[str]:
    """Add the operations; the names of their results."""
    found: list[str] = []
    brought: dict[tuple[int, DType], str] = {}
    for step in loop.steps:
        values = []
        for operand, wanted in zip(step.operands, step.loop_dtypes, strict=True):
            given = loop.dtypes[operand] if operand >= 0 else loop.steps[~operand].dtype
            if (operand, wanted) not in brought:
                value = names[operand] if operand >= 0 else found[~operand]
                brought[operand, wanted] = converted(body, given, wanted, value)
            values.append(brought[operand, wanted])
        if step.function is np.where:
            found.append(select(body, step.dtype, *values))
        elif step.function is np.power:
            found.append(OPERATIONS[np.square](body, step.dtype, values[0]))
        elif isinstance(step.function, np.ufunc):
            found.append(OPERATIONS[step.function](body, step.loop_dtypes[0], *values))
        else:
            (value,) = values
            found.append(value)
    return found


def _witnesses(loop: Loop, body: Lines, found: list[str]) -> list[tuple[str, str]]:
    """Add what reads every bit of results that may raise errors and be chosen away then."""
    chosen_away: set[int] = set()
    for step in loop.steps:
        if step.function not in KEEPS_BITS:
            chosen_away.update(step.operands)
    sums: dict[int, str] = {}
    for place, step in enumerate(loop.steps):
        if ~place not in chosen_away or step.dtype.kind != "f" or not _raises(loop, step):
            continue
        size = 8 * step.dtype.itemsize
        bits = body.add(f"bitcast {machine_type(step.dtype)} {found[place]} to i{size}")
        sums[size] = body.add(f"or i{size} {sums.get(size, f'%witness{size}.sum')}, {bits}")
    for size, total in sums.items():
        body.text.append(f"  %witness{size} = or i{size} {total}, {total}")
    return [(f"%witness{size}", f"i{size}") for size in sums]


def _raises(loop: Loop, step: Step) -> bool:
    """Whether `step` may raise floating-point errors, other than in casts of its operands."""
    if step.function in FLAGGING:
        return True
    return not isinstance(step.function, np.ufunc) and step.function is not np.where


_MASK_LINES = "".join(
    [
        f"""  %{name}{bits}.place = getelementptr i8, ptr %masks, i64 {offset}
  %{name}{bits} = load i{bits}, ptr %{name}{bits}.place
"""
        for name, bits, offset in (
            ("sign", 32, 0),
            ("magnitude", 32, 4),
            ("sign", 64, 8),
            ("magnitude", 64, 16),
        )
    ]
)

# What went past the caches may arrive later than what this thread writes next.
_END_LINES = """end:
  %is.streaming = icmp ne i64 %streams, 0
  br i1 %is.streaming, label %streamed, label %done
streamed:
  fence seq_cst
  br label %done
done:
  ret void
}"""

_DECLARED = "".join(
    [
        f"declare {kind} @llvm.{name}.{suffix}({kind})\n"
        for name in ("sqrt", "floor", "ceil", "trunc", "rint")
        for kind, suffix in (("float", "f32"), ("double", "f64"))
    ]
) + (
    """declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
!0 = distinct !{!0, !1, !2}
!1 = !{!"llvm.loop.vectorize.enable", i1 false}
!2 = !{!"llvm.loop.unroll.disable"}
!3 = !{i32 1}
"""
)


def _gathering(sizes: set[int]) -> str:
    """Functions that lay a block of elements in line, or find that it lies so.

    One element that stands for all is written as often as a block may have elements, once: the
    first block may be a short one.
    """
    return "".join(
        [
            f"""
define internal ptr @gather{size}(ptr %from, i64 %step, i64 %start, i64 %m, ptr %to) noinline {{
entry:
  %offset = mul i64 %start, %step
  %at = getelementptr i8, ptr %from, i64 %offset
  switch i64 %step, label %loop [ i64 {size}, label %in.line
                                  i64 0, label %same ]
in.line:
  ret ptr %at
same:
  %filled = icmp ne i64 %start, 0
  br i1 %filled, label %end, label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ 0, %same ], [ %i.next, %loop ]
  %until = phi i64 [ %m, %entry ], [ {BLOCK}, %same ], [ %until, %loop ]
  %there = mul i64 %i, %step
  %read = getelementptr i8, ptr %at, i64 %there
  %value = load i{8 * size}, ptr %read
  %written = getelementptr i{8 * size}, ptr %to, i64 %i
  store i{8 * size} %value, ptr %written
  %i.next = add nuw nsw i64 %i, 1
  %more = icmp ult i64 %i.next, %until
  br i1 %more, label %loop, label %end, !llvm.loop !0
end:
  ret ptr %to
}}
"""
            for size in sorted(sizes)
        ]
    )


def _streaming(size: int, sums: bool) -> str:
    """Lines that find whether results go past the caches, and how many the first block has.

    They do where they are asked to, lie in line, and are some blocks: a fence costs as much as one.
    The first block ends where the first whole line begins then.
    """
    if sums:
        return f"  %streams = add i64 0, 0\n  %first = add i64 0, {BLOCK}"
    return f"""  %asked.place = getelementptr i8, ptr %masks, i64 {len(_MASKS)}
  %asked = load i64, ptr %asked.place
  %out.is.line = icmp eq i64 %out.step, {size}
  %are.many = icmp sge i64 %n, {_LEAST_BLOCKS * BLOCK}
  %may.stream = and i1 %out.is.line, %are.many
  %streams = select i1 %may.stream, i64 %asked, i64 0
  %out.address = ptrtoint ptr %out to i64
  %out.missing = sub i64 0, %out.address
  %out.before = and i64 %out.missing, {_LINE - 1}
  %leading = udiv i64 %out.before, {size}
  %has.leading = icmp ne i64 %leading, 0
  %does.stream = icmp ne i64 %streams, 0
  %is.led = and i1 %has.leading, %does.stream
  %first = select i1 %is.led, i64 %leading, i64 {BLOCK}"""


def _scattering(size: int) -> str:
    """A function that brings a block of results to where it belongs, perhaps past the caches."""
    return f"""
define internal void @scatter{size}
(ptr %into, i64 %step, i64 %start, i64 %m, ptr %from, i64 %streams) noinline {{
entry:
  %offset = mul i64 %start, %step
  %at = getelementptr i8, ptr %into, i64 %offset
  %is.line = icmp eq i64 %step, {size}
  br i1 %is.line, label %in.line, label %loop
in.line:
  %nbytes = mul i64 %m, {size}
  %is.streaming = icmp ne i64 %streams, 0
  %address = ptrtoint ptr %at to i64
  %beyond = or i64 %address, %nbytes
  %odd = and i64 %beyond, {_LINE - 1}
  %is.whole = icmp eq i64 %odd, 0
  %is.past = and i1 %is.streaming, %is.whole
  br i1 %is.past, label %past, label %through
past:
  %done = phi i64 [ 0, %in.line ], [ %done.next, %past ]
  %part = getelementptr i8, ptr %from, i64 %done
  %line = load <{_LINE} x i8>, ptr %part, align {_LINE}
  %target = getelementptr i8, ptr %at, i64 %done
  store <{_LINE} x i8> %line, ptr %target, align {_LINE}, !nontemporal !3
  %done.next = add nuw nsw i64 %done, {_LINE}
  %is.more = icmp ult i64 %done.next, %nbytes
  br i1 %is.more, label %past, label %end, !llvm.loop !0
through:
  call void @llvm.memcpy.p0.p0.i64(ptr %at, ptr %from, i64 %nbytes, i1 false)
  ret void
loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %loop ]
  %there = mul i64 %i, %step
  %written = getelementptr i8, ptr %at, i64 %there
  %read = getelementptr i{8 * size}, ptr %from, i64 %i
  %value = load i{8 * size}, ptr %read
  store i{8 * size} %value, ptr %written
  %i.next = add nuw nsw i64 %i, 1
  %more = icmp ult i64 %i.next, %m
  br i1 %more, label %loop, label %end, !llvm.loop !0
end:
  ret void
}}
"""


def _summed(kind: str) -> str:
    """Lines that add a block of results, and write what a row comes to after its last block."""
    blocks = ROW // BLOCK
    parts = [f"  %part{i} = load {kind}, ptr %part{i}.place\n" for i in range(blocks)]
    places = [
        f"  %part{i}.place = getelementptr {kind}, ptr %sums, i64 {i}\n" for i in range(blocks)
    ]
    return f"""  %added = call {kind} @add(ptr %out.buffer)
  %number = udiv i64 %start, {BLOCK}
  %at = urem i64 %number, {blocks}
  %added.place = getelementptr {kind}, ptr %sums, i64 %at
  store {kind} %added, ptr %added.place
  %is.row = icmp eq i64 %at, {blocks - 1}
  br i1 %is.row, label %row, label %written
row:
{"".join(places)}{"".join(parts)}{_pairwise(kind, [f"%part{i}" for i in range(blocks)], "%whole")}
  %from.zero = fadd {kind} %whole, 0.0
  %row.number = udiv i64 %start, {ROW}
  %row.offset = mul i64 %row.number, %out.step
  %row.place = getelementptr i8, ptr %out, i64 %row.offset
  store {kind} %from.zero, ptr %row.place
  br label %written"""


def _adding(kind: str) -> str:
    """A function that adds a block: by halves of 128 elements, each in eight sums."""
    lines = []
    for half in range(BLOCK // 128):
        total = ""
        for i in range(0, 128, 8):
            name = f"%h{half}.{i}"
            lines.append(f"  {name}.place = getelementptr {kind}, ptr %from, i64 {128 * half + i}")
            lines.append(f"  {name}.read = load <8 x {kind}>, ptr {name}.place, align 64")
            if total:
                lines.append(f"  {name} = fadd <8 x {kind}> {total}, {name}.read")
            total = name if total else f"{name}.read"
        for i in range(8):
            lines.append(f"  %h{half}.sum{i} = extractelement <8 x {kind}> {total}, i32 {i}")
        lines.append(_pairwise(kind, [f"%h{half}.sum{i}" for i in range(8)], f"%h{half}.whole"))
    lines.append(_pairwise(kind, [f"%h{half}.whole" for half in range(BLOCK // 128)], "%block"))
    body = "\n".join(lines)
    return f"""
define internal {kind} @add(ptr %from) noinline {{
entry:
{body}
  ret {kind} %block
}}
"""


def _pairwise(kind: str, names: list[str], result: str) -> str:
    """Lines that add neighbours, then their sums, until one is left, which is called `result`."""
    lines = []
    level = 0
    while len(names) > 1:
        above = [f"{result}.{level}.{i}" for i in range(len(names) // 2)]
        if len(above) == 1:
            above = [result]
        for i, name in enumerate(above):
            lines.append(f"  {name} = fadd {kind} {names[2 * i]}, {names[2 * i + 1]}")
        names = above
        level += 1
    return "\n".join(lines)
