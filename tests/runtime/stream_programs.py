"""Random streaming programs, what they give by plain lists, and how they are run."""

from __future__ import annotations

import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

import hypothesis.strategies as st
import numpy as np

import darray.runtime as da
from tests.runtime.shared import Notes


class Boom(Exception):
    """The error of a stage that fails."""


def number(value):
    """An int for any value that a stage gives."""
    if isinstance(value, list | tuple):
        return sum((place + 1) * number(one) for place, one in enumerate(value)) % 1_000_003
    return int(np.sum(value)) if isinstance(value, np.ndarray) else int(value)


def busy(turns):
    """Take a little time."""
    for _ in range(turns):
        pass


@dataclass(frozen=True)
class Trigger:
    """What ends a stage when it is called with `row`."""

    row: tuple[int, ...]
    how: str
    value: int | None = None

    def act(self):
        if self.how == "raise":
            raise Boom(self.row)
        if self.value is None:
            da.finish_stream(result="finished")
        da.finish_stream(self.value, result="finished")


@dataclass(frozen=True)
class Step:
    """The function of a stage: of the same row it always gives the same."""

    add: int
    boxed: bool = False
    turns: int = 0
    trigger: Trigger | None = None

    def __call__(self, *row):
        busy(self.turns)
        row = tuple(map(number, row))
        if self.trigger is not None and self.trigger.row == row:
            self.trigger.act()
        value = (7 * number(row) + self.add) % 1_000_003
        return np.full(6, value) if self.boxed else value

    def copies(self, *row):
        value = self(*row)
        return [value] * (number(value) % 3)


def expanding(step):
    def expand(*row):
        yield from step.copies(*row)

    return expand


def asynchronous(step):
    async def step_async(*row):
        return step(*row)

    return step_async


def asynchronously_expanding(step):
    async def expand_async(*row):
        for one in step.copies(*row):
            yield one

    return expand_async


def late(turns, value):
    busy(turns)
    return value


def counted(count, turns):
    for one in range(count):
        yield late(turns, one)
    return "through"


async def counted_async(count):
    for one in range(count):
        yield one


class Counting:
    """A function that gives the numbers from 0."""

    def __init__(self, turns=0):
        self.next = 0
        self.turns = turns

    def __call__(self):
        busy(self.turns)
        self.next += 1
        return self.next - 1


@dataclass
class Node:
    """A stage of a program, and what it gives."""

    kind: str
    inputs: list[int]
    extra: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    step: Step | None = None
    buffers: list[Any] = field(default_factory=list)
    has_sink: bool = False
    # What the model says: the values, all of them if `exact`, in that order if `ordered`.
    values: list[Any] = field(default_factory=list, repr=False)
    exact: bool = True
    ordered: bool = True
    # Whether it fails: never, maybe, or surely.
    fails: str = "never"
    results: tuple[Any, ...] = (None,)
    # Nodes of the same rate give one value for each of the others; those of the same part hang
    # together.
    rate: int = 0
    part: int = 0

    def ends_early(self):
        """Whether it may end before its inputs have."""
        return (
            (self.kind in ("zip", "join") and len(self.inputs) > 1)
            or "max_evals" in self.options
            or (self.step is not None and self.step.trigger is not None)
            or self.fails != "never"
        )


@dataclass
class Program:
    nodes: list[Node]
    region: dict[str, Any]
    output: int | None

    def consumers(self, place):
        return [node for node in self.nodes if place in node.inputs]


SOURCES = ("iterator", "function", "generator", "async generator", "endless")
ELEMENTWISE = ("zip", "generator", "async", "async generator", "parallel", "merge")
POSITIONAL = ("window", "batch")


def buffers():
    return st.one_of(st.none(), st.integers(1, 8), st.just("100B"))


@st.composite
def programs(draw, workers=1, may_fail=True):
    nodes = [draw(sources(place)) for place in range(draw(st.integers(1, 3)))]
    for place in range(len(nodes), len(nodes) + draw(st.integers(0, 6))):
        nodes.append(draw(stages(nodes, place, may_fail)))
    for node in nodes:
        node.buffers = [draw(buffers()) for _ in node.inputs]
        if node.kind not in POSITIONAL and draw(st.integers(0, 3)) == 0:
            node.options["scope"] = draw(st.integers(0, workers - 1))
    # Without it an endless source goes on for ever.
    teardown = any(node.kind == "endless" for node in nodes) or draw(st.booleans())
    region = {"teardown": teardown, "buffer": draw(buffers())}
    program = Program(nodes, region, None)
    leaves = [place for place in range(len(nodes)) if not program.consumers(place)]
    if draw(st.booleans()):
        program.output = draw(st.sampled_from(leaves))
    for place, node in enumerate(nodes):
        node.has_sink = (place in leaves and place != program.output) or draw(
            st.integers(0, 4)
        ) == 0
    settle(program)
    return program


@st.composite
def sources(draw, place):
    kind = draw(st.sampled_from(SOURCES))
    count = draw(st.sampled_from([0, 1, 2, 5, 12, 40, 150]))
    # What a dear source gives comes alone.
    turns = draw(st.sampled_from([0, 0, 10_000])) if count <= 40 else 0
    node = Node(kind, [], {"count": count, "turns": turns}, rate=place, part=place)
    node.values = list(range(count))
    if kind == "function":
        node.extra["count"] = count = max(1, count)
        node.values = list(range(count))
        node.options["max_evals"] = count
    if kind == "endless":
        # Of an endless source a second task, counted as one with it, takes some values.
        node.extra["count"] = count = max(1, count)
        node.values = list(range(count))
    if kind == "generator":
        node.results = ("through",)
    return node


@st.composite
def stages(draw, nodes, place, may_fail):
    first = draw(st.integers(0, len(nodes) - 1))
    kinds = ELEMENTWISE + ((*POSITIONAL, "join") if nodes[first].ordered else ())
    kind = draw(st.sampled_from(kinds))
    node = Node(kind, [first], ordered=nodes[first].ordered, part=nodes[first].part)
    if kind in ("merge", "join"):
        others = draw(st.lists(st.integers(0, len(nodes) - 1), max_size=2))
        # Of a key the first goes with the first.
        node.inputs += [one for one in others if kind == "merge" or nodes[one].ordered]
        node.ordered = node.ordered and len(node.inputs) == 1 and kind == "merge"
    elif kind == "zip" or kind == "parallel":
        node.inputs += [
            other
            for other in draw(st.lists(st.integers(0, len(nodes) - 1), max_size=2))
            if goes_with(nodes, first, other)
        ]
        parts = [nodes[one].part for one in node.inputs]
        if len(set(parts)) < len({nodes[one].rate for one in node.inputs}):
            # Two that hang together would be taken at different rates.
            node.inputs = [first]
    unite(nodes, node)
    rates = {nodes[one].rate for one in node.inputs}
    is_even = kind in ("zip", "async", "parallel") and len(rates) == 1
    node.rate = rates.pop() if is_even else place
    if kind in POSITIONAL:
        node.extra = {"size": draw(st.integers(1, 5)), "step": draw(st.integers(1, 7))}
    elif kind not in ("merge", "join"):
        node.step = Step(
            place, draw(st.integers(0, 3)) == 0, draw(st.sampled_from([0, 0, 0, 30, 3000]))
        )
        if kind == "parallel":
            node.options["parallel"] = draw(st.integers(2, 4))
        draw(ends(nodes, node, may_fail))
    node.exact = all(nodes[one].exact and nodes[one].fails == "never" for one in node.inputs)
    compute(nodes, node)
    return node


def goes_with(nodes, first, other):
    """Whether a stage may take one value of each of the two at a time."""
    a, b = nodes[first], nodes[other]
    return a.ordered and b.ordered and (a.rate == b.rate or a.part != b.part)


def unite(nodes, node):
    """Note that the inputs of `node` hang together from now on."""
    parts = {nodes[one].part for one in node.inputs}
    node.part = min(parts)
    for one in nodes:
        if one.part in parts:
            one.part = node.part


@st.composite
def ends(draw, nodes, node, may_fail):
    """Let the stage end early, sometimes."""
    how = draw(st.sampled_from(["", "", "", "finish", "raise", "evals"]))
    table = rows(nodes, node)
    if not node.ordered or not table or how == "":
        return
    at = draw(st.integers(0, len(table) - 1))
    if how == "evals":
        node.options["max_evals"] = at + 1
        return
    if how == "raise" and not may_fail:
        return
    value = draw(st.one_of(st.none(), st.just(-1))) if how == "finish" else None
    trigger = Trigger(tuple(map(number, table[at])), how, value)
    node.step = Step(node.step.add, node.step.boxed, node.step.turns, trigger)


def rows(nodes, node):
    return list(zip(*[nodes[one].values for one in node.inputs], strict=False))


def compute(nodes, node):
    """Say what the stage gives."""
    if node.kind == "merge":
        node.values = [value for one in node.inputs for value in nodes[one].values]
    elif node.kind == "join":
        node.values = joined([nodes[one].values for one in node.inputs])
    elif node.kind == "window":
        node.values = windows(nodes[node.inputs[0]].values, node.extra["size"], node.extra["step"])
    elif node.kind == "batch":
        node.values = windows(nodes[node.inputs[0]].values, node.extra["size"], node.extra["size"])
    else:
        compute_calls(nodes, node)


def compute_calls(nodes, node):
    step = node.step
    quiet = Step(step.add, step.boxed)
    for row in rows(nodes, node)[: node.options.get("max_evals")]:
        trigger = step.trigger
        if trigger is not None and trigger.row == tuple(map(number, row)):
            if trigger.how == "raise":
                node.fails = "surely"
            else:
                # An async generator cannot say what its result is but by finish_stream either.
                node.results = ("finished",)
                node.values += [] if trigger.value is None else [trigger.value]
            return
        if "generator" in node.kind:
            node.values += quiet.copies(*row)
        else:
            node.values.append(quiet(*row))


def joined(lists):
    """One of each list of the same key, the first with the first and so on."""
    keyed = [{} for _ in lists]
    for values, one in zip(lists, keyed, strict=True):
        for value in values:
            one.setdefault(key_of(value), []).append(value)
    return [
        row
        for key in keyed[0]
        if all(key in one for one in keyed)
        for row in zip(*[one[key] for one in keyed], strict=False)
    ]


def key_of(value):
    return number(value) % 5


def windows(values, size, step):
    given = []
    covered = 0
    for start in range(0, len(values), step):
        if start + size > len(values):
            if covered < len(values):
                given.append(values[start:])
            break
        given.append(values[start : start + size])
        covered = start + size
    return given


def settle(program):
    """Say of each node whether it fails, and what its result is, given who takes its values."""
    nodes = program.nodes
    for node in nodes:
        if any(nodes[one].fails != "never" for one in node.inputs):
            sure = all(nodes[one].fails != "maybe" for one in node.inputs)
            ends_by_itself = node.ends_early()
            node.fails = "surely" if sure and not ends_by_itself else "maybe"
            node.exact = False
        elif not node.exact:
            node.exact = all(nodes[one].exact for one in node.inputs)
    for place in reversed(range(len(nodes))):
        node = nodes[place]
        is_taken = node.has_sink or place == program.output
        if program.region["teardown"] and not is_taken:
            consumers = program.consumers(place)
            if all(one.ends_early() or one.extra.get("is_cut") for one in consumers):
                node.extra["is_cut"] = True
    for node in nodes:
        if node.extra.get("is_cut"):
            node.results = (*node.results, None)
            node.fails = "never" if node.fails == "never" else "maybe"
        if any(nodes[one].fails == "maybe" for one in node.inputs):
            node.fails = "maybe"
        if node.fails == "maybe" or any(nodes[one].fails != "never" for one in node.inputs):
            node.results = (*node.results, None)


# Running


class Running:
    """A program at work."""

    def __init__(self, program):
        self.program = program
        self.tasks = []
        self.sinks = {}
        self.notes = {}
        self.helpers = []
        region = program.region
        with da.spawn_streaming(teardown=region["teardown"], buffer=region["buffer"]) as s:
            for place, node in enumerate(program.nodes):
                task = self.spawned(node)
                self.tasks.append(task)
                if node.has_sink:
                    self.notes[place] = Notes()
                    self.sinks[place] = da.spawn(note, self.notes[place], task)
            if program.output is not None:
                self.output = s.output(self.tasks[program.output], buffer=2)
        self.region = s

    def spawned(self, node):
        options = dict(node.options)
        if "scope" in options:
            options["scope"] = da.scope(worker=options["scope"])
        spawn = da.spawn.options(**options)
        if not node.inputs:
            return self.source(node, spawn)
        streams = []
        for one, buffer in zip(node.inputs, node.buffers, strict=True):
            task = self.tasks[one]
            streams.append(task if buffer is None else da.buffered(task, buffer))
        if node.kind == "merge":
            return da.merge(*streams)
        if node.kind == "join":
            return da.join(*streams, key=key_of)
        if node.kind == "window":
            return da.window(streams[0], node.extra["size"], node.extra["step"])
        if node.kind == "batch":
            return da.batch(streams[0], node.extra["size"])
        made = {
            "generator": expanding, "async": asynchronous,
            "async generator": asynchronously_expanding,
        }.get(node.kind, lambda step: step)(node.step)  # fmt: skip
        return spawn(made, *streams)

    def source(self, node, spawn):
        count, turns = node.extra["count"], node.extra["turns"]
        if node.kind == "iterator":
            return spawn(map(partial(late, turns), range(count)))
        if node.kind == "function":
            return spawn(Counting(turns))
        if node.kind == "generator":
            return spawn(counted, count, turns)
        if node.kind == "async generator":
            return spawn(counted_async, count)
        endless = spawn(Counting(turns))
        self.helpers.append(endless)
        if count % 2:
            return da.spawn.options(max_evals=count)(same, endless)
        return da.spawn(Until(count - 1), endless)

    def check_engine(self, engine):
        """Nothing is left of it."""
        while unfinished := engine.unfinished():
            assert engine.wait(unfinished, 30), unfinished
        stages = [task._stage for task in self.region.tasks]
        for stage in stages:
            assert stage.is_over
            lane = stage.lane
            for one in (lane, lane._shared):
                if one is not None:
                    # The thread of one that was abandoned in a call comes back from it at last.
                    until(lambda one=one: (one._drivers, one._helpers) == (0, 0))
                    one._check()
        for edge in self.region._edges:
            edge._check()
            assert edge.is_ended or edge.is_left
            assert not edge.items
            assert edge.sent == edge.received + edge.dropped


def until(holds):
    """Look, for up to 30 seconds, until something holds."""
    deadline = monotonic() + 30
    while not holds():
        assert monotonic() < deadline
        os.sched_yield()


def note(notes, value):
    notes.append(value)


def same(value):
    return value


@dataclass(frozen=True)
class Until:
    last: int

    def __call__(self, value):
        if value == self.last:
            return da.finish_stream(value)
        return value


def key(value):
    """What stands for a value in a comparison."""
    if isinstance(value, list | tuple):
        return (type(value).__name__, *map(key, value))
    return ("array", *value.tolist()) if isinstance(value, np.ndarray) else value


def compare(node, values):
    """Check the values that came from `node` against the model."""
    got, expected = list(map(key, values)), list(map(key, node.values))
    if node.kind == "join" or not node.ordered:
        got, expected = Counter(got), Counter(expected)
        assert got <= expected
        if node.exact:
            assert got == expected
    elif node.exact:
        assert got == expected
    else:
        assert got == expected[: len(got)]


def taken(output):
    """The values of an output, and the error after them."""
    values = []
    try:
        for value in output:
            values.append(value)
    except (Boom, da.CancelledError) as error:
        return values, error
    return values, None


def cancelled_meanwhile(running, place):
    """Cancel a task of the program, or all, in another thread."""
    target = running.region if place is None else running.tasks[place]
    thread = threading.Thread(target=target.cancel)
    thread.start()
    return thread
